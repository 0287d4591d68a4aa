//! Before anything else: is this a door that we know, and a page that may knock?
//!
//! `Host` and `Origin` are checked apart from each other (DNS rebinding), on every path and method.

use std::borrow::Cow;

use axum::Router;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use tower::ServiceExt;

use super::error::plain;
use crate::config::settings::GatewaySettings;
use crate::gateway::Gateway;

/// Headers that a request may have; hyper bounds their size.
const MAX_HEADERS: usize = 100;

/// What pages may send, and what they may read of an answer.
const REQUEST_HEADERS: &str = "authorization, content-type, accept, x-api-key, x-server-jwt, mcp-session-id, mcp-protocol-version, \
                               mcp-method, mcp-name, last-event-id, traceparent, tracestate, baggage";
/// What the headers of a call's arguments begin with; which there are is the tools' to say.
const PARAMETER: &str = "mcp-param-";
const RESPONSE_HEADERS: &str = "www-authenticate, mcp-session-id, retry-after, toolgate-audit-id, \
                                x-ratelimit-limit, x-ratelimit-remaining, x-ratelimit-reset";

/// Lets a request through to the router or answers 403, 400 or 431.
pub(super) async fn pass(gateway: &Gateway, request: Request, router: Router) -> Response {
    let state = gateway.state();
    let settings = &state.settings.gateway;
    if request.headers().len() > MAX_HEADERS {
        return plain(
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            "too_many_headers",
            "the request has too many headers",
        );
    }
    match host_of(request.headers(), request.uri()) {
        Some(host) if host_allowed(settings, &host) => {}
        Some(host) => {
            return plain(
                StatusCode::FORBIDDEN,
                "host_not_allowed",
                &format!("the host `{host}` is not allowed: set `gateway.allowed_hosts`"),
            );
        }
        None => return plain(StatusCode::BAD_REQUEST, "bad_host", "exactly one valid `Host` is needed"),
    }
    let mut origins = request.headers().get_all(header::ORIGIN).iter();
    if let Some(origin) = origins.next() {
        let allowed = origins.next().is_none() && origin.to_str().is_ok_and(|origin| origin_allowed(settings, origin));
        if !allowed {
            return plain(
                StatusCode::FORBIDDEN,
                "origin_not_allowed",
                "this origin is not allowed: set `gateway.allowed_origins`",
            );
        }
    }
    let shared = request.headers().get(header::ORIGIN).cloned().filter(|_| !settings.allowed_origins.is_empty());
    drop(state);
    let Some(origin) = shared else { return answer(router, request).await };
    let preflight = request.method() == Method::OPTIONS;
    let wanted = preflight.then(|| sendable(request.headers()));
    let mut response = if preflight { StatusCode::NO_CONTENT.into_response() } else { answer(router, request).await };
    share(response.headers_mut(), origin);
    if let Some(wanted) = wanted {
        response.headers_mut().insert(header::ACCESS_CONTROL_ALLOW_HEADERS, wanted);
    }
    response
}

/// Lets a request through.
pub(super) async fn answer(router: Router, request: Request) -> Response {
    router.oneshot(request).await.unwrap_or_else(|never| match never {})
}

/// Lets a listed page read the answer (CORS), what MCP says in headers included.
fn share(headers: &mut HeaderMap, origin: HeaderValue) {
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.append(header::VARY, HeaderValue::from_static("origin"));
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST, PUT, DELETE"));
    headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static(REQUEST_HEADERS));
    headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(RESPONSE_HEADERS));
}

/// What a page may send: the headers that are known, and those of arguments that it asks for.
fn sendable(headers: &HeaderMap) -> HeaderValue {
    let asked = headers.get_all(header::ACCESS_CONTROL_REQUEST_HEADERS).into_iter();
    let names = asked.filter_map(|value| value.to_str().ok()).flat_map(|names| names.split(',').map(str::trim));
    let names =
        names.filter(|name| name.get(..PARAMETER.len()).is_some_and(|head| head.eq_ignore_ascii_case(PARAMETER)));
    let names = names.filter(|name| http::HeaderName::from_bytes(name.as_bytes()).is_ok());
    let all = [REQUEST_HEADERS].into_iter().chain(names).collect::<Vec<_>>().join(", ");
    HeaderValue::from_str(&all).unwrap_or_else(|_| HeaderValue::from_static(REQUEST_HEADERS))
}

