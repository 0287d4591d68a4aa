//! Arguments against a tool's input schema: faults that an agent can act on, and an example that would fit.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};

use jsonschema::error::{TypeKind, ValidationErrorKind};
use jsonschema::{PatternOptions, ValidationError, Validator};
use serde_json::Value;

use super::{example, work};
use crate::domain::outcome::SchemaFault;

/// Most faults that are told of.
const MAX_FAULTS: usize = 10;
/// Longest piece of a value or schema in a fault's text, in characters.
const MAX_SHOWN: usize = 60;
/// Steps that a pattern with look-around may take on one value.
const BACKTRACK_LIMIT: usize = 50_000;

/// A compiled input schema, or why there is none.
#[derive(Debug)]
pub(crate) enum Checker {
    Ready(Box<Validator>),
    Unusable(String),
}

impl Checker {
    /// Compiles a schema (draft 2020-12 unless it says otherwise). Nothing is fetched: a `$ref` to another document
    /// makes the schema unusable. Patterns run in linear time where they can.
    pub(crate) fn compile(schema: &Value) -> Self {
        if let Err(why) = check_refs(schema) {
            return Self::Unusable(why);
        }
        // Schemas are hostile input to a library of some size: should one make it panic, it stays that tool's trouble.
        catch_unwind(AssertUnwindSafe(|| Self::build(schema)))
            .unwrap_or_else(|_| Self::Unusable(String::from("it cannot be compiled")))
    }

    fn build(schema: &Value) -> Self {
        let linear = jsonschema::options()
            .offline()
            .with_pattern_options(PatternOptions::regex().size_limit(1 << 20))
            .build(schema);
        let built = linear.or_else(|_| {
            jsonschema::options()
                .offline()
                .with_pattern_options(PatternOptions::fancy_regex().backtrack_limit(BACKTRACK_LIMIT))
                .build(schema)
        });
        match built {
            Ok(validator) => Self::Ready(Box::new(validator)),
            Err(error) => Self::Unusable(format!("{} at `{}`", shorten(&error.to_string()), error.instance_path())),
        }
    }

    /// Checks arguments; gives at most ten faults.
    pub(crate) fn check(&self, schema: &Value, arguments: &Value) -> Result<(), Vec<SchemaFault>> {
        let validator = match self {
            Self::Ready(validator) => validator,
            Self::Unusable(why) => {
                let expected = format!("the tool's own schema cannot be used, so nothing is sent: {why}");
                return Err(vec![SchemaFault { path: String::new(), expected }]);
            }
        };
        if !work::is_bearable(schema, arguments) {
            let expected =
                "less nesting: the tool's schema refers to itself in so many ways that this cannot be checked".into();
            return Err(vec![SchemaFault { path: String::new(), expected }]);
        }
        if validator.is_valid(arguments) {
            return Ok(());
        }
        let mut faults = Vec::new();
        for error in validator.iter_errors(arguments).take(MAX_FAULTS) {
            explain(&error, schema, &mut faults);
        }
        faults.truncate(MAX_FAULTS);
        Err(faults)
    }

    /// The arguments corrected, if that gives something that fits.
    pub(crate) fn example(&self, schema: &Value, arguments: &Value) -> Option<Value> {
        let Self::Ready(validator) = self else { return None };
        if !work::is_bearable(schema, arguments) {
            return None;
        }
        let example = example::corrected(schema, arguments)?;
        (validator.is_valid(&example) && example != *arguments).then_some(example)
    }
}

/// Holds any value against any schema, within the bounds that the schemas of tools have.
///
/// # Errors
/// What does not fit; that the schema cannot be used.
pub fn fits(schema: &Value, value: &Value) -> Result<(), Vec<SchemaFault>> {
    match Checker::compile(schema) {
        Checker::Unusable(why) => {
            let expected = format!("a schema that can be used: {why}");
            Err(vec![SchemaFault { path: String::new(), expected }])
        }
        checker => checker.check(schema, value),
    }
}

