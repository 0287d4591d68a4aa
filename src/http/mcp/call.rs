//! `tools/call`: a plain JSON answer, or a stream where the backend has something to say before it.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures_util::StreamExt;
use http::{HeaderMap, StatusCode};
use tokio::sync::{Notify, oneshot};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use super::approval::Approval;
use super::relayed::{Via, notification, parked_event, unrepeated, withdrawn};
use super::tasks::{self, Beginning};
use super::told::{self, AUDIT_ID, answered, event, labelled, session_name, text, uncalled};
use super::{Asked, failure, json};
use crate::domain::call::{CallRequest, Entrance, ToolRef};
use crate::domain::id::EventId;
use crate::domain::json::Json;
use crate::domain::outcome::{Carried, Refusal};
use crate::domain::tool::Kind;
use crate::gateway::{Aside, Carrying, Ear, Gateway, Leaving, Line, Question, Tape, Underway, asides, unfinished};
use crate::wire::envelope::{Id, call_params};
use crate::wire::era::Era;
use crate::wire::hop;
use crate::wire::mcp::{Reply, tell};
use crate::wire::rpc::{self, RpcError};

/// A call that runs longer is answered on a stream, kept alive by comments: clients give up on silent bodies.
const PATIENCE: Duration = Duration::from_secs(15);
/// A legacy client that can take a stream up again gets one sooner: whatever breaks, it does not lose the answer.
const SOON: Duration = Duration::from_millis(50);
/// Progress that a slow client has not read yet.
pub(super) const NOTICES: usize = 256;

pub(super) async fn answer(
    gateway: Arc<Gateway>,
    asked: Box<Asked>,
    id: Id,
    params: Option<Json>,
    headers: &HeaderMap,
) -> Response {
    let call = match call_params(params.as_ref()) {
        Ok(call) => call,
        Err(message) => {
            let refused = Refusal::InvalidRequest { message };
            return uncalled(&gateway, &asked, &id, Kind::Tool, None, refused).await;
        }
    };
    let tool = ToolRef::Text(call.name);
    let arguments = call.arguments.as_ref();
    if let Some(refused) = unrepeated(&gateway, &asked, (&id, headers), &tool, arguments).await {
        return refused;
    }
    plain(gateway, asked, id, tool, call.arguments).await
}

/// A call to which the backend may say nothing but how far it has come.
pub(super) fn plain(
    gateway: Arc<Gateway>,
    asked: Box<Asked>,
    id: Id,
    tool: ToolRef,
    arguments: Option<Json>,
) -> impl Future<Output = Response> + Send {
    let request = request(&asked, tool, arguments);
    let begun = tasks::declared(&asked).then(Arc::<Notify>::default);
    let hears = begun.is_some() || (asked.meta.progress_token.is_some() && asked.streams);
    let (sender, heard) = hears.then(|| asides(NOTICES)).unzip();
    let line = Line { begun, ..gateway.line(sender, None) };
    carry(gateway, asked, id, request, line, heard.map(Ear::from).unwrap_or_default(), None)
}

/// What it means when a client of this era leaves.
pub(super) const fn leaving(era: Era) -> Leaving {
    match era {
        Era::Modern => Leaving::Cancels,
        Era::Legacy => Leaving::IsIgnored,
    }
}

/// A call as this client asks for it.
pub(super) fn request(asked: &Asked, tool: ToolRef, arguments: Option<Json>) -> CallRequest {
    CallRequest {
        id: asked.request.clone(),
        event: EventId::fresh(),
        entrance: Entrance::Mcp,
        tool,
        arguments,
        jwt: asked.jwt.clone(),
        trace: asked.meta.trace.clone(),
        surface: asked.surface.unwrap_or(asked.principal.profile.surface),
        source: asked.source,
        timeout: None,
        metered: !asked.charged,
    }
}

