//! What makes a call this very call.
//!
//! Numbers count as they are written: two that a tree cannot tell apart are two calls all the same.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;

use serde_json::Value;
use serde_json::value::RawValue;
use zeroize::Zeroizing;

use crate::domain::json::{Json, sha256_hex};
use crate::domain::tool::Kind;
use crate::policy::Call;

/// Nobody approves what they cannot be shown: what sends more waits for no approval. Bytes.
pub(super) const KEPT_BYTES: usize = 64 * 1024;
const META: &str = "_meta";

/// A call as it is compared and kept.
#[derive(Debug)]
pub(super) struct Exact {
    /// Digest of all that makes it this very call.
    pub(super) call: String,
    /// Digest of the arguments.
    pub(super) digest: String,
    /// Digest of what travels beside them, but for its `_meta`, which has one of its own; each where there is any.
    pub(super) beside: Option<String>,
    pub(super) meta: Option<String>,
    /// What a person is shown: the arguments, and after them what travels beside.
    pub(super) kept: Zeroizing<Vec<u8>>,
}

/// What a call is approved under.
#[derive(Debug)]
pub(super) struct Ground<'a> {
    pub(super) approvers: Option<&'a [Arc<str>]>,
    /// The policies that ask, each with the digest of its text.
    pub(super) policies: &'a [(Arc<str>, Arc<str>)],
    /// Where its server is.
    pub(super) place: Option<Value>,
}

/// What it is approved under is a part of it: what one role has approved is not approved where another is asked for later, nor
/// under other policies, nor at another server of the same name. The `_meta` is none, since hosts number their calls there:
/// where it is another, it does not travel.
///
/// # Errors
/// The bytes of what is too long to be shown.
pub(super) fn of(call: &Call, beside: Option<&Json>, ground: &Ground<'_>) -> Result<Exact, usize> {
    let (who, tool) = (call.principal(), call.tool());
    // What is shown of a URI elsewhere is not all of it: here it is.
    let uri = (tool.kind == Kind::Resource).then(|| serde_json::json!({"uri": tool.id.tool}).to_string());
    let text = uri.as_deref().or_else(|| call.arguments().map(Json::as_str)).unwrap_or("{}");
    let bytes = text.len() + beside.map_or(0, |beside| beside.bytes().len());
    if bytes > KEPT_BYTES {
        return Err(bytes);
    }
    let mut kept = canonical(text).ok_or(bytes)?;
    let digest = digest(&kept);
    let (rest, meta) = beside.map_or(Some((None, None)), parted).ok_or(bytes)?;
    if let Some(beside) = beside {
        kept.push_str(&canonical(beside.as_str()).ok_or(bytes)?);
    }
    let mut all = vec![
        serde_json::json!([who.key, who.user, who.agent, call.subject()]),
        serde_json::json!([tool.kind, tool.label, tool.digest]),
        serde_json::json!([digest, ground.approvers]),
        serde_json::json!([ground.policies, ground.place]),
    ];
    all.extend(rest.clone().map(Value::from));
    Ok(Exact {
        call: sha256_hex(Value::from(all).to_string().as_bytes()),
        digest,
        beside: rest,
        meta,
        kept: Zeroizing::new(kept.into_bytes()),
    })
}

fn digest(text: &str) -> String {
    format!("sha256:{}", sha256_hex(text.as_bytes()))
}

/// The digests of what travels beside the arguments without its `_meta`, and of that.
fn parted(beside: &Json) -> Option<(Option<String>, Option<String>)> {
    let mut members: BTreeMap<String, &RawValue> = serde_json::from_slice(beside.bytes()).ok()?;
    let mut meta = None;
    if let Some(value) = members.remove(META) {
        meta = Some(digest(&canonical(value.get())?));
    }
    let mut rest = String::new();
    put_members(&members, &mut rest)?;
    Some(((!members.is_empty()).then(|| digest(&rest)), meta))
}

