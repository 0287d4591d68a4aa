//! The shapes under `/v1` as `/openapi.json` describes them.

use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::schema::{Fault, Governance, Meta};

/// What kind of token is wanted.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum TokenKind {
    /// `mcp_live_…`, for somebody who works with it.
    User,
    /// `svc_live_…`, for automation.
    Service,
}

/// Which token the key is exchanged for; the body may be left out.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, expecting = "an object")]
#[schema(example = json!({"type": "service"}))]
pub struct TokenRequest {
    /// `user` unless set.
    pub r#type: Option<TokenKind>,
}

/// The refresh token, which is used up.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields, expecting = "an object with `refresh_token`")]
pub struct RefreshRequest {
    /// `ref_live_…`
    pub refresh_token: String,
}

impl std::fmt::Debug for RefreshRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RefreshRequest").finish_non_exhaustive()
    }
}

/// Tokens: this answer is the only place where their texts stand.
#[derive(Debug, ToSchema)]
pub struct Tokens {
    /// Works wherever the key does, as a bearer token or in `X-API-Key`.
    pub access_token: String,
    /// Always `Bearer`.
    pub token_type: String,
    pub r#type: TokenKind,
    /// Seconds until the access token ends.
    pub expires_in: u64,
    /// Renews both, once: using it again revokes them.
    pub refresh_token: String,
    /// Seconds until the refresh token ends.
    pub refresh_expires_in: u64,
}

#[derive(Debug, ToSchema)]
pub struct TokenAnswer {
    pub data: Tokens,
    pub meta: Meta,
}

#[derive(Debug, ToSchema)]
pub struct Revoked {
    /// Always true.
    pub revoked: bool,
}

#[derive(Debug, ToSchema)]
pub struct RevokedAnswer {
    pub data: Revoked,
    pub meta: Meta,
}

/// Which request this answers, and where the next page begins.
#[derive(Debug, ToSchema)]
pub struct PageMeta {
    /// `req_…`
    pub request_id: String,
    #[schema(format = DateTime)]
    pub timestamp: String,
    pub limit: u32,
    /// Leads to the next page, as `cursor`; null at the last.
    #[schema(required = true)]
    pub next_cursor: Option<String>,
    /// Of policies: names what all of them say together.
    #[schema(nullable = false)]
    pub policy_version: Option<String>,
}

/// What a call of a tool may do to the world.
#[derive(Debug, ToSchema)]
#[schema(rename_all = "lowercase")]
pub enum ToolRisk {
    Read,
    Write,
    Destructive,
}

/// A tool in a list.
#[derive(Debug, ToSchema)]
pub struct ToolSummary {
    /// `server:tool`
    pub id: String,
    pub server: String,
    pub name: String,
    #[schema(required = true)]
    pub title: Option<String>,
    pub description: String,
    pub risk: ToolRisk,
    /// How well it fits the words; only where words were given.
    #[schema(nullable = false)]
    pub score: Option<f64>,
}

#[derive(Debug, ToSchema)]
pub struct ToolPage {
    pub data: Vec<ToolSummary>,
    pub meta: PageMeta,
}

/// A tool with what its backend says of it, as it says it.
#[derive(Debug, ToSchema)]
pub struct ToolDetails {
    /// `server:tool`
    pub id: String,
    pub server: String,
    pub name: String,
    #[schema(required = true)]
    pub title: Option<String>,
    pub description: String,
    pub risk: ToolRisk,
    /// JSON Schema of the arguments.
    #[schema(required = true, value_type = Option<Object>)]
    pub input_schema: Option<Value>,
    #[schema(required = true, value_type = Option<Object>)]
    pub output_schema: Option<Value>,
    #[schema(required = true, value_type = Option<Object>)]
    pub annotations: Option<Value>,
}

#[derive(Debug, ToSchema)]
pub struct ToolAnswer {
    pub data: ToolDetails,
    pub meta: Meta,
}

/// The arguments of a call.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"input": {"limit": 5}}))]
pub struct InvokeInput {
    /// What the tool's schema asks for. Relayed byte for byte.
    #[schema(value_type = Option<Object>)]
    pub input: Option<Value>,
}

/// Which request this answers, and whether the tool itself reported an error.
#[derive(Debug, ToSchema)]
pub struct CallMeta {
    /// `req_…`
    pub request_id: String,
    #[schema(format = DateTime)]
    pub timestamp: String,
    /// True where the tool reports an error of its own; else absent.
    #[schema(nullable = false)]
    pub is_error: Option<bool>,
}

/// What a tool gave.
#[derive(Debug, ToSchema)]
pub struct GovernedAnswer {
    /// The structured content, else the JSON of a sole text block, else the whole MCP result.
    pub result: Value,
    pub governance: Governance,
    pub meta: CallMeta,
}

