//! `POST /api/v1/mcp/invoke`: a server, a tool, its arguments; the MCP result as it is, or an error.

use bytes::Bytes;
use serde_json::{Value, json};

use super::{Body, Told, unanswered};
use crate::domain::json::Json;
use crate::domain::outcome::{Carried, Outcome};
use crate::domain::secret::Secret;

/// What a caller asks for.
#[derive(Debug)]
pub struct Invocation {
    pub server: String,
    pub tool: String,
    pub arguments: Option<Json>,
    /// The caller's own token for a server that wants one.
    pub jwt: Option<Secret>,
}

/// Reads a body. Members that mean nothing here are left alone.
///
/// # Errors
/// A sentence for the caller.
pub fn read(body: &Bytes) -> Result<Invocation, String> {
    let body = Body::read(body)?;
    Ok(Invocation {
        server: body.required("serverId")?,
        tool: body.required("toolName")?,
        arguments: body.object("arguments")?,
        jwt: body.text("jwt")?.map(Secret::new),
    })
}

/// Tells how an invocation ended. `invocationId` names its audit record.
#[must_use]
pub fn tell(carried: &Carried) -> Told {
    let governance = Json::of(&carried.governance);
    let id = Json::of(&carried.governance.audit_event_id);
    let (status, retry_after, success, member, value) = match (unanswered(carried), &carried.outcome) {
        (None, Outcome::Answered(answer)) => (200, None, !answer.is_error, "result", answer.result.clone()),
        (Some(no), _) => {
            let error = json!({"code": no.code, "message": no.message, "details": no.details});
            (no.status, no.retry_after, false, "error", Json::of(&error))
        }
        (None, _) => (500, None, false, "error", Json::of(&Value::Null)),
    };
    let body = format!(
        r#"{{"success":{success},"{member}":{},"invocationId":{},"governance":{}}}"#,
        value.as_str(),
        id.as_str(),
        governance.as_str()
    );
    Told { status, body, retry_after }
}

/// An error that is no invocation's.
#[must_use]
pub fn refusal(code: &str, message: &str) -> String {
    json!({"success": false, "error": {"code": code, "message": message}, "invocationId": null}).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_is_read_and_never_shown() {
        let body =
            br#"{"serverId":"billing","toolName":"refund","arguments":{ "n":1 },"jwt":"ey.secret","traceId":"x"}"#;
        let read = read(&Bytes::from_static(body)).unwrap();
        assert_eq!(read.jwt.as_ref().map(Secret::expose), Some("ey.secret"));
        assert!(!format!("{read:?}").contains("secret"));
        assert_eq!(read.arguments.unwrap().as_str(), r#"{ "n":1 }"#);
    }

    #[test]
    fn what_is_missing_is_named() {
        for (text, why) in [
            (r"{}", "serverId is required"),
            (r#"{"serverId":"a"}"#, "toolName is required"),
            (r#"{"serverId":1,"toolName":"b"}"#, "serverId must be a string"),
            (r#"{"serverId":"a","toolName":"b","arguments":[]}"#, "arguments must be an object"),
            (r#"{"serverId":"a","toolName":"b","jwt":{}}"#, "jwt must be a string"),
        ] {
            assert_eq!(read(&Bytes::from(text)).err().as_deref(), Some(why), "{text}");
        }
        assert!(read(&Bytes::from_static(br#"{"serverId":"a","toolName":"b","arguments":null}"#)).is_ok());
    }
}
