//! Revision 2026-07-28: stateless, and held to every header.

use serde_json::{Value, json};

use crate::support::{Client, FakeUpstream, MODERN, Response, Setup, modern_meta};

#[tokio::test]
async fn discover_says_what_is_served() {
    let gateway = Setup::new().start().await;
    let client = gateway.agent().await.modern();
    let result = client.rpc("server/discover", &json!({})).await.result();
    assert_eq!(result["supportedVersions"], json!(["2026-07-28", "2025-11-25", "2025-06-18"]));
    assert_eq!(result["capabilities"]["tools"], json!({"listChanged": true}));
    assert_eq!(result["resultType"], "complete");
    assert_eq!(result["_meta"]["io.modelcontextprotocol/serverInfo"]["name"], "toolgate");
    assert_eq!(client.rpc("ping", &json!({})).await.refused(), (404, -32601), "gone in this revision");
    assert_eq!(client.rpc("initialize", &json!({})).await.refused(), (404, -32601));
    assert_eq!(client.rpc("made/up", &json!({})).await.refused(), (404, -32601));
    gateway.finish().await;
}

#[tokio::test]
async fn lists_carry_what_the_revision_asks_for() {
    let upstream = FakeUpstream::modern().await;
    let gateway = Setup::with(&upstream).start().await;
    let client = gateway.agent().await.modern();
    for method in ["tools/list", "prompts/list", "resources/list", "resources/templates/list", "server/discover"] {
        let result = client.rpc(method, &json!({})).await.result();
        assert_eq!(result["resultType"], "complete", "{method}");
        assert_eq!(result["cacheScope"], "private", "{method}");
        assert!(result["ttlMs"].is_u64(), "{method}");
        assert_eq!(result["_meta"]["io.modelcontextprotocol/serverInfo"]["name"], "toolgate", "{method}");
    }
    let call = client.call("up:read", &json!({})).await.result();
    assert_eq!(
        (call["resultType"].as_str(), call.get("ttlMs"), call.get("cacheScope")),
        (Some("complete"), None, None)
    );
    assert_eq!(call["_meta"]["io.modelcontextprotocol/serverInfo"]["name"], "toolgate", "not the backend's");
    let denied = client.rpc("resources/read", &json!({"uri": "x://y"})).await;
    assert_eq!(denied.refused(), (200, -32602));
    gateway.finish().await;
}

