//! The key set of an issuer, kept and renewed.
//!
//! A key that nobody knows is looked for at once, but not more often than every 30 seconds: whoever sends made-up names
//! of keys makes no work. While the issuer cannot be asked, what it said last counts, for a day.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use jsonwebtoken::Algorithm;
use serde::Deserialize;
use tokio::sync::Mutex;
use url::Url;

use super::TokenFault;
use super::keys::{KeySet, VerifyKey};
use crate::domain::clock::Clock;
use crate::fetch::{self, FetchError, Reach};

/// A set is asked for again after this long.
const FRESH: Duration = Duration::from_secs(600);
/// A set that could not be renewed for so long is worth nothing.
const STALE: Duration = Duration::from_secs(24 * 3600);
/// Between two requests for a set.
const PAUSE: Duration = Duration::from_secs(30);
/// Between two requests while there is none at all.
const FIRST_PAUSE: Duration = Duration::from_secs(3);
/// How long a token waits whose key is known, while the set is renewed on the way.
const PATIENCE: Duration = Duration::from_secs(3);

/// Where a set is.
#[derive(Debug, Clone)]
pub(super) enum Place {
    Set(Url),
    /// In the metadata of this issuer.
    Issuer(Arc<str>, Url),
}

#[derive(Debug)]
struct Kept {
    keys: KeySet,
    /// [`Clock::ticks`] when it was asked for.
    since: u64,
}

/// The keys of one issuer, wherever they are now.
#[derive(Debug)]
pub(super) struct Remote {
    place: Place,
    kept: ArcSwapOption<Kept>,
    /// When a set was asked for last, in ticks. Held while one is.
    asked: Mutex<Option<u64>>,
    clock: Arc<dyn Clock>,
}

impl Remote {
    pub(super) fn new(place: Place, clock: Arc<dyn Clock>) -> Self {
        Self { place, kept: ArcSwapOption::empty(), asked: Mutex::default(), clock }
    }

    /// The keys that a token may be checked with.
    ///
    /// # Errors
    /// Where there is none, or none could be got.
    pub(super) async fn find(&self, algorithm: Algorithm, kid: Option<&str>) -> Result<Vec<VerifyKey>, TokenFault> {
        let (known, age) = self.known(algorithm, kid);
        match age {
            Some(age) if !known.is_empty() && age < FRESH => return Ok(known),
            Some(age) if !known.is_empty() && age < STALE => {
                // Whoever renews it already does so for everybody.
                if let Ok(mut asked) = self.asked.try_lock()
                    && tokio::time::timeout(PATIENCE, self.renew(&mut asked)).await.is_err()
                {
                    tracing::warn!(place = %self.place, "an issuer's keys cannot be renewed in time");
                }
            }
            _ => self.renew(&mut *self.asked.lock().await).await,
        }
        match self.known(algorithm, kid) {
            (_, None) => Err(TokenFault::Unavailable),
            (_, Some(age)) if age >= STALE => Err(TokenFault::Unavailable),
            (known, _) if known.is_empty() => Err(TokenFault::UnknownKey),
            (known, _) => Ok(known),
        }
    }

    /// What is kept, and how old it is.
    fn known(&self, algorithm: Algorithm, kid: Option<&str>) -> (Vec<VerifyKey>, Option<Duration>) {
        let kept = self.kept.load();
        let Some(kept) = kept.as_ref() else { return (Vec::new(), None) };
        (kept.keys.fitting(algorithm, kid), Some(self.since(kept.since)))
    }

    fn since(&self, then: u64) -> Duration {
        Duration::from_micros(self.clock.ticks().saturating_sub(then))
    }

    /// Asks for the set, unless somebody just did.
    async fn renew(&self, asked: &mut Option<u64>) {
        let pause = if self.kept.load().is_some() { PAUSE } else { FIRST_PAUSE };
        if asked.is_some_and(|then| self.since(then) < pause) {
            return;
        }
        let since = self.clock.ticks();
        *asked = Some(since);
        match self.fetch().await {
            Ok(keys) => self.kept.store(Some(Arc::new(Kept { keys, since }))),
            Err(why) => tracing::warn!(place = %self.place, why, "an issuer's keys cannot be fetched"),
        }
    }

    async fn fetch(&self) -> Result<KeySet, String> {
        let (url, reach) = match &self.place {
            Place::Set(url) => (url.clone(), Reach::Configured),
            Place::Issuer(issuer, url) => (discover(issuer, url).await?, Reach::Discovered { from: url.clone() }),
        };
        let bytes = fetch::get(&url, &reach).await.map_err(|error| error.to_string())?;
        KeySet::read(&bytes).ok_or_else(|| format!("`{url}` is no key set"))
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Set(url) | Self::Issuer(_, url) => f.write_str(url.as_str()),
        }
    }
}

/// Where the metadata of an issuer says that its keys are (RFC 8414, OpenID Connect Discovery; MCP's order).
async fn discover(issuer: &str, url: &Url) -> Result<Url, String> {
    #[derive(Deserialize)]
    struct Metadata {
        issuer: String,
        jwks_uri: String,
    }
    let mut last = String::new();
    for place in places(url) {
        let bytes = match fetch::get(&place, &Reach::Configured).await {
            Ok(bytes) => bytes,
            // Only one that is not there leads to the next place.
            Err(error @ FetchError::Unreachable { .. }) => {
                last = error.to_string();
                continue;
            }
            Err(error) => return Err(error.to_string()),
        };
        let metadata: Metadata = serde_json::from_slice(&bytes).map_err(|error| format!("`{place}`: {error}"))?;
        if metadata.issuer != issuer {
            return Err(format!("`{place}` speaks for another issuer than `{issuer}`"));
        }
        return Url::parse(&metadata.jwks_uri).map_err(|_| format!("`{place}`: `jwks_uri` is no URL"));
    }
    Err(last)
}

/// The places of an issuer's metadata, in the order in which they are tried.
fn places(issuer: &Url) -> Vec<Url> {
    let path = issuer.path().trim_end_matches('/');
    let mut paths = vec![
        format!("/.well-known/oauth-authorization-server{path}"),
        format!("/.well-known/openid-configuration{path}"),
    ];
    if !path.is_empty() {
        paths.push(format!("{path}/.well-known/openid-configuration"));
    }
    let at = |path: String| {
        let mut url = issuer.clone();
        url.set_query(None);
        url.set_fragment(None);
        url.set_path(&path);
        url
    };
    paths.into_iter().map(at).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_is_looked_for_where_the_standards_put_it() {
        let of = |issuer: &str| places(&Url::parse(issuer).unwrap()).iter().map(Url::to_string).collect::<Vec<_>>();
        assert_eq!(
            of("https://id.example"),
            [
                "https://id.example/.well-known/oauth-authorization-server",
                "https://id.example/.well-known/openid-configuration"
            ]
        );
        assert_eq!(
            of("https://id.example/realms/a/"),
            [
                "https://id.example/.well-known/oauth-authorization-server/realms/a",
                "https://id.example/.well-known/openid-configuration/realms/a",
                "https://id.example/realms/a/.well-known/openid-configuration"
            ]
        );
    }
}
