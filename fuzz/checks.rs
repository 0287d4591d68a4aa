//! What must hold for any bytes at the places where text from outside is first read. The fuzz targets and a test of the
//! gateway's share these.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::{Value, json};
use toolgate::config::{file, profiles};
use toolgate::domain::json::Json;
use toolgate::domain::strict;
use toolgate::policy::effects::{VOCABULARY, recognise};
use toolgate::wire::envelope::{self, Message};
use toolgate::wire::reply::{self, Reply};
use toolgate::wire::splice::{Additions, splice};

/// A message of a client: what is taken is strict JSON, and its parts are parts of it.
pub(crate) fn json_rpc(bytes: &[u8]) {
    let body = Bytes::copy_from_slice(bytes);
    let Ok(message) = envelope::decode(&body) else { return };
    let text = std::str::from_utf8(bytes).expect("a message is UTF-8");
    assert_eq!(strict::check(text), Ok(()), "strict refuses what was taken");
    let (id, params) = match &message {
        Message::Request { id, params, .. } => (Some(id), params.as_ref()),
        Message::Notification { params, .. } => (None, params.as_ref()),
        Message::Response { id, .. } => (Some(id), None),
    };
    assert!(id.is_none_or(|id| id.text().len() <= 256 && text.contains(id.text())));
    if let Some(params) = params {
        assert!(params.as_str().starts_with('{') && text.contains(params.as_str()));
        // Whatever the tools make of them must not end the process either.
        drop(envelope::call_params(Some(params)));
        drop(params.tree());
    }
}

/// A message of a backend: what is put into a result changes nothing else of it.
pub(crate) fn results(bytes: &[u8]) {
    let Ok(Reply::Response { result, .. }) = reply::decode(bytes) else { return };
    let text = result.get();
    let Ok(_) = reply::scan(text) else { return };
    let additions =
        Additions { members: &[("added", "1")], meta: &[("toolgate/governance", "{\"decision\":\"allow\"}")] };
    let spliced = splice(&Json::from_parts(text.to_owned()), additions);
    let after: Value = serde_json::from_str(spliced.as_str()).expect("what was JSON is JSON");
    assert_eq!(after["added"], 1);
    assert_eq!(after["_meta"]["toolgate/governance"]["decision"], "allow");
    // Of a text that can be read in two ways nothing more can be said.
    if strict::check(text).is_err() {
        return;
    }
    let Ok(Value::Object(before)) = serde_json::from_str::<Value>(text) else { return };
    let ours = ["added", "_meta", "resultType", "ttlMs", "cacheScope"];
    for (name, value) in before.iter().filter(|(name, _)| !ours.contains(&name.as_str())) {
        assert_eq!(after.get(name), Some(value), "`{name}` was changed");
    }
}

/// An argument that is surely SQL.
pub(crate) fn sql(bytes: &[u8]) {
    let found = effects("sql", bytes);
    let listed = recognise(&json!({"sql": [String::from_utf8_lossy(bytes)]}), &BTreeMap::new());
    assert_eq!(listed.effects, found, "a list of one is no way around");
}

/// An argument that is surely a command.
pub(crate) fn shell(bytes: &[u8]) {
    effects("command", bytes);
}

fn effects(name: &str, bytes: &[u8]) -> Vec<&'static str> {
    let text = String::from_utf8_lossy(bytes);
    let found = recognise(&json!({ name: text }), &BTreeMap::new()).effects;
    assert!(found.is_sorted_by(|one, other| one < other), "{found:?}");
    assert!(found.iter().all(|effect| VOCABULARY.iter().any(|(known, _)| known == effect)), "{found:?}");
    found
}

/// A configuration or a list of profiles: taken, or refused with faults that have a place in it.
pub(crate) fn configuration(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    // Files that it names are read, and those that a fuzzer thinks of may have no end.
    if text.contains("tls") {
        return;
    }
    let read =
        [file::read("toolgate.toml", &text, &|_| None).map(drop), profiles::read("profiles.toml", &text).map(drop)];
    for faults in read.into_iter().filter_map(Result::err) {
        assert!(!faults.0.is_empty());
        let lines = text.split('\n').count();
        assert!(faults.0.iter().all(|fault| (1..=lines).contains(&fault.line) && fault.column >= 1), "{faults}");
    }
}
