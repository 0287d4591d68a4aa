//! A text as it reads once it is decoded, with the way back to where each byte came from.

use std::borrow::Cow;
use std::ops::Range;

use base64::Engine;
use base64::alphabet;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use memchr::memchr3_iter;

use super::text::{at, before, part, run, run_back};

/// Stands for a quotation mark that ends a string of the text around, in a text whose escapes are resolved.
pub(super) const QUOTE: u8 = 0x01;

/// The backslashes of a line break in JSON in JSON: of more nobody reads a line break.
const MOST_SLASHES: usize = 8;

/// A piece of a text, or of what it encodes.
#[derive(Debug)]
pub(super) struct View<'a> {
    pub text: Cow<'a, [u8]>,
    map: Map<'a>,
}

#[derive(Debug)]
enum Map<'a> {
    /// The text itself, from here on.
    From(usize),
    /// Where each byte begins; one more for the end.
    Each(Cow<'a, [u32]>),
    /// All of it encodes all of that.
    Whole(Range<usize>),
}

impl<'a> View<'a> {
    /// The text itself.
    pub(super) const fn of(text: &'a [u8]) -> Self {
        Self { text: Cow::Borrowed(text), map: Map::From(0) }
    }

    /// Where a part of the view stands in the text.
    pub(super) fn origin(&self, range: &Range<usize>) -> Range<usize> {
        match &self.map {
            Map::From(base) => base + range.start..base + range.end,
            Map::Each(places) => {
                let place = |index: usize| places.get(index).or(places.last()).map_or(0, |place| *place as usize);
                place(range.start)..place(range.end)
            }
            Map::Whole(whole) => whole.clone(),
        }
    }

    /// A part of the view.
    pub(super) fn window(&self, range: Range<usize>) -> View<'_> {
        let range = range.start.min(self.text.len())..range.end.min(self.text.len());
        let text = Cow::Borrowed(part(&self.text, range.start, range.end));
        let map = match &self.map {
            Map::From(base) => Map::From(base + range.start),
            Map::Each(places) => Map::Each(Cow::Borrowed(places.get(range.start..=range.end).unwrap_or_default())),
            Map::Whole(whole) => Map::Whole(whole.clone()),
        };
        View { text, map }
    }

    /// Resolves the escapes of JSON strings. What was a quotation mark without an escape becomes [`QUOTE`].
    pub(super) fn unescaped(&self) -> View<'static> {
        let mut out = Decoded::with_capacity(self.text.len());
        let text = &*self.text;
        let mut place = 0;
        while place < text.len() {
            let start = place;
            let byte = at(text, place);
            place += 1;
            if byte == b'"' {
                out.push(QUOTE, start);
                continue;
            }
            if byte != b'\\' {
                out.push(byte, start);
                continue;
            }
            place += 1;
            match at(text, start + 1) {
                b'n' => out.push(b'\n', start),
                b't' => out.push(b'\t', start),
                b'r' => out.push(b'\r', start),
                b'b' | b'f' => out.push(b' ', start),
                mark @ (b'"' | b'\\' | b'/') => out.push(mark, start),
                b'u' => match unicode(text, start) {
                    Some((symbol, length)) => {
                        place = start + length;
                        let mut buffer = [0; 4];
                        symbol.encode_utf8(&mut buffer).bytes().for_each(|byte| out.push(byte, start));
                    }
                    None => place = out.literal(byte, start),
                },
                _ => place = out.literal(byte, start),
            }
        }
        self.decoded(out, text.len())
    }

    /// Resolves percent encoding.
    pub(super) fn percent_decoded(&self) -> View<'static> {
        self.url_decoded(b'+')
    }

    /// Resolves percent encoding as forms have it, where `+` is a space.
    pub(super) fn form_decoded(&self) -> View<'static> {
        self.url_decoded(b' ')
    }

    fn url_decoded(&self, plus: u8) -> View<'static> {
        let mut out = Decoded::with_capacity(self.text.len());
        let text = &*self.text;
        let mut place = 0;
        while place < text.len() {
            match (at(text, place), hex(text, place + 1, 2)) {
                (b'%', Some(code)) => {
                    out.push(u8::try_from(code).unwrap_or(b'?'), place);
                    place += 3;
                }
                (byte, _) => {
                    out.push(if byte == b'+' { plus } else { byte }, place);
                    place += 1;
                }
            }
        }
        self.decoded(out, text.len())
    }

    /// Leaves the line breaks within base64 out.
    pub(super) fn without_breaks(&self) -> View<'static> {
        let text = &*self.text;
        let mut out = Decoded::with_capacity(text.len());
        let mut done = 0;
        for place in memchr3_iter(b'\n', b'\r', b'\\', text) {
            if let Some(next) = goes_on(text, place).filter(|_| place >= done) {
                out.extend(text, done..place);
                done = next;
            }
        }
        out.extend(text, done..text.len());
        self.decoded(out, text.len())
    }

    /// A text that a part of this view encodes as a whole.
    pub(super) fn within<'t>(&self, text: &'t [u8], part: &Range<usize>) -> View<'t> {
        View { text: Cow::Borrowed(text), map: Map::Whole(self.origin(part)) }
    }

    /// Where a byte of this view stands in one that was decoded from it.
    pub(super) fn index_in(&self, decoded: &View<'_>, place: usize) -> usize {
        let origin = self.origin(&(place..place)).start;
        match &decoded.map {
            Map::Each(places) => places.partition_point(|other| (*other as usize) < origin),
            _ => 0,
        }
    }

    fn decoded(&self, out: Decoded, length: usize) -> View<'static> {
        if let Map::Whole(whole) = &self.map {
            return View { text: Cow::Owned(out.text), map: Map::Whole(whole.clone()) };
        }
        let origin = |place: u32| {
            let place = place as usize;
            u32::try_from(self.origin(&(place..place)).start).unwrap_or(u32::MAX)
        };
        let mut places: Vec<u32> = out.places.iter().map(|place| origin(*place)).collect();
        places.push(origin(u32::try_from(length).unwrap_or(u32::MAX)));
        View { text: Cow::Owned(out.text), map: Map::Each(Cow::Owned(places)) }
    }
}

