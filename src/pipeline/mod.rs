//! Floor 5: the sentence. Every call, from every entrance, is [`Pipeline::carry`].
//!
//! A `CallRequest` of a `Principal` is *opened* in the journal, *resolved* to a `Call`, *scanned*, *decided* by the
//! policy, where that says so *approved* by a person, *charged* to the limits, and as a `PermittedCall` *sent*; the
//! `Outcome`, *scanned*, *closes* the record.

mod account;
mod approval;
mod long;
mod own;
mod record;
mod resolve;
mod scan;
mod sieve;
mod state;
mod tallies;

use std::borrow::Cow;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use self::approval::unapproved;
pub use self::long::Long;
pub use self::own::{Origin, OwnTool, OwnTools, Running, own_answer};
use self::record::{Record, cache_digest};
use self::resolve::Decided;
pub use self::resolve::Road;
use self::scan::scrutinised;
pub use self::scan::{Scanned, examine, noted_aside};
pub use self::state::{Sight, State};
pub use self::tallies::Tallies;
use crate::approvals::Approvals;
use crate::authn::jwt::Tokens;
use crate::backend::{Asides, Backends, Peer, SendOptions};
use crate::domain::call::{CallRequest, Errand};
use crate::domain::clock::Clock;
use crate::domain::crowd::{Crowd, Seat};
use crate::domain::id::{KeyId, ServerName};
use crate::domain::json::Json;
use crate::domain::outcome::{Answer, Carried, Outcome, Refusal};
use crate::domain::principal::{Principal, Scope};
use crate::domain::secret::Secret;
use crate::domain::tool::Risk;
use crate::domain::trace::Provenance;
use crate::journal::Journal;
use crate::ledger::{Charge, Ledger, Standing};
use crate::policy::PermittedCall;
use crate::telemetry::Exporting;

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
    /// Where what takes long is done.
    pub long: Long,
    pub backends: Backends,
    /// Checks what callers bring besides their key.
    pub tokens: Arc<Tokens>,
    pub own: Box<dyn OwnTools>,
    pub tallies: Tallies,
    /// Takes calls that have ended, where somebody collects them.
    pub telemetry: Arc<Exporting>,
}

