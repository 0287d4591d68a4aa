//! Policies as people read and change them: those of the files, and those made over the API, which join the bundle as
//! `api:NAME`, one policy each.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Gateway;
use super::control::{Actor, Failed, close_act};
use super::desk::Refused;
use super::sources::{API, Inputs, compile, source};
use crate::domain::clock::Moment;
use crate::domain::id::KeyId;
use crate::domain::json::sha256_hex;
use crate::policy::{Bundle, Policy, PolicyFault, Report, check};
use crate::store::{NewVersion, PolicyRecord};

/// Characters of a policy's name.
const MAX_NAME: usize = 100;
/// Bytes of one policy with its comments, and how many policies of how many bytes there may be: bounds of their own, so that
/// files have theirs whatever is made here.
const MAX_TEXT: usize = 32 << 10;
const MAX_POLICIES: usize = 1024;
const MAX_BYTES: usize = 1 << 20;
/// What stands at the place of a policy's name in the API.
const TAKEN: &str = "simulate";

/// A change of the policies of the API.
#[derive(Debug, Clone)]
pub enum PolicyChange {
    /// Without a name it has that of its `@id`.
    Create {
        name: Option<String>,
        text: String,
    },
    /// Where a version is given, only that one is replaced.
    Replace {
        name: String,
        text: String,
        version: Option<i64>,
    },
    Remove {
        name: String,
    },
}

/// Why a policy is not changed.
#[derive(Debug, thiserror::Error)]
pub enum PolicyRefused {
    /// Not a policy, or one that does not fit the tools; with every fault.
    #[error("{message}")]
    Unfit { message: String, faults: Value },
    #[error("{0}")]
    Conflict(String),
    /// The configuration takes no such policy from here.
    #[error(
        "over the API only policies that forbid are taken, and those with `@mode(\"shadow\")`: put what permits into a file, \
         or set `api = \"all\"` under `[policies]`"
    )]
    NotTaken,
    #[error("there is no policy `{0}`")]
    Missing(String),
    #[error("{0}")]
    Failed(String),
}

impl PolicyRefused {
    pub(super) fn unfit(faults: &[PolicyFault]) -> Self {
        let message = faults.first().map_or_else(|| "the policy does not fit".into(), ToString::to_string);
        Self::Unfit { message, faults: json!(faults) }
    }

    fn invalid(message: impl Into<String>) -> Self {
        Self::Unfit { message: message.into(), faults: json!([]) }
    }
}

impl From<Refused> for PolicyRefused {
    fn from(refused: Refused) -> Self {
        Self::Failed(refused.to_string())
    }
}

impl From<Failed> for PolicyRefused {
    fn from(failed: Failed) -> Self {
        Self::Failed(failed.0)
    }
}

/// What a change came to.
#[derive(Debug)]
pub(super) struct Changed {
    pub(super) name: String,
    pub(super) version: i64,
    pub(super) bundle: Arc<str>,
    pub(super) warnings: Vec<PolicyFault>,
}

impl PolicyChange {
    const fn act(&self) -> &'static str {
        match self {
            Self::Create { .. } => "policies.create",
            Self::Replace { .. } => "policies.replace",
            Self::Remove { .. } => "policies.remove",
        }
    }

    /// What the record of the change says before it is made.
    fn notes(&self) -> Vec<String> {
        let digest = |text: &str| format!("text sha256:{}", sha256_hex(text.as_bytes()));
        let named = |name: &str| format!("policy {name}");
        match self {
            Self::Create { name: None, text } => vec![digest(text)],
            Self::Create { name: Some(name), text } | Self::Replace { name, text, .. } => {
                vec![named(name), digest(text)]
            }
            Self::Remove { name } => vec![named(name)],
        }
    }

    /// The policies of the API after this change of the active ones, and what is to be stored.
    pub(super) fn apply(
        &self,
        active: &Inputs,
        who: &KeyId,
        time: Moment,
    ) -> Result<(Vec<PolicyRecord>, NewVersion), PolicyRefused> {
        let mut api = active.api.clone();
        let (name, text) = match self {
            Self::Create { name, text } => {
                let (name, text) = named(name.as_deref(), text)?;
                taken(active, &text)?;
                free(active, &name)?;
                (name, Some(text))
            }
            Self::Replace { name, text, version } => {
                let now = own(active, name)?.version;
                if version.is_some_and(|version| version != now) {
                    let message = format!("the policy `{name}` is at version {now}: read it again, then replace that");
                    return Err(PolicyRefused::Conflict(message));
                }
                let (name, text) = named(Some(name), text)?;
                taken(active, &text)?;
                (name, Some(text))
            }
            Self::Remove { name } => (own(active, name)?.name.clone(), None),
        };
        api.retain(|record| record.name != name);
        api.extend(text.clone().map(|text| PolicyRecord {
            name: name.clone(),
            version: 0,
            text,
            time,
            key: who.clone(),
        }));
        api.sort_by(|one, other| one.name.cmp(&other.name));
        bounded(&active.api, &api)?;
        Ok((api, NewVersion { name, text, time, key: who.clone() }))
    }
}

