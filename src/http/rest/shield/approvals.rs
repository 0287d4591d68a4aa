//! `/v1/approvals`: calls that wait for a person, to be listed, looked at and decided; to a browser, a page with forms.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{FromRequestParts, State};
use axum::response::{IntoResponse, Response};
use http::request::Parts;
use http::{HeaderMap, StatusCode, Uri, header};
use serde_json::{Map, Value, json};
use url::form_urlencoded;

use super::super::super::body;
use super::super::super::caller::{Admitted, Caller, Peer, Stranger, source};
use super::super::super::error::{challenge, envelope, plain};
use super::super::super::request::Named;
use super::super::{Segments, enter, put_retry_after};
use super::approval_page::{Shown, page as html};
use super::query::{Query, cursor};
use super::{No, data, invalid, missing, optional_body, page};
use crate::domain::approval::{ApprovalState, Decision};
use crate::domain::call::Entrance;
use crate::domain::id::{ApprovalId, RequestId};
use crate::domain::principal::Scope;
use crate::domain::secret::Secret;
use crate::gateway::control::Actor;
use crate::gateway::{Credential, Gateway, NotAdmitted, Undecided, Viewer};
use crate::wire::rest::schema::ErrorEnvelope;
use crate::wire::rest::{Body as Members, shield_schema as schema};

/// The list that cursors belong to.
const LIST: &str = "approvals";
/// Bytes of a decision's body.
const MAX_BODY: usize = 16 * 1024;
const FORM: &str = "application/x-www-form-urlencoded";

/// What somebody does about an approval.
#[derive(Debug, Clone, Copy)]
enum Act {
    Look,
    Decide(Decision),
}

/// Where a request comes from whose key may stand in a form.
#[derive(Debug)]
pub(super) struct Sender {
    peer: Option<SocketAddr>,
    request: RequestId,
    /// Learns who was admitted.
    admitted: Admitted,
}

impl FromRequestParts<Arc<Gateway>> for Sender {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, gateway: &Arc<Gateway>) -> Result<Self, Infallible> {
        let Peer(peer) = Peer::from_request_parts(parts, gateway).await?;
        let Named(request) = Named::from_request_parts(parts, gateway).await?;
        let admitted = parts.extensions.get::<Admitted>().cloned().unwrap_or_default();
        Ok(Self { peer, request, admitted })
    }
}

#[utoipa::path(
    get, path = "/v1/approvals", operation_id = "approvals", tag = "Approvals", summary = "Calls that wait for a person, newest first",
    description = "Those decided and over stand among them. Without `approvals:decide` one sees those of one's own user.",
    params(
        ("limit" = Option<u32>, Query, description = "Items on the page", minimum = 1, maximum = 200, nullable = false),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before", nullable = false),
        ("state" = Option<schema::ApprovalStates>, Query, description = "Only these", nullable = false),
    ),
    responses((status = 200, description = "A page of them", body = schema::ObjectPage))
)]
/// `GET /v1/approvals`: newest first.
pub(super) async fn list(State(gateway): State<Arc<Gateway>>, caller: Caller, uri: Uri) -> Result<Response, No> {
    enter(&gateway, &caller, Scope::ApprovalsRead)?;
    let query = Query::read(&uri, &["limit", "cursor", "state"])?;
    let state = query.word("state", &ApprovalState::ALL.map(ApprovalState::as_str))?;
    let before = query.place(LIST)?.map(|place: String| ApprovalId::from(place.as_str()));
    let state = state.and_then(|state| ApprovalState::parse(&state));
    let (limit, viewer) = (query.limit()?, Viewer::Holder(&caller.principal));
    let (approvals, next) = gateway.approvals_page(viewer, state, before, limit).await.map_err(|why| refused(&why))?;
    let items: Vec<String> = approvals.iter().map(Value::to_string).collect();
    let next = next.map(|next| cursor(LIST, next.as_str()));
    Ok(page(&items, limit, next.as_deref(), Map::new()))
}

