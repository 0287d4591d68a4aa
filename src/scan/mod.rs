//! Floor 2: secrets and personal data in bytes, as they travel. Pure: no I/O, no clock.
//!
//! One pass looks for keywords, one for `@`, one for digits that stand close together; where nothing is met that is all.
//! Around what is met a matcher looks closely: alphabet, length, checksum, entropy, the words beside it. It looks at the
//! text as it reads once the escapes of JSON are resolved, again where JSON stands in JSON, and at what percent encoding
//! and base64 hide, and a finding leads back to the bytes that came. What a scan may cost is bounded.

mod address;
mod allow;
mod assign;
mod blocks;
mod engine;
pub mod eval;
mod hidden;
mod iban;
mod keywords;
mod numbers;
mod people;
mod redact;
mod rules;
#[cfg(test)]
mod tests;
mod text;
mod tokens;
mod view;

use std::collections::BTreeMap;
use std::ops::Range;

use serde::Serialize;

use self::engine::{MAX_WORK, Scan};
use self::view::View;

pub use self::allow::Allowed;
pub use self::redact::{Unredactable, redact, redact_plain};
pub use self::rules::{Kind, RULES, Rule, rule};

/// Bytes of a text that are scanned; what lies behind them is not, and the report says so.
const MAX_BYTES: usize = 16 << 20;

/// What a scan in passing may take.
const BRIEF_BYTES: usize = 64 << 10;
const BRIEF_WORK: usize = 256 << 10;

/// How sure a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Confidence {
    /// By its form and what stands beside it.
    Likely,
    /// By a checksum, or a structure that nothing else has.
    Certain,
}

/// Something that should not travel. It says where it stands and what it is, never what it reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    pub rule: &'static str,
    pub kind: Kind,
    pub confidence: Confidence,
    /// Where it stands among the bytes that were scanned.
    pub range: Range<usize>,
}

/// What a scan came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// In the order of the text; no two overlap.
    pub findings: Vec<Finding>,
    /// Whether something was left out: the text is too long, or dense with what looks like findings.
    pub incomplete: bool,
}

impl Report {
    /// Whether there is nothing to say.
    #[must_use]
    pub const fn is_clean(&self) -> bool {
        self.findings.is_empty() && !self.incomplete
    }

    /// How often each rule found something, by name.
    #[must_use]
    pub fn counts(&self) -> BTreeMap<&'static str, usize> {
        let mut counts = BTreeMap::new();
        self.findings.iter().for_each(|finding| *counts.entry(finding.rule).or_insert(0) += 1);
        counts
    }
}

/// The rules, less those that are turned off, and what is allowed all the same.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scanner {
    disabled: Vec<&'static str>,
    allowed: Vec<Allowed>,
}

/// What a matcher found in the text that it was given.
#[derive(Debug)]
struct Found {
    rule: &'static str,
    range: Range<usize>,
    confidence: Confidence,
}

impl Scanner {
    /// All rules but `disabled`; what one of `allowed` knows is no finding.
    #[must_use]
    pub const fn new(disabled: Vec<&'static str>, allowed: Vec<Allowed>) -> Self {
        Self { disabled, allowed }
    }

    /// Scans a JSON text, or any other.
    #[must_use]
    pub fn scan(&self, text: &[u8]) -> Report {
        let scanned = text::part(text, 0, MAX_BYTES);
        let mut scan = Scan::of(self, MAX_WORK);
        scan.over(&View::of(scanned), 0);
        Report { findings: merged(scan.findings), incomplete: scan.incomplete || scanned.len() < text.len() }
    }

    /// The same, unless it takes more than a few milliseconds: the text is long, or dense with what looks like findings.
    #[must_use]
    pub fn scan_briefly(&self, text: &[u8]) -> Option<Report> {
        if text.len() > BRIEF_BYTES {
            return None;
        }
        let mut scan = Scan::of(self, BRIEF_WORK);
        scan.over(&View::of(text), 0);
        (!scan.is_spent()).then(|| Report { findings: merged(scan.findings), incomplete: scan.incomplete })
    }
}

/// Puts findings that overlap together under the more telling rule.
fn merged(mut findings: Vec<Finding>) -> Vec<Finding> {
    findings.sort_by_key(|finding| (finding.range.start, std::cmp::Reverse(finding.range.end)));
    let mut out: Vec<Finding> = Vec::with_capacity(findings.len());
    for finding in findings {
        match out.last_mut().filter(|last| finding.range.start < last.range.end) {
            Some(last) => {
                let whole = last.range.start..last.range.end.max(finding.range.end);
                if rules::rank(finding.rule) < rules::rank(last.rule) {
                    *last = finding;
                }
                last.range = whole;
            }
            None => out.push(finding),
        }
    }
    out
}
