//! A bundle: every policy of the gateway, parsed, named and content-addressed.

use std::collections::HashMap;
use std::sync::Arc;

use cedar_policy::ffi::DetailedError;
use cedar_policy::pst::{self, Effect, EntityUID, Expr, Literal};
use cedar_policy::{Policy as CedarPolicy, PolicyId, Template};

use crate::domain::decision::{Mode, PolicyEffect, RuleMark};
use crate::domain::json::sha256_hex;

use super::annotations::{Notes, annotations};
use super::deep::on_deep_stack;
use super::names::{ACTION, NAMESPACE};
use super::reads::{Fields, Reads};
use super::rewrite::{favourable, settled};
use super::scope::Scope;
use super::source::{Piece, PolicyFault, PolicySource, in_order, pieces};

/// Bounds of a bundle: far above what people write, far below what hurts.
const MAX_POLICIES: usize = 4096;
const MAX_BUNDLE_BYTES: usize = 4 << 20;
const MAX_POLICY_BYTES: usize = 16 * 1024;
/// Operators in one policy, and brackets in brackets: each may be one more step that Cedar's parser recurses.
const MAX_OPERATORS: usize = 1000;
const MAX_NESTING: usize = 48;

/// Names that rules outside Cedar have; a policy may not pose as one.
pub(super) const RESERVED: [&str; 5] = ["profile:", "roles:", "scope:", "approval:", "default-deny"];

/// One policy of a bundle.
#[derive(Debug)]
pub struct Policy {
    pub(super) piece: Piece,
    pub(super) mark: RuleMark,
    approval: bool,
    approvers: Option<Vec<Arc<str>>>,
    pub(super) cedar: CedarPolicy,
    /// What is left to evaluate once the scope has settled action and resource; absent where nothing is.
    pub(super) settled: Option<CedarPolicy>,
    /// The policy with what it asks of `context` assumed to favour the caller; absent where it then never forbids.
    pub(super) favourable: Option<CedarPolicy>,
    pub(super) favourable_reads: Reads,
    pub(super) reads: Reads,
    pub(super) fields: Fields,
    pub(super) scope: Scope,
    /// The ids of every action literal in the policy.
    pub(super) actions: Vec<Arc<str>>,
    /// SHA-256 of the text.
    pub(super) digest: Arc<str>,
}

impl Policy {
    /// The name it has in every answer.
    #[must_use]
    pub fn id(&self) -> &Arc<str> {
        &self.mark.id
    }

    #[must_use]
    pub fn file(&self) -> &Arc<str> {
        &self.piece.file
    }

    /// Where it starts in its file, from 1.
    #[must_use]
    pub const fn line(&self) -> u32 {
        self.piece.line()
    }

    /// Where it starts in its file, in bytes.
    #[must_use]
    pub const fn start(&self) -> usize {
        self.piece.start
    }

    #[must_use]
    pub const fn effect(&self) -> PolicyEffect {
        self.mark.effect
    }

    #[must_use]
    pub const fn mode(&self) -> Mode {
        self.mark.mode
    }

    #[must_use]
    pub const fn reason(&self) -> Option<&Arc<str>> {
        self.mark.reason.as_ref()
    }

    /// Whether what it permits still needs a person's approval.
    #[must_use]
    pub const fn requires_approval(&self) -> bool {
        self.approval
    }

    /// The roles whose holders may give that approval; `None` where everybody with the scope may.
    #[must_use]
    pub fn approvers(&self) -> Option<&[Arc<str>]> {
        self.approvers.as_deref()
    }

    /// As written, from its first annotation to the `;`.
    #[must_use]
    pub fn text(&self) -> &Arc<str> {
        &self.piece.text
    }
}

/// All policies in file order. Immutable; what it says of tools is checked where it meets them.
#[derive(Debug)]
pub struct Bundle {
    version: Arc<str>,
    policies: Vec<Policy>,
    by_id: HashMap<Arc<str>, usize>,
    renamed: Vec<PolicyFault>,
}

impl Bundle {
    /// Parses every policy of every source.
    ///
    /// # Errors
    /// All faults of all policies, in file order.
    pub fn compile(sources: &[PolicySource]) -> Result<Self, Vec<PolicyFault>> {
        Self::compile_with(sources, &[])
    }

    /// The same with sources of one policy each, that others may write than the files: none of them takes a file's place, be
    /// it that there are many, or that one has the id of another policy. It then goes by the name of its source.
    ///
    /// # Errors
    /// All faults of all policies, in file order.
    pub fn compile_with(files: &[PolicySource], more: &[PolicySource]) -> Result<Self, Vec<PolicyFault>> {
        on_deep_stack(|| Self::compile_here(files, more))
    }