#[utoipa::path(
    get, path = "/v1/approvals/{id}", operation_id = "approval", tag = "Approvals", summary = "One approval",
    description = "With the arguments for those who may decide on it, and for the requesting key. A browser gets a page.",
    params(("id" = String, Path, description = "`apr_…`")),
    responses(
        (status = 200, description = "The approval", content((schema::ObjectAnswer = "application/json"), (String = "text/html"))),
    )
)]
/// `GET /v1/approvals/{id}`: JSON, or a page for a browser.
pub(super) async fn one(
    State(gateway): State<Arc<Gateway>>,
    caller: Result<Caller, Stranger>,
    Segments(id): Segments<String>,
    headers: HeaderMap,
) -> Response {
    let caller = match caller {
        Ok(caller) => caller,
        Err(Stranger(why)) if is_browser(&headers) && is_id(&id) => return door(&id, &why),
        Err(stranger) => return stranger.into_response(),
    };
    if is_browser(&headers) && is_id(&id) {
        return match enter(&gateway, &caller, Scope::ApprovalsRead) {
            Ok(()) => show(&gateway, &caller, &id, StatusCode::OK, None).await,
            Err(refused) => *refused,
        };
    }
    look(&gateway, &caller, &id).await.unwrap_or_else(IntoResponse::into_response)
}

async fn look(gateway: &Gateway, caller: &Caller, id: &str) -> Result<Response, No> {
    enter(gateway, caller, Scope::ApprovalsRead)?;
    let found = gateway.approval(Viewer::Holder(&caller.principal), &ApprovalId::from(id)).await;
    match found.map_err(|why| refused(&why))? {
        Some(approval) => Ok(data(StatusCode::OK, &approval)),
        None => Err(missing("there is no such approval")),
    }
}

#[utoipa::path(
    post, path = "/v1/approvals/{id}", operation_id = "look_at_approval", tag = "Approvals", summary = "One approval, for the page's own form",
    description = "What the page of `GET` sends: the key stands in the form, and the answer is the page with the approval.",
    params(("id" = String, Path, description = "`apr_…`")),
    request_body(content = schema::ApprovalForm, content_type = "application/x-www-form-urlencoded"),
    responses((status = 200, description = "The page", body = String, content_type = "text/html"))
)]
/// `POST /v1/approvals/{id}`: the page's own form, with a key.
pub(super) async fn reveal(
    State(gateway): State<Arc<Gateway>>,
    caller: Result<Caller, Stranger>,
    sender: Sender,
    Segments(id): Segments<String>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    act(&gateway, caller, sender, &id, &headers, body, Act::Look).await
}

#[utoipa::path(
    post, path = "/v1/approvals/{id}/approve", operation_id = "approve", tag = "Approvals", summary = "Let exactly this call be made, once",
    description = "Never by the requester; by a holder of a role where the policy names some. The page sends a form, and is \
                   answered with a page.",
    params(("id" = String, Path, description = "`apr_…`")),
    request_body(content((schema::ApprovalDecision = "application/json"), (schema::ApprovalForm = "application/x-www-form-urlencoded"))),
    responses(
        (status = 200, description = "It is approved", content((schema::ObjectAnswer = "application/json"), (String = "text/html"))),
        (status = 409, description = "It waits for no decision", body = ErrorEnvelope),
    )
)]
/// `POST /v1/approvals/{id}/approve`.
pub(super) async fn approve(
    State(gateway): State<Arc<Gateway>>,
    caller: Result<Caller, Stranger>,
    sender: Sender,
    Segments(id): Segments<String>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    act(&gateway, caller, sender, &id, &headers, body, Act::Decide(Decision::Approve)).await
}

#[utoipa::path(
    post, path = "/v1/approvals/{id}/deny", operation_id = "deny", tag = "Approvals", summary = "Refuse this call",
    description = "The identical call is refused, with the comment, until the request would have expired. Who may approve may deny.",
    params(("id" = String, Path, description = "`apr_…`")),
    request_body(content((schema::ApprovalDecision = "application/json"), (schema::ApprovalForm = "application/x-www-form-urlencoded"))),
    responses(
        (status = 200, description = "It is denied", content((schema::ObjectAnswer = "application/json"), (String = "text/html"))),
        (status = 409, description = "It waits for no decision", body = ErrorEnvelope),
    )
)]
/// `POST /v1/approvals/{id}/deny`.
pub(super) async fn deny(
    State(gateway): State<Arc<Gateway>>,
    caller: Result<Caller, Stranger>,
    sender: Sender,
    Segments(id): Segments<String>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    act(&gateway, caller, sender, &id, &headers, body, Act::Decide(Decision::Deny)).await
}

