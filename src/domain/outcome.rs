//! How a call ended.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;
use serde_json::Value;

use super::approval::Awaited;
use super::audit::Decision;
use super::decision::Judgement;
use super::dlp::{Direction, DlpResult};
use super::id::{EventId, ServerName};
use super::json::Json;
use super::tool::{Kind, Tool};

/// The end of a call. One per request, and final.
#[derive(Debug)]
pub enum Outcome {
    Answered(Answer),
    Refused(Refusal),
    Failed(UpstreamError),
    /// Nobody waits for the answer any more.
    Cancelled,
}

impl Outcome {
    /// A door's answer, which is counted for what the backend's answer takes; see [`Json::beside`].
    #[must_use]
    pub fn beside(&self, answer: impl Into<Bytes>) -> Bytes {
        match self {
            Self::Answered(told) => told.result.beside(answer),
            Self::Refused(_) | Self::Failed(_) | Self::Cancelled => answer.into(),
        }
    }
}

/// What the backend said.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The MCP result, as the bytes that came.
    pub result: Json,
    /// The tool's own error flag.
    pub is_error: bool,
    /// Served from the response cache.
    pub cached: bool,
    /// It is not the end: it asks for input, or names a task.
    pub partial: bool,
}

/// Where arguments do not fit the schema.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SchemaFault {
    /// JSON Pointer into the arguments; empty for the whole.
    pub path: String,
    /// What was expected there.
    pub expected: String,
}

impl fmt::Display for SchemaFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.expected)
    }
}

/// Arguments that do not fit, and what would.
#[derive(Debug, Clone)]
pub struct Misfit {
    pub tool: String,
    pub faults: Vec<SchemaFault>,
    /// The arguments corrected, where that can be done.
    pub example: Option<Value>,
    pub schema: Arc<Value>,
}

/// A server is asked with an account of the caller's, and there is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoAccount {
    pub server: ServerName,
    /// The provider's name in paths.
    pub provider: Arc<str>,
    /// Its name for people.
    pub title: Arc<str>,
    /// What is wrong with the account.
    pub why: String,
    /// Where one is connected.
    pub connect: String,
}

impl NoAccount {
    fn sentence(&self) -> String {
        let Self { server, title, why, connect, .. } = self;
        format!(
            "the server `{server}` is asked with your own account with {title}, and {why}: connect it with `POST {connect}`, \
             then call again"
        )
    }
}

