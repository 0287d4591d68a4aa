//! What the newest records say of the policies, and of the time that calls take. Bounded: it never reads the whole log.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

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
struct Decided {
    id: String,
    time: String,
    decision: String,
    policies: Vec<String>,
    #[serde(default)]
    notes: Vec<String>,
}

/// The same, of one that took time.
#[derive(Deserialize)]
struct Timed {
    server: Option<String>,
    tool: Option<String>,
    outcome: Option<String>,
    latency_ms: Option<f64>,
}

/// A tool by the names that records have for it.
pub type Called = (String, String);

impl Journal {
    /// What the newest records say of the policies.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub async fn review(&self) -> Result<Review, JournalError> {
        Ok(self.0.store.look_back(ENTRIES, Review::default(), Review::take).await?)
    }

    /// How long answered calls of these tools took; tools without a call among the newest records have none.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub async fn latencies(&self, of: BTreeSet<Called>) -> Result<BTreeMap<Called, Latency>, JournalError> {
        let times: BTreeMap<Called, Vec<f64>> = of.into_iter().map(|called| (called, Vec::new())).collect();
        let times = self.0.store.look_back(ENTRIES, times, note_time).await?;
        Ok(times.into_iter().filter_map(|(called, times)| Some((called, Latency::of(times)?))).collect())
    }

    /// Verifies the end of the chain, and holds it against the head that is kept beside it.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub async fn check_tail(&self) -> Result<End, JournalError> {
        let seq = self.0.store.audit_tip().await?.seq;
        let fault = self.check_end(CHECKED).await?;
        let checked = usize::try_from(seq).unwrap_or(0).min(CHECKED);
        Ok(End { seq, checked, fault, kept: self.0.store.kept_head().map(|(seq, _)| seq) })
    }
}

impl Review {
    fn take(&mut self, text: &str) {
        let Ok(Decided { id, time, decision, policies, notes }) = serde_json::from_str(text) else { return };
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

fn note_time(times: &mut BTreeMap<Called, Vec<f64>>, text: &str) {
    let Ok(Timed { server: Some(server), tool: Some(tool), outcome, latency_ms: Some(millis) }) =
        serde_json::from_str(text)
    else {
        return;
    };
    let answered = outcome.as_deref() == Some("answered");
    if let Some(known) = times.get_mut(&(server, tool)).filter(|known| answered && known.len() < SAMPLES) {
        known.push(millis);
    }
}

impl Latency {
    fn of(mut times: Vec<f64>) -> Option<Self> {
        times.sort_by(f64::total_cmp);
        let at = |share: usize| times.get((times.len().checked_sub(1)?).saturating_mul(share) / 100).copied();
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
        let mut review = Review::default();
        let (forbids, permits) = ("shadow: `f` would forbid", "shadow: `p` would permit");
        for (id, decision, policies, notes) in [
            ("1", "allow", &["x"][..], &[forbids][..]),
            ("2", "deny", &["y"], &[forbids]),
            ("3", "deny", &[], &[permits, "effects: sql.read"]),
            ("4", "deny", &[], &[permits, forbids]),
            ("5", "deny", &["limit"], &[permits]),
            ("6", "approval", &["x"], &[forbids]),
        ] {
            review.take(&entry(id, decision, policies, notes));
        }
        review.take("no entry");
        let flips = |policy: &str| (review.flips[policy].count, review.flips[policy].examples.clone());
        assert_eq!(flips("f"), (2, vec!["1".to_owned(), "6".to_owned()]));
        assert_eq!(flips("p"), (1, vec!["3".to_owned()]));
        assert_eq!((review.records, review.matched["x"], review.matched["f"], review.matched["p"]), (6, 2, 4, 3));
    }

    #[test]
    fn times_are_those_of_answered_calls_of_the_tools_asked_for() {
        let called = ("a".to_owned(), "b".to_owned());
        let mut times = BTreeMap::from([(called.clone(), Vec::new())]);
        for millis in 1..=100 {
            note_time(&mut times, &entry("1", "allow", &[], &[]).replace("1.5", &format!("{millis}.0")));
        }
        note_time(&mut times, &entry("1", "allow", &[], &[]).replace("answered", "failed").replace("1.5", "9999.0"));
        note_time(&mut times, &entry("1", "allow", &[], &[]).replace("\"b\"", "\"c\""));
        let latency = Latency::of(times.remove(&called).unwrap()).unwrap();
        assert_eq!(latency, Latency { p50_ms: 50.0, p95_ms: 95.0, samples: 100 });
        assert_eq!(Latency::of(Vec::new()), None);
    }
}
