//! What waits to be written, and whose turn it is to write.
//!
//! Where nobody writes, the call that brings an entry takes the turn: it lets whoever is ready bring theirs, commits
//! them together, and gives the turn to one of those that came meanwhile. So a commit wakes no thread. Whatever may
//! have to wait for the disk is left to the writer's thread.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use super::StoreError;
use super::audit::Row;
use super::transaction::{Reply, Work};
use super::writer::Gauges;

/// Writes that may wait. More than calls in flight; a queue this long means that the disk stands still.
const QUEUE: usize = 8192;
/// Jobs of one transaction.
pub(super) const BATCH: usize = 512;

pub(super) enum Job {
    /// An audit entry whose writer waits for the commit; without a word to give, it has the turn or has gone.
    Append(Arc<Row>, Option<oneshot::Sender<Word>>),
    /// An audit entry that nobody waits for: where it cannot be written now, it is kept and tried again.
    AppendLater(Arc<Row>),
    Task(Box<dyn Work>),
    /// Writes what is queued, checkpoints and ends the thread.
    Stop(Reply<()>),
}

impl Job {
    const fn is_entry(&self) -> bool {
        matches!(self, Self::Append(..) | Self::AppendLater(_))
    }
}

/// What a call that waits is told.
pub(super) enum Word {
    Committed(Result<(), StoreError>),
    /// The turn is yours.
    Turn,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Turn {
    Nobody,
    Call,
    Thread,
}

struct State {
    jobs: VecDeque<Job>,
    turn: Turn,
    closed: bool,
}

pub(super) struct Queue {
    state: Mutex<State>,
    /// Where the thread waits for its turn.
    called: Condvar,
    /// Whether calls may write; where a commit waits for the disk they may not.
    calls_write: bool,
    gauges: Arc<Gauges>,
}

/// The place of a call that has queued its entry.
pub(super) enum Place<'a> {
    Turn(HasTurn<'a>),
    Waiting(Waiting<'a>),
}

/// Whoever holds this writes; dropped, the turn passes on.
pub(super) struct HasTurn<'a>(&'a Queue);

impl Drop for HasTurn<'_> {
    fn drop(&mut self) {
        self.0.pass_on();
    }
}

/// A call whose entry is queued. One that goes away meanwhile leaves the entry, and no turn behind.
pub(super) struct Waiting<'a> {
    queue: &'a Queue,
    word: oneshot::Receiver<Word>,
}

impl<'a> Waiting<'a> {
    /// Waits for the commit, or for the turn.
    pub(super) async fn end(mut self) -> Result<Result<(), StoreError>, HasTurn<'a>> {
        match (&mut self.word).await {
            Ok(Word::Committed(result)) => Ok(result),
            Ok(Word::Turn) => Err(HasTurn(self.queue)),
            Err(_) => Ok(Err(StoreError::Closed)),
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.word.close();
        if matches!(self.word.try_recv(), Ok(Word::Turn)) {
            self.queue.pass_on();
        }
    }
}

impl Queue {
    pub(super) fn new(calls_write: bool, gauges: Arc<Gauges>) -> Self {
        let state = State { jobs: VecDeque::new(), turn: Turn::Nobody, closed: false };
        Self { state: Mutex::new(state), called: Condvar::new(), calls_write, gauges }
    }

    /// Queues a job for whoever writes next.
    pub(super) fn put(&self, job: Job) -> Result<(), StoreError> {
        let mut state = self.lock();
        if state.closed {
            return Err(StoreError::Closed);
        }
        if state.jobs.len() >= QUEUE && !matches!(job, Job::Stop(_)) {
            return Err(StoreError::Busy);
        }
        state.jobs.push_back(job);
        if state.turn == Turn::Nobody {
            self.call_thread(&mut state);
        }
        Ok(())
    }

    /// Queues an entry whose writer waits; where nobody writes, it is that call's turn.
    pub(super) fn join(&self, row: Arc<Row>) -> Result<Place<'_>, StoreError> {
        let mut state = self.lock();
        if state.turn == Turn::Nobody && !state.closed && self.calls_may_write() {
            state.turn = Turn::Call;
            state.jobs.push_back(Job::Append(row, None));
            return Ok(Place::Turn(HasTurn(self)));
        }
        drop(state);
        let (say, word) = oneshot::channel();
        self.put(Job::Append(row, Some(say)))?;
        Ok(Place::Waiting(Waiting { queue: self, word }))
    }

    /// How many jobs wait.
    pub(super) fn len(&self) -> usize {
        self.lock().jobs.len()
    }

    /// Moves what is queued into `batch`, up to a full one.
    pub(super) fn take(&self, batch: &mut Vec<Job>) {
        let mut state = self.lock();
        let count = state.jobs.len().min(BATCH);
        batch.extend(state.jobs.drain(..count));
    }

    /// As [`Self::take`], for a call: false where the thread has to write.
    pub(super) fn take_entries(&self, batch: &mut Vec<Job>) -> bool {
        let mut state = self.lock();
        let count = state.jobs.len().min(BATCH);
        let fit = self.calls_may_write() && state.jobs.iter().take(count).all(Job::is_entry);
        if fit {
            batch.extend(state.jobs.drain(..count));
        }
        fit
    }

    /// Leaves the turn of a call, and what it had taken, to the thread; the call waits like the others.
    pub(super) fn leave_to_thread<'a>(
        &'a self,
        turn: HasTurn<'a>,
        row: &Arc<Row>,
        batch: &mut Vec<Job>,
    ) -> Waiting<'a> {
        let (say, word) = oneshot::channel();
        let mut state = self.lock();
        while let Some(job) = batch.pop() {
            state.jobs.push_front(job);
        }
        let mut say = Some(say);
        for job in &mut state.jobs {
            if let Job::Append(other, its) = job
                && Arc::ptr_eq(other, row)
            {
                *its = say.take();
            }
        }
        self.call_thread(&mut state);
        drop(state);
        std::mem::forget(turn);
        Waiting { queue: self, word }
    }

    /// Waits until it is the thread's turn.
    pub(super) fn wait_for_turn(&self) {
        let state = self.lock();
        let turn = self.called.wait_while(state, |state| state.turn != Turn::Thread);
        drop(turn.unwrap_or_else(PoisonError::into_inner));
    }

    /// Gives the turn to a call that waits, else to the thread, else to nobody.
    pub(super) fn pass_on(&self) {
        let mut state = self.lock();
        if state.jobs.is_empty() {
            state.turn = Turn::Nobody;
            return;
        }
        if self.calls_may_write() {
            for job in state.jobs.iter_mut().take(BATCH) {
                match job {
                    Job::Append(_, say) => {
                        if say.take().is_some_and(|say| say.send(Word::Turn).is_ok()) {
                            state.turn = Turn::Call;
                            return;
                        }
                    }
                    Job::AppendLater(_) => {}
                    Job::Task(_) | Job::Stop(_) => break,
                }
            }
        }
        self.call_thread(&mut state);
    }

    /// Takes nothing any more.
    pub(super) fn close(&self) {
        self.lock().closed = true;
    }

    /// Takes nothing any more and forgets what waits: nobody is left to write it.
    pub(super) fn abandon(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.jobs.clear();
    }

    fn calls_may_write(&self) -> bool {
        self.calls_write && !self.gauges.failing.load(Ordering::Relaxed) && !self.gauges.log_is_long()
    }

    fn call_thread(&self, state: &mut State) {
        state.turn = Turn::Thread;
        self.called.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
