//! Decisions of people: each is an act of somebody, recorded with their name before it takes effect.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Gateway;
use super::control::{Actor, Failed, close_act};
use crate::approvals::{Approvals, checked};
pub use crate::approvals::{Undecided, Viewer};
use crate::domain::approval::{ApprovalState, Decision, Ticket};
use crate::domain::id::{ApprovalId, KeyId};
use crate::domain::json::Json;
use crate::domain::outcome::{Carried, Outcome, Refusal};
use crate::domain::principal::Principal;

/// A page of the command line's.
const MAX_PAGE: usize = 500;

/// What a state of an approval is sealed for, and the longest that is read, in bytes.
const PURPOSE: &[u8] = b"toolgate approval state 1";
const MAX_STATE: usize = 4096;

/// What a `requestState` says of an approval.
#[derive(Serialize, Deserialize)]
struct State {
    #[serde(rename = "k")]
    key: KeyId,
    /// Of what was asked.
    #[serde(rename = "d")]
    digest: String,
    #[serde(rename = "a")]
    id: ApprovalId,
    /// Milliseconds since 1970 until which it is good.
    #[serde(rename = "e")]
    until: i64,
}

/// What the machine's owner asks about approvals.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case")]
pub enum ApprovalsCommand {
    List { state: Option<ApprovalState>, limit: usize, cursor: Option<String> },
    Show { id: String },
    Decide { id: String, decision: Decision, comment: Option<String> },
}

impl Gateway {
    pub(super) async fn approvals_command(&self, command: ApprovalsCommand) -> Result<Value, Failed> {
        match command {
            ApprovalsCommand::List { state, limit, cursor } => {
                let before = cursor.as_deref().map(ApprovalId::from);
                let page = self.approvals_page(Viewer::Owner, state, before, limit.clamp(1, MAX_PAGE)).await;
                let (approvals, next) = page.map_err(|error| Failed::of(&error))?;
                Ok(json!({"approvals": approvals, "next_cursor": next}))
            }
            ApprovalsCommand::Show { id } => {
                let found = self.approval(Viewer::Owner, &ApprovalId::from(id.as_str())).await;
                let found = found.map_err(|error| Failed::of(&error))?;
                found.ok_or_else(|| Failed(format!("there is no approval `{id}`: see `toolgate approvals list`")))
            }
            ApprovalsCommand::Decide { id, decision, comment } => {
                let id = ApprovalId::from(id.as_str());
                let decided = self.decide_approval(&Actor::owner(), None, &id, decision, comment).await;
                decided.map_err(|error| Failed::of(&error))
            }
        }
    }

