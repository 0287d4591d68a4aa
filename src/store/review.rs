//! The newest entries of the audit log, for whoever looks back over what happened.

use super::{Store, StoreError};

impl Store {
    /// Goes over the outcomes among the newest `entries` of the audit log, newest first, and gives what `look` made of
    /// their texts. It reads a bounded number of rows, on a connection that only reads.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub async fn look_back<T, F>(&self, entries: u32, into: T, look: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: Fn(&mut T, &str) + Send + 'static,
    {
        let read = move |connection: &rusqlite::Connection| {
            let mut into = into;
            let mut statement = connection.prepare_cached(
                "SELECT entry FROM audit WHERE seq > (SELECT coalesce(max(seq), 0) FROM audit) - ?1
                 AND phase = 'outcome' ORDER BY seq DESC",
            )?;
            let mut rows = statement.query([entries])?;
            while let Some(row) = rows.next()? {
                look(&mut into, row.get_ref(0)?.as_str()?);
            }
            Ok(into)
        };
        self.readers().read(read).await
    }
}
