//! `toolgate brain`, with a server running and without one.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{TOOL, acme, keys};
use crate::support::{Program, toolgate_in};

const CUSTOMERS: &str = "id,name,city\nc-1,Acme,Berlin\nc-2,\"Globex, Inc.\",Lyon\nc-3,broken\n";
const INVOICES: &str = concat!(
    "{\"id\":1,\"customer\":\"c-1\",\"amount\":10.5}\n",
    "not json\n",
    "{\"id\":2,\"customer\":\"c-1\",\"amount\":0.25}\n",
);

fn files(folder: &Path) {
    fs::write(folder.join("customers.csv"), CUSTOMERS).unwrap();
    fs::write(folder.join("invoices.jsonl"), INVOICES).unwrap();
}

/// Imports both files and asks; `run` is a command in the folder of the files.
async fn import_and_ask(folder: &Path) {
    files(folder);
    let run = async |arguments: &[&str]| toolgate_in(folder, arguments, &[]).await;
    let customers = run(&["brain", "import", "customers.csv", "--type", "client"]).await;
    assert_eq!(
        (customers.code, customers.err.as_str()),
        (Some(1), "customers.csv:4: the row has 2 fields, the header 3\n")
    );
    insta::allow_duplicates! {
        insta::assert_snapshot!(customers.out, @r"
        3 rows: 2 created, 0 updated, 0 unchanged, 1 faulty
         TYPE    FIELD  KIND    FILLED
         client  id     key     2
         client  name   string  2
         client  city   string  2
        ");
    }
    let import =
        ["brain", "import", "invoices.jsonl", "--type", "bill", "--relation", "bill.customer=client.id", "--json"];
    let invoices = run(&import).await;
    assert_eq!(invoices.code, Some(1));
    let report = invoices.json();
    assert_eq!((&report["rows"], &report["created"], &report["faulty"]), (&json!(3), &json!(2), &json!(1)));
    assert_eq!(report["faults"], json!([{"line": 2, "reason": "not JSON: expected ident"}]));
    assert_eq!(report["types"][0]["relations"], json!([{"on": "bill.customer=client.id", "declared": true}]));
    let again = run(&import).await.json();
    assert_eq!((&again["created"], &again["unchanged"]), (&json!(0), &json!(2)));

    let found = run(&["brain", "query", "acme", "--type", "client", "--join", "bill", "--limit", "1"]).await;
    assert_eq!(found.code, Some(0), "{found:?}");
    insta::allow_duplicates! {
        insta::assert_snapshot!(found.out, @r"
        client c-1: name=Acme, city=Berlin
          bill 1: customer=c-1, amount=10.5
          bill 2: customer=c-1, amount=0.25
        1 of 1 found; 2 of 2 joined bill
        ");
    }
    let found =
        run(&["brain", "query", "--type", "bill", "--filter", "amount<1", "--sum", "amount", "--json"]).await.json();
    let answer = &found["result"]["structuredContent"];
    assert_eq!((keys(answer), &answer["aggregates"]["sum"]["amount"]), (vec!["2"], &json!(0.25)));
    let wrong = run(&["brain", "query", "--type", "robot"]).await;
    assert_eq!((wrong.code, wrong.out.contains("there is no entity type `robot`")), (Some(1), true), "{wrong:?}");
    let types = run(&["brain", "types", "--json"]).await.json();
    let names: Vec<&str> = types["types"].as_array().unwrap().iter().map(|one| one["type"].as_str().unwrap()).collect();
    assert!(names.starts_with(&["bill", "client"]), "{names:?}");
}

#[tokio::test]
async fn without_a_server() {
    let folder = TempDir::new().unwrap();
    import_and_ask(folder.path()).await;
    let missing = toolgate_in(folder.path(), &["brain", "import", "nowhere.csv"], &[]).await;
    assert_eq!(missing.code, Some(1));
    assert!(missing.err.contains("`nowhere.csv` cannot be read"), "{}", missing.err);
}

#[tokio::test]
async fn beside_a_running_server() {
    let program = Program::start_in(Arc::new(TempDir::new().unwrap()), &[]).await;
    import_and_ask(&program.path("")).await;
    // The demo's are still there, and the server answers as the command line does.
    let answer = program.client("agent").call(TOOL, &acme()).await.result();
    let told =
        program.run(&["brain", "query", "Acme", "--type", "customer", "--join", "invoice", "--json"]).await.json();
    assert_eq!(told["result"]["structuredContent"], answer["structuredContent"]);
    assert_eq!(told["result"]["content"], answer["content"]);
    program.stop().await;
}

/// The demo's entities come once: what was imported is not touched by a later start.
#[tokio::test]
async fn the_demo_is_loaded_once() {
    let program = Program::start().await;
    let folder = program.folder();
    let moved = "{\"type\":\"customer\",\"id\":\"c-1001\",\"name\":\"Acme\",\"city\":\"Paris\"}\n";
    fs::write(program.path("moved.jsonl"), moved).unwrap();
    assert_eq!(program.run(&["brain", "import", "moved.jsonl"]).await.code, Some(0));
    program.stop().await;
    let program = Program::start_in(folder, &[]).await;
    let found =
        program.run(&["brain", "query", "acme", "--fields", "city", "--type", "customer", "--json"]).await.json();
    let first: &Value = &found["result"]["structuredContent"]["entities"][0];
    assert_eq!(first["attributes"], json!({"city": "Paris"}));
    program.stop().await;
}
