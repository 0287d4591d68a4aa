//! The accounts that users have connected with providers, and those that are just being connected.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::task::TaskTracker;

use super::account::{self, Begun, Connection, Returned};
use super::discovery::Discovery;
use super::{Authorization, Failure, Kept, PAUSE_MICROS, Subject};
use crate::config::providers::ProviderSettings;
use crate::domain::clock::{Clock, Moment};
use crate::domain::crowd::Crowd;
use crate::domain::json::sha256_hex;
use crate::domain::principal::Principal;
use crate::store::Store;

/// Accounts in memory at most; those that nobody uses make room, and are read again when they are wanted.
const MAX_HELD: usize = 4096;
/// Connections that are being made: of all users, and of one.
const MAX_BEGUN: usize = 4096;
const MAX_BEGUN_OF_USER: usize = 8;
/// Of one user, those for which the provider is being asked where to go.
const MAX_BEGINNING: usize = 1;
/// A connection that nobody finished.
const BEGUN_MICROS: u64 = 600_000_000;

/// Whose account with which provider.
type Whose = (Arc<str>, Arc<str>);

/// All accounts.
#[derive(Debug)]
pub(crate) struct Accounts {
    held: Mutex<HashMap<Whose, Arc<Authorization>>>,
    begun: Mutex<HashMap<String, Waiting>>,
    beginning: Crowd<Arc<str>>,
    discovery: Arc<Discovery>,
    store: Store,
    clock: Arc<dyn Clock>,
    tracker: TaskTracker,
}

#[derive(Debug)]
struct Waiting {
    begun: Begun,
    principal: Principal,
    since: u64,
}

/// A connection whose user has come back: taken out, so that nobody else ends it.
#[derive(Debug)]
pub struct Claimed {
    begun: Begun,
    /// Who began it.
    pub principal: Principal,
}

impl Claimed {
    /// The provider as it was when the connection was begun.
    #[must_use]
    pub fn provider(&self) -> &Arc<ProviderSettings> {
        &self.begun.provider
    }
}

/// How an account stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    Connected,
    /// The provider takes what the gateway has no more: the user has to connect anew.
    Expired,
    Disconnected,
}

impl Standing {
    /// As answers name it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Connected => "connected",
            Self::Expired => "expired",
            Self::Disconnected => "disconnected",
        }
    }
}

/// An account as its user sees it: nothing of it is secret.
#[derive(Debug, Clone)]
pub struct AccountView {
    pub id: String,
    pub standing: Standing,
    pub scopes: Vec<String>,
    pub connected: Option<Moment>,
    pub refreshed: Option<Moment>,
    pub expires: Option<Moment>,
    /// Whether the gateway can renew it by itself.
    pub renews: bool,
}

/// Why nothing came of a request about an account.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AccountError {
    #[error("no account is connected")]
    NotConnected,
    /// The user has to connect anew.
    #[error("{0}")]
    LoginNeeded(String),
    /// It may work later.
    #[error("{0}")]
    Failed(String),
    #[error("too many connections are being made: finish one of them, or wait ten minutes")]
    TooMany,
    #[error("the provider is being asked for another connection of yours: wait for that")]
    Beginning,
}

impl Accounts {
    pub(crate) fn new(store: Store, clock: Arc<dyn Clock>, tracker: TaskTracker) -> Self {
        let discovery = Arc::new(Discovery::new(Arc::clone(&clock)));
        let (held, begun, beginning) = (Mutex::default(), Mutex::default(), Crowd::default());
        Self { held, begun, beginning, discovery, store, clock, tracker }
    }

