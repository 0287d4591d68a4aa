//! Simulate and reading are one judgement too: what is foretold of a prompt or a resource is what happens.

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value, json};
use toolgate::domain::call::ToolRef;
use toolgate::domain::json::Json;
use toolgate::wire::era::Era;
use toolgate::wire::mcp::{Reply, tell};

use crate::policy::{report_of_key, start, text};
use crate::support::{FakeUpstream, Say};

/// Names and URIs that mean something to a policy, a parser or a profile.
fn readable() -> impl Strategy<Value = ToolRef> {
    let server = || prop_oneof![4 => Just("up"), 1 => Just("nowhere"), 1 => Just("shut"), 1 => Just("no such name")];
    let prompt = (server(), proptest::sample::select(vec!["review", "write", "rows", "internal.x"]))
        .prop_map(|(server, name)| ToolRef::Prompt { server: server.into(), name: name.into() });
    let uris = vec![
        "file:///etc/passwd",
        "file:///srv/../etc/x",
        "rows://all",
        "https://example.com/",
        "http://10.0.0.1/x",
        "wiki:page",
        "no scheme",
    ];
    let resource = (server(), proptest::sample::select(uris))
        .prop_map(|(server, uri)| ToolRef::Resource { server: server.into(), uri: uri.into() });
    prop_oneof![prompt, resource]
}

/// Whether the answer to getting or reading is what the report foretold.
fn agree_on_reading(report: &Value, reply: &Reply) -> Result<(), String> {
    let code = |error: &Json| error.value()["code"].as_i64().unwrap();
    let policy = text(report, "policy");
    let hidden = text(report, "code").starts_with("unknown_") || policy.starts_with("profile:");
    let expected = match text(report, "decision").as_str() {
        "deny" if hidden => Err(-32602),
        "deny" => Err(403),
        "approval" => Err(409),
        _ => Ok(()),
    };
    let happened = reply.body.as_ref().map(drop).map_err(code);
    if expected != happened {
        return Err(format!("foretold {expected:?}, happened {happened:?}"));
    }
    match &reply.body {
        Ok(result) if result.value()["_meta"]["toolgate/governance"]["policy"] != policy => {
            Err("another policy".into())
        }
        Err(error) if !hidden => {
            let data = error.value()["data"].clone();
            let told = (text(&data, "policy"), text(&data, "reason"), data["effects"].clone());
            let foretold = (policy, text(report, "reason"), report["effects"].clone());
            if told == foretold { Ok(()) } else { Err(format!("foretold {foretold:?}, told {told:?}")) }
        }
        _ => Ok(()),
    }
}

#[test]
fn simulate_and_reading_never_disagree() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let upstream = runtime.block_on(FakeUpstream::modern());
    upstream.script(|seen| match seen.method() {
        "prompts/get" => Some(Say::Result(r#"{"messages":[]}"#.into())),
        "resources/read" => Some(Say::Result(r#"{"contents":[]}"#.into())),
        _ => None,
    });
    let (gateway, keys) = runtime.block_on(start(&upstream));
    let mut runner = TestRunner::new(Config { cases: 400, failure_persistence: None, ..Config::default() });
    let seen = std::cell::RefCell::new(std::collections::BTreeMap::<String, usize>::new());
    let url = proptest::option::of(proptest::sample::select(vec!["http://10.0.0.1/", "https://example.com/"]));
    let checked = runner.run(&(0..keys.len(), readable(), url), |(who, asked, url)| {
        let arguments = url.map(|url| json!({"url": url}));
        let mut question = match &asked {
            ToolRef::Prompt { server, name } => json!({"server": server, "prompt": name}),
            other => json!({"server": other.server(), "resource": other.label()}),
        };
        if let (ToolRef::Prompt { .. }, Some(arguments)) = (&asked, &arguments) {
            question["arguments"] = arguments.clone();
        }
        runtime.block_on(async {
            let reads = || {
                upstream.seen().iter().filter(|seen| ["prompts/get", "resources/read"].contains(&seen.method())).count()
            };
            upstream.forget();
            let report = gateway.client(&keys[who]).simulate(&question).await;
            prop_assert_eq!(&report, &report_of_key(&gateway, &keys[who], &question).await, "whoever asks");
            prop_assert_eq!(reads(), 0, "nothing was read");
            let reply = tell(&gateway.carry(&keys[who], asked, arguments.as_ref()).await, Era::Modern, true);
            prop_assert_eq!(reads(), usize::from(report["decision"] == "allow"), "only what is allowed is sent");
            let verdict = agree_on_reading(&report, &reply);
            let told = format!("{} {}", text(&report, "decision"), text(&report, "policy"));
            *seen.borrow_mut().entry(told).or_default() += 1;
            prop_assert!(verdict.is_ok(), "{}: {question}: {}", keys[who].id, verdict.unwrap_err());
            Ok(())
        })
    });
    runtime.block_on(gateway.finish());
    checked.unwrap();
    let seen = seen.into_inner();
    for kind in [
        "allow default-allow-read",
        "deny no-private-network",
        "deny no-system-files",
        "deny internal",
        "deny profile:narrow",
        "deny profile:mute",
        "deny default-deny",
    ] {
        assert!(seen.contains_key(kind), "the cases never gave `{kind}`: {seen:?}");
    }
}