/// A call of `up:read` with every header, each of which a test may change.
fn call(client: &Client) -> crate::support::Draft {
    client.modern().request("tools/call", r#"{"name":"up:read","arguments":{}}"#)
}

#[tokio::test]
async fn every_mirrored_header_must_fit() {
    let upstream = FakeUpstream::modern().await;
    let gateway = Setup::with(&upstream).start().await;
    let client = gateway.agent().await;
    assert_eq!(call(&client).send().await.status, 200);
    let encoded = "=?base64?dXA6cmVhZA==?=";
    assert_eq!(call(&client).with("mcp-name", encoded).send().await.status, 200, "base64 of the same name");
    assert_eq!(
        call(&client).with("mcp-name", "  up:read ").send().await.status,
        200,
        "surrounding space is no part of it"
    );
    let before = upstream.calls().len();
    for (name, value) in [
        ("mcp-method", "tools/list"),
        ("mcp-method", "TOOLS/CALL"),
        ("mcp-method", ""),
        ("mcp-name", "up:write"),
        ("mcp-name", "up:Read"),
        ("mcp-name", ""),
        ("mcp-name", "=?base64?dXA6d3JpdGU=?="),
        ("mcp-name", "=?base64?%%%?="),
        ("mcp-protocol-version", "2025-11-25"),
    ] {
        assert_eq!(call(&client).with(name, value).send().await.refused(), (400, -32020), "{name}: {value}");
    }
    for odd in [r#"{"name":"up:read","uri":5}"#, r#"{"name":"up:read","taskId":[],"arguments":{}}"#] {
        let named = |name: &str| client.modern().request("tools/call", odd).with("mcp-name", name);
        assert_eq!(named("up:write").send().await.refused(), (400, -32020), "{odd}");
        assert_eq!(named("up:read").without("mcp-name").send().await.refused(), (400, -32020), "{odd}");
    }
    for name in ["mcp-method", "mcp-name", "mcp-protocol-version"] {
        assert_eq!(call(&client).without(name).send().await.refused(), (400, -32020), "{name} is missing");
        let value = if name == "mcp-protocol-version" { MODERN } else { "tools/call" };
        assert_eq!(call(&client).header(name, value).send().await.refused(), (400, -32020), "{name} stands twice");
    }
    assert_eq!(upstream.calls().len(), before, "nothing was called");
    gateway.finish().await;
}

#[tokio::test]
async fn versions_and_meta_must_fit() {
    let gateway = Setup::new().start().await;
    let client = gateway.agent().await;
    let list = |version: &str, meta: Value| {
        let body = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {"_meta": meta}});
        client.post("/v1/mcp").header("mcp-protocol-version", version).header("mcp-method", "tools/list").json(&body)
    };
    let meta = |name: &str, value: Value| {
        let mut meta = modern_meta();
        meta[format!("io.modelcontextprotocol/{name}")] = value;
        meta
    };
    assert_eq!(list(MODERN, modern_meta()).send().await.status, 200);
    let future = list("2099-01-01", meta("protocolVersion", json!("2099-01-01"))).send().await;
    assert_eq!(future.refused(), (400, -32022));
    assert_eq!(future.error()["data"]["supported"], json!(["2026-07-28", "2025-11-25", "2025-06-18"]));
    for (header, meta, code) in [
        ("1999-01-01", json!({}), -32022),
        ("latest", json!({}), -32022),
        (MODERN, json!({}), -32602),
        (MODERN, meta("protocolVersion", json!(7)), -32602),
        (MODERN, meta("protocolVersion", json!("2099-01-01")), -32020),
        (MODERN, meta("clientCapabilities", Value::Null), -32602),
        (MODERN, meta("clientCapabilities", json!([])), -32602),
    ] {
        assert_eq!(list(header, meta.clone()).send().await.refused(), (400, code), "{header} {meta}");
    }
    let no_params = client.post("/v1/mcp").header("mcp-protocol-version", MODERN).header("mcp-method", "tools/list");
    assert_eq!(
        no_params.text(r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#).send().await.refused(),
        (400, -32602)
    );
    let told = |version: &str, meta: Value| {
        let body = json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"_meta": meta}});
        client.post("/v1/mcp").header("mcp-protocol-version", version).json(&body)
    };
    for meta in [json!({}), modern_meta()] {
        assert_eq!(told(MODERN, meta).send().await.status, 202);
    }
    for (header, meta, code) in [
        ("2099-01-01", json!({}), -32022),
        ("2099-01-01", modern_meta(), -32020),
        (MODERN, meta("protocolVersion", json!("2099-01-01")), -32020),
    ] {
        assert_eq!(told(header, meta.clone()).send().await.refused(), (400, code), "{header} {meta}");
    }
    assert_eq!(told("", modern_meta()).without("mcp-protocol-version").send().await.refused(), (400, -32020));
    for path in ["/v1/mcp", "/v1/mcp/servers/demo"] {
        let answer = client.post(path).text(r#"{"jsonrpc":"2.0","id":1,"result":{}}"#);
        let answer = answer.header("mcp-protocol-version", MODERN).send().await;
        assert_eq!(answer.status, if path == "/v1/mcp" { 400 } else { 404 }, "{path}");
    }
    gateway.finish().await;
}