/// The name that the request is meant for: one, without its port. `None` where it is missing, doubled or malformed.
fn host_of<'a>(headers: &'a HeaderMap, uri: &'a Uri) -> Option<Cow<'a, str>> {
    let mut hosts = headers.get_all(header::HOST).iter();
    let named = match (hosts.next(), hosts.next()) {
        (Some(one), None) => Some(one.to_str().ok()?),
        (None, None) => None,
        _ => return None,
    };
    let authority = match (uri.authority(), named) {
        (Some(authority), Some(named)) if authority.as_str() != named => return None,
        (Some(authority), _) => authority.as_str(),
        (None, Some(named)) => named,
        (None, None) => return None,
    };
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-');
    let named = authority.find(|c| !u8::try_from(c).is_ok_and(plain)).unwrap_or(authority.len());
    // What is more than a plain name, such as `[::1]`, is read by the rules of URIs.
    let end = match authority.as_bytes().get(named) {
        None | Some(b':') if named > 0 => named,
        _ => authority.parse::<http::uri::Authority>().ok()?.host().len(),
    };
    // Nothing but the name and a port: `Authority` alone takes `[::1]evil.com` for `[::1]`.
    let (host, rest) = authority.split_at_checked(end)?;
    let port = rest.strip_prefix(':').is_some_and(|port| port.bytes().all(|byte| byte.is_ascii_digit()));
    if !rest.is_empty() && !port {
        return None;
    }
    let host = host.trim_end_matches('.');
    let upper = host.bytes().any(|byte| byte.is_ascii_uppercase());
    Some(if upper { Cow::Owned(host.to_ascii_lowercase()) } else { Cow::Borrowed(host) })
}

fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost"
        || host.ends_with(".localhost")
        || bare.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// Loopback names alone, unless the operator has listed names; then those alone.
fn host_allowed(settings: &GatewaySettings, host: &str) -> bool {
    let listed = &settings.allowed_hosts;
    if listed.is_empty() { is_loopback(host) } else { listed.iter().any(|allowed| allowed.eq_ignore_ascii_case(host)) }
}

/// Where a URL's pages come from, as browsers say it.
fn own_origin(url: &str) -> Option<String> {
    let uri = url.parse::<Uri>().ok()?;
    Some(format!("{}://{}", uri.scheme_str()?, uri.authority()?))
}

fn origin_allowed(settings: &GatewaySettings, origin: &str) -> bool {
    if settings.allowed_origins.iter().any(|allowed| allowed == "*" || allowed.eq_ignore_ascii_case(origin)) {
        return true;
    }
    // The gateway's own pages send their forms back to it.
    if settings.public_url.as_deref().and_then(own_origin).is_some_and(|own| own.eq_ignore_ascii_case(origin)) {
        return true;
    }
    let Ok(uri) = origin.parse::<Uri>() else { return false };
    settings.allowed_origins.is_empty()
        && matches!(uri.scheme_str(), Some("http" | "https"))
        && uri.host().is_some_and(|host| is_loopback(&host.to_ascii_lowercase()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_plain_host_counts() {
        let host = |values: &[&str], uri: &str| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(header::HOST, value.parse().unwrap());
            }
            host_of(&headers, &uri.parse().unwrap()).map(Cow::into_owned)
        };
        assert_eq!(host(&["LocalHost.:8080"], "/x"), Some("localhost".into()));
        assert_eq!(host(&["[::1]:8080"], "/x"), Some("[::1]".into()));
        assert_eq!(host(&[], "/x"), None);
        assert_eq!(host(&["a", "b"], "/x"), None);
        assert_eq!(host(&["user@localhost"], "/x"), None);
        assert_eq!(host(&["localhost"], "http://evil/x"), None);
        assert_eq!(host(&["localhost evil"], "/x"), None);
        assert_eq!(host(&["[::1]evil.com"], "/x"), None);
        assert_eq!(host(&["localhost:80x"], "/x"), None);
    }

    #[test]
    fn loopback_alone_is_known_unless_set() {
        let mut settings = GatewaySettings::default();
        for (host, fits) in [
            ("localhost", true),
            ("127.0.0.1", true),
            ("127.9.9.9", true),
            ("[::1]", true),
            ("evil.example", false),
            ("localhost.evil.example", false),
            ("10.0.0.1", false),
        ] {
            assert_eq!(host_allowed(&settings, host), fits, "{host}");
        }
        for (origin, fits) in [
            ("http://localhost:3000", true),
            ("http://evil.example", false),
            ("null", false),
            ("http://127.0.0.1.evil.example", false),
            ("file://localhost", false),
        ] {
            assert_eq!(origin_allowed(&settings, origin), fits, "{origin}");
        }
        settings.allowed_hosts = vec!["gw.example".into()];
        settings.allowed_origins = vec!["https://app.example".into()];
        assert!(host_allowed(&settings, "gw.example") && !host_allowed(&settings, "localhost"));
        assert!(origin_allowed(&settings, "https://app.example") && !origin_allowed(&settings, "http://localhost"));
    }
}
