//! Floor 4: spans and metrics for others to collect, over OTLP (protobuf over HTTP).
//!
//! A call hands over what became of it when it has ended, and never waits: what finds no place is dropped and counted.
//! Spans are made of that afterwards, so a call carries no more than the ids of its spans. Nothing of arguments or
//! results is in them.

mod meter;
mod post;
mod span;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use futures_util::future::BoxFuture;
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::meter::Meters;
use self::post::{Delivery, Receiver, Sent};
use self::span::Anchor;
use crate::config::telemetry::TelemetrySettings;
use crate::domain::call::Entrance;
use crate::domain::clock::Clock;
use crate::domain::id::EventId;
use crate::domain::tool::{Kind, Tool};
use crate::domain::trace::{Context, Noted, Provenance};

/// Ended calls that wait to be made spans of.
const WAITING: usize = 8192;
/// Spans that wait to be sent; while the receiver is away, more are dropped.
const KEPT: usize = 8192;
/// Spans of one request.
const BATCH: usize = 1024;
/// How often what waits is sent.
const EVERY: Duration = Duration::from_secs(5);

/// A call that has ended, as telemetry sees it.
#[derive(Debug)]
pub struct Ended {
    /// Its own span.
    pub context: Context,
    /// The span that it belongs to: the client's, or that of the call that made it.
    pub parent: Option<Context>,
    pub provenance: Provenance,
    pub entrance: Entrance,
    pub kind: Kind,
    /// Where one was found.
    pub tool: Option<Arc<Tool>>,
    /// [`Clock::ticks`] at its beginning and its end.
    pub began: u64,
    pub ended: u64,
    /// In one word, why there was no good answer.
    pub error: Option<&'static str>,
    pub decision: &'static str,
    pub policy: Arc<str>,
    pub event: EventId,
    pub noted: Noted,
}

/// A handle on the exporter; cheap to clone.
#[derive(Debug, Clone)]
pub struct Telemetry(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    ended: mpsc::Sender<Ended>,
    sampling: f64,
    clock: Arc<dyn Clock>,
    losses: Arc<Losses>,
    tasks: TaskTracker,
    stop: CancellationToken,
    give_up: CancellationToken,
}

impl Telemetry {
    /// Begins to export. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// Where no connection could ever be made.
    pub fn start(settings: &TelemetrySettings, clock: Arc<dyn Clock>) -> Result<Self, String> {
        let receiver = Receiver::new(settings)?;
        let (ended, calls) = mpsc::channel(WAITING);
        let (tasks, stop, give_up) = (TaskTracker::new(), CancellationToken::new(), CancellationToken::new());
        let (receiver, meters) = (Arc::new(receiver), Meters::new(clock.now()));
        let losses = Arc::<Losses>::default();
        let (its_clock, its_losses) = (Arc::clone(&clock), Arc::clone(&losses));
        let exporter = Exporter { receiver, meters, clock: its_clock, losses: its_losses, spans: Vec::new() };
        let (stopped, given_up) = (stop.clone(), give_up.clone());
        tasks.spawn(async move {
            let _whole = given_up.run_until_cancelled(exporter.run(calls, stopped)).await;
        });
        tasks.close();
        Ok(Self(Arc::new(Inner { ended, sampling: settings.sampling, clock, losses, tasks, stop, give_up })))
    }

    /// The span of a call that begins: within the trace that it brings, as that was chosen to be sent or not; else in a
    /// trace of its own.
    #[must_use]
    pub fn begin(&self, brought: Option<Context>) -> Context {
        match brought {
            Some(parent) => parent.child(),
            None => {
                let fresh = Context::fresh(false);
                Context { sampled: fresh.lot() < self.0.sampling, ..fresh }
            }
        }
    }

    /// [`Clock::ticks`], for the two ends of a call.
    #[must_use]
    pub fn ticks(&self) -> u64 {
        self.0.clock.ticks()
    }

    /// Takes a call that has ended. Never waits.
    pub fn ended(&self, call: Ended) {
        if self.0.ended.try_send(call).is_err() {
            self.0.losses.add(1);
        }
    }

    /// Spans that were lost.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.0.losses.0.load(Ordering::Relaxed)
    }

    /// Sends what waits, for at most `patience`; what came later is dropped.
    pub async fn stop(&self, patience: Duration) {
        self.0.stop.cancel();
        if tokio::time::timeout(patience, self.0.tasks.wait()).await.is_err() {
            tracing::warn!("the last spans and metrics could not be sent in time");
            self.0.give_up.cancel();
            self.0.tasks.wait().await;
        }
    }
}

