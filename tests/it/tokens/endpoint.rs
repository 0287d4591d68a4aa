//! `[oauth]`: `/v1/mcp-oauth`, for access tokens alone.

use serde_json::{Value, json};
use toolgate::gateway::NewKey;

use crate::support::{Client, FakeUpstream, Issuer, Response, SOON, Setup, TestGateway, now};

const PATH: &str = "/v1/mcp-oauth";
const METADATA: &str = "/.well-known/oauth-protected-resource/v1/mcp-oauth";
const AUDIENCE: &str = "https://gw.example/v1/mcp-oauth";

async fn start(issuer: &Issuer, upstream: &FakeUpstream, rest: &str) -> TestGateway {
    let oauth = format!("[oauth]\nauthorization_servers = [\"{}\"]\naudience = \"{AUDIENCE}\"\n{rest}\n", issuer.url);
    Setup::with(upstream).config(&oauth).start().await
}

fn bearer(gateway: &TestGateway, token: &str) -> Client {
    gateway.stranger().at(PATH).with_bearer(token)
}

fn challenge(answer: &Response) -> String {
    answer.header("www-authenticate").unwrap_or_default().to_owned()
}

#[tokio::test]
async fn a_token_opens_its_endpoint_for_every_kind_of_client() {
    let (upstream, issuer) = (FakeUpstream::legacy().await, Issuer::start().await);
    let gateway = start(&issuer, &upstream, "").await;
    let mut claims = issuer.claims(AUDIENCE);
    claims["roles"] = json!(["writer"]);
    let token = issuer.sign(&claims);
    let bare = bearer(&gateway, &token);
    for client in [bare.clone(), bare.legacy().await, bare.modern()] {
        let answer = client.call("up:write", &json!({})).await;
        assert_eq!(answer.told(), "done", "{}", answer.text);
        let record = gateway.record(answer.header("toolgate-audit-id").unwrap()).await;
        let user = format!("ada@{}", issuer.url.trim_start_matches("http://"));
        assert_eq!((record["user"].clone(), record["agent"].clone()), (json!(user), json!("some-client")));
        assert!(record["key"].as_str().unwrap().starts_with("oauth_"));
    }
    let names = bare.tools().await;
    assert!(
        names.contains(&"gateway_invoke".to_owned()) && !names.contains(&"policy.simulate".to_owned()),
        "{names:?}"
    );
    for seen in upstream.seen() {
        let all = format!("{:?} {}", seen.headers, seen.text);
        assert!(!all.contains(&token) && !all.contains(token.rsplit('.').next().unwrap()), "the token stays here");
    }
    let card = bare.get(PATH).send().await.json();
    assert_eq!(card["auth"]["type"], "oauth2");
    assert!(card["url"].as_str().unwrap().ends_with(PATH));
    assert_eq!(issuer.asked().iter().filter(|path| *path == "/keys").count(), 1, "keys are kept");
    gateway.finish().await;
}

/// The transparent endpoint of one server, for tokens.
#[tokio::test]
async fn a_token_opens_one_server_too() {
    let (upstream, issuer) = (FakeUpstream::legacy().await, Issuer::start().await);
    let gateway = start(&issuer, &upstream, "").await;
    let token = issuer.sign(&issuer.claims(AUDIENCE));
    let path = format!("{PATH}/servers/up");
    let client = bearer(&gateway, &token).at(&path);
    assert_eq!(client.call("read", &json!({})).await.told(), "done");
    assert!(upstream.seen().iter().all(|seen| !format!("{:?} {}", seen.headers, seen.text).contains(&token)));
    let stranger = gateway.stranger().at(&path);
    let turned_away = [stranger.rpc("ping", &json!({})).await, stranger.get(&path).send().await];
    for answer in turned_away {
        assert_eq!(answer.status, 401);
        assert!(challenge(&answer).contains(METADATA), "{}", challenge(&answer));
    }
    let key = gateway.writer("admin").await.text;
    assert_eq!(stranger.with_bearer(&key).rpc("ping", &json!({})).await.status, 401);
    assert_eq!(
        gateway.stranger().at("/v1/mcp/servers/up").with_bearer(&token).rpc("ping", &json!({})).await.status,
        401
    );
    gateway.finish().await;
}

