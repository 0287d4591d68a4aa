//! Approvals as people and programs are shown them, at every door alike.

use serde_json::{Value, json};

use super::{Approvals, exact};
use crate::config::Settings;
use crate::domain::approval::{ApprovalState, Ticket};
use crate::domain::clock::Moment;
use crate::domain::id::ApprovalId;
use crate::domain::principal::{Principal, Scope};
use crate::store::{ApprovalFilter, ApprovalRecord, StoreError};

/// Who looks.
#[derive(Debug, Clone, Copy)]
pub enum Viewer<'a> {
    /// The machine's owner.
    Owner,
    /// Who may not decide sees their own.
    Holder(&'a Principal),
}

impl Viewer<'_> {
    fn sees(self, record: &ApprovalRecord) -> bool {
        match self {
            Self::Owner => true,
            Self::Holder(who) => who.profile.has(Scope::ApprovalsDecide) || who.user == record.user,
        }
    }

    fn decides(self, record: &ApprovalRecord) -> bool {
        let allowed = match self {
            Self::Owner => true,
            Self::Holder(who) => Approvals::may_decide(record, who).is_ok(),
        };
        allowed && record.state == ApprovalState::Pending
    }

    /// The arguments themselves are for those who decide on this very request, for the key that sent them, and for those
    /// keys of its user that decide on others': the desktop of a user is not shown what their agent sends.
    fn reads(self, record: &ApprovalRecord) -> bool {
        match self {
            Self::Owner => true,
            Self::Holder(who) => {
                let own = who.user == record.user && who.profile.has(Scope::ApprovalsDecide);
                who.key == record.key || own || Approvals::may_decide(record, who).is_ok()
            }
        }
    }
}

impl Approvals {
    /// One of them, with the arguments for those who may read them; `None` where this viewer sees no such one.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub async fn one(
        &self,
        viewer: Viewer<'_>,
        id: &ApprovalId,
        settings: &Settings,
    ) -> Result<Option<Value>, StoreError> {
        let Some(record) = self.find(id).await?.filter(|record| viewer.sees(record)) else { return Ok(None) };
        let mut view = self.view(&record, settings);
        if let Some(members) = view.as_object_mut() {
            members.insert("may_decide".into(), json!(viewer.decides(&record)));
        }
        if let (true, Some(members)) = (viewer.reads(&record), view.as_object_mut()) {
            let kept = self.0.store.approval_arguments(id).await?.unwrap_or_default();
            let texts = exact::texts(&kept);
            let (arguments, beside) = (texts.map(|(text, _)| text), texts.and_then(|(_, text)| text));
            members.insert("arguments".into(), tree(arguments));
            members.insert("beside".into(), tree(beside));
            // A tree rounds numbers that two calls may differ in.
            members.insert("exact".into(), json!({"arguments": arguments, "beside": beside}));
        }
        Ok(Some(view))
    }

    /// A page of those that a viewer sees, newest first, and where the next begins.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub async fn page(
        &self,
        viewer: Viewer<'_>,
        state: Option<ApprovalState>,
        before: Option<ApprovalId>,
        limit: usize,
        settings: &Settings,
    ) -> Result<(Vec<Value>, Option<ApprovalId>), StoreError> {
        let user = match viewer {
            Viewer::Holder(who) if !who.profile.has(Scope::ApprovalsDecide) => Some(who.user.clone()),
            _ => None,
        };
        let filter = ApprovalFilter { state, user, before };
        let (records, more) = self.0.store.approvals(filter, limit, self.0.clock.now()).await?;
        let next = records.last().filter(|_| more).map(|record| record.id.clone());
        Ok((records.iter().map(|record| self.view(record, settings)).collect(), next))
    }

    pub(super) fn ticket(&self, record: &ApprovalRecord, settings: &Settings) -> Ticket {
        Ticket {
            id: record.id.clone(),
            url: self.url(settings, &record.id),
            expires: record.expires,
            approvers: record.facts.approvers.clone(),
        }
    }

    fn url(&self, settings: &Settings, id: &ApprovalId) -> String {
        let host = self.0.host.get().map_or("127.0.0.1:8080", String::as_str);
        format!("{}/v1/approvals/{id}", settings.gateway.base_url(host))
    }

    pub(super) fn view(&self, record: &ApprovalRecord, settings: &Settings) -> Value {
        let ApprovalRecord { id, state, key, user, created, expires, facts, decided, used } = record;
        let time = |moment: Moment| moment.rfc3339();
        let ended = used.as_ref().and_then(|used| used.ended.as_ref());
        json!({
            "id": id,
            "state": state,
            "tool": facts.tool,
            "kind": facts.kind,
            "user": user,
            "agent": facts.agent,
            "subject": facts.subject.as_ref().and_then(|subject| subject.name.as_ref()),
            "issuer": facts.subject.as_ref().map(|subject| &subject.issuer),
            "key": key,
            "key_name": facts.name,
            "reason": facts.reason,
            "policy": facts.policy,
            "policy_version": facts.policy_version,
            "approvers": facts.approvers,
            "effects": facts.effects,
            "tool_digest": facts.tool_digest,
            "arguments_digest": facts.arguments_digest,
            "beside_digest": facts.beside_digest,
            "meta_digest": facts.meta_digest,
            "preview": facts.preview,
            "audit_event_id": facts.event,
            "created_at": time(*created),
            "expires_at": time(*expires),
            "decided_at": decided.as_ref().map(|by| time(by.at)),
            "decided_by": decided.as_ref().map(|by| json!({"key": by.key, "user": by.user})),
            "comment": decided.as_ref().and_then(|by| by.comment.as_ref()),
            "used_at": used.as_ref().map(|used| time(used.at)),
            "used_event_id": used.as_ref().map(|used| &used.event),
            "ended_at": ended.map(|(at, _)| time(*at)),
            "outcome": ended.map(|(_, outcome)| outcome),
            "earlier": facts.earlier,
            "url": self.url(settings, id),
            "next": next(record),
        })
    }
}

fn tree(text: Option<&str>) -> Value {
    text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
}

/// What is to be done.
fn next(record: &ApprovalRecord) -> String {
    let (id, until) = (&record.id, record.expires.rfc3339());
    let said = match record.state {
        ApprovalState::Pending => {
            let who = match &record.facts.approvers {
                None => "anybody with the scope approvals:decide but the requester".to_owned(),
                Some(roles) => format!("a holder of {}, not the requester,", roles.join(" or ")),
            };
            format!(
                "{who} decides until {until}: at the url, or `toolgate approvals approve {id}` on the gateway's machine"
            )
        }
        ApprovalState::Approved => format!("the requester makes the identical call until {until}; it runs once"),
        ApprovalState::Denied => format!("the identical call is refused until {until}"),
        ApprovalState::Expired => "nothing was called under it; the identical call asks anew".into(),
        ApprovalState::Executing => "the call is under way".into(),
        ApprovalState::Used => "the call was made; the identical call asks anew".into(),
        ApprovalState::Unknown => format!(
            "the gateway lost sight of this call while it was under way: whether it took effect is not known, and it is \
             not made again. Look at what `{}` acts on; where it did not take effect, have the requester make the call \
             again, which asks for a new approval",
            record.facts.tool
        ),
    };
    match (&record.facts.earlier, record.state) {
        (Some(earlier), ApprovalState::Pending) => {
            format!("{said}. Look first: of the same call under {earlier} nobody knows whether it took effect")
        }
        _ => said,
    }
}
