//! The audit log as its readers see it: a page, one record, an export.

use super::Gateway;
use super::control::{Actor, Failed, close_act};
use crate::domain::json::Json;
use crate::journal::CSV_HEADER;
use crate::store::Filter;

/// Looks that one page of records may take: a rare filter gives short pages and never a long wait.
const LOOKS: usize = 5;
/// Records of an export that are read at a time.
const STRIDE: usize = 200;

/// An export under way. It holds what was recorded when it began.
#[derive(Debug)]
pub struct Export {
    filter: Filter,
    csv: bool,
    /// Where to go on; absent at the end.
    at: Option<i64>,
    /// The last entry that belongs to it.
    end: i64,
    begun: bool,
}

impl Gateway {
    /// What a filter of records means by a tool: its server, where it says so, and its name.
    #[must_use]
    pub fn tool_named(&self, text: &str) -> (Option<String>, String) {
        self.state().named(&*self.pipeline.own, text)
    }

    /// Closed records that match and come before the entry `before`, newest first; and where the next page begins. A
    /// page may be short and have a successor.
    ///
    /// # Errors
    /// Where the log cannot be read.
    pub async fn records(
        &self,
        filter: &Filter,
        before: Option<i64>,
        limit: usize,
    ) -> Result<(Vec<Json>, Option<i64>), Failed> {
        let (mut found, mut before) = (Vec::new(), before);
        for _ in 0..LOOKS {
            let page = self.pipeline.journal.page(filter.clone(), before, limit - found.len()).await;
            let page = page.map_err(|error| Failed::of(&error))?;
            found.extend(page.records.iter().map(crate::journal::Record::json));
            before = page.next;
            if found.len() >= limit || before.is_none() {
                break;
            }
        }
        Ok((found, before))
    }

    /// The record of this id; of a call still open, what its intent says.
    ///
    /// # Errors
    /// Where the log cannot be read.
    pub async fn record(&self, id: &str) -> Result<Option<Json>, Failed> {
        let record = self.pipeline.journal.get(id).await.map_err(|error| Failed::of(&error))?;
        Ok(record.map(|record| record.json()))
    }

    /// Begins an export, which is recorded itself.
    ///
    /// # Errors
    /// Where the log can be neither read nor written.
    pub async fn export(&self, actor: &Actor, filter: Filter, csv: bool) -> Result<Export, Failed> {
        let (end, _) = self.pipeline.journal.head().await.map_err(|error| Failed::of(&error))?;
        let mut entry = self.open_act(actor, "audit.export").await?;
        entry.note(if csv { "format csv" } else { "format jsonl" });
        close_act(entry, true).await?;
        Ok(Export { filter, csv, at: Some(0), end, begun: false })
    }
}

impl Export {
    /// The next lines, each with its end; `None` after the last.
    ///
    /// # Errors
    /// Where the log cannot be read.
    pub async fn next(&mut self, gateway: &Gateway) -> Result<Option<String>, Failed> {
        let mut out = String::new();
        if !std::mem::replace(&mut self.begun, true) && self.csv {
            out.push_str(CSV_HEADER);
            out.push('\n');
        }
        while let Some(at) = self.at.filter(|_| out.is_empty()) {
            let page = gateway.pipeline.journal.export(self.filter.clone(), at, STRIDE).await;
            let page = page.map_err(|error| Failed::of(&error))?;
            for record in page.records.iter().filter(|record| record.seq() <= self.end) {
                out.push_str(&record.line(self.csv));
                out.push('\n');
            }
            self.at = page.next.filter(|next| *next < self.end);
        }
        Ok(Some(out).filter(|out| !out.is_empty()))
    }
}
