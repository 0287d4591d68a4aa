//! `evals/*.toml`: suites of test cases, read as REST reads them, with the places of their faults in the file.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Number, Value};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::reader::{Fault, Faults};
use crate::evals::{self, Flaw, Suite, Suites};

/// The suite for the demo servers, which ships with the program.
pub const SHIPPED: (&str, &str) = ("evals/demo.toml", include_str!("../../evals/demo.toml"));

/// Reads suites, each from its file.
///
/// # Errors
/// Every fault in every file; two suites with one id.
pub fn read_all(files: &[(String, String)]) -> Result<Suites, Faults> {
    let (mut suites, mut faults, mut homes) = (Suites::new(), Vec::new(), BTreeMap::<u64, &str>::new());
    for (file, text) in files {
        match read(file, text) {
            Ok(suite) => {
                if let Some(other) = homes.insert(suite.id, file) {
                    let message = format!("`id` is {} here and in `{other}`: each suite has its own", suite.id);
                    faults.push(Fault { file: file.clone(), line: 1, column: 1, message, hint: None });
                }
                suites.insert(suite.id, Arc::new(suite));
            }
            Err(found) => faults.extend(found.0),
        }
    }
    if faults.is_empty() { Ok(suites) } else { Err(Faults(faults)) }
}

/// Reads the suite of one file.
///
/// # Errors
/// Every fault in it.
pub fn read(file: &str, text: &str) -> Result<Suite, Faults> {
    let fault = |at: usize, message: String, hint: Option<String>| {
        let before = text.get(..at).unwrap_or(text);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().map_or(0, |rest| rest.chars().count()) + 1;
        Fault { file: file.to_owned(), line, column, message, hint }
    };
    let (table, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        let of_syntax =
            |error: toml::de::Error| fault(error.span().map_or(0, |span| span.start), error.message().to_owned(), None);
        return Err(Faults(errors.into_iter().map(of_syntax).collect()));
    }
    evals::read(&tree(table.get_ref())).map_err(|flaws| {
        let placed = |Flaw { at, message, hint }: Flaw| fault(place(table.get_ref(), &at), message, hint);
        let mut faults: Vec<Fault> = flaws.into_iter().map(placed).collect();
        faults.sort_by_key(|fault| (fault.line, fault.column));
        Faults(faults)
    })
}

fn tree(table: &DeTable<'_>) -> Value {
    let member = |(key, value): (&Spanned<_>, &Spanned<DeValue<'_>>)| {
        let key: &std::borrow::Cow<'_, str> = key.get_ref();
        (key.to_string(), leaf(value.get_ref()))
    };
    Value::Object(table.iter().map(member).collect::<Map<String, Value>>())
}

fn leaf(value: &DeValue<'_>) -> Value {
    match value {
        DeValue::String(text) => Value::from(text.as_ref()),
        DeValue::Boolean(flag) => Value::from(*flag),
        DeValue::Integer(number) => {
            i64::from_str_radix(number.as_str(), number.radix()).map_or(Value::Null, Value::from)
        }
        DeValue::Float(number) => {
            number.as_str().parse::<f64>().ok().and_then(Number::from_f64).map_or(Value::Null, Value::Number)
        }
        DeValue::Datetime(moment) => Value::from(moment.to_string()),
        DeValue::Array(items) => items.iter().map(|item| leaf(item.get_ref())).collect(),
        DeValue::Table(table) => tree(table),
    }
}

/// Where in the file the member stands to which a pointer leads, or the last on the way there: at its key, where it has
/// one.
fn place(table: &DeTable<'_>, pointer: &str) -> usize {
    let (mut at, mut here) = (0, None::<&DeValue<'_>>);
    for step in pointer.split('/').skip(1) {
        let step = step.replace("~1", "/").replace("~0", "~");
        let members = match here {
            None => Some(table),
            Some(DeValue::Table(members)) => Some(members),
            Some(_) => None,
        };
        let next = match (members, here) {
            (Some(members), _) => {
                members.get_key_value(step.as_str()).map(|(key, value)| (key.span().start, value.get_ref()))
            }
            (None, Some(DeValue::Array(items))) => {
                let item = step.parse::<usize>().ok().and_then(|n| items.get(n));
                item.map(|item| (item.span().start, item.get_ref()))
            }
            _ => None,
        };
        let Some((start, value)) = next else { break };
        (at, here) = (start, Some(value));
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ships_is_whole() {
        let suite = read(SHIPPED.0, SHIPPED.1).unwrap();
        assert_eq!((suite.id, suite.cases.iter().map(|case| case.weight).sum::<u64>()), (42, 100));
    }

    #[test]
    fn faults_name_file_and_line() {
        let text = "id = 1\nname = \"n\"\n\n[[cases]]\nname = \"a\"\ntool = \"t:u\"\n[cases.expect]\nmax_latency = \"soon\"\n\
                    [[cases.expect.jsonpath]]\npath = \"$..*..*..*\"\n[[cases]]\nnme = \"b\"\ntool = 3\n";
        insta::assert_snapshot!(read("evals/x.toml", text).unwrap_err(), @r"
evals/x.toml:8:1: `max_latency` must be a duration such as `500ms`
evals/x.toml:10:1: at most 2 of `..`, `?`, an inner `$`, `match` and `search` stand in one path
evals/x.toml:11:1: `name` is required
evals/x.toml:12:1: unknown key `nme`
  hint: did you mean `name`?
evals/x.toml:13:1: `tool` must be a string of 1 to 300 characters in one line
");
        insta::assert_snapshot!(read("evals/x.toml", "id = \nname = 3").unwrap_err(), @r"evals/x.toml:1:6: string values must be quoted, expected literal string");
    }

    #[test]
    fn an_id_belongs_to_one_suite() {
        let text = |id: u64| format!("id = {id}\nname = \"n\"\n[[cases]]\nname = \"a\"\ntool = \"t:u\"\n");
        let files = |ids: &[u64]| {
            ids.iter().enumerate().map(|(n, id)| (format!("evals/{n}.toml"), text(*id))).collect::<Vec<_>>()
        };
        assert_eq!(read_all(&files(&[1, 2])).unwrap().len(), 2);
        let faults = read_all(&files(&[1, 1])).unwrap_err();
        assert_eq!(
            faults.to_string(),
            "evals/1.toml:1:1: `id` is 1 here and in `evals/0.toml`: each suite has its own"
        );
    }

    #[test]
    fn a_file_that_nests_for_ever_is_a_fault() {
        let text = format!("id = 1\nname = \"n\"\nx = {}1{}\n", "[".repeat(50_000), "]".repeat(50_000));
        assert!(read("evals/x.toml", &text).is_err());
    }
}