/// Answers whatever is posted to an approval: a form of the page's own with a page, a program with JSON.
async fn act(
    gateway: &Arc<Gateway>,
    caller: Result<Caller, Stranger>,
    sender: Sender,
    id: &str,
    headers: &HeaderMap,
    body: Body,
    act: Act,
) -> Response {
    if is_form(headers) && is_id(id) {
        return by_form(gateway, sender, id, headers, body, act).await;
    }
    let caller = match caller {
        Ok(caller) => caller,
        Err(stranger) => return stranger.into_response(),
    };
    match act {
        Act::Decide(decision) => decide(gateway, &caller, id, headers, body, decision).await,
        Act::Look => match enter(gateway, &caller, Scope::ApprovalsRead) {
            Err(refused) => *refused,
            Ok(()) if is_id(id) => plain(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "invalid_request",
                "this takes the page's own form: use `GET`",
            ),
            Ok(()) => missing("there is no such approval").into_response(),
        },
    }
}

/// A decision of a program's.
async fn decide(
    gateway: &Gateway,
    caller: &Caller,
    id: &str,
    headers: &HeaderMap,
    body: Body,
    decision: Decision,
) -> Response {
    let deciding = async {
        enter(gateway, caller, Scope::ApprovalsDecide)?;
        let bytes = optional_body(headers, body, MAX_BODY).await?;
        let comment = match bytes.is_empty() {
            true => None,
            false => {
                let members = Members::read(&bytes).map_err(|why| invalid(&why))?;
                members.only(&["comment"]).map_err(|why| invalid(&why))?;
                members.text("comment").map_err(|why| invalid(&why))?
            }
        };
        let (actor, id) = (Actor::holder(&caller.principal, &caller.request), ApprovalId::from(id));
        let decided = gateway.decide_approval(&actor, Some(&caller.principal), &id, decision, comment).await;
        decided.map_err(|why| refused(&why))
    };
    match deciding.await {
        Ok(approval) => data(StatusCode::OK, &approval),
        Err(no) => no.into_response(),
    }
}

/// Looks or decides with the key that stands in a form, and answers with the page.
async fn by_form(
    gateway: &Arc<Gateway>,
    Sender { peer, request, admitted }: Sender,
    id: &str,
    headers: &HeaderMap,
    body: Body,
    act: Act,
) -> Response {
    let bytes = match body::whole(body, MAX_BODY).await {
        Ok(bytes) => bytes,
        Err((status, why)) => return html(status, id, Shown::Door(Some(why))),
    };
    let mut fields: HashMap<String, String> = form_urlencoded::parse(&bytes).into_owned().collect();
    let key = fields.remove("key").map(|key| key.trim().to_owned()).filter(|key| !key.is_empty());
    let credential = key.map_or(Credential::Missing, |key| Credential::Key(Secret::new(key)));
    let source = source(gateway, peer, headers);
    let principal = match gateway.admit(&credential, Entrance::Rest, source, &request).await {
        Ok(principal) => principal,
        Err(why) => return door(id, &why),
    };
    admitted.0.get_or_init(|| principal.clone());
    let caller = Caller { principal, source, request };
    if let Err(refusal) = gateway.charge_request(&caller.principal) {
        let mut response = html(StatusCode::TOO_MANY_REQUESTS, id, Shown::Door(Some(&refusal.to_string())));
        put_retry_after(&refusal, &mut response);
        return response;
    }
    let Act::Decide(decision) = act else { return show(gateway, &caller, id, StatusCode::OK, None).await };
    let actor = Actor::holder(&caller.principal, &caller.request);
    let (approval, comment) = (ApprovalId::from(id), fields.remove("comment"));
    match gateway.decide_approval(&actor, Some(&caller.principal), &approval, decision, comment).await {
        Ok(_) => {
            let said = match decision {
                Decision::Approve => "You have approved this call.",
                Decision::Deny => "You have refused this call.",
            };
            show(gateway, &caller, id, StatusCode::OK, Some(said)).await
        }
        Err(why) => show(gateway, &caller, id, status(&why).0, Some(&why.to_string())).await,
    }
}

