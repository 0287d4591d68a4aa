//! Places among the calls in flight at a server: so many in all, and of them a share for each key, so that nobody whose
//! calls are slow keeps the server from everybody else.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::domain::id::KeyId;

/// Calls that may wait for a place, for each place.
const WAITING_PER_PLACE: usize = 16;

/// The places of one server.
#[derive(Debug, Clone)]
pub(crate) struct Places(Arc<Inner>, Option<KeyId>);

#[derive(Debug)]
struct Inner {
    count: usize,
    all: Arc<Semaphore>,
    waiting: AtomicUsize,
    /// The shares of the keys that have calls in flight.
    shares: Mutex<HashMap<KeyId, Weak<Semaphore>>>,
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

impl Places {
    pub(crate) fn new(count: usize) -> Self {
        let count = count.clamp(1, Semaphore::MAX_PERMITS);
        let all = Arc::new(Semaphore::new(count));
        Self(Arc::new(Inner { count, all, waiting: AtomicUsize::new(0), shares: Mutex::default() }), None)
    }

    /// As one key sees them.
    pub(crate) fn of(&self, key: &KeyId) -> Self {
        Self(Arc::clone(&self.0), Some(key.clone()))
    }

    /// A place; `None` where too many wait for one already.
    pub(crate) async fn take(&self) -> Option<Taken> {
        let share = self.1.as_ref().map(|key| self.share(key));
        let of_key = match &share {
            Some(share) => Some(self.wait(share).await?),
            None => None,
        };
        Some(Taken { _of_all: self.wait(&self.0.all).await?, _of_key: of_key })
    }

    async fn wait(&self, places: &Arc<Semaphore>) -> Option<OwnedSemaphorePermit> {
        if let Ok(place) = Arc::clone(places).try_acquire_owned() {
            return Some(place);
        }
        let most = self.0.count.saturating_mul(WAITING_PER_PLACE);
        let waiting = Waiting(&self.0.waiting);
        if self.0.waiting.fetch_add(1, Ordering::Relaxed) >= most {
            return None;
        }
        let place = Arc::clone(places).acquire_owned().await.ok();
        drop(waiting);
        place
    }

    /// A key has all but a quarter of the places.
    fn share(&self, key: &KeyId) -> Arc<Semaphore> {
        let mut shares = self.shares();
        if let Some(share) = shares.get(key).and_then(Weak::upgrade) {
            return share;
        }
        shares.retain(|_, share| share.strong_count() > 0);
        let share = Arc::new(Semaphore::new(self.0.count - self.0.count / 4));
        shares.insert(key.clone(), Arc::downgrade(&share));
        share
    }

    fn shares(&self) -> MutexGuard<'_, HashMap<KeyId, Weak<Semaphore>>> {
        self.0.shares.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Calls that have a place.
    pub(crate) fn taken(&self) -> usize {
        self.0.count.saturating_sub(self.0.all.available_permits())
    }

    /// Waits until no call is in flight.
    pub(crate) async fn drained(&self) {
        let all = u32::try_from(self.0.count).unwrap_or(u32::MAX);
        drop(self.0.all.acquire_many(all).await);
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
        assert!(places.shares().values().all(|share| share.strong_count() == 0));
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
