//! From what the caller named to a call that exists for this caller: visibility first, arguments second, so that an
//! argument error never tells of a hidden tool.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};

use super::own::Origin;
use super::record::Record;
use super::{Long, Pipeline, State};
use crate::authn::jwt::Claims;
use crate::backend::{Catalog, Resolved as Found};
use crate::domain::call::{CallRequest, Errand, ToolRef};
use crate::domain::clock::Moment;
use crate::domain::decision::{Judgement, Verdict};
use crate::domain::id::{KeyId, ServerName};
use crate::domain::json::Json;
use crate::domain::outcome::{Misfit, Refusal};
use crate::domain::principal::{Principal, Scope, Subject, Surface};
use crate::domain::secret::Secret;
use crate::domain::tool::{Kind, Tool};
use crate::domain::trace::Context;
use crate::policy::effects::{Recognised, of_call, of_call_briefly};
use crate::policy::{Call, Decision, Facts, PendingCall, PermittedCall, Policies};

/// Bytes of a prompt's name or a resource's URI.
const LONGEST_NAME: usize = 8 * 1024;

/// Where a resolved call goes.
#[derive(Debug)]
pub enum Road {
    Own(Box<Origin>),
    Backend { trace: Vec<(&'static str, String)>, timeout: Option<Duration> },
}

/// A call that exists for its caller, with what a policy may ask about it.
#[derive(Debug)]
pub(super) struct Resolved {
    call: Call,
    /// What its arguments would do.
    effects: Recognised,
    road: Road,
    by_scope: Option<Scope>,
    surface: Surface,
    source: Option<IpAddr>,
    jwt: Option<Secret>,
    /// It is about what an earlier call of the tool began.
    again: bool,
}

/// A call that policy permits, or would once a person has approved it.
#[derive(Debug)]
pub(super) enum Decided {
    Permitted(Box<PermittedCall>),
    /// Its judgement is noted once it is known whether somebody has.
    Pending(Box<PendingCall>),
}

impl Resolved {
    /// The tool, where it is a backend's.
    pub(super) fn backend_tool(&self) -> Option<&Arc<Tool>> {
        matches!(self.road, Road::Backend { .. }).then(|| self.call.tool())
    }

    pub(super) const fn arguments(&self) -> Option<&Json> {
        self.call.arguments()
    }

    /// What the caller says of its trace, but for the ids that place the call in it.
    pub(super) fn trace_words(&self) -> Option<Json> {
        let Road::Backend { trace, .. } = &self.road else { return None };
        let words: Vec<&str> = trace.iter().filter(|part| !places(part)).map(|(_, value)| value.as_str()).collect();
        (!words.is_empty()).then(|| Json::of(&words))
    }

    /// The same call without them.
    pub(super) fn without_trace_words(mut self) -> Self {
        if let Road::Backend { trace, .. } = &mut self.road {
            trace.retain(places);
        }
        self
    }

    pub(super) const fn key(&self) -> &KeyId {
        &self.call.principal().key
    }

    /// The same call with other arguments; `value` is their tree, and fits the schema.
    ///
    /// # Errors
    /// Where nobody could tell what they would do.
    pub(super) async fn rewritten(self, arguments: Json, value: Value, long: &Long) -> Result<Self, Refusal> {
        let tool = Arc::clone(self.call.tool());
        let (value, effects) = recognised(long, self.key(), &tool, value).await?;
        Ok(Self { call: self.call.rewritten(arguments, value), effects, ..self })
    }

    /// Judges the call without letting it go.
    ///
    /// # Errors
    /// Where policy denies it: then nothing else matters.
    pub(super) fn judged(&self, policies: &Policies, now: Moment, record: &mut Record) -> Result<Judgement, Refusal> {
        let facts = Facts { effects: &self.effects.effects, surface: self.surface, now, source: self.source };
        let arguments = self.call.arguments().is_some().then_some(self.call.value());
        let judgement = policies.judge(self.call.principal(), self.call.tool(), arguments, &facts);
        if judgement.verdict == Verdict::Deny {
            record.judged(&judgement);
            return Err(Refusal::Denied(Box::new(judgement)));
        }
        Ok(judgement)
    }

    /// Decides the call and notes the judgement in its record.
    pub(super) fn decide(
        self,
        policies: &Policies,
        now: Moment,
        record: &mut Record,
    ) -> Result<(Decided, Road), Refusal> {
        let facts = Facts { effects: &self.effects.effects, surface: self.surface, now, source: self.source };
        let call = self.call.recorded(record.id().clone(), record.trail().context());
        let decision = match self.by_scope {
            Some(scope) => policies.permit_by_scope(call, scope, &facts),
            None if self.again => policies.decide_again(call, &facts),
            None => policies.decide(call, &facts),
        };
        match decision {
            Decision::Permit(call) => {
                record.judged(call.judgement());
                Ok((Decided::Permitted(call), self.road))
            }
            Decision::Deny(judgement) => {
                record.judged(&judgement);
                Err(Refusal::Denied(judgement))
            }
            Decision::Approval(pending) => Ok((Decided::Pending(pending), self.road)),
        }
    }
}

/// Whether a part of the trace context is nothing but ids.
fn places((name, value): &(&'static str, String)) -> bool {
    *name == "traceparent" && Context::parse(value).is_some()
}

impl Pipeline {
    /// Finds what the request names, for this principal, and reads the arguments against its schema.
    pub(super) async fn resolve(
        &self,
        state: &State,
        principal: Principal,
        mut request: CallRequest,
        errand: Option<&Errand>,
        record: &mut Record,
    ) -> Result<Resolved, Refusal> {
        if let Some(errand) = errand {
            record.errand(errand);
        }
        let again = matches!(errand, Some(Errand::Task { .. }));
        // What goes on has the arguments with which it began.
        let fitted = again || matches!(errand, Some(Errand::GoOn { .. }));
        let (tool, own) = match self.own.find(&request.tool) {
            Some(own) if principal.profile.has(own.scope) => {
                if !own.lies_in(&principal.profile) {
                    record.outside_profile(&principal.profile.name);
                    return Err(Refusal::UnknownTool { asked: request.tool.label(), nearest: Vec::new() });
                }
                (Arc::clone(&own.tool), Some(own))
            }
            Some(own) => {
                return Err(Refusal::InsufficientScope { asked: request.tool.label(), scope: own.scope.as_str() });
            }
            None if request.tool.kind() == Kind::Tool => {
                (backend_tool(state, &principal, &request.tool, record)?, None)
            }
            None => (readable(state, &principal, &request.tool, record)?, None),
        };
        // A resource has a URI and nothing besides.
        request.arguments.take_if(|_| tool.kind == Kind::Resource);
        record.resolved(&tool, request.arguments.as_ref());
        let value = match &request.arguments {
            None => Value::Object(Map::new()),
            // The door has checked the text with the whole body.
            Some(text) => text.decode().map_err(|error| Refusal::InvalidRequest {
                message: format!("the arguments cannot be read: {error}"),
            })?,
        };
        match tool.kind {
            Kind::Tool if fitted => {}
            Kind::Tool => check_arguments(&state.catalog, &tool, &value)?,
            Kind::Prompt | Kind::Resource | Kind::Entity => check_texts(&value)?,
        }
        let (value, effects) = recognised(&self.long, &principal.key, &tool, value).await?;
        let call = Call::resolved(principal, tool, request.arguments, value);
        Ok(Resolved {
            effects,
            call: call.bringing(own.and(request.jwt.clone())),
            road: match own {
                Some(_) => Road::Own(Box::new(Origin {
                    request: request.id,
                    entrance: request.entrance,
                    trace: request.trace,
                    surface: request.surface,
                    source: request.source,
                })),
                None => Road::Backend { trace: request.trace, timeout: request.timeout },
            },
            by_scope: own.filter(|own| own.by_scope).map(|own| own.scope),
            surface: request.surface,
            source: request.source,
            jwt: request.jwt,
            again,
        })
    }

    /// Where the server asks for a token of the caller's: checks it, and adds the roles that it gives.
    pub(super) async fn vouch(
        &self,
        state: &State,
        resolved: Resolved,
        record: &mut Record,
    ) -> Result<Resolved, Refusal> {
        let server = &resolved.call.tool().id.server;
        let Some(claims) = self.claims(state, server, resolved.jwt.as_ref()).await? else { return Ok(resolved) };
        let subject =
            Subject { issuer: claims.text("iss").unwrap_or_default().into(), name: claims.text("sub").map(Into::into) };
        record.vouched(subject.name.as_deref().unwrap_or("nobody"));
        Ok(Resolved { call: resolved.call.vouched(subject, claims.roles()), ..resolved })
    }

    /// What the token says that a server asks its callers for; `None` where it asks for none.
    pub(super) async fn claims(
        &self,
        state: &State,
        server: &ServerName,
        jwt: Option<&Secret>,
    ) -> Result<Option<Claims>, Refusal> {
        let server = state.settings.servers.get(server);
        let Some((server, settings)) = server.and_then(|server| Some((server, server.jwt.as_ref()?))) else {
            return Ok(None);
        };
        let refused = |fault: Option<String>| Refusal::ServerJwt { server: server.name.clone(), fault };
        let token = jwt.ok_or_else(|| refused(None))?;
        // What is rare has its room apart, so that each call need not have it.
        let checked = Box::pin(self.tokens.checker(settings).check(token)).await;
        checked.map(Some).map_err(|fault| refused(Some(fault.to_string())))
    }
}

/// What the arguments of a call would do; what takes long to tell is told beside the threads that answer.
async fn recognised(long: &Long, key: &KeyId, tool: &Arc<Tool>, value: Value) -> Result<(Value, Recognised), Refusal> {
    if let Some(recognised) = of_call_briefly(tool, &value) {
        return Ok((value, recognised));
    }
    let tool = Arc::clone(tool);
    let told = long.work(key, move || {
        let recognised = of_call(&tool, &value);
        (value, recognised)
    });
    told.await.map_err(|_| Refusal::Internal)
}

/// The backend tool that a reference names among those inside the profile.
fn backend_tool(
    state: &State,
    principal: &Principal,
    asked: &ToolRef,
    record: &mut Record,
) -> Result<Arc<Tool>, Refusal> {
    let inside = |tool: &Tool| state.admits(principal, tool);
    match state.catalog.resolve(asked, inside) {
        Found::One(tool) if principal.profile.has(Scope::ToolsInvoke) => Ok(tool),
        Found::One(_) => Err(Refusal::InsufficientScope { asked: asked.label(), scope: Scope::ToolsInvoke.as_str() }),
        Found::Several(ids) => {
            Err(Refusal::Ambiguous { asked: asked.label(), readings: ids.iter().map(ToString::to_string).collect() })
        }
        Found::None => {
            if matches!(state.catalog.resolve(asked, |_| true), Found::One(_)) {
                record.outside_profile(&principal.profile.name);
            }
            // Near names are shown, so they are what a list would show.
            let sight = state.sight(principal);
            let nearest = state.catalog.nearest(asked, |tool| sight.shows(tool));
            Err(Refusal::UnknownTool { asked: asked.label(), nearest })
        }
    }
}

/// The prompt or resource that a reference names, where its server is open and the profile admits it.
fn readable(state: &State, principal: &Principal, asked: &ToolRef, record: &mut Record) -> Result<Arc<Tool>, Refusal> {
    let name = asked.label();
    if name.len() > LONGEST_NAME || name.chars().any(char::is_control) {
        let message = format!(
            "the name of a {} has at most {LONGEST_NAME} bytes and no control character",
            asked.kind().as_str()
        );
        return Err(Refusal::InvalidRequest { message });
    }
    match state.readable(asked) {
        Some(found) if state.admits(principal, &found) => {
            if principal.profile.has(Scope::ToolsInvoke) {
                return Ok(found);
            }
            Err(Refusal::InsufficientScope { asked: name, scope: Scope::ToolsInvoke.as_str() })
        }
        hidden => {
            if hidden.is_some() {
                record.outside_profile(&principal.profile.name);
            }
            Err(match asked.kind() {
                Kind::Resource => Refusal::UnknownResource { uri: name },
                Kind::Tool | Kind::Prompt | Kind::Entity => Refusal::UnknownPrompt { name },
            })
        }
    }
}

/// The arguments of a prompt are strings.
fn check_texts(value: &Value) -> Result<(), Refusal> {
    let fits = value.as_object().is_some_and(|members| members.values().all(Value::is_string));
    let message = || "the arguments of a prompt are an object of strings".into();
    if fits { Ok(()) } else { Err(Refusal::InvalidRequest { message: message() }) }
}

/// Checks arguments against the tool's schema.
///
/// # Errors
/// Every fault, with an example that would fit where one can be made.
fn check_arguments(catalog: &Catalog, tool: &Tool, value: &Value) -> Result<(), Refusal> {
    catalog.validate(tool, value).map_err(|faults| {
        let (tool_name, schema) = (tool.label.to_string(), Arc::clone(&tool.input_schema));
        let example = catalog.example(tool, value);
        Refusal::InvalidArguments(Box::new(Misfit { tool: tool_name, faults, example, schema }))
    })
}
