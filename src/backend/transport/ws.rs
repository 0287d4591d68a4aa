//! WebSocket: a message each text frame, under the subprotocol `mcp`.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{FutureExt, SinkExt, StreamExt};
use http::header::{AUTHORIZATION, RETRY_AFTER, SEC_WEBSOCKET_PROTOCOL, USER_AGENT};
use http::{HeaderValue, Response, StatusCode};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, Message, error::ProtocolError};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Place;
use super::channel::Shared;
use super::client::{self, sources};
use super::duplex::{Carrier, MAX_MESSAGE, Outgoing, Way};
use super::wire::{AGENT, configured_headers};
use crate::backend::fault::{Fault, FaultKind};

/// All of connecting and the handshake.
const OPEN_TIMEOUT: Duration = Duration::from_secs(15);
/// How often the other end is asked for a sign of life.
const PING: Duration = Duration::from_secs(20);
/// How long there may be no sign of life, and how long one message may take to be written.
const SILENCE: Duration = Duration::from_secs(60);
/// How long the farewell may take.
const FAREWELL: Duration = Duration::from_secs(1);

/// A backend at a `ws:` or `wss:` URL.
#[derive(Debug)]
pub(super) struct Ws<'a> {
    pub(super) place: Place<'a>,
    pub(super) tracker: &'a TaskTracker,
}

impl Way for Ws<'_> {
    async fn start(&self, carrier: Carrier) -> Result<(), Fault> {
        let Place { url, ca, limit, .. } = self.place;
        let limit = limit.unwrap_or(MAX_MESSAGE);
        if url.scheme_str() == Some("wss") {
            let dial = || client::tls_stream(url, ca).boxed();
            carry(Box::pin(in_time(self.opened(dial))).await?, carrier, (self.tracker, limit));
        } else {
            let dial = || client::plain_stream(url).boxed();
            carry(Box::pin(in_time(self.opened(dial))).await?, carrier, (self.tracker, limit));
        }
        Ok(())
    }
}

impl Ws<'_> {
    /// Shakes hands, once more with another token where the first is not taken.
    async fn opened<'b, S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        dial: impl Fn() -> BoxFuture<'b, Result<S, Fault>>,
    ) -> Result<WebSocketStream<S>, Fault> {
        let Some(authorization) = self.place.authorization else { return self.shake_hands(dial().await?, None).await };
        let header = authorization.header().await?;
        match self.shake_hands(dial().await?, Some(header.clone())).await {
            Err(fault) if fault.is_unauthorized() => {
                authorization.refuse(&header);
                // Whoever cannot renew it says why, and who has to log in.
                let another = authorization.header().await?;
                self.shake_hands(dial().await?, Some(another)).await
            }
            opened => opened,
        }
    }

    async fn shake_hands<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: S,
        token: Option<HeaderValue>,
    ) -> Result<WebSocketStream<S>, Fault> {
        let mut request = self.place.url.clone().into_client_request().map_err(|error| fault(&error))?;
        let headers = request.headers_mut();
        headers.insert(USER_AGENT, AGENT);
        headers.extend(configured_headers(self.place.headers)?);
        headers.extend(token.map(|token| (AUTHORIZATION, token)));
        headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static("mcp"));
        let config = config(self.place.limit.unwrap_or(MAX_MESSAGE));
        let opened = tokio_tungstenite::client_async_with_config(request, stream, Some(config)).await;
        opened.map(|(socket, _)| socket).map_err(|error| fault(&error))
    }
}

async fn in_time<T>(opening: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
    let late = || Err(Fault::new(FaultKind::Connect, "no WebSocket in time"));
    tokio::time::timeout(OPEN_TIMEOUT, opening).await.unwrap_or_else(|_| late())
}

fn config(limit: usize) -> WebSocketConfig {
    WebSocketConfig::default().max_message_size(Some(limit)).max_frame_size(Some(limit))
}

/// Why there is no WebSocket.
fn fault(error: &Error) -> Fault {
    match error {
        Error::Http(response) => refused(response),
        Error::Io(error) => Fault::new(FaultKind::Connect, format!("no WebSocket: {error}")),
        Error::Protocol(ProtocolError::SecWebSocketSubProtocolError(_)) => {
            Fault::garbled("its WebSocket does not speak the subprotocol `mcp`")
        }
        other => Fault::garbled(format!("no WebSocket: {}", sources(other))),
    }
}

fn refused<B>(response: &Response<B>) -> Fault {
    let status = response.status();
    let kind = match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => FaultKind::Rejected,
        StatusCode::TOO_MANY_REQUESTS => {
            let after = response.headers().get(RETRY_AFTER);
            FaultKind::Busy(after.and_then(|value| value.to_str().ok()?.trim().parse().ok()))
        }
        status if status.is_server_error() => FaultKind::Status(status.as_u16()),
        _ => FaultKind::Garbled,
    };
    let how = if status == StatusCode::UNAUTHORIZED { "" } else { "no WebSocket: " };
    Fault::new(kind, format!("{how}HTTP {}", status.as_u16()))
}

