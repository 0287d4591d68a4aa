//! One channel both ways, with many requests in flight on it: what stdio, SSE and WebSocket have in common.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::channel::{PendingGuard, Shared, Waiter};
use super::held::Held;
use crate::backend::ask::{self, Ask, Params};
use crate::backend::fault::{Fault, FaultKind};
use crate::backend::peer::Audience;
use crate::backend::probe::{self, DISCOVER_TIMEOUT, Hello, INITIALIZE_TIMEOUT, Probed};
use crate::domain::json::Json;
use crate::wire::era::Era;

/// Largest message that is read from such a backend, in bytes. One that sends a larger one is given up.
pub(super) const MAX_MESSAGE: usize = 16 << 20;
/// Messages that wait to be written.
const QUEUE: usize = 1024;

/// A way to carry messages.
pub(super) trait Way {
    /// Connects. From then on what is queued is written, and what is read is heard, until the link is over.
    fn start(&self, carrier: Carrier) -> impl Future<Output = Result<(), Fault>> + Send;
}

/// What carries the messages of one link. Whoever has it says [`Shared::end`] when nothing can be carried any more.
#[derive(Debug)]
pub(super) struct Carrier {
    pub(super) shared: Arc<Shared>,
    pub(super) queue: mpsc::Receiver<Outgoing>,
    /// Falls when the link is to end.
    pub(super) stop: CancellationToken,
}

/// A message to write.
#[derive(Debug)]
pub(super) struct Outgoing {
    /// Set where an answer is awaited.
    pub(super) id: Option<u64>,
    /// One JSON text, without an end of line.
    pub(super) text: String,
}

/// A request that was sent, and where its answer comes.
type Sent = (u64, oneshot::Receiver<Result<Json, Fault>>);

/// A backend at the other end that has been greeted and is ready.
#[derive(Debug)]
pub(crate) struct DuplexLink {
    shared: Arc<Shared>,
    hello: Hello,
    stop: CancellationToken,
    /// The subscription to changes that began with the greeting, until somebody minds it.
    listening: Mutex<Option<Sent>>,
}

impl DuplexLink {
    /// Connects and greets: modern first, unless the backend was legacy when last seen.
    pub(super) async fn open(
        way: &impl Way,
        before: Option<Era>,
        tracker: &TaskTracker,
        audience: &Audience,
    ) -> Result<Self, Fault> {
        let mut link = Self::start(way, tracker, audience).await?;
        let greeted = match before {
            Some(Era::Legacy) => match link.initialize().await {
                Err(Fault { kind: FaultKind::Rpc(_), .. }) => match link.discover().await {
                    Probed::Modern(hello) => Ok(hello),
                    Probed::Failed(fault) => Err(fault),
                    Probed::TryLegacy => Err(Fault::garbled("it takes neither server/discover nor initialize")),
                },
                greeted => greeted,
            },
            _ => match link.discover().await {
                Probed::Modern(hello) => Ok(hello),
                Probed::Failed(fault) => Err(fault),
                Probed::TryLegacy => {
                    // Some legacy servers end at the first request that they do not know.
                    if link.shared.gone.is_cancelled() {
                        link = Self::start(way, tracker, audience).await?;
                    }
                    link.initialize().await
                }
            },
        };
        match greeted {
            Ok(hello) => {
                link.hello = hello;
                // At once: what changes while the lists are read is heard of too.
                let begun = link.ask_for_changes().await?;
                *link.listening.lock().unwrap_or_else(PoisonError::into_inner) = begun;
                Ok(link)
            }
            Err(fault) => {
                link.stop.cancel();
                Err(fault)
            }
        }
    }

    async fn start(way: &impl Way, tracker: &TaskTracker, audience: &Audience) -> Result<Self, Fault> {
        let (writer, queue) = mpsc::channel(QUEUE);
        let shared = Arc::new(Shared::new(writer, audience.clone(), tracker.clone()));
        let stop = CancellationToken::new();
        way.start(Carrier { shared: Arc::clone(&shared), queue, stop: stop.clone() }).await?;
        let hello = Hello {
            era: Era::Legacy,
            version: String::new(),
            title: None,
            instructions: None,
            capabilities: Json::from_parts("{}".into()),
            info: Json::from_parts("{}".into()),
            listen: None,
            tools: false,
        };
        Ok(Self { shared, hello, stop, listening: Mutex::default() })
    }

    /// Who hears what belongs to no request.
    pub(crate) fn audience(&self) -> &Audience {
        &self.shared.audience
    }

    pub(crate) const fn hello(&self) -> &Hello {
        &self.hello
    }

