//! `toolgate eval`.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use clap::Subcommand;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;

use super::ask::{Desk, Need};
use super::{Common, Ended, ask, print};
use crate::domain::id::RequestId;
use crate::gateway::EvalsCommand;
use crate::gateway::control;

/// How often a run is asked how far it has come.
const TICK: Duration = Duration::from_millis(100);

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List the suites of test cases and their latest scores
    List,
    /// List the runs of a suite, the latest first
    Runs {
        /// The suite's id or name
        suite: String,
        #[arg(short = 'n', long, default_value_t = 20)]
        count: usize,
    },
    /// Run a suite. Exits 0 good, 2 a regression or failed cases, 1 anything wrong
    Run {
        /// The suite's id or name
        suite: String,
        /// dev, staging or prod: which servers stand in for those that the cases name
        #[arg(long, value_name = "ENVIRONMENT")]
        env: Option<String>,
        /// published, previous or production: cases that failed then may fail now
        #[arg(long)]
        baseline: Option<String>,
        /// Write the results as JUnit XML
        #[arg(long, value_name = "FILE")]
        junit: Option<PathBuf>,
        /// Run it though this key made it over REST: its calls are made as yours
        #[arg(long, value_name = "KEY")]
        author: Option<String>,
    },
    /// Make a run what later ones are compared with
    Publish {
        /// The run's id
        run: String,
    },
    /// Remove a suite that was made over REST, with its runs, or the runs of one whose file is gone
    Remove {
        /// The suite's id or name
        suite: String,
    },
}

pub(super) async fn run(common: &Common, command: Command) -> anyhow::Result<Ended> {
    let ask = async |need, command| ask::ask(common, need, control::Command::Evals(command)).await;
    match command {
        Command::List => {
            let answer = ask(Need::Configuration, EvalsCommand::List).await?;
            list(common, &answer);
            Ok(Ended::Well)
        }
        Command::Runs { suite, count } => {
            let answer = ask(Need::Configuration, EvalsCommand::Runs { suite, limit: count }).await?;
            runs(common, &answer);
            Ok(Ended::Well)
        }
        Command::Publish { run } => {
            let answer = ask(Need::Configuration, EvalsCommand::Publish { run: run.clone() }).await?;
            print::answer(common, &answer, &format!("{run} is what later runs are compared with"));
            Ok(Ended::Well)
        }
        Command::Remove { suite } => {
            let answer = ask(Need::Configuration, EvalsCommand::Remove { suite: suite.clone() }).await?;
            print::answer(common, &answer, &format!("the suite {suite} and its runs are gone"));
            Ok(Ended::Well)
        }
        Command::Run { suite, env, baseline, junit, author } => {
            let ticket = RequestId::fresh().to_string();
            let has_baseline = baseline.is_some();
            let (junits, ticketed) = (junit.is_some(), ticket.clone());
            let command =
                EvalsCommand::Run { suite, environment: env, baseline, junit: junits, ticket: ticketed, author };
            let desk = Desk::open(common, Need::Backends).await?;
            let answer = followed(common, &desk, command, &ticket).await;
            desk.close().await;
            let mut answer = answer?;
            let xml = answer.as_object_mut().and_then(|members| members.remove("junit"));
            if let (Some(file), Some(Value::String(xml))) = (&junit, xml) {
                write(file, &xml)?;
            }
            report(common, &answer, has_baseline);
            Ok(if is_good(&answer) { Ended::Well } else { Ended::Worse })
        }
    }
}

fn write(file: &Path, text: &str) -> anyhow::Result<()> {
    std::fs::write(file, text).with_context(|| format!("`{}` cannot be written", file.display()))
}

/// Waits for a run, with a bar on a terminal that shows how far it has come.
async fn followed(common: &Common, desk: &Desk, command: EvalsCommand, ticket: &str) -> anyhow::Result<Value> {
    let running = desk.ask(control::Command::Evals(command));
    if common.json || !std::io::stderr().is_terminal() {
        return running.await;
    }
    let bar = ProgressBar::new(0);
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len} {msg}") {
        bar.set_style(style);
    }
    tokio::pin!(running);
    let answer = loop {
        tokio::select! {
            answer = &mut running => break answer,
            () = tokio::time::sleep(TICK) => {
                let asked = control::Command::Evals(EvalsCommand::Progress { ticket: ticket.to_owned() });
                // A tick without news is none.
                let progress = desk.ask(asked).await.unwrap_or_default();
                let number = |name: &str| progress.get(name).and_then(Value::as_u64);
                if let (Some(done), Some(total)) = (number("progress"), number("total")) {
                    bar.set_length(total);
                    bar.set_position(done);
                    bar.set_message("cases");
                }
            }
        }
    };
    bar.finish_and_clear();
    answer
}

