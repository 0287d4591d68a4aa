//! `[jwt]`, `[servers.NAME.jwt]` and `[oauth]`: whose tokens are believed, and what they open.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jsonwebtoken::DecodingKey;
use url::Url;

use super::reader::Section;
use super::settings::Transport;
use crate::domain::net::is_here;
use crate::domain::principal::Scope;
use crate::domain::secret::Secret;

/// Clocks differ by so much.
const LEEWAY: Duration = Duration::from_secs(60);
const MAX_LEEWAY: Duration = Duration::from_secs(600);
/// What can be guessed is no secret (RFC 7518, section 3.2).
const MIN_SECRET: usize = 32;
/// Bytes of a public key's file.
const MAX_KEY_FILE: u64 = 64 << 10;

/// How one kind of token is checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JwtSettings {
    pub issuer: Arc<str>,
    /// The token must be meant for one of these.
    pub audiences: Vec<Arc<str>>,
    pub keys: JwtKeys,
    /// Where roles stand in the claims; a path where it has dots.
    pub roles_claim: Arc<str>,
    pub leeway: Duration,
}

/// Where the keys come from that tokens are signed with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JwtKeys {
    /// A key set at this URL.
    Set(Url),
    /// The key set that the issuer's metadata names.
    Discovered(Url),
    /// A secret shared with the issuer, for HS256.
    Shared(Secret),
    /// A public key in PEM, and the file that it was read from.
    Public { pem: Arc<str>, file: PathBuf },
}

/// `[oauth]`: access tokens in place of keys, on an endpoint of their own.
#[derive(Debug, Clone, PartialEq)]
pub struct OauthSettings {
    /// One for each authorization server.
    pub servers: Vec<Arc<JwtSettings>>,
    /// The profile of token holders, unless a claim names another.
    pub profile: Arc<str>,
    pub profile_claim: Option<Arc<str>>,
    pub plan: Option<Arc<str>>,
    /// What a token's scopes open; the gateway's own scopes under their own names unless set.
    pub scopes: BTreeMap<String, Vec<Scope>>,
}

/// How the gateway gets its own tokens for a backend that asks for OAuth.
#[derive(Debug, Clone, PartialEq)]
pub struct BackendOauth {
    pub grant: Grant,
    /// Registered by hand; else the gateway registers itself.
    pub client_id: Option<String>,
    pub client_secret: Option<Secret>,
    /// What the server asks for unless set.
    pub scopes: Vec<String>,
    /// The authorization server that the backend must name; it may then be at a private address.
    pub issuer: Option<Url>,
}

/// Who the token is given to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Grant {
    /// A person, who logs in once.
    #[default]
    AuthorizationCode,
    /// The gateway itself.
    ClientCredentials,
}

/// `[jwt]`, and whether it is there at all: a faulty one is told once.
#[derive(Debug)]
pub(super) struct Common {
    settings: Option<Arc<JwtSettings>>,
    present: bool,
}

/// `[jwt]`.
pub(super) fn common(top: &Section<'_>) -> Common {
    let section = top.section("jwt");
    Common { present: section.is_some(), settings: section.and_then(|section| jwt(&section)).map(Arc::new) }
}

/// What a server asks of its callers.
pub(super) fn of_server(section: &Section<'_>, common: &Common) -> Option<Arc<JwtSettings>> {
    let kind = |text: &str| match text {
        "none" => Some(false),
        "jwt" => Some(true),
        _ => None,
    };
    let wanted = section.parsed("auth_type", "`jwt` or `none`", kind).unwrap_or_default();
    let own = section.section("jwt");
    match (wanted, own) {
        (true, Some(own)) => jwt(&own).map(Arc::new),
        (true, None) => {
            if !common.present {
                let hint = "say whose tokens are believed: `[jwt]` with `issuer`, `audience` and `jwks_url`";
                section.fault(Some("auth_type"), "`auth_type = \"jwt\"` needs `[jwt]`", Some(hint.into()));
            }
            common.settings.clone()
        }
        (false, Some(own)) => {
            jwt(&own);
            section.fault(Some("jwt"), "`jwt` goes with `auth_type = \"jwt\"`", None);
            None
        }
        (false, None) => None,
    }
}

fn jwt(section: &Section<'_>) -> Option<JwtSettings> {
    let issuer = needed(section, "issuer");
    let audience = needed(section, "audience");
    let settings = (keys(section), roles_claim(section), leeway(section));
    section.refuse_the_rest();
    let (keys, roles_claim, leeway) = settings;
    Some(JwtSettings { issuer: issuer?, audiences: vec![audience?], keys: keys?, roles_claim, leeway })
}

