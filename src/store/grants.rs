//! Tokens at rest: which key each belongs to and when it ends, and of the tokens only keyed hashes.

use rusqlite::{Row, params};

use super::{Store, StoreError};
use crate::domain::clock::Moment;
use crate::domain::id::GrantId;

/// An access token and the refresh token that renews both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrantRecord {
    pub id: GrantId,
    /// The hash of the key that was exchanged: the grant ends with it.
    pub key_hash: [u8; 32],
    /// For automation, and not for a user.
    pub service: bool,
    /// The part of the refresh token that finds the grant; its other part is only hashed.
    pub handle: String,
    pub access: [u8; 32],
    pub access_ends: Moment,
    pub refresh: [u8; 32],
    pub refresh_ends: Moment,
    pub created: Moment,
}

impl GrantRecord {
    /// Neither of its tokens is of any use any more.
    #[must_use]
    pub fn has_ended(&self, now: Moment) -> bool {
        now >= self.access_ends.max(self.refresh_ends)
    }
}

impl Store {
    /// Adds a grant.
    ///
    /// # Errors
    /// Where it was not committed.
    pub async fn insert_grant(&self, grant: GrantRecord) -> Result<(), StoreError> {
        self.write(move |connection| {
            let sql = "INSERT INTO grants (id, key_hash, service, handle, access, access_ends, refresh, refresh_ends, created)
                       VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
            let GrantRecord { id, key_hash, service, handle, access, refresh, .. } = &grant;
            let ends = (grant.access_ends.0, grant.refresh_ends.0);
            let values =
                params![id.as_str(), key_hash, service, handle, access, ends.0, refresh, ends.1, grant.created.0];
            connection.prepare_cached(sql)?.execute(values).map(drop)
        })
        .await
    }

    /// Puts the new tokens of a grant in place of the old; false where it was removed meanwhile.
    ///
    /// # Errors
    /// Where it was not committed.
    pub async fn renew_grant(&self, grant: GrantRecord) -> Result<bool, StoreError> {
        self.write(move |connection| {
            let sql = "UPDATE grants SET access = ?2, access_ends = ?3, refresh = ?4, refresh_ends = ?5 WHERE id = ?1";
            let GrantRecord { id, access, refresh, .. } = &grant;
            let values = params![id.as_str(), access, grant.access_ends.0, refresh, grant.refresh_ends.0];
            Ok(connection.prepare_cached(sql)?.execute(values)? > 0)
        })
        .await
    }

    /// Removes grants.
    ///
    /// # Errors
    /// Where it was not committed.
    pub async fn remove_grants(&self, ids: Vec<GrantId>) -> Result<(), StoreError> {
        self.write(move |connection| {
            let mut remove = connection.prepare_cached("DELETE FROM grants WHERE id = ?1")?;
            ids.iter().try_for_each(|id| remove.execute([id.as_str()]).map(drop))
        })
        .await
    }

    /// Every grant: to be loaded once, at the start.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub async fn grants(&self) -> Result<Vec<GrantRecord>, StoreError> {
        let sql =
            "SELECT id, key_hash, service, handle, access, access_ends, refresh, refresh_ends, created FROM grants";
        self.readers().read(move |connection| connection.prepare(sql)?.query_map([], grant)?.collect()).await
    }
}

fn grant(row: &Row<'_>) -> rusqlite::Result<GrantRecord> {
    let id: String = row.get(0)?;
    Ok(GrantRecord {
        id: GrantId::from(id.as_str()),
        key_hash: row.get(1)?,
        service: row.get(2)?,
        handle: row.get(3)?,
        access: row.get(4)?,
        access_ends: Moment(row.get(5)?),
        refresh: row.get(6)?,
        refresh_ends: Moment(row.get(7)?),
        created: Moment(row.get(8)?),
    })
}
