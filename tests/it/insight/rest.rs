//! The same over REST.

use serde_json::{Value, json};

use super::{GET, LIST, audit_id, of_user, operator, structure};
use crate::support::{FakeUpstream, Setup};

#[tokio::test]
async fn rest_answers_as_mcp_does() {
    let upstream = FakeUpstream::legacy().await;
    let gateway = Setup::with(&upstream).start().await;
    let client = operator(&gateway).await;
    for tool in ["read", "write", "destroy"] {
        client.invoke("up", tool, "{}").await;
    }
    let listed = structure(&client.call(LIST, &json!({"server": "up", "limit": 2})).await);
    let page = client.get("/v1/executions?server=up&limit=2").send().await;
    assert_eq!((page.status, page.json()["data"].clone()), (200, listed["executions"].clone()));
    assert_eq!(page.json()["meta"]["next_cursor"], listed["next_cursor"]);
    assert_eq!(page.json()["meta"]["limit"], 2);
    assert!(page.header("toolgate-audit-id").is_some(), "it is a call");
    let cursor = listed["next_cursor"].as_str().unwrap();
    let rest = client.get(&format!("/v1/executions?server=up&limit=2&cursor={cursor}")).send().await.json();
    assert_eq!((rest["data"].as_array().unwrap().len(), rest["meta"]["next_cursor"].clone()), (1, Value::Null));
    let id = listed["executions"][0]["id"].as_str().unwrap();
    let one = client.get(&format!("/v1/executions/{id}")).send().await.json();
    assert_eq!(one["data"], structure(&client.call(GET, &json!({"id": id})).await));
    let summary = client.get("/v1/observability/summary?window=30m&server=up").send().await.json();
    let same = structure(&client.call("observability.summary", &json!({"window": "30m", "server": "up"})).await);
    for list in ["total", "servers", "tools", "keys", "decisions", "refusals", "breakers"] {
        assert_eq!(summary["data"][list], same[list], "{list}");
    }
    gateway.finish().await;
}

#[tokio::test]
async fn rest_says_what_is_wrong() {
    let upstream = FakeUpstream::legacy().await;
    let gateway = Setup::with(&upstream)
        .profile("looker", "scopes = [\"tools:invoke\", \"traces:read\"]\nallowed_tools = [\"*\"]")
        .start()
        .await;
    let (all, none) = (operator(&gateway).await, gateway.agent().await);
    let ada = gateway.client(&gateway.create(of_user("ada", "looker")).await);
    let hers = audit_id(&all.invoke("up", "read", "{}").await);
    for (client, path, status, code) in [
        (&all, "/v1/executions?nonsense=1", 400, "invalid_request"),
        (&all, "/v1/executions?limit=many", 400, "invalid_request"),
        (&all, "/v1/executions?limit=101", 400, "invalid_request"),
        (&all, "/v1/executions?decision=maybe", 400, "invalid_request"),
        (&all, "/v1/executions?outcome=", 400, "invalid_request"),
        (&all, "/v1/executions?min_latency_ms=-1", 400, "invalid_request"),
        (&all, "/v1/executions?since=soon", 400, "invalid_request"),
        (&all, "/v1/executions?cursor=x", 400, "invalid_request"),
        (&all, "/v1/executions/evt_none", 404, "not_found"),
        (&all, "/v1/observability/summary?window=1y", 400, "invalid_request"),
        (&all, "/v1/observability/summary?window=1h&window=2h", 400, "invalid_request"),
        (&none, "/v1/executions", 403, "insufficient_scope"),
        (&none, "/v1/executions?nonsense=1", 403, "insufficient_scope"),
        (&none, "/v1/observability/summary", 403, "insufficient_scope"),
        (&ada, &format!("/v1/executions/{hers}"), 404, "not_found"),
        (&ada, "/v1/observability/summary", 403, "insufficient_scope"),
    ] {
        let answer = client.get(path).send().await;
        assert_eq!((answer.status, answer.error()["code"].as_str()), (status, Some(code)), "{path}: {}", answer.text);
    }
    assert_eq!(ada.get("/v1/executions?server=up").send().await.json()["data"], json!([]));
    gateway.finish().await;
}
