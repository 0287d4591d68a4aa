//! A stream of events that can be taken up again where it broke off (MCP 2025-11-25, "Resumability and Redelivery").

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// Streams of one session that can be taken up again, and how long after their end, or after their last reader has gone.
const MAX_TAPES: usize = 16;
const KEPT: Duration = Duration::from_secs(60);
/// How often a stream that belongs to no request looks whether somebody reads it.
const LOOK: Duration = Duration::from_secs(1);
/// Events and bytes that one stream keeps, its youngest: older ones go for them, whether they were taken or not.
const MAX_EVENTS: usize = 1024;
const MAX_BYTES: usize = 4 << 20;
/// Bytes that all streams keep, and that one keeps once its client has read it to the end.
const MAX_OF_ALL: usize = 256 << 20;
const MAX_READ: usize = 64 << 10;
static OF_ALL: AtomicUsize = AtomicUsize::new(0);
/// Milliseconds after which a client should come again.
const RETRY: u64 = 1000;

/// The events of one stream, each with an id.
#[derive(Debug)]
pub struct Tape {
    number: u64,
    inner: Mutex<Inner>,
    changed: Notify,
    /// Who reads it now.
    readers: AtomicUsize,
    /// Of a stream that belongs to no request: falls when its client has begun another in its place.
    left: Option<CancellationToken>,
}

/// The streams of one session that can be taken up again.
#[derive(Debug, Default)]
pub(super) struct Tapes(Mutex<HashMap<u64, Arc<Tape>>>);

impl Tapes {
    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Arc<Tape>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Another one; `None` where there are too many. Of a stream that belongs to no request those before that nobody reads
    /// are given up for it.
    pub(super) fn begin(&self, now: u64, ambient: bool) -> Option<Arc<Tape>> {
        let mut tapes = self.lock();
        let goes = |tape: &Tape| tape.is_over(now) || (ambient && tape.give_up());
        tapes.retain(|_, tape| !goes(tape));
        if tapes.len() >= MAX_TAPES {
            return None;
        }
        // By chance: what a client remembers of a stream from before a restart is not to be another's.
        let (number, _) = uuid::Uuid::new_v4().as_u64_pair();
        let tape = Tape::new(number, ambient);
        tapes.insert(number, Arc::clone(&tape));
        Some(tape)
    }

    pub(super) fn get(&self, number: u64) -> Option<Arc<Tape>> {
        self.lock().get(&number).cloned()
    }

    /// Forgets the streams that ended a while ago.
    pub(super) fn sweep(&self, now: u64) {
        self.lock().retain(|_, tape| !tape.is_over(now));
    }
}

/// Somebody who reads a stream.
#[derive(Debug)]
pub struct Reader(Arc<Tape>);