/// Headers that repeat arguments are due where the tool's schema was shown; where they come unasked, they must fit too.
#[tokio::test]
async fn arguments_in_headers_must_fit() {
    let upstream = FakeUpstream::modern().await;
    let properties =
        json!({"region": {"type": "string", "x-mcp-header": "Region"}, "n": {"type": "integer", "x-mcp-header": "N"}});
    let tool = |name: &str| json!({"name": name, "inputSchema": {"type": "object", "properties": properties}, "annotations": {"readOnlyHint": true}});
    upstream.set_tools(json!([tool("read"), tool("hidden")]));
    let profile = "scopes = [\"tools:read\", \"tools:invoke\"]\nallowed_tools = [\"up:read\"]";
    let gateway = Setup::with(&upstream).profile("narrow", profile).start().await;
    let client = gateway.client(&gateway.key("narrow").await).modern();
    let call = |surface: &str, tool: &str, arguments: Value| {
        let client = client.at(&format!("/v1/mcp?surface={surface}"));
        client.request("tools/call", &json!({"name": tool, "arguments": arguments}).to_string())
    };
    let eu = || json!({"region": "eu"});
    for surface in ["both", "direct"] {
        for name in ["up:read", "up__read", "up/read"] {
            assert_eq!(call(surface, name, eu()).send().await.refused(), (400, -32020), "{surface} {name}");
            let wrong = call(surface, name, eu()).header("mcp-param-region", "us");
            assert_eq!(wrong.send().await.refused(), (400, -32020), "{surface} {name}");
            let right = call(surface, name, eu()).header("mcp-param-region", "eu");
            assert_eq!(right.send().await.told(), "done", "{surface} {name}");
        }
        assert_eq!(call(surface, "up:read", json!({})).send().await.told(), "done", "nothing to repeat");
        let hidden = call(surface, "up:hidden", eu()).send().await;
        let absent = call(surface, "up:absent", eu()).send().await;
        assert_eq!((hidden.refused(), absent.refused()), ((200, -32602), (200, -32602)));
    }
    assert_eq!(call("search", "up:read", eu()).send().await.told(), "done", "its schema was not shown");
    let wrong = call("search", "up:read", eu()).header("mcp-param-region", "us").send().await;
    assert_eq!(wrong.refused(), (400, -32020));
    let inside = json!({"server": "up", "tool": "read", "arguments": eu()});
    assert_eq!(call("both", "gateway_invoke", inside).send().await.told(), "done");
    for (written, header, fits) in [
        ("42.0", "42", true),
        ("4.2e1", "42", true),
        ("42", "42.0", true),
        ("12345678901234567890123", "12345678901234567890123", true),
        ("12345678901234567890123", "12345678901234567890124", false),
        ("42", "43", false),
    ] {
        let params = format!(r#"{{"name":"up:read","arguments":{{"n":{written}}}}}"#);
        let answer =
            client.at("/v1/mcp?surface=both").request("tools/call", &params).header("mcp-param-n", header).send().await;
        assert_eq!(answer.status, if fits { 200 } else { 400 }, "{written} {header}: {}", answer.text);
    }
    let sent = upstream.calls();
    let last = sent.last().unwrap();
    assert_eq!(last.headers["mcp-param-n"], "12345678901234567890123", "digit by digit to the backend too");
    gateway.finish().await;
}

#[tokio::test]
async fn a_session_id_means_nothing_here() {
    let gateway = Setup::new().start().await;
    let client = gateway.agent().await;
    let session = client.legacy().await.session().to_owned();
    let with = |id: &str| client.modern().request("tools/list", "{}").header("mcp-session-id", id);
    for id in [session.as_str(), "garbage"] {
        let answer = with(id).send().await;
        assert_eq!((answer.status, answer.header("mcp-session-id")), (200, None));
    }
    let modern_hello = client.modern().request("initialize", r#"{"protocolVersion":"2025-11-25","capabilities":{}}"#);
    assert_eq!(modern_hello.send().await.refused(), (404, -32601), "params.protocolVersion decides nothing");
    gateway.finish().await;
}

#[tokio::test]
async fn in_the_legacy_era_the_body_alone_counts() {
    let upstream = FakeUpstream::legacy().await;
    let gateway = Setup::with(&upstream).start().await;
    let client = gateway.agent().await.legacy().await;
    let odd = client
        .request("tools/call", r#"{"name":"up:read","arguments":{}}"#)
        .header("mcp-method", "nope")
        .header("mcp-name", "up:write");
    let answer: Response = odd.send().await;
    assert_eq!(answer.result()["content"][0]["text"], "done");
    assert_eq!(upstream.calls()[0].tool(), "read");
    gateway.finish().await;
}

/// `_meta` means the same however its name is written.
#[tokio::test]
async fn an_escaped_meta_is_a_meta() {
    let gateway = Setup::new().start().await;
    let client = gateway.agent().await;
    for name in ["_meta", r"\u005fmeta", r"_m\u0065ta"] {
        let body =
            format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{{"{name}":{}}}}}"#, modern_meta());
        let answer = client.post("/v1/mcp").text(&body).send().await;
        assert_eq!(answer.refused(), (400, -32020), "{name}: modern, and without its headers");
    }
    gateway.finish().await;
}
