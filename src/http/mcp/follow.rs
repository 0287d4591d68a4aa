//! Streams of the transparent route: what a server says outside of requests. A legacy session hears everything on its
//! `GET`; a modern client hears what it asked for, under the id of its subscription.

use std::collections::HashSet;
use std::sync::Arc;

use axum::response::Response;
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};
use tokio::time::Interval;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::call::NOTICES;
use super::relayed::{Via, notification, request, withdrawn};
use super::stream::{Before, LOOK, LOOKS_PER_COMMENT, SUBSCRIPTION, ambient, body_of, response, too_many};
use super::subscribe::{ACKNOWLEDGED, MAX_RESOURCES, UPDATED, subscribe};
use super::told::event;
use super::{Asked, failure};
use crate::domain::id::ServerName;
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
    let following = Following::new(gateway, (asked.principal, server), versions, wanted, hearing);
    let following = Following { tag: Some(tag), last, _subscribed: guard, ..following };
    let first = futures_util::stream::iter([first]);
    response(body_of(first.chain(following.events()), seat))
}

/// The stream of a legacy session with one server (`GET`).
pub(super) fn of_visitor(
    gateway: &Arc<Gateway>,
    principal: Principal,
    server: &ServerName,
    visitor: &Arc<Visitor>,
    before: Before,
) -> Response {
    let Some(seat) = gateway.stream_seat(&principal.key) else { return failure(None, &too_many()) };
    let Some(versions) = gateway.list_versions(server) else {
        return failure(None, &RpcError::new(404, -32600, "the server is not configured any more"));
    };
    let attending = gateway.attend(server, &visitor.session);
    let (of, hearing) = ((principal, server.clone()), Hearing::Visitor(Arc::clone(visitor)));
    let following = Following::new(Arc::clone(gateway), of, versions, Wanted::EVERYTHING, hearing);
    let mut following = Following { attending, ..following };
    if before.missed {
        following.missed();
    }
    let events = Box::pin(following.events());
    response(ambient(gateway, (Some(visitor), before.resumes), seat, events))
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
    attending: Option<Attending>,
}

impl Following {
    fn new(
        gateway: Arc<Gateway>,
        (principal, server): (Principal, ServerName),
        mut versions: watch::Receiver<ListVersions>,
        wanted: Wanted,
        hearing: Hearing,
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
            attending: None,
        }
    }

    fn events(self) -> impl Stream<Item = Bytes> {
        futures_util::stream::unfold(self, |mut following| async move {
            following.next().await.map(|event| (event, following))
        })
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
                    if changed.is_err() {
                        // Its settings were changed, or it is gone.
                        if self.gateway.list_versions(&self.server).is_none() {
                            self.done = true;
                            return self.last.take();
                        }
                        self.reattend();
                        continue;
                    }
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
        self.reattend();
        let (gateway, principal) = (&self.gateway, &self.principal);
        gateway.server(principal, self.server.as_str()).is_some()
            && self.wanted.resource_subscriptions.iter().all(|uri| gateway.may_follow(principal, &self.server, uri))
    }

    /// A server whose settings were changed is another one: it is heard from here on, and may list anything.
    fn reattend(&mut self) {
        let Some(now) = self.gateway.list_versions(&self.server) else { return };
        if now.same_channel(&self.versions) {
            return;
        }
        self.versions = now;
        if let Hearing::Visitor(visitor) = &self.hearing {
            self.gateway.hear_session(&self.server, &visitor.session, visitor.sink());
            self.attending = self.gateway.attend(&self.server, &visitor.session);
        }
        self.seen = *self.versions.borrow_and_update();
        self.missed();
    }

    /// Whatever may have changed is due.
    fn missed(&mut self) {
        let tools = self.seen.tools.wrapping_add(1);
        let (prompts, resources) = (self.seen.prompts.wrapping_add(1), self.seen.resources.wrapping_add(1));
        self.tell_changes(ListVersions { tools, prompts, resources });
    }

    /// Events for the lists that have changed.
    fn changed(&mut self) {
        let now = *self.versions.borrow_and_update();
        let before = std::mem::replace(&mut self.seen, now);
        self.tell_changes(before);
    }

    fn tell_changes(&mut self, before: ListVersions) {
        let now = self.seen;
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

    /// Whether the principal may hear of the resource that a notification names, now.
    fn may_hear(&self, params: Option<&Json>) -> bool {
        let uri = hop::member(params, "uri").and_then(|uri| uri.decode::<String>().ok());
        uri.is_some_and(|uri| self.gateway.may_follow(&self.principal, &self.server, &uri))
    }

    fn told(&self, aside: Aside) -> Option<Bytes> {
        match (aside, &self.hearing) {
            (Aside::Notification { method, params, .. }, _) if method == UPDATED && !self.may_hear(params.as_ref()) => {
                None
            }
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
