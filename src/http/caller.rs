//! Who is calling: taken out of a request before its body is read.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, OnceLock};

use axum::extract::FromRequestParts;
use axum::response::{IntoResponse, Response};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, header};

use super::error::not_admitted;
use super::request::Named;
use crate::domain::call::Entrance;
use crate::domain::id::RequestId;
use crate::domain::principal::Principal;
use crate::domain::secret::Secret;
use crate::gateway::{Credential, Gateway, NotAdmitted};

/// The address at the other end of the connection; none on the local socket.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer(pub(super) Option<SocketAddr>);

impl<S: Sync> FromRequestParts<S> for Peer {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(parts.extensions.get::<Self>().copied().unwrap_or(Self(None)))
    }
}

/// Somebody with a valid key. A handler that takes this cannot be reached without one.
#[derive(Debug)]
pub(super) struct Caller {
    pub(super) principal: Principal,
    /// Where the request comes from, as policies see it.
    pub(super) source: Option<IpAddr>,
    pub(super) request: RequestId,
}

/// Nobody with a valid key. A door with an error of its own shape takes `Result<Caller, Stranger>`.
#[derive(Debug)]
pub(super) struct Stranger(pub(super) NotAdmitted);

impl IntoResponse for Stranger {
    fn into_response(self) -> Response {
        not_admitted(&self.0)
    }
}

/// Where the middleware of the REST doors learns who was admitted.
#[derive(Debug, Clone, Default)]
pub(super) struct Admitted(pub(super) Arc<OnceLock<Principal>>);

impl FromRequestParts<Arc<Gateway>> for Caller {
    type Rejection = Stranger;

    async fn from_request_parts(parts: &mut Parts, gateway: &Arc<Gateway>) -> Result<Self, Stranger> {
        let peer = parts.extensions.get::<Peer>().and_then(|peer| peer.0);
        let source = source(gateway, peer, &parts.headers);
        let Ok(Named(request)) = Named::from_request_parts(parts, gateway).await;
        let admitted = gateway.admit(&credential(&parts.headers), Entrance::Rest, source, &request).await;
        let principal = admitted.map_err(Stranger)?;
        if let Some(slot) = parts.extensions.get::<Admitted>() {
            slot.0.get_or_init(|| principal.clone());
        }
        Ok(Self { principal, source, request })
    }
}

/// What the headers bring: `X-API-Key: KEY` and `Authorization: Bearer KEY` are equal; two that differ are refused.
pub(super) fn credential(headers: &HeaderMap) -> Credential {
    let keys = headers.get_all("x-api-key").iter().map(|value| value.to_str().ok().map(str::trim));
    let bearers = headers.get_all(header::AUTHORIZATION).iter().map(|value| value.to_str().ok().and_then(bearer));
    let mut found: Option<&str> = None;
    for value in keys.chain(bearers) {
        match (value, found) {
            (None, _) => return Credential::Malformed,
            (Some(value), Some(other)) if value != other => return Credential::Disagree,
            (Some(value), _) => found = Some(value),
        }
    }
    found.filter(|text| !text.is_empty()).map_or(Credential::Missing, |text| Credential::Key(Secret::new(text)))
}

fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.trim().split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// Where a request comes from: the peer, or what a trusted proxy says of it.
pub(super) fn source(gateway: &Gateway, peer: Option<SocketAddr>, headers: &HeaderMap) -> Option<IpAddr> {
    let peer = peer?.ip();
    let state = gateway.state();
    let trusted = &state.settings.gateway.trusted_proxies;
    if !trusted.contains(&peer) {
        return Some(peer);
    }
    let lines: Vec<&[u8]> = headers.get_all("x-forwarded-for").iter().map(HeaderValue::as_bytes).collect();
    forwarded(peer, &lines, |address| trusted.contains(&address))
}

/// From the right: the first hop that is no proxy of ours is the client. A hop that cannot be read is nobody: never a
/// proxy's own address, which policies may trust.
fn forwarded(peer: IpAddr, lines: &[&[u8]], trusted: impl Fn(IpAddr) -> bool) -> Option<IpAddr> {
    let mut last = Some(peer);
    for hop in lines.iter().rev().flat_map(|line| line.rsplit(|byte| *byte == b',')) {
        last = std::str::from_utf8(hop).ok().and_then(|hop| address(hop.trim()));
        if !last.is_some_and(&trusted) {
            break;
        }
    }
    last
}

/// An address with or without a port.
fn address(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let address: Option<IpAddr> = bare.parse().ok().or_else(|| text.parse::<SocketAddr>().ok().map(|it| it.ip()));
    // An IPv4 address in IPv6 clothes is itself, as the peer's own is.
    address.map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_client_is_the_last_hop_that_is_no_proxy_of_ours() {
        let proxy: IpAddr = "10.0.0.1".parse().unwrap();
        let source = |lines: &[&[u8]]| forwarded(proxy, lines, |address| address == proxy).map(|ip| ip.to_string());
        assert_eq!(source(&[]).as_deref(), Some("10.0.0.1"));
        assert_eq!(source(&[b"1.1.1.1, 8.8.8.8"]).as_deref(), Some("8.8.8.8"));
        assert_eq!(source(&[b"8.8.8.8", b"10.0.0.1"]).as_deref(), Some("8.8.8.8"));
        assert_eq!(source(&[b"\xff, 8.8.8.8"]).as_deref(), Some("8.8.8.8"));
        assert_eq!(source(&[b"8.8.8.8:4444"]).as_deref(), Some("8.8.8.8"));
        assert_eq!(source(&[b"[2001:db8::1]:80"]).as_deref(), Some("2001:db8::1"));
        for dressed in [&b"::ffff:8.8.8.8, ::ffff:10.0.0.1"[..], b"[::ffff:8.8.8.8]:80"] {
            assert_eq!(source(&[dressed]).as_deref(), Some("8.8.8.8"));
        }
        for unreadable in [b"unknown".as_slice(), b"8.8.8.8, \xff", b""] {
            assert_eq!(source(&[unreadable]), None);
        }
    }

    #[test]
    fn both_headers_count_and_must_agree() {
        let read = |pairs: &[(&'static str, &str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                headers.append(*name, value.parse().unwrap());
            }
            match credential(&headers) {
                Credential::Key(secret) => secret.expose().to_owned(),
                other => format!("{other:?}"),
            }
        };
        assert_eq!(read(&[]), "Missing");
        assert_eq!(read(&[("x-api-key", "k")]), "k");
        assert_eq!(read(&[("authorization", "bearer  k")]), "k");
        assert_eq!(read(&[("authorization", "Bearer k"), ("x-api-key", "k")]), "k");
        assert_eq!(read(&[("authorization", "Bearer k"), ("x-api-key", "other")]), "Disagree");
        assert_eq!(read(&[("x-api-key", "k"), ("x-api-key", "l")]), "Disagree");
        assert_eq!(read(&[("authorization", "Basic k")]), "Malformed");
        assert_eq!(read(&[("x-api-key", "")]), "Missing");
    }
}
