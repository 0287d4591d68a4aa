//! Look-ups in the audit table; on a reader's connection.

use std::borrow::Cow;

use rusqlite::{Connection, OptionalExtension, Row as SqlRow, params};

use super::{AuditRecord, BLOCK, Filter, Found, IntentLink, Link, Links, block_start, seqs_of_id, waiting_intents};
use crate::domain::clock::Moment;

/// Rows that one page looks at, at most: a rare filter costs pages, never a long read.
const VISITED_PER_PAGE: usize = 10_000;

/// A record with its intent.
const RECORD: &str = "SELECT o.seq, o.time, o.entry, o.prev, o.hash, i.seq, i.time, i.prev, i.hash
     FROM audit AS o LEFT JOIN audit AS i ON i.seq = o.intent";

fn record(row: &SqlRow<'_>) -> rusqlite::Result<AuditRecord> {
    let intent = match row.get::<_, Option<i64>>(5)? {
        Some(seq) => Some(IntentLink { seq, time: Moment(row.get(6)?), prev: row.get(7)?, hash: row.get(8)? }),
        None => None,
    };
    Ok(AuditRecord {
        seq: row.get(0)?,
        time: Moment(row.get(1)?),
        text: row.get(2)?,
        prev: row.get(3)?,
        hash: row.get(4)?,
        intent,
    })
}

/// The record of an id: its outcome, which comes after its intent, or the intent alone.
pub(super) fn by_id(connection: &Connection, id: &str) -> rusqlite::Result<Option<AuditRecord>> {
    let sql = format!("{RECORD} WHERE o.seq = (SELECT max(seq) FROM ({}))", seqs_of_id());
    connection.prepare_cached(&sql)?.query_row([id], record).optional()
}

/// Closed records that match, after `seq`, oldest first; and where the next page begins.
pub(super) fn after(
    connection: &Connection,
    filter: &Filter,
    seq: i64,
    limit: usize,
) -> rusqlite::Result<(Vec<AuditRecord>, Option<i64>)> {
    let snapshot = connection.unchecked_transaction()?;
    let from = filter.since.map_or(Ok(seq), |since| first_since(&snapshot, since).map(|first| first.max(seq)))?;
    let mut visit = snapshot.prepare_cached(
        "SELECT seq, time, key, server, tool, decision, outcome FROM audit
         WHERE seq > ?1 AND phase = 'outcome' ORDER BY seq",
    )?;
    let mut fetch = snapshot.prepare_cached(&format!("{RECORD} WHERE o.seq = ?1"))?;
    let (mut found, mut visited) = (Vec::new(), 0_usize);
    let mut rows = visit.query([from])?;
    while let Some(row) = rows.next()? {
        let seq: i64 = row.get(0)?;
        if matches(filter, row)? {
            found.push(fetch.query_row([seq], record)?);
        }
        visited += 1;
        if found.len() >= limit.max(1) || visited >= VISITED_PER_PAGE {
            return Ok((found, Some(seq)));
        }
    }
    Ok((found, None))
}

/// The entry before the first block that holds anything as late as `since`.
fn first_since(connection: &Connection, since: Moment) -> rusqlite::Result<i64> {
    let sql = "SELECT min(block) FROM audit_spans WHERE latest >= ?1";
    let block: Option<i64> = connection.prepare_cached(sql)?.query_row([since.0], |row| row.get(0))?;
    let last: i64 = connection.query_row("SELECT coalesce(max(seq), 0) FROM audit", [], |row| row.get(0))?;
    Ok(block.map_or_else(|| block_start(last), |block| block.saturating_mul(BLOCK)))
}

/// Closed records that name this one as their parent, oldest first.
pub(super) fn children(connection: &Connection, id: &str, limit: usize) -> rusqlite::Result<Vec<AuditRecord>> {
    let sql = format!(
        "{RECORD} WHERE o.seq IN (SELECT seq FROM audit_children WHERE parent = ?1 ORDER BY seq LIMIT ?2)
                       ORDER BY o.seq"
    );
    connection.prepare_cached(&sql)?.query_map(params![id, sql_limit(limit)], record)?.collect()
}

pub(super) fn count_children(connection: &Connection, id: &str) -> rusqlite::Result<usize> {
    let sql = "SELECT count(*) FROM audit_children WHERE parent = ?1";
    let count: i64 = connection.prepare_cached(sql)?.query_row([id], |row| row.get(0))?;
    Ok(usize::try_from(count).unwrap_or(0))
}

