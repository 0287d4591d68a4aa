//! The conversation with a provider, in which a user lets the gateway act with an account: authorization code with PKCE
//! (RFC 6749, RFC 7636, RFC 9700). `oauth2` speaks, every request goes through the gateway's own guarded `fetch`.

use std::borrow::Cow;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderValue, Request};
use oauth2::basic::{BasicClient, BasicErrorResponse, BasicErrorResponseType, BasicTokenResponse};
use oauth2::{
    AuthType, AuthUrl, AuthorizationCode, ClientId, ClientSecret, CsrfToken, HttpRequest, HttpResponse,
    PkceCodeChallenge, PkceCodeVerifier, RedirectUrl, RefreshToken, RequestTokenError, Scope, TokenResponse, TokenUrl,
};
use serde::{Deserialize, Serialize};
use url::{Url, form_urlencoded};

use super::discovery::Discovery;
use super::{Failure, Granted};
use crate::config::providers::{Endpoints, ProviderSettings};
use crate::domain::clock::Moment;
use crate::domain::net::is_here;
use crate::domain::secret::Secret;
use crate::fetch::{self, FetchError, Reach};

/// Characters of what a provider says that are told on.
const MAX_SAID: usize = 200;

/// The account of a user with a provider: bound to where its tokens came from, worthless anywhere else.
#[derive(Serialize, Deserialize)]
pub(crate) struct Connection {
    provider: String,
    user: String,
    /// The issuer, or the endpoint that gave the tokens.
    source: String,
    client_id: String,
    access_token: String,
    refresh_token: Option<String>,
    expires: Option<i64>,
    pub(super) scopes: Vec<String>,
    pub(super) connected: i64,
    pub(super) refreshed: i64,
    /// The provider takes the refresh token no more: the user has to connect anew.
    pub(super) ended: bool,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").field("provider", &self.provider).field("user", &self.user).finish_non_exhaustive()
    }
}

/// A user is on the way to the provider. Whoever comes back with its state ends it, once.
pub(super) struct Begun {
    pub(super) provider: Arc<ProviderSettings>,
    /// Where the user goes.
    pub(super) page: Url,
    pub(super) state: String,
    verifier: PkceCodeVerifier,
    redirect: RedirectUrl,
    /// Whether the provider says who it is when it sends the user back (RFC 9207).
    names_itself: bool,
}

impl std::fmt::Debug for Begun {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Begun").field("provider", &self.provider.slug).finish_non_exhaustive()
    }
}

/// What the user was sent back with.
#[derive(Default, Deserialize)]
pub struct Returned {
    pub code: Option<String>,
    pub state: Option<String>,
    pub iss: Option<String>,
    pub error: Option<String>,
    pub error_description: Option<String>,
}

impl std::fmt::Debug for Returned {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Returned").field("error", &self.error).finish_non_exhaustive()
    }
}

impl ProviderSettings {
    /// What tokens are bound to.
    fn source(&self) -> &Url {
        match &self.endpoints {
            Endpoints::Discovered { issuer } => issuer,
            Endpoints::Given { token, .. } => token,
        }
    }

    /// Where a URL of the provider's may lead.
    fn reach(&self) -> Reach {
        match &self.endpoints {
            Endpoints::Discovered { issuer } => Reach::Discovered { from: issuer.clone() },
            Endpoints::Given { .. } => Reach::Configured,
        }
    }
}

/// Begins a connection: the page to which the user goes, from where the provider sends the user to `redirect`.
pub(super) async fn begin(
    provider: Arc<ProviderSettings>,
    redirect: &str,
    discovery: &Discovery,
) -> Result<Begun, Failure> {
    let found = discovery.find(&provider).await?;
    let safe = found.authorize.scheme() == "https" || (found.authorize.scheme() == "http" && is_here(&found.authorize));
    if !safe {
        return Err(Failure::Other("the authorization endpoint is no https URL".into()));
    }
    let redirect = RedirectUrl::new(redirect.to_owned()).map_err(|error| Failure::of(&error))?;
    let client = BasicClient::new(ClientId::new(provider.client_id.clone()))
        .set_auth_uri(AuthUrl::from_url(found.authorize))
        .set_redirect_uri(redirect.clone());
    let (challenge, verifier) = PkceCodeChallenge::new_random_sha256();
    let mut request = client.authorize_url(|| CsrfToken::new_random_len(32)).set_pkce_challenge(challenge);
    for scope in &provider.scopes {
        request = request.add_scope(Scope::new(scope.clone()));
    }
    for (name, value) in &provider.parameters {
        request = request.add_extra_param(name.as_str(), value.as_str());
    }
    let (page, state) = request.url();
    let state = state.into_secret();
    Ok(Begun { provider, page, state, verifier, redirect, names_itself: found.names_itself })
}

