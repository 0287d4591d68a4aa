//! Writing: whatever waits is committed in one transaction, so the cost of a commit is shared by all calls in flight;
//! each waiter is woken after the commit. Calls write for each other; a thread writes what may have to wait.

use std::collections::VecDeque;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode};
use tokio::sync::oneshot;

use super::audit::{Pen, Row, holds};
use super::checkpoint::Checkpointer;
use super::queue::{BATCH, HasTurn, Job, Place, Queue, Waiting, Word};
use super::schema::{BUSY_PATIENCE, open_writer};
use super::transaction::{Reply, Task, Transaction};
use super::{Durability, StoreError};

/// Entries kept for a second try while the disk cannot be written.
const BACKLOG: usize = 1024;
/// How long the thread's commit waits for company while other calls are in flight: their entries then share its cost.
const LINGER: Duration = Duration::from_micros(50);
/// How often a call that writes lets others run first, as long as each time brings entries.
const ROUNDS: usize = 4;
/// Pages of write-ahead log after which the thread checkpoints what the checkpointer has left, so that the log begins
/// anew.
const LONG_LOG: u32 = 8000;
/// What a change that is no audit entry counts for, where its size is unknown.
const TASK_BYTES: usize = 4096;

/// What the writer tells the others.
#[derive(Debug, Default)]
pub(super) struct Gauges {
    pub(super) failing: AtomicBool,
    pub(super) stopped: AtomicBool,
    pub(super) commits: AtomicU64,
    pub(super) lost: AtomicU64,
    /// Calls whose record is open: each will bring an entry.
    pub(super) in_flight: AtomicUsize,
    /// Pages of the write-ahead log, as the checkpointer last saw it.
    pub(super) log_pages: AtomicU32,
}

impl Gauges {
    /// Whether a checkpoint is due that waits for the disk.
    pub(super) fn log_is_long(&self) -> bool {
        self.log_pages.load(Ordering::Relaxed) >= LONG_LOG
    }
}

pub(super) struct Writer {
    queue: Arc<Queue>,
    worker: Arc<Mutex<Worker>>,
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
        let gauges = Arc::new(Gauges::default());
        let own = path.to_owned();
        let beside = move || open_writer(&own, durability);
        let worker = Worker {
            connection: Some(connection),
            path: path.to_owned(),
            durability,
            pen: None,
            patient: true,
            checkpointer: Some(Checkpointer::start(beside, path, Arc::clone(&gauges))),
            backlog: VecDeque::new(),
            gauges: Arc::clone(&gauges),
        };
        // Only a commit that waits for no disk may run where calls run.
        let queue = Arc::new(Queue::new(durability == Durability::Process, Arc::clone(&gauges)));
        let worker = Arc::new(Mutex::new(worker));
        let (its_queue, its_worker) = (Arc::clone(&queue), Arc::clone(&worker));
        let run = move || {
            let abandon = Abandon(&its_queue);
            write_in_turn(&its_queue, &its_worker);
            drop(abandon);
        };
        let thread = thread::Builder::new().name("store-writer".into()).spawn(run);
        let thread = thread.map_err(|error| StoreError::file(path, &error))?;
        Ok(Self { queue, worker, thread: Mutex::new(Some(thread)), gauges })
    }

    /// Queues a job without waiting.
    pub(super) fn send(&self, job: Job) -> Result<(), StoreError> {
        self.queue.put(job)
    }

    /// Queues a change and waits until it is committed.
    pub(super) async fn write<T, F>(&self, act: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        self.queue(act)?.await.map_err(|_| StoreError::Closed)?
    }

    /// Queues a change; what comes of it is told when it is committed.
    pub(super) fn queue<T, F>(&self, act: F) -> Result<oneshot::Receiver<Result<T, StoreError>>, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        let (reply, done) = oneshot::channel();
        self.send(Job::Task(Box::new(Task::new(act, reply))))?;
        Ok(done)
    }

    /// Queues an entry and waits until it is committed: by another call, by the thread, or by this call itself.
    pub(super) async fn append(&self, row: Arc<Row>) -> Result<(), StoreError> {
        let mut place = self.queue.join(Arc::clone(&row))?;
        loop {
            let turn = match place {
                Place::Turn(turn) => turn,
                Place::Waiting(waiting) => match waiting.end().await {
                    Ok(result) => return result,
                    Err(turn) => turn,
                },
            };
            self.let_others_join().await;
            match self.commit(turn, &row) {
                Ok(result) => return result,
                Err(waiting) => place = Place::Waiting(waiting),
            }
        }
    }

    /// While other calls are in flight, lets those that are ready run: their entries share the commit.
    async fn let_others_join(&self) {
        let mut joined = self.queue.len();
        for _ in 0..ROUNDS {
            if joined >= BATCH || joined >= self.gauges.in_flight.load(Ordering::Relaxed) {
                return;
            }
            tokio::task::yield_now().await;
            let now = self.queue.len();
            if now == joined {
                return;
            }
            joined = now;
        }
    }

    /// Commits what is queued, the caller's own entry included; or leaves it to the thread, and the caller waits.
    fn commit<'a>(&'a self, turn: HasTurn<'a>, row: &Arc<Row>) -> Result<Result<(), StoreError>, Waiting<'a>> {
        let mut batch = Vec::new();
        if self.queue.take_entries(&mut batch) {
            let committed = lock(&self.worker).commit(&mut batch, false);
            if let Some(result) = committed {
                drop(turn);
                return Ok(result);
            }
        }
        Err(self.queue.leave_to_thread(turn, row, &mut batch))
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
        drop(self.queue.put(Job::Stop(reply)));
        self.join();
    }
}

