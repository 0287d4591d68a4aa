//! A tool's arguments in one line: `create_issue(owner:str, title:str, state?:open|closed, labels?:str[], +3)`.

use serde_json::Value;

use super::lines::clean;

/// Parameters that are shown; the rest is a number.
const SHOWN: usize = 8;
/// Values of an enumeration that are shown instead of its type.
const ENUM_VALUES: usize = 5;
/// Characters of one name or enumeration value.
const NAME_CHARS: usize = 64;
const VALUE_CHARS: usize = 24;
/// Bytes after which no further optional parameter is shown.
const LINE_BYTES: usize = 240;
/// Parameters that are looked at.
const COUNT: usize = 1_024;
/// Levels of arrays, alternatives and references that are followed.
const DEPTH: usize = 4;

/// The name and arguments of a tool, required ones first, in the schema's order.
///
/// Types are `str`, `int`, `num`, `bool`, `obj`, `any`, and `T[]`; `?` marks an optional argument, `obj`, `obj[]` and
/// `any` stand for more than the line tells.
#[must_use]
pub fn signature(name: &str, schema: &Value) -> String {
    let properties = schema.get("properties").and_then(Value::as_object);
    let required: Vec<&str> = schema
        .get("required")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .take(COUNT)
        .filter_map(Value::as_str)
        .collect();
    let of = |name: &str| properties.and_then(|all| all.get(name)).unwrap_or(&Value::Null);
    let needed =
        required.iter().enumerate().filter(|(at, name)| !required.iter().take(*at).any(|other| other == *name));
    let needed = needed.map(|(_, &name)| (name, of(name), true));
    let optional = properties.into_iter().flatten().take(COUNT).filter(|(name, _)| !required.contains(&name.as_str()));
    let optional = optional.map(|(name, schema)| (name.as_str(), schema, false));

    let mut line = clean(name, NAME_CHARS);
    line.push('(');
    let mut hidden = 0;
    for (at, (name, parameter, required)) in needed.chain(optional).enumerate() {
        if at >= SHOWN || hidden > 0 || (line.len() > LINE_BYTES && !required) || line.len() > 2 * LINE_BYTES {
            hidden += 1;
            continue;
        }
        if at > 0 {
            line.push_str(", ");
        }
        line.push_str(&clean(name, NAME_CHARS));
        line.push_str(if required { ":" } else { "?:" });
        line.push_str(&type_of(parameter, schema, DEPTH));
    }
    if hidden > 0 {
        line.push_str(&format!(", +{hidden}"));
    }
    line.push(')');
    line
}

/// The short type of `schema`, a part of `root`.
fn type_of(schema: &Value, root: &Value, depth: usize) -> String {
    let Some(depth) = depth.checked_sub(1) else { return "any".into() };
    if let Some(target) = schema.get("$ref").and_then(Value::as_str) {
        let target = target.strip_prefix('#').and_then(|pointer| root.pointer(pointer));
        return target.map_or_else(|| "any".into(), |target| type_of(target, root, depth));
    }
    if let Some(values) = enumeration(schema) {
        return values;
    }
    if let Some(choices) = ["anyOf", "oneOf"].iter().find_map(|key| schema.get(key)?.as_array()) {
        let mut choices = choices.iter().take(ENUM_VALUES + 1).filter(|choice| !is_null(choice));
        return match (choices.next(), choices.next()) {
            (Some(only), None) => type_of(only, root, depth),
            _ => "any".into(),
        };
    }
    match kind(schema) {
        Some("array") => {
            let item = schema.get("items").map_or_else(|| "any".into(), |items| type_of(items, root, depth));
            if item.contains('|') { format!("({item})[]") } else { format!("{item}[]") }
        }
        Some(kind) => kind.into(),
        None if schema.get("properties").is_some() => "obj".into(),
        None => "any".into(),
    }
}

/// The sole type, `null` aside.
fn kind(schema: &Value) -> Option<&'static str> {
    let name = match schema.get("type")? {
        Value::String(name) => name.as_str(),
        Value::Array(names) => {
            let mut names = names.iter().filter_map(Value::as_str).filter(|&name| name != "null");
            names.next().filter(|_| names.next().is_none())?
        }
        _ => return None,
    };
    match name {
        "string" => Some("str"),
        "integer" => Some("int"),
        "number" => Some("num"),
        "boolean" => Some("bool"),
        "object" => Some("obj"),
        "array" => Some("array"),
        _ => None,
    }
}

fn is_null(schema: &Value) -> bool {
    schema.get("type").and_then(Value::as_str) == Some("null")
}

