//! A run: every case a call of the principal on the one path, and what the score makes of it.

use std::time::Duration;

use serde_json::{Value, json};
use toolgate::gateway::EvalsCommand;
use toolgate::gateway::control::Command;

use super::{call, demo, failures, run, told, with_suite};
use crate::support::{FakeUpstream, Say, Setup, eventually, tool};

const SHIPPED: &str = include_str!("../../../evals/demo.toml");

async fn quality(client: &crate::support::Client, baseline: &str) -> Value {
    told(client, "eval.quality.latest", &json!({"evaluationId": 42, "baseline": baseline})).await
}

/// A backend is upgraded, its definitions stay as they were, and the suite tells.
#[tokio::test]
async fn an_upgrade_that_breaks_an_answer_is_a_regression() {
    let setup = with_suite(Setup::new().config(&demo(1)), "demo.toml", SHIPPED);
    let gateway = setup.start().await;
    let admin = gateway.client(&gateway.writer("admin").await);
    let before = run(&gateway, &admin, 42).await;
    assert_eq!(before["score"], 85, "{before}");
    let known = failures(&before);
    assert_eq!(
        known.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(),
        ["finds repositories by their language"]
    );
    let published =
        gateway.control(Command::Evals(EvalsCommand::Publish { run: before["id"].as_str().unwrap().into() })).await;
    assert_eq!(published["published"], before["id"]);
    assert_eq!(quality(&admin, "published").await["regressionDetected"], false);

    gateway.write("toolgate.toml", &demo(2));
    eventually("the second release answers", async || {
        let answer = admin.call("github:list_repos", &json!({"limit": 1})).await;
        (answer.text.contains("project-a") && !answer.text.contains("demo/project-a")).then_some(())
    })
    .await;
    let after = run(&gateway, &admin, 42).await;
    let failed = failures(&after);
    assert_eq!(
        failed,
        [
            (
                "lists the newest repository first".to_owned(),
                r#"/repositories/0/name: expected "demo/project-a", got "project-a""#.to_owned()
            ),
            (
                "lists as many repositories as it is asked for".to_owned(),
                r#"`$.repositories[*].name`: "demo/docs" is not among 3 values"#.to_owned()
            ),
            known[0].clone(),
        ]
    );
    let digest = |run: &Value| run["cases"][0]["toolDigest"].clone();
    assert_eq!(digest(&before), digest(&after), "the definition says nothing of it");
    let told = quality(&admin, "published").await;
    assert_eq!(
        (&told["score"], &told["baselineScore"], &told["regressionDetected"]),
        (&json!(55), &json!(85), &json!(true))
    );
    gateway.finish().await;
}

/// Every case is a call of whoever runs the suite: recorded, decided, with the run's request id.
#[tokio::test]
async fn each_case_has_a_record_of_its_own() {
    let gateway = with_suite(Setup::new().config(&demo(1)), "demo.toml", SHIPPED).start().await;
    let key = gateway.writer("admin").await;
    let admin = gateway.client(&key);
    let answer = call(&admin, "eval.run.create", &json!({"evaluationId": 42})).await;
    let outer = gateway.record(answer.header("toolgate-audit-id").unwrap()).await;
    let run =
        gateway.control(Command::Evals(EvalsCommand::Runs { suite: "Demo servers".into(), limit: 1 })).await["runs"][0]
            .clone();
    for case in run["cases"].as_array().unwrap() {
        let record = gateway.record(case["auditEventId"].as_str().unwrap()).await;
        assert_eq!((&record["request_id"], &record["key"]), (&outer["request_id"], &json!(key.id)), "{case}");
        assert_eq!((&record["entrance"], &record["decision"]), (&json!("rest"), &case["decision"]), "{case}");
        assert_eq!(record["parent"], outer["id"], "{case}");
    }
    let denied =
        run["cases"].as_array().unwrap().iter().find(|case| case["name"] == "refuses to drop a table").unwrap();
    assert_eq!(
        (&denied["passed"], &denied["decision"], &denied["policy"]),
        (&json!(true), &json!("deny"), &json!("block-sql-drop"))
    );
    gateway.finish().await;
}

/// One run may do no more than whoever runs it.
#[tokio::test]
async fn a_run_has_the_rights_of_whoever_runs_it() {
    let upstream = FakeUpstream::legacy().await;
    let suite = r#"
id = 7
name = "rights"
[[cases]]
name = "reads"
tool = "up:read"
[[cases]]
name = "writes"
tool = "up:write"
weight = 3
"#;
    let setup = with_suite(Setup::with(&upstream), "rights.toml", suite).profile(
        "narrow",
        "scopes = [\"evals:write\", \"evals:read\", \"tools:invoke\"]\nallowed_tools = [\"up:read\"]",
    );
    let gateway = setup.start().await;
    let narrow = gateway.client(&gateway.writer("narrow").await);
    let narrow = run(&gateway, &narrow, 7).await;
    assert_eq!(narrow["score"], 25);
    assert!(failures(&narrow)[0].1.contains("nknown tool `up:write`"), "{narrow}");
    let all = run(&gateway, &gateway.client(&gateway.writer("admin").await), 7).await;
    assert_eq!(all["score"], 100);
    gateway.finish().await;
}

