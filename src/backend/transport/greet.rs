//! How a backend over HTTP is greeted, in both eras, and what is said with every request from then on.

use std::sync::atomic::{AtomicU64, Ordering};

use http::{HeaderMap, HeaderName, HeaderValue};

use super::answer;
use super::wire::Wire;
use crate::backend::ask::{self, Ask, Params};
use crate::backend::fault::{Fault, FaultKind};
use crate::backend::probe::{self, DISCOVER_TIMEOUT, Hello, INITIALIZE_TIMEOUT, Probed};
use crate::domain::json::Json;
use crate::wire::era::{Era, MODERN};
use crate::wire::mirror::header_value;

const MCP_SESSION_ID: HeaderName = HeaderName::from_static("mcp-session-id");
const MCP_PROTOCOL_VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");
const MCP_METHOD: HeaderName = HeaderName::from_static("mcp-method");
const MCP_NAME: HeaderName = HeaderName::from_static("mcp-name");

/// The state of the conversation: replaced as a whole when a session is renewed.
#[derive(Debug)]
pub(super) struct Talk {
    pub era: Era,
    /// Headers of every request in this conversation.
    pub headers: HeaderMap,
    pub session: bool,
}

pub(super) fn mirror(headers: &mut HeaderMap, ask: &Ask<'_>) {
    headers.insert(MCP_METHOD, header_value(ask.method));
    if let Some(name) = ask.name() {
        headers.insert(MCP_NAME, header_value(name));
    }
    for (name, value) in ask.mirrored {
        headers.insert(name, value.clone());
    }
}

pub(super) fn modern_headers(wire: &Wire) -> HeaderMap {
    let mut headers = wire.headers.clone();
    headers.insert(MCP_PROTOCOL_VERSION, HeaderValue::from_static(MODERN));
    headers
}

pub(super) async fn discover(wire: &Wire, ids: &AtomicU64) -> Probed {
    let ask = Ask::plain("server/discover", Params::None);
    let mut headers = modern_headers(wire);
    mirror(&mut headers, &ask);
    let answer = probe::persuaded(|| async {
        let id = ids.fetch_add(1, Ordering::Relaxed);
        answer::read(wire.post(headers.clone(), ask.body(id, Era::Modern)).await?, id, |_| {}).await
    });
    match tokio::time::timeout(DISCOVER_TIMEOUT, answer).await {
        Ok(answer) => probe::judge(answer),
        Err(_) => Probed::TryLegacy,
    }
}

/// Opens a legacy session.
pub(super) async fn initialize(wire: &Wire, ids: &AtomicU64, capabilities: &Json) -> Result<(Hello, Talk), Fault> {
    let opened = tokio::time::timeout(INITIALIZE_TIMEOUT, async {
        let id = ids.fetch_add(1, Ordering::Relaxed);
        let members = ask::initialize_members(capabilities);
        let body = Ask::plain("initialize", Params::Members(&members)).body(id, Era::Legacy);
        let exchange = wire.post(wire.headers.clone(), body).await?;
        let session = exchange.response.headers().get(MCP_SESSION_ID).cloned();
        let hello = probe::initialized(&answer::read(exchange, id, |_| {}).await?)?;
        let mut headers = wire.headers.clone();
        if let Ok(version) = HeaderValue::from_str(&hello.version) {
            headers.insert(MCP_PROTOCOL_VERSION, version);
        }
        let talk = Talk { era: Era::Legacy, session: session.is_some(), headers };
        let talk = match session {
            Some(session) => {
                let mut headers = talk.headers;
                headers.insert(MCP_SESSION_ID, session);
                Talk { headers, ..talk }
            }
            None => talk,
        };
        let told = wire.post(talk.headers.clone(), ask::INITIALIZED.to_owned()).await?;
        if !told.response.status().is_success() {
            let status = told.response.status().as_u16();
            return Err(Fault::garbled(format!("HTTP {status} to notifications/initialized")));
        }
        told.body(64 << 10).await?;
        Ok((hello, talk))
    });
    opened.await.unwrap_or_else(|_| Err(Fault::new(FaultKind::Timeout, "no answer to initialize")))
}
