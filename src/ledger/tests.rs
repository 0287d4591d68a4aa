//! Windows: exact for one, exact for many.

use std::sync::atomic::{AtomicU64, Ordering};

use proptest::prelude::*;

use super::*;

const SECOND: u64 = 1_000_000;

fn rate(count: u32, millis: u64) -> Rate {
    Rate { count, window: Duration::from_millis(millis) }
}

fn tool(name: &str, rate: Rate) -> Charge {
    Charge { scope: LimitScope::Tool(ToolId::new("s".parse().unwrap(), name)), rate }
}

fn key(name: &str, rate: Rate) -> Charge {
    Charge { scope: LimitScope::PlanInvocations(KeyId::from(name)), rate }
}

#[test]
fn a_window_is_half_open() {
    let ledger = Ledger::new();
    let limit = [tool("t", rate(2, 1000))];
    assert_eq!(ledger.charge(&limit, 0), Ok(()));
    assert_eq!(ledger.charge(&limit, 500_000), Ok(()));
    let over = ledger.charge(&limit, 999_999).unwrap_err();
    assert_eq!((over.retry_after, over.retry_after_seconds()), (Duration::from_micros(1), 1));
    assert_eq!(ledger.charge(&limit, SECOND), Ok(()));
    assert!(ledger.charge(&limit, SECOND).is_err());
    assert_eq!(ledger.charge(&limit, 1_500_000), Ok(()));
}

#[test]
fn the_wait_is_said_in_words_and_whole_seconds() {
    let ledger = Ledger::new();
    let limit = [tool("t", rate(1, 60_000))];
    ledger.charge(&limit, 5).unwrap();
    let over = ledger.charge(&limit, 10).unwrap_err();
    assert_eq!(over.retry_after, Duration::from_micros(60 * SECOND - 5));
    assert_eq!(over.to_string(), "over the limit of 1 in 60s for tool `s:t`: retry after 60 s");
}

#[test]
fn a_scope_is_one_window_whoever_names_it() {
    let ledger = Ledger::new();
    let shared = tool("t", rate(1, 1000));
    assert!(ledger.charge(&[shared.clone(), key("a", rate(9, 1000))], 0).is_ok());
    let over = ledger.charge(&[shared.clone(), key("b", rate(9, 1000))], 1).unwrap_err();
    assert_eq!(over.scope, shared.scope);
    assert!(ledger.charge(&[tool("u", rate(1, 1000)), key("b", rate(9, 1000))], 1).is_ok());
}

#[test]
fn nothing_is_charged_where_one_is_full() {
    let ledger = Ledger::new();
    let (full, free) = (tool("full", rate(1, 1000)), key("k", rate(5, 1000)));
    ledger.charge(std::slice::from_ref(&full), 0).unwrap();
    for order in [[free.clone(), full.clone()], [full, free.clone()]] {
        assert!(ledger.charge(&order, 1).is_err());
        assert_eq!(ledger.standing(&free, 1).used, 0);
    }
}

#[test]
fn the_longest_wait_is_the_answer() {
    let ledger = Ledger::new();
    let limits = [tool("t", rate(1, 1000)), key("k", rate(1, 60_000))];
    ledger.charge(&limits, 0).unwrap();
    let over = ledger.charge(&limits, 0).unwrap_err();
    assert_eq!(over.scope, limits[1].scope);
    assert_eq!(ledger.peek(&limits, 60 * SECOND), Ok(()));
}

#[test]
fn a_limit_of_nothing_lets_nothing_through() {
    let ledger = Ledger::new();
    let over = ledger.charge(&[tool("t", rate(0, 1000))], 0).unwrap_err();
    assert_eq!(over.retry_after, Duration::from_secs(1));
    let twice = [tool("t", rate(1, 1000)), tool("t", rate(1, 1000))];
    assert!(ledger.charge(&twice, 0).is_err());
    assert_eq!(ledger.standing(&twice[0], 0).used, 0);
}

#[test]
fn a_changed_count_applies_to_calls_made_before() {
    let ledger = Ledger::new();
    for _ in 0..5 {
        ledger.charge(&[tool("t", rate(10, 1000))], 0).unwrap();
    }
    let over = ledger.charge(&[tool("t", rate(3, 1000))], 400_000).unwrap_err();
    assert_eq!(over.retry_after, Duration::from_micros(600_000));
    assert!(ledger.charge(&[tool("t", rate(6, 1000))], 400_000).is_ok());
}

#[test]
fn standing_tells_what_the_headers_need() {
    let ledger = Ledger::new();
    let limit = tool("t", rate(3, 60_000));
    assert_eq!(ledger.standing(&limit, 0).remaining(), 3);
    assert_eq!(ledger.standing(&limit, 0).reset_after_seconds(), 0);
    ledger.charge(std::slice::from_ref(&limit), SECOND).unwrap();
    ledger.charge(std::slice::from_ref(&limit), 2 * SECOND).unwrap();
    let standing = ledger.standing(&limit, 2 * SECOND + 1);
    assert_eq!((standing.used, standing.remaining(), standing.reset_after_seconds()), (2, 1, 59));
    let nearest = ledger.nearest(&[key("k", rate(2, 1000)), limit.clone()], 3 * SECOND).unwrap();
    assert_eq!(nearest.scope, limit.scope);
    assert_eq!(ledger.nearest(&[], 0), None);
}

