//! Who sees what, what odd questions come to, and the same at the command line.

use serde_json::json;

use super::{GET, LIST, audit_id, ids, listed, of_user, operator, structure};
use crate::support::{FakeUpstream, Program, Setup, toolgate_in};

#[tokio::test]
async fn who_may_not_read_the_log_sees_its_own_users_calls() {
    let upstream = FakeUpstream::legacy().await;
    let gateway = Setup::with(&upstream)
        .profile("looker", "scopes = [\"tools:read\", \"tools:invoke\", \"traces:read\"]\nallowed_tools = [\"*\"]")
        .start()
        .await;
    let ada = gateway.client(&gateway.create(of_user("ada", "looker")).await);
    let bob = gateway.client(&gateway.create(of_user("bob", "looker")).await);
    let hers = audit_id(&ada.invoke("up", "read", "{}").await);
    let his = audit_id(&bob.invoke("up", "read", "{}").await);
    assert_eq!(ids(&listed(&ada, &json!({"server": "up"})).await), std::slice::from_ref(&hers));
    assert_eq!(ids(&listed(&bob, &json!({"server": "up"})).await), std::slice::from_ref(&his));
    let all = operator(&gateway).await;
    assert_eq!(ids(&listed(&all, &json!({"server": "up"})).await), [his.clone(), hers.clone()]);
    assert_eq!(structure(&ada.call(GET, &json!({"id": hers})).await)["execution"]["user"], "ada");
    // Another's is like none.
    let other = ada.call(GET, &json!({"id": his})).await;
    let none = ada.call(GET, &json!({"id": "evt_0"})).await;
    assert_eq!((other.denied().as_str(), none.denied().as_str()), ("not_found", "not_found"));
    assert_eq!(other.told().replace(&his, "X"), none.told().replace("evt_0", "X"));
    // Nor does a filter find out.
    for arguments in [json!({"key": "key_x"}), json!({"tool": "up:read", "agent": "bob"})] {
        assert!(listed(&ada, &arguments).await.is_empty());
    }
    gateway.finish().await;
}

/// A call that goes by the id of a trace stands with it, for whoever may see whose it is.
#[tokio::test]
async fn traces_that_clients_bring_stand_at_their_calls() {
    let upstream = FakeUpstream::legacy().await;
    let scopes =
        "scopes = [\"tools:read\", \"tools:invoke\", \"traces:read\", \"traces:write\"]\nallowed_tools = [\"*\"]";
    let gateway = Setup::with(&upstream).profile("traces", scopes).start().await;
    let ada = gateway.client(&gateway.create(of_user("ada", "traces")).await);
    let bob = gateway.client(&gateway.create(of_user("bob", "traces")).await);
    let brought =
        structure(&ada.call("eval.trace.create", &json!({"name": "checkout", "metadata": {"cart": 7}})).await);
    let id = brought["traceId"].as_str().unwrap();
    let meta = json!({"traceparent": format!("00-{id}-b7ad6b7169203331-01")});
    let params = json!({"name": "up:read", "arguments": {}, "_meta": meta});
    let hers = audit_id(&ada.rpc("tools/call", &params).await);
    let shown = ada.call(GET, &json!({"id": hers})).await;
    let trace = &structure(&shown)["tree"]["trace"];
    assert_eq!(
        (&trace["id"], &trace["name"], &trace["user"], &trace["metadata"], &trace["time"]),
        (&json!(id), &json!("checkout"), &json!("ada"), &json!({"cart": 7}), &brought["createdAt"])
    );
    assert!(shown.told().starts_with(&format!("trace checkout {id} of ")), "{}", shown.told());
    // Whoever learns the id does not learn what was brought under it.
    let his = audit_id(&bob.rpc("tools/call", &params).await);
    assert_eq!(structure(&bob.call(GET, &json!({"id": his})).await)["tree"].get("trace"), None);
    let all = operator(&gateway).await;
    for call in [&hers, &his] {
        assert_eq!(structure(&all.call(GET, &json!({"id": call})).await)["tree"]["trace"], *trace, "{call}");
    }
    // By its id it is told whether calls went by it or not.
    let by_id = json!({"trace_id": id.to_uppercase(), "server": "nowhere"});
    assert_eq!(structure(&ada.call(LIST, &by_id).await)["trace"], *trace);
    assert_eq!(structure(&bob.call(LIST, &by_id).await).get("trace"), None);
    let plain = audit_id(&ada.invoke("up", "read", "{}").await);
    assert_eq!(structure(&ada.call(GET, &json!({"id": plain})).await)["tree"].get("trace"), None);
    gateway.finish().await;
}

