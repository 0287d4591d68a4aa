//! Tasks of the gateway's own (the extension of tasks, MCP 2026-07-28): calls of own tools that their client does not wait
//! for. A task is a view, of the call while it is under way, and then of its record and of what it has stored: there is no
//! second truth, and it outlives a restart.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::{Aside, Ear, Gateway};
use crate::domain::audit::Entry;
use crate::domain::call::ToolRef;
use crate::domain::clock::Moment;
use crate::domain::dlp::DlpResult;
use crate::domain::id::{EventId, RunId};
use crate::domain::json::Json;
use crate::domain::outcome::{Carried, Governance, Refusal};
use crate::domain::principal::Principal;
use crate::own::eval::{RUN, created};
use crate::wire::era::Era;
use crate::wire::mcp::stamped;

/// How long a task is known.
pub const LIFETIME_MS: i64 = 7 * 24 * 3600 * 1000;
/// How often a client should ask.
const POLL_MS: u64 = 1000;

/// What carries a call to its end.
pub type Carrying = Pin<Box<dyn Future<Output = Carried> + Send>>;

/// The calls under way, by their records.
#[derive(Debug, Clone, Default)]
pub(super) struct Undertakings(Arc<Mutex<HashMap<EventId, Underway>>>);

#[derive(Debug)]
struct Underway {
    cancel: CancellationToken,
    /// How far it has come, and since when.
    said: Option<String>,
    at: Moment,
}

/// What a task's name says to the gateway alone.
#[derive(Debug, Serialize, Deserialize)]
struct Named {
    /// The record of the call.
    e: String,
    /// When it began, in milliseconds since 1970.
    t: i64,
}

impl Undertakings {
    fn lock(&self) -> MutexGuard<'_, HashMap<EventId, Underway>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, event: &EventId, aside: Aside, now: Moment) {
        let Aside::Notification { params: Some(params), .. } = aside else { return };
        let said = params.value().get("message").and_then(Value::as_str).map(str::to_owned);
        if let Some(underway) = self.lock().get_mut(event) {
            (underway.said, underway.at) = (said, now);
        }
    }
}

fn purpose(principal: &Principal) -> Vec<u8> {
    format!("toolgate own task 1\n{}", principal.key).into_bytes()
}

impl Gateway {
    /// Whether calls of this principal's may become tasks.
    #[must_use]
    pub fn offers_tasks(&self, principal: &Principal) -> bool {
        let own = self.pipeline.own.find(&ToolRef::Text(RUN.to_owned()));
        own.is_some_and(|own| principal.profile.has(own.scope) && own.lies_in(&principal.profile))
    }

    /// Lets a call go on as a task; gives the task as its client is told of it. The call is cancelled where it cannot be
    /// named.
    ///
    /// # Errors
    /// Where the task has no name.
    pub fn begin_task(
        &self,
        principal: &Principal,
        event: EventId,
        cancel: CancellationToken,
        mut carrying: Carrying,
        mut heard: Ear,
    ) -> Result<Value, Refusal> {
        let now = self.now();
        let named = Json::of(&Named { e: event.to_string(), t: now.0 });
        let Ok(name) = self.sessions.sealer().seal_name(&purpose(principal), named.as_str()) else {
            cancel.cancel();
            return Err(Refusal::Internal);
        };
        self.undertakings.lock().insert(event.clone(), Underway { cancel, said: None, at: now });
        let (undertakings, clock) = (self.undertakings.clone(), Arc::clone(&self.pipeline.clock));
        self.tasks.spawn(async move {
            loop {
                tokio::select! {
                    biased;
                    _carried = &mut carrying => break,
                    Some(aside) = heard.recv() => undertakings.note(&event, aside, clock.now()),
                }
            }
            undertakings.lock().remove(&event);
        });
        Ok(view(&name, now, now, "working", None))
    }

