//! The gateway's own tokens for backends that ask for OAuth: got by a login or by the client's own credentials, sealed at
//! rest, renewed before they end. What a caller brings never becomes one.

mod client;

use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwapOption;
use http::HeaderValue;
use tokio_util::task::TaskTracker;
use url::Url;
use zeroize::Zeroizing;

use self::client::{Credentials, Failure, Granted, Pending};
use super::fault::{Fault, FaultKind};
use crate::config::tokens::{BackendOauth, Grant};
use crate::domain::clock::{Clock, Moment};
use crate::domain::id::ServerName;
use crate::store::Store;

/// The kind of the sealed documents.
const KIND: &str = "backend_oauth";
/// A token is renewed when it has less than this to live.
const EARLY_MS: i64 = 30_000;
/// Between two requests for a token: one that is refused at once is not asked for without end.
const PAUSE_MICROS: u64 = 10_000_000;
/// A login that nobody finished.
const LOGIN_MICROS: u64 = 600_000_000;

/// The credentials of the gateway at one backend.
#[derive(Debug)]
pub(crate) struct Authorization {
    server: ServerName,
    url: Url,
    settings: Arc<BackendOauth>,
    store: Store,
    clock: Arc<dyn Clock>,
    tracker: TaskTracker,
    current: ArcSwapOption<Ready>,
    /// The header that the backend refused last.
    refused: Mutex<Option<HeaderValue>>,
    work: tokio::sync::Mutex<Work>,
}

/// A token as it is sent.
#[derive(Debug)]
struct Ready {
    header: HeaderValue,
    expires: Option<Moment>,
}

/// What only one may do at a time.
#[derive(Debug, Default)]
struct Work {
    credentials: Option<Credentials>,
    /// Whether the store has been asked for them.
    loaded: bool,
    /// When a token was asked for last, in ticks.
    asked: Option<u64>,
    pending: Option<Pending>,
}

impl Authorization {
    pub(crate) fn new(
        server: ServerName,
        url: Url,
        settings: Arc<BackendOauth>,
        store: Store,
        clock: Arc<dyn Clock>,
        tracker: TaskTracker,
    ) -> Self {
        let (current, refused, work) = Default::default();
        Self { server, url, settings, store, clock, tracker, current, refused, work }
    }

    /// `Authorization` for the next request; waits where a token has to be got first.
    pub(crate) async fn header(self: &Arc<Self>) -> Result<HeaderValue, Fault> {
        if let Some(header) = self.fresh() {
            return Ok(header);
        }
        // A refresh token may be good for once: whoever stops waiting must not lose what comes for it.
        let this = Arc::clone(self);
        let got = self.tracker.spawn(async move { this.get().await }).await;
        got.unwrap_or_else(|_| Err(Fault::new(FaultKind::Rejected, "no token: an internal error")))
    }

    /// Whether there is a token; where it has ended, it is renewed with the next call.
    pub(crate) fn has_token(&self) -> bool {
        self.current.load().is_some()
    }

    /// The backend does not take this header (401): the next one is another.
    pub(crate) fn refuse(&self, header: &HeaderValue) {
        if self.current.load().as_ref().is_some_and(|ready| ready.header == *header) {
            self.current.store(None);
            *self.refused.lock().unwrap_or_else(PoisonError::into_inner) = Some(header.clone());
        }
    }

    fn fresh(&self) -> Option<HeaderValue> {
        let ready = self.current.load();
        let ready = ready.as_ref()?;
        ready.expires.is_none_or(|end| end.0 - EARLY_MS > self.clock.now().0).then(|| ready.header.clone())
    }

    async fn get(&self) -> Result<HeaderValue, Fault> {
        let mut work = self.work.lock().await;
        if let Some(header) = self.fresh() {
            return Ok(header);
        }
        self.load(&mut work).await?;
        let now = self.clock.ticks();
        let kept = work.credentials.as_ref().and_then(Credentials::granted);
        let still_good = kept.and_then(|granted| self.ready(&granted)).filter(|ready| !self.is_refused(&ready.header));
        let alive = |early: i64| {
            let now = self.clock.now().0;
            still_good.as_ref().filter(|ready| ready.expires.is_none_or(|end| end.0 - early > now))
        };
        if let Some(ready) = alive(EARLY_MS) {
            return Ok(self.take(ready.header.clone(), ready.expires));
        }
        let resting = work.asked.is_some_and(|then| now.saturating_sub(then) < PAUSE_MICROS);
        if !resting {
            work.asked = Some(now);
            match self.ask(&mut work).await {
                Ok(granted) => {
                    let ready = self.ready(&granted).ok_or_else(|| rejected("the token cannot stand in a header"))?;
                    return Ok(self.take(ready.header, ready.expires));
                }
                Err(Failure::LoginNeeded(why)) => return Err(self.login_needed(&why)),
                Err(Failure::Other(why)) => {
                    tracing::warn!(server = %self.server, why, "no token for a backend");
                    if alive(0).is_none() {
                        return Err(rejected(&format!("no token: {why}")));
                    }
                }
            }
        }
        match alive(0) {
            Some(ready) => Ok(ready.header.clone()),
            None => Err(rejected("the server refuses a token that is new, or none could be got a moment ago")),
        }
    }

