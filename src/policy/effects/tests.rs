//! Arguments and what they would do.

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn effects(arguments: &Value) -> Vec<&'static str> {
    recognise(arguments, &BTreeMap::new()).effects
}

#[test]
fn strings_count_by_the_name_of_their_member() {
    let cases: &[(Value, &[&str])] = &[
        (json!({}), &[]),
        (json!(null), &[]),
        (json!("DROP TABLE t"), &[]),
        (json!({ "text": "DROP TABLE t; rm -rf /" }), &[]),
        (json!({ "sql": "DROP TABLE t" }), &["sql.drop", "sql.write"]),
        (json!({ "SQL": "DROP TABLE t" }), &["sql.drop", "sql.write"]),
        (json!({ "sqlQuery": "nonsense" }), &["sql.unparsed"]),
        (json!({ "query": "how to drop a table" }), &[]),
        (json!({ "query": "DROP TABLE t" }), &["sql.drop", "sql.write"]),
        (json!({ "statements": ["SELECT 1", "DROP TABLE t"] }), &["sql.drop", "sql.read", "sql.write"]),
        (json!({ "input": { "deep": [{ "sql": "SELECT 1" }] } }), &["sql.read"]),
        (json!({ "sql": { "text": "SELECT 1" } }), &["sql.read"]),
        (json!({ "sql": { "text": "DROP TABLE a" } }), &["sql.drop", "sql.write"]),
        (json!({ "sql": [{ "v": "DROP TABLE a" }] }), &["sql.drop", "sql.write"]),
        (json!({ "sql": [[{ "deep": { "v": ["DROP TABLE a"] } }]] }), &["sql.drop", "sql.write"]),
        (json!({ "sql": { "query": "what is this" } }), &["sql.unparsed"]),
        (json!({ "sql": { "text": "SELECT $1", "values": ["bob"] } }), &["sql.read"]),
        (json!({ "sql": { "text": "SELECT $1", "values": ["DROP TABLE a"] } }), &["sql.drop", "sql.read", "sql.write"]),
        (json!({ "sql": { "command": "rm x", "argv": ["rm", "x"] } }), &["shell.delete", "shell.run"]),
        (json!({ "query": { "text": "DROP TABLE a" } }), &[]),
        (json!({ "sql": 5, "command": null, "url": true }), &[]),
        (json!({ "command": "rm x" }), &["shell.delete", "shell.run"]),
        (json!({ "command": ["rm", "-rf", "a b; c"] }), &["shell.delete", "shell.run"]),
        (json!({ "command": ["echo", "$(rm x); rm y"] }), &["shell.run"]),
        (json!({ "commands": ["cd /tmp", "rm x"] }), &["shell.delete", "shell.run"]),
        (json!({ "command": ["bash", "-c", "rm x"] }), &["shell.delete", "shell.run"]),
        (json!({ "command": "bash", "args": ["-c", "rm x"] }), &["shell.delete", "shell.run"]),
        (json!({ "argv": ["rm", "x"] }), &["shell.delete", "shell.run"]),
        (json!({ "args": ["rm", "x"] }), &[]),
        (json!({ "command": "echo 'it" }), &["shell.unparsed"]),
        (json!({ "script": "print('hello')" }), &[]),
        (json!({ "script": "rm x" }), &["shell.delete", "shell.run"]),
        (json!({ "script": "DROP TABLE t" }), &["sql.drop", "sql.write"]),
        (
            json!({ "url": "http://169.254.169.254/" }),
            &["url.http", "url.metadata", "url.plain_http", "url.private_network"],
        ),
        (json!({ "urls": ["https://example.com"] }), &["url.http"]),
        (json!({ "path": "../x" }), &["path.traversal"]),
        (json!({ "paths": ["a", "../x"] }), &["path.traversal"]),
        (json!({ "path": "file:///etc/passwd" }), &["path.absolute", "path.system", "url.file"]),
        (json!({ "path": "~/x", "sql": "SELECT 1", "command": "ls" }), &["path.home", "shell.run", "sql.read"]),
    ];
    for (arguments, expected) in cases {
        assert_eq!(effects(arguments), *expected, "{arguments}");
    }
}

#[test]
fn the_operator_says_what_an_argument_is() {
    let mapping = BTreeMap::from([
        ("body".to_owned(), ArgumentKind::Sql),
        ("query".to_owned(), ArgumentKind::Sql),
        ("run".to_owned(), ArgumentKind::Shell),
        ("target".to_owned(), ArgumentKind::Url),
        ("at".to_owned(), ArgumentKind::Path),
    ]);
    let of = |arguments: &Value| recognise(arguments, &mapping).effects;
    assert_eq!(of(&json!({ "body": "DROP TABLE t" })), ["sql.drop", "sql.write"]);
    assert_eq!(of(&json!({ "query": "how to drop a table" })), ["sql.unparsed"]);
    assert_eq!(of(&json!({ "run": ["rm", "x"] })), ["shell.delete", "shell.run"]);
    assert_eq!(of(&json!({ "target": "10.0.0.1" })), ["url.private_network"]);
    assert_eq!(of(&json!({ "at": "/etc" })), ["path.absolute", "path.system"]);
}

