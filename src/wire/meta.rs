//! The members of a request's `_meta` that mean something to a gateway.

use serde_json::Value;

use crate::domain::json::Json;
use crate::domain::secret::Secret;

/// The member that holds the caller's token for the server that it calls. It goes no further.
pub const JWT_KEY: &str = "toolgate/jwt";
/// Most bytes of a trace header that are passed on.
const MAX_TRACE: usize = 8192;

/// What `params._meta` says. Members that are absent or of the wrong type are `None`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Meta {
    pub protocol_version: Option<String>,
    pub client_capabilities: Option<Value>,
    pub log_level: Option<String>,
    pub progress_token: Option<Json>,
    /// W3C trace context to pass on (SEP-414).
    pub trace: Vec<(&'static str, String)>,
    /// The caller's token for the server that it calls.
    pub jwt: Option<Secret>,
}

impl Meta {
    /// Reads the `_meta` member of `params`; an absent one is empty.
    #[must_use]
    pub fn of(params: Option<&Json>) -> Self {
        // A name may be written with escapes; it is the same name.
        let may_hold = |text: &str| text.contains("_meta") || text.contains("\\u");
        let Some(params) = params.filter(|params| may_hold(params.as_str())) else { return Self::default() };
        #[derive(serde::Deserialize)]
        struct Shape {
            #[serde(rename = "_meta")]
            meta: Option<serde_json::Map<String, Value>>,
        }
        let Ok(Shape { meta: Some(meta) }) = params.decode::<Shape>() else { return Self::default() };
        let text = |name: &str| meta.get(name).and_then(Value::as_str).map(str::to_owned);
        let modern = |name: &str| format!("io.modelcontextprotocol/{name}");
        Self {
            protocol_version: text(&modern("protocolVersion")),
            client_capabilities: meta.get(&modern("clientCapabilities")).cloned(),
            log_level: text(&modern("logLevel")),
            progress_token: meta
                .get("progressToken")
                .filter(|token| token.is_string() || token.is_i64() || token.is_u64())
                .map(Json::of),
            trace: ["traceparent", "tracestate", "baggage"]
                .into_iter()
                .filter_map(|name| text(name).filter(|value| value.len() <= MAX_TRACE).map(|value| (name, value)))
                .collect(),
            jwt: text(JWT_KEY).map(Secret::new),
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn odd_members_are_as_good_as_absent() {
        let params = |text: &str| Json::parse(Bytes::copy_from_slice(text.as_bytes())).unwrap();
        assert_eq!(Meta::of(None), Meta::default());
        assert_eq!(Meta::of(Some(&params(r#"{"_meta":3}"#))), Meta::default());
        let meta = Meta::of(Some(&params(
            r#"{"_meta":{"progressToken":7,"traceparent":"00-a-b-01","io.modelcontextprotocol/protocolVersion":5}}"#,
        )));
        assert_eq!(meta.progress_token.map(|token| token.as_str().to_owned()), Some("7".into()));
        assert_eq!(meta.trace, [("traceparent", "00-a-b-01".to_owned())]);
        assert_eq!(meta.protocol_version, None);
        let escaped = Meta::of(Some(&params(r#"{"\u005fmeta":{"progressToken":7}}"#)));
        assert_eq!(escaped.progress_token.map(|token| token.as_str().to_owned()), Some("7".into()));
    }
}
