//! Tokens: what keys are exchanged for.

use std::time::Duration;

use serde_json::{Value, json};
use toolgate::domain::clock::{Clock, ManualClock, Moment};
use toolgate::gateway::NewKey;

use super::{code, data, planned};
use crate::support::{Client, Response, Setup, TestGateway, eventually};

const TOKEN: &str = "/v1/auth/token";
const REFRESH: &str = "/v1/auth/refresh";

fn text(tokens: &Value, member: &str) -> String {
    tokens[member].as_str().unwrap_or_else(|| panic!("no {member}: {tokens}")).to_owned()
}

async fn issue(client: &Client, body: &Value) -> Value {
    data(&client.post(TOKEN).json(body).send().await)
}

async fn refresh(gateway: &TestGateway, token: &str) -> Response {
    gateway.stranger().post(REFRESH).json(&json!({"refresh_token": token})).send().await
}

fn bearer(gateway: &TestGateway, tokens: &Value) -> Client {
    gateway.stranger().with_key(Some(&text(tokens, "access_token")))
}

async fn ping(client: &Client) -> u16 {
    client.rpc("ping", &json!({})).await.status
}

fn refused(answer: &Response, why: &str) {
    assert_eq!(code(answer), (401, "unauthorized".into()));
    let message = answer.error()["message"].as_str().unwrap().to_owned();
    assert!(message.contains(why), "{message}");
    assert!(answer.header("www-authenticate").unwrap().contains("invalid_token"));
}

#[tokio::test]
async fn a_token_works_wherever_its_key_does() {
    let gateway = Setup::demo().start().await;
    let key = gateway.writer("admin").await;
    let client = gateway.client(&key);
    let tokens = issue(&client, &json!({})).await;
    assert_eq!((&tokens["token_type"], &tokens["expires_in"]), (&json!("Bearer"), &json!(3600)));
    assert_eq!(tokens["refresh_expires_in"], 30 * 24 * 3600);
    let bearer = bearer(&gateway, &tokens);
    assert_eq!(bearer.get("/v1/mcps").send().await.status, 200);
    let host = bearer.legacy().await;
    assert_eq!(ping(&host).await, 200);
    assert_eq!(ping(&client.in_session(host.session())).await, 200, "the session is the key's");
    assert!(!bearer.modern().tools().await.is_empty());
    let answer = bearer.call("github:list_repos", &json!({})).await;
    let record = gateway.record(answer.header("toolgate-audit-id").unwrap()).await;
    assert_eq!(record["key"], json!(key.id));
    assert_eq!(client.post(TOKEN).send().await.header("cache-control"), Some("no-store"));
    let acts: Vec<Value> =
        gateway.records().await.into_iter().filter(|record| record["tool"] == "tokens.create").collect();
    assert_eq!(acts.len(), 2);
    assert!(acts.iter().all(|act| act["key"] == json!(key.id) && act["outcome"] == "answered"), "{acts:?}");
    gateway.finish().await;
}

#[tokio::test]
async fn a_refresh_token_is_used_once() {
    let gateway = Setup::new().start().await;
    let client = gateway.client(&gateway.key("agent").await);
    let first = issue(&client, &json!({"type": "service"})).await;
    let second = data(&refresh(&gateway, &text(&first, "refresh_token")).await);
    assert!(text(&second, "access_token").starts_with("svc_live_"), "it stays what it was: {second}");
    assert_eq!(second["expires_in"], 30 * 24 * 3600);
    refused(&bearer(&gateway, &first).get("/v1/mcps").send().await, "renewed");
    assert_eq!(ping(&bearer(&gateway, &second)).await, 200);
    // Whoever uses the first again is not whoever used it: both lose.
    refused(&refresh(&gateway, &text(&first, "refresh_token")).await, "used before");
    assert_eq!(ping(&bearer(&gateway, &second)).await, 401);
    refused(&refresh(&gateway, &text(&second, "refresh_token")).await, "unknown token");
    let other = issue(&client, &json!({})).await;
    assert_eq!(ping(&bearer(&gateway, &other)).await, 200, "the key has others");
    gateway.finish().await;
}

#[tokio::test]
async fn of_many_that_refresh_at_once_one_at_most_goes_on() {
    let gateway = Setup::new().start().await;
    let tokens = issue(&gateway.client(&gateway.key("agent").await), &json!({})).await;
    let token = text(&tokens, "refresh_token");
    let answers = futures_util::future::join_all((0..8).map(|_| refresh(&gateway, &token))).await;
    let renewed: Vec<_> = answers.iter().filter(|answer| answer.status == 200).collect();
    assert!(renewed.len() <= 1, "{}", renewed.len());
    for answer in renewed {
        let new = data(answer);
        assert_eq!(ping(&bearer(&gateway, &new)).await, 401, "the grant is revoked");
    }
    gateway.finish().await;
}

