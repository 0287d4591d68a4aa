//! The configuration after every check: defaults filled in, variables expanded, names parsed.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::approvals::ApprovalSettings;
use super::providers::{ProviderSettings, Providers};
use super::telemetry::TelemetrySettings;
use super::tls::{Ca, Tls};
use super::tokens::{BackendOauth, JwtSettings, OauthSettings};
use crate::domain::audit::{ArgumentsMode, Durability};
use crate::domain::dlp::DlpModes;
use crate::domain::id::ServerName;
use crate::domain::secret::Secret;
use crate::domain::tool::{Rate, ToolSettings};
use crate::evals::Suites;
use crate::scan::Scanner;

/// One immutable configuration; a reload makes another.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    pub gateway: GatewaySettings,
    pub audit: AuditSettings,
    pub servers: BTreeMap<ServerName, Arc<ServerSettings>>,
    /// Where users connect accounts of their own.
    pub providers: Providers,
    pub plans: BTreeMap<Arc<str>, Plan>,
    pub approvals: Arc<ApprovalSettings>,
    pub tokens: TokenSettings,
    /// Absent: there is no endpoint for tokens.
    pub oauth: Option<Arc<OauthSettings>>,
    /// Absent: nothing is sent.
    pub telemetry: Option<Arc<TelemetrySettings>>,
    /// The suites of the folder `evals`.
    pub evals: Arc<Suites>,
    /// `[dlp]`: the rules in force.
    pub scanner: Arc<Scanner>,
}

impl Settings {
    /// The files beside the configuration that are a part of it: a change of one is a change of the configuration.
    #[must_use]
    pub fn key_files(&self) -> Vec<(String, String)> {
        let keys = self.servers.values().filter_map(|server| server.jwt.as_ref()?.key_file());
        keys.chain(self.servers.values().filter_map(|server| Some(server.ca.as_ref()?.file()))).collect()
    }
}

/// `[tokens]`: how long the tokens live that keys are exchanged for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokenSettings {
    /// Access tokens of users.
    pub access: Duration,
    /// Access tokens for automation.
    pub service: Duration,
    pub refresh: Duration,
}

impl Default for TokenSettings {
    fn default() -> Self {
        const DAY: Duration = Duration::from_secs(24 * 3600);
        Self { access: Duration::from_secs(3600), service: DAY * 30, refresh: DAY * 30 }
    }
}

/// `[gateway]`.
#[derive(Debug, Clone, PartialEq)]
pub struct GatewaySettings {
    /// Host names (without port) that requests may name; loopback names unless set.
    pub allowed_hosts: Vec<String>,
    /// Origins that browsers may come from; loopback origins unless set.
    pub allowed_origins: Vec<String>,
    pub public_url: Option<String>,
    /// Speaks TLS with this certificate; else plain HTTP.
    pub tls: Option<Tls>,
    /// Peers whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpAddr>,
    /// Which spelling of the own tools is listed.
    pub tool_names: ToolNames,
    /// Seals session ids; replicas share one. In the data directory unless set.
    pub session_key: Option<Secret>,
    /// Seal the credentials at rest: the first one; the others still open. In the data directory unless set.
    pub credentials_keys: Vec<Secret>,
    /// Up to how many tokens of definitions the surface `auto` lists tools directly.
    pub surface_budget: usize,
    /// How long calls in flight may take to end when the gateway stops.
    pub drain: Duration,
    pub max_connections: usize,
    pub max_body: usize,
    /// Bytes that large answers of all servers may have in memory; a key has half of them.
    pub max_answers: usize,
}

impl GatewaySettings {
    /// Where clients reach the gateway: `public_url`, or the host that is given.
    #[must_use]
    pub fn base_url(&self, host: &str) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        self.public_url.clone().unwrap_or_else(|| format!("{scheme}://{host}"))
    }
}

/// Which spelling of the own tools `tools/list` shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ToolNames {
    /// Safe names for hosts, dotted names for bare requests.
    #[default]
    Auto,
    Dotted,
    Safe,
}

impl ToolNames {
    /// As written in the configuration and in `?names=`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "auto" => Some(Self::Auto),
            "dotted" => Some(Self::Dotted),
            "safe" => Some(Self::Safe),
            _ => None,
        }
    }
}

/// `[audit]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AuditSettings {
    pub durability: Durability,
    /// How arguments stand in the record.
    pub arguments: ArgumentsMode,
}

/// `[plans.NAME]`; absent means without limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Plan {
    pub requests_per_minute: Option<u32>,
    pub invocations_per_minute: Option<u32>,
}