/// Whether nothing has failed; where there is a baseline, nothing that had not failed then.
fn is_good(answer: &Value) -> bool {
    match answer.get("comparison").filter(|comparison| !comparison.is_null()) {
        Some(comparison) => {
            comparison.get("regressionDetected") == Some(&Value::Bool(false))
                && print::list(comparison, "newFailing").is_empty()
        }
        None => answer.pointer("/run/failed").and_then(Value::as_u64) == Some(0),
    }
}

fn report(common: &Common, answer: &Value, has_baseline: bool) {
    if common.json {
        print::json(answer);
        return;
    }
    let run = answer.get("run").cloned().unwrap_or_default();
    let text = |name: &str| print::text(&run, name);
    let all = print::list(&run, "cases");
    let line = format!(
        "{} ({}): score {}, {} of {} cases passed in {} ms, {}",
        text("name"),
        text("evaluationId"),
        text("score"),
        text("passed"),
        all.len(),
        text("durationMs"),
        text("id")
    );
    print::line(&print::clean(&line));
    for case in all.iter().filter(|case| case.get("passed") == Some(&Value::Bool(false))) {
        print::line(&print::clean(&format!("  failed: {} ({})", print::text(case, "name"), print::text(case, "tool"))));
        for reason in print::list(case, "reasons") {
            let reason = reason.as_str().unwrap_or_default().replace('\n', " ");
            print::line(&print::clean(&format!("    {reason}")));
        }
    }
    match answer.get("comparison").filter(|comparison| !comparison.is_null()) {
        Some(comparison) => difference(comparison),
        None if has_baseline => print::line("there is no such run to compare with yet"),
        None => {}
    }
}

/// What has changed since the baseline.
fn difference(comparison: &Value) {
    let of = |name: &str| print::text(comparison, name);
    print::line(&format!("against {}, score {}:", of("baselineRunId"), of("baselineScore")));
    for (name, what) in [
        ("newlyFailing", "newly failing"),
        ("newFailing", "failing, and new"),
        ("fixed", "fixed"),
        ("stillFailing", "failing as before"),
    ] {
        for case in print::list(comparison, name) {
            print::line(&print::clean(&format!("  {what}: {}", case.as_str().unwrap_or_default())));
        }
    }
    let regression = comparison.get("regressionDetected") == Some(&Value::Bool(true));
    print::line(match (regression, print::list(comparison, "newFailing").is_empty()) {
        (true, _) => "this is a regression",
        (false, false) => "no regression, but a new case fails",
        (false, true) => "no regression",
    });
}

fn list(common: &Common, answer: &Value) {
    if common.json {
        print::json(answer);
        return;
    }
    let row = |suite: &Value| {
        let latest = |name: &str| suite.get("latest").map(|latest| print::text(latest, name)).unwrap_or_default();
        vec![
            print::text(suite, "id"),
            print::text(suite, "name"),
            print::text(suite, "testCases"),
            print::text(suite, "source"),
            print::text(suite, "environments"),
            latest("score"),
            latest("startedAt"),
        ]
    };
    let header = ["id", "name", "cases", "source", "environments", "score", "last run"];
    print::table(&header, print::list(answer, "evaluations").iter().map(row));
}

fn runs(common: &Common, answer: &Value) {
    if common.json {
        print::json(answer);
        return;
    }
    let columns = ["id", "startedAt", "environment", "score", "passed", "failed", "publishedAt"];
    let header = ["run", "started", "environment", "score", "passed", "failed", "published"];
    let row = |run: &Value| columns.iter().map(|column| print::text(run, column)).collect();
    print::table(&header, print::list(answer, "runs").iter().map(row));
}
