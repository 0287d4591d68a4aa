//! Evaluations: suites that were made over the API, and the runs of all suites.

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{Store, StoreError};
use crate::domain::clock::Moment;

/// Suites made over the API at most, and those of one key.
pub const MOST_SUITES: i64 = 1000;
pub const MOST_SUITES_OF_KEY: i64 = 100;
/// Mebibytes of them together, and of those of one key.
pub const MOST_SUITE_MIB: i64 = 64;
pub const MOST_SUITE_MIB_OF_KEY: i64 = 8;
/// Runs that are kept of one suite; the oldest go first, but for what others are compared with.
const MOST_RUNS: i64 = 1000;
/// Published ones among what is kept of a suite beyond those.
const MOST_PUBLISHED: i64 = 20;
/// Bytes of all runs: beyond them the suite that has most of them loses its oldest.
const MOST_RUN_BYTES: i64 = 256 << 20;
/// Runs of the suite ?1 that stay whatever there is besides: the latest, the last in production, the last ?2 published.
const STAYING: &str = "SELECT seq FROM (
    SELECT max(seq) AS seq FROM eval_runs WHERE evaluation = ?1
    UNION ALL SELECT max(seq) FROM eval_runs WHERE evaluation = ?1 AND environment = 'prod'
    UNION ALL SELECT seq FROM (SELECT seq FROM eval_runs WHERE evaluation = ?1 AND published IS NOT NULL
                               ORDER BY published DESC, seq DESC LIMIT ?2)) WHERE seq IS NOT NULL";

/// What a run's body says beside its cases.
const RUN_HEAD: &str = "json_remove(?6, '$.cases')";
/// What lists show of a suite. Its id is the row's, however the body writes it.
const SUITE_HEAD: &str = "json_object(
    'name', ?4 -> '$.name', 'description', ?4 -> '$.description', 'tolerance', ?4 -> '$.tolerance',
    'environments', json((SELECT json_group_array(key) FROM json_each(?4, '$.environments'))),
    'testCases', json_array_length(?4, '$.cases'))";

/// What stands in the way of a suite with the id ?1 and the body ?2 by the author ?3; sums are those with it.
const STANDING: &str = "SELECT
    EXISTS (SELECT 1 FROM eval_suites WHERE id = ?1 OR head ->> '$.name' = ?2 ->> '$.name')
    OR EXISTS (SELECT 1 FROM eval_runs WHERE evaluation = ?1),
    EXISTS (SELECT 1 FROM eval_removed WHERE id = ?1),
    count(*) FILTER (WHERE author = ?3) + 1,
    coalesce(sum(octet_length(body)) FILTER (WHERE author = ?3), 0) + octet_length(?2),
    count(*) + 1, coalesce(sum(octet_length(body)), 0) + octet_length(?2) FROM eval_suites";

/// How much of a run is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    Whole,
    /// Everything but its cases.
    Head,
}

/// A finished run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunRecord {
    /// Grows from run to run; zero for one that is not stored yet.
    pub seq: i64,
    pub id: String,
    pub evaluation: u64,
    pub environment: Option<String>,
    pub created: Moment,
    /// When it became what others are compared with.
    pub published: Option<Moment>,
    /// JSON; of the part that was asked for.
    pub body: String,
}

/// A suite that was made over the API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SuiteRecord {
    pub id: u64,
    pub created: Moment,
    /// Whose key made it.
    pub author: String,
    /// JSON, as it was given.
    pub body: String,
}

/// What became of a suite that was to be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SuitePut {
    Kept,
    /// There is one of this id or name, or there are runs of this id, which are others' then.
    Taken,
    /// The id was that of a suite that is gone.
    Removed,
    /// Its author has made as many, or as much, as one key may.
    FullOfKey,
    /// So have all keys together.
    Full,
}

/// What lists show of such a suite.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SuiteHead {
    pub id: u64,
    pub author: String,
    /// JSON.
    pub head: String,
}

/// Which run of a suite.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunPick {
    Latest,
    /// The last one before this.
    Before(i64),
    /// The one that was published last.
    Published,
    /// The last one before this in an environment.
    In(&'static str, i64),
}

