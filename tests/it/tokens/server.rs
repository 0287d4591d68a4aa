//! `auth_type = "jwt"`: a server whose callers bring a token.

use serde_json::{Value, json};

use crate::support::{Client, FakeUpstream, Issuer, Response, Say, Setup, now, tool};

async fn upstream() -> FakeUpstream {
    let upstream = FakeUpstream::legacy().await;
    upstream.set_tools(json!([
        tool("read", &json!({"readOnlyHint": true})),
        tool("refund", &json!({"readOnlyHint": true})),
    ]));
    upstream
}

fn config(upstream: &FakeUpstream, issuer: &Issuer) -> String {
    let section =
        upstream.section("up", "auth_type = \"jwt\"\n[servers.up.tools.refund]\nallowed_roles = [\"finance\"]");
    format!("{section}[jwt]\nissuer = \"{0}\"\naudience = \"toolgate\"\njwks_url = \"{0}/keys\"\n", issuer.url)
}

async fn with_header(client: &Client, tool: &str, token: &str) -> Response {
    let params = json!({"name": format!("up:{tool}"), "arguments": {}}).to_string();
    client.request("tools/call", &params).header("x-server-jwt", token).send().await
}

async fn with_member(client: &Client, tool: &str, token: &Value) -> Response {
    client
        .rpc("tools/call", &json!({"name": format!("up:{tool}"), "arguments": {}, "_meta": {"toolgate/jwt": token}}))
        .await
}

#[tokio::test]
async fn a_call_needs_the_token_of_its_caller_whatever_the_client() {
    let (upstream, issuer) = (upstream().await, Issuer::start().await);
    let gateway = Setup::new().config(&config(&upstream, &issuer)).start().await;
    let good = issuer.sign(&issuer.claims("toolgate"));
    let bare = gateway.agent().await;
    for client in [bare.clone(), bare.legacy().await, bare.modern()] {
        let without = client.call("up:read", &json!({})).await;
        assert_eq!((without.status, without.denied().as_str()), (200, "jwt_required"));
        assert!(without.told().contains("`X-Server-JWT`"), "{}", without.told());
        for answer in [
            with_header(&client, "read", &good).await,
            with_header(&client, "read", &format!("Bearer {good}")).await,
            with_member(&client, "read", &json!(good)).await,
        ] {
            assert_eq!(answer.told(), "done", "{}", answer.text);
        }
        let through = client
            .request("tools/call", &crate::support::invoke_params("up", "read", "{}"))
            .header("x-server-jwt", &good)
            .send()
            .await;
        assert_eq!(through.told(), "done");
    }
    let simulated = bare.simulate(&json!({"server": "up", "tool": "read", "arguments": {}})).await;
    assert_eq!((&simulated["jwt_required"], &simulated["jwt_roles"]), (&json!(true), &json!("unknown")), "{simulated}");
    let before = upstream.calls().len();
    let expired = {
        let mut claims = issuer.claims("toolgate");
        claims["exp"] = json!(now() - 61);
        issuer.sign(&claims)
    };
    for (token, why) in [
        (issuer.sign(&issuer.claims("another")), "another audience"),
        (expired, "expired"),
        (Issuer::start().await.sign(&issuer.claims("toolgate")), "signature"),
        ("nonsense".into(), "no signed JWT"),
        (gateway.key("agent").await.text, "no signed JWT"),
    ] {
        let answer = with_header(&bare, "read", &token).await;
        assert_eq!(answer.denied(), "jwt_invalid", "{}", answer.text);
        assert!(answer.told().contains(why), "{}", answer.told());
        assert!(!answer.text.contains(&token), "the token is not repeated");
        let record = gateway.record(answer.header("toolgate-audit-id").unwrap()).await;
        assert_eq!((record["decision"].clone(), record["outcome"].clone()), (json!("deny"), json!("refused")));
        assert_eq!(answer.governance()["policy"], "jwt:up");
        assert!(!record.to_string().contains(&token));
    }
    let other = issuer.sign(&issuer.claims("toolgate"));
    let params = json!({"name": "up:read", "_meta": {"toolgate/jwt": other}}).to_string();
    let two = bare.request("tools/call", &params).header("x-server-jwt", &good).send().await;
    assert_eq!(two.status, 400, "two that differ: {}", two.text);
    let odd = with_member(&bare, "read", &json!(7)).await;
    assert_eq!(odd.denied(), "jwt_required");
    assert_eq!(upstream.calls().len(), before, "nothing was sent");
    gateway.finish().await;
}

