//! Moves committed pages from the write-ahead log into the database, beside the writer: the waiting for the disk that
//! this costs is nobody's who has a call in flight.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::{self, JoinHandle};

use rusqlite::Connection;

use super::writer::Gauges;

/// Bytes of entries, roughly, after which it is worth the trouble.
const EVERY_BYTES: usize = 8 << 20;

/// A thread with a connection of its own.
#[derive(Debug)]
pub(super) struct Checkpointer {
    wake: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
    written: usize,
}

impl Checkpointer {
    /// Starts the thread. Without it the writer checkpoints by itself, only less smoothly; so failing is no error.
    pub(super) fn start(
        open: impl FnOnce() -> rusqlite::Result<Connection> + Send + 'static,
        path: &Path,
        gauges: Arc<Gauges>,
    ) -> Self {
        let (wake, wakened) = sync_channel(1);
        let work = move || {
            let Ok(connection) = open() else { return };
            while wakened.recv().is_ok() {
                match connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| row.get(1)) {
                    Ok(pages) => gauges.log_pages.store(pages, Ordering::Relaxed),
                    Err(error) => tracing::debug!(%error, "a checkpoint failed: the next one does its work"),
                }
            }
        };
        let thread = thread::Builder::new().name("store-checkpoint".into()).spawn(work);
        if let Err(error) = &thread {
            tracing::warn!(%error, path = %path.display(), "no thread for checkpoints");
        }
        Self { wake: Some(wake), thread: thread.ok(), written: 0 }
    }

    /// Says that so many bytes more were committed.
    pub(super) fn committed(&mut self, bytes: usize) {
        self.written += bytes;
        if self.written >= EVERY_BYTES {
            self.written = 0;
            // A full channel means that it has been told already; a closed one, that it has gone.
            let told = self.wake.as_ref().is_some_and(|wake| wake.try_send(()).is_ok());
            tracing::trace!(told, "a checkpoint is due");
        }
    }
}

impl Drop for Checkpointer {
    fn drop(&mut self) {
        self.wake = None;
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the checkpointer has panicked");
        }
    }
}