/// The texts of the intents that wait for their outcome.
pub(super) fn open_intents(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    let sql = format!("SELECT entry FROM audit WHERE seq IN (SELECT seq FROM ({})) ORDER BY seq", waiting_intents());
    connection.prepare(&sql)?.query_map([], |row| row.get(0))?.collect()
}

/// The links from `seq` on, up to the first that cannot be read.
pub(super) fn links(connection: &Connection, seq: i64, limit: usize) -> Links {
    let mut links = Vec::new();
    let mut read = || -> rusqlite::Result<()> {
        let mut statement = connection.prepare_cached(
            "SELECT a.seq, a.id, a.phase, a.time, a.request_id, a.key, a.server, a.tool, a.decision, a.outcome, a.entry,
                    a.prev, a.hash, a.intent IS NULL OR (i.id = a.id AND i.phase = 'intent')
             FROM audit AS a LEFT JOIN audit AS i ON i.seq = a.intent WHERE a.seq >= ?1 ORDER BY a.seq LIMIT ?2",
        )?;
        for found in statement.query_map([seq, sql_limit(limit)], link)? {
            links.push(found?);
        }
        Ok(())
    };
    let damage = read().err().map(|error| error.to_string());
    Links { links, damage }
}

fn link(row: &SqlRow<'_>) -> rusqlite::Result<Link> {
    Ok(Link {
        seq: row.get(0)?,
        id: row.get(1)?,
        phase: row.get(2)?,
        time: Moment(row.get(3)?),
        request_id: row.get(4)?,
        key: row.get(5)?,
        server: row.get(6)?,
        tool: row.get(7)?,
        decision: row.get(8)?,
        outcome: row.get(9)?,
        text: row.get(10)?,
        prev: row.get(11)?,
        hash: row.get(12)?,
        intent_agrees: row.get::<_, Option<bool>>(13)?.unwrap_or(false),
    })
}

/// Closed records that match, newest first, before the row `before`; and where the next page begins.
pub(super) fn page(
    connection: &Connection,
    filter: &Filter,
    before: Option<i64>,
    limit: usize,
) -> rusqlite::Result<Found> {
    let snapshot = connection.unchecked_transaction()?;
    let last: i64 = snapshot.query_row("SELECT coalesce(max(seq), 0) FROM audit", [], |row| row.get(0))?;
    let before = before.unwrap_or(i64::MAX).min(last.saturating_add(1));
    let since = filter.since.map_or(i64::MIN, |moment| moment.0);
    let until = filter.until.map_or(i64::MAX, |moment| moment.0);
    let mut spans = snapshot.prepare_cached(
        "SELECT block FROM audit_spans WHERE block <= ?1 AND latest >= ?2 AND earliest < ?3 ORDER BY block DESC",
    )?;
    // The block that is not full has no span yet: it is always looked through.
    let open = block_start(last) / BLOCK;
    let full = spans.query_map([before / BLOCK, since, until], |row| row.get::<_, i64>(0))?;
    let mut search =
        Search { connection: &snapshot, filter, before, limit: limit.max(1), visited: 0, found: Vec::new() };
    for block in std::iter::once(Ok(open)).chain(full.filter(|block| !matches!(block, Ok(block) if *block >= open))) {
        if let Some(next) = search.block(block?)? {
            return Ok(Found { records: search.found, next: Some(next), visited: search.visited });
        }
    }
    Ok(Found { records: search.found, next: None, visited: search.visited })
}

/// One page in the making.
struct Search<'a> {
    connection: &'a Connection,
    filter: &'a Filter,
    before: i64,
    limit: usize,
    visited: usize,
    found: Vec<AuditRecord>,
}

impl Search<'_> {
    /// Looks through one block, newest first; where the page is full, says where the next begins.
    fn block(&mut self, block: i64) -> rusqlite::Result<Option<i64>> {
        let start = block.saturating_mul(BLOCK);
        let mut visit = self.connection.prepare_cached(
            "SELECT seq, time, key, server, tool, decision, outcome, entry FROM audit
             WHERE seq > ?1 AND seq <= ?2 AND seq < ?3 AND phase = 'outcome' ORDER BY seq DESC",
        )?;
        let mut fetch = self.connection.prepare_cached(&format!("{RECORD} WHERE o.seq = ?1"))?;
        let mut rows = visit.query(params![start, start.saturating_add(BLOCK), self.before])?;
        while let Some(row) = rows.next()? {
            let seq: i64 = row.get(0)?;
            if matches(self.filter, row)? {
                self.found.push(fetch.query_row([seq], record)?);
            }
            self.visited += 1;
            if self.found.len() >= self.limit || self.visited >= VISITED_PER_PAGE {
                return Ok(Some(seq));
            }
        }
        Ok(None)
    }
}

