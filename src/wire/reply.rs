//! What a backend says, decoded over the bytes that came: nothing is copied, nothing is rendered anew.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::envelope::Envelope;
use super::object::{members, string};

/// One JSON-RPC message from a backend.
#[derive(Debug)]
pub enum Reply<'a> {
    Response {
        id: &'a RawValue,
        result: &'a RawValue,
    },
    /// The id is absent or null where the backend could not read the request's.
    Error {
        id: Option<&'a RawValue>,
        error: &'a RawValue,
    },
    /// The backend asks something (`ping`, `sampling/createMessage`).
    Request {
        id: &'a RawValue,
        method: Cow<'a, str>,
        params: Option<&'a RawValue>,
    },
    Notification {
        method: Cow<'a, str>,
        params: Option<&'a RawValue>,
    },
}

/// The bytes are not one JSON-RPC 2.0 message, or a result not an MCP result.
#[derive(Debug, thiserror::Error)]
pub enum Garbled {
    #[error("not a JSON-RPC message: {0}")]
    NotJson(#[from] serde_json::Error),
    #[error("not a JSON-RPC message: {0}")]
    Shape(&'static str),
}

/// Decodes one message. Member names are case-sensitive, none of those read may stand twice, and arrays are refused.
///
/// # Errors
/// Where the bytes are not exactly one JSON-RPC 2.0 message.
pub fn decode(bytes: &[u8]) -> Result<Reply<'_>, Garbled> {
    let message: Envelope<'_> = serde_json::from_slice(bytes)?;
    if message.jsonrpc.map(RawValue::get) != Some("\"2.0\"") {
        return Err(Garbled::Shape("`jsonrpc` is not \"2.0\""));
    }
    match message {
        Envelope { method: Some(method), result: None, error: None, id, params, .. } => {
            let method = string(method)?;
            Ok(match id {
                Some(id) if id.get() == "null" => return Err(Garbled::Shape("a request with the id null")),
                Some(id) => Reply::Request { id, method, params },
                None => Reply::Notification { method, params },
            })
        }
        Envelope { method: None, result: Some(result), error: None, id: Some(id), .. } if id.get() != "null" => {
            Ok(Reply::Response { id, result })
        }
        Envelope { method: None, result: None, error: Some(error), id, .. } => {
            if !error.get().starts_with('{') {
                return Err(Garbled::Shape("`error` is not an object"));
            }
            Ok(Reply::Error { id: id.filter(|id| id.get() != "null"), error })
        }
        Envelope { result: Some(_), error: Some(_), .. } => Err(Garbled::Shape("both `result` and `error`")),
        _ => Err(Garbled::Shape("neither a request nor a response with an id")),
    }
}

/// What `resultType` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ResultType {
    /// No such member: every legacy result.
    #[default]
    Absent,
    Complete,
    InputRequired,
    /// `task` and whatever comes later.
    Other,
}

/// What the gateway must know of a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ResultShape {
    /// `isError` is `true`.
    pub is_error: bool,
    pub kind: ResultType,
}

/// The members that a result may not have twice: those that somebody reads.
const READ: [&str; 5] = ["isError", "resultType", "_meta", "content", "structuredContent"];

/// Looks at the members of a result; their values are not looked into.
///
/// # Errors
/// Where the text is not one JSON object, a member that is read stands twice, or `isError` is not a truth value.
pub fn scan(result: &str) -> Result<ResultShape, Garbled> {
    let mut shape = ResultShape::default();
    let mut seen = [false; READ.len()];
    members(result, |member| {
        let Some((_, seen)) = READ.iter().zip(&mut seen).find(|(name, _)| **name == member.name) else { return Ok(()) };
        if std::mem::replace(seen, true) {
            return Err("a member stands twice");
        }
        let value = result.get(member.value..member.end).unwrap_or_default();
        match (&*member.name, value) {
            ("isError", "true") => shape.is_error = true,
            ("isError", "false" | "null") => {}
            ("isError", _) => return Err("`isError` is neither true nor false"),
            ("resultType", "\"complete\"") => shape.kind = ResultType::Complete,
            ("resultType", "\"input_required\"") => shape.kind = ResultType::InputRequired,
            ("resultType", _) => shape.kind = ResultType::Other,
            _ => {}
        }
        Ok(())
    })?;
    Ok(shape)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_told_apart() {
        assert!(matches!(
            decode(br#"{"jsonrpc":"2.0","id":7,"result":{"a": 1.50e2}}"#).unwrap(),
            Reply::Response { id, result } if id.get() == "7" && result.get() == r#"{"a": 1.50e2}"#
        ));
        assert!(matches!(
            decode(br#"{"jsonrpc":"2.0","id":null,"error":{"code":-32600}}"#).unwrap(),
            Reply::Error { id: None, .. }
        ));
        assert!(matches!(
            decode(br#"{"jsonrpc":"2.0","id":"x","method":"ping"}"#).unwrap(),
            Reply::Request { method, params: None, .. } if method == "ping"
        ));
        assert!(matches!(
            decode(br#"{"jsonrpc":"2.0","method":"notifications/\u0070rogress","params":{}}"#).unwrap(),
            Reply::Notification { method, params: Some(_) } if method == "notifications/progress"
        ));
    }

    #[test]
    fn what_is_not_one_message_is_garbled() {
        for text in [
            "",
            "<html>",
            "[]",
            r#"[{"jsonrpc":"2.0","id":1,"result":{}}]"#,
            r#"{"id":1,"result":{}}"#,
            r#"{"jsonrpc":"2.0","ID":1,"Result":{}}"#,
            r#"{"jsonrpc":"2.0","id":1,"result":{},"error":{}}"#,
            r#"{"jsonrpc":"2.0","id":1,"result":{},"result":{}}"#,
            r#"{"jsonrpc":"2.0","id":1,"id":2,"result":{}}"#,
            r#"{"jsonrpc":"2.0","id":1,"result":{}}{"jsonrpc":"2.0","id":1,"result":{}}"#,
            r#"{"jsonrpc":"2.0","id":1,"error":"no"}"#,
            r#"{"jsonrpc":"2.0","id":null,"result":{}}"#,
            r#"{"jsonrpc":"2.0","id":1,"result":{"a":NaN}}"#,
            r#"{"jsonrpc":"2.0","id":1}"#,
        ] {
            assert!(decode(text.as_bytes()).is_err(), "{text}");
        }
        assert!(decode(b"{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":\"\xff\"}").is_err());
    }

    #[test]
    fn a_scan_reads_the_members_of_the_result_itself() {
        let text = r#"{ "x":[{"isError":true}], "\u005fmeta" : {"a":1}, "isError": true,"resultType":"complete","content":[]}"#;
        assert_eq!(scan(text).unwrap(), ResultShape { is_error: true, kind: ResultType::Complete });
        assert_eq!(scan(r#"{"isError":false,"x":{"isError":true}}"#).unwrap(), ResultShape::default());
        assert!(scan(r#"{"\u0069sError":true}"#).unwrap().is_error);
    }

    #[test]
    fn results_that_could_be_read_two_ways_are_garbled() {
        for text in [
            "[]",
            "null",
            r#"{"_meta":{},"_meta":{}}"#,
            r#"{"_meta":{},"\u005fmeta":{}}"#,
            r#"{"isError":"true"}"#,
            r#"{"isError":true,"isError":false}"#,
            "{} {}",
        ] {
            assert!(scan(text).is_err(), "{text}");
        }
    }
}
