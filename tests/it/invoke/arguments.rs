//! The backend gets the bytes that were judged: white space, escapes and the text of numbers included.

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::json;

use crate::support::{FakeUpstream, Setup, tool};

/// White space between two tokens.
fn space() -> impl Strategy<Value = &'static str> + Clone {
    prop_oneof![6 => Just(""), 2 => Just(" "), 1 => Just("\n"), 1 => Just("\t \r\n ")]
}

/// Any JSON value as text, the way no encoder would write it.
fn value() -> impl Strategy<Value = String> {
    let numbers =
        ["0", "-0", "1.50e2", "1E+2", "0.10", "-0.0", "12345678901234567890123", "1e-400", "2.50", "9007199254740993"];
    let scalar = prop_oneof![
        proptest::sample::select(&["null", "true", "false"]).prop_map(str::to_owned),
        proptest::sample::select(numbers.to_vec()).prop_map(str::to_owned),
        "[a-zé😀 ]{0,8}".prop_map(|text| format!("\"{text}\"")),
        proptest::sample::select(vec![
            r#""\u0041\/""#,
            r#""\ud83d\ude00""#,
            r#""\"\\\b\f""#,
            r#""<>&""#,
            "\"\u{2028}\""
        ])
        .prop_map(str::to_owned),
    ];
    scalar.prop_recursive(4, 24, 4, |inner| {
        let items = prop::collection::vec((space(), inner.clone(), space()), 0..4);
        prop_oneof![
            items
                .clone()
                .prop_map(|items| format!("[{}]", joined(items.into_iter().map(|(a, v, b)| format!("{a}{v}{b}"))))),
            items.prop_map(|items| object(&items)),
        ]
    })
}

fn joined(parts: impl Iterator<Item = String>) -> String {
    parts.collect::<Vec<_>>().join(",")
}

/// An object whose names differ and come in no order.
fn object(items: &[(&'static str, String, &'static str)]) -> String {
    let names = ["\"b\"", "\"a\"", "\"\\u0063\"", "\"arguments\"", "\"_meta\""];
    let member = |(at, (before, value, after)): (usize, &(&str, String, &str))| {
        format!("{before}{}{after}:{before}{value}{after}", names[at])
    };
    format!("{{{}}}", joined(items.iter().enumerate().map(member)))
}

fn arguments() -> impl Strategy<Value = String> {
    prop::collection::vec((space(), value(), space()), 0..5).prop_map(|items| object(&items))
}

