//! `toolgate servers`.

use std::path::PathBuf;

use clap::Subcommand;
use serde_json::Value;

use super::ask::Need;
use super::{Common, Ended, ask, import, print};
use crate::gateway::control;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List the backend servers and how they are
    List,
    /// Start and list each server anew, or one of them
    Test { name: Option<String> },
    /// Add the servers of claude_desktop_config.json, .mcp.json, or the mcp.json of Cursor or VS Code
    Import {
        file: PathBuf,
        /// Show what would be added and write nothing
        #[arg(long)]
        dry_run: bool,
    },
}

pub(super) async fn run(common: &Common, command: Command) -> anyhow::Result<Ended> {
    match command {
        Command::List => {
            let answer = ask::ask(common, Need::Backends, control::Command::ServersList).await?;
            show(common, &answer);
            Ok(Ended::Well)
        }
        Command::Test { name } => {
            let answer = ask::ask(common, Need::Backends, control::Command::ServersTest { name }).await?;
            show(common, &answer);
            let well = print::list(&answer, "servers").iter().all(|server| print::text(server, "state") == "ready");
            Ok(if well { Ended::Well } else { Ended::Wrong })
        }
        Command::Import { file, dry_run } => import::run(common, &file, dry_run),
    }
}

fn show(common: &Common, answer: &Value) {
    if common.json {
        print::json(answer);
        return;
    }
    let columns = ["name", "transport", "state", "era", "tools", "breaker", "last_error"];
    let servers = print::list(answer, "servers");
    let cell = |server: &Value, column: &str| match column {
        "breaker" => server.get("breaker").map(|breaker| print::text(breaker, "state")).unwrap_or_default(),
        other => print::text(server, other),
    };
    let row = |server: &Value| columns.iter().map(|column| cell(server, column)).collect();
    print::table(&columns, servers.iter().map(row));
}
