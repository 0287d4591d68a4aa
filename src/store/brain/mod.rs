//! What the company knows: typed entities with attributes, in a database of their own, `brain.db`.
//!
//! It is opened when it is first needed. One connection writes, a batch a transaction; a few read, each for a bounded
//! time: whoever asks is interrupted, in whatever statement, when the time is over or nobody waits any more.
//!
//! It can be lost without harm to what was decided and recorded, and grows to millions of entities: hence the file.

mod reading;
mod relate;
mod schema;
#[cfg(test)]
mod tests;
mod turns;
mod words;
mod write;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, InterruptHandle};

pub use reading::{Found, Indexed, Reading, Source};
pub use schema::{Attribute, EntityType, Kinds, Related, TypeId};
pub use words::{texts, words, words_of};
pub use write::{
    Entity, MAX_ATTRIBUTES, MAX_ENTITY_BYTES, MAX_TYPES, Relation, Unwritten, Written, is_type_name, key_text,
};

use self::turns::Turns;
use super::{Store, StoreError, files};
use crate::domain::id::KeyId;

const DATABASE: &str = "brain.db";
const READERS: usize = 4;
/// Readings of one key at the same time; its others wait for them.
pub const READINGS_OF_KEY: usize = 2;
/// How long a reading waits for its turn.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often a statement is told to end, once its time is over: one that was just about to begin hears it then.
const NAGGING: Duration = Duration::from_millis(5);

/// Why nothing was read.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Unread {
    /// The time was over.
    #[error("it took too long")]
    TooLong,
    /// It did not come to its turn.
    #[error("too many others read: try again in a moment")]
    Busy,
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Unread {
    fn of(error: &rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(rusqlite::ErrorCode::OperationInterrupted) => Self::TooLong,
            _ => Self::Store(StoreError::read(error)),
        }
    }
}

/// A handle on the entities, and who reads by it; cheap to clone.
#[derive(Debug, Clone)]
pub struct Brain(Store, Arc<str>);

/// The part of the store that holds them.
#[derive(Debug)]
pub(super) struct Cabinet {
    path: PathBuf,
    opened: Mutex<Option<Arc<Opened>>>,
    /// Keeps async callers from filling the blocking threads with waiters.
    turns: Turns,
    /// One batch at a time.
    writing: tokio::sync::Mutex<()>,
}

#[derive(Debug)]
struct Opened {
    writer: Mutex<Connection>,
    idle: Mutex<Vec<Connection>>,
}

impl Cabinet {
    pub(super) fn new(folder: &std::path::Path) -> Self {
        Self {
            path: folder.join(DATABASE),
            opened: Mutex::default(),
            turns: Turns::new(READERS, READINGS_OF_KEY),
            writing: tokio::sync::Mutex::default(),
        }
    }
}

impl Store {
    /// The entities of this store, as the gateway itself reads them.
    #[must_use]
    pub fn brain(&self) -> Brain {
        Brain(self.clone(), Arc::default())
    }
}

impl Brain {
    /// As one key reads them.
    #[must_use]
    pub fn of(&self, key: &KeyId) -> Self {
        Self(self.0.clone(), key.as_str().into())
    }

    fn cabinet(&self) -> &Cabinet {
        &self.0.0.brain
    }

    /// Whether anything was ever written.
    #[must_use]
    pub fn exists(&self) -> bool {
        self.cabinet().path.is_file()
    }

    /// Writes a batch in one transaction: each entity anew, in place of the one of its type and key, or not at all where
    /// that is the same already.
    ///
    /// # Errors
    /// Where nothing was committed. An entity that does not fit is no error: it is among the faults.
    pub async fn write(&self, entities: Vec<Entity>, relations: Vec<Relation>) -> Result<Written, StoreError> {
        let brain = self.clone();
        let _turn = self.cabinet().writing.lock().await;
        let work = move || {
            let opened = brain.open()?;
            let mut connection = opened.writer.lock().unwrap_or_else(PoisonError::into_inner);
            write::write(&mut connection, &entities, &relations).map_err(|error| StoreError::write(&error))
        };
        tokio::task::spawn_blocking(work).await.map_err(|_| StoreError::Closed)?
    }

