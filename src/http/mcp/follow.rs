//! Streams of the transparent route: what a server says outside of requests. A legacy session hears everything on its
//! `GET`; a modern client hears what it asked for, under the id of its subscription.

use std::collections::HashSet;
use std::convert::Infallible;
use std::sync::Arc;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures_util::StreamExt;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};
use tokio::time::Interval;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::call::NOTICES;
use super::relayed::{Via, notification, request, withdrawn};
use super::stream::{LOOK, LOOKS_PER_COMMENT, SUBSCRIPTION, response, too_many};
use super::subscribe::{ACKNOWLEDGED, MAX_RESOURCES, subscribe};
use super::told::event;
use super::{Asked, failure};
use crate::domain::crowd::Seat;
use crate::domain::id::{KeyId, ServerName};
use crate::domain::json::Json;
use crate::domain::principal::Principal;
use crate::gateway::{Aside, Attending, Gateway, ListVersions, Visitor, asides};
use crate::wire::envelope::Id;
use crate::wire::era::Era;
use crate::wire::hop;
use crate::wire::rpc::{self, RpcError};

/// What a subscription asks for; what the server does not offer stays out of the acknowledgement.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Wanted {
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    tools_list_changed: bool,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    prompts_list_changed: bool,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    resources_list_changed: bool,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    resource_subscriptions: Vec<String>,
}

impl Wanted {
    const EVERYTHING: Self = Self {
        tools_list_changed: true,
        prompts_list_changed: true,
        resources_list_changed: true,
        resource_subscriptions: Vec::new(),
    };

    /// Of what is wanted, what the server offers.
    fn offered(self, capabilities: &Value) -> Self {
        let tells =
            |list: &str, what: &str| capabilities.get(list).and_then(|list| list.get(what)) == Some(&Value::Bool(true));
        let mut followed = self.resource_subscriptions;
        followed.truncate(if tells("resources", "subscribe") { MAX_RESOURCES } else { 0 });
        let mut seen = HashSet::new();
        followed.retain(|uri| seen.insert(uri.clone()));
        Self {
            tools_list_changed: self.tools_list_changed && tells("tools", "listChanged"),
            prompts_list_changed: self.prompts_list_changed && tells("prompts", "listChanged"),
            resources_list_changed: self.resources_list_changed && tells("resources", "listChanged"),
            resource_subscriptions: followed,
        }
    }
}

/// `subscriptions/listen`: the acknowledgement first, then what was asked for, the result at the end.
pub(super) async fn listen(
    gateway: Arc<Gateway>,
    asked: Asked,
    server: ServerName,
    id: &Id,
    params: Option<&Json>,
) -> Response {
    let wanted = hop::member(params, "notifications").and_then(|wanted| wanted.decode::<Wanted>().ok());
    let Some(wanted) = wanted else {
        return failure(Some(id), &RpcError::new(200, -32602, "`params.notifications` says what to listen to"));
    };
    let greeting = match gateway.greeting(&server).await {
        Ok(greeting) => greeting,
        Err(error) => return failure(Some(id), &RpcError::new(200, -32603, error.message)),
    };
    let mut wanted = wanted.offered(&greeting.capabilities.value());
    let Some(seat) = gateway.stream_seat(&asked.principal.key) else { return failure(Some(id), &too_many()) };
    let Some(versions) = gateway.list_versions(&server) else {
        return failure(Some(id), &RpcError::new(200, -32603, "the server is not configured any more"));
    };
    let tag: Value = serde_json::from_str(id.text()).unwrap_or_default();
    let mut heard = None;
    let mut guard = None;
    if !wanted.resource_subscriptions.is_empty() {
        let of = server.clone();
        let via = Via::new(Arc::clone(&gateway), &asked, of, greeting.clone(), None, "subscriptions/listen");
        let (sink, receiver) = asides(NOTICES);
        let uris = std::mem::take(&mut wanted.resource_subscriptions);
        match subscribe(&gateway, (&asked, id), &via, uris, sink).await {
            Ok((uris, subscribed)) => (wanted.resource_subscriptions, guard) = (uris, Some(subscribed)),
            Err(error) => return failure(Some(id), &error),
        }
        heard = Some(receiver);
    }
    let tagged = json!({"notifications": wanted, "_meta": {SUBSCRIPTION: tag}});
    let first = event(&notification(ACKNOWLEDGED, Some(&Json::of(&tagged))));
    let result = hop::result_for(&Json::of(&json!({"_meta": {SUBSCRIPTION: tag}})), Era::Modern, &greeting.info, None);
    let last = Some(event(&rpc::result(id, &result)));
    let hearing = heard.map_or(Hearing::Nothing, Hearing::Subscription);
    let following = Following::new(gateway, (asked.principal, server), versions, wanted, hearing, seat);
    let following = Following { tag: Some(tag), last, _subscribed: guard, ..following };
    following.response(first)
}

