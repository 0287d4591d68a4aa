//! The tree of a call: the gateway's part, each attempt at the backend, and the calls that it made itself; with the traces
//! that clients brought, where calls belong to them.

use std::collections::{HashSet, VecDeque};

use serde::Serialize;
use serde_json::Value;

use super::{Sight, label, millis, unread};
use crate::domain::audit::{Entry, Try};
use crate::domain::clock::Moment;
use crate::domain::outcome::Refusal;
use crate::journal::{Journal, Record};
use crate::own::eval::Evals;
use crate::store::TraceRecord;

/// Nested calls of one tree, at most.
const MAX_CALLS: usize = 200;
/// Calls within calls.
const MAX_DEPTH: usize = 8;
/// Traces that are looked up for one tree.
const MAX_TRACES: usize = 8;

/// One part of a call.
#[derive(Debug, Serialize)]
pub(super) struct Node {
    /// `call`, or `attempt` at its backend.
    part: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    name: String,
    /// After the beginning of the whole.
    at_ms: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    latency_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    decision: Option<String>,
    /// How it ended; `open` where it has not.
    ended: String,
    /// Why there was an attempt before it: `retry` or `input`.
    #[serde(skip_serializing_if = "Option::is_none")]
    again: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    transport: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    era: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    span_id: Option<String>,
    /// The trace that a client brought, at the first call that belongs to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    trace: Option<Brought>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    children: Vec<Self>,
    /// Calls below it that are not shown.
    #[serde(skip_serializing_if = "is_zero")]
    left_out: usize,
}

/// A trace that a client brought with `eval.trace.create`.
#[derive(Debug, Serialize)]
pub(super) struct Brought {
    id: String,
    name: String,
    time: String,
    user: String,
    agent: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<Value>,
}

impl Brought {
    fn of(trace: TraceRecord) -> Self {
        let TraceRecord { id, time, user, agent, name, metadata, .. } = trace;
        let metadata = metadata.and_then(|text| serde_json::from_str(&text).ok());
        Self { id, name, time: time.rfc3339(), user, agent, metadata }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it so")]
const fn is_zero(count: &usize) -> bool {
    *count == 0
}

/// Puts the tree of a call together, as far as the holder may see it.
pub(super) async fn of(journal: &Journal, evals: &Evals, entry: &Entry, sight: &Sight) -> Result<Node, Refusal> {
    let began = began(entry);
    let mut traces = Traces { evals, sight, met: HashSet::new() };
    let mut root = Node { trace: traces.of(entry).await?, ..node(entry, began) };
    // Breadth first, so that what is left out is what lies deepest.
    let mut calls: Vec<(Vec<usize>, Entry)> = Vec::new();
    let mut waiting = VecDeque::from([(Vec::new(), entry.id.to_string())]);
    while let Some((path, id)) = waiting.pop_front() {
        let room = MAX_CALLS.saturating_sub(calls.len());
        let found = journal.children(&id, room + 1).await.map_err(|error| unread(&error))?;
        let mine = |record: &Record| {
            record.entry().filter(|child| child.parent.as_deref() == Some(id.as_str()) && sight.shows(child))
        };
        let children: Vec<Entry> = found.iter().filter_map(mine).collect();
        let kept = if path.len() >= MAX_DEPTH { 0 } else { children.len().min(room) };
        let unseen = found.len() - children.len();
        // All are counted where there are more than were asked for.
        let all = if found.len() > room {
            journal.count_children(&id).await.map_err(|error| unread(&error))?
        } else {
            found.len()
        };
        let Some(parent) = at(&mut root, &path) else { continue };
        parent.left_out = all.saturating_sub(kept + unseen);
        for child in children.into_iter().take(kept) {
            parent.children.push(Node { trace: traces.of(&child).await?, ..node(&child, began) });
            let mut path = path.clone();
            path.push(parent.children.len() - 1);
            waiting.push_back((path.clone(), child.id.to_string()));
            calls.push((path, child));
        }
    }
    Ok(root)
}

/// Looks up the traces of calls, each once.
struct Traces<'a> {
    evals: &'a Evals,
    sight: &'a Sight,
    met: HashSet<String>,
}

impl Traces<'_> {
    /// The trace that a call belongs to, where it is the first of it.
    async fn of(&mut self, entry: &Entry) -> Result<Option<Brought>, Refusal> {
        let Some(id) = entry.trace_id.as_deref() else { return Ok(None) };
        if self.met.len() >= MAX_TRACES || !self.met.insert(id.to_owned()) {
            return Ok(None);
        }
        brought(self.evals, id, self.sight).await
    }
}

