//! What a server asks of its callers besides the gateway's key.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::{Value, json};

use super::Preflight;
use crate::backend::AccountStanding;
use crate::config::providers::ProviderSettings;
use crate::domain::id::ServerName;

/// Whether a caller's token for a server is good, and what roles it gives.
#[derive(Clone)]
pub(super) enum Vouched {
    NotAsked,
    Missing,
    Refused(String),
    With(BTreeSet<Arc<str>>),
}

impl Preflight<'_> {
    /// Checks the token that came with the question, once for each server.
    pub(super) async fn vouched(&mut self, server: &ServerName) -> Vouched {
        if let Some(known) = self.vouched.get(server) {
            return known.clone();
        }
        let settings = self.state.settings.servers.get(server).and_then(|server| server.jwt.as_ref());
        let vouched = match (settings, self.call.jwt()) {
            (None, _) => Vouched::NotAsked,
            (Some(_), None) => Vouched::Missing,
            (Some(settings), Some(token)) => match self.pipeline.tokens.checker(settings).check(token).await {
                Ok(claims) => Vouched::With(claims.roles()),
                Err(fault) => Vouched::Refused(fault.to_string()),
            },
        };
        self.vouched.insert(server.clone(), vouched.clone());
        vouched
    }

    /// What the server asks for besides the gateway's key, and whether it is there.
    pub(super) async fn credentials(&mut self, server: &ServerName, vouched: &Vouched) -> Value {
        let mut needed = Vec::new();
        match vouched {
            Vouched::NotAsked => {}
            Vouched::Missing => needed.push(json!({
                "kind": "jwt", "present": false,
                "fault": "the server needs a JWT of the caller: bring it with the preflight as with the call",
            })),
            Vouched::Refused(fault) => needed.push(json!({"kind": "jwt", "present": false, "fault": fault})),
            Vouched::With(_) => needed.push(json!({"kind": "jwt", "present": true, "fault": null})),
        }
        if let Some(present) = self.pipeline.backends.has_credentials(server) {
            let fault = (!present).then(|| format!("no token yet: `toolgate servers login {server}`"));
            needed.push(json!({"kind": "oauth", "present": present, "fault": fault}));
        }
        needed.extend(self.account(server).await);
        let present = needed.iter().all(|one| one.get("present") == Some(&Value::Bool(true)));
        json!({"present": present, "needed": needed})
    }

    /// How the account stands of whoever is judged, once for each server. The provider is not asked.
    async fn account(&mut self, server: &ServerName) -> Option<Value> {
        if let Some(known) = self.accounts.get(server) {
            return known.clone();
        }
        let provider = self.state.settings.servers.get(server).and_then(|server| server.provider.clone());
        let account = match provider {
            Some(provider) => Some(self.standing(&provider).await),
            None => None,
        };
        self.accounts.insert(server.clone(), account.clone());
        account
    }

    async fn standing(&self, provider: &Arc<ProviderSettings>) -> Value {
        let (user, title, slug) = (&self.who.user, &provider.title, &provider.slug);
        let base = self.state.settings.gateway.public_url.as_deref().unwrap_or_default();
        let connect = format!("{base}/v1/providers/{slug}/connect");
        let standing = self.pipeline.backends.account(user, provider).await.map(|view| view.standing);
        let fault = match standing {
            Ok(AccountStanding::Connected) => None,
            Ok(AccountStanding::Expired) => {
                Some(format!("the account of `{user}` with {title} has expired: connect it anew with `POST {connect}`"))
            }
            Ok(AccountStanding::Disconnected) => {
                Some(format!("`{user}` has connected no account with {title}: connect one with `POST {connect}`"))
            }
            Err(_) => Some(format!("the account of `{user}` with {title} cannot be read now: try again")),
        };
        json!({
            "kind": "account",
            "provider": slug,
            "state": standing.as_ref().map_or("unknown", |standing| standing.as_str()),
            "present": fault.is_none(),
            "fault": fault,
        })
    }
}
