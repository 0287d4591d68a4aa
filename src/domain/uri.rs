//! One spelling for what a URI names: a policy that forbids a resource must not be passed by another.

use std::borrow::Cow;

use url::Url;

/// Schemes whose URIs are read alike everywhere (RFC 3986, 6.2.2); in others the authority and the fragment may be names.
const COMMON: [&str; 3] = ["file", "http", "https"];

/// The URI in its plain form: nothing around it, the scheme in lower case, no `.` and `..` segments, nothing encoded that need
/// not be. Of files and pages it is what the readers of browsers (WHATWG URL) make of it, with no fragment, no encoded and no
/// doubled slashes, and no host of a file.
#[must_use]
pub fn plain(uri: &str) -> Cow<'_, str> {
    let bare: Cow<'_, str> = uri.trim_matches(|c| c <= ' ').into();
    let bare = if bare.contains(['\t', '\n', '\r']) { bare.replace(['\t', '\n', '\r'], "").into() } else { bare };
    let Some((scheme, rest)) = bare.split_once(':').filter(|(scheme, _)| is_scheme(scheme)) else { return uri.into() };
    let scheme = scheme.to_ascii_lowercase();
    let common = COMMON.contains(&scheme.as_str());
    let plain = match Url::parse(&bare).ok().filter(|_| common) {
        Some(url) => plain_url(&url),
        None => plain_text(&scheme, rest, common),
    };
    if plain == uri { uri.into() } else { plain.into() }
}

/// Every way to read a URI that a policy may have meant, but for the way in which it is written: its plain form, and of files
/// and pages the same without the slash at its end, with nothing encoded, and of files without what is asked of them.
#[must_use]
pub fn readings(uri: &str) -> Vec<String> {
    let plain = plain(uri).into_owned();
    let scheme = plain.split_once(':').map(|(scheme, _)| scheme).filter(|scheme| COMMON.contains(scheme));
    let mut all = vec![plain.clone()];
    if let Some(scheme) = scheme {
        if let Some((path, _)) = plain.split_once('?').filter(|_| scheme == "file") {
            all.push(path.to_owned());
        }
        let shorter: Vec<String> = all.iter().filter_map(|uri| uri.strip_suffix('/')).map(str::to_owned).collect();
        all.extend(shorter.into_iter().filter(|uri| !uri.ends_with('/')));
        let open: Vec<String> =
            all.iter().map(|uri| percent_encoding::percent_decode_str(uri).decode_utf8_lossy().into_owned()).collect();
        all.extend(open);
    }
    let mut seen = vec![uri.to_owned()];
    all.retain(|reading| {
        let new = !seen.contains(reading);
        seen.extend(Some(reading.clone()).filter(|_| new));
        new
    });
    all
}

fn plain_url(url: &Url) -> String {
    let path = decoded(url.path(), |c| is_unreserved(c) || matches!(c, '/' | '\\')).replace('\\', "/");
    let query = url.query().filter(|query| !query.is_empty()).map(|query| format!("?{query}")).unwrap_or_default();
    let host = match url.scheme() {
        "file" => "",
        _ => url.authority(),
    };
    format!("{}://{host}{}{query}", url.scheme(), plain_path(&path, true))
}

/// The same of what no such reader takes, or takes for something else.
fn plain_text(scheme: &str, rest: &str, common: bool) -> String {
    let rest = if common { rest.split('#').next().unwrap_or_default() } else { rest };
    let (path, query) = rest.find(['?', '#']).map_or((rest, ""), |at| rest.split_at(at));
    let (authority, path) = match path.strip_prefix("//") {
        Some(path) => {
            path.find('/').map_or((Some(path), ""), |at| (path.get(..at), path.get(at..).unwrap_or_default()))
        }
        None => (None, path),
    };
    let authority =
        authority.map(|authority| if common { authority.to_ascii_lowercase() } else { authority.to_owned() });
    let authority = authority.map(|authority| format!("//{authority}")).unwrap_or_default();
    format!("{scheme}:{authority}{}{query}", plain_path(&decoded(path, is_unreserved), common))
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

/// What need not be encoded anywhere (RFC 3986, 2.3).
fn is_unreserved(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_' | '~')
}

/// A path in which these are not encoded.
fn decoded(path: &str, opens: impl Fn(char) -> bool) -> String {
    let mut out = String::with_capacity(path.len());
    let mut rest = path;
    while let Some((before, after)) = rest.split_once('%') {
        out.push_str(before);
        let byte = after.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match byte.map(char::from).filter(|c| opens(*c)) {
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
            "file:/secret",
            "FILE:/secret",
            "file:secret",
            "file:\\\\\\secret",
            "file:///public\\..\\secret",
            "file:///public/..%2fsecret",
            "file:///public%5C..%5csecret",
            " file:///secret",
            "\u{1}file:///secret \n",
            "file:///sec\tret",
            "fi\nle:///secret",
            "file://otherhost/secret",
            "file:///secret?",
        ] {
            assert_eq!(plain(uri), "file:///secret", "{uri}");
        }
        assert_eq!(plain("HTTPS://Host.Example/A?b=C#d"), "https://host.example/A?b=C");
        for uri in ["https:/h/a%20b", r"https:\\h\a b", "https://h:443/a b", "HTTPS:h/a%20b#c", "https:///H//a%20b"] {
            assert_eq!(plain(uri), "https://h/a%20b", "{uri}");
        }
        assert_eq!(plain("note://My%20Note/../x"), "note://My%20Note/x");
        assert_eq!(plain(" note://My%20Note/x\n"), "note://My%20Note/x");
        assert_eq!(plain("https://h:8443/a"), "https://h:8443/a");
    }

    #[test]
    fn a_uri_is_read_in_every_way_that_may_be_meant() {
        for (uri, all) in [
            ("file:///secret", &[][..]),
            ("file:///secret/", &["file:///secret"]),
            ("file:///secret/.", &["file:///secret/", "file:///secret"]),
            ("file:///secret?x=1", &["file:///secret"]),
            ("FILE:///secret/?x", &["file:///secret/?x", "file:///secret/", "file:///secret"]),
            ("file:///%C3%A4%20b", &["file:///ä b"]),
            ("file:///ä", &["file:///%C3%A4"]),
            ("https://h", &["https://h/"]),
            ("HTTPS://h", &["https://h/", "https://h"]),
            ("https://h/a?b=1", &[]),
            ("note://a/?x", &[]),
            ("no uri", &[]),
        ] {
            assert_eq!(readings(uri), all, "{uri}");
        }
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
        fn what_browsers_read_alike_has_one_plain_form(
            uri in r"[ \t]?(file|FILE|http|https):[/\\]{0,3}([a-cA-C./\\%#?@: é2ef5]|%2e|%2F|\.\.){0,20}[ \n]?",
        ) {
            if let Ok(url) = Url::parse(&uri) {
                prop_assert_eq!(plain(&uri), plain(url.as_str()));
                let mut bare = url;
                bare.set_fragment(None);
                prop_assert_eq!(plain(&uri), plain(bare.as_str()));
            }
            prop_assert!(readings(&uri).len() <= 8);
        }

        #[test]
        fn the_plain_form_is_plain(uri in "(file|x|HTTP):/{0,3}[a-zA-Z./%#?2e]{0,20}") {
            let once = plain(&uri).into_owned();
            // What is decoded may itself be an encoding; policies see it as it stands.
            prop_assume!(!once.contains('%'));
            prop_assert_eq!(plain(&once), once.as_str());
        }
    }
}
