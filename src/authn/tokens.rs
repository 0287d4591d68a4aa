//! Tokens: what a key is exchanged for, so that the key itself can stay at home.
//!
//! An access token works wherever its key does and ends soon. Its refresh token is used once, for a new pair; a second
//! use shows that somebody else has it, and ends the whole grant. All end with the key.

use std::net::IpAddr;
use std::time::Duration;

use super::credential::{NotAdmitted, NotIssued};
use super::grants::Presented;
use super::keyring::Keyring;
use super::secret_key::{BODY, body, random, sealed};
use crate::config::Profiles;
use crate::config::settings::TokenSettings;
use crate::domain::clock::Moment;
use crate::domain::id::GrantId;
use crate::domain::principal::Principal;
use crate::domain::secret::Secret;
use crate::store::{GrantRecord, StoreError};

/// How access tokens begin: those of users, and those for automation.
const USER: &str = "mcp_live_";
const SERVICE: &str = "svc_live_";
/// How refresh tokens begin.
const REFRESH: &str = "ref_live_";
/// Characters of a refresh token that find its grant; they carry 128 bits.
const HANDLE: usize = 22;
/// Grants of one key at most.
const MAX_GRANTS: usize = 100;

/// Tokens as they are given out, once.
#[derive(Debug)]
pub struct Tokens {
    pub grant: GrantId,
    /// For automation, and not for a user.
    pub service: bool,
    pub access: Secret,
    pub refresh: Secret,
    pub minted: Moment,
    pub access_ends: Moment,
    pub refresh_ends: Moment,
}

/// Whether a credential is an access token.
pub(super) fn is_token(text: &str) -> bool {
    text.starts_with(USER) || text.starts_with(SERVICE)
}

impl Keyring {
    /// Whoever holds this access token, if it and its key may be used now.
    pub(super) fn bearer(&self, text: &str, profiles: &Profiles) -> Result<Principal, NotAdmitted> {
        let prefix = if text.starts_with(USER) { USER } else { SERVICE };
        body(text, prefix, BODY).ok_or(NotAdmitted::MistypedToken)?;
        let grant = self.grants.by_access(&self.hash(text)).ok_or(NotAdmitted::UnknownToken)?;
        // Why the key is of no use says more than why the token is.
        let principal = self.of_hash(&grant.key_hash, profiles)?;
        if self.clock.now() >= grant.access_ends {
            return Err(NotAdmitted::TokenExpired(grant.access_ends.rfc3339()));
        }
        Ok(Principal { grant: Some(grant.id.clone()), ..principal })
    }

    /// Exchanges a key, which was admitted before, for tokens. They work as soon as this returns.
    ///
    /// # Errors
    /// Where the credential is no key, the key has too many, or they cannot be stored.
    pub async fn issue(&self, key: &Secret, service: bool, lives: TokenSettings) -> Result<Tokens, NotIssued> {
        let key_hash = self.hash_of_key(key.expose()).ok_or(NotIssued::NotAKey)?;
        self.make_room(&key_hash).await?;
        let id = GrantId::fresh();
        let handle = random::<16>(HANDLE).map_err(|_| NotIssued::NoRandomness)?;
        let blank = GrantRecord {
            id,
            key_hash,
            service,
            handle,
            access: [0; 32],
            access_ends: Moment(0),
            refresh: [0; 32],
            refresh_ends: Moment(0),
            created: self.clock.now(),
        };
        let (tokens, record) = self.mint(&blank, lives).map_err(|_| NotIssued::NoRandomness)?;
        self.store.insert_grant(record.clone()).await?;
        self.grants.put(record);
        Ok(tokens)
    }

    /// Sees to it that the key may have one more grant: the oldest whose access token has expired makes room.
    async fn make_room(&self, key_hash: &[u8; 32]) -> Result<(), NotIssued> {
        let mut grants = self.grants.of_key(key_hash);
        if grants.len() < MAX_GRANTS {
            return Ok(());
        }
        let now = self.clock.now();
        grants.retain(|grant| now >= grant.access_ends);
        let oldest = grants.iter().min_by_key(|grant| (grant.access_ends, grant.id.as_str()));
        let oldest = oldest.ok_or(NotIssued::TooMany(MAX_GRANTS))?;
        self.grants.remove(&oldest.id);
        Ok(self.store.remove_grants(vec![oldest.id.clone()]).await?)
    }

