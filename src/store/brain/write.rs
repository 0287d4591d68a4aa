//! Writing a batch: what is new, what has changed, and what is the same as it was.
//!
//! Rows go to the tables in the order of their ids, since an index of words that is filled in any other order is flushed
//! at every step back.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};

use rusqlite::types::Value as Sql;
use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::schema::{Kinds, TypeId};
use super::words::indexed;

/// Bytes of an entity's attributes as JSON.
pub const MAX_ENTITY_BYTES: usize = 64 * 1024;
/// Types there may be, and attributes of one type: policy is asked about each.
pub const MAX_TYPES: usize = 200;
pub const MAX_ATTRIBUTES: usize = 200;
/// Bytes of a text that is looked up by its beginning, and of a key.
const VALUE_BYTES: usize = 128;
const KEY_BYTES: usize = 256;
/// Values of one attribute of one entity that are looked up: the items of a list.
const MOST_ITEMS: usize = 100;

/// Something that is known: of its type and key there is one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entity {
    #[serde(rename = "type")]
    pub entity_type: String,
    pub key: String,
    /// What the key is called outside.
    pub key_name: String,
    /// The attributes but the key.
    pub attributes: Map<String, Value>,
}

/// A relation that somebody declares: `source.attribute = target.target_attribute`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Relation {
    pub source: String,
    pub attribute: String,
    pub target: String,
    pub target_attribute: String,
}

/// An entity that was not written, by its place in the batch, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unwritten {
    pub at: usize,
    pub reason: String,
}

/// What became of a batch.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Written {
    pub created: u64,
    pub updated: u64,
    pub unchanged: u64,
    pub faults: Vec<Unwritten>,
    /// Relations that were not kept, and why.
    pub undeclared: Vec<String>,
}

/// A scalar as the text that it has as a key.
#[must_use]
pub fn key_text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

/// The beginning of a text, as it is looked up.
pub(super) fn beginning(text: &str) -> &str {
    text.get(..text.floor_char_boundary(VALUE_BYTES)).unwrap_or(text)
}

/// A scalar as it is looked up.
pub(super) fn looked_up(value: &Value) -> Option<Sql> {
    match value {
        Value::String(text) => Some(Sql::Text(beginning(text).to_owned())),
        Value::Number(number) => number.as_i64().map(Sql::Integer).or_else(|| number.as_f64().map(Sql::Real)),
        Value::Bool(flag) => Some(Sql::Integer((*flag).into())),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// What of an attribute is looked up: itself, or the items of a list.
fn items(value: &Value) -> impl Iterator<Item = Sql> + '_ {
    let items = match value {
        Value::Array(items) => items.get(..items.len().min(MOST_ITEMS)).unwrap_or(items),
        one => std::slice::from_ref(one),
    };
    items.iter().filter_map(looked_up)
}

pub(super) fn write(
    connection: &mut Connection,
    entities: &[Entity],
    relations: &[Relation],
) -> rusqlite::Result<Written> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut batch = Batch {
        types: types(&transaction)?,
        attributes: HashMap::new(),
        changes: BTreeMap::new(),
        places: HashMap::new(),
        written: Written::default(),
        transaction: &transaction,
    };
    for (at, entity) in entities.iter().enumerate() {
        if let Err(reason) = batch.take(entity)? {
            batch.written.faults.push(Unwritten { at, reason });
        }
    }
    batch.apply()?;
    batch.keep_schema()?;
    for relation in relations {
        batch.declare(relation)?;
    }
    batch.infer()?;
    let written = batch.written;
    transaction.commit()?;
    Ok(written)
}

/// A type as the batch knows it.
pub(super) struct Type {
    pub(super) id: TypeId,
    pub(super) key_name: String,
    entities: i64,
    next: i64,
    /// How many attributes it has.
    width: usize,
}

/// An attribute as the batch knows it.
struct Column {
    id: i64,
    kinds: Kinds,
    changed: bool,
}

/// What is to become of an entity.
struct Change<'a> {
    entity: &'a Entity,
    body: String,
    /// What it was, where it is there already.
    before: Option<String>,
}

pub(super) struct Batch<'a, 't> {
    pub(super) transaction: &'a Transaction<'t>,
    pub(super) types: HashMap<String, Type>,
    attributes: HashMap<TypeId, HashMap<String, Column>>,
    /// By id.
    changes: BTreeMap<i64, Change<'a>>,
    /// The ids of entities that this batch has met.
    places: HashMap<(TypeId, &'a str), i64>,
    pub(super) written: Written,
}

fn types(connection: &Connection) -> rusqlite::Result<HashMap<String, Type>> {
    let sql = "SELECT id, name, key_name, entities, next,
               (SELECT count(*) FROM attributes WHERE type = types.id) FROM types";
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map([], |row| {
        let (id, key_name, entities) = (TypeId(row.get(0)?), row.get(2)?, row.get(3)?);
        Ok((row.get(1)?, Type { id, key_name, entities, next: row.get(4)?, width: row.get::<_, u32>(5)? as usize }))
    })?;
    rows.collect()
}

/// Whether a type may have this name.
#[must_use]
pub fn is_type_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.len() <= 64
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte))
}

