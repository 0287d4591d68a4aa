//! What stands behind the gateway in one list: `surface = direct`, `both`.

use serde_json::{Value, json};

use crate::support::{Client, FakeUpstream, Say, Setup, soon};

/// A backend with a prompt, a resource and a template.
async fn library(name: &'static str) -> FakeUpstream {
    let upstream = FakeUpstream::legacy().await;
    upstream.script(move |seen| {
        let result = match seen.method() {
            "initialize" => json!({
                "protocolVersion": "2025-11-25",
                "capabilities": {"tools": {}, "prompts": {}, "resources": {}},
                "serverInfo": {"name": name, "version": "1"},
            }),
            "prompts/list" => json!({"prompts": [{"name": "re view", "x-vendor": 1}]}),
            "resources/list" => json!({"resources": [
                {"uri": format!("{name}://own"), "name": "own"}, {"uri": "test://shared", "name": name},
            ]}),
            "resources/templates/list" => {
                json!({"resourceTemplates": [{"uriTemplate": format!("{name}://{{id}}"), "name": "t"}]})
            }
            "prompts/get" => json!({"messages": [], "server": name}),
            "resources/read" => json!({"contents": [], "server": name}),
            _ => return None,
        };
        Some(Say::Result(result.to_string()))
    });
    upstream
}

