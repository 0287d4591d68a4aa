//! The page that describes this API, line by line: what it shows works.

use serde_json::{Value, json};

use super::{assert_meta, code, data, planned};
use crate::support::{Client, Draft, Setup, TestGateway};

/// A caller with nothing but a bearer token, as the page has it.
struct Bearer {
    client: Client,
    token: String,
}

impl Bearer {
    async fn of(gateway: &TestGateway, profile: &str) -> Self {
        let key = gateway.client(&gateway.writer(profile).await);
        let issued = data(&key.post("/v1/auth/token").send().await);
        Self { client: gateway.stranger(), token: issued["access_token"].as_str().unwrap().to_owned() }
    }

    fn draft(&self, method: &str, path: &str) -> Draft {
        let draft = self.client.draft(method, path).header("authorization", &format!("Bearer {}", self.token));
        draft.header("content-type", "application/json")
    }
}

#[tokio::test]
async fn the_quick_example_works_as_it_stands() {
    let gateway = Setup::demo().start().await;
    let bearer = Bearer::of(&gateway, "operator").await;
    assert!(bearer.token.starts_with("mcp_live_"));
    let listed = data(&bearer.draft("GET", "/v1/mcps").send().await);
    assert!(listed.as_array().unwrap().iter().any(|tool| tool["id"] == "github:list_repos"), "{listed}");
    let body = "{\n\"input\": {\n\"limit\": 5\n}\n}";
    let answer = bearer.draft("POST", "/v1/mcps/github:list_repos/invoke").text(body).send().await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let first = answer.json()["result"]["repositories"][0].clone();
    let shown = json!({"name": "demo/project-a", "visibility": "private", "updated_at": "2024-01-15T14:32:00Z"});
    assert_eq!(first, shown);
    let governance = answer.json()["governance"].clone();
    assert_eq!((&governance["decision"], &governance["policy"]), (&json!("allow"), &json!("default-allow-read")));
    assert!(["off", "passed"].contains(&governance["dlp_result"].as_str().unwrap()), "{governance}");
    let id = governance["audit_event_id"].as_str().unwrap();
    assert!(id.starts_with("evt_"));
    assert_eq!(answer.header("toolgate-audit-id"), Some(id));
    assert_meta(&answer);
    assert_eq!(answer.json()["meta"]["is_error"], Value::Null);
    // The same request id stands in the record.
    let record = data(&bearer.draft("GET", &format!("/v1/audit/events/{id}")).send().await);
    assert_eq!(record["request_id"], answer.json()["meta"]["request_id"]);
    gateway.finish().await;
}

/// Each line of the table of endpoints that is served.
#[tokio::test]
async fn every_endpoint_of_the_table_answers() {
    let gateway = Setup::demo().start().await;
    let bearer = Bearer::of(&gateway, "admin").await;
    let key = gateway.client(&gateway.writer("admin").await);
    let issued = data(&key.post("/v1/auth/token").json(&json!({"type": "service"})).send().await);
    assert!(issued["access_token"].as_str().unwrap().starts_with("svc_live_"), "{issued}");
    let refresh = json!({"refresh_token": issued["refresh_token"]});
    let renewed = data(&gateway.stranger().post("/v1/auth/refresh").json(&refresh).send().await);
    for member in ["access_token", "token_type", "expires_in", "refresh_token"] {
        assert!(!issued[member].is_null() && !renewed[member].is_null(), "{member}: {issued} {renewed}");
    }
    let get = |path: &str| bearer.draft("GET", path).send();
    assert_eq!(data(&get("/v1/mcps/github:list_repos").await)["name"], "list_repos");
    let policies = data(&get("/v1/policies").await);
    assert!(policies.as_array().unwrap().iter().any(|policy| policy["id"] == "default-allow-read"), "{policies}");
    assert_eq!(data(&get("/v1/policies/block-sql-drop").await)["effect"], "forbid");
    let question = json!({"action": "database:execute", "params": {"sql": "drop table invoices"}});
    let simulated = bearer.draft("POST", "/v1/policies/simulate").json(&question).send().await;
    assert_eq!(data(&simulated)["decision"], "deny");
    let events = data(&get("/v1/audit/events").await);
    let id = events[0]["id"].as_str().unwrap().to_owned();
    assert_eq!(data(&get(&format!("/v1/audit/events/{id}")).await)["id"], json!(id));
    assert_eq!(get("/v1/audit/export").await.status, 200);
    let revoked = bearer.draft("DELETE", "/v1/auth/token").without("content-type").send().await;
    assert_eq!(data(&revoked)["revoked"], true);
    assert_eq!(code(&get("/v1/mcps").await), (401, "unauthorized".into()));
    gateway.finish().await;
}

