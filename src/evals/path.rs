//! What a JSONPath (RFC 9535) selects of a result, with a bound on the work.
//!
//! A query can select from what it has selected, each time everything: its cost grows with the size of the value to the
//! power of such steps. So those are counted, and the more there are the smaller a value is looked at.

use serde_json::Value;
use serde_json_path::JsonPath;

use super::judge::{same, shown};
use super::table::Table;

/// Characters of a query, and how deep its brackets go.
const MAX_CHARS: usize = 300;
const MAX_NESTING: usize = 6;
/// Bytes of the texts in a query with a pattern: it is compiled anew for each value.
const MAX_PATTERN: usize = 100;
/// Steps that look at everything below or around: `..`, `?`, `$` inside, and what runs a pattern.
const MAX_WIDE: usize = 2;
/// Nodes of the largest value that is looked at, by the count of such steps.
const MOST_NODES: [usize; MAX_WIDE + 1] = [200_000, 50_000, 5_000];
/// What stands for a text, where the rest of a query is looked at.
const QUOTED: &str = "'";
/// Nodes that a query may select.
const MOST_SELECTED: usize = 10_000;

/// A query and what is asked of its selection.
#[derive(Debug, Clone, PartialEq)]
pub struct PathCheck {
    path: String,
    tests: Vec<Test>,
}

/// What is asked of a selection.
#[derive(Debug, Clone, PartialEq)]
enum Test {
    Exists(bool),
    /// One node that equals this.
    Equals(Value),
    Count(u64),
    /// A node that equals this, or a text with this in it.
    Contains(Value),
    Min(f64),
    Max(f64),
}

impl PathCheck {
    /// Reads one.
    pub(super) fn read(table: &Table<'_>) -> Option<Self> {
        let path = table.text("path", MAX_CHARS);
        if path.is_none() && table.take("path").is_none() {
            table.missing("path");
        }
        let mut tests = Vec::new();
        tests.extend(table.flag("exists").map(Test::Exists));
        tests.extend(table.take("equals").cloned().map(Test::Equals));
        tests.extend(table.whole("count", &(0..=1_000_000)).map(Test::Count));
        tests.extend(table.take("contains").cloned().map(Test::Contains));
        tests.extend(table.number("min", &(f64::MIN..=f64::MAX)).map(Test::Min));
        tests.extend(table.number("max", &(f64::MIN..=f64::MAX)).map(Test::Max));
        table.refuse_the_rest();
        if tests.is_empty() {
            tests.push(Test::Exists(true));
        }
        let path = path?;
        if !table.is_known()
            && let Err(why) = parse(&path)
        {
            table.flaw("path", why);
            return None;
        }
        Some(Self { path, tests })
    }

    /// Why the value does not pass; `nodes` is how many it has.
    pub(super) fn judge(&self, value: &Value, nodes: usize) -> Result<(), String> {
        let path = &self.path;
        let (query, wide) = parse(path)?;
        if nodes > MOST_NODES.get(wide).copied().unwrap_or(0) {
            return Err(format!("`{path}`: the result has {nodes} values, too many for this path"));
        }
        let selected = query.query(value).all();
        if selected.len() > MOST_SELECTED {
            return Err(format!("`{path}` selects {} values, too many to look at", selected.len()));
        }
        let fault = self.tests.iter().find_map(|test| test.fault(&selected));
        fault.map_or(Ok(()), |fault| Err(format!("`{path}`: {fault}")))
    }
}

impl Test {
    fn fault(&self, selected: &[&Value]) -> Option<String> {
        let count = selected.len();
        let all = |fits: &dyn Fn(f64) -> bool| count > 0 && selected.iter().all(|node| node.as_f64().is_some_and(fits));
        match (self, selected) {
            (Self::Exists(true), []) => Some("selects nothing".into()),
            (Self::Exists(false), [first, ..]) => Some(format!("selects {}, expected nothing", shown(first))),
            (Self::Exists(_), _) => None,
            (Self::Equals(want), [one]) => {
                (!same(one, want)).then(|| format!("expected {}, got {}", shown(want), shown(one)))
            }
            (Self::Equals(want), _) => Some(format!("expected {}, selects {count} values", shown(want))),
            (Self::Count(want), _) => {
                (u64::try_from(count) != Ok(*want)).then(|| format!("expected {want} values, selects {count}"))
            }
            (Self::Contains(want), _) => {
                let holds = |node: &&Value| {
                    same(node, want) || node.as_str().zip(want.as_str()).is_some_and(|(text, part)| text.contains(part))
                };
                (!selected.iter().any(holds)).then(|| format!("{} is not among {count} values", shown(want)))
            }
            (Self::Min(least), _) => {
                (!all(&|number| number >= *least)).then(|| format!("expected numbers of at least {least}"))
            }
            (Self::Max(most), _) => {
                (!all(&|number| number <= *most)).then(|| format!("expected numbers of at most {most}"))
            }
        }
    }
}

