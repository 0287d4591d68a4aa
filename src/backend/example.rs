//! Arguments as they were probably meant: types mended, names corrected, what is missing filled in.

use serde_json::{Map, Value, json};

use super::validator::nearest;

/// How deep a schema is followed; what lies deeper is left as it is.
const MAX_DEPTH: usize = 12;

/// The arguments mended where the schema shows how. Whether the outcome fits is for the caller to check.
pub(crate) fn corrected(schema: &Value, arguments: &Value) -> Option<Value> {
    Mend { root: schema }.mend(schema, arguments, "value", 0)
}

/// What a local reference (`#`, `#/$defs/x`) points at.
pub(crate) fn target<'a>(root: &'a Value, reference: &str) -> Option<&'a Value> {
    let pointer = reference.strip_prefix('#')?;
    let pointer = percent_encoding::percent_decode_str(pointer).decode_utf8().ok()?;
    root.pointer(&pointer)
}

struct Mend<'a> {
    root: &'a Value,
}

impl<'a> Mend<'a> {
    fn mend(&self, schema: &'a Value, value: &Value, name: &str, depth: usize) -> Option<Value> {
        if depth > MAX_DEPTH {
            return Some(value.clone());
        }
        let schema = self.plain(schema)?;
        if let Some(only) = schema.get("const") {
            return Some(only.clone());
        }
        if let Some(options) = schema.get("enum").and_then(Value::as_array) {
            return Some(if options.contains(value) { value.clone() } else { choose(options, value)?.clone() });
        }
        let Some(types) = types(schema) else { return Some(value.clone()) };
        if types.iter().any(|kind| is_of(value, kind)) {
            return match value {
                Value::Object(given) => self.object(schema, given, depth),
                Value::Array(items) => self.array(schema, items, name, depth),
                Value::Number(number) => Some(bounded(schema, number.clone().into())),
                other => Some(other.clone()),
            };
        }
        let coerced = types.iter().find_map(|kind| self.coerce(schema, value, kind, name, depth));
        coerced.or_else(|| self.placeholder(schema, name, depth))
    }

