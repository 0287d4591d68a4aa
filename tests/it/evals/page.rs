//! The page of the evaluations' API, example by example, against a gateway without configuration.

use serde_json::{Value, json};

use super::{CALL, call, told};
use crate::support::{Client, Program};

async fn started() -> (Program, Client) {
    let program = Program::start().await;
    program.ready().await;
    let key = program.keys().into_iter().find(|(name, _)| name == "admin").unwrap().1;
    // As the page has it: a bearer token.
    let client = Client::new(program.address, None).with_bearer(&key);
    (program, client)
}

#[tokio::test]
async fn tools_are_listed_without_a_key() {
    let (program, _) = started().await;
    let answer = Client::new(program.address, None).get("/api/mcp/tools").send().await;
    assert_eq!(answer.status, 200);
    let list = answer.json();
    assert_eq!(list["mcpVersion"], "1");
    let page = json!({
        "name": "eval.quality.latest",
        "description": "Get the latest quality score for an evaluation.",
        "inputSchema": {
            "type": "object",
            "properties": {
                "evaluationId": {"type": "number", "description": "ID of the evaluation"},
                "baseline": {"type": "string", "enum": ["published", "previous", "production"]},
            },
            "required": ["evaluationId"],
        },
        "version": "1.0",
        "longRunning": false,
    });
    assert_eq!(list["tools"][0], page);
    let tools = list["tools"].as_array().unwrap();
    let row = |tool: &Value| {
        let parameters = tool["inputSchema"]["properties"].as_object().unwrap().iter();
        let parameters: Vec<String> =
            parameters.map(|(name, schema)| format!("{name}: {} {}", schema["type"], schema["description"])).collect();
        let required = &tool["inputSchema"]["required"];
        format!(
            "{} {} {}\n  {}\n  {required}",
            tool["name"],
            tool["longRunning"],
            tool["description"],
            parameters.join("; ")
        )
    };
    insta::assert_snapshot!(tools.iter().map(row).collect::<Vec<_>>().join("\n"), @r#"
"eval.quality.latest" false "Get the latest quality score for an evaluation."
  evaluationId: "number" "ID of the evaluation"; baseline: "string" null
  ["evaluationId"]
"eval.run.create" true "Start a new evaluation run."
  evaluationId: "number" "Numeric ID of the evaluation to run"; environment: "string" "Target environment: dev, staging, or prod"
  ["evaluationId"]
"eval.trace.create" false "Create a distributed trace record."
  name: "string" "Display name for the trace"; metadata: "object" "Arbitrary JSON context to store with the trace"
  ["name"]
"eval.testcase.list" false "List test cases for an evaluation."
  evaluationId: "number" "Numeric ID of the evaluation"; limit: "number" "Maximum number of test cases to return"
  ["evaluationId"]
"#);
    program.stop().await;
}

#[tokio::test]
async fn tools_are_called_as_printed() {
    let (program, client) = started().await;
    let body = r#"{
    "tool": "eval.quality.latest",
    "arguments": {
      "evaluationId": 42,
      "baseline": "published"
    }
  }"#;
    let answer = client.post(CALL).text(body).send().await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(answer.json()["ok"], true);
    assert_eq!(
        answer.json()["content"],
        json!([{"type": "json", "json": {"score": 85, "baselineScore": 82, "regressionDetected": false, "evaluationId": 42}}])
    );
    assert!(answer.header("toolgate-audit-id").is_some());

    let run = told(&client, "eval.run.create", &json!({"evaluationId": 42, "environment": "prod"})).await;
    assert_eq!((&run["score"], &run["status"], &run["environment"]), (&json!(85), &json!("completed"), &json!("prod")));
    assert!(run["runId"].as_str().unwrap().starts_with("run_"), "{run}");
    let none = told(&client, "eval.quality.latest", &json!({"evaluationId": 42, "baseline": "production"})).await;
    assert_eq!(none["baselineScore"], Value::Null, "the run in production is the latest itself");
    told(&client, "eval.run.create", &json!({"evaluationId": 42.0, "environment": "dev"})).await;
    for (baseline, score) in [("production", json!(85)), ("previous", json!(85)), ("published", json!(82))] {
        let quality = told(&client, "eval.quality.latest", &json!({"evaluationId": 42, "baseline": baseline})).await;
        assert_eq!((&quality["baselineScore"], &quality["regressionDetected"]), (&score, &json!(false)), "{baseline}");
    }

    let cases = told(&client, "eval.testcase.list", &json!({"evaluationId": 42, "limit": 2})).await;
    assert_eq!((cases["testCases"].as_array().unwrap().len(), &cases["total"]), (2, &json!(9)));
    assert_eq!(cases["testCases"][0]["tool"], "github:list_repos");

    let trace = told(&client, "eval.trace.create", &json!({"name": "checkout", "metadata": {"order": 7}})).await;
    assert_eq!((trace["traceId"].as_str().unwrap().len(), &trace["name"]), (32, &json!("checkout")));
    program.stop().await;
}