/// Why a name of a type or an attribute cannot be one.
fn misnamed(entity: &Entity) -> Option<String> {
    let name = &entity.entity_type;
    if !is_type_name(name) {
        return Some(format!(
            "`{}` is no name of a type: letters, digits, `_` and `-`, at most 64",
            name.escape_debug()
        ));
    }
    if entity.key.is_empty() || entity.key.len() > KEY_BYTES || entity.key.chars().any(char::is_control) {
        return Some(format!("a key has 1 to {KEY_BYTES} bytes and no control character"));
    }
    let unfit = |name: &&String| name.is_empty() || name.len() > 100 || name.chars().any(char::is_control);
    let name = entity.attributes.keys().find(unfit)?;
    Some(format!(
        "`{}` is no name of an attribute: 1 to 100 bytes, no control character",
        name.chars().take(100).collect::<String>().escape_debug()
    ))
}

impl<'a> Batch<'a, '_> {
    /// Takes one entity in, or says why not.
    fn take(&mut self, entity: &'a Entity) -> rusqlite::Result<Result<(), String>> {
        if let Some(reason) = misnamed(entity) {
            return Ok(Err(reason));
        }
        let body = serde_json::to_string(&entity.attributes).unwrap_or_default();
        if body.len() > MAX_ENTITY_BYTES {
            return Ok(Err(format!("the attributes are {} bytes: at most {MAX_ENTITY_BYTES}", body.len())));
        }
        let id = match self.type_of(entity)? {
            Ok(id) => id,
            Err(reason) => return Ok(Err(reason)),
        };
        if let Err(reason) = self.columns(id, entity)? {
            return Ok(Err(reason));
        }
        match self.places.get(&(id, entity.key.as_str())) {
            // The batch has it twice: the later one counts.
            Some(place) if self.changes.contains_key(place) => {
                self.changes.entry(*place).and_modify(|change| (change.entity, change.body) = (entity, body));
                self.written.updated += 1;
            }
            _ => self.place(id, entity, body)?,
        }
        Ok(Ok(()))
    }

    /// Finds out whether the entity is there, and puts it among the changes where it is another.
    fn place(&mut self, id: TypeId, entity: &'a Entity, body: String) -> rusqlite::Result<()> {
        let sql = "SELECT id, body FROM entities WHERE type = ?1 AND key = ?2";
        let there: Option<(i64, String)> = self
            .transaction
            .prepare_cached(sql)?
            .query_row(params![id.0, entity.key], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        let (place, before) = match there {
            Some((_, same)) if same == body => {
                self.written.unchanged += 1;
                return Ok(());
            }
            Some((place, before)) => {
                self.written.updated += 1;
                (place, Some(before))
            }
            None => {
                let Some(known) = self.types.get_mut(&entity.entity_type) else { return Ok(()) };
                let place = id.entity(known.next);
                known.next += 1;
                known.entities += 1;
                self.written.created += 1;
                (place, None)
            }
        };
        self.places.insert((id, &entity.key), place);
        self.changes.insert(place, Change { entity, body, before });
        Ok(())
    }

    /// The type of an entity, made where it is new.
    fn type_of(&mut self, entity: &Entity) -> rusqlite::Result<Result<TypeId, String>> {
        if let Some(known) = self.types.get(&entity.entity_type) {
            return Ok(if known.key_name == entity.key_name {
                Ok(known.id)
            } else {
                Err(format!(
                    "the key of `{}` is called `{}`, not `{}`",
                    entity.entity_type, known.key_name, entity.key_name
                ))
            });
        }
        if self.types.len() >= MAX_TYPES {
            return Ok(Err(format!(
                "there are {MAX_TYPES} types already, and `{}` is none of them",
                entity.entity_type
            )));
        }
        let sql = "INSERT INTO types (name, key_name, entities, next) VALUES (?1, ?2, 0, 0) RETURNING id";
        let row = params![entity.entity_type, entity.key_name];
        let id = TypeId(self.transaction.prepare_cached(sql)?.query_row(row, |row| row.get(0))?);
        let key_name = entity.key_name.clone();
        self.types.insert(entity.entity_type.clone(), Type { id, key_name, entities: 0, next: 0, width: 0 });
        Ok(Ok(id))
    }

    /// Makes the attributes of an entity that are new to its type.
    fn columns(&mut self, id: TypeId, entity: &Entity) -> rusqlite::Result<Result<(), String>> {
        let columns = known_columns(&mut self.attributes, self.transaction, id)?;
        let fresh: Vec<&String> = entity.attributes.keys().filter(|name| !columns.contains_key(*name)).collect();
        let Some(known) = self.types.get_mut(&entity.entity_type) else { return Ok(Ok(())) };
        if known.width + fresh.len() > MAX_ATTRIBUTES {
            return Ok(Err(format!("`{}` would have more than {MAX_ATTRIBUTES} attributes", entity.entity_type)));
        }
        known.width += fresh.len();
        for name in fresh {
            let sql = "INSERT INTO attributes (type, name, strings, integers, numbers, booleans, lists, objects)
                       VALUES (?1, ?2, 0, 0, 0, 0, 0, 0) RETURNING id";
            let column = self.transaction.prepare_cached(sql)?.query_row(params![id.0, name], |row| row.get(0))?;
            columns.insert(name.clone(), Column { id: column, kinds: Kinds::default(), changed: true });
        }
        Ok(Ok(()))
    }

    /// Writes the changes, in the order of their ids.
    fn apply(&mut self) -> rusqlite::Result<()> {
        let transaction = self.transaction;
        let mut insert = transaction.prepare_cached(
            "INSERT INTO entities (id, type, key, body) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (id) DO UPDATE SET body = excluded.body",
        )?;
        let mut unsay = transaction.prepare_cached("DELETE FROM texts WHERE rowid = ?1")?;
        let mut say = transaction.prepare_cached("INSERT INTO texts (rowid, words) VALUES (?1, ?2)")?;
        let mut add = transaction
            .prepare_cached("INSERT OR IGNORE INTO attribute_values (attribute, value, entity) VALUES (?1, ?2, ?3)")?;
        let mut drop = transaction
            .prepare_cached("DELETE FROM attribute_values WHERE attribute = ?1 AND value = ?2 AND entity = ?3")?;
        for (place, change) in std::mem::take(&mut self.changes) {
            let id = TypeId::of(place);
            let columns = known_columns(&mut self.attributes, transaction, id)?;
            if let Some(before) = &change.before {
                let before: Map<String, Value> = serde_json::from_str(before).unwrap_or_default();
                for (name, value) in &before {
                    let Some(column) = columns.get_mut(name) else { continue };
                    column.count(value, -1);
                    for item in items(value) {
                        drop.execute(params![column.id, item, place])?;
                    }
                }
                unsay.execute([place])?;
            }
            insert.execute(params![place, id.0, change.entity.key, change.body])?;
            say.execute(params![place, indexed(&change.entity.key, &change.entity.attributes)])?;
            for (name, value) in &change.entity.attributes {
                let Some(column) = columns.get_mut(name) else { continue };
                column.count(value, 1);
                for item in items(value) {
                    add.execute(params![column.id, item, place])?;
                }
            }
        }
        Ok(())
    }

    /// Writes down how many there are of everything.
    fn keep_schema(&self) -> rusqlite::Result<()> {
        let mut keep = self.transaction.prepare_cached("UPDATE types SET entities = ?2, next = ?3 WHERE id = ?1")?;
        for known in self.types.values() {
            keep.execute(params![known.id.0, known.entities, known.next])?;
        }
        let mut keep = self.transaction.prepare_cached(
            "UPDATE attributes SET strings = ?2, integers = ?3, numbers = ?4, booleans = ?5, lists = ?6, objects = ?7
             WHERE id = ?1",
        )?;
        for column in self.attributes.values().flat_map(HashMap::values).filter(|column| column.changed) {
            let Kinds { strings, integers, numbers, booleans, lists, objects } = column.kinds;
            keep.execute(params![column.id, strings, integers, numbers, booleans, lists, objects])?;
        }
        Ok(())
    }
}

/// The attributes of a type, read once.
fn known_columns<'a>(
    attributes: &'a mut HashMap<TypeId, HashMap<String, Column>>,
    connection: &Connection,
    id: TypeId,
) -> rusqlite::Result<&'a mut HashMap<String, Column>> {
    match attributes.entry(id) {
        Entry::Occupied(entry) => Ok(entry.into_mut()),
        Entry::Vacant(entry) => {
            let found = super::reading::attributes(connection, id)?;
            let columns = found
                .into_iter()
                .map(|known| (known.name, Column { id: known.id, kinds: known.kinds, changed: false }));
            Ok(entry.insert(columns.collect()))
        }
    }
}

impl Column {
    fn count(&mut self, value: &Value, by: i64) {
        let Kinds { strings, integers, numbers, booleans, lists, objects } = &mut self.kinds;
        let kind = match value {
            Value::Null => return,
            Value::String(_) => strings,
            Value::Number(number) if number.is_f64() => numbers,
            Value::Number(_) => integers,
            Value::Bool(_) => booleans,
            Value::Array(_) => lists,
            Value::Object(_) => objects,
        };
        *kind += by;
        self.changed = true;
    }
}
