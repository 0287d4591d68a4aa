//! `[providers.NAME]`: where users connect accounts of their own, with which servers are asked in their name.

use std::collections::BTreeMap;
use std::sync::Arc;

use url::Url;

use super::reader::Section;
use super::settings::{SessionsOf, Transport};
use super::tokens::{HTTPS, askable};
use crate::domain::secret::Secret;

/// What the gateway says itself in the request for an authorization.
const RESERVED: [&str; 8] = [
    "response_type",
    "client_id",
    "redirect_uri",
    "scope",
    "state",
    "code_challenge",
    "code_challenge_method",
    "response_mode",
];

/// All providers by their name.
pub type Providers = BTreeMap<Arc<str>, Arc<ProviderSettings>>;

/// One provider: an authorization server that knows the gateway as its client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProviderSettings {
    /// As paths name it.
    pub slug: Arc<str>,
    /// As people know it.
    pub title: Arc<str>,
    pub endpoints: Endpoints,
    pub client_id: String,
    /// Absent: the gateway is a public client, and PKCE alone protects the code.
    pub client_secret: Option<Secret>,
    /// How the secret is sent; found in the metadata unless set.
    pub client_auth: Option<ClientAuth>,
    pub scopes: Vec<String>,
    /// What else stands in the request for an authorization, such as `prompt`.
    pub parameters: Vec<(String, String)>,
}

/// Where a provider is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoints {
    /// The metadata of this issuer says it.
    Discovered {
        issuer: Url,
    },
    Given {
        authorize: Url,
        token: Url,
        revoke: Option<Url>,
    },
}

/// Where the client's secret stands in a request for tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientAuth {
    /// In the body.
    Post,
    /// In the header `Authorization`.
    Basic,
}

/// The providers of a file.
pub(super) fn providers(top: &Section<'_>) -> Providers {
    let mut providers = Providers::new();
    for (name, section) in top.sections("providers") {
        let fits = (1..=64).contains(&name.len())
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
        if !fits {
            section.fault(None, format!("`{name}` is not a provider's name: 1 to 64 of `A-Z a-z 0-9 _ -`"), None);
        }
        if let Some(settings) = provider(&name, &section).filter(|_| fits) {
            providers.insert(Arc::clone(&settings.slug), Arc::new(settings));
        }
    }
    providers
}

fn provider(name: &str, section: &Section<'_>) -> Option<ProviderSettings> {
    let auth = |text: &str| match text {
        "post" => Some(ClientAuth::Post),
        "basic" => Some(ClientAuth::Basic),
        _ => None,
    };
    let endpoints = endpoints(section);
    let client_id = section.text("client_id").filter(|id| !id.is_empty());
    if client_id.is_none() {
        section.fault(None, "`client_id` is missing: register the gateway with the provider", None);
    }
    let parameters = section.text_map("authorize_parameters");
    for (parameter, _) in parameters.iter().filter(|(name, _)| RESERVED.contains(&name.as_str())) {
        section.fault(Some("authorize_parameters"), format!("`{parameter}` is what the gateway says itself"), None);
    }
    let title = section.text("title");
    let secret = section.text("client_secret").filter(|text| !text.is_empty()).map(Secret::new);
    let client_auth = section.parsed("client_auth", "`post` or `basic`", auth);
    let scopes = section.texts("scopes").unwrap_or_default();
    section.refuse_the_rest();
    Some(ProviderSettings {
        slug: name.into(),
        title: title.map_or_else(|| name.into(), Into::into),
        endpoints: endpoints?,
        client_id: client_id?,
        client_secret: secret,
        client_auth,
        scopes,
        parameters,
    })
}

/// An issuer, or both endpoints.
fn endpoints(section: &Section<'_>) -> Option<Endpoints> {
    let url = |key: &'static str| {
        let text = section.text(key)?;
        let url = askable(&text);
        if url.is_none() {
            section.fault(Some(key), format!("`{text}` is not an https URL"), Some(HTTPS.into()));
        }
        Some(url)
    };
    match (url("issuer"), url("authorize_url"), url("token_url"), url("revoke_url")) {
        (Some(issuer), None, None, None) => Some(Endpoints::Discovered { issuer: issuer? }),
        (None, Some(authorize), Some(token), revoke) => {
            Some(Endpoints::Given { authorize: authorize?, token: token?, revoke: revoke.flatten() })
        }
        _ => {
            section.fault(None, "`issuer` is needed, or `authorize_url` and `token_url`", None);
            None
        }
    }
}

