//! Text of strangers on a page for people.

use std::fmt::Write;

use crate::domain::plain::is_invisible;

/// Text that a browser reads as text: markup escaped; what is invisible, looks like a space and is none, or turns the
/// direction of writing, shown as what it is, so that nobody approves something else than they read.
pub(super) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            ' ' | '\n' => out.push(c),
            c if c.is_control() || c.is_whitespace() || is_invisible(c) => {
                // Writing to a string does not fail.
                let _always = write!(out, "\\u{{{:x}}}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_cannot_be_seen_stands_on_a_page_as_it_is() {
        let hidden = (char::MIN..=char::MAX).filter(|c| is_invisible(*c) || c.is_control() || c.is_whitespace());
        for c in hidden.filter(|c| !matches!(c, ' ' | '\n')) {
            assert_eq!(escaped(&format!("a{c}b")), format!("a\\u{{{:x}}}b", u32::from(c)));
        }
        assert_eq!(escaped("k\u{3164}\u{e0041}\u{61c} <żółć> 日本"), "k\\u{3164}\\u{e0041}\\u{61c} &lt;żółć&gt; 日本");
    }
}
