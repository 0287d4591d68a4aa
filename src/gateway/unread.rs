//! Requests that ask for a call and come to none: they leave a record too.

use std::sync::Arc;

use super::{Gateway, tell};
use crate::domain::audit::Decision;
use crate::domain::call::{Entrance, ToolRef};
use crate::domain::dlp::DlpResult;
use crate::domain::id::{EventId, RequestId};
use crate::domain::outcome::{Carried, Governance, Outcome};
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
        let (decision, policy) = match &outcome {
            Outcome::Refused(refusal) => (refusal.decision(), refusal.rule()),
            _ => (None, None),
        };
        let (decision, policy) =
            (decision.unwrap_or(Decision::Error).as_str(), policy.unwrap_or_else(|| "none".into()));
        let (event, kind) = (EventId::fresh(), tool.as_ref().map_or(Kind::Tool, ToolRef::kind));
        let opening = Opening {
            id: event.clone(),
            request_id: request.clone(),
            entrance,
            key: Some(principal.key.clone()),
            user: Some(Arc::clone(&principal.user)),
            agent: Some(Arc::clone(&principal.agent)),
            tool,
            arguments: None,
        };
        let recorded = match self.pipeline.journal.open(opening).await {
            Ok(mut entry) => {
                entry.came_from(&provenance, None, None);
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
        tell(request, &carried);
        carried
    }
}
