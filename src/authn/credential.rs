//! What is brought to say who one is, why it may not do, and what a new key shall be.

use std::time::Duration;

use super::jwt::TokenFault;
use crate::domain::secret::Secret;
use crate::store::StoreError;

/// What a request brought to say who it is.
#[derive(Debug, Clone)]
pub enum Credential {
    Missing,
    Key(Secret),
    /// Two that differ.
    Disagree,
    /// A header that is no text, or an `Authorization` of another scheme.
    Malformed,
}

/// Why a credential was not admitted: each is a sentence for the person who configured the client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotAdmitted {
    #[error("no key: send `X-API-Key: KEY` or `Authorization: Bearer KEY`")]
    Missing,
    #[error("your client did not expand {0}: put the key's value in its configuration or environment")]
    Unexpanded(String),
    #[error("two credentials that differ: send one key")]
    Disagree,
    #[error("the credential is not a key: a key begins with `inv_live_`, sent in `X-API-Key` or as a bearer token")]
    Malformed,
    #[error("the key is mistyped: its checksum does not fit")]
    Mistyped,
    #[error("unknown key")]
    Unknown,
    #[error("the key expired on {0}")]
    Expired(String),
    #[error("the key was revoked on {0}")]
    Revoked(String),
    #[error("the token is mistyped: its checksum does not fit")]
    MistypedToken,
    #[error(
        "unknown token: it was revoked or renewed, or ended long ago; exchange the key for another at `POST /v1/auth/token`"
    )]
    UnknownToken,
    #[error("the token expired on {0}: renew it at `POST /v1/auth/refresh`, or exchange the key for another")]
    TokenExpired(String),
    #[error(
        "the refresh token was used before, so it and the tokens made of it are revoked: exchange the key for others"
    )]
    Reused,
    #[error("the key's profile `{0}` no longer exists")]
    NoProfile(String),
    #[error("no access token: send `Authorization: Bearer TOKEN`, with a token of this gateway's authorization server")]
    NoToken,
    #[error("this endpoint takes access tokens and no keys: a key opens `/v1/mcp`")]
    KeyForToken,
    #[error("the access token is refused: {0}")]
    Token(TokenFault),
    #[error("the access token opens nothing here: it needs one of the scopes {}", .0.join(", "))]
    TokenScope(Vec<String>),
    #[error("too many wrong keys: try again in {retry_after} s")]
    Throttled { retry_after: u64 },
}

impl NotAdmitted {
    /// A stable word for metrics.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Unexpanded(_) => "unexpanded",
            Self::Disagree => "disagree",
            Self::Malformed => "malformed",
            Self::Mistyped => "mistyped",
            Self::Unknown => "unknown",
            Self::Expired(_) => "expired",
            Self::Revoked(_) => "revoked",
            Self::MistypedToken => "mistyped_token",
            Self::UnknownToken => "unknown_token",
            Self::TokenExpired(_) => "token_expired",
            Self::Reused => "token_reused",
            Self::NoProfile(_) => "no_profile",
            Self::NoToken => "missing",
            Self::KeyForToken => "key_for_token",
            Self::Token(TokenFault::Unavailable) => "unavailable",
            Self::Token(_) => "token",
            Self::TokenScope(_) => "token_scope",
            Self::Throttled { .. } => "throttled",
        }
    }
}

/// Why no key was made.
#[derive(Debug, thiserror::Error)]
pub enum NotCreated {
    #[error("the system gives no random bytes")]
    NoRandomness,
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why a key was not exchanged for tokens.
#[derive(Debug, thiserror::Error)]
pub enum NotIssued {
    #[error("only a key is exchanged for a token, and this is a token: send the key")]
    NotAKey,
    #[error(
        "the key has {0} tokens that have not expired: revoke one with `DELETE /v1/auth/token`, or wait for one to expire"
    )]
    TooMany(usize),
    #[error("the system gives no random bytes")]
    NoRandomness,
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What a new key shall be.
#[derive(Debug, Clone, Default)]
pub struct NewKey {
    pub name: String,
    pub profile: String,
    pub user: String,
    pub roles: Vec<String>,
    pub agent: Option<String>,
    pub plan: Option<String>,
    pub expires_in: Option<Duration>,
}
