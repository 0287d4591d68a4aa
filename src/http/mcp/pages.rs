//! Long lists, a page at a time, under cursors of the gateway's own.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::domain::json::{Json, sha256_hex};
use crate::wire::hop;
use crate::wire::rpc::RpcError;

/// Items on one page.
const PAGE: usize = 1000;

/// One page of a list: the array's text, and after it the cursor of the next page where there is one, as
/// `[…],"nextCursor":"…"`.
///
/// # Errors
/// -32602 where the cursor is not one of this list's: the list has changed, or somebody made it up.
pub(super) fn page(params: Option<&Json>, items: &[Json]) -> Result<String, RpcError> {
    let unknown = || RpcError::new(200, -32602, "`cursor` is not one of this list's: list again from the start");
    let start = match hop::member(params, "cursor").filter(|cursor| cursor.as_str() != "null") {
        None => 0,
        Some(cursor) => {
            let cursor: String = cursor.decode().map_err(|_| unknown())?;
            position(&cursor, items).ok_or_else(unknown)?
        }
    };
    let shown: Vec<&str> = items.iter().skip(start).take(PAGE).map(Json::as_str).collect();
    let end = start + shown.len();
    let mut text = format!("[{}]", shown.join(","));
    if end < items.len() {
        text.push_str(&format!(",\"nextCursor\":\"{}\"", cursor_at(end, items)));
    }
    Ok(text)
}

/// A cursor names a position, and the item before it: in a list that has changed there it is good no more.
fn cursor_at(position: usize, items: &[Json]) -> String {
    let before = position.checked_sub(1).and_then(|at| items.get(at)).map_or(&b""[..], |item| item.bytes());
    let digest = sha256_hex(before);
    URL_SAFE_NO_PAD.encode(format!("{position}.{}", digest.get(..16).unwrap_or_default()))
}

fn position(cursor: &str, items: &[Json]) -> Option<usize> {
    let plain = String::from_utf8(URL_SAFE_NO_PAD.decode(cursor).ok()?).ok()?;
    let position: usize = plain.split_once('.')?.0.parse().ok()?;
    (position <= items.len() && cursor_at(position, items) == cursor).then_some(position)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_hold_everything_once_and_foreign_cursors_nothing() {
        let items: Vec<Json> = (0..2500).map(|n| Json::from_parts(format!("{{\"n\":{n}}}"))).collect();
        let mut seen = 0;
        let mut params = None;
        loop {
            let text = page(params.as_ref(), &items).unwrap();
            let whole = Json::from_parts(format!("{{\"items\":{text}}}")).value();
            seen += whole["items"].as_array().unwrap().len();
            let Some(next) = whole.get("nextCursor") else { break };
            params = Some(Json::of(&serde_json::json!({"cursor": next})));
        }
        assert_eq!(seen, 2500);
        let changed: Vec<Json> = items.iter().rev().cloned().collect();
        assert!(page(params.as_ref(), &changed).is_err());
        for cursor in ["", "x", "MTAwMA"] {
            let params = Json::of(&serde_json::json!({"cursor": cursor}));
            assert_eq!(page(Some(&params), &items).unwrap_err().code, -32602);
        }
    }
}
