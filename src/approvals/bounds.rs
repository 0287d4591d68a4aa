//! How much may wait for people, and what is said where that is too much.

use super::{Undecided, Word};
use crate::store::{ApprovalBound, ApprovalLimits};

/// What is kept: neither a key nor a user with many may fill the desk of those who approve, nor wear them down.
pub(super) const LIMITS: ApprovalLimits =
    ApprovalLimits { of_key: 32, of_user: 64, pending: 1000, refused: 3, kept: 5000 };
/// Longest comment, in characters.
pub(super) const MAX_COMMENT: usize = 1000;
/// Seconds after which there may be room for one more request.
const TRY_AGAIN: u64 = 60;

/// That there is no room for one more request.
pub(super) fn full(bound: ApprovalBound, millis: Option<i64>) -> Word {
    let (scope, limit) = match bound {
        ApprovalBound::Key => ("the approvals that this key waits for", LIMITS.of_key.to_string()),
        ApprovalBound::User => ("the approvals that this user waits for", LIMITS.of_user.to_string()),
        ApprovalBound::All => ("the approvals that wait", LIMITS.pending.to_string()),
        ApprovalBound::Kept => ("the approvals that are kept", LIMITS.kept.to_string()),
        ApprovalBound::Refused => {
            ("the new approvals of a user whose calls were refused of late", "one a minute".into())
        }
    };
    let seconds = millis.and_then(|millis| u64::try_from(millis).ok()).map(|millis| millis.div_ceil(1000));
    Word::Full { scope, limit, retry_after: seconds.unwrap_or(TRY_AGAIN) }
}

/// A comment as it is kept.
///
/// # Errors
/// Where it is too long, or would be more than text.
pub fn checked(comment: Option<String>) -> Result<Option<String>, Undecided> {
    let comment = comment.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
    let odd = |text: &String| text.chars().count() > MAX_COMMENT || text.chars().any(|c| c.is_control() && c != '\n');
    if comment.as_ref().is_some_and(odd) { Err(Undecided::Comment) } else { Ok(comment) }
}
