//! Calls on the transparent route: as if the client were connected to the one server, under the same governance.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::response::Response;
use http::HeaderMap;
use serde_json::json;
use tokio_util::sync::DropGuard;

use super::Asked;
use super::told::{event, kind_of, uncalled_as};
use super::wanted::Wanted;
use crate::domain::call::ToolRef;
use crate::domain::id::ServerName;
use crate::domain::json::{Json, sha256_hex};
use crate::domain::outcome::{Carried, Outcome, Refusal, UpstreamFault};
use crate::domain::principal::Principal;
use crate::domain::tool::Kind;
use crate::gateway::{
    Aside, Asides, Gateway, Greeting, MAX_QUESTIONS, Peer, Question, Resumed, Session, Tape, Underway, Visitor,
};
use crate::wire::envelope::Id;
use crate::wire::era::{Era, Header, LATEST_LEGACY, LEVELS};
use crate::wire::hop::{self, Onward};
use crate::wire::mcp::{GOVERNANCE_KEY, Reply, tell_as};
use crate::wire::mirror::Said;
use crate::wire::reply::{self, ResultType};
use crate::wire::rpc::{self, RpcError};

/// The level of messages that a legacy client hears unless it has said.
const USUAL_LEVEL: &str = "info";
/// Questions that come so close together are one round.
const TOGETHER: std::time::Duration = std::time::Duration::from_millis(25);
const LOG: &str = "notifications/message";

/// Whether the client of a session knows how to take a stream up again.
pub(super) fn resumes(session: Option<&Session>) -> bool {
    session.is_some_and(|session| session.version == LATEST_LEGACY)
}

/// The way between a client and the one server that it speaks to.
pub(super) struct Via {
    pub(super) gateway: Arc<Gateway>,
    pub(super) principal: Principal,
    pub(super) server: ServerName,
    pub(super) greeting: Greeting,
    pub(super) visitor: Option<Arc<Visitor>>,
    pub(super) method: String,
    /// The tool that is called, or began the task.
    tool: String,
    digest: String,
    log_level: Option<String>,
    capabilities: Json,
    resumes: bool,
    /// The client's.
    era: Era,
}

impl Via {
    pub(super) fn new(
        gateway: Arc<Gateway>,
        asked: &Asked,
        server: ServerName,
        greeting: Greeting,
        visitor: Option<Arc<Visitor>>,
        method: &str,
    ) -> Self {
        let capabilities = match (&visitor, asked.era) {
            (Some(visitor), _) => visitor.capabilities.clone(),
            (None, Era::Modern) => hop::client_capabilities(asked.meta.client_capabilities.as_ref(), Era::Modern),
            (None, Era::Legacy) => Json::from_parts(String::from("{}")),
        };
        let log_level = match (&visitor, greeting.era) {
            (None, _) => asked.meta.log_level.clone(),
            (Some(visitor), Era::Modern) => Some(visitor.log_level().unwrap_or_else(|| USUAL_LEVEL.to_owned())),
            // A session that is begun anew is told it again.
            (Some(visitor), Era::Legacy) => visitor.log_level(),
        };
        let resumes = resumes(asked.opened.as_ref());
        let method = method.to_owned();
        let (tool, digest) = Default::default();
        let principal = asked.principal.clone();
        Self {
            gateway,
            principal,
            server,
            greeting,
            visitor,
            method,
            tool,
            digest,
            log_level,
            capabilities,
            resumes,
            era: asked.era,
        }
    }

    /// Whether the client knows how to take a stream up again.
    pub(super) fn resumes(&self) -> bool {
        self.visitor.is_some() && self.resumes
    }

    /// A stream that the client can take up again.
    pub(super) fn tape(&self) -> Option<Arc<Tape>> {
        self.visitor.as_ref().filter(|_| self.resumes)?.tape(self.gateway.ticks(), false)
    }

    /// The kind of result that the request has: but for a call's none can say no.
    pub(super) fn kind(&self) -> Kind {
        kind_of(&self.method)
    }

    /// The client as its server will know it, with what of its params travels on.
    pub(super) fn peer(&self, era: Era, onward: Onward, asides: Asides) -> Peer {
        let session = match &self.visitor {
            Some(visitor) => Arc::clone(&visitor.session),
            None => {
                let level = self.log_level.as_deref().unwrap_or_default();
                let declared = sha256_hex(self.capabilities.bytes());
                format!("{} {era:?} {declared} {level}", self.principal.key).into()
            }
        };
        Peer {
            era,
            session,
            user: Arc::clone(&self.principal.user),
            lasting: self.visitor.is_some(),
            capabilities: self.capabilities.clone(),
            log_level: self.log_level.clone(),
            rest: onward.rest,
            meta: onward.meta,
            asides: asides.of(&self.principal.key),
        }
    }

