//! The members of a JSON object, found in its text in one pass that builds no tree.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserializer, Error as _, MapAccess, Visitor};
use serde_json::value::RawValue;

/// Where one member stands: from the opening quote of its name to the end of its value.
#[derive(Debug)]
pub(super) struct Member<'a> {
    pub(super) name: Cow<'a, str>,
    pub(super) start: usize,
    pub(super) value: usize,
    pub(super) end: usize,
}

/// Shows every member of the object to `see`, in order; values are not looked into.
///
/// # Errors
/// Where the text is not one JSON object, or `see` objects.
pub(super) fn members<'a>(
    text: &'a str,
    see: impl FnMut(Member<'a>) -> Result<(), &'static str>,
) -> Result<(), serde_json::Error> {
    struct Members<'a, F>(&'a str, F);

    impl<'a, F: FnMut(Member<'a>) -> Result<(), &'static str>> Visitor<'a> for Members<'a, F> {
        type Value = ();

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'a>>(mut self, mut map: A) -> Result<(), A::Error> {
            while let Some((name, value)) = map.next_entry::<&'a RawValue, &'a RawValue>()? {
                let at = offset(self.0, value);
                let end = at + value.get().len();
                let start = offset(self.0, name);
                let name = string(name).map_err(A::Error::custom)?;
                self.1(Member { name, start, value: at, end }).map_err(A::Error::custom)?;
            }
            Ok(())
        }
    }

    let mut deserializer = serde_json::Deserializer::from_str(text);
    deserializer.deserialize_map(Members(text, see))?;
    deserializer.end()
}

/// The text that a JSON string stands for; borrowed where it holds no escape.
pub(super) fn string(raw: &RawValue) -> Result<Cow<'_, str>, serde_json::Error> {
    match raw.get().strip_prefix('"').and_then(|text| text.strip_suffix('"')) {
        Some(plain) if !plain.contains('\\') => Ok(Cow::Borrowed(plain)),
        _ => Ok(Cow::Owned(serde_json::from_str(raw.get())?)),
    }
}

fn offset(whole: &str, part: &RawValue) -> usize {
    (part.get().as_ptr() as usize).saturating_sub(whole.as_ptr() as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_given_as_they_stand() {
        let text = r#" { "a" : [1, 2] ,"\u005fmeta":{"x":{}} } "#;
        let mut seen = Vec::new();
        members(text, |member| {
            let name = member.name.into_owned();
            seen.push((name, &text[member.start..member.value], &text[member.value..member.end]));
            Ok(())
        })
        .unwrap();
        let wanted = [("a", r#""a" : "#, "[1, 2]"), ("_meta", r#""\u005fmeta":"#, r#"{"x":{}}"#)];
        assert_eq!(seen, wanted.map(|(name, head, value)| (name.to_owned(), head, value)));
    }

    #[test]
    fn what_is_no_object_has_no_members() {
        for text in ["", "[]", "null", r#"{"a":1"#, "{} {}", r#"{"a":1}x"#, r#"{"a" 1}"#] {
            assert!(members(text, |_| Ok(())).is_err(), "{text}");
        }
        assert!(members(r#"{"a":1}"#, |_| Err("no")).is_err());
    }
}