    /// One approval, where the viewer sees it.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub async fn approval(&self, viewer: Viewer<'_>, id: &ApprovalId) -> Result<Option<Value>, Undecided> {
        Ok(self.pipeline.approvals.one(viewer, id, &self.state().settings).await?)
    }

    /// A page of approvals, newest first, and where the next begins.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub async fn approvals_page(
        &self,
        viewer: Viewer<'_>,
        state: Option<ApprovalState>,
        before: Option<ApprovalId>,
        limit: usize,
    ) -> Result<(Vec<Value>, Option<ApprovalId>), Undecided> {
        Ok(self.pipeline.approvals.page(viewer, state, before, limit, &self.state().settings).await?)
    }

    /// Approves or denies for `actor`; `by` is absent for the machine's owner, who may decide on everything. Gives the
    /// approval as it is then.
    ///
    /// # Errors
    /// Where there is none, it is not theirs to decide, it waits for no decision, or that cannot be stored or recorded.
    pub async fn decide_approval(
        &self,
        actor: &Actor,
        by: Option<&Principal>,
        id: &ApprovalId,
        decision: Decision,
        comment: Option<String>,
    ) -> Result<Value, Undecided> {
        let comment = checked(comment)?;
        let approvals = &self.pipeline.approvals;
        let record = approvals.find(id).await?.ok_or_else(|| Undecided::Missing(id.to_string()))?;
        let act = match decision {
            Decision::Approve => "approvals.approve",
            Decision::Deny => "approvals.deny",
        };
        let failed = |failed: Failed| Undecided::Failed(failed.to_string());
        let mut entry = self.open_act(actor, act).await.map_err(failed)?;
        entry.note(&format!("approval {id}"));
        entry.note(&format!("tool {}", record.facts.tool));
        entry.note(&format!("arguments {}", record.facts.arguments_digest));
        for digest in record.facts.beside_digest.iter().chain(&record.facts.meta_digest) {
            entry.note(&format!("beside them {digest}"));
        }
        if let Some(comment) = &comment {
            entry.note(&format!("comment {comment}"));
        }
        let allowed = by.map_or(Ok(()), |by| Approvals::may_decide(&record, by));
        let decided = match allowed {
            Ok(()) => {
                entry.intend().await.map_err(|error| Undecided::Failed(error.to_string()))?;
                approvals.decide(id, decision, actor.who(), comment).await
            }
            Err(why) => Err(why),
        };
        if let Err(why) = &decided {
            entry.note(&why.to_string());
        }
        let closed = close_act(entry, decided.is_ok()).await;
        decided?;
        if let Err(unrecorded) = closed {
            // Nothing that is not recorded may stand.
            drop(approvals.take_back(id).await);
            return Err(failed(unrecorded));
        }
        approvals.tell();
        let viewer = by.map_or(Viewer::Owner, Viewer::Holder);
        self.approval(viewer, id).await?.ok_or_else(|| Undecided::Missing(id.to_string()))
    }

    /// Waits until somebody has decided on the approval that a call waits for. False where patience ends first.
    pub async fn await_decision(&self, principal: &Principal, id: &ApprovalId, patience: Duration) -> bool {
        let stopping = self.stopping();
        let decided = self.pipeline.approvals.decided(&principal.key, id, patience);
        stopping.run_until_cancelled(decided).await.unwrap_or(false)
    }

    /// Requests that wait for a person's decision with their connection held.
    #[must_use]
    pub fn waiting_for_decisions(&self) -> usize {
        self.pipeline.approvals.waiting()
    }

    /// A `requestState` that leads back to the approval that a request waits for.
    #[must_use]
    pub fn seal_approval_state(&self, principal: &Principal, digest: &str, ticket: &Ticket) -> Option<String> {
        let state = State {
            key: principal.key.clone(),
            digest: digest.to_owned(),
            id: ticket.id.clone(),
            until: ticket.expires.0,
        };
        self.sessions.sealer().seal_text(PURPOSE, Json::of(&state).as_str()).ok()
    }

    /// Reads such a state; `None` where it is something else.
    ///
    /// # Errors
    /// A sentence for the client: it is for another principal or another request, or too old.
    pub fn open_approval_state(
        &self,
        principal: &Principal,
        digest: &str,
        sealed: &Json,
    ) -> Option<Result<ApprovalId, &'static str>> {
        let text = sealed.decode::<String>().ok().filter(|text| text.len() <= MAX_STATE)?;
        let state: State = serde_json::from_str(&self.sessions.sealer().open_text(PURPOSE, &text)?).ok()?;
        Some(if state.key != principal.key || state.digest != digest {
            Err("`requestState` is not one that was given for this request: start the call anew")
        } else if state.until <= self.now().0 {
            Err("the approval that `requestState` names has expired: start the call anew")
        } else {
            Ok(state.id)
        })
    }
}

/// The approval that a call waits for, where it waits for one.
#[must_use]
pub fn waits_for(carried: &Carried) -> Option<&Ticket> {
    match &carried.outcome {
        Outcome::Refused(Refusal::ApprovalNeeded(awaited)) => Some(&awaited.ticket),
        _ => None,
    }
}
