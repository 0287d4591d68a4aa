//! Streams of the transparent route: what a server says outside of requests. A legacy session hears everything on its
//! `GET`; a modern client hears what it asked for, under the id of its subscription.

use std::collections::VecDeque;
use std::sync::Arc;

use axum::response::Response;
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::Interval;
use tokio_util::sync::CancellationToken;

use super::filter::{Filter, Lists, over, tagged, updated, uri_of};
use super::relayed::{Via, notification, request, withdrawn};
use super::stream::{Before, LOOK, LOOKS_PER_COMMENT, ambient, body_of, response, too_many};
use super::subscribe::{Subscribed, UPDATED, subscribe};
use super::told::event;
use super::{Asked, failure};
use crate::domain::id::ServerName;
use crate::domain::json::Json;
use crate::domain::principal::Principal;
use crate::gateway::{Aside, Attending, Gateway, ListVersions, Readables, Visitor};
use crate::wire::envelope::Id;
use crate::wire::era::Era;
use crate::wire::hop;
use crate::wire::rpc::{self, RpcError};

/// `subscriptions/listen`: the acknowledgement first, then what was asked for, the result at the end.
pub(super) async fn listen(
    gateway: Arc<Gateway>,
    asked: Box<Asked>,
    server: ServerName,
    id: &Id,
    params: Option<&Json>,
) -> Response {
    let Some(wanted) = Filter::read(params) else {
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
    let mut hearing = Hearing::Nothing;
    if !wanted.resource_subscriptions.is_empty() {
        let of = server.clone();
        let via = Via::new(Arc::clone(&gateway), &asked, of, greeting.clone(), None, "subscriptions/listen");
        let uris = std::mem::take(&mut wanted.resource_subscriptions);
        match subscribe(&gateway, (&asked, id), &via, uris).await {
            Ok(None) => {}
            Ok(Some(subscribed)) => {
                wanted.resource_subscriptions.clone_from(&subscribed.uris);
                hearing = Hearing::Subscription(subscribed);
            }
            Err(error) => return failure(Some(id), &error),
        }
    }
    let first = wanted.acknowledged(&tag);
    let result = hop::result_for(&over(&tag), Era::Modern, &greeting.info, None);
    let last = Some(event(&rpc::result(id, &result)));
    let following = Following::new(gateway, (asked.principal.clone(), server), versions, wanted, hearing);
    let following = Following { tag: Some(tag), last, ..following };
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
    let following = Following::new(Arc::clone(gateway), of, versions, Filter::EVERYTHING, hearing);
    let mut following = Following { attending, ..following };
    if before.missed {
        following.tell(Lists::ALL);
        following.hear(Said::Missed);
    }
    let events = Box::pin(following.events());
    response(ambient(gateway, (Some(visitor), before.resumes), seat, events))
}

/// Where a stream hears what the server says.
enum Hearing {
    Nothing,
    Subscription(Subscribed),
    Visitor(Arc<Visitor>),
}

/// What is heard there.
enum Said {
    Aside(Aside),
    /// A resource has changed; the notification's params.
    Updated(Json),
    /// Resources that the client follows may have changed.
    Missed,
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
    async fn next(&mut self) -> Option<Said> {
        match self {
            Self::Subscription(subscribed) => return subscribed.next().await.map(Said::Updated),
            Self::Visitor(visitor) => {
                if let Some(mut heard) = visitor.ambient() {
                    tokio::select! {
                        () = visitor.missed() => return Some(Said::Missed),
                        Some(aside) = heard.recv() => return Some(Said::Aside(aside)),
                    }
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
    changes: watch::Receiver<u64>,
    /// What the client was told of last.
    tools: String,
    readables: Readables,
    wanted: Filter,
    hearing: Hearing,
    /// The id of the subscription.
    tag: Option<Value>,
    looks: Interval,
    quiet: u32,
    /// Events that are due.
    due: VecDeque<Bytes>,
    /// Sent when the stream ends by itself.
    last: Option<Bytes>,
    done: bool,
    attending: Option<Attending>,
}

impl Following {
    fn new(
        gateway: Arc<Gateway>,
        (principal, server): (Principal, ServerName),
        mut versions: watch::Receiver<ListVersions>,
        wanted: Filter,
        hearing: Hearing,
    ) -> Self {
        let changes = gateway.changes();
        versions.mark_unchanged();
        let tools = gateway.server_fingerprint(&principal, &server);
        let readables = gateway.server_readables(&principal, &server);
        Self {
            gateway,
            principal,
            server,
            versions,
            changes,
            tools,
            readables,
            wanted,
            hearing,
            tag: None,
            looks: tokio::time::interval(LOOK),
            quiet: 0,
            due: VecDeque::new(),
            last: None,
            done: false,
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
            if let Some(event) = self.due.pop_front() {
                return Some(event);
            }
            tokio::select! {
                biased;
                () = stopping.cancelled() => return self.end(),
                () = ended.cancelled() => return None,
                changed = self.versions.changed() => {
                    if changed.is_err() {
                        // Its settings were changed, or it is gone.
                        if self.gateway.list_versions(&self.server).is_none() {
                            return self.end();
                        }
                        self.reattend();
                        continue;
                    }
                    // Who hears of it lists at once, and must find what is new.
                    self.gateway.caught_up().await;
                    self.changed();
                }
                changed = self.changes.changed() => {
                    if changed.is_err() || !self.is_open() {
                        return self.end();
                    }
                    self.changed();
                }
                said = self.hearing.next() => match said {
                    Some(said) => self.hear(said),
                    None => return self.end(),
                },
                _ = self.looks.tick() => {
                    if !self.is_open() {
                        return self.end();
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

    /// Ends the stream; gives the last event.
    fn end(&mut self) -> Option<Bytes> {
        self.done = true;
        self.last.take()
    }

    /// Whether the stream would be opened now: the key, its profile, the session may be others.
    fn is_open(&mut self) -> bool {
        let Some(principal) = self.gateway.still_admitted(&self.principal) else { return false };
        self.principal = principal;
        self.reattend();
        self.gateway.server(&self.principal, self.server.as_str()).is_some()
    }

    /// A server whose settings were changed is another one: it is heard from here on, and may list anything.
    fn reattend(&mut self) {
        let Some(mut now) = self.gateway.list_versions(&self.server) else { return };
        if now.same_channel(&self.versions) {
            return;
        }
        now.mark_unchanged();
        self.versions = now;
        if let Hearing::Visitor(visitor) = &self.hearing {
            self.gateway.hear_session(&self.server, &visitor.session, visitor.sink());
            self.attending = self.gateway.attend(&self.server, &visitor.session);
        }
        self.tools = self.gateway.server_fingerprint(&self.principal, &self.server);
        self.readables = self.gateway.server_readables(&self.principal, &self.server);
        self.tell(Lists::ALL);
    }

    /// Tells of the lists that are others now for this principal: by what the server says, or by the policies.
    fn changed(&mut self) {
        let tools = self.gateway.server_fingerprint(&self.principal, &self.server);
        let readables = self.gateway.server_readables(&self.principal, &self.server);
        let (prompts, resources) = readables.changed_since(&self.readables);
        let lists = Lists { tools: tools != self.tools, prompts, resources };
        (self.tools, self.readables) = (tools, readables);
        self.tell(lists);
    }

    fn tell(&mut self, lists: Lists) {
        let offers = |list: &str| self.gateway.offers(&self.server, list);
        let prompts = lists.prompts && offers("prompts");
        let resources = lists.resources && offers("resources");
        self.due.extend(self.wanted.changed(Lists { prompts, resources, ..lists }, self.tag.as_ref()));
    }

    /// Whether the principal may hear of the resource that a notification names, now.
    fn may_hear(&self, params: Option<&Json>) -> bool {
        let uri = params.and_then(uri_of);
        uri.is_some_and(|uri| self.gateway.may_follow(&self.principal, &self.server, &uri))
    }

    fn hear(&mut self, said: Said) {
        let updates = match said {
            Said::Aside(aside) => return self.due.extend(self.told(aside)),
            Said::Updated(params) => vec![params],
            Said::Missed => match &self.hearing {
                Hearing::Visitor(visitor) => {
                    visitor.followed().into_iter().map(|uri| Json::of(&json!({"uri": uri}))).collect()
                }
                Hearing::Nothing | Hearing::Subscription(_) => Vec::new(),
            },
        };
        for params in updates.into_iter().filter(|params| self.may_hear(Some(params))).collect::<Vec<_>>() {
            self.due.push_back(updated(self.tag.as_ref(), params));
        }
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