/// The token is for the gateway: not one byte of it reaches a backend, a record or an answer.
#[tokio::test]
async fn the_token_and_the_key_stay_here() {
    let (upstream, issuer) = (upstream().await, Issuer::start().await);
    let gateway = Setup::new().config(&config(&upstream, &issuer)).start().await;
    let token = issuer.sign(&issuer.claims("toolgate"));
    let key = gateway.writer("agent").await;
    let bare = gateway.client(&key);
    for client in [bare.clone(), bare.legacy().await, bare.modern()] {
        assert_eq!(with_header(&client, "read", &token).await.told(), "done");
        assert_eq!(with_member(&client, "read", &json!(token)).await.told(), "done");
    }
    let signature = token.rsplit('.').next().unwrap();
    for seen in upstream.seen() {
        let all = format!("{:?} {}", seen.headers, seen.text);
        assert!(!all.contains(signature) && !all.contains(&key.text) && !all.contains("toolgate/jwt"), "{all}");
        assert!(!seen.headers.contains_key("x-server-jwt") && !seen.headers.contains_key("x-api-key"));
    }
    let records = json!(gateway.records().await).to_string();
    assert!(!records.contains(signature));
    assert!(records.contains("with a JWT of `ada`"), "{records}");
    gateway.finish().await;
}

/// What is read of a server is asked for like what is called, on its own endpoint too.
#[tokio::test]
async fn the_transparent_endpoint_asks_for_it_too() {
    let (upstream, issuer) = (upstream().await, Issuer::start().await);
    let gateway = Setup::new().config(&config(&upstream, &issuer)).start().await;
    let token = issuer.sign(&issuer.claims("toolgate"));
    let bare = gateway.agent().await.at("/v1/mcp/servers/up");
    for client in [bare.clone(), bare.legacy().await, bare.modern()] {
        assert_eq!(client.call("read", &json!({})).await.denied(), "jwt_required");
        let params = json!({"name": "read", "arguments": {}, "_meta": {"toolgate/jwt": token, "vendor/kept": 1}});
        assert_eq!(client.rpc("tools/call", &params).await.told(), "done");
        let refused = client.rpc("resources/read", &json!({"uri": "memo://x"})).await;
        assert_eq!(refused.error()["code"], 403, "{}", refused.text);
    }
    for seen in upstream.seen() {
        assert!(!seen.text.contains("toolgate/jwt") && !seen.text.contains(&token), "{}", seen.text);
    }
    assert!(upstream.calls().iter().any(|seen| seen.text.contains("vendor/kept")));
    gateway.finish().await;
}

/// What a server has to read is told to those alone who could read it.
#[tokio::test]
async fn its_lists_are_for_those_who_bring_the_token() {
    let (upstream, issuer) = (upstream().await, Issuer::start().await);
    upstream.script(|seen| {
        let result = match seen.method() {
            "initialize" => json!({
                "protocolVersion": "2025-11-25",
                "capabilities": {"tools": {}, "prompts": {}, "resources": {}},
                "serverInfo": {"name": "fake", "version": "1"},
            }),
            "prompts/list" => json!({"prompts": [{"name": "hers"}]}),
            "resources/list" => json!({"resources": [{"uri": "notes://hers", "name": "hers"}]}),
            "resources/templates/list" => json!({"resourceTemplates": [{"uriTemplate": "hers://{id}", "name": "t"}]}),
            _ => return None,
        };
        Some(Say::Result(result.to_string()))
    });
    let gateway = Setup::new().config(&config(&upstream, &issuer)).start().await;
    let good = issuer.sign(&issuer.claims("toolgate"));
    let bad = issuer.sign(&issuer.claims("another"));
    let agent = gateway.agent().await;
    let lists = async |client: &Client, token: Option<&str>| {
        let mut answers = Vec::new();
        for method in ["prompts/list", "resources/list", "resources/templates/list"] {
            let request = client.request(method, "{}");
            let request = if let Some(token) = token { request.header("x-server-jwt", token) } else { request };
            answers.push(request.send().await);
        }
        answers
    };
    let alone = agent.at("/v1/mcp/servers/up");
    for client in [alone.clone(), alone.legacy().await, alone.modern()] {
        for (token, code) in [(None, "jwt_required"), (Some(bad.as_str()), "jwt_invalid")] {
            for answer in lists(&client, token).await {
                let error = answer.error();
                assert_eq!((&error["code"], &error["data"]["code"]), (&json!(403), &json!(code)), "{}", answer.text);
            }
        }
    }
    let all = agent.at("/v1/mcp?surface=direct");
    for client in [all.clone(), all.modern()] {
        for token in [None, Some(bad.as_str())] {
            for answer in lists(&client, token).await {
                assert!(answer.json()["error"].is_null() && !answer.text.contains("hers"), "{}", answer.text);
            }
        }
    }
    assert!(!upstream.seen().iter().any(|seen| seen.method().ends_with("s/list") && seen.method() != "tools/list"));
    for client in [alone.clone(), alone.legacy().await, alone.modern(), all.clone(), all.modern()] {
        for answer in lists(&client, Some(&good)).await {
            assert!(answer.text.contains("hers"), "{} {}", client.path, answer.text);
        }
    }
    gateway.finish().await;
}

