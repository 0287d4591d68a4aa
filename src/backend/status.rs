//! A server as operators see it.

use serde::Serialize;

use super::breaker::BreakerView;
use crate::domain::id::ServerName;
use crate::wire::era::Era;

/// Where a server stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ServerState {
    /// Being connected for the first time, or again.
    Connecting,
    /// Connected, its tools listed.
    Ready,
    /// Not there; tried again after a while.
    Down,
    /// Removed, or the gateway stops.
    Stopped,
}

impl ServerState {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Ready => "ready",
            Self::Down => "down",
            Self::Stopped => "stopped",
        }
    }
}

/// A server as operators see it.
#[derive(Debug, Clone, Serialize)]
pub struct ServerStatus {
    pub name: ServerName,
    /// `stdio`, `http`, `sse` or `ws`.
    pub transport: &'static str,
    pub state: ServerState,
    /// Milliseconds since 1970 when the state began.
    pub since: i64,
    /// `legacy` or `modern`, once it has been greeted.
    pub era: Option<&'static str>,
    /// The revision spoken.
    pub version: Option<String>,
    pub title: Option<String>,
    pub tools: usize,
    /// The tools are what it listed before it went away.
    pub stale: bool,
    pub last_error: Option<String>,
    /// The last lines of a child's standard error.
    pub stderr: Vec<String>,
    pub breaker: BreakerView,
    pub in_flight: usize,
    pub warnings: Vec<String>,
}

pub(crate) const fn era_word(era: Era) -> &'static str {
    era.as_str()
}