/// The gateway's own no.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Refusal {
    #[error("unknown tool `{asked}`")]
    UnknownTool { asked: String, nearest: Vec<String> },
    #[error("unknown prompt `{name}`")]
    UnknownPrompt { name: String },
    #[error("resource not found")]
    UnknownResource { uri: String },
    #[error("`{asked}` names more than one tool: {}", readings.join(", "))]
    Ambiguous { asked: String, readings: Vec<String> },
    #[error("the key lacks the scope `{scope}`")]
    InsufficientScope { asked: String, scope: &'static str },
    #[error("{message}")]
    InvalidRequest { message: String },
    /// What an own tool was asked about.
    #[error("{message}")]
    NotFound { message: String },
    #[error("the arguments of `{}` do not fit its schema", .0.tool)]
    InvalidArguments(Box<Misfit>),
    #[error("request denied by policy: {}", .0.policy())]
    Denied(Box<Judgement>),
    #[error("approval needed: {}", .0.judgement.policy())]
    ApprovalNeeded(Box<Awaited>),
    /// Something stood in it that may not travel. `rules` say what, never how it reads.
    #[error("{} by policy: dlp:{direction} ({})", refused(*direction), rules.join(", "))]
    DlpBlocked { direction: Direction, rules: Vec<&'static str> },
    #[error("{}", server_jwt(server, fault.as_deref()))]
    ServerJwt {
        server: ServerName,
        /// Why the token is refused; absent where there is none.
        fault: Option<String>,
    },
    #[error("{}", .0.sentence())]
    NoAccount(Box<NoAccount>),
    #[error("over the limit of {limit} on {scope}: try again in {retry_after} s")]
    LimitReached { scope: String, limit: String, retry_after: u64 },
    #[error("the audit log cannot be written, so nothing is called: {0}")]
    Unrecorded(String),
    /// It waited, and its caller would not be admitted any more.
    #[error("the credential of this call may not be used any more, so nothing is called")]
    NoLongerAdmitted,
    #[error("the gateway is stopping")]
    Stopping,
    #[error("an internal error: the log says more under the request's id")]
    Internal,
}

impl Refusal {
    /// Whether what was asked for does not exist for the caller, for whatever reason.
    #[must_use]
    pub const fn hides(&self) -> bool {
        matches!(
            self,
            Self::UnknownTool { .. }
                | Self::UnknownPrompt { .. }
                | Self::UnknownResource { .. }
                | Self::InsufficientScope { .. }
        )
    }

    /// What the refusal says was decided. Absent where that stands: the call was made, its answer alone is kept back.
    #[must_use]
    pub const fn decision(&self) -> Option<Decision> {
        match self {
            Self::DlpBlocked { direction: Direction::Results, .. } => None,
            Self::ApprovalNeeded(_) => Some(Decision::Approval),
            Self::Denied(_)
            | Self::UnknownTool { .. }
            | Self::UnknownPrompt { .. }
            | Self::UnknownResource { .. }
            | Self::InsufficientScope { .. }
            | Self::DlpBlocked { direction: Direction::Arguments, .. }
            | Self::ServerJwt { .. }
            | Self::NoAccount(_)
            | Self::NoLongerAdmitted
            | Self::LimitReached { .. } => Some(Decision::Deny),
            Self::Ambiguous { .. }
            | Self::InvalidRequest { .. }
            | Self::NotFound { .. }
            | Self::InvalidArguments(_)
            | Self::Unrecorded(_)
            | Self::Stopping
            | Self::Internal => Some(Decision::Error),
        }
    }

    /// What refused, by its name in answers, records and figures; absent where it is no rule.
    #[must_use]
    pub fn rule(&self) -> Option<Arc<str>> {
        match self {
            Self::Denied(judgement) => Some(judgement.policy().into()),
            Self::ApprovalNeeded(awaited) => Some(awaited.judgement.policy().into()),
            Self::DlpBlocked { direction, .. } => Some(format!("dlp:{direction}").into()),
            Self::ServerJwt { server, .. } => Some(format!("jwt:{server}").into()),
            Self::NoAccount(no) => Some(format!("provider:{}", no.provider).into()),
            Self::LimitReached { scope, .. } => Some(format!("limit:{scope}").into()),
            Self::UnknownTool { .. }
            | Self::UnknownPrompt { .. }
            | Self::UnknownResource { .. }
            | Self::Ambiguous { .. }
            | Self::InsufficientScope { .. }
            | Self::InvalidRequest { .. }
            | Self::NotFound { .. }
            | Self::InvalidArguments(_)
            | Self::Unrecorded(_)
            | Self::Stopping
            | Self::NoLongerAdmitted
            | Self::Internal => None,
        }
    }

    /// A stable word for programs.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::UnknownTool { .. } => "unknown_tool",
            Self::UnknownPrompt { .. } => "unknown_prompt",
            Self::UnknownResource { .. } => "unknown_resource",
            Self::Ambiguous { .. } => "ambiguous_tool",
            Self::InsufficientScope { .. } => "insufficient_scope",
            Self::InvalidRequest { .. } => "invalid_request",
            Self::NotFound { .. } => "not_found",
            Self::InvalidArguments(_) => "invalid_arguments",
            Self::Denied(_) | Self::DlpBlocked { .. } => "policy_denied",
            Self::ApprovalNeeded(_) => "approval_required",
            Self::ServerJwt { fault: None, .. } => "jwt_required",
            Self::ServerJwt { .. } => "jwt_invalid",
            Self::NoAccount(_) => "account_required",
            Self::LimitReached { .. } => "rate_limited",
            Self::Unrecorded(_) => "audit_unavailable",
            Self::NoLongerAdmitted => "unauthorized",
            Self::Stopping => "stopping",
            Self::Internal => "internal_error",
        }
    }
}

