//! From a tree to a suite: one reader for files and for REST.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};

use jsonschema::PatternOptions;
use serde_json::{Map, Value};

use super::path::PathCheck;
use super::suite::{Case, Environment, Expect, Suite};
use super::table::{Flaw, Flaws, Table};
use crate::domain::decision::Verdict;
use crate::domain::duration::parse_duration;
use crate::domain::id::ServerName;
use crate::domain::json::{canonical, sha256_hex};

/// Bytes of a suite's canonical text.
const MAX_BYTES: usize = 512 * 1024;
const MAX_CASES: usize = 200;
const MAX_NAME: usize = 200;
const MAX_TOOL: usize = 300;
const MAX_TEXT: usize = 2000;
const MAX_CHECKS: usize = 50;
/// Patterns in all schemas of a suite, their bytes in sum, and bytes of the program that each is compiled to.
const MAX_PATTERNS: usize = 50;
const MAX_PATTERN_BYTES: usize = 4096;
const MAX_PROGRAM: usize = 256 << 10;
/// Ids that a JSON number holds exactly.
const MAX_ID: u64 = 9_007_199_254_740_991;
const MAX_WEIGHT: u64 = 1000;
const CONCURRENCY: u64 = 4;
const MAX_CONCURRENCY: u64 = 16;

/// Reads a suite.
///
/// # Errors
/// All that is wrong with it.
pub fn read(source: &Value) -> Result<Suite, Vec<Flaw>> {
    read_with(source, Flaws::default())
}

/// Reads a suite that was read before and is whole: nothing of it is compiled again.
///
/// # Errors
/// Where it is not whole after all.
pub fn read_again(source: &Value) -> Result<Suite, Vec<Flaw>> {
    read_with(source, Flaws::of_known())
}

fn read_with(source: &Value, flaws: Flaws) -> Result<Suite, Vec<Flaw>> {
    let text = canonical(source);
    let refused = |message| Err(vec![Flaw { at: String::new(), message, hint: None }]);
    if text.len() > MAX_BYTES {
        return refused(format!("a suite has at most {MAX_BYTES} bytes, this one {}: split it", text.len()));
    }
    let (patterns, bytes) = patterns(source);
    if patterns > MAX_PATTERNS || bytes > MAX_PATTERN_BYTES {
        return refused(format!(
            "the schemas of a suite hold at most {MAX_PATTERNS} patterns of {MAX_PATTERN_BYTES} bytes together, these \
             {patterns} of {bytes}: split it"
        ));
    }
    let suite = Table::of(source, String::new(), &flaws).and_then(|top| suite(&top, &text, &flaws));
    let found = flaws.into_inner();
    suite.filter(|_| found.is_empty()).ok_or(found)
}

fn suite(top: &Table<'_>, text: &str, flaws: &Flaws) -> Option<Suite> {
    let id = required(top, "id", top.whole("id", &(1..=MAX_ID)));
    let name = required(top, "name", top.text("name", MAX_NAME));
    let mut cases = Vec::new();
    let mut names = BTreeSet::new();
    for (at, value) in top.list("cases", MAX_CASES) {
        let Some(table) = Table::of(value, at, flaws) else { continue };
        let Some(case) = case(&table, flaws) else { continue };
        if !names.insert(case.name.clone()) {
            table.flaw("name", format!("two cases have the name `{}`: runs are compared by it", case.name));
        }
        cases.push(case);
    }
    if top.take("cases").is_none_or(|cases| cases.as_array().is_some_and(Vec::is_empty)) {
        flaws.add(top.at.clone(), "a suite has at least one case: `[[cases]]`", None);
    }
    let description = top.text("description", MAX_TEXT);
    let tolerance = top.number("tolerance", &(0.0..=100.0)).unwrap_or(0.0);
    let concurrency = top.whole("concurrency", &(1..=MAX_CONCURRENCY)).unwrap_or(CONCURRENCY);
    let concurrency = usize::try_from(concurrency).unwrap_or(1);
    let environments = environments(top, flaws);
    top.refuse_the_rest();
    let digest = sha256_hex(text.as_bytes()).into();
    Some(Suite { id: id?, name: name?, description, tolerance, concurrency, environments, cases, digest })
}