/// `[servers.NAME]`.
#[derive(Debug, Clone, PartialEq)]
pub struct ServerSettings {
    pub name: ServerName,
    pub transport: Transport,
    /// Shown in directories and searched.
    pub description: Option<String>,
    /// The part before the name in the directory.
    pub namespace: String,
    /// A call that has no answer after this long fails; progress starts it again, up to `max_timeout`.
    pub timeout: Duration,
    pub max_timeout: Duration,
    /// Calls in flight at most; more wait for a place, within their timeout.
    pub concurrency: usize,
    pub rate_limit: Option<Rate>,
    /// Calls a second that are let through evenly; more wait.
    pub pace: Option<u32>,
    pub permissions: Permissions,
    /// Bytes of one answer, where they are others than the transport's.
    pub max_answer: Option<usize>,
    /// Whose certificates it is known by, where those are not the system's.
    pub ca: Option<Arc<Ca>>,
    /// Who shares a session with it, where it keeps sessions.
    pub sessions: SessionsOf,
    /// What is done about secrets and personal data, where a tool's row says nothing else.
    pub dlp: DlpModes,
    /// With `auth_type = "jwt"`: how the token is checked that a caller has to bring.
    pub jwt: Option<Arc<JwtSettings>>,
    /// The gateway's own tokens for this server.
    pub oauth: Option<Arc<BackendOauth>>,
    /// Whose account a call brings: that of the user who calls.
    pub provider: Option<Arc<ProviderSettings>>,
    /// The user whose account lists the tools, where the server lists them to nobody without one.
    pub list_as: Option<Arc<str>>,
    pub tools: BTreeMap<String, Arc<ToolSettings>>,
    /// For tools without a row.
    pub default_tool: Arc<ToolSettings>,
}

impl ServerSettings {
    /// A server with the defaults of the configuration file.
    #[must_use]
    pub fn new(name: ServerName, transport: Transport) -> Self {
        Self {
            name,
            transport,
            description: None,
            namespace: String::from("local"),
            timeout: Duration::from_secs(30),
            max_timeout: Duration::from_secs(300),
            concurrency: 64,
            rate_limit: None,
            pace: None,
            max_answer: None,
            ca: None,
            permissions: Permissions::Open,
            sessions: SessionsOf::Auto,
            dlp: DlpModes::default(),
            jwt: None,
            oauth: None,
            provider: None,
            list_as: None,
            tools: BTreeMap::new(),
            default_tool: Arc::default(),
        }
    }

    /// What the operator says of one tool.
    #[must_use]
    pub fn tool(&self, name: &str) -> &Arc<ToolSettings> {
        self.tools.get(name).unwrap_or(&self.default_tool)
    }
}

/// Whether a tool without a row of its own exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Permissions {
    #[default]
    Open,
    Explicit,
}

/// Whose calls share one session with a backend that keeps sessions (the legacy revisions).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SessionsOf {
    /// Everybody's, but for clients whose session may matter: those that opened one with this server, or can be asked.
    #[default]
    Auto,
    /// Everybody's: the server keeps nothing between calls, and asks nobody.
    Shared,
    /// Each principal's own.
    Principal,
}

impl SessionsOf {
    /// As written in the configuration.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "auto" => Some(Self::Auto),
            "shared" => Some(Self::Shared),
            "principal" => Some(Self::Principal),
            _ => None,
        }
    }
}

/// How a backend is reached.
#[derive(Debug, Clone, PartialEq)]
pub enum Transport {
    /// A child process that speaks on its standard input and output.
    Stdio { command: String, args: Vec<String>, env: BTreeMap<String, Secret>, cwd: Option<PathBuf> },
    /// Streamable HTTP.
    Http { url: http::Uri, headers: Vec<(http::HeaderName, Secret)> },
    /// HTTP with server-sent events, as MCP had it until 2025: a stream one way, posts the other.
    Sse { url: http::Uri, headers: Vec<(http::HeaderName, Secret)> },
    /// WebSocket, a message each frame.
    Ws { url: http::Uri, headers: Vec<(http::HeaderName, Secret)> },
}

impl Transport {
    /// As the configuration names it.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Stdio { .. } => "stdio",
            Self::Http { .. } => "http",
            Self::Sse { .. } => "sse",
            Self::Ws { .. } => "ws",
        }
    }

    /// The URL over HTTP that stands for where it leads: a WebSocket begins as a request there. None of a child.
    #[must_use]
    pub fn http_url(&self) -> Option<url::Url> {
        let (Self::Http { url, .. } | Self::Sse { url, .. } | Self::Ws { url, .. }) = self else { return None };
        let text = url.to_string();
        let text = text.strip_prefix("ws").map_or_else(|| text.clone(), |rest| format!("http{rest}"));
        url::Url::parse(&text).ok()
    }

    /// The headers that are sent there.
    #[must_use]
    pub fn headers(&self) -> &[(http::HeaderName, Secret)] {
        match self {
            Self::Stdio { .. } => &[],
            Self::Http { headers, .. } | Self::Sse { headers, .. } | Self::Ws { headers, .. } => headers,
        }
    }
}