fn matches(filter: &Filter, row: &SqlRow<'_>) -> rusqlite::Result<bool> {
    let time = Moment(row.get(1)?);
    if filter.since.is_some_and(|since| time < since) || filter.until.is_some_and(|until| time >= until) {
        return Ok(false);
    }
    let wanted = [&filter.key, &filter.server, &filter.tool, &filter.decision, &filter.outcome];
    for (column, wanted) in (2..).zip(wanted) {
        if let Some(wanted) = wanted
            && row.get_ref(column)?.as_str_or_null()? != Some(wanted.as_str())
        {
            return Ok(false);
        }
    }
    let asks_more =
        filter.user.is_some() || filter.agent.is_some() || filter.trace_id.is_some() || filter.min_latency_ms.is_some();
    Ok(!asks_more || says(filter, row.get_ref(7)?.as_str()?))
}

/// Whether the text of an entry fits what no column repeats.
fn says(filter: &Filter, text: &str) -> bool {
    #[derive(serde::Deserialize)]
    struct Said<'a> {
        #[serde(borrow)]
        user: Option<Cow<'a, str>>,
        #[serde(borrow)]
        agent: Option<Cow<'a, str>>,
        #[serde(borrow, default)]
        trace_id: Option<Cow<'a, str>>,
        latency_ms: Option<f64>,
    }
    // Most texts are settled without being read as JSON; a name with an escape in it is not found so, and is plain.
    let may_hold = |wanted: &Option<String>| {
        wanted.as_ref().is_none_or(|wanted| {
            let plain = wanted.bytes().all(|byte| byte >= b' ' && byte != b'"' && byte != b'\\');
            !plain || memchr::memmem::find(text.as_bytes(), wanted.as_bytes()).is_some()
        })
    };
    if ![&filter.user, &filter.agent, &filter.trace_id].into_iter().all(may_hold) {
        return false;
    }
    let Ok(said) = serde_json::from_str::<Said<'_>>(text) else { return false };
    let wanted = [(&filter.user, said.user), (&filter.agent, said.agent), (&filter.trace_id, said.trace_id)];
    wanted.into_iter().all(|(wanted, is)| wanted.is_none() || wanted.as_deref() == is.as_deref())
        && filter.min_latency_ms.is_none_or(|least| said.latency_ms.is_some_and(|millis| millis >= as_float(least)))
}

#[expect(clippy::cast_precision_loss, reason = "2^53 ms is longer than any call")]
const fn as_float(millis: u64) -> f64 {
    millis as f64
}

/// Whether the blocks say of the table what it holds; the first contradiction, or nothing.
pub(super) fn check_blocks(connection: &Connection) -> rusqlite::Result<Option<String>> {
    let spans = format!(
        "SELECT a.block FROM (SELECT (seq - 1) / {BLOCK} AS block, min(time) AS earliest, max(time) AS latest
                              FROM audit GROUP BY 1 HAVING count(*) = {BLOCK}) AS a
         LEFT JOIN audit_spans AS s ON s.block = a.block
         WHERE s.earliest IS NOT a.earliest OR s.latest IS NOT a.latest LIMIT 1"
    );
    let ids = format!(
        "SELECT seq / {BLOCK} FROM audit WHERE seq <= (SELECT max(seq) / {BLOCK} * {BLOCK} FROM audit)
         AND NOT EXISTS (SELECT 1 FROM audit_ids WHERE audit_ids.id = audit.id AND audit_ids.seq = audit.seq) LIMIT 1"
    );
    for sql in [spans, ids] {
        if let Some(block) = connection.query_row(&sql, [], |row| row.get::<_, i64>(0)).optional()? {
            return Ok(Some(format!("the index of audit block {block} contradicts its entries")));
        }
    }
    Ok(None)
}

fn sql_limit(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}
