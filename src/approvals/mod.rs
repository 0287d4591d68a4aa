//! Floor 4: calls that a person has to approve.
//!
//! Approved means: exactly that call (of this principal, of this tool as it was defined, with these arguments), once,
//! before it expires, and judged again when it is made. A request is one row of the store; see
//! [`ApprovalState`] for what becomes of it. The identical call takes the approval in the transaction that looks for
//! it, before anything is sent, so that it is taken once, and stays taken whatever happens then.

mod bounds;
mod exact;
mod hooks;
#[cfg(test)]
mod tests;
mod view;

use std::ffi::OsString;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tokio::sync::{mpsc, watch};

pub use self::bounds::checked;
use self::bounds::{LIMITS, MAX_COMMENT, full};
pub use self::hooks::Hooks;
pub use self::view::Viewer;
use crate::config::Settings;
use crate::domain::approval::{ApprovalState, Decision, Ticket};
use crate::domain::clock::{Clock, Moment};
use crate::domain::crowd::Crowd;
use crate::domain::id::{ApprovalId, EventId, KeyId};
use crate::domain::json::Json;
use crate::domain::principal::{Principal, Scope};
use crate::policy::{Approvers, PendingCall};
use crate::store::{ApprovalBound, ApprovalFacts, ApprovalRecord, Asked, Decided, NewApproval, Store, StoreError};

/// Calls of one key that may wait for a decision with their connection held.
const MAX_WAITING: usize = 16;

/// A handle on the approvals; cheap to clone.
#[derive(Debug, Clone)]
pub struct Approvals(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: Store,
    clock: Arc<dyn Clock>,
    /// Counts decisions.
    decisions: watch::Sender<u64>,
    hooks: mpsc::Sender<hooks::Notice>,
    /// Records of calls that were let go and lost sight of.
    lost: Mutex<Vec<EventId>>,
    /// Where the gateway listens.
    host: OnceLock<String>,
    /// Those that wait for a decision, by key.
    waiting: Crowd<KeyId>,
}

/// A call that policy permits once a person has approved it.
#[derive(Debug)]
pub struct Asking<'a> {
    pub pending: &'a PendingCall,
    pub approvers: Approvers,
    /// The policies that ask, each with the digest of its text.
    pub policies: Vec<(Arc<str>, Arc<str>)>,
    /// What the client sends beside the arguments, as one object.
    pub beside: Option<Json>,
    /// The arguments as a log may hold them.
    pub preview: Option<Value>,
    /// The call's audit record.
    pub event: &'a EventId,
    pub settings: &'a Settings,
}

/// What has been said of a call.
#[derive(Debug)]
pub enum Word {
    /// It was approved, and the approval is taken. What was approved may have come with another `_meta`.
    Go { id: ApprovalId, execution: Execution, other_meta: bool },
    /// Nobody has decided yet.
    Wait(Ticket),
    /// A person has refused it.
    No { id: ApprovalId, reason: String },
    /// Not now: which bound is reached, what it is, and how many seconds to wait.
    Full { scope: &'static str, limit: String, retry_after: u64 },
    /// Nobody can be shown so much.
    TooLong { bytes: usize, most: usize },
}

/// How a call ended that an approval had let go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It was made: `answered`, `failed` or `refused`.
    Used(&'static str),
    /// It may have been made.
    Unknown(&'static str),
    /// Nothing was sent.
    NotSent,
}

/// A call under way that an approval has let go. Dropped without an end it is one of which nobody knows.
#[derive(Debug)]
#[must_use = "what an approval has let go comes to an end"]
pub struct Execution {
    approvals: Approvals,
    event: EventId,
    open: bool,
}

/// Why nothing was decided.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Undecided {
    #[error("there is no approval `{0}`")]
    Missing(String),
    #[error("this needs a key with the scope `approvals:decide`")]
    Scope,
    #[error(
        "who asks for a call does not approve it: another person has to, with a key of another user (`toolgate keys create \
         --name N --profile operator --user U`), or the owner of the gateway's machine with `toolgate approvals approve ID`"
    )]
    Requester,
    #[error("this approval is given by holders of one of the roles {}", .0.join(", "))]
    Role(Vec<String>),
    #[error("the approval `{id}` is {} and cannot be decided", state.as_str())]
    Over { id: ApprovalId, state: ApprovalState },
    #[error("a comment has at most {MAX_COMMENT} characters, none of them a control character")]
    Comment,
    #[error("{0}")]
    Failed(String),
}

impl From<StoreError> for Undecided {
    fn from(error: StoreError) -> Self {
        Self::Failed(error.to_string())
    }
}

