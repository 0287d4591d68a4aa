//! The transparent route, `/v1/mcp/servers/{server}`: one message to one answer, as if the client were connected to the
//! server itself.

use std::sync::Arc;

use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde_json::{Value, json};

use super::call::{NOTICES, carry, go_on};
use super::dispatch::{cancel, hello, unknown};
use super::follow::listen;
use super::pages::page;
use super::relayed::{Via, check_params, roots_changed};
use super::subscribe::follow_resource;
use super::told::{self, answered, event, over_limit, text};
use super::wanted::Wanted;
use super::{Asked, SESSION, approval, failure, stream, tasks};
use crate::domain::call::ToolRef;
use crate::domain::id::ServerName;
use crate::domain::json::Json;
use crate::domain::outcome::{Outcome, Refusal, Unlisted, UpstreamError, UpstreamFault};
use crate::gateway::{Asides, Gateway, Line, ListKind, MAX_FOLLOWED, Passed, Resumed, Visitor, Waiting, asides};
use crate::wire::envelope::{Id, Message};
use crate::wire::era::{Era, LEVELS, SUPPORTED, negotiate};
use crate::wire::hop::{self, Onward};
use crate::wire::mcp::{Reply, refusal};
use crate::wire::rpc::{self, RpcError};

/// How long a modern client may keep a list, where the server does not say.
const LIST_TTL: u64 = 30_000;

/// Answers a message to one server.
pub(super) async fn answer(
    gateway: Arc<Gateway>,
    asked: Box<Asked>,
    server: ServerName,
    message: Message,
    headers: &HeaderMap,
) -> Response {
    let visitor = match (&asked.session, asked.era) {
        (Some(id), Era::Legacy) => {
            let visitor = gateway.visitor(&asked.principal, id, asked.opened.as_ref(), &server);
            let Some(visitor) = visitor else {
                return failure(None, &RpcError::new(429, 429, "this key has as many sessions in use as it may"));
            };
            Some(visitor)
        }
        _ => None,
    };
    match message {
        Message::Request { id, method, params } => {
            let session = Conversation { gateway, asked, server, visitor, id, method, params };
            session.answer(headers).await
        }
        Message::Notification { method, params } => {
            match (method.as_str(), &visitor) {
                ("notifications/cancelled", _) => cancel(&gateway, &asked, params.as_ref()),
                ("notifications/roots/list_changed", Some(visitor)) => {
                    let visitor = Some(Arc::clone(visitor));
                    Box::pin(roots_changed(&gateway, &asked, server, visitor, params.as_ref())).await;
                }
                _ => {}
            }
            StatusCode::ACCEPTED.into_response()
        }
        Message::Response { id, outcome } => {
            match visitor.and_then(|visitor| visitor.take(id.text())) {
                Some(question) => Box::pin(gateway.take_answer(&asked.principal, &server, question, outcome)).await,
                None => tracing::debug!("a client answered what nobody asked, or asked too long ago"),
            }
            StatusCode::ACCEPTED.into_response()
        }
    }
}

/// One request on the transparent route.
struct Conversation {
    gateway: Arc<Gateway>,
    asked: Box<Asked>,
    server: ServerName,
    visitor: Option<Arc<Visitor>>,
    id: Id,
    method: String,
    params: Option<Json>,
}

impl Conversation {
    async fn answer(self, headers: &HeaderMap) -> Response {
        if matches!(self.method.as_str(), "tools/call" | "prompts/get" | "resources/read" | "completion/complete") {
            return match Wanted::read(&self.method, &self.server, self.params.as_ref()) {
                Ok(wanted) => self.governed(wanted, headers).await,
                Err(why) => self.invalid(None, &why).await,
            };
        }
        // What is no call has its room apart, so that a call need not have it.
        Box::pin(self.aside(headers)).await
    }

