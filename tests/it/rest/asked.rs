//! What is asked of each route, so that its answers can be held against its description.

use serde_json::{Value, json};

use super::openapi::{Asked, KEYS};

/// Calls through the doors of REST, in each way that they end.
pub(super) fn calls() -> Vec<Asked> {
    let invoke = |tool: &str, what: &str| {
        ("POST", "/api/v1/mcp/invoke", "", json!({"serverId": "up", "toolName": tool, "arguments": {"do": what}}))
    };
    let call = |tool: &str, what: &str| {
        ("POST", "/api/mcp/call", "", json!({"tool": format!("up:{tool}"), "arguments": {"do": what}}))
    };
    let drop = json!({"serverId": "up", "toolName": "write", "arguments": {"sql": "drop table x"}});
    let mut all = vec![
        ("POST", "/api/v1/mcp/invoke", "", drop),
        ("POST", "/api/v1/mcp/invoke", "", json!({})),
        ("POST", "/api/mcp/call", "", json!([])),
    ];
    for (tool, what) in
        [("read", ""), ("read", "error"), ("read", "image"), ("write", "garbage"), ("destroy", ""), ("nothing", "")]
    {
        all.extend([invoke(tool, what), call(tool, what)]);
    }
    all
}

/// A request to everything else: method, path, what takes the place of its variables, body.
pub(super) fn others() -> Vec<Asked> {
    let get = |path: &'static str, rest: &'static str| ("GET", path, rest, Value::Null);
    let rpc = |path: &'static str, rest: &'static str, method: &str| {
        ("POST", path, rest, json!({"jsonrpc": "2.0", "id": 1, "method": method}))
    };
    let (servers, one) = ("/api/mcp/v1/servers", "/v1/mcp/servers/{server}");
    let wanted = json!({"name": "a", "profile": "agent", "plan": "tight", "expires_in": "30d", "agent_id": "b"});
    vec![
        get("/api/mcp/tools", ""),
        get(servers, ""),
        get(servers, "?first=0"),
        get("/api/mcp/v1/servers/{namespace}/{name}", "/local/up"),
        get("/api/mcp/v1/servers/{namespace}/{name}", "/local/gone"),
        get("/api/mcp/v1/servers/{namespace}/{name}", "/local/nothing"),
        get("/v1/mcp/key-profiles", ""),
        ("POST", KEYS, "/ana/keys", wanted),
        ("POST", KEYS, "/ana/keys", json!({"name": "a", "profile": "no such"})),
        get(KEYS, "/ana/keys"),
        ("DELETE", "/v1/beta/users/{user}/keys/{id}", "/ana/keys/key_x", Value::Null),
        get("/healthz", ""),
        get("/readyz", ""),
        get("/metrics", ""),
        get("/llms.txt", ""),
        get("/openapi.json", ""),
        get("/docs", ""),
        get("/.well-known/{path}", "/oauth-protected-resource"),
        get("/v1/mcp/.well-known/{path}", "/oauth-protected-resource"),
        ("POST", "/register", "", json!({})),
        get("/v1/mcp", ""),
        get("/mcp", ""),
        ("DELETE", "/v1/mcp", "", Value::Null),
        ("DELETE", "/mcp", "", Value::Null),
        rpc("/v1/mcp", "", "tools/list"),
        rpc("/v1/mcp", "", "no/such"),
        rpc("/v1/mcp", "?surface=none", "tools/list"),
        rpc("/v1/mcp", "?surface=both&surface=both", "tools/list"),
        ("POST", "/v1/mcp", "", json!({"jsonrpc": "2.0", "method": "notifications/initialized"})),
        ("POST", "/mcp", "", json!([])),
        rpc("/api/mcp/tools", "", "ping"),
        get(one, "/up"),
        rpc(one, "/up", "tools/list"),
        rpc(one, "/nothing", "tools/list"),
        ("DELETE", one, "/up", Value::Null),
        get("/v1/mcp-oauth", ""),
        rpc("/v1/mcp-oauth", "", "tools/list"),
        ("DELETE", "/v1/mcp-oauth", "", Value::Null),
        get("/v1/mcp-oauth/servers/{server}", "/up"),
        rpc("/v1/mcp-oauth/servers/{server}", "/up", "tools/list"),
        ("DELETE", "/v1/mcp-oauth/servers/{server}", "/up", Value::Null),
        get("/.well-known/oauth-protected-resource/v1/mcp-oauth", ""),
    ]
}

