//! Which types belong together: as somebody says, or as names and values do.

use std::collections::HashSet;

use rusqlite::params;

use super::schema::TypeId;
use super::write::{Batch, Relation};

const MAX_RELATIONS: i64 = 1000;
/// Values that are tried to find out whether an attribute holds keys of a type.
const TRIED: i64 = 50;

impl Batch<'_, '_> {
    /// Keeps a relation that somebody declares between attributes that are there.
    pub(super) fn declare(&mut self, relation: &Relation) -> rusqlite::Result<()> {
        let Relation { source, attribute, target, target_attribute } = relation;
        let ends = [self.end(source, attribute)?, self.end(target, target_attribute)?];
        let (source, target) = match ends {
            [Ok(source), Ok(target)] => (source, target),
            [Err(reason), _] | [_, Err(reason)] => {
                self.written.undeclared.push(reason);
                return Ok(());
            }
        };
        let others = "SELECT count(*) FROM relations
                      WHERE NOT (type = ?1 AND attribute = ?2 AND target = ?3 AND target_attribute = ?4)";
        let row = params![source.0, attribute, target.0, target_attribute];
        let count: i64 = self.transaction.prepare_cached(others)?.query_row(row, |row| row.get(0))?;
        if count >= MAX_RELATIONS {
            let named = format!("{}.{attribute}={}.{target_attribute}", relation.source, relation.target);
            let reason = format!("there are {MAX_RELATIONS} relations already, and `{named}` is none of them");
            self.written.undeclared.push(reason);
            return Ok(());
        }
        let sql = "INSERT OR REPLACE INTO relations VALUES (?1, ?2, ?3, ?4, 1)";
        self.transaction.prepare_cached(sql)?.execute(row).map(drop)
    }

    /// One end of a relation; or why it is none.
    fn end(&self, name: &str, attribute: &str) -> rusqlite::Result<Result<TypeId, String>> {
        let Some(known) = self.types.get(name) else {
            return Ok(Err(format!("there is no type `{name}` to relate: import its entities first")));
        };
        let sql = "SELECT EXISTS (SELECT 1 FROM attributes WHERE type = ?1 AND name = ?2)";
        let there = known.key_name == attribute
            || self.transaction.prepare_cached(sql)?.query_row(params![known.id.0, attribute], |row| row.get(0))?;
        let reason =
            || format!("`{name}` has no attribute `{attribute}` to relate: import entities that have it first");
        Ok(if there { Ok(known.id) } else { Err(reason()) })
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
