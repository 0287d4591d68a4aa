//! Evaluations as REST shows and changes them.

use bytes::Bytes;
use serde_json::{Value, json};

use super::Gateway;
use super::control::{Actor, Failed, close_act};
use super::evals::{failed, suite_view};
use crate::domain::json::Json;
use crate::domain::outcome::Refusal;
use crate::evals::{Flaw, Suite, read};
use crate::own::eval::Kept;
use crate::store::{MOST_SUITES, SuiteRecord};

/// Why a suite is not kept.
#[derive(Debug, thiserror::Error)]
pub enum SuiteRefused {
    /// With every fault: `at` is a JSON Pointer.
    #[error("{message}")]
    Unfit { message: String, faults: Value },
    #[error("{0}")]
    Conflict(String),
    #[error(transparent)]
    Failed(#[from] Failed),
}

impl SuiteRefused {
    fn unfit(flaws: Vec<Flaw>) -> Self {
        let message = flaws.first().map_or_else(
            || "this is no suite".to_owned(),
            |flaw| match flaw.at.as_str() {
                "" => flaw.message.clone(),
                at => format!("{at}: {}", flaw.message),
            },
        );
        let fault = |flaw: Flaw| json!({"at": flaw.at, "message": flaw.message, "hint": flaw.hint});
        Self::Unfit { message, faults: flaws.into_iter().map(fault).collect() }
    }
}

impl Gateway {
    /// The suite with this id and its cases; `None` where there is none.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub async fn evaluation(&self, id: u64) -> Result<Option<Value>, Failed> {
        let suites = self.evals.suites(&self.state()).await.map_err(|refusal| failed(&refusal))?;
        let Some((suite, author)) = suites.into_iter().find(|(suite, _)| suite.id == id) else { return Ok(None) };
        let latest = self.evals.latest(id).await.map_err(|refusal| failed(&refusal))?;
        let mut view = suite_view(&suite, author.as_deref(), latest.as_ref());
        if let Some(members) = view.as_object_mut() {
            let cases: Vec<Value> = suite.cases.iter().enumerate().map(|(at, case)| case.view(at + 1)).collect();
            members.insert("cases".into(), json!(cases));
        }
        Ok(Some(view))
    }

    /// Keeps a suite that `actor` brings. It counts from now on, after a restart too.
    ///
    /// # Errors
    /// Where it is none, its id is taken, or it cannot be stored or recorded.
    pub async fn create_suite(&self, actor: &Actor, body: Bytes) -> Result<Value, SuiteRefused> {
        let unfit = |message: String| SuiteRefused::Unfit { message, faults: json!([]) };
        let text = Json::parse(body).map_err(|error| unfit(error.to_string()))?;
        let tree = text.tree().map_err(|error| unfit(error.to_string()))?;
        let suite = read(&tree).map_err(SuiteRefused::unfit)?;
        let notes = [format!("evaluation {}", suite.id), format!("digest sha256:{}", suite.digest)];
        let entry = self.begin_act(actor, "evals.create", &notes).await?;
        let kept = self.keep(actor, &suite, &text).await;
        close_act(entry, kept.is_ok()).await?;
        kept?;
        Ok(self.evaluation(suite.id).await?.unwrap_or_default())
    }

    async fn keep(&self, actor: &Actor, suite: &Suite, text: &Json) -> Result<(), SuiteRefused> {
        let id = suite.id;
        match self.evals.suite(&self.state(), id).await {
            Err(Refusal::NotFound { .. }) => {}
            Ok(_) => return Err(SuiteRefused::Conflict(format!("there is an evaluation {id} already"))),
            Err(refusal) => return Err(failed(&refusal).into()),
        }
        let (author, body) = (actor.key().to_string(), text.as_str().to_owned());
        let record = SuiteRecord { id, created: self.now(), author, body };
        if self.evals.put_suite(record).await.map_err(|refusal| failed(&refusal))? {
            return Ok(());
        }
        let message = format!("the evaluation {id} came meanwhile, or {MOST_SUITES} were made over the API already");
        Err(SuiteRefused::Conflict(message))
    }

    /// Runs of a suite before one, newest first; without what came of each case.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub async fn runs_of(&self, id: u64, before: Option<i64>, limit: usize) -> Result<Vec<(i64, Value)>, Failed> {
        let runs = self.evals.runs(id, before, limit).await.map_err(|refusal| failed(&refusal))?;
        let short = |kept: &Kept| {
            let mut view = kept.view();
            let _cases = view.as_object_mut().and_then(|members| members.remove("cases"));
            (kept.seq, view)
        };
        Ok(runs.iter().map(short).collect())
    }

    /// A run of a suite, whole.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub async fn run_of(&self, id: u64, run: &str) -> Result<Option<Value>, Failed> {
        let kept = self.evals.run(run).await.map_err(|refusal| failed(&refusal))?;
        Ok(kept.filter(|kept| kept.run.evaluation_id == id).map(|kept| kept.view()))
    }
}
