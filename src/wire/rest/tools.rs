//! `/api/mcp/tools` and `/api/mcp/call`: tools found without a key, and called with one.

use std::borrow::Cow;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::{Body, Told, Unanswered, unanswered};
use crate::domain::id::RequestId;
use crate::domain::json::Json;
use crate::domain::outcome::{Carried, Outcome};
use crate::domain::tool::Tool;

/// The member of a definition's `_meta` that says that a call of the tool takes long.
pub const LONG_RUNNING: &str = "toolgate/longRunning";

/// What a caller asks for.
#[derive(Debug)]
pub struct ToolCall {
    pub tool: String,
    pub arguments: Json,
}

/// Reads a body.
///
/// # Errors
/// A sentence for the caller.
pub fn read(body: &Bytes) -> Result<ToolCall, String> {
    let body = Body::read(body)?;
    let tool = body.required("tool")?;
    let arguments = body.object("arguments")?.ok_or("arguments is required")?;
    Ok(ToolCall { tool, arguments })
}

/// The list of tools, each under the name that a call gives it. Schemas are the backends' text.
#[must_use]
pub fn list<'a>(tools: impl Iterator<Item = (Cow<'a, str>, &'a Tool)>) -> String {
    let mut out = String::from(r#"{"mcpVersion":"1","tools":["#);
    for (at, (name, tool)) in tools.enumerate() {
        if at > 0 {
            out.push(',');
        }
        let (name, description) = (Value::from(name), Value::from(tool.description.as_str()));
        let definition = Definition::of(tool);
        let (schema, long) = (definition.schema(), definition.long_running());
        out.push_str(&format!(
            r#"{{"name":{name},"description":{description},"inputSchema":{schema},"version":"1.0","longRunning":{long}}}"#
        ));
    }
    out.push_str("]}");
    out
}

/// What is read of a tool's definition.
#[derive(Default, Deserialize)]
struct Definition<'a> {
    #[serde(borrow, rename = "inputSchema")]
    input_schema: Option<&'a RawValue>,
    #[serde(default)]
    execution: Value,
    #[serde(default, rename = "_meta")]
    meta: Value,
}

impl<'a> Definition<'a> {
    fn of(tool: &'a Tool) -> Self {
        serde_json::from_slice(tool.definition.bytes()).unwrap_or_default()
    }

    fn schema(&self) -> &str {
        self.input_schema.map_or(r#"{"type":"object"}"#, RawValue::get)
    }

    /// Whether the backend offers to run the tool as a task, or the tool says that it takes long.
    fn long_running(&self) -> bool {
        matches!(self.execution.get("taskSupport").and_then(Value::as_str), Some("optional" | "required"))
            || self.meta.get(LONG_RUNNING) == Some(&Value::Bool(true))
    }
}

/// Tells how a call ended.
#[must_use]
pub fn tell(carried: &Carried, request: &RequestId) -> Told {
    if let Some(no) = unanswered(carried) {
        return untold(carried, &no, request);
    }
    let Outcome::Answered(answer) = &carried.outcome else {
        return Told { status: 500, body: refusal("INTERNAL_ERROR", "no answer", request), retry_after: None };
    };
    let read = Answered::of(&answer.result);
    if answer.is_error {
        let (message, status) = (read.words(), 502);
        return Told { status, body: failure("TOOL_ERROR", &message, request, Some(carried)), retry_after: None };
    }
    let content = read.content(&answer.result);
    let governance = Json::of(&carried.governance);
    let body = format!(r#"{{"ok":true,"content":{content},"governance":{}}}"#, governance.as_str());
    Told { status: 200, body, retry_after: None }
}

fn untold(carried: &Carried, no: &Unanswered, request: &RequestId) -> Told {
    let code = match no.code {
        "invalid_request" => "VALIDATION_ERROR",
        "insufficient_scope" | "policy_denied" => "FORBIDDEN",
        "approval_required" => "APPROVAL_REQUIRED",
        "unauthorized" => "UNAUTHORIZED",
        "not_found" => "NOT_FOUND",
        "rate_limited" => "RATE_LIMITED",
        "backend_error" | "backend_timeout" => "TOOL_ERROR",
        _ => "INTERNAL_ERROR",
    };
    // Members are named plainly here: `evaluationId is required`.
    let plain = if code == "VALIDATION_ERROR" { no.message.replace('`', "") } else { no.message.clone() };
    let mut body = failing(code, &plain, request, Some(carried));
    if let (Some(approval), Some(error)) = (no.details.get("approval"), body.pointer_mut("/error"))
        && let Some(members) = error.as_object_mut()
    {
        members.insert("approval".into(), approval.clone());
    }
    Told { status: no.status, body: body.to_string(), retry_after: no.retry_after }
}

/// An error that is no call's.
#[must_use]
pub fn refusal(code: &str, message: &str, request: &RequestId) -> String {
    failure(code, message, request, None)
}

fn failure(code: &str, message: &str, request: &RequestId, carried: Option<&Carried>) -> String {
    failing(code, message, request, carried).to_string()
}

fn failing(code: &str, message: &str, request: &RequestId, carried: Option<&Carried>) -> Value {
    let mut body = json!({"ok": false, "error": {"code": code, "message": message, "requestId": uuid(request)}});
    if let (Some(carried), Some(members)) = (carried, body.as_object_mut()) {
        members.insert("governance".into(), json!(carried.governance));
    }
    body
}

/// The id of a request as a UUID, which is what its digits are.
fn uuid(request: &RequestId) -> String {
    let digits = request.as_str().trim_start_matches("req_");
    uuid::Uuid::try_parse(digits).map_or_else(|_| digits.to_owned(), |id| id.hyphenated().to_string())
}

/// The parts of an MCP result that are told here.
#[derive(Default, Deserialize)]
struct Answered<'a> {
    #[serde(borrow, default)]
    content: Option<Vec<&'a RawValue>>,
    #[serde(borrow, default, rename = "structuredContent")]
    structured: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Block<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    text: Option<&'a RawValue>,
}

impl<'a> Answered<'a> {
    fn of(result: &'a Json) -> Self {
        serde_json::from_slice(result.bytes()).unwrap_or_default()
    }

