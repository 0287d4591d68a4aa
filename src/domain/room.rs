//! Bytes that many hold in memory together: nobody more than a share, and all of them not more than there are.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// So many bytes for all, and of these so many for one.
#[derive(Debug)]
pub struct Room<K>(Arc<Inner<K>>);

#[derive(Debug)]
struct Inner<K> {
    share: AtomicUsize,
    all: AtomicUsize,
    held: Mutex<Held<K>>,
}

#[derive(Debug)]
struct Held<K> {
    total: usize,
    by_holder: HashMap<K, usize>,
}

/// Bytes of a holder, until this is dropped.
#[derive(Debug)]
pub struct Taken<K: Eq + Hash> {
    room: Room<K>,
    holder: K,
    bytes: usize,
}

impl<K> Clone for Room<K> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<K> Room<K> {
    fn held(&self) -> MutexGuard<'_, Held<K>> {
        self.0.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes that are held now.
    #[must_use]
    pub fn total(&self) -> usize {
        self.held().total
    }
}

impl<K: Eq + Hash + Clone> Room<K> {
    /// Room for `share` bytes of one holder and for `all` bytes of all.
    #[must_use]
    pub fn new(share: usize, all: usize) -> Self {
        let held = Mutex::new(Held { total: 0, by_holder: HashMap::new() });
        Self(Arc::new(Inner { share: AtomicUsize::new(share), all: AtomicUsize::new(all), held }))
    }

    /// Another size. What is held stays, whatever it is.
    pub fn resize(&self, share: usize, all: usize) {
        self.0.share.store(share, Ordering::Relaxed);
        self.0.all.store(all, Ordering::Relaxed);
    }

    /// So many bytes for a holder, where there is room for them.
    #[must_use]
    pub fn take(&self, holder: &K, bytes: usize) -> Option<Taken<K>> {
        let mut taken = Taken { room: self.clone(), holder: holder.clone(), bytes: 0 };
        taken.grow(bytes).then_some(taken)
    }
}

impl<K: Eq + Hash + Clone> Taken<K> {
    /// Takes more; false, and nothing taken, where there is no room for it.
    #[must_use]
    pub fn grow(&mut self, more: usize) -> bool {
        let mut held = self.room.held();
        let mine = held.by_holder.get(&self.holder).copied().unwrap_or(0);
        let (mine, total) = (mine.saturating_add(more), held.total.saturating_add(more));
        if mine > self.room.0.share.load(Ordering::Relaxed) || total > self.room.0.all.load(Ordering::Relaxed) {
            return false;
        }
        held.total = total;
        held.by_holder.insert(self.holder.clone(), mine);
        drop(held);
        self.bytes += more;
        true
    }
}

impl<K: Eq + Hash> Taken<K> {
    /// Gives some of it back.
    pub fn shrink(&mut self, less: usize) {
        let less = less.min(self.bytes);
        self.bytes -= less;
        let mut held = self.room.held();
        held.total = held.total.saturating_sub(less);
        // Taken out and put back, so that nobody who holds nothing is remembered.
        if let Some((holder, mine)) = held.by_holder.remove_entry(&self.holder)
            && mine > less
        {
            held.by_holder.insert(holder, mine - less);
        }
    }
}

impl<K: Eq + Hash> Drop for Taken<K> {
    fn drop(&mut self) {
        self.shrink(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_takes_more_than_a_share_and_all_not_more_than_there_is() {
        let room = Room::new(10, 15);
        let mut one = room.take(&"a", 6).unwrap();
        assert!(room.take(&"a", 5).is_none() && !one.grow(5), "its share is 10");
        assert!(one.grow(4));
        assert!(room.take(&"b", 6).is_none(), "15 are all there are");
        let other = room.take(&"b", 5).unwrap();
        assert_eq!(room.total(), 15);
        one.shrink(8);
        assert!(room.take(&"b", 6).is_none(), "its share is 10 still");
        assert!(room.take(&"b", 5).is_some());
        drop((one, other));
        assert_eq!(room.total(), 0);
        assert!(room.held().by_holder.is_empty());
    }
}
