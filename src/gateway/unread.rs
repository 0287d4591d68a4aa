//! Calls that end at the door, those that cannot be read and those whose caller is gone: they leave a record too.

use std::sync::Arc;

use super::{Gateway, Leaving, Line, tell};
use crate::domain::call::{CallRequest, Entrance, ToolRef};
use crate::domain::dlp::DlpResult;
use crate::domain::id::{EventId, RequestId};
use crate::domain::outcome::{Carried, Governance, Outcome, Refusal};
use crate::domain::principal::Principal;
use crate::domain::tool::Kind;
use crate::domain::trace::Provenance;
use crate::journal::{Closing, Opening};

/// A request that asks for a call and comes to none: it cannot be read, names nothing, or cannot begin.
#[derive(Debug)]
pub struct Uncalled<'a> {
    pub principal: &'a Principal,
    pub request: &'a RequestId,
    pub entrance: Entrance,
    pub provenance: Provenance,
    /// What it asks for, as far as that could be read.
    pub tool: Option<ToolRef>,
    /// Whether it is still to be charged to the caller's plan: it counts as a request, as any call does.
    pub metered: bool,
}

impl Gateway {
    /// Charges and records such a request; over the limit of its plan it ends as that.
    pub async fn end_uncalled(&self, uncalled: Uncalled<'_>, outcome: Outcome) -> Carried {
        let Uncalled { principal, request, entrance, provenance, tool, metered } = uncalled;
        let charged = if metered { self.charge_request(principal) } else { Ok(()) };
        let outcome = charged.map_or_else(Outcome::Refused, |()| outcome);
        let ground: (_, Arc<str>) = match &outcome {
            Outcome::Refused(Refusal::LimitReached { scope, .. }) => ("deny", format!("limit:{scope}").into()),
            Outcome::Refused(refusal) if refusal.hides() => ("deny", "none".into()),
            _ => ("error", "none".into()),
        };
        let kind = tool.as_ref().map_or(Kind::Tool, ToolRef::kind);
        let opening = Opening {
            id: EventId::fresh(),
            request_id: request.clone(),
            entrance,
            key: Some(principal.key.clone()),
            user: Some(Arc::clone(&principal.user)),
            agent: Some(Arc::clone(&principal.agent)),
            tool,
            arguments: None,
        };
        self.end_at_once(opening, &provenance, kind, outcome, ground).await
    }

    /// Carries a call that has waited for a person: as its caller would be admitted now, if at all.
    pub async fn carry_on(&self, principal: Principal, request: CallRequest, line: Line, leaving: Leaving) -> Carried {
        if let Some(principal) = self.still_admitted(&principal) {
            return self.carry(principal, request, line, leaving).await;
        }
        let opening = Opening::of(&request, &principal);
        let outcome = Outcome::Refused(Refusal::NoLongerAdmitted);
        self.end_at_once(opening, &line.provenance, request.tool.kind(), outcome, ("deny", "none".into())).await
    }

    async fn end_at_once(
        &self,
        opening: Opening,
        provenance: &Provenance,
        kind: Kind,
        outcome: Outcome,
        (decision, policy): (&'static str, Arc<str>),
    ) -> Carried {
        let (request, event) = (opening.request_id.clone(), opening.id.clone());
        let recorded = match self.pipeline.journal.open(opening).await {
            Ok(mut entry) => {
                entry.came_from(provenance, None, None);
                entry.close(Closing::of(&outcome)).await
            }
            Err(error) => Err(error),
        };
        let outcome = match recorded {
            Ok(_) => outcome,
            Err(error) => Outcome::Refused(Refusal::Unrecorded(error.to_string())),
        };
        let governance = Governance { decision, policy, dlp_result: DlpResult::Off, audit_event_id: event };
        let carried = Carried { outcome, governance, kind, tool: None };
        tell(&request, &carried);
        carried
    }
}
