//! Backends that ask the gateway for OAuth.

use serde_json::{Value, json};
use toolgate::gateway::control::{Command, Failed};

use crate::support::{Client, FakeChannel, FakeUpstream, Issuer, Setup, TestGateway, eventually};

/// A backend that takes nothing but tokens of the issuer, and the gateway in front of it.
async fn start(oauth: &str) -> (FakeUpstream, Issuer, TestGateway) {
    let (upstream, issuer) = (FakeUpstream::legacy().await, Issuer::start().await);
    upstream.gate(issuer.guard());
    let oauth = oauth.replace("ISSUER", &issuer.url);
    let gateway = Setup::new().config(&upstream.section("up", &format!("oauth = {oauth}"))).start().await;
    (upstream, issuer, gateway)
}

async fn begin(gateway: &TestGateway) -> Result<String, Failed> {
    let command = Command::ServersLogin { name: "up".into(), redirect: "http://127.0.0.1:7/callback".into() };
    Ok(gateway.gateway.control(command).await?["page"].as_str().unwrap().to_owned())
}

async fn come_back(gateway: &TestGateway, url: &str) -> Result<Value, Failed> {
    gateway.gateway.control(Command::ServersCallback { name: "up".into(), url: url.to_owned() }).await
}

/// Opens the page, where the person agrees at once; gives where the person is sent.
async fn agree(issuer: &Issuer, page: &str) -> String {
    let address = issuer.url.strip_prefix("http://").unwrap().parse().unwrap();
    let answer = Client::new(address, None).get(page.strip_prefix(&issuer.url).unwrap()).send().await;
    answer.header("location").unwrap().to_owned()
}

async fn log_in(gateway: &TestGateway, issuer: &Issuer) {
    let page = begin(gateway).await.unwrap();
    let back = agree(issuer, &page).await;
    come_back(gateway, &back).await.unwrap();
    eventually("the server is listed", async || {
        let status = gateway.control(Command::ServersList).await;
        (status["servers"][0]["state"] == "ready").then_some(())
    })
    .await;
    eventually("its tools can be called", async || gateway.gateway.settled().then_some(())).await;
}

async fn state(gateway: &TestGateway) -> String {
    let status = gateway.control(Command::ServersList).await;
    format!("{} {}", status["servers"][0]["state"], status["servers"][0]["last_error"])
}

#[tokio::test]
async fn a_login_opens_the_backend_and_outlives_a_restart() {
    let (upstream, issuer, gateway) = start("{ scopes = [\"read\"] }").await;
    assert!(state(&gateway).await.contains("toolgate servers login up"), "{}", state(&gateway).await);
    log_in(&gateway, &issuer).await;
    let key = gateway.writer("agent").await;
    let client = gateway.client(&key);
    for client in [client.clone(), client.legacy().await, client.modern()] {
        assert_eq!(client.call("up:read", &json!({})).await.told(), "done");
    }
    let form = issuer.forms()[0].clone();
    assert_eq!(form["client_id"], "registered");
    assert_eq!(form["resource"], format!("http://{}/mcp", upstream.address));
    let token = format!("Bearer {}", issuer.access_token());
    for seen in upstream.seen() {
        assert_eq!(seen.headers["authorization"], token.as_str());
        assert!(!format!("{:?} {}", seen.headers, seen.text).contains(&key.text), "the caller's key stays here");
    }
    let gateway = gateway.restart().await;
    let client = gateway.agent().await;
    assert_eq!(client.call("up:read", &json!({})).await.told(), "done");
    assert_eq!(issuer.forms().len(), 1, "the token is kept");
    let database = std::fs::read(gateway.file("data/toolgate.db")).unwrap();
    let wal = std::fs::read(gateway.file("data/toolgate.db-wal")).unwrap_or_default();
    for secret in ["access-token-", "refresh-token-"] {
        let found = [&database, &wal].iter().any(|bytes| bytes.windows(secret.len()).any(|at| at == secret.as_bytes()));
        assert!(!found, "`{secret}` lies open in the store");
    }
    let records = json!(gateway.records().await).to_string();
    assert!(
        records.contains("servers.login") && !records.contains("code-1") && !records.contains("token-"),
        "{records}"
    );
    gateway.finish().await;
}

