//! Secrets and personal data on their way: arguments before the decision that lets them go, answers before they leave.
//!
//! What is rewritten is judged as it was and as it is: nothing that policy denies goes because something was taken out
//! of it, and what is sent is, byte for byte, what was judged last.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;

use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::record::Record;
use super::resolve::Resolved;
use super::{Line, Long, Pipeline, State};
use crate::backend::{Aside, Asides, Catalog, Peer, Scrutiny, asides};
use crate::domain::decision::Judgement;
use crate::domain::dlp::{Direction, DlpMode, DlpResult};
use crate::domain::id::{KeyId, ServerName};
use crate::domain::json::Json;
use crate::domain::outcome::{Answer, Outcome, Refusal, UpstreamError, UpstreamFault};
use crate::domain::tool::{Kind, Tool};
use crate::policy::{PermittedCall, refused_by};
use crate::scan::{Report, Scanner, redact};
use crate::wire::era::Era;

/// Progress of a backend that waits to be scanned.
const NOTICES: usize = 64;
/// Stands among the rules where a text was not scanned whole.
const INCOMPLETE: &str = "incomplete";

/// What a scan came to, and what was done about it.
#[derive(Debug, Default)]
pub struct Scanned {
    pub result: DlpResult,
    /// How often each rule found something.
    pub counts: BTreeMap<&'static str, usize>,
    /// The text as it may travel, where that is another.
    pub rewritten: Option<Json>,
}

impl Scanned {
    fn blocked(counts: BTreeMap<&'static str, usize>) -> Self {
        Self { result: DlpResult::Blocked, counts, rewritten: None }
    }

    /// Takes the rewritten arguments and their tree; where there are none, or they do not fit the schema any more,
    /// nothing may travel.
    #[must_use]
    pub fn fit(&mut self, catalog: &Catalog, tool: &Tool) -> Option<(Json, Value)> {
        let rewritten = self.rewritten.take().and_then(|text| {
            let value = text.tree().ok()?;
            // What the arguments of a prompt must be, redaction leaves them: strings.
            let fits = tool.kind != Kind::Tool || catalog.validate(tool, &value).is_ok();
            fits.then_some((text, value))
        });
        if rewritten.is_none() {
            self.result = DlpResult::Blocked;
        }
        rewritten
    }

    /// What stands in place of what may not travel.
    #[must_use]
    pub fn refusal(&self, direction: Direction) -> Refusal {
        Refusal::DlpBlocked { direction, rules: self.counts.keys().copied().collect() }
    }
}

/// Scans a text and does with it what the mode asks. A text that could not be scanned whole, or rewritten, is one that
/// may not travel, unless findings are only noted.
#[must_use]
pub fn examine(scanner: &Scanner, mode: DlpMode, text: &Json) -> Scanned {
    if mode == DlpMode::Off {
        return Scanned::default();
    }
    treated(mode, text, &scanner.scan(text.bytes()))
}

/// Does with a text what the mode asks.
fn treated(mode: DlpMode, text: &Json, report: &Report) -> Scanned {
    if report.is_clean() {
        return Scanned { result: DlpResult::Passed, ..Scanned::default() };
    }
    let counts = counts(report);
    match mode {
        DlpMode::Off | DlpMode::Observe => Scanned { result: DlpResult::Flagged, counts, rewritten: None },
        DlpMode::Block => Scanned::blocked(counts),
        DlpMode::Redact if report.incomplete => Scanned::blocked(counts),
        DlpMode::Redact => match redact(text.as_str(), &report.findings) {
            Ok(text) => Scanned { result: DlpResult::Redacted, counts, rewritten: Some(Json::from_parts(text)) },
            Err(_) => Scanned::blocked(counts),
        },
    }
}

fn counts(report: &Report) -> BTreeMap<&'static str, usize> {
    let mut counts = report.counts();
    if report.incomplete {
        counts.insert(INCOMPLETE, 1);
    }
    counts
}

/// Looks at texts for a key. What takes long, by its length or by what it is dense with, is scanned where it holds nobody up.
#[derive(Debug, Clone, Copy)]
struct Eye<'a> {
    scanner: &'a Arc<Scanner>,
    long: &'a Long,
    key: &'a KeyId,
}

impl Eye<'_> {
    async fn examined(self, mode: DlpMode, text: &Json) -> Scanned {
        if mode == DlpMode::Off {
            return Scanned::default();
        }
        if let Some(report) = self.scanner.scan_briefly(text.bytes()) {
            return treated(mode, text, &report);
        }
        let (scanner, text) = (Arc::clone(self.scanner), text.clone());
        let scan = self.long.work(self.key, move || examine(&scanner, mode, &text)).await;
        scan.unwrap_or_else(|_| match mode {
            DlpMode::Observe => {
                Scanned { result: DlpResult::Flagged, counts: BTreeMap::from([(INCOMPLETE, 1)]), rewritten: None }
            }
            _ => Scanned::blocked(BTreeMap::from([(INCOMPLETE, 1)])),
        })
    }
}

