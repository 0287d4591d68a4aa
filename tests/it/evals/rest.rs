//! `/v1/evals`: suites over the API, their runs and their quality.

use serde_json::{Value, json};
use toolgate::domain::approval::Decision;
use toolgate::gateway::control::Command;
use toolgate::gateway::{ApprovalsCommand, NewKey};

use super::with_suite;
use crate::support::{Client, FakeUpstream, Response, Say, Setup, eventually};

const EVALS: &str = "/v1/evals";

fn suite(id: u64) -> Value {
    json!({
        "id": id,
        "name": format!("suite {id}"),
        "cases": [
            {"name": "reads", "tool": "up:read", "weight": 3},
            {"name": "gap", "tool": "up:nothing", "expect": {"text_contains": "planets"}},
        ],
    })
}

fn data(answer: &Response) -> Value {
    assert!((200..300).contains(&answer.status), "{} {}", answer.status, answer.text);
    assert!(answer.json()["meta"]["request_id"].is_string(), "{}", answer.text);
    answer.json()["data"].clone()
}

fn code(answer: &Response) -> (u16, String) {
    (answer.status, answer.error()["code"].as_str().unwrap().to_owned())
}

async fn create(client: &Client, body: &Value) -> Response {
    client.post(EVALS).json(body).send().await
}

#[tokio::test]
async fn a_suite_is_made_run_published_and_survives() {
    let upstream = FakeUpstream::legacy().await;
    let gateway = Setup::with(&upstream).start().await;
    let key = gateway.writer("operator").await;
    let operator = gateway.client(&key);
    let made = create(&operator, &suite(7)).await;
    assert_eq!(made.status, 201, "{}", made.text);
    let view = data(&made);
    assert_eq!((&view["source"], &view["author"], &view["testCases"]), (&json!("api"), &json!(key.id), &json!(2)));
    assert_eq!((&view["cases"][0]["tool"], &view["latest"]), (&json!("up:read"), &Value::Null));
    let quality = operator.get("/v1/evals/7/quality").send().await;
    assert_eq!(code(&quality), (404, "not_found".into()), "never run");
    let run = operator.post("/v1/evals/7/runs").text("").with("content-length", "0").send().await;
    let first = data(&run);
    assert_eq!((&first["score"], &first["passed"], &first["total"]), (&json!(75), &json!(1), &json!(2)));
    assert!(run.header("toolgate-audit-id").is_some());
    let second = data(&operator.post("/v1/evals/7/runs").json(&json!({"environment": "prod"})).send().await);
    let page = operator.get("/v1/evals/7/runs?limit=1").send().await;
    let (listed, cursor) = (data(&page), page.json()["meta"]["next_cursor"].as_str().unwrap().to_owned());
    assert_eq!(
        (&listed[0]["id"], listed.as_array().unwrap().len(), &listed[0]["cases"]),
        (&second["runId"], 1, &Value::Null)
    );
    let rest = operator.get(&format!("/v1/evals/7/runs?cursor={cursor}")).send().await;
    assert_eq!((&data(&rest)[0]["id"], &rest.json()["meta"]["next_cursor"]), (&first["runId"], &Value::Null));
    let path = format!("/v1/evals/7/runs/{}", first["runId"].as_str().unwrap());
    let whole = data(&operator.get(&path).send().await);
    assert_eq!((&whole["cases"][0]["passed"], &whole["publishedAt"]), (&json!(true), &Value::Null));
    let elsewhere = operator.get(&path.replace("/7/", "/8/")).send().await;
    assert_eq!(code(&elsewhere), (404, "not_found".into()));
    let published = data(&operator.post(&format!("{path}/publish")).send().await);
    assert!(published["publishedAt"].is_string(), "{published}");
    let gateway = gateway.restart().await;
    let operator = gateway.client(&key);
    let quality = data(&operator.get("/v1/evals/7/quality?baseline=published").send().await);
    assert_eq!(quality, json!({"score": 75, "baselineScore": 75, "regressionDetected": false, "evaluationId": 7}));
    let list = data(&operator.get(EVALS).send().await);
    assert_eq!((&list[0]["latest"]["score"], &list[0]["name"]), (&json!(75), &json!("suite 7")));
    let records = gateway.records().await;
    for (tool, count) in [("evals.create", 1), ("evals.publish", 1), ("eval.run.create", 2)] {
        let of = records.iter().filter(|record| record["tool"] == tool && record["outcome"] == "answered").count();
        assert_eq!(of, count, "{tool}");
    }
    gateway.finish().await;
}

