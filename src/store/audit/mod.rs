//! The audit table: append and look up. What the entries mean is the journal's business.

mod pen;
mod read;

use std::sync::Arc;

use super::chain::Tip;
use super::queue::Job;
use super::{Store, StoreError};
use crate::domain::audit::{Entry, Phase};
use crate::domain::clock::Moment;

pub(super) use pen::{Pen, holds};

/// Entries that are indexed together, when the last of them is written: so no call pays for an index of its own.
pub(super) const BLOCK: i64 = 256;

/// Bytes of the text of an entry, as a rule at most.
const USUAL_BYTES: usize = 1024;

/// Where the entries of the id `?1` are: in the index of the full blocks, or in the block that is not full.
fn seqs_of_id() -> String {
    format!(
        "SELECT seq FROM audit_ids WHERE id = ?1 UNION ALL
         SELECT seq FROM audit WHERE id = ?1 AND seq > (SELECT coalesce(max(seq), 0) / {BLOCK} * {BLOCK} FROM audit)"
    )
}

/// The intents that wait for their outcome, as `(id, seq)`: those that waited when the last block was full, and those
/// of the block that is not, without the ones that it settles.
fn waiting_intents() -> String {
    let start = format!("(SELECT coalesce(max(seq), 0) / {BLOCK} * {BLOCK} FROM audit)");
    format!(
        "SELECT id, seq FROM (SELECT id, seq FROM audit_open WHERE seq <= {start} UNION ALL
                              SELECT id, seq FROM audit WHERE phase = 'intent' AND seq > {start})
         WHERE seq NOT IN (SELECT intent FROM audit WHERE seq > {start} AND intent IS NOT NULL)"
    )
}

/// The entry before the first of the block that is not full.
const fn block_start(last: i64) -> i64 {
    last / BLOCK * BLOCK
}

/// An entry on its way into the table.
#[derive(Debug)]
pub struct Row {
    pub entry: Entry,
    time: Moment,
    /// The exact text that is hashed.
    text: String,
    /// The outcome of an intent, which then no longer waits.
    settles: bool,
}

impl Row {
    /// Encodes the entry, once. `time` is the moment that `entry.time` spells; `settles` says that an intent of the
    /// same id was written before.
    #[must_use]
    pub fn new(entry: Entry, time: Moment, settles: bool) -> Arc<Self> {
        let mut text = Vec::with_capacity(USUAL_BYTES);
        let text = match serde_json::to_writer(&mut text, &entry) {
            Ok(()) => String::from_utf8(text).unwrap_or_default(),
            Err(_) => String::from("{}"),
        };
        Arc::new(Self { entry, time, text, settles })
    }

    /// Bytes that it takes on disk, roughly.
    pub(super) fn size(&self) -> usize {
        self.text.len() + 512
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
    /// The intent that it points to, where it points to one, is one and has its id.
    pub intent_agrees: bool,
}

/// Links in the order of `seq`, up to the first that the file cannot give.
#[derive(Debug)]
pub struct Links {
    pub links: Vec<Link>,
    /// Why reading stopped, where it stopped early.
    pub damage: Option<String>,
}

/// A record: the outcome, with the intent that came before it where there is one.
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
    pub user: Option<String>,
    pub agent: Option<String>,
    /// The W3C trace that a call belongs to.
    pub trace_id: Option<String>,
    /// Calls that took at least so many milliseconds.
    pub min_latency_ms: Option<u64>,
}

/// What a search found.
#[derive(Debug, Default)]
pub struct Found {
    /// Newest first.
    pub records: Vec<AuditRecord>,
    /// The `before` of the next page.
    pub next: Option<i64>,
    /// Rows that were looked at.
    pub visited: usize,
}

impl Store {
    /// Adds an entry and returns once it is committed.
    ///
    /// The entry is queued before the first wait: a caller that goes away after that loses the answer, not the entry.
    ///
    /// # Errors
    /// Where the entry was not committed; then it never will be.
    pub async fn append_audit(&self, row: Arc<Row>) -> Result<(), StoreError> {
        self.writer().append(row).await
    }

