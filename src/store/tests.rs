//! The store on a real file system.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::Pin;

use bytes::Bytes;
use futures_util::poll;
use proptest::prelude::*;
use rusqlite::Connection;

use super::*;
use crate::domain::audit::{Entry, Phase};
use crate::domain::clock::Moment;
use crate::domain::id::{KeyId, ServerName};

fn open(folder: &Path) -> Store {
    Store::open(folder, Durability::Process).unwrap()
}

fn a_key(id: &str, hash: u8) -> KeyRecord {
    KeyRecord {
        id: KeyId::from(id),
        name: "laptop".into(),
        user: "u1".into(),
        agent: Some("writer-bot".into()),
        profile: "agent".into(),
        roles: vec!["writer".into(), "a\"b".into()],
        plan: None,
        hash: [hash; 32],
        prefix: "inv_live_".into(),
        last4: "x9Zq".into(),
        created: Moment(1_000),
        expires: Some(Moment(9_000)),
        revoked: None,
        last_used: None,
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn migrating_twice_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    files::open_private(&path).unwrap();
    let mut connection = schema::open_writer(&path, Durability::Power).unwrap();
    assert_eq!(schema::migrate(&mut connection, &path).unwrap(), schema::MIGRATIONS.len());
    let schema = |connection: &Connection| {
        let mut statement = connection.prepare("SELECT coalesce(sql, name) FROM sqlite_schema ORDER BY name").unwrap();
        statement.query_map([], |row| row.get::<_, String>(0)).unwrap().collect::<Result<Vec<_>, _>>().unwrap()
    };
    let before = schema(&connection);
    assert_eq!(schema::migrate(&mut connection, &path).unwrap(), 0);
    assert_eq!(schema(&connection), before);
}

#[test]
fn a_newer_schema_and_a_foreign_file_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(DATABASE);
    drop(open(folder.path()));
    Connection::open(&path).unwrap().pragma_update(None, "user_version", 99).unwrap();
    let error = Store::open(folder.path(), Durability::Process).unwrap_err();
    assert!(matches!(error, StoreError::NewerSchema { found: 99, .. }), "{error}");
    assert!(error.to_string().ends_with("use the newer toolgate"), "{error}");

    let other = tempfile::tempdir().unwrap();
    Connection::open(other.path().join(DATABASE)).unwrap().execute_batch("CREATE TABLE t (x)").unwrap();
    let error = Store::open(other.path(), Durability::Process).unwrap_err();
    assert!(matches!(error, StoreError::Foreign(_)), "{error}");
}

#[test]
fn the_folder_is_held_by_one_until_the_last_handle_goes() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let second = store.clone();
    drop(store);
    let error = Store::open(folder.path(), Durability::Process).unwrap_err();
    assert!(error.to_string().contains("is in use by another toolgate"), "{error}");
    drop(second);
    drop(open(folder.path()));
}

#[tokio::test]
async fn everything_is_readable_by_its_owner_alone() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("deep/data");
    let store = open(&data);
    store.probe().await.unwrap();
    store.secret("pepper").unwrap();
    store.keep_head(Tip::START).await.unwrap();
    assert_eq!(mode(&data), 0o700);
    let mut names = Vec::new();
    for file in fs::read_dir(&data).unwrap() {
        let path = file.unwrap().path();
        assert_eq!(mode(&path), 0o600, "{}", path.display());
        names.push(path.file_name().unwrap().to_str().unwrap().to_owned());
    }
    names.sort();
    assert_eq!(names, ["audit-head", "lock", "pepper.secret", "toolgate.db", "toolgate.db-shm", "toolgate.db-wal"]);
}

#[test]
fn a_secret_is_made_once_and_never_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let pepper = store.secret("pepper").unwrap();
    assert_eq!(*store.secret("pepper").unwrap(), *pepper);
    assert_ne!(*store.secret("session").unwrap(), *pepper);
    fs::write(folder.path().join("pepper.secret"), "short").unwrap();
    assert!(matches!(store.secret("pepper"), Err(StoreError::BadSecret { found: 5, .. })));
    assert_eq!(fs::read(folder.path().join("pepper.secret")).unwrap(), b"short");
}

#[tokio::test]
async fn keys_are_kept_found_touched_and_revoked() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    store.insert_key(a_key("key_1", 1)).await.unwrap();
    store.insert_key(KeyRecord { user: "u2".into(), ..a_key("key_2", 2) }).await.unwrap();
    let error = store.insert_key(a_key("key_3", 1)).await.unwrap_err();
    assert!(matches!(error, StoreError::Conflict(_)), "{error}");
    assert!(store.healthy());

    assert_eq!(store.keys().await.unwrap()[0], a_key("key_1", 1));

    store.touch_keys(vec![(KeyId::from("key_1"), Moment(50)), (KeyId::from("key_1"), Moment(40))]).await.unwrap();
    assert!(store.revoke_key(&KeyId::from("key_1"), Moment(60)).await.unwrap());
    assert!(!store.revoke_key(&KeyId::from("key_1"), Moment(70)).await.unwrap());
    assert!(!store.revoke_key(&KeyId::from("key_9"), Moment(70)).await.unwrap());

    drop(store);
    let keys = open(folder.path()).keys().await.unwrap();
    assert_eq!((keys[0].last_used, keys[0].revoked), (Some(Moment(50)), Some(Moment(60))));
    assert!(!keys[0].is_live(Moment(0)));
    assert!(keys[1].is_live(Moment(8_999)) && !keys[1].is_live(Moment(9_000)));
}

