//! One scan: the passes, the close looks, what is decoded for them, and what all of that may cost.

use std::ops::Range;

use memchr::{memchr, memchr2_iter};

use super::keywords::{self, Probe};
use super::tokens::{self, TOKENS};
use super::view::View;
use super::{Finding, Found, Scanner, address, assign, blocks, iban, numbers, people, rules, text};

/// Work that one scan may do beside its passes, in bytes looked at closely.
const MAX_WORK: usize = 24 << 20;
/// What looking around a keyword costs at least.
const CANDIDATE: usize = 96;
/// Escapes within escapes, encodings within encodings, that are resolved.
const MAX_DEPTH: u8 = 3;
/// How much is decoded at once, so that keywords that stand close share it.
const STRIDE: usize = 2048;
/// Findings that are told.
pub(super) const MAX_FINDINGS: usize = 1000;

/// One scan on its way.
pub(super) struct Scan<'s> {
    scanner: &'s Scanner,
    pub findings: Vec<Finding>,
    work: usize,
    /// Whether something was left out.
    pub incomplete: bool,
}

/// What is remembered of one view while it is passed over.
#[derive(Default)]
struct Passed {
    /// The last piece that was decoded.
    decoded: Option<(Range<usize>, View<'static>)>,
    /// Up to where each encoding was opened. Places of one encoding come in their order, those of different ones do not: so
    /// none counts for another.
    escape: usize,
    percent: usize,
    encoded: usize,
}

impl Passed {
    fn mark(&mut self, probe: Probe) -> Option<&mut usize> {
        match probe {
            Probe::Escape => Some(&mut self.escape),
            Probe::Percent => Some(&mut self.percent),
            Probe::Encoded => Some(&mut self.encoded),
            _ => None,
        }
    }

    /// An encoding was opened up to a place of a text so long. What begins near it may go on behind it, and is opened again.
    fn opened(&mut self, probe: Probe, end: Option<usize>, length: usize) {
        let overlap = if probe == Probe::Encoded { 0 } else { 512 };
        if let (Some(mark), Some(end)) = (self.mark(probe), end) {
            *mark = (*mark).max(if end < length { end.saturating_sub(overlap) } else { end });
        }
    }
}

impl<'s> Scan<'s> {
    pub(super) const fn of(scanner: &'s Scanner) -> Self {
        Self { scanner, findings: Vec::new(), work: 0, incomplete: false }
    }

    /// The passes over a text.
    pub(super) fn over(&mut self, view: &View<'_>, depth: u8) {
        let text = &*view.text;
        let mut passed = Passed::default();
        let whole = keywords::find(text, |at, probe| self.candidate(view, at, probe, depth, &mut passed))
            && memchr2_iter(b'@', b'%', text).all(|at| {
                let probe = if text::at(text, at) == b'@' { Probe::Address } else { Probe::Percent };
                self.candidate(view, at, probe, depth, &mut passed)
            })
            && self.numbers(view, depth, &mut passed);
        self.incomplete |= !whole;
    }

    /// Every number of a text that is long enough to be one of a card or a person.
    fn numbers(&mut self, view: &View<'_>, depth: u8, passed: &mut Passed) -> bool {
        let text = &*view.text;
        let mut here = 0;
        for region in numbers::regions(text) {
            here = here.max(region.start.saturating_sub(numbers::LONGEST));
            while here < region.end {
                let byte = text::at(text, here);
                if !text::is_word(byte) {
                    here += 1;
                } else if byte.is_ascii_digit() && begins_word(text, here) {
                    let end = numbers::extent(text, here);
                    let long = text::part(text, here, end).iter().filter(|byte| byte.is_ascii_digit()).count() >= 9;
                    if long && !self.candidate(view, here, Probe::Number, depth, passed) {
                        return false;
                    }
                    here = end;
                } else {
                    // The letter of an escape such as `\n` is not part of what follows it.
                    let escape = text::before(text, here) == b'\\';
                    let iban = !escape && byte.is_ascii_uppercase() && iban::may_begin(text, here);
                    if iban && begins_word(text, here) && !self.candidate(view, here, Probe::Iban, depth, passed) {
                        return false;
                    }
                    here = if escape { here + 1 } else { text::run(text, here, usize::MAX, text::is_word) };
                }
            }
        }
        true
    }

