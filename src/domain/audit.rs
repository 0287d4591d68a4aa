//! The record of a call.

use std::borrow::Cow;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::decision::Verdict;
use super::tool::Kind;

/// The decision as records and answers name it: a verdict, or that none was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    Allow,
    Deny,
    Approval,
    Error,
}

impl Decision {
    pub const ALL: [Self; 4] = [Self::Allow, Self::Deny, Self::Approval, Self::Error];

    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
            Self::Approval => "approval",
            Self::Error => "error",
        }
    }
}

impl From<Verdict> for Decision {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Allow => Self::Allow,
            Verdict::Deny => Self::Deny,
            Verdict::Approval => Self::Approval,
        }
    }
}

/// How the call ended, as the record names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    Answered,
    Refused,
    Failed,
    Cancelled,
    /// The gateway stopped, or gave the call up, before its end was known.
    Interrupted,
}

impl Ending {
    pub const ALL: [Self; 5] = [Self::Answered, Self::Refused, Self::Failed, Self::Cancelled, Self::Interrupted];

    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Refused => "refused",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Interrupted => "interrupted",
        }
    }
}

/// What a committed record survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// The death of the process.
    #[default]
    Process,
    /// The loss of power: every commit reaches the disk.
    Power,
}

impl Durability {
    /// As written in the configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Process => "process",
            Self::Power => "power",
        }
    }

    /// As written in the configuration.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Process, Self::Power].into_iter().find(|durability| durability.as_str() == text)
    }
}

/// What of the arguments is recorded, beside their digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ArgumentsMode {
    /// The structure, member names, short numbers and booleans; every string is replaced by its length.
    #[default]
    Redacted,
    /// Nothing.
    Absent,
    /// Everything as it came, but for the secrets that a scan finds.
    Plain,
}

impl ArgumentsMode {
    /// As written in the configuration.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "redacted" => Some(Self::Redacted),
            "absent" => Some(Self::Absent),
            "plain" => Some(Self::Plain),
            _ => None,
        }
    }
}

/// Which link of a call's record an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Committed before the backend is contacted, for tools that are not read-only.
    Intent,
    /// Committed before the answer leaves.
    Outcome,
}

impl Phase {
    /// As written in the log.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Intent => "intent",
            Self::Outcome => "outcome",
        }
    }
}

/// One entry of the audit log, as it is hashed and exported. Field order is the order in the hashed text.
///
/// A tool that is not read-only has two entries with the same `id`, the intent and the outcome;
/// everything else has the outcome alone. Its texts are shared with whoever knew them before.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    pub id: Arc<str>,
    pub phase: Phase,
    /// RFC 3339, UTC, milliseconds.
    pub time: String,
    pub request_id: Arc<str>,
    /// `mcp`, `rest` or `cli`.
    pub entrance: Cow<'static, str>,
    pub key: Option<Arc<str>>,
    pub user: Option<Arc<str>>,
    pub agent: Option<Arc<str>>,
    pub server: Option<Arc<str>>,
    /// Its name; of a prompt the name, of a resource the URI.
    pub tool: Option<Arc<str>>,
    /// What `tool` names. Entries from before there was anything but tools have none: they are of tools.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<Kind>,
    /// `allow`, `deny`, `approval` or `error`.
    pub decision: Cow<'static, str>,
    /// `answered`, `refused`, `failed`, `cancelled`, `interrupted`; absent in an intent.
    pub outcome: Option<Cow<'static, str>>,
    pub policies: Vec<Arc<str>>,
    pub policy_version: Arc<str>,
    pub reason: Option<Arc<str>>,
    pub dlp_result: Cow<'static, str>,
    pub latency_ms: Option<f64>,
    /// `sha256:` and the digest of the canonical arguments.
    pub arguments_digest: Option<String>,
    /// Redacted as configured, or absent.
    pub arguments: Option<Arc<Value>>,
    /// Policies in shadow mode that would have decided otherwise, and other facts worth keeping.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// In one word for programs, why there was no answer, or `tool_error` where the answer says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<Cow<'static, str>>,
    /// Of a refusal: what refused, as the caller was told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<Arc<str>>,
    /// The record of the call that made this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<Arc<str>>,
    /// `legacy` or `modern`, of a client that speaks MCP as a host does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub era: Option<Cow<'static, str>>,
    /// The W3C trace that the call belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<String>,
    /// The gateway's own span in it, where it makes spans.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub span_id: Option<String>,
    /// What became of it at the backend, where it was sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend: Option<Sent>,
}

/// What became of a call at its backend.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sent {
    /// `stdio`, `http`, `sse` or `ws`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transport: Option<Cow<'static, str>>,
    /// The backend's era.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub era: Option<Cow<'static, str>>,
    pub attempts: Vec<Try>,
}

impl Sent {
    /// How each attempt ended, in their order.
    #[must_use]
    pub fn ended(&self) -> String {
        self.attempts.iter().map(|attempt| &*attempt.ended).collect::<Vec<_>>().join("; ")
    }
}

/// One attempt at a backend.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Try {
    /// After the beginning of the call.
    pub at_ms: f64,
    /// Absent where nobody waited for its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency_ms: Option<f64>,
    /// `ok`, `rpc_error`, `unfinished`, or the word for a fault.
    pub ended: Cow<'static, str>,
    /// Why there was one before: `retry` or `input`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub again: Option<Cow<'static, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub span_id: Option<String>,
}

/// The note on an answer that says of itself that it is an error.
pub const TOOL_ERROR: &str = "the tool reported an error";
/// The note on an answer that came from the response cache.
pub const CACHED: &str = "served from the cache";

impl Entry {
    /// Whether the answer came from the response cache.
    #[must_use]
    pub fn is_cached(&self) -> bool {
        self.notes.iter().any(|note| note == CACHED)
    }

    /// Whether the backend failed, or the tool said that it did.
    #[must_use]
    pub fn is_error(&self) -> bool {
        self.outcome.as_deref() == Some("failed") || self.notes.iter().any(|note| note == TOOL_ERROR)
    }

    /// What `tool` names, where it names something.
    #[must_use]
    pub fn kind(&self) -> Option<Kind> {
        self.tool.as_ref().map(|_| self.kind.unwrap_or(Kind::Tool))
    }
}