#[tokio::test]
async fn documents_are_replaced_listed_and_taken_once() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let github: ServerName = "github".parse().unwrap();
    assert_eq!(store.definitions(&github).await.unwrap(), None);
    store.put_definitions(&github, Bytes::from_static(b"one")).await.unwrap();
    store.put_definitions(&github, Bytes::from_static(b"two")).await.unwrap();
    assert_eq!(store.definitions(&github).await.unwrap().unwrap(), "two");

    store.put("ticket", "b", Bytes::from_static(b"2")).await.unwrap();
    store.put("ticket", "a", Bytes::from_static(b"1")).await.unwrap();
    let names: Vec<_> = store.list("ticket").await.unwrap().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["a", "b"]);
    let (first, second) = tokio::join!(store.take("ticket", "a"), store.take("ticket", "a"));
    let taken: Vec<_> = [first.unwrap(), second.unwrap()].into_iter().flatten().collect();
    assert_eq!(taken, ["1"]);
}

#[tokio::test]
async fn ended_sessions_are_forgotten_when_they_would_have_expired() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    store.end_session([1; 32], Moment(100), Vec::new(), Moment(0)).await.unwrap();
    store.end_session([2; 32], Moment(300), Vec::new(), Moment(0)).await.unwrap();
    assert_eq!(store.ended_sessions(Moment(100)).await.unwrap(), [([2; 32], Moment(300))]);
    store.end_session([3; 32], Moment(400), Vec::new(), Moment(200)).await.unwrap();
    assert_eq!(store.ended_sessions(Moment(0)).await.unwrap().len(), 2);
    store.end_session([4; 32], Moment(500), vec![[2; 32], [3; 32]], Moment(200)).await.unwrap();
    assert_eq!(store.ended_sessions(Moment(0)).await.unwrap(), [([4; 32], Moment(500))], "forgotten for another");
}

#[tokio::test]
async fn closing_empties_the_log_and_refuses_later_writes() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    store.probe().await.unwrap();
    store.close().await.unwrap();
    store.close().await.unwrap();
    let log = fs::metadata(folder.path().join("toolgate.db-wal")).map_or(0, |found| found.len());
    assert_eq!(log, 0);
    assert!(matches!(store.probe().await, Err(StoreError::Closed)));
    assert!(!store.healthy());
    assert_eq!(store.check_file().await.unwrap(), None);
}

/// A store whose file may not grow any more, as on a full disk; and a way to free it.
async fn set_page_limit(store: &Store, limit: i64) {
    store
        .write(move |connection| connection.query_row(&format!("PRAGMA max_page_count = {limit}"), [], |_| Ok(())))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_full_disk_fails_the_batch_and_the_next_write_tries_anew() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    set_page_limit(&store, 1).await;
    let large = Bytes::from(vec![7; 100_000]);
    let error = store.put("kind", "name", large.clone()).await.unwrap_err();
    assert!(error.to_string().starts_with("the store cannot be written: "), "{error}");
    assert!(!store.healthy());
    assert_eq!(store.fetch("kind", "name").await.unwrap(), None);

    set_page_limit(&store, 1_000_000).await;
    store.put("kind", "name", large.clone()).await.unwrap();
    assert!(store.healthy());
    assert_eq!(store.fetch("kind", "name").await.unwrap(), Some(large));
}

#[tokio::test]
async fn a_fault_of_the_file_is_healed_by_a_new_connection() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let broken = store.write(|connection| connection.execute_batch("SELECT * FROM nowhere")).await;
    assert!(matches!(broken, Err(StoreError::Write(_))));
    assert!(!store.healthy());
    store.probe().await.unwrap();
    assert!(store.healthy());
}

#[tokio::test]
async fn the_log_refuses_to_be_changed_through_the_store() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    for sql in ["UPDATE audit SET tool = 'x'", "DELETE FROM audit"] {
        let sql = format!(
            "INSERT INTO audit VALUES (1, 'a', 'outcome', 0, 'r', NULL, NULL, NULL, 'allow', NULL, NULL, '', x'', x''); {sql}"
        );
        let error = store.write(move |connection| connection.execute_batch(&sql)).await.unwrap_err();
        assert!(error.to_string().contains("append-only"), "{error}");
    }
    assert_eq!(store.audit_tip().await.unwrap(), Tip::START);
}

/// An entry of the record `id`: its intent, its outcome after an intent, or its outcome alone.
fn entry(id: &str, phase: Phase, settles: bool) -> Arc<Row> {
    let text = format!(
        r#"{{"id":"{id}","phase":"outcome","time":"","request_id":"r","entrance":"mcp","decision":"allow","policies":[],"policy_version":"","dlp_result":"off"}}"#
    );
    let entry: Entry = serde_json::from_str(&text).unwrap();
    Row::new(Entry { phase, ..entry }, Moment(0), settles)
}

