//! Records, the chain, and what tampering leaves behind.

use std::path::Path;
use std::sync::atomic::AtomicUsize;

use serde_json::json;

use super::*;
use crate::domain::call::ToolRef;
use crate::domain::clock::{ManualClock, Moment};
use crate::domain::decision::{Judgement, Mode, PolicyEffect, RuleMark, Verdict};
use crate::domain::id::{EventId, KeyId};
use crate::domain::json::Json;
use crate::store::Durability;
use crate::store::chain::{Tip, link};
use crate::store::tamper::Raw;

const NOON: Moment = Moment(1_800_000_000_000);

struct Bench {
    folder: tempfile::TempDir,
    clock: ManualClock,
    journal: Journal,
}

impl Bench {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = ManualClock::at(NOON);
        let (journal, recovery) = start(folder.path(), &clock).await;
        assert_eq!(recovery, Recovery::default());
        Self { folder, clock, journal }
    }

    /// Starts again on the same folder, without having closed.
    async fn reopen(self) -> (Self, Recovery) {
        let Self { folder, clock, journal } = self;
        drop(journal);
        let (journal, recovery) = start(folder.path(), &clock).await;
        (Self { folder, clock, journal }, recovery)
    }

    async fn call(&self, tool: &str) -> EventId {
        let mut entry = self.journal.open(opening(tool)).await.unwrap();
        entry.judged(&judgement());
        entry.close(Closing::new(Ending::Answered)).await.unwrap()
    }

    async fn write_call(&self, tool: &str) -> EventId {
        let mut entry = self.journal.open(opening(tool)).await.unwrap();
        entry.judged(&judgement());
        entry.intend().await.unwrap();
        self.clock.advance(5);
        entry.close(Closing::new(Ending::Answered)).await.unwrap()
    }

    async fn verify(&self) -> VerifyStep {
        let mut checked = 0;
        let mut from = Tip::START;
        loop {
            let step = self.journal.verify_from(from, 3).await.unwrap();
            checked += step.checked;
            if step.done {
                return VerifyStep { checked, ..step };
            }
            from = step.head;
        }
    }
}

async fn start(folder: &Path, clock: &ManualClock) -> (Journal, Recovery) {
    let store = Store::open(folder, Durability::Process).unwrap();
    let config = JournalConfig::default();
    Journal::start(store, Arc::new(clock.clone()), config).await.unwrap()
}

fn opening(tool: &str) -> Opening {
    Opening {
        id: EventId::fresh(),
        request_id: RequestId::fresh(),
        entrance: Entrance::Mcp,
        key: Some(KeyId::from("key_1")),
        user: Some("u1".into()),
        agent: Some("bot".into()),
        tool: Some(ToolRef::Pair { server: "github".into(), tool: tool.into() }),
        arguments: Some(Json::of(&json!({"query": "PLANTED-SECRET", "limit": 5}))),
    }
}

fn judgement() -> Judgement {
    Judgement {
        shadow: None,
        verdict: Verdict::Allow,
        rules: vec![
            RuleMark::built_in("default-allow-read", PolicyEffect::Permit, None),
            RuleMark { mode: Mode::Shadow, ..RuleMark::built_in("try-out", PolicyEffect::Forbid, None) },
        ],
        reason: "".into(),
        code: None,
        effects: ["sql.read"].as_slice().into(),
        policy_version: "v1".into(),
    }
}

#[tokio::test]
async fn a_read_leaves_its_outcome_and_a_write_its_intent_too() {
    let bench = Bench::new().await;
    let read = bench.call("list_repos").await;
    let write = bench.write_call("create_issue").await;
    assert_eq!(bench.journal.open_entries(), 0);
    assert_eq!(bench.journal.head().await.unwrap().0, 3);

    let record = bench.journal.get(read.as_str()).await.unwrap().unwrap().json().value();
    assert_eq!(record["id"], read.as_str());
    assert_eq!(record["time"], "2027-01-15T08:00:00.000Z");
    assert_eq!(record["decision"], "allow");
    assert_eq!(record["outcome"], "answered");
    assert_eq!(record["policies"], json!(["default-allow-read"]));
    assert_eq!(record["arguments"], json!({"query": "[redacted 14 chars]", "limit": 5}));
    assert_eq!(record["notes"], json!(["shadow: `try-out` would forbid", "effects: sql.read"]));
    assert_eq!(record["prev"], "0".repeat(64));
    assert_eq!(record.get("intent"), None);

    let record = bench.journal.get(write.as_str()).await.unwrap().unwrap();
    let value = record.json().value();
    assert_eq!(value["intent"]["seq"], 2);
    assert_eq!(value["intent"]["hash"], value["prev"]);
    assert_eq!(value["latency_ms"], 5.0);
    assert_eq!(record.entry().unwrap().tool.as_deref(), Some("create_issue"));
    assert_eq!(bench.verify().await.checked, 3);
}

