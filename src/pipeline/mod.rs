//! Floor 5: the sentence. Every call, from every entrance, is [`Pipeline::carry`].
//!
//! A `CallRequest` of a `Principal` is *opened* in the journal, *resolved* to a `Call`, *decided* by the policy,
//! *charged* to the limits, and as a `PermittedCall` *sent*; the `Outcome` *closes* the record.

mod record;
mod resolve;
mod state;

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use self::record::{Record, cache_digest};
pub use self::resolve::{OwnTool, OwnTools, Road, Running, own_answer};
pub use self::state::{Sight, State};
use crate::authn::jwt::Tokens;
use crate::backend::{Asides, Backends, Peer, SendOptions};
use crate::domain::call::{CallRequest, Errand};
use crate::domain::clock::Clock;
use crate::domain::crowd::{Crowd, Seat};
use crate::domain::id::{KeyId, ServerName};
use crate::domain::json::Json;
use crate::domain::outcome::{Answer, Carried, Outcome, Refusal};
use crate::domain::principal::Principal;
use crate::domain::secret::Secret;
use crate::domain::tool::Risk;
use crate::journal::Journal;
use crate::ledger::{Charge, Ledger, Standing};
use crate::policy::PermittedCall;

/// Calls that one key may have in flight: more would take the places of others.
const MAX_IN_FLIGHT: usize = 512;

/// Everything that a call passes.
#[derive(Debug)]
pub struct Pipeline {
    pub clock: Arc<dyn Clock>,
    pub journal: Journal,
    pub ledger: Ledger,
    /// Calls in flight, by key.
    pub in_flight: Crowd<KeyId>,
    pub backends: Backends,
    /// Checks what callers bring besides their key.
    pub tokens: Arc<Tokens>,
    pub own: Box<dyn OwnTools>,
}

/// What a call may hear while it runs, and what may end it.
#[derive(Debug, Default)]
pub struct Line {
    pub cancel: CancellationToken,
    /// Takes the backend's progress notifications, as they come.
    pub progress: Option<Asides>,
    /// The client, where the backend may speak to it while it works.
    pub peer: Option<Arc<Peer>>,
    /// What is asked in place of the call.
    pub errand: Option<Errand>,
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
        &self,
        state: &Arc<State>,
        principal: Principal,
        mut request: CallRequest,
        line: Line,
    ) -> Carried {
        let unwrapped = self.own.unwrap(&principal, &mut request);
        let mut record = match Record::open(&self.journal, &principal, &request).await {
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
        &self,
        state: &Arc<State>,
        principal: Principal,
        request: CallRequest,
        line: &Line,
        record: &mut Record,
    ) -> Result<Outcome, Refusal> {
        let _place = self.seat(&principal)?;
        if request.metered {
            self.charge(state.request_charge(&principal).as_slice())?;
        }
        let resolved = self.resolve(state, principal, request, line.errand.as_ref(), record)?;
        let resolved = self.vouch(state, resolved, record).await?;
        let (call, road) = resolved.decide(&state.policies, self.clock.now(), record)?;
        match road {
            Road::Own => self.own.call(self, state, &call).await.map(Outcome::Answered),
            Road::Backend { trace, timeout } => self.send(state, &call, &trace, timeout, line, record).await,
        }
    }

    /// A place among the principal's calls in flight.
    fn seat(&self, principal: &Principal) -> Result<Seat<KeyId>, Refusal> {
        let seat = self.in_flight.seat(principal.key.clone(), MAX_IN_FLIGHT);
        seat.ok_or_else(|| Refusal::LimitReached {
            scope: "the calls in flight of this key".into(),
            limit: MAX_IN_FLIGHT.to_string(),
            retry_after: 1,
        })
    }

    /// Lets a principal tell a server something about its own session there, which is no call: the log has no word for it,
    /// but the server's token and the limits hold.
    ///
    /// # Errors
    /// What stands in the way.
    pub async fn admit_aside(
        &self,
        state: &State,
        principal: &Principal,
        server: &ServerName,
        jwt: Option<&Secret>,
    ) -> Result<Seat<KeyId>, Refusal> {
        let seat = self.seat(principal)?;
        self.claims(state, server, jwt).await?;
        self.charge(&state.server_charges(principal, server))?;
        Ok(seat)
    }

    /// From the permit to the answer: the cache, the limits, the intent, the backend.
    async fn send(
        &self,
        state: &State,
        call: &PermittedCall,
        trace: &[(&'static str, String)],
        timeout: Option<Duration>,
        line: &Line,
        record: &mut Record,
    ) -> Result<Outcome, Refusal> {
        let tool = call.tool();
        let errand = line.errand.as_ref();
        // Nor what a client says, or is asked, beside what is judged: another call's answer would be another.
        let plain = errand.is_none() && line.peer.as_ref().is_none_or(|peer| peer.is_plain());
        let cached = tool.settings.cache.filter(|_| plain);
        let cache_digest: Option<Arc<str>> = cached.map(|_| cache_digest(call).into());
        if let Some(answer) = cache_digest.as_ref().and_then(|digest| self.backends.cached(call, digest)) {
            return Ok(Outcome::Answered(answer));
        }
        self.charge(&match errand {
            None => state.charges(call.principal(), tool),
            Some(_) => state.server_charges(call.principal(), &tool.id.server),
        })?;
        if errand.map_or(tool.risk != Risk::Read, Errand::writes) {
            record.intend().await?;
        }
        if let Some(Errand::Follow { sends: false, .. }) = errand {
            let result = Json::from_parts(String::from("{}"));
            return Ok(Outcome::Answered(Answer { result, is_error: false, cached: false, partial: false }));
        }
        let (progress, peer) = (line.progress.clone(), line.peer.clone());
        let options = SendOptions { trace, timeout, progress, peer, cache_digest, errand, key: None };
        Ok(match self.backends.send(call, options).await {
            Ok(answer) => Outcome::Answered(answer),
            Err(error) => Outcome::Failed(error),
        })
    }
}