/// The values of a short enumeration of plain values.
fn enumeration(schema: &Value) -> Option<String> {
    let values: &[Value] = match (schema.get("enum"), schema.get("const")) {
        (Some(Value::Array(values)), _) => values,
        (None, Some(value)) => std::slice::from_ref(value),
        _ => return None,
    };
    let fits = (1..=ENUM_VALUES).contains(&values.len());
    let texts: Option<Vec<String>> =
        fits.then(|| values.iter().filter(|value| !value.is_null()).map(plain).collect())?;
    texts.filter(|texts| !texts.is_empty()).map(|texts| texts.join("|"))
}

fn plain(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => {
            let fits = text.chars().take(VALUE_CHARS + 1).count() <= VALUE_CHARS;
            let plain = text.chars().all(|c| c.is_alphanumeric() || "-_./:+".contains(c));
            (fits && plain && !text.is_empty()).then(|| text.clone())
        }
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{prop_assert, proptest};
    use serde_json::{Map, Value, json};

    use super::{COUNT, signature};

    fn of(properties: &Value, required: &[&str]) -> String {
        signature("f", &json!({"type": "object", "properties": properties, "required": required}))
    }

    #[test]
    fn required_arguments_come_first_and_eight_are_shown() {
        let schema = json!({
            "properties": {
                "body": {"type": "string"}, "labels": {"type": "array", "items": {"type": "string"}},
                "owner": {"type": "string"}, "repo": {"type": "string"}, "title": {"type": "string"},
                "a": {}, "b": {}, "c": {}, "d": {}, "e": {}, "f": {},
            },
            "required": ["owner", "repo", "title"],
        });
        assert_eq!(
            signature("create_issue", &schema),
            "create_issue(owner:str, repo:str, title:str, body?:str, labels?:str[], a?:any, b?:any, c?:any, +3)"
        );
    }

    #[test]
    fn types_are_short() {
        for (schema, expected) in [
            (json!({"type": "integer"}), "int"),
            (json!({"type": "number"}), "num"),
            (json!({"type": "boolean"}), "bool"),
            (json!({"type": "object", "properties": {"a": {}}}), "obj"),
            (json!({"properties": {"a": {}}}), "obj"),
            (json!({"type": "array", "items": {"type": "object"}}), "obj[]"),
            (json!({"type": "array"}), "any[]"),
            (json!({"type": ["string", "null"]}), "str"),
            (json!({"type": ["string", "integer"]}), "any"),
            (json!({"anyOf": [{"type": "string"}, {"type": "null"}]}), "str"),
            (json!({"anyOf": [{"type": "string"}, {"type": "integer"}]}), "any"),
            (json!({"type": "string", "enum": ["open", "closed"]}), "open|closed"),
            (json!({"type": "string", "enum": ["open", "closed", null]}), "open|closed"),
            (json!({"type": "string", "enum": ["1", "2", "3", "4", "5", "6"]}), "str"),
            (json!({"type": "string", "enum": ["a b"]}), "str"),
            (json!({"type": "array", "items": {"enum": ["a", "b"]}}), "(a|b)[]"),
            (json!({"const": 3}), "3"),
            (json!({"type": "string", "enum": []}), "str"),
            (json!(true), "any"),
            (json!({"$ref": "#/properties/other"}), "int"),
            (json!({"$ref": "#/nowhere"}), "any"),
            (json!({"$ref": "#/properties/a"}), "any"),
        ] {
            let line = of(&json!({"a": schema, "other": {"type": "integer"}}), &["a"]);
            assert_eq!(line, format!("f(a:{expected}, other?:int)"), "{schema}");
        }
    }

    #[test]
    fn odd_and_hostile_schemas_give_a_short_line() {
        for schema in [json!(null), json!([]), json!({"properties": [], "required": {}}), json!({"properties": {}})] {
            assert_eq!(signature("f", &schema), "f()");
        }
        assert_eq!(signature("f", &json!({"required": ["x", "x"]})), "f(x:any)");
        let wide: Map<String, Value> = (0..5_000).map(|n| (format!("{n}{}", "n".repeat(900)), json!({}))).collect();
        assert!(of(&json!(wide), &[]).len() < 700);
        assert!(of(&json!(wide), &[]).contains(&format!("+{}", COUNT - 4)));
        let mut deep = json!({"type": "string"});
        for _ in 0..100 {
            deep = json!({"type": "array", "items": deep});
        }
        assert_eq!(of(&json!({"a": deep}), &[]), "f(a?:any[][][][])");
        assert_eq!(of(&json!({"a\n\u{202e}b": {}}), &[]), "f(a b?:any)");
    }

    proptest! {
        #[test]
        fn a_signature_is_one_bounded_line(names in proptest::collection::vec(".{0,80}", 0..40), kind in ".{0,20}") {
            let properties: Map<String, Value> = names.iter().map(|name| (name.clone(), json!({"type": kind}))).collect();
            let line = signature("f", &json!({"properties": properties, "required": names}));
            prop_assert!(!line.contains(char::is_control) && line.chars().count() < 1_000);
        }
    }
}
