//! Work that takes long: parsing and scanning of what was made to be dense. It is done beside the threads that answer, a few
//! at a time, and of those each key has a share: whoever sends much of it waits for themselves.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::domain::id::KeyId;

/// Seats for each core: the threads that answer get their part of it too.
const SEATS_A_CORE: usize = 2;

/// The seats.
#[derive(Debug, Clone)]
pub struct Long(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    count: usize,
    seats: Arc<Semaphore>,
    /// The shares of the keys that have work here.
    shares: Mutex<HashMap<KeyId, Weak<Semaphore>>>,
}

/// The work broke off.
#[derive(Debug)]
pub struct BrokeOff;

impl Default for Long {
    fn default() -> Self {
        Self::with(SEATS_A_CORE * std::thread::available_parallelism().map_or(1, usize::from))
    }
}

impl Long {
    fn with(count: usize) -> Self {
        Self(Arc::new(Inner { count, seats: Arc::new(Semaphore::new(count)), shares: Mutex::default() }))
    }

    /// Does some work of a key's once there is a seat. It goes on to its end, and holds its seat, even where nobody waits for
    /// it any more.
    ///
    /// # Errors
    /// Where it broke off.
    pub async fn work<T: Send + 'static>(
        &self,
        key: &KeyId,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, BrokeOff> {
        let share = self.share(key);
        let seat = (seat(share).await?, seat(Arc::clone(&self.0.seats)).await?);
        let done = tokio::task::spawn_blocking(move || {
            let done = work();
            drop(seat);
            done
        });
        done.await.map_err(|error| {
            tracing::error!(%error, "long work broke off");
            BrokeOff
        })
    }

    /// A key has half of the seats.
    fn share(&self, key: &KeyId) -> Arc<Semaphore> {
        let mut shares = self.0.shares.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(share) = shares.get(key).and_then(Weak::upgrade) {
            return share;
        }
        shares.retain(|_, share| share.strong_count() > 0);
        let share = Arc::new(Semaphore::new(self.0.count.div_ceil(2)));
        shares.insert(key.clone(), Arc::downgrade(&share));
        share
    }
}

async fn seat(seats: Arc<Semaphore>) -> Result<OwnedSemaphorePermit, BrokeOff> {
    seats.acquire_owned().await.map_err(|_| BrokeOff)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn one_key_leaves_seats_to_others() {
        let long = Long::with(2);
        let (many, other) = (KeyId::fresh(), KeyId::fresh());
        let (go, wait) = mpsc::channel::<()>();
        let wait = Arc::new(Mutex::new(wait));
        let slow = |of: &KeyId| {
            let (long, of, wait) = (long.clone(), of.clone(), Arc::clone(&wait));
            async move { long.work(&of, move || wait.lock().unwrap().recv().unwrap()).await.unwrap() }
        };
        let mut waiting = Box::pin(futures_util::future::join3(slow(&many), slow(&many), slow(&many)));
        assert!(futures_util::poll!(&mut waiting).is_pending());
        assert_eq!(long.work(&other, || 7).await.unwrap(), 7, "a seat is left");
        (0..3).for_each(|_| go.send(()).unwrap());
        waiting.await;
        assert_eq!(long.work(&many, || 8).await.unwrap(), 8);
        long.share(&KeyId::fresh());
        assert_eq!(long.0.shares.lock().unwrap().len(), 1, "who has no work is forgotten");
        assert_eq!(long.0.seats.available_permits(), 2);
    }

    #[tokio::test]
    async fn work_that_breaks_off_leaves_its_seat() {
        let long = Long::with(1);
        let key = KeyId::fresh();
        assert!(long.work(&key, || -> u8 { std::panic::panic_any(1) }).await.is_err());
        assert_eq!(long.work(&key, || 1).await.unwrap(), 1);
    }
}