/// A call that gave no result.
#[derive(Debug, ToSchema)]
pub struct GovernedError {
    pub error: Fault,
    /// Absent where nobody was admitted.
    #[schema(nullable = false)]
    pub governance: Option<Governance>,
    pub meta: Meta,
}

/// A policy in a list.
#[derive(Debug, ToSchema)]
pub struct PolicySummary {
    /// Its name in every answer.
    pub id: String,
    /// `permit` or `forbid`.
    pub effect: String,
    /// `enforce` or `shadow`.
    pub mode: String,
    #[schema(required = true)]
    pub reason: Option<String>,
    pub requires_approval: bool,
    /// `file`, or `api` where it can be changed here.
    pub source: String,
    pub file: String,
    pub line: u32,
    /// Of a policy of the API: which version it is, when it was made, and with which key.
    #[schema(required = true)]
    pub version: Option<u64>,
    #[schema(required = true, format = DateTime)]
    pub updated_at: Option<String>,
    #[schema(required = true)]
    pub updated_by: Option<String>,
}

#[derive(Debug, ToSchema)]
pub struct PolicyPage {
    pub data: Vec<PolicySummary>,
    pub meta: PageMeta,
}

/// A policy with its text.
#[derive(Debug, ToSchema)]
pub struct PolicyDetails {
    /// Its name in every answer.
    pub id: String,
    /// `permit` or `forbid`.
    pub effect: String,
    /// `enforce` or `shadow`.
    pub mode: String,
    #[schema(required = true)]
    pub reason: Option<String>,
    pub requires_approval: bool,
    /// `file`, or `api` where it can be changed here.
    pub source: String,
    pub file: String,
    pub line: u32,
    /// Of a policy of the API: which version it is, when it was made, and with which key.
    #[schema(required = true)]
    pub version: Option<u64>,
    #[schema(required = true, format = DateTime)]
    pub updated_at: Option<String>,
    #[schema(required = true)]
    pub updated_by: Option<String>,
    /// Cedar, as it was written.
    pub text: String,
    /// After a change: names what all policies say together now.
    #[schema(nullable = false)]
    pub policy_version: Option<String>,
    /// After a change: what is worth a look, such as a tool that was never seen.
    #[schema(nullable = false, value_type = Option<Vec<Object>>)]
    pub warnings: Option<Vec<Value>>,
}

#[derive(Debug, ToSchema)]
pub struct PolicyAnswer {
    pub data: PolicyDetails,
    pub meta: Meta,
}

/// A policy that is gone.
#[derive(Debug, ToSchema)]
pub struct PolicyRemoved {
    pub id: String,
    /// Always true.
    pub deleted: bool,
    pub version: u64,
    pub policy_version: String,
    #[schema(value_type = Vec<Object>)]
    pub warnings: Vec<Value>,
}

#[derive(Debug, ToSchema)]
pub struct PolicyRemovedAnswer {
    pub data: PolicyRemoved,
    pub meta: Meta,
}

/// How records are exported.
#[derive(Debug, ToSchema)]
#[schema(rename_all = "lowercase")]
pub enum ExportFormat {
    Jsonl,
    Csv,
}

/// The outcome in an audit record.
#[derive(Debug, ToSchema)]
#[schema(rename_all = "lowercase")]
pub enum RecordOutcome {
    Answered,
    Refused,
    Failed,
    Cancelled,
    Interrupted,
}

/// How far an approval has come.
#[derive(Debug, ToSchema)]
#[schema(as = ApprovalState, rename_all = "lowercase")]
pub enum ApprovalStates {
    Pending,
    Approved,
    Denied,
    Expired,
    Executing,
    Used,
    Unknown,
}

/// A decision; the body may be left out.
#[derive(Debug, ToSchema)]
#[schema(example = json!({"comment": "as agreed"}))]
pub struct ApprovalDecision {
    /// Why, for the record and the caller: at most 1000 characters.
    #[schema(nullable = false)]
    pub comment: Option<String>,
}

/// What the page of an approval sends.
#[derive(ToSchema)]
pub struct ApprovalForm {
    /// The key of who looks or decides.
    pub key: String,
    #[schema(nullable = false)]
    pub comment: Option<String>,
}

impl std::fmt::Debug for ApprovalForm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ApprovalForm").finish_non_exhaustive()
    }
}

/// Something whose members depend on what it is: a report, an audit record.
#[derive(Debug, ToSchema)]
pub struct ObjectAnswer {
    #[schema(value_type = Object)]
    pub data: Value,
    pub meta: Meta,
}

#[derive(Debug, ToSchema)]
pub struct ObjectPage {
    #[schema(value_type = Vec<Object>)]
    pub data: Vec<Value>,
    pub meta: PageMeta,
}
