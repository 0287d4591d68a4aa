//! When breakers opened and closed.

use rusqlite::{Connection, params};

use crate::domain::clock::Moment;

/// Changes that are kept.
const KEPT: i64 = 5000;

/// A breaker opened or closed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BreakerChange {
    pub time: Moment,
    pub server: String,
    /// `open` or `closed`.
    pub state: String,
    /// The fault that opened it, in a word; empty where it closed.
    pub why: String,
}

pub(super) fn add(connection: &Connection, change: &BreakerChange) -> rusqlite::Result<()> {
    let BreakerChange { time, server, state, why } = change;
    let sql = "INSERT INTO breaker_changes (time, server, state, why) VALUES (?1, ?2, ?3, ?4)";
    connection.prepare_cached(sql)?.execute(params![time.0, server, state, why])?;
    let last = connection.last_insert_rowid();
    let forget = "DELETE FROM breaker_changes WHERE number <= ?1";
    connection.prepare_cached(forget)?.execute([last.saturating_sub(KEPT)]).map(drop)
}

pub(super) fn since(connection: &Connection, since: Moment, limit: usize) -> rusqlite::Result<Vec<BreakerChange>> {
    let sql = "SELECT time, server, state, why FROM breaker_changes WHERE time >= ?1 ORDER BY number DESC LIMIT ?2";
    let change = |row: &rusqlite::Row<'_>| {
        Ok(BreakerChange { time: Moment(row.get(0)?), server: row.get(1)?, state: row.get(2)?, why: row.get(3)? })
    };
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    connection.prepare_cached(sql)?.query_map(params![since.0, limit], change)?.collect()
}
