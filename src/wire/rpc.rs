//! Answers in JSON-RPC: put together from text, so that relayed parts are never encoded again.

use serde_json::{Value, json};

use super::envelope::Id;
use crate::domain::json::Json;

/// A protocol error: what goes over HTTP and what goes into the body.
#[derive(Debug, Clone, PartialEq)]
pub struct RpcError {
    pub status: u16,
    pub code: i32,
    pub message: String,
    pub data: Option<Value>,
}

impl RpcError {
    #[must_use]
    pub fn new(status: u16, code: i32, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), data: None }
    }

    #[must_use]
    pub fn with(mut self, data: Value) -> Self {
        self.data = Some(data);
        self
    }

    /// The error object.
    #[must_use]
    pub fn object(&self) -> Json {
        let mut object = json!({"code": self.code, "message": self.message});
        if let (Some(data), Some(members)) = (&self.data, object.as_object_mut()) {
            members.insert("data".into(), data.clone());
        }
        Json::of(&object)
    }
}

/// `{"jsonrpc":"2.0","id":…,"result":…}`.
#[must_use]
pub fn result(id: &Id, result: &Json) -> String {
    let (id, result) = (id.text(), result.as_str());
    let mut out = String::with_capacity(result.len() + id.len() + 40);
    out.push_str("{\"jsonrpc\":\"2.0\",\"id\":");
    out.push_str(id);
    out.push_str(",\"result\":");
    out.push_str(result);
    out.push('}');
    out
}

/// `{"jsonrpc":"2.0","id":…,"error":…}`; the id is null where the request's could not be read.
#[must_use]
pub fn error(id: Option<&Id>, error: &Json) -> String {
    format!("{{\"jsonrpc\":\"2.0\",\"id\":{},\"error\":{}}}", id.map_or("null", Id::text), error.as_str())
}
