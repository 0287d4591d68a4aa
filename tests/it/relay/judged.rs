//! Whatever a client asks of one server beside calls is judged, limited and recorded as they are, and what is judged is what
//! is sent.

use serde_json::{Value, json};

use crate::support::{Client, FakeUpstream, Issuer, Response, Say, Setup, TestGateway, soon, tool};

const ROUTE: &str = "/v1/mcp/servers/up";
const TASKS: &str = "io.modelcontextprotocol/tasks";

/// A server that has everything that is asked for here.
pub(super) async fn upstream(modern: bool) -> FakeUpstream {
    let upstream = if modern { FakeUpstream::modern().await } else { FakeUpstream::legacy().await };
    upstream.set_tools(json!([tool("read", &json!({"readOnlyHint": true})), tool("write", &json!({}))]));
    upstream.script(move |seen| {
        let capabilities = json!({
            "tools": {}, "prompts": {}, "resources": {"subscribe": true}, "completions": {}, "logging": {},
            "extensions": {TASKS: {}},
        });
        Some(Say::Result(match seen.method() {
            "server/discover" if modern => {
                json!({"resultType": "complete", "supportedVersions": ["2026-07-28"], "capabilities": capabilities})
                    .to_string()
            }
            "initialize" if !modern => json!({
                "protocolVersion": "2025-11-25", "capabilities": capabilities, "serverInfo": {"name": "x", "version": "1"},
            })
            .to_string(),
            "completion/complete" => json!({"completion": {"values": ["one"]}}).to_string(),
            "prompts/get" => json!({"messages": []}).to_string(),
            "resources/read" => json!({"contents": []}).to_string(),
            "resources/subscribe" | "resources/unsubscribe" | "logging/setLevel" => "{}".into(),
            "subscriptions/listen" if seen.text.contains("resourceSubscriptions") => {
                let tag = json!({"io.modelcontextprotocol/subscriptionId": seen.json["id"]});
                let method = "notifications/subscriptions/acknowledged";
                let params = json!({"notifications": seen.json["params"]["notifications"], "_meta": tag});
                let first = json!({"jsonrpc": "2.0", "method": method, "params": params}).to_string();
                return Some(Say::EventsThenHang(vec![first]));
            }
            "tools/call" if seen.tool() == "write" => {
                json!({"resultType": "task", "taskId": "raw-task", "status": "working"}).to_string()
            }
            "tasks/get" | "tasks/update" | "tasks/cancel" => {
                json!({"resultType": "complete", "taskId": "raw-task", "status": "working"}).to_string()
            }
            _ => return None,
        }))
    });
    upstream
}

fn completion(kind: &str, member: &str, name: &str) -> Value {
    json!({"ref": {"type": kind, member: name}, "argument": {"name": "a", "value": "x"}})
}

/// A request about tasks, of a client that knows them.
async fn about_task(client: &Client, method: &str, task: &str) -> Response {
    let meta = json!({"io.modelcontextprotocol/clientCapabilities": {"extensions": {TASKS: {}}}});
    let params = json!({"taskId": task, "_meta": meta}).to_string();
    client.modern().request(method, &params).header("mcp-name", task).send().await
}

/// A task that a call of `write` began, as this client knows it.
async fn begun(client: &Client) -> String {
    let meta = json!({"io.modelcontextprotocol/clientCapabilities": {"extensions": {TASKS: {}}}});
    let answer = client.modern().rpc("tools/call", &json!({"name": "write", "_meta": meta})).await;
    answer.result()["taskId"].as_str().unwrap_or_else(|| panic!("{}", answer.text)).to_owned()
}

/// What a subscription is acknowledged for.
async fn acknowledged(client: &Client, uris: &[&str]) -> Value {
    let params = json!({"notifications": {"resourceSubscriptions": uris}}).to_string();
    let mut stream = client.modern().request("subscriptions/listen", &params).open().await;
    soon("the acknowledgement", stream.data()).await.unwrap()["params"]["notifications"].clone()
}

async fn noted(gateway: &TestGateway, method: &str) -> Vec<Value> {
    let records = gateway.records().await;
    records.into_iter().filter(|record| record["notes"].to_string().contains(method)).collect()
}

