//! The words of an input schema: names and descriptions of parameters, to a bounded depth and number.

use serde_json::Value;

/// Levels of nesting that are read; an array of objects takes two.
const DEPTH: usize = 6;
/// Parameters of one tool that are read, over all levels.
const COUNT: usize = 256;
/// Bytes of one description that are read.
const DESCRIPTION_BYTES: usize = 1_024;

/// What is read of a schema.
#[derive(Debug, Clone, Copy)]
pub(super) enum Part<'a> {
    Name(&'a str),
    Description(&'a str),
}

/// Calls `each` with the name and description of every parameter, outer ones first.
pub(super) fn read<'a>(schema: &'a Value, mut each: impl FnMut(Part<'a>)) {
    let mut level = vec![schema];
    let mut left = COUNT;
    for _ in 0..DEPTH {
        let mut next = Vec::new();
        for schema in level {
            for (name, parameter) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
                if left == 0 {
                    return;
                }
                left -= 1;
                each(Part::Name(name));
                if let Some(text) = parameter.get("description").and_then(Value::as_str) {
                    each(Part::Description(truncate(text, DESCRIPTION_BYTES)));
                }
                next.push(parameter);
            }
            if next.len() < COUNT {
                next.extend(schema.get("items"));
                next.extend(
                    ["anyOf", "oneOf", "allOf"]
                        .iter()
                        .filter_map(|key| schema.get(key)?.as_array())
                        .flatten()
                        .take(COUNT),
                );
            }
        }
        level = next;
    }
}

/// The longest start of `text` of at most `bytes` bytes that is whole characters.
pub(super) fn truncate(text: &str, bytes: usize) -> &str {
    text.get(..text.floor_char_boundary(bytes)).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{COUNT, Part, read};

    fn names(schema: &Value) -> Vec<&str> {
        let mut names = Vec::new();
        read(schema, |part| {
            if let Part::Name(name) = part {
                names.push(name);
            }
        });
        names
    }

    #[test]
    fn nested_parameters_are_read() {
        let schema = json!({"properties": {
            "a": {"properties": {"b": {}}},
            "c": {"type": "array", "items": {"properties": {"d": {"description": "x"}}}},
            "e": {"anyOf": [{"properties": {"f": {}}}, 3]},
        }});
        let mut found = names(&schema);
        found.sort_unstable();
        assert_eq!(found, ["a", "b", "c", "d", "e", "f"]);
    }

    #[test]
    fn hostile_schemas_are_cut_short() {
        let wide: serde_json::Map<_, _> = (0..5_000).map(|n| (n.to_string(), json!({}))).collect();
        assert_eq!(names(&json!({"properties": wide})).len(), COUNT);
        let mut deep = json!({});
        for _ in 0..100 {
            deep = json!({"properties": {"x": deep}});
        }
        assert_eq!(names(&deep).len(), 6);
        for odd in [json!(null), json!([1]), json!({"properties": 3}), json!({"properties": {"a": null}, "items": [1]})]
        {
            assert!(names(&odd).len() <= 1);
        }
    }
}