/// `oauth` of a server.
pub(super) fn backend_oauth(section: &Section<'_>, transport: Option<&Transport>) -> Option<BackendOauth> {
    let oauth = section.section("oauth")?;
    let grant = |text: &str| match text {
        "authorization_code" => Some(Grant::AuthorizationCode),
        "client_credentials" => Some(Grant::ClientCredentials),
        _ => None,
    };
    let settings = BackendOauth {
        grant: oauth.parsed("grant", "`authorization_code` or `client_credentials`", grant).unwrap_or_default(),
        client_id: oauth.text("client_id"),
        client_secret: oauth.text("client_secret").map(Secret::new),
        scopes: oauth.texts("scopes").unwrap_or_default(),
        issuer: oauth.parsed("issuer", "an https URL", askable),
    };
    oauth.refuse_the_rest();
    if settings.client_secret.is_some() && settings.client_id.is_none() {
        oauth.fault(Some("client_secret"), "`client_secret` goes with `client_id`", None);
    }
    if settings.grant == Grant::ClientCredentials && (settings.client_id.is_none() || settings.client_secret.is_none())
    {
        oauth.fault(Some("grant"), "`client_credentials` needs `client_id` and `client_secret`", None);
    }
    if settings.client_secret.is_some() && settings.issuer.is_none() {
        let why = "`client_secret` goes with `issuer`: without, it would be sent to whatever the backend names";
        oauth.fault(Some("client_secret"), why, Some("`issuer` is the https URL of the authorization server".into()));
    }
    match transport.map(|transport| (transport.http_url(), transport.headers())) {
        Some((Some(url), headers)) => {
            if askable(url.as_str()).is_none() {
                section.fault(Some("oauth"), "`oauth` needs an https or wss URL", Some(HTTPS.into()));
            }
            if headers.iter().any(|(name, _)| *name == http::header::AUTHORIZATION) {
                section.fault(Some("oauth"), "`oauth` and the header `Authorization`: give one of the two", None);
            }
        }
        Some((None, _)) => section.fault(Some("oauth"), "`oauth` goes with an https or wss `url`", None),
        None => {}
    }
    Some(settings)
}

fn roles_claim(section: &Section<'_>) -> Arc<str> {
    section.text("roles_claim").unwrap_or_else(|| "roles".into()).into()
}

fn leeway(section: &Section<'_>) -> Duration {
    let leeway = section.duration("leeway").unwrap_or(LEEWAY);
    if leeway > MAX_LEEWAY {
        section.fault(Some("leeway"), "`leeway` may be 10m at most: it keeps expired tokens alive", None);
    }
    leeway
}

fn needed(section: &Section<'_>, key: &'static str) -> Option<Arc<str>> {
    let text = section.text(key).filter(|text| !text.is_empty());
    if text.is_none() {
        section.fault(None, format!("`{key}` is missing: a token for somebody else would be believed"), None);
    }
    text.map(Into::into)
}

/// Exactly one source of keys.
fn keys(section: &Section<'_>) -> Option<JwtKeys> {
    let set = key_set_url(section).map(|url| url.map(JwtKeys::Set));
    let shared = section.text("hs256_secret").map(|text| shared(section, text));
    let public = section.text("public_key_file").map(|path| public_key(section, &path));
    let mut given = [set, shared, public].into_iter().flatten();
    match (given.next(), given.next()) {
        (Some(keys), None) => keys,
        _ => {
            let what = "exactly one of `jwks_url`, `hs256_secret` and `public_key_file` is needed";
            section.fault(None, what, None);
            None
        }
    }
}

/// Outer: whether it is there; inner: whether it can be asked.
fn key_set_url(section: &Section<'_>) -> Option<Option<Url>> {
    let text = section.text("jwks_url")?;
    let url = askable(&text);
    if url.is_none() {
        section.fault(Some("jwks_url"), format!("`{text}` is not an https URL"), Some(HTTPS.into()));
    }
    Some(url)
}

pub(super) const HTTPS: &str = "http is for this machine alone";

/// A URL that the gateway may ask: https, or http of this machine.
pub(super) fn askable(text: &str) -> Option<Url> {
    let url = Url::parse(text).ok()?;
    let safe = match url.scheme() {
        "https" => url.has_host(),
        "http" => is_here(&url),
        _ => false,
    };
    (safe && url.username().is_empty() && url.password().is_none()).then_some(url)
}

