//! What is done about secrets and personal data in what travels.

use std::fmt;

use serde::Serialize;

/// Which way something travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// To a backend.
    Arguments,
    /// From a backend: results, and the errors that stand for them.
    Results,
}

impl Direction {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Arguments => "arguments",
            Self::Results => "results",
        }
    }
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What is done about a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum DlpMode {
    /// Nothing is scanned.
    Off,
    /// It is noted, and travels.
    #[default]
    Observe,
    /// It is replaced, and the rest travels.
    Redact,
    /// Nothing travels.
    Block,
}

impl DlpMode {
    /// As written in the configuration.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "off" => Some(Self::Off),
            "observe" => Some(Self::Observe),
            "redact" => Some(Self::Redact),
            "block" => Some(Self::Block),
            _ => None,
        }
    }
}

/// What is done, by direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct DlpModes {
    pub arguments: DlpMode,
    pub results: DlpMode,
}

/// What was done, over both directions: the gravest counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DlpResult {
    #[default]
    Off,
    Passed,
    Flagged,
    Redacted,
    Blocked,
}

impl DlpResult {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Passed => "passed",
            Self::Flagged => "flagged",
            Self::Redacted => "redacted",
            Self::Blocked => "blocked",
        }
    }
}
