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

/// What a check of the whole log has found.
pub(super) struct Verified {
    /// Entries that were checked.
    pub(super) entries: i64,
    /// The hash of the last one.
    head: String,
    /// Where the chain is broken.
    pub(super) fault: Option<Value>,
    /// What is wrong with the file, though the chain holds.
    pub(super) damage: Option<String>,
}

/// Checks the whole log step by step; `told` hears after each how many entries were checked, and of how many.
pub(super) async fn verified(desk: &Desk, told: impl Fn(i64, &str)) -> anyhow::Result<Verified> {
    let (mut seq, mut head, mut entries) = (0, None, 0);
    loop {
        let answer = desk.ask(control::Command::AuditVerify { seq, head, limit: STRIDE }).await?;
        let step = answer.get("step").cloned().unwrap_or_default();
        entries += step.get("checked").and_then(Value::as_i64).unwrap_or(0);
        let tip = print::text(&step, "head");
        let fault = step.get("fault").filter(|fault| !fault.is_null()).cloned();
        if fault.is_some() || step.get("done") == Some(&Value::Bool(true)) {
            let damage = answer.get("damage").and_then(Value::as_str).map(str::to_owned);
            return Ok(Verified { entries, head: tip, fault, damage });
        }
        told(entries, &print::text(&answer, "entries"));
        seq = step.get("seq").and_then(Value::as_i64).unwrap_or(0);
        head = Some(tip);
    }
}

async fn verify(common: &Common, desk: &Desk) -> anyhow::Result<Ended> {
    let told = |checked, all: &str| print::note(&format!("{checked} of {all} entries checked"));
    let Verified { entries, head, fault, damage } = verified(desk, told).await?;
    match &fault {
        Some(fault) if common.json => print::json(&json!({"holds": false, "entries": entries, "fault": fault})),
        Some(fault) => {
            let [seq, what] = ["seq", "what"].map(|name| print::text(fault, name));
            print::line(&format!("the chain is broken at entry {seq}: {what}"));
        }
        None if common.json => {
            print::json(&json!({"holds": true, "entries": entries, "head": head, "damage": damage}));
        }
        None => {
            print::line(&format!("the chain holds: {entries} entries, head {head}"));
            if let Some(damage) = &damage {
                print::line(&format!("the file is damaged: {}", print::clean(damage)));
            }
        }
    }
    Ok(if fault.is_none() && damage.is_none() { Ended::Well } else { Ended::Wrong })
}
