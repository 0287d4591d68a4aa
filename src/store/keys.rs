//! Keys at rest: who holds them and what they open, and of the secret only its keyed hash.

use rusqlite::types::Type;
use rusqlite::{Connection, Row, params};

use super::{Store, StoreError};
use crate::domain::clock::Moment;
use crate::domain::id::KeyId;

/// One API key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRecord {
    pub id: KeyId,
    /// For people.
    pub name: String,
    pub user: String,
    pub agent: Option<String>,
    pub profile: String,
    pub roles: Vec<String>,
    pub plan: Option<String>,
    /// Keyed hash of the secret; the pepper is a secret file, see [`Store::secret`].
    pub hash: [u8; 32],
    /// How the secret begins (`inv_live_`), for lists.
    pub prefix: String,
    /// How it ends, for lists.
    pub last4: String,
    pub created: Moment,
    pub expires: Option<Moment>,
    pub revoked: Option<Moment>,
    pub last_used: Option<Moment>,
}

impl KeyRecord {
    /// Neither revoked nor expired.
    #[must_use]
    pub fn is_live(&self, now: Moment) -> bool {
        self.revoked.is_none() && self.expires.is_none_or(|end| now < end)
    }
}

const COLUMNS: &str =
    "id, name, user, agent, profile, roles, plan, hash, prefix, last4, created, expires, revoked, last_used";

impl Store {
    /// Adds a key.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] where its id or hash is there already, else where it was not committed.
    pub async fn insert_key(&self, key: KeyRecord) -> Result<(), StoreError> {
        self.write(move |connection| insert(connection, &key)).await
    }

    /// Every key, revoked and expired ones too, in the order they were made.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub async fn keys(&self) -> Result<Vec<KeyRecord>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM keys ORDER BY created, id");
        self.readers().read(move |connection| connection.prepare(&sql)?.query_map([], key)?.collect()).await
    }

    /// Revokes a key for good; false where there is no live key of this id.
    ///
    /// # Errors
    /// Where it was not committed.
    pub async fn revoke_key(&self, id: &KeyId, now: Moment) -> Result<bool, StoreError> {
        let id = id.as_str().to_owned();
        let sql = "UPDATE keys SET revoked = ?2 WHERE id = ?1 AND revoked IS NULL";
        self.write(move |connection| Ok(connection.execute(sql, params![id, now.0])? > 0)).await
    }

    /// Notes when keys were last used. Meant for a batch every few seconds, never for each call.
    ///
    /// # Errors
    /// Where it was not committed.
    pub async fn touch_keys(&self, uses: Vec<(KeyId, Moment)>) -> Result<(), StoreError> {
        self.write(move |connection| {
            let sql = "UPDATE keys SET last_used = max(coalesce(last_used, 0), ?2) WHERE id = ?1";
            let mut touch = connection.prepare_cached(sql)?;
            for (id, moment) in &uses {
                touch.execute(params![id.as_str(), moment.0])?;
            }
            Ok(())
        })
        .await
    }
}

fn insert(connection: &Connection, key: &KeyRecord) -> rusqlite::Result<()> {
    let sql =
        format!("INSERT INTO keys ({COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)");
    let roles = serde_json::Value::from(key.roles.clone()).to_string();
    connection.prepare_cached(&sql)?.execute(params![
        key.id.as_str(),
        key.name,
        key.user,
        key.agent,
        key.profile,
        roles,
        key.plan,
        key.hash,
        key.prefix,
        key.last4,
        key.created.0,
        key.expires.map(|moment| moment.0),
        key.revoked.map(|moment| moment.0),
        key.last_used.map(|moment| moment.0),
    ])?;
    Ok(())
}

fn key(row: &Row<'_>) -> rusqlite::Result<KeyRecord> {
    let id: String = row.get("id")?;
    let roles: String = row.get("roles")?;
    let roles = serde_json::from_str(&roles)
        .map_err(|error| rusqlite::Error::FromSqlConversionFailure(5, Type::Text, Box::new(error)))?;
    let moment = |column: &str| Ok::<_, rusqlite::Error>(row.get::<_, Option<i64>>(column)?.map(Moment));
    Ok(KeyRecord {
        id: KeyId::from(id.as_str()),
        name: row.get("name")?,
        user: row.get("user")?,
        agent: row.get("agent")?,
        profile: row.get("profile")?,
        roles,
        plan: row.get("plan")?,
        hash: row.get("hash")?,
        prefix: row.get("prefix")?,
        last4: row.get("last4")?,
        created: Moment(row.get("created")?),
        expires: moment("expires")?,
        revoked: moment("revoked")?,
        last_used: moment("last_used")?,
    })
}
