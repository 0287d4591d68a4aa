//! Counts of calls and decisions. Handles are kept: making one for each call would cost more than counting.

use std::collections::HashMap;

use arc_swap::ArcSwap;
use metrics::{Counter, counter};

use crate::domain::id::ServerName;
use crate::domain::outcome::{Carried, Outcome};
use crate::domain::tool::Kind;

const OUTCOMES: [&str; 5] = ["answered", "tool_error", "refused", "failed", "cancelled"];
const DECISIONS: [&str; 4] = ["allow", "deny", "approval", "error"];

/// What was called, and at which server; none where nothing was found.
type Target = (Kind, Option<ServerName>);
type ByOutcome = [Counter; OUTCOMES.len()];

/// The counters of finished calls.
pub struct Tallies {
    calls: ArcSwap<HashMap<Target, ByOutcome>>,
    decisions: [Counter; DECISIONS.len()],
}

impl std::fmt::Debug for Tallies {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tallies")
    }
}

impl Default for Tallies {
    /// Made after the recorder is in place.
    fn default() -> Self {
        Self {
            calls: ArcSwap::default(),
            decisions: DECISIONS.map(|effect| counter!("toolgate_policy_decisions_total", "effect" => effect)),
        }
    }
}

impl Tallies {
    /// Counts a finished call.
    pub(super) fn count(&self, carried: &Carried) {
        let outcome = match &carried.outcome {
            Outcome::Answered(answer) if answer.is_error => "tool_error",
            Outcome::Answered(_) => "answered",
            Outcome::Refused(_) => "refused",
            Outcome::Failed(_) => "failed",
            Outcome::Cancelled => "cancelled",
        };
        let target = (carried.kind, carried.tool.as_ref().map(|tool| tool.id.server.clone()));
        match self.calls.load().get(&target) {
            Some(counters) => add(&OUTCOMES, counters, outcome),
            None => {
                let counters = by_outcome(&target);
                add(&OUTCOMES, &counters, outcome);
                self.calls.rcu(|calls| {
                    let mut calls = HashMap::clone(calls);
                    calls.insert(target.clone(), counters.clone());
                    calls
                });
            }
        }
        add(&DECISIONS, &self.decisions, carried.governance.decision);
    }
}

fn by_outcome((kind, server): &Target) -> ByOutcome {
    let server = server.as_ref().map_or_else(|| "none".to_owned(), ToString::to_string);
    OUTCOMES.map(|outcome| {
        counter!("toolgate_tool_calls_total", "kind" => kind.as_str(), "server" => server.clone(), "outcome" => outcome)
    })
}

fn add(words: &[&str], counters: &[Counter], word: &str) {
    if let Some((_, counter)) = words.iter().zip(counters).find(|(one, _)| **one == word) {
        counter.increment(1);
    }
}
