//! The engine on a small catalogue of its own.

use std::cell::Cell;

use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};
use serde_json::{Value, json};

use super::{Found, Index, SearchOptions, ToolText};

type Row = (&'static str, &'static str, &'static str, &'static [(&'static str, &'static str)]);

/// Server, tool, description, parameters with theirs.
const CATALOGUE: &[Row] = &[
    ("forge", "create_issue", "Open a new issue in a repository.", &[("repo", "owner/name"), ("labels", "")]),
    ("forge", "list_issues", "List the issues of a repository.", &[("state", "open or closed"), ("assignee", "")]),
    ("forge", "close_issue", "Close an issue.", &[("number", "")]),
    ("forge", "get_pull_request", "Show one pull request with its reviews.", &[("number", "")]),
    (
        "forge",
        "mergePullRequest",
        "Merge a pull request once its checks have passed.",
        &[("method", "squash or rebase")],
    ),
    ("forge", "search_code", "Search code in all repositories.", &[("query", ""), ("language", "")]),
    ("desk", "create_ticket", "Create a support ticket for a customer.", &[("subject", ""), ("priority", "")]),
    ("desk", "assign_ticket", "Assign a support ticket to an agent.", &[("agent", "")]),
    ("sql", "query", "Run a read-only SQL query and return the rows.", &[("sql", "the statement")]),
    ("sql", "execute", "Execute a SQL statement that changes data.", &[("sql", "the statement")]),
    ("sql", "list_tables", "List the tables of the database.", &[("schema", "")]),
    ("files", "read_file", "Read a file from disk as text.", &[("path", "where the file is")]),
    ("files", "write_file", "Write text to a file on disk.", &[("path", ""), ("content", "")]),
    ("files", "delete_file", "Delete a file from disk.", &[("path", "")]),
    ("files", "directory_tree", "Show a directory and all below it as a tree.", &[("path", "")]),
    ("post", "send_message", "Send a message to a channel.", &[("channel", ""), ("thread_ts", "reply in this thread")]),
    ("post", "listChannels", "List the channels of the workspace.", &[("cursor", "")]),
    ("sky", "get_forecast", "Weather forecast for the coming days.", &[("latitude", ""), ("longitude", "")]),
    ("sky", "get_alerts", "Active weather alerts of a region.", &[("region", "")]),
    ("搜索", "bing_search", "使用必应搜索指定的关键词", &[("query", "搜索关键词")]),
    ("clusters", "kubectl_apply", "Apply a manifest to a Kubernetes cluster.", &[("manifest", "YAML")]),
    ("clusters", "deepinspect", "Inspect a pod.", &[("pod", "")]),
];

fn schema(parameters: &[(&str, &str)]) -> Value {
    let properties: serde_json::Map<String, Value> = parameters
        .iter()
        .map(|&(name, text)| (name.to_owned(), json!({"type": "string", "description": text})))
        .collect();
    json!({"type": "object", "properties": properties})
}

fn build(rows: &[Row]) -> Index {
    let schemas: Vec<Value> = rows.iter().map(|row| schema(row.3)).collect();
    Index::build(rows.iter().zip(&schemas).map(|(&(server, name, description, _), input_schema)| ToolText {
        server,
        server_text: if server == "sky" { "Meteorology\nTemperatures in celsius." } else { "" },
        name,
        title: None,
        description,
        input_schema,
    }))
}

fn names(found: &Found) -> Vec<&'static str> {
    found.hits.iter().map(|hit| CATALOGUE[hit.tool as usize].1).collect()
}

fn search(query: &str) -> Vec<&'static str> {
    names(&build(CATALOGUE).search(query, &SearchOptions { limit: 5, server: None }, |_| true))
}

#[test]
fn the_tool_that_is_meant_comes_first() {
    for (query, expected) in [
        ("open a new issue", "create_issue"),
        ("list all open issues", "list_issues"),
        ("merge the pull request", "mergePullRequest"),
        ("merge pull requests please", "mergePullRequest"),
        ("run a query on the database", "query"),
        ("what tables are in the database", "list_tables"),
        ("remove a file", "delete_file"),
        ("remove a document", "delete_file"),
        ("reply in a thread", "send_message"),
        ("weather for the next days", "get_forecast"),
        ("temperature forecast in celsius", "get_forecast"),
        ("list channels", "listChannels"),
        ("必应搜索", "bing_search"),
        ("assign a support ticket to somebody", "assign_ticket"),
    ] {
        assert_eq!(search(query).first(), Some(&expected), "{query}: {:?}", search(query));
    }
}