    /// Asks the authorization server for a token.
    async fn ask(&self, work: &mut Work) -> Result<Granted, Failure> {
        if self.settings.grant == Grant::ClientCredentials {
            return client::of_client(&self.url, &self.settings, self.clock.now()).await;
        }
        let Some(old) = &work.credentials else {
            return Err(Failure::LoginNeeded("nobody has logged in".into()));
        };
        let renewed = client::refresh(old, &self.url, &self.settings).await?;
        let granted = renewed.granted().ok_or_else(|| Failure::Other("the answer holds no token".into()))?;
        self.keep(work, renewed).await.map_err(Failure::Other)?;
        Ok(granted)
    }

    /// Takes credentials, sealed.
    async fn keep(&self, work: &mut Work, credentials: Credentials) -> Result<(), String> {
        let text = serde_json::to_vec(&credentials).map(Zeroizing::new).map_err(|error| error.to_string())?;
        work.credentials = Some(credentials);
        let put = self.store.put_sealed(KIND, self.server.as_str(), &text).await;
        put.map_err(|error| format!("the credentials cannot be kept: {error}"))
    }

    /// Reads what an earlier login left.
    async fn load(&self, work: &mut Work) -> Result<(), Fault> {
        if std::mem::replace(&mut work.loaded, true) || self.settings.grant == Grant::ClientCredentials {
            return Ok(());
        }
        let found = self.store.fetch_sealed(KIND, self.server.as_str()).await;
        let found = found.map_err(|error| rejected(&format!("the credentials cannot be read: {error}")))?;
        let credentials = found.and_then(|text| serde_json::from_slice::<Credentials>(&text).ok());
        work.credentials = credentials.filter(|kept| kept.fit(&self.url, &self.settings));
        Ok(())
    }

    fn ready(&self, granted: &Granted) -> Option<Ready> {
        let mut header = HeaderValue::from_str(&format!("Bearer {}", granted.token.expose())).ok()?;
        header.set_sensitive(true);
        Some(Ready { header, expires: granted.expires })
    }

    fn take(&self, header: HeaderValue, expires: Option<Moment>) -> HeaderValue {
        self.current.store(Some(Arc::new(Ready { header: header.clone(), expires })));
        header
    }

    fn is_refused(&self, header: &HeaderValue) -> bool {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner).as_ref() == Some(header)
    }

    fn login_needed(&self, why: &str) -> Fault {
        rejected(&format!("{why}: run `toolgate servers login {}`", self.server))
    }

    /// Begins a login; gives the page to which a person goes.
    ///
    /// # Errors
    /// A sentence for the operator.
    pub(crate) async fn begin(&self, redirect: &str) -> Result<String, String> {
        if self.settings.grant == Grant::ClientCredentials {
            return Err(format!("`{}` uses the client's own credentials: nobody logs in", self.server));
        }
        let pending = client::begin(&self.url, &self.settings, redirect, self.clock.ticks()).await.map_err(told)?;
        let page = pending.page.to_string();
        self.work.lock().await.pending = Some(pending);
        Ok(page)
    }

    /// Ends the login that was begun last.
    ///
    /// # Errors
    /// A sentence for the operator.
    pub(crate) async fn finish(&self, callback: &str) -> Result<(), String> {
        let mut work = self.work.lock().await;
        let young = |pending: &Pending| self.clock.ticks().saturating_sub(pending.since) < LOGIN_MICROS;
        let pending = work.pending.take_if(|_| true).filter(young);
        let pending = pending.ok_or("no login has been begun, or it took too long: begin anew")?;
        let finished = client::finish(&pending, &self.url, &self.settings, callback).await;
        let credentials = match finished {
            Ok(credentials) => credentials,
            Err(failure) => {
                // A wrong callback, from whoever, does not spoil the right one.
                work.pending = Some(pending);
                return Err(told(failure));
            }
        };
        work.loaded = true;
        work.asked = None;
        self.current.store(None);
        self.keep(&mut work, credentials).await
    }

    /// Forgets everything. True where there was something.
    ///
    /// # Errors
    /// A sentence for the operator.
    pub(crate) async fn forget(&self) -> Result<bool, String> {
        let mut work = self.work.lock().await;
        let taken = self.store.take(KIND, self.server.as_str()).await.map_err(|error| error.to_string())?;
        *work = Work { loaded: true, ..Work::default() };
        self.current.store(None);
        Ok(taken.is_some())
    }
}

fn rejected(detail: &str) -> Fault {
    Fault::new(FaultKind::Rejected, detail)
}

fn told(failure: Failure) -> String {
    match failure {
        Failure::LoginNeeded(why) | Failure::Other(why) => why,
    }
}
