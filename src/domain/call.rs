//! A request to call a tool, before anybody trusts it.

use std::net::IpAddr;
use std::time::Duration;

use serde::Serialize;

use super::id::{EventId, RequestId};
use super::json::Json;
use super::principal::Surface;
use super::secret::Secret;
use super::tool::Kind;

/// Which door a request came through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Entrance {
    Mcp,
    Rest,
    Cli,
}

impl Entrance {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Mcp => "mcp",
            Self::Rest => "rest",
            Self::Cli => "cli",
        }
    }
}

/// What the caller asks for, as the caller names it; what it means depends on what the caller can see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToolRef {
    /// Server and tool said apart.
    Pair { server: String, tool: String },
    /// One text: `server:tool`, `server/tool`, `server.tool`, `server__tool`, or an own tool's name.
    Text(String),
    /// Exactly this tool of this backend: no other reading is tried, and no own tool is meant.
    Exact { server: String, tool: String },
    /// The prompt of this backend with exactly this name.
    Prompt { server: String, name: String },
    /// The resource of this backend with exactly this URI.
    Resource { server: String, uri: String },
}

impl ToolRef {
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Pair { .. } | Self::Text(_) | Self::Exact { .. } => Kind::Tool,
            Self::Prompt { .. } => Kind::Prompt,
            Self::Resource { .. } => Kind::Resource,
        }
    }

    /// As the caller would write it: where it speaks to one server alone, without that server.
    #[must_use]
    pub fn label(&self) -> String {
        match self {
            Self::Pair { server, tool } => format!("{server}:{tool}"),
            Self::Text(name)
            | Self::Exact { tool: name, .. }
            | Self::Prompt { name, .. }
            | Self::Resource { uri: name, .. } => name.clone(),
        }
    }

    /// The server that it names, where that is said apart.
    #[must_use]
    pub fn server(&self) -> Option<&str> {
        match self {
            Self::Text(_) => None,
            Self::Pair { server, .. }
            | Self::Exact { server, .. }
            | Self::Prompt { server, .. }
            | Self::Resource { server, .. } => Some(server),
        }
    }
}

/// What is asked about a tool, a prompt or a resource, in place of calling, getting or reading it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Errand {
    /// Values for an argument of a prompt or a template; with the members that name it.
    Complete { reference: String },
    /// To be told when a resource changes, or no more. Where nothing is sent, somebody listens to its server.
    Follow { on: bool, sends: bool },
    /// A task that a call of the tool began.
    Task { method: &'static str, id: String },
    /// That the call of this record, which waited for its client, may go on: nothing is sent.
    GoOn { method: &'static str, event: EventId },
}

impl Errand {
    /// The method of MCP.
    #[must_use]
    pub const fn method(&self) -> &'static str {
        match self {
            Self::Complete { .. } => "completion/complete",
            Self::Follow { on: true, .. } => "resources/subscribe",
            Self::Follow { on: false, .. } => "resources/unsubscribe",
            Self::Task { method, .. } | Self::GoOn { method, .. } => method,
        }
    }

    /// Whether it may change something.
    #[must_use]
    pub fn writes(&self) -> bool {
        matches!(self, Self::Task { method, .. } if *method != "tasks/get")
    }
}

/// What every entrance decodes to. Well-formed, the transport forgotten, trusted by nobody.
#[derive(Debug)]
pub struct CallRequest {
    pub id: RequestId,
    /// The id that its audit record will have, so that an answer can name it before the call ends.
    pub event: EventId,
    pub entrance: Entrance,
    pub tool: ToolRef,
    /// Those of a tool or a prompt. Absent stays absent on the way to the backend. Has passed [`strict::check`](super::strict::check) at the door.
    pub arguments: Option<Json>,
    /// The caller's token for the server that it calls: checked by the gateway, never sent on.
    pub jwt: Option<Secret>,
    /// Members of `params._meta` that travel on: `traceparent`, `tracestate`, `baggage`.
    pub trace: Vec<(&'static str, String)>,
    pub surface: Surface,
    pub source: Option<IpAddr>,
    /// The caller's own limit on how long it waits, if it has one.
    pub timeout: Option<Duration>,
    /// Whether it counts as a request of the caller's plan; what the machine's owner asks does not.
    pub metered: bool,
}
