//! `toolgate approvals`: calls that wait for a person, decided by the owner of this machine.

use clap::Subcommand;
use serde_json::Value;

use super::ask::Need;
use super::{Common, Ended, ask, print};
use crate::domain::approval::{ApprovalState, Decision};
use crate::gateway::ApprovalsCommand;
use crate::gateway::control;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List approvals, newest first
    List {
        /// Only those in this state: pending, approved, denied, expired, executing, used or unknown
        #[arg(long, value_parser = state)]
        state: Option<ApprovalState>,
        /// Most of them
        #[arg(long, default_value_t = 50, value_name = "COUNT")]
        limit: usize,
        /// Those after this one, as the answer to the page before says
        #[arg(long, value_name = "ID")]
        cursor: Option<String>,
    },
    /// Show one approval with the arguments of its call, and what to do next
    Show { id: String },
    /// Let exactly this call be made, once, before the approval expires
    Approve {
        id: String,
        /// Why; kept with the decision
        #[arg(long, value_name = "TEXT")]
        comment: Option<String>,
    },
    /// Refuse this call
    Deny {
        id: String,
        /// Why; the caller is told
        #[arg(long, value_name = "TEXT")]
        comment: Option<String>,
    },
}

fn state(text: &str) -> Result<ApprovalState, String> {
    ApprovalState::parse(text).ok_or_else(|| {
        let known = ApprovalState::ALL.map(ApprovalState::as_str).join(", ");
        format!("known are {known}")
    })
}

pub(super) async fn run(common: &Common, command: Command) -> anyhow::Result<Ended> {
    let command = match command {
        Command::List { state, limit, cursor } => ApprovalsCommand::List { state, limit, cursor },
        Command::Show { id } => ApprovalsCommand::Show { id },
        Command::Approve { id, comment } => ApprovalsCommand::Decide { id, decision: Decision::Approve, comment },
        Command::Deny { id, comment } => ApprovalsCommand::Decide { id, decision: Decision::Deny, comment },
    };
    let answer = ask::ask(common, Need::Records, control::Command::Approvals(command.clone())).await?;
    match command {
        _ if common.json => print::json(&answer),
        ApprovalsCommand::List { .. } => table(&answer),
        ApprovalsCommand::Show { .. } => show(&answer),
        ApprovalsCommand::Decide { .. } => {
            let text = |name| print::text(&answer, name);
            print::line(&print::clean(&format!("{} {}: {}", text("state"), text("id"), text("next"))));
        }
    }
    Ok(Ended::Well)
}

fn table(answer: &Value) {
    let columns = ["id", "state", "tool", "agent", "user", "policy", "expires_at"];
    let approvals = print::list(answer, "approvals");
    print::table(
        &columns,
        approvals.iter().map(|approval| columns.iter().map(|column| print::text(approval, column)).collect()),
    );
    let next = print::text(answer, "next_cursor");
    if !next.is_empty() {
        print::note(&format!("there are more: --cursor {next}"));
    }
}

fn show(approval: &Value) {
    let rows = approval.as_object().into_iter().flatten();
    let rows = rows.filter(|(name, value)| !value.is_null() && *name != "exact");
    // Numbers as they are written.
    let exact = |name: &str| approval.get("exact")?.get(name)?.as_str().map(str::to_owned);
    let text = |name: &str, value: &Value| match value {
        Value::Object(_) => exact(name).unwrap_or_else(|| value.to_string()),
        _ => print::text(approval, name),
    };
    print::table(&["", ""], rows.map(|(name, value)| vec![name.clone(), text(name, value)]));
}