/// Whether so many policies, and so much text of them, may be stored; what makes less of it always may.
fn bounded(before: &[PolicyRecord], after: &[PolicyRecord]) -> Result<(), PolicyRefused> {
    let bytes = |policies: &[PolicyRecord]| policies.iter().map(|policy| policy.text.len()).sum::<usize>();
    let grows = after.len() > before.len() || bytes(after) > bytes(before);
    if grows && (after.len() > MAX_POLICIES || bytes(after) > MAX_BYTES) {
        let message = format!(
            "at most {MAX_POLICIES} policies of {MAX_BYTES} bytes together are made over the API: remove some, or put them \
             into files"
        );
        return Err(PolicyRefused::Conflict(message));
    }
    Ok(())
}

/// The name and the text of one policy, whose `@id` is its name.
fn named(name: Option<&str>, text: &str) -> Result<(String, String), PolicyRefused> {
    if text.len() > MAX_TEXT {
        return Err(PolicyRefused::invalid(format!("`text` has {} bytes: at most {MAX_TEXT}", text.len())));
    }
    name.map_or(Ok(()), check_name)?;
    let file = format!("{API}{}", name.unwrap_or("new"));
    let bundle = Bundle::compile(&[source(&file, text)]).map_err(|faults| PolicyRefused::unfit(&faults))?;
    let [policy] = bundle.policies() else {
        let count = bundle.policies().len();
        return Err(PolicyRefused::invalid(format!("`text` must hold one policy, and holds {count}")));
    };
    let id = &**policy.id();
    let anonymous = id.strip_prefix(&*file).is_some_and(|rest| rest.starts_with('#'));
    match name {
        None if anonymous => Err(PolicyRefused::invalid("give the policy a `name`, or an `@id` in its text")),
        None => check_name(id).map(|()| (id.to_owned(), text.to_owned())),
        Some(name) if anonymous => {
            let (before, after) = text.split_at_checked(policy.start()).unwrap_or(("", text));
            Ok((name.to_owned(), format!("{before}@id(\"{name}\") {after}")))
        }
        Some(name) if id == name => Ok((name.to_owned(), text.to_owned())),
        Some(name) => {
            Err(PolicyRefused::invalid(format!("the policy's `@id` is `{id}` and its name `{name}`: they are one")))
        }
    }
}

/// Whether the configuration takes such a policy from the API.
fn taken(active: &Inputs, text: &str) -> Result<(), PolicyRefused> {
    let bundle = Bundle::compile(&[source(API, text)]).map_err(|faults| PolicyRefused::unfit(&faults))?;
    let takes = |policy: &Policy| active.settings.api_policies.takes(policy.effect(), policy.mode());
    if bundle.policies().iter().all(takes) { Ok(()) } else { Err(PolicyRefused::NotTaken) }
}

fn check_name(name: &str) -> Result<(), PolicyRefused> {
    let fits = name.len() <= MAX_NAME
        && name.starts_with(|first: char| first.is_ascii_alphanumeric())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'));
    if fits && name != TAKEN {
        return Ok(());
    }
    let name: String = name.chars().take(MAX_NAME).collect();
    Err(PolicyRefused::invalid(format!(
        "`{name}` is not a name for a policy: 1 to {MAX_NAME} of `A-Z a-z 0-9 _ . -`, a letter or a digit first, and not \
         `{TAKEN}`"
    )))
}

/// Whether nothing has this name yet.
fn free(active: &Inputs, name: &str) -> Result<(), PolicyRefused> {
    // It may be one that does not count, and then stands in no bundle.
    if active.api.iter().any(|record| record.name == name) {
        return Err(PolicyRefused::Conflict(format!("the name `{name}` is taken by a policy of the API")));
    }
    let place = active.bundle.policy(name).map(|policy| format!("{}:{}", policy.file(), policy.line()));
    match place.or_else(|| active.policy_file(name).map(str::to_owned)) {
        Some(place) => Err(PolicyRefused::Conflict(format!("the name `{name}` is taken by the policy at {place}"))),
        None => Ok(()),
    }
}

/// The policy of the API that has this name.
fn own<'a>(active: &'a Inputs, name: &str) -> Result<&'a PolicyRecord, PolicyRefused> {
    if let Some(record) = active.api.iter().find(|record| record.name == name) {
        return Ok(record);
    }
    let Some(policy) = active.bundle.policy(name) else { return Err(PolicyRefused::Missing(name.to_owned())) };
    let message = format!("the policy `{name}` stands in `{}`: change it there", policy.file());
    Err(PolicyRefused::Conflict(message))
}

