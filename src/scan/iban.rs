//! Bank account numbers: a country, two check digits, as many characters as the country has.

use super::text::{at, before, is_word};
use super::{Confidence, Found};

/// The longest, with a space after every four.
pub(super) const LONGEST: usize = 44;

/// Whole lengths, by country.
const LENGTHS: [(&[u8; 2], usize); 78] = [
    (b"AD", 24),
    (b"AE", 23),
    (b"AL", 28),
    (b"AT", 20),
    (b"AZ", 28),
    (b"BA", 20),
    (b"BE", 16),
    (b"BG", 22),
    (b"BH", 22),
    (b"BR", 29),
    (b"BY", 28),
    (b"CH", 21),
    (b"CR", 22),
    (b"CY", 28),
    (b"CZ", 24),
    (b"DE", 22),
    (b"DK", 18),
    (b"DO", 28),
    (b"EE", 20),
    (b"EG", 29),
    (b"ES", 24),
    (b"FI", 18),
    (b"FO", 18),
    (b"FR", 27),
    (b"GB", 22),
    (b"GE", 22),
    (b"GI", 23),
    (b"GL", 18),
    (b"GR", 27),
    (b"GT", 28),
    (b"HR", 21),
    (b"HU", 28),
    (b"IE", 22),
    (b"IL", 23),
    (b"IQ", 23),
    (b"IS", 26),
    (b"IT", 27),
    (b"JO", 30),
    (b"KW", 30),
    (b"KZ", 20),
    (b"LB", 28),
    (b"LC", 32),
    (b"LI", 21),
    (b"LT", 20),
    (b"LU", 20),
    (b"LV", 21),
    (b"LY", 25),
    (b"MC", 27),
    (b"MD", 24),
    (b"ME", 22),
    (b"MK", 19),
    (b"MR", 27),
    (b"MT", 31),
    (b"MU", 30),
    (b"NL", 18),
    (b"NO", 15),
    (b"PK", 24),
    (b"PL", 28),
    (b"PS", 29),
    (b"PT", 25),
    (b"QA", 29),
    (b"RO", 24),
    (b"RS", 22),
    (b"SA", 24),
    (b"SC", 31),
    (b"SD", 18),
    (b"SE", 24),
    (b"SI", 19),
    (b"SK", 24),
    (b"SM", 27),
    (b"ST", 25),
    (b"SV", 28),
    (b"TL", 23),
    (b"TN", 24),
    (b"TR", 26),
    (b"UA", 29),
    (b"VA", 22),
    (b"VG", 24),
];

/// Whether an account number may begin at a place: two capitals and two digits.
pub(super) fn may_begin(text: &[u8], place: usize) -> bool {
    at(text, place).is_ascii_uppercase()
        && at(text, place + 1).is_ascii_uppercase()
        && at(text, place + 2).is_ascii_digit()
        && at(text, place + 3).is_ascii_digit()
}

/// The account number that begins at a place.
pub(super) fn find(text: &[u8], place: usize) -> Option<Found> {
    if !may_begin(text, place) || is_word(before(text, place)) {
        return None;
    }
    let country = [at(text, place), at(text, place + 1)];
    let (_, length) = LENGTHS.iter().find(|(known, _)| **known == country)?;
    let mut letters = Vec::with_capacity(*length);
    let mut end = place;
    while letters.len() < *length {
        let byte = at(text, end);
        if byte.is_ascii_uppercase() || byte.is_ascii_digit() {
            letters.push(byte);
        } else if !(matches!(byte, b' ' | b'-') && letters.len().is_multiple_of(4)) {
            return None;
        }
        end += 1;
    }
    let whole = !is_word(at(text, end)) && rest_by_97(&letters) == 1;
    whole.then_some(Found { rule: "iban", range: place..end, confidence: Confidence::Certain })
}

/// The first four characters go to the end; letters count from ten.
fn rest_by_97(letters: &[u8]) -> u32 {
    let (front, back) = letters.split_at(4.min(letters.len()));
    back.iter().chain(front).fold(0, |rest, byte| match byte {
        b'0'..=b'9' => (rest * 10 + u32::from(byte - b'0')) % 97,
        letter => (rest * 100 + u32::from(letter.to_ascii_uppercase() - b'A') + 10) % 97,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_registers_own_examples() {
        for text in [
            "DE89 3704 0044 0532 0130 00",
            "GB29NWBK60161331926819",
            "NO93 8601 1117 947",
            "MT84MALT011000012345MTLCAST001S",
        ] {
            assert_eq!(find(text.as_bytes(), 0).map(|found| found.range), Some(0..text.len()), "{text}");
            let wrong = text.replace('1', "2");
            assert!(find(wrong.as_bytes(), 0).is_none(), "{wrong}");
        }
        assert!(find(b"DE89370400440532013000X", 0).is_none());
    }
}
