//! Rolls the log up: reads entries on a reader's connection, adds what they come to on the writer's.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension, params};

use super::cell::{Counted, Counts, Place};
use super::summary::{Resolution, counts};
use crate::domain::clock::Moment;
use crate::store::audit::BLOCK;

/// Rows that one transaction touches, about: what holds up calls must be short.
const ROWS: usize = 256;
/// Rows that are forgotten at a time.
const FORGOTTEN: i64 = 256;

/// What a part of the log comes to.
#[derive(Debug)]
pub(super) struct Part {
    /// The last entry counted before, and now.
    from: i64,
    to: i64,
    pub(super) visited: usize,
    pub(super) behind: u64,
    sums: BTreeMap<(Resolution, i64, Place), Counts>,
}

impl Part {
    /// Whether there is nothing to write.
    pub(super) const fn is_empty(&self) -> bool {
        self.from == self.to
    }
}

fn place(connection: &Connection) -> rusqlite::Result<i64> {
    connection.prepare_cached("SELECT seq FROM rollup_place")?.query_row([], |row| row.get(0))
}

fn last(connection: &Connection) -> rusqlite::Result<i64> {
    connection.prepare_cached("SELECT coalesce(max(seq), 0) FROM audit")?.query_row([], |row| row.get(0))
}

/// Entries that are not counted yet.
pub(super) fn behind(connection: &Connection) -> rusqlite::Result<u64> {
    Ok(u64::try_from(last(connection)?.saturating_sub(place(connection)?)).unwrap_or(0))
}

/// Reads the next entries, at most `most`.
pub(super) fn read(connection: &Connection, now: Moment, most: usize) -> rusqlite::Result<Part> {
    let snapshot = connection.unchecked_transaction()?;
    let (from, end) = (place(&snapshot)?, last(&snapshot)?);
    let oldest = now.0.saturating_sub(Resolution::Hour.kept());
    let start = first_since(&snapshot, from, end, oldest)?;
    let mut part = Part { from, to: start, visited: 0, behind: 0, sums: BTreeMap::new() };
    let sql = "SELECT seq, time, phase, entry FROM audit WHERE seq > ?1 ORDER BY seq LIMIT ?2";
    let mut statement = snapshot.prepare_cached(sql)?;
    let mut rows = statement.query(params![start, i64::try_from(most).unwrap_or(i64::MAX)])?;
    while part.sums.len() < ROWS
        && let Some(row) = rows.next()?
    {
        part.to = row.get(0)?;
        part.visited += 1;
        let time: i64 = row.get(1)?;
        let phase = row.get_ref(2)?.as_str()?;
        let counted = (phase == "outcome").then(|| row.get_ref(3)).transpose()?;
        let Some(counted) = counted.and_then(|text| Counted::read(text.as_str().ok()?)) else { continue };
        for resolution in Resolution::ALL {
            if time >= now.0.saturating_sub(resolution.kept()) {
                let bucket = resolution.floor(Moment(time)).0;
                counted.count(part.sums.entry((resolution, bucket, counted.place())).or_default());
            }
        }
    }
    part.behind = u64::try_from(end.saturating_sub(part.to)).unwrap_or(0);
    Ok(part)
}

/// The entry before the first that may be young enough to be kept. Only a place far back is worth a look.
fn first_since(connection: &Connection, from: i64, end: i64, oldest: i64) -> rusqlite::Result<i64> {
    if end.saturating_sub(from) < BLOCK * 16 {
        return Ok(from);
    }
    let sql = "SELECT block FROM audit_spans WHERE block >= ?1 AND latest >= ?2 ORDER BY block LIMIT 1";
    let block: Option<i64> =
        connection.prepare_cached(sql)?.query_row(params![from / BLOCK, oldest], |row| row.get(0)).optional()?;
    // Of a log without such a block, the one that is not full is left.
    let block = block.unwrap_or(end / BLOCK);
    Ok(from.max(block.saturating_mul(BLOCK)))
}

/// Adds what a part comes to, unless somebody else has counted it meanwhile; and forgets some of what is too old.
pub(super) fn write(connection: &Connection, part: &Part, now: Moment) -> rusqlite::Result<bool> {
    let moved = connection
        .prepare_cached("UPDATE rollup_place SET seq = ?2 WHERE seq = ?1")?
        .execute(params![part.from, part.to])?;
    if moved == 0 {
        return Ok(false);
    }
    let mut find = connection.prepare_cached(
        "SELECT calls, errors, refused, limited, cancelled, cached, latencies FROM rollups
         WHERE span = ?1 AND start = ?2 AND server = ?3 AND tool = ?4 AND key = ?5 AND decision = ?6 AND rule = ?7",
    )?;
    let mut put = connection.prepare_cached(
        "INSERT OR REPLACE INTO rollups (span, start, server, tool, key, decision, rule,
                                         calls, errors, refused, limited, cancelled, cached, latencies)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)",
    )?;
    for ((resolution, start, place), new) in &part.sums {
        let Place { server, tool, key, decision, rule } = place;
        let names = params![resolution.millis(), start, server, tool, key, decision, rule];
        let mut sum = find.query_row(names, |row| counts(row, 0)).optional()?.unwrap_or_default();
        sum.add(new);
        let Counts { calls, errors, refused, limited, cancelled, cached, latencies } = &sum;
        put.execute(params![
            resolution.millis(),
            start,
            server,
            tool,
            key,
            decision,
            rule,
            number(*calls),
            number(*errors),
            number(*refused),
            number(*limited),
            number(*cancelled),
            number(*cached),
            latencies.encode(),
        ])?;
    }
    let mut forget = connection.prepare_cached(
        "DELETE FROM rollups WHERE (span, start, server, tool, key, decision, rule) IN (
             SELECT span, start, server, tool, key, decision, rule FROM rollups WHERE span = ?1 AND start < ?2 LIMIT ?3)",
    )?;
    for resolution in Resolution::ALL {
        forget.execute(params![resolution.millis(), now.0.saturating_sub(resolution.kept()), FORGOTTEN])?;
    }
    Ok(true)
}

fn number(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
