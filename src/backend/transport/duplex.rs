//! One channel both ways, with many requests in flight on it: what stdio, SSE and WebSocket have in common.

use std::sync::Arc;
use std::sync::atomic::Ordering;

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

/// A backend at the other end that has been greeted and is ready.
#[derive(Debug)]
pub(crate) struct DuplexLink {
    shared: Arc<Shared>,
    hello: Hello,
    stop: CancellationToken,
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
                link.follow_changes();
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
        Ok(Self { shared, hello, stop })
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
        let id = self.shared.ids.fetch_add(1, Ordering::Relaxed);
        let (sender, answer) = oneshot::channel();
        let waiter = Waiter {
            answer: sender,
            progress: ask.progress.cloned(),
            peer: ask.peer.cloned(),
            deadline: ask.deadline.cloned(),
        };
        if !self.shared.register(id, waiter) {
            return Err(self.shared.over());
        }
        let mut guard = PendingGuard { shared: &self.shared, id, sent: false };
        if self.shared.writer.send(Outgoing { id: Some(id), text: ask.body(id, era) }).await.is_err() {
            return Err(self.shared.over());
        }
        guard.sent = true;
        let answer = answer.await;
        // Whoever answers takes the waiter out: there is nothing left to cancel.
        guard.sent = false;
        let answer = answer.unwrap_or_else(|_| Err(self.shared.over()))?;
        let mut held = Held::new(ask.allowance.cloned());
        held.reaches(answer.bytes().len())?;
        Ok(answer.with_bytes(|bytes| held.keep(bytes)))
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

    /// A modern server tells of changes only who listens; a legacy one tells everybody.
    fn follow_changes(&self) {
        if let (Era::Modern, Some(filter)) = (self.hello.era, &self.hello.listen) {
            let id = self.shared.ids.fetch_add(1, Ordering::Relaxed);
            self.shared.tell(Ask::plain("subscriptions/listen", Params::Members(filter)).body(id, Era::Modern));
        }
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