#[tokio::test]
async fn an_environment_leads_to_other_servers() {
    let (dev, prod) = (FakeUpstream::legacy().await, FakeUpstream::legacy().await);
    dev.on_call(|_| Say::text("from dev"));
    prod.on_call(|_| Say::text("from prod"));
    let suite = r#"
id = 7
name = "places"
environments = { dev = { up = "up-dev" }, prod = {} }
[[cases]]
name = "says where it is"
tool = "up:read"
expect = { text_contains = "prod" }
"#;
    let setup = Setup::new().config(&dev.section("up-dev", "")).config(&prod.section("up", ""));
    let gateway = with_suite(setup, "places.toml", suite).start().await;
    let admin = gateway.client(&gateway.writer("admin").await);
    let score = async |environment: Value| {
        let mut arguments = json!({"evaluationId": 7});
        arguments.as_object_mut().unwrap().extend(environment.as_object().unwrap().clone());
        told(&admin, "eval.run.create", &arguments).await["score"].clone()
    };
    assert_eq!(score(json!({})).await, 100);
    assert_eq!(score(json!({"environment": "prod"})).await, 100);
    assert_eq!(score(json!({"environment": "dev"})).await, 0);
    let staging = call(&admin, "eval.run.create", &json!({"evaluationId": 7, "environment": "staging"})).await;
    assert_eq!(staging.error()["message"], "the evaluation 7 has no environment staging: it has dev, prod");
    // The last run in production is what the one in dev is held against.
    let told = told(&admin, "eval.quality.latest", &json!({"evaluationId": 7, "baseline": "production"})).await;
    assert_eq!(
        (&told["score"], &told["baselineScore"], &told["regressionDetected"]),
        (&json!(0), &json!(100), &json!(true))
    );
    gateway.finish().await;
}

/// A client that asks hears how far the run has come, in both eras.
#[tokio::test]
async fn progress_is_told_while_it_runs() {
    let gateway = with_suite(Setup::new().config(&demo(1)), "demo.toml", SHIPPED).start().await;
    let admin = gateway.client(&gateway.writer("admin").await);
    for client in [admin.legacy().await, admin.modern()] {
        let params =
            json!({"name": "eval_run_create", "arguments": {"evaluationId": 42}, "_meta": {"progressToken": "mine"}});
        let mut stream = client.request("tools/call", &params.to_string()).open().await;
        let (mut heard, mut result) = (Vec::new(), Value::Null);
        while let Some(data) = stream.data().await {
            match data["method"].as_str() {
                Some("notifications/progress") => heard.push(data["params"].clone()),
                _ => result = data["result"].clone(),
            }
        }
        assert_eq!(result["structuredContent"]["score"], 85);
        assert_eq!(heard.len(), 9);
        for (at, params) in heard.iter().enumerate() {
            let message = format!("Demo servers: {} of 9 cases", at + 1);
            assert_eq!(*params, json!({"progressToken": "mine", "progress": at + 1, "total": 9, "message": message}));
        }
    }
    gateway.finish().await;
}

/// A client that leaves ends the run and its calls, and every record is closed.
#[tokio::test]
async fn a_run_that_is_given_up_leaves_nothing_open() {
    let upstream = FakeUpstream::legacy().await;
    upstream.on_call(|_| Say::Hang);
    let cases: String = (0..8).map(|n| format!("[[cases]]\nname = \"{n}\"\ntool = \"up:write\"\n")).collect();
    let suite = format!("id = 7\nname = \"slow\"\nconcurrency = 3\n{cases}");
    let gateway = with_suite(Setup::with(&upstream), "slow.toml", &suite).start().await;
    let admin = gateway.client(&gateway.writer("admin").await);
    let params = json!({"name": "eval_run_create", "arguments": {"evaluationId": 7}});
    let stream =
        tokio::time::timeout(Duration::from_secs(1), admin.modern().request("tools/call", &params.to_string()).send());
    assert!(stream.await.is_err(), "it hangs");
    eventually("the calls are cancelled", async || {
        let records = gateway.records().await;
        let of = |tool: &str| {
            records.iter().filter(|record| record["tool"] == tool && record["outcome"] == "cancelled").count()
        };
        (of("write") == 3 && of("eval.run.create") == 1).then_some(())
    })
    .await;
    let runs = gateway.control(Command::Evals(EvalsCommand::Runs { suite: "7".into(), limit: 9 })).await;
    assert_eq!(runs["runs"], json!([]), "what was not finished has no score");
    gateway.finish().await;
}

