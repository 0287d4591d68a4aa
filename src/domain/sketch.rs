//! Many durations in a few bytes: a histogram whose buckets grow with what they hold, and which can be merged.
//!
//! A bucket is one thirty-second of an octave, so a quantile is off by at most one part in 64.

use std::collections::BTreeMap;

/// Buckets of an octave, as a power of two.
const FINE: u32 = 5;
/// Longer durations, in microseconds, are as good as this: twelve days.
const MOST: u64 = 1 << 40;

/// A histogram of microseconds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sketch {
    /// By bucket.
    counts: BTreeMap<u16, u64>,
}

impl Sketch {
    /// Adds one duration.
    pub fn record(&mut self, micros: u64) {
        *self.counts.entry(bucket(micros.min(MOST))).or_default() += 1;
    }

    /// Adds all that another holds.
    pub fn merge(&mut self, other: &Self) {
        for (bucket, count) in &other.counts {
            let own = self.counts.entry(*bucket).or_default();
            *own = own.saturating_add(*count);
        }
    }

    /// How many durations it holds.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.values().fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// The smallest duration that at least `per_mille` of a thousand do not exceed, in microseconds; `None` where it
    /// holds none.
    #[must_use]
    pub fn quantile(&self, per_mille: u64) -> Option<u64> {
        let wanted = u128::from(self.count()) * u128::from(per_mille);
        let wanted = u64::try_from(wanted.div_ceil(1000)).unwrap_or(u64::MAX).max(1);
        let mut seen = 0_u64;
        for (bucket, count) in &self.counts {
            seen = seen.saturating_add(*count);
            if seen >= wanted {
                return Some(middle(*bucket));
            }
        }
        None
    }

    /// As it is stored: for each bucket the distance from the one before and the count, seven bits a byte.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let (mut out, mut before) = (Vec::with_capacity(self.counts.len() * 3), 0);
        for (bucket, count) in &self.counts {
            push(&mut out, u64::from(bucket - before));
            push(&mut out, *count);
            before = *bucket;
        }
        out
    }

    /// What was stored; `None` where that is no histogram.
    #[must_use]
    pub fn decode(mut bytes: &[u8]) -> Option<Self> {
        let (mut counts, mut bucket) = (BTreeMap::new(), 0_u16);
        while !bytes.is_empty() {
            let (distance, count) = (pull(&mut bytes)?, pull(&mut bytes)?);
            bucket = bucket.checked_add(u16::try_from(distance).ok()?).filter(|next| *next <= self::bucket(MOST))?;
            counts.insert(bucket, count);
        }
        Some(Self { counts })
    }
}

/// Small values have a bucket each; then each octave has as many.
fn bucket(micros: u64) -> u16 {
    let bits = u64::BITS - micros.leading_zeros();
    let shift = bits.saturating_sub(FINE + 1);
    let octave = u64::from(shift) << FINE;
    u16::try_from(octave + (micros >> shift)).unwrap_or(u16::MAX)
}

/// The middle of a bucket.
fn middle(bucket: u16) -> u64 {
    let bucket = u64::from(bucket);
    let shift = (bucket >> FINE).saturating_sub(1);
    let low = (bucket - (shift << FINE)) << shift;
    low + ((1 << shift) >> 1)
}

fn push(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(u8::try_from(value & 0x7f).unwrap_or(0) | 0x80);
        value >>= 7;
    }
    out.push(u8::try_from(value).unwrap_or(0));
}

fn pull(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f).checked_shl(shift)?;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What a quantile is, of all durations in order.
    fn oracle(sorted: &[u64], per_mille: u64) -> u64 {
        let rank = (sorted.len() as u64 * per_mille).div_ceil(1000).max(1);
        sorted[usize::try_from(rank).unwrap() - 1]
    }

    fn durations() -> impl Strategy<Value = Vec<u64>> {
        let any = prop_oneof![0_u64..100, 0_u64..100_000, 0_u64..10_000_000_000];
        prop::collection::vec(any, 1..300)
    }

    proptest! {
        #[test]
        fn quantiles_are_near_those_of_the_durations(mut all in durations(), per_mille in 1_u64..=1000) {
            let mut sketch = Sketch::default();
            all.iter().for_each(|micros| sketch.record(*micros));
            all.sort_unstable();
            let (found, exact) = (sketch.quantile(per_mille).unwrap(), oracle(&all, per_mille));
            prop_assert!(found.abs_diff(exact) * 64 <= exact, "{} for {}", found, exact);
        }

        #[test]
        fn merged_is_as_if_recorded_together(one in durations(), other in durations()) {
            let of = |all: &[u64]| {
                let mut sketch = Sketch::default();
                all.iter().for_each(|micros| sketch.record(*micros));
                sketch
            };
            let mut merged = of(&one);
            merged.merge(&of(&other));
            prop_assert_eq!(&merged, &of(&[one, other].concat()));
            prop_assert_eq!(Sketch::decode(&merged.encode()), Some(merged));
        }

        #[test]
        fn no_bytes_break_it(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            if let Some(sketch) = Sketch::decode(&bytes) {
                prop_assert!(sketch.quantile(500).is_none_or(|middle| middle <= 2 * MOST));
                prop_assert_eq!(sketch.quantile(500).is_some(), sketch.count() > 0);
            }
        }
    }

    #[test]
    fn buckets_follow_each_other_without_a_gap() {
        let mut last = 0;
        for micros in 0..100_000_u64 {
            let now = bucket(micros);
            assert!(now == last || now == last + 1, "{micros}");
            assert!(middle(now).abs_diff(micros) * 64 <= micros.max(1) * 2, "{micros} in {}", middle(now));
            last = now;
        }
        assert!(bucket(MOST) < 2000);
        assert_eq!(Sketch::default().quantile(500), None);
    }
}
