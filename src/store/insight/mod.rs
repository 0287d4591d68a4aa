//! What the audit log comes to: counts and latencies by minute and by hour, kept beside the log and derived from it.
//!
//! The log is rolled up from where the last roll-up ended, some hundred entries a transaction, and never by a call: a
//! follower does it now and then, and whoever asks for a summary brings it up to the moment.

mod breakers;
mod cell;
mod roll;
mod summary;
#[cfg(test)]
mod tests;

use super::{Store, StoreError};
use crate::domain::clock::Moment;

pub use breakers::BreakerChange;
pub use cell::Counts;
pub use summary::{Group, Narrow, Resolution, Summary};

/// Entries of one transaction.
const BATCH: usize = 1000;

/// How far a roll-up came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rolled {
    /// Entries that it looked at.
    pub visited: usize,
    /// Entries that are in the log and not counted yet.
    pub behind: u64,
}

impl Store {
    /// Rolls up the next entries of the audit log, about `most` of them.
    ///
    /// # Errors
    /// Where the file cannot be read or written.
    pub async fn roll_up(&self, now: Moment, most: usize) -> Result<Rolled, StoreError> {
        let mut rolled = Rolled::default();
        loop {
            let read = self.readers().read(move |connection| roll::read(connection, now, BATCH)).await?;
            rolled.behind = read.behind;
            if read.is_empty() {
                return Ok(rolled);
            }
            rolled.visited += read.visited;
            let kept = self.write(move |connection| roll::write(connection, &read, now)).await?;
            // Where somebody else was faster, their work counts as well as ours.
            tracing::trace!(kept, "a part of the audit log is rolled up");
            if rolled.visited >= most {
                rolled.behind = self.readers().read(roll::behind).await?;
                return Ok(rolled);
            }
        }
    }

    /// Sums the roll-ups up from `since` on.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub async fn summary(
        &self,
        resolution: Resolution,
        since: Moment,
        until: Moment,
        narrow: Narrow,
    ) -> Result<Summary, StoreError> {
        self.readers().read(move |connection| summary::read(connection, resolution, since, until, &narrow)).await
    }

    /// Notes that a breaker opened or closed.
    ///
    /// # Errors
    /// Where it was not committed.
    pub async fn note_breaker(&self, change: BreakerChange) -> Result<(), StoreError> {
        self.write(move |connection| breakers::add(connection, &change)).await
    }

    /// The latest changes of breakers since a moment, newest first, at most `limit`; of these servers alone where some are
    /// named. And how many there are besides.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub async fn breaker_changes(
        &self,
        since: Moment,
        servers: Option<Vec<String>>,
        limit: usize,
    ) -> Result<(Vec<BreakerChange>, usize), StoreError> {
        self.readers().read(move |connection| breakers::since(connection, since, servers.as_deref(), limit)).await
    }
}
