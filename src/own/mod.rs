//! Floor 6: the gateway's own tools, one file each.
//!
//! Their canonical names may be dotted (`policy.simulate`); hosts are listed the safe spelling (`policy_simulate`), and
//! every spelling is understood, `invoke.` in front included.

mod approvals;
mod brain;
pub mod eval;
mod executions;
mod invoke;
mod observability;
mod preflight;
mod readiness;
mod search;
mod simulate;

use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

pub use self::executions::DEFAULT_LIMIT as EXECUTIONS_LISTED;
pub use self::readiness::Surroundings;
use crate::authn::Keyring;
use crate::brain::Brain;
use crate::domain::call::{CallRequest, ToolRef};
use crate::domain::id::{OWN_SERVER, ToolId};
use crate::domain::json::{Json, sha256_hex};
use crate::domain::outcome::Refusal;
use crate::domain::principal::{Principal, Profile, Scope};
use crate::domain::tool::{Hints, Kind, Risk, Tool, ToolSettings};
use crate::pipeline::{Line, Origin, OwnTool, OwnTools, Pipeline, Running, State};
use crate::policy::PermittedCall;
use crate::wire::rest::tools::LONG_RUNNING;

/// Listed wherever their scope is granted; every other own tool only where a profile names it.
const ALWAYS_LISTED: [&str; 3] = [search::NAME, invoke::NAME, simulate::NAME];

/// Open only to profiles whose `allowed_tools` has them, as tools of backends are: they hold data of the company.
const GRANTED: [&str; 1] = [brain::NAME];

/// All own tools, and what they need to know.
#[derive(Debug)]
pub struct Own {
    tools: Vec<OwnTool>,
    keys: Arc<Keyring>,
    brain: Brain,
    surroundings: Arc<Surroundings>,
    evals: eval::Evals,
}

impl Own {
    #[must_use]
    pub fn new(keys: Arc<Keyring>, brain: Brain, surroundings: Arc<Surroundings>, evals: eval::Evals) -> Self {
        let mut tools = vec![
            search::tool(),
            invoke::tool(),
            simulate::tool(),
            approvals::list(),
            approvals::get(),
            brain::tool(),
            executions::list_tool(),
            executions::get_tool(),
            observability::tool(),
            preflight::tool(),
            readiness::tool(),
        ];
        tools.extend(eval::tools());
        Self { tools, keys, brain, surroundings, evals }
    }

    /// The definitions, for the policy's schema.
    #[must_use]
    pub fn definitions(&self) -> Vec<Arc<Tool>> {
        self.tools.iter().map(|own| Arc::clone(&own.tool)).collect()
    }
}

impl OwnTools for Own {
    fn find(&self, asked: &ToolRef) -> Option<&OwnTool> {
        let name = match asked {
            ToolRef::Pair { server, tool } => Some(tool.as_str()).filter(|_| server == OWN_SERVER)?,
            ToolRef::Text(text) => {
                let behind = |mark| text.strip_prefix(OWN_SERVER)?.strip_prefix(mark);
                [":", "/", ".", "__"].into_iter().find_map(behind).unwrap_or(text)
            }
            ToolRef::Exact { .. } | ToolRef::Prompt { .. } | ToolRef::Resource { .. } => return None,
        };
        let plain = name.strip_prefix("invoke.").or_else(|| name.strip_prefix("invoke_")).unwrap_or(name);
        self.tools.iter().find(|own| *own.tool.id.tool == *plain || safe_name(&own.tool.id.tool) == plain)
    }

    fn all(&self) -> &[OwnTool] {
        &self.tools
    }

    fn unwrap(&self, principal: &Principal, request: &mut CallRequest) -> Result<(), Refusal> {
        invoke::unwrap(self, principal, request)
    }