/// The routes of the API under `/v1`.
pub(super) fn shield() -> Vec<Asked> {
    let get = |path: &'static str, rest: &'static str| ("GET", path, rest, Value::Null);
    let invoke = |rest: &'static str, body: Value| ("POST", "/v1/mcps/{id}/invoke", rest, json!({"input": body}));
    let unheard = "forbid (principal, action == Toolgate::Action::\"up:unheard\", resource);";
    let all = "forbid (principal, action, resource);";
    let (policies, policy) = ("/v1/policies", "/v1/policies/{id}");
    vec![
        ("POST", "/v1/auth/token", "", json!({"type": "service"})),
        ("POST", "/v1/auth/token", "", json!({"type": "root"})),
        ("DELETE", "/v1/auth/token", "", Value::Null),
        ("POST", "/v1/auth/refresh", "", json!({"refresh_token": "ref_live_nothing"})),
        ("POST", "/v1/auth/refresh", "", json!({})),
        get("/v1/mcps", ""),
        get("/v1/mcps", "?q=read"),
        get("/v1/mcps", "?limit=0"),
        get("/v1/mcps/{id}", "/up:read"),
        get("/v1/mcps/{id}", "/toolgate:policy.simulate"),
        get("/v1/mcps/{id}", "/up:nothing"),
        invoke("/up:read/invoke", json!({})),
        invoke("/up:read/invoke", json!({"do": "error"})),
        invoke("/up:read/invoke", json!({"do": "image"})),
        invoke("/up:write/invoke", json!({"do": "garbage"})),
        invoke("/up:write/invoke", json!({"sql": "drop table x"})),
        ("POST", "/v1/mcps/{id}/invoke", "/up:destroy/invoke", json!({})),
        ("POST", "/v1/mcps/{id}/invoke", "/up:nothing/invoke", json!({})),
        ("POST", "/v1/mcps/{id}/invoke", "/up:read/invoke", json!([])),
        get(policies, ""),
        ("POST", policies, "", json!({"name": "doc", "text": unheard})),
        ("POST", policies, "", json!({"name": "block-sql-drop", "text": all})),
        ("POST", policies, "", json!({"name": "bad", "text": "nonsense"})),
        get(policy, "/doc"),
        get(policy, "/nothing"),
        ("PUT", policy, "/doc", json!({"text": unheard})),
        ("PUT", policy, "/block-sql-drop", json!({"text": all})),
        ("DELETE", policy, "/doc", Value::Null),
        ("DELETE", policy, "/doc", Value::Null),
        ("POST", "/v1/policies/simulate", "", json!({"action": "up.write", "params": {"sql": "drop table x"}})),
        ("POST", "/v1/policies/simulate", "", json!({})),
        get("/v1/audit/events", "?limit=3"),
        get("/v1/audit/events", "?from=soon"),
        get("/v1/audit/events/{id}", "/evt_none"),
        get("/v1/audit/export", ""),
        get("/v1/audit/export", "?format=csv"),
    ]
}

