//! One evaluation of one call: the request that Cedar is given, and what it says.

use cedar_policy::{
    AuthorizationError, Authorizer, Context, Entities, PolicyId, Request, Response, RestrictedExpression,
};
use serde_json::Value;

use crate::domain::principal::Principal;

use super::bundle::one_line;
use super::decide::Facts;
use super::reads::{Fields, Reads};
use super::slice::Group;
use super::snapshot::Policies;
use super::subject::Subject;
use super::who::{Known, text, texts};

/// One evaluation of one call.
pub(super) struct Case<'a> {
    pub(super) policies: &'a Policies,
    pub(super) who: &'a Principal,
    pub(super) known: &'a Known,
    pub(super) subject: &'a Subject,
    pub(super) arguments: Option<&'a Value>,
    pub(super) facts: &'a Facts<'a>,
}

/// Positions in the bundle, in order.
pub(super) struct Findings {
    pub(super) matched: Vec<usize>,
    pub(super) errors: Vec<(usize, String)>,
}

/// A part of the request that could not be built: it fails every policy that reads it.
struct Unbuilt {
    part: Reads,
    why: String,
}

impl Case<'_> {
    pub(super) fn run(&self, group: &Group) -> Findings {
        let admitted =
            |at: &usize| self.policies.policy(*at).is_some_and(|policy| policy.scope.admits_principal(self.who));
        let matched = group.unconditional.iter().copied().filter(admitted).collect();
        let mut found = Findings { matched, errors: Vec::new() };
        if !group.conditional.is_empty() {
            match self.ask(group) {
                Ok(response) => self.note(&response, &mut found),
                Err(Unbuilt { part, why }) => {
                    let hit =
                        group.conditional.iter().filter(|(_, reads)| part == Reads::EVERYTHING || reads.any(part));
                    found.errors.extend(hit.map(|(at, _)| (*at, why.clone())));
                }
            }
            found.matched.sort_unstable();
            found.errors.sort();
        }
        found
    }

    /// Asks Cedar about the policies with conditions.
    fn ask(&self, group: &Group) -> Result<Response, Unbuilt> {
        let context = self.context(group.reads, &group.fields)?;
        let request =
            request(self.known, self.subject, context).map_err(|why| Unbuilt { part: Reads::EVERYTHING, why })?;
        let authorizer = Authorizer::new();
        if !group.reads.any(Reads::PRINCIPAL) {
            return Ok(authorizer.is_authorized(&request, &group.set, &self.subject.entities));
        }
        let why = || "the attributes of the key cannot be read".to_owned();
        let entities =
            entities(self.known, self.subject).ok_or_else(|| Unbuilt { part: Reads::EVERYTHING, why: why() })?;
        Ok(authorizer.is_authorized(&request, &group.set, &entities))
    }

    fn note(&self, response: &Response, found: &mut Findings) {
        let position = |id: &PolicyId| self.policies.bundle.position(id.as_ref());
        found.matched.extend(response.diagnostics().reason().filter_map(position));
        found.errors.extend(response.diagnostics().errors().filter_map(|error| {
            let AuthorizationError::PolicyEvaluationError(error) = error;
            Some((position(error.policy_id())?, one_line(&error.inner().to_string())))
        }));
    }

    /// The parts of `context` that are read, and no others.
    fn context(&self, reads: Reads, fields: &Fields) -> Result<Context, Unbuilt> {
        let mut pairs: Vec<(String, RestrictedExpression)> = Vec::new();
        let mut add = |name: &str, value| pairs.push((name.to_owned(), value));
        if reads.any(Reads::INPUT) {
            let value = self.subject.plan.value(self.arguments, fields).map_err(|misfit| {
                let place = if misfit.path.is_empty() { "/" } else { &misfit.path };
                let why = format!("`{place}` does not fit its type in `context.input`: {}", misfit.why);
                Unbuilt { part: Reads::INPUT, why }
            })?;
            add("input", value);
        }
        if reads.any(Reads::EFFECTS) {
            add("effects", texts(self.facts.effects.iter().copied()));
        }
        if reads.any(Reads::SURFACE) {
            add("surface", text(self.facts.surface.as_str()));
        }
        if reads.any(Reads::TIME) {
            add("time", RestrictedExpression::new_datetime(self.facts.now.rfc3339()));
        }
        if let Some(source) = self.facts.source.filter(|_| reads.any(Reads::SOURCE)) {
            add("source_ip", RestrictedExpression::new_ip(source.to_string()));
        }
        Context::from_pairs(pairs).map_err(|error| Unbuilt { part: Reads::CONTEXT, why: one_line(&error.to_string()) })
    }
}

pub(super) fn entities(known: &Known, subject: &Subject) -> Option<Entities> {
    subject.entities.clone().add_entities([known.entity.clone()?], None).ok()
}

pub(super) fn request(known: &Known, subject: &Subject, context: Context) -> Result<Request, String> {
    Request::new(known.uid.clone(), subject.action.clone(), subject.resource.clone(), context, None)
        .map_err(|error| one_line(&error.to_string()))
}
