//! REST: what its doors read of a body, and how a call that gave no result is told over HTTP. One file a shape.

pub mod brain_schema;
pub mod evals;
pub mod invoke;
pub mod judged_schema;
pub mod provider_schema;
pub mod schema;
pub mod shield;
pub mod shield_schema;
pub mod tools;

use std::collections::HashMap;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::mcp::{details, upstream_details};
use crate::domain::json::Json;
use crate::domain::outcome::{Carried, Misfit, Outcome, Refusal, UpstreamError, UpstreamFault};
use crate::domain::strict;

/// The members of a body, as text. It may hold a caller's token, so that it has no `Debug`.
pub(crate) struct Body<'a> {
    whole: &'a Bytes,
    text: &'a RawValue,
    members: HashMap<String, &'a RawValue>,
}

impl<'a> Body<'a> {
    /// Reads one object.
    ///
    /// # Errors
    /// A sentence for the caller, where the bytes are something else or could be read in two ways.
    pub(crate) fn read(whole: &'a Bytes) -> Result<Self, String> {
        let text: &RawValue =
            serde_json::from_slice(whole).map_err(|error| format!("the body is not JSON: {error}"))?;
        strict::check(text.get()).map_err(|unfit| format!("the body cannot be read: {unfit}"))?;
        if !text.get().starts_with('{') {
            return Err("the body must be an object".into());
        }
        let members = serde_json::from_str(text.get()).map_err(|error| format!("the body cannot be read: {error}"))?;
        Ok(Self { whole, text, members })
    }

    /// All of it, as a type that names its members.
    ///
    /// # Errors
    /// A sentence for the caller, which may quote what stands in the body.
    pub(crate) fn typed<T: DeserializeOwned>(&self) -> Result<T, String> {
        serde_json::from_str(self.text.get()).map_err(|error| error.to_string())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// A member that is there and not null.
    fn member(&self, name: &str) -> Option<&'a RawValue> {
        self.members.get(name).copied().filter(|text| text.get() != "null")
    }

    /// Refuses members of other names.
    ///
    /// # Errors
    /// Where there is one.
    pub(crate) fn only(&self, known: &[&str]) -> Result<(), String> {
        let mut unknown: Vec<&String> = self.members.keys().filter(|name| !known.contains(&name.as_str())).collect();
        unknown.sort_unstable();
        let Some(name) = unknown.first() else { return Ok(()) };
        let known: Vec<String> = known.iter().map(|name| format!("`{name}`")).collect();
        Err(format!("unknown member `{name}`: known are {}", known.join(", ")))
    }

    /// A string.
    ///
    /// # Errors
    /// Where it is something else.
    pub(crate) fn text(&self, name: &str) -> Result<Option<String>, String> {
        let read = |text: &RawValue| serde_json::from_str(text.get()).map_err(|_| format!("{name} must be a string"));
        self.member(name).map(read).transpose()
    }

    /// A string that has to be there.
    ///
    /// # Errors
    /// Where it is missing, empty or something else.
    pub(crate) fn required(&self, name: &str) -> Result<String, String> {
        self.text(name)?.filter(|text| !text.is_empty()).ok_or_else(|| format!("{name} is required"))
    }

    /// An object, as the bytes that came.
    ///
    /// # Errors
    /// Where it is something else.
    pub(crate) fn object(&self, name: &str) -> Result<Option<Json>, String> {
        let Some(text) = self.member(name) else { return Ok(None) };
        let fits = text.get().starts_with('{');
        if fits { Ok(Some(Json::slice_of(self.whole, text))) } else { Err(format!("{name} must be an object")) }
    }
}

/// What goes back over HTTP.
#[derive(Debug)]
pub struct Told {
    pub status: u16,
    pub body: String,
    pub retry_after: Option<u64>,
}

/// A call that gave no result.
#[derive(Debug, Clone, PartialEq)]
pub struct Unanswered {
    pub status: u16,
    /// One of the words that every REST door has for it.
    pub code: &'static str,
    pub message: String,
    /// What a program can act on.
    pub details: Value,
    pub retry_after: Option<u64>,
}

/// How a call that gave no result is told over HTTP; `None` where it gave one, the tool's own error included.
#[must_use]
pub fn unanswered(carried: &Carried) -> Option<Unanswered> {
    match &carried.outcome {
        Outcome::Answered(_) => None,
        Outcome::Refused(refusal) => Some(refused(refusal)),
        Outcome::Failed(error) => Some(failed(error)),
        Outcome::Cancelled => Some(Unanswered {
            status: 503,
            code: "cancelled",
            message: "the call was cancelled".into(),
            details: json!({}),
            retry_after: None,
        }),
    }
}

