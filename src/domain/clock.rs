//! The only reader of time. Everything else is given a [`Clock`] or a moment.

use std::fmt;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, OnceLock};

use governor::nanos::Nanos;

/// Milliseconds since 1970-01-01T00:00:00Z.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(pub i64);

impl Moment {
    /// A time as RFC 3339 writes it, or a day (`2026-01-15`), which is its first moment in UTC.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let moment = match text.len() {
            10 => text.parse::<jiff::civil::Date>().ok()?.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp(),
            _ => text.parse::<jiff::Timestamp>().ok()?,
        };
        Some(Self(moment.as_millisecond()))
    }

    /// RFC 3339 with milliseconds, in UTC.
    #[must_use]
    pub fn rfc3339(self) -> String {
        jiff::Timestamp::from_millisecond(self.0).map_or_else(|_| String::from("invalid"), |t| format!("{t:.3}"))
    }
}

/// Where time comes from.
pub trait Clock: Send + Sync + fmt::Debug {
    /// Wall-clock time: for records and expiry.
    fn now(&self) -> Moment;
    /// Microseconds on a clock that never steps back: for windows, latencies and back-off.
    fn ticks(&self) -> u64;
}

/// A clock as `governor` reads it.
#[derive(Debug, Clone)]
pub struct Ticking(pub Arc<dyn Clock>);

impl governor::clock::Clock for Ticking {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        Nanos::from(self.0.ticks().saturating_mul(1000))
    }
}

/// The machine's clocks.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the one reader of the wall clock")]
    fn now(&self) -> Moment {
        Moment(jiff::Timestamp::now().as_millisecond())
    }

    #[expect(
        clippy::disallowed_methods,
        clippy::disallowed_types,
        reason = "this is the one reader of the monotonic clock"
    )]
    fn ticks(&self) -> u64 {
        static START: OnceLock<std::time::Instant> = OnceLock::new();
        let start = START.get_or_init(std::time::Instant::now);
        u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX)
    }
}

/// A clock that moves only when told to.
#[derive(Debug, Clone, Default)]
pub struct ManualClock {
    millis: Arc<AtomicI64>,
}

impl ManualClock {
    #[must_use]
    pub fn at(moment: Moment) -> Self {
        Self { millis: Arc::new(AtomicI64::new(moment.0)) }
    }

    pub fn advance(&self, millis: i64) {
        self.millis.fetch_add(millis, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Moment {
        Moment(self.millis.load(Ordering::SeqCst))
    }

    fn ticks(&self) -> u64 {
        u64::try_from(self.now().0).unwrap_or(0).saturating_mul(1000)
    }
}
