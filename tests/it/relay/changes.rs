//! Resources that are followed, and lists that are others: whoever follows them hears of every change, or is told that it may
//! have missed one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tokio_util::task::TaskTracker;

use crate::support::{Client, FakeUpstream, Say, Seen, Setup, Stream, eventually, soon, tool};

const ROUTE: &str = "/v1/mcp/servers/up";
const UPDATED: &str = "notifications/resources/updated";
const DIRECT: &str = "scopes = [\"tools:read\", \"tools:invoke\"]\nallowed_tools = [\"*\"]\nsurface = \"direct\"";

fn notice(method: &str, params: &Value) -> String {
    json!({"jsonrpc": "2.0", "method": method, "params": params}).to_string()
}

fn updated(uri: &str) -> String {
    notice(UPDATED, &json!({"uri": uri}))
}

fn legacy_greeting(prompts: &Value) -> String {
    let capabilities = json!({"tools": {}, "prompts": prompts, "resources": {"subscribe": true}});
    let info = json!({"name": "x", "version": "1"});
    json!({"protocolVersion": "2025-11-25", "capabilities": capabilities, "serverInfo": info}).to_string()
}

fn modern_greeting() -> String {
    let capabilities = json!({"tools": {}, "resources": {"subscribe": true}});
    json!({"resultType": "complete", "supportedVersions": ["2026-07-28"], "capabilities": capabilities}).to_string()
}

/// The resources that a `subscriptions/listen` is about.
fn wanted(seen: &Seen) -> Option<Vec<String>> {
    let uris = seen.json["params"]["notifications"]["resourceSubscriptions"].as_array()?;
    Some(uris.iter().map(|uri| uri.as_str().unwrap().to_owned()).collect())
}

/// What a modern server takes of it: all but what is called `x://no`.
fn acknowledged(seen: &Seen, uris: &[String]) -> String {
    let taken: Vec<&String> = uris.iter().filter(|uri| *uri != "x://no").collect();
    let tag = json!({"io.modelcontextprotocol/subscriptionId": seen.json["id"]});
    let params = json!({"notifications": {"resourceSubscriptions": taken}, "_meta": tag});
    notice("notifications/subscriptions/acknowledged", &params)
}

/// A modern server that tells of resources, each time after what `first` makes of the acknowledgement.
async fn telling(first: impl Fn(&[String], String) -> Say + Send + Sync + 'static) -> FakeUpstream {
    let upstream = FakeUpstream::modern().await;
    upstream.script(move |seen| match (seen.method(), wanted(seen)) {
        ("server/discover", _) => Some(Say::Result(modern_greeting())),
        ("subscriptions/listen", Some(uris)) => Some(first(&uris, acknowledged(seen, &uris))),
        _ => None,
    });
    upstream
}

/// A legacy server with this one resource, that tells of it; it refuses to tell of `x://no`.
async fn legacy(uri: &'static str) -> FakeUpstream {
    let upstream = FakeUpstream::legacy().await;
    upstream.script(move |seen| legacy_says(seen, uri));
    upstream
}