fn refused(refusal: &Refusal) -> Unanswered {
    let (status, code) = match refusal {
        Refusal::UnknownTool { .. }
        | Refusal::UnknownPrompt { .. }
        | Refusal::UnknownResource { .. }
        | Refusal::NotFound { .. } => (404, "not_found"),
        Refusal::InsufficientScope { .. } => (403, "insufficient_scope"),
        Refusal::Ambiguous { .. } | Refusal::InvalidRequest { .. } | Refusal::InvalidArguments(_) => {
            (400, "invalid_request")
        }
        Refusal::Denied(_) | Refusal::DlpBlocked { .. } => (403, "policy_denied"),
        Refusal::ServerJwt { .. } | Refusal::NoAccount(_) => (403, refusal.code()),
        Refusal::ApprovalNeeded(_) => (202, "approval_required"),
        Refusal::LimitReached { .. } => (429, "rate_limited"),
        Refusal::Unrecorded(_) => (503, "audit_unavailable"),
        Refusal::NoLongerAdmitted => (401, "unauthorized"),
        Refusal::Stopping => (503, "stopping"),
        Refusal::Internal => (500, "internal_error"),
    };
    let retry_after = match refusal {
        Refusal::LimitReached { retry_after, .. } => Some(*retry_after),
        _ => None,
    };
    Unanswered { status, code, message: sentence(refusal), details: refused_details(refusal), retry_after }
}

/// What is wrong, in one line.
fn sentence(refusal: &Refusal) -> String {
    match refusal {
        Refusal::InvalidArguments(misfit) => faults(misfit),
        Refusal::Denied(judgement) => {
            format!("request denied by policy: {}: {}", judgement.policy(), judgement.reason)
        }
        Refusal::ApprovalNeeded(awaited) => {
            format!("approval needed: {}: {}", awaited.judgement.policy(), awaited.judgement.reason)
        }
        other => other.to_string(),
    }
}

fn faults(misfit: &Misfit) -> String {
    misfit.faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// The details that MCP gives, but for what stands beside them here.
fn refused_details(refusal: &Refusal) -> Value {
    match refusal {
        Refusal::UnknownTool { nearest, .. } => json!({"nearest": nearest}),
        Refusal::Ambiguous { readings, .. } => json!({"readings": readings}),
        Refusal::InsufficientScope { scope, .. } => json!({"scope": scope}),
        _ => without_words(details(refusal)),
    }
}

fn without_words(mut details: Value) -> Value {
    if let Some(members) = details.as_object_mut() {
        members.remove("code");
        members.remove("message");
    }
    details
}

fn failed(error: &UpstreamError) -> Unanswered {
    let (status, code) = match error.fault {
        UpstreamFault::Timeout => (504, "backend_timeout"),
        UpstreamFault::Busy => (503, "backend_error"),
        UpstreamFault::Down | UpstreamFault::Garbled | UpstreamFault::Rpc(_) => (502, "backend_error"),
    };
    let mut details = without_words(upstream_details(error));
    if let (UpstreamFault::Rpc(object), Some(members)) = (&error.fault, details.as_object_mut()) {
        members.insert("error".into(), object.value());
    }
    Unanswered { status, code, message: error.message.clone(), details, retry_after: error.retry_after }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_one_object_that_reads_one_way() {
        for (text, why) in [
            ("", "the body is not JSON: EOF while parsing a value at line 1 column 0"),
            ("[]", "the body must be an object"),
            ("\"x\"", "the body must be an object"),
            ("{} {}", "the body is not JSON: trailing characters at line 1 column 4"),
            (r#"{"a":1,"a":2}"#, "the body cannot be read: the member `a` stands twice in one object"),
        ] {
            assert_eq!(Body::read(&Bytes::from(text)).err().as_deref(), Some(why), "{text}");
        }
    }

    #[test]
    fn members_keep_their_bytes_and_their_types() {
        let bytes = Bytes::from_static(br#" {"a": "x", "n": null, "o": { "k" : 1.50e2 }, "e": "", "\u0062": "y"}"#);
        let Ok(body) = Body::read(&bytes) else { panic!("an object") };
        assert_eq!(body.required("a").as_deref(), Ok("x"));
        assert_eq!(body.required("b").as_deref(), Ok("y"));
        assert_eq!(body.object("o").unwrap().unwrap().as_str(), r#"{ "k" : 1.50e2 }"#);
        assert_eq!((body.text("n"), body.object("n")), (Ok(None), Ok(None)));
        assert_eq!(body.required("e"), Err("e is required".into()));
        assert_eq!(body.text("o"), Err("o must be a string".into()));
        assert_eq!(body.object("a"), Err("a must be an object".into()));
    }
}