    /// A task of this principal's as it is now; `None` where there is none of this name (any more).
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub async fn task(&self, principal: &Principal, name: &str) -> Result<Option<Value>, Refusal> {
        let Some((event, began)) = self.task_named(principal, name) else { return Ok(None) };
        if let Some(underway) = self.undertakings.lock().get(&event) {
            return Ok(Some(view(name, began, underway.at, "working", underway.said.as_deref())));
        }
        let found = self.pipeline.journal.get(event.as_str()).await;
        let found = found.map_err(|error| {
            tracing::error!(%error, "the audit log could not be read");
            Refusal::Internal
        })?;
        let Some(entry) = found.and_then(|record| record.entry()) else { return Ok(None) };
        let ended = Moment::parse(&entry.time).unwrap_or(began);
        let seen = |status, message: Option<&str>| view(name, began, ended, status, message);
        Ok(match entry.outcome.as_deref() {
            None => Some(seen("working", None)),
            Some("cancelled") => Some(seen("cancelled", None)),
            Some("interrupted") => {
                let why = "the gateway stopped while the call was under way";
                Some(with(seen("failed", Some(why)), "error", json!({"code": -32603, "message": why})))
            }
            Some("answered") => {
                let result = self.result_of(&event, &entry).await?;
                result.map(|result| with(seen("completed", None), "result", result))
            }
            Some(_) => {
                let why = entry.reason.as_deref().or(entry.code.as_deref()).unwrap_or("the call came to nothing");
                let result = json!({"content": [{"type": "text", "text": why}], "isError": true});
                Some(with(seen("completed", None), "result", stamp(&Json::of(&result), &event, &entry)))
            }
        })
    }

    /// Ends the call of a task, if it is still under way. False where there is no task of this name.
    #[must_use]
    pub fn cancel_task(&self, principal: &Principal, name: &str) -> bool {
        let Some((event, _)) = self.task_named(principal, name) else { return false };
        if let Some(underway) = self.undertakings.lock().get(&event) {
            underway.cancel.cancel();
        }
        true
    }

    /// The record that a name stands for, and when its call began.
    fn task_named(&self, principal: &Principal, name: &str) -> Option<(EventId, Moment)> {
        let plain = self.sessions.sealer().open_text(&purpose(principal), name)?;
        let Named { e, t } = serde_json::from_str(&plain).ok()?;
        (self.now().0.saturating_sub(t) < LIFETIME_MS).then(|| (EventId::from(e.as_str()), Moment(t)))
    }

    /// What an answered call gave: what it has stored, told anew. `None` where that is not kept any more.
    async fn result_of(&self, event: &EventId, entry: &Entry) -> Result<Option<Value>, Refusal> {
        let kept = self.evals.run(RunId::of_call(event).as_str()).await?;
        Ok(kept.map(|kept| stamp(&created(&kept.run).result, event, entry)))
    }
}

/// The result as the call itself would have been answered.
fn stamp(result: &Json, event: &EventId, entry: &Entry) -> Value {
    let decision = if entry.decision == "allow" { "allow" } else { "error" };
    let policy = entry.policies.first().cloned().unwrap_or_else(|| "none".into());
    let governance = Governance { decision, policy, dlp_result: DlpResult::Off, audit_event_id: event.clone() };
    stamped(result, &governance, Era::Modern).value()
}

fn view(name: &str, began: Moment, updated: Moment, status: &str, message: Option<&str>) -> Value {
    let task = json!({
        "taskId": name,
        "status": status,
        "createdAt": began.rfc3339(),
        "lastUpdatedAt": updated.rfc3339(),
        "pollIntervalMs": POLL_MS,
    });
    match message {
        Some(message) => with(task, "statusMessage", json!(message)),
        None => task,
    }
}

fn with(mut task: Value, member: &str, value: Value) -> Value {
    if let Some(members) = task.as_object_mut() {
        members.insert(member.to_owned(), value);
    }
    task
}
