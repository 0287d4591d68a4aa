//! How an account is connected, and what cannot connect one.

use serde_json::json;
use toolgate::domain::clock::{ManualClock, Moment};
use toolgate::gateway::control::Command;

use super::idp::Idp;
use super::{Bench, MEMBER, PROVIDERS, data, setup, who};
use crate::support::{FakeUpstream, Setup};

#[tokio::test]
async fn a_user_connects_an_account_and_is_served_with_it() {
    let bench = Bench::start().await;
    let ada = bench.user("ada").await;
    let before = bench.standing(&ada).await;
    assert_eq!(
        (&before["slug"], &before["title"], &before["state"]),
        (&json!("example"), &json!("Example"), &json!("disconnected"))
    );
    assert_eq!((&before["connected"], &before["servers"]), (&json!(false), &json!(["up"])));
    let begun = data(&ada.post("/v1/providers/example/connect").send().await);
    assert_eq!((&begun["id"], &begun["expires_in"]), (&before["id"], &json!(600)));
    let page = url::Url::parse(begun["url"].as_str().unwrap()).unwrap();
    let asked: std::collections::HashMap<_, _> = page.query_pairs().into_owned().collect();
    assert_eq!(asked["redirect_uri"], format!("http://{}/v1/providers/example/callback", bench.gateway.address));
    assert_eq!((asked["scope"].as_str(), asked["code_challenge_method"].as_str()), ("openid repo", "S256"));
    assert!(asked["state"].len() >= 43 && asked["code_challenge"].len() == 43, "{asked:?}");
    let back = bench.idp.agree(page.as_str(), "ada-at-example").await;
    let asked = bench.gateway.stranger().get(&back).send().await;
    assert_eq!((asked.status, asked.header("referrer-policy")), (200, Some("same-origin")), "{}", asked.text);
    assert!(
        asked.text.contains("The user ada of this gateway asks to use your account with Example"),
        "{}",
        asked.text
    );
    assert!(asked.header("content-security-policy").unwrap().contains("form-action 'self'"));
    assert_eq!(bench.idp.grants("authorization_code"), 0, "nothing is exchanged before somebody has seen for whom");
    assert_eq!(bench.standing(&ada).await["state"], "disconnected");
    let landing = bench.go_on(&back).await;
    assert_eq!((landing.status, landing.header("content-type")), (200, Some("text/html; charset=utf-8")));
    assert!(
        landing.text.contains("Example is connected") && landing.text.contains("The user ada "),
        "{}",
        landing.text
    );
    assert!(landing.header("content-security-policy").unwrap().starts_with("default-src 'none'; style-src 'sha256-"));
    assert_eq!(
        (landing.header("referrer-policy"), landing.header("cache-control")),
        (Some("no-referrer"), Some("no-store"))
    );
    let after = bench.standing(&ada).await;
    assert_eq!((&after["id"], &after["state"], &after["renews"]), (&before["id"], &json!("connected"), &json!(true)));
    assert_eq!(after["scopes"], json!(["openid", "repo"]));
    for client in [ada.clone(), ada.legacy().await, ada.modern(), ada.at("/v1/mcp/servers/up")] {
        let tool = if client.path.contains("servers") { "who" } else { "up:who" };
        assert_eq!(client.call(tool, &json!({})).await.told(), "ada-at-example", "{}", client.path);
    }
    let short = ada.post("/v1/mcps/up:who/invoke").json(&json!({})).send().await;
    assert!(short.status == 200 && short.text.contains("ada-at-example"), "{}", short.text);
    bench.gateway.finish().await;
}

/// The same user has the same account whatever the key; another user has another, or none.
#[tokio::test]
async fn nobody_is_served_with_the_account_of_another() {
    let bench = Bench::start().await;
    let (ada, again, bob) = (bench.user("ada").await, bench.user("ada").await, bench.user("bob").await);
    bench.connect(&ada, "A").await;
    assert_eq!((who(&ada).await, who(&again).await), ("A".into(), "A".into()));
    let refused = bob.call("up:who", &json!({})).await;
    assert_eq!((refused.status, refused.denied().as_str()), (200, "account_required"));
    assert!(refused.told().contains("`POST /v1/providers/example/connect`"), "{}", refused.told());
    assert_eq!(refused.governance()["policy"], "provider:example");
    let record = bench.gateway.record(refused.header("toolgate-audit-id").unwrap()).await;
    assert_eq!(
        (&record["decision"], &record["outcome"], &record["user"], &record["rule"]),
        (&json!("deny"), &json!("refused"), &json!("bob"), &json!("provider:example"))
    );
    let rest = bob.post("/v1/mcps/up:who/invoke").json(&json!({})).send().await;
    let error = rest.json()["error"].clone();
    assert_eq!((rest.status, &error["code"]), (403, &json!("unauthorized")), "{error}");
    assert_eq!(error["details"]["reason"], "account_required");
    assert_eq!(error["details"]["connect"], "/v1/providers/example/connect");
    bench.connect(&bob, "B").await;
    for client in [bob.clone(), bob.legacy().await, bob.modern()] {
        assert_eq!(who(&client).await, "B");
    }
    // What is cached for one is not given to the other, and each has a session of its own at the server.
    let kept = async |client: &crate::support::Client| client.call("up:kept", &json!({})).await.told();
    assert_eq!((kept(&ada).await, kept(&bob).await, kept(&ada).await), ("A".into(), "B".into(), "A".into()));
    assert_eq!((who(&ada).await, who(&bob).await), ("A".into(), "B".into()));
    bench.connect(&bob, "C").await;
    assert_eq!((kept(&bob).await, who(&bob).await), ("C".into(), "C".into()), "nothing is kept of the old account");
    let opened = bench.upstream.seen().into_iter().filter(|seen| seen.method() == "initialize");
    let with: Vec<_> = opened.map(|seen| seen.headers.get("authorization").cloned()).collect();
    let accounts: std::collections::HashSet<_> = with.iter().flatten().collect();
    assert_eq!(accounts.len(), 3, "each has sessions of its own: {with:?}");
    assert!(with.contains(&None), "and the tools are listed with nobody's");
    bench.gateway.finish().await;
}