#[test]
fn unknown_words_are_taken_for_known_ones() {
    for (query, expected) in [
        ("kubernets manifest", "kubectl_apply"),
        ("wheather forcast", "get_forecast"),
        ("deep inspect", "deepinspect"),
        ("pullrequest", "get_pull_request"),
        ("reposit", "create_issue"),
        ("kubernetesish manifest", "kubectl_apply"),
    ] {
        assert!(search(query).contains(&expected), "{query}: {:?}", search(query));
    }
}

#[test]
fn a_name_gives_its_tool_first() {
    for query in ["sql:query", "sql.query", "sql__query", "sql/query", "query", " SQL:Query "] {
        assert_eq!(search(query).first(), Some(&"query"), "{query}");
    }
    assert_eq!(search("files:read_file").first(), Some(&"read_file"));
    assert_eq!(search("mergePullRequest").first(), Some(&"mergePullRequest"));
    assert_eq!(search("directory_tree").first(), Some(&"directory_tree"));
}

#[test]
fn a_query_that_no_tool_serves_has_no_answer() {
    for query in [
        "book a flight to Lisbon",
        "play some jazz music",
        "order a large pizza with extra cheese",
        "what is the meaning of life",
        "translate this sentence into Japanese",
        "bake a sourdough bread",
        "transfer 200 euros to my landlord",
        "create a birthday cake",
        "stock price of Acme",
        "xkcd qwpoei zmxn",
        "tune my guitar",
        "water the plants",
        "generate a logo image",
        "book an appointment at the dentist",
        "track my parcel",
        "who won the cup final in 1998",
        "the a of",
        "",
        "?!",
    ] {
        assert!(search(query).is_empty(), "{query}: {:?}", search(query));
    }
}

#[test]
fn a_server_may_be_asked_for() {
    let index = build(CATALOGUE);
    let of = |query, server| names(&index.search(query, &SearchOptions { limit: 9, server: Some(server) }, |_| true));
    assert_eq!(of("weather", "sky"), ["get_alerts", "get_forecast"]);
    assert!(of("weather", "files").is_empty());
    assert!(of("weather", "nowhere").is_empty());
    assert_eq!(of("", "sql"), ["execute", "list_tables", "query"]);
    assert!(of("sql:query", "files").is_empty());
}

#[test]
fn hidden_tools_are_neither_returned_nor_counted() {
    let index = build(CATALOGUE);
    let options = SearchOptions { limit: 1, server: None };
    let all = index.search("issue", &options, |_| true);
    assert_eq!((all.hits.len(), all.matches), (1, 5), "issues, and tickets by another name");
    let some = index.search("issue", &options, |tool| tool != all.hits[0].tool);
    assert_eq!(some.matches, 4);
    assert_ne!(some.hits[0].tool, all.hits[0].tool);
    assert_eq!(index.search("sql:query", &options, |_| false), Found::default());
}

#[test]
fn only_candidates_are_asked_about() {
    let index = build(CATALOGUE);
    let asked = Cell::new(0);
    let _ = index.search("weather alerts", &SearchOptions { limit: 5, server: None }, |_| {
        asked.set(asked.get() + 1);
        true
    });
    assert!((1..=5).contains(&asked.get()), "{}", asked.get());
}

#[test]
fn equals_stand_in_the_order_of_server_and_name() {
    let rows: &[Row] = &[("b", "find", "Same.", &[]), ("a", "find", "Same.", &[])];
    let index = build(rows);
    let found = index.search("same", &SearchOptions { limit: 5, server: None }, |_| true);
    assert_eq!(found.hits.iter().map(|hit| hit.tool).collect::<Vec<_>>(), [1, 0]);
}

/// The tools that stand beside, numbered behind the others.
const BESIDE: &[Row] = &[
    ("toolgate", "approvals.list", "List calls that wait for a person's approval.", &[("state", "pending or decided")]),
    ("toolgate", "eval.run.create", "Start a new evaluation run.", &[("evaluationId", "which evaluation")]),
    ("toolgate", "open_issue", "Open a new issue in a repository.", &[("repo", "owner/name"), ("labels", "")]),
];

