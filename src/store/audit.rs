//! The audit table: append and look up. What the entries mean is the journal's business.

use std::fmt;
use std::str::FromStr;

use rusqlite::{Connection, OptionalExtension, Row as SqlRow, params};
use tokio::sync::oneshot;

use super::chain::{Hash, Tip, link};
use super::writer::Job;
use super::{Store, StoreError};
use crate::domain::audit::{Entry, Phase};
use crate::domain::clock::Moment;

/// Rows that one page of [`Store::audit_page`] looks at, at most: a rare filter costs pages, never a long read.
const VISITED_PER_PAGE: usize = 10_000;

/// An entry on its way into the table.
#[derive(Debug)]
pub struct Row {
    pub(super) id: String,
    phase: Phase,
    time: Moment,
    request_id: String,
    key: Option<String>,
    server: Option<String>,
    tool: Option<String>,
    decision: String,
    outcome: Option<String>,
    /// The exact text that is hashed.
    text: String,
    /// The outcome of an intent, which then no longer waits.
    settles: bool,
}

impl Row {
    /// Encodes the entry, once. `time` is the moment that `entry.time` spells; `settles` says that an intent of the
    /// same id was written before.
    #[must_use]
    pub fn new(entry: Entry, time: Moment, settles: bool) -> Self {
        let text = serde_json::to_string(&entry).unwrap_or_else(|_| String::from("{}"));
        let Entry { id, phase, request_id, key, server, tool, decision, outcome, .. } = entry;
        Self { id, phase, time, request_id, key, server, tool, decision, outcome, text, settles }
    }
}

/// One link as it stands in the table, for verification.
#[derive(Debug)]
pub struct Link {
    pub seq: i64,
    pub id: String,
    pub phase: String,
    pub time: Moment,
    pub request_id: String,
    pub key: Option<String>,
    pub server: Option<String>,
    pub tool: Option<String>,
    pub decision: String,
    pub outcome: Option<String>,
    pub text: String,
    pub prev: Vec<u8>,
    pub hash: Vec<u8>,
}

/// Links in the order of `seq`, up to the first that the file cannot give.
#[derive(Debug)]
pub struct Links {
    pub links: Vec<Link>,
    /// Why reading stopped, where it stopped early.
    pub damage: Option<String>,
}

/// A closed record: the outcome, with the intent that came before it where there is one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditRecord {
    pub seq: i64,
    pub time: Moment,
    /// The outcome entry as it was hashed; of an open call, the intent entry.
    pub text: String,
    pub prev: Vec<u8>,
    pub hash: Vec<u8>,
    pub intent: Option<IntentLink>,
}

/// The intent of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IntentLink {
    pub seq: i64,
    pub time: Moment,
    pub prev: Vec<u8>,
    pub hash: Vec<u8>,
}

/// Which records are wanted; what is absent matches everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Inclusive.
    pub since: Option<Moment>,
    /// Exclusive.
    pub until: Option<Moment>,
    pub key: Option<String>,
    pub server: Option<String>,
    /// The tool's own name, without its server.
    pub tool: Option<String>,
    pub decision: Option<String>,
    pub outcome: Option<String>,
}

/// A place in the list of records, newest first. As text: milliseconds, a full stop, and the sequence number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    pub time: Moment,
    pub seq: i64,
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.time.0, self.seq)
    }
}

/// Why a text is not a cursor.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a cursor of this list: pass `next_cursor` of the page before as it is")]
pub struct BadCursor;

impl FromStr for Cursor {
    type Err = BadCursor;

    fn from_str(text: &str) -> Result<Self, BadCursor> {
        let (time, seq) = text.split_once('.').ok_or(BadCursor)?;
        Ok(Self { time: Moment(time.parse().map_err(|_| BadCursor)?), seq: seq.parse().map_err(|_| BadCursor)? })
    }
}

// === writing, on the writer's thread ===

/// The last link of the chain.
pub(super) fn tip(connection: &Connection) -> rusqlite::Result<Tip> {
    let last = connection
        .prepare_cached("SELECT seq, hash FROM audit ORDER BY seq DESC LIMIT 1")?
        .query_row([], |row| Ok(Tip { seq: row.get(0)?, hash: row.get::<_, Hash>(1)? }))
        .optional()?;
    Ok(last.unwrap_or(Tip::START))
}