/// Ends a connection with what the user was sent back with.
pub(super) async fn finish(
    begun: Begun,
    returned: Returned,
    user: &str,
    discovery: &Discovery,
    now: Moment,
) -> Result<Connection, Failure> {
    let provider = &begun.provider;
    if let Some(error) = returned.error {
        let why = returned.error_description.unwrap_or_default();
        return Err(Failure::LoginNeeded(
            format!("{} said `{}` {}", provider.title, clean(&error), clean(&why)).trim().into(),
        ));
    }
    let issuer = match &provider.endpoints {
        Endpoints::Discovered { issuer } => Some(issuer.as_str().trim_end_matches('/')),
        Endpoints::Given { .. } => None,
    };
    let named = returned.iss.as_deref().map(|iss| iss.trim_end_matches('/'));
    let mixed_up = match (named, issuer) {
        (Some(named), Some(issuer)) => named != issuer,
        (None, _) => begun.names_itself,
        (Some(_), None) => false,
    };
    if mixed_up {
        return Err(Failure::Other("the answer comes from another authorization server".into()));
    }
    let code = returned.code.ok_or_else(|| Failure::Other("the answer holds no code".into()))?;
    let found = discovery.find(provider).await?;
    let client = BasicClient::new(ClientId::new(provider.client_id.clone()))
        .set_token_uri(TokenUrl::from_url(found.token))
        .set_auth_type(found.auth);
    let client = match &provider.client_secret {
        Some(secret) => client.set_client_secret(ClientSecret::new(secret.expose().to_owned())),
        None => client,
    };
    let send = sender(provider.reach());
    let answer = client
        .exchange_code(AuthorizationCode::new(code))
        .set_pkce_verifier(begun.verifier)
        .set_redirect_uri(Cow::Borrowed(&begun.redirect))
        .request_async(&send)
        .await
        .map_err(|error| failure(&error))?;
    Connection::of(provider, user, &answer, None, now)
}

/// New tokens for old ones.
pub(super) async fn refresh(
    old: &Connection,
    provider: &ProviderSettings,
    discovery: &Discovery,
    now: Moment,
) -> Result<Connection, Failure> {
    let token = old.refresh_token.clone().filter(|_| !old.ended);
    let token =
        token.ok_or_else(|| Failure::LoginNeeded("the token has ended, and there is none to renew it with".into()))?;
    let found = discovery.find(provider).await?;
    let client = BasicClient::new(ClientId::new(provider.client_id.clone()))
        .set_token_uri(TokenUrl::from_url(found.token))
        .set_auth_type(found.auth);
    let client = match &provider.client_secret {
        Some(secret) => client.set_client_secret(ClientSecret::new(secret.expose().to_owned())),
        None => client,
    };
    let (token, send) = (RefreshToken::new(token), sender(provider.reach()));
    let answer = client.exchange_refresh_token(&token).request_async(&send).await.map_err(|error| failure(&error))?;
    Connection::of(provider, &old.user, &answer, Some(old), now)
}

/// Tells the provider that the tokens are not wanted any more (RFC 7009), where it can be told.
pub(super) async fn revoke(
    connection: &Connection,
    provider: &ProviderSettings,
    discovery: &Discovery,
) -> Result<(), Failure> {
    let found = discovery.find(provider).await?;
    let Some(url) = found.revoke else { return Ok(()) };
    let request = revocation(&url, found.auth, connection, provider).map_err(|error| Failure::of(&error))?;
    let answer = fetch::send(request, &provider.reach()).await.map_err(|error| Failure::of(&error))?;
    if answer.status().is_success() {
        Ok(())
    } else {
        Err(Failure::Other(format!("HTTP {}", answer.status().as_u16())))
    }
}

fn revocation(
    url: &Url,
    auth: AuthType,
    connection: &Connection,
    provider: &ProviderSettings,
) -> http::Result<Request<Bytes>> {
    let mut form = form_urlencoded::Serializer::new(String::new());
    // The refresh token ends the access tokens too.
    form.append_pair("token", connection.refresh_token.as_ref().unwrap_or(&connection.access_token));
    let mut request = Request::post(url.as_str()).header(CONTENT_TYPE, "application/x-www-form-urlencoded");
    match (&provider.client_secret, auth) {
        (Some(secret), AuthType::BasicAuth) => {
            let encode = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
            let pair = format!("{}:{}", encode(&provider.client_id), encode(secret.expose()));
            request = request.header(AUTHORIZATION, format!("Basic {}", STANDARD.encode(pair)));
        }
        (secret, _) => {
            form.append_pair("client_id", &provider.client_id);
            if let Some(secret) = secret {
                form.append_pair("client_secret", secret.expose());
            }
        }
    }
    request.body(Bytes::from(form.finish()))
}

