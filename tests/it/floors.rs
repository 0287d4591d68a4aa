//! The architecture as a test: who may use whom, who may touch what, and that nothing is forgotten.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// From the ground up. A module uses what lies below it, and never its neighbours.
const FLOORS: [&[&str]; 9] = [
    &["domain"],
    &["evals", "policy", "scan", "search", "wire"],
    &["config", "fetch", "store"],
    &["approvals", "authn", "backend", "brain", "journal", "ledger", "telemetry"],
    &["pipeline"],
    &["own"],
    &["gateway"],
    &["http"],
    &["cli"],
];

/// Words that only some files may say, and why.
const DENIED: [(&[&str], &[&str], &str); 4] = [
    (
        &["std::time::Instant", "SystemTime", "Timestamp::now", "Zoned::now"],
        &["domain/clock.rs"],
        "only `domain::clock` reads time (timers are tokio's, which tests can pause)",
    ),
    // The demo database is another process: a backend that happens to ship with the program.
    (&["rusqlite"], &["store/", "cli/demo/"], "only `store` uses the database"),
    (&["std::env::", "env::var"], &["config/", "cli/"], "only `config` and `cli` read the environment"),
    (&["println!", "eprintln!", "print!("], &[], "what people see goes through `cli::print`"),
];

/// The doors may name only these besides themselves: what they need of the rest, the gateway gives them.
const DOORS: [(&str, &[&str]); 2] = [
    ("http", &["gateway", "wire", "config", "domain", "http"]),
    ("cli", &["gateway", "wire", "config", "domain", "http", "cli"]),
];

const MAX_LINES: usize = 400;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every Rust file below a folder, with its path relative to it.
fn files(folder: &str) -> Vec<(String, String)> {
    let base = root().join(folder);
    let (mut found, mut folders) = (Vec::new(), vec![base.clone()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(&base).unwrap().display().to_string();
                found.push((name, std::fs::read_to_string(&path).unwrap()));
            }
        }
    }
    found.sort();
    assert!(found.len() > 5, "{folder}: where are the files?");
    found
}

fn is_test_file(name: &str) -> bool {
    name.ends_with("tests.rs") || name.contains("tests/") || name.ends_with("tamper.rs")
}

/// The code before the tests, without comments.
fn code(text: &str) -> String {
    let code = text.split("\n#[cfg(test)]\nmod tests").next().unwrap_or_default();
    code.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

/// The modules that follow `crate::`, groups in braces included.
fn named(code: &str) -> BTreeSet<String> {
    let word = |text: &str| {
        text.trim_start().chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect::<String>()
    };
    let mut found = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        let before = code[..at].chars().next_back();
        if before.is_some_and(|c| c.is_ascii_alphanumeric() || c == '_' || c == '$') {
            continue;
        }
        let rest = &code[at + "crate::".len()..];
        match rest.strip_prefix('{') {
            None => drop(found.insert(word(rest))),
            Some(group) => {
                let mut depth = 1;
                let mut item = String::new();
                for c in group.chars() {
                    match c {
                        '{' => depth += 1,
                        '}' => depth -= 1,
                        ',' if depth == 1 => drop(found.insert(word(&std::mem::take(&mut item)))),
                        c if depth == 1 => item.push(c),
                        _ => {}
                    }
                    if depth == 0 {
                        found.insert(word(&item));
                        break;
                    }
                }
            }
        }
    }
    found.remove("");
    found
}

fn module(name: &str) -> &str {
    name.split(['/', '.']).next().unwrap_or_default()
}

fn floor(module: &str) -> Option<usize> {
    FLOORS.iter().position(|modules| modules.contains(&module))
}