/// The trace of this id, where somebody brought it and the holder may see whose it is.
pub(super) async fn brought(evals: &Evals, id: &str, sight: &Sight) -> Result<Option<Brought>, Refusal> {
    let trace = evals.brought(id).await?;
    Ok(trace.filter(|trace| sight.shows_user(&trace.user)).map(Brought::of))
}

impl std::fmt::Display for Brought {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "trace {} {} of {}", self.name, self.id, self.agent)
    }
}

fn at<'n>(root: &'n mut Node, path: &[usize]) -> Option<&'n mut Node> {
    path.iter().try_fold(root, |node, child| node.children.get_mut(*child))
}

/// When a call began, in milliseconds: its record is written at its end.
fn began(entry: &Entry) -> f64 {
    let ended = Moment::parse(&entry.time).map_or(0, |moment| moment.0);
    #[expect(clippy::cast_precision_loss, reason = "2^53 ms are 285,000 years")]
    let ended = ended as f64;
    ended - entry.latency_ms.unwrap_or(0.0)
}

fn node(entry: &Entry, whole: f64) -> Node {
    let at_ms = (began(entry) - whole).max(0.0);
    let backend = entry.backend.as_ref();
    let text = |text: &Option<std::borrow::Cow<'static, str>>| text.as_deref().map(str::to_owned);
    let attempts = backend.map_or(&[][..], |backend| backend.attempts.as_slice());
    let attempt = |attempt: &Try| Node {
        part: "attempt",
        id: None,
        name: entry.server.as_deref().unwrap_or("-").to_owned(),
        at_ms: rounded(at_ms + attempt.at_ms),
        latency_ms: attempt.latency_ms,
        decision: None,
        ended: attempt.ended.to_string(),
        again: text(&attempt.again),
        transport: backend.and_then(|backend| text(&backend.transport)),
        era: backend.and_then(|backend| text(&backend.era)),
        span_id: attempt.span_id.clone(),
        trace: None,
        children: Vec::new(),
        left_out: 0,
    };
    Node {
        part: "call",
        id: Some(entry.id.to_string()),
        name: label(entry),
        at_ms: rounded(at_ms),
        latency_ms: entry.latency_ms,
        decision: Some(entry.decision.to_string()),
        ended: entry.outcome.as_deref().unwrap_or("open").to_owned(),
        again: None,
        transport: None,
        era: text(&entry.era),
        span_id: entry.span_id.clone(),
        trace: None,
        children: attempts.iter().map(attempt).collect(),
        left_out: 0,
    }
}

/// To a microsecond: sums of floats end in noise.
fn rounded(millis: f64) -> f64 {
    (millis * 1000.0).round() / 1000.0
}

/// The tree as people and models read it: a line each, what lies below indented.
pub(super) fn lines(root: &Node) -> String {
    let mut out = String::new();
    let mut waiting = vec![(0, root)];
    while let Some((depth, node)) = waiting.pop() {
        let said = [&node.decision, &Some(node.ended.clone()), &node.again, &node.transport, &node.era, &node.id];
        let said: Vec<&str> = said.into_iter().flatten().map(String::as_str).collect();
        let (indent, latency) = ("  ".repeat(depth), millis(node.latency_ms));
        if let Some(trace) = &node.trace {
            out.push_str(&format!("{indent}{trace}\n"));
        }
        out.push_str(&format!("{indent}{} {} {latency} {}\n", node.part, node.name, said.join(" ")));
        if node.left_out > 0 {
            let calls = if node.left_out == 1 { "call" } else { "calls" };
            out.push_str(&format!("{indent}  and {} more {calls}\n", node.left_out));
        }
        waiting.extend(node.children.iter().rev().map(|child| (depth + 1, child)));
    }
    out.truncate(out.trim_end().len());
    out
}

impl From<&Node> for Value {
    fn from(node: &Node) -> Self {
        serde_json::to_value(node).unwrap_or_default()
    }
}
