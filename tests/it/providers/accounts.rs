//! What becomes of an account that is connected: renewed, kept, given up.

use futures_util::future::join_all;
use serde_json::json;
use toolgate::domain::clock::{ManualClock, Moment};
use toolgate::gateway::ProvidersCommand;
use toolgate::gateway::control::Command;

use super::idp::Idp;
use super::{Bench, data, setup, who};
use crate::support::{FakeUpstream, eventually};

const NOON: Moment = Moment(1_700_000_000_000);
const REFRESH: &str = "/v1/providers/example/refresh";

/// A bench whose time moves only when it is told to.
async fn timed() -> (Bench, ManualClock) {
    let (clock, upstream, idp) = (ManualClock::at(NOON), FakeUpstream::legacy().await, Idp::start().await);
    let gateway = setup(&idp, &upstream, "").clock(&clock).start().await;
    (Bench { gateway, idp, upstream }, clock)
}

/// Half a minute before its end a token is old; of many who then want one, one asks.
#[tokio::test]
async fn credentials_are_renewed_before_they_end_and_once_for_all() {
    let (bench, clock) = timed().await;
    let ada = bench.user("ada").await;
    bench.connect(&ada, "A").await;
    clock.advance(3_569_000);
    assert_eq!((who(&ada).await.as_str(), bench.idp.grants("refresh_token")), ("A", 0));
    clock.advance(1_500);
    for told in join_all((0..12).map(|_| who(&ada))).await {
        assert_eq!(told, "A");
    }
    assert_eq!(bench.idp.grants("refresh_token"), 1, "one for all of them");
    let after = bench.standing(&ada).await;
    assert_eq!((&after["state"], &after["connected_at"]), (&json!("connected"), &json!(NOON.rfc3339())));
    assert_eq!(after["refreshed_at"], Moment(NOON.0 + 3_570_500).rfc3339());
    let gateway = bench.gateway.restart().await;
    let bench = Bench { gateway, ..bench };
    assert_eq!(who(&bench.user("ada").await).await, "A", "the new ones were kept");
    assert_eq!(bench.idp.grants("refresh_token"), 1);
    bench.gateway.finish().await;
}

#[tokio::test]
async fn credentials_are_renewed_when_asked_for_and_by_one_of_many() {
    let bench = Bench::start().await;
    let ada = bench.user("ada").await;
    bench.connect(&ada, "A").await;
    let before = bench.standing(&ada).await;
    let answers = join_all((0..8).map(|_| ada.post(REFRESH).send())).await;
    for answer in &answers {
        assert_eq!(data(answer)["state"], "connected");
    }
    let asked = bench.idp.grants("refresh_token");
    assert!((1..8).contains(&asked), "{asked}");
    let by_id = ada.post(&format!("/v1/providers/{}/refresh", before["id"].as_str().unwrap())).send().await;
    assert_eq!(data(&by_id)["slug"], "example");
    assert_eq!(who(&ada).await, "A");
    bench.gateway.finish().await;
}

/// A token that a server refuses before its time is replaced; what may be repeated is.
#[tokio::test]
async fn a_refused_token_is_replaced() {
    let bench = Bench::start().await;
    let ada = bench.user("ada").await;
    bench.connect(&ada, "A").await;
    assert_eq!(who(&ada).await, "A");
    bench.idp.revoke_access();
    assert_eq!((who(&ada).await.as_str(), bench.idp.grants("refresh_token")), ("A", 1));
    // One that refuses whatever it gets is not served with new ones without end, and opens no breaker.
    bench.idp.state().renews = true;
    bench.upstream.on_call(|_| crate::support::Say::Status(401));
    for _ in 0..12 {
        let refused = ada.call("up:who", &json!({})).await;
        assert!(refused.told().contains("`POST /v1/providers/example/connect`"), "{}", refused.text);
    }
    assert!(bench.idp.grants("refresh_token") <= 2, "{}", bench.idp.grants("refresh_token"));
    let status = bench.gateway.control(Command::ServersList).await;
    assert_eq!(status["servers"][0]["breaker"]["state"], "closed", "{status}");
    assert_eq!(bench.standing(&ada).await["state"], "connected");
    bench.gateway.finish().await;
}

/// Where the provider renews no more, the user is told to connect anew, and the provider is left in peace.
#[tokio::test]
async fn an_account_that_has_ended_is_connected_anew() {
    let (bench, clock) = timed().await;
    let ada = bench.user("ada").await;
    bench.connect(&ada, "A").await;
    bench.idp.state().renews = false;
    clock.advance(3_600_000);
    for _ in 0..3 {
        let refused = ada.call("up:who", &json!({})).await;
        assert_eq!(refused.denied(), "account_required", "{}", refused.text);
    }
    assert_eq!(bench.idp.grants("refresh_token"), 1, "it is asked once");
    assert_eq!(bench.standing(&ada).await["state"], "expired");
    let conflict = ada.post(REFRESH).send().await;
    assert_eq!((conflict.status, &conflict.json()["error"]["code"]), (409, &json!("conflict")), "{}", conflict.text);
    bench.idp.state().renews = true;
    bench.connect(&ada, "A").await;
    assert_eq!((who(&ada).await.as_str(), bench.standing(&ada).await["state"].as_str()), ("A", Some("connected")));
    bench.gateway.finish().await;
}

