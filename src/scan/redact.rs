//! Takes findings out of a text, and touches nothing else.

use std::ops::Range;

use super::Finding;
use super::text::{at, run};

/// A finding that cannot be taken out without changing the shape of the document: it stands in the name of a member,
/// or as a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("something that `{0}` finds stands in a name or a number, where it cannot be rewritten")]
pub struct Unredactable(pub &'static str);

/// A JSON text with `[redacted:RULE]` in place of each finding; only bytes of string values change.
///
/// # Errors
/// Where a finding stands elsewhere.
pub fn redact(text: &str, findings: &[Finding]) -> Result<String, Unredactable> {
    let mut left = findings.iter().peekable();
    for (content, is_name) in strings(text.as_bytes()) {
        while let Some(finding) = left.next_if(|finding| finding.range.start < content.end) {
            if is_name || finding.range.start < content.start || finding.range.end > content.end {
                return Err(Unredactable(finding.rule));
            }
        }
    }
    match left.next() {
        Some(finding) => Err(Unredactable(finding.rule)),
        None => Ok(redact_plain(text, findings)),
    }
}

/// Any text with `[redacted:RULE]` in place of each finding.
#[must_use]
pub fn redact_plain(text: &str, findings: &[Finding]) -> String {
    let mut out = String::with_capacity(text.len());
    let mut done = 0;
    for finding in findings {
        out.push_str(text.get(done..finding.range.start).unwrap_or_default());
        out.push_str("[redacted:");
        out.push_str(finding.rule);
        out.push(']');
        done = finding.range.end;
    }
    out.push_str(text.get(done..).unwrap_or_default());
    out
}

/// The content of every string of a JSON text, and whether it is the name of a member.
fn strings(text: &[u8]) -> impl Iterator<Item = (Range<usize>, bool)> + '_ {
    let mut here = 0;
    std::iter::from_fn(move || {
        let start = here + memchr::memchr(b'"', text.get(here..)?)? + 1;
        let mut end = start;
        while end < text.len() && at(text, end) != b'"' {
            end += if at(text, end) == b'\\' { 2 } else { 1 };
        }
        let end = end.min(text.len());
        here = (end + 1).min(text.len());
        let next = run(text, here, usize::MAX, |byte| byte.is_ascii_whitespace());
        Some((start..end, at(text, next) == b':'))
    })
}
