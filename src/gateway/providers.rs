//! Accounts that users connect with providers: begun, ended, renewed and forgotten, each with its record.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Gateway;
use super::control::{Actor, Failed, close_act};
use crate::backend::{AccountError, AccountStanding, AccountView, Claimed, Returned, account_id};
use crate::config::providers::{Endpoints, ProviderSettings};
use crate::domain::clock::Moment;
use crate::domain::id::RequestId;
use crate::domain::principal::Principal;

/// Seconds in which a connection that was begun has to be finished.
const PATIENCE: u64 = 600;

/// What the machine's owner asks about providers.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProvidersCommand {
    List,
    /// Puts a new secret in place of the one that seals what is kept of accounts and logins.
    Rotate,
}

/// Why nothing came of a request about a provider.
#[derive(Debug, thiserror::Error)]
pub enum ProviderRefused {
    #[error("there is no provider `{0}`: see `GET /v1/providers`")]
    Unknown(String),
    #[error("no account with {0} is connected")]
    NotConnected(Arc<str>),
    /// The user has to connect anew.
    #[error("{title} does not renew the account: {why}; connect it anew")]
    LoginNeeded { title: Arc<str>, why: String },
    #[error("{0} cannot be asked now; try again, or tell the operator: the log says more")]
    Unreachable(Arc<str>),
    #[error(transparent)]
    Busy(AccountError),
    /// It could not be recorded or stored.
    #[error(transparent)]
    Failed(#[from] Failed),
}

/// What a person reads who comes back from a provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Landing {
    Connected { title: Arc<str>, user: Arc<str> },
    Refused { title: Option<Arc<str>>, why: String },
}

impl ProviderRefused {
    fn of(error: AccountError, provider: &ProviderSettings) -> Self {
        let title = Arc::clone(&provider.title);
        match error {
            AccountError::NotConnected => Self::NotConnected(title),
            AccountError::LoginNeeded(why) => Self::LoginNeeded { title, why },
            AccountError::TooMany | AccountError::Beginning => Self::Busy(error),
            AccountError::Failed(why) => {
                tracing::warn!(provider = &*provider.slug, why, "a provider cannot be asked");
                Self::Unreachable(title)
            }
        }
    }
}

