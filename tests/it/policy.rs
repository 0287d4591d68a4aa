//! Simulate and enforcement are one judgement; what is configured changes whole, or not at all.

use std::sync::Arc;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Map, Value, json};
use tempfile::TempDir;
use toolgate::domain::clock::{ManualClock, Moment};
use toolgate::gateway::NewKey;
use toolgate::gateway::control::Command;

use crate::support::{Client, FakeUpstream, Key, Program, Response, Setup, TestGateway, eventually, tool, toolgate_in};

const PROFILES: [(&str, &str); 3] = [
    ("open", "scopes = [\"tools:read\", \"tools:invoke\", \"policy:simulate\"]\nallowed_tools = [\"*\"]"),
    (
        "narrow",
        "scopes = [\"tools:read\", \"tools:invoke\", \"policy:simulate\"]\nallowed_tools = [\"up:r*\", \"up:w*\"]\nread_only = true",
    ),
    ("mute", "scopes = [\"tools:read\", \"policy:simulate\"]\nallowed_tools = [\"*\"]"),
];
const ROLES: [&[&str]; 4] = [&[], &["writer"], &["finance"], &["writer", "finance"]];
const TOOLS: [&str; 8] = ["read", "write", "again", "destroy", "rows", "roles", "remark", "nowhere"];

/// Policies that look at everything a policy can look at.
const POLICIES: &str = r#"
@id("small-rows") @reason("at most 100 rows at a time")
forbid (principal, action == Toolgate::Action::"up:rows", resource) when { context.input has n && context.input.n > 100 };

@id("no-private-network") @reason("private networks are out of bounds")
forbid (principal, action in Toolgate::Action::"call", resource) when { context.effects.contains("url.private_network") };

@id("watched") @mode("shadow")
forbid (principal, action in Toolgate::Action::"read", resource) when { context.effects.contains("sql.read") };

@id("remarks-by-finance") @reason("finance may remark") @requires("approval")
permit (principal in Toolgate::Role::"finance", action == Toolgate::Action::"up:remark", resource);

@id("no-system-files")
forbid (principal, action in Toolgate::Action::"read", resource is Toolgate::Resource) when { context.effects.contains("path.system") };

@id("internal")
forbid (principal, action, resource == Toolgate::Prompt::"up:internal.x");

@id("adds-up")
forbid (principal, action == Toolgate::Action::"up:rows", resource) when { context.input has m && context.input.m + 9223372036854775000 < 0 };
"#;

fn catalogue() -> Value {
    let mut rows = tool("rows", &json!({"readOnlyHint": true}));
    rows["inputSchema"] = json!({
        "type": "object",
        "properties": {"n": {"type": "integer"}, "m": {"type": "integer"}, "sql": {"type": "string"}},
        "additionalProperties": false,
    });
    json!([
        tool("read", &json!({"readOnlyHint": true})),
        tool("write", &json!({})),
        tool("again", &json!({"idempotentHint": true})),
        tool("destroy", &json!({"destructiveHint": true})),
        rows,
        tool("roles", &json!({"readOnlyHint": true})),
        tool("remark", &json!({})),
    ])
}

/// Arguments that mean something to a parser, a schema or a policy, and some that do not.
fn arguments() -> impl Strategy<Value = Value> {
    let member = prop_oneof![
        prop_oneof![
            Just("select 1"),
            Just("drop table x"),
            Just("insert into x values (1)"),
            Just("not sql at all"),
            Just("select 1; truncate y")
        ]
        .prop_map(|sql| ("sql", json!(sql))),
        prop_oneof![Just(json!(5)), Just(json!(500)), Just(json!("5")), Just(json!(1.5))].prop_map(|n| ("n", n)),
        prop_oneof![Just(0_i64), Just(i64::MAX), Just(-1)].prop_map(|m| ("m", json!(m))),
        prop_oneof![Just("http://10.0.0.1/x"), Just("https://example.com/"), Just("http://[::1]/"), Just("not a url")]
            .prop_map(|url| ("url", json!(url))),
        prop_oneof![Just("rm -rf /"), Just("ls"), Just("echo 'unclosed")]
            .prop_map(|command| ("command", json!(command))),
        Just(("path", json!("../../etc/passwd"))),
        any::<bool>().prop_map(|flag| ("flag", json!(flag))),
    ];
    prop::collection::vec(member, 0..4).prop_map(|members| {
        Value::Object(members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect::<Map<_, _>>())
    })
}

/// What a call and a simulation must agree on.
#[derive(Debug, PartialEq)]
struct Verdict {
    decision: String,
    policy: String,
    reason: String,
}

