//! The W3C trace context in a request's headers.

use http::HeaderMap;

use crate::domain::trace::Context;

const NAMES: [&str; 3] = ["traceparent", "tracestate", "baggage"];
/// Most bytes of one header.
const LONGEST: usize = 8192;

/// The headers that travel on to the backend, which gets them in `_meta`.
pub(super) fn of(headers: &HeaderMap) -> Vec<(&'static str, String)> {
    let one = |name: &'static str| {
        let value = headers.get(name)?.to_str().ok().filter(|value| value.len() <= LONGEST)?;
        Some((name, value.to_owned()))
    };
    NAMES.into_iter().filter_map(one).collect()
}

/// Lets the headers count where `_meta` names no trace; else gives the context that they name beside it.
pub(super) fn beside(headers: &HeaderMap, meta: &mut Vec<(&'static str, String)>) -> Option<Context> {
    if !headers.contains_key("traceparent") {
        return None;
    }
    let found = of(headers);
    let context = Context::of(&found)?;
    if meta.iter().any(|(name, _)| *name == "traceparent") {
        return Some(context);
    }
    *meta = found;
    None
}
