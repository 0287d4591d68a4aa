//! Whether policy may ever permit a tool to somebody, whatever the arguments: what lists and searches show.
//!
//! A policy is split at its top-level `&&`. What reads nothing of `context` is evaluated as it is; what does is
//! assumed to favour the caller: a permit loses that part, a forbid that has such a part is left out. So a tool that
//! some call could be allowed is never hidden.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use cedar_policy::pst::{self, BinaryOp, Clause, Effect, Expr, StaticPolicy, Template};
use cedar_policy::{Policy as CedarPolicy, PolicyId};

use super::reads::Reads;

/// The policy as favourable as a call could make it, and what that still reads. No policy where it then never
/// forbids.
///
/// # Errors
/// What Cedar says where the parts do not make a policy.
pub(super) fn favourable(body: &Template, id: &PolicyId) -> Result<(Option<CedarPolicy>, Reads), String> {
    let mut parts = Vec::new();
    for clause in body.clauses() {
        match clause {
            Clause::When(expression) => split(expression, BinaryOp::And, &Clause::When, &mut parts),
            Clause::Unless(expression) => split(expression, BinaryOp::Or, &Clause::Unless, &mut parts),
        }
    }
    let reads = |clause: &Clause| match clause {
        Clause::When(expression) | Clause::Unless(expression) => Reads::of_expression(expression),
    };
    let (dropped, kept): (Vec<Clause>, Vec<Clause>) = parts.into_iter().partition(|part| reads(part).context());
    if body.effect == Effect::Forbid && !dropped.is_empty() {
        return Ok((None, Reads::NOTHING));
    }
    let left = kept.iter().fold(Reads::NOTHING, |all, part| all | reads(part));
    let id = pst::PolicyID(AsRef::<str>::as_ref(id).into());
    let template = Template::new(id, body.effect, body.principal.clone(), body.action.clone(), body.resource.clone())
        .try_with_clauses(kept)
        .and_then(|template| Ok(StaticPolicy::try_from(template)?))
        .map_err(|error| error.to_string())?;
    let policy = CedarPolicy::from_pst(pst::Policy::Static(template)).map_err(|error| error.to_string())?;
    Ok((Some(policy), left))
}

fn split(expression: &Arc<Expr>, at: BinaryOp, clause: &dyn Fn(Arc<Expr>) -> Clause, parts: &mut Vec<Clause>) {
    match &**expression {
        Expr::BinaryOp { op, left, right } if *op == at => {
            split(left, at, clause, parts);
            split(right, at, clause, parts);
        }
        _ => parts.push(clause(Arc::clone(expression))),
    }
}

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
