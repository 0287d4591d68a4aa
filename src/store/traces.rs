//! Traces that clients bring.

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{Store, StoreError};
use crate::domain::clock::Moment;

/// Traces that are kept, and bytes of their metadata; the oldest go first.
const MOST_TRACES: i64 = 10_000;
const MOST_BYTES: i64 = 64 << 20;

const COLUMNS: &str = "seq, id, time, key, user, agent, request, name, metadata";

/// One trace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceRecord {
    /// Grows from trace to trace; zero for one that is not stored yet.
    pub seq: i64,
    /// 32 hexadecimal digits, as W3C Trace Context has them.
    pub id: String,
    pub time: Moment,
    /// Whose key brought it.
    pub key: String,
    pub user: String,
    pub agent: String,
    /// The request that brought it: the `request_id` of its audit record.
    pub request: String,
    pub name: String,
    /// A JSON object.
    pub metadata: Option<String>,
}

impl Store {
    /// Keeps a trace; forgets the oldest where there are too many, or they are too large.
    ///
    /// # Errors
    /// Where it was not committed.
    pub async fn put_trace(&self, trace: TraceRecord) -> Result<(), StoreError> {
        self.write(move |connection| {
            let TraceRecord { id, time, key, user, agent, request, name, metadata, .. } = trace;
            let sql = "INSERT INTO traces (id, time, key, user, agent, request, name, metadata)
                       VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
            let row = params![id, time.0, key, user, agent, request, name, metadata];
            connection.prepare_cached(sql)?.execute(row)?;
            let forget = "DELETE FROM traces WHERE seq <= (SELECT max(seq) FROM traces) - ?1";
            connection.prepare_cached(forget)?.execute([MOST_TRACES])?;
            forget_beyond(connection, MOST_BYTES)
        })
        .await
    }

    /// The trace of this id.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub async fn trace(&self, id: &str) -> Result<Option<TraceRecord>, StoreError> {
        let id = id.to_owned();
        let sql = format!("SELECT {COLUMNS} FROM traces WHERE id = ?1");
        let read = move |connection: &Connection| connection.prepare_cached(&sql)?.query_row([id], read).optional();
        self.readers().read(read).await
    }
}

/// Forgets the oldest traces until there are at most so many bytes of metadata.
fn forget_beyond(connection: &Connection, most: i64) -> rusqlite::Result<()> {
    let sum = "SELECT bytes FROM trace_sum";
    while connection.prepare_cached(sum)?.query_row([], |row| row.get::<_, i64>(0))? > most {
        let oldest = "DELETE FROM traces WHERE seq = (SELECT min(seq) FROM traces)";
        if connection.prepare_cached(oldest)?.execute([])? == 0 {
            break;
        }
    }
    Ok(())
}

fn read(row: &Row<'_>) -> rusqlite::Result<TraceRecord> {
    Ok(TraceRecord {
        seq: row.get(0)?,
        id: row.get(1)?,
        time: Moment(row.get(2)?),
        key: row.get(3)?,
        user: row.get(4)?,
        agent: row.get(5)?,
        request: row.get(6)?,
        name: row.get(7)?,
        metadata: row.get(8)?,
    })
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;
    use crate::store::Durability;

    #[tokio::test]
    async fn traces_are_found_by_id() {
        let folder = TempDir::new().unwrap();
        let store = Store::open(folder.path(), Durability::Process).unwrap();
        let text = |text: &str| text.to_owned();
        let trace = |id: &str| TraceRecord {
            seq: 0,
            id: text(id),
            time: Moment(7),
            key: text("key_1"),
            user: text("u"),
            agent: text("a"),
            request: text("req_1"),
            name: text("checkout"),
            metadata: Some(text("{\"n\":1}")),
        };
        for id in ["a", "b", "c"] {
            store.put_trace(trace(id)).await.unwrap();
        }
        let found = store.trace("b").await.unwrap().unwrap();
        assert_eq!(TraceRecord { seq: 0, ..found.clone() }, trace("b"));
        assert_eq!(store.trace("d").await.unwrap(), None);
        assert!(matches!(store.put_trace(trace("a")).await, Err(StoreError::Conflict(_))));
        store.write(|connection| forget_beyond(connection, 20)).await.unwrap();
        let kept = async |id: &str| store.trace(id).await.unwrap().is_some();
        assert_eq!((kept("a").await, kept("b").await, kept("c").await), (false, true, true), "three times seven bytes");
        store.write(|connection| forget_beyond(connection, 0)).await.unwrap();
        assert_eq!((kept("b").await, kept("c").await), (false, false));
    }
}
