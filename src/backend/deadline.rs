//! How long a call may take: from activity to activity, and in all.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::Deserialize;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::domain::json::Json;

/// A larger notification is dropped: progress is a number and a sentence. Bytes.
const MAX_PROGRESS: usize = 64 * 1024;

/// A call's time limits. Clones share the last moment of activity.
#[derive(Debug, Clone)]
pub(crate) struct Deadline {
    start: Instant,
    idle: Duration,
    hard: Duration,
    /// Milliseconds from `start` to the last progress.
    active: Arc<AtomicU64>,
}

impl Deadline {
    /// Starts now: at most `idle` without progress, at most `hard` in all.
    pub(crate) fn start(idle: Duration, hard: Duration) -> Self {
        Self { start: Instant::now(), idle: idle.min(hard), hard, active: Arc::default() }
    }

    /// The backend gave a sign of progress.
    pub(crate) fn touch(&self) {
        let now = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.active.fetch_max(now, Ordering::Relaxed);
    }

    fn end(&self) -> Instant {
        let active = Duration::from_millis(self.active.load(Ordering::Relaxed));
        self.start + (active + self.idle).min(self.hard)
    }

    /// Runs `future`, dropping it when the time is over.
    ///
    /// # Errors
    /// [`Elapsed`] where the time was over first.
    pub(crate) async fn bound<F: Future>(&self, future: F) -> Result<F::Output, Elapsed> {
        let mut future = pin!(future);
        loop {
            let end = self.end();
            match tokio::time::timeout_at(end, future.as_mut()).await {
                Ok(output) => return Ok(output),
                Err(_) if self.end() > end => {}
                Err(_) => return Err(Elapsed),
            }
        }
    }
}

/// The time is over.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Elapsed;

/// Where the progress of one call goes. A sink that is full loses progress, never the call.
#[derive(Debug, Clone)]
pub(crate) struct Progress {
    pub deadline: Deadline,
    pub sink: mpsc::Sender<Json>,
    /// Bits of the last value passed on: what does not grow is dropped.
    last: Arc<AtomicU64>,
}

impl Progress {
    pub(crate) fn new(deadline: Deadline, sink: mpsc::Sender<Json>) -> Self {
        Self { deadline, sink, last: Arc::new(AtomicU64::new(f64::NEG_INFINITY.to_bits())) }
    }

    /// Takes the `params` of `notifications/progress`, where they belong to the request `id`.
    pub(crate) fn take(&self, id: u64, params: Json) {
        #[derive(Deserialize)]
        struct Params {
            #[serde(rename = "progressToken")]
            token: u64,
            progress: f64,
        }
        let Ok(told) = params.decode::<Params>() else { return };
        if params.bytes().len() > MAX_PROGRESS
            || told.token != id
            || told.progress <= f64::from_bits(self.last.load(Ordering::Relaxed))
        {
            return;
        }
        self.last.store(told.progress.to_bits(), Ordering::Relaxed);
        self.deadline.touch();
        if self.sink.try_send(params).is_err() {
            tracing::trace!("progress dropped: nobody takes it");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn progress_extends_the_time_up_to_the_hard_end() {
        let deadline = Deadline::start(Duration::from_millis(20), Duration::from_millis(60));
        let other = deadline.clone();
        let work = async move {
            loop {
                tokio::time::sleep(Duration::from_millis(2)).await;
                other.touch();
            }
        };
        let before = Instant::now();
        assert!(deadline.bound(work).await.is_err());
        assert!(before.elapsed() >= Duration::from_millis(55), "{:?}", before.elapsed());
    }

    #[tokio::test]
    async fn silence_ends_at_the_idle_limit() {
        let deadline = Deadline::start(Duration::from_millis(10), Duration::from_secs(60));
        assert!(deadline.bound(std::future::pending::<()>()).await.is_err());
    }

    #[tokio::test]
    async fn only_growing_progress_of_the_own_token_passes() {
        let (sink, mut rest) = mpsc::channel(8);
        let progress = Progress::new(Deadline::start(Duration::from_secs(1), Duration::from_secs(1)), sink);
        for text in [
            r#"{"progressToken":7,"progress":1}"#,
            r#"{"progressToken":8,"progress":2}"#,
            r#"{"progressToken":7,"progress":1}"#,
            r#"{"progressToken":7,"progress":3.5,"message":"x"}"#,
        ] {
            progress.take(7, Json::from_parts(text.into()));
        }
        drop(progress);
        let mut seen = Vec::new();
        while let Some(params) = rest.recv().await {
            seen.push(params.value()["progress"].as_f64().unwrap());
        }
        assert_eq!(seen, [1.0, 3.5]);
    }
}
