//! JSON as bytes that were checked once and are passed on as they are.

use std::fmt;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Serialize, Serializer};
use serde_json::Value;
use serde_json::value::RawValue;

use super::strict;

/// Up to so many bytes a text is as good as nothing.
pub const LARGE: usize = 1 << 20;

/// One JSON value as the text that came: cheap to clone, never encoded again.
#[derive(Clone, PartialEq, Eq)]
pub struct Json(Bytes);

/// The text is not one JSON value.
#[derive(Debug, thiserror::Error)]
#[error("not JSON: {0}")]
pub struct NotJson(#[from] serde_json::Error);

/// The text cannot be read as a tree.
#[derive(Debug, thiserror::Error)]
pub enum NoTree {
    #[error(transparent)]
    Unfit(#[from] strict::Unfit),
    #[error(transparent)]
    Json(#[from] serde_json::Error),
}

impl Json {
    /// Checks `bytes` and keeps them.
    ///
    /// # Errors
    /// Where they are not exactly one JSON value in UTF-8.
    pub fn parse(bytes: Bytes) -> Result<Self, NotJson> {
        let _: &RawValue = serde_json::from_slice(&bytes)?;
        Ok(Self(bytes))
    }

    /// A part of `whole` that serde_json has already read as one value: shares the memory.
    #[must_use]
    pub fn slice_of(whole: &Bytes, part: &RawValue) -> Self {
        let text = part.get().as_bytes();
        let start = (text.as_ptr() as usize).wrapping_sub(whole.as_ptr() as usize);
        match whole.get(start..start.wrapping_add(text.len())) {
            Some(same) if same.as_ptr() == text.as_ptr() => Self(whole.slice(start..start + text.len())),
            _ => Self(Bytes::copy_from_slice(text)),
        }
    }

    /// Encodes a value of our own.
    #[must_use]
    pub fn of<T: Serialize>(value: &T) -> Self {
        // Our own types have string keys and no failing serializer, so this cannot be reached with bad data.
        Self(serde_json::to_vec(value).map_or_else(|_| Bytes::from_static(b"null"), Bytes::from))
    }

    /// Text that the caller has put together from checked parts.
    #[must_use]
    pub fn from_parts(text: String) -> Self {
        debug_assert!(serde_json::from_str::<&RawValue>(&text).is_ok(), "joined parts are JSON");
        Self(Bytes::from(text))
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or("null")
    }

    /// An answer that was made of this text, and keeps it where it is large: the room that the one takes is counted for as
    /// long as the other is being written.
    #[must_use]
    pub fn beside(&self, answer: impl Into<Bytes>) -> Bytes {
        struct Both(Bytes, #[expect(dead_code, reason = "it lives as long as the answer")] Bytes);
        impl AsRef<[u8]> for Both {
            fn as_ref(&self) -> &[u8] {
                &self.0
            }
        }
        let answer = answer.into();
        if self.0.len() <= LARGE { answer } else { Bytes::from_owner(Both(answer, self.0.clone())) }
    }

    /// The same text in bytes of its own: it does not keep the whole that it came in.
    #[must_use]
    pub fn apart(self) -> Self {
        Self(Bytes::copy_from_slice(&self.0))
    }

    /// The same text in bytes that keep something else besides.
    #[must_use]
    pub fn with_bytes(self, keep: impl FnOnce(Bytes) -> Bytes) -> Self {
        let kept = keep(self.0.clone());
        debug_assert_eq!(kept, self.0, "the text is the same");
        Self(kept)
    }

    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.0
    }

    /// Decodes the text.
    ///
    /// # Errors
    /// Where the text is JSON of another shape.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_slice(&self.0)
    }

    /// The text as a tree; `null` where it is not fit to be one, or a number is beyond what a tree can hold.
    #[must_use]
    pub fn value(&self) -> Value {
        self.tree().unwrap_or(Value::Null)
    }

    /// The text as a tree, checked as [`strict`] checks it: for text that no door has checked.
    ///
    /// # Errors
    /// Where the text is unfit, or a number is beyond what a tree can hold.
    pub fn tree(&self) -> Result<Value, NoTree> {
        strict::check(self.as_str())?;
        Ok(self.decode()?)
    }
}

impl fmt::Debug for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Arguments and results are not for logs.
        write!(f, "Json({} bytes)", self.0.len())
    }
}

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let raw: &RawValue = serde_json::from_slice(&self.0).map_err(serde::ser::Error::custom)?;
        raw.serialize(serializer)
    }
}

/// A member's name as the most lenient reader of JSON takes it: without case, in any script.
#[must_use]
pub fn folded(name: &str) -> String {
    if name.is_ascii() {
        return name.to_ascii_lowercase();
    }
    // Both ways, as readers differ; a dotted capital I leaves its dot behind.
    let lower = name.to_uppercase().to_lowercase();
    lower.chars().filter(|c| *c != '\u{307}').collect()
}

/// The canonical text of a value: members sorted by name, no white space. Two texts that mean the same have one.
#[must_use]
pub fn canonical(value: &Value) -> String {
    let mut out = String::new();
    write_canonical(value, &mut out);
    out
}

fn write_canonical(value: &Value, out: &mut String) {
    match value {
        Value::Object(members) => {
            let mut names: Vec<&String> = members.keys().collect();
            names.sort_unstable();
            out.push('{');
            for (at, name) in names.into_iter().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                write_text(name, out);
                out.push(':');
                write_canonical(members.get(name).unwrap_or(&Value::Null), out);
            }
            out.push('}');
        }
        Value::Array(items) => {
            out.push('[');
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                write_canonical(item, out);
            }
            out.push(']');
        }
        Value::String(text) => write_text(text, out),
        scalar => out.push_str(&scalar.to_string()),
    }
}

fn write_text(text: &str, out: &mut String) {
    if text.bytes().all(|byte| byte >= 0x20 && byte != b'"' && byte != b'\\') {
        out.push('"');
        out.push_str(text);
        out.push('"');
    } else {
        out.push_str(&Value::from(text).to_string());
    }
}

/// SHA-256 in lower-case hexadecimal.
#[must_use]
pub fn sha256_hex(bytes: &[u8]) -> String {
    hex(ring::digest::digest(&ring::digest::SHA256, bytes).as_ref())
}

/// Lower-case hexadecimal.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: [char; 16] = ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f'];
    let digit = |nibble: u8| DIGITS.get(usize::from(nibble)).copied().unwrap_or('0');
    let mut text = String::with_capacity(2 * bytes.len());
    text.extend(bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slice_shares_memory_and_keeps_the_text() {
        let whole = Bytes::from_static(br#"{"a": 1.50e2 , "b":[]}"#);
        let members: std::collections::HashMap<&str, &RawValue> = serde_json::from_slice(&whole).unwrap();
        let part = Json::slice_of(&whole, members["a"]);
        assert_eq!(part.as_str(), "1.50e2");
        assert_eq!(part.bytes().as_ptr() as usize, whole.as_ptr() as usize + 6);
    }

    #[test]
    fn canonical_text_forgets_order_and_space() {
        let one: Value = serde_json::from_str(r#"{"b": [1, {"y":2,"x":1}], "a": "é\n"}"#).unwrap();
        assert_eq!(canonical(&one), r#"{"a":"é\n","b":[1,{"x":1,"y":2}]}"#);
    }
}