/// A character of base64, as it stands in either of its alphabets.
pub(super) const fn is_base64(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'-' | b'_')
}

/// Where base64 goes on that ends at a line break: `\n`, `\r\n`, or what JSON makes of them, once or more than once.
pub(super) fn goes_on(text: &[u8], place: usize) -> Option<usize> {
    let past = |place: usize, plain: u8, letter: u8| {
        if at(text, place) == plain {
            return Some(place + 1);
        }
        let end = run(text, place, MOST_SLASHES, |byte| byte == b'\\');
        (end > place && at(text, end) == letter).then_some(end + 1)
    };
    let end = past(past(place, b'\r', b'r').unwrap_or(place), b'\n', b'n')?;
    (ends_coded(text, place) && is_base64(at(text, end))).then_some(end)
}

/// Whether base64 that begins here goes on from the line before. The letter of an escape looks as if it belonged to it.
pub(super) fn went_on(text: &[u8], start: usize) -> bool {
    let slashes = |end: usize| run_back(text, end, MOST_SLASHES, |byte| byte == b'\\');
    let end = match (before(text, start), at(text, start)) {
        (b'\n', _) => run_back(text, start - 1, 1, |byte| byte == b'\r'),
        (b'\\', b'n') => match slashes(start) {
            end if is_letter_of_escape(text, end, b'r') => slashes(end - 1),
            end => end,
        },
        _ => return false,
    };
    ends_coded(text, end)
}

/// Whether base64 ends here: the letter of a line break is none of it.
fn ends_coded(text: &[u8], place: usize) -> bool {
    is_base64(before(text, place)) && !b"nr".iter().any(|letter| is_letter_of_escape(text, place, *letter))
}

fn is_letter_of_escape(text: &[u8], end: usize, letter: u8) -> bool {
    before(text, end) == letter && before(text, end.saturating_sub(1)) == b'\\'
}

/// What base64 encodes, whichever alphabet each character is of: who reads it may take both.
pub(super) fn base64_decoded(coded: &[u8]) -> Vec<u8> {
    // A last digit alone encodes nothing.
    let whole = if coded.len() % 4 == 1 { part(coded, 0, coded.len() - 1) } else { coded };
    let standard = |byte: &u8| match byte {
        b'-' => b'+',
        b'_' => b'/',
        byte => *byte,
    };
    let coded: Vec<u8> = whole.iter().map(standard).collect();
    let lenient = GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent);
    GeneralPurpose::new(&alphabet::STANDARD, lenient).decode(coded).unwrap_or_default()
}

