//! The accounts of users, as the gateway asks for them.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::oauth::{AccountError, AccountView, Accounts, Claimed, Failure, Returned, SEALED_KINDS};
use super::registry::Backends;
use crate::config::providers::ProviderSettings;
use crate::domain::id::ServerName;
use crate::domain::principal::Principal;
use crate::domain::secret::Secret;
use crate::store::{Resealed, StoreError};

impl Backends {
    fn accounts(&self) -> Result<&Accounts, AccountError> {
        self.hub.accounts.as_ref().ok_or_else(|| AccountError::Failed("there is no store".into()))
    }

    /// Sees to it that a server can be asked with the account of this user. A server that wants none is always ready.
    ///
    /// # Errors
    /// The provider, and why it cannot.
    pub async fn ready_for(
        &self,
        server: &ServerName,
        user: &Arc<str>,
    ) -> Result<(), (Arc<ProviderSettings>, AccountError)> {
        let server = self.hub.servers.load().get(server).cloned();
        let Some(provider) = server.and_then(|server| server.settings().provider.clone()) else { return Ok(()) };
        let got = match self.accounts() {
            Ok(accounts) => accounts.of(user, &provider).got().await.map(drop).map_err(AccountError::from),
            Err(error) => Err(error),
        };
        got.map_err(|error| (provider, error))
    }

    /// How the account of a user with a provider stands.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub async fn account(
        &self,
        user: &Arc<str>,
        provider: &Arc<ProviderSettings>,
    ) -> Result<AccountView, AccountError> {
        self.accounts()?.of(user, provider).view().await
    }

    /// Begins a connection; gives the page to which the user goes.
    ///
    /// # Errors
    /// Where the provider cannot be asked, or too many are being made.
    pub async fn begin_connection(
        &self,
        principal: &Principal,
        provider: &Arc<ProviderSettings>,
        redirect: &str,
    ) -> Result<String, AccountError> {
        self.accounts()?.begin(principal, provider, redirect).await
    }

    /// The connection that this state ends, taken out: nobody else gets it.
    #[must_use]
    pub fn claim_connection(&self, provider: &str, state: &str) -> Option<Claimed> {
        self.accounts().ok()?.claim(provider, state)
    }

    /// Ends a connection with what the user was sent back with.
    ///
    /// # Errors
    /// Where the provider says no, or the account cannot be kept.
    pub async fn finish_connection(&self, claimed: Claimed, returned: Returned) -> Result<(), AccountError> {
        let (user, provider) = (Arc::clone(&claimed.principal.user), Arc::clone(claimed.provider()));
        self.accounts()?.finish(claimed, returned).await?;
        self.account_changed(&user, &provider);
        Ok(())
    }

    /// Renews the tokens of an account now.
    ///
    /// # Errors
    /// Where there is none, or the provider says no.
    pub async fn renew_account(&self, user: &Arc<str>, provider: &Arc<ProviderSettings>) -> Result<(), AccountError> {
        self.accounts()?.of(user, provider).renew().await
    }

    /// Forgets an account, ends what was opened with it, and tells the provider. False where there was none.
    ///
    /// # Errors
    /// Where it cannot be removed from the store.
    pub async fn disconnect(&self, user: &Arc<str>, provider: &Arc<ProviderSettings>) -> Result<bool, AccountError> {
        let account = self.accounts()?.of(user, provider);
        let (forgotten, connection) = account.disconnect().await?;
        self.account_changed(user, provider);
        if let Some(connection) = connection {
            // The gateway has forgotten it, whoever stops waiting.
            self.hub.tracker.spawn(async move { account.revoke(&connection).await });
        }
        Ok(forgotten)
    }

    /// Makes a new secret for credentials at rest, and seals them anew.
    ///
    /// # Errors
    /// Where the configuration gives the keys, or the store cannot be written.
    pub async fn rotate_sealing_secret(&self) -> Result<Resealed, StoreError> {
        match &self.hub.store {
            Some(store) => store.rotate_sealing_secret(&SEALED_KINDS).await,
            None => Ok(Resealed::default()),
        }
    }

    /// Seals credentials at rest with the first of these keys from now on, where there are any, and those that an older
    /// key has sealed anew.
    pub async fn seal_with(&self, keys: &[Secret]) {
        let Some(store) = &self.hub.store else { return };
        store.seal_with(keys);
        match store.reseal(&SEALED_KINDS).await {
            Ok(done) if done == Resealed::default() => {}
            Ok(done) if done.lost == 0 => tracing::info!(credentials = done.changed, "sealed anew"),
            Ok(done) => tracing::warn!(lost = done.lost, "credentials cannot be opened with any key that is there"),
            Err(error) => tracing::warn!(%error, "credentials could not be sealed anew"),
        }
    }

    /// What was opened with an older account must not go on; who lists with it may now, or no more.
    fn account_changed(&self, user: &str, provider: &ProviderSettings) {
        for server in self.hub.servers.load().values() {
            let settings = server.settings();
            if settings.provider.as_deref() != Some(provider) {
                continue;
            }
            server.sessions.end_account(user);
            // What was kept may be the old account's.
            server.writes.fetch_add(1, Ordering::AcqRel);
            if settings.list_as.as_deref() == Some(user) {
                server.refresh.notify_one();
            }
        }
    }
}

impl From<Failure> for AccountError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::LoginNeeded(why) => Self::LoginNeeded(why),
            Failure::Other(why) => Self::Failed(why),
        }
    }
}
