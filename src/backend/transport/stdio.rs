//! A backend that is a child process: JSON-RPC messages, one per line, many requests in flight.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use bytes::Bytes;
use serde_json::value::RawValue;
use tokio::io::{AsyncWriteExt, BufWriter};
use tokio::process::{ChildStdin, ChildStdout};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::child::{Lines, NoLine, Pipes, Process, Program, Tail};
use crate::backend::ask::{self, Ask, Params};
use crate::backend::deadline::{Deadline, PROGRESS, Progress};
use crate::backend::fault::{Fault, FaultKind};
use crate::backend::peer::{self, Audience, Peer};
use crate::backend::probe::{self, DISCOVER_TIMEOUT, Hello, INITIALIZE_TIMEOUT, Probed};
use crate::domain::json::Json;
use crate::wire::era::Era;
use crate::wire::reply::{self, Reply};

/// Longest line that is read from a child, in bytes. A child that writes a longer one is killed.
const MAX_LINE: usize = 16 << 20;
/// Messages that wait to be written.
const QUEUE: usize = 1024;
const LOG: &str = "notifications/message";
/// Requests of the backend's own that are answered per line read; a flood of them is not.
const MAX_NOISE_LOGGED: u32 = 10;

/// A child that has been greeted and is ready.
#[derive(Debug)]
pub(crate) struct StdioLink {
    shared: Arc<Shared>,
    hello: Hello,
    /// Ends the child.
    stop: CancellationToken,
}

/// What the tasks of one child share.
#[derive(Debug)]
struct Shared {
    ids: AtomicU64,
    pending: Mutex<Pending>,
    writer: mpsc::Sender<Bytes>,
    /// How the child ended.
    ended: OnceLock<String>,
    gone: CancellationToken,
    audience: Audience,
    tracker: TaskTracker,
}

/// Requests that wait for an answer; `None` once the child has gone.
#[derive(Debug)]
struct Pending(Option<HashMap<u64, Waiter>>);

#[derive(Debug)]
struct Waiter {
    answer: oneshot::Sender<Result<Json, Fault>>,
    progress: Option<Progress>,
    peer: Option<Peer>,
    deadline: Option<Deadline>,
}

impl StdioLink {
    /// Starts the child and greets it: modern first, unless it was legacy when last seen.
    pub(crate) async fn open(
        program: &Program<'_>,
        before: Option<Era>,
        tracker: &TaskTracker,
        tail: &Tail,
        audience: &Audience,
    ) -> Result<Self, Fault> {
        let mut link = Self::start(program, tracker, tail, audience)?;
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
                        link = Self::start(program, tracker, tail, audience)?;
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

    fn start(program: &Program<'_>, tracker: &TaskTracker, tail: &Tail, audience: &Audience) -> Result<Self, Fault> {
        let (process, pipes) = program.start()?;
        let Pipes { stdin, stdout, stderr } = pipes;
        let (writer, queue) = mpsc::channel(QUEUE);
        let shared = Arc::new(Shared {
            ids: AtomicU64::new(1),
            pending: Mutex::new(Pending(Some(HashMap::new()))),
            writer,
            ended: OnceLock::new(),
            gone: CancellationToken::new(),
            audience: audience.clone(),
            tracker: tracker.clone(),
        });
        let stop = CancellationToken::new();
        let (broken, closing) = (CancellationToken::new(), CancellationToken::new());
        tracker.spawn(write(stdin, queue, closing.clone()));
        tracker.spawn(tail.clone().drain(stderr));
        tracker.spawn(read(Arc::clone(&shared), stdout, broken.clone()));
        tracker.spawn(mind(process, Arc::clone(&shared), [stop.clone(), broken, closing]));
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

    /// Completes when the child has ended; says how.
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
            return Err(self.shared.crashed());
        }
        let mut guard = PendingGuard { shared: &self.shared, id, sent: false };
        let mut line = ask.body(id, era);
        line.push('\n');
        if self.shared.writer.send(Bytes::from(line)).await.is_err() {
            return Err(self.shared.crashed());
        }
        guard.sent = true;
        let answer = answer.await;
        // Whoever answers takes the waiter out: there is nothing left to cancel.
        guard.sent = false;
        answer.unwrap_or_else(|_| Err(self.shared.crashed()))
    }

    /// Sends a notification.
    pub(crate) fn notify(&self, message: String) {
        self.shared.tell(message);
    }

