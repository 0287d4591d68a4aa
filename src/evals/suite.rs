//! A suite as it is meant.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::path::PathCheck;
use crate::domain::decision::Verdict;

/// The suites by their ids.
pub type Suites = BTreeMap<u64, Arc<Suite>>;

/// Where the backends of a run stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Environment {
    Dev,
    Staging,
    Prod,
}

impl Environment {
    pub const ALL: [Self; 3] = [Self::Dev, Self::Staging, Self::Prod];

    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Dev => "dev",
            Self::Staging => "staging",
            Self::Prod => "prod",
        }
    }

    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|environment| environment.as_str() == text)
    }
}

/// Test cases that are run together.
#[derive(Debug, Clone, PartialEq)]
pub struct Suite {
    pub id: u64,
    pub name: String,
    pub description: Option<String>,
    /// Points that the score may fall below a baseline's before that counts as a regression.
    pub tolerance: f64,
    /// Cases in flight at once.
    pub concurrency: usize,
    /// Of each environment: which server stands in for the one that a case names.
    pub environments: BTreeMap<Environment, BTreeMap<String, String>>,
    pub cases: Vec<Case>,
    /// SHA-256 of the suite's canonical text.
    pub digest: Arc<str>,
}

/// One call, and what should come of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Case {
    /// One name is one case, from run to run.
    pub name: String,
    /// `server:tool`, as any caller may write it.
    pub tool: String,
    /// An object.
    pub arguments: Value,
    /// Its share of the score.
    pub weight: u64,
    pub expect: Expect,
    /// The expectation as it was written, for lists.
    pub written: Value,
}

impl Case {
    /// The case as lists show it.
    #[must_use]
    pub fn view(&self, number: usize) -> Value {
        json!({
            "id": number,
            "name": self.name,
            "tool": self.tool,
            "arguments": self.arguments,
            "weight": self.weight,
            "expect": self.written,
        })
    }

    /// The tool as an environment has it: its server replaced where the environment names another.
    #[must_use]
    pub fn tool_in(&self, servers: Option<&BTreeMap<String, String>>) -> String {
        let other = |(from, to): (&String, &String)| {
            let rest = self.tool.strip_prefix(from.as_str())?;
            let behind = |mark: &str| rest.strip_prefix(mark).map(|tool| format!("{to}:{tool}"));
            [":", "/", "__", "."].into_iter().find_map(behind).map(|tool| (from.len(), tool))
        };
        let found = servers.into_iter().flatten().filter_map(other).max();
        found.map_or_else(|| self.tool.clone(), |(_, tool)| tool)
    }
}

/// What should come of a call. Where nothing is said, it is permitted and gives a result that is no error.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Expect {
    /// What the policies are expected to say.
    pub decision: Option<Verdict>,
    /// One of the policies that determine the decision.
    pub policy: Option<String>,
    pub is_error: Option<bool>,
    /// The result whole.
    pub equals: Option<Value>,
    pub paths: Vec<PathCheck>,
    /// A JSON Schema that the result fits.
    pub schema: Option<Value>,
    pub text_contains: Vec<String>,
    pub max_latency: Option<Duration>,
}
