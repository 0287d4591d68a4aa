//! What the entities promise: written whole or not at all, replaced by key, found by every index, cut off in time.

use std::ops::ControlFlow;
use std::time::Duration;

use proptest::prelude::*;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;
use crate::domain::audit::Durability;

const SOON: Duration = Duration::from_secs(10);

pub(crate) fn entity(entity_type: &str, key: &str, attributes: Value) -> Entity {
    let Value::Object(attributes) = attributes else { panic!("attributes are an object") };
    Entity { entity_type: entity_type.into(), key: key.into(), key_name: "id".into(), attributes }
}

fn opened() -> (TempDir, Brain) {
    let folder = TempDir::new().unwrap();
    let store = Store::open(folder.path(), Durability::Process).unwrap();
    (folder, store.brain())
}

async fn write(brain: &Brain, entities: Vec<Entity>) -> Written {
    brain.write(entities, Vec::new()).await.unwrap()
}

/// The keys in a source, by id.
async fn keys(
    brain: &Brain,
    entity_type: &str,
    source: impl FnOnce(&Reading<'_>, TypeId) -> Source + Send + 'static,
) -> Vec<String> {
    let name = entity_type.to_owned();
    let read = move |reading: &Reading<'_>| -> Result<Vec<String>, Unread> {
        let id = reading.types()?.into_iter().find(|kind| kind.name == name).unwrap().id;
        let source = source(reading, id);
        let mut keys = Vec::new();
        reading.stream(Some(id), (&source, &[]), i64::MIN, |found| {
            keys.push(found.key);
            Ok::<_, Unread>(ControlFlow::Continue(()))
        })?;
        assert_eq!(reading.count(Some(id), &source, 100)?, keys.len() as u64);
        assert_eq!(reading.ids(Some(id), &source, 100)?.len(), keys.len());
        Ok(keys)
    };
    brain.read(SOON, read).await.unwrap()
}

fn value_of(attribute: &'static str, value: Value) -> impl FnOnce(&Reading<'_>, TypeId) -> Source + Send {
    move |reading, id| {
        let attributes = reading.attributes(id).unwrap();
        let attribute = attributes.iter().find(|known| known.name == attribute).unwrap().id;
        Source::Value { attribute, value: Indexed::all(&value).remove(0) }
    }
}

fn words_in(text: &str) -> impl FnOnce(&Reading<'_>, TypeId) -> Source + Send + use<> {
    let words = words_of(text);
    move |_, _| Source::Words { words, any: false }
}

#[tokio::test]
async fn looking_makes_no_file() {
    let (folder, brain) = opened();
    let types = brain.read(SOON, |reading| reading.types()).await.unwrap();
    assert_eq!(types, []);
    assert!(!brain.exists() && !folder.path().join("brain.db").exists());
}

#[tokio::test]
async fn what_is_written_is_found_by_every_index_and_replaced_by_key() {
    let (folder, brain) = opened();
    let acme = json!({"name": "Acme", "tags": ["big", "eu"], "size": 7, "note": null});
    let rows = || vec![entity("customer", "c-1", acme.clone()), entity("customer", "c-2", json!({"name": "Globex"}))];
    let written = write(&brain, rows()).await;
    assert_eq!((written.created, written.updated, written.unchanged), (2, 0, 0));
    let again = write(&brain, rows()).await;
    assert_eq!((again.created, again.updated, again.unchanged), (0, 0, 2));
    use std::os::unix::fs::PermissionsExt;
    assert_eq!(folder.path().join("brain.db").metadata().unwrap().permissions().mode() & 0o777, 0o600);

    assert_eq!(keys(&brain, "customer", words_in("ACME")).await, ["c-1"]);
    assert_eq!(keys(&brain, "customer", words_in("acme eu")).await, ["c-1"]);
    assert_eq!(keys(&brain, "customer", words_in("acme globex")).await, [""; 0]);
    assert_eq!(keys(&brain, "customer", value_of("tags", json!("eu"))).await, ["c-1"]);
    assert_eq!(keys(&brain, "customer", value_of("size", json!(7.0))).await, ["c-1"]);
    assert_eq!(keys(&brain, "customer", |_, id| Source::Key(id, "c-2".into())).await, ["c-2"]);
    assert_eq!(keys(&brain, "customer", |_, _| Source::All).await, ["c-1", "c-2"]);

    let changed = write(&brain, vec![entity("customer", "c-1", json!({"name": "Umbra", "size": "7"}))]).await;
    assert_eq!((changed.created, changed.updated), (0, 1));
    assert_eq!(keys(&brain, "customer", words_in("acme")).await, [""; 0]);
    assert_eq!(keys(&brain, "customer", words_in("umbra")).await, ["c-1"]);
    assert_eq!(keys(&brain, "customer", value_of("tags", json!("eu"))).await, [""; 0]);
    let shape = |reading: &Reading<'_>| {
        let id = reading.types()?.remove(0).id;
        reading.attributes(id)
    };
    let attributes = brain.read(SOON, shape).await.unwrap();
    let shown: Vec<_> = attributes.iter().map(|known| (known.name.as_str(), known.kinds.named())).collect();
    assert_eq!(
        shown,
        [("name", vec![("string", 2)]), ("tags", vec![]), ("size", vec![("string", 1)]), ("note", vec![])]
    );
}

