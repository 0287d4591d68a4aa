//! The two runs that ship with the suite for the demo servers, so that a first look at quality shows some.

use super::Library;
use crate::domain::clock::Moment;
use crate::domain::outcome::Refusal;
use crate::evals::Run;
use crate::pipeline::State;
use crate::store::Part;

/// They were recorded on the demo servers, the first one before `block-sql-drop` was there.
const RECORDED: &str = include_str!("recorded.json");

impl Library {
    /// Puts the recorded runs into a store that has none of their suite: the first is published.
    ///
    /// # Errors
    /// Where the store can be neither read nor written.
    pub async fn seed(&self, state: &State, now: Moment) -> Result<(), Refusal> {
        let runs: Vec<Run> = serde_json::from_str(RECORDED).map_err(|error| {
            tracing::error!(%error, "the recorded runs cannot be read");
            Refusal::Internal
        })?;
        for (at, run) in runs.iter().enumerate() {
            let suite = state.settings.evals.get(&run.evaluation_id);
            if suite.is_none() || at == 0 && self.latest(run.evaluation_id, Part::Head).await?.is_some() {
                return Ok(());
            }
            self.put_run(run, now, (at == 0).then_some(now), false).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evals::{compare, score};

    #[test]
    fn the_recorded_runs_are_of_the_suite_that_ships() {
        let (file, text) = crate::config::evals::SHIPPED;
        let suite = crate::config::evals::read(file, text).unwrap();
        let runs: Vec<Run> = serde_json::from_str(RECORDED).unwrap();
        assert_eq!(runs.iter().map(|run| run.score).collect::<Vec<_>>(), [82.0, 85.0]);
        for run in &runs {
            assert_eq!(
                (run.evaluation_id, run.score, &*run.suite_digest),
                (suite.id, score(&run.cases), &*suite.digest)
            );
            let names = |run: &Run| run.cases.iter().map(|case| (case.name.clone(), case.weight)).collect::<Vec<_>>();
            assert_eq!(names(run), suite.cases.iter().map(|case| (case.name.clone(), case.weight)).collect::<Vec<_>>());
        }
        assert!(!compare(&runs[1], &runs[0], suite.tolerance).regression);
    }
}
