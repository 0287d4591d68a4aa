//! Resources that are followed: somebody has to listen to the server for it, in the way of its era.

use std::collections::{BTreeMap, HashSet};
use std::future::ready;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use futures_util::stream::{SelectAll, once, unfold};
use futures_util::{Stream, StreamExt};
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::Asked;
use super::call::NOTICES;
use super::relayed::Via;
use super::wanted::Wanted;
use crate::domain::id::{RequestId, ServerName};
use crate::domain::json::Json;
use crate::domain::outcome::{Outcome, UpstreamError, UpstreamFault};
use crate::gateway::{Aside, Asides, Gateway, LISTENS, Passed, Peer, Visitor, asides};
use crate::wire::envelope::Id;
use crate::wire::era::Era;
use crate::wire::hop::{self, Onward};
use crate::wire::rpc::RpcError;

const NOT_TAKEN: &str = "the server did not take the subscription";
/// How long a server may take to take a subscription.
const TAKE: Duration = Duration::from_secs(10);
/// After this a subscription that broke off is tried again, and at last after this.
const AGAIN: Duration = Duration::from_secs(1);
const LONGEST_AGAIN: Duration = Duration::from_secs(60);
/// Resources that one subscription may follow.
pub(super) const MAX_RESOURCES: usize = 256;
pub(super) const UPDATED: &str = "notifications/resources/updated";
/// The first message of a subscription.
pub(super) const ACKNOWLEDGED: &str = "notifications/subscriptions/acknowledged";