#[tokio::test]
async fn another_spelling_of_what_is_judged_is_refused_whatever_the_method() {
    let upstream = upstream(false).await;
    let gateway = Setup::with(&upstream).start().await;
    let client = gateway.agent().await.at(ROUTE).legacy().await;
    client.call("read", &json!({})).await;
    upstream.forget();
    for (method, params) in [
        ("tools/call", json!({"name": "read", "Name": "write"})),
        ("tools/call", json!({"name": "read", "arguments": {}, "argument\u{17f}": {"x": 1}})),
        ("tools/call", json!({"name": "read", "_META": {"progressToken": 1}})),
        ("tools/call", json!({"name": "read", "RequestState": "raw"})),
        ("prompts/get", json!({"name": "p", "NAME": "q"})),
        ("resources/read", json!({"uri": "file:///public/a", "URI": "file:///etc/passwd"})),
        ("completion/complete", {
            let mut params = completion("ref/prompt", "name", "p");
            params["Ref"] = json!({"type": "ref/prompt", "name": "q"});
            params
        }),
        ("resources/subscribe", json!({"uri": "x://a", "Uri": "x://b"})),
        ("logging/setLevel", json!({"level": "info", "LEVEL": "debug"})),
    ] {
        let answer = client.rpc(method, &params).await;
        assert_eq!(answer.json()["error"]["code"], -32602, "{method}: {}", answer.text);
    }
    assert!(upstream.seen().is_empty(), "{:?}", upstream.seen());
    gateway.finish().await;
}

#[tokio::test]
async fn completions_subscriptions_and_tasks_are_decided_and_recorded() {
    for modern in [false, true] {
        let upstream = upstream(modern).await;
        let policy = r#"
            @id("all") permit(principal, action, resource);
            @id("no-secrets") forbid(principal, action, resource) when { resource.name like "*secret*" };
        "#;
        let gateway = Setup::with(&upstream).policy("all", policy).start().await;
        let client = gateway.agent().await.at(ROUTE);
        let legacy = client.legacy().await;
        for (name, passes) in [("open", true), ("secret", false)] {
            let answer = legacy.rpc("completion/complete", &completion("ref/prompt", "name", name)).await;
            assert_eq!(answer.status == 200 && answer.json().get("result").is_some(), passes, "{}", answer.text);
            let uri = format!("x://{name}/{{id}}");
            let answer = client.modern().rpc("completion/complete", &completion("ref/resource", "uri", &uri)).await;
            assert_eq!(answer.json().get("result").is_some(), passes, "{}", answer.text);
            let answer = legacy.rpc("resources/subscribe", &json!({"uri": format!("x://{name}")})).await;
            assert_eq!(answer.json().get("result").is_some(), passes, "{}", answer.text);
        }
        if !modern {
            assert_eq!(
                acknowledged(&client, &["x://open", "x://secret", "x://open"]).await,
                json!({"resourceSubscriptions": ["x://open"]})
            );
        }
        assert_eq!(noted(&gateway, "completion/complete").await.len(), 4);
        let subscribed = noted(&gateway, "resources/subscribe").await;
        let denied = subscribed.iter().filter(|record| record["decision"] == "deny");
        assert_eq!((subscribed.len(), denied.count()), if modern { (2, 1) } else { (4, 2) });
        let sent = upstream.seen().iter().map(|seen| seen.text.clone()).collect::<String>();
        assert!(!sent.contains("secret"), "{sent}");
        gateway.finish().await;
    }
}

#[tokio::test]
async fn a_task_belongs_to_the_tool_that_began_it() {
    let upstream = upstream(true).await;
    let gateway = Setup::with(&upstream)
        .profile("reader", "scopes = [\"tools:read\", \"tools:invoke\"]\nallowed_tools = [\"*\"]\nread_only = true")
        .start()
        .await;
    let key = gateway.writer("agent").await;
    let client = gateway.client(&key).at(ROUTE);
    let task = begun(&client).await;
    assert_ne!(task, "raw-task");
    let answer = about_task(&client, "tasks/get", &task).await;
    assert_eq!(answer.result()["taskId"], task.as_str(), "{}", answer.text);
    assert_eq!(about_task(&client, "tasks/cancel", &task).await.status, 200);
    let records = noted(&gateway, "tasks/").await;
    assert_eq!(records.len(), 2, "{records:?}");
    assert!(records.iter().all(|record| record["tool"] == "write"));
    // What the key may not call any more, it may not ask about any more.
    let profiles = std::fs::read_to_string(gateway.file("profiles.toml")).unwrap();
    gateway.write("profiles.toml", &profiles.replacen("[profiles.agent]", "[profiles.agent]\nread_only = true", 1));
    upstream.forget();
    crate::support::eventually("the task is out of reach", async || {
        let answer = about_task(&client, "tasks/get", &task).await;
        (answer.json()["error"]["code"] == -32602).then_some(())
    })
    .await;
    upstream.forget();
    assert_eq!(about_task(&client, "tasks/update", &task).await.json()["error"]["code"], -32602);
    assert!(upstream.seen().is_empty());
    gateway.finish().await;
}

