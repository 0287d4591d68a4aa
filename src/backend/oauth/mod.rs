//! The tokens with which backends are asked: the gateway's own, got by a login or by the client's own credentials, and those
//! of accounts that users have connected. Sealed at rest, renewed before they end. What a caller brings never becomes one.

mod account;
mod accounts;
mod client;
mod discovery;
mod login;

use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwapOption;
use http::HeaderValue;
use tokio_util::task::TaskTracker;
use url::Url;
use zeroize::Zeroizing;

pub(crate) use self::account::Connection;
pub use self::account::Returned;
pub(crate) use self::accounts::Accounts;
pub use self::accounts::{AccountError, AccountView, Claimed, Standing, id as account_id};
use self::client::{Credentials, Pending};
use self::discovery::Discovery;
use super::fault::{Fault, FaultKind};
use crate::config::providers::ProviderSettings;
use crate::config::tokens::{BackendOauth, Grant};
use crate::domain::clock::{Clock, Moment};
use crate::domain::id::ServerName;
use crate::domain::secret::Secret;
use crate::store::Store;

/// The kinds of the sealed documents.
const SERVER_KIND: &str = "backend_oauth";
const ACCOUNT_KIND: &str = "account";
pub(crate) const SEALED_KINDS: [&str; 2] = [SERVER_KIND, ACCOUNT_KIND];
/// A token is renewed when it has less than this to live.
const EARLY_MS: i64 = 30_000;
/// Between two requests for a token: one that is refused at once is not asked for without end.
const PAUSE_MICROS: u64 = 10_000_000;

/// Credentials with which a backend is asked.
#[derive(Debug)]
pub(crate) struct Authorization {
    subject: Subject,
    store: Store,
    clock: Arc<dyn Clock>,
    tracker: TaskTracker,
    current: ArcSwapOption<Ready>,
    /// The header that a backend refused last.
    refused: Mutex<Option<HeaderValue>>,
    work: tokio::sync::Mutex<Work>,
}

/// Whose they are.
#[derive(Debug)]
pub(crate) enum Subject {
    /// The gateway's own at a server.
    Server { name: ServerName, url: Url, settings: Arc<BackendOauth> },
    /// Those of a user's account with a provider.
    Account { id: String, user: Arc<str>, provider: Arc<ProviderSettings>, discovery: Arc<Discovery> },
}

/// A token as it is sent.
#[derive(Debug)]
struct Ready {
    header: HeaderValue,
    expires: Option<Moment>,
}

/// An access token and its end.
#[derive(Debug, Clone)]
struct Granted {
    token: Secret,
    expires: Option<Moment>,
}

/// What is kept, sealed.
#[derive(Debug)]
enum Kept {
    Server(Credentials),
    Account(Connection),
}

/// What only one may do at a time.
#[derive(Debug, Default)]
struct Work {
    kept: Option<Kept>,
    /// Whether the store has been asked for it.
    loaded: bool,
    /// When a token was asked for last, in ticks, and when one was got.
    asked: Option<u64>,
    renewed: Option<u64>,
    /// When somebody last had it renewed before its time.
    by_hand: Option<u64>,
    pending: Option<Pending>,
}

/// Why there is no token. The text is for operators, and for the user whose account it is.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Somebody has to log in.
    LoginNeeded(String),
    /// It may work later.
    Other(String),
}

impl Failure {
    fn of(error: &impl ToString) -> Self {
        Self::Other(error.to_string())
    }

    fn why(&self) -> &str {
        match self {
            Self::LoginNeeded(why) | Self::Other(why) => why,
        }
    }
}

impl Kept {
    fn granted(&self) -> Option<Granted> {
        match self {
            Self::Server(credentials) => credentials.granted(),
            Self::Account(connection) => connection.granted(),
        }
    }

    fn text(&self) -> serde_json::Result<Zeroizing<Vec<u8>>> {
        match self {
            Self::Server(credentials) => serde_json::to_vec(credentials),
            Self::Account(connection) => serde_json::to_vec(connection),
        }
        .map(Zeroizing::new)
    }
}

impl Work {
    fn connection(&self) -> Option<&Connection> {
        match &self.kept {
            Some(Kept::Account(connection)) => Some(connection),
            _ => None,
        }
    }
}

