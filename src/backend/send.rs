//! One call to one tool, prompt or resource: cache, place, breaker, backend; and what is told of a failure.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::asides::Asides;
use super::ask::{Ask, Params};
use super::cache::CacheKey;
use super::deadline::{Deadline, Progress};
use super::fault::{Fault, FaultKind};
use super::meters::Ending;
use super::peer::Peer;
use super::registry::{Backends, Hub};
use super::rounds::{self, MAX_ROUNDS, Next};
use super::server::Server;
use super::status::era_word;
use super::transport::Allowance;
use crate::config::SessionsOf;
use crate::domain::call::Errand;
use crate::domain::id::{KeyId, ServerName};
use crate::domain::json::Json;
use crate::domain::outcome::{Answer, UpstreamError, UpstreamFault};
use crate::domain::tool::{Kind, Risk, Tool};
use crate::domain::trace::Trail;
use crate::policy::PermittedCall;
use crate::wire::era::Era;
use crate::wire::mirror;
use crate::wire::reply::{self, ResultType};

/// What goes with a call beside its arguments.
#[derive(Debug, Default)]
pub struct SendOptions<'a> {
    /// `traceparent` and its like.
    pub trace: &'a [(&'static str, String)],
    /// The caller's own limit.
    pub timeout: Option<Duration>,
    /// Takes the `params` of `notifications/progress`; the `progressToken` in them is the gateway's. Progress is asked
    /// for only with this. A full channel loses progress.
    pub progress: Option<Asides>,
    /// The client, where the backend may speak to it while it works.
    pub peer: Option<Arc<Peer>>,
    /// Names everything that the decision and the call used, arguments included. Without it nothing is cached.
    pub cache_digest: Option<Arc<str>>,
    /// Whose call it is.
    pub key: Option<&'a KeyId>,
    /// Takes note of the attempts; makes spans of them where it has one itself.
    pub trail: Option<&'a Trail>,
    /// What is asked in place of the call.
    pub errand: Option<&'a Errand>,
}

impl SendOptions<'_> {
    fn writes(&self, tool: &Tool) -> bool {
        self.errand.map_or(tool.risk != Risk::Read, Errand::writes)
    }

    fn repeatable(&self, tool: &Tool) -> bool {
        self.errand.map_or_else(|| tool.repeatable(), |errand| !errand.writes())
    }
}

