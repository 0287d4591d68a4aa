//! What importing and asking promise.

use std::time::Duration;

use proptest::prelude::*;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;
use crate::domain::audit::Durability;
use crate::store::Store;

const SOON: Duration = Duration::from_secs(20);

/// The sight of somebody who is not shown these types and fields.
#[derive(Debug, Clone)]
struct Without(&'static [&'static str]);

impl Sight for Without {
    fn shows(&mut self, entity_type: &str, field: Option<&str>) -> bool {
        let name = field.map_or_else(|| entity_type.to_owned(), |field| format!("{entity_type}.{field}"));
        !self.0.contains(&name.as_str())
    }
}

struct World {
    brain: Brain,
    _folder: TempDir,
}

impl World {
    fn empty() -> Self {
        let folder = TempDir::new().unwrap();
        let brain = Store::open(folder.path(), Durability::Process).unwrap().brain();
        Self { brain, _folder: folder }
    }

    /// The demo's entities.
    async fn demo() -> Self {
        let world = Self::empty();
        world.write(demo()).await;
        world
    }

    async fn write(&self, entities: Vec<Entity>) {
        let written = self.brain.write(entities, Vec::new()).await.unwrap();
        assert_eq!(written.faults, []);
    }

    async fn ask_as(&self, sight: Without, query: Value) -> Result<Answered, QueryError> {
        let query: Query = serde_json::from_value(query).unwrap();
        let mut sight = sight;
        self.brain.read(SOON, move |reading| run(reading, &query, &mut sight)).await
    }

    async fn ask(&self, query: Value) -> Value {
        self.ask_as(Without(&[]), query).await.unwrap().structured
    }

    async fn keys(&self, query: Value) -> Vec<String> {
        keys(&self.ask(query).await)
    }

    async fn fault(&self, query: Value) -> String {
        self.ask_as(Without(&[]), query).await.unwrap_err().to_string()
    }
}

fn keys(answer: &Value) -> Vec<String> {
    answer["entities"].as_array().unwrap().iter().map(|one| one["key"].as_str().unwrap_or("-").to_owned()).collect()
}

fn read(text: &str, format: Format, options: RowsOptions) -> Vec<String> {
    let rows = Rows::new(text.as_bytes(), format, options);
    let line = |row: Row| match row.entity {
        Ok(entity) => {
            format!("{}: {} {} {}", row.line, entity.entity_type, entity.key, json!(entity.attributes))
        }
        Err(reason) => format!("{}: {reason}", row.line),
    };
    rows.map(|row| line(row.unwrap())).collect()
}

