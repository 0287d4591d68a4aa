//! Floor 3: the requests that the gateway makes for itself, to authorization servers: keys, metadata, tokens.
//!
//! What an operator wrote is trusted with its own address; what a document at another address named is not. So the
//! address of a discovered URL is looked up, judged, and is then the one that is connected to: a name that means
//! something else a moment later (DNS rebinding) gains nothing. Nothing goes through a proxy, nothing is unpacked, a
//! redirect is followed within its own origin alone, and an answer has a size and a deadline.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, LOCATION, USER_AGENT};
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper_rustls::{ConfigBuilderExt, HttpsConnector};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::Name;
use hyper_util::rt::TokioExecutor;
use url::{Host, Url};

use crate::domain::net::{is_here, is_private};

/// Bytes of an answer that are read.
const MAX_ANSWER: usize = 1 << 20;
/// All of a request: look-up, connection, redirects, answer.
const DEADLINE: Duration = Duration::from_secs(10);
const MAX_REDIRECTS: usize = 3;

/// Who chose a URL.
#[derive(Debug, Clone)]
pub enum Reach {
    /// The operator.
    Configured,
    /// A document that another server gave. Only public addresses, unless it leads back to the origin of what the
    /// operator wrote; where that is this machine, other ports of this machine too.
    Discovered { from: Url },
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    #[error("`{url}` may not be asked: {why}")]
    Refused { url: String, why: &'static str },
    #[error("`{url}` cannot be reached: {why}")]
    Unreachable { url: String, why: String },
    #[error("`{url}` redirects where it may not: to another origin, too often, or with a request that is sent once")]
    Redirected { url: String },
    #[error("`{url}` answers more than {MAX_ANSWER} bytes")]
    TooLarge { url: String },
    #[error("`{url}` gives no answer in time")]
    TimedOut { url: String },
}

impl FetchError {
    /// The same without the path of its URL, for a URL that is itself a secret.
    #[must_use]
    pub fn without_path(mut self) -> Self {
        let (Self::Refused { url, .. }
        | Self::Unreachable { url, .. }
        | Self::Redirected { url }
        | Self::TooLarge { url }
        | Self::TimedOut { url }) = &mut self;
        *url = Url::parse(url).map_or_else(|_| "…".to_owned(), |url| url.origin().ascii_serialization());
        self
    }
}

/// Sends a request; GET follows redirects within the origin.
///
/// # Errors
/// Where the URL may not be asked, or gives no whole answer.
pub async fn send(request: Request<Bytes>, reach: &Reach) -> Result<Response<Bytes>, FetchError> {
    let named = request.uri().to_string();
    let url =
        Url::parse(&named).map_err(|_| FetchError::Refused { url: "…".into(), why: "it is no absolute URL" })?;
    let shown = shown(&url);
    let sent = tokio::time::timeout(DEADLINE, follow(url, request, reach)).await;
    sent.unwrap_or(Err(FetchError::TimedOut { url: shown }))
}

/// Gets a document.
///
/// # Errors
/// As [`send`]; another status than 200 is unreachable too.
pub async fn get(url: &Url, reach: &Reach) -> Result<Bytes, FetchError> {
    let mut request = Request::new(Bytes::new());
    let unreachable = |why: String| FetchError::Unreachable { url: shown(url), why };
    *request.uri_mut() = url.as_str().parse().map_err(|_| unreachable("its form is odd".into()))?;
    request.headers_mut().insert(http::header::ACCEPT, HeaderValue::from_static("application/json"));
    let response = send(request, reach).await?;
    match response.status() {
        StatusCode::OK => Ok(response.into_body()),
        status => Err(unreachable(format!("HTTP {}", status.as_u16()))),
    }
}

/// A URL without what may be secret in it.
fn shown(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    url.set_fragment(None);
    let _no_user = url.set_password(None).and_then(|()| url.set_username(""));
    url.into()
}

async fn follow(mut url: Url, request: Request<Bytes>, reach: &Reach) -> Result<Response<Bytes>, FetchError> {
    let first = url.clone();
    let (parts, body) = request.into_parts();
    for _ in 0..=MAX_REDIRECTS {
        let mut request = Request::new(Full::new(body.clone()));
        *request.method_mut() = parts.method.clone();
        *request.headers_mut() = parts.headers.clone();
        let response = once(&url, request, reach).await?;
        if !response.status().is_redirection() || response.status() == StatusCode::NOT_MODIFIED {
            return Ok(response);
        }
        let next = response.headers().get(LOCATION).and_then(|to| url.join(to.to_str().ok()?).ok());
        match next.filter(|next| parts.method == Method::GET && next.origin() == first.origin()) {
            Some(next) => url = next,
            None => break,
        }
    }
    Err(FetchError::Redirected { url: shown(&first) })
}

async fn once(url: &Url, mut request: Request<Full<Bytes>>, reach: &Reach) -> Result<Response<Bytes>, FetchError> {
    let unreachable = |why: String| FetchError::Unreachable { url: shown(url), why };
    let addresses = addresses(url, reach).await?;
    let uri: Uri = url.as_str().parse().map_err(|_| unreachable("its form is odd".into()))?;
    *request.uri_mut() = uri;
    let headers = request.headers_mut();
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    headers.insert(USER_AGENT, HeaderValue::from_static(concat!("toolgate/", env!("CARGO_PKG_VERSION"))));
    let client = client(addresses).map_err(unreachable)?;
    let response = client.request(request).await.map_err(|error| unreachable(causes(&error)))?;
    let (parts, body) = response.into_parts();
    match Limited::new(body, MAX_ANSWER).collect().await {
        Ok(whole) => Ok(Response::from_parts(parts, whole.to_bytes())),
        Err(error) if error.is::<LengthLimitError>() => Err(FetchError::TooLarge { url: shown(url) }),
        Err(error) => Err(unreachable(causes(&*error))),
    }
}

/// Where the URL leads, once it has been seen that it may lead there.
async fn addresses(url: &Url, reach: &Reach) -> Result<Vec<SocketAddr>, FetchError> {
    let refused = |why| FetchError::Refused { url: shown(url), why };
    let unreachable = |why: String| FetchError::Unreachable { url: shown(url), why };
    if !url.username().is_empty() || url.password().is_some() {
        return Err(refused("it holds a user or a password"));
    }
    // What leads back to the origin that the operator wrote was chosen by the operator.
    let from = match reach {
        Reach::Configured => url,
        Reach::Discovered { from } if from.origin() == url.origin() => url,
        Reach::Discovered { from } => from,
    };
    match url.scheme() {
        "https" => {}
        "http" if is_here(url) && is_here(from) && from.scheme() == "http" => {}
        "http" => return Err(refused("only this machine is asked without TLS: use https")),
        _ => return Err(refused("it is neither http nor https")),
    }
    let port = url.port_or_known_default().unwrap_or(443);
    let found: Vec<SocketAddr> = match url.host() {
        Some(Host::Ipv4(address)) => vec![(address, port).into()],
        Some(Host::Ipv6(address)) => vec![(address, port).into()],
        Some(Host::Domain(name)) => {
            let found = tokio::net::lookup_host((name, port)).await;
            found.map_err(|error| unreachable(format!("its name cannot be looked up: {error}")))?.collect()
        }
        None => return Err(refused("it names no host")),
    };
    let chosen = std::ptr::eq(from, url);
    let (near, plain) = (is_here(from), url.scheme() == "http");
    // One bad address spoils them all: which of them is connected to is chance.
    if found.iter().all(|found| may_reach(found.ip(), chosen, near, plain)) && !found.is_empty() {
        Ok(found)
    } else if found.is_empty() {
        Err(unreachable("its name means no address".into()))
    } else {
        Err(refused("it leads into a private network, and nobody configured that it should"))
    }
}

/// `chosen` by the operator; `near`: the operator named this machine; `plain`: without TLS.
fn may_reach(address: IpAddr, chosen: bool, near: bool, plain: bool) -> bool {
    let here = address.to_canonical().is_loopback();
    if plain { here } else { chosen || !is_private(address) || (here && near) }
}

/// Gives the addresses that were judged, whatever name is asked for.
#[derive(Debug, Clone)]
struct Pinned(Vec<SocketAddr>);

impl tower::Service<Name> for Pinned {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = std::convert::Infallible;
    type Future = std::future::Ready<Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Name) -> Self::Future {
        std::future::ready(Ok(self.0.clone().into_iter()))
    }
}

