//! A finished call as MCP tells it: a tool result that the model can act on, or a protocol error.

use serde_json::{Value, json};

use super::era::Era;
use super::hop::{error_for, member};
use super::rpc::RpcError;
use super::splice::{Additions, splice};
use crate::domain::approval::Awaited;
use crate::domain::decision::Judgement;
use crate::domain::dlp::Direction;
use crate::domain::json::Json;
use crate::domain::outcome::{Carried, Governance, Outcome, Refusal, UpstreamError, UpstreamFault};
use crate::domain::tool::Kind;

/// The gateway as it names itself in `serverInfo`.
pub const SERVER_INFO: &str =
    concat!("{\"name\":\"toolgate\",\"title\":\"Toolgate\",\"version\":\"", env!("CARGO_PKG_VERSION"), "\"}");
/// The `_meta` member that carries it on modern results.
pub const SERVER_INFO_KEY: &str = "io.modelcontextprotocol/serverInfo";
/// The `_meta` member that says what was decided.
pub const GOVERNANCE_KEY: &str = "toolgate/governance";

const COMPLETE: (&str, &str) = ("resultType", "\"complete\"");
/// What a modern client is told of a resource: no policy says yet how long one may be kept.
const UNCACHED: [(&str, &str); 3] = [COMPLETE, ("ttlMs", "0"), ("cacheScope", "\"private\"")];

/// What goes back over HTTP.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    /// The `result` or the `error` object.
    pub body: Result<Json, Json>,
    pub retry_after: Option<u64>,
}

impl Reply {
    #[must_use]
    pub fn result(result: Json) -> Self {
        Self { status: 200, body: Ok(result), retry_after: None }
    }

    #[must_use]
    pub fn error(error: &RpcError) -> Self {
        Self { status: error.status, body: Err(error.object()), retry_after: None }
    }
}

/// Tells a host or a script how a call ended. A host gets refusals as tool results, since many hosts take an HTTP
/// error for a dead server; a script gets 429 where it is over a limit. A prompt or a resource has no result that could
/// say no: there everything but an answer is a JSON-RPC error.
#[must_use]
pub fn tell(carried: &Carried, era: Era, host: bool) -> Reply {
    tell_as(carried, carried.kind, era, host)
}

/// The same for a request whose result is that of another kind.
#[must_use]
pub fn tell_as(carried: &Carried, kind: Kind, era: Era, host: bool) -> Reply {
    match (&carried.outcome, kind) {
        (Outcome::Answered(answer), Kind::Resource) if era == Era::Modern => {
            Reply::result(with_governance(&answer.result, &carried.governance, &UNCACHED))
        }
        (Outcome::Answered(answer), _) => Reply::result(stamped(&answer.result, &carried.governance, era)),
        (Outcome::Refused(refusal), Kind::Tool) => refused(refusal, &carried.governance, era, host),
        (Outcome::Refused(refusal), kind) => unread(refusal, kind, era, host),
        (Outcome::Failed(error), Kind::Tool) => failed(error, &carried.governance, era),
        (Outcome::Failed(error), kind) => unserved(error, kind, era),
        (Outcome::Cancelled, _) => Reply::error(&RpcError::new(200, -32603, "the call was cancelled")),
    }
}

/// A result with the gateway's marks: governance, and what the client's era asks of every result.
#[must_use]
pub fn stamped(result: &Json, governance: &Governance, era: Era) -> Json {
    match era {
        Era::Legacy => {
            let governance = Json::of(governance);
            splice(result, Additions { members: &[], meta: &[(GOVERNANCE_KEY, governance.as_str())] })
        }
        Era::Modern => with_governance(result, governance, &[COMPLETE]),
    }
}

fn with_governance(result: &Json, governance: &Governance, members: &[(&str, &str)]) -> Json {
    let governance = Json::of(governance);
    let meta = [(GOVERNANCE_KEY, governance.as_str()), (SERVER_INFO_KEY, SERVER_INFO)];
    splice(result, Additions { members, meta: &meta })
}

