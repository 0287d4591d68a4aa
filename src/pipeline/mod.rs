//! Floor 5: the sentence. Every call, from every entrance, is [`Pipeline::carry`].
//!
//! A `CallRequest` of a `Principal` is *opened* in the journal, *resolved* to a `Call`, *scanned*, *decided* by the
//! policy, where that says so *approved* by a person, *charged* to the limits, and as a `PermittedCall` *sent*; the
//! `Outcome`, *scanned*, *closes* the record.

mod account;
mod approval;
mod record;
mod resolve;
mod scan;
mod state;

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use self::record::{Record, cache_digest};
use self::resolve::Decided;
pub use self::resolve::{Origin, OwnTool, OwnTools, Road, Running, own_answer};
pub use self::scan::{Scanned, examine};
pub use self::state::{Sight, State};
use crate::approvals::Approvals;
use crate::authn::jwt::Tokens;
use crate::backend::{Aside, Backends, Peer, SendOptions};
use crate::domain::call::CallRequest;
use crate::domain::clock::Clock;
use crate::domain::crowd::Crowd;
use crate::domain::id::KeyId;
use crate::domain::outcome::{Carried, Outcome, Refusal};
use crate::domain::principal::Principal;
use crate::domain::tool::Risk;
use crate::domain::trace::Provenance;
use crate::journal::Journal;
use crate::ledger::{Charge, Ledger, Standing};
use crate::policy::PermittedCall;
use crate::telemetry::Telemetry;

/// Calls that one key may have in flight: more would take the places of others.
const MAX_IN_FLIGHT: usize = 512;

/// Everything that a call passes.
#[derive(Debug)]
pub struct Pipeline {
    pub clock: Arc<dyn Clock>,
    pub journal: Journal,
    pub ledger: Ledger,
    /// What people have to approve.
    pub approvals: Approvals,
    /// Calls in flight, by key.
    pub in_flight: Crowd<KeyId>,
    pub backends: Backends,
    /// Checks what callers bring besides their key.
    pub tokens: Arc<Tokens>,
    pub own: Box<dyn OwnTools>,
    /// Takes calls that have ended, where somebody collects them.
    pub telemetry: Option<Telemetry>,
}

/// What a call may hear while it runs, and what may end it.
#[derive(Debug, Default)]
pub struct Line {
    pub cancel: CancellationToken,
    /// Takes the backend's progress notifications, as they come.
    pub progress: Option<mpsc::Sender<Aside>>,
    /// The client, where the backend may speak to it while it works.
    pub peer: Option<Arc<Peer>>,
    /// Where the call comes from.
    pub provenance: Provenance,
}

impl Pipeline {
    /// Charges windows.
    ///
    /// # Errors
    /// Which one is full, and for how long; then none is charged.
    pub fn charge(&self, charges: &[Charge]) -> Result<(), Refusal> {
        self.ledger.charge(charges, self.clock.ticks()).map_err(|over| state::over(&over))
    }

    /// Where the nearest of a principal's plan windows stands; `None` without a plan that limits.
    #[must_use]
    pub fn standing(&self, state: &State, principal: &Principal) -> Option<Standing> {
        self.ledger.nearest(&state.plan_charges(principal), self.clock.ticks())
    }

    /// Carries one call from request to recorded outcome. `state` is what this request sees, whatever changes meanwhile.
    pub async fn carry(
        self: &Arc<Self>,
        state: &Arc<State>,
        principal: Principal,
        mut request: CallRequest,
        line: Line,
    ) -> Carried {
        let unwrapped = self.own.unwrap(&principal, &mut request);
        let mut record = match Record::open(self, &principal, &request, &line.provenance).await {
            Ok(record) => record,
            Err(carried) => return *carried,
        };
        if let Err(refusal) = unwrapped {
            return record.close(Outcome::Refused(refusal)).await;
        }
        // Pinned here: a future that is handed on by value takes its room again at each hand.
        let outcome = {
            let attempt = pin!(self.attempt(state, principal, request, &line, &mut record));
            line.cancel.run_until_cancelled(attempt).await
        };
        let outcome = match outcome {
            Some(Ok(outcome)) => outcome,
            Some(Err(refusal)) => Outcome::Refused(refusal),
            None => Outcome::Cancelled,
        };
        record.close(outcome).await
    }

    async fn attempt(
        self: &Arc<Self>,
        state: &Arc<State>,
        principal: Principal,
        request: CallRequest,
        line: &Line,
        record: &mut Record,
    ) -> Result<Outcome, Refusal> {
        let place = self.in_flight.seat(principal.key.clone(), MAX_IN_FLIGHT);
        let _place = place.ok_or_else(|| Refusal::LimitReached {
            scope: "the calls in flight of this key".into(),
            limit: MAX_IN_FLIGHT.to_string(),
            retry_after: 1,
        })?;
        if request.metered {
            self.charge(state.request_charge(&principal).as_slice())?;
        }
        let resolved = self.resolve(state, principal, request, record)?;
        let resolved = self.vouch(state, resolved, record).await?;
        let resolved = self.scan_arguments(state, resolved, record).await?;
        let (decided, road) = resolved.decide(&state.policies, self.clock.now(), record)?;
        let call = match decided {
            Decided::Permitted(call) => call,
            Decided::Pending(pending) => self.approved(state, pending, record).await?,
        };
        match road {
            Road::Own(origin) => {
                record.sent();
                let answer = self.own.call(self, state, &call, &origin, line).await;
                record.worked(&call);
                answer.map(Outcome::Answered)
            }
            Road::Backend { trace, timeout } => {
                let outcome = self.send(state, &call, &trace, timeout, line, record).await?;
                self.scan_outcome(state, call.tool(), outcome, record).await
            }
        }
    }

    /// From the permit to the answer: the caller's account, the cache, the limits, the intent, the backend.
    async fn send(
        &self,
        state: &State,
        call: &PermittedCall,
        trace: &[(&'static str, String)],
        timeout: Option<Duration>,
        line: &Line,
        record: &mut Record,
    ) -> Result<Outcome, Refusal> {
        if let Some(failed) = self.account(state, call).await? {
            return Ok(failed);
        }
        let tool = call.tool();
        let cache_digest: Option<Arc<str>> = tool.settings.cache.map(|_| cache_digest(call).into());
        if let Some(answer) = cache_digest.as_ref().and_then(|digest| self.backends.cached(call, digest)) {
            return Ok(Outcome::Answered(answer));
        }
        self.charge(&state.charges(call.principal(), tool))?;
        if tool.risk != Risk::Read {
            record.intend().await?;
        }
        record.sent();
        let (progress, notices) = scan::notices(state, tool, line.progress.clone());
        let (peer, trail) = (line.peer.clone(), Some(record.trail()));
        let options = SendOptions { trace, timeout, progress, peer, cache_digest, key: None, trail };
        let sending = pin!(self.backends.send(call, options));
        Ok(match notices.beside(sending).await {
            Ok(answer) => Outcome::Answered(answer),
            Err(error) => Outcome::Failed(error),
        })
    }
}
