//! One transaction, and what a change in it is.

use rusqlite::{Connection, ErrorCode};
use tokio::sync::oneshot;

use super::StoreError;

/// Takes the result of a change once it is committed.
pub(super) type Reply<T> = oneshot::Sender<Result<T, StoreError>>;

/// An immediate transaction: rolled back, unless committed. Its statements are kept.
pub(super) struct Transaction<'a>(&'a Connection);

impl<'a> Transaction<'a> {
    pub(super) fn begin(connection: &'a Connection) -> rusqlite::Result<Self> {
        connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        Ok(Self(connection))
    }

    pub(super) fn commit(self) -> rusqlite::Result<()> {
        self.0.prepare_cached("COMMIT")?.execute([]).map(drop)
    }
}

impl Drop for Transaction<'_> {
    fn drop(&mut self) {
        if !self.0.is_autocommit()
            && let Err(error) = self.0.execute_batch("ROLLBACK")
        {
            tracing::error!(%error, "a batch could not be undone");
        }
    }
}

/// A change to the store with its waiter.
pub(super) trait Work: Send {
    fn run(&mut self, connection: &Connection) -> rusqlite::Result<()>;
    fn finish(self: Box<Self>, committed: Result<(), StoreError>);
}

/// A change as a closure.
pub(super) struct Task<T, F> {
    act: Option<F>,
    result: Option<Result<T, StoreError>>,
    reply: Reply<T>,
}

impl<T, F> Task<T, F> {
    pub(super) const fn new(act: F, reply: Reply<T>) -> Self {
        Self { act: Some(act), result: None, reply }
    }
}

impl<T, F> Work for Task<T, F>
where
    T: Send,
    F: FnOnce(&Connection) -> rusqlite::Result<T> + Send,
{
    /// A broken constraint is this task's own fault and undoes this task alone; every other fault is the batch's.
    fn run(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        let Some(act) = self.act.take() else { return Ok(()) };
        connection.execute_batch("SAVEPOINT task")?;
        match act(connection) {
            Ok(value) => self.result = Some(Ok(value)),
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::ConstraintViolation) => {
                connection.execute_batch("ROLLBACK TO task")?;
                self.result = Some(Err(StoreError::Conflict(error.to_string().into())));
            }
            Err(error) => return Err(error),
        }
        connection.execute_batch("RELEASE task")
    }

    fn finish(self: Box<Self>, committed: Result<(), StoreError>) {
        let Self { result, reply, .. } = *self;
        // A waiter that has gone is nobody's loss.
        drop(reply.send(committed.and_then(|()| result.unwrap_or(Err(StoreError::Closed)))));
    }
}
