//! Only known doors: hosts, origins, well-known places, health.

use crate::support::{FakeUpstream, Say, Setup, raw};

fn request(path: &str, lines: &str) -> String {
    format!("GET {path} HTTP/1.1\r\n{lines}connection: close\r\n\r\n")
}

fn status(answer: &str) -> u16 {
    answer.split(' ').nth(1).unwrap_or_else(|| panic!("no status line: {answer}")).parse().unwrap()
}

#[tokio::test]
async fn hosts_and_origins_are_checked_apart_on_every_path() {
    let gateway = Setup::new().start().await;
    let cases = [
        ("host: localhost\r\n", 200),
        ("host: LOCALHOST:8080\r\n", 200),
        ("host: 127.0.0.1\r\n", 200),
        ("host: [::1]:80\r\n", 200),
        ("host: app.localhost\r\n", 200),
        ("host: evil.example\r\n", 403),
        ("host: localhost.evil.example\r\n", 403),
        ("host: 127.0.0.1.evil.example\r\n", 403),
        ("host: 10.0.0.1\r\n", 403),
        ("host: 0.0.0.0\r\n", 403),
        ("", 400),
        ("host: localhost\r\nhost: evil.example\r\n", 400),
        ("host: localhost\r\nhost: localhost\r\n", 400),
        ("host: user@localhost\r\n", 400),
        ("host: localhost\r\norigin: http://localhost:3000\r\n", 200),
        ("host: localhost\r\norigin: http://evil.example\r\n", 403),
        ("host: localhost\r\norigin: null\r\n", 403),
        ("host: localhost\r\norigin: http://localhost.evil.example\r\n", 403),
        ("host: localhost\r\norigin: http://localhost\r\norigin: http://evil.example\r\n", 403),
    ];
    for path in ["/v1/mcp", "/mcp", "/healthz", "/v1/mcp/key-profiles"] {
        for (lines, expected) in cases {
            assert_eq!(status(&raw(gateway.address, &request(path, lines)).await), expected, "{path} {lines}");
        }
    }
    for path in ["/nowhere", "/.well-known/oauth-protected-resource"] {
        assert_eq!(status(&raw(gateway.address, &request(path, "host: evil.example\r\n")).await), 403, "{path}");
    }
    let absolute = "GET http://evil.example/v1/mcp HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    assert_eq!(status(&raw(gateway.address, absolute).await), 400, "two names for one door");
    gateway.finish().await;
}

#[tokio::test]
async fn configured_hosts_and_origins_are_let_in() {
    let config = "[gateway]\nallowed_hosts = [\"gw.example\"]\nallowed_origins = [\"https://app.example\"]";
    let gateway = Setup::new().config(config).start().await;
    for (lines, expected) in [
        ("host: gw.example\r\n", 200),
        ("host: GW.example:443\r\n", 200),
        ("host: other.example\r\n", 403),
        ("host: gw.example\r\norigin: https://app.example\r\n", 200),
        ("host: gw.example\r\norigin: http://app.example\r\n", 403),
        ("host: gw.example\r\norigin: https://app.example.evil\r\n", 403),
    ] {
        assert_eq!(status(&raw(gateway.address, &request("/v1/mcp", lines)).await), expected, "{lines}");
    }
    let asked = "access-control-request-headers: Mcp-Param-Region,mcp-param-n, x-vendor, content-type\r\n";
    let lines =
        format!("host: gw.example\r\norigin: https://app.example\r\n{asked}access-control-request-method: POST\r\n");
    let preflight = raw(gateway.address, &request("/v1/mcp", &lines).replacen("GET", "OPTIONS", 1)).await;
    let allowed = preflight.lines().find_map(|line| line.strip_prefix("access-control-allow-headers: ")).unwrap();
    let allowed: Vec<&str> = allowed.split(", ").collect();
    for name in ["Mcp-Param-Region", "mcp-param-n", "mcp-name", "content-type", "traceparent", "baggage"] {
        assert!(allowed.contains(&name), "{name}: {allowed:?}");
    }
    assert!(!preflight.contains("x-vendor"), "{preflight}");
    gateway.finish().await;
}

