//! A call on its way: resolved, then decided, and only what is permitted can be sent.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::Value;

use crate::domain::decision::{Judgement, PolicyEffect, RuleMark, Verdict};
use crate::domain::json::Json;
use crate::domain::principal::{Principal, Scope};
use crate::domain::tool::Tool;

use super::decide::Facts;
use super::snapshot::Policies;

/// A call of a tool that exists for this principal, with arguments that fit the tool's schema.
#[derive(Debug)]
pub struct Call {
    principal: Principal,
    tool: Arc<Tool>,
    arguments: Option<Json>,
    value: Value,
}

impl Call {
    /// Called by the catalogue alone, once it has seen that the tool lies inside the principal's profile and that
    /// the arguments fit. `value` is the tree of `arguments`, `null` where there are none.
    #[must_use]
    pub const fn resolved(principal: Principal, tool: Arc<Tool>, arguments: Option<Json>, value: Value) -> Self {
        Self { principal, tool, arguments, value }
    }

    /// The same call with the roles that the caller's token for the server gives.
    #[must_use]
    pub fn vouched(mut self, roles: BTreeSet<Arc<str>>) -> Self {
        self.principal.roles.extend(roles);
        self
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

    /// Why it is permitted.
    #[must_use]
    pub const fn judgement(&self) -> &Judgement {
        &self.judgement
    }
}

/// A call that policy permits once a person has approved it.
#[derive(Debug)]
pub struct PendingCall {
    call: Call,
    judgement: Judgement,
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
        let Self { call, mut judgement } = self;
        judgement.verdict = Verdict::Allow;
        judgement.shadow = None;
        let at = judgement.rules.iter().take_while(|rule| rule.mode == crate::domain::decision::Mode::Enforce).count();
        judgement.rules.insert(at, RuleMark::built_in(format!("approval:{id}"), PolicyEffect::Permit, None));
        PermittedCall { call, judgement }
    }

    /// The judgement alone, where nobody has approved.
    #[must_use]
    pub fn into_judgement(self) -> Judgement {
        self.judgement
    }
}

/// What was decided of a call. The call itself survives only where it may go on.
#[must_use]
#[derive(Debug)]
pub enum Decision {
    Permit(Box<PermittedCall>),
    Deny(Box<Judgement>),
    Approval(Box<PendingCall>),
}

impl Policies {
    /// Decides a call, by [`Policies::judge`].
    pub fn decide(&self, call: Call, facts: &Facts<'_>) -> Decision {
        let arguments = call.arguments.is_some().then_some(&call.value);
        let judgement = self.judge(&call.principal, &call.tool, arguments, facts);
        match judgement.verdict {
            Verdict::Allow => Decision::Permit(Box::new(PermittedCall { call, judgement })),
            Verdict::Deny => Decision::Deny(Box::new(judgement)),
            Verdict::Approval => Decision::Approval(Box::new(PendingCall { call, judgement })),
        }
    }

    /// Decides about what a call of the tool began. That call was judged with its arguments, which nobody has any more; now
    /// it counts whether one could still be permitted.
    pub fn decide_again(&self, call: Call, facts: &Facts<'_>) -> Decision {
        let label = &call.tool.label;
        if self.could_permit(&call.principal, &call.tool) {
            let rules = vec![RuleMark::built_in("task", PolicyEffect::Permit, None)];
            let reason = format!("`{label}` may still be called, so what it began may be asked about").into();
            let judgement = Judgement { verdict: Verdict::Allow, rules, reason, ..self.blank(facts) };
            return Decision::Permit(Box::new(PermittedCall { call, judgement }));
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
            return Decision::Permit(Box::new(PermittedCall { call, judgement }));
        }
        let reason = format!("the key lacks the scope `{}`: ask for a profile that has it", scope.as_str()).into();
        Decision::Deny(Box::new(Judgement { rules: mark(PolicyEffect::Forbid), reason, ..self.blank(facts) }))
    }
}
