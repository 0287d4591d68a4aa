//! Prompts and resources: judged by the same policies, with a vocabulary of their own.

use super::*;
use crate::domain::decision::Verdict;

const ALL: &str = r#"@id("all") permit(principal, action, resource);"#;

fn judge(policies: &Policies, what: &Tool) -> String {
    let judgement = policies.judge(&agent("x", &[]), what, None, &FACTS);
    let rules: Vec<&str> = judgement.rules.iter().map(|rule| &*rule.id).collect();
    format!("{} {}", judgement.verdict.as_str(), rules.join(" ")).trim().to_owned()
}

#[test]
fn the_shipped_policies_open_them_but_for_sql_that_drops() {
    let policies = shipped(&[]);
    for what in [prompt("a:write_mail"), resource("a:file:///etc/passwd"), resource("a:")] {
        for roles in [&[][..], &["writer"]] {
            let judgement = policies.judge(&agent("x", roles), &what, None, &FACTS);
            assert_eq!(told(&judgement), "allow: default-allow-read; tools that only read are open to every agent");
            let judgement = policies.judge(&agent("x", roles), &what, None, &Facts { effects: &["sql.drop"], ..FACTS });
            assert_eq!((judgement.verdict, judgement.policy()), (Verdict::Deny, "block-sql-drop"));
        }
        assert!(policies.could_permit(&agent("x", &[]), &what));
    }
    let nothing = world("", &[]);
    assert_eq!(
        told(&nothing.judge(&agent("x", &[]), &prompt("a:b"), None, &FACTS)),
        "deny (default_deny): ; no policy permits `a:b` to `x`: ask for a role or a policy that does"
    );
    assert!(!nothing.could_permit(&agent("x", &[]), &prompt("a:b")));
}

#[test]
fn a_scope_names_what_it_is_about() {
    let things = [
        prompt("docs:summary"),
        prompt("db:summary"),
        resource("docs:file:///a"),
        resource("docs:memo:a"),
        resource("db:file:///a"),
    ];
    let tools = [tool("docs:summary", Risk::Read)];
    for (scope, denied) in [
        ("action, resource", [true, true, true, true, true, true]),
        ("action in Toolgate::Action::\"read\", resource", [true, true, true, true, true, true]),
        ("action in Toolgate::Action::\"call\", resource", [true, true, true, true, true, true]),
        ("action in Toolgate::Action::\"write\", resource", [false, false, false, false, false, false]),
        ("action == Toolgate::Action::\"docs:summary\", resource", [false, false, false, false, false, true]),
        ("action, resource is Toolgate::Tool", [false, false, false, false, false, true]),
        ("action, resource is Toolgate::Prompt", [true, true, false, false, false, false]),
        ("action, resource is Toolgate::Resource", [false, false, true, true, true, false]),
        ("action, resource in Toolgate::Server::\"docs\"", [true, false, true, true, false, true]),
        (
            "action, resource is Toolgate::Resource in Toolgate::Server::\"docs\"",
            [false, false, true, true, false, false],
        ),
        ("action, resource == Toolgate::Resource::\"docs:file:///a\"", [false, false, true, false, false, false]),
        ("action, resource in Toolgate::Resource::\"docs:memo:a\"", [false, false, false, true, false, false]),
        ("action, resource == Toolgate::Prompt::\"docs:summary\"", [true, false, false, false, false, false]),
        ("action, resource == Toolgate::Tool::\"docs:summary\"", [false, false, false, false, false, true]),
    ] {
        let text = format!("{ALL} @id(\"no\") forbid(principal, {scope});");
        let (policies, report) = Policies::build(&bundle(&text), &tools, None);
        assert_eq!(lines(&report.faults), "", "{scope}");
        let found: Vec<bool> = things.iter().chain(&tools).map(|what| judge(&policies, what) == "deny no").collect();
        assert_eq!(found, denied, "{scope}");
        let hidden: Vec<bool> =
            things.iter().chain(&tools).map(|what| !policies.could_permit(&agent("x", &[]), what)).collect();
        assert_eq!(hidden, denied, "a certain forbid hides: {scope}");
    }
}

#[test]
fn a_condition_reads_the_uri_and_what_is_true_of_all_that_reads() {
    let policies = world(
        r#"@id("all") permit(principal, action, resource);
           @id("files") forbid(principal, action, resource is Toolgate::Resource)
             when { resource.scheme == "file" && !(resource.uri like "file:///srv/*") };
           @id("internal") forbid(principal, action, resource is Toolgate::Prompt)
             when { resource.name like "internal.*" && resource.server == "docs" };
           @id("flags") forbid(principal, action, resource)
             unless { resource.read_only && resource.idempotent && !resource.destructive && !resource.tags.contains("x") };
           @id("network") forbid(principal, action, resource) when { context.effects.contains("url.private_network") };
           @id("input") forbid(principal, action, resource) when { context.input has n && context.input.n > 3 };"#,
        &[],
    );
    for (what, expected) in [
        (resource("docs:file:///srv/a"), "allow all"),
        (resource("docs:FILE:///etc/a"), "deny files"),
        (resource("docs:memo://a"), "allow all"),
        (resource("docs:no scheme"), "allow all"),
        (prompt("docs:internal.x"), "deny internal"),
        (prompt("db:internal.x"), "allow all"),
    ] {
        assert_eq!(judge(&policies, &what), expected, "{}", what.label);
    }
    let effects = &["url.private_network"];
    let judgement =
        policies.judge(&agent("x", &[]), &prompt("a:b"), Some(&json!({"n": 7})), &Facts { effects, ..FACTS });
    assert_eq!(judgement.policy(), "network");
}

