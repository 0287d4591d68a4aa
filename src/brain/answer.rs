//! Answers: compact lines for a model, the same as data, and what was left out.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::find::Hit;
use super::join::Joined;
use super::sum::Aggregates;
use super::view::Seen;

/// Characters of a text that are shown unless its field is named.
const TEXT: usize = 500;
/// Characters of a value in a line.
const LINE: usize = 120;
/// Bytes of entities in an answer; the one that goes beyond is the last.
const BYTES: usize = 256 * 1024;

/// An answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Answered {
    /// For a model.
    pub text: String,
    pub structured: Value,
    /// The types that were looked at, for the record.
    pub types: Vec<String>,
}

/// What the answer leaves out, and why.
#[derive(Debug)]
pub(super) struct Left {
    pub(super) more: bool,
    /// The answer itself is full.
    pub(super) full: bool,
    pub(super) any: bool,
    total: u64,
    exact: bool,
}

impl Left {
    pub(super) const fn new(any: bool) -> Self {
        Self { more: false, full: false, any, total: 0, exact: true }
    }

    pub(super) const fn count(&mut self, total: u64, exact: bool) {
        (self.total, self.exact) = (total, exact);
    }
}

/// The entities of an answer, as they are put together.
#[derive(Debug)]
pub(super) struct Shown {
    fields: Option<Vec<String>>,
    entities: Vec<Value>,
    lines: Vec<String>,
    joined: Option<(String, u64, u64, bool)>,
    cut: bool,
    bytes: usize,
}

impl Shown {
    pub(super) const fn new(fields: Option<Vec<String>>) -> Self {
        Self { fields, entities: Vec::new(), lines: Vec::new(), joined: None, cut: false, bytes: 0 }
    }

    pub(super) const fn is_full(&self) -> bool {
        self.bytes > BYTES
    }

    pub(super) fn add(&mut self, hit: &Hit, joined: Option<Joined>, link: Option<(&Seen, &Option<Vec<String>>)>) {
        let fields = self.fields.take();
        let (mut members, line) = self.entity(&hit.seen, &hit.key, &hit.body, fields.as_deref());
        self.fields = fields;
        self.lines.push(line);
        if let (Some(joined), Some((seen, fields))) = (joined, link) {
            let list: Vec<Value> = joined
                .entities
                .iter()
                .map(|(key, body)| {
                    let (members, line) = self.entity(seen, key, body, fields.as_deref());
                    self.lines.push(format!("  {line}"));
                    Value::Object(members)
                })
                .collect();
            let shown = list.len() as u64;
            members.insert("joined".into(), Value::Array(list));
            members.insert("joined_total".into(), json!(joined.total));
            if let Some((counted, aggregates)) = &joined.aggregates {
                let worked_out = worked_out(*counted, aggregates);
                self.lines.push(format!("  {}: {}", seen.name(), pairs(&worked_out)));
                members.insert("joined_aggregates".into(), Value::Object(worked_out));
            }
            let so_far = self.joined.get_or_insert_with(|| (seen.name().to_owned(), 0, 0, true));
            *so_far = (so_far.0.clone(), so_far.1 + shown, so_far.2 + joined.total, so_far.3 && joined.exact);
        }
        self.entities.push(Value::Object(members));
    }

    /// One entity as data and as a line.
    fn entity(
        &mut self,
        seen: &Seen,
        key: &Value,
        body: &Map<String, Value>,
        fields: Option<&[String]>,
    ) -> (Map<String, Value>, String) {
        let mut attributes = Map::new();
        for (name, value) in body.iter().filter(|(_, value)| !value.is_null()) {
            match fields {
                Some(named) if !named.contains(name) => {}
                Some(_) => drop(attributes.insert(name.clone(), value.clone())),
                None => drop(attributes.insert(name.clone(), self.short(value))),
            }
        }
        let mut line = seen.name().to_owned();
        let mut members = Map::from_iter([("type".to_owned(), json!(seen.name()))]);
        if let Some(key) = key.as_str() {
            line.push_str(&format!(" {}", one_line(key)));
            members.insert("key".into(), json!(key));
        }
        if !attributes.is_empty() {
            line.push_str(": ");
            line.push_str(&pairs(&attributes));
        }
        self.bytes += line.len() + 32 + attributes.values().map(|value| value.to_string().len()).sum::<usize>();
        members.insert("attributes".into(), Value::Object(attributes));
        (members, line)
    }

    /// A long text by its beginning.
    fn short(&mut self, value: &Value) -> Value {
        match value {
            Value::String(text) if text.chars().count() > TEXT => {
                self.cut = true;
                Value::String(text.chars().take(TEXT).chain(['…']).collect())
            }
            other => other.clone(),
        }
    }
}