#[tokio::test]
async fn tokens_end() {
    let clock = ManualClock::at(Moment(1_700_000_000_000));
    let gateway = Setup::new().clock(&clock).start().await;
    let client = gateway.client(&gateway.key("agent").await);
    let user = issue(&client, &json!({"type": "user"})).await;
    let service = issue(&client, &json!({"type": "service"})).await;
    clock.advance(3_599_999);
    assert_eq!(ping(&bearer(&gateway, &user)).await, 200);
    clock.advance(1);
    refused(&bearer(&gateway, &user).get("/v1/mcps").send().await, "the token expired on 2023-11-14T23:13:20.000Z");
    assert_eq!(ping(&bearer(&gateway, &service)).await, 200);
    let user = data(&refresh(&gateway, &text(&user, "refresh_token")).await);
    assert_eq!(ping(&bearer(&gateway, &user)).await, 200);
    clock.advance(30 * 24 * 3_600_000);
    assert_eq!(ping(&bearer(&gateway, &service)).await, 401);
    let late = refresh(&gateway, &text(&user, "refresh_token")).await;
    assert_eq!(code(&late), (401, "unauthorized".into()));
    assert!(clock.now().0 > 0);
    gateway.finish().await;
}

/// No token outlives its key, and none is promised to.
#[tokio::test]
async fn tokens_end_with_their_key() {
    let gateway = Setup::new().start().await;
    let admin = gateway.client(&gateway.writer("admin").await);
    let key = gateway.key("agent").await;
    let tokens = issue(&gateway.client(&key), &json!({"type": "service"})).await;
    let bearer = bearer(&gateway, &tokens);
    assert_eq!(ping(&bearer).await, 200);
    let mut session = bearer.legacy().await.get("/v1/mcp").header("accept", "text/event-stream").open().await;
    session.next().await.unwrap();
    assert_eq!(admin.delete(&format!("/v1/beta/users/tester/keys/{}", key.id)).send().await.status, 204);
    refused(&bearer.get("/v1/mcps").send().await, "the key was revoked");
    refused(&refresh(&gateway, &text(&tokens, "refresh_token")).await, "the key was revoked");
    assert!(session.ends_within(Duration::from_secs(5)).await);
    let short = NewKey {
        name: "short".into(),
        profile: "agent".into(),
        user: "tester".into(),
        expires_in: Some(Duration::from_secs(60)),
        ..NewKey::default()
    };
    let short = issue(&gateway.client(&gateway.create(short).await), &json!({"type": "service"})).await;
    assert!((1..=60).contains(&short["expires_in"].as_i64().unwrap()), "{short}");
    gateway.finish().await;
}

#[tokio::test]
async fn a_token_revokes_itself_and_nothing_else() {
    let gateway = Setup::new().start().await;
    let client = gateway.client(&gateway.key("agent").await);
    let (one, other) = (issue(&client, &json!({})).await, issue(&client, &json!({})).await);
    let (first, second) = (bearer(&gateway, &one), bearer(&gateway, &other));
    let mut session = first.legacy().await.get("/v1/mcp").header("accept", "text/event-stream").open().await;
    session.next().await.unwrap();
    assert_eq!(data(&first.delete(TOKEN).send().await), json!({"revoked": true}));
    refused(&first.get("/v1/mcps").send().await, "revoked");
    refused(&refresh(&gateway, &text(&one, "refresh_token")).await, "revoked");
    assert!(session.ends_within(Duration::from_secs(5)).await, "a stream does not outlive its token");
    assert_eq!((ping(&second).await, ping(&client).await), (200, 200));
    assert_eq!(code(&client.delete(TOKEN).send().await), (400, "invalid_request".into()), "a key is no token");
    assert_eq!(code(&second.post(TOKEN).send().await), (403, "insufficient_scope".into()), "a token makes no tokens");
    gateway.finish().await;
}

#[tokio::test]
async fn tokens_outlive_a_restart_and_stand_nowhere() {
    let key = "an admin key that is long enough: 0123456789";
    let gateway = Setup::new().admin_key(key).start().await;
    let kept = issue(&gateway.stranger().with_key(Some(key)), &json!({})).await;
    let revoked = issue(&gateway.client(&gateway.key("agent").await), &json!({})).await;
    bearer(&gateway, &revoked).delete(TOKEN).send().await;
    let gateway = gateway.restart().await;
    assert_eq!(ping(&bearer(&gateway, &kept)).await, 200);
    assert_eq!(ping(&bearer(&gateway, &revoked)).await, 401);
    let data = gateway.file("data");
    for entry in std::fs::read_dir(&data).unwrap() {
        let path = entry.unwrap().path();
        let bytes = std::fs::read(&path).unwrap_or_default();
        for member in ["access_token", "refresh_token"] {
            let secret = text(&kept, member);
            let (_, secret) = secret.split_at("mcp_live_".len() + 22);
            let found = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
            assert!(!found, "{member} stands in {}", path.display());
        }
    }
    gateway.finish().await;
}