#[tokio::test]
async fn one_batch_may_hold_a_key_twice_and_types_in_turns() {
    let (_folder, brain) = opened();
    let rows = vec![
        entity("b", "1", json!({"v": "one"})),
        entity("a", "1", json!({"v": "two"})),
        entity("b", "2", json!({"v": "three"})),
        entity("b", "1", json!({"v": "four"})),
        entity("a", "1", json!({"v": "two"})),
    ];
    let written = write(&brain, rows).await;
    assert_eq!((written.created, written.updated + written.unchanged), (3, 2));
    assert_eq!(keys(&brain, "b", words_in("one")).await, [""; 0]);
    assert_eq!(keys(&brain, "b", words_in("four")).await, ["1"]);
    assert_eq!(keys(&brain, "a", words_in("two")).await, ["1"], "the ids of types are apart");
}

#[tokio::test]
async fn what_does_not_fit_is_refused_alone() {
    let (_folder, brain) = opened();
    let wide: serde_json::Map<String, Value> = (0..201).map(|n| (format!("a{n}"), json!(n))).collect();
    let rows = vec![
        entity("a b", "1", json!({})),
        entity("c", "", json!({})),
        entity("c", "1", json!({"": 1})),
        entity("c", "1", json!({"x": "y".repeat(70_000)})),
        entity("c", "1", Value::Object(wide)),
        entity("c", "ok", json!({"x": 1})),
        Entity { key_name: "number".into(), ..entity("c", "2", json!({})) },
    ];
    let written = write(&brain, rows).await;
    let faults: Vec<String> = written.faults.iter().map(|fault| format!("{}: {}", fault.at, fault.reason)).collect();
    assert_eq!(written.created, 1);
    insta::assert_snapshot!(faults.join("\n"), @r"
    0: `a b` is no name of a type: letters, digits, `_` and `-`, at most 64
    1: a key has 1 to 256 bytes and no control character
    2: `` is no name of an attribute: 1 to 100 bytes, no control character
    3: the attributes are 70008 bytes: at most 65536
    4: `c` would have more than 200 attributes
    6: the key of `c` is called `id`, not `number`
    ");
    let many = (0..300).map(|n| entity(&format!("t{n}"), "1", json!({}))).collect();
    assert_eq!(write(&brain, many).await.faults.len(), 300 - (MAX_TYPES - 1));
}

#[tokio::test]
async fn relations_are_inferred_from_names_whose_values_are_keys() {
    let (_folder, brain) = opened();
    let invoice =
        |key: &str, customer: Value| entity("invoice", key, json!({"customer_id": customer, "person": "none"}));
    write(&brain, vec![invoice("i-1", json!(17)), entity("person", "p", json!({"name": "none"}))]).await;
    let related = async || {
        let read = |reading: &Reading<'_>| {
            let types = reading.types()?;
            let invoice = types.iter().find(|kind| kind.name == "invoice").unwrap().id;
            let name = |id: TypeId| types.iter().find(|kind| kind.id == id).unwrap().name.clone();
            let known = reading.relations(invoice)?;
            let line = |one: &Related| {
                let how = if one.declared { "declared" } else { "inferred" };
                format!("{}.{}={}.{} {how}", name(one.source), one.attribute, name(one.target), one.target_attribute)
            };
            Ok::<_, Unread>(known.iter().map(line).collect::<Vec<_>>())
        };
        brain.read(SOON, read).await.unwrap()
    };
    assert_eq!(related().await, [""; 0], "no such type yet, and no value is a key");
    write(&brain, vec![entity("customer", "17", json!({}))]).await;
    assert_eq!(related().await, ["invoice.customer_id=customer.id inferred"]);
    let declared = |target: &str| Relation {
        source: "invoice".into(),
        attribute: "person".into(),
        target: target.into(),
        target_attribute: "name".into(),
    };
    let misspelt = [
        Relation { attribute: "persn".into(), ..declared("person") },
        Relation { target_attribute: "nam".into(), ..declared("person") },
    ];
    let relations = [vec![declared("person"), declared("nobody")], misspelt.into()].concat();
    let written = brain.write(Vec::new(), relations).await.unwrap();
    assert_eq!(
        written.undeclared,
        [
            "there is no type `nobody` to relate: import its entities first",
            "`invoice` has no attribute `persn` to relate: import entities that have it first",
            "`person` has no attribute `nam` to relate: import entities that have it first",
        ]
    );
    assert_eq!(related().await, ["invoice.person=person.name declared", "invoice.customer_id=customer.id inferred"]);
}