impl Authorization {
    pub(crate) fn new(subject: Subject, store: Store, clock: Arc<dyn Clock>, tracker: TaskTracker) -> Self {
        let (current, refused, work) = Default::default();
        Self { subject, store, clock, tracker, current, refused, work }
    }

    /// Whether these are a user's with this very provider.
    fn is_with(&self, other: &ProviderSettings) -> bool {
        matches!(&self.subject, Subject::Account { provider, .. } if **provider == *other)
    }

    /// Where it is kept.
    fn place(&self) -> (&'static str, &str) {
        match &self.subject {
            Subject::Server { name, .. } => (SERVER_KIND, name.as_str()),
            Subject::Account { id, .. } => (ACCOUNT_KIND, id),
        }
    }

    /// `Authorization` for the next request; waits where a token has to be got first.
    pub(crate) async fn header(self: &Arc<Self>) -> Result<HeaderValue, Fault> {
        self.got().await.map_err(|failure| match (failure, &self.subject) {
            (Failure::LoginNeeded(why), Subject::Server { name, .. }) => {
                rejected(&format!("{why}: run `toolgate servers login {name}`"))
            }
            (Failure::LoginNeeded(why), Subject::Account { user, provider, .. }) => rejected(&format!(
                "the account of `{user}` with `{slug}`: {why}: `POST /v1/providers/{slug}/connect` connects it",
                slug = provider.slug
            )),
            (Failure::Other(why), _) => rejected(&format!("no token: {why}")),
        })
    }

