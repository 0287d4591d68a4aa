//! HTTP with server-sent events (MCP 2024-11-05): a stream one way, and posts the other, to where the stream says.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{Method, Uri};
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use url::Url;

use super::Place;
use super::answer::{self, BodyKind};
use super::channel::Shared;
use super::client::Exchange;
use super::duplex::{Carrier, MAX_MESSAGE, Outgoing, Way};
use super::wire::{ASIDE_TIMEOUT, EVENTS, Wire};
use crate::backend::fault::{Fault, FaultKind};
use crate::wire::sse::{Event, SseReader};

/// How long the stream may take to say where messages are posted.
const ENDPOINT_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest URL to post to, in bytes.
const MAX_ENDPOINT: usize = 8 << 10;
/// Posts at once: many servers acknowledge one only when they have worked on it.
const MAX_POSTS: usize = 64;
/// Bytes of an acknowledgement that are read, so that its connection can be used again.
const MAX_TAKEN: usize = 64 << 10;

/// A backend at a URL that gives an event stream.
#[derive(Debug)]
pub(super) struct Sse<'a> {
    pub(super) place: Place<'a>,
    pub(super) tracker: &'a TaskTracker,
}

impl Way for Sse<'_> {
    async fn start(&self, carrier: Carrier) -> Result<(), Fault> {
        let wire = Wire::new(self.place, self.tracker)?;
        let late = || Fault::new(FaultKind::Timeout, "its event stream does not say where messages are posted");
        let opened =
            tokio::time::timeout(ENDPOINT_TIMEOUT, Stream::open(&wire, self.place.limit.unwrap_or(MAX_MESSAGE))).await;
        let (stream, endpoint) = opened.unwrap_or_else(|_| Err(late()))?;
        let posts = wire.at(&of_same_origin(self.place.url, &endpoint)?)?;
        let Carrier { shared, queue, stop } = carrier;
        self.tracker.spawn(read(Arc::clone(&shared), stream, stop.clone()));
        self.tracker.spawn(write(shared, posts, queue, stop, self.tracker.clone()));
        Ok(())
    }
}

/// The URL that the stream names. The configured headers go there, so it must be of the stream's own origin.
fn of_same_origin(stream: &Uri, endpoint: &str) -> Result<Uri, Fault> {
    let odd = |why: String| Fault::garbled(format!("the `endpoint` of its event stream {why}"));
    let base = Url::parse(&stream.to_string()).map_err(|error| odd(error.to_string()))?;
    let named = base.join(endpoint).map_err(|error| odd(format!("is no URL: {error}")))?;
    if named.origin() != base.origin() {
        return Err(odd(String::from("leads to another origin")));
    }
    let mut parts = stream.clone().into_parts();
    let target = &named[url::Position::BeforePath..url::Position::AfterQuery];
    parts.path_and_query = Some(target.parse().map_err(|_| odd(String::from("is no URL")))?);
    Uri::from_parts(parts).map_err(|error| odd(error.to_string()))
}

/// The events of a response.
struct Stream {
    exchange: Exchange,
    reader: SseReader,
    ready: VecDeque<Event>,
}

impl Stream {
    /// Opens the stream; gives what its first event, `endpoint`, says.
    async fn open(wire: &Wire, limit: usize) -> Result<(Self, String), Fault> {
        let mut headers = wire.headers.clone();
        headers.remove(CONTENT_TYPE);
        headers.insert(ACCEPT, EVENTS);
        let exchange = wire.request(Method::GET, headers, Bytes::new()).await?;
        let status = exchange.response.status();
        if !status.is_success() {
            return Err(answer::refused(exchange, 0, status).await);
        }
        let BodyKind::Events = answer::body_kind(&exchange)? else {
            return Err(Fault::garbled("a GET of its URL gives no event stream"));
        };
        let mut stream = Self { exchange, reader: SseReader::new(limit), ready: VecDeque::new() };
        match stream.next().await? {
            Some(event) if event.kind == "endpoint" && event.data.len() <= MAX_ENDPOINT => {
                let endpoint = String::from_utf8_lossy(&event.data).trim().to_owned();
                Ok((stream, endpoint))
            }
            _ => Err(Fault::garbled("its event stream does not begin with `endpoint`")),
        }
    }

