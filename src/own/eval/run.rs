//! `eval.run.create`: every case of a suite as a call of the principal's own.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::{StreamExt, stream};
use serde_json::{Value, json};
use tokio::sync::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::observe::observe;
use super::{CASES, Evals, RUN, answer, evaluation};
use crate::backend::fits;
use crate::domain::call::{CallRequest, ToolRef};
use crate::domain::clock::Moment;
use crate::domain::id::{EventId, KeyId, RunId};
use crate::domain::json::Json;
use crate::domain::outcome::{Answer, Carried, Refusal};
use crate::domain::principal::Principal;
use crate::domain::trace::Provenance;
use crate::evals::{Case, CaseResult, Environment, Observed, Run, Suite, judge, score, score_value, within_room};
use crate::pipeline::{Line, Origin, Pipeline, State};
use crate::policy::PermittedCall;

/// What the tool takes.
const TAKEN: [&str; 3] = ["evaluationId", "environment", AUTHOR];
/// Names whose suite it is, where that is another's.
const AUTHOR: &str = "author";
/// Runs that one key may have under way.
const MAX_RUNS: usize = 4;
/// How long a run may take; a case that has not ended then has failed.
const MAX_DURATION: Duration = Duration::from_secs(600);
/// How long one case may take.
const MAX_CASE: Duration = Duration::from_secs(60);

/// How long one result may be judged.
const MAX_JUDGING: Duration = Duration::from_secs(5);

/// What all cases of a run share.
#[derive(Clone)]
struct Bench {
    pipeline: Arc<Pipeline>,
    /// What the run saw when it began, and who began it; each case is a call of its own moment.
    state: Arc<State>,
    principal: Principal,
    origin: Origin,
    suite: Arc<Suite>,
    environment: Option<Environment>,
    cancel: CancellationToken,
    /// Every case is a call of this run's.
    provenance: Provenance,
    deadline: Instant,
    /// Held while a result is judged.
    judging: Arc<Mutex<()>>,
}

/// A member that is passed over might have said where to run it.
fn check_members(arguments: &Value) -> Result<(), Refusal> {
    let unknown = arguments.as_object().and_then(|members| members.keys().find(|name| !TAKEN.contains(&&***name)));
    unknown.map_or(Ok(()), |name| {
        let message = format!("unknown member `{name}`: known are `{}`", TAKEN.join("`, `"));
        Err(Refusal::InvalidRequest { message })
    })
}

impl Evals {
    pub(super) async fn run(
        &self,
        pipeline: &Arc<Pipeline>,
        state: &Arc<State>,
        call: &PermittedCall,
        origin: &Origin,
        line: &Line,
    ) -> Result<Answer, Refusal> {
        check_members(call.value())?;
        let (suite, author) = self.library.suite(state, evaluation(call)?).await?;
        check_author(&suite, author.as_deref(), &call.principal().key, call.value().get(AUTHOR))?;
        let environment = call.value().get("environment").and_then(Value::as_str).and_then(Environment::parse);
        check_environment(&suite, environment)?;
        let principal = call.principal();
        let seat = self.runs.seat(principal.key.clone(), MAX_RUNS);
        let _seat = seat.ok_or_else(|| Refusal::LimitReached {
            scope: "the runs under way of this key".into(),
            limit: MAX_RUNS.to_string(),
            retry_after: 1,
        })?;
        let cancel = line.cancel.child_token();
        // A run that is given up ends its calls, and they close their records.
        let _ending = cancel.clone().drop_guard();
        let bench = Bench {
            pipeline: Arc::clone(pipeline),
            state: Arc::clone(state),
            principal: principal.clone(),
            origin: origin.clone(),
            suite: Arc::clone(&suite),
            environment,
            cancel,
            provenance: call.nested(),
            deadline: Instant::now() + MAX_DURATION,
            judging: Arc::default(),
        };
        if let Some(begun) = &line.begun {
            begun.notify_one();
        }
        let (started, ticks) = (pipeline.clock.now(), pipeline.clock.ticks());
        let (done, total) = (AtomicUsize::new(0), suite.cases.len());
        let one = async |at: usize| {
            let result = self.case(&bench, at).await;
            tell(line, done.fetch_add(1, Ordering::Relaxed) + 1, total, &suite.name);
            result
        };
        let cases = within_room(stream::iter(0..total).map(one).buffered(suite.concurrency).collect().await);
        let passed = cases.iter().filter(|case| case.passed).count();
        let run = Run {
            id: call.nested().parent.as_ref().map_or_else(RunId::fresh, RunId::of_call).to_string(),
            evaluation_id: suite.id,
            name: suite.name.clone(),
            suite_digest: suite.digest.to_string(),
            environment,
            started_at: started.rfc3339(),
            duration_ms: pipeline.clock.ticks().saturating_sub(ticks) / 1000,
            agent: Some(principal.agent.to_string()),
            user: Some(principal.user.to_string()),
            policy_version: state.policies.bundle().version().to_string(),
            score: score(&cases),
            passed,
            failed: total - passed,
            cases,
        };
        self.keep(&run, pipeline.clock.now(), author.is_some()).await?;
        Ok(created(&run))
    }

