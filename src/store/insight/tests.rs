//! Roll-ups against what the entries themselves say, and bounds on what a look back costs.

use std::collections::BTreeMap;
use std::path::Path;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::domain::audit::{Durability, Entry};
use crate::store::tamper::Raw;
use crate::store::{Filter, Row};

const NOON: i64 = 1_800_000_000_000;
const MINUTE: i64 = 60_000;
const HOUR: i64 = 3_600_000;

fn open(folder: &Path) -> Store {
    Store::open(folder, Durability::Process).unwrap()
}

/// A call as a test makes it up.
#[derive(Debug, Clone)]
struct Made {
    time: i64,
    server: &'static str,
    tool: &'static str,
    key: &'static str,
    outcome: &'static str,
    code: Option<&'static str>,
    rule: Option<&'static str>,
    micros: u64,
}

impl Made {
    fn entry(&self, id: usize) -> Entry {
        let decision = if self.outcome == "refused" { "deny" } else { "allow" };
        #[expect(clippy::cast_precision_loss, reason = "small numbers")]
        let latency = self.micros as f64 / 1000.0;
        serde_json::from_value(json!({
            "id": format!("evt_{id}"), "phase": "outcome", "time": Moment(self.time).rfc3339(), "request_id": "req_1",
            "entrance": "mcp", "key": self.key, "user": "u", "agent": "a", "server": self.server, "tool": self.tool,
            "decision": decision, "outcome": self.outcome, "policies": ["p"], "policy_version": "",
            "reason": null, "dlp_result": "off", "latency_ms": latency, "arguments_digest": null, "arguments": null,
            "code": self.code, "rule": self.rule,
        }))
        .unwrap()
    }

    async fn write(&self, store: &Store, id: usize) {
        store.append_audit(Row::new(self.entry(id), Moment(self.time), false)).await.unwrap();
    }
}

fn made() -> impl Strategy<Value = Made> {
    let ending = prop_oneof![
        6 => Just(("answered", None, None)),
        1 => Just(("answered", Some("tool_error"), None)),
        1 => Just(("failed", Some("backend_down"), None)),
        1 => Just(("refused", Some("policy_denied"), Some("block-sql-drop"))),
        1 => Just(("refused", Some("rate_limited"), Some("limit:server `a`"))),
        1 => Just(("cancelled", None, None)),
    ];
    let names = (prop::sample::select(vec!["a", "b"]), prop::sample::select(vec!["x", "y", "z"]));
    let micros = prop_oneof![1_u64..1000, 1000_u64..100_000, 100_000_u64..60_000_000];
    (-8 * HOUR..=0, names, prop::sample::select(vec!["key_1", "key_2"]), ending, micros).prop_map(
        |(ago, (server, tool), key, (outcome, code, rule), micros)| Made {
            time: NOON + ago,
            server,
            tool,
            key,
            outcome,
            code,
            rule,
            micros,
        },
    )
}

/// The same sums, made of the calls themselves.
fn oracle<'m>(calls: impl Iterator<Item = &'m Made>, name: impl Fn(&Made) -> String) -> BTreeMap<String, Counts> {
    let mut groups: BTreeMap<String, Counts> = BTreeMap::new();
    for call in calls {
        let sum = groups.entry(name(call)).or_default();
        sum.calls += 1;
        sum.errors += u64::from(call.outcome == "failed");
        sum.refused += u64::from(call.outcome == "refused");
        sum.limited += u64::from(call.code == Some("rate_limited"));
        sum.cancelled += u64::from(call.outcome == "cancelled");
        if matches!(call.outcome, "answered" | "failed") {
            sum.latencies.record(call.micros);
        }
    }
    groups
}

fn as_map(groups: &[Group]) -> BTreeMap<String, Counts> {
    groups.iter().map(|group| (group.name.clone(), group.counts.clone())).collect()
}

/// Rolls everything up.
async fn roll_all(store: &Store, now: i64) {
    while store.roll_up(Moment(now), 10_000).await.unwrap().behind > 0 {}
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_summary_is_what_the_entries_come_to(
        calls in prop::collection::vec(made(), 1..60),
        cuts in prop::collection::vec(0_usize..60, 0..4),
        back in 1_i64..=6 * 60,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let folder = tempfile::tempdir().unwrap();
            let store = open(folder.path());
            for (at, call) in calls.iter().enumerate() {
                call.write(&store, at).await;
                // Rolled up in between, and by two at once.
                if cuts.contains(&at) {
                    let (one, other) = tokio::join!(store.roll_up(Moment(NOON), 1), store.roll_up(Moment(NOON), 1));
                    one.and(other).unwrap();
                }
            }
            roll_all(&store, NOON).await;
            for window in [back * MINUTE, 12 * HOUR] {
                let resolution = Resolution::of(window);
                let since = resolution.floor(Moment(NOON - window));
                let summary = store.summary(resolution, since, Moment(NOON + 1), Narrow::default()).await.unwrap();
                let within = || calls.iter().filter(|call| call.time >= since.0);
                let total = oracle(within(), |_| String::new());
                assert_eq!(summary.total, total.into_values().next().unwrap_or_default());
                assert_eq!(as_map(&summary.servers), oracle(within(), |call| call.server.into()));
                assert_eq!(as_map(&summary.tools), oracle(within(), |call| format!("{}:{}", call.server, call.tool)));
                assert_eq!(as_map(&summary.keys), oracle(within(), |call| call.key.into()));
                let refused = within().filter(|call| call.outcome == "refused");
                assert_eq!(as_map(&summary.rules), oracle(refused, |call| call.rule.unwrap().into()));
                let narrow = Narrow { server: Some("a".into()), ..Narrow::default() };
                let of_a = store.summary(resolution, since, Moment(NOON + 1), narrow).await.unwrap();
                let wanted = oracle(within().filter(|call| call.server == "a"), |_| String::new());
                assert_eq!(of_a.total, wanted.into_values().next().unwrap_or_default());
            }
        });
    }
}

