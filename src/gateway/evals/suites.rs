//! Evaluations as REST shows and changes them.

use std::net::IpAddr;

use bytes::Bytes;
use serde_json::{Value, json};

use super::super::Gateway;
use super::super::control::{Actor, Failed, close_act};
use super::{failed, suite_view};
use crate::domain::decision::{Judgement, Verdict};
use crate::domain::id::RequestId;
use crate::domain::json::Json;
use crate::domain::outcome::{Outcome, Refusal};
use crate::domain::principal::{Principal, Scope};
use crate::evals::{Flaw, Suite};
use crate::journal::{Closing, OpenEntry};
use crate::own::eval::{Headline, Kept, RUN};
use crate::policy::Facts;
use crate::policy::effects::of_call;
use crate::store::{
    MOST_SUITE_MIB, MOST_SUITE_MIB_OF_KEY, MOST_SUITES, MOST_SUITES_OF_KEY, Part, SuitePut, SuiteRecord,
};
use crate::wire::mcp::advice;

/// Whoever changes evaluations over REST.
#[derive(Debug, Clone, Copy)]
pub struct Editor<'e> {
    pub principal: &'e Principal,
    pub source: Option<IpAddr>,
    pub request: &'e RequestId,
}

/// Why a suite is not changed.
#[derive(Debug, thiserror::Error)]
pub enum SuiteRefused {
    /// With every fault: `at` is a JSON Pointer.
    #[error("{message}")]
    Unfit { message: String, faults: Value },
    #[error("{0}")]
    Conflict(String),
    /// Policy does not let them run it, so they do not change what others run.
    #[error("{0}")]
    Denied(String),
    /// What runs suites is not there for their profile, so that nothing is said of any.
    #[error("{0}")]
    Hidden(String),
    #[error("there is no evaluation `{0}`")]
    Missing(u64),
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

    /// Keeps a suite that somebody brings. It counts from now on, after a restart too.
    ///
    /// # Errors
    /// Where it is none, its id or name is taken, who brings it may not run it, or it cannot be stored or recorded.
    pub async fn create_suite(&self, by: Editor<'_>, body: Bytes) -> Result<Value, SuiteRefused> {
        let (suite, text) = self.evals.read(body).await.map_err(SuiteRefused::unfit)?;
        if suite.name.parse::<u64>().is_ok() {
            let message = "`name` must not read as the id of a suite".into();
            return Err(SuiteRefused::unfit(vec![Flaw { at: "/name".into(), message, hint: None }]));
        }
        let digest = format!("digest sha256:{}", suite.digest);
        let entry = self.begin_change(by, "evals.create", suite.id, Some(&digest)).await?;
        let author = by.principal.key.to_string();
        let kept = self.keep(author.clone(), &suite, &text).await;
        close_act(entry, kept.is_ok()).await?;
        kept?;
        Ok(self.whole_view(&suite, Some(author)).await?)
    }

    /// Makes a run of a suite what others are compared with. False where there is none of this id.
    ///
    /// # Errors
    /// Where who asks may not run the suite, or it cannot be stored or recorded.
    pub async fn publish_by(&self, by: Editor<'_>, id: u64, run: &str) -> Result<bool, SuiteRefused> {
        let entry = self.begin_change(by, "evals.publish", id, Some(&format!("run {run}"))).await?;
        Ok(self.publish_with(entry, run).await?)
    }

    /// Forgets a suite that was made over REST, for the key that made it or an administrator.
    ///
    /// # Errors
    /// Where there is none, it is another's, who asks may not run it, or it cannot be stored or recorded.
    pub async fn remove_by(&self, by: Editor<'_>, id: u64) -> Result<(), SuiteRefused> {
        let author = self.author(id).await?.ok_or(SuiteRefused::Missing(id))?;
        if author != by.principal.key.as_str() && !by.principal.profile.has(Scope::KeysAdmin) {
            let message = format!(
                "the evaluation {id} was made by {author}: only that key, or one with the scope `keys:admin`, removes it"
            );
            return Err(SuiteRefused::Denied(message));
        }
        let entry = self.begin_change(by, "evals.remove", id, None).await?;
        self.remove_with(entry, id).await
    }

    /// Forgets a suite that was made over REST, or what is left of one, with its runs.
    ///
    /// # Errors
    /// Where there is nothing, the suite stands in a file, or it cannot be stored or recorded.
    pub(super) async fn remove_suite(&self, actor: &Actor, id: u64) -> Result<(), SuiteRefused> {
        self.author(id).await?;
        let entry = self.begin_act(actor, "evals.remove", &[format!("evaluation {id}")]).await?;
        self.remove_with(entry, id).await
    }

    async fn remove_with(&self, entry: OpenEntry, id: u64) -> Result<(), SuiteRefused> {
        let removed = self.evals.remove_suite(id).await;
        close_act(entry, matches!(removed, Ok(true))).await?;
        if removed.map_err(|refusal| failed(&refusal))? { Ok(()) } else { Err(SuiteRefused::Missing(id)) }
    }

