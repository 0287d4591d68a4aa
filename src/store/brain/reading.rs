//! Reading: streams of entities in the order of their ids, from whichever index has the fewest.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};

use rusqlite::types::Value as Sql;
use rusqlite::{Connection, OptionalExtension, Row, ToSql, params, params_from_iter};
use serde_json::Value;

use super::Unread;
use super::schema::{Attribute, EntityType, Kinds, Related, TypeId};
use super::write::looked_up;

/// An entity as it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    pub id: i64,
    pub key: String,
    /// A JSON object: the attributes but the key.
    pub body: String,
}

/// A value as an attribute's index has it: equal there does not mean equal, only that nothing equal is missed.
#[derive(Debug, Clone, PartialEq)]
pub struct Indexed(Sql);

impl Indexed {
    /// Everything by which a scalar may stand in the index: `17` for `"17"` and the other way round.
    #[must_use]
    pub fn all(value: &Value) -> Vec<Self> {
        let mut found = Vec::from_iter(looked_up(value));
        match value {
            Value::String(text) => {
                let number = text.parse::<i64>().map(Sql::Integer);
                let number = number.or_else(|_| text.parse::<f64>().map(Sql::Real));
                found.extend(number.ok().filter(|number| !matches!(number, Sql::Real(real) if !real.is_finite())));
                found.extend(
                    ["false", "true"].iter().position(|word| word == text).map(|flag| Sql::Integer(flag as i64)),
                );
            }
            Value::Number(_) | Value::Bool(_) => found.push(Sql::Text(value.to_string())),
            Value::Null | Value::Array(_) | Value::Object(_) => {}
        }
        found.into_iter().map(Self).collect()
    }
}

/// Where entities come from.
#[derive(Debug, Clone, PartialEq)]
pub enum Source {
    /// Every entity of the range.
    All,
    /// Those with every one of the words, or with any.
    Words { words: Vec<String>, any: bool },
    /// Those whose attribute holds a value.
    Value { attribute: i64, value: Indexed },
    /// Those whose attribute lies between two values, both included.
    Between { attribute: i64, low: Option<Indexed>, high: Option<Indexed> },
    /// The one of this key.
    Key(TypeId, String),
}

/// That an attribute holds one of some values: asked of the index alone, before an entity is read.
#[derive(Debug, Clone, PartialEq)]
pub struct Holds {
    pub attribute: i64,
    pub values: Vec<Indexed>,
}

/// One reading: of one moment, and not for ever.
#[derive(Debug)]
pub struct Reading<'a> {
    connection: &'a Connection,
    over: &'a AtomicBool,
}

impl<'a> Reading<'a> {
    pub(super) const fn new(connection: &'a Connection, over: &'a AtomicBool) -> Self {
        Self { connection, over }
    }

    fn in_time(&self) -> Result<(), Unread> {
        if self.over.load(Ordering::Relaxed) { Err(Unread::TooLong) } else { Ok(()) }
    }

    /// Every type, by name.
    ///
    /// # Errors
    /// Where the file cannot be read, or the time is over; so with all of these.
    pub fn types(&self) -> Result<Vec<EntityType>, Unread> {
        self.in_time()?;
        let sql = "SELECT id, name, key_name, entities FROM types ORDER BY name";
        let read = || -> rusqlite::Result<_> {
            let mut statement = self.connection.prepare_cached(sql)?;
            let rows = statement.query_map([], |row| {
                let entities: i64 = row.get(3)?;
                Ok(EntityType {
                    id: TypeId(row.get(0)?),
                    name: row.get(1)?,
                    key_name: row.get(2)?,
                    entities: u64::try_from(entities).unwrap_or(0),
                })
            })?;
            rows.collect()
        };
        read().map_err(|error| Unread::of(&error))
    }

    /// The attributes of a type, in the order in which they were first seen.
    ///
    /// # Errors
    /// See [`Self::types`].
    pub fn attributes(&self, id: TypeId) -> Result<Vec<Attribute>, Unread> {
        self.in_time()?;
        attributes(self.connection, id).map_err(|error| Unread::of(&error))
    }

