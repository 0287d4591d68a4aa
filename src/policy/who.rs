//! The principal as Cedar sees it, kept so that it is built once per snapshot.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use cedar_policy::{Entity, EntityUid, RestrictedExpression};
use moka::sync::Cache;

use crate::domain::principal::{Principal, Profile};

use super::names::{AGENTS, ROLES};
use super::visible::Outlooks;

/// Principals kept at a time.
const MAX_KNOWN: u64 = 1024;

/// A principal that has been judged before.
#[derive(Debug)]
pub(super) struct Known {
    principal: Principal,
    /// Never used twice in one snapshot.
    pub(super) serial: u64,
    pub(super) uid: EntityUid,
    /// None where Cedar does not take the attributes: then nothing is permitted.
    pub(super) entity: Option<Entity>,
    pub(super) outlooks: Outlooks,
}

/// The principals seen by one snapshot, found by everything that a policy can read of them.
#[derive(Debug)]
pub(super) struct Acquaintances {
    kept: Cache<u64, Arc<Known>>,
    hasher: RandomState,
    serial: AtomicU64,
    slots: usize,
}

impl Acquaintances {
    /// `slots` is the number of outlooks to keep for each.
    pub(super) fn new(slots: usize) -> Self {
        Self { kept: Cache::new(MAX_KNOWN), hasher: RandomState::new(), serial: AtomicU64::new(0), slots }
    }

    /// This principal, built where it is new. The hash only finds it: what is found is compared in full.
    pub(super) fn meet(&self, principal: &Principal) -> Arc<Known> {
        let hash = self.hasher.hash_one((
            &principal.agent,
            &principal.user,
            &principal.key,
            &principal.profile.name,
            &principal.roles,
        ));
        if let Some(known) = self.kept.get(&hash)
            && same(&known.principal, principal)
        {
            return known;
        }
        let known = Arc::new(Known {
            serial: self.serial.fetch_add(1, Ordering::Relaxed),
            uid: AGENTS.uid(&principal.agent),
            entity: entity(principal),
            outlooks: Outlooks::new(self.slots),
            principal: principal.clone(),
        });
        self.kept.insert(hash, Arc::clone(&known));
        known
    }
}

/// Whether no policy could tell them apart.
fn same(one: &Principal, other: &Principal) -> bool {
    one.agent == other.agent
        && one.user == other.user
        && one.key == other.key
        && one.roles == other.roles
        && (Arc::ptr_eq(&one.profile, &other.profile) || alike(&one.profile, &other.profile))
}

fn alike(one: &Profile, other: &Profile) -> bool {
    one.name == other.name && one.read_only == other.read_only && one.scopes == other.scopes
}

fn entity(principal: &Principal) -> Option<Entity> {
    let profile = &principal.profile;
    let attributes = HashMap::from([
        ("agent".to_owned(), text(&principal.agent)),
        ("profile".to_owned(), text(&profile.name)),
        ("scopes".to_owned(), texts(profile.scopes.iter().map(|scope| scope.as_str()))),
        ("roles".to_owned(), texts(principal.roles.iter().map(|role| &**role))),
        ("user".to_owned(), text(&principal.user)),
        ("read_only".to_owned(), RestrictedExpression::new_bool(profile.read_only)),
        ("key".to_owned(), text(principal.key.as_str())),
    ]);
    let roles: HashSet<EntityUid> = principal.roles.iter().map(|role| ROLES.uid(role)).collect();
    Entity::new(AGENTS.uid(&principal.agent), attributes, roles).ok()
}

pub(super) fn text(text: &str) -> RestrictedExpression {
    RestrictedExpression::new_string(text.to_owned())
}

pub(super) fn texts<'a>(items: impl Iterator<Item = &'a str>) -> RestrictedExpression {
    RestrictedExpression::new_set(items.map(text))
}
