//! A run of a suite: what came of each case, and what it is worth.

use serde::{Deserialize, Serialize};
use serde_json::{Number, Value};

use super::suite::Environment;

/// A finished run, as it is kept and shown.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Run {
    pub id: String,
    pub evaluation_id: u64,
    /// The suite's name.
    pub name: String,
    /// SHA-256 of the suite as it was.
    pub suite_digest: String,
    pub environment: Option<Environment>,
    /// RFC 3339.
    pub started_at: String,
    pub duration_ms: u64,
    /// Who ran it; absent for a run that ships with the program.
    pub agent: Option<String>,
    pub policy_version: String,
    /// 0 to 100.
    #[serde(serialize_with = "as_score")]
    pub score: f64,
    pub passed: usize,
    pub failed: usize,
    /// None where only the head of a run is read.
    #[serde(default)]
    pub cases: Vec<CaseResult>,
}

/// What came of one case.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CaseResult {
    pub name: String,
    pub tool: String,
    pub weight: u64,
    pub passed: bool,
    /// Why it has not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<String>,
    pub decision: String,
    pub policy: String,
    pub latency_ms: u64,
    /// The tool's definition, as it was.
    pub tool_digest: Option<String>,
    /// The record of its call; empty where there is none.
    pub audit_event_id: String,
}

/// Bytes of all reasons of a run.
const MAX_REASONS: usize = 64 << 10;

/// The results of a run with reasons for as many as have room together: what is kept of a run has a bound.
#[must_use]
pub fn within_room(mut cases: Vec<CaseResult>) -> Vec<CaseResult> {
    let mut room = MAX_REASONS;
    for case in &mut cases {
        match room.checked_sub(case.reasons.iter().map(String::len).sum()) {
            Some(left) => room = left,
            None => {
                case.reasons = vec![format!("left out: the reasons of this run take more than {MAX_REASONS} bytes")]
            }
        }
    }
    cases
}

/// The weighted share of what has passed: 0 to 100, to one decimal.
#[must_use]
pub fn score(cases: &[CaseResult]) -> f64 {
    let sum = |passed_only: bool| -> u64 {
        cases.iter().filter(|case| case.passed || !passed_only).map(|case| case.weight).sum()
    };
    let all = sum(false);
    if all == 0 {
        return 0.0;
    }
    // Tenths in whole numbers: a sum of weights is far below what a double holds exactly.
    let tenths = (sum(true) * 2000 / all).div_ceil(2);
    f64::from(u32::try_from(tenths).unwrap_or(0)) / 10.0
}

/// A score as a number that is written without a fraction where it has none.
#[must_use]
pub fn score_value(score: f64) -> Value {
    let tenths = (score * 10.0).round();
    let text = if tenths % 10.0 == 0.0 { format!("{:.0}", tenths / 10.0) } else { format!("{:.1}", tenths / 10.0) };
    text.parse::<Number>().map_or(Value::Null, Value::Number)
}

fn as_score<S: serde::Serializer>(score: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    score_value(*score).serialize(serializer)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(crate) fn result(name: &str, weight: u64, passed: bool) -> CaseResult {
        CaseResult {
            name: name.into(),
            tool: "up:read".into(),
            weight,
            passed,
            reasons: if passed { Vec::new() } else { vec!["expected 1, got 2 <&>".into()] },
            decision: "allow".into(),
            policy: "default-allow-read".into(),
            latency_ms: 12,
            tool_digest: None,
            audit_event_id: "evt_1".into(),
        }
    }

    pub(crate) fn run(cases: Vec<CaseResult>) -> Run {
        let passed = cases.iter().filter(|case| case.passed).count();
        Run {
            id: "run_1".into(),
            evaluation_id: 7,
            name: "a suite".into(),
            suite_digest: "d".into(),
            environment: Some(Environment::Dev),
            started_at: "2026-01-02T03:04:05.000Z".into(),
            duration_ms: 1500,
            agent: Some("tester".into()),
            policy_version: "p".into(),
            score: score(&cases),
            passed,
            failed: cases.len() - passed,
            cases,
        }
    }

    #[test]
    fn the_score_is_the_weighted_share() {
        let score = |cases: &[(u64, bool)]| {
            let cases: Vec<CaseResult> = cases.iter().map(|(weight, passed)| result("x", *weight, *passed)).collect();
            score_value(super::score(&cases)).to_string()
        };
        assert_eq!(score(&[(85, true), (15, false)]), "85");
        assert_eq!(score(&[(1, true), (1, true), (1, false)]), "66.7");
        assert_eq!(score(&[(1, true), (2, false)]), "33.3");
        assert_eq!((score(&[(3, true)]), score(&[(3, false)]), score(&[])), ("100".into(), "0".into(), "0".into()));
    }

    #[test]
    fn a_run_reads_as_it_was_written() {
        let run = run(vec![result("a", 1, true), result("b", 2, false)]);
        let text = serde_json::to_string(&run).unwrap();
        assert!(text.contains(r#""score":33.3"#) && text.contains(r#""environment":"dev""#), "{text}");
        assert_eq!(serde_json::from_str::<Run>(&text).unwrap(), run);
    }

    #[test]
    fn reasons_have_a_size_together() {
        let failed = |name: &str, size: usize| CaseResult { reasons: vec!["x".repeat(size)], ..result(name, 1, false) };
        let cases = vec![failed("a", 40_000), failed("b", 40_000), result("c", 1, true), failed("d", 20_000)];
        let kept = within_room(cases.clone());
        assert_eq!((&kept[0], &kept[2], &kept[3]), (&cases[0], &cases[2], &cases[3]));
        assert_eq!(kept[1].reasons, ["left out: the reasons of this run take more than 65536 bytes"]);
        let many = within_room((0..200).map(|n| failed(&n.to_string(), 16_000)).collect());
        assert!(serde_json::to_string(&run(many)).unwrap().len() < 150_000);
    }

    proptest::proptest! {
        #[test]
        fn a_case_that_passes_never_lowers_the_score(cases in proptest::collection::vec((1_u64..1000, proptest::bool::ANY), 1..50)) {
            let of = |cases: &[(u64, bool)]| {
                score(&cases.iter().map(|(weight, passed)| result("x", *weight, *passed)).collect::<Vec<_>>())
            };
            let before = of(&cases);
            proptest::prop_assert!((0.0..=100.0).contains(&before));
            for at in 0..cases.len() {
                let mut better = cases.clone();
                better[at].1 = true;
                proptest::prop_assert!(of(&better) >= before);
            }
        }
    }
}
