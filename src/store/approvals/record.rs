//! An approval as a row.

use std::sync::Arc;

use rusqlite::Row;
use rusqlite::types::Type;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use zeroize::Zeroizing;

use crate::domain::approval::ApprovalState;
use crate::domain::clock::Moment;
use crate::domain::id::{ApprovalId, EventId, KeyId};
use crate::domain::principal::Subject;
use crate::domain::tool::Kind;

/// What is known of a request from its beginning, and never changes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ApprovalFacts {
    /// The name of the key.
    pub name: Arc<str>,
    pub agent: Arc<str>,
    /// Whom the token names that the call brought, where its server asks for one.
    pub subject: Option<Subject>,
    /// `server:tool`, or the like of a prompt or a resource.
    pub tool: Arc<str>,
    pub kind: Kind,
    pub tool_digest: Arc<str>,
    pub arguments_digest: String,
    /// Of what the client sent beside the arguments, where that was something: its `_meta`, and all else.
    pub meta_digest: Option<String>,
    pub beside_digest: Option<String>,
    /// The arguments as a log may hold them.
    pub preview: Option<Value>,
    pub policy: String,
    pub policy_version: Arc<str>,
    pub reason: Arc<str>,
    /// The roles that may approve; `None` where the scope is enough.
    pub approvers: Option<Vec<Arc<str>>>,
    pub effects: Vec<String>,
    /// The audit record of the call that asked first.
    pub event: EventId,
    /// An earlier approval of the same call of which nobody knows whether it took effect.
    pub earlier: Option<ApprovalId>,
}

/// Who decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decided {
    pub at: Moment,
    pub key: KeyId,
    pub user: Arc<str>,
    pub comment: Option<String>,
}

/// The call that an approval let go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Used {
    pub at: Moment,
    /// Its audit record.
    pub event: EventId,
    /// When it ended, and how.
    pub ended: Option<(Moment, String)>,
}

/// One approval.
#[derive(Debug, Clone, PartialEq)]
pub struct ApprovalRecord {
    pub id: ApprovalId,
    pub state: ApprovalState,
    pub key: KeyId,
    pub user: Arc<str>,
    pub created: Moment,
    pub expires: Moment,
    pub facts: ApprovalFacts,
    pub decided: Option<Decided>,
    pub used: Option<Used>,
}

/// A call that waits for a person.
#[derive(Debug)]
pub struct NewApproval {
    /// Digest of everything that makes it this very call.
    pub call: String,
    pub key: KeyId,
    pub user: Arc<str>,
    /// The canonical arguments, followed by what the client sent beside them: to be sealed.
    pub kept: Zeroizing<Vec<u8>>,
    pub facts: ApprovalFacts,
    pub now: Moment,
    pub expires: Moment,
}

/// How much is kept.
#[derive(Debug, Clone, Copy)]
pub struct ApprovalLimits {
    /// Pending ones of a key, of a user with all their keys, and of all.
    pub of_key: usize,
    pub of_user: usize,
    pub pending: usize,
    /// A user whose calls were refused so often within [`ApprovalLimits::REMEMBERED`] asks anew once in
    /// [`ApprovalLimits::PAUSE`].
    pub refused: usize,
    /// All together; the oldest that are over make room.
    pub kept: usize,
}

impl ApprovalLimits {
    /// How long a refusal counts against its user, and how often who had too many asks anew. Milliseconds.
    pub const REMEMBERED: i64 = 3_600_000;
    pub const PAUSE: i64 = 60_000;
}

/// Which bound is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ApprovalBound {
    /// Requests that wait: of the key, of the user, of all.
    Key,
    User,
    All,
    /// Approvals that are kept, none of which may be forgotten yet.
    Kept,
    /// The user's calls were refused too often of late.
    Refused,
}

/// What came of asking for a call.
#[derive(Debug)]
pub enum Asked {
    /// It was approved, and is under way from now on under this id; whether with another `_meta` than was approved.
    Taken { id: ApprovalId, other_meta: bool },
    /// Somebody has to decide; true where the request is new.
    Waits(Box<ApprovalRecord>, bool),
    /// Somebody has refused it.
    Denied(Box<ApprovalRecord>),
    /// Not now: a bound is reached, and there may be room after so many milliseconds, where that is known.
    Full(ApprovalBound, Option<i64>),
}

/// Which ones a list shows.
#[derive(Debug, Clone, Default)]
pub struct ApprovalFilter {
    pub state: Option<ApprovalState>,
    /// Whose calls.
    pub user: Option<Arc<str>>,
    /// Those before this one.
    pub before: Option<ApprovalId>,
}

/// Reads a row whose state as it is now stands in `state_now`.
pub(super) fn record(row: &Row<'_>) -> rusqlite::Result<ApprovalRecord> {
    let text = |column: &str| row.get::<_, String>(column);
    let moment = |column: &str| Ok::<_, rusqlite::Error>(row.get::<_, Option<i64>>(column)?.map(Moment));
    let unreadable = |error: Box<dyn std::error::Error + Send + Sync>| {
        rusqlite::Error::FromSqlConversionFailure(0, Type::Text, error)
    };
    let state = text("state_now")?;
    let state = ApprovalState::parse(&state).ok_or_else(|| unreadable(format!("the state `{state}`").into()))?;
    let decided = match moment("decided")? {
        None => None,
        Some(at) => Some(Decided {
            at,
            key: KeyId::from(text("decided_key")?.as_str()),
            user: text("decided_user")?.into(),
            comment: row.get("comment")?,
        }),
    };
    let used = match moment("used")? {
        None => None,
        Some(at) => {
            let ended = moment("finished")?.zip(row.get::<_, Option<String>>("outcome")?);
            Some(Used { at, event: EventId::from(text("used_event")?.as_str()), ended })
        }
    };
    Ok(ApprovalRecord {
        id: ApprovalId::from(text("id")?.as_str()),
        state,
        key: KeyId::from(text("key")?.as_str()),
        user: text("user")?.into(),
        created: Moment(row.get("created")?),
        expires: Moment(row.get("expires")?),
        facts: serde_json::from_str(&text("facts")?).map_err(|error| unreadable(error.into()))?,
        decided,
        used,
    })
}
