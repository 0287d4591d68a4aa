//! A few connections that only read, so that a long export never delays a commit.

use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use rusqlite::Connection;
use tokio::sync::Semaphore;

use super::StoreError;
use super::schema::open_reader;

const READERS: usize = 2;

#[derive(Debug)]
pub(super) struct Readers {
    idle: Mutex<Vec<Connection>>,
    returned: Condvar,
    /// Keeps async callers from filling the blocking threads with waiters; a reading keeps its turn when its caller leaves.
    turns: Arc<Semaphore>,
}

impl Readers {
    pub(super) fn open(path: &Path) -> Result<Arc<Self>, rusqlite::Error> {
        let idle = (0..READERS).map(|_| open_reader(path)).collect::<Result<Vec<_>, _>>()?;
        Ok(Arc::new(Self {
            idle: Mutex::new(idle),
            returned: Condvar::new(),
            turns: Arc::new(Semaphore::new(READERS)),
        }))
    }

    /// Reads on a thread where blocking is allowed.
    pub(super) async fn read<T, F>(self: &Arc<Self>, act: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        let turn = Arc::clone(&self.turns).acquire_owned().await.map_err(|_| StoreError::Closed)?;
        let readers = Arc::clone(self);
        let work = move || {
            let read = readers.read_here(act);
            drop(turn);
            read
        };
        tokio::task::spawn_blocking(work).await.map_err(|_| StoreError::Closed)?
    }

    /// Reads on this thread, waiting for a connection: not for async code.
    pub(super) fn read_here<T, F>(&self, act: F) -> Result<T, StoreError>
    where
        F: FnOnce(&Connection) -> rusqlite::Result<T>,
    {
        let borrowed = self.borrow();
        let connection = borrowed.connection.as_ref().ok_or(StoreError::Closed)?;
        act(connection).map_err(|error| StoreError::read(&error))
    }

    fn borrow(&self) -> Borrowed<'_> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let mut idle = self.returned.wait_while(idle, |idle| idle.is_empty()).unwrap_or_else(PoisonError::into_inner);
        Borrowed { readers: self, connection: idle.pop() }
    }
}

/// Gives the connection back, also where the reading code unwinds.
struct Borrowed<'a> {
    readers: &'a Readers,
    connection: Option<Connection>,
}

impl Drop for Borrowed<'_> {
    fn drop(&mut self) {
        self.readers.idle.lock().unwrap_or_else(PoisonError::into_inner).extend(self.connection.take());
        self.readers.returned.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use futures_util::FutureExt;

    use super::*;

    /// Else whoever asks and leaves, again and again, fills the blocking threads.
    #[tokio::test]
    async fn a_reading_that_was_left_keeps_its_turn_to_its_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.db");
        Connection::open(&path).unwrap().execute_batch("CREATE TABLE t (n)").unwrap();
        let readers = Readers::open(&path).unwrap();
        let mut ends = Vec::new();
        for _ in 0..READERS {
            let (end, waits) = mpsc::channel::<()>();
            let act = move |_: &Connection| Ok(waits.recv().is_ok());
            assert!(readers.read(act).now_or_never().is_none());
            ends.push(end);
        }
        let mut next = Box::pin(readers.read(|_| Ok(())));
        assert!(next.as_mut().now_or_never().is_none());
        assert_eq!(readers.turns.available_permits(), 0);
        drop(ends);
        next.await.unwrap();
    }
}
