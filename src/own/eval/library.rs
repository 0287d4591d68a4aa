//! Suites and runs where they are kept: suites in files and in the store, runs in the store alone.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use super::optional;
use crate::domain::clock::Moment;
use crate::domain::json::Json;
use crate::domain::outcome::Refusal;
use crate::domain::principal::{Principal, Scope};
use crate::evals::{Baseline, Comparison, Environment, Flaw, Run, Suite, compare, read, read_again, score_value};
use crate::pipeline::State;
use crate::store::{Part, RunPick, RunRecord, Store, StoreError, SuiteHead, SuitePut, SuiteRecord};

/// Ids that are named where another one is not known.
const NAMED: usize = 10;

/// A handle on them; cheap to clone.
#[derive(Debug, Clone)]
pub struct Library {
    store: Store,
    /// Whoever reads a suite that somebody brings: one at a time, since its schemas are compiled.
    reading: Arc<Semaphore>,
}

/// What lists show of a suite: all but its cases, which are not read for it.
#[derive(Debug, Clone, PartialEq)]
pub struct Headline {
    pub id: u64,
    pub name: String,
    pub description: Option<String>,
    pub environments: BTreeSet<Environment>,
    pub tolerance: f64,
    pub cases: usize,
    /// Whose key made it, where that was over the API.
    pub author: Option<String>,
}

/// A headline as the store has it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Head {
    name: String,
    description: Option<String>,
    environments: BTreeSet<Environment>,
    tolerance: Option<f64>,
    test_cases: usize,
}

impl Headline {
    /// That of a suite; `author` is whose key made it.
    #[must_use]
    pub fn of(suite: &Suite, author: Option<String>) -> Self {
        Self {
            id: suite.id,
            name: suite.name.clone(),
            description: suite.description.clone(),
            environments: suite.environments.keys().copied().collect(),
            tolerance: suite.tolerance,
            cases: suite.cases.len(),
            author,
        }
    }

    fn kept(record: SuiteHead) -> Option<Self> {
        let Some(head) = serde_json::from_str::<Head>(&record.head).ok() else {
            unreadable(record.id);
            return None;
        };
        let Head { name, description, environments, tolerance, test_cases } = head;
        let (tolerance, author) = (tolerance.unwrap_or(0.0), Some(record.author));
        Some(Self { id: record.id, name, description, environments, tolerance, cases: test_cases, author })
    }
}

/// A run as it is kept.
#[derive(Debug, Clone)]
pub struct Kept {
    pub seq: i64,
    pub published: Option<Moment>,
    pub run: Run,
}

impl Kept {
    /// Whether somebody may read why cases have failed: reasons quote what came, which was given to whoever ran the suite.
    #[must_use]
    pub fn is_open_to(&self, reader: &Principal) -> bool {
        let own = self.run.user.as_deref() == Some(&*reader.user);
        own || self.run.agent.is_none() || reader.profile.has(Scope::AuditRead)
    }

    /// The run as it is shown: everything, and when it was published.
    #[must_use]
    pub fn view(&self) -> Value {
        let mut view = json!(self.run);
        if let Some(members) = view.as_object_mut() {
            members.insert("publishedAt".into(), json!(self.published.map(Moment::rfc3339)));
        }
        view
    }

    fn of(record: &RunRecord) -> Option<Self> {
        let run = serde_json::from_str(&record.body);
        if let Err(error) = &run {
            tracing::error!(run = %record.id, %error, "a run cannot be read: it is left out");
        }
        Some(Self { seq: record.seq, published: record.published, run: run.ok()? })
    }
}

/// The latest run, beside the one that it is compared with.
#[derive(Debug, Clone)]
pub struct Quality {
    pub latest: Kept,
    pub baseline: Option<Kept>,
    /// Absent without a baseline.
    pub comparison: Option<Comparison>,
}

impl Quality {
    /// Compares a run with another, if there is one.
    #[must_use]
    pub fn of(latest: Kept, baseline: Option<Kept>, tolerance: f64) -> Self {
        let comparison = baseline.as_ref().map(|baseline| compare(&latest.run, &baseline.run, tolerance));
        Self { latest, baseline, comparison }
    }

    /// What `eval.quality.latest` answers.
    #[must_use]
    pub fn view(&self) -> Value {
        json!({
            "score": score_value(self.latest.run.score),
            "baselineScore": optional(self.baseline.as_ref().map(|baseline| baseline.run.score)),
            "regressionDetected": self.comparison.as_ref().is_some_and(|comparison| comparison.regression),
            "evaluationId": self.latest.run.evaluation_id,
        })
    }
}

