//! A way to one backend that has been greeted, whatever the transport.

use std::ffi::OsString;
use std::time::Duration;

use tokio_util::task::TaskTracker;

use super::ask::{Ask, Params};
use super::breaker::{backoff, jitter};
use super::fault::{Fault, FaultKind};
use super::probe::Hello;
use super::transport::{HttpLink, Program, StdioLink, Tail};
use crate::config::Transport;
use crate::domain::json::Json;
use crate::wire::era::Era;

/// How long one page of a list may take.
const LIST_TIMEOUT: Duration = Duration::from_secs(30);
/// A stream of notifications that lasted so long was a good one.
const LONG_STREAM: Duration = Duration::from_secs(30);
/// Pages and tools that are read at most: an endless list ends here.
const MAX_PAGES: usize = 200;
const MAX_TOOLS: usize = 10_000;

#[derive(Debug)]
pub(crate) enum Link {
    Http(Box<HttpLink>),
    Stdio(StdioLink),
}

/// A list of tool definitions, and what was wrong with it.
#[derive(Debug, Default)]
pub(crate) struct Listed {
    pub definitions: Vec<Json>,
    pub warning: Option<String>,
}

impl Link {
    /// Connects and greets. `before` is the era that the backend spoke when last seen.
    pub(crate) async fn open(
        transport: &Transport,
        before: Option<Era>,
        inherited: &[(OsString, OsString)],
        tracker: &TaskTracker,
        tail: &Tail,
    ) -> Result<Self, Fault> {
        match transport {
            Transport::Http { url, headers } => {
                Ok(Self::Http(Box::new(HttpLink::open(url, headers, before, tracker).await?)))
            }
            Transport::Stdio { command, args, env, cwd } => {
                let program = Program { command, args, env, cwd: cwd.as_deref(), inherited };
                Ok(Self::Stdio(StdioLink::open(&program, before, tracker, tail).await?))
            }
        }
    }

    pub(crate) const fn hello(&self) -> &Hello {
        match self {
            Self::Http(link) => link.hello(),
            Self::Stdio(link) => link.hello(),
        }
    }

    /// Sends one request and waits for its result. Dropping the future cancels it at the backend.
    pub(crate) async fn ask(&self, ask: &Ask<'_>) -> Result<Json, Fault> {
        match self {
            Self::Http(link) => link.ask(ask).await,
            Self::Stdio(link) => link.ask(ask).await,
        }
    }

    /// Completes when the link is of no use any more; says why.
    pub(crate) async fn ended(&self) -> String {
        match self {
            Self::Http(link) => {
                link.contradiction.notified().await;
                String::from("it speaks another revision than before")
            }
            Self::Stdio(link) => link.gone().await,
        }
    }

    /// Completes when the backend says that its tools have changed.
    pub(crate) async fn tools_changed(&self) {
        match self {
            Self::Http(link) => link.tools_changed.notified().await,
            Self::Stdio(link) => link.tools_changed().notified().await,
        }
    }

    /// Keeps the stream of notifications open, where the backend offers one. Never completes.
    pub(crate) async fn follow(&self) {
        let Self::Http(link) = self else { return std::future::pending().await };
        if !link.hello().list_changed {
            return std::future::pending().await;
        }
        let mut attempt = 0;
        loop {
            let began = tokio::time::Instant::now();
            match link.listen().await {
                Ok(false) => return std::future::pending().await,
                Ok(true) if began.elapsed() >= LONG_STREAM => attempt = 0,
                Ok(true) => {}
                Err(fault) => tracing::debug!(detail = fault.detail, "the stream of notifications broke off"),
            }
            tokio::time::sleep(backoff(attempt, jitter())).await;
            attempt = attempt.saturating_add(1);
            // Something may have changed while nobody listened.
            link.tools_changed.notify_one();
        }
    }

    /// Lists all tools, page by page.
    pub(crate) async fn list_tools(&self) -> Result<Listed, Fault> {
        let mut listed = Listed::default();
        let mut cursor: Option<String> = None;
        for _ in 0..MAX_PAGES {
            let members =
                cursor.as_ref().map(|cursor| format!("\"cursor\":{}", serde_json::Value::from(cursor.as_str())));
            let params = members.as_deref().map_or(Params::None, Params::Members);
            let ask = Ask::plain("tools/list", params);
            let result = match tokio::time::timeout(LIST_TIMEOUT, self.ask(&ask)).await {
                Ok(Err(fault)) if matches!(fault.kind, FaultKind::Rpc(_)) && !self.hello().tools => return Ok(listed),
                Ok(answer) => answer?,
                Err(_) => return Err(Fault::new(FaultKind::Timeout, "no answer to tools/list")),
            };
            let next = read_page(&result, &mut listed.definitions)?;
            if listed.definitions.len() > MAX_TOOLS {
                listed.definitions.truncate(MAX_TOOLS);
                listed.warning = Some(format!("it lists more than {MAX_TOOLS} tools; the rest is left out"));
                return Ok(listed);
            }
            match next {
                None => return Ok(listed),
                Some(next) if cursor.as_ref() == Some(&next) => {
                    listed.warning = Some(String::from("its list of tools repeats a cursor; the list ends there"));
                    return Ok(listed);
                }
                next => cursor = next,
            }
        }
        listed.warning = Some(format!("its list of tools has more than {MAX_PAGES} pages; the rest is left out"));
        Ok(listed)
    }

    pub(crate) async fn close(&self) {
        match self {
            Self::Http(link) => link.close().await,
            Self::Stdio(link) => link.close().await,
        }
    }
}

/// Reads one page; gives the next cursor (which may be an empty text).
fn read_page(result: &Json, definitions: &mut Vec<Json>) -> Result<Option<String>, Fault> {
    #[derive(serde::Deserialize)]
    struct Page<'a> {
        #[serde(borrow)]
        tools: Vec<&'a serde_json::value::RawValue>,
        #[serde(rename = "nextCursor")]
        next: Option<String>,
    }
    let page: Page<'_> = serde_json::from_slice(result.bytes()).map_err(|error| Fault::garbled(error.to_string()))?;
    definitions.extend(page.tools.into_iter().map(|tool| Json::slice_of(result.bytes(), tool)));
    Ok(page.next)
}