    fn compile_here(files: &[PolicySource], more: &[PolicySource]) -> Result<Self, Vec<PolicyFault>> {
        let in_file_order = |sources: &[PolicySource]| {
            let mut sources = sources.to_vec();
            sources.sort_by(|one, other| one.file.cmp(&other.file));
            sources
        };
        let sources = in_file_order(files);
        let mut left = MAX_BUNDLE_BYTES;
        for source in &sources {
            match left.checked_sub(source.text.len()) {
                Some(rest) => left = rest,
                None => return Err(vec![too_large(source)]),
            }
        }
        let mut found = Found::default();
        for piece in sources.iter().flat_map(pieces) {
            if found.policies.len() >= MAX_POLICIES {
                found.faults.push(piece.fault(0, format!("more than {MAX_POLICIES} policies"), None));
                break;
            }
            found.take(&piece, false);
        }
        in_file_order(more).iter().flat_map(pieces).for_each(|piece| found.take(&piece, true));
        found.bundle()
    }

    /// What goes by another name than its `@id` says.
    #[must_use]
    pub fn renamed(&self) -> &[PolicyFault] {
        &self.renamed
    }

    /// Names the content: the same policies in the same files give the same version.
    #[must_use]
    pub fn version(&self) -> &Arc<str> {
        &self.version
    }

    /// In file order.
    #[must_use]
    pub fn policies(&self) -> &[Policy] {
        &self.policies
    }

    /// The policy of this id.
    #[must_use]
    pub fn policy(&self, id: &str) -> Option<&Policy> {
        self.position(id).and_then(|at| self.policies.get(at))
    }

    pub(super) fn position(&self, id: &str) -> Option<usize> {
        self.by_id.get(id).copied()
    }
}

/// A bundle in the making.
#[derive(Default)]
struct Found {
    policies: Vec<Policy>,
    places: HashMap<Arc<str>, usize>,
    faults: Vec<PolicyFault>,
    renamed: Vec<PolicyFault>,
}

impl Found {
    /// Takes a policy in; `yields` says whether it gives way where its id is another's.
    fn take(&mut self, piece: &Piece, yields: bool) {
        let first = |found: &Self, policy: &Policy| {
            let first = found.places.get(policy.id()).and_then(|at| found.policies.get(*at));
            first.map(|first| taken(policy, first))
        };
        let mut read = parse(piece, None);
        if let Some(fault) = read.as_ref().ok().filter(|_| yields).and_then(|policy| first(self, policy)) {
            let hint = Some(format!("it counts as `{}`", piece.file));
            self.renamed.push(PolicyFault { hint, ..fault });
            read = parse(piece, Some(Arc::clone(&piece.file)));
        }
        match read {
            Ok(policy) => match first(self, &policy) {
                Some(fault) => self.faults.push(fault),
                None => {
                    self.places.insert(Arc::clone(policy.id()), self.policies.len());
                    self.policies.push(policy);
                }
            },
            Err(mut found) => self.faults.append(&mut found),
        }
    }

    fn bundle(mut self) -> Result<Bundle, Vec<PolicyFault>> {
        in_order(&mut self.faults);
        if !self.faults.is_empty() {
            return Err(self.faults);
        }
        let mut policies = self.policies;
        policies.sort_by(|one, other| one.file().cmp(other.file()));
        let by_id = policies.iter().enumerate().map(|(at, policy)| (Arc::clone(policy.id()), at)).collect();
        Ok(Bundle { version: version(&policies), policies, by_id, renamed: self.renamed })
    }
}

fn too_large(source: &PolicySource) -> PolicyFault {
    PolicyFault {
        file: Arc::clone(&source.file),
        line: 1,
        column: 1,
        message: format!("more than {MAX_BUNDLE_BYTES} bytes of policies up to and with this file"),
        hint: None,
        policy: None,
        tool: None,
    }
}

fn version(policies: &[Policy]) -> Arc<str> {
    let mut text = String::new();
    for policy in policies {
        for part in [&policy.piece.file, &policy.mark.id, &policy.digest] {
            text.push_str(part);
            text.push('\0');
        }
    }
    sha256_hex(text.as_bytes()).get(..12).unwrap_or_default().into()
}

fn taken(policy: &Policy, first: &Policy) -> PolicyFault {
    let id = policy.id();
    let mut fault = policy.piece.fault(
        policy.piece.annotation_offset("id"),
        format!("the id `{id}` is taken by the policy at {}:{}", first.file(), first.line()),
        Some("give each policy an `@id` of its own".into()),
    );
    fault.policy = Some(Arc::clone(id));
    fault
}

