//! Names: what each kind of client is listed, and every spelling that is understood.

use serde_json::json;

use crate::support::{FakeUpstream, Setup, tool};

const DOTTED: [&str; 3] = ["gateway_search_tools", "gateway_invoke", "policy.simulate"];
const SAFE: [&str; 3] = ["gateway_search_tools", "gateway_invoke", "policy_simulate"];

#[tokio::test]
async fn hosts_are_listed_safe_names_and_scripts_dotted_ones() {
    let gateway = Setup::new().start().await;
    let bare = gateway.agent().await;
    assert_eq!(bare.tools().await, DOTTED);
    assert_eq!(bare.legacy().await.tools().await, SAFE);
    assert_eq!(bare.modern().tools().await, SAFE);
    assert_eq!(bare.at("/v1/mcp?names=safe").tools().await, SAFE);
    assert_eq!(bare.legacy().await.at("/v1/mcp?names=dotted").tools().await, DOTTED);
    assert_eq!(bare.at("/v1/mcp?names=auto").tools().await, DOTTED);
    for query in ["names=loud", "surface=none", "surface="] {
        assert_eq!(
            bare.at(&format!("/v1/mcp?{query}")).rpc("tools/list", &json!({})).await.refused(),
            (400, -32602),
            "{query}"
        );
    }
    let safe = bare.modern().rpc("tools/list", &json!({})).await.result();
    assert_eq!(safe["tools"][2]["title"], "policy.simulate");
    gateway.finish().await;
    let gateway = Setup::new().config("[gateway]\ntool_names = \"safe\"").start().await;
    assert_eq!(gateway.agent().await.tools().await, SAFE);
    gateway.finish().await;
}

#[tokio::test]
async fn surfaces_show_what_is_asked_for() {
    let upstream = FakeUpstream::legacy().await;
    let setup = Setup::with(&upstream).profile(
        "direct",
        "scopes = [\"tools:read\", \"tools:invoke\"]\nallowed_tools = [\"*\"]\nsurface = \"direct\"",
    );
    let gateway = setup
        .profile("auto", "scopes = [\"tools:read\", \"tools:invoke\"]\nallowed_tools = [\"*\"]\nsurface = \"auto\"")
        .start()
        .await;
    let flat = ["up__read", "up__write", "up__again", "up__destroy"];
    let agent = gateway.agent().await;
    let sorted = |mut names: Vec<String>| {
        names.sort();
        names
    };
    let mut expected = flat.map(str::to_owned).to_vec();
    expected.sort();
    assert_eq!(sorted(agent.at("/v1/mcp?surface=direct").tools().await), expected);
    assert_eq!(agent.at("/v1/mcp?surface=both").tools().await[..3], DOTTED);
    assert_eq!(agent.at("/v1/mcp?surface=both").tools().await.len(), 7);
    assert_eq!(agent.at("/v1/mcp?surface=search").tools().await, DOTTED);
    let direct = gateway.client(&gateway.writer("direct").await);
    assert_eq!(sorted(direct.tools().await), expected);
    let auto = gateway.client(&gateway.writer("auto").await);
    assert_eq!(auto.tools().await.len(), 6, "a small catalogue is listed directly: 2 own tools and 4");
    let definition = direct.rpc("tools/list", &json!({})).await.result()["tools"]
        .as_array()
        .unwrap()
        .iter()
        .find(|tool| tool["name"] == "up__read")
        .cloned();
    let mut native = tool("read", &json!({"readOnlyHint": true}));
    native["name"] = json!("up__read");
    assert_eq!(definition, Some(native), "native schema and annotations");
    let reader = gateway.client(&gateway.key("direct").await);
    assert_eq!(reader.tools().await, ["up__read"], "what no policy can permit is not listed");
    gateway.finish().await;
}

