//! `preflight.check`: whether a list of calls would pass, by the code that decides, with nothing sent and nothing charged.

mod credentials;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Value, json};

use self::credentials::{Vouched, faults};
use super::simulate::{Question, judged, told};
use super::{Description, arguments};
use crate::authn::Keyring;
use crate::backend::{BreakerState, Resolved as Found, ServerState, ServerStatus};
use crate::domain::call::ToolRef;
use crate::domain::id::ServerName;
use crate::domain::outcome::{Answer, Refusal};
use crate::domain::principal::{Principal, Scope};
use crate::domain::tool::{Hints, Tool};
use crate::journal::{Called, Latency};
use crate::pipeline::{OwnTool, Pipeline, State, own_answer};
use crate::policy::PermittedCall;

pub(super) const NAME: &str = "preflight.check";
/// Calls that are looked at at once.
const MAX_CALLS: usize = 100;

pub(super) fn tool() -> OwnTool {
    Description {
        name: NAME,
        title: NAME,
        description: "Ask of several calls whether each would pass now: policy, schema, credentials, backend, limits. \
                      Nothing is called or charged.",
        scope: Scope::PolicySimulate,
        hints: Hints { read_only: Some(true), open_world: Some(false), ..Hints::default() },
        input_schema: json!({
            "type": "object",
            "properties": {
                "calls": {
                    "type": "array",
                    "minItems": 1,
                    "maxItems": MAX_CALLS,
                    "description": "The calls, in the order in which they would be made",
                    "items": {
                        "type": "object",
                        "properties": {
                            "server": {"type": "string", "description": "Backend server name"},
                            "tool": {"type": "string", "description": "Tool name; without server, its id"},
                            "arguments": {"type": "object", "description": "Arguments of tool"},
                        },
                        "required": ["tool"],
                        "additionalProperties": false,
                    },
                },
                "agent_id": {"type": "string", "description": "Judge this agent instead of you"},
            },
            "required": ["calls"],
            "additionalProperties": false,
        }),
    }
    .into_tool()
}

#[derive(Deserialize)]
struct Arguments {
    calls: Vec<Asked>,
    agent_id: Option<String>,
}

/// One call of the list.
#[derive(Deserialize)]
struct Asked {
    server: Option<String>,
    tool: String,
    arguments: Option<Value>,
}

pub(super) async fn run(
    pipeline: &Arc<Pipeline>,
    state: &Arc<State>,
    keys: &Keyring,
    call: &PermittedCall,
) -> Result<Answer, Refusal> {
    let Arguments { calls, agent_id } = arguments(call)?;
    let who = judged(agent_id.as_deref(), state, keys, call)?;
    let calls: Vec<Meant> = calls.into_iter().take(MAX_CALLS).map(|asked| Meant::of(pipeline, state, asked)).collect();
    let tools: BTreeSet<Called> = calls.iter().filter_map(|meant| meant.tool.as_deref()).map(called).collect();
    // Without the log there is no expectation, and every call is refused anyway.
    let latencies = pipeline.journal.latencies(tools).await.unwrap_or_default();
    let servers = pipeline.backends.status().into_iter().map(|status| (status.name.clone(), status)).collect();
    let (vouched, accounts, taken) = (HashMap::new(), HashMap::new(), BTreeMap::new());
    let mut flight = Preflight { pipeline, state, call, who, latencies, servers, vouched, accounts, taken };
    let mut reports = Vec::with_capacity(calls.len());
    for (index, meant) in calls.iter().enumerate() {
        reports.push(flight.check(index, meant).await?);
    }
    let report = whole(&reports);
    Ok(own_answer(&summary(&report), &report))
}

/// A call, and what it turns out to be of.
struct Meant {
    question: Arc<Question>,
    tool: Option<Arc<Tool>>,
    /// It is the gateway's own.
    own: bool,
}

