//! A call that waits for a person, for a modern client that can send its user to a page: it is asked to (URL mode
//! elicitation), and asks again with the state that it was given once its user has been there.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::Asked;
use crate::domain::id::ApprovalId;
use crate::domain::json::{Json, canonical, sha256_hex};
use crate::domain::outcome::{Carried, Outcome, Refusal};
use crate::domain::principal::Principal;
use crate::gateway::{Gateway, waits_for};
use crate::wire::era::Era;
use crate::wire::hop;
use crate::wire::mcp::{Reply, advice, asking};
use crate::wire::rpc::RpcError;

/// The key of the question in `inputRequests`.
const KEY: &str = "approval";
/// How long the retry of a call waits for the decision; after that its client is asked again.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a client can do about an approval, and what it has done.
#[derive(Debug)]
pub(super) struct Approval {
    gateway: Arc<Gateway>,
    principal: Principal,
    /// What is asked for, whoever asks and however often.
    digest: String,
    /// Its user has gone to the page of this one.
    visited: Option<ApprovalId>,
    /// It can send its user to a page, and the user has not declined.
    asks: bool,
}

/// What the request says of an approval; `None` where this client cannot be asked about one.
///
/// # Errors
/// A sentence for the client, whose state is for another request, or too old. A state that is no approval's is
/// `Ok(None)`, with `ours` the caller's word on whether it could be anybody else's.
pub(super) fn read(
    gateway: &Arc<Gateway>,
    asked: &Asked,
    method: &str,
    params: Option<&Json>,
    ours: bool,
) -> Result<Option<Box<Approval>>, RpcError> {
    let governed = matches!(method, "tools/call" | "prompts/get" | "resources/read");
    if asked.era != Era::Modern || !governed {
        return Ok(None);
    }
    let digest = digest(method, params);
    let state = hop::member(params, "requestState");
    let opened = state.as_ref().and_then(|state| gateway.open_approval_state(&asked.principal, &digest, state));
    let ticket = match (opened, &state) {
        (Some(Ok(ticket)), _) => Some(ticket),
        (Some(Err(why)), _) => return Err(RpcError::new(200, -32602, why)),
        (None, Some(_)) if ours => {
            let why = "`requestState` is not one that was given for this request: start the call anew";
            return Err(RpcError::new(200, -32602, why));
        }
        (None, _) => None,
    };
    let action = ticket.as_ref().and_then(|_| action(params));
    let declined = matches!(action.as_deref(), Some("decline" | "cancel"));
    let declared = asked.meta.client_capabilities.as_ref();
    let asks = !declined && declared.is_some_and(|it| it.get("elicitation").and_then(|it| it.get("url")).is_some());
    let visited = ticket.filter(|_| action.as_deref() == Some("accept"));
    let (gateway, principal) = (Arc::clone(gateway), asked.principal.clone());
    Ok(Some(Box::new(Approval { gateway, principal, digest, visited, asks })))
}

/// What the client says of the page.
fn action(params: Option<&Json>) -> Option<String> {
    let responses = hop::member(params, "inputResponses")?;
    hop::member(Some(&hop::member(Some(&responses), KEY)?), "action")?.decode().ok()
}

fn digest(method: &str, params: Option<&Json>) -> String {
    let part = |name| hop::member(params, name).map(|part| canonical(&part.value())).unwrap_or_default();
    sha256_hex([method, &part("name"), &part("uri"), &part("arguments")].join("\n").as_bytes())
}

impl Approval {
    /// Whether the state of the request was this approval's, and nobody else's.
    pub(super) fn resumes(&self, params: Option<&Json>) -> bool {
        let state = hop::member(params, "requestState");
        state.is_some_and(|state| self.gateway.open_approval_state(&self.principal, &self.digest, &state).is_some())
    }

    /// Waits a while for the decision, where the user has been at the page.
    pub(super) async fn wait(&self, cancel: &CancellationToken) {
        if let Some(id) = &self.visited {
            let waiting = self.gateway.await_decision(&self.principal, id, PATIENCE);
            cancel.run_until_cancelled(waiting).await;
        }
    }

    /// What asks the client to send its user to the page, where a call has ended in that. `bare`: nothing of the gateway's
    /// own stands beside it.
    pub(super) fn reply(&self, carried: &Carried, bare: bool) -> Option<Reply> {
        let ticket = waits_for(carried).filter(|_| self.asks)?;
        let state = self.gateway.seal_approval_state(&self.principal, &self.digest, ticket)?;
        let message = match &carried.outcome {
            Outcome::Refused(refusal @ Refusal::ApprovalNeeded(_)) => advice(refusal),
            _ => return None,
        };
        let params = serde_json::json!({
            "mode": "url", "elicitationId": ticket.id, "url": ticket.url, "message": message,
        });
        let question = (KEY.to_owned(), "elicitation/create".to_owned(), Some(Json::of(&params)));
        let result = hop::asks_for_input(&[question], &state);
        Some(if bare { Reply::result(result) } else { asking(&result, &carried.governance) })
    }
}
