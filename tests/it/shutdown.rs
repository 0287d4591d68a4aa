//! The real program: how it starts, stops, and what survives its death.

use std::sync::Arc;

use serde_json::json;
use tempfile::TempDir;

use crate::support::{FakeUpstream, Program, Say, children_of, eventually, groups_alive, is_alive, toolgate_in};

fn folder() -> Arc<TempDir> {
    Arc::new(TempDir::new().unwrap())
}

/// A folder whose configuration has one scripted backend.
fn folder_with(upstream: &FakeUpstream) -> Arc<TempDir> {
    let folder = folder();
    std::fs::write(folder.path().join("toolgate.toml"), upstream.section("up", "")).unwrap();
    folder
}

#[tokio::test]
async fn the_first_start_shows_three_keys_once() {
    let program = Program::start().await;
    program.ready().await;
    let names: Vec<String> = program.keys().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["admin", "agent", "mcp_readonly"]);
    assert_eq!(program.out(), [format!("listening on http://{}", program.address)], "stdout holds one line");
    for name in ["admin", "agent", "mcp_readonly"] {
        assert_eq!(program.client(name).rpc("ping", &json!({})).await.status, 200, "{name}");
    }
    let agent = program.client("agent");
    let issue = agent.invoke("github", "create_issue", r#"{"repo":"demo/project-a","title":"It works"}"#).await;
    assert_eq!(issue.governance()["policy"], "allow-write-to-writers", "the agent key holds the role writer");
    approved_by_the_admin_key(&program).await;
    let readonly = program.client("mcp_readonly");
    assert_eq!(readonly.invoke("github", "list_repos", "{}").await.refused(), (200, -32602));
    let banner = program.err().join("\n");
    assert!(banner.contains("\"mcpServers\"") && banner.contains("mcp-remote"), "{banner}");
    assert!(banner.contains("curl -s http://"), "{banner}");
    assert!(banner.contains("no configuration file found"), "{banner}");
    let (folder, keys) = (program.folder(), program.keys());
    program.stop().await;
    let again = Program::start_in(folder, &[]).await;
    assert_eq!(again.keys(), [], "never again");
    let all = again.err().join("\n");
    assert!(keys.iter().all(|(_, key)| !all.contains(key)));
    let client = crate::support::Client::new(again.address, Some(&keys[0].1));
    assert_eq!(client.rpc("ping", &json!({})).await.status, 200, "the keys go on");
    again.stop().await;
}

/// The keys of the first start are enough to have a call approved: who asks is another user than who approves.
async fn approved_by_the_admin_key(program: &Program) {
    let (agent, admin) = (program.client("agent"), program.client("admin"));
    let delete = async |client: &crate::support::Client| {
        client.invoke("database", "execute", r#"{"sql":"delete from invoices where id = 3"}"#).await
    };
    let id = async |client| {
        let refused = delete(client).await;
        assert_eq!(refused.denied(), "approval_required");
        let approval = &refused.result()["structuredContent"]["error"]["approval"];
        approval["id"].as_str().unwrap().to_owned()
    };
    let approve = async |id: &str| admin.post(&format!("/v1/approvals/{id}/approve")).send().await;
    let asked = id(&agent).await;
    assert_eq!(approve(&asked).await.status, 200);
    assert_eq!(delete(&agent).await.governance()["policy"], "destructive-needs-approval");
    let own = id(&admin).await;
    let refused = approve(&own).await;
    assert!(refused.status == 403 && refused.text.contains("toolgate approvals approve ID"), "{}", refused.text);
    // Who may only look is a user of its own, and is shown nothing of either.
    let looking = program.client("mcp_readonly");
    let page = looking.get("/v1/approvals").send().await;
    assert!(page.status == 200 && !page.text.contains("apr_"), "{}", page.text);
    let page = admin.get("/v1/approvals").send().await;
    assert!(page.text.contains(&own) && page.text.contains(&asked), "{}", page.text);
    for id in [&own, &asked] {
        assert_eq!(looking.get(&format!("/v1/approvals/{id}")).send().await.status, 404);
    }
}

#[tokio::test]
async fn the_environment_may_set_the_admin_key() {
    let key = "correct-horse-battery-staple-0123456789";
    let program = Program::start_in(folder(), &[("TOOLGATE_ADMIN_KEY", key)]).await;
    let names: Vec<String> = program.keys().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["agent", "mcp_readonly"]);
    let admin = crate::support::Client::new(program.address, Some(key));
    assert_eq!(admin.get("/v1/beta/users/x/keys").send().await.status, 200);
    assert!(!program.err().join("\n").contains(key), "nor is it printed");
    program.stop().await;
    for weak in ["short", "0123456789012345678901234567890", &"a".repeat(64)] {
        let place = folder();
        let ended =
            toolgate_in(place.path(), &["serve", "--listen", "127.0.0.1:0"], &[("TOOLGATE_ADMIN_KEY", weak)]).await;
        assert_eq!(ended.code, Some(1), "{weak}");
        assert!(ended.err.contains("TOOLGATE_ADMIN_KEY") && !ended.err.contains(weak), "{}", ended.err);
    }
}