#[tokio::test]
async fn what_is_no_suite_is_refused_with_every_fault() {
    let file = "id = 9\nname = \"mine\"\n[[cases]]\nname = \"c\"\ntool = \"up:read\"\n";
    let gateway = with_suite(Setup::new(), "mine.toml", file).start().await;
    let operator = gateway.client(&gateway.writer("operator").await);
    let bad =
        create(&operator, &json!({"id": 7, "nam": "x", "cases": [{"name": "c", "tool": "t", "weight": 0}]})).await;
    assert_eq!(code(&bad), (400, "invalid_request".into()));
    let faults = bad.error()["details"]["faults"].clone();
    let places: Vec<&str> = faults.as_array().unwrap().iter().map(|fault| fault["at"].as_str().unwrap()).collect();
    assert_eq!(places, ["", "/cases/0/weight", "/nam"]);
    for text in ["[]", "3", "{", r#"{"id":7,"id":8}"#, "null"] {
        let answer = operator.post(EVALS).text(text).send().await;
        assert_eq!(code(&answer), (400, "invalid_request".into()), "{text}");
    }
    assert_eq!(create(&operator, &suite(7)).await.status, 201);
    for taken in [7, 9] {
        let answer = create(&operator, &suite(taken)).await;
        assert_eq!(code(&answer), (409, "conflict".into()));
        assert_eq!(answer.error()["message"], format!("there is an evaluation {taken} already"));
    }
    let ids: Vec<Value> =
        data(&operator.get(EVALS).send().await).as_array().unwrap().iter().map(|it| it["id"].clone()).collect();
    assert_eq!(ids, [json!(7), json!(9)]);
    for path in ["/v1/evals/8", "/v1/evals/x", "/v1/evals/8/runs", "/v1/evals/8/quality", "/v1/evals/8/runs/run_x"] {
        assert_eq!(code(&operator.get(path).send().await), (404, "not_found".into()), "{path}");
    }
    let run = operator.post("/v1/evals/8/runs").json(&json!({})).send().await;
    assert_eq!(code(&run), (404, "not_found".into()));
    gateway.finish().await;
}

