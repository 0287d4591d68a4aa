//! A person's word on one call.

use std::sync::Arc;

use serde::ser::SerializeStruct;
use serde::{Deserialize, Serialize, Serializer};

use super::clock::Moment;
use super::decision::Judgement;
use super::id::ApprovalId;

/// How far an approval has come.
///
/// `pending` becomes `approved`, `denied` or `expired`; `approved` becomes `executing` or `expired`; `executing` becomes
/// `used` or `unknown`, and `approved` again where nothing was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ApprovalState {
    /// Nobody has decided yet.
    Pending,
    /// The identical call may be made, once.
    Approved,
    Denied,
    Expired,
    /// The call is under way.
    Executing,
    /// The call was made and has ended.
    Used,
    /// The call was under way when it was lost sight of: it may have taken effect.
    Unknown,
}

impl ApprovalState {
    pub const ALL: [Self; 7] =
        [Self::Pending, Self::Approved, Self::Denied, Self::Expired, Self::Executing, Self::Used, Self::Unknown];

    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Approved => "approved",
            Self::Denied => "denied",
            Self::Expired => "expired",
            Self::Executing => "executing",
            Self::Used => "used",
            Self::Unknown => "unknown",
        }
    }

    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == text)
    }
}

/// What a person says of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Decision {
    Approve,
    Deny,
}

/// What a caller is told of the approval that its call waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ticket {
    pub id: ApprovalId,
    /// Where a person decides.
    pub url: String,
    pub expires: Moment,
    /// The roles that may approve; `None` where the scope is enough.
    pub approvers: Option<Vec<Arc<str>>>,
}

impl Serialize for Ticket {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut members = serializer.serialize_struct("Ticket", 5)?;
        members.serialize_field("id", &self.id)?;
        members.serialize_field("state", &ApprovalState::Pending)?;
        members.serialize_field("url", &self.url)?;
        members.serialize_field("approvers", &self.approvers)?;
        members.serialize_field("expires_at", &self.expires.rfc3339())?;
        members.end()
    }
}

/// A call that policy permits once a person has approved it, and where that is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Awaited {
    pub judgement: Judgement,
    pub ticket: Ticket,
}
