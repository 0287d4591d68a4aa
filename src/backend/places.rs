//! Places among the calls in flight at a server: so many in all, and of them a share for each key, so that nobody whose
//! calls are slow keeps the server from everybody else.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::domain::id::KeyId;

/// Calls that may wait for a place, for each place.
const WAITING_PER_PLACE: usize = 16;
/// Shares that are kept though their keys have nothing in flight.
const IDLE_SHARES: usize = 256;

/// The places of one server.
#[derive(Debug, Clone)]
pub(crate) struct Places(Arc<Inner>, Option<KeyId>);

#[derive(Debug)]
struct Inner {
    all: Queue,
    /// The shares of the keys that have calls in flight, and of some that had.
    shares: Mutex<HashMap<KeyId, Arc<Queue>>>,
}

/// Places, and those that wait for one.
#[derive(Debug)]
struct Queue {
    count: usize,
    places: Arc<Semaphore>,
    waiting: AtomicUsize,
}

/// A place, until it is dropped.
#[derive(Debug)]
pub(crate) struct Taken {
    _of_all: OwnedSemaphorePermit,
    _of_key: Option<OwnedSemaphorePermit>,
}

/// One of those that wait.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Queue {
    fn new(count: usize) -> Self {
        let count = count.clamp(1, Semaphore::MAX_PERMITS);
        Self { count, places: Arc::new(Semaphore::new(count)), waiting: AtomicUsize::new(0) }
    }

    /// A place; `None` where too many wait for one already.
    async fn take(&self) -> Option<OwnedSemaphorePermit> {
        if let Ok(place) = Arc::clone(&self.places).try_acquire_owned() {
            return Some(place);
        }
        let waiting = Waiting(&self.waiting);
        if self.waiting.fetch_add(1, Ordering::Relaxed) >= self.count.saturating_mul(WAITING_PER_PLACE) {
            return None;
        }
        let place = Arc::clone(&self.places).acquire_owned().await.ok();
        drop(waiting);
        place
    }

    fn is_idle(&self) -> bool {
        self.places.available_permits() == self.count
    }
}

impl Places {
    pub(crate) fn new(count: usize) -> Self {
        Self(Arc::new(Inner { all: Queue::new(count), shares: Mutex::default() }), None)
    }

    /// As one key sees them.
    pub(crate) fn of(&self, key: &KeyId) -> Self {
        Self(Arc::clone(&self.0), Some(key.clone()))
    }

    /// A place; `None` where too many wait for one already: those who wait for their own key's share are nobody else's
    /// concern.
    pub(crate) async fn take(&self) -> Option<Taken> {
        let of_key = match &self.1 {
            Some(key) => Some(self.share(key).take().await?),
            None => None,
        };
        Some(Taken { _of_all: self.0.all.take().await?, _of_key: of_key })
    }

    /// A key has all but a quarter of the places, and never the last, where there are several.
    fn share(&self, key: &KeyId) -> Arc<Queue> {
        let mut shares = self.shares();
        if let Some(share) = shares.get(key) {
            return Arc::clone(share);
        }
        if shares.len() >= IDLE_SHARES {
            // Whoever is about to take a place holds the share itself.
            shares.retain(|_, share| Arc::strong_count(share) > 1 || !share.is_idle());
        }
        let count = self.0.all.count;
        let share = Arc::new(Queue::new(count - (count / 4).max(1)));
        shares.insert(key.clone(), Arc::clone(&share));
        share
    }

    fn shares(&self) -> MutexGuard<'_, HashMap<KeyId, Arc<Queue>>> {
        self.0.shares.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Calls that have a place.
    pub(crate) fn taken(&self) -> usize {
        self.0.all.count.saturating_sub(self.0.all.places.available_permits())
    }

    /// Waits until no call is in flight.
    pub(crate) async fn drained(&self) {
        let all = u32::try_from(self.0.all.count).unwrap_or(u32::MAX);
        drop(self.0.all.places.acquire_many(all).await);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn no_key_takes_every_place_and_one_that_goes_makes_room() {
        let places = Places::new(4);
        let (one, other) = (places.of(&KeyId::from("a")), places.of(&KeyId::from("b")));
        let mut held = Vec::new();
        for _ in 0..3 {
            held.push(one.take().await.unwrap());
        }
        let mut fourth = Box::pin(one.take());
        assert!(fourth.as_mut().now_or_never().is_none(), "a quarter is for others");
        let place = other.take().await.unwrap();
        assert_eq!(places.taken(), 4);
        held.pop();
        assert!(fourth.await.is_some());
        drop((held, place));
        assert_eq!(places.taken(), 0);
        places.drained().await;
        assert!(places.shares().values().all(|share| share.is_idle()));
    }

    #[tokio::test]
    async fn who_waits_for_its_own_share_is_in_nobody_s_way() {
        let places = Places::new(4);
        let (one, other) = (places.of(&KeyId::from("a")), places.of(&KeyId::from("b")));
        let mut calls: Vec<_> = (0..3 + 3 * WAITING_PER_PLACE).map(|_| Box::pin(one.take())).collect();
        let held: Vec<_> = calls.iter_mut().filter_map(|call| call.as_mut().now_or_never()).collect();
        assert_eq!(held.iter().flatten().count(), 3);
        assert!(one.take().await.is_none(), "so many wait for their share");
        let first = other.take().await.unwrap();
        let mut second = Box::pin(other.take());
        assert!(second.as_mut().now_or_never().is_none(), "the other one waits, and is not refused");
        drop(first);
        assert!(second.await.is_some());
        for (count, share) in [(1, 1), (2, 1), (3, 2), (4, 3), (64, 48)] {
            assert_eq!(Places::new(count).share(&KeyId::from("a")).count, share, "of {count}");
        }
    }

    #[tokio::test]
    async fn shares_of_keys_that_are_gone_are_forgotten() {
        let places = Places::new(4);
        let held = places.of(&KeyId::from("kept")).take().await.unwrap();
        for number in 0..IDLE_SHARES * 2 {
            drop(places.of(&KeyId::from(number.to_string().as_str())).take().await);
        }
        assert!(places.shares().len() <= IDLE_SHARES);
        assert!(!places.share(&KeyId::from("kept")).is_idle());
        drop(held);
    }

    #[tokio::test]
    async fn so_many_wait_and_no_more() {
        let places = Places::new(1);
        let _held = places.take().await.unwrap();
        let mut waiting: Vec<_> = (0..WAITING_PER_PLACE).map(|_| Box::pin(places.take())).collect();
        for wait in &mut waiting {
            assert!(wait.as_mut().now_or_never().is_none());
        }
        assert!(places.take().await.is_none());
        drop(waiting);
        assert!(places.take().now_or_never().is_none(), "one that left makes room to wait");
    }
}
