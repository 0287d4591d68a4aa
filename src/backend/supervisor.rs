//! Keeps one server connected: connects, lists, follows changes, and starts again after a while when it is lost.

use std::sync::Arc;
use std::time::Duration;

use super::breaker::{BreakerState, backoff, jitter};
use super::fault::Fault;
use super::link::{Destination, Link, Listed};
use super::lists::ListKind;
use super::peer::Audience;
use super::registry::Hub;
use super::server::Server;

/// Changes that come close together are listed once.
const DEBOUNCE: Duration = Duration::from_millis(150);
/// A list that failed is asked for again after this.
const LIST_AGAIN: Duration = Duration::from_secs(5);
/// How often the tools of a backend that does not tell of changes are listed: unless it says, at most, at least.
const UNTOLD: Duration = Duration::from_secs(60);
const OFTEN: Duration = Duration::from_secs(30);
const SELDOM: Duration = Duration::from_secs(300);
/// A link that lived so long was a good one: the next start is not delayed by those before.
const GOOD_LIFE: Duration = Duration::from_secs(60);
/// How often idle sessions are looked for.
const SWEEP: Duration = Duration::from_secs(30);
/// All of connecting and listing.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(90);

/// Runs until the server is stopped; then waits for its calls and closes the link.
pub(crate) async fn supervise(server: Arc<Server>, hub: Arc<Hub>) {
    let stop = server.stop.clone();
    let clock = &*hub.clock;
    let mut attempt = 0_u32;
    loop {
        let Some(opened) = stop.run_until_cancelled(connect(&server, &hub)).await else { break };
        let why = match opened {
            Ok((link, listed)) => {
                let link = Arc::new(link);
                tracing::info!(server = %server.name, tools = listed.definitions.len(), "connected");
                let rested = server.breaker.state() != BreakerState::Closed;
                let before = server.has_listed();
                let changed = server.ready(Arc::clone(&link), listed, clock);
                if before {
                    // What comes back may be another: whoever follows its lists is told.
                    server.changes.prompts.notify_one();
                    server.changes.resources.notify_one();
                    server.tools_listed(changed);
                }
                if rested {
                    hub.breaker_changed(&server, BreakerState::Closed, "");
                }
                hub.progressed(changed);
                let began = clock.ticks();
                let Some(why) = stop.run_until_cancelled(tend(&server, &hub, &link)).await else { break };
                if Duration::from_micros(clock.ticks().saturating_sub(began)) >= GOOD_LIFE {
                    attempt = 0;
                }
                why
            }
            Err(fault) => fault.detail,
        };
        tracing::warn!(server = %server.name, why, attempt, "not connected");
        let changed = server.down(&why, clock);
        hub.progressed(changed);
        let rest = tokio::time::sleep(backoff(attempt, jitter()));
        let waited = async {
            tokio::select! {
                () = rest => {}
                // Somebody wants it now.
                () = server.refresh.notified() => {}
            }
        };
        if stop.run_until_cancelled(waited).await.is_none() {
            break;
        }
        attempt = attempt.saturating_add(1);
        server.connecting(clock);
    }
    if tokio::time::timeout(hub.grace(), server.drained()).await.is_err() {
        tracing::warn!(server = %server.name, "stopped with calls still in flight");
    }
    if let Some(link) = server.stopped(clock) {
        link.close().await;
    }
    tracing::debug!(server = %server.name, "stopped");
}

async fn connect(server: &Server, hub: &Hub) -> Result<(Link, Listed), Fault> {
    // Waiting for a turn is no fault of the server's.
    let _place = hub.connecting.acquire().await;
    let connecting = async {
        let settings = Arc::clone(&server.settings());
        let audience = Audience::shared(Arc::clone(&server.changes));
        let (environment, tracker) = (&hub.environment, &hub.tracker);
        let to = Destination { settings: &settings, authorization: server.authorization.as_ref() };
        let link = Link::open(to, server.era(), environment, tracker, &server.tail, audience).await?;
        match link.list_tools().await {
            Ok(listed) => Ok((link, listed)),
            Err(fault) => {
                link.close().await;
                Err(fault)
            }
        }
    };
    let timeout = Fault::new(super::fault::FaultKind::Timeout, "not connected in time");
    tokio::time::timeout(CONNECT_TIMEOUT, connecting).await.unwrap_or(Err(timeout))
}

/// Follows changes until the link is lost; says why it was.
async fn tend(server: &Server, hub: &Hub, link: &Link) -> String {
    let follow = link.follow(&server.changes, true);
    let work = async {
        loop {
            let wanted = tokio::select! {
                () = server.changes.tools.notified() => true,
                () = server.refresh.notified() => true,
                () = untold(server, link) => false,
            };
            tokio::time::sleep(DEBOUNCE + DEBOUNCE.mul_f64(jitter())).await;
            match link.list_tools().await {
                Ok(listed) => {
                    let changed = server.listed(listed);
                    hub.progressed(changed);
                    server.tools_listed(changed);
                }
                // Whether it is well, calls find out.
                Err(fault) if !wanted => {
                    tracing::debug!(server = %server.name, detail = fault.detail, "the tools cannot be listed now");
                }
                Err(fault) => {
                    tracing::warn!(server = %server.name, detail = fault.detail, "the tools cannot be listed again");
                    server.failed(&fault.detail);
                    hub.progressed(false);
                    tokio::time::sleep(LIST_AGAIN).await;
                    server.refresh.notify_one();
                }
            }
        }
    };
    tokio::select! {
        why = link.ended() => why,
        () = follow => String::new(),
        () = work => String::new(),
        () = mind(server, hub) => String::new(),
    }
}

/// Waits until the tools of a backend that does not tell of changes are to be listed again.
async fn untold(server: &Server, link: &Link) {
    let told = link.hello().listen.as_ref().is_some_and(|listen| listen.contains("\"toolsListChanged\""));
    if told || !link.hello().tools {
        return std::future::pending().await;
    }
    let period = server.ttl_ms().map_or(UNTOLD, Duration::from_millis).clamp(OFTEN, SELDOM);
    tokio::time::sleep(period + period.mul_f64(jitter() / 4.0)).await;
}

/// Takes note of changed lists that are asked for when they are wanted, and closes idle sessions. Never completes.
async fn mind(server: &Server, hub: &Hub) {
    let mut sweep = tokio::time::interval(SWEEP);
    loop {
        tokio::select! {
            () = server.changes.prompts.notified() => {
                server.lists.forget(ListKind::Prompts);
                server.versions.send_modify(|versions| versions.prompts += 1);
                hub.readables.send_modify(|versions| versions.prompts += 1);
            }
            () = server.changes.resources.notified() => {
                server.lists.forget(ListKind::Resources);
                server.lists.forget(ListKind::Templates);
                server.versions.send_modify(|versions| versions.resources += 1);
                hub.readables.send_modify(|versions| versions.resources += 1);
            }
            _ = sweep.tick() => server.sessions.sweep(hub.clock.ticks(), None),
        }
    }
}
