//! Adds entries to the chain; on the writer's thread, inside its transaction.

use std::collections::HashMap;
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, params};

use super::{BLOCK, Row, block_start, phase_word, seqs_of_id, waiting_intents};
use crate::domain::audit::Phase;
use crate::store::chain::{GENESIS, Hash, Tip, link};

/// Where the chain ends, what the block that is not yet full holds, and which intents wait for their outcome.
#[derive(Debug)]
pub(in crate::store) struct Pen {
    tip: Tip,
    /// Times of the block, in milliseconds.
    earliest: i64,
    latest: i64,
    /// The intents that wait, by id. The table of them is brought up to date at the end of each block, so that a call
    /// whose outcome follows soon pays for no row there.
    waiting: HashMap<Arc<str>, i64>,
    /// Those of an earlier block that wait no longer.
    settled: Vec<Arc<str>>,
}

/// The last link of the chain. One whose hash was altered beyond reading is followed as if it had none: verification
/// names it, and the log goes on.
pub(super) fn tip(connection: &Connection) -> rusqlite::Result<Tip> {
    let last = connection
        .prepare_cached("SELECT seq, hash FROM audit ORDER BY seq DESC LIMIT 1")?
        .query_row([], |row| Ok((row.get(0)?, row.get::<_, Vec<u8>>(1)?)))
        .optional()?;
    let tip = last.map(|(seq, hash)| Tip { seq, hash: Hash::try_from(hash.as_slice()).unwrap_or(GENESIS) });
    Ok(tip.unwrap_or(Tip::START))
}

impl Pen {
    /// Takes up where the table ends.
    pub(in crate::store) fn pick_up(connection: &Connection) -> rusqlite::Result<Self> {
        let tip = tip(connection)?;
        let sql = "SELECT coalesce(min(time), ?2), coalesce(max(time), ?3) FROM audit WHERE seq > ?1";
        let start = params![block_start(tip.seq), i64::MAX, i64::MIN];
        let span = connection.prepare_cached(sql)?.query_row(start, |row| Ok((row.get(0)?, row.get(1)?)))?;
        let mut waiting = connection.prepare(&waiting_intents())?;
        let waiting = waiting.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<Result<_, _>>()?;
        let start = block_start(tip.seq);
        let mut kept = connection.prepare("SELECT id, seq FROM audit_open")?;
        let kept: Vec<(Arc<str>, i64)> =
            kept.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<Result<_, _>>()?;
        // A row of the block that is not full comes too early: it is written anew at the block's end, where it must be.
        let settled = kept.into_iter().filter(|(id, seq)| *seq > start || HashMap::get(&waiting, id) != Some(seq));
        let settled = settled.map(|(id, _)| id).collect();
        Ok(Self { tip, earliest: span.0, latest: span.1, waiting, settled })
    }

    /// Adds an entry. After an error the pen is of no more use.
    pub(in crate::store) fn append(&mut self, connection: &Connection, row: &Row) -> rusqlite::Result<()> {
        let tip = Tip { seq: self.tip.seq.saturating_add(1), hash: link(&self.tip.hash, &row.text) };
        let entry = &row.entry;
        let intent = if row.settles { self.settle(&entry.id) } else { None };
        connection
            .prepare_cached(
                "INSERT INTO audit (seq, id, phase, time, request_id, key, server, tool, decision, outcome, intent, entry,
                 prev, hash) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)",
            )?
            .execute(params![
                tip.seq,
                entry.id,
                phase_word(entry.phase),
                row.time.0,
                entry.request_id,
                entry.key,
                entry.server,
                entry.tool,
                entry.decision,
                entry.outcome,
                intent,
                row.text,
                self.tip.hash,
                tip.hash,
            ])?;
        if entry.phase == Phase::Intent {
            self.waiting.insert(Arc::clone(&entry.id), tip.seq);
        }
        if let (Some(parent), Phase::Outcome) = (&entry.parent, entry.phase) {
            let sql = "INSERT OR REPLACE INTO audit_children (parent, seq) VALUES (?1, ?2)";
            connection.prepare_cached(sql)?.execute(params![parent, tip.seq])?;
        }
        self.tip = tip;
        self.earliest = self.earliest.min(row.time.0);
        self.latest = self.latest.max(row.time.0);
        if tip.seq % BLOCK == 0 { self.end_block(connection) } else { Ok(()) }
    }

    /// The intent that this outcome settles, which then no longer waits.
    fn settle(&mut self, id: &str) -> Option<i64> {
        let (id, seq) = self.waiting.remove_entry(id)?;
        if seq <= block_start(self.tip.seq) {
            self.settled.push(id);
        }
        Some(seq)
    }

    /// Indexes the block that is now full, and notes which intents wait at its end.
    fn end_block(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        let start = self.tip.seq.saturating_sub(BLOCK);
        let span = "INSERT OR REPLACE INTO audit_spans (block, earliest, latest) VALUES (?1, ?2, ?3)";
        connection.prepare_cached(span)?.execute(params![start / BLOCK, self.earliest, self.latest])?;
        let ids = "INSERT OR REPLACE INTO audit_ids (id, seq) SELECT id, seq FROM audit WHERE seq > ?1";
        connection.prepare_cached(ids)?.execute([start])?;
        let mut done = connection.prepare_cached("DELETE FROM audit_open WHERE id = ?1")?;
        for id in self.settled.drain(..) {
            done.execute([id])?;
        }
        let mut wait = connection.prepare_cached("INSERT OR REPLACE INTO audit_open (id, seq) VALUES (?1, ?2)")?;
        for (id, seq) in self.waiting.iter().filter(|(_, seq)| **seq > start) {
            wait.execute(params![id, seq])?;
        }
        (self.earliest, self.latest) = (i64::MAX, i64::MIN);
        Ok(())
    }
}

/// Whether the entry is in the table already.
pub(in crate::store) fn holds(connection: &Connection, row: &Row) -> rusqlite::Result<bool> {
    let sql = format!("SELECT 1 FROM audit WHERE seq IN ({}) AND phase = ?2", seqs_of_id());
    connection.prepare(&sql)?.exists(params![row.entry.id, phase_word(row.entry.phase)])
}
