//! A client that sends exactly what it is told to, and speaks for each kind of caller where it is not told.

use bytes::Bytes;
use http::HeaderMap;
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};

use super::{Stream, soon};

/// The revision of the stateless protocol.
pub(crate) const MODERN: &str = "2026-07-28";

type Http = hyper_util::client::legacy::Client<HttpConnector, Full<Bytes>>;

/// Who the client pretends to be.
#[derive(Clone)]
enum Kind {
    /// A script: one POST, no handshake, no header of MCP.
    Bare,
    /// A host of the legacy era, with its session.
    Legacy(String),
    /// A host of revision 2026-07-28.
    Modern,
}

/// A caller of the gateway.
#[derive(Clone)]
pub(crate) struct Client {
    http: Http,
    base: String,
    key: Option<String>,
    bearer: Option<String>,
    kind: Kind,
    /// Where `rpc` and `call` post to.
    pub(crate) path: String,
}

impl Client {
    pub(crate) fn new(address: std::net::SocketAddr, key: Option<&str>) -> Self {
        let http = hyper_util::client::legacy::Client::builder(TokioExecutor::new()).build_http();
        let (base, key) = (format!("http://{address}"), key.map(str::to_owned));
        Self { http, base, key, bearer: None, kind: Kind::Bare, path: "/v1/mcp".into() }
    }

    /// The same caller, after `initialize`.
    pub(crate) async fn legacy(&self) -> Self {
        let answer = self.rpc("initialize", &hello("2025-11-25")).await;
        let session = answer.header("mcp-session-id").expect("initialize gives a session").to_owned();
        let client = self.in_session(&session);
        let told =
            client.post(&self.path).text(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#).send().await;
        assert_eq!(told.status, 202);
        client
    }

    /// The same caller with this session id.
    pub(crate) fn in_session(&self, session: &str) -> Self {
        Self { kind: Kind::Legacy(session.to_owned()), ..self.clone() }
    }

    pub(crate) fn session(&self) -> &str {
        match &self.kind {
            Kind::Legacy(session) => session,
            _ => panic!("no session"),
        }
    }

    /// The same caller in revision 2026-07-28.
    pub(crate) fn modern(&self) -> Self {
        Self { kind: Kind::Modern, ..self.clone() }
    }

    /// The same caller with another key.
    pub(crate) fn with_key(&self, key: Option<&str>) -> Self {
        Self { key: key.map(str::to_owned), ..self.clone() }
    }

    /// The key that it brings.
    pub(crate) fn key(&self) -> Option<&str> {
        self.key.as_deref()
    }

    /// The same caller with this bearer token.
    pub(crate) fn with_bearer(&self, token: &str) -> Self {
        Self { bearer: Some(token.to_owned()), ..self.clone() }
    }

    /// The same caller at another path.
    pub(crate) fn at(&self, path: &str) -> Self {
        Self { path: path.to_owned(), ..self.clone() }
    }

    pub(crate) fn get(&self, path: &str) -> Draft {
        self.draft("GET", path)
    }

    pub(crate) fn post(&self, path: &str) -> Draft {
        self.draft("POST", path).header("content-type", "application/json")
    }

    pub(crate) fn delete(&self, path: &str) -> Draft {
        self.draft("DELETE", path)
    }

    /// A request with the key and what every request of this kind of client has.
    pub(crate) fn draft(&self, method: &str, path: &str) -> Draft {
        let headers = Vec::new();
        let mut draft = Draft {
            http: self.http.clone(),
            method: method.into(),
            uri: format!("{}{path}", self.base),
            headers,
            body: Bytes::new(),
        };
        if let Some(key) = &self.key {
            draft = draft.header("x-api-key", key);
        }
        if let Some(token) = &self.bearer {
            draft = draft.header("authorization", &format!("Bearer {token}"));
        }
        if let Kind::Legacy(session) = &self.kind {
            draft = draft.header("mcp-session-id", session).header("mcp-protocol-version", "2025-11-25");
        }
        draft
    }

    /// One JSON-RPC request, as this kind of client sends it.
    pub(crate) async fn rpc(&self, method: &str, params: &Value) -> Response {
        self.request(method, &params.to_string()).send().await
    }

    /// A request whose params are exactly this text, but that a modern client puts its `_meta` last.
    pub(crate) fn request(&self, method: &str, params: &str) -> Draft {
        let body = |params: &str| format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{params}}}"#);
        let draft = self.post(&self.path);
        match &self.kind {
            Kind::Bare => draft.text(&body(params)),
            Kind::Legacy(_) => draft.header("accept", "application/json, text/event-stream").text(&body(params)),
            Kind::Modern => {
                let mut draft = draft
                    .header("accept", "application/json, text/event-stream")
                    .header("mcp-protocol-version", MODERN)
                    .header("mcp-method", method);
                let value: Value = serde_json::from_str(params).unwrap_or_default();
                if let Some(name) = value.get("name").or_else(|| value.get("uri")).and_then(Value::as_str) {
                    draft = draft.header("mcp-name", name);
                }
                draft.text(&body(&with_meta(params, &value)))
            }
        }
    }

    /// `tools/call` of any tool.
    pub(crate) async fn call(&self, name: &str, arguments: &Value) -> Response {
        self.rpc("tools/call", &json!({"name": name, "arguments": arguments})).await
    }

    /// A tool of a backend through `gateway_invoke`; the arguments are exactly this text.
    pub(crate) async fn invoke(&self, server: &str, tool: &str, arguments: &str) -> Response {
        self.request("tools/call", &invoke_params(server, tool, arguments)).send().await
    }

    /// The names that `tools/list` shows.
    pub(crate) async fn tools(&self) -> Vec<String> {
        let answer = self.rpc("tools/list", &json!({})).await;
        let tools = answer.result()["tools"].as_array().unwrap().clone();
        tools.iter().map(|tool| tool["name"].as_str().unwrap().to_owned()).collect()
    }

    /// What `policy.simulate` says.
    pub(crate) async fn simulate(&self, arguments: &Value) -> Value {
        self.call("policy.simulate", arguments).await.result()["structuredContent"].clone()
    }
}