/// What keeps a server from starting says so, and costs nobody the keys of the first start.
#[tokio::test]
async fn a_failed_start_says_why_and_costs_no_keys() {
    let place = folder();
    let start = async |arguments: &[&str]| toolgate_in(place.path(), &[&["serve"], arguments].concat(), &[]).await;
    let open = start(&["--listen", "0.0.0.0:0"]).await;
    assert_eq!(open.code, Some(1));
    assert!(open.err.contains("allowed_hosts"), "{}", open.err);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let busy = start(&["--listen", &taken.local_addr().unwrap().to_string()]).await;
    assert_eq!(busy.code, Some(1));
    assert!(busy.err.contains("cannot listen on"), "{}", busy.err);
    for (name, text) in [
        ("toolgate.toml", "[gateway]\nnope = 1\n"),
        ("profiles.toml", "[profiles.x]\nscopes = [\"nope\"]\n"),
        ("policies/x.cedar", "permit (nonsense);"),
    ] {
        let path = place.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        let faulty = start(&["--listen", "127.0.0.1:0"]).await;
        assert_eq!((faulty.code, faulty.out.as_str()), (Some(1), ""), "{name}");
        assert!(faulty.err.contains(name) && !faulty.err.contains("key (shown this once)"), "{name}: {}", faulty.err);
        std::fs::remove_file(&path).unwrap();
    }
    std::fs::remove_dir(place.path().join("policies")).unwrap();
    let missing = start(&["--listen", "127.0.0.1:0", "--config", "nowhere.toml"]).await;
    assert_eq!(missing.code, Some(1), "a file that was named must be there");
    let program = Program::start_in(place, &[]).await;
    assert_eq!(program.keys().len(), 3, "the first start that works shows them: {:?}", program.err());
    program.stop().await;
}

#[tokio::test]
async fn two_servers_do_not_share_a_folder() {
    let program = Program::start().await;
    let second = program.run(&["serve", "--listen", "127.0.0.1:0"]).await;
    assert_eq!((second.code, second.out.as_str()), (Some(1), ""));
    assert!(second.err.contains("in use by another toolgate"), "{}", second.err);
    assert_eq!(program.client("agent").rpc("ping", &json!({})).await.status, 200, "the first goes on");
    program.stop().await;
}

#[tokio::test]
async fn stopping_lets_calls_in_flight_end() {
    let upstream = FakeUpstream::legacy().await;
    upstream.on_call(|_| Say::Held(Box::new(Say::text("at last"))));
    let program = Program::start_in(folder_with(&upstream), &[]).await;
    program.ready().await;
    let client = program.client("agent");
    let stopping = async {
        eventually("the call is in flight", async || (upstream.calls().len() == 1).then_some(())).await;
        program.signal("TERM");
        eventually("it stops", async || program.err().iter().any(|line| line.contains("stopping")).then_some(())).await;
        let late = crate::support::raw_status(program.address, "/healthz").await;
        assert_ne!(late, Some(200), "no new connection is served");
        upstream.release(1);
    };
    let (answer, ()) = tokio::join!(client.invoke("up", "write", "{}"), stopping);
    assert_eq!(answer.told(), "at last");
    let place = program.folder();
    assert_eq!(program.ended().await, Some(0));
    let tail = toolgate_in(place.path(), &["audit", "tail", "-n", "1", "--json"], &[]).await.json();
    assert_eq!(
        (tail["records"][0]["tool"].clone(), tail["records"][0]["outcome"].clone()),
        (json!("write"), json!("answered"))
    );
}