pub(crate) fn text(value: &Value, name: &str) -> String {
    value[name].as_str().unwrap_or_default().to_owned()
}

/// Whether the answer to a real call is what the report foretold.
fn agree(report: &Value, answer: &Response) -> Result<(), String> {
    let hidden = text(report, "code") == "unknown_tool" || text(report, "policy").starts_with("profile:");
    if hidden {
        let unknown = answer.json()["error"]["code"] == -32602 && text(report, "decision") == "deny";
        return if unknown { Ok(()) } else { Err("hidden, but answered".into()) };
    }
    let result = answer.result();
    let error = &result["structuredContent"]["error"];
    let misfits = report["schema_errors"].as_array().is_some_and(|errors| !errors.is_empty());
    if misfits {
        return if text(error, "code") == "invalid_arguments" { Ok(()) } else { Err("misfits, but passed".into()) };
    }
    let governance = &result["_meta"]["toolgate/governance"];
    let foretold =
        Verdict { decision: text(report, "decision"), policy: text(report, "policy"), reason: text(report, "reason") };
    let reason = if error.is_null() { foretold.reason.clone() } else { text(error, "reason") };
    let happened = Verdict { decision: text(governance, "decision"), policy: text(governance, "policy"), reason };
    let code = match foretold.decision.as_str() {
        "allow" => String::new(),
        "approval" => "approval_required".into(),
        _ => report["code"].as_str().unwrap_or("policy_denied").to_owned(),
    };
    if foretold != happened || text(error, "code") != code {
        return Err(format!("foretold {foretold:?} {code}, happened {happened:?} {error}"));
    }
    Ok(())
}

pub(crate) async fn start(upstream: &FakeUpstream) -> (TestGateway, Vec<Key>) {
    upstream.set_tools(catalogue());
    let mut setup = Setup::new()
        .config(&upstream.section("up", "[servers.up.tools.roles]\nallowed_roles = [\"finance\"]"))
        .config(&upstream.section("shut", "permissions = \"explicit\""))
        .shipped_policies();
    for (name, body) in PROFILES {
        setup = setup.profile(name, body);
    }
    let gateway = setup.policy("more", POLICIES).start().await;
    let mut keys = Vec::new();
    for (profile, _) in PROFILES {
        for roles in ROLES {
            let roles = roles.iter().map(|role| (*role).to_owned()).collect();
            let new =
                NewKey { name: "p".into(), profile: profile.into(), user: "u".into(), roles, ..NewKey::default() };
            keys.push(gateway.create(new).await);
        }
    }
    (gateway, keys)
}

/// The report by the way of the command line, about that key.
pub(crate) async fn report_of_key(gateway: &TestGateway, key: &Key, question: &Value) -> Value {
    let command = Command::Simulate { arguments: question.clone(), key: Some(key.id.clone()) };
    let answer = gateway.control(command).await;
    answer["result"]["structuredContent"].clone()
}

#[test]
fn simulate_and_call_never_disagree() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let upstream = runtime.block_on(FakeUpstream::modern());
    let (gateway, keys) = runtime.block_on(start(&upstream));
    let mut runner = TestRunner::new(Config { cases: 800, failure_persistence: None, ..Config::default() });
    let seen = std::cell::RefCell::new(std::collections::BTreeMap::<String, usize>::new());
    let checked =
        runner.run(&(0..keys.len(), proptest::sample::select(&TOOLS[..]), arguments()), |(who, tool, arguments)| {
            let client = gateway.client(&keys[who]);
            let question = json!({"server": "up", "tool": tool, "arguments": arguments});
            runtime.block_on(async {
                upstream.forget();
                let own = client.simulate(&question).await;
                let owners = report_of_key(&gateway, &keys[who], &question).await;
                prop_assert_eq!(&own, &owners, "whoever asks");
                prop_assert_eq!(upstream.calls().len(), 0, "nothing was called");
                let answer = client.invoke("up", tool, &arguments.to_string()).await;
                let sent = upstream.calls().len();
                let allowed = own["decision"] == "allow" && own["schema_errors"] == json!([]);
                prop_assert_eq!(sent, usize::from(allowed), "only what is allowed is sent");
                let verdict = agree(&own, &answer);
                *seen
                    .borrow_mut()
                    .entry(format!("{} {}", text(&own, "decision"), text(&own, "policy")))
                    .or_default() += 1;
                prop_assert!(verdict.is_ok(), "{}: {question}: {}", keys[who].id, verdict.unwrap_err());
                Ok(())
            })
        });
    runtime.block_on(gateway.finish());
    checked.unwrap();
    let seen = seen.into_inner();
    for kind in [
        "allow default-allow-read",
        "allow allow-write-to-writers",
        "deny default-deny",
        "deny block-sql-drop",
        "approval destructive-needs-approval",
        "deny small-rows",
        "deny profile:narrow",
        "deny profile:mute",
        "deny roles:up:roles",
        "allow roles:up:roles",
    ] {
        assert!(seen.contains_key(kind), "the cases never gave `{kind}`: {seen:?}");
    }
}

