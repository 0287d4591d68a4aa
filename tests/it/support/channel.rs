//! Backends at the end of one channel both ways: the old HTTP with server-sent events, and WebSocket.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::HeaderMap;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request as Asked, Response as Taken};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use super::tool;

/// What the backend does with a message.
#[derive(Debug, Clone)]
pub(crate) enum Act {
    /// Says these, whole messages.
    Say(Vec<String>),
    /// Says nothing.
    Silence,
    /// Ends the channel.
    HangUp,
    /// Answers the post with this status; without a post, nothing.
    Status(u16),
}

type Script = Box<dyn Fn(&Value) -> Option<Act> + Send + Sync>;
type Gate = Box<dyn Fn(&http::request::Parts) -> Option<Response> + Send + Sync>;

/// The backend. It stops when dropped.
pub(crate) struct FakeChannel {
    pub(crate) address: SocketAddr,
    kind: &'static str,
    inner: Arc<Inner>,
    _stop: DropGuard,
}

struct Inner {
    modern: bool,
    script: Mutex<Script>,
    gate: Mutex<Gate>,
    heard: Mutex<Vec<Value>>,
    /// The headers of every request.
    headers: Mutex<Vec<HeaderMap>>,
    tools: Mutex<Value>,
    /// What stands in the event `endpoint`, before the session.
    endpoint: Mutex<String>,
    opened: AtomicUsize,
    channels: Mutex<HashMap<usize, mpsc::UnboundedSender<Option<String>>>>,
}

/// An answer to this message.
pub(crate) fn result(heard: &Value, result: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{},"result":{result}}}"#, heard["id"])
}

impl FakeChannel {
    /// HTTP with server-sent events.
    pub(crate) async fn sse() -> Self {
        let (channel, listener) = Self::new("sse", false).await;
        let router = Router::new().fallback(serve).with_state(Arc::clone(&channel.inner));
        channel.running(async move { axum::serve(listener, router).await.unwrap() })
    }

