//! What the command line asks of a gateway: of the running one through its socket, else of one that it opens itself.
//! Either way the same code answers.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::brain::BrainCommand;
use super::{
    ApprovalsCommand, EvalsCommand, Gateway, Keyring, Leaving, Line, NewKey, PoliciesCommand, PolicyChange,
    ProvidersCommand,
};
use crate::domain::call::{CallRequest, Entrance, ToolRef};
use crate::domain::id::{EventId, KeyId, OWN_SERVER, RequestId};
use crate::domain::json::{Json, hex};
use crate::domain::outcome::{Carried, Outcome};
use crate::domain::principal::{Principal, Surface};
use crate::journal::{CSV_HEADER, Closing, Decision, Ending, OpenEntry, Opening};
use crate::store::chain::Tip;
use crate::store::{Filter, KeyRecord};
use crate::wire::era::Era;
use crate::wire::mcp::tell;

/// The longest life that a key may be given.
const LONGEST_LIFE: Duration = Duration::from_secs(3650 * 24 * 3600);

/// One question of the command line.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case")]
pub enum Command {
    KeysCreate {
        name: String,
        profile: String,
        user: String,
        roles: Vec<String>,
        agent: Option<String>,
        plan: Option<String>,
        expires_ms: Option<u64>,
    },
    KeysList,
    KeysRevoke {
        id: String,
    },
    ServersList,
    ServersTest {
        name: Option<String>,
    },
    /// Begins a login at a server; a person goes to the page in the answer, and is sent back to `redirect`.
    ServersLogin {
        name: String,
        redirect: String,
    },
    /// Ends it, with the URL to which the person was sent back.
    ServersCallback {
        name: String,
        url: String,
    },
    ServersLogout {
        name: String,
    },
    ToolsList,
    Call {
        tool: String,
        arguments: Value,
    },
    /// Judges a call as it would be for a key, or for the owner.
    Simulate {
        arguments: Value,
        key: Option<String>,
    },
    /// Checks these policies (file and text) against the live tools.
    PolicyCheck {
        policies: Vec<(String, String)>,
    },
    Approvals(ApprovalsCommand),
    Evals(EvalsCommand),
    Policies(PoliciesCommand),
    /// Takes out a policy that was made over the API.
    PolicyRemove {
        name: String,
    },
    Providers(ProvidersCommand),
    Brain(BrainCommand),
    AuditTail {
        count: usize,
    },
    AuditShow {
        id: String,
    },
    AuditExport {
        after: i64,
        limit: usize,
        csv: bool,
    },
    AuditVerify {
        seq: i64,
        head: Option<String>,
        limit: usize,
    },
}

/// Why a command was not carried out: one sentence.
#[derive(Debug, Clone, Serialize, Deserialize, thiserror::Error)]
#[error("{0}")]
pub struct Failed(pub String);

impl Failed {
    pub(super) fn of(error: &impl ToString) -> Self {
        Self(error.to_string())
    }
}

/// Who acts on the gateway itself, and through which door.
#[derive(Debug, Clone)]
pub struct Actor {
    entrance: Entrance,
    request: RequestId,
    key: KeyId,
    user: Arc<str>,
    agent: Arc<str>,
}

impl Actor {
    /// Somebody with a key, over REST.
    #[must_use]
    pub fn holder(principal: &Principal, request: &RequestId) -> Self {
        let Principal { key, user, agent, .. } = principal.clone();
        Self { entrance: Entrance::Rest, request: request.clone(), key, user, agent }
    }

    pub(super) fn who(&self) -> (KeyId, Arc<str>) {
        (self.key.clone(), Arc::clone(&self.user))
    }

    pub(super) const fn key(&self) -> &KeyId {
        &self.key
    }

    /// The machine's owner, at the command line.
    #[must_use]
    pub fn owner() -> Self {
        let (key, request) = (KeyId::from("key_admin"), RequestId::fresh());
        Self { entrance: Entrance::Cli, request, key, user: "admin".into(), agent: "admin".into() }
    }
}