    fn held(&self) -> MutexGuard<'_, HashMap<Whose, Arc<Authorization>>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begun(&self) -> MutexGuard<'_, HashMap<String, Waiting>> {
        self.begun.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The credentials of a user with a provider, connected or not.
    pub(crate) fn of(&self, user: &Arc<str>, provider: &Arc<ProviderSettings>) -> Arc<Authorization> {
        let mut held = self.held();
        let whose = (Arc::clone(user), Arc::clone(&provider.slug));
        if let Some(known) = held.get(&whose).filter(|known| known.is_with(provider)) {
            return Arc::clone(known);
        }
        if held.len() >= MAX_HELD {
            // Whoever else holds one may be renewing it: two must not.
            held.retain(|_, one| Arc::strong_count(one) > 1);
        }
        let (user, provider) = (Arc::clone(user), Arc::clone(provider));
        let discovery = Arc::clone(&self.discovery);
        let subject = Subject::Account { id: id(&user, &provider.slug), user, provider, discovery };
        let one =
            Arc::new(Authorization::new(subject, self.store.clone(), Arc::clone(&self.clock), self.tracker.clone()));
        held.insert(whose, Arc::clone(&one));
        one
    }

    /// Begins a connection; gives the page to which the user goes. The provider sends the user back to `redirect`.
    pub(crate) async fn begin(
        &self,
        principal: &Principal,
        provider: &Arc<ProviderSettings>,
        redirect: &str,
    ) -> Result<String, AccountError> {
        let _seat = self.beginning.seat(Arc::clone(&principal.user), MAX_BEGINNING).ok_or(AccountError::Beginning)?;
        self.make_room(&principal.user)?;
        let begun = account::begin(Arc::clone(provider), redirect, &self.discovery).await?;
        let page = begun.page.to_string();
        // Others may have begun meanwhile.
        self.make_room(&principal.user)?;
        let waiting = Waiting { principal: principal.clone(), since: self.clock.ticks(), begun };
        self.begun().insert(waiting.begun.state.clone(), waiting);
        Ok(page)
    }

    /// Forgets what took too long, and the oldest of a user with too many.
    fn make_room(&self, user: &str) -> Result<(), AccountError> {
        let now = self.clock.ticks();
        let mut begun = self.begun();
        begun.retain(|_, waiting| now.saturating_sub(waiting.since) < BEGUN_MICROS);
        let own = begun.iter().filter(|(_, waiting)| *waiting.principal.user == *user);
        let oldest = own.clone().min_by_key(|(_, waiting)| waiting.since).map(|(state, _)| state.clone());
        if let Some(oldest) = oldest.filter(|_| own.count() >= MAX_BEGUN_OF_USER) {
            begun.remove(&oldest);
        }
        if begun.len() < MAX_BEGUN { Ok(()) } else { Err(AccountError::TooMany) }
    }

    /// The provider of the connection that this state would end, and the user who began it.
    pub(crate) fn waits(&self, provider: &str, state: &str) -> Option<(Arc<ProviderSettings>, Arc<str>)> {
        let now = self.clock.ticks();
        let begun = self.begun();
        let waiting = begun.get(state).filter(|waiting| now.saturating_sub(waiting.since) < BEGUN_MICROS)?;
        let fits = *waiting.begun.provider.slug == *provider;
        fits.then(|| (Arc::clone(&waiting.begun.provider), Arc::clone(&waiting.principal.user)))
    }

    /// The connection that this state ends, taken out: a state is good for once.
    pub(crate) fn claim(&self, provider: &str, state: &str) -> Option<Claimed> {
        let now = self.clock.ticks();
        let waiting = self.begun().remove(state)?;
        let fits = *waiting.begun.provider.slug == *provider && now.saturating_sub(waiting.since) < BEGUN_MICROS;
        fits.then_some(Claimed { begun: waiting.begun, principal: waiting.principal })
    }

    /// Ends a connection with what the user was sent back with.
    pub(crate) async fn finish(&self, claimed: Claimed, returned: Returned) -> Result<(), AccountError> {
        let Claimed { begun, principal } = claimed;
        let one = self.of(&principal.user, &begun.provider);
        let (user, clock, discovery) =
            (Arc::clone(&principal.user), Arc::clone(&self.clock), Arc::clone(&self.discovery));
        // A code is good for once: whoever stops waiting must not lose what comes for it.
        let finishing = self.tracker.spawn(async move {
            let connection = account::finish(begun, returned, &user, &discovery, clock.now()).await?;
            one.connect(connection).await.map_err(Failure::Other)
        });
        let finished = finishing.await.unwrap_or_else(|_| Err(Failure::Other("an internal error".into())));
        Ok(finished?)
    }
}

/// Names the account of a user with a provider.
#[must_use]
pub fn id(user: &str, provider: &str) -> String {
    let digest = sha256_hex(format!("{provider}\n{user}").as_bytes());
    format!("prv_{}", digest.get(..24).unwrap_or(&digest))
}

impl Authorization {
    /// Takes what a user has connected.
    async fn connect(&self, connection: Connection) -> Result<(), String> {
        self.take_anew(Kept::Account(connection)).await
    }

