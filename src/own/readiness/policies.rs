//! What the policies say of the tools, and what the log says of the policies.

use std::sync::Arc;

use serde_json::json;

use super::{Check, Status, View, bounded};
use crate::domain::decision::Mode;
use crate::domain::tool::{Risk, Tool};
use crate::journal::Review;

impl View<'_> {
    /// The tools of all backends, by name.
    pub(super) fn tools(&self) -> Vec<&Arc<Tool>> {
        let mut tools: Vec<&Arc<Tool>> = self.state.catalog.entries().iter().map(|entry| entry.tool()).collect();
        tools.sort_by(|one, other| one.label.cmp(&other.label));
        tools
    }

    pub(super) fn tools_without_policy(&self) -> Check {
        let policies = &self.state.policies;
        let nobody = |tool: &&Arc<Tool>| Some(json!({"tool": tool.label, "why": policies.closed(tool)?}));
        let tools = self.tools();
        let found: Vec<_> = tools.iter().filter_map(nobody).collect();
        Check {
            id: "tools-without-policy",
            title: "every tool can be permitted to somebody",
            status: Status::unless(!found.is_empty(), Status::Warn),
            evidence: json!({"tools": tools.len(), "nobody_may_call": bounded(&found)}),
            remedy: "write a policy that permits these tools, or take them out of `allowed_tools` and the server",
        }
    }

    pub(super) fn destructive_without_approval(&self) -> Check {
        let destructive: Vec<&Arc<Tool>> =
            self.tools().into_iter().filter(|tool| tool.risk == Risk::Destructive).collect();
        let outright = |tool: &&Arc<Tool>| {
            let plain = self.state.policies.permits(tool).filter(|policy| !policy.requires_approval());
            let mut by: Vec<Arc<str>> = plain.map(|policy| Arc::clone(policy.id())).collect();
            by.extend(tool.settings.allowed_roles.is_some().then(|| format!("roles:{}", tool.label).into()));
            (!by.is_empty()).then(|| json!({"tool": tool.label, "permitted_by": bounded(&by)}))
        };
        let found: Vec<_> = destructive.iter().filter_map(outright).collect();
        Check {
            id: "destructive-without-approval",
            title: "destructive tools need a person's approval",
            status: Status::unless(!found.is_empty(), Status::Fail),
            evidence: json!({"destructive_tools": destructive.len(), "permitted_outright": bounded(&found)}),
            remedy: "put `@requires(\"approval\")` on these policies, or narrow their actions to read and write",
        }
    }

    pub(super) fn policies_never_matched(&self, review: &Review) -> Check {
        let policies = self.state.policies.bundle().policies();
        let never = policies.iter().filter(|policy| !review.matched.contains_key(&**policy.id()));
        let found: Vec<_> =
            never.map(|policy| json!({"policy": policy.id(), "file": policy.file(), "line": policy.line()})).collect();
        Check {
            id: "policies-never-matched",
            title: "every policy has decided something of late",
            status: Status::unless(!found.is_empty(), Status::Warn),
            evidence: json!({
                "policies": policies.len(), "records": review.records, "since": review.since,
                "never_matched": bounded(&found),
            }),
            remedy: "see with `toolgate policy simulate` whether these policies can match, and remove those that cannot",
        }
    }

    pub(super) fn shadow_policies(&self, review: &Review) -> Check {
        let policies = self.state.policies.bundle().policies();
        let shadows = policies.iter().filter(|policy| policy.mode() == Mode::Shadow).count();
        let found: Vec<_> = review
            .flips
            .iter()
            .map(|(policy, flips)| json!({"policy": policy, "decisions": flips.count, "records": flips.examples}))
            .collect();
        Check {
            id: "shadow-policies",
            title: "policies in shadow mode would have decided nothing otherwise",
            status: Status::unless(!found.is_empty(), Status::Warn),
            evidence: json!({
                "shadow_policies": shadows, "records": review.records, "since": review.since,
                "would_have_flipped": bounded(&found),
            }),
            remedy: "look at these records with `toolgate audit show`, then enforce the policy or mend it",
        }
    }
}
