//! Where a call comes from, and what became of it at its backend: W3C trace context, parents, attempts.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::id::EventId;
use super::json::hex;

/// Attempts of one call that are kept; a call has about twenty at most.
const MAX_ATTEMPTS: usize = 32;

/// A place in a distributed trace, as `traceparent` names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Context {
    pub trace: [u8; 16],
    pub span: [u8; 8],
    pub sampled: bool,
}

impl Context {
    /// Reads a `traceparent`: version 00, or a later one that begins alike.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('-');
        let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let more = parts.next().is_some();
        let [version] = bytes::<1>(version)?;
        if version == 0xff || (version == 0 && more) {
            return None;
        }
        let (trace, span, [flags]) = (bytes::<16>(trace)?, bytes::<8>(span)?, bytes::<1>(flags)?);
        let named = trace != [0; 16] && span != [0; 8];
        named.then_some(Self { trace, span, sampled: flags & 1 == 1 })
    }

    /// The context that a request brings, where it brings a good one.
    #[must_use]
    pub fn of(trace: &[(&'static str, String)]) -> Option<Self> {
        trace.iter().find(|(name, _)| *name == "traceparent").and_then(|(_, value)| Self::parse(value))
    }

    /// The beginning of a trace of its own.
    #[must_use]
    pub fn fresh(sampled: bool) -> Self {
        Self { trace: *uuid::Uuid::new_v4().as_bytes(), span: fresh_span(), sampled }
    }

    /// Another span of the same trace.
    #[must_use]
    pub fn child(self) -> Self {
        Self { span: fresh_span(), ..self }
    }

    /// As the header and the member of `_meta` spell it.
    #[must_use]
    pub fn traceparent(&self) -> String {
        format!("00-{}-{}-0{}", hex(&self.trace), hex(&self.span), u8::from(self.sampled))
    }

    #[must_use]
    pub fn trace_id(&self) -> String {
        hex(&self.trace)
    }

    #[must_use]
    pub fn span_id(&self) -> String {
        hex(&self.span)
    }

    /// A number between 0 and 1 that every participant draws alike from the trace's id.
    #[must_use]
    pub fn lot(&self) -> f64 {
        let [.., a, b, c, d] = self.trace;
        f64::from(u32::from_be_bytes([a, b, c, d])) / 4_294_967_296.0
    }
}

/// Never all zeros: its first bits are fixed.
fn fresh_span() -> [u8; 8] {
    let [_, _, _, _, _, _, _, _, span @ ..] = *uuid::Uuid::new_v4().as_bytes();
    span
}

/// Exactly `N` bytes in lower-case hexadecimal.
fn bytes<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digit = |c: u8| match c {
        b'0'..=b'9' => Some(c - b'0'),
        b'a'..=b'f' => Some(c - b'a' + 10),
        _ => None,
    };
    let mut out = [0; N];
    if text.len() != N * 2 {
        return None;
    }
    for (place, pair) in out.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        let [high, low] = pair else { return None };
        *place = digit(*high)? << 4 | digit(*low)?;
    }
    Some(out)
}

/// Where a call comes from, beyond who makes it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Provenance {
    /// The record of the call that made this one.
    pub parent: Option<EventId>,
    /// The span of that call, where there is one.
    pub within: Option<Context>,
    /// `legacy` or `modern`, of a client that speaks MCP as a host does.
    pub era: Option<&'static str>,
    /// The session that the client names, the revision that it speaks, and the id of its request; for spans alone.
    pub session: Option<String>,
    pub protocol: Option<String>,
    pub rpc_id: Option<String>,
    /// The method, where it is none of those that make a call; for spans alone.
    pub method: Option<&'static str>,
    /// A context that came besides the one that counts: that of the HTTP request, where `_meta` has another.
    pub beside: Option<Context>,
}

/// One try at the backend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// Microseconds on the clock that never steps back.
    pub began: u64,
    /// Absent where nobody waited for its end.
    pub ended: Option<u64>,
    /// `ok`, `rpc_error`, or the word for the fault.
    pub ending: &'static str,
    /// Why there was another before it: `retry` or `input`.
    pub again: Option<&'static str>,
    /// Its span, where spans are made.
    pub span: Option<Context>,
}

/// What became of a call at its backend, noted as it happens.
#[derive(Debug, Default)]
pub struct Trail {
    context: Option<Context>,
    noted: Mutex<Noted>,
}

/// What a [`Trail`] has noted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Noted {
    /// How the backend is reached: `stdio`, `http`, `sse` or `ws`.
    pub transport: Option<&'static str>,
    /// The backend's era.
    pub era: Option<&'static str>,
    pub attempts: Vec<Attempt>,
}

/// An attempt that was begun on a trail.
#[derive(Debug, Clone, Copy)]
pub struct Begun {
    place: usize,
    span: Option<Context>,
}

