//! Which era of MCP a request belongs to, and what revision 2026-07-28 demands of it.
//!
//! A request is modern where its header or its `_meta` names revision 2026-07-28 or a later one; `params.protocolVersion`
//! decides nothing. Everything else is legacy (a session) or bare (a script).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::meta::Meta;
use super::object::members;
use super::rpc::RpcError;
use crate::domain::json::Json;

/// The revision of the stateless protocol.
pub const MODERN: &str = "2026-07-28";
/// What `initialize` answers where the client asks for something else.
pub const LATEST_LEGACY: &str = "2025-11-25";
/// Every revision served, newest first.
pub const SUPPORTED: [&str; 3] = [MODERN, LATEST_LEGACY, "2025-06-18"];

/// One header that repeats a part of the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Header<'a> {
    Absent,
    One(&'a str),
    /// Sent twice, or not visible ASCII.
    Malformed,
}

/// The headers that revision 2026-07-28 repeats from the body.
#[derive(Debug, Clone, Copy)]
pub struct Mirrored<'a> {
    pub version: Header<'a>,
    pub method: Header<'a>,
    pub name: Header<'a>,
}

/// The levels of log messages (RFC 5424), from the least.
pub const LEVELS: [&str; 8] = ["debug", "info", "notice", "warning", "error", "critical", "alert", "emergency"];

/// How a request is to be treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Era {
    Legacy,
    Modern,
}

impl Era {
    /// In a word, for records.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Legacy => "legacy",
            Self::Modern => "modern",
        }
    }
}

fn is_date(text: &str) -> bool {
    text.len() == 10
        && text.bytes().enumerate().all(|(at, b)| if at == 4 || at == 7 { b == b'-' } else { b.is_ascii_digit() })
}

fn names_modern(text: &str) -> bool {
    is_date(text) && text >= MODERN
}

/// Decides the era of a request.
///
/// # Errors
/// 400 and -32022 where the header names a revision that is not served.
pub fn of(headers: &Mirrored<'_>, meta: &Meta) -> Result<Era, RpcError> {
    if meta.protocol_version.as_deref().is_some_and(names_modern) {
        return Ok(Era::Modern);
    }
    match headers.version {
        Header::Absent => Ok(Era::Legacy),
        Header::One(version) if names_modern(version) => Ok(Era::Modern),
        Header::One(version) if SUPPORTED.contains(&version) => Ok(Era::Legacy),
        Header::One(version) => Err(unsupported(version)),
        Header::Malformed => Err(mismatch("`MCP-Protocol-Version` is sent twice or is not plain text")),
    }
}

fn unsupported(version: &str) -> RpcError {
    RpcError::new(400, -32022, format!("protocol version `{version}` is not supported"))
        .with(json!({"supported": SUPPORTED, "requested": version}))
}

fn mismatch(message: impl Into<String>) -> RpcError {
    RpcError::new(400, -32020, message)
}

/// Checks a modern request: version, mirrored headers and the required members of `_meta`
/// (MCP 2026-07-28, basic/transports/streamable-http and basic/index).
///
/// # Errors
/// -32020 for a header that is missing or differs, -32022 for a revision that is not served, -32602 for `_meta`.
pub fn check_modern(headers: &Mirrored<'_>, method: &str, params: Option<&Json>, meta: &Meta) -> Result<(), RpcError> {
    let header = version_of(headers)?;
    let Some(version) = meta.protocol_version.as_deref() else {
        return Err(RpcError::new(
            400,
            -32602,
            "`params._meta[\"io.modelcontextprotocol/protocolVersion\"]` is required",
        ));
    };
    check_version(header, Some(version))?;
    same("Mcp-Method", headers.method, method)?;
    if let Some(name) = params.map(|params| repeated(method, params)).transpose()?.flatten() {
        same("Mcp-Name", headers.name, &name)?;
    }
    if !meta.client_capabilities.as_ref().is_some_and(Value::is_object) {
        return Err(RpcError::new(
            400,
            -32602,
            "`params._meta[\"io.modelcontextprotocol/clientCapabilities\"]` is required and must be an object",
        ));
    }
    let level = meta.log_level.as_deref();
    if level.is_some_and(|level| !LEVELS.contains(&level)) {
        let why = "`params._meta[\"io.modelcontextprotocol/logLevel\"]` is not a level";
        return Err(RpcError::new(400, -32602, why));
    }
    Ok(())
}

