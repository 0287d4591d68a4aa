//! Keys over REST: every status, and what a revocation ends.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use toolgate::domain::clock::{ManualClock, Moment};
use toolgate::gateway::NewKey;
use toolgate::gateway::control::Command;

use crate::support::{Client, Program, Response, Setup, TestGateway, eventually};

const KEYS: &str = "/v1/beta/users/ada/keys";

async fn start() -> (TestGateway, Client) {
    let gateway = Setup::new().start().await;
    let admin = gateway.client(&gateway.writer("admin").await);
    (gateway, admin)
}

async fn create(admin: &Client, wanted: &Value) -> Response {
    admin.post(KEYS).json(wanted).send().await
}

fn code(answer: &Response) -> (u16, String) {
    (answer.status, answer.error()["code"].as_str().unwrap().to_owned())
}

async fn ping(client: &Client) -> u16 {
    client.rpc("ping", &json!({})).await.status
}

#[tokio::test]
async fn a_key_is_made_listed_used_and_revoked() {
    let (gateway, admin) = start().await;
    let made =
        create(&admin, &json!({"name": "laptop", "profile": "mcp_readonly", "roles": ["reader"], "agent_id": "bot"}))
            .await;
    assert_eq!(made.status, 201);
    let made = made.json();
    let (id, key) = (made["id"].as_str().unwrap(), made["key"].as_str().unwrap());
    assert!(id.starts_with("key_") && key.starts_with("inv_live_"), "{made}");
    assert_eq!((made["profile"].clone(), made["read_only"].clone()), (json!("mcp_readonly"), json!(true)));
    assert_eq!(made["allowed_tools"], json!(["invoke.company_brain.query"]));
    assert!(made["scopes"].as_array().unwrap().contains(&json!("policy:simulate")));
    assert_eq!(made["expires_at"], Value::Null);
    let listed = admin.get(KEYS).send().await;
    assert_eq!(listed.status, 200);
    assert!(!listed.text.contains(key), "shown once");
    let listed = listed.json()["keys"].clone();
    assert_eq!((listed.as_array().unwrap().len(), listed[0]["id"].clone()), (1, json!(id)));
    assert_eq!((listed[0]["state"].clone(), listed[0]["agent_id"].clone()), (json!("live"), json!("bot")));
    let client = gateway.stranger().with_key(Some(key));
    assert_eq!(ping(&client).await, 200);
    let wrong_user = admin.delete(&format!("/v1/beta/users/bob/keys/{id}")).send().await;
    assert_eq!(code(&wrong_user), (404, "not_found".into()));
    let revoked = admin.delete(&format!("{KEYS}/{id}")).send().await;
    assert_eq!((revoked.status, revoked.text.as_str()), (204, ""));
    let refused = client.rpc("ping", &json!({})).await;
    assert_eq!(refused.status, 401, "the very next request");
    assert!(refused.error()["message"].as_str().unwrap().contains("revoked"), "{}", refused.text);
    assert_eq!(code(&admin.delete(&format!("{KEYS}/{id}")).send().await), (404, "not_found".into()));
    assert_eq!(admin.get(KEYS).send().await.json()["keys"][0]["state"], "revoked");
    gateway.finish().await;
}

#[tokio::test]
async fn only_administrators_manage_keys() {
    let (gateway, admin) = start().await;
    let body = json!({"name": "x", "profile": "admin"});
    for profile in ["mcp_readonly", "agent", "operator"] {
        let client = gateway.client(&gateway.writer(profile).await);
        assert_eq!(code(&create(&client, &body).await), (403, "insufficient_scope".into()), "{profile}");
        assert_eq!(code(&client.get(KEYS).send().await), (403, "insufficient_scope".into()));
        assert_eq!(code(&client.delete(&format!("{KEYS}/key_x")).send().await), (403, "insufficient_scope".into()));
        let garbage = client.post(KEYS).with("content-type", "text/plain").text("{").send().await;
        assert_eq!(garbage.status, 403, "before the body is looked at");
    }
    let stranger = gateway.stranger();
    for answer in [
        create(&stranger, &body).await,
        stranger.get(KEYS).send().await,
        stranger.delete(&format!("{KEYS}/key_x")).send().await,
    ] {
        assert_eq!(code(&answer), (401, "unauthorized".into()));
        assert!(!answer.header("www-authenticate").unwrap().contains("resource_metadata"));
    }
    assert_eq!(admin.get(KEYS).send().await.json()["keys"], json!([]), "none was made");
    gateway.finish().await;
}

