//! Whether what came of a call is what was expected.

use std::time::Duration;

use serde_json::Value;

use super::path::{PathCheck, nodes};
use super::suite::Case;
use crate::domain::decision::Verdict;

/// Characters of a value in a reason, of a reason, and how many reasons.
const MAX_SHOWN: usize = 120;
const MAX_REASON: usize = 400;
const MAX_REASONS: usize = 10;

/// Why a check was not made.
const LATE: &str = "judging took too long: the rest was not looked at";

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// With a result.
    Well,
    /// With the tool's own error.
    ToolError,
    /// It was not sent, or nothing came back.
    Without,
}

/// What came of a call.
#[derive(Debug, Clone)]
pub struct Observed {
    pub ended: Ended,
    /// `allow`, `deny`, `approval` or `error`.
    pub decision: String,
    /// The policies that determined it.
    pub policies: Vec<String>,
    /// The structured result, or else the JSON of a sole text, or else the whole result.
    pub value: Value,
    /// The text of the result, or the sentence about why there is none.
    pub text: String,
    pub latency: Duration,
}

/// Holds a value against a JSON Schema: the sentence about what does not fit.
pub type Fits<'f> = &'f dyn Fn(&Value, &Value) -> Result<(), String>;

/// Everything that is not as expected; nothing where the case has passed. `goes_on` is asked between checks, and what is not
/// looked at any more has not passed.
#[must_use]
pub fn judge(case: &Case, seen: &Observed, fits: Fits<'_>, goes_on: &dyn Fn() -> bool) -> Vec<String> {
    let expect = &case.expect;
    let mut reasons = Vec::new();
    // An error may be one before any decision: arguments that do not fit.
    let wanted = expect.decision.or_else(|| (expect.is_error != Some(true)).then_some(Verdict::Allow));
    let is_error = seen.ended != Ended::Well;
    // What never came to a decision is told as the error that it is.
    let undecided = wanted == Some(Verdict::Allow) && seen.decision == "error" && is_error;
    match wanted.filter(|wanted| !undecided && wanted.as_str() != seen.decision) {
        Some(wanted) => reasons.push(format!(
            "expected the decision {}, got {} by {}: {}",
            wanted.as_str(),
            seen.decision,
            seen.policies.join(", "),
            seen.text
        )),
        None if wanted.is_some_and(|wanted| wanted != Verdict::Allow) => {}
        None => match (expect.is_error.unwrap_or(false), is_error) {
            (false, true) => reasons.push(format!("expected a result, got an error: {}", seen.text)),
            (true, false) => reasons.push(format!("expected an error, got a result: {}", seen.text)),
            _ => {}
        },
    }
    if let Some(policy) = expect.policy.as_ref().filter(|policy| !seen.policies.contains(policy)) {
        reasons.push(format!("expected the policy {policy}, got {}", seen.policies.join(", ")));
    }
    if seen.ended == Ended::Without {
        let asks = expect.equals.is_some() || !expect.paths.is_empty() || expect.schema.is_some();
        if asks && reasons.is_empty() {
            reasons.push("there is no result to look at".into());
        }
    } else {
        reasons.extend(of_value(case, &seen.value, fits, goes_on));
    }
    for part in expect.text_contains.iter().filter(|part| !seen.text.contains(part.as_str())) {
        reasons.push(format!("the text does not contain {}: {}", quoted(part), quoted(&seen.text)));
    }
    if let Some(most) = expect.max_latency.filter(|most| seen.latency > *most) {
        reasons.push(format!("took {} ms, expected at most {} ms", seen.latency.as_millis(), most.as_millis()));
    }
    reasons.truncate(MAX_REASONS);
    reasons.into_iter().map(|reason| cut(&reason.replace('\n', " "), MAX_REASON)).collect()
}

