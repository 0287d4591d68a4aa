//! Request bodies: JSON by name, bounded in size and time, whole before anything reads them.

use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};

/// A body that has not arrived after this long is given up.
const DEADLINE: Duration = Duration::from_secs(30);

/// Why there is no body: a status and a sentence.
pub(super) type NoBody = (StatusCode, &'static str);

/// Whether the headers announce one body of `application/json`.
pub(super) fn is_json(headers: &HeaderMap) -> bool {
    let mut types = headers.get_all(header::CONTENT_TYPE).iter();
    let (Some(one), None) = (types.next(), types.next()) else { return false };
    let text = one.to_str().unwrap_or_default();
    let (essence, parameters) = text.split_once(';').unwrap_or((text, ""));
    let charset = parameters
        .split(';')
        .filter_map(|p| p.split_once('='))
        .find(|(name, _)| name.trim().eq_ignore_ascii_case("charset"));
    essence.trim().eq_ignore_ascii_case("application/json")
        && charset.is_none_or(|(_, value)| value.trim().trim_matches('"').eq_ignore_ascii_case("utf-8"))
}

/// Reads a JSON body of at most `limit` bytes.
///
/// # Errors
/// 415 for another type, 413 where it is larger, 408 where it does not arrive, 400 where it breaks off.
pub(super) async fn read(headers: &HeaderMap, body: Body, limit: usize) -> Result<Bytes, NoBody> {
    if !is_json(headers) {
        return Err((StatusCode::UNSUPPORTED_MEDIA_TYPE, "send the body as `Content-Type: application/json`"));
    }
    whole(body, limit).await
}

/// Reads a body of at most `limit` bytes, of whatever type.
///
/// # Errors
/// 413 where it is larger, 408 where it does not arrive, 400 where it breaks off.
pub(super) async fn whole(body: Body, limit: usize) -> Result<Bytes, NoBody> {
    match tokio::time::timeout(DEADLINE, Limited::new(body, limit).collect()).await {
        Ok(Ok(whole)) => Ok(whole.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            Err((StatusCode::PAYLOAD_TOO_LARGE, "the body is too large"))
        }
        Ok(Err(_)) => Err((StatusCode::BAD_REQUEST, "the body broke off")),
        Err(_) => Err((StatusCode::REQUEST_TIMEOUT, "the body did not arrive in time")),
    }
}
