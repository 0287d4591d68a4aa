//! What is asked about calls that are not made.

use serde_json::Value;
use utoipa::ToSchema;

/// The call to judge: `action` and `params`, or `server`, `tool` and `arguments`, or `server` and `prompt` or `resource`; or
/// what the company brain shows, in `entity`. Of whom, in `agent_id`.
#[derive(Debug, ToSchema)]
#[schema(example = json!({"action": "database.execute", "params": {"sql": "drop table invoices"}}))]
pub struct SimulateRequest {
    /// Judge this agent instead of the caller.
    #[schema(nullable = false)]
    pub agent_id: Option<String>,
    /// The tool, as `server.tool`.
    #[schema(nullable = false)]
    pub action: Option<String>,
    /// The arguments of `action`.
    #[schema(value_type = Option<Object>, nullable = false)]
    pub params: Option<Value>,
    #[schema(nullable = false)]
    pub server: Option<String>,
    #[schema(nullable = false)]
    pub tool: Option<String>,
    /// The arguments of `tool` or `prompt`.
    #[schema(value_type = Option<Object>, nullable = false)]
    pub arguments: Option<Value>,
    #[schema(nullable = false)]
    pub prompt: Option<String>,
    /// A URI.
    #[schema(nullable = false)]
    pub resource: Option<String>,
    /// A type of entities, or a field of one: `customer`, `customer.email`.
    #[schema(nullable = false, example = "customer.email")]
    pub entity: Option<String>,
}

/// The calls to look at, in the order in which they would be made; of whom, in `agent_id`.
#[derive(Debug, ToSchema)]
#[schema(example = json!({"calls": [{"server": "github", "tool": "create_issue", "arguments": {"repo": "demo/project-a", "title": "x"}}]}))]
pub struct PreflightRequest {
    #[schema(min_items = 1, max_items = 100)]
    pub calls: Vec<PreflightCall>,
    #[schema(nullable = false)]
    pub agent_id: Option<String>,
}

/// One call.
#[derive(Debug, ToSchema)]
pub struct PreflightCall {
    #[schema(nullable = false)]
    pub server: Option<String>,
    /// Its name; without `server`, its id.
    pub tool: String,
    #[schema(value_type = Option<Object>, nullable = false)]
    pub arguments: Option<Value>,
}
