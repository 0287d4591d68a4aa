//! The circuit breaker of one backend: after some failures in a row it is left alone for a while, then tried by one call.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Failures in a row that open the breaker.
const THRESHOLD: u32 = 5;
/// First and longest rest, before jitter.
const FIRST_REST: Duration = Duration::from_secs(1);
const LONGEST_REST: Duration = Duration::from_secs(30);

/// What a breaker does with calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum BreakerState {
    /// All pass.
    Closed,
    /// None passes.
    Open,
    /// One is under way to find out; the others do not pass.
    HalfOpen,
}

impl BreakerState {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half-open",
        }
    }
}

/// A breaker as others see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct BreakerView {
    pub state: BreakerState,
    /// Failures in a row.
    pub failures: u32,
    /// Seconds until the next call may pass, where none passes now.
    pub retry_after: Option<u64>,
}

/// What a call that passed has to give back. Dropped without a word, it counts as neither success nor failure.
#[derive(Debug)]
pub(crate) struct Ticket<'a> {
    cell: Option<&'a BreakerCell>,
    probe: bool,
}

/// The breaker is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Resting {
    pub retry_after: Duration,
}

/// The states and their changes; time is an argument, in microseconds.
#[derive(Debug, Clone, Default)]
struct Breaker {
    /// Failures in a row; open from [`THRESHOLD`] on.
    failures: u32,
    /// Rests since the last success.
    rests: u32,
    open_until: u64,
    probing: bool,
}

impl Breaker {
    const fn is_closed(&self) -> bool {
        self.failures < THRESHOLD
    }

    fn state(&self) -> BreakerState {
        match (self.is_closed(), self.probing) {
            (true, _) => BreakerState::Closed,
            (false, true) => BreakerState::HalfOpen,
            (false, false) => BreakerState::Open,
        }
    }

    /// True where the call that passes is the one that finds out.
    fn admit(&mut self, now: u64) -> Result<bool, Resting> {
        if self.is_closed() {
            return Ok(false);
        }
        if !self.probing && now >= self.open_until {
            self.probing = true;
            return Ok(true);
        }
        Err(Resting { retry_after: self.rest_left(now) })
    }

    fn rest_left(&self, now: u64) -> Duration {
        if self.probing { FIRST_REST } else { Duration::from_micros(self.open_until.saturating_sub(now)) }
    }

    /// True where this closed the breaker.
    fn succeeded(&mut self, probe: bool) -> bool {
        if probe || self.is_closed() {
            let closed = !self.is_closed();
            *self = Self::default();
            return closed;
        }
        false
    }

    /// `jitter` lies between 0 and 1. True where this opened the breaker.
    fn failed(&mut self, probe: bool, now: u64, jitter: f64) -> bool {
        if !probe && !self.is_closed() {
            // A call that passed before the breaker opened: old news.
            return false;
        }
        self.failures = self.failures.saturating_add(1);
        self.probing = false;
        if self.is_closed() {
            return false;
        }
        let rest = backoff(self.rests, jitter);
        self.rests = self.rests.saturating_add(1);
        self.open_until = now.saturating_add(u64::try_from(rest.as_micros()).unwrap_or(u64::MAX));
        true
    }

    /// The one call that was to find out never came to an end: another may.
    fn abandoned(&mut self, probe: bool) {
        if probe {
            self.probing = false;
        }
    }
}

/// A delay that doubles with every attempt, between half of it and all of it as `jitter` (0 to 1) says.
pub(crate) fn backoff(attempt: u32, jitter: f64) -> Duration {
    let full = FIRST_REST.saturating_mul(1 << attempt.min(10)).min(LONGEST_REST);
    full.mul_f64(0.5 + jitter.clamp(0.0, 1.0) / 2.0)
}

/// A random number between 0 and 1.
pub(crate) fn jitter() -> f64 {
    let bits = uuid::Uuid::new_v4().as_u128() & 0xffff_ffff;
    f64::from(u32::try_from(bits).unwrap_or(0)) / f64::from(u32::MAX)
}

/// A breaker that many calls use at once. While nothing fails, no lock is taken.
#[derive(Debug)]
pub(crate) struct BreakerCell {
    /// Closed and without failures.
    calm: AtomicBool,
    inner: Mutex<Breaker>,
}

impl Default for BreakerCell {
    fn default() -> Self {
        Self { calm: AtomicBool::new(true), inner: Mutex::default() }
    }
}