    /// Reads on a thread where blocking is allowed, for at most so long once it has its turn, and only while somebody waits.
    ///
    /// # Errors
    /// What `act` says, [`Unread::TooLong`] where the time was over, [`Unread::Busy`] where no turn came.
    pub async fn read<T, E, F>(&self, within: Duration, act: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<Unread> + Send + 'static,
        F: FnOnce(&Reading<'_>) -> Result<T, E> + Send + 'static,
    {
        let closed = || Unread::Store(StoreError::Closed);
        let turn = tokio::time::timeout(PATIENCE, self.cabinet().turns.take(&self.1)).await;
        let _turn = turn.map_err(|_| Unread::Busy)?.ok_or_else(closed)?;
        let stop = Stop::default();
        let (brain, inside, _waiting) = (self.clone(), stop.clone(), Waiting(stop.clone()));
        let work = move || {
            let connection = brain.reader()?;
            // What is written meanwhile is not seen by half.
            connection.execute_batch("BEGIN").map_err(|error| Unread::of(&error))?;
            inside.watch(&connection);
            let read = act(&Reading::new(&connection, &inside.0.over));
            inside.rest();
            if connection.execute_batch("ROLLBACK").is_ok() {
                brain.give_back(connection);
            }
            read
        };
        let mut task = tokio::task::spawn_blocking(work);
        let done = match tokio::time::timeout(within, &mut task).await {
            Ok(done) => done,
            Err(_) => loop {
                stop.say();
                if let Ok(done) = tokio::time::timeout(NAGGING, &mut task).await {
                    break done;
                }
            },
        };
        done.map_err(|_| closed())?
    }

    fn open(&self) -> Result<Arc<Opened>, StoreError> {
        let cabinet = self.cabinet();
        let mut opened = cabinet.opened.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(opened) = &*opened {
            return Ok(Arc::clone(opened));
        }
        let path = &cabinet.path;
        files::open_private(path).map_err(|error| StoreError::file(path, &error))?;
        let connection = schema::open(path, self.0.durability())?;
        let fresh = Arc::new(Opened { writer: Mutex::new(connection), idle: Mutex::default() });
        *opened = Some(Arc::clone(&fresh));
        Ok(fresh)
    }

    /// A connection that reads; of an empty database where nothing was ever written, so that looking makes no file.
    fn reader(&self) -> Result<Connection, Unread> {
        if !self.exists() {
            return Ok(schema::empty()?);
        }
        let idle = self.open()?.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        Ok(idle.map_or_else(|| schema::open_reader(&self.cabinet().path), Ok)?)
    }

    fn give_back(&self, connection: Connection) {
        if connection.path().is_some_and(|path| !path.is_empty())
            && let Ok(opened) = self.open()
        {
            opened.idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
        }
    }
}

/// Ends a reading from outside; dropping the last one outside does too.
#[derive(Debug, Clone, Default)]
struct Stop(Arc<Watched>);

#[derive(Default)]
struct Watched {
    over: AtomicBool,
    handle: Mutex<Option<InterruptHandle>>,
}

impl std::fmt::Debug for Watched {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watched").field("over", &self.over).finish_non_exhaustive()
    }
}

impl Stop {
    fn watch(&self, connection: &Connection) {
        *self.0.handle.lock().unwrap_or_else(PoisonError::into_inner) = Some(connection.get_interrupt_handle());
    }

    /// The connection is somebody else's now.
    fn rest(&self) {
        *self.0.handle.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn say(&self) {
        self.0.over.store(true, Ordering::SeqCst);
        if let Some(handle) = &*self.0.handle.lock().unwrap_or_else(PoisonError::into_inner) {
            handle.interrupt();
        }
    }
}

/// Says stop when the caller goes away.
#[derive(Debug)]
struct Waiting(Stop);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.say();
    }
}
