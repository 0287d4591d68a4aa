//! One scan: the passes, the close looks, what is decoded for them, and what all of that may cost.

use std::ops::Range;

use memchr::{memchr, memchr_iter, memchr2_iter};

use super::hidden::{Hidden, even};
use super::keywords::{self, Probe};
use super::tokens::{self, TOKENS};
use super::view::View;
use super::{Finding, Found, Scanner, address, assign, blocks, iban, numbers, people, rules, text};

/// Work that one scan may do beside its passes, in bytes looked at closely.
pub(super) const MAX_WORK: usize = 24 << 20;
/// What looking around a keyword costs at least.
const CANDIDATE: usize = 96;
/// Escapes within escapes, encodings within encodings, that are resolved.
pub(super) const MAX_DEPTH: u8 = 3;
/// How much is decoded at once, so that keywords that stand close share it.
const STRIDE: usize = 2048;
/// Findings that are told.
pub(super) const MAX_FINDINGS: usize = 1000;

/// One scan on its way.
pub(super) struct Scan<'s> {
    scanner: &'s Scanner,
    pub findings: Vec<Finding>,
    work: usize,
    /// The work that it may do.
    most: usize,
    /// Whether something was left out.
    pub incomplete: bool,
}

/// The last piece of a text that was decoded.
type Decoded = Option<(Range<usize>, View<'static>)>;

impl<'s> Scan<'s> {
    pub(super) const fn of(scanner: &'s Scanner, most: usize) -> Self {
        Self { scanner, findings: Vec::new(), work: 0, most, incomplete: false }
    }

    /// The passes over a text, and over what its encodings hide.
    pub(super) fn over(&mut self, view: &View<'_>, depth: u8) {
        let text = &*view.text;
        let mut decoded: Decoded = None;
        let mut hidden = Hidden::default();
        let whole = keywords::find(text, |at, probe| match probe {
            Probe::Escape | Probe::Encoded(_) | Probe::Spaced | Probe::Formed => {
                self.hides(text, at, probe, depth, &mut hidden)
            }
            Probe::Assignment if assigns_encoded(text, at) => {
                self.hides(text, at, Probe::Spaced, depth, &mut hidden)
                    && self.candidate(view, at, probe, depth, &mut decoded)
            }
            _ => self.candidate(view, at, probe, depth, &mut decoded),
        }) && memchr2_iter(b'@', b'%', text).all(|at| match text::at(text, at) {
            b'@' => self.candidate(view, at, Probe::Address, depth, &mut decoded),
            _ => self.hides(text, at, Probe::Percent, depth, &mut hidden),
        }) && self.numbers(view, depth, &mut decoded, &mut hidden)
            && self.parted(text, depth, &mut hidden)
            && self.open(view, hidden, depth);
        self.incomplete |= !whole;
    }

    /// Notes where an encoding may hide something; false where the scan has cost enough.
    fn hides(&mut self, text: &[u8], place: usize, probe: Probe, depth: u8, hidden: &mut Hidden) -> bool {
        if depth < MAX_DEPTH {
            hidden.note(text, place, probe);
        }
        self.affords(CANDIDATE)
    }

    /// Every number of a text that is long enough to be one of a card or a person.
    fn numbers(&mut self, view: &View<'_>, depth: u8, decoded: &mut Decoded, hidden: &mut Hidden) -> bool {
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
                    if long && !self.candidate(view, here, Probe::Number, depth, decoded) {
                        return false;
                    }
                    if numbers::goes_on(text, end) && !self.hides(text, here, Probe::Formed, depth, hidden) {
                        return false;
                    }
                    here = end;
                } else {
                    // The letter of an escape such as `\n` is not part of what follows it.
                    let escape = text::before(text, here) == b'\\';
                    let iban = !escape && byte.is_ascii_uppercase() && iban::may_begin(text, here);
                    if iban && begins_word(text, here) && !self.candidate(view, here, Probe::Iban, depth, decoded) {
                        return false;
                    }
                    here = if escape { here + 1 } else { text::run(text, here, usize::MAX, text::is_word) };
                }
            }
        }
        true
    }

    /// Looks closely around a place; false where the scan has cost enough.
    fn candidate(&mut self, view: &View<'_>, place: usize, probe: Probe, depth: u8, decoded: &mut Decoded) -> bool {
        let look = if probe == Probe::Jwt { 4 * CANDIDATE } else { CANDIDATE };
        if !self.affords(look) {
            return false;
        }
        if !is_plausible(&view.text, place, probe) {
            return true;
        }
        if !self.affords(cost(probe)) {
            return false;
        }
        let (back, ahead) = reach(probe);
        let range = place.saturating_sub(back)..place.saturating_add(ahead).min(view.text.len());
        if memchr(b'\\', text::part(&view.text, range.start, range.end)).is_none() || depth >= MAX_DEPTH {
            self.look(&view.window(range.clone()), place - range.start, probe);
            return true;
        }
        let covers = |known: &Range<usize>| known.start <= range.start && range.end <= known.end;
        if decoded.as_ref().is_none_or(|(known, _)| !covers(known)) {
            let (start, looked_at) = even(&view.text, range.start);
            let known = start..range.end.max(place + STRIDE).min(view.text.len());
            if !self.affords(known.len() + looked_at) {
                return false;
            }
            let plain = view.window(known.clone()).unescaped();
            *decoded = Some((known, plain));
        }
        let Some((_, plain)) = decoded.as_ref() else { return true };
        let inner = view.index_in(plain, place);
        self.look(plain, inner, probe);
        self.deeper(plain, inner, probe, depth + 1)
    }

    /// JSON in JSON: looks again while escapes are left over.
    fn deeper(&mut self, view: &View<'_>, place: usize, probe: Probe, depth: u8) -> bool {
        let (back, ahead) = reach(probe);
        let (start, looked_at) = even(&view.text, place.saturating_sub(back));
        let near = start..place.saturating_add(ahead).min(view.text.len());
        if depth >= MAX_DEPTH || memchr(b'\\', text::part(&view.text, near.start, near.end)).is_none() {
            return true;
        }
        if !self.affords(near.len() + looked_at) {
            return false;
        }
        let window = view.window(near.clone());
        let plain = window.unescaped();
        let inner = window.index_in(&plain, place - near.start);
        self.look(&plain, inner, probe);
        self.deeper(&plain, inner, probe, depth + 1)
    }

    /// Whether the scan may do some more work.
    pub(super) fn affords(&mut self, work: usize) -> bool {
        self.work = self.work.saturating_add(work);
        !self.is_spent() && self.findings.len() < MAX_FINDINGS
    }

    /// Whether it would have been more work than it may do.
    pub(super) const fn is_spent(&self) -> bool {
        self.work > self.most
    }

    /// Looks around a place of a text that holds all that matters, decoded as far as can be.
    fn look(&mut self, view: &View<'_>, place: usize, probe: Probe) {
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
            // These are opened, not looked at.
            Probe::Escape | Probe::Percent | Probe::Spaced | Probe::Formed | Probe::Encoded(_) => None,
        };
        if let Some(found) = found {
            self.record(view, &found);
        }
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
fn is_plausible(text: &[u8], place: usize, probe: Probe) -> bool {
    match probe {
        Probe::Assignment => assign::is_plausible(text, place),
        Probe::Jwt => {
            let end = text::run(text, place, 1024, |byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
            text::at(text, end) == b'.'
        }
        Probe::PrivateKey => text::has(text::part(text, place, place + 64), "private key"),
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
        Probe::Escape | Probe::Percent | Probe::Spaced | Probe::Formed | Probe::Encoded(_) => (0, 0),
    }
}

/// What a close look reads at most, beside what every look costs; the few that read much more are charged for it.
const fn cost(probe: Probe) -> usize {
    match probe {
        Probe::Token(_) | Probe::Telegram | Probe::Azure | Probe::Atlas | Probe::Number | Probe::Iban => 0,
        Probe::Escape | Probe::Percent | Probe::Spaced | Probe::Formed | Probe::Encoded(_) => 0,
        Probe::Assignment | Probe::OpenAi | Probe::NationalInsurance | Probe::Address => 256,
        Probe::Bearer(_) | Probe::Basic(_) => 1024,
        Probe::Jwt => 2 * blocks::LONGEST_JWT,
        Probe::PrivateKey => 2 * blocks::LONGEST_KEY,
    }
}

/// Whether a word begins here: the letter of an escape such as `\n` is not part of what follows it.
fn begins_word(text: &[u8], place: usize) -> bool {
    !text::is_word(text::before(text, place)) || text::before(text, place.saturating_sub(1)) == b'\\'
}

/// Whether what assigns is percent-encoded behind a name: `password%3D`.
fn assigns_encoded(text: &[u8], name: usize) -> bool {
    let near = text::part(text, name, name + 32);
    memchr_iter(b'%', near).any(|at| {
        let code = text::part(near, at + 1, at + 3);
        [b"3D", b"3A", b"22"].iter().any(|known| code.eq_ignore_ascii_case(*known))
    })
}