/// What a call may hear while it runs, and what may end it.
#[derive(Debug, Clone, Default)]
pub struct Line {
    pub cancel: CancellationToken,
    /// Takes the backend's progress notifications, as they come.
    pub progress: Option<Asides>,
    /// The client, where the backend may speak to it while it works.
    pub peer: Option<Arc<Peer>>,
    /// Where the call comes from.
    pub provenance: Provenance,
    /// What is asked in place of the call.
    pub errand: Option<Errand>,
    /// Hears when an own tool begins what takes a while, for a client that need not wait for its end.
    pub begun: Option<Arc<Notify>>,
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
            Err(carried) => return self.counted(*carried),
        };
        // Pinned here: a future that is handed on by value takes its room again at each hand.
        let outcome = {
            let attempt = pin!(self.attempt(state, principal, request, unwrapped, &line, &mut record));
            line.cancel.run_until_cancelled(attempt).await
        };
        let outcome = match outcome {
            Some(Ok(outcome)) => outcome,
            Some(Err(refusal)) => Outcome::Refused(refusal),
            None => Outcome::Cancelled,
        };
        self.counted(record.close(outcome).await)
    }

    /// Counts a finished call, whoever made it: a client, or an own tool.
    fn counted(&self, carried: Carried) -> Carried {
        self.tallies.count(&carried);
        carried
    }

    async fn attempt(
        self: &Arc<Self>,
        state: &Arc<State>,
        principal: Principal,
        request: CallRequest,
        unwrapped: Result<(), Refusal>,
        line: &Line,
        record: &mut Record,
    ) -> Result<Outcome, Refusal> {
        let _place = self.seat(&principal)?;
        if request.metered {
            self.charge(state.request_charge(&principal).as_slice())?;
        }
        // A misfit counts as a request, as whatever else is asked does.
        unwrapped?;
        if let Some(answers) = line.peer.as_ref().and_then(|peer| peer.answers()) {
            record.answers(&answers);
        }
        let resolved = self.resolve(state, principal, request, line.errand.as_ref(), record).await?;
        let resolved = self.vouch(state, resolved, record).await?;
        let resolved = self.scan_arguments(state, resolved, line, record).await?;
        let (decided, road) = resolved.decide(&state.policies, self.clock.now(), record)?;
        let (call, line) = match decided {
            Decided::Permitted(call) => (call, Cow::Borrowed(line)),
            Decided::Pending(pending) => match &line.errand {
                None => self.approved(state, pending, line, record).await?,
                Some(Errand::GoOn { event, .. }) => {
                    (self.approved_before(state, pending, event, record).await?, Cow::Borrowed(line))
                }
                Some(_) => return Err(unapproved(pending, record)),
            },
        };
        if let Some(Errand::GoOn { .. }) = line.errand {
            return Ok(Outcome::Answered(nothing()));
        }
        match road {
            Road::Own(origin) => {
                if call.tool().risk != Risk::Read {
                    record.intend().await?;
                }
                record.sent();
                let answer = self.own.call(self, state, &call, &origin, &line).await;
                record.worked(&call);
                answer.map(Outcome::Answered)
            }
            Road::Backend { trace, timeout } => {
                let outcome = self.send(state, &call, &trace, timeout, &line, record).await?;
                self.scan_outcome(state, &call, outcome, record).await
            }
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
    /// but the server's token, the limits and what is done about secrets hold.
    ///
    /// # Errors
    /// What stands in the way.
    pub async fn admit_aside(
        &self,
        state: &State,
        principal: &Principal,
        server: &ServerName,
        (said, jwt): (Option<&Json>, Option<&Secret>),
    ) -> Result<Seat<KeyId>, Refusal> {
        let seat = self.seat(principal)?;
        if !principal.profile.has(Scope::ToolsInvoke) {
            return Err(Refusal::InsufficientScope { asked: server.to_string(), scope: Scope::ToolsInvoke.as_str() });
        }
        self.claims(state, server, jwt).await?;
        if let Some(said) = said {
            self.scan_aside(state, &principal.key, server, said).await?;
        }
        self.charge(&state.server_charges(principal, server))?;
        Ok(seat)
    }

    /// Whether somebody may have a server's lists, where it asks its callers for a token.
    ///
    /// # Errors
    /// What is wrong with the token, or that there is none.
    pub async fn admit_token(&self, state: &State, server: &ServerName, jwt: Option<&Secret>) -> Result<(), Refusal> {
        self.claims(state, server, jwt).await.map(drop)
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
            return Ok(Outcome::Answered(nothing()));
        }
        record.sent();
        let (progress, notices) = self.notices(state, call, line.progress.clone());
        let peer = line.peer.as_ref().map(|peer| scrutinised(peer, tool.settings.dlp.arguments, record));
        let trail = Some(record.trail());
        let options = SendOptions { trace, timeout, progress, peer, cache_digest, errand, key: None, trail };
        let sending = pin!(self.backends.send(call, options));
        let sent = match notices {
            None => sending.await,
            Some(notices) => Box::pin(notices.beside(sending)).await,
        };
        Ok(match sent {
            Ok(answer) => Outcome::Answered(answer),
            Err(error) => Outcome::Failed(error),
        })
    }
}

/// The answer where nothing was sent.
fn nothing() -> Answer {
    Answer { result: Json::from_parts(String::from("{}")), is_error: false, cached: false, partial: false }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As requests have one each: see `http::mcp`.
    #[test]
    fn the_future_of_a_call_is_small() {
        fn room<A, B, C, D, E, Fut: Future>(_carry: impl Fn(A, B, C, D, E) -> Fut) -> usize {
            size_of::<Fut>()
        }
        let carry = room(Pipeline::carry);
        assert!(carry < 8_800, "{carry} bytes");
    }
}
