//! `company_brain.query` through every door: the seed's example, policy on types and fields, hostile queries.

use serde_json::{Value, json};
use toolgate::gateway::brain::{Entity, Format, Rows, RowsOptions};
use toolgate::gateway::control::Actor;

use crate::support::{Client, Response, TestGateway};

mod command;
mod policy;
mod query;
mod rest;

const TOOL: &str = "company_brain.query";

/// The demo's entities, as a gateway without a configuration has them.
async fn filled(gateway: &TestGateway) {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/brain/demo.jsonl");
    import(gateway, &std::fs::read_to_string(path).unwrap()).await;
}

async fn import(gateway: &TestGateway, text: &str) {
    let rows = Rows::new(text.as_bytes(), Format::Jsonl, RowsOptions::default());
    let rows: Vec<(u64, Entity)> = rows.map(|row| row.unwrap()).map(|row| (row.line, row.entity.unwrap())).collect();
    let imported = gateway.gateway.import(&Actor::owner(), rows, Vec::new()).await.unwrap();
    assert_eq!((imported.faults.len(), imported.undeclared.len()), (0, 0));
}

async fn ask(client: &Client, arguments: &Value) -> Value {
    let answer = client.call(TOOL, arguments).await;
    let result = answer.result();
    assert_ne!(result["isError"], true, "{}", answer.text);
    result["structuredContent"].clone()
}

/// What the tool says is wrong with a query.
fn wrong(answer: &Response) -> String {
    let result = answer.result();
    assert_eq!(result["isError"], true, "{}", answer.text);
    result["structuredContent"]["error"]["message"].as_str().unwrap().to_owned()
}

fn keys(answer: &Value) -> Vec<&str> {
    answer["entities"].as_array().unwrap().iter().map(|one| one["key"].as_str().unwrap()).collect()
}

fn acme() -> Value {
    json!({"query": "Acme", "entity_type": "customer", "join_to": {"entity_type": "invoice"}})
}
