//! Counts what each of many holds, so that one cannot hold everything.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

/// How many places each holder has.
#[derive(Debug)]
pub struct Crowd<K>(Arc<Mutex<HashMap<K, usize>>>);

/// One place of a holder, until it is dropped.
#[derive(Debug)]
pub struct Seat<K: Eq + Hash>(Crowd<K>, K);

impl<K> Clone for Crowd<K> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<K> Default for Crowd<K> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<K: Eq + Hash + Clone> Crowd<K> {
    /// A place, unless the holder has `most` already.
    #[must_use]
    pub fn seat(&self, holder: K, most: usize) -> Option<Seat<K>> {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = held.entry(holder.clone()).or_default();
        if *count >= most {
            return None;
        }
        *count += 1;
        Some(Seat(self.clone(), holder))
    }
}

impl<K: Eq + Hash> Drop for Seat<K> {
    fn drop(&mut self) {
        let mut held = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Taken out and put back, so that nobody who holds nothing is remembered.
        if let Some((holder, count)) = held.remove_entry(&self.1).filter(|(_, count)| *count > 1) {
            held.insert(holder, count - 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_free_again_when_its_seat_is_dropped() {
        let crowd = Crowd::default();
        let (one, two) = (crowd.seat("a", 2), crowd.seat("a", 2));
        assert!(one.is_some() && two.is_some());
        assert!(crowd.seat("a", 2).is_none() && crowd.seat("b", 2).is_some());
        drop(one);
        assert!(crowd.seat("a", 2).is_some());
        drop(two);
        assert!(crowd.0.lock().unwrap().is_empty());
    }
}