/// The exporter of the moment, if there is one.
#[derive(Debug)]
pub struct Exporting {
    current: ArcSwapOption<Telemetry>,
    clock: Arc<dyn Clock>,
    /// Where the ends of exporters are awaited that another has replaced.
    tasks: TaskTracker,
}

impl Exporting {
    /// None yet. `tasks` is where exporters that another replaces come to their end.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>, tasks: TaskTracker) -> Self {
        Self { current: ArcSwapOption::empty(), clock, tasks }
    }

    /// The exporter that calls begin with now.
    #[must_use]
    pub fn current(&self) -> Option<Telemetry> {
        self.current.load().as_deref().cloned()
    }

    /// From now on exports as these settings say. The exporter before has what was begun with it, sends that, and ends. A
    /// receiver that cannot be used is told of, and no reason not to serve.
    pub fn follow(&self, settings: Option<&TelemetrySettings>) {
        let started = settings.map(|settings| Telemetry::start(settings, Arc::clone(&self.clock)));
        let next = started.transpose().unwrap_or_else(|why| {
            tracing::error!(why, "spans and metrics are not sent");
            None
        });
        if let Some(before) = self.current.swap(next.map(Arc::new)) {
            // It ends when the last call lets go of it.
            let ending = before.0.tasks.clone();
            drop(before);
            self.tasks.spawn(async move { ending.wait().await });
        }
    }
}

/// Counts spans that are lost, here and for Prometheus.
#[derive(Debug, Default)]
struct Losses(AtomicU64);

impl Losses {
    fn add(&self, count: usize) {
        let count = u64::try_from(count).unwrap_or(u64::MAX);
        self.0.fetch_add(count, Ordering::Relaxed);
        metrics::counter!("toolgate_telemetry_dropped_total").increment(count);
    }
}

/// Makes spans and metrics, and sends them.
struct Exporter {
    receiver: Arc<Receiver>,
    meters: Meters,
    clock: Arc<dyn Clock>,
    losses: Arc<Losses>,
    spans: Vec<opentelemetry_proto::tonic::trace::v1::Span>,
}

impl Exporter {
    async fn run(mut self, mut calls: mpsc::Receiver<Ended>, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut sending, mut many) = (None, Vec::new());
        loop {
            let mut due = false;
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                sent = settled(&mut sending) => {
                    sending = None;
                    self.sent(sent);
                }
                _ = ticks.tick() => due = true,
                // Nobody is left to send anything.
                count = calls.recv_many(&mut many, BATCH) => if count == 0 { break },
            }
            self.take(&mut many);
            if sending.is_none() && (due || self.spans.len() >= BATCH) {
                sending = self.batch();
            }
        }
        if sending.is_some() {
            let sent = settled(&mut sending).await;
            self.sent(sent);
        }
        calls.close();
        while calls.recv_many(&mut many, BATCH).await > 0 {
            self.take(&mut many);
        }
        while let Some(batch) = self.batch() {
            let sent = batch.await;
            if sent.outcome != Delivery::Taken {
                self.losses.add(sent.spans.len().saturating_add(self.spans.len()));
                return;
            }
        }
    }

    fn take(&mut self, calls: &mut Vec<Ended>) {
        let anchor = Anchor::now(&*self.clock);
        for call in calls.drain(..) {
            self.meters.record(&call);
            if !call.context.sampled {
                continue;
            }
            if self.spans.len() >= KEPT {
                self.losses.add(1 + call.noted.attempts.len());
            } else {
                self.spans.extend(span::of(&call, &anchor));
            }
        }
    }

    /// The next request, if there is anything to tell.
    fn batch(&mut self) -> Option<BoxFuture<'static, Sent>> {
        let count = self.spans.len().min(BATCH);
        let spans: Vec<_> = self.spans.drain(..count).collect();
        let metrics = self.meters.export(self.clock.now());
        if spans.is_empty() && metrics.is_empty() {
            return None;
        }
        let receiver = Arc::clone(&self.receiver);
        Some(Box::pin(async move { receiver.send(spans, metrics).await }))
    }

    /// What could not be sent for now goes first next time; what is refused is lost.
    fn sent(&mut self, sent: Sent) {
        match sent.outcome {
            Delivery::Taken => {}
            Delivery::Refused => self.losses.add(sent.spans.len()),
            Delivery::Away => {
                self.meters.tell_again();
                let room = KEPT.saturating_sub(self.spans.len()).min(sent.spans.len());
                self.losses.add(sent.spans.len() - room);
                self.spans.splice(0..0, sent.spans.into_iter().take(room));
            }
        }
    }
}

/// What became of the request that is under way; never, where none is.
async fn settled(sending: &mut Option<BoxFuture<'static, Sent>>) -> Sent {
    match sending {
        Some(sending) => sending.await,
        None => std::future::pending().await,
    }
}
