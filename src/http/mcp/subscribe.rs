//! Resources that are followed: somebody has to listen to the server for it, in the way of its era.

use std::collections::{BTreeMap, HashSet};
use std::future::ready;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use futures_util::stream::{SelectAll, once, unfold};
use futures_util::{Stream, StreamExt};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::Asked;
use super::call::NOTICES;
use super::relayed::Via;
use super::wanted::Wanted;
use crate::domain::id::{RequestId, ServerName};
use crate::domain::json::Json;
use crate::domain::outcome::Outcome;
use crate::gateway::{Aside, Asides, Gateway, LISTENS, Passed, Peer, Visitor, asides};
use crate::wire::envelope::Id;
use crate::wire::era::Era;
use crate::wire::hop::Onward;
use crate::wire::rpc::RpcError;

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
            let (acknowledged, taken) = tokio::sync::oneshot::channel();
            gateway.tasks().spawn(listen_upstream(
                Arc::clone(gateway),
                via.server.clone(),
                via.peer(Era::Modern, filter(&uris), sink.clone()),
                sink,
                Some(acknowledged),
                stop.clone(),
            ));
            return match taken.await {
                Ok(()) => Ok(uris),
                Err(_) => Err(RpcError::new(200, -32603, "the server did not take the subscription")),
            };
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
    let mut refused = HashSet::new();
    for uri in &uris {
        let wanted = Wanted::follow(&via.server, uri, true, via.greeting.era == Era::Legacy);
        let peer = via.peer(Era::Modern, Onward::default(), Asides::deaf());
        match via.errand(asked.0, asked.1, wanted, of(peer)).await.outcome {
            Outcome::Answered(_) => {}
            Outcome::Refused(_) => drop(refused.insert(uri.clone())),
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

/// Keeps a modern server's stream of changes open until it is not wanted any more.
async fn listen_upstream(
    gateway: Arc<Gateway>,
    server: ServerName,
    peer: Peer,
    sink: Asides,
    mut acknowledged: Option<tokio::sync::oneshot::Sender<()>>,
    stop: CancellationToken,
) {
    let (raw, mut heard) = asides(NOTICES);
    let peer = Peer { asides: raw, ..peer };
    let listening = async {
        let mut again = AGAIN;
        loop {
            let began = tokio::time::Instant::now();
            let passed = Passed { method: "subscriptions/listen", peer: &peer, endless: true };
            if let Err(error) = gateway.pass(&server, passed).await {
                tracing::debug!(server = %server, "a subscription broke off: {}", error.message);
            }
            again = if began.elapsed() > LONGEST_AGAIN { AGAIN } else { (again * 2).min(LONGEST_AGAIN) };
            tokio::time::sleep(again).await;
        }
    };
    let passing = async {
        while let Some(aside) = heard.recv().await {
            match aside {
                Aside::Notification { method, .. } if method == ACKNOWLEDGED => {
                    acknowledged.take().map(|acknowledged| acknowledged.send(()));
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

/// `resources/subscribe` of a legacy client at a modern server: somebody has to listen for it.
pub(super) fn follow_resource(gateway: &Arc<Gateway>, via: &Via, visitor: &Arc<Visitor>, uri: &str, on: bool) {
    let Some((uris, stop)) = visitor.follow(uri, on) else { return };
    if uris.is_empty() {
        return;
    }
    let peer = via.peer(Era::Modern, filter(&uris), visitor.sink());
    let upstream = listen_upstream(Arc::clone(gateway), via.server.clone(), peer, visitor.sink(), None, stop);
    gateway.tasks().spawn(upstream);
}