#[tokio::test]
async fn what_is_wanted_must_make_sense() {
    let (gateway, admin) = start().await;
    for wanted in [
        json!({}),
        json!({"name": "x"}),
        json!({"name": "x", "profile": "nope"}),
        json!({"name": "", "profile": "agent"}),
        json!({"name": "x".repeat(201), "profile": "agent"}),
        json!({"name": "x", "profile": "agent", "plan": "nope"}),
        json!({"name": "x", "profile": "agent", "expires_in": "soon"}),
        json!({"name": "x", "profile": "agent", "expires_in": "0s"}),
        json!({"name": "x", "profile": "agent", "rolls": []}),
        json!({"name": 3, "profile": "agent"}),
        json!([]),
        json!(["x", "admin", [], null, null, null]),
        json!("x"),
    ] {
        let refused = create(&admin, &wanted).await;
        assert_eq!(code(&refused), (400, "invalid_request".into()), "{wanted}");
        assert!(!refused.text.contains("struct"), "no Rust in a message: {}", refused.text);
    }
    let twice = admin.post(KEYS).text(r#"{"name":"x","profile":"mcp_readonly","profile":"admin"}"#).send().await;
    assert_eq!(code(&twice), (400, "invalid_request".into()));
    assert_eq!(admin.post(KEYS).text("{").send().await.status, 400);
    assert_eq!(admin.post(KEYS).with("content-type", "text/plain").text("{}").send().await.status, 415);
    let big = json!({"name": "x", "profile": "agent", "roles": ["x".repeat(5 << 20)]});
    assert_eq!(create(&admin, &big).await.status, 413);
    assert_eq!(admin.get(KEYS).send().await.json()["keys"], json!([]));
    gateway.finish().await;
}

#[tokio::test]
async fn keys_expire() {
    let (gateway, admin) = start().await;
    let made = create(&admin, &json!({"name": "short", "profile": "agent", "expires_in": "300ms"})).await.json();
    assert!(made["expires_at"].is_string());
    let client = gateway.stranger().with_key(made["key"].as_str());
    let refused = eventually("the key expires", async || {
        let answer = client.rpc("ping", &json!({})).await;
        (answer.status == 401).then_some(answer)
    })
    .await;
    assert!(refused.error()["message"].as_str().unwrap().contains("expired"), "{}", refused.text);
    assert_eq!(admin.get(KEYS).send().await.json()["keys"][0]["state"], "expired");
    gateway.finish().await;
}

/// A stream does not outlive the key that opened it.
#[tokio::test]
async fn a_revoked_key_loses_its_streams() {
    let (gateway, admin) = start().await;
    let made = create(&admin, &json!({"name": "watcher", "profile": "agent"})).await.json();
    let client = gateway.stranger().with_key(made["key"].as_str());
    let mut session = client.legacy().await.get("/v1/mcp").header("accept", "text/event-stream").open().await;
    let mut subscription =
        client.modern().request("subscriptions/listen", r#"{"notifications":{"toolsListChanged":true}}"#).open().await;
    assert_eq!((session.status, subscription.status), (200, 200));
    session.next().await.unwrap();
    subscription.next().await.unwrap();
    admin.delete(&format!("{KEYS}/{}", made["id"].as_str().unwrap())).send().await;
    assert!(session.ends_within(Duration::from_secs(5)).await);
    assert!(subscription.ends_within(Duration::from_secs(5)).await);
    assert_eq!(ping(&client).await, 401);
    gateway.finish().await;
}

#[tokio::test]
async fn the_profiles_are_there_for_everybody() {
    let gateway = Setup::new().start().await;
    let profiles = gateway.stranger().get("/v1/mcp/key-profiles").send().await.json()["profiles"].clone();
    let names: Vec<&String> = profiles.as_object().unwrap().keys().collect();
    assert_eq!(names, ["admin", "agent", "mcp_readonly", "operator"]);
    assert_eq!(
        profiles["agent"],
        json!({
            "scopes": ["tools:read", "tools:invoke", "policy:simulate", "brain:read"],
            "allowed_tools": ["*"],
            "read_only": false,
            "surface": "search",
        })
    );
    gateway.finish().await;
}

/// A key with a plan is told where it stands; one without is not.
#[tokio::test]
async fn limits_stand_in_the_headers() {
    let gateway = Setup::new().config("[plans.tight]\nrequests_per_minute = 2").start().await;
    let admin = |plan: Option<&str>| NewKey {
        name: "a".into(),
        profile: "admin".into(),
        user: "a".into(),
        plan: plan.map(str::to_owned),
        ..NewKey::default()
    };
    let free = gateway.client(&gateway.create(admin(None)).await);
    assert_eq!(free.get(KEYS).send().await.header("x-ratelimit-limit"), None);
    let tight = gateway.client(&gateway.create(admin(Some("tight"))).await);
    for remaining in ["1", "0"] {
        let answer = tight.get(KEYS).send().await;
        assert_eq!(
            (answer.status, answer.header("x-ratelimit-limit"), answer.header("x-ratelimit-remaining")),
            (200, Some("2"), Some(remaining))
        );
        assert!(answer.header("x-ratelimit-reset").unwrap().parse::<i64>().unwrap() > 1_700_000_000);
    }
    let over = tight.get(KEYS).send().await;
    assert_eq!(code(&over), (429, "rate_limited".into()));
    assert!(over.header("retry-after").is_some() && over.header("x-ratelimit-remaining") == Some("0"));
    gateway.finish().await;
}

/// `TOOLGATE_ADMIN_KEY` sets the admin key, compared as it is.
#[tokio::test]
async fn an_admin_key_from_outside() {
    let key = "an admin key that is long enough: 0123456789";
    let gateway = Setup::new().admin_key(key).start().await;
    let admin = gateway.stranger().with_key(Some(key));
    assert_eq!(admin.get(KEYS).send().await.status, 200);
    for wrong in [&key[..key.len() - 1], &key.to_uppercase(), &format!("{key}x")] {
        assert_eq!(ping(&admin.with_key(Some(wrong))).await, 401);
    }
    gateway.finish().await;
}

/// Whoever makes or revokes a key stands in the log with it, whichever door they came by.
#[tokio::test]
async fn making_and_revoking_keys_is_recorded() {
    let (gateway, admin) = start().await;
    let made = create(&admin, &json!({"name": "laptop", "profile": "agent", "roles": ["writer"]})).await.json();
    let id = made["id"].as_str().unwrap();
    admin.delete(&format!("{KEYS}/{id}")).send().await;
    gateway.control(Command::KeysRevoke { id: gateway.key("agent").await.id }).await;
    let records: Vec<Value> =
        gateway.records().await.into_iter().filter(|record| record["server"] == "toolgate").collect();
    let told: Vec<_> = records
        .iter()
        .map(|record| {
            (
                record["tool"].as_str().unwrap(),
                record["entrance"].as_str().unwrap(),
                record["outcome"].as_str().unwrap(),
            )
        })
        .collect();
    assert_eq!(
        told,
        [("keys.create", "rest", "answered"), ("keys.revoke", "rest", "answered"), ("keys.revoke", "cli", "answered")]
    );
    let notes = records[0]["notes"].to_string();
    for note in ["name laptop", "user ada", "profile agent", "roles writer", &format!("key {id}")] {
        assert!(notes.contains(note), "{note}: {notes}");
    }
    assert!(records[1]["notes"].to_string().contains(&format!("key {id}")));
    assert!(!records.iter().any(|record| record.to_string().contains(made["key"].as_str().unwrap())));
    gateway.finish().await;
}

/// The id in an answer is that of the log and of the record, and its time is the gateway's.
#[tokio::test]
async fn an_answer_names_its_request() {
    let clock = ManualClock::at(Moment(1_800_000_000_000));
    let gateway = Setup::new().clock(&clock).start().await;
    let admin = gateway.client(&gateway.writer("admin").await);
    let refused = create(&admin, &json!({})).await.json()["meta"].clone();
    assert_eq!(refused["timestamp"], "2027-01-15T08:00:00.000Z");
    assert!(refused["request_id"].as_str().unwrap().starts_with("req_"), "{refused}");
    let stranger = gateway.stranger().with_key(Some("inv_live_nobody")).get(KEYS).send().await;
    assert_eq!(stranger.status, 401);
    let id = stranger.json()["meta"]["request_id"].clone();
    let recorded = eventually("the refused login is recorded", async || {
        gateway.records().await.into_iter().find(|record| record["request_id"] == id)
    })
    .await;
    assert_eq!(recorded["decision"], "deny");
    gateway.finish().await;

    let program = Program::start_in(Arc::new(TempDir::new().unwrap()), &[("TOOLGATE_LOG", "toolgate=debug")]).await;
    program.ready().await;
    let admin = program.client("admin");
    let refused = create(&admin, &json!({})).await.json()["meta"]["request_id"].clone();
    let made = create(&admin, &json!({"name": "x", "profile": "agent"})).await;
    assert_eq!(made.status, 201);
    let called = program.client("agent").invoke("github", "list_repos", "{}").await;
    let record = program.run(&["audit", "show", called.header("toolgate-audit-id").unwrap(), "--json"]).await.json();
    let tail = program.run(&["audit", "tail", "-n", "5", "--json"]).await.json();
    let made = tail["records"].as_array().unwrap().iter().rfind(|record| record["tool"] == "keys.create").unwrap();
    for (id, path) in [(&refused, KEYS), (&made["request_id"], KEYS), (&record["request_id"], "/v1/mcp")] {
        let id = id.as_str().unwrap();
        eventually("the answer is logged", async || {
            program
                .err()
                .iter()
                .any(|line| line.contains(id) && line.contains(path) && line.contains("answered"))
                .then_some(())
        })
        .await;
    }
    program.stop().await;
}
