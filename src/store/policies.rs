//! Policies made over the API: every version of each; the latest counts.

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{Store, StoreError};
use crate::domain::clock::Moment;
use crate::domain::id::KeyId;

/// Versions of one policy that are kept.
const KEPT_VERSIONS: i64 = 100;

/// One policy as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyRecord {
    pub name: String,
    /// From 1; it goes on where a removed policy is made again.
    pub version: i64,
    pub text: String,
    /// When this version was made, and with which key.
    pub time: Moment,
    pub key: KeyId,
}

/// A version that is wanted: its number is given when it is written.
#[derive(Debug, Clone)]
pub struct NewVersion {
    pub name: String,
    /// Absent where the policy is removed.
    pub text: Option<String>,
    pub time: Moment,
    pub key: KeyId,
}

impl Store {
    /// The policies that are there, by name.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub async fn policies(&self) -> Result<Vec<PolicyRecord>, StoreError> {
        let sql = "SELECT name, version, text, time, key FROM policies AS one WHERE text IS NOT NULL
                   AND version = (SELECT max(version) FROM policies AS other WHERE other.name = one.name) ORDER BY name";
        self.readers().read(move |connection| connection.prepare(sql)?.query_map([], policy)?.collect()).await
    }

    /// Writes the next version of a policy and gives its number. Versions long past are forgotten; the audit log has
    /// their digests.
    ///
    /// # Errors
    /// Where it was not committed.
    pub async fn put_policy(&self, new: NewVersion) -> Result<i64, StoreError> {
        self.write(move |connection| append(connection, &new)).await
    }
}

fn append(connection: &Connection, new: &NewVersion) -> rusqlite::Result<i64> {
    let last = connection
        .query_row("SELECT max(version) FROM policies WHERE name = ?1", [&new.name], |row| row.get::<_, Option<i64>>(0))
        .optional()?
        .flatten();
    let version = last.unwrap_or(0).saturating_add(1);
    connection.execute(
        "INSERT INTO policies (name, version, text, time, key) VALUES (?1, ?2, ?3, ?4, ?5)",
        params![new.name, version, new.text, new.time.0, new.key.as_str()],
    )?;
    connection.execute(
        "DELETE FROM policies WHERE name = ?1 AND version <= ?2",
        params![new.name, version.saturating_sub(KEPT_VERSIONS)],
    )?;
    Ok(version)
}

fn policy(row: &Row<'_>) -> rusqlite::Result<PolicyRecord> {
    let key: String = row.get(4)?;
    Ok(PolicyRecord {
        name: row.get(0)?,
        version: row.get(1)?,
        text: row.get(2)?,
        time: Moment(row.get(3)?),
        key: KeyId::from(key.as_str()),
    })
}
