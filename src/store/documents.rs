//! Small things by kind and name, and the sessions that were ended.

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension, params};

use super::{Store, StoreError};
use crate::domain::clock::Moment;
use crate::domain::id::ServerName;

/// Tool definitions as a server last gave them.
const DEFINITIONS: &str = "definitions";

impl Store {
    /// Keeps a document, in place of an older one of the same kind and name.
    ///
    /// # Errors
    /// Where it was not committed.
    pub async fn put(&self, kind: &'static str, name: &str, body: Bytes) -> Result<(), StoreError> {
        let name = name.to_owned();
        self.write(move |connection| put(connection, kind, &name, &body)).await
    }

    /// The document of this kind and name.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub async fn fetch(&self, kind: &'static str, name: &str) -> Result<Option<Bytes>, StoreError> {
        let name = name.to_owned();
        let sql = "SELECT body FROM documents WHERE kind = ?1 AND name = ?2";
        let read = self.readers().read(move |connection| {
            connection.prepare_cached(sql)?.query_row(params![kind, name], |row| row.get::<_, Vec<u8>>(0)).optional()
        });
        Ok(read.await?.map(Bytes::from))
    }

    /// Every document of a kind, by name.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub async fn list(&self, kind: &'static str) -> Result<Vec<(String, Bytes)>, StoreError> {
        let sql = "SELECT name, body FROM documents WHERE kind = ?1 ORDER BY name";
        let read = move |connection: &Connection| {
            let mut statement = connection.prepare_cached(sql)?;
            statement.query_map([kind], |row| Ok((row.get(0)?, Bytes::from(row.get::<_, Vec<u8>>(1)?))))?.collect()
        };
        self.readers().read(read).await
    }

    /// Removes a document and gives it: of two callers one gets it, so what it stands for happens once.
    ///
    /// # Errors
    /// Where the removal was not committed.
    pub async fn take(&self, kind: &'static str, name: &str) -> Result<Option<Bytes>, StoreError> {
        let name = name.to_owned();
        let sql = "DELETE FROM documents WHERE kind = ?1 AND name = ?2 RETURNING body";
        let taken = self.write(move |connection| {
            connection.prepare_cached(sql)?.query_row(params![kind, name], |row| row.get::<_, Vec<u8>>(0)).optional()
        });
        Ok(taken.await?.map(Bytes::from))
    }

    /// The definitions that this server was last seen with.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub async fn definitions(&self, server: &ServerName) -> Result<Option<Bytes>, StoreError> {
        self.fetch(DEFINITIONS, server.as_str()).await
    }

    /// Keeps the definitions that a server was seen with.
    ///
    /// # Errors
    /// Where they were not committed.
    pub async fn put_definitions(&self, server: &ServerName, definitions: Bytes) -> Result<(), StoreError> {
        self.put(DEFINITIONS, server.as_str(), definitions).await
    }

    /// Remembers a session that its client deleted, until it would have expired; forgets `forgotten` for it, and those
    /// that have expired.
    ///
    /// # Errors
    /// Where it was not committed.
    pub async fn end_session(
        &self,
        digest: [u8; 32],
        until: Moment,
        forgotten: Vec<[u8; 32]>,
        now: Moment,
    ) -> Result<(), StoreError> {
        self.write(move |connection| {
            connection.prepare_cached("DELETE FROM ended_sessions WHERE until <= ?1")?.execute([now.0])?;
            for digest in &forgotten {
                connection.prepare_cached("DELETE FROM ended_sessions WHERE digest = ?1")?.execute([digest])?;
            }
            let sql = "INSERT OR REPLACE INTO ended_sessions (digest, until) VALUES (?1, ?2)";
            connection.prepare_cached(sql)?.execute(params![digest, until.0]).map(drop)
        })
        .await
    }

    /// The sessions that were ended and have not expired, with their end, oldest first: to be loaded once, at the start.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub async fn ended_sessions(&self, now: Moment) -> Result<Vec<([u8; 32], Moment)>, StoreError> {
        let sql = "SELECT digest, until FROM ended_sessions WHERE until > ?1 ORDER BY until";
        let read = move |connection: &Connection| {
            connection.prepare(sql)?.query_map([now.0], |row| Ok((row.get(0)?, Moment(row.get(1)?))))?.collect()
        };
        self.readers().read(read).await
    }
}

/// Puts a document in the place of an older one of its kind and name.
pub(super) fn put(connection: &Connection, kind: &str, name: &str, body: &[u8]) -> rusqlite::Result<()> {
    let sql = "INSERT INTO documents (kind, name, body) VALUES (?1, ?2, ?3)
               ON CONFLICT (kind, name) DO UPDATE SET body = excluded.body";
    connection.prepare_cached(sql)?.execute(params![kind, name, body]).map(drop)
}