impl Library {
    #[must_use]
    pub fn new(store: Store) -> Self {
        Self { store, reading: Arc::new(Semaphore::new(1)) }
    }

    /// Reads a suite that somebody brings: compiling it is no work for the threads that answer.
    ///
    /// # Errors
    /// All that is wrong with it.
    pub async fn read(&self, body: Bytes) -> Result<(Suite, Json), Vec<Flaw>> {
        let flaw = |message: String| vec![Flaw { at: String::new(), message, hint: None }];
        let Ok(turn) = Arc::clone(&self.reading).acquire_owned().await else {
            return Err(flaw("no suite is read any more".into()));
        };
        let reading = tokio::task::spawn_blocking(move || {
            // It ends when the reading does, whoever waits for it.
            let _turn = turn;
            let text = Json::parse(body).map_err(|error| flaw(error.to_string()))?;
            let tree = text.tree().map_err(|error| flaw(error.to_string()))?;
            Ok((read(&tree)?, text))
        });
        reading
            .await
            .unwrap_or_else(|_| Err(vec![Flaw { at: String::new(), message: "it cannot be read".into(), hint: None }]))
    }

    /// The suite with this id, and whose key made it where that was over the API. One of a file goes before such a one.
    ///
    /// # Errors
    /// Where there is none, or the store cannot be read.
    pub async fn suite(&self, state: &State, id: u64) -> Result<(Arc<Suite>, Option<String>), Refusal> {
        if let Some(suite) = state.settings.evals.get(&id) {
            return Ok((Arc::clone(suite), None));
        }
        let Some(record) = self.store.suite(id).await.map_err(|error| internal(&error))? else {
            return Err(self.missing(state, id).await?);
        };
        let author = record.author.clone();
        let reading = tokio::task::spawn_blocking(move || known(&record)).await;
        let suite = reading.ok().flatten().ok_or(Refusal::Internal)?;
        Ok((Arc::new(suite), Some(author)))
    }

    /// What lists show of the suite with this id.
    ///
    /// # Errors
    /// As with [`Self::suite`].
    pub async fn headline(&self, state: &State, id: u64) -> Result<Headline, Refusal> {
        if let Some(suite) = state.settings.evals.get(&id) {
            return Ok(Headline::of(suite, None));
        }
        match self.store.suite_head(id).await.map_err(|error| internal(&error))? {
            Some(record) => Headline::kept(record).ok_or(Refusal::Internal),
            None => Err(self.missing(state, id).await?),
        }
    }