/// A token is renewed before it ends, once for all who wait; the refresh token that comes with it replaces the old one.
#[tokio::test]
async fn a_token_is_renewed_before_it_ends() {
    let (_upstream, issuer, gateway) = start("{}").await;
    issuer.life(32);
    log_in(&gateway, &issuer).await;
    let client = gateway.agent().await;
    assert_eq!(client.call("up:read", &json!({})).await.told(), "done");
    let before = issuer.forms().len();
    issuer.life(3600);
    // Half a minute before its end a token is old: two seconds from here.
    eventually("the token is renewed", async || {
        let none = json!({});
        let calls = (0..8).map(|_| client.call("up:read", &none));
        for answer in futures_util::future::join_all(calls).await {
            assert_eq!(answer.told(), "done");
        }
        (issuer.forms().len() > before).then_some(())
    })
    .await;
    assert_eq!(issuer.forms().len(), before + 1, "one for all of them: {:?}", issuer.forms());
    let form = issuer.forms().pop().unwrap();
    assert_eq!((form["grant_type"].as_str(), form.contains_key("resource")), ("refresh_token", true));
    let gateway = gateway.restart().await;
    assert_eq!(gateway.agent().await.call("up:read", &json!({})).await.told(), "done", "the new one was kept");
    gateway.finish().await;
}

/// A token that the backend refuses is replaced; what may be repeated is, once.
#[tokio::test]
async fn a_refused_token_is_replaced_once() {
    let (upstream, issuer, gateway) = start("{}").await;
    log_in(&gateway, &issuer).await;
    let client = gateway.agent().await;
    issuer.revoke();
    upstream.forget();
    assert_eq!(client.call("up:read", &json!({})).await.told(), "done");
    assert_eq!(upstream.calls().len(), 1);
    let count = issuer.forms().len();
    issuer.revoke();
    let answer = client.call("up:read", &json!({})).await;
    assert_eq!(answer.denied(), "backend_down", "a new token that is refused at once is not renewed without end");
    assert_eq!(issuer.forms().len(), count);
    gateway.finish().await;
}

#[tokio::test]
async fn a_write_is_not_repeated_but_the_next_one_works() {
    let (upstream, issuer, gateway) = start("{}").await;
    log_in(&gateway, &issuer).await;
    let client = gateway.agent().await;
    issuer.revoke();
    upstream.forget();
    assert_eq!(client.call("up:write", &json!({})).await.denied(), "backend_down");
    assert!(upstream.calls().is_empty());
    assert_eq!(client.call("up:write", &json!({})).await.told(), "done");
    gateway.finish().await;
}

#[tokio::test]
async fn without_a_way_to_renew_a_person_is_asked_for() {
    let (_upstream, issuer, gateway) = start("{}").await;
    log_in(&gateway, &issuer).await;
    issuer.close();
    issuer.revoke();
    let client = gateway.agent().await;
    assert_eq!(client.call("up:read", &json!({})).await.denied(), "backend_down");
    assert!(state(&gateway).await.contains("toolgate servers login up"), "{}", state(&gateway).await);
    let out = gateway.control(Command::ServersLogout { name: "up".into() }).await;
    assert_eq!(out["logged_out"], true);
    let again = gateway.control(Command::ServersLogout { name: "up".into() }).await;
    assert_eq!(again["logged_out"], false);
    gateway.finish().await;
}

#[tokio::test]
async fn the_gateway_can_be_the_client_itself() {
    let oauth = "{ grant = \"client_credentials\", client_id = \"gateway\", client_secret = \"a-client-secret\", issuer = \"ISSUER\" }";
    let (upstream, issuer, gateway) = start(oauth).await;
    let client = gateway.agent().await;
    assert_eq!(client.call("up:read", &json!({})).await.told(), "done");
    assert_eq!(issuer.forms()[0]["grant_type"], "client_credentials");
    assert!(!upstream.seen().is_empty() && issuer.forms().len() == 1);
    issuer.revoke();
    assert_eq!(client.call("up:read", &json!({})).await.denied(), "backend_down", "not asked for twice within seconds");
    assert!(begin(&gateway).await.unwrap_err().0.contains("nobody logs in"));
    gateway.finish().await;
}

/// A backend that was taken over names another authorization server: the secret is not for that one.
#[tokio::test]
async fn the_secret_goes_to_the_issuer_that_was_configured_alone() {
    let oauth = "{ grant = \"client_credentials\", client_id = \"gateway\", client_secret = \"a-client-secret\", issuer = \"http://127.0.0.1:1\" }";
    let (upstream, issuer, gateway) = start(oauth).await;
    assert!(state(&gateway).await.contains("another is configured"), "{}", state(&gateway).await);
    assert!(issuer.forms().is_empty() && upstream.seen().is_empty());
    gateway.finish().await;
}

