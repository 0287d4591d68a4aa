//! What tables of the documentation must have: nothing of the program is missing there.

use std::collections::BTreeSet;
use std::fs;

use toml::Value;
use toolgate::http::{Access, ROUTES};

fn text(name: &str) -> String {
    fs::read_to_string(format!("{}/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

/// What stands in backticks, in each line of the section under a heading.
fn ticked(document: &str, heading: &str) -> Vec<Vec<String>> {
    let (_, section) = document.split_once(&format!("\n{heading}\n")).unwrap();
    let level = heading.split(' ').next().unwrap();
    let rows = section.lines().take_while(|line| !line.starts_with(&format!("{level} ")));
    let rows = rows.filter_map(|line| line.strip_prefix("| `").map(|rest| format!("`{rest}")));
    let cell = |row: &str| row.split(" | ").next().unwrap().split('`').skip(1).step_by(2).map(str::to_owned).collect();
    rows.map(|row| cell(&row)).collect()
}

#[test]
fn what_is_open_without_a_key_stands_in_the_table() {
    let table: Vec<String> = ticked(&text("docs/security.md"), "## Open without a key").concat();
    // `GET /a`, `/b`: the method goes on; what ends in `…` stands for all that begins so.
    let mut method = String::new();
    let mut told = BTreeSet::new();
    for entry in table {
        let path = match entry.split_once(' ') {
            Some((verb, path)) => {
                method = verb.to_owned();
                path.to_owned()
            }
            None => entry,
        };
        told.insert(format!("{method} {path}"));
    }
    for route in ROUTES.iter().filter(|route| matches!(route.access, Access::Public | Access::Local)) {
        let name = format!("{} {}", route.method, route.path);
        let stands = |entry: &String| match entry.strip_suffix('…') {
            Some(start) => name.starts_with(start),
            None => *entry == name,
        };
        assert!(told.iter().any(stands), "{name} is missing: {told:?}");
    }
}

/// Every key that a file sets, with `X`, `Y`, `NAME` and `N` for names that are made up.
fn keys(prefix: &str, table: &toml::Table, out: &mut BTreeSet<String>) {
    for (name, value) in table {
        let name = match prefix {
            "servers" => "X",
            "servers.X.tools" => "Y",
            "providers" => "NAME",
            "plans" => "N",
            _ => name,
        };
        let path = if prefix.is_empty() { name.to_owned() } else { format!("{prefix}.{name}") };
        match value {
            Value::Table(inner) if is_ours(&path) => keys(&path, inner, out),
            _ => drop(out.insert(path)),
        }
    }
}

/// Whether the names in a table are keys, and not the operator's.
fn is_ours(path: &str) -> bool {
    !["env", "headers", "effects", "scopes", "authorize_parameters"]
        .iter()
        .any(|name| path.ends_with(&format!(".{name}")))
}

#[test]
fn every_key_of_the_example_stands_in_the_reference() {
    let mut told = BTreeSet::new();
    for row in ticked(&text("README.md"), "### Configuration") {
        let mut last = String::new();
        for entry in row {
            // `a.b`, `.c`: another key in the same place.
            last = match entry.strip_prefix('.') {
                Some(name) => format!("{}.{name}", last.rsplit_once('.').map_or("", |(place, _)| place)),
                None => entry,
            };
            told.insert(last.clone());
        }
    }
    let mut wanted = BTreeSet::new();
    keys("", &text("examples/toolgate.toml").parse().unwrap(), &mut wanted);
    assert!(wanted.len() > 60, "{wanted:?}");
    let missing: Vec<&String> = wanted
        .iter()
        // A row may speak of a whole place, and what a server has may stand under a tool too.
        .filter(|key| {
            let of_server = key.replace(".tools.Y", "");
            let place = |key: &str| format!("{}.…", key.rsplit_once('.').map_or("", |(place, _)| place));
            let known = [(*key).clone(), of_server, place(key)];
            !known.iter().any(|name| told.contains(name))
        })
        .collect();
    assert!(missing.is_empty(), "without a row in README.md: {missing:?}\n{told:?}");
}
