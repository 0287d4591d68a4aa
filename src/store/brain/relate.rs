//! Which types belong together: as somebody says, or as names and values do.

use std::collections::HashSet;

use rusqlite::params;

use super::schema::TypeId;
use super::write::{Batch, Relation};

const MAX_RELATIONS: i64 = 1000;
/// Values that are tried to find out whether an attribute holds keys of a type.
const TRIED: i64 = 50;

impl Batch<'_, '_> {
    /// Keeps a relation that somebody declares between types that are there, or will be.
    pub(super) fn declare(&mut self, relation: &Relation) -> rusqlite::Result<()> {
        let id = |name: &str| self.types.get(name).map(|known| known.id.0);
        let (Some(source), Some(target)) = (id(&relation.source), id(&relation.target)) else {
            let missing = if id(&relation.source).is_none() { &relation.source } else { &relation.target };
            self.written.undeclared.push(format!("there is no type `{missing}` to relate: import its entities first"));
            return Ok(());
        };
        let count: i64 = self.transaction.query_row("SELECT count(*) FROM relations", [], |row| row.get(0))?;
        if count < MAX_RELATIONS {
            self.transaction
                .prepare_cached("INSERT OR REPLACE INTO relations VALUES (?1, ?2, ?3, ?4, 1)")?
                .execute(params![source, relation.attribute, target, relation.target_attribute])?;
        }
        Ok(())
    }

    /// Finds attributes that are called after a type and hold keys of it.
    pub(super) fn infer(&mut self) -> rusqlite::Result<()> {
        let known: HashSet<(i64, String, i64)> = self
            .transaction
            .prepare_cached("SELECT type, attribute, target FROM relations")?
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
            .collect::<rusqlite::Result<_>>()?;
        let mut columns = self.transaction.prepare_cached("SELECT id, type, name FROM attributes")?;
        let mut columns = columns.query([])?;
        while let Some(row) = columns.next()? {
            let (column, source, name): (i64, i64, String) = (row.get(0)?, row.get(1)?, row.get(2)?);
            let Some(target) = named_after(&name).find_map(|stem| self.types.get(stem)) else { continue };
            if known.contains(&(source, name.clone(), target.id.0)) || !self.holds_keys(column, target.id)? {
                continue;
            }
            self.transaction
                .prepare_cached("INSERT OR IGNORE INTO relations VALUES (?1, ?2, ?3, ?4, 0)")?
                .execute(params![source, name, target.id.0, target.key_name])?;
        }
        Ok(())
    }

    /// Whether one of the first few values of an attribute is the key of an entity.
    fn holds_keys(&self, column: i64, target: TypeId) -> rusqlite::Result<bool> {
        // From each value to the next: a value that a million entities have is one step.
        let sql = "WITH RECURSIVE tried (value) AS (
                       SELECT min(value) FROM attribute_values WHERE attribute = ?1
                       UNION ALL
                       SELECT (SELECT min(later.value) FROM attribute_values AS later
                               WHERE later.attribute = ?1 AND later.value > tried.value)
                       FROM tried WHERE tried.value IS NOT NULL LIMIT ?3)
                   SELECT EXISTS (SELECT 1 FROM tried WHERE EXISTS
                       (SELECT 1 FROM entities WHERE type = ?2 AND key = CAST(tried.value AS TEXT)))";
        self.transaction.prepare_cached(sql)?.query_row(params![column, target.0, TRIED], |row| row.get(0))
    }
}

/// The types that an attribute may be called after.
fn named_after(name: &str) -> impl Iterator<Item = &str> {
    [name.strip_suffix("_id"), name.strip_suffix("Id"), name.strip_suffix("_key"), Some(name)].into_iter().flatten()
}
