//! One request to a backend, put together from bytes.

use std::fmt::Write as _;

use crate::backend::deadline::{Deadline, Progress};
use crate::backend::peer::Peer;
use crate::backend::transport::Allowance;
use crate::domain::json::Json;
use crate::wire::era::{Era, MODERN};

/// The name and version that the gateway gives itself towards backends.
const CLIENT_INFO: &str =
    concat!(r#"{"name":"toolgate","title":"Toolgate","version":""#, env!("CARGO_PKG_VERSION"), r#""}"#);

/// What is asked.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Params<'a> {
    None,
    /// Whole members, such as `"cursor":"x"`.
    Members(&'a str),
    /// `tools/call` and `prompts/get`: absent arguments stay absent.
    Call {
        name: &'a str,
        arguments: Option<&'a Json>,
    },
    /// `resources/read`.
    Read {
        uri: &'a str,
    },
    /// `tasks/get` and its like.
    Task(&'a str),
}

/// A request, before it has an id.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ask<'a> {
    pub method: &'a str,
    pub params: Params<'a>,
    /// `traceparent` and its like, for `_meta`.
    pub trace: &'a [(&'static str, String)],
    /// Where progress goes; without it none is asked for.
    pub progress: Option<&'a Progress>,
    /// `Mcp-Param-…` headers for a modern HTTP backend.
    pub mirrored: &'a [(http::HeaderName, http::HeaderValue)],
    /// Whether the request may be sent twice.
    pub repeatable: bool,
    /// The time that it has, which stands still while the client is asked.
    pub deadline: Option<&'a Deadline>,
    /// For whom it is asked, where that client can hear and answer.
    pub peer: Option<&'a Peer>,
    /// Members of the params besides, each with a comma before it.
    pub more: &'a str,
    /// The room for a large answer.
    pub allowance: Option<&'a Allowance>,
}

impl<'a> Ask<'a> {
    /// A request without effect, such as a list.
    pub(crate) const fn plain(method: &'a str, params: Params<'a>) -> Self {
        Self {
            method,
            params,
            trace: &[],
            progress: None,
            mirrored: &[],
            repeatable: true,
            deadline: None,
            peer: None,
            more: "",
            allowance: None,
        }
    }

    /// What `Mcp-Name` mirrors.
    pub(crate) const fn name(&self) -> Option<&'a str> {
        match self.params {
            Params::Call { name, .. } | Params::Read { uri: name } | Params::Task(name) => Some(name),
            Params::None | Params::Members(_) => None,
        }
    }

    /// The message: `{"jsonrpc":"2.0","id":N,"method":…,"params":{…,"_meta":{…}}}`. The arguments are the very bytes given.
    pub(crate) fn body(&self, id: u64, era: Era) -> String {
        let arguments = match self.params {
            Params::Call { arguments: Some(arguments), .. } => arguments.as_str(),
            _ => "",
        };
        let mut body = String::with_capacity(arguments.len() + 512);
        let written = write!(body, r#"{{"jsonrpc":"2.0","id":{id},"method":"{}","params":{{"#, self.method);
        debug_assert!(written.is_ok(), "writing to a string");
        let start = body.len();
        match self.params {
            Params::None => {}
            Params::Members(members) => body.push_str(members),
            Params::Call { name, arguments: given } => {
                body.push_str("\"name\":");
                push_text(&mut body, name);
                if given.is_some() {
                    body.push_str(",\"arguments\":");
                    body.push_str(arguments);
                }
            }
            Params::Read { uri } => {
                body.push_str("\"uri\":");
                push_text(&mut body, uri);
            }
            Params::Task(id) => {
                body.push_str("\"taskId\":");
                push_text(&mut body, id);
            }
        }
        for more in [self.peer.map_or("", |peer| peer.rest.as_str()), self.more] {
            let more = if body.len() > start { more } else { more.strip_prefix(',').unwrap_or(more) };
            body.push_str(more);
        }
        let some = body.len() > start;
        self.push_meta(&mut body, id, era, some);
        body.push_str("}}");
        body
    }

    fn push_meta(&self, body: &mut String, id: u64, era: Era, after: bool) {
        let rest = self.peer.map_or("", |peer| peer.meta.as_str());
        if era == Era::Legacy && self.trace.is_empty() && self.progress.is_none() && rest.is_empty() {
            return;
        }
        body.push_str(if after { ",\"_meta\":{" } else { "\"_meta\":{" });
        let start = body.len();
        if era == Era::Modern {
            body.push_str(modern_meta());
            body.push_str(self.peer.map_or("{}", |peer| peer.capabilities.as_str()));
            if let Some(level) = self.peer.and_then(|peer| peer.log_level.as_deref()) {
                body.push_str(",\"io.modelcontextprotocol/logLevel\":");
                push_text(body, level);
            }
        }
        let separate = |body: &mut String| {
            if body.len() > start {
                body.push(',');
            }
        };
        if self.progress.is_some() {
            separate(body);
            let written = write!(body, r#""progressToken":{id}"#);
            debug_assert!(written.is_ok(), "writing to a string");
        }
        for (name, value) in self.trace {
            separate(body);
            push_text(body, name);
            body.push(':');
            push_text(body, value);
        }
        body.push_str(if body.len() > start { rest } else { rest.strip_prefix(',').unwrap_or(rest) });
        body.push('}');
    }
}

/// The members of `_meta` that every modern request carries, up to the value of the client's capabilities.
pub(crate) fn modern_meta() -> &'static str {
    static META: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    META.get_or_init(|| {
        format!(
            r#""io.modelcontextprotocol/protocolVersion":"{MODERN}","io.modelcontextprotocol/clientInfo":{CLIENT_INFO},"io.modelcontextprotocol/clientCapabilities":"#
        )
    })
}

