//! One server as if the client were connected to it alone: what it says of itself, its lists, and what is passed on to it.
//! Calls, prompts and resources take the path of every call; see [`Gateway::carry`].

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::{Gateway, State, Visitor};
use crate::authn::session::Session;
use crate::backend::{Asides, Attending, Greeting, Items, ListKind, ListVersions, Passed, Question};
use crate::domain::call::ToolRef;
use crate::domain::crowd::Seat;
use crate::domain::id::{KeyId, ServerName};
use crate::domain::json::{Json, sha256_hex};
use crate::domain::outcome::{Refusal, Unlisted, UpstreamError};
use crate::domain::principal::{Principal, Scope};
use crate::domain::secret::Secret;
use crate::domain::tool::Tool;
use crate::pipeline::noted_aside;
use crate::wire::mirror::Said;

/// How long a changed list may take to be taken in before it is told of.
const CATCH_UP: Duration = Duration::from_secs(5);

/// A list that is shown to one principal.
#[derive(Debug, Default)]
pub struct Shown {
    /// The items' own bytes.
    pub items: Vec<Json>,
    /// How long it may be kept, in milliseconds, where the server says so.
    pub ttl_ms: Option<u64>,
}

impl Gateway {
    /// The server of this name, where the principal's profile opens anything of it.
    #[must_use]
    pub fn server(&self, principal: &Principal, name: &str) -> Option<ServerName> {
        let name: ServerName = name.parse().ok()?;
        let known = self.state.load().settings.servers.contains_key(&name);
        let opens = principal.profile.reaches(&name)
            && (principal.profile.has(Scope::ToolsRead) || principal.profile.has(Scope::ToolsInvoke));
        (known && opens).then_some(name)
    }

    /// What a server says of itself.
    ///
    /// # Errors
    /// Where it cannot be reached and never could.
    pub async fn greeting(&self, server: &ServerName) -> Result<Greeting, UpstreamError> {
        self.pipeline.backends.greeting(server).await
    }

    /// What is held of a client's session with a server; `None` where the key has too many.
    #[must_use]
    pub fn visitor(
        &self,
        principal: &Principal,
        id: &str,
        session: Option<&Session>,
        server: &ServerName,
    ) -> Option<Arc<Visitor>> {
        let capabilities = session.map_or_else(|| Json::from_parts(String::from("{}")), |it| it.capabilities.clone());
        let now = self.pipeline.clock.ticks();
        let visitor = self.visitors.get(id, &principal.key, Some(server), &capabilities, now)?;
        self.pipeline.backends.listen(server, &visitor.session, visitor.sink());
        Some(visitor)
    }

    /// What is held of a client's session with all servers together; `None` where the key has too many.
    #[must_use]
    pub fn session_visitor(&self, principal: &Principal, id: &str) -> Option<Arc<Visitor>> {
        let none = Json::from_parts(String::from("{}"));
        self.visitors.get(id, &principal.key, None, &none, self.pipeline.clock.ticks())
    }

    /// Forgets what is held of a session that has ended.
    pub fn forget_visitors(&self, id: &str, key: &KeyId) {
        for session in self.visitors.end(id, key) {
            self.pipeline.backends.end_sessions(&session);
        }
    }

    /// A server's tools, as they are shown to a principal, in the server's own order.
    #[must_use]
    pub fn server_tools(&self, principal: &Principal, server: &ServerName) -> Shown {
        let state = self.state();
        let mine = state.catalog.entries().iter().filter(|entry| entry.tool().id.server == *server);
        let sight = state.sight(principal);
        let mut shown: Vec<&Arc<Tool>> = mine.map(|entry| entry.tool()).filter(|tool| sight.shows(tool)).collect();
        let order = self.pipeline.backends.tool_order(server);
        let place: HashMap<&str, usize> = order.iter().enumerate().map(|(at, name)| (name.as_str(), at)).collect();
        shown.sort_by_key(|tool| place.get(&*tool.id.tool).copied().unwrap_or(usize::MAX));
        Shown {
            items: shown.into_iter().map(|tool| tool.definition.clone()).collect(),
            ttl_ms: self.pipeline.backends.tools_ttl(server),
        }
    }

