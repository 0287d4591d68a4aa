//! A million entities: how fast they are imported, and how long queries of words with joins take then:
//! `cargo bench --bench brain`. A number as argument takes that many instead. Beside the time that passes stands the time
//! that the processor works on a query, which others on the machine do not lengthen.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a benchmark may stop where its own data is wrong")]

use std::io::Write;

use serde_json::{Map, Value, json};
use tempfile::TempDir;
use toolgate::brain::{Brain, Entity, Everything, Query, QueryError, run};
use toolgate::domain::audit::Durability;
use toolgate::domain::clock::{Clock, SystemClock};
use toolgate::store::Store;

const BATCH: usize = 5_000;
const QUERIES: usize = 2_000;
/// Microseconds that queries of one kind take together.
const MOST_TIME: u64 = 20_000_000;
const INVOICES: usize = 9;
const FIRST: [&str; 20] = [
    "north", "blue", "rapid", "quiet", "golden", "iron", "bright", "open", "royal", "solid", "green", "lucky", "noble",
    "prime", "silver", "swift", "urban", "vital", "wild", "young",
];
const LAST: [&str; 20] = [
    "harbour", "forge", "meadow", "orchard", "summit", "bridge", "canyon", "garden", "island", "lantern", "market",
    "needle", "ocean", "planet", "quarry", "ridge", "sparrow", "tower", "valley", "window",
];
const FORM: [&str; 4] = ["gmbh", "ltd", "inc", "sarl"];
const PLAN: [&str; 3] = ["free", "pro", "enterprise"];
const STATUS: [&str; 3] = ["open", "paid", "overdue"];
/// Each in half of all notes, and never both.
const SIDE: [&str; 2] = ["left", "right"];
/// Branches, to which all invoices belong.
const BRANCHES: usize = 10;
const CITY: [&str; 8] = ["Berlin", "Lyon", "Oslo", "Porto", "Turin", "Ghent", "Graz", "Cork"];

/// Numbers that look random and are the same each time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from((self.0 >> 33) % sides as u64).unwrap()
    }
}

fn entity(entity_type: &str, key: String, attributes: Value) -> Entity {
    let attributes: Map<String, Value> = serde_json::from_value(attributes).unwrap();
    Entity { entity_type: entity_type.into(), key, key_name: "id".into(), attributes }
}

fn name(customer: usize) -> String {
    let (first, last) = (FIRST[customer % 20], LAST[customer / 20 % 20]);
    format!("{first} {last} {} {}", customer / 400, FORM[customer % 7 % 4])
}

fn customer(number: usize, dice: &mut Dice) -> Entity {
    let attributes = json!({
        "name": name(number), "city": CITY[dice.roll(8)], "employees": dice.roll(5_000),
        "email": format!("office{number}@{}.example", LAST[dice.roll(20)]),
        "plan": PLAN[dice.roll(3)],
    });
    entity("customer", format!("c-{number}"), attributes)
}

fn invoice(number: usize, customers: usize, dice: &mut Dice) -> Entity {
    let side = SIDE[dice.roll(2)];
    let attributes = json!({
        "customer_id": format!("c-{}", dice.roll(customers)), "branch_id": format!("b-{}", dice.roll(BRANCHES)), "amount": dice.roll(1_000_000) as f64 / 100.0,
        "status": STATUS[dice.roll(3)], "due": format!("2026-{:02}-{:02}", 1 + dice.roll(12), 1 + dice.roll(28)),
        "note": format!(
            "{} {} for the {} works on the {side} side",
            FIRST[dice.roll(20)], LAST[dice.roll(20)], LAST[dice.roll(20)]
        ),
        "part": side,
    });
    entity("invoice", format!("i-{number}"), attributes)
}

async fn import(brain: &Brain, count: usize) -> usize {
    let (customers, mut dice) = (count / (INVOICES + 1), Dice(7));
    let branch = |number: usize| entity("branch", format!("b-{number}"), json!({"name": format!("branch {number}")}));
    brain.write((0..BRANCHES).map(branch).collect(), Vec::new()).await.unwrap();
    let mut batch = Vec::with_capacity(BATCH);
    for number in 0..count {
        batch.push(match number.checked_sub(customers) {
            None => customer(number, &mut dice),
            Some(number) => invoice(number, customers, &mut dice),
        });
        if batch.len() == BATCH || number + 1 == count {
            let written = brain.write(std::mem::take(&mut batch), Vec::new()).await.unwrap();
            assert_eq!(written.faults, []);
        }
    }
    customers
}

fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.write_all(b"\n")).unwrap();
}

/// Makes a query, another one each time.
type Make = Box<dyn Fn(&mut Dice) -> Value>;

fn of_invoices(words: &str) -> Value {
    json!({"query": words, "entity_type": "invoice", "join_to": {"entity_type": "customer"}})
}