fn nothing(found: &[String]) {
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

#[test]
fn modules_use_only_what_lies_below() {
    let mut found = Vec::new();
    for (name, text) in files("src")
        .into_iter()
        .filter(|(name, _)| !["lib.rs", "main.rs"].contains(&name.as_str()) && !is_test_file(name))
    {
        let own = module(&name).to_owned();
        let Some(here) = floor(&own) else {
            found.push(format!("src/{name}: `{own}` stands on no floor"));
            continue;
        };
        for used in named(&code(&text)).into_iter().filter(|used| *used != own) {
            match floor(&used) {
                Some(there) if there < here => {}
                Some(_) => {
                    found.push(format!("src/{name}: `{own}` may not use `{used}`, which lies beside or above it"))
                }
                None => found.push(format!("src/{name}: `{used}` stands on no floor")),
            }
        }
    }
    nothing(&found);
}

#[test]
fn the_doors_know_only_the_gateway() {
    let mut found = Vec::new();
    for (name, text) in files("src").into_iter().filter(|(name, _)| !is_test_file(name)) {
        let Some((door, allowed)) = DOORS.iter().find(|(door, _)| module(&name) == *door) else { continue };
        for used in named(&code(&text)) {
            if !allowed.contains(&used.as_str()) {
                found.push(format!("src/{name}: `{door}` may not name `{used}`"));
            }
        }
    }
    nothing(&found);
}

#[test]
fn some_words_belong_to_some_files() {
    let mut found = Vec::new();
    for (name, text) in files("src").into_iter().filter(|(name, _)| !is_test_file(name)) {
        let code = code(&text);
        for (words, owners, why) in DENIED {
            if owners.iter().any(|owner| name.starts_with(owner)) {
                continue;
            }
            for word in words.iter().filter(|word| code.contains(*word)) {
                found.push(format!("src/{name}: `{word}`: {why}"));
            }
        }
    }
    nothing(&found);
}

#[test]
fn files_are_short_and_say_what_they_are() {
    let mut found = Vec::new();
    let all = [("src", files("src")), ("tests/it", files("tests/it"))];
    for (folder, (name, text)) in
        all.into_iter().flat_map(|(folder, files)| files.into_iter().map(move |file| (folder, file)))
    {
        let before_tests = text.split("\n#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        let lines = before_tests.lines().count();
        if lines > MAX_LINES && !(folder == "src" && is_test_file(&name)) {
            found.push(format!("{folder}/{name}: {lines} lines before its tests"));
        }
        if !text.starts_with("//!") {
            found.push(format!("{folder}/{name}: does not open with `//!`"));
        }
    }
    nothing(&found);
}

/// Every file of the tests is a module of `main.rs` or of the `mod.rs` beside it.
#[test]
fn no_test_file_is_forgotten() {
    let base = root().join("tests/it");
    let mut found = Vec::new();
    for (name, _) in files("tests/it").into_iter().filter(|(name, _)| name != "main.rs") {
        let path = PathBuf::from(&name);
        let (module, folder) = match path.file_stem().and_then(|stem| stem.to_str()) {
            Some("mod") => {
                (path.parent().and_then(Path::file_name).unwrap(), path.parent().and_then(Path::parent).unwrap())
            }
            _ => (path.file_stem().unwrap(), path.parent().unwrap()),
        };
        let above = if folder == Path::new("") { base.join("main.rs") } else { base.join(folder).join("mod.rs") };
        let line = format!("mod {};", module.to_str().unwrap());
        if !std::fs::read_to_string(&above)
            .unwrap()
            .lines()
            .any(|other| other.trim_start_matches("pub(crate) ") == line)
        {
            found.push(format!("tests/it/{name}: `{line}` is missing in {}", above.display()));
        }
    }
    nothing(&found);
}

/// What the pages link to is there.
#[test]
fn links_lead_somewhere() {
    let mut found = Vec::new();
    for page in ["README.md", "ARCHITECTURE.md", "CHANGELOG.md", "examples/README.md"] {
        let Ok(text) = std::fs::read_to_string(root().join(page)) else { continue };
        for target in text.match_indices("](").filter_map(|(at, _)| text[at + 2..].split([')', '#', ' ']).next()) {
            let here = root().join(page);
            let outside = target.is_empty() || target.contains("://") || target.starts_with("mailto:");
            if !outside && !here.parent().unwrap().join(target).exists() {
                found.push(format!("{page}: `{target}` is not there"));
            }
        }
    }
    nothing(&found);
}

#[test]
fn the_reader_of_paths_reads_them() {
    let code =
        "use crate::a::{b, c};\nuse crate::{d::e, f, g::{h, i}};\nlet x = crate::j::k(); $crate::no; use toolgate::no;";
    assert_eq!(named(code).into_iter().collect::<Vec<_>>(), ["a", "d", "f", "g", "j"]);
}