#[tokio::test]
async fn the_export_alone_proves_its_hashes() {
    let bench = Bench::new().await;
    bench.call("a").await;
    bench.call("b").await;
    let mut prev = crate::store::chain::GENESIS;
    for record in bench.journal.export(Filter::default(), 0, 10).await.unwrap().records {
        let line = record.json().as_str().to_owned();
        let text = format!("{}}}", &line[..line.rfind(",\"seq\":").unwrap()]);
        prev = link(&prev, &text);
        assert_eq!(record.json().value()["hash"], hex(&prev));
        assert_eq!(record.csv().matches(&hex(&prev)).count(), 1);
    }
    assert_eq!(bench.journal.head().await.unwrap(), (2, hex(&prev)));
}

#[tokio::test]
async fn calls_in_flight_share_their_commits() {
    let bench = Bench::new().await;
    let before = bench.journal.0.store.commits();
    let (go_on, held) = std::sync::mpsc::channel();
    let calls = futures_util::future::join_all((0..500).map(|_| bench.call("list_repos")));
    let (held, ..) = tokio::join!(bench.journal.0.store.hold_writer(held), calls, async { go_on.send(()).unwrap() });
    held.unwrap();
    let commits = bench.journal.0.store.commits() - before;
    assert!(commits <= 20, "{commits} commits for 500 entries");
    let step = bench.verify().await;
    assert_eq!((step.checked, step.fault), (500, None));
}

#[tokio::test]
async fn an_entry_that_is_dropped_is_recorded_as_interrupted() {
    let bench = Bench::new().await;
    drop(bench.journal.open(opening("read")).await.unwrap());
    let mut entry = bench.journal.open(opening("write")).await.unwrap();
    entry.intend().await.unwrap();
    let id = entry.id().clone();
    drop(entry);
    assert_eq!(bench.journal.open_entries(), 0);
    // The queue keeps its order, so a later commit is after the two.
    bench.journal.probe().await.unwrap();
    let outcomes: Vec<_> =
        bench.journal.tail(10).await.unwrap().iter().map(|r| r.entry().unwrap().outcome.unwrap()).collect();
    assert_eq!(outcomes, ["interrupted", "interrupted"]);
    assert_eq!(bench.journal.get(id.as_str()).await.unwrap().unwrap().json().value()["intent"]["seq"], 2);
    assert_eq!(bench.journal.0.store.open_intents().await.unwrap(), Vec::<String>::new());
}

#[tokio::test]
async fn a_caller_that_goes_away_while_closing_leaves_one_outcome() {
    let bench = Bench::new().await;
    let entry = bench.journal.open(opening("read")).await.unwrap();
    let mut closing = Box::pin(entry.close(Closing::new(Ending::Answered)));
    let polls = AtomicUsize::new(0);
    // One poll queues the entry; then the caller is gone.
    futures_util::future::poll_fn(|context| {
        polls.fetch_add(1, Ordering::SeqCst);
        let _pending = closing.as_mut().poll(context);
        std::task::Poll::Ready(())
    })
    .await;
    drop(closing);
    bench.journal.probe().await.unwrap();
    let records = bench.journal.tail(10).await.unwrap();
    assert_eq!(records.len(), 1);
    assert_eq!(records[0].entry().unwrap().outcome.unwrap(), "answered");
    assert_eq!(bench.journal.open_entries(), 0);
}

#[tokio::test]
async fn what_a_crash_left_open_is_closed_as_interrupted() {
    let bench = Bench::new().await;
    bench.write_call("before").await;
    let mut entry = bench.journal.open(opening("create_issue")).await.unwrap();
    entry.intend().await.unwrap();
    let id = entry.id().clone();
    entry.crash();
    let (bench, recovery) = bench.reopen().await;
    assert_eq!(recovery, Recovery { interrupted: 1, fault: None });
    let record = bench.journal.get(id.as_str()).await.unwrap().unwrap().json().value();
    assert_eq!(record["outcome"], "interrupted");
    assert_eq!(record["intent"]["seq"], 3);
    let (bench, recovery) = bench.reopen().await;
    assert_eq!(recovery.interrupted, 0);
    assert_eq!(bench.verify().await.checked, 4);
}

