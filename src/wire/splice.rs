//! Changes to a backend's result that leave every other byte as it came.

use serde_json::value::RawValue;

use crate::domain::json::Json;

/// Members that belong to one era's envelope and not to the tool's answer (MCP 2026-07-28).
const ERA_MEMBERS: [&str; 3] = ["resultType", "ttlMs", "cacheScope"];

/// Where one member of an object stands: from its opening quote to the end of its value.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Member {
    name: String,
    start: usize,
    value: usize,
    end: usize,
}

/// What a backend says of itself in `_meta`; the gateway speaks for itself.
const BACKEND_META: &str = "io.modelcontextprotocol/serverInfo";

/// Finds the members of a JSON object in one pass; `None` where the text is no object.
fn members(text: &str) -> Option<Vec<Member>> {
    let bytes = text.as_bytes();
    let mut at = skip_space(bytes, 0);
    if bytes.get(at) != Some(&b'{') {
        return None;
    }
    at = skip_space(bytes, at + 1);
    let mut found = Vec::with_capacity(4);
    while bytes.get(at) == Some(&b'"') {
        let start = at;
        let name_end = value_end(text, at)?;
        let name: String = serde_json::from_str(text.get(start..name_end)?).ok()?;
        at = skip_space(bytes, name_end);
        if bytes.get(at) != Some(&b':') {
            return None;
        }
        let value = skip_space(bytes, at + 1);
        let end = value_end(text, value)?;
        found.push(Member { name, start, value, end });
        at = skip_space(bytes, end);
        if bytes.get(at) == Some(&b',') {
            at = skip_space(bytes, at + 1);
        }
    }
    (bytes.get(at) == Some(&b'}')).then_some(found)
}

fn skip_space(bytes: &[u8], mut at: usize) -> usize {
    while matches!(bytes.get(at), Some(b' ' | b'\t' | b'\r' | b'\n')) {
        at += 1;
    }
    at
}

/// The end of the value that starts at `at`, by serde_json's own reading.
fn value_end(text: &str, at: usize) -> Option<usize> {
    let rest = text.get(at..)?;
    let mut values = serde_json::Deserializer::from_str(rest).into_iter::<&RawValue>();
    let value = values.next()?.ok()?;
    Some(at + value.get().len())
}

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
    let Some(found) = members(text) else { return result.clone() };
    let open = skip_space(text.as_bytes(), 0) + 1;
    let mut out = String::with_capacity(text.len() + 256);
    out.push_str(text.get(..open).unwrap_or("{"));
    let mut first = true;
    let mut put = |out: &mut String, name: &str, value: &str| {
        if !std::mem::take(&mut first) {
            out.push(',');
        }
        out.push_str(name);
        out.push_str(value);
    };
    for (name, value) in additions.members {
        put(&mut out, &format!("\"{name}\":"), value);
    }
    let mut meta_done = additions.meta.is_empty();
    let mut last_end = open;
    for member in &found {
        last_end = member.end;
        if ERA_MEMBERS.contains(&member.name.as_str()) || additions.members.iter().any(|(name, _)| *name == member.name)
        {
            continue;
        }
        let head = text.get(member.start..member.value).unwrap_or_default();
        let value = text.get(member.value..member.end).unwrap_or_default();
        if member.name == "_meta" && (!meta_done || value.contains(BACKEND_META)) {
            meta_done = true;
            put(&mut out, head, &merged(value, additions.meta));
        } else {
            put(&mut out, head, value);
        }
    }
    if !meta_done {
        put(&mut out, "\"_meta\":", &merged("{}", additions.meta));
    }
    out.push_str(text.get(last_end..).unwrap_or("}"));
    Json::from_parts(out)
}

/// The text of a `_meta` object with some members replaced or added.
fn merged(meta: &str, additions: &[(&str, &str)]) -> String {
    let found = members(meta).unwrap_or_default();
    let stays =
        |member: &&Member| member.name != BACKEND_META && !additions.iter().any(|(name, _)| *name == member.name);
    let kept = found.iter().filter(stays);
    let kept = kept.map(|member| meta.get(member.start..member.end).unwrap_or_default().to_owned());
    let added = additions.iter().map(|(name, value)| format!("\"{name}\":{value}"));
    format!("{{{}}}", kept.chain(added).collect::<Vec<_>>().join(","))
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