    /// Looks closely around a place; false where the scan has cost enough.
    fn candidate(&mut self, view: &View<'_>, place: usize, probe: Probe, depth: u8, passed: &mut Passed) -> bool {
        let look = if probe == Probe::Jwt { 4 * CANDIDATE } else { CANDIDATE };
        if !self.affords(look) {
            return false;
        }
        let unopened = depth < MAX_DEPTH && passed.mark(probe).is_none_or(|mark| place >= *mark);
        if !is_plausible(&view.text, place, probe, unopened) {
            return true;
        }
        if !self.affords(cost(probe)) {
            return false;
        }
        let (back, ahead) = reach(probe);
        let range = place.saturating_sub(back)..place.saturating_add(ahead).min(view.text.len());
        if memchr(b'\\', text::part(&view.text, range.start, range.end)).is_none() || depth >= MAX_DEPTH {
            let opened = self.look(&view.window(range.clone()), place - range.start, probe, depth);
            passed.opened(probe, opened.map(|end| range.start + end), view.text.len());
            return true;
        }
        let covers = |known: &Range<usize>| known.start <= range.start && range.end <= known.end;
        if passed.decoded.as_ref().is_none_or(|(known, _)| !covers(known)) {
            let mut start = range.start;
            while text::before(&view.text, start) == b'\\' && range.start - start < 8 {
                start -= 1;
            }
            let known = start..range.end.max(place + STRIDE).min(view.text.len());
            if !self.affords(known.len()) {
                return false;
            }
            let plain = view.window(known.clone()).unescaped();
            passed.decoded = Some((known, plain));
        }
        let Some((known, plain)) = passed.decoded.as_ref() else { return true };
        let (inner, known) = (view.index_in(plain, place), known.end);
        let opened = self.look(plain, inner, probe, depth + 1);
        let goes_on = self.deeper(plain, inner, probe, depth + 1);
        // Nothing gets shorter by being encoded.
        let end = |end: usize| if end >= plain.text.len() { known } else { place + end.saturating_sub(inner) };
        passed.opened(probe, opened.map(end), view.text.len());
        goes_on
    }

    /// JSON in JSON: looks again while escapes are left over.
    fn deeper(&mut self, view: &View<'_>, place: usize, probe: Probe, depth: u8) -> bool {
        let (back, ahead) = reach(probe);
        let near = place.saturating_sub(back)..place.saturating_add(ahead).min(view.text.len());
        if depth >= MAX_DEPTH || memchr(b'\\', text::part(&view.text, near.start, near.end)).is_none() {
            return true;
        }
        if !self.affords(near.len()) {
            return false;
        }
        let window = view.window(near.clone());
        let plain = window.unescaped();
        let inner = window.index_in(&plain, place - near.start);
        self.look(&plain, inner, probe, depth + 1);
        self.deeper(&plain, inner, probe, depth + 1)
    }

    fn affords(&mut self, work: usize) -> bool {
        self.work = self.work.saturating_add(work);
        self.work <= MAX_WORK && self.findings.len() < MAX_FINDINGS
    }

    /// Looks around a place of a text that holds all that matters, decoded as far as can be. Gives up to where an encoding was
    /// opened.
    fn look(&mut self, view: &View<'_>, place: usize, probe: Probe, depth: u8) -> Option<usize> {
        let text = &*view.text;
        let found = match probe {
            Probe::Token(index) => TOKENS.get(index).and_then(|token| tokens::find(text, place, token)),
            Probe::OpenAi => tokens::around_mark(text, place, keywords::OPENAI_MARK),
            Probe::Telegram => tokens::telegram(text, place),
            Probe::Azure => tokens::azure(text, place),
            Probe::Atlas => tokens::atlas(text, place, keywords::ATLAS_MARK),
            Probe::Assignment => assign::find(text, place),
            Probe::Bearer(length) => blocks::bearer(text, place + length),
            Probe::Basic(length) => blocks::basic(text, place + length),
            Probe::Jwt => blocks::jwt(text, place),
            Probe::PrivateKey => blocks::private_key(text, place),
            Probe::NationalInsurance => people::national_insurance(text, place),
            Probe::Address => address::url_password(text, place).or_else(|| address::email(text, place)),
            Probe::Number => numbers::find(text, place),
            Probe::Iban => iban::find(text, place),
            Probe::Escape => {
                self.open(view, depth);
                return Some(text.len());
            }
            Probe::Percent => {
                self.open(&view.percent_decoded(), depth + 1);
                return Some(text.len());
            }
            Probe::Encoded => {
                let (run, inside) = view.base64_decoded(place);
                if !self.affords(run.len()) {
                    self.incomplete = true;
                } else if let Some(inside) = inside {
                    self.open(&inside, depth + 1);
                }
                // Whatever it holds, one look at it is enough.
                return Some(run.end);
            }
        };
        if let Some(found) = found {
            self.record(view, &found);
        }
        None
    }

