//! The policies that can apply to a tool, or to the prompts or resources of a server, ready to be evaluated.

use std::sync::Arc;

use cedar_policy::PolicySet;

use crate::domain::decision::{Mode, PolicyEffect};

use super::bundle::{Bundle, Policy};
use super::reads::{Fields, Reads};

/// Policies that are evaluated together.
#[derive(Debug, Default)]
pub(super) struct Group {
    /// Those with conditions. What their scopes say of action and resource is settled.
    pub(super) set: PolicySet,
    /// What any of the set reads.
    pub(super) reads: Reads,
    /// The members of the input that any of the set reads.
    pub(super) fields: Fields,
    /// The positions in the bundle of those with conditions, and what each reads.
    pub(super) conditional: Vec<(usize, Reads)>,
    /// The positions of those without: their scope says it all.
    pub(super) unconditional: Vec<usize>,
}

impl Group {
    fn of<'a>(members: impl Iterator<Item = (usize, &'a Policy)>) -> Result<Self, String> {
        let mut group = Self::default();
        for (at, policy) in members {
            let Some(settled) = &policy.settled else {
                group.unconditional.push(at);
                continue;
            };
            group.set.add(settled.clone()).map_err(|error| error.to_string())?;
            group.reads = group.reads | policy.reads;
            group.fields = std::mem::take(&mut group.fields) | policy.fields.clone();
            group.conditional.push((at, policy.reads));
        }
        Ok(group)
    }

    const fn is_empty(&self) -> bool {
        self.conditional.is_empty() && self.unconditional.is_empty()
    }
}

/// One combination of policies; tools with the same combination share it.
#[derive(Debug, Default)]
pub(super) struct Slice {
    pub(super) enforced: Group,
    /// Shadow policies, apart by effect so that a forbid does not hide the permits.
    pub(super) shadow: Vec<Group>,
    /// The enforced policies as favourable as a call could make them.
    pub(super) favourable: PolicySet,
    /// Whether what they say is the same for every tool of this slice.
    pub(super) alike: bool,
}

impl Slice {
    /// The slice of these policies, by position in the bundle.
    ///
    /// # Errors
    /// What Cedar says where it does not take the combination.
    pub(super) fn of(bundle: &Bundle, members: &[usize]) -> Result<Arc<Self>, String> {
        let all = || members.iter().filter_map(|at| Some((*at, bundle.policies().get(*at)?)));
        let enforced = || all().filter(|(_, policy)| policy.mode() == Mode::Enforce);
        let mut slice = Self { enforced: Group::of(enforced())?, alike: true, ..Self::default() };
        for effect in [PolicyEffect::Forbid, PolicyEffect::Permit] {
            let watched = all().filter(|(_, policy)| policy.mode() == Mode::Shadow && policy.effect() == effect);
            let group = Group::of(watched)?;
            if !group.is_empty() {
                slice.shadow.push(group);
            }
        }
        for (_, policy) in enforced() {
            if let Some(favourable) = &policy.favourable {
                slice.favourable.add(favourable.clone()).map_err(|error| error.to_string())?;
                slice.alike &= !policy.favourable_reads.any(Reads::TOOL) && !policy.scope.names_readable();
            }
        }
        Ok(Arc::new(slice))
    }

    /// Whether a decision depends on nothing but the principal, the tool, the effects and the surface.
    pub(super) fn cacheable(&self) -> bool {
        let fleeting = Reads::INPUT | Reads::TIME | Reads::SOURCE;
        !self.enforced.reads.any(fleeting) && !self.shadow.iter().any(|group| group.reads.any(fleeting))
    }
}