fn shared(section: &Section<'_>, text: String) -> Option<JwtKeys> {
    let secret = Secret::new(text);
    let length = secret.expose().len();
    let distinct = secret.expose().bytes().collect::<std::collections::BTreeSet<_>>().len();
    if length >= MIN_SECRET && distinct >= 8 {
        return Some(JwtKeys::Shared(secret));
    }
    let hint = "make one with `openssl rand -base64 48`";
    let what = format!("`hs256_secret` must have at least {MIN_SECRET} characters that cannot be guessed");
    section.fault(Some("hs256_secret"), what, Some(hint.into()));
    None
}

fn public_key(section: &Section<'_>, path: &str) -> Option<JwtKeys> {
    let file = section.beside(path);
    let fault = |why: String| section.fault(Some("public_key_file"), format!("`{}` {why}", file.display()), None);
    let text = match std::fs::metadata(&file).map(|found| found.len()) {
        Ok(size) if size > MAX_KEY_FILE => Err("is too large for a key".to_owned()),
        Ok(_) => std::fs::read_to_string(&file).map_err(|error| format!("cannot be read: {error}")),
        Err(error) => Err(format!("cannot be read: {error}")),
    };
    let pem = text.map_err(fault).ok()?;
    let bytes = pem.as_bytes();
    let readable = DecodingKey::from_ec_pem(bytes)
        .or_else(|_| DecodingKey::from_ed_pem(bytes))
        .or_else(|_| DecodingKey::from_rsa_pem(bytes));
    if pem.contains("PRIVATE KEY") {
        fault("is a private key: give the public one, and keep this one where tokens are signed".into());
        return None;
    }
    if readable.is_err() || !pem.contains("PUBLIC KEY") {
        fault("is not a public key in PEM (RSA, P-256, P-384 or Ed25519)".into());
        return None;
    }
    Some(JwtKeys::Public { pem: pem.into(), file })
}

/// Where the endpoint for tokens is, below the public URL.
pub const OAUTH_PATH: &str = "/v1/mcp-oauth";

/// `[oauth]`.
pub(super) fn oauth(top: &Section<'_>, public_url: Option<&str>) -> Option<OauthSettings> {
    let section = top.section("oauth")?;
    let given = section.text("audience");
    let mut audiences: Vec<Arc<str>> = given.map(Into::into).into_iter().collect();
    if audiences.is_empty() {
        match public_url {
            Some(base) => audiences.push(format!("{base}{OAUTH_PATH}").into()),
            None => section.fault(
                None,
                "`[oauth]` needs `gateway.public_url`, or an `audience`: a token for somebody else would be believed",
                None,
            ),
        }
    }
    let issuers = section.texts("authorization_servers").unwrap_or_default();
    if issuers.is_empty() {
        section.fault(None, "`authorization_servers` is missing: who issues the tokens", None);
    }
    let set = key_set_url(&section).flatten();
    if set.is_some() && issuers.len() > 1 {
        section.fault(Some("jwks_url"), "`jwks_url` goes with one authorization server; several are discovered", None);
    }
    let (roles_claim, leeway) = (roles_claim(&section), leeway(&section));
    let mut servers = Vec::new();
    for issuer in issuers {
        let Some(url) = askable(&issuer) else {
            section.fault(Some("authorization_servers"), format!("`{issuer}` is not an https URL"), Some(HTTPS.into()));
            continue;
        };
        servers.push(Arc::new(JwtSettings {
            issuer: issuer.into(),
            audiences: audiences.clone(),
            keys: set.clone().map_or(JwtKeys::Discovered(url), JwtKeys::Set),
            roles_claim: Arc::clone(&roles_claim),
            leeway,
        }));
    }
    let settings = OauthSettings {
        servers,
        profile: section.text("profile").unwrap_or_else(|| "agent".into()).into(),
        profile_claim: section.text("profile_claim").map(Into::into),
        plan: section.text("plan").map(Into::into),
        scopes: scopes(&section),
    };
    section.refuse_the_rest();
    Some(settings)
}

