//! `toolgate stdio`: what a host that starts its servers meets.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{FakeUpstream, Host, Program, Say, Setup, TestGateway, eventually, tool};

/// A gateway in front of `upstream`, whose tools it lists directly, and a host before it.
async fn start(upstream: &FakeUpstream) -> (TestGateway, Host) {
    let gateway = Setup::with(upstream).start().await;
    let host = Host::at(&direct(&gateway), &gateway.writer("agent").await.text);
    (gateway, host)
}

fn direct(gateway: &TestGateway) -> String {
    format!("http://{}/v1/mcp?surface=direct", gateway.address)
}

fn call(tool: &str, token: &Value) -> Value {
    json!({"name": tool, "arguments": {}, "_meta": {"progressToken": token}})
}

async fn arrived(upstream: &FakeUpstream, count: usize) {
    eventually("the call arrives", async || (upstream.calls().len() == count).then_some(())).await;
}

#[tokio::test]
async fn a_legacy_host_lists_calls_and_leaves() {
    let upstream = FakeUpstream::modern().await;
    upstream.on_call(|_| Say::Result("{ \"content\" : [],\r\n\t\"structuredContent\":{\"n\":1.50e2} }".into()));
    let (gateway, mut host) = start(&upstream).await;
    let greeting = host.open().await;
    assert_eq!(
        (&greeting["protocolVersion"], &greeting["serverInfo"]["name"]),
        (&json!("2025-11-25"), &json!("toolgate"))
    );
    let list = host.ask(&json!(1), "tools/list", &json!({})).await;
    let names: Vec<_> = list["result"]["tools"].as_array().unwrap().iter().map(|tool| tool["name"].clone()).collect();
    assert!(names.contains(&json!("up__read")), "the session and the query count: {names:?}");
    host.request(&json!("id"), "tools/call", &json!({"name": "up__read", "arguments": {}})).await;
    let line = host.line().await.unwrap();
    assert!(line.contains("{\"content\" : [],\"structuredContent\":{\"n\":1.50e2}"), "the very bytes: {line}");
    assert!(line.starts_with(r#"{"jsonrpc":"2.0","id":"id","result":"#), "{line}");
    let unknown = host.ask(&json!(2), "tools/call", &json!({"name": "nowhere"})).await;
    assert_eq!((&unknown["id"], &unknown["error"]["code"]), (&json!(2), &json!(-32602)));
    assert_eq!(host.close().await, (Vec::new(), Some(0)));
    gateway.finish().await;
}

#[tokio::test]
async fn a_modern_host_discovers_lists_and_calls() {
    let upstream = FakeUpstream::legacy().await;
    let (gateway, mut host) = start(&upstream).await;
    host.modern(&json!(1), "server/discover", json!({})).await;
    assert!(host.next().await["result"]["supportedVersions"].as_array().unwrap().contains(&json!("2026-07-28")));
    host.modern(&json!(2), "tools/list", json!({})).await;
    assert_eq!(host.next().await["result"]["resultType"], "complete");
    host.modern(&json!("é"), "tools/call", json!({"name": "up:read", "arguments": {}})).await;
    let answer = host.next().await;
    assert_eq!((&answer["id"], &answer["result"]["content"][0]["text"]), (&json!("é"), &json!("done")));
    host.modern(&json!(3), "tools/call", json!({"name": "unbekanntes Gerät", "arguments": {}})).await;
    assert_eq!(host.next().await["error"]["code"], -32602, "a name that no header holds is encoded");
    host.modern(&json!(4), "ping", json!({})).await;
    assert_eq!(host.next().await["error"]["code"], -32601, "what the revision does not have, as the gateway says it");
    assert_eq!(host.close().await, (Vec::new(), Some(0)));
    gateway.finish().await;
}

#[tokio::test]
async fn progress_comes_before_the_result_and_calls_do_not_wait_for_each_other() {
    let upstream = FakeUpstream::modern().await;
    upstream.on_call(|seen| match seen.tool() {
        "write" => Say::Held(Box::new(Say::text("late"))),
        _ => {
            let token = seen.json["params"]["_meta"]["progressToken"].clone();
            let params = json!({"progressToken": token, "progress": 1});
            let progress = json!({"jsonrpc": "2.0", "method": "notifications/progress", "params": params});
            Say::Events(vec![progress.to_string()], json!({"content": []}).to_string())
        }
    });
    let (gateway, mut host) = start(&upstream).await;
    host.open().await;
    for modern in [false, true] {
        let send = async |host: &mut Host, id: Value, params: Value| match modern {
            true => host.modern(&id, "tools/call", params).await,
            false => host.request(&id, "tools/call", &params).await,
        };
        send(&mut host, json!("slow"), json!({"name": "up:write", "arguments": {}})).await;
        arrived(&upstream, 1).await;
        send(&mut host, json!("fast"), call("up:read", &json!("mine"))).await;
        let progress = host.next().await;
        assert_eq!(
            (&progress["method"], &progress["params"]["progressToken"]),
            (&json!("notifications/progress"), &json!("mine"))
        );
        assert_eq!(host.next().await["id"], "fast");
        upstream.release(1);
        assert_eq!(host.next().await["id"], "slow");
        upstream.forget();
    }
    host.close().await;
    gateway.finish().await;
}

#[tokio::test]
async fn a_cancelled_call_is_cancelled_at_the_backend_and_never_answered() {
    for modern in [false, true] {
        let upstream = FakeUpstream::modern().await;
        upstream.on_call(|_| Say::Hang);
        let (gateway, mut host) = start(&upstream).await;
        if !modern {
            host.open().await;
        }
        let send = async |host: &mut Host, id: &Value| match modern {
            true => host.modern(id, "tools/call", call("up:write", &json!(1))).await,
            false => host.request(id, "tools/call", &call("up:write", &json!(1))).await,
        };
        send(&mut host, &json!(7)).await;
        arrived(&upstream, 1).await;
        host.cancel(&json!("7")).await;
        host.cancel(&json!(7)).await;
        eventually("the backend is left", async || (upstream.left() == 1).then_some(())).await;
        let record = eventually("the record", async || gateway.records().await.into_iter().next()).await;
        assert_eq!(record["outcome"], "cancelled", "modern: {modern}");
        host.modern(&json!("after"), "tools/list", json!({})).await;
        assert_eq!(host.next().await["id"], "after", "nothing more is said of the call");
        assert_eq!(host.close().await, (Vec::new(), Some(0)));
        gateway.finish().await;
    }
}

#[tokio::test]
async fn changes_of_the_tools_are_heard() {
    let upstream = FakeUpstream::modern().await;
    let (gateway, mut host) = start(&upstream).await;
    eventually("the gateway listens", async || upstream.is_listened_to().then_some(())).await;
    host.open().await;
    host.modern(&json!("listen"), "subscriptions/listen", json!({"notifications": {"toolsListChanged": true}})).await;
    assert_eq!(host.next().await["method"], "notifications/subscriptions/acknowledged");
    // The session's own stream is opened beside, at a moment that nobody here sees.
    let (mut tags, mut count) = (Vec::new(), 0);
    eventually("both streams tell", async || {
        count += 1;
        upstream.set_tools(json!([tool(&format!("tool{count}"), &json!({}))]));
        upstream.tell_changed();
        while let Ok(heard) = tokio::time::timeout(Duration::from_millis(100), host.next()).await {
            assert_eq!(heard["method"], "notifications/tools/list_changed");
            tags.push(heard["params"]["_meta"]["io.modelcontextprotocol/subscriptionId"].clone());
        }
        (tags.contains(&json!("listen")) && tags.contains(&Value::Null)).then_some(())
    })
    .await;
    assert_eq!(host.close().await.1, Some(0), "a subscription does not hold up the end");
    gateway.finish().await;
}

/// The gateway goes and comes back under the same address: the session goes on, and the list is to be read again.
#[tokio::test]
async fn the_gateway_goes_and_comes_back() {
    let program = Program::start().await;
    program.ready().await;
    let (folder, address) = (program.folder(), program.address);
    let data = folder.path().join(".toolgate");
    let key = program.keys().into_iter().find(|(name, _)| name == "agent").unwrap().1;
    // It finds the gateway by its data folder.
    let mut host = Host::start(&["--data-dir", data.to_str().unwrap()], &[("TOOLGATE_KEY", &key)]);
    host.open().await;
    let repos = json!({"name": "github:list_repos", "arguments": {"limit": 1}});
    assert!(host.ask(&json!(1), "tools/call", &repos).await["result"]["structuredContent"]["repositories"].is_array());
    program.stop().await;
    let refused = host.ask(&json!(2), "tools/call", &repos).await;
    assert_eq!((&refused["id"], &refused["error"]["code"]), (&json!(2), &json!(503)));
    let sentence = refused["error"]["message"].as_str().unwrap();
    assert!(sentence.contains(&address.to_string()) && sentence.contains("toolgate serve"), "{sentence}");
    let program = Program::start_at(folder, address, &[]).await;
    program.ready().await;
    assert_eq!(host.next().await["method"], "notifications/tools/list_changed");
    assert!(host.ask(&json!(3), "tools/call", &repos).await["result"]["structuredContent"]["repositories"].is_array());
    assert_eq!(host.close().await, (Vec::new(), Some(0)));
    program.stop().await;
}

#[tokio::test]
async fn a_wrong_key_is_answered_with_what_the_gateway_says() {
    let gateway = Setup::new().start().await;
    let mut host = Host::at(&format!("http://{}", gateway.address), "${TOOLGATE_KEY}");
    let refused = host.ask(&json!("a"), "initialize", &json!({"protocolVersion": "2025-11-25"})).await;
    assert_eq!((&refused["id"], &refused["error"]["code"]), (&json!("a"), &json!(401)));
    assert!(refused["error"]["message"].as_str().unwrap().contains("${"), "{refused}");
    host.close().await;
    let mut host = Host::at(&format!("http://{}/elsewhere", gateway.address), "key");
    let nowhere = host.ask(&json!(1), "initialize", &json!({})).await;
    assert!(nowhere["error"]["message"].as_str().unwrap().contains("/elsewhere"), "{nowhere}");
    host.close().await;
    gateway.finish().await;
}

#[tokio::test]
async fn what_is_no_message_is_refused_here() {
    let mut host = Host::at("http://127.0.0.1:9", "key");
    for (line, code, id) in [
        ("nonsense", -32700, Value::Null),
        ("[]", -32600, Value::Null),
        (r#"{"jsonrpc":"1.0","id":3,"method":"ping"}"#, -32600, json!(3)),
        (&"x".repeat((16 << 20) + 1), -32600, Value::Null),
        (r#"{"jsonrpc":"2.0","id":4,"method":"ping"}"#, 503, json!(4)),
    ] {
        host.send(line).await;
        let refused = host.next().await;
        assert_eq!((&refused["error"]["code"], &refused["id"]), (&json!(code), &id), "{refused}");
    }
    host.send("").await;
    assert_eq!(host.close().await, (Vec::new(), Some(0)));
}

/// The endpoint forgets a session: the relay opens another as the host did, and repeats what nobody had taken up.
#[tokio::test]
async fn a_lost_session_is_opened_again() {
    let endpoint = FakeUpstream::legacy().await;
    let mut host = Host::at(&format!("http://{}/mcp", endpoint.address), "key");
    host.open().await;
    assert!(host.ask(&json!(1), "tools/list", &json!({})).await["result"]["tools"].is_array());
    eventually("its stream is open", async || endpoint.is_listened_to().then_some(())).await;
    let lost = std::sync::atomic::AtomicBool::new(false);
    endpoint.script(move |seen| {
        let first = seen.method() == "tools/list" && !lost.swap(true, std::sync::atomic::Ordering::SeqCst);
        first.then_some(Say::Status(404))
    });
    endpoint.forget();
    host.request(&json!(2), "tools/list", &json!({})).await;
    let (one, two) = (host.next().await, host.next().await);
    let mut heard = [&one, &two];
    heard.sort_by_key(|heard| heard["id"].is_null());
    assert!(heard[0]["id"] == 2 && heard[0]["result"]["tools"].is_array(), "{one} {two}");
    assert_eq!(heard[1]["method"], "notifications/tools/list_changed", "what changed meanwhile was not heard");
    let seen = endpoint.seen();
    let again = seen.iter().find(|seen| seen.method() == "initialize").unwrap();
    assert!(!again.headers.contains_key("mcp-session-id"));
    assert_eq!(again.json["params"]["clientInfo"]["name"], "test", "with the host's own words");
    assert!(seen.iter().any(|seen| seen.method() == "notifications/initialized"));
    assert_eq!(host.close().await, (Vec::new(), Some(0)));
    let ended = endpoint.seen().into_iter().find(|seen| seen.verb == "DELETE").expect("the session is ended");
    assert_eq!(ended.headers["mcp-session-id"], "fake-session");
    assert_eq!(ended.headers["mcp-protocol-version"], "2025-11-25");
}

/// Arguments that a tool wants in headers go there, once its list has been seen or the endpoint misses them.
#[tokio::test]
async fn annotated_arguments_are_repeated_in_headers() {
    let endpoint = FakeUpstream::modern().await;
    endpoint.set_tools(json!([{"name": "deploy", "inputSchema": {"type": "object", "properties": {
        "region": {"type": "string", "x-mcp-header": "Region"}}}}]));
    endpoint.on_call(|seen| match seen.headers.get("mcp-param-region") {
        Some(region) => Say::text(region.to_str().unwrap()),
        None => Say::Error(r#"{"code":-32020,"message":"the header is missing"}"#.into()),
    });
    let mut host = Host::at(&format!("http://{}/mcp", endpoint.address), "key");
    for region in ["eu", "zürich"] {
        host.modern(&json!(1), "tools/call", json!({"name": "deploy", "arguments": {"region": region}})).await;
        let expected = if region == "eu" { "eu" } else { "=?base64?esO8cmljaA==?=" };
        assert_eq!(host.next().await["result"]["content"][0]["text"], expected);
    }
    let methods: Vec<String> = endpoint.seen().iter().map(|seen| seen.method().to_owned()).collect();
    assert_eq!(methods, ["tools/call", "tools/list", "tools/call", "tools/call"]);
    let sent = &endpoint.calls()[0];
    assert_eq!(
        (&sent.headers["mcp-name"], &sent.headers["mcp-method"]),
        (&"deploy".parse().unwrap(), &"tools/call".parse().unwrap())
    );
    host.close().await;
}

/// A host that closes its end still gets what comes at once; one that sends a signal does not wait.
#[tokio::test]
async fn the_end_is_short() {
    let upstream = FakeUpstream::modern().await;
    let (gateway, mut host) = start(&upstream).await;
    host.modern(&json!(1), "tools/call", json!({"name": "up:read", "arguments": {}})).await;
    let (rest, code) = host.close().await;
    assert_eq!((rest.len(), code), (1, Some(0)), "{rest:?}");
    upstream.on_call(|_| Say::Hang);
    let mut host = Host::at(&direct(&gateway), &gateway.writer("agent").await.text);
    host.modern(&json!(1), "tools/call", json!({"name": "up:read", "arguments": {}})).await;
    arrived(&upstream, 2).await;
    let id = rustix::process::Pid::from_raw(i32::try_from(host.id()).unwrap()).unwrap();
    rustix::process::kill_process(id, rustix::process::Signal::TERM).unwrap();
    assert_eq!(host.ended().await, (Vec::new(), Some(0)));
    eventually("the backend is left", async || (upstream.left() == 1).then_some(())).await;
    gateway.finish().await;
}

/// One server as if there were no gateway: what it asks its client meanwhile reaches the host, and the answer goes back.
#[tokio::test]
async fn a_question_of_a_backend_is_asked_and_answered() {
    let upstream = FakeUpstream::legacy().await;
    upstream.on_call(|_| {
        let params = json!({"message": "Sure?", "requestedSchema": {"type": "object", "properties": {}}});
        let question = json!({"jsonrpc": "2.0", "id": "q", "method": "elicitation/create", "params": params});
        let after =
            json!({"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "info", "data": "x"}});
        Say::Events(vec![question.to_string(), after.to_string()], json!({"content": []}).to_string())
    });
    let gateway = Setup::with(&upstream).start().await;
    let key = gateway.writer("agent").await.text;
    let url = format!("http://{}", gateway.address);
    let mut host = Host::start(&["--url", &url, "--server", "up"], &[("TOOLGATE_KEY", &key)]);
    let mut hello = json!({"protocolVersion": "2025-11-25", "clientInfo": {"name": "test", "version": "0"}});
    hello["capabilities"] = json!({"elicitation": {}});
    assert_eq!(host.ask(&json!(0), "initialize", &hello).await["result"]["serverInfo"]["name"], "fake");
    host.send(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#).await;
    let list = host.ask(&json!(1), "tools/list", &json!({})).await;
    assert_eq!(list["result"]["tools"][0]["name"], "read", "its own names: {list}");
    host.request(&json!(2), "tools/call", &json!({"name": "read", "arguments": {}})).await;
    let mut heard = Vec::new();
    while heard.last().is_none_or(|last: &Value| last["id"] != 2) {
        let next = host.next().await;
        if next["method"] == "elicitation/create" {
            let answer = json!({"jsonrpc": "2.0", "id": next["id"], "result": {"action": "accept", "content": {}}});
            host.send(&answer.to_string()).await;
        }
        heard.push(next);
    }
    assert!(heard.iter().any(|next| next["method"] == "elicitation/create"), "{heard:?}");
    let answered = |seen: &crate::support::Seen| seen.json["id"] == "q" && seen.json["result"]["action"] == "accept";
    eventually("the backend has its answer", async || upstream.seen().iter().any(answered).then_some(())).await;
    host.close().await;
    gateway.finish().await;
}