    async fn discover(&self) -> Probed {
        let ask = Ask::plain("server/discover", Params::None);
        match tokio::time::timeout(DISCOVER_TIMEOUT, self.ask_as(Era::Modern, &ask)).await {
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

    /// Asks the child to end, and makes it end if it does not.
    pub(crate) async fn close(&self) {
        self.stop.cancel();
        self.shared.gone.cancelled().await;
    }
}

impl Drop for StdioLink {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Shared {
    /// False where the child has gone already.
    fn register(&self, id: u64, waiter: Waiter) -> bool {
        match &mut self.lock().0 {
            Some(pending) => {
                pending.insert(id, waiter);
                true
            }
            None => false,
        }
    }

    fn take(&self, id: u64) -> Option<Waiter> {
        self.lock().0.as_mut()?.remove(&id)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a message that has no answer; one that finds the queue full is lost.
    fn tell(&self, mut message: String) {
        message.push('\n');
        if self.writer.try_send(Bytes::from(message)).is_err() {
            tracing::debug!("a child does not read its input; a notification is lost");
        }
    }

    fn crashed(&self) -> Fault {
        let how = self.ended.get().map_or("the child takes no input", String::as_str);
        Fault::broken(how)
    }

    /// Fails every request in flight, at once.
    fn end(&self, how: String) {
        let waiting = self.lock().0.take();
        let how = self.ended.get_or_init(|| how);
        for waiter in waiting.unwrap_or_default().into_values() {
            drop(waiter.answer.send(Err(Fault::broken(how))));
        }
        self.gone.cancel();
    }

    /// What one line of the child means. False where it is no message at all.
    fn hear(self: &Arc<Self>, line: &Bytes) -> bool {
        match reply::decode(line) {
            Ok(Reply::Response { id, result }) => self.answer(id, Ok(Json::slice_of(line, result))),
            Ok(Reply::Error { id: Some(id), error }) => {
                self.answer(id, Err(Fault::new(FaultKind::Rpc(Json::slice_of(line, error)), "JSON-RPC error")));
            }
            Ok(Reply::Error { id: None, .. }) => {}
            Ok(Reply::Request { id, method, params }) => {
                self.asked(Json::slice_of(line, id), &method, params.map(|params| Json::slice_of(line, params)));
            }
            Ok(Reply::Notification { method, params }) => self.notice(&method, params, line),
            Err(_) => return self.misheard(line),
        }
        true
    }

    fn answer(&self, id: &RawValue, answer: Result<Json, Fault>) {
        let waiter = id.get().parse().ok().and_then(|id| self.take(id));
        match waiter {
            Some(waiter) => drop(waiter.answer.send(answer)),
            None => tracing::debug!("a child answered a request that nobody waits for"),
        }
    }

    fn notice(&self, method: &str, params: Option<&RawValue>, line: &Bytes) {
        #[derive(serde::Deserialize, Default)]
        struct Meta {
            #[serde(rename = "io.modelcontextprotocol/subscriptionId")]
            subscription: Option<u64>,
        }
        #[derive(serde::Deserialize, Default)]
        struct Marks {
            #[serde(rename = "progressToken")]
            token: Option<u64>,
            #[serde(rename = "_meta", default)]
            meta: Option<Meta>,
        }
        let marks: Marks = params.and_then(|params| serde_json::from_str(params.get()).ok()).unwrap_or_default();
        let params = params.map(|params| Json::slice_of(line, params));
        if method == PROGRESS {
            let progress = marks.token.and_then(|token| self.with(token, |waiter| waiter.progress.clone()));
            if let (Some(progress), Some(token), Some(params)) = (progress, marks.token, params) {
                progress.take(token, params);
            }
            return;
        }
        let subscriber = marks.meta.and_then(|meta| meta.subscription);
        if let Some(peer) = subscriber.and_then(|id| self.with(id, |waiter| waiter.peer.clone())) {
            return peer.tell(method, params);
        }
        if self.audience.changes.take(method) {
            return;
        }
        match self.hearer(|peer| method != LOG || peer.log_level.is_some() || peer.lasting) {
            Some((peer, _)) => peer.tell(method, params),
            None => {
                if let Some(ambient) = &self.audience.ambient {
                    peer::tell(ambient, method, params);
                }
            }
        }
    }

    fn with<T>(&self, id: u64, read: impl FnOnce(&Waiter) -> Option<T>) -> Option<T> {
        self.lock().0.as_ref().and_then(|pending| pending.get(&id)).and_then(read)
    }

    /// The client that waits here, where all that wait are one: nothing says whose request a message belongs to.
    fn hearer(&self, takes: impl Fn(&Peer) -> bool) -> Option<(Peer, Option<Deadline>)> {
        let lock = self.lock();
        let mut waiting: Vec<(&u64, &Waiter)> = lock.0.as_ref()?.iter().collect();
        waiting.retain(|(_, waiter)| waiter.peer.as_ref().is_some_and(&takes));
        let (_, latest) = waiting.iter().max_by_key(|(id, _)| **id)?;
        let peer = latest.peer.as_ref()?;
        let one = waiting.iter().all(|(_, other)| other.peer.as_ref().is_some_and(|it| it.session == peer.session));
        one.then(|| (peer.clone(), latest.deadline.clone()))
    }

    /// A request of the child's.
    fn asked(self: &Arc<Self>, id: Json, method: &str, params: Option<Json>) {
        let (sink, deadline) = match self.hearer(|peer| peer.takes(method)) {
            Some((peer, deadline)) => (peer.asides, deadline),
            None => match &self.audience.ambient {
                Some(ambient) if self.audience.declares(method) => (ambient.clone(), None),
                _ => return self.tell(ask::answer_to(&id, method)),
            },
        };
        let (shared, method) = (Arc::clone(self), method.to_owned());
        self.tracker.spawn(async move {
            let asking = peer::ask(&sink, &method, params, deadline.as_ref());
            if let Some(answer) = shared.gone.run_until_cancelled(asking).await {
                shared.tell(ask::answered(&id, &answer));
            }
        });
    }

    /// A line that is no message: if it was meant as the answer to one of our requests, that one fails now and not at
    /// its timeout.
    fn misheard(&self, line: &Bytes) -> bool {
        #[derive(serde::Deserialize)]
        struct Id {
            id: u64,
        }
        let Ok(Id { id }) = serde_json::from_slice(line) else { return false };
        if let Some(waiter) = self.take(id) {
            drop(waiter.answer.send(Err(Fault::garbled("the child's answer is no JSON-RPC response"))));
        }
        true
    }
}

/// Forgets a request whose answer nobody waits for, and tells the child so.
struct PendingGuard<'a> {
    shared: &'a Shared,
    id: u64,
    sent: bool,
}

impl Drop for PendingGuard<'_> {
    fn drop(&mut self) {
        let waited = self.shared.take(self.id).is_some();
        if waited && self.sent {
            self.shared.tell(ask::cancelled(self.id));
        }
    }
}

/// Writes what is queued, many messages at a time; closes the child's input when told to.
async fn write(stdin: ChildStdin, mut queue: mpsc::Receiver<Bytes>, closing: CancellationToken) {
    let mut stdin = BufWriter::with_capacity(64 << 10, stdin);
    let work = async {
        while let Some(message) = queue.recv().await {
            stdin.write_all(&message).await?;
            while let Ok(message) = queue.try_recv() {
                stdin.write_all(&message).await?;
            }
            stdin.flush().await?;
        }
        Ok::<(), std::io::Error>(())
    };
    if let Some(Err(error)) = closing.run_until_cancelled(work).await {
        tracing::debug!(%error, "a child takes no more input");
    }
}

/// Reads lines until the child's output ends.
async fn read(shared: Arc<Shared>, stdout: ChildStdout, broken: CancellationToken) {
    let mut lines = Lines::new(stdout, MAX_LINE);
    let mut noise = 0_u32;
    loop {
        match lines.next().await {
            Ok(line) if line.trim_ascii().is_empty() => {}
            Ok(line) => {
                if !shared.hear(&line) {
                    noise = noise.saturating_add(1);
                    if noise <= MAX_NOISE_LOGGED {
                        tracing::warn!(bytes = line.len(), "a child wrote a line that is no message to its output");
                    }
                }
            }
            Err(NoLine::TooLong) => {
                shared.end(format!("wrote a line longer than {MAX_LINE} bytes and was killed"));
                broken.cancel();
                return;
            }
            Err(NoLine::End) => {
                broken.cancel();
                return;
            }
        }
    }
}

/// Waits for the child's end, and brings it about where it has to be: when told to `stop`, or when its output is
/// `broken`. `closing` closes its input.
async fn mind(mut process: Process, shared: Arc<Shared>, [stop, broken, closing]: [CancellationToken; 3]) {
    let how = tokio::select! {
        how = process.wait() => how,
        () = stop.cancelled() => process.end(&closing).await,
        // Without output it is of no use: it has a moment to leave by itself, so that its exit status can be told.
        () = broken.cancelled() => {
            if shared.ended.get().is_some() { process.kill().await } else { process.end(&closing).await }
        }
    };
    closing.cancel();
    stop.cancel();
    shared.end(how);
}
