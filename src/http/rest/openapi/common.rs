//! What every door has in common: its security, its errors, its headers.

use serde_json::{Map, Value, json};

use crate::http::{Access, ROUTES, Route};

/// What a door may answer beside what it is there for: to which doors that applies, the status, what it means.
const ERRORS: [(Applies, u16, &str); 13] = [
    (Applies::Call, 202, "A person has to approve this call first"),
    (Applies::Always, 400, "The request cannot be read, or the arguments do not fit the tool's schema"),
    (Applies::Keyed, 401, "No key, or one that is wrong, expired or revoked"),
    (Applies::Scoped, 403, "The key lacks the scope, or policy denies"),
    (Applies::Named, 404, "What is named does not exist for this key"),
    (Applies::Body, 408, "The body did not arrive in time"),
    (Applies::Body, 413, "The body is too large"),
    (Applies::Body, 415, "The body is not `application/json`"),
    (Applies::Keyed, 429, "Over a limit: wait as many seconds as `Retry-After` says"),
    (Applies::Call, 500, "A fault of the gateway; its log says more"),
    (Applies::Call, 502, "The backend is down or broken, or reports an error"),
    (Applies::Recorded, 503, "Nothing can be recorded or read, the gateway is stopping, or the backend is busy"),
    (Applies::Call, 504, "The backend gave no answer in time"),
];

/// The doors that an error applies to.
#[derive(Clone, Copy)]
enum Applies {
    Always,
    Keyed,
    Scoped,
    /// A path with variables, or a call.
    Named,
    Body,
    Call,
    /// What writes to the store, or reads it.
    Recorded,
}

/// Puts them into every operation that [`ROUTES`] has.
pub(super) fn complete(document: &mut Value) {
    for route in ROUTES {
        let path = route.path.replace("{*", "{");
        let pointer = format!("/paths/{}/{}", path.replace('/', "~1"), route.method.to_ascii_lowercase());
        if let Some(Value::Object(operation)) = document.pointer_mut(&pointer) {
            secure(route, operation);
            add_errors(route, operation);
        }
    }
    leave_open(document);
    if let Some(Value::Object(components)) = document.get_mut("components") {
        components.insert(
            "securitySchemes".into(),
            json!({
                "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "A key, `inv_live_…`"},
                "bearer": {"type": "http", "scheme": "bearer", "description": "The same key"},
            }),
        );
    }
}

/// Says of objects of which nothing is said that they may hold anything: else generators make types of them that hold nothing.
fn leave_open(value: &mut Value) {
    const VALUES: [&str; 5] = ["example", "examples", "default", "enum", "const"];
    match value {
        Value::Object(members) => {
            let kind = members.get("type");
            let is_object = kind.is_some_and(|kind| {
                kind == "object" || kind.as_array().is_some_and(|kinds| kinds.contains(&json!("object")))
            });
            if is_object && !members.contains_key("properties") {
                members.entry("additionalProperties").or_insert(Value::Bool(true));
            }
            members
                .iter_mut()
                .filter(|(name, _)| !VALUES.contains(&name.as_str()))
                .for_each(|(_, one)| leave_open(one));
        }
        Value::Array(items) => items.iter_mut().for_each(leave_open),
        _ => {}
    }
}

fn is_keyed(access: Access) -> bool {
    matches!(access, Access::Key | Access::Token | Access::Scope(_) | Access::Call(_))
}

fn secure(route: &Route, operation: &mut Map<String, Value>) {
    let either = json!([{"apiKey": []}, {"bearer": []}]);
    let (security, said) = match route.access {
        Access::Public => (json!([]), None),
        Access::Local => {
            (json!([{}, {"apiKey": []}, {"bearer": []}]), Some("On this machine no key is needed.".into()))
        }
        Access::Key => (either, None),
        Access::Token => (json!([{"bearer": []}]), Some("Needs an access token; not there without `[oauth]`.".into())),
        Access::Scope(scope) | Access::Call(scope) => (either, Some(format!("Needs the scope `{}`.", scope.as_str()))),
    };
    operation.insert("security".into(), security);
    if let Some(said) = said {
        let told = operation.get("description").and_then(Value::as_str).unwrap_or_default();
        let told = format!("{told}\n\n{said}");
        operation.insert("description".into(), json!(told.trim()));
    }
}

fn add_errors(route: &Route, operation: &mut Map<String, Value>) {
    let has_body = operation.contains_key("requestBody");
    let call = matches!(route.access, Access::Call(_));
    let keyed = is_keyed(route.access);
    let mcp = has_body
        && !call
        && matches!(route.access, Access::Key | Access::Token)
        && !route.path.starts_with("/v1/auth/");
    let schema = match route.path {
        "/api/v1/mcp/invoke" => "InvokeError",
        "/api/mcp/call" => "ToolCallError",
        "/v1/mcps/{id}/invoke" => "GovernedError",
        _ if mcp => "JsonRpcAnswer",
        _ => "ErrorEnvelope",
    };
    let Some(Value::Object(responses)) = operation.get_mut("responses") else { return };
    for (applies, status, description) in ERRORS {
        let applies = match applies {
            Applies::Always => keyed || has_body || route.path.contains('{'),
            Applies::Keyed => keyed || route.access == Access::Local,
            Applies::Recorded => keyed,
            Applies::Scoped => call || matches!(route.access, Access::Scope(_)),
            Applies::Named => call || (keyed && route.path.contains('{')),
            Applies::Body => has_body && keyed,
            Applies::Call => call,
        };
        if applies && !responses.contains_key(&status.to_string()) {
            let schema = json!({"$ref": format!("#/components/schemas/{schema}")});
            let answer = json!({"description": description, "content": {"application/json": {"schema": schema}}});
            responses.insert(status.to_string(), answer);
        }
    }
    for (status, answer) in responses {
        add_headers(status, answer, keyed && !mcp, call);
    }
}

fn add_headers(status: &str, answer: &mut Value, limited: bool, call: bool) {
    let Value::Object(answer) = answer else { return };
    let mut headers = Map::new();
    let mut add = |name: &str, kind: &str, description: &str| {
        headers.insert(name.into(), json!({"description": description, "schema": {"type": kind}}));
    };
    if limited && status != "401" {
        add("X-RateLimit-Limit", "integer", "Of the plan's window that is nearest to its end; absent without a plan");
        add("X-RateLimit-Remaining", "integer", "Requests or calls that are left in it");
        add("X-RateLimit-Reset", "integer", "When it frees a place, in Unix seconds");
    }
    if status == "429" {
        add("Retry-After", "integer", "Seconds to wait");
    }
    if status == "401" {
        add("WWW-Authenticate", "string", "`Bearer`");
    }
    if call && status != "401" {
        add("Toolgate-Audit-Id", "string", "The audit record of the call");
    }
    if !headers.is_empty()
        && let Value::Object(all) = answer.entry("headers").or_insert_with(|| json!({}))
    {
        all.extend(headers);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_of_which_nothing_is_said_may_hold_anything() {
        let mut document = json!({"a": {"type": "object"}, "b": [{"type": ["object", "null"]}], "c": {"type": "object",
            "properties": {"type": {"type": "string"}}}, "d": {"type": "object", "additionalProperties": false},
            "example": {"type": "object"}});
        leave_open(&mut document);
        assert_eq!(document["a"]["additionalProperties"], true);
        assert_eq!(document["b"][0]["additionalProperties"], true);
        assert_eq!(document["c"].get("additionalProperties"), None);
        assert_eq!(document["d"]["additionalProperties"], false);
        assert_eq!(document["example"], json!({"type": "object"}));
    }
}