/// `agent_id` names the newest live key that carries it, else an agent with the profile `agent` and no roles.
#[tokio::test]
async fn simulate_judges_other_agents() {
    let (upstream, clock) = (FakeUpstream::legacy().await, ManualClock::at(Moment(1_800_000_000_000)));
    let gateway = Setup::with(&upstream).clock(&clock).start().await;
    let client = gateway.agent().await;
    let ask =
        async |agent: &str| text(&client.simulate(&json!({"agent_id": agent, "action": "up:write"})).await, "decision");
    assert_eq!(ask("finance_agent").await, "deny", "nobody carries it: no roles");
    let carrier = |roles: &[&str]| NewKey {
        name: "c".into(),
        profile: "agent".into(),
        user: "u".into(),
        agent: Some("finance_agent".into()),
        roles: roles.iter().map(|role| (*role).to_owned()).collect(),
        ..NewKey::default()
    };
    let first = gateway.create(carrier(&["writer"])).await;
    assert_eq!(ask("finance_agent").await, "allow");
    clock.advance(1);
    let newest = gateway.create(carrier(&[])).await;
    assert_eq!(ask("finance_agent").await, "deny", "the newest");
    gateway.control(Command::KeysRevoke { id: newest.id }).await;
    assert_eq!(ask("finance_agent").await, "allow", "the newest that lives");
    gateway.control(Command::KeysRevoke { id: first.id }).await;
    assert_eq!(ask("finance_agent").await, "deny");
    for misfit in [json!({}), json!({"action": "up:write", "server": "up", "tool": "write"}), json!({"action": 3})] {
        let answer = client.call("policy.simulate", &misfit).await;
        assert!(
            answer.json().get("error").is_some() || answer.result()["isError"] == true,
            "{misfit}: {}",
            answer.text
        );
    }
    gateway.finish().await;
}

async fn told(program: &Program, what: &str) {
    eventually(what, async || program.err().iter().any(|line| line.contains(what)).then_some(())).await;
}

async fn decision(client: &Client) -> String {
    text(&client.simulate(&json!({"action": "github:create_issue"})).await, "decision")
}

/// Files are taken in whole while calls go on; a faulty one changes nothing and says where it is wrong.
#[tokio::test]
async fn reloads_are_whole_or_not_at_all() {
    let folder = Arc::new(TempDir::new().unwrap());
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    let allow = "@id(\"all\")\npermit (principal, action, resource);\n";
    write("policies/all.cedar", allow);
    let shipped = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/profiles.toml")).unwrap();
    write("profiles.toml", &shipped);
    let program = Program::start_in(Arc::clone(&folder), &[]).await;
    program.ready().await;
    let client = program.client("agent");
    assert_eq!(decision(&client).await, "allow");

    write("policies/all.cedar", "@id(\"all\")\npermit (principal, action, resource) when { context.nonsense };\n");
    told(&program, "the changed configuration is refused").await;
    assert!(program.err().iter().any(|line| line.contains("all.cedar:2")), "{:?}", program.err());
    assert_eq!(decision(&client).await, "allow", "the old policies stay");

    // One faulty file holds back the good change beside it.
    write(
        "profiles.toml",
        &shipped.replace("[profiles.agent]", "[profiles.agent_two]\nscopes = []\n\n[profiles.agent]"),
    );
    write("policies/all.cedar", "@id(\"none\")\nforbid (principal, action, resource);\n");
    eventually("the mended policy is active", async || (decision(&client).await == "deny").then_some(())).await;
    let profiles = client.get("/v1/mcp/key-profiles").send().await.json();
    assert!(profiles["profiles"].get("agent_two").is_some(), "both changes are there");

    write("toolgate.toml", "[servers.x]\ncommand = \"x\"\nnonsense = 1\n[gateway]\nmax_body = \"big\"\n");
    told(&program, "toolgate.toml:3").await;
    told(&program, "toolgate.toml:5").await;
    assert_eq!(client.tools().await.len(), 3, "still at work");
    write("toolgate.toml", "[gateway]\ntool_names = \"safe\"\n");
    eventually("the configuration is active", async || (client.tools().await[2] == "policy_simulate").then_some(()))
        .await;
    eventually("the demo servers are gone", async || {
        let answer = client.invoke("github", "list_repos", "{}").await;
        (answer.json()["error"]["code"] == -32602).then_some(())
    })
    .await;
    program.stop().await;
}

