//! `toolgate.toml`: from tables to [`Settings`].

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::approvals::ApprovalSettings;
use super::dlp;
use super::providers::{self, Providers};
use super::reader::{Document, Faults, Lookup, Section};
use super::settings::{
    AuditSettings, GatewaySettings, Permissions, Plan, ServerSettings, SessionsOf, Settings, TokenSettings, ToolNames,
    Transport,
};
use super::telemetry;
use super::tls::{Ca, Tls};
use super::tokens;
use super::transport;
use crate::domain::audit::{ArgumentsMode, Durability};
use crate::domain::dlp::DlpModes;
use crate::domain::id::ServerName;
use crate::domain::secret::Secret;
use crate::domain::tool::{ArgumentKind, Risk, ToolSettings};
use crate::scan::Scanner;

/// Reads a configuration file, and the certificate that it names relative to itself.
///
/// # Errors
/// Every fault in it.
pub fn read(file: &str, text: &str, lookup: Lookup<'_>) -> Result<Settings, Faults> {
    Document::new(file, text, lookup).read(|top| {
        let providers = providers::providers(top);
        let gateway =
            top.section("gateway").map_or_else(GatewaySettings::default, |section| gateway(&section, Path::new(file)));
        Settings {
            oauth: tokens::oauth(top, gateway.public_url.as_deref()).map(Arc::new),
            gateway,
            telemetry: telemetry::read(top, lookup).map(Arc::new),
            audit: top.section("audit").map_or_else(AuditSettings::default, |section| audit(&section)),
            servers: servers(top, &providers),
            providers,
            plans: plans(top),
            approvals: top
                .section("approvals")
                .map_or_else(Arc::default, |section| Arc::new(ApprovalSettings::read(&section))),
            evals: Arc::default(),
            tokens: top.section("tokens").map_or_else(TokenSettings::default, |section| lives(&section)),
            scanner: Arc::new(top.section("dlp").map_or_else(Scanner::default, |section| dlp::scanner(&section))),
        }
    })
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            gateway: GatewaySettings::default(),
            audit: AuditSettings::default(),
            servers: BTreeMap::new(),
            providers: Providers::new(),
            plans: shipped_plans(),
            approvals: Arc::default(),
            tokens: TokenSettings::default(),
            scanner: Arc::default(),
            oauth: None,
            evals: Arc::default(),
            telemetry: None,
        }
    }
}

impl Settings {
    /// What runs where no configuration file is found: the demo servers of `program`.
    #[must_use]
    pub fn demo(program: &str) -> Self {
        let server = |name: &str, about: &str| {
            let name: ServerName = name.parse().ok()?;
            let args = vec!["demo-server".to_owned(), name.to_string()];
            let transport = Transport::Stdio { command: program.to_owned(), args, env: BTreeMap::new(), cwd: None };
            let description = Some(about.to_owned());
            Some((name.clone(), Arc::new(ServerSettings { description, ..ServerSettings::new(name, transport) })))
        };
        let servers = [
            server("github", "Demo: repositories and issues, made up"),
            server("database", "Demo: a small SQL database, made up"),
        ];
        Self { servers: servers.into_iter().flatten().collect(), ..Self::default() }
    }
}

impl Default for GatewaySettings {
    fn default() -> Self {
        Self {
            allowed_hosts: Vec::new(),
            allowed_origins: Vec::new(),
            public_url: None,
            tls: None,
            trusted_proxies: Vec::new(),
            tool_names: ToolNames::Auto,
            session_key: None,
            credentials_keys: Vec::new(),
            surface_budget: 4000,
            drain: Duration::from_secs(10),
            max_connections: 4096,
            max_body: 4 << 20,
            max_answers: 256 << 20,
        }
    }
}

/// Room for one answer of the usual size at the least.
const MIN_ANSWERS: u64 = 16 << 20;