/// Answers with a call's end, or a stream that leads there: a future with nothing of what is asked, which is the call's.
pub(super) fn carry(
    gateway: Arc<Gateway>,
    mut asked: Box<Asked>,
    id: Id,
    request: CallRequest,
    mut line: Line,
    heard: Ear,
    via: Option<Box<Via>>,
) -> impl Future<Output = Response> + Send {
    line.provenance = asked.provenance(&gateway, &id);
    let leaving = leaving(asked.era);
    let session = session_name(&asked).filter(|_| asked.era == Era::Legacy);
    let registered = session.map(|session| gateway.inflight().register(&session, &id.plain(), line.cancel.clone()));
    let approval = asked.approval.take().map(Arc::from);
    let answering = Answering::new(&gateway, &asked, id, request.event.clone(), line.cancel.clone(), via);
    let beginning = line
        .begun
        .clone()
        .map(|begun| Box::new(Beginning { begun, gateway: Arc::clone(&gateway), principal: asked.principal.clone() }));
    let answering = Answering { approval: approval.clone(), beginning, ..answering };
    let carrying: Carrying = Box::pin(async move {
        let waited = match &approval {
            Some(approval) => approval.wait(&line.cancel).await,
            None => false,
        };
        let carried = match waited {
            true => Box::pin(gateway.carry_on(asked.principal, request, line, leaving)).await,
            false => gateway.carry(asked.principal, request, line, leaving).await,
        };
        drop(registered);
        carried
    });
    answering.with(carrying, heard)
}

/// Goes on with a call that waited for its client.
pub(super) async fn go_on(gateway: &Gateway, asked: &Asked, id: Id, underway: Underway, via: Box<Via>) -> Response {
    let Underway { done, heard, cancel, event } = underway;
    let kind = via.kind();
    let leaving = cancel.clone().drop_guard();
    let answering = Answering::new(gateway, asked, id, event.clone(), cancel, Some(via));
    let carrying = async move {
        let carried = done.await.unwrap_or_else(|_| unfinished(event, kind, Refusal::Internal));
        leaving.disarm();
        carried
    };
    answering.with(Box::pin(carrying), heard).await
}

/// What an answer needs to know of its request.
struct Answering {
    id: Id,
    era: Era,
    host: bool,
    /// Whether the client takes a stream.
    streams: bool,
    token: Option<Json>,
    event: EventId,
    tasks: TaskTracker,
    cancel: CancellationToken,
    /// On the transparent route.
    via: Option<Box<Via>>,
    approval: Option<Arc<Approval>>,
    /// Where the call may go on as a task.
    beginning: Option<Box<Beginning>>,
}

/// What is to be done about something that a backend said.
enum Turn {
    Say(Bytes),
    Ask(Question),
    Nothing,
}

impl Answering {
    fn new(
        gateway: &Gateway,
        asked: &Asked,
        id: Id,
        event: EventId,
        cancel: CancellationToken,
        via: Option<Box<Via>>,
    ) -> Self {
        let (era, host, streams) = (asked.era, asked.host, asked.streams);
        let (token, tasks) = (asked.meta.progress_token.clone(), gateway.tasks().clone());
        Self { id, era, host, streams, token, event, tasks, cancel, via, approval: None, beginning: None }
    }

    /// JSON if the call ends first; a stream if the backend speaks first, or the call takes long.
    async fn with(self, mut carrying: Carrying, mut heard: Ear) -> Response {
        let resumes = self.streams && self.via.as_ref().is_some_and(|via| via.resumes());
        let patience = tokio::time::sleep(if resumes { SOON } else { PATIENCE });
        tokio::pin!(patience);
        let begun = self.beginning.as_ref().map(|beginning| Arc::clone(&beginning.begun));
        loop {
            tokio::select! {
                biased;
                () = tasks::heard_of(begun.as_deref()), if begun.is_some() => {
                    let Self { id, event, cancel, beginning, .. } = self;
                    return tasks::begin(&id, beginning, (event, cancel), carrying, heard);
                }
                Some(aside) = heard.recv() => match self.turn(aside) {
                    Turn::Say(first) => {
                        let done = self.spawned(carrying);
                        return self.stream(done, heard, Some(first));
                    }
                    Turn::Ask(question) => return self.parked(question, self.spawned(carrying), heard).await,
                    Turn::Nothing => {}
                },
                carried = &mut carrying => return self.ended(&carried, &mut heard),
                () = &mut patience, if self.streams => {
                    let done = self.spawned(carrying);
                    return self.stream(done, heard, None);
                }
            }
        }
    }

