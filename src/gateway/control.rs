//! What the command line asks of a gateway: of the running one through its socket, else of one that it opens itself.
//! Either way the same code answers.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Gateway, Keyring, Leaving, Line, NewKey};
use crate::backend::ServerStatus;
use crate::domain::call::{CallRequest, Entrance, ToolRef};
use crate::domain::id::{EventId, KeyId, RequestId};
use crate::domain::json::{Json, hex};
use crate::domain::outcome::{Carried, Outcome};
use crate::domain::principal::Surface;
use crate::journal::CSV_HEADER;
use crate::policy::check;
use crate::store::KeyRecord;
use crate::store::chain::Tip;
use crate::wire::era::Era;
use crate::wire::mcp::tell;

/// How long a test of servers waits for them.
const TEST_PATIENCE: Duration = Duration::from_secs(20);

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
    ToolsList,
    Call {
        tool: String,
        arguments: Value,
    },
    PolicyCheck,
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
    Health,
}

/// Why a command was not carried out: one sentence.
#[derive(Debug, Clone, Serialize, Deserialize, thiserror::Error)]
#[error("{0}")]
pub struct Failed(pub String);

impl Failed {
    fn of(error: &impl ToString) -> Self {
        Self(error.to_string())
    }
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
                self.create_key(NewKey { name, profile, user, roles, agent, plan, expires_in }).await
            }
            Command::KeysList => {
                Ok(json!({"keys": self.keys.list().iter().map(|key| self.key_view(key)).collect::<Vec<_>>()}))
            }
            Command::KeysRevoke { id } => match self.keys.revoke(&KeyId::from(id.as_str())).await {
                Ok(true) => Ok(json!({"revoked": id})),
                Ok(false) => Err(Failed(format!("there is no live key `{id}`: see `toolgate keys list`"))),
                Err(error) => Err(Failed::of(&error)),
            },
            Command::ServersList => Ok(json!({"servers": self.pipeline.backends.status()})),
            Command::ServersTest { name } => self.test_servers(name.as_deref()).await,
            Command::ToolsList => Ok(self.list_tools()),
            Command::Call { tool, arguments } => self.call(tool, &arguments).await,
            Command::PolicyCheck => self.check_policies().await,
            Command::Health => Ok(json!({"unready": self.unready(), "servers": self.pipeline.backends.status()})),
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
                let records = journal.export(after, limit.min(5000)).await.map_err(|error| Failed::of(&error))?;
                let last = records.last().map(crate::journal::Record::seq);
                let lines: Vec<String> = records
                    .iter()
                    .map(|record| if csv { record.csv() } else { record.json().as_str().to_owned() })
                    .collect();
                Ok(json!({"lines": lines, "last": last, "header": csv.then_some(CSV_HEADER)}))
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

    /// Makes a key; the answer is the only place where its text stands.
    ///
    /// # Errors
    /// Where the profile or plan does not exist, or the store cannot be written.
    pub async fn create_key(&self, new: NewKey) -> Result<Value, Failed> {
        let state = self.state();
        if !state.profiles.contains_key(new.profile.as_str()) {
            let known: Vec<&str> = state.profiles.keys().map(|name| &**name).collect();
            return Err(Failed(format!("there is no profile `{}`: known are {}", new.profile, known.join(", "))));
        }
        if let Some(plan) = new.plan.as_ref().filter(|plan| !state.settings.plans.contains_key(plan.as_str())) {
            let known: Vec<&str> = state.settings.plans.keys().map(|name| &**name).collect();
            return Err(Failed(format!("there is no plan `{plan}`: known are {}", known.join(", "))));
        }
        if new.name.is_empty() || new.name.len() > 200 || new.user.is_empty() || new.user.len() > 200 {
            return Err(Failed("`name` and `user` must have 1 to 200 characters".into()));
        }
        let (key, record) = self.keys.create(new).await.map_err(|error| Failed::of(&error))?;
        let mut view = self.key_view(&record);
        if let Some(members) = view.as_object_mut() {
            members.insert("key".into(), json!(key.expose()));
        }
        Ok(view)
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

    async fn test_servers(&self, name: Option<&str>) -> Result<Value, Failed> {
        let backends = &self.pipeline.backends;
        let named = |status: &ServerStatus| name.is_none_or(|name| status.name.as_str() == name);
        let wanted: Vec<ServerStatus> = backends.status().into_iter().filter(named).collect();
        if let Some(name) = name.filter(|_| wanted.is_empty()) {
            return Err(Failed(format!("there is no server `{name}`: see `toolgate servers list`")));
        }
        let names: Vec<_> = wanted.into_iter().map(|status| status.name).collect();
        backends.relist(&names, TEST_PATIENCE).await;
        let tested: Vec<ServerStatus> = backends.status().into_iter().filter(named).collect();
        Ok(json!({"servers": tested}))
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

    /// Calls a tool as the machine's owner: the admin profile, on the one path.
    async fn call(&self, tool: String, arguments: &Value) -> Result<Value, Failed> {
        let owner =
            Keyring::owner(&self.state().profiles).ok_or_else(|| Failed("there is no profile `admin`".into()))?;
        let request = CallRequest {
            id: RequestId::fresh(),
            event: EventId::fresh(),
            entrance: Entrance::Cli,
            tool: ToolRef::Text(tool),
            arguments: Some(Json::of(arguments)),
            trace: Vec::new(),
            surface: Surface::Search,
            source: None,
            timeout: None,
            metered: false,
        };
        let carried = self.carry(owner, request, Line::default(), Leaving::Cancels).await;
        Ok(carried_view(&carried))
    }

    async fn check_policies(&self) -> Result<Value, Failed> {
        let bundle = self.desk.bundle().await;
        let state = self.state();
        let mut tools: Vec<_> =
            state.catalog.entries().iter().map(|entry| std::sync::Arc::clone(entry.tool())).collect();
        // Own tools that their scope opens are judged by no policy.
        let judged = self.own_tools().iter().filter(|own| !own.by_scope);
        tools.extend(judged.map(|own| std::sync::Arc::clone(&own.tool)));
        let (count, checked) = (tools.len(), std::sync::Arc::clone(&bundle));
        let report =
            tokio::task::spawn_blocking(move || check(&checked, &tools)).await.map_err(|error| Failed::of(&error))?;
        Ok(json!({"policies": bundle.policies().len(), "tools": count, "version": bundle.version(), "report": report}))
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
