//! Tokens that keys are exchanged for: issued, renewed and revoked, each with its record.

use std::net::IpAddr;

use serde_json::{Value, json};

use super::Gateway;
use super::control::{Actor, Failed, close_act};
use crate::authn::{NotAdmitted, NotIssued, Tokens};
use crate::domain::call::Entrance;
use crate::domain::clock::Moment;
use crate::domain::id::RequestId;
use crate::domain::outcome::Refusal;
use crate::domain::principal::Principal;
use crate::domain::secret::Secret;

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum TokenRefused {
    #[error(transparent)]
    NotIssued(#[from] NotIssued),
    #[error(transparent)]
    NotAdmitted(#[from] NotAdmitted),
    /// It could not be recorded.
    #[error(transparent)]
    Failed(#[from] Failed),
    /// The key's plan is used up for now.
    #[error(transparent)]
    OverLimit(Refusal),
}

impl Gateway {
    /// Exchanges the key that a principal came with for tokens.
    ///
    /// # Errors
    /// Where the credential is no key, the key has too many tokens, or they cannot be stored or recorded; then they do
    /// not work.
    pub async fn issue_tokens(&self, actor: &Actor, key: &Secret, service: bool) -> Result<Value, TokenRefused> {
        let mut entry = self.begin_act(actor, "tokens.create", &[]).await?;
        let issued = self.keys.issue(key, service, self.state().settings.tokens).await;
        match &issued {
            Ok(tokens) => {
                entry.note(&format!("{} for {}", tokens.grant, if service { "automation" } else { "a user" }))
            }
            Err(refused) => entry.note(&refused.to_string()),
        }
        let closed = close_act(entry, issued.is_ok()).await;
        let tokens = issued?;
        self.recorded(&tokens, closed).await?;
        Ok(view(&tokens))
    }

    /// Renews tokens with their refresh token, which needs no key: whoever has it may.
    ///
    /// # Errors
    /// Where the refresh token is of no use, the key is over its plan's limit, or the new tokens cannot be stored or
    /// recorded.
    pub async fn refresh_tokens(
        &self,
        token: &Secret,
        source: Option<IpAddr>,
        request: &RequestId,
    ) -> Result<Value, TokenRefused> {
        let state = self.state();
        let holder = match self.keys.refresher(token, &state.profiles, source).await {
            Ok(holder) => holder,
            Err(why) => {
                self.turn_away(&why, Entrance::Rest, source, request).await;
                return Err(why.into());
            }
        };
        self.charge_request(&holder).map_err(TokenRefused::OverLimit)?;
        let notes: Vec<String> = holder.grant.iter().map(ToString::to_string).collect();
        let entry = self.begin_act(&Actor::holder(&holder, request), "tokens.refresh", &notes).await?;
        let renewed = self.keys.refresh(token, state.settings.tokens).await;
        let closed = close_act(entry, matches!(renewed, Ok(Some(_)))).await;
        let tokens = renewed?.ok_or(NotAdmitted::Reused)?;
        self.recorded(&tokens, closed).await?;
        Ok(view(&tokens))
    }

    /// Ends the tokens of the grant that a principal came with; false where it came with its key.
    ///
    /// # Errors
    /// Where that cannot be stored or recorded.
    pub async fn revoke_tokens(&self, actor: &Actor, principal: &Principal) -> Result<bool, Failed> {
        let Some(grant) = &principal.grant else { return Ok(false) };
        let revoking = self.keys.revoke_grant(grant);
        let revoked = self.act(actor, "tokens.revoke", &[grant.to_string()], revoking).await?;
        revoked.map_err(|error| Failed::of(&error))?;
        Ok(true)
    }

    /// Nothing that is not recorded may stay.
    async fn recorded(&self, tokens: &Tokens, closed: Result<(), Failed>) -> Result<(), Failed> {
        if closed.is_err() {
            // Where the store takes nothing at all, it took no token either.
            drop(self.keys.revoke_grant(&tokens.grant).await);
        }
        closed
    }
}

fn view(tokens: &Tokens) -> Value {
    let life = |end: Moment| end.0.saturating_sub(tokens.minted.0).max(0) / 1000;
    json!({
        "access_token": tokens.access.expose(),
        "token_type": "Bearer",
        "type": if tokens.service { "service" } else { "user" },
        "expires_in": life(tokens.access_ends),
        "refresh_token": tokens.refresh.expose(),
        "refresh_expires_in": life(tokens.refresh_ends),
    })
}