/// Tells whoever waits that the thread is gone.
struct Abandon<'a>(&'a Queue);

impl Drop for Abandon<'_> {
    fn drop(&mut self) {
        self.0.abandon();
    }
}

fn lock(worker: &Mutex<Worker>) -> MutexGuard<'_, Worker> {
    // A batch that panicked was rolled back, and the pen is read anew.
    worker.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The thread: writes whenever it is its turn, until it is told to stop.
fn write_in_turn(queue: &Queue, worker: &Mutex<Worker>) {
    let mut batch = Vec::new();
    loop {
        queue.wait_for_turn();
        let waiting = queue.len();
        let mut worker = lock(worker);
        if worker.gauges.in_flight.load(Ordering::Relaxed) > waiting && waiting < BATCH {
            thread::park_timeout(LINGER);
        }
        queue.take(&mut batch);
        let mut stop = end_in(&mut batch);
        drop(worker.commit(&mut batch, true));
        if stop.is_some() {
            queue.close();
            // What was queued before the end is still written.
            while queue.len() > 0 {
                queue.take(&mut batch);
                stop = stop.or(end_in(&mut batch));
                drop(worker.commit(&mut batch, true));
            }
        }
        if let Some(reply) = stop {
            worker.gauges.stopped.store(true, Ordering::SeqCst);
            drop(reply.send(worker.close()));
            return;
        }
        worker.shorten_log();
        drop(worker);
        queue.pass_on();
    }
}

/// Takes the wish to stop out of a batch, where there is one: whom to tell.
fn end_in(batch: &mut Vec<Job>) -> Option<Reply<()>> {
    let at = batch.iter().position(|job| matches!(job, Job::Stop(_)))?;
    match batch.remove(at) {
        Job::Stop(reply) => Some(reply),
        _ => None,
    }
}

struct Worker {
    /// Absent after a fault that only a new connection can heal.
    connection: Option<Connection>,
    path: PathBuf,
    durability: Durability,
    /// Absent until read from the file: at the start, and after a failed batch.
    pen: Option<Pen>,
    /// Whether the connection waits for a lock that somebody else holds.
    patient: bool,
    checkpointer: Option<Checkpointer>,
    backlog: VecDeque<Arc<Row>>,
    gauges: Arc<Gauges>,
}

impl Worker {
    /// Writes the batch, or nothing of it, and tells its waiters. Without patience it may find that somebody else
    /// holds the file: then nothing is done, and the batch stays.
    fn commit(&mut self, batch: &mut Vec<Job>, patient: bool) -> Option<Result<(), StoreError>> {
        if batch.is_empty() && self.backlog.is_empty() {
            return Some(Ok(()));
        }
        let told = match self.write(batch, patient) {
            Ok(false) => return None,
            Ok(true) => {
                self.recovered();
                Ok(())
            }
            Err(error) => {
                self.failed(&error);
                Err(StoreError::write(&error))
            }
        };
        for job in batch.drain(..) {
            match job {
                // A waiter that has gone is nobody's loss.
                Job::Append(_, Some(say)) => drop(say.send(Word::Committed(told.clone()))),
                Job::AppendLater(row) if told.is_err() => self.keep(row),
                Job::Task(task) => task.finish(told.clone()),
                Job::Append(_, None) | Job::AppendLater(_) | Job::Stop(_) => {}
            }
        }
        Some(told)
    }

    /// False where somebody else holds the file, and this is not to be waited for.
    fn write(&mut self, batch: &mut [Job], patient: bool) -> rusqlite::Result<bool> {
        let connection = match &mut self.connection {
            Some(connection) => connection,
            none => {
                self.patient = true;
                none.insert(open_writer(&self.path, self.durability)?)
            }
        };
        if self.patient != patient {
            connection.busy_timeout(if patient { BUSY_PATIENCE } else { Duration::ZERO })?;
            self.patient = patient;
        }
        let transaction = match Transaction::begin(connection) {
            Err(error) if !patient && error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) => return Ok(false),
            begun => begun?,
        };
        let mut bytes = 0;
        let mut pen = match self.pen.take() {
            Some(pen) => pen,
            None => Pen::pick_up(connection)?,
        };
        for row in &self.backlog {
            // A commit that was reported as failed may have reached the disk after all.
            if !holds(connection, row)? {
                pen.append(connection, row)?;
            }
        }
        for job in batch {
            match job {
                Job::Append(row, _) | Job::AppendLater(row) => {
                    pen.append(connection, row)?;
                    bytes += row.size();
                }
                Job::Task(task) => {
                    task.run(connection)?;
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
        Ok(true)
    }

    /// Checkpoints where the log has become long: nobody writes meanwhile, so that it can begin anew.
    fn shorten_log(&self) {
        if let Some(connection) = self.connection.as_ref().filter(|_| self.gauges.log_is_long()) {
            self.gauges.log_pages.store(0, Ordering::Relaxed);
            if let Err(error) = connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(())) {
                tracing::debug!(%error, "a checkpoint failed: the next one does its work");
            }
        }
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