/// Whether the entry is in the table already.
pub(super) fn holds(connection: &Connection, row: &Row) -> rusqlite::Result<bool> {
    let mut statement = connection.prepare_cached("SELECT 1 FROM audit WHERE id = ?1 AND phase = ?2")?;
    statement.exists(params![row.id, phase_word(row.phase)])
}

/// Adds the entry after `tip` and gives the new tip.
pub(super) fn append(connection: &Connection, tip: Tip, row: &Row) -> rusqlite::Result<Tip> {
    let next = Tip { seq: tip.seq.saturating_add(1), hash: link(&tip.hash, &row.text) };
    connection
        .prepare_cached(
            "INSERT INTO audit (seq, id, phase, time, request_id, key, server, tool, decision, outcome, entry, prev, hash)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
        )?
        .execute(params![
            next.seq,
            row.id,
            phase_word(row.phase),
            row.time.0,
            row.request_id,
            row.key,
            row.server,
            row.tool,
            row.decision,
            row.outcome,
            row.text,
            tip.hash,
            next.hash,
        ])?;
    match row.phase {
        Phase::Intent => {
            let mut wait = connection.prepare_cached("INSERT OR REPLACE INTO audit_open (id, seq) VALUES (?1, ?2)")?;
            wait.execute(params![row.id, next.seq])?;
        }
        Phase::Outcome if row.settles => {
            connection.prepare_cached("DELETE FROM audit_open WHERE id = ?1")?.execute([&row.id])?;
        }
        Phase::Outcome => {}
    }
    Ok(next)
}

const fn phase_word(phase: Phase) -> &'static str {
    match phase {
        Phase::Intent => "intent",
        Phase::Outcome => "outcome",
    }
}

// === the store's side ===

impl Store {
    /// Adds an entry and returns once it is committed.
    ///
    /// The entry is queued before the first wait: a caller that goes away after that loses the answer, not the entry.
    ///
    /// # Errors
    /// Where the entry was not committed; then it never will be.
    pub async fn append_audit(&self, row: Row) -> Result<(), StoreError> {
        let (reply, done) = oneshot::channel();
        self.writer().send(Job::Append(Box::new(row), reply))?;
        done.await.map_err(|_| StoreError::Closed)?
    }

    /// Adds an entry without waiting. Where the disk cannot be written, the entry is kept and tried again.
    ///
    /// # Errors
    /// Where the queue is full or the store closed.
    pub fn append_audit_later(&self, row: Row) -> Result<(), StoreError> {
        self.writer().send(Job::AppendLater(Box::new(row)))
    }

    /// The last link of the chain, as committed.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub async fn audit_tip(&self) -> Result<Tip, StoreError> {
        self.readers().read(tip).await
    }

    /// The texts of the intents that no outcome followed, in order.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub async fn open_intents(&self) -> Result<Vec<String>, StoreError> {
        let sql = "SELECT audit.entry FROM audit_open JOIN audit ON audit.seq = audit_open.seq ORDER BY audit.seq";
        self.readers().read(move |connection| connection.prepare(sql)?.query_map([], |row| row.get(0))?.collect()).await
    }

    /// The links from `seq` on, at most `limit`.
    ///
    /// # Errors
    /// Where nothing at all can be read; a damaged page is told in [`Links::damage`].
    pub async fn audit_links(&self, seq: i64, limit: usize) -> Result<Links, StoreError> {
        self.readers().read(move |connection| Ok(read_links(connection, seq, limit))).await
    }

    /// The record of this id; of an open call, its intent alone.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub async fn audit_record(&self, id: &str) -> Result<Option<AuditRecord>, StoreError> {
        let id = id.to_owned();
        let sql = format!("{RECORD} WHERE o.id = ?1 ORDER BY o.phase = 'outcome' DESC, o.seq LIMIT 1");
        self.readers().read(move |connection| connection.prepare_cached(&sql)?.query_row([id], record).optional()).await
    }

    /// Closed records after `seq`, oldest first: for export, page by page.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub async fn audit_after(&self, seq: i64, limit: usize) -> Result<Vec<AuditRecord>, StoreError> {
        let sql = format!("{RECORD} WHERE o.seq > ?1 AND o.phase = 'outcome' ORDER BY o.seq LIMIT ?2");
        let limit = sql_limit(limit);
        let read =
            move |connection: &Connection| connection.prepare_cached(&sql)?.query_map([seq, limit], record)?.collect();
        self.readers().read(read).await
    }

    /// Closed records that match, newest first, after `cursor`. A page may be short or empty and still have a
    /// successor: it looks at a bounded number of rows.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub async fn audit_page(
        &self,
        filter: Filter,
        cursor: Option<Cursor>,
        limit: usize,
    ) -> Result<(Vec<AuditRecord>, Option<Cursor>), StoreError> {
        self.readers().read(move |connection| read_page(connection, &filter, cursor, limit.max(1))).await
    }
}