fn call_at(time: i64) -> Made {
    Made { time, server: "a", tool: "x", key: "key_1", outcome: "answered", code: None, rule: None, micros: 1000 }
}

async fn calls_in(store: &Store, resolution: Resolution, since: i64, until: i64) -> u64 {
    store.summary(resolution, Moment(since), Moment(until), Narrow::default()).await.unwrap().total.calls
}

#[tokio::test]
async fn a_bucket_holds_its_first_moment_and_not_that_of_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let start = NOON - NOON % HOUR;
    for (at, time) in [start - 1, start, start + MINUTE - 1, start + MINUTE, start + HOUR - 1].into_iter().enumerate() {
        call_at(time).write(&store, at).await;
    }
    roll_all(&store, start + HOUR).await;
    assert_eq!(calls_in(&store, Resolution::Minute, start, start + MINUTE).await, 2);
    assert_eq!(calls_in(&store, Resolution::Minute, start - MINUTE, start).await, 1);
    assert_eq!(calls_in(&store, Resolution::Hour, start, start + HOUR).await, 4);
}

#[tokio::test]
async fn what_is_too_old_is_forgotten_and_never_counted() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    call_at(NOON - 40 * 24 * HOUR).write(&store, 0).await;
    call_at(NOON - 24 * HOUR).write(&store, 1).await;
    call_at(NOON).write(&store, 2).await;
    roll_all(&store, NOON).await;
    assert_eq!(calls_in(&store, Resolution::Hour, 0, i64::MAX).await, 2);
    assert_eq!(calls_in(&store, Resolution::Minute, 0, i64::MAX).await, 1);
    let later = NOON + 40 * 24 * HOUR;
    call_at(later).write(&store, 3).await;
    roll_all(&store, later).await;
    assert_eq!(calls_in(&store, Resolution::Hour, 0, i64::MAX).await, 1);
}

#[tokio::test]
async fn a_restart_counts_nothing_twice() {
    let folder = tempfile::tempdir().unwrap();
    for at in 0..3_usize {
        let store = open(folder.path());
        call_at(NOON).write(&store, at).await;
        roll_all(&store, NOON).await;
        assert_eq!(calls_in(&store, Resolution::Minute, 0, i64::MAX).await, at as u64 + 1);
        store.close().await.unwrap();
    }
}

#[tokio::test]
async fn names_that_callers_make_up_are_counted_together() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    for at in 0..50 {
        let mut entry = Made { outcome: "refused", code: Some("unknown_tool"), ..call_at(NOON) }.entry(at);
        entry.tool = Some(format!("made-up-{at}").into());
        store.append_audit(Row::new(entry, Moment(NOON), false)).await.unwrap();
    }
    roll_all(&store, NOON).await;
    let summary = store.summary(Resolution::Minute, Moment(0), Moment(i64::MAX), Narrow::default()).await.unwrap();
    assert_eq!((summary.tools.len(), summary.tools[0].name.as_str(), summary.tools[0].counts.calls), (1, "", 50));
    assert_eq!(summary.rules[0].name, "unknown_tool");
    assert_eq!(summary.visited, 1);
}

/// Calls that were recorded before there were codes.
#[tokio::test]
async fn older_entries_count_too() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    for (at, (outcome, policies)) in
        [("answered", vec!["p"]), ("refused", vec!["block-sql-drop"]), ("refused", vec![])].into_iter().enumerate()
    {
        let mut entry = Made { outcome, ..call_at(NOON) }.entry(at);
        entry.policies = policies.into_iter().map(Into::into).collect();
        store.append_audit(Row::new(entry, Moment(NOON), false)).await.unwrap();
    }
    roll_all(&store, NOON).await;
    let summary = store.summary(Resolution::Minute, Moment(0), Moment(i64::MAX), Narrow::default()).await.unwrap();
    assert_eq!(summary.total.calls, 3);
    assert_eq!(as_map(&summary.tools).into_keys().collect::<Vec<_>>(), ["", "a:x"]);
    assert_eq!(summary.rules.iter().map(|rule| rule.name.as_str()).collect::<Vec<_>>(), ["block-sql-drop"]);
}