#[tokio::test]
async fn what_is_no_token_is_refused_with_a_sentence() {
    let gateway = Setup::new().start().await;
    let client = gateway.client(&gateway.key("agent").await);
    let tokens = issue(&client, &json!({})).await;
    let (access, token) = (text(&tokens, "access_token"), text(&tokens, "refresh_token"));
    let other_end = if access.ends_with('x') { "y" } else { "x" };
    let mistyped = format!("{}{other_end}", &access[..access.len() - 1]);
    for (wrong, why) in [
        (mistyped.as_str(), "mistyped"),
        ("mcp_live_xxxxxxxxxxxxx", "mistyped"),
        ("svc_live_", "mistyped"),
        (token.as_str(), "not a key"),
    ] {
        refused(&gateway.stranger().with_key(Some(wrong)).get("/v1/mcps").send().await, why);
    }
    for body in ["", "{}", "[]", "{", r#"{"refresh_token":7}"#, r#"{"refresh_token":"a","refresh_token":"b"}"#] {
        let answer = gateway.stranger().post(REFRESH).text(body).send().await;
        assert_eq!(code(&answer), (400, "invalid_request".into()), "{body}");
    }
    let secret = "ref_live_secret-of-somebody";
    let leaky = gateway.stranger().post(REFRESH).json(&json!({"refresh_token": secret, "more": 1})).send().await;
    assert_eq!(leaky.status, 400);
    assert!(!leaky.text.contains(secret), "{}", leaky.text);
    assert_eq!(gateway.stranger().post(REFRESH).text(&" ".repeat(5000)).send().await.status, 413);
    for body in [r#"{"type":"root"}"#, r#"{"kind":"service"}"#, "7"] {
        assert_eq!(code(&client.post(TOKEN).text(body).send().await), (400, "invalid_request".into()), "{body}");
    }
    assert!(!json!(gateway.records().await).to_string().contains(&access), "never the credential");
    gateway.finish().await;
}

/// Whoever guesses has to wait, and whoever has a token does not.
#[tokio::test]
async fn guesses_are_throttled() {
    let gateway = Setup::new().start().await;
    let client = gateway.client(&gateway.key("agent").await);
    let tokens = issue(&client, &json!({})).await;
    let throttled = eventually("a guess is throttled", async || {
        let answer = refresh(&gateway, "ref_live_nothing").await;
        (answer.status == 429).then_some(answer)
    })
    .await;
    assert_eq!(code(&throttled), (429, "rate_limited".into()));
    assert!(throttled.header("retry-after").is_some());
    assert_eq!(ping(&bearer(&gateway, &tokens)).await, 200);
    assert_eq!(refresh(&gateway, &text(&tokens, "refresh_token")).await.status, 200);
    gateway.finish().await;
}

/// How long tokens live is the operator's to say.
/// A renewal is a request of its key; one that is over the limit leaves the token as good as it was.
#[tokio::test]
async fn renewals_count_as_requests() {
    let clock = ManualClock::at(Moment(1_800_000_000_000));
    let gateway = Setup::new().config("[plans.tight]\nrequests_per_minute = 2").clock(&clock).start().await;
    let tokens = issue(&planned(&gateway, "agent", Some("tight")).await, &json!({})).await;
    let renewed = data(&refresh(&gateway, &text(&tokens, "refresh_token")).await);
    let token = text(&renewed, "refresh_token");
    let over = refresh(&gateway, &token).await;
    assert_eq!(code(&over), (429, "rate_limited".into()));
    assert!(over.header("retry-after").is_some());
    clock.advance(61_000);
    assert_eq!(refresh(&gateway, &token).await.status, 200);
    gateway.finish().await;
}

#[tokio::test]
async fn lives_are_configured() {
    let gateway = Setup::new().config("[tokens]\naccess = \"5m\"\nservice = \"1d\"\nrefresh = \"2h\"").start().await;
    let client = gateway.client(&gateway.key("agent").await);
    let lives = |tokens: Value| (tokens["expires_in"].clone(), tokens["refresh_expires_in"].clone());
    assert_eq!(lives(issue(&client, &json!({})).await), (json!(300), json!(7200)));
    assert_eq!(lives(issue(&client, &json!({"type": "service"})).await), (json!(86_400), json!(7200)));
    gateway.finish().await;
}

/// One key has a hundred live tokens at most; what has expired makes room.
#[tokio::test]
async fn a_key_has_a_bounded_number_of_tokens() {
    let clock = ManualClock::at(Moment(1_700_000_000_000));
    let gateway = Setup::new().clock(&clock).start().await;
    let client = gateway.client(&gateway.key("agent").await);
    let first = issue(&client, &json!({})).await;
    for _ in 1..100 {
        issue(&client, &json!({})).await;
    }
    let over = client.post(TOKEN).send().await;
    assert_eq!(code(&over), (409, "conflict".into()));
    assert_eq!(ping(&bearer(&gateway, &first)).await, 200, "none is taken away that works");
    let other = gateway.client(&gateway.key("agent").await);
    issue(&other, &json!({})).await;
    clock.advance(3_600_000);
    issue(&client, &json!({})).await;
    let late = refresh(&gateway, &text(&first, "refresh_token")).await;
    assert_eq!(late.status, 401, "the oldest made room");
    gateway.finish().await;
}