impl Gateway {
    /// Every provider, and how this principal's account with it stands.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub async fn providers(&self, principal: &Principal) -> Result<Vec<Value>, ProviderRefused> {
        let state = self.state();
        let mut found = Vec::with_capacity(state.settings.providers.len());
        for provider in state.settings.providers.values() {
            found.push(self.provider_view(principal, provider).await?);
        }
        Ok(found)
    }

    async fn provider_view(
        &self,
        principal: &Principal,
        provider: &Arc<ProviderSettings>,
    ) -> Result<Value, ProviderRefused> {
        let view = self.pipeline.backends.account(&principal.user, provider).await;
        let view: AccountView = view.map_err(|error| Failed::of(&error))?;
        let state = self.state();
        let servers = state.settings.servers.iter().filter(|(name, server)| {
            server.provider.as_ref().is_some_and(|used| used.slug == provider.slug) && principal.profile.reaches(name)
        });
        let time = |moment: Option<Moment>| moment.map(Moment::rfc3339);
        Ok(json!({
            "id": view.id,
            "slug": provider.slug,
            "title": provider.title,
            "state": view.standing.as_str(),
            "connected": view.standing == AccountStanding::Connected,
            "scopes": view.scopes,
            "renews": view.renews,
            "connected_at": time(view.connected),
            "refreshed_at": time(view.refreshed),
            "expires_at": time(view.expires),
            "servers": servers.map(|(name, _)| name).collect::<Vec<_>>(),
        }))
    }

    /// The provider of this name, or the one whose account of this user has this id.
    fn provider(&self, user: &str, name: &str) -> Result<Arc<ProviderSettings>, ProviderRefused> {
        let state = self.state();
        let providers = &state.settings.providers;
        let by_id = || providers.values().find(|provider| account_id(user, &provider.slug) == name);
        let unknown = || ProviderRefused::Unknown(name.chars().filter(|c| !c.is_control()).take(80).collect());
        providers.get(name).or_else(by_id).cloned().ok_or_else(unknown)
    }

    /// Begins a connection: says where the user goes. The provider sends the user back to this gateway at `base`.
    ///
    /// # Errors
    /// Where there is no such provider, or it cannot be asked or recorded.
    pub async fn connect_provider(
        &self,
        actor: &Actor,
        principal: &Principal,
        slug: &str,
        base: &str,
    ) -> Result<Value, ProviderRefused> {
        let provider = self.provider(&principal.user, slug)?;
        let notes = [format!("provider {}", provider.slug)];
        let redirect = format!("{base}/v1/providers/{}/callback", provider.slug);
        let beginning = self.pipeline.backends.begin_connection(principal, &provider, &redirect);
        let begun = self.act(actor, "providers.connect", &notes, beginning).await?;
        let url = begun.map_err(|error| ProviderRefused::of(error, &provider))?;
        let id = account_id(&principal.user, &provider.slug);
        Ok(json!({"id": id, "slug": provider.slug, "url": url, "expires_in": PATIENCE}))
    }

    /// Who would use whose account, where somebody came back from the provider with its word: the title of the provider and
    /// the user who began. Nothing is changed: whoever came back may have been sent by another.
    #[must_use]
    pub fn asks_for_account(&self, slug: &str, returned: &Returned) -> Option<(Arc<str>, Arc<str>)> {
        let state = returned.state.as_deref().filter(|_| returned.code.is_some() && returned.error.is_none())?;
        let (provider, user) = self.pipeline.backends.waiting_connection(slug, state)?;
        Some((Arc::clone(&provider.title), user))
    }

    /// Ends a connection: somebody came back from the provider. Whoever it is, the account becomes that of the user who
    /// began.
    pub async fn returned_from_provider(
        self: &Arc<Self>,
        slug: String,
        returned: Returned,
        request: RequestId,
    ) -> Landing {
        let this = Arc::clone(self);
        // A browser that leaves changes nothing: the code is good for once.
        let landing = self.tasks().spawn(async move { this.land(&slug, returned, &request).await });
        landing.await.unwrap_or_else(|_| Landing::Refused { title: None, why: "an internal error".into() })
    }

    async fn land(&self, slug: &str, returned: Returned, request: &RequestId) -> Landing {
        let state = returned.state.as_deref().unwrap_or_default();
        let Some(claimed) = self.pipeline.backends.claim_connection(slug, state) else {
            let why = "this link was used before, was begun more than ten minutes ago, or is not one of this gateway: begin \
                       the connection anew";
            return Landing::Refused { title: None, why: why.into() };
        };
        let (title, user) = (Arc::clone(&claimed.provider().title), Arc::clone(&claimed.principal.user));
        match self.finish_connection(slug, claimed, returned, request).await {
            Ok(()) => Landing::Connected { title, user },
            Err(why) => Landing::Refused { title: Some(title), why },
        }
    }

    async fn finish_connection(
        &self,
        slug: &str,
        claimed: Claimed,
        returned: Returned,
        request: &RequestId,
    ) -> Result<(), String> {
        let provider = Arc::clone(claimed.provider());
        let principal = claimed.principal.clone();
        if self.still_admitted(&principal).is_none() {
            return Err("the key with which it was begun is not good any more".into());
        }
        if self.state().settings.providers.get(slug) != Some(&provider) {
            return Err("the configuration has changed meanwhile: begin the connection anew".into());
        }
        let (actor, notes) = (Actor::holder(&principal, request), [format!("provider {slug}")]);
        let begun = self.begin_act(&actor, "providers.connected", &notes).await;
        let mut entry = begun.map_err(|_| "nothing can be recorded now, so nothing is connected")?;
        let finished = self.pipeline.backends.finish_connection(claimed, returned).await;
        if let Err(error) = &finished {
            entry.note(&error.to_string());
        }
        if close_act(entry, finished.is_ok()).await.is_err() {
            // Nothing that is not recorded may stay.
            drop(self.pipeline.backends.disconnect(&principal.user, &provider).await);
            return Err("nothing can be recorded now, so nothing is connected".into());
        }
        finished.map_err(|error| match error {
            AccountError::LoginNeeded(why) => why,
            other => ProviderRefused::of(other, &provider).to_string(),
        })
    }

    /// Forgets the account of a principal, and tells the provider.
    ///
    /// # Errors
    /// Where there is none, or that cannot be stored or recorded.
    pub async fn disconnect_provider(
        &self,
        actor: &Actor,
        principal: &Principal,
        name: &str,
    ) -> Result<Value, ProviderRefused> {
        let provider = self.provider(&principal.user, name)?;
        let notes = [format!("provider {}", provider.slug)];
        let forgetting = async {
            match self.pipeline.backends.disconnect(&principal.user, &provider).await {
                Ok(true) => Ok(()),
                Ok(false) => Err(ProviderRefused::NotConnected(Arc::clone(&provider.title))),
                Err(error) => Err(Failed::of(&error).into()),
            }
        };
        self.act(actor, "providers.disconnect", &notes, forgetting).await??;
        let id = account_id(&principal.user, &provider.slug);
        Ok(json!({"id": id, "slug": provider.slug, "disconnected": true}))
    }

    /// Renews the tokens of a principal's account now; says how it stands then.
    ///
    /// # Errors
    /// Where there is none, the provider says no or cannot be asked, or it cannot be recorded.
    pub async fn renew_provider(
        &self,
        actor: &Actor,
        principal: &Principal,
        name: &str,
    ) -> Result<Value, ProviderRefused> {
        let provider = self.provider(&principal.user, name)?;
        let notes = [format!("provider {}", provider.slug)];
        let renewing = self.pipeline.backends.renew_account(&principal.user, &provider);
        let renewed = self.act(actor, "providers.refresh", &notes, renewing).await?;
        renewed.map_err(|error| ProviderRefused::of(error, &provider))?;
        self.provider_view(principal, &provider).await
    }

    /// What the machine's owner asks about providers.
    pub(super) async fn providers_command(&self, command: ProvidersCommand) -> Result<Value, Failed> {
        match command {
            ProvidersCommand::List => Ok(self.list_providers()),
            ProvidersCommand::Rotate => {
                let rotating = self.pipeline.backends.rotate_sealing_secret();
                let rotated = self.act(&Actor::owner(), "providers.rotate", &[], rotating).await?;
                let done = rotated.map_err(|error| Failed::of(&error))?;
                Ok(json!({"resealed": done.changed, "lost": done.lost}))
            }
        }
    }

    fn list_providers(&self) -> Value {
        let state = self.state();
        let providers = state.settings.providers.values().map(|provider| {
            let used = state.settings.servers.values();
            let used = used.filter(|server| server.provider.as_ref().is_some_and(|used| used.slug == provider.slug));
            let source = match &provider.endpoints {
                Endpoints::Discovered { issuer } => issuer,
                Endpoints::Given { authorize, .. } => authorize,
            };
            json!({
                "slug": provider.slug,
                "title": provider.title,
                "at": source.as_str(),
                "client_id": provider.client_id,
                "scopes": provider.scopes,
                "servers": used.map(|server| &server.name).collect::<Vec<_>>(),
            })
        });
        json!({"providers": providers.collect::<Vec<_>>()})
    }
}