impl BreakerCell {
    /// Lets a call pass, or not.
    pub(crate) fn admit(&self, now: u64) -> Result<Ticket<'_>, Resting> {
        if self.calm.load(Ordering::Acquire) {
            return Ok(Ticket { cell: Some(self), probe: false });
        }
        let probe = self.lock().admit(now)?;
        Ok(Ticket { cell: Some(self), probe })
    }

    /// Closes it: the backend has been greeted anew.
    pub(crate) fn reset(&self) {
        *self.lock() = Breaker::default();
        self.calm.store(true, Ordering::Release);
    }

    pub(crate) fn view(&self, now: u64) -> BreakerView {
        let breaker = self.lock();
        let open = !breaker.is_closed();
        BreakerView {
            state: breaker.state(),
            failures: breaker.failures,
            retry_after: open.then(|| breaker.rest_left(now).as_millis().div_ceil(1000).try_into().unwrap_or(u64::MAX)),
        }
    }

    pub(crate) fn state(&self) -> BreakerState {
        if self.calm.load(Ordering::Acquire) { BreakerState::Closed } else { self.lock().state() }
    }

    fn lock(&self) -> MutexGuard<'_, Breaker> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ticket<'_> {
    /// The backend answered in good order. True where that closed the breaker.
    pub(crate) fn succeeded(mut self) -> bool {
        let Some(cell) = self.cell.take() else { return false };
        if cell.calm.load(Ordering::Acquire) {
            return false;
        }
        let mut breaker = cell.lock();
        let closed = breaker.succeeded(self.probe);
        cell.calm.store(breaker.is_closed() && breaker.failures == 0, Ordering::Release);
        closed
    }

    /// True where that opened the breaker.
    pub(crate) fn failed(mut self, now: u64) -> bool {
        let Some(cell) = self.cell.take() else { return false };
        let mut breaker = cell.lock();
        cell.calm.store(false, Ordering::Release);
        breaker.failed(self.probe, now, jitter())
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        if let Some(cell) = self.cell
            && self.probe
        {
            cell.lock().abandoned(true);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn five_failures_open_it_and_one_success_closes_it() {
        let cell = BreakerCell::default();
        for n in 0..4 {
            assert!(!cell.admit(n).unwrap().failed(n));
        }
        assert!(!cell.admit(4).unwrap().succeeded());
        for n in 0..4 {
            assert!(!cell.admit(n).unwrap().failed(n));
        }
        let late = cell.admit(5).unwrap();
        assert!(cell.admit(5).unwrap().failed(5));
        assert_eq!(cell.state(), BreakerState::Open);
        assert!(cell.admit(6).unwrap_err().retry_after >= Duration::from_millis(499));
        assert!(!late.succeeded(), "old news closes nothing");
        let after = 2_000_000;
        let probe = cell.admit(after).unwrap();
        assert_eq!(cell.state(), BreakerState::HalfOpen);
        assert!(cell.admit(after).is_err(), "a single probe");
        drop(probe);
        assert!(cell.admit(after).unwrap().succeeded());
        assert_eq!(cell.view(after), BreakerView { state: BreakerState::Closed, failures: 0, retry_after: None });
    }

    #[test]
    fn rests_double_up_to_half_a_minute() {
        assert_eq!(backoff(0, 1.0), Duration::from_secs(1));
        assert_eq!(backoff(0, 0.0), Duration::from_millis(500));
        assert_eq!(backoff(3, 1.0), Duration::from_secs(8));
        assert_eq!(backoff(99, 1.0), Duration::from_secs(30));
    }

    #[derive(Debug, Clone)]
    enum Step {
        Admit,
        Succeed,
        Fail(f64),
        Abandon,
        Wait(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => Just(Step::Admit),
            1 => Just(Step::Succeed),
            3 => (0.0..1.0).prop_map(Step::Fail),
            1 => Just(Step::Abandon),
            2 => (0_u64..40_000_000).prop_map(Step::Wait),
        ]
    }

    proptest! {
        #[test]
        fn any_history_keeps_the_rules(steps in prop::collection::vec(step(), 1..200)) {
            let mut breaker = Breaker::default();
            let mut now = 0;
            // Calls under way: whether each is a probe.
            let mut calls: Vec<bool> = Vec::new();
            for step in steps {
                match step {
                    Step::Admit => {
                        let closed = breaker.is_closed();
                        match breaker.admit(now) {
                            Ok(probe) => {
                                prop_assert_eq!(probe, !closed);
                                calls.push(probe);
                            }
                            Err(rest) => {
                                prop_assert!(!closed);
                                prop_assert!(rest.retry_after <= LONGEST_REST);
                            }
                        }
                    }
                    Step::Succeed => if let Some(probe) = calls.pop() {
                        let was_closed = breaker.is_closed();
                        breaker.succeeded(probe);
                        prop_assert_eq!(breaker.is_closed(), was_closed || probe);
                    },
                    Step::Fail(jitter) => if let Some(probe) = calls.pop() {
                        breaker.failed(probe, now, jitter);
                        prop_assert!(!probe || !breaker.is_closed());
                    },
                    Step::Abandon => if let Some(probe) = calls.pop() { breaker.abandoned(probe) },
                    Step::Wait(micros) => now += micros,
                }
                prop_assert!(calls.iter().filter(|probe| **probe).count() <= 1, "one probe at a time");
                prop_assert_eq!(breaker.probing, calls.iter().any(|probe| *probe));
            }
            // Never wedged: without calls under way, one passes after the longest rest.
            for probe in calls.drain(..) {
                breaker.abandoned(probe);
            }
            prop_assert!(breaker.admit(now + 30_000_000).is_ok());
        }
    }
}
