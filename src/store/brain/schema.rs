//! The file, and what is known of types: which there are, what attributes their entities have, how they relate.

use std::path::Path;

use rusqlite::Connection;

use super::super::schema::{migrate_to, open_reader as open_plain_reader, open_writer};
use super::super::{Durability, StoreError};

const MIGRATIONS: &[&str] = &[include_str!("../../../migrations/brain/0001_initial.sql")];
/// `TGBR`.
const APPLICATION_ID: i64 = 0x5447_4252;
/// KiB of pages that the writer and each reader keep: looked-up values lie all over the file.
const WRITER_CACHE: i64 = 128 * 1024;
const READER_CACHE: i64 = 32 * 1024;

pub(super) fn open(path: &Path, durability: Durability) -> Result<Connection, StoreError> {
    let failed = |error: rusqlite::Error| StoreError::File { path: path.to_owned(), reason: error.to_string().into() };
    let mut connection = open_writer(path, durability).map_err(failed)?;
    connection.pragma_update(None, "cache_size", -WRITER_CACHE).map_err(failed)?;
    migrate_to(&mut connection, path, MIGRATIONS, APPLICATION_ID)?;
    Ok(connection)
}

pub(super) fn open_reader(path: &Path) -> Result<Connection, StoreError> {
    let failed = |error: rusqlite::Error| StoreError::File { path: path.to_owned(), reason: error.to_string().into() };
    let connection = open_plain_reader(path).map_err(failed)?;
    connection.pragma_update(None, "cache_size", -READER_CACHE).map_err(failed)?;
    Ok(connection)
}

/// A database that knows nothing.
pub(super) fn empty() -> Result<Connection, StoreError> {
    let mut connection = Connection::open_in_memory().map_err(|error| StoreError::read(&error))?;
    migrate_to(&mut connection, Path::new(""), MIGRATIONS, APPLICATION_ID)?;
    Ok(connection)
}

/// The number of a type, and with it the range of its entities' ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TypeId(pub(super) i64);

/// Bits of an id that number an entity within its type.
const BITS: u32 = 40;

impl TypeId {
    /// The type of the entity with this id.
    #[must_use]
    pub const fn of(entity: i64) -> Self {
        Self(entity >> BITS)
    }

    /// The id of its entity with this number.
    pub(super) const fn entity(self, number: i64) -> i64 {
        (self.0 << BITS) | number
    }

    /// The ids that its entities may have, both ends included.
    pub(super) const fn range(self) -> (i64, i64) {
        (self.0 << BITS, ((self.0 + 1) << BITS) - 1)
    }
}

/// A type of entities.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntityType {
    pub id: TypeId,
    pub name: String,
    /// What the key is called outside, such as `id`.
    pub key_name: String,
    pub entities: u64,
}

/// An attribute of a type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attribute {
    pub id: i64,
    pub name: String,
    pub kinds: Kinds,
}

/// How many entities hold a value of each kind in an attribute; one without a value, or with `null`, counts nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Kinds {
    pub strings: i64,
    pub integers: i64,
    pub numbers: i64,
    pub booleans: i64,
    pub lists: i64,
    pub objects: i64,
}

impl Kinds {
    /// How many hold any value.
    #[must_use]
    pub const fn filled(&self) -> i64 {
        self.strings + self.integers + self.numbers + self.booleans + self.lists + self.objects
    }

    /// The kinds that occur, the commonest first.
    #[must_use]
    pub fn named(&self) -> Vec<(&'static str, i64)> {
        let mut found = vec![
            ("string", self.strings),
            ("integer", self.integers),
            ("number", self.numbers),
            ("boolean", self.booleans),
            ("list", self.lists),
            ("object", self.objects),
        ];
        found.retain(|(_, count)| *count > 0);
        found.sort_by_key(|(_, count)| -count);
        found
    }
}

/// A relation that is known: `source.attribute = target.target_attribute`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Related {
    pub source: TypeId,
    pub attribute: String,
    pub target: TypeId,
    pub target_attribute: String,
    pub declared: bool,
}
