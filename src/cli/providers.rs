//! `toolgate providers`.

use clap::Subcommand;
use serde_json::Value;

use super::ask::Need;
use super::{Common, Ended, ask, print};
use crate::gateway::{ProvidersCommand, control};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List the providers with which users connect accounts
    List,
    /// Make a new secret for what is kept of accounts, logins and calls that wait, and seal all of it anew
    Rotate,
}

pub(super) async fn run(common: &Common, command: Command) -> anyhow::Result<Ended> {
    let wanted = match command {
        Command::List => ProvidersCommand::List,
        Command::Rotate => ProvidersCommand::Rotate,
    };
    let answer = ask::ask(common, Need::Configuration, control::Command::Providers(wanted)).await?;
    match command {
        _ if common.json => print::json(&answer),
        Command::List => {
            let columns = ["slug", "title", "at", "client_id", "scopes", "servers"];
            let row = |provider: &Value| columns.map(|column| print::text(provider, column)).to_vec();
            print::table(&columns, print::list(&answer, "providers").iter().map(row));
        }
        Command::Rotate => print::line(&format!("{} sealed anew", print::text(&answer, "resealed"))),
    }
    // What no key opens is lost already; somebody should know.
    let lost = answer.get("lost").and_then(Value::as_u64).unwrap_or(0);
    if lost > 0 {
        print::line(&format!("{lost} cannot be opened with any secret that is there"));
        return Ok(Ended::Wrong);
    }
    Ok(Ended::Well)
}