    /// Scans what an encoding hid.
    fn open(&mut self, view: &View<'_>, depth: u8) {
        if !self.affords(view.text.len()) {
            self.incomplete = true;
            return;
        }
        self.over(view, depth.max(1));
    }

    fn record(&mut self, view: &View<'_>, found: &Found) {
        let Found { rule, range, confidence } = found;
        let content = text::part(&view.text, range.start, range.end);
        let allowed = || self.scanner.allowed.iter().any(|allowed| allowed.knows(content));
        if self.scanner.disabled.contains(rule) || allowed() {
            return;
        }
        let range = view.origin(range);
        self.findings.push(Finding { rule, kind: rules::kind(rule), confidence: *confidence, range });
    }
}

/// Whether it is worth looking, before anything is decoded for it.
fn is_plausible(text: &[u8], place: usize, probe: Probe, unopened: bool) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'@' | b':' | b'/');
    match probe {
        Probe::Assignment => assign::is_plausible(text, place),
        Probe::Jwt => {
            let end = text::run(text, place, 1024, |byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
            text::at(text, end) == b'.'
        }
        Probe::PrivateKey => text::has(text::part(text, place, place + 64), "private key"),
        Probe::Escape => code(text::part(text, place + 4, place + 6)).is_some_and(is_plain) && unopened,
        Probe::Percent => {
            let hidden = code(text::part(text, place + 1, place + 3));
            hidden.is_some_and(|byte| is_plain(byte) && !matches!(byte, b'/' | b':')) && unopened
        }
        Probe::Encoded => unopened,
        _ => true,
    }
}

/// How far to either side of a keyword its matcher may look.
const fn reach(probe: Probe) -> (usize, usize) {
    match probe {
        Probe::Token(_) => (32, 1100),
        Probe::OpenAi => (176, 192),
        Probe::Telegram | Probe::Azure | Probe::Atlas => (24, 128),
        Probe::Assignment => (80, assign::REACH),
        Probe::Bearer(_) => (8, 4200),
        Probe::Basic(_) => (8, 1100),
        Probe::Jwt => (8, blocks::LONGEST_JWT),
        Probe::PrivateKey => (8, blocks::LONGEST_KEY),
        Probe::NationalInsurance => (8, 96),
        Probe::Address => (address::REACH + 8, 300),
        Probe::Number => (numbers::CONTEXT + 8, 96),
        Probe::Iban => (8, iban::LONGEST + 16),
        Probe::Escape => (128, STRIDE),
        Probe::Percent => (160, STRIDE),
        Probe::Encoded => (32 << 10, 32 << 10),
    }
}

/// What a close look reads at most, beside what every look costs; the few that read much more are charged for it.
const fn cost(probe: Probe) -> usize {
    match probe {
        Probe::Token(_) | Probe::Telegram | Probe::Azure | Probe::Atlas | Probe::Number | Probe::Iban => 0,
        Probe::Assignment | Probe::OpenAi | Probe::NationalInsurance | Probe::Address => 256,
        Probe::Escape | Probe::Percent | Probe::Encoded => 256,
        Probe::Bearer(_) | Probe::Basic(_) => 1024,
        Probe::Jwt => 2 * blocks::LONGEST_JWT,
        Probe::PrivateKey => 2 * blocks::LONGEST_KEY,
    }
}

/// Whether a word begins here: the letter of an escape such as `\n` is not part of what follows it.
fn begins_word(text: &[u8], place: usize) -> bool {
    !text::is_word(text::before(text, place)) || text::before(text, place.saturating_sub(1)) == b'\\'
}

/// The ASCII character of two hexadecimal digits.
fn code(digits: &[u8]) -> Option<u8> {
    let text = std::str::from_utf8(digits).ok()?;
    u8::from_str_radix(text, 16).ok().filter(|byte| byte.is_ascii_graphic())
}