impl Drop for Reader {
    fn drop(&mut self) {
        self.0.readers.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Reader {
    pub async fn read(&self, after: Option<u64>) -> Option<(Bytes, u64)> {
        let read = self.0.read(after).await;
        if read.is_none() {
            self.0.was_read();
        }
        read
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.clear();
    }
}

impl Inner {
    fn clear(&mut self) {
        self.events.clear();
        OF_ALL.fetch_sub(std::mem::take(&mut self.bytes), Ordering::AcqRel);
    }

    /// Lets the oldest event go.
    fn forget_one(&mut self) -> bool {
        let Some((_, event)) = self.events.pop_front() else { return false };
        self.bytes -= event.len();
        OF_ALL.fetch_sub(event.len(), Ordering::AcqRel);
        true
    }
}

#[derive(Debug, Default)]
struct Inner {
    events: VecDeque<(u64, Bytes)>,
    bytes: usize,
    next: u64,
    ended: bool,
    /// Clock ticks of its end.
    ended_at: u64,
}

impl Tape {
    /// A stream that begins with an event that says nothing but where it is.
    fn new(number: u64, ambient: bool) -> Arc<Self> {
        let (inner, changed, readers) = (Mutex::default(), Notify::new(), AtomicUsize::new(0));
        let tape = Self { number, inner, changed, readers, left: ambient.then(CancellationToken::new) };
        tape.write(format!("retry: {RETRY}\ndata: \n\n").as_bytes());
        Arc::new(tape)
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, event: &[u8]) {
        let mut text = Vec::with_capacity(event.len() + 48);
        text.extend_from_slice(self.label().as_bytes());
        text.extend_from_slice(event);
        self.put(Bytes::from(text));
    }

    /// What the next event begins with: its id.
    #[must_use]
    pub fn label(&self) -> String {
        format!("id: {}/{}\n", self.number, self.inner().next)
    }

    /// Adds an event that is labelled.
    fn put(&self, event: Bytes) {
        let mut inner = self.inner();
        let at = inner.next;
        inner.next += 1;
        inner.bytes += event.len();
        OF_ALL.fetch_add(event.len(), Ordering::AcqRel);
        inner.events.push_back((at, event));
        drop(inner);
        self.changed.notify_waiters();
    }

    /// Reads it, from wherever.
    #[must_use]
    pub fn reader(self: &Arc<Self>) -> Reader {
        self.readers.fetch_add(1, Ordering::AcqRel);
        Reader(Arc::clone(self))
    }

    /// Whoever has read it to the end needs it no more; a little is kept, for a connection that broke off just then.
    fn was_read(&self) {
        let mut inner = self.inner();
        if inner.ended && inner.bytes > MAX_READ {
            inner.clear();
        }
    }

    /// Adds an event; the oldest go where there is no room for it.
    pub fn say(&self, event: &[u8]) {
        let full = {
            let mut inner = self.inner();
            let mut full = true;
            while full {
                full =
                    inner.events.len() >= MAX_EVENTS || inner.bytes + event.len() > MAX_BYTES || is_full(event.len());
                if full && !inner.forget_one() {
                    break;
                }
            }
            full && is_full(event.len())
        };
        if full {
            tracing::debug!("too much is kept for all clients; a notification is lost");
        } else if !event.is_empty() {
            self.write(event);
        }
    }

    /// Completes when nobody has read a stream that belongs to no request for a while, or its client has begun another.
    pub async fn left(&self) {
        let Some(left) = &self.left else { return std::future::pending().await };
        let mut unread = Duration::ZERO;
        while unread < KEPT {
            tokio::select! {
                () = left.cancelled() => return,
                () = tokio::time::sleep(LOOK) => {}
            }
            unread = if self.readers.load(Ordering::Acquire) == 0 { unread + LOOK } else { Duration::ZERO };
        }
    }

    /// Whether there is more of it after a position; that of a request has an end, which is told again.
    #[must_use]
    pub fn goes_on(&self, after: u64) -> bool {
        let inner = self.inner();
        self.left.is_none() || !inner.ended || inner.events.back().is_some_and(|(at, _)| *at > after)
    }

    /// Gives up a stream that belongs to no request, where nobody reads it.
    fn give_up(&self) -> bool {
        let left = self.left.as_ref().filter(|_| self.readers.load(Ordering::Acquire) == 0);
        left.inspect(|left| left.cancel()).is_some()
    }

    /// Adds the last event, which is labelled and not copied: it may hold the room that its answer takes.
    pub fn end(&self, event: Option<Bytes>, now: u64) {
        match event {
            Some(event) if is_full(event.len()) && self.readers.load(Ordering::Acquire) == 0 => {
                tracing::debug!("an answer is lost: its client has left, and too much is kept for others");
            }
            Some(event) => self.put(event),
            None => {}
        }
        let mut inner = self.inner();
        (inner.ended, inner.ended_at) = (true, now);
        drop(inner);
        self.changed.notify_waiters();
    }

    /// The first event after the position, and its own; `None` at the end of the stream.
    async fn read(&self, after: Option<u64>) -> Option<(Bytes, u64)> {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            {
                let inner = self.inner();
                let first = inner.events.partition_point(|(at, _)| after.is_some_and(|after| *at <= after));
                if let Some((at, event)) = inner.events.get(first) {
                    return Some((event.clone(), *at));
                }
                if inner.ended {
                    return None;
                }
            }
            changed.await;
        }
    }

    /// Whether it ended long ago.
    fn is_over(&self, now: u64) -> bool {
        let inner = self.inner();
        inner.ended && Duration::from_micros(now.saturating_sub(inner.ended_at)) >= KEPT
    }
}

fn is_full(more: usize) -> bool {
    OF_ALL.load(Ordering::Acquire) + more > MAX_OF_ALL
}

/// The stream and the position that a `Last-Event-ID` names.
#[must_use]
pub fn position(id: &str) -> Option<(u64, u64)> {
    let (number, at) = id.split_once('/')?;
    Some((number.parse().ok()?, at.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_stream_goes_on_after_any_of_its_events() {
        let tape = Tape::new(7, false);
        tape.say(b"data: 1\n\n");
        tape.end(Some(Bytes::from(format!("{}data: 2\n\n", tape.label()))), 5);
        let (first, at) = tape.read(None).await.unwrap();
        assert_eq!((&first[..], at), (&b"id: 7/0\nretry: 1000\ndata: \n\n"[..], 0));
        let (last, at) = tape.read(position("7/1").map(|(_, at)| at)).await.unwrap();
        assert_eq!((&last[..], at), (&b"id: 7/2\ndata: 2\n\n"[..], 2));
        assert_eq!(tape.read(Some(2)).await, None);
        let kept = u64::try_from(KEPT.as_micros()).unwrap();
        assert!(!tape.is_over(kept + 4) && tape.is_over(kept + 5));
    }

    #[tokio::test]
    async fn whoever_waits_hears_what_comes_and_a_full_stream_keeps_its_answer() {
        let tape = Tape::new(1, false);
        let reader = Arc::clone(&tape);
        let waiting = async move { reader.read(Some(0)).await };
        let saying = async {
            tokio::task::yield_now().await;
            tape.say(b"data: 1\n\n");
        };
        let (heard, ()) = tokio::join!(waiting, saying);
        assert_eq!(&heard.unwrap().0[..], b"id: 1/1\ndata: 1\n\n");
        for _ in 0..2 * MAX_EVENTS {
            tape.say(b"data: x\n\n");
        }
        tape.end(Some(Bytes::from_static(b"data: answer\n\n")), 0);
        let mut last = None;
        let (mut at, mut read) = (None, 0);
        while let Some((event, position)) = tape.read(at).await {
            (last, at, read) = (Some(event), Some(position), read + 1);
        }
        assert!(last.unwrap().ends_with(b"data: answer\n\n"));
        assert!(read <= MAX_EVENTS + 1, "{read}");
    }

    #[tokio::test]
    async fn whoever_reads_misses_nothing_however_long_it_lasts() {
        let tape = Tape::new(1, false);
        let reader = tape.reader();
        let (_, mut at) = reader.read(None).await.unwrap();
        for _ in 0..3 * MAX_EVENTS {
            tape.say(&[b'x'; 4096]);
            let (_, next) = reader.read(Some(at)).await.unwrap();
            assert_eq!(next, at + 1);
            at = next;
        }
        let large = vec![b'x'; MAX_BYTES];
        tape.say(&large);
        assert!(reader.read(Some(at)).await.unwrap().0.ends_with(&large), "one that fills it takes the place of all");
        assert!(tape.inner().bytes <= MAX_BYTES + 64);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_of_no_request_waits_for_its_reader_a_while() {
        let tapes = Tapes::default();
        let tape = tapes.begin(0, true).unwrap();
        let reader = tape.reader();
        assert!(tokio::time::timeout(KEPT * 3, tape.left()).await.is_err(), "it is read");
        drop(reader);
        let began = tokio::time::Instant::now();
        tape.left().await;
        assert!(began.elapsed() >= KEPT && began.elapsed() < KEPT + LOOK * 2);
        assert!(tape.goes_on(0));
        tape.end(None, 0);
        assert!(!tape.goes_on(0) && Tape::new(2, false).goes_on(0));
        // A new one takes the place of one that nobody reads, and of no other.
        let (one, two) = (tapes.begin(0, true).unwrap(), tapes.begin(0, false).unwrap());
        let _reader = one.reader();
        assert!(tapes.get(tape.number).is_none());
        let three = tapes.begin(0, true).unwrap();
        assert!([&one, &two, &three].into_iter().all(|tape| tapes.get(tape.number).is_some()));
        drop((_reader, tapes.begin(0, true)));
        tokio::time::timeout(LOOK, three.left()).await.unwrap();
    }

    #[tokio::test]
    async fn a_large_answer_goes_once_it_is_read() {
        for (size, kept) in [(MAX_READ, false), (10, true)] {
            let tape = Tape::new(1, false);
            tape.end(Some(Bytes::from(format!("data: {}\n\n", "x".repeat(size)))), 0);
            let reader = tape.reader();
            let mut at = None;
            while let Some((_, position)) = reader.read(at).await {
                at = Some(position);
            }
            assert_eq!(tape.read(None).await.is_some(), kept, "{size}");
            assert_eq!(tape.inner().bytes > 0, kept);
        }
    }

    #[test]
    fn a_position_is_two_numbers() {
        assert_eq!(position("3/9"), Some((3, 9)));
        for id in ["", "3", "3/", "/9", "a/b", "3/9/1"] {
            assert_eq!(position(id), None, "{id}");
        }
    }
}
