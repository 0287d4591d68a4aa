//! The tokens that keys were exchanged for, in memory: found by what is presented.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use subtle::ConstantTimeEq;

use crate::domain::clock::Moment;
use crate::domain::id::GrantId;
use crate::store::GrantRecord;

/// All grants. Locked for a look-up or a change, never over a wait.
#[derive(Default)]
pub(super) struct Grants(Mutex<Held>);

#[derive(Default)]
struct Held {
    by_id: HashMap<GrantId, Arc<GrantRecord>>,
    by_access: HashMap<[u8; 32], GrantId>,
    by_handle: HashMap<String, GrantId>,
}

impl fmt::Debug for Grants {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Grants").field(&self.held().by_id.len()).finish()
    }
}

/// What a refresh token turned out to be.
#[derive(Debug)]
pub(super) enum Presented {
    /// The current one of this grant.
    Current(Arc<GrantRecord>),
    /// One of this grant that was used before; the grant is gone now.
    Used(Arc<GrantRecord>),
    Unknown,
}

impl Grants {
    pub(super) fn of(records: Vec<GrantRecord>) -> Self {
        let mut held = Held::default();
        records.into_iter().for_each(|record| held.put(Arc::new(record)));
        Self(Mutex::new(held))
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The grant of this access token.
    pub(super) fn by_access(&self, hash: &[u8; 32]) -> Option<Arc<GrantRecord>> {
        let held = self.held();
        let record = held.by_id.get(held.by_access.get(hash)?)?;
        bool::from(record.access.ct_eq(hash)).then(|| Arc::clone(record))
    }

    /// What a refresh token is. One that was used before ends its grant: somebody else has it.
    pub(super) fn present(&self, handle: &str, hash: &[u8; 32]) -> Presented {
        let mut held = self.held();
        let found = held.by_handle.get(handle).and_then(|id| held.by_id.get(id)).cloned();
        match found {
            None => Presented::Unknown,
            Some(record) if record.refresh.ct_eq(hash).into() => Presented::Current(record),
            Some(record) => {
                held.remove(&record.id);
                Presented::Used(record)
            }
        }
    }

    /// Adds a grant.
    pub(super) fn put(&self, record: GrantRecord) {
        self.held().put(Arc::new(record));
    }

    /// Puts `new` in the place of `old`; false where another change came first.
    pub(super) fn replace(&self, old: &GrantRecord, new: GrantRecord) -> bool {
        let mut held = self.held();
        let unchanged = held.by_id.get(&old.id).is_some_and(|record| **record == *old);
        if unchanged {
            held.remove(&old.id);
            held.put(Arc::new(new));
        }
        unchanged
    }

    /// Removes a grant; false where there is none of this id.
    pub(super) fn remove(&self, id: &GrantId) -> bool {
        self.held().remove(id)
    }

    /// The grants of one key.
    pub(super) fn of_key(&self, key_hash: &[u8; 32]) -> Vec<Arc<GrantRecord>> {
        self.held().by_id.values().filter(|record| record.key_hash == *key_hash).cloned().collect()
    }

    /// Removes what fits and gives the ids.
    pub(super) fn remove_where(&self, gone: impl Fn(&GrantRecord) -> bool) -> Vec<GrantId> {
        let mut held = self.held();
        let ids: Vec<GrantId> =
            held.by_id.values().filter(|record| gone(record)).map(|record| record.id.clone()).collect();
        for id in &ids {
            held.remove(id);
        }
        ids
    }

    /// Whether the access token of a grant may still be used.
    pub(super) fn is_live(&self, id: &GrantId, now: Moment) -> bool {
        self.held().by_id.get(id).is_some_and(|record| now < record.access_ends)
    }
}

impl Held {
    fn put(&mut self, record: Arc<GrantRecord>) {
        self.by_access.insert(record.access, record.id.clone());
        self.by_handle.insert(record.handle.clone(), record.id.clone());
        self.by_id.insert(record.id.clone(), record);
    }

    fn remove(&mut self, id: &GrantId) -> bool {
        let Some(record) = self.by_id.remove(id) else { return false };
        self.by_access.remove(&record.access);
        self.by_handle.remove(&record.handle);
        true
    }
}
