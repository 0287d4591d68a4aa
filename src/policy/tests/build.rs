//! From policies and tools to a snapshot.

use super::*;
use crate::domain::decision::Verdict;

const READER: &str = r#"@id("short") permit(principal, action == Toolgate::Action::"a:b", resource)
when { context.input has name && context.input.name like "x*" };"#;

fn report(text: &str, tools: &[Arc<Tool>]) -> Report {
    check(&bundle(text), tools)
}

#[test]
fn faults_say_where_what_and_what_to_do() {
    let tools = [tool_taking("a:b", "name", &json!({ "type": "string" })), tool("github:list_repos", Risk::Read)];
    let text = r#"@id("one") permit(principal, action, resource)
  when { principal.rols.contains("x") };
@id("two") permit(principal, action == Toolgate::Action::"a:b", resource) when { context.input.name == "x" };
@id("three") permit(principal, action == Toolgate::Action::"a:b", resource) when { context.input has name && context.input.name > 3 };
@id("four") permit(principal is Toolgate::Agnet, action, resource);
@id("five") permit(principal, action, resource) when { Toolgate::Tool::"a:b".read_only };
@id("six") permit(principal, action, resource) when { context.inputs has x };
@id("seven") @mode("shadow") permit(principal, action, resource) when { resource.tags == [] };"#;
    let report = report(text, &tools);
    assert!(!report.acceptable);
    insta::assert_snapshot!(lines(&report.faults), @r##"
    p.cedar:2:10: attribute `rols` on entity type `Toolgate::Agent` not found (did you mean `roles`?)
    p.cedar:3:82: unable to guarantee safety of access to optional attribute `context.input.name` (try testing for the attribute's presence with `context.input has name && ..`)
    p.cedar:4:110: unexpected type: expected Long but saw String
    p.cedar:5:33: unrecognized entity type `Toolgate::Agnet` (did you mean `Toolgate::Agent`?)
    p.cedar:6:56: entity literals cannot be dereferenced at any level
    p.cedar:7:55: attribute `context.inputs` not found (and for 1 more tool) (did you mean `input`?)
    p.cedar:8:90: empty set literals are forbidden in policies
    "##);
}

#[test]
fn a_policy_for_a_tool_never_seen_waits() {
    let tools = [tool("github:list_repos", Risk::Read)];
    let text = r#"@id("a") permit(principal, action == Toolgate::Action::"github:list_repo", resource);
permit(principal, action, resource in Toolgate::Server::"gihub");
permit(principal, action, resource == Toolgate::Tool::"db:zap") when { context.input.x == 1 };
@id("all") permit(principal, action, resource);"#;
    let report = report(text, &tools);
    assert!(report.acceptable);
    insta::assert_snapshot!(lines(&report.warnings), @r##"
    p.cedar:1:56: pending: no tool `github:list_repo` has been seen (did you mean `github:list_repos`?)
    p.cedar:2:57: pending: no server `gihub` has been seen (did you mean `github`?)
    p.cedar:3:55: pending: no tool `db:zap` has been seen (the policy waits; a tool of this name is withheld until the policy fits it)
    "##);
    // When the tool comes and the policy does not fit it, the tool is withheld, not the bundle.
    let bundle = bundle(text);
    let (before, _) = Policies::build(&bundle, &tools, None);
    let late = [Arc::clone(&tools[0]), tool("db:zap", Risk::Read)];
    let (after, report) = Policies::build(&bundle, &late, Some(&before));
    assert!(report.acceptable);
    insta::assert_snapshot!(lines(&report.faults), @"p.cedar:3:72: attribute `context.input.x` not found");
    let judgement = after.judge(&agent("x", &[]), &late[1], None, &FACTS);
    insta::assert_snapshot!(told(&judgement), @"deny (policy_error): p.cedar#3; the policy `p.cedar#3` does not fit this tool, so nobody may call it until one of them is put right: attribute `context.input.x` not found (p.cedar:3)");
    assert_eq!(after.judge(&agent("x", &[]), &late[0], None, &FACTS).verdict, Verdict::Allow);
    assert!(!after.could_permit(&agent("x", &[]), &late[1]));
}

#[test]
fn drift_withholds_the_tool_and_a_new_bundle_must_fit() {
    let bundle = bundle(READER);
    let old = [tool_taking("a:b", "name", &json!({ "type": "string" }))];
    let (before, report) = Policies::build(&bundle, &old, None);
    assert!(report.acceptable && report.withheld.is_empty());
    let drifted = [tool_taking("a:b", "name", &json!({ "type": "integer" }))];
    let (_, report) = Policies::build(&bundle, &drifted, Some(&before));
    assert!(report.acceptable);
    assert_eq!(report.withheld.len(), 1);
    let (_, report) = Policies::build(&bundle, &drifted, None);
    assert!(!report.acceptable);
    // Back to the old definition, and the tool is back.
    let (after, report) = Policies::build(before.bundle(), &old, Some(&before));
    assert!(report.withheld.is_empty());
    let name = json!({ "name": "xyz" });
    assert_eq!(after.judge(&agent("x", &[]), &old[0], Some(&name), &FACTS).verdict, Verdict::Allow);
}

#[test]
fn a_shadow_policy_that_does_not_fit_withholds_nothing() {
    let tools = [tool("a:b", Risk::Read)];
    let text = format!("@mode(\"shadow\") {READER} @id(\"all\") permit(principal, action, resource);")
        .replace("context.input has name && ", "");
    let (policies, report) = Policies::build(&bundle(&text), &tools, None);
    assert_eq!((report.faults.len(), report.withheld.len(), report.acceptable), (1, 0, false));
    let judgement = policies.judge(&agent("x", &[]), &tools[0], None, &FACTS);
    assert_eq!(told(&judgement), "allow: all; `all` permits `a:b`");
}

#[test]
fn arguments_that_policies_cannot_read_are_told() {
    let schema = json!({ "type": "object", "properties": {
        "open": { "type": "object" }, "mixed": { "type": "array" }, "one": { "oneOf": [{}, {}, {}] },
        "far": { "$ref": "https://example.com" }, "any": {}, "fine": { "type": "string" },
    } });
    let tools = [tool_with("a:b", Risk::Read, schema, ToolSettings::default())];
    let report = report("", &tools);
    let mut told: Vec<_> =
        report.left_out.iter().map(|left| format!("{} {}: {}", left.tool, left.path, left.why)).collect();
    told.sort();
    insta::assert_snapshot!(told.join("\n"), @r##"
    a:b /any: no type
    a:b /far: a reference to elsewhere
    a:b /mixed: an array without a type
    a:b /one: a choice of types
    a:b /open: an open object
    "##);
    let reads = super::lines(
        &check(&bundle(r#"permit(principal, action, resource) when { context.input.any == 1 };"#), &tools).faults,
    );
    insta::assert_snapshot!(reads, @"p.cedar:1:44: attribute `context.input.any` not found (`/any` is not in `context.input`: no type)");
}

#[test]
fn one_fault_on_many_tools_is_one_line() {
    let tools: Vec<_> = (0..30).map(|n| tool(&format!("a:t{n}"), Risk::Read)).collect();
    let report = report("permit(principal, action, resource) when { context.input.x };", &tools);
    assert_eq!(lines(&report.faults), "p.cedar:1:44: attribute `context.input.x` not found (and for 29 more tools)");
}
