//! Connections: accepted up to a number, each with deadlines, each ended in good order.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1::Builder;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tracing::Instrument;

use super::caller::Peer;
use super::guard;
use super::request;
use super::stall::Unstalled;
use crate::config::tls::Tls;
use crate::domain::crowd::Crowd;
use crate::domain::net::network;
use crate::gateway::Gateway;

/// Bytes of a request head.
const MAX_HEAD: usize = 16 * 1024;
/// The part of all connections that one address may hold, unless it is a trusted proxy's.
const SHARE: usize = 4;
/// How long connections may take to end once the gateway stops.
const LINGER: Duration = Duration::from_secs(5);

/// How long a connection may take over its own part.
#[derive(Debug, Clone, Copy)]
pub struct Deadlines {
    /// A request head, or a TLS handshake, that is not there after this long ends its connection.
    pub head: Duration,
    /// A connection that takes nothing for this long of what waits to be written is ended.
    pub write: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self { head: Duration::from_secs(10), write: Duration::from_secs(30) }
    }
}

/// A socket that listens; it serves once [`serve`] runs.
#[derive(Debug)]
pub struct Listening {
    listener: TcpListener,
    pub address: SocketAddr,
    pub deadlines: Deadlines,
}

impl Listening {
    /// Listens on `address`; port 0 picks one.
    ///
    /// # Errors
    /// Where the address is taken or not ours.
    pub async fn on(address: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address, deadlines: Deadlines::default() })
    }
}

/// Serves until the gateway stops, then lets connections end.
pub async fn serve(gateway: Arc<Gateway>, listening: Listening) {
    let router = super::router(Arc::clone(&gateway));
    let places = Arc::new(Semaphore::new(gateway.state().settings.gateway.max_connections));
    let graceful = GracefulShutdown::new();
    let deadlines = listening.deadlines;
    let (builder, crowd) = (builder(deadlines), Crowd::default());
    let stopping = gateway.stopping();
    // Whether it is TLS stays as it was at the start: a slip in a file must not put keys on the wire in the clear.
    let mut identity = gateway.state().settings.gateway.tls.as_ref().map(Tls::server);
    gateway.listens(listening.address, identity.is_some());
    while let Some(accepted) = stopping.run_until_cancelled(accept(&listening.listener, &places)).await {
        let Some((stream, peer, place)) = accepted else { continue };
        // One peer must not shut out the others; a proxy of ours brings many.
        let state = gateway.state();
        let settings = &state.settings.gateway;
        let trusted = settings.trusted_proxies.contains(&peer.ip());
        let most = if trusted { usize::MAX } else { settings.max_connections.div_ceil(SHARE) };
        let Some(seat) = crowd.seat(network(peer.ip()), most) else { continue };
        if let (Some(identity), Some(renewed)) = (&mut identity, &settings.tls) {
            *identity = renewed.server();
        }
        let service = service(Arc::clone(&gateway), router.clone(), Peer(Some(peer)), true);
        let stream = Unstalled::new(stream, deadlines.write);
        let (builder, watcher, identity, stopping) =
            (builder.clone(), graceful.watcher(), identity.clone(), stopping.clone());
        gateway.tasks().spawn(async move {
            let ended = match identity {
                None => watcher.watch(builder.serve_connection(TokioIo::new(stream), service)).await,
                Some(identity) => match stopping.run_until_cancelled(greet(identity, stream, deadlines.head)).await {
                    Some(Some(stream)) => watcher.watch(builder.serve_connection(TokioIo::new(stream), service)).await,
                    _ => Ok(()),
                },
            };
            if let Err(error) = ended {
                tracing::debug!(%error, "a connection ended badly");
            }
            drop((place, seat));
        });
    }
    drop(listening);
    if tokio::time::timeout(LINGER, graceful.shutdown()).await.is_err() {
        tracing::debug!("connections were still open when the gateway stopped");
    }
}

/// Shakes hands, within the deadline.
async fn greet<S>(identity: Arc<ServerConfig>, stream: S, deadline: Duration) -> Option<Box<TlsStream<S>>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    match tokio::time::timeout(deadline, TlsAcceptor::from(identity).accept(stream)).await {
        Ok(Ok(stream)) => Some(Box::new(stream)),
        Ok(Err(error)) => {
            tracing::debug!(%error, "a TLS handshake failed");
            None
        }
        Err(_) => {
            tracing::debug!("a TLS handshake took too long");
            None
        }
    }
}

type Accepted = (tokio::net::TcpStream, SocketAddr, tokio::sync::OwnedSemaphorePermit);

/// Waits for a place, then for a connection.
async fn accept(listener: &TcpListener, places: &Arc<Semaphore>) -> Option<Accepted> {
    let place = Arc::clone(places).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, peer)) => {
            // A small answer must not wait for the next one.
            if let Err(error) = stream.set_nodelay(true) {
                tracing::debug!(%error, "a connection keeps Nagle's algorithm");
            }
            // An IPv4 caller of a socket for both is an IPv4 caller.
            Some((stream, SocketAddr::new(peer.ip().to_canonical(), peer.port()), place))
        }
        Err(error) => {
            tracing::warn!(%error, "a connection could not be accepted");
            tokio::time::sleep(Duration::from_millis(50)).await;
            None
        }
    }
}

/// HTTP/1 alone: HTTP/2 in the clear is spoken by no MCP client, and its preface has no deadline.
fn builder(deadlines: Deadlines) -> Builder {
    let mut builder = Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(deadlines.head).max_buf_size(MAX_HEAD);
    builder
}

/// Hands a request to the router with its id and the address that it came from; past the guard, unless its sender holds
/// the machine.
fn service(
    gateway: Arc<Gateway>,
    router: Router,
    peer: Peer,
    guarded: bool,
) -> impl hyper::service::Service<Request<Incoming>, Response = http::Response<Body>, Error = Infallible, Future: Send> + Clone
{
    hyper::service::service_fn(move |request: Request<Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(peer);
        let (id, span) = request::begin(&mut request);
        let (gateway, router) = (Arc::clone(&gateway), router.clone());
        let answered = async move {
            let response = match guarded {
                true => guard::pass(&gateway, request, router).await,
                false => guard::answer(router, request).await,
            };
            Ok(request::finish(response, &id, || gateway.now()))
        };
        answered.instrument(span)
    })
}

/// Serves `router` on a socket of the file system that only its owner can open, until the gateway stops.
///
/// # Errors
/// Where the socket cannot be made.
pub async fn serve_socket(gateway: Arc<Gateway>, path: &Path, router: Router) -> io::Result<()> {
    if path.exists() {
        // The store's lock is ours, so whoever left this socket is gone.
        std::fs::remove_file(path)?;
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    let deadlines = Deadlines::default();
    let (builder, stopping) = (builder(deadlines), gateway.stopping());
    while let Some(accepted) = stopping.run_until_cancelled(listener.accept()).await {
        let Ok((stream, _)) = accepted else { continue };
        let service = service(Arc::clone(&gateway), router.clone(), Peer(None), false);
        let connection = builder.serve_connection(TokioIo::new(Unstalled::new(stream, deadlines.write)), service);
        gateway.tasks().spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a local connection ended badly");
            }
        });
    }
    drop(listener);
    std::fs::remove_file(path)
}
