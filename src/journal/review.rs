//! What the newest records say of the policies, and of the time that calls take. Bounded: it never reads the whole log.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::Deserialize;
use tokio::sync::Mutex;

use super::verify::Fault;
use super::{Journal, JournalError};

/// Entries that are looked at, from the newest on.
const ENTRIES: u32 = 10_000;
/// Links of the chain's end that are verified.
const CHECKED: usize = 1_000;
/// Records that stand for all of a kind.
const EXAMPLES: usize = 5;
/// Durations that are kept of one tool: the newest.
const SAMPLES: usize = 1_000;
/// How long a look back stands for those who ask after it, in microseconds: it is dear, and connections that read are few.
const STANDS: u64 = 5_000_000;

/// What the newest records say of the policies.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Review {
    pub records: u64,
    /// When the oldest of them was written.
    pub since: Option<String>,
    /// How often each rule had a part in a decision, watched ones too.
    pub matched: BTreeMap<String, u64>,
    /// By the policy in shadow mode: the decisions that would have been others.
    pub flips: BTreeMap<String, Flips>,
}

/// Decisions that a policy in shadow mode would have turned.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Flips {
    pub count: u64,
    /// The newest records among them.
    pub examples: Vec<String>,
}

/// How long calls of one tool took, through the gateway and back.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Latency {
    pub p50_ms: f64,
    pub p95_ms: f64,
    pub samples: usize,
}

/// How the end of the chain was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    /// The last entry.
    pub seq: i64,
    pub checked: usize,
    pub fault: Option<Fault>,
    /// The last entry that the file beside the database knows.
    pub kept: Option<i64>,
}

/// What is read of a record.
#[derive(Deserialize)]
struct Seen {
    id: String,
    time: String,
    decision: String,
    policies: Vec<String>,
    #[serde(default)]
    notes: Vec<String>,
    server: Option<String>,
    tool: Option<String>,
    outcome: Option<String>,
    latency_ms: Option<f64>,
}

/// What looking back found, and when: whoever asks while somebody looks waits for what that one finds.
#[derive(Debug, Default)]
pub(super) struct Recent {
    lately: Arc<Mutex<Option<Latest>>>,
    end: Mutex<Option<(u64, End)>>,
}

/// What was found, and at which tick of the clock.
type Latest = (u64, Arc<Lately>);

/// What the newest records say.
#[derive(Debug, Default)]
struct Lately {
    review: Review,
    times: BTreeMap<Called, Vec<f64>>,
}

/// A tool by the names that records have for it.
pub type Called = (String, String);

impl Journal {
    /// What the newest records say of the policies. What was found stands for five seconds.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub async fn review(&self) -> Result<Review, JournalError> {
        Ok(self.look_back().await?.review.clone())
    }

    /// How long answered calls of these tools took; tools without a call among the newest records have none. What was found
    /// stands for five seconds.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub async fn latencies(&self, of: BTreeSet<Called>) -> Result<BTreeMap<Called, Latency>, JournalError> {
        if of.is_empty() {
            return Ok(BTreeMap::new());
        }
        let lately = self.look_back().await?;
        let latency = |called: Called| Some((lately.times.get(&called).and_then(|times| Latency::of(times))?, called));
        Ok(of.into_iter().filter_map(latency).map(|(latency, called)| (called, latency)).collect())
    }

    /// Verifies the end of the chain, and holds it against the head that is kept beside it. What was found stands for five
    /// seconds.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub async fn check_tail(&self) -> Result<End, JournalError> {
        let mut kept = self.0.recent.end.lock().await;
        let now = self.0.clock.ticks();
        if let Some((at, end)) = &*kept
            && stands(*at, now)
        {
            return Ok(end.clone());
        }
        let seq = self.0.store.audit_tip().await?.seq;
        let fault = self.check_end(CHECKED).await?;
        let checked = usize::try_from(seq).unwrap_or(0).min(CHECKED);
        let end = End { seq, checked, fault, kept: self.0.store.kept_head().map(|(seq, _)| seq) };
        *kept = Some((now, end.clone()));
        Ok(end)
    }

    async fn look_back(&self) -> Result<Arc<Lately>, JournalError> {
        let kept = Arc::clone(&self.0.recent.lately).lock_owned().await;
        let now = self.0.clock.ticks();
        if let Some((at, lately)) = &*kept
            && stands(*at, now)
        {
            return Ok(Arc::clone(lately));
        }
        // The lock goes with the work: while somebody's reading goes on whom nobody waits for any more, none begins.
        let take = |(_, lately): &mut (_, Lately), text: &str| lately.take(text);
        let (mut kept, mut lately) = self.0.store.look_back(ENTRIES, (kept, Lately::default()), take).await?;
        lately.times.values_mut().for_each(|times| times.sort_by(f64::total_cmp));
        let lately = Arc::new(lately);
        *kept = Some((now, Arc::clone(&lately)));
        Ok(lately)
    }
}