impl Connection {
    fn of(
        provider: &ProviderSettings,
        user: &str,
        answer: &BasicTokenResponse,
        old: Option<&Self>,
        now: Moment,
    ) -> Result<Self, Failure> {
        if !answer.token_type().as_ref().eq_ignore_ascii_case("bearer") {
            return Err(Failure::Other("the token is no bearer token".into()));
        }
        let token = answer.access_token().secret();
        if token.is_empty() || HeaderValue::from_str(token).is_err() {
            return Err(Failure::Other("the token cannot stand in a header".into()));
        }
        let lives = answer.expires_in().map(|lives| i64::try_from(lives.as_millis()).unwrap_or(i64::MAX));
        let scopes = match (answer.scopes(), old) {
            (Some(scopes), _) => scopes.iter().map(|scope| scope.to_string()).collect(),
            (None, Some(old)) => old.scopes.clone(),
            (None, None) => provider.scopes.clone(),
        };
        let refresh = answer.refresh_token().map(|token| token.secret().clone());
        Ok(Self {
            provider: provider.slug.to_string(),
            user: user.to_owned(),
            source: provider.source().to_string(),
            client_id: provider.client_id.clone(),
            access_token: token.clone(),
            // Not every provider gives a new one each time.
            refresh_token: refresh.or_else(|| old?.refresh_token.clone()),
            expires: lives.map(|lives| now.0.saturating_add(lives)),
            scopes,
            connected: old.map_or(now.0, |old| old.connected),
            refreshed: now.0,
            ended: false,
        })
    }

    /// The access token in it.
    pub(super) fn granted(&self) -> Option<Granted> {
        let granted = Granted { token: Secret::new(self.access_token.clone()), expires: self.expires.map(Moment) };
        (!self.ended).then_some(granted)
    }

    /// Whether it was given to this user under these settings.
    pub(super) fn fits(&self, provider: &ProviderSettings, user: &str) -> bool {
        *self.provider == *provider.slug
            && self.user == user
            && self.client_id == provider.client_id
            && self.source == provider.source().as_str()
    }

    /// Whether it can be renewed.
    pub(super) const fn renews(&self) -> bool {
        self.refresh_token.is_some() && !self.ended
    }

    pub(super) fn expires(&self) -> Option<Moment> {
        self.expires.map(Moment)
    }
}

/// Sends what `oauth2` wants sent, where the gateway's guard lets it.
fn sender(reach: Reach) -> impl Fn(HttpRequest) -> Sending {
    move |request| {
        let reach = reach.clone();
        Box::pin(async move {
            let response = fetch::send(request.map(Bytes::from), &reach).await?;
            Ok(response.map(|body| body.to_vec()))
        })
    }
}

type Sending = std::pin::Pin<Box<dyn Future<Output = Result<HttpResponse, FetchError>> + Send>>;

/// What went wrong at the token endpoint, in the words of the provider as far as they are harmless.
fn failure(error: &RequestTokenError<FetchError, BasicErrorResponse>) -> Failure {
    let said = |answer: &BasicErrorResponse| {
        let why = answer.error_description().map(|text| clean(text)).unwrap_or_default();
        let code = clean(answer.error().as_ref());
        let text = format!("the provider said `{code}` {why}").trim().to_owned();
        let over = matches!(answer.error(), BasicErrorResponseType::InvalidGrant) || code == "bad_refresh_token";
        if over { Failure::LoginNeeded(text) } else { Failure::Other(text) }
    };
    match error {
        RequestTokenError::ServerResponse(answer) => said(answer),
        RequestTokenError::Request(error) => Failure::of(error),
        // Some say no with 200.
        RequestTokenError::Parse(_, body) => match serde_json::from_slice::<BasicErrorResponse>(body) {
            Ok(answer) => said(&answer),
            Err(_) => Failure::Other("the provider's answer holds no token".into()),
        },
        RequestTokenError::Other(_) => Failure::Other("the provider answered nothing that can be read".into()),
    }
}

fn clean(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(MAX_SAID).collect()
}
