//! Adds entries to the chain; on the writer's thread, inside its transaction.

use rusqlite::{Connection, OptionalExtension, params};

use super::{BLOCK, Row, block_start, phase_word, seqs_of_id};
use crate::domain::audit::Phase;
use crate::store::chain::{GENESIS, Hash, Tip, link};

/// Where the chain ends, and what the block that is not yet full holds.
#[derive(Debug, Clone, Copy)]
pub(in crate::store) struct Pen {
    tip: Tip,
    /// Times of the block, in milliseconds.
    earliest: i64,
    latest: i64,
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
        Ok(Self { tip, earliest: span.0, latest: span.1 })
    }

    /// Adds an entry and gives where the chain ends then.
    pub(in crate::store) fn append(self, connection: &Connection, row: &Row) -> rusqlite::Result<Self> {
        let tip = Tip { seq: self.tip.seq.saturating_add(1), hash: link(&self.tip.hash, &row.text) };
        let intent = if row.settles { settle(connection, row)? } else { None };
        let entry = &row.entry;
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
            let mut wait = connection.prepare_cached("INSERT OR REPLACE INTO audit_open (id, seq) VALUES (?1, ?2)")?;
            wait.execute(params![entry.id, tip.seq])?;
        }
        let next = Self { tip, earliest: self.earliest.min(row.time.0), latest: self.latest.max(row.time.0) };
        if tip.seq % BLOCK == 0 { next.end_block(connection) } else { Ok(next) }
    }

    /// Indexes the block that is now full.
    fn end_block(self, connection: &Connection) -> rusqlite::Result<Self> {
        let start = self.tip.seq.saturating_sub(BLOCK);
        let span = "INSERT OR REPLACE INTO audit_spans (block, earliest, latest) VALUES (?1, ?2, ?3)";
        connection.prepare_cached(span)?.execute(params![start / BLOCK, self.earliest, self.latest])?;
        let ids = "INSERT OR REPLACE INTO audit_ids (id, seq) SELECT id, seq FROM audit WHERE seq > ?1";
        connection.prepare_cached(ids)?.execute([start])?;
        Ok(Self { earliest: i64::MAX, latest: i64::MIN, ..self })
    }
}

/// The intent that this outcome settles, which then no longer waits.
fn settle(connection: &Connection, row: &Row) -> rusqlite::Result<Option<i64>> {
    let sql = "DELETE FROM audit_open WHERE id = ?1 RETURNING seq";
    connection.prepare_cached(sql)?.query_row([&row.entry.id], |row| row.get(0)).optional()
}

/// Whether the entry is in the table already.
pub(in crate::store) fn holds(connection: &Connection, row: &Row) -> rusqlite::Result<bool> {
    let sql = format!("SELECT 1 FROM audit WHERE seq IN ({}) AND phase = ?2", seqs_of_id());
    connection.prepare(&sql)?.exists(params![row.entry.id, phase_word(row.entry.phase)])
}