/// What may take a while.
enum Check<'c> {
    Path(&'c PathCheck),
    Schema(&'c Value),
}

fn of_value(case: &Case, value: &Value, fits: Fits<'_>, goes_on: &dyn Fn() -> bool) -> Vec<String> {
    let mut reasons = Vec::new();
    if let Some(want) = case.expect.equals.as_ref().filter(|want| !same(value, want)) {
        let difference = difference(want, value, "");
        reasons.push(difference.unwrap_or_else(|| format!("expected {}, got {}", shown(want), shown(value))));
    }
    let count = nodes(value);
    let paths = case.expect.paths.iter().map(Check::Path);
    for check in paths.chain(case.expect.schema.as_ref().map(Check::Schema)) {
        if !goes_on() {
            reasons.push(LATE.into());
            break;
        }
        let held = match check {
            Check::Path(check) => check.judge(value, count),
            Check::Schema(schema) => fits(schema, value),
        };
        reasons.extend(held.err());
    }
    reasons
}

/// Where two values differ first.
fn difference(want: &Value, got: &Value, at: &str) -> Option<String> {
    let inside = |key: &str| format!("{at}/{key}");
    match (want, got) {
        (Value::Object(wants), Value::Object(gots)) => {
            if let Some(extra) = gots.keys().find(|key| !wants.contains_key(*key)) {
                return Some(format!("{}: expected nothing, got {}", inside(extra), shown(&got[extra.as_str()])));
            }
            wants.iter().find_map(|(key, want)| match gots.get(key) {
                Some(got) => difference(want, got, &inside(key)),
                None => Some(format!("{}: expected {}, got nothing", inside(key), shown(want))),
            })
        }
        (Value::Array(wants), Value::Array(gots)) if wants.len() == gots.len() => {
            let pairs = wants.iter().zip(gots).enumerate();
            pairs.into_iter().find_map(|(n, (want, got))| difference(want, got, &inside(&n.to_string())))
        }
        (Value::Array(wants), Value::Array(gots)) => {
            Some(format!("{}: expected {} items, got {}", place(at), wants.len(), gots.len()))
        }
        _ if same(want, got) => None,
        _ => Some(format!("{}: expected {}, got {}", place(at), shown(want), shown(got))),
    }
}

fn place(at: &str) -> &str {
    if at.is_empty() { "the result" } else { at }
}

/// Whether two values are equal; a number is, however it is written.
pub(super) fn same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(a), Value::Number(b)) => a == b || (a.is_f64() || b.is_f64()) && a.as_f64() == b.as_f64(),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| same(a, b)))
        }
        _ => one == other,
    }
}

/// A value in a sentence.
pub(super) fn shown(value: &Value) -> String {
    cut(&value.to_string(), MAX_SHOWN)
}

fn quoted(text: &str) -> String {
    format!("`{}`", cut(text, MAX_SHOWN))
}