/// What an index rules out is not read, whatever the entities are taken from.
#[tokio::test]
async fn a_stream_passes_over_what_does_not_fit() {
    let (_folder, brain) = opened();
    let of = |n: i64| json!({"note": "same words", "side": if n % 2 == 0 { "Left" } else { "right" }, "n": n % 3});
    write(&brain, (0..12).map(|n| entity("a", &n.to_string(), of(n))).collect()).await;
    let read = |reading: &Reading<'_>| -> Result<Vec<String>, Unread> {
        let id = reading.types()?[0].id;
        let attributes = reading.attributes(id)?;
        let holds = |name: &str, values: &[Value]| Holds {
            attribute: attributes.iter().find(|known| known.name == name).unwrap().id,
            values: values.iter().flat_map(Indexed::all).collect(),
        };
        let of = |source: Source, holds: &[Holds]| -> Result<String, Unread> {
            let mut keys = Vec::new();
            reading.stream(Some(id), (&source, holds), i64::MIN, |found| {
                keys.push(found.key);
                Ok::<_, Unread>(ControlFlow::Continue(()))
            })?;
            Ok(keys.join(" "))
        };
        let words = || Source::Words { words: words_of("same words"), any: false };
        let (left, ones) = (holds("side", &[json!("left")]), holds("n", &[json!("1"), json!(2)]));
        let n = Source::Value { attribute: ones.attribute, value: Indexed::all(&json!(1)).remove(0) };
        Ok(vec![
            of(words(), std::slice::from_ref(&left))?,
            of(Source::All, &[left.clone(), ones])?,
            of(n, &[left])?,
            of(words(), &[holds("side", &[json!("nowhere")])])?,
        ])
    };
    let found = brain.read(SOON, read).await.unwrap();
    assert_eq!(found, ["0 2 4 6 8 10", "2 4 8 10", "4 10", ""]);
}

#[tokio::test]
async fn a_reading_ends_with_its_time_or_its_caller() {
    let (_folder, brain) = opened();
    write(&brain, (0..2000).map(|n| entity("a", &n.to_string(), json!({"n": n}))).collect()).await;
    // Reads the same again and again, and would never end by itself.
    let endless = |reading: &Reading<'_>| -> Result<(), Unread> {
        loop {
            reading.stream(None, (&Source::All, &[]), i64::MIN, |_| Ok::<_, Unread>(ControlFlow::Continue(())))?;
        }
    };
    let ended = brain.read(Duration::from_millis(50), endless).await;
    assert!(matches!(ended, Err(Unread::TooLong)), "{ended:?}");
    for _ in 0..8 {
        let left = tokio::time::timeout(Duration::from_millis(20), brain.read(SOON, endless)).await;
        assert!(left.is_err());
    }
    let types = tokio::time::timeout(SOON, brain.read(SOON, |reading| reading.types())).await;
    assert_eq!(types.unwrap().unwrap().len(), 1, "those that were left have given their places back");
}

#[tokio::test]
async fn it_is_there_after_a_restart() {
    let (folder, brain) = opened();
    write(&brain, vec![entity("a", "1", json!({"v": "kept"}))]).await;
    drop(brain);
    let store = Store::open(folder.path(), Durability::Process).unwrap();
    assert_eq!(keys(&store.brain(), "a", words_in("kept")).await, ["1"]);
}

fn rows() -> impl Strategy<Value = Vec<Entity>> {
    let value = prop_oneof![
        Just(Value::Null),
        any::<i32>().prop_map(Value::from),
        any::<bool>().prop_map(Value::from),
        "\\PC{0,12}".prop_map(Value::from),
        proptest::collection::vec("[a-z]{1,4}", 0..3).prop_map(Value::from),
    ];
    let row = ("[ab]", "[0-9]", proptest::collection::hash_map("[x-z]", value, 0..4));
    let row = row.prop_map(|(kind, key, values)| entity(&kind, &key, Value::Object(values.into_iter().collect())));
    proptest::collection::vec(row, 1..30)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn to_import_twice_is_to_import_once(rows in rows()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (_folder, brain) = opened();
            let all = |reading: &Reading<'_>| -> Result<Vec<(Found, Vec<Attribute>)>, Unread> {
                let mut found = Vec::new();
                reading.stream(None, (&Source::All, &[]), i64::MIN, |one| {
                    found.push((one.clone(), reading.attributes(TypeId::of(one.id))?));
                    Ok::<_, Unread>(ControlFlow::Continue(()))
                })?;
                Ok(found)
            };
            write(&brain, rows.clone()).await;
            let once = brain.read(SOON, all).await.unwrap();
            // In smaller steps, so that what was written before is replaced by what came later, again.
            for step in rows.chunks(3) {
                write(&brain, step.to_vec()).await;
            }
            let twice = brain.read(SOON, all).await.unwrap();
            assert_eq!(once, twice);
            let last = write(&brain, rows.clone()).await;
            assert_eq!(last.created, 0);
        });
    }
}
