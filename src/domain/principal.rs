//! Who calls, and what their profile opens.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::clock::Moment;
use super::glob::Glob;
use super::id::{GrantId, KeyId, ServerName};
use super::tool::{Kind, Risk, Tool};

/// Opens a part of the gateway: own tools and REST areas.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Scope {
    #[serde(rename = "tools:read")]
    ToolsRead,
    #[serde(rename = "tools:invoke")]
    ToolsInvoke,
    #[serde(rename = "policy:simulate")]
    PolicySimulate,
    #[serde(rename = "policy:read")]
    PolicyRead,
    #[serde(rename = "policy:write")]
    PolicyWrite,
    #[serde(rename = "brain:read")]
    BrainRead,
    #[serde(rename = "brain:write")]
    BrainWrite,
    #[serde(rename = "traces:read")]
    TracesRead,
    #[serde(rename = "traces:write")]
    TracesWrite,
    #[serde(rename = "approvals:read")]
    ApprovalsRead,
    #[serde(rename = "approvals:decide")]
    ApprovalsDecide,
    #[serde(rename = "observability:read")]
    ObservabilityRead,
    #[serde(rename = "governance:read")]
    GovernanceRead,
    #[serde(rename = "evals:read")]
    EvalsRead,
    #[serde(rename = "evals:write")]
    EvalsWrite,
    #[serde(rename = "audit:read")]
    AuditRead,
    #[serde(rename = "providers:connect")]
    ProvidersConnect,
    #[serde(rename = "keys:admin")]
    KeysAdmin,
}

impl Scope {
    pub const ALL: [Self; 18] = [
        Self::ToolsRead,
        Self::ToolsInvoke,
        Self::PolicySimulate,
        Self::PolicyRead,
        Self::PolicyWrite,
        Self::BrainRead,
        Self::BrainWrite,
        Self::TracesRead,
        Self::TracesWrite,
        Self::ApprovalsRead,
        Self::ApprovalsDecide,
        Self::ObservabilityRead,
        Self::GovernanceRead,
        Self::EvalsRead,
        Self::EvalsWrite,
        Self::AuditRead,
        Self::ProvidersConnect,
        Self::KeysAdmin,
    ];

    /// As written in `profiles.toml`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ToolsRead => "tools:read",
            Self::ToolsInvoke => "tools:invoke",
            Self::PolicySimulate => "policy:simulate",
            Self::PolicyRead => "policy:read",
            Self::PolicyWrite => "policy:write",
            Self::BrainRead => "brain:read",
            Self::BrainWrite => "brain:write",
            Self::TracesRead => "traces:read",
            Self::TracesWrite => "traces:write",
            Self::ApprovalsRead => "approvals:read",
            Self::ApprovalsDecide => "approvals:decide",
            Self::ObservabilityRead => "observability:read",
            Self::GovernanceRead => "governance:read",
            Self::EvalsRead => "evals:read",
            Self::EvalsWrite => "evals:write",
            Self::AuditRead => "audit:read",
            Self::ProvidersConnect => "providers:connect",
            Self::KeysAdmin => "keys:admin",
        }
    }

    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| scope.as_str() == text)
    }
}

/// What `tools/list` on `/v1/mcp` shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Surface {
    /// The own tools alone.
    #[default]
    Search,
    /// Every permitted backend tool.
    Direct,
    Both,
    /// `Both` on a small catalogue, else `Search`.
    Auto,
}

impl Surface {
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "search" => Some(Self::Search),
            "direct" => Some(Self::Direct),
            "both" => Some(Self::Both),
            "auto" => Some(Self::Auto),
            _ => None,
        }
    }

    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Search => "search",
            Self::Direct => "direct",
            Self::Both => "both",
            Self::Auto => "auto",
        }
    }
}

/// A named grant from `profiles.toml`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Profile {
    #[serde(skip)]
    pub name: Arc<str>,
    pub scopes: Vec<Scope>,
    /// Globs over tool ids and own-tool names.
    pub allowed_tools: Vec<Glob>,
    pub read_only: bool,
    pub surface: Surface,
}

impl Profile {
    #[must_use]
    pub fn has(&self, scope: Scope) -> bool {
        self.scopes.contains(&scope)
    }

    /// The same grant with no more than these scopes.
    #[must_use]
    pub fn within(&self, scopes: &[Scope]) -> Self {
        let scopes = self.scopes.iter().copied().filter(|scope| scopes.contains(scope)).collect();
        Self { scopes, ..self.clone() }
    }

    /// Whether a backend's tool, prompt or resource lies inside this profile. A glob without a wildcard names a tool, and
    /// so does one with a wildcard before its end: of a URI the caller writes every letter, the last ones too.
    #[must_use]
    pub fn admits(&self, tool: &Tool) -> bool {
        match tool.kind {
            Kind::Tool => (!self.read_only || tool.risk == Risk::Read) && self.names(&tool.label),
            Kind::Prompt | Kind::Entity => {
                self.allowed_tools.iter().any(|glob| !glob.is_literal() && glob.matches(&tool.label))
            }
            Kind::Resource => self.allowed_tools.iter().any(|glob| glob.is_prefix() && glob.matches(&tool.label)),
        }
    }

    /// Whether everything of this server lies inside, whatever its name.
    #[must_use]
    pub fn opens(&self, server: &ServerName) -> bool {
        let prefix = format!("{server}:");
        self.allowed_tools.iter().any(|glob| glob.opens(&prefix))
    }

    /// Whether anything of a server may lie inside this profile.
    #[must_use]
    pub fn reaches(&self, server: &ServerName) -> bool {
        let head = format!("{server}:");
        self.allowed_tools.iter().any(|glob| glob.may_begin(&head))
    }

    /// Whether one of the globs matches `server:tool`.
    #[must_use]
    pub fn names(&self, label: &str) -> bool {
        self.allowed_tools.iter().any(|glob| glob.matches(label))
    }
}

/// Whom a token names that a caller brought for a server: the gateway has believed it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subject {
    /// Its `iss`.
    pub issuer: Arc<str>,
    /// Its `sub`, where it has one.
    pub name: Option<Arc<str>>,
}

/// Somebody whom authentication knows: neither expired nor revoked at that moment.
#[derive(Debug, Clone)]
pub struct Principal {
    pub key: KeyId,
    /// The key's name, for people.
    pub name: Arc<str>,
    /// Whom a policy judges: the key's agent id, or the key's own id.
    pub agent: Arc<str>,
    pub user: Arc<str>,
    pub profile: Arc<Profile>,
    pub roles: BTreeSet<Arc<str>>,
    pub plan: Option<Arc<str>>,
    /// Of which grant the token is that was presented; absent where the key itself was.
    pub grant: Option<GrantId>,
    /// When the credential ends by itself: that of an access token. A key lives as long as its record says.
    pub until: Option<Moment>,
}
