//! `policy.simulate`: what would happen, by the code that decides, with nothing sent and nothing charged.

mod ask;

use std::sync::Arc;

use serde_json::{Map, Value, json};

use self::ask::Arguments;
pub(super) use self::ask::{Question, told};
use super::{Description, brain};
use crate::authn::Keyring;
use crate::backend::Resolved as Found;
use crate::domain::call::ToolRef;
use crate::domain::decision::{Judgement, PolicyEffect, RuleMark, Verdict};
use crate::domain::dlp::{Direction, DlpResult};
use crate::domain::json::Json;
use crate::domain::outcome::{Answer, Refusal};
use crate::domain::principal::{Principal, Scope};
use crate::domain::tool::{Hints, Kind, Tool};
use crate::pipeline::{OwnTool, Pipeline, State, examine, own_answer};
use crate::policy::effects::{of_call, of_resource, recognise};
use crate::policy::{Facts, PermittedCall, refused_by, refused_by_profile};

pub(super) const NAME: &str = "policy.simulate";

pub(super) fn tool() -> OwnTool {
    Description {
        name: NAME,
        title: NAME,
        description: "Ask what policy would decide about a call, and why, without making it. Give action (server.tool) \
                      and params, or server, tool and arguments, or server and prompt or resource, or entity.",
        scope: Scope::PolicySimulate,
        hints: Hints { read_only: Some(true), open_world: Some(false), ..Hints::default() },
        input_schema: json!({
            "type": "object",
            "properties": {
                "agent_id": {"type": "string", "description": "Judge this agent instead of you"},
                "action": {"type": "string", "description": "Tool as server.tool"},
                "params": {"type": "object", "description": "Arguments of action"},
                "server": {"type": "string", "description": "Backend server name"},
                "tool": {"type": "string", "description": "Tool name"},
                "arguments": {"type": "object", "description": "Arguments of tool"},
                "prompt": {"type": "string"},
                "resource": {"type": "string", "description": "URI"},
                "entity": {"type": "string", "description": "Entity type, or type.field"},
            },
            "additionalProperties": false,
        }),
    }
    .into_tool()
}

pub(super) async fn run(
    pipeline: &Arc<Pipeline>,
    state: &Arc<State>,
    keys: &Keyring,
    call: &PermittedCall,
) -> Result<Answer, Refusal> {
    let invalid = |message: String| Refusal::InvalidRequest { message };
    let arguments: Arguments = super::arguments(call)?;
    let who = judged(arguments.agent_id.as_deref(), state, keys, call)?;
    let who = Arc::new(who);
    if let Some(entity) = arguments.entity()? {
        let report = Simulation { pipeline, state, who: &who }.of_entity(entity);
        let what = format!("entity {}", arguments.entity.as_deref().unwrap_or_default());
        return Ok(own_answer(&summary(&what, &who, &report), &report));
    }
    let asked = arguments.asked()?;
    if arguments.params.is_some() && arguments.arguments.is_some() {
        return Err(invalid("give `params` or `arguments`, not both".into()));
    }
    let question = Arc::new(Question { asked, arguments: arguments.params.or(arguments.arguments) });
    let report = told(pipeline, state, call, &who, &question).await?;
    let asked = &question.asked;
    let what = match (asked.kind(), asked.server()) {
        (Kind::Tool, _) | (_, None) => asked.label(),
        (kind, Some(server)) => format!("{} {server}:{}", kind.as_str(), asked.label()),
    };
    Ok(own_answer(&summary(&what, &who, &report), &report))
}

/// Who is judged: the agent that is named, else the caller.
///
/// # Errors
/// Where the profile of agents without a key is not there.
pub(super) fn judged(
    agent: Option<&str>,
    state: &State,
    keys: &Keyring,
    call: &PermittedCall,
) -> Result<Principal, Refusal> {
    let Some(agent) = agent else { return Ok(call.principal().clone()) };
    let message = || "there is no profile `agent`".into();
    keys.agent(agent, &state.profiles).ok_or_else(|| Refusal::InvalidRequest { message: message() })
}

/// One question, asked of the same code that enforces.
struct Simulation<'a> {
    pipeline: &'a Pipeline,
    state: &'a State,
    who: &'a Principal,
}

