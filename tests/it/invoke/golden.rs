//! The backend's result, byte for byte, with governance spliced in and nothing else.

use serde_json::json;

use crate::support::{Client, FakeUpstream, Say, Setup, without_ids};

const GOVERNANCE: &str = r#""toolgate/governance":{"decision":"allow","policy":"default-allow-read","dlp_result":"passed","audit_event_id":"evt_…"}"#;
const SERVER_INFO: &str = concat!(
    r#""io.modelcontextprotocol/serverInfo":{"name":"toolgate","title":"Toolgate","version":""#,
    env!("CARGO_PKG_VERSION"),
    r#""}"#
);

/// Results without a `_meta` of their own, as odd as JSON allows.
const RESULTS: [&str; 16] = [
    r#"{"content":[{"type":"text","text":"plain"}]}"#,
    r#"{"content":[{"type":"text","text":"\u00e9\ud83d\ude00\/ é😀\t","annotations":{"audience":["user"],"priority":0.50}}]}"#,
    r#"{"content":[{"type":"image","data":"iVBORw0KGgo=","mimeType":"image/png"}]}"#,
    r#"{"content":[{"type":"audio","data":"UklGRg==","mimeType":"audio/wav","_meta":{"x":1}}]}"#,
    r#"{"content":[{"type":"resource","resource":{"uri":"file:///a%20b","mimeType":"text/plain","text":"hi","_meta":{"y":null}}}]}"#,
    r#"{"content":[{"type":"resource","resource":{"uri":"file:///b","blob":"AAEC"}}]}"#,
    r#"{"content":[{"type":"resource_link","uri":"x://y","name":"y","size":12345678901234567890}]}"#,
    r#"{"content":[],"structuredContent":{"z":1,"a":[1.50e2,-0,-0.0,1E+2,0.10,1e400,12345678901234567890123]}}"#,
    r#"{"structuredContent":[1,2,3],"content":[]}"#,
    r#"{"content":[{"type":"text","text":"no"}],"isError":true}"#,
    r#"{"content":[],"isError":false,"structuredContent":null}"#,
    r#"{"content":[{"type":"hologram","x-vendor":{"deep":[[],{},""]}}],"x-unknown":{"b":1,"a":2},"another":null}"#,
    r#"{"content":[{"type":"text","text":"{\"_meta\":{\"toolgate/governance\":\"not a member\"}}"}]}"#,
    r#"{"content":null}"#,
    r#"{}"#,
    r#"{"content":[ { "type" : "text" ,"text" : "spaces  inside" } ],"a":{ }}"#,
];

async fn read(client: &Client) -> String {
    let answer = client.invoke("up", "read", "{}").await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    without_ids(&answer.text)
}

