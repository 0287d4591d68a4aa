//! The policies of one moment, compiled for the tools of that moment. Immutable: a change makes a new snapshot.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use cedar_policy::{Entities, Entity, EntityUid, RestrictedExpression};

use crate::domain::decision::Mode;
use crate::domain::tool::{Hints, Risk, Tool};

use super::bundle::{Bundle, Policy};
use super::check::{
    Catalogue, Checked, Defect, Gathered, LeftOutArgument, MAX_REPORTED, Report, check_general, check_tool, fault_of,
    reads_input, recall,
};
use super::decide::Decisions;
use super::deep::on_deep_stack;
use super::input::InputPlan;
use super::names::{ACTIONS, CALL, SERVERS, TOOLS};
use super::slice::Slice;
use super::who::{Acquaintances, text, texts};

/// A bundle compiled for a catalogue: judges calls.
#[derive(Debug)]
pub struct Policies {
    pub(super) bundle: Arc<Bundle>,
    pub(super) tools: HashMap<Arc<str>, ToolPolicy>,
    /// The defects of policies that read no input, kept for the next build.
    general: Checked,
    pub(super) acquaintances: Acquaintances,
    pub(super) decisions: Decisions,
}

/// What judging calls of one tool takes.
#[derive(Debug)]
pub(super) struct ToolPolicy {
    pub(super) tool: Arc<Tool>,
    /// Its number in this snapshot.
    pub(super) number: usize,
    pub(super) action: EntityUid,
    pub(super) resource: EntityUid,
    /// The tool and its action.
    pub(super) entities: Entities,
    pub(super) slice: Arc<Slice>,
    pub(super) plan: InputPlan,
    /// Set where nobody may call it.
    pub(super) withheld: Option<Withheld>,
    /// Which of a principal's outlooks is this tool's.
    pub(super) outlook: usize,
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
        builder.unapplied();
        let Builder { general, outlooks, faults, mut report, .. } = builder;
        report.faults = faults.into_faults(bundle);
        report.acceptable =
            report.faults.is_empty() || previous.is_some_and(|old| old.bundle.version() == bundle.version());
        let acquaintances = Acquaintances::new(outlooks.len());
        (Self { bundle: Arc::clone(bundle), tools, general, acquaintances, decisions: Decisions::default() }, report)
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
struct Builder<'a> {
    bundle: &'a Bundle,
    previous: Option<&'a Policies>,
    catalogue: Catalogue<'a>,
    general: Checked,
    slices: HashMap<Vec<usize>, Result<Arc<Slice>, String>>,
    outlooks: HashMap<Outlooking, usize>,
    faults: Gathered,
    report: Report,
    /// Positions of the policies that apply to some tool.
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
        let (members, mut withheld) = self.members(&applicable, tool, &checked);
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
            number,
            action: ACTIONS.uid(&tool.label),
            resource: TOOLS.uid(&tool.label),
            entities,
            slice,
            plan,
            withheld,
            outlook,
            checked,
        };
        (Arc::clone(&tool.label), state)
    }

    /// The policies that fit the tool, and why it is withheld where an enforced one does not.
    fn members(
        &mut self,
        applicable: &[(usize, &Policy)],
        tool: &Tool,
        checked: &Checked,
    ) -> (Vec<usize>, Option<Withheld>) {
        let (mut members, mut withheld) = (Vec::new(), None);
        for (at, policy) in applicable {
            self.applied.insert(*at);
            let own = reads_input(policy);
            let defects = recall(policy, &self.catalogue, if own { checked } else { &self.general });
            if own {
                for defect in defects {
                    self.faults.add(*at, defect, Some(&tool.label));
                }
            }
            match defects.first() {
                None => members.push(*at),
                Some(defect) if policy.mode() == Mode::Enforce => {
                    withheld.get_or_insert_with(|| Withheld { policy: Some(*at), reason: misfit(policy, defect) });
                }
                // A shadow policy changes nothing, so it cannot withhold a tool either.
                Some(_) => {}
            }
        }
        (members, withheld)
    }

    fn slice(&mut self, members: &[usize]) -> Result<Arc<Slice>, String> {
        if let Some(slice) = self.slices.get(members) {
            return slice.clone();
        }
        let slice = Slice::of(self.bundle, members);
        self.slices.insert(members.to_vec(), slice.clone());
        slice
    }

    fn outlook(&mut self, slice: &Slice, members: Vec<usize>, number: usize) -> usize {
        let which = if slice.alike { Outlooking::Slice(members) } else { Outlooking::Tool(number) };
        let next = self.outlooks.len();
        *self.outlooks.entry(which).or_insert(next)
    }

    fn note_left_out(&mut self, tool: &Tool, plan: &InputPlan) {
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

fn misfit(policy: &Policy, defect: &Defect) -> Arc<str> {
    let fault = policy.piece.fault(defect.offset, defect.message.clone(), None);
    format!(
        "the policy `{}` does not fit this tool, so nobody may call it until one of them is put right: {} ({}:{})",
        policy.id(),
        fault.message,
        fault.file,
        fault.line
    )
    .into()
}

/// The tool and its action as entities. What a backend's hints do not say is as MCP's defaults have it.
fn entities(tool: &Tool) -> Result<Entities, String> {
    let Hints { idempotent, open_world, .. } = tool.hints;
    let flag = RestrictedExpression::new_bool;
    let attributes = HashMap::from([
        ("server".to_owned(), text(tool.id.server.as_str())),
        ("name".to_owned(), text(&tool.id.tool)),
        ("read_only".to_owned(), flag(tool.risk == Risk::Read)),
        ("destructive".to_owned(), flag(tool.risk == Risk::Destructive)),
        ("idempotent".to_owned(), flag(idempotent.unwrap_or(false))),
        ("open_world".to_owned(), flag(open_world.unwrap_or(true))),
        ("tags".to_owned(), texts(tool.settings.tags.iter().map(|tag| &**tag))),
        ("digest".to_owned(), text(&tool.digest)),
    ]);
    let server = HashSet::from([SERVERS.uid(tool.id.server.as_str())]);
    let resource = Entity::new(TOOLS.uid(&tool.label), attributes, server).map_err(|error| error.to_string())?;
    let groups = HashSet::from([ACTIONS.uid(tool.risk.as_str()), ACTIONS.uid(CALL)]);
    let action = Entity::new_no_attrs(ACTIONS.uid(&tool.label), groups);
    Entities::from_entities([resource, action], None).map_err(|error| error.to_string())
}
