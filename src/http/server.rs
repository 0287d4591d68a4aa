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
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Semaphore;
use tower::ServiceExt;

use super::caller::Peer;
use super::guard;
use crate::domain::crowd::Crowd;
use crate::domain::net::network;
use crate::gateway::Gateway;

/// A request head that has not arrived after this long ends its connection.
const HEAD_DEADLINE: Duration = Duration::from_secs(10);
/// Bytes of a request head.
const MAX_HEAD: usize = 16 * 1024;
/// The part of all connections that one address may hold, unless it is a trusted proxy's.
const SHARE: usize = 4;
/// How long connections may take to end once the gateway stops.
const LINGER: Duration = Duration::from_secs(5);

/// A socket that listens; it serves once [`serve`] runs.
#[derive(Debug)]
pub struct Listening {
    listener: TcpListener,
    pub address: SocketAddr,
}

impl Listening {
    /// Listens on `address`; port 0 picks one.
    ///
    /// # Errors
    /// Where the address is taken or not ours.
    pub async fn on(address: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address })
    }
}

/// Serves until the gateway stops, then lets connections end.
pub async fn serve(gateway: Arc<Gateway>, listening: Listening) {
    let router = super::router(Arc::clone(&gateway));
    let places = Arc::new(Semaphore::new(gateway.state().settings.gateway.max_connections));
    let graceful = GracefulShutdown::new();
    let (builder, crowd) = (builder(), Crowd::default());
    let stopping = gateway.stopping();
    while let Some(accepted) = stopping.run_until_cancelled(accept(&listening.listener, &places)).await {
        let Some((stream, peer, place)) = accepted else { continue };
        // One peer must not shut out the others; a proxy of ours brings many.
        let state = gateway.state();
        let settings = &state.settings.gateway;
        let trusted = settings.trusted_proxies.contains(&peer.ip());
        let most = if trusted { usize::MAX } else { settings.max_connections.div_ceil(SHARE) };
        let Some(seat) = crowd.seat(network(peer.ip()), most) else { continue };
        let service = guarded(Arc::clone(&gateway), router.clone(), Peer(Some(peer)));
        let connection = graceful.watch(builder.serve_connection(TokioIo::new(stream), service));
        gateway.tasks().spawn(async move {
            if let Err(error) = connection.await {
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
fn builder() -> Builder {
    let mut builder = Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_DEADLINE).max_buf_size(MAX_HEAD);
    builder
}

/// Hands a request to the guard, and from there to the router, with the address that it came from.
fn guarded(
    gateway: Arc<Gateway>,
    router: Router,
    peer: Peer,
) -> impl hyper::service::Service<Request<Incoming>, Response = http::Response<Body>, Error = Infallible, Future: Send> + Clone
{
    hyper::service::service_fn(move |request: Request<Incoming>| {
        let (gateway, router) = (Arc::clone(&gateway), router.clone());
        async move {
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(peer);
            Ok(guard::pass(&gateway, request, router).await)
        }
    })
}

/// Hands a request to the router.
fn service(
    router: Router,
    peer: Peer,
) -> impl hyper::service::Service<Request<Incoming>, Response = http::Response<Body>, Error = Infallible, Future: Send> + Clone
{
    hyper::service::service_fn(move |request: Request<Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(peer);
        router.clone().oneshot(request)
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
    let (builder, stopping) = (builder(), gateway.stopping());
    while let Some(accepted) = stopping.run_until_cancelled(listener.accept()).await {
        let Ok((stream, _)) = accepted else { continue };
        let connection = answer_on(&builder, stream, router.clone());
        gateway.tasks().spawn(connection);
    }
    drop(listener);
    std::fs::remove_file(path)
}

fn answer_on<S>(builder: &Builder, stream: S, router: Router) -> impl Future<Output = ()> + Send + 'static
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let connection = builder.serve_connection(TokioIo::new(stream), service(router, Peer(None)));
    async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a local connection ended badly");
        }
    }
}