impl Meant {
    fn of(pipeline: &Pipeline, state: &State, asked: Asked) -> Self {
        let Asked { server, tool, arguments } = asked;
        let asked = match server {
            Some(server) => ToolRef::Pair { server, tool },
            None => ToolRef::Text(tool),
        };
        let question = Question { asked, arguments }.opened(pipeline);
        let asked = &question.asked;
        let own = pipeline.own.find(asked).map(|own| Arc::clone(&own.tool));
        let found = || match state.catalog.resolve(asked, |_| true) {
            Found::One(tool) => Some(tool),
            _ => None,
        };
        let (own, tool) = (own.is_some(), own.or_else(found));
        Self { question: Arc::new(question), tool, own }
    }
}

/// How the records name a tool.
fn called(tool: &Tool) -> Called {
    (tool.id.server.to_string(), tool.id.tool.to_string())
}

/// One list on its way.
struct Preflight<'a> {
    pipeline: &'a Arc<Pipeline>,
    state: &'a Arc<State>,
    call: &'a PermittedCall,
    who: Principal,
    latencies: BTreeMap<Called, Latency>,
    servers: HashMap<ServerName, ServerStatus>,
    vouched: HashMap<ServerName, Vouched>,
    /// How the account stands with which a server is asked, where it is asked with one.
    accounts: HashMap<ServerName, Option<Value>>,
    /// What the calls before would have taken of each window.
    taken: BTreeMap<String, u64>,
}

impl Preflight<'_> {
    async fn check(&mut self, index: usize, meant: &Meant) -> Result<Value, Refusal> {
        let backend = meant.tool.as_deref().filter(|_| !meant.own);
        let vouched = match backend {
            Some(tool) => self.vouched(&tool.id.server).await,
            None => Vouched::NotAsked,
        };
        let mut who = self.who.clone();
        if let Vouched::With(roles) = &vouched {
            who.roles.extend(roles.iter().cloned());
        }
        let (who, asked) = (Arc::new(who), &meant.question.asked);
        let report = told(self.pipeline, self.state, self.call, &who, &meant.question).await?;
        let visible = match (self.pipeline.own.find(asked), backend) {
            (Some(own), _) => who.profile.has(own.scope) && own.lies_in(&who.profile),
            (None, Some(tool)) => self.state.sight(&who).shows(tool),
            (None, None) => false,
        };
        let (limits, left) = self.limits(&report);
        let credentials = match backend {
            Some(tool) => Some(self.credentials(&tool.id.server, &vouched).await),
            None => None,
        };
        let health = backend.map(|tool| self.health(&tool.id.server));
        let blockers = blockers(&report, credentials.as_ref(), health.as_ref(), left);
        if blockers.is_empty() {
            self.take(&report);
        }
        let expected = meant.tool.as_deref().and_then(|tool| self.latencies.get(&called(tool)));
        let expected = expected
            .map(|latency| json!({"p50_ms": latency.p50_ms, "p95_ms": latency.p95_ms, "samples": latency.samples}));
        let mut answer = json!({
            "index": index,
            "asked": asked.label(),
            "visible": visible,
            "schema": {"valid": meant.tool.is_some() && fits(&report), "errors": report.get("schema_errors")},
            "credentials": credentials,
            "backend": health,
            "limits": limits,
            "limit_left": left,
            "expected_latency": expected,
            "would_pass": blockers.is_empty(),
            "blockers": blockers,
        });
        for name in ["tool", "risk", "decision", "policy", "reason", "effects", "approval", "dlp"] {
            if let (Some(members), Some(value)) = (answer.as_object_mut(), report.get(name)) {
                members.insert(name.into(), value.clone());
            }
        }
        Ok(answer)
    }

    fn health(&self, server: &ServerName) -> Value {
        let Some(status) = self.servers.get(server) else {
            return json!({"server": server, "state": "stopped", "breaker": null, "healthy": false});
        };
        let healthy = status.state == ServerState::Ready && status.breaker.state == BreakerState::Closed;
        json!({"server": server, "state": status.state, "breaker": status.breaker, "healthy": healthy})
    }

    /// The windows of a call after the calls before it, and how many such calls are left in the fullest.
    fn limits(&self, report: &Value) -> (Vec<Value>, Option<u64>) {
        let mut limits = report.get("limits").and_then(Value::as_array).cloned().unwrap_or_default();
        let mut left: Option<u64> = None;
        for limit in &mut limits {
            let taken = scope(limit).and_then(|scope| self.taken.get(scope)).copied().unwrap_or(0);
            let remaining = limit.get("remaining").and_then(Value::as_u64).unwrap_or(0).saturating_sub(taken);
            if let Some(members) = limit.as_object_mut() {
                members.insert("remaining".into(), json!(remaining));
            }
            left = Some(left.map_or(remaining, |left| left.min(remaining)));
        }
        (limits, left)
    }

    /// Counts a call that would pass for the calls behind it in the list.
    fn take(&mut self, report: &Value) {
        let limits = report.get("limits").and_then(Value::as_array);
        for scope in limits.into_iter().flatten().filter_map(scope) {
            *self.taken.entry(scope.to_owned()).or_insert(0) += 1;
        }
    }
}