#[tokio::test]
async fn errors_are_as_printed() {
    let (program, client) = started().await;
    let latest = "eval.quality.latest";
    for (tool, arguments, status, code, message) in [
        (latest, json!({}), 400, "VALIDATION_ERROR", "evaluationId is required"),
        ("eval.run.create", json!({}), 400, "VALIDATION_ERROR", "evaluationId is required"),
        ("eval.testcase.list", json!({}), 400, "VALIDATION_ERROR", "evaluationId is required"),
        ("eval.trace.create", json!({}), 400, "VALIDATION_ERROR", "name is required"),
        (latest, json!({"evaluationId": 4.5}), 400, "VALIDATION_ERROR", "evaluationId must be a whole number"),
        (latest, json!({"evaluationId": -1}), 400, "VALIDATION_ERROR", "evaluationId must be a whole number"),
        (latest, json!({"evaluationId": 7}), 404, "NOT_FOUND", "there is no evaluation 7: there are 42"),
        ("eval.run.create", json!({"evaluationId": 7}), 404, "NOT_FOUND", "there is no evaluation 7: there are 42"),
        (
            "eval.testcase.list",
            json!({"evaluationId": 42, "limit": 0}),
            400,
            "VALIDATION_ERROR",
            "limit must be a whole number",
        ),
        ("eval.nothing", json!({}), 404, "NOT_FOUND", "unknown tool `eval.nothing`"),
    ] {
        let answer = call(&client, tool, &arguments).await;
        assert_eq!(answer.status, status, "{tool} {arguments}: {}", answer.text);
        assert_eq!(
            (&answer.json()["ok"], &answer.error()["code"]),
            (&json!(false), &json!(code)),
            "{tool} {arguments}"
        );
        assert_eq!(answer.error()["message"], message, "{tool} {arguments}");
        let request = answer.error()["requestId"].as_str().unwrap().to_owned();
        assert_eq!(uuid::Uuid::parse_str(&request).unwrap().hyphenated().to_string(), request);
    }
    for arguments in [json!({"evaluationId": "42"}), json!({"evaluationId": 42, "baseline": "best"})] {
        let answer = call(&client, latest, &arguments).await;
        assert_eq!((answer.status, &answer.error()["code"]), (400, &json!("VALIDATION_ERROR")), "{}", answer.text);
    }
    let huge = json!({"name": "n", "metadata": {"x": "x".repeat(70_000)}});
    for arguments in [huge, json!({"name": " "}), json!({"name": "a\nb"}), json!({"name": "n".repeat(201)})] {
        let answer = call(&client, "eval.trace.create", &arguments).await;
        assert_eq!((answer.status, &answer.error()["code"]), (400, &json!("VALIDATION_ERROR")), "{}", answer.text);
    }
    let stranger =
        call(&Client::new(program.address, None).with_bearer("wrong"), latest, &json!({"evaluationId": 42})).await;
    assert_eq!((stranger.status, &stranger.error()["code"]), (401, &json!("UNAUTHORIZED")), "{}", stranger.text);
    program.stop().await;
}

/// One answer, whoever asks for it and how.
#[tokio::test]
async fn every_entrance_gives_the_same_answer() {
    let (program, _) = started().await;
    let bare = program.client("admin");
    let arguments = json!({"evaluationId": 42, "baseline": "published"});
    let printed = json!({"score": 85, "baselineScore": 82, "regressionDetected": false, "evaluationId": 42});
    let legacy = bare.legacy().await;
    for (client, name) in [
        (&bare, "eval.quality.latest"),
        (&bare, "invoke.eval.quality.latest"),
        (&bare, "toolgate:eval.quality.latest"),
        (&legacy, "eval_quality_latest"),
        (&bare.modern(), "eval_quality_latest"),
    ] {
        let answer = client.call(name, &arguments).await;
        assert_eq!(answer.result()["structuredContent"], printed, "{name}");
        let text = answer.result()["content"][0]["text"].as_str().unwrap().to_owned();
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), printed, "{name}");
    }
    let through = bare.invoke("toolgate", "eval.quality.latest", &arguments.to_string()).await;
    assert_eq!(through.result()["structuredContent"], printed);
    let shell = program
        .run(&["tools", "call", "toolgate:eval.quality.latest", "--args", &arguments.to_string(), "--json"])
        .await;
    assert_eq!((shell.code, &shell.json()["result"]["structuredContent"]), (Some(0), &printed), "{shell:?}");
    let unknown = legacy.call("eval_quality_latest", &json!({"evaluationId": 7})).await;
    assert_eq!(unknown.denied(), "not_found");
    program.stop().await;
}
