//! Suites are reloaded like every other source: whole, or not at all.

use serde_json::json;

use super::{call, told, with_suite};
use crate::support::{Program, Setup, eventually, toolgate_in};

fn suite(name: &str) -> String {
    format!("id = 7\nname = \"{name}\"\n[[cases]]\nname = \"c\"\ntool = \"up:read\"\n")
}

#[tokio::test]
async fn a_faulty_suite_keeps_the_old_one() {
    let gateway = with_suite(Setup::new(), "a.toml", &suite("first")).start().await;
    let admin = gateway.client(&gateway.writer("admin").await);
    let name = async || told(&admin, "eval.testcase.list", &json!({"evaluationId": 7})).await["name"].clone();
    assert_eq!(name().await, "first");
    gateway.write("evals/a.toml", &suite("second"));
    eventually("the suite is reloaded", async || (name().await == "second").then_some(())).await;
    gateway.write("evals/a.toml", "id = 7\nname = \"third\"\n");
    gateway.write("evals/b.toml", "id = 8\nname = \"never\"\n[[cases]]\nname = \"c\"\ntool = \"up:read\"\n");
    // What comes after it is taken in, so the faulty one has been read.
    gateway.write("evals/a.toml", &suite("fourth"));
    eventually("the suites are reloaded", async || (name().await == "fourth").then_some(())).await;
    assert_eq!(call(&admin, "eval.testcase.list", &json!({"evaluationId": 8})).await.status, 200);
    gateway.finish().await;
}

#[tokio::test]
async fn the_program_says_what_is_wrong_with_a_suite() {
    let program = Program::start().await;
    program.ready().await;
    let folder = program.path("evals");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("a.toml"), "id = 7\nname = \"n\"\n\n[[cases]]\nnam = \"c\"\ntool = \"up:read\"\n")
        .unwrap();
    eventually("the fault is told", async || {
        let told = program.err().join("\n");
        (told.contains("evals/a.toml:5:1: unknown key `nam`") && told.contains("did you mean `name`?")).then_some(())
    })
    .await;
    let list = program.run(&["eval", "list", "--json"]).await;
    assert_eq!(list.json()["evaluations"][0]["id"], 42, "the old state stays: {list:?}");
    std::fs::write(folder.join("a.toml"), suite("mine")).unwrap();
    eventually("the suite is there", async || {
        let list = program.run(&["eval", "list", "--json"]).await;
        (list.json()["evaluations"][0]["id"] == 7).then_some(())
    })
    .await;
    let home = program.folder();
    program.stop().await;
    std::fs::write(folder.join("b.toml"), suite("other")).unwrap();
    let twice = toolgate_in(home.path(), &["eval", "list"], &[]).await;
    assert_eq!(twice.code, Some(1));
    assert!(twice.err.contains("`id` is 7 here and in `evals/a.toml`"), "{twice:?}");
}
