//! `gateway_invoke`: one tool that calls any other.
//!
//! It is opened here and carried as the call inside it, so that profile, policy, limits and record see the backend's
//! tool, and the result is the backend's, byte for byte.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;

use super::{Description, Own};
use crate::backend::Catalog;
use crate::domain::call::{CallRequest, ToolRef};
use crate::domain::json::Json;
use crate::domain::outcome::{Misfit, Refusal, SchemaFault};
use crate::domain::principal::{Principal, Scope};
use crate::domain::tool::Hints;
use crate::pipeline::{OwnTool, OwnTools};

pub(super) const NAME: &str = "gateway_invoke";

pub(super) fn tool() -> OwnTool {
    Description {
        name: NAME,
        title: "Invoke Tool",
        description: "Call a tool on a backend server and get its result unchanged. Each call passes the gateway's \
                      authentication, policy, rate limit, caching and failsafe checks. Search first: \
                      gateway_search_tools gives the server, the tool and its arguments.",
        scope: Scope::ToolsInvoke,
        hints: Hints { read_only: Some(false), open_world: Some(true), ..Hints::default() },
        input_schema: json!({
            "type": "object",
            "properties": {
                "server": {"type": "string", "description": "Backend server name"},
                "tool": {"type": "string", "description": "Tool name to invoke"},
                "arguments": {"type": "object", "description": "Tool arguments"},
            },
            "required": ["server", "tool"],
            "additionalProperties": false,
        }),
    }
    .into_tool()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Arguments<'a> {
    server: String,
    tool: String,
    #[serde(borrow)]
    arguments: Option<&'a RawValue>,
}

/// Whether a reference names this tool, in any spelling.
fn is_named(own: &Own, asked: &ToolRef) -> bool {
    own.find(asked).is_some_and(|own| &*own.tool.id.tool == NAME)
}

/// Makes a request of this tool the call inside it. One inside another is refused.
pub(super) fn unwrap(own: &Own, principal: &Principal, request: &mut CallRequest) -> Result<(), Refusal> {
    if !is_named(own, &request.tool) {
        return Ok(());
    }
    if !principal.profile.has(Scope::ToolsInvoke) {
        return Err(Refusal::InsufficientScope { asked: request.tool.label(), scope: Scope::ToolsInvoke.as_str() });
    }
    let outer = request.arguments.clone().unwrap_or_else(|| Json::from_parts("{}".into()));
    let arguments: Arguments<'_> = serde_json::from_slice(outer.bytes()).map_err(|_| misfit(&outer))?;
    if arguments.arguments.is_some_and(|inner| !inner.get().starts_with('{')) {
        return Err(misfit(&outer));
    }
    let inner = ToolRef::Pair { server: arguments.server, tool: arguments.tool };
    if is_named(own, &inner) {
        return Err(Refusal::InvalidRequest {
            message: format!("`{NAME}` does not call itself: name the tool that you want"),
        });
    }
    request.arguments = arguments.arguments.map(|text| Json::slice_of(outer.bytes(), text));
    request.tool = inner;
    Ok(())
}

/// Says what is wrong with the outer arguments, as any tool's schema would.
fn misfit(outer: &Json) -> Refusal {
    let OwnTool { tool, .. } = tool();
    let faults = Catalog::default().validate(&tool, &outer.value()).err().unwrap_or_else(|| {
        vec![SchemaFault { path: String::new(), expected: "only the members `server`, `tool` and `arguments`".into() }]
    });
    let example = Some(json!({"server": "github", "tool": "list_repos", "arguments": {}}));
    Refusal::InvalidArguments(Box::new(Misfit {
        tool: NAME.into(),
        faults,
        example,
        schema: Arc::clone(&tool.input_schema),
    }))
}