type OneUse = Client<HttpsConnector<HttpConnector<Pinned>>, Full<Bytes>>;

/// A client that knows these addresses alone. It is used once: these requests are rare.
fn client(addresses: Vec<SocketAddr>) -> Result<OneUse, String> {
    static TLS: OnceLock<Result<Arc<rustls::ClientConfig>, String>> = OnceLock::new();
    let tls = TLS.get_or_init(|| {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?;
        let builder = builder
            .with_native_roots()
            .map_err(|error| format!("the system's root certificates cannot be loaded: {error}"))?;
        Ok(Arc::new(builder.with_no_client_auth()))
    });
    let mut http = HttpConnector::new_with_resolver(Pinned(addresses));
    http.enforce_http(false);
    http.set_nodelay(true);
    let connector = HttpsConnector::from((http, Arc::clone(tls.as_ref().map_err(Clone::clone)?)));
    Ok(Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).http1_max_headers(100).build(connector))
}

/// An error with its causes, on one line.
fn causes(error: &(dyn std::error::Error + 'static)) -> String {
    std::iter::successors(Some(error), |error| error.source()).map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    async fn refused(text: &str, from: &str) -> bool {
        let reach = Reach::Discovered { from: url(from) };
        matches!(addresses(&url(text), &reach).await, Err(FetchError::Refused { .. }))
    }

    /// Spellings of addresses that nobody may be led to.
    #[tokio::test]
    async fn a_discovered_url_leads_into_no_private_network() {
        for host in [
            "127.0.0.1",
            "127.1",
            "2130706433",
            "0x7f000001",
            "0177.0.0.1",
            "0",
            "10.0.0.1",
            "172.16.0.1",
            "192.168.1.1",
            "100.64.0.1",
            "169.254.169.254",
            "169.254.1.1",
            "[::1]",
            "[::]",
            "[fe80::1]",
            "[fc00::1]",
            "[fd00:ec2::254]",
            "[::ffff:127.0.0.1]",
            "[::ffff:10.0.0.1]",
            "[64:ff9b::127.0.0.1]",
            "[64:ff9b:1::1]",
            "[2002:7f00:1::]",
            "[2002:0a00:0001::]",
            "[2001:0:53aa:64c::]",
            "[ff02::1]",
            "192.0.2.1",
            "224.0.0.1",
            "255.255.255.255",
            "localhost",
            "LOCALHOST",
            "%6c%6f%63%61%6c%68%6f%73%74",
            "１２７.0.0.1",
        ] {
            assert!(refused(&format!("https://{host}/keys"), "https://id.example/").await, "{host}");
        }
        for text in [
            "http://8.8.8.8/",
            "ftp://8.8.8.8/",
            "https://user:word@8.8.8.8/",
            "javascript:alert(1)",
            "file:///etc/passwd",
        ] {
            assert!(refused(text, "https://id.example/").await, "{text}");
        }
        assert!(!refused("https://8.8.8.8/keys", "https://id.example/").await);
    }

    /// An operator's own address is the operator's choice; a machine that names itself may name its other ports.
    #[tokio::test]
    async fn what_the_operator_wrote_may_be_asked() {
        for text in ["https://10.0.0.1/keys", "http://127.0.0.1:1/keys", "https://127.0.0.1/", "http://localhost:1/"] {
            assert!(addresses(&url(text), &Reach::Configured).await.is_ok(), "{text}");
        }
        for text in ["http://10.0.0.1/keys", "http://id.example/"] {
            assert!(addresses(&url(text), &Reach::Configured).await.is_err(), "{text}");
        }
        assert!(!refused("https://10.0.0.1/keys", "https://10.0.0.1/issuer").await, "the same origin");
        assert!(refused("https://10.0.0.1:8443/keys", "https://10.0.0.1/issuer").await, "another port of it");
        assert!(!refused("http://127.0.0.1:2/keys", "http://127.0.0.1:1/").await);
        assert!(refused("https://10.0.0.1/keys", "http://127.0.0.1:1/").await);
        assert!(refused("http://127.0.0.1:2/keys", "https://127.0.0.1:1/").await, "a step down to plain text");
    }
}
