//! Whether policy may ever permit a tool to somebody, whatever the arguments: what lists and searches show.
//!
//! A policy is split at its top-level `&&` (see `rewrite`). What reads nothing of `context` is evaluated as it is;
//! what does is assumed to favour the caller: a permit loses that part, a forbid that has such a part is left out.
//! So a tool that some call could be allowed is never hidden.

use std::sync::atomic::{AtomicU8, Ordering};

/// What the policies could say of a tool at best.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outlook {
    /// A permit may match, and no forbid certainly does.
    Permit,
    /// No permit can match.
    Nothing,
    /// A forbid certainly matches.
    Forbid,
}

/// The outlooks of one principal, filled as they are asked for.
#[derive(Debug)]
pub(super) struct Outlooks(Box<[AtomicU8]>);

impl Outlooks {
    pub(super) fn new(slots: usize) -> Self {
        Self((0..slots).map(|_| AtomicU8::new(0)).collect())
    }

    /// The outlook in a slot, worked out at the first time of asking.
    pub(super) fn at(&self, slot: usize, work_out: impl FnOnce() -> Outlook) -> Outlook {
        let Some(cell) = self.0.get(slot) else { return work_out() };
        match cell.load(Ordering::Relaxed) {
            1 => Outlook::Permit,
            2 => Outlook::Nothing,
            3 => Outlook::Forbid,
            _ => {
                let outlook = work_out();
                cell.store(
                    match outlook {
                        Outlook::Permit => 1,
                        Outlook::Nothing => 2,
                        Outlook::Forbid => 3,
                    },
                    Ordering::Relaxed,
                );
                outlook
            }
        }
    }
}