/// What the machine's owner asks about policies.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "policies", rename_all = "snake_case")]
pub enum PoliciesCommand {
    List,
    /// The text of one, or of all that stand in files.
    Show {
        name: Option<String>,
    },
}

impl Gateway {
    /// Every policy that is active, by id; and the version of them all.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub async fn policies(&self) -> Result<(Vec<(String, Value)>, Arc<str>), Failed> {
        let api = self.desk.api_policies().await.map_err(|error| Failed::of(&error))?;
        let state = self.state();
        let bundle = state.policies.bundle();
        let views = bundle.policies().iter().map(|policy| (policy.id().to_string(), view(policy, &api, false)));
        let mut views: Vec<_> = views.collect();
        views.sort_by(|(one, _), (other, _)| one.cmp(other));
        Ok((views, Arc::clone(bundle.version())))
    }

    /// The active policy of this id, with its text.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub async fn policy(&self, id: &str) -> Result<Option<Value>, Failed> {
        let api = self.desk.api_policies().await.map_err(|error| Failed::of(&error))?;
        let state = self.state();
        Ok(state.policies.bundle().policy(id).map(|policy| view(policy, &api, true)))
    }

    /// What the machine's owner asks about policies.
    pub(super) async fn policies_command(&self, command: PoliciesCommand) -> Result<Value, Failed> {
        let named = match command {
            PoliciesCommand::List => {
                let views: Vec<Value> = self.policies().await?.0.into_iter().map(|(_, view)| view).collect();
                return Ok(json!({"policies": views}));
            }
            PoliciesCommand::Show { name: Some(name) } => match self.policy(&name).await? {
                Some(view) => vec![view],
                None => return Err(Failed(format!("there is no policy `{name}`: see `toolgate policy list`"))),
            },
            // In the order in which they stand, and without those that stand in no file.
            PoliciesCommand::Show { name: None } => {
                let state = self.state();
                let policies = state.policies.bundle().policies();
                let of_files = policies.iter().filter(|policy| !policy.file().starts_with(API));
                of_files.map(|policy| view(policy, &[], true)).collect()
            }
        };
        Ok(json!({"policies": named}))
    }

    /// Makes, replaces or removes a policy; it counts as soon as this returns. It is done even where the caller leaves.
    ///
    /// # Errors
    /// Why nothing was changed.
    pub async fn change_policy(self: &Arc<Self>, actor: Actor, change: PolicyChange) -> Result<Value, PolicyRefused> {
        let gateway = Arc::clone(self);
        let changing = self.tasks.spawn(async move { gateway.change_policy_here(&actor, change).await });
        changing.await.map_err(|error| PolicyRefused::Failed(error.to_string()))?
    }

    /// The same, in the caller's own time.
    pub(super) async fn change_policy_here(&self, actor: &Actor, change: PolicyChange) -> Result<Value, PolicyRefused> {
        let removes = matches!(change, PolicyChange::Remove { .. });
        let mut entry = self.begin_act(actor, change.act(), &change.notes()).await?;
        let changed = self.desk.change_policy(change, actor.key().clone(), self.now()).await;
        match &changed {
            Ok(changed) => entry.note(&format!("policy {} version {}", changed.name, changed.version)),
            Err(refused) => entry.note(&refused.to_string()),
        }
        close_act(entry, changed.is_ok()).await?;
        let Changed { name, version, bundle, warnings } = changed?;
        // A file may have one of the same name.
        let view = match removes {
            true => None,
            false => match self.policy(&format!("{API}{name}")).await? {
                Some(renamed) => Some(renamed),
                None => self.policy(&name).await?,
            },
        };
        let mut view = view.unwrap_or_else(|| json!({"id": name, "deleted": true, "version": version}));
        if let Some(members) = view.as_object_mut() {
            members.insert("policy_version".into(), json!(bundle));
            members.insert("warnings".into(), json!(warnings));
        }
        Ok(view)
    }

    /// Checks these policies (file and text), and those of the API with them, against the live tools.
    pub(super) async fn check_policies(&self, policies: &[(String, String)]) -> Result<Value, Failed> {
        let api = self.desk.api_policies().await.map_err(|error| Failed::of(&error))?;
        let bundle = match compile(policies, &api, self.state().settings.api_policies) {
            Ok(bundle) => Arc::new(bundle),
            Err(faults) => {
                let report = Report { faults, ..Report::default() };
                return Ok(json!({"policies": 0, "tools": 0, "version": null, "active": false, "report": report}));
            }
        };
        let active = bundle.version() == self.state().policies.bundle().version();
        let state = self.state();
        let mut tools: Vec<_> = state.catalog.entries().iter().map(|entry| Arc::clone(entry.tool())).collect();
        // Own tools that their scope opens are judged by no policy.
        let judged = self.own_tools().iter().filter(|own| !own.by_scope);
        tools.extend(judged.map(|own| Arc::clone(&own.tool)));
        let (count, checked) = (state.catalog.entries().len(), Arc::clone(&bundle));
        let report = tokio::task::spawn_blocking(move || check(&checked, &tools)).await;
        let report = report.map_err(|error| Failed::of(&error))?;
        let (policies, version) = (bundle.policies().len(), bundle.version());
        let closed = active.then(|| {
            let tools = state.catalog.entries().iter().map(|entry| entry.tool());
            tools.filter(|tool| state.policies.closed(tool).is_some()).count()
        });
        Ok(json!({
            "policies": policies, "tools": count, "version": version, "active": active, "closed": closed, "report": report,
        }))
    }
}