/// Closes the record of an act.
pub(super) async fn close_act(entry: OpenEntry, done: bool) -> Result<(), Failed> {
    let ending = if done { Ending::Answered } else { Ending::Failed };
    let closing = Closing { decision: Some(Decision::Allow), ..Closing::new(ending) };
    entry.close(closing).await.map(drop).map_err(|error| Failed::of(&error))
}

impl Gateway {
    /// Carries out a command of the machine's owner.
    ///
    /// # Errors
    /// A sentence for the person at the terminal.
    pub async fn control(&self, command: Command) -> Result<Value, Failed> {
        match command {
            Command::KeysCreate { name, profile, user, roles, agent, plan, expires_ms } => {
                let expires_in = expires_ms.map(Duration::from_millis);
                self.create_key(&Actor::owner(), NewKey { name, profile, user, roles, agent, plan, expires_in }).await
            }
            Command::KeysList => {
                Ok(json!({"keys": self.keys.list().iter().map(|key| self.key_view(key)).collect::<Vec<_>>()}))
            }
            Command::KeysRevoke { id } => match self.revoke_key(&Actor::owner(), &KeyId::from(id.as_str())).await {
                Ok(true) => Ok(json!({"revoked": id})),
                Ok(false) => Err(Failed(format!("there is no live key `{id}`: see `toolgate keys list`"))),
                Err(failed) => Err(failed),
            },
            Command::ServersList => Ok(json!({"servers": self.pipeline.backends.status()})),
            Command::ServersTest { name } => self.test_servers(name.as_deref()).await,
            Command::ServersLogin { name, redirect } => self.begin_login(&name, &redirect).await,
            Command::ServersCallback { name, url } => self.finish_login(&name, &url).await,
            Command::ServersLogout { name } => self.logout(&name).await,
            Command::ToolsList => Ok(self.list_tools()),
            Command::Call { tool, arguments } => self.call(tool, &arguments).await,
            Command::Simulate { arguments, key } => self.simulate(arguments, key.as_deref()).await,
            Command::PolicyCheck { policies } => self.check_policies(&policies).await,
            Command::Approvals(command) => self.approvals_command(command).await,
            Command::Evals(command) => self.evaluations(command).await,
            Command::Policies(command) => self.policies_command(command).await,
            Command::PolicyRemove { name } => {
                let removed = self.change_policy_here(&Actor::owner(), PolicyChange::Remove { name }).await;
                removed.map_err(|refused| Failed::of(&refused))
            }
            Command::Providers(command) => self.control_providers(command).await,
            Command::Brain(command) => self.brain_command(command).await,
            audit => self.audit(audit).await,
        }
    }

    async fn audit(&self, command: Command) -> Result<Value, Failed> {
        let journal = &self.pipeline.journal;
        match command {
            Command::AuditTail { count } => {
                let records = journal.tail(count).await.map_err(|error| Failed::of(&error))?;
                Ok(json!({"records": records}))
            }
            Command::AuditShow { id } => match journal.get(&id).await.map_err(|error| Failed::of(&error))? {
                Some(record) => Ok(json!(record)),
                None => Err(Failed(format!("there is no audit record `{id}`"))),
            },
            Command::AuditExport { after, limit, csv } => {
                let page = journal.export(Filter::default(), after, limit.min(5000)).await;
                let page = page.map_err(|error| Failed::of(&error))?;
                let lines: Vec<String> = page.records.iter().map(|record| record.line(csv)).collect();
                Ok(json!({"lines": lines, "next": page.next, "header": csv.then_some(CSV_HEADER)}))
            }
            Command::AuditVerify { seq, head, limit } => {
                let from = head.and_then(|text| Tip::at(seq, &text)).unwrap_or(Tip::START);
                let step = journal.verify_from(from, limit.min(50_000)).await.map_err(|error| Failed::of(&error))?;
                let (entries, _) = journal.head().await.map_err(|error| Failed::of(&error))?;
                let (seq, head) = (step.head.seq, hex(&step.head.hash));
                let step =
                    json!({"checked": step.checked, "seq": seq, "head": head, "done": step.done, "fault": step.fault});
                Ok(json!({"step": step, "entries": entries}))
            }
            _ => Err(Failed("not a command about the audit log".into())),
        }
    }

