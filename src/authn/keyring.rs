//! The keys that open the gateway, in memory, in front of the store.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU32;
use std::sync::Arc;

use arc_swap::ArcSwap;
use governor::clock::Clock as _;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::keyed::DefaultKeyedStateStore;
use governor::{Quota, RateLimiter};
use ring::hmac;
use subtle::ConstantTimeEq;

use super::credential::{Credential, NewKey, NotAdmitted, NotCreated};
use super::grants::Grants;
use super::secret_key::{PREFIX, SecretKey};
use super::tokens::is_token;
use super::uses::Uses;
use crate::config::Profiles;
use crate::domain::clock::{Clock, Moment, Ticking};
use crate::domain::id::KeyId;
use crate::domain::net::network;
use crate::domain::principal::{Principal, Profile};
use crate::domain::secret::Secret;
use crate::store::{KeyRecord, Store, StoreError};

/// Wrong credentials that one source may send in a minute before it has to wait.
const WRONG_PER_MINUTE: u32 = 20;
/// Sources that are remembered at most.
const MAX_SOURCES: usize = 10_000;
/// Where the store keeps that the first keys were made.
const META: &str = "gateway";
const FIRST_START: &str = "first_start";
/// The id of the key that `TOOLGATE_ADMIN_KEY` sets.
const ADMIN_ID: &str = "key_admin";
/// The role that the admin key and the local command line hold.
const ADMIN_ROLE: &str = "writer";

/// Counts wrong credentials by their source.
type Wrong = RateLimiter<IpAddr, DefaultKeyedStateStore<IpAddr>, Ticking, NoOpMiddleware<Nanos>>;

/// All keys by the keyed hash of their text.
pub struct Keyring {
    pepper: hmac::Key,
    pub(super) keys: ArcSwap<HashMap<[u8; 32], Arc<KeyRecord>>>,
    admin: Option<Admin>,
    /// The tokens that keys were exchanged for.
    pub(super) grants: Grants,
    wrong: Wrong,
    pub(super) uses: Uses,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) store: Store,
}

/// The admin key that the environment sets.
struct Admin {
    secret: Secret,
    hash: [u8; 32],
    principal: Principal,
}

impl std::fmt::Debug for Keyring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keyring").field("keys", &self.keys.load().len()).finish_non_exhaustive()
    }
}

