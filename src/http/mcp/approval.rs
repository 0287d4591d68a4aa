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

/// The key of the question in `inputRequests`.
const KEY: &str = "approval";
const STATE: &str = "requestState";
const UNKNOWN: &str = "`requestState` is not one that was given for this request: start the call anew";
/// How long the retry of a call waits for the decision; after that its client is asked again.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a client can do about an approval, and what it has done.
#[derive(Debug)]
pub(super) struct Approval {
    gateway: Arc<Gateway>,
    principal: Principal,
    method: String,
    params: Option<Json>,
    /// The approval that the request comes back to.
    resumed: Option<ApprovalId>,
    /// It can send its user to a page.
    asks: bool,
}

/// What the request says of an approval; `None` where this client cannot be asked about one.
///
/// # Errors
/// A sentence for the client, whose state is for another request, or too old; `ours` says that it can be nobody else's.
pub(super) fn read(
    gateway: &Arc<Gateway>,
    asked: &Asked,
    method: &str,
    params: Option<&Json>,
    ours: bool,
) -> Result<Option<Box<Approval>>, &'static str> {
    let governed = matches!(method, "tools/call" | "prompts/get" | "resources/read");
    if asked.era != Era::Modern || !governed {
        return Ok(None);
    }
    let declared = asked.meta.client_capabilities.as_ref().and_then(|it| it.get("elicitation")?.get("url"));
    let state = params.filter(|params| params.as_str().contains(STATE)).and_then(|_| hop::member(params, STATE));
    if declared.is_none() && state.is_none() {
        return Ok(None);
    }
    let (gateway, principal, params) = (Arc::clone(gateway), asked.principal.clone(), params.cloned());
    let asks = declared.is_some();
    let mut approval = Approval { gateway, principal, method: method.to_owned(), params, resumed: None, asks };
    match state.as_ref().map(|state| approval.open(state)) {
        Some(Some(opened)) => approval.resumed = Some(opened?),
        Some(None) if ours => return Err(UNKNOWN),
        // The server's own state: whoever is asked about an approval instead would lose it.
        Some(None) => approval.asks = false,
        None => {}
    }
    Ok(Some(Box::new(approval)))
}

/// What the client says of the page.
fn action(params: Option<&Json>) -> Option<String> {
    let responses = hop::member(params, "inputResponses")?;
    hop::member(Some(&hop::member(Some(&responses), KEY)?), "action")?.decode().ok()
}

impl Approval {
    fn open(&self, state: &Json) -> Option<Result<ApprovalId, &'static str>> {
        self.gateway.open_approval_state(&self.principal, &self.digest(), state)
    }

    /// What is asked for, whoever asks and however often.
    fn digest(&self) -> String {
        let params = self.params.as_ref();
        let part = |name| hop::member(params, name).map(|part| canonical(&part.value())).unwrap_or_default();
        sha256_hex(
            [&self.method, &part("name"), &part("uri"), &part("arguments")].map(String::as_str).join("\n").as_bytes(),
        )
    }

    /// Whether the state of the request is the gateway's, about an approval.
    pub(super) const fn is_resumed(&self) -> bool {
        self.resumed.is_some()
    }

    fn action(&self) -> Option<String> {
        self.resumed.as_ref().and_then(|_| action(self.params.as_ref()))
    }

    /// Waits a while for the decision, where the user has been at the page. Whether it did.
    pub(super) async fn wait(&self, cancel: &CancellationToken) -> bool {
        let (Some(id), Some("accept")) = (&self.resumed, self.action().as_deref()) else { return false };
        let waiting = self.gateway.await_decision(&self.principal, id, PATIENCE);
        cancel.run_until_cancelled(waiting).await;
        true
    }

    /// What asks the client to send its user to the page, where a call has ended in that. `bare`: nothing of the gateway's
    /// own stands beside it.
    pub(super) fn reply(&self, carried: &Carried, bare: bool) -> Option<Reply> {
        let ticket = waits_for(carried).filter(|_| self.asks)?;
        if matches!(self.action().as_deref(), Some("decline" | "cancel")) {
            return None;
        }
        let state = self.gateway.seal_approval_state(&self.principal, &self.digest(), ticket)?;
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