impl Approvals {
    /// Over the store; what a crash has left under way is of unknown end from now on. Nothing may be served before this.
    /// `environment` is the gateway's own, of which hooks get a little.
    ///
    /// # Errors
    /// Where the store cannot be written.
    pub async fn start(
        store: Store,
        clock: Arc<dyn Clock>,
        environment: Vec<(OsString, OsString)>,
    ) -> Result<(Self, Hooks), StoreError> {
        let lost = store.recover_approvals(clock.now()).await?;
        if lost > 0 {
            tracing::warn!(
                lost,
                "approved calls were under way when the gateway stopped: see `toolgate approvals list`"
            );
        }
        let (hooks, notices) = hooks::channel(environment);
        let inner = Inner {
            store,
            clock,
            decisions: watch::channel(0).0,
            hooks,
            lost: Mutex::default(),
            host: OnceLock::new(),
            waiting: Crowd::default(),
        };
        Ok((Self(Arc::new(inner)), notices))
    }

    /// Says where the gateway listens: for links, where no public URL is configured.
    pub fn listens_at(&self, host: String) {
        // A gateway that listens at several addresses is reached at the first.
        drop(self.0.host.set(host));
    }

    /// Takes the approval of a call, where there is one; else asks for it, once.
    ///
    /// # Errors
    /// Where the store cannot be written; then the call must not be made.
    pub async fn ask(&self, asking: Asking<'_>) -> Result<Word, StoreError> {
        let Asking { pending, approvers, policies, beside, preview, event, settings } = asking;
        let (call, judgement) = (pending.call(), pending.judgement());
        let (principal, tool) = (call.principal(), call.tool());
        let place = settings.servers.get(&tool.id.server).map(|server| server.place());
        let ground = exact::Ground { approvers: approvers.as_deref(), policies: &policies, place };
        let exact = match exact::of(call, beside.as_ref(), &ground) {
            Ok(exact) => exact,
            Err(bytes) => return Ok(Word::TooLong { bytes, most: exact::KEPT_BYTES }),
        };
        let now = self.0.clock.now();
        let expiry = i64::try_from(settings.approvals.expiry.as_millis()).unwrap_or(i64::MAX);
        let new = NewApproval {
            call: exact.call,
            key: principal.key.clone(),
            user: Arc::clone(&principal.user),
            kept: exact.kept,
            now,
            expires: Moment(now.0.saturating_add(expiry)),
            facts: ApprovalFacts {
                name: Arc::clone(&principal.name),
                agent: Arc::clone(&principal.agent),
                subject: call.subject().cloned(),
                tool: tool.shown().into(),
                kind: tool.kind,
                tool_digest: Arc::clone(&tool.digest),
                arguments_digest: exact.digest,
                beside_digest: exact.beside,
                meta_digest: exact.meta,
                preview,
                policy: judgement.policy().to_owned(),
                policy_version: Arc::clone(&judgement.policy_version),
                reason: Arc::clone(&judgement.reason),
                approvers,
                effects: judgement.effects.iter().map(|effect| (*effect).to_owned()).collect(),
                event: event.clone(),
                earlier: None,
            },
        };
        // Held before the write: whoever leaves during it may have taken the approval all the same.
        let mut execution = Execution { approvals: self.clone(), event: event.clone(), open: true };
        let asked = self.0.store.ask_approval(new, LIMITS).await?;
        if let Asked::Taken { id, other_meta } = asked {
            return Ok(Word::Go { id, execution, other_meta });
        }
        execution.open = false;
        Ok(match asked {
            Asked::Taken { .. } => full(ApprovalBound::All, None),
            Asked::Full(bound, millis) => full(bound, millis),
            Asked::Denied(record) => Word::No { id: record.id.clone(), reason: refused(&record) },
            Asked::Waits(record, fresh) => {
                if fresh {
                    self.announce(&record, settings);
                }
                Word::Wait(self.ticket(&record, settings))
            }
        })
    }

    /// Tells the hooks of a new request. They never hold a call up: where too much waits, this one is left out.
    fn announce(&self, record: &ApprovalRecord, settings: &Settings) {
        let hooks = &settings.approvals;
        if hooks.webhook.is_none() && hooks.command.is_empty() {
            return;
        }
        let view = self.view(record, settings);
        let notice = hooks::Notice::new(&view, self.0.clock.now(), Arc::clone(hooks));
        if self.0.hooks.try_send(notice).is_err() {
            tracing::warn!(approval = %record.id, "too many notices wait: nobody is told of this request");
        }
    }

    /// Whether somebody may decide on a request.
    ///
    /// # Errors
    /// Why not.
    pub fn may_decide(record: &ApprovalRecord, by: &Principal) -> Result<(), Undecided> {
        if !by.profile.has(Scope::ApprovalsDecide) {
            return Err(Undecided::Scope);
        }
        if by.key == record.key || by.user == record.user {
            return Err(Undecided::Requester);
        }
        match &record.facts.approvers {
            Some(roles) if !by.profile.has(Scope::KeysAdmin) && !roles.iter().any(|role| by.roles.contains(role)) => {
                Err(Undecided::Role(roles.iter().map(ToString::to_string).collect()))
            }
            _ => Ok(()),
        }
    }