/// Has a server tell of changes of resources, into `sink`; gives those that the principal may hear of. It ends when the
/// guard is dropped.
pub(super) async fn subscribe(
    gateway: &Arc<Gateway>,
    asked: (&Asked, &Id),
    via: &Via,
    uris: Vec<String>,
    sink: Asides,
) -> Result<(Vec<String>, DropGuard), RpcError> {
    let stop = CancellationToken::new();
    let taken = async {
        if via.greeting.era == Era::Modern {
            let uris = permitted(asked, via, uris, |peer| peer).await?;
            if uris.is_empty() {
                return Ok(uris);
            }
            let taken = listening(gateway, via, uris, sink, stop.clone()).await;
            return taken.ok_or_else(|| RpcError::new(200, -32603, NOT_TAKEN));
        }
        subscribe_legacy(gateway, asked, via, uris, sink, stop.clone()).await
    };
    match tokio::time::timeout(TAKE, taken).await {
        Ok(Ok(uris)) => Ok((uris, stop.drop_guard())),
        Ok(Err(error)) => {
            stop.cancel();
            Err(error)
        }
        Err(_) => {
            stop.cancel();
            Err(RpcError::new(200, -32603, "the server did not take the subscription in time"))
        }
    }
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
    gateway.hear_session(&via.server, &session, sink.clone());
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
/// `of` names.
async fn permitted(
    asked: (&Asked, &Id),
    via: &Via,
    mut uris: Vec<String>,
    of: impl Fn(Peer) -> Peer,
) -> Result<Vec<String>, RpcError> {
    let each = async |uri: &String| {
        let wanted = Wanted::follow(&via.server, uri, true, via.greeting.era == Era::Legacy);
        let peer = via.peer(Era::Modern, Onward::default(), Asides::deaf());
        via.errand(asked.0, asked.1, wanted, of(peer)).await.outcome
    };
    // One by one: a session is opened by the first.
    let mut refused = HashSet::new();
    for uri in &uris {
        match each(uri).await {
            Outcome::Answered(_) => {}
            // What a server says of one resource, it says of no other.
            Outcome::Refused(_) | Outcome::Failed(UpstreamError { fault: UpstreamFault::Rpc(_), .. }) => {
                refused.insert(uri.clone());
            }
            Outcome::Failed(error) => return Err(RpcError::new(200, -32603, error.message)),
            Outcome::Cancelled => return Err(RpcError::new(200, -32603, "the call was cancelled")),
        }
    }
    uris.retain(|uri| !refused.contains(uri));
    Ok(uris)
}

/// What one server tells of a subscription, and `None` where it does so no more.
type Heard = Pin<Box<dyn Stream<Item = Option<Aside>> + Send>>;

fn hearing(heard: mpsc::Receiver<Aside>) -> Heard {
    let told = unfold(heard, async |mut heard| Some((Some(heard.recv().await?), heard)));
    Box::pin(told.chain(once(ready(None))))
}

/// Resources of several servers that one subscription follows, until this is dropped.
pub(super) struct Followed {
    pub(super) resources: Vec<(ServerName, String)>,
    heard: SelectAll<Heard>,
    _subscribed: Vec<DropGuard>,
}

impl Followed {
    /// Has the servers of these resources tell of changes, where they can and the principal may hear of them.
    pub(super) async fn begin(gateway: &Arc<Gateway>, asked: (&Asked, &Id), mut uris: Vec<String>) -> Self {
        uris.truncate(MAX_RESOURCES);
        uris.sort_unstable();
        uris.dedup();
        let uris: Vec<&str> = uris.iter().map(String::as_str).collect();
        let mut by_server: BTreeMap<ServerName, Vec<String>> = BTreeMap::new();
        if !uris.is_empty() {
            let (principal, listing) = (&asked.0.principal, asked.0.listing());
            for (uri, server) in gateway.listed_resources(principal, listing, &uris).await {
                by_server.entry(server).or_default().push(uri.to_owned());
            }
        }
        let taken = join_all(by_server.into_iter().map(async |(server, uris)| {
            let greeting = gateway.greeting(&server).await.ok()?;
            let tells = greeting.capabilities.value().pointer("/resources/subscribe") == Some(&Value::Bool(true));
            let of = server.clone();
            let via = Via::new(Arc::clone(gateway), asked.0, of, greeting, None, "subscriptions/listen");
            if !tells {
                return None;
            }
            let (sink, heard) = asides(NOTICES);
            let (uris, subscribed) = subscribe(gateway, asked, &via, uris, sink).await.ok()?;
            Some((server, uris, heard, subscribed))
        }));
        let mut followed = Self { resources: Vec::new(), heard: SelectAll::new(), _subscribed: Vec::new() };
        for (server, uris, heard, subscribed) in taken.await.into_iter().flatten() {
            followed.heard.push(hearing(heard));
            followed.resources.extend(uris.into_iter().map(|uri| (server.clone(), uri)));
            followed._subscribed.push(subscribed);
        }
        followed
    }

    /// The params of the next notification that one of them has changed; `None` where a server tells of its no more.
    pub(super) async fn next(&mut self) -> Option<Option<Json>> {
        loop {
            match self.heard.next().await {
                Some(Some(Aside::Notification { method, params, .. })) if method == UPDATED => return Some(params),
                Some(Some(_)) => {}
                Some(None) => return None,
                None => std::future::pending().await,
            }
        }
    }
}

/// The params of a subscription to resources.
fn filter(uris: &[String]) -> Onward {
    let rest = format!(",\"notifications\":{}", json!({"resourceSubscriptions": uris}));
    Onward { rest, meta: String::new() }
}

/// Has a modern server tell of these resources until `stop`; gives those that it has taken.
async fn listening(
    gateway: &Arc<Gateway>,
    via: &Via,
    uris: Vec<String>,
    sink: Asides,
    stop: CancellationToken,
) -> Option<Vec<String>> {
    let (acknowledged, taken) = oneshot::channel();
    let peer = via.peer(Era::Modern, filter(&uris), sink.clone());
    let of = (via.server.clone(), uris);
    gateway.tasks().spawn(listen_upstream(Arc::clone(gateway), of, peer, sink, acknowledged, stop));
    taken.await.ok()
}

/// Of what was asked for, what an acknowledgement says.
fn accepted(uris: &[String], params: Option<&Json>) -> Vec<String> {
    let said = hop::member(hop::member(params, "notifications").as_ref(), "resourceSubscriptions");
    let said: HashSet<String> = said.and_then(|said| said.decode().ok()).unwrap_or_default();
    uris.iter().filter(|uri| said.contains(*uri)).cloned().collect()
}

/// Keeps a modern server's stream of changes open until it is not wanted any more, or the server takes none.
async fn listen_upstream(
    gateway: Arc<Gateway>,
    (server, uris): (ServerName, Vec<String>),
    peer: Peer,
    sink: Asides,
    acknowledged: oneshot::Sender<Vec<String>>,
    stop: CancellationToken,
) {
    let (raw, mut heard) = asides(NOTICES);
    let peer = Peer { asides: raw, ..peer };
    let (begun, mut acknowledged) = (AtomicBool::new(false), Some(acknowledged));
    let listening = async {
        let mut again = AGAIN;
        loop {
            let began = tokio::time::Instant::now();
            let passed = Passed { method: "subscriptions/listen", peer: &peer, endless: true };
            if let Err(error) = gateway.pass(&server, passed).await {
                tracing::debug!(server = %server, "a subscription broke off: {}", error.message);
                if !begun.load(Ordering::Relaxed) && matches!(error.fault, UpstreamFault::Rpc(_)) {
                    return;
                }
            }
            again = if began.elapsed() > LONGEST_AGAIN { AGAIN } else { (again * 2).min(LONGEST_AGAIN) };
            tokio::time::sleep(again).await;
        }
    };
    let passing = async {
        while let Some(aside) = heard.recv().await {
            match aside {
                Aside::Notification { method, params, .. } if method == ACKNOWLEDGED => {
                    begun.store(true, Ordering::Relaxed);
                    let taken = accepted(&uris, params.as_ref());
                    match acknowledged.take() {
                        Some(acknowledged) => drop(acknowledged.send(taken)),
                        // Whatever changed while nobody listened: read once too often does no harm.
                        None => taken.iter().for_each(|uri| sink.tell(UPDATED, Some(Json::of(&json!({"uri": uri}))))),
                    }
                }
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

/// `resources/subscribe` of a legacy client at a modern server, and its opposite: somebody has to listen for it. The listener
/// before ends when the new one has begun, so that nothing is missed in between.
///
/// # Errors
/// A sentence for the client, where the server does not take it; what was followed before still is.
pub(super) async fn follow_resource(
    gateway: &Arc<Gateway>,
    via: &Via,
    visitor: &Arc<Visitor>,
    uri: &str,
    on: bool,
) -> Result<(), &'static str> {
    let mut followed = visitor.followed().await;
    let Some(uris) = followed.with(uri, on)? else { return Ok(()) };
    if uris.is_empty() {
        followed.replace(uris, None);
        return Ok(());
    }
    let stop = CancellationToken::new();
    let guard = stop.clone().drop_guard();
    let taken = tokio::time::timeout(TAKE, listening(gateway, via, uris, visitor.sink(), stop.clone())).await;
    let taken = taken.ok().flatten().filter(|taken| !on || taken.iter().any(|taken| taken == uri)).ok_or(NOT_TAKEN)?;
    guard.disarm();
    followed.replace(taken, Some(stop));
    Ok(())
}