/// Fills a log with this many entries, one every 10 ms up to noon, without paying for each of them.
fn fill(folder: &Path, count: i64) {
    let first = NOON - count * 10;
    Raw::open(folder).run(&format!(
        r#"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {count})
        INSERT INTO audit (seq, id, phase, time, request_id, key, server, tool, decision, outcome, entry, prev, hash)
        SELECT i, 'evt_' || i, 'outcome', {first} + i * 10, 'r', 'key_1', 'a', 'x' || (i % 20), 'allow', 'answered',
               printf('{{"id":"evt_%d","phase":"outcome","time":"","request_id":"r","entrance":"mcp","key":"key_1","user":"%s","agent":"bot","server":"a","tool":"x%d","decision":"allow","outcome":"answered","policies":[],"policy_version":"","dlp_result":"off","latency_ms":%d.0}}', i, CASE WHEN i = 7 THEN 'rare' ELSE 'usual' END, i % 20, i % 100),
               x'00', x'00' FROM n;
        INSERT INTO audit_spans (block, earliest, latest)
        SELECT (seq - 1) / 256, min(time), max(time) FROM audit GROUP BY 1 HAVING count(*) = 256;"#
    ));
}

#[tokio::test]
async fn two_hundred_thousand_records_are_looked_at_a_bounded_part_at_a_time() {
    const COUNT: i64 = 200_000;
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    fill(folder.path(), COUNT);

    let page = store.audit_search(Filter::default(), None, 50).await.unwrap();
    assert_eq!((page.records.len(), page.visited), (50, 50));
    let rare = Filter { user: Some("rare".into()), ..Filter::default() };
    let (mut before, mut pages, mut found) = (None, 0, Vec::new());
    loop {
        let page = store.audit_search(rare.clone(), before, 50).await.unwrap();
        assert!(page.visited <= 10_000, "{}", page.visited);
        found.extend(page.records.iter().map(|record| record.seq));
        pages += 1;
        before = page.next;
        if before.is_none() {
            break;
        }
    }
    assert_eq!((found, pages), (vec![7], 20 + 1));
    let minute = Filter { since: Some(Moment(NOON - MINUTE)), ..rare };
    let page = store.audit_search(minute, None, 50).await.unwrap();
    assert!(page.visited <= 6_000 + 512, "a narrow time is found by its blocks: {}", page.visited);

    let first = store.roll_up(Moment(NOON), 10_000).await.unwrap();
    assert_eq!((first.visited, first.behind), (10_000, 190_000));
    let mut visited = first.visited;
    while visited < 200_000 {
        let rolled = store.roll_up(Moment(NOON), 50_000).await.unwrap();
        assert!(rolled.visited <= 50_000 + BATCH);
        visited += rolled.visited;
    }
    assert_eq!(store.roll_up(Moment(NOON), 50_000).await.unwrap(), Rolled::default());
    let summary =
        store.summary(Resolution::Minute, Moment(NOON - HOUR), Moment(NOON + 1), Narrow::default()).await.unwrap();
    assert_eq!(summary.total.calls, 200_000);
    let minutes = 200_000 * 10 / 60_000 + 2;
    assert!(summary.visited <= 20 * minutes, "one row for each tool and minute: {}", summary.visited);
    let p99 = summary.total.latencies.quantile(990).unwrap();
    assert!(p99.abs_diff(98_000) * 64 <= 98_000, "{p99}");
}

#[tokio::test]
async fn changes_of_breakers_are_kept_within_bounds() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let change = |at: i64| BreakerChange {
        time: Moment(at),
        server: "a".into(),
        state: if at % 2 == 0 { "open" } else { "closed" }.into(),
        why: String::new(),
    };
    for at in 0..10 {
        store.note_breaker(change(at)).await.unwrap();
    }
    assert_eq!(store.breaker_changes(Moment(7), None, 9).await.unwrap(), (vec![change(9), change(8), change(7)], 0));
    assert_eq!(store.breaker_changes(Moment(0), None, 2).await.unwrap(), (vec![change(9), change(8)], 8));
    // A server that was well but once is not lost behind one that never is.
    let of_b = BreakerChange { server: "b\"".into(), ..change(0) };
    store.note_breaker(of_b.clone()).await.unwrap();
    for server in ["b\"", "a"] {
        for at in 0..2 {
            store.note_breaker(BreakerChange { server: "a".into(), ..change(at) }).await.unwrap();
        }
        let named = Some(vec![server.to_owned()]);
        let (changes, left_out) = store.breaker_changes(Moment(0), named, 1).await.unwrap();
        let expected = if server == "a" { (1, 13) } else { (1, 0) };
        assert_eq!((changes.len(), left_out), expected, "{server}");
        assert_eq!(changes[0].server, server);
    }
    assert_eq!(store.breaker_changes(Moment(0), Some(Vec::new()), 9).await.unwrap(), (Vec::new(), 0));
    // As if thousands had come since.
    Raw::open(folder.path()).run("UPDATE breaker_changes SET number = 20000 WHERE time = 9");
    store.note_breaker(change(10)).await.unwrap();
    assert_eq!(store.breaker_changes(Moment(0), None, 99).await.unwrap(), (vec![change(10), change(9)], 0));
}
