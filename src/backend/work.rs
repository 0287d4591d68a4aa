//! How much work it would be to hold a value against a schema: a schema that refers to itself in more than one way can
//! make it double with every level of the value.

use serde_json::Value;

use super::validator::in_place;

/// Pairs of a schema and a value that a check may look at: some milliseconds.
const MAX_STEPS: u32 = 50_000;

/// Whether the value can be checked in reasonable time, looking at every pair that a validator might look at.
pub(super) fn is_bearable(schema: &Value, value: &Value) -> bool {
    let mut steps = MAX_STEPS;
    walk(schema, schema, value, &mut steps)
}

/// False once the steps are used up. The depth is that of the value, and in place that of the schema, both bounded.
fn walk(root: &Value, schema: &Value, value: &Value, steps: &mut u32) -> bool {
    let Some(left) = steps.checked_sub(1) else { return false };
    *steps = left;
    if !in_place(root, schema).into_iter().all(|inner| walk(root, inner, value, steps)) {
        return false;
    }
    let below = |name: &str| schema.get(name);
    match value {
        Value::Object(members) => members.iter().all(|(name, member)| {
            let patterns = below("patternProperties").and_then(Value::as_object);
            let own = below("properties").and_then(|properties| properties.get(name));
            let rest = [own, below("additionalProperties"), below("unevaluatedProperties")];
            let applying =
                rest.into_iter().flatten().chain(patterns.into_iter().flat_map(|patterns| patterns.values()));
            applying.into_iter().all(|schema| walk(root, schema, member, steps))
        }),
        Value::Array(items) => items.iter().enumerate().all(|(at, item)| {
            let own = below("prefixItems").and_then(|prefix| prefix.get(at));
            let rest = [own, below("items"), below("contains"), below("unevaluatedItems")];
            rest.into_iter().flatten().all(|schema| walk(root, schema, item, steps))
        }),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn nested(depth: usize) -> Value {
        (0..depth).fold(json!({}), |inner, _| json!({"a": inner}))
    }

    #[test]
    fn work_that_doubles_with_every_level_is_refused_and_honest_recursion_is_not() {
        let doubling = json!({"type": "object", "properties": {"a": {"allOf": [{"$ref": "#"}, {"$ref": "#"}]}}});
        assert!(is_bearable(&doubling, &nested(8)));
        assert!(!is_bearable(&doubling, &nested(45)));
        let honest = json!({"type": "object", "properties": {"a": {"$ref": "#"}}});
        assert!(is_bearable(&honest, &nested(60)));
        let filter = json!({"anyOf": [
            {"properties": {"and": {"items": {"$ref": "#"}}}, "required": ["and"]},
            {"properties": {"or": {"items": {"$ref": "#"}}}, "required": ["or"]},
            {"properties": {"equals": {"type": "string"}}},
        ]});
        let given = (0..12)
            .fold(json!({"equals": "x"}), |inner, at| json!({(if at % 2 == 0 { "and" } else { "or" }): [inner]}));
        assert!(is_bearable(&filter, &given));
    }
}