#[tokio::test]
async fn its_roles_count_for_this_call_alone() {
    let (upstream, issuer) = (upstream().await, Issuer::start().await);
    let gateway = Setup::new().config(&config(&upstream, &issuer)).start().await;
    let client = gateway.agent().await;
    let with_roles = |roles: Value| {
        let mut claims = issuer.claims("toolgate");
        claims["roles"] = roles;
        issuer.sign(&claims)
    };
    assert_eq!(with_header(&client, "refund", &with_roles(json!(["finance"]))).await.told(), "done");
    assert_eq!(with_header(&client, "refund", &with_roles(json!("finance"))).await.told(), "done");
    assert_eq!(with_header(&client, "refund", &with_roles(json!(["sales"]))).await.denied(), "policy_denied");
    assert_eq!(with_header(&client, "refund", &with_roles(json!([]))).await.denied(), "policy_denied");
    let listed = client.at("/v1/mcp?surface=direct").tools().await;
    assert!(listed.contains(&"up__refund".to_owned()), "who may call it is known when it is called: {listed:?}");
    gateway.finish().await;
}

/// The response cache keeps what one set of roles may see from another.
#[tokio::test]
async fn a_kept_answer_is_for_the_same_roles() {
    let (upstream, issuer) = (upstream().await, Issuer::start().await);
    let config = config(&upstream, &issuer).replace("allowed_roles", "cache = \"60s\"\nallowed_roles");
    let gateway = Setup::new().config(&config).start().await;
    let client = gateway.agent().await;
    let token = |roles: &[&str]| {
        let mut claims = issuer.claims("toolgate");
        claims["roles"] = json!(roles);
        issuer.sign(&claims)
    };
    for (roles, calls) in [(&["finance"][..], 1), (&["finance"], 1), (&["finance", "boss"], 2), (&["finance"], 2)] {
        assert_eq!(with_header(&client, "refund", &token(roles)).await.told(), "done");
        assert_eq!(upstream.calls().len(), calls, "{roles:?}");
    }
    assert_eq!(with_header(&client, "refund", &token(&["boss"])).await.denied(), "policy_denied");
    gateway.finish().await;
}

/// Doubt denies: without the issuer's keys nothing is believed, and it is believed again when they are back.
#[tokio::test]
async fn an_issuer_that_is_silent_vouches_for_nobody() {
    let (upstream, issuer) = (upstream().await, Issuer::start().await);
    issuer.down(true);
    let gateway = Setup::new().config(&config(&upstream, &issuer)).start().await;
    let client = gateway.agent().await;
    let token = issuer.sign(&issuer.claims("toolgate"));
    let answer = with_header(&client, "read", &token).await;
    assert_eq!(answer.denied(), "jwt_invalid");
    assert!(answer.told().contains("try again"), "{}", answer.told());
    assert!(upstream.calls().is_empty());
    issuer.down(false);
    crate::support::eventually("the keys are fetched", async || {
        let answer = with_header(&client, "read", &token).await;
        (answer.result()["isError"] != json!(true)).then_some(())
    })
    .await;
    gateway.finish().await;
}
