//! A stream of events that can be taken up again where it broke off (MCP 2025-11-25, "Resumability and Redelivery").

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;

/// Events and bytes that one stream keeps. What a slow client has not taken by then is dropped, but never the answer.
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
    #[must_use]
    pub fn new(number: u64) -> Arc<Self> {
        let tape = Self { number, inner: Mutex::default(), changed: Notify::new(), readers: AtomicUsize::new(0) };
        tape.write(format!("retry: {RETRY}\ndata: \n\n").as_bytes());
        Arc::new(tape)
    }

    #[must_use]
    pub const fn number(&self) -> u64 {
        self.number
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, event: &[u8]) {
        let mut inner = self.inner();
        let at = inner.next;
        let mut text = Vec::with_capacity(event.len() + 24);
        text.extend_from_slice(format!("id: {}/{at}\n", self.number).as_bytes());
        text.extend_from_slice(event);
        inner.next += 1;
        inner.bytes += text.len();
        OF_ALL.fetch_add(text.len(), Ordering::AcqRel);
        inner.events.push_back((at, Bytes::from(text)));
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

    /// Adds an event, where there is room for it.
    pub fn say(&self, event: &[u8]) {
        let full = {
            let inner = self.inner();
            inner.events.len() >= MAX_EVENTS || inner.bytes + event.len() > MAX_BYTES || is_full(event.len())
        };
        if full {
            tracing::debug!("a client does not take its stream; a notification is lost");
        } else if !event.is_empty() {
            self.write(event);
        }
    }

    /// Adds the last event.
    pub fn end(&self, event: Option<&[u8]>, now: u64) {
        match event {
            Some(event) if is_full(event.len()) && self.readers.load(Ordering::Acquire) == 0 => {
                tracing::debug!("an answer is lost: its client has left, and too much is kept for others");
            }
            Some(event) => self.write(event),
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
                let next = inner.events.iter().find(|(at, _)| after.is_none_or(|after| *at > after));
                if let Some((at, event)) = next {
                    return Some((event.clone(), *at));
                }
                if inner.ended {
                    return None;
                }
            }
            changed.await;
        }
    }

    /// How long ago it ended, in clock ticks.
    pub(super) fn over_since(&self, now: u64) -> Option<u64> {
        let inner = self.inner();
        inner.ended.then(|| now.saturating_sub(inner.ended_at))
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
        let tape = Tape::new(7);
        tape.say(b"data: 1\n\n");
        tape.end(Some(b"data: 2\n\n"), 5);
        let (first, at) = tape.read(None).await.unwrap();
        assert_eq!((&first[..], at), (&b"id: 7/0\nretry: 1000\ndata: \n\n"[..], 0));
        let (last, at) = tape.read(position("7/1").map(|(_, at)| at)).await.unwrap();
        assert_eq!((&last[..], at), (&b"id: 7/2\ndata: 2\n\n"[..], 2));
        assert_eq!(tape.read(Some(2)).await, None);
        assert_eq!(tape.over_since(9), Some(4));
    }

    #[tokio::test]
    async fn whoever_waits_hears_what_comes_and_a_full_stream_keeps_its_answer() {
        let tape = Tape::new(1);
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
        tape.end(Some(b"data: answer\n\n"), 0);
        let mut last = None;
        let mut at = None;
        while let Some((event, position)) = tape.read(at).await {
            (last, at) = (Some(event), Some(position));
        }
        assert!(last.unwrap().ends_with(b"data: answer\n\n"));
        assert!(at.unwrap() <= MAX_EVENTS as u64 + 1);
    }

    #[tokio::test]
    async fn a_large_answer_goes_once_it_is_read() {
        for (size, kept) in [(MAX_READ, false), (10, true)] {
            let tape = Tape::new(1);
            tape.end(Some(format!("data: {}\n\n", "x".repeat(size)).as_bytes()), 0);
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
