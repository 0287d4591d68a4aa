//! Policies against the schema that the tools give.
//!
//! A policy that reads no `context.input` means the same for every tool, so it is checked once; one that does is
//! checked against each tool that it can apply to. Both results are kept by content, so a change of one tool or one
//! policy checks only what it touches.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde::Serialize;

use cedar_policy::ffi::DetailedError;
use cedar_policy::{PolicySet, Schema, ValidationMode, Validator};

use crate::domain::tool::{Risk, Tool};

use super::bundle::{Bundle, Policy, one_line};
use super::input::InputPlan;
use super::names::nearest;
use super::reads::Reads;
use super::schema::{general_schema, readable_schema, schema_of};
use super::scope::Named;
use super::snapshot::Policies;
use super::source::{PolicyFault, in_order};

/// How many entries each list of a report holds.
pub(super) const MAX_REPORTED: usize = 200;

/// What to do about a policy that reads an argument and applies to everything that reads.
const ONLY_TOOLS: &str = "a prompt or a resource has nothing in `context.input`: write `resource is Toolgate::Tool` where \
                          only tools are meant";

/// What became of a build: everything at once.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Report {
    /// Policies that do not fit the schema.
    pub faults: Vec<PolicyFault>,
    /// Policies that name a tool never seen, or that nothing is known to call for.
    pub warnings: Vec<PolicyFault>,
    /// Arguments that policies cannot read.
    pub left_out: Vec<LeftOutArgument>,
    /// Tools that nobody may call until their policies fit, with the reason.
    pub withheld: Vec<(Arc<str>, Arc<str>)>,
    /// Whether the bundle may become active. False only where the *bundle* is new and has faults; a fault that the
    /// catalogue brought to a bundle already active withholds its tool instead.
    pub acceptable: bool,
}

/// An argument without a Cedar type: it is not in `context.input`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LeftOutArgument {
    pub tool: Arc<str>,
    /// JSON Pointer into the arguments; `*` stands for every element.
    pub path: String,
    pub why: &'static str,
}

/// Checks a bundle against the tools, for `toolgate policy check`.
#[must_use]
pub fn check(bundle: &Arc<Bundle>, tools: &[Arc<Tool>]) -> Report {
    Policies::build(bundle, tools, None).1
}

/// Something wrong with a policy, placed in its own text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Defect {
    pub(super) offset: usize,
    pub(super) message: String,
    pub(super) hint: Option<String>,
}

/// The defects of policies, by what they depend on.
pub(super) type Checked = HashMap<String, Arc<[Defect]>>;

/// What the tools of a catalogue are called.
#[derive(Debug)]
pub(super) struct Catalogue<'a> {
    risks: HashMap<&'a str, Risk>,
    servers: std::collections::BTreeSet<&'a str>,
}

impl<'a> Catalogue<'a> {
    pub(super) fn of(tools: &'a [Arc<Tool>]) -> Self {
        Self {
            risks: tools.iter().map(|tool| (&*tool.label, tool.risk)).collect(),
            servers: tools.iter().map(|tool| tool.id.server.as_str()).collect(),
        }
    }

    /// The tool actions that a policy names, with their risk where the tool is known.
    fn named<'b>(&self, policy: &'b Policy) -> Vec<(&'b str, Option<Risk>)> {
        let mut named: Vec<_> = policy
            .actions
            .iter()
            .filter(|name| name.contains(':'))
            .map(|name| (&**name, self.risks.get(&**name).copied()))
            .collect();
        named.sort_unstable();
        named.dedup();
        named
    }

    /// Everything that the outcome of a check depends on, but the tool checked against.
    fn key(&self, policy: &Policy) -> String {
        let mut key = policy.digest.to_string();
        for (name, risk) in self.named(policy) {
            key.push_str(&format!("\0{name}={}", risk.map_or("?", Risk::as_str)));
        }
        key
    }

    /// What is said of a policy that names tools or servers never seen.
    pub(super) fn pending(&self, policy: &Policy) -> Vec<PolicyFault> {
        let unseen = policy.scope.named().into_iter().filter_map(|named| match named {
            Named::Tool(name) if !self.risks.contains_key(&*name) => {
                Some(("tool", nearest(&name, self.risks.keys().copied()).map(str::to_owned), name))
            }
            Named::Server(name) if !self.servers.contains(&*name) => {
                Some(("server", nearest(&name, self.servers.iter().copied()).map(str::to_owned), name))
            }
            _ => None,
        });
        unseen
            .map(|(what, near, name)| {
                let at = policy.piece.text.find(&format!("\"{name}\"")).unwrap_or(0);
                let hint = match near {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("the policy waits; a {what} of this name is withheld until the policy fits it"),
                };
                fault_of(policy, at, format!("pending: no {what} `{name}` has been seen"), Some(hint))
            })
            .collect()
    }
}

