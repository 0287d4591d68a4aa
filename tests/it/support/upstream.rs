//! A backend over HTTP that does as it is told and remembers what it was sent.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use http::HeaderMap;
use serde_json::{Value, json};
use tokio::sync::{Semaphore, broadcast};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

/// One request as the backend saw it.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) verb: String,
    pub(crate) headers: HeaderMap,
    /// The body as it came.
    pub(crate) text: String,
    pub(crate) json: Value,
}

impl Seen {
    pub(crate) fn method(&self) -> &str {
        self.json["method"].as_str().unwrap_or_default()
    }

    /// The tool that is called.
    pub(crate) fn tool(&self) -> &str {
        self.json["params"]["name"].as_str().unwrap_or_default()
    }

    fn id(&self) -> String {
        self.json["id"].to_string()
    }

    /// The text of `params.arguments`; `None` where there are none.
    pub(crate) fn arguments(&self) -> Option<String> {
        let (_, rest) = self.text.split_once("\"arguments\":")?;
        let mut values = serde_json::Deserializer::from_str(rest).into_iter::<&serde_json::value::RawValue>();
        Some(values.next()?.unwrap().get().to_owned())
    }
}

/// What the backend answers.
#[derive(Debug, Clone)]
pub(crate) enum Say {
    /// A result, exactly this text.
    Result(String),
    /// A result that begins a session.
    Session(String),
    /// An error object, exactly this text.
    Error(String),
    /// Whole messages on an event stream before the result.
    Events(Vec<String>, String),
    /// Whole messages on an event stream, then whatever [`FakeUpstream::tell`] says.
    EventsThenTold(Vec<String>),
    /// Whole messages on an event stream that stays open.
    EventsThenHang(Vec<String>),
    /// This text as an event stream, which ends with it.
    Stream(String),
    /// A status and nothing else.
    Status(u16),
    /// A status with this JSON body.
    Refusal(u16, String),
    /// 200 and this body.
    Body(String),
    /// This, once [`FakeUpstream::release`] allows one more.
    Held(Box<Self>),
    /// Nothing, until the other side goes away.
    Hang,
}

impl Say {
    pub(crate) fn text(text: &str) -> Self {
        Self::Result(json!({"content": [{"type": "text", "text": text}]}).to_string())
    }
}

type Gate = Box<dyn Fn(&http::request::Parts) -> Option<Response> + Send + Sync>;
type Script = Box<dyn Fn(&Seen) -> Option<Say> + Send + Sync>;

/// The backend. It stops when dropped.
pub(crate) struct FakeUpstream {
    pub(crate) address: SocketAddr,
    inner: Arc<Inner>,
    _stop: DropGuard,
}

struct Inner {
    modern: bool,
    tools: Mutex<Value>,
    gate: Mutex<Gate>,
    script: Mutex<Script>,
    seen: Mutex<Vec<Seen>>,
    held: Semaphore,
    /// Requests that were left before they were answered.
    left: AtomicUsize,
    changes: broadcast::Sender<()>,
    told: broadcast::Sender<Option<String>>,
    listeners: AtomicUsize,
}

/// A tool definition with hints such as `readOnlyHint`; its schema takes any object.
pub(crate) fn tool(name: &str, hints: &Value) -> Value {
    json!({"name": name, "description": format!("The tool {name}"), "inputSchema": {"type": "object"}, "annotations": hints})
}

/// One tool of each risk.
fn usual_tools() -> Value {
    json!([
        tool("read", &json!({"readOnlyHint": true})),
        tool("write", &json!({})),
        tool("again", &json!({"idempotentHint": true})),
        tool("destroy", &json!({"destructiveHint": true})),
    ])
}

impl FakeUpstream {
    pub(crate) async fn legacy() -> Self {
        Self::start(false).await
    }

    pub(crate) async fn modern() -> Self {
        Self::start(true).await
    }