    /// Notes what is asked, and of which tool: a call that is taken up again may end in a task of it too.
    fn is_for(&mut self, wanted: &Wanted) {
        self.digest.clone_from(&wanted.digest);
        if let ToolRef::Exact { tool, .. } = &wanted.tool {
            self.tool.clone_from(tool);
        }
    }

    /// Remembers what is asked for; gives what of its params travels on beside what is judged.
    ///
    /// # Errors
    /// A sentence for the client.
    pub(super) fn governed(
        &mut self,
        wanted: &Wanted,
        params: Option<&Json>,
        state: Option<Json>,
    ) -> Result<Onward, String> {
        self.is_for(wanted);
        wanted.onward(params, (self.era, self.greeting.era), state)
    }

    /// Carries an errand to its end, with nobody who hears anything meanwhile.
    pub(super) async fn errand(&self, asked: &Asked, id: &Id, wanted: Wanted, peer: Peer) -> Carried {
        let mut line = self.gateway.line(None, Some(Arc::new(peer)));
        line.errand = wanted.errand;
        line.provenance = asked.provenance(&self.gateway, id);
        let request = super::call::request(asked, wanted.tool, wanted.arguments);
        let leaving = super::call::leaving(asked.era);
        self.gateway.carry(asked.principal.clone(), request, line, leaving).await
    }

    /// What a modern client's `requestState` leads to.
    ///
    /// # Errors
    /// A sentence for the client.
    pub(super) fn resume(&mut self, wanted: &Wanted, state: &Json) -> Result<Resumed, &'static str> {
        self.is_for(wanted);
        self.gateway.resume(&self.principal, &wanted.digest, state)
    }

    /// An event for what the server says beside its answer, where this client wants it.
    pub(super) fn notice(&self, era: Era, token: Option<&Json>, method: &str, params: Option<&Json>) -> Option<String> {
        if method == "notifications/progress" {
            let params = hop::with_member(params?, "progressToken", token?.as_str());
            return Some(notification(method, Some(&params)));
        }
        if method == LOG && era == Era::Modern && !self.wants_log(params) {
            return None;
        }
        Some(notification(method, params))
    }

    fn wants_log(&self, params: Option<&Json>) -> bool {
        let rank = |level: &str| LEVELS.iter().position(|known| *known == level);
        let Some(least) = self.log_level.as_deref().and_then(rank) else { return false };
        let level = hop::member(params, "level").and_then(|level| level.decode::<String>().ok());
        level.as_deref().and_then(rank).is_some_and(|level| level >= least)
    }

    /// A question to a legacy client, as an event on the stream of the request that it belongs to; `None` where it cannot
    /// be asked, and the question is answered so.
    pub(super) fn ask(&self, question: Question) -> Option<String> {
        let visitor = self.visitor.as_ref()?;
        let (method, params) = (question.method.clone(), hop::of_question(question.params.as_ref()));
        let id = visitor.put(question)?;
        Some(request(id, &method, params.as_ref()))
    }

    /// Lets the call wait for a modern client's answers; the result that asks for them.
    pub(super) async fn park(&self, first: Question, mut underway: Underway) -> Result<Json, RpcError> {
        let (questions, leaving) = together(first, &mut underway).await;
        let asked: Vec<(String, String, Option<Json>)> = questions
            .iter()
            .map(|(key, question)| (key.clone(), question.method.clone(), hop::of_question(question.params.as_ref())))
            .collect();
        let state = self.gateway.park(&self.principal, &self.digest, underway, questions);
        let state = state.ok_or_else(|| RpcError::new(200, -32603, "too many calls of this key wait for answers"))?;
        leaving.disarm();
        Ok(hop::result_for(&hop::asks_for_input(&asked, &state), Era::Modern, &self.greeting.info, None))
    }

    /// A finished call as this client is told: the server's bytes, and no governance in them.
    pub(super) fn tell(&self, carried: &Carried, era: Era, host: bool) -> Reply {
        match &carried.outcome {
            Outcome::Answered(answer) => {
                Reply { status: 200, body: self.answered(&answer.result, era), retry_after: None }
            }
            Outcome::Failed(error) => {
                let told = tell_as(carried, self.kind(), era, host);
                match &error.fault {
                    UpstreamFault::Rpc(object) => self.failed(object, era, told.retry_after),
                    _ => plain(told),
                }
            }
            Outcome::Refused(_) | Outcome::Cancelled => plain(tell_as(carried, self.kind(), era, host)),
        }
    }

    /// A server's own error.
    fn failed(&self, object: &Json, era: Era, retry_after: Option<u64>) -> Reply {
        if let (Era::Modern, Some(asks)) = (era, hop::url_elicitations(object)) {
            let capabilities = self.capabilities.value();
            let able = asks.iter().all(|(_, method, params)| hop::may_ask(&capabilities, method, params.as_ref()));
            let state = self.gateway.seal_state(&self.principal, &self.digest, None).filter(|_| able);
            if let Some(state) = state {
                let result = hop::asks_for_input(&asks, &state);
                let result = hop::result_for(&result, Era::Modern, &self.greeting.info, None);
                return Reply { status: 200, body: Ok(result), retry_after: None };
            }
        }
        let body = Err(hop::error_for(object, era, &self.method));
        Reply { status: hop::status_of(object, era), body, retry_after }
    }

    fn answered(&self, result: &Json, era: Era) -> Result<Json, Json> {
        let kind = reply::scan(result.as_str()).map(|shape| shape.kind).unwrap_or_default();
        let keep = (self.method == "resources/read").then_some(0);
        let told = hop::result_for(result, era, &self.greeting.info, keep);
        match kind {
            ResultType::InputRequired => {
                let inner = hop::member(Some(result), "requestState");
                let state = self.gateway.seal_state(&self.principal, &self.digest, inner.as_ref());
                let state = state.ok_or_else(|| RpcError::new(200, -32603, "no state could be sealed").object())?;
                Ok(hop::with_member(&told, "requestState", &format!("\"{state}\"")))
            }
            ResultType::Other => Ok(self.tasks_named(&told)),
            ResultType::Absent | ResultType::Complete if self.method.starts_with("tasks/") => {
                Ok(self.tasks_named(&told))
            }
            ResultType::Absent | ResultType::Complete => Ok(told),
        }
    }

    /// A result whose task has the name under which this principal knows it.
    pub(super) fn tasks_named(&self, result: &Json) -> Json {
        let name = |holder: &Json| {
            let task: String = hop::member(Some(holder), "taskId")?.decode().ok()?;
            let name = self.gateway.task_name(&self.principal, &self.server, &self.tool, &task)?;
            Some(hop::with_member(holder, "taskId", &format!("\"{name}\"")))
        };
        let outer = name(result).unwrap_or_else(|| result.clone());
        match hop::member(Some(&outer), "task").as_ref().and_then(name) {
            Some(inner) => hop::with_member(&outer, "task", inner.as_str()),
            None => outer,
        }
    }
}

