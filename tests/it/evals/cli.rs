//! `toolgate eval`, with and without a server.

use std::path::Path;

use serde_json::json;
use tempfile::TempDir;
use toolgate::gateway::EvalsCommand;
use toolgate::gateway::control::Command;

use super::{demo, with_suite};
use crate::support::{Client, Program, Setup, eventually, toolgate_in};

/// A suite that passes whole, and one case more that does not.
fn suite(more: &str) -> String {
    format!(
        "id = 7\nname = \"small\"\n[[cases]]\nname = \"lists\"\ntool = \"github:list_repos\"\n\
         expect = {{ jsonpath = [{{ path = \"$.repositories[0].name\", equals = \"demo/project-a\" }}] }}\n{more}"
    )
}

const GAP: &str = "[[cases]]\nname = \"gap\"\ntool = \"github:nothing\"\nweight = 4\n";

fn put(folder: &Path, name: &str, text: &str) {
    let path = folder.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

/// From the first run to a regression, and every exit code on the way.
#[tokio::test]
async fn runs_are_compared_and_the_exit_code_says_how() {
    let folder = TempDir::new().unwrap();
    put(folder.path(), "toolgate.toml", &demo(1));
    put(folder.path(), "evals/small.toml", &suite(""));
    let run = async |arguments: &[&str]| toolgate_in(folder.path(), &[&["eval"], arguments].concat(), &[]).await;
    let good = run(&["run", "7"]).await;
    assert_eq!(good.code, Some(0), "{good:?}");
    assert!(good.out.starts_with("small (7): score 100, 1 of 1 cases passed"), "{good:?}");
    let first = run(&["run", "small", "--baseline", "published", "--json"]).await;
    assert_eq!((first.code, &first.json()["comparison"]), (Some(0), &json!(null)), "nothing is published yet");
    let id = first.json()["run"]["id"].as_str().unwrap().to_owned();
    assert_eq!(run(&["publish", &id]).await.code, Some(0));
    let nobody = run(&["publish", "run_nothing"]).await;
    assert!(nobody.code == Some(1) && nobody.err.contains("there is no run `run_nothing`"), "{nobody:?}");
    // A case that fails and is new is no regression, and not good.
    put(folder.path(), "evals/small.toml", &suite(GAP));
    let gap = run(&["run", "7"]).await;
    assert_eq!(gap.code, Some(2), "{gap:?}");
    assert!(gap.out.contains("failed: gap (github:nothing)"), "{gap:?}");
    assert_eq!(run(&["run", "7", "--baseline", "previous"]).await.code, Some(0), "it failed before");
    let tolerant = suite(&(GAP.to_owned() + &GAP.replace("gap", "new"))).replacen('\n', "\ntolerance = 50\n", 1);
    put(folder.path(), "evals/small.toml", &tolerant);
    let new = run(&["run", "7", "--baseline", "previous"]).await;
    assert_eq!(new.code, Some(2), "{new:?}");
    assert!(new.out.ends_with("no regression, but a new case fails\n"), "{new:?}");
    put(folder.path(), "evals/small.toml", &suite(GAP));
    // An upgrade of the backend.
    put(folder.path(), "toolgate.toml", &demo(2));
    let worse = run(&["run", "7", "--baseline", "published", "--junit", "out.xml"]).await;
    assert_eq!(worse.code, Some(2), "{worse:?}");
    for line in
        [&format!("against {id}, score 100:"), "newly failing: lists", "failing, and new: gap", "this is a regression"]
    {
        assert!(worse.out.contains(line), "{line}: {worse:?}");
    }
    let xml = std::fs::read_to_string(folder.path().join("out.xml")).unwrap();
    let report = quick_junit::Report::deserialize_from_str(&xml).unwrap();
    assert_eq!((report.tests, report.failures, report.test_suites.len()), (2, 2, 1));
    assert!(xml.contains("&quot;demo/project-a&quot;") || xml.contains("demo/project-a"), "{xml}");
    let runs = run(&["runs", "7", "--json"]).await.json()["runs"].clone();
    let scores: Vec<_> = runs.as_array().unwrap().iter().map(|run| run["score"].clone()).collect();
    assert_eq!(scores, [json!(0), json!(11.1), json!(20), json!(20), json!(100), json!(100)]);
    let published: Vec<_> = runs.as_array().unwrap().iter().map(|run| run["publishedAt"].is_string()).collect();
    assert_eq!(published, [false, false, false, false, true, false]);
    for wrong in [
        &["run", "8"][..],
        &["run", "7", "--baseline", "best"],
        &["run", "7", "--env", "mars"],
        &["run", "7", "--junit", "/nowhere/at/all.xml"],
        &["run"],
    ] {
        let ended = run(wrong).await;
        assert!(ended.code == Some(1) && !ended.err.is_empty(), "{wrong:?}: {ended:?}");
    }
}

/// The calls that a run makes count like those of clients, once each.
#[tokio::test]
async fn the_calls_of_a_run_are_counted() {
    let program = Program::start().await;
    program.ready().await;
    let counted = async |server: &str| {
        let metrics = Client::new(program.address, None).get("/metrics").send().await.text;
        let label = format!("server=\"{server}\"");
        let lines =
            metrics.lines().filter(|line| line.starts_with("toolgate_tool_calls_total{") && line.contains(&label));
        lines.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum::<u64>()
    };
    assert_eq!((counted("github").await, counted("toolgate").await), (0, 0));
    assert_eq!(program.run(&["eval", "run", "42"]).await.code, Some(2), "one case fails as ever");
    assert_eq!(counted("github").await + counted("database").await, 9);
    assert_eq!(counted("toolgate").await, 1);
    program.stop().await;
}

/// Whoever may make suites over REST neither stops the pipeline of the owner nor has their calls made by it.
#[tokio::test]
async fn a_suite_of_the_api_takes_nobodys_place() {
    let gateway = with_suite(Setup::new(), "small.toml", "id = 7\nname = \"Nightly\"\n[[cases]]\nname = \"c\"\ntool = \"eval.testcase.list\"\narguments = { evaluationId = 7 }\n").start().await;
    let key = gateway.writer("operator").await;
    let operator = gateway.client(&key);
    let make = async |client: &Client, id: u64, name: &str| {
        let case = json!({"name": "traces", "tool": "eval.trace.create", "arguments": {"name": "mine"}});
        let made = client.post("/v1/evals").json(&json!({"id": id, "name": name, "cases": [case]})).send().await;
        let error = if made.status == 201 { json!("") } else { made.error()["message"].clone() };
        (made.status, error.as_str().unwrap().to_owned())
    };
    let taken = "the evaluation 7 is named `Nightly`: give this one another name";
    assert_eq!(make(&operator, 8, "Nightly").await, (409, taken.into()));
    assert_eq!(make(&operator, 8, "7").await, (400, "/name: `name` must not read as the id of a suite".into()));
    assert_eq!(make(&operator, 8, "Weekly").await, (201, String::new()));
    assert_eq!(make(&operator, 9, "Weekly").await.0, 409);
    let denied = make(&gateway.client(&gateway.key("operator").await), 9, "Other").await;
    assert!(denied.0 == 403 && denied.1.contains("default-deny"), "{denied:?}");
    let run = async |suite: &str, author: Option<&str>| {
        let command = EvalsCommand::Run {
            suite: suite.into(),
            environment: None,
            baseline: None,
            junit: false,
            ticket: "t".into(),
            author: author.map(str::to_owned),
        };
        gateway.gateway.control(Command::Evals(command)).await.map_err(|failed| failed.to_string())
    };
    for named in ["Nightly", "7"] {
        assert_eq!(run(named, None).await.unwrap()["run"]["score"], 100, "{named}");
    }
    for wrong in [None, Some("key_another")] {
        let refused = run("Weekly", wrong).await.unwrap_err();
        let asks = format!("`--author {}`", key.id);
        assert!(refused.contains("was made over REST by") && refused.contains(&asks), "{refused}");
    }
    let refused = run("7", Some(&key.id)).await.unwrap_err();
    assert!(refused.contains("stands in a file and has no author"), "{refused}");
    assert_eq!(run("Weekly", Some(&key.id)).await.unwrap()["run"]["score"], 100);
    // A file that goes leaves its runs, and nobody else becomes their suite.
    std::fs::remove_file(gateway.file("evals/small.toml")).unwrap();
    gateway.write("evals/other.toml", "id = 10\nname = \"other\"\n[[cases]]\nname = \"c\"\ntool = \"up:read\"\n");
    eventually("the file is gone", async || (operator.get("/v1/evals/7").send().await.status == 404).then_some(()))
        .await;
    let (status, why) = make(&operator, 7, "Nightly").await;
    assert!(status == 409 && why.contains("runs of an evaluation 7 are kept"), "{why}");
    let removed = gateway.control(Command::Evals(EvalsCommand::Remove { suite: "7".into() })).await;
    assert_eq!(removed, json!({"removed": 7}));
    assert_eq!(make(&operator, 7, "Nightly").await.0, 201);
    let other = gateway.client(&gateway.writer("operator").await);
    let foreign = other.delete("/v1/evals/8").send().await;
    assert_eq!((foreign.status, &foreign.error()["code"]), (403, &json!("policy_denied")), "{}", foreign.text);
    for (client, id, status) in [(&operator, 10, 409), (&operator, 8, 200), (&operator, 8, 404)] {
        assert_eq!(client.delete(&format!("/v1/evals/{id}")).send().await.status, status, "{id}");
    }
    let admin = gateway.client(&gateway.writer("admin").await);
    assert_eq!(admin.delete("/v1/evals/7").send().await.status, 200);
    assert_eq!(admin.get("/v1/evals/7/runs").send().await.status, 404);
    gateway.finish().await;
}

#[tokio::test]
async fn a_running_server_answers_the_same() {
    let program = Program::start().await;
    program.ready().await;
    let list = program.run(&["eval", "list"]).await;
    assert!(list.code == Some(0) && list.out.contains("Demo servers") && list.out.contains("85"), "{list:?}");
    let run = program.run(&["eval", "run", "42", "--baseline", "published"]).await;
    assert_eq!(run.code, Some(0), "{run:?}");
    for line in
        ["fixed: refuses to drop a table", "failing as before: finds repositories by their language", "no regression"]
    {
        assert!(run.out.contains(line), "{line}: {run:?}");
    }
    assert!(run.err.is_empty(), "no bar where there is no terminal: {run:?}");
    let bare = program.run(&["eval", "run", "42", "--json"]).await;
    assert_eq!((bare.code, &bare.json()["run"]["score"]), (Some(2), &json!(85)));
    let tail = program.run(&["audit", "tail", "-n", "100", "--json"]).await.json()["records"].clone();
    let of = |tool: &str| tail.as_array().unwrap().iter().filter(|record| record["tool"] == tool).count();
    assert_eq!((of("eval.run.create"), of("list_repos"), of("execute")), (2, 8, 2));
    let first =
        program.run(&["eval", "runs", "42", "--json"]).await.json()["runs"][3]["id"].as_str().unwrap().to_owned();
    assert_eq!(program.run(&["eval", "publish", &first]).await.code, Some(0));
    let tail = program.run(&["audit", "tail", "-n", "100", "--json"]).await.out;
    assert!(tail.contains("evals.publish") && tail.contains(&format!("run {first}")), "{tail}");
    program.stop().await;
}