/// A provider that is down for a while costs nothing while the token lives, and a clear failure after that.
#[tokio::test]
async fn a_provider_that_is_down_loses_no_account() {
    let (bench, clock) = timed().await;
    let ada = bench.user("ada").await;
    bench.connect(&ada, "A").await;
    bench.idp.state().down = true;
    clock.advance(3_580_000);
    assert_eq!(who(&ada).await, "A", "the old one is good for twenty seconds");
    let failed = ada.post(REFRESH).send().await;
    assert_eq!((failed.status, &failed.json()["error"]["code"]), (502, &json!("backend_error")), "{}", failed.text);
    clock.advance(60_000);
    let late = ada.call("up:who", &json!({})).await;
    assert!(late.told().contains("could be had") && late.result()["isError"] == true, "{}", late.text);
    bench.idp.state().down = false;
    clock.advance(60_000);
    assert_eq!(who(&ada).await, "A");
    bench.gateway.finish().await;
}

#[tokio::test]
async fn an_account_is_given_up() {
    let bench = Bench::start().await;
    let ada = bench.user("ada").await;
    bench.connect(&ada, "A").await;
    assert_eq!(who(&ada).await, "A");
    let gone = data(&ada.delete("/v1/providers/example").send().await);
    assert_eq!(gone["disconnected"], true);
    assert_eq!(ada.call("up:who", &json!({})).await.denied(), "account_required");
    // What was cached with it is not given out either.
    assert_eq!(ada.call("up:kept", &json!({})).await.denied(), "account_required");
    assert_eq!(bench.standing(&ada).await["state"], "disconnected");
    eventually("the provider is told", async || (bench.idp.state().revoked.len() == 1).then_some(())).await;
    assert!(bench.idp.state().revoked[0].starts_with("refresh-token-"));
    assert_eq!(ada.delete("/v1/providers/example").send().await.status, 404);
    // Another account takes its place, in a session of its own.
    bench.connect(&ada, "B").await;
    assert_eq!(who(&ada).await, "B");
    bench.connect(&ada, "C").await;
    assert_eq!(who(&ada).await, "C", "connecting again changes the account");
    bench.gateway.finish().await;
}

/// Credentials lie sealed, are kept over a restart and a rotation, and stand in no record, answer or log of calls.
#[tokio::test]
async fn credentials_are_sealed_and_shown_nowhere() {
    let bench = Bench::start().await;
    let key = bench.gateway.create(toolgate::gateway::NewKey {
        name: "k".into(),
        profile: "member".into(),
        user: "ada".into(),
        ..toolgate::gateway::NewKey::default()
    });
    let key = key.await;
    let ada = bench.gateway.client(&key);
    let landing = bench.connect(&ada, "A").await;
    let mut shown = landing.text;
    for answer in [ada.get("/v1/providers").send().await, ada.post(REFRESH).send().await] {
        shown.push_str(&answer.text);
    }
    shown.push_str(&json!(bench.gateway.records().await).to_string());
    shown.push_str(&format!("{:?}", bench.gateway.gateway.state().settings.providers));
    for act in ["providers.connect", "providers.connected", "providers.refresh"] {
        assert!(shown.contains(act), "{act}: {shown}");
    }
    for secret in ["access-token-", "refresh-token-", "code-1", "s3cret of"] {
        assert!(!shown.contains(secret), "{secret}: {shown}");
    }
    let gateway = bench.gateway.restart().await;
    assert_eq!(who(&gateway.client(&key)).await, "A");
    let before = std::fs::read(gateway.file("data/credentials.secret")).unwrap();
    let rotated = gateway.control(Command::Providers(ProvidersCommand::Rotate)).await;
    assert_eq!(rotated, json!({"resealed": 1, "lost": 0}));
    assert_ne!(std::fs::read(gateway.file("data/credentials.secret")).unwrap(), before);
    let gateway = gateway.restart().await;
    assert_eq!(who(&gateway.client(&key)).await, "A");
    let database = std::fs::read(gateway.file("data/toolgate.db")).unwrap();
    let wal = std::fs::read(gateway.file("data/toolgate.db-wal")).unwrap_or_default();
    for secret in ["access-token-", "refresh-token-", "code_verifier"] {
        let found = [&database, &wal].iter().any(|bytes| bytes.windows(secret.len()).any(|at| at == secret.as_bytes()));
        assert!(!found, "`{secret}` lies open in the store");
    }
    gateway.finish().await;
}

