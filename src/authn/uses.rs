//! When keys were last used: noted at each request, written now and then.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::keyring::Keyring;
use crate::domain::clock::Moment;
use crate::domain::id::KeyId;
use crate::store::{KeyRecord, StoreError};

/// The latest use of each key, until it is written.
#[derive(Debug, Default)]
pub(super) struct Uses(Mutex<HashMap<KeyId, Moment>>);

impl Uses {
    fn lock(&self) -> MutexGuard<'_, HashMap<KeyId, Moment>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A key as it is now, with a use that is not written yet.
    pub(super) fn latest(&self, record: &KeyRecord) -> Option<Moment> {
        self.lock().get(&record.id).copied().max(record.last_used)
    }
}

impl Keyring {
    /// Notes that a key was used, for lists; written now and then by [`Self::write_uses`].
    pub fn note_use(&self, key: &KeyId) {
        if let Ok(mut used) = self.uses.0.try_lock() {
            used.insert(key.clone(), self.clock.now());
        }
    }

    /// Writes down when keys were last used. What could not be written waits for the next time.
    ///
    /// # Errors
    /// Where the store cannot be written.
    pub async fn write_uses(&self) -> Result<(), StoreError> {
        let uses = self.uses.lock().clone();
        if uses.is_empty() {
            return Ok(());
        }
        let written = self.store.touch_keys(uses.clone().into_iter().collect()).await;
        if written.is_ok() {
            self.keys.rcu(|keys| {
                let mut keys = HashMap::clone(keys);
                for record in keys.values_mut() {
                    if let Some(used) = uses.get(&record.id) {
                        let last_used = record.last_used.max(Some(*used));
                        *record = Arc::new(KeyRecord { last_used, ..KeyRecord::clone(record) });
                    }
                }
                keys
            });
            self.uses.lock().retain(|key, used| uses.get(key) != Some(used));
        } else {
            // Subjects of tokens are no keys: they are as many as come.
            let keys = self.keys.load();
            let known: HashSet<&KeyId> = keys.values().map(|record| &record.id).collect();
            self.uses.lock().retain(|key, _| known.contains(key));
        }
        written
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authn::NewKey;
    use crate::domain::clock::{Clock, ManualClock};
    use crate::store::{Durability, Store};

    /// When each key was used, as lists show it.
    fn shown(keys: &Keyring) -> Vec<Option<Moment>> {
        keys.list().into_iter().map(|record| record.last_used).collect()
    }

    #[tokio::test]
    async fn a_use_is_shown_before_and_after_it_is_written_and_a_failed_write_loses_none() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), Durability::Process).unwrap();
        let clock = Arc::new(ManualClock::at(Moment(1_800_000_000_000)));
        let keys = Keyring::load(store.clone(), clock.clone(), None).await.unwrap();
        let new = NewKey { name: "a".into(), profile: "agent".into(), user: "u".into(), ..NewKey::default() };
        let (_, record) = keys.create(new).await.unwrap();
        assert_eq!(shown(&keys), [None]);
        keys.note_use(&record.id);
        let first = clock.now();
        assert_eq!(shown(&keys), [Some(first)]);
        keys.write_uses().await.unwrap();
        assert!(keys.uses.lock().is_empty());
        assert_eq!(shown(&keys), [Some(first)], "written, and still known");
        let again = Keyring::load(store.clone(), clock.clone(), None).await.unwrap();
        assert_eq!(shown(&again), [Some(first)]);
        clock.advance(60_000);
        keys.note_use(&record.id);
        keys.note_use(&KeyId::from("sub@issuer"));
        store.close().await.unwrap();
        assert!(keys.write_uses().await.is_err());
        assert_eq!(shown(&keys), [Some(clock.now())], "not written, and not lost");
        assert_eq!(keys.uses.lock().len(), 1, "whoever is no key here is forgotten");
    }
}
