//! The append-only list of migrations, and the settings of a connection.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, TransactionBehavior};

use super::{Durability, StoreError};

/// `user_version` counts how many of these have run. Append; never edit one that was released.
pub(super) const MIGRATIONS: &[&str] = &[
    include_str!("../../migrations/0001_initial.sql"),
    include_str!("../../migrations/0002_tokens_and_policies.sql"),
    include_str!("../../migrations/0003_insight.sql"),
    include_str!("../../migrations/0004_approvals.sql"),
    include_str!("../../migrations/0005_evals_and_traces.sql"),
    include_str!("../../migrations/0006_evaluation_heads.sql"),
    include_str!("../../migrations/0007_approvals_by_user.sql"),
    include_str!("../../migrations/0008_removed_evaluations.sql"),
];

/// `TGAT`: says in the file's header whose it is (SQLite file format, section 1.3.17).
const APPLICATION_ID: i64 = 0x5447_4154;

/// Bytes of a page. Entries are about 1 KiB: on smaller pages too much of each is left empty.
const PAGE_BYTES: u32 = 8192;

/// Pages of write-ahead log after which a commit checkpoints, whoever makes it: only where there is no checkpointer.
const CHECKPOINT_PAGES: u32 = 16_000;

/// How long a connection waits for a lock. The lock file keeps other gateways out; this is for a person with a database
/// shell.
pub(super) const BUSY_PATIENCE: Duration = Duration::from_secs(2);

/// Opens the connection that writes.
pub(super) fn open_writer(path: &Path, durability: Durability) -> Result<Connection, rusqlite::Error> {
    let connection =
        Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_timeout(BUSY_PATIENCE)?;
    connection.pragma_update(None, "page_size", PAGE_BYTES)?;
    let mode: String = connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
    if mode != "wal" {
        tracing::warn!(mode, "the store's file system has no write-ahead log: commits will be slow");
    }
    let (synchronous, full_sync) = match durability {
        Durability::Process => ("NORMAL", false),
        Durability::Power => ("FULL", true),
    };
    connection.pragma_update(None, "synchronous", synchronous)?;
    connection.pragma_update(None, "fullfsync", full_sync)?;
    connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(connection)
}

/// Opens a connection that only reads.
pub(super) fn open_reader(path: &Path) -> Result<Connection, rusqlite::Error> {
    let connection =
        Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_timeout(BUSY_PATIENCE)?;
    connection.pragma_update(None, "query_only", true)?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(connection)
}

/// Brings the schema up to this version, in one exclusive transaction; says how many steps that took.
pub(super) fn migrate(connection: &mut Connection, path: &Path) -> Result<usize, StoreError> {
    migrate_to(connection, path, MIGRATIONS, APPLICATION_ID)
}

/// The same for any database of ours: its steps, and the id in its header.
pub(super) fn migrate_to(
    connection: &mut Connection,
    path: &Path,
    migrations: &[&str],
    application_id: i64,
) -> Result<usize, StoreError> {
    let failed = |error: rusqlite::Error| StoreError::File { path: path.to_owned(), reason: error.to_string().into() };
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Exclusive).map_err(failed)?;
    let number = |pragma: &str| transaction.query_row(pragma, [], |row| row.get::<_, i64>(0)).map_err(failed);
    let found = number("PRAGMA user_version")?;
    let owner = number("PRAGMA application_id")?;
    let tables = number("SELECT count(*) FROM sqlite_schema")?;
    if owner != application_id && !(owner == 0 && found == 0 && tables == 0) {
        return Err(StoreError::Foreign(path.to_owned()));
    }
    let known = i64::try_from(migrations.len()).unwrap_or(i64::MAX);
    let done = usize::try_from(found).unwrap_or(0);
    let Some(pending) = migrations.get(done..) else {
        return Err(StoreError::NewerSchema { path: path.to_owned(), found, known });
    };
    for migration in pending {
        transaction.execute_batch(migration).map_err(failed)?;
    }
    if !pending.is_empty() {
        transaction.pragma_update(None, "application_id", application_id).map_err(failed)?;
        transaction.pragma_update(None, "user_version", known).map_err(failed)?;
    }
    transaction.commit().map_err(failed)?;
    Ok(pending.len())
}
