//! `tools/call`: a plain JSON answer, or a stream where the backend has something to say before it.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures_util::StreamExt;
use http::{HeaderName, HeaderValue, StatusCode, header};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{Asked, failure, json};
use crate::domain::call::{CallRequest, Entrance, ToolRef};
use crate::domain::id::EventId;
use crate::domain::json::Json;
use crate::domain::outcome::{Carried, Refusal};
use crate::gateway::{Gateway, Leaving};
use crate::wire::envelope::{Id, call_params};
use crate::wire::era::Era;
use crate::wire::mcp::{Reply, tell};
use crate::wire::rpc::{self, RpcError};

/// Names the audit record of a call on every answer.
const AUDIT_ID: HeaderName = HeaderName::from_static("toolgate-audit-id");
/// A call that runs longer is answered on a stream, kept alive by comments: clients give up on silent bodies.
const PATIENCE: Duration = Duration::from_secs(15);
/// Progress that a slow client has not read yet.
const NOTICES: usize = 64;

/// How calls of this client are named for cancellation; without a session nobody can tell whose they are.
pub(super) fn session_name(asked: &Asked) -> Option<String> {
    asked.session.as_ref().map(|session| format!("{}\n{session}", asked.principal.key))
}

/// A request over its plan's limit: 429 for a script.
pub(super) fn over_limit(id: &Id, refusal: &Refusal) -> Response {
    let Refusal::LimitReached { retry_after, .. } = refusal else {
        return failure(Some(id), &RpcError::new(503, -32603, refusal.to_string()));
    };
    let error = RpcError::new(429, 429, refusal.to_string()).with(serde_json::json!({"retry_after": retry_after}));
    let mut response = failure(Some(id), &error);
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(*retry_after));
    response
}

pub(super) async fn answer(gateway: Arc<Gateway>, asked: Asked, id: Id, params: Option<Json>) -> Response {
    let call = match call_params(params.as_ref()) {
        Ok(call) => call,
        Err(why) => return failure(Some(&id), &RpcError::new(200, -32602, why)),
    };
    let event = EventId::fresh();
    let request = CallRequest {
        id: asked.request.clone(),
        event: event.clone(),
        entrance: Entrance::Mcp,
        tool: ToolRef::Text(call.name),
        arguments: call.arguments,
        trace: asked.meta.trace.clone(),
        surface: asked.surface.unwrap_or(asked.principal.profile.surface),
        source: asked.source,
        timeout: None,
        metered: true,
    };
    let (progress, heard) = match asked.meta.progress_token.as_ref().filter(|_| asked.streams) {
        Some(_) => {
            let (sender, receiver) = mpsc::channel(NOTICES);
            (Some(sender), Some(receiver))
        }
        None => (None, None),
    };
    let line = gateway.line(progress);
    let leaving = if asked.era == Era::Modern { Leaving::Cancels } else { Leaving::IsIgnored };
    let session = session_name(&asked).filter(|_| asked.era == Era::Legacy);
    let registered = session.map(|session| gateway.inflight().register(&session, id.text(), line.cancel.clone()));
    let (era, host, streams) = (asked.era, asked.host, asked.streams);
    let token = asked.meta.progress_token;
    let principal = asked.principal;
    let tasks = gateway.tasks().clone();
    let left = (leaving == Leaving::Cancels).then(|| line.cancel.clone());
    let carrying = async move {
        let carried = gateway.carry(principal, request, line, leaving).await;
        drop(registered);
        carried
    };
    Answering { id, era, host, token, event, tasks, left }.with(Box::pin(carrying), heard, streams).await
}

/// What an answer needs to know of its request.
struct Answering {
    id: Id,
    era: Era,
    host: bool,
    token: Option<Json>,
    event: EventId,
    tasks: TaskTracker,
    /// Cancelled when a client leaves for whom leaving means that.
    left: Option<CancellationToken>,
}

type Carrying = std::pin::Pin<Box<dyn Future<Output = Carried> + Send>>;

impl Answering {
    /// JSON if the call ends first; a stream if the backend speaks first, or the call takes long.
    async fn with(self, mut carrying: Carrying, mut heard: Option<mpsc::Receiver<Json>>, streams: bool) -> Response {
        let first = async {
            match &mut heard {
                Some(heard) => heard.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            carried = &mut carrying => self.whole(&carried),
            Some(notice) = first => self.stream(carrying, heard, Some(notice)),
            () = tokio::time::sleep(PATIENCE), if streams => self.stream(carrying, heard, None),
        }
    }

    fn text(&self, reply: &Reply) -> String {
        match &reply.body {
            Ok(result) => rpc::result(&self.id, result),
            Err(error) => rpc::error(Some(&self.id), error),
        }
    }

    fn whole(&self, carried: &Carried) -> Response {
        let reply = tell(carried, self.era, self.host);
        let mut response = json(StatusCode::from_u16(reply.status).unwrap_or(StatusCode::OK), self.text(&reply));
        if let Some(seconds) = reply.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        self.named(response)
    }

    /// Names the record of the call.
    fn named(&self, mut response: Response) -> Response {
        if let Ok(id) = HeaderValue::from_str(self.event.as_str()) {
            response.headers_mut().insert(AUDIT_ID, id);
        }
        response
    }

    /// Events: what the backend says, comments while it says nothing, the answer, the end.
    fn stream(self, working: Carrying, heard: Option<mpsc::Receiver<Json>>, first: Option<Json>) -> Response {
        let first = first.map(|notice| self.notice(&notice));
        let named = self.named(Response::default()).headers_mut().remove(AUDIT_ID);
        // A body is polled only while its reader takes it; the call must go on, and end in time, without.
        let (done, carrying) = oneshot::channel();
        self.tasks.spawn(async move { drop(done.send(working.await)) });
        let leaving = self.left.clone().map(CancellationToken::drop_guard);
        let state = Some((self, carrying, heard, leaving));
        let rest = futures_util::stream::unfold(state, |state| async move {
            let (answering, mut carrying, mut heard, leaving) = state?;
            let next = async {
                match &mut heard {
                    Some(heard) => heard.recv().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                Some(notice) = next => {
                    let event = answering.notice(&notice);
                    Some((event, Some((answering, carrying, heard, leaving))))
                }
                Ok(carried) = &mut carrying => Some((event(&answering.text(&tell(&carried, answering.era, true))), None)),
                () = tokio::time::sleep(PATIENCE) => Some((Bytes::from_static(b":\n\n"), Some((answering, carrying, heard, leaving)))),
            }
        });
        let events = futures_util::stream::iter(first).chain(rest).map(Ok::<_, std::convert::Infallible>);
        let mut response = super::stream::response(Body::from_stream(events));
        response.headers_mut().extend(named.map(|id| (AUDIT_ID, id)));
        response
    }

    /// A backend's progress under the client's own token.
    fn notice(&self, params: &Json) -> Bytes {
        let token = self.token.as_ref().map_or("null", Json::as_str);
        let additions = crate::wire::splice::Additions { members: &[("progressToken", token)], meta: &[] };
        let params = crate::wire::splice::splice(params, additions);
        event(&format!("{{\"jsonrpc\":\"2.0\",\"method\":\"notifications/progress\",\"params\":{}}}", params.as_str()))
    }
}

/// One server-sent event. JSON has no raw line breaks in strings; breaks between tokens would end the line.
pub(super) fn event(text: &str) -> Bytes {
    let mut out = String::with_capacity(text.len() + 8);
    for line in text.split(['\n', '\r']) {
        out.push_str("data: ");
        out.push_str(line);
        out.push('\n');
    }
    out.push('\n');
    Bytes::from(out)
}