fn worked_out(counted: bool, aggregates: &Aggregates) -> Map<String, Value> {
    let mut members = Map::new();
    if counted {
        members.insert("count".into(), json!(aggregates.count));
    }
    if !aggregates.sums.is_empty() {
        members.insert("sum".into(), aggregates.sums.iter().cloned().collect::<Map<_, _>>().into());
    }
    members
}

/// The answer with entities in it.
pub(super) fn entities(
    shown: Shown,
    left: &Left,
    aggregates: Option<&(bool, Aggregates)>,
    next: Option<String>,
    types: BTreeSet<String>,
) -> Answered {
    let Shown { entities, mut lines, joined, cut, .. } = shown;
    let count = entities.len() as u64;
    let mut omitted = Vec::new();
    let least = if left.exact { "" } else { "at least " };
    if left.any && count > 0 {
        omitted.push("no entity has all the words: these have some of them".to_owned());
    }
    if left.more {
        let why = if left.full { ", for the answer is full" } else { "" };
        omitted
            .push(format!("{count} of {least}{} are shown{why}: pass `next_cursor` as `cursor` for more", left.total));
    }
    if let Some((name, some, all, exact)) = joined.as_ref().filter(|(_, some, all, exact)| some < all || !exact) {
        let least = if *exact { "" } else { "at least " };
        omitted.push(format!(
            "{some} of {least}{all} joined `{name}` are shown: raise `join_to.limit`, or query `{name}`"
        ));
    }
    if cut {
        omitted.push(format!("texts are cut after {TEXT} characters: name their fields in `fields`"));
    }
    let mut structured = json!({"entities": entities, "total": left.total});
    let mut add = |name: &str, value: Value| {
        if let Some(members) = structured.as_object_mut() {
            members.insert(name.to_owned(), value);
        }
    };
    if !left.exact {
        add("total_is_at_least", json!(true));
    }
    let mut last = match count {
        0 => "nothing found".to_owned(),
        _ => format!("{count} of {least}{} found", left.total),
    };
    if let Some((name, some, all, _)) = &joined {
        last.push_str(&format!("; {some} of {all} joined {name}"));
    }
    if let Some((counted, aggregates)) = aggregates {
        let worked_out = worked_out(*counted, aggregates);
        lines.push(pairs(&worked_out));
        add("aggregates", Value::Object(worked_out));
    }
    lines.push(last);
    lines.extend(omitted.iter().map(|what| format!("({what})")));
    if let Some(next) = next {
        lines.push(format!("next_cursor: {next}"));
        add("next_cursor", json!(next));
    }
    if !omitted.is_empty() {
        add("omitted", json!(omitted));
    }
    Answered { text: lines.join("\n"), structured, types: types.into_iter().collect() }
}

/// The answer to a query for nothing: what there is to be asked for.
pub(super) fn types(list: &Value, types: BTreeSet<String>) -> Answered {
    let text = |value: &Value, name: &str| value.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let items = |value: &Value, name: &str| value.get(name).and_then(Value::as_array).cloned().unwrap_or_default();
    let mut lines: Vec<String> = Vec::new();
    for row in list.as_array().into_iter().flatten() {
        let fields = items(row, "fields").iter().map(|field| text(field, "name")).collect::<Vec<_>>().join(", ");
        let key = row.get("key").and_then(Value::as_str).map(|key| format!("{key}, ")).unwrap_or_default();
        let count = row.get("entities").and_then(Value::as_u64).unwrap_or(0);
        lines.push(format!("{} ({count}): {key}{fields}", text(row, "type")));
        lines.extend(items(row, "relations").iter().map(|relation| format!("  {}", text(relation, "on"))));
    }
    lines.push(match list.as_array().map_or(0, Vec::len) {
        0 => "there are no entities: `toolgate brain import FILE` brings some".into(),
        _ => "these are the entity types: ask with `query`, `entity_type` or both".into(),
    });
    Answered {
        text: lines.join("\n"),
        structured: json!({"entities": [], "total": 0, "types": list}),
        types: types.into_iter().collect(),
    }
}

/// `name=value, name=value`, each short and on one line.
fn pairs(members: &Map<String, Value>) -> String {
    let value = |value: &Value| match value {
        Value::String(text) => one_line(text),
        Value::Object(members) => format!("({})", pairs(members)),
        other => one_line(&other.to_string()),
    };
    members.iter().map(|(name, found)| format!("{}={}", one_line(name), value(found))).collect::<Vec<_>>().join(", ")
}

fn one_line(text: &str) -> String {
    let mut line: String = text.chars().take(LINE).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().nth(LINE).is_some() {
        line.push('…');
    }
    line
}