#[test]
fn approval_shadow_and_errors_are_as_with_tools() {
    let policies = world(
        r#"@id("ask") @requires("approval") permit(principal, action in Toolgate::Action::"read", resource is Toolgate::Resource);
           @id("watched") @mode("shadow") forbid(principal, action, resource == Toolgate::Resource::"a:x:y");
           @id("sum") permit(principal, action, resource is Toolgate::Prompt)
             when { principal.agent == "x" || 9223372036854775807 + 1 > 2 };"#,
        &[],
    );
    let told_of = |who: &str, what: &Tool| told(&policies.judge(&agent(who, &[]), what, None, &FACTS));
    assert_eq!(
        told_of("x", &resource("a:x:z")),
        "approval: ask; `ask` permits `a:x:z` once a person has approved this call"
    );
    assert_eq!(
        told_of("x", &resource("a:x:y")),
        "approval: ask [watched]; `ask` permits `a:x:y` once a person has approved this call"
    );
    let judgement = policies.judge(&agent("x", &[]), &resource("a:x:y"), None, &FACTS);
    assert_eq!(judgement.shadow, Some(Verdict::Deny));
    assert_eq!(told_of("x", &prompt("a:b")), "allow: sum; `sum` permits `a:b`");
    assert!(told_of("y", &prompt("a:b")).starts_with("deny (policy_error): sum; "), "{}", told_of("y", &prompt("a:b")));
}

#[test]
fn a_policy_that_does_not_fit_withholds_them_and_says_what_to_write() {
    let required = json!({ "type": "object", "properties": { "n": { "type": "integer" } }, "required": ["n"] });
    let tools = [tool_with("a:b", Risk::Read, required, ToolSettings::default())];
    let build = |text: &str| Policies::build(&bundle(text), &tools, None);
    let reader = "permit(principal, action, resource{}) when { context.input.n > 3 };";
    let (policies, report) = build(&format!("{ALL} {}", reader.replace("{}", "")));
    insta::assert_snapshot!(lines(&report.faults), @"p.cedar:1:92: attribute `context.input.n` not found (a prompt or a resource has nothing in `context.input`: write `resource is Toolgate::Tool` where only tools are meant)");
    assert!(!report.acceptable);
    let judgement = policies.judge(&agent("x", &[]), &resource("a:x:y"), None, &FACTS);
    insta::assert_snapshot!(told(&judgement), @"deny (policy_error): p.cedar#2; the policy `p.cedar#2` does not fit prompts and resources, so nobody may read them until it is put right: attribute `context.input.n` not found (p.cedar:1)");
    assert!(!policies.could_permit(&agent("x", &[]), &prompt("a:b")));
    let called = policies.judge(&agent("x", &[]), &tools[0], Some(&json!({"n": 1})), &FACTS);
    assert_eq!(called.verdict, Verdict::Allow, "the tool that it fits is not withheld");

    // Of one server: the others go on.
    let (policies, report) = build(&format!("{ALL} {}", reader.replace("{}", " in Toolgate::Server::\"a\"")));
    assert_eq!(report.withheld.iter().map(|(what, _)| &**what).collect::<Vec<_>>(), ["a: prompts", "a: resources"]);
    assert!(judge(&policies, &resource("a:x:y")).starts_with("deny"));
    assert_eq!(judge(&policies, &resource("b:x:y")), "allow all");

    let (policies, report) = build(&format!("{ALL} {}", reader.replace("{}", " is Toolgate::Tool")));
    assert!(report.acceptable, "{report:?}");
    assert_eq!(judge(&policies, &resource("a:x:y")), "allow all");

    let (_, report) = build("forbid(principal, action, resource is Toolgate::Prompt) when { resource.uri == \"x\" };");
    insta::assert_snapshot!(lines(&report.faults), @"p.cedar:1:64: attribute `uri` on entity type `Toolgate::Prompt` not found (did you mean `name`?)");
}

#[test]
fn the_next_build_takes_over_what_was_checked() {
    let text = "permit(principal, action, resource) when { context.input has n };";
    let (first, _) = Policies::build(&bundle(text), &[], None);
    let (second, report) = Policies::build(&bundle(text), &[tool("a:b", Risk::Read)], Some(&first));
    assert!(report.acceptable && report.withheld.is_empty(), "{report:?}");
    assert_eq!(judge(&second, &prompt("a:b")), "deny");
}
