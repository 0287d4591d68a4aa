//! Files that come and go while the program runs.

use std::path::Path;
use std::sync::Arc;

use serde_json::json;
use tempfile::TempDir;

use crate::support::{Client, Program, eventually};

const OPEN: &str = "@id(\"open\")\npermit (principal, action, resource);\n";
const CLOSED: &str = "@id(\"closed\")\nforbid (principal, action, resource);\n";

async fn started(policies: &[(&str, &str)]) -> (Arc<TempDir>, Program, Client) {
    let folder = Arc::new(TempDir::new().unwrap());
    for (name, text) in policies {
        put(folder.path(), name, text);
    }
    let program = Program::start_in(Arc::clone(&folder), &[]).await;
    program.ready().await;
    let client = program.client("agent");
    (folder, program, client)
}

fn put(folder: &Path, name: &str, text: &str) {
    std::fs::create_dir_all(folder.join("policies")).unwrap();
    std::fs::write(folder.join("policies").join(name), text).unwrap();
}

async fn decision(client: &Client) -> String {
    client.simulate(&json!({"action": "github:list_repos"})).await["decision"].as_str().unwrap().to_owned()
}

async fn becomes(client: &Client, wanted: &str) {
    eventually(wanted, async || (decision(client).await == wanted).then_some(())).await;
}

/// A folder that vanishes is a fault, not a wish for what ships.
#[tokio::test]
async fn vanished_policies_open_nothing() {
    let (folder, program, client) = started(&[("closed.cedar", CLOSED)]).await;
    assert_eq!(decision(&client).await, "deny");
    std::fs::rename(folder.path().join("policies"), folder.path().join("elsewhere")).unwrap();
    eventually("the change is noticed", async || {
        program.err().iter().any(|line| line.contains("refused") || line.contains("reloaded")).then_some(())
    })
    .await;
    assert_eq!(decision(&client).await, "deny", "{:?}", program.err());
    program.stop().await;
}

/// A folder that is made later is followed like one that was there.
#[tokio::test]
async fn policies_that_come_later_are_followed() {
    let (folder, program, client) = started(&[]).await;
    assert_eq!(decision(&client).await, "allow", "what ships");
    put(folder.path(), "closed.cedar", CLOSED);
    becomes(&client, "deny").await;
    // Nothing is permitted any more, which is said once, and the doctor says it too.
    let warned = || program.err().iter().filter(|line| line.contains("permitted to nobody now")).count();
    eventually("a word about it", async || (warned() == 1).then_some(())).await;
    let doctor = program.run(&["doctor"]).await;
    assert!(doctor.out.contains("5 tools, 5 of which nobody may call"), "{doctor:?}");
    put(folder.path(), "closed.cedar", OPEN);
    becomes(&client, "allow").await;
    assert_eq!(warned(), 1);
    put(folder.path(), "more.cedar", CLOSED);
    becomes(&client, "deny").await;
    program.stop().await;
}

/// `policy check` is about the files, whether a server runs or not.
#[tokio::test]
async fn a_check_beside_a_server_reads_the_files() {
    let (folder, program, _) = started(&[("open.cedar", OPEN)]).await;
    assert_eq!(program.run(&["policy", "check"]).await.code, Some(0));
    put(folder.path(), "bad.cedar", "@id(\"bad\")\nforbid (principal, action, resource) when { context.nonsense };\n");
    let check = program.run(&["policy", "check"]).await;
    assert!(check.code == Some(1) && check.out.contains("bad.cedar:2"), "{check:?}");
    program.stop().await;
}

/// Once a change is said to be active, the very next request sees it.
#[tokio::test]
async fn the_next_request_after_a_reload_sees_the_new_state() {
    let (folder, program, client) = started(&[("all.cedar", OPEN)]).await;
    let reloads = || program.err().iter().filter(|line| line.contains("the configuration was reloaded")).count();
    for (round, (text, wanted)) in [(CLOSED, "deny"), (OPEN, "allow"), (CLOSED, "deny")].into_iter().enumerate() {
        put(folder.path(), "all.cedar", text);
        eventually("the change is active", async || (reloads() > round).then_some(())).await;
        assert_eq!(decision(&client).await, wanted);
    }
    program.stop().await;
}