#[tokio::test]
async fn every_spelling_calls_the_same_tool() {
    let upstream = FakeUpstream::legacy().await;
    let gateway = Setup::with(&upstream).start().await;
    let client = gateway.agent().await;
    for name in ["up:read", "up/read", "up.read", "up__read"] {
        assert_eq!(client.call(name, &json!({})).await.result()["content"][0]["text"], "done", "{name}");
    }
    assert!(upstream.calls().iter().all(|call| call.tool() == "read"));
    let question = json!({"action": "up.read"});
    for name in [
        "policy.simulate",
        "policy_simulate",
        "invoke.policy.simulate",
        "invoke_policy_simulate",
        "toolgate:policy.simulate",
        "toolgate/policy.simulate",
        "toolgate__policy_simulate",
    ] {
        assert_eq!(client.call(name, &question).await.result()["structuredContent"]["decision"], "allow", "{name}");
    }
    let through = json!({"server": "toolgate", "tool": "policy.simulate", "arguments": question});
    assert_eq!(client.call("gateway_invoke", &through).await.result()["structuredContent"]["decision"], "allow");
    for action in ["up:read", "up/read", "up.read", "up__read"] {
        assert_eq!(client.simulate(&json!({"action": action})).await["tool"], "up:read", "{action}");
    }
    for name in ["UP:read", "up:Read", "up:read ", "up::read", "read", "up", ":", "toolgate:read"] {
        assert_eq!(client.call(name, &json!({})).await.refused(), (200, -32602), "{name}");
    }
    gateway.finish().await;
}

#[tokio::test]
async fn a_name_with_two_readings_names_both() {
    let (one, two) = (FakeUpstream::legacy().await, FakeUpstream::legacy().await);
    one.set_tools(json!([tool("b.c", &json!({"readOnlyHint": true}))]));
    two.set_tools(json!([tool("c", &json!({"readOnlyHint": true}))]));
    let setup = Setup::new().config(&one.section("a", "")).config(&two.section("\"a.b\"", ""));
    let gateway = setup.profile("one", "scopes = [\"tools:invoke\"]\nallowed_tools = [\"a:*\"]").start().await;
    let client = gateway.agent().await;
    let both = client.call("a.b.c", &json!({})).await;
    assert_eq!(both.refused(), (200, -32602));
    assert_eq!(both.error()["data"]["readings"], json!(["a.b:c", "a:b.c"]));
    assert_eq!(client.call("a:b.c", &json!({})).await.status, 200);
    assert_eq!(client.call("a.b:c", &json!({})).await.status, 200);
    let narrow = gateway.client(&gateway.key("one").await);
    assert_eq!(
        narrow.call("a.b.c", &json!({})).await.result()["content"][0]["text"],
        "done",
        "one reading among those it sees"
    );
    assert_eq!((one.calls().len(), two.calls().len()), (2, 1));
    gateway.finish().await;
}

#[tokio::test]
async fn odd_tool_names_are_flattened_for_hosts() {
    let upstream = FakeUpstream::legacy().await;
    let long = "x".repeat(100);
    let names = ["Fetch & Read", "a.b", "ünï", long.as_str()];
    upstream.set_tools(json!(names.map(|name| tool(name, &json!({"readOnlyHint": true})))));
    let gateway = Setup::with(&upstream).start().await;
    let client = gateway.agent().await.at("/v1/mcp?surface=direct").legacy().await;
    let listed = client.tools().await;
    assert_eq!(listed.len(), 4, "{listed:?}");
    for name in &listed {
        assert!(
            (1..=64).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-'),
            "{name}"
        );
        assert_eq!(client.call(name, &json!({})).await.result()["content"][0]["text"], "done", "{name}");
    }
    let mut called: Vec<String> = upstream.calls().iter().map(|call| call.tool().to_owned()).collect();
    called.sort();
    let mut expected = names.map(str::to_owned).to_vec();
    expected.sort();
    assert_eq!(called, expected, "one flat name for each");
    gateway.finish().await;
}
