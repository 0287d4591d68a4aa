//! What stands around an `@`: passwords in connection URLs, and e-mail addresses.

use memchr::memmem;

use super::text::{at, before, is_placeholder, part, run, run_back};
use super::view::QUOTE;
use super::{Confidence, Found};

/// How far back a URL may begin.
pub(super) const REACH: usize = 320;

/// The password of `scheme://user:password@host`.
pub(super) fn url_password(text: &[u8], place: usize) -> Option<Found> {
    let user_info = user_info(text, place)?;
    let colon = user_info.iter().position(|byte| *byte == b':')?;
    let (user, password) = (part(user_info, 0, colon), part(user_info, colon + 1, user_info.len()));
    let host_end =
        run(text, place + 1, 254, |byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b'['));
    let host = part(text, place + 1, host_end);
    let whole = !host.is_empty() && at(text, host_end) != b'@' && is_password(user, password);
    let from = place - password.len();
    whole.then_some(Found { rule: "url-password", range: from..place, confidence: Confidence::Certain })
}

/// What stands between `scheme://` and the `@`; `None` where the `@` belongs to a path, or to no URL.
fn user_info(text: &[u8], place: usize) -> Option<&[u8]> {
    let is = |byte: u8| {
        byte > b' '
            && byte != 0x7f
            && !matches!(byte, b'"' | b'\'' | b'<' | b'>' | b'`' | b'|' | b'/' | b'?' | b'#' | QUOTE)
    };
    let before_at = part(text, place.saturating_sub(REACH), place);
    let scheme = memmem::rfind(before_at, b"://")?;
    let named = scheme > 0 && at(before_at, scheme - 1).is_ascii_alphanumeric();
    let user_info = part(before_at, scheme + 3, before_at.len());
    (named && user_info.iter().all(|byte| is(*byte))).then_some(user_info)
}

/// Whether what stands in the place of a password is one.
fn is_password(user: &[u8], password: &[u8]) -> bool {
    const WORDS: [&str; 9] = ["password", "passwd", "pass", "pwd", "secret", "token", "pw", "key", "root"];
    let word = |text: &[u8]| WORDS.iter().any(|word| text.eq_ignore_ascii_case(word.as_bytes()));
    let variable = matches!(at(password, 0), b'$' | b'%' | b'{' | b'[' | b'<' | b'*') && !password.starts_with(b"%2");
    password.len() >= 3
        && !variable
        && !word(password)
        && !password.eq_ignore_ascii_case(user)
        && !password.contains(&b'{')
        && !is_placeholder(password)
}

/// An e-mail address of a person.
pub(super) fn email(text: &[u8], place: usize) -> Option<Found> {
    let is_local = |byte: u8| {
        byte.is_ascii_alphanumeric() || byte >= 0x80 || matches!(byte, b'.' | b'_' | b'%' | b'+' | b'-' | b'\'')
    };
    let mut start = run_back(text, place, 65, is_local);
    while start < place && matches!(at(text, start), b'.' | b'-' | b'\'' | b'%' | b'+') {
        start += 1;
    }
    let local = part(text, start, place);
    if !local.iter().any(u8::is_ascii_alphanumeric) || !at(text, place + 1).is_ascii_alphanumeric() {
        return None;
    }
    let mut end =
        run(text, place + 1, 254, |byte| byte.is_ascii_alphanumeric() || byte >= 0x80 || matches!(byte, b'.' | b'-'));
    while end > place && matches!(before(text, end), b'.' | b'-') {
        end -= 1;
    }
    let domain = part(text, place + 1, end);
    let (name, top) = domain.iter().rposition(|byte| *byte == b'.').map(|dot| domain.split_at(dot))?;
    let top = part(top, 1, top.len());
    let whole = local.len() <= 64
        && !local.windows(2).any(|pair| pair == b"..")
        && !name.is_empty()
        && !domain.windows(2).any(|pair| pair == b"..")
        && is_top_domain(top)
        && user_info(text, place).is_none()
        && !is_nobody(local, name, top);
    whole.then_some(Found { rule: "email", range: start..end, confidence: Confidence::Likely })
}

fn is_top_domain(top: &[u8]) -> bool {
    const FILES: [&str; 22] = [
        "png", "jpg", "jpeg", "gif", "svg", "webp", "js", "ts", "css", "json", "html", "txt", "log", "lock", "yml",
        "yaml", "tgz", "service", "socket", "timer", "target", "mount",
    ];
    const NOWHERE: [&str; 8] = ["local", "localhost", "localdomain", "internal", "invalid", "test", "lan", "svc"];
    let is = |list: &[&str]| list.iter().any(|word| top.eq_ignore_ascii_case(word.as_bytes()));
    (2..=24).contains(&top.len()) && top.iter().all(u8::is_ascii_alphabetic) && !is(&FILES) && !is(&NOWHERE)
}

/// Addresses that are a machine's.
fn is_nobody(local: &[u8], name: &[u8], top: &[u8]) -> bool {
    const MACHINES: [&str; 9] =
        ["git", "hg", "svn", "noreply", "no-reply", "donotreply", "do-not-reply", "mailer-daemon", "postmaster"];
    // `a@b.io` is an example.
    let short = local.len() == 1 && name.len() == 1;
    let generated = local.len() >= 40 && local.iter().all(|byte| byte.is_ascii_hexdigit() || *byte == b'-');
    let github = name.eq_ignore_ascii_case(b"users.noreply.github") && top.eq_ignore_ascii_case(b"com");
    // What forms and examples say in place of an address.
    let example = name.eq_ignore_ascii_case(b"example")
        && ["name", "user", "username", "you", "your", "email", "someone", "foo", "me"]
            .iter()
            .any(|word| local.eq_ignore_ascii_case(word.as_bytes()));
    MACHINES.iter().any(|machine| local.eq_ignore_ascii_case(machine.as_bytes()))
        || short
        || generated
        || github
        || example
}