#[tokio::test]
async fn without_the_scope_there_is_no_such_tool() {
    let gateway = Setup::new().start().await;
    let agent = gateway.agent().await;
    for tool in [LIST, GET, "observability.summary"] {
        let answer = agent.call(tool, &json!({"id": "evt_0"})).await;
        let nothing = agent.call("executions.nonsense", &json!({})).await;
        assert_eq!(answer.refused(), nothing.refused(), "{tool}");
    }
    // The profile for looking has the scopes, and no other.
    let looking = gateway.client(&gateway.key("mcp_readonly").await);
    assert!(!looking.tools().await.iter().any(|name| name.starts_with("executions")), "not listed by default");
    assert!(structure(&looking.call(LIST, &json!({})).await)["executions"].is_array());
    assert!(structure(&looking.call("observability.summary", &json!({})).await)["total"].is_object());
    gateway.finish().await;
}

#[tokio::test]
async fn odd_arguments_are_told_and_do_no_harm() {
    let gateway = Setup::new().start().await;
    let client = operator(&gateway).await;
    for arguments in [
        json!({"limit": 0}),
        json!({"limit": 101}),
        json!({"limit": "all"}),
        json!({"decision": "maybe"}),
        json!({"outcome": ""}),
        json!({"min_latency_ms": -1}),
        json!({"min_latency_ms": 1e300}),
        json!({"since": "soon"}),
        json!({"until": "99999999999999999999d"}),
        json!({"since": 5}),
        json!({"cursor": "' OR 1=1 --"}),
        json!({"cursor": "ZXhlY3V0aW9ucwo5OTk5OTk5OTk5OTk5OTk5OTk5OTk"}),
        json!({"agent": "x".repeat(600)}),
        json!({"server": ["up"]}),
        json!({"nonsense": true}),
        json!([]),
    ] {
        let answer = client.call(LIST, &arguments).await;
        assert!(
            answer.json()["error"].is_object() || answer.result()["isError"] == true,
            "{arguments}: {}",
            answer.text
        );
    }
    for arguments in [json!({}), json!({"id": 7}), json!({"id": "x".repeat(600)}), json!({"id": "evt_0", "x": 1})] {
        let answer = client.call(GET, &arguments).await;
        assert!(answer.json()["error"].is_object() || answer.result()["isError"] == true, "{arguments}");
    }
    for id in ["", "'; DROP TABLE audit; --", "%", "evt_\u{0}", "\u{202e}"] {
        assert_eq!(client.call(GET, &json!({"id": id})).await.denied(), "not_found", "{id:?}");
    }
    assert!(!listed(&client, &json!({"server": "toolgate", "limit": 100})).await.is_empty(), "all of it is recorded");
    gateway.finish().await;
}

#[tokio::test]
async fn the_command_line_lists_and_shows() {
    let program = Program::start().await;
    program.ready().await;
    let client = program.client("agent");
    client.invoke("github", "list_repos", "{}").await;
    client.invoke("database", "execute", r#"{"sql":"drop table customers"}"#).await;
    let table = program.run(&["executions", "list"]).await;
    assert!(table.code == Some(0) && table.out.contains("github:list_repos"), "{table:?}");
    assert!(table.out.contains("block-sql-drop") && table.out.trim_start().starts_with("TIME"), "{table:?}");
    let found = program.run(&["executions", "list", "--decision", "deny", "--json"]).await.json();
    let id = found["executions"][0]["id"].as_str().unwrap().to_owned();
    let shown = program.run(&["executions", "show", &id]).await;
    assert!(shown.code == Some(0) && shown.out.starts_with("call database:execute"), "{shown:?}");
    assert_eq!(program.run(&["executions", "show", &id, "--json"]).await.json()["execution"]["id"], id.as_str());
    let page = program.run(&["executions", "list", "-n", "1"]).await;
    assert!(page.err.contains("--cursor"), "{page:?}");
    for wrong in [
        &["executions", "show", "evt_none"][..],
        &["executions", "list", "--since", "soon"],
        &["executions", "list", "--decision", "maybe"],
        &["executions", "list", "-n", "0"],
    ] {
        let ended = program.run(wrong).await;
        assert!(ended.code == Some(1) && ended.err.starts_with("error: ") && ended.out.is_empty(), "{ended:?}");
    }
    let stats = program.run(&["stats"]).await;
    assert!(stats.code == Some(0) && stats.out.contains("database:execute"), "{stats:?}");
    let stats = program.run(&["stats", "--window", "15m", "--server", "github", "--json"]).await.json();
    assert_eq!((stats["total"]["calls"].clone(), stats["window"].clone()), (json!(1), json!("15m")));
    assert_eq!(program.run(&["stats", "--window", "1y"]).await.code, Some(1));
    let folder = program.folder();
    program.stop().await;
    let offline = toolgate_in(folder.path(), &["executions", "list", "--server", "github", "--json"], &[]).await;
    assert_eq!(offline.json()["executions"].as_array().unwrap().len(), 1, "{offline:?}");
}
