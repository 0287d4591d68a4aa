//! Which link a request goes over: everybody's, one of the client's own, or one with the account of its user.

use std::sync::Arc;

use super::ask::Ask;
use super::fault::{Fault, FaultKind};
use super::link::Link;
use super::peer::Peer;
use super::registry::Hub;
use super::server::Server;
use super::sessions::Lease;
use crate::config::SessionsOf;
use crate::config::providers::ProviderSettings;
use crate::wire::era::Era;

impl Server {
    /// Everybody's link, where it stands and the request goes over it: as most do.
    pub(crate) fn at_hand(&self, ask: &Ask<'_>) -> Option<Arc<Link>> {
        let link = self.linked().filter(|_| self.settings().provider.is_none())?;
        let apart = ask.peer.is_some_and(|peer| link.hello().era == Era::Legacy && self.keeps_apart(peer));
        (!apart).then_some(link)
    }

    /// The link for a request, and what keeps it from being idle.
    pub(crate) async fn reach(
        self: &Arc<Self>,
        ask: &Ask<'_>,
        hub: &Arc<Hub>,
    ) -> Result<(Arc<Link>, Option<Lease>), Fault> {
        let provider = self.settings().provider.clone();
        if let Some(provider) = provider {
            let leased = self.with_account(&provider, ask, hub).await?;
            return Ok((Arc::clone(&leased.link), Some(leased)));
        }
        let link = self.link().await?;
        match ask.peer.filter(|peer| link.hello().era == Era::Legacy && self.keeps_apart(peer)) {
            Some(peer) => {
                let leased = self.sessions.lease(self, hub, peer, None).await?;
                Ok((Arc::clone(&leased.link), Some(leased)))
            }
            None => Ok((link, None)),
        }
    }

    /// A link that was opened with the account of the user who asks: nobody else's, and never the gateway's own.
    async fn with_account(
        self: &Arc<Self>,
        provider: &Arc<ProviderSettings>,
        ask: &Ask<'_>,
        hub: &Arc<Hub>,
    ) -> Result<Lease, Fault> {
        let nobody = || Fault::new(FaultKind::Rejected, "no user whose account could be used");
        let (accounts, peer) = hub.accounts.as_ref().zip(ask.peer).ok_or_else(nobody)?;
        let account = accounts.of(&peer.user, provider);
        match self.sessions.lease(self, hub, peer, Some(&account)).await {
            Err(fault) if fault.is_unauthorized() => {
                // Nothing of the request was sent: the token had ended before its time.
                account.header().await?;
                Box::pin(self.sessions.lease(self, hub, peer, Some(&account))).await
            }
            leased => leased,
        }
    }

    /// Whether what is done for this client is done in a session of its own.
    fn keeps_apart(&self, peer: &Peer) -> bool {
        match self.settings().sessions {
            SessionsOf::Auto => peer.needs_session(),
            SessionsOf::Shared => false,
            SessionsOf::Principal => true,
        }
    }
}