/// Checks what a modern notification says of its revision; its `_meta` may say nothing.
///
/// # Errors
/// -32020 for a header that is missing or differs, -32022 for a revision that is not served.
pub fn check_notification(headers: &Mirrored<'_>, meta: &Meta) -> Result<(), RpcError> {
    check_version(version_of(headers)?, meta.protocol_version.as_deref())
}

fn version_of<'a>(headers: &Mirrored<'a>) -> Result<&'a str, RpcError> {
    match headers.version {
        Header::One(version) => Ok(version),
        Header::Absent => Err(mismatch("the header `MCP-Protocol-Version` is missing")),
        Header::Malformed => Err(mismatch("`MCP-Protocol-Version` is sent twice or is not plain text")),
    }
}

fn check_version(header: &str, in_meta: Option<&str>) -> Result<(), RpcError> {
    match in_meta.filter(|version| *version != header) {
        Some(version) => Err(mismatch(format!("`MCP-Protocol-Version: {header}` differs from `{version}` in `_meta`"))),
        None if header == MODERN => Ok(()),
        None => Err(unsupported(header)),
    }
}

/// What `Mcp-Name` repeats for this method.
#[must_use]
pub fn named(method: &str, params: &Json) -> Option<String> {
    repeated(method, params).ok().flatten()
}

/// The same. Other members are not looked at: whatever they hold, this one is compared.
fn repeated(method: &str, params: &Json) -> Result<Option<String>, RpcError> {
    let wanted = match method {
        "tools/call" | "prompts/get" => "name",
        "resources/read" => "uri",
        "tasks/get" | "tasks/update" | "tasks/cancel" => "taskId",
        _ => return Ok(None),
    };
    let (text, mut value) = (params.as_str(), None);
    let read = members(text, |member| {
        if member.name == wanted {
            value = text.get(member.value..member.end);
        }
        Ok(())
    });
    let no_text = |_| RpcError::new(400, -32602, format!("`params.{wanted}` must be a string"));
    read.and_then(|()| value.map(serde_json::from_str).transpose()).map_err(no_text)
}

/// Checks one header that repeats a part of the body.
///
/// # Errors
/// -32020 where it is missing, differs, or cannot be read.
pub fn same(header: &str, sent: Header<'_>, body: &str) -> Result<(), RpcError> {
    same_by(header, sent, |plain| plain == body)
}

/// The same for a header that may write what it repeats in several ways.
///
/// # Errors
/// As [`same`] says.
pub fn same_by(header: &str, sent: Header<'_>, fits: impl Fn(&str) -> bool) -> Result<(), RpcError> {
    match sent {
        Header::Absent => Err(mismatch(format!("the header `{header}` is missing"))),
        Header::Malformed => Err(mismatch(format!("`{header}` is sent twice or is not plain text"))),
        Header::One(text) => match unwrapped(text.trim_matches([' ', '\t'])) {
            Some(plain) if fits(&plain) => Ok(()),
            Some(_) => Err(mismatch(format!("`{header}` differs from the body"))),
            None => Err(mismatch(format!("`{header}` is not valid base64 text"))),
        },
    }
}

/// Undoes `=?base64?…?=`, the form for values that no header can hold.
fn unwrapped(text: &str) -> Option<String> {
    match text.strip_prefix("=?base64?").and_then(|rest| rest.strip_suffix("?=")) {
        Some(encoded) => String::from_utf8(STANDARD.decode(encoded).ok()?).ok(),
        None => Some(text.to_owned()),
    }
}