    /// Answers what is no call.
    async fn aside(self, headers: &HeaderMap) -> Response {
        if !self.asked.host
            && let Err(refusal) = self.gateway.charge_request(&self.asked.principal)
        {
            return over_limit(&self.id, &refusal);
        }
        match (self.asked.era, self.method.as_str()) {
            (Era::Legacy, "initialize") => self.initialize().await,
            (Era::Legacy, "ping") => self.reply(&Json::of(&json!({}))),
            (Era::Modern, "server/discover") => self.discover().await,
            (_, "tools/list") => {
                let shown = self.gateway.server_tools(&self.asked.principal, &self.server);
                self.list("tools", &shown.items, shown.ttl_ms)
            }
            (_, "prompts/list") => self.items(ListKind::Prompts).await,
            (_, "resources/list") => self.items(ListKind::Resources).await,
            (_, "resources/templates/list") => self.items(ListKind::Templates).await,
            (Era::Legacy, "logging/setLevel") => Box::pin(self.set_level()).await,
            (Era::Legacy, "resources/subscribe") => Box::pin(self.follow(true)).await,
            (Era::Legacy, "resources/unsubscribe") => Box::pin(self.follow(false)).await,
            (Era::Modern, "subscriptions/listen") => {
                let Self { gateway, asked, server, id, params, .. } = self;
                listen(gateway, asked, server, &id, params.as_ref()).await
            }
            (Era::Modern, "tasks/get") => self.task("tasks/get", headers).await,
            (Era::Modern, "tasks/update") => self.task("tasks/update", headers).await,
            (Era::Modern, "tasks/cancel") => self.task("tasks/cancel", headers).await,
            (Era::Modern, method) => failure(Some(&self.id), &unknown(404, method)),
            (Era::Legacy, method) => failure(Some(&self.id), &unknown(200, method)),
        }
    }

    fn reply(&self, result: &Json) -> Response {
        let text = rpc::result(&self.id, result);
        if self.asked.prefers_stream {
            stream::response(event(&text).into())
        } else {
            super::json(StatusCode::OK, text)
        }
    }

    fn told(&self, reply: &Reply) -> Response {
        match &reply.body {
            Ok(result) => self.reply(result),
            Err(_) => answered(reply, text(&self.id, reply)),
        }
    }

    fn fail(&self, error: &UpstreamError) -> Response {
        let reply = self.failed(error);
        answered(&reply, text(&self.id, &reply))
    }

    fn failed(&self, error: &UpstreamError) -> Reply {
        match &error.fault {
            UpstreamFault::Rpc(object) => {
                let (status, era) = (hop::status_of(object, self.asked.era), self.asked.era);
                Reply { status, body: Err(hop::error_for(object, era, &self.method)), retry_after: None }
            }
            _ => Reply::error(&RpcError::new(200, -32603, error.message.clone())),
        }
    }

    /// Ends a request for a call that comes to none.
    async fn end(&self, tool: Option<ToolRef>, outcome: Outcome, reply: Reply) -> Response {
        told::uncalled_as(&self.gateway, &self.asked, (&self.id, &self.method), tool, outcome, reply).await
    }

    async fn refuse(&self, tool: Option<&ToolRef>, error: &RpcError) -> Response {
        let refused = Refusal::InvalidRequest { message: error.message.clone() };
        self.end(tool.cloned(), Outcome::Refused(refused), Reply::error(error)).await
    }

    async fn invalid(&self, tool: Option<&ToolRef>, why: &str) -> Response {
        self.refuse(tool, &RpcError::new(200, -32602, why)).await
    }

    /// The server cannot be reached, or says no when it is greeted.
    async fn unreached(&self, tool: &ToolRef, error: UpstreamError) -> Response {
        let reply = self.failed(&error);
        self.end(Some(tool.clone()), Outcome::Failed(error), reply).await
    }

    async fn via(&self) -> Result<Via, UpstreamError> {
        let greeting = self.gateway.greeting(&self.server).await?;
        let (gateway, visitor) = (Arc::clone(&self.gateway), self.visitor.clone());
        Ok(Via::new(gateway, &self.asked, self.server.clone(), greeting, visitor, &self.method))
    }

    /// A call, a prompt, a resource, or an errand about one: on the path of every call.
    async fn governed(mut self, wanted: Wanted, headers: &HeaderMap) -> Response {
        self.asked.approval =
            match approval::read(&self.gateway, &self.asked, &self.method, self.params.as_ref(), false) {
                Ok(approval) => approval,
                Err(why) => return self.invalid(Some(&wanted.tool), why).await,
            };
        let approving = self.asked.approval.as_ref().is_some_and(|approval| approval.is_resumed());
        let expected = self.gateway.parameter_headers(&self.asked.principal, &wanted.tool, wanted.arguments.as_ref());
        if self.asked.era == Era::Modern
            && wanted.errand.is_none()
            && let Err(error) = check_params(&expected, headers, true)
        {
            return self.refuse(Some(&wanted.tool), &error).await;
        }
        let mut via = match self.via().await {
            Ok(via) => Box::new(via),
            Err(error) => return self.unreached(&wanted.tool, error).await,
        };
        let mut inner = None;
        let ours = wanted.errand.is_some() || approving;
        let state = hop::member(self.params.as_ref(), "requestState").filter(|_| !ours);
        if let (Era::Modern, Some(state)) = (self.asked.era, state) {
            match via.resume(&wanted, &state) {
                Ok(Resumed::Anew(state)) => inner = state,
                Ok(Resumed::Waiting(waiting)) => return Box::pin(self.take_up(wanted, waiting, via)).await,
                Err(why) => return self.invalid(Some(&wanted.tool), why).await,
            }
        }
        if approving {
            // What the client says of the page is nobody else's.
            self.params = self.params.map(|params| hop::without_member(&params, "inputResponses"));
        }
        let onward = match via.governed(&wanted, self.params.as_ref(), inner) {
            Ok(onward) => onward,
            Err(why) => return self.invalid(Some(&wanted.tool), &why).await,
        };
        let Self { gateway, asked, id, .. } = self;
        let (sender, heard) = asides(NOTICES);
        let peer = via.peer(asked.era, onward, sender.clone());
        let progress = asked.meta.progress_token.as_ref().filter(|_| asked.streams).map(|_| sender);
        let line = Line { errand: wanted.errand, ..gateway.line(progress, Some(Arc::new(peer))) };
        let request = super::call::request(&asked, wanted.tool, wanted.arguments);
        carry(gateway, asked, id, request, line, heard.into(), Some(via)).await
    }

