//! Resources that are followed: somebody has to listen to the server for it, in the way of its era.

use std::collections::{BTreeMap, HashSet};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use futures_util::stream::{SelectAll, unfold};
use futures_util::{FutureExt, Stream, StreamExt};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::Asked;
use super::call::NOTICES;
use super::relayed::Via;
use super::wanted::Wanted;
use crate::domain::id::{RequestId, ServerName};
use crate::domain::json::Json;
use crate::domain::outcome::{Outcome, UpstreamFault};
pub(super) use crate::gateway::UPDATED;
use crate::gateway::{Aside, Asides, Gateway, LISTENS, MAX_FOLLOWED, Passed, Peer, Visitor, asides};
use crate::wire::envelope::Id;
use crate::wire::era::Era;
use crate::wire::hop::{self, Onward};
use crate::wire::rpc::RpcError;

/// How long a server may take to take a subscription.
const TAKE: Duration = Duration::from_secs(10);
/// Resources of which a legacy server is told at once.
const AT_ONCE: usize = 8;
/// After this a subscription that broke off is tried again, and at last after this.
const AGAIN: Duration = Duration::from_secs(1);
const LONGEST_AGAIN: Duration = Duration::from_secs(60);
/// The first message of a subscription.
pub(super) const ACKNOWLEDGED: &str = "notifications/subscriptions/acknowledged";

/// What one server tells of the resources that a subscription follows there, until this is dropped.
pub(super) struct Subscribed {
    pub(super) uris: Vec<String>,
    heard: mpsc::Receiver<Aside>,
    missed: Arc<Notify>,
    /// Of these something may have been missed.
    due: Vec<String>,
    _stop: DropGuard,
}

impl Subscribed {
    /// Something may have been missed of all of them: told once too often does no harm.
    fn missed(&mut self) {
        self.due.clone_from(&self.uris);
    }

    /// The params of the next notification that one of them has changed; `None` where the server tells of no more.
    pub(super) async fn next(&mut self) -> Option<Json> {
        loop {
            if let Some(uri) = self.due.pop() {
                return Some(Json::of(&json!({"uri": uri})));
            }
            tokio::select! {
                () = self.missed.notified() => self.missed(),
                aside = self.heard.recv() => match aside? {
                    Aside::Notification { method, params: Some(params), .. } if method == UPDATED => return Some(params),
                    _ => {}
                }
            }
        }
    }
}

/// Has a server tell of changes of those resources of which it does and the principal may hear; `None` where these are none.
pub(super) async fn subscribe(
    gateway: &Arc<Gateway>,
    asked: (&Asked, &Id),
    via: &Via,
    uris: Vec<String>,
) -> Result<Option<Subscribed>, RpcError> {
    let stop = CancellationToken::new();
    // From here on: whoever asks may leave meanwhile.
    let guard = stop.clone().drop_guard();
    let (sink, heard) = asides(NOTICES);
    let (missed, sink) = (sink.missed(), sink.of(&asked.0.principal.key));
    let taken = async {
        match via.greeting.era {
            Era::Legacy => subscribe_legacy(gateway, asked, via, uris, sink, stop).await,
            Era::Modern => {
                let mut uris = permitted(asked, via, uris, |peer| peer).await?;
                if !uris.is_empty() {
                    let told = listen_for(gateway, via, &uris, sink, stop).await?;
                    uris.retain(|uri| told.contains(uri));
                }
                Ok(uris)
            }
        }
    };
    let uris = in_time(taken).await?;
    Ok((!uris.is_empty()).then(|| Subscribed { uris, heard, missed, due: Vec::new(), _stop: guard }))
}

fn not_taken() -> RpcError {
    RpcError::new(200, -32603, "the server did not take the subscription")
}

async fn in_time<T>(taken: impl Future<Output = Result<T, RpcError>>) -> Result<T, RpcError> {
    let late = |_| Err(RpcError::new(200, -32603, "the server did not take the subscription in time"));
    tokio::time::timeout(TAKE, taken).await.unwrap_or_else(late)
}

/// A legacy server tells a session: this subscription gets one of its own.
async fn subscribe_legacy(
    gateway: &Arc<Gateway>,
    asked: (&Asked, &Id),
    via: &Via,
    uris: Vec<String>,
    sink: Asides,
    stop: CancellationToken,
) -> Result<Vec<String>, RpcError> {
    let session: Arc<str> = format!("{}{LISTENS}{}", via.principal.key, RequestId::fresh()).into();
    gateway.hear_session(&via.server, &session, sink);
    let (left, name, stopping) = (Arc::clone(gateway), Arc::clone(&session), gateway.stopping());
    let attending = gateway.attend(&via.server, &session);
    gateway.tasks().spawn(async move {
        let _attending = attending;
        tokio::select! {
            () = stop.cancelled() => {}
            () = stopping.cancelled() => {}
        }
        left.leave_server(&name);
    });
    permitted(asked, via, uris, |peer| Peer { session: Arc::clone(&session), lasting: true, ..peer }).await
}