    fn call<'a>(
        &'a self,
        pipeline: &'a Arc<Pipeline>,
        state: &'a Arc<State>,
        call: &'a PermittedCall,
        origin: &'a Origin,
        line: &'a Line,
    ) -> Running<'a> {
        Box::pin(async move {
            match &*call.tool().id.tool {
                search::NAME => search::run(&self.tools, state, call),
                simulate::NAME => simulate::run(pipeline, state, &self.keys, call).await,
                brain::NAME => brain::run(&self.brain, state, call).await,
                executions::LIST => executions::list(pipeline, state, &self.evals, call).await,
                executions::GET => executions::get(pipeline, &self.evals, call).await,
                observability::NAME => observability::run(pipeline, state, call).await,
                preflight::NAME => preflight::run(pipeline, state, &self.keys, call).await,
                readiness::NAME => {
                    readiness::run(pipeline, state, (&self.keys, &self.surroundings), call.principal()).await
                }
                approvals::LIST => approvals::run_list(pipeline, state, call).await,
                approvals::GET => approvals::run_get(pipeline, state, call).await,
                name if name.starts_with("eval.") => self.evals.call(pipeline, state, call, origin, line).await,
                // `gateway_invoke` was unwrapped before, and there is no other.
                _ => Err(Refusal::Internal),
            }
        })
    }
}

/// Reads the arguments, which have passed the schema; where there are none, they are empty.
fn arguments<T: DeserializeOwned>(call: &PermittedCall) -> Result<T, Refusal> {
    let (given, none) = (call.value(), Value::Object(Map::new()));
    let read = T::deserialize(if given.is_null() { &none } else { given });
    read.map_err(|error| Refusal::InvalidRequest { message: error.to_string() })
}

/// The spelling that every host accepts: `[a-zA-Z0-9_-]`.
#[must_use]
pub fn safe_name(name: &str) -> String {
    name.replace('.', "_")
}

/// Whether `tools/list` shows an own tool to a profile.
#[must_use]
pub fn is_listed(own: &OwnTool, profile: &Profile) -> bool {
    let name = &*own.tool.id.tool;
    let literal = |glob: &crate::domain::glob::Glob| {
        let text = glob.as_str();
        glob.is_literal()
            && text.strip_prefix("invoke.").or_else(|| text.strip_prefix("toolgate:")).unwrap_or(text) == name
    };
    profile.has(own.scope) && (ALWAYS_LISTED.contains(&name) || profile.allowed_tools.iter().any(literal))
}

/// What is said of an own tool; its schema and texts are what every client's model reads, so they are short.
struct Description {
    name: &'static str,
    title: &'static str,
    description: &'static str,
    scope: Scope,
    hints: Hints,
    input_schema: Value,
}

impl Description {
    fn into_tool(self) -> OwnTool {
        self.defined(&Value::Null)
    }

    /// A tool whose calls take longer than one that asks may want to wait without a word.
    fn into_long_running(self) -> OwnTool {
        self.defined(&json!({LONG_RUNNING: true}))
    }

    fn defined(self, meta: &Value) -> OwnTool {
        let Self { name, title, description, scope, hints, input_schema } = self;
        let mut annotations = json!({"title": title, "readOnlyHint": hints.read_only.unwrap_or(false)});
        if let (Some(open), Some(members)) = (hints.open_world, annotations.as_object_mut()) {
            members.insert("openWorldHint".into(), json!(open));
        }
        let mut definition = json!({
            "name": name, "title": title, "description": description,
            "inputSchema": input_schema, "annotations": annotations,
        });
        if let (Some(members), false) = (definition.as_object_mut(), meta.is_null()) {
            members.insert("_meta".into(), meta.clone());
        }
        let definition = Json::of(&definition);
        let id = ToolId::own(name);
        OwnTool {
            tool: Arc::new(Tool {
                kind: Kind::Tool,
                label: id.to_string().into(),
                id,
                title: Some(title.to_owned()),
                description: description.to_owned(),
                digest: sha256_hex(definition.bytes()).into(),
                definition,
                input_schema: Arc::new(input_schema),
                risk: Risk::from_hints(hints),
                hints,
                settings: Arc::new(ToolSettings::default()),
            }),
            scope,
            by_scope: ALWAYS_LISTED.contains(&name),
            opens: name == invoke::NAME,
            granted: GRANTED.contains(&name),
        }
    }
}