fn legacy_says(seen: &Seen, uri: &str) -> Option<Say> {
    Some(match (&*seen.verb, seen.method()) {
        (_, "initialize") => Say::Session(legacy_greeting(&json!({"listChanged": true}))),
        (_, "resources/list") => Say::Result(json!({"resources": [{"uri": uri, "name": "n"}]}).to_string()),
        (_, "prompts/list") => Say::Result(r#"{"prompts":[{"name":"p"}]}"#.into()),
        (_, "resources/subscribe") if seen.json["params"]["uri"] == "x://no" => {
            Say::Error(r#"{"code":-32002,"message":"there is none"}"#.into())
        }
        (_, "resources/subscribe") => Say::Result("{}".into()),
        ("GET", _) => Say::EventsThenTold(Vec::new()),
        _ => return None,
    })
}

fn count(upstream: &FakeUpstream, of: impl Fn(&Seen) -> bool) -> usize {
    upstream.seen().iter().filter(|seen| of(seen)).count()
}

async fn listen(client: &Client, notifications: &Value) -> (Value, Stream) {
    let params = json!({"notifications": notifications}).to_string();
    let mut stream = client.modern().request("subscriptions/listen", &params).open().await;
    let first = soon("the acknowledgement", stream.data()).await.unwrap();
    (first["params"]["notifications"].clone(), stream)
}

async fn session_stream(client: &Client) -> Stream {
    let mut stream = client.get(&client.path).header("accept", "text/event-stream").open().await;
    soon("the stream opens", stream.next()).await.unwrap();
    stream
}

/// The params of the next message of this method, whatever comes before.
async fn hears(stream: &mut Stream, method: &str) -> Value {
    let hearing = async {
        loop {
            let message = stream.data().await.expect("the stream goes on");
            if message["method"] == method {
                return message["params"].clone();
            }
        }
    };
    soon(method, hearing).await
}

#[tokio::test]
async fn whoever_leaves_while_it_subscribes_leaves_nothing_behind() {
    let upstream = FakeUpstream::legacy().await;
    upstream.script(|seen| match seen.method() {
        "resources/subscribe" => Some(Say::Hang),
        _ => legacy_says(seen, "x://a"),
    });
    let gateway = Setup::with(&upstream).profile("direct", DIRECT).start().await;
    let client = gateway.client(&gateway.key("direct").await);
    for path in [ROUTE, "/v1/mcp"] {
        upstream.forget();
        for number in 1..=4 {
            let params = json!({"notifications": {"resourceSubscriptions": ["x://a"]}}).to_string();
            let asking = client.at(path).modern().request("subscriptions/listen", &params);
            let leaving = TaskTracker::new().spawn(async move { asking.try_send().await.is_some() });
            let asked = || count(&upstream, |seen| seen.method() == "resources/subscribe");
            eventually("the server is asked", async || (asked() == number).then_some(())).await;
            leaving.abort();
        }
        let ended = || count(&upstream, |seen| seen.verb == "DELETE");
        eventually("every session is ended", async || (ended() == 4).then_some(())).await;
    }
    gateway.finish().await;
}

#[tokio::test]
async fn one_more_resource_leaves_no_gap_for_the_others() {
    let upstream = telling(|uris, first| {
        let told = Say::EventsThenTold(vec![first]);
        if uris.iter().any(|uri| uri == "x://b") { Say::Held(Box::new(told)) } else { told }
    })
    .await;
    let gateway = Setup::with(&upstream).start().await;
    let client = gateway.agent().await.at(ROUTE).legacy().await;
    let mut stream = session_stream(&client).await;
    client.rpc("resources/subscribe", &json!({"uri": "x://a"})).await.result();
    let refused = client.rpc("resources/subscribe", &json!({"uri": "x://no"})).await;
    assert_eq!(refused.json()["error"]["code"], -32603, "{}", refused.text);
    let asking = client.request("resources/subscribe", r#"{"uri":"x://b"}"#);
    let second = TaskTracker::new().spawn(asking.send());
    let about_b = || count(&upstream, |seen| wanted(seen).is_some_and(|uris| uris.contains(&"x://b".to_owned())));
    eventually("the server is asked", async || (about_b() == 1).then_some(())).await;
    upstream.tell(Some(&updated("x://a")));
    assert_eq!(hears(&mut stream, UPDATED).await["uri"], "x://a");
    assert!(!second.is_finished(), "nobody tells of it yet");
    upstream.release(1);
    soon("the second is taken", second).await.unwrap().result();
    upstream.tell(Some(&updated("x://b")));
    assert_eq!(hears(&mut stream, UPDATED).await["uri"], "x://b");
    client.rpc("resources/unsubscribe", &json!({"uri": "x://b"})).await.result();
    client.rpc("resources/unsubscribe", &json!({"uri": "x://a"})).await.result();
    gateway.finish().await;
}

#[tokio::test]
async fn only_what_a_server_takes_is_acknowledged() {
    let modern = telling(|_, first| Say::EventsThenTold(vec![first])).await;
    for upstream in [modern, legacy("x://a").await] {
        let gateway = Setup::with(&upstream).start().await;
        let client = gateway.agent().await.at(ROUTE);
        let (taken, mut stream) = listen(&client, &json!({"resourceSubscriptions": ["x://no", "x://a"]})).await;
        assert_eq!(taken, json!({"resourceSubscriptions": ["x://a"]}));
        upstream.tell(Some(&updated("x://a")));
        assert_eq!(hears(&mut stream, UPDATED).await["uri"], "x://a");
        let (taken, mut stream) = listen(&client, &json!({"resourceSubscriptions": ["x://no"]})).await;
        assert_eq!(taken, json!({}));
        assert!(!stream.ends_within(Duration::from_millis(200)).await, "what else it asked for, it may hear");
        gateway.finish().await;
    }
}

#[tokio::test]
async fn who_may_have_missed_a_change_is_told_of_it() {
    let upstream = telling(|_, first| Say::EventsThenTold(vec![first])).await;
    let gateway = Setup::with(&upstream).start().await;
    let client = gateway.agent().await.at(ROUTE);
    let (_, mut stream) = listen(&client, &json!({"resourceSubscriptions": ["x://a"]})).await;
    let legacy = client.legacy().await;
    let mut session = session_stream(&legacy).await;
    legacy.rpc("resources/subscribe", &json!({"uri": "x://a"})).await.result();
    upstream.tell(None);
    assert_eq!(hears(&mut stream, UPDATED).await["uri"], "x://a");
    assert_eq!(hears(&mut session, UPDATED).await["uri"], "x://a");
    gateway.finish().await;
    let last = stream.data().await.unwrap();
    assert_eq!((&last["id"], &last["result"]["resultType"]), (&json!(1), &json!("complete")));
}

#[tokio::test]
async fn a_server_that_takes_no_subscription_says_so_at_once() {
    let upstream = telling(|_, _| Say::Error(r#"{"code":-32601,"message":"not known"}"#.into())).await;
    let gateway = Setup::with(&upstream).start().await;
    let client = gateway.agent().await.at(ROUTE);
    let params = json!({"notifications": {"resourceSubscriptions": ["x://a"]}});
    let answer = client.modern().rpc("subscriptions/listen", &params).await;
    assert_eq!(answer.error()["message"], "the server did not take the subscription");
    let answer = client.legacy().await.rpc("resources/subscribe", &json!({"uri": "x://a"})).await;
    assert_eq!(answer.error()["message"], "the server did not take the subscription");
    gateway.finish().await;
}

/// More than a slow client has room for: what is lost of it is told of afterwards.
#[tokio::test]
async fn a_slow_client_hears_of_every_resource_that_changed() {
    let upstream = telling(|_, first| {
        let large = notice(UPDATED, &json!({"uri": "x://a", "_meta": {"pad": "x".repeat(240 << 10)}}));
        let mut said = vec![first];
        said.extend(std::iter::repeat_n(large, 40));
        said.extend(std::iter::repeat_n(updated("x://b"), 300));
        said.push(updated("x://c"));
        Say::EventsThenHang(said)
    })
    .await;
    let gateway = Setup::with(&upstream).start().await;
    let client = gateway.agent().await.at(ROUTE);
    let (_, mut stream) = listen(&client, &json!({"resourceSubscriptions": ["x://a", "x://b", "x://c"]})).await;
    // Meanwhile it reads nothing.
    for _ in 0..20 {
        client.tools().await;
    }
    while hears(&mut stream, UPDATED).await["uri"] != "x://c" {}
    gateway.finish().await;
}

/// A server whose session has ended is asked again; what the others tell goes on.
#[tokio::test]
async fn one_server_that_forgets_a_subscription_ends_no_other() {
    let (one, two) = (FakeUpstream::legacy().await, legacy("two://b").await);
    let lost = Arc::new(AtomicBool::new(false));
    let forgets = Arc::clone(&lost);
    one.script(move |seen| match seen.method() {
        "initialize" => {
            forgets.store(false, Ordering::SeqCst);
            // Of its lists it tells nobody: the only stream is the subscription's.
            Some(Say::Session(legacy_greeting(&json!({}))))
        }
        _ if forgets.load(Ordering::SeqCst) => Some(Say::Status(404)),
        _ => legacy_says(seen, "one://a"),
    });
    let servers = format!("{}\n{}", one.section("one", ""), two.section("two", ""));
    let gateway = Setup::new().config(&servers).profile("direct", DIRECT).start().await;
    let client = gateway.client(&gateway.key("direct").await);
    let (taken, mut stream) = listen(&client, &json!({"resourceSubscriptions": ["one://a", "two://b"]})).await;
    assert_eq!(taken, json!({"resourceSubscriptions": ["one://a", "two://b"]}));
    lost.store(true, Ordering::SeqCst);
    one.tell(None);
    assert_eq!(hears(&mut stream, UPDATED).await["uri"], "one://a", "it may have changed meanwhile");
    for (upstream, uri) in [(&two, "two://b"), (&one, "one://a")] {
        upstream.tell(Some(&updated(uri)));
        assert_eq!(hears(&mut stream, UPDATED).await["uri"], uri);
    }
    gateway.finish().await;
}

#[tokio::test]
async fn what_policy_hides_is_told_of_by_every_list_and_of_no_resource() {
    let upstream = legacy("x://open").await;
    upstream.set_tools(json!([tool("read", &json!({"readOnlyHint": true})), tool("write", &json!({}))]));
    let all = "@id(\"all\") permit(principal, action, resource);";
    let gateway = Setup::with(&upstream).policy("all", all).profile("direct", DIRECT).start().await;
    let client = gateway.client(&gateway.key("direct").await);
    let transparent = client.at(ROUTE).legacy().await;
    let mut streams = vec![session_stream(&transparent).await, session_stream(&client.legacy().await).await];
    for uri in ["x://secret", "x://open"] {
        transparent.rpc("resources/subscribe", &json!({"uri": uri})).await.result();
    }
    let lists = json!({"promptsListChanged": true, "toolsListChanged": true});
    streams.push(listen(&client, &lists).await.1);
    gateway.write(
        "policies/all.cedar",
        &format!(
            "{all}\n@id(\"no\") forbid(principal, action, resource == Toolgate::Tool::\"up:write\");\n\
             @id(\"none\") forbid(principal, action, resource == Toolgate::Resource::\"up:x://secret\");"
        ),
    );
    for stream in &mut streams {
        hears(stream, "notifications/tools/list_changed").await;
        hears(stream, "notifications/prompts/list_changed").await;
    }
    assert_eq!(client.at(ROUTE).tools().await, ["read"]);
    upstream.tell(Some(&updated("x://secret")));
    upstream.tell(Some(&updated("x://open")));
    assert_eq!(hears(&mut streams[0], UPDATED).await["uri"], "x://open", "the other is nothing to it any more");
    gateway.finish().await;
}

#[tokio::test]
async fn nobody_hears_of_changes_at_a_server_that_it_does_not_reach() {
    let (one, two) = (legacy("one://a").await, legacy("two://b").await);
    let servers = format!("{}\n{}", one.section("one", ""), two.section("two", ""));
    let narrow = DIRECT.replace("\"*\"", "\"two:*\"");
    let setup = Setup::new().config(&servers).profile("direct", DIRECT).profile("narrow", &narrow);
    let gateway = setup.start().await;
    let of = async |profile: &str| session_stream(&gateway.client(&gateway.key(profile).await).legacy().await).await;
    let (mut wide, mut narrow) = (of("direct").await, of("narrow").await);
    let changed = "notifications/prompts/list_changed";
    one.tell(Some(&notice(changed, &json!({}))));
    hears(&mut wide, changed).await;
    two.tell(Some(&notice(changed, &json!({}))));
    hears(&mut narrow, changed).await;
    hears(&mut wide, changed).await;
    let more = tokio::time::timeout(Duration::from_millis(200), narrow.data()).await;
    assert!(more.is_err(), "of the first it heard nothing: {more:?}");
    gateway.finish().await;
}
