//! The HTTP client towards one backend: connections are kept, nothing is followed, unpacked or remembered.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::uri::Scheme;
use http::{Request, Response, Uri};
use http_body::Body as _;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_rustls::builderstates::WantsSchemes;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

use super::held::Held;
use crate::backend::fault::{Fault, FaultKind};
use crate::config::Ca;

/// Largest answer that is read from a backend over HTTP, in bytes, unless it is configured.
pub(crate) const MAX_ANSWER: usize = 64 << 20;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
const MAX_IDLE: usize = 256;

type Body = Full<Bytes>;
/// A connection with TLS.
pub(super) type TlsStream = TokioIo<MaybeHttpsStream<TokioIo<TcpStream>>>;
type TlsClient = Client<HttpsConnector<HttpConnector>, Body>;

/// A client for one URL's authority.
#[derive(Debug, Clone)]
pub(crate) enum HttpClient {
    /// `http://`: a stack of idle connections, the cheapest thing there is.
    Plain(Arc<PlainPool>),
    /// `https://`: HTTP/2 where the server offers it.
    Tls(Box<TlsClient>),
}

/// A response whose connection goes back to the stack once the body has been read to its end.
#[derive(Debug)]
pub(crate) struct Exchange {
    pub response: Response<Incoming>,
    /// The room that the body takes, where it is large.
    pub held: Held,
    /// Bytes of the body that are read at most.
    pub cap: usize,
    lease: Option<(Arc<PlainPool>, SendRequest<Body>)>,
}

impl HttpClient {
    /// A client for `url`; the system's roots are loaded only when the first `https://` URL without a `ca` asks for them.
    pub(crate) fn new(url: &Uri, tracker: &TaskTracker, ca: Option<&Ca>) -> Result<Self, Fault> {
        match url.scheme_str() {
            Some("http") => Ok(Self::Plain(Arc::new(PlainPool::new(url, tracker.clone())?))),
            Some("https") => Ok(Self::Tls(Box::new(tls_client(ca)?))),
            _ => Err(Fault::new(FaultKind::Connect, "the URL is neither http:// nor https://")),
        }
    }

    /// True where `Host` has to be given and the request line holds the path alone.
    pub(crate) const fn is_plain(&self) -> bool {
        matches!(self, Self::Plain(_))
    }

    /// Sends a request and waits for the head of the response.
    pub(crate) async fn send(&self, request: Request<Body>) -> Result<Exchange, Fault> {
        match self {
            Self::Plain(pool) => pool.send(request).await,
            Self::Tls(client) => match client.request(request).await {
                Ok(response) => Ok(Exchange { response, held: Held::default(), cap: MAX_ANSWER, lease: None }),
                Err(error) if error.is_connect() => Err(Fault::new(FaultKind::Connect, sources(&error))),
                Err(error) => Err(Fault::broken(sources(&error))),
            },
        }
    }
}

impl Exchange {
    /// The same with another bound on its body.
    pub(crate) fn within(self, cap: usize) -> Self {
        Self { cap, ..self }
    }

