//! How good the rules are, on texts that say what is in them.
//!
//! One JSON object a line. `text` is put into a tool result as it would travel, `json` is a document of its own. Each
//! `{0}`, `{1}` in it stands for one of `secrets`, whose `parts` are joined: so that no file holds what looks like a key.

use std::collections::BTreeMap;
use std::ops::Range;

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Scanner, redact};

/// One labelled text.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    text: Option<String>,
    json: Option<String>,
    #[serde(default)]
    secrets: Vec<Planted>,
}

/// What a text holds.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Planted {
    rule: String,
    parts: Vec<String>,
}

/// How a rule did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Score {
    /// Found, and there.
    pub right: usize,
    /// Found, and not there.
    pub wrong: usize,
    /// There, and not found.
    pub missed: usize,
}

impl Score {
    /// Of what was found, how much is there; 1 where nothing was.
    #[must_use]
    pub fn precision(&self) -> f64 {
        share(self.right, self.wrong)
    }

    /// Of what is there, how much was found; 1 where nothing is.
    #[must_use]
    pub fn recall(&self) -> f64 {
        share(self.right, self.missed)
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts of a labelled set are small")]
fn share(part: usize, rest: usize) -> f64 {
    if part + rest == 0 { 1.0 } else { part as f64 / (part + rest) as f64 }
}

/// The scores of a labelled set.
#[derive(Debug, Default, Serialize)]
pub struct Evaluation {
    pub lines: usize,
    /// Lines with nothing in them.
    pub clean_lines: usize,
    pub rules: BTreeMap<String, Score>,
    pub all: Score,
    /// What of the planted survived redaction of what was found, by line: must be what was missed.
    pub leaks: usize,
    /// One sentence for each fault; never the text itself.
    pub faults: Vec<String>,
}

/// Scores a scanner on labelled lines.
///
/// # Errors
/// The first line that cannot be read.
pub fn evaluate(scanner: &Scanner, lines: &str) -> Result<Evaluation, String> {
    let mut evaluation = Evaluation::default();
    for (index, line) in lines.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let number = index + 1;
        let line: Line = serde_json::from_str(line).map_err(|error| format!("line {number}: {error}"))?;
        judge(scanner, number, &line, &mut evaluation).map_err(|why| format!("line {number}: {why}"))?;
    }
    Ok(evaluation)
}

fn judge(scanner: &Scanner, number: usize, line: &Line, evaluation: &mut Evaluation) -> Result<(), String> {
    let secrets: Vec<String> = line.secrets.iter().map(|planted| planted.parts.concat()).collect();
    let document = document(line, &secrets)?;
    let mut expected = planted(line, &secrets, &document)?;
    evaluation.lines += 1;
    evaluation.clean_lines += usize::from(expected.is_empty());
    let report = scanner.scan(document.as_bytes());
    let plain = redact(&document, &report.findings);
    for finding in &report.findings {
        let overlaps = |range: &Range<usize>| range.start < finding.range.end && finding.range.start < range.end;
        let hit = expected.iter().position(|(rule, range)| rule == finding.rule && overlaps(range));
        let score = evaluation.rules.entry(finding.rule.to_owned()).or_default();
        if let Some(hit) = hit {
            expected.remove(hit);
            score.right += 1;
            evaluation.all.right += 1;
        } else {
            score.wrong += 1;
            evaluation.all.wrong += 1;
            let around = document.get(finding.range.start.saturating_sub(24)..finding.range.start).unwrap_or_default();
            evaluation.faults.push(format!("line {number}: `{}` found behind `{around}`", finding.rule));
        }
    }
    for (rule, _) in &expected {
        evaluation.rules.entry(rule.clone()).or_default().missed += 1;
        evaluation.all.missed += 1;
        evaluation.faults.push(format!("line {number}: `{rule}` missed"));
    }
    let survives = |secret: &String| plain.as_ref().is_ok_and(|plain| plain.contains(&escaped(secret)));
    evaluation.leaks += usize::from(expected.is_empty() && secrets.iter().any(survives));
    Ok(())
}

/// The text that is scanned.
fn document(line: &Line, secrets: &[String]) -> Result<String, String> {
    let filled = |text: &str, encode: &dyn Fn(&str) -> String| {
        secrets
            .iter()
            .enumerate()
            .fold(text.to_owned(), |text, (index, secret)| text.replace(&format!("{{{index}}}"), &encode(secret)))
    };
    match (&line.text, &line.json) {
        (Some(text), None) => {
            let text = filled(text, &str::to_owned);
            Ok(json!({"content": [{"type": "text", "text": text}], "isError": false}).to_string())
        }
        (None, Some(text)) => {
            let text = filled(text, &escaped);
            serde_json::from_str::<serde::de::IgnoredAny>(&text).map_err(|error| format!("`json` is none: {error}"))?;
            Ok(text)
        }
        _ => Err("a line has `text` or `json`".into()),
    }
}

/// Where the planted stand in the document.
fn planted(line: &Line, secrets: &[String], document: &str) -> Result<Vec<(String, Range<usize>)>, String> {
    let place = |(planted, secret): (&Planted, &String)| {
        super::rule(&planted.rule).ok_or_else(|| format!("there is no rule `{}`", planted.rule))?;
        let escaped = escaped(secret);
        let start = document.find(&escaped).ok_or("a secret is planted nowhere: write `{0}` where it stands")?;
        Ok((planted.rule.clone(), start..start + escaped.len()))
    };
    line.secrets.iter().zip(secrets).map(place).collect()
}

/// A text as it stands inside a JSON string.
fn escaped(text: &str) -> String {
    let quoted = json!(text).to_string();
    quoted.get(1..quoted.len().saturating_sub(1)).unwrap_or_default().to_owned()
}