impl Trail {
    /// A trail whose attempts are spans below `context`.
    #[must_use]
    pub fn below(context: Option<Context>) -> Self {
        Self { context, noted: Mutex::default() }
    }

    /// The span of the call itself.
    #[must_use]
    pub const fn context(&self) -> Option<Context> {
        self.context
    }

    /// Notes which backend it is.
    pub fn reaches(&self, transport: &'static str, era: Option<&'static str>) {
        let mut noted = self.lock();
        (noted.transport, noted.era) = (Some(transport), era);
    }

    /// Whether the backend's era has been noted: before the first connection nobody knows it.
    #[must_use]
    pub fn knows_era(&self) -> bool {
        self.lock().era.is_some()
    }

    /// Notes that an attempt begins.
    #[must_use]
    pub fn begin(&self, now: u64, again: Option<&'static str>) -> Begun {
        let span = self.context.map(Context::child);
        let mut noted = self.lock();
        let place = noted.attempts.len();
        if place < MAX_ATTEMPTS {
            noted.attempts.push(Attempt { began: now, ended: None, ending: "unfinished", again, span });
        }
        Begun { place, span }
    }

    /// Notes how an attempt ended.
    pub fn end(&self, begun: Begun, now: u64, ending: &'static str) {
        if let Some(attempt) = self.lock().attempts.get_mut(begun.place) {
            (attempt.ended, attempt.ending) = (Some(now), ending);
        }
    }

    /// What has been noted.
    #[must_use]
    pub fn noted(&self) -> Noted {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Noted> {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Begun {
    /// The members of `_meta` for this attempt, where it is a span: its own `traceparent`, and of what the client sent
    /// the rest. A state of another tracer's makes no sense without its parent, so it goes only where there was one.
    #[must_use]
    pub fn members(&self, brought: &[(&'static str, String)]) -> Option<Vec<(&'static str, String)>> {
        let span = self.span?;
        let parented = Context::of(brought).is_some();
        let rest = brought.iter().filter(|(name, _)| match *name {
            "traceparent" => false,
            "tracestate" => parented,
            _ => true,
        });
        Some(std::iter::once(("traceparent", span.traceparent())).chain(rest.cloned()).collect())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GOOD: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn a_context_is_read_as_the_standard_has_it() {
        let context = Context::parse(GOOD).unwrap();
        assert_eq!((context.traceparent().as_str(), context.sampled), (GOOD, true));
        assert_eq!(context.trace_id(), "0af7651916cd43dd8448eb211c80319c");
        assert_eq!(Context::parse(&GOOD.replacen("00-", "cc-", 1)), Some(context), "a later version");
        assert_eq!(Context::parse(&(GOOD.replacen("00-", "cc-", 1) + "-more")), Some(context));
        for bad in [
            "",
            "00",
            &GOOD.to_uppercase(),
            &format!("{GOOD}-x"),
            &GOOD.replacen("00-", "ff-", 1),
            &GOOD.replace("0af7651916cd43dd8448eb211c80319c", &"0".repeat(32)),
            &GOOD.replace("b7ad6b7169203331", &"0".repeat(16)),
            "00-0af7651916cd43dd8448eb211c80319-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319é-b7ad6b7169203331-01",
        ] {
            assert_eq!(Context::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn attempts_are_kept_within_bounds_and_are_children() {
        let context = Context::parse(GOOD).unwrap();
        let trail = Trail::below(Some(context));
        for n in 0..100 {
            let begun = trail.begin(n, None);
            let members = begun.members(&[("tracestate", "a=b".into()), ("baggage", "c=d".into())]).unwrap();
            assert_eq!(members.len(), 2, "a state without a parent is dropped");
            let parent = Context::parse(&members[0].1).unwrap();
            assert_eq!(parent.trace, context.trace);
            assert_ne!(parent.span, context.span);
            trail.end(begun, n + 1, "ok");
        }
        assert_eq!(trail.noted().attempts.len(), MAX_ATTEMPTS);
        assert!(Trail::default().begin(1, None).members(&[]).is_none(), "nothing is changed where nothing is traced");
    }

    proptest! {
        #[test]
        fn any_context_is_spelled_so_that_it_is_read_again(sampled: bool) {
            let context = Context::fresh(sampled);
            prop_assert_eq!(Context::parse(&context.traceparent()), Some(context));
            prop_assert_eq!(Context::parse(&context.child().traceparent()).map(|child| child.trace), Some(context.trace));
            prop_assert!((0.0..1.0).contains(&context.lot()));
        }

        #[test]
        fn no_text_breaks_it(text in "\\PC{0,80}") {
            if let Some(context) = Context::parse(&text) {
                prop_assert!(text.contains(&context.trace_id()));
            }
        }
    }
}
