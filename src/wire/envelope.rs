//! JSON-RPC 2.0 messages of a client: one message a body, the inner values kept as text.

use std::borrow::Cow;

use bytes::Bytes;
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::domain::json::Json;
use crate::domain::strict;

/// Bytes of an id.
const MAX_ID: usize = 256;

/// The id of a request as the client wrote it, so that the answer carries the same bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Id(Json);

impl Id {
    /// Reads a value that names a request.
    #[must_use]
    pub fn of(value: &Json) -> Option<Self> {
        is_id(value.as_str()).then(|| Self(value.clone()))
    }

    /// One text for every way to write the same id: escapes in it differ from peer to peer.
    #[must_use]
    pub fn plain(&self) -> Cow<'_, str> {
        match self.text() {
            text if text.contains('\\') => {
                self.0.decode().map_or(text.into(), |plain: String| Value::from(plain).to_string().into())
            }
            "-0" => "0".into(),
            text => text.into(),
        }
    }

    /// The id's JSON text.
    #[must_use]
    pub fn text(&self) -> &str {
        self.0.as_str()
    }
}

/// One message from a client.
#[derive(Debug)]
pub enum Message {
    Request {
        id: Id,
        method: String,
        params: Option<Json>,
    },
    Notification {
        method: String,
        params: Option<Json>,
    },
    /// An answer to a request of the server; which one is said by `id`.
    Response {
        id: Id,
        /// The result, or the error object.
        outcome: Result<Json, Json>,
    },
}

/// Why a body is no message. The id is kept where it could be read.
#[derive(Debug, thiserror::Error)]
pub enum BadMessage {
    /// JSON-RPC -32700.
    #[error("parse error: {0}")]
    Parse(String),
    /// JSON-RPC -32600.
    #[error("invalid request: {reason}")]
    Invalid { id: Option<Id>, reason: String },
}

/// The members of a JSON-RPC message, whoever sends it.
#[derive(Deserialize)]
pub(super) struct Envelope<'a> {
    #[serde(borrow, default, deserialize_with = "present")]
    pub(super) jsonrpc: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    pub(super) id: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    pub(super) method: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    pub(super) params: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    pub(super) result: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    pub(super) error: Option<&'a RawValue>,
}

/// Keeps `null` apart from absent.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    Deserialize::deserialize(deserializer).map(Some)
}

/// Reads one message out of a body.
///
/// # Errors
/// [`BadMessage::Parse`] where the body is not JSON, has duplicate members or is nested too deep;
/// [`BadMessage::Invalid`] where it is JSON but not one JSON-RPC message: batches included (MCP 2026-07-28, 2025-06-18).
pub fn decode(body: &Bytes) -> Result<Message, BadMessage> {
    let text = std::str::from_utf8(body).map_err(|_| BadMessage::Parse("the body is not UTF-8".into()))?;
    // Serde would take an array for the members in their order.
    let batch = text.trim_start_matches([' ', '\t', '\r', '\n']).starts_with('[');
    let Some(envelope) = serde_json::from_str::<Envelope<'_>>(text).ok().filter(|_| !batch) else {
        return Err(fault(text, batch));
    };
    strict::check(text).map_err(|unfit| {
        let id = envelope.id.filter(|id| is_id(id.get())).map(|id| Id(Json::slice_of(body, id)));
        invalid(id, &unfit.to_string())
    })?;
    assemble(body, &envelope)
}

/// What is wrong with a text that is no message.
fn fault(text: &str, batch: bool) -> BadMessage {
    if let Err(error) = serde_json::from_str::<&RawValue>(text) {
        return BadMessage::Parse(error.to_string());
    }
    if let Err(unfit) = strict::check(text) {
        return invalid(None, &unfit.to_string());
    }
    let shape = "a message is an object with `jsonrpc`, `id`, `method`, `params`";
    invalid(None, if batch { "batches are not supported: send one message a request" } else { shape })
}

fn invalid(id: Option<Id>, reason: &str) -> BadMessage {
    BadMessage::Invalid { id, reason: reason.to_owned() }
}

fn assemble(body: &Bytes, raw: &Envelope<'_>) -> Result<Message, BadMessage> {
    let id = match raw.id {
        None => None,
        Some(text) if is_id(text.get()) => Some(Id(Json::slice_of(body, text))),
        Some(_) => return Err(invalid(None, "`id` must be a string or an integer of at most 256 bytes")),
    };
    if raw.jsonrpc.map(RawValue::get) != Some("\"2.0\"") {
        return Err(invalid(id, "`jsonrpc` must be \"2.0\""));
    }
    let Some(method) = raw.method else {
        let part = |text: &RawValue| Json::slice_of(body, text);
        return match (id, raw.result, raw.error) {
            (Some(id), Some(result), None) => Ok(Message::Response { id, outcome: Ok(part(result)) }),
            (Some(id), None, Some(error)) => Ok(Message::Response { id, outcome: Err(part(error)) }),
            (id, ..) => Err(invalid(id, "`method` is missing")),
        };
    };
    let Ok(method) = serde_json::from_str::<String>(method.get()) else {
        return Err(invalid(id, "`method` must be a string"));
    };
    if raw.params.is_some_and(|params| !params.get().starts_with('{')) {
        return Err(invalid(id, "`params` must be an object"));
    }
    let params = raw.params.map(|text| Json::slice_of(body, text));
    Ok(match id {
        Some(id) => Message::Request { id, method, params },
        None => Message::Notification { method, params },
    })
}

/// A string, or an integer (MCP forbids null and fractions); short, since answers and streams carry it.
fn is_id(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let integer = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    text.len() <= MAX_ID && (text.starts_with('"') || integer)
}