    /// Makes a key for `actor`; the answer is the only place where its text stands.
    ///
    /// # Errors
    /// Where it asks for what does not exist, or it cannot be stored or recorded; then it does not work.
    pub async fn create_key(&self, actor: &Actor, new: NewKey) -> Result<Value, Failed> {
        self.check_key(&new)?;
        let mut entry = self.open_act(actor, "keys.create").await?;
        entry.note(&format!("name {}", new.name));
        entry.note(&format!("user {}", new.user));
        entry.note(&format!("profile {}", new.profile));
        entry.note(&format!("roles {}", new.roles.join(",")));
        let made = self.keys.create(new).await;
        if let Ok((_, record)) = &made {
            entry.note(&format!("key {}", record.id));
        }
        let closed = close_act(entry, made.is_ok()).await;
        let (key, record) = made.map_err(|error| Failed::of(&error))?;
        if let Err(failed) = closed {
            // Nothing that is not recorded may stay; where the store takes nothing at all, it took no key either.
            drop(self.keys.revoke(&record.id).await);
            return Err(failed);
        }
        let mut view = self.key_view(&record);
        if let Some(members) = view.as_object_mut() {
            members.insert("key".into(), json!(key.expose()));
        }
        Ok(view)
    }

    /// Revokes a key for `actor`. False where no live key has this id.
    ///
    /// # Errors
    /// Where it cannot be stored or recorded.
    pub async fn revoke_key(&self, actor: &Actor, id: &KeyId) -> Result<bool, Failed> {
        let mut entry = self.open_act(actor, "keys.revoke").await?;
        entry.note(&format!("key {id}"));
        let revoked = self.keys.revoke(id).await;
        close_act(entry, matches!(revoked, Ok(true))).await?;
        revoked.map_err(|error| Failed::of(&error))
    }

    /// Opens the record of an act on the gateway itself: no record, no act.
    pub(super) async fn open_act(&self, actor: &Actor, act: &str) -> Result<OpenEntry, Failed> {
        let opening = Opening {
            id: EventId::fresh(),
            request_id: actor.request.clone(),
            entrance: actor.entrance,
            key: Some(actor.key.clone()),
            user: Some(Arc::clone(&actor.user)),
            agent: Some(Arc::clone(&actor.agent)),
            tool: Some(ToolRef::Pair { server: OWN_SERVER.into(), tool: act.into() }),
            arguments: None,
        };
        self.pipeline.journal.open(opening).await.map_err(|error| Failed::of(&error))
    }

    /// Whether a key that is wanted can be made.
    fn check_key(&self, new: &NewKey) -> Result<(), Failed> {
        let state = self.state();
        if !state.profiles.contains_key(new.profile.as_str()) {
            let known: Vec<&str> = state.profiles.keys().map(|name| &**name).collect();
            return Err(Failed(format!("there is no profile `{}`: known are {}", new.profile, known.join(", "))));
        }
        if let Some(plan) = new.plan.as_ref().filter(|plan| !state.settings.plans.contains_key(plan.as_str())) {
            let known: Vec<&str> = state.settings.plans.keys().map(|name| &**name).collect();
            return Err(Failed(format!("there is no plan `{plan}`: known are {}", known.join(", "))));
        }
        let names = [&new.name, &new.user].into_iter().chain(&new.agent).chain(&new.roles);
        for text in names {
            if text.trim().is_empty() || text.chars().count() > 200 || text.chars().any(char::is_control) {
                return Err(Failed(
                    "names, users, agents and roles have 1 to 200 characters, none of them a control character".into(),
                ));
            }
        }
        if new.expires_in.is_some_and(|after| after > LONGEST_LIFE) {
            return Err(Failed(
                "a key may live for at most 3650 days; leave the expiry out for one without end".into(),
            ));
        }
        Ok(())
    }

