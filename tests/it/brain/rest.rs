//! `/v1/brain`: importing and asking over REST, with the same answers and records as everywhere.

use serde_json::{Value, json};

use super::{TOOL, acme, ask, filled};
use crate::support::Setup;

#[tokio::test]
async fn the_answer_is_that_of_mcp() {
    let gateway = Setup::new().start().await;
    filled(&gateway).await;
    let client = gateway.client(&gateway.key("mcp_readonly").await);
    let answer = client.post("/v1/brain/query").json(&acme()).send().await;
    assert_eq!((answer.status, &answer.json()["data"]), (200, &ask(&client, &acme()).await));
    assert!(answer.json()["meta"]["request_id"].as_str().unwrap().starts_with("req_"));
    let record = gateway.record(answer.header("toolgate-audit-id").unwrap()).await;
    assert_eq!(
        (&record["entrance"], &record["tool"], &record["notes"]),
        (&json!("rest"), &json!(TOOL), &json!(["entity types: customer, invoice"]))
    );
    let types = client.get("/v1/brain/types").send().await;
    assert_eq!((types.status, &types.json()["data"]), (200, &ask(&client, &json!({})).await["types"]));
    let wrong = client.post("/v1/brain/query").json(&json!({"entity_type": "robot"})).send().await;
    assert_eq!(wrong.status, 400);
    assert_eq!(
        wrong.json()["error"],
        json!({
            "code": "invalid_request", "message": "there is no entity type `robot`: known are customer, invoice, ticket",
            "details": {"reason": "invalid_query"},
        })
    );
    assert_eq!(client.post("/v1/brain/query").json(&json!({"limit": 0})).send().await.status, 400);
    gateway.finish().await;
}

#[tokio::test]
async fn entities_are_imported_one_by_one() {
    let gateway = Setup::new().start().await;
    let admin = gateway.client(&gateway.key("operator").await);
    let body = json!({
        "entities": [
            {"type": "customer", "key": "c-1", "attributes": {"name": "Acme"}},
            {"type": "invoice", "id": "i-1", "buyer": "c-1", "amount": 12},
            {"type": "customer"},
            "no entity",
            {"type": "a b", "id": 1},
        ],
        "relations": ["invoice.buyer=customer.id", "order.buyer=customer.id"],
    });
    let answer = admin.post("/v1/brain/entities").json(&body).send().await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let faults: Value = answer.json()["data"]["faults"].clone();
    let places: Vec<i64> = faults.as_array().unwrap().iter().map(|fault| fault["at"].as_i64().unwrap()).collect();
    assert_eq!(places, [2, 3, 4], "{faults}");
    assert_eq!(answer.json()["data"]["created"], 2);
    assert_eq!(
        answer.json()["data"]["undeclared"],
        json!(["there is no type `order` to relate: import its entities first"])
    );
    let found = admin.post("/v1/brain/query").json(&acme()).send().await.json();
    assert_eq!(found["data"]["entities"][0]["joined"][0]["key"], "i-1");
    let act = gateway.records().await.into_iter().find(|record| record["tool"] == "brain.import").unwrap();
    assert_eq!((&act["entrance"], &act["outcome"]), (&json!("rest"), &json!("answered")));
    let again = admin.post("/v1/brain/entities").json(&json!({"entities": [body["entities"][0]]})).send().await;
    assert_eq!(again.json()["data"]["unchanged"], 1);
    for (body, told) in [
        (json!([]), "the body must be an object"),
        (json!({"entities": 7}), "entities must be a list of objects, and relations one of texts"),
        (json!({"entities": [], "more": 1}), "unknown member `more`: known are `entities`, `relations`"),
        (
            json!({"entities": [], "relations": ["nonsense"]}),
            "`nonsense` is no relation: write `invoice.customer_id=customer.id`",
        ),
        (
            json!({"entities": vec![json!({}); 5001]}),
            "entities holds at most 5000 of them: send more in another request",
        ),
    ] {
        let answer = admin.post("/v1/brain/entities").json(&body).send().await;
        assert_eq!((answer.status, &answer.json()["error"]["message"]), (400, &json!(told)));
    }
    gateway.finish().await;
}

#[tokio::test]
async fn scopes_and_grants_are_held() {
    let gateway = Setup::new()
        .profile("no_grant", "scopes = [\"brain:read\"]\nallowed_tools = [\"github:*\"]")
        .profile("none", "scopes = []\nallowed_tools = [\"*\"]")
        .start()
        .await;
    filled(&gateway).await;
    for (profile, ask, import) in [
        ("mcp_readonly", 200, 403),
        ("agent", 200, 403),
        ("operator", 200, 200),
        ("admin", 200, 200),
        ("no_grant", 404, 403),
        ("none", 403, 403),
    ] {
        let client = gateway.client(&gateway.key(profile).await);
        assert_eq!(client.post("/v1/brain/query").json(&acme()).send().await.status, ask, "{profile}");
        assert_eq!(client.get("/v1/brain/types").send().await.status, ask, "{profile}");
        let body = json!({"entities": []});
        assert_eq!(client.post("/v1/brain/entities").json(&body).send().await.status, import, "{profile}");
    }
    gateway.finish().await;
}
