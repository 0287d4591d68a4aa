//! What can go wrong with the store.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Why the store did not do what it was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// Another process has the data folder.
    #[error("`{}` is in use by another toolgate: stop it, or name another folder with `--data-dir`", .0.display())]
    HeldElsewhere(PathBuf),
    /// The file was written by a later version.
    #[error("`{}` has schema {found}, this version knows up to {known}: use the newer toolgate", path.display())]
    NewerSchema { path: PathBuf, found: i64, known: i64 },
    /// The file is a database of something else.
    #[error("`{}` is not a toolgate store: name another folder with `--data-dir`", .0.display())]
    Foreign(PathBuf),
    /// A file of the data folder cannot be made, read or written.
    #[error("`{}`: {reason}", path.display())]
    File { path: PathBuf, reason: Arc<str> },
    /// A secret file holds something else than a secret.
    #[error("`{}` is {found} bytes, a secret is 32: restore it, or remove it and lose what it sealed", path.display())]
    BadSecret { path: PathBuf, found: usize },
    /// A look-up failed.
    #[error("the store cannot be read: {0}")]
    Read(Arc<str>),
    /// Nothing of the batch was written; the next batch tries anew.
    #[error("the store cannot be written: {0}")]
    Write(Arc<str>),
    /// There is a row of that name already.
    #[error("the store has one like it already: {0}")]
    Conflict(Arc<str>),
    /// More writes wait than the queue holds.
    #[error("the store is busy: too many writes are waiting")]
    Busy,
    /// The store was closed, or its writer has died.
    #[error("the store is closed")]
    Closed,
}

impl StoreError {
    pub(super) fn file(path: &Path, error: &io::Error) -> Self {
        Self::File { path: path.to_owned(), reason: error.to_string().into() }
    }

    pub(super) fn read(error: &rusqlite::Error) -> Self {
        Self::Read(error.to_string().into())
    }

    pub(super) fn write(error: &rusqlite::Error) -> Self {
        Self::Write(error.to_string().into())
    }
}
