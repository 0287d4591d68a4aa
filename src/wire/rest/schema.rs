//! The shapes of REST as `/openapi.json` describes them. A test holds what the doors answer against them.

use serde_json::Value;
use utoipa::ToSchema;

/// What was decided.
#[derive(Debug, ToSchema)]
#[schema(rename_all = "lowercase")]
pub enum Decision {
    Allow,
    Deny,
    Approval,
    Error,
}

/// What the scan of arguments and result found.
#[derive(Debug, ToSchema)]
#[schema(rename_all = "lowercase")]
pub enum DlpResult {
    Off,
    Passed,
    Flagged,
    Redacted,
    Blocked,
}

/// What was decided about a call, and where that is recorded.
#[derive(Debug, ToSchema)]
pub struct Governance {
    pub decision: Decision,
    /// The first rule that determined it; `default-deny` where nothing permits, `none` where no policy was asked.
    pub policy: String,
    pub dlp_result: DlpResult,
    /// The id of the audit record, `evt_…`.
    pub audit_event_id: String,
}

/// An error of any door without a shape of its own.
#[derive(Debug, ToSchema)]
pub struct ErrorEnvelope {
    pub error: Fault,
    pub meta: Meta,
}

/// What went wrong.
#[derive(Debug, ToSchema)]
#[schema(example = json!({"code": "not_found", "message": "there is no such server", "details": {}}))]
pub struct Fault {
    /// A stable word, such as `invalid_request`, `unauthorized`, `insufficient_scope`, `not_found`, `rate_limited`.
    pub code: String,
    /// One sentence for people.
    pub message: String,
    /// What a program can act on.
    #[schema(value_type = Object)]
    pub details: Value,
}

/// Which request this answers.
#[derive(Debug, ToSchema)]
pub struct Meta {
    /// `req_…`
    pub request_id: String,
    #[schema(format = DateTime)]
    pub timestamp: String,
}

/// One call of one tool.
#[derive(Debug, ToSchema)]
#[schema(rename_all = "camelCase", example = json!({"serverId": "github", "toolName": "list_repos", "arguments": {"limit": 1}}))]
pub struct InvokeRequest {
    /// The server's name; `toolgate` for the gateway's own tools.
    #[schema(min_length = 1)]
    pub server_id: String,
    /// The tool's name, as its server has it.
    #[schema(min_length = 1)]
    pub tool_name: String,
    /// What the tool's schema asks for. Relayed byte for byte.
    #[schema(value_type = Option<Object>)]
    pub arguments: Option<Value>,
    /// The caller's own token, for a server with `auth_type = "jwt"`.
    pub jwt: Option<String>,
}

/// The result of a tool; `success` is false where the tool reports an error of its own.
#[derive(Debug, ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct InvokeAnswer {
    pub success: bool,
    /// The MCP result as its server gave it, byte for byte.
    #[schema(value_type = Object)]
    pub result: Value,
    /// The id of the audit record, `evt_…`.
    pub invocation_id: String,
    pub governance: Governance,
}

/// A call that gave no result.
#[derive(Debug, ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct InvokeError {
    /// Always false.
    pub success: bool,
    pub error: InvokeFault,
    /// The id of the audit record; null where nobody was admitted.
    #[schema(required = true)]
    pub invocation_id: Option<String>,
    /// Absent where nobody was admitted.
    #[schema(nullable = false)]
    pub governance: Option<Governance>,
}

/// What went wrong.
#[derive(Debug, ToSchema)]
#[schema(example = json!({"code": "policy_denied", "message": "request denied by policy: block-sql-drop: SQL that drops or truncates is blocked: use another statement, or ask a person to run it", "details": {"policy": "block-sql-drop", "effects": ["sql.drop"]}}))]
pub struct InvokeFault {
    /// `invalid_request`, `unauthorized`, `insufficient_scope`, `policy_denied`, `approval_required`, `jwt_required`,
    /// `jwt_invalid`, `account_required`, `not_found`, `rate_limited`, `backend_error`, `backend_timeout`, `audit_unavailable`, `stopping`, `cancelled`, `internal_error`.
    pub code: String,
    pub message: String,
    /// What a program can act on: the policy and its reason, faults of the arguments with an example that fits, near names.
    #[schema(value_type = Option<Object>, nullable = false)]
    pub details: Option<Value>,
}

