//! Whether the chain holds.

use serde::Serialize;

use super::{Journal, JournalError};
use crate::domain::audit::{Entry, Phase};
use crate::domain::json::hex;
use crate::store::Link;
use crate::store::chain::{Hash, Tip, link};

/// Where the chain breaks, and how.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// The first entry that is not as it was written.
    pub seq: i64,
    pub what: String,
}

impl Fault {
    fn at(seq: i64, what: impl Into<String>) -> Self {
        Self { seq, what: what.into() }
    }
}

/// How far a verification has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifyStep {
    /// Entries that this step found whole.
    pub checked: usize,
    /// The last entry found whole: where the next step begins.
    pub head: Tip,
    /// The end was reached, or a fault.
    pub done: bool,
    pub fault: Option<Fault>,
}

impl Journal {
    /// Verifies the next `limit` entries after `from`, which is [`Tip::START`] at first and then the `head` of the
    /// step before. It finds an entry edited, removed, inserted or moved, a column that contradicts its entry, and a
    /// log that ends before the head that was kept beside it. It cannot find an end cut off together with that file:
    /// compare the head with one kept elsewhere.
    ///
    /// # Errors
    /// Where the store is closed. A file that cannot be read is a fault, not an error.
    pub async fn verify_from(&self, from: Tip, limit: usize) -> Result<VerifyStep, JournalError> {
        let limit = limit.max(1);
        let kept = self.0.store.kept_head();
        let found = self.0.store.audit_links(from.seq.saturating_add(1), limit).await?;
        let complete = found.links.len() < limit;
        let mut step = VerifyStep { checked: 0, head: from, done: false, fault: None };
        for found in found.links {
            let next = match check(step.head, &found) {
                Ok(hash) => Tip { seq: found.seq, hash },
                Err(fault) => return Ok(VerifyStep { done: true, fault: Some(fault), ..step }),
            };
            if kept.as_ref().is_some_and(|(seq, hash)| *seq == next.seq && *hash != hex(&next.hash)) {
                let fault =
                    Fault::at(next.seq, "the whole log up to here was replaced: the head kept beside it differs");
                return Ok(VerifyStep { done: true, fault: Some(fault), ..step });
            }
            step.head = next;
            step.checked += 1;
        }
        let next = step.head.seq.saturating_add(1);
        step.fault = match (found.damage, kept) {
            (Some(damage), _) => Some(Fault::at(next, format!("the file is damaged here: {damage}"))),
            (None, Some((seq, _))) if complete && seq > step.head.seq => {
                Some(Fault::at(next, format!("the log ends here, but it had {seq} entries: its end was cut off")))
            }
            _ => None,
        };
        step.done = complete || step.fault.is_some();
        Ok(step)
    }

    /// Verifies the next entries as [`Self::verify_from`] does and, once the chain is found whole, the file and the index
    /// of the log: what is damaged there, though no entry is. That takes as long as the file is large.
    ///
    /// # Errors
    /// Where the store is closed.
    pub async fn verify_whole(&self, from: Tip, limit: usize) -> Result<(VerifyStep, Option<String>), JournalError> {
        let step = self.verify_from(from, limit).await?;
        let damage = if step.done && step.fault.is_none() { self.check_file().await? } else { None };
        Ok((step, damage))
    }

    /// Verifies the last `count` entries, taking the one before them for granted.
    pub(super) async fn check_end(&self, count: usize) -> Result<Option<Fault>, JournalError> {
        let tip = self.0.store.audit_tip().await?;
        let first = tip.seq.saturating_sub(i64::try_from(count).unwrap_or(i64::MAX)).max(0);
        let from = if first == 0 {
            Tip::START
        } else {
            let before = self.0.store.audit_links(first, 1).await?;
            match before.links.first().map(|link| (link.seq, Hash::try_from(link.hash.as_slice()))) {
                Some((seq, Ok(hash))) if seq == first => Tip { seq, hash },
                _ => return Ok(Some(Fault::at(first, "the entry cannot be read"))),
            }
        };
        Ok(self.verify_from(from, count.saturating_add(1)).await?.fault)
    }
}

/// Checks one link after `head`; its hash where it is whole.
fn check(head: Tip, found: &Link) -> Result<Hash, Fault> {
    let expected = head.seq.saturating_add(1);
    if found.seq != expected {
        return Err(Fault::at(expected, format!("entries {expected} to {} are missing", found.seq.saturating_sub(1))));
    }
    if found.prev != head.hash {
        return Err(Fault::at(found.seq, "the entry does not follow the one before it"));
    }
    let hash = link(&head.hash, &found.text);
    if found.hash != hash {
        return Err(Fault::at(found.seq, "the entry is not the one that was hashed"));
    }
    match contradiction(found) {
        Some(column) => Err(Fault::at(found.seq, format!("the column `{column}` contradicts the entry"))),
        None => Ok(hash),
    }
}

/// The first column that does not repeat what the hashed text says.
fn contradiction(found: &Link) -> Option<&'static str> {
    let Ok(entry) = serde_json::from_str::<Entry>(&found.text) else { return Some("entry") };
    let phase = match entry.phase {
        Phase::Intent => "intent",
        Phase::Outcome => "outcome",
    };
    let agreements = [
        ("id", *entry.id == *found.id),
        ("phase", phase == found.phase),
        ("time", entry.time == found.time.rfc3339()),
        ("request_id", *entry.request_id == *found.request_id),
        ("key", entry.key.as_deref() == found.key.as_deref()),
        ("server", entry.server.as_deref() == found.server.as_deref()),
        ("tool", entry.tool.as_deref() == found.tool.as_deref()),
        ("decision", entry.decision == found.decision),
        ("outcome", entry.outcome.as_deref() == found.outcome.as_deref()),
        ("intent", found.intent_agrees),
    ];
    agreements.into_iter().find_map(|(column, agrees)| (!agrees).then_some(column))
}
