//! A call that a person has to approve: it goes on where somebody has approved exactly it, else that is asked for.

use std::borrow::Cow;
use std::sync::Arc;

use super::record::Record;
use super::{Line, Pipeline, State};
use crate::approvals::{Asking, Ended, Word};
use crate::backend::Peer;
use crate::domain::approval::Awaited;
use crate::domain::id::EventId;
use crate::domain::outcome::{Outcome, Refusal, UpstreamFault};
use crate::policy::{PendingCall, PermittedCall, refused_by};
use crate::store::ApprovalFacts;

impl Pipeline {
    /// Policy has just said that the call wants an approval; where it has one, that is taken here, before anything is
    /// sent. Gives the line too, on which nothing travels that nobody has approved.
    pub(super) async fn approved<'l>(
        &self,
        state: &State,
        pending: Box<PendingCall>,
        line: &'l Line,
        record: &mut Record,
    ) -> Result<(Box<PermittedCall>, Cow<'l, Line>), Refusal> {
        let asking = Asking {
            approvers: state.policies.approvers(pending.judgement()),
            policies: state.policies.asking(pending.judgement()),
            beside: line.peer.as_ref().and_then(|peer| peer.beside()),
            preview: pending.call().arguments().and_then(|arguments| self.journal.preview(arguments)),
            event: record.id(),
            settings: &state.settings,
            pending: &pending,
        };
        match self.approvals.ask(asking).await {
            Ok(Word::Go { id, execution, other_meta }) => {
                let call = pending.approved(id.as_str());
                record.judged(call.judgement());
                record.let_go(execution);
                let line = if other_meta { Cow::Owned(without_meta(line, record)) } else { Cow::Borrowed(line) };
                Ok((Box::new(call), line))
            }
            Ok(Word::TooLong { bytes, most }) => {
                let reason = format!(
                    "a person has to approve this call, and what it sends has {bytes} bytes, of which a person is shown \
                     {most} at most: make it shorter"
                );
                let judgement = refused_by(pending.into_judgement(), "approval", &reason);
                record.judged(&judgement);
                Err(Refusal::Denied(Box::new(judgement)))
            }
            Ok(Word::Wait(ticket)) => {
                record.judged(pending.judgement());
                record.note(&format!("approval {}", ticket.id));
                let judgement = pending.into_judgement();
                Err(Refusal::ApprovalNeeded(Box::new(Awaited { judgement, ticket })))
            }
            Ok(Word::No { id, reason }) => {
                let judgement = pending.refused(id.as_str(), &reason);
                record.judged(&judgement);
                Err(Refusal::Denied(Box::new(judgement)))
            }
            Ok(Word::Full { scope, limit, retry_after }) => {
                record.judged(pending.judgement());
                Err(Refusal::LimitReached { scope: scope.into(), limit, retry_after })
            }
            Err(error) => {
                record.judged(pending.judgement());
                Err(Refusal::Unrecorded(error.to_string()))
            }
        }
    }

    /// A call that an approval has let go goes on under it, where the same subject asks and the same policy wants the word
    /// of the same people; of a call that had none, policy wants one only since.
    pub(super) async fn approved_before(
        &self,
        state: &State,
        pending: Box<PendingCall>,
        event: &EventId,
        record: &mut Record,
    ) -> Result<Box<PermittedCall>, Refusal> {
        let holds = |facts: &ApprovalFacts| {
            facts.subject.as_ref() == pending.call().subject()
                && facts.approvers == state.policies.approvers(pending.judgement())
                && facts.policy == pending.judgement().policy()
        };
        match self.approvals.used_by(event).await {
            Ok(Some(used)) if holds(&used.facts) => {
                let call = pending.approved(used.id.as_str());
                record.judged(call.judgement());
                Ok(Box::new(call))
            }
            Ok(_) => Err(unapproved(pending, record)),
            Err(error) => {
                record.judged(pending.judgement());
                Err(Refusal::Unrecorded(error.to_string()))
            }
        }
    }
}

/// The line without the `_meta` of its client, which is not the one that was approved: hosts number their calls in it, so
/// that it is another each time.
fn without_meta(line: &Line, record: &mut Record) -> Line {
    let bare = |peer: &Arc<Peer>| Arc::new(Peer { meta: String::new(), ..Peer::clone(peer) });
    let peer = line.peer.as_ref().map(bare);
    record.note("`_meta` left out: it is not the one that was approved");
    Line { peer, ..line.clone() }
}

/// Nobody is asked to approve what is only asked about a call: that would use up the approval of the call itself.
pub(super) fn unapproved(pending: Box<PendingCall>, record: &mut Record) -> Refusal {
    let label = pending.call().tool().shown().into_owned();
    let reason = format!("a person has to approve what `{label}` is asked for, and that is asked for by a call alone");
    let judgement = refused_by(pending.into_judgement(), "approval", &reason);
    record.judged(&judgement);
    Refusal::Denied(Box::new(judgement))
}

/// What an outcome says of the approval that let the call go. `sent` says whether anything may have left.
pub(super) fn ended(outcome: &Outcome, sent: bool) -> Ended {
    match outcome {
        Outcome::Answered(_) => Ended::Used("answered"),
        Outcome::Refused(_) | Outcome::Cancelled | Outcome::Failed(_) if !sent => Ended::NotSent,
        // Its answer was withheld.
        Outcome::Refused(_) => Ended::Used("refused"),
        Outcome::Cancelled => Ended::Unknown("cancelled"),
        Outcome::Failed(error) => match error.fault {
            UpstreamFault::Rpc(_) => Ended::Used("failed"),
            _ if error.without_effect => Ended::NotSent,
            _ => Ended::Unknown("failed"),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::json::Json;
    use crate::domain::outcome::{Answer, UpstreamError};

    fn failed(fault: UpstreamFault, without_effect: bool) -> Outcome {
        let (message, retryable, breaker) = (String::new(), true, "closed");
        Outcome::Failed(UpstreamError { fault, message, retryable, without_effect, breaker, retry_after: None })
    }

    #[test]
    fn an_approval_stands_again_only_where_nothing_was_done_for_sure() {
        let answer = Answer { result: Json::of(&Arc::<str>::from("x")), is_error: true, cached: false, partial: false };
        assert_eq!(ended(&Outcome::Answered(answer), true), Ended::Used("answered"));
        assert_eq!(ended(&Outcome::Refused(Refusal::Stopping), false), Ended::NotSent);
        assert_eq!(ended(&Outcome::Refused(Refusal::Internal), true), Ended::Used("refused"));
        assert_eq!(ended(&Outcome::Cancelled, true), Ended::Unknown("cancelled"));
        assert_eq!(ended(&Outcome::Cancelled, false), Ended::NotSent);
        // Whether the tool may be called twice is no matter of whether it was.
        assert_eq!(ended(&failed(UpstreamFault::Down, true), true), Ended::NotSent);
        assert_eq!(ended(&failed(UpstreamFault::Down, false), true), Ended::Unknown("failed"));
        assert_eq!(ended(&failed(UpstreamFault::Down, false), false), Ended::NotSent, "no account, nothing sent");
        assert_eq!(ended(&failed(UpstreamFault::Timeout, false), true), Ended::Unknown("failed"));
        assert_eq!(ended(&failed(UpstreamFault::Rpc(Json::of(&1)), false), true), Ended::Used("failed"));
    }
}
