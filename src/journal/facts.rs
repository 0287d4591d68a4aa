//! What is known of a call, in the words of its entry.

use std::borrow::Cow;
use std::sync::Arc;

use crate::domain::audit::{Decision, Entry, Try};
use crate::domain::call::{CallRequest, Entrance, ToolRef};
use crate::domain::decision::{Judgement, Mode, PolicyEffect};
use crate::domain::id::{EventId, KeyId, RequestId};
use crate::domain::json::Json;
use crate::domain::outcome::UpstreamFault;
use crate::domain::principal::Principal;
use crate::domain::trace::Attempt;

/// Characters kept of a text that the caller or a backend chose.
const TEXT_CHARS: usize = 512;

/// What is known when a call begins.
#[derive(Debug)]
pub struct Opening {
    /// The id of the record.
    pub id: EventId,
    pub request_id: RequestId,
    pub entrance: Entrance,
    pub key: Option<KeyId>,
    pub user: Option<Arc<str>>,
    pub agent: Option<Arc<str>>,
    /// As the caller names it; `OpenEntry::resolved` replaces it.
    pub tool: Option<ToolRef>,
    pub arguments: Option<Json>,
}

impl Opening {
    /// What a request and its principal say.
    #[must_use]
    pub fn of(request: &CallRequest, principal: &Principal) -> Self {
        Self {
            id: request.event.clone(),
            request_id: request.id.clone(),
            entrance: request.entrance,
            key: Some(principal.key.clone()),
            user: Some(Arc::clone(&principal.user)),
            agent: Some(Arc::clone(&principal.agent)),
            tool: Some(request.tool.clone()),
            arguments: request.arguments.clone(),
        }
    }
}

/// A failure of a backend in one word.
pub(super) const fn failure(fault: &UpstreamFault) -> &'static str {
    match fault {
        UpstreamFault::Rpc(_) => "rpc_error",
        other => other.code(),
    }
}

/// One attempt as the record has it.
pub(super) fn tried(attempt: &Attempt, started: u64) -> Try {
    Try {
        at_ms: millis(attempt.began.saturating_sub(started)),
        latency_ms: attempt.ended.map(|ended| millis(ended.saturating_sub(attempt.began))),
        ended: attempt.ending.into(),
        again: attempt.again.map(Cow::Borrowed),
        span_id: attempt.span.map(|span| span.span_id()),
    }
}

/// What was decided, and by which rules.
pub(super) fn judge(entry: &mut Entry, judgement: &Judgement) {
    let rules = |mode| judgement.rules.iter().filter(move |rule| rule.mode == mode);
    entry.decision = Decision::from(judgement.verdict).as_str().into();
    entry.policies = rules(Mode::Enforce).map(|rule| Arc::clone(&rule.id)).collect();
    entry.policy_version = Arc::clone(&judgement.policy_version);
    entry.reason = match bounded(&judgement.reason) {
        _ if judgement.reason.is_empty() => None,
        Cow::Borrowed(_) => Some(Arc::clone(&judgement.reason)),
        Cow::Owned(cut) => Some(cut.into()),
    };
    for rule in rules(Mode::Shadow) {
        let would = match rule.effect {
            PolicyEffect::Forbid => "forbid",
            PolicyEffect::Permit => "permit",
        };
        entry.notes.push(format!("shadow: `{}` would {would}", rule.id));
    }
    if !judgement.effects.is_empty() {
        entry.notes.push(format!("effects: {}", judgement.effects.join(", ")));
    }
}

/// A text that somebody else chose, cut to a length that a record can bear.
pub(super) fn bounded(text: &str) -> Cow<'_, str> {
    if text.len() <= TEXT_CHARS {
        return Cow::Borrowed(text);
    }
    match text.char_indices().nth(TEXT_CHARS) {
        Some((end, _)) => Cow::Owned(format!("{}…", text.get(..end).unwrap_or_default())),
        None => Cow::Borrowed(text),
    }
}

#[expect(clippy::cast_precision_loss, reason = "a latency of 2^53 µs is 285 years")]
pub(super) fn millis(micros: u64) -> f64 {
    micros as f64 / 1000.0
}
