//! The demo servers as a client meets them.

use rmcp::model::{CallToolRequestParams, CallToolResult};
use rmcp::service::RunningService;
use rmcp::{RoleClient, ServerHandler, ServiceExt};
use serde_json::{Value, json};

use super::*;

/// A real client, connected in memory.
async fn connect<S: ServerHandler>(server: S) -> RunningService<RoleClient, ()> {
    let (near, far) = tokio::io::duplex(64 * 1024);
    let (server, client) = tokio::join!(server.serve(far), ().serve(near));
    // The server runs on its own task until the client is dropped.
    std::mem::forget(server.unwrap());
    client.unwrap()
}

async fn call(client: &RunningService<RoleClient, ()>, tool: &'static str, arguments: Value) -> CallToolResult {
    let request = CallToolRequestParams::new(tool).with_arguments(arguments.as_object().unwrap().clone());
    client.call_tool(request).await.unwrap()
}

fn text(result: &CallToolResult) -> String {
    result.content.iter().filter_map(|block| block.as_text()).map(|block| block.text.clone()).collect()
}

#[track_caller]
fn structured(result: &CallToolResult) -> Value {
    assert_ne!(result.is_error, Some(true), "{}", text(result));
    let value = result.structured_content.clone().unwrap();
    assert_eq!(serde_json::from_str::<Value>(&text(result)).unwrap(), value, "the text says the same");
    value
}

#[track_caller]
fn failure(result: &CallToolResult) -> String {
    assert_eq!(result.is_error, Some(true), "{result:?}");
    text(result)
}

#[tokio::test]
async fn every_tool_and_parameter_is_described_and_annotated() {
    let expected = [
        ("list_repos", "read"),
        ("get_repo", "read"),
        ("create_issue", "write"),
        ("query", "read"),
        ("execute", "destructive"),
    ];
    let mut tools = Vec::new();
    for client in
        [connect(github::Github::new(github::Release::First)).await, connect(database::Database::open().unwrap()).await]
    {
        assert!(client.peer_info().unwrap().instructions.is_some());
        tools.extend(client.list_all_tools().await.unwrap());
    }
    assert_eq!(tools.len(), expected.len());
    for (name, risk) in expected {
        let tool = tools.iter().find(|tool| tool.name == name).unwrap();
        assert!(tool.title.is_some() && tool.description.as_ref().unwrap().len() > 40, "{name}");
        let hints = tool.annotations.as_ref().unwrap();
        let found = match (hints.read_only_hint, hints.destructive_hint) {
            (Some(true), _) => "read",
            (_, Some(true)) => "destructive",
            _ => "write",
        };
        assert_eq!(found, risk, "{name}");
        let schema = serde_json::to_value(&*tool.input_schema).unwrap();
        assert_eq!(schema["additionalProperties"], json!(false), "{name}");
        for (parameter, schema) in schema["properties"].as_object().unwrap() {
            assert!(schema["description"].is_string(), "{name}.{parameter}");
        }
    }
}

#[tokio::test]
async fn repositories_are_listed_and_described() {
    let client = connect(github::Github::new(github::Release::First)).await;
    let all = structured(&call(&client, "list_repos", json!({})).await);
    assert_eq!(
        all["repositories"][0],
        json!({ "name": "demo/project-a", "visibility": "private", "updated_at": "2024-01-15T14:32:00Z" })
    );
    let two = structured(&call(&client, "list_repos", json!({ "limit": 2 })).await);
    assert_eq!(two["repositories"].as_array().unwrap().len(), 2);
    let one = structured(&call(&client, "get_repo", json!({ "repo": "demo/docs" })).await);
    assert_eq!((&one["visibility"], &one["default_branch"]), (&json!("public"), &json!("main")));
    let none = failure(&call(&client, "get_repo", json!({ "repo": "demo/none" })).await);
    assert_eq!(none, "no repository `demo/none`: `list_repos` gives the names, such as `demo/project-a`");
}

