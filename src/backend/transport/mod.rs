//! How backends are reached: one file per transport, and what several of them share.
//!
//! Opening a link is rare, and its future large: it stands in a box, so that a call, which may have to wait for one, does
//! not carry it along.

mod answer;
mod asking;
mod channel;
mod child;
mod client;
mod duplex;
mod greet;
mod held;
mod http;
mod kin;
mod sse;
mod stdio;
mod wire;
mod ws;

use std::sync::Arc;

use ::http::{HeaderName, Uri};
use tokio_util::task::TaskTracker;

pub(crate) use self::child::{Program, Tail};
pub(crate) use self::duplex::DuplexLink;
pub(crate) use self::held::{Allowance, OF_ALL, OF_KEY};
pub(crate) use self::http::HttpLink;
use super::fault::Fault;
use super::oauth::Authorization;
use super::peer::Audience;
use crate::config::Ca;
use crate::domain::secret::Secret;
use crate::wire::era::Era;

/// Where a backend is, and what it is told with every request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place<'a> {
    pub url: &'a Uri,
    pub headers: &'a [(HeaderName, Secret)],
    /// The gateway's own token, where the backend asks for one.
    pub authorization: Option<&'a Arc<Authorization>>,
    /// Whose certificates it is known by, where those are not the system's.
    pub ca: Option<&'a Ca>,
    /// Bytes of one answer, where they are others than the transport's.
    pub limit: Option<usize>,
}

/// A child process.
pub(crate) async fn stdio(
    program: Program<'_>,
    before: Option<Era>,
    tracker: &TaskTracker,
    tail: &Tail,
    audience: &Audience,
) -> Result<DuplexLink, Fault> {
    Box::pin(DuplexLink::open(&stdio::Stdio { program, tracker, tail }, before, tracker, audience)).await
}

/// HTTP with server-sent events. No modern server speaks it, so nobody is asked whether he is one.
pub(crate) async fn sse(place: Place<'_>, tracker: &TaskTracker, audience: &Audience) -> Result<DuplexLink, Fault> {
    Box::pin(DuplexLink::open(&sse::Sse { place, tracker }, Some(Era::Legacy), tracker, audience)).await
}

/// WebSocket.
pub(crate) async fn ws(
    place: Place<'_>,
    before: Option<Era>,
    tracker: &TaskTracker,
    audience: &Audience,
) -> Result<DuplexLink, Fault> {
    Box::pin(DuplexLink::open(&ws::Ws { place, tracker }, before, tracker, audience)).await
}
