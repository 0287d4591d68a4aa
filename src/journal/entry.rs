//! One record, from its opening to its close.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::facts::{Opening, bounded, failure, judge, millis, tried};
use super::{Journal, JournalError, redact};
use crate::domain::audit::{CACHED, Decision, Ending, Entry, Phase, Sent, TOOL_ERROR};
use crate::domain::call::{Entrance, ToolRef};
use crate::domain::decision::Judgement;
use crate::domain::dlp::DlpResult;
use crate::domain::id::{EventId, RequestId, ToolId};
use crate::domain::json::Json;
use crate::domain::outcome::{Outcome, Refusal};
use crate::domain::tool::Kind;
use crate::domain::trace::{Context, Noted, Provenance};

/// What is known when a call has ended.
#[derive(Debug)]
pub struct Closing {
    pub ending: Ending,
    /// Replaces what was judged, where something.
    pub decision: Option<Decision>,
    /// Replaces the judgement's reason, where something.
    pub reason: Option<String>,
    pub dlp_result: DlpResult,
    pub notes: Vec<String>,
    /// In one word, why there was no good answer.
    pub code: Option<&'static str>,
    /// What refused, as the caller is told.
    pub rule: Option<Arc<str>>,
}

impl Closing {
    /// An ending with nothing to add.
    #[must_use]
    pub const fn new(ending: Ending) -> Self {
        let dlp_result = DlpResult::Off;
        Self { ending, decision: None, reason: None, dlp_result, notes: Vec::new(), code: None, rule: None }
    }

    /// What the outcome says of itself.
    #[must_use]
    pub fn of(outcome: &Outcome) -> Self {
        match outcome {
            Outcome::Answered(answer) => {
                let mut closing = Self::new(Ending::Answered);
                closing.notes.extend(answer.is_error.then(|| TOOL_ERROR.into()));
                closing.notes.extend(answer.cached.then(|| CACHED.into()));
                closing.code = answer.is_error.then_some("tool_error");
                closing
            }
            Outcome::Refused(refusal) => Self::refused(refusal),
            Outcome::Failed(error) => {
                let (reason, code) = (Some(error.message.clone()), Some(failure(&error.fault)));
                Self { reason, code, ..Self::new(Ending::Failed) }
            }
            Outcome::Cancelled => Self::new(Ending::Cancelled),
        }
    }

    fn refused(refusal: &Refusal) -> Self {
        let reason = match refusal {
            Refusal::Denied(judgement) => judgement.reason.to_string(),
            Refusal::ApprovalNeeded(awaited) => awaited.judgement.reason.to_string(),
            _ => refusal.to_string(),
        };
        let (reason, code) = (Some(reason), Some(refusal.code()));
        Self { decision: refusal.decision(), reason, code, rule: refusal.rule(), ..Self::new(Ending::Refused) }
    }
}

/// A record that was opened. Close it; one that is dropped instead is recorded as `interrupted`.
#[derive(Debug)]
#[must_use = "a record that was opened is closed with `close`"]
pub struct OpenEntry {
    journal: Journal,
    id: EventId,
    /// Absent once the outcome is on its way. In a box, since every future that holds a record would hold it twice.
    draft: Option<Box<Draft>>,
}

#[derive(Debug)]
struct Draft {
    entry: Entry,
    /// Encoded when the first of the two entries is written.
    arguments: Option<Json>,
    /// [`Clock::ticks`](crate::domain::clock::Clock::ticks) at the opening.
    started: u64,
    intended: bool,
}