impl Simulation<'_> {
    /// What would be decided about a call, and all that stands around it.
    fn of(&self, asked: &ToolRef, given: Option<&Value>) -> Value {
        if let Some(own) = self.pipeline.own.find(asked) {
            return match own.unwrapped(given) {
                Some((inner, _)) if self.pipeline.own.find(&inner).is_some_and(|own| own.opens) => {
                    let reason = format!("`{}` does not call itself: name the tool that you want", own.tool.id.tool);
                    self.unknown(asked, given, "invalid_request", &reason)
                }
                Some((inner, arguments)) => self.of(&inner, arguments.as_ref()),
                None => self.of_own(own, given),
            };
        }
        match asked.kind() {
            Kind::Tool => {}
            kind => return self.of_readable(asked, kind, given),
        }
        match self.state.catalog.resolve(asked, |_| true) {
            Found::One(tool) => self.of_backend(&tool, given),
            Found::Several(ids) => {
                let readings: Vec<String> = ids.iter().map(ToString::to_string).collect();
                self.unknown(
                    asked,
                    given,
                    "ambiguous_tool",
                    &format!("names more than one tool: {}", readings.join(", ")),
                )
            }
            Found::None => self.unknown(asked, given, "unknown_tool", "there is no such tool"),
        }
    }

    /// Every name exists, on a server that is open: only the backend knows better.
    fn of_readable(&self, asked: &ToolRef, kind: Kind, given: Option<&Value>) -> Value {
        match self.state.readable(asked) {
            Some(found) => self.of_backend(&found, given),
            None if kind == Kind::Prompt => self.unknown(asked, given, "unknown_prompt", "there is no such prompt"),
            None => self.unknown(asked, given, "unknown_resource", "there is no such resource"),
        }
    }

    fn of_backend(&self, tool: &Arc<Tool>, given: Option<&Value>) -> Value {
        let empty = Value::Object(Map::new());
        let value = given.unwrap_or(&empty);
        let (mut judgement, dlp) = self.scanned(tool, value, self.judged(tool, value));
        if let Some(reason) = self.profile_refuses(tool) {
            judgement = refused_by_profile(judgement, &self.who.profile.name, &reason);
        }
        let faults = match tool.kind {
            Kind::Tool => self.state.catalog.validate(tool, value).err().unwrap_or_default(),
            Kind::Prompt | Kind::Resource | Kind::Entity => Vec::new(),
        };
        let limits = self.limits(tool);
        let breaker = self.pipeline.backends.breaker(&tool.id.server);
        let mut report = report(&judgement, Some(tool), &json!(faults), &json!(limits), &json!(breaker), &dlp);
        if judgement.verdict == Verdict::Approval
            && let Some(members) = report.as_object_mut()
        {
            members.insert("approval".into(), self.approval(&judgement));
        }
        if let (true, Some(members)) = (self.state.vouches(tool), report.as_object_mut()) {
            // Which roles it gives, nobody knows before it is there.
            members.extend([("jwt_required".into(), json!(true)), ("jwt_roles".into(), json!("unknown"))]);
        }
        report
    }

    /// What would be asked of whom.
    fn approval(&self, judgement: &Judgement) -> Value {
        let approvers = self.state.policies.approvers(judgement);
        let of = match &approvers {
            None => "a person with the scope approvals:decide".to_owned(),
            Some(roles) => format!("a person with the scope approvals:decide and a role of {}", roles.join(", ")),
        };
        json!({
            "policy": judgement.policy(),
            "reason": judgement.reason,
            "of": format!("{of}, or an administrator; never the requester"),
            "approvers": approvers,
            "scope": Scope::ApprovalsDecide,
            "for": "exactly this call, once",
            "expires_in_seconds": self.state.settings.approvals.expiry.as_secs(),
        })
    }

    /// What a scan of the arguments would come to, and what it makes of a judgement.
    fn scanned(&self, tool: &Tool, given: &Value, judgement: Judgement) -> (Judgement, Value) {
        let mode = tool.settings.dlp.arguments;
        let mut scanned = examine(&self.state.settings.scanner, mode, &Json::of(given));
        let rewritten = match scanned.result {
            DlpResult::Redacted => scanned.fit(&self.state.catalog, tool),
            _ => None,
        };
        let judgement = match (scanned.result, rewritten) {
            _ if judgement.verdict == Verdict::Deny => judgement,
            (DlpResult::Blocked, _) => {
                refused_by(judgement, "dlp:arguments", &scanned.refusal(Direction::Arguments).to_string())
            }
            (_, Some((_, value))) => {
                let effects = of_call(tool, &value);
                let surface = self.who.profile.surface;
                let now = self.pipeline.clock.now();
                let facts = Facts { effects: &effects.effects, surface, now, source: None };
                self.state.policies.judge(self.who, tool, Some(&value), &facts)
            }
            _ => judgement,
        };
        let findings = scanned.counts.iter().map(|(rule, count)| json!({"rule": rule, "count": count}));
        (judgement, json!({"result": scanned.result, "findings": findings.collect::<Vec<_>>()}))
    }

    /// What the policies say.
    fn judged(&self, tool: &Arc<Tool>, value: &Value) -> Judgement {
        let effects = of_call(tool, value);
        let facts = Facts {
            effects: &effects.effects,
            surface: self.who.profile.surface,
            now: self.pipeline.clock.now(),
            source: None,
        };
        self.state.policies.judge(self.who, tool, Some(value), &facts)
    }

    /// How every window stands that a call would be charged to; nothing is charged.
    fn limits(&self, tool: &Tool) -> Vec<Value> {
        let now = self.pipeline.clock.ticks();
        let standing = |charge: crate::ledger::Charge| {
            let standing = self.pipeline.ledger.standing(&charge, now);
            json!({
                "scope": standing.scope.to_string(),
                "limit": standing.rate.to_string(),
                "used": standing.used,
                "remaining": standing.remaining(),
                "reset_after": standing.reset_after_seconds(),
            })
        };
        self.state.charges(self.who, tool).into_iter().map(standing).collect()
    }

    /// Why the profile leaves the tool out.
    fn profile_refuses(&self, tool: &Tool) -> Option<String> {
        let profile = &self.who.profile;
        if !profile.has(Scope::ToolsInvoke) {
            Some(format!("the profile `{}` has no scope `tools:invoke`", profile.name))
        } else if !self.state.admits(self.who, tool) {
            Some(format!("the profile `{}` does not hold this {}", profile.name, tool.kind.as_str()))
        } else {
            None
        }
    }

    fn of_own(&self, own: &OwnTool, given: Option<&Value>) -> Value {
        let empty = Value::Object(Map::new());
        let faults = self.state.catalog.validate(&own.tool, given.unwrap_or(&empty)).err().unwrap_or_default();
        if !own.by_scope {
            let judgement = self.of_judged(own, given.unwrap_or(&empty));
            return report(&judgement, Some(&own.tool), &json!(faults), &json!([]), &Value::Null, &unscanned());
        }
        let allowed = self.who.profile.has(own.scope);
        let id = format!("scope:{}", own.scope.as_str());
        let (verdict, effect) =
            if allowed { (Verdict::Allow, PolicyEffect::Permit) } else { (Verdict::Deny, PolicyEffect::Forbid) };
        let reason = if allowed { "its scope opens it" } else { "the profile lacks its scope" };
        let judgement =
            self.judgement(verdict, vec![RuleMark::built_in(id, effect, Some(reason))], reason, None, given);
        report(&judgement, Some(&own.tool), &json!(faults), &json!([]), &Value::Null, &unscanned())
    }

    /// An own tool that policy judges like any other.
    fn of_judged(&self, own: &OwnTool, value: &Value) -> Judgement {
        let effects = of_call(&own.tool, value);
        let (surface, now) = (self.who.profile.surface, self.pipeline.clock.now());
        let facts = Facts { effects: &effects.effects, surface, now, source: None };
        let judgement = self.state.policies.judge(self.who, &own.tool, Some(value), &facts);
        self.within_profile(judgement, own)
    }

    /// A judgement as it is for a profile that may not hold this own tool.
    fn within_profile(&self, judgement: Judgement, own: &OwnTool) -> Judgement {
        let profile = &self.who.profile;
        let reason = if !profile.has(own.scope) {
            format!("the profile `{}` has no scope `{}`", profile.name, own.scope.as_str())
        } else if !own.lies_in(profile) {
            format!("the profile `{}` does not hold `{}`", profile.name, own.tool.id)
        } else {
            return judgement;
        };
        refused_by_profile(judgement, &profile.name, &reason)
    }

    /// Whether the company brain shows a type of entities, or a field of one.
    fn of_entity(&self, (entity_type, field): (&str, Option<&str>)) -> Value {
        let (surface, now) = (self.who.profile.surface, self.pipeline.clock.now());
        let facts = Facts { effects: &[], surface, now, source: None };
        let judge = |entity: &Tool| self.state.policies.judge(self.who, entity, None::<&Value>, &facts);
        let entity = Arc::new(Tool::entity(entity_type, field));
        // A field is there where its type is.
        let of_type = judge(&Tool::entity(entity_type, None));
        let mut judgement = if of_type.verdict == Verdict::Allow { judge(&entity) } else { of_type };
        if judgement.verdict == Verdict::Approval {
            judgement.verdict = Verdict::Deny;
            judgement.reason = "what policy permits after approval alone is not shown".into();
        }
        if let Some(own) = self.pipeline.own.find(&ToolRef::Text(brain::NAME.into())) {
            judgement = self.within_profile(judgement, own);
        }
        report(&judgement, Some(&entity), &json!([]), &json!([]), &Value::Null, &unscanned())
    }

    /// A tool that does not exist is a deny; what its arguments would do is said all the same.
    fn unknown(&self, asked: &ToolRef, given: Option<&Value>, code: &'static str, reason: &str) -> Value {
        let mut judgement = self.judgement(Verdict::Deny, Vec::new(), reason, Some(code), given);
        if let ToolRef::Resource { uri, .. } = asked {
            judgement.effects = of_resource(uri).effects.into();
        }
        report(&judgement, None, &json!([]), &json!([]), &Value::Null, &unscanned())
    }

    fn judgement(
        &self,
        verdict: Verdict,
        rules: Vec<RuleMark>,
        reason: &str,
        code: Option<&'static str>,
        given: Option<&Value>,
    ) -> Judgement {
        let effects =
            given.map(|value| recognise(value, &std::collections::BTreeMap::new()).effects).unwrap_or_default();
        let policy_version = Arc::clone(self.state.policies.bundle().version());
        Judgement { verdict, rules, reason: reason.into(), code, effects: effects.into(), policy_version, shadow: None }
    }
}