/// The example of an error, with its policy made over the API.
#[tokio::test]
async fn the_error_of_the_page_comes_back() {
    let gateway = Setup::demo().start().await;
    let bearer = Bearer::of(&gateway, "operator").await;
    let text = "@id(\"block-production-writes\")\n\
                @reason(\"Write operations to production are not allowed for this user\")\n\
                forbid (principal, action in Toolgate::Action::\"write\", resource in Toolgate::Server::\"github\");";
    let made = bearer.draft("POST", "/v1/policies").json(&json!({"text": text})).send().await;
    assert_eq!(made.status, 201, "{}", made.text);
    let input = json!({"input": {"repo": "demo/project-a", "title": "x"}});
    let denied = bearer.draft("POST", "/v1/mcps/github:create_issue/invoke").json(&input).send().await;
    assert_eq!(code(&denied), (403, "policy_denied".into()));
    assert_eq!(
        denied.error(),
        json!({
            "code": "policy_denied",
            "message": "Request denied by policy: block-production-writes",
            "details": {
                "policy": "block-production-writes",
                "reason": "Write operations to production are not allowed for this user",
            },
        })
    );
    let governance = denied.json()["governance"].clone();
    assert_eq!(
        (&governance["decision"], &governance["policy"]),
        (&json!("deny"), &json!("block-production-writes")),
        "{governance}"
    );
    gateway.finish().await;
}

#[tokio::test]
async fn each_status_of_the_page_means_what_it_says() {
    let gateway = Setup::demo().start().await;
    let bearer = Bearer::of(&gateway, "operator").await;
    let invoke = |tool: &str, body: &str| bearer.draft("POST", &format!("/v1/mcps/{tool}/invoke")).text(body).send();
    assert_eq!(code(&invoke("github:list_repos", "{").await), (400, "invalid_request".into()));
    assert_eq!(
        code(&invoke("github:list_repos", r#"{"input":{"limit":"five"}}"#).await),
        (400, "invalid_request".into())
    );
    assert_eq!(code(&gateway.stranger().get("/v1/mcps").send().await), (401, "unauthorized".into()));
    let wrong = gateway.stranger().get("/v1/mcps").header("authorization", "Bearer mcp_live_xxxxxxxxxxxxx");
    assert_eq!(code(&wrong.send().await), (401, "unauthorized".into()));
    assert_eq!(
        code(&invoke("database:execute", r#"{"input":{"sql":"drop table invoices"}}"#).await),
        (403, "policy_denied".into())
    );
    assert_eq!(code(&invoke("github:nothing", "{}").await), (404, "not_found".into()));
    assert_eq!(code(&bearer.draft("GET", "/v1/mcps/github:nothing").send().await), (404, "not_found".into()));
    gateway.finish().await;
}

/// The plans of the page: free has 60 requests and 10 invocations a minute, enterprise has no limits.
#[tokio::test]
async fn the_plans_are_those_of_the_page() {
    let gateway = Setup::demo().start().await;
    let free = planned(&gateway, "agent", Some("free")).await;
    let invoke =
        |client: &Client| client.post("/v1/mcps/github:list_repos/invoke").json(&json!({"input": {"limit": 1}})).send();
    for left in (0..10).rev() {
        let answer = invoke(&free).await;
        assert_eq!(answer.status, 200);
        let headers = (answer.header("x-ratelimit-limit"), answer.header("x-ratelimit-remaining"));
        assert_eq!(headers, (Some("10"), Some(left.to_string().as_str())), "the nearest to its end");
    }
    let over = invoke(&free).await;
    assert_eq!(code(&over), (429, "rate_limited".into()));
    assert!(over.header("retry-after").unwrap().parse::<u64>().unwrap() >= 1);
    assert_eq!(over.header("x-ratelimit-remaining"), Some("0"));
    assert_eq!(over.json()["governance"]["decision"], "deny");
    // Eleven requests so far: each counts once.
    let lister = planned(&gateway, "agent", Some("free")).await;
    for _ in 0..60 {
        assert_eq!(lister.get("/v1/mcps").send().await.status, 200);
    }
    let over = lister.get("/v1/mcps").send().await;
    assert_eq!(code(&over), (429, "rate_limited".into()));
    assert_eq!((over.header("x-ratelimit-limit"), over.header("x-ratelimit-remaining")), (Some("60"), Some("0")));
    for _ in 0..49 {
        assert_eq!(free.get("/v1/mcps").send().await.status, 200);
    }
    assert_eq!(free.get("/v1/mcps").send().await.status, 429, "sixty requests, whatever they were");
    for plan in [Some("enterprise"), None] {
        let unlimited = invoke(&planned(&gateway, "agent", plan).await).await;
        assert_eq!((unlimited.status, unlimited.header("x-ratelimit-limit")), (200, None), "{plan:?}");
    }
    let pro = planned(&gateway, "agent", Some("pro")).await.get("/v1/mcps").send().await;
    assert_eq!(pro.header("x-ratelimit-limit"), Some("100"));
    gateway.finish().await;
}