impl OpenEntry {
    pub(super) fn new(journal: Journal, opening: Opening) -> Self {
        let Opening { id, request_id, entrance, key, user, agent, tool, arguments } = opening;
        let mut entry = blank(&id, &request_id, entrance);
        entry.key = key.as_ref().map(Arc::from);
        entry.user = user;
        entry.agent = agent;
        if let Some(asked) = &tool {
            entry.kind = Some(asked.kind());
            // However it is asked for: what is said apart at one door is one text at another.
            let apart = match asked {
                ToolRef::Text(text) => text.split_once(':'),
                _ => None,
            };
            let server = asked.server().or(apart.map(|(server, _)| server));
            // Where the servers' names together were asked, none is known.
            entry.server = server.filter(|server| !server.is_empty()).map(|server| bounded(server).into());
            entry.tool = Some(match asked {
                ToolRef::Resource { uri, .. } => bounded(&redact::uri(uri, journal.0.config.arguments)).into(),
                ToolRef::Text(name) => bounded(apart.map_or(name, |(_, tool)| tool)).into(),
                ToolRef::Pair { tool: name, .. } | ToolRef::Exact { tool: name, .. } | ToolRef::Prompt { name, .. } => {
                    bounded(name).into()
                }
            });
        }
        let started = journal.0.clock.ticks();
        journal.0.store.in_flight().fetch_add(1, Ordering::SeqCst);
        Self { journal, id, draft: Some(Box::new(Draft { entry, arguments, started, intended: false })) }
    }

    /// The id of the record, which every answer to the call carries.
    #[must_use]
    pub fn id(&self) -> &EventId {
        &self.id
    }

    /// What the request turned out to mean.
    pub fn resolved(&mut self, kind: Kind, tool: &ToolId) {
        if let Some(Draft { entry, .. }) = self.draft.as_deref_mut() {
            entry.kind = Some(kind);
            entry.server = Some(Arc::from(&tool.server));
            entry.tool = Some(match kind {
                Kind::Resource => redact::uri(&tool.tool, self.journal.0.config.arguments).into(),
                Kind::Tool | Kind::Prompt | Kind::Entity => Arc::clone(&tool.tool),
            });
        }
    }

    /// The arguments of the tool itself, where they stood inside those of another (`gateway_invoke`).
    pub fn arguments(&mut self, arguments: Option<Json>) {
        if let Some(draft) = &mut self.draft {
            draft.arguments = arguments;
        }
    }

    /// Where the call comes from, and its span or the trace that it belongs to.
    pub fn came_from(&mut self, provenance: &Provenance, own: Option<Context>, brought: Option<Context>) {
        if let Some(Draft { entry, .. }) = self.draft.as_deref_mut() {
            entry.parent = provenance.parent.as_ref().map(Arc::from);
            entry.era = provenance.era.map(Cow::Borrowed);
            entry.trace_id = own.or(brought).map(|context| context.trace_id());
            entry.span_id = own.map(|context| context.span_id());
        }
    }

    /// What became of it at its backend.
    pub fn travelled(&mut self, noted: &Noted) {
        if let Some(Draft { entry, started, .. }) = self.draft.as_deref_mut()
            && noted.transport.is_some()
        {
            let attempts = noted.attempts.iter().map(|attempt| tried(attempt, *started)).collect();
            let (transport, era) = (noted.transport.map(Cow::Borrowed), noted.era.map(Cow::Borrowed));
            entry.backend = Some(Sent { transport, era, attempts });
        }
    }

    /// What was decided, and by which rules.
    pub fn judged(&mut self, judgement: &Judgement) {
        if let Some(Draft { entry, .. }) = self.draft.as_deref_mut() {
            judge(entry, judgement);
        }
    }

    /// There is nothing to judge: whoever acts may.
    pub fn permitted(&mut self) {
        if let Some(Draft { entry, .. }) = self.draft.as_deref_mut() {
            entry.decision = Decision::Allow.as_str().into();
        }
    }

    /// Adds a fact worth keeping.
    pub fn note(&mut self, note: &str) {
        if let Some(Draft { entry, .. }) = self.draft.as_deref_mut() {
            entry.notes.push(bounded(note).into_owned());
        }
    }

    /// Commits the intent: for a tool that is not read-only, before its backend is contacted.
    ///
    /// # Errors
    /// Where it was not committed; then the call must not be sent.
    pub async fn intend(&mut self) -> Result<(), JournalError> {
        let Some(draft) = &mut self.draft else { return Ok(()) };
        draft.encode_arguments(&self.journal);
        // Set before the wait: a call given up during it may have its intent committed all the same.
        draft.intended = true;
        let intent = Entry { phase: Phase::Intent, ..draft.entry.clone() };
        self.journal.append(intent, false).await
    }