/// Whoever asks twice means at once: calls in flight are given up, and found at the next start.
#[tokio::test]
async fn a_second_signal_ends_the_process_at_once() {
    let upstream = FakeUpstream::legacy().await;
    upstream.on_call(|_| Say::Hang);
    let folder = folder();
    let config =
        format!("[gateway]\ndrain = \"10m\"\n{}timeout = \"10m\"\nmax_timeout = \"10m\"\n", upstream.section("up", ""));
    std::fs::write(folder.path().join("toolgate.toml"), config).unwrap();
    let program = Program::start_in(Arc::clone(&folder), &[]).await;
    program.ready().await;
    let client = program.client("agent");
    let asking = async {
        eventually("the call is in flight", async || (upstream.calls().len() == 1).then_some(())).await;
        program.signal("TERM");
        eventually("it stops", async || program.err().iter().any(|line| line.contains("stopping")).then_some(())).await;
        program.signal("TERM");
        eventually("it says so", async || {
            program.err().iter().any(|line| line.contains("stopped at once")).then_some(())
        })
        .await;
    };
    let call = client.request("tools/call", &crate::support::invoke_params("up", "write", "{}"));
    let (answer, ()) = tokio::join!(call.try_send(), asking);
    assert!(answer.is_none(), "nobody answers");
    assert_eq!(program.ended().await, Some(1));
    let tail = toolgate_in(folder.path(), &["audit", "tail", "-n", "1", "--json"], &[]).await.json();
    assert_eq!(tail["records"][0]["outcome"], "interrupted");
}

#[tokio::test]
async fn stopping_leaves_no_process_behind() {
    for signal in ["TERM", "INT"] {
        let program = Program::start().await;
        program.ready().await;
        let children = program.children();
        assert_eq!(children.len(), 2, "the demo servers");
        let grandchildren: Vec<u32> = children.iter().flat_map(|child| children_of(*child)).collect();
        program.signal(signal);
        assert_eq!(program.ended().await, Some(0), "{signal}");
        for id in children.iter().chain(&grandchildren) {
            assert!(!is_alive(*id), "{signal}: process {id} is still there");
        }
        assert!(groups_alive(&children).is_empty(), "{signal}: somebody is left in a group");
    }
}

/// Killed in the middle of a call: what it had begun is found, closed and named at the next start.
#[tokio::test]
async fn a_killed_server_leaves_a_whole_log() {
    let upstream = FakeUpstream::legacy().await;
    let program = Program::start_in(folder_with(&upstream), &[]).await;
    program.ready().await;
    let (client, place) = (program.client("agent"), program.folder());
    let mut answered = Vec::new();
    for _ in 0..20 {
        answered.push(client.invoke("up", "write", "{}").await.header("toolgate-audit-id").unwrap().to_owned());
    }
    upstream.on_call(|_| Say::Hang);
    let killing = async {
        eventually("a call is in flight", async || (upstream.calls().len() == 21).then_some(())).await;
        program.signal("KILL");
    };
    let call = client.request("tools/call", &crate::support::invoke_params("up", "write", "{}"));
    let (failed, ()) = tokio::join!(call.try_send(), killing);
    assert!(failed.is_none(), "nobody answers");
    program.ended().await;
    let again = Program::start_in(Arc::clone(&place), &[]).await;
    let verified = again.run(&["audit", "verify", "--json"]).await;
    assert_eq!((verified.code, verified.json()["holds"].clone()), (Some(0), json!(true)));
    let export = again.run(&["audit", "export"]).await;
    let records: Vec<serde_json::Value> = export.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for id in answered {
        assert!(
            records.iter().any(|record| record["id"] == id && record["outcome"] == "answered"),
            "{id} was answered"
        );
    }
    let interrupted: Vec<_> = records.iter().filter(|record| record["outcome"] == "interrupted").collect();
    assert_eq!(interrupted.len(), 1);
    assert_eq!(interrupted[0]["tool"], "write");
    again.stop().await;
}

/// The children of a killed server notice that nobody is there any more.
#[tokio::test]
async fn children_do_not_outlive_a_killed_server() {
    let program = Program::start().await;
    program.ready().await;
    let children = program.children();
    program.signal("KILL");
    program.ended().await;
    eventually("the children end", async || children.iter().all(|id| !is_alive(*id)).then_some(())).await;
}
