//! Calls through the doors under `/v1`: a result in short, with its governance or as the data of an own tool's page, or an
//! error with one of the few codes that these pages have.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::{Body, Told, Unanswered, unanswered};
use crate::domain::json::Json;
use crate::domain::outcome::{Answer, Carried, Outcome, Refusal};

/// A finished call: an object to which `meta` is still to be added.
#[derive(Debug)]
pub struct Finished {
    pub told: Told,
    /// The tool itself reported an error.
    pub is_error: bool,
}

/// Reads the arguments of an invocation: the member `input`, which may be absent.
///
/// # Errors
/// A sentence for the caller.
pub fn input(body: &Bytes) -> Result<Option<Json>, String> {
    if body.is_empty() || body.trim_ascii() == b"null" {
        return Ok(None);
    }
    let body = Body::read(body)?;
    body.only(&["input"])?;
    body.object("input")
}

/// Reads the question of a simulation, whose members are those of the own tool.
///
/// # Errors
/// A sentence for the caller.
pub fn question(body: &Bytes) -> Result<Option<Json>, String> {
    Body::read(body)?;
    Json::parse(body.clone()).map(Some).map_err(|error| error.to_string())
}

/// Tells how an invocation ended.
#[must_use]
pub fn invoked(carried: &Carried) -> Finished {
    let governance = Json::of(&carried.governance);
    let governance = governance.as_str();
    match &carried.outcome {
        Outcome::Answered(answer) => {
            let body = format!("{{\"result\":{},\"governance\":{governance}}}", short(answer).as_str());
            Finished { told: Told { status: 200, body, retry_after: None }, is_error: answer.is_error }
        }
        outcome => {
            let (no, error) = error(carried, outcome);
            let body = format!("{{\"error\":{},\"governance\":{governance}}}", Json::of(&error).as_str());
            Finished { told: Told { status: no.status, body, retry_after: no.retry_after }, is_error: false }
        }
    }
}

/// Tells how a call of an own tool ended: what it answers is `data`.
#[must_use]
pub fn told_as_data(carried: &Carried) -> Told {
    match &carried.outcome {
        Outcome::Answered(answer) => {
            Told { status: 200, body: format!("{{\"data\":{}}}", short(answer).as_str()), retry_after: None }
        }
        outcome => {
            let (no, error) = error(carried, outcome);
            Told { status: no.status, body: json!({"error": error}).to_string(), retry_after: no.retry_after }
        }
    }
}

/// Tells how a query of what the company knows ended, or a part of its answer. What is wrong with a query is its tool's own
/// error, and here the caller's.
#[must_use]
pub fn queried(carried: &Carried, part: Option<&str>) -> Told {
    let Outcome::Answered(answer) = &carried.outcome else { return told_as_data(carried) };
    let found = short(answer);
    if answer.is_error {
        let found = found.value();
        let of = |name: &str| found.pointer(&format!("/error/{name}")).cloned().unwrap_or_default();
        let error = json!({"code": "invalid_request", "message": of("message"), "details": {"reason": of("code")}});
        return Told { status: 400, body: json!({"error": error}).to_string(), retry_after: None };
    }
    let found = match part {
        Some(part) => Json::of(found.value().get(part).unwrap_or(&json!([]))),
        None => found,
    };
    Told { status: 200, body: format!("{{\"data\":{}}}", found.as_str()), retry_after: None }
}

/// Reads entities to import, and how their types belong together.
///
/// # Errors
/// A sentence for the caller.
pub fn entities(body: &Bytes) -> Result<(Vec<Value>, Vec<String>), String> {
    #[derive(Deserialize)]
    struct Entities {
        entities: Vec<Value>,
        #[serde(default)]
        relations: Vec<String>,
    }
    let body = Body::read(body)?;
    body.only(&["entities", "relations"])?;
    let Entities { entities, relations } =
        body.typed().map_err(|_| "entities must be a list of objects, and relations one of texts".to_owned())?;
    Ok((entities, relations))
}