    /// Commits the outcome and gives the id of the record. A caller that goes away meanwhile loses the answer, not
    /// the record.
    ///
    /// # Errors
    /// Where it was not committed; then the answer must be withheld. The record follows, saying so, once the store
    /// can be written.
    pub async fn close(mut self, closing: Closing) -> Result<EventId, JournalError> {
        let Some(draft) = self.draft.take() else { return Ok(self.id.clone()) };
        let intended = draft.intended;
        let row = self.journal.row(draft.ended(&self.journal, closing), intended);
        let Err(error) = self.journal.0.store.append_audit(Arc::clone(&row)).await else {
            return Ok(self.id.clone());
        };
        let mut entry = row.entry.clone();
        if entry.outcome.as_deref() == Some(Ending::Answered.as_str()) {
            entry.outcome = Some(Ending::Failed.as_str().into());
            entry.reason = Some("the answer was withheld: its record could not be written in time".into());
        }
        entry.notes.push("recorded late: the store could not be written".into());
        self.append_later(entry, intended);
        Err(error.into())
    }

    /// Ends as a crash would: nothing more is recorded.
    #[cfg(test)]
    pub(super) fn crash(mut self) {
        self.draft = None;
    }

    /// Leaves an outcome to the writer, which keeps it until the disk takes it.
    fn append_later(&self, entry: Entry, settles: bool) {
        let row = self.journal.row(entry, settles);
        if let Err(error) = self.journal.0.store.append_audit_later(row) {
            tracing::error!(id = %self.id, %error, "an audit record is lost");
        }
    }
}

impl Drop for OpenEntry {
    fn drop(&mut self) {
        if let Some(draft) = self.draft.take() {
            let intended = draft.intended;
            let mut entry = draft.ended(&self.journal, Closing::new(Ending::Interrupted));
            entry.notes.push("given up before its outcome was known".into());
            self.append_later(entry, intended);
        }
        self.journal.0.store.in_flight().fetch_sub(1, Ordering::SeqCst);
    }
}

impl Draft {
    /// The outcome entry.
    fn ended(mut self, journal: &Journal, closing: Closing) -> Entry {
        self.encode_arguments(journal);
        let Self { mut entry, started, .. } = self;
        let Closing { ending, decision, reason, dlp_result, notes, code, rule } = closing;
        entry.code = code.map(Cow::Borrowed);
        entry.rule = rule;
        entry.outcome = Some(ending.as_str().into());
        if let Some(decision) = decision {
            entry.decision = decision.as_str().into();
        }
        if let Some(reason) = reason {
            entry.reason = Some(bounded(&reason).into());
        }
        entry.dlp_result = dlp_result.as_str().into();
        entry.notes.extend(notes.iter().map(|note| bounded(note).into_owned()));
        entry.latency_ms = Some(millis(journal.0.clock.ticks().saturating_sub(started)));
        entry
    }

    fn encode_arguments(&mut self, journal: &Journal) {
        if let Some(arguments) = self.arguments.take() {
            let (digest, kept) = redact::record(&arguments, journal.0.config.arguments);
            self.entry.arguments_digest = Some(digest);
            self.entry.arguments = kept.map(Arc::new);
        }
    }
}

/// An outcome entry with nothing in it yet but its names.
pub(super) fn blank(id: &EventId, request: &RequestId, entrance: Entrance) -> Entry {
    Entry {
        id: id.into(),
        phase: Phase::Outcome,
        time: String::new(),
        request_id: request.into(),
        entrance: entrance.as_str().into(),
        key: None,
        user: None,
        agent: None,
        server: None,
        tool: None,
        kind: None,
        decision: Decision::Error.as_str().into(),
        outcome: None,
        policies: Vec::new(),
        policy_version: Arc::default(),
        reason: None,
        dlp_result: DlpResult::Off.as_str().into(),
        latency_ms: None,
        arguments_digest: None,
        arguments: None,
        notes: Vec::new(),
        code: None,
        rule: None,
        parent: None,
        era: None,
        trace_id: None,
        span_id: None,
        backend: None,
    }
}