pub(super) fn fault_of(policy: &Policy, offset: usize, message: String, hint: Option<String>) -> PolicyFault {
    let mut fault = policy.piece.fault(offset, message, hint);
    fault.policy = Some(Arc::clone(policy.id()));
    fault
}

/// The defects of a policy that no tool's input can change, from `old` where it has been checked before.
pub(super) fn check_general(policy: &Policy, catalogue: &Catalogue<'_>, old: &Checked, new: &mut Checked) {
    let key = catalogue.key(policy);
    let found = old.get(&key).cloned().unwrap_or_else(|| match general_schema(&catalogue.named(policy)) {
        Ok(schema) => defects(schema, &[policy]).remove(policy.id()).unwrap_or_default().into(),
        Err(message) => Arc::new([Defect { offset: 0, message, hint: None }]),
    });
    new.insert(key, found);
}

/// The defects of the policies that read the input of `tool`, from `old` where they have been checked before.
pub(super) fn check_tool(
    tool: &Tool,
    plan: &InputPlan,
    readers: &[&Policy],
    catalogue: &Catalogue<'_>,
    old: Option<&Checked>,
) -> Checked {
    check_readers(readers, catalogue, old, plan, |named| {
        let others: Vec<_> = named.iter().copied().filter(|(name, _)| *name != &*tool.label).collect();
        schema_of(&tool.label, tool.risk, plan, &others)
    })
}

/// The defects of the policies that read the input and can apply to prompts or resources, which have none.
pub(super) fn check_readable(readers: &[&Policy], catalogue: &Catalogue<'_>, old: Option<&Checked>) -> Checked {
    let mut found = check_readers(readers, catalogue, old, &InputPlan::default(), readable_schema);
    for defects in found.values_mut() {
        *defects = defects
            .iter()
            .cloned()
            .map(|defect| Defect { hint: defect.hint.or_else(|| Some(ONLY_TOOLS.into())), ..defect })
            .collect();
    }
    found
}

fn check_readers(
    readers: &[&Policy],
    catalogue: &Catalogue<'_>,
    old: Option<&Checked>,
    plan: &InputPlan,
    schema: impl FnOnce(&[(&str, Option<Risk>)]) -> Result<Schema, String>,
) -> Checked {
    let mut results = Checked::new();
    let mut fresh = Vec::new();
    for policy in readers {
        let key = catalogue.key(policy);
        match old.and_then(|old| old.get(&key)) {
            Some(known) => drop(results.insert(key, Arc::clone(known))),
            None => fresh.push(*policy),
        }
    }
    if fresh.is_empty() {
        return results;
    }
    let named: Vec<_> = fresh.iter().flat_map(|policy| catalogue.named(policy)).collect();
    let mut found = match schema(&named) {
        Ok(schema) => defects(schema, &fresh),
        Err(message) => fresh
            .iter()
            .map(|policy| (Arc::clone(policy.id()), vec![Defect { offset: 0, message: message.clone(), hint: None }]))
            .collect(),
    };
    for policy in fresh {
        let mut defects = found.remove(policy.id()).unwrap_or_default();
        for defect in &mut defects {
            defect.explain(plan);
        }
        results.insert(catalogue.key(policy), defects.into());
    }
    results
}

/// What was found for a policy, by its key.
pub(super) fn recall<'a>(policy: &Policy, catalogue: &Catalogue<'_>, checked: &'a Checked) -> &'a [Defect] {
    checked.get(&catalogue.key(policy)).map_or(&[], |defects| defects)
}

