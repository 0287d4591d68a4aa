//! Results that may be given again: of read-only tools that the operator named, until something is written.

use std::sync::Arc;
use std::time::Duration;

use moka::sync::Cache;

use crate::domain::outcome::Answer;

/// Bytes of results kept in all.
const CAPACITY: u64 = 64 << 20;
/// A larger result is not kept.
const LARGEST: usize = 4 << 20;

/// One call: the tool, and everything that its decision used.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct CacheKey {
    pub label: Arc<str>,
    pub digest: Arc<str>,
}

#[derive(Debug, Clone)]
struct Kept {
    answer: Answer,
    /// Microseconds on the clock that never steps back.
    until: u64,
    /// How often the server had been written to when the call was sent.
    writes: u64,
}

/// Bounded by weight; what is least used goes first.
#[derive(Debug)]
pub(crate) struct ResponseCache {
    kept: Cache<CacheKey, Kept>,
}

impl Default for ResponseCache {
    fn default() -> Self {
        let weight = |_: &CacheKey, kept: &Kept| {
            u32::try_from(kept.answer.result.bytes().len().saturating_add(512)).unwrap_or(u32::MAX)
        };
        Self { kept: Cache::builder().max_capacity(CAPACITY).weigher(weight).build() }
    }
}

impl ResponseCache {
    /// A kept answer that is fresh and older than no write.
    pub(crate) fn get(&self, key: &CacheKey, now: u64, writes: u64) -> Option<Answer> {
        let kept = self.kept.get(key)?;
        if kept.until <= now || kept.writes != writes {
            self.kept.invalidate(key);
            return None;
        }
        Some(Answer { cached: true, ..kept.answer })
    }

    /// Keeps a good answer. `writes` is what it was before the call was sent.
    pub(crate) fn put(&self, key: CacheKey, answer: &Answer, ttl: Duration, now: u64, writes: u64) {
        let length = answer.result.bytes().len();
        if answer.is_error || length > LARGEST {
            return;
        }
        // The slice would keep the whole response alive.
        let result = crate::domain::json::Json::from_parts(answer.result.as_str().to_owned());
        let until = now.saturating_add(u64::try_from(ttl.as_micros()).unwrap_or(u64::MAX));
        self.kept.insert(key, Kept { answer: Answer { result, ..answer.clone() }, until, writes });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::json::Json;

    fn answer(is_error: bool) -> Answer {
        Answer { result: Json::from_parts("{}".into()), is_error, cached: false, partial: false }
    }

    #[test]
    fn kept_until_its_time_or_a_write() {
        let cache = ResponseCache::default();
        let key = CacheKey { label: "a:b".into(), digest: "d".into() };
        cache.put(key.clone(), &answer(false), Duration::from_micros(10), 100, 3);
        assert!(cache.get(&key, 109, 3).unwrap().cached);
        assert!(cache.get(&key, 110, 3).is_none());
        cache.put(key.clone(), &answer(false), Duration::from_micros(10), 100, 3);
        assert!(cache.get(&key, 101, 4).is_none());
        cache.put(key.clone(), &answer(true), Duration::from_micros(10), 100, 3);
        assert!(cache.get(&key, 101, 3).is_none());
    }
}
