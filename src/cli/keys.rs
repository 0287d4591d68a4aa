//! `toolgate keys`.

use clap::Subcommand;

use super::ask::Need;
use super::{Common, Ended, ask, print};
use crate::config::reader::parse_duration;
use crate::gateway::control;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Make a key; it is shown this once
    Create {
        /// What the key is for
        #[arg(long)]
        name: String,
        /// What it may see and call: a profile of profiles.toml
        #[arg(long)]
        profile: String,
        /// Who owns it
        #[arg(long, default_value = "admin")]
        user: String,
        /// Roles that policies know, with commas between
        #[arg(long, value_delimiter = ',')]
        roles: Vec<String>,
        /// The agent that carries it, as policies see it
        #[arg(long)]
        agent: Option<String>,
        /// The plan that limits it
        #[arg(long)]
        plan: Option<String>,
        /// When it ends, such as 30d
        #[arg(long, value_parser = milliseconds)]
        expires: Option<u64>,
    },
    /// List keys; secrets are never shown again
    List,
    /// Revoke a key; its very next request is refused
    Revoke { id: String },
}

fn milliseconds(text: &str) -> Result<u64, String> {
    let duration = parse_duration(text).ok_or("write a duration such as 30d, 12h or 90min")?;
    u64::try_from(duration.as_millis()).map_err(|_| "that is too long".into())
}

pub(super) async fn run(common: &Common, command: Command) -> anyhow::Result<Ended> {
    match command {
        Command::Create { name, profile, user, roles, agent, plan, expires } => {
            let command = control::Command::KeysCreate { name, profile, user, roles, agent, plan, expires_ms: expires };
            let key = ask::ask(common, Need::Configuration, command).await?;
            if common.json {
                print::json(&key);
            } else {
                print::note(&format!(
                    "{} with the profile {}; keep the key, it is not shown again:",
                    print::text(&key, "id"),
                    print::text(&key, "profile")
                ));
                print::line(&print::text(&key, "key"));
            }
        }
        Command::List => {
            let answer = ask::ask(common, Need::Records, control::Command::KeysList).await?;
            if common.json {
                print::json(&answer);
            } else {
                let columns = ["id", "name", "user", "profile", "roles", "state", "hint", "expires_at", "last_used_at"];
                let keys = print::list(&answer, "keys");
                print::table(
                    &columns,
                    keys.iter().map(|key| columns.iter().map(|column| print::text(key, column)).collect()),
                );
            }
        }
        Command::Revoke { id } => {
            let answer = ask::ask(common, Need::Records, control::Command::KeysRevoke { id }).await?;
            if common.json {
                print::json(&answer);
            } else {
                print::line(&format!("revoked {}", print::text(&answer, "revoked")));
            }
        }
    }
    Ok(Ended::Well)
}
