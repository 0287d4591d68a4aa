//! Keys: made and revoked by somebody, each with its record, the first ones included.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::acts::{Actor, close_act};
use super::control::Failed;
use super::{Gateway, NewKey};
use crate::authn::SecretKey;
use crate::domain::clock::Moment;
use crate::domain::id::KeyId;
use crate::store::KeyRecord;

/// The longest life that a key may be given.
const LONGEST_LIFE: Duration = Duration::from_secs(3650 * 24 * 3600);

/// Why a key is not made.
#[derive(Debug, thiserror::Error)]
pub enum KeyRefused {
    /// It asks for what does not exist, or may not be.
    #[error("{0}")]
    Unfit(String),
    /// It cannot be stored or recorded.
    #[error(transparent)]
    Failed(#[from] Failed),
}

/// The keys of the first start: shown once.
#[derive(Debug, Default)]
pub struct FirstKeys {
    /// Name and key.
    pub keys: Vec<(&'static str, SecretKey)>,
}

impl Gateway {
    /// The keys of the first start, made when they can be shown: an admin key, unless the environment sets one; a key for
    /// an agent that may write; a key that may only look. None at any later start.
    ///
    /// # Errors
    /// Where the store cannot be read, or they cannot be stored or recorded.
    pub async fn first_keys(&self) -> Result<FirstKeys, Failed> {
        if !self.keys.is_first_start().await.map_err(|error| Failed::of(&error))? {
            return Ok(FirstKeys::default());
        }
        let mut made = FirstKeys::default();
        // Each is called after its profile, and is a user of its own: who asks for a call does not approve it, so the admin
        // key can what the agent asks for; and who may only look is not shown what the others call.
        for (name, writer) in [("admin", true), ("agent", true), ("mcp_readonly", false)] {
            if name == "admin" && self.keys.has_fixed_admin() {
                continue;
            }
            let roles = if writer { vec!["writer".to_owned()] } else { Vec::new() };
            let new = NewKey { name: name.into(), profile: name.into(), user: name.into(), roles, ..NewKey::default() };
            made.keys.push((name, self.make_key(&Actor::owner(), new).await?.0));
        }
        self.keys.has_started().await.map_err(|error| Failed::of(&error))?;
        Ok(made)
    }

    /// Makes a key for `actor`; the answer is the only place where its text stands.
    ///
    /// # Errors
    /// Where it asks for what does not exist, or it cannot be stored or recorded; then it does not work.
    pub async fn create_key(&self, actor: &Actor, new: NewKey) -> Result<Value, KeyRefused> {
        self.check_key(&new)?;
        let (key, record) = self.make_key(actor, new).await?;
        let mut view = self.key_view(&record);
        if let Some(members) = view.as_object_mut() {
            members.insert("key".into(), json!(key.expose()));
        }
        Ok(view)
    }

    async fn make_key(&self, actor: &Actor, new: NewKey) -> Result<(SecretKey, Arc<KeyRecord>), Failed> {
        let notes = [
            format!("name {}", new.name),
            format!("user {}", new.user),
            format!("profile {}", new.profile),
            format!("roles {}", new.roles.join(",")),
        ];
        let mut entry = self.begin_act(actor, "keys.create", &notes).await?;
        let made = self.keys.create(new).await;
        if let Ok((_, record)) = &made {
            entry.note(&format!("key {}", record.id));
        }
        let closed = close_act(entry, made.is_ok()).await;
        let (key, record) = made.map_err(|error| Failed::of(&error))?;
        if let Err(failed) = closed {
            // Nothing that is not recorded may stay; where the store takes nothing at all, it took no key either.
            drop(self.keys.revoke(&record.id).await);
            return Err(failed);
        }
        Ok((key, record))
    }

    /// Revokes a key for `actor`. False where no live key has this id.
    ///
    /// # Errors
    /// Where it cannot be stored or recorded.
    pub async fn revoke_key(&self, actor: &Actor, id: &KeyId) -> Result<bool, Failed> {
        let entry = self.begin_act(actor, "keys.revoke", &[format!("key {id}")]).await?;
        let revoked = self.keys.revoke(id).await;
        close_act(entry, matches!(revoked, Ok(true))).await?;
        revoked.map_err(|error| Failed::of(&error))
    }

    /// Whether a key that is wanted can be made.
    fn check_key(&self, new: &NewKey) -> Result<(), KeyRefused> {
        let state = self.state();
        let unfit = |message: String| Err(KeyRefused::Unfit(message));
        if !state.profiles.contains_key(new.profile.as_str()) {
            let known: Vec<&str> = state.profiles.keys().map(|name| &**name).collect();
            return unfit(format!("there is no profile `{}`: known are {}", new.profile, known.join(", ")));
        }
        if let Some(plan) = new.plan.as_ref().filter(|plan| !state.settings.plans.contains_key(plan.as_str())) {
            let known: Vec<&str> = state.settings.plans.keys().map(|name| &**name).collect();
            return unfit(format!("there is no plan `{plan}`: known are {}", known.join(", ")));
        }
        let names = [&new.name, &new.user].into_iter().chain(&new.agent).chain(&new.roles);
        for text in names {
            if text.trim().is_empty() || text.chars().count() > 200 || text.chars().any(char::is_control) {
                return unfit(
                    "names, users, agents and roles have 1 to 200 characters, none of them a control character".into(),
                );
            }
        }
        if new.expires_in.is_some_and(|after| after > LONGEST_LIFE) {
            return unfit("a key may live for at most 3650 days; leave the expiry out for one without end".into());
        }
        Ok(())
    }

    /// A key as lists show it.
    #[must_use]
    pub fn key_view(&self, key: &KeyRecord) -> Value {
        let state = self.state();
        let profile = state.profiles.get(key.profile.as_str());
        let time = |moment: Option<Moment>| moment.map(Moment::rfc3339);
        let live = key.is_live(self.now());
        json!({
            "id": key.id,
            "name": key.name,
            "user": key.user,
            "profile": key.profile,
            "scopes": profile.map(|profile| &profile.scopes),
            "allowed_tools": profile.map(|profile| &profile.allowed_tools),
            "read_only": profile.map(|profile| profile.read_only),
            "roles": key.roles,
            "plan": key.plan,
            "agent_id": key.agent,
            "hint": format!("{}…{}", key.prefix, key.last4),
            "state": if live { "live" } else if key.revoked.is_some() { "revoked" } else { "expired" },
            "created_at": key.created.rfc3339(),
            "expires_at": time(key.expires),
            "revoked_at": time(key.revoked),
            "last_used_at": time(key.last_used),
        })
    }
}
