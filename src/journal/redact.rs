//! What a record keeps of a call's arguments.

use std::borrow::Cow;

use serde_json::{Map, Value};

use crate::domain::audit::ArgumentsMode;
use crate::domain::json::{Json, canonical, sha256_hex};
use crate::scan::{Kind, Scanner, redact};

/// Larger arguments leave their digest alone. Bytes of canonical text.
const KEPT_BYTES: usize = 4096;
/// A longer member name is data rather than a name.
const NAME_CHARS: usize = 64;
/// Numbers of so many characters may be a card, an account or a telephone.
const NUMBER_CHARS: usize = 9;

/// The digest of the canonical arguments, and what is kept of them.
pub(super) fn record(arguments: &Json, mode: ArgumentsMode) -> (String, Option<Value>) {
    let Ok(value) = arguments.decode::<Value>() else {
        // A number that no tree can hold: the text as it came stands for itself.
        return (format!("sha256:{}", sha256_hex(arguments.bytes())), None);
    };
    let text = canonical(&value);
    let digest = format!("sha256:{}", sha256_hex(text.as_bytes()));
    let kept = match mode {
        _ if text.len() > KEPT_BYTES => None,
        ArgumentsMode::Absent => None,
        ArgumentsMode::Plain => without_secrets(value),
        ArgumentsMode::Redacted => without_secrets(redacted(value, false)),
    };
    (digest, kept)
}

/// A URI as the record names it: where arguments are not kept as they came, neither are the parts of it that hold
/// credentials and searches.
pub(super) fn uri(uri: &str, mode: ArgumentsMode) -> Cow<'_, str> {
    if mode == ArgumentsMode::Plain {
        return Cow::Borrowed(uri);
    }
    crate::domain::uri::shown(uri)
}

/// A log is read by more people, and kept longer, than anything else: no secret may stand in it, whatever else does.
fn without_secrets(value: Value) -> Option<Value> {
    let text = value.to_string();
    let mut report = Scanner::default().scan(text.as_bytes());
    report.findings.retain(|finding| finding.kind == Kind::Secret);
    if report.is_clean() {
        return Some(value);
    }
    let rewritten = redact(&text, &report.findings).ok().filter(|_| !report.incomplete);
    rewritten.and_then(|text| serde_json::from_str(&text).ok())
}

/// `hidden` is the judgement of the name that the value stands under: then not even a number is kept.
fn redacted(value: Value, hidden: bool) -> Value {
    match value {
        Value::String(text) => Value::String(format!("[redacted {} chars]", text.chars().count())),
        Value::Number(number) if hidden || number.to_string().len() >= NUMBER_CHARS => {
            Value::String("[redacted number]".into())
        }
        Value::Array(items) => items.into_iter().map(|item| redacted(item, hidden)).collect(),
        Value::Object(members) => members
            .into_iter()
            .map(|(name, value)| {
                let hidden = hidden || names_a_secret(&name);
                (short_name(&name).into_owned(), redacted(value, hidden))
            })
            .collect::<Map<_, _>>()
            .into(),
        kept => kept,
    }
}

fn short_name(name: &str) -> Cow<'_, str> {
    match name.chars().count() {
        count if count > NAME_CHARS => Cow::Owned(format!("[redacted {count} chars]")),
        _ => Cow::Borrowed(name),
    }
}

/// Whether a member of this name is likely to hold a secret. Wrongly yes costs a number in a record.
fn names_a_secret(name: &str) -> bool {
    const WORDS: [&str; 14] = [
        "pass",
        "secret",
        "token",
        "key",
        "auth",
        "credential",
        "pin",
        "cvv",
        "cvc",
        "otp",
        "ssn",
        "card",
        "iban",
        "account",
    ];
    let name = name.to_ascii_lowercase();
    WORDS.iter().any(|word| name.contains(word))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn structure_stays_and_strings_go() {
        let arguments = Json::of(&json!({"limit": 5, "all": true, "none": null, "q": "söme text",
            "list": ["a", 1], "card": 4111, "apiKey": {"n": 7}, "phone": 4_155_550_100_i64}));
        let (digest, kept) = record(&arguments, ArgumentsMode::Redacted);
        assert_eq!(digest.len(), "sha256:".len() + 64);
        assert_eq!(
            kept.unwrap(),
            json!({"limit": 5, "all": true, "none": null, "q": "[redacted 9 chars]",
                "list": ["[redacted 1 chars]", 1], "card": "[redacted number]",
                "apiKey": {"n": "[redacted number]"}, "phone": "[redacted number]"})
        );
    }

    #[test]
    fn what_a_uri_may_hide_goes() {
        for (given, kept) in [
            ("file:///etc/hosts", "file:///etc/hosts"),
            ("notes.txt", "notes.txt"),
            ("mailto:me@example.com", "mailto:me@example.com"),
            ("https://ann:SECRET@db.example/t", "https://[redacted 10 chars]@db.example/t"),
            ("https://a@SECRET@db.example", "https://[redacted 8 chars]@db.example"),
            ("https://x.example/a@b", "https://x.example/a@b"),
            ("x://h/p?token=SECRET", "x://h/p?[redacted 12 chars]"),
            ("x:p#SECRET?a", "x:p#[redacted 8 chars]"),
            ("x://h/p?", "x://h/p?"),
            ("", ""),
        ] {
            assert_eq!(uri(given, ArgumentsMode::Redacted), kept);
            assert_eq!(uri(given, ArgumentsMode::Plain), given);
        }
    }

    #[test]
    fn the_digest_forgets_order_and_space() {
        let digest = |text: &'static str| record(&Json::parse(text.into()).unwrap(), ArgumentsMode::Absent).0;
        assert_eq!(digest(r#"{"a":1,"b":2}"#), digest(r#"{ "b": 2, "a": 1 }"#));
        assert_ne!(digest(r#"{"a":1,"b":2}"#), digest(r#"{"a":1,"b":3}"#));
    }

    #[test]
    fn large_arguments_leave_their_digest_alone() {
        let large = Json::of(&json!({"n": vec![1; 4096]}));
        for mode in [ArgumentsMode::Redacted, ArgumentsMode::Plain, ArgumentsMode::Absent] {
            assert_eq!(record(&large, mode).1, None);
        }
    }

    #[test]
    fn plain_arguments_hold_no_secret() {
        let key = format!("sk_{}_{}", "live", "4eC39HqLyjWDarjtT1zdp7dc");
        let kept = |value: Value| record(&Json::of(&value), ArgumentsMode::Plain).1.unwrap();
        assert_eq!(kept(json!({"to": "jane@corp.io", "n": 1})), json!({"to": "jane@corp.io", "n": 1}));
        assert_eq!(kept(json!({"text": format!("use {key}")})), json!({"text": "use [redacted:stripe-key]"}));
        for mode in [ArgumentsMode::Plain, ArgumentsMode::Redacted] {
            let named = record(&Json::of(&json!({key.as_str(): "x"})), mode).1;
            assert_eq!(named, None, "nor in a name");
        }
    }

    fn any_json(depth: u32) -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "[a-z]{0,8}SECRET[a-z]{0,8}".prop_map(Value::from),
        ];
        leaf.prop_recursive(depth, 32, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::hash_map("[a-z]{1,6}", inner, 0..4)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn no_string_survives(value in any_json(4)) {
            let kept = record(&Json::of(&value), ArgumentsMode::Redacted).1;
            prop_assert!(!kept.unwrap_or_default().to_string().contains("SECRET"));
        }
    }
}
