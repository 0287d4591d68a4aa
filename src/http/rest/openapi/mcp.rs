//! The MCP endpoints, which speak JSON-RPC: one description for all their addresses.

use serde_json::{Value, json};

/// Adds them to the document.
pub(super) fn add(document: &mut Value) {
    let Some(Value::Object(paths)) = document.get_mut("paths") else { return };
    let mut put = |path: &str, method: &str, operation: Value| {
        let path = paths.entry(path).or_insert_with(|| json!({}));
        if let Value::Object(methods) = path {
            methods.insert(method.into(), operation);
        }
    };
    for (path, name, about) in [
        ("/v1/mcp", "mcp", "All servers behind one endpoint"),
        ("/mcp", "mcp_short", "The same under a shorter address"),
    ] {
        put(path, "get", card(name, about));
        put(path, "post", message(name, about, &json!([surface(), names()])));
        put(path, "delete", end(name, &json!([session()])));
    }
    let server = json!({"name": "server", "in": "path", "required": true, "schema": {"type": "string"}, "description": "The server's name"});
    let about = "One server as if there were no gateway, under the same governance";
    put("/v1/mcp/servers/{server}", "get", stream(about, &json!([server])));
    put("/v1/mcp/servers/{server}", "post", message("mcp_server", about, &json!([server])));
    put("/v1/mcp/servers/{server}", "delete", end("mcp_server", &json!([server, session()])));
    let about = "The same for access tokens of an authorization server; not there without `[oauth]`";
    let mut streamed = stream(about, &json!([server]));
    if let Some(members) = streamed.as_object_mut() {
        members.insert("operationId".into(), json!("mcp_oauth_server_stream"));
    }
    let (all, one) = ("/v1/mcp-oauth", "/v1/mcp-oauth/servers/{server}");
    for (path, method, mut operation) in [
        (all, "get", card("mcp_oauth", about)),
        (all, "post", message("mcp_oauth", about, &json!([surface(), names()]))),
        (all, "delete", end("mcp_oauth", &json!([session()]))),
        (one, "get", streamed),
        (one, "post", message("mcp_oauth_server", about, &json!([server]))),
        (one, "delete", end("mcp_oauth_server", &json!([server, session()]))),
    ] {
        let missing = json!({
            "description": "No such session, server or method, or no `[oauth]`",
            "content": {"application/json": {"schema": {"type": "object"}}},
        });
        if let Some(responses) = operation.get_mut("responses").and_then(Value::as_object_mut) {
            responses.insert("404".into(), missing);
        }
        put(path, method, operation);
    }
    put("/.well-known/oauth-protected-resource/v1/mcp-oauth", "get", metadata());
    put(
        "/api/mcp/tools",
        "post",
        message("mcp_tools", "The same, for clients that are given this address", &json!([])),
    );
    let path = json!({"name": "path", "in": "path", "required": true, "schema": {"type": "string"}});
    for (place, name) in [("/.well-known/{path}", "well_known"), ("/v1/mcp/.well-known/{path}", "mcp_well_known")] {
        put(place, "get", nothing(name, &path));
    }
}

fn metadata() -> Value {
    let error = json!({"$ref": "#/components/schemas/ErrorEnvelope"});
    json!({
        "tags": ["MCP"],
        "operationId": "mcp_oauth_metadata",
        "summary": "Which authorization servers give tokens for `/v1/mcp-oauth` (RFC 9728)",
        "responses": {
            "200": {"description": "The metadata", "content": {"application/json": {"schema": {"type": "object"}}}},
            "404": {"description": "Not without `[oauth]`", "content": {"application/json": {"schema": error}}},
        },
    })
}

fn session() -> Value {
    json!({
        "name": "Mcp-Session-Id", "in": "header", "required": true, "schema": {"type": "string"},
        "description": "As `initialize` gave it",
    })
}

fn surface() -> Value {
    json!({
        "name": "surface", "in": "query", "required": false,
        "schema": {"type": "string", "enum": ["search", "direct", "both", "auto"]},
        "description": "What `tools/list` shows, in place of the profile's",
    })
}