#[tokio::test]
async fn a_server_s_limit_holds_for_everything_that_is_sent_to_it() {
    let upstream = upstream(false).await;
    let gateway = Setup::new().config(&upstream.section("up", "rate_limit = \"1/min\"")).start().await;
    let client = gateway.agent().await.at(ROUTE).legacy().await;
    let complete = async || client.rpc("completion/complete", &completion("ref/prompt", "name", "p")).await;
    assert!(complete().await.json().get("result").is_some());
    assert_eq!(complete().await.json()["error"]["code"], 429);
    let level = client.rpc("logging/setLevel", &json!({"level": "debug"})).await;
    assert_eq!(level.json()["error"]["code"], 429, "{}", level.text);
    let follow = client.rpc("resources/subscribe", &json!({"uri": "x://a"})).await;
    assert_eq!(follow.json()["error"]["code"], 429, "{}", follow.text);
    let sent = upstream.seen().into_iter().filter(|seen| seen.method().contains('/'));
    let sent: Vec<String> = sent.map(|seen| seen.method().to_owned()).collect();
    assert_eq!(sent.iter().filter(|method| *method == "completion/complete").count(), 1, "{sent:?}");
    assert!(!sent.iter().any(|method| method == "logging/setLevel" || method == "resources/subscribe"), "{sent:?}");
    gateway.finish().await;
}

#[tokio::test]
async fn a_server_that_asks_for_a_token_hears_of_nobody_without_one() {
    for modern in [false, true] {
        let (upstream, issuer) = (upstream(modern).await, Issuer::start().await);
        let section = upstream.section("up", "auth_type = \"jwt\"");
        let jwt = format!("[jwt]\nissuer = \"{0}\"\naudience = \"toolgate\"\njwks_url = \"{0}/keys\"\n", issuer.url);
        let gateway = Setup::new().config(&section).config(&jwt).start().await;
        let client = gateway.agent().await.at(ROUTE);
        let legacy = client.legacy().await;
        upstream.forget();
        let token = issuer.sign(&issuer.claims("toolgate"));
        let complete = completion("ref/prompt", "name", "p");
        for (method, params) in [
            ("completion/complete", complete.clone()),
            ("resources/subscribe", json!({"uri": "x://a"})),
            ("resources/read", json!({"uri": "x://a"})),
        ] {
            let answer = legacy.rpc(method, &params).await;
            assert_eq!(answer.json()["error"]["code"], 403, "{method}: {}", answer.text);
        }
        if !modern {
            let answer = legacy.rpc("logging/setLevel", &json!({"level": "debug"})).await;
            assert_eq!(answer.json()["error"]["code"], 403, "{}", answer.text);
            assert_eq!(acknowledged(&client, &["x://a"]).await, json!({}));
        }
        assert!(upstream.seen().is_empty(), "{:?}", upstream.seen());
        assert_eq!(noted(&gateway, "completion/complete").await.len(), 1);
        let with = legacy.request("completion/complete", &complete.to_string()).header("x-server-jwt", &token);
        assert!(with.send().await.json().get("result").is_some());
        gateway.finish().await;
    }
}

/// A URI is the caller's own text: a pattern that says how it ends opens nothing.
#[tokio::test]
async fn a_pattern_for_tools_opens_no_resource() {
    let upstream = upstream(false).await;
    let profile = |globs: &str| format!("scopes = [\"tools:read\", \"tools:invoke\"]\nallowed_tools = [{globs}]");
    let setup = Setup::with(&upstream)
        .profile("lists", &profile("\"*:list_*\", \"*_read\""))
        .profile("public", &profile("\"up:file:///public/*\""));
    let gateway = setup.start().await;
    let read = async |profile: &str, uri: &str| {
        let client = gateway.client(&gateway.key(profile).await).at(ROUTE);
        let answer = client.rpc("resources/read", &json!({"uri": uri})).await;
        answer.json().get("result").is_some()
    };
    for uri in ["file:///etc/passwd#:list_", "file:///etc/passwd?x_read", "file:///etc/passwd"] {
        assert!(!read("lists", uri).await, "{uri}");
    }
    assert!(read("public", "file:///public/a").await);
    assert!(!read("public", "file:///private/a").await);
    gateway.finish().await;
}

/// What its headers would have to be is said of no tool that is not there for the caller.
#[tokio::test]
async fn a_hidden_tool_is_as_absent_as_one_that_is_not_there() {
    let upstream = FakeUpstream::modern().await;
    let schema = json!({"type": "object", "properties": {"region": {"type": "string", "x-mcp-header": "Region"}}});
    let hidden = json!({"name": "hidden", "inputSchema": schema, "annotations": {"readOnlyHint": true}});
    upstream.set_tools(json!([hidden, tool("read", &json!({"readOnlyHint": true}))]));
    let profile = "scopes = [\"tools:read\", \"tools:invoke\"]\nallowed_tools = [\"up:read\"]";
    let gateway = Setup::with(&upstream).profile("narrow", profile).start().await;
    let client = gateway.client(&gateway.key("narrow").await).at(ROUTE).modern();
    let answer = async |name: &str| {
        let answer = client.call(name, &json!({"region": "eu"})).await;
        (answer.status, answer.text.replace(name, "NAME"))
    };
    assert_eq!(answer("hidden").await, answer("absent").await);
    gateway.finish().await;
}

