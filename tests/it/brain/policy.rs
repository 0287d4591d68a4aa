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

/// What simulate says of entities is what queries show of them.
#[tokio::test]
async fn simulate_says_what_is_shown() {
    let gateway = governed().await;
    for roles in [&[][..], &["support"], &["writer"], &["support", "writer"]] {
        let client = with_roles(&gateway, roles).await;
        let types = ask(&client, &json!({})).await["types"].to_string();
        for (entity, shown) in [
            ("customer", types.contains("\"customer\"")),
            ("customer.name", types.contains("\"name\"")),
            ("customer.email", types.contains("email")),
            ("invoice.amount", types.contains("amount")),
            ("ticket", types.contains("\"ticket\"")),
            ("ticket.subject", types.contains("subject")),
        ] {
            let report = client.simulate(&json!({"entity": entity})).await;
            let expected = if shown { "allow" } else { "deny" };
            assert_eq!(
                (&report["decision"], &report["kind"]),
                (&json!(expected), &json!("entity")),
                "{entity} {roles:?}"
            );
        }
    }
    let client = with_roles(&gateway, &[]).await;
    let report = client.simulate(&json!({"entity": "customer.email"})).await;
    assert_eq!((&report["policy"], &report["reason"]), (&json!("no-email"), &json!("addresses stay inside")));
    assert_eq!(report["policies"][0]["file"], "policies/entities.cedar", "{report}");
    let within = client.simulate(&json!({"entity": "ticket.subject"})).await;
    assert_eq!(within["policy"], "no-tickets", "a field lies in its type");
    // Nothing has to be known: policies are written before rows are imported.
    assert_eq!(client.simulate(&json!({"entity": "not_yet.there"})).await["decision"], "allow");
    let rest = with_roles(&gateway, &["support"]).await.post("/v1/policies/simulate");
    let rest = rest.json(&json!({"entity": "customer.email"})).send().await;
    assert_eq!((rest.status, &rest.json()["data"]["decision"]), (200, &json!("allow")), "{}", rest.text);
    for bad in [
        json!({"entity": ""}),
        json!({"entity": "customer."}),
        json!({"entity": "a b"}),
        json!({"entity": "customer", "action": "github.list_repos"}),
        json!({"entity": "customer", "params": {}}),
        json!({"entity": {"type": "customer"}}),
    ] {
        let refused = client.post("/v1/policies/simulate").json(&bad).send().await;
        assert_eq!(
            (refused.status, &refused.error()["code"]),
            (400, &json!("invalid_request")),
            "{bad}: {}",
            refused.text
        );
    }
    gateway.finish().await;
}

/// What needs approval is not shown, and a profile that may not ask is shown nothing.
#[tokio::test]
async fn simulate_knows_what_no_query_shows() {
    let gateway = Setup::new()
        .policy(
            "entities",
            "@id(\"ask\") @requires(\"approval\")\npermit (principal, action == Toolgate::Action::\"read\", resource is \
             Toolgate::Entity);\n@id(\"tools\") permit (principal, action in Toolgate::Action::\"read\", resource is \
             Toolgate::Tool);",
        )
        .profile("mute", "scopes = [\"tools:read\", \"policy:simulate\"]\nallowed_tools = [\"*\"]")
        .start()
        .await;
    filled(&gateway).await;
    let client = gateway.agent().await;
    let asked = json!({"entity": "customer"});
    let report = client.simulate(&asked).await;
    assert_eq!((&report["decision"], &report["policy"]), (&json!("deny"), &json!("ask")), "{report}");
    assert_eq!(report["reason"], "what policy permits after approval alone is not shown");
    assert_eq!(ask(&client, &json!({})).await["types"], json!([]));
    let mute = gateway.client(&gateway.key("mute").await);
    let report = mute.simulate(&asked).await;
    assert_eq!((&report["decision"], &report["policy"]), (&json!("deny"), &json!("profile:mute")), "{report}");
    gateway.finish().await;
}