/// Of these resources those that the principal may follow; a server of the older era is told of each, in the session that
/// `of` names, and may refuse some.
async fn permitted(
    asked: (&Asked, &Id),
    via: &Via,
    uris: Vec<String>,
    of: impl Fn(Peer) -> Peer,
) -> Result<Vec<String>, RpcError> {
    let legacy = via.greeting.era == Era::Legacy;
    let mut taken = Vec::with_capacity(uris.len());
    // The first one alone: it opens the session.
    let (first, others) = uris.split_at(uris.len().min(1));
    for some in [first].into_iter().chain(others.chunks(AT_ONCE)) {
        let carried = join_all(some.iter().map(|uri| {
            let wanted = Wanted::follow(&via.server, uri, true, legacy);
            let peer = via.peer(Era::Modern, Onward::default(), Asides::deaf());
            via.errand(asked.0, asked.1, wanted, of(peer)).boxed()
        }));
        for (uri, carried) in some.iter().zip(carried.await) {
            match carried.outcome {
                Outcome::Answered(_) => taken.push(uri.clone()),
                Outcome::Refused(_) => {}
                // Its own no, to this one.
                Outcome::Failed(error) if matches!(error.fault, UpstreamFault::Rpc(_)) => {}
                Outcome::Failed(error) => return Err(RpcError::new(200, -32603, error.message)),
                Outcome::Cancelled => return Err(RpcError::new(200, -32603, "the call was cancelled")),
            }
        }
    }
    Ok(taken)
}

/// Who follows resources of several servers, as it asked.
struct Follower {
    gateway: Arc<Gateway>,
    asked: Box<Asked>,
    id: Id,
}

impl Follower {
    /// Of these resources of one server those that the principal may follow now.
    async fn subscribe(&self, server: &ServerName, mut uris: Vec<String>) -> Option<Subscribed> {
        let principal = self.gateway.still_admitted(&self.asked.principal)?;
        uris.retain(|uri| self.gateway.may_follow(&principal, server, uri));
        if uris.is_empty() {
            return None;
        }
        let greeting = self.gateway.greeting(server).await.ok()?;
        if greeting.capabilities.value().pointer("/resources/subscribe") != Some(&Value::Bool(true)) {
            return None;
        }
        let (gateway, of) = (Arc::clone(&self.gateway), server.clone());
        let via = Via::new(gateway, &self.asked, of, greeting, None, "subscriptions/listen");
        subscribe(&self.gateway, (&self.asked, &self.id), &via, uris).await.ok()?
    }
}

/// What one of several servers tells. Where it does so no more, it is asked again.
struct Told {
    by: Arc<Follower>,
    server: ServerName,
    uris: Vec<String>,
    subscribed: Option<Subscribed>,
    since: Instant,
    again: Duration,
}

impl Told {
    async fn next(&mut self) -> Json {
        loop {
            let Some(subscribed) = &mut self.subscribed else {
                tokio::time::sleep(self.again).await;
                self.again = (self.again * 2).min(LONGEST_AGAIN);
                self.subscribed = self.by.subscribe(&self.server, self.uris.clone()).boxed().await;
                self.subscribed.iter_mut().for_each(Subscribed::missed);
                self.since = Instant::now();
                continue;
            };
            match subscribed.next().await {
                Some(params) => return params,
                None => {
                    tracing::debug!(server = %self.server, "a subscription was lost");
                    if self.since.elapsed() > LONGEST_AGAIN {
                        self.again = AGAIN;
                    }
                    self.subscribed = None;
                }
            }
        }
    }
}

/// What servers say of resources.
type Changes = dyn Stream<Item = (ServerName, Json)> + Send;

/// Resources of several servers that one subscription follows, until this is dropped.
pub(super) struct Followed {
    pub(super) uris: Vec<String>,
    told: SelectAll<Pin<Box<Changes>>>,
}

impl Followed {
    /// Has the servers of these resources tell of changes, where they can and the principal may hear of them.
    pub(super) async fn begin(gateway: Arc<Gateway>, asked: Box<Asked>, id: Id, mut uris: Vec<String>) -> Self {
        uris.truncate(MAX_FOLLOWED);
        uris.sort_unstable();
        uris.dedup();
        let mut by_server: BTreeMap<ServerName, Vec<String>> = BTreeMap::new();
        if !uris.is_empty() {
            let uris: Vec<&str> = uris.iter().map(String::as_str).collect();
            for (uri, server) in gateway.listed_resources(&asked.principal, asked.listing(), &uris).await {
                by_server.entry(server).or_default().push(uri.to_owned());
            }
        }
        let by = Arc::new(Follower { gateway, asked, id });
        let taken = join_all(by_server.into_iter().map(async |(server, uris)| {
            let subscribed = by.subscribe(&server, uris).boxed().await?;
            Some((server, subscribed))
        }));
        let mut followed = Self { uris: Vec::new(), told: SelectAll::new() };
        for (server, subscribed) in taken.await.into_iter().flatten() {
            let (by, uris, since) = (Arc::clone(&by), subscribed.uris.clone(), Instant::now());
            followed.uris.extend(uris.iter().cloned());
            let told = Told { by, server, uris, subscribed: Some(subscribed), since, again: AGAIN };
            followed.told.push(Box::pin(unfold(told, async |mut told| {
                let params = told.next().await;
                Some(((told.server.clone(), params), told))
            })));
        }
        followed
    }