/// What completes an argument travels as it came: where its secrets would be taken out, it does not go at all.
#[tokio::test]
async fn a_secret_goes_nowhere_in_a_completion() {
    let secret = concat!("sk_", "live_4eC39HqLyjWDarjtT1zdp7dc");
    let upstream = upstream(false).await;
    for mode in ["redact", "block"] {
        let section = upstream.section("up", &format!("dlp = {{ arguments = \"{mode}\" }}"));
        let gateway = Setup::new().config(&section).start().await;
        let client = gateway.agent().await.at(ROUTE).legacy().await;
        for (kind, member) in [("ref/prompt", "name"), ("ref/resource", "uri")] {
            let mut params = completion(kind, member, "x://p");
            assert!(client.rpc("completion/complete", &params).await.json().get("result").is_some());
            params["argument"]["value"] = secret.into();
            let answer = client.rpc("completion/complete", &params).await;
            assert!(answer.json().get("error").is_some(), "{mode} {kind}: {}", answer.text);
        }
        let records = noted(&gateway, "completion/complete").await;
        let blocked = records.iter().filter(|record| record["dlp_result"] == "blocked").count();
        assert_eq!((records.len(), blocked), (4, 2), "{records:?}");
        gateway.finish().await;
    }
    assert!(!upstream.seen().iter().any(|seen| seen.text.contains(secret)));
}

/// An approval is of a call: nobody is asked for one by a completion, and none is used up.
#[tokio::test]
async fn nobody_is_asked_to_approve_a_completion() {
    let upstream = upstream(false).await;
    let policy = r#"@id("ask") @reason("a person decides") @requires("approval") permit(principal, action, resource);"#;
    let gateway = Setup::with(&upstream).policy("ask", policy).start().await;
    let client = gateway.agent().await.at(ROUTE).legacy().await;
    upstream.forget();
    let answer = client.rpc("completion/complete", &completion("ref/prompt", "name", "p")).await;
    assert!(answer.json().get("error").is_some(), "{}", answer.text);
    assert!(upstream.seen().is_empty(), "{:?}", upstream.seen());
    let records = noted(&gateway, "completion/complete").await;
    assert_eq!((&records[0]["decision"], &records[0]["policies"][0]), (&json!("deny"), &json!("approval")));
    assert!(!records[0]["notes"].to_string().contains("approval "), "{records:?}");
    gateway.finish().await;
}

/// A policy that forbids a resource is not passed by another spelling of its URI; any other is read as it is written.
#[tokio::test]
async fn a_forbid_holds_for_every_spelling_of_a_resource() {
    let upstream = upstream(false).await;
    let policy = r#"
        @id("all") permit(principal, action, resource);
        @id("secret") forbid(principal, action, resource == Toolgate::Resource::"up:file:///secret");
    "#;
    let gateway = Setup::with(&upstream).policy("all", policy).start().await;
    let client = gateway.agent().await.at(ROUTE).legacy().await;
    upstream.forget();
    for uri in [
        "file:///secret",
        "file:///secret#",
        "FILE:///secret",
        "file:///%73ecret",
        "file://localhost/./secret",
        "file:/secret",
        "file:secret",
        r"file:\\\secret",
        r"file:///public\..\secret",
        " file:///secret",
        "file:///secret ",
        "file:///secret?x=1",
        "file://otherhost/secret",
        "file:///public/..%2fsecret",
        "file:///secret/",
        "file:///secret/.",
    ] {
        let answer = client.rpc("resources/read", &json!({"uri": uri})).await;
        assert!(answer.json()["error"].is_object(), "{uri}: {}", answer.text);
    }
    assert!(upstream.seen().is_empty());
    for uri in ["file:///open", "file:///./odd"] {
        let answer = client.rpc("resources/read", &json!({"uri": uri})).await;
        assert!(answer.json()["result"].is_object(), "{uri}: {}", answer.text);
    }
    let seen = upstream.seen();
    let read = seen.iter().filter(|seen| seen.method() == "resources/read");
    let sent: Vec<String> = read.map(|seen| seen.json["params"]["uri"].to_string()).collect();
    assert_eq!(sent, [r#""file:///open""#, r#""file:///./odd""#]);
    gateway.finish().await;
}
