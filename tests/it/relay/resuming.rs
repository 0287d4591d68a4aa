//! Streams and sessions that broke off: what belongs to a session is there again, and to nobody else.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{
    Act, Client, Event, FakeChannel, FakeUpstream, Say, Setup, Stream, eventually, result, soon, tool,
};

const ROUTE: &str = "/v1/mcp/servers/up";
const CHANGED: &str = "notifications/tools/list_changed";
const UPDATED: &str = "notifications/resources/updated";

async fn listens(client: &Client, after: Option<&str>) -> Stream {
    let draft = client.get(&client.path).header("accept", "text/event-stream");
    let draft = after.map_or(draft.clone(), |id| draft.header("last-event-id", id));
    let stream = draft.open().await;
    assert_eq!(stream.status, 200);
    stream
}

async fn hears(stream: &mut Stream, method: &str) -> Value {
    loop {
        let message = soon(method, stream.data()).await.expect("the stream goes on");
        if message["method"] == method {
            return message;
        }
    }
}

/// The answer to a legacy `initialize`, with a session.
fn greeting() -> String {
    json!({
        "protocolVersion": "2025-11-25",
        "capabilities": {"tools": {"listChanged": true}, "resources": {"subscribe": true}, "logging": {}},
        "serverInfo": {"name": "x", "version": "1"},
    })
    .to_string()
}

#[tokio::test]
async fn the_stream_of_a_session_is_taken_up_where_it_stopped() {
    let open = "scopes = [\"tools:read\", \"tools:invoke\"]\nallowed_tools = [\"*\"]\nsurface = \"direct\"";
    for route in ["/v1/mcp", ROUTE] {
        let upstream = FakeUpstream::legacy().await;
        let gateway = Setup::with(&upstream).profile("open", open).start().await;
        let key = gateway.key("open").await;
        let client = gateway.client(&key).at(route).legacy().await;
        let mut stream = listens(&client, None).await;
        assert_eq!(stream.next().await, Some(Event::Comment), "something at once");
        let id = stream.last_id.clone().expect("an event with an id");
        drop(stream);
        eventually("the gateway listens", async || upstream.is_listened_to().then_some(())).await;
        upstream.set_tools(json!([tool("newer", &json!({"readOnlyHint": true}))]));
        upstream.tell_changed();
        eventually("the list is another", async || {
            client.tools().await.iter().any(|name| name.ends_with("newer")).then_some(())
        })
        .await;
        // Somebody else who comes with the id has a stream of its own from now on, and is told that it missed something.
        let same_key = gateway.client(&key).at(route).legacy().await;
        let other_key = gateway.client(&gateway.key("open").await).at(route).legacy().await;
        for other in [&same_key, &other_key] {
            let mut foreign = listens(other, Some(&id)).await;
            let first = foreign.next().await;
            assert_eq!(first, Some(Event::Comment), "{route}");
            assert_ne!(foreign.last_id.as_ref().unwrap().split('/').next(), id.split('/').next(), "{route}");
            hears(&mut foreign, CHANGED).await;
            assert_ne!(foreign.last_id.as_ref().unwrap().split('/').next(), id.split('/').next(), "{route}");
        }
        let mut rest = listens(&client, Some(&id)).await;
        hears(&mut rest, CHANGED).await;
        assert_eq!(rest.last_id.as_ref().unwrap().split('/').next(), id.split('/').next(), "{route}: the same stream");
        // It ends with its session.
        assert_eq!(client.delete(&client.path).send().await.status, 204);
        assert!(rest.ends_within(Duration::from_secs(10)).await, "{route}");
        gateway.finish().await;
    }
}

#[tokio::test]
async fn a_session_that_its_server_lost_is_told_again_what_its_client_wants_to_hear() {
    let upstream = FakeUpstream::legacy().await;
    let lost = Arc::new(AtomicBool::new(false));
    let forgets = Arc::clone(&lost);
    upstream.script(move |seen| match seen.method() {
        "initialize" => {
            forgets.store(false, Ordering::SeqCst);
            Some(Say::Session(greeting()))
        }
        _ if forgets.load(Ordering::SeqCst) => Some(Say::Status(404)),
        "resources/subscribe" | "resources/unsubscribe" | "logging/setLevel" => Some(Say::Result("{}".into())),
        _ => None,
    });
    let gateway = Setup::with(&upstream).start().await;
    let client = gateway.agent().await.at(ROUTE).legacy().await;
    for uri in ["x://a", "x://b"] {
        client.rpc("resources/subscribe", &json!({"uri": uri})).await.result();
    }
    client.rpc("resources/unsubscribe", &json!({"uri": "x://b"})).await.result();
    client.rpc("logging/setLevel", &json!({"level": "warning"})).await.result();
    upstream.forget();
    lost.store(true, Ordering::SeqCst);
    assert_eq!(client.call("read", &json!({})).await.told(), "done");
    let again = |method: &str| {
        let seen = upstream.seen().into_iter().filter(|seen| seen.method() == method);
        seen.map(|seen| seen.json["params"].clone()).collect::<Vec<_>>()
    };
    eventually("it is subscribed again", async || {
        (again("resources/subscribe") == [json!({"uri": "x://a"})]).then_some(())
    })
    .await;
    assert_eq!(again("logging/setLevel"), [json!({"level": "warning"})]);
    gateway.finish().await;
}

