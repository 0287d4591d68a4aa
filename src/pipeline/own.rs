//! The gateway's own tools, as the pipeline sees them.

use std::fmt;
use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;

use serde_json::Value;

use super::{Line, Pipeline, State};
use crate::domain::call::{CallRequest, Entrance, ToolRef};
use crate::domain::id::RequestId;
use crate::domain::json::Json;
use crate::domain::outcome::{Answer, Refusal};
use crate::domain::principal::{Principal, Profile, Scope, Surface};
use crate::domain::tool::{Risk, Tool};
use crate::policy::PermittedCall;

/// One tool of the gateway itself.
#[derive(Debug)]
pub struct OwnTool {
    pub tool: Arc<Tool>,
    /// What a profile must grant for the tool to exist.
    pub scope: Scope,
    /// Whether the scope alone opens it; other own tools are judged by policy as `toolgate:NAME`.
    pub by_scope: bool,
    /// Whether it is open only to profiles whose globs have it, by any of its names.
    pub granted: bool,
    /// Whether its arguments hold another call, which is judged in its place.
    pub opens: bool,
}

impl OwnTool {
    /// Whether the tool lies inside a profile that has its scope. One that holds another call counts as that.
    #[must_use]
    pub fn lies_in(&self, profile: &Profile) -> bool {
        let name = &*self.tool.id.tool;
        if profile.read_only && self.tool.risk != Risk::Read && !self.opens {
            return false;
        }
        !self.granted || [&*self.tool.label, name, &format!("invoke.{name}")].iter().any(|name| profile.names(name))
    }

    /// Whether the tool is there for a profile: outside it is as if it were not.
    #[must_use]
    pub fn exists_for(&self, profile: &Profile) -> bool {
        profile.has(self.scope) && self.lies_in(profile)
    }

    /// The call inside the arguments of `gateway_invoke`, which is what is judged.
    #[must_use]
    pub fn unwrapped(&self, arguments: Option<&Value>) -> Option<(ToolRef, Option<Value>)> {
        let member = |name: &str| arguments?.get(name);
        let text = |name: &str| member(name).and_then(Value::as_str).map(str::to_owned);
        let inner = self.opens.then(|| Some(ToolRef::Pair { server: text("server")?, tool: text("tool")? }))??;
        Some((inner, member("arguments").cloned()))
    }
}

/// A running own tool.
pub type Running<'a> = Pin<Box<dyn Future<Output = Result<Answer, Refusal>> + Send + 'a>>;

/// The gateway's own tools, as the pipeline sees them.
pub trait OwnTools: Send + Sync + fmt::Debug {
    /// The own tool that a reference names: by any spelling of its name, alone or with the server `toolgate`.
    fn find(&self, asked: &ToolRef) -> Option<&OwnTool>;
    /// All of them.
    fn all(&self) -> &[OwnTool];
    /// Where the request is one of `gateway_invoke`, makes it the call inside: that is judged and recorded once, as what
    /// it calls.
    ///
    /// # Errors
    /// Where the arguments of `gateway_invoke` do not fit, or the key may not invoke.
    fn unwrap(&self, principal: &Principal, request: &mut CallRequest) -> Result<(), Refusal>;
    /// Runs a permitted call of an own tool.
    fn call<'a>(
        &'a self,
        pipeline: &'a Arc<Pipeline>,
        state: &'a Arc<State>,
        call: &'a PermittedCall,
        origin: &'a Origin,
        line: &'a Line,
    ) -> Running<'a>;
}

/// Where a call comes from: what the calls share that an own tool makes in turn.
#[derive(Debug, Clone)]
pub struct Origin {
    pub request: RequestId,
    pub entrance: Entrance,
    pub trace: Vec<(&'static str, String)>,
    pub surface: Surface,
    pub source: Option<IpAddr>,
}

/// The bytes of an answer that the gateway gives itself.
#[must_use]
pub fn own_answer(text: &str, structured: &Value) -> Answer {
    let result = serde_json::json!({"content": [{"type": "text", "text": text}], "structuredContent": structured});
    Answer { result: Json::of(&result), is_error: false, cached: false, partial: false }
}