/// What is said of arguments that go to no backend.
fn unscanned() -> Value {
    json!({"result": DlpResult::Off, "findings": []})
}

fn report(
    judgement: &Judgement,
    tool: Option<&Arc<Tool>>,
    schema_errors: &Value,
    limits: &Value,
    breaker: &Value,
    dlp: &Value,
) -> Value {
    json!({
        "decision": judgement.verdict,
        "policy": judgement.policy(),
        "reason": judgement.reason,
        "code": judgement.code,
        "tool": tool.map(|tool| &tool.id),
        "kind": tool.map(|tool| tool.kind),
        "risk": tool.map(|tool| tool.risk),
        "policies": judgement.rules,
        "policy_version": judgement.policy_version,
        "shadow": judgement.shadow,
        "effects": judgement.effects,
        "schema_errors": schema_errors,
        "limits": limits,
        "breaker": breaker,
        "dlp": dlp,
        "approval": null,
    })
}

/// One line for people and models.
fn summary(what: &str, who: &Principal, report: &Value) -> String {
    let text = |name: &str| report.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let list = |name: &str| report.get(name).and_then(Value::as_array).filter(|list| !list.is_empty());
    let mut line =
        format!("{}: {what} for {}, by {}: {}.", text("decision"), who.agent, text("policy"), text("reason"));
    if let Some(effects) = list("effects") {
        let effects: Vec<&str> = effects.iter().filter_map(Value::as_str).collect();
        line.push_str(&format!(" The arguments would do: {}.", effects.join(", ")));
    }
    if let Some(faults) = list("schema_errors") {
        line.push_str(&format!(" The arguments do not fit the schema in {} places.", faults.len()));
    }
    let found = report.pointer("/dlp/findings").and_then(Value::as_array).filter(|found| !found.is_empty());
    if let Some(found) = found {
        let rules: Vec<&str> = found.iter().filter_map(|finding| finding.get("rule").and_then(Value::as_str)).collect();
        line.push_str(&format!(" In the arguments stands what the scan knows: {}.", rules.join(", ")));
    }
    if report.get("jwt_required").is_some() {
        line.push_str(" A call needs a JWT of the caller besides; the roles that it gives are not counted here.");
    }
    line.push_str(" Nothing was called.");
    line
}
