//! A way to one backend that has been greeted, whatever the transport.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::sync::Arc;
use std::time::Duration;

use serde_json::value::RawValue;
use tokio_util::task::TaskTracker;

use super::ask::{Ask, Params};
use super::breaker::{backoff, jitter};
use super::fault::{Fault, FaultKind};
use super::oauth::Authorization;
use super::peer::{Audience, Changes, Peer};
use super::probe::Hello;
use super::transport::{self, DuplexLink, HttpLink, Place, Program, Tail};
use crate::config::{ServerSettings, Transport};
use crate::domain::json::Json;
use crate::wire::era::Era;

/// How long one page of a list may take.
const LIST_TIMEOUT: Duration = Duration::from_secs(30);
/// A stream of notifications that lasted so long was a good one.
const LONG_STREAM: Duration = Duration::from_secs(30);
/// Pages and tools that are read at most: an endless list ends here.
const MAX_PAGES: usize = 200;
const MAX_ITEMS: usize = 10_000;
/// Bytes of one item, and of all; and how long all pages may take.
const MAX_ITEM: usize = 512 << 10;
const MAX_LIST: usize = 16 << 20;
const ALL_PAGES_TIMEOUT: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(crate) enum Link {
    Http(Box<HttpLink>),
    /// One channel both ways: stdio, SSE, WebSocket.
    Duplex(Box<DuplexLink>),
}

/// A list of definitions, and what was wrong with it.
#[derive(Debug, Default)]
pub(crate) struct Listed {
    pub definitions: Vec<Json>,
    pub warning: Option<String>,
    /// How long the backend lets it be kept, in milliseconds, where it says so.
    pub ttl_ms: Option<u64>,
    /// Of all pages together.
    bytes: usize,
}

/// Where a backend is, and as whom the gateway goes there.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Destination<'a> {
    pub settings: &'a ServerSettings,
    pub authorization: Option<&'a Arc<Authorization>>,
}

impl Link {
    fn duplex(link: DuplexLink) -> Self {
        Self::Duplex(Box::new(link))
    }

    /// Connects and greets. `before` is the era that the backend spoke when last seen.
    pub(crate) async fn open(
        to: Destination<'_>,
        before: Option<Era>,
        inherited: &[(OsString, OsString)],
        tracker: &TaskTracker,
        tail: &Tail,
        audience: Audience,
    ) -> Result<Self, Fault> {
        let (authorization, ca, limit) = (to.authorization, to.settings.ca.as_deref(), to.settings.max_answer);
        match &to.settings.transport {
            Transport::Http { url, headers } => {
                let place = Place { url, headers, authorization, ca, limit };
                match Box::pin(HttpLink::open(place, before, tracker, audience.clone())).await {
                    Ok(link) => Ok(Self::Http(Box::new(link))),
                    // Servers from before Streamable HTTP take no posts here (2025-11-25, "Backwards Compatibility").
                    Err(fault) if fault.takes_no_posts() => {
                        let link = transport::sse(place, tracker, &audience).await;
                        link.map(Self::duplex).map_err(|older| {
                            tracing::debug!(detail = older.detail, "no event stream of the older kind either");
                            fault
                        })
                    }
                    Err(fault) => Err(fault),
                }
            }
            Transport::Sse { url, headers } => {
                let place = Place { url, headers, authorization, ca, limit };
                transport::sse(place, tracker, &audience).await.map(Self::duplex)
            }
            Transport::Ws { url, headers } => {
                let place = Place { url, headers, authorization, ca, limit };
                transport::ws(place, before, tracker, &audience).await.map(Self::duplex)
            }
            Transport::Stdio { command, args, env, cwd } => {
                let program = Program { command, args, env, cwd: cwd.as_deref(), inherited, limit };
                transport::stdio(program, before, tracker, tail, &audience).await.map(Self::duplex)
            }
        }
    }

    pub(crate) const fn hello(&self) -> &Hello {
        match self {
            Self::Http(link) => link.hello(),
            Self::Duplex(link) => link.hello(),
        }
    }

