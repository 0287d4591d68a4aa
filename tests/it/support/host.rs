//! An agent host that starts `toolgate stdio` and speaks lines with it.

use std::process::Stdio;

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout};

use super::client::{hello, modern_meta};
use super::{command, soon};

/// The host and its child.
pub(crate) struct Host {
    child: Child,
    input: Option<ChildStdin>,
    output: tokio::io::Lines<BufReader<ChildStdout>>,
    _folder: TempDir,
}

impl Host {
    /// Starts `toolgate stdio` with these arguments, in a folder of its own.
    pub(crate) fn start(arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let folder = TempDir::new().unwrap();
        let arguments: Vec<&str> = ["stdio"].iter().chain(arguments).copied().collect();
        let mut command = command(folder.path(), &arguments, environment);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { input: child.stdin.take(), child, output, _folder: folder }
    }

    /// In front of the endpoint at `url`.
    pub(crate) fn at(url: &str, key: &str) -> Self {
        Self::start(&["--url", url], &[("TOOLGATE_KEY", key)])
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id().unwrap()
    }

    pub(crate) async fn send(&mut self, line: &str) {
        let input = self.input.as_mut().unwrap();
        input.write_all(format!("{line}\n").as_bytes()).await.unwrap();
        input.flush().await.unwrap();
    }

    /// The next line; `None` at the end.
    pub(crate) async fn line(&mut self) -> Option<String> {
        soon("a line of toolgate stdio", self.output.next_line()).await.unwrap()
    }

    /// The next message.
    pub(crate) async fn next(&mut self) -> Value {
        let line = self.line().await.expect("toolgate stdio goes on");
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"))
    }

    /// Sends a legacy request, and gives the next message.
    pub(crate) async fn ask(&mut self, id: &Value, method: &str, params: &Value) -> Value {
        self.request(id, method, params).await;
        self.next().await
    }

    pub(crate) async fn request(&mut self, id: &Value, method: &str, params: &Value) {
        self.send(&json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}).to_string()).await;
    }

    /// Sends a request of revision 2026-07-28.
    pub(crate) async fn modern(&mut self, id: &Value, method: &str, mut params: Value) {
        let mut meta = modern_meta();
        if let Some(own) = params.get("_meta").and_then(Value::as_object) {
            meta.as_object_mut().unwrap().extend(own.clone());
        }
        params["_meta"] = meta;
        self.request(id, method, &params).await;
    }

    /// The handshake of the legacy era; gives the result of `initialize`.
    pub(crate) async fn open(&mut self) -> Value {
        let answer = self.ask(&json!("open"), "initialize", &hello("2025-11-25")).await;
        self.send(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#).await;
        answer["result"].clone()
    }

    pub(crate) async fn cancel(&mut self, id: &Value) {
        let params = json!({"requestId": id, "reason": "enough"});
        self.send(&json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": params}).to_string()).await;
    }

    /// Closes its end, and gives what still came and how the child ended.
    pub(crate) async fn close(mut self) -> (Vec<String>, Option<i32>) {
        self.input.take();
        self.ended().await
    }

    pub(crate) async fn ended(&mut self) -> (Vec<String>, Option<i32>) {
        let mut rest = Vec::new();
        while let Some(line) = self.line().await {
            rest.push(line);
        }
        (rest, soon("toolgate stdio ends", self.child.wait()).await.unwrap().code())
    }
}