impl Backends {
    /// Sends a call that was permitted: nothing else can be sent. Dropping the future cancels it at the backend.
    ///
    /// # Errors
    /// Why there is no result; a JSON-RPC error of the backend is one such reason.
    pub async fn send<'a>(
        &self,
        call: &'a PermittedCall,
        mut options: SendOptions<'a>,
    ) -> Result<Answer, UpstreamError> {
        if let Some(server) = self.hub.servers.load().get(&call.tool().id.server) {
            let (settings, principal) = (server.settings(), call.principal());
            let apart = settings.sessions == SessionsOf::Principal || settings.provider.is_some();
            match &options.peer {
                None if apart => options.peer = Some(Arc::new(Peer::silent(&principal.key, &principal.user))),
                // Whose account is used is what was permitted, whatever a door says.
                Some(peer) if settings.provider.is_some() && peer.user != principal.user => {
                    options.peer = Some(Arc::new(Peer { user: Arc::clone(&principal.user), ..Peer::clone(peer) }));
                }
                _ => {}
            }
        }
        let key = &call.principal().key;
        options.progress = options.progress.map(|progress| progress.of(key));
        options.key = Some(key);
        self.dispatch(call.tool(), call.arguments(), options).await
    }

    /// The kept answer to a call, where its tool is cached and there is one.
    #[must_use]
    pub fn cached(&self, call: &PermittedCall, digest: &Arc<str>) -> Option<Answer> {
        let tool = call.tool();
        let server = self.hub.servers.load().get(&tool.id.server).cloned()?;
        let key = CacheKey { label: Arc::clone(&tool.label), digest: Arc::clone(digest) };
        self.hub.cache.get(&key, self.hub.clock.ticks(), server.writes.load(Ordering::Acquire))
    }

    pub(super) async fn dispatch(
        &self,
        tool: &Tool,
        arguments: Option<&Json>,
        options: SendOptions<'_>,
    ) -> Result<Answer, UpstreamError> {
        let Some(server) = self.hub.servers.load().get(&tool.id.server).cloned() else {
            return Err(gone(&tool.id.server));
        };
        let kept = match (tool.risk, tool.settings.cache, options.cache_digest.clone()) {
            (Risk::Read, Some(ttl), Some(digest)) => Some((CacheKey { label: Arc::clone(&tool.label), digest }, ttl)),
            _ => None,
        };
        let clock = &*self.hub.clock;
        let began = clock.ticks();
        let wrote = options.writes(tool);
        if wrote {
            server.writes.fetch_add(1, Ordering::AcqRel);
        }
        let writes = server.writes.load(Ordering::Acquire);
        if let Some((key, _)) = &kept
            && let Some(answer) = self.hub.cache.get(key, began, writes)
        {
            return Ok(answer);
        }
        let written = Written { server: &server, wrote };
        let outcome = self.carry(&server, tool, arguments, &options).await;
        drop(written);
        let micros = clock.ticks().saturating_sub(began);
        server.meters.call(tool.kind, ending(&outcome), micros);
        match outcome {
            Ok(answer) => {
                if let (Some(Errand::Follow { on, sends: true }), Some(peer)) = (options.errand, &options.peer) {
                    server.sessions.followed.follows(peer, &tool.id.tool, *on);
                }
                if let Some((key, ttl)) = kept.filter(|_| !answer.partial) {
                    self.hub.cache.put(key, &answer, ttl, clock.ticks(), writes);
                }
                Ok(answer)
            }
            Err(fault) => Err(told(&server, &tool.shown(), options.repeatable(tool), fault)),
        }
    }

    async fn carry(
        &self,
        server: &Arc<Server>,
        tool: &Tool,
        arguments: Option<&Json>,
        options: &SendOptions<'_>,
    ) -> Result<Answer, Fault> {
        if server.stop.is_cancelled() {
            return Err(Fault::new(FaultKind::Stopped, "the server is stopping"));
        }
        let (deadline, by_caller) = limits(server, tool, options.timeout);
        let deadline = server.placed(deadline, options.key).await?;
        let (method, params) = question(tool, arguments, options.errand);
        let mirrored = match tool.kind {
            Kind::Tool => mirror::headers(self.hub.catalog.load().mirrors(tool), arguments),
            Kind::Prompt | Kind::Resource | Kind::Entity => Vec::new(),
        };
        let allowance = options.key.map(|key| Allowance { room: self.hub.answers.clone(), key: key.clone() });
        let progress = options.progress.clone().map(|sink| Progress::new(deadline.clone(), sink));
        let ask = Ask {
            method,
            params,
            trace: options.trace,
            progress: progress.as_ref(),
            mirrored: &mirrored,
            repeatable: options.repeatable(tool),
            deadline: Some(&deadline),
            peer: options.peer.as_deref(),
            more: "",
            allowance: allowance.as_ref(),
        };
        let sending = Sending { server, deadline: &deadline, by_caller, trail: options.trail };
        let answer = self.rounds(&sending, ask).await;
        if let Err(fault) = &answer
            && fault.code() == Some(-32020)
        {
            // Headers and body disagree: its annotations are not those that were listed.
            server.refresh.notify_one();
        }
        answer
    }

    /// Asks until there is an answer that the client understands; a legacy client is asked for input in between.
    async fn rounds(&self, sending: &Sending<'_>, base: Ask<'_>) -> Result<Answer, Fault> {
        let Sending { server, deadline, .. } = *sending;
        let mut more = String::new();
        for round in 0..MAX_ROUNDS {
            let ask = Ask { more: &more, ..base };
            let mut result = sending.attempt(&ask, (round > 0).then_some("input"), &self.hub).await;
            let mut repeated = round > 0;
            if let Err(fault) = &result
                && ask.repeatable
                && fault.worth_repeating()
            {
                tracing::debug!(server = %server.name, fault = fault.word(), "a repeatable call is sent once more");
                repeated |= !fault.without_effect();
                result = Box::pin(sending.attempt(&ask, Some("retry"), &self.hub)).await;
            }
            let result = result.map_err(|fault| if repeated { fault.repeated() } else { fault })?;
            let shape = reply::scan(result.as_str()).map_err(|error| Fault::garbled(error.to_string()))?;
            let answer = |result, partial| Answer { result, is_error: shape.is_error, cached: false, partial };
            match (shape.kind, ask.peer) {
                (ResultType::Absent | ResultType::Complete, _) => return Ok(answer(result, false)),
                (ResultType::InputRequired, Some(peer)) => match Box::pin(rounds::next(&result, peer, deadline)).await?
                {
                    Next::Pass => return Ok(answer(result, true)),
                    Next::Again(members) => more = members,
                },
                (ResultType::InputRequired, None) => {
                    return Err(Fault::new(FaultKind::Unsupported, "it asks for input"));
                }
                (ResultType::Other, Some(peer)) if peer.era == Era::Modern => return Ok(answer(result, true)),
                (ResultType::Other, _) => {
                    return Err(Fault::new(
                        FaultKind::Unsupported,
                        "it answers with a kind of result that is not known",
                    ));
                }
            }
        }
        Err(Fault::new(FaultKind::Unsupported, "it asks for input again and again"))
    }
}

