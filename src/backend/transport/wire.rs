//! Requests over HTTP to one URL of a backend.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use http::header::{ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_TYPE, HOST, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::Full;
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

use super::Place;
use super::client::{Exchange, HttpClient, MAX_ANSWER};
use crate::backend::fault::{Fault, FaultKind};
use crate::backend::oauth::Authorization;
use crate::domain::secret::Secret;

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const BOTH: HeaderValue = HeaderValue::from_static("application/json, text/event-stream");
pub(super) const EVENTS: HeaderValue = HeaderValue::from_static("text/event-stream");
pub(super) const AGENT: HeaderValue = HeaderValue::from_static(concat!("toolgate/", env!("CARGO_PKG_VERSION")));
/// How long a message that nobody waits for may take.
pub(super) const ASIDE_TIMEOUT: Duration = Duration::from_secs(10);
/// Such messages that wait, and that are posted at once.
const WAITING: usize = 64;
const AT_ONCE: usize = 4;

/// What it takes to send a message.
#[derive(Debug, Clone)]
pub(super) struct Wire {
    pub(super) client: HttpClient,
    uri: Uri,
    /// Headers of every request: the configured ones, and those that never change.
    pub(super) headers: HeaderMap,
    /// The gateway's own token, where the backend asks for one.
    pub(super) authorization: Option<Arc<Authorization>>,
    /// Bytes of one answer.
    limit: usize,
    pub(super) tracker: TaskTracker,
}

impl Wire {
    pub(super) fn new(place: Place<'_>, tracker: &TaskTracker) -> Result<Self, Fault> {
        let Place { url, headers: configured, authorization, ca, limit } = place;
        let client = HttpClient::new(url, tracker, ca)?;
        let mut headers = HeaderMap::with_capacity(16);
        headers.insert(CONTENT_TYPE, JSON);
        headers.insert(ACCEPT, BOTH);
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        headers.insert(USER_AGENT, AGENT);
        if client.is_plain() {
            let host = url.authority().map_or("", |authority| authority.as_str());
            let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
            let value =
                HeaderValue::from_str(host).map_err(|_| Fault::new(FaultKind::Connect, "the URL's host is odd"))?;
            headers.insert(HOST, value);
        }
        headers.extend(configured_headers(configured)?);
        let uri = target(&client, url)?;
        let (limit, authorization) = (limit.unwrap_or(MAX_ANSWER), authorization.cloned());
        Ok(Self { client, uri, headers, authorization, limit, tracker: tracker.clone() })
    }

    /// The same for another URL of the same origin.
    pub(super) fn at(&self, url: &Uri) -> Result<Self, Fault> {
        Ok(Self { uri: target(&self.client, url)?, ..self.clone() })
    }

    pub(super) async fn post(&self, headers: HeaderMap, body: String) -> Result<Exchange, Fault> {
        self.request(Method::POST, headers, Bytes::from(body)).await
    }

    pub(super) async fn request(&self, method: Method, headers: HeaderMap, body: Bytes) -> Result<Exchange, Fault> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = headers;
        let Some(authorization) = &self.authorization else {
            return Ok(self.client.send(request).await?.within(self.limit));
        };
        let header = authorization.header().await?;
        request.headers_mut().insert(AUTHORIZATION, header.clone());
        let exchange = self.client.send(request).await?.within(self.limit);
        if exchange.response.status() == StatusCode::UNAUTHORIZED {
            authorization.refuse(&header);
        }
        Ok(exchange)
    }
}

/// Messages that have no answer. A backend that wants many of them, or does not take them, has a few connections for it
/// and no more.
#[derive(Debug, Clone)]
pub(super) struct Outbox(mpsc::Sender<(HeaderMap, String)>);

impl Outbox {
    /// Posts in a task of its own until nobody has this any more.
    pub(super) fn new(wire: &Wire) -> Self {
        let (sender, queue) = mpsc::channel(WAITING);
        let (wire, tracker) = (wire.clone(), wire.tracker.clone());
        let messages =
            futures_util::stream::unfold(queue, |mut queue| async move { Some((queue.recv().await?, queue)) });
        tracker.spawn(messages.for_each_concurrent(AT_ONCE, move |(headers, body)| {
            let wire = wire.clone();
            async move {
                let told = async { wire.post(headers, body).await?.body(64 << 10).await.map(drop) };
                if !matches!(tokio::time::timeout(ASIDE_TIMEOUT, told).await, Ok(Ok(()))) {
                    tracing::debug!("a backend did not take a message");
                }
            }
        }));
        Self(sender)
    }

    /// Sends a message and does not wait for it; one that finds too many before it is lost.
    pub(super) fn tell(&self, headers: HeaderMap, body: String) {
        if self.0.try_send((headers, body)).is_err() {
            tracing::debug!("a backend does not take its messages; one is lost");
        }
    }

    /// Sends a message once there is a place for it.
    pub(super) async fn send(&self, headers: HeaderMap, body: String) {
        drop(self.0.send((headers, body)).await);
    }
}

/// What stands in the request line: the path alone where the connection leads to the host already.
fn target(client: &HttpClient, url: &Uri) -> Result<Uri, Fault> {
    if !client.is_plain() {
        return Ok(url.clone());
    }
    let path = url.path_and_query().map_or("/", |path| path.as_str());
    path.parse().map_err(|_| Fault::new(FaultKind::Connect, "the URL's path is odd"))
}

/// The headers that the configuration gives a server, as they are sent.
pub(super) fn configured_headers(configured: &[(HeaderName, Secret)]) -> Result<HeaderMap, Fault> {
    let mut headers = HeaderMap::new();
    for (name, value) in configured {
        let mut value = HeaderValue::from_str(value.expose())
            .map_err(|_| Fault::new(FaultKind::Connect, format!("the header `{name}` holds a control character")))?;
        value.set_sensitive(true);
        headers.insert(name, value);
    }
    Ok(headers)
}