/// A result that asks a modern client for something, with the gateway's marks.
#[must_use]
pub fn asking(result: &Json, governance: &Governance) -> Reply {
    Reply::result(with_governance(result, governance, &[("resultType", "\"input_required\"")]))
}

/// A task in place of the result of a call (the extension of tasks), known for so many milliseconds.
#[must_use]
pub fn begun_task(task: &Json, lifetime: i64) -> Json {
    let lifetime = lifetime.to_string();
    let members = [("resultType", "\"task\""), ("ttlMs", &*lifetime)];
    splice(task, Additions { members: &members, meta: &[(SERVER_INFO_KEY, SERVER_INFO)] })
}

/// A result of the gateway itself, such as a list: `extra` holds what a modern client is told besides.
#[must_use]
pub fn own_result(result: &Json, era: Era, extra: &[(&str, &str)]) -> Json {
    match era {
        Era::Legacy => result.clone(),
        Era::Modern => {
            let mut members = vec![COMPLETE];
            members.extend_from_slice(extra);
            splice(result, Additions { members: &members, meta: &[(SERVER_INFO_KEY, SERVER_INFO)] })
        }
    }
}

fn tool_error(text: &str, details: &Value, governance: &Governance, era: Era) -> Reply {
    let result =
        json!({"content": [{"type": "text", "text": text}], "structuredContent": {"error": details}, "isError": true});
    Reply::result(stamped(&Json::of(&result), governance, era))
}

fn refused(refusal: &Refusal, governance: &Governance, era: Era, host: bool) -> Reply {
    match refusal {
        Refusal::UnknownTool { asked, nearest } => Reply::error(
            &RpcError::new(200, -32602, format!("unknown tool `{asked}`")).with(json!({"nearest": nearest})),
        ),
        // An own tool that the key's scopes do not open looks like one that is not there.
        Refusal::InsufficientScope { asked, .. } => {
            Reply::error(&RpcError::new(200, -32602, format!("unknown tool `{asked}`")).with(json!({"nearest": []})))
        }
        Refusal::Ambiguous { readings, .. } => {
            Reply::error(&RpcError::new(200, -32602, refusal.to_string()).with(json!({"readings": readings})))
        }
        Refusal::InvalidRequest { message } => Reply::error(&RpcError::new(200, -32602, message.clone())),
        Refusal::LimitReached { retry_after, .. } if !host => over_limit(refusal, *retry_after),
        _ => tool_error(&advice(refusal), &details(refusal), governance, era),
    }
}

/// A script over its limit.
fn over_limit(refusal: &Refusal, retry_after: u64) -> Reply {
    let error = RpcError::new(429, 429, refusal.to_string()).with(json!({"retry_after": retry_after}));
    Reply { retry_after: Some(retry_after), ..Reply::error(&error) }
}

/// The answer about a prompt that does not exist for the caller.
fn unknown_prompt(name: &str) -> RpcError {
    RpcError::new(200, -32602, format!("unknown prompt `{name}`"))
}

/// The answer about a resource that does not exist for the caller; the eras have different numbers for it.
fn unknown_resource(uri: &str, era: Era) -> RpcError {
    let code = if era == Era::Modern { -32602 } else { -32002 };
    RpcError::new(200, code, "resource not found").with(json!({"uri": uri}))
}

/// A refusal of what has no result that could say no.
#[must_use]
pub fn refusal(refusal: &Refusal, era: Era, host: bool) -> Reply {
    unread(refusal, Kind::Prompt, era, host)
}

