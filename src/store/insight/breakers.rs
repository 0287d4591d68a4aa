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

/// The latest changes, newest first, of these servers where some are named; and how many there are besides.
pub(super) fn since(
    connection: &Connection,
    since: Moment,
    servers: Option<&[String]>,
    limit: usize,
) -> rusqlite::Result<(Vec<BreakerChange>, usize)> {
    let wanted = "time >= ?1 AND (?2 IS NULL OR server IN (SELECT value FROM json_each(?2)))";
    let servers = servers.map(|servers| serde_json::Value::from(servers).to_string());
    let change = |row: &rusqlite::Row<'_>| {
        Ok(BreakerChange { time: Moment(row.get(0)?), server: row.get(1)?, state: row.get(2)?, why: row.get(3)? })
    };
    let sql =
        format!("SELECT time, server, state, why FROM breaker_changes WHERE {wanted} ORDER BY number DESC LIMIT ?3");
    let changes: Vec<BreakerChange> = connection
        .prepare_cached(&sql)?
        .query_map(params![since.0, servers, i64::try_from(limit).unwrap_or(i64::MAX)], change)?
        .collect::<rusqlite::Result<_>>()?;
    let sql = format!("SELECT count(*) FROM breaker_changes WHERE {wanted}");
    let all: i64 = connection.prepare_cached(&sql)?.query_row(params![since.0, servers], |row| row.get(0))?;
    let left_out = usize::try_from(all).unwrap_or(0).saturating_sub(changes.len());
    Ok((changes, left_out))
}