    /// One of them, as it is now.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub async fn find(&self, id: &ApprovalId) -> Result<Option<ApprovalRecord>, StoreError> {
        self.0.store.approval(id, self.0.clock.now()).await
    }

    /// The approval that has let the call of this record go, where one has.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub async fn used_by(&self, event: &EventId) -> Result<Option<ApprovalRecord>, StoreError> {
        match self.0.store.approval_used_by(event).await? {
            Some(id) => self.find(&id).await,
            None => Ok(None),
        }
    }

    /// Decides: of two that decide at once one does.
    ///
    /// # Errors
    /// Where it does not wait for a decision (any more), or nothing was committed.
    pub async fn decide(
        &self,
        id: &ApprovalId,
        decision: Decision,
        (key, user): (KeyId, Arc<str>),
        comment: Option<String>,
    ) -> Result<(), Undecided> {
        let by = Decided { at: self.0.clock.now(), key, user, comment };
        if self.0.store.decide_approval(id, decision, by).await? {
            return Ok(());
        }
        match self.find(id).await? {
            None => Err(Undecided::Missing(id.to_string())),
            Some(record) => Err(Undecided::Over { id: record.id, state: record.state }),
        }
    }

    /// Wakes who waits: a decision was made and recorded.
    pub fn tell(&self) {
        self.0.decisions.send_modify(|count| *count += 1);
    }

    /// Takes a decision back that could not be recorded.
    ///
    /// # Errors
    /// Where that was not committed.
    pub async fn take_back(&self, id: &ApprovalId) -> Result<(), StoreError> {
        self.0.store.undecide_approval(id).await.map(drop)
    }

    /// Waits until somebody has decided, or patience ends. False where it still waits for that.
    pub async fn decided(&self, key: &KeyId, id: &ApprovalId, patience: Duration) -> bool {
        let Some(_seat) = self.0.waiting.seat(key.clone(), MAX_WAITING) else { return false };
        // Every waiter listens here.
        let mut decisions = self.0.decisions.subscribe();
        let waiting = async {
            loop {
                let state = self.find(id).await.ok().flatten().map(|record| record.state);
                if state != Some(ApprovalState::Pending) || decisions.changed().await.is_err() {
                    return;
                }
            }
        };
        tokio::time::timeout(patience, waiting).await.is_ok()
    }

    /// Those that wait for a decision.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.0.decisions.receiver_count()
    }

    /// Writes down what has expired, and the calls that were lost sight of.
    pub async fn sweep(&self) {
        let lost = std::mem::take(&mut *self.0.lost.lock().unwrap_or_else(PoisonError::into_inner));
        let now = self.0.clock.now();
        for event in lost {
            let written = self.0.store.finish_approval(&event, ApprovalState::Unknown, "interrupted", now).await;
            if let Err(error) = written {
                tracing::warn!(%event, %error, "an approved call of unknown end could not be written down");
                self.0.lost.lock().unwrap_or_else(PoisonError::into_inner).push(event);
            }
        }
        if let Err(error) = self.0.store.expire_approvals(now).await {
            tracing::debug!(%error, "expired approvals could not be written down");
        }
    }
}

impl Execution {
    /// Writes down how the call ended, before its answer leaves.
    pub async fn ended(mut self, how: Ended) {
        let Inner { store, clock, .. } = &*self.approvals.0;
        let now = clock.now();
        let written = match how {
            Ended::Used(outcome) => store.finish_approval(&self.event, ApprovalState::Used, outcome, now).await,
            Ended::Unknown(outcome) => store.finish_approval(&self.event, ApprovalState::Unknown, outcome, now).await,
            Ended::NotSent => store.release_approval(&self.event).await,
        };
        match written {
            Ok(_) => self.open = false,
            Err(error) => {
                tracing::error!(event = %self.event, %error, "the end of an approved call is not written down")
            }
        }
    }
}

impl Drop for Execution {
    fn drop(&mut self) {
        if self.open {
            self.approvals.0.lost.lock().unwrap_or_else(PoisonError::into_inner).push(self.event.clone());
        }
    }
}

/// What a caller is told whose call a person has refused.
fn refused(record: &ApprovalRecord) -> String {
    let by = record.decided.as_ref();
    let (user, comment) = (by.map_or("somebody", |by| &*by.user), by.and_then(|by| by.comment.as_deref()));
    let said = comment.map(|comment| format!(": {comment}")).unwrap_or_default();
    format!("`{user}` has refused this call{said}; the same call is refused until {}", record.expires.rfc3339())
}