    /// Reads the rest of the body, at most `cap` bytes of it.
    pub(crate) async fn body(mut self, cap: usize) -> Result<Bytes, Fault> {
        let body = self.response.body_mut();
        if body.size_hint().lower() > cap as u64 {
            return Err(too_large(cap));
        }
        self.held.reaches(usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX))?;
        let mut first = Bytes::new();
        let mut more: Option<BytesMut> = None;
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.map_err(|error| Fault::broken(sources(&error)))?.into_data() else { continue };
            if first.is_empty() {
                first = data;
                continue;
            }
            let whole = more.get_or_insert_with(|| {
                let expected = usize::try_from(body.size_hint().lower()).unwrap_or(0);
                let mut whole = BytesMut::with_capacity((first.len() + data.len() + expected).min(cap));
                whole.extend_from_slice(&first);
                whole
            });
            if whole.len() + data.len() > cap {
                return Err(too_large(cap));
            }
            self.held.reaches(whole.len() + data.len())?;
            whole.extend_from_slice(&data);
        }
        self.give_back();
        let whole = more.map_or(first, BytesMut::freeze);
        if whole.len() > cap { Err(too_large(cap)) } else { Ok(self.held.keep(whole)) }
    }

    /// The next piece of a streamed body; `None` at its end.
    pub(crate) async fn piece(&mut self) -> Option<Result<Bytes, Fault>> {
        loop {
            match self.response.body_mut().frame().await? {
                Ok(frame) => {
                    if let Ok(data) = frame.into_data() {
                        return Some(Ok(data));
                    }
                }
                Err(error) => return Some(Err(Fault::broken(sources(&error)))),
            }
        }
    }

    /// True where the body has been read to its end.
    pub(crate) fn is_finished(&self) -> bool {
        self.response.body().is_end_stream()
    }

    /// The body has been read to its end: the connection may serve another request.
    pub(crate) fn give_back(&mut self) {
        if let Some((pool, sender)) = self.lease.take() {
            pool.put(sender);
        }
    }
}

fn too_large(cap: usize) -> Fault {
    Fault::garbled(format!("the answer is larger than {cap} bytes"))
}

/// Idle connections to one `http://` authority. A connection serves one request at a time; the youngest is used first.
#[derive(Debug)]
pub(crate) struct PlainPool {
    host: String,
    port: u16,
    /// Each with the moment since when nobody uses it.
    idle: Mutex<VecDeque<(Instant, SendRequest<Body>)>>,
    tracker: TaskTracker,
}

impl PlainPool {
    fn new(url: &Uri, tracker: TaskTracker) -> Result<Self, Fault> {
        let host = host(url)?.to_owned();
        Ok(Self { host, port: url.port_u16().unwrap_or(80), idle: Mutex::default(), tracker })
    }

    async fn send(self: &Arc<Self>, mut request: Request<Body>) -> Result<Exchange, Fault> {
        while let Some(mut sender) = self.take() {
            if sender.ready().await.is_err() {
                continue;
            }
            match sender.try_send_request(request).await {
                Ok(response) => return Ok(self.exchange(response, sender)),
                // The backend had closed the idle connection before anything was written on it.
                Err(mut error) => match error.take_message() {
                    Some(unsent) => request = unsent,
                    None => return Err(Fault::broken(sources(error.error()))),
                },
            }
        }
        let mut sender = Box::pin(self.connect()).await?;
        match sender.send_request(request).await {
            Ok(response) => Ok(self.exchange(response, sender)),
            Err(error) => Err(Fault::broken(sources(&error))),
        }
    }

    fn exchange(self: &Arc<Self>, response: Response<Incoming>, sender: SendRequest<Body>) -> Exchange {
        Exchange { response, held: Held::default(), cap: MAX_ANSWER, lease: Some((Arc::clone(self), sender)) }
    }

    async fn connect(&self) -> Result<SendRequest<Body>, Fault> {
        let stream = dial(&self.host, self.port).await?;
        let (sender, connection) = http1::Builder::new()
            .max_headers(100)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| Fault::new(FaultKind::Connect, sources(&error)))?;
        self.tracker.spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to a backend ended");
            }
        });
        Ok(sender)
    }

    fn take(&self) -> Option<SendRequest<Body>> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some((_, sender)) = idle.pop_back() {
            if !sender.is_closed() {
                return Some(sender);
            }
        }
        None
    }

    fn put(&self, sender: SendRequest<Body>) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        // The one that has been idle longest goes when its time is over; one look at each return is enough.
        if idle.len() >= MAX_IDLE || idle.front().is_some_and(|(since, _)| since.elapsed() > IDLE_TIMEOUT) {
            idle.pop_front();
        }
        if !sender.is_closed() {
            idle.push_back((Instant::now(), sender));
        }
    }

    /// Closes the connections that nobody uses.
    pub(crate) fn clear(&self) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