#[tokio::test]
async fn a_server_announces_itself_and_its_durability() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path(), Durability::Power).unwrap();
    let config = JournalConfig { announce: true, ..JournalConfig::default() };
    let (journal, _) = Journal::start(store, Arc::new(ManualClock::at(NOON)), config).await.unwrap();
    let entry = journal.tail(1).await.unwrap()[0].entry().unwrap();
    assert_eq!((entry.server.as_deref(), entry.tool.as_deref()), (Some("toolgate"), Some("start")));
    assert!(entry.notes.contains(&"durability power".to_owned()));
}

#[tokio::test]
async fn every_way_of_tampering_is_found_where_it_happened() {
    let swap = "UPDATE audit SET seq = -1 WHERE seq = 4; UPDATE audit SET seq = 4 WHERE seq = 6;
                UPDATE audit SET seq = 6 WHERE seq = -1";
    let insert = "INSERT INTO audit SELECT 99, 'evt_x', phase, time, request_id, key, server, tool, decision, outcome,
                  intent, entry, prev, hash FROM audit WHERE seq = 8";
    let cases = [
        ("UPDATE audit SET entry = replace(entry, 'github', 'gathub') WHERE seq = 5", 5),
        ("UPDATE audit SET entry = substr(entry, 2) WHERE seq = 5", 5),
        ("UPDATE audit SET tool = 'other' WHERE seq = 5", 5),
        ("UPDATE audit SET time = time + 1 WHERE seq = 5", 5),
        ("UPDATE audit SET intent = 3 WHERE seq = 6", 6),
        ("UPDATE audit SET outcome = 'refused' WHERE seq = 5", 5),
        ("UPDATE audit SET hash = zeroblob(32) WHERE seq = 5", 5),
        ("UPDATE audit SET prev = zeroblob(32) WHERE seq = 5", 5),
        ("UPDATE audit SET hash = zeroblob(3) WHERE seq = 5", 5),
        ("DELETE FROM audit WHERE seq = 5", 5),
        ("DELETE FROM audit WHERE seq <= 2", 1),
        ("DELETE FROM audit", 1),
        (swap, 4),
        (insert, 9),
        ("DELETE FROM audit WHERE seq > 6", 7),
    ];
    for (sql, seq) in cases {
        let bench = Bench::new().await;
        for _ in 0..4 {
            bench.write_call("create_issue").await;
        }
        bench.journal.0.store.keep_head(bench.journal.0.store.audit_tip().await.unwrap()).await.unwrap();
        assert_eq!(bench.verify().await.fault, None);
        Raw::open(bench.folder.path()).run(sql);
        let fault = bench.verify().await.fault;
        assert_eq!(fault.as_ref().map(|fault| fault.seq), Some(seq), "{sql}: {fault:?}");
        let (bench, recovery) = bench.reopen().await;
        assert_eq!(recovery.fault.map(|fault| fault.seq), Some(seq), "{sql}");
        // Closing keeps the evidence, so the next start finds it again.
        bench.journal.close().await.unwrap();
        let (_, recovery) = bench.reopen().await;
        assert!(recovery.fault.is_some(), "{sql}");
    }
}

#[tokio::test]
async fn a_log_rewritten_from_its_first_entry_differs_from_the_kept_head() {
    let bench = Bench::new().await;
    bench.call("a").await;
    let tip = Tip { seq: 1, hash: [9; 32] };
    bench.journal.0.store.keep_head(tip).await.unwrap();
    assert_eq!(bench.verify().await.fault.unwrap().seq, 1);
}

#[tokio::test]
async fn any_bit_turned_is_found_in_its_entry() {
    let bench = Bench::new().await;
    for _ in 0..4 {
        bench.write_call("create_issue").await;
    }
    let raw = Raw::open(bench.folder.path());
    let mut random: usize = 42;
    for _ in 0..300 {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let column = ["entry", "prev", "hash"][(random >> 8) % 3];
        let seq = i64::try_from((random >> 16) % 8).unwrap() + 1;
        let bit = random >> 24;
        raw.flip(column, seq, bit);
        let fault = bench.verify().await.fault;
        assert_eq!(fault.as_ref().map(|fault| fault.seq), Some(seq), "{column} bit {bit}: {fault:?}");
        raw.flip(column, seq, bit);
        assert_eq!(bench.verify().await.fault, None);
    }
}