fn build_beside(rows: &[Row], beside: &[Row]) -> Index {
    let schemas: Vec<Value> = beside.iter().map(|row| schema(row.3)).collect();
    build(rows).beside(beside.iter().zip(&schemas).map(|(&(server, name, description, _), input_schema)| ToolText {
        server,
        server_text: "",
        name,
        title: None,
        description,
        input_schema,
    }))
}

#[test]
fn tools_beside_are_found_with_the_others_and_behind_their_equals() {
    let index = build_beside(CATALOGUE, BESIDE);
    let all: Vec<&str> = CATALOGUE.iter().chain(BESIDE).map(|row| row.1).collect();
    let of = |query: &str, server| {
        let found = index.search(query, &SearchOptions { limit: 5, server }, |_| true);
        found.hits.iter().map(|hit| all[hit.tool as usize]).collect::<Vec<_>>()
    };
    for (query, expected) in [
        ("which calls wait for approval", "approvals.list"),
        ("approvals.list", "approvals.list"),
        ("toolgate:eval.run.create", "eval.run.create"),
        ("start an evaluation run", "eval.run.create"),
        ("open a new issue", "create_issue"),
        ("run a query on the database", "query"),
    ] {
        assert_eq!(of(query, None).first(), Some(&expected), "{query}: {:?}", of(query, None));
    }
    assert_eq!(of("approval", Some("toolgate")), ["approvals.list"]);
    assert_eq!(of("", Some("toolgate")), ["approvals.list", "eval.run.create", "open_issue"]);
    assert!(of("approval", Some("files")).is_empty());
    let alone = build_beside(&[], BESIDE);
    let found = alone.search("evaluation run", &SearchOptions { limit: 5, server: None }, |_| true);
    assert_eq!(found.hits.iter().map(|hit| hit.tool).collect::<Vec<_>>(), [1]);
}

#[test]
fn an_empty_catalogue_answers() {
    let index = build(&[]);
    assert!(index.is_empty());
    assert_eq!(index.search("anything", &SearchOptions { limit: 5, server: None }, |_| true), Found::default());
}

proptest! {
    #[test]
    fn any_text_is_searched_and_answered_in_order(query in "\\PC{0,60}|[a-z ]{0,60}", limit in 0_usize..9, hidden in any::<u32>()) {
        let index = build(CATALOGUE);
        let found = index.search(&query, &SearchOptions { limit, server: None }, |tool| hidden >> tool & 1 == 0);
        prop_assert!(found.hits.len() <= limit && found.hits.len() <= found.matches);
        prop_assert!(found.hits.is_sorted_by(|a, b| a.score >= b.score));
        prop_assert!(found.hits.iter().all(|hit| hidden >> hit.tool & 1 == 0 && hit.score.is_finite()));
    }

    /// Whatever stands beside, the others are found as they were, and in their order.
    #[test]
    fn tools_beside_change_nothing_for_the_others(query in "\\PC{0,40}|([a-z]{1,9} ){1,6}|(open|list|run|issue|file|approval|evaluation| ){1,9}") {
        let options = SearchOptions { limit: 99, server: None };
        let before = build(CATALOGUE).search(&query, &options, |_| true);
        let mut after = build_beside(CATALOGUE, BESIDE).search(&query, &options, |_| true);
        after.hits.retain(|hit| (hit.tool as usize) < CATALOGUE.len());
        let tools = |found: &Found| found.hits.iter().map(|hit| hit.tool).collect::<Vec<_>>();
        prop_assert_eq!(tools(&before), tools(&after));
    }

    #[test]
    fn any_text_is_indexed(server in "\\PC{0,9}", name in "\\PC{0,20}", description in ".{0,80}") {
        let input_schema = json!({"properties": {name.clone(): {"description": description}}});
        let tool = ToolText { server: &server, server_text: &description, name: &name, title: Some(&name), description: &description, input_schema: &input_schema };
        let index = Index::build([tool]);
        let found = index.search(&format!("{server}:{name}"), &SearchOptions { limit: 5, server: None }, |_| true);
        let can_be_named = name.chars().any(char::is_alphanumeric) && !name.chars().chain(server.chars()).any(char::is_whitespace);
        if can_be_named {
            prop_assert_eq!(found.hits.len(), 1);
        }
    }
}