/// The error of a call that gave no result.
fn error(carried: &Carried, outcome: &Outcome) -> (Unanswered, Value) {
    let no = unanswered(carried).unwrap_or_else(|| Unanswered {
        status: 500,
        code: "internal_error",
        message: "the call gave nothing".into(),
        details: json!({}),
        retry_after: None,
    });
    let (code, details) = match (no.code, outcome) {
        (code, Outcome::Refused(Refusal::Denied(judgement))) => {
            (code, json!({"policy": judgement.policy(), "reason": judgement.reason}))
        }
        (code @ ("jwt_required" | "jwt_invalid" | "account_required"), _) => {
            let mut details = no.details.clone();
            if let Some(members) = details.as_object_mut() {
                members.insert("reason".into(), json!(code));
            }
            ("unauthorized", details)
        }
        // These pages have no word of their own for it.
        (code @ ("audit_unavailable" | "stopping" | "cancelled"), _) => {
            ("internal_error", json!({"reason": code, "retryable": true}))
        }
        (code, _) => (code, no.details.clone()),
    };
    let message = match outcome {
        Outcome::Refused(Refusal::Denied(judgement)) => format!("Request denied by policy: {}", judgement.policy()),
        _ => no.message.clone(),
    };
    (no, json!({"code": code, "message": message, "details": details}))
}

/// What a program wants of a result: the structured content, else the JSON of a sole text block, else all of it.
fn short(answer: &Answer) -> Json {
    #[derive(Deserialize)]
    struct Shape<'a> {
        #[serde(borrow, rename = "structuredContent")]
        structured: Option<&'a RawValue>,
        #[serde(borrow, default)]
        content: Vec<&'a RawValue>,
    }
    #[derive(Deserialize)]
    struct Block {
        r#type: String,
        text: String,
    }
    let bytes = answer.result.bytes();
    let Ok(shape) = serde_json::from_slice::<Shape<'_>>(bytes) else { return answer.result.clone() };
    if let Some(structured) = shape.structured {
        return Json::slice_of(bytes, structured);
    }
    let sole = match shape.content.as_slice() {
        [block] => serde_json::from_str::<Block>(block.get()).ok().filter(|block| block.r#type == "text"),
        _ => None,
    };
    let inner = sole.and_then(|block| Json::parse(Bytes::from(block.text)).ok());
    inner.unwrap_or_else(|| answer.result.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(result: &str) -> String {
        let result = Json::parse(Bytes::copy_from_slice(result.as_bytes())).unwrap();
        short(&Answer { result, is_error: false, cached: false, partial: false }).as_str().to_owned()
    }

    #[test]
    fn a_result_in_short_keeps_its_bytes() {
        let structured = r#"{"content":[{"type":"text","text":"{}"}],"structuredContent":{ "n": 1.50e2 }}"#;
        assert_eq!(told(structured), r#"{ "n": 1.50e2 }"#);
        assert_eq!(told(r#"{"structuredContent":null,"content":[{"type":"text","text":"[1, 2.0]"}]}"#), "[1, 2.0]");
        for whole in [
            r#"{"content":[{"type":"text","text":"done"}]}"#,
            r#"{"content":[{"type":"text","text":"{} {}"}]}"#,
            r#"{"content":[{"type":"text","text":"{}"},{"type":"text","text":"{}"}]}"#,
            r#"{"content":[{"type":"image","data":"","mimeType":"x"}]}"#,
            r#"{"content":[]}"#,
            r#"{"content":3}"#,
            r#"{}"#,
        ] {
            assert_eq!(told(whole), whole);
        }
    }

    #[test]
    fn the_input_is_an_object_or_absent() {
        let read = |text: &str| input(&Bytes::copy_from_slice(text.as_bytes()));
        assert_eq!(read(r#"{"input": { "limit" : 5 } }"#).unwrap().unwrap().as_str(), r#"{ "limit" : 5 }"#);
        assert!(read("{}").unwrap().is_none() && read("").unwrap().is_none());
        assert_eq!(read(r#"{"input":[]}"#).unwrap_err(), "input must be an object");
        assert_eq!(read(r#"{"inputs":{}}"#).unwrap_err(), "unknown member `inputs`: known are `input`");
        assert!(read(r#"{"input":{},"input":{}}"#).is_err());
    }
}
