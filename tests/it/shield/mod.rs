//! The doors under `/v1`: tokens, tools one by one, policies, the audit log.

mod audit;
mod auth;
mod mcps;
mod page;
mod policies;

use serde_json::Value;
use toolgate::gateway::NewKey;

use crate::support::{Client, Response, TestGateway};

/// Status and code of an error that has the usual shape.
fn code(answer: &Response) -> (u16, String) {
    let error = answer.error();
    assert!(error["message"].as_str().is_some_and(|message| !message.is_empty()), "{}", answer.text);
    assert!(error["details"].is_object(), "{}", answer.text);
    assert_meta(answer);
    (answer.status, error["code"].as_str().unwrap().to_owned())
}

/// What stands beside every answer.
fn assert_meta(answer: &Response) {
    let meta = answer.json()["meta"].clone();
    assert!(meta["request_id"].as_str().unwrap().starts_with("req_"), "{meta}");
    assert!(meta["timestamp"].as_str().unwrap().ends_with('Z'), "{meta}");
}

/// The `data` of an answer that went well.
fn data(answer: &Response) -> Value {
    assert!((200..300).contains(&answer.status), "{} {}", answer.status, answer.text);
    assert_meta(answer);
    answer.json()["data"].clone()
}

/// A key on a plan, with this profile and the role `writer`.
async fn planned(gateway: &TestGateway, profile: &str, plan: Option<&str>) -> Client {
    let key = NewKey {
        name: "planned".into(),
        profile: profile.into(),
        user: "u".into(),
        roles: vec!["writer".into()],
        plan: plan.map(str::to_owned),
        ..NewKey::default()
    };
    gateway.client(&gateway.create(key).await)
}

/// Every item of a list, page by page; and how many pages that took.
async fn all(client: &Client, path: &str, limit: usize) -> (Vec<Value>, usize) {
    let (mut items, mut pages, mut cursor) = (Vec::new(), 0, String::new());
    let mark = if path.contains('?') { '&' } else { '?' };
    loop {
        let answer = client.get(&format!("{path}{mark}limit={limit}&cursor={cursor}")).send().await;
        let page = data(&answer);
        let page = page.as_array().unwrap();
        assert!(page.len() <= limit, "{}", answer.text);
        assert_eq!(answer.json()["meta"]["limit"], limit);
        items.extend(page.iter().cloned());
        pages += 1;
        match answer.json()["meta"]["next_cursor"].as_str() {
            Some(next) => cursor = next.to_owned(),
            None => return (items, pages),
        }
    }
}
