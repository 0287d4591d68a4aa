//! Who may do what with the demo tools, as a table that people can read: `golden/policy-matrix.txt`.

use std::fmt::Write as _;

use serde_json::{Value, json};
use toolgate::domain::call::ToolRef;
use toolgate::domain::outcome::Outcome;
use toolgate::gateway::NewKey;

use crate::support::{Client, Key, Response, Setup, TestGateway};

/// Server, tool, arguments, and how the row is named.
const CALLS: [(&str, &str, &str, &str); 7] = [
    ("github", "list_repos", r#"{"limit":1}"#, "github:list_repos"),
    ("github", "get_repo", r#"{"repo":"demo/project-a"}"#, "github:get_repo"),
    ("github", "create_issue", r#"{"repo":"demo/project-a","title":"A title"}"#, "github:create_issue"),
    ("database", "query", r#"{"sql":"select name from customers"}"#, "database:query"),
    ("database", "query", r#"{"sql":"drop table customers"}"#, "database:query (drop)"),
    ("database", "execute", r#"{"sql":"update tickets set status = 'closed'"}"#, "database:execute"),
    ("database", "execute", r#"{"sql":"drop table customers"}"#, "database:execute (drop)"),
];

fn of(decision: &Value, policy: &Value) -> String {
    format!("{} {}", decision.as_str().unwrap(), policy.as_str().unwrap())
}

fn called(answer: &Response) -> String {
    if answer.json().get("error").is_some() {
        return "unknown".into();
    }
    let governance = answer.governance();
    of(&governance["decision"], &governance["policy"])
}

/// One line of the table.
async fn row(client: &Client, (server, tool, arguments, name): (&str, &str, &str, &str)) -> String {
    let direct = client.at("/v1/mcp?surface=direct").tools().await;
    let listed = direct.contains(&format!("{server}__{tool}"));
    let query = json!({"query": tool.replace('_', " "), "limit": 50});
    let hits = client.call("gateway_search_tools", &query).await.result()["structuredContent"]["tools"].clone();
    let found = hits.as_array().unwrap().iter().any(|hit| hit["id"] == format!("{server}:{tool}"));
    let call = called(&client.invoke(server, tool, arguments).await);
    let arguments: Value = serde_json::from_str(arguments).unwrap();
    let report = client.simulate(&json!({"server": server, "tool": tool, "arguments": arguments})).await;
    let simulated = of(&report["decision"], &report["policy"]);
    let mark = |is: bool| if is { "yes" } else { "-" };
    format!("  {name:<24} {:<5} {:<6} {call:<36} {simulated}", mark(listed), mark(found))
}

/// One line about a prompt or a resource. The demo servers have none, so what is permitted is their error.
async fn row_of_readable(gateway: &TestGateway, key: &Key, member: &str) -> String {
    let (name, asked) = match member {
        "prompt" => ("review", ToolRef::Prompt { server: "github".into(), name: "review".into() }),
        _ => ("memo:a", ToolRef::Resource { server: "github".into(), uri: "memo:a".into() }),
    };
    let carried = gateway.carry(key, asked, None).await;
    let call = match &carried.outcome {
        Outcome::Refused(refusal) if refusal.hides() => "unknown".to_owned(),
        _ => format!("{} {}", carried.governance.decision, carried.governance.policy),
    };
    let report = gateway.client(key).simulate(&json!({"server": "github", member: name})).await;
    let simulated = of(&report["decision"], &report["policy"]);
    format!("  {:<24} {:<5} {:<6} {call:<36} {simulated}", format!("{member} github:{name}"), "-", "-")
}

#[tokio::test]
async fn the_matrix_is_as_it_was_reviewed() {
    let gateway = Setup::demo().start().await;
    let mut table = String::from(
        "Profile, roles\n  tool                     list  search call                                 simulate\n",
    );
    for profile in ["mcp_readonly", "agent", "operator", "admin"] {
        for roles in [&[][..], &["writer"][..]] {
            let roles: Vec<String> = roles.iter().map(|role| (*role).to_owned()).collect();
            writeln!(table, "\n{profile}, {}", if roles.is_empty() { "no roles".into() } else { roles.join(", ") })
                .unwrap();
            let new =
                NewKey { name: "m".into(), profile: profile.into(), user: "m".into(), roles, ..NewKey::default() };
            let key = gateway.create(new).await;
            let client = gateway.client(&key);
            for call in CALLS {
                writeln!(table, "{}", row(&client, call).await).unwrap();
            }
            for member in ["prompt", "resource"] {
                writeln!(table, "{}", row_of_readable(&gateway, &key, member).await).unwrap();
            }
        }
    }
    gateway.finish().await;
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/golden/policy-matrix.txt");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(path, &table).unwrap();
    }
    let reviewed = std::fs::read_to_string(path).unwrap_or_default();
    assert!(reviewed == table, "the table has changed; review it with UPDATE_GOLDEN=1 and git diff:\n{table}");
}