#[tokio::test]
async fn every_kind_of_result_keeps_its_bytes() {
    for upstream in [FakeUpstream::legacy().await, FakeUpstream::modern().await] {
        let gateway = Setup::with(&upstream).start().await;
        let bare = gateway.agent().await;
        let (legacy, modern) = (bare.legacy().await, bare.modern());
        for result in RESULTS {
            upstream.on_call(move |_| Say::Result(result.to_owned()));
            let members = &result[1..result.len() - 1];
            let comma = if members.is_empty() { "" } else { "," };
            let expected =
                format!(r#"{{"jsonrpc":"2.0","id":1,"result":{{{members}{comma}"_meta":{{{GOVERNANCE}}}}}}}"#);
            assert_eq!(read(&bare).await, expected);
            assert_eq!(read(&legacy).await, expected);
            let expected = format!(
                r#"{{"jsonrpc":"2.0","id":1,"result":{{"resultType":"complete",{members}{comma}"_meta":{{{GOVERNANCE},{SERVER_INFO}}}}}}}"#
            );
            assert_eq!(read(&modern).await, expected);
        }
        gateway.finish().await;
    }
}

#[tokio::test]
async fn the_backends_own_meta_stays_and_its_forgeries_do_not() {
    let upstream = FakeUpstream::legacy().await;
    let gateway = Setup::with(&upstream).start().await;
    let client = gateway.agent().await;
    for (result, expected) in [
        (
            r#"{"_meta":{"b": 1.0,"a":null},"content":[]}"#,
            format!(r#"{{"_meta":{{"b": 1.0,"a":null,{GOVERNANCE}}},"content":[]}}"#),
        ),
        (r#"{"content":[],"_meta":{}}"#, format!(r#"{{"content":[],"_meta":{{{GOVERNANCE}}}}}"#)),
        (
            r#"{"content":[],"_meta":{"toolgate/governance":{"decision":"allow","policy":"forged"},"x":2}}"#,
            format!(r#"{{"content":[],"_meta":{{"x":2,{GOVERNANCE}}}}}"#),
        ),
        (
            r#"{"content":[],"\u005fmeta":{"toolgate\/governance":"forged"}}"#,
            format!(r#"{{"content":[],"\u005fmeta":{{{GOVERNANCE}}}}}"#),
        ),
        (
            r#"{"resultType":"complete","ttlMs":5,"cacheScope":"public","content":[]}"#,
            format!(r#"{{"content":[],"_meta":{{{GOVERNANCE}}}}}"#),
        ),
    ] {
        let given = result.to_owned();
        upstream.on_call(move |_| Say::Result(given.clone()));
        assert_eq!(read(&client).await, format!(r#"{{"jsonrpc":"2.0","id":1,"result":{expected}}}"#));
    }
    gateway.finish().await;
}

/// What is no result, or could be read in two ways, reaches nobody.
#[tokio::test]
async fn garbage_is_not_relayed() {
    let upstream = FakeUpstream::legacy().await;
    let gateway = Setup::with(&upstream).start().await;
    let client = gateway.agent().await;
    for result in [
        r#""text""#,
        "[]",
        "null",
        r#"{"content":[],"isError":"true"}"#,
        r#"{"content":[],"isError":true,"isError":false}"#,
        r#"{"content":[],"_meta":{},"_meta":{}}"#,
        r#"{"resultType":"input_required","inputRequests":{}}"#,
    ] {
        // A good answer between two bad ones keeps the breaker closed.
        upstream.on_call(|_| Say::text("good"));
        assert_eq!(client.invoke("up", "write", "{}").await.told(), "good");
        let given = result.to_owned();
        upstream.on_call(move |_| Say::Result(given.clone()));
        assert_eq!(client.invoke("up", "write", "{}").await.denied(), "backend_garbled", "{result}");
    }
    for body in
        ["<html>", "", r#"{"jsonrpc":"2.0","id":99,"result":{}}"#, r#"{"jsonrpc":"2.0","result":{"content":[]}}"#]
    {
        upstream.on_call(|_| Say::text("good"));
        client.invoke("up", "write", "{}").await.told();
        upstream.on_call(move |_| Say::Body(body.to_owned()));
        let answer = client.invoke("up", "write", "{}").await;
        assert!(["backend_garbled", "backend_down"].contains(&answer.denied().as_str()), "{body}: {}", answer.text);
        assert!(!answer.text.contains("html"), "{}", answer.text);
    }
    gateway.finish().await;
}

#[tokio::test]
async fn a_json_rpc_error_passes_with_its_number() {
    let upstream = FakeUpstream::modern().await;
    let gateway = Setup::with(&upstream).start().await;
    let client = gateway.agent().await;
    for error in [
        r#"{"code":-32603,"message":"inside","data":{"n":1.50e2}}"#,
        r#"{"code":-32602,"message":"unknown tool"}"#,
        r#"{"code":42,"message":"","extra":null}"#,
        r#"{"code":-32002,"message":"Resource not found"}"#,
    ] {
        let given = error.to_owned();
        upstream.on_call(move |_| Say::Error(given.clone()));
        let answer = client.invoke("up", "read", "{}").await;
        assert_eq!(answer.text, format!(r#"{{"jsonrpc":"2.0","id":1,"error":{error}}}"#));
        let record = gateway.record(answer.header("toolgate-audit-id").unwrap()).await;
        assert_eq!((record["decision"].clone(), record["outcome"].clone()), (json!("allow"), json!("failed")));
    }
    let modern = client.modern().invoke("up", "read", "{}").await;
    assert_eq!(modern.error()["code"], -32602, "the one number that the eras read differently");
    gateway.finish().await;
}

/// The same result over an event stream, after a notification, and in the raw form of a direct call.
#[tokio::test]
async fn streams_and_direct_calls_give_the_same_bytes() {
    let upstream = FakeUpstream::legacy().await;
    let gateway = Setup::with(&upstream).start().await;
    let client = gateway.agent().await;
    let result = r#"{"content":[{"type":"text","text":"x"}],"n":1.50e2}"#;
    let log = r#"{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"working"}}"#;
    upstream.on_call(move |_| Say::Events(vec![log.to_owned()], result.to_owned()));
    let through = read(&client).await;
    assert!(through.contains(&result[..result.len() - 1]), "{through}");
    let direct = client.request("tools/call", r#"{"name":"up__read","arguments":{}}"#).send().await;
    assert_eq!(without_ids(&direct.text), through);
    gateway.finish().await;
}
