//! Who holds keys, and what keeps them in bounds.

use serde_json::{Value, json};

use super::{Check, Status, View, bounded};
use crate::config::ApiPolicies;
use crate::domain::glob::Glob;
use crate::domain::principal::{Principal, Scope};
use crate::domain::tool::Risk;
use crate::store::KeyRecord;

/// A key that was neither made nor used for so long is not needed.
const UNUSED_MS: i64 = 30 * 24 * 3600 * 1000;
/// The key that the environment sets.
const FIXED: &str = "key_admin";

impl View<'_> {
    /// The keys that open something now, in the order they were made.
    fn live(&self) -> Vec<KeyRecord> {
        let now = self.pipeline.clock.now();
        self.keys.list().into_iter().filter(|key| key.is_live(now)).collect()
    }

    pub(super) fn keys_unused(&self) -> Check {
        let (keys, now) = (self.live(), self.pipeline.clock.now());
        let idle = |key: &&KeyRecord| now.0.saturating_sub(key.last_used.unwrap_or(key.created).0) > UNUSED_MS;
        let found: Vec<Value> = keys
            .iter()
            .filter(idle)
            .map(|key| {
                let used = key.last_used.map(crate::domain::clock::Moment::rfc3339);
                json!({"key": key.id, "name": key.name, "last_used_at": used})
            })
            .collect();
        Check {
            id: "keys-unused",
            title: "every key was used, or made, in the last 30 days",
            status: Status::unless(!found.is_empty(), Status::Warn),
            evidence: json!({"keys": keys.len(), "unused": bounded(&found)}),
            remedy: "revoke them: `toolgate keys revoke ID`",
        }
    }

    pub(super) fn keys_without_expiry(&self) -> Check {
        let keys = self.live();
        let mut found: Vec<Value> = keys.iter().filter(|key| key.expires.is_none()).map(named).collect();
        found.extend(self.keys.has_fixed_admin().then(fixed));
        Check {
            id: "keys-without-expiry",
            title: "every key ends by itself",
            status: Status::unless(!found.is_empty(), Status::Warn),
            evidence: json!({"keys": keys.len(), "without_expiry": bounded(&found)}),
            remedy: "make keys with `--expires` and revoke these; a key that the environment sets never ends",
        }
    }

    pub(super) fn keys_too_wide(&self) -> Check {
        let keys = self.live();
        let wide = |key: &KeyRecord| {
            let holder = self.keys.principal_of(key.id.as_str(), &self.state.profiles)?;
            let why = self.too_wide(&holder)?;
            Some(json!({"key": key.id, "name": key.name, "profile": key.profile, "why": why}))
        };
        let mut found: Vec<Value> = keys.iter().filter_map(wide).collect();
        found.extend(self.keys.has_fixed_admin().then(fixed));
        Check {
            id: "keys-too-wide",
            title: "no key opens more than one job needs",
            status: Status::unless(!found.is_empty(), Status::Warn),
            evidence: json!({"keys": keys.len(), "too_wide": bounded(&found)}),
            remedy: "give each key a profile that names its tools and scopes; keep admin keys for people, and few; with \
                     `api = \"forbid\"` under `[policies]` no key makes policies that permit",
        }
    }

    fn too_wide(&self, holder: &Principal) -> Option<&'static str> {
        let profile = &holder.profile;
        if profile.has(Scope::KeysAdmin) {
            return Some("it may make keys");
        }
        let permits = self.state.settings.api_policies == ApiPolicies::All;
        if permits && profile.has(Scope::PolicyWrite) && profile.has(Scope::ToolsInvoke) && !profile.read_only {
            return Some("it may make policies that let it call what they forbid or leave to a person now");
        }
        let everything = |glob: &Glob| glob.as_str().chars().all(|c| matches!(c, '*' | ':'));
        if profile.read_only || !profile.has(Scope::ToolsInvoke) || !profile.allowed_tools.iter().any(everything) {
            return None;
        }
        let view = self.state.policies.view(holder);
        let mut writing = self.state.catalog.entries().iter().map(|entry| entry.tool());
        let writes = writing.any(|tool| tool.risk != Risk::Read && view.could_permit(tool));
        writes.then_some("it may call every tool, and policies let it write")
    }

    pub(super) fn limits(&self) -> Check {
        let (keys, settings) = (self.live(), &self.state.settings);
        let limited = |key: &&KeyRecord| {
            let plan = key.plan.as_ref().and_then(|plan| settings.plans.get(plan.as_str()));
            plan.is_some_and(|plan| plan.requests_per_minute.is_some() || plan.invocations_per_minute.is_some())
        };
        let free: Vec<Value> = keys.iter().filter(|key| !limited(key)).map(named).collect();
        let server_limit = |server| settings.servers.get(server).and_then(|server| server.rate_limit);
        let unlimited: Vec<_> = self
            .tools()
            .into_iter()
            .filter(|tool| tool.settings.rate_limit.is_none() && server_limit(&tool.id.server).is_none())
            .map(|tool| tool.label.to_string())
            .collect();
        Check {
            id: "limits-missing",
            title: "every key and every tool has a limit",
            status: Status::unless(!free.is_empty() || !unlimited.is_empty(), Status::Warn),
            evidence: json!({
                "keys": keys.len(), "keys_without_limit": bounded(&free), "tools_without_limit": bounded(&unlimited),
            }),
            remedy: "make keys with `--plan`, and set `rate_limit` on servers or tools",
        }
    }
}

fn named(key: &KeyRecord) -> Value {
    json!({"key": key.id, "name": key.name, "profile": key.profile})
}

fn fixed() -> Value {
    json!({"key": FIXED, "name": "TOOLGATE_ADMIN_KEY", "profile": "admin", "why": "the environment sets it"})
}
