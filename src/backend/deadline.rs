//! How long a call may take: from activity to activity, and in all.

use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Deserialize;
use tokio::time::Instant;

use super::asides::Asides;
use super::places::{Places, Taken};
use crate::domain::json::Json;

/// A larger notification is dropped: progress is a number and a sentence. Bytes.
const MAX_PROGRESS: usize = 64 * 1024;
pub(crate) const PROGRESS: &str = "notifications/progress";

/// A call's time limits. Clones share what its time went for.
#[derive(Debug, Clone)]
pub(crate) struct Deadline {
    start: Instant,
    idle: Duration,
    hard: Duration,
    course: Arc<Course>,
    /// The call's place at its server, which others have while the client is asked.
    place: Option<Arc<Place>>,
}

/// A place among the calls in flight at a server.
#[derive(Debug)]
pub(crate) struct Place {
    places: Places,
    taken: Mutex<Option<Taken>>,
}

impl Place {
    fn slot(&self) -> MutexGuard<'_, Option<Taken>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What happened meanwhile. Milliseconds.
#[derive(Debug, Default)]
struct Course {
    /// From the start to the last progress.
    active: AtomicU64,
    /// How many stop the time just now: while the client is asked, the backend cannot answer.
    holders: AtomicU64,
    /// For how long it was stopped.
    held: AtomicU64,
}

/// Stops the time while it lives.
#[derive(Debug)]
pub(crate) struct Hold {
    deadline: Deadline,
    since: Instant,
}

impl Hold {
    /// Lets the time go on, once the call has a place at its server again.
    pub(crate) async fn over(self) {
        let last = self.deadline.course.holders.load(Ordering::Relaxed) <= 1;
        if let Some(place) = self.deadline.place.as_ref().filter(|_| last)
            && place.slot().is_none()
            && let Some(taken) = place.places.take().await
        {
            place.slot().get_or_insert(taken);
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let lasted = u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.deadline.course.held.fetch_add(lasted, Ordering::Relaxed);
        self.deadline.course.holders.fetch_sub(1, Ordering::Relaxed);
    }
}

/// How often a deadline that is held looks whether it still is.
const LOOK: Duration = Duration::from_secs(1);

impl Deadline {
    /// Starts now: at most `idle` without progress, at most `hard` in all.
    pub(crate) fn start(idle: Duration, hard: Duration) -> Self {
        let (course, place) = Default::default();
        Self { start: Instant::now(), idle: idle.min(hard), hard, course, place }
    }

    /// The same for a call that has this place, for as long as this or a clone of it lives.
    pub(crate) fn at(self, places: Places, taken: Taken) -> Self {
        let place = Place { places, taken: Mutex::new(Some(taken)) };
        Self { place: Some(Arc::new(place)), ..self }
    }

    /// The backend gave a sign of progress.
    pub(crate) fn touch(&self) {
        let now = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.course.active.fetch_max(now, Ordering::Relaxed);
    }

    /// Stops the time for as long as the result lives.
    pub(crate) fn hold(&self) -> Hold {
        self.course.holders.fetch_add(1, Ordering::Relaxed);
        if let Some(place) = &self.place {
            place.slot().take();
        }
        Hold { deadline: self.clone(), since: Instant::now() }
    }

    /// How long it was held, up to the last time that is over.
    pub(crate) fn was_held(&self) -> Duration {
        Duration::from_millis(self.course.held.load(Ordering::Relaxed))
    }

    fn end(&self) -> Instant {
        if self.course.holders.load(Ordering::Relaxed) > 0 {
            return Instant::now() + LOOK;
        }
        let active = Duration::from_millis(self.course.active.load(Ordering::Relaxed));
        self.start + (active + self.idle).min(self.hard) + self.was_held()
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
    pub sink: Asides,
    /// Bits of the last value passed on: what does not grow is dropped.
    last: Arc<AtomicU64>,
}

impl Progress {
    pub(crate) fn new(deadline: Deadline, sink: Asides) -> Self {
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
        self.sink.tell(PROGRESS, Some(params));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::asides::{Aside, asides};

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
        let (sink, mut rest) = asides(8);
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
        while let Some(Aside::Notification { params: Some(params), .. }) = rest.recv().await {
            seen.push(params.value()["progress"].as_f64().unwrap());
        }
        assert_eq!(seen, [1.0, 3.5]);
    }

    #[tokio::test(start_paused = true)]
    async fn the_time_stands_still_while_it_is_held() {
        let deadline = Deadline::start(Duration::from_secs(10), Duration::from_secs(20));
        let asked = deadline.clone();
        let work = async move {
            tokio::time::sleep(Duration::from_secs(5)).await;
            let held = asked.hold();
            tokio::time::sleep(Duration::from_secs(300)).await;
            drop(held);
            tokio::time::sleep(Duration::from_secs(4)).await;
        };
        assert!(deadline.bound(work).await.is_ok());
        let more = tokio::time::sleep(Duration::from_secs(60));
        assert!(deadline.bound(more).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_waits_so_long_for_its_client_and_no_longer_however_often_it_asks() {
        let deadline = Deadline::start(Duration::from_secs(10), Duration::from_secs(20));
        let (asides, _heard) = asides(16);
        let began = Instant::now();
        for _ in 0..5 {
            let mut reply = asides.put("roots/list", None).unwrap();
            assert!(crate::backend::asides::answer(&mut reply, Some(&deadline)).await.is_err());
        }
        assert!(began.elapsed() <= crate::backend::PATIENCE + Duration::from_secs(1), "{:?}", began.elapsed());
    }
}