// === reading ===

/// A record with its intent. The second look-up is by the index on `id`.
const RECORD: &str = "SELECT o.seq, o.time, o.entry, o.prev, o.hash, i.seq, i.time, i.prev, i.hash
     FROM audit AS o LEFT JOIN audit AS i ON i.id = o.id AND i.phase = 'intent' AND o.phase = 'outcome'";

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

fn sql_limit(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

fn read_links(connection: &Connection, seq: i64, limit: usize) -> Links {
    let mut links = Vec::new();
    let mut read = || -> rusqlite::Result<()> {
        let mut statement = connection.prepare_cached(
            "SELECT seq, id, phase, time, request_id, key, server, tool, decision, outcome, entry, prev, hash
             FROM audit WHERE seq >= ?1 ORDER BY seq LIMIT ?2",
        )?;
        for found in statement.query_map([seq, sql_limit(limit)], raw_link)? {
            links.push(found?);
        }
        Ok(())
    };
    let damage = read().err().map(|error| error.to_string());
    Links { links, damage }
}

fn raw_link(row: &SqlRow<'_>) -> rusqlite::Result<Link> {
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
    })
}

fn read_page(
    connection: &Connection,
    filter: &Filter,
    cursor: Option<Cursor>,
    limit: usize,
) -> rusqlite::Result<(Vec<AuditRecord>, Option<Cursor>)> {
    let last = Cursor { time: Moment(i64::MAX), seq: i64::MAX };
    let from = cursor.unwrap_or(last);
    let since = filter.since.map_or(i64::MIN, |moment| moment.0);
    let until = filter.until.map_or(i64::MAX, |moment| moment.0);
    let mut visit = connection.prepare_cached(
        "SELECT time, seq, key, server, tool, decision, outcome FROM audit
         WHERE phase = 'outcome' AND time >= ?1 AND time < ?2 AND (time, seq) < (?3, ?4)
         ORDER BY time DESC, seq DESC",
    )?;
    let mut fetch = connection.prepare_cached(&format!("{RECORD} WHERE o.seq = ?1"))?;
    let mut rows = visit.query([since, until, from.time.0, from.seq])?;
    let mut records = Vec::new();
    let mut visited = 0;
    while let Some(row) = rows.next()? {
        let here = Cursor { time: Moment(row.get(0)?), seq: row.get(1)? };
        if matches(filter, row)? {
            records.push(fetch.query_row([here.seq], record)?);
        }
        visited += 1;
        if records.len() >= limit || visited >= VISITED_PER_PAGE {
            return Ok((records, Some(here)));
        }
    }
    Ok((records, None))
}

fn matches(filter: &Filter, row: &SqlRow<'_>) -> rusqlite::Result<bool> {
    let wanted = [&filter.key, &filter.server, &filter.tool, &filter.decision, &filter.outcome];
    for (column, wanted) in (2..).zip(wanted) {
        if let Some(wanted) = wanted {
            let found = row.get_ref(column)?.as_str_or_null().map_err(rusqlite::Error::from)?;
            if found != Some(wanted.as_str()) {
                return Ok(false);
            }
        }
    }
    Ok(true)
}