#[tokio::test]
async fn there_is_no_oauth_to_fall_into() {
    let gateway = Setup::new().start().await;
    let stranger = gateway.stranger();
    for path in [
        "/.well-known/oauth-protected-resource",
        "/.well-known/oauth-protected-resource/v1/mcp",
        "/.well-known/oauth-authorization-server",
        "/.well-known/openid-configuration",
        "/v1/mcp/.well-known/openid-configuration",
    ] {
        assert_eq!(stranger.get(path).send().await.status, 404, "{path}");
    }
    let why = |answer: crate::support::Response| answer.json()["error_description"].as_str().unwrap().to_owned();
    let refused = stranger.post("/register").text("{}").send().await;
    assert_eq!(refused.status, 400);
    assert!(why(refused).contains("no key"));
    let mistyped = stranger.post("/register").header("x-api-key", "${TOOLGATE_KEY}").text("{}").send().await;
    assert!(why(mistyped).contains("did not expand ${TOOLGATE_KEY}"));
    let valid = gateway.agent().await.post("/register").text("{}").send().await;
    assert_eq!(valid.status, 400);
    assert!(why(valid).contains("the key is valid"));
    gateway.finish().await;
}

#[tokio::test]
async fn paths_and_methods_that_are_not_there() {
    let gateway = Setup::new().start().await;
    let client = gateway.agent().await;
    assert_eq!(client.get("/nowhere").send().await.status, 404);
    assert_eq!(client.get("//v1/mcp").send().await.status, 404);
    assert_eq!(client.draft("PUT", "/v1/mcp").send().await.status, 405);
    assert_eq!(client.draft("PATCH", "/healthz").send().await.status, 405);
    for path in ["/v1//mcp", "/v1/mcp/../mcp", "/V1/MCP", "/%761/mcp/x"] {
        let answer = client.get(path).send().await;
        assert!(answer.status == 404 && answer.header("location").is_none(), "{path}: {}", answer.status);
    }
    assert_eq!(client.get("/healthz").send().await.json()["status"], "ok");
    assert_eq!(client.get("/readyz").send().await.json()["ready"], true);
    let metrics = gateway.stranger().get("/metrics").send().await;
    assert_eq!(metrics.status, 200);
    let forwarded = gateway.stranger().get("/metrics").header("x-forwarded-for", "203.0.113.9").send().await;
    assert_eq!(forwarded.status, 401, "not from this machine");
    gateway.finish().await;
}

#[tokio::test]
async fn headers_are_bounded() {
    let gateway = Setup::new().start().await;
    let many: String = (0..101).map(|n| format!("x-{n}: 1\r\n")).collect();
    let answer = raw(gateway.address, &request("/v1/mcp", &format!("host: localhost\r\n{many}"))).await;
    assert_eq!(status(&answer), 431);
    let long = format!("host: localhost\r\nx-long: {}\r\n", "y".repeat(20_000));
    assert_eq!(status(&raw(gateway.address, &request("/v1/mcp", &long)).await), 431);
    gateway.finish().await;
}

/// Ready is who has heard of every backend at least once.
#[tokio::test]
async fn readiness_waits_for_every_backend() {
    let upstream = FakeUpstream::legacy().await;
    upstream.script(|seen| (seen.method() == "initialize").then(|| Say::Held(Box::new(Say::Status(500)))));
    let gateway = Setup::with(&upstream).start_unsettled().await;
    let client = gateway.stranger();
    let answer = client.get("/readyz").send().await;
    assert_eq!((answer.status, answer.json()["ready"].clone()), (503, serde_json::json!(false)));
    assert_eq!(client.get("/healthz").send().await.status, 200, "alive it is");
    upstream.release(10);
    gateway.settled().await;
    assert_eq!(client.get("/readyz").send().await.status, 200, "a failure settles it");
    gateway.finish().await;
}
