//! The conversation with the authorization server of a backend (MCP authorization, OAuth 2.1): `rmcp` speaks, every
//! request goes through the gateway's own guarded `fetch`.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{Method, Request, StatusCode};
use rmcp::transport::auth::{
    AuthorizationCallback, AuthorizationManager, AuthorizationMetadata, ClientCredentialsConfig, CredentialStore,
    InMemoryCredentialStore, OAuthClientConfig, OAuthHttpClient, OAuthHttpClientFuture, OAuthHttpRequest,
    StoredCredentials,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use url::Url;

use super::{Failure, Granted};
use crate::config::tokens::BackendOauth;
use crate::domain::clock::Moment;
use crate::domain::net::is_here;
use crate::domain::secret::Secret;
use crate::fetch::{self, Reach};

/// How the gateway names itself to authorization servers.
const CLIENT_NAME: &str = "Toolgate";
/// A redirect that is never followed: refreshing needs none, and the type wants one.
const NO_REDIRECT: &str = "http://127.0.0.1/callback";

/// What a login leaves: bound to the server's URL and to the issuer, worthless with any other.
#[derive(Serialize, Deserialize)]
pub(super) struct Credentials {
    pub(super) url: String,
    issuer: String,
    client_id: String,
    /// Given at registration; one that is configured is not kept.
    client_secret: Option<String>,
    stored: StoredCredentials,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").field("url", &self.url).field("issuer", &self.issuer).finish_non_exhaustive()
    }
}

/// A person is on the way to the authorization server.
pub(super) struct Pending {
    manager: AuthorizationManager,
    kept: InMemoryCredentialStore,
    config: OAuthClientConfig,
    issuer: String,
    /// Where the person goes.
    pub(super) page: Url,
    pub(super) since: u64,
}

impl std::fmt::Debug for Pending {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pending").field("issuer", &self.issuer).finish_non_exhaustive()
    }
}

/// Sends what `rmcp` wants sent, where the gateway's guard lets it.
struct Guarded {
    server: Url,
    issuer: Option<Url>,
}

impl OAuthHttpClient for Guarded {
    fn execute(&self, request: OAuthHttpRequest) -> OAuthHttpClientFuture<'_> {
        Box::pin(async move {
            let (parts, body) = request.request.into_parts();
            let asks_the_server = parts.method == Method::GET && parts.uri == *self.server.as_str();
            let origin = Url::parse(&parts.uri.to_string()).map(|url| url.origin());
            // The operator named the issuer, so its origin is the operator's choice too.
            let named = self.issuer.as_ref().filter(|issuer| origin.as_ref() == Ok(&issuer.origin()));
            let reach = Reach::Discovered { from: named.unwrap_or(&self.server).clone() };
            let mut response = fetch::send(Request::from_parts(parts, Bytes::from(body)), &reach).await?;
            if asks_the_server && response.status() != StatusCode::UNAUTHORIZED {
                // Many servers challenge a POST alone, and only the challenge says where their metadata is and which scopes
                // they want.
                let posted = fetch::send(greeting(&self.server)?, &reach).await?;
                if posted.status() == StatusCode::UNAUTHORIZED {
                    response = posted;
                }
            }
            Ok(response.map(|body| body.to_vec()))
        })
    }
}

/// A request that a server which wants tokens answers with a challenge, and any other with next to nothing.
fn greeting(server: &Url) -> Result<Request<Bytes>, http::Error> {
    let body = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
    Request::post(server.as_str())
        .header(CONTENT_TYPE, "application/json")
        .header(ACCEPT, "application/json, text/event-stream")
        .body(Bytes::from_static(body.as_bytes()))
}