    /// The key that made a suite over REST; none where there is no such suite.
    async fn author(&self, id: u64) -> Result<Option<String>, SuiteRefused> {
        match self.evals.headline(&self.state(), id).await {
            Ok(Headline { author: Some(author), .. }) => Ok(Some(author)),
            Ok(Headline { name, .. }) => {
                Err(SuiteRefused::Conflict(format!("the evaluation {id}, `{name}`, stands in a file: remove it there")))
            }
            Err(Refusal::NotFound { .. }) => Ok(None),
            Err(refusal) => Err(failed(&refusal).into()),
        }
    }

    /// Opens the record of a change of a suite and commits the intent, where whoever makes it may run that suite: others run
    /// what stands there.
    async fn begin_change(
        &self,
        by: Editor<'_>,
        act: &str,
        id: u64,
        note: Option<&str>,
    ) -> Result<OpenEntry, SuiteRefused> {
        let mut entry = self.open_act(&Actor::holder(by.principal, by.request), act).await?;
        entry.note(&format!("evaluation {id}"));
        note.into_iter().for_each(|note| entry.note(note));
        let refusal = match self.of_running(by, id) {
            Ok(judgement) if judgement.verdict != Verdict::Deny => {
                entry.permitted();
                entry.intend().await.map_err(|error| Failed::of(&error))?;
                return Ok(entry);
            }
            Ok(judgement) => Refusal::Denied(Box::new(judgement)),
            Err(refusal) => refusal,
        };
        let refused = match &refusal {
            Refusal::UnknownTool { .. } => {
                entry.note(&format!("the tool lies outside the profile `{}`", by.principal.profile.name));
                SuiteRefused::Hidden(refusal.to_string())
            }
            _ => SuiteRefused::Denied(advice(&refusal)),
        };
        entry.close(Closing::of(&Outcome::Refused(refusal))).await.map_err(|error| Failed::of(&error))?;
        Err(refused)
    }

    /// What the policies say of somebody's running a suite, where their profile has what runs them.
    fn of_running(&self, by: Editor<'_>, id: u64) -> Result<Judgement, Refusal> {
        let own = self.own_tools().iter().find(|own| &*own.tool.id.tool == RUN).ok_or(Refusal::Internal)?;
        if !own.exists_for(&by.principal.profile) {
            return Err(Refusal::UnknownTool { asked: own.tool.label.to_string(), nearest: Vec::new() });
        }
        let arguments = json!({"evaluationId": id});
        let effects = of_call(&own.tool, &arguments);
        let (surface, source) = (by.principal.profile.surface, by.source);
        let facts = Facts { effects: &effects.effects, surface, now: self.now(), source };
        Ok(self.state().policies.judge(by.principal, &own.tool, Some(&arguments), &facts))
    }

    async fn keep(&self, author: String, suite: &Suite, text: &Json) -> Result<(), SuiteRefused> {
        let (id, name, state) = (suite.id, &suite.name, self.state());
        if self.has_evaluation(id).await? {
            return Err(SuiteRefused::Conflict(format!("there is an evaluation {id} already")));
        }
        if let Some(other) = self.evals.named(&state, name).await.map_err(|refusal| failed(&refusal))? {
            return Err(SuiteRefused::Conflict(format!(
                "the evaluation {other} is named `{name}`: give this one another name"
            )));
        }
        if self.evals.latest(id, Part::Head).await.map_err(|refusal| failed(&refusal))?.is_some() {
            let message = format!("runs of an evaluation {id} are kept that is gone: give this one another id");
            return Err(SuiteRefused::Conflict(message));
        }
        let body = text.as_str().to_owned();
        let record = SuiteRecord { id, created: self.now(), author, body };
        Err(SuiteRefused::Conflict(match self.evals.put_suite(record).await.map_err(|refusal| failed(&refusal))? {
            SuitePut::Kept => return Ok(()),
            SuitePut::Taken => format!("the evaluation {id}, or its name, came meanwhile"),
            SuitePut::Removed => format!(
                "there was an evaluation {id}, which was removed, and whoever knows it by its id means that one: give this \
                 one another id"
            ),
            SuitePut::FullOfKey => format!(
                "your key has made {MOST_SUITES_OF_KEY} evaluations over the API, or {MOST_SUITE_MIB_OF_KEY} MiB of them: \
                 remove some"
            ),
            SuitePut::Full => {
                format!("{MOST_SUITES} evaluations, or {MOST_SUITE_MIB} MiB of them, were made over the API already")
            }
        }))
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

    /// A run of a suite, whole; without the reasons where `reader` may not read them.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub async fn run_of(&self, reader: &Principal, id: u64, run: &str) -> Result<Option<Value>, Failed> {
        let kept = self.evals.run(run).await.map_err(|refusal| failed(&refusal))?;
        let shown = |mut kept: Kept| {
            if !kept.is_open_to(reader) {
                kept.run.cases.iter_mut().for_each(|case| case.reasons.clear());
            }
            kept.view()
        };
        Ok(kept.filter(|kept| kept.run.evaluation_id == id).map(shown))
    }
}