/// The questions that come with the first. Whoever leaves meanwhile has left the call, and so has whoever lets the guard go.
async fn together(first: Question, underway: &mut Underway) -> (BTreeMap<String, Question>, DropGuard) {
    let leaving = underway.cancel.clone().drop_guard();
    let mut questions = BTreeMap::from([(String::from("1"), first)]);
    // A server that asks several things at once sends them one after the other. What is beyond the most is answered, by
    // being dropped; what comes later waits for the next round.
    let end = tokio::time::Instant::now() + TOGETHER;
    let mut next = 2;
    while let Ok(Some(aside)) = tokio::time::timeout_at(end, underway.heard.recv()).await {
        match aside {
            Aside::Question(question) if questions.len() < MAX_QUESTIONS => {
                questions.insert(next.to_string(), question);
                next += 1;
            }
            // Where none is left, the client comes back with the state alone.
            Aside::Withdrawn { question: number, .. } => questions.retain(|_, question| question.number != number),
            Aside::Question(_) | Aside::Notification { .. } => {}
        }
    }
    (questions, leaving)
}

/// A client's roots are others now: where its session with the server exists, the server is told.
pub(super) async fn roots_changed(
    gateway: &Arc<Gateway>,
    asked: &Asked,
    server: ServerName,
    visitor: Option<Arc<Visitor>>,
    params: Option<&Json>,
) {
    let method = "notifications/roots/list_changed";
    let admitted = gateway.admit_aside(&asked.principal, &server, (params, asked.jwt.as_ref())).await;
    let (Ok(_seat), Ok(greeting)) = (admitted, gateway.greeting(&server).await) else { return };
    let via = Via::new(Arc::clone(gateway), asked, server.clone(), greeting, visitor, method);
    // Nobody judges or records it, so nothing of the client's own travels with it.
    gateway.notify_server(&server, method, &via.peer(asked.era, Onward::default(), Asides::deaf()));
}

