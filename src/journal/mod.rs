//! The audit journal: every call leaves a record, and the records are a chain of hashes.
//!
//! A record is opened once and closed once. For a tool that is not read-only its *intent* is committed before the
//! backend is contacted; its *outcome* is committed before the answer leaves. Both are links of one chain,
//! `hash = SHA-256(prev || entry)`, so an edit, a deletion, a swap or an insertion breaks it where it happened.
//! What the chain alone cannot show is that its end was cut off: for that somebody keeps its head, off the machine.

mod entry;
mod facts;
mod insight;
mod record;
mod redact;
mod review;
mod strangers;
#[cfg(test)]
mod tests;
mod verify;

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;

use crate::domain::audit::{Entry, Phase};
use crate::domain::call::Entrance;
use crate::domain::clock::Clock;
use crate::domain::id::{EventId, OWN_SERVER, RequestId};
use crate::domain::json::{Json, hex};
use crate::store::{Filter, Row, Store, StoreError};

pub use crate::domain::audit::ArgumentsMode;
pub use entry::{Closing, Decision, Ending, OpenEntry};
pub use facts::Opening;
pub use record::{CSV_HEADER, Record};
pub use review::{Called, End, Flips, Latency, Review};
pub use verify::{Fault, VerifyStep};

use entry::blank;
use facts::bounded;
use review::Recent;
use strangers::Strangers;

/// Links that are checked at the start.
const CHECKED_AT_START: usize = 1000;

/// Why there is no record.
#[derive(Debug, Clone, thiserror::Error)]
#[error(transparent)]
pub struct JournalError(#[from] pub StoreError);

/// How the journal records.
#[derive(Debug, Clone, Copy, Default)]
pub struct JournalConfig {
    pub arguments: ArgumentsMode,
    /// Whether [`Journal::start`] writes a record of the start; for a server, not for a single command.
    pub announce: bool,
}

/// Somebody who was turned away at the door.
#[derive(Debug)]
pub struct TurnedAway {
    pub request_id: RequestId,
    pub entrance: Entrance,
    pub source: Option<IpAddr>,
    /// What was wrong with the credential; never the credential.
    pub reason: String,
}

/// What [`Journal::start`] found and did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Calls that a crash had left open, now closed as `interrupted`.
    pub interrupted: usize,
    /// What is wrong with the end of the chain. It is reported, and nothing is repaired.
    pub fault: Option<Fault>,
}

/// A handle on the journal; cheap to clone.
#[derive(Debug, Clone)]
pub struct Journal(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: Store,
    clock: Arc<dyn Clock>,
    config: JournalConfig,
    /// Whether the chain was found whole at the start: else the head that was kept is evidence, and stays.
    whole: AtomicBool,
    strangers: Mutex<Strangers>,
    recent: Recent,
}

/// A page of records.
#[derive(Debug)]
pub struct Page {
    pub records: Vec<Record>,
    /// Where the next page begins; a page may be short, or empty, and still have a next one.
    pub next: Option<i64>,
}

impl Journal {
    /// A journal over the store, without writing anything: for readers.
    #[must_use]
    pub fn attach(store: Store, clock: Arc<dyn Clock>, config: JournalConfig) -> Self {
        let strangers = Mutex::new(Strangers::default());
        let whole = AtomicBool::new(false);
        Self(Arc::new(Inner { store, clock, config, whole, strangers, recent: Recent::default() }))
    }

    /// Attaches, checks the end of the chain, closes as `interrupted` what a crash has left open, and announces itself
    /// where configured. Nothing may be served before this.
    ///
    /// # Errors
    /// Where the store can be neither read nor written.
    pub async fn start(
        store: Store,
        clock: Arc<dyn Clock>,
        config: JournalConfig,
    ) -> Result<(Self, Recovery), JournalError> {
        let journal = Self::attach(store, clock, config);
        let fault = journal.check_end(CHECKED_AT_START).await?;
        if let Some(Fault { seq, what }) = &fault {
            tracing::error!(seq, what, "the audit log does not verify: run `toolgate audit verify`");
        }
        journal.0.whole.store(fault.is_none(), Ordering::SeqCst);
        let recovery = Recovery { interrupted: journal.close_interrupted().await?, fault };
        if config.announce {
            journal.announce(&recovery).await?;
        }
        Ok((journal, recovery))
    }