fn carry<S>(socket: WebSocketStream<S>, carrier: Carrier, (tracker, limit): (&TaskTracker, usize))
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sink, stream) = socket.split();
    let Carrier { shared, queue, stop } = carrier;
    tracker.spawn(write(Arc::clone(&shared), sink, queue, stop.clone()));
    tracker.spawn(read(shared, stream, stop, limit));
}

/// Writes what is queued, and asks for signs of life.
async fn write<S: AsyncRead + AsyncWrite + Unpin>(
    shared: Arc<Shared>,
    mut sink: SplitSink<WebSocketStream<S>, Message>,
    mut queue: mpsc::Receiver<Outgoing>,
    stop: CancellationToken,
) {
    let mut pings = tokio::time::interval_at(tokio::time::Instant::now() + PING, PING);
    pings.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let frame = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            () = shared.gone() => break,
            message = queue.recv() => match message {
                Some(message) => Message::text(message.text),
                None => break,
            },
            _ = pings.tick() => Message::Ping(Bytes::new()),
        };
        let how = match tokio::time::timeout(SILENCE, sink.send(frame)).await {
            Ok(Ok(())) => continue,
            Ok(Err(error)) => format!("its WebSocket broke off: {}", sources(&error)),
            Err(_) => format!("it took nothing for {} s", SILENCE.as_secs()),
        };
        stop.cancel();
        return shared.end(how);
    }
    // Whoever does not answer a farewell has gone already.
    let _answered = tokio::time::timeout(FAREWELL, sink.close()).await;
}

/// Hears messages until the connection ends; then everything in flight fails.
async fn read<S: AsyncRead + AsyncWrite + Unpin>(
    shared: Arc<Shared>,
    mut stream: SplitStream<WebSocketStream<S>>,
    stop: CancellationToken,
    limit: usize,
) {
    let hearing = async {
        loop {
            let Ok(next) = tokio::time::timeout(SILENCE, stream.next()).await else {
                return format!("it gave no sign of life for {} s", SILENCE.as_secs());
            };
            match next {
                Some(Ok(Message::Text(text))) => shared.hear(&Bytes::from(text)),
                Some(Ok(Message::Close(Some(frame)))) => {
                    return format!("it closed its WebSocket: {} {}", frame.code, frame.reason);
                }
                Some(Ok(Message::Close(None))) | None => return String::from("its WebSocket was closed"),
                Some(Ok(Message::Binary(_))) => tracing::debug!("a backend sent a frame that is no text"),
                Some(Ok(_)) => {}
                Some(Err(Error::Capacity(_))) => return format!("it sent a message larger than {limit} bytes"),
                Some(Err(error)) => return format!("its WebSocket broke off: {}", sources(&error)),
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

#[cfg(test)]
mod tests {
    use tokio::io::DuplexStream;
    use tokio_tungstenite::tungstenite::protocol::Role;

    use super::*;
    use crate::backend::peer::Audience;

    /// A link to the other end of a pipe.
    async fn link(tracker: &TaskTracker) -> (Arc<Shared>, WebSocketStream<DuplexStream>, CancellationToken) {
        let (ours, theirs) = tokio::io::duplex(1 << 20);
        let (writer, queue) = mpsc::channel(16);
        let audience = Audience::shared(Arc::default());
        let shared = Arc::new(Shared::new(writer, audience, tracker.clone()));
        let stop = CancellationToken::new();
        let carrier = Carrier { shared: Arc::clone(&shared), queue, stop: stop.clone() };
        carry(
            WebSocketStream::from_raw_socket(ours, Role::Client, Some(config(MAX_MESSAGE))).await,
            carrier,
            (tracker, MAX_MESSAGE),
        );
        (shared, WebSocketStream::from_raw_socket(theirs, Role::Server, None).await, stop)
    }

    #[tokio::test(start_paused = true)]
    async fn silence_ends_a_link_and_answers_to_pings_keep_it() {
        let tracker = TaskTracker::new();
        let (shared, mut other, stop) = link(&tracker).await;
        // Reading is what answers pings.
        let answering = async { while other.next().await.is_some_and(|frame| frame.is_ok()) {} };
        assert!(tokio::time::timeout(SILENCE * 20, answering).await.is_err());
        assert!(!shared.is_over());
        let silence = tokio::time::timeout(SILENCE + PING, shared.gone()).await;
        assert!(silence.is_ok() && stop.is_cancelled(), "nobody reads at the other end");
        tracker.close();
        tracker.wait().await;
    }

    #[tokio::test]
    async fn a_link_that_is_stopped_says_farewell() {
        let tracker = TaskTracker::new();
        let (shared, mut other, stop) = link(&tracker).await;
        stop.cancel();
        shared.gone().await;
        assert!(matches!(other.next().await, Some(Ok(Message::Close(_)))));
        tracker.close();
        tracker.wait().await;
    }
}
