//! Looking back: searches, the calls that a call made, and what the log comes to.

use super::{Journal, JournalError, Record};
use crate::domain::clock::Moment;
use crate::store::{BreakerChange, Filter, Narrow, Resolution, Rolled, Summary};

/// What a search found, newest first.
#[derive(Debug)]
pub struct Found {
    pub records: Vec<Record>,
    /// The `before` of the next page; a page may be short, or empty, and have a successor.
    pub next: Option<i64>,
    /// Entries that were looked at.
    pub visited: usize,
}

impl Journal {
    /// Closed records that match and come before the entry `before`, at most `limit`, and what finding them cost.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub async fn search(&self, filter: Filter, before: Option<i64>, limit: usize) -> Result<Found, JournalError> {
        let found = self.0.store.audit_search(filter, before, limit).await?;
        let records = found.records.into_iter().map(Record::from).collect();
        Ok(Found { records, next: found.next, visited: found.visited })
    }

    /// The records of calls that this one made, oldest first, at most `limit`.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub async fn children(&self, id: &str, limit: usize) -> Result<Vec<Record>, JournalError> {
        Ok(self.0.store.audit_children(id, limit).await?.into_iter().map(Record::from).collect())
    }

    /// How many calls this one made.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub async fn count_children(&self, id: &str) -> Result<usize, JournalError> {
        Ok(self.0.store.count_audit_children(id).await?)
    }

    /// Rolls up the next entries of the log, about `most` of them.
    ///
    /// # Errors
    /// Where the store cannot be read or written.
    pub async fn roll_up(&self, most: usize) -> Result<Rolled, JournalError> {
        Ok(self.0.store.roll_up(self.0.clock.now(), most).await?)
    }

    /// What the roll-ups of a window come to.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub async fn summary(
        &self,
        resolution: Resolution,
        since: Moment,
        until: Moment,
        narrow: Narrow,
    ) -> Result<Summary, JournalError> {
        Ok(self.0.store.summary(resolution, since, until, narrow).await?)
    }

    /// The latest changes of breakers since a moment, newest first, at most `limit`; of these servers alone where some are
    /// named. And how many there are besides.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub async fn breaker_changes(
        &self,
        since: Moment,
        servers: Option<Vec<String>>,
        limit: usize,
    ) -> Result<(Vec<BreakerChange>, usize), JournalError> {
        Ok(self.0.store.breaker_changes(since, servers, limit).await?)
    }
}
