//! Calls let through evenly, so many a second.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use governor::clock::Clock as _;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};

use crate::domain::clock::{Clock, Ticking};

/// A server's pace.
#[derive(Debug)]
pub(crate) struct Pace(RateLimiter<NotKeyed, InMemoryState, Ticking, NoOpMiddleware<Nanos>>);

impl Pace {
    /// So many calls a second; `None` where that is no pace.
    pub(crate) fn new(a_second: u32, clock: &Arc<dyn Clock>) -> Option<Self> {
        let every = Duration::from_secs(1).checked_div(NonZeroU32::new(a_second)?.get())?;
        Some(Self(RateLimiter::direct_with_clock(Quota::with_period(every)?, Ticking(Arc::clone(clock)))))
    }

    /// Waits for its turn.
    pub(crate) async fn turn(&self) {
        while let Err(wait) = self.0.check() {
            tokio::time::sleep(wait.wait_time_from(self.0.clock().now())).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::clock::{ManualClock, Moment};

    #[tokio::test]
    async fn the_pace_is_kept_by_the_clock_that_is_given() {
        let manual = ManualClock::at(Moment(1_000));
        let clock: Arc<dyn Clock> = Arc::new(manual.clone());
        let pace = Pace::new(1, &clock).unwrap();
        let turn = || tokio::time::timeout(Duration::from_millis(100), pace.turn());
        assert!(turn().await.is_ok());
        assert!(turn().await.is_err(), "one a second");
        manual.advance(1_000);
        assert!(turn().await.is_ok());
    }
}