/// The texts of what is kept: the arguments, and what travels beside them.
pub(super) fn texts(kept: &[u8]) -> Option<(&str, Option<&str>)> {
    let mut texts = serde_json::Deserializer::from_slice(kept).into_iter::<&RawValue>();
    let arguments = texts.next()?.ok()?.get();
    Some((arguments, texts.next().and_then(Result::ok).map(RawValue::get)))
}

/// One text for all that say the same: members sorted by name, no white space, numbers as they are written.
fn canonical(text: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    put(serde_json::from_str(text).ok()?, &mut out)?;
    Some(out)
}

fn put(value: &RawValue, out: &mut String) -> Option<()> {
    let text = value.get();
    match text.as_bytes().first()? {
        b'{' => {
            let members: BTreeMap<String, &RawValue> = serde_json::from_str(text).ok()?;
            put_members(&members, out)?;
        }
        b'[' => {
            out.push('[');
            for (at, item) in serde_json::from_str::<Vec<&RawValue>>(text).ok()?.into_iter().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                put(item, out)?;
            }
            out.push(']');
        }
        b'"' => write!(out, "{}", Value::from(serde_json::from_str::<String>(text).ok()?)).ok()?,
        _ => out.push_str(text),
    }
    Some(())
}

fn put_members(members: &BTreeMap<String, &RawValue>, out: &mut String) -> Option<()> {
    out.push('{');
    for (at, (name, value)) in members.iter().enumerate() {
        if at > 0 {
            out.push(',');
        }
        write!(out, "{}:", Value::from(name.as_str())).ok()?;
        put(value, out)?;
    }
    out.push('}');
    Some(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn what_says_the_same_is_one_text() {
        let one = canonical(r#" { "b" : [ 1 , "\u0041" , null , {} ], "a":{ "y":true, "x":[] } } "#).unwrap();
        assert_eq!(one, r#"{"a":{"x":[],"y":true},"b":[1,"A",null,{}]}"#);
        assert_eq!(canonical(&one).unwrap(), one);
    }

    #[test]
    fn numbers_that_a_tree_cannot_tell_apart_are_told_apart() {
        let text = |n: &str| canonical(&format!(r#"{{"n":{n}}}"#)).unwrap();
        assert_ne!(text("100000000000000000000001"), text("100000000000000000000002"));
        assert_ne!(text("0.1000000000000000000001"), text("0.1"));
        assert_ne!(text("1"), text("1.0"));
    }

    #[test]
    fn what_is_no_json_has_no_canonical_text() {
        assert_eq!(canonical("{"), None);
        assert_eq!(canonical(""), None);
    }

    #[test]
    fn what_travels_beside_the_arguments_is_told_apart_from_its_meta() {
        let of = |text: &str| parted(&Json::from_parts(text.into())).unwrap();
        let (plain, other) = (of(r#"{"mode":"dry"}"#), of(r#"{"mode":"real","_meta":{"n":1}}"#));
        assert!(plain.0.is_some() && plain.1.is_none() && other.1.is_some());
        assert_ne!(plain.0, other.0);
        assert_eq!(of(r#"{ "_meta" : {"n" : 2}, "mode" : "dr\u0079" }"#).0, plain.0);
        assert_ne!(of(r#"{"_meta":{"n":2}}"#).1, other.1);
        assert_eq!(of(r#"{"_meta":{"n":1}}"#), (None, other.1));
    }

    #[test]
    fn what_is_kept_comes_apart_again() {
        assert_eq!(texts(br#"{"n":1}"#), Some((r#"{"n":1}"#, None)));
        assert_eq!(texts(br#"{"n":1}{"_meta":{}}"#), Some((r#"{"n":1}"#, Some(r#"{"_meta":{}}"#))));
        assert_eq!(texts(b""), None);
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(json!(null)),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            ".{0,6}".prop_map(Value::from)
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::hash_map(".{0,4}", inner, 0..4)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn white_space_and_order_are_nothing_and_all_else_is_something(one in any_json(), other in any_json()) {
            let pretty = serde_json::to_string_pretty(&one).unwrap();
            prop_assert_eq!(canonical(&pretty), canonical(&one.to_string()));
            prop_assert_eq!(canonical(&one.to_string()) == canonical(&other.to_string()), one == other);
        }
    }
}