/// A refusal to read, as an error: the number is HTTP's for the like, outside what JSON-RPC keeps for itself.
fn unread(refusal: &Refusal, kind: Kind, era: Era, host: bool) -> Reply {
    let error = |code| RpcError::new(200, code, advice(refusal)).with(details(refusal));
    Reply::error(&match refusal {
        Refusal::UnknownResource { uri: asked } | Refusal::InsufficientScope { asked, .. }
            if kind == Kind::Resource =>
        {
            unknown_resource(asked, era)
        }
        Refusal::UnknownPrompt { name: asked } | Refusal::InsufficientScope { asked, .. } => unknown_prompt(asked),
        Refusal::LimitReached { retry_after, .. } if !host => return over_limit(refusal, *retry_after),
        Refusal::LimitReached { .. } => error(429),
        Refusal::Denied(_) | Refusal::DlpBlocked { .. } | Refusal::ServerJwt { .. } | Refusal::NoAccount(_) => {
            error(403)
        }
        Refusal::ApprovalNeeded(_) => error(409),
        Refusal::NoLongerAdmitted => error(401),
        Refusal::Unrecorded(_) | Refusal::Stopping => error(503),
        Refusal::Internal => error(-32603),
        Refusal::InvalidRequest { .. }
        | Refusal::NotFound { .. }
        | Refusal::InvalidArguments(_)
        | Refusal::UnknownTool { .. }
        | Refusal::UnknownResource { .. }
        | Refusal::Ambiguous { .. } => RpcError::new(200, -32602, refusal.to_string()),
    })
}

/// A failure to read, as an error; the backend's own passes.
fn unserved(error: &UpstreamError, kind: Kind, era: Era) -> Reply {
    let method = if kind == Kind::Resource { "resources/read" } else { "prompts/get" };
    let code = match &error.fault {
        UpstreamFault::Rpc(object) if !is_of_the_hop(object) => return passed_on(object, era, method),
        UpstreamFault::Rpc(_) => -32603,
        UpstreamFault::Timeout => 504,
        UpstreamFault::Busy => 503,
        UpstreamFault::Down | UpstreamFault::Garbled => 502,
    };
    Reply::error(&RpcError::new(200, code, failure(error)).with(upstream_details(error)))
}

/// The sentence that a model reads.
#[must_use]
pub fn advice(refusal: &Refusal) -> String {
    match refusal {
        Refusal::InvalidArguments(misfit) => {
            let mut text = format!("The arguments of {} do not fit its schema:", misfit.tool);
            for fault in &misfit.faults {
                let place = if fault.path.is_empty() { "arguments" } else { &fault.path };
                text.push_str(&format!("\n- {place}: {}", fault.expected));
            }
            if let Some(example) = &misfit.example {
                text.push_str(&format!("\nThis would fit: {example}"));
            }
            text.push_str("\nNothing was called. Correct the arguments and call again.");
            text
        }
        Refusal::Denied(judgement) => {
            format!(
                "Denied by policy {}{}: {} Nothing was called. Do not retry the same call; policy.simulate shows what would be allowed.",
                judgement.policy(),
                place(judgement),
                sentence(&judgement.reason)
            )
        }
        Refusal::ApprovalNeeded(awaited) => {
            let Awaited { judgement, ticket } = &**awaited;
            format!(
                "Approval needed by policy {}{}: {} Nothing was called. A person has to approve exactly this call, until \
                 {}: approval {}, {}. Then make the identical call again; changed arguments are another call.",
                judgement.policy(),
                place(judgement),
                sentence(&judgement.reason),
                ticket.expires.rfc3339(),
                ticket.id,
                ticket.url
            )
        }
        Refusal::DlpBlocked { direction: Direction::Arguments, rules } => {
            format!(
                "Denied by policy dlp:arguments: the arguments hold what must not travel ({}). Nothing was called. Take it out and call again.",
                rules.join(", ")
            )
        }
        Refusal::DlpBlocked { direction: Direction::Results, rules } => {
            format!(
                "Withheld by policy dlp:results: the answer holds what must not travel ({}). The call was made; do not repeat it to get the answer.",
                rules.join(", ")
            )
        }
        Refusal::LimitReached { scope, limit, retry_after } => {
            format!("Over the limit of {limit} on {scope}. Nothing was called. Try again in {retry_after} seconds.")
        }
        other => format!("{}.", capitalised(&other.to_string())),
    }
}

