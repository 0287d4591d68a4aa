//! Floor 4: what the company knows, as somebody may see it. Imports rows, answers queries.
//!
//! A [`Query`] is answered in one reading of the store. Its words, filters and keys only choose *where* to look; each
//! entity found there is compared again, with nothing but the fields that its [`Sight`] shows. So an index may be coarse,
//! a hidden field cannot be found by what it holds, and no text of a query is ever syntax of anything.

mod answer;
mod cursor;
mod demo;
mod filter;
mod find;
mod join;
mod query;
mod rank;
mod rows;
mod sum;
#[cfg(test)]
mod tests;
mod view;

use std::time::Duration;

pub use self::answer::Answered;
pub use self::demo::demo;
pub use self::query::{Aggregate, JoinTo, MAX_CONDITIONS, MAX_JOINED, MAX_LIMIT, MAX_QUERY, Query, run};
pub use self::rows::{DEFAULT_KEY, Format, Row, Rows, RowsOptions, entity_of, relation};
pub use self::view::{Everything, Sight, types};
pub use crate::store::brain::{Brain, Entity, READINGS_OF_KEY, Relation, Unwritten, Written, is_type_name};

use crate::store::StoreError;
use crate::store::brain::Unread;

/// How long a query may take.
pub const QUERY_TIME: Duration = Duration::from_secs(2);

/// Why a query has no answer.
#[derive(Debug, Clone, thiserror::Error)]
pub enum QueryError {
    /// It asks for what is not there: a sentence for who asked.
    #[error("{0}")]
    Invalid(String),
    #[error(
        "the query took longer than {} s and was stopped: ask for one `entity_type`, for rarer words, or filter by a value",
        QUERY_TIME.as_secs()
    )]
    TooLong,
    #[error("too many queries wait: try again in a moment")]
    Busy,
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl QueryError {
    fn invalid(message: impl Into<String>) -> Self {
        Self::Invalid(message.into())
    }
}

impl From<Unread> for QueryError {
    fn from(unread: Unread) -> Self {
        match unread {
            Unread::TooLong => Self::TooLong,
            Unread::Busy => Self::Busy,
            Unread::Store(error) => Self::Store(error),
        }
    }
}
