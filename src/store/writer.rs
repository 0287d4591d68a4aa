//! The one thread that writes. Whatever waits in its queue is committed in one transaction, so the cost of a commit is
//! shared by all calls in flight; each waiter is woken after the commit.

use std::collections::VecDeque;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, Transaction, TransactionBehavior};
use tokio::sync::oneshot;

use super::audit::{Pen, Row, holds};
use super::checkpoint::Checkpointer;
use super::schema::open_writer;
use super::{Durability, StoreError};

/// Writes that may wait. More than calls in flight; a queue this long means that the disk stands still.
const QUEUE: usize = 8192;
/// Jobs of one transaction.
const BATCH: usize = 512;
/// Entries kept for a second try while the disk cannot be written.
const BACKLOG: usize = 1024;
/// How long a commit waits for company while other calls are in flight: their entries then share its cost. The writer
/// sleeps through it, so that whoever brings an entry need not wake it.
const LINGER: Duration = Duration::from_micros(50);
/// What a change that is no audit entry counts for, where its size is unknown.
const TASK_BYTES: usize = 4096;

type Reply<T> = oneshot::Sender<Result<T, StoreError>>;

pub(super) enum Job {
    /// An audit entry whose writer waits for the commit.
    Append(Arc<Row>, Reply<()>),
    /// An audit entry that nobody waits for: where it cannot be written now, it is kept and tried again.
    AppendLater(Arc<Row>),
    Task(Box<dyn Work>),
    /// Writes what is queued, checkpoints and ends the thread.
    Stop(Reply<()>),
}

/// A change to the store with its waiter.
pub(super) trait Work: Send {
    fn run(&mut self, transaction: &mut Transaction<'_>) -> rusqlite::Result<()>;
    fn finish(self: Box<Self>, committed: Result<(), StoreError>);
}

/// What the writer tells the others.
#[derive(Debug, Default)]
pub(super) struct Gauges {
    pub(super) failing: AtomicBool,
    pub(super) stopped: AtomicBool,
    pub(super) commits: AtomicU64,
    pub(super) lost: AtomicU64,
    /// Calls whose record is open: each will bring an entry.
    pub(super) in_flight: AtomicUsize,
}

pub(super) struct Writer {
    jobs: SyncSender<Job>,
    thread: Mutex<Option<JoinHandle<()>>>,
    pub(super) gauges: Arc<Gauges>,
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer").field("gauges", &self.gauges).finish_non_exhaustive()
    }
}

impl Writer {
    pub(super) fn start(connection: Connection, path: &Path, durability: Durability) -> Result<Self, StoreError> {
        let (jobs, queue) = sync_channel(QUEUE);
        let gauges = Arc::new(Gauges::default());
        let own = path.to_owned();
        let beside = move || open_writer(&own, durability);
        let worker = Worker {
            connection: Some(connection),
            path: path.to_owned(),
            durability,
            pen: None,
            checkpointer: Some(Checkpointer::start(beside, path)),
            backlog: VecDeque::new(),
            gauges: Arc::clone(&gauges),
        };
        let thread = thread::Builder::new().name("store-writer".into()).spawn(move || worker.run(&queue));
        let thread = thread.map_err(|error| StoreError::file(path, &error))?;
        Ok(Self { jobs, thread: Mutex::new(Some(thread)), gauges })
    }

    /// Queues a job without waiting.
    pub(super) fn send(&self, job: Job) -> Result<(), StoreError> {
        self.jobs.try_send(job).map_err(|error| match error {
            TrySendError::Full(_) => StoreError::Busy,
            TrySendError::Disconnected(_) => StoreError::Closed,
        })
    }

    /// Queues a change and waits until it is committed.
    pub(super) async fn write<T, F>(&self, act: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        let (reply, done) = oneshot::channel();
        self.send(Job::Task(Box::new(Task { act: Some(act), result: None, reply })))?;
        done.await.map_err(|_| StoreError::Closed)?
    }

    pub(super) fn is_alive(&self) -> bool {
        if self.gauges.stopped.load(Ordering::SeqCst) {
            return false;
        }
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        thread.as_ref().is_some_and(|thread| !thread.is_finished())
    }

    fn join(&self) {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the store's writer has panicked");
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let (reply, _) = oneshot::channel();
        // A thread that has ended already has nothing left to stop.
        drop(self.jobs.send(Job::Stop(reply)));
        self.join();
    }
}

struct Task<T, F> {
    act: Option<F>,
    result: Option<Result<T, StoreError>>,
    reply: Reply<T>,
}

