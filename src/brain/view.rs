//! Types and their fields as somebody may see them. What is hidden is not there: it is in no list, no error names it.

use std::collections::{BTreeSet, HashMap};
use std::rc::Rc;

use serde_json::{Map, Value, json};

use super::QueryError;
use crate::store::brain::{Attribute, EntityType, Reading, TypeId};

/// Says what may be seen. It is asked once about a type and once about a field, whatever is found.
pub trait Sight {
    /// Whether entities of a type may be seen, or a field of them.
    fn shows(&mut self, entity_type: &str, field: Option<&str>) -> bool;
}

/// The sight of the machine's owner.
#[derive(Debug, Clone, Copy)]
pub struct Everything;

impl Sight for Everything {
    fn shows(&mut self, _entity_type: &str, _field: Option<&str>) -> bool {
        true
    }
}

/// A field that may be seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Field {
    Key,
    Attribute { id: i64, name: String },
}

impl Field {
    /// The value that an entity has in this field.
    pub(super) fn of<'v>(&self, key: &'v Value, body: &'v Map<String, Value>) -> &'v Value {
        match self {
            Self::Key => key,
            Self::Attribute { name, .. } => body.get(name).unwrap_or(&Value::Null),
        }
    }
}

/// A type that may be seen.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) kind: EntityType,
    /// The attributes that may be seen.
    pub(super) attributes: Vec<Attribute>,
    /// Whether the key may be seen.
    pub(super) key: bool,
    /// Whether there is anything that may not.
    pub(super) hides: bool,
}

impl Seen {
    pub(super) fn name(&self) -> &str {
        &self.kind.name
    }

    /// The field of this name; the key has its own name and the name `key`.
    pub(super) fn field(&self, name: &str) -> Option<Field> {
        if self.key && name == self.kind.key_name {
            return Some(Field::Key);
        }
        let attribute = self.attributes.iter().find(|attribute| attribute.name == name);
        let attribute = attribute.map(|found| Field::Attribute { id: found.id, name: found.name.clone() });
        attribute.or_else(|| (self.key && name == "key").then_some(Field::Key))
    }

    /// The same, where it has to be there.
    pub(super) fn require(&self, name: &str) -> Result<Field, QueryError> {
        self.field(name).ok_or_else(|| {
            let key = self.key.then_some(self.kind.key_name.as_str());
            let known: Vec<&str> =
                key.into_iter().chain(self.attributes.iter().map(|known| known.name.as_str())).take(50).collect();
            let name: String = name.chars().take(100).collect();
            QueryError::invalid(format!("`{}` has no field `{name}`: it has {}", self.name(), known.join(", ")))
        })
    }

    /// The attributes of an entity that may be seen.
    pub(super) fn seen(&self, mut body: Map<String, Value>) -> Map<String, Value> {
        if self.hides {
            body.retain(|name, _| self.attributes.iter().any(|known| known.name == *name));
        }
        body
    }
}

/// The types as somebody may see them, each looked at once.
pub(super) struct Types<'a> {
    pub(super) reading: &'a Reading<'a>,
    sight: &'a mut dyn Sight,
    all: Vec<EntityType>,
    known: HashMap<TypeId, Option<Rc<Seen>>>,
}

impl<'a> Types<'a> {
    pub(super) fn new(reading: &'a Reading<'a>, sight: &'a mut dyn Sight) -> Result<Self, QueryError> {
        Ok(Self { reading, sight, all: reading.types()?, known: HashMap::new() })
    }

    /// The type of this id, where it may be seen.
    pub(super) fn of(&mut self, id: TypeId) -> Result<Option<Rc<Seen>>, QueryError> {
        if let Some(known) = self.known.get(&id) {
            return Ok(known.clone());
        }
        let kind = self.all.iter().find(|kind| kind.id == id).cloned();
        let seen = match kind.filter(|kind| self.sight.shows(&kind.name, None)) {
            Some(kind) => Some(Rc::new(self.look_at(kind)?)),
            None => None,
        };
        self.known.insert(id, seen.clone());
        Ok(seen)
    }