/// The stream of a legacy session with one server (`GET`).
pub(super) fn of_visitor(
    gateway: Arc<Gateway>,
    principal: Principal,
    server: &ServerName,
    visitor: Arc<Visitor>,
) -> Response {
    let Some(seat) = gateway.stream_seat(&principal.key) else { return failure(None, &too_many()) };
    let Some(versions) = gateway.list_versions(server) else {
        return failure(None, &RpcError::new(404, -32600, "the server is not configured any more"));
    };
    let attending = gateway.attend(server, &visitor.session);
    let of = (principal, server.clone());
    let following = Following::new(gateway, of, versions, Wanted::EVERYTHING, Hearing::Visitor(visitor), seat);
    Following { _attending: attending, ..following }.response(Bytes::from_static(b":\n\n"))
}

/// Where a stream hears what the server says.
enum Hearing {
    Nothing,
    Subscription(mpsc::Receiver<Aside>),
    Visitor(Arc<Visitor>),
}

impl Hearing {
    /// Falls when the session has been ended.
    fn ended(&self) -> CancellationToken {
        match self {
            Self::Visitor(visitor) => visitor.ended.clone(),
            Self::Nothing | Self::Subscription(_) => CancellationToken::new(),
        }
    }

    /// `None` where the server says nothing more.
    async fn next(&mut self) -> Option<Aside> {
        match self {
            Self::Subscription(heard) => return heard.recv().await,
            Self::Visitor(visitor) => {
                if let Some(mut heard) = visitor.ambient()
                    && let Some(aside) = heard.recv().await
                {
                    return Some(aside);
                }
            }
            Self::Nothing => {}
        }
        std::future::pending().await
    }
}

/// A stream's state between two events.
struct Following {
    gateway: Arc<Gateway>,
    principal: Principal,
    server: ServerName,
    versions: watch::Receiver<ListVersions>,
    seen: ListVersions,
    wanted: Wanted,
    hearing: Hearing,
    /// The id of the subscription.
    tag: Option<Value>,
    looks: Interval,
    quiet: u32,
    /// Events that are due.
    due: Vec<Bytes>,
    /// Sent when the gateway stops.
    last: Option<Bytes>,
    done: bool,
    _subscribed: Option<DropGuard>,
    _attending: Option<Attending>,
    _seat: Seat<KeyId>,
}

impl Following {
    fn new(
        gateway: Arc<Gateway>,
        (principal, server): (Principal, ServerName),
        mut versions: watch::Receiver<ListVersions>,
        wanted: Wanted,
        hearing: Hearing,
        seat: Seat<KeyId>,
    ) -> Self {
        let seen = *versions.borrow_and_update();
        Self {
            gateway,
            principal,
            server,
            versions,
            seen,
            wanted,
            hearing,
            tag: None,
            looks: tokio::time::interval(LOOK),
            quiet: 0,
            due: Vec::new(),
            last: None,
            done: false,
            _subscribed: None,
            _attending: None,
            _seat: seat,
        }
    }

    fn response(self, first: Bytes) -> Response {
        let first = futures_util::stream::iter([Ok::<_, Infallible>(first)]);
        let rest = futures_util::stream::unfold(self, |mut following| async move {
            following.next().await.map(|event| (Ok(event), following))
        });
        response(Body::from_stream(first.chain(rest)))
    }

