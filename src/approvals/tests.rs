//! What becomes of a request, in every order of events.

use std::sync::Arc;

use futures_util::future::join_all;
use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::domain::audit::Durability;
use crate::domain::tool::Kind;
use crate::store::{ApprovalBound, ApprovalFilter, ApprovalLimits};

fn facts(event: &EventId) -> ApprovalFacts {
    ApprovalFacts {
        name: "n".into(),
        agent: "a".into(),
        subject: None,
        tool: "up:destroy".into(),
        kind: Kind::Tool,
        tool_digest: "d".into(),
        arguments_digest: "sha256:0".into(),
        meta_digest: None,
        beside_digest: None,
        preview: None,
        policy: "p".into(),
        policy_version: "v".into(),
        reason: "r".into(),
        approvers: None,
        effects: Vec::new(),
        event: event.clone(),
        earlier: None,
    }
}

const LIFE: i64 = 100;

fn new(call: &str, key: &str, event: &EventId, now: i64) -> NewApproval {
    NewApproval {
        call: call.to_owned(),
        key: KeyId::from(key),
        user: "u".into(),
        kept: b"{\"secret\":\"in the clear nowhere\"}".to_vec().into(),
        facts: facts(event),
        now: Moment(now),
        expires: Moment(now + LIFE),
    }
}

fn by(now: i64) -> Decided {
    Decided { at: Moment(now), key: KeyId::from("k2"), user: "v".into(), comment: None }
}

fn open() -> (TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path(), Durability::Process).unwrap();
    (folder, store)
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Ask,
    Decide(Decision),
    /// The call under way ends.
    End(Ended),
    /// The gateway dies and starts again.
    Crash,
    /// Somebody leaves, and the sweep finds the call.
    Pass(i64),
    Sweep,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let ended = prop_oneof![Just(Ended::Used("answered")), Just(Ended::Unknown("failed")), Just(Ended::NotSent)];
    let step = prop_oneof![
        5 => Just(Step::Ask),
        3 => Just(Step::Decide(Decision::Approve)),
        1 => Just(Step::Decide(Decision::Deny)),
        3 => ended.prop_map(Step::End),
        1 => Just(Step::Crash),
        2 => (1..60_i64).prop_map(Step::Pass),
        1 => Just(Step::Sweep),
    ];
    prop::collection::vec(step, 1..40)
}

/// A request as the rules have it.
#[derive(Debug, Clone)]
struct Expected {
    id: ApprovalId,
    state: ApprovalState,
    expires: i64,
    event: Option<EventId>,
    /// How often its call may have taken effect.
    effects: usize,
}

/// The rules, in plain words: a request stands for [`LIFE`]; a refusal comes before an approval before a request.
#[derive(Debug, Default)]
struct Model {
    now: i64,
    all: Vec<Expected>,
}

impl Model {
    fn expire(&mut self) {
        for one in &mut self.all {
            let open = matches!(one.state, ApprovalState::Pending | ApprovalState::Approved);
            if open && one.expires <= self.now {
                one.state = ApprovalState::Expired;
            }
        }
    }

    fn live(&mut self, state: ApprovalState) -> Option<&mut Expected> {
        let now = self.now;
        self.all.iter_mut().rev().find(|one| one.state == state && one.expires > now)
    }

    async fn take(&mut self, store: &Store, call: &str, step: Step) {
        match step {
            Step::Ask => self.ask(store, call).await,
            Step::Decide(decision) => {
                let Some(last) = self.all.last().cloned() else { return };
                let done = store.decide_approval(&last.id, decision, by(self.now)).await.unwrap();
                assert_eq!(done, last.state == ApprovalState::Pending);
                if let (true, Some(last)) = (done, self.all.last_mut()) {
                    last.state = match decision {
                        Decision::Approve => ApprovalState::Approved,
                        Decision::Deny => ApprovalState::Denied,
                    };
                }
            }
            Step::End(how) => {
                let Some(one) = self.all.iter_mut().find(|one| one.state == ApprovalState::Executing) else { return };
                let event = one.event.clone().unwrap();
                let now = Moment(self.now);
                let (done, state) = match how {
                    Ended::Used(outcome) => {
                        (store.finish_approval(&event, ApprovalState::Used, outcome, now).await, ApprovalState::Used)
                    }
                    Ended::Unknown(outcome) => {
                        let to = ApprovalState::Unknown;
                        (store.finish_approval(&event, to, outcome, now).await, to)
                    }
                    Ended::NotSent => {
                        one.effects -= 1;
                        (store.release_approval(&event).await, ApprovalState::Approved)
                    }
                };
                assert!(done.unwrap());
                one.state = state;
            }
            Step::Crash => {
                store.recover_approvals(Moment(self.now)).await.unwrap();
                for one in self.all.iter_mut().filter(|one| one.state == ApprovalState::Executing) {
                    one.state = ApprovalState::Unknown;
                }
            }
            Step::Pass(millis) => self.now += millis,
            Step::Sweep => drop(store.expire_approvals(Moment(self.now)).await.unwrap()),
        }
        self.expire();
    }

