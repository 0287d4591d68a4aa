//! What the command line asks about backend servers: tests, and logins at those that ask for OAuth.

use std::time::Duration;

use serde_json::{Value, json};

use super::Gateway;
use super::control::{Actor, Failed};
use crate::backend::ServerStatus;

/// How long a test of servers waits for them.
const TEST_PATIENCE: Duration = Duration::from_secs(20);

impl Gateway {
    pub(super) async fn test_servers(&self, name: Option<&str>) -> Result<Value, Failed> {
        let backends = &self.pipeline.backends;
        let named = |status: &ServerStatus| name.is_none_or(|name| status.name.as_str() == name);
        let wanted: Vec<ServerStatus> = backends.status().into_iter().filter(named).collect();
        if let Some(name) = name.filter(|_| wanted.is_empty()) {
            return Err(Failed(format!("there is no server `{name}`: see `toolgate servers list`")));
        }
        let names: Vec<_> = wanted.into_iter().map(|status| status.name).collect();
        backends.relist(&names, TEST_PATIENCE).await;
        let tested: Vec<ServerStatus> = backends.status().into_iter().filter(named).collect();
        Ok(json!({"servers": tested}))
    }

    /// The page to which a person goes to log in at a server.
    pub(super) async fn begin_login(&self, name: &str, redirect: &str) -> Result<Value, Failed> {
        let page = self.pipeline.backends.begin_login(name, redirect).await.map_err(Failed)?;
        Ok(json!({"page": page}))
    }

    /// Ends a login; the server is connected with what it gave.
    pub(super) async fn finish_login(&self, name: &str, callback: &str) -> Result<Value, Failed> {
        let finishing = self.pipeline.backends.finish_login(name, callback);
        let finished = self.act(&Actor::owner(), "servers.login", &[format!("server {name}")], finishing).await?;
        finished.map_err(Failed)?;
        Ok(json!({"server": name, "logged_in": true}))
    }

    pub(super) async fn logout(&self, name: &str) -> Result<Value, Failed> {
        let forgetting = self.pipeline.backends.logout(name);
        let forgotten = self.act(&Actor::owner(), "servers.logout", &[format!("server {name}")], forgetting).await?;
        Ok(json!({"server": name, "logged_out": forgotten.map_err(Failed)?}))
    }
}
