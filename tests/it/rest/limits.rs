//! What REST says of limits: on every answer, in headers, and each request counted once.

use serde_json::json;
use toolgate::gateway::NewKey;

use crate::support::{Client, FakeUpstream, Setup, TestGateway};

async fn planned(gateway: &TestGateway, plan: Option<&str>) -> Client {
    let key = NewKey {
        name: "p".into(),
        profile: "admin".into(),
        user: "u".into(),
        roles: vec!["writer".into()],
        plan: plan.map(str::to_owned),
        ..NewKey::default()
    };
    gateway.client(&gateway.create(key).await)
}

/// Each door once, whatever it answers: the window falls by one each time, and the last is 429 in the door's own shape.
#[tokio::test]
async fn each_request_counts_once_and_each_answer_says_so() {
    let upstream = FakeUpstream::legacy().await;
    let gateway = Setup::with(&upstream).config("[plans.tight]\nrequests_per_minute = 8").start().await;
    let free = planned(&gateway, None).await;
    let client = planned(&gateway, Some("tight")).await;
    let invoke = json!({"serverId": "up", "toolName": "read"});
    let call = json!({"tool": "up:read", "arguments": {}});
    let doors = [
        ("/api/v1/mcp/invoke", Some(invoke.clone()), 200),
        ("/api/v1/mcp/invoke", Some(json!({"serverId": "up", "toolName": "nothing"})), 404),
        ("/api/v1/mcp/invoke", Some(json!({})), 400),
        ("/api/mcp/call", Some(call.clone()), 200),
        ("/api/mcp/call", Some(json!({"tool": "up:read"})), 400),
        ("/api/mcp/v1/servers", None, 200),
        ("/api/mcp/v1/servers/local/nothing", None, 404),
        ("/v1/beta/users/u/keys", None, 200),
    ];
    for (at, (path, body, status)) in doors.into_iter().enumerate() {
        let draft = |client: &Client| match &body {
            Some(body) => client.post(path).json(body),
            None => client.get(path),
        };
        let answer = draft(&client).send().await;
        assert_eq!(answer.status, status, "{path}: {}", answer.text);
        let left = (7 - at).to_string();
        let headers = (answer.header("x-ratelimit-limit"), answer.header("x-ratelimit-remaining"));
        assert_eq!(headers, (Some("8"), Some(left.as_str())), "{path}");
        let reset: i64 = answer.header("x-ratelimit-reset").unwrap().parse().unwrap();
        assert!((0..=62).contains(&(reset - gateway.gateway.now().0 / 1000)), "{path}: {reset}");
        let unlimited = draft(&free).send().await;
        assert_eq!((unlimited.status, unlimited.header("x-ratelimit-limit")), (status, None), "{path}");
    }
    for (path, body, member) in [
        ("/api/v1/mcp/invoke", Some(invoke), "rate_limited"),
        ("/api/v1/mcp/invoke", Some(json!({})), "rate_limited"),
        ("/api/mcp/call", Some(call), "RATE_LIMITED"),
        ("/api/mcp/call", Some(json!({})), "RATE_LIMITED"),
        ("/api/mcp/v1/servers", None, "rate_limited"),
    ] {
        let draft = match &body {
            Some(body) => client.post(path).json(body),
            None => client.get(path),
        };
        let answer = draft.send().await;
        assert_eq!((answer.status, answer.error()["code"].as_str()), (429, Some(member)), "{path}");
        assert!(answer.header("retry-after").unwrap().parse::<u64>().unwrap() >= 1);
        assert_eq!(answer.header("x-ratelimit-remaining"), Some("0"), "{path}");
        if let Some(id) = answer.header("toolgate-audit-id") {
            let record = gateway.record(id).await;
            assert_eq!((record["decision"].clone(), record["outcome"].clone()), (json!("deny"), json!("refused")));
        } else {
            assert!(body.is_none(), "a call leaves a record");
        }
    }
    gateway.finish().await;
}

/// A tool's window is told by 429 too; the headers speak of the plan.
#[tokio::test]
async fn a_tools_window_is_429() {
    let upstream = FakeUpstream::legacy().await;
    let rows = "[servers.up.tools.read]\nrate_limit = \"1/h\"";
    let gateway = Setup::new().config(&upstream.section("up", rows)).start().await;
    let client = planned(&gateway, None).await;
    let body = json!({"serverId": "up", "toolName": "read"});
    assert_eq!(client.post("/api/v1/mcp/invoke").json(&body).send().await.status, 200);
    let over = client.post("/api/v1/mcp/invoke").json(&body).send().await;
    assert_eq!(over.status, 429);
    let seconds: u64 = over.header("retry-after").unwrap().parse().unwrap();
    assert!((3500..=3600).contains(&seconds), "{seconds}");
    assert_eq!(over.error()["details"]["retry_after"], seconds);
    assert_eq!(upstream.calls().len(), 1);
    gateway.finish().await;
}

/// What is asked of `gateway_invoke` and cannot be opened counts as any request does, whichever door it comes to.
#[tokio::test]
async fn a_misfit_of_invoke_counts_once() {
    let upstream = FakeUpstream::legacy().await;
    let gateway = Setup::with(&upstream).config("[plans.tight]\nrequests_per_minute = 2").start().await;
    let misfit = json!({"server": "up"});
    let rest = json!({"serverId": "toolgate", "toolName": "gateway_invoke", "arguments": misfit});
    let (mcp, other) = (planned(&gateway, Some("tight")).await, planned(&gateway, Some("tight")).await);
    for (wanted_mcp, wanted_rest) in [(200, 400), (200, 400), (429, 429)] {
        let answer = mcp.call("gateway_invoke", &misfit).await;
        assert_eq!(answer.status, wanted_mcp, "{}", answer.text);
        let answer = other.post("/api/v1/mcp/invoke").json(&rest).send().await;
        assert_eq!(answer.status, wanted_rest, "{}", answer.text);
    }
    gateway.finish().await;
}
