//! Which items of a server's list somebody is shown. Each costs a judgement, and a list may have ten thousand of them, so it
//! is judged in turns, and what came of it is kept for as long as the list and the caller are the same.

use std::collections::BTreeSet;
use std::sync::{Arc, Weak};

use moka::sync::Cache;

use crate::backend::{Items, ListKind};
use crate::domain::id::{KeyId, ServerName};
use crate::domain::json::Json;
use crate::domain::principal::{Principal, Scope};

/// Lists whose judgements are kept.
const KEPT: u64 = 256;
/// Items that are judged before others have their turn.
const TURN: usize = 64;

/// Of one moment's policies: another state has another one.
#[derive(Debug)]
pub struct Sieve(Cache<(KeyId, ServerName, ListKind), Arc<Sieved>>);

#[derive(Debug)]
struct Sieved {
    items: Weak<Items>,
    who: Who,
    shown: Arc<[usize]>,
}

/// What a judgement may read of a principal beside its key.
#[derive(Debug, PartialEq, Eq)]
struct Who {
    user: Arc<str>,
    agent: Arc<str>,
    profile: Arc<str>,
    scopes: Vec<Scope>,
    roles: BTreeSet<Arc<str>>,
}

impl Who {
    fn of(who: &Principal) -> Self {
        let (user, agent, roles) = (Arc::clone(&who.user), Arc::clone(&who.agent), who.roles.clone());
        Self { user, agent, profile: who.profile.name.clone(), scopes: who.profile.scopes.clone(), roles }
    }
}

impl Default for Sieve {
    fn default() -> Self {
        Self(Cache::new(KEPT))
    }
}

impl Sieve {
    /// The places of the items that `shows` lets through.
    pub async fn shown(
        &self,
        who: &Principal,
        (server, kind): (&ServerName, ListKind),
        items: &Arc<Items>,
        shows: impl Fn(&Json) -> bool,
    ) -> Arc<[usize]> {
        let (place, who) = ((who.key.clone(), server.clone(), kind), Who::of(who));
        if let Some(kept) = self.0.get(&place)
            && kept.who == who
            && kept.items.ptr_eq(&Arc::downgrade(items))
        {
            return Arc::clone(&kept.shown);
        }
        let mut shown = Vec::new();
        for (at, item) in items.items.iter().enumerate() {
            if at % TURN == TURN - 1 {
                tokio::task::yield_now().await;
            }
            if shows(item) {
                shown.push(at);
            }
        }
        let shown: Arc<[usize]> = shown.into();
        self.0.insert(place, Arc::new(Sieved { items: Arc::downgrade(items), who, shown: Arc::clone(&shown) }));
        shown
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::pin::pin;

    use super::*;
    use crate::domain::principal::{Profile, Surface};

    fn list(count: usize) -> Arc<Items> {
        let items = (0..count).map(|n| Json::from_parts(format!("{{\"uri\":\"x://{n}\"}}"))).collect();
        Arc::new(Items { items, ..Items::default() })
    }

    #[tokio::test]
    async fn a_long_list_is_judged_in_turns_and_once() {
        let (sieve, server) = (Sieve::default(), "up".parse().unwrap());
        let profile = Profile {
            name: "agent".into(),
            scopes: vec![Scope::ToolsRead],
            allowed_tools: Vec::new(),
            read_only: false,
            surface: Surface::default(),
        };
        let mut who = Principal {
            key: KeyId::fresh(),
            name: "k".into(),
            agent: "k".into(),
            user: "u".into(),
            profile: Arc::new(profile),
            roles: BTreeSet::new(),
            plan: None,
            grant: None,
            until: None,
        };
        let (items, judged) = (list(10 * TURN), Cell::new(0));
        let even = |item: &Json| {
            judged.set(judged.get() + 1);
            !item.as_str().contains("1\"")
        };
        let shown = {
            let mut first = pin!(sieve.shown(&who, (&server, ListKind::Resources), &items, even));
            assert!(futures_util::poll!(&mut first).is_pending());
            assert!(judged.get() < TURN, "others have their turn");
            first.await
        };
        assert_eq!((shown.len(), judged.replace(0)), (9 * TURN, 10 * TURN));
        let again = sieve.shown(&who, (&server, ListKind::Resources), &items, even).await;
        assert_eq!((again.len(), judged.get()), (9 * TURN, 0), "it is the same list");
        who.roles.insert("admin".into());
        sieve.shown(&who, (&server, ListKind::Resources), &items, even).await;
        assert_eq!(judged.replace(0), 10 * TURN, "of somebody else");
        sieve.shown(&who, (&server, ListKind::Resources), &list(3), even).await;
        assert_eq!(judged.replace(0), 3, "another list");
    }
}
