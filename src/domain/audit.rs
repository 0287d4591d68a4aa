//! The record of a call.

use std::borrow::Cow;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::tool::Kind;

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
}

impl Entry {
    /// What `tool` names, where it names something.
    #[must_use]
    pub fn kind(&self) -> Option<Kind> {
        self.tool.as_ref().map(|_| self.kind.unwrap_or(Kind::Tool))
    }
}
