//! Requests to the gateway's endpoint.

use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;

use super::answer::{Messages, Trouble};
use crate::cli::remote::Client;

/// How long a message that has no answer may take.
const ASIDE_TIMEOUT: Duration = Duration::from_secs(10);
const MAX_ASIDE: usize = 64 << 10;
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const BOTH: HeaderValue = HeaderValue::from_static("application/json, text/event-stream");
const EVENTS: HeaderValue = HeaderValue::from_static("text/event-stream");

/// The way to the endpoint.
#[derive(Debug)]
pub(super) struct Wire {
    pub(super) client: Client,
    pub(super) uri: Uri,
}

/// The headers of a request outside any session.
pub(super) fn first_headers() -> HeaderMap {
    HeaderMap::from_iter([(CONTENT_TYPE, JSON), (ACCEPT, BOTH)])
}

impl Wire {
    /// Posts one message and waits for the head of the answer.
    pub(super) async fn post(&self, headers: HeaderMap, message: Bytes) -> Result<Response<Incoming>, Trouble> {
        self.send(Method::POST, headers, message).await
    }

    /// Posts a message that has no answer, and waits until it is taken.
    pub(super) async fn tell(&self, headers: HeaderMap, message: Bytes) -> Result<(), Trouble> {
        let told = async {
            let response = self.post(headers, message).await?;
            if !response.status().is_success() {
                return Messages::of(response).await.map(drop);
            }
            // Read to its end, so that the connection can be used again.
            drop(Limited::new(response.into_body(), MAX_ASIDE).collect().await);
            Ok(())
        };
        let late = || Trouble::Broken("no answer in time".into());
        tokio::time::timeout(ASIDE_TIMEOUT, told).await.unwrap_or_else(|_| Err(late()))
    }

    /// Opens the stream of a session, where it left off.
    pub(super) async fn listen(&self, mut headers: HeaderMap, last: Option<&str>) -> Result<Messages, Trouble> {
        headers.remove(CONTENT_TYPE);
        headers.insert(ACCEPT, EVENTS);
        headers.extend(last.and_then(|last| HeaderValue::from_str(last).ok()).map(|last| (LAST_EVENT_ID, last)));
        let response = self.send(Method::GET, headers, Bytes::new()).await?;
        match response.status() {
            status @ (StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED) => Err(Trouble::Status(status)),
            _ => Messages::of(response).await,
        }
    }

    /// Ends a session.
    pub(super) async fn end(&self, headers: HeaderMap) {
        match self.send(Method::DELETE, headers, Bytes::new()).await {
            Ok(response) => tracing::debug!(status = response.status().as_u16(), "the session is ended"),
            Err(trouble) => tracing::debug!(?trouble, "the session could not be ended"),
        }
    }

    async fn send(&self, method: Method, headers: HeaderMap, body: Bytes) -> Result<Response<Incoming>, Trouble> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = headers;
        Ok(self.client.send(request).await?)
    }
}