/// A manager that has found the authorization server, and what was found.
async fn discover(
    server: &Url,
    settings: &BackendOauth,
) -> Result<(AuthorizationManager, AuthorizationMetadata, String), Failure> {
    let guarded = Guarded { server: server.clone(), issuer: settings.issuer.clone() };
    let manager = AuthorizationManager::new_with_oauth_http_client(server.as_str(), Arc::new(guarded))
        .await
        .map_err(|error| Failure::of(&error))?;
    let found = manager.resolve_metadata().await.map_err(|error| Failure::of(&error))?;
    if !found.source.is_discovered() {
        return Err(Failure::Other("the server publishes no authorization metadata".into()));
    }
    let metadata = found.metadata;
    let issuer = metadata.issuer.clone().ok_or_else(|| Failure::Other("the metadata names no issuer".into()))?;
    if settings
        .issuer
        .as_ref()
        .is_some_and(|wanted| wanted.as_str().trim_end_matches('/') != issuer.trim_end_matches('/'))
    {
        return Err(Failure::Other(format!("the server names the issuer `{issuer}`, and another is configured")));
    }
    Ok((manager, metadata, issuer))
}

/// Begins a login: the page to which a person goes. The authorization server sends the person back to `redirect`.
pub(super) async fn begin(server: &Url, settings: &BackendOauth, redirect: &str, now: u64) -> Result<Pending, Failure> {
    let (mut manager, metadata, issuer) = discover(server, settings).await?;
    // `rmcp` would go on where nothing is said of PKCE; MCP says to stop.
    let methods = metadata.code_challenge_methods_supported.as_deref().unwrap_or_default();
    if !methods.iter().any(|method| method == "S256") {
        return Err(Failure::Other(format!("the authorization server `{issuer}` does not offer PKCE with S256")));
    }
    manager.set_metadata(metadata);
    let kept = InMemoryCredentialStore::new();
    manager.set_credential_store(kept.clone());
    let scopes = match settings.scopes.as_slice() {
        [] => manager.select_initial_scopes(&[]).await,
        scopes => scopes.to_vec(),
    };
    let scopes: Vec<&str> = scopes.iter().map(String::as_str).collect();
    let config = match &settings.client_id {
        Some(id) => {
            let config = config(id, settings.client_secret.as_ref().map(Secret::expose), redirect);
            manager.configure_client(config.clone()).map_err(|error| Failure::of(&error))?;
            config
        }
        None => {
            let registered = manager.register_client(CLIENT_NAME, redirect, &scopes).await;
            registered.map_err(|error| Failure::Other(format!("{error}; register by hand and set `client_id`")))?
        }
    };
    let page = manager.get_authorization_url(&scopes).await.map_err(|error| Failure::of(&error))?;
    let page =
        Url::parse(&page).ok().filter(|page| page.scheme() == "https" || (page.scheme() == "http" && is_here(page)));
    let page = page.ok_or_else(|| Failure::Other("the authorization endpoint is no https URL".into()))?;
    Ok(Pending { manager, kept, config, issuer, page, since: now })
}

fn config(id: &str, secret: Option<&str>, redirect: &str) -> OAuthClientConfig {
    let config = OAuthClientConfig::new(id, redirect);
    match secret {
        Some(secret) => config.with_client_secret(secret),
        None => config,
    }
}

/// Ends a login with the URL to which the person was sent back.
pub(super) async fn finish(
    pending: &Pending,
    server: &Url,
    settings: &BackendOauth,
    callback: &str,
) -> Result<Credentials, Failure> {
    let url = Url::parse(callback).map_err(|error| Failure::of(&error))?;
    let said = |name: &str| url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned());
    if let Some(error) = said("error") {
        let why = said("error_description").unwrap_or_default();
        let clean = |text: String| text.chars().filter(|c| !c.is_control()).take(200).collect::<String>();
        return Err(Failure::Other(format!("the authorization server said `{}` {}", clean(error), clean(why))));
    }
    let callback = AuthorizationCallback::from_redirect_url(callback).map_err(|error| Failure::of(&error))?;
    let AuthorizationCallback { code, csrf_token, issuer, .. } = callback;
    let exchanged = pending.manager.exchange_code_for_token_with_issuer(&code, &csrf_token, issuer.as_deref()).await;
    exchanged.map_err(|error| Failure::of(&error))?;
    let stored = pending.kept.load().await.map_err(|error| Failure::of(&error))?;
    Ok(Credentials {
        url: server.to_string(),
        issuer: pending.issuer.clone(),
        client_id: pending.config.client_id.clone(),
        client_secret: pending.config.client_secret.clone().filter(|_| settings.client_secret.is_none()),
        stored: stored.ok_or_else(|| Failure::Other("the authorization server gave no token".into()))?,
    })
}