    /// Adds an entry without waiting. Where the disk cannot be written, the entry is kept and tried again.
    ///
    /// # Errors
    /// Where the queue is full or the store closed.
    pub fn append_audit_later(&self, row: Arc<Row>) -> Result<(), StoreError> {
        self.writer().send(Job::AppendLater(row))
    }

    /// The last link of the chain, as committed.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub async fn audit_tip(&self) -> Result<Tip, StoreError> {
        self.readers().read(pen::tip).await
    }

    /// The texts of the intents that no outcome followed, in order.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub async fn open_intents(&self) -> Result<Vec<String>, StoreError> {
        self.readers().read(read::open_intents).await
    }

    /// The links from `seq` on, at most `limit`.
    ///
    /// # Errors
    /// Where the store is closed; a damaged file is told in [`Links::damage`].
    pub async fn audit_links(&self, seq: i64, limit: usize) -> Result<Links, StoreError> {
        self.readers().read(move |connection| Ok(read::links(connection, seq, limit))).await
    }

    /// The record of this id; of an open call, its intent alone.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub async fn audit_record(&self, id: &str) -> Result<Option<AuditRecord>, StoreError> {
        let id = id.to_owned();
        self.readers().read(move |connection| read::by_id(connection, &id)).await
    }

    /// Closed records that match and come after the entry `seq`, oldest first, at most `limit`; and the `seq` of the
    /// next page. As with [`Self::audit_page`], a page may be short, or empty, and have a successor.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub async fn audit_after(
        &self,
        filter: Filter,
        seq: i64,
        limit: usize,
    ) -> Result<(Vec<AuditRecord>, Option<i64>), StoreError> {
        self.readers().read(move |connection| read::after(connection, &filter, seq, limit)).await
    }

    /// Closed records that match and come before the entry `before`, newest first, at most `limit`; and the `before`
    /// of the next page. A page looks at a bounded number of rows: it may be short, or empty, and have a successor.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub async fn audit_page(
        &self,
        filter: Filter,
        before: Option<i64>,
        limit: usize,
    ) -> Result<(Vec<AuditRecord>, Option<i64>), StoreError> {
        self.audit_search(filter, before, limit).await.map(|found| (found.records, found.next))
    }

    /// As [`Self::audit_page`], with what it cost.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub async fn audit_search(&self, filter: Filter, before: Option<i64>, limit: usize) -> Result<Found, StoreError> {
        self.readers().read(move |connection| read::page(connection, &filter, before, limit)).await
    }

    /// The closed records that name this one as their parent, oldest first, at most `limit`.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub async fn audit_children(&self, id: &str, limit: usize) -> Result<Vec<AuditRecord>, StoreError> {
        let id = id.to_owned();
        self.readers().read(move |connection| read::children(connection, &id, limit)).await
    }

    /// How many records name this one as their parent.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub async fn count_audit_children(&self, id: &str) -> Result<usize, StoreError> {
        let id = id.to_owned();
        self.readers().read(move |connection| read::count_children(connection, &id)).await
    }

    /// Looks for damage: in the database file, page by page, and in the index of the audit log. The first finding,
    /// or nothing. Reads everything, so it takes as long as the file is large.
    ///
    /// # Errors
    /// Where the file cannot be read at all.
    pub async fn check_file(&self) -> Result<Option<String>, StoreError> {
        let check = |connection: &rusqlite::Connection| {
            let found = connection.query_row("PRAGMA integrity_check(1)", [], |row| row.get::<_, String>(0))?;
            if found == "ok" { read::check_blocks(connection) } else { Ok(Some(found)) }
        };
        self.readers().read(check).await
    }
}

const fn phase_word(phase: Phase) -> &'static str {
    match phase {
        Phase::Intent => "intent",
        Phase::Outcome => "outcome",
    }
}
