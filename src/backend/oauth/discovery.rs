//! Where a provider is asked (OpenID Connect Discovery, RFC 8414).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use oauth2::AuthType;
use serde::Deserialize;
use url::Url;

use super::Failure;
use crate::config::providers::{ClientAuth, Endpoints, ProviderSettings};
use crate::domain::clock::Clock;
use crate::domain::strict;
use crate::fetch::{self, Reach};

/// Where the metadata of an issuer is: as OpenID Connect has it, and as RFC 8414.
const OPENID: &str = ".well-known/openid-configuration";
const OAUTH: &str = "/.well-known/oauth-authorization-server";

/// How long metadata is gone by before it is read anew.
const KEPT_MICROS: u64 = 300_000_000;
/// Issuers whose metadata is kept: those of the configuration, and of a few before.
const MAX_ISSUERS: usize = 128;

/// What issuers said of themselves last. Of one issuer one asks at a time, and who waits goes by what that one hears.
#[derive(Debug)]
pub(crate) struct Discovery {
    clock: Arc<dyn Clock>,
    issuers: Mutex<HashMap<Url, Arc<Place>>>,
}

/// Of one issuer; held while it is asked.
type Place = tokio::sync::Mutex<Option<Heard>>;

#[derive(Debug)]
struct Heard {
    /// In ticks.
    at: u64,
    said: Result<Arc<Metadata>, String>,
}

/// Where a provider is asked, and what it says of itself.
pub(super) struct Found {
    pub(super) authorize: Url,
    pub(super) token: Url,
    pub(super) revoke: Option<Url>,
    pub(super) auth: AuthType,
    pub(super) names_itself: bool,
}

/// The metadata of an issuer, as far as it matters here.
#[derive(Debug, Deserialize)]
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

impl Discovery {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, issuers: Mutex::default() }
    }

    /// Where a provider is asked: as configured, or as its metadata says.
    pub(super) async fn find(&self, provider: &ProviderSettings) -> Result<Found, Failure> {
        let issuer = match &provider.endpoints {
            Endpoints::Discovered { issuer } => issuer,
            Endpoints::Given { authorize, token, revoke } => {
                let auth = auth_type(provider.client_auth.unwrap_or(ClientAuth::Post));
                let (authorize, token, revoke) = (authorize.clone(), token.clone(), revoke.clone());
                return Ok(Found { authorize, token, revoke, auth, names_itself: false });
            }
        };
        let metadata = self.metadata(issuer).await?;
        if metadata.issuer.trim_end_matches('/') != issuer.as_str().trim_end_matches('/') {
            return Err(Failure::Other(format!("`{issuer}` names another issuer in its metadata")));
        }
        let lists =
            |list: &Option<Vec<String>>, word: &str| list.as_ref().is_some_and(|list| list.iter().any(|it| it == word));
        if metadata.code_challenge_methods_supported.is_some()
            && !lists(&metadata.code_challenge_methods_supported, "S256")
        {
            return Err(Failure::Other(format!("`{issuer}` does not offer PKCE with S256")));
        }
        // Where nothing is said, the header is what every server understands (OpenID Connect Discovery, section 3).
        let methods = &metadata.token_endpoint_auth_methods_supported;
        let post = lists(methods, "client_secret_post") && !lists(methods, "client_secret_basic");
        let found = if post { ClientAuth::Post } else { ClientAuth::Basic };
        Ok(Found {
            authorize: metadata.authorization_endpoint.clone(),
            token: metadata.token_endpoint.clone(),
            revoke: metadata.revocation_endpoint.clone(),
            auth: auth_type(provider.client_auth.unwrap_or(found)),
            names_itself: metadata.authorization_response_iss_parameter_supported,
        })
    }

    async fn metadata(&self, issuer: &Url) -> Result<Arc<Metadata>, Failure> {
        let asked = self.clock.ticks();
        let place = self.place(issuer);
        let mut heard = place.lock().await;
        match &*heard {
            Some(Heard { at, said: Ok(metadata) }) if asked.saturating_sub(*at) < KEPT_MICROS => {
                return Ok(Arc::clone(metadata));
            }
            // While this one waited.
            Some(Heard { at, said: Err(why) }) if *at > asked => return Err(Failure::Other(why.clone())),
            _ => {}
        }
        let said = metadata(issuer).await.map(Arc::new);
        let kept = said.as_ref().map(Arc::clone).map_err(|failure| failure.why().to_owned());
        *heard = Some(Heard { at: self.clock.ticks(), said: kept });
        said
    }

    fn place(&self, issuer: &Url) -> Arc<Place> {
        let mut issuers = self.issuers.lock().unwrap_or_else(PoisonError::into_inner);
        if issuers.len() >= MAX_ISSUERS && !issuers.contains_key(issuer) {
            // Whoever asks one of them holds its place.
            issuers.retain(|_, place| Arc::strong_count(place) > 1);
        }
        Arc::clone(issuers.entry(issuer.clone()).or_default())
    }
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures_util::future::join_all;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::domain::clock::ManualClock;

    /// An issuer that answers one request after the other, and counts them.
    async fn issuer(answers: bool) -> (Url, Arc<AtomicUsize>, tokio_util::task::AbortOnDropHandle<()>) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = Url::parse(&format!("http://{}/", listener.local_addr().unwrap())).unwrap();
        let (count, named) = (Arc::new(AtomicUsize::new(0)), url.clone());
        let counted = Arc::clone(&count);
        let serving = async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = [0; 2048];
                let _read = stream.read(&mut request).await.unwrap();
                counted.fetch_add(1, Ordering::SeqCst);
                let body = serde_json::json!({
                    "issuer": named, "authorization_endpoint": format!("{named}a"), "token_endpoint": format!("{named}t"),
                });
                let (status, body) = if answers { ("200 OK", body.to_string()) } else { ("404 Not Found", "".into()) };
                let head = format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", body.len());
                stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
            }
        };
        let tracker = tokio_util::task::TaskTracker::new();
        (url, count, tokio_util::task::AbortOnDropHandle::new(tracker.spawn(serving)))
    }

    #[tokio::test]
    async fn metadata_is_kept_for_five_minutes_and_read_by_one_at_a_time() {
        let clock = ManualClock::default();
        let discovery = Discovery::new(Arc::new(clock.clone()));
        let (url, count, _serving) = issuer(true).await;
        let found = join_all((0..20).map(|_| discovery.metadata(&url))).await;
        assert!(found.iter().all(Result::is_ok));
        assert_eq!(count.load(Ordering::SeqCst), 1, "one for all of them");
        clock.advance(299_999);
        discovery.metadata(&url).await.unwrap();
        assert_eq!(count.load(Ordering::SeqCst), 1);
        clock.advance(1);
        discovery.metadata(&url).await.unwrap();
        assert_eq!(count.load(Ordering::SeqCst), 2);
    }

    #[tokio::test]
    async fn what_failed_is_asked_again_but_not_by_those_who_waited() {
        let discovery = Discovery::new(Arc::new(crate::domain::clock::SystemClock));
        let (url, count, _serving) = issuer(false).await;
        let found = join_all((0..20).map(|_| discovery.metadata(&url))).await;
        assert!(found.iter().all(Result::is_err));
        assert_eq!(count.load(Ordering::SeqCst), 2, "each of the two places once");
        discovery.metadata(&url).await.unwrap_err();
        assert_eq!(count.load(Ordering::SeqCst), 4);
    }
}