    /// A body is polled only while its reader takes it; the call must go on, and end in time, without.
    fn spawned(&self, working: Carrying) -> oneshot::Receiver<Carried> {
        let (done, carrying) = oneshot::channel();
        self.tasks.spawn(async move { drop(done.send(working.await)) });
        carrying
    }

    fn turn(&self, aside: Aside) -> Turn {
        match (aside, &self.via) {
            (Aside::Question(question), Some(_)) if self.era == Era::Modern => Turn::Ask(question),
            (Aside::Question(question), Some(via)) if self.streams => {
                via.ask(question).map_or(Turn::Nothing, |text| Turn::Say(event(&text)))
            }
            (Aside::Withdrawn { question, reason }, Some(via)) if self.streams => {
                let visitor = via.visitor.as_ref();
                let told = visitor.and_then(|visitor| withdrawn(visitor, question, reason.as_deref()));
                told.map_or(Turn::Nothing, |text| Turn::Say(event(&text)))
            }
            (Aside::Notification { method, params, .. }, _) if self.streams => {
                self.notice(&method, params.as_ref()).map_or(Turn::Nothing, Turn::Say)
            }
            // Who cannot be asked does not keep the backend waiting: a question that is dropped is answered so.
            _ => Turn::Nothing,
        }
    }

    fn text(&self, reply: &Reply) -> String {
        text(&self.id, reply)
    }

    fn tell(&self, carried: &Carried, host: bool) -> Reply {
        let asking = self.approval.as_ref().and_then(|approval| approval.reply(carried, self.via.is_some()));
        asking.unwrap_or_else(|| match &self.via {
            Some(via) => via.tell(carried, self.era, host),
            None => tell(carried, self.era, host),
        })
    }

    /// The end of a call; what the backend said just before it goes first.
    fn ended(&self, carried: &Carried, heard: &mut Ear) -> Response {
        let mut events = Vec::new();
        while let Some(aside) = heard.said() {
            if let Turn::Say(event) = self.turn(aside) {
                events.extend_from_slice(&event);
            }
        }
        if events.is_empty() {
            return self.whole(carried);
        }
        events.extend_from_slice(&event(&self.text(&self.tell(carried, true))));
        self.named(super::stream::response(Body::from(events)))
    }

    fn whole(&self, carried: &Carried) -> Response {
        let reply = self.tell(carried, self.host);
        self.named(answered(&reply, carried.outcome.beside(self.text(&reply))))
    }

    fn named(&self, mut response: Response) -> Response {
        told::name(&mut response, &self.event);
        response
    }

    fn underway(&self, done: oneshot::Receiver<Carried>, heard: Ear) -> Underway {
        Underway { done, heard, cancel: self.cancel.clone(), event: self.event.clone() }
    }

    /// A question to a modern client is the answer to its request; it answers by asking again.
    async fn parked(&self, question: Question, done: oneshot::Receiver<Carried>, heard: Ear) -> Response {
        let Some(via) = &self.via else { return failure(Some(&self.id), &RpcError::new(200, -32603, "nobody asks")) };
        let response = match via.park(question, self.underway(done, heard)).await {
            Ok(result) => json(StatusCode::OK, rpc::result(&self.id, &result)),
            Err(error) => failure(Some(&self.id), &error),
        };
        self.named(response)
    }