    /// The text of a block, as JSON.
    fn text(block: &'a RawValue) -> Option<&'a RawValue> {
        let block: Block<'a> = serde_json::from_str(block.get()).ok()?;
        block.text.filter(|text| block.kind == "text" && text.get().starts_with('"'))
    }

    /// `json` for what is structured, then the blocks: `text` as text, every other whole as `json`. A text that only
    /// repeats what is structured, for clients that read nothing else, is left out.
    fn content(&self, result: &Json) -> String {
        let json = |value: &str| format!(r#"{{"type":"json","json":{value}}}"#);
        let mut items: Vec<String> = self.structured.iter().map(|value| json(value.get())).collect();
        for block in self.content.iter().flatten() {
            items.push(match Self::text(block) {
                Some(text) if self.repeats(text) => continue,
                Some(text) => format!(r#"{{"type":"text","text":{}}}"#, text.get()),
                None => json(block.get()),
            });
        }
        if self.content.is_none() && self.structured.is_none() {
            items.push(json(result.as_str()));
        }
        format!("[{}]", items.join(","))
    }

    /// Whether a text is what is structured, byte for byte.
    fn repeats(&self, text: &RawValue) -> bool {
        let Some(structured) = self.structured.filter(|structured| structured.get().len() <= text.get().len()) else {
            return false;
        };
        serde_json::from_str::<Cow<'_, str>>(text.get()).is_ok_and(|text| text == structured.get())
    }

    /// What the tool says of its own error.
    fn words(&self) -> String {
        let texts = self.content.iter().flatten().filter_map(|block| Self::text(block));
        let words: Vec<String> = texts.filter_map(|text| serde_json::from_str(text.get()).ok()).collect();
        if words.is_empty() { "the tool reported an error".into() } else { words.join("\n") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(result: &str) -> String {
        let result = Json::parse(Bytes::copy_from_slice(result.as_bytes())).unwrap();
        Answered::of(&result).content(&result)
    }

    #[test]
    fn text_stays_text_and_all_else_is_json_as_it_came() {
        insta::assert_snapshot!(
            content(r#"{"content":[{"type":"text","text":"a\u0041","annotations":{}},{ "type":"image", "data":"eA==" }]}"#),
            @r#"[{"type":"text","text":"a\u0041"},{"type":"json","json":{ "type":"image", "data":"eA==" }}]"#
        );
        insta::assert_snapshot!(
            content(r#"{"content":[{"type":"text","text":"{}"}],"structuredContent":{ "score" : 8.50 }}"#),
            @r#"[{"type":"json","json":{ "score" : 8.50 }},{"type":"text","text":"{}"}]"#
        );
        assert_eq!(content(r#"{"content":[]}"#), "[]");
        assert_eq!(content(r#"{"content":3}"#), r#"[{"type":"json","json":{"content":3}}]"#);
        assert_eq!(
            content(r#"{"content":[{"type":"text","text":7}]}"#),
            r#"[{"type":"json","json":{"type":"text","text":7}}]"#
        );
    }

    #[test]
    fn a_request_id_is_a_uuid() {
        let id = RequestId::from("req_550e8400e29b41d4a716446655440000");
        assert_eq!(uuid(&id), "550e8400-e29b-41d4-a716-446655440000");
    }

    #[test]
    fn both_members_are_required() {
        for (text, why) in [
            (r#"{"arguments":{}}"#, "tool is required"),
            (r#"{"tool":"x"}"#, "arguments is required"),
            (r#"{"tool":"x","arguments":"{}"}"#, "arguments must be an object"),
        ] {
            assert_eq!(read(&Bytes::from(text)).err().as_deref(), Some(why), "{text}");
        }
    }
}