/// A call on its way to one server.
struct Sending<'a> {
    server: &'a Arc<Server>,
    deadline: &'a Deadline,
    by_caller: bool,
    trail: Option<&'a Trail>,
}

impl Sending<'_> {
    /// One attempt, noted on the trail; where it is a span, the backend is told of that one.
    async fn attempt(&self, ask: &Ask<'_>, again: Option<&'static str>, hub: &Arc<Hub>) -> Result<Json, Fault> {
        let Self { server, deadline, by_caller, trail } = *self;
        let Some(trail) = trail else { return server.attempt(ask, deadline, by_caller, hub).await };
        let reaches = || trail.reaches(server.settings().transport.kind(), server.link_era().map(era_word));
        reaches();
        let begun = trail.begin(hub.clock.ticks(), again);
        let members = begun.members(ask.trace);
        let ask = Ask { trace: members.as_deref().unwrap_or(ask.trace), ..*ask };
        let answer = server.attempt(&ask, deadline, by_caller, hub).await;
        if !trail.knows_era() {
            reaches();
        }
        trail.end(begun, hub.clock.ticks(), answer.as_ref().err().map_or("ok", Fault::word));
        answer
    }
}

/// What the backend is asked.
fn question<'a>(tool: &'a Tool, arguments: Option<&'a Json>, errand: Option<&'a Errand>) -> (&'static str, Params<'a>) {
    let name = &*tool.id.tool;
    if let Some(errand) = errand {
        let params = match errand {
            Errand::Complete { reference } => Params::Members(reference),
            Errand::Follow { .. } | Errand::GoOn { .. } => Params::Uri(name),
            Errand::Task { id, .. } => Params::Task(id),
        };
        return (errand.method(), params);
    }
    match tool.kind {
        Kind::Tool => ("tools/call", Params::Call { name, arguments }),
        Kind::Prompt => ("prompts/get", Params::Call { name, arguments }),
        // No call is ever of an entity.
        Kind::Resource | Kind::Entity => ("resources/read", Params::Read { uri: name }),
    }
}

/// Counts a write at its end too: what was read meanwhile may be half of it.
struct Written<'a> {
    server: &'a Server,
    wrote: bool,
}

impl Drop for Written<'_> {
    fn drop(&mut self) {
        if self.wrote {
            self.server.writes.fetch_add(1, Ordering::AcqRel);
        }
    }
}

/// The call's limits, and whether the caller's impatience is the tighter one.
fn limits(server: &Server, tool: &Tool, caller: Option<Duration>) -> (Deadline, bool) {
    let settings = server.settings();
    let idle = tool.settings.timeout.unwrap_or(settings.timeout);
    let hard = settings.max_timeout.max(idle);
    match caller {
        Some(caller) if caller < hard => (Deadline::start(idle.min(caller), caller), caller < idle),
        _ => (Deadline::start(idle, hard), false),
    }
}

