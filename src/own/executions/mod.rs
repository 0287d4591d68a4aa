//! `executions.list` and `executions.get`: calls that were made, from the audit log.
//!
//! Who may not read the audit log sees what the same user did, and nothing of others.

mod tree;

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::eval::Evals;
use super::{Description, arguments};
use crate::config::reader::parse_duration;
use crate::domain::audit::{Decision, Ending, Entry};
use crate::domain::clock::Moment;
use crate::domain::outcome::{Answer, Refusal};
use crate::domain::principal::{Principal, Scope};
use crate::domain::tool::Hints;
use crate::pipeline::{OwnTool, OwnTools, Pipeline, State, own_answer};
use crate::policy::PermittedCall;
use crate::store::Filter;

pub(super) const LIST: &str = "executions.list";
pub(super) const GET: &str = "executions.get";

/// Calls that are listed where no limit is given.
pub const DEFAULT_LIMIT: usize = 20;
const MAX_LIMIT: usize = 100;
/// Longest text of a filter.
const MAX_TEXT: usize = 512;
/// What a cursor of this list begins with.
const CURSOR: &str = "executions\n";

const READ_ONLY: Hints = Hints { read_only: Some(true), open_world: Some(false), destructive: None, idempotent: None };

pub(super) fn list_tool() -> OwnTool {
    let text = |description: &str| json!({"type": "string", "maxLength": MAX_TEXT, "description": description});
    Description {
        name: LIST,
        title: LIST,
        description: "List calls that were made through the gateway, newest first: what, by whom, decision, outcome, \
                      latency. executions.get shows one whole.",
        scope: Scope::TracesRead,
        hints: READ_ONLY,
        input_schema: json!({
            "type": "object",
            "properties": {
                "since": text("Not before this time (2026-01-15T14:32:00Z), day, or so long ago (15m, 2h, 7d)"),
                "until": text("Before this time, day, or so long ago"),
                "server": text("Backend server name"),
                "tool": text("Tool name, or server:tool"),
                "decision": {"type": "string", "enum": Decision::ALL.map(Decision::as_str), "description": "What was decided"},
                "outcome": {"type": "string", "enum": Ending::ALL.map(Ending::as_str), "description": "How it ended"},
                "key": text("Key id"),
                "agent": text("Agent id"),
                "min_latency_ms": {"type": "integer", "minimum": 0, "maximum": 86_400_000, "description": "Only calls that took at least so long"},
                "trace_id": text("W3C trace id; what a client brought under it is told too"),
                "cursor": text("next_cursor of the page before"),
                "limit": {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": DEFAULT_LIMIT, "description": "Most calls"},
            },
            "additionalProperties": false,
        }),
    }
    .into_tool()
}

pub(super) fn get_tool() -> OwnTool {
    Description {
        name: GET,
        title: GET,
        description: "Show one call whole: its decision and the tree of what it did, with attempts at the backend, \
                      retries, nested calls, and the trace that a client brought.",
        scope: Scope::TracesRead,
        hints: READ_ONLY,
        input_schema: json!({
            "type": "object",
            "properties": {"id": {"type": "string", "maxLength": MAX_TEXT, "description": "evt_… of the call"}},
            "required": ["id"],
            "additionalProperties": false,
        }),
    }
    .into_tool()
}

#[derive(Deserialize)]
struct Wanted {
    since: Option<String>,
    until: Option<String>,
    server: Option<String>,
    tool: Option<String>,
    decision: Option<String>,
    outcome: Option<String>,
    key: Option<String>,
    agent: Option<String>,
    min_latency_ms: Option<u64>,
    trace_id: Option<String>,
    cursor: Option<String>,
    limit: Option<usize>,
}

#[derive(Deserialize)]
struct One {
    id: String,
}

/// Of whom a holder may see calls: of everybody, or of one user.
#[derive(Debug, Clone)]
struct Sight(Option<Arc<str>>);

impl Sight {
    fn of(principal: &Principal) -> Self {
        let all = principal.profile.has(Scope::AuditRead);
        Self((!all).then(|| Arc::clone(&principal.user)))
    }

    fn shows(&self, entry: &Entry) -> bool {
        self.0.as_ref().is_none_or(|user| entry.user.as_ref() == Some(user))
    }

    fn shows_user(&self, name: &str) -> bool {
        self.0.as_ref().is_none_or(|user| **user == *name)
    }
}

fn invalid(message: impl Into<String>) -> Refusal {
    Refusal::InvalidRequest { message: message.into() }
}

/// A store that cannot be read: the reason is the log's.
pub(super) fn unread(error: &crate::journal::JournalError) -> Refusal {
    tracing::error!(%error, "the audit log could not be read");
    Refusal::Internal
}

/// A moment as filters name it: a time, a day, or how long ago.
fn moment(name: &str, text: Option<&str>, now: Moment) -> Result<Option<Moment>, Refusal> {
    let Some(text) = text else { return Ok(None) };
    let ago = || {
        let millis = i64::try_from(parse_duration(text)?.as_millis()).ok()?;
        Some(Moment(now.0.checked_sub(millis)?))
    };
    let found = Moment::parse(text).or_else(ago);
    let why =
        || invalid(format!("`{name}` must be a time such as `2026-01-15T14:32:00Z`, a day, or how long ago, as `15m`"));
    found.map(Some).ok_or_else(why)
}

fn cursor(seq: i64) -> String {
    URL_SAFE_NO_PAD.encode(format!("{CURSOR}{seq}"))
}

fn place(cursor: &str) -> Option<i64> {
    let bytes = URL_SAFE_NO_PAD.decode(cursor).ok()?;
    std::str::from_utf8(&bytes).ok()?.strip_prefix(CURSOR)?.parse().ok().filter(|seq| *seq > 0)
}

impl Wanted {
    fn filter(self, state: &State, own: &dyn OwnTools, sight: &Sight, now: Moment) -> Result<Filter, Refusal> {
        let Self {
            since, until, mut server, mut tool, decision, outcome, key, agent, min_latency_ms, trace_id, ..
        } = self;
        if let (None, Some(text)) = (&server, &tool) {
            let (of, name) = state.named(own, text);
            (server, tool) = (of, Some(name));
        }
        Ok(Filter {
            since: moment("since", since.as_deref(), now)?,
            until: moment("until", until.as_deref(), now)?,
            key,
            server,
            tool,
            decision,
            outcome,
            user: sight.0.as_deref().map(str::to_owned),
            agent,
            trace_id: trace_id.map(|id| id.to_ascii_lowercase()),
            min_latency_ms,
        })
    }
}

pub(super) async fn list(
    pipeline: &Pipeline,
    state: &State,
    evals: &Evals,
    call: &PermittedCall,
) -> Result<Answer, Refusal> {
    let (wanted, sight): (Wanted, _) = (arguments(call)?, Sight::of(call.principal()));
    let limit = wanted.limit.unwrap_or(DEFAULT_LIMIT).clamp(1, MAX_LIMIT);
    let before = wanted.cursor.as_deref().map(|cursor| {
        place(cursor).ok_or_else(|| invalid("`cursor` must be the `next_cursor` of an earlier page of this list"))
    });
    let before = before.transpose()?;
    let trace = match &wanted.trace_id {
        Some(id) => tree::brought(evals, &id.to_ascii_lowercase(), &sight).await?,
        None => None,
    };
    let filter = wanted.filter(state, &*pipeline.own, &sight, pipeline.clock.now())?;
    let found = pipeline.journal.search(filter, before, limit).await.map_err(|error| unread(&error))?;
    let entries: Vec<Entry> = found.records.iter().filter_map(crate::journal::Record::entry).collect();
    let next = found.next.map(cursor);
    let mut text: String = trace.iter().map(|trace| format!("{trace}\n")).collect();
    text.extend(entries.iter().map(|entry| line(entry) + "\n"));
    text.push_str(&match (&next, entries.is_empty()) {
        (Some(next), _) => {
            format!("{} shown, {} searched. More with cursor {next}.", entries.len(), found.visited)
        }
        (None, true) => "No calls match.".into(),
        (None, false) => format!("{} shown; there are no more.", entries.len()),
    });
    let rows: Vec<Value> = entries.iter().map(row).collect();
    let mut structured = json!({"executions": rows, "next_cursor": next, "searched": found.visited});
    if let (Some(trace), Some(members)) = (trace, structured.as_object_mut()) {
        members.insert("trace".into(), json!(trace));
    }
    Ok(own_answer(&text, &structured))
}

pub(super) async fn get(pipeline: &Pipeline, evals: &Evals, call: &PermittedCall) -> Result<Answer, Refusal> {
    let One { id } = arguments(call)?;
    let sight = Sight::of(call.principal());
    let found = pipeline.journal.get(&id).await.map_err(|error| unread(&error))?;
    let found = found.and_then(|record| record.entry()).filter(|entry| sight.shows(entry));
    let entry = found.ok_or_else(|| Refusal::NotFound { message: format!("there is no execution `{id}`") })?;
    let tree = tree::of(&pipeline.journal, evals, &entry, &sight).await?;
    let mut execution = row(&entry);
    if let Some(members) = execution.as_object_mut() {
        let more = json!({
            "request_id": entry.request_id,
            "reason": entry.reason,
            "policies": entry.policies,
            "policy_version": entry.policy_version,
            "dlp_result": entry.dlp_result,
            "arguments_digest": entry.arguments_digest,
            "notes": entry.notes,
        });
        members.extend(present(more));
    }
    Ok(own_answer(&tree::lines(&tree), &json!({"execution": execution, "tree": tree})))
}

/// An entry as lists show it; what is not known is left out.
fn row(entry: &Entry) -> Value {
    let attempts = entry.backend.as_ref().map(|backend| backend.attempts.len());
    let row = json!({
        "id": entry.id,
        "time": entry.time,
        "server": entry.server,
        "tool": entry.tool,
        "kind": entry.kind(),
        "decision": entry.decision,
        "outcome": entry.outcome,
        "code": entry.code,
        "rule": entry.rule,
        "latency_ms": entry.latency_ms,
        "key": entry.key,
        "user": entry.user,
        "agent": entry.agent,
        "entrance": entry.entrance,
        "era": entry.era,
        "attempts": attempts,
        "cached": entry.is_cached().then_some(true),
        "parent": entry.parent,
        "trace_id": entry.trace_id,
    });
    Value::Object(present(row))
}

/// The members of an object that say something.
fn present(object: Value) -> Map<String, Value> {
    let Value::Object(members) = object else { return Map::new() };
    let says = |value: &Value| !value.is_null() && value.as_array().is_none_or(|items| !items.is_empty());
    members.into_iter().filter(|(_, value)| says(value)).collect()
}

/// What was called, as a person reads it.
fn label(entry: &Entry) -> String {
    let text = |text: &Option<Arc<str>>| text.as_deref().unwrap_or("-").to_owned();
    match &entry.server {
        Some(server) => format!("{server}:{}", text(&entry.tool)),
        None => text(&entry.tool),
    }
}

/// One line for people and models.
fn line(entry: &Entry) -> String {
    let mut line = format!(
        "{} {} {} {} {}",
        entry.time,
        label(entry),
        entry.decision,
        entry.outcome.as_deref().unwrap_or("open"),
        millis(entry.latency_ms),
    );
    let whys = [entry.rule.as_deref(), entry.code.as_deref()];
    if let Some(why) = whys.into_iter().flatten().next() {
        line.push_str(&format!(" ({why})"));
    }
    line + " " + &entry.id
}

/// A latency in words.
fn millis(latency: Option<f64>) -> String {
    latency.map_or_else(|| "-".into(), |millis| format!("{millis:.1} ms"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Moment = Moment(1_800_000_000_000);

    #[test]
    fn moments_are_times_days_or_spans_back() {
        let of = |text: &str| moment("since", Some(text), NOW).ok().flatten().map(|moment| NOW.0 - moment.0);
        assert_eq!(of("15m"), Some(900_000));
        assert_eq!(of("30d"), Some(30 * 86_400_000));
        assert_eq!(of(&Moment(NOW.0 - 5).rfc3339()), Some(5));
        for bad in ["", "soon", "-1h", "1y", "99999999999999999999d", "9999999999999999d", "2026-99-99"] {
            assert_eq!(of(bad), None, "{bad}");
        }
        assert!(moment("since", None, NOW).is_ok_and(|none| none.is_none()));
    }

    #[test]
    fn cursors_are_those_of_this_list() {
        assert_eq!(place(&cursor(77)), Some(77));
        for bad in ["", "77", &URL_SAFE_NO_PAD.encode("executions\n-4"), &URL_SAFE_NO_PAD.encode("audit events\n77")] {
            assert_eq!(place(bad), None, "{bad}");
        }
    }
}
