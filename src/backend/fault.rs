//! What goes wrong between the gateway and a backend, before it is told to a caller.

use crate::domain::json::Json;
use crate::domain::plain::plain;

/// Why a request to a backend gave no result. The detail is for operators, never for callers.
#[derive(Debug, Clone)]
pub(crate) struct Fault {
    pub kind: FaultKind,
    pub detail: String,
    /// The call had been sent before, and may have had its effect then.
    repeated: bool,
    /// It came before the call was taken, whatever it is.
    unsent: bool,
}

/// The kinds of fault, by what follows from them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum FaultKind {
    /// Nothing of the request reached the backend.
    Connect,
    /// The connection or the child ended before an answer.
    Broken,
    /// An HTTP status of the 5xx class.
    Status(u16),
    /// An HTTP status of the 4xx class, and no error of MCP's: nothing here takes such a request.
    Unserved(u16),
    /// A legacy session that the backend no longer knows.
    SessionLost,
    /// The backend does not take the gateway's credentials (401, 403).
    Rejected,
    Timeout,
    /// The answer is no MCP.
    Garbled,
    /// 429, or too many calls wait already; seconds after which another try makes sense.
    Busy(Option<u64>),
    /// It gave a large answer while as many are held in memory as may be.
    Full,
    /// The breaker is open for this many seconds.
    Resting(u64),
    /// A JSON-RPC error, as it came.
    Rpc(Json),
    /// The backend asks for something that the gateway cannot give.
    Unsupported,
    /// The server is being removed, or the gateway stops.
    Stopped,
}

/// Longest detail, in bytes: it may quote what a hostile backend sent.
const MAX_DETAIL: usize = 800;

impl Fault {
    pub(crate) fn new(kind: FaultKind, detail: impl Into<String>) -> Self {
        let mut detail = detail.into();
        if detail.len() > MAX_DETAIL {
            detail = detail.chars().take(MAX_DETAIL / 4).collect();
        }
        Self { kind, detail: plain(detail), repeated: false, unsent: false }
    }

    /// The same of a call that had been sent before.
    pub(crate) fn repeated(self) -> Self {
        Self { repeated: true, ..self }
    }

    /// The same where the call had not been taken when it came.
    pub(crate) fn unsent(self) -> Self {
        Self { unsent: true, ..self }
    }

    pub(crate) fn garbled(detail: impl Into<String>) -> Self {
        Self::new(FaultKind::Garbled, detail)
    }

    pub(crate) fn broken(detail: impl Into<String>) -> Self {
        Self::new(FaultKind::Broken, detail)
    }

    /// Whether the backend's health is in doubt. What it refused in good order is no failure of it, nor what says that the
    /// request was malformed or too large.
    pub(crate) const fn counts(&self) -> bool {
        matches!(
            self.kind,
            FaultKind::Connect
                | FaultKind::Broken
                | FaultKind::Status(_)
                | FaultKind::Unserved(_)
                | FaultKind::Timeout
                | FaultKind::Garbled
                | FaultKind::Rejected
        ) && !matches!(self.kind, FaultKind::Unserved(400 | 413 | 414 | 431))
    }

    /// Whether a repeatable call may be sent once more at once.
    pub(crate) const fn worth_repeating(&self) -> bool {
        matches!(self.kind, FaultKind::Connect | FaultKind::Broken | FaultKind::Status(_) | FaultKind::SessionLost)
    }

    /// Whether the call certainly had no effect, so that sending it again is safe for any tool.
    pub(crate) const fn without_effect(&self) -> bool {
        !self.repeated
            && (self.unsent
                || matches!(
                    self.kind,
                    FaultKind::Connect | FaultKind::Busy(_) | FaultKind::Resting(_) | FaultKind::SessionLost
                ))
    }

    /// Whether nothing at the URL takes posts of MCP.
    pub(crate) const fn takes_no_posts(&self) -> bool {
        matches!(self.kind, FaultKind::Unserved(400 | 405) | FaultKind::SessionLost)
    }

    /// Whether it is the credentials alone that were refused (401).
    pub(crate) fn is_unauthorized(&self) -> bool {
        self.kind == FaultKind::Rejected && self.detail == "HTTP 401"
    }

    /// The JSON-RPC error code, where the fault is one.
    pub(crate) fn code(&self) -> Option<i64> {
        #[derive(serde::Deserialize)]
        struct Code {
            code: i64,
        }
        match &self.kind {
            FaultKind::Rpc(error) => error.decode::<Code>().ok().map(|error| error.code),
            _ => None,
        }
    }

    /// A short word for metrics and logs.
    pub(crate) const fn word(&self) -> &'static str {
        match self.kind {
            FaultKind::Connect => "connect",
            FaultKind::Broken => "broken",
            FaultKind::Status(_) | FaultKind::Unserved(_) => "http_status",
            FaultKind::SessionLost => "session_lost",
            FaultKind::Rejected => "rejected",
            FaultKind::Timeout => "timeout",
            FaultKind::Garbled => "garbled",
            FaultKind::Busy(_) => "busy",
            FaultKind::Full => "full",
            FaultKind::Resting(_) => "resting",
            FaultKind::Rpc(_) => "rpc_error",
            FaultKind::Unsupported => "unsupported",
            FaultKind::Stopped => "stopped",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backend_writes_no_lines_of_a_log() {
        let fault = Fault::garbled("revision `1\n2026-11-21T00:00:00Z ERROR \u{202e}x\u{1b}[2J`");
        assert_eq!(fault.detail, r"revision `1\n2026-11-21T00:00:00Z ERROR \u{202e}x\u{1b}[2J`");
        assert!(
            !Fault::new(FaultKind::Unserved(431), "").counts() && Fault::new(FaultKind::Unserved(404), "").counts()
        );
    }

    #[test]
    fn what_was_sent_before_may_have_had_its_effect() {
        let fault = Fault::new(FaultKind::Connect, "nobody there");
        assert!(fault.without_effect());
        assert!(!fault.repeated().without_effect());
    }
}