    /// New tokens for a grant, and the grant with their hashes.
    fn mint(
        &self,
        grant: &GrantRecord,
        lives: TokenSettings,
    ) -> Result<(Tokens, GrantRecord), ring::error::Unspecified> {
        let prefix = if grant.service { SERVICE } else { USER };
        let access = sealed(prefix, &random::<32>(BODY)?);
        let refresh = sealed(REFRESH, &format!("{}{}", grant.handle, random::<32>(BODY)?));
        let now = self.clock.now();
        let key_ends = self.end_of(&grant.key_hash).unwrap_or(Moment(i64::MAX));
        let end = |after: Duration| {
            Moment(now.0.saturating_add(i64::try_from(after.as_millis()).unwrap_or(i64::MAX))).min(key_ends)
        };
        let record = GrantRecord {
            access: self.hash(access.expose()),
            access_ends: end(if grant.service { lives.service } else { lives.access }),
            refresh: self.hash(refresh.expose()),
            refresh_ends: end(lives.refresh),
            ..grant.clone()
        };
        let (access_ends, refresh_ends) = (record.access_ends, record.refresh_ends);
        let tokens = Tokens {
            grant: grant.id.clone(),
            service: grant.service,
            access,
            refresh,
            minted: now,
            access_ends,
            refresh_ends,
        };
        Ok((tokens, record))
    }

    /// Who may renew with this refresh token. Using one twice revokes its grant: see [`Self::refresh`].
    ///
    /// # Errors
    /// Why nobody may; `source` is throttled as for a wrong key.
    pub async fn refresher(
        &self,
        token: &Secret,
        profiles: &Profiles,
        source: Option<IpAddr>,
    ) -> Result<Principal, NotAdmitted> {
        let found = self.presented(token).await;
        let admitted = found.and_then(|grant| {
            let principal = self.of_hash(&grant.key_hash, profiles)?;
            Ok(Principal { grant: Some(grant.id.clone()), ..principal })
        });
        admitted.map_err(|why| self.wrong(why, source))
    }

    async fn presented(&self, token: &Secret) -> Result<std::sync::Arc<GrantRecord>, NotAdmitted> {
        let text = token.expose();
        if !text.starts_with(REFRESH) {
            return Err(NotAdmitted::UnknownToken);
        }
        let body = body(text, REFRESH, HANDLE + BODY).ok_or(NotAdmitted::MistypedToken)?;
        let handle = body.get(..HANDLE).unwrap_or_default();
        match self.grants.present(handle, &self.hash(text)) {
            Presented::Current(grant) if self.clock.now() < grant.refresh_ends => Ok(grant),
            Presented::Current(grant) => Err(NotAdmitted::TokenExpired(grant.refresh_ends.rfc3339())),
            Presented::Used(grant) => {
                if let Err(error) = self.store.remove_grants(vec![grant.id.clone()]).await {
                    tracing::error!(grant = %grant.id, %error, "a grant whose refresh token was used twice is still stored");
                }
                Err(NotAdmitted::Reused)
            }
            Presented::Unknown => Err(NotAdmitted::UnknownToken),
        }
    }

    /// Renews both tokens of a grant with its refresh token; the old ones are worth nothing from then on. `None` where
    /// somebody else was first, or the grant was revoked meanwhile.
    ///
    /// # Errors
    /// Where the new tokens cannot be stored; then the old ones stay.
    pub async fn refresh(&self, token: &Secret, lives: TokenSettings) -> Result<Option<Tokens>, NotIssued> {
        let Ok(old) = self.presented(token).await else { return Ok(None) };
        let (tokens, new) = self.mint(&old, lives).map_err(|_| NotIssued::NoRandomness)?;
        if !self.grants.replace(&old, new.clone()) {
            return Ok(None);
        }
        match self.store.renew_grant(new.clone()).await {
            Ok(true) => Ok(Some(tokens)),
            Ok(false) => Ok(None),
            Err(error) => {
                self.grants.replace(&new, GrantRecord::clone(&old));
                Err(error.into())
            }
        }
    }

    /// Ends a grant: its tokens are refused from the very next request on. False where it was gone.
    ///
    /// # Errors
    /// Where it cannot be removed from the store.
    pub async fn revoke_grant(&self, id: &GrantId) -> Result<bool, StoreError> {
        let was_there = self.grants.remove(id);
        self.store.remove_grants(vec![id.clone()]).await?;
        Ok(was_there)
    }