async fn list(client: &Client, method: &str, member: &str, key: &str) -> Vec<String> {
    let items = client.rpc(method, &json!({})).await.result()[member].clone();
    items.as_array().unwrap().iter().map(|item| item[key].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn everything_is_in_one_list_and_found_under_its_name() {
    let (one, two) = (library("one").await, library("two").await);
    let gateway = Setup::new().config(&one.section("one", "")).config(&two.section("two", "")).start().await;
    let plain = gateway.agent().await;
    assert!(list(&plain, "prompts/list", "prompts", "name").await.is_empty(), "the surface is `search`");
    for client in [plain.at("/v1/mcp?surface=both"), plain.at("/v1/mcp?surface=direct").modern()] {
        assert_eq!(list(&client, "prompts/list", "prompts", "name").await, ["one__re_view", "two__re_view"]);
        // Two servers with one URI: the first one's, and no doubles.
        let uris = list(&client, "resources/list", "resources", "uri").await;
        assert_eq!(uris, ["one://own", "test://shared", "two://own"]);
        let templates = list(&client, "resources/templates/list", "resourceTemplates", "uriTemplate").await;
        assert_eq!(templates, ["one://{id}", "two://{id}"]);
        let server = async |method: &str, params: Value| client.rpc(method, &params).await.result()["server"].clone();
        assert_eq!(server("prompts/get", json!({"name": "two__re_view"})).await, "two");
        assert_eq!(server("resources/read", json!({"uri": "two://own"})).await, "two");
        assert_eq!(server("resources/read", json!({"uri": "test://shared"})).await, "one");
        assert_eq!(server("resources/read", json!({"uri": "two://anything"})).await, "two");
        let unknown = client.rpc("prompts/get", &json!({"name": "three__re_view"})).await;
        assert_eq!(unknown.json()["error"]["code"], -32602);
    }
    let kinds: Vec<Value> = gateway.records().await.iter().map(|record| record["kind"].clone()).collect();
    assert_eq!(kinds.iter().filter(|kind| **kind == "resource").count(), 6);
    assert_eq!(kinds.iter().filter(|kind| **kind == "prompt").count(), 4, "those that are not there too");
    gateway.finish().await;
}

#[tokio::test]
async fn one_broken_backend_never_shrinks_the_rest() {
    let (one, two) = (library("one").await, library("two").await);
    let gateway = Setup::new().config(&one.section("one", "")).config(&two.section("two", "")).start().await;
    let client = gateway.agent().await.at("/v1/mcp?surface=direct");
    assert_eq!(list(&client, "prompts/list", "prompts", "name").await.len(), 2);
    let tools = client.tools().await;
    drop(two);
    crate::support::eventually("the second is down", async || {
        let answer = client.call("two__read", &json!({})).await;
        (answer.result()["isError"] == true).then_some(())
    })
    .await;
    assert_eq!(client.tools().await, tools, "the last known ones");
    assert_eq!(list(&client, "prompts/list", "prompts", "name").await, ["one__re_view", "two__re_view"]);
    gateway.finish().await;
}

/// Whoever is meant by a name answers in time, whatever another server does.
#[tokio::test]
async fn a_server_that_hangs_at_its_lists_holds_nobody_up_twice() {
    let (one, stuck) = (library("one").await, FakeUpstream::legacy().await);
    stuck.script(|seen| match seen.method() {
        "initialize" => Some(Say::Result(
            json!({
                "protocolVersion": "2025-11-25", "capabilities": {"tools": {}, "prompts": {}, "resources": {}},
                "serverInfo": {"name": "stuck", "version": "1"},
            })
            .to_string(),
        )),
        "prompts/list" | "resources/list" => Some(Say::Hang),
        _ => None,
    });
    let gateway = Setup::new().config(&one.section("one", "")).config(&stuck.section("stuck", "")).start().await;
    let client = gateway.agent().await.at("/v1/mcp?surface=direct");
    let quick = async |method: &str, params: Value| {
        let answer = tokio::time::timeout(std::time::Duration::from_secs(2), client.rpc(method, &params)).await;
        assert_eq!(answer.expect("an answer in time").result()["server"], "one", "{method}");
    };
    quick("prompts/get", json!({"name": "one__re_view"})).await;
    let first = soon("the first", client.rpc("resources/read", &json!({"uri": "one://own"}))).await;
    assert_eq!(first.result()["server"], "one");
    quick("resources/read", json!({"uri": "one://own"})).await;
    quick("resources/read", json!({"uri": "one://own"})).await;
    gateway.finish().await;
}

const UPDATED: &str = "notifications/resources/updated";

fn updated(uri: &str, meta: &Value) -> String {
    json!({"jsonrpc": "2.0", "method": UPDATED, "params": {"uri": uri, "_meta": meta}}).to_string()
}

fn one_resource(uri: &str) -> Say {
    Say::Result(json!({"resources": [{"uri": uri, "name": "n"}], "resultType": "complete"}).to_string())
}

/// A modern server and a legacy one, each of which tells at once of a change of its resource.
async fn changing() -> (FakeUpstream, FakeUpstream) {
    let capabilities = json!({"tools": {}, "resources": {"subscribe": true}});
    let (modern, legacy) = (FakeUpstream::modern().await, FakeUpstream::legacy().await);
    let offers = json!({"resultType": "complete", "supportedVersions": ["2026-07-28"], "capabilities": capabilities});
    modern.script(move |seen| {
        let tag = json!({"io.modelcontextprotocol/subscriptionId": seen.json["id"]});
        Some(match seen.method() {
            "server/discover" => Say::Result(offers.to_string()),
            "resources/list" => one_resource("new://a"),
            "subscriptions/listen" if seen.text.contains("resourceSubscriptions") => {
                let params = json!({"notifications": {"resourceSubscriptions": ["new://a"]}, "_meta": tag});
                let method = "notifications/subscriptions/acknowledged";
                let first = json!({"jsonrpc": "2.0", "method": method, "params": params});
                Say::EventsThenHang(vec![first.to_string(), updated("new://a", &tag)])
            }
            _ => return None,
        })
    });
    let info = json!({"name": "x", "version": "1"});
    let hello = json!({"protocolVersion": "2025-11-25", "capabilities": capabilities, "serverInfo": info});
    legacy.script(move |seen| {
        Some(match (&*seen.verb, seen.method()) {
            (_, "initialize") => Say::Result(hello.to_string()),
            (_, "resources/list") => one_resource("old://b"),
            (_, "resources/subscribe") => Say::Result("{}".into()),
            ("GET", _) => Say::EventsThenHang(vec![updated("old://b", &json!({}))]),
            _ => return None,
        })
    });
    (modern, legacy)
}

/// A resource of the merged list is followed at the server that has it, and told of under the client's own subscription.
#[tokio::test]
async fn resources_of_several_servers_are_followed_at_once() {
    let (modern, legacy) = changing().await;
    let direct = "scopes = [\"tools:read\", \"tools:invoke\"]\nallowed_tools = [\"*\"]\nsurface = \"direct\"";
    let servers = format!("{}\n{}", modern.section("new", ""), legacy.section("old", ""));
    let gateway = Setup::new().config(&servers).profile("direct", direct).start().await;
    let client = gateway.client(&gateway.key("direct").await);
    let hello = client.modern().rpc("server/discover", &json!({})).await.result();
    assert_eq!(hello["capabilities"]["resources"], json!({"listChanged": true, "subscribe": true}));
    let wanted = json!({"notifications": {"resourceSubscriptions": ["old://b", "no://c", "new://a"]}}).to_string();
    let mut stream = client.modern().request("subscriptions/listen", &wanted).open().await;
    let first = soon("the acknowledgement", stream.data()).await.unwrap();
    assert_eq!(
        first["params"]["notifications"],
        json!({"resourceSubscriptions": ["new://a", "old://b"]}),
        "what there is"
    );
    let mut told = std::collections::BTreeSet::new();
    while told.len() < 2 {
        let event = soon("a change", stream.data()).await.unwrap();
        assert_eq!(event["method"], UPDATED);
        assert_eq!(event["params"]["_meta"]["io.modelcontextprotocol/subscriptionId"], 1);
        told.insert(event["params"]["uri"].as_str().unwrap().to_owned());
    }
    assert_eq!(told.into_iter().collect::<Vec<_>>(), ["new://a", "old://b"]);
    gateway.finish().await;
}