/// A modern server keeps no sessions, and is asked with the right account all the same.
#[tokio::test]
async fn a_modern_server_is_asked_with_the_account_of_the_caller() {
    let bench = Bench::with(FakeUpstream::modern().await, "").await;
    let (ada, bob) = (bench.user("ada").await, bench.user("bob").await);
    bench.connect(&ada, "A").await;
    bench.connect(&bob, "B").await;
    for _ in 0..2 {
        for (client, account) in [(&ada, "A"), (&bob, "B"), (&ada.modern(), "A"), (&bob.legacy().await, "B")] {
            assert_eq!(who(client).await, account);
        }
    }
    bench.gateway.finish().await;
}

#[tokio::test]
async fn a_state_is_good_once_for_its_own_provider_and_not_for_long() {
    let (clock, upstream, idp) =
        (ManualClock::at(Moment(1_700_000_000_000)), FakeUpstream::legacy().await, Idp::start().await);
    let setup = setup(&idp, &upstream, "").config(&idp.section("other", "")).clock(&clock);
    let bench = Bench { gateway: setup.start().await, idp, upstream };
    let ada = bench.user("ada").await;
    let land = async |path: &str| bench.land(path).await;
    let back = bench.idp.agree(&bench.page(&ada).await, "A").await;
    assert_eq!(land(&back).await.status, 200);
    let twice = land(&back).await;
    assert_eq!(twice.status, 400);
    assert!(twice.text.contains("begin the connection anew"), "{}", twice.text);
    // Whoever goes on from elsewhere is refused at the door.
    let back = bench.idp.agree(&bench.page(&ada).await, "B").await;
    let (path, query) = back.split_once('?').unwrap();
    let form = bench.gateway.stranger().post(path).header("content-type", "application/x-www-form-urlencoded");
    assert_eq!(form.header("origin", "https://evil.example").text(query).send().await.status, 403);
    // A state that leads to another provider is spent.
    let back = bench.idp.agree(&bench.page(&ada).await, "B").await;
    assert_eq!(land(&back.replace("/example/", "/other/")).await.status, 400);
    assert_eq!(land(&back).await.status, 400);
    let late = bench.idp.agree(&bench.page(&ada).await, "B").await;
    clock.advance(600_000);
    assert_eq!(land(&late).await.status, 400);
    for nonsense in ["?", "?state=x", "?code=y", "?state=x&state=y", "?error=access_denied"] {
        assert_eq!(land(&format!("/v1/providers/example/callback{nonsense}")).await.status, 400, "{nonsense}");
    }
    assert_eq!(bench.idp.grants("authorization_code"), 1, "no other code was exchanged");
    assert_eq!(bench.standing(&ada).await["state"], "connected", "and nothing was changed");
    bench.gateway.finish().await;
}

#[tokio::test]
async fn one_user_has_a_few_connections_under_way_and_the_oldest_gives_way() {
    let bench = Bench::start().await;
    let ada = bench.user("ada").await;
    let first = bench.page(&ada).await;
    for _ in 0..8 {
        bench.page(&ada).await;
    }
    let back = bench.idp.agree(&first, "A").await;
    assert_eq!(bench.land(&back).await.status, 400);
    assert_eq!(bench.connect(&ada, "A").await.status, 200);
    bench.gateway.finish().await;
}

