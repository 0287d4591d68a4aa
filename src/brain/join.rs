//! Joins: which field of one type holds what is in a field of another, and what belongs to one entity.

use std::rc::Rc;

use serde_json::{Map, Value};

use super::QueryError;
use super::filter::{Condition, conditions, same};
use super::find::{Hit, visible};
use super::query::{JoinTo, MAX_JOINED, chosen};
use super::sum::{Adding, Aggregates};
use super::view::{Field, Known, Seen, Types};
use crate::store::brain::{Indexed, Reading, Source, key_text};

/// Joined entities that are looked at, for all entities of a page together; and for each of them at least.
const LOOKED_AT: u64 = 1_000;
const LOOKED_AT_OF_EACH: u64 = 100;
/// The same where they are summed up.
const SUMMED: u64 = 50_000;
/// Values of one entity that lead to others: the items of a list.
const MOST_VALUES: usize = 50;

/// How two types are joined, and what is wanted of the other.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) seen: Rc<Seen>,
    mine: Field,
    theirs: Field,
    conditions: Vec<Condition>,
    pub(super) fields: Option<Vec<String>>,
    limit: Option<usize>,
    sums: Vec<(String, Field)>,
    aggregates: Option<bool>,
}

/// What belongs to one entity.
#[derive(Debug)]
pub(super) struct Joined {
    /// Key and attributes.
    pub(super) entities: Vec<(Value, Map<String, Value>)>,
    pub(super) total: u64,
    pub(super) exact: bool,
    /// Whether they are counted, and what was worked out.
    pub(super) aggregates: Option<(bool, Aggregates)>,
}

impl Link {
    pub(super) fn of(join: &JoinTo, from: &Rc<Seen>, types: &mut Types<'_>) -> Result<Self, QueryError> {
        let seen = types.named(&join.entity_type)?;
        let (mine, theirs) = match &join.on {
            Some(on) => said(on, from, &seen, types)?,
            None => found(from, &seen, types)?,
        };
        let conditions = conditions(&join.filter, &seen)?;
        let fields = chosen(join.fields.as_deref(), Some(&seen))?;
        let sums = join.aggregate.as_ref().map(|asked| asked.fields(&seen)).transpose()?.unwrap_or_default();
        let aggregates = join.aggregate.as_ref().map(|asked| asked.count);
        Ok(Self { seen, mine, theirs, conditions, fields, limit: join.limit, sums, aggregates })
    }

    /// What belongs to an entity, one of so many on a page, in the order of numbers.
    pub(super) fn follow(
        &self,
        hit: &Hit,
        reading: &Reading<'_>,
        limit: usize,
        page: u64,
    ) -> Result<Joined, QueryError> {
        let limit = self.limit.unwrap_or(limit).min(MAX_JOINED);
        let most = match self.aggregates {
            Some(_) => SUMMED,
            None => (LOOKED_AT / page.max(1)).max(LOOKED_AT_OF_EACH),
        };
        let value = self.mine.of(&hit.key, &hit.body);
        let values: &[Value] = match value {
            Value::Array(items) => items.get(..items.len().min(MOST_VALUES)).unwrap_or(items),
            Value::Null => &[],
            one => std::slice::from_ref(one),
        };
        let id = self.seen.kind.id;
        let mut ids = Vec::new();
        for value in values {
            let sources: Vec<Source> = match &self.theirs {
                Field::Key => key_text(value).map(|key| Source::Key(id, key)).into_iter().collect(),
                Field::Attribute { id, .. } => {
                    Indexed::all(value).into_iter().map(|value| Source::Value { attribute: *id, value }).collect()
                }
            };
            for source in &sources {
                ids.extend(reading.ids(Some(id), source, most + 1)?);
            }
        }
        ids.sort_unstable();
        ids.dedup();
        let exact = ids.len() as u64 <= most;
        let (mut entities, mut total, mut adding) = (Vec::new(), 0, Adding::new(&self.sums));
        for id in ids.into_iter().take(usize::try_from(most).unwrap_or(usize::MAX)) {
            let Some(found) = reading.entity(id)? else { continue };
            let (key, body) = visible(&self.seen, found.key, &found.body);
            let theirs = self.theirs.of(&key, &body);
            let meets = |one: &Value| values.iter().any(|value| same(one, value));
            let belongs = match theirs {
                Value::Array(items) => items.iter().any(meets),
                one => meets(one),
            };
            if !belongs || !self.conditions.iter().all(|condition| condition.holds(&key, &body)) {
                continue;
            }
            total += 1;
            adding.add(&key, &body);
            if entities.len() < limit {
                entities.push((key, body));
            }
        }
        let aggregates = self.aggregates.map(|count| (count, adding.done()));
        Ok(Joined { entities, total, exact, aggregates })
    }
}