#[tokio::test]
async fn a_damaged_page_is_a_fault_that_names_the_entry() {
    let bench = Bench::new().await;
    for _ in 0..200 {
        bench.call("list_repos").await;
    }
    let Bench { folder, clock, journal } = bench;
    journal.close().await.unwrap();
    drop(journal);
    let path = folder.path().join("toolgate.db");
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() * 2 / 3 / 8192 * 8192;
    bytes[middle..middle + 8192].fill(0xa5);
    std::fs::write(&path, bytes).unwrap();
    let store = Store::open(folder.path(), Durability::Process).unwrap();
    let journal = Journal::attach(store, Arc::new(clock.clone()), JournalConfig::default());
    assert!(journal.check_file().await.unwrap().is_some());
    let bench = Bench { folder, clock, journal };
    let step = bench.verify().await;
    let fault = step.fault.unwrap();
    assert!(fault.what.starts_with("the file is damaged here"), "{fault:?}");
    assert_eq!(i64::try_from(step.checked).unwrap() + 1, fault.seq);
}

#[tokio::test]
async fn the_log_goes_on_after_a_last_entry_that_cannot_be_followed() {
    let bench = Bench::new().await;
    bench.call("a").await;
    bench.call("b").await;
    Raw::open(bench.folder.path()).run("UPDATE audit SET hash = zeroblob(3) WHERE seq = 2");
    let (bench, recovery) = bench.reopen().await;
    assert_eq!(recovery.fault.map(|fault| fault.seq), Some(2));
    bench.call("c").await;
    assert_eq!(bench.verify().await.fault.unwrap().seq, 2);
}

#[tokio::test]
async fn blocks_find_what_a_full_scan_finds() {
    let bench = Bench::new().await;
    let mut ids = Vec::new();
    for at in 0..700_i64 {
        // The wall clock steps back now and then.
        bench.clock.advance(if at % 90 == 89 { -40_000 } else { 1_000 });
        ids.push(bench.call(if at % 7 == 0 { "rare" } else { "common" }).await);
    }
    let all = bench.journal.export(Filter::default(), 0, 1000).await.unwrap().records;
    assert_eq!(all.len(), 700);
    for (from, to) in [(0, 700_000), (100_000, 101_000), (45_000, 200_000), (250_000, 900_000), (600_000, 900_000)] {
        let (since, until) = (Moment(NOON.0 + from), Moment(NOON.0 + to));
        let within = |record: &Record| {
            let entry = record.entry().unwrap();
            let (since, until) = (since.rfc3339(), until.rfc3339());
            entry.tool.as_deref() == Some("rare") && entry.time >= since && entry.time < until
        };
        let expected: Vec<_> = all.iter().rev().filter(|record| within(record)).map(Record::seq).collect();
        let filter = Filter { since: Some(since), until: Some(until), tool: Some("rare".into()), ..Filter::default() };
        let (mut found, mut before) = (Vec::new(), None);
        loop {
            let page = bench.journal.page(filter.clone(), before, 3).await.unwrap();
            found.extend(page.records.iter().map(Record::seq));
            before = page.next;
            if before.is_none() {
                break;
            }
        }
        assert_eq!(found, expected);
    }
    for at in [0, 255, 256, 511, 512, 699] {
        let record = bench.journal.get(ids[at].as_str()).await.unwrap().unwrap();
        assert_eq!(record.seq(), i64::try_from(at).unwrap() + 1);
    }
    assert!(bench.journal.get("evt_none").await.unwrap().is_none());
}

#[tokio::test]
async fn an_index_that_hides_entries_is_found() {
    for sql in [
        "UPDATE audit_spans SET latest = 0 WHERE block = 1",
        "DELETE FROM audit_spans",
        "DELETE FROM audit_ids WHERE seq = 300",
    ] {
        let bench = Bench::new().await;
        for _ in 0..600 {
            bench.call("a").await;
        }
        assert_eq!(bench.journal.check_file().await.unwrap(), None);
        Raw::open(bench.folder.path()).run(sql);
        assert!(bench.journal.check_file().await.unwrap().is_some(), "{sql}");
    }
}

/// Each look reads thousands of entries on one of two connections.
#[tokio::test]
async fn a_look_back_stands_for_a_while() {
    let bench = Bench::new().await;
    let seen = async || {
        let called = ("github".to_owned(), "a".to_owned());
        let (review, end) = (bench.journal.review().await.unwrap(), bench.journal.check_tail().await.unwrap());
        let latencies = bench.journal.latencies([called.clone()].into()).await.unwrap();
        (review.records, end.seq, latencies.get(&called).map_or(0, |latency| latency.samples))
    };
    bench.call("a").await;
    assert_eq!(seen().await, (1, 1, 1));
    bench.call("a").await;
    bench.clock.advance(4_999);
    assert_eq!(seen().await, (1, 1, 1));
    bench.clock.advance(1);
    assert_eq!(seen().await, (2, 2, 2));
}