/// One policy from its text, or everything that is wrong with it. Where an id is given, it goes by that.
fn parse(piece: &Piece, id: Option<Arc<str>>) -> Result<Policy, Vec<PolicyFault>> {
    if piece.text.len() > MAX_POLICY_BYTES {
        let message = format!("a policy of {} bytes is too long: at most {MAX_POLICY_BYTES}", piece.text.len());
        return Err(vec![piece.fault(0, message, Some("split it into several policies".into()))]);
    }
    if piece.depth > MAX_NESTING {
        let message = format!("brackets nested {} deep: at most {MAX_NESTING}", piece.depth);
        return Err(vec![piece.fault(0, message, None)]);
    }
    if piece.operators > MAX_OPERATORS {
        let message = format!("{} operators in one policy: at most {MAX_OPERATORS}", piece.operators);
        let hint = "compare with a set, `[…].contains(…)`, or split it into several policies";
        return Err(vec![piece.fault(0, message, Some(hint.into()))]);
    }
    let parsed = CedarPolicy::parse(None, &*piece.text).map_err(|errors| syntax_faults(piece, &errors))?;
    let pst = parsed.to_pst().map_err(|error| vec![piece.fault(0, error.to_string(), None)])?;
    let body = pst.body();
    let (mut notes, mut faults) = annotations(piece, &parsed, body.effect);
    notes.id = id.unwrap_or(notes.id);
    faults.extend(unqualified(piece, &literals(body)));
    faults.extend(Scope::of(body).fault(piece));
    if !faults.is_empty() {
        for fault in &mut faults {
            fault.policy = Some(Arc::clone(&notes.id));
        }
        return Err(faults);
    }
    assemble(piece, &parsed, body, notes).map_err(|message| vec![piece.fault(0, message, None)])
}

fn assemble(piece: &Piece, parsed: &CedarPolicy, body: &pst::Template, notes: Notes) -> Result<Policy, String> {
    let id = PolicyId::new(&*notes.id);
    let (favourable, favourable_reads) = favourable(body, &id)?;
    Ok(Policy {
        settled: settled(body, &id)?,
        cedar: parsed.new_id(id),
        favourable,
        favourable_reads,
        reads: Reads::of_settled(body),
        fields: Fields::of(body),
        scope: Scope::of(body),
        actions: literals(body)
            .into_iter()
            .filter(|uid| uid.ty.to_string() == format!("{NAMESPACE}::{ACTION}"))
            .map(|uid| uid.eid.as_str().into())
            .collect(),
        digest: sha256_hex(piece.text.as_bytes()).into(),
        approval: notes.approval,
        approvers: notes.approvers,
        mark: RuleMark {
            id: notes.id,
            file: Some(Arc::clone(&piece.file)),
            line: Some(piece.line()),
            reason: notes.reason,
            effect: if body.effect == Effect::Forbid { PolicyEffect::Forbid } else { PolicyEffect::Permit },
            mode: notes.mode,
        },
        piece: piece.clone(),
    })
}

/// What the parser says, each error at its place.
fn syntax_faults(piece: &Piece, errors: &cedar_policy::ParseErrors) -> Vec<PolicyFault> {
    if Template::parse(None, &*piece.text).is_ok_and(|template| template.slots().next().is_some()) {
        let at = ["?principal", "?resource"].into_iter().filter_map(|slot| piece.text.find(slot)).min();
        return vec![piece.fault(
            at.unwrap_or(0),
            "templates are not served: the policy has a slot",
            Some("write the principal or the resource out in place of the slot".into()),
        )];
    }
    errors
        .iter()
        .map(|error| {
            let error = DetailedError::from(error);
            let at = error.source_locations.first().map_or(0, |label| label.loc.start);
            let label = error.source_locations.iter().find_map(|label| label.label.clone());
            piece.fault(at, one_line(&error.message), error.help.or(label).map(|hint| one_line(&hint)))
        })
        .collect()
}

/// Messages stay on one line.
pub(super) fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Every entity that the policy names.
fn literals(body: &pst::Template) -> Vec<EntityUID> {
    let mut found = Scope::literals(body);
    for clause in body.clauses() {
        let (pst::Clause::When(expression) | pst::Clause::Unless(expression)) = clause;
        found.extend(expression.reduce(
            &|node| match node {
                Expr::Literal(Literal::EntityUID(uid)) => Some(vec![uid.clone()]),
                _ => None,
            },
            &|mut one, mut other| {
                one.append(&mut other);
                one
            },
            Vec::new(),
        ));
    }
    found
}

/// Entities written without the namespace: the commonest slip, and Cedar's own message does not say what to do.
fn unqualified(piece: &Piece, literals: &[EntityUID]) -> Vec<PolicyFault> {
    literals
        .iter()
        .filter(|uid| uid.ty.0.namespace.is_empty())
        .map(|uid| {
            let at = piece.text.find(&uid.to_string()).unwrap_or(0);
            let hint = Some(format!("write `{NAMESPACE}::{uid}`"));
            piece.fault(at, format!("`{uid}` lacks the namespace"), hint)
        })
        .collect()
}