/// The query, and how many of its steps are wide.
fn parse(text: &str) -> Result<(JsonPath, usize), String> {
    let wide = bounded(text)?;
    let query = JsonPath::parse(text).map_err(|error| format!("`{text}` is not a JSONPath (RFC 9535): {error}"))?;
    Ok((query, wide))
}

/// Refuses a query that could keep a thread busy, before anything parses it; counts its wide steps.
fn bounded(text: &str) -> Result<usize, String> {
    let (mut plain, mut quoted, mut nesting, mut deepest) = (String::new(), String::new(), 0_usize, 0_usize);
    let (mut quote, mut escaped) = (None, false);
    for c in text.chars() {
        match quote {
            Some(_) if escaped => escaped = false,
            Some(_) if c == '\\' => {
                escaped = true;
                quoted.push(c);
            }
            Some(open) if c == open => quote = None,
            Some(_) => quoted.push(c),
            None if matches!(c, '"' | '\'') => {
                quote = Some(c);
                plain.push_str(QUOTED);
            }
            None => {
                match c {
                    '(' | '[' | '!' => nesting += 1,
                    ')' | ']' => nesting = nesting.saturating_sub(1),
                    _ => {}
                }
                deepest = deepest.max(nesting);
                plain.push(c);
            }
        }
    }
    if text.chars().count() > MAX_CHARS || deepest > MAX_NESTING {
        return Err(format!("a path has at most {MAX_CHARS} characters and {MAX_NESTING} brackets inside each other"));
    }
    let count = |part: &str| plain.matches(part).count();
    let patterns = count("match") + count("search");
    if patterns > 0 && (quoted.contains(['{', '\\']) || quoted.len() > MAX_PATTERN) {
        return Err(format!(
            "a pattern in a path is made anew for each value: repetition in braces, a backslash and more than {MAX_PATTERN} \
             bytes are not taken"
        ));
    }
    if !brings_its_patterns(&plain) {
        return Err("the pattern of `match` and `search` is a text in the path, not a part of the result".into());
    }
    let wide = count("..") + count("?") + count("$").saturating_sub(1) + patterns;
    if wide > MAX_WIDE {
        return Err(format!("at most {MAX_WIDE} of `..`, `?`, an inner `$`, `match` and `search` stand in one path"));
    }
    Ok(wide)
}

/// Whether each `match` and `search` has a text for its pattern: one out of the result may be anything, and another for
/// each value. Of a text, `plain` has nothing but [`QUOTED`].
fn brings_its_patterns(plain: &str) -> bool {
    let ends =
        ["match", "search"].into_iter().flat_map(|name| plain.match_indices(name).map(|(at, name)| at + name.len()));
    ends.filter_map(|end| plain.get(end..)?.trim_start().strip_prefix('(')).all(|arguments| {
        let (mut depth, mut pattern) = (0_usize, None);
        for (at, c) in arguments.char_indices() {
            match c {
                ')' if depth == 0 => {
                    return pattern.and_then(|from| arguments.get(from..at)).map(str::trim) == Some(QUOTED);
                }
                ')' | ']' => depth = depth.saturating_sub(1),
                '(' | '[' => depth += 1,
                ',' if depth == 0 => pattern = Some(at + 1),
                _ => {}
            }
        }
        false
    })
}