/// A callback that is not ours is refused, and does not spoil the one that is.
#[tokio::test]
async fn a_foreign_callback_is_refused() {
    let (_upstream, issuer, gateway) = start("{}").await;
    assert!(come_back(&gateway, "http://127.0.0.1:7/callback?code=x&state=y").await.is_err(), "none was begun");
    let page = begin(&gateway).await.unwrap();
    let good = agree(&issuer, &page).await;
    let state = good.split("state=").nth(1).unwrap().split('&').next().unwrap();
    for query in [
        "code=x&state=y".to_owned(),
        format!("code=code-1&state={state}"),
        format!("code=code-1&state={state}&iss=http%3A%2F%2Felsewhere.example"),
        "error=access_denied&error_description=no%1b%5b31m".to_owned(),
    ] {
        let refused = come_back(&gateway, &format!("http://127.0.0.1:7/callback?{query}")).await;
        assert!(refused.is_err_and(|failed| !failed.0.contains('\u{1b}')), "{query}");
    }
    assert!(issuer.forms().is_empty(), "no code was handed on");
    come_back(&gateway, &good).await.unwrap();
    assert!(come_back(&gateway, &good).await.is_err(), "once");
    gateway.finish().await;
}

/// What an authorization server names is not simply followed.
#[tokio::test]
async fn odd_metadata_leads_nowhere() {
    let (_upstream, issuer, gateway) = start("{}").await;
    for (member, value, why) in [
        ("code_challenge_methods_supported", Value::Null, "PKCE"),
        ("code_challenge_methods_supported", json!(["plain"]), "PKCE"),
        ("issuer", json!("https://elsewhere.example"), "issuer"),
        ("authorization_endpoint", json!("javascript:alert(1)"), ""),
        ("authorization_endpoint", json!("http://elsewhere.example/authorize"), "https"),
        ("registration_endpoint", json!("http://169.254.169.254/register"), ""),
        ("registration_endpoint", json!("https://10.0.0.1/register"), "private"),
        ("registration_endpoint", Value::Null, "client_id"),
    ] {
        issuer.metadata(member, value.clone());
        let refused = begin(&gateway).await.map(|page| panic!("{member} {value}: {page}")).unwrap_err().0;
        assert!(refused.contains(why), "{member} {value}: {refused}");
        issuer.metadata(
            member,
            json!(match member {
                "code_challenge_methods_supported" => json!(["S256"]),
                "issuer" => json!(issuer.url),
                "authorization_endpoint" => json!(format!("{}/authorize", issuer.url)),
                _ => json!(format!("{}/register", issuer.url)),
            }),
        );
    }
    assert!(begin(&gateway).await.is_ok());
    let unknown = Command::ServersLogin { name: "nowhere".into(), redirect: "http://127.0.0.1:7/callback".into() };
    assert!(gateway.gateway.control(unknown).await.is_err());
    gateway.finish().await;
}

/// A WebSocket begins as a request over HTTP: its handshake carries the token, and 401 there is what it is anywhere.
#[tokio::test]
async fn a_web_socket_that_asks_for_a_login_gets_its_token_with_the_handshake() {
    let (backend, issuer) = (FakeChannel::ws(false).await, Issuer::start().await);
    backend.gate(issuer.guard());
    let gateway = Setup::new().config(&backend.section("up", "oauth = { scopes = [\"read\"] }")).start().await;
    assert!(state(&gateway).await.contains("toolgate servers login up"), "{}", state(&gateway).await);
    assert_eq!(backend.opened(), 0);
    log_in(&gateway, &issuer).await;
    let client = gateway.client(&gateway.writer("agent").await);
    assert_eq!(client.call("up:read", &json!({})).await.told(), "done");
    // A token that ended is replaced at the next handshake.
    issuer.revoke();
    backend.tell(None);
    eventually("another channel", async || (backend.opened() == 2).then_some(())).await;
    eventually("the server is back", async || state(&gateway).await.contains("ready").then_some(())).await;
    assert_eq!(client.call("up:read", &json!({})).await.told(), "done");
    let sent = backend.headers();
    let tokens: Vec<&str> = sent.iter().filter_map(|it| it.get("authorization")?.to_str().ok()).collect();
    assert!(tokens.len() >= 3 && tokens.first() != tokens.last(), "one for each handshake, refused ones too");
    gateway.finish().await;
}
