//! Changes to a backend's result that leave every other byte as it came.

use super::object::members;
use crate::domain::json::Json;

/// Members that belong to one era's envelope and not to the tool's answer (MCP 2026-07-28).
const ERA_MEMBERS: [&str; 3] = ["resultType", "ttlMs", "cacheScope"];

/// What a backend says of itself in `_meta`; the gateway speaks for itself.
const BACKEND_META: &str = "io.modelcontextprotocol/serverInfo";

/// What goes into a result before it leaves.
#[derive(Debug, Clone, Copy, Default)]
pub struct Additions<'a> {
    /// Whole members to put at the top level, such as `"resultType":"complete"`.
    pub members: &'a [(&'a str, &'a str)],
    /// Members of `_meta`; they replace those of the same name.
    pub meta: &'a [(&'a str, &'a str)],
}

/// Puts `additions` into a result and takes the era's own members out. All other bytes stay, in their order.
///
/// A result that is no object (which MCP forbids) comes back as it is.
#[must_use]
pub fn splice(result: &Json, additions: Additions<'_>) -> Json {
    let text = result.as_str();
    let Some(open) = text.find('{').map(|at| at + 1) else { return result.clone() };
    let mut out = Object::with_capacity(text.len() + 512);
    out.text.push_str(text.get(..open).unwrap_or_default());
    for (name, value) in additions.members {
        out.named(name, value);
    }
    let mut meta_done = additions.meta.is_empty();
    let mut last_end = open;
    let read = members(text, |member| {
        last_end = member.end;
        let name = &*member.name;
        if ERA_MEMBERS.contains(&name) || additions.members.iter().any(|(new, _)| *new == name) {
            return Ok(());
        }
        let value = text.get(member.value..member.end).unwrap_or_default();
        if name == "_meta" && (!meta_done || value.contains(BACKEND_META)) {
            meta_done = true;
            out.member(text.get(member.start..member.value).unwrap_or_default());
            merge(&mut out.text, value, additions.meta);
        } else {
            out.member(text.get(member.start..member.end).unwrap_or_default());
        }
        Ok(())
    });
    if read.is_err() {
        return result.clone();
    }
    if !meta_done {
        out.member("\"_meta\":");
        merge(&mut out.text, "{}", additions.meta);
    }
    out.text.push_str(text.get(last_end..).unwrap_or("}"));
    Json::from_parts(out.text)
}

/// The text of a `_meta` object, with some members replaced or added.
fn merge(out: &mut String, meta: &str, additions: &[(&str, &str)]) {
    let mut object = Object { text: std::mem::take(out), first: true };
    object.text.push('{');
    let start = object.text.len();
    let read = members(meta, |member| {
        if member.name != BACKEND_META && !additions.iter().any(|(name, _)| *name == member.name) {
            object.member(meta.get(member.start..member.end).unwrap_or_default());
        }
        Ok(())
    });
    if read.is_err() {
        object.text.truncate(start);
        object.first = true;
    }
    for (name, value) in additions {
        object.named(name, value);
    }
    object.text.push('}');
    *out = object.text;
}

/// The text of an object in the making.
struct Object {
    text: String,
    first: bool,
}

impl Object {
    fn with_capacity(bytes: usize) -> Self {
        Self { text: String::with_capacity(bytes), first: true }
    }

    /// Begins a member, or puts a whole one, after a comma where one is needed.
    fn member(&mut self, text: &str) {
        if !std::mem::take(&mut self.first) {
            self.text.push(',');
        }
        self.text.push_str(text);
    }

    /// A member whose name needs no escape.
    fn named(&mut self, name: &str, value: &str) {
        self.member("\"");
        self.text.push_str(name);
        self.text.push_str("\":");
        self.text.push_str(value);
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;

    fn json(text: &str) -> Json {
        Json::parse(Bytes::copy_from_slice(text.as_bytes())).unwrap()
    }

    const GOVERNANCE: Additions<'_> =
        Additions { members: &[], meta: &[("toolgate/governance", "{\"decision\":\"allow\"}")] };

    #[test]
    fn every_other_byte_stays() {
        let before = r#"{ "content" : [ {"type":"text","text":"\u00e9","x-vendor":1.50e2} ],"structuredContent":null, "isError":false }"#;
        let after = splice(&json(before), GOVERNANCE);
        insta::assert_snapshot!(after.as_str(), @r#"{"content" : [ {"type":"text","text":"\u00e9","x-vendor":1.50e2} ],"structuredContent":null,"isError":false,"_meta":{"toolgate/governance":{"decision":"allow"}} }"#);
    }

    #[test]
    fn meta_keeps_what_it_had() {
        let after = splice(&json(r#"{"_meta":{"a": 1 ,"toolgate/governance":"forged"},"content":[]}"#), GOVERNANCE);
        insta::assert_snapshot!(after.as_str(), @r#"{"_meta":{"a": 1,"toolgate/governance":{"decision":"allow"}},"content":[]}"#);
    }

    #[test]
    fn what_is_no_object_stays_as_it_is() {
        for text in ["[{}]", "null", r#""{""#] {
            assert_eq!(splice(&json(text), GOVERNANCE).as_str(), text);
        }
        let after = splice(&json(r#"{"_meta":[1],"content":[]}"#), GOVERNANCE);
        insta::assert_snapshot!(after.as_str(), @r#"{"_meta":{"toolgate/governance":{"decision":"allow"}},"content":[]}"#);
    }

    #[test]
    fn the_era_s_own_members_are_replaced() {
        let additions = Additions { members: &[("resultType", "\"complete\"")], meta: &[] };
        insta::assert_snapshot!(splice(&json(r#"{"resultType":"x","ttlMs":5,"content":[]}"#), additions).as_str(), @r#"{"resultType":"complete","content":[]}"#);
        insta::assert_snapshot!(splice(&json("{}"), additions).as_str(), @r#"{"resultType":"complete"}"#);
        insta::assert_snapshot!(splice(&json(r#"{"resultType":"x"}"#), Additions::default()).as_str(), @"{}");
    }

    proptest! {
        #[test]
        fn a_spliced_result_is_json_with_the_same_members(pairs in proptest::collection::btree_map("[a-z_]{1,6}", any::<i32>(), 0..6)) {
            let before = serde_json::to_string(&pairs).unwrap();
            let after = splice(&json(&before), GOVERNANCE).value();
            for (name, value) in &pairs {
                if name != "_meta" {
                    prop_assert_eq!(&after[name], value);
                }
            }
            prop_assert_eq!(&after["_meta"]["toolgate/governance"]["decision"], "allow");
        }
    }
}
