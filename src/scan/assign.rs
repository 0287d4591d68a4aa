//! Values under a telling name: `password: …`, `"api_key": "…"`, `TOKEN=…`.

use std::ops::Range;

use super::text::{Sorts, at, before, entropy, has, is_placeholder, is_word, part, run, run_back};
use super::view::QUOTE;
use super::{Confidence, Found};

/// The longest name, and the longest value.
const LONGEST_NAME: usize = 64;
const LONGEST_VALUE: usize = 512;
/// How far ahead of a name its value may end.
pub(super) const REACH: usize = LONGEST_NAME + LONGEST_VALUE + 32;

/// What a name promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Promise {
    Password,
    /// A key, a secret, a token of something.
    Key,
    /// A token of anything.
    Token,
    /// The secret half of an AWS key.
    Aws,
}

/// The value under the name that stands around a place.
pub(super) fn find(text: &[u8], place: usize) -> Option<Found> {
    let is_name = |byte: u8| is_word(byte) || matches!(byte, b'-' | b'.');
    let start = run_back(text, place, LONGEST_NAME, is_name);
    let end = run(text, place, LONGEST_NAME, is_name);
    let name = part(text, start, end);
    let promise = promised(name)?;
    let (value, quoted) = value_of(text, start, end)?;
    let content = part(text, value.start, value.end);
    let plain = is_plain(name, text, end);
    let (rule, confidence) = judged(promise, content, quoted, plain, at(text, value.end))?;
    Some(Found { rule, range: value, confidence })
}

/// Whether a value may follow at all, before anything is decoded for it.
pub(super) fn is_plausible(text: &[u8], place: usize) -> bool {
    part(text, place, place + LONGEST_NAME).iter().any(|byte| matches!(byte, b':' | b'=' | b'>'))
        || has(part(text, place, place + 24), " is ")
        || at(text, run(text, place, 24, is_word)) == b' '
}

/// How names of passwords end, without marks and capitals.
const PASSWORDS: [&str; 10] =
    ["password", "passwd", "passwort", "passphrase", "kennwort", "pwd", "dbpass", "userpass", "pass", "passcode"];
/// How names of keys end.
const KEYS: [&str; 24] = [
    "secret",
    "apikey",
    "secretkey",
    "accesskey",
    "authkey",
    "privatekey",
    "signingkey",
    "encryptionkey",
    "accountkey",
    "masterkey",
    "credential",
    "credentials",
    "authtoken",
    "accesstoken",
    "refreshtoken",
    "bearertoken",
    "apitoken",
    "bottoken",
    "usertoken",
    "clientsecret",
    "sessiontoken",
    "idtoken",
    "secrettoken",
    "appkey",
];
/// How names of tokens end that open nothing.
const OTHERS: [&str; 17] = [
    "nexttoken",
    "pagetoken",
    "nextpagetoken",
    "prevpagetoken",
    "previouspagetoken",
    "continuationtoken",
    "synctoken",
    "cursortoken",
    "stoptoken",
    "eostoken",
    "bostoken",
    "padtoken",
    "unktoken",
    "progresstoken",
    "csrftoken",
    "clienttoken",
    "idempotencytoken",
];

fn promised(name: &[u8]) -> Option<Promise> {
    let plain: Vec<u8> = name.iter().filter(|byte| byte.is_ascii_alphanumeric()).map(u8::to_ascii_lowercase).collect();
    let ends = |words: &[&str]| words.iter().any(|word| plain.ends_with(word.as_bytes()));
    if ends(&OTHERS) {
        return None;
    }
    if ends(&["secretaccesskey", "awssecretkey", "awssecret"]) {
        return Some(Promise::Aws);
    }
    if ends(&PASSWORDS) && !ends(&["bypass", "compass", "trespass"]) {
        return Some(Promise::Password);
    }
    if ends(&KEYS) {
        return Some(Promise::Key);
    }
    ends(&["token", "tokens"]).then_some(Promise::Token)
}