fn append<'a>(store: &'a Store, id: &str) -> Pin<Box<impl Future<Output = Result<(), StoreError>> + 'a>> {
    Box::pin(store.append_audit(entry(id, Phase::Outcome, false)))
}

#[tokio::test]
async fn a_call_that_leaves_while_it_has_the_turn_leaves_no_entry_behind() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    // Others are in flight, so that whoever has the turn lets them run first.
    store.in_flight().store(10, Ordering::SeqCst);
    let (mut one, mut two, mut three) = (append(&store, "1"), append(&store, "2"), append(&store, "3"));
    assert!(poll!(&mut one).is_pending() && poll!(&mut two).is_pending() && poll!(&mut three).is_pending());
    assert_eq!(store.commits(), 0, "nobody has written yet");
    // The turn goes from one to two, and from two, which never learns of it, to three.
    drop(one);
    drop(two);
    three.await.unwrap();
    assert_eq!((store.audit_tip().await.unwrap().seq, store.commits()), (3, 1));
    append(&store, "4").await.unwrap();

    let mut last = append(&store, "5");
    assert!(poll!(&mut last).is_pending());
    drop(last);
    store.close().await.unwrap();
    assert_eq!(store.audit_tip().await.unwrap().seq, 5, "the thread has written what nobody waited for");
}

#[tokio::test]
async fn a_call_leaves_to_the_thread_what_would_have_to_wait() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    append(&store, "1").await.unwrap();
    let other = Connection::open(folder.path().join(DATABASE)).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let mut held = append(&store, "2");
    // It comes back at once, although somebody else holds the file.
    assert!(poll!(&mut held).is_pending());
    let mut late = append(&store, "3");
    assert!(poll!(&mut late).is_pending());
    other.execute_batch("COMMIT").unwrap();
    held.await.unwrap();
    late.await.unwrap();
    assert!(store.healthy());
    assert_eq!(store.audit_tip().await.unwrap().seq, 3);
}

#[tokio::test]
async fn changes_and_entries_are_written_in_the_order_they_came() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    store.in_flight().store(10, Ordering::SeqCst);
    let mut entry = append(&store, "1");
    assert!(poll!(&mut entry).is_pending());
    let seen = store.write(|connection| connection.query_row("SELECT count(*) FROM audit", [], |row| row.get(0)));
    let (entry, seen): (_, Result<i64, _>) = tokio::join!(entry, seen);
    entry.unwrap();
    assert_eq!(seen.unwrap(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_of_many_tasks_are_all_written_once() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    store.in_flight().store(16, Ordering::SeqCst);
    let tasks = tokio_util::task::TaskTracker::new();
    for task in 0..16 {
        let store = store.clone();
        tasks.spawn(async move {
            for number in 0..50 {
                let id = format!("{task}-{number}");
                match number % 5 {
                    // Some leave at some point of their way.
                    3 => drop(tokio::time::timeout(std::time::Duration::from_micros(20), append(&store, &id)).await),
                    4 => store.append_audit_later(entry(&id, Phase::Outcome, false)).unwrap(),
                    _ => append(&store, &id).await.unwrap(),
                }
            }
        });
    }
    tasks.close();
    tasks.wait().await;
    store.close().await.unwrap();
    let links = store.audit_links(1, 10_000).await.unwrap().links;
    let ids: BTreeSet<_> = links.iter().map(|link| link.id.clone()).collect();
    assert_eq!(ids.len(), links.len(), "nothing stands twice");
    let kept = |id: &String| !id.ends_with('3') && !id.ends_with('8');
    assert_eq!(ids.iter().filter(|id| kept(id)).count(), 16 * 40);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn intents_wait_until_they_are_settled_whatever_is_full_or_reopened(
        steps in proptest::collection::vec((0..6u8, 0..6u8), 0..24),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let mut store = open(folder.path());
        let mut waiting = BTreeSet::new();
        runtime.block_on(async {
            for (step, name) in steps {
                let id = name.to_string();
                match step {
                    // Nearly half a block of other entries.
                    0 | 1 => {
                        for _ in 0..120 {
                            append(&store, "x").await.unwrap();
                        }
                    }
                    2 => {
                        drop(store);
                        store = open(folder.path());
                    }
                    3 | 4 if waiting.insert(id.clone()) => {
                        store.append_audit(entry(&id, Phase::Intent, false)).await.unwrap();
                    }
                    _ if waiting.remove(&id) => {
                        store.append_audit(entry(&id, Phase::Outcome, true)).await.unwrap();
                        let record = store.audit_record(&id).await.unwrap().unwrap();
                        prop_assert!(record.intent.is_some());
                    }
                    _ => {}
                }
                let open = store.open_intents().await.unwrap();
                let open: BTreeSet<String> =
                    open.iter().map(|text| serde_json::from_str::<Entry>(text).unwrap().id.to_string()).collect();
                prop_assert_eq!(&open, &waiting);
            }
            Ok(())
        })?;
    }
}