/// Notes where something that is needed is not there; what is there and wrong was noted already.
fn required<T>(table: &Table<'_>, key: &'static str, read: Option<T>) -> Option<T> {
    if read.is_none() && table.take(key).is_none() {
        table.missing(key);
    }
    read
}

fn environments(top: &Table<'_>, flaws: &Flaws) -> BTreeMap<Environment, BTreeMap<String, String>> {
    let mut environments = BTreeMap::new();
    let Some(table) = top.table("environments") else { return environments };
    for (name, value) in table.all() {
        let Some(environment) = Environment::parse(name) else {
            table.flaw(name, "an environment is `dev`, `staging` or `prod`");
            continue;
        };
        let Some(servers) = Table::of(value, table.place(name), flaws) else { continue };
        let mut stand_ins = BTreeMap::new();
        for (from, to) in servers.all() {
            let is_name = |text: &str| text.parse::<ServerName>().is_ok();
            match to.as_str().filter(|to| is_name(to) && is_name(from)) {
                Some(to) => drop(stand_ins.insert(from.clone(), to.to_owned())),
                None => servers.flaw(from, "a server's name stands for another server's name"),
            }
        }
        environments.insert(environment, stand_ins);
    }
    environments
}

fn case(table: &Table<'_>, flaws: &Flaws) -> Option<Case> {
    let name = required(table, "name", table.text("name", MAX_NAME));
    let tool = required(table, "tool", table.text("tool", MAX_TOOL));
    let arguments = table.take("arguments").cloned().unwrap_or_else(|| Value::Object(Map::new()));
    if !arguments.is_object() {
        table.flaw("arguments", "`arguments` must be a table");
    }
    let weight = table.whole("weight", &(1..=MAX_WEIGHT)).unwrap_or(1);
    let written = table.take("expect").cloned().unwrap_or_else(|| Value::Object(Map::new()));
    let expect = table.table("expect").map(|expect| expectation(&expect, flaws)).unwrap_or_default();
    table.refuse_the_rest();
    Some(Case { name: name?, tool: tool?, arguments, weight, expect, written })
}

fn expectation(table: &Table<'_>, flaws: &Flaws) -> Expect {
    let schema = table.take("schema").cloned();
    if let Some(why) = schema.as_ref().filter(|_| !table.is_known()).and_then(unusable) {
        table.flaw("schema", format!("this schema cannot be used: {why}"));
    }
    let checks = table.list("jsonpath", MAX_CHECKS);
    let paths = checks.into_iter().filter_map(|(at, value)| PathCheck::read(&Table::of(value, at, flaws)?)).collect();
    let expect = Expect {
        decision: table.parsed("decision", "`allow`, `deny` or `approval`", Verdict::parse),
        policy: table.text("policy", MAX_NAME),
        is_error: table.flag("is_error"),
        equals: table.take("equals").cloned(),
        paths,
        schema,
        text_contains: texts(table),
        max_latency: table.parsed("max_latency", "a duration such as `500ms`", parse_duration),
    };
    table.refuse_the_rest();
    expect
}

/// One string, or a list of them.
fn texts(table: &Table<'_>) -> Vec<String> {
    let one = |value: &Value| value.as_str().filter(|text| text.len() <= MAX_TEXT).map(str::to_owned);
    let read = match table.take("text_contains") {
        None => return Vec::new(),
        Some(Value::Array(items)) if items.len() <= MAX_CHECKS => items.iter().map(one).collect(),
        Some(value) => one(value).map(|text| vec![text]),
    };
    read.unwrap_or_else(|| {
        table.flaw("text_contains", format!("`text_contains` must be a string, or up to {MAX_CHECKS} of them"));
        Vec::new()
    })
}

/// How many patterns the schemas of a suite hold, and how many bytes: each becomes a program, which is larger by far.
fn patterns(source: &Value) -> (usize, usize) {
    let cases = source.get("cases").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let mut rest: Vec<&Value> = cases.iter().filter_map(|case| case.pointer("/expect/schema")).collect();
    let (mut count, mut bytes) = (0, 0);
    while let Some(value) = rest.pop() {
        let Value::Object(members) = value else {
            rest.extend(value.as_array().into_iter().flatten());
            continue;
        };
        let alone = members.get("pattern").and_then(Value::as_str);
        let named = members.get("patternProperties").and_then(Value::as_object).into_iter().flat_map(Map::keys);
        for pattern in alone.into_iter().chain(named.map(String::as_str)) {
            count += 1;
            bytes += pattern.len();
        }
        rest.extend(members.values());
    }
    (count, bytes)
}