    /// What lists show of the suites whose ids come after `after`, by id.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub async fn headlines(&self, state: &State, after: u64, limit: usize) -> Result<Vec<Headline>, Refusal> {
        let files = &state.settings.evals;
        let of_files = files.range(after.saturating_add(1)..).take(limit);
        let mut found: Vec<Headline> = of_files.map(|(_, suite)| Headline::of(suite, None)).collect();
        let kept = self.store.suite_heads(after, limit).await.map_err(|error| internal(&error))?;
        found.extend(kept.into_iter().filter(|head| !files.contains_key(&head.id)).filter_map(Headline::kept));
        found.sort_by_key(|headline| headline.id);
        found.truncate(limit);
        Ok(found)
    }

    /// That there is no suite with this id, and which there are.
    async fn missing(&self, state: &State, id: u64) -> Result<Refusal, Refusal> {
        let known = self.headlines(state, 0, NAMED).await?;
        let named: Vec<String> = known.iter().map(|headline| headline.id.to_string()).collect();
        let hint = match named.len() {
            0 => String::from("none is configured: put a suite into `evals/`"),
            _ => format!("there are {}", named.join(", ")),
        };
        Ok(Refusal::NotFound { message: format!("there is no evaluation {id}: {hint}") })
    }

    /// The id of the suite with this name: that of a file before one that was made over the API.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub async fn named(&self, state: &State, name: &str) -> Result<Option<u64>, Refusal> {
        match state.settings.evals.values().find(|suite| suite.name == name) {
            Some(suite) => Ok(Some(suite.id)),
            None => self.store.suite_named(name).await.map_err(|error| internal(&error)),
        }
    }

    /// Forgets a suite that was made over the API, and its runs. False where there is neither.
    ///
    /// # Errors
    /// Where it was not committed.
    pub async fn remove_suite(&self, id: u64) -> Result<bool, Refusal> {
        self.store.remove_suite(id).await.map_err(|error| internal(&error))
    }

    /// Keeps a suite that came over the API, where its id and its name are free and there is room.
    ///
    /// # Errors
    /// Where it was not committed.
    pub async fn put_suite(&self, suite: SuiteRecord) -> Result<SuitePut, Refusal> {
        self.store.put_suite(suite).await.map_err(|error| internal(&error))
    }

    /// Keeps a finished run; `made` says whether its suite came over the API. False where that has gone meanwhile.
    ///
    /// # Errors
    /// Where it was not committed.
    pub async fn put_run(
        &self,
        run: &Run,
        now: Moment,
        published: Option<Moment>,
        made: bool,
    ) -> Result<bool, Refusal> {
        let record = RunRecord {
            seq: 0,
            id: run.id.clone(),
            evaluation: run.evaluation_id,
            environment: run.environment.map(|environment| environment.as_str().to_owned()),
            created: now,
            published,
            body: Json::of(run).as_str().to_owned(),
        };
        self.store.put_run(record, made).await.map_err(|error| internal(&error))
    }

    /// The run with this id.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub async fn run(&self, id: &str) -> Result<Option<Kept>, Refusal> {
        Ok(self.store.run(id).await.map_err(|error| internal(&error))?.as_ref().and_then(Kept::of))
    }

    /// Runs of a suite before one, newest first.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub async fn runs(&self, suite: u64, before: Option<i64>, limit: usize, part: Part) -> Result<Vec<Kept>, Refusal> {
        let records = self.store.runs(suite, before, limit, part).await.map_err(|error| internal(&error))?;
        Ok(records.iter().filter_map(Kept::of).collect())
    }

    /// Makes a run what others are compared with. False where there is none of this id.
    ///
    /// # Errors
    /// Where it was not committed.
    pub async fn publish(&self, id: &str, now: Moment) -> Result<bool, Refusal> {
        self.store.publish_run(id, now).await.map_err(|error| internal(&error))
    }

    /// The latest run of a suite.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub async fn latest(&self, suite: u64, part: Part) -> Result<Option<Kept>, Refusal> {
        self.pick(suite, RunPick::Latest, part).await
    }

    /// The run that another one is compared with.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub async fn baseline(&self, of: &Kept, baseline: Baseline) -> Result<Option<Kept>, Refusal> {
        let pick = match baseline {
            Baseline::Published => RunPick::Published,
            Baseline::Previous => RunPick::Before(of.seq),
            Baseline::Production => RunPick::In(Environment::Prod.as_str(), of.seq),
        };
        self.pick(of.run.evaluation_id, pick, Part::Whole).await
    }

    /// The latest run of a suite, compared where that is asked for.
    ///
    /// # Errors
    /// Where it was never run, or the store cannot be read.
    pub async fn quality(&self, suite: &Headline, baseline: Option<Baseline>) -> Result<Quality, Refusal> {
        let Some(latest) = self.latest(suite.id, Part::Whole).await? else {
            let message = format!("the evaluation {} was never run: start a run with eval.run.create", suite.id);
            return Err(Refusal::NotFound { message });
        };
        let baseline = match baseline {
            Some(baseline) => self.baseline(&latest, baseline).await?,
            None => None,
        };
        Ok(Quality::of(latest, baseline, suite.tolerance))
    }

    async fn pick(&self, suite: u64, pick: RunPick, part: Part) -> Result<Option<Kept>, Refusal> {
        let record = self.store.pick_run(suite, pick, part).await.map_err(|error| internal(&error))?;
        Ok(record.as_ref().and_then(Kept::of))
    }
}

/// A suite of the store. It was whole when it was stored.
fn known(record: &SuiteRecord) -> Option<Suite> {
    let tree = Json::parse(Bytes::copy_from_slice(record.body.as_bytes())).ok().and_then(|json| json.tree().ok());
    let suite = tree.and_then(|tree| read_again(&tree).ok());
    if suite.is_none() {
        unreadable(record.id);
    }
    suite
}

fn unreadable(evaluation: u64) {
    tracing::error!(evaluation, "a suite that was stored cannot be read any more: it is left out");
}

/// What is only for the log.
pub(super) fn internal(error: &StoreError) -> Refusal {
    tracing::error!(%error, "evaluations cannot be read or written");
    Refusal::Internal
}