    /// Lets a call that waited for its client go on, where it would be permitted now.
    async fn take_up(self, wanted: Wanted, waiting: Waiting, via: Box<Via>) -> Response {
        let responses = hop::member(self.params.as_ref(), "inputResponses");
        // Nothing is sent of it, but what its client answers is scanned as what travels is.
        let rest = responses.as_ref().map(|text| format!(",\"inputResponses\":{}", text.as_str())).unwrap_or_default();
        let onward = Onward { rest, meta: String::new() };
        let peer = via.peer(self.asked.era, onward, Asides::deaf());
        let judged = via.errand(&self.asked, &self.id, wanted.going_on(waiting.event().clone()), peer).await;
        if !matches!(judged.outcome, Outcome::Answered(_)) {
            let mut response = self.told(&via.tell(&judged, self.asked.era, self.asked.host));
            told::name(&mut response, &judged.governance.audit_event_id);
            return response;
        }
        let Self { gateway, asked, id, .. } = self;
        go_on(&gateway, &asked, id, waiting.answered(responses.as_ref()), via).await
    }

    async fn initialize(self) -> Response {
        let hello = match hello(self.params.as_ref()) {
            Ok(hello) => hello,
            Err(error) => return failure(Some(&self.id), &error),
        };
        let greeting = match self.gateway.greeting(&self.server).await {
            Ok(greeting) => greeting,
            Err(error) => return self.fail(&error),
        };
        let version = negotiate(hello.protocol_version.as_deref());
        let declared = hop::client_capabilities(Some(&Value::Object(hello.capabilities)), Era::Legacy);
        let session = self.gateway.begin_session(&self.asked.principal, version, declared);
        let mut result = json!({
            "protocolVersion": version,
            "capabilities": hop::capabilities_for(&greeting.capabilities, Era::Legacy, greeting.era),
            "serverInfo": greeting.info.value(),
        });
        if let (Some(text), Some(members)) = (greeting.instructions, result.as_object_mut()) {
            members.insert("instructions".into(), text.into());
        }
        let mut response = self.reply(&Json::of(&result));
        if let Some(value) = session.and_then(|session| HeaderValue::from_str(&session).ok()) {
            response.headers_mut().insert(SESSION, value);
        }
        response
    }

    async fn discover(self) -> Response {
        let greeting = match self.gateway.greeting(&self.server).await {
            Ok(greeting) => greeting,
            Err(error) => return self.fail(&error),
        };
        let mut result = json!({
            "supportedVersions": SUPPORTED,
            "capabilities": hop::capabilities_for(&greeting.capabilities, Era::Modern, greeting.era),
        });
        if let (Some(text), Some(members)) = (greeting.instructions, result.as_object_mut()) {
            members.insert("instructions".into(), text.into());
        }
        self.reply(&hop::result_for(&Json::of(&result), Era::Modern, &greeting.info, Some(LIST_TTL)))
    }

    async fn items(self, kind: ListKind) -> Response {
        match self.gateway.server_items(&self.asked.principal, &self.server, kind, self.asked.jwt.as_ref()).await {
            Ok(shown) => self.list(kind.method().1, &shown.items, shown.ttl_ms),
            Err(Unlisted::Refused(refused)) => self.told(&refusal(&refused, self.asked.era, self.asked.host)),
            Err(Unlisted::Failed(error)) => self.fail(&error),
        }
    }

