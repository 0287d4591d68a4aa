//! The one judgement: who, which tool, with what, under which circumstances.
//!
//! Enforcement, simulation and the record all use [`Policies::judge`]. It differs from Cedar's own authorizer in one
//! point: a policy that cannot be evaluated is not skipped, it denies.

use std::borrow::Cow;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::Arc;

use moka::sync::Cache;
use serde_json::Value;

use crate::domain::clock::Moment;
use crate::domain::decision::{Judgement, Mode, PolicyEffect, RuleMark, Verdict};
use crate::domain::id::ToolId;
use crate::domain::principal::{Principal, Surface};
use crate::domain::tool::{Kind, Tool};
use crate::domain::uri::readings;

use super::bundle::Policy;
use super::evaluate::{Case, Findings};
use super::snapshot::{Policies, Withheld};
use super::subject::Subject;
use super::who::Known;

/// Decisions kept at a time.
const MAX_DECISIONS: u64 = 16 * 1024;

/// The circumstances of a call, besides who, what and with which arguments.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// What the arguments were recognised to do, sorted.
    pub effects: &'a [&'static str],
    pub surface: Surface,
    pub now: Moment,
    pub source: Option<IpAddr>,
}

impl Policies {
    /// Judges a call without making it. `arguments` are the call's, absent where it brings none.
    #[must_use]
    pub fn judge(&self, who: &Principal, tool: &Tool, arguments: Option<&Value>, facts: &Facts<'_>) -> Judgement {
        let judged = self.judge_as_written(who, tool, arguments, facts);
        if tool.kind != Kind::Resource || judged.verdict == Verdict::Deny {
            return judged;
        }
        // What forbids a resource forbids every spelling of its URI.
        for uri in readings(&tool.id.tool) {
            let id = ToolId::new(tool.id.server.clone(), &uri);
            let spelled = Tool { settings: Arc::clone(&tool.settings), ..Tool::readable(Kind::Resource, id) };
            let otherwise = self.judge_as_written(who, &spelled, arguments, facts);
            if otherwise.verdict == Verdict::Deny && otherwise.code != Some("default_deny") {
                return otherwise;
            }
        }
        judged
    }

    fn judge_as_written(
        &self,
        who: &Principal,
        tool: &Tool,
        arguments: Option<&Value>,
        facts: &Facts<'_>,
    ) -> Judgement {
        let subject = match self.subject(tool) {
            Ok(subject) => subject,
            Err(Withheld { policy, reason }) => {
                let marks = policy.and_then(|at| self.policy(at)).map(|policy| policy.mark.clone());
                return self.failure(marks.into_iter().collect(), reason, facts);
            }
        };
        let known = self.acquaintances.meet(who);
        let case = Case { policies: self, who, known: &known, subject: &subject, arguments, facts };
        match subject.number.filter(|_| subject.slice.cacheable()) {
            Some(number) => self.decisions.recall(&known, number, facts, || self.evaluate(&case, tool)),
            None => self.evaluate(&case, tool),
        }
    }