/// The legacy revision that a session speaks, given what `initialize` asked for: the same where it is served.
#[must_use]
pub fn negotiate(requested: Option<&str>) -> &'static str {
    SUPPORTED.into_iter().find(|served| *served != MODERN && Some(*served) == requested).unwrap_or(LATEST_LEGACY)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers<'a>(version: &'a str, method: &'a str, name: &'a str) -> Mirrored<'a> {
        let one = |text: &'a str| if text.is_empty() { Header::Absent } else { Header::One(text) };
        Mirrored { version: one(version), method: one(method), name: one(name) }
    }

    fn meta(version: &str) -> Meta {
        Meta { protocol_version: Some(version.into()), client_capabilities: Some(json!({})), ..Meta::default() }
    }

    #[test]
    fn header_or_meta_makes_a_request_modern() {
        for (header, in_meta, era) in [
            ("", "", Some(Era::Legacy)),
            ("2025-06-18", "", Some(Era::Legacy)),
            ("2026-07-28", "", Some(Era::Modern)),
            ("", "2026-07-28", Some(Era::Modern)),
            ("2025-11-25", "2027-01-01", Some(Era::Modern)),
            ("2099-01-01", "", Some(Era::Modern)),
            ("1999-01-01", "", None),
            ("latest", "", None),
        ] {
            let meta = if in_meta.is_empty() { Meta::default() } else { meta(in_meta) };
            assert_eq!(of(&headers(header, "", ""), &meta).ok(), era, "{header} {in_meta}");
        }
    }

    #[test]
    fn modern_requests_are_held_to_their_headers() {
        let params = Json::of(&json!({"name": "ünï"}));
        let encoded = format!("=?base64?{}?=", STANDARD.encode("ünï"));
        let code = |h: &Mirrored<'_>, m: &Meta| check_modern(h, "tools/call", Some(&params), m).err().map(|e| e.code);
        assert_eq!(code(&headers(MODERN, "tools/call", &encoded), &meta(MODERN)), None);
        assert_eq!(code(&headers(MODERN, "tools/list", &encoded), &meta(MODERN)), Some(-32020));
        assert_eq!(code(&headers(MODERN, "", &encoded), &meta(MODERN)), Some(-32020));
        assert_eq!(code(&headers(MODERN, "tools/call", ""), &meta(MODERN)), Some(-32020));
        assert_eq!(code(&headers(MODERN, "tools/call", "=?base64?%%?="), &meta(MODERN)), Some(-32020));
        assert_eq!(code(&headers("", "tools/call", &encoded), &meta(MODERN)), Some(-32020));
        assert_eq!(code(&headers("2025-11-25", "tools/call", &encoded), &meta(MODERN)), Some(-32020));
        assert_eq!(code(&headers("2099-01-01", "tools/call", &encoded), &meta("2099-01-01")), Some(-32022));
        assert_eq!(code(&headers(MODERN, "tools/call", &encoded), &Meta::default()), Some(-32602));
        let bare = Meta { client_capabilities: None, ..meta(MODERN) };
        assert_eq!(code(&headers(MODERN, "tools/call", &encoded), &bare), Some(-32602));
    }

    #[test]
    fn no_other_member_keeps_a_name_from_being_compared() {
        for (method, params) in [
            ("tools/call", json!({"name": "x", "uri": 5})),
            ("tools/call", json!({"name": "x", "taskId": []})),
            ("prompts/get", json!({"taskId": {}, "uri": false, "name": "x"})),
            ("resources/read", json!({"uri": "x", "name": null, "taskId": 1})),
            ("resources/read", json!({"uri": "x", "name": ["y"]})),
            ("tasks/get", json!({"taskId": "x", "name": 7})),
            ("tasks/cancel", json!({"taskId": "x", "uri": {}})),
        ] {
            let code = |name: &str, params: &Value| {
                check_modern(&headers(MODERN, method, name), method, Some(&Json::of(params)), &meta(MODERN))
                    .err()
                    .map(|error| error.code)
            };
            assert_eq!(code("x", &params), None, "{method} {params}");
            assert_eq!(code("y", &params), Some(-32020), "{method} {params}");
            assert_eq!(code("", &params), Some(-32020), "{method} {params}");
            let odd = json!({"name": 5, "uri": [], "taskId": null});
            assert_eq!(code("x", &odd), Some(-32602), "{method}");
        }
    }

    #[test]
    fn a_modern_notification_says_its_revision() {
        let code = |version: &str, m: &Meta| check_notification(&headers(version, "", ""), m).err().map(|e| e.code);
        assert_eq!(code(MODERN, &Meta::default()), None);
        assert_eq!(code(MODERN, &meta(MODERN)), None);
        assert_eq!(code(MODERN, &meta("2099-01-01")), Some(-32020));
        assert_eq!(code("", &meta(MODERN)), Some(-32020));
        assert_eq!(code("2099-01-01", &Meta::default()), Some(-32022));
    }

    #[test]
    fn initialize_gets_a_legacy_revision_whatever_it_asks_for() {
        assert_eq!(negotiate(Some("2025-06-18")), "2025-06-18");
        for asked in [Some("2026-07-28"), Some("2024-11-05"), Some("x"), None] {
            assert_eq!(negotiate(asked), LATEST_LEGACY);
        }
    }
}
