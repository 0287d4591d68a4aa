//! Calls in flight that their client may cancel by the id of the request.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio_util::sync::CancellationToken;

/// A client names a call by its session and the request's id.
type Name = (String, String);

/// The legacy calls in flight.
#[derive(Debug, Clone, Default)]
pub struct Inflight(Arc<Mutex<HashMap<Name, CancellationToken>>>);

/// Takes the call out of the list when it ends, however it ends.
#[derive(Debug)]
pub struct Registered {
    list: Inflight,
    name: Name,
}

impl Inflight {
    /// Puts a call on the list.
    #[must_use]
    pub fn register(&self, session: &str, request: &str, cancel: CancellationToken) -> Registered {
        let name = (session.to_owned(), request.to_owned());
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(name.clone(), cancel);
        Registered { list: self.clone(), name }
    }

    /// Cancels a call; one that has ended is none of ours.
    pub fn cancel(&self, session: &str, request: &str) {
        let found =
            self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&(session.to_owned(), request.to_owned()));
        if let Some(cancel) = found {
            cancel.cancel();
        }
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.list.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.name);
    }
}
