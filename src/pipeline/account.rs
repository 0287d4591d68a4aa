//! Servers that are asked with an account of the caller's.

use super::{Pipeline, State};
use crate::backend::AccountError;
use crate::domain::outcome::{NoAccount, Outcome, Refusal, UpstreamError, UpstreamFault};
use crate::policy::PermittedCall;

/// Seconds after which a provider that gave nothing may be asked again.
const AGAIN: u64 = 10;

impl Pipeline {
    /// Sees to it that the server can be asked with the caller's account, where it is asked with one; else gives how the
    /// call ends, before anything is charged or sent.
    ///
    /// # Errors
    /// Where the caller has to connect an account first.
    pub(super) async fn account(&self, state: &State, call: &PermittedCall) -> Result<Option<Outcome>, Refusal> {
        let server = &call.tool().id.server;
        let Err((provider, error)) = self.backends.ready_for(server, &call.principal().user).await else {
            return Ok(None);
        };
        let why = match error {
            AccountError::NotConnected => error.to_string(),
            AccountError::LoginNeeded(why) => why,
            AccountError::Failed(_) | AccountError::TooMany | AccountError::Beginning => {
                return Ok(Some(Outcome::Failed(UpstreamError {
                    fault: UpstreamFault::Down,
                    message: format!(
                        "no credentials of your account with {} could be had for the server `{server}`; try again",
                        provider.title
                    ),
                    retryable: true,
                    without_effect: true,
                    breaker: "closed",
                    retry_after: Some(AGAIN),
                })));
            }
        };
        let base = state.settings.gateway.public_url.as_deref().unwrap_or_default();
        let connect = format!("{base}/v1/providers/{}/connect", provider.slug);
        let (slug, title) = (provider.slug.clone(), provider.title.clone());
        Err(Refusal::NoAccount(Box::new(NoAccount { server: server.clone(), provider: slug, title, why, connect })))
    }
}