/// Notes what stands in words that belong to no call, so that no record can.
pub fn noted_aside(server: &ServerName, scanned: &Scanned) {
    if !scanned.counts.is_empty() {
        let (result, rules) = (scanned.result.as_str(), scanned.counts.keys().copied().collect::<Vec<_>>().join(", "));
        tracing::info!(%server, result, rules, "what a client says outside of a call holds findings");
    }
}

/// Refuses a call for what stands in it and may not travel.
fn kept_back(scanned: &Scanned, judgement: Judgement, record: &mut Record) -> Refusal {
    record.scanned(Direction::Arguments, scanned);
    let refusal = scanned.refusal(Direction::Arguments);
    record.judged(&refused_by(judgement, "dlp:arguments", &refusal.to_string()));
    refusal
}

/// Of what cannot be rewritten, nothing travels that would have to be.
fn whole(mode: DlpMode) -> DlpMode {
    if mode == DlpMode::Redact { DlpMode::Block } else { mode }
}

/// A call's client, with what is done about what it answers while the call is under way. A modern one answers by another
/// request.
pub(super) fn scrutinised(peer: &Arc<Peer>, mode: DlpMode, record: &mut Record) -> Arc<Peer> {
    if peer.era == Era::Modern || !peer.may_be_asked() {
        return Arc::clone(peer);
    }
    let scrutiny = Arc::new(Scrutiny::new(mode));
    record.hears(Arc::clone(&scrutiny));
    Arc::new(Peer { asides: peer.asides.under(scrutiny), ..Peer::clone(peer) })
}

impl Pipeline {
    const fn eye<'a>(&'a self, scanner: &'a Arc<Scanner>, key: &'a KeyId) -> Eye<'a> {
        Eye { scanner, long: &self.long, key }
    }

    /// Scans the arguments of a call to a backend, and what cannot be rewritten: a resource's URI, and what its client says
    /// beside all that. An errand's arguments stand there.
    ///
    /// # Errors
    /// Where they may not travel, or policy denies the call as it came.
    pub(super) async fn scan_arguments(
        &self,
        state: &State,
        resolved: Resolved,
        line: &Line,
        record: &mut Record,
    ) -> Result<Resolved, Refusal> {
        let Some(tool) = resolved.backend_tool().map(Arc::clone) else { return Ok(resolved) };
        let (scanner, mode) = (&state.settings.scanner, tool.settings.dlp.arguments);
        let key = resolved.key().clone();
        let uri = (tool.kind == Kind::Resource).then(|| Json::of(&tool.id.tool));
        let beside = line.peer.as_ref().and_then(|peer| peer.beside());
        for text in uri.iter().chain(&beside) {
            let scanned = self.eye(scanner, &key).examined(whole(mode), text).await;
            if scanned.result == DlpResult::Blocked {
                let judgement = resolved.judged(&state.policies, self.clock.now(), record)?;
                return Err(kept_back(&scanned, judgement, record));
            }
            record.scanned(Direction::Arguments, &scanned);
        }
        let resolved = match resolved.trace_words() {
            Some(words) => {
                let mode = if mode == DlpMode::Block { DlpMode::Redact } else { mode };
                let scanned = Scanned { rewritten: None, ..examine(scanner, mode, &words) };
                record.scanned(Direction::Arguments, &scanned);
                // No call needs them: it goes without.
                if scanned.result < DlpResult::Redacted { resolved } else { resolved.without_trace_words() }
            }
            None => resolved,
        };
        let mut scanned = match resolved.arguments().filter(|_| line.errand.is_none()) {
            Some(arguments) => self.eye(scanner, &key).examined(mode, arguments).await,
            None => examine(scanner, mode, &Json::from_parts("{}".into())),
        };
        if scanned.result < DlpResult::Redacted {
            record.scanned(Direction::Arguments, &scanned);
            return Ok(resolved);
        }
        let judgement = resolved.judged(&state.policies, self.clock.now(), record)?;
        let Some((text, value)) = scanned.fit(&state.catalog, &tool) else {
            return Err(kept_back(&scanned, judgement, record));
        };
        record.scanned(Direction::Arguments, &scanned);
        record.resolved(&tool, Some(&text));
        resolved.rewritten(text, value, &self.long).await
    }

    /// Scans what a client answers to a backend's question, be it a result or an error; gives what the backend is told, and
    /// what the scan came to.
    pub async fn scan_answer(
        &self,
        state: &State,
        key: &KeyId,
        mode: DlpMode,
        answer: Result<Json, Json>,
    ) -> (Result<Json, Json>, Scanned) {
        let (Ok(text) | Err(text)) = &answer;
        let mut scanned = self.eye(&state.settings.scanner, key).examined(mode, text).await;
        if scanned.result == DlpResult::Blocked {
            let rules = scanned.counts.keys().copied().collect::<Vec<_>>().join(", ");
            let why = format!("what the client answers may not travel: {rules}");
            return (Err(Json::of(&json!({"code": -32603, "message": why}))), scanned);
        }
        let told = match scanned.rewritten.take() {
            None => answer,
            Some(text) => answer.map(|_| text.clone()).map_err(|_| text),
        };
        (told, scanned)
    }

    /// Scans what a client says of its own session with a server.
    ///
    /// # Errors
    /// Where it may not travel.
    pub(super) async fn scan_aside(
        &self,
        state: &State,
        key: &KeyId,
        server: &ServerName,
        said: &Json,
    ) -> Result<(), Refusal> {
        let mode = whole(state.answers_mode(server));
        let scanned = self.eye(&state.settings.scanner, key).examined(mode, said).await;
        noted_aside(server, &scanned);
        if scanned.result == DlpResult::Blocked { Err(scanned.refusal(Direction::Arguments)) } else { Ok(()) }
    }

    /// Scans what came back, be it a result or an error.
    ///
    /// # Errors
    /// Where it may not travel; then nothing of it does.
    pub(super) async fn scan_outcome(
        &self,
        state: &State,
        call: &PermittedCall,
        outcome: Outcome,
        record: &mut Record,
    ) -> Result<Outcome, Refusal> {
        let mode = call.tool().settings.dlp.results;
        let text = match &outcome {
            Outcome::Answered(answer) => &answer.result,
            Outcome::Failed(UpstreamError { fault: UpstreamFault::Rpc(error), .. }) => error,
            _ => return Ok(outcome),
        };
        let scanned = self.eye(&state.settings.scanner, &call.principal().key).examined(mode, text).await;
        record.scanned(Direction::Results, &scanned);
        if scanned.result == DlpResult::Blocked {
            return Err(scanned.refusal(Direction::Results));
        }
        Ok(match (outcome, scanned.rewritten) {
            (Outcome::Answered(answer), Some(result)) => Outcome::Answered(Answer { result, ..answer }),
            (Outcome::Failed(error), Some(object)) => {
                Outcome::Failed(UpstreamError { fault: UpstreamFault::Rpc(object), ..error })
            }
            (outcome, _) => outcome,
        })
    }
}

