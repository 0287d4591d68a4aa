//! Slicing, settled scopes and partial contexts are short cuts: here Cedar judges the same calls the long way round.

use cedar_policy::{Authorizer, Context, Decision, Entities, EntityUid, PolicySet, Request};
use proptest::prelude::*;

use super::visible::policy;
use super::*;
use crate::domain::decision::Verdict;

fn uid(kind: &str, id: &str) -> EntityUid {
    EntityUid::from_json(json!({ "type": format!("Toolgate::{kind}"), "id": id })).unwrap()
}

/// What Cedar says with every policy, entity and part of the context before it; None where a policy fails.
fn the_long_way(policies: &str, who: &Principal, tool: &Tool, input: &Value, facts: &Facts<'_>) -> Option<bool> {
    let entity = |kind: &str, id: &str, attributes: Value, parents: Value| json!({ "uid": { "type": format!("Toolgate::{kind}"), "id": id }, "attrs": attributes, "parents": parents });
    let parent = |kind: &str, id: &str| json!({ "type": format!("Toolgate::{kind}"), "id": id });
    let roles: Vec<Value> = who.roles.iter().map(|role| parent("Role", role)).collect();
    let action = |id: &str, parents: Value| entity("Action", id, json!({}), parents);
    let (kind, called) = match tool.kind {
        Kind::Tool => ("Tool", &*tool.label),
        Kind::Prompt => ("Prompt", "read"),
        Kind::Resource => ("Resource", "read"),
        Kind::Entity => ("Entity", "read"),
    };
    let mut attributes = json!({ "name": &*tool.id.tool, "read_only": tool.risk == Risk::Read });
    if tool.kind == Kind::Resource {
        attributes["uri"] = json!(&*tool.id.tool);
        attributes["scheme"] = json!(tool.id.tool.split(':').next());
    }
    let mut parents = vec![parent("Server", tool.id.server.as_str())];
    if let (Kind::Entity, (of, field)) = (tool.kind, tool.label.split_once('.').unwrap_or((&tool.label, ""))) {
        attributes["type"] = json!(of);
        if !field.is_empty() {
            attributes["field"] = json!(field);
            parents.push(parent("Entity", of));
        }
    }
    let entities = json!([
        entity("Agent", &who.agent, json!({ "agent": &*who.agent, "roles": who.roles }), json!(roles)),
        entity(kind, &tool.label, attributes, json!(parents)),
        action("a:b", json!([parent("Action", "read")])),
        action("a:c", json!([parent("Action", "write")])),
        action("read", json!([parent("Action", "call")])),
        action("write", json!([parent("Action", "call")])),
    ]);
    let context = json!({
        "input": if tool.kind == Kind::Tool { input.clone() } else { json!({}) },
        "effects": facts.effects,
        "surface": facts.surface.as_str(),
        "time": { "__extn": { "fn": "datetime", "arg": facts.now.rfc3339() } },
        "source_ip": { "__extn": { "fn": "ip", "arg": "10.0.0.1" } },
    });
    let request = Request::new(
        uid("Agent", &who.agent),
        uid("Action", called),
        uid(kind, &tool.label),
        Context::from_json_value(context, None).unwrap(),
        None,
    );
    let set: PolicySet = policies.parse().unwrap();
    let entities = Entities::from_json_value(entities, None).unwrap();
    let response = Authorizer::new().is_authorized(&request.unwrap(), &set, &entities);
    response.diagnostics().errors().next().is_none().then_some(response.decision() == Decision::Allow)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn the_short_cuts_change_no_verdict(texts in prop::collection::vec(policy(), 1..6)) {
        let text = texts.concat();
        let schema = json!({ "properties": { "n": { "type": "integer" } } });
        let tools = [
            tool_with("a:b", Risk::Read, schema.clone(), ToolSettings::default()),
            tool_with("a:c", Risk::Write, schema, ToolSettings::default()),
        ];
        let (policies, report) = Policies::build(&bundle(&text), &tools, None);
        prop_assert!(report.faults.is_empty(), "{}", lines(&report.faults));
        let entities = [("b", None), ("b", Some("n")), ("c", Some("n"))].map(|(of, field)| Arc::new(Tool::entity(of, field)));
        let readables = [prompt("a:b"), prompt("b:b"), resource("a:file:///b"), resource("a:x"), resource("b:file:///b")];
        for who in [agent("x", &["audit"]), agent("y", &["writer"])] {
            for tool in tools.iter().chain(&readables).chain(&entities) {
                for (effects, input, surface, now) in [
                    (&[][..], json!({}), Surface::Search, -1),
                    (&["sql.drop"], json!({ "n": 2 }), Surface::Both, 0),
                    (&["sql.read"], json!({ "n": i64::MAX }), Surface::Both, 1_700_000_000_000),
                ] {
                    let facts = Facts { effects, surface, now: Moment(now), source: Some([10, 0, 0, 1].into()) };
                    let judgement = policies.judge(&who, tool, Some(&input), &facts);
                    let expected = the_long_way(&text, &who, tool, &input, &facts);
                    prop_assert_eq!(judgement.verdict != Verdict::Deny, expected == Some(true), "{}", told(&judgement));
                    prop_assert_eq!(judgement.code == Some("policy_error"), expected.is_none(), "{}", told(&judgement));
                }
            }
        }
    }
}