fn names() -> Value {
    json!({
        "name": "names", "in": "query", "required": false,
        "schema": {"type": "string", "enum": ["auto", "dotted", "safe"]},
        "description": "Which spelling of the own tools is listed",
    })
}

fn answers(description: &str) -> Value {
    let schema = json!({"$ref": "#/components/schemas/JsonRpcAnswer"});
    let header = |description: &str| json!({"description": description, "schema": {"type": "string"}});
    json!({
        "description": description,
        "headers": {
            "Toolgate-Audit-Id": header("The audit record, where the message was a call"),
            "Mcp-Session-Id": header("The session, where the message was `initialize`"),
        },
        "content": {
            "application/json": {"schema": schema},
            "text/event-stream": {"schema": {"type": "string"}},
        },
    })
}

fn failed(description: &str) -> Value {
    json!({"description": description, "content": {"application/json": {"schema": {"$ref": "#/components/schemas/JsonRpcAnswer"}}}})
}

fn message(name: &str, about: &str, parameters: &Value) -> Value {
    json!({
        "tags": ["MCP"],
        "operationId": format!("{name}_message"),
        "summary": "One JSON-RPC message",
        "description": format!("{about}. A plain POST of one request with a key works: no handshake, no header of MCP."),
        "parameters": parameters,
        "requestBody": {"required": true, "content": {"application/json": {"schema": {"$ref": "#/components/schemas/JsonRpcMessage"}}}},
        "responses": {
            "200": answers("The answer, or a stream that ends with it"),
            "202": {"description": "A notification or an answer was taken"},
            "404": failed("No such session, server or method"),
            "503": failed("Nothing can be recorded, or there is no place left"),
        },
    })
}

fn card(name: &str, about: &str) -> Value {
    json!({
        "tags": ["MCP"],
        "operationId": format!("{name}_card"),
        "summary": "A card of the endpoint, or a session's stream",
        "description": format!("{about}. With `Accept: text/event-stream` and a session, its stream."),
        "responses": {
            "200": {"description": "The card, or a stream", "content": {
                "application/json": {"schema": {"type": "object"}},
                "text/event-stream": {"schema": {"type": "string"}},
            }},
            "400": failed("The query string or a header cannot be read"),
            "401": failed("A stream needs a key"),
            "404": failed("The session has ended"),
            "405": failed("A stream needs a session"),
        },
    })
}

fn stream(about: &str, parameters: &Value) -> Value {
    json!({
        "tags": ["MCP"],
        "operationId": "mcp_server_stream",
        "summary": "A session's stream",
        "description": format!("{about}."),
        "parameters": parameters,
        "responses": {
            "200": {"description": "A stream", "content": {"text/event-stream": {"schema": {"type": "string"}}}},
            "400": failed("A header cannot be read"),
            "401": failed("No key, or a wrong one"),
            "404": failed("No such server, or the session has ended"),
            "405": failed("A stream needs a session"),
            "429": failed("Too many streams"),
        },
    })
}

fn end(name: &str, parameters: &Value) -> Value {
    json!({
        "tags": ["MCP"],
        "operationId": format!("{name}_end"),
        "summary": "End a session",
        "parameters": parameters,
        "responses": {
            "204": {"description": "It has ended"},
            "400": failed("`Mcp-Session-Id` is missing or cannot be read"),
            "401": failed("No key, or a wrong one"),
            "404": failed("There is no such session, or no such server"),
            "429": failed("Too many wrong keys"),
            "503": failed("The end could not be kept"),
        },
    })
}

fn nothing(name: &str, path: &Value) -> Value {
    let schema = json!({"$ref": "#/components/schemas/ErrorEnvelope"});
    json!({
        "tags": ["MCP"],
        "operationId": name,
        "summary": "Nothing: keys need no authorization server",
        "parameters": [path],
        "responses": {
            "404": {"description": "There is no authorization server", "content": {"application/json": {"schema": schema}}},
        },
    })
}