/// The relations between two types, each as a pair of fields: of the first, of the second.
fn between(from: &Seen, to: &Seen, types: &mut Types<'_>) -> Result<Vec<(Field, Field, Known)>, QueryError> {
    let (one, other) = (from.kind.id, to.kind.id);
    let mut found = Vec::new();
    for known in types.relations(one, Some(other))? {
        if known.source == one && known.target == other {
            found.push((known.from.clone(), known.to.clone(), known.clone()));
        }
        if known.target == one && known.source == other {
            found.push((known.to.clone(), known.from.clone(), known));
        }
    }
    Ok(found)
}

/// The one way in which two types are known to be related.
fn found(from: &Seen, to: &Seen, types: &mut Types<'_>) -> Result<(Field, Field), QueryError> {
    let mut known = between(from, to, types)?;
    if known.iter().any(|(_, _, known)| known.declared) {
        known.retain(|(_, _, known)| known.declared);
    }
    match known.as_slice() {
        [(mine, theirs, _)] => Ok((mine.clone(), theirs.clone())),
        [] => Err(QueryError::invalid(format!(
            "it is not known how `{1}` belongs to `{0}`: say `on`, as in `{1}.FIELD={0}.{2}`",
            from.name(),
            to.name(),
            if from.key { &from.kind.key_name } else { "FIELD" }
        ))),
        several => {
            let ways: Vec<&str> = several.iter().map(|(_, _, known)| known.text.as_str()).collect();
            Err(QueryError::invalid(format!(
                "`{}` and `{}` are related in more than one way: say `on`, one of {}",
                from.name(),
                to.name(),
                ways.join(", ")
            )))
        }
    }
}

/// The way that `on` says: a field that refers to the other type's key, or both fields.
fn said(on: &str, from: &Seen, to: &Seen, types: &mut Types<'_>) -> Result<(Field, Field), QueryError> {
    if let Some((one, other)) = on.split_once('=') {
        let (one, other) = (end(one)?, end(other)?);
        if one.0 == from.name() && other.0 == to.name() {
            return Ok((from.require(one.1)?, to.require(other.1)?));
        }
        if one.0 == to.name() && other.0 == from.name() {
            return Ok((from.require(other.1)?, to.require(one.1)?));
        }
        return Err(QueryError::invalid(format!("`on` joins `{}` to `{}`: name these two", from.name(), to.name())));
    }
    let known = between(from, to, types)?;
    let mentions =
        |known: &Known| known.text.split(['=']).any(|end| end.split_once('.').is_some_and(|(_, field)| field == on));
    if let Some((mine, theirs, _)) = known.into_iter().find(|(_, _, known)| mentions(known)) {
        return Ok((mine, theirs));
    }
    match (to.field(on), from.field(on)) {
        (Some(theirs), _) if from.key => Ok((Field::Key, theirs)),
        (_, Some(mine)) if to.key => Ok((mine, Field::Key)),
        _ => Err(QueryError::invalid(format!(
            "neither `{}` nor `{}` has a field `{}` to join by",
            to.name(),
            from.name(),
            on.chars().take(100).collect::<String>()
        ))),
    }
}

fn end(text: &str) -> Result<(&str, &str), QueryError> {
    let (entity_type, field) = text.trim().split_once('.').unwrap_or_default();
    if entity_type.is_empty() || field.is_empty() {
        return Err(QueryError::invalid("`on` is a field, or both: `invoice.customer_id=customer.id`"));
    }
    Ok((entity_type, field))
}
