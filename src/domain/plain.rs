//! Text of strangers on one line of a log or a table: what it holds can be seen, and it ends where it seems to end.

/// Whether a character says nothing by itself and changes how the text around it looks: zero-width ones, blanks that are no
/// spaces, direction marks, variation selectors, tags.
#[must_use]
pub const fn is_invisible(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
        | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{2800}' | '\u{3164}'
        | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
}

/// The text with every control character and every invisible one written out, such as `\n` and `\u{202e}`.
#[must_use]
pub fn plain(text: impl Into<String>) -> String {
    let odd = |c: char| c.is_control() || is_invisible(c);
    let text = text.into();
    if !text.chars().any(odd) {
        return text;
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if odd(c) {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_cannot_be_seen_is_written_out() {
        assert_eq!(plain("a\nERROR b\u{202e}\u{1b}[31m"), "a\\nERROR b\\u{202e}\\u{1b}[31m");
        assert_eq!(plain("plain `text`, \"é\" \\n"), "plain `text`, \"é\" \\n");
    }

    proptest! {
        #[test]
        fn a_plain_text_is_one_visible_line(text in "\\PC{0,20}[\u{0}-\u{1f}\u{85}\u{2028}\u{200f}]{0,3}\\PC{0,20}") {
            let text = plain(text);
            prop_assert!(!text.chars().any(|c| c.is_control() || is_invisible(c)));
            prop_assert_eq!(plain(text.clone()), text);
        }
    }
}
