//! The record of a call as the pipeline fills it in, and what the answer says of it.

use std::sync::Arc;

use super::Pipeline;
use super::approval::ended;
use super::scan::Scanned;
use crate::approvals::Execution;
use crate::backend::Scrutiny;
use crate::domain::audit::Decision;
use crate::domain::call::{CallRequest, Entrance, Errand};
use crate::domain::decision::Judgement;
use crate::domain::dlp::{Direction, DlpResult};
use crate::domain::id::EventId;
use crate::domain::json::{Json, canonical, sha256_hex};
use crate::domain::outcome::{Carried, Governance, Outcome, Refusal};
use crate::domain::principal::Principal;
use crate::domain::tool::{Kind, Tool};
use crate::domain::trace::{Context, Provenance, Trail};
use crate::journal::{Closing, OpenEntry, Opening};
use crate::policy::PermittedCall;
use crate::telemetry::{Ended, Telemetry};

/// An open record, and what is known of the call so far.
#[derive(Debug)]
pub(super) struct Record {
    entry: OpenEntry,
    kind: Kind,
    tool: Option<Arc<Tool>>,
    decision: &'static str,
    policy: Arc<str>,
    dlp: DlpResult,
    /// What an approval has let go.
    execution: Option<Execution>,
    sent: bool,
    trail: Trail,
    /// What is found in its client's answers, where that may be asked.
    answers: Option<Arc<Scrutiny>>,
    /// Of a call that is a span.
    traced: Option<Box<Traced>>,
}

/// What the span of a call is made of at its end.
#[derive(Debug)]
struct Traced {
    telemetry: Telemetry,
    parent: Option<Context>,
    provenance: Provenance,
    entrance: Entrance,
    began: u64,
}

impl Record {
    /// Opens the record: no record, no call.
    ///
    /// # Errors
    /// The finished call, where nothing can be recorded.
    pub(super) async fn open(
        pipeline: &Pipeline,
        principal: &Principal,
        request: &CallRequest,
        provenance: &Provenance,
    ) -> Result<Self, Box<Carried>> {
        let (kind, entrance) = (request.tool.kind(), request.entrance);
        match pipeline.journal.open(Opening::of(request, principal)).await {
            Ok(mut entry) => {
                let parent = provenance.within.or_else(|| Context::of(&request.trace));
                let telemetry = pipeline.telemetry.current();
                let context = telemetry.as_ref().map(|telemetry| telemetry.begin(parent));
                entry.came_from(provenance, context, parent);
                let traced = telemetry.map(|telemetry| {
                    let (began, provenance) = (telemetry.ticks(), provenance.clone());
                    Box::new(Traced { telemetry, parent, provenance, entrance, began })
                });
                let (policy, dlp, trail) = ("none".into(), DlpResult::Off, Trail::below(context));
                let (tool, execution, sent, answers) = (None, None, false, None);
                let decision = "error";
                Ok(Self { entry, kind, tool, decision, policy, dlp, execution, sent, trail, answers, traced })
            }
            Err(error) => Err(Box::new(Carried {
                outcome: Outcome::Refused(Refusal::Unrecorded(error.to_string())),
                governance: governance("error", "none".into(), DlpResult::Off, request.event.clone()),
                kind,
                tool: None,
            })),
        }
    }

    /// Takes note of what becomes of the call at its backend.
    pub(super) const fn trail(&self) -> &Trail {
        &self.trail
    }

    /// Notes which tool is meant, and the arguments that are its own.
    pub(super) fn resolved(&mut self, tool: &Arc<Tool>, arguments: Option<&Json>) {
        self.entry.resolved(tool.kind, &tool.id);
        self.entry.arguments(arguments.cloned());
        self.tool = Some(Arc::clone(tool));
    }

    /// Notes the true reason where the caller is only told that what it asks for is unknown.
    pub(super) fn outside_profile(&mut self, profile: &str) {
        self.entry.note(&format!("the {} lies outside the profile `{profile}`", self.kind.as_str()));
    }

    /// Notes what is asked in place of the call.
    pub(super) fn errand(&mut self, errand: &Errand) {
        self.entry.note(match errand {
            Errand::GoOn { .. } => "taken up again",
            _ => errand.method(),
        });
        if let Some(traced) = &mut self.traced {
            traced.provenance.method = Some(errand.method());
        }
    }

    /// Notes what a client answers to questions of the backend's, of which the arguments say nothing: as the log names those,
    /// by the digest.
    pub(super) fn answers(&mut self, answers: &Json) {
        self.entry.note(&format!("answers sha256:{}", sha256_hex(canonical(&answers.value()).as_bytes())));
    }