impl<T, F> Work for Task<T, F>
where
    T: Send,
    F: FnOnce(&Connection) -> rusqlite::Result<T> + Send,
{
    /// A broken constraint is this task's own fault and undoes this task alone; every other fault is the batch's.
    fn run(&mut self, transaction: &mut Transaction<'_>) -> rusqlite::Result<()> {
        let Some(act) = self.act.take() else { return Ok(()) };
        let savepoint = transaction.savepoint()?;
        match act(&savepoint) {
            Ok(value) => {
                savepoint.commit()?;
                self.result = Some(Ok(value));
            }
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::ConstraintViolation) => {
                self.result = Some(Err(StoreError::Conflict(error.to_string().into())));
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn finish(self: Box<Self>, committed: Result<(), StoreError>) {
        let Self { result, reply, .. } = *self;
        // A waiter that has gone is nobody's loss.
        drop(reply.send(committed.and_then(|()| result.unwrap_or(Err(StoreError::Closed)))));
    }
}

struct Worker {
    /// Absent after a fault that only a new connection can heal.
    connection: Option<Connection>,
    path: PathBuf,
    durability: Durability,
    /// Absent until read from the file: at the start, and after a failed batch.
    pen: Option<Pen>,
    checkpointer: Option<Checkpointer>,
    backlog: VecDeque<Arc<Row>>,
    gauges: Arc<Gauges>,
}

impl Worker {
    fn run(mut self, queue: &Receiver<Job>) {
        let mut batch = Vec::with_capacity(BATCH);
        while let Ok(job) = queue.recv() {
            let mut stop = gather(job, queue, &mut batch);
            if stop.is_none() && self.gauges.in_flight.load(Ordering::Relaxed) > batch.len() && batch.len() < BATCH {
                thread::park_timeout(LINGER);
                stop = queue.try_recv().ok().and_then(|job| gather(job, queue, &mut batch));
            }
            self.commit(&mut batch);
            // What was queued before the end is still written.
            while stop.is_some()
                && let Ok(job) = queue.try_recv()
            {
                stop = gather(job, queue, &mut batch).or(stop);
                self.commit(&mut batch);
            }
            if let Some(reply) = stop {
                self.gauges.stopped.store(true, Ordering::SeqCst);
                drop(reply.send(self.close()));
                return;
            }
        }
    }

    /// Writes the batch, or nothing of it, and tells its waiters.
    fn commit(&mut self, batch: &mut Vec<Job>) {
        if batch.is_empty() && self.backlog.is_empty() {
            return;
        }
        let result = self.write(batch);
        match &result {
            Ok(()) => self.recovered(),
            Err(error) => self.failed(error),
        }
        let told = result.map_err(|error| StoreError::write(&error));
        for job in batch.drain(..) {
            match job {
                Job::Append(_, reply) => drop(reply.send(told.clone())),
                Job::AppendLater(row) if told.is_err() => self.keep(row),
                Job::Task(task) => task.finish(told.clone()),
                Job::AppendLater(_) | Job::Stop(_) => {}
            }
        }
    }

    fn write(&mut self, batch: &mut [Job]) -> rusqlite::Result<()> {
        let connection = match &mut self.connection {
            Some(connection) => connection,
            none => none.insert(open_writer(&self.path, self.durability)?),
        };
        let mut transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut bytes = 0;
        let mut pen = match self.pen {
            Some(pen) => pen,
            None => Pen::pick_up(&transaction)?,
        };
        for row in &self.backlog {
            // A commit that was reported as failed may have reached the disk after all.
            if !holds(&transaction, row)? {
                pen = pen.append(&transaction, row)?;
            }
        }
        for job in batch {
            match job {
                Job::Append(row, _) | Job::AppendLater(row) => {
                    pen = pen.append(&transaction, row)?;
                    bytes += row.size();
                }
                Job::Task(task) => {
                    task.run(&mut transaction)?;
                    bytes += TASK_BYTES;
                }
                Job::Stop(_) => {}
            }
        }
        transaction.commit()?;
        self.pen = Some(pen);
        if let Some(checkpointer) = &mut self.checkpointer {
            checkpointer.committed(bytes);
        }
        Ok(())
    }

    fn recovered(&mut self) {
        self.backlog.clear();
        self.gauges.commits.fetch_add(1, Ordering::Relaxed);
        if self.gauges.failing.swap(false, Ordering::SeqCst) {
            tracing::info!("the store can be written again");
        }
    }

    fn failed(&mut self, error: &rusqlite::Error) {
        self.pen = None;
        let heals_by_itself = matches!(
            error.sqlite_error_code(),
            Some(ErrorCode::DiskFull | ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked)
        );
        if !heals_by_itself {
            self.connection = None;
        }
        if !self.gauges.failing.swap(true, Ordering::SeqCst) {
            tracing::error!(%error, "the store cannot be written: no call runs until it can");
        }
    }

    fn keep(&mut self, row: Arc<Row>) {
        if self.backlog.len() < BACKLOG {
            self.backlog.push_back(row);
        } else {
            self.gauges.lost.fetch_add(1, Ordering::Relaxed);
            tracing::error!(id = %row.entry.id, "an audit entry is lost: the store has been unwritable for too long");
        }
    }

    fn close(&mut self) -> Result<(), StoreError> {
        if !self.backlog.is_empty() {
            let lost = self.backlog.len();
            tracing::error!(lost, "audit entries are lost: the store could not be written until the end");
            return Err(StoreError::Write("entries that waited for the disk are lost".into()));
        }
        self.checkpointer = None;
        let Some(connection) = self.connection.take() else { return Ok(()) };
        let checkpoint = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
        let closed = connection.close().map_err(|(_, error)| error);
        checkpoint.and(closed).map_err(|error| StoreError::write(&error))
    }
}

/// Takes what is queued, up to a full batch; where somebody asks to stop, gives whom to tell.
fn gather(first: Job, queue: &Receiver<Job>, batch: &mut Vec<Job>) -> Option<Reply<()>> {
    let mut stop = None;
    let mut next = Some(first);
    while let Some(job) = next {
        match job {
            Job::Stop(reply) => stop = Some(reply),
            job => batch.push(job),
        }
        next = if batch.len() < BATCH { queue.try_recv().ok() } else { None };
    }
    stop
}