fn gateway(section: &Section<'_>, file: &Path) -> GatewaySettings {
    let shipped = GatewaySettings::default();
    let mut trusted_proxies = Vec::new();
    for text in section.texts("trusted_proxies").unwrap_or_default() {
        match text.parse() {
            Ok(address) => trusted_proxies.push(address),
            Err(_) => section.fault(Some("trusted_proxies"), format!("`{text}` is not an IP address"), None),
        }
    }
    let session_key = section.text("session_key");
    if session_key.as_ref().is_some_and(|key| key.len() < 32) {
        section.fault(Some("session_key"), "`gateway.session_key` must have at least 32 characters", None);
    }
    let credentials_keys = section.texts("credentials_keys").unwrap_or_default();
    if credentials_keys.iter().any(|key| key.len() < 32) {
        section.fault(Some("credentials_keys"), "each of `credentials_keys` must have at least 32 characters", None);
    }
    let settings = GatewaySettings {
        allowed_hosts: section.texts("allowed_hosts").unwrap_or_default(),
        allowed_origins: section.texts("allowed_origins").unwrap_or_default(),
        public_url: section.parsed("public_url", "an http or https URL", |text| {
            is_http(text).then(|| text.trim_end_matches('/').to_owned())
        }),
        tls: section.section("tls").and_then(|section| Tls::read(&section, file)),
        trusted_proxies,
        tool_names: section.parsed("tool_names", "`auto`, `dotted` or `safe`", ToolNames::parse).unwrap_or_default(),
        session_key: session_key.map(Secret::new),
        credentials_keys: credentials_keys.into_iter().map(Secret::new).collect(),
        surface_budget: size(section.number("surface_budget", 0..10_000_001), shipped.surface_budget),
        drain: section.duration("drain").unwrap_or(shipped.drain),
        max_connections: size(section.number("max_connections", 1..1_000_001), shipped.max_connections),
        max_body: size(section.number("max_body", 1024..(1 << 30)), shipped.max_body),
        max_answers: size(section.number("max_answers", MIN_ANSWERS..(1 << 40)), shipped.max_answers),
    };
    section.refuse_the_rest();
    settings
}

fn size(number: Option<u64>, default: usize) -> usize {
    number.and_then(|number| usize::try_from(number).ok()).unwrap_or(default)
}

fn is_http(text: &str) -> bool {
    text.parse::<http::Uri>()
        .is_ok_and(|uri| matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some())
}

fn audit(section: &Section<'_>) -> AuditSettings {
    let settings = AuditSettings {
        durability: section.parsed("durability", "`process` or `power`", Durability::parse).unwrap_or_default(),
        arguments: section
            .parsed("arguments", "`redacted`, `absent` or `plain`", ArgumentsMode::parse)
            .unwrap_or_default(),
    };
    section.refuse_the_rest();
    settings
}

fn lives(section: &Section<'_>) -> TokenSettings {
    let shipped = TokenSettings::default();
    let settings = TokenSettings {
        access: section.duration("access").unwrap_or(shipped.access),
        service: section.duration("service").unwrap_or(shipped.service),
        refresh: section.duration("refresh").unwrap_or(shipped.refresh),
    };
    section.refuse_the_rest();
    settings
}

/// `free`, `pro` and `enterprise`, which a file may change.
fn shipped_plans() -> BTreeMap<Arc<str>, Plan> {
    let plan =
        |requests, invocations| Plan { requests_per_minute: Some(requests), invocations_per_minute: Some(invocations) };
    BTreeMap::from([
        ("free".into(), plan(60, 10)),
        ("pro".into(), plan(600, 100)),
        ("enterprise".into(), Plan::default()),
    ])
}

fn plans(top: &Section<'_>) -> BTreeMap<Arc<str>, Plan> {
    let mut plans = shipped_plans();
    for (name, section) in top.sections("plans") {
        let limit = |key| section.number(key, 1..1_000_001).and_then(|number| u32::try_from(number).ok());
        let plan = Plan {
            requests_per_minute: limit("requests_per_minute"),
            invocations_per_minute: limit("invocations_per_minute"),
        };
        section.refuse_the_rest();
        plans.insert(name.into(), plan);
    }
    plans
}