async fn dial(host: &str, port: u16) -> Result<TcpStream, Fault> {
    let stream = match tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect((host, port))).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Err(Fault::new(FaultKind::Connect, format!("cannot connect: {error}"))),
        Err(_) => return Err(Fault::new(FaultKind::Connect, "cannot connect: no answer")),
    };
    stream.set_nodelay(true).map_err(|error| Fault::new(FaultKind::Connect, error.to_string()))?;
    Ok(stream)
}

/// The host that a URL names, without the brackets of an address.
fn host(url: &Uri) -> Result<&str, Fault> {
    let host = url.host().ok_or_else(|| Fault::new(FaultKind::Connect, "the URL names no host"))?;
    Ok(host.trim_start_matches('[').trim_end_matches(']'))
}

/// A connection to where a `ws:` URL leads.
pub(super) async fn plain_stream(url: &Uri) -> Result<TcpStream, Fault> {
    dial(host(url)?, url.port_u16().unwrap_or(80)).await
}

/// A connection with TLS to where a `wss:` URL leads, with the roots that `https:` has.
pub(super) async fn tls_stream(url: &Uri, ca: Option<&Ca>) -> Result<TlsStream, Fault> {
    static CONNECTOR: OnceLock<Result<HttpsConnector<HttpConnector>, String>> = OnceLock::new();
    let new = |ca| {
        let (builder, http) = tls_connector(ca)?;
        Ok(builder.https_only().enable_http1().wrap_connector(http))
    };
    let connector = if ca.is_some() { new(ca) } else { CONNECTOR.get_or_init(|| new(None)).clone() };
    let connector = connector.map_err(|error| Fault::new(FaultKind::Connect, error))?;
    let mut parts = url.clone().into_parts();
    parts.scheme = Some(Scheme::HTTPS);
    let url = Uri::from_parts(parts).map_err(|error| Fault::new(FaultKind::Connect, error.to_string()))?;
    let connected = connector.oneshot(url).await;
    connected.map(TokioIo::new).map_err(|error| Fault::new(FaultKind::Connect, sources(&*error)))
}

type Roots = (HttpsConnectorBuilder<WantsSchemes>, HttpConnector);

/// With the system's roots, or those of a server's own.
fn tls_connector(ca: Option<&Ca>) -> Result<Roots, String> {
    let mut http = HttpConnector::new();
    http.enforce_http(false);
    http.set_nodelay(true);
    http.set_connect_timeout(Some(CONNECT_TIMEOUT));
    let builder = HttpsConnectorBuilder::new();
    let builder = match ca {
        Some(ca) => builder.with_tls_config(ca.client()),
        None => builder
            .with_provider_and_native_roots(rustls::crypto::ring::default_provider())
            .map_err(|error| format!("the system's root certificates cannot be loaded: {error}"))?,
    };
    Ok((builder, http))
}

fn tls_client(ca: Option<&Ca>) -> Result<TlsClient, Fault> {
    static CONNECTOR: OnceLock<Result<HttpsConnector<HttpConnector>, String>> = OnceLock::new();
    let new = |ca| {
        let (builder, http) = tls_connector(ca)?;
        Ok(builder.https_only().enable_all_versions().wrap_connector(http))
    };
    let connector = if ca.is_some() { new(ca) } else { CONNECTOR.get_or_init(|| new(None)).clone() };
    let connector = connector.map_err(|error| Fault::new(FaultKind::Connect, error))?;
    let client = Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .timer(TokioTimer::new())
        .pool_idle_timeout(IDLE_TIMEOUT)
        .pool_max_idle_per_host(MAX_IDLE)
        .http1_max_headers(100)
        .build(connector);
    Ok(client)
}

/// An error with its causes, on one line.
pub(crate) fn sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}
