//! Calls that end at the door, those that cannot be read and those whose caller is gone: they leave a record too.

use std::sync::Arc;

use super::{Gateway, Leaving, Line, tell};
use crate::domain::call::{CallRequest, Entrance};
use crate::domain::dlp::DlpResult;
use crate::domain::id::{EventId, RequestId};
use crate::domain::outcome::{Carried, Governance, Outcome, Refusal};
use crate::domain::principal::Principal;
use crate::domain::tool::Kind;
use crate::journal::{Closing, Opening};

impl Gateway {
    /// Refuses and records a request that asks for a call in a way that cannot be read. It counts as a request of the
    /// caller's plan, as any call does.
    pub async fn refuse_unread(
        &self,
        principal: &Principal,
        id: &RequestId,
        entrance: Entrance,
        message: String,
    ) -> Carried {
        let refusal = match self.charge_request(principal) {
            Ok(()) => Refusal::InvalidRequest { message },
            Err(over_limit) => over_limit,
        };
        let (decision, policy): (_, Arc<str>) = match &refusal {
            Refusal::LimitReached { scope, .. } => ("deny", format!("limit:{scope}").into()),
            _ => ("error", "none".into()),
        };
        let opening = Opening {
            id: EventId::fresh(),
            request_id: id.clone(),
            entrance,
            key: Some(principal.key.clone()),
            user: Some(Arc::clone(&principal.user)),
            agent: Some(Arc::clone(&principal.agent)),
            tool: None,
            arguments: None,
        };
        self.refuse_at_once(opening, Kind::Tool, refusal, (decision, policy)).await
    }

    /// Carries a call that has waited for a person: as its caller would be admitted now, if at all.
    pub async fn carry_on(&self, principal: Principal, request: CallRequest, line: Line, leaving: Leaving) -> Carried {
        if let Some(principal) = self.still_admitted(&principal) {
            return self.carry(principal, request, line, leaving).await;
        }
        let opening = Opening::of(&request, &principal);
        let ground = ("deny", "none".into());
        self.refuse_at_once(opening, request.tool.kind(), Refusal::NoLongerAdmitted, ground).await
    }

    async fn refuse_at_once(
        &self,
        opening: Opening,
        kind: Kind,
        refusal: Refusal,
        (decision, policy): (&'static str, Arc<str>),
    ) -> Carried {
        let (id, event) = (opening.request_id.clone(), opening.id.clone());
        let outcome = Outcome::Refused(refusal);
        let recorded = match self.pipeline.journal.open(opening).await {
            Ok(entry) => entry.close(Closing::of(&outcome)).await,
            Err(error) => Err(error),
        };
        let outcome = match recorded {
            Ok(_) => outcome,
            Err(error) => Outcome::Refused(Refusal::Unrecorded(error.to_string())),
        };
        let governance = Governance { decision, policy, dlp_result: DlpResult::Off, audit_event_id: event };
        let carried = Carried { outcome, governance, kind, tool: None };
        tell(&id, &carried);
        carried
    }
}