/// The provider that a server names, and whose account lists its tools.
pub(super) fn of_server(
    section: &Section<'_>,
    providers: &Providers,
    transport: Option<&Transport>,
    sessions: SessionsOf,
    has_oauth: bool,
) -> (Option<Arc<ProviderSettings>>, Option<Arc<str>>) {
    let list_as = section.text("list_as");
    let Some(name) = section.text("provider") else {
        if list_as.is_some() {
            section.fault(Some("list_as"), "`list_as` goes with `provider`", None);
        }
        return (None, None);
    };
    let provider = providers.get(name.as_str()).cloned();
    let fault = |key, what: &str, hint: Option<&str>| section.fault(Some(key), what, hint.map(str::to_owned));
    if provider.is_none() {
        let known: Vec<&str> = providers.keys().map(|name| &**name).collect();
        let hint = format!("known are {}; or add `[providers.{name}]`", known.join(", "));
        fault("provider", &format!("there is no provider `{name}`"), Some(&hint));
    }
    match transport.map(|transport| (transport.http_url(), transport.headers())) {
        Some((Some(url), headers)) => {
            if askable(url.as_str()).is_none() {
                fault("provider", "`provider` needs an https or wss URL", Some(HTTPS));
            }
            if list_as.is_some() && headers.iter().any(|(name, _)| *name == http::header::AUTHORIZATION) {
                fault("list_as", "`list_as` and the header `Authorization`: give one of the two", None);
            }
        }
        Some((None, _)) => fault("provider", "`provider` goes with an https or wss `url`", None),
        None => {}
    }
    if has_oauth {
        fault("provider", "`provider` and `oauth`: give one of the two", None);
    }
    if sessions == SessionsOf::Shared {
        fault("provider", "`provider` and `sessions = \"shared\"`: every user has a session of their own", None);
    }
    (provider, list_as.map(Into::into))
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
            [providers.github]
            title = "GitHub"
            authorize_url = "https://github.com/login/oauth/authorize"
            token_url = "https://github.com/login/oauth/access_token"
            client_id = "Iv1.0"
            client_secret = "s3cret-of-the-client"
            scopes = ["repo"]
            [providers.company]
            issuer = "https://id.example"
            client_id = "toolgate"
            client_auth = "basic"
            scopes = ["openid", "offline_access"]
            authorize_parameters = { prompt = "consent" }
            [servers.github]
            url = "https://api.githubcopilot.com/mcp/"
            provider = "github"
            list_as = "ada"
            "#,
        )
        .unwrap();
        let server = &settings.servers[&"github".parse().unwrap()];
        assert!(Arc::ptr_eq(server.provider.as_ref().unwrap(), &settings.providers["github"]));
        assert_eq!(server.list_as.as_deref(), Some("ada"));
        let company = &settings.providers["company"];
        assert!(matches!(company.endpoints, Endpoints::Discovered { .. }));
        assert_eq!((company.client_auth, &*company.title), (Some(ClientAuth::Basic), "company"));
        assert!(!format!("{settings:?}").contains("s3cret"));
    }

    #[test]
    fn what_cannot_work_is_a_fault() {
        let faults = load(
            r#"
[providers."a b"]
issuer = "https://id.example"
client_id = "x"
[providers.b]
issuer = "http://id.example"
[providers.c]
authorize_url = "https://id.example/authorize"
client_id = "x"
authorize_parameters = { state = "mine" }
[providers.d]
issuer = "https://id.example"
client_id = "x"
client_auth = "jwt"
colour = "red"
[servers.a]
command = "x"
provider = "d"
[servers.b]
url = "http://b.example/mcp"
provider = "e"
sessions = "shared"
[servers.c]
url = "https://c.example/mcp"
list_as = "ada"
"#,
        )
        .unwrap_err();
        insta::assert_snapshot!(faults, @r#"
        toolgate.toml:2:1: `a b` is not a provider's name: 1 to 64 of `A-Z a-z 0-9 _ -`
        toolgate.toml:5:1: `client_id` is missing: register the gateway with the provider
        toolgate.toml:6:10: `http://id.example` is not an https URL
          hint: http is for this machine alone
        toolgate.toml:7:1: `issuer` is needed, or `authorize_url` and `token_url`
        toolgate.toml:10:24: `state` is what the gateway says itself
        toolgate.toml:14:15: `providers.d.client_auth` must be `post` or `basic`, not `jwt`
        toolgate.toml:15:1: unknown key `providers.d.colour`
          hint: known here: `issuer`, `authorize_url`, `token_url`, `revoke_url`, `client_id`, `authorize_parameters`, `title`, `client_secret`, `client_auth`, `scopes`
        toolgate.toml:18:12: `provider` goes with an https or wss `url`
        toolgate.toml:21:12: there is no provider `e`
          hint: known are d; or add `[providers.e]`
        toolgate.toml:21:12: `provider` needs an https or wss URL
          hint: http is for this machine alone
        toolgate.toml:21:12: `provider` and `sessions = "shared"`: every user has a session of their own
        toolgate.toml:25:11: `list_as` goes with `provider`
        "#);
    }
}
