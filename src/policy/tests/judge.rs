//! The one judgement.

use std::net::IpAddr;

use super::*;
use crate::domain::decision::{PolicyEffect, Verdict};

const ALL: &str = r#"@id("all") permit(principal, action, resource);"#;

#[test]
fn the_shipped_policies_do_what_they_say() {
    let tools = [tool("db:query", Risk::Read), tool("db:execute", Risk::Write), tool("db:wipe", Risk::Destructive)];
    let policies = shipped(&tools);
    let mut table = String::new();
    for tool in &tools {
        for (who, roles) in [("nobody", &[][..]), ("writer", &["writer"])] {
            for effects in [&[][..], &["sql.drop"], &["sql.truncate"], &["sql.unparsed"]] {
                let judgement = policies.judge(&agent("a", roles), tool, None, &Facts { effects, ..FACTS });
                table += &format!("{} {who} {effects:?} {}\n", tool.label, told(&judgement));
            }
        }
    }
    insta::assert_snapshot!(table, @r##"
    db:query nobody [] allow: default-allow-read; tools that only read are open to every agent
    db:query nobody ["sql.drop"] deny: block-sql-drop; SQL that drops or truncates is blocked: use another statement, or ask a person to run it
    db:query nobody ["sql.truncate"] deny: block-sql-drop; SQL that drops or truncates is blocked: use another statement, or ask a person to run it
    db:query nobody ["sql.unparsed"] allow: default-allow-read; tools that only read are open to every agent
    db:query writer [] allow: default-allow-read; tools that only read are open to every agent
    db:query writer ["sql.drop"] deny: block-sql-drop; SQL that drops or truncates is blocked: use another statement, or ask a person to run it
    db:query writer ["sql.truncate"] deny: block-sql-drop; SQL that drops or truncates is blocked: use another statement, or ask a person to run it
    db:query writer ["sql.unparsed"] allow: default-allow-read; tools that only read are open to every agent
    db:execute nobody [] deny (default_deny): ; no policy permits `db:execute` to `a`: ask for a role or a policy that does
    db:execute nobody ["sql.drop"] deny: block-sql-drop; SQL that drops or truncates is blocked: use another statement, or ask a person to run it
    db:execute nobody ["sql.truncate"] deny: block-sql-drop; SQL that drops or truncates is blocked: use another statement, or ask a person to run it
    db:execute nobody ["sql.unparsed"] deny: block-sql-drop; SQL that drops or truncates is blocked: use another statement, or ask a person to run it
    db:execute writer [] allow: allow-write-to-writers; holders of the role writer may change things
    db:execute writer ["sql.drop"] deny: block-sql-drop; SQL that drops or truncates is blocked: use another statement, or ask a person to run it
    db:execute writer ["sql.truncate"] deny: block-sql-drop; SQL that drops or truncates is blocked: use another statement, or ask a person to run it
    db:execute writer ["sql.unparsed"] deny: block-sql-drop; SQL that drops or truncates is blocked: use another statement, or ask a person to run it
    db:wipe nobody [] deny (default_deny): ; no policy permits `db:wipe` to `a`: ask for a role or a policy that does
    db:wipe nobody ["sql.drop"] deny: block-sql-drop; SQL that drops or truncates is blocked: use another statement, or ask a person to run it
    db:wipe nobody ["sql.truncate"] deny: block-sql-drop; SQL that drops or truncates is blocked: use another statement, or ask a person to run it
    db:wipe nobody ["sql.unparsed"] deny: block-sql-drop; SQL that drops or truncates is blocked: use another statement, or ask a person to run it
    db:wipe writer [] approval: destructive-needs-approval; destructive tools run once a person has approved the call
    db:wipe writer ["sql.drop"] deny: block-sql-drop; SQL that drops or truncates is blocked: use another statement, or ask a person to run it
    db:wipe writer ["sql.truncate"] deny: block-sql-drop; SQL that drops or truncates is blocked: use another statement, or ask a person to run it
    db:wipe writer ["sql.unparsed"] deny: block-sql-drop; SQL that drops or truncates is blocked: use another statement, or ask a person to run it
    "##);
}

#[test]
fn a_forbid_wins_and_comes_first() {
    let tools = [tool("a:b", Risk::Read)];
    let policies = world(
        &format!(
            r#"{ALL} @id("no") @reason("because") forbid(principal, action, resource); @id("no too") forbid(principal, action == Toolgate::Action::"a:b", resource in Toolgate::Server::"a");"#
        ),
        &tools,
    );
    let judgement = policies.judge(&agent("x", &[]), &tools[0], None, &FACTS);
    assert_eq!(told(&judgement), "deny: no no too; because");
    assert_eq!((judgement.policy(), judgement.rules[0].line), ("no", Some(1)));
    assert_eq!(judgement.policy_version, *policies.bundle().version());
}

#[test]
fn nothing_that_permits_is_a_deny() {
    let tools = [tool("a:b", Risk::Read), tool("a:c", Risk::Write)];
    let policies = world(r#"permit(principal, action in Toolgate::Action::"write", resource);"#, &tools);
    let judgement = policies.judge(&agent("x", &[]), &tools[0], None, &FACTS);
    assert_eq!(
        told(&judgement),
        "deny (default_deny): ; no policy permits `a:b` to `x`: ask for a role or a policy that does"
    );
    assert_eq!(judgement.policy(), "default-deny");
    let judgement = policies.judge(&agent("x", &[]), &tools[1], None, &FACTS);
    assert_eq!(told(&judgement), "allow: p.cedar#1; `p.cedar#1` permits `a:c`");
}

#[test]
fn approval_is_asked_only_where_every_permit_asks() {
    let tools = [tool("a:b", Risk::Read)];
    let ask = r#"@id("ask") @requires("approval") permit(principal, action, resource);"#;
    let judge = |text: &str| told(&world(text, &tools).judge(&agent("x", &[]), &tools[0], None, &FACTS));
    assert_eq!(judge(ask), "approval: ask; `ask` permits `a:b` once a person has approved this call");
    assert_eq!(judge(&format!("{ask} {ALL}")), "allow: all; `all` permits `a:b`");
}

#[test]
fn roles_permit_their_holders_and_forbid_everybody_else() {
    let roles = |names: &[&str]| ToolSettings {
        allowed_roles: Some(names.iter().map(|name| Arc::from(*name)).collect()),
        ..ToolSettings::default()
    };
    let open = json!({ "type": "object" });
    let tools = [
        tool_with("a:b", Risk::Write, open.clone(), roles(&["finance", "audit"])),
        tool_with("a:none", Risk::Write, open, roles(&[])),
    ];
    let judge =
        |text: &str, who: &Principal, tool: usize| told(&world(text, &tools).judge(who, &tools[tool], None, &FACTS));
    let (holder, other) = (agent("h", &["audit"]), agent("o", &["writer"]));
    let forbid = r#"@id("no") forbid(principal, action, resource);"#;
    assert_eq!(judge("", &holder, 0), "allow: roles:a:b; `roles:a:b` permits `a:b`");
    assert_eq!(judge(ALL, &holder, 0), "allow: roles:a:b all; `roles:a:b` permits `a:b`");
    assert_eq!(
        judge(forbid, &holder, 0),
        "deny: no; `no` forbids `a:b`: change what you ask for, or ask who keeps the policy"
    );
    assert_eq!(judge(ALL, &other, 0), "deny: roles:a:b; `a:b` needs one of the roles `finance`, `audit`: ask for one");
    assert_eq!(judge(ALL, &holder, 1), "deny: roles:a:none; `a:none` is open to no role");
}

#[test]
fn an_error_denies_even_where_another_policy_permits() {
    let tools = [tool_taking("a:b", "n", &json!({ "type": "integer" }))];
    let text = format!(
        r#"{ALL} @id("sum") forbid(principal, action, resource) when {{ context.input has n && context.input.n * 2 > 10 }};"#
    );
    let policies = world(&text, &tools);
    let judge = |value: Value| told(&policies.judge(&agent("x", &[]), &tools[0], Some(&value), &FACTS));
    assert_eq!(judge(json!({ "n": 1 })), "allow: all; `all` permits `a:b`");
    assert_eq!(
        judge(json!({ "n": 6 })),
        "deny: sum; `sum` forbids `a:b`: change what you ask for, or ask who keeps the policy"
    );
    insta::assert_snapshot!(judge(json!({ "n": i64::MAX })), @"deny (policy_error): sum; the policy `sum` cannot be evaluated, so nothing is permitted: integer overflow while attempting to multiply the values `9223372036854775807` and `2`");
    insta::assert_snapshot!(judge(json!({ "n": u64::MAX })), @"deny (policy_error): sum; the policy `sum` cannot be evaluated, so nothing is permitted: `/n` does not fit its type in `context.input`: not an integer of 64 bits");
    insta::assert_snapshot!(judge(json!({ "n": "1" })), @"deny (policy_error): sum; the policy `sum` cannot be evaluated, so nothing is permitted: `/n` does not fit its type in `context.input`: a value of another type");
    insta::assert_snapshot!(judge(json!([1])), @"deny (policy_error): sum; the policy `sum` cannot be evaluated, so nothing is permitted: `/` does not fit its type in `context.input`: not an object");
    assert_eq!(judge(json!({})), "allow: all; `all` permits `a:b`");
}

#[test]
fn a_value_that_does_not_fit_matters_only_where_it_is_read() {
    let tools = [tool_taking("a:b", "n", &json!({ "type": "number" }))];
    let reader = r#"@id("small") permit(principal, action, resource) when { context.input has n && context.input.n.lessThan(decimal("10.0")) };"#;
    let judge = |text: &str, n: Value| {
        world(text, &tools).judge(&agent("x", &[]), &tools[0], Some(&json!({ "n": n })), &FACTS).verdict
    };
    for (n, verdict) in [
        (json!(9), Verdict::Allow),
        (json!(9.1234), Verdict::Allow),
        (json!(-0.5), Verdict::Allow),
        (json!(10.0), Verdict::Deny),
        (json!(1.00001), Verdict::Deny),
        (json!(1e300), Verdict::Deny),
    ] {
        assert_eq!(judge(reader, n.clone()), verdict, "{n}");
        assert_eq!(judge(ALL, n), Verdict::Allow);
    }
}

#[test]
fn the_context_holds_what_the_vocabulary_says() {
    let tools = [tool_with(
        "a:b",
        Risk::Write,
        json!({
            "type": "object",
            "properties": {
                "s": { "type": "string" },
                "list": { "type": "array", "items": { "type": "string" } },
                "closed": { "type": "object", "additionalProperties": false, "required": ["deep"],
                            "properties": { "deep": { "type": "boolean" } } },
                "maybe": { "anyOf": [{ "type": "integer" }, { "type": "null" }] },
            },
            "required": ["s", "maybe"],
        }),
        ToolSettings { tags: vec!["money".into()], ..ToolSettings::default() },
    )];
    let holds = |condition: &str, arguments: Value| {
        let text = format!("permit(principal, action, resource is Toolgate::Tool) when {{ {condition} }};");
        let source = Some(IpAddr::from([10, 0, 0, 7]));
        let facts = Facts { effects: &["sql.read"], source, ..FACTS };
        world(&text, &tools).judge(&agent("x", &["r"]), &tools[0], Some(&arguments), &facts).verdict == Verdict::Allow
    };
    let full = json!({ "s": "x", "list": ["a", "b"], "closed": { "deep": true }, "maybe": null });
    for condition in [
        "context.input.s == \"x\" && !(context.input has maybe)",
        "context.input has list && context.input.list.contains(\"b\")",
        "context.input has closed && context.input.closed.deep",
        "context.effects == [\"sql.read\"] && context.surface == \"search\"",
        "context.time > datetime(\"2023-11-14\") && context.time < datetime(\"2023-11-15\")",
        "context has source_ip && context.source_ip.isInRange(ip(\"10.0.0.0/8\"))",
        "principal in Toolgate::Role::\"r\" && principal.roles.contains(\"r\") && principal.user == \"ann\"",
        "principal.scopes.contains(\"tools:read\") && principal.profile == \"agent\" && principal.agent == \"x\"",
        "principal has key && principal.key == \"key_1\" && !principal.read_only",
        "resource in Toolgate::Server::\"a\" && resource.server == \"a\" && resource.name == \"b\"",
        "resource.tags.contains(\"money\") && !resource.destructive && !resource.idempotent && resource.open_world",
        "action in Toolgate::Action::\"write\" && action in Toolgate::Action::\"call\"",
        "action == Toolgate::Action::\"a:b\" && !(action in Toolgate::Action::\"read\")",
    ] {
        assert!(holds(condition, full.clone()), "{condition}");
    }
    assert!(holds("context.input has maybe && context.input.maybe == 3", json!({ "s": "", "maybe": 3 })));
    assert!(!holds("context.input.s == \"\"", json!({ "maybe": 3 })), "a missing required argument does not fit");
}

#[test]
fn shadow_policies_are_seen_and_change_nothing() {
    let tools = [tool("a:b", Risk::Read)];
    let judge = |text: &str| world(text, &tools).judge(&agent("x", &[]), &tools[0], None, &FACTS);
    let no = r#"@id("no") @mode("shadow") forbid(principal, action, resource);"#;
    let yes = r#"@id("yes") @mode("shadow") permit(principal, action, resource);"#;
    let ask = r#"@id("ask") @mode("shadow") @requires("approval") permit(principal, action, resource);"#;
    let enforced_ask = r#"@id("wait") @requires("approval") permit(principal, action, resource);"#;
    let enforced_no = r#"@id("never") forbid(principal, action, resource);"#;
    for (text, verdict, rules, shadow) in [
        (format!("{ALL}{no}{yes}"), Verdict::Allow, "all [no] [yes]", Some(Verdict::Deny)),
        (format!("{ALL}{yes}{ask}"), Verdict::Allow, "all [yes] [ask]", None),
        (yes.to_owned(), Verdict::Deny, "[yes]", Some(Verdict::Allow)),
        (ask.to_owned(), Verdict::Deny, "[ask]", Some(Verdict::Approval)),
        (format!("{yes}{no}"), Verdict::Deny, "[no] [yes]", None),
        (format!("{enforced_ask}{yes}"), Verdict::Approval, "wait [yes]", Some(Verdict::Allow)),
        (format!("{enforced_ask}{no}"), Verdict::Approval, "wait [no]", Some(Verdict::Deny)),
        (format!("{enforced_no}{yes}"), Verdict::Deny, "never [yes]", None),
    ] {
        let judgement = judge(&text);
        assert_eq!((judgement.verdict, judgement.shadow), (verdict, shadow), "{text}");
        assert!(told(&judgement).contains(&format!(": {rules};")), "{}", told(&judgement));
    }
    assert_eq!(judge(yes).policy(), "default-deny");
}

#[test]
fn an_error_in_a_shadow_policy_is_only_seen() {
    let tools = [tool_taking("a:b", "n", &json!({ "type": "integer" }))];
    let text = format!(
        r#"{ALL} @id("s") @mode("shadow") permit(principal, action, resource) when {{ context.input has n }};"#
    );
    let judgement = world(&text, &tools).judge(&agent("x", &[]), &tools[0], Some(&json!({ "n": "a" })), &FACTS);
    assert_eq!((judgement.verdict, judgement.shadow), (Verdict::Allow, Some(Verdict::Deny)));
    insta::assert_snapshot!(judgement.rules[1].reason.as_deref().unwrap(), @"cannot be evaluated: `/n` does not fit its type in `context.input`: a value of another type");
}

#[test]
fn a_tool_that_was_not_checked_is_withheld() {
    let policies = world(ALL, &[tool("a:b", Risk::Read)]);
    let unchecked =
        "deny (policy_error): ; the policies have not been checked against this tool yet: try again in a moment";
    assert_eq!(told(&policies.judge(&agent("x", &[]), &tool("a:new", Risk::Read), None, &FACTS)), unchecked);
    assert_eq!(told(&policies.judge(&agent("x", &[]), &tool("a:b", Risk::Write), None, &FACTS)), unchecked);
    // Another value of the same definition is the same tool.
    assert_eq!(policies.judge(&agent("x", &[]), &tool("a:b", Risk::Read), None, &FACTS).verdict, Verdict::Allow);
}

#[test]
fn a_cached_decision_belongs_to_one_principal_and_one_set_of_effects() {
    let tools = [tool("a:b", Risk::Read), tool("a:c", Risk::Read)];
    let policies = world(
        r#"@id("w") permit(principal in Toolgate::Role::"writer", action, resource == Toolgate::Tool::"a:b") unless { context.effects.contains("sql.drop") || context.surface == "both" };"#,
        &tools,
    );
    let mut stranger = agent("x", &["writer"]);
    stranger.profile = Arc::new(Profile { name: "other".into(), ..(*stranger.profile).clone() });
    for _ in 0..3 {
        let verdict = |who: &Principal, tool: usize, facts| policies.judge(who, &tools[tool], None, &facts).verdict;
        assert_eq!(verdict(&agent("x", &["writer"]), 0, FACTS), Verdict::Allow);
        assert_eq!(verdict(&stranger, 0, FACTS), Verdict::Allow);
        assert_eq!(verdict(&agent("x", &[]), 0, FACTS), Verdict::Deny);
        assert_eq!(verdict(&agent("x", &["writer"]), 1, FACTS), Verdict::Deny);
        assert_eq!(verdict(&agent("x", &["writer"]), 0, Facts { effects: &["sql.drop"], ..FACTS }), Verdict::Deny);
        assert_eq!(verdict(&agent("x", &["writer"]), 0, Facts { surface: Surface::Both, ..FACTS }), Verdict::Deny);
    }
}

#[test]
fn time_is_never_cached() {
    let tools = [tool("a:b", Risk::Read)];
    let policies =
        world(r#"permit(principal, action, resource) when { context.time.toTime() < duration("12h") };"#, &tools);
    let at = |now| policies.judge(&agent("x", &[]), &tools[0], None, &Facts { now: Moment(now), ..FACTS }).verdict;
    assert_eq!(at(0), Verdict::Allow);
    assert_eq!(at(13 * 3_600_000), Verdict::Deny);
    assert_eq!(at(1), Verdict::Allow);
}

#[test]
fn only_what_was_decided_goes_on() {
    let tools = [tool("a:b", Risk::Destructive), tool("toolgate:gateway_search_tools", Risk::Read)];
    let policies = shipped(&tools);
    let bytes = Json::of(&json!({ "x": 1 }));
    let call =
        |who: Principal, tool: usize| Call::resolved(who, Arc::clone(&tools[tool]), Some(bytes.clone()), bytes.value());
    let Decision::Deny(judgement) = policies.decide(call(agent("x", &[]), 0), &FACTS) else { panic!("no role") };
    assert_eq!(judgement.code, Some("default_deny"));
    let Decision::Approval(pending) = policies.decide(call(agent("x", &["writer"]), 0), &FACTS) else { panic!("asks") };
    assert_eq!(pending.judgement().policy(), "destructive-needs-approval");
    let permitted = pending.approved("apr_1");
    assert_eq!(
        told(permitted.judgement()),
        "allow: destructive-needs-approval approval:apr_1; destructive tools run once a person has approved the call"
    );
    assert_eq!(permitted.arguments().unwrap().as_str(), r#"{"x":1}"#);

    let Decision::Permit(permitted) = policies.permit_by_scope(call(agent("x", &[]), 1), Scope::ToolsRead, &FACTS)
    else {
        panic!("the profile has the scope")
    };
    assert_eq!(permitted.judgement().policy(), "scope:tools:read");
    let Decision::Deny(judgement) = policies.permit_by_scope(call(agent("x", &[]), 1), Scope::KeysAdmin, &FACTS) else {
        panic!("the profile lacks the scope")
    };
    assert_eq!(
        told(&judgement),
        "deny: scope:keys:admin; the key lacks the scope `keys:admin`: ask for a profile that has it"
    );
}

#[test]
fn the_profile_refuses_before_all_else() {
    let tools = [tool("db:q", Risk::Read)];
    let judgement = shipped(&tools).judge(&agent("x", &[]), &tools[0], None, &FACTS);
    let refused = refused_by_profile(judgement, "mcp_readonly", "outside");
    assert_eq!(told(&refused), "deny: profile:mcp_readonly; outside");
    assert_eq!((refused.rules[0].effect, refused.policy()), (PolicyEffect::Forbid, "profile:mcp_readonly"));
}