    /// The same, with a reason that a caller can act on.
    pub(crate) async fn got(self: &Arc<Self>) -> Result<HeaderValue, Failure> {
        if let Some(header) = self.fresh() {
            return Ok(header);
        }
        // A refresh token may be good for once: whoever stops waiting must not lose what comes for it.
        let this = Arc::clone(self);
        let got = self.tracker.spawn(async move { this.get().await }).await;
        got.unwrap_or_else(|_| Err(Failure::Other("an internal error".into())))
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

    async fn get(&self) -> Result<HeaderValue, Failure> {
        let mut work = self.work.lock().await;
        if let Some(header) = self.fresh() {
            return Ok(header);
        }
        self.load(&mut work).await.map_err(Failure::Other)?;
        let now = self.clock.ticks();
        let kept = work.kept.as_ref().and_then(Kept::granted).and_then(|granted| ready(&granted));
        let alive = |early: i64, refused: bool| {
            let now = self.clock.now().0;
            let in_time = |ready: &&Ready| ready.expires.is_none_or(|end| end.0 - early > now);
            kept.as_ref().filter(in_time).filter(|ready| refused || !self.is_refused(&ready.header))
        };
        if let Some(ready) = alive(EARLY_MS, false) {
            return Ok(self.take(ready.header.clone(), ready.expires));
        }
        // What one server refuses, another may take: of an account that cannot be renewed now, the token that there is.
        let last = || alive(0, matches!(self.subject, Subject::Account { .. })).map(|ready| ready.header.clone());
        if let Subject::Account { .. } = &self.subject
            && !work.connection().is_some_and(Connection::renews)
        {
            let why =
                if work.connection().is_some() { "it has ended, and cannot be renewed" } else { "none is connected" };
            return last().ok_or_else(|| Failure::LoginNeeded(why.into()));
        }
        if work.asked.is_none_or(|then| now.saturating_sub(then) >= PAUSE_MICROS) {
            match self.ask_and_take(&mut work).await {
                Ok(header) => return Ok(header),
                Err(failure @ Failure::LoginNeeded(_)) => return Err(failure),
                Err(Failure::Other(why)) => {
                    let (_, of) = self.place();
                    tracing::warn!(of, why, "no token for a backend");
                    return last().ok_or(Failure::Other(why));
                }
            }
        }
        let why = "the server refuses a token that is new, or none could be got a moment ago";
        last().ok_or_else(|| Failure::Other(why.into()))
    }

    /// Asks for a token, and takes it.
    async fn ask_and_take(&self, work: &mut Work) -> Result<HeaderValue, Failure> {
        work.asked = Some(self.clock.ticks());
        let granted = self.ask(work).await?;
        let ready = ready(&granted).ok_or_else(|| Failure::Other("the token cannot stand in a header".into()))?;
        work.renewed = Some(self.clock.ticks());
        Ok(self.take(ready.header, ready.expires))
    }

    /// Asks the authorization server for a token.
    async fn ask(&self, work: &mut Work) -> Result<Granted, Failure> {
        let renewed = match (&self.subject, &mut work.kept) {
            (Subject::Server { url, settings, .. }, _) if settings.grant == Grant::ClientCredentials => {
                return client::of_client(url, settings, self.clock.now()).await;
            }
            (Subject::Server { url, settings, .. }, Some(Kept::Server(old))) => {
                Kept::Server(client::refresh(old, url, settings).await?)
            }
            (Subject::Account { provider, discovery, .. }, Some(Kept::Account(old))) => {
                match account::refresh(old, provider, discovery, self.clock.now()).await {
                    Ok(connection) => Kept::Account(connection),
                    Err(failure) => {
                        if let Failure::LoginNeeded(_) = &failure {
                            self.end(work).await;
                        }
                        return Err(failure);
                    }
                }
            }
            _ => return Err(Failure::LoginNeeded("nobody has logged in".into())),
        };
        let granted = renewed.granted().ok_or_else(|| Failure::Other("the answer holds no token".into()))?;
        self.keep(work, renewed).await.map_err(Failure::Other)?;
        Ok(granted)
    }

    /// Notes that an account is of no use any more, so that its provider is not asked again.
    async fn end(&self, work: &mut Work) {
        let Some(Kept::Account(mut connection)) = work.kept.take() else { return };
        connection.ended |= connection.renews();
        self.current.store(None);
        if let Err(error) = self.keep(work, Kept::Account(connection)).await {
            tracing::warn!(error, "an account that has ended is still stored as if it had not");
        }
    }

    /// Takes what is to be kept, sealed.
    async fn keep(&self, work: &mut Work, kept: Kept) -> Result<(), String> {
        let text = kept.text().map_err(|error| error.to_string())?;
        work.kept = Some(kept);
        let (kind, name) = self.place();
        let put = self.store.put_sealed(kind, name, &text).await;
        put.map_err(|error| format!("the credentials cannot be kept: {error}"))
    }

    /// The same, for what comes of a login.
    async fn take_anew(&self, kept: Kept) -> Result<(), String> {
        let mut work = self.work.lock().await;
        *work = Work { loaded: true, ..Work::default() };
        self.current.store(None);
        self.keep(&mut work, kept).await
    }

    /// Reads what was kept, once.
    async fn load(&self, work: &mut Work) -> Result<(), String> {
        let of_client = |settings: &BackendOauth| settings.grant == Grant::ClientCredentials;
        if work.loaded || matches!(&self.subject, Subject::Server { settings, .. } if of_client(settings)) {
            return Ok(());
        }
        let (kind, name) = self.place();
        let found = self.store.fetch_sealed(kind, name).await;
        let found = found.map_err(|error| format!("the credentials cannot be read: {error}"))?;
        work.loaded = true;
        let Some(text) = found else { return Ok(()) };
        work.kept = match &self.subject {
            Subject::Server { url, settings, .. } => serde_json::from_slice::<Credentials>(&text)
                .ok()
                .filter(|kept| kept.fit(url, settings))
                .map(Kept::Server),
            Subject::Account { user, provider, .. } => serde_json::from_slice::<Connection>(&text)
                .ok()
                .filter(|kept| kept.fits(provider, user))
                .map(Kept::Account),
        };
        Ok(())
    }

    fn take(&self, header: HeaderValue, expires: Option<Moment>) -> HeaderValue {
        self.current.store(Some(Arc::new(Ready { header: header.clone(), expires })));
        header
    }

    fn is_refused(&self, header: &HeaderValue) -> bool {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner).as_ref() == Some(header)
    }

    /// Forgets everything; gives what was kept. True where the store held something.
    async fn clear(&self, work: &mut Work) -> Result<(Option<Kept>, bool), String> {
        let (kind, name) = self.place();
        let taken = self.store.take(kind, name).await.map_err(|error| error.to_string())?;
        self.current.store(None);
        let was = std::mem::replace(work, Work { loaded: true, ..Work::default() });
        Ok((was.kept, taken.is_some()))
    }
}

fn ready(granted: &Granted) -> Option<Ready> {
    let mut header = HeaderValue::from_str(&format!("Bearer {}", granted.token.expose())).ok()?;
    header.set_sensitive(true);
    Some(Ready { header, expires: granted.expires })
}

fn rejected(detail: &str) -> Fault {
    Fault::new(FaultKind::Rejected, detail)
}