/// The queries, by what they stand for.
fn queries(customers: usize) -> Vec<(&'static str, Make)> {
    let joined =
        |query: String| json!({"query": query, "entity_type": "customer", "join_to": {"entity_type": "invoice"}});
    vec![
        ("a name, with invoices", Box::new(move |dice| joined(name(dice.roll(customers))))),
        (
            "two words, with invoices",
            Box::new(move |dice| joined(format!("{} {}", FIRST[dice.roll(20)], LAST[dice.roll(20)]))),
        ),
        ("a word of every fourth, with invoices", Box::new(move |dice| joined(FORM[dice.roll(4)].to_owned()))),
        (
            "a word, a city, a plan, with open invoices and sums",
            Box::new(move |dice| {
                let mut query = joined(FIRST[dice.roll(20)].to_owned());
                query["filter"] = json!({"city": CITY[dice.roll(8)], "plan": "pro"});
                query["join_to"]["filter"] = json!({"status": "open"});
                query["join_to"]["aggregate"] = json!({"count": true, "sum": ["amount"]});
                query
            }),
        ),
        (
            "words of notes, with the customer",
            Box::new(|dice| {
                let words = format!("{} {}", FIRST[dice.roll(20)], LAST[dice.roll(20)]);
                json!({"query": words, "entity_type": "invoice", "join_to": {"entity_type": "customer"}})
            }),
        ),
        (
            "ten branches, with a tenth of all invoices each",
            Box::new(|_| json!({"query": "branch", "entity_type": "branch", "join_to": {"entity_type": "invoice"}})),
        ),
        ("words of every invoice, with the customer", Box::new(|_| of_invoices("the works on the side"))),
        ("common words that never meet, with the customer", Box::new(|_| of_invoices("left right"))),
        (
            "a common word and a filter that never meet",
            Box::new(|_| {
                let mut query = of_invoices("left");
                query["filter"] = json!({"part": "right"});
                query
            }),
        ),
        ("words of anything", Box::new(move |dice| json!({"query": name(dice.roll(customers))}))),
        (
            "invoices of a customer by filter",
            Box::new(
                move |dice| json!({"entity_type": "invoice", "filter": {"customer_id": format!("c-{}", dice.roll(customers))}}),
            ),
        ),
    ]
}

/// Microseconds that this thread has worked, as Linux tells; 0 elsewhere.
fn worked() -> u64 {
    // The account is drawn up when the thread gives way.
    std::thread::yield_now();
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    told.split(' ').next().and_then(|nanos| nanos.parse::<u64>().ok()).unwrap_or(0) / 1000
}

/// What a kind of query takes.
struct Measured {
    passed: Vec<u64>,
    worked: Vec<u64>,
    found: u64,
}

async fn measure(brain: &Brain, make: &dyn Fn(&mut Dice) -> Value) -> Measured {
    let (clock, mut dice, mut times, mut works, mut found) = (SystemClock, Dice(11), Vec::new(), Vec::new(), 0);
    let begun = clock.ticks();
    for _ in 0..QUERIES {
        // What is slow is asked less often.
        if clock.ticks() - begun > MOST_TIME && times.len() >= 20 {
            break;
        }
        let query: Query = serde_json::from_value(make(&mut dice)).unwrap();
        let start = clock.ticks();
        let read = brain.read(toolgate::brain::QUERY_TIME, move |reading| {
            let before = worked();
            let answered = run(reading, &query, &mut Everything)?;
            Ok((answered, worked() - before))
        });
        let answered: Result<_, QueryError> = read.await;
        times.push(clock.ticks() - start);
        if let Ok((answered, work)) = answered {
            works.push(work);
            found += answered.structured["total"].as_u64().unwrap();
        }
    }
    times.sort_unstable();
    works.sort_unstable();
    let found = found / works.len().max(1) as u64;
    Measured { passed: times, worked: works, found }
}

fn main() {
    let count = std::env::args().find_map(|argument| argument.parse().ok()).unwrap_or(1_000_000);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let folder = TempDir::new().unwrap();
        let brain = Store::open(folder.path(), Durability::Process).unwrap().brain();
        let (clock, start) = (SystemClock, SystemClock.ticks());
        let customers = import(&brain, count).await;
        let seconds = (clock.ticks() - start) as f64 / 1e6;
        let bytes = folder.path().join("brain.db").metadata().unwrap().len();
        say(&format!(
            "{count} entities imported in {seconds:.1} s, {:.0} a second, {} MiB",
            count as f64 / seconds,
            bytes >> 20
        ));
        let start = clock.ticks();
        import(&brain, count / 10).await;
        let seconds = (clock.ticks() - start) as f64 / 1e6;
        say(&format!("{} of them written over in {seconds:.1} s", count / 10));
        say("milliseconds:                                       passed p50    p99    max | worked p50    p99  found");
        for (what, make) in queries(customers) {
            let Measured { passed, worked, found } = measure(&brain, &*make).await;
            let at = |times: &[u64], share: usize| {
                times.get(times.len().saturating_sub(1) * share / 100).map_or(f64::NAN, |time| *time as f64 / 1e3)
            };
            say(&format!(
                "{what:<52} {:>9.2} {:>6.2} {:>6.2} | {:>10.2} {:>6.2} {found:>6}",
                at(&passed, 50),
                at(&passed, 99),
                at(&passed, 100),
                at(&worked, 50),
                at(&worked, 99)
            ));
        }
    });
}
