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
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Semaphore;
use tower::ServiceExt;

use super::caller::Peer;
use crate::gateway::Gateway;

/// A request head that has not arrived after this long ends its connection.
const HEAD_DEADLINE: Duration = Duration::from_secs(10);
/// Bytes of a request head.
const MAX_HEAD: usize = 16 * 1024;
/// Requests at a time on one HTTP/2 connection.
const MAX_STREAMS: u32 = 100;
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
    let builder = builder();
    let stopping = gateway.stopping();
    while let Some(accepted) = stopping.run_until_cancelled(accept(&listening.listener, &places)).await {
        let Some((stream, peer, place)) = accepted else { continue };
        let service = service(router.clone(), Peer(Some(peer)));
        let connection =
            graceful.watch(builder.serve_connection_with_upgrades(TokioIo::new(stream), service).into_owned());
        gateway.tasks().spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection ended badly");
            }
            drop(place);
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
            Some((stream, peer, place))
        }
        Err(error) => {
            tracing::warn!(%error, "a connection could not be accepted");
            tokio::time::sleep(Duration::from_millis(50)).await;
            None
        }
    }
}

fn builder() -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_DEADLINE)
        .max_buf_size(MAX_HEAD)
        .half_close(false);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(u32::try_from(MAX_HEAD).unwrap_or(u32::MAX))
        .keep_alive_interval(Duration::from_secs(30));
    builder
}

/// Hands a request to the router with the address that it came from.
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

fn answer_on<S>(
    builder: &Builder<TokioExecutor>,
    stream: S,
    router: Router,
) -> impl Future<Output = ()> + Send + 'static
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let connection = builder.serve_connection(TokioIo::new(stream), service(router, Peer(None))).into_owned();
    async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a local connection ended badly");
        }
    }
}