    async fn next(&mut self) -> Result<Option<Event>, Fault> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Ok(Some(event));
            }
            let Some(piece) = self.exchange.piece().await else { return Ok(None) };
            let mut events = Vec::new();
            self.reader.push(&piece?, &mut events).map_err(|error| Fault::garbled(error.to_string()))?;
            self.ready.extend(events);
        }
    }
}

/// Hears messages until the stream ends; then everything in flight fails.
async fn read(shared: Arc<Shared>, mut stream: Stream, stop: CancellationToken) {
    let hearing = async {
        loop {
            match stream.next().await {
                Ok(Some(event)) if matches!(event.kind.as_str(), "" | "message") => shared.hear(&event.data),
                Ok(Some(_)) => {}
                Ok(None) => return String::from("its event stream ended"),
                Err(fault) => return format!("its event stream broke off: {}", fault.detail),
            }
        }
    };
    let how = tokio::select! {
        how = hearing => how,
        () = stop.cancelled() => String::from("closed"),
        () = shared.gone() => return,
    };
    stop.cancel();
    shared.end(how);
}

/// Posts what is queued. What has no answer is taken before the next message goes.
async fn write(
    shared: Arc<Shared>,
    wire: Wire,
    mut queue: mpsc::Receiver<Outgoing>,
    stop: CancellationToken,
    tracker: TaskTracker,
) {
    let places = Arc::new(Semaphore::new(MAX_POSTS));
    let work = async {
        while let Some(message) = queue.recv().await {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
            let post = post(Arc::clone(&shared), wire.clone(), message.text, message.id);
            if message.id.is_none() {
                if tokio::time::timeout(ASIDE_TIMEOUT, post).await.is_err() {
                    tracing::debug!("a backend did not take a notification");
                }
                continue;
            }
            let shared = Arc::clone(&shared);
            tracker.spawn(async move {
                let _place = place;
                tokio::select! {
                    () = post => {}
                    () = shared.gone() => {}
                }
            });
        }
    };
    stop.run_until_cancelled(work).await;
}

/// Posts one message. A request that is not taken fails at once.
async fn post(shared: Arc<Shared>, wire: Wire, text: String, id: Option<u64>) {
    let fault = match wire.post(wire.headers.clone(), text).await {
        Ok(exchange) if exchange.response.status().is_success() => {
            // The answer comes on the stream, whatever stands here.
            drop(exchange.body(MAX_TAKEN).await);
            return;
        }
        Ok(exchange) => {
            let status = exchange.response.status();
            answer::refused(exchange, id.unwrap_or_default(), status).await
        }
        Err(fault) => fault,
    };
    tracing::debug!(detail = fault.detail, "a backend did not take a message");
    let lost = fault.kind == FaultKind::SessionLost;
    if let Some(id) = id {
        shared.fail(id, fault);
    }
    if lost {
        shared.end(String::from("it no longer knows the session of its event stream"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_posted_to_the_stream_s_own_origin() {
        let stream: Uri = "https://h.example/a/sse?x=1".parse().unwrap();
        for (endpoint, target) in [
            ("/messages?session=1", "https://h.example/messages?session=1"),
            ("messages", "https://h.example/a/messages"),
            ("?s=2", "https://h.example/a/sse?s=2"),
            ("https://h.example:443/m#part", "https://h.example/m"),
            ("https://user:secret@h.example/m", "https://h.example/m"),
        ] {
            assert_eq!(of_same_origin(&stream, endpoint).unwrap().to_string(), target, "{endpoint}");
        }
        for endpoint in [
            "https://other.example/m",
            "http://h.example/m",
            "https://h.example:444/m",
            "//other.example/m",
            "\\\\other.example\\m",
            "file:///etc/passwd",
            "https://h.example@other.example/m",
        ] {
            assert!(of_same_origin(&stream, endpoint).is_err(), "{endpoint}");
        }
    }
}