fn sentence(reason: &str) -> String {
    let text = capitalised(reason.trim_end());
    if text.ends_with(['.', '!', '?']) { text } else { format!("{text}.") }
}

fn capitalised(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

/// ` (file:line)` of the rule that decided.
fn place(judgement: &Judgement) -> String {
    let rule = judgement.rules.iter().find(|rule| *rule.id == *judgement.policy());
    match rule.and_then(|rule| rule.file.as_ref().zip(rule.line)) {
        Some((file, line)) => format!(" ({file}:{line})"),
        None => String::new(),
    }
}

/// The same for programs.
#[must_use]
pub fn details(refusal: &Refusal) -> Value {
    let code = refusal.code();
    match refusal {
        Refusal::InvalidArguments(misfit) => json!({
            "code": code,
            "tool": misfit.tool,
            "faults": misfit.faults,
            "example": misfit.example,
            "input_schema": misfit.schema,
        }),
        Refusal::Denied(judgement) => judged(judgement.code.unwrap_or(code), judgement),
        Refusal::ApprovalNeeded(awaited) => {
            let mut details = judged(code, &awaited.judgement);
            if let Some(members) = details.as_object_mut() {
                members.insert("approval".into(), json!(awaited.ticket));
            }
            details
        }
        Refusal::DlpBlocked { direction, rules } => json!({
            "code": code,
            "policy": format!("dlp:{direction}"),
            "reason": refusal.to_string(),
            "dlp": {"direction": direction, "rules": rules},
        }),
        Refusal::LimitReached { scope, limit, retry_after } => {
            json!({"code": code, "scope": scope, "limit": limit, "retry_after": retry_after, "retryable": true})
        }
        Refusal::Unrecorded(_) | Refusal::Stopping => {
            json!({"code": code, "message": refusal.to_string(), "retryable": true})
        }
        Refusal::NoAccount(no) => {
            json!({"code": code, "message": refusal.to_string(), "provider": no.provider, "connect": no.connect})
        }
        other => json!({"code": code, "message": other.to_string()}),
    }
}

fn judged(code: &str, judgement: &Judgement) -> Value {
    json!({
        "code": code,
        "policy": judgement.policy(),
        "reason": judgement.reason,
        "policies": judgement.rules,
        "effects": judgement.effects,
    })
}

fn failed(error: &UpstreamError, governance: &Governance, era: Era) -> Reply {
    match &error.fault {
        UpstreamFault::Rpc(object) if !is_of_the_hop(object) => passed_on(object, era, "tools/call"),
        _ => tool_error(&failure(error), &upstream_details(error), governance, era),
    }
}

/// A backend's own error.
fn passed_on(object: &Json, era: Era, method: &str) -> Reply {
    Reply { status: 200, body: Err(error_for(object, era, method)), retry_after: None }
}

/// Whether a backend's error is about headers, capabilities or revision of the gateway's own request: a client would take it
/// to be about its.
fn is_of_the_hop(error: &Json) -> bool {
    member(Some(error), "code")
        .and_then(|code| code.decode().ok())
        .is_some_and(|code: i64| (-32022..=-32020).contains(&code))
}

/// The sentence about a failure. The message says already whether the call may be repeated.
fn failure(error: &UpstreamError) -> String {
    let wait = error.retry_after.map(|seconds| format!(" Wait {seconds} seconds first.")).unwrap_or_default();
    format!("{}.{wait}", capitalised(&error.message))
}

/// A backend's failure for programs.
#[must_use]
pub fn upstream_details(error: &UpstreamError) -> Value {
    json!({"code": error.fault.code(), "message": error.message, "retryable": error.retryable, "breaker": error.breaker, "retry_after": error.retry_after})
}