impl Store {
    /// Keeps a run; forgets the oldest of its suite where there are too many, and of any where they are too large. `made`
    /// says whether its suite was made over the API: then false where that is gone, and nobody could remove the run.
    ///
    /// # Errors
    /// Where it was not committed.
    pub async fn put_run(&self, run: RunRecord, made: bool) -> Result<bool, StoreError> {
        self.write(move |connection| {
            let evaluation = number(run.evaluation);
            let sql = format!(
                "INSERT INTO eval_runs (id, evaluation, environment, created, published, body, head)
                 SELECT ?1, ?2, ?3, ?4, ?5, ?6, {RUN_HEAD}
                 WHERE NOT ?7 OR EXISTS (SELECT 1 FROM eval_suites WHERE id = ?2)"
            );
            let kept = connection.prepare_cached(&sql)?.execute(params![
                run.id,
                evaluation,
                run.environment,
                run.created.0,
                run.published.map(|moment| moment.0),
                run.body,
                made
            ])?;
            if kept == 0 {
                return Ok(false);
            }
            let forget = format!(
                "DELETE FROM eval_runs WHERE evaluation = ?1 AND seq NOT IN ({STAYING}) AND seq <= (
                     SELECT seq FROM eval_runs WHERE evaluation = ?1 ORDER BY seq DESC LIMIT 1 OFFSET ?3)"
            );
            connection.prepare_cached(&forget)?.execute(params![evaluation, MOST_PUBLISHED, MOST_RUNS])?;
            forget_beyond(connection, MOST_RUN_BYTES)?;
            Ok(true)
        })
        .await
    }

    /// The run of this id.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub async fn run(&self, id: &str) -> Result<Option<RunRecord>, StoreError> {
        let id = id.to_owned();
        let sql = format!("SELECT {} FROM eval_runs WHERE id = ?1", Part::Whole.columns());
        self.readers().read(move |connection| connection.prepare_cached(&sql)?.query_row([id], run).optional()).await
    }

    /// One run of a suite.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub async fn pick_run(&self, evaluation: u64, pick: RunPick, part: Part) -> Result<Option<RunRecord>, StoreError> {
        let (condition, order, before, environment) = match pick {
            RunPick::Latest => ("1", "seq", i64::MAX, None),
            RunPick::Before(seq) => ("1", "seq", seq, None),
            RunPick::Published => ("published IS NOT NULL", "published DESC, seq", i64::MAX, None),
            RunPick::In(environment, seq) => ("environment = ?3", "seq", seq, Some(environment)),
        };
        let columns = part.columns();
        let sql = format!(
            "SELECT {columns} FROM eval_runs WHERE evaluation = ?1 AND seq < ?2 AND ?3 IS ?3 AND {condition}
             ORDER BY {order} DESC LIMIT 1"
        );
        let read = move |connection: &Connection| {
            let of = params![number(evaluation), before, environment];
            connection.prepare_cached(&sql)?.query_row(of, run).optional()
        };
        self.readers().read(read).await
    }

    /// Runs of a suite that came before `before`, newest first.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub async fn runs(
        &self,
        evaluation: u64,
        before: Option<i64>,
        limit: usize,
        part: Part,
    ) -> Result<Vec<RunRecord>, StoreError> {
        let columns = part.columns();
        let sql =
            format!("SELECT {columns} FROM eval_runs WHERE evaluation = ?1 AND seq < ?2 ORDER BY seq DESC LIMIT ?3");
        let read = move |connection: &Connection| {
            let of = params![number(evaluation), before.unwrap_or(i64::MAX), i64::try_from(limit).unwrap_or(i64::MAX)];
            connection.prepare_cached(&sql)?.query_map(of, run)?.collect()
        };
        self.readers().read(read).await
    }

    /// Makes a run what others are compared with. False where there is none of this id.
    ///
    /// # Errors
    /// Where it was not committed.
    pub async fn publish_run(&self, id: &str, now: Moment) -> Result<bool, StoreError> {
        let id = id.to_owned();
        let sql = "UPDATE eval_runs SET published = ?2 WHERE id = ?1";
        self.write(move |connection| Ok(connection.prepare_cached(sql)?.execute(params![id, now.0])? > 0)).await
    }

    /// Keeps a suite, where its id and its name are free and there is room.
    ///
    /// # Errors
    /// Where it was not committed.
    pub async fn put_suite(&self, suite: SuiteRecord) -> Result<SuitePut, StoreError> {
        self.write(move |connection| {
            let id = number(suite.id);
            let found =
                connection.prepare_cached(STANDING)?.query_row(params![id, suite.body, suite.author], standing)?;
            if found == SuitePut::Kept {
                let sql = format!(
                    "INSERT INTO eval_suites (id, created, author, body, head) VALUES (?1, ?2, ?3, ?4, {SUITE_HEAD})"
                );
                let row = params![id, suite.created.0, suite.author, suite.body];
                connection.prepare_cached(&sql)?.execute(row)?;
            }
            Ok(found)
        })
        .await
    }

    /// The suite of this id that was made over the API.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub async fn suite(&self, id: u64) -> Result<Option<SuiteRecord>, StoreError> {
        let sql = "SELECT id, created, author, body FROM eval_suites WHERE id = ?1";
        self.readers()
            .read(move |connection| connection.prepare_cached(sql)?.query_row([number(id)], suite).optional())
            .await
    }

    /// What lists show of the suites that were made over the API and whose ids come after `after`, by id.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub async fn suite_heads(&self, after: u64, limit: usize) -> Result<Vec<SuiteHead>, StoreError> {
        let sql = "SELECT id, author, head FROM eval_suites WHERE id > ?1 ORDER BY id LIMIT ?2";
        let read = move |connection: &Connection| {
            let of = params![number(after), i64::try_from(limit).unwrap_or(i64::MAX)];
            connection.prepare_cached(sql)?.query_map(of, suite_head)?.collect()
        };
        self.readers().read(read).await
    }

    /// Forgets the suite of this id that was made over the API, and its runs. False where there is neither. No other is made
    /// with the id of such a suite.
    ///
    /// # Errors
    /// Where it was not committed.
    pub async fn remove_suite(&self, id: u64) -> Result<bool, StoreError> {
        self.write(move |connection| {
            let of = |sql| connection.prepare_cached(sql)?.execute([number(id)]);
            of("INSERT OR IGNORE INTO eval_removed SELECT id FROM eval_suites WHERE id = ?1")?;
            let suites = of("DELETE FROM eval_suites WHERE id = ?1")?;
            Ok(suites + of("DELETE FROM eval_runs WHERE evaluation = ?1")? > 0)
        })
        .await
    }

    /// The id of the suite of this name that was made over the API.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub async fn suite_named(&self, name: &str) -> Result<Option<u64>, StoreError> {
        let (name, sql) = (name.to_owned(), "SELECT id FROM eval_suites WHERE head ->> '$.name' = ?1");
        let id = |row: &Row<'_>| row.get::<_, i64>(0).map(|id| u64::try_from(id).unwrap_or_default());
        self.readers().read(move |connection| connection.prepare_cached(sql)?.query_row([name], id).optional()).await
    }

    /// What a list shows of the suite of this id.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub async fn suite_head(&self, id: u64) -> Result<Option<SuiteHead>, StoreError> {
        let sql = "SELECT id, author, head FROM eval_suites WHERE id = ?1";
        self.readers()
            .read(move |connection| connection.prepare_cached(sql)?.query_row([number(id)], suite_head).optional())
            .await
    }
}

