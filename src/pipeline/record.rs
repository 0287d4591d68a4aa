//! The record of a call as the pipeline fills it in, and what the answer says of it.

use std::sync::Arc;

use crate::domain::call::{CallRequest, Errand};
use crate::domain::decision::Judgement;
use crate::domain::id::EventId;
use crate::domain::json::{Json, canonical, sha256_hex};
use crate::domain::outcome::{Carried, Governance, Outcome, Refusal};
use crate::domain::principal::Principal;
use crate::domain::tool::{Kind, Tool};
use crate::journal::{Closing, Journal, OpenEntry, Opening};
use crate::policy::PermittedCall;

/// What is scanned of arguments and results: nothing yet.
const DLP_OFF: &str = "off";

/// An open record, and what is known of the call so far.
#[derive(Debug)]
pub(super) struct Record {
    entry: OpenEntry,
    kind: Kind,
    tool: Option<Arc<Tool>>,
    decision: &'static str,
    policy: Arc<str>,
}

impl Record {
    /// Opens the record: no record, no call.
    ///
    /// # Errors
    /// The finished call, where nothing can be recorded.
    pub(super) async fn open(
        journal: &Journal,
        principal: &Principal,
        request: &CallRequest,
    ) -> Result<Self, Box<Carried>> {
        let kind = request.tool.kind();
        match journal.open(Opening::of(request, principal)).await {
            Ok(entry) => Ok(Self { entry, kind, tool: None, decision: "error", policy: "none".into() }),
            Err(error) => Err(Box::new(Carried {
                outcome: Outcome::Refused(Refusal::Unrecorded(error.to_string())),
                governance: governance("error", "none".into(), request.event.clone()),
                kind,
                tool: None,
            })),
        }
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
        self.entry.note(errand.method());
    }

    /// Notes whose token was brought for the server.
    pub(super) fn vouched(&mut self, subject: &str) {
        self.entry.note(&format!("with a JWT of `{subject}`"));
    }

    pub(super) fn judged(&mut self, judgement: &Judgement) {
        self.entry.judged(judgement);
        self.decision = judgement.verdict.as_str();
        self.policy = judgement.policy().into();
    }

    /// Commits the intent.
    ///
    /// # Errors
    /// Where it was not committed: then nothing is sent.
    pub(super) async fn intend(&mut self) -> Result<(), Refusal> {
        self.entry.intend().await.map_err(|error| Refusal::Unrecorded(error.to_string()))
    }

    /// Commits the outcome; an answer whose outcome cannot be recorded is withheld.
    pub(super) async fn close(self, outcome: Outcome) -> Carried {
        let Self { entry, kind, tool, mut decision, mut policy } = self;
        match &outcome {
            Outcome::Refused(Refusal::LimitReached { scope, .. }) => {
                decision = "deny";
                policy = format!("limit:{scope}").into();
            }
            Outcome::Refused(Refusal::ServerJwt { server, .. }) => {
                decision = "deny";
                policy = format!("jwt:{server}").into();
            }
            Outcome::Refused(refusal) if refusal.hides() => decision = "deny",
            _ => {}
        }
        let id = entry.id().clone();
        match entry.close(Closing::of(&outcome)).await {
            Ok(id) => Carried { outcome, governance: governance(decision, policy, id), kind, tool },
            Err(error) => Carried {
                outcome: Outcome::Refused(Refusal::Unrecorded(error.to_string())),
                governance: governance("error", policy, id),
                kind,
                tool,
            },
        }
    }
}

fn governance(decision: &'static str, policy: Arc<str>, audit_event_id: EventId) -> Governance {
    Governance { decision, policy, dlp_result: DLP_OFF, audit_event_id }
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