fn cut(text: &str, most: usize) -> String {
    let mut chars = text.chars();
    let mut cut: String = chars.by_ref().take(most).collect();
    if chars.next().is_some() {
        cut.push('…');
    }
    cut
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::read;
    use super::*;

    fn case(expect: &Value) -> Case {
        let case = json!({"name": "it", "tool": "up:read", "expect": expect});
        read(&json!({"id": 1, "name": "a suite", "cases": [case]})).unwrap().cases.remove(0)
    }

    fn seen() -> Observed {
        let value = json!({"repos": [{"name": "a", "stars": 3}], "total": 1});
        let (decision, policies) = ("allow".into(), vec!["default-allow-read".into()]);
        let latency = Duration::from_millis(40);
        Observed { ended: Ended::Well, decision, policies, text: value.to_string(), value, latency }
    }

    fn denied() -> Observed {
        let (decision, policies) = ("deny".into(), vec!["block-sql-drop".into()]);
        let text = "Denied by policy block-sql-drop: use another statement".into();
        Observed { ended: Ended::Without, decision, policies, value: Value::Null, text, ..seen() }
    }

    fn reasons(expect: &Value, seen: &Observed) -> String {
        let fits = |schema: &Value, value: &Value| {
            jsonschema::validate(schema, value).map_err(|error| format!("does not fit the schema: {error}"))
        };
        judge(&case(expect), seen, &fits, &|| true).join("; ")
    }

    #[test]
    fn a_result_is_held_against_all_that_is_expected() {
        for (expect, fault) in [
            (json!({}), ""),
            (json!({"is_error": false, "decision": "allow", "policy": "default-allow-read"}), ""),
            (json!({"equals": {"total": 1.0, "repos": [{"stars": 3, "name": "a"}]}}), ""),
            (json!({"equals": {"total": 1, "repos": []}}), "/repos: expected 0 items, got 1"),
            (
                json!({"equals": {"repos": [{"name": "b", "stars": 3}], "total": 1}}),
                "/repos/0/name: expected \"b\", got \"a\"",
            ),
            (json!({"equals": {"total": 1}}), "/repos: expected nothing, got [{\"name\":\"a\",\"stars\":3}]"),
            (
                json!({"equals": 3}),
                "the result: expected 3, got {\"repos\":[{\"name\":\"a\",\"stars\":3}],\"total\":1}",
            ),
            (json!({"jsonpath": [{"path": "$.total", "equals": 1}]}), ""),
            (json!({"jsonpath": [{"path": "$.total", "equals": 2}]}), "`$.total`: expected 2, got 1"),
            (json!({"schema": {"type": "object", "required": ["total"]}}), ""),
            (json!({"schema": {"required": ["more"]}}), "does not fit the schema: \"more\" is a required property"),
            (json!({"text_contains": ["repos", "stars"]}), ""),
            (json!({"max_latency": "40ms"}), ""),
            (json!({"max_latency": "39ms"}), "took 40 ms, expected at most 39 ms"),
            (json!({"policy": "other"}), "expected the policy other, got default-allow-read"),
        ] {
            assert_eq!(reasons(&expect, &seen()), fault, "{expect}");
        }
        let missing = reasons(&json!({"text_contains": "planets"}), &seen());
        assert!(missing.starts_with("the text does not contain `planets`"), "{missing}");
        let error = reasons(&json!({"is_error": true}), &seen());
        assert!(error.starts_with("expected an error, got a result"), "{error}");
        let failing = Observed { ended: Ended::ToolError, text: "no such repo".into(), ..seen() };
        assert_eq!(reasons(&json!({}), &failing), "expected a result, got an error: no such repo");
        assert_eq!(reasons(&json!({"is_error": true, "text_contains": "no such"}), &failing), "");
    }

    #[test]
    fn a_denial_can_be_what_is_expected() {
        for (expect, fault) in [
            (json!({"decision": "deny"}), ""),
            (json!({"decision": "deny", "policy": "block-sql-drop", "text_contains": "another statement"}), ""),
            (json!({"decision": "deny", "policy": "no-such"}), "expected the policy no-such, got block-sql-drop"),
            (json!({"is_error": true}), ""),
            (json!({"decision": "deny", "equals": 1}), "there is no result to look at"),
        ] {
            assert_eq!(reasons(&expect, &denied()), fault, "{expect}");
        }
        let wanted = reasons(&json!({}), &denied());
        assert_eq!(
            wanted,
            "expected the decision allow, got deny by block-sql-drop: Denied by policy block-sql-drop: use another statement"
        );
        let approval = reasons(&json!({"decision": "approval"}), &denied());
        assert!(approval.starts_with("expected the decision approval, got deny by block-sql-drop"), "{approval}");
        let allowed = reasons(&json!({"decision": "deny"}), &seen());
        assert!(allowed.starts_with("expected the decision deny, got allow by default-allow-read"), "{allowed}");
    }

    #[test]
    fn judging_ends_between_checks() {
        let checks = json!([{"path": "$.total", "equals": 2}, {"path": "$.more"}, {"path": "$.repos"}]);
        let case = case(&json!({"jsonpath": checks, "schema": {"required": ["total"]}}));
        let asked = std::cell::Cell::new(0);
        let goes_on = || asked.replace(asked.get() + 1) < 1;
        let reasons = judge(&case, &seen(), &|_, _| Ok(()), &goes_on);
        assert_eq!(reasons, ["`$.total`: expected 2, got 1", LATE]);
        let reasons = judge(&case, &seen(), &|_, _| Err("does not fit".into()), &|| asked.replace(asked.get() + 1) < 5);
        assert_eq!(reasons.last().map(String::as_str), Some(LATE), "{reasons:?}");
    }

    #[test]
    fn a_reason_is_short_whatever_came() {
        let long = Observed { ended: Ended::ToolError, text: "x".repeat(1 << 20), ..seen() };
        assert!(reasons(&json!({}), &long).chars().count() <= MAX_REASON + 1);
    }
}
