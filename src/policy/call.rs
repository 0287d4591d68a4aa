//! A call on its way: resolved, then decided, and only what is permitted can be sent.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;

use crate::domain::clock::Moment;
use crate::domain::decision::{Judgement, Mode, PolicyEffect, RuleMark, Verdict};
use crate::domain::id::EventId;
use crate::domain::json::Json;
use crate::domain::principal::{Principal, Scope, Subject, Surface};
use crate::domain::secret::Secret;
use crate::domain::tool::Tool;
use crate::domain::trace::{Context, Provenance};

use super::decide::Facts;
use super::snapshot::Policies;

/// A call of a tool that exists for this principal, with arguments that fit the tool's schema.
#[derive(Debug)]
pub struct Call {
    principal: Principal,
    tool: Arc<Tool>,
    arguments: Option<Json>,
    value: Value,
    /// Its record, and its span where there is one.
    recorded: (Option<EventId>, Option<Context>),
    jwt: Option<Secret>,
    /// Whom the token names that the server asks its callers for.
    subject: Option<Subject>,
}

impl Call {
    /// Called by the catalogue alone, once it has seen that the tool lies inside the principal's profile and that
    /// the arguments fit. `value` is the tree of `arguments`, `null` where there are none.
    #[must_use]
    pub const fn resolved(principal: Principal, tool: Arc<Tool>, arguments: Option<Json>, value: Value) -> Self {
        Self { principal, tool, arguments, value, recorded: (None, None), jwt: None, subject: None }
    }

    /// The same call with other arguments, which fit as well; `value` is their tree.
    #[must_use]
    pub fn rewritten(self, arguments: Json, value: Value) -> Self {
        Self { arguments: Some(arguments), value, ..self }
    }

    /// The same call, once its record is open.
    #[must_use]
    pub fn recorded(self, event: EventId, span: Option<Context>) -> Self {
        Self { recorded: (Some(event), span), ..self }
    }

    /// The same call with the token that its caller brought for a server: for own tools that ask about others.
    #[must_use]
    pub fn bringing(self, jwt: Option<Secret>) -> Self {
        Self { jwt, ..self }
    }

    /// The same call with whom the caller's token for the server names, and the roles that it gives.
    #[must_use]
    pub fn vouched(mut self, subject: Subject, roles: BTreeSet<Arc<str>>) -> Self {
        self.principal.roles.extend(roles);
        self.subject = Some(subject);
        self
    }

    /// Whom the caller's token for the server names, where the server asks for one.
    #[must_use]
    pub const fn subject(&self) -> Option<&Subject> {
        self.subject.as_ref()
    }

    #[must_use]
    pub const fn principal(&self) -> &Principal {
        &self.principal
    }

    #[must_use]
    pub const fn tool(&self) -> &Arc<Tool> {
        &self.tool
    }

    /// The bytes that came, if any did.
    #[must_use]
    pub const fn arguments(&self) -> Option<&Json> {
        self.arguments.as_ref()
    }

    /// The tree of the arguments, `null` where there are none.
    #[must_use]
    pub const fn value(&self) -> &Value {
        &self.value
    }
}

/// A call that policy permits: all that a backend takes. Only this module makes one.
#[derive(Debug)]
pub struct PermittedCall {
    call: Call,
    judgement: Judgement,
    circumstances: Circumstances,
    /// What its record is to say besides, where the gateway itself answers it.
    notes: Mutex<Vec<String>>,
}

/// The facts of a call but for its effects: for judging what it reads while it runs.
#[derive(Debug, Clone, Copy)]
struct Circumstances {
    surface: Surface,
    now: Moment,
    source: Option<IpAddr>,
}

impl Circumstances {
    const fn of(facts: &Facts<'_>) -> Self {
        Self { surface: facts.surface, now: facts.now, source: facts.source }
    }
}

impl PermittedCall {
    #[must_use]
    pub const fn principal(&self) -> &Principal {
        self.call.principal()
    }

    #[must_use]
    pub const fn tool(&self) -> &Arc<Tool> {
        self.call.tool()
    }

    /// The very bytes that were judged.
    #[must_use]
    pub const fn arguments(&self) -> Option<&Json> {
        self.call.arguments()
    }

    #[must_use]
    pub const fn value(&self) -> &Value {
        self.call.value()
    }

    /// Where a call comes from that this one makes.
    #[must_use]
    pub fn nested(&self) -> Provenance {
        let (parent, within) = self.call.recorded.clone();
        Provenance { parent, within, ..Provenance::default() }
    }

    /// The token that the caller of an own tool brought for a server; it is neither checked nor sent.
    #[must_use]
    pub const fn jwt(&self) -> Option<&Secret> {
        self.call.jwt.as_ref()
    }

    /// Why it is permitted.
    #[must_use]
    pub const fn judgement(&self) -> &Judgement {
        &self.judgement
    }