    /// Keeps a run that has ended, unless its suite was made over the API and has gone meanwhile.
    async fn keep(&self, run: &Run, now: Moment, made: bool) -> Result<(), Refusal> {
        if self.library.put_run(run, now, None, made).await? {
            return Ok(());
        }
        let id = run.evaluation_id;
        let message = format!("the evaluation {id} was removed while it ran: its calls were made, the run is not kept");
        Err(Refusal::NotFound { message })
    }

    /// Runs one case.
    async fn case(&self, bench: &Bench, at: usize) -> CaseResult {
        let Some(case) = bench.suite.cases.get(at) else { return blank("", "", 0, "there is no such case") };
        let request = bench.request(case);
        let tool = request.tool.label();
        let failed = |why: &str| blank(&case.name, &tool, case.weight, why);
        if bench.pipeline.own.find(&request.tool).is_some_and(|own| &*own.tool.id.tool == RUN) {
            return failed("a suite runs no suites: the case was not called");
        }
        let Some((state, principal)) = self.present(bench) else {
            return failed("whoever runs the suite is not admitted any more: the case was not called");
        };
        let ticks = bench.pipeline.clock.ticks();
        let line = Line { cancel: bench.cancel.child_token(), provenance: bench.provenance.clone(), ..Line::default() };
        let _ending = line.cancel.clone().drop_guard();
        let pipeline = Arc::clone(&bench.pipeline);
        let calling = self.tasks.spawn(async move { pipeline.carry(&state, principal, request, line).await });
        let limit = bench.deadline.min(Instant::now() + MAX_CASE + Duration::from_secs(5));
        let carried = match tokio::time::timeout_at(limit, calling).await {
            Ok(Ok(carried)) => carried,
            Ok(Err(_)) => return failed("an internal error: the log says more"),
            Err(_) => return failed("the run took too long: the case was given up"),
        };
        let latency = Duration::from_micros(bench.pipeline.clock.ticks().saturating_sub(ticks));
        let reasons = self.judged(bench, at, observe(&carried, latency)).await;
        result(case, &tool, &carried, latency, reasons)
    }

    /// What a call sees that is made now, and whoever runs the suite, where they may still call anything.
    fn present(&self, bench: &Bench) -> Option<(Arc<State>, Principal)> {
        let state = self.surroundings.present(&bench.state);
        let principal = state.still_admitted(&bench.principal, &self.keys, bench.pipeline.clock.now())?;
        Some((state, principal))
    }

    /// What is not as expected. What came is from outside and what is asked of it from somebody with a key, so that judging
    /// is work for few threads, one result of a run at a time and each for a while only. A thread that is not done by then,
    /// or whose run was given up, goes on to the end of one check and keeps its place until then.
    async fn judged(&self, bench: &Bench, at: usize, seen: Observed) -> Vec<String> {
        let late = || vec![String::from("judging the result took too long: what was not looked at counts as failed")];
        let waiting = async {
            let turn = Arc::clone(&bench.judging).lock_owned().await;
            Some((turn, Arc::clone(&self.judges).acquire_owned().await.ok()?))
        };
        let Ok(Some(turn)) = tokio::time::timeout_at(bench.deadline, waiting).await else { return late() };
        let (suite, cancel) = (Arc::clone(&bench.suite), bench.cancel.clone());
        let until = bench.deadline.min(Instant::now() + MAX_JUDGING);
        let judging = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            let goes_on = || !cancel.is_cancelled() && Instant::now() < until;
            suite.cases.get(at).map(|case| judge(case, &seen, &holds, &goes_on))
        });
        match tokio::time::timeout_at(until, judging).await {
            Ok(Ok(Some(reasons))) => reasons,
            Ok(_) => vec!["the result could not be judged".into()],
            Err(_) => late(),
        }
    }
}

impl Bench {
    fn servers(&self) -> Option<&BTreeMap<String, String>> {
        self.suite.environments.get(&self.environment?)
    }