/// Where the value of a name stands, and whether it is quoted.
fn value_of(text: &[u8], start: usize, end: usize) -> Option<(Range<usize>, bool)> {
    let is_quote = |byte: u8| matches!(byte, b'"' | b'\'' | b'`' | QUOTE);
    let spaces = |from: usize| run(text, from, 8, |byte| matches!(byte, b' ' | b'\t'));
    let closed = end + usize::from(is_quote(at(text, end)));
    let mut here = spaces(closed + usize::from(at(text, closed) == b']'));
    let tag = before(text, start) == b'<' && at(text, end) == b'>';
    let flag = part(text, start, end).starts_with(b"-") && at(text, end) == b' ';
    if tag {
        here = end + 1;
    } else if let Some(after) = after_entry(text, here, closed > end) {
        // `{"name": "PASSWORD", "value": "…"}`: environments of containers.
        here = after;
    } else if part(text, here, here + 3) == b"is " || part(text, here, here + 4) == b"is: " {
        here = spaces(here + 3);
    } else if !flag {
        let from = here;
        while matches!(at(text, here), b':' | b'=' | b'>' | b'?') && here < from + 3 {
            here += 1;
        }
        if here == from || part(text, from, here) == b">" {
            return None;
        }
        here = spaces(here);
        // `password: str = "…"`: the type is not the value.
        let word = run(text, here + usize::from(at(text, here) == b'&'), 24, is_word);
        let next = spaces(word);
        let typed = at(text, from) == b':' && word > here && at(text, next) == b'=' && at(text, next + 1) != b'=';
        if typed {
            here = spaces(next + 1);
        }
    }
    // `r"…"`, `b'…'`.
    if matches!(at(text, here), b'r' | b'b' | b'f') && is_quote(at(text, here + 1)) {
        here += 1;
    }
    let mark = at(text, here);
    if is_quote(mark) {
        let close = run(text, here + 1, LONGEST_VALUE, |byte| byte != mark && byte != b'\n' && byte != QUOTE);
        return (at(text, close) == mark).then_some((here + 1..close, true));
    }
    let mut close = run(text, here, LONGEST_VALUE, |byte| {
        byte > b' '
            && !is_quote(byte)
            && !matches!(byte, b',' | b';' | b'<' | b'>' | b'(' | b')' | b'{' | b'}' | b'[' | b']' | b'\\')
    });
    // In the query of a URL an `&` ends it, elsewhere only what follows can tell.
    let next = part(text, here, close).iter().position(|byte| *byte == b'&').map(|length| here + length);
    if let Some(next) = next.filter(|next| at(text, run(text, next + 1, 32, is_word)) == b'=') {
        close = next;
    }
    // The stop of a sentence is not part of what it tells.
    if matches!(before(text, close), b'.' | b':') {
        close -= 1;
    }
    (close > here).then_some((here..close, false))
}

/// Behind `, "value": ` where that follows a quoted name.
fn after_entry(text: &[u8], here: usize, quoted: bool) -> Option<usize> {
    if !quoted || at(text, here) != b',' {
        return None;
    }
    let is_between = |byte: u8| matches!(byte, b' ' | b'"' | QUOTE | b'\n' | b'\t');
    let word = run(text, here + 1, 24, is_between);
    let rest = part(text, word, word + 5);
    let colon = run(text, word + 5, 3, is_between);
    (rest.eq_ignore_ascii_case(b"value") && at(text, colon) == b':')
        .then(|| run(text, colon + 1, 8, |byte| matches!(byte, b' ' | b'\n' | b'\t')))
}

/// Whether a name stands as it does in files of settings rather than in code: in capitals, or with its value behind `=`
/// at once.
fn is_plain(name: &[u8], text: &[u8], end: usize) -> bool {
    let capitals = name.iter().any(u8::is_ascii_uppercase) && !name.iter().any(u8::is_ascii_lowercase);
    capitals || (at(text, end) == b'=' && at(text, end + 1) > b' ')
}

fn judged(promise: Promise, value: &[u8], quoted: bool, plain: bool, next: u8) -> Option<(&'static str, Confidence)> {
    let sorts = Sorts::of(value);
    // In code a mark follows a name; what ends with its line stands in settings or prose.
    let ended = matches!(next, 0 | b'\n' | b'\r' | b'<' | b'"' | QUOTE) && sorts.digit;
    let found = match promise {
        Promise::Aws => {
            let is = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
            (value.len() == 40 && value.iter().all(is) && entropy(value) > 3.5)
                .then_some(("aws-secret-key", Confidence::Certain))
        }
        Promise::Password => {
            is_password(value, sorts, quoted, plain || ended).then_some(("password", Confidence::Likely))
        }
        Promise::Key | Promise::Token => {
            let strong = promise == Promise::Key;
            is_drawn(value, sorts, strong).then_some(("assigned-secret", Confidence::Likely))
        }
    };
    // What costs more is asked of the few that are left.
    let formed = promise == Promise::Aws;
    found.filter(|_| formed || !(is_placeholder(value) || is_reference(value, quoted, next)))
}

/// Whether a value says where the value is: a variable, a call, a path, a word.
fn is_reference(value: &[u8], quoted: bool, next: u8) -> bool {
    const WORDS: [&str; 14] = [
        "getenv",
        "process.env",
        "os.environ",
        "env.",
        "secrets.",
        "vault:",
        "config.",
        "settings.",
        "self.",
        "this.",
        "request.",
        "args.",
        "ref+",
        "op://",
    ];
    let starts = matches!(at(value, 0), b'$' | b'%' | b'{' | b'<' | b'[' | b'@' | b'*' | b'/' | b'~');
    // A password may begin with such a mark, if more like it follow.
    let bare_mark = starts
        && (at(value, 0) != b'$'
            || at(value, 1) == b'{'
            || part(value, 1, value.len()).iter().all(|byte| is_word(*byte)))
        && (part(value, 1, value.len()).iter().all(|byte| {
            is_word(*byte) || matches!(byte, b'.' | b'-' | b'/' | b'}' | b'>' | b']' | b'{' | b' ' | b'*')
        }));
    let code = !quoted && matches!(next, b'(' | b'[' | b'{');
    let url = value.windows(3).any(|window| window == b"://");
    let found = WORDS.iter().any(|word| has(value, word));
    let inner =
        value.windows(2).any(|pair| matches!(pair, b"${" | b"{{" | b"::" | b"->" | b"=>" | b"==" | b"||" | b"&&"))
            && !value.ends_with(b"==");
    bare_mark || code || url || found || inner
}

