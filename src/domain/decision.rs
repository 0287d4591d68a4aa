//! What was decided, and by which policies.

use std::sync::Arc;

use serde::Serialize;

/// The three answers that a policy gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    Allow,
    Deny,
    Approval,
}

impl Verdict {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
            Self::Approval => "approval",
        }
    }

    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Allow, Self::Deny, Self::Approval].into_iter().find(|verdict| verdict.as_str() == text)
    }
}

/// What a policy does where it matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PolicyEffect {
    Forbid,
    Permit,
}

/// Whether a policy is enforced or only watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    Enforce,
    Shadow,
}

/// A policy, or another named rule (`profile:NAME`, `roles:TOOL`, `scope:NAME`), that had a part in a decision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RuleMark {
    pub id: Arc<str>,
    /// The file it stands in, where it stands in one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<Arc<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Arc<str>>,
    pub effect: PolicyEffect,
    pub mode: Mode,
}

impl RuleMark {
    /// A rule that stands in no policy file.
    #[must_use]
    pub fn built_in(id: impl Into<Arc<str>>, effect: PolicyEffect, reason: Option<&str>) -> Self {
        Self { id: id.into(), file: None, line: None, reason: reason.map(Into::into), effect, mode: Mode::Enforce }
    }
}

/// A verdict with its reasons. The same value feeds enforcement, simulation, the record and the answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judgement {
    pub verdict: Verdict,
    /// The determining rules: forbids before permits, then file order; enforced before shadow.
    pub rules: Vec<RuleMark>,
    /// Shown to the caller, and what to do next.
    pub reason: Arc<str>,
    /// Stable word where the deny is no policy's: `unknown_tool`, `policy_error`, `default_deny`.
    pub code: Option<&'static str>,
    /// What the arguments were recognised to do, sorted.
    pub effects: Arc<[&'static str]>,
    /// Names the bundle that judged.
    pub policy_version: Arc<str>,
    /// What the verdict would have been with the shadow policies enforced, where that is another.
    pub shadow: Option<Verdict>,
}

impl Judgement {
    /// The first determining id, `default-deny` where nothing permits.
    #[must_use]
    pub fn policy(&self) -> &str {
        self.rules.iter().find(|rule| rule.mode == Mode::Enforce).map_or("default-deny", |rule| &rule.id)
    }
}
