//! Evaluations as the command line asks about them, and lists of them for everybody.

mod progress;
mod suites;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

pub(super) use self::progress::Progress;
pub use self::suites::{Editor, SuiteRefused};
use super::control::{Actor, Failed, close_act};
use super::{Gateway, asides};
use crate::domain::json::Json;
use crate::domain::outcome::{Outcome, Refusal};
use crate::evals::{Baseline, Verdict, junit, score_value};
use crate::journal::OpenEntry;
use crate::own::eval::{CASES, Headline, Kept, Quality};
use crate::store::Part;
use crate::wire::mcp::advice;

/// Notices of progress that may wait to be noted.
const NOTICES: usize = 64;

/// Runs that are listed at most.
const MOST_RUNS: usize = 200;

/// What the command line asks about evaluations.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "evaluations", rename_all = "snake_case")]
pub enum EvalsCommand {
    List,
    Runs {
        suite: String,
        limit: usize,
    },
    /// `ticket` is made up by who asks, to ask for the progress of this run meanwhile.
    Run {
        suite: String,
        environment: Option<String>,
        baseline: Option<String>,
        junit: bool,
        ticket: String,
        /// The key that made it over REST, where one did: its cases are known to who asks.
        #[serde(default)]
        author: Option<String>,
    },
    Progress {
        ticket: String,
    },
    Publish {
        run: String,
    },
    /// Forgets a suite that was made over REST, or what a suite has left, with its runs.
    Remove {
        suite: String,
    },
}

/// A refusal as the sentence that the command line shows.
pub(super) fn failed(refusal: &Refusal) -> Failed {
    Failed(refusal.to_string())
}

impl Gateway {
    /// Carries out a command about evaluations.
    pub(super) async fn evals_command(&self, command: EvalsCommand) -> Result<Value, Failed> {
        match command {
            EvalsCommand::List => {
                let list = self.list_evaluations(0, usize::MAX).await?;
                Ok(json!({"evaluations": list.into_iter().map(|(_, view)| view).collect::<Vec<_>>()}))
            }
            EvalsCommand::Runs { suite, limit } => {
                let suite = self.named_suite(&suite).await?;
                let runs = self.evals.runs(suite.id, None, limit.min(MOST_RUNS), Part::Whole).await;
                let runs = runs.map_err(|refusal| failed(&refusal))?;
                Ok(json!({"runs": runs.iter().map(Kept::view).collect::<Vec<_>>()}))
            }
            EvalsCommand::Run { suite, environment, baseline, junit, ticket, author } => {
                let suite = self.named_suite(&suite).await?;
                let owner = Actor::owner();
                let foreign = suite.author.as_deref().filter(|made| *made != owner.key().as_str());
                if let Some(made) = foreign.filter(|made| author.as_deref() != Some(*made)) {
                    return Err(Failed(format!(
                        "the suite `{}` was made over REST by {made}, and its calls would be yours: look at them with \
                         `toolgate tools call toolgate:{CASES} --args '{{\"evaluationId\":{}}}'`, then add \
                         `--author {made}`",
                        suite.name, suite.id
                    )));
                }
                let with = [("environment", environment), ("author", author)];
                self.run_evaluation(&suite, with, baseline.as_deref(), junit, ticket).await
            }
            EvalsCommand::Remove { suite } => {
                // What is left of one is found by its id alone.
                let id = match suite.parse() {
                    Ok(id) => id,
                    Err(_) => self.named_suite(&suite).await?.id,
                };
                let removed = self.remove_suite(&Actor::owner(), id).await;
                removed.map(|()| json!({"removed": id})).map_err(|refused| Failed::of(&refused))
            }
            EvalsCommand::Progress { ticket } => Ok(self.runs_followed.of(&ticket)),
            EvalsCommand::Publish { run } => {
                if self.publish_run(&Actor::owner(), &run).await? {
                    return Ok(json!({"published": run}));
                }
                Err(Failed(format!("there is no run `{run}`: `toolgate eval runs SUITE` lists them")))
            }
        }
    }