    async fn ask(&mut self, store: &Store, call: &str) {
        let event = EventId::fresh();
        let limits =
            ApprovalLimits { of_key: 100, of_user: 100, pending: usize::MAX, refused: usize::MAX, kept: usize::MAX };
        let asked = store.ask_approval(new(call, call, &event, self.now), limits).await.unwrap();
        if let Some(refused) = self.live(ApprovalState::Denied) {
            assert!(matches!(&asked, Asked::Denied(record) if record.id == refused.id), "{asked:?}");
        } else if let Some(approved) = self.live(ApprovalState::Approved) {
            assert!(matches!(&asked, Asked::Taken { id, .. } if *id == approved.id), "{asked:?}");
            approved.state = ApprovalState::Executing;
            approved.event = Some(event);
            approved.effects += 1;
            assert_eq!(approved.effects, 1, "one approval, one call");
        } else if let Some(pending) = self.live(ApprovalState::Pending) {
            assert!(matches!(&asked, Asked::Waits(record, false) if record.id == pending.id), "{asked:?}");
        } else {
            let Asked::Waits(record, true) = asked else { panic!("a new request: {asked:?}") };
            let unknown = self.all.iter().rev().find(|one| one.state == ApprovalState::Unknown);
            assert_eq!(record.facts.earlier, unknown.map(|one| one.id.clone()));
            let expires = self.now + LIFE;
            self.all.push(Expected { id: record.id, state: ApprovalState::Pending, expires, event: None, effects: 0 });
        }
    }

    async fn check(&self, store: &Store) {
        for one in &self.all {
            let found = store.approval(&one.id, Moment(self.now)).await.unwrap().unwrap();
            assert_eq!(found.state, one.state, "{one:?}");
        }
    }
}

/// However asking, deciding, ending, dying and waiting follow upon each other: nothing runs twice under one approval, nor
/// after it has expired, nor after a refusal.
#[test]
fn an_approval_lets_one_call_go() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (_folder, store) = open();
    let mut case = 0;
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(200));
    let held = std::cell::RefCell::new(&mut case);
    let outcome = runner.run(&steps(), |steps| {
        let call = {
            let mut case = held.borrow_mut();
            **case += 1;
            format!("call {case}")
        };
        runtime.block_on(async {
            let mut model = Model::default();
            for step in steps {
                model.take(&store, &call, step).await;
                model.check(&store).await;
            }
        });
        Ok(())
    });
    outcome.unwrap();
}

#[tokio::test]
async fn of_many_at_once_one_gets_it() {
    let (_folder, store) = open();
    let event = EventId::fresh();
    let asked = store.ask_approval(new("c", "k", &event, 0), LIMITS).await.unwrap();
    let Asked::Waits(record, true) = asked else { panic!("{asked:?}") };
    let decisions = [Decision::Approve, Decision::Deny].into_iter().cycle().take(8);
    let decided = join_all(decisions.map(|decision| store.decide_approval(&record.id, decision, by(1)))).await;
    assert_eq!(decided.into_iter().filter(|done| *done.as_ref().unwrap()).count(), 1);
    let asked = store.ask_approval(new("d", "k", &event, 0), LIMITS).await.unwrap();
    let Asked::Waits(record, true) = asked else { panic!("{asked:?}") };
    assert!(store.decide_approval(&record.id, Decision::Approve, by(1)).await.unwrap());
    let takers = (0..8).map(|_| async {
        let event = EventId::fresh();
        store.ask_approval(new("d", "k", &event, 2), LIMITS).await.unwrap()
    });
    let asked = join_all(takers).await;
    assert_eq!(asked.iter().filter(|asked| matches!(asked, Asked::Taken { .. })).count(), 1);
    assert_eq!(
        asked.iter().filter(|asked| matches!(asked, Asked::Waits(_, true))).count(),
        1,
        "the others ask anew, once"
    );
}