fn servers(top: &Section<'_>, providers: &Providers) -> BTreeMap<ServerName, Arc<ServerSettings>> {
    let mut servers: BTreeMap<ServerName, Arc<ServerSettings>> = BTreeMap::new();
    let jwt = tokens::common(top);
    for (name, section) in top.sections("servers") {
        let parsed = name.parse::<ServerName>().map_err(|error| error.to_string());
        let parsed = parsed.and_then(|name| {
            if name.is_own() { Err("the server name `toolgate` is the gateway's own".into()) } else { Ok(name) }
        });
        let name = match parsed {
            Ok(name) => name,
            Err(why) => {
                section.fault(None, why, None);
                continue;
            }
        };
        if let Some(other) = servers.keys().find(|other| other.collides_with(&name)) {
            section.fault(
                None,
                format!("the flat tool names of `{name}` and `{other}` would collide"),
                Some("rename one of them".into()),
            );
        }
        if let Some(server) = server(&name, &section, &jwt, providers) {
            servers.insert(name, Arc::new(server));
        }
    }
    servers
}

fn server(name: &ServerName, section: &Section<'_>, jwt: &tokens::Common, known: &Providers) -> Option<ServerSettings> {
    let transport = transport::read(section);
    let permissions = |text: &str| match text {
        "open" => Some(Permissions::Open),
        "explicit" => Some(Permissions::Explicit),
        _ => None,
    };
    let namespace = |text: &str| text.parse::<ServerName>().ok().map(|name| name.to_string());
    let defaults = ServerSettings::new(
        name.clone(),
        Transport::Stdio { command: String::new(), args: vec![], env: BTreeMap::new(), cwd: None },
    );
    let timeout = section.duration("timeout").unwrap_or(defaults.timeout);
    let dlp = dlp::modes(section, defaults.dlp);
    let row = |section: &Section<'_>| Arc::new(tool(section, dlp));
    let settings = ServerSettings {
        description: section.text("description"),
        namespace: section
            .parsed("namespace", "a name of `A-Z a-z 0-9 _ . -`", namespace)
            .unwrap_or(defaults.namespace),
        timeout,
        max_timeout: section.duration("max_timeout").unwrap_or(defaults.max_timeout).max(timeout),
        concurrency: size(section.number("concurrency", 1..100_001), defaults.concurrency),
        rate_limit: section.rate("rate_limit"),
        pace: section.number("pace", 1..1_000_001).and_then(|number| u32::try_from(number).ok()),
        max_answer: section.number("max_answer", 1024..(1 << 30)).and_then(|bytes| usize::try_from(bytes).ok()),
        ca: Ca::read(section, transport.as_ref()).map(Arc::new),
        permissions: section.parsed("permissions", "`open` or `explicit`", permissions).unwrap_or_default(),
        sessions: section.parsed("sessions", "`auto`, `shared` or `principal`", SessionsOf::parse).unwrap_or_default(),
        jwt: tokens::of_server(section, jwt),
        oauth: tokens::backend_oauth(section, transport.as_ref()).map(Arc::new),
        tools: section.sections("tools").into_iter().map(|(name, section)| (name, row(&section))).collect(),
        default_tool: Arc::new(ToolSettings { dlp, ..ToolSettings::default() }),
        dlp,
        name: name.clone(),
        transport: defaults.transport,
        provider: None,
        list_as: None,
    };
    let has_oauth = settings.oauth.is_some();
    let (provider, list_as) = providers::of_server(section, known, transport.as_ref(), settings.sessions, has_oauth);
    section.refuse_the_rest();
    Some(ServerSettings { transport: transport?, provider, list_as, ..settings })
}