    /// Opens the record of a call. Free while the store is healthy; else it tries a write first, so that no call runs
    /// while nothing can be recorded, and calls run again as soon as something can.
    ///
    /// # Errors
    /// Where the store cannot be written.
    pub async fn open(&self, opening: Opening) -> Result<OpenEntry, JournalError> {
        if !self.healthy() {
            self.probe().await?;
        }
        Ok(OpenEntry::new(self.clone(), opening))
    }

    /// Arguments as a record holds them, for people who look at a call before it is made; none where they are long.
    #[must_use]
    pub fn preview(&self, arguments: &Json) -> Option<Value> {
        let mode = match self.0.config.arguments {
            ArgumentsMode::Absent => ArgumentsMode::Redacted,
            mode => mode,
        };
        redact::record(arguments, mode).1
    }

    /// Records that somebody was turned away, within limits: strangers must not fill the disk. `None` where the limits
    /// left this one out; it is counted in the next that is recorded.
    ///
    /// # Errors
    /// Where the record was not committed. The stranger is turned away all the same.
    pub async fn turn_away(&self, stranger: TurnedAway) -> Result<Option<EventId>, JournalError> {
        let ticks = self.0.clock.ticks();
        let admitted = self.0.strangers.lock().unwrap_or_else(PoisonError::into_inner).admit(stranger.source, ticks);
        let Some(left_out) = admitted else { return Ok(None) };
        let id = EventId::fresh();
        let mut entry = blank(&id, &stranger.request_id, stranger.entrance);
        entry.decision = Decision::Deny.as_str().into();
        entry.outcome = Some(Ending::Refused.as_str().into());
        entry.reason = Some(bounded(&stranger.reason).into());
        entry.notes.extend(stranger.source.map(|source| format!("source {source}")));
        entry.notes.extend(left_out_note(left_out));
        self.write(entry).await?;
        Ok(Some(id))
    }

    /// Whether the last write succeeded.
    #[must_use]
    pub fn healthy(&self) -> bool {
        self.0.store.healthy()
    }

    /// Tries a write, so that readiness returns without waiting for a call.
    ///
    /// # Errors
    /// Where the store cannot be written.
    pub async fn probe(&self) -> Result<(), JournalError> {
        Ok(self.0.store.probe().await?)
    }

    /// Records that are open at this moment: zero when nothing is in flight.
    #[must_use]
    pub fn open_entries(&self) -> usize {
        self.0.store.in_flight().load(Ordering::SeqCst)
    }

    /// Entries that were given up because the store stayed unwritable.
    #[must_use]
    pub fn lost_entries(&self) -> u64 {
        self.0.store.lost_entries()
    }

    /// Keeps the head beside the database and closes the store. Call it when no call is in flight any more.
    ///
    /// # Errors
    /// Where something that waited could not be written.
    pub async fn close(&self) -> Result<(), JournalError> {
        let left_out = self.0.strangers.lock().unwrap_or_else(PoisonError::into_inner).left_out();
        if left_out > 0 {
            let mut entry = self.own_entry("stop");
            entry.notes.extend(left_out_note(left_out));
            self.write(entry).await?;
        }
        self.keep_head().await?;
        Ok(self.0.store.close().await?)
    }