    /// Events: what the backend says, comments while it says nothing, the answer, the end.
    fn stream(self, done: oneshot::Receiver<Carried>, heard: Ear, first: Option<Bytes>) -> Response {
        let named = self.named(Response::default()).headers_mut().remove(AUDIT_ID);
        let leaving = (self.era == Era::Modern).then(|| self.cancel.clone().drop_guard());
        let tape = self.via.as_ref().and_then(|via| via.tape());
        let (tasks, clock) = (self.tasks.clone(), self.via.as_ref().map(|via| Arc::clone(&via.gateway)));
        let streaming = Streaming { answering: self, done, heard, leaving, tape: tape.clone() };
        let body = match tape {
            Some(tape) => {
                if let Some(first) = first {
                    tape.say(&first);
                }
                tasks.spawn(record(Some(streaming), Arc::clone(&tape), clock));
                super::stream::taped(&tape)
            }
            None => {
                let rest =
                    futures_util::stream::unfold(Some(streaming), |streaming| async move { streaming?.next().await });
                let events = futures_util::stream::iter(first).chain(rest).map(Ok::<_, std::convert::Infallible>);
                Body::from_stream(events)
            }
        };
        let mut response = super::stream::response(body);
        response.headers_mut().extend(named.map(|id| (AUDIT_ID, id)));
        response
    }

    /// What a backend says beside its answer: its progress under the client's own token, on the transparent route the rest.
    fn notice(&self, method: &str, params: Option<&Json>) -> Option<Bytes> {
        let text = match &self.via {
            Some(via) => via.notice(self.era, self.token.as_ref(), method, params)?,
            None => {
                let params = hop::with_member(params?, "progressToken", self.token.as_ref()?.as_str());
                notification(method, Some(&params))
            }
        };
        Some(event(&text))
    }
}

/// An answer that is being streamed.
struct Streaming {
    answering: Answering,
    done: oneshot::Receiver<Carried>,
    heard: Ear,
    /// Cancels the call when a client leaves for whom leaving means that.
    leaving: Option<DropGuard>,
    /// Where it is recorded.
    tape: Option<Arc<Tape>>,
}

impl Streaming {
    /// The next event, and what comes after it.
    async fn next(mut self) -> Option<(Bytes, Option<Self>)> {
        loop {
            tokio::select! {
                biased;
                Some(aside) = self.heard.recv() => match self.answering.turn(aside) {
                    Turn::Say(event) => return Some((event, Some(self))),
                    Turn::Ask(question) => return Some((self.park(question).await, None)),
                    Turn::Nothing => {}
                },
                carried = &mut self.done => {
                    let lost = || unfinished(self.answering.event.clone(), self.answering.via.as_ref().map_or(Kind::Tool, |via| via.kind()), Refusal::Internal);
                    let carried = carried.unwrap_or_else(|_| lost());
                    let text = self.answering.text(&self.answering.tell(&carried, true));
                    let label = self.tape.as_ref().map(|tape| tape.label()).unwrap_or_default();
                    return Some((carried.outcome.beside(labelled(&label, &text)), None));
                }
                () = tokio::time::sleep(PATIENCE) => return Some((Bytes::from_static(b":\n\n"), Some(self))),
            }
        }
    }

    async fn park(self, question: Question) -> Bytes {
        let Self { answering, done, heard, leaving, .. } = self;
        // From here on it is the parking that cancels where the client leaves.
        if let Some(leaving) = leaving {
            leaving.disarm();
        }
        let underway = answering.underway(done, heard);
        match &answering.via {
            Some(via) => parked_event(&answering.id, via.park(question, underway).await),
            None => Bytes::new(),
        }
    }
}

/// Puts a stream's events on a tape, whoever reads it.
async fn record(mut streaming: Option<Streaming>, tape: Arc<Tape>, gateway: Option<Arc<Gateway>>) {
    let mut last = None;
    while let Some(now) = streaming.take() {
        let Some((event, rest)) = now.next().await else { break };
        match rest {
            Some(_) if event.starts_with(b":") => {}
            Some(_) => tape.say(&event),
            None => last = Some(event),
        }
        streaming = rest;
    }
    tape.end(last, gateway.map_or(0, |gateway| gateway.ticks()));
}