fn tool(section: &Section<'_>, of_server: DlpModes) -> ToolSettings {
    let mut effects = BTreeMap::new();
    for (argument, kind) in section.text_map("effects") {
        match ArgumentKind::parse(&kind) {
            Some(kind) => drop(effects.insert(argument, kind)),
            None => section.fault(
                Some("effects"),
                format!("`{argument}` must be `sql`, `shell`, `url` or `path`, not `{kind}`"),
                None,
            ),
        }
    }
    let unique = |texts: Vec<String>| {
        texts.into_iter().collect::<BTreeSet<_>>().into_iter().map(Into::into).collect::<Vec<Arc<str>>>()
    };
    let settings = ToolSettings {
        risk: section.parsed("risk", "`read`, `write` or `destructive`", Risk::parse),
        allowed_roles: section.texts("allowed_roles").map(unique),
        public: section.flag("public").unwrap_or_default(),
        rate_limit: section.rate("rate_limit"),
        cache: section.duration("cache"),
        effects,
        tags: section.texts("tags").map(unique).unwrap_or_default(),
        timeout: section.duration("timeout"),
        dlp: dlp::modes(section, of_server),
    };
    section.refuse_the_rest();
    settings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<Settings, String> {
        let env = |name: &str| (name == "TOKEN").then(|| "t0k".to_owned());
        read("toolgate.toml", text, &env).map_err(|faults| faults.to_string())
    }

    #[test]
    fn the_documented_example_loads() {
        let settings = load(
            r#"
            [gateway]
            allowed_hosts = ["gw.example"]
            [servers.github]
            command = "npx"
            args = ["-y", "@modelcontextprotocol/server-github"]
            env = { GITHUB_TOKEN = "${TOKEN}" }
            [servers.billing]
            url = "https://billing.internal/mcp"
            timeout = "20s"
            rate_limit = "600/min"
            permissions = "explicit"
            headers = { Authorization = "Bearer ${TOKEN}" }
            concurrency = 64
            [servers.billing.tools.refund]
            allowed_roles = ["finance"]
            public = false
            rate_limit = "10/min"
            cache = "30s"
            risk = "destructive"
            effects = { note = "sql" }
            [plans.free]
            requests_per_minute = 60
            invocations_per_minute = 10
            "#,
        )
        .unwrap();
        let billing = &settings.servers[&"billing".parse().unwrap()];
        assert_eq!(billing.timeout, Duration::from_secs(20));
        assert_eq!(billing.tool("refund").rate_limit.map(|rate| (rate.count, rate.window.as_secs())), Some((10, 60)));
        let Transport::Http { headers, .. } = &billing.transport else { panic!("http") };
        assert_eq!(headers[0].1.expose(), "Bearer t0k");
        assert!(!format!("{settings:?}").contains("t0k"));
    }

    #[test]
    fn every_fault_is_reported_at_once_with_its_place() {
        let faults = load(
            "[gateway]\nalowed_hosts = []\nmax_body = \"big\"\n[servers.a]\ncommand = \"x\"\nurl = \"http://y/\"\n[servers.\"b c\"]\nurl = \"http://z/\"\n[servers.d]\nurl = \"ftp://z/\"\ntimeout = \"soon\"\n[servers.d.tools.t]\nrisk = \"mild\"\nenv = 1\n[servers.e]\ncommand = \"${NOPE}\"\n[servers.toolgate]\ncommand = \"x\"\n",
        )
        .unwrap_err();
        insta::assert_snapshot!(faults, @r"
        toolgate.toml:2:1: unknown key `gateway.alowed_hosts`
          hint: did you mean `allowed_hosts`?
        toolgate.toml:3:12: `gateway.max_body` must be a whole number from 1024 to 1073741823
        toolgate.toml:6:7: a server has `command` or `url`, not both
        toolgate.toml:7:1: `b c` is not a server name: 1 to 64 of `A-Z a-z 0-9 _ . -`
        toolgate.toml:10:7: `ftp://z/` is not an http, https, ws or wss URL
        toolgate.toml:11:11: `servers.d.timeout` must be a duration such as `20s`, not `soon`
        toolgate.toml:13:8: `servers.d.tools.t.risk` must be `read`, `write` or `destructive`, not `mild`
        toolgate.toml:14:1: unknown key `servers.d.tools.t.env`
          hint: known here: `effects`, `risk`, `allowed_roles`, `public`, `rate_limit`, `cache`, `tags`, `timeout`, `dlp`
        toolgate.toml:16:11: the environment has no `NOPE`
          hint: set it, or write `${NOPE:-default}`
        toolgate.toml:17:1: the server name `toolgate` is the gateway's own
        ");
    }

    #[test]
    fn broken_syntax_is_a_fault_with_a_line() {
        let faults = load("[gateway\nx = 1\n[servers.a]\ncommand = \"x\"\n").unwrap_err();
        assert!(faults.starts_with("toolgate.toml:1:"), "{faults}");
    }

    #[test]
    fn servers_whose_flat_names_could_be_confused_are_refused() {
        for (one, other) in [("a.b", "a_b"), ("a", "a__b")] {
            let text = format!("[servers.\"{one}\"]\ncommand = \"x\"\n[servers.\"{other}\"]\ncommand = \"x\"\n");
            assert!(load(&text).unwrap_err().contains("would collide"), "{one} {other}");
        }
    }
}