#[tokio::test]
async fn what_the_provider_refuses_is_told_as_text() {
    let bench = Bench::start().await;
    let ada = bench.user("ada").await;
    let refused = bench.connect(&ada, "nobody").await;
    assert_eq!(refused.status, 400);
    assert!(
        refused.text.contains("Example is not connected") && refused.text.contains("`access_denied`"),
        "{}",
        refused.text
    );
    assert!(refused.text.contains("&lt;b&gt;not today&lt;/b&gt;") && !refused.text.contains("<b>"), "{}", refused.text);
    for (status, body) in [
        (400, json!({"error": "invalid_grant"})),
        (200, json!({"error": "bad_verification_code", "error_description": "with 200"})),
        (200, json!({"access_token": "x"})),
        (200, json!({"access_token": "x", "token_type": "mac"})),
        (200, json!({"access_token": "", "token_type": "Bearer"})),
        (200, json!({"access_token": "a\r\nX: y", "token_type": "Bearer"})),
        (500, json!("<html>")),
    ] {
        bench.idp.state().says = Some((status, body.clone()));
        let answer = bench.connect(&ada, "A").await;
        assert_eq!(answer.status, 400, "{body}: {}", answer.text);
    }
    bench.idp.state().says = None;
    assert_eq!(bench.standing(&ada).await["state"], "disconnected");
    // Somebody else's authorization server has answered (RFC 9207).
    let back = bench.idp.agree(&bench.page(&ada).await, "A").await;
    let iss = url::form_urlencoded::byte_serialize(bench.idp.url.as_bytes()).collect::<String>();
    for other in ["https%3A%2F%2Fevil.example", ""] {
        let mixed = back.replace(&format!("iss={iss}"), &format!("iss={other}"));
        assert_ne!(mixed, back);
        assert_eq!(bench.land(&mixed).await.status, 400);
    }
    // What its metadata said is known for a while, and not after a restart.
    bench.idp.state().down = true;
    bench.page(&ada).await;
    let bench = Bench { gateway: bench.gateway.restart().await, ..bench };
    let down = bench.user("ada").await.post("/v1/providers/example/connect").send().await;
    assert_eq!((down.status, &down.json()["error"]["code"]), (502, &json!("backend_error")), "{}", down.text);
    bench.gateway.finish().await;
}

#[tokio::test]
async fn a_key_that_was_revoked_meanwhile_connects_nothing() {
    let bench = Bench::start().await;
    let ada = bench.user("ada").await;
    let back = bench.idp.agree(&bench.page(&ada).await, "A").await;
    let listed = bench.gateway.control(Command::KeysList).await;
    let id = listed["keys"].as_array().unwrap().iter().find(|key| key["user"] == "ada").unwrap()["id"].clone();
    bench.gateway.control(Command::KeysRevoke { id: id.as_str().unwrap().into() }).await;
    let refused = bench.land(&back).await;
    assert_eq!(refused.status, 400);
    assert!(refused.text.contains("the key"), "{}", refused.text);
    assert_eq!(bench.standing(&bench.user("ada").await).await["state"], "disconnected");
    bench.gateway.finish().await;
}

/// Without discovery: the endpoints as configured, the secret in the body, no word of issuers.
#[tokio::test]
async fn endpoints_may_be_configured() {
    let (upstream, idp) = (FakeUpstream::legacy().await, Idp::start().await);
    idp.state().metadata = json!({"issuer": "https://nobody.asks.here"});
    let section = idp.section("example", "authorize_parameters = { prompt = \"consent\" }").replace(
        &format!("issuer = \"{}\"", idp.url),
        &format!("authorize_url = \"{0}/authorize\"\ntoken_url = \"{0}/token\"", idp.url),
    );
    let rows = upstream.section("up", "provider = \"example\"");
    let gateway = Setup::new().config(&section).config(&rows).profile("member", MEMBER).start().await;
    let bench = Bench { gateway, idp, upstream };
    let ada = bench.user("ada").await;
    let page = bench.page(&ada).await;
    assert!(page.contains("prompt=consent"), "{page}");
    assert_eq!(bench.connect(&ada, "A").await.status, 200);
    let form = bench.idp.state().forms[0].clone();
    assert_eq!((form["by"].as_str(), form["code_verifier"].len() >= 43), ("body", true));
    bench.gateway.finish().await;
}

/// What a key may not do, what is not there, and what makes no sense.
#[tokio::test]
async fn wrong_questions_have_their_answers() {
    let bench = Bench::start().await;
    let (ada, agent) = (bench.user("ada").await, bench.client("ada", "agent").await);
    let refused = agent.get(PROVIDERS).send().await;
    assert_eq!((refused.status, &refused.json()["error"]["code"]), (403, &json!("insufficient_scope")));
    for (method, path, status, code) in [
        ("POST", "/v1/providers/nothing/connect", 404, "not_found"),
        ("POST", "/v1/providers/nothing/refresh", 404, "not_found"),
        ("POST", "/v1/providers/example/refresh", 404, "not_found"),
        ("DELETE", "/v1/providers/example", 404, "not_found"),
        ("DELETE", "/v1/providers/prv_0123", 404, "not_found"),
        ("GET", "/v1/providers?limit=0", 400, "invalid_request"),
        ("GET", "/v1/providers?q=x", 400, "invalid_request"),
    ] {
        let answer = ada.draft(method, path).send().await;
        assert_eq!(
            (answer.status, &answer.json()["error"]["code"]),
            (status, &json!(code)),
            "{method} {path}: {}",
            answer.text
        );
    }
    let body = ada.post("/v1/providers/example/connect").json(&json!({"scopes": ["all"]})).send().await;
    assert_eq!(body.status, 400, "{}", body.text);
    assert_eq!(ada.post("/v1/providers/example/connect").json(&json!({})).send().await.status, 200);
    bench.gateway.finish().await;
}
