//! Access tokens at the door: `[oauth]`.

use std::net::IpAddr;

use super::Gateway;
use crate::authn::bearer::offered;
use crate::authn::jwt::TokenFault;
use crate::authn::{Credential, NotAdmitted};
use crate::domain::call::Entrance;
use crate::domain::id::RequestId;
use crate::domain::principal::Principal;
use crate::domain::secret::Secret;

/// What a client has to know to get a token.
#[derive(Debug, Clone)]
pub struct Resource {
    pub authorization_servers: Vec<String>,
    /// The scopes that open something.
    pub scopes: Vec<String>,
}

impl Gateway {
    /// What clients are told of `[oauth]`; absent without it.
    #[must_use]
    pub fn resource(&self) -> Option<Resource> {
        let state = self.state.load();
        let oauth = state.settings.oauth.as_ref()?;
        let authorization_servers = oauth.servers.iter().map(|server| server.issuer.to_string()).collect();
        Some(Resource { authorization_servers, scopes: offered(oauth, &state.profiles) })
    }

    /// Says who holds an access token. Whoever is turned away is recorded, and who sends wrong ones has to wait, as
    /// with keys; one that has merely expired is not wrong.
    ///
    /// # Errors
    /// Why nobody holds it.
    pub async fn admit_token(
        &self,
        token: &Credential,
        source: Option<IpAddr>,
        request: &RequestId,
    ) -> Result<Principal, NotAdmitted> {
        let admitted = match token {
            Credential::Key(token) => self.holder(token).await,
            Credential::Missing => Err(NotAdmitted::NoToken),
            Credential::Disagree => Err(NotAdmitted::Disagree),
            Credential::Malformed => Err(NotAdmitted::KeyForToken),
        };
        let why = match admitted {
            Ok(principal) => return Ok(principal),
            Err(
                why @ (NotAdmitted::NoToken
                | NotAdmitted::TokenScope(_)
                | NotAdmitted::Token(TokenFault::Expired | TokenFault::Unavailable)),
            ) => why,
            Err(why) => self.keys.wrong(why, source),
        };
        self.turn_away(&why, Entrance::Mcp, source, request).await;
        Err(why)
    }

    async fn holder(&self, token: &Secret) -> Result<Principal, NotAdmitted> {
        let state = self.state();
        let oauth = state.settings.oauth.as_ref().ok_or(NotAdmitted::NoToken)?;
        if token.expose().starts_with("inv_") {
            return Err(NotAdmitted::KeyForToken);
        }
        self.pipeline.tokens.admit(token, oauth, &state.profiles).await
    }

    /// Somebody who was admitted, with the profile of now; `None` where it would not be admitted any more. What stays open
    /// asks this from time to time.
    #[must_use]
    pub fn still_admitted(&self, principal: &Principal) -> Option<Principal> {
        self.state.load().still_admitted(principal, &self.keys, self.now())
    }
}
