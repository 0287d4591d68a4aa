//! Acts on the gateway itself: of keys, tokens, policies, accounts. Each leaves a record, and is written down before it is
//! done.

use std::sync::Arc;

use super::Gateway;
use super::control::Failed;
use crate::domain::call::{Entrance, ToolRef};
use crate::domain::id::{EventId, KeyId, OWN_SERVER, RequestId};
use crate::domain::principal::Principal;
use crate::journal::{Closing, Decision, Ending, OpenEntry, Opening};

/// Who acts on the gateway itself, and through which door.
#[derive(Debug, Clone)]
pub struct Actor {
    entrance: Entrance,
    request: RequestId,
    key: KeyId,
    user: Arc<str>,
    agent: Arc<str>,
}

impl Actor {
    /// Somebody with a key, over REST.
    #[must_use]
    pub fn holder(principal: &Principal, request: &RequestId) -> Self {
        let Principal { key, user, agent, .. } = principal.clone();
        Self { entrance: Entrance::Rest, request: request.clone(), key, user, agent }
    }

    pub(super) fn who(&self) -> (KeyId, Arc<str>) {
        (self.key.clone(), Arc::clone(&self.user))
    }

    pub(super) const fn key(&self) -> &KeyId {
        &self.key
    }

    /// The machine's owner, at the command line.
    #[must_use]
    pub fn owner() -> Self {
        let (key, request) = (KeyId::from("key_admin"), RequestId::fresh());
        Self { entrance: Entrance::Cli, request, key, user: "admin".into(), agent: "admin".into() }
    }
}

impl Gateway {
    /// Opens the record of an act of somebody who may, with what is known of it, and commits the intent: no record, no
    /// act.
    ///
    /// # Errors
    /// Where that cannot be written; then nothing may be done.
    pub(super) async fn begin_act(&self, actor: &Actor, act: &str, notes: &[String]) -> Result<OpenEntry, Failed> {
        let mut entry = self.open_act(actor, act).await?;
        entry.permitted();
        notes.iter().for_each(|note| entry.note(note));
        entry.intend().await.map_err(|error| Failed::of(&error))?;
        Ok(entry)
    }

    /// Does an act between its intent and its end, which says whether it was done.
    ///
    /// # Errors
    /// Where either cannot be written; without the intent nothing is done.
    pub(super) async fn act<T, E>(
        &self,
        actor: &Actor,
        act: &str,
        notes: &[String],
        doing: impl Future<Output = Result<T, E>>,
    ) -> Result<Result<T, E>, Failed> {
        let entry = self.begin_act(actor, act, notes).await?;
        let done = doing.await;
        close_act(entry, done.is_ok()).await?;
        Ok(done)
    }

    /// Opens the record of an act that only looks, or that is still to be judged. Whatever is done is
    /// [intended](OpenEntry::intend) first.
    pub(super) async fn open_act(&self, actor: &Actor, act: &str) -> Result<OpenEntry, Failed> {
        let opening = Opening {
            id: EventId::fresh(),
            request_id: actor.request.clone(),
            entrance: actor.entrance,
            key: Some(actor.key.clone()),
            user: Some(Arc::clone(&actor.user)),
            agent: Some(Arc::clone(&actor.agent)),
            tool: Some(ToolRef::Pair { server: OWN_SERVER.into(), tool: act.into() }),
            arguments: None,
        };
        self.pipeline.journal.open(opening).await.map_err(|error| Failed::of(&error))
    }
}

/// Closes the record of an act.
///
/// # Errors
/// Where the end cannot be recorded. What was done stands, and its intent tells of it, unless the caller can undo it.
pub(super) async fn close_act(entry: OpenEntry, done: bool) -> Result<(), Failed> {
    let ending = if done { Ending::Answered } else { Ending::Failed };
    let closing = Closing { decision: Some(Decision::Allow), ..Closing::new(ending) };
    entry.close(closing).await.map(drop).map_err(|error| Failed::of(&error))
}