/// One subject with one client is one principal, whatever token it holds; every other pair is another.
#[tokio::test]
async fn a_session_belongs_to_subject_and_client() {
    let (upstream, issuer) = (FakeUpstream::legacy().await, Issuer::start().await);
    let gateway = start(&issuer, &upstream, "").await;
    let token = |change: &dyn Fn(&mut Value)| {
        let mut claims = issuer.claims(AUDIENCE);
        change(&mut claims);
        issuer.sign(&claims)
    };
    let mine = bearer(&gateway, &token(&|_| {})).legacy().await;
    let later = mine.with_bearer(&token(&|claims| claims["exp"] = json!(now() + 900)));
    assert_eq!(later.rpc("ping", &json!({})).await.status, 200);
    for member in ["sub", "client_id"] {
        let other = mine.with_bearer(&token(&|claims| claims[member] = json!("another")));
        assert_eq!(other.rpc("ping", &json!({})).await.status, 404, "{member}");
    }
    let with_key = gateway.agent().await.in_session(mine.session());
    assert_eq!(with_key.rpc("ping", &json!({})).await.status, 404, "a key's holder is somebody else");
    gateway.finish().await;
}

/// Who is called as the user of a key is not that user.
#[tokio::test]
async fn a_subject_is_not_the_user_of_a_key() {
    let (upstream, issuer) = (FakeUpstream::legacy().await, Issuer::start().await);
    let oauth = format!(
        "[oauth]\nauthorization_servers = [\"{}\"]\naudience = \"{AUDIENCE}\"\nprofile = \"looker\"\n",
        issuer.url
    );
    let looker = "scopes = [\"tools:read\", \"tools:invoke\", \"traces:read\"]\nallowed_tools = [\"*\"]";
    let gateway = Setup::with(&upstream).config(&oauth).profile("looker", looker).start().await;
    let of = |user: &str| NewKey { name: "k".into(), profile: "looker".into(), user: user.into(), ..NewKey::default() };
    let place = issuer.url.trim_start_matches("http://").to_owned();
    let keys = [gateway.create(of("ada")).await, gateway.create(of(&format!("ada@{place}"))).await];
    for key in &keys {
        gateway.client(key).invoke("up", "read", "{}").await;
    }
    let mut claims = issuer.claims(AUDIENCE);
    claims["scope"] = json!("tools:read tools:invoke traces:read");
    let token = bearer(&gateway, &issuer.sign(&claims));
    let answer = token.call("executions.list", &json!({"server": "up"})).await;
    let seen = answer.result()["structuredContent"]["executions"].clone();
    let seen: Vec<&Value> = seen.as_array().unwrap().iter().map(|call| &call["key"]).collect();
    assert_eq!(seen, [&json!(keys[1].id)], "{}", answer.text);
    gateway.finish().await;
}

#[tokio::test]
async fn whoever_has_no_good_token_learns_where_tokens_are() {
    let (upstream, issuer) = (FakeUpstream::legacy().await, Issuer::start().await);
    let gateway = start(&issuer, &upstream, "").await;
    let metadata = format!("resource_metadata=\"http://{}{METADATA}\"", gateway.address);
    let stranger = gateway.stranger().at(PATH);
    for answer in [
        stranger.rpc("ping", &json!({})).await,
        stranger.get(PATH).send().await,
        stranger.get(PATH).header("accept", "text/event-stream").send().await,
        stranger.delete(PATH).send().await,
    ] {
        assert_eq!(answer.status, 401);
        let challenge = challenge(&answer);
        assert!(challenge.contains(&metadata) && !challenge.contains("error="), "{challenge}");
        assert!(challenge.contains("tools:invoke") && !challenge.contains("keys:admin"), "{challenge}");
    }
    let expired = json!(now() - 61);
    let wrong: [(&str, Value, &str); 4] = [
        ("exp", expired, "expired"),
        ("aud", json!("http://elsewhere.example"), "another audience"),
        ("iss", json!("http://elsewhere.example"), "issuer"),
        ("nbf", json!(now() + 600), "not valid yet"),
    ];
    for (member, value, why) in wrong {
        let mut claims = issuer.claims(AUDIENCE);
        claims[member] = value;
        let answer = bearer(&gateway, &issuer.sign(&claims)).rpc("ping", &json!({})).await;
        assert_eq!(answer.status, 401, "{member}: {}", answer.text);
        assert!(answer.error()["message"].as_str().unwrap().contains(why), "{}", answer.text);
        let challenge = challenge(&answer);
        assert!(challenge.contains(&metadata) && challenge.contains("error=\"invalid_token\""), "{challenge}");
    }
    let forged = Issuer::start().await.sign(&issuer.claims(AUDIENCE));
    assert_eq!(bearer(&gateway, &forged).rpc("ping", &json!({})).await.status, 401);
    let token = issuer.sign(&issuer.claims(AUDIENCE));
    for path in [format!("{PATH}?access_token={token}"), format!("{PATH}?names=safe&access_token=x")] {
        assert_eq!(bearer(&gateway, &token).at(&path).rpc("ping", &json!({})).await.status, 400);
        assert_eq!(gateway.stranger().at(&path).rpc("ping", &json!({})).await.status, 400);
    }
    let records = json!(gateway.records().await).to_string();
    assert!(records.contains("the access token is refused") && !records.contains(&token), "{records}");
    gateway.finish().await;
}