    /// The call of a case, on the server that stands in for the one that it names. What is inside `gateway_invoke` is the
    /// call: its server may have a stand-in like any other.
    fn request(&self, case: &Case) -> CallRequest {
        let mut request = CallRequest {
            id: self.origin.request.clone(),
            event: EventId::fresh(),
            entrance: self.origin.entrance,
            tool: ToolRef::Text(case.tool_in(self.servers())),
            arguments: Some(Json::of(&case.arguments)),
            jwt: None,
            trace: self.origin.trace.clone(),
            surface: self.origin.surface,
            source: self.origin.source,
            timeout: Some(MAX_CASE),
            // The run was a request; its calls are charged as calls.
            metered: false,
        };
        // What cannot be unwrapped is refused where it is carried.
        let _unfit = self.pipeline.own.unwrap(&self.principal, &mut request);
        if let (ToolRef::Pair { server, .. }, Some(servers)) = (&mut request.tool, self.servers())
            && let Some(other) = servers.get(server)
        {
            server.clone_from(other);
        }
        request
    }
}

/// What `eval.run.create` answers when the run has ended.
#[must_use]
pub fn created(run: &Run) -> Answer {
    answer(&json!({
        "runId": run.id,
        "evaluationId": run.evaluation_id,
        "environment": run.environment,
        "status": "completed",
        "score": score_value(run.score),
        "passed": run.passed,
        "failed": run.failed,
        "total": run.cases.len(),
    }))
}

/// The calls of a run are those of whoever runs it: what somebody else has made over the API runs where its author is named.
///
/// # Errors
/// Whose it is, and what to do.
fn check_author(suite: &Suite, author: Option<&str>, runner: &KeyId, named: Option<&Value>) -> Result<(), Refusal> {
    let (id, name) = (suite.id, &suite.name);
    let message = match (author, named.map(Value::as_str)) {
        (None, None) => return Ok(()),
        (Some(author), None) if author == runner.as_str() => return Ok(()),
        (Some(author), Some(Some(named))) if author == named => return Ok(()),
        (_, Some(None)) => format!("`{AUTHOR}` must be a text: the id of a key"),
        (None, Some(_)) => {
            format!("the suite {id}, `{name}`, stands in a file and has no author: leave `{AUTHOR}` out")
        }
        (Some(author), _) => format!(
            "the suite {id}, `{name}`, was made over the API by {author}, and its calls would be yours: look at its cases \
             with `{CASES}`, then run it with `{AUTHOR}` = `{author}`"
        ),
    };
    Err(Refusal::InvalidRequest { message })
}

/// A suite without environments runs on the servers that it names, whatever the environment.
fn check_environment(suite: &Suite, environment: Option<Environment>) -> Result<(), Refusal> {
    let Some(environment) =
        environment.filter(|one| !suite.environments.is_empty() && !suite.environments.contains_key(one))
    else {
        return Ok(());
    };
    let known: Vec<&str> = suite.environments.keys().map(|known| known.as_str()).collect();
    let message = format!(
        "the evaluation {} has no environment `{}`: it has {}",
        suite.id,
        environment.as_str(),
        known.join(", ")
    );
    Err(Refusal::InvalidRequest { message })
}

/// Tells a client that asked how far the run has come.
fn tell(line: &Line, done: usize, total: usize, name: &str) {
    let Some(progress) = &line.progress else { return };
    let message = format!("{name}: {done} of {total} cases");
    let params = Json::of(&json!({"progress": done, "total": total, "message": message}));
    progress.tell("notifications/progress", Some(params));
}

/// Holds a value against a schema of a case.
fn holds(schema: &Value, value: &Value) -> Result<(), String> {
    fits(schema, value).map_err(|faults| {
        let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
        format!("does not fit the schema: {}", faults.join("; "))
    })
}

fn result(case: &Case, tool: &str, carried: &Carried, latency: Duration, reasons: Vec<String>) -> CaseResult {
    CaseResult {
        name: case.name.clone(),
        tool: tool.to_owned(),
        weight: case.weight,
        passed: reasons.is_empty(),
        reasons,
        decision: carried.governance.decision.to_owned(),
        policy: carried.governance.policy.to_string(),
        latency_ms: u64::try_from(latency.as_millis()).unwrap_or(u64::MAX),
        tool_digest: carried.tool.as_ref().map(|tool| tool.digest.to_string()),
        audit_event_id: carried.governance.audit_event_id.to_string(),
    }
}

/// A case of which there is no call.
fn blank(name: &str, tool: &str, weight: u64, why: &str) -> CaseResult {
    CaseResult {
        name: name.to_owned(),
        tool: tool.to_owned(),
        weight,
        passed: false,
        reasons: vec![why.to_owned()],
        decision: String::from("error"),
        policy: String::from("none"),
        latency_ms: 0,
        tool_digest: None,
        audit_event_id: String::new(),
    }
}
