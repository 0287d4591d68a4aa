//! A finished call as the judge of cases sees it.

use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;

use crate::domain::decision::Judgement;
use crate::domain::json::Json;
use crate::domain::outcome::{Answer, Carried, Outcome, Refusal};
use crate::evals::{Ended, Observed};
use crate::wire::mcp::advice;

/// Bytes of the largest result that is judged.
const MAX_RESULT: usize = 2 << 20;

/// What came of a call.
pub(super) fn observe(carried: &Carried, latency: Duration) -> Observed {
    let (ended, value, text) = match &carried.outcome {
        Outcome::Answered(answer) if answer.result.bytes().len() > MAX_RESULT => {
            let text =
                format!("the result has {} bytes: more than {MAX_RESULT} are not judged", answer.result.bytes().len());
            (Ended::Without, Value::Null, text)
        }
        Outcome::Answered(answer) => answered(answer),
        Outcome::Refused(refusal) => (Ended::Without, Value::Null, advice(refusal)),
        Outcome::Failed(error) => (Ended::Without, Value::Null, error.message.clone()),
        Outcome::Cancelled => (Ended::Without, Value::Null, String::from("the call was cancelled")),
    };
    let decision = carried.governance.decision.to_owned();
    Observed { ended, decision, policies: policies(carried), value, text, latency }
}

/// The policies that determined a decision, the first one first.
fn policies(carried: &Carried) -> Vec<String> {
    let mut policies = vec![carried.governance.policy.to_string()];
    let judgement: Option<&Judgement> = match &carried.outcome {
        Outcome::Refused(Refusal::Denied(judgement)) => Some(judgement),
        Outcome::Refused(Refusal::ApprovalNeeded(awaited)) => Some(&awaited.judgement),
        _ => None,
    };
    let rules = judgement.into_iter().flat_map(|judgement| &judgement.rules).map(|rule| rule.id.to_string());
    policies.extend(rules.filter(|id| *id != *carried.governance.policy));
    policies
}

fn answered(answer: &Answer) -> (Ended, Value, String) {
    let ended = if answer.is_error { Ended::ToolError } else { Ended::Well };
    let result = match answer.result.tree() {
        Ok(result) => result,
        Err(error) => return (Ended::Without, Value::Null, format!("the result cannot be read: {error}")),
    };
    let blocks = result.get("content").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let texts: Vec<&str> = blocks.iter().filter_map(|block| block.get("text")?.as_str()).collect();
    let text = texts.join("\n");
    if let Some(structured) = result.get("structuredContent").filter(|value| !value.is_null()) {
        return (ended, structured.clone(), text);
    }
    let sole = (blocks.len() == 1)
        .then(|| texts.first())
        .flatten()
        .and_then(|text| Json::parse(Bytes::copy_from_slice(text.as_bytes())).ok()?.tree().ok());
    (ended, sole.unwrap_or(result), text)
}