    /// Forgets grants that have ended, by themselves or with their keys.
    ///
    /// # Errors
    /// Where they cannot be removed from the store.
    pub async fn forget_ended_grants(&self) -> Result<(), StoreError> {
        let now = self.clock.now();
        let gone = self.grants.remove_where(|grant| grant.has_ended(now) || !self.is_usable(&grant.key_hash));
        if gone.is_empty() { Ok(()) } else { self.store.remove_grants(gone).await }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::authn::{Credential, NewKey};
    use crate::config::profiles;
    use crate::domain::clock::ManualClock;
    use crate::store::{Durability, Store};

    const NOON: Moment = Moment(1_700_000_000_000);

    struct Bench {
        folder: tempfile::TempDir,
        clock: ManualClock,
        profiles: Profiles,
    }

    impl Bench {
        fn new() -> Self {
            let profiles = profiles::read("profiles.toml", profiles::SHIPPED).unwrap();
            Self { folder: tempfile::tempdir().unwrap(), clock: ManualClock::at(NOON), profiles }
        }

        /// A keyring as after a start, with this admin key of the environment.
        async fn start(&self, admin: &str) -> Keyring {
            let store = Store::open(self.folder.path(), Durability::Process).unwrap();
            Keyring::load(store, Arc::new(self.clock.clone()), Some(Secret::new(admin))).await.unwrap()
        }

        fn admit(&self, keys: &Keyring, text: &Secret) -> Result<Principal, NotAdmitted> {
            keys.admit(&Credential::Key(text.clone()), &self.profiles, None)
        }
    }

    const ADMIN: &str = "an admin key that is long enough: 0123456789";

    #[tokio::test]
    async fn the_scan_knows_what_is_given_out() {
        let bench = Bench::new();
        let keys = bench.start(ADMIN).await;
        let new = NewKey { profile: "agent".into(), user: "ada".into(), ..NewKey::default() };
        let (key, _) = keys.create(new).await.unwrap();
        let mut given = vec![Secret::new(key.expose())];
        for service in [false, true] {
            let tokens = keys.issue(&given[0].clone(), service, TokenSettings::default()).await.unwrap();
            given.extend([tokens.access, tokens.refresh]);
        }
        for secret in given {
            let report = crate::scan::Scanner::default().scan(secret.expose().as_bytes());
            assert_eq!(report.counts().into_keys().collect::<Vec<_>>(), ["toolgate-key"]);
        }
    }

    #[tokio::test]
    async fn tokens_of_an_admin_key_that_was_changed_are_worth_nothing() {
        let bench = Bench::new();
        let keys = bench.start(ADMIN).await;
        let tokens = keys.issue(&Secret::new(ADMIN), true, TokenSettings::default()).await.unwrap();
        let admitted = bench.admit(&keys, &tokens.access).unwrap();
        assert_eq!((admitted.key.as_str(), admitted.grant), ("key_admin", Some(tokens.grant.clone())));
        drop(keys);
        let same = bench.start(ADMIN).await;
        assert!(bench.admit(&same, &tokens.access).is_ok());
        drop(same);
        let other = bench.start("another admin key that is long enough 012345").await;
        assert_eq!(bench.admit(&other, &tokens.access).unwrap_err(), NotAdmitted::Unknown);
        assert!(other.refresh(&tokens.refresh, TokenSettings::default()).await.is_ok());
        other.forget_ended_grants().await.unwrap();
        assert_eq!(bench.admit(&other, &tokens.access).unwrap_err(), NotAdmitted::UnknownToken);
        assert!(other.store.grants().await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn what_has_ended_is_forgotten_and_nothing_else() {
        let bench = Bench::new();
        let keys = bench.start(ADMIN).await;
        let lives = TokenSettings {
            access: Duration::from_secs(60),
            refresh: Duration::from_secs(120),
            ..TokenSettings::default()
        };
        let new = || NewKey { name: "k".into(), profile: "agent".into(), user: "u".into(), ..NewKey::default() };
        let (kept, _) = keys.create(new()).await.unwrap();
        let (revoked, record) = keys.create(new()).await.unwrap();
        let secret = |key: &crate::authn::SecretKey| Secret::new(key.expose());
        let early = keys.issue(&secret(&kept), false, lives).await.unwrap();
        keys.issue(&secret(&revoked), false, lives).await.unwrap();
        keys.revoke(&record.id).await.unwrap();
        keys.forget_ended_grants().await.unwrap();
        assert_eq!(keys.store.grants().await.unwrap().len(), 1, "its key was revoked");
        bench.clock.advance(119_999);
        let late = keys.issue(&secret(&kept), false, lives).await.unwrap();
        bench.clock.advance(1);
        assert_eq!(
            bench.admit(&keys, &early.access).unwrap_err(),
            NotAdmitted::TokenExpired(early.access_ends.rfc3339())
        );
        keys.forget_ended_grants().await.unwrap();
        assert_eq!(bench.admit(&keys, &early.access).unwrap_err(), NotAdmitted::UnknownToken);
        assert!(bench.admit(&keys, &late.access).is_ok());
        assert_eq!(keys.store.grants().await.unwrap().len(), 1);
    }

    #[tokio::test]
    async fn a_refresh_token_of_one_grant_opens_no_other() {
        let bench = Bench::new();
        let keys = bench.start(ADMIN).await;
        let lives = TokenSettings::default();
        let one = keys.issue(&Secret::new(ADMIN), false, lives).await.unwrap();
        let other = keys.issue(&Secret::new(ADMIN), false, lives).await.unwrap();
        // The handle of the one with the secret of the other.
        let (head, tail) = (REFRESH.len() + HANDLE, other.refresh.expose());
        let crossed =
            sealed(REFRESH, &format!("{}{}", &one.refresh.expose()[REFRESH.len()..head], &tail[head..head + BODY]));
        let refused = keys.refresher(&crossed, &bench.profiles, None).await;
        assert_eq!(refused.unwrap_err(), NotAdmitted::Reused);
        assert!(bench.admit(&keys, &one.access).is_err(), "a refresh token that is not the current one ends its grant");
        assert!(bench.admit(&keys, &other.access).is_ok());
    }
}
