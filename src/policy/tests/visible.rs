//! What lists may show.

use proptest::prelude::*;

use super::*;
use crate::domain::decision::Verdict;

#[test]
fn what_policy_can_never_permit_is_not_shown() {
    let tools = [tool("db:query", Risk::Read), tool("db:execute", Risk::Write), tool("db:wipe", Risk::Destructive)];
    let policies = shipped(&tools);
    let shown =
        |roles: &[&str]| tools.iter().map(|tool| policies.could_permit(&agent("a", roles), tool)).collect::<Vec<_>>();
    for _ in 0..2 {
        assert_eq!(shown(&[]), [true, false, false]);
        assert_eq!(shown(&["writer"]), [true, true, true]);
    }
}

#[test]
fn a_forbid_that_depends_on_the_call_hides_nothing_and_a_certain_one_hides() {
    let tools = [tool("a:b", Risk::Read), tool("a:c", Risk::Read)];
    let policies = world(
        r#"permit(principal, action, resource) when { principal.agent == "x" && context.surface == "both" };
           forbid(principal, action, resource) when { resource.name == "c" } unless { principal.user == "root" };
           forbid(principal, action, resource) when { context.effects.contains("sql.drop") };
           @mode("shadow") forbid(principal, action, resource);"#,
        &tools,
    );
    let shown = |who: &str| tools.iter().map(|tool| policies.could_permit(&agent(who, &[]), tool)).collect::<Vec<_>>();
    assert_eq!(shown("x"), [true, false]);
    assert_eq!(shown("y"), [false, false]);
}

#[test]
fn roles_show_to_their_holders_alone() {
    let settings = ToolSettings { allowed_roles: Some(vec!["finance".into()]), ..ToolSettings::default() };
    let tools = [tool_with("a:b", Risk::Write, json!({}), settings)];
    let show = |text: &str, roles: &[&str]| world(text, &tools).could_permit(&agent("x", roles), &tools[0]);
    assert!(show("", &["finance"]));
    assert!(!show("permit(principal, action, resource);", &["writer"]));
    assert!(!show("forbid(principal, action, resource);", &["finance"]));
}

fn condition() -> impl Strategy<Value = String> {
    let leaf = prop::sample::select(vec![
        "true",
        "false",
        "principal.agent == \"x\"",
        "principal in Toolgate::Role::\"writer\"",
        "principal.roles.contains(\"audit\")",
        "resource.read_only",
        "resource.name == \"b\"",
        "action in Toolgate::Action::\"write\"",
        "context.effects.contains(\"sql.drop\")",
        "context.surface == \"both\"",
        "context has source_ip",
        "context.input has n",
        "resource is Toolgate::Prompt",
        "(resource is Toolgate::Resource && resource.scheme == \"file\")",
        "(resource has uri && resource.uri like \"*b\")",
        "(context.input has n && context.input.n * 3 > 7)",
        "context.time < datetime(\"2000-01-01\")",
        "(9223372036854775807 + 1 == 2)",
    ])
    .prop_map(str::to_owned);
    leaf.prop_recursive(3, 12, 2, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(one, other)| format!("({one} && {other})")),
            (inner.clone(), inner.clone()).prop_map(|(one, other)| format!("({one} || {other})")),
            inner.clone().prop_map(|one| format!("!({one})")),
            (inner.clone(), inner.clone(), inner).prop_map(|(a, b, c)| format!("(if {a} then {b} else {c})")),
        ]
    })
}

pub(super) fn policy() -> impl Strategy<Value = String> {
    let clause = (prop::sample::select(vec!["when", "unless"]), condition());
    (
        prop::sample::select(vec!["permit", "@requires(\"approval\") permit", "forbid"]),
        prop::sample::select(vec![
            "principal",
            "principal in Toolgate::Role::\"writer\"",
            "principal == Toolgate::Agent::\"x\"",
        ]),
        prop::sample::select(vec![
            "action",
            "action in Toolgate::Action::\"read\"",
            "action == Toolgate::Action::\"a:c\"",
        ]),
        prop::sample::select(vec![
            "resource",
            "resource in Toolgate::Server::\"a\"",
            "resource == Toolgate::Tool::\"a:b\"",
            "resource is Toolgate::Tool",
            "resource is Toolgate::Resource",
            "resource is Toolgate::Prompt in Toolgate::Server::\"a\"",
            "resource == Toolgate::Resource::\"a:file:///b\"",
            "resource in Toolgate::Prompt::\"a:b\"",
            "resource in Toolgate::Entity::\"b\"",
            "resource == Toolgate::Entity::\"b.n\"",
            "resource is Toolgate::Entity in Toolgate::Server::\"toolgate\"",
        ]),
        prop::collection::vec(clause, 0..3),
    )
        .prop_map(|(effect, principal, action, resource, clauses)| {
            let clauses: String = clauses.iter().map(|(word, text)| format!(" {word} {{ {text} }}")).collect();
            format!("{effect}({principal}, {action}, {resource}){clauses};\n")
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn nothing_that_could_be_allowed_is_hidden(policies in prop::collection::vec(policy(), 1..5)) {
        let schema = json!({ "properties": { "n": { "type": "integer" } } });
        let roles = ToolSettings { allowed_roles: Some(vec!["audit".into()]), ..ToolSettings::default() };
        let tools = [
            tool_with("a:b", Risk::Read, schema.clone(), ToolSettings::default()),
            tool_with("a:c", Risk::Write, schema.clone(), ToolSettings::default()),
            tool_with("b:d", Risk::Write, schema, roles),
        ];
        let (policies, _) = Policies::build(&bundle(&policies.concat()), &tools, None);
        let entity = Arc::new(Tool::entity("b", Some("n")));
        let readables = [prompt("a:b"), resource("a:file:///b"), resource("b:x:c"), entity];
        for who in [agent("x", &[]), agent("y", &["writer"]), agent("z", &["audit"])] {
            for tool in tools.iter().chain(&readables) {
                let shown = policies.could_permit(&who, tool);
                for effects in [&[][..], &["sql.drop"]] {
                    for (n, surface, now) in [(json!({}), Surface::Search, -1), (json!({ "n": 1 }), Surface::Both, 0), (json!({ "n": i64::MAX }), Surface::Both, 1_700_000_000_000), (json!({ "n": 7 }), Surface::Auto, 5)] {
                        let facts = Facts { effects, surface, now: Moment(now), source: Some([10, 0, 0, 1].into()) };
                        let judgement = policies.judge(&who, tool, Some(&n), &facts);
                        prop_assert!(shown || judgement.verdict == Verdict::Deny, "{}", told(&judgement));
                    }
                }
            }
        }
    }
}