    /// Every relation that touches a type.
    ///
    /// # Errors
    /// See [`Self::types`].
    pub fn relations(&self, id: TypeId) -> Result<Vec<Related>, Unread> {
        self.in_time()?;
        let sql = "SELECT type, attribute, target, target_attribute, declared FROM relations
                   WHERE type = ?1 OR target = ?1 ORDER BY declared DESC, type, attribute";
        let read = || -> rusqlite::Result<_> {
            let mut statement = self.connection.prepare_cached(sql)?;
            let rows = statement.query_map([id.0], |row| {
                Ok(Related {
                    source: TypeId(row.get(0)?),
                    attribute: row.get(1)?,
                    target: TypeId(row.get(2)?),
                    target_attribute: row.get(3)?,
                    declared: row.get(4)?,
                })
            })?;
            rows.collect()
        };
        read().map_err(|error| Unread::of(&error))
    }

    /// The entity with this id.
    ///
    /// # Errors
    /// See [`Self::types`].
    pub fn entity(&self, id: i64) -> Result<Option<Found>, Unread> {
        self.in_time()?;
        let sql = "SELECT id, key, body FROM entities WHERE id = ?1";
        let read = || self.connection.prepare_cached(sql)?.query_row([id], found).optional();
        read().map_err(|error| Unread::of(&error))
    }

    /// How many there are, counted no further than `most`. Quick, for nothing but the index is read.
    ///
    /// # Errors
    /// See [`Self::types`].
    pub fn count(&self, range: Option<TypeId>, source: &Source, most: u64) -> Result<u64, Unread> {
        self.in_time()?;
        let Picked { table, condition, mut values, .. } = picked(source, range, i64::MIN);
        values.push(Box::new(i64::try_from(most).unwrap_or(i64::MAX)));
        let sql = format!("SELECT count(*) FROM (SELECT 1 FROM {table} WHERE {condition} LIMIT ?{})", values.len());
        let read =
            || self.connection.prepare_cached(&sql)?.query_row(params_from_iter(values.iter()), |row| row.get(0));
        let count: i64 = read().map_err(|error| Unread::of(&error))?;
        Ok(u64::try_from(count).unwrap_or(0))
    }

    /// The ids in `source`, at most so many, in order.
    ///
    /// # Errors
    /// See [`Self::types`].
    pub fn ids(&self, range: Option<TypeId>, source: &Source, most: u64) -> Result<Vec<i64>, Unread> {
        self.in_time()?;
        let Picked { table, condition, id, mut values } = picked(source, range, i64::MIN);
        values.push(Box::new(i64::try_from(most).unwrap_or(i64::MAX)));
        let sql = format!("SELECT DISTINCT {id} FROM {table} WHERE {condition} LIMIT ?{}", values.len());
        let read = || -> rusqlite::Result<Vec<i64>> {
            let mut statement = self.connection.prepare_cached(&sql)?;
            statement.query_map(params_from_iter(values.iter()), |row| row.get(0))?.collect()
        };
        let mut ids = read().map_err(|error| Unread::of(&error))?;
        ids.sort_unstable();
        Ok(ids)
    }

    /// Calls `each` with every entity in `source` whose id is greater than `after`, in the order of ids, until it breaks.
    /// What does not fit `holds` is passed over unread.
    ///
    /// # Errors
    /// See [`Self::types`], and what `each` says.
    pub fn stream<E: From<Unread>>(
        &self,
        range: Option<TypeId>,
        (source, holds): (&Source, &[Holds]),
        after: i64,
        mut each: impl FnMut(Found) -> Result<ControlFlow<()>, E>,
    ) -> Result<(), E> {
        self.in_time()?;
        let Picked { table, condition, id, mut values } = picked(source, range, after);
        let joined = if table == "entities" { "" } else { "CROSS JOIN entities ON entities.id = " };
        let on = if joined.is_empty() { "" } else { id };
        let fits: String = holds.iter().map(|holds| holding(holds, id, &mut values)).collect();
        let sql = format!(
            "SELECT entities.id, entities.key, entities.body FROM {table} {joined}{on} WHERE {condition}{fits} ORDER BY {id}"
        );
        let failed = |error: rusqlite::Error| E::from(Unread::of(&error));
        let mut statement = self.connection.prepare_cached(&sql).map_err(failed)?;
        let mut rows = statement.query(params_from_iter(values.iter())).map_err(failed)?;
        while let Some(row) = rows.next().map_err(failed)? {
            self.in_time()?;
            if each(found(row).map_err(failed)?)?.is_break() {
                break;
            }
        }
        Ok(())
    }
}

