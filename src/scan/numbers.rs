//! What is made of digits: where numbers stand, what separates their groups, and which of them are payment cards.

use std::ops::Range;

use super::people;
use super::text::{at, before, is_word, part, run_back, says};
use super::view::QUOTE;
use super::{Confidence, Found};

/// How far before a number the words stand that say what it is.
pub(super) const CONTEXT: usize = 48;
/// The longest number with all that separates it.
pub(super) const LONGEST: usize = 48;

/// Pieces of a text that hold enough digits, close enough together, for a number of a card or a person: sixteen bytes
/// are counted at a time, which is what makes it fast.
pub(super) fn regions(text: &[u8]) -> impl Iterator<Item = Range<usize>> + '_ {
    const BLOCK: usize = 16;
    const ENOUGH: u8 = 9;
    let count = |block: &[u8]| block.iter().map(|byte| u8::from(byte.is_ascii_digit())).sum::<u8>();
    let mut last = 0;
    text.chunks(BLOCK).enumerate().filter_map(move |(index, block)| {
        let digits = count(block);
        let dense = digits + std::mem::replace(&mut last, digits) >= ENOUGH;
        dense.then(|| (index * BLOCK).saturating_sub(BLOCK)..(index + 1) * BLOCK)
    })
}

/// Digits with single separators between them.
#[derive(Debug)]
pub(super) struct Number {
    pub range: Range<usize>,
    /// Where each group of digits begins, and its length.
    groups: Vec<(usize, usize)>,
    /// The separator before each group but the first.
    pub marks: Vec<u8>,
}

const MOST_GROUPS: usize = 16;

/// Where the number ends whose first digit stands at a place.
pub(super) fn extent(text: &[u8], place: usize) -> usize {
    let mut end = place;
    for _ in 0..MOST_GROUPS {
        end = super::text::run(text, end, 64, |byte| byte.is_ascii_digit());
        match next_group(text, end) {
            Some(next) => end = next,
            None => break,
        }
    }
    end
}

/// Where the next group of digits begins behind one that ends here, if a single mark separates them.
fn next_group(text: &[u8], end: usize) -> Option<usize> {
    let mark = at(text, end);
    // `) ` and ` (` separate groups of telephone numbers.
    let two = matches!((mark, at(text, end + 1)), (b')', b' ' | b'-') | (b' ' | b'-', b'('));
    let wide = if two { 2 } else { 1 };
    let more = matches!(mark, b' ' | b'-' | b'.' | b'/' | b')') && at(text, end + wide).is_ascii_digit();
    more.then_some(end + wide)
}

/// Whether a number that ends here goes on as forms write a space: a group of four digits, `+`, more digits.
pub(super) fn goes_on(text: &[u8], end: usize) -> bool {
    let group = end - run_back(text, end, 5, |byte| byte.is_ascii_digit());
    group == 4 && at(text, end) == b'+' && at(text, end + 1).is_ascii_digit() && at(text, end + 2).is_ascii_digit()
}

impl Number {
    /// The number whose first digit stands at a place, as far as [`extent`] goes.
    pub(super) fn read(text: &[u8], place: usize) -> Self {
        let (mut groups, mut marks) = (Vec::new(), Vec::new());
        let mut here = place;
        loop {
            let end = super::text::run(text, here, 64, |byte| byte.is_ascii_digit());
            groups.push((here, end - here));
            let Some(next) = next_group(text, end).filter(|_| groups.len() < MOST_GROUPS) else {
                return Self { range: place..end, groups, marks };
            };
            marks.push(at(text, end));
            here = next;
        }
    }

    pub(super) fn lengths(&self) -> Vec<usize> {
        self.groups.iter().map(|(_, length)| *length).collect()
    }

    /// The digits of some of its groups.
    pub(super) fn digits(&self, text: &[u8], from: usize, count: usize) -> Vec<u8> {
        let groups = self.groups.iter().skip(from).take(count);
        groups.flat_map(|(start, length)| part(text, *start, start + length)).map(|digit| digit - b'0').collect()
    }

    pub(super) fn span(&self, from: usize, count: usize) -> Option<Range<usize>> {
        let (start, _) = self.groups.get(from)?;
        let (last, length) = self.groups.get((from + count).checked_sub(1)?)?;
        Some(*start..last + length)
    }
}

/// What a number is, if it is anything.
pub(super) fn find(text: &[u8], place: usize) -> Option<Found> {
    if is_word(before(text, place)) {
        return None;
    }
    let number = Number::read(text, place);
    let words = part(text, place.saturating_sub(CONTEXT), place);
    // A longer word, or the part of a number before or behind its point.
    let inside = is_word(at(text, number.range.end))
        || (before(text, place) == b'.' && before(text, place.saturating_sub(1)).is_ascii_digit());
    if inside {
        return None;
    }
    card(text, &number, words).or_else(|| people::find(text, &number, words))
}

pub(super) const fn found(rule: &'static str, range: Range<usize>, confidence: Confidence) -> Found {
    Found { rule, range, confidence }
}

const CARD_WORDS: [&str; 15] = [
    "card",
    "visa",
    "mastercard",
    "master card",
    "amex",
    "american express",
    "credit",
    "debit",
    "pan",
    "cc",
    "karte",
    "kreditkarte",
    "carte",
    "tarjeta",
    "payment",
];