/// What a backend says before it answers, scanned like its answer where that may be rewritten or kept back.
#[derive(Debug)]
pub(super) struct Notices<'a> {
    /// From the backend, to the caller, and what looks at it on the way; absent where nothing is scanned.
    way: Option<Way<'a>>,
}

#[derive(Debug)]
struct Way<'a> {
    heard: mpsc::Receiver<Aside>,
    sink: Asides,
    eye: Eye<'a>,
    mode: DlpMode,
}

impl Pipeline {
    /// The channel that a backend's progress takes.
    pub(super) fn notices<'a>(
        &'a self,
        state: &'a State,
        call: &'a PermittedCall,
        progress: Option<Asides>,
    ) -> (Option<Asides>, Notices<'a>) {
        let mode = call.tool().settings.dlp.results;
        match progress {
            Some(sink) if matches!(mode, DlpMode::Redact | DlpMode::Block) => {
                let (source, heard) = asides(NOTICES);
                let eye = self.eye(&state.settings.scanner, &call.principal().key);
                (Some(source), Notices { way: Some(Way { heard, sink, eye, mode }) })
            }
            progress => (progress, Notices { way: None }),
        }
    }
}

impl Notices<'_> {
    /// Passes on what may travel until the call ends.
    pub(super) async fn beside<T>(self, call: impl Future<Output = T>) -> T {
        let Some(mut way) = self.way else { return call.await };
        let mut call = std::pin::pin!(call);
        let answer = loop {
            tokio::select! {
                answer = &mut call => break answer,
                Some(notice) = way.heard.recv() => way.pass(notice).await,
            }
        };
        while let Ok(notice) = way.heard.try_recv() {
            way.pass(notice).await;
        }
        answer
    }
}

impl Way<'_> {
    async fn pass(&self, mut notice: Aside) {
        let params = match &mut notice {
            Aside::Notification { params, .. } => params.as_mut(),
            Aside::Question(question) => question.params.as_mut(),
            Aside::Withdrawn { .. } => None,
        };
        if let Some(text) = params {
            let scanned = self.eye.examined(self.mode, text).await;
            if scanned.result == DlpResult::Blocked {
                return;
            }
            if let Some(rewritten) = scanned.rewritten {
                *text = rewritten;
            }
        }
        // A full channel loses progress, as it does without a scan.
        let _lost = !self.sink.pass(notice);
    }
}