/// Refuses references to other documents, and schemas that could keep a validator busy for ever with one value.
fn check_refs(schema: &Value) -> Result<(), String> {
    let mut weights = HashMap::new();
    let mut rest = vec![schema];
    while let Some(value) = rest.pop() {
        match value {
            Value::Object(members) => {
                for key in ["$ref", "$dynamicRef", "$recursiveRef"] {
                    if let Some(Value::String(target)) = members.get(key)
                        && !target.starts_with('#')
                    {
                        return Err(format!("`{key}` to `{}` is not followed", shorten(target)));
                    }
                }
                // What cannot be followed here cannot be weighed: `#name` and what is resolved as it runs.
                let anchored = |key: &str| {
                    members.get(key).and_then(Value::as_str).is_some_and(|to| to.len() > 1 && !to.starts_with("#/"))
                };
                if anchored("$ref") || anchored("$dynamicRef") || anchored("$recursiveRef") {
                    return Err("references by anchor are not followed".into());
                }
                weight(schema, value, &mut weights, 0)?;
                rest.extend(members.values());
            }
            Value::Array(items) => rest.extend(items),
            _ => {}
        }
    }
    Ok(())
}

/// Keywords whose subschemas look at the very value that the schema itself looks at.
const IN_PLACE: [&str; 8] = ["allOf", "anyOf", "oneOf", "not", "if", "then", "else", "dependentSchemas"];
/// Schemas that one value may have to be held against, and how many may refer to each other in a row.
const MAX_WEIGHT: u32 = 2000;
const MAX_CHAIN: usize = 64;

/// How many schemas a value is held against where it is held against `schema`. `None` in `known`: being counted.
fn weight(
    root: &Value,
    schema: &Value,
    known: &mut HashMap<*const Value, Option<u32>>,
    chain: usize,
) -> Result<u32, String> {
    match known.get(&std::ptr::from_ref(schema)) {
        Some(Some(weight)) => return Ok(*weight),
        Some(None) => return Err(String::from("a `$ref` leads back to itself")),
        None if chain > MAX_CHAIN => return Err(String::from("too many schemas refer to each other in a row")),
        None => {}
    }
    known.insert(std::ptr::from_ref(schema), None);
    let mut sum = 1_u32;
    for inner in in_place(root, schema) {
        sum = sum.saturating_add(weight(root, inner, known, chain + 1)?);
    }
    if sum > MAX_WEIGHT {
        return Err(format!("a value would be held against more than {MAX_WEIGHT} schemas"));
    }
    known.insert(std::ptr::from_ref(schema), Some(sum));
    Ok(sum)
}

/// The schemas that hold for the same value as `schema`.
pub(super) fn in_place<'a>(root: &'a Value, schema: &'a Value) -> Vec<&'a Value> {
    let mut found = Vec::new();
    if let Some(target) = schema.get("$ref").and_then(Value::as_str) {
        found.extend(example::target(root, target));
    }
    for key in IN_PLACE {
        match schema.get(key) {
            Some(Value::Array(items)) => found.extend(items),
            Some(Value::Object(members)) if key == "dependentSchemas" => found.extend(members.values()),
            Some(inner @ Value::Object(_)) => found.push(inner),
            _ => {}
        }
    }
    found
}

/// Puts one error into words; some are several faults.
fn explain(error: &ValidationError<'_>, schema: &Value, faults: &mut Vec<SchemaFault>) {
    let path = error.instance_path().as_str().to_owned();
    match error.kind() {
        ValidationErrorKind::AdditionalProperties { unexpected }
        | ValidationErrorKind::UnevaluatedProperties { unexpected } => {
            let known = known_members(schema, error.schema_path().as_str());
            for name in unexpected.iter().take(MAX_FAULTS) {
                faults.push(SchemaFault { path: path.clone(), expected: unknown_member(name, &known) });
            }
        }
        ValidationErrorKind::AnyOf { context } | ValidationErrorKind::OneOfNotValid { context } => {
            // The alternative with the fewest faults is the one that was meant.
            let meant = context.iter().filter(|branch| !branch.is_empty()).min_by_key(|branch| branch.len());
            match meant.and_then(|branch| branch.first()) {
                Some(first) => {
                    let mut inner = Vec::new();
                    explain(first, schema, &mut inner);
                    for fault in inner.into_iter().take(1) {
                        let expected =
                            format!("none of {} alternatives fits; nearest: {}", context.len(), fault.expected);
                        faults.push(SchemaFault { path: fault.path, expected });
                    }
                }
                None => faults.push(SchemaFault { path, expected: String::from("none of the alternatives fits") }),
            }
        }
        kind => faults.push(SchemaFault { path, expected: expectation(kind, error.instance()) }),
    }
}