    /// Changes when, and only when, that list does.
    #[must_use]
    pub fn server_fingerprint(&self, principal: &Principal, server: &ServerName) -> String {
        let shown = self.server_tools(principal, server);
        sha256_hex(shown.items.iter().map(Json::as_str).collect::<Vec<_>>().join(",").as_bytes())
    }

    /// Whether a server has lists of this name, as far as is known.
    #[must_use]
    pub fn offers(&self, server: &ServerName, list: &str) -> bool {
        let known = self.pipeline.backends.known_greeting(server);
        known.is_none_or(|greeting| greeting.capabilities.value().get(list).is_some())
    }

    /// A server's prompts, resources or templates, as they are shown to a principal who brings the token that it asks for.
    ///
    /// # Errors
    /// Where that token is missing, or is not believed; and the server's own, where it gives no list and never did.
    pub async fn server_items(
        &self,
        principal: &Principal,
        server: &ServerName,
        kind: ListKind,
        jwt: Option<&Secret>,
    ) -> Result<Shown, Unlisted> {
        self.pipeline.admit_token(&self.state(), server, jwt).await.map_err(Unlisted::Refused)?;
        let items = self.items_of(server, kind, principal).await.map_err(Unlisted::Failed)?;
        let Some(items) = items else { return Ok(Shown::default()) };
        let state = self.state();
        let shown = sieved(&state, principal, (server, kind), &items).await;
        let shown = shown.iter().filter_map(|place| items.items.get(*place)).cloned();
        Ok(Shown { items: shown.collect(), ttl_ms: items.ttl_ms })
    }

    /// Whether somebody who follows a resource may go on: where no call to read it could be permitted, no.
    #[must_use]
    pub fn may_follow(&self, principal: &Principal, server: &ServerName, uri: &str) -> bool {
        let state = self.state.load();
        let readable = state.readable(&reference(server, ListKind::Resources, uri));
        readable.is_some_and(|readable| state.sight(principal).shows(&readable))
    }

    /// Lets a principal tell a server something that is no call: what is `said`, with the caller's token for the server.
    ///
    /// # Errors
    /// What stands in the way.
    pub async fn admit_aside(
        &self,
        principal: &Principal,
        server: &ServerName,
        said: (Option<&Json>, Option<&Secret>),
    ) -> Result<Seat<KeyId>, Refusal> {
        self.pipeline.admit_aside(&self.state(), principal, server, said).await
    }

    /// Takes a legacy client's answer to a question of a server's. What of it may not travel does not: then the server is
    /// told so in its place.
    pub async fn take_answer(
        &self,
        principal: &Principal,
        server: &ServerName,
        question: Question,
        answer: Result<Json, Json>,
    ) {
        let (state, scrutiny) = (self.state(), question.scrutiny.clone());
        let mode = scrutiny.as_ref().map_or_else(|| state.answers_mode(server), |scrutiny| scrutiny.mode);
        let (answer, scanned) = self.pipeline.scan_answer(&state, &principal.key, mode, answer).await;
        match scrutiny {
            Some(scrutiny) => scrutiny.note(scanned.result, &scanned.counts),
            None => noted_aside(server, &scanned),
        }
        question.answer(answer);
    }

    /// Passes on a request that is no call.
    ///
    /// # Errors
    /// Why there is no result.
    pub async fn pass(&self, server: &ServerName, passed: Passed<'_>) -> Result<Json, UpstreamError> {
        self.pipeline.backends.pass(server, passed).await
    }

    /// Tells a client's own session with a server something.
    pub fn notify_server(&self, server: &ServerName, method: &str, peer: &crate::backend::Peer) {
        self.pipeline.backends.notify(server, method, peer);
    }

    /// Ends the session that a client has with a server.
    pub fn leave_server(&self, session: &str) {
        self.pipeline.backends.end_sessions(session);
    }

    /// Names who hears what a server says to a session outside of its requests.
    pub fn hear_session(&self, server: &ServerName, session: &Arc<str>, sink: Asides) {
        self.pipeline.backends.listen(server, session, sink);
    }

