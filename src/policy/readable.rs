//! The policies of prompts and resources, by kind and server, and of entities: what there is of them is known elsewhere,
//! so nothing can be made ready for one of them before it is asked for.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::domain::id::OWN_SERVER;
use crate::domain::tool::{Kind, Tool};

use super::bundle::Policy;
use super::check::{Checked, check_readable, reads_input};
use super::input::InputPlan;
use super::slice::Slice;
use super::snapshot::{Builder, Withheld};
use super::subject::{Subject, action, entities, resource};

/// What judging prompts, resources and entities takes.
#[derive(Debug, Default)]
pub(super) struct Readables {
    /// By kind, and by server where a policy names it; `None` for every other server.
    grounds: HashMap<(Kind, Option<Arc<str>>), Grounds>,
    pub(super) checked: Checked,
}

/// What prompts, or resources, of one server are judged by.
#[derive(Debug)]
struct Grounds {
    slice: Arc<Slice>,
    withheld: Option<Withheld>,
    outlook: Option<usize>,
}

impl Readables {
    pub(super) fn subject(&self, tool: &Tool) -> Result<Subject, Withheld> {
        let server = tool.id.server.as_str();
        let named = self.grounds.get(&(tool.kind, Some(server.into())));
        let grounds = named
            .or_else(|| self.grounds.get(&(tool.kind, None)))
            .ok_or_else(|| Withheld::from(format!("no policies are known for a {}", tool.kind.as_str())))?;
        if let Some(withheld) = &grounds.withheld {
            return Err(withheld.clone());
        }
        Ok(Subject {
            number: None,
            action: action(tool),
            resource: resource(tool),
            entities: entities(tool)?,
            slice: Arc::clone(&grounds.slice),
            plan: InputPlan::default(),
            outlook: grounds.outlook,
        })
    }
}

impl Builder<'_> {
    /// Checks the policies that can apply to prompts and resources, and sorts them by server.
    pub(super) fn readables(&mut self) -> Readables {
        let policies = self.bundle.policies();
        let servers: HashSet<&str> = policies.iter().filter_map(|policy| policy.scope.server()).collect();
        let applies = |policy: &Policy| {
            [Kind::Prompt, Kind::Resource, Kind::Entity]
                .into_iter()
                .any(|kind| policy.scope.admits_readable(kind, policy.scope.server()))
        };
        let readers: Vec<&Policy> = policies.iter().filter(|policy| reads_input(policy) && applies(policy)).collect();
        let old = self.previous.map(|previous| &previous.readables.checked);
        let checked = check_readable(&readers, &self.catalogue, old);
        let mut grounds = HashMap::new();
        for kind in [Kind::Prompt, Kind::Resource] {
            for server in [None].into_iter().chain(servers.iter().copied().map(Some)) {
                grounds.insert((kind, server.map(Arc::from)), self.grounds(kind, server, &checked));
            }
        }
        // All entities are the gateway's own.
        grounds.insert((Kind::Entity, None), self.grounds(Kind::Entity, Some(OWN_SERVER), &checked));
        Readables { grounds, checked }
    }

    fn grounds(&mut self, kind: Kind, server: Option<&str>, checked: &Checked) -> Grounds {
        let bundle = self.bundle;
        let applicable: Vec<(usize, &Policy)> = bundle
            .policies()
            .iter()
            .enumerate()
            .filter(|(_, policy)| policy.scope.admits_readable(kind, server))
            .collect();
        let (members, mut withheld) = self.members(&applicable, None, checked);
        let slice = self.slice(&members).unwrap_or_else(|message| {
            withheld = Some(message.into());
            Arc::default()
        });
        if let Some(Withheld { reason, .. }) = &withheld {
            let what = server
                .map_or_else(|| format!("every {}", kind.as_str()), |server| format!("{server}: {}s", kind.as_str()));
            self.report.withheld.push((what.into(), Arc::clone(reason)));
        }
        let outlook = slice.alike.then(|| self.outlook_of_slice(members));
        Grounds { slice, withheld, outlook }
    }
}