fn expectation(kind: &ValidationErrorKind, value: &Value) -> String {
    let got = || format!("got {}", describe(value));
    match kind {
        ValidationErrorKind::Type { kind: TypeKind::Single(one) } => format!("expected {one}, {}", got()),
        ValidationErrorKind::Type { kind: TypeKind::Multiple(many) } => {
            let types: Vec<String> = many.iter().map(|one| one.to_string()).collect();
            format!("expected {}, {}", types.join(" or "), got())
        }
        ValidationErrorKind::Required { property } => {
            format!("`{}` is required", property.as_str().map_or_else(|| property.to_string(), shorten))
        }
        ValidationErrorKind::Enum { options } => {
            let options = options.as_array().map(Vec::as_slice).unwrap_or_default();
            let shown: Vec<String> = options.iter().take(10).map(|option| shorten(&option.to_string())).collect();
            let more = if options.len() > 10 { ", …" } else { "" };
            format!("expected one of {}{more}, {}", shown.join(", "), got())
        }
        ValidationErrorKind::Constant { expected_value } => {
            format!("expected {}, {}", shorten(&expected_value.to_string()), got())
        }
        ValidationErrorKind::Minimum { limit } => format!("expected at least {limit}, {}", got()),
        ValidationErrorKind::Maximum { limit } => format!("expected at most {limit}, {}", got()),
        ValidationErrorKind::ExclusiveMinimum { limit } => format!("expected more than {limit}, {}", got()),
        ValidationErrorKind::ExclusiveMaximum { limit } => format!("expected less than {limit}, {}", got()),
        ValidationErrorKind::MultipleOf { multiple_of } => format!("expected a multiple of {multiple_of}, {}", got()),
        ValidationErrorKind::MinLength { limit } => format!("expected at least {limit} characters"),
        ValidationErrorKind::MaxLength { limit } => format!("expected at most {limit} characters"),
        ValidationErrorKind::MinItems { limit } => format!("expected at least {limit} items"),
        ValidationErrorKind::MaxItems { limit } => format!("expected at most {limit} items"),
        ValidationErrorKind::AdditionalItems { limit } => format!("expected at most {limit} items"),
        ValidationErrorKind::MinProperties { limit } => format!("expected at least {limit} members"),
        ValidationErrorKind::MaxProperties { limit } => format!("expected at most {limit} members"),
        ValidationErrorKind::UniqueItems => String::from("expected items that differ from each other"),
        ValidationErrorKind::Pattern { pattern } => {
            format!("expected text that matches `{}`, {}", shorten(pattern), got())
        }
        ValidationErrorKind::Format { format } => format!("expected the format `{format}`, {}", got()),
        ValidationErrorKind::FalseSchema => String::from("nothing is allowed here"),
        ValidationErrorKind::OneOfMultipleValid { .. } => {
            String::from("more than one alternative fits; exactly one may")
        }
        ValidationErrorKind::PropertyNames { error } => {
            format!("a member's name is not allowed: {}", shorten(&error.to_string()))
        }
        other => format!("does not satisfy `{}`", other.keyword()),
    }
}

/// The names that stand in `properties` beside the keyword which refused a member.
fn known_members<'a>(schema: &'a Value, keyword_path: &str) -> Vec<&'a str> {
    let parent = keyword_path.rsplit_once('/').map_or("", |(parent, _)| parent);
    let properties = schema.pointer(parent).and_then(|schema| schema.get("properties")).and_then(Value::as_object);
    properties.map(|members| members.keys().map(String::as_str).collect()).unwrap_or_default()
}

fn unknown_member(name: &str, known: &[&str]) -> String {
    let mut text = format!("unknown member `{}`", shorten(name));
    if let Some(meant) = nearest(name, known.iter().copied()) {
        let written = write!(text, "; did you mean `{}`?", shorten(meant));
        debug_assert!(written.is_ok(), "writing to a string");
    }
    text
}

