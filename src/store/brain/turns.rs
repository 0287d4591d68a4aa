//! Who reads when: so many at once, and of each holder fewer, so that whoever asks for much waits for himself alone.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};

/// The turns of all holders.
#[derive(Debug)]
pub(super) struct Turns {
    all: Semaphore,
    of_each: usize,
    /// Of those who read or wait.
    shares: Mutex<HashMap<Arc<str>, Weak<Semaphore>>>,
}

/// A turn, until it is dropped.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    _of_all: SemaphorePermit<'a>,
    _of_holder: OwnedSemaphorePermit,
}

impl Turns {
    pub(super) fn new(all: usize, of_each: usize) -> Self {
        Self { all: Semaphore::new(all), of_each, shares: Mutex::default() }
    }

    /// Waits for a turn, behind those of the same holder and then behind one or two of each other.
    pub(super) async fn take(&self, holder: &Arc<str>) -> Option<Turn<'_>> {
        let of_holder = self.share(holder).acquire_owned().await.ok()?;
        Some(Turn { _of_all: self.all.acquire().await.ok()?, _of_holder: of_holder })
    }

    fn share(&self, holder: &Arc<str>) -> Arc<Semaphore> {
        let mut shares = self.shares.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(share) = shares.get(holder).and_then(Weak::upgrade) {
            return share;
        }
        shares.retain(|_, share| share.strong_count() > 0);
        let share = Arc::new(Semaphore::new(self.of_each));
        shares.insert(Arc::clone(holder), Arc::downgrade(&share));
        share
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::FutureExt;
    use tempfile::TempDir;

    use super::super::{Brain, Reading, Unread};
    use super::*;
    use crate::domain::audit::Durability;
    use crate::domain::id::KeyId;
    use crate::store::Store;

    const LONG: Duration = Duration::from_secs(30);

    #[tokio::test]
    async fn a_holder_waits_for_himself_and_nobody_is_remembered() {
        let turns = Turns::new(4, 2);
        let (a, b): (Arc<str>, Arc<str>) = ("a".into(), "b".into());
        let held = [turns.take(&a).await.unwrap(), turns.take(&a).await.unwrap()];
        let mut third = Box::pin(turns.take(&a));
        assert!(third.as_mut().now_or_never().is_none());
        let other = turns.take(&b).now_or_never().flatten();
        assert!(other.is_some(), "nobody of the same holder is before him");
        drop(held);
        assert!(third.await.is_some());
        drop(other);
        let _last = turns.take(&"c".into()).await;
        assert_eq!(turns.shares.lock().unwrap().len(), 1);
    }

    /// Would never end by itself.
    fn endless(reading: &Reading<'_>) -> Result<(), Unread> {
        loop {
            reading.types()?;
        }
    }

    #[tokio::test]
    async fn one_key_does_not_take_the_entities_from_another() {
        let folder = TempDir::new().unwrap();
        let store = Store::open(folder.path(), Durability::Process).unwrap();
        let of = |key: &str| -> Brain { store.brain().of(&KeyId::from(key)) };
        let greedy = of("greedy");
        let mut under_way: Vec<_> = (0..40).map(|_| Box::pin(greedy.read(LONG, endless))).collect();
        for reading in &mut under_way {
            assert!(reading.as_mut().now_or_never().is_none());
        }
        let other = of("other");
        let quick = other.read(LONG, |reading| reading.types());
        let types = tokio::time::timeout(Duration::from_secs(10), quick).await;
        assert!(types.is_ok_and(|types| types.is_ok()), "the turns of the first are all that it waits for");
    }

    #[tokio::test]
    async fn waiting_is_not_counted_as_reading() {
        let folder = TempDir::new().unwrap();
        let brain = Store::open(folder.path(), Durability::Process).unwrap().brain();
        let short = Duration::from_millis(100);
        let (one, other, waits) = tokio::join!(
            brain.read(3 * short, endless),
            brain.read(3 * short, endless),
            brain.read(short, |reading| reading.types())
        );
        assert!(matches!((one, other), (Err(Unread::TooLong), Err(Unread::TooLong))));
        assert!(waits.is_ok(), "{waits:?}");
    }
}
