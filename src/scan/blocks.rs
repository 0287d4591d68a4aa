//! Secrets with a structure of their own: private keys, JSON Web Tokens, credentials of HTTP requests.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

use memchr::memmem;

use super::text::{Sorts, at, before, entropy, has, is_placeholder, is_word, part, run};
use super::{Confidence, Found};

/// The longest private key that is looked for.
pub(super) const LONGEST_KEY: usize = 16 << 10;
/// The longest JSON Web Token that is looked for.
pub(super) const LONGEST_JWT: usize = 8 << 10;

const BEGIN: &[u8] = b"-----BEGIN ";

/// A private key in armour, from its first line to its last; where it was cut off, to the end of its text.
pub(super) fn private_key(text: &[u8], place: usize) -> Option<Found> {
    let label = place + BEGIN.len();
    if part(text, place, label) != BEGIN {
        return None;
    }
    let label_end = run(text, label, 48, |byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b' ');
    let named = part(text, label, label_end);
    let private = named.ends_with(b"PRIVATE KEY") || named == b"PGP PRIVATE KEY BLOCK";
    if !private || part(text, label_end, label_end + 5) != b"-----" {
        return None;
    }
    let body = label_end + 5;
    let is = |byte: u8| {
        byte.is_ascii_alphanumeric()
            || matches!(byte, b'+' | b'/' | b'=' | b'\n' | b'\r' | b' ' | b'\t' | b':' | b',' | b'-' | b'.')
    };
    let end = run(text, body, LONGEST_KEY, is);
    let inside = part(text, body, end);
    let close = memmem::find(inside, b"-----END ");
    let written = part(inside, 0, close.unwrap_or(inside.len()));
    // Where both ends stand, a little between them is enough; prose about keys has neither line nor end.
    let sample = part(written, 0, 1024);
    let longest = sample.split(|byte| !is_base64(*byte)).map(<[u8]>::len).max().unwrap_or_default();
    let least = if close.is_some() { 16 } else { 48 };
    if longest < least || entropy(sample) < 3.0 {
        return None;
    }
    let end = match close {
        Some(close) => {
            let label = body + close + 9;
            let marks = run(text, label, 48, |byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b' ');
            run(text, marks, 5, |byte| byte == b'-')
        }
        None => end,
    };
    Some(Found { rule: "private-key", range: place..end, confidence: Confidence::Certain })
}

const fn is_base64(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=')
}

/// A JSON Web Token: three parts, or five where it is encrypted, and a header that names an algorithm.
pub(super) fn jwt(text: &[u8], place: usize) -> Option<Found> {
    if is_word(before(text, place)) {
        return None;
    }
    let is = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let header = run(text, place, 1024, is);
    if at(text, header) != b'.' {
        return None;
    }
    let mut end = header;
    let mut parts = 1;
    while at(text, end) == b'.' && parts < 5 {
        let next = run(text, end + 1, LONGEST_JWT, is);
        // A token without a signature ends in a stop, as a sentence does: its payload is worth the finding.
        if next == end + 1 && parts != 2 {
            break;
        }
        end = next;
        parts += 1;
    }
    let decoded = URL_SAFE_NO_PAD.decode(part(text, place, header)).ok()?;
    let names = decoded.starts_with(b"{") && has(&decoded, "\"alg\"");
    let whole = parts >= 3 && names && end - header >= 16;
    whole.then_some(Found { rule: "jwt", range: place..end, confidence: Confidence::Certain })
}

/// What follows `Bearer ` in a request.
pub(super) fn bearer(text: &[u8], start: usize) -> Option<Found> {
    let is = |byte: u8| {
        byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'+' | b'/' | b'=' | b':' | b'|')
    };
    let mut end = run(text, start, 4096, is);
    while end > start && matches!(before(text, end), b'.' | b':') {
        end -= 1;
    }
    let token = part(text, start, end);
    let sorts = Sorts::of(token);
    let drawn = token.len() >= 16
        && sorts.digit
        && (sorts.lower || sorts.upper)
        && entropy(token) >= 3.0
        && !is_placeholder(token);
    drawn.then_some(Found { rule: "bearer-token", range: start..end, confidence: Confidence::Likely })
}

/// What follows `Basic ` in a request: a user and a password in base64.
pub(super) fn basic(text: &[u8], start: usize) -> Option<Found> {
    let is = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=');
    let end = run(text, start, 1024, is);
    let coded = part(text, start, end);
    if coded.len() < 8 || !coded.len().is_multiple_of(4) {
        return None;
    }
    let plain = STANDARD.decode(coded).ok()?;
    let text = std::str::from_utf8(&plain).ok()?;
    let (user, password) = text.split_once(':')?;
    let printable = !text.chars().any(char::is_control);
    let whole = printable && !user.is_empty() && password.len() >= 3 && !is_placeholder(password.as_bytes());
    whole.then_some(Found { rule: "basic-auth", range: start..end, confidence: Confidence::Certain })
}