    /// Completes when the link is over; says how it ended.
    pub(crate) async fn gone(&self) -> String {
        self.shared.gone.cancelled().await;
        self.shared.ended.get().cloned().unwrap_or_default()
    }

    /// Sends one request and waits for its result. Dropping the future cancels the call at the backend.
    pub(crate) async fn ask(&self, ask: &Ask<'_>) -> Result<Json, Fault> {
        self.ask_as(self.hello.era, ask).await
    }

    async fn ask_as(&self, era: Era, ask: &Ask<'_>) -> Result<Json, Fault> {
        let (id, answer) = self.register(ask, false)?;
        let mut guard = PendingGuard { shared: &self.shared, id, sent: false };
        self.send(ask, id, era).await?;
        guard.sent = true;
        let answer = answer.await;
        // Whoever answers takes the waiter out: there is nothing left to cancel.
        guard.sent = false;
        let answer = answer.unwrap_or_else(|_| Err(self.shared.over()))?;
        let mut held = Held::new(ask.allowance.cloned());
        held.reaches(answer.bytes().len())?;
        Ok(answer.with_bytes(|bytes| held.keep(bytes)))
    }

    fn register(&self, ask: &Ask<'_>, listens: bool) -> Result<Sent, Fault> {
        let id = self.shared.ids.fetch_add(1, Ordering::Relaxed);
        let (sender, answer) = oneshot::channel();
        let (progress, peer, deadline) = (ask.progress.cloned(), ask.peer.cloned(), ask.deadline.cloned());
        let waiter = Waiter { answer: sender, progress, peer, deadline, listens };
        if self.shared.register(id, waiter) { Ok((id, answer)) } else { Err(self.shared.over()) }
    }

    async fn send(&self, ask: &Ask<'_>, id: u64, era: Era) -> Result<(), Fault> {
        let message = Outgoing { id: Some(id), text: ask.body(id, era) };
        self.shared.writer.send(message).await.map_err(|_| self.shared.over())
    }

    /// Sends a notification.
    pub(crate) fn notify(&self, message: String) {
        self.shared.tell(message);
    }

    async fn discover(&self) -> Probed {
        let ask = Ask::plain("server/discover", Params::None);
        let answer = probe::persuaded(|| self.ask_as(Era::Modern, &ask));
        match tokio::time::timeout(DISCOVER_TIMEOUT, answer).await {
            Ok(answer) => probe::judge(answer),
            Err(_) => Probed::TryLegacy,
        }
    }

    async fn initialize(&self) -> Result<Hello, Fault> {
        let members = ask::initialize_members(&self.shared.audience.capabilities);
        let ask = Ask::plain("initialize", Params::Members(&members));
        let answer = tokio::time::timeout(INITIALIZE_TIMEOUT, self.ask_as(Era::Legacy, &ask)).await;
        let result = answer.unwrap_or_else(|_| Err(Fault::new(FaultKind::Timeout, "no answer to initialize")))?;
        let hello = probe::initialized(&result)?;
        self.shared.tell(ask::INITIALIZED.to_owned());
        Ok(hello)
    }

    /// Whether the server tells of changes only who listens. A legacy one tells everybody.
    pub(crate) fn follows(&self) -> bool {
        self.hello.era == Era::Modern && self.hello.listen.is_some()
    }

    async fn ask_for_changes(&self) -> Result<Option<Sent>, Fault> {
        let Some(filter) = self.hello.listen.as_deref().filter(|_| self.follows()) else { return Ok(None) };
        let ask = Ask::plain("subscriptions/listen", Params::Members(filter));
        let sent = self.register(&ask, true)?;
        self.send(&ask, sent.0, Era::Modern).await?;
        Ok(Some(sent))
    }

    /// Hears of changes until the server ends the subscription. `Ok(false)`: it offers none.
    pub(crate) async fn listen(&self) -> Result<bool, Fault> {
        let begun = self.listening.lock().unwrap_or_else(PoisonError::into_inner).take();
        let sent = match begun {
            Some(sent) => Some(sent),
            None => self.ask_for_changes().await?,
        };
        let Some((id, answer)) = sent else { return Ok(false) };
        let _guard = PendingGuard { shared: &self.shared, id, sent: true };
        answer.await.unwrap_or_else(|_| Err(self.shared.over())).map(|_| true)
    }

    /// Ends the link, and waits until it is over.
    pub(crate) async fn close(&self) {
        self.stop.cancel();
        self.shared.gone.cancelled().await;
    }
}

impl Drop for DuplexLink {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}