fn is_password(value: &[u8], sorts: Sorts, quoted: bool, plain: bool) -> bool {
    const HASHES: [&[u8]; 6] = [b"$2a$", b"$2b$", b"$2y$", b"$argon2", b"$6$", b"$pbkdf2"];
    let least = if quoted || plain { 6 } else { 8 };
    let spaces = value.iter().filter(|byte| **byte == b' ').count();
    let hashed = HASHES.iter().any(|hash| value.starts_with(hash));
    let dotted_path = value.contains(&b'.') && !sorts.digit && !sorts.symbol;
    let enough = match sorts.count() {
        0 | 1 => false,
        // `userPassword`, `my_password`: names.
        2 => {
            sorts.digit && (quoted || plain || value.len() >= 12)
                || (sorts.symbol && (quoted || plain) && is_marked(value))
        }
        _ if quoted || plain => true,
        _ => sorts.digit && (sorts.symbol || value.len() >= 8),
    };
    let constant = !quoted && !sorts.lower && !sorts.symbol;
    (least..=128).contains(&value.len())
        && !constant
        && !is_number(value)
        && spaces == 0
        && !hashed
        && !dotted_path
        && enough
        && !is_a_time(value)
}

/// Whether a symbol in it is one that people put into passwords.
fn is_marked(value: &[u8]) -> bool {
    value.iter().any(|byte| matches!(byte, b'!' | b'@' | b'#' | b'$' | b'%' | b'^' | b'*' | b'?' | b'~' | b'+'))
}

fn is_a_time(value: &[u8]) -> bool {
    value.iter().all(|byte| byte.is_ascii_digit() || matches!(byte, b'-' | b':' | b'T' | b'Z' | b'.' | b'+' | b'/'))
}

/// Whether a value looks drawn by lot.
fn is_drawn(value: &[u8], sorts: Sorts, strong: bool) -> bool {
    let is = |byte: &u8| {
        byte.is_ascii_alphanumeric()
            || matches!(
                byte,
                b'-' | b'_' | b'.' | b'+' | b'/' | b'=' | b'~' | b':' | b'!' | b'@' | b'#' | b'$' | b'%' | b'^' | b'*'
            )
    };
    let hex = value.iter().all(|byte| byte.is_ascii_hexdigit() || *byte == b'-');
    let letters = sorts.lower || sorts.upper;
    let least = match (hex, strong) {
        (true, true) => 3.0,
        // A hash under the name `token` is most often a hash.
        (true, false) => return false,
        (false, true) => 3.2,
        (false, false) => 3.5,
    };
    (16..=LONGEST_VALUE).contains(&value.len())
        && value.iter().all(is)
        && sorts.digit
        && letters
        && !is_wordy(value)
        && !is_a_time(value)
        && entropy(value) >= least
}

/// Whether a value is made of words: a name, a path, a version, a constant. What was drawn by lot changes its sort of
/// character at every other place.
fn is_wordy(value: &[u8]) -> bool {
    let sort = |byte: u8| match byte {
        b'a'..=b'z' => 0,
        b'A'..=b'Z' => 1,
        b'0'..=b'9' => 2,
        _ => 3,
    };
    let changes = |pair: &[u8]| match (sort(at(pair, 0)), sort(at(pair, 1))) {
        // `Word`.
        (1, 0) => false,
        (one, other) => one != other && one != 3,
    };
    let words = 1 + value.windows(2).filter(|pair| changes(pair)).count();
    value.len() * 2 >= words * 7
}

/// A number as programs write it.
fn is_number(value: &[u8]) -> bool {
    let text = std::str::from_utf8(value).unwrap_or_default().trim_start_matches('-').replace('_', "");
    let types = ["u8", "u16", "u32", "u64", "usize", "i8", "i16", "i32", "i64", "isize", "f32", "f64", "UL", "L", "U"];
    let bare = types.iter().find_map(|name| text.strip_suffix(name)).unwrap_or(&text);
    let hex = bare.strip_prefix("0x").or_else(|| bare.strip_prefix("0X"));
    hex.unwrap_or(bare).bytes().all(|byte| if hex.is_some() { byte.is_ascii_hexdigit() } else { byte.is_ascii_digit() })
}