    /// Where it was judged, for what it reads while it runs; a reading has no effects.
    #[must_use]
    pub const fn facts(&self) -> Facts<'static> {
        let Circumstances { surface, now, source } = self.circumstances;
        Facts { effects: &[], surface, now, source }
    }

    /// Has the record say so too.
    pub fn note(&self, note: String) {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner).push(note);
    }

    /// What was noted since it was asked last.
    #[must_use]
    pub fn notes(&self) -> Vec<String> {
        std::mem::take(&mut self.notes.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn new(call: Call, judgement: Judgement, circumstances: Circumstances) -> Self {
        Self { call, judgement, circumstances, notes: Mutex::default() }
    }
}

/// A call that policy permits once a person has approved it.
#[derive(Debug)]
pub struct PendingCall {
    call: Call,
    judgement: Judgement,
    circumstances: Circumstances,
}

impl PendingCall {
    #[must_use]
    pub const fn call(&self) -> &Call {
        &self.call
    }

    /// Why it waits.
    #[must_use]
    pub const fn judgement(&self) -> &Judgement {
        &self.judgement
    }

    /// Lets the call go. Called by the approvals alone, once they have consumed the approval `id`, which the record
    /// then names.
    #[must_use]
    pub fn approved(self, id: &str) -> PermittedCall {
        let Self { call, mut judgement, circumstances } = self;
        judgement.verdict = Verdict::Allow;
        judgement.shadow = None;
        let at = judgement.rules.iter().take_while(|rule| rule.mode == Mode::Enforce).count();
        judgement.rules.insert(at, RuleMark::built_in(format!("approval:{id}"), PolicyEffect::Permit, None));
        PermittedCall::new(call, judgement, circumstances)
    }

    /// The judgement alone, where nobody has approved.
    #[must_use]
    pub fn into_judgement(self) -> Judgement {
        self.judgement
    }

    /// The judgement of a call that a person has refused, under the approval `id`.
    #[must_use]
    pub fn refused(self, id: &str, reason: &str) -> Judgement {
        let mut judgement = self.judgement;
        // The permits determine nothing any more; what was watched stays.
        judgement.rules.retain(|rule| rule.mode == Mode::Shadow);
        judgement.rules.insert(0, RuleMark::built_in(format!("approval:{id}"), PolicyEffect::Forbid, Some(reason)));
        Judgement {
            verdict: Verdict::Deny,
            reason: reason.into(),
            code: Some("approval_denied"),
            shadow: None,
            ..judgement
        }
    }
}

/// The roles whose holders may approve a call; `None` where everybody with the scope may.
pub type Approvers = Option<Vec<Arc<str>>>;

/// What was decided of a call. The call itself survives only where it may go on.
#[must_use]
#[derive(Debug)]
pub enum Decision {
    Permit(Box<PermittedCall>),
    Deny(Box<Judgement>),
    Approval(Box<PendingCall>),
}

impl Policies {
    /// Who may approve what a judgement wants approved. Each policy that would permit it is enough.
    #[must_use]
    pub fn approvers(&self, judgement: &Judgement) -> Approvers {
        let asking = judgement.rules.iter().filter(|rule| rule.mode == Mode::Enforce);
        let named = asking.map(|rule| self.bundle().policy(&rule.id).and_then(super::bundle::Policy::approvers));
        let all: BTreeSet<Arc<str>> = named.collect::<Option<Vec<_>>>()?.into_iter().flatten().cloned().collect();
        Some(all.into_iter().collect())
    }

    /// The ids of the policies that ask for an approval, each with the digest of its text.
    #[must_use]
    pub fn asking(&self, judgement: &Judgement) -> Vec<(Arc<str>, Arc<str>)> {
        let asking = judgement.rules.iter().filter(|rule| rule.mode == Mode::Enforce);
        let policies = asking.filter_map(|rule| self.bundle().policy(&rule.id));
        policies.map(|policy| (Arc::clone(policy.id()), Arc::clone(&policy.digest))).collect()
    }

    /// Decides a call, by [`Policies::judge`].
    pub fn decide(&self, call: Call, facts: &Facts<'_>) -> Decision {
        let arguments = call.arguments.is_some().then_some(&call.value);
        let judgement = self.judge(&call.principal, &call.tool, arguments, facts);
        let circumstances = Circumstances::of(facts);
        match judgement.verdict {
            Verdict::Allow => Decision::Permit(Box::new(PermittedCall::new(call, judgement, circumstances))),
            Verdict::Deny => Decision::Deny(Box::new(judgement)),
            Verdict::Approval => Decision::Approval(Box::new(PendingCall { call, judgement, circumstances })),
        }
    }

    /// Decides about what a call of the tool began. That call was judged with its arguments, which nobody has any more; now
    /// it counts whether one could still be permitted.
    pub fn decide_again(&self, call: Call, facts: &Facts<'_>) -> Decision {
        let label = call.tool.shown();
        if self.could_permit(&call.principal, &call.tool) {
            let rules = vec![RuleMark::built_in("task", PolicyEffect::Permit, None)];
            let reason = format!("`{label}` may still be called, so what it began may be asked about").into();
            let judgement = Judgement { verdict: Verdict::Allow, rules, reason, ..self.blank(facts) };
            return Decision::Permit(Box::new(PermittedCall::new(call, judgement, Circumstances::of(facts))));
        }
        let rules = vec![RuleMark::built_in("task", PolicyEffect::Forbid, None)];
        let reason = format!("`{label}` may not be called any more").into();
        Decision::Deny(Box::new(Judgement { rules, reason, ..self.blank(facts) }))
    }

    /// Decides a call of an own tool that its scope alone opens; no policy is asked.
    pub fn permit_by_scope(&self, call: Call, scope: Scope, facts: &Facts<'_>) -> Decision {
        let id = format!("scope:{}", scope.as_str());
        let mark = |effect| vec![RuleMark::built_in(id.as_str(), effect, None)];
        if call.principal.profile.has(scope) {
            let reason = format!("the scope `{}` opens `{}`", scope.as_str(), call.tool.id.tool).into();
            let rules = mark(PolicyEffect::Permit);
            let judgement = Judgement { verdict: Verdict::Allow, rules, reason, ..self.blank(facts) };
            return Decision::Permit(Box::new(PermittedCall::new(call, judgement, Circumstances::of(facts))));
        }
        let reason = format!("the key lacks the scope `{}`: ask for a profile that has it", scope.as_str()).into();
        Decision::Deny(Box::new(Judgement { rules: mark(PolicyEffect::Forbid), reason, ..self.blank(facts) }))
    }
}