/// New credentials for old ones.
pub(super) async fn refresh(old: &Credentials, server: &Url, settings: &BackendOauth) -> Result<Credentials, Failure> {
    if value_of(&old.stored, "refresh_token").is_none() {
        return Err(Failure::LoginNeeded("the token has ended, and there is none to renew it with".into()));
    }
    let (mut manager, metadata, issuer) = discover(server, settings).await?;
    if issuer != old.issuer {
        return Err(Failure::LoginNeeded(format!("the server names another issuer, `{issuer}`, than at the login")));
    }
    manager.set_metadata(metadata);
    let secret = settings.client_secret.as_ref().map(Secret::expose).or(old.client_secret.as_deref());
    manager.configure_client(config(&old.client_id, secret, NO_REDIRECT)).map_err(|error| Failure::of(&error))?;
    let kept = InMemoryCredentialStore::new();
    kept.save(old.stored.clone()).await.map_err(|error| Failure::of(&error))?;
    manager.set_credential_store(kept.clone());
    match manager.refresh_token().await {
        Ok(_) => {}
        Err(error @ rmcp::transport::auth::AuthError::TokenRefreshRejected(_)) => {
            return Err(Failure::LoginNeeded(error.to_string()));
        }
        Err(error) => return Err(Failure::of(&error)),
    }
    let stored = kept.load().await.map_err(|error| Failure::of(&error))?;
    Ok(Credentials {
        url: old.url.clone(),
        issuer,
        client_id: old.client_id.clone(),
        client_secret: old.client_secret.clone(),
        stored: stored.ok_or_else(|| Failure::Other("the authorization server gave no token".into()))?,
    })
}

/// A token for the gateway itself (`grant = "client_credentials"`).
pub(super) async fn of_client(server: &Url, settings: &BackendOauth, now: Moment) -> Result<Granted, Failure> {
    let (mut manager, metadata, _) = discover(server, settings).await?;
    let (Some(id), Some(secret)) = (&settings.client_id, &settings.client_secret) else {
        return Err(Failure::Other("`client_id` and `client_secret` are needed".into()));
    };
    manager.set_metadata(metadata);
    let config = ClientCredentialsConfig::ClientSecret {
        client_id: id.clone(),
        client_secret: secret.expose().to_owned(),
        scopes: settings.scopes.clone(),
        resource: Some(server.to_string()),
    };
    manager.configure_client_credentials(&config).map_err(|error| Failure::of(&error))?;
    let token = manager.exchange_client_credentials(&config).await.map_err(|error| Failure::of(&error))?;
    let value = serde_json::to_value(&token).map_err(|error| Failure::of(&error))?;
    granted(&value, Some(now)).ok_or_else(|| Failure::Other("the authorization server gave no token".into()))
}

impl Credentials {
    /// The access token in them.
    pub(super) fn granted(&self) -> Option<Granted> {
        let value = serde_json::to_value(self.stored.token_response.as_ref()?).ok()?;
        let received = self.stored.token_received_at.and_then(|at| i64::try_from(at).ok()?.checked_mul(1000));
        granted(&value, received.map(Moment))
    }

    /// Whether they were given for this server under these settings.
    pub(super) fn fit(&self, server: &Url, settings: &BackendOauth) -> bool {
        self.url == server.as_str() && settings.client_id.as_ref().is_none_or(|id| *id == self.client_id)
    }
}

fn value_of(stored: &StoredCredentials, member: &str) -> Option<Value> {
    serde_json::to_value(stored.token_response.as_ref()?).ok()?.get(member).cloned()
}

fn granted(response: &Value, received: Option<Moment>) -> Option<Granted> {
    let token = Secret::new(response.get("access_token")?.as_str()?);
    let lives = response.get("expires_in").and_then(Value::as_i64);
    let expires = received.zip(lives).map(|(at, lives)| Moment(at.0.saturating_add(lives.saturating_mul(1000))));
    Some(Granted { token, expires })
}