struct Decoded {
    text: Vec<u8>,
    places: Vec<u32>,
}

impl Decoded {
    fn with_capacity(capacity: usize) -> Self {
        Self { text: Vec::with_capacity(capacity), places: Vec::with_capacity(capacity + 1) }
    }

    fn push(&mut self, byte: u8, place: usize) {
        self.text.push(byte);
        self.places.push(u32::try_from(place).unwrap_or(u32::MAX));
    }

    /// A part of the text as it is.
    fn extend(&mut self, text: &[u8], range: Range<usize>) {
        self.text.extend_from_slice(part(text, range.start, range.end));
        self.places.extend(range.map(|place| u32::try_from(place).unwrap_or(u32::MAX)));
    }

    /// A backslash that escapes nothing; gives the next place.
    fn literal(&mut self, byte: u8, place: usize) -> usize {
        self.push(byte, place);
        place + 1
    }
}

/// The character of `\uXXXX` at a place, or of a pair of them, and its length.
fn unicode(text: &[u8], place: usize) -> Option<(char, usize)> {
    let first = hex(text, place + 2, 4)?;
    if !(0xD800..0xDC00).contains(&first) {
        return Some((char::from_u32(first)?, 6));
    }
    let second = hex(text, place + 8, 4).filter(|_| part(text, place + 6, place + 8) == b"\\u")?;
    let low = second.checked_sub(0xDC00).filter(|low| *low < 0x400)?;
    Some((char::from_u32(0x10000 + ((first - 0xD800) << 10) + low)?, 12))
}

fn hex(text: &[u8], from: usize, digits: usize) -> Option<u32> {
    let digits = text.get(from..from.checked_add(digits)?)?;
    digits.iter().try_fold(0, |number, digit| Some(number * 16 + char::from(*digit).to_digit(16)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_resolved_and_lead_back() {
        let text = br#"{"a":"x\ny\u0041\ud83d\ude00\"q"}"#;
        let view = View::of(text);
        let plain = view.unescaped();
        assert_eq!(plain.text, "{\u{1}a\u{1}:\u{1}x\nyA😀\"q\u{1}}".as_bytes());
        let letter = plain.text.iter().position(|byte| *byte == b'A').unwrap();
        assert_eq!(&text[plain.origin(&(letter..letter + 1))], br"\u0041");
        assert_eq!(view.index_in(&plain, 10), letter);
        let window = plain.window(letter..plain.text.len());
        assert_eq!(&text[window.origin(&(0..1))], br"\u0041");
    }

    #[test]
    fn lines_of_base64_are_joined() {
        for mark in ["\n", "\r\n", "\\n", "\\r\\n", "\\\\r\\\\n"] {
            let text = format!("\"{mark}QUJD{mark}REVG{mark}R0hJ=={mark}QUJD{mark}\"");
            let view = View::of(text.as_bytes());
            let joined = view.without_breaks();
            assert_eq!(joined.text, format!("\"{mark}QUJDREVGR0hJ=={mark}QUJD{mark}\"").as_bytes(), "{mark:?}");
            let place = text.find("REVG").unwrap();
            let inner = view.index_in(&joined, place);
            assert_eq!((joined.text[inner], joined.origin(&(inner..inner + 1))), (b'R', place..place + 1));
            assert!(went_on(text.as_bytes(), run_back(text.as_bytes(), place, 9, is_base64)), "{mark:?}");
            let first = text.find("QUJD").unwrap();
            assert!(!went_on(text.as_bytes(), run_back(text.as_bytes(), first, 9, is_base64)), "{mark:?}");
        }
    }

    #[test]
    fn percent_and_base64_are_resolved() {
        let view = View::of(b"x=a%40b%zz");
        assert_eq!(&*view.percent_decoded().text, b"x=a@b%zz");
        let form = View::of(b"a+b%2Bc");
        assert_eq!((&*form.percent_decoded().text, &*form.form_decoded().text), (&b"a+b+c"[..], &b"a b+c"[..]));
        assert_eq!(base64_decoded(b"aGVsbG8gd29ybGQ"), b"hello world");
        assert_eq!(base64_decoded(b"-_+/a"), base64_decoded(b"+/+/"));
        let within = view.within(b"hello", &(2..5));
        assert_eq!(within.window(1..3).origin(&(0..1)), 2..5);
    }
}
