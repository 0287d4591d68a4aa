//! What the command line asks of a gateway: of the running one through its socket, else of one that it opens itself.
//! Either way the same code answers.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

pub use super::acts::Actor;
pub(super) use super::acts::close_act;
use super::brain::BrainCommand;
use super::{
    ApprovalsCommand, EvalsCommand, Gateway, Keyring, Leaving, Line, NewKey, PoliciesCommand, PolicyChange,
    ProvidersCommand,
};
use crate::domain::call::{CallRequest, Entrance, ToolRef};
use crate::domain::id::{EventId, KeyId, RequestId};
use crate::domain::json::{Json, hex};
use crate::domain::outcome::{Carried, Outcome};
use crate::domain::principal::Surface;
use crate::journal::CSV_HEADER;
use crate::store::Filter;
use crate::store::chain::Tip;
use crate::wire::era::Era;
use crate::wire::mcp::tell;

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

impl Gateway {
    /// Carries out a command of the machine's owner.
    ///
    /// # Errors
    /// A sentence for the person at the terminal.
    pub async fn control(&self, command: Command) -> Result<Value, Failed> {
        match command {
            Command::KeysCreate { name, profile, user, roles, agent, plan, expires_ms } => {
                let expires_in = expires_ms.map(Duration::from_millis);
                let new = NewKey { name, profile, user, roles, agent, plan, expires_in };
                self.create_key(&Actor::owner(), new).await.map_err(|refused| Failed::of(&refused))
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
            Command::ServersCallback { name, url } => Box::pin(self.finish_login(&name, &url)).await,
            Command::ServersLogout { name } => self.logout(&name).await,
            Command::ToolsList => Ok(self.list_tools()),
            Command::Call { tool, arguments } => self.call(tool, &arguments).await,
            Command::Simulate { arguments, key } => self.simulate(arguments, key.as_deref()).await,
            Command::PolicyCheck { policies } => self.check_policies(&policies).await,
            Command::Approvals(command) => self.approvals_command(command).await,
            Command::Evals(command) => self.evals_command(command).await,
            Command::Policies(command) => self.policies_command(command).await,
            Command::PolicyRemove { name } => {
                let removed = self.change_policy_here(&Actor::owner(), PolicyChange::Remove { name }).await;
                removed.map_err(|refused| Failed::of(&refused))
            }
            Command::Providers(command) => Box::pin(self.providers_command(command)).await,
            Command::Brain(command) => self.brain_command(command).await,
            audit => self.audit_command(audit).await,
        }
    }

    async fn audit_command(&self, command: Command) -> Result<Value, Failed> {
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
                let verified = journal.verify_whole(from, limit.min(50_000)).await;
                let (step, damage) = verified.map_err(|error| Failed::of(&error))?;
                let (entries, _) = journal.head().await.map_err(|error| Failed::of(&error))?;
                let (seq, head) = (step.head.seq, hex(&step.head.hash));
                let step =
                    json!({"checked": step.checked, "seq": seq, "head": head, "done": step.done, "fault": step.fault});
                Ok(json!({"step": step, "entries": entries, "damage": damage}))
            }
            _ => Err(Failed("not a command about the audit log".into())),
        }
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
