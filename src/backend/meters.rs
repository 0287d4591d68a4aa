//! Figures of one server. The handles are made once: looking them up for each call would cost more than recording.

use metrics::{Gauge, Histogram, gauge, histogram};

use super::breaker::BreakerState;
use crate::domain::tool::Kind;

/// How a call ended, for the histogram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    Ok,
    /// `isError: true`.
    ToolError,
    /// A JSON-RPC error.
    RpcError,
    /// No answer at all.
    Failed,
}

#[derive(Clone)]
pub(crate) struct Meters {
    up: Gauge,
    circuit: Gauge,
    tools: Gauge,
    calls: Durations,
    prompts: Durations,
    resources: Durations,
}

/// How long requests of one method took, by their ending.
#[derive(Clone)]
struct Durations {
    ok: Histogram,
    tool_error: Histogram,
    rpc_error: Histogram,
    failed: Histogram,
}

impl std::fmt::Debug for Meters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Meters")
    }
}

impl Meters {
    pub(crate) fn new(server: &str) -> Self {
        let server = server.to_owned();
        Self {
            up: gauge!("toolgate_upstream_up", "server" => server.clone()),
            circuit: gauge!("toolgate_circuit_state", "server" => server.clone()),
            tools: gauge!("toolgate_catalog_tools", "server" => server.clone()),
            calls: Durations::new(&server, "tools/call"),
            prompts: Durations::new(&server, "prompts/get"),
            resources: Durations::new(&server, "resources/read"),
        }
    }

    pub(crate) fn up(&self, up: bool) {
        self.up.set(if up { 1.0 } else { 0.0 });
    }

    /// 0 closed, 1 half-open, 2 open.
    pub(crate) fn circuit(&self, state: BreakerState) {
        self.circuit.set(match state {
            BreakerState::Closed => 0.0,
            BreakerState::HalfOpen => 1.0,
            BreakerState::Open => 2.0,
        });
    }

    pub(crate) fn tools(&self, count: usize) {
        self.tools.set(f64::from(u32::try_from(count).unwrap_or(u32::MAX)));
    }

    /// One call, in microseconds.
    pub(crate) fn call(&self, kind: Kind, ending: Ending, micros: u64) {
        let seconds = std::time::Duration::from_micros(micros).as_secs_f64();
        let durations = match kind {
            Kind::Tool => &self.calls,
            Kind::Prompt => &self.prompts,
            Kind::Resource | Kind::Entity => &self.resources,
        };
        match ending {
            Ending::Ok => durations.ok.record(seconds),
            Ending::ToolError => durations.tool_error.record(seconds),
            Ending::RpcError => durations.rpc_error.record(seconds),
            Ending::Failed => durations.failed.record(seconds),
        }
    }
}

impl Durations {
    fn new(server: &str, method: &'static str) -> Self {
        let duration = |error: &'static str| {
            histogram!(
                "mcp_client_operation_duration_seconds",
                "server" => server.to_owned(), "mcp_method_name" => method, "error_type" => error
            )
        };
        Self {
            ok: duration(""),
            tool_error: duration("tool_error"),
            rpc_error: duration("rpc_error"),
            failed: duration("failed"),
        }
    }
}
