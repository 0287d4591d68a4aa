//! `eval.*`: whether tools still do what they should, by calls on the one path.

mod library;
mod observe;
mod run;
mod shipped;

use std::sync::Arc;

use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

pub use self::library::{Headline, Kept, Library, Quality};
use super::{Description, Surroundings};
use crate::authn::Keyring;
use crate::domain::crowd::Crowd;
use crate::domain::id::{KeyId, TraceId};
use crate::domain::json::{Json, canonical};
use crate::domain::outcome::{Answer, Refusal};
use crate::domain::principal::Scope;
use crate::domain::tool::Hints;
use crate::evals::{Baseline, Environment, score_value, whole};
use crate::pipeline::{Line, Origin, OwnTool, Pipeline, State};
use crate::policy::PermittedCall;
use crate::store::{Store, TraceRecord};

const QUALITY: &str = "eval.quality.latest";
const RUN: &str = "eval.run.create";
const TRACE: &str = "eval.trace.create";
const CASES: &str = "eval.testcase.list";

/// Test cases that are listed where no limit is given, and at most.
const CASES_LISTED: u64 = 100;
/// Characters of a trace's name, and bytes of its metadata.
const MAX_TRACE_NAME: usize = 200;
const MAX_METADATA: usize = 64 * 1024;
/// Threads that judge results.
const JUDGES: usize = 2;

/// The tools and what they need.
#[derive(Debug)]
pub struct Evals {
    library: Library,
    store: Store,
    /// Where the calls of a run live, so that their records are closed whatever becomes of the run.
    tasks: TaskTracker,
    /// Runs under way, by key.
    runs: Crowd<KeyId>,
    /// Says who may still run anything.
    keys: Arc<Keyring>,
    surroundings: Arc<Surroundings>,
    /// Results that are judged at once, whoever's they are.
    judges: Arc<Semaphore>,
}

/// In the order in which their page describes them.
pub(super) fn tools() -> [OwnTool; 4] {
    let tool = |name, description, scope, read_only, input_schema: Value| {
        let hints = Hints { read_only: Some(read_only), open_world: Some(false), ..Hints::default() };
        Description { name, title: name, description, scope, hints, input_schema }
    };
    let quality = "Get the latest quality score for an evaluation.";
    let run = "Start a new evaluation run.";
    let trace = "Create a distributed trace record.";
    let cases = "List test cases for an evaluation.";
    [
        tool(QUALITY, quality, Scope::EvalsRead, true, quality_schema()).into_tool(),
        tool(RUN, run, Scope::EvalsWrite, false, run_schema()).into_long_running(),
        tool(TRACE, trace, Scope::TracesWrite, false, trace_schema()).into_tool(),
        tool(CASES, cases, Scope::EvalsRead, true, cases_schema()).into_tool(),
    ]
}

fn quality_schema() -> Value {
    json!({
        "type": "object",
        "properties": {
            "evaluationId": {"type": "number", "description": "ID of the evaluation"},
            "baseline": {"type": "string", "enum": Baseline::ALL.map(Baseline::as_str)},
        },
        "required": ["evaluationId"],
    })
}

fn run_schema() -> Value {
    json!({
        "type": "object",
        "properties": {
            "evaluationId": {"type": "number", "description": "Numeric ID of the evaluation to run"},
            "environment": {
                "type": "string",
                "enum": Environment::ALL.map(Environment::as_str),
                "description": "Target environment: dev, staging, or prod",
            },
        },
        "required": ["evaluationId"],
    })
}

fn trace_schema() -> Value {
    json!({
        "type": "object",
        "properties": {
            "name": {"type": "string", "description": "Display name for the trace"},
            "metadata": {"type": "object", "description": "Arbitrary JSON context to store with the trace"},
        },
        "required": ["name"],
    })
}

fn cases_schema() -> Value {
    json!({
        "type": "object",
        "properties": {
            "evaluationId": {"type": "number", "description": "Numeric ID of the evaluation"},
            "limit": {"type": "number", "description": "Maximum number of test cases to return"},
        },
        "required": ["evaluationId"],
    })
}

impl Evals {
    /// `tasks` is where the calls live that a run makes.
    #[must_use]
    pub fn new(store: Store, tasks: TaskTracker, keys: Arc<Keyring>, surroundings: Arc<Surroundings>) -> Self {
        let (library, judges) = (Library::new(store.clone()), Arc::new(Semaphore::new(JUDGES)));
        Self { library, store, tasks, runs: Crowd::default(), keys, surroundings, judges }
    }

