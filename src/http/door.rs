//! Which credentials an endpoint takes, and what is said to whoever brings none that it does.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{FromRequestParts, Request};
use axum::response::Response;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, StatusCode, header};

use super::caller::credential;
use super::error::{no_such_path, plain};
use super::{mcp, oauth};
use crate::domain::call::Entrance;
use crate::domain::id::RequestId;
use crate::domain::principal::Principal;
use crate::gateway::{Credential, Gateway, NotAdmitted, TokenFault};

/// Seconds after which an issuer that could not be asked may be reached again.
const TRY_AGAIN: u64 = 5;

/// The credentials that an endpoint takes: keys, unless its route says otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Door {
    Keys,
    /// Access tokens as bearer tokens, and nothing else.
    Tokens,
}

impl FromRequestParts<Arc<Gateway>> for Door {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, gateway: &Arc<Gateway>) -> Result<Self, Response> {
        let door = parts.extensions.get::<Self>().copied().unwrap_or(Self::Keys);
        if door == Self::Tokens {
            if gateway.resource().is_none() {
                return Err(no_such_path(Request::from_parts(parts.clone(), axum::body::Body::empty())).await);
            }
            // Addresses end up in logs and histories.
            let query = parts.uri.query().unwrap_or_default();
            if query.split('&').any(|pair| pair.split('=').next() == Some("access_token")) {
                let why = "an access token has no place in a URL: send `Authorization: Bearer TOKEN`";
                return Err(plain(StatusCode::BAD_REQUEST, "invalid_request", why));
            }
        }
        Ok(door)
    }
}

impl Door {
    /// Says who is at the door of the MCP endpoint.
    ///
    /// # Errors
    /// The answer to whoever is not let in.
    pub(super) async fn admit(
        self,
        gateway: &Gateway,
        headers: &HeaderMap,
        source: Option<IpAddr>,
        request: &RequestId,
    ) -> Result<Principal, Box<Response>> {
        let admitted = match self {
            Self::Keys => gateway.admit(&credential(headers), Entrance::Mcp, source, request).await,
            Self::Tokens if headers.contains_key("x-api-key") => {
                gateway.admit_token(&Credential::Malformed, source, request).await
            }
            Self::Tokens => gateway.admit_token(&credential(headers), source, request).await,
        };
        admitted.map_err(|why| {
            let mut response = mcp::unauthorized(&why);
            if self == Self::Tokens {
                challenge(gateway, headers, &why, &mut response);
            }
            Box::new(response)
        })
    }
}

/// Tells a client where tokens come from, and which (RFC 6750, RFC 9728).
fn challenge(gateway: &Gateway, headers: &HeaderMap, why: &NotAdmitted, response: &mut Response) {
    let error = match why {
        NotAdmitted::Throttled { .. } => return,
        NotAdmitted::Token(TokenFault::Unavailable) => {
            *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
            response.headers_mut().remove(header::WWW_AUTHENTICATE);
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(TRY_AGAIN));
            return;
        }
        NotAdmitted::TokenScope(_) => {
            *response.status_mut() = StatusCode::FORBIDDEN;
            ", error=\"insufficient_scope\""
        }
        NotAdmitted::NoToken => "",
        _ => ", error=\"invalid_token\"",
    };
    let scopes = gateway.resource().map(|resource| resource.scopes.join(" ")).unwrap_or_default();
    let metadata = format!("{}{}", oauth::base(gateway, headers), oauth::METADATA);
    let text = format!("Bearer resource_metadata=\"{metadata}\", scope=\"{scopes}\"{error}");
    if let Ok(value) = HeaderValue::from_str(&text) {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, value);
    }
}
