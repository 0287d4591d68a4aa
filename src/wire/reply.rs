//! What a backend says, decoded over the bytes that came: nothing is copied, nothing is rendered anew.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::envelope::present;

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

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow, default, deserialize_with = "present")]
    jsonrpc: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    id: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    method: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    params: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    result: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    error: Option<&'a RawValue>,
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
            let method = name(method)?;
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

fn name(raw: &RawValue) -> Result<Cow<'_, str>, Garbled> {
    match raw.get().strip_prefix('"').and_then(|text| text.strip_suffix('"')) {
        Some(plain) if !plain.contains('\\') => Ok(Cow::Borrowed(plain)),
        _ => Ok(Cow::Owned(serde_json::from_str(raw.get())?)),
    }
}

/// Where a member stands in the text of a result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Offset of the opening quote of the name.
    pub start: usize,
    /// The value.
    pub value: Range<usize>,
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

/// What the gateway must know of a result, found in one pass that builds no tree.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ResultShape {
    /// `isError` is `true`.
    pub is_error: bool,
    pub kind: ResultType,
    pub meta: Option<Member>,
    pub content: Option<Member>,
    pub structured: Option<Member>,
}

/// Finds the members of a result. Their values are not looked into; those named in [`ResultShape`] may not stand twice.
///
/// # Errors
/// Where the text is not one JSON object, or `isError` is not a truth value.
pub fn scan(result: &str) -> Result<ResultShape, Garbled> {
    struct Shape<'a>(&'a str);

    impl<'a> Visitor<'a> for Shape<'a> {
        type Value = ResultShape;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a result object")
        }

        fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<ResultShape, A::Error> {
            let mut shape = ResultShape::default();
            let (mut flag, mut kind) = (None, None);
            while let Some((key, value)) = map.next_entry::<&'a RawValue, &'a RawValue>()? {
                let start = offset(self.0, key);
                let at = offset(self.0, value);
                let member = Member { start, value: at..at + value.get().len() };
                let text = value.get();
                let name = name(key).map_err(A::Error::custom)?;
                let slot = match &*name {
                    "isError" => {
                        shape.is_error = match text {
                            "true" => true,
                            "false" | "null" => false,
                            _ => return Err(A::Error::custom("`isError` is neither true nor false")),
                        };
                        &mut flag
                    }
                    "resultType" => {
                        shape.kind = match text {
                            "\"complete\"" => ResultType::Complete,
                            "\"input_required\"" => ResultType::InputRequired,
                            _ => ResultType::Other,
                        };
                        &mut kind
                    }
                    "_meta" => &mut shape.meta,
                    "content" => &mut shape.content,
                    "structuredContent" => &mut shape.structured,
                    _ => continue,
                };
                if slot.replace(member).is_some() {
                    return Err(A::Error::custom(format_args!("the member `{name}` stands twice")));
                }
            }
            Ok(shape)
        }
    }

    let mut deserializer = serde_json::Deserializer::from_str(result);
    let shape = deserializer.deserialize_map(Shape(result))?;
    deserializer.end()?;
    Ok(shape)
}

fn offset(whole: &str, part: &RawValue) -> usize {
    (part.get().as_ptr() as usize).saturating_sub(whole.as_ptr() as usize)
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
    fn a_scan_gives_the_members_as_they_stand() {
        let text = r#"{ "x":[{"isError":true}], "\u005fmeta" : {"a":1}, "isError": true,"resultType":"complete","content":[]}"#;
        let shape = scan(text).unwrap();
        assert!(shape.is_error);
        assert_eq!(shape.kind, ResultType::Complete);
        let meta = shape.meta.unwrap();
        assert_eq!(&text[meta.value], r#"{"a":1}"#);
        assert!(text[meta.start..].starts_with(r#""\u005fmeta""#));
        assert_eq!(&text[shape.content.unwrap().value], "[]");
        assert_eq!(scan(r#"{"isError":false}"#).unwrap(), ResultShape::default());
    }

    #[test]
    fn results_that_could_be_read_two_ways_are_garbled() {
        for text in [
            "[]",
            "null",
            r#"{"_meta":{},"_meta":{}}"#,
            r#"{"isError":"true"}"#,
            r#"{"isError":true,"isError":false}"#,
            "{} {}",
        ] {
            assert!(scan(text).is_err(), "{text}");
        }
    }
}