/// The name that was most likely meant, if one is near enough.
pub(crate) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    if name.len() > 200 {
        return None;
    }
    let folded = |text: &str| text.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_lowercase();
    let wanted = folded(name);
    known
        .map(|other| {
            let near = strsim::normalized_damerau_levenshtein(name, other);
            (if folded(other) == wanted { 1.0 } else { near }, other)
        })
        .filter(|(near, _)| *near >= 0.6)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, other)| other)
}

/// A value's type and, where it is short, the value.
fn describe(value: &Value) -> String {
    match value {
        Value::Null => String::from("null"),
        Value::Bool(flag) => format!("boolean {flag}"),
        Value::Number(number) => format!("number {}", shorten(&number.to_string())),
        Value::String(text) => format!("string {}", shorten(&Value::from(text.as_str()).to_string())),
        Value::Array(items) => format!("an array of {}", items.len()),
        Value::Object(_) => String::from("an object"),
    }
}

fn shorten(text: &str) -> String {
    let mut short: String = text.chars().take(MAX_SHOWN).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if short.len() < text.len() && text.chars().nth(MAX_SHOWN).is_some() {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn faults(schema: &Value, arguments: &Value) -> Vec<(String, String)> {
        let checker = Checker::compile(schema);
        let found = checker.check(schema, arguments).err().unwrap_or_default();
        found.into_iter().map(|fault| (fault.path, fault.expected)).collect()
    }

    fn issue() -> Value {
        json!({"type":"object","additionalProperties":false,"required":["repo","title"],"properties":{
            "repo":{"type":"string"}, "title":{"type":"string"}, "limit":{"type":"integer","minimum":1},
            "state":{"enum":["open","closed"]}, "labels":{"type":"array","items":{"type":"string"}},
            "when":{"type":"object","required":["day"],"properties":{"day":{"type":"string","format":"date"}}}}})
    }

    #[test]
    fn faults_say_where_and_what_to_do() {
        let given = json!({"repo":"a","titel":"b","limit":"five","state":"opened","labels":[1]});
        let mut found = faults(&issue(), &given);
        found.sort();
        let expected = [
            ("", "`title` is required"),
            ("", "unknown member `titel`; did you mean `title`?"),
            ("/labels/0", "expected string, got number 1"),
            ("/limit", "expected integer, got string \"five\""),
            ("/state", "expected one of \"open\", \"closed\", got string \"opened\""),
        ];
        assert_eq!(found, expected.map(|(path, text)| (path.to_owned(), text.to_owned())));
        assert!(faults(&issue(), &json!({"repo":"a","title":"b"})).is_empty());
        assert_eq!(faults(&issue(), &json!({})).len(), 2);
    }

    #[test]
    fn faults_are_few_and_short() {
        let many: serde_json::Map<String, Value> =
            (0..100).map(|n| (format!("x{n}{}", "y".repeat(300)), json!(1))).collect();
        let found = faults(&issue(), &Value::Object(many));
        assert_eq!(found.len(), MAX_FAULTS);
        assert!(found.iter().all(|(_, text)| text.len() < 300));
    }

    #[test]
    fn alternatives_are_explained_by_the_nearest() {
        let schema = json!({"properties":{"a":{"anyOf":[{"type":"integer"},{"type":"null"}]}}});
        let found = faults(&schema, &json!({"a":"x"}));
        assert!(found[0].1.starts_with("none of 2 alternatives fits"), "{found:?}");
    }

    #[test]
    fn schemas_that_reach_out_or_never_end_are_unusable() {
        for schema in [
            json!({"$ref":"https://example.com/x.json"}),
            json!({"properties":{"a":{"$ref":"file:///etc/passwd"}}}),
            json!({"properties":{"a":{"$ref":"other.json"}}}),
            json!({"$ref":"#"}),
            json!({"anyOf":[{"$ref":"#"},{"$ref":"#"}]}),
            json!({"$defs":{"a":{"allOf":[{"$ref":"#/$defs/b"}]},"b":{"$ref":"#/$defs/a"}},"properties":{"x":{"$ref":"#/$defs/a"}}}),
            json!({"$ref":"#/$defs/nowhere"}),
            json!({"properties":{"a":{"type":"no such type"}}}),
            json!({"properties":{"a":{"pattern":"("}}}),
        ] {
            assert!(matches!(Checker::compile(&schema), Checker::Unusable(_)), "{schema}");
            assert_eq!(faults(&schema, &json!({})).len(), 1, "fails closed");
        }
    }

    #[test]
    fn schemas_that_multiply_are_unusable_and_long_chains_do_no_harm() {
        let link = |n: usize, of: &dyn Fn(Value) -> Value| {
            (format!("l{n}"), of(json!({"$ref": format!("#/$defs/l{}", n + 1)})))
        };
        let chain = |count: usize, of: &dyn Fn(Value) -> Value| {
            let mut defs: serde_json::Map<String, Value> = (0..count).map(|n| link(n, of)).collect();
            defs.insert(format!("l{count}"), json!({"type": "integer"}));
            json!({"properties": {"a": {"$ref": "#/$defs/l0"}}, "$defs": defs})
        };
        let doubled = chain(60, &|next| json!({"anyOf": [next.clone(), next]}));
        assert!(matches!(Checker::compile(&doubled), Checker::Unusable(_)));
        let row = chain(3000, &|next| next);
        assert!(matches!(Checker::compile(&row), Checker::Unusable(_)));
        let deep = chain(3000, &|next| json!({"properties": {"x": next}}));
        assert_eq!(faults(&deep, &json!({"a": {"x": {"x": 1}}})), []);
        let few = chain(5, &|next| json!({"anyOf": [next.clone(), next]}));
        assert_eq!(faults(&few, &json!({"a": 1})), []);
    }

    #[test]
    fn recursive_schemas_that_descend_are_fine() {
        let schema = json!({"properties":{"child":{"$ref":"#"},"n":{"type":"integer"}}});
        assert!(faults(&schema, &json!({"child":{"child":{"n":1}}})).is_empty());
        assert_eq!(faults(&schema, &json!({"child":{"child":{"n":"1"}}}))[0].0, "/child/child/n");
    }

    #[test]
    fn patterns_with_look_around_work_and_are_bounded() {
        let schema = json!({"properties":{"a":{"type":"string","pattern":"^(?=.*x)(a+)+$"}}});
        assert!(!faults(&schema, &json!({"a": format!("{}!", "a".repeat(5000))})).is_empty());
    }

    #[test]
    fn corrected_examples_fit() {
        let schema = issue();
        let checker = Checker::compile(&schema);
        let given = json!({"repo":"a","titel":"b","limit":"5","state":"Open","labels":"bug","extra":1,"when":{}});
        let example = checker.example(&schema, &given).unwrap();
        assert_eq!(example["title"], "b");
        assert_eq!(example["limit"], 5);
        assert_eq!(example["state"], "open");
        assert_eq!(example["labels"], json!(["bug"]));
        assert!(example.get("extra").is_none() && example.get("titel").is_none());
        assert!(checker.check(&schema, &example).is_ok());
        assert_eq!(checker.example(&schema, &json!({})).unwrap(), json!({"repo":"<repo>","title":"<title>"}));
        let impossible =
            json!({"type":"object","required":["a"],"properties":{"a":{"type":"string","pattern":"^[0-9]{12}$"}}});
        assert_eq!(Checker::compile(&impossible).example(&impossible, &json!({})), None);
    }

    proptest! {
        #[test]
        fn an_example_always_fits(limit in prop::option::of("[0-9a-z]{1,3}"), name in "[a-z]{1,8}", min in 0..9) {
            let schema = json!({"type":"object","additionalProperties":false,"required":["limit","repo"],"properties":{
                "repo":{"type":"string"},"limit":{"type":"integer","minimum":min}}});
            let mut given = json!({name: 1});
            if let Some(limit) = limit {
                given["limit"] = json!(limit);
            }
            let checker = Checker::compile(&schema);
            if let Some(example) = checker.example(&schema, &given) {
                prop_assert!(checker.check(&schema, &example).is_ok());
            }
        }
    }
}