    /// The next notification that one of them has changed: the server that tells of it, and its params.
    pub(super) async fn next(&mut self) -> (ServerName, Json) {
        match self.told.next().await {
            Some(told) => told,
            None => std::future::pending().await,
        }
    }
}

/// The params of a subscription to resources.
fn filter(uris: &[String]) -> Onward {
    let rest = format!(",\"notifications\":{}", json!({"resourceSubscriptions": uris}));
    Onward { rest, meta: String::new() }
}

/// Has a modern server tell of resources until `stop` falls; gives those of which it says that it does.
async fn listen_for(
    gateway: &Arc<Gateway>,
    via: &Via,
    uris: &[String],
    sink: Asides,
    stop: CancellationToken,
) -> Result<HashSet<String>, RpcError> {
    let (acknowledged, taken) = oneshot::channel();
    let peer = via.peer(Era::Modern, filter(uris), Asides::deaf());
    let (gateway_of, server) = (Arc::clone(gateway), via.server.clone());
    gateway.tasks().spawn(listen_upstream(gateway_of, server, peer, sink, acknowledged, stop));
    taken.await.map_err(|_| not_taken())
}

/// The resources of which an acknowledgement says that they are told of.
fn accepted(params: Option<&Json>) -> HashSet<String> {
    #[derive(Deserialize, Default)]
    #[serde(rename_all = "camelCase", default)]
    struct Accepted {
        resource_subscriptions: HashSet<String>,
    }
    let accepted = hop::member(params, "notifications").and_then(|accepted| accepted.decode::<Accepted>().ok());
    accepted.unwrap_or_default().resource_subscriptions
}

/// Keeps a modern server's stream of changes open until it is not wanted any more.
async fn listen_upstream(
    gateway: Arc<Gateway>,
    server: ServerName,
    peer: Peer,
    sink: Asides,
    acknowledged: oneshot::Sender<HashSet<String>>,
    stop: CancellationToken,
) {
    let (raw, mut heard) = sink.before(NOTICES);
    let peer = Peer { asides: raw, ..peer };
    let taken = AtomicBool::new(false);
    let listening = async {
        let mut again = AGAIN;
        loop {
            let began = Instant::now();
            let passed = Passed { method: "subscriptions/listen", peer: &peer, endless: true };
            if let Err(error) = gateway.pass(&server, passed).await {
                tracing::debug!(server = %server, "a subscription broke off: {}", error.message);
                // It never will: whoever waits for it is told at once.
                if matches!(error.fault, UpstreamFault::Rpc(_)) && !taken.load(Ordering::Acquire) {
                    return;
                }
            }
            again = if began.elapsed() > LONGEST_AGAIN { AGAIN } else { again };
            tokio::time::sleep(again).await;
            again = (again * 2).min(LONGEST_AGAIN);
        }
    };
    let passing = async {
        let mut first = Some(acknowledged);
        while let Some(aside) = heard.recv().await {
            match aside {
                Aside::Notification { method, params, .. } if method == ACKNOWLEDGED => match first.take() {
                    Some(first) => {
                        taken.store(true, Ordering::Release);
                        drop(first.send(accepted(params.as_ref())));
                    }
                    // What changed while nobody listened, nobody knows.
                    None => sink.missed().notify_one(),
                },
                aside => drop(sink.pass(aside)),
            }
        }
    };
    let stopping = gateway.stopping();
    tokio::select! {
        () = stop.cancelled() => {}
        () = stopping.cancelled() => {}
        () = sink.closed() => {}
        () = listening => {}
        () = passing => {}
    }
}

/// A legacy client follows a resource, or no more. At a modern server somebody has to listen for it, and whoever did before
/// goes on until then.
pub(super) async fn follow_resource(
    gateway: &Arc<Gateway>,
    via: &Via,
    visitor: &Arc<Visitor>,
    uri: &str,
    on: bool,
) -> Result<(), RpcError> {
    if via.greeting.era == Era::Legacy {
        visitor.notes(uri, on);
        return Ok(());
    }
    let _one = visitor.following().await;
    let mut uris = visitor.followed();
    let changed = if on { uris.insert(uri.to_owned()) } else { uris.remove(uri) };
    if !changed {
        return Ok(());
    }
    if uris.is_empty() {
        visitor.follows(uris, None);
        return Ok(());
    }
    if uris.len() > MAX_FOLLOWED {
        let message = "this session follows as many resources as it may: unsubscribe from one first";
        return Err(RpcError::new(200, -32602, message));
    }
    let stop = CancellationToken::new();
    let guard = stop.clone().drop_guard();
    let told = in_time(listen_for(gateway, via, &Vec::from_iter(uris.iter().cloned()), visitor.sink(), stop)).await?;
    if on && !told.contains(uri) {
        return Err(not_taken());
    }
    visitor.follows(uris, Some(guard));
    Ok(())
}
