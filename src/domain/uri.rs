//! One spelling for what a URI names: a policy that forbids a resource must not be passed by another.

use std::borrow::Cow;

/// Schemes whose URIs are read alike everywhere (RFC 3986, 6.2.2); in others the authority and the fragment may be names.
const COMMON: [&str; 3] = ["file", "http", "https"];

/// The URI in its plain form: the scheme in lower case, no `.` and `..` segments, nothing encoded that need not be; of files
/// and pages no fragment and no doubled slashes either, the host in lower case, and no host of a file.
#[must_use]
pub fn plain(uri: &str) -> Cow<'_, str> {
    let Some((scheme, rest)) = uri.split_once(':').filter(|(scheme, _)| is_scheme(scheme)) else { return uri.into() };
    let scheme = scheme.to_ascii_lowercase();
    let common = COMMON.contains(&scheme.as_str());
    let rest = if common { rest.split('#').next().unwrap_or_default() } else { rest };
    let (path, query) = rest.find(['?', '#']).map_or((rest, ""), |at| rest.split_at(at));
    let (authority, path) = match path.strip_prefix("//") {
        Some(path) => {
            path.find('/').map_or((Some(path), ""), |at| (path.get(..at), path.get(at..).unwrap_or_default()))
        }
        None => (None, path),
    };
    let authority = authority.map(|authority| match authority.to_ascii_lowercase() {
        host if scheme == "file" && host == "localhost" => String::new(),
        host if common => host,
        _ => authority.to_owned(),
    });
    let authority = authority.map(|authority| format!("//{authority}")).unwrap_or_default();
    let plain = format!("{scheme}:{authority}{}{query}", plain_path(&decoded(path), common));
    if plain == uri { uri.into() } else { plain.into() }
}

/// The URI without the parts of it that hold credentials and searches.
#[must_use]
pub fn shown(uri: &str) -> Cow<'_, str> {
    let (head, tail) = uri.split_at(uri.find(['?', '#']).unwrap_or(uri.len()));
    let (before, rest) = head.split_at(head.find("://").map_or(0, |at| at + 3));
    let (authority, path) = rest.split_at(rest.find(['/', '\\']).unwrap_or(rest.len()));
    let user = authority.rfind('@').filter(|_| !before.is_empty());
    if user.is_none() && tail.len() <= 1 {
        return Cow::Borrowed(uri);
    }
    let hidden = |text: &str| format!("[redacted {} chars]", text.chars().count());
    let mut out = before.to_owned();
    match user {
        Some(at) => {
            let (user, host) = authority.split_at(at);
            out.push_str(&hidden(user));
            out.push_str(host);
        }
        None => out.push_str(authority),
    }
    out.push_str(path);
    if let Some((mark, rest)) = tail.split_at_checked(1).filter(|(_, rest)| !rest.is_empty()) {
        out.push_str(mark);
        out.push_str(&hidden(rest));
    }
    Cow::Owned(out)
}

/// A single letter is a drive.
fn is_scheme(text: &str) -> bool {
    text.len() > 1
        && text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'))
}

/// A path without encoded letters, digits, `-`, `.`, `_` and `~`.
fn decoded(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    let mut rest = path;
    while let Some((before, after)) = rest.split_once('%') {
        out.push_str(before);
        let byte = after.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match byte.map(char::from).filter(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_' | '~')) {
            Some(c) => {
                out.push(c);
                rest = after.get(2..).unwrap_or_default();
            }
            None => {
                out.push('%');
                rest = after;
            }
        }
    }
    out.push_str(rest);
    out
}

fn plain_path(path: &str, common: bool) -> String {
    let rooted = path.starts_with('/');
    let mut kept: Vec<&str> = Vec::new();
    let segments: Vec<&str> = path.strip_prefix('/').unwrap_or(path).split('/').collect();
    let last = segments.len().saturating_sub(1);
    for (at, segment) in segments.into_iter().enumerate() {
        match segment {
            "." | ".." => {
                if segment == ".." {
                    kept.pop();
                }
                if at == last {
                    kept.push("");
                }
            }
            "" if common && at < last => {}
            segment => kept.push(segment),
        }
    }
    format!("{}{}", if rooted { "/" } else { "" }, kept.join("/"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_spelling_has_one_plain_form() {
        for uri in [
            "file:///secret#",
            "file:///./secret",
            "FILE:///secret",
            "file:///%73ecret",
            "file:///%2e/secret",
            "file://localhost/secret",
            "file:////secret",
            "file:///a/../secret",
            "file:///a/%2E%2e/secret",
        ] {
            assert_eq!(plain(uri), "file:///secret", "{uri}");
        }
        assert_eq!(plain("HTTPS://Host.Example/A?b=C#d"), "https://host.example/A?b=C");
        assert_eq!(plain("note://My%20Note/../x"), "note://My%20Note/x");
    }

    #[test]
    fn what_is_plain_stays_as_it_is() {
        for uri in [
            "file:///secret",
            "file:///a/",
            "test://static-text",
            "test://template/{id}/data",
            "note://MyNote#part",
            "memo://a//b",
            "urn:isbn:1",
            "ui://app/view.html",
            "https://h.example/a%20b?q=%41",
            "no uri at all",
            "C:\\x",
            "",
        ] {
            assert_eq!(plain(uri), uri);
        }
    }

    proptest! {
        #[test]
        fn the_plain_form_is_plain(uri in "(file|x|HTTP):/{0,3}[a-zA-Z./%#?2e]{0,20}") {
            let once = plain(&uri).into_owned();
            // What is decoded may itself be an encoding; policies see it as it stands.
            prop_assume!(!once.contains('%'));
            prop_assert_eq!(plain(&once), once.as_str());
        }
    }
}