/// The members of `tools/call` params, arguments and `_meta` as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallParams {
    pub name: String,
    pub arguments: Option<Json>,
    pub meta: Option<Json>,
}

/// Reads the params of `tools/call`.
///
/// # Errors
/// A sentence for the caller, where `name` is missing or a member has the wrong type.
pub fn call_params(params: Option<&Json>) -> Result<CallParams, String> {
    #[derive(Deserialize)]
    struct Shape<'a> {
        #[serde(borrow)]
        name: Option<Cow<'a, str>>,
        #[serde(borrow, default, deserialize_with = "present")]
        arguments: Option<&'a RawValue>,
        #[serde(borrow)]
        _meta: Option<&'a RawValue>,
    }
    let params = params.ok_or("`params.name` is required: the tool to call")?;
    let shape: Shape<'_> = serde_json::from_slice(params.bytes()).map_err(|_| "`params.name` must be a string")?;
    let name = shape.name.ok_or("`params.name` is required: the tool to call")?.into_owned();
    if shape.arguments.is_some_and(|text| !text.get().starts_with('{')) {
        return Err("`params.arguments` must be an object".into());
    }
    Ok(CallParams {
        name,
        arguments: shape.arguments.map(|text| Json::slice_of(params.bytes(), text)),
        meta: shape._meta.map(|text| Json::slice_of(params.bytes(), text)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Message, BadMessage> {
        decode(&Bytes::copy_from_slice(text.as_bytes()))
    }

    #[test]
    fn ids_keep_their_text() {
        for id in ["0", "-7", "\"0\"", "\"listen:0\"", "\"\\u0061\"", "12345678901234567890123"] {
            let text = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"ping"}}"#);
            match read(&text) {
                Ok(Message::Request { id: got, .. }) => assert_eq!(got.text(), id),
                other => panic!("{text}: {other:?}"),
            }
        }
    }

    #[test]
    fn an_id_is_the_same_however_it_is_written() {
        let plain = |id: &str| Id::of(&Json::from_parts(id.to_owned())).unwrap().plain().into_owned();
        for (one, other) in
            [(r#""\u00e9""#, r#""é""#), (r#""a\/b""#, r#""a/b""#), (r#""\u0041\u000a""#, r#""A\n""#), ("-0", "0")]
        {
            assert_eq!(plain(one), plain(other));
        }
        assert_eq!(plain("12345678901234567890123"), "12345678901234567890123");
        assert_ne!(plain("7"), plain("\"7\""));
        for odd in ["null", "1.5", "{}", "true"] {
            assert_eq!(Id::of(&Json::from_parts(odd.into())), None, "{odd}");
        }
    }

    #[test]
    fn a_refused_message_keeps_the_id_that_could_be_read() {
        for (text, known) in [
            (r#"{"jsonrpc":"2.0","id":"x","method":"ping","params":{"a":1,"a":2}}"#, Some("\"x\"")),
            (r#"{"jsonrpc":"2.0","id":7,"method":"ping","params":{"a":{"b":1,"b":2}}}"#, Some("7")),
            (r#"{"jsonrpc":"2.0","id":null,"method":"ping","params":{"a":1,"a":2}}"#, None),
            (r#"{"jsonrpc":"2.0","id":1,"id":2,"method":"ping"}"#, None),
        ] {
            match read(text) {
                Err(BadMessage::Invalid { id, .. }) => assert_eq!(id.as_ref().map(Id::text), known, "{text}"),
                other => panic!("{text}: {other:?}"),
            }
        }
    }

    #[test]
    fn what_is_no_message_is_refused_with_the_right_code() {
        for (text, parse) in [
            ("{", true),
            ("", true),
            ("nonsense", true),
            (r#"[{"jsonrpc":"2.0","id":1,"method":"ping"}]"#, false),
            ("[]", false),
            (r#" ["2.0",1,"ping"]"#, false),
            (r#"{"jsonrpc":2.0,"id":1,"method":"ping"}"#, false),
            (r#"{"jsonrpc":"2.0","id":1,"method":"ping"} {}"#, true),
            ("3", false),
            (r#"{"jsonrpc":"2.0","id":null,"method":"ping"}"#, false),
            (r#"{"jsonrpc":"2.0","id":1.5,"method":"ping"}"#, false),
            (&format!(r#"{{"jsonrpc":"2.0","id":"{}","method":"ping"}}"#, "x".repeat(300)), false),
            (&format!(r#"{{"jsonrpc":"2.0","id":{},"method":"ping"}}"#, "1".repeat(300)), false),
            (r#"{"jsonrpc":"1.0","id":1,"method":"ping"}"#, false),
            (r#"{"jsonrpc":"2.0","id":1,"Method":"ping"}"#, false),
            (r#"{"jsonrpc":"2.0","id":1,"method":"ping","method":"tools/call"}"#, false),
            (r#"{"jsonrpc":"2.0","id":1,"method":"ping","params":[]}"#, false),
        ] {
            match read(text) {
                Err(BadMessage::Parse(_)) => assert!(parse, "{text}"),
                Err(BadMessage::Invalid { .. }) => assert!(!parse, "{text}"),
                other => panic!("{text}: {other:?}"),
            }
        }
    }

    #[test]
    fn arguments_are_the_bytes_that_came() {
        let body = Bytes::from_static(
            br#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"x","arguments":{ "n" : 1.50e2 }}}"#,
        );
        let Ok(Message::Request { params, .. }) = decode(&body) else { panic!("a request") };
        let call = call_params(params.as_ref()).unwrap();
        assert_eq!(call.arguments.unwrap().as_str(), r#"{ "n" : 1.50e2 }"#);
        assert_eq!(call_params(None), Err("`params.name` is required: the tool to call".into()));
    }
}