    /// What judging `tool` takes.
    pub(super) fn subject(&self, tool: &Tool) -> Result<Cow<'_, Subject>, Withheld> {
        if tool.kind != Kind::Tool {
            return self.readables.subject(tool).map(Cow::Owned);
        }
        let state = self.tools.get(&tool.label).filter(|state| {
            std::ptr::eq(&*state.tool, tool)
                || (state.tool.digest == tool.digest
                    && state.tool.risk == tool.risk
                    && state.tool.settings == tool.settings)
        });
        match state {
            None => {
                let reason = "the policies have not been checked against this tool yet: try again in a moment";
                Err(Withheld::from(reason.to_owned()))
            }
            Some(state) => state.withheld.clone().map_or(Ok(Cow::Borrowed(&state.subject)), Err),
        }
    }

    fn evaluate(&self, case: &Case<'_>, tool: &Tool) -> Judgement {
        let found = case.run(&case.subject.slice.enforced);
        let mut judgement = self.conclude(case.who, tool, &found, case.facts);
        if !case.subject.slice.shadow.is_empty() {
            self.watch(case, &mut judgement);
        }
        judgement
    }

    /// The verdict on what was found.
    fn conclude(&self, who: &Principal, tool: &Tool, found: &Findings, facts: &Facts<'_>) -> Judgement {
        if let Some((policy, error)) = found.errors.first().and_then(|(at, error)| Some((self.policy(*at)?, error))) {
            let reason = format!("the policy `{}` cannot be evaluated, so nothing is permitted: {error}", policy.id());
            let marks = found.errors.iter().filter_map(|(at, _)| Some(self.policy(*at)?.mark.clone())).collect();
            return self.failure(marks, reason.into(), facts);
        }
        let role = role_rule(who, tool);
        let matched = |effect| {
            let policies = found.matched.iter().filter_map(|at| self.policy(*at));
            policies.filter(move |policy| policy.effect() == effect)
        };
        let role_of = |effect| role.iter().filter(move |mark| mark.effect == effect).cloned();
        let forbids: Vec<RuleMark> = role_of(PolicyEffect::Forbid)
            .chain(matched(PolicyEffect::Forbid).map(|policy| policy.mark.clone()))
            .collect();
        if !forbids.is_empty() {
            return self.verdict(Verdict::Deny, forbids, tool, facts);
        }
        // A permit that waits for approval decides only where no other permit does without.
        let plain: Vec<RuleMark> = role_of(PolicyEffect::Permit)
            .chain(matched(PolicyEffect::Permit).filter(|policy| !policy.requires_approval()).map(|p| p.mark.clone()))
            .collect();
        if !plain.is_empty() {
            return self.verdict(Verdict::Allow, plain, tool, facts);
        }
        let waiting: Vec<RuleMark> = matched(PolicyEffect::Permit).map(|policy| policy.mark.clone()).collect();
        if !waiting.is_empty() {
            return self.verdict(Verdict::Approval, waiting, tool, facts);
        }
        let reason =
            format!("no policy permits `{}` to `{}`: ask for a role or a policy that does", tool.shown(), who.agent);
        self.denial(Vec::new(), reason.into(), "default_deny", facts)
    }

    fn verdict(&self, verdict: Verdict, rules: Vec<RuleMark>, tool: &Tool, facts: &Facts<'_>) -> Judgement {
        let first = rules.first();
        let reason = first.and_then(|mark| mark.reason.clone()).unwrap_or_else(|| {
            let (id, tool) = (first.map_or("", |mark| &*mark.id), tool.shown());
            match verdict {
                Verdict::Allow => format!("`{id}` permits `{tool}`"),
                Verdict::Deny => {
                    format!("`{id}` forbids `{tool}`: change what you ask for, or ask who keeps the policy")
                }
                Verdict::Approval => format!("`{id}` permits `{tool}` once a person has approved this call"),
            }
            .into()
        });
        Judgement { verdict, rules, reason, code: None, ..self.blank(facts) }
    }

    /// A deny because something could not be judged.
    fn failure(&self, rules: Vec<RuleMark>, reason: Arc<str>, facts: &Facts<'_>) -> Judgement {
        self.denial(rules, reason, "policy_error", facts)
    }

    fn denial(&self, rules: Vec<RuleMark>, reason: Arc<str>, code: &'static str, facts: &Facts<'_>) -> Judgement {
        Judgement { rules, reason, code: Some(code), ..self.blank(facts) }
    }

    /// A deny that says nothing yet.
    pub(super) fn blank(&self, facts: &Facts<'_>) -> Judgement {
        Judgement {
            verdict: Verdict::Deny,
            rules: Vec::new(),
            reason: Arc::default(),
            code: None,
            effects: facts.effects.into(),
            policy_version: Arc::clone(self.bundle.version()),
            shadow: None,
        }
    }

    /// Adds the shadow policies that match, and what the verdict would have been with them.
    fn watch(&self, case: &Case<'_>, judgement: &mut Judgement) {
        let (mut forbidden, mut allowed, mut waiting) = (false, false, false);
        for group in &case.subject.slice.shadow {
            let found = case.run(group);
            forbidden |= !found.errors.is_empty();
            let errors = found.errors.iter().filter_map(|(at, error)| {
                let reason = format!("cannot be evaluated: {error}").into();
                Some(RuleMark { reason: Some(reason), ..self.policy(*at)?.mark.clone() })
            });
            judgement.rules.extend(errors);
            for policy in found.matched.iter().filter_map(|at| self.policy(*at)) {
                match (policy.effect(), policy.requires_approval()) {
                    (PolicyEffect::Forbid, _) => forbidden = true,
                    (PolicyEffect::Permit, false) => allowed = true,
                    (PolicyEffect::Permit, true) => waiting = true,
                }
                judgement.rules.push(policy.mark.clone());
            }
        }
        let default = judgement.code == Some("default_deny");
        let otherwise = match judgement.verdict {
            Verdict::Deny if !default => Verdict::Deny,
            _ if forbidden => Verdict::Deny,
            Verdict::Allow => Verdict::Allow,
            _ if allowed => Verdict::Allow,
            Verdict::Deny if !waiting => Verdict::Deny,
            Verdict::Deny | Verdict::Approval => Verdict::Approval,
        };
        judgement.shadow = (otherwise != judgement.verdict).then_some(otherwise);
    }

    pub(super) fn policy(&self, at: usize) -> Option<&Policy> {
        self.bundle.policies().get(at)
    }
}