fn found(row: &Row<'_>) -> rusqlite::Result<Found> {
    Ok(Found { id: row.get(0)?, key: row.get(1)?, body: row.get(2)? })
}

/// A source as SQL, with the values of its parameters.
struct Picked<'a> {
    table: &'static str,
    condition: &'static str,
    /// The entity's id there.
    id: &'static str,
    values: Vec<Box<dyn ToSql + 'a>>,
}

/// Entities whose id lies behind `after`, in the range of a type where one is given.
fn picked<'a>(source: &'a Source, range: Option<TypeId>, after: i64) -> Picked<'a> {
    let (first, last) = range.map_or((i64::MIN, i64::MAX), TypeId::range);
    let mut values: Vec<Box<dyn ToSql + 'a>> = vec![Box::new(after.max(first.saturating_sub(1))), Box::new(last)];
    let (table, id) = match source {
        Source::All | Source::Key(..) => ("entities", "entities.id"),
        Source::Words { .. } => ("texts", "texts.rowid"),
        Source::Value { .. } | Source::Between { .. } => ("attribute_values", "attribute_values.entity"),
    };
    let condition = match source {
        Source::All => "entities.id > ?1 AND entities.id <= ?2",
        Source::Key(id, key) => {
            values.push(Box::new(id.0));
            values.push(Box::new(key.as_str()));
            "entities.id > ?1 AND entities.id <= ?2 AND type = ?3 AND key = ?4"
        }
        Source::Words { words, any } => {
            values.push(Box::new(expression(words, *any)));
            "texts MATCH ?3 AND texts.rowid > ?1 AND texts.rowid <= ?2"
        }
        Source::Value { attribute, value } => {
            values.push(Box::new(*attribute));
            values.push(Box::new(value.0.clone()));
            "attribute = ?3 AND value = ?4 AND entity > ?1 AND entity <= ?2"
        }
        Source::Between { attribute, low, high } => {
            values.push(Box::new(*attribute));
            values.extend(low.iter().chain(high).map(|end| -> Box<dyn ToSql> { Box::new(end.0.clone()) }));
            match (low, high) {
                (Some(_), Some(_)) => "attribute = ?3 AND value >= ?4 AND value <= ?5 AND entity > ?1 AND entity <= ?2",
                (Some(_), None) => "attribute = ?3 AND value >= ?4 AND entity > ?1 AND entity <= ?2",
                (None, Some(_)) => "attribute = ?3 AND value <= ?4 AND entity > ?1 AND entity <= ?2",
                (None, None) => "attribute = ?3 AND entity > ?1 AND entity <= ?2",
            }
        }
    };
    Picked { table, condition, id, values }
}

/// The condition that the entity `id` has one of some values. A subquery for each, which no planner turns round: one look
/// into the index.
fn holding<'a>(holds: &'a Holds, id: &str, values: &mut Vec<Box<dyn ToSql + 'a>>) -> String {
    values.push(Box::new(holds.attribute));
    let attribute = values.len();
    let places: Vec<String> = holds
        .values
        .iter()
        .map(|value| {
            values.push(Box::new(value.0.clone()));
            format!("?{}", values.len())
        })
        .collect();
    format!(
        " AND (SELECT 1 FROM attribute_values AS held WHERE held.attribute = ?{attribute} AND held.value IN ({})
               AND held.entity = {id} LIMIT 1) IS NOT NULL",
        places.join(", ")
    )
}

/// The words in the syntax of the index. They are letters and digits, so that quotes make each of them one term.
fn expression(words: &[String], any: bool) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("\"{}\"", word.replace('"', ""))).collect();
    quoted.join(if any { " OR " } else { " AND " })
}

pub(super) fn attributes(connection: &Connection, id: TypeId) -> rusqlite::Result<Vec<Attribute>> {
    let sql = "SELECT id, name, strings, integers, numbers, booleans, lists, objects FROM attributes
               WHERE type = ?1 ORDER BY id";
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map(params![id.0], |row| {
        let kinds = Kinds {
            strings: row.get(2)?,
            integers: row.get(3)?,
            numbers: row.get(4)?,
            booleans: row.get(5)?,
            lists: row.get(6)?,
            objects: row.get(7)?,
        };
        Ok(Attribute { id: row.get(0)?, name: row.get(1)?, kinds })
    })?;
    rows.collect()
}
