//! What an answer, or none, says of a server's health; and the history of its breaker.

use std::sync::Arc;

use super::breaker::{BreakerState, Ticket};
use super::fault::{Fault, FaultKind};
use super::registry::Hub;
use super::server::Server;
use crate::domain::json::Json;
use crate::store::BreakerChange;

impl Server {
    /// Tells the breaker how a request went. `by_caller`: the caller's own impatience set the deadline.
    pub(super) fn learn(&self, answer: &Result<Json, Fault>, ticket: Ticket<'_>, by_caller: bool, hub: &Arc<Hub>) {
        match answer {
            Err(fault) if fault.kind == FaultKind::Timeout && by_caller => drop(ticket),
            // One user's account says nothing of the server.
            Err(Fault { kind: FaultKind::Rejected, .. }) if self.settings().provider.is_some() => drop(ticket),
            Err(fault) if fault.counts() => {
                self.note(&fault.detail);
                let was_closed = self.breaker.state() == BreakerState::Closed;
                if ticket.failed(hub.clock.ticks()) {
                    tracing::warn!(server = %self.name, "too many failures in a row: the server is left alone for a while");
                    if was_closed {
                        hub.breaker_changed(self, BreakerState::Open, fault.word());
                    }
                }
                self.meters.circuit(self.breaker.state());
            }
            _ => {
                if ticket.succeeded() {
                    tracing::info!(server = %self.name, "the server answers again");
                    hub.breaker_changed(self, BreakerState::Closed, "");
                    self.meters.circuit(self.breaker.state());
                    self.refresh.notify_one();
                }
            }
        }
    }
}

impl Hub {
    /// Keeps a change of a breaker for whoever looks back. What cannot be kept is logged, and holds nothing up.
    pub(super) fn breaker_changed(&self, server: &Server, state: BreakerState, why: &'static str) {
        let Some(store) = self.store.clone() else { return };
        let (time, server) = (self.clock.now(), server.name.to_string());
        let change = BreakerChange { time, server, state: state.as_str().into(), why: why.into() };
        self.tracker.spawn(async move {
            if let Err(error) = store.note_breaker(change).await {
                tracing::warn!(%error, "a change of a breaker could not be kept");
            }
        });
    }
}
