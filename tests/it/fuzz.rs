//! Any bytes at the places where text from outside is first read, within every run of the tests; `fuzz/` goes on from here.

use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{Config, TestRunner};

#[path = "../../fuzz/checks.rs"]
mod checks;

/// The seeds of a fuzz target.
fn seeds(target: &str) -> Vec<Vec<u8>> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(target);
    let mut paths: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(paths.len() >= 3, "{target} has few seeds");
    paths.iter().map(|path| std::fs::read(path).unwrap()).collect()
}

/// A change of one place: a byte replaced, put in or taken out, or a part repeated elsewhere.
#[derive(Debug, Clone)]
enum Change {
    Replace(Index, u8),
    Insert(Index, u8),
    Remove(Index, Index),
    Repeat(Index, Index, Index),
}

impl Change {
    fn apply(&self, bytes: &mut Vec<u8>) {
        if bytes.is_empty() {
            return;
        }
        let range = |one: &Index, other: &Index, length: usize| {
            let (one, other) = (one.index(length), other.index(length));
            one.min(other)..one.max(other)
        };
        match self {
            Self::Replace(at, byte) => {
                let at = at.index(bytes.len());
                bytes[at] = *byte;
            }
            Self::Insert(at, byte) => bytes.insert(at.index(bytes.len()), *byte),
            Self::Remove(one, other) => drop(bytes.drain(range(one, other, bytes.len()))),
            Self::Repeat(one, other, to) => {
                let piece = bytes[range(one, other, bytes.len())].to_vec();
                let to = to.index(bytes.len());
                bytes.splice(to..to, piece);
            }
        }
    }
}

/// Bytes that mean something in what is read here, more often than others.
fn byte() -> impl Strategy<Value = u8> {
    prop_oneof![any::<u8>(), prop::sample::select(b"{}[]()\"'\\:,;$`|&<>=-./*#\n\t 0eu\x00\xff".to_vec())]
}

fn change() -> impl Strategy<Value = Change> {
    let at = any::<Index>;
    prop_oneof![
        3 => (at(), byte()).prop_map(|(at, byte)| Change::Replace(at, byte)),
        3 => (at(), byte()).prop_map(|(at, byte)| Change::Insert(at, byte)),
        1 => (at(), at()).prop_map(|(one, other)| Change::Remove(one, other)),
        1 => (at(), at(), at()).prop_map(|(one, other, to)| Change::Repeat(one, other, to)),
    ]
}

/// Every seed, any bytes, and seeds that were changed in a few places.
fn holds(target: &str, check: fn(&[u8])) {
    let seeds = seeds(target);
    seeds.iter().for_each(|seed| check(seed));
    let changed =
        (prop::sample::select(seeds), prop::collection::vec(change(), 1..8)).prop_map(|(mut bytes, changes)| {
            changes.iter().for_each(|change| change.apply(&mut bytes));
            bytes
        });
    let strategy = prop_oneof![1 => prop::collection::vec(byte(), 0..300), 3 => changed];
    // `PROPTEST_CASES` asks for more.
    let usual = Config::default();
    let mut runner = TestRunner::new(Config { cases: usual.cases.max(600), failure_persistence: None, ..usual });
    let outcome = runner.run(&strategy, |bytes| {
        check(&bytes);
        Ok(())
    });
    outcome.unwrap_or_else(|error| panic!("{target}: {error}"));
}

#[test]
fn messages_of_clients() {
    holds("json_rpc", checks::json_rpc);
}

#[test]
fn messages_of_backends() {
    holds("results", checks::results);
}

#[test]
fn arguments_that_are_sql() {
    holds("sql", checks::sql);
}

#[test]
fn arguments_that_are_commands() {
    holds("shell", checks::shell);
}

#[test]
fn configurations() {
    holds("configuration", checks::configuration);
}
