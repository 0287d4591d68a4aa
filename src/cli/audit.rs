//! `toolgate audit`.

use clap::{Subcommand, ValueEnum};
use serde_json::{Value, json};

use super::ask::{Desk, Need};
use super::{Common, Ended, ask, print};
use crate::gateway::control;

/// Records of an export that are asked for at a time.
const PAGE: usize = 1000;
/// Entries that are verified at a time.
const STRIDE: usize = 20_000;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Show the latest records
    Tail {
        #[arg(short = 'n', long, default_value_t = 20)]
        count: usize,
    },
    /// Show one record whole
    Show { id: String },
    /// Write every record to stdout
    Export {
        #[arg(long, value_enum, default_value_t = Format::Jsonl)]
        format: Format,
    },
    /// Check the whole chain; exits 0 only if it holds
    Verify,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    Jsonl,
    Csv,
}

pub(super) async fn run(common: &Common, command: Command) -> anyhow::Result<Ended> {
    match command {
        Command::Tail { count } => {
            let answer = ask::ask(common, Need::Records, control::Command::AuditTail { count }).await?;
            if common.json {
                print::json(&answer);
            } else {
                let columns = [
                    "time",
                    "id",
                    "entrance",
                    "agent",
                    "server",
                    "kind",
                    "tool",
                    "decision",
                    "outcome",
                    "policies",
                    "latency_ms",
                ];
                let records = print::list(&answer, "records");
                print::table(
                    &columns,
                    records.iter().map(|record| columns.iter().map(|column| cell(record, column)).collect()),
                );
            }
            Ok(Ended::Well)
        }
        Command::Show { id } => {
            print::json(&ask::ask(common, Need::Records, control::Command::AuditShow { id }).await?);
            Ok(Ended::Well)
        }
        Command::Export { format } => with_desk(common, async |desk| export(desk, format).await).await,
        Command::Verify => with_desk(common, async |desk| verify(common, desk).await).await,
    }
}

/// A cell of the table. A record from before there were kinds is of a tool.
fn cell(record: &Value, column: &str) -> String {
    let text = print::text(record, column);
    let is_tool = column == "kind" && text.is_empty() && !print::text(record, "tool").is_empty();
    if is_tool { "tool".into() } else { text }
}

async fn with_desk(common: &Common, work: impl AsyncFnOnce(&Desk) -> anyhow::Result<Ended>) -> anyhow::Result<Ended> {
    let desk = Desk::open(common, Need::Records).await?;
    let ended = work(&desk).await;
    desk.close().await;
    ended
}

async fn export(desk: &Desk, format: Format) -> anyhow::Result<Ended> {
    let mut after = 0;
    loop {
        let command = control::Command::AuditExport { after, limit: PAGE, csv: format == Format::Csv };
        let page = desk.ask(command).await?;
        if let Some(header) = page.get("header").and_then(Value::as_str).filter(|_| after == 0) {
            print::line(header);
        }
        for text in print::list(&page, "lines") {
            print::line(text.as_str().unwrap_or_default());
        }
        match page.get("next").and_then(Value::as_i64) {
            Some(next) => after = next,
            None => return Ok(Ended::Well),
        }
    }
}

async fn verify(common: &Common, desk: &Desk) -> anyhow::Result<Ended> {
    let (mut seq, mut head, mut checked) = (0, None, 0);
    loop {
        let answer = desk.ask(control::Command::AuditVerify { seq, head, limit: STRIDE }).await?;
        let step = answer.get("step").cloned().unwrap_or_default();
        checked += step.get("checked").and_then(Value::as_i64).unwrap_or(0);
        if let Some(fault) = step.get("fault").filter(|fault| !fault.is_null()) {
            return Ok(broken(common, checked, fault));
        }
        let tip = print::text(&step, "head");
        if step.get("done") == Some(&Value::Bool(true)) {
            let damage = answer.get("damage").and_then(Value::as_str);
            if common.json {
                print::json(&json!({"holds": true, "entries": checked, "head": tip, "damage": damage}));
            } else {
                print::line(&format!("the chain holds: {checked} entries, head {tip}"));
                if let Some(damage) = damage {
                    print::line(&format!("the file is damaged: {}", print::clean(damage)));
                }
            }
            return Ok(if damage.is_none() { Ended::Well } else { Ended::Wrong });
        }
        print::note(&format!("{checked} of {} entries checked", print::text(&answer, "entries")));
        seq = step.get("seq").and_then(Value::as_i64).unwrap_or(0);
        head = Some(tip);
    }
}

fn broken(common: &Common, checked: i64, fault: &Value) -> Ended {
    if common.json {
        print::json(&json!({"holds": false, "entries": checked, "fault": fault}));
    } else {
        print::line(&format!(
            "the chain is broken at entry {}: {}",
            print::text(fault, "seq"),
            print::text(fault, "what")
        ));
    }
    Ended::Wrong
}