/// The routes of who watches over calls: beforehand, while they wait, and afterwards.
pub(super) fn watched() -> Vec<Asked> {
    let get = |path: &'static str, rest: &'static str| ("GET", path, rest, Value::Null);
    vec![
        ("POST", "/v1/preflight", "", json!({"calls": [{"server": "up", "tool": "write"}, {"tool": "up:nothing"}]})),
        ("POST", "/v1/preflight", "", json!({"calls": []})),
        get("/v1/governance/readiness", ""),
        get("/v1/approvals", ""),
        get("/v1/approvals", "?state=odd"),
        get("/v1/approvals/{id}", "/apr_none"),
        ("POST", "/v1/approvals/{id}", "/apr_none", json!({})),
        ("POST", "/v1/approvals/{id}/approve", "/apr_none/approve", json!({"comment": "x"})),
        ("POST", "/v1/approvals/{id}/deny", "/apr_none/deny", json!({"coment": "x"})),
        get("/v1/providers", ""),
        get("/v1/providers", "?limit=x"),
        ("POST", "/v1/providers/{slug}/connect", "/example/connect", json!({})),
        ("POST", "/v1/providers/{slug}/connect", "/nothing/connect", json!({})),
        get("/v1/providers/{slug}/callback", "/example/callback?state=x&code=y"),
        ("POST", "/v1/providers/{slug}/callback", "/example/callback", json!({"state": "x"})),
        ("DELETE", "/v1/providers/{id}", "/example", Value::Null),
        ("POST", "/v1/providers/{id}/refresh", "/example/refresh", json!({})),
        get("/v1/executions", "?limit=3"),
        get("/v1/executions", "?since=soon"),
        get("/v1/executions/{id}", "/evt_none"),
        get("/v1/observability/summary", ""),
        get("/v1/observability/summary", "?window=1y"),
    ]
}

/// The routes of what the company knows.
pub(super) fn brain() -> Vec<Asked> {
    vec![
        (
            "POST",
            "/v1/brain/entities",
            "",
            json!({"entities": [
                {"type": "customer", "key": "c-1", "attributes": {"name": "Acme"}}, {"type": "invoice", "id": 7, "customer_id": "c-1"}, 7,
            ]}),
        ),
        ("POST", "/v1/brain/entities", "", json!({"entities": {}})),
        ("GET", "/v1/brain/types", "", Value::Null),
        (
            "POST",
            "/v1/brain/query",
            "",
            json!({"query": "acme", "entity_type": "customer", "join_to": {"entity_type": "invoice", "aggregate": {"count": true, "sum": ["id"]}}, "aggregate": {"count": true}}),
        ),
        ("POST", "/v1/brain/query", "", json!({})),
        ("POST", "/v1/brain/query", "", json!({"entity_type": "nothing"})),
        ("POST", "/v1/brain/query", "", json!({"limit": 0})),
    ]
}

/// The routes of evaluations: one is made and run, and nothing is there besides.
pub(super) fn evaluations() -> Vec<Asked> {
    let get = |path: &'static str, rest: &'static str| ("GET", path, rest, Value::Null);
    let case = json!({"name": "reads", "tool": "up:read", "weight": 2, "expect": {"max_latency": "10s"}});
    let suite = json!({"id": 7, "name": "made", "tolerance": 1.5, "cases": [case, {"name": "gap", "tool": "up:gap"}]});
    let (all, one, runs) = ("/v1/evals", "/v1/evals/{id}", "/v1/evals/{id}/runs");
    vec![
        get(all, ""),
        ("POST", all, "", suite.clone()),
        ("POST", all, "", suite),
        ("POST", all, "", json!({"id": "x"})),
        get(one, "/7"),
        get(one, "/8"),
        get("/v1/evals/{id}/quality", "/7/quality"),
        ("POST", runs, "/7/runs", json!({"environment": "dev"})),
        ("POST", runs, "/8/runs", json!({})),
        ("POST", runs, "/7/runs", json!({"environment": "mars"})),
        get("/v1/evals/{id}/quality", "/7/quality?baseline=published"),
        get("/v1/evals/{id}/quality", "/7/quality?baseline=best"),
        get(runs, "/7/runs?limit=1"),
        get(runs, "/8/runs"),
        get("/v1/evals/{id}/runs/{run}", "/7/runs/run_none"),
        ("POST", "/v1/evals/{id}/runs/{run}/publish", "/7/runs/run_none/publish", Value::Null),
        get(all, "?cursor=none"),
        ("DELETE", one, "/7", Value::Null),
        ("DELETE", one, "/7", Value::Null),
    ]
}
