//! Numbers that belong to people: those that states give them, and those that they are called by.

use super::numbers::{Number, found, is_bare, label};
use super::text::{at, before, is_word, part, says};
use super::{Confidence, Found};

/// What a number is, by its shape and the words before it.
pub(super) fn find(text: &[u8], number: &Number, words: &[u8]) -> Option<Found> {
    social_security(text, number, words)
        .or_else(|| french(text, number))
        .or_else(|| german(text, number, words))
        .or_else(|| phone(text, number, words))
}

fn social_security(text: &[u8], number: &Number, words: &[u8]) -> Option<Found> {
    const WORDS: [&str; 6] = ["ssn", "social security", "social_security", "socialsecurity", "soc sec", "taxpayer id"];
    let shaped = match *number.lengths().as_slice() {
        [3, 2, 4, ..] => 3,
        [9] => 1,
        _ => return None,
    };
    let digits = number.digits(text, 0, shaped);
    let value = |from: usize, count: usize| {
        digits.iter().skip(from).take(count).fold(0u32, |number, digit| number * 10 + u32::from(*digit))
    };
    let (area, group, serial) = (value(0, 3), value(3, 2), value(5, 4));
    let valid = area != 0 && area != 666 && area < 900 && group != 0 && serial != 0;
    // Numbers of advertisements, which everybody copied.
    let known = matches!((area, group, serial), (78, 5, 1120) | (219, 9, 9999) | (457, 55, 5462));
    let marks = number.marks.get(..shaped - 1).unwrap_or_default();
    let even = marks.iter().all(|mark| Some(mark) == marks.first() && matches!(mark, b'-' | b' '));
    (valid && !known && even && says(words, &WORDS))
        .then(|| number.span(0, shaped).map(|range| found("us-ssn", range, Confidence::Certain)))?
}

/// Sex, year, month, place, order and a key of two digits: 97 less the rest by 97.
fn french(text: &[u8], number: &Number) -> Option<Found> {
    let lengths = number.lengths();
    if !(lengths == [15] || lengths == [1, 2, 2, 2, 3, 3, 2]) || is_bare(text, &number.range) {
        return None;
    }
    let digits = number.digits(text, 0, lengths.len());
    let value = |from: usize, count: usize| {
        digits.iter().skip(from).take(count).fold(0u64, |number, digit| number * 10 + u64::from(*digit))
    };
    let valid = matches!(value(0, 1), 1 | 2) && (1..=12).contains(&value(3, 2)) && value(5, 2) > 0;
    (valid && 97 - value(0, 13) % 97 == value(13, 2)).then(|| found("fr-nir", number.range.clone(), Confidence::Likely))
}

/// Eleven digits, the last by ISO 7064 (mod 11, 10).
fn german(text: &[u8], number: &Number, words: &[u8]) -> Option<Found> {
    const WORDS: [&str; 6] = ["steuer", "tax id", "taxid", "tax_id", "tin", "idnr"];
    let lengths = number.lengths();
    if !(lengths == [11] || lengths == [2, 3, 3, 3]) || !says(words, &WORDS) {
        return None;
    }
    let digits = number.digits(text, 0, lengths.len());
    let (last, body) = digits.split_last()?;
    let product = body.iter().fold(10u32, |product, digit| {
        let sum = (u32::from(*digit) + product) % 10;
        (if sum == 0 { 10 } else { sum }) * 2 % 11
    });
    let check = (11 - product) % 10;
    (body.first() != Some(&0) && check == u32::from(*last))
        .then(|| found("de-tax-id", number.range.clone(), Confidence::Certain))
}

/// Two letters, six digits and a letter from `A` to `D`.
pub(super) fn national_insurance(text: &[u8], place: usize) -> Option<Found> {
    // The number stands a little behind the words that name it.
    let window = part(text, place, place + 72);
    let start = (0..window.len()).find(|start| {
        let letters = part(window, *start, start + 2);
        let fits = matches!(letters, [first, second] if is_nino_letter(*first, false) && is_nino_letter(*second, true))
            && ![b"BG", b"GB", b"NK", b"KN", b"TN", b"NT", b"ZZ"].iter().any(|unused| *unused == letters);
        fits && !is_word(before(window, *start))
            && at(window, start + 2 + usize::from(at(window, start + 2) == b' ')).is_ascii_digit()
    })?;
    let mut end = start + 2;
    let mut digits = 0;
    while digits < 6 {
        let byte = at(window, end);
        if byte.is_ascii_digit() {
            digits += 1;
        } else if byte != b' ' {
            return None;
        }
        end += 1;
    }
    end += usize::from(at(window, end) == b' ');
    let closed = matches!(at(window, end), b'A'..=b'D') && !is_word(at(window, end + 1));
    closed.then(|| found("uk-nino", place + start..place + end + 1, Confidence::Certain))
}

const fn is_nino_letter(byte: u8, second: bool) -> bool {
    byte.is_ascii_uppercase() && !matches!(byte, b'D' | b'F' | b'I' | b'Q' | b'U' | b'V') && !(second && byte == b'O')
}

fn phone(text: &[u8], number: &Number, words: &[u8]) -> Option<Found> {
    const WORDS: [&str; 19] = [
        "phone",
        "telephone",
        "telefon",
        "téléphone",
        "tel",
        "mobile",
        "mobil",
        "cell",
        "fax",
        "whatsapp",
        "sms",
        "handy",
        "call me",
        "call us",
        "call",
        "reach me",
        "dial",
        "msisdn",
        "contact number",
    ];
    let near = part(words, words.len().saturating_sub(32), words.len());
    let near = near.rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
    let label = label(words);
    if !says(near, &WORDS) || label.eq_ignore_ascii_case(b"id") {
        return None;
    }
    let lengths = number.lengths();
    let digits = number.digits(text, 0, lengths.len());
    let opened = before(text, number.range.start) == b'(';
    let start = number.range.start - usize::from(opened);
    let plus = before(text, start) == b'+';
    let american = match *digits.as_slice() {
        [area, _, _, exchange, _, _, _, _, _, _] => area >= 2 && (exchange >= 2 || lengths.len() == 3),
        [1, area, _, _, exchange, _, _, _, _, _, _] => area >= 2 && (exchange >= 2 || lengths.len() == 4),
        _ => false,
    };
    // Digits in a row may count anything: then the word stands right before them.
    let linked = ["number", "no", "nr", "at", "is", "me", "us", "on", "under"];
    let direct = says(label, &WORDS) || linked.iter().any(|word| label.eq_ignore_ascii_case(word.as_bytes()));
    let grouped =
        american && matches!(*lengths.as_slice(), [3, 3, 4] | [1, 3, 3, 4]) || american && direct && lengths.len() == 1;
    let international = plus && (8..=15).contains(&digits.len()) && digits.first() != Some(&0);
    let national = digits.first() == Some(&0)
        && (9..=13).contains(&digits.len())
        && lengths.len() > 1
        && lengths.first().is_some_and(|length| *length >= 3)
        && !number.marks.contains(&b'.');
    // A date, an address of a network, a version.
    let other = number.marks.iter().filter(|mark| **mark == b'.').count() == 3 || digits.len() > 15;
    let start = start - usize::from(plus);
    ((grouped || international || national) && !other)
        .then(|| found("phone", start..number.range.end, Confidence::Likely))
}