    /// WebSocket.
    pub(crate) async fn ws(modern: bool) -> Self {
        let (channel, listener) = Self::new("ws", modern).await;
        let inner = Arc::clone(&channel.inner);
        channel.running(async move {
            let tasks = TaskTracker::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let inner = Arc::clone(&inner);
                tasks.spawn(async move {
                    let mut head = [0; 4096];
                    let read = stream.peek(&mut head).await.unwrap_or_default();
                    let head = String::from_utf8_lossy(&head[..read]).to_ascii_lowercase();
                    if head.contains("upgrade: websocket") {
                        inner.socket(stream).await
                    } else {
                        inner.plain(stream).await
                    }
                });
            }
        })
    }

    /// WebSocket over TLS.
    pub(crate) async fn wss(acceptor: TlsAcceptor) -> Self {
        let (channel, listener) = Self::new("wss", false).await;
        let inner = Arc::clone(&channel.inner);
        channel.running(async move {
            let tasks = TaskTracker::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (inner, acceptor) = (Arc::clone(&inner), acceptor.clone());
                tasks.spawn(async move {
                    if let Ok(stream) = acceptor.accept(stream).await {
                        inner.socket(stream).await;
                    }
                });
            }
        })
    }

    /// One of each kind, and of each era where there are two.
    pub(crate) async fn all() -> [Self; 3] {
        [Self::sse().await, Self::ws(false).await, Self::ws(true).await]
    }

    async fn new(kind: &'static str, modern: bool) -> (Self, TcpListener) {
        let inner = Arc::new(Inner {
            modern,
            script: Mutex::new(Box::new(|_| None)),
            gate: Mutex::new(Box::new(|_| None)),
            heard: Mutex::default(),
            headers: Mutex::default(),
            tools: Mutex::new(json!([tool("read", &json!({"readOnlyHint": true})), tool("write", &json!({}))])),
            endpoint: Mutex::new("/messages".into()),
            opened: AtomicUsize::new(0),
            channels: Mutex::default(),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        (Self { address, kind, inner, _stop: CancellationToken::new().drop_guard() }, listener)
    }

    fn running(mut self, serving: impl Future<Output = ()> + Send + 'static) -> Self {
        let stop = CancellationToken::new();
        TaskTracker::new().spawn(stop.clone().run_until_cancelled_owned(serving));
        self._stop = stop.drop_guard();
        self
    }

    pub(crate) fn kind(&self) -> &'static str {
        self.kind
    }

    /// `[servers.NAME]` with this backend's URL and transport, and `rest`.
    pub(crate) fn section(&self, name: &str, rest: &str) -> String {
        let (scheme, key) = match self.kind {
            "sse" => ("http", "transport = \"sse\"\n"),
            kind => (kind, ""),
        };
        format!("[servers.{name}]\nurl = \"{scheme}://{}/mcp\"\n{key}{rest}\n", self.address)
    }

    /// Answers a handshake, and whatever else is asked over HTTP, where the gate has something.
    pub(crate) fn gate(&self, gate: impl Fn(&http::request::Parts) -> Option<Response> + Send + Sync + 'static) {
        *self.inner.gate.lock().unwrap() = Box::new(gate);
    }

    /// Does with a message what the script says, where it says something.
    pub(crate) fn script(&self, script: impl Fn(&Value) -> Option<Act> + Send + Sync + 'static) {
        *self.inner.script.lock().unwrap() = Box::new(script);
    }

    /// The same for calls of tools alone.
    pub(crate) fn on_call(&self, script: impl Fn(&Value) -> Act + Send + Sync + 'static) {
        self.script(move |heard| (heard["method"] == "tools/call").then(|| script(heard)));
    }

    pub(crate) fn set_tools(&self, tools: Value) {
        *self.inner.tools.lock().unwrap() = tools;
    }

    /// Another URL for the event `endpoint`.
    pub(crate) fn set_endpoint(&self, url: &str) {
        *self.inner.endpoint.lock().unwrap() = url.to_owned();
    }

    /// Says something to everybody, or ends every channel.
    pub(crate) fn tell(&self, message: Option<&str>) {
        for channel in self.inner.channels.lock().unwrap().values() {
            channel.send(message.map(str::to_owned)).ok();
        }
    }

    /// How many channels have been opened.
    pub(crate) fn opened(&self) -> usize {
        self.inner.opened.load(Ordering::SeqCst)
    }

    /// The messages that came, of this method.
    pub(crate) fn heard(&self, method: &str) -> Vec<Value> {
        self.inner.heard.lock().unwrap().iter().filter(|heard| heard["method"] == method).cloned().collect()
    }

    pub(crate) fn headers(&self) -> Vec<HeaderMap> {
        self.inner.headers.lock().unwrap().clone()
    }
}

impl Inner {
    fn take(&self, text: &str) -> Act {
        let heard: Value = serde_json::from_str(text).unwrap();
        self.heard.lock().unwrap().push(heard.clone());
        let scripted = (self.script.lock().unwrap())(&heard);
        scripted.unwrap_or_else(|| self.usual(&heard))
    }

