//! What the demo knows: made-up customers of a made-up company, with their invoices and tickets.

use super::Entity;
use super::rows::{Format, Rows, RowsOptions};

const ROWS: &str = include_str!("demo.jsonl");

/// The demo's entities.
#[must_use]
pub fn demo() -> Vec<Entity> {
    let rows = Rows::new(ROWS.as_bytes(), Format::Jsonl, RowsOptions::default());
    rows.into_iter().flatten().filter_map(|row| row.entity.ok()).collect()
}
