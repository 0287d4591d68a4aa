//! Whether policy may ever permit a tool to somebody, whatever the arguments: what lists and searches show.
//!
//! A policy is split at its top-level `&&` (see `rewrite`). What reads nothing of `context` is evaluated as it is;
//! what does is assumed to favour the caller: a permit loses that part, a forbid that has such a part is left out.
//! So a tool that some call could be allowed is never hidden.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use cedar_policy::{Authorizer, Context, Decision};

use crate::domain::decision::{Mode, PolicyEffect};
use crate::domain::principal::Principal;
use crate::domain::tool::Tool;

use super::bundle::Policy;
use super::evaluate::{entities, request};
use super::snapshot::Policies;
use super::subject::Subject;
use super::who::Known;

impl Policies {
    /// Whether policies and roles could ever permit this tool to this principal, whatever the arguments. Never false
    /// where [`Self::judge`] could allow or ask for approval.
    #[must_use]
    pub fn could_permit(&self, who: &Principal, tool: &Tool) -> bool {
        self.view(who).could_permit(tool)
    }

    /// The enforced permits whose heads fit a tool, whoever calls: without one, and without roles of its own, nobody may
    /// ever call it.
    pub fn permits<'a>(&'a self, tool: &'a Tool) -> impl Iterator<Item = &'a Policy> {
        self.bundle.policies().iter().filter(|policy| {
            policy.mode() == Mode::Enforce && policy.effect() == PolicyEffect::Permit && policy.scope.admits(tool)
        })
    }

    /// Why nobody may call a tool, where the policies do not fit it.
    #[must_use]
    pub fn withheld(&self, tool: &Tool) -> Option<Arc<str>> {
        self.subject(tool).err().map(|withheld| withheld.reason)
    }

    /// Why nobody may call a tool, whoever they are; `None` where somebody may.
    #[must_use]
    pub fn closed(&self, tool: &Tool) -> Option<Arc<str>> {
        let open = || tool.settings.allowed_roles.is_some() || self.permits(tool).next().is_some();
        self.withheld(tool).or_else(|| (!open()).then(|| "no policy permits it to anybody".into()))
    }

    /// The catalogue as one principal may see it: for asking about many tools.
    #[must_use]
    pub fn view<'a>(&'a self, who: &'a Principal) -> View<'a> {
        View { policies: self, who, known: self.acquaintances.meet(who) }
    }
}

/// The catalogue as one principal may see it.
#[derive(Debug)]
pub struct View<'a> {
    policies: &'a Policies,
    who: &'a Principal,
    known: Arc<Known>,
}

impl View<'_> {
    /// See [`Policies::could_permit`].
    #[must_use]
    pub fn could_permit(&self, tool: &Tool) -> bool {
        let Ok(subject) = self.policies.subject(tool) else { return false };
        let roles = tool.settings.allowed_roles.as_ref();
        let holds = roles.is_some_and(|roles| roles.iter().any(|role| self.who.roles.contains(role)));
        if roles.is_some() && !holds {
            return false;
        }
        let work_out = || outlook(&self.known, &subject);
        match subject.outlook.map_or_else(work_out, |slot| self.known.outlooks.at(slot, work_out)) {
            Outlook::Permit => true,
            Outlook::Nothing => holds,
            Outlook::Forbid => false,
        }
    }
}

/// What the policies could say at best. A forbid that cannot be evaluated is no certain one.
fn outlook(known: &Known, subject: &Subject) -> Outlook {
    let (Some(entities), Ok(request)) = (entities(known, subject), request(known, subject, Context::empty())) else {
        return Outlook::Forbid;
    };
    let response = Authorizer::new().is_authorized(&request, &subject.slice.favourable, &entities);
    match response.decision() {
        Decision::Allow => Outlook::Permit,
        Decision::Deny if response.diagnostics().reason().next().is_some() => Outlook::Forbid,
        Decision::Deny => Outlook::Nothing,
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
