//! What a client asks of one server beside governed calls: greetings, log levels, subscriptions.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::asides::Asides;
use super::ask::{Ask, Params};
use super::deadline::Deadline;
use super::facts::{Greeting, ListVersions};
use super::peer::Peer;
use super::registry::Backends;
use super::send::{gone, told};
use super::server::Server;
use super::sessions::{Attending, Sessions};
use crate::domain::id::ServerName;
use crate::domain::json::Json;
use crate::domain::outcome::UpstreamError;

/// A subscription has no answer until it ends.
const ENDLESS: Duration = Duration::from_secs(365 * 24 * 3600);

/// A request that is passed on: one of a client about its own session, or a subscription to what it may hear. Its params are
/// those of the peer's `rest`.
#[derive(Debug, Clone, Copy)]
pub struct Passed<'a> {
    pub method: &'a str,
    pub peer: &'a Peer,
    /// Whether it stays open, as `subscriptions/listen` does.
    pub endless: bool,
}

impl Backends {
    /// What a server said when it was greeted; one that is just being connected is waited for.
    ///
    /// # Errors
    /// Where it cannot be reached and never could.
    pub async fn greeting(&self, name: &ServerName) -> Result<Greeting, UpstreamError> {
        let server = self.one(name)?;
        if let Some(greeting) = server.greeting() {
            return Ok(greeting);
        }
        match server.link().await {
            Ok(_) => server.greeting().ok_or_else(|| gone(name)),
            Err(fault) => Err(told(&server, name.as_str(), true, fault)),
        }
    }

    /// What a server said when it was greeted last, if it ever was.
    #[must_use]
    pub fn known_greeting(&self, name: &ServerName) -> Option<Greeting> {
        self.one(name).ok()?.greeting()
    }

    /// The names of a server's tools, in its own order.
    #[must_use]
    pub fn tool_order(&self, name: &ServerName) -> Vec<String> {
        #[derive(serde::Deserialize)]
        struct Named {
            name: String,
        }
        let definitions = self.one(name).map(|server| server.known().definitions).unwrap_or_default();
        definitions.iter().filter_map(|definition| definition.decode::<Named>().ok()).map(|it| it.name).collect()
    }

    /// How long a server lets its list of tools be kept, in milliseconds, where it says so.
    #[must_use]
    pub fn tools_ttl(&self, name: &ServerName) -> Option<u64> {
        self.one(name).ok()?.ttl_ms()
    }

    /// Counts the changes of a server's lists.
    #[must_use]
    pub fn versions(&self, name: &ServerName) -> Option<watch::Receiver<ListVersions>> {
        Some(self.one(name).ok()?.versions.subscribe())
    }

    /// Passes a request on and gives its result. Dropping the future cancels it at the backend.
    ///
    /// # Errors
    /// Why there is no result; a JSON-RPC error of the backend is one such reason.
    pub async fn pass(&self, name: &ServerName, passed: Passed<'_>) -> Result<Json, UpstreamError> {
        let server = self.one(name)?;
        let settings = Arc::clone(&server.settings());
        let (idle, hard) = (settings.timeout, settings.max_timeout.max(settings.timeout));
        let deadline = if passed.endless { Deadline::start(ENDLESS, ENDLESS) } else { Deadline::start(idle, hard) };
        let plain = Ask::plain(passed.method, Params::None);
        let answer = async {
            let deadline = if passed.endless { deadline } else { server.placed(deadline, None).await? };
            let ask = Ask { deadline: Some(&deadline), peer: Some(passed.peer), ..plain };
            server.attempt_aside(&ask, &deadline, &self.hub).await
        };
        let answer = answer.await.map_err(|fault| told(&server, passed.method, true, fault));
        if answer.is_ok() && passed.method == "logging/setLevel" {
            server.sessions.followed.level(passed.peer);
        }
        answer
    }

    /// Tells a client's own session with a server something, where it has one.
    pub fn notify(&self, name: &ServerName, method: &str, peer: &Peer) {
        if let Ok(server) = self.one(name)
            && let Some(lease) = server.sessions.existing(&peer.session)
        {
            lease.link.notify(method, peer);
        }
    }

    /// Names who hears what a server says to a client's session outside of its requests.
    pub fn listen(&self, name: &ServerName, session: &Arc<str>, sink: Asides) {
        if let Ok(server) = self.one(name) {
            server.sessions.listen(session, sink);
        }
    }

    /// Keeps a client's session with a server while somebody hears what is said there.
    #[must_use]
    pub fn attend(&self, name: &ServerName, session: &Arc<str>) -> Option<Attending> {
        Some(Sessions::attend(&self.one(name).ok()?, session))
    }

    /// Closes every session that a client has with backends.
    pub fn end_sessions(&self, session: &str) {
        for server in self.hub.servers.load().values() {
            server.sessions.sweep(self.hub.clock.ticks(), Some(session));
        }
    }

    fn one(&self, name: &ServerName) -> Result<Arc<Server>, UpstreamError> {
        self.hub.servers.load().get(name).cloned().ok_or_else(|| gone(name))
    }
}