    /// The head of the chain: how many entries, and the last hash in hexadecimal. Kept elsewhere, it shows whether
    /// the end of the log was cut off.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub async fn head(&self) -> Result<(i64, String), JournalError> {
        let tip = self.0.store.audit_tip().await?;
        Ok((tip.seq, hex(&tip.hash)))
    }

    /// The record of this id; of a call still open, what its intent says.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub async fn get(&self, id: &str) -> Result<Option<Record>, JournalError> {
        Ok(self.0.store.audit_record(id).await?.map(Record::from))
    }

    /// The last `count` closed records, oldest first.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub async fn tail(&self, count: usize) -> Result<Vec<Record>, JournalError> {
        let mut page = self.page(Filter::default(), None, count).await?;
        page.records.reverse();
        Ok(page.records)
    }

    /// Closed records that match and come before the entry `before`, newest first, at most `limit`. The number that
    /// leads from page to page is stable: what is written meanwhile comes before the first page.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub async fn page(&self, filter: Filter, before: Option<i64>, limit: usize) -> Result<Page, JournalError> {
        let (records, next) = self.0.store.audit_page(filter, before, limit).await?;
        Ok(Page { records: records.into_iter().map(Record::from).collect(), next })
    }

    /// Closed records that match and come after the entry `seq`, oldest first, at most `limit`: an export asks again
    /// with [`Page::next`], until there is none.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub async fn export(&self, filter: Filter, seq: i64, limit: usize) -> Result<Page, JournalError> {
        let (records, next) = self.0.store.audit_after(filter, seq, limit).await?;
        Ok(Page { records: records.into_iter().map(Record::from).collect(), next })
    }

    /// Looks for damage in the database file and in the index of the log; the first finding, or nothing. The chain
    /// itself is [`Journal::verify_from`]'s. Takes as long as the file is large.
    ///
    /// # Errors
    /// Where the store cannot be read at all.
    pub async fn check_file(&self) -> Result<Option<String>, JournalError> {
        Ok(self.0.store.check_file().await?)
    }

    async fn close_interrupted(&self) -> Result<usize, JournalError> {
        let mut closed = 0;
        for text in self.0.store.open_intents().await? {
            let Ok(mut entry) = serde_json::from_str::<Entry>(&text) else {
                tracing::error!("an open intent of the audit log is not an entry: it stays open");
                continue;
            };
            entry.phase = Phase::Outcome;
            entry.outcome = Some(Ending::Interrupted.as_str().into());
            entry.notes.push("the gateway stopped before the outcome was known".into());
            self.append(entry, true).await?;
            closed += 1;
        }
        if closed > 0 {
            tracing::warn!(closed, "calls that were open when the gateway stopped are recorded as interrupted");
        }
        Ok(closed)
    }

    async fn announce(&self, recovery: &Recovery) -> Result<(), JournalError> {
        let mut entry = self.own_entry("start");
        entry.notes.push(format!("version {}", env!("CARGO_PKG_VERSION")));
        entry.notes.push(format!("durability {}", self.0.store.durability().as_str()));
        if recovery.interrupted > 0 {
            entry.notes.push(format!("{} calls closed as interrupted", recovery.interrupted));
        }
        entry.notes.extend(recovery.fault.as_ref().map(|fault| format!("entry {}: {}", fault.seq, fault.what)));
        self.write(entry).await?;
        self.keep_head().await
    }

    async fn keep_head(&self) -> Result<(), JournalError> {
        if self.0.whole.load(Ordering::SeqCst) {
            self.0.store.keep_head(self.0.store.audit_tip().await?).await?;
        }
        Ok(())
    }

    /// An entry about the gateway itself.
    fn own_entry(&self, tool: &str) -> Entry {
        let mut entry = blank(&EventId::fresh(), &RequestId::fresh(), Entrance::Cli);
        entry.server = Some(OWN_SERVER.into());
        entry.tool = Some(tool.into());
        entry.decision = Decision::Allow.as_str().into();
        entry.outcome = Some(Ending::Answered.as_str().into());
        entry
    }

    async fn write(&self, entry: Entry) -> Result<(), JournalError> {
        self.append(entry, false).await
    }

    /// Stamps and commits an entry.
    async fn append(&self, entry: Entry, settles: bool) -> Result<(), JournalError> {
        let row = self.row(entry, settles);
        Ok(self.0.store.append_audit(row).await?)
    }

    fn row(&self, mut entry: Entry, settles: bool) -> Arc<Row> {
        let now = self.0.clock.now();
        entry.time = now.rfc3339();
        Row::new(entry, now, settles)
    }
}

fn left_out_note(count: u64) -> Option<String> {
    (count > 0).then(|| format!("{count} refused logins before this one were counted, not recorded"))
}