const fn stands(at: u64, now: u64) -> bool {
    now.saturating_sub(at) < STANDS
}

impl Lately {
    fn take(&mut self, text: &str) {
        let Ok(seen) = serde_json::from_str::<Seen>(text) else { return };
        if let (Some(server), Some(tool), Some("answered"), Some(millis)) =
            (&seen.server, &seen.tool, seen.outcome.as_deref(), seen.latency_ms)
        {
            let times = self.times.entry((server.clone(), tool.clone())).or_default();
            if times.len() < SAMPLES {
                times.push(millis);
            }
        }
        self.review.take(seen);
    }
}

impl Review {
    fn take(&mut self, seen: Seen) {
        let Seen { id, time, decision, policies, notes, .. } = seen;
        self.records += 1;
        self.since = Some(time);
        let would = |what: &str| -> Vec<&str> { notes.iter().filter_map(|note| watched(note, what)).collect() };
        let (forbid, permit) = (would("forbid"), would("permit"));
        let flipping = match decision.as_str() {
            "allow" | "approval" => forbid.as_slice(),
            // Nothing permitted it: else something did, or forbade it, and one more permit turns nothing.
            "deny" if policies.is_empty() && forbid.is_empty() => permit.as_slice(),
            _ => &[],
        };
        for policy in flipping {
            let flips = self.flips.entry((*policy).to_owned()).or_default();
            flips.count += 1;
            if flips.examples.len() < EXAMPLES {
                flips.examples.push(id.clone());
            }
        }
        for policy in policies.iter().map(String::as_str).chain(forbid).chain(permit) {
            *self.matched.entry(policy.to_owned()).or_insert(0) += 1;
        }
    }
}

/// The policy in shadow mode that a note is about, where it would have done this.
fn watched<'n>(note: &'n str, what: &str) -> Option<&'n str> {
    note.strip_prefix("shadow: `")?.strip_suffix(what)?.strip_suffix("` would ")
}

impl Latency {
    /// Of times in order: the smallest that so many in a hundred are not above.
    fn of(times: &[f64]) -> Option<Self> {
        let at = |share: usize| times.get(times.len().saturating_mul(share).div_ceil(100).checked_sub(1)?).copied();
        Some(Self { p50_ms: at(50)?, p95_ms: at(95)?, samples: times.len() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(id: &str, decision: &str, policies: &[&str], notes: &[&str]) -> String {
        serde_json::json!({"id": id, "time": "2026-01-01T00:00:00.000Z", "decision": decision, "policies": policies,
                           "notes": notes, "server": "a", "tool": "b", "outcome": "answered", "latency_ms": 1.5})
        .to_string()
    }

    #[test]
    fn a_shadow_flips_what_it_alone_would_turn() {
        let mut lately = Lately::default();
        let (forbids, permits) = ("shadow: `f` would forbid", "shadow: `p` would permit");
        for (id, decision, policies, notes) in [
            ("1", "allow", &["x"][..], &[forbids][..]),
            ("2", "deny", &["y"], &[forbids]),
            ("3", "deny", &[], &[permits, "effects: sql.read"]),
            ("4", "deny", &[], &[permits, forbids]),
            ("5", "deny", &["limit"], &[permits]),
            ("6", "approval", &["x"], &[forbids]),
        ] {
            lately.take(&entry(id, decision, policies, notes));
        }
        lately.take("no entry");
        let review = lately.review;
        let flips = |policy: &str| (review.flips[policy].count, review.flips[policy].examples.clone());
        assert_eq!(flips("f"), (2, vec!["1".to_owned(), "6".to_owned()]));
        assert_eq!(flips("p"), (1, vec!["3".to_owned()]));
        assert_eq!((review.records, review.matched["x"], review.matched["f"], review.matched["p"]), (6, 2, 4, 3));
    }

    #[test]
    fn times_are_those_of_answered_calls() {
        let called = ("a".to_owned(), "b".to_owned());
        let mut lately = Lately::default();
        for millis in 1..=100 {
            lately.take(&entry("1", "allow", &[], &[]).replace("1.5", &format!("{millis}.0")));
        }
        lately.take(&entry("1", "allow", &[], &[]).replace("answered", "failed").replace("1.5", "9999.0"));
        lately.take(&entry("1", "allow", &[], &[]).replace("\"b\"", "\"c\""));
        let latency = Latency::of(&lately.times[&called]).unwrap();
        assert_eq!(latency, Latency { p50_ms: 50.0, p95_ms: 95.0, samples: 100 });
    }

    #[test]
    fn a_share_of_a_few_calls_is_one_of_them() {
        assert_eq!(Latency::of(&[]), None);
        let of = |times: &[f64]| Latency::of(times).map(|latency| (latency.p50_ms, latency.p95_ms)).unwrap();
        assert_eq!(of(&[7.0]), (7.0, 7.0));
        assert_eq!(of(&[1.0, 2.0]), (1.0, 2.0));
        assert_eq!(of(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0]), (5.0, 10.0));
    }
}