    /// Suites with their latest runs, by id: those whose ids come after `after`.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub async fn list_evaluations(&self, after: u64, limit: usize) -> Result<Vec<(u64, Value)>, Failed> {
        let mut list = Vec::new();
        let suites = self.evals.headlines(&self.state(), after, limit).await;
        for suite in suites.map_err(|refusal| failed(&refusal))? {
            let latest = self.evals.latest(suite.id, Part::Head).await.map_err(|refusal| failed(&refusal))?;
            list.push((suite.id, suite_view(&suite, latest.as_ref())));
        }
        Ok(list)
    }

    /// Makes a run what others are compared with. False where there is none of this id.
    ///
    /// # Errors
    /// Where it cannot be stored or recorded.
    pub async fn publish_run(&self, actor: &Actor, run: &str) -> Result<bool, Failed> {
        let entry = self.begin_act(actor, "evals.publish", &[format!("run {run}")]).await?;
        self.publish_with(entry, run).await
    }

    pub(super) async fn publish_with(&self, entry: OpenEntry, run: &str) -> Result<bool, Failed> {
        let published = self.evals.publish(run, self.now()).await;
        close_act(entry, matches!(published, Ok(true))).await?;
        published.map_err(|refusal| failed(&refusal))
    }

    /// The suite that a person names: by its id, else by its name, and there one of a file goes before one of the API.
    /// Whoever may make suites so takes nobody's name.
    async fn named_suite(&self, named: &str) -> Result<Headline, Failed> {
        let mut suites =
            self.evals.headlines(&self.state(), 0, usize::MAX).await.map_err(|refusal| failed(&refusal))?;
        if let Some(at) = suites.iter().position(|suite| suite.id.to_string() == named) {
            return Ok(suites.swap_remove(at));
        }
        suites.retain(|suite| suite.name == named);
        if suites.iter().any(|suite| suite.author.is_none()) {
            suites.retain(|suite| suite.author.is_none());
        }
        let mut found = suites.into_iter();
        match (found.next(), found.next()) {
            (Some(suite), None) => Ok(suite),
            (Some(_), Some(_)) => Err(Failed(format!("more than one suite is named `{named}`: give its id"))),
            (None, _) => Err(Failed(format!("there is no suite `{named}`: see `toolgate eval list`"))),
        }
    }

    async fn run_evaluation(
        &self,
        suite: &Headline,
        with: [(&str, Option<String>); 2],
        baseline: Option<&str>,
        as_junit: bool,
        ticket: String,
    ) -> Result<Value, Failed> {
        let baseline = baseline.map(|text| {
            let known = Baseline::ALL.map(Baseline::as_str).join(", ");
            Baseline::parse(text).ok_or_else(|| Failed(format!("there is no baseline `{text}`: known are {known}")))
        });
        let baseline = baseline.transpose()?;
        let mut arguments = json!({"evaluationId": suite.id});
        for (name, text) in with {
            if let (Some(text), Some(members)) = (text, arguments.as_object_mut()) {
                members.insert(name.into(), json!(text));
            }
        }
        let followed = self.runs_followed.follow(ticket);
        let (sender, heard) = asides(NOTICES);
        let running = self.call_as_owner("toolgate:eval.run.create".into(), &arguments, self.line(Some(sender), None));
        let (carried, ()) = tokio::join!(running, followed.note(heard));
        let run = match carried?.outcome {
            Outcome::Answered(answer) => run_of(&answer.result),
            Outcome::Refused(refusal) => return Err(Failed(advice(&refusal))),
            Outcome::Failed(error) => return Err(Failed(error.message)),
            Outcome::Cancelled => return Err(Failed("the run was cancelled".into())),
        };
        let kept = self.evals.run(&run).await.map_err(|refusal| failed(&refusal))?;
        let kept = kept.ok_or_else(|| Failed("the run that has ended is not in the store".into()))?;
        let against = match baseline {
            Some(baseline) => self.evals.baseline(&kept, baseline).await.map_err(|refusal| failed(&refusal))?,
            None => None,
        };
        let xml = as_junit.then(|| junit::document(&kept.run));
        let quality = Quality::of(kept, against, suite.tolerance);
        Ok(json!({"run": quality.latest.view(), "comparison": comparison_view(&quality), "junit": xml}))
    }
}

/// The id of the run in the answer of `eval.run.create`.
fn run_of(result: &Json) -> String {
    let id = result.value().pointer("/structuredContent/runId").and_then(Value::as_str).map(str::to_owned);
    id.unwrap_or_default()
}

/// A suite as lists show it.
pub(super) fn suite_view(suite: &Headline, latest: Option<&Kept>) -> Value {
    json!({
        "id": suite.id,
        "name": suite.name,
        "description": suite.description,
        "environments": suite.environments,
        "tolerance": suite.tolerance,
        "testCases": suite.cases,
        "source": if suite.author.is_some() { "api" } else { "file" },
        "author": suite.author,
        "latest": latest.map(|kept| json!({
            "runId": kept.run.id,
            "score": score_value(kept.run.score),
            "startedAt": kept.run.started_at,
        })),
    })
}

/// What has changed since the baseline; null without one.
fn comparison_view(quality: &Quality) -> Value {
    let (Some(baseline), Some(comparison)) = (&quality.baseline, &quality.comparison) else { return Value::Null };
    json!({
        "baselineRunId": baseline.run.id,
        "baselineScore": score_value(baseline.run.score),
        "baselineStartedAt": baseline.run.started_at,
        "regressionDetected": comparison.regression,
        "newlyFailing": comparison.with(Verdict::NewlyFailing),
        "newFailing": comparison.with(Verdict::NewFailing),
        "stillFailing": comparison.with(Verdict::StillFailing),
        "fixed": comparison.with(Verdict::Fixed),
    })
}