impl Keyring {
    /// Loads the keys of the store. `admin` is the key that the environment sets.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub async fn load(store: Store, clock: Arc<dyn Clock>, admin: Option<Secret>) -> Result<Self, StoreError> {
        let pepper = hmac::Key::new(hmac::HMAC_SHA256, store.secret("pepper")?.as_ref());
        let keys: HashMap<_, _> =
            store.keys().await?.into_iter().map(|record| (record.hash, Arc::new(record))).collect();
        let admin =
            admin.map(|secret| Admin { hash: hash(&pepper, secret.expose()), secret, principal: local_owner() });
        let grants = Grants::of(store.grants().await?);
        let quota = Quota::per_minute(NonZeroU32::new(WRONG_PER_MINUTE).unwrap_or(NonZeroU32::MIN));
        Ok(Self {
            pepper,
            keys: ArcSwap::from_pointee(keys),
            admin,
            grants,
            wrong: RateLimiter::new(quota, DefaultKeyedStateStore::default(), Ticking(Arc::clone(&clock))),
            uses: Uses::default(),
            clock,
            store,
        })
    }

    /// Whether the environment sets the admin key.
    #[must_use]
    pub fn has_fixed_admin(&self) -> bool {
        self.admin.is_some()
    }

    /// Whether no gateway on this store has made its first keys yet.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub async fn is_first_start(&self) -> Result<bool, StoreError> {
        Ok(self.store.fetch(META, FIRST_START).await?.is_none())
    }

    /// Notes that the first keys were made.
    ///
    /// # Errors
    /// Where the store cannot be written.
    pub async fn has_started(&self) -> Result<(), StoreError> {
        let now = self.clock.now().rfc3339();
        self.store.put(META, FIRST_START, now.into_bytes().into()).await
    }

    /// Says who holds this credential, right now.
    ///
    /// # Errors
    /// Why nobody does. `source` is throttled for wrong credentials, never for missing ones, and never a valid key.
    pub fn admit(
        &self,
        credential: &Credential,
        profiles: &Profiles,
        source: Option<IpAddr>,
    ) -> Result<Principal, NotAdmitted> {
        let result = match credential {
            Credential::Missing => return Err(NotAdmitted::Missing),
            Credential::Disagree => Err(NotAdmitted::Disagree),
            Credential::Malformed => Err(NotAdmitted::Malformed),
            Credential::Key(secret) => self.holder(secret.expose(), profiles),
        };
        match result {
            Err(NotAdmitted::Unexpanded(_)) | Ok(_) => result,
            Err(why) => Err(self.wrong(why, source)),
        }
    }

    /// Counts a wrong credential against its source: the same answer, or that the source has to wait.
    #[must_use]
    pub fn wrong(&self, why: NotAdmitted, source: Option<IpAddr>) -> NotAdmitted {
        self.throttled(source).unwrap_or(why)
    }

    fn holder(&self, text: &str, profiles: &Profiles) -> Result<Principal, NotAdmitted> {
        if let Some(admin) = self.admin.as_ref().filter(|admin| admin.is(text)) {
            return self.of_hash(&admin.hash, profiles);
        }
        if is_token(text) {
            return self.bearer(text, profiles);
        }
        if text.contains("${") || text.starts_with('$') {
            return Err(NotAdmitted::Unexpanded(text.chars().filter(|c| !c.is_control()).take(60).collect()));
        }
        let fault = if text.starts_with(PREFIX) { NotAdmitted::Mistyped } else { NotAdmitted::Malformed };
        let key = SecretKey::parse(text).ok_or(fault)?;
        self.of_hash(&self.hash(key.expose()), profiles)
    }

    /// Whoever holds the key with this hash, if it may be used now.
    pub(super) fn of_hash(&self, hash: &[u8; 32], profiles: &Profiles) -> Result<Principal, NotAdmitted> {
        if let Some(admin) = self.admin.as_ref().filter(|admin| bool::from(admin.hash.ct_eq(hash))) {
            let profile = profiles.get("admin").cloned();
            return profile
                .map(|profile| Principal { profile, ..admin.principal.clone() })
                .ok_or_else(|| NotAdmitted::NoProfile("admin".into()));
        }
        let keys = self.keys.load();
        let record = keys.get(hash).filter(|record| bool::from(record.hash.ct_eq(hash))).ok_or(NotAdmitted::Unknown)?;
        let now = self.clock.now();
        if let Some(revoked) = record.revoked {
            return Err(NotAdmitted::Revoked(revoked.rfc3339()));
        }
        if let Some(end) = record.expires.filter(|end| now >= *end) {
            return Err(NotAdmitted::Expired(end.rfc3339()));
        }
        let profile =
            profiles.get(record.profile.as_str()).ok_or_else(|| NotAdmitted::NoProfile(record.profile.clone()))?;
        Ok(principal(record, Arc::clone(profile)))
    }

    /// When the key with this hash ends by itself.
    pub(super) fn end_of(&self, hash: &[u8; 32]) -> Option<Moment> {
        self.keys.load().get(hash)?.expires
    }

    /// Whether the key with this hash may be used now.
    pub(super) fn is_usable(&self, hash: &[u8; 32]) -> bool {
        let now = self.clock.now();
        self.admin.as_ref().is_some_and(|admin| admin.hash == *hash)
            || self.keys.load().get(hash).is_some_and(|record| record.is_live(now))
    }

    /// The hash of a key, where the text is one that somebody may hold.
    pub(super) fn hash_of_key(&self, text: &str) -> Option<[u8; 32]> {
        let admin = self.admin.as_ref().filter(|admin| admin.is(text)).map(|admin| admin.hash);
        admin.or_else(|| Some(self.hash(SecretKey::parse(text)?.expose())))
    }

    fn throttled(&self, source: Option<IpAddr>) -> Option<NotAdmitted> {
        if self.wrong.len() > MAX_SOURCES {
            self.wrong.retain_recent();
        }
        let source = network(source.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)));
        let until = self.wrong.check_key(&source).err()?;
        let wait = until.wait_time_from(self.wrong.clock().now());
        Some(NotAdmitted::Throttled { retry_after: wait.as_secs() + 1 })
    }

    pub(super) fn hash(&self, text: &str) -> [u8; 32] {
        hash(&self.pepper, text)
    }

    /// Makes a key. It works as soon as this returns; its text is nowhere but in the answer.
    ///
    /// # Errors
    /// Where the store cannot be written, or the system gives no random bytes.
    pub async fn create(&self, new: NewKey) -> Result<(SecretKey, Arc<KeyRecord>), NotCreated> {
        let key = SecretKey::mint().map_err(|_| NotCreated::NoRandomness)?;
        let now = self.clock.now();
        let expires = new
            .expires_in
            .map(|after| Moment(now.0.saturating_add(i64::try_from(after.as_millis()).unwrap_or(i64::MAX))));
        let record = KeyRecord {
            id: KeyId::fresh(),
            name: new.name,
            user: new.user,
            agent: new.agent,
            profile: new.profile,
            roles: new.roles,
            plan: new.plan,
            hash: self.hash(key.expose()),
            prefix: PREFIX.to_owned(),
            last4: key.last4(),
            created: now,
            expires,
            revoked: None,
            last_used: None,
        };
        self.store.insert_key(record.clone()).await?;
        let record = Arc::new(record);
        self.put(&record);
        Ok((key, record))
    }

    /// Revokes a key; the very next request with it is refused. False where no live key has this id.
    ///
    /// # Errors
    /// Where the store cannot be written.
    pub async fn revoke(&self, id: &KeyId) -> Result<bool, StoreError> {
        let now = self.clock.now();
        if !self.store.revoke_key(id, now).await? {
            return Ok(false);
        }
        let revoked = self.keys.load().values().find(|record| record.id == *id).cloned();
        if let Some(record) = revoked {
            self.put(&Arc::new(KeyRecord { revoked: Some(now), ..KeyRecord::clone(&record) }));
        }
        Ok(true)
    }

    fn put(&self, record: &Arc<KeyRecord>) {
        self.keys.rcu(|keys| {
            let mut keys = HashMap::clone(keys);
            keys.insert(record.hash, Arc::clone(record));
            keys
        });
    }

    /// Whether the credential that a principal came with may still be used.
    #[must_use]
    pub fn is_live(&self, principal: &Principal) -> bool {
        let now = self.clock.now();
        let usable = |record: &Arc<KeyRecord>| record.id == principal.key && record.is_live(now);
        (principal.key.as_str() == ADMIN_ID || self.keys.load().values().any(usable))
            && principal.grant.as_ref().is_none_or(|grant| self.grants.is_live(grant, now))
    }

    /// Every key in the order they were made, with the latest use.
    #[must_use]
    pub fn list(&self) -> Vec<KeyRecord> {
        let mut list: Vec<KeyRecord> = self
            .keys
            .load()
            .values()
            .map(|record| KeyRecord { last_used: self.uses.latest(record), ..KeyRecord::clone(record) })
            .collect();
        list.sort_by(|one, other| (one.created, one.id.as_str()).cmp(&(other.created, other.id.as_str())));
        list
    }

    /// The principal that a simulation judges: the live key `id`.
    #[must_use]
    pub fn principal_of(&self, id: &str, profiles: &Profiles) -> Option<Principal> {
        let keys = self.keys.load();
        let record = keys.values().find(|record| record.id.as_str() == id && record.is_live(self.clock.now()))?;
        Some(principal(record, Arc::clone(profiles.get(record.profile.as_str())?)))
    }

    /// The principal that a simulation judges for an agent id: the live key of that id, else the newest that carries it,
    /// else an agent of that id with the profile `agent` and no roles.
    #[must_use]
    pub fn agent(&self, agent: &str, profiles: &Profiles) -> Option<Principal> {
        let now = self.clock.now();
        let keys = self.keys.load();
        let carries = |record: &&Arc<KeyRecord>| record.is_live(now) && record.agent.as_deref() == Some(agent);
        let named = keys.values().find(|record| record.is_live(now) && record.id.as_str() == agent);
        let newest =
            named.or_else(|| keys.values().filter(carries).max_by_key(|record| (record.created, record.id.as_str())));
        if let Some(record) = newest
            && let Some(profile) = profiles.get(record.profile.as_str())
        {
            return Some(principal(record, Arc::clone(profile)));
        }
        Some(Principal {
            key: KeyId::from(agent),
            name: agent.into(),
            agent: agent.into(),
            user: agent.into(),
            profile: Arc::clone(profiles.get("agent")?),
            roles: BTreeSet::new(),
            plan: None,
            grant: None,
            until: None,
        })
    }

    /// The owner of the machine at the local command line: the profile `admin`, the role `writer`.
    #[must_use]
    pub fn owner(profiles: &Profiles) -> Option<Principal> {
        Some(Principal { profile: Arc::clone(profiles.get("admin")?), ..local_owner() })
    }
}