/// The params of `initialize`.
pub(crate) fn initialize_members(capabilities: &Json) -> String {
    let (version, capabilities) = (crate::wire::era::LATEST_LEGACY, capabilities.as_str());
    format!(r#""protocolVersion":"{version}","capabilities":{capabilities},"clientInfo":{CLIENT_INFO}"#)
}

/// `notifications/initialized`.
pub(crate) const INITIALIZED: &str = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;

/// `notifications/cancelled` for the request `id`.
pub(crate) fn cancelled(id: u64) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{id},"reason":"nobody waits for the answer any more"}}}}"#
    )
}

/// A client's answer to a request of the backend.
pub(crate) fn answered(id: &Json, answer: &Result<Json, Json>) -> String {
    let id = id.as_str();
    match answer {
        Ok(result) => format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{}}}"#, result.as_str()),
        Err(error) => format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{}}}"#, error.as_str()),
    }
}

/// The answer to a backend's request: `ping` is answered, everything else is beyond what the gateway declared.
pub(crate) fn answer_to(id: &Json, method: &str) -> String {
    let id = id.as_str();
    if method == "ping" {
        return format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{}}}}"#);
    }
    format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":-32601,"message":"method not found"}}}}"#)
}

/// A JSON string. Names of tools are nearly always plain, so the common case is one copy.
pub(crate) fn push_text(out: &mut String, text: &str) {
    if text.bytes().all(|b| b >= 0x20 && b != b'"' && b != b'\\') {
        out.push('"');
        out.push_str(text);
        out.push('"');
    } else {
        out.push_str(&serde_json::Value::from(text).to_string());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_the_very_bytes_and_absent_ones_stay_absent() {
        let arguments = Json::from_parts(r#"{ "n": 1.50e2, "z":null }"#.into());
        let ask = Ask::plain("tools/call", Params::Call { name: "we\"ird", arguments: Some(&arguments) });
        assert_eq!(
            ask.body(7, Era::Legacy),
            r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"we\"ird","arguments":{ "n": 1.50e2, "z":null }}}"#
        );
        let ask = Ask::plain("tools/call", Params::Call { name: "a", arguments: None });
        assert_eq!(ask.body(8, Era::Legacy), r#"{"jsonrpc":"2.0","id":8,"method":"tools/call","params":{"name":"a"}}"#);
        let ask = Ask::plain("resources/read", Params::Read { uri: "x:\"" });
        assert_eq!(
            ask.body(9, Era::Legacy),
            r#"{"jsonrpc":"2.0","id":9,"method":"resources/read","params":{"uri":"x:\""}}"#
        );
        assert_eq!(ask.name(), Some("x:\""));
    }

    #[test]
    fn a_modern_request_carries_its_meta() {
        let trace = [("traceparent", String::from("00-1"))];
        let mut ask = Ask::plain("tools/list", Params::Members(r#""cursor":"x""#));
        ask.trace = &trace;
        let value: serde_json::Value = serde_json::from_str(&ask.body(1, Era::Modern)).unwrap();
        assert_eq!(value["params"]["cursor"], "x");
        assert_eq!(value["params"]["_meta"]["io.modelcontextprotocol/protocolVersion"], MODERN);
        assert_eq!(value["params"]["_meta"]["traceparent"], "00-1");
        let bare: serde_json::Value =
            serde_json::from_str(&Ask::plain("ping", Params::None).body(1, Era::Modern)).unwrap();
        assert!(bare["params"]["_meta"].is_object());
    }
}