#[tokio::test]
async fn issues_are_kept() {
    let client = connect(github::Github::new(github::Release::First)).await;
    for number in 1..=2 {
        let issue = json!({ "repo": "demo/project-a", "title": "It broke", "body": "Badly." });
        let created = structured(&call(&client, "create_issue", issue).await);
        assert_eq!(created["number"], json!(number));
        assert_eq!(created["url"], json!(format!("https://github.example/demo/project-a/issues/{number}")));
    }
    let repo = structured(&call(&client, "get_repo", json!({ "repo": "demo/project-a" })).await);
    assert_eq!(repo["open_issues"], json!(2));
    assert_eq!(repo["newest_issues"][0], json!({ "number": 2, "title": "It broke", "body": "Badly." }));
    let blank = failure(&call(&client, "create_issue", json!({ "repo": "demo/docs", "title": " " })).await);
    assert_eq!(blank, "`title` must have 1 to 256 characters");
}

#[tokio::test]
async fn the_database_is_read() {
    let client = connect(database::Database::open().unwrap()).await;
    let sql = "SELECT id, name, NULL AS none, 1.5 AS half, x'0aff' AS bytes FROM customers ORDER BY id LIMIT 1";
    assert_eq!(
        structured(&call(&client, "query", json!({ "sql": sql })).await),
        json!({
            "columns": ["id", "name", "none", "half", "bytes"],
            "rows": [[1, "Ada Example", null, 1.5, "0aff"]],
            "truncated": false,
        })
    );
    let many = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 5000) SELECT i FROM n";
    let table = structured(&call(&client, "query", json!({ "sql": many })).await);
    assert_eq!((table["rows"].as_array().unwrap().len(), &table["truncated"]), (1000, &json!(true)));
}

#[tokio::test]
async fn a_query_changes_nothing() {
    let client = connect(database::Database::open().unwrap()).await;
    for sql in [
        "DELETE FROM customers",
        "DELETE FROM customers RETURNING id",
        "DROP TABLE customers",
        "SELECT 1; DELETE FROM customers",
        "PRAGMA query_only = 0",
        "PRAGMA user_version = 5",
        "BEGIN",
        "ATTACH 'x.db' AS x",
        "VACUUM INTO 'x.db'",
        "",
    ] {
        failure(&call(&client, "query", json!({ "sql": sql })).await);
    }
    let count = structured(&call(&client, "query", json!({ "sql": "SELECT count(*) FROM customers" })).await);
    assert_eq!(count["rows"], json!([[5]]));
}

#[tokio::test]
async fn execute_changes_and_counts() {
    let client = connect(database::Database::open().unwrap()).await;
    let sql = "UPDATE tickets SET status = 'closed' WHERE id = 1001; DELETE FROM invoices; DROP TABLE invoices;";
    let result = structured(&call(&client, "execute", json!({ "sql": sql })).await);
    assert_eq!(result["statements"], json!(3));
    assert!(result["rows_affected"].as_u64().unwrap() >= 6, "{result}");
    let gone = failure(&call(&client, "query", json!({ "sql": "SELECT * FROM invoices" })).await);
    assert!(gone.starts_with("no such table: invoices"), "{gone}");
    let wrong = failure(&call(&client, "execute", json!({ "sql": "DELTE FROM x" })).await);
    assert!(wrong.contains("syntax error"), "{wrong}");
}

#[tokio::test]
async fn no_statement_reaches_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let client = connect(database::Database::open().unwrap()).await;
    let file = folder.path().join("x.db").display().to_string();
    for sql in [format!("ATTACH '{file}' AS x"), format!("VACUUM INTO '{file}'")] {
        failure(&call(&client, "execute", json!({ "sql": sql })).await);
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn a_name_that_is_none_is_an_error() {
    assert_eq!(
        run("nothing", 1).await.unwrap_err().to_string(),
        "no demo server `nothing`: there are `github` and `database`"
    );
}

/// The second release breaks what the first promised, and nothing says so but its answers.
#[tokio::test]
async fn the_second_release_leaves_out_the_owner() {
    let first = connect(github::Github::new(github::Release::First)).await;
    let second = connect(github::Github::new(github::Release::Second)).await;
    assert_eq!(first.list_all_tools().await.unwrap(), second.list_all_tools().await.unwrap());
    let listed = structured(&call(&second, "list_repos", json!({"limit": 1})).await);
    assert_eq!(listed["repositories"][0]["name"], "project-a");
    assert!(failure(&call(&second, "get_repo", json!({"repo": "project-a"})).await).contains("no repository"));
    assert!(run("github", 3).await.unwrap_err().to_string().contains("no release 3"));
}
