//! Calls in flight that their client may cancel by the id of the request.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

/// A client names a call by its session and the request's id.
type Name = (String, String);

/// The legacy calls in flight. A client that uses an id twice at a time has two calls of one name.
#[derive(Debug, Clone, Default)]
pub struct Inflight(Arc<Mutex<HashMap<Name, Vec<Arc<CancellationToken>>>>>);

/// Takes the call out of the list when it ends, however it ends.
#[derive(Debug)]
pub struct Registered {
    list: Inflight,
    name: Name,
    cancel: Arc<CancellationToken>,
}

impl Inflight {
    /// Puts a call on the list.
    #[must_use]
    pub fn register(&self, session: &str, request: &str, cancel: CancellationToken) -> Registered {
        let name = (session.to_owned(), request.to_owned());
        let cancel = Arc::new(cancel);
        self.lock().entry(name.clone()).or_default().push(Arc::clone(&cancel));
        Registered { list: self.clone(), name, cancel }
    }

    /// Cancels the calls of this name; one that has ended is none of ours.
    pub fn cancel(&self, session: &str, request: &str) {
        for cancel in self.lock().remove(&(session.to_owned(), request.to_owned())).into_iter().flatten() {
            cancel.cancel();
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Name, Vec<Arc<CancellationToken>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        let mut list = self.list.lock();
        if let Some(calls) = list.get_mut(&self.name) {
            calls.retain(|other| !Arc::ptr_eq(other, &self.cancel));
            if calls.is_empty() {
                list.remove(&self.name);
            }
        }
    }
}