/// A policy about a tool that was never seen waits for it; meanwhile that tool is withheld.
#[tokio::test]
async fn a_policy_for_a_tool_to_come_is_pending() {
    let upstream = FakeUpstream::legacy().await;
    let later = "@id(\"later\") @reason(\"not with that\")\nforbid (principal, action == Toolgate::Action::\"up:later\", resource) when { context.input has n && context.input.n > 3 };\n";
    let gateway = Setup::with(&upstream).shipped_policies().policy("later", later).start().await;
    let client = gateway.agent().await;
    assert_eq!(client.invoke("up", "read", "{}").await.told(), "done", "the others are not concerned");
    let mut new = tool("later", &json!({"readOnlyHint": true}));
    new["inputSchema"] = json!({"type": "object", "properties": {"n": {"type": "integer"}}});
    upstream.set_tools(json!([tool("read", &json!({"readOnlyHint": true})), new]));
    eventually("the gateway listens", async || upstream.is_listened_to().then_some(())).await;
    upstream.tell_changed();
    eventually("the new tool is there", async || {
        client.invoke("up", "later", r#"{"n":1}"#).await.json().get("result").cloned()
    })
    .await;
    assert_eq!(client.invoke("up", "later", r#"{"n":1}"#).await.told(), "done");
    assert_eq!(client.invoke("up", "later", r#"{"n":9}"#).await.governance()["policy"], "later");
    // The tool changes so that the policy no longer fits: it is withheld rather than let through.
    let mut changed = tool("later", &json!({"readOnlyHint": true}));
    changed["inputSchema"] = json!({"type": "object", "properties": {"n": {"type": "string"}}});
    upstream.set_tools(json!([tool("read", &json!({"readOnlyHint": true})), changed]));
    upstream.tell_changed();
    let refused = eventually("the changed tool is withheld", async || {
        let answer = client.invoke("up", "later", r#"{"n":"1"}"#).await;
        (answer.json()["result"]["structuredContent"]["error"]["code"] == "policy_error").then_some(answer)
    })
    .await;
    assert_eq!(refused.governance()["decision"], "deny");
    assert_eq!(client.invoke("up", "read", "{}").await.told(), "done");
    gateway.finish().await;
}

/// A bundle that does not fit the tools as they were last seen never becomes active, at a start either. Where it is the
/// tools that have changed, a check asks them.
#[tokio::test]
async fn a_start_with_a_policy_that_does_not_fit_is_refused() {
    let upstream = FakeUpstream::legacy().await;
    let folder = Arc::new(TempDir::new().unwrap());
    std::fs::write(folder.path().join("toolgate.toml"), upstream.section("up", "")).unwrap();
    let program = Program::start_in(Arc::clone(&folder), &[]).await;
    program.ready().await;
    program.stop().await;
    let policies = folder.path().join("policies");
    std::fs::create_dir(&policies).unwrap();
    let put = |name: &str, text: &str| std::fs::write(policies.join(name), text).unwrap();
    put("open.cedar", "@id(\"open\")\npermit (principal, action, resource);\n");
    put(
        "count.cedar",
        "@id(\"count\")\nforbid (principal, action == Toolgate::Action::\"up:write\", resource)\nwhen { context.input.count > 3 };\n",
    );
    let refused = toolgate_in(folder.path(), &["serve", "--listen", "127.0.0.1:0"], &[]).await;
    assert_eq!((refused.code, refused.out.as_str()), (Some(1), ""));
    assert!(refused.err.contains("count.cedar:3:") && refused.err.contains("toolgate policy check"), "{}", refused.err);
    let mut write = tool("write", &json!({}));
    write["inputSchema"] =
        json!({"type": "object", "properties": {"count": {"type": "integer"}}, "required": ["count"]});
    upstream.set_tools(json!([write]));
    let checked = toolgate_in(folder.path(), &["policy", "check"], &[]).await;
    assert_eq!(checked.code, Some(0), "{checked:?}");
    // A tool that was never seen is no fault: its policy waits, and says so.
    put(
        "later.cedar",
        "@id(\"later\")\nforbid (principal, action == Toolgate::Action::\"up:later\", resource) when { context.input.n > 3 };\n",
    );
    let program = Program::start_in(folder, &[]).await;
    assert!(
        program.err().iter().any(|line| line.contains("pending") && line.contains("up:later")),
        "{:?}",
        program.err()
    );
    program.ready().await;
    program.stop().await;
}
