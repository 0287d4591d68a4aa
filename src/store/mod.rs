//! What outlives the process: keys, the audit log, small documents, and the secrets beside them.
//!
//! SQLite behind a narrow surface, which another database could stand behind: nothing outside this module names
//! `rusqlite`. One connection writes, and commits everything that waits in one transaction; a few read. No async caller
//! ever waits inside SQLite: a call commits by itself only where that is a write to the page cache, and leaves to a
//! thread whatever may wait for the disk or for a lock.
//!
//! The data folder holds `toolgate.db` and, once entities were imported, `brain.db`, each with its `-wal` and `-shm`,
//! `lock`, `NAME.secret` files and `audit-head`, all readable by their owner alone.

mod approvals;
mod audit;
pub mod brain;
pub mod chain;
mod checkpoint;
mod documents;
mod error;
mod evals;
mod files;
mod grants;
mod insight;
mod keys;
mod policies;
mod queue;
mod readers;
mod review;
mod schema;
mod sealed;
#[cfg(test)]
pub(crate) mod tamper;
#[cfg(test)]
mod tests;
mod traces;
mod transaction;
mod writer;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rusqlite::Connection;
use tokio::sync::oneshot;

pub use crate::domain::audit::Durability;
pub use approvals::{
    ApprovalBound, ApprovalFacts, ApprovalFilter, ApprovalLimits, ApprovalRecord, Asked, Decided, NewApproval,
    Used as UsedApproval,
};
pub use audit::{AuditRecord, Filter, Found, IntentLink, Link, Links, Row};
pub use error::StoreError;
pub use evals::{
    MOST_SUITE_MIB, MOST_SUITE_MIB_OF_KEY, MOST_SUITES, MOST_SUITES_OF_KEY, Part, RunPick, RunRecord, SuiteHead,
    SuitePut, SuiteRecord,
};
pub use files::Key32;
pub use grants::GrantRecord;
pub use insight::{BreakerChange, Counts, Group, Narrow, Resolution, Rolled, Summary};
pub use keys::KeyRecord;
pub use policies::{NewVersion, PolicyRecord};
pub use sealed::Resealed;
pub use traces::TraceRecord;

use chain::Tip;
use queue::Job;
use readers::Readers;
use sealed::SealingKeys;
use writer::Writer;

const DATABASE: &str = "toolgate.db";
const HEAD: &str = "audit-head";

/// A handle on the store; cheap to clone. The last one to go stops the writer and frees the folder.
#[derive(Debug, Clone)]
pub struct Store(Arc<Inner>);

/// Dropped from top to bottom: the lock goes when nothing can write any more.
#[derive(Debug)]
struct Inner {
    writer: Writer,
    readers: Arc<Readers>,
    brain: brain::Cabinet,
    folder: PathBuf,
    durability: Durability,
    sealing: SealingKeys,
    _lock: File,
}

impl Store {
    /// Whether there is a store in `folder`.
    #[must_use]
    pub fn exists(folder: &Path) -> bool {
        folder.join(DATABASE).is_file()
    }

    /// Opens the store in `folder`, which is made where it does not exist, and holds it alone.
    ///
    /// # Errors
    /// Where another process holds the folder, a file cannot be made, or the schema is not ours or newer than ours.
    pub fn open(folder: &Path, durability: Durability) -> Result<Self, StoreError> {
        files::make_folder(folder)?;
        let lock = files::lock(folder)?;
        let path = folder.join(DATABASE);
        // SQLite gives the log beside it the same permissions.
        files::open_private(&path).map_err(|error| StoreError::file(&path, &error))?;
        let failed = |error: rusqlite::Error| StoreError::File { path: path.clone(), reason: error.to_string().into() };
        let mut connection = schema::open_writer(&path, durability).map_err(failed)?;
        schema::migrate(&mut connection, &path)?;
        let readers = Readers::open(&path).map_err(failed)?;
        let writer = Writer::start(connection, &path, durability)?;
        let (brain, sealing) = (brain::Cabinet::new(folder), SealingKeys::default());
        let folder = folder.to_owned();
        Ok(Self(Arc::new(Inner { writer, readers, brain, folder, durability, sealing, _lock: lock })))
    }

    /// Writes what is queued, checkpoints and ends the writer; later writes are refused. Closing twice is no error.
    ///
    /// # Errors
    /// Where something that waited could not be written.
    pub async fn close(&self) -> Result<(), StoreError> {
        let (reply, done) = oneshot::channel();
        match self.writer().send(Job::Stop(reply)) {
            // Without a reply, another close came first.
            Ok(()) => done.await.unwrap_or(Ok(())),
            Err(StoreError::Closed) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// What a committed row survives.
    #[must_use]
    pub fn durability(&self) -> Durability {
        self.0.durability
    }

    /// Whether the last batch could be written. False until a later one is; see [`Store::probe`].
    #[must_use]
    pub fn healthy(&self) -> bool {
        !self.writer().gauges.failing.load(Ordering::SeqCst) && self.writer().is_alive()
    }

    /// Finds out, by writing, whether the store can be written.
    ///
    /// # Errors
    /// Where it cannot.
    pub async fn probe(&self) -> Result<(), StoreError> {
        self.write(|connection| connection.execute("UPDATE probe SET count = count + 1", []).map(drop)).await
    }

    /// Transactions committed since the store was opened.
    #[must_use]
    pub fn commits(&self) -> u64 {
        self.writer().gauges.commits.load(Ordering::Relaxed)
    }

    /// Counts the calls whose record is open.
    pub(crate) fn in_flight(&self) -> &AtomicUsize {
        &self.writer().gauges.in_flight
    }

    /// Audit entries that were given up because the disk stayed unwritable.
    #[must_use]
    pub fn lost_entries(&self) -> u64 {
        self.writer().gauges.lost.load(Ordering::Relaxed)
    }

    /// The 32 random bytes of this name, made on first use and kept in a file of their own.
    ///
    /// # Errors
    /// Where the file cannot be read, made, or is not a secret. It is never overwritten.
    pub fn secret(&self, name: &'static str) -> Result<Key32, StoreError> {
        files::secret(&self.0.folder, name)
    }

    /// Keeps the head of the chain in a file beside the database, so that a database cut short is noticed.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub async fn keep_head(&self, tip: Tip) -> Result<(), StoreError> {
        let path = self.0.folder.join(HEAD);
        let text = format!("{} {}\n", tip.seq, crate::domain::json::hex(&tip.hash));
        let write = move || files::replace(&path, text.as_bytes()).map_err(|error| StoreError::file(&path, &error));
        tokio::task::spawn_blocking(write).await.map_err(|_| StoreError::Closed)?
    }

    /// The head that was kept last, as `seq` and hexadecimal hash.
    #[must_use]
    pub fn kept_head(&self) -> Option<(i64, String)> {
        let text = std::fs::read_to_string(self.0.folder.join(HEAD)).ok()?;
        let (seq, hash) = text.trim_end().split_once(' ')?;
        Some((seq.parse().ok()?, hash.to_owned()))
    }

    async fn write<T, F>(&self, act: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        self.writer().write(act).await
    }

    fn writer(&self) -> &Writer {
        &self.0.writer
    }

    fn readers(&self) -> &Arc<Readers> {
        &self.0.readers
    }
}
