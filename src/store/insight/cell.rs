//! One entry of the log as it is counted, and counts.

use std::borrow::Cow;

use serde::Deserialize;

use crate::domain::audit::{CACHED, TOOL_ERROR};
use crate::domain::sketch::Sketch;

/// Stands where a call named nothing that exists: callers choose such names, and there is no end of them.
pub(super) const NOTHING: &str = "";

/// What is counted apart.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Place {
    pub server: String,
    pub tool: String,
    pub key: String,
    pub decision: String,
    pub rule: String,
}

/// Calls, and what became of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    pub calls: u64,
    /// The backend failed, or the tool said that it did.
    pub errors: u64,
    /// The gateway said no.
    pub refused: u64,
    /// Of these, because a limit was reached.
    pub limited: u64,
    pub cancelled: u64,
    /// Answered from the response cache.
    pub cached: u64,
    /// Of calls that were answered or failed.
    pub latencies: Sketch,
}

impl Counts {
    /// Adds what another holds.
    pub fn add(&mut self, other: &Self) {
        let Self { calls, errors, refused, limited, cancelled, cached, latencies } = other;
        self.calls = self.calls.saturating_add(*calls);
        self.errors = self.errors.saturating_add(*errors);
        self.refused = self.refused.saturating_add(*refused);
        self.limited = self.limited.saturating_add(*limited);
        self.cancelled = self.cancelled.saturating_add(*cancelled);
        self.cached = self.cached.saturating_add(*cached);
        self.latencies.merge(latencies);
    }
}

/// Of an entry's text, what is counted.
#[derive(Debug, Deserialize)]
pub(super) struct Counted<'a> {
    #[serde(borrow)]
    key: Option<Cow<'a, str>>,
    #[serde(borrow)]
    server: Option<Cow<'a, str>>,
    #[serde(borrow)]
    tool: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    kind: Option<Cow<'a, str>>,
    #[serde(borrow)]
    decision: Cow<'a, str>,
    #[serde(borrow, default)]
    outcome: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    policies: Vec<Cow<'a, str>>,
    #[serde(default)]
    latency_ms: Option<f64>,
    #[serde(borrow, default)]
    notes: Vec<Cow<'a, str>>,
    #[serde(borrow, default)]
    code: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    rule: Option<Cow<'a, str>>,
}

impl<'a> Counted<'a> {
    /// What the entry says, where it is of a call by somebody known.
    pub(super) fn read(text: &'a str) -> Option<Self> {
        serde_json::from_str(text).ok().filter(|counted: &Self| counted.key.is_some())
    }

    pub(super) fn place(&self) -> Place {
        let text = |text: &Option<Cow<'_, str>>| text.as_deref().unwrap_or(NOTHING).to_owned();
        let refused = self.outcome.as_deref() == Some("refused");
        let named = match self.code.as_deref() {
            Some("unknown_tool" | "unknown_prompt" | "unknown_resource" | "ambiguous_tool" | "invalid_request") => {
                false
            }
            Some(_) => true,
            None => !refused || !self.policies.is_empty(),
        };
        let tool = match self.kind.as_deref() {
            _ if !named => String::new(),
            // Their names are the clients' to make up, too.
            Some("prompt") => "(prompts)".into(),
            Some("resource") => "(resources)".into(),
            _ => text(&self.tool),
        };
        let first = || self.policies.first().map(|policy| Cow::Borrowed(&**policy));
        let rule = match (&self.rule, &self.code) {
            _ if !refused => None,
            (Some(rule), _) => Some(Cow::Borrowed(&**rule)),
            (None, Some(code)) => Some(Cow::Borrowed(&**code)),
            (None, None) => first(),
        };
        let server = if named { text(&self.server) } else { String::new() };
        let (key, decision) = (text(&self.key), self.decision.clone().into_owned());
        Place { server, tool, key, decision, rule: rule.unwrap_or_default().into_owned() }
    }

    /// Counts the entry.
    pub(super) fn count(&self, counts: &mut Counts) {
        let noted = |note: &str| self.notes.iter().any(|other| other == note);
        let is = |word: &str| self.outcome.as_deref() == Some(word);
        counts.calls += 1;
        counts.errors += u64::from(is("failed") || noted(TOOL_ERROR));
        counts.refused += u64::from(is("refused"));
        counts.limited += u64::from(self.code.as_deref() == Some("rate_limited"));
        counts.cancelled += u64::from(is("cancelled") || is("interrupted"));
        counts.cached += u64::from(noted(CACHED));
        if let Some(millis) = self.latency_ms.filter(|_| is("answered") || is("failed")) {
            counts.latencies.record(micros(millis));
        }
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a float is cut to the range")]
fn micros(millis: f64) -> u64 {
    (millis * 1000.0).round() as u64
}