/// Why a schema cannot be compiled. Nothing is fetched, and patterns run in linear time.
fn unusable(schema: &Value) -> Option<String> {
    let compile = || {
        let patterns = PatternOptions::regex().size_limit(MAX_PROGRAM);
        jsonschema::options()
            .offline()
            .with_pattern_options(patterns)
            .build(schema)
            .err()
            .map(|error| error.to_string())
    };
    // A library of some size on what may be hostile.
    let why = catch_unwind(AssertUnwindSafe(compile)).unwrap_or_else(|_| Some("it cannot be compiled".into()))?;
    Some(why.chars().take(200).collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn flaws(source: &Value) -> Vec<String> {
        let found = read(source).err().unwrap_or_default();
        found
            .into_iter()
            .map(|flaw| {
                format!(
                    "{}: {}{}",
                    flaw.at,
                    flaw.message,
                    flaw.hint.map(|hint| format!(" ({hint})")).unwrap_or_default()
                )
            })
            .collect()
    }

    #[test]
    fn a_suite_is_read_with_what_is_left_out() {
        let suite = read(&json!({"id": 7.0, "name": "s", "cases": [{"name": "c", "tool": "up:read"}]})).unwrap();
        assert_eq!((suite.id, suite.tolerance, suite.concurrency), (7, 0.0, 4));
        assert_eq!(suite.cases[0].view(1)["arguments"], json!({}));
        assert_eq!((suite.cases[0].weight, &suite.cases[0].expect), (1, &Expect::default()));
    }

    #[test]
    fn all_that_is_wrong_is_told_with_its_place() {
        let source = json!({
            "id": 0, "nam": "x", "tolerance": 101, "concurrency": 99,
            "environments": {"test": {}, "dev": {"a": "b c"}},
            "cases": [
                {"name": "c", "tool": "up:read", "arguments": 3, "weight": 0},
                {"name": "c", "tool": "up:read", "expect": {
                    "decision": "maybe", "max_latency": "soon", "jsonpath": [{"path": "$["}, 3, {}],
                    "schema": {"type": "nothing"}, "text_contains": [1], "equal": 1,
                }},
                {"name": "c", "tool": "up:read"},
                7,
            ],
        });
        insta::assert_snapshot!(flaws(&source).join("\n"), @r#"
/id: `id` must be a whole number from 1 to 9007199254740991
: `name` is required
/cases/0/arguments: `arguments` must be a table
/cases/0/weight: `weight` must be a whole number from 1 to 1000
/cases/1/expect/schema: this schema cannot be used: "nothing" is not valid under any of the schemas listed in the 'anyOf' keyword
/cases/1/expect/jsonpath/0/path: `$[` is not a JSONPath (RFC 9535): at position 1, parser error
/cases/1/expect/jsonpath/1: this must be a table
/cases/1/expect/jsonpath/2: `path` is required
/cases/1/expect/decision: `decision` must be `allow`, `deny` or `approval`
/cases/1/expect/text_contains: `text_contains` must be a string, or up to 50 of them
/cases/1/expect/max_latency: `max_latency` must be a duration such as `500ms`
/cases/1/expect/equal: unknown key `equal` (did you mean `equals`?)
/cases/1/name: two cases have the name `c`: runs are compared by it
/cases/2/name: two cases have the name `c`: runs are compared by it
/cases/3: this must be a table
/tolerance: `tolerance` must be a number from 0 to 100
/concurrency: `concurrency` must be a whole number from 1 to 16
/environments/test: an environment is `dev`, `staging` or `prod`
/environments/dev/a: a server's name stands for another server's name
/nam: unknown key `nam` (did you mean `name`?)
"#);
    }

    #[test]
    fn a_suite_has_an_end() {
        assert_eq!(flaws(&json!([])), [": this must be a table"]);
        assert_eq!(
            flaws(&json!({"id": 1, "name": "n", "cases": []})),
            [": a suite has at least one case: `[[cases]]`"]
        );
        let cases: Vec<Value> = (0..201).map(|n| json!({"name": n.to_string(), "tool": "a:b"})).collect();
        let found = flaws(&json!({"id": 1, "name": "n", "cases": cases}));
        assert_eq!(found, ["/cases: `cases` holds 201 items: at most 200 are taken"]);
        let huge = json!({"id": 1, "name": "n", "cases": [{"name": "c", "tool": "t", "arguments": {"x": "x".repeat(MAX_BYTES)}}]});
        assert!(flaws(&huge)[0].contains("bytes"), "{:?}", flaws(&huge));
        let many: Map<String, Value> = (0..1000).map(|n| (format!("k{n}"), json!(1))).collect();
        assert_eq!(flaws(&Value::Object(many)).len(), 50);
    }

    #[test]
    fn an_environment_puts_one_server_in_the_place_of_another() {
        let source = json!({
            "id": 1, "name": "n", "environments": {"dev": {"git": "git-dev", "git.hub": "hub"}},
            "cases": [{"name": "a", "tool": "git:read"}, {"name": "b", "tool": "git.hub.read"}, {"name": "c", "tool": "github:read"}],
        });
        let suite = read(&source).unwrap();
        let tools = |environment| {
            let servers = suite.environments.get(&environment);
            suite.cases.iter().map(|case| case.tool_in(servers)).collect::<Vec<_>>()
        };
        assert_eq!(tools(Environment::Dev), ["git-dev:read", "hub:read", "github:read"]);
        assert_eq!(tools(Environment::Prod), ["git:read", "git.hub.read", "github:read"]);
    }

    fn with_schema(schema: &Value) -> Value {
        let cases: Vec<Value> = ["a", "b"]
            .iter()
            .map(|name| json!({"name": name, "tool": "t", "expect": {"schema": {"properties": {"a": schema}}}}))
            .collect();
        json!({"id": 1, "name": "n", "cases": cases})
    }

    /// A few kilobytes of patterns are many megabytes of programs, wherever in a suite they stand.
    #[test]
    fn a_suite_has_a_few_dozen_patterns() {
        let each = |count: usize| -> Vec<Value> { (0..count).map(|n| json!({"pattern": format!("a{n}")})).collect() };
        assert_eq!(flaws(&with_schema(&json!({"anyOf": each(25)}))), Vec::<String>::new());
        let named: Map<String, Value> = (0..26).map(|n| (format!("a{n}"), json!(true))).collect();
        let long = json!({"pattern": "a".repeat(MAX_PATTERN_BYTES / 2 + 1)});
        for schema in [json!({"anyOf": each(26)}), json!({"items": [{"patternProperties": named}]}), long] {
            let suite = with_schema(&schema);
            let told = flaws(&suite);
            assert!(told.len() == 1 && told[0].contains("hold at most 50 patterns of 4096 bytes"), "{told:?}");
            assert!(read_again(&suite).is_err());
        }
    }

    #[test]
    fn what_was_read_before_is_not_compiled_again() {
        let mut suite = with_schema(&json!({"pattern": "("}));
        suite["cases"][0]["expect"]["jsonpath"] = json!([{"path": "$["}]);
        assert_eq!(flaws(&suite).len(), 3);
        let again = read_again(&suite).unwrap();
        assert_eq!((again.cases.len(), again.cases[0].expect.paths.len()), (2, 1));
    }

    #[test]
    fn a_hostile_schema_is_a_flaw() {
        for schema in [
            json!({"$ref": "https://example.org/schema.json"}),
            json!({"pattern": "(a{1000}){1000}"}),
            json!({"pattern": "(?=x)"}),
            json!({"pattern": r"^\p{L}{20}$"}),
        ] {
            let source =
                json!({"id": 1, "name": "n", "cases": [{"name": "c", "tool": "t", "expect": {"schema": schema}}]});
            assert!(flaws(&source)[0].starts_with("/cases/0/expect/schema: this schema cannot be used"), "{schema}");
        }
    }
}