/// Whether the arguments fit.
fn fits(report: &Value) -> bool {
    report.get("schema_errors").and_then(Value::as_array).is_none_or(Vec::is_empty)
}

/// All that stands in the way of a call.
fn blockers(
    report: &Value,
    credentials: Option<&Value>,
    health: Option<&Value>,
    left: Option<u64>,
) -> Vec<&'static str> {
    let decision = report.get("decision").and_then(Value::as_str);
    let holds =
        |value: Option<&Value>, name: &str| value.is_none_or(|value| value.get(name) == Some(&Value::Bool(true)));
    let found = [
        (decision != Some("allow") && decision != Some("approval"), "denied"),
        (decision == Some("approval"), "approval"),
        (!fits(report), "schema"),
        (!holds(credentials, "present"), "credentials"),
        (!holds(health, "healthy"), "backend"),
        (left == Some(0), "limit"),
    ];
    found.into_iter().filter(|(stands, _)| *stands).map(|(_, word)| word).collect()
}

fn scope(limit: &Value) -> Option<&str> {
    limit.get("scope").and_then(Value::as_str)
}

/// All calls together.
fn whole(calls: &[Value]) -> Value {
    let blocked = |name: &str| {
        let has = |call: &&Value| {
            call.get("blockers").and_then(Value::as_array).is_some_and(|all| all.contains(&json!(name)))
        };
        calls.iter().filter(has).count()
    };
    let passing = calls.iter().filter(|call| call.get("would_pass") == Some(&Value::Bool(true))).count();
    json!({
        "would_pass": passing == calls.len(),
        "counts": {
            "calls": calls.len(),
            "would_pass": passing,
            "denied": blocked("denied"),
            "approval": blocked("approval"),
            "schema": blocked("schema"),
            "credentials": blocked("credentials"),
            "backend": blocked("backend"),
            "limit": blocked("limit"),
        },
        "calls": calls,
    })
}

/// A line for each call.
fn summary(report: &Value) -> String {
    let text = |call: &Value, name: &str| call.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let calls = report.get("calls").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let mut lines: Vec<String> = calls
        .iter()
        .enumerate()
        .map(|(index, call)| {
            let blockers = call.get("blockers").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
            let words: Vec<String> = blockers
                .iter()
                .filter_map(Value::as_str)
                .map(|blocker| match blocker {
                    "denied" => format!("denied by {}: {}", text(call, "policy"), text(call, "reason")),
                    "approval" => format!("a person has to approve it ({})", text(call, "policy")),
                    "schema" => "the arguments do not fit the schema".to_owned(),
                    "credentials" => format!("credentials: {}", faults(call).join("; ")),
                    "backend" => "the backend is not healthy".to_owned(),
                    _ => "a limit is used up".to_owned(),
                })
                .collect();
            let told = if words.is_empty() { "would pass".to_owned() } else { words.join("; ") };
            format!("{}. {}: {told}", index + 1, text(call, "asked"))
        })
        .collect();
    lines.push("Nothing was called.".into());
    lines.join("\n")
}