/// What the scopes of a token open.
fn scopes(section: &Section<'_>) -> BTreeMap<String, Vec<Scope>> {
    let Some(table) = section.section("scopes") else {
        return Scope::ALL.into_iter().map(|scope| (scope.as_str().to_owned(), vec![scope])).collect();
    };
    let mut scopes = BTreeMap::new();
    for (name, texts) in table.text_lists() {
        let mut opened = Vec::new();
        for text in texts {
            match Scope::parse(&text) {
                Some(scope) => opened.push(scope),
                None => table.fault(
                    Some(&name),
                    format!("`{text}` is not a scope"),
                    Some(format!("known are {}", Scope::ALL.map(Scope::as_str).join(", "))),
                ),
            }
        }
        let token =
            !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\');
        if !token {
            table.fault(Some(&name), format!("`{name}` cannot stand in a token's `scope`"), None);
        }
        scopes.insert(name, opened);
    }
    scopes
}

impl JwtSettings {
    /// The file that holds the key, and the key, where one does.
    #[must_use]
    pub fn key_file(&self) -> Option<(String, String)> {
        match &self.keys {
            JwtKeys::Public { pem, file } => Some((file.display().to_string(), pem.to_string())),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::file::read;
    use super::super::settings::Settings;
    use super::*;

    fn load(text: &str) -> Result<Settings, String> {
        read("toolgate.toml", text, &|_| None).map_err(|faults| faults.to_string())
    }

    #[test]
    fn the_documented_blocks_load() {
        let settings = load(
            r#"
            [gateway]
            public_url = "https://gw.example/"
            [servers.billing]
            url = "https://billing.internal/mcp"
            auth_type = "jwt"
            [servers.hr]
            url = "https://hr.internal/mcp"
            auth_type = "jwt"
            [servers.hr.jwt]
            issuer = "https://hr.example"
            audience = "hr"
            hs256_secret = "0123456789abcdef0123456789abcdef"
            roles_claim = "realm_access.roles"
            leeway = "5s"
            [servers.open]
            url = "https://open.internal/mcp"
            [jwt]
            issuer = "https://id.example"
            audience = "toolgate"
            jwks_url = "https://id.example/.well-known/jwks.json"
            [oauth]
            authorization_servers = ["https://id.example"]
            scopes = { mcp = ["tools:read", "tools:invoke"] }
            "#,
        )
        .unwrap();
        let of = |name: &str| settings.servers[&name.parse().unwrap()].jwt.clone();
        assert_eq!(of("billing").unwrap().roles_claim.as_ref(), "roles");
        assert!(matches!(of("billing").unwrap().keys, JwtKeys::Set(_)));
        assert_eq!(of("hr").unwrap().leeway, Duration::from_secs(5));
        assert!(of("open").is_none());
        let oauth = settings.oauth.as_ref().unwrap();
        assert_eq!(&*oauth.servers[0].audiences[0], "https://gw.example/v1/mcp-oauth");
        assert!(matches!(oauth.servers[0].keys, JwtKeys::Discovered(_)));
        assert_eq!(oauth.scopes["mcp"], [Scope::ToolsRead, Scope::ToolsInvoke]);
        assert!(!format!("{settings:?}").contains("0123456789abcdef"));
    }

    #[test]
    fn what_would_believe_anybody_is_a_fault() {
        let faults = load(
            r#"
[servers.a]
url = "https://a.internal/mcp"
auth_type = "jwt"
[servers.b]
url = "https://b.internal/mcp"
auth_type = "jwt"
[servers.b.jwt]
hs256_secret = "short"
[servers.c]
url = "https://c.internal/mcp"
auth_type = "oauth"
[servers.c.jwt]
issuer = "x"
audience = "y"
jwks_url = "http://id.example/keys"
leeway = "1h"
[servers.d]
url = "https://d.internal/mcp"
auth_type = "jwt"
[servers.d.jwt]
issuer = "x"
audience = "y"
jwks_url = "https://id.example/keys"
public_key_file = "nowhere.pem"
[oauth]
authorization_servers = ["http://id.example"]
scopes = { mcp = ["tools:all"] }
"#,
        )
        .unwrap_err();
        insta::assert_snapshot!(faults, @r#"
        toolgate.toml:4:13: `auth_type = "jwt"` needs `[jwt]`
          hint: say whose tokens are believed: `[jwt]` with `issuer`, `audience` and `jwks_url`
        toolgate.toml:8:1: `issuer` is missing: a token for somebody else would be believed
        toolgate.toml:8:1: `audience` is missing: a token for somebody else would be believed
        toolgate.toml:9:16: `hs256_secret` must have at least 32 characters that cannot be guessed
          hint: make one with `openssl rand -base64 48`
        toolgate.toml:12:13: `servers.c.auth_type` must be `jwt` or `none`, not `oauth`
        toolgate.toml:13:1: `jwt` goes with `auth_type = "jwt"`
        toolgate.toml:16:12: `http://id.example/keys` is not an https URL
          hint: http is for this machine alone
        toolgate.toml:17:10: `leeway` may be 10m at most: it keeps expired tokens alive
        toolgate.toml:21:1: exactly one of `jwks_url`, `hs256_secret` and `public_key_file` is needed
        toolgate.toml:25:19: `nowhere.pem` cannot be read: No such file or directory (os error 2)
        toolgate.toml:26:1: `[oauth]` needs `gateway.public_url`, or an `audience`: a token for somebody else would be believed
        toolgate.toml:27:25: `http://id.example` is not an https URL
          hint: http is for this machine alone
        toolgate.toml:28:18: `tools:all` is not a scope
          hint: known are tools:read, tools:invoke, policy:simulate, policy:read, policy:write, brain:read, brain:write, traces:read, traces:write, approvals:read, approvals:decide, observability:read, governance:read, evals:read, evals:write, audit:read, providers:connect, keys:admin
        "#);
    }

    #[test]
    fn oauth_of_a_server_loads_or_says_why_not() {
        let settings = load(
            "[servers.a]\nurl = \"https://a.example/mcp\"\noauth = {}\n[servers.b]\nurl = \"http://localhost:1/mcp\"\noauth = { \
             client_id = \"i\", client_secret = \"s3cret\", grant = \"client_credentials\", scopes = [\"x\"], \
             issuer = \"https://id.example\" }\n",
        )
        .unwrap();
        let of = |name: &str| settings.servers[&name.parse().unwrap()].oauth.clone().unwrap();
        assert_eq!(of("a").grant, Grant::AuthorizationCode);
        assert_eq!(of("b").grant, Grant::ClientCredentials);
        assert!(!format!("{settings:?}").contains("s3cret"));
        let faults = load(
            r#"
[servers.a]
command = "x"
oauth = { client_secret = "s" }
[servers.b]
url = "http://b.example/mcp"
headers = { authorization = "Bearer x" }
oauth = { grant = "client_credentials", issuer = "http://id.example", extra = 1 }
[servers.c]
url = "https://c.example/mcp"
oauth = { grant = "password" }
"#,
        )
        .unwrap_err();
        insta::assert_snapshot!(faults, @r#"
        toolgate.toml:4:9: `oauth` goes with an https or wss `url`
        toolgate.toml:4:27: `client_secret` goes with `client_id`
        toolgate.toml:4:27: `client_secret` goes with `issuer`: without, it would be sent to whatever the backend names
          hint: `issuer` is the https URL of the authorization server
        toolgate.toml:8:9: `oauth` needs an https or wss URL
          hint: http is for this machine alone
        toolgate.toml:8:9: `oauth` and the header `Authorization`: give one of the two
        toolgate.toml:8:19: `client_credentials` needs `client_id` and `client_secret`
        toolgate.toml:8:50: `servers.b.oauth.issuer` must be an https URL, not `http://id.example`
        toolgate.toml:8:71: unknown key `servers.b.oauth.extra`
          hint: known here: `grant`, `client_id`, `client_secret`, `scopes`, `issuer`
        toolgate.toml:11:19: `servers.c.oauth.grant` must be `authorization_code` or `client_credentials`, not `password`
        "#);
    }

    #[test]
    fn a_public_key_is_one() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("toolgate.toml").display().to_string();
        let config = "[servers.a]\nurl = \"https://a/\"\nauth_type = \"jwt\"\n[jwt]\nissuer = \"i\"\naudience = \"a\"\npublic_key_file = \"key.pem\"\n";
        let load = |pem: &str| {
            std::fs::write(folder.path().join("key.pem"), pem).unwrap();
            read(&file, config, &|_| None).map_err(|faults| faults.0[0].message.clone())
        };
        let public = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n-----END PUBLIC KEY-----\n";
        let settings = load(public).unwrap();
        let jwt = settings.servers[&"a".parse().unwrap()].jwt.clone().unwrap();
        assert_eq!(jwt.key_file().unwrap().1, public);
        let private = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g\n-----END PRIVATE KEY-----\n";
        assert!(load(private).unwrap_err().contains("private key"));
        assert!(load("hello").unwrap_err().contains("not a public key"));
    }
}