    /// Notes whose token was brought for the server.
    pub(super) fn vouched(&mut self, subject: &str) {
        self.entry.note(&format!("with a JWT of `{subject}`"));
    }

    /// Notes what the gateway's own tool says of its work.
    pub(super) fn worked(&mut self, call: &PermittedCall) {
        for note in call.notes() {
            self.entry.note(&note);
        }
    }

    /// The id of the record.
    pub(super) fn id(&self) -> &EventId {
        self.entry.id()
    }

    /// Adds a fact.
    pub(super) fn note(&mut self, note: &str) {
        self.entry.note(note);
    }

    /// An approval was taken for this call; it comes to its end with the record.
    pub(super) fn let_go(&mut self, execution: Execution) {
        self.execution = Some(execution);
    }

    /// From here on the call may have an effect.
    pub(super) fn sent(&mut self) {
        self.sent = true;
    }

    pub(super) fn judged(&mut self, judgement: &Judgement) {
        self.entry.judged(judgement);
        self.decision = judgement.verdict.as_str();
        self.policy = judgement.policy().into();
    }

    /// Notes what a scan came to: which rules found something, and how often; never what.
    pub(super) fn scanned(&mut self, direction: Direction, scanned: &Scanned) {
        self.dlp = self.dlp.max(scanned.result);
        if !scanned.counts.is_empty() {
            let counts = scanned.counts.iter().map(|(rule, count)| format!("{rule} ×{count}")).collect::<Vec<_>>();
            self.entry.note(&format!("dlp: {direction} {}: {}", scanned.result.as_str(), counts.join(", ")));
        }
    }

    /// Notes at its end what is found in its client's answers.
    pub(super) fn hears(&mut self, answers: Arc<Scrutiny>) {
        self.answers = Some(answers);
    }

    /// Commits the intent.
    ///
    /// # Errors
    /// Where it was not committed: then nothing is sent.
    pub(super) async fn intend(&mut self) -> Result<(), Refusal> {
        self.entry.intend().await.map_err(|error| Refusal::Unrecorded(error.to_string()))
    }

    /// Commits the outcome; an answer whose outcome cannot be recorded is withheld.
    pub(super) async fn close(mut self, outcome: Outcome) -> Carried {
        if let Some((result, counts)) = self.answers.take().map(|answers| answers.found()) {
            self.scanned(Direction::Arguments, &Scanned { result, counts, rewritten: None });
        }
        let Self { mut entry, kind, tool, mut decision, mut policy, dlp, execution, sent, trail, traced, .. } = self;
        if let Some(execution) = execution {
            execution.ended(ended(&outcome, sent)).await;
        }
        if let Outcome::Refused(refusal) = &outcome {
            decision = refusal.decision().map_or(decision, Decision::as_str);
            policy = refusal.rule().unwrap_or(policy);
        }
        let noted = trail.noted();
        entry.travelled(&noted);
        let id = entry.id().clone();
        let closing = Closing { dlp_result: dlp, ..Closing::of(&outcome) };
        if let (Some(traced), Some(context)) = (traced, trail.context()) {
            let error = closing.code.or_else(|| matches!(outcome, Outcome::Cancelled).then_some("cancelled"));
            let Traced { telemetry, parent, provenance, entrance, began } = *traced;
            let (tool, policy, event, ended) = (tool.clone(), Arc::clone(&policy), id.clone(), telemetry.ticks());
            let ended = Ended {
                context,
                parent,
                provenance,
                entrance,
                kind,
                tool,
                began,
                ended,
                error,
                decision,
                policy,
                event,
                noted,
            };
            telemetry.ended(ended);
        }
        match entry.close(closing).await {
            Ok(id) => Carried { outcome, governance: governance(decision, policy, dlp, id), kind, tool },
            Err(error) => Carried {
                outcome: Outcome::Refused(Refusal::Unrecorded(error.to_string())),
                governance: governance("error", policy, dlp, id),
                kind,
                tool,
            },
        }
    }
}

fn governance(decision: &'static str, policy: Arc<str>, dlp_result: DlpResult, audit_event_id: EventId) -> Governance {
    Governance { decision, policy, dlp_result, audit_event_id }
}

/// Names an answer in the response cache by everything that the decision used.
pub(super) fn cache_digest(call: &PermittedCall) -> String {
    let principal = call.principal();
    let text = format!(
        "{}\n{}\n{:?}\n{:?}\n{}\n{}\n{}",
        principal.key,
        principal.profile.name,
        // Those of a token may be others than those of the one before.
        principal.profile.scopes,
        principal.roles,
        call.judgement().policy_version,
        call.tool().digest,
        canonical(call.value())
    );
    sha256_hex(text.as_bytes())
}