#[test]
fn windows_in_which_nothing_counts_are_dropped() {
    let ledger = Ledger::new();
    for n in 0..20_000_u64 {
        ledger.charge(&[key(&format!("k{n}"), rate(5, 1))], n * 1000).unwrap();
    }
    let kept: usize = ledger.shards.iter().map(|shard| shard.lock().unwrap().scopes.len()).sum();
    assert!(kept <= SHARDS * LEAST_SWEEP * 2, "{kept} windows are kept");
}

#[test]
fn a_panic_of_another_caller_locks_nobody_out() {
    let ledger = Ledger::new();
    let limit = [tool("t", rate(1, 1000))];
    let poisoned = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let _held = ledger.lock(&limit);
        panic!("in the middle");
    }));
    assert!(poisoned.is_err());
    assert!(ledger.charge(&limit, 0).is_ok());
    assert!(ledger.charge(&limit, 0).is_err());
}

/// Whether some window of this length holds more than `count` of the sorted `times`.
fn exceeds(times: &[u64], count: u32, length: u64) -> bool {
    times.windows(count as usize + 1).any(|run| run[run.len() - 1] - run[0] < length)
}

#[test]
fn threads_together_stay_within_every_window() {
    let ledger = Ledger::new();
    let ticks = AtomicU64::new(0);
    let (narrow, wide) = (rate(7, 1), rate(40, 10));
    let accepted: Vec<u64> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..8)
            .map(|worker| {
                let (ledger, ticks) = (&ledger, &ticks);
                scope.spawn(move || {
                    // Half of them name the limits the other way round.
                    let mut limits = [tool("t", narrow), key("k", wide)];
                    limits.rotate_left(worker % 2);
                    let mut accepted = Vec::new();
                    for _ in 0..5000 {
                        let now = ticks.fetch_add(3, Ordering::SeqCst);
                        if ledger.charge(&limits, now).is_ok() {
                            accepted.push(now);
                        }
                    }
                    accepted
                })
            })
            .collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
    });
    // Callers overtake each other, so only the stamps are exact; the number of all is.
    let total = 8 * 5000 * 3;
    assert!(accepted.len() as u64 <= 40 * (total / 10_000 + 1));
    assert!(accepted.len() as u64 >= 40 * (total / 10_000 - 1));
    let (one, other) = (ledger.standing(&tool("t", narrow), 0), ledger.standing(&key("k", wide), 0));
    assert!(one.used <= 7 && other.used <= 40);
}

proptest! {
    #[test]
    fn no_window_ever_holds_more(
        steps in proptest::collection::vec(prop_oneof![Just(0_u64), 0..400_u64, 0..5000_u64], 1..300),
        count in 1..6_u32,
        length in 1..3_u64,
    ) {
        let ledger = Ledger::new();
        let limit = [tool("t", rate(count, length))];
        let (mut now, mut accepted) = (0, Vec::new());
        for step in steps {
            now += step;
            let standing = ledger.standing(&limit[0], now);
            let peeked = ledger.peek(&limit, now);
            let charged = ledger.charge(&limit, now);
            prop_assert_eq!(&peeked, &charged);
            prop_assert_eq!(standing.remaining() > 0, charged.is_ok());
            match charged {
                Ok(()) => accepted.push(now),
                Err(over) => {
                    // A refusal is needed: with this call some window would hold too many.
                    let mut with_it = accepted.clone();
                    with_it.push(now);
                    prop_assert!(exceeds(&with_it, count, length * 1000));
                    // The advice is exact.
                    let then = now + u64::try_from(over.retry_after.as_micros()).unwrap();
                    prop_assert!(ledger.peek(&limit, then).is_ok());
                    prop_assert!(ledger.peek(&limit, then - 1).is_err());
                }
            }
        }
        prop_assert!(!exceeds(&accepted, count, length * 1000));
    }

    #[test]
    fn a_call_is_charged_to_all_or_to_none(
        calls in proptest::collection::vec((0..500_u64, proptest::collection::vec(0..4_usize, 1..4)), 1..100),
    ) {
        let ledger = Ledger::new();
        let limits = [tool("a", rate(2, 1)), tool("b", rate(3, 2)), key("c", rate(4, 1)), key("d", rate(1, 1))];
        let mut now = 0;
        for (step, wanted) in calls {
            now += step;
            let charges: Vec<Charge> = wanted.iter().map(|&at| limits[at].clone()).collect();
            let used = |now| limits.each_ref().map(|limit| ledger.standing(limit, now).used as usize);
            let before = used(now);
            let charged = ledger.charge(&charges, now).is_ok();
            for (at, (before, after)) in before.into_iter().zip(used(now)).enumerate() {
                let times = wanted.iter().filter(|&&one| one == at).count();
                prop_assert_eq!(after, before + if charged { times } else { 0 });
            }
        }
    }
}