/// Over one channel the session goes with it: who only listens has no reason to ask, and hears of changes all the same.
#[tokio::test]
async fn a_channel_that_broke_off_is_opened_again_for_whoever_listens() {
    let backend = FakeChannel::ws(false).await;
    backend.script(|heard| match heard["method"].as_str() {
        Some("initialize") => Some(Act::Say(vec![result(heard, &greeting())])),
        Some("resources/subscribe") => Some(Act::Say(vec![result(heard, "{}")])),
        _ => None,
    });
    let gateway = Setup::new().config(&backend.section("up", "")).start().await;
    let client = gateway.agent().await.at(ROUTE).legacy().await;
    let mut stream = listens(&client, None).await;
    client.rpc("resources/subscribe", &json!({"uri": "x://a"})).await.result();
    backend.set_tools(json!([tool("newer", &json!({"readOnlyHint": true}))]));
    backend.tell(None);
    eventually("it is subscribed again", async || (backend.heard("resources/subscribe").len() == 2).then_some(()))
        .await;
    // What came back has other tools.
    hears(&mut stream, CHANGED).await;
    let update = json!({"jsonrpc": "2.0", "method": UPDATED, "params": {"uri": "x://a"}}).to_string();
    backend.tell(Some(&update));
    assert_eq!(hears(&mut stream, UPDATED).await["params"], json!({"uri": "x://a"}));
    gateway.finish().await;
}

/// Another connection is another server to the gateway: whoever listens hears that one.
#[tokio::test]
async fn a_stream_goes_on_at_a_server_whose_settings_were_changed() {
    let upstream = FakeUpstream::legacy().await;
    let gateway = Setup::with(&upstream).start().await;
    let client = gateway.agent().await.at(ROUTE);
    let mut legacy = listens(&client.legacy().await, None).await;
    let wanted = json!({"notifications": {"toolsListChanged": true}}).to_string();
    let mut modern = client.modern().request("subscriptions/listen", &wanted).open().await;
    soon("the acknowledgement", modern.data()).await.unwrap();
    gateway.write("toolgate.toml", &upstream.section("up", "concurrency = 7"));
    for stream in [&mut legacy, &mut modern] {
        hears(stream, CHANGED).await;
    }
    eventually("the gateway listens", async || upstream.is_listened_to().then_some(())).await;
    upstream.set_tools(json!([tool("newer", &json!({"readOnlyHint": true}))]));
    eventually("both hear of another list", async || {
        upstream.tell_changed();
        let heard = async {
            hears(&mut legacy, CHANGED).await;
            hears(&mut modern, CHANGED).await;
        };
        tokio::time::timeout(Duration::from_secs(1), heard).await.ok()
    })
    .await;
    gateway.finish().await;
}

/// Whether a write was done whose stream broke off nobody knows, whatever the server says to who comes for the rest.
#[tokio::test]
async fn a_write_whose_stream_broke_off_is_not_told_as_undone() {
    let upstream = FakeUpstream::legacy().await;
    let rest = Arc::new(std::sync::Mutex::new(Say::Status(404)));
    let says = Arc::clone(&rest);
    upstream.script(move |seen| match (&*seen.verb, seen.method()) {
        ("POST", "tools/call") => Some(Say::Stream("id: 1\nretry: 1\ndata: \n\n".into())),
        ("GET", _) if seen.headers.contains_key("last-event-id") => Some(says.lock().unwrap().clone()),
        _ => None,
    });
    let gateway = Setup::with(&upstream).start().await;
    let client = gateway.agent().await;
    let gone = r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32001,"message":"Session not found"}}"#;
    for say in [Say::Status(404), Say::Status(429), Say::Status(503), Say::Refusal(404, gone.into())] {
        *rest.lock().unwrap() = say.clone();
        let answer = client.invoke("up", "write", "{}").await.result();
        let error = &answer["structuredContent"]["error"];
        assert_eq!((&answer["isError"], &error["retryable"]), (&json!(true), &json!(false)), "{say:?}: {answer}");
        assert!(!answer.to_string().contains("try again"), "{say:?}: {answer}");
    }
    gateway.finish().await;
}
