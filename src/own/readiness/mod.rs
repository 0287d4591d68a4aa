//! `governance.readiness`: whether the running gateway is governed as it should be. Each check says what it looked at,
//! what it found, by name and in bounds, and what to do.

mod keys;
mod policies;
mod running;
mod servers;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use serde::Serialize;
use serde_json::{Value, json};

use super::Description;
use crate::authn::Keyring;
use crate::backend::Catalog;
use crate::domain::outcome::{Answer, Refusal};
use crate::domain::principal::Scope;
use crate::domain::tool::Hints;
use crate::journal::Review;
use crate::pipeline::{OwnTool, Pipeline, State, own_answer};

pub(super) const NAME: &str = "governance.readiness";
/// Things that a check names; the others are counted.
const NAMED: usize = 20;

pub(super) fn tool() -> OwnTool {
    Description {
        name: NAME,
        title: NAME,
        description: "Check how well this gateway is governed: policies, keys, servers, limits, audit log. Each check \
                      passes, warns or fails, with evidence and a remedy.",
        scope: Scope::GovernanceRead,
        hints: Hints { read_only: Some(true), open_world: Some(false), ..Hints::default() },
        input_schema: json!({"type": "object", "properties": {}, "additionalProperties": false}),
    }
    .into_tool()
}

/// What no settings say: how this process came to be, where it can be reached, and what holds in it at this moment.
#[derive(Debug, Default)]
pub struct Surroundings {
    /// The tools that were known before any server was asked, by label, with their digests.
    known: HashMap<Arc<str>, Arc<str>>,
    listening: OnceLock<(SocketAddr, bool)>,
    present: OnceLock<Arc<ArcSwap<State>>>,
}

impl Surroundings {
    /// `catalog` is what the last run has left.
    #[must_use]
    pub fn new(catalog: &Catalog) -> Self {
        let tools = catalog.entries().iter().map(|entry| entry.tool());
        let known = tools.map(|tool| (Arc::clone(&tool.label), Arc::clone(&tool.digest))).collect();
        Self { known, ..Self::default() }
    }

    /// Notes where the gateway listens, and whether it speaks TLS there. What was noted first stays.
    pub fn listens(&self, address: SocketAddr, tls: bool) {
        self.listening.get_or_init(|| (address, tls));
    }

    /// Notes where the state of each moment is found. What was noted first stays.
    pub fn follows(&self, state: &Arc<ArcSwap<State>>) {
        self.present.get_or_init(|| Arc::clone(state));
    }

    /// What a call sees that comes now; `then` is what an earlier one saw.
    pub(super) fn present(&self, then: &Arc<State>) -> Arc<State> {
        self.present.get().map_or_else(|| Arc::clone(then), |state| state.load_full())
    }
}

/// How a check ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
enum Status {
    Pass,
    Warn,
    Fail,
}

impl Status {
    const ALL: [Self; 3] = [Self::Pass, Self::Warn, Self::Fail];

    /// The one where `wrong`, else a pass.
    const fn unless(wrong: bool, status: Self) -> Self {
        if wrong { status } else { Self::Pass }
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }
}

/// One check.
#[derive(Debug, Serialize)]
struct Check {
    id: &'static str,
    title: &'static str,
    status: Status,
    evidence: Value,
    /// What to do where it does not pass.
    remedy: &'static str,
}

/// All that checks look at.
struct View<'a> {
    pipeline: &'a Pipeline,
    state: &'a State,
    keys: &'a Keyring,
    surroundings: &'a Surroundings,
}

pub(super) async fn run(
    pipeline: &Pipeline,
    state: &Arc<State>,
    keys: &Keyring,
    surroundings: &Surroundings,
) -> Result<Answer, Refusal> {
    let view = View { pipeline, state, keys, surroundings };
    // A log that cannot be read says nothing of policies; the check of the log itself fails then.
    let review = pipeline.journal.review().await.unwrap_or_default();
    let checks = view.checks(&review).await;
    let worst = checks.iter().map(|check| check.status).max().unwrap_or(Status::Pass);
    let count = |status: Status| checks.iter().filter(|check| check.status == status).count();
    let counts = Status::ALL.map(|status| (status.as_str().to_owned(), json!(count(status))));
    let report = json!({
        "status": worst,
        "counts": Value::Object(counts.into_iter().collect()),
        "window": {"records": review.records, "since": review.since},
        "checks": checks,
    });
    Ok(own_answer(&summary(&checks), &report))
}

impl View<'_> {
    /// Every check, always in this order.
    async fn checks(&self, review: &Review) -> Vec<Check> {
        vec![
            self.tools_without_policy(),
            self.destructive_without_approval(),
            self.policies_never_matched(review),
            self.shadow_policies(review),
            self.keys_unused(),
            self.keys_without_expiry(),
            self.keys_too_wide(),
            self.limits(),
            self.tools_changed(),
            self.backend_tls(),
            self.backend_auth(),
            self.dlp(),
            self.audit_chain().await,
            self.listening(),
        ]
    }
}

/// A list in bounds: how many there are, the first of them, and how many are left out.
fn bounded<T: Serialize>(items: &[T]) -> Value {
    let named: Vec<&T> = items.iter().take(NAMED).collect();
    json!({"count": items.len(), "items": named, "more": items.len().saturating_sub(NAMED)})
}

/// A line for each check, and the remedies of those that do not pass.
fn summary(checks: &[Check]) -> String {
    let line = |check: &Check| {
        let remedy = if check.status == Status::Pass { "" } else { check.remedy };
        let told = if remedy.is_empty() { String::new() } else { format!(": {remedy}") };
        format!("{} {} ({}){told}", check.status.as_str(), check.title, check.id)
    };
    checks.iter().map(line).collect::<Vec<_>>().join("\n")
}
