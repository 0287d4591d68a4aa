//! Policies made of parts of others.

use std::sync::Arc;

use cedar_policy::pst::{
    self, ActionConstraint, BinaryOp, Clause, Effect, Expr, PrincipalConstraint, ResourceConstraint, StaticPolicy,
    Template,
};
use cedar_policy::{Policy as CedarPolicy, PolicyId};

use super::reads::Reads;
use super::scope::Scope;

/// The policy as favourable as a call could make it, and what that still reads. No policy where it then never
/// forbids.
///
/// # Errors
/// What Cedar says where the parts do not make a policy.
pub(super) fn favourable(body: &Template, id: &PolicyId) -> Result<(Option<CedarPolicy>, Reads), String> {
    let mut parts = Vec::new();
    for clause in body.clauses() {
        match clause {
            Clause::When(expression) => split(expression, BinaryOp::And, &Clause::When, &mut parts),
            Clause::Unless(expression) => split(expression, BinaryOp::Or, &Clause::Unless, &mut parts),
        }
    }
    let reads = |clause: &Clause| match clause {
        Clause::When(expression) | Clause::Unless(expression) => Reads::of_expression(expression),
    };
    let (dropped, kept): (Vec<Clause>, Vec<Clause>) = parts.into_iter().partition(|part| reads(part).context());
    if body.effect == Effect::Forbid && !dropped.is_empty() {
        return Ok((None, Reads::NOTHING));
    }
    let left = kept.iter().fold(Reads::NOTHING, |all, part| all | reads(part));
    let scope = (body.principal.clone(), body.action.clone(), body.resource.clone());
    Ok((Some(made(body, id, scope, kept)?), left))
}

/// The policy as it is evaluated for a tool that its scope admits: what the scope says of action and resource is
/// settled by then, and only its conditions are left to ask. None where it has none. A single prompt or resource is left
/// to ask too.
///
/// # Errors
/// What Cedar says where the parts do not make a policy.
pub(super) fn settled(body: &Template, id: &PolicyId) -> Result<Option<CedarPolicy>, String> {
    let one = Scope::of(body).names_readable();
    if body.clauses().is_empty() && !one {
        return Ok(None);
    }
    let resource = if one { body.resource.clone() } else { ResourceConstraint::Any };
    let scope = (body.principal.clone(), ActionConstraint::Any, resource);
    made(body, id, scope, body.clauses().clone()).map(Some)
}

type ScopeParts = (PrincipalConstraint, ActionConstraint, ResourceConstraint);

fn made(body: &Template, id: &PolicyId, scope: ScopeParts, clauses: Vec<Clause>) -> Result<CedarPolicy, String> {
    let id = pst::PolicyID(AsRef::<str>::as_ref(id).into());
    let (principal, action, resource) = scope;
    let template = Template::new(id, body.effect, principal, action, resource)
        .try_with_clauses(clauses)
        .and_then(|template| Ok(StaticPolicy::try_from(template)?))
        .map_err(|error| error.to_string())?;
    CedarPolicy::from_pst(pst::Policy::Static(template)).map_err(|error| error.to_string())
}

fn split(expression: &Arc<Expr>, at: BinaryOp, clause: &dyn Fn(Arc<Expr>) -> Clause, parts: &mut Vec<Clause>) {
    match &**expression {
        Expr::BinaryOp { op, left, right } if *op == at => {
            split(left, at, clause, parts);
            split(right, at, clause, parts);
        }
        _ => parts.push(clause(Arc::clone(expression))),
    }
}
