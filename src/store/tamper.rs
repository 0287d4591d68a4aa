//! The file behind the store's back, for tests: whoever tampers does not ask the store.

use std::path::Path;
use std::sync::mpsc::Receiver;

use super::{Store, StoreError};

pub(crate) struct Raw(rusqlite::Connection);

impl Raw {
    /// Opens the file and takes away what keeps accidents from the log.
    pub(crate) fn open(folder: &Path) -> Self {
        let connection = rusqlite::Connection::open(folder.join(super::DATABASE)).unwrap();
        connection.execute_batch("DROP TRIGGER audit_never_updated; DROP TRIGGER audit_never_deleted").unwrap();
        Self(connection)
    }

    pub(crate) fn run(&self, sql: &str) {
        self.0.execute_batch(sql).unwrap();
    }

    /// Turns one bit of a field of an audit entry.
    pub(crate) fn flip(&self, column: &str, seq: i64, bit: usize) {
        let read = format!("SELECT CAST({column} AS BLOB) FROM audit WHERE seq = {seq}");
        let mut bytes: Vec<u8> = self.0.query_row(&read, [], |row| row.get(0)).unwrap();
        let bit = bit % (bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        let kind = if column == "entry" { "CAST(?1 AS TEXT)" } else { "?1" };
        self.0.execute(&format!("UPDATE audit SET {column} = {kind} WHERE seq = {seq}"), [bytes]).unwrap();
    }
}

impl Store {
    /// Keeps the writer from its work until told to go on.
    pub(crate) async fn hold_writer(&self, go_on: Receiver<()>) -> Result<(), StoreError> {
        self.write(move |_| {
            go_on.recv().unwrap();
            Ok(())
        })
        .await
    }
}
