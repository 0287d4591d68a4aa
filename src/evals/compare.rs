//! A run against an earlier one.

use std::collections::HashMap;

use serde::Serialize;

use super::run::Run;

/// Which earlier run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Baseline {
    /// The run that was published last.
    Published,
    /// The run before.
    Previous,
    /// The last run in the environment `prod` before this one.
    Production,
}

impl Baseline {
    pub const ALL: [Self; 3] = [Self::Published, Self::Previous, Self::Production];

    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Published => "published",
            Self::Previous => "previous",
            Self::Production => "production",
        }
    }

    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|baseline| baseline.as_str() == text)
    }
}

/// How a case stands against the baseline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It passed then and fails now.
    NewlyFailing,
    /// It failed then and passes now.
    Fixed,
    /// It fails, and there was no such case then.
    NewFailing,
    /// It fails now as it did then.
    StillFailing,
}

/// What has changed.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison {
    pub regression: bool,
    /// The cases of which there is something to say, in the suite's order.
    pub cases: Vec<(String, Verdict)>,
}

impl Comparison {
    /// The cases with this verdict.
    #[must_use]
    pub fn with(&self, verdict: Verdict) -> Vec<&str> {
        self.cases.iter().filter(|(_, other)| *other == verdict).map(|(name, _)| name.as_str()).collect()
    }
}

/// Compares a run with a baseline: it is worse where the score fell by more than `tolerance` points, or a case fails that
/// passed before.
#[must_use]
pub fn compare(run: &Run, baseline: &Run, tolerance: f64) -> Comparison {
    let before: HashMap<&str, bool> = baseline.cases.iter().map(|case| (case.name.as_str(), case.passed)).collect();
    let verdict = |passed: bool, before: Option<&bool>| match (passed, before) {
        (false, Some(true)) => Some(Verdict::NewlyFailing),
        (false, Some(false)) => Some(Verdict::StillFailing),
        (false, None) => Some(Verdict::NewFailing),
        (true, Some(false)) => Some(Verdict::Fixed),
        (true, _) => None,
    };
    let judged = |case: &super::CaseResult| Some((case.name.clone(), verdict(case.passed, before.get(&*case.name))?));
    let cases: Vec<(String, Verdict)> = run.cases.iter().filter_map(judged).collect();
    let fails = cases.iter().any(|(_, verdict)| *verdict == Verdict::NewlyFailing);
    // Scores are tenths: less than half of one is the error of subtracting them.
    let fell = baseline.score - run.score > tolerance + 0.05;
    Comparison { regression: fails || fell, cases }
}

#[cfg(test)]
mod tests {
    use super::super::run::tests::{result, run};
    use super::*;

    fn of(now: &[(&str, u64, bool)], then: &[(&str, u64, bool)], tolerance: f64) -> Comparison {
        let run = |cases: &[(&str, u64, bool)]| {
            run(cases.iter().map(|(name, weight, passed)| result(name, *weight, *passed)).collect())
        };
        compare(&run(now), &run(then), tolerance)
    }

    #[test]
    fn a_case_that_passed_and_fails_is_a_regression_whatever_the_score() {
        let then = [("a", 1, true), ("b", 9, false), ("c", 1, false)];
        let compared = of(&[("a", 1, false), ("b", 9, true), ("c", 1, false), ("d", 1, false)], &then, 100.0);
        assert!(compared.regression);
        assert_eq!(compared.with(Verdict::NewlyFailing), ["a"]);
        assert_eq!(compared.with(Verdict::Fixed), ["b"]);
        assert_eq!(compared.with(Verdict::StillFailing), ["c"]);
        assert_eq!(compared.with(Verdict::NewFailing), ["d"]);
    }

    #[test]
    fn a_score_may_fall_within_the_tolerance() {
        let then = [("a", 70, true), ("b", 30, false)];
        // The same cases pass, but a new one that fails takes its share.
        let now = [("a", 70, true), ("b", 30, false), ("c", 3, false)];
        assert!(of(&now, &then, 0.0).regression);
        assert!(!of(&now, &then, 2.0).regression, "70 to 68");
        assert!(of(&now, &then, 1.9).regression);
        assert!(!of(&then, &then, 0.0).regression);
        assert!(!of(&then, &now, 0.0).regression);
    }
}