impl Admin {
    fn is(&self, text: &str) -> bool {
        self.secret.expose().as_bytes().ct_eq(text.as_bytes()).into()
    }
}

fn hash(pepper: &hmac::Key, text: &str) -> [u8; 32] {
    hmac::sign(pepper, text.as_bytes()).as_ref().try_into().unwrap_or([0; 32])
}

fn local_owner() -> Principal {
    let nothing = Profile {
        name: "admin".into(),
        scopes: Vec::new(),
        allowed_tools: Vec::new(),
        read_only: true,
        surface: crate::domain::principal::Surface::Search,
    };
    Principal {
        key: KeyId::from(ADMIN_ID),
        name: "admin".into(),
        agent: "admin".into(),
        user: "admin".into(),
        profile: Arc::new(nothing),
        roles: BTreeSet::from([ADMIN_ROLE.into()]),
        plan: None,
        grant: None,
        until: None,
    }
}

fn principal(record: &KeyRecord, profile: Arc<Profile>) -> Principal {
    Principal {
        key: record.id.clone(),
        name: record.name.as_str().into(),
        agent: record.agent.as_deref().unwrap_or(record.id.as_str()).into(),
        user: record.user.as_str().into(),
        profile,
        roles: record.roles.iter().map(|role| role.as_str().into()).collect(),
        plan: record.plan.as_deref().map(Into::into),
        grant: None,
        until: None,
    }
}