#[test]
fn the_backend_sees_exactly_what_was_judged() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (upstream, gateway, client) = runtime.block_on(async {
        let upstream = FakeUpstream::modern().await;
        let gateway = Setup::with(&upstream).start().await;
        let client = gateway.agent().await;
        (upstream, gateway, client)
    });
    let mut runner = TestRunner::new(Config { cases: 150, failure_persistence: None, ..Config::default() });
    let checked = runner.run(&arguments(), |text| {
        upstream.forget();
        runtime.block_on(async {
            let answer = client.invoke("up", "read", &text).await;
            assert_eq!(answer.told(), "done", "{text}");
            let direct =
                client.request("tools/call", &format!(r#"{{"arguments":{text},"name":"up:read"}}"#)).send().await;
            assert_eq!(direct.told(), "done", "{text}");
        });
        let seen: Vec<_> = upstream.calls().iter().map(crate::support::Seen::arguments).collect();
        prop_assert_eq!(seen, [Some(text.clone()), Some(text)]);
        Ok(())
    });
    runtime.block_on(gateway.finish());
    checked.unwrap();
}

#[tokio::test]
async fn absent_arguments_stay_absent() {
    let upstream = FakeUpstream::legacy().await;
    let gateway = Setup::with(&upstream).start().await;
    let client = gateway.agent().await;
    client.rpc("tools/call", &json!({"name": "up:read"})).await.result();
    client.call("gateway_invoke", &json!({"server": "up", "tool": "read"})).await.result();
    client.invoke("up", "read", "null").await.result();
    client.invoke("up", "read", "{}").await.result();
    let seen: Vec<_> = upstream.calls().iter().map(crate::support::Seen::arguments).collect();
    assert_eq!(seen, [None, None, None, Some("{}".to_owned())]);
    gateway.finish().await;
}

/// What no tree can hold, or is no object, cannot be judged: it goes nowhere.
#[tokio::test]
async fn what_cannot_be_judged_is_not_sent() {
    let upstream = FakeUpstream::legacy().await;
    let gateway = Setup::with(&upstream).start().await;
    let client = gateway.agent().await;
    for text in [r#"{"n":1e400}"#, r#"{"n":-1e400}"#, "[]", "3", r#""x""#] {
        let answer = client.invoke("up", "read", text).await;
        let refused = answer.json().get("error").map(|error| error["code"].clone());
        assert!(refused == Some(json!(-32602)) || answer.denied() == "invalid_arguments", "{text}: {}", answer.text);
    }
    let lone = client.invoke("up", "read", r#"{"s":"\ud800"}"#).await;
    assert!(lone.status == 400 || lone.json().get("error").is_some(), "{}", lone.text);
    assert_eq!(upstream.calls().len(), 0);
    gateway.finish().await;
}

#[tokio::test]
async fn misfits_are_told_where_and_how() {
    let upstream = FakeUpstream::legacy().await;
    let mut strict = tool("pay", &json!({"readOnlyHint": true}));
    strict["inputSchema"] = json!({
        "type": "object",
        "properties": {
            "amount": {"type": "integer", "minimum": 1},
            "currency": {"type": "string", "enum": ["EUR", "USD"]},
            "to": {"type": "object", "properties": {"iban": {"type": "string"}}, "required": ["iban"]},
        },
        "required": ["amount", "currency"],
        "additionalProperties": false,
    });
    upstream.set_tools(json!([strict]));
    let gateway = Setup::with(&upstream).start().await;
    let client = gateway.agent().await;
    let refused = client.invoke("up", "pay", r#"{"amount":"5","currency":"EUR","to":{}}"#).await;
    assert_eq!(refused.denied(), "invalid_arguments");
    insta::assert_snapshot!(refused.told(), @r#"
    The arguments of up:pay do not fit its schema:
    - /amount: expected integer, got string "5"
    - /to: `iban` is required
    This would fit: {"amount":5,"currency":"EUR","to":{"iban":"<iban>"}}
    Nothing was called. Correct the arguments and call again.
    "#);
    let details = refused.result()["structuredContent"]["error"].clone();
    let paths: Vec<_> = details["faults"].as_array().unwrap().iter().map(|fault| fault["path"].clone()).collect();
    assert_eq!(paths, ["/amount", "/to"]);
    let example = details["example"].clone();
    let corrected = client.invoke("up", "pay", &example.to_string()).await;
    assert_eq!(corrected.told(), "done", "the example fits: {example}");
    for text in [
        r#"{}"#,
        r#"{"amount":1}"#,
        r#"{"amount":0,"currency":"EUR"}"#,
        r#"{"amount":1,"currency":"GBP"}"#,
        r#"{"amount":1,"currency":"EUR","extra":1}"#,
    ] {
        let refused = client.invoke("up", "pay", text).await;
        assert_eq!(refused.denied(), "invalid_arguments", "{text}");
        let record = gateway.record(refused.header("toolgate-audit-id").unwrap()).await;
        assert_eq!((record["tool"].clone(), record["outcome"].clone()), (json!("pay"), json!("refused")), "{text}");
    }
    assert_eq!(upstream.calls().len(), 1);
    gateway.finish().await;
}

/// A misfit of `gateway_invoke` itself is told in the same way.
#[tokio::test]
async fn the_outer_call_has_a_schema_too() {
    let gateway = Setup::new().start().await;
    let client = gateway.agent().await;
    for arguments in [
        json!({}),
        json!({"server": "up"}),
        json!({"server": 1, "tool": "read"}),
        json!({"server": "up", "tool": "read", "arguments": []}),
        json!({"server": "up", "tool": "read", "args": {}}),
    ] {
        let answer = client.call("gateway_invoke", &arguments).await;
        assert_eq!(answer.denied(), "invalid_arguments", "{arguments}");
    }
    let nested = json!({"server": "toolgate", "tool": "gateway_invoke", "arguments": {"server": "up", "tool": "read"}});
    assert_eq!(client.call("gateway_invoke", &nested).await.refused(), (200, -32602));
    gateway.finish().await;
}
