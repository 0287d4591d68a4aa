//! The schema that tools give.

use proptest::prelude::*;

use super::super::input::InputPlan;
use super::super::reads::Fields;
use super::super::schema::schema_of;
use super::*;

/// JSON of any shape, with a liking for what schemas are made of.
fn anything() -> impl Strategy<Value = Value> {
    let word = prop_oneof![
        Just("type".to_owned()),
        Just("properties".to_owned()),
        Just("items".to_owned()),
        Just("required".to_owned()),
        Just("anyOf".to_owned()),
        Just("oneOf".to_owned()),
        Just("$ref".to_owned()),
        Just("enum".to_owned()),
        Just("additionalProperties".to_owned()),
        Just("__entity".to_owned()),
        Just("a\"::b".to_owned()),
        ".{0,6}",
    ];
    let leaf = prop_oneof![
        Just(json!(null)),
        any::<bool>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        Just(json!(false)),
        prop_oneof![
            Just("object"),
            Just("string"),
            Just("integer"),
            Just("number"),
            Just("array"),
            Just("null"),
            Just("boolean"),
            Just("#"),
            Just("#/properties/a")
        ]
        .prop_map(Value::from),
        ".{0,6}".prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 96, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((word.clone(), inner.clone()), 0..6)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
            prop::collection::vec((word.clone(), inner), 0..6).prop_map(|members| {
                let properties: Value = Value::Object(members.into_iter().collect());
                json!({ "type": "object", "properties": properties, "additionalProperties": false })
            }),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn every_input_schema_gives_a_schema_that_cedar_takes(schema in anything(), label in ".{0,12}:.{1,12}") {
        let plan = InputPlan::of(&schema);
        prop_assert!(schema_of(&label, Risk::Write, &plan, &[("x:y", None), ("x:\"z", Some(Risk::Read))]).is_ok());
    }

    #[test]
    fn no_arguments_break_the_input(schema in anything(), arguments in anything()) {
        let plan = InputPlan::of(&schema);
        let value = plan.value(Some(&arguments), &Fields::All);
        // What nobody reads is held to the same.
        prop_assert_eq!(value.is_ok(), plan.value(Some(&arguments), &Fields::default()).is_ok());
        if let Ok(value) = value {
            // Whatever the plan lets through, Cedar takes.
            let pairs = [("input".to_owned(), value)];
            prop_assert!(cedar_policy::Context::from_pairs(pairs).is_ok());
        }
    }
}

#[test]
fn hostile_schemas_cost_little() {
    let wide: serde_json::Map<String, Value> =
        (0..20_000).map(|n| (format!("p{n}"), json!({ "type": "string" }))).collect();
    let required: Vec<String> = (0..20_000).map(|n| format!("p{n}")).collect();
    let plan = InputPlan::of(&json!({ "properties": wide, "required": required }));
    assert!(schema_of("a:b", Risk::Read, &plan, &[]).is_ok());
    assert_eq!(plan.left_out.len(), 1);
    let round = json!({ "properties": { "a": { "$ref": "#" }, "b": { "$ref": "#/properties/b" } } });
    assert!(InputPlan::of(&round).left_out.len() == 2);
    let tree = json!({ "$defs": { "t": { "type": "object", "additionalProperties": false, "properties": {
        "l": { "$ref": "#/$defs/t" }, "r": { "$ref": "#/$defs/t" } } } }, "properties": { "t": { "$ref": "#/$defs/t" } } });
    assert!(schema_of("a:b", Risk::Read, &InputPlan::of(&tree), &[]).is_ok());
}

#[test]
fn names_hold_any_characters() {
    let label = "a:we\"ird :: näme & \\ {}";
    let schema = json!({ "properties": { "da\"sh-ed :: x": { "type": "string" } } });
    let tools = [tool_with(label, Risk::Read, schema, ToolSettings::default())];
    let text = format!(
        r#"permit(principal, action == Toolgate::Action::{label:?}, resource == Toolgate::Tool::{label:?})
           when {{ context.input has "da\"sh-ed :: x" && context.input["da\"sh-ed :: x"] == "y" }};"#
    );
    let judgement =
        world(&text, &tools).judge(&agent("x", &[]), &tools[0], Some(&json!({ "da\"sh-ed :: x": "y" })), &FACTS);
    assert_eq!(judgement.verdict.as_str(), "allow");
}
