//! Policy on types and fields: what is hidden answers exactly like what does not exist.

use serde_json::{Value, json};

use super::{TOOL, acme, ask, filled, keys, wrong};
use crate::support::{Client, Setup, TestGateway};

const NO_EMAIL: &str = r#"
@id("no-email") @reason("addresses stay inside")
forbid (
    principal,
    action == Toolgate::Action::"read",
    resource == Toolgate::Entity::"customer.email"
) unless { principal in Toolgate::Role::"support" };

@id("no-tickets")
forbid (principal, action, resource in Toolgate::Entity::"ticket");

@id("amounts-for-finance")
forbid (principal, action in Toolgate::Action::"read", resource is Toolgate::Entity)
when { resource.type == "invoice" && resource has field && resource.field == "amount" }
unless { principal in Toolgate::Role::"writer" };
"#;

async fn governed() -> TestGateway {
    let gateway = Setup::new().shipped_policies().policy("entities", NO_EMAIL).start().await;
    filled(&gateway).await;
    gateway
}

async fn with_roles(gateway: &TestGateway, roles: &[&str]) -> Client {
    let roles = roles.iter().map(|role| (*role).to_owned()).collect();
    let new = toolgate::gateway::NewKey {
        name: "r".into(),
        profile: "agent".into(),
        user: "r".into(),
        roles,
        ..toolgate::gateway::NewKey::default()
    };
    gateway.client(&gateway.create(new).await)
}

#[tokio::test]
async fn a_hidden_field_is_in_no_answer_and_no_use() {
    let gateway = governed().await;
    let client = with_roles(&gateway, &[]).await;
    let answer = ask(&client, &acme()).await;
    let first = &answer["entities"][0];
    assert_eq!(first["attributes"].get("email"), None);
    assert_eq!(first["joined"][0]["attributes"].get("amount"), None, "in what is joined too");
    let told = async |field: &str, query: &str| {
        let arguments: Value = serde_json::from_str(&query.replace("FIELD", field)).unwrap();
        let answer = client.call(TOOL, &arguments).await;
        wrong(&answer).replace(field, "FIELD")
    };
    for query in [
        r#"{"entity_type": "customer", "filter": {"FIELD": "ops@acme.example"}}"#,
        r#"{"entity_type": "customer", "filter": {"FIELD": null}}"#,
        r#"{"entity_type": "customer", "fields": ["name", "FIELD"]}"#,
        r#"{"entity_type": "customer", "aggregate": {"sum": ["FIELD"]}}"#,
        r#"{"entity_type": "invoice", "join_to": {"entity_type": "customer", "filter": {"FIELD": 1}}}"#,
        r#"{"entity_type": "invoice", "join_to": {"entity_type": "customer", "fields": ["FIELD"]}}"#,
        r#"{"entity_type": "invoice", "join_to": {"entity_type": "customer", "on": "invoice.status=customer.FIELD"}}"#,
        r#"{"entity_type": "invoice", "join_to": {"entity_type": "customer", "aggregate": {"sum": ["FIELD"]}}}"#,
    ] {
        assert_eq!(told("email", query).await, told("nowhere", query).await, "{query}");
    }
    let by = async |words: &str| ask(&client, &json!({"query": words, "entity_type": "customer"})).await;
    assert_eq!(by("ops").await, by("nowhere").await, "what it holds is no word to find it by");
    assert_eq!(by("ops acme").await, by("nowhere acme").await);
    let types = ask(&client, &json!({})).await;
    assert!(!types.to_string().contains("email") && !types.to_string().contains("ticket"), "{types}");

    let supporter = with_roles(&gateway, &["support", "writer"]).await;
    let answer = ask(&supporter, &acme()).await;
    assert_eq!(answer["entities"][0]["attributes"]["email"], "ops@acme.example");
    let found = ask(&supporter, &json!({"query": "ops", "entity_type": "customer"})).await;
    assert_eq!(keys(&found), ["c-1001"]);
    let sum = json!({"entity_type": "invoice", "aggregate": {"sum": ["amount"]}});
    assert_eq!(ask(&supporter, &sum).await["aggregates"]["sum"]["amount"], 28730.75);
    gateway.finish().await;
}

#[tokio::test]
async fn a_hidden_type_is_not_there() {
    let gateway = governed().await;
    let client = with_roles(&gateway, &["support", "writer"]).await;
    let told = async |name: &str, query: Value| {
        let text = query.to_string().replace("TYPE", name);
        wrong(&client.call(TOOL, &serde_json::from_str(&text).unwrap()).await).replace(name, "TYPE")
    };
    for query in
        [json!({"entity_type": "TYPE"}), json!({"entity_type": "customer", "join_to": {"entity_type": "TYPE"}})]
    {
        assert_eq!(told("ticket", query.clone()).await, told("nowhere", query).await);
    }
    assert_eq!(ask(&client, &json!({"query": "csv export"})).await["total"], 0);
    let everybody = ask(&client, &json!({"query": "c-1001"})).await;
    assert!(!everybody.to_string().contains("ticket"), "{everybody}");
    let record = gateway.records().await.pop().unwrap();
    assert_eq!(record["notes"], json!(["entity types: customer, invoice"]), "{record}");
    gateway.finish().await;
}

#[tokio::test]
async fn where_nothing_permits_reading_entities_there_are_none() {
    let gateway = Setup::new()
        .policy("tools", "permit (principal, action in Toolgate::Action::\"read\", resource is Toolgate::Tool);")
        .start()
        .await;
    filled(&gateway).await;
    let client = gateway.agent().await;
    assert_eq!(ask(&client, &json!({})).await["types"], json!([]));
    let answer = client.call(TOOL, &acme()).await;
    assert_eq!(wrong(&answer), "there is no entity type `customer`: nothing was imported yet");
    gateway.finish().await;
}

/// Policies are swapped while the gateway runs, and the next query is another's.
#[tokio::test]
async fn a_changed_policy_counts_at_once() {
    let gateway = Setup::new().shipped_policies().start().await;
    filled(&gateway).await;
    let client = gateway.agent().await;
    let email = async || ask(&client, &acme()).await["entities"][0]["attributes"]["email"].clone();
    assert_eq!(email().await, "ops@acme.example");
    gateway.write("policies/entities.cedar", NO_EMAIL);
    crate::support::eventually("the policy is read", async || email().await.is_null().then_some(())).await;
    gateway.finish().await;
}