    /// Runs a permitted call, where it is one of these tools.
    pub(super) async fn call(
        &self,
        pipeline: &Arc<Pipeline>,
        state: &Arc<State>,
        call: &PermittedCall,
        origin: &Origin,
        line: &Line,
    ) -> Result<Answer, Refusal> {
        match &*call.tool().id.tool {
            QUALITY => self.quality(state, call).await,
            RUN => self.run(pipeline, state, call, origin, line).await,
            TRACE => self.trace(pipeline, call, origin).await,
            CASES => self.cases(state, call).await,
            _ => Err(Refusal::Internal),
        }
    }

    /// A trace that somebody brought.
    pub(super) async fn brought(&self, id: &str) -> Result<Option<TraceRecord>, Refusal> {
        self.store.trace(id).await.map_err(|error| library::internal(&error))
    }

    async fn quality(&self, state: &State, call: &PermittedCall) -> Result<Answer, Refusal> {
        let suite = self.library.headline(state, evaluation(call)?).await?;
        let baseline = call.value().get("baseline").and_then(Value::as_str).and_then(Baseline::parse);
        let quality = self.library.quality(&suite, baseline).await?;
        Ok(answer(&quality.view()))
    }

    async fn cases(&self, state: &State, call: &PermittedCall) -> Result<Answer, Refusal> {
        let (suite, _) = self.library.suite(state, evaluation(call)?).await?;
        let limit = match call.value().get("limit") {
            None => CASES_LISTED,
            Some(limit) => whole(limit).filter(|limit| *limit > 0).ok_or_else(|| not_whole("limit"))?,
        };
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let cases: Vec<Value> =
            suite.cases.iter().take(limit).enumerate().map(|(at, case)| case.view(at + 1)).collect();
        Ok(answer(&json!({
            "evaluationId": suite.id,
            "name": suite.name,
            "testCases": cases,
            "total": suite.cases.len(),
        })))
    }

    async fn trace(&self, pipeline: &Pipeline, call: &PermittedCall, origin: &Origin) -> Result<Answer, Refusal> {
        let name = call.value().get("name").and_then(Value::as_str).unwrap_or_default().trim();
        if name.is_empty() || name.chars().count() > MAX_TRACE_NAME || name.chars().any(char::is_control) {
            let message = format!("`name` has 1 to {MAX_TRACE_NAME} characters, none of them a control character");
            return Err(Refusal::InvalidRequest { message });
        }
        let metadata = call.value().get("metadata").map(canonical);
        if metadata.as_ref().is_some_and(|text| text.len() > MAX_METADATA) {
            let message = format!("`metadata` has at most {MAX_METADATA} bytes");
            return Err(Refusal::InvalidRequest { message });
        }
        let (id, now) = (TraceId::fresh(), pipeline.clock.now());
        let principal = call.principal();
        let trace = TraceRecord {
            seq: 0,
            id: id.to_string(),
            time: now,
            key: principal.key.to_string(),
            user: principal.user.to_string(),
            agent: principal.agent.to_string(),
            request: origin.request.to_string(),
            name: name.to_owned(),
            metadata,
        };
        self.store.put_trace(trace).await.map_err(|error| library::internal(&error))?;
        Ok(answer(&json!({"traceId": id, "name": name, "createdAt": now.rfc3339()})))
    }
}

/// The evaluation that a call asks about.
fn evaluation(call: &PermittedCall) -> Result<u64, Refusal> {
    call.value().get("evaluationId").and_then(whole).ok_or_else(|| not_whole("evaluationId"))
}

fn not_whole(name: &str) -> Refusal {
    Refusal::InvalidRequest { message: format!("`{name}` must be a whole number") }
}

/// An answer whose text is the JSON that stands beside it, as MCP wants it for clients that read texts alone.
fn answer<T: Serialize>(structured: &T) -> Answer {
    let structured = Json::of(structured);
    let text = Value::from(structured.as_str());
    let result =
        format!(r#"{{"content":[{{"type":"text","text":{text}}}],"structuredContent":{}}}"#, structured.as_str());
    Answer { result: Json::from_parts(result), is_error: false, cached: false, partial: false }
}

/// A score where there is one.
fn optional(score: Option<f64>) -> Value {
    score.map_or(Value::Null, score_value)
}