pub(crate) fn invoke_params(server: &str, tool: &str, arguments: &str) -> String {
    format!(
        r#"{{"name":"gateway_invoke","arguments":{{"server":"{server}","tool":"{tool}","arguments":{arguments}}}}}"#
    )
}

/// The params of `initialize`.
pub(crate) fn hello(version: &str) -> Value {
    json!({"protocolVersion": version, "capabilities": {}, "clientInfo": {"name": "test", "version": "0"}})
}

/// The `_meta` that every modern request has.
pub(crate) fn modern_meta() -> Value {
    json!({
        "io.modelcontextprotocol/protocolVersion": MODERN,
        "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "0"},
        "io.modelcontextprotocol/clientCapabilities": {},
    })
}

/// The params with the modern `_meta` at their end; a `_meta` of the test's own keeps its members.
fn with_meta(params: &str, value: &Value) -> String {
    if let Some(own) = value.get("_meta") {
        let mut value = value.clone();
        let mut meta = modern_meta();
        meta.as_object_mut().unwrap().extend(own.as_object().unwrap().clone());
        value["_meta"] = meta;
        return value.to_string();
    }
    let members = params.trim_end().strip_suffix('}').expect("params are an object");
    let comma = if members.trim_end().ends_with('{') { "" } else { "," };
    format!("{members}{comma}\"_meta\":{}}}", modern_meta())
}

/// A request under construction.
#[derive(Clone)]
pub(crate) struct Draft {
    http: Http,
    method: String,
    uri: String,
    headers: Vec<(String, Vec<u8>)>,
    body: Bytes,
}