    async fn start(modern: bool) -> Self {
        let inner = Arc::new(Inner {
            modern,
            tools: Mutex::new(usual_tools()),
            gate: Mutex::new(Box::new(|_| None)),
            script: Mutex::new(Box::new(|_| None)),
            seen: Mutex::default(),
            held: Semaphore::new(0),
            left: AtomicUsize::new(0),
            changes: broadcast::channel(16).0,
            told: broadcast::channel(16).0,
            listeners: AtomicUsize::new(0),
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().fallback(serve).with_state(Arc::clone(&inner));
        let stop = CancellationToken::new();
        let serving = async move { axum::serve(listener, router).await.unwrap() };
        TaskTracker::new().spawn(stop.clone().run_until_cancelled_owned(serving));
        Self { address, inner, _stop: stop.drop_guard() }
    }

    /// `[servers.NAME]` with this backend's URL, and `rest`.
    pub(crate) fn section(&self, name: &str, rest: &str) -> String {
        format!("[servers.{name}]\nurl = \"http://{}/mcp\"\n{rest}\n", self.address)
    }

    /// Answers `tools/call` with whatever the script gives.
    pub(crate) fn on_call(&self, script: impl Fn(&Seen) -> Say + Send + Sync + 'static) {
        self.script(move |seen| (seen.method() == "tools/call").then(|| script(seen)));
    }

    /// Answers any request for which the script has something.
    pub(crate) fn script(&self, script: impl Fn(&Seen) -> Option<Say> + Send + Sync + 'static) {
        *self.inner.script.lock().unwrap() = Box::new(script);
    }

    /// Answers, before anything is remembered, every request for which the gate has something.
    pub(crate) fn gate(&self, gate: impl Fn(&http::request::Parts) -> Option<Response> + Send + Sync + 'static) {
        *self.inner.gate.lock().unwrap() = Box::new(gate);
    }

    /// Other tools, for the next list.
    pub(crate) fn set_tools(&self, tools: Value) {
        *self.inner.tools.lock().unwrap() = tools;
    }

    /// Tells everybody who listens that the tools have changed.
    pub(crate) fn tell_changed(&self) {
        self.inner.changes.send(()).ok();
    }

    /// Says a message on every stream that waits for one; without one, ends them.
    pub(crate) fn tell(&self, message: Option<&str>) {
        self.inner.told.send(message.map(str::to_owned)).ok();
    }

    /// Whether somebody listens for changes.
    pub(crate) fn is_listened_to(&self) -> bool {
        self.inner.listeners.load(Ordering::SeqCst) > 0
    }

    pub(crate) fn release(&self, count: usize) {
        self.inner.held.add_permits(count);
    }

    pub(crate) fn left(&self) -> usize {
        self.inner.left.load(Ordering::SeqCst)
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.inner.seen.lock().unwrap().clone()
    }

    /// The calls of tools that arrived.
    pub(crate) fn calls(&self) -> Vec<Seen> {
        self.seen().into_iter().filter(|seen| seen.method() == "tools/call").collect()
    }

    pub(crate) fn forget(&self) {
        self.inner.seen.lock().unwrap().clear();
    }
}

/// Counts a request that is left before its answer.
struct Leaving<'a>(&'a Inner, bool);

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        if !self.1 {
            self.0.left.fetch_add(1, Ordering::SeqCst);
        }
    }
}

async fn serve(State(inner): State<Arc<Inner>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let turned_away = (inner.gate.lock().unwrap())(&parts);
    if let Some(response) = turned_away {
        return response;
    }
    let body = axum::body::to_bytes(body, 64 << 20).await.unwrap();
    let text = String::from_utf8(body.to_vec()).unwrap();
    let json = serde_json::from_str(&text).unwrap_or(Value::Null);
    let seen = Seen { verb: parts.method.to_string(), headers: parts.headers, text, json };
    inner.seen.lock().unwrap().push(seen.clone());
    let scripted = (inner.script.lock().unwrap())(&seen);
    match scripted {
        Some(say) => {
            let mut leaving = Leaving(&inner, false);
            let response = inner.say(&seen, say).await;
            leaving.1 = true;
            response
        }
        None => Arc::clone(&inner).usual(&seen),
    }
}