    async fn next(&mut self) -> Option<Bytes> {
        let stopping = self.gateway.stopping();
        let ended = self.hearing.ended();
        while !self.done {
            if let Some(event) = self.due.pop() {
                return Some(event);
            }
            tokio::select! {
                biased;
                () = stopping.cancelled() => {
                    self.done = true;
                    return self.last.take();
                }
                () = ended.cancelled() => return None,
                changed = self.versions.changed() => {
                    changed.ok()?;
                    // Who hears of it lists at once, and must find what is new.
                    self.gateway.caught_up().await;
                    self.changed();
                }
                aside = self.hearing.next() => {
                    if let Some(event) = self.told(aside?) {
                        return Some(event);
                    }
                }
                _ = self.looks.tick() => {
                    if !self.is_open() {
                        return None;
                    }
                    self.quiet += 1;
                    if self.quiet >= LOOKS_PER_COMMENT {
                        self.quiet = 0;
                        return Some(Bytes::from_static(b":\n\n"));
                    }
                }
            }
        }
        None
    }

    /// Whether the stream would be opened now: the key, its profile, the policies, the session may be others.
    fn is_open(&mut self) -> bool {
        let Some(principal) = self.gateway.still_admitted(&self.principal) else { return false };
        self.principal = principal;
        let (gateway, principal) = (&self.gateway, &self.principal);
        gateway.server(principal, self.server.as_str()).is_some()
            && self.wanted.resource_subscriptions.iter().all(|uri| gateway.may_follow(principal, &self.server, uri))
    }

    /// Events for the lists that have changed.
    fn changed(&mut self) {
        let now = *self.versions.borrow_and_update();
        let before = std::mem::replace(&mut self.seen, now);
        for (wanted, changed, method) in [
            (self.wanted.tools_list_changed, now.tools != before.tools, "notifications/tools/list_changed"),
            (self.wanted.prompts_list_changed, now.prompts != before.prompts, "notifications/prompts/list_changed"),
            (
                self.wanted.resources_list_changed,
                now.resources != before.resources,
                "notifications/resources/list_changed",
            ),
        ] {
            if wanted && changed {
                let params = self.tag.as_ref().map(|tag| Json::of(&json!({"_meta": {SUBSCRIPTION: tag}})));
                self.due.push(event(&notification(method, params.as_ref())));
            }
        }
    }

    fn told(&self, aside: Aside) -> Option<Bytes> {
        match (aside, &self.hearing) {
            (Aside::Notification { method, params, .. }, _) => {
                Some(event(&notification(&method, tagged(self.tag.as_ref(), params).as_ref())))
            }
            (Aside::Question(question), Hearing::Visitor(visitor)) => {
                let (method, params) = (question.method.clone(), hop::of_question(question.params.as_ref()));
                let id = visitor.put(question)?;
                Some(event(&request(id, &method, params.as_ref())))
            }
            (Aside::Withdrawn { question, reason }, Hearing::Visitor(visitor)) => {
                withdrawn(visitor, question, reason.as_deref()).map(|text| event(&text))
            }
            (Aside::Question(_) | Aside::Withdrawn { .. }, _) => None,
        }
    }
}

/// A subscription's messages carry its own id; a legacy session's none.
pub(super) fn tagged(tag: Option<&Value>, params: Option<Json>) -> Option<Json> {
    let meta = hop::member(params.as_ref(), "_meta");
    match (tag, params, meta) {
        (Some(tag), params, meta) => {
            let meta = meta.unwrap_or_else(|| Json::from_parts(String::from("{}")));
            let meta = hop::with_member(&meta, SUBSCRIPTION, &tag.to_string());
            let params = params.unwrap_or_else(|| Json::from_parts(String::from("{}")));
            Some(hop::with_member(&params, "_meta", meta.as_str()))
        }
        (None, Some(params), Some(meta)) if meta.as_str().contains(SUBSCRIPTION) => {
            match hop::without_member(&meta, SUBSCRIPTION) {
                empty if empty.as_str() == "{}" => Some(hop::without_member(&params, "_meta")),
                rest => Some(hop::with_member(&params, "_meta", rest.as_str())),
            }
        }
        (None, params, _) => params,
    }
}