    /// A key as lists show it.
    #[must_use]
    pub fn key_view(&self, key: &KeyRecord) -> Value {
        let state = self.state();
        let profile = state.profiles.get(key.profile.as_str());
        let time = |moment: Option<crate::domain::clock::Moment>| moment.map(crate::domain::clock::Moment::rfc3339);
        let live = key.is_live(self.now());
        json!({
            "id": key.id,
            "name": key.name,
            "user": key.user,
            "profile": key.profile,
            "scopes": profile.map(|profile| &profile.scopes),
            "allowed_tools": profile.map(|profile| &profile.allowed_tools),
            "read_only": profile.map(|profile| profile.read_only),
            "roles": key.roles,
            "plan": key.plan,
            "agent_id": key.agent,
            "hint": format!("{}…{}", key.prefix, key.last4),
            "state": if live { "live" } else if key.revoked.is_some() { "revoked" } else { "expired" },
            "created_at": key.created.rfc3339(),
            "expires_at": time(key.expires),
            "revoked_at": time(key.revoked),
            "last_used_at": time(key.last_used),
        })
    }

    /// `policy.simulate` for the agent that a key carries.
    async fn simulate(&self, mut arguments: Value, key: Option<&str>) -> Result<Value, Failed> {
        if let (Some(key), Some(members)) = (key, arguments.as_object_mut()) {
            let holder = self.keys.principal_of(key, &self.state().profiles);
            let holder =
                holder.ok_or_else(|| Failed(format!("there is no live key `{key}`: see `toolgate keys list`")))?;
            members.insert("agent_id".into(), json!(holder.key));
        }
        self.call("toolgate:policy.simulate".into(), &arguments).await
    }

    fn list_tools(&self) -> Value {
        let state = self.state();
        let own = self.own_tools().iter().map(|own| &own.tool);
        let tools = own.chain(state.catalog.entries().iter().map(|entry| entry.tool())).map(|tool| {
            json!({"id": tool.id, "risk": tool.risk, "title": tool.title, "description": tool.description,
                   "input_schema": tool.input_schema, "digest": tool.digest})
        });
        json!({"tools": tools.collect::<Vec<_>>()})
    }

    /// Calls a tool as the machine's owner.
    async fn call(&self, tool: String, arguments: &Value) -> Result<Value, Failed> {
        Ok(carried_view(&self.call_as_owner(tool, arguments, self.line(None, None)).await?))
    }

    /// Carries a call of the machine's owner: the admin profile, on the one path.
    pub(super) async fn call_as_owner(&self, tool: String, arguments: &Value, line: Line) -> Result<Carried, Failed> {
        let owner = Keyring::owner(&self.state().profiles);
        let owner = owner.ok_or_else(|| Failed("there is no profile `admin`".into()))?;
        let request = CallRequest {
            id: RequestId::fresh(),
            event: EventId::fresh(),
            entrance: Entrance::Cli,
            tool: ToolRef::Text(tool),
            arguments: Some(Json::of(arguments)),
            jwt: None,
            trace: Vec::new(),
            surface: Surface::Search,
            source: None,
            timeout: None,
            metered: false,
        };
        Ok(self.carry(owner, request, line, Leaving::Cancels).await)
    }
}

/// A finished call for the command line: the result or the error as MCP tells it, and how it ended.
fn carried_view(carried: &Carried) -> Value {
    let reply = tell(carried, Era::Legacy, true);
    let ended = match &carried.outcome {
        Outcome::Answered(answer) if answer.is_error => "tool_error",
        Outcome::Answered(_) => "answered",
        Outcome::Refused(refusal) => refusal.code(),
        Outcome::Failed(_) => "failed",
        Outcome::Cancelled => "cancelled",
    };
    let (result, error) = match reply.body {
        Ok(result) => (Some(result), None),
        Err(error) => (None, Some(error)),
    };
    json!({"ended": ended, "result": result, "error": error, "governance": carried.governance})
}
