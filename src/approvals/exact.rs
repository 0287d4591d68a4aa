//! What makes a call this very call.
//!
//! Numbers count as they are written: two that a tree cannot tell apart are two calls all the same.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;

use serde_json::Value;
use serde_json::value::RawValue;
use zeroize::Zeroizing;

use crate::domain::json::sha256_hex;
use crate::policy::Call;

/// Larger arguments are compared byte for byte, and nothing but their digest is kept. Bytes.
const KEPT_BYTES: usize = 64 * 1024;

/// A call as it is compared and kept.
#[derive(Debug)]
pub(super) struct Exact {
    /// Digest of all that makes it this very call.
    pub(super) call: String,
    /// Digest of the arguments.
    pub(super) digest: String,
    /// The arguments, where they are not too long to keep.
    pub(super) arguments: Option<Zeroizing<Vec<u8>>>,
}

/// Who may approve is a part of it: what one role has approved is not approved where another is asked for later.
pub(super) fn of(call: &Call, approvers: Option<&[Arc<str>]>) -> Exact {
    let text = call.arguments().map_or("{}", |arguments| arguments.as_str());
    let canonical = if text.len() <= KEPT_BYTES { canonical(text) } else { None };
    let digest = format!("sha256:{}", sha256_hex(canonical.as_deref().unwrap_or(text).as_bytes()));
    let (who, tool) = (call.principal(), call.tool());
    let all = serde_json::json!([who.key, who.user, who.agent, tool.kind, tool.label, tool.digest, digest, approvers]);
    let arguments = canonical.map(|text| Zeroizing::new(text.into_bytes()));
    Exact { call: sha256_hex(all.to_string().as_bytes()), digest, arguments }
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
            out.push('{');
            for (at, (name, value)) in members.into_iter().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                write!(out, "{}:", Value::from(name)).ok()?;
                put(value, out)?;
            }
            out.push('}');
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