    fn look_at(&mut self, kind: EntityType) -> Result<Seen, QueryError> {
        let key = self.sight.shows(&kind.name, Some(&kind.key_name));
        let mut attributes = self.reading.attributes(kind.id)?;
        let all = attributes.len();
        attributes.retain(|attribute| self.sight.shows(&kind.name, Some(&attribute.name)));
        let hides = !key || attributes.len() < all;
        Ok(Seen { kind, attributes, key, hides })
    }

    /// The type of this name.
    ///
    /// # Errors
    /// Where there is none that may be seen.
    pub(super) fn named(&mut self, name: &str) -> Result<Rc<Seen>, QueryError> {
        let id = self.all.iter().find(|kind| kind.name == name).map(|kind| kind.id);
        if let Some(seen) = id.map_or(Ok(None), |id| self.of(id))? {
            return Ok(seen);
        }
        let known: Vec<String> = self.every()?.iter().map(|seen| seen.name().to_owned()).take(50).collect();
        let name: String = name.chars().take(100).collect();
        Err(QueryError::invalid(if known.is_empty() {
            format!("there is no entity type `{name}`: nothing was imported yet")
        } else {
            format!("there is no entity type `{name}`: known are {}", known.join(", "))
        }))
    }

    /// Every type that may be seen.
    pub(super) fn every(&mut self) -> Result<Vec<Rc<Seen>>, QueryError> {
        let ids: Vec<TypeId> = self.all.iter().map(|kind| kind.id).collect();
        let mut seen = Vec::new();
        for id in ids {
            seen.extend(self.of(id)?);
        }
        Ok(seen)
    }

    /// The names of the types that were looked at and may be seen.
    pub(super) fn looked_at(&self) -> BTreeSet<String> {
        self.known.values().flatten().map(|seen| seen.name().to_owned()).collect()
    }

    /// The relations of a type, of those with another alone where one is given, as `source.attribute=target.attribute`, as far as both ends may be seen.
    pub(super) fn relations(&mut self, id: TypeId, to: Option<TypeId>) -> Result<Vec<Known>, QueryError> {
        let mut found = Vec::new();
        for related in self.reading.relations(id)? {
            let other = if related.source == id { related.target } else { related.source };
            if to.is_some_and(|to| to != other) {
                continue;
            }
            let (Some(source), Some(target)) = (self.of(related.source)?, self.of(related.target)?) else { continue };
            let ends = source.field(&related.attribute).zip(target.field(&related.target_attribute));
            let Some((from, to)) = ends else { continue };
            let text =
                format!("{}.{}={}.{}", source.name(), related.attribute, target.name(), related.target_attribute);
            found.push(Known {
                source: related.source,
                from,
                target: related.target,
                to,
                text,
                declared: related.declared,
            });
        }
        Ok(found)
    }
}

/// A relation whose ends may be seen.
#[derive(Debug, Clone)]
pub(super) struct Known {
    pub(super) source: TypeId,
    pub(super) from: Field,
    pub(super) target: TypeId,
    pub(super) to: Field,
    pub(super) text: String,
    pub(super) declared: bool,
}

/// Every type that may be seen, with its fields and relations.
///
/// # Errors
/// Where the store cannot be read.
pub fn types(reading: &Reading<'_>, sight: &mut dyn Sight) -> Result<Value, QueryError> {
    let mut types = Types::new(reading, sight)?;
    list(&mut types)
}

pub(super) fn list(types: &mut Types<'_>) -> Result<Value, QueryError> {
    let mut rows = Vec::new();
    for seen in types.every()? {
        let fields: Vec<Value> = seen
            .attributes
            .iter()
            .map(|attribute| {
                let kinds: Vec<&str> = attribute.kinds.named().iter().map(|(kind, _)| *kind).collect();
                json!({"name": attribute.name, "kinds": kinds, "filled": attribute.kinds.filled()})
            })
            .collect();
        let relations: Vec<Value> = types
            .relations(seen.kind.id, None)?
            .iter()
            .map(|known| json!({"on": known.text, "declared": known.declared}))
            .collect();
        let key = seen.key.then_some(&seen.kind.key_name);
        rows.push(json!({
            "type": seen.name(), "entities": seen.kind.entities, "key": key, "fields": fields, "relations": relations,
        }));
    }
    Ok(Value::Array(rows))
}