/// A run is no lease: each case is called by whoever may call it then, under the policies of then.
#[tokio::test]
async fn every_case_is_a_call_of_its_own_moment() {
    let upstream = FakeUpstream::legacy().await;
    upstream.on_call(|_| Say::Held(Box::new(Say::text("done"))));
    let cases: String = (0..4).map(|n| format!("[[cases]]\nname = \"{n}\"\ntool = \"up:write\"\n")).collect();
    let suite = format!("id = 7\nname = \"slow\"\nconcurrency = 1\n{cases}");
    let gateway = with_suite(Setup::with(&upstream), "slow.toml", &suite).start().await;
    let runner = gateway.writer("operator").await;
    let admin = gateway.client(&gateway.writer("admin").await);
    for meanwhile in ["forbid", "revoke"] {
        upstream.forget();
        let client = gateway.client(&runner);
        let arguments = json!({"evaluationId": 7});
        let during = async {
            eventually("the first case is called", async || (upstream.calls().len() == 1).then_some(())).await;
            if meanwhile == "revoke" {
                gateway.control(Command::KeysRevoke { id: runner.id.clone() }).await;
            } else {
                let text = "@id(\"stop\") @reason(\"frozen\") forbid (principal, action == Toolgate::Action::\"up:write\", resource);";
                assert_eq!(admin.post("/v1/policies").json(&json!({"text": text})).send().await.status, 201);
            }
            upstream.release(1);
        };
        let (answer, ()) = tokio::join!(call(&client, "eval.run.create", &arguments), during);
        assert_eq!(answer.status, 200, "{}", answer.text);
        let runs = gateway.control(Command::Evals(EvalsCommand::Runs { suite: "7".into(), limit: 1 })).await;
        let failed = failures(&runs["runs"][0]);
        assert_eq!((upstream.calls().len(), failed.len()), (1, 3), "{meanwhile}: {runs}");
        let why = if meanwhile == "revoke" { "is not admitted any more: the case was not called" } else { "frozen" };
        assert!(failed.iter().all(|(_, reason)| reason.contains(why)), "{meanwhile}: {failed:?}");
        let thawed = admin.delete("/v1/policies/stop").send().await;
        assert_eq!(thawed.status, if meanwhile == "forbid" { 200 } else { 404 }, "{}", thawed.text);
    }
    gateway.finish().await;
}

/// A suite that would run suites runs none.
#[tokio::test]
async fn a_suite_runs_no_suites() {
    let suite = r#"
id = 7
name = "itself"
[[cases]]
name = "by name"
tool = "eval.run.create"
arguments = { evaluationId = 7 }
[[cases]]
name = "by another name"
tool = "toolgate/invoke_eval_run_create"
arguments = { evaluationId = 7 }
[[cases]]
name = "through invoke"
tool = "gateway_invoke"
arguments = { server = "toolgate", tool = "eval.run.create", arguments = { evaluationId = 7 } }
[[cases]]
name = "but it looks"
tool = "eval.testcase.list"
arguments = { evaluationId = 7 }
expect = { jsonpath = [{ path = "$.total", equals = 4 }] }
"#;
    let gateway = with_suite(Setup::new(), "itself.toml", suite).start().await;
    let admin = gateway.client(&gateway.writer("admin").await);
    let run = run(&gateway, &admin, 7).await;
    assert_eq!((&run["score"], failures(&run).len()), (&json!(25), 3));
    assert!(failures(&run).iter().all(|(_, why)| why == "a suite runs no suites: the case was not called"), "{run}");
    gateway.finish().await;
}

/// Limits hold for the cases of a run, and a run counts as one request.
#[tokio::test]
async fn limits_hold_inside_a_run() {
    let upstream = FakeUpstream::legacy().await;
    upstream.set_tools(json!([tool("read", &json!({"readOnlyHint": true}))]));
    let cases: String = (0..5).map(|n| format!("[[cases]]\nname = \"{n}\"\ntool = \"up:read\"\n")).collect();
    let suite = format!("id = 7\nname = \"many\"\nconcurrency = 1\n{cases}");
    let setup = Setup::new().config(&upstream.section("up", "[servers.up.tools.read]\nrate_limit = \"3/h\""));
    let gateway = with_suite(setup, "many.toml", &suite).start().await;
    let run = run(&gateway, &gateway.client(&gateway.writer("admin").await), 7).await;
    assert_eq!((&run["score"], &run["passed"], &run["failed"]), (&json!(60), &json!(3), &json!(2)));
    assert!(failures(&run)[0].1.contains("Over the limit of 3/h"), "{run}");
    gateway.finish().await;
}
