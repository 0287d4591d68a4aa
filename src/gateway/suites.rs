//! Evaluations as REST shows and changes them.

use bytes::Bytes;
use serde_json::{Value, json};

use super::Gateway;
use super::control::{Actor, Failed, close_act};
use super::evals::{failed, suite_view};
use crate::domain::json::Json;
use crate::domain::outcome::Refusal;
use crate::evals::{Flaw, Suite};
use crate::own::eval::{Headline, Kept};
use crate::store::{MOST_SUITES, Part, SuiteRecord};

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
        match self.evals.suite(&self.state(), id).await {
            Ok((suite, author)) => Ok(Some(self.whole_view(&suite, author).await?)),
            Err(Refusal::NotFound { .. }) => Ok(None),
            Err(refusal) => Err(failed(&refusal)),
        }
    }

    /// Whether there is a suite with this id.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub async fn has_evaluation(&self, id: u64) -> Result<bool, Failed> {
        match self.evals.headline(&self.state(), id).await {
            Ok(_) => Ok(true),
            Err(Refusal::NotFound { .. }) => Ok(false),
            Err(refusal) => Err(failed(&refusal)),
        }
    }

    async fn whole_view(&self, suite: &Suite, author: Option<String>) -> Result<Value, Failed> {
        let latest = self.evals.latest(suite.id, Part::Head).await.map_err(|refusal| failed(&refusal))?;
        let mut view = suite_view(&Headline::of(suite, author), latest.as_ref());
        if let Some(members) = view.as_object_mut() {
            let cases: Vec<Value> = suite.cases.iter().enumerate().map(|(at, case)| case.view(at + 1)).collect();
            members.insert("cases".into(), json!(cases));
        }
        Ok(view)
    }

    /// Keeps a suite that `actor` brings. It counts from now on, after a restart too.
    ///
    /// # Errors
    /// Where it is none, its id is taken, or it cannot be stored or recorded.
    pub async fn create_suite(&self, actor: &Actor, body: Bytes) -> Result<Value, SuiteRefused> {
        let (suite, text) = self.evals.read(body).await.map_err(SuiteRefused::unfit)?;
        let mut entry = self.open_act(actor, "evals.create").await?;
        entry.note(&format!("evaluation {}", suite.id));
        entry.note(&format!("digest sha256:{}", suite.digest));
        let kept = self.keep(actor, &suite, &text).await;
        close_act(entry, kept.is_ok()).await?;
        kept?;
        Ok(self.whole_view(&suite, Some(actor.key().to_string())).await?)
    }

    async fn keep(&self, actor: &Actor, suite: &Suite, text: &Json) -> Result<(), SuiteRefused> {
        let id = suite.id;
        if self.has_evaluation(id).await? {
            return Err(SuiteRefused::Conflict(format!("there is an evaluation {id} already")));
        }
        let (author, body) = (actor.key().to_string(), text.as_str().to_owned());
        let record = SuiteRecord { id, created: self.now(), author, body };
        if self.evals.put_suite(record).await.map_err(|refusal| failed(&refusal))? {
            return Ok(());
        }
        let message =
            format!("the evaluation {id} came meanwhile, or {MOST_SUITES} or 64 MiB were made over the API already");
        Err(SuiteRefused::Conflict(message))
    }

    /// Runs of a suite before one, newest first; without what came of each case.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub async fn runs_of(&self, id: u64, before: Option<i64>, limit: usize) -> Result<Vec<(i64, Value)>, Failed> {
        let runs = self.evals.runs(id, before, limit, Part::Head).await.map_err(|refusal| failed(&refusal))?;
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
