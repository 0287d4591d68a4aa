//! `toolgate servers`.

use std::path::PathBuf;

use clap::Subcommand;
use serde_json::Value;

use super::ask::Need;
use super::{Common, Ended, ask, import, login, print};
use crate::gateway::control;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List the backend servers and how they are
    List,
    /// Start and list each server anew, or one of them
    Test { name: Option<String> },
    /// Log in at a server that asks for OAuth: prints a page to open, and waits until you are sent back
    Login {
        name: String,
        /// The port on this machine to be sent back to, where the authorization server wants to know it beforehand
        #[arg(long, default_value_t = 0)]
        port: u16,
    },
    /// Forget the credentials at a server
    Logout { name: String },
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
        Command::Login { name, port } => login::run(common, &name, port).await,
        Command::Logout { name } => {
            let answer =
                ask::ask(common, Need::Backends, control::Command::ServersLogout { name: name.clone() }).await?;
            let was = answer.get("logged_out") == Some(&Value::Bool(true));
            print::answer(common, &answer, if was { "forgotten" } else { "there was nothing to forget" });
            Ok(Ended::Well)
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