/// The tools that are listed without a key.
#[derive(Debug, ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct ToolList {
    /// Always `1`.
    pub mcp_version: String,
    pub tools: Vec<PublicTool>,
}

/// A tool that is listed without a key.
#[derive(Debug, ToSchema)]
#[schema(rename_all = "camelCase", example = json!({"name": "github:list_repos", "description": "List the repositories that you can see", "inputSchema": {"type": "object"}, "version": "1.0", "longRunning": false}))]
pub struct PublicTool {
    /// As `POST /api/mcp/call` takes it.
    pub name: String,
    pub description: String,
    /// JSON Schema of the arguments.
    #[schema(value_type = Object)]
    pub input_schema: Value,
    /// Always `1.0`.
    pub version: String,
    /// Whether it says of itself that it may take long: as a task, or as an own tool.
    pub long_running: bool,
}

/// One call of one tool.
#[derive(Debug, ToSchema)]
#[schema(example = json!({"tool": "github:list_repos", "arguments": {"limit": 1}}))]
pub struct ToolCallRequest {
    /// `server:tool`, as listed; other spellings of it are understood.
    #[schema(min_length = 1)]
    pub tool: String,
    /// What the tool's schema asks for. Relayed byte for byte.
    #[schema(value_type = Object)]
    pub arguments: Value,
}

/// The result of a tool.
#[derive(Debug, ToSchema)]
pub struct ToolCallAnswer {
    /// Always true.
    pub ok: bool,
    /// Structured content first, then the blocks.
    pub content: Vec<ContentItem>,
    pub governance: Governance,
}

/// One item of a result: text, or anything else as JSON.
#[derive(Debug, ToSchema)]
#[schema(example = json!({"type": "text", "text": "done"}))]
pub struct ContentItem {
    /// `text` or `json`.
    #[schema(rename = "type")]
    pub kind: String,
    #[schema(nullable = false)]
    pub text: Option<String>,
    pub json: Option<Value>,
}

/// A call that gave no result, or whose tool reports an error of its own.
#[derive(Debug, ToSchema)]
pub struct ToolCallError {
    /// Always false.
    pub ok: bool,
    pub error: ToolCallFault,
    /// Absent where nobody was admitted.
    #[schema(nullable = false)]
    pub governance: Option<Governance>,
}

/// What went wrong.
#[derive(Debug, ToSchema)]
#[schema(rename_all = "camelCase", example = json!({"code": "VALIDATION_ERROR", "message": "arguments is required", "requestId": "550e8400-e29b-41d4-a716-446655440000"}))]
pub struct ToolCallFault {
    /// `VALIDATION_ERROR`, `UNAUTHORIZED`, `FORBIDDEN`, `APPROVAL_REQUIRED`, `NOT_FOUND`, `RATE_LIMITED`, `TOOL_ERROR`,
    /// `INTERNAL_ERROR`.
    pub code: String,
    pub message: String,
    /// The digits of the `request_id` in the audit record.
    #[schema(pattern = "^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")]
    pub request_id: String,
    /// What a person has to approve first: `id`, `state`, `url`, `approvers`, `expires_at`.
    #[schema(nullable = false)]
    pub approval: Option<Value>,
}

/// A page of the directory.
#[derive(Debug, ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct ServerList {
    pub servers: Vec<ServerEntry>,
    pub page_info: PageInfo,
}

/// Where a page ends.
#[derive(Debug, ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct PageInfo {
    /// Give it as `after` for the next page; null on an empty page.
    #[schema(required = true)]
    pub end_cursor: Option<String>,
    pub has_next_page: bool,
}

/// A registered server.
#[derive(Debug, ToSchema)]
#[schema(example = json!({"id": "local/github", "namespace": "local", "name": "github", "slug": "github", "title": "Demo GitHub", "description": null, "transport": "stdio", "state": "ready", "stale": false, "attributes": ["hosting:local-only"], "tools": []}))]
pub struct ServerEntry {
    /// `namespace/name`.
    pub id: String,
    pub namespace: String,
    pub name: String,
    pub slug: String,
    /// What the server calls itself.
    #[schema(required = true)]
    pub title: Option<String>,
    /// From the configuration.
    #[schema(required = true)]
    pub description: Option<String>,
    /// How it is reached: `stdio`, `http` and the like.
    pub transport: String,
    /// `connecting`, `ready`, `down`, `stopped`.
    pub state: String,
    /// The tools are what it listed before it went away.
    pub stale: bool,
    /// `hosting:local-only` for a child of the gateway, else `hosting:remote-capable`.
    pub attributes: Vec<String>,
    /// Those that the key may see.
    pub tools: Vec<DirectoryTool>,
}