/// Whether a policy has to be checked against each tool that it can apply to.
pub(super) fn reads_input(policy: &Policy) -> bool {
    policy.reads.any(Reads::INPUT)
}

impl Defect {
    /// An argument that Cedar does not know may be one that has no Cedar type: say so.
    fn explain(&mut self, plan: &InputPlan) {
        let left_out = plan.left_out.iter().find(|left| {
            let name = left.path.trim_start_matches('/');
            self.message.starts_with(&format!("attribute `context.input.{name}`"))
        });
        if let Some(left) = left_out {
            self.hint = Some(format!("`{}` is not in `context.input`: {}", left.path, left.why));
        }
    }
}

/// Strict validation. An entity's attributes may be read, those of entities that it leads to may not: a request
/// holds the agent, the tool and the action alone (level 1).
fn defects(schema: Schema, policies: &[&Policy]) -> HashMap<Arc<str>, Vec<Defect>> {
    let mut found: HashMap<Arc<str>, Vec<Defect>> = HashMap::new();
    let set = match PolicySet::from_policies(policies.iter().map(|policy| policy.cedar.clone())) {
        Ok(set) => set,
        Err(error) => {
            let defect = Defect { offset: 0, message: error.to_string(), hint: None };
            return policies.iter().map(|policy| (Arc::clone(policy.id()), vec![defect.clone()])).collect();
        }
    };
    let outcome = Validator::new(schema).validate_with_level(&set, ValidationMode::Strict, 1);
    for error in outcome.validation_errors() {
        let id: &str = error.policy_id().as_ref();
        let error = DetailedError::from(error);
        let message = error.message.strip_prefix(&format!("for policy `{id}`, ")).unwrap_or(&error.message);
        let defect = Defect {
            offset: error.source_locations.first().map_or(0, |label| label.loc.start),
            message: in_context(one_line(message)),
            hint: error.help.as_deref().map(one_line),
        };
        let defects = found.entry(id.into()).or_default();
        if !defects.contains(&defect) {
            defects.push(defect);
        }
    }
    for defects in found.values_mut() {
        defects.sort_by(|one, other| (one.offset, &one.message).cmp(&(other.offset, &other.message)));
    }
    found
}

/// Cedar says "attribute `input.x` in context for ACTION"; we say `context.input.x`, the same for every tool.
fn in_context(message: String) -> String {
    let Some((attribute, rest)) = message.split_once(" in context for ") else { return message };
    let after = rest.rsplit_once('"').map_or("", |(_, after)| after);
    format!("{}{after}", attribute.replacen("attribute `", "attribute `context.", 1))
}

/// Gathers faults, so that a thousand tools with one fault are one line. Keyed by policy, place and message.
#[derive(Debug, Default)]
pub(super) struct Gathered(BTreeMap<(usize, usize, String), Told>);

/// A fault that was met `times` at tools, first at `tool`; where none was met, at something else.
#[derive(Debug)]
struct Told {
    hint: Option<String>,
    tool: Option<Arc<str>>,
    times: usize,
}

impl Gathered {
    pub(super) fn add(&mut self, policy: usize, defect: &Defect, tool: Option<&Arc<str>>) {
        let place = (policy, defect.offset, defect.message.clone());
        let told = || Told { hint: defect.hint.clone(), tool: tool.cloned(), times: 0 };
        self.0.entry(place).or_insert_with(told).times += usize::from(tool.is_some());
    }

    pub(super) fn into_faults(self, bundle: &Bundle) -> Vec<PolicyFault> {
        let faults = self.0.into_iter().filter_map(|((policy, offset, message), Told { hint, tool, times })| {
            let more = match times {
                0 | 1 => String::new(),
                2 => " (and for 1 more tool)".into(),
                _ => format!(" (and for {} more tools)", times - 1),
            };
            let mut fault = fault_of(bundle.policies().get(policy)?, offset, message + &more, hint);
            fault.tool = tool;
            Some(fault)
        });
        let mut faults: Vec<PolicyFault> = faults.take(MAX_REPORTED).collect();
        in_order(&mut faults);
        faults
    }
}