    fn usual(&self, heard: &Value) -> Act {
        let say = |text: &str| Act::Say(vec![result(heard, text)]);
        let refuse = r#"{"code":-32601,"message":"not known"}"#;
        match heard["method"].as_str().unwrap_or_default() {
            "server/discover" if self.modern => say(
                r#"{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{"tools":{"listChanged":true}},"_meta":{"io.modelcontextprotocol/serverInfo":{"name":"fake","version":"1"}}}"#,
            ),
            "initialize" if !self.modern => say(
                r#"{"protocolVersion":"2024-11-05","capabilities":{"tools":{"listChanged":true}},"serverInfo":{"name":"fake","version":"1"}}"#,
            ),
            "tools/list" => say(&json!({"tools": *self.tools.lock().unwrap()}).to_string()),
            "tools/call" => say(r#"{"content":[{"type":"text","text":"done"}]}"#),
            "" | "subscriptions/listen" => Act::Silence,
            method if method.starts_with("notifications/") => Act::Silence,
            _ => Act::Say(vec![format!(r#"{{"jsonrpc":"2.0","id":{},"error":{refuse}}}"#, heard["id"])]),
        }
    }

    /// A new channel: its name, and what is to be said on it.
    fn open(&self) -> (usize, mpsc::UnboundedReceiver<Option<String>>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        let name = self.opened.fetch_add(1, Ordering::SeqCst);
        self.channels.lock().unwrap().insert(name, sender);
        (name, receiver)
    }

    fn act(&self, channel: usize, act: Act) -> u16 {
        let mut channels = self.channels.lock().unwrap();
        let Some(sender) = channels.get(&channel) else { return 404 };
        match act {
            Act::Say(messages) => messages.into_iter().for_each(|message| drop(sender.send(Some(message)))),
            Act::Silence => {}
            Act::HangUp => drop(channels.remove(&channel)),
            Act::Status(status) => return status,
        }
        202
    }

    /// Answers what is no WebSocket by the gate alone.
    async fn plain(self: Arc<Self>, stream: TcpStream) {
        let answer = hyper::service::service_fn(move |request: http::Request<hyper::body::Incoming>| {
            let (parts, _) = request.into_parts();
            let answer = (self.gate.lock().unwrap())(&parts);
            let none = || Response::builder().status(426).body(Body::empty()).unwrap();
            std::future::ready(Ok::<_, Infallible>(answer.unwrap_or_else(none)))
        });
        let serving = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), answer);
        serving.await.unwrap_or_default();
    }

    async fn socket<S: AsyncRead + AsyncWrite + Unpin>(self: Arc<Self>, stream: S) {
        let inner = Arc::clone(&self);
        #[expect(clippy::result_large_err, reason = "the library's own type")]
        let shake = move |asked: &Asked, mut taken: Taken| -> Result<Taken, ErrorResponse> {
            inner.headers.lock().unwrap().push(asked.headers().clone());
            let (parts, ()) = asked.clone().into_parts();
            if let Some(response) = (inner.gate.lock().unwrap())(&parts) {
                let mut refused = ErrorResponse::new(None);
                *refused.status_mut() = response.status();
                return Err(refused);
            }
            match (inner.script.lock().unwrap())(&json!({"method": "handshake"})) {
                Some(Act::Status(status)) => {
                    let mut refused = ErrorResponse::new(None);
                    *refused.status_mut() = status.try_into().unwrap();
                    return Err(refused);
                }
                Some(_) => {}
                None => drop(taken.headers_mut().insert("sec-websocket-protocol", "mcp".parse().unwrap())),
            }
            Ok(taken)
        };
        let Ok(mut socket) = tokio_tungstenite::accept_hdr_async(stream, shake).await else { return };
        let (name, mut said) = self.open();
        loop {
            tokio::select! {
                message = said.recv() => match message {
                    Some(Some(message)) => socket.send(Message::text(message)).await.unwrap_or_default(),
                    Some(None) | None => return drop(socket.close(None).await),
                },
                message = socket.next() => match message {
                    Some(Ok(Message::Text(text))) => drop(self.act(name, self.take(&text))),
                    Some(Ok(_)) => {}
                    Some(Err(_)) | None => return,
                },
            }
        }
    }
}

async fn serve(State(inner): State<Arc<Inner>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    inner.headers.lock().unwrap().push(parts.headers.clone());
    let status = |status: u16| Response::builder().status(status).body(Body::empty()).unwrap();
    match (parts.method.as_str(), parts.uri.path()) {
        ("GET", "/mcp") => {
            let (name, said) = inner.open();
            let endpoint = inner.endpoint.lock().unwrap().clone();
            let first = format!("event: endpoint\ndata: {endpoint}?session={name}\n\n: ping\n\n");
            let said = futures_util::stream::unfold(said, |mut said| async move {
                let message = said.recv().await??;
                Some((Bytes::from(format!("event: message\r\ndata: {message}\r\n\r\n")), said))
            });
            let events = futures_util::stream::iter([Bytes::from(first)]).chain(said).map(Ok::<_, Infallible>);
            let response = Response::builder().header("content-type", "text/event-stream; charset=utf-8");
            response.body(Body::from_stream(events)).unwrap()
        }
        ("POST", "/messages") => {
            let body = axum::body::to_bytes(body, 64 << 20).await.unwrap();
            let act = inner.take(std::str::from_utf8(&body).unwrap());
            let name = parts.uri.query().unwrap().strip_prefix("session=").unwrap().parse().unwrap();
            status(inner.act(name, act))
        }
        (_, "/mcp") => status(405),
        _ => status(404),
    }
}
