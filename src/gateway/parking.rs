//! Calls that wait for their client between two requests: a legacy backend has asked something, and a modern client
//! answers by asking again (MCP 2026-07-28, basic/patterns/mrtr).

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::Gateway;
use crate::backend::{Ear, PATIENCE, Question};
use crate::domain::crowd::{Crowd, Seat};
use crate::domain::id::{EventId, KeyId, RequestId};
use crate::domain::json::Json;
use crate::domain::outcome::Carried;
use crate::domain::principal::Principal;
use crate::wire::hop;

/// Calls that one key may have waiting, and all keys together.
const MAX_OF_KEY: usize = 64;
const MAX: usize = 1024;
const PURPOSE: &[u8] = b"toolgate request state 1";
/// How long a state is good, in milliseconds: a little longer than a backend waits.
const LIFETIME_MS: i64 = 15 * 60 * 1000;
/// Longest state that is read, in bytes.
const MAX_STATE: usize = 256 << 10;

/// A call under way, apart from whoever waits for it.
#[derive(Debug)]
pub struct Underway {
    pub done: oneshot::Receiver<Carried>,
    pub heard: Ear,
    pub cancel: CancellationToken,
    /// The id of its record.
    pub event: EventId,
}

#[derive(Debug)]
struct Parked {
    underway: Underway,
    questions: BTreeMap<String, Question>,
    _seat: Seat<KeyId>,
    /// Ends the task that would cancel the call.
    _present: DropGuard,
}

/// The calls that wait.
#[derive(Debug, Clone, Default)]
pub(super) struct Parking {
    lot: Arc<Mutex<HashMap<String, Parked>>>,
    /// By key.
    seats: Crowd<KeyId>,
}

/// What a `requestState` of the gateway's says.
#[derive(Debug, Serialize, Deserialize)]
struct State {
    /// The key of the principal.
    k: String,
    /// The digest of what was asked.
    d: String,
    /// Milliseconds since 1970 until which it is good.
    e: i64,
    /// The parked call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    p: Option<String>,
    /// The backend's own state, as JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    s: Option<String>,
}

/// What a client's `requestState` turned out to be.
#[derive(Debug)]
pub enum Resumed {
    /// The backend keeps its own: a new call with this member, where there is one.
    Anew(Option<Json>),
    /// The call that waited.
    Waiting(Waiting),
}

/// A parked call that its client has come back to. Dropped, it is cancelled.
#[derive(Debug)]
pub struct Waiting {
    underway: Underway,
    questions: BTreeMap<String, Question>,
    leaving: DropGuard,
}

impl Waiting {
    /// The id of its record.
    #[must_use]
    pub const fn event(&self) -> &EventId {
        &self.underway.event
    }

    /// Lets it go on, its questions answered.
    #[must_use]
    pub fn answered(self, responses: Option<&Json>) -> Underway {
        for (key, question) in self.questions {
            question.answer(match hop::member(responses, &key) {
                Some(response) => Ok(response),
                None => Err(Json::of(&serde_json::json!({"code": -32603, "message": "the client did not answer"}))),
            });
        }
        self.leaving.disarm();
        self.underway
    }
}

impl Gateway {
    /// A `requestState` for the backend's own, bound to the principal and to what was asked.
    #[must_use]
    pub fn seal_state(&self, principal: &Principal, digest: &str, inner: Option<&Json>) -> Option<String> {
        self.seal(principal, digest, None, inner.map(|inner| inner.as_str().to_owned()))
    }

    fn seal(&self, principal: &Principal, digest: &str, park: Option<String>, inner: Option<String>) -> Option<String> {
        let until = self.now().0 + LIFETIME_MS;
        let state = State { k: principal.key.to_string(), d: digest.to_owned(), e: until, p: park, s: inner };
        self.sessions.sealer().seal_text(PURPOSE, Json::of(&state).as_str()).ok()
    }

    /// Lets a call wait for its client's answers; gives the `requestState` that finds it again. It is cancelled when
    /// nobody comes.
    #[must_use]
    pub fn park(
        &self,
        principal: &Principal,
        digest: &str,
        underway: Underway,
        mut questions: BTreeMap<String, Question>,
    ) -> Option<String> {
        // They are with the client now; here nothing of them is needed but the way back.
        questions.values_mut().for_each(Question::asked);
        let cancel = underway.cancel.clone();
        let seat = self.parking.seats.seat(principal.key.clone(), MAX_OF_KEY);
        let id = RequestId::fresh().to_string();
        let sealed = self.seal(principal, digest, Some(id.clone()), None);
        let (Some(seat), Some(sealed)) = (seat, sealed) else {
            cancel.cancel();
            return None;
        };
        let present = CancellationToken::new();
        {
            let mut lot = self.parking.lot.lock().unwrap_or_else(PoisonError::into_inner);
            if lot.len() >= MAX {
                cancel.cancel();
                return None;
            }
            let _present = present.clone().drop_guard();
            lot.insert(id.clone(), Parked { underway, questions, _seat: seat, _present });
        }
        let (lot, stopping) = (Arc::clone(&self.parking.lot), self.stopping());
        self.tasks().spawn(async move {
            tokio::select! {
                () = tokio::time::sleep(PATIENCE) => {}
                () = stopping.cancelled() => {}
                () = present.cancelled() => {}
            }
            let left = lot.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
            if let Some(parked) = left {
                parked.underway.cancel.cancel();
            }
        });
        Some(sealed)
    }

    /// Reads a client's `requestState`. A parked call is given out once.
    ///
    /// # Errors
    /// A sentence for the client: it is not one of the gateway's for this principal and this request, or is too old, or
    /// was used.
    pub fn resume(&self, principal: &Principal, digest: &str, sealed: &Json) -> Result<Resumed, &'static str> {
        const UNKNOWN: &str = "`requestState` is not one that was given for this request: start the call anew";
        let text: String = sealed.decode().map_err(|_| UNKNOWN)?;
        let plain = Some(text).filter(|text| text.len() <= MAX_STATE);
        let plain = plain.and_then(|text| self.sessions.sealer().open_text(PURPOSE, &text)).ok_or(UNKNOWN)?;
        let state: State = serde_json::from_str(&plain).map_err(|_| UNKNOWN)?;
        if state.k != *principal.key.as_str() || state.d != digest {
            return Err(UNKNOWN);
        }
        if state.e < self.now().0 {
            return Err("`requestState` is too old: start the call anew");
        }
        let Some(park) = state.p else {
            return Ok(Resumed::Anew(state.s.and_then(|inner| Json::parse(inner.into()).ok())));
        };
        let parked = self.parking.lot.lock().unwrap_or_else(PoisonError::into_inner).remove(&park);
        let parked =
            parked.ok_or("the call that `requestState` names has ended or was taken up already: start it anew")?;
        let Parked { underway, questions, .. } = parked;
        let leaving = underway.cancel.clone().drop_guard();
        Ok(Resumed::Waiting(Waiting { underway, questions, leaving }))
    }

    /// Calls that wait for their client.
    #[must_use]
    pub fn parked_calls(&self) -> usize {
        self.parking.lot.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}