    fn list(&self, member: &str, items: &[Json], ttl: Option<u64>) -> Response {
        let page = match page(self.params.as_ref(), items) {
            Ok(page) => page,
            Err(error) => return failure(Some(&self.id), &error),
        };
        let result = Json::from_parts(format!("{{\"{member}\":{page}}}"));
        let info = self.gateway.server_info(&self.server);
        let keep = ttl.unwrap_or(LIST_TTL).min(LIST_TTL);
        self.reply(&hop::result_for(&result, self.asked.era, &info, Some(keep)))
    }

    async fn set_level(self) -> Response {
        let level = hop::member(self.params.as_ref(), "level").and_then(|level| level.decode::<String>().ok());
        let Some(level) = level.filter(|level| LEVELS.contains(&level.as_str())) else {
            return failure(Some(&self.id), &RpcError::new(200, -32602, "`params.level` is not a level"));
        };
        if let Some(visitor) = &self.visitor {
            visitor.set_log_level(level.clone());
        }
        let via = match self.via().await {
            Ok(via) => via,
            Err(error) => return self.fail(&error),
        };
        if via.greeting.era == Era::Modern || self.visitor.is_none() {
            return self.reply(&Json::of(&json!({})));
        }
        let said = (self.params.as_ref(), self.asked.jwt.as_ref());
        let _seat = match self.gateway.admit_aside(&self.asked.principal, &self.server, said).await {
            Ok(seat) => seat,
            Err(refused) => return self.told(&refusal(&refused, self.asked.era, self.asked.host)),
        };
        if let Err(why) = hop::onward(self.params.as_ref(), &["level"]) {
            return failure(Some(&self.id), &RpcError::new(200, -32602, why));
        }
        // Nobody judges or records it, so nothing but the level travels.
        let onward = Onward { rest: format!(",\"level\":{}", Value::from(level)), ..Onward::default() };
        let peer = via.peer(self.asked.era, onward, Asides::deaf());
        match self.gateway.pass(&self.server, Passed { method: &self.method, peer: &peer, endless: false }).await {
            Ok(result) => self.reply(&result),
            Err(error) => self.fail(&error),
        }
    }

    /// `resources/subscribe` and its opposite.
    async fn follow(self, on: bool) -> Response {
        let uri = hop::member(self.params.as_ref(), "uri").and_then(|uri| uri.decode::<String>().ok());
        let Some(uri) = uri else {
            return failure(Some(&self.id), &RpcError::new(200, -32602, "`params.uri` is required"));
        };
        let Some(visitor) = self.visitor.clone() else {
            return failure(Some(&self.id), &RpcError::new(200, -32600, "following a resource needs a session"));
        };
        let others = visitor.followed();
        if on && others.len() >= MAX_FOLLOWED && !others.contains(&uri) {
            let why = "this session follows as many resources as it may: unsubscribe from one first";
            return self.invalid(None, why).await;
        }
        let mut via = match self.via().await {
            Ok(via) => via,
            Err(error) => {
                let followed = ToolRef::Resource { server: self.server.to_string(), uri };
                return self.unreached(&followed, error).await;
            }
        };
        let sends = via.greeting.era == Era::Legacy;
        let wanted = Wanted::follow(&self.server, &uri, on, sends);
        let onward = match via.governed(&wanted, self.params.as_ref(), None) {
            Ok(onward) => onward,
            Err(why) => return self.invalid(Some(&wanted.tool), &why).await,
        };
        let peer = via.peer(self.asked.era, onward, Asides::deaf());
        let carried = via.errand(&self.asked, &self.id, wanted, peer).await;
        if matches!(carried.outcome, Outcome::Answered(_))
            && let Err(error) = follow_resource(&self.gateway, &via, &visitor, &uri, on).await
        {
            let mut response = failure(Some(&self.id), &error);
            told::name(&mut response, &carried.governance.audit_event_id);
            return response;
        }
        let mut response = self.told(&via.tell(&carried, self.asked.era, self.asked.host));
        told::name(&mut response, &carried.governance.audit_event_id);
        response
    }

    /// A request about a task of this principal's.
    async fn task(self, method: &'static str, headers: &HeaderMap) -> Response {
        if !tasks::declared(&self.asked) {
            return failure(Some(&self.id), &tasks::undeclared());
        }
        let name = tasks::named(self.params.as_ref());
        let task = name.and_then(|name| self.gateway.task_of(&self.asked.principal, &self.server, &name));
        let Some((tool, task)) = task else {
            return self.invalid(None, "`params.taskId` is not a task of yours").await;
        };
        let wanted = Wanted::task(&self.server, tool, method, task);
        self.governed(wanted, headers).await
    }
}
