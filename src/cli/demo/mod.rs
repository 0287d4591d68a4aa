//! `toolgate demo-server NAME`: real MCP servers on made-up data, for a first start without configuration.
//!
//! Each is a process of its own that speaks MCP on stdin and stdout and shares nothing with the gateway. `database` uses
//! SQLite directly for that reason: the rule that only `store` does is about the gateway.

mod database;
mod github;

#[cfg(test)]
mod tests;

use anyhow::{Context, bail};
use rmcp::service::ServerInitializeError;
use rmcp::transport::stdio;
use rmcp::{ServerHandler, ServiceExt};

/// The names of the demo servers.
pub const NAMES: [&str; 2] = ["github", "database"];

/// Serves the demo server `name` on stdin and stdout until stdin closes; `github` has two releases.
///
/// # Errors
/// Where there is no server or release of that name, or stdin or stdout fail.
pub async fn run(name: &str, release: u8) -> anyhow::Result<()> {
    match name {
        "github" => {
            let release = match release {
                1 => github::Release::First,
                2 => github::Release::Second,
                other => bail!("no release {other} of the demo server `github`: there are 1 and 2"),
            };
            serve(github::Github::new(release)).await
        }
        "database" => serve(database::Database::open().context("cannot make the demo database")?).await,
        other => bail!("no demo server `{other}`: there are `github` and `database`"),
    }
}

async fn serve<S: ServerHandler>(server: S) -> anyhow::Result<()> {
    match server.serve(stdio()).await {
        Ok(running) => {
            running.waiting().await.context("the demo server broke off")?;
            Ok(())
        }
        // Closed before anybody said hello.
        Err(ServerInitializeError::ConnectionClosed(_)) => Ok(()),
        Err(error) => Err(error).context("cannot start the demo server"),
    }
}