    /// Keeps a session with a server while somebody hears what is said there.
    #[must_use]
    pub fn attend(&self, server: &ServerName, session: &Arc<str>) -> Option<Attending> {
        self.pipeline.backends.attend(server, session)
    }

    /// What a server calls itself.
    #[must_use]
    pub fn server_info(&self, server: &ServerName) -> Json {
        let known = self.pipeline.backends.known_greeting(server);
        known.map_or_else(|| Json::of(&serde_json::json!({"name": server})), |greeting| greeting.info)
    }

    /// What the `Mcp-Param-…` headers of a principal's call must say; of an own tool nothing.
    #[must_use]
    pub fn parameter_headers(&self, principal: &Principal, asked: &ToolRef, arguments: Option<&Json>) -> Vec<Said> {
        if self.pipeline.own.find(asked).is_some() {
            return Vec::new();
        }
        let state = self.state.load();
        state.catalog.parameter_headers(asked, arguments, |tool| state.admits(principal, tool))
    }

    /// Waits a while until what the servers last listed is what requests see.
    pub async fn caught_up(&self) {
        let mut changes = self.changes();
        let behind = || self.state.load().catalog.epoch() < self.pipeline.backends.catalog().epoch();
        let catching_up = async { while behind() && changes.changed().await.is_ok() {} };
        if tokio::time::timeout(CATCH_UP, catching_up).await.is_err() {
            tracing::debug!("a changed list takes long to be taken in");
        }
    }

    /// Counts the changes of a server's lists.
    #[must_use]
    pub fn list_versions(&self, server: &ServerName) -> Option<watch::Receiver<ListVersions>> {
        self.pipeline.backends.versions(server)
    }

    /// The name under which a principal knows a task that its call of a server's tool began.
    #[must_use]
    pub fn task_name(&self, principal: &Principal, server: &ServerName, tool: &str, task: &str) -> Option<String> {
        let plain = serde_json::to_string(&(tool, task)).ok()?;
        self.sessions.sealer().seal_name(&task_purpose(principal, server), &plain).ok()
    }

    /// The tool that began a task, and the server's own name for it; `None` where it is not one of this principal's.
    #[must_use]
    pub fn task_of(&self, principal: &Principal, server: &ServerName, name: &str) -> Option<(String, String)> {
        serde_json::from_str(&self.sessions.sealer().open_text(&task_purpose(principal, server), name)?).ok()
    }
}

fn task_purpose(principal: &Principal, server: &ServerName) -> Vec<u8> {
    format!("toolgate task 2\n{}\n{server}", principal.key).into_bytes()
}

/// The places of the items of a server's list that a principal is shown.
pub(super) async fn sieved(
    state: &State,
    principal: &Principal,
    (server, kind): (&ServerName, ListKind),
    items: &Arc<Items>,
) -> Arc<[usize]> {
    let sight = state.sight(principal);
    let shows = |item: &Json| {
        let readable = item_name(item, kind).and_then(|name| state.readable(&reference(server, kind, &name)));
        readable.is_some_and(|readable| sight.shows(&readable))
    };
    state.sieve.shown(principal, (server, kind), items, shows).await
}

/// What names an item of a list.
#[must_use]
pub(super) fn item_name(item: &Json, kind: ListKind) -> Option<String> {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Item {
        name: Option<String>,
        uri: Option<String>,
        uri_template: Option<String>,
    }
    let item: Item = item.decode().ok()?;
    match kind {
        ListKind::Prompts => item.name,
        ListKind::Resources => item.uri,
        ListKind::Templates => item.uri_template,
    }
}

/// How a call would name an item of a list.
pub(super) fn reference(server: &ServerName, kind: ListKind, name: &str) -> ToolRef {
    let (server, name) = (server.to_string(), name.to_owned());
    match kind {
        ListKind::Prompts => ToolRef::Prompt { server, name },
        ListKind::Resources | ListKind::Templates => ToolRef::Resource { server, uri: name },
    }
}
