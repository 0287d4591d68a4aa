//! A million entities: how fast they are imported, and how long queries of words with joins take then:
//! `cargo bench --bench brain`. A number as argument takes that many instead.

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
    let attributes = json!({
        "customer_id": format!("c-{}", dice.roll(customers)), "amount": dice.roll(1_000_000) as f64 / 100.0,
        "status": STATUS[dice.roll(3)], "due": format!("2026-{:02}-{:02}", 1 + dice.roll(12), 1 + dice.roll(28)),
        "note": format!("{} {} for the {} works", FIRST[dice.roll(20)], LAST[dice.roll(20)], LAST[dice.roll(20)]),
    });
    entity("invoice", format!("i-{number}"), attributes)
}

async fn import(brain: &Brain, count: usize) -> usize {
    let (customers, mut dice) = (count / (INVOICES + 1), Dice(7));
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
            "a word, a city and a plan, with open invoices and their sum",
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
        ("words of anything", Box::new(move |dice| json!({"query": name(dice.roll(customers))}))),
        (
            "invoices of a customer by filter",
            Box::new(
                move |dice| json!({"entity_type": "invoice", "filter": {"customer_id": format!("c-{}", dice.roll(customers))}}),
            ),
        ),
    ]
}

async fn measure(brain: &Brain, make: &dyn Fn(&mut Dice) -> Value) -> (Vec<u64>, u64) {
    let (clock, mut dice, mut times, mut found) = (SystemClock, Dice(11), Vec::new(), 0);
    for _ in 0..QUERIES {
        let query: Query = serde_json::from_value(make(&mut dice)).unwrap();
        let start = clock.ticks();
        let read = brain.read(toolgate::brain::QUERY_TIME, move |reading| run(reading, &query, &mut Everything));
        let answered: Result<_, QueryError> = read.await;
        times.push(clock.ticks() - start);
        found += answered.unwrap().structured["total"].as_u64().unwrap();
    }
    times.sort_unstable();
    (times, found)
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
        say("milliseconds:                                                       p50    p99    max  found");
        for (what, make) in queries(customers) {
            let (times, found) = measure(&brain, &*make).await;
            let at = |share: usize| times[(times.len() - 1) * share / 100] as f64 / 1e3;
            let found = found / QUERIES as u64;
            say(&format!("{what:<64} {:>6.2} {:>6.2} {:>6.2} {found:>6}", at(50), at(99), at(100)));
        }
    });
}