impl Draft {
    /// One more header; the same name twice is sent twice.
    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.as_bytes().to_vec()));
        self
    }

    /// One more header, of any bytes.
    pub(crate) fn header_bytes(mut self, name: &str, value: &[u8]) -> Self {
        self.headers.push((name.to_owned(), value.to_vec()));
        self
    }

    /// Without this header.
    pub(crate) fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(other, _)| other != name);
        self
    }

    /// With this header and no other of its name.
    pub(crate) fn with(self, name: &str, value: &str) -> Self {
        self.without(name).header(name, value)
    }

    pub(crate) fn text(mut self, body: &str) -> Self {
        self.body = Bytes::copy_from_slice(body.as_bytes());
        self
    }

    pub(crate) fn bytes(mut self, body: &[u8]) -> Self {
        self.body = Bytes::copy_from_slice(body);
        self
    }

    pub(crate) fn json(self, body: &Value) -> Self {
        self.text(&body.to_string())
    }

    async fn head(self) -> Option<http::Response<hyper::body::Incoming>> {
        let mut request = http::Request::builder().method(self.method.as_str()).uri(&self.uri);
        for (name, value) in &self.headers {
            request = request.header(name, value.as_slice());
        }
        let request = request.body(Full::new(self.body)).unwrap();
        soon("the head of an answer", self.http.request(request)).await.ok()
    }

    /// Sends it and reads the whole answer.
    pub(crate) async fn send(self) -> Response {
        self.try_send().await.expect("the gateway answers")
    }

    /// The whole answer; `None` where the gateway goes away before it is there.
    pub(crate) async fn try_send(self) -> Option<Response> {
        let response = self.head().await?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let body = soon("the body of an answer", response.into_body().collect()).await.ok()?.to_bytes();
        Some(Response { status, headers, text: String::from_utf8(body.to_vec()).unwrap() })
    }

    /// Sends it and gives the body as it came.
    pub(crate) async fn send_bytes(self) -> (u16, HeaderMap, Bytes) {
        let response = self.head().await.expect("the gateway answers");
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let body = soon("the body of an answer", response.into_body().collect()).await.unwrap().to_bytes();
        (status, headers, body)
    }

    /// Sends it and leaves the body to be read event by event.
    pub(crate) async fn open(self) -> Stream {
        Stream::new(self.head().await.expect("the gateway answers"))
    }
}

/// A whole answer.
#[derive(Debug, Clone)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Response {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// The body; of an event stream, the last event.
    pub(crate) fn json(&self) -> Value {
        let text = match self.header("content-type") {
            Some("text/event-stream") => {
                self.text.lines().filter_map(|line| line.strip_prefix("data: ")).next_back().unwrap_or_default()
            }
            _ => &self.text,
        };
        serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {} {}", self.status, self.text))
    }

    pub(crate) fn result(&self) -> Value {
        self.json().get("result").cloned().unwrap_or_else(|| panic!("no result: {} {}", self.status, self.text))
    }

    pub(crate) fn error(&self) -> Value {
        self.json().get("error").cloned().unwrap_or_else(|| panic!("no error: {} {}", self.status, self.text))
    }

    /// Status and JSON-RPC code of an error.
    pub(crate) fn refused(&self) -> (u16, i64) {
        (self.status, self.error()["code"].as_i64().unwrap())
    }

    /// The code in a tool result that is the gateway's own refusal.
    pub(crate) fn denied(&self) -> String {
        let result = self.result();
        assert_eq!(result["isError"], true, "{}", self.text);
        result["structuredContent"]["error"]["code"]
            .as_str()
            .unwrap_or_else(|| panic!("no code: {}", self.text))
            .to_owned()
    }

    /// What a model reads.
    pub(crate) fn told(&self) -> String {
        self.result()["content"][0]["text"].as_str().unwrap().to_owned()
    }

    pub(crate) fn governance(&self) -> Value {
        self.result()["_meta"]["toolgate/governance"].clone()
    }
}
