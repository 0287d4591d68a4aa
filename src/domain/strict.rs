//! What plain JSON parsers let through: duplicate member names, deep nesting, and names that they keep for themselves.
//!
//! Two readers of `{"a":1,"a":2}` may see two different values, so what was judged might not be what runs. Text that
//! passes [`check`] reads the same everywhere.

use std::borrow::Cow;
use std::collections::HashSet;

use super::plain::plain;

/// Deepest nesting of objects and arrays that is read.
pub const MAX_DEPTH: usize = 64;
/// Objects with more members than this are checked with a hash set instead of by comparing each with each.
const SMALL_OBJECT: usize = 24;

/// Names that mean something to the parser itself.
const RESERVED: &str = "$serde_json::private::";

/// Why a text that is JSON is refused all the same.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    #[error("nested deeper than {MAX_DEPTH} levels")]
    TooDeep,
    #[error("the member `{0}` stands twice in one object")]
    Duplicate(String),
    /// serde_json reads such a member's text as JSON of its own, in place of the object.
    #[error("a member name begins with `{RESERVED}`")]
    Reserved,
}

/// Checks one JSON text that a parser has accepted already.
///
/// # Errors
/// Where a member name stands twice in an object, at any depth, or is one that the parser would not read as a name, or
/// the nesting is too deep.
pub fn check(text: &str) -> Result<(), Unfit> {
    Scan { bytes: text.as_bytes(), at: 0, names: Vec::new(), open: Vec::new() }.run()
}

/// An object that is open: where its names start, and a set of them once there are many.
struct Frame<'a> {
    object: bool,
    first_name: usize,
    many: Option<HashSet<Cow<'a, [u8]>>>,
}

struct Scan<'a> {
    bytes: &'a [u8],
    at: usize,
    names: Vec<Cow<'a, [u8]>>,
    open: Vec<Frame<'a>>,
}

impl<'a> Scan<'a> {
    fn run(mut self) -> Result<(), Unfit> {
        // True where the next string is a member name: after `{` and after `,` in an object.
        let mut name_next = false;
        while let Some(&byte) = self.bytes.get(self.at) {
            match byte {
                b'{' | b'[' => {
                    if self.open.len() >= MAX_DEPTH {
                        return Err(Unfit::TooDeep);
                    }
                    name_next = byte == b'{';
                    self.open.push(Frame { object: name_next, first_name: self.names.len(), many: None });
                    self.at += 1;
                }
                b'}' | b']' => {
                    if let Some(frame) = self.open.pop() {
                        self.names.truncate(frame.first_name);
                    }
                    name_next = false;
                    self.at += 1;
                }
                b',' => {
                    name_next = self.open.last().is_some_and(|frame| frame.object);
                    self.at += 1;
                }
                b'"' => {
                    let text = self.string();
                    if name_next {
                        self.name(text)?;
                        name_next = false;
                    }
                }
                _ => self.at += 1,
            }
        }
        Ok(())
    }

    /// Steps over a string; gives it with its quotes.
    fn string(&mut self) -> &'a [u8] {
        let start = self.at;
        self.at += 1;
        while let Some(&byte) = self.bytes.get(self.at) {
            match byte {
                b'\\' => self.at += 2,
                b'"' => {
                    self.at += 1;
                    break;
                }
                _ => self.at += 1,
            }
        }
        self.bytes.get(start..self.at).unwrap_or_default()
    }

    fn name(&mut self, quoted: &'a [u8]) -> Result<(), Unfit> {
        let name = unescaped(quoted);
        if name.starts_with(RESERVED.as_bytes()) {
            return Err(Unfit::Reserved);
        }
        let Some(frame) = self.open.last_mut() else { return Ok(()) };
        let siblings = self.names.get(frame.first_name..).unwrap_or_default();
        if frame.many.is_none() && siblings.len() >= SMALL_OBJECT {
            frame.many = Some(siblings.iter().cloned().collect());
        }
        let twice = match &mut frame.many {
            Some(set) => !set.insert(name.clone()),
            None => siblings.contains(&name),
        };
        if twice {
            let name: String = String::from_utf8_lossy(&name).chars().take(80).collect();
            return Err(Unfit::Duplicate(plain(name)));
        }
        self.names.push(name);
        Ok(())
    }
}

/// The name itself: borrowed, unless an escape has to be resolved.
fn unescaped(quoted: &[u8]) -> Cow<'_, [u8]> {
    if quoted.contains(&b'\\') {
        let plain: Result<String, _> = serde_json::from_slice(quoted);
        return Cow::Owned(plain.map_or_else(|_| quoted.to_vec(), String::into_bytes));
    }
    Cow::Borrowed(quoted.get(1..quoted.len().saturating_sub(1)).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn duplicates_are_found_at_every_depth_and_in_every_spelling() {
        for text in [
            r#"{"a":1,"a":2}"#,
            r#"{"x":[{"a":1,"b":{"c":1,"c":1}}]}"#,
            r#"{"a":1,"\u0061":2}"#,
            r#"{"a":{"a":{}},"b":"}","a":0}"#,
        ] {
            assert!(matches!(check(text), Err(Unfit::Duplicate(_))), "{text}");
        }
        let many: String = (0..100).map(|n| format!("\"k{n}\":0,")).collect();
        assert_eq!(check(&format!("{{{many}\"k7\":1}}")), Err(Unfit::Duplicate("k7".into())));
        let told = check(r#"{"a\n\u202eb":0,"a\n\u202eb":1}"#).unwrap_err().to_string();
        assert_eq!(told, "the member `a\\n\\u{202e}b` stands twice in one object");
    }

    #[test]
    fn equal_names_in_different_objects_are_fine() {
        for text in [r#"[{"a":1},{"a":1}]"#, r#"{"a":{"a":"a"},"b":["a","a"]}"#, r#"{"a":"\"a\":1,","b":2}"#] {
            assert_eq!(check(text), Ok(()), "{text}");
        }
    }

    #[test]
    fn a_name_that_the_parser_takes_for_its_own_is_refused() {
        for name in
            ["$serde_json::private::RawValue", "$serde_json::private::Number", "\\u0024serde_json::private::RawValue"]
        {
            let text = format!(r#"{{"a":[{{"{name}":"[[1]]"}}]}}"#);
            assert_eq!(check(&text), Err(Unfit::Reserved), "{text}");
        }
        assert_eq!(check(r#"{"a":"$serde_json::private::RawValue"}"#), Ok(()));
    }

    #[test]
    fn depth_is_bounded() {
        let nest = |depth: usize| format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
        assert_eq!(check(&nest(MAX_DEPTH)), Ok(()));
        assert_eq!(check(&nest(MAX_DEPTH + 1)), Err(Unfit::TooDeep));
    }

    fn tree() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![any::<i64>().prop_map(|n| json!(n)), ".*".prop_map(Value::String), Just(Value::Null)];
        leaf.prop_recursive(4, 40, 40, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::Array),
                proptest::collection::hash_map(".*", inner, 0..40).prop_map(|m| Value::Object(m.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_a_tree_encodes_to_always_passes(value in tree()) {
            prop_assert_eq!(check(&value.to_string()), Ok(()));
        }

        #[test]
        fn any_text_ends_without_panic(text in ".*") {
            drop(check(&text));
        }
    }
}