#[tokio::test]
async fn nobody_fills_the_desk_and_the_oldest_that_are_over_make_room() {
    let (_folder, store) = open();
    let limits = ApprovalLimits { of_key: 2, of_user: 9, pending: 3, refused: 9, kept: 3 };
    let ask = async |call: &str, key: &str, now| {
        store.ask_approval(new(call, key, &EventId::fresh(), now), limits).await.unwrap()
    };
    for call in ["a", "b"] {
        assert!(matches!(ask(call, "k", 0).await, Asked::Waits(_, true)));
    }
    assert!(matches!(ask("c", "k", 0).await, Asked::Full(ApprovalBound::Key, None)));
    assert!(matches!(ask("a", "k", 0).await, Asked::Waits(_, false)), "what waits already is told so");
    let Asked::Waits(last, true) = ask("d", "l", 0).await else { panic!("room for another key") };
    assert!(matches!(ask("e", "m", 0).await, Asked::Full(ApprovalBound::All, None)));
    assert!(matches!(ask("f", "k", LIFE).await, Asked::Waits(_, true)), "what has expired waits no more");
    store.expire_approvals(Moment(LIFE)).await.unwrap();
    assert!(matches!(ask("g", "l", LIFE).await, Asked::Waits(_, true)));
    let (left, more) = store.approvals(ApprovalFilter::default(), 10, Moment(LIFE)).await.unwrap();
    assert_eq!((left.len(), more), (3, false));
    assert!(left.iter().any(|one| one.id == last.id), "the oldest went");
}

/// Whoever may register clients has as many keys as they like, and is one user all the same.
#[tokio::test]
async fn a_user_with_many_keys_leaves_room_for_others() {
    let (_folder, store) = open();
    for n in 0..LIMITS.of_user {
        let key = format!("k{}", n % 8);
        let asked = store.ask_approval(new(&format!("call {n}"), &key, &EventId::fresh(), 0), LIMITS).await.unwrap();
        assert!(matches!(asked, Asked::Waits(_, true)), "{n}: {asked:?}");
    }
    let one_more = new("one more", "k9", &EventId::fresh(), 0);
    let asked = store.ask_approval(one_more, LIMITS).await.unwrap();
    assert!(matches!(asked, Asked::Full(ApprovalBound::User, None)), "{asked:?}");
    let other = NewApproval { user: "another".into(), ..new("theirs", "k10", &EventId::fresh(), 0) };
    let asked = store.ask_approval(other, LIMITS).await.unwrap();
    assert!(matches!(asked, Asked::Waits(_, true)), "{asked:?}");
}

/// Nobody is worn down by the same question in other words.
#[tokio::test]
async fn who_was_refused_often_asks_once_a_minute() {
    let (_folder, store) = open();
    let ask = async |call: &str, now| {
        let new = NewApproval { expires: Moment(now + 10), ..new(call, call, &EventId::fresh(), now) };
        store.ask_approval(new, LIMITS).await.unwrap()
    };
    for (n, call) in ["a", "b", "c"].into_iter().enumerate() {
        let Asked::Waits(record, true) = ask(call, n as i64).await else { panic!("room for {call}") };
        assert!(store.decide_approval(&record.id, Decision::Deny, by(n as i64)).await.unwrap());
    }
    assert!(matches!(ask("a", 3).await, Asked::Denied(_)), "what was refused is told so");
    let asked = ask("d", 3).await;
    assert!(matches!(asked, Asked::Full(ApprovalBound::Refused, Some(59_999))), "{asked:?}");
    let other = NewApproval { user: "another".into(), ..new("d", "z", &EventId::fresh(), 3) };
    assert!(matches!(store.ask_approval(other, LIMITS).await.unwrap(), Asked::Waits(_, true)));
    assert!(matches!(ask("d", 60_002).await, Asked::Waits(_, true)), "a minute after the last one");
    assert!(matches!(ask("e", 60_003).await, Asked::Full(ApprovalBound::Refused, Some(_))));
    let later = ApprovalLimits::REMEMBERED + 3;
    assert!(matches!(ask("e", later).await, Asked::Waits(_, true)));
    assert!(matches!(ask("f", later).await, Asked::Waits(_, true)), "an hour later that is forgotten");
}