/// A tool in the directory.
#[derive(Debug, ToSchema)]
pub struct DirectoryTool {
    /// `server:tool`.
    pub id: String,
    pub name: String,
    #[schema(required = true)]
    pub title: Option<String>,
    pub description: String,
    /// `read`, `write` or `destructive`.
    pub risk: String,
    /// JSON Schema of the arguments; of one server alone, not in the list.
    #[schema(rename = "inputSchema", value_type = Option<Object>, nullable = false)]
    pub input_schema: Option<Value>,
}

/// What each profile grants, by its name.
#[derive(Debug, ToSchema)]
pub struct Profiles {
    pub profiles: std::collections::BTreeMap<String, ProfileGrant>,
}

/// What a profile grants.
#[derive(Debug, ToSchema)]
pub struct ProfileGrant {
    pub scopes: Vec<String>,
    /// Globs over tool ids and names of own tools.
    pub allowed_tools: Vec<String>,
    pub read_only: bool,
    /// What `tools/list` shows: `search`, `direct`, `both` or `auto`.
    pub surface: String,
}

/// The keys of a user.
#[derive(Debug, ToSchema)]
pub struct KeyList {
    pub keys: Vec<KeyView>,
}

/// A key as lists show it; of its text only the ends.
#[derive(Debug, ToSchema)]
pub struct KeyView {
    /// `key_…`
    pub id: String,
    pub name: String,
    pub user: String,
    pub profile: String,
    /// What its profile grants now; null where that profile is gone.
    #[schema(required = true)]
    pub scopes: Option<Vec<String>>,
    #[schema(required = true)]
    pub allowed_tools: Option<Vec<String>>,
    #[schema(required = true)]
    pub read_only: Option<bool>,
    pub roles: Vec<String>,
    #[schema(required = true)]
    pub plan: Option<String>,
    #[schema(required = true)]
    pub agent_id: Option<String>,
    pub hint: String,
    /// `live`, `revoked` or `expired`.
    pub state: String,
    #[schema(format = DateTime)]
    pub created_at: String,
    #[schema(required = true, format = DateTime)]
    pub expires_at: Option<String>,
    #[schema(required = true, format = DateTime)]
    pub revoked_at: Option<String>,
    #[schema(required = true, format = DateTime)]
    pub last_used_at: Option<String>,
    /// The key itself: in the answer to its creation, and never again.
    #[schema(nullable = false)]
    pub key: Option<String>,
}

/// It runs.
#[derive(Debug, ToSchema)]
pub struct Alive {
    /// Always `ok`.
    pub status: String,
}

/// Whether calls can be served, and why not.
#[derive(Debug, ToSchema)]
pub struct Ready {
    pub ready: bool,
    pub reasons: Vec<String>,
}

/// Why there is no registration (RFC 7591).
#[derive(Debug, ToSchema)]
pub struct RegistrationError {
    pub error: String,
    pub error_description: String,
}

/// One JSON-RPC 2.0 message of MCP.
#[derive(Debug, ToSchema)]
#[schema(example = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "github:list_repos", "arguments": {"limit": 1}}}))]
pub struct JsonRpcMessage {
    /// Always `2.0`.
    pub jsonrpc: String,
    /// A string or an integer; a notification has none.
    pub id: Option<Value>,
    #[schema(nullable = false)]
    pub method: Option<String>,
    #[schema(value_type = Option<Object>, nullable = false)]
    pub params: Option<Value>,
}

/// The answer: a result or an error.
#[derive(Debug, ToSchema)]
pub struct JsonRpcAnswer {
    /// Always `2.0`.
    pub jsonrpc: String,
    /// The id of the request; null where it could not be read.
    pub id: Value,
    #[schema(value_type = Option<Object>, nullable = false)]
    pub result: Option<Value>,
    #[schema(nullable = false)]
    pub error: Option<JsonRpcError>,
}

/// What went wrong.
#[derive(Debug, ToSchema)]
pub struct JsonRpcError {
    pub code: i64,
    pub message: String,
    pub data: Option<Value>,
}
