//! The session of a legacy host: opened by its own `initialize`, opened anew where the gateway has lost it.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use super::answer::{Kind, Messages, Trouble, kind};
use super::wire::{Wire, first_headers};
use crate::domain::json::Json;
use crate::wire::envelope::Id;

const SESSION: HeaderName = HeaderName::from_static("mcp-session-id");
const VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");
/// `notifications/initialized`.
const INITIALIZED: &[u8] = br#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;

/// A session with the gateway.
#[derive(Debug)]
pub(super) struct Session {
    /// Headers of every request in it.
    pub(super) headers: HeaderMap,
    /// The host's `initialize`, and its id.
    hello: Bytes,
    id: Id,
    /// The gateway says when its tools change.
    pub(super) list_changed: bool,
    /// Ends its stream.
    pub(super) over: CancellationToken,
}

impl Session {
    /// Sends `initialize`; gives its response and the session.
    ///
    /// # Errors
    /// Where there is no response, or it is an error.
    pub(super) async fn open(wire: &Wire, hello: &Bytes, id: &Id) -> Result<(Bytes, Self), Trouble> {
        let response = wire.post(first_headers(), hello.clone()).await?;
        let session = response.headers().get(SESSION).cloned();
        let mut messages = Messages::of(response).await?;
        while let Some(message) = messages.next().await? {
            match kind(&message, id)? {
                Kind::Aside => tracing::debug!("the gateway said something before it answered `initialize`"),
                Kind::Error(error) => return Err(Trouble::Told(error)),
                Kind::Result(result) => return Ok((message, Self::of(session, &result, hello, id))),
            }
        }
        Err(Trouble::Unfinished("the answer ended".into()))
    }

    fn of(session: Option<HeaderValue>, result: &Json, hello: &Bytes, id: &Id) -> Self {
        let greeting: Greeting = result.decode().unwrap_or_default();
        let mut headers = first_headers();
        headers.extend(session.map(|session| (SESSION, session)));
        headers.extend(HeaderValue::from_str(&greeting.version).ok().map(|version| (VERSION, version)));
        let list_changed = greeting.capabilities.tools.list_changed;
        Self { headers, hello: hello.clone(), id: id.clone(), list_changed, over: CancellationToken::new() }
    }

    /// Whether the gateway gave it an id.
    pub(super) fn has_id(&self) -> bool {
        self.headers.contains_key(SESSION)
    }

    /// Opens another in its place, as the host opened this one.
    async fn again(&self, wire: &Wire) -> Result<Self, Trouble> {
        let (_, session) = Self::open(wire, &self.hello, &self.id).await?;
        wire.tell(session.headers.clone(), Bytes::from_static(INITIALIZED)).await?;
        Ok(session)
    }
}

#[derive(Default, Deserialize)]
struct Greeting {
    #[serde(rename = "protocolVersion", default)]
    version: String,
    #[serde(default)]
    capabilities: Capabilities,
}

#[derive(Default, Deserialize)]
struct Capabilities {
    #[serde(default)]
    tools: Tools,
}

#[derive(Default, Deserialize)]
struct Tools {
    #[serde(rename = "listChanged", default)]
    list_changed: bool,
}

/// The session of this moment.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    current: Mutex<Option<Arc<Session>>>,
    renewing: tokio::sync::Mutex<()>,
}

impl Sessions {
    pub(super) fn current(&self) -> Option<Arc<Session>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Puts a session in the place of the one before, whose stream ends.
    pub(super) fn put(&self, session: Session) -> Arc<Session> {
        let session = Arc::new(session);
        let before = self.current.lock().unwrap_or_else(PoisonError::into_inner).replace(Arc::clone(&session));
        if let Some(before) = before {
            before.over.cancel();
        }
        session
    }

    /// The session after `lost`; of several who ask, one opens it. True where this was the one.
    ///
    /// # Errors
    /// Where the gateway opens none.
    pub(super) async fn after(&self, lost: &Arc<Session>, wire: &Wire) -> Result<(Arc<Session>, bool), Trouble> {
        let _one = self.renewing.lock().await;
        match self.current() {
            Some(current) if !Arc::ptr_eq(&current, lost) => Ok((current, false)),
            _ => Ok((self.put(lost.again(wire).await?), true)),
        }
    }
}