/// How many values there are in one, itself included.
pub(super) fn nodes(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(nodes).sum::<usize>(),
        Value::Object(members) => 1 + members.values().map(nodes).sum::<usize>(),
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::table::Flaws;
    use super::*;

    fn judged(check: &Value, value: &Value) -> Result<(), String> {
        let flaws = Flaws::default();
        let read = PathCheck::read(&Table::of(check, String::new(), &flaws).unwrap());
        let read = read.ok_or(()).map_err(|()| String::from("not read"));
        let found = flaws.into_inner();
        match found.first() {
            Some(flaw) => Err(flaw.message.clone()),
            None => read?.judge(value, nodes(value)),
        }
    }

    #[test]
    fn what_a_path_selects_is_held_against_what_is_expected() {
        let value = json!({"repos": [{"name": "a", "stars": 3}, {"name": "b", "stars": 12}], "total": 2.0});
        for (check, fault) in [
            (json!({"path": "$.repos[0].name", "equals": "a"}), ""),
            (json!({"path": "$.repos[0].name", "equals": "b"}), "`$.repos[0].name`: expected \"b\", got \"a\""),
            (json!({"path": "$.repos[*].name", "equals": "b"}), "`$.repos[*].name`: expected \"b\", selects 2 values"),
            (json!({"path": "$.total", "equals": 2}), ""),
            (json!({"path": "$.repos[*]", "count": 2}), ""),
            (json!({"path": "$.repos[*]", "count": 3}), "`$.repos[*]`: expected 3 values, selects 2"),
            (json!({"path": "$.nothing"}), "`$.nothing`: selects nothing"),
            (json!({"path": "$.nothing", "exists": false}), ""),
            (json!({"path": "$.total", "exists": false}), "`$.total`: selects 2.0, expected nothing"),
            (json!({"path": "$..name", "contains": "b"}), ""),
            (json!({"path": "$..name", "contains": "c"}), "`$..name`: \"c\" is not among 2 values"),
            (json!({"path": "$.repos[?@.stars > 10].name", "equals": "b"}), ""),
            (json!({"path": "$..stars", "min": 3, "max": 12}), ""),
            (json!({"path": "$..stars", "max": 11}), "`$..stars`: expected numbers of at most 11"),
            (json!({"path": "$..name", "min": 1}), "`$..name`: expected numbers of at least 1"),
            (json!({"path": "$.repos[?search(@.name, '^a')]", "count": 1}), ""),
            (json!({"path": "$.repos[?match(@['name'], \"a|,[)]\")]", "count": 1}), ""),
            (json!({"path": "$.match.research", "exists": false}), ""),
        ] {
            assert_eq!(judged(&check, &value).err().unwrap_or_default(), fault, "{check}");
        }
    }

    #[test]
    fn a_query_that_costs_too_much_is_not_taken() {
        let brackets = format!("$[?{}@.a{}]", "(".repeat(60), ")".repeat(60));
        let long = format!("$.{}", "a".repeat(MAX_CHARS));
        let patterned = format!("$[?search(@.a, '{}')]", ".".repeat(MAX_PATTERN + 1));
        for path in [
            "$..*..*..*",
            "$[?$[?$[?@]]]",
            "$..[?@..a]",
            "$[?search(@.a, '(a{1000}){1000}')]",
            "$[?search(@.a, @.b)]",
            "$[?match(@.a,$.b)]",
            r"$[?match(@.a, '\\pL\\pL')]",
            r"$[?match(@.a, '\u005cpL')]",
            "$[?match( @['a,b'] , value(@['c']) )]",
            "$[?search('a', @.b)]",
            "$[?search(@.b, 'a' , @.b)]",
            "$[?search(@.a, '')||match(@.a,@.b)]",
            &patterned,
            "$[?!!!!!!!!!!@.a]",
            &brackets,
            &long,
            "$.",
            "nothing",
            "",
        ] {
            assert!(judged(&json!({"path": path}), &json!({"a": 1})).is_err(), "{path}");
        }
    }

    #[test]
    fn the_wider_the_query_the_smaller_the_value() {
        let value = Value::Array((0..60_000).map(|n| json!({"n": n})).collect());
        assert_eq!(judged(&json!({"path": "$[7].n", "equals": 7}), &value), Ok(()));
        let fault = judged(&json!({"path": "$..n", "count": 60_000}), &value).unwrap_err();
        assert!(fault.contains("too many for this path"), "{fault}");
        let small = Value::Array((0..2_400).map(|n| json!({"n": n})).collect());
        assert_eq!(judged(&json!({"path": "$[?$[*].n]", "count": 2_400}), &small), Ok(()));
    }

    proptest::proptest! {
        #[test]
        fn no_text_keeps_the_parser_busy(text in r#"[$@.?*()\[\]!&|<>=a',"0-9 -]{0,80}"#) {
            let _any = parse(&text);
        }
    }
}