#[tokio::test]
async fn strangers_are_recorded_within_limits() {
    let bench = Bench::new().await;
    let stranger = || TurnedAway {
        request_id: RequestId::fresh(),
        entrance: Entrance::Rest,
        source: Some([192, 0, 2, 1].into()),
        reason: "unknown key".into(),
    };
    let mut recorded = 0;
    for _ in 0..30 {
        recorded += usize::from(bench.journal.turn_away(stranger()).await.unwrap().is_some());
    }
    assert_eq!(recorded, 20);
    bench.clock.advance(60_000);
    let id = bench.journal.turn_away(stranger()).await.unwrap().unwrap();
    let entry = bench.journal.get(id.as_str()).await.unwrap().unwrap().entry().unwrap();
    assert_eq!(entry.notes, ["source 192.0.2.1", "10 refused logins before this one were counted, not recorded"]);
    assert_eq!((entry.key, &*entry.decision), (None, "deny"));
}

#[tokio::test]
async fn pages_are_stable_and_filters_exact() {
    let bench = Bench::new().await;
    for at in 0..10 {
        bench.call(if at % 2 == 0 { "even" } else { "odd" }).await;
        bench.clock.advance(1_000);
    }
    let only = Filter { tool: Some("odd".into()), ..Filter::default() };
    let first = bench.journal.page(only.clone(), None, 3).await.unwrap();
    assert_eq!(first.records.iter().map(Record::seq).collect::<Vec<_>>(), [10, 8, 6]);
    bench.call("odd").await;
    let second = bench.journal.page(only, first.next, 3).await.unwrap();
    assert_eq!(second.records.iter().map(Record::seq).collect::<Vec<_>>(), [4, 2]);
    assert_eq!(second.next, None);

    let between =
        Filter { since: Some(Moment(NOON.0 + 2_000)), until: Some(Moment(NOON.0 + 4_000)), ..Filter::default() };
    let page = bench.journal.page(between, None, 100).await.unwrap();
    assert_eq!(page.records.iter().map(Record::seq).collect::<Vec<_>>(), [4, 3]);
    let nobody = Filter { key: Some("key_2".into()), ..Filter::default() };
    assert!(bench.journal.page(nobody, None, 100).await.unwrap().records.is_empty());
}

#[tokio::test]
async fn no_argument_text_reaches_the_disk() {
    let bench = Bench::new().await;
    bench.write_call("create_issue").await;
    for file in std::fs::read_dir(bench.folder.path()).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        assert!(!bytes.windows(14).any(|window| window == b"PLANTED-SECRET"));
    }
}

#[tokio::test]
async fn while_nothing_can_be_written_no_record_opens_and_late_ones_follow() {
    let bench = Bench::new().await;
    let mut entry = bench.journal.open(opening("create_issue")).await.unwrap();
    entry.judged(&judgement());
    entry.intend().await.unwrap();
    let id = entry.id().clone();
    let raw = Raw::open(bench.folder.path());
    raw.run(
        "CREATE TRIGGER full BEFORE INSERT ON audit BEGIN SELECT RAISE(FAIL, 'no room'); END;
             CREATE TRIGGER stuck BEFORE UPDATE ON probe BEGIN SELECT count FROM nowhere; END",
    );
    assert!(entry.close(Closing::new(Ending::Answered)).await.is_err());
    assert!(!bench.journal.healthy());
    assert!(bench.journal.open(opening("list_repos")).await.is_err());
    assert!(
        bench
            .journal
            .turn_away(TurnedAway {
                request_id: RequestId::fresh(),
                entrance: Entrance::Mcp,
                source: None,
                reason: "x".into(),
            })
            .await
            .is_err()
    );

    raw.run("DROP TRIGGER full; DROP TRIGGER stuck");
    bench.call("list_repos").await;
    assert!(bench.journal.healthy());
    let record = bench.journal.get(id.as_str()).await.unwrap().unwrap().json().value();
    assert_eq!(record["outcome"], "failed");
    assert_eq!(record["reason"], "the answer was withheld: its record could not be written in time");
    assert_eq!(bench.verify().await.fault, None);
    assert_eq!(bench.journal.open_entries(), 0);
}
