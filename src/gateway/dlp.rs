//! Data loss prevention by hand: a text through the rules in force, and the rules over texts that are labelled.

use serde_json::{Value, json};

use super::sources::Sources;
use crate::config::Faults;
use crate::scan::eval::{Score, evaluate};
use crate::scan::{RULES, Scanner, redact, redact_plain};

/// The labelled set that ships.
const LABELLED: [&str; 2] =
    [include_str!("../../tests/data/dlp/positive.jsonl"), include_str!("../../tests/data/dlp/negative.jsonl")];

/// Every rule.
#[must_use]
pub fn rules() -> Value {
    let rules = RULES.iter().map(|rule| json!({"rule": rule.id, "kind": rule.kind, "about": rule.about}));
    json!({"rules": rules.collect::<Vec<_>>()})
}

/// What the rules in force find in a text, with places and the text as `redact` would leave it; never what was found.
///
/// # Errors
/// The faults of the configuration.
pub fn scan(sources: &Sources, text: &str) -> Result<Value, Faults> {
    let report = sources.scanner()?.scan(text.as_bytes());
    let findings = report.findings.iter().map(|finding| {
        let before = text.get(..finding.range.start).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().map_or(0, |rest| rest.chars().count()) + 1;
        json!({
            "rule": finding.rule,
            "kind": finding.kind,
            "confidence": finding.confidence,
            "line": line,
            "column": column,
            "start": finding.range.start,
            "end": finding.range.end,
        })
    });
    let is_json = serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok();
    let redacted = match redact(text, &report.findings) {
        Ok(text) => Ok(text),
        Err(_) if !is_json => Ok(redact_plain(text, &report.findings)),
        Err(why) => Err(why),
    };
    let (text, why) = redacted.map_or_else(|why| (None, Some(why.to_string())), |text| (Some(text), None));
    Ok(json!({
        "findings": findings.collect::<Vec<_>>(),
        "incomplete": report.incomplete,
        "redacted": text,
        "unredactable": why,
    }))
}

/// Precision and recall of every rule on a labelled set, the shipped one unless another is given.
///
/// # Errors
/// The first line that cannot be read.
pub fn judge(labelled: Option<&str>) -> Result<Value, String> {
    let shipped;
    let lines = match labelled {
        Some(lines) => lines,
        None => {
            shipped = LABELLED.concat();
            &shipped
        }
    };
    let evaluation = evaluate(&Scanner::default(), lines)?;
    let view = |score: &Score| {
        json!({"right": score.right, "wrong": score.wrong, "missed": score.missed,
               "precision": score.precision(), "recall": score.recall()})
    };
    let rules = evaluation.rules.iter().map(|(rule, score)| (rule.clone(), view(score)));
    Ok(json!({
        "lines": evaluation.lines,
        "clean_lines": evaluation.clean_lines,
        "rules": rules.collect::<serde_json::Map<_, _>>(),
        "all": view(&evaluation.all),
        "leaks": evaluation.leaks,
        "faults": evaluation.faults,
    }))
}