/// Each endpoint takes its own kind of credential.
#[tokio::test]
async fn keys_and_tokens_do_not_open_each_others_doors() {
    let (upstream, issuer) = (FakeUpstream::legacy().await, Issuer::start().await);
    let gateway = start(&issuer, &upstream, "").await;
    let key = gateway.writer("admin").await.text;
    let token = issuer.sign(&issuer.claims(AUDIENCE));
    let stranger = gateway.stranger();
    let ping = async |client: Client| client.rpc("ping", &json!({})).await.status;
    assert_eq!(ping(stranger.at(PATH).with_key(Some(&key))).await, 401);
    assert_eq!(ping(stranger.at(PATH).with_bearer(&key)).await, 401);
    assert_eq!(ping(stranger.at(PATH).with_key(Some(&key)).with_bearer(&token)).await, 401);
    assert_eq!(ping(stranger.at(PATH).with_key(Some(&token))).await, 401, "a token is a bearer token");
    let at_keys = stranger.with_bearer(&token).rpc("ping", &json!({})).await;
    assert_eq!(at_keys.status, 401);
    assert!(!challenge(&at_keys).contains("resource_metadata"));
    assert_eq!(stranger.with_bearer(&token).get("/v1/beta/users/ada/keys").send().await.status, 401);
    gateway.finish().await;
}

#[tokio::test]
async fn the_metadata_is_at_one_place_alone() {
    let (upstream, issuer) = (FakeUpstream::legacy().await, Issuer::start().await);
    let gateway = start(&issuer, &upstream, "").await;
    let stranger = gateway.stranger();
    let metadata = stranger.get(METADATA).send().await.json();
    assert_eq!(metadata["resource"], format!("http://{}{PATH}", gateway.address));
    assert_eq!(metadata["authorization_servers"], json!([issuer.url]));
    assert_eq!(metadata["bearer_methods_supported"], json!(["header"]));
    assert!(metadata["scopes_supported"].as_array().unwrap().contains(&json!("tools:read")));
    for path in [
        "/.well-known/oauth-protected-resource",
        "/.well-known/oauth-protected-resource/v1/mcp",
        "/.well-known/oauth-authorization-server",
        "/.well-known/oauth-authorization-server/v1/mcp-oauth",
        "/.well-known/openid-configuration",
        "/v1/mcp/.well-known/oauth-protected-resource",
    ] {
        assert_eq!(stranger.get(path).send().await.status, 404, "{path}");
    }
    let wrong = stranger.with_key(Some("inv_live_wrong")).rpc("ping", &json!({})).await;
    assert!(!challenge(&wrong).contains("resource_metadata"), "a client with a key never meets it");
    gateway.finish().await;
}

#[tokio::test]
async fn without_oauth_there_is_no_such_endpoint() {
    let gateway = Setup::new().start().await;
    let stranger = gateway.stranger();
    for path in [PATH, METADATA] {
        assert_eq!(stranger.get(path).send().await.status, 404, "{path}");
        assert_eq!(gateway.agent().await.get(path).send().await.status, 404, "{path}");
    }
    assert_eq!(stranger.at(PATH).with_bearer("x.y.z").rpc("ping", &json!({})).await.status, 404);
    gateway.finish().await;
}

