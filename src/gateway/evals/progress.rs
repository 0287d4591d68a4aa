//! How far runs have come, for who follows them.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::Value;
use tokio::sync::mpsc;

use super::super::Aside;

/// How far the runs have come that the command line follows, by ticket.
#[derive(Debug, Default)]
pub(in crate::gateway) struct Progress(Mutex<HashMap<String, Value>>);

/// Somebody follows a run, until this is dropped.
pub(super) struct Followed<'p>(&'p Progress, String);

impl Progress {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Value>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn of(&self, ticket: &str) -> Value {
        self.lock().get(ticket).cloned().unwrap_or_default()
    }

    pub(super) fn follow(&self, ticket: String) -> Followed<'_> {
        self.lock().insert(ticket.clone(), Value::Null);
        Followed(self, ticket)
    }
}

impl Followed<'_> {
    /// Notes what is said beside the answer, until nothing more is.
    pub(super) async fn note(&self, mut heard: mpsc::Receiver<Aside>) {
        while let Some(aside) = heard.recv().await {
            if let Aside::Notification { params: Some(params), .. } = aside {
                self.0.lock().insert(self.1.clone(), params.value());
            }
        }
    }
}

impl Drop for Followed<'_> {
    fn drop(&mut self) {
        self.0.lock().remove(&self.1);
    }
}