/// The page with the approval, where this caller sees it.
async fn show(gateway: &Gateway, caller: &Caller, id: &str, status: StatusCode, said: Option<&str>) -> Response {
    let profile = &caller.principal.profile;
    let opens = profile.has(Scope::ApprovalsRead) || profile.has(Scope::ApprovalsDecide);
    let viewer = Viewer::Holder(&caller.principal);
    let found = if opens { gateway.approval(viewer, &ApprovalId::from(id)).await } else { Ok(None) };
    match found {
        Ok(Some(view)) => {
            let decides = view.get("may_decide").and_then(Value::as_bool).unwrap_or_default();
            html(status, id, Shown::Approval { view: &view, said, decides })
        }
        Ok(None) => html(StatusCode::NOT_FOUND, id, Shown::Door(Some("There is no such approval for this key."))),
        Err(why) => html(StatusCode::SERVICE_UNAVAILABLE, id, Shown::Door(Some(&why.to_string()))),
    }
}

/// The page that asks for a key, and says what was wrong with the last one.
fn door(id: &str, why: &NotAdmitted) -> Response {
    let said = why.to_string();
    let said = (!matches!(why, NotAdmitted::Missing)).then_some(said.as_str());
    let mut response = html(StatusCode::UNAUTHORIZED, id, Shown::Door(said));
    challenge(why, &mut response);
    response
}

/// Whether it may stand in an address of the page's: an id, and nothing else.
fn is_id(id: &str) -> bool {
    id.strip_prefix("apr_").is_some_and(|digits| digits.len() == 32 && digits.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// Whether a page is wanted rather than JSON.
fn is_browser(headers: &HeaderMap) -> bool {
    let accepts: Vec<&str> = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok()).collect();
    let place =
        |kind: &str| accepts.iter().flat_map(|line| line.split(',')).position(|part| part.trim().starts_with(kind));
    place("text/html").is_some_and(|page| place("application/json").is_none_or(|json| page < json))
}

fn is_form(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case(FORM))
}

fn status(why: &Undecided) -> (StatusCode, &'static str) {
    match why {
        Undecided::Missing(_) => (StatusCode::NOT_FOUND, "not_found"),
        Undecided::Scope => (StatusCode::FORBIDDEN, "insufficient_scope"),
        Undecided::Requester | Undecided::Role(_) => (StatusCode::FORBIDDEN, "policy_denied"),
        Undecided::Over { .. } => (StatusCode::CONFLICT, "conflict"),
        Undecided::Comment => (StatusCode::BAD_REQUEST, "invalid_request"),
        Undecided::Failed(_) => (StatusCode::SERVICE_UNAVAILABLE, "internal_error"),
    }
}

fn refused(why: &Undecided) -> No {
    let (status, code) = status(why);
    let details = match why {
        Undecided::Role(roles) => json!({"approvers": roles}),
        Undecided::Over { state, .. } => json!({"state": state}),
        _ => json!({}),
    };
    envelope(status, code, &why.to_string(), &details).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_browser_asks_for_html_before_json() {
        let asks = |accept: &str| is_browser(&HeaderMap::from_iter([(header::ACCEPT, accept.parse().unwrap())]));
        assert!(asks("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"));
        assert!(!asks("application/json, text/html") && !asks("*/*") && !asks("application/json"));
    }

    #[test]
    fn only_an_id_stands_in_an_address() {
        assert!(is_id(ApprovalId::fresh().as_str()));
        for bad in [
            "apr_",
            "apr_0",
            "apr_../../x",
            "evt_0192f0c1a2b37c4d8e5f60718293a4b5",
            "apr_0192f0c1a2b37c4d8e5f60718293a4bg",
        ] {
            assert!(!is_id(bad), "{bad}");
        }
    }
}
