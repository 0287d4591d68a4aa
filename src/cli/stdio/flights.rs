//! The requests that wait for an answer.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::wire::era::Era;

/// Requests of the host that may wait at once.
const MAX_FLIGHTS: usize = 1024;

/// One request that waits.
#[derive(Debug)]
pub(super) struct Flight {
    pub(super) era: Era,
    /// The host does not want the answer any more.
    pub(super) cancelled: CancellationToken,
}

/// All of them, by id.
#[derive(Debug, Default)]
pub(super) struct Flights(Mutex<HashMap<String, Arc<Flight>>>);

/// Keeps a request among those that wait until it is dropped.
#[derive(Debug)]
pub(super) struct Aloft {
    flights: Arc<Flights>,
    key: String,
    pub(super) flight: Arc<Flight>,
}

/// Two spellings of one id have one key.
fn key(id: &str) -> String {
    serde_json::from_str::<Value>(id).map_or_else(|_| id.to_owned(), |id| id.to_string())
}

impl Flights {
    /// Takes a request in; `None` where too many wait already.
    pub(super) fn take(self: &Arc<Self>, id: &str, era: Era) -> Option<Aloft> {
        let (key, flight) = (key(id), Arc::new(Flight { era, cancelled: CancellationToken::new() }));
        let mut flights = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if flights.len() >= MAX_FLIGHTS {
            return None;
        }
        flights.insert(key.clone(), Arc::clone(&flight));
        drop(flights);
        Some(Aloft { flights: Arc::clone(self), key, flight })
    }

    /// Marks a request as cancelled, and gives its era.
    pub(super) fn cancel(&self, id: &str) -> Option<Era> {
        let flight = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&key(id)).cloned()?;
        flight.cancelled.cancel();
        Some(flight.era)
    }
}

impl Drop for Aloft {
    fn drop(&mut self) {
        let mut flights = self.flights.0.lock().unwrap_or_else(PoisonError::into_inner);
        // A host that uses an id twice at once has put the second in the place of the first.
        if flights.get(&self.key).is_some_and(|flight| Arc::ptr_eq(flight, &self.flight)) {
            flights.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_waits_until_it_is_dropped() {
        let flights = Arc::new(Flights::default());
        assert_eq!(flights.cancel("1"), None);
        let first = flights.take("\"a\"", Era::Legacy).unwrap();
        assert_eq!(flights.cancel("\"\\u0061\""), Some(Era::Legacy));
        assert!(first.flight.cancelled.is_cancelled());
        let second = flights.take("\"a\"", Era::Modern).unwrap();
        drop(first);
        assert_eq!(flights.cancel("\"a\""), Some(Era::Modern));
        drop(second);
        assert_eq!(flights.cancel("\"a\""), None);
    }

    #[test]
    fn no_more_than_so_many_wait() {
        let flights = Arc::new(Flights::default());
        let waiting: Vec<_> = (0..MAX_FLIGHTS).map(|id| flights.take(&id.to_string(), Era::Legacy).unwrap()).collect();
        assert!(flights.take("\"one more\"", Era::Legacy).is_none());
        drop(waiting);
        assert!(flights.take("1", Era::Legacy).is_some());
    }
}
