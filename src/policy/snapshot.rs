//! The policies of one moment, compiled for the tools of that moment. Immutable: a change makes a new snapshot.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use cedar_policy::Entities;

use crate::domain::decision::Mode;
use crate::domain::id::OWN_SERVER;
use crate::domain::tool::Tool;

use super::bundle::{Bundle, Policy};
use super::check::{
    Catalogue, Checked, Defect, Gathered, LeftOutArgument, MAX_REPORTED, Report, check_general, check_tool, fault_of,
    reads_input, recall,
};
use super::decide::Decisions;
use super::deep::on_deep_stack;
use super::input::InputPlan;
use super::readable::Readables;
use super::slice::Slice;
use super::subject::{Subject, action, entities, resource};
use super::who::Acquaintances;

/// A bundle compiled for a catalogue: judges calls.
#[derive(Debug)]
pub struct Policies {
    pub(super) bundle: Arc<Bundle>,
    pub(super) tools: HashMap<Arc<str>, ToolPolicy>,
    pub(super) readables: Readables,
    /// The defects of policies that read no input, kept for the next build.
    general: Checked,
    pub(super) acquaintances: Acquaintances,
    pub(super) decisions: Decisions,
}

/// What judging calls of one tool takes.
#[derive(Debug)]
pub(super) struct ToolPolicy {
    pub(super) tool: Arc<Tool>,
    pub(super) subject: Subject,
    /// Set where nobody may call it.
    pub(super) withheld: Option<Withheld>,
    checked: Checked,
}

/// Why a tool is not to be called.
#[derive(Debug, Clone)]
pub(super) struct Withheld {
    /// The position of the policy that does not fit it, where it is that.
    pub(super) policy: Option<usize>,
    pub(super) reason: Arc<str>,
}

impl From<String> for Withheld {
    fn from(reason: String) -> Self {
        Self { policy: None, reason: reason.into() }
    }
}

impl Policies {
    /// Compiles `bundle` for `tools`, taking what has not changed from `previous`. Slow: for off the request path.
    ///
    /// The snapshot is safe to serve whatever the report says, because tools whose policies do not fit are withheld;
    /// where the report is not `acceptable` the caller keeps the snapshot it has.
    #[must_use]
    pub fn build(bundle: &Arc<Bundle>, tools: &[Arc<Tool>], previous: Option<&Self>) -> (Self, Report) {
        on_deep_stack(|| Self::build_here(bundle, tools, previous))
    }

    fn build_here(bundle: &Arc<Bundle>, tools: &[Arc<Tool>], previous: Option<&Self>) -> (Self, Report) {
        let mut builder = Builder {
            catalogue: Catalogue::of(tools),
            general: Checked::new(),
            slices: HashMap::new(),
            outlooks: HashMap::new(),
            faults: Gathered::default(),
            report: Report::default(),
            applied: HashSet::new(),
            bundle,
            previous,
        };
        builder.general();
        let tools = tools.iter().enumerate().map(|(number, tool)| builder.tool(number, tool)).collect();
        let readables = builder.readables();
        builder.unapplied();
        let Builder { general, outlooks, faults, mut report, .. } = builder;
        report.faults = faults.into_faults(bundle);
        report.acceptable =
            report.faults.is_empty() || previous.is_some_and(|old| old.bundle.version() == bundle.version());
        let acquaintances = Acquaintances::new(outlooks.len());
        let (bundle, decisions) = (Arc::clone(bundle), Decisions::default());
        (Self { bundle, tools, readables, general, acquaintances, decisions }, report)
    }

    /// The bundle that judges.
    #[must_use]
    pub const fn bundle(&self) -> &Arc<Bundle> {
        &self.bundle
    }
}

/// Tools that share an outlook: those of one slice, or one alone where a policy looks at the tool.
#[derive(Debug, PartialEq, Eq, Hash)]
enum Outlooking {
    Slice(Vec<usize>),
    Tool(usize),
}

/// A build under way.
pub(super) struct Builder<'a> {
    pub(super) bundle: &'a Bundle,
    pub(super) previous: Option<&'a Policies>,
    pub(super) catalogue: Catalogue<'a>,
    general: Checked,
    slices: HashMap<Vec<usize>, Result<Arc<Slice>, String>>,
    outlooks: HashMap<Outlooking, usize>,
    faults: Gathered,
    pub(super) report: Report,
    /// Positions of the policies that apply to something.
    applied: HashSet<usize>,
}