    /// The schema behind references and, of alternatives, the first that is not null.
    fn plain(&self, mut schema: &'a Value) -> Option<&'a Value> {
        for _ in 0..MAX_DEPTH {
            if let Some(reference) = schema.get("$ref").and_then(Value::as_str) {
                schema = target(self.root, reference)?;
                continue;
            }
            let alternatives = schema.get("anyOf").or_else(|| schema.get("oneOf")).and_then(Value::as_array);
            match alternatives {
                Some(alternatives) if schema.get("properties").is_none() => {
                    let not_null = |one: &&Value| one.get("type").and_then(Value::as_str) != Some("null");
                    schema = alternatives.iter().find(not_null)?;
                }
                _ => return Some(schema),
            }
        }
        None
    }

    fn object(&self, schema: &'a Value, given: &Map<String, Value>, depth: usize) -> Option<Value> {
        let properties = schema.get("properties").and_then(Value::as_object);
        let property = |name: &str| properties.and_then(|properties| properties.get(name));
        let closed = matches!(
            schema.get("additionalProperties").or_else(|| schema.get("unevaluatedProperties")),
            Some(Value::Bool(false))
        );
        let required: Vec<&str> = schema
            .get("required")
            .and_then(Value::as_array)
            .map_or_else(Vec::new, |names| names.iter().filter_map(Value::as_str).collect());
        let mut out = Map::new();
        for (name, value) in given {
            if let Some(schema) = property(name) {
                out.insert(name.clone(), self.mend(schema, value, name, depth + 1)?);
                continue;
            }
            let free = properties.into_iter().flat_map(Map::keys).map(String::as_str);
            let free = free.filter(|other| !given.contains_key(*other));
            match nearest(name, free.filter(|other| closed || required.contains(other))) {
                Some(meant) => {
                    let mended = self.mend(property(meant)?, value, meant, depth + 1)?;
                    out.insert(meant.to_owned(), mended);
                }
                None if closed => {}
                None => {
                    out.insert(name.clone(), value.clone());
                }
            }
        }
        for name in required {
            if !out.contains_key(name) {
                let value = property(name).map_or_else(
                    || Some(json!(format!("<{name}>"))),
                    |schema| self.placeholder(schema, name, depth + 1),
                );
                out.insert(name.to_owned(), value?);
            }
        }
        Some(Value::Object(out))
    }

    fn array(&self, schema: &'a Value, items: &[Value], name: &str, depth: usize) -> Option<Value> {
        let Some(each) = schema.get("items") else { return Some(Value::Array(items.to_vec())) };
        items
            .iter()
            .map(|item| self.mend(each, item, name, depth + 1))
            .collect::<Option<Vec<Value>>>()
            .map(Value::Array)
    }

    /// The value as another type, where nothing is lost.
    fn coerce(&self, schema: &'a Value, value: &Value, kind: &str, name: &str, depth: usize) -> Option<Value> {
        let mended = match (kind, value) {
            ("integer", Value::String(text)) => Value::from(text.trim().parse::<i64>().ok()?),
            ("integer", Value::Number(number)) => {
                let whole = number.as_f64().filter(|n| n.fract() == 0.0 && n.abs() < 9e15)?;
                Value::from(format!("{whole:.0}").parse::<i64>().ok()?)
            }
            ("number", Value::String(text)) => json!(text.trim().parse::<f64>().ok().filter(|n| n.is_finite())?),
            ("boolean", Value::String(text)) => match text.trim().to_ascii_lowercase().as_str() {
                "true" | "yes" | "1" => json!(true),
                "false" | "no" | "0" => json!(false),
                _ => return None,
            },
            ("string", Value::Number(_) | Value::Bool(_)) => json!(value.to_string()),
            ("array", Value::Null) => return None,
            ("array", Value::String(text)) if text.trim_start().starts_with('[') => {
                let items: Vec<Value> = serde_json::from_str(text).ok()?;
                return self.array(schema, &items, name, depth + 1);
            }
            ("array", one) => return self.array(schema, std::slice::from_ref(one), name, depth + 1),
            ("object", Value::String(text)) => {
                let members: Map<String, Value> = serde_json::from_str(text).ok()?;
                return self.object(schema, &members, depth + 1);
            }
            _ => return None,
        };
        Some(bounded(schema, mended))
    }

    /// Something of the right kind where nothing was given.
    fn placeholder(&self, schema: &'a Value, name: &str, depth: usize) -> Option<Value> {
        if depth > MAX_DEPTH {
            return None;
        }
        let given = |schema: &Value| {
            let first =
                |key: &str| schema.get(key).and_then(Value::as_array).and_then(|values| values.first()).cloned();
            schema
                .get("default")
                .or_else(|| schema.get("const"))
                .cloned()
                .or_else(|| first("enum"))
                .or_else(|| first("examples"))
        };
        if let Some(value) = given(schema) {
            return Some(value);
        }
        let schema = self.plain(schema)?;
        if let Some(value) = given(schema) {
            return Some(value);
        }
        let kinds = types(schema).unwrap_or_default();
        Some(match kinds.first().copied() {
            Some("integer" | "number") => bounded(schema, json!(1)),
            Some("boolean") => json!(false),
            Some("null") => Value::Null,
            Some("array") => {
                let count = schema.get("minItems").and_then(Value::as_u64).unwrap_or(0).min(3);
                let item = |_| {
                    schema.get("items").map_or(Some(json!("<item>")), |each| self.placeholder(each, name, depth + 1))
                };
                Value::Array((0..count).map(item).collect::<Option<_>>()?)
            }
            Some("object") => self.object(schema, &Map::new(), depth)?,
            _ if schema.get("properties").is_some() => self.object(schema, &Map::new(), depth)?,
            _ => json!(match schema.get("format").and_then(Value::as_str) {
                Some("date") => String::from("2026-01-31"),
                Some("date-time") => String::from("2026-01-31T12:00:00Z"),
                Some("time") => String::from("12:00:00Z"),
                Some("email") => String::from("name@example.com"),
                Some("uri" | "url") => String::from("https://example.com"),
                Some("uuid") => String::from("00000000-0000-4000-8000-000000000000"),
                _ => format!("<{name}>"),
            }),
        })
    }
}

fn types(schema: &Value) -> Option<Vec<&str>> {
    match schema.get("type") {
        Some(Value::String(one)) => Some(vec![one]),
        Some(Value::Array(many)) => Some(many.iter().filter_map(Value::as_str).collect()),
        _ if schema.get("properties").is_some() => Some(vec!["object"]),
        _ => None,
    }
}

fn is_of(value: &Value, kind: &str) -> bool {
    match value {
        Value::Null => kind == "null",
        Value::Bool(_) => kind == "boolean",
        Value::Number(number) => kind == "number" || (kind == "integer" && !number.is_f64()),
        Value::String(_) => kind == "string",
        Value::Array(_) => kind == "array",
        Value::Object(_) => kind == "object",
    }
}

/// A number moved inside `minimum` and `maximum`.
fn bounded(schema: &Value, value: Value) -> Value {
    let Some(number) = value.as_f64() else { return value };
    let limit = |key: &str| schema.get(key).filter(|limit| limit.is_number());
    match (limit("minimum"), limit("maximum")) {
        (Some(least), _) if least.as_f64().is_some_and(|least| number < least) => least.clone(),
        (_, Some(most)) if most.as_f64().is_some_and(|most| number > most) => most.clone(),
        _ => value,
    }
}

/// The option that was most likely meant, else the first.
fn choose<'v>(options: &'v [Value], value: &Value) -> Option<&'v Value> {
    let text = match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let names = options.iter().filter_map(Value::as_str);
    let meant = nearest(&text, names).and_then(|name| options.iter().find(|option| option.as_str() == Some(name)));
    meant.or_else(|| options.iter().find(|option| option.to_string() == text)).or_else(|| options.first())
}