/// What lists show is kept beside the suites, and a page is what it says, across files and what came over REST.
#[tokio::test]
async fn suites_are_listed_page_by_page_without_their_cases() {
    let file = |id: u64| format!("id = {id}\nname = \"file {id}\"\n[[cases]]\nname = \"c\"\ntool = \"up:read\"\n");
    let gateway = with_suite(with_suite(Setup::new(), "b.toml", &file(2)), "d.toml", &file(4)).start().await;
    let operator = gateway.client(&gateway.writer("operator").await);
    let patterns: Vec<Value> = (0..50).map(|n| json!({"pattern": format!("^a{{200}}{n}$")})).collect();
    let mut heavy = suite(3);
    heavy["cases"][0]["expect"] = json!({"schema": {"anyOf": patterns}});
    heavy["environments"] = json!({"prod": {}, "dev": {"up": "other"}});
    heavy["tolerance"] = json!(1.5);
    assert_eq!(create(&operator, &suite(5)).await.status, 201);
    let whole = data(&create(&operator, &heavy).await);
    let mut row = whole.clone();
    row.as_object_mut().unwrap().remove("cases");
    let (mut listed, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = operator.get(&format!("{EVALS}?limit=1{cursor}")).send().await;
        listed.extend(data(&page).as_array().unwrap().clone());
        let Some(next) = page.json()["meta"]["next_cursor"].as_str().map(str::to_owned) else { break };
        cursor = format!("&cursor={next}");
    }
    let names: Vec<&str> = listed.iter().map(|suite| suite["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["file 2", "suite 3", "file 4", "suite 5"]);
    assert_eq!(listed[1], row, "a list shows what the suite shows, but for its cases");
    assert_eq!(data(&operator.get("/v1/evals/3").send().await), whole);
    heavy["id"] = json!(6);
    heavy["cases"][1]["expect"] = json!({"schema": {"pattern": "one too many"}});
    let refused = create(&operator, &heavy).await;
    assert_eq!(code(&refused), (400, "invalid_request".into()));
    assert!(refused.error()["message"].as_str().unwrap().contains("at most 50 patterns"), "{}", refused.text);
    gateway.finish().await;
}

/// Reasons quote what was given to whoever ran the suite; others see how it ended.
#[tokio::test]
async fn what_a_run_quotes_is_for_whoever_ran_it() {
    let upstream = FakeUpstream::legacy().await;
    upstream.on_call(|_| Say::text("the salary of the chief"));
    let profile = "scopes = [\"evals:read\", \"evals:write\", \"tools:invoke\"]\nallowed_tools = [\"*\"]";
    let gateway = Setup::with(&upstream).profile("runs", profile).start().await;
    let key = async |user: &str, profile: &str| {
        let (name, roles) = ("test".into(), vec!["writer".into()]);
        let new = NewKey { name, profile: profile.into(), user: user.into(), roles, ..NewKey::default() };
        let key = gateway.create(new).await;
        (gateway.client(&key), key.id)
    };
    let ((mallory, author), (ada, _)) = (key("mallory", "runs").await, key("ada", "runs").await);
    let mut suite = suite(7);
    suite["cases"][0]["expect"] = json!({"text_contains": "nothing of it"});
    assert_eq!(create(&mallory, &suite).await.status, 201);
    // Its calls would be ada's: she says whose suite it is.
    let wrong = [json!({}), json!({"author": "key_another"})];
    for body in &wrong {
        let refused = ada.post("/v1/evals/7/runs").json(body).send().await;
        assert_eq!(code(&refused), (400, "invalid_request".into()));
        let message = refused.error()["message"].as_str().unwrap().to_owned();
        assert!(message.contains(&author) && message.contains("its calls would be yours"), "{message}");
    }
    let arguments = json!({"evaluationId": 7});
    assert_eq!(super::call(&ada, "eval.run.create", &arguments).await.status, 400);
    assert_eq!(upstream.calls().len(), 0);
    for path in ["/v1/evals", "/v1/evals/7"] {
        assert!(ada.get(path).send().await.text.contains(&author), "{path} says whose it is");
    }
    assert_eq!(data(&mallory.post("/v1/evals/7/runs").json(&json!({})).send().await)["evaluationId"], 7, "her own");
    let ran = data(&ada.post("/v1/evals/7/runs").json(&json!({"author": author})).send().await);
    let path = format!("/v1/evals/7/runs/{}", ran["runId"].as_str().unwrap());
    let (also, root) = (key("ada", "runs").await.0, key("root", "admin").await.0);
    for (reader, quoted) in [(&ada, true), (&also, true), (&mallory, false), (&root, true)] {
        for answer in [reader.get(&path).send().await, reader.post(&format!("{path}/publish")).send().await] {
            let run = data(&answer);
            assert_eq!((&run["user"], &run["cases"][0]["passed"]), (&json!("ada"), &json!(false)));
            assert_eq!(answer.text.contains("salary"), quoted, "{}", answer.text);
        }
    }
    gateway.finish().await;
}

/// Whoever may only look, or is not shown what runs suites, changes none that others run.
#[tokio::test]
async fn what_runs_suites_is_what_changes_them() {
    let upstream = FakeUpstream::legacy().await;
    let profile = "scopes = [\"evals:read\", \"evals:write\", \"keys:admin\"]\nread_only = true";
    let gateway = Setup::with(&upstream).profile("looks", profile).start().await;
    let operator = gateway.client(&gateway.writer("operator").await);
    assert_eq!(create(&operator, &suite(7)).await.status, 201);
    let run = data(&operator.post("/v1/evals/7/runs").json(&json!({})).send().await)["runId"].clone();
    let looks = gateway.client(&gateway.writer("looks").await);
    let publish = format!("/v1/evals/7/runs/{}/publish", run.as_str().unwrap());
    for answer in [
        looks.post("/v1/evals/7/runs").json(&json!({})).send().await,
        create(&looks, &suite(8)).await,
        looks.post(&publish).send().await,
        looks.delete("/v1/evals/7").send().await,
    ] {
        assert_eq!(code(&answer), (404, "not_found".into()));
        assert_eq!(answer.error()["message"], "unknown tool `toolgate:eval.run.create`");
    }
    let list = data(&looks.get(EVALS).send().await);
    assert_eq!((list.as_array().unwrap().len(), &list[0]["id"]), (1, &json!(7)));
    let records = gateway.records().await;
    let refused = records.iter().filter(|record| record["notes"].to_string().contains("outside the profile `looks`"));
    assert_eq!(refused.count(), 4);
    gateway.finish().await;
}

/// What a person has looked at, and approved by its id, is never another suite.
#[tokio::test]
async fn an_id_is_one_suite_for_ever() {
    let upstream = FakeUpstream::legacy().await;
    let policy = r#"
        @id("all") permit(principal, action, resource) 
        unless { action == Toolgate::Action::"toolgate:eval.run.create" };
        @id("ask") @reason("look at it first") @requires("approval")
        permit(principal, action == Toolgate::Action::"toolgate:eval.run.create", resource);
    "#;
    let gateway = Setup::with(&upstream).policy("ask", policy).start().await;
    let operator = gateway.client(&gateway.writer("operator").await);
    assert_eq!(create(&operator, &suite(88)).await.status, 201);
    let run = async || operator.post("/v1/evals/88/runs").json(&json!({})).send().await;
    let waits = run().await;
    assert_eq!(code(&waits), (202, "approval_required".into()), "{}", waits.text);
    let id = waits.error()["details"]["approval"]["id"].as_str().unwrap().to_owned();
    let decide = ApprovalsCommand::Decide { id, decision: Decision::Approve, comment: None };
    assert_eq!(gateway.control(Command::Approvals(decide)).await["state"], "approved");
    assert_eq!(operator.delete("/v1/evals/88").send().await.status, 200);
    let mut other = suite(88);
    other["cases"][0]["arguments"] = json!({"EVIL": 666});
    let refused = create(&operator, &other).await;
    assert_eq!(code(&refused), (409, "conflict".into()));
    let message = refused.error()["message"].as_str().unwrap().to_owned();
    assert!(message.contains("there was an evaluation 88, which was removed"), "{message}");
    assert_eq!(code(&run().await), (404, "not_found".into()));
    assert!(upstream.calls().is_empty(), "{:?}", upstream.calls());
    other["id"] = json!(89);
    assert_eq!(create(&operator, &other).await.status, 201, "the name is free again");
    gateway.finish().await;
}

/// A run that ends when its suite is gone would be nobody's to remove.
#[tokio::test]
async fn a_run_ends_with_its_suite() {
    let upstream = FakeUpstream::legacy().await;
    upstream.on_call(|_| Say::Held(Box::new(Say::text("late"))));
    let gateway = Setup::with(&upstream).start().await;
    let operator = gateway.client(&gateway.writer("operator").await);
    assert_eq!(create(&operator, &suite(7)).await.status, 201);
    let running = operator.post("/v1/evals/7/runs").json(&json!({})).send();
    let removing = async {
        eventually("the run has begun", async || (!upstream.calls().is_empty()).then_some(())).await;
        assert_eq!(operator.delete("/v1/evals/7").send().await.status, 200);
        upstream.release(1);
    };
    let (ran, ()) = tokio::join!(running, removing);
    assert_eq!(code(&ran), (404, "not_found".into()));
    assert!(ran.error()["message"].as_str().unwrap().contains("was removed while it ran"), "{}", ran.text);
    let admin = gateway.client(&gateway.writer("admin").await);
    assert_eq!(admin.get("/v1/evals/7/runs").send().await.status, 404);
    gateway.finish().await;
}

/// A member that is misspelt might have said where a suite with writes is run.
#[tokio::test]
async fn a_run_says_where_or_is_none() {
    let upstream = FakeUpstream::legacy().await;
    let gateway = Setup::with(&upstream).start().await;
    let operator = gateway.client(&gateway.writer("operator").await);
    assert_eq!(create(&operator, &suite(7)).await.status, 201);
    let misspelt = operator.post("/v1/evals/7/runs").json(&json!({"enviroment": "staging"})).send().await;
    assert_eq!(code(&misspelt), (400, "invalid_request".into()));
    let called = super::call(&operator, "eval.run.create", &json!({"evaluationId": 7, "enviroment": "dev"})).await;
    assert_eq!((called.status, &called.error()["code"]), (400, &json!("VALIDATION_ERROR")), "{}", called.text);
    assert_eq!((upstream.calls().len(), data(&operator.get("/v1/evals/7/runs").send().await)), (0, json!([])));
    let plain = operator.post("/v1/evals/7/runs").text("null").send().await;
    assert_eq!(data(&plain)["environment"], Value::Null);
    gateway.finish().await;
}

/// A query that cannot be read costs what any request costs, and is told to whoever has the scope.
#[tokio::test]
async fn a_wrong_query_is_a_request() {
    let gateway = Setup::new().config("[plans.tight]\nrequests_per_minute = 2").start().await;
    let key = async |profile: &str| {
        let (name, user, plan) = ("test".into(), "u".into(), Some("tight".into()));
        gateway.client(&gateway.create(NewKey { name, profile: profile.into(), user, plan, ..NewKey::default() }).await)
    };
    let (operator, agent) = (key("operator").await, key("agent").await);
    let path = "/v1/evals/7/quality?x=1";
    assert_eq!(code(&agent.get(path).send().await), (403, "insufficient_scope".into()));
    for (status, why) in [(400, "invalid_request"), (400, "invalid_request"), (429, "rate_limited")] {
        assert_eq!(code(&operator.get(path).send().await), (status, why.into()));
    }
    gateway.finish().await;
}

/// The scopes of the tools are those of the doors; what writes wants the policies' leave besides.
#[tokio::test]
async fn scopes_hold() {
    let gateway = Setup::new().profile("reads", "scopes = [\"evals:read\"]").start().await;
    let operator = gateway.client(&gateway.writer("operator").await);
    assert_eq!(create(&operator, &suite(7)).await.status, 201);
    let agent = gateway.agent().await;
    for path in [EVALS, "/v1/evals/7", "/v1/evals/7/runs", "/v1/evals/7/quality"] {
        assert_eq!(code(&agent.get(path).send().await), (403, "insufficient_scope".into()), "{path}");
    }
    let reads = gateway.client(&gateway.writer("reads").await);
    assert_eq!(reads.get("/v1/evals/7").send().await.status, 200);
    assert_eq!(code(&create(&reads, &suite(8)).await), (403, "insufficient_scope".into()));
    let run = reads.post("/v1/evals/7/runs").json(&json!({})).send().await;
    assert_eq!(code(&run), (403, "insufficient_scope".into()));
    let no_writer = gateway.client(&gateway.key("operator").await);
    let denied = no_writer.post("/v1/evals/7/runs").json(&json!({})).send().await;
    assert_eq!(code(&denied), (403, "policy_denied".into()));
    gateway.finish().await;
}
