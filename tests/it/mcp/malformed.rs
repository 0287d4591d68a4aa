//! Bodies that are no message: refused before anything is called, each with its number.

use serde_json::json;

use crate::support::{Client, FakeUpstream, Setup};

#[tokio::test]
async fn what_is_no_json_rpc_is_refused_with_its_number() {
    let upstream = FakeUpstream::legacy().await;
    let gateway = Setup::with(&upstream).start().await;
    let client = gateway.agent().await;
    let call = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"up:write","arguments":{}}}"#;
    for (text, code) in [
        ("", -32700),
        ("{", -32700),
        ("nonsense", -32700),
        ("{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"} x", -32700),
        ("{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\",}", -32700),
        ("\u{feff}{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}", -32700),
        ("{\"a\":NaN}", -32700),
        (&format!("[{call}]"), -32600),
        (&format!("[{call},{call}]"), -32600),
        ("[]", -32600),
        ("3", -32600),
        ("null", -32600),
        (r#"{"id":1,"method":"ping"}"#, -32600),
        (r#"{"jsonrpc":"1.0","id":1,"method":"ping"}"#, -32600),
        (r#"{"jsonrpc":"2.0","id":null,"method":"ping"}"#, -32600),
        (r#"{"jsonrpc":"2.0","id":1.5,"method":"ping"}"#, -32600),
        (r#"{"jsonrpc":"2.0","id":{},"method":"ping"}"#, -32600),
        (r#"{"jsonrpc":"2.0","id":1,"method":3}"#, -32600),
        (r#"{"jsonrpc":"2.0","id":1,"method":"ping","params":[]}"#, -32600),
        (r#"{"jsonrpc":"2.0","id":1}"#, -32600),
    ] {
        assert_eq!(client.post("/v1/mcp").text(text).send().await.refused(), (400, code), "{text}");
    }
    let not_utf8 = client.post("/v1/mcp").bytes(b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"\xff\"}").send().await;
    assert_eq!(not_utf8.refused(), (400, -32700));
    assert_eq!(upstream.calls().len(), 0);
    gateway.finish().await;
}

/// One text, one reading: no member stands twice, and only exact names count.
#[tokio::test]
async fn members_that_could_be_read_two_ways() {
    let upstream = FakeUpstream::legacy().await;
    let gateway = Setup::with(&upstream).start().await;
    let client = gateway.agent().await;
    for text in [
        r#"{"jsonrpc":"2.0","id":1,"method":"ping","method":"tools/call","params":{"name":"up:write"}}"#,
        r#"{"jsonrpc":"2.0","id":1,"id":2,"method":"ping"}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"up:read","name":"up:write"}}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"up:read","arguments":{"a":1,"a":2}}}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"up:read","arguments":{"a":{"b":[{"c":1,"c":1}]}}}}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"up:read","arguments":{"a":1,"\u0061":2}}}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"up:read"},"\u0070arams":{"name":"up:write"}}"#,
    ] {
        assert_eq!(client.post("/v1/mcp").text(text).send().await.refused(), (400, -32600), "{text}");
    }
    for text in [
        r#"{"jsonrpc":"2.0","id":1,"Method":"ping"}"#,
        r#"{"jsonrpc":"2.0","id":1,"METHOD":"ping"}"#,
        r#"{"jsonrpc":"2.0","ID":1,"Params":{}}"#,
    ] {
        assert_eq!(client.post("/v1/mcp").text(text).send().await.refused(), (400, -32600), "{text}");
    }
    let folded = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"Name":"up:write","name":"up:read","ARGUMENTS":{"x":1},"paramſ":{}}}"#;
    assert_eq!(client.post("/v1/mcp").text(folded).send().await.status, 200);
    let calls = upstream.calls();
    assert_eq!(calls.len(), 1);
    assert_eq!((calls[0].tool(), calls[0].arguments()), ("read", None));
    gateway.finish().await;
}

fn nested(depth: usize) -> String {
    format!("{}1{}", r#"{"a":"#.repeat(depth), "}".repeat(depth))
}

#[tokio::test]
async fn depth_size_and_type_are_bounded() {
    let upstream = FakeUpstream::legacy().await;
    let gateway = Setup::with(&upstream).config("[gateway]\nmax_body = 100000").start().await;
    let client = gateway.agent().await;
    let call = |arguments: &str| {
        format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"up:read","arguments":{arguments}}}}}"#
        )
    };
    assert_eq!(post(&client, &call(&nested(40))).await, 200);
    for depth in [70, 127, 200, 5000] {
        assert_eq!(post(&client, &call(&nested(depth))).await, 400, "{depth}");
    }
    assert_eq!(post(&client, &call(&format!(r#"{{"a":"{}"}}"#, "x".repeat(99_000)))).await, 200);
    assert_eq!(post(&client, &call(&format!(r#"{{"a":"{}"}}"#, "x".repeat(100_000)))).await, 413);
    for content_type in [
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/jsonx",
        "application/json; charset=latin-1",
        "",
    ] {
        let draft = client.post("/v1/mcp").with("content-type", content_type).text(&call("{}"));
        assert_eq!(draft.send().await.status, 415, "{content_type}");
    }
    assert_eq!(client.post("/v1/mcp").without("content-type").text(&call("{}")).send().await.status, 415);
    let twice = client.post("/v1/mcp").header("content-type", "application/json");
    assert_eq!(twice.text(&call("{}")).send().await.status, 415);
    let charset = client.post("/v1/mcp").with("content-type", "Application/JSON ; charset=\"UTF-8\"");
    assert_eq!(charset.text(&call("{}")).send().await.status, 200);
    assert_eq!(upstream.calls().len(), 3);
    gateway.finish().await;
}

async fn post(client: &Client, text: &str) -> u16 {
    client.post("/v1/mcp").text(text).send().await.status
}

/// The body of a request without a key is never read: the answer comes while it is still on its way.
#[tokio::test]
async fn without_a_key_no_body_is_read() {
    let gateway = Setup::new().start().await;
    let stranger = gateway.stranger();
    let big = "x".repeat(5 << 20);
    let answer = stranger.post("/v1/mcp").header("content-type", "text/plain").text(&big[..1000]).send().await;
    assert_eq!(answer.status, 401, "before the content type");
    let answer = crate::support::raw(
        gateway.address,
        "POST /v1/mcp HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 5000000\r\n\r\n{",
    )
    .await;
    assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
    let profiles = stranger.get("/v1/mcp/key-profiles").send().await;
    assert_eq!(profiles.json()["profiles"]["mcp_readonly"]["read_only"], json!(true));
    gateway.finish().await;
}