impl Part {
    const fn columns(self) -> &'static str {
        match self {
            Self::Whole => "seq, id, evaluation, environment, created, published, body",
            Self::Head => "seq, id, evaluation, environment, created, published, head",
        }
    }
}

/// Forgets runs until there are at most so many bytes of them: always the oldest of the suite that has most.
fn forget_beyond(connection: &Connection, most: i64) -> rusqlite::Result<()> {
    loop {
        let sums = "SELECT coalesce(sum(bytes), 0) FROM eval_sums";
        if connection.prepare_cached(sums)?.query_row([], |row| row.get::<_, i64>(0))? <= most {
            return Ok(());
        }
        let largest = "SELECT evaluation FROM eval_sums ORDER BY bytes DESC LIMIT 1";
        let largest: i64 = connection.prepare_cached(largest)?.query_row([], |row| row.get(0))?;
        let oldest = format!(
            "DELETE FROM eval_runs WHERE seq = (
                 SELECT min(seq) FROM eval_runs WHERE evaluation = ?1 AND seq NOT IN ({STAYING}))"
        );
        if connection.prepare_cached(&oldest)?.execute(params![largest, 1])? == 0 {
            // What stays of each suite has a bound of its own.
            return Ok(());
        }
    }
}

/// What would become of the suite that [`STANDING`] is about.
fn standing(row: &Row<'_>) -> rusqlite::Result<SuitePut> {
    let beyond = |at: usize, most: i64, mebibytes: i64| -> rusqlite::Result<bool> {
        Ok(row.get::<_, i64>(at)? > most || row.get::<_, i64>(at + 1)? > mebibytes << 20)
    };
    Ok(match (row.get(0)?, row.get(1)?) {
        (true, _) => SuitePut::Taken,
        (_, true) => SuitePut::Removed,
        _ if beyond(2, MOST_SUITES_OF_KEY, MOST_SUITE_MIB_OF_KEY)? => SuitePut::FullOfKey,
        _ if beyond(4, MOST_SUITES, MOST_SUITE_MIB)? => SuitePut::Full,
        _ => SuitePut::Kept,
    })
}