    /// Sends one request and waits for its result. Dropping the future cancels it at the backend.
    pub(crate) async fn ask(&self, ask: &Ask<'_>) -> Result<Json, Fault> {
        match self {
            Self::Http(link) => link.ask(ask).await,
            Self::Duplex(link) => link.ask(ask).await,
        }
    }

    /// Tells a legacy backend from which level on its log messages are wanted, where it has any.
    pub(crate) async fn set_level(&self, level: &str) {
        if self.hello().capabilities.value().get("logging").is_none() {
            return;
        }
        let level = format!("\"level\":{}", serde_json::Value::from(level));
        let ask = Ask::plain("logging/setLevel", Params::Members(&level));
        if !matches!(tokio::time::timeout(LIST_TIMEOUT, self.ask(&ask)).await, Ok(Ok(_))) {
            tracing::debug!("the level of log messages was not taken");
        }
    }

    /// Sends a notification; the peer's `rest` are its params.
    pub(crate) fn notify(&self, method: &str, peer: &Peer) {
        let params = peer.rest.strip_prefix(',').unwrap_or_default();
        let message =
            format!("{{\"jsonrpc\":\"2.0\",\"method\":{},\"params\":{{{params}}}}}", serde_json::Value::from(method));
        match self {
            Self::Http(link) => link.notify(message),
            Self::Duplex(link) => link.notify(message),
        }
    }

    /// Completes when the link is of no use any more; says why.
    pub(crate) async fn ended(&self) -> String {
        match self {
            Self::Http(link) => {
                link.contradiction.notified().await;
                String::from("it speaks another revision than before")
            }
            Self::Duplex(link) => link.gone().await,
        }
    }

    /// Completes whenever a session was opened in place of one that the backend had lost.
    pub(crate) async fn renewed(&self) {
        match self {
            Self::Http(link) => link.renewed.notified().await,
            Self::Duplex(_) => std::future::pending().await,
        }
    }

    /// Waits until `follow` hears what the backend says outside of requests, where it does.
    pub(crate) async fn heard(&self) {
        if let Self::Http(link) = self {
            link.heard().await;
        }
    }

    /// Changes of resources may have been lost: whoever hears of them there is told.
    pub(crate) fn missed(&self) {
        let audience = match self {
            Self::Http(link) => link.audience(),
            Self::Duplex(link) => link.audience(),
        };
        if let Some(ambient) = &audience.ambient {
            ambient.missed().notify_one();
        }
    }

    /// How long the backend asks to wait before its stream is opened again.
    fn retry(&self) -> Option<Duration> {
        match self {
            Self::Http(link) => link.retry(),
            Self::Duplex(_) => None,
        }
    }

    /// Follows the backend's notifications until that ends. `Ok(false)`: it offers none.
    async fn listen(&self) -> Result<bool, Fault> {
        match self {
            Self::Http(link) => link.listen().await,
            Self::Duplex(link) => link.listen().await,
        }
    }

    /// Keeps the stream of notifications open, where the backend offers one. Completes where the session has ended, unless it
    /// `renews`.
    pub(crate) async fn follow(&self, changes: &Changes, renews: bool) {
        let follows = match self {
            Self::Http(link) => link.follows(),
            Self::Duplex(link) => link.follows(),
        };
        if !follows {
            return std::future::pending().await;
        }
        let mut attempt = 0;
        loop {
            let began = tokio::time::Instant::now();
            match self.listen().await {
                Ok(false) => return std::future::pending().await,
                Ok(true) if began.elapsed() >= LONG_STREAM => attempt = 0,
                Ok(true) => {}
                Err(fault) if fault.kind == FaultKind::SessionLost && !renews => return,
                // It knows of no such stream; whatever else it says may be of this moment.
                Err(fault) if matches!(fault.code(), Some(-32601 | -32602)) => return std::future::pending().await,
                Err(fault) => tracing::debug!(detail = fault.detail, "the stream of notifications broke off"),
            }
            let rest = backoff(attempt, jitter());
            tokio::time::sleep(self.retry().map_or(rest, |retry| rest.max(retry.min(LONG_STREAM)))).await;
            attempt = attempt.saturating_add(1);
            // Something may have changed while nobody listened.
            changes.all();
            self.missed();
        }
    }