/// A server that shows its tools to nobody without an account is listed with that of the user who is named for it.
#[tokio::test]
async fn a_server_may_be_listed_with_one_users_account() {
    let (upstream, idp) = (FakeUpstream::legacy().await, Idp::start().await);
    let account = idp.account_of();
    upstream.gate(move |parts| {
        use axum::response::IntoResponse;
        account(&parts.headers).is_none().then(|| http::StatusCode::UNAUTHORIZED.into_response())
    });
    let gateway = setup(&idp, &upstream, "list_as = \"ada\"").start().await;
    let bench = Bench { gateway, idp, upstream };
    let (ada, bob) = (bench.user("ada").await, bench.user("bob").await);
    let status = bench.gateway.control(Command::ServersList).await.to_string();
    assert!(status.contains("the account of `ada` with `example`") && status.contains("connects it"), "{status}");
    bench.connect(&bob, "B").await;
    bench.connect(&ada, "A").await;
    eventually("the server is listed", async || {
        (bench.gateway.control(Command::ServersList).await["servers"][0]["state"] == "ready").then_some(())
    })
    .await;
    eventually("its tools can be called", async || bench.gateway.gateway.settled().then_some(())).await;
    assert_eq!((who(&bob).await, who(&ada).await), ("B".into(), "A".into()));
    bench.gateway.finish().await;
}

/// Everybody has the resources and prompts of their own account: of another's not even the names are shown.
#[tokio::test]
async fn what_else_a_server_has_is_listed_with_ones_own_account() {
    let (upstream, idp) = (FakeUpstream::legacy().await, Idp::start().await);
    let setup = setup(&idp, &upstream, "list_as = \"ada\"");
    let account = idp.account_of();
    upstream.script(move |seen| {
        let whose = account(&seen.headers).unwrap_or_else(|| "nobody".into());
        Some(crate::support::Say::Result(match seen.method() {
            "initialize" => json!({
                "protocolVersion": "2025-11-25", "capabilities": {"tools": {}, "resources": {}, "prompts": {}},
                "serverInfo": {"name": "x", "version": "1"},
            })
            .to_string(),
            "resources/list" => json!({"resources": [{"uri": format!("note://{whose}"), "name": "n"}]}).to_string(),
            "resources/templates/list" => json!({"resourceTemplates": []}).to_string(),
            "prompts/list" => json!({"prompts": [{"name": format!("of-{whose}")}]}).to_string(),
            _ => return None,
        }))
    });
    let gateway = setup.start().await;
    let bench = Bench { gateway, idp, upstream };
    let (ada, bob) = (bench.user("ada").await, bench.user("bob").await);
    bench.connect(&ada, "A").await;
    eventually("its tools are listed", async || bench.gateway.gateway.settled().then_some(())).await;
    let listed = async |client: &crate::support::Client| {
        let mut all = String::new();
        for client in [client.at("/v1/mcp/servers/up"), client.at("/v1/mcp?surface=direct")] {
            for method in ["resources/list", "prompts/list"] {
                all.push_str(&client.modern().rpc(method, &json!({})).await.text);
            }
        }
        all
    };
    let (of_ada, of_bob) = (listed(&ada).await, listed(&bob).await);
    assert_eq!((of_ada.matches("note://A").count(), of_ada.matches("of-A").count()), (2, 2), "{of_ada}");
    assert!(!of_bob.contains("note://") && !of_bob.contains("of-"), "{of_bob}");
    bench.connect(&bob, "B").await;
    let of_bob = listed(&bob).await;
    assert_eq!((of_bob.matches("note://B").count(), of_bob.matches("of-B").count()), (2, 2), "{of_bob}");
    assert!(!of_bob.contains("note://A"), "{of_bob}");
    bench.gateway.finish().await;
}

/// Keys for sealing that the configuration gives take over while the gateway runs.
#[tokio::test]
async fn configured_keys_seal_what_is_there() {
    let bench = Bench::start().await;
    let ada = bench.user("ada").await;
    bench.connect(&ada, "A").await;
    let text = std::fs::read_to_string(bench.gateway.file("toolgate.toml")).unwrap();
    let keys = "[gateway]\ncredentials_keys = [\"a key of at least thirty-two characters\"]\n";
    bench.gateway.write("toolgate.toml", &format!("{keys}{text}"));
    eventually("the keys are active", async || {
        (!bench.gateway.gateway.state().settings.gateway.credentials_keys.is_empty()).then_some(())
    })
    .await;
    std::fs::remove_file(bench.gateway.file("data/credentials.secret")).unwrap();
    let refused = bench.gateway.gateway.control(Command::Providers(ProvidersCommand::Rotate)).await;
    assert!(refused.unwrap_err().to_string().contains("credentials_keys"));
    let gateway = bench.gateway.restart().await;
    let bench = Bench { gateway, ..bench };
    assert_eq!(bench.standing(&bench.user("ada").await).await["state"], "connected");
    bench.gateway.finish().await;
}