/// Ids are below 2^53.
fn number(id: u64) -> i64 {
    i64::try_from(id).unwrap_or(i64::MAX)
}

fn run(row: &Row<'_>) -> rusqlite::Result<RunRecord> {
    Ok(RunRecord {
        seq: row.get(0)?,
        id: row.get(1)?,
        evaluation: u64::try_from(row.get::<_, i64>(2)?).unwrap_or_default(),
        environment: row.get(3)?,
        created: Moment(row.get(4)?),
        published: row.get::<_, Option<i64>>(5)?.map(Moment),
        body: row.get(6)?,
    })
}

fn suite_head(row: &Row<'_>) -> rusqlite::Result<SuiteHead> {
    let id = u64::try_from(row.get::<_, i64>(0)?).unwrap_or_default();
    Ok(SuiteHead { id, author: row.get(1)?, head: row.get(2)? })
}

fn suite(row: &Row<'_>) -> rusqlite::Result<SuiteRecord> {
    Ok(SuiteRecord {
        id: u64::try_from(row.get::<_, i64>(0)?).unwrap_or_default(),
        created: Moment(row.get(1)?),
        author: row.get(2)?,
        body: row.get(3)?,
    })
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;
    use crate::store::Durability;

    fn record(id: &str, environment: Option<&str>, created: i64) -> RunRecord {
        let environment = environment.map(str::to_owned);
        let (id, body) = (id.to_owned(), "{}".to_owned());
        RunRecord { seq: 0, id, evaluation: 7, environment, created: Moment(created), published: None, body }
    }

    #[tokio::test]
    async fn runs_are_picked_by_what_they_are() {
        let folder = TempDir::new().unwrap();
        let store = Store::open(folder.path(), Durability::Process).unwrap();
        for (at, (id, environment)) in
            [("a", Some("prod")), ("b", None), ("c", Some("prod")), ("d", Some("dev"))].into_iter().enumerate()
        {
            store.put_run(record(id, environment, i64::try_from(at).unwrap()), false).await.unwrap();
        }
        let pick = async |pick| store.pick_run(7, pick, Part::Head).await.unwrap().map(|run| (run.id, run.seq));
        let (_, latest) = pick(RunPick::Latest).await.unwrap();
        assert_eq!(pick(RunPick::Before(latest)).await.unwrap().0, "c");
        assert_eq!(pick(RunPick::In("prod", latest)).await.unwrap().0, "c");
        let (_, third) = pick(RunPick::Before(latest)).await.unwrap();
        assert_eq!(pick(RunPick::In("prod", third)).await.unwrap().0, "a");
        assert_eq!(pick(RunPick::Published).await, None);
        assert!(store.publish_run("b", Moment(9)).await.unwrap());
        assert!(store.publish_run("a", Moment(8)).await.unwrap());
        assert!(!store.publish_run("nothing", Moment(8)).await.unwrap());
        assert_eq!(pick(RunPick::Published).await.unwrap().0, "b", "what was published last, not what ran last");
        assert_eq!(store.pick_run(8, RunPick::Latest, Part::Head).await.unwrap(), None);
        let ids = async |before, limit| {
            let runs = store.runs(7, before, limit, Part::Head).await.unwrap();
            runs.into_iter().map(|run| run.id).collect::<Vec<_>>()
        };
        assert_eq!(
            (ids(None, 2).await, ids(Some(third), 9).await),
            (vec!["d".into(), "c".into()], vec!["b".into(), "a".into()])
        );
        assert!(matches!(store.put_run(record("a", None, 9), false).await, Err(StoreError::Conflict(_))));
    }

    #[tokio::test]
    async fn old_runs_go_but_for_what_others_are_compared_with() {
        let folder = TempDir::new().unwrap();
        let store = Store::open(folder.path(), Durability::Process).unwrap();
        store.put_run(record("published", None, 1), false).await.unwrap();
        store.publish_run("published", Moment(1)).await.unwrap();
        store.put_run(record("prod", Some("prod"), 2), false).await.unwrap();
        store.put_run(record("old", None, 3), false).await.unwrap();
        for n in 0..MOST_RUNS {
            store.put_run(record(&format!("run {n}"), None, n), false).await.unwrap();
        }
        let kept = async |id: &str| store.run(id).await.unwrap().is_some();
        assert!(kept("published").await && kept("prod").await && !kept("old").await && kept("run 0").await);
    }

    /// Publishing keeps a run from being forgotten, but not for ever.
    #[tokio::test]
    async fn what_was_published_long_ago_goes_too() {
        let folder = TempDir::new().unwrap();
        let store = Store::open(folder.path(), Durability::Process).unwrap();
        for n in 0..MOST_RUNS + 100 {
            let published = Some(Moment(n));
            store.put_run(RunRecord { published, ..record(&format!("run {n}"), None, n) }, false).await.unwrap();
        }
        let left = store.runs(7, None, 5000, Part::Head).await.unwrap();
        assert_eq!((left.len(), &*left[left.len() - 1].id), (1000, "run 100"));
        assert_eq!(store.pick_run(7, RunPick::Published, Part::Head).await.unwrap().unwrap().id, "run 1099");
    }

    /// Whoever fills the store with runs loses their own, and what others are compared with stays.
    #[tokio::test]
    async fn runs_have_a_size_together() {
        let folder = TempDir::new().unwrap();
        let store = Store::open(folder.path(), Durability::Process).unwrap();
        let put = async |id: &str, evaluation: u64, environment: Option<&str>, published: Option<i64>| {
            let body = format!(r#"{{"cases":"{}"}}"#, "x".repeat(1000));
            let published = published.map(Moment);
            store
                .put_run(RunRecord { evaluation, published, body, ..record(id, environment, 1) }, false)
                .await
                .unwrap();
        };
        put("small", 8, None, None).await;
        put("prod", 7, Some("prod"), None).await;
        put("published before", 7, None, Some(1)).await;
        put("published", 7, None, Some(2)).await;
        for n in 0..10 {
            put(&format!("run {n}"), 7, None, None).await;
        }
        store.write(|connection| forget_beyond(connection, 6000)).await.unwrap();
        let left = async |id| -> Vec<String> {
            store.runs(id, None, 99, Part::Head).await.unwrap().into_iter().map(|run| run.id).collect()
        };
        assert_eq!(
            (left(8).await, left(7).await),
            (vec!["small".into()], ["run 9", "run 8", "published", "prod"].map(String::from).to_vec())
        );
        store.write(|connection| forget_beyond(connection, 0)).await.unwrap();
        assert_eq!(left(7).await, ["run 9", "published", "prod"]);
        let sum = "SELECT sum(bytes) FROM eval_sums";
        let sum: i64 = store.write(|connection| connection.query_row(sum, [], |row| row.get(0))).await.unwrap();
        assert_eq!(sum, 4 * 1012, "what is counted is what is there");
    }

    #[tokio::test]
    async fn an_id_holds_one_suite() {
        let folder = TempDir::new().unwrap();
        let store = Store::open(folder.path(), Durability::Process).unwrap();
        let suite = |id: u64, body: &str| SuiteRecord { id, created: Moment(1), author: "a".into(), body: body.into() };
        assert_eq!(store.put_suite(suite(7, "{}")).await.unwrap(), SuitePut::Kept);
        assert_eq!(store.put_suite(suite(7, "[]")).await.unwrap(), SuitePut::Taken);
        assert_eq!(store.suite(7).await.unwrap(), Some(suite(7, "{}")));
        assert_eq!((store.suite(8).await.unwrap(), store.suite_heads(0, 9).await.unwrap().len()), (None, 1));
        let named = |id: u64, name: &str| suite(id, &format!(r#"{{"name":"{name}"}}"#));
        assert_eq!(store.put_suite(named(9, "a")).await.unwrap(), SuitePut::Kept);
        assert_eq!(store.put_suite(named(10, "a")).await.unwrap(), SuitePut::Taken, "a name is one suite's");
        assert_eq!((store.suite_named("a").await.unwrap(), store.suite_named("b").await.unwrap()), (Some(9), None));
        store.put_run(RunRecord { evaluation: 11, ..record("of a file", None, 1) }, false).await.unwrap();
        let taken = store.put_suite(named(11, "b")).await.unwrap();
        assert_eq!(taken, SuitePut::Taken, "the runs of another are no baseline of this one");
        assert!(store.remove_suite(9).await.unwrap() && store.remove_suite(11).await.unwrap());
        assert!(!store.remove_suite(9).await.unwrap());
        assert_eq!(store.put_suite(named(11, "a")).await.unwrap(), SuitePut::Kept);
        // What was looked at by its id stays what it was.
        assert_eq!(store.put_suite(named(9, "c")).await.unwrap(), SuitePut::Removed);
    }

    #[tokio::test]
    async fn a_run_whose_suite_is_gone_is_not_kept() {
        let folder = TempDir::new().unwrap();
        let store = Store::open(folder.path(), Durability::Process).unwrap();
        let suite = SuiteRecord { id: 7, created: Moment(1), author: "a".into(), body: "{}".into() };
        assert_eq!(store.put_suite(suite).await.unwrap(), SuitePut::Kept);
        assert!(store.put_run(record("there", None, 1), true).await.unwrap());
        assert!(store.remove_suite(7).await.unwrap());
        assert!(!store.put_run(record("gone", None, 2), true).await.unwrap());
        assert!(!store.remove_suite(7).await.unwrap(), "nothing is left");
        assert!(store.put_run(record("of a file", None, 3), false).await.unwrap());
    }

    /// Nobody takes the room of all.
    #[tokio::test]
    async fn a_key_has_its_share_of_suites() {
        let folder = TempDir::new().unwrap();
        let store = Store::open(folder.path(), Durability::Process).unwrap();
        let put = async |id: i64, author: &str, bytes: usize| {
            let body = format!(r#"{{"name":"{id}","cases":["{}"]}}"#, "x".repeat(bytes));
            let (id, created, author) = (u64::try_from(id).unwrap(), Moment(1), author.to_owned());
            store.put_suite(SuiteRecord { id, created, author, body }).await.unwrap()
        };
        for id in 0..MOST_SUITES_OF_KEY {
            assert_eq!(put(id, "many", 0).await, SuitePut::Kept, "{id}");
        }
        assert_eq!(put(200, "many", 0).await, SuitePut::FullOfKey);
        for id in 201..208 {
            assert_eq!(put(id, "large", 1 << 20).await, SuitePut::Kept, "{id}");
        }
        assert_eq!(put(208, "large", 1 << 20).await, SuitePut::FullOfKey);
        assert_eq!(put(208, "other", 1 << 20).await, SuitePut::Kept);
    }

    #[tokio::test]
    async fn lists_read_heads() {
        let folder = TempDir::new().unwrap();
        let store = Store::open(folder.path(), Durability::Process).unwrap();
        for (id, body) in [
            (8, r#"{"id":8.0,"name":"b","tolerance":1.50,"environments":{"prod":{"a":"b"},"dev":{}},"cases":[1,2]}"#),
            (7, r#"{"id":7,"name":"a\u0009","description":"d","cases":[1]}"#),
        ] {
            let (created, author) = (Moment(1), "key_1".to_owned());
            let put = store.put_suite(SuiteRecord { id, created, author, body: body.into() }).await.unwrap();
            assert_eq!(put, SuitePut::Kept);
        }
        let heads = store.suite_heads(0, 9).await.unwrap();
        let [one, other] = [&heads[0], &heads[1]].map(|head| head.head.as_str());
        assert_eq!(one, r#"{"name":"a\u0009","description":"d","tolerance":null,"environments":[],"testCases":1}"#);
        assert_eq!(
            other,
            r#"{"name":"b","description":null,"tolerance":1.50,"environments":["prod","dev"],"testCases":2}"#
        );
        assert_eq!(store.suite_heads(7, 9).await.unwrap(), heads[1..]);
        assert_eq!(
            (store.suite_heads(0, 1).await.unwrap(), store.suite_head(7).await.unwrap()),
            (vec![heads[0].clone()], Some(heads[0].clone()))
        );
        let body = format!(r#"{{"score":66.7,"cases":["{}"],"passed":2}}"#, "x".repeat(1 << 20));
        store.put_run(RunRecord { body: body.clone(), ..record("a", None, 1) }, false).await.unwrap();
        assert_eq!(store.runs(7, None, 9, Part::Head).await.unwrap()[0].body, r#"{"score":66.7,"passed":2}"#);
        assert_eq!(store.runs(7, None, 9, Part::Whole).await.unwrap()[0].body, body);
    }
}
