//! `gateway_search_tools`: the right tool in one hop.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Value, json};

use super::{Description, arguments};
use crate::domain::outcome::{Answer, Refusal};
use crate::domain::principal::Scope;
use crate::domain::tool::{Hints, Tool};
use crate::pipeline::{OwnTool, State, own_answer};
use crate::policy::PermittedCall;
use crate::search::lines::{Line, Tally, answer};
use crate::search::{SearchOptions, signature};

pub(super) const NAME: &str = "gateway_search_tools";
const DEFAULT_LIMIT: usize = 8;
const MAX_LIMIT: usize = 50;

pub(super) fn tool() -> OwnTool {
    Description {
        name: NAME,
        title: "Search Tools",
        description: "Find tools on the backend servers by what they do. Hits come best first as \
                      server/tool(arguments); call one with gateway_invoke.",
        scope: Scope::ToolsRead,
        hints: Hints { read_only: Some(true), open_world: Some(false), ..Hints::default() },
        input_schema: json!({
            "type": "object",
            "properties": {
                "query": {"type": "string", "description": "What the tool should do, in a few words"},
                "limit": {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": DEFAULT_LIMIT, "description": "Most hits"},
                "server": {"type": "string", "description": "Only tools of this server"},
                "detail": {"type": "string", "enum": ["compact", "full"], "default": "compact", "description": "full adds every input schema"},
            },
            "required": ["query"],
            "additionalProperties": false,
        }),
    }
    .into_tool()
}

#[derive(Deserialize)]
struct Arguments {
    query: String,
    limit: Option<usize>,
    server: Option<String>,
    detail: Option<String>,
}

pub(super) fn run(own: &[OwnTool], state: &Arc<State>, call: &PermittedCall) -> Result<Answer, Refusal> {
    let Arguments { query, limit, server, detail } = arguments(call)?;
    let limit = limit.unwrap_or(DEFAULT_LIMIT).clamp(1, MAX_LIMIT);
    let full = detail.as_deref() == Some("full");
    let tools = state.catalog.entries();
    let sight = state.sight(call.principal());
    let at = |number: u32| sight.numbered(own, number);
    let options = SearchOptions { limit, server: server.as_deref() };
    let found = state.index.search(&query, &options, |number| at(number).is_some());
    let hits: Vec<(&Arc<Tool>, f32)> = found.hits.iter().filter_map(|hit| Some((at(hit.tool)?, hit.score))).collect();
    let of_server = |tool: &Tool| options.server.is_none_or(|server| tool.id.server.as_str() == server);
    let searched = tools.iter().map(|entry| entry.tool()).filter(|tool| of_server(tool) && sight.shows(tool)).count()
        + own.iter().filter(|own| of_server(&own.tool) && sight.shows_own(own)).count();
    let signatures: Vec<String> = hits.iter().map(|(tool, _)| signature(&tool.id.tool, &tool.input_schema)).collect();
    let shown_lines = hits.iter().zip(&signatures).map(|((tool, _), signature)| Line {
        server: tool.id.server.as_str(),
        signature,
        description: &tool.description,
    });
    let text = answer(shown_lines, Tally { matches: found.matches, searched });
    let structured: Vec<Value> = hits
        .iter()
        .zip(&signatures)
        .enumerate()
        .map(|(place, ((tool, score), signature))| hit(tool, *score, signature, full || place == 0))
        .collect();
    Ok(own_answer(&text, &json!({"tools": structured})))
}

fn hit(tool: &Tool, score: f32, signature: &str, with_schema: bool) -> Value {
    let mut hit = json!({
        "id": tool.id,
        "server": tool.id.server,
        "name": tool.id.tool,
        "description": tool.description,
        "score": (f64::from(score) * 1000.0).round() / 1000.0,
        "risk": tool.risk,
        "signature": signature,
    });
    if let (true, Some(members)) = (with_schema, hit.as_object_mut()) {
        members.insert("input_schema".into(), Value::clone(&tool.input_schema));
    }
    hit
}