/// What is forgotten to make room is what nobody needs: no refusal that stands, and last what warns of an unknown end.
#[tokio::test]
async fn refusals_that_stand_are_not_forgotten_and_unknown_ends_last() {
    let (_folder, store) = open();
    let limits = ApprovalLimits { kept: 3, refused: 9, ..LIMITS };
    let ask = async |call: &str, now| store.ask_approval(new(call, "k", &EventId::fresh(), now), limits).await.unwrap();
    let Asked::Waits(unknown, true) = ask("unknown", 0).await else { panic!("a request") };
    store.decide_approval(&unknown.id, Decision::Approve, by(0)).await.unwrap();
    assert!(matches!(ask("unknown", 0).await, Asked::Taken { .. }));
    store.recover_approvals(Moment(0)).await.unwrap();
    let Asked::Waits(denied, true) = ask("denied", LIFE).await else { panic!("a request") };
    store.decide_approval(&denied.id, Decision::Deny, by(LIFE)).await.unwrap();
    // The third one expires and goes before the unknown one, which is older.
    let Asked::Waits(expired, true) = ask("expired", 1).await else { panic!("a request") };
    store.expire_approvals(Moment(LIFE + 1)).await.unwrap();
    let now = LIFE + 1;
    assert!(matches!(ask("d", now).await, Asked::Waits(_, true)));
    let there = async |id: &ApprovalId| store.approval(id, Moment(now)).await.unwrap().is_some();
    assert!(!there(&expired.id).await && there(&unknown.id).await && there(&denied.id).await);
    assert!(matches!(ask("e", now).await, Asked::Waits(_, true)));
    assert!(!there(&unknown.id).await && there(&denied.id).await);
    assert!(matches!(ask("f", now).await, Asked::Full(ApprovalBound::Kept, None)), "a refusal that stands stays");
    assert!(matches!(ask("denied", now).await, Asked::Denied(_)));
}

#[tokio::test]
async fn arguments_are_sealed_and_pages_follow_each_other() {
    let (folder, store) = open();
    let mut ids = Vec::new();
    for call in ["a", "b", "c"] {
        let asked = store.ask_approval(new(call, "k", &EventId::fresh(), 0), LIMITS).await.unwrap();
        let Asked::Waits(record, true) = asked else { panic!("{asked:?}") };
        ids.push(record.id);
    }
    let text = store.approval_arguments(&ids[0]).await.unwrap().unwrap();
    assert_eq!(**text, *b"{\"secret\":\"in the clear nowhere\"}");
    let page = async |before| {
        let filter = ApprovalFilter { before, ..ApprovalFilter::default() };
        let (page, more) = store.approvals(filter, 2, Moment(0)).await.unwrap();
        (page.into_iter().map(|one| one.id).collect::<Vec<_>>(), more)
    };
    assert_eq!(page(None).await, (vec![ids[2].clone(), ids[1].clone()], true));
    assert_eq!(page(Some(ids[1].clone())).await, (vec![ids[0].clone()], false));
    let of = |state| ApprovalFilter { state: Some(state), ..ApprovalFilter::default() };
    let count = async |state, now| store.approvals(of(state), 9, Moment(now)).await.unwrap().0.len();
    assert_eq!((count(ApprovalState::Pending, 0).await, count(ApprovalState::Expired, 0).await), (3, 0));
    assert_eq!((count(ApprovalState::Pending, LIFE).await, count(ApprovalState::Expired, LIFE).await), (0, 3));
    store.close().await.unwrap();
    for entry in std::fs::read_dir(folder.path()).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        assert!(!bytes.windows(8).any(|window| window == b"in the c"), "nowhere in the clear");
    }
}

/// A call that nobody waits for any more is of unknown end once the sweep comes by; one that ended is not touched.
#[tokio::test]
async fn what_is_lost_sight_of_is_unknown() {
    let (_folder, store) = open();
    let clock: Arc<dyn Clock> = Arc::new(crate::domain::clock::ManualClock::default());
    let (approvals, _hooks) = Approvals::start(store.clone(), clock, Vec::new()).await.unwrap();
    let mut ids = Vec::new();
    for call in ["a", "b"] {
        let event = EventId::fresh();
        let Asked::Waits(record, _) = store.ask_approval(new(call, "k", &event, 0), LIMITS).await.unwrap() else {
            panic!("a request")
        };
        store.decide_approval(&record.id, Decision::Approve, by(0)).await.unwrap();
        let taken = store.ask_approval(new(call, "k", &event, 0), LIMITS).await.unwrap();
        assert!(matches!(taken, Asked::Taken { .. }));
        ids.push((record.id, Execution { approvals: approvals.clone(), event, open: true }));
    }
    let state = async |id: &ApprovalId| approvals.find(id).await.unwrap().unwrap().state;
    let (second, ended) = ids.pop().unwrap();
    let (first, dropped) = ids.pop().unwrap();
    ended.ended(Ended::Used("answered")).await;
    drop(dropped);
    assert_eq!(state(&first).await, ApprovalState::Executing);
    approvals.sweep().await;
    assert_eq!((state(&first).await, state(&second).await), (ApprovalState::Unknown, ApprovalState::Used));
}