    /// How the account stands.
    pub(crate) async fn view(&self) -> Result<AccountView, AccountError> {
        let Subject::Account { id, .. } = &self.subject else { return Err(AccountError::NotConnected) };
        let mut work = self.work.lock().await;
        self.load(&mut work).await.map_err(AccountError::Failed)?;
        let none = AccountView {
            id: id.clone(),
            standing: Standing::Disconnected,
            scopes: Vec::new(),
            connected: None,
            refreshed: None,
            expires: None,
            renews: false,
        };
        let Some(connection) = work.connection() else { return Ok(none) };
        let over = connection.ended
            || (!connection.renews() && connection.expires().is_some_and(|end| end <= self.clock.now()));
        Ok(AccountView {
            standing: if over { Standing::Expired } else { Standing::Connected },
            scopes: connection.scopes.clone(),
            connected: Some(Moment(connection.connected)),
            refreshed: Some(Moment(connection.refreshed)),
            expires: connection.expires(),
            renews: connection.renews(),
            ..none
        })
    }

    /// Renews the tokens now, whatever their age. Of many that ask at once one does.
    pub(crate) async fn renew(self: &Arc<Self>) -> Result<(), AccountError> {
        let asked = self.clock.ticks();
        let this = Arc::clone(self);
        let renewing = self.tracker.spawn(async move {
            let mut work = this.work.lock().await;
            this.load(&mut work).await.map_err(AccountError::Failed)?;
            if work.connection().is_none() {
                return Err(AccountError::NotConnected);
            }
            // Somebody was faster, while this one waited.
            if work.renewed.is_some_and(|then| then >= asked) {
                return Ok(());
            }
            // Nor is the provider asked as often as a caller likes.
            if work.by_hand.is_some_and(|then| asked.saturating_sub(then) < PAUSE_MICROS) {
                return Ok(());
            }
            work.by_hand = Some(asked);
            this.ask_and_take(&mut work).await?;
            Ok(())
        });
        renewing.await.unwrap_or_else(|_| Err(AccountError::Failed("an internal error".into())))
    }

    /// Forgets the account. True where there was one; gives it where the provider can still be told.
    pub(crate) async fn disconnect(&self) -> Result<(bool, Option<Connection>), AccountError> {
        let mut work = self.work.lock().await;
        self.load(&mut work).await.map_err(AccountError::Failed)?;
        // One that was made under other settings goes too.
        let (kept, there) = self.clear(&mut work).await.map_err(AccountError::Failed)?;
        let connection = match kept {
            Some(Kept::Account(connection)) => Some(connection),
            _ => None,
        };
        Ok((there, connection))
    }

    /// Tells the provider that the tokens are not wanted any more.
    pub(crate) async fn revoke(&self, connection: &Connection) {
        let Subject::Account { provider, discovery, .. } = &self.subject else { return };
        if let Err(failure) = account::revoke(connection, provider, discovery).await {
            let why = failure.why();
            tracing::warn!(
                provider = &*provider.slug,
                why,
                "the provider was not told that its tokens are not wanted any more"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::future::ready;
    use std::pin::pin;

    use super::*;
    use crate::config::providers::Endpoints;
    use crate::domain::audit::Durability;
    use crate::domain::clock::SystemClock;
    use crate::domain::id::KeyId;
    use crate::domain::principal::{Profile, Surface};

    fn who(user: &str) -> Principal {
        let (scopes, allowed_tools) = (Vec::new(), Vec::new());
        let profile = Profile { name: "p".into(), scopes, allowed_tools, read_only: false, surface: Surface::Search };
        Principal {
            key: KeyId::from(user),
            name: user.into(),
            agent: user.into(),
            user: user.into(),
            profile: Arc::new(profile),
            roles: BTreeSet::new(),
            plan: None,
            grant: None,
            until: None,
        }
    }

    /// Whoever clicks again and again has the provider asked once at a time.
    #[tokio::test]
    async fn a_user_begins_one_connection_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), Durability::Process).unwrap();
        let accounts = Accounts::new(store, Arc::new(SystemClock), TaskTracker::new());
        // It takes connections, and says nothing.
        let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let provider = Arc::new(ProviderSettings {
            slug: "example".into(),
            title: "Example".into(),
            endpoints: Endpoints::Discovered {
                issuer: format!("http://{}/", silent.local_addr().unwrap()).parse().unwrap(),
            },
            client_id: "c".into(),
            client_secret: None,
            client_auth: None,
            scopes: Vec::new(),
            parameters: Vec::new(),
        });
        let (ada, bob) = (who("ada"), who("bob"));
        let begin = |user| accounts.begin(user, &provider, "http://127.0.0.1:1/back");
        let (mut first, mut other) = (pin!(begin(&ada)), pin!(begin(&bob)));
        tokio::select! { biased; _ = &mut first => panic!("nobody answers"), () = ready(()) => {} }
        assert!(matches!(begin(&ada).await, Err(AccountError::Beginning)));
        tokio::select! { biased; _ = &mut other => panic!("nobody answers"), () = ready(()) => {} }
    }
}