/// What `allowed_roles` says: a permit to holders, a forbid to everybody else.
fn role_rule(who: &Principal, tool: &Tool) -> Option<RuleMark> {
    let roles = tool.settings.allowed_roles.as_ref()?;
    let id = format!("roles:{}", tool.label);
    if roles.iter().any(|role| who.roles.contains(role)) {
        return Some(RuleMark::built_in(id, PolicyEffect::Permit, None));
    }
    let reason = match roles.as_slice() {
        [] => format!("`{}` is open to no role", tool.label),
        roles => format!("`{}` needs one of the roles {}: ask for one", tool.label, quoted(roles)),
    };
    Some(RuleMark::built_in(id, PolicyEffect::Forbid, Some(&reason)))
}

fn quoted(names: &[Arc<str>]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

/// Decisions that depend on the principal, the tool, the effects and the surface alone.
#[derive(Debug)]
pub(super) struct Decisions {
    kept: Cache<u64, Arc<Kept>>,
    hasher: RandomState,
}

/// A decision with everything that it depends on.
#[derive(Debug)]
struct Kept {
    who: u64,
    tool: usize,
    surface: Surface,
    /// Holds the effects.
    judgement: Judgement,
}

impl Default for Decisions {
    fn default() -> Self {
        Self { kept: Cache::new(MAX_DECISIONS), hasher: RandomState::new() }
    }
}

impl Decisions {
    /// The decision, made where it is new. The hash only finds it: what is found is compared in full.
    fn recall(&self, who: &Known, tool: usize, facts: &Facts<'_>, make: impl FnOnce() -> Judgement) -> Judgement {
        let hash = self.hasher.hash_one((who.serial, tool, facts.effects, facts.surface));
        if let Some(kept) = self.kept.get(&hash)
            && kept.who == who.serial
            && kept.tool == tool
            && kept.surface == facts.surface
            && *kept.judgement.effects == *facts.effects
        {
            return kept.judgement.clone();
        }
        let judgement = make();
        let kept = Kept { who: who.serial, tool, surface: facts.surface, judgement: judgement.clone() };
        self.kept.insert(hash, Arc::new(kept));
        judgement
    }
}

/// Turns a judgement into the profile's refusal, as simulate shows it: `profile:NAME` forbids, before all else.
#[must_use]
pub fn refused_by_profile(judgement: Judgement, profile: &str, reason: &str) -> Judgement {
    refused_by(judgement, &format!("profile:{profile}"), reason)
}

/// A judgement as it is where a rule that is no policy refuses besides.
#[must_use]
pub fn refused_by(mut judgement: Judgement, rule: &str, reason: &str) -> Judgement {
    let mark = RuleMark::built_in(rule, PolicyEffect::Forbid, Some(reason));
    // The permits determine nothing any more; forbids and what was watched stay.
    judgement.rules.retain(|rule| rule.mode == Mode::Shadow || rule.effect == PolicyEffect::Forbid);
    judgement.rules.insert(0, mark);
    Judgement { verdict: Verdict::Deny, reason: reason.into(), code: None, shadow: None, ..judgement }
}
