//! Requests at a door of calls that cannot be read as a call: they leave a record too.

use std::sync::Arc;

use super::{Gateway, tell};
use crate::domain::call::Entrance;
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
        let event = EventId::fresh();
        let opening = Opening {
            id: event.clone(),
            request_id: id.clone(),
            entrance,
            key: Some(principal.key.clone()),
            user: Some(Arc::clone(&principal.user)),
            agent: Some(Arc::clone(&principal.agent)),
            tool: None,
            arguments: None,
        };
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
        let carried = Carried { outcome, governance, kind: Kind::Tool, tool: None };
        tell(id, &carried);
        carried
    }
}
