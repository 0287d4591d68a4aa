//! Requests over HTTP to one URL of a backend.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_TYPE, HOST, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::Full;
use tokio_util::task::TaskTracker;

use super::Place;
use super::client::{Exchange, HttpClient};
use crate::backend::fault::{Fault, FaultKind};
use crate::backend::oauth::Authorization;
use crate::domain::secret::Secret;

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const BOTH: HeaderValue = HeaderValue::from_static("application/json, text/event-stream");
pub(super) const EVENTS: HeaderValue = HeaderValue::from_static("text/event-stream");
pub(super) const AGENT: HeaderValue = HeaderValue::from_static(concat!("toolgate/", env!("CARGO_PKG_VERSION")));
/// How long a message that nobody waits for may take.
pub(super) const ASIDE_TIMEOUT: Duration = Duration::from_secs(10);

/// What it takes to send a message.
#[derive(Debug, Clone)]
pub(super) struct Wire {
    pub(super) client: HttpClient,
    uri: Uri,
    /// Headers of every request: the configured ones, and those that never change.
    pub(super) headers: HeaderMap,
    /// The gateway's own token, where the backend asks for one.
    pub(super) authorization: Option<Arc<Authorization>>,
    pub(super) tracker: TaskTracker,
}

impl Wire {
    pub(super) fn new(place: Place<'_>, tracker: &TaskTracker) -> Result<Self, Fault> {
        let Place { url, headers: configured, authorization } = place;
        let client = HttpClient::new(url, tracker)?;
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
        Ok(Self { client, uri, headers, authorization: authorization.cloned(), tracker: tracker.clone() })
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
        let Some(authorization) = &self.authorization else { return self.client.send(request).await };
        let header = authorization.header().await?;
        request.headers_mut().insert(AUTHORIZATION, header.clone());
        let exchange = self.client.send(request).await?;
        if exchange.response.status() == StatusCode::UNAUTHORIZED {
            authorization.refuse(&header);
        }
        Ok(exchange)
    }

    /// Sends a message that has no answer, and does not wait for it.
    pub(super) fn tell(&self, headers: HeaderMap, body: String) {
        let wire = self.clone();
        self.tracker.spawn(async move {
            let told = async {
                let exchange = wire.post(headers, body).await?;
                exchange.body(64 << 10).await.map(drop)
            };
            if !matches!(tokio::time::timeout(ASIDE_TIMEOUT, told).await, Ok(Ok(()))) {
                tracing::debug!("a backend did not take a notification");
            }
        });
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