const fn refused(direction: Direction) -> &'static str {
    match direction {
        Direction::Arguments => "request denied",
        Direction::Results => "answer withheld",
    }
}

fn server_jwt(server: &ServerName, fault: Option<&str>) -> String {
    match fault {
        None => format!(
            "the server `{server}` needs a JWT of the caller: send it in the header `X-Server-JWT`, as \
             `_meta[\"toolgate/jwt\"]`, or as `jwt` over REST"
        ),
        Some(fault) => format!("the JWT for the server `{server}` is refused: {fault}"),
    }
}

/// Why a backend gave no result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UpstreamFault {
    /// Not connected, refused, crashed, or the breaker is open.
    Down,
    /// No answer in time.
    Timeout,
    /// It answered something that is not MCP.
    Garbled,
    /// It is busy: its own limit or ours on calls in flight.
    Busy,
    /// It answered with a JSON-RPC error: the error object as it came.
    Rpc(Json),
}

impl UpstreamFault {
    /// In one word, as callers read it.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Down => "backend_down",
            Self::Timeout => "backend_timeout",
            Self::Garbled => "backend_garbled",
            Self::Busy => "backend_busy",
            Self::Rpc(_) => "backend_error",
        }
    }
}

/// Why a list of a server's is not shown.
#[derive(Debug)]
pub enum Unlisted {
    Refused(Refusal),
    /// The server gives none, and never did.
    Failed(UpstreamError),
}

/// A call that was permitted and did not come back with a result.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct UpstreamError {
    pub fault: UpstreamFault,
    /// For the caller: says which server and what to do, nothing of its inside.
    pub message: String,
    /// Whether the same call may be sent again.
    pub retryable: bool,
    /// Whether it had no effect for sure.
    pub without_effect: bool,
    /// `closed`, `open` or `half-open`.
    pub breaker: &'static str,
    /// Seconds after which another try makes sense.
    pub retry_after: Option<u64>,
}

/// What the governance block says of a call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Governance {
    /// `allow`, `deny`, `approval` or `error`.
    pub decision: &'static str,
    pub policy: Arc<str>,
    pub dlp_result: DlpResult,
    pub audit_event_id: EventId,
}

/// A finished call: its outcome and what the record says of it.
#[derive(Debug)]
pub struct Carried {
    pub outcome: Outcome,
    pub governance: Governance,
    /// What was asked for, whether it was found or not.
    pub kind: Kind,
    /// The tool that was resolved, where one was.
    pub tool: Option<Arc<Tool>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(refusal: &Refusal) -> (Option<&'static str>, Option<String>) {
        (refusal.decision().map(Decision::as_str), refusal.rule().map(|rule| rule.to_string()))
    }

    #[test]
    fn a_refusal_says_what_was_decided_and_what_refused() {
        let server: ServerName = "up".parse().unwrap();
        let no = NoAccount {
            server: server.clone(),
            provider: "github".into(),
            title: "GitHub".into(),
            why: "none is connected".into(),
            connect: "/".into(),
        };
        let blocked = |direction| Refusal::DlpBlocked { direction, rules: vec!["email"] };
        for (refusal, decision, rule) in [
            (Refusal::NoAccount(Box::new(no)), Some("deny"), Some("provider:github")),
            (Refusal::ServerJwt { server, fault: None }, Some("deny"), Some("jwt:up")),
            (blocked(Direction::Arguments), Some("deny"), Some("dlp:arguments")),
            (blocked(Direction::Results), None, Some("dlp:results")),
            (Refusal::UnknownPrompt { name: "p".into() }, Some("deny"), None),
            (Refusal::NotFound { message: "no".into() }, Some("error"), None),
            (Refusal::Internal, Some("error"), None),
        ] {
            assert_eq!(named(&refusal), (decision, rule.map(str::to_owned)), "{refusal}");
        }
    }
}