/// Without what the gateway has to say: this route adds nothing to a body.
pub(super) fn plain(reply: Reply) -> Reply {
    let strip = |result: Json| match hop::member(Some(&result), "_meta") {
        Some(meta) => match hop::without_member(&meta, GOVERNANCE_KEY) {
            empty if empty.as_str() == "{}" => hop::without_member(&result, "_meta"),
            rest => hop::with_member(&result, "_meta", rest.as_str()),
        },
        None => result,
    };
    Reply { body: reply.body.map(strip), ..reply }
}

/// Checks the `Mcp-Param-…` headers of a modern call against its arguments (SEP-2243). A client that was not shown the
/// tool's schema knows of none of them; what it sends all the same is held to them.
///
/// # Errors
/// -32020 where one is missing, differs, or cannot be read.
pub(super) fn check_params(expected: &[Said], headers: &HeaderMap, shown: bool) -> Result<(), RpcError> {
    let sent = expected.iter().map(|said| (said, super::one(headers, said.header.as_str())));
    let mut due = sent.filter(|(_, sent)| shown || *sent != Header::Absent);
    due.try_for_each(|(said, sent)| said.check(sent))
}

/// The refusal of a modern call on `/v1/mcp` whose headers do not repeat its arguments.
pub(super) async fn unrepeated(
    gateway: &Gateway,
    asked: &Asked,
    (id, headers): (&Id, &HeaderMap),
    tool: &ToolRef,
    arguments: Option<&Json>,
) -> Option<Response> {
    if asked.era == Era::Legacy {
        return None;
    }
    let expected = gateway.parameter_headers(&asked.principal, tool, arguments);
    let shown = !expected.is_empty() && gateway.shows_servers(&asked.principal, asked.listing());
    let error = check_params(&expected, headers, shown).err()?;
    let refused = Outcome::Refused(Refusal::InvalidRequest { message: error.message.clone() });
    let (named, reply) = ((id, "tools/call"), Reply::error(&error));
    Some(uncalled_as(gateway, asked, named, Some(tool.clone()), refused, reply).await)
}

/// A notification's text.
pub(super) fn notification(method: &str, params: Option<&Json>) -> String {
    let method = serde_json::Value::from(method);
    match params {
        Some(params) => format!("{{\"jsonrpc\":\"2.0\",\"method\":{method},\"params\":{}}}", params.as_str()),
        None => format!("{{\"jsonrpc\":\"2.0\",\"method\":{method}}}"),
    }
}

/// A request's text, to a client.
pub(super) fn request(id: u64, method: &str, params: Option<&Json>) -> String {
    let method = serde_json::Value::from(method);
    let params = params.map(|params| format!(",\"params\":{}", params.as_str())).unwrap_or_default();
    format!("{{\"jsonrpc\":\"2.0\",\"id\":{id},\"method\":{method}{params}}}")
}

/// The text that tells a legacy client that nobody waits for its answer to a question any more; `None` where it has answered.
pub(super) fn withdrawn(visitor: &Visitor, question: u64, reason: Option<&str>) -> Option<String> {
    let mut params = json!({"requestId": visitor.withdrawn(question)?});
    if let (Some(reason), Some(members)) = (reason, params.as_object_mut()) {
        members.insert("reason".into(), reason.into());
    }
    Some(notification("notifications/cancelled", Some(&Json::of(&params))))
}

/// The last event of a stream that asks for input.
pub(super) fn parked_event(id: &Id, parked: Result<Json, RpcError>) -> bytes::Bytes {
    event(&match parked {
        Ok(result) => rpc::result(id, &result),
        Err(error) => rpc::error(Some(id), &error.object()),
    })
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use tokio::sync::oneshot;
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::domain::id::EventId;
    use crate::gateway::asides;

    #[tokio::test(start_paused = true)]
    async fn who_leaves_before_the_call_is_parked_has_left_it() {
        let (sender, mut heard) = asides(4);
        let mut ask = || {
            let reply = sender.put("elicitation/create", None);
            match heard.try_recv() {
                Ok(Aside::Question(question)) => (question, reply),
                other => panic!("a question: {other:?}"),
            }
        };
        let questions = [ask(), ask()];
        for ((first, _reply), stays) in questions.into_iter().zip([false, true]) {
            let ((_done, done), cancel) = (oneshot::channel(), CancellationToken::new());
            let (_asides, heard) = asides(4);
            let mut underway = Underway { done, heard: heard.into(), cancel: cancel.clone(), event: EventId::fresh() };
            let mut gathering = Box::pin(together(first, &mut underway));
            assert!(gathering.as_mut().now_or_never().is_none(), "it waits a little for more");
            match stays {
                true => drop(gathering.await.1.disarm()),
                false => drop(gathering),
            }
            assert_eq!(cancel.is_cancelled(), !stays);
        }
    }
}