#[test]
fn json_lines_with_every_fault_by_its_line() {
    let long = format!("{{\"type\":\"a\",\"id\":1,\"x\":\"{}\"}}", "y".repeat(300_000));
    let text = format!(
        "{}\n\n  \n{}\n{}\n{}\n{}\n{}\n{}\n{}\n{}\n{}\n{long}\n{}",
        r#"{"type":"a","id":"1","x":1.5,"y":null}"#,
        r#"{"type":"a","id":2"#,
        r#"[1]"#,
        r#"{"id":"1"}"#,
        r#"{"type":"a","x":1}"#,
        r#"{"type":"a","id":{}}"#,
        r#"{"type":"a","id":1,"x":1,"x":2}"#,
        r#"{"type":"a","key":"1","attributes":{"id":"2"}}"#,
        r#"{"type":"a","key":7,"attributes":{"x":[1]}}"#,
        r#"{"entity_type":"b","type":"kept","id":3}"#,
        r#"{"type":"a","id":"last"}"#,
    );
    insta::assert_snapshot!(read(&text, Format::Jsonl, RowsOptions::default()).join("\n"), @r#"
    1: a 1 {"x":1.5,"y":null}
    4: not JSON: EOF while parsing an object
    5: a row is a JSON object
    6: no type: name it in a member `type`, or with `--type` at the command line
    7: no key: `id` is missing, or neither a text nor a number
    8: no key: `id` is missing, or neither a text nor a number
    9: the member `x` stands twice in one object
    10: `key` is `1` and `id` is `2`: they are the same thing
    11: a 7 {"x":[1]}
    12: b 3 {"type":"kept"}
    13: the line is longer than 262144 bytes
    14: a last {}
    "#);
}

#[test]
fn csv_with_every_fault_by_its_line() {
    let options = RowsOptions { entity_type: Some("invoice".into()), key: Some("number".into()) };
    let text = "\u{feff}number,amount,note,paid,zip\n007,12.50,\"two\nlines, \"\"quoted\"\"\",true,01234\n8,x\n,1,2,3,4\n9,-3,,false,12345678901234567890\n";
    insta::assert_snapshot!(read(text, Format::Csv, options).join("\n"), @r#"
    2: invoice 007 {"amount":12.5,"note":"two\nlines, \"quoted\"","paid":true,"zip":"01234"}
    4: the row has 2 fields, the header 5
    5: no key: `number` is missing, or neither a text nor a number
    6: invoice 9 {"amount":-3,"paid":false,"zip":"12345678901234567890"}
    "#);
    let options = || RowsOptions { entity_type: Some("a".into()), key: None };
    assert_eq!(read("id;n\nx;1,5\n", Format::Csv, options()), ["2: a x {\"n\":\"1,5\"}"]);
    let latin = Rows::new(&b"id,n\n1,\xe9\n"[..], Format::Csv, options()).next().unwrap().unwrap();
    assert_eq!(latin.entity.unwrap_err(), "`n` is not UTF-8");
    let twice = Rows::new(&b"id,n,n\n"[..], Format::Csv, options()).next().unwrap();
    assert_eq!(twice.unwrap_err().to_string(), "the header has `n` twice");
    assert_eq!(relation("a.b=c.d").unwrap().target_attribute, "d");
    assert_eq!(
        relation("a=b").unwrap_err().to_string(),
        "`a=b` is no relation: write `invoice.customer_id=customer.id`"
    );
}

#[tokio::test]
async fn a_name_is_found_with_what_belongs_to_it() {
    let world = World::demo().await;
    let query = json!({"query": "Acme", "entity_type": "customer", "join_to": {"entity_type": "invoice"}});
    let answered = world.ask_as(Without(&[]), query).await.unwrap();
    insta::assert_snapshot!(answered.text, @r"
    customer c-1001: name=Acme, city=Berlin, country=DE, plan=enterprise, email=ops@acme.example, account_manager=Ana Ruiz
      invoice inv-2001: customer_id=c-1001, amount=1200.5, currency=EUR, status=paid, due=2026-07-01
      invoice inv-2002: customer_id=c-1001, amount=980.0, currency=EUR, status=open, due=2026-09-01
      invoice inv-2003: customer_id=c-1001, amount=2410.25, currency=EUR, status=overdue, due=2026-06-15
    customer c-1002: name=Acme Logistics, city=Hamburg, country=DE, plan=pro, email=desk@acme-logistics.example, account_manager=Ben Vogt
      invoice inv-2004: customer_id=c-1002, amount=310.0, currency=EUR, status=paid, due=2026-08-12
    2 of 2 found; 4 of 4 joined invoice
    ");
    assert_eq!(answered.types, ["customer", "invoice"]);
    let first = &answered.structured["entities"][0];
    assert_eq!((&first["type"], &first["joined_total"]), (&json!("customer"), &json!(3)));
    assert_eq!(first["joined"][0]["attributes"]["amount"], 1200.5);
}

#[tokio::test]
async fn filters_counts_sums_and_fields() {
    let world = World::demo().await;
    let invoices = |filter: Value| json!({"entity_type": "invoice", "filter": filter});
    for (filter, expected) in [
        (json!({"status": "open"}), &["inv-2002", "inv-2005"][..]),
        (json!({"status": ["open", "paid"], "currency": "USD"}), &["inv-2008"]),
        (json!({"status": {"ne": "paid"}, "amount": {"gte": 980, "lt": 2410.25}}), &["inv-2002"]),
        (json!({"due": {"gt": "2026-09-01"}}), &["inv-2005"]),
        (json!({"id": "inv-2003"}), &["inv-2003"]),
        (json!({"key": {"in": ["inv-2003", "nothing"]}}), &["inv-2003"]),
        (json!({"customer_id": {"contains": "1004"}}), &["inv-2007"]),
        (json!({"status": null}), &[]),
        (json!({"amount": "310"}), &["inv-2004"]),
        (json!({"status": "OPEN"}), &[]),
    ] {
        assert_eq!(world.keys(invoices(filter.clone())).await, expected, "{filter}");
    }
    let tickets = json!({"entity_type": "ticket", "filter": {"tags": "sso"}});
    assert_eq!(world.keys(tickets).await, ["t-2"]);

    let aggregate = json!({"count": true, "sum": ["amount"]});
    let answer = world
        .ask(json!({"entity_type": "invoice", "limit": 1, "filter": {"currency": "EUR"}, "aggregate": aggregate}))
        .await;
    assert_eq!(answer["aggregates"], json!({"count": 6, "sum": {"amount": 28000.75}}));
    assert_eq!((&answer["total"], keys(&answer).len()), (&json!(6), 1));
    for query in [json!({"entity_type": "invoice"}), json!({"entity_type": "invoice", "query": "eur"})] {
        let mut query = query;
        query["aggregate"] = json!({"count": true});
        let count = world.ask(query.clone()).await["aggregates"]["count"].clone();
        assert_eq!(count, if query["query"].is_null() { 8 } else { 6 });
    }

    let query = json!({
        "query": "acme", "entity_type": "customer", "fields": ["city"],
        "join_to": {"entity_type": "invoice", "fields": ["amount"], "filter": {"status": {"ne": "paid"}}, "limit": 1,
                    "aggregate": {"count": true, "sum": ["amount"]}},
    });
    let answer = world.ask(query).await;
    assert_eq!(
        answer["entities"][0],
        json!({
            "type": "customer", "key": "c-1001", "attributes": {"city": "Berlin"},
            "joined": [{"type": "invoice", "key": "inv-2002", "attributes": {"amount": 980.0}}], "joined_total": 2,
            "joined_aggregates": {"count": 2, "sum": {"amount": 3390.25}},
        })
    );
    assert_eq!(answer["omitted"][0], "1 of 2 joined `invoice` are shown: raise `join_to.limit`, or query `invoice`");
}

#[tokio::test]
async fn what_is_asked_wrongly_is_told() {
    let world = World::demo().await;
    for (query, told) in [
        (json!({"entity_type": "robot"}), "there is no entity type `robot`: known are customer, invoice, ticket"),
        (json!({"filter": {"a": 1}}), "`filter` needs an `entity_type`"),
        (json!({"query": "\"*"}), "`query` has no word in it: give a name, or leave it out and filter"),
        (
            json!({"entity_type": "ticket", "filter": {"subjekt": 1}}),
            "`ticket` has no field `subjekt`: it has id, customer_id, subject, priority, status, tags",
        ),
        (
            json!({"entity_type": "ticket", "filter": {"status": {"like": "x"}}}),
            "the filter on `status` has no operator `like`: known are eq, ne, gt, gte, lt, lte, in, contains",
        ),
        (
            json!({"entity_type": "ticket", "filter": {"status": {"in": "x"}}}),
            "`in` on `status` takes a list of at most 200 values",
        ),
        (
            json!({"entity_type": "ticket", "join_to": {"entity_type": "invoice"}}),
            "it is not known how `invoice` belongs to `ticket`: say `on`, as in `invoice.FIELD=ticket.id`",
        ),
        (
            json!({"entity_type": "ticket", "join_to": {"entity_type": "invoice", "on": "nowhere"}}),
            "neither `invoice` nor `ticket` has a field `nowhere` to join by",
        ),
        (
            json!({"entity_type": "ticket", "join_to": {"entity_type": "invoice", "on": "a.b=c.d"}}),
            "`on` joins `ticket` to `invoice`: name these two",
        ),
        (
            json!({"entity_type": "ticket", "cursor": "AAAA"}),
            "`cursor` is of another query: repeat that query with it, or begin without",
        ),
    ] {
        assert_eq!(world.fault(query.clone()).await, told, "{query}");
    }
    let many: serde_json::Map<String, Value> =
        [("status".to_owned(), json!({"eq": 1, "ne": 2})), ("id".to_owned(), json!(1))].into_iter().collect();
    assert!(world.ask(json!({"entity_type": "ticket", "filter": many})).await["total"] == 0);
}

#[tokio::test]
async fn joins_go_both_ways_and_as_they_are_told() {
    let world = World::demo().await;
    let customer =
        |on: Value| json!({"entity_type": "invoice", "limit": 1, "join_to": {"entity_type": "customer", "on": on}});
    for on in [
        Value::Null,
        json!("customer_id"),
        json!("invoice.customer_id=customer.id"),
        json!("customer.id = invoice.customer_id"),
    ] {
        let answer = world.ask(customer(on.clone())).await;
        assert_eq!(answer["entities"][0]["joined"][0]["attributes"]["name"], "Acme", "{on}");
    }
    // Through a field that both have.
    let query = json!({"entity_type": "ticket", "limit": 1, "join_to": {"entity_type": "invoice", "on": "ticket.customer_id=invoice.customer_id"}});
    assert_eq!(world.ask(query).await["entities"][0]["joined_total"], 3);
    let rows = [json!({"boss_id": 1}), json!({"person": ["1", 2]})];
    let entities = rows.into_iter().zip(["2", "3"]).map(|(row, key)| person(key, row)).chain([person("1", json!({}))]);
    world.write(entities.collect()).await;
    let query = |on: &str| json!({"entity_type": "person", "join_to": {"entity_type": "person", "on": on}});
    let answer = world.ask(query("boss_id")).await;
    let joined = |answer: &Value, at: usize| keys(&json!({"entities": answer["entities"][at]["joined"]}));
    assert_eq!(joined(&answer, 2), ["2"], "those whose boss it is: {answer}");
    let answer = world.ask(query("person")).await;
    assert_eq!(joined(&answer, 1), ["2", "1"], "each item of a list, a text or a number: {answer}");
}

fn of_type(entity_type: &str, key: &str, attributes: Value) -> Entity {
    Entity { entity_type: entity_type.into(), ..person(key, attributes) }
}

fn person(key: &str, attributes: Value) -> Entity {
    let Value::Object(attributes) = attributes else { panic!("attributes are an object") };
    Entity { entity_type: "person".into(), key: key.into(), key_name: "id".into(), attributes }
}

#[tokio::test]
async fn what_is_hidden_is_not_there() {
    let world = World::demo().await;
    let hidden = Without(&["customer.email", "customer.country", "invoice.amount", "ticket"]);
    let ask = async |query: Value| world.ask_as(hidden.clone(), query).await;
    let there = ask(json!({"query": "acme", "entity_type": "customer"})).await.unwrap().structured;
    assert_eq!(there["entities"][0]["attributes"].get("email"), None);
    // By what it holds, by the index of words and of values, in a filter, a join, a sum and a selection.
    for words in ["ops", "example", "DE", "desk", "ops example"] {
        let found = ask(json!({"query": words, "entity_type": "customer"})).await.unwrap().structured;
        assert_eq!(found["total"], 0, "{words}: {found}");
        let anywhere = ask(json!({"query": words})).await.unwrap().structured;
        assert!(!keys(&anywhere).iter().any(|key| key.starts_with("c-")), "{words}: {anywhere}");
    }
    let of = async |email: &str| ask(json!({"query": email, "entity_type": "customer"})).await.unwrap().structured;
    assert_eq!(of("ops@acme.example").await, of("nobody@acme.nowhere").await, "as an address that nobody has");
    let missing = |name: &str| {
        let fields = "id, name, city, plan, account_manager";
        format!("`customer` has no field `{name}`: it has {fields}")
    };
    for name in ["email", "nowhere"] {
        for query in [
            json!({"entity_type": "customer", "filter": {name: "ops@acme.example"}}),
            json!({"entity_type": "customer", "fields": [name]}),
            json!({"entity_type": "customer", "aggregate": {"sum": [name]}}),
            json!({"entity_type": "invoice", "join_to": {"entity_type": "customer", "filter": {name: 1}}}),
            json!({"entity_type": "invoice", "join_to": {"entity_type": "customer", "fields": [name]}}),
            json!({"entity_type": "invoice", "join_to": {"entity_type": "customer", "on": format!("invoice.id=customer.{name}")}}),
        ] {
            assert_eq!(ask(query.clone()).await.unwrap_err().to_string(), missing(name), "{query}");
        }
    }
    let sum = ask(json!({"entity_type": "invoice", "aggregate": {"sum": ["amount"]}})).await;
    assert!(sum.unwrap_err().to_string().starts_with("`invoice` has no field `amount`"));
    for name in ["ticket", "nowhere"] {
        let told = format!("there is no entity type `{name}`: known are customer, invoice");
        assert_eq!(ask(json!({"entity_type": name})).await.unwrap_err().to_string(), told);
        let join = json!({"entity_type": "customer", "join_to": {"entity_type": name}});
        assert_eq!(ask(join).await.unwrap_err().to_string(), told);
    }
    assert_eq!(ask(json!({"query": "export csv"})).await.unwrap().structured["total"], 0);
    let listed = ask(json!({})).await.unwrap();
    assert!(!listed.structured.to_string().contains("email") && !listed.text.contains("ticket"), "{}", listed.text);

    // The key itself, and with it the relation to it.
    let keyless = Without(&["customer.id"]);
    let found = world.ask_as(keyless.clone(), json!({"query": "acme", "entity_type": "customer"})).await.unwrap();
    assert!(!found.structured.to_string().contains("c-1001"), "{}", found.text);
    let found = world.ask_as(keyless.clone(), json!({"query": "c-1001", "entity_type": "customer"})).await.unwrap();
    assert_eq!(found.structured["total"], 0);
    let join = json!({"entity_type": "customer", "join_to": {"entity_type": "invoice"}});
    assert!(world.ask_as(keyless, join).await.unwrap_err().to_string().starts_with("it is not known how"));
}

#[tokio::test]
async fn pages_neither_repeat_nor_lose_what_stays() {
    let world = World::empty();
    let row = |n: usize| person(&format!("p{n}"), json!({"name": format!("Sam {}", n % 7), "n": n}));
    world.write((0..1200).map(row).collect()).await;
    for query in [
        json!({"entity_type": "person", "limit": 97}),
        json!({"entity_type": "person", "query": "sam", "limit": 97}),
        json!({"query": "sam", "limit": 100}),
        json!({"entity_type": "person", "filter": {"n": {"lt": 600}}, "limit": 100}),
    ] {
        let (mut seen, mut cursor, mut totals) = (Vec::new(), Value::Null, Vec::new());
        loop {
            let mut page = query.clone();
            page["cursor"] = cursor;
            let answer = world.ask(page).await;
            seen.extend(keys(&answer));
            totals.push(answer["total"].clone());
            // Somebody writes meanwhile: behind the last, as all that is new.
            if seen.len() < 400 {
                world.write(vec![person(&format!("late{}", seen.len()), json!({"name": "x", "n": 9999}))]).await;
            }
            cursor = answer["next_cursor"].clone();
            if cursor.is_null() {
                break;
            }
        }
        seen.retain(|key| key.starts_with('p'));
        let all = seen.len();
        seen.sort();
        seen.dedup();
        let expected = if query["filter"].is_null() { 1200 } else { 600 };
        assert_eq!((seen.len(), all), (expected, expected), "{query}");
        assert!(totals.windows(2).all(|pair| pair[0] == pair[1]), "{query}: {totals:?}");
    }
    let first = world.ask(json!({"entity_type": "person", "query": "sam 3", "limit": 1})).await;
    let other = json!({"entity_type": "person", "query": "sam 4", "cursor": first["next_cursor"]});
    assert!(world.fault(other).await.starts_with("`cursor` is of another query"));
}

#[tokio::test]
async fn who_is_meant_is_first_however_many_have_the_word() {
    let world = World::empty();
    let row = |n: usize| person(&format!("p{n}"), json!({"note": format!("a friend of sam number {n}")}));
    let mut rows: Vec<Entity> = (0..1500).map(row).collect();
    rows.push(person("sam", json!({"name": "Sam"})));
    world.write(rows).await;
    let answer = world.ask(json!({"entity_type": "person", "query": "sam", "limit": 2})).await;
    assert_eq!(keys(&answer), ["sam", "p0"]);
    assert_eq!((&answer["total"], &answer["total_is_at_least"]), (&json!(500), &json!(true)));
    let counted = world.ask(json!({"entity_type": "person", "query": "sam", "aggregate": {"count": true}})).await;
    assert_eq!(counted["aggregates"]["count"], 1501);
    let some = world.ask(json!({"entity_type": "person", "query": "sam zebra", "limit": 1})).await;
    assert_eq!(keys(&some), ["sam"]);
    assert_eq!(some["omitted"][0], "no entity has all the words: these have some of them");
}

/// A word of everybody and filters: the index rules out most, and what it does not know is looked at all the same.
#[tokio::test]
async fn common_words_and_filters_meet() {
    let world = World::empty();
    let side = |n: usize| if n.is_multiple_of(2) { "Left" } else { "right" };
    let row = |n: usize| person(&format!("p{n}"), json!({"note": "at the works", "side": side(n), "n": n % 1000}));
    world.write((0..5000).map(row).collect()).await;
    let asked = |filter: Value| json!({"entity_type": "person", "query": "works", "filter": filter, "limit": 3});
    assert_eq!(world.keys(asked(json!({"side": "right"}))).await, ["p1", "p3", "p5"]);
    let both = world.ask(asked(json!({"side": "Left", "n": {"in": [7, 8]}}))).await;
    assert_eq!((keys(&both), &both["total"]), (vec!["p8".into(), "p1008".into(), "p2008".into()], &json!(5)));
    // Capitals are another letter than small ones, whatever the index makes of them.
    assert_eq!(world.keys(asked(json!({"side": "left"}))).await, [""; 0]);
    let counted =
        json!({"entity_type": "person", "query": "works", "filter": {"side": "Left"}, "aggregate": {"count": true}});
    assert_eq!(world.ask(counted).await["aggregates"]["count"], 2500);
}

/// On a page of many, what belongs to each is looked at no further than it has to be, and the answer says so.
#[tokio::test]
async fn joins_share_what_is_looked_at() {
    let world = World::empty();
    let mut rows: Vec<Entity> =
        (0..12).map(|n| of_type("house", &format!("h{n}"), json!({"street": "long"}))).collect();
    rows.extend((0..3600).map(|n| of_type("flat", &format!("f{n}"), json!({"house_id": format!("h{}", n % 12)}))));
    world.write(rows).await;
    let asked =
        |limit: u64| json!({"entity_type": "house", "limit": limit, "join_to": {"entity_type": "flat", "limit": 100}});
    let one = world.ask(asked(1)).await;
    assert_eq!(
        (&one["entities"][0]["joined_total"], one["entities"][0]["joined"].as_array().unwrap().len()),
        (&json!(300), 100)
    );
    let all = world.ask(asked(12)).await;
    let totals: Vec<_> = all["entities"].as_array().unwrap().iter().map(|one| one["joined_total"].clone()).collect();
    assert_eq!(totals, vec![json!(100); 12]);
    assert!(all["omitted"].to_string().contains("of at least 1200 joined `flat`"), "{}", all["omitted"]);
}

#[tokio::test]
async fn long_texts_are_cut_unless_they_are_asked_for() {
    let world = World::empty();
    world.write(vec![person("1", json!({"bio": "word ".repeat(1000), "name": "Sam"}))]).await;
    let answer = world.ask(json!({"entity_type": "person"})).await;
    assert_eq!(answer["entities"][0]["attributes"]["bio"].as_str().unwrap().chars().count(), 501);
    assert_eq!(answer["omitted"][0], "texts are cut after 500 characters: name their fields in `fields`");
    let answer = world.ask(json!({"entity_type": "person", "fields": ["bio"]})).await;
    assert_eq!(answer["entities"][0]["attributes"]["bio"].as_str().unwrap().len(), 5000);
    world.write((2..40).map(|n| person(&n.to_string(), json!({"bio": "word ".repeat(5000)}))).collect()).await;
    let full = world.ask(json!({"entity_type": "person", "fields": ["bio"], "limit": 100})).await;
    assert!(full.to_string().len() < 400_000 && full["next_cursor"].is_string());
    assert!(full["omitted"][0].as_str().unwrap().contains("for the answer is full"), "{}", full["omitted"]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn no_text_is_syntax(text in prop_oneof![
        "\\PC{0,60}",
        "[\"'*^:(){}+ANDORNT-]{0,30}",
        Just("name:acme OR \"x\" NEAR(a b, 2) ^c*".to_owned()),
        Just("'; DROP TABLE entities; --".to_owned()),
    ]) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let world = World::empty();
            world.write(vec![person("1", json!({"name": text, "x": "acme"}))]).await;
            for query in [json!({"query": text}), json!({"query": text, "entity_type": "person"})] {
                match world.ask_as(Without(&[]), query).await {
                    Ok(answered) => assert!(text.trim().is_empty() || answered.structured["total"] == 1, "{}", answered.text),
                    Err(error) => assert!(error.to_string().starts_with("`query` has no word"), "{error}"),
                }
            }
            let filter = json!({"entity_type": "person", "filter": {"name": text}});
            assert_eq!(world.ask(filter).await["total"], 1);
        });
    }
}
