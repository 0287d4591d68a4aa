//! Backends for tests: one that answers raw bytes over HTTP, and children that are shell scripts.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::TaskTracker;

use crate::backend::{Backends, SendOptions};
use crate::config::{ServerSettings, Transport};
use crate::domain::clock::SystemClock;
use crate::domain::json::Json;
use crate::domain::outcome::{Answer, UpstreamError};
use crate::domain::tool::Tool;

/// One request as the peer saw it.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub verb: String,
    pub headers: BTreeMap<String, String>,
    pub raw: String,
    pub body: Value,
}

impl Seen {
    pub(super) fn method(&self) -> &str {
        self.body["method"].as_str().unwrap_or_default()
    }

    pub(super) fn id(&self) -> String {
        self.body["id"].to_string()
    }
}

/// What the peer does with a request.
#[derive(Debug, Clone)]
pub(super) enum Say {
    /// 200, `application/json`, this body.
    Body(String),
    /// 200, `text/event-stream`, these pieces, each written by itself.
    Events(Vec<String>),
    /// These bytes are the whole response; the connection is closed after them.
    Raw(String),
    /// Closed without a word.
    Close,
    /// Never answered; ends when the other side closes.
    Hang,
}

impl Say {
    pub(super) fn result(seen: &Seen, result: &str) -> Self {
        Self::Body(format!(r#"{{"jsonrpc":"2.0","id":{},"result":{result}}}"#, seen.id()))
    }

    pub(super) fn error(seen: &Seen, error: &str) -> Self {
        Self::Body(format!(r#"{{"jsonrpc":"2.0","id":{},"error":{error}}}"#, seen.id()))
    }

    pub(super) fn status(status: &str) -> Self {
        Self::Raw(format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"))
    }
}

type Script = dyn Fn(&Seen) -> Option<Say> + Send + Sync;

/// A server that greets, lists and answers; `script` comes before all of that.
pub(super) struct Peer {
    pub address: SocketAddr,
    inner: Arc<Inner>,
    /// Ends every task of the peer when dropped.
    _stop: tokio_util::sync::DropGuard,
}

struct Inner {
    modern: bool,
    script: Box<Script>,
    tools: Mutex<Value>,
    seen: Mutex<Vec<Seen>>,
    /// Connections that the other side closed while it was kept waiting.
    hung_up: tokio::sync::Semaphore,
    connections: AtomicUsize,
}

impl Peer {
    pub(super) async fn start(modern: bool, script: impl Fn(&Seen) -> Option<Say> + Send + Sync + 'static) -> Self {
        Self::start_at(([127, 0, 0, 1], 0).into(), modern, script).await
    }

    pub(super) async fn start_at(
        at: SocketAddr,
        modern: bool,
        script: impl Fn(&Seen) -> Option<Say> + Send + Sync + 'static,
    ) -> Self {
        let tools = json!([
            {"name":"read","inputSchema":{"type":"object"},"annotations":{"readOnlyHint":true}},
            {"name":"write","inputSchema":{"type":"object"}},
        ]);
        let listener = TcpListener::bind(at).await.unwrap();
        let address = listener.local_addr().unwrap();
        let inner = Arc::new(Inner {
            modern,
            script: Box::new(script),
            tools: Mutex::new(tools),
            seen: Mutex::default(),
            hung_up: tokio::sync::Semaphore::new(0),
            connections: AtomicUsize::new(0),
        });
        let (tracker, stop) = (TaskTracker::new(), tokio_util::sync::CancellationToken::new());
        let (shared, tasks, token) = (Arc::clone(&inner), tracker.clone(), stop.clone());
        tracker.spawn(stop.clone().run_until_cancelled_owned(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let inner = Arc::clone(&shared);
                tasks.spawn(token.clone().run_until_cancelled_owned(async move { inner.serve(stream).await }));
            }
        }));
        Self { address, inner, _stop: stop.drop_guard() }
    }

    pub(super) fn settings(&self) -> ServerSettings {
        let url = format!("http://{}/mcp", self.address).parse().unwrap();
        let mut settings = ServerSettings::new("s".parse().unwrap(), Transport::Http { url, headers: Vec::new() });
        settings.timeout = Duration::from_secs(5);
        settings
    }

    pub(super) fn set_tools(&self, tools: Value) {
        *self.inner.tools.lock().unwrap() = tools;
    }

    pub(super) fn seen(&self) -> Vec<Seen> {
        self.inner.seen.lock().unwrap().clone()
    }

    pub(super) fn count(&self, method: &str) -> usize {
        self.seen().iter().filter(|seen| seen.method() == method).count()
    }

    pub(super) fn connections(&self) -> usize {
        self.inner.connections.load(Ordering::SeqCst)
    }

    pub(super) async fn hung_up(&self) {
        self.inner.hung_up.acquire().await.unwrap().forget();
    }
}

impl Inner {
    async fn serve(&self, mut stream: TcpStream) {
        self.connections.fetch_add(1, Ordering::SeqCst);
        let mut buffer = Vec::new();
        while let Some(seen) = read_request(&mut stream, &mut buffer).await {
            self.seen.lock().unwrap().push(seen.clone());
            let say = (self.script)(&seen).unwrap_or_else(|| self.usual(&seen));
            match say {
                Say::Body(body) => {
                    let head = format!(
                        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
                        body.len()
                    );
                    stream.write_all(format!("{head}{body}").as_bytes()).await.ok();
                }
                Say::Events(pieces) => {
                    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n";
                    stream.write_all(head.as_bytes()).await.ok();
                    for piece in pieces {
                        stream.write_all(format!("{:x}\r\n{piece}\r\n", piece.len()).as_bytes()).await.ok();
                        stream.flush().await.ok();
                        tokio::task::yield_now().await;
                    }
                    stream.write_all(b"0\r\n\r\n").await.ok();
                }
                Say::Raw(raw) => {
                    stream.write_all(raw.as_bytes()).await.ok();
                    return;
                }
                Say::Close => return,
                Say::Hang => {
                    let mut rest = [0_u8; 64];
                    while matches!(stream.read(&mut rest).await, Ok(1..)) {}
                    self.hung_up.add_permits(1);
                    return;
                }
            }
        }
    }

    fn usual(&self, seen: &Seen) -> Say {
        if seen.verb == "GET" {
            return Say::status("405 Method Not Allowed");
        }
        match seen.method() {
            "server/discover" if self.modern => Say::result(
                seen,
                r#"{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{"tools":{}},"_meta":{"io.modelcontextprotocol/serverInfo":{"name":"peer"}}}"#,
            ),
            "initialize" if !self.modern => {
                let body = format!(
                    r#"{{"jsonrpc":"2.0","id":{},"result":{{"protocolVersion":"2025-11-25","capabilities":{{"tools":{{}}}},"serverInfo":{{"name":"peer"}},"instructions":"be nice"}}}}"#,
                    seen.id()
                );
                let length = body.len();
                let session = self.seen.lock().unwrap().iter().filter(|seen| seen.method() == "initialize").count();
                Say::Raw(format!(
                    "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nmcp-session-id: session-{session}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
                ))
            }
            "tools/list" => Say::result(seen, &format!(r#"{{"tools":{}}}"#, self.tools.lock().unwrap())),
            "tools/call" => Say::result(seen, r#"{"content":[]}"#),
            method if method.starts_with("notifications/") || seen.body.get("method").is_none() => {
                Say::status("202 Accepted")
            }
            _ => Say::error(seen, r#"{"code":-32601,"message":"no"}"#),
        }
    }
}

async fn read_request(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<Seen> {
    loop {
        // A TLS hello: this peer speaks in the clear alone.
        if buffer.first() == Some(&0x16) {
            return None;
        }
        if let Some(end) = buffer.windows(4).position(|w| w == b"\r\n\r\n") {
            let head = String::from_utf8(buffer[..end].to_vec()).unwrap();
            let mut lines = head.split("\r\n");
            let verb = lines.next()?.split(' ').next()?.to_owned();
            let headers: BTreeMap<String, String> = lines
                .filter_map(|line| line.split_once(':'))
                .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
                .collect();
            let length: usize = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
            if buffer.len() >= end + 4 + length {
                let rest = buffer.split_off(end + 4 + length);
                let raw = String::from_utf8(buffer.split_off(end + 4)).unwrap();
                *buffer = rest;
                let body = serde_json::from_str(&raw).unwrap_or(Value::Null);
                return Some(Seen { verb, headers, raw, body });
            }
        }
        let mut piece = [0_u8; 8192];
        match stream.read(&mut piece).await {
            Ok(count @ 1..) => buffer.extend_from_slice(&piece[..count]),
            _ => return None,
        }
    }
}

/// A server whose child runs a shell script. `$1` and so on are `args`.
pub(super) fn shell(script: &str, args: &[&str]) -> ServerSettings {
    let mut all = vec![String::from("-c"), script.to_owned(), String::from("sh")];
    all.extend(args.iter().map(|arg| (*arg).to_owned()));
    let transport = Transport::Stdio { command: "/bin/sh".into(), args: all, env: BTreeMap::new(), cwd: None };
    let mut settings = ServerSettings::new("s".parse().unwrap(), transport);
    settings.timeout = Duration::from_secs(5);
    settings
}

/// Backends with one server, connected or given up.
pub(super) async fn backends(settings: ServerSettings) -> Backends {
    let environment = vec![("PATH".into(), "/usr/bin:/bin".into()), ("SECRET_OF_OTHERS".into(), "x".into())];
    let backends = Backends::new(Arc::new(SystemClock), environment);
    backends.apply(&BTreeMap::from([(settings.name.clone(), Arc::new(settings))])).unwrap();
    backends.wait_settled().await;
    backends
}

pub(super) fn tool(backends: &Backends, name: &str) -> Arc<Tool> {
    let catalog = backends.catalog();
    let entry = catalog.get("s", name);
    Arc::clone(entry.unwrap_or_else(|| panic!("no tool {name}: {:#?}", backends.status())).tool())
}

pub(super) async fn call(backends: &Backends, name: &str) -> Result<Answer, UpstreamError> {
    let tool = tool(backends, name);
    backends.dispatch(&tool, Some(&Json::from_parts("{}".into())), SendOptions::default()).await
}

/// Waits until the catalogue is as it should be.
pub(super) async fn eventually(backends: &Backends, holds: impl Fn(&Backends) -> bool) {
    let mut changes = backends.hub.progress_for_tests();
    let wait = async {
        while !holds(backends) {
            changes.changed().await.unwrap();
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(20), wait).await;
    assert!(waited.is_ok(), "never came about: {:#?}", backends.status());
}