/// What a token may be used for limits the profile; what opens nothing is told what would.
#[tokio::test]
async fn scopes_limit_what_a_token_opens() {
    let (upstream, issuer) = (FakeUpstream::legacy().await, Issuer::start().await);
    let rest = "scopes = { look = [\"tools:read\"], mcp = [\"tools:read\", \"tools:invoke\", \"keys:admin\"] }\n\
                profile_claim = \"profile\"";
    let gateway = start(&issuer, &upstream, rest).await;
    let client = |change: &dyn Fn(&mut Value)| {
        let mut claims = issuer.claims(AUDIENCE);
        change(&mut claims);
        bearer(&gateway, &issuer.sign(&claims))
    };
    let look = client(&|claims| claims["scope"] = json!("openid look"));
    assert_eq!(look.tools().await, ["gateway_search_tools"]);
    assert_eq!(look.call("up:read", &json!({})).await.refused(), (200, -32602), "never 403 for a tool");
    let both = client(&|claims| {
        claims.as_object_mut().unwrap().remove("scope");
        claims["scp"] = json!(["mcp"]);
    });
    assert_eq!(both.call("up:read", &json!({})).await.told(), "done");
    for scope in [json!("openid"), json!("tools:invoke"), Value::Null] {
        let answer = client(&|claims| claims["scope"] = scope.clone()).rpc("ping", &json!({})).await;
        assert_eq!(answer.status, 403, "{scope}");
        let challenge = challenge(&answer);
        assert!(
            challenge.contains("error=\"insufficient_scope\"") && challenge.contains("resource_metadata="),
            "{challenge}"
        );
        assert!(challenge.contains("scope=\"look mcp\""), "{challenge}");
    }
    let readonly = client(&|claims| {
        claims["scope"] = json!("mcp");
        claims["profile"] = json!("mcp_readonly");
        claims["roles"] = json!(["writer"]);
    });
    assert_eq!(readonly.call("up:write", &json!({})).await.refused(), (200, -32602), "outside the profile");
    let nowhere = client(&|claims| claims["profile"] = json!("nowhere"));
    assert_eq!(nowhere.rpc("ping", &json!({})).await.status, 401);
    gateway.finish().await;
}

#[tokio::test]
async fn wrong_tokens_are_throttled_and_good_ones_never() {
    let (upstream, issuer) = (FakeUpstream::legacy().await, Issuer::start().await);
    let gateway = start(&issuer, &upstream, "").await;
    let good = bearer(&gateway, &issuer.sign(&issuer.claims(AUDIENCE)));
    let mut old = issuer.claims(AUDIENCE);
    old["exp"] = json!(now() - 100);
    let expired = bearer(&gateway, &issuer.sign(&old));
    for _ in 0..25 {
        assert_eq!(expired.rpc("ping", &json!({})).await.status, 401, "an expired token is no attack");
    }
    let forged = bearer(&gateway, &Issuer::start().await.sign(&issuer.claims(AUDIENCE)));
    for attempt in 1..=20 {
        assert_eq!(forged.rpc("ping", &json!({})).await.status, 401, "attempt {attempt}");
    }
    let throttled = forged.rpc("ping", &json!({})).await;
    assert_eq!(throttled.status, 429);
    assert!(throttled.header("retry-after").is_some());
    for _ in 0..30 {
        assert_eq!(good.rpc("ping", &json!({})).await.status, 200);
    }
    gateway.finish().await;
}

#[tokio::test]
async fn while_the_issuer_is_silent_nobody_new_is_let_in() {
    let (upstream, issuer) = (FakeUpstream::legacy().await, Issuer::start().await);
    issuer.down(true);
    let gateway = start(&issuer, &upstream, "").await;
    let client = bearer(&gateway, &issuer.sign(&issuer.claims(AUDIENCE)));
    let answer = client.rpc("ping", &json!({})).await;
    assert_eq!(answer.status, 503, "{}", answer.text);
    assert!(answer.header("retry-after").is_some() && answer.header("www-authenticate").is_none());
    gateway.finish().await;
}

/// What stays open does not outlive the token that opened it.
#[tokio::test]
async fn a_stream_ends_with_its_token() {
    let (upstream, issuer) = (FakeUpstream::legacy().await, Issuer::start().await);
    let gateway = start(&issuer, &upstream, "").await;
    let mut claims = issuer.claims(AUDIENCE);
    claims["exp"] = json!(now() + 3);
    let client = bearer(&gateway, &issuer.sign(&claims)).legacy().await;
    let mut stream = client.get(PATH).header("accept", "text/event-stream").open().await;
    assert_eq!(stream.status, 200);
    assert!(stream.ends_within(SOON).await);
    gateway.finish().await;
}

/// Limits count a subject with its client as they count a key.
#[tokio::test]
async fn a_plan_limits_token_holders() {
    let (upstream, issuer) = (FakeUpstream::legacy().await, Issuer::start().await);
    let rest = "plan = \"tiny\"\n[plans.tiny]\ninvocations_per_minute = 2";
    let gateway = start(&issuer, &upstream, rest).await;
    let client = |subject: &str| {
        let mut claims = issuer.claims(AUDIENCE);
        claims["sub"] = json!(subject);
        bearer(&gateway, &issuer.sign(&claims))
    };
    for _ in 0..2 {
        assert_eq!(client("ada").call("up:read", &json!({})).await.told(), "done");
    }
    assert_eq!(client("ada").call("up:read", &json!({})).await.status, 429);
    assert_eq!(client("bob").call("up:read", &json!({})).await.told(), "done");
    gateway.finish().await;
}