impl Builder<'_> {
    /// Checks what is the same for every tool.
    fn general(&mut self) {
        let nothing = Checked::new();
        let old = self.previous.map_or(&nothing, |previous| &previous.general);
        for (at, policy) in self.bundle.policies().iter().enumerate() {
            if !reads_input(policy) {
                check_general(policy, &self.catalogue, old, &mut self.general);
                for defect in recall(policy, &self.catalogue, &self.general) {
                    self.faults.add(at, defect, None);
                }
            }
            self.report.warnings.extend(self.catalogue.pending(policy));
        }
        self.report.warnings.extend(self.bundle.renamed().iter().cloned());
        self.report.warnings.truncate(MAX_REPORTED);
    }

    fn tool(&mut self, number: usize, tool: &Arc<Tool>) -> (Arc<str>, ToolPolicy) {
        let bundle = self.bundle;
        let applicable: Vec<(usize, &Policy)> =
            bundle.policies().iter().enumerate().filter(|(_, policy)| policy.scope.admits(tool)).collect();
        let plan = InputPlan::of(&tool.input_schema);
        let readers: Vec<&Policy> =
            applicable.iter().map(|(_, policy)| *policy).filter(|policy| reads_input(policy)).collect();
        let old = self
            .previous
            .and_then(|previous| previous.tools.get(&tool.label))
            .filter(|old| old.tool.digest == tool.digest && old.tool.risk == tool.risk)
            .map(|old| &old.checked);
        let checked = check_tool(tool, &plan, &readers, &self.catalogue, old);
        self.note_left_out(tool, &plan);
        let (members, mut withheld) = self.members(&applicable, Some(&tool.label), &checked);
        let slice = self.slice(&members).unwrap_or_else(|message| {
            withheld = Some(message.into());
            Arc::default()
        });
        let entities = entities(tool).unwrap_or_else(|message| {
            withheld = Some(message.into());
            Entities::empty()
        });
        if let Some(Withheld { reason, .. }) = &withheld {
            self.report.withheld.push((Arc::clone(&tool.label), Arc::clone(reason)));
        }
        let outlook = self.outlook(&slice, members, number);
        let state = ToolPolicy {
            tool: Arc::clone(tool),
            subject: Subject {
                number: Some(number),
                action: action(tool),
                resource: resource(tool),
                entities,
                slice,
                plan,
                outlook: Some(outlook),
            },
            withheld,
            checked,
        };
        (Arc::clone(&tool.label), state)
    }

    /// The policies that fit the tool, or all prompts or resources, and why they are withheld where an enforced one does
    /// not.
    pub(super) fn members(
        &mut self,
        applicable: &[(usize, &Policy)],
        tool: Option<&Arc<str>>,
        checked: &Checked,
    ) -> (Vec<usize>, Option<Withheld>) {
        let (mut members, mut withheld) = (Vec::new(), None);
        for (at, policy) in applicable {
            self.applied.insert(*at);
            let own = reads_input(policy);
            let defects = recall(policy, &self.catalogue, if own { checked } else { &self.general });
            if own {
                for defect in defects {
                    self.faults.add(*at, defect, tool);
                }
            }
            match defects.first() {
                None => members.push(*at),
                Some(defect) if policy.mode() == Mode::Enforce => {
                    withheld
                        .get_or_insert_with(|| Withheld { policy: Some(*at), reason: misfit(policy, defect, tool) });
                }
                // A shadow policy changes nothing, so it cannot withhold a tool either.
                Some(_) => {}
            }
        }
        (members, withheld)
    }

    pub(super) fn slice(&mut self, members: &[usize]) -> Result<Arc<Slice>, String> {
        if let Some(slice) = self.slices.get(members) {
            return slice.clone();
        }
        let slice = Slice::of(self.bundle, members);
        self.slices.insert(members.to_vec(), slice.clone());
        slice
    }

    fn outlook(&mut self, slice: &Slice, members: Vec<usize>, number: usize) -> usize {
        if slice.alike {
            return self.outlook_of_slice(members);
        }
        let next = self.outlooks.len();
        *self.outlooks.entry(Outlooking::Tool(number)).or_insert(next)
    }

    pub(super) fn outlook_of_slice(&mut self, members: Vec<usize>) -> usize {
        let next = self.outlooks.len();
        *self.outlooks.entry(Outlooking::Slice(members)).or_insert(next)
    }

    fn note_left_out(&mut self, tool: &Tool, plan: &InputPlan) {
        // Nobody can change what the gateway's own tools take.
        if tool.id.server.as_str() == OWN_SERVER {
            return;
        }
        for left in &plan.left_out {
            if self.report.left_out.len() < MAX_REPORTED {
                let tool = Arc::clone(&tool.label);
                self.report.left_out.push(LeftOutArgument { tool, path: left.path.clone(), why: left.why });
            }
        }
    }

    /// Says which policies could not be checked in full, for want of a tool.
    fn unapplied(&mut self) {
        for (at, policy) in self.bundle.policies().iter().enumerate() {
            let unchecked = reads_input(policy) && !self.applied.contains(&at);
            let said = self.report.warnings.iter().any(|warning| warning.policy.as_ref() == Some(policy.id()));
            if unchecked && !said && self.report.warnings.len() < MAX_REPORTED {
                let message = "applies to no known tool, so what it reads of `context.input` is not checked";
                self.report.warnings.push(fault_of(policy, 0, message.into(), None));
            }
        }
    }
}

fn misfit(policy: &Policy, defect: &Defect, tool: Option<&Arc<str>>) -> Arc<str> {
    let until = match tool {
        Some(_) => "this tool, so nobody may call it until one of them is put right",
        None => "prompts and resources, so nobody may read them until it is put right",
    };
    let fault = policy.piece.fault(defect.offset, defect.message.clone(), None);
    format!("the policy `{}` does not fit {until}: {} ({}:{})", policy.id(), fault.message, fault.file, fault.line)
        .into()
}
