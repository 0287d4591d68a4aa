//! Bytes, and what may be said of a few of them.

use memchr::memchr2_iter;

/// The byte at a place; NUL beyond the ends.
pub(super) fn at(text: &[u8], place: usize) -> u8 {
    text.get(place).copied().unwrap_or(0)
}

/// The byte before a place; NUL at the start.
pub(super) fn before(text: &[u8], place: usize) -> u8 {
    place.checked_sub(1).map_or(0, |place| at(text, place))
}

/// A part of a text; empty where it is none.
pub(super) fn part(text: &[u8], from: usize, to: usize) -> &[u8] {
    text.get(from..to.min(text.len())).unwrap_or_default()
}

/// Where the bytes that `is` likes end, from a place on, at most `most` of them.
pub(super) fn run(text: &[u8], from: usize, most: usize, is: impl Fn(u8) -> bool) -> usize {
    part(text, from, from.saturating_add(most))
        .iter()
        .position(|byte| !is(*byte))
        .map_or_else(|| from.saturating_add(most).min(text.len()).max(from), |length| from + length)
}

/// Where the bytes that `is` likes begin, back from a place, at most `most` of them.
pub(super) fn run_back(text: &[u8], from: usize, most: usize, is: impl Fn(u8) -> bool) -> usize {
    let floor = from.saturating_sub(most);
    part(text, floor, from).iter().rposition(|byte| !is(*byte)).map_or(floor, |place| floor + place + 1)
}

/// Part of a word: letters, digits, `_`.
pub(super) const fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// Whether `needle` stands in `hay`, whatever the case of its letters. The needle is lower case.
pub(super) fn has(hay: &[u8], needle: &str) -> bool {
    let Some(first) = needle.bytes().next() else { return true };
    let here = |place: usize| part(hay, place, place + needle.len()).eq_ignore_ascii_case(needle.as_bytes());
    memchr2_iter(first, first.to_ascii_uppercase(), hay).any(here)
}

/// Whether one of `words` stands in `hay` where a word may begin.
pub(super) fn says(hay: &[u8], words: &[&str]) -> bool {
    let stands = |place: usize, word: &&str| {
        let first = word.as_bytes().first().is_some_and(|first| first.eq_ignore_ascii_case(&at(hay, place)));
        first && part(hay, place, place + word.len()).eq_ignore_ascii_case(word.as_bytes())
    };
    // `cardNumber`, `userPhone`: a capital begins a word too.
    let capital = |place: usize| at(hay, place).is_ascii_uppercase() && !before(hay, place).is_ascii_uppercase();
    let begins = |place: &usize| !before(hay, *place).is_ascii_alphabetic() || capital(*place);
    (0..hay.len()).filter(begins).any(|place| words.iter().any(|word| stands(place, word)))
}

/// Bits a byte, by how often each byte occurs.
#[expect(clippy::cast_precision_loss, reason = "lengths are small")]
pub(super) fn entropy(text: &[u8]) -> f32 {
    let mut counts = [0u16; 256];
    for byte in text {
        if let Some(count) = counts.get_mut(usize::from(*byte)) {
            *count = count.saturating_add(1);
        }
    }
    let whole = text.len() as f32;
    counts
        .iter()
        .filter(|count| **count > 0)
        .map(|count| f32::from(*count) / whole)
        .map(|part| -part * part.log2())
        .sum()
}

/// Whether a value is made up to show where one would stand.
pub(super) fn is_placeholder(text: &[u8]) -> bool {
    const WORDS: [&str; 20] = [
        "example",
        "xxxx",
        "****",
        "....",
        "redacted",
        "changeme",
        "change_me",
        "change-me",
        "your-",
        "your_",
        "yourp",
        "placeholder",
        "dummy",
        "todo",
        "sample",
        "insert",
        "replace",
        "fake",
        "aaaaaa",
        "000000",
    ];
    WORDS.iter().any(|word| has(text, word)) || longest_repeat(text) >= 6
}

/// The longest run of one byte.
fn longest_repeat(text: &[u8]) -> usize {
    let mut longest = 0;
    let mut length = 0;
    let mut last = None;
    for byte in text {
        length = if last == Some(byte) { length + 1 } else { 1 };
        last = Some(byte);
        longest = longest.max(length);
    }
    longest
}

/// Which sorts of characters a text has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sorts {
    pub lower: bool,
    pub upper: bool,
    pub digit: bool,
    /// Anything else but `_`, `-` and `.`.
    pub symbol: bool,
}

impl Sorts {
    pub(super) fn of(text: &[u8]) -> Self {
        let any = |is: fn(&u8) -> bool| text.iter().any(is);
        Self {
            lower: any(u8::is_ascii_lowercase),
            upper: any(u8::is_ascii_uppercase),
            digit: any(u8::is_ascii_digit),
            symbol: any(|byte| !byte.is_ascii_alphanumeric() && !matches!(byte, b'_' | b'-' | b'.')),
        }
    }

    pub(super) fn count(self) -> usize {
        [self.lower, self.upper, self.digit, self.symbol].into_iter().filter(|has| *has).count()
    }
}

/// CRC-32 in base 62, six digits: how GitHub, npm and this gateway end their keys.
pub(super) fn checksum(body: &[u8]) -> [u8; 6] {
    const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let mut number = crc32fast::hash(body);
    let mut out = [b'0'; 6];
    for place in out.iter_mut().rev() {
        *place = DIGITS.get((number % 62) as usize).copied().unwrap_or(b'0');
        number /= 62;
    }
    out
}

/// Whether the last six bytes are the checksum of the others.
pub(super) fn is_checked(text: &[u8]) -> bool {
    text.split_last_chunk::<6>().is_some_and(|(body, check)| checksum(body) == *check)
}
