//! Where the next page begins. A cursor names the last entity of a page by its rank and number, so what is written
//! meanwhile moves nothing; it fits only the query that gave it.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use super::QueryError;

/// The place of the last entity shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Place {
    /// Among the ranked.
    #[serde(rename = "r")]
    Ranked(u32, i64),
    /// In the order of numbers.
    #[serde(rename = "n")]
    Numbered(i64),
}

/// A place in the answers of one query, and how many there were.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Cursor {
    #[serde(rename = "q")]
    pub(super) query: String,
    #[serde(rename = "p")]
    pub(super) place: Place,
    #[serde(rename = "t")]
    pub(super) total: u64,
    #[serde(rename = "x")]
    pub(super) exact: bool,
    /// Whether entities with any of the words are meant.
    #[serde(rename = "a")]
    pub(super) any: bool,
}

impl Cursor {
    pub(super) fn text(&self) -> String {
        URL_SAFE_NO_PAD.encode(serde_json::to_vec(self).unwrap_or_default())
    }

    /// The cursor that a caller brings back to the query with this digest.
    pub(super) fn read(text: &str, query: &str) -> Result<Self, QueryError> {
        let bytes = (text.len() < 512).then(|| URL_SAFE_NO_PAD.decode(text).ok()).flatten();
        let cursor: Option<Self> = bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        cursor.filter(|cursor| cursor.query == query).ok_or_else(|| {
            QueryError::invalid("`cursor` is of another query: repeat that query with it, or begin without")
        })
    }
}
