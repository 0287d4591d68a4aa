//! Suites and runs where they are kept: suites in files and in the store, runs in the store alone.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Value, json};

use super::optional;
use crate::domain::clock::Moment;
use crate::domain::json::Json;
use crate::domain::outcome::Refusal;
use crate::evals::{Baseline, Comparison, Environment, Run, Suite, compare, read, score_value};
use crate::pipeline::State;
use crate::store::{RunPick, RunRecord, Store, StoreError, SuiteRecord};

/// Ids that are named where another one is not known.
const NAMED: usize = 10;

/// A handle on them; cheap to clone.
#[derive(Debug, Clone)]
pub struct Library(Store);

/// A run as it is kept.
#[derive(Debug, Clone)]
pub struct Kept {
    pub seq: i64,
    pub published: Option<Moment>,
    pub run: Run,
}

impl Kept {
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
        Self(store)
    }

    /// The suite with this id. One of a file goes before one that was made over the API.
    ///
    /// # Errors
    /// Where there is none, or the store cannot be read.
    pub async fn suite(&self, state: &State, id: u64) -> Result<Arc<Suite>, Refusal> {
        if let Some(suite) = state.settings.evals.get(&id) {
            return Ok(Arc::clone(suite));
        }
        if let Some(record) = self.0.suite(id).await.map_err(|error| internal(&error))? {
            return parsed(&record).map(Arc::new).ok_or(Refusal::Internal);
        }
        let known: Vec<String> = self.suites(state).await?.iter().map(|(suite, _)| suite.id.to_string()).collect();
        let named = known.iter().take(NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
        let hint = match known.len() {
            0 => String::from("none is configured: put a suite into `evals/`"),
            _ => format!("there are {named}"),
        };
        Err(Refusal::NotFound { message: format!("there is no evaluation {id}: {hint}") })
    }

    /// Every suite by id, with whose key made it where that was over the API.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub async fn suites(&self, state: &State) -> Result<Vec<(Arc<Suite>, Option<String>)>, Refusal> {
        let files = &state.settings.evals;
        let mut suites: Vec<_> = files.values().map(|suite| (Arc::clone(suite), None)).collect();
        for record in self.0.suites().await.map_err(|error| internal(&error))? {
            let suite = parsed(&record).filter(|suite| !files.contains_key(&suite.id));
            suites.extend(suite.map(|suite| (Arc::new(suite), Some(record.author))));
        }
        suites.sort_by_key(|(suite, _)| suite.id);
        Ok(suites)
    }

    /// Keeps a suite that came over the API. False where there is one of this id, or there are too many.
    ///
    /// # Errors
    /// Where it was not committed.
    pub async fn put_suite(&self, suite: SuiteRecord) -> Result<bool, Refusal> {
        self.0.put_suite(suite).await.map_err(|error| internal(&error))
    }

    /// Keeps a finished run.
    ///
    /// # Errors
    /// Where it was not committed.
    pub async fn put_run(&self, run: &Run, now: Moment, published: Option<Moment>) -> Result<(), Refusal> {
        let record = RunRecord {
            seq: 0,
            id: run.id.clone(),
            evaluation: run.evaluation_id,
            environment: run.environment.map(|environment| environment.as_str().to_owned()),
            created: now,
            published,
            body: Json::of(run).as_str().to_owned(),
        };
        self.0.put_run(record).await.map_err(|error| internal(&error))
    }

    /// The run with this id.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub async fn run(&self, id: &str) -> Result<Option<Kept>, Refusal> {
        Ok(self.0.run(id).await.map_err(|error| internal(&error))?.as_ref().and_then(Kept::of))
    }

    /// Runs of a suite before one, newest first.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub async fn runs(&self, suite: u64, before: Option<i64>, limit: usize) -> Result<Vec<Kept>, Refusal> {
        let records = self.0.runs(suite, before, limit).await.map_err(|error| internal(&error))?;
        Ok(records.iter().filter_map(Kept::of).collect())
    }

    /// Makes a run what others are compared with. False where there is none of this id.
    ///
    /// # Errors
    /// Where it was not committed.
    pub async fn publish(&self, id: &str, now: Moment) -> Result<bool, Refusal> {
        self.0.publish_run(id, now).await.map_err(|error| internal(&error))
    }

    /// The latest run of a suite.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub async fn latest(&self, suite: u64) -> Result<Option<Kept>, Refusal> {
        self.pick(suite, RunPick::Latest).await
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
        self.pick(of.run.evaluation_id, pick).await
    }

    /// The latest run of a suite, compared where that is asked for.
    ///
    /// # Errors
    /// Where it was never run, or the store cannot be read.
    pub async fn quality(&self, suite: &Suite, baseline: Option<Baseline>) -> Result<Quality, Refusal> {
        let Some(latest) = self.latest(suite.id).await? else {
            let message = format!("the evaluation {} was never run: start a run with eval.run.create", suite.id);
            return Err(Refusal::NotFound { message });
        };
        let baseline = match baseline {
            Some(baseline) => self.baseline(&latest, baseline).await?,
            None => None,
        };
        Ok(Quality::of(latest, baseline, suite.tolerance))
    }

    async fn pick(&self, suite: u64, pick: RunPick) -> Result<Option<Kept>, Refusal> {
        Ok(self.0.pick_run(suite, pick).await.map_err(|error| internal(&error))?.as_ref().and_then(Kept::of))
    }
}

/// A suite of the store. It was whole when it was stored.
fn parsed(record: &SuiteRecord) -> Option<Suite> {
    let tree = Json::parse(Bytes::copy_from_slice(record.body.as_bytes())).ok().and_then(|json| json.tree().ok());
    let suite = tree.and_then(|tree| read(&tree).ok());
    if suite.is_none() {
        tracing::error!(evaluation = record.id, "a suite that was stored cannot be read any more: it is left out");
    }
    suite
}

/// What is only for the log.
pub(super) fn internal(error: &StoreError) -> Refusal {
    tracing::error!(%error, "evaluations cannot be read or written");
    Refusal::Internal
}