impl Inner {
    async fn say(&self, seen: &Seen, mut say: Say) -> Response {
        while let Say::Held(then) = say {
            self.held.acquire().await.unwrap().forget();
            say = *then;
        }
        match say {
            Say::Result(result) => json_body(&message(seen, "result", &result)),
            Say::Session(result) => {
                let mut response = json_body(&message(seen, "result", &result));
                response.headers_mut().insert("mcp-session-id", "fake-session".parse().unwrap());
                response
            }
            Say::Error(error) => json_body(&message(seen, "error", &error)),
            Say::Events(before, result) => {
                let all = before.into_iter().chain([message(seen, "result", &result)]);
                let events = futures_util::stream::iter(all).then(|text| async move {
                    // One write for each, as a real server does.
                    tokio::task::yield_now().await;
                    event(&text)
                });
                events_body(events)
            }
            Say::EventsThenTold(before) => {
                let receiver = self.told.subscribe();
                let told = futures_util::stream::unfold(receiver, |mut receiver| async move {
                    let text = receiver.recv().await.ok().flatten()?;
                    Some((event(&text), receiver))
                });
                events_body(futures_util::stream::iter(before).map(|text| event(&text)).chain(told))
            }
            Say::EventsThenHang(before) => {
                let events = futures_util::stream::iter(before).map(|text| event(&text));
                events_body(events.chain(futures_util::stream::pending()))
            }
            Say::Stream(text) => events_body(futures_util::stream::iter([Bytes::from(text)])),
            Say::Status(status) => status_only(status),
            Say::Refusal(status, body) => {
                let mut response = json_body(&body);
                *response.status_mut() = http::StatusCode::from_u16(status).unwrap();
                response
            }
            Say::Body(body) => json_body(&body),
            Say::Held(_) | Say::Hang => std::future::pending().await,
        }
    }

    fn usual(self: Arc<Self>, seen: &Seen) -> Response {
        let result = |text: &str| json_body(&message(seen, "result", text));
        match seen.method() {
            "server/discover" if self.modern => result(
                r#"{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{"tools":{"listChanged":true}},"_meta":{"io.modelcontextprotocol/serverInfo":{"name":"fake","version":"1"}}}"#,
            ),
            "initialize" if !self.modern => {
                let mut response = result(
                    r#"{"protocolVersion":"2025-11-25","capabilities":{"tools":{"listChanged":true}},"serverInfo":{"name":"fake","version":"1"}}"#,
                );
                response.headers_mut().insert("mcp-session-id", "fake-session".parse().unwrap());
                response
            }
            "tools/list" => result(&json!({"tools": *self.tools.lock().unwrap()}).to_string()),
            "tools/call" => result(r#"{"content":[{"type":"text","text":"done"}]}"#),
            "subscriptions/listen" if self.modern => {
                let tag = json!({"io.modelcontextprotocol/subscriptionId": seen.json["id"]});
                let told = |method: &str, mut params: Value| {
                    params["_meta"] = tag.clone();
                    event(&json!({"jsonrpc": "2.0", "method": method, "params": params}).to_string())
                };
                let wanted = &seen.json["params"]["notifications"];
                let first = told("notifications/subscriptions/acknowledged", json!({"notifications": wanted}));
                let changed = told("notifications/tools/list_changed", json!({}));
                events_body(futures_util::stream::iter([first]).chain(self.changes(changed)))
            }
            "" if seen.verb == "GET" && !self.modern => {
                let changed = event(r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#);
                events_body(futures_util::stream::iter([Bytes::from_static(b":\n\n")]).chain(self.changes(changed)))
            }
            "" if seen.verb == "DELETE" => status_only(204),
            method if method.starts_with("notifications/") => status_only(202),
            _ => json_body(&message(seen, "error", r#"{"code":-32601,"message":"not known"}"#)),
        }
    }

    /// The event whenever the tools have changed.
    fn changes(self: Arc<Self>, changed: Bytes) -> impl Stream<Item = Bytes> + Send + 'static {
        let receiver = self.changes.subscribe();
        self.listeners.fetch_add(1, Ordering::SeqCst);
        futures_util::stream::unfold((receiver, changed), |(mut receiver, changed)| async move {
            receiver.recv().await.ok()?;
            Some((changed.clone(), (receiver, changed)))
        })
    }
}

fn message(seen: &Seen, member: &str, text: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{},"{member}":{text}}}"#, seen.id())
}

fn event(text: &str) -> Bytes {
    Bytes::from(format!("data: {text}\n\n"))
}

fn status_only(status: u16) -> Response {
    Response::builder().status(status).body(Body::empty()).unwrap()
}

fn json_body(text: &str) -> Response {
    Response::builder().header("content-type", "application/json").body(Body::from(text.to_owned())).unwrap()
}

fn events_body(events: impl Stream<Item = Bytes> + Send + 'static) -> Response {
    let body = Body::from_stream(events.map(Ok::<_, Infallible>));
    Response::builder().header("content-type", "text/event-stream").body(body).unwrap()
}