fn card(text: &[u8], number: &Number, words: &[u8]) -> Option<Found> {
    const SHAPES: [&[usize]; 4] = [&[4, 4, 4, 4, 3], &[4, 4, 4, 4], &[4, 6, 5], &[4, 6, 4]];
    let named = || says(words, &CARD_WORDS);
    let lengths = number.lengths();
    for from in 0..lengths.len() {
        for shape in SHAPES {
            if lengths.get(from..from + shape.len()) != Some(shape) {
                continue;
            }
            let marks = number.marks.get(from..from + shape.len() - 1).unwrap_or_default();
            let even = marks.iter().all(|mark| Some(mark) == marks.first() && matches!(mark, b' ' | b'-'));
            // In a table of numbers every four groups of four look like one.
            let around = [from.checked_sub(1), Some(from + shape.len())];
            let table = around.into_iter().flatten().any(|index| lengths.get(index).is_some_and(|length| *length == 4));
            let digits = number.digits(text, from, shape.len());
            if even && is_card(&digits, true) && (!table || named()) {
                return Some(found("card", number.span(from, shape.len())?, Confidence::Certain));
            }
        }
    }
    let [length] = *lengths.as_slice() else { return None };
    let digits = number.digits(text, 0, 1);
    if !(13..=19).contains(&length) || !is_card(&digits, true) {
        return None;
    }
    // What has a name that counts, orders or measures is no card; neither is a bare number of a document.
    let other = || names_something_else(words) || is_bare(text, &number.range);
    (named() || (is_card(&digits, false) && !other())).then(|| found("card", number.range.clone(), Confidence::Likely))
}

/// Issuer, length and Luhn's sum. `sure`: something else says that it is a card.
fn is_card(digits: &[u8], sure: bool) -> bool {
    let lead = |count: usize| digits.iter().take(count).fold(0u32, |number, digit| number * 10 + u32::from(*digit));
    let (two, three, four) = (lead(2), lead(3), lead(4));
    let lengths: &[usize] = match () {
        () if (40..=49).contains(&two) && sure => &[13, 16, 19],
        () if (40..=49).contains(&two) => &[16],
        () if (51..=55).contains(&two) || (2221..=2720).contains(&four) => &[16],
        () if two == 34 || two == 37 => &[15],
        () if four == 6011 || (644..=649).contains(&three) || two == 65 || (3528..=3589).contains(&four) => &[16],
        () if two == 62 && sure => &[16, 17, 18, 19],
        () if two == 62 => &[16],
        () if (300..=305).contains(&three) || matches!(two, 36 | 38 | 39) => {
            if sure {
                &[14, 16]
            } else {
                &[]
            }
        }
        () if matches!(two, 50 | 56..=58 | 60 | 63 | 67) && sure => &[13, 15, 16, 18, 19],
        () => &[],
    };
    let same = digits.windows(2).all(|pair| pair.first() == pair.last());
    lengths.contains(&digits.len()) && !same && luhn(digits)
}

pub(super) fn luhn(digits: &[u8]) -> bool {
    let double = |digit: u8| if digit > 4 { digit * 2 - 9 } else { digit * 2 };
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(place, digit)| u32::from(if place % 2 == 1 { double(*digit) } else { *digit }))
        .sum();
    sum.is_multiple_of(10)
}

/// The last word before a number, with nothing but marks between them.
pub(super) fn label(words: &[u8]) -> &[u8] {
    let end = run_back(words, words.len(), 8, |byte| {
        matches!(byte, b' ' | b':' | b'=' | b'"' | b'\'' | b'#' | b'-' | b'[' | b'(' | b'/' | b'.' | b'+')
            || byte == QUOTE
    });
    part(words, run_back(words, end, 32, |byte| byte.is_ascii_alphabetic()), end)
}

/// Whether the name just before a number says that it is something else.
fn names_something_else(words: &[u8]) -> bool {
    const ENDINGS: [&str; 36] = [
        "id",
        "ids",
        "hash",
        "sha",
        "ts",
        "time",
        "timestamp",
        "at",
        "size",
        "bytes",
        "offset",
        "count",
        "seq",
        "version",
        "rev",
        "nr",
        "no",
        "number",
        "num",
        "key",
        "isbn",
        "ean",
        "gtin",
        "imei",
        "sku",
        "serial",
        "tracking",
        "invoice",
        "order",
        "ref",
        "reference",
        "cursor",
        "epoch",
        "nonce",
        "build",
        "upc",
    ];
    let name = label(words);
    let ends = |ending: &str| {
        let at = name.len().checked_sub(ending.len())?;
        let tail = part(name, at, name.len());
        let begins = at == 0 || at_capital(name, at);
        (begins && tail.eq_ignore_ascii_case(ending.as_bytes())).then_some(())
    };
    before(words, words.len()) == b'#' || ENDINGS.iter().any(|ending| ends(ending).is_some())
}

fn at_capital(name: &[u8], place: usize) -> bool {
    at(name, place).is_ascii_uppercase() && before(name, place).is_ascii_lowercase()
}

/// Whether a number stands in a JSON document as a number.
pub(super) fn is_bare(text: &[u8], range: &Range<usize>) -> bool {
    let left = run_back(text, range.start, 8, |byte| byte.is_ascii_whitespace());
    let right = super::text::run(text, range.end, 8, |byte| byte.is_ascii_whitespace());
    matches!(before(text, left), b':' | b'[' | b',') && matches!(at(text, right), b',' | b']' | b'}')
}
