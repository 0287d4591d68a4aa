//! Where a provider is asked (OpenID Connect Discovery, RFC 8414).

use oauth2::AuthType;
use serde::Deserialize;
use url::Url;

use super::Failure;
use crate::config::providers::{ClientAuth, Endpoints, ProviderSettings};
use crate::domain::strict;
use crate::fetch::{self, Reach};

/// Where the metadata of an issuer is: as OpenID Connect has it, and as RFC 8414.
const OPENID: &str = ".well-known/openid-configuration";
const OAUTH: &str = "/.well-known/oauth-authorization-server";

/// Where a provider is asked, and what it says of itself.
pub(super) struct Found {
    pub(super) authorize: Url,
    pub(super) token: Url,
    pub(super) revoke: Option<Url>,
    pub(super) auth: AuthType,
    pub(super) names_itself: bool,
}

/// The metadata of an issuer, as far as it matters here.
#[derive(Deserialize)]
struct Metadata {
    issuer: String,
    authorization_endpoint: Url,
    token_endpoint: Url,
    revocation_endpoint: Option<Url>,
    code_challenge_methods_supported: Option<Vec<String>>,
    token_endpoint_auth_methods_supported: Option<Vec<String>>,
    #[serde(default)]
    authorization_response_iss_parameter_supported: bool,
}

/// Where a provider is asked: as configured, or as its metadata says.
pub(super) async fn find(provider: &ProviderSettings) -> Result<Found, Failure> {
    let issuer = match &provider.endpoints {
        Endpoints::Discovered { issuer } => issuer,
        Endpoints::Given { authorize, token, revoke } => {
            let auth = auth_type(provider.client_auth.unwrap_or(ClientAuth::Post));
            let (authorize, token, revoke) = (authorize.clone(), token.clone(), revoke.clone());
            return Ok(Found { authorize, token, revoke, auth, names_itself: false });
        }
    };
    let metadata = metadata(issuer).await?;
    if metadata.issuer.trim_end_matches('/') != issuer.as_str().trim_end_matches('/') {
        return Err(Failure::Other(format!("`{issuer}` names another issuer in its metadata")));
    }
    let lists =
        |list: &Option<Vec<String>>, word: &str| list.as_ref().is_some_and(|list| list.iter().any(|it| it == word));
    if metadata.code_challenge_methods_supported.is_some() && !lists(&metadata.code_challenge_methods_supported, "S256")
    {
        return Err(Failure::Other(format!("`{issuer}` does not offer PKCE with S256")));
    }
    // Where nothing is said, the header is what every server understands (OpenID Connect Discovery, section 3).
    let methods = &metadata.token_endpoint_auth_methods_supported;
    let post = lists(methods, "client_secret_post") && !lists(methods, "client_secret_basic");
    let found = if post { ClientAuth::Post } else { ClientAuth::Basic };
    Ok(Found {
        authorize: metadata.authorization_endpoint,
        token: metadata.token_endpoint,
        revoke: metadata.revocation_endpoint,
        auth: auth_type(provider.client_auth.unwrap_or(found)),
        names_itself: metadata.authorization_response_iss_parameter_supported,
    })
}

async fn metadata(issuer: &Url) -> Result<Metadata, Failure> {
    let base = issuer.as_str().trim_end_matches('/');
    let openid = Url::parse(&format!("{base}/{OPENID}"));
    let mut oauth = issuer.clone();
    oauth.set_path(&format!("{OAUTH}{}", issuer.path().trim_end_matches('/')));
    let mut why = String::new();
    for url in openid.into_iter().chain([oauth]) {
        match fetch::get(&url, &Reach::Configured).await {
            Ok(bytes) => {
                let text = String::from_utf8_lossy(&bytes);
                strict::check(&text).map_err(|unfit| Failure::of(&unfit))?;
                return serde_json::from_str(&text).map_err(|_| Failure::Other(format!("`{url}` is no metadata")));
            }
            Err(error) => why = error.to_string(),
        }
    }
    Err(Failure::Other(why))
}

const fn auth_type(auth: ClientAuth) -> AuthType {
    match auth {
        ClientAuth::Post => AuthType::RequestBody,
        ClientAuth::Basic => AuthType::BasicAuth,
    }
}
