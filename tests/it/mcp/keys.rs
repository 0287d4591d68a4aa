//! Credentials at the endpoint: what is said of a wrong one, and how often.

use serde_json::json;
use toolgate::domain::clock::{ManualClock, Moment};

use crate::support::{Client, Response, Setup};

async fn ping(client: &Client) -> Response {
    client.rpc("ping", &json!({})).await
}

fn told(answer: &Response) -> String {
    answer.error()["message"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_wrong_key_is_told_what_is_wrong() {
    let gateway = Setup::new().start().await;
    let stranger = gateway.stranger();
    let valid = gateway.writer("agent").await.text;
    let mut mistyped = valid.clone();
    let last = mistyped.pop().unwrap();
    mistyped.push(if last == '0' { '1' } else { '0' });
    for (header, value, sentence) in [
        ("x-api-key", "", "no key"),
        ("x-api-key", "${TOOLGATE_KEY}", "did not expand ${TOOLGATE_KEY}"),
        ("authorization", "Bearer ${TOOLGATE_KEY}", "did not expand"),
        ("authorization", "Basic abc", "not a key"),
        ("x-api-key", "sk-something", "begins with `inv_live_`"),
        ("x-api-key", mistyped.as_str(), "checksum"),
    ] {
        let answer = stranger.request("ping", "{}").header(header, value).send().await;
        assert_eq!(answer.status, 401, "{header}: {value}");
        assert!(told(&answer).contains(sentence), "{header}: {value}: {}", told(&answer));
        let challenge = answer.header("www-authenticate").unwrap();
        assert!(challenge.starts_with("Bearer") && !challenge.contains("resource_metadata"), "{challenge}");
        assert!(!answer.text.contains(&mistyped), "the key is not repeated");
    }
    assert_eq!(ping(&stranger).await.status, 401);
    gateway.finish().await;
}

#[tokio::test]
async fn two_credentials_must_agree() {
    let gateway = Setup::new().start().await;
    let (one, other) = (gateway.writer("agent").await.text, gateway.writer("agent").await.text);
    let client = gateway.stranger();
    let both = |first: &str, second: &str| {
        client.request("ping", "{}").header("x-api-key", first).header("authorization", &format!("Bearer {second}"))
    };
    assert_eq!(both(&one, &one).send().await.status, 200);
    let differ = both(&one, &other).send().await;
    assert_eq!(differ.status, 401);
    assert!(told(&differ).contains("differ"));
    assert_eq!(both(&one, "${KEY}").send().await.status, 401);
    let twice = client.request("ping", "{}").header("x-api-key", &one).header("x-api-key", &other);
    assert_eq!(twice.send().await.status, 401);
    gateway.finish().await;
}

/// After 20 wrong ones in a minute a source waits; whoever has a valid key never does.
#[tokio::test]
async fn wrong_keys_are_throttled_and_valid_ones_never() {
    let clock = ManualClock::at(Moment(1_800_000_000_000));
    let gateway = Setup::new().clock(&clock).start().await;
    let client = gateway.agent().await;
    let wrong = client.with_key(Some("inv_live_nonsense"));
    for attempt in 1..=20 {
        assert_eq!(ping(&wrong).await.status, 401, "attempt {attempt}");
    }
    let throttled = ping(&wrong).await;
    assert_eq!(throttled.status, 429);
    assert!(throttled.header("retry-after").unwrap().parse::<u64>().unwrap() >= 1);
    let rest = client.with_key(Some("also wrong")).get("/v1/beta/users/u/keys").send().await;
    assert_eq!(rest.status, 429, "on every entrance");
    for _ in 0..30 {
        assert_eq!(ping(&client).await.status, 200);
    }
    let missing = ping(&client.with_key(None)).await;
    assert_eq!(missing.status, 401, "a missing key is not a wrong one");
    clock.advance(60_000);
    assert_eq!(ping(&wrong).await.status, 401, "a minute later it may try again");
    gateway.finish().await;
}

/// What is typed into keys, users and names never reaches more than it names.
#[tokio::test]
async fn odd_texts_find_nothing() {
    let gateway = Setup::new().start().await;
    let admin = gateway.client(&gateway.writer("admin").await);
    for text in ["x%27%20OR%201=1--", "%00", "..%2f..%2fetc", "%25", "%F0%9F%92%A9"] {
        let listed = admin.get(&format!("/v1/beta/users/{text}/keys")).send().await;
        assert_eq!((listed.status, listed.json()["keys"].clone()), (200, json!([])), "{text}");
        assert_eq!(admin.delete(&format!("/v1/beta/users/tester/keys/{text}")).send().await.status, 404, "{text}");
    }
    let wrong = admin.with_key(Some("inv_live_' OR 1=1--"));
    assert_eq!(ping(&wrong).await.status, 401);
    for name in ["' OR 1=1--", "\u{0}", "../x", "up:\u{202e}read"] {
        assert_eq!(admin.call(name, &json!({})).await.refused(), (200, -32602), "{name:?}");
    }
    gateway.finish().await;
}
