//! `/api/mcp/v1/servers` and `/llms.txt`.

use serde_json::{Value, json};

use crate::support::{FakeUpstream, Setup};

const SERVERS: &str = "/api/mcp/v1/servers";

fn ids(list: &Value) -> Vec<&str> {
    list["servers"].as_array().unwrap().iter().map(|server| server["id"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_server_is_described() {
    let upstream = FakeUpstream::legacy().await;
    let rows = "description = \"What is up\"\nnamespace = \"acme\"";
    let gateway = Setup::new().config(&upstream.section("up", rows)).start().await;
    let agent = gateway.agent().await;
    let list = agent.get(SERVERS).send().await.json();
    assert_eq!(ids(&list), ["acme/up"]);
    let one = agent.get("/api/mcp/v1/servers/acme/up").send().await;
    assert_eq!(one.status, 200);
    let mut one = one.json();
    let tools = one["tools"].take();
    assert_eq!(
        one,
        json!({
            "id": "acme/up", "namespace": "acme", "name": "up", "slug": "up", "title": "fake",
            "description": "What is up", "transport": "http", "state": "ready", "stale": false,
            "attributes": ["hosting:remote-capable"], "tools": null,
        })
    );
    let names: Vec<&str> = tools.as_array().unwrap().iter().map(|tool| tool["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["again", "destroy", "read", "write"]);
    let read = json!({
        "id": "up:read", "name": "read", "title": null, "description": "The tool read", "risk": "read",
        "inputSchema": {"type": "object"},
    });
    assert_eq!(tools[2], read);
    assert_eq!(list["servers"][0]["tools"][2]["inputSchema"], Value::Null, "the list is without schemas");
    for path in ["local/up", "acme/nothing", "acme/toolgate", "acme/%ff"] {
        let none = agent.get(&format!("{SERVERS}/{path}")).send().await;
        assert!(matches!(none.status, 400 | 404), "{path}: {}", none.text);
        assert!(none.error()["code"].is_string(), "{path}");
    }
    gateway.finish().await;
}

/// A server that the profile does not open is like one that is not there; of one that it opens in part the rest is not
/// shown, and neither is what policy can never permit.
#[tokio::test]
async fn the_profile_decides_what_is_seen() {
    let (up, other) = (FakeUpstream::legacy().await, FakeUpstream::legacy().await);
    let gateway = Setup::new()
        .config(&up.section("up", ""))
        .config(&other.section("other", ""))
        .profile("part", "scopes = [\"tools:read\"]\nallowed_tools = [\"up:read\", \"up:write\"]")
        .profile("blind", "scopes = []\nallowed_tools = [\"*\"]")
        .start()
        .await;
    let agent = gateway.agent().await;
    assert_eq!(ids(&agent.get(SERVERS).send().await.json()), ["local/other", "local/up"]);
    let part = gateway.client(&gateway.key("part").await);
    let list = part.get(SERVERS).send().await.json();
    assert_eq!(ids(&list), ["local/up"]);
    let tools = list["servers"][0]["tools"].as_array().unwrap().clone();
    assert_eq!(tools.len(), 1, "no role `writer`, no write: {tools:?}");
    let hidden = part.get(&format!("{SERVERS}/local/other")).send().await;
    let absent = part.get(&format!("{SERVERS}/local/nothing")).send().await;
    assert_eq!((hidden.status, hidden.error()), (404, absent.error()));
    let blind = gateway.client(&gateway.key("blind").await);
    for path in [SERVERS, "/api/mcp/v1/servers/local/up"] {
        let refused = blind.get(path).send().await;
        assert_eq!((refused.status, refused.error()["code"].as_str()), (403, Some("insufficient_scope")));
    }
    gateway.finish().await;
}

#[tokio::test]
async fn the_list_comes_in_pages() {
    let upstream = FakeUpstream::legacy().await;
    let mut setup = Setup::new();
    for name in ["a", "b", "c"] {
        setup = setup.config(&upstream.section(name, ""));
    }
    let gateway = setup.start().await;
    let agent = gateway.agent().await;
    let page = async |query: &str| agent.get(&format!("{SERVERS}?{query}")).send().await;
    let first = page("first=2").await.json();
    assert_eq!(ids(&first), ["local/a", "local/b"]);
    assert_eq!(first["pageInfo"], json!({"endCursor": "local/b", "hasNextPage": true}));
    let second = page("first=2&after=local%2Fb").await.json();
    assert_eq!(ids(&second), ["local/c"]);
    assert_eq!(second["pageInfo"], json!({"endCursor": "local/c", "hasNextPage": false}));
    assert_eq!(page("after=zzz").await.json()["pageInfo"]["endCursor"], Value::Null);
    for wrong in ["first=0", "first=101", "first=x", "first=-1"] {
        let refused = page(wrong).await;
        assert_eq!((refused.status, refused.error()["code"].as_str()), (400, Some("invalid_request")), "{wrong}");
    }
    for (wrong, why) in [("first=x", "first"), ("frist=1", "`frist`"), ("first=1&first=2", "first")] {
        let message = page(wrong).await.error()["message"].as_str().unwrap().to_owned();
        assert!(message.starts_with("the query string cannot be read: ") && message.contains(why), "{message}");
    }
    gateway.finish().await;
}

/// A backend that is not there is in the directory all the same.
#[tokio::test]
async fn a_server_that_is_down_is_listed_as_such() {
    let gateway = Setup::new().config("[servers.gone]\nurl = \"http://127.0.0.1:9/mcp\"").start().await;
    let agent = gateway.agent().await;
    let one = agent.get(&format!("{SERVERS}/local/gone")).send().await.json();
    assert_eq!((one["state"].clone(), one["tools"].clone()), (json!("down"), json!([])));
    gateway.finish().await;
}

#[tokio::test]
async fn agents_find_the_documentation() {
    let gateway = Setup::new().start().await;
    let answer = gateway.stranger().get("/llms.txt").send().await;
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("text/plain; charset=utf-8")));
    assert!(answer.text.starts_with("# Toolgate\n\n> "), "{}", answer.text);
    let base = format!("http://{}", gateway.address);
    assert!(!answer.text.contains("{base}"));
    // Whatever it links to is there.
    let links: Vec<&str> = answer.text.split("](").skip(1).filter_map(|rest| rest.split(')').next()).collect();
    assert!(links.len() >= 5, "{links:?}");
    for link in links {
        let path = link.strip_prefix(&base).unwrap_or_else(|| panic!("{link}"));
        let status = gateway.stranger().get(path).send().await.status;
        assert!(matches!(status, 200 | 401 | 405), "{path}: {status}");
    }
    gateway.finish().await;
}