    /// Lists all tools, page by page.
    pub(crate) async fn list_tools(&self) -> Result<Listed, Fault> {
        match self.list("tools/list", "tools").await {
            Err(fault) if matches!(fault.kind, FaultKind::Rpc(_)) && !self.hello().tools => Ok(Listed::default()),
            listed => listed,
        }
    }

    /// Asks for a list, page by page; `member` holds its items. Where it takes too long, or is too large, it ends early.
    pub(crate) async fn list(&self, method: &str, member: &str) -> Result<Listed, Fault> {
        let end = tokio::time::Instant::now() + ALL_PAGES_TIMEOUT;
        let mut listed = Listed::default();
        let mut cursor: Option<String> = None;
        for _ in 0..MAX_PAGES {
            let members =
                cursor.as_ref().map(|cursor| format!("\"cursor\":{}", serde_json::Value::from(cursor.as_str())));
            let params = members.as_deref().map_or(Params::None, Params::Members);
            let ask = Ask::plain(method, params);
            let until = end.min(tokio::time::Instant::now() + LIST_TIMEOUT);
            let result = match tokio::time::timeout_at(until, self.ask(&ask)).await {
                Ok(answer) => answer?,
                Err(_) if until == end && cursor.is_some() => {
                    listed.warning = Some(format!("{method} takes too long; the rest is left out"));
                    return Ok(listed);
                }
                Err(_) => return Err(Fault::new(FaultKind::Timeout, format!("no answer to {method}"))),
            };
            let next = read_page(&result, member, &mut listed)?;
            if listed.bytes > MAX_LIST {
                listed.warning = Some(format!("{method} gives more than {MAX_LIST} bytes; the rest is left out"));
                return Ok(listed);
            }
            if listed.definitions.len() > MAX_ITEMS {
                listed.definitions.truncate(MAX_ITEMS);
                listed.warning = Some(format!("{method} gives more than {MAX_ITEMS} items; the rest is left out"));
                return Ok(listed);
            }
            match next {
                None => return Ok(listed),
                Some(next) if cursor.as_ref() == Some(&next) => {
                    listed.warning = Some(format!("{method} repeats a cursor; the list ends there"));
                    return Ok(listed);
                }
                next => cursor = next,
            }
        }
        listed.warning = Some(format!("{method} has more than {MAX_PAGES} pages; the rest is left out"));
        Ok(listed)
    }

    pub(crate) async fn close(&self) {
        match self {
            Self::Http(link) => link.close().await,
            Self::Duplex(link) => link.close().await,
        }
    }
}

/// Reads one page; gives the next cursor (which may be an empty text).
fn read_page(result: &Json, member: &str, listed: &mut Listed) -> Result<Option<String>, Fault> {
    let garbled = |error: serde_json::Error| Fault::garbled(error.to_string());
    let page: BTreeMap<Cow<'_, str>, &RawValue> = serde_json::from_slice(result.bytes()).map_err(garbled)?;
    let items = page.get(member).ok_or_else(|| Fault::garbled(format!("a page without `{member}`")))?;
    let items: Vec<&RawValue> = serde_json::from_str(items.get()).map_err(garbled)?;
    let (before, mut sum) = (listed.bytes, 0);
    listed.bytes += result.bytes().len();
    for item in items {
        let size = item.get().len();
        if size > MAX_ITEM {
            listed.warning = Some(format!("an item of `{member}` has more than {MAX_ITEM} bytes and is left out"));
            continue;
        }
        if before + sum + size > MAX_LIST {
            break;
        }
        sum += size;
        // A copy: an item that is kept does not keep its page.
        listed.definitions.push(Json::from_parts(item.get().to_owned()));
    }
    let ttl = page.get("ttlMs").and_then(|ttl| ttl.get().parse().ok());
    listed.ttl_ms = listed.ttl_ms.into_iter().chain(ttl).min();
    match page.get("nextCursor") {
        Some(next) => serde_json::from_str(next.get()).map_err(garbled),
        None => Ok(None),
    }
}

/// A result must be an object that can be read in one way only.
pub(super) fn usable(result: Json) -> Result<Json, Fault> {
    if result.bytes().starts_with(b"{") { Ok(result) } else { Err(Fault::garbled("the result is no object")) }
}