/// A policy as people read it; those of the API have a version and an author.
fn view(policy: &Policy, api: &[PolicyRecord], text: bool) -> Value {
    let name = policy.file().strip_prefix(API);
    let record = name.and_then(|name| api.iter().find(|record| record.name == name));
    let mut view = json!({
        "id": policy.id(),
        "effect": policy.effect(),
        "mode": policy.mode(),
        "reason": policy.reason(),
        "requires_approval": policy.requires_approval(),
        "source": if name.is_some() { "api" } else { "file" },
        "file": policy.file(),
        "line": policy.line(),
        "version": record.map(|record| record.version),
        "updated_at": record.map(|record| record.time.rfc3339()),
        "updated_by": record.map(|record| &record.key),
    });
    if let (true, Some(members)) = (text, view.as_object_mut()) {
        let whole = record.map_or_else(|| policy.text().to_string(), |record| record.text.clone());
        members.insert("text".into(), json!(whole));
    }
    view
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_made_over_the_api_has_bounds_of_its_own() {
        let stored = |count: usize, bytes: usize| {
            let record = |at| PolicyRecord {
                name: format!("p{at}"),
                version: 1,
                text: "x".repeat(bytes),
                time: Moment(0),
                key: KeyId::from("k"),
            };
            (0..count).map(record).collect::<Vec<_>>()
        };
        let ok = |before: (usize, usize), after: (usize, usize)| {
            bounded(&stored(before.0, before.1), &stored(after.0, after.1)).is_ok()
        };
        assert!(ok((1_023, 10), (1_024, 10)) && !ok((1_024, 10), (1_025, 10)));
        assert!(ok((31, 32 << 10), (32, 32 << 10)) && !ok((32, 32 << 10), (33, 32 << 10)));
        assert!(ok((5_000, 1 << 10), (4_999, 1 << 10)), "what is too much may become less");
        assert!(!ok((5_000, 1), (5_000, 2)));
        let long = format!("// {}\nforbid (principal, action, resource);", "x".repeat(MAX_TEXT));
        assert!(told(named(Some("a"), &long)).starts_with("no: `text` has "));
    }

    fn told(result: Result<(String, String), PolicyRefused>) -> String {
        match result {
            Ok((name, text)) => format!("{name}: {text}"),
            Err(refused) => format!("no: {refused}"),
        }
    }

    #[test]
    fn a_policy_and_its_id_have_one_name() {
        let plain = "// why\nforbid (principal, action, resource);";
        assert_eq!(told(named(Some("a"), plain)), "a: // why\n@id(\"a\") forbid (principal, action, resource);");
        let with_id = "@id(\"a\") forbid (principal, action, resource);";
        assert_eq!(told(named(Some("a"), with_id)), format!("a: {with_id}"));
        assert_eq!(told(named(None, with_id)), format!("a: {with_id}"));
        assert_eq!(told(named(Some("b"), with_id)), "no: the policy's `@id` is `a` and its name `b`: they are one");
        assert_eq!(told(named(None, plain)), "no: give the policy a `name`, or an `@id` in its text");
        let repeated = "// was: forbid (principal, action, resource);\nforbid (principal, action, resource);";
        let named_once = repeated.replace("\nforbid", "\n@id(\"a\") forbid");
        assert_eq!(told(named(Some("a"), repeated)), format!("a: {named_once}"), "a comment is no policy");
        assert_eq!(told(named(Some("a"), "")), "no: `text` must hold one policy, and holds 0");
        assert_eq!(told(named(Some("a"), &plain.repeat(2))), "no: `text` must hold one policy, and holds 2");
        for name in ["", "-a", "a/b", "simulate", "é", &"x".repeat(101)] {
            assert!(told(named(Some(name), plain)).contains("is not a name for a policy"), "{name}");
        }
        assert!(told(named(Some("a"), "forbid (principal, action);")).starts_with("no: api:a:1:"));
    }
}
