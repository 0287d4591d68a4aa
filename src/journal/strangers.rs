//! How many refused logins are recorded: enough to see an attack, too few to fill the disk.

use std::collections::VecDeque;
use std::net::IpAddr;

use crate::domain::net::network;

const WINDOW_MICROS: u64 = 60_000_000;
const PER_SOURCE: usize = 20;
const IN_ALL: usize = 120;

/// A sliding window of the last minute. It holds what was recorded, so at most [`IN_ALL`] items whoever knocks.
#[derive(Debug, Default)]
pub(super) struct Strangers {
    recent: VecDeque<(u64, Option<IpAddr>)>,
    left_out: u64,
}

impl Strangers {
    /// Whether this one is recorded; if so, how many before it were not.
    pub(super) fn admit(&mut self, source: Option<IpAddr>, ticks: u64) -> Option<u64> {
        let source = source.map(network);
        while self.recent.front().is_some_and(|(then, _)| ticks.saturating_sub(*then) >= WINDOW_MICROS) {
            self.recent.pop_front();
        }
        let same = self.recent.iter().filter(|(_, other)| *other == source).count();
        if self.recent.len() >= IN_ALL || same >= PER_SOURCE {
            self.left_out = self.left_out.saturating_add(1);
            return None;
        }
        self.recent.push_back((ticks, source));
        Some(self.left_out())
    }

    /// How many were left out since this was last asked.
    pub(super) fn left_out(&mut self) -> u64 {
        std::mem::take(&mut self.left_out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v4(last: u8) -> Option<IpAddr> {
        Some(IpAddr::from([192, 0, 2, last]))
    }

    #[test]
    fn one_source_has_twenty_a_minute_and_the_rest_is_counted() {
        let mut strangers = Strangers::default();
        let recorded = (0..50).filter(|_| strangers.admit(v4(1), 0).is_some()).count();
        assert_eq!(recorded, 20);
        assert_eq!(strangers.admit(v4(2), 1), Some(30));
        assert_eq!(strangers.admit(v4(1), WINDOW_MICROS - 1), None);
        assert_eq!(strangers.admit(v4(1), WINDOW_MICROS), Some(1));
    }

    #[test]
    fn all_sources_have_a_hundred_and_twenty_a_minute() {
        let mut strangers = Strangers::default();
        let recorded = (0..=255).filter(|last| strangers.admit(v4(*last), 0).is_some()).count();
        assert_eq!(recorded, 120);
        assert_eq!(strangers.recent.len(), 120);
    }

    #[test]
    fn a_network_is_one_source() {
        let mut strangers = Strangers::default();
        let addresses = (0..50).map(|last| IpAddr::from([0x2001, 0xdb8, 0, 1, 0, 0, 0, last]));
        assert_eq!(addresses.filter(|address| strangers.admit(Some(*address), 0).is_some()).count(), 20);
    }
}