#[test]
fn a_flood_of_arguments_ends_and_fails_closed() {
    let many: Vec<Value> = (0..2000).map(|n| json!({ "sql": format!("SELECT '{}{n}'", "x".repeat(1000)) })).collect();
    assert_eq!(effects(&json!(many)), ["sql.read", "sql.unparsed"]);
    let mut deep = json!({ "sql": "DROP TABLE t" });
    for _ in 0..200 {
        deep = json!([deep]);
    }
    assert_eq!(effects(&deep), ["shell.unparsed", "sql.unparsed"]);
}

/// What is parsed in one call has a bound, however it is split into texts, and behind it nothing passes for harmless.
#[test]
fn parsing_has_a_bound_for_each_call() {
    let lists = ["SELECT {}1 -- `", "SELECT * FROM t WHERE a IN ({}1) -- `", "VALUES ((1)){} -- `"];
    for (list, one) in lists.into_iter().zip(["1,", "1,", ",((1))"]) {
        let text = list.replace("{}", &one.repeat(60_000 / one.len()));
        assert_eq!(effects(&json!({ "sql": [text] })), ["sql.unparsed"], "{list}");
        let shorter = list.replace("{}", &one.repeat(6_000 / one.len()));
        assert_eq!(effects(&json!({ "sql": [shorter] })), ["sql.read"], "{list}");
        let found = effects(&json!({ "sql": vec![&shorter; 8], "then": { "script": "rm x", "command": "ls" } }));
        assert_eq!(found, ["shell.unparsed", "sql.read", "sql.unparsed"], "{list}");
    }
    let commands = json!({ "commands": vec!["true ;".repeat(10_000); 8], "sql": "DROP TABLE t" });
    assert_eq!(effects(&commands), ["shell.run", "shell.unparsed", "sql.unparsed"]);
}

#[test]
fn a_brief_look_says_the_same_or_nothing() {
    let tool = Tool::readable(Kind::Prompt, crate::domain::id::ToolId::own("x"));
    for arguments in
        [json!({ "sql": "SELECT 'a' -- b" }), json!({ "command": "rm x" }), json!({ "a": "x".repeat(90_000) })]
    {
        assert_eq!(of_call_briefly(&tool, &arguments), Some(of_call(&tool, &arguments)));
    }
    let insert = "INSERT INTO t (a, b) VALUES (1, 'x');".repeat(100);
    for arguments in [json!({ "sql": insert }), json!({ "commands": vec!["true;".repeat(100); 100] })] {
        assert_eq!(of_call_briefly(&tool, &arguments), None);
    }
}

#[test]
fn a_uri_says_what_reading_it_would_touch() {
    let cases: &[(&str, &[&str])] = &[
        ("file:///srv/a.txt", &["path.absolute", "url.file"]),
        ("FILE:/etc/passwd", &["path.absolute", "path.system", "url.file"]),
        ("file:///srv/../etc/shadow", &["path.absolute", "path.secret", "path.system", "path.traversal", "url.file"]),
        ("file:///srv/%2e%2e%2fx", &["path.absolute", "path.traversal", "url.file"]),
        ("file:///srv/..?x", &["path.absolute", "path.traversal", "url.file"]),
        ("memo://insights", &["url.other_scheme"]),
        ("memo:a/../b", &["path.traversal", "url.other_scheme"]),
        ("memo:../b", &["path.traversal", "url.other_scheme"]),
        ("repo://a/b/.env", &["path.secret", "url.other_scheme"]),
        ("https://example.com/etc/x", &["url.http"]),
        ("http://10.0.0.1/a", &["url.http", "url.plain_http", "url.private_network"]),
        ("http://169.254.169.254/", &["url.http", "url.metadata", "url.plain_http", "url.private_network"]),
        ("../x", &["path.traversal"]),
        ("C:\\Windows\\x", &["path.absolute", "path.system", "url.other_scheme"]),
        ("notes", &[]),
        ("", &[]),
    ];
    for (uri, expected) in cases {
        assert_eq!(of_resource(uri).effects, *expected, "{uri}");
    }
}

fn any_arguments() -> impl Strategy<Value = Value> {
    let name = proptest::sample::select(
        &["sql", "query", "command", "script", "url", "path", "args", "argv", "text", "files", "commands"][..],
    );
    let text = prop_oneof![
        "\\PC{0,60}",
        "[a-z/.~:@%$(){}'\";|&<>\\-\\\\ 0-9]{0,60}",
        proptest::sample::select(&["DROP TABLE t", "rm -rf /", "http://0x7f.1/", "../etc/passwd", "SELECT 1;"][..])
            .prop_map(str::to_owned),
    ];
    let leaf = prop_oneof![text.prop_map(Value::from), any::<i64>().prop_map(Value::from), Just(Value::Null)];
    leaf.prop_recursive(4, 24, 6, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            proptest::collection::btree_map(name.clone(), inner, 0..6).prop_map(|members| {
                Value::Object(members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
            }),
        ]
    })
}

proptest! {
    #[test]
    fn only_the_vocabulary_is_spoken(arguments in any_arguments()) {
        let found = effects(&arguments);
        prop_assert!(found.is_sorted_by(|one, two| one < two));
        for effect in &found {
            prop_assert!(VOCABULARY.iter().any(|(name, _)| name == effect));
        }
        prop_assert_eq!(&found, &effects(&arguments));
    }

    #[test]
    fn more_arguments_take_nothing_away(one in any_arguments(), two in any_arguments()) {
        let both = effects(&json!([one, two]));
        for effect in effects(&one).iter().chain(&effects(&two)) {
            prop_assert!(both.contains(effect));
        }
    }
}
