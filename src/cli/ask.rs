//! Puts a command to the running gateway through its socket, or else to one opened here under the store's lock.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::UnixStream;
use tokio_util::task::TaskTracker;

use super::{Common, print};
use crate::domain::clock::SystemClock;
use crate::gateway::control::{Command, Failed};
use crate::gateway::sources::Sources;
use crate::gateway::{Gateway, Opening};
use crate::http::control;

/// The socket's name in the data folder.
pub(super) const SOCKET: &str = "control.sock";
/// How long an own gateway waits for its backends.
const SETTLE: Duration = Duration::from_secs(30);

/// What a command needs where no server runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Need {
    /// Keys and the audit log, as they are.
    Records,
    /// The configuration and the store.
    Configuration,
    /// All of it, with every backend started.
    Backends,
}

/// A gateway that answers commands.
#[derive(Debug)]
pub(super) enum Desk {
    Running(PathBuf),
    Own(Arc<Gateway>),
}

impl Desk {
    /// The running gateway of the data folder, or one of our own. `backends` says whether the command needs them.
    pub(super) async fn open(common: &Common, need: Need) -> anyhow::Result<Self> {
        let socket = common.data_dir.join(SOCKET);
        if UnixStream::connect(&socket).await.is_ok() {
            return Ok(Self::Running(socket));
        }
        if need == Need::Records && !Gateway::has_store(&common.data_dir) {
            bail!("there is no store in `{}`: name its folder with `--data-dir`", common.data_dir.display());
        }
        let backends = need == Need::Backends;
        let open = async |sources: Sources| {
            let (data, clock) = (common.data_dir.clone(), Arc::new(SystemClock));
            Gateway::open(Opening { sources, data, admin_key: None, serve: false, backends, clock }).await
        };
        let gateway = match open(common.sources()).await {
            // Records are read, and keys revoked, without what the servers need: an auditor's shell has no tokens of theirs.
            Err(why) if need == Need::Records => {
                let gateway = open(Sources::shipped()).await?;
                let why = why.to_string();
                let first = why.lines().next().unwrap_or_default();
                print::note(&print::clean(&format!(
                    "going by what ships, for the configuration cannot be used: {first}"
                )));
                gateway
            }
            opened => opened?,
        };
        if backends {
            settle(&gateway).await;
        }
        Ok(Self::Own(gateway))
    }

    /// Carries one command out.
    pub(super) async fn ask(&self, command: Command) -> anyhow::Result<Value> {
        match self {
            Self::Own(gateway) => Ok(gateway.control(command).await?),
            Self::Running(socket) => send(socket, &command).await,
        }
    }

    pub(super) async fn close(self) {
        if let Self::Own(gateway) = self {
            gateway.stop(Duration::from_secs(3)).await;
        }
    }
}

/// One command to one answer.
pub(super) async fn ask(common: &Common, need: Need, command: Command) -> anyhow::Result<Value> {
    let desk = Desk::open(common, need).await?;
    let answer = desk.ask(command).await;
    desk.close().await;
    answer
}

/// Waits until every backend has been listed or has failed, and what was listed can be called.
async fn settle(gateway: &Gateway) {
    let ready = async {
        let mut changes = gateway.changes();
        while !gateway.settled() {
            let _woken = tokio::time::timeout(Duration::from_millis(50), changes.changed()).await;
        }
    };
    // A backend that is slower than this is reported as such by what is asked next.
    let _in_time = tokio::time::timeout(SETTLE, ready).await;
}

/// The URL of the gateway that serves with this data folder, if one does.
pub(super) async fn local_url(data_dir: &Path) -> Option<String> {
    let request = Request::get(control::URL_PATH).header(header::HOST, "localhost").body(Full::default()).ok()?;
    match exchange(&data_dir.join(SOCKET), request).await {
        Ok((StatusCode::OK, url)) => String::from_utf8(url.to_vec()).ok(),
        _ => None,
    }
}

async fn send(socket: &Path, command: &Command) -> anyhow::Result<Value> {
    let request = Request::builder()
        .method(Method::POST)
        .uri(control::PATH)
        .header(header::HOST, "localhost")
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::new(Bytes::from(serde_json::to_vec(command)?)))?;
    match exchange(socket, request).await? {
        (StatusCode::OK, body) => Ok(serde_json::from_slice(&body)?),
        (StatusCode::UNPROCESSABLE_ENTITY, body) => Err(serde_json::from_slice::<Failed>(&body)?.into()),
        (other, _) => bail!("the running gateway answered {other}: is it of this version?"),
    }
}

async fn exchange(socket: &Path, request: Request<Full<Bytes>>) -> anyhow::Result<(StatusCode, Bytes)> {
    let stream = UnixStream::connect(socket)
        .await
        .with_context(|| format!("the gateway at `{}` does not answer", socket.display()))?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let tasks = TaskTracker::new();
    let driving = tasks.spawn(connection);
    let response = sender.send_request(request).await?;
    let status = response.status();
    let body = response.into_body().collect().await?.to_bytes();
    driving.abort();
    Ok((status, body))
}