fn ending(outcome: &Result<Answer, Fault>) -> Ending {
    match outcome {
        Ok(answer) if answer.is_error => Ending::ToolError,
        Ok(_) => Ending::Ok,
        Err(Fault { kind: FaultKind::Rpc(_), .. }) => Ending::RpcError,
        Err(_) => Ending::Failed,
    }
}

pub(super) fn gone(server: &ServerName) -> UpstreamError {
    UpstreamError {
        fault: UpstreamFault::Down,
        message: format!("the server `{server}` is not configured any more"),
        retryable: false,
        without_effect: true,
        breaker: "closed",
        retry_after: None,
    }
}

/// Whose credentials the server does not take.
fn rejection(server: &Server) -> String {
    let name = &server.name;
    match &server.settings().provider {
        Some(provider) => format!(
            "the server `{name}` does not accept the credentials of your account with {}: it may lack rights; else connect it \
             anew with `POST /v1/providers/{}/connect`",
            provider.title, provider.slug
        ),
        None => format!("the server `{name}` does not accept the gateway's credentials; tell the operator"),
    }
}

/// A fault of a call, in the log and in words for the caller.
pub(super) fn told(server: &Server, asked: &str, repeatable: bool, fault: Fault) -> UpstreamError {
    if !matches!(fault.kind, FaultKind::Rpc(_)) {
        tracing::warn!(server = %server.name, asked, fault = fault.word(), detail = fault.detail, "call failed");
    }
    worded(server, asked, repeatable, fault)
}

/// A fault in words for the caller: which server and what to do, nothing of its inside.
pub(super) fn worded(server: &Server, asked: &str, repeatable: bool, fault: Fault) -> UpstreamError {
    let name = &server.name;
    let (code, without_effect) = (fault.code(), fault.without_effect());
    let retryable = !matches!(fault.kind, FaultKind::Rejected | FaultKind::Unsupported | FaultKind::Rpc(_))
        && (repeatable || without_effect);
    let again = if retryable { "; try again" } else { "; whether the call took effect is not known" };
    let (upstream, message, retry_after) = match fault.kind {
        FaultKind::Connect => {
            (UpstreamFault::Down, format!("the server `{name}` cannot be reached; try again"), Some(1))
        }
        FaultKind::Broken => {
            (UpstreamFault::Down, format!("the server `{name}` broke off before it answered{again}"), None)
        }
        FaultKind::Status(status) => {
            (UpstreamFault::Down, format!("the server `{name}` failed with HTTP {status}{again}"), None)
        }
        FaultKind::SessionLost => (
            UpstreamFault::Down,
            format!("the server `{name}` had lost its session; a new one is open, try again"),
            None,
        ),
        FaultKind::Rejected => (UpstreamFault::Down, rejection(server), None),
        FaultKind::Timeout => {
            (UpstreamFault::Timeout, format!("the server `{name}` gave no answer in time{again}"), None)
        }
        FaultKind::Garbled | FaultKind::Unserved(_) => (
            UpstreamFault::Garbled,
            format!("the server `{name}` answered something that is not MCP; tell the operator"),
            None,
        ),
        FaultKind::Busy(after) => {
            (UpstreamFault::Busy, format!("the server `{name}` is busy; try again"), Some(after.unwrap_or(1)))
        }
        FaultKind::Full => (UpstreamFault::Busy, format!("the large answer of `{name}` finds no room{again}"), Some(1)),
        FaultKind::Resting(after) => (
            UpstreamFault::Down,
            format!("the server `{name}` failed several times in a row and is left alone; try again in {after} s"),
            Some(after),
        ),
        FaultKind::Rpc(error) => {
            let code = code.map_or_else(String::new, |code| format!(" {code}"));
            (UpstreamFault::Rpc(error), format!("the server `{name}` answered with the error{code}"), None)
        }
        FaultKind::Unsupported => (
            UpstreamFault::Garbled,
            format!("`{asked}` asks for something that this client or gateway cannot give"),
            None,
        ),
        FaultKind::Stopped => (UpstreamFault::Down, format!("the server `{name}` is stopping"), None),
    };
    let breaker = server.breaker.state().as_str();
    UpstreamError { fault: upstream, message, retryable, without_effect, breaker, retry_after }
}
