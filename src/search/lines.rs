//! The compact answer: a line for each hit, best first, and a line that says what to do next.

use super::MOST_MATCHES;
use crate::domain::plain::is_invisible;

/// Characters of the sentence that describes a hit.
const SENTENCE_CHARS: usize = 160;

/// A hit as it is written.
#[derive(Debug, Clone, Copy)]
pub struct Line<'a> {
    pub server: &'a str,
    /// The tool's name with its arguments, see [`signature`](super::signature()).
    pub signature: &'a str,
    pub description: &'a str,
}

/// What the last line counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tally {
    /// `Found::matches`.
    pub matches: usize,
    /// Tools that the caller may see, of the server asked for.
    pub searched: usize,
}

/// The text of a search's answer: `server/tool(signature) — First sentence.` for each hit and a closing line.
#[must_use]
pub fn answer<'a>(hits: impl IntoIterator<Item = Line<'a>>, tally: Tally) -> String {
    let mut text = String::new();
    let mut shown = 0;
    for hit in hits {
        shown += 1;
        text.push_str(hit.server);
        text.push('/');
        text.push_str(hit.signature);
        let sentence = first_sentence(hit.description);
        if !sentence.is_empty() {
            text.push_str(" — ");
            text.push_str(&sentence);
        }
        text.push('\n');
    }
    text.push_str(&closing(shown, tally));
    text
}

fn closing(shown: usize, Tally { matches, searched }: Tally) -> String {
    match (shown, searched) {
        (_, 0) => "There are no tools to search.".into(),
        (0, _) => format!(
            "No match in {searched} tools. Say what is done and to what, as `create issue` or `query database`, \
             without names and values, or leave out `server`."
        ),
        _ => {
            let more = if matches >= MOST_MATCHES { "+" } else { "" };
            format!(
                "{shown} of {matches}{more} matches in {searched} tools. \
                 Call gateway_invoke; detail: full gives the schema."
            )
        }
    }
}

/// The first sentence of a description: one line of at most 160 characters, white space collapsed.
#[must_use]
pub fn first_sentence(description: &str) -> String {
    let mut line = String::new();
    // A description of one line may be long; more than this is never shown.
    for paragraph in description.split("\n\n").map(str::trim).filter(|text| !text.is_empty()).take(1) {
        line = clean(paragraph, 4 * SENTENCE_CHARS);
    }
    let end = line.char_indices().find(|&(at, c)| ends_sentence(&line, at, c)).map(|(at, c)| at + c.len_utf8());
    clean(line.get(..end.unwrap_or(line.len())).unwrap_or_default(), SENTENCE_CHARS)
}

fn ends_sentence(line: &str, at: usize, c: char) -> bool {
    let (before, after) = line.split_at(at);
    match c {
        '。' | '！' | '？' => true,
        '.' | '!' | '?' => {
            let short = before.rsplit([' ', '(']).next().is_some_and(|word| {
                ["e.g", "i.e", "etc", "vs", "approx", "no", "incl"].iter().any(|known| word.eq_ignore_ascii_case(known))
            });
            after.chars().nth(1).is_some_and(char::is_whitespace) && !(c == '.' && short)
        }
        _ => false,
    }
}

/// `text` on one line: white space collapsed, characters that do not show removed, cut at `most` characters.
pub(super) fn clean(text: &str, most: usize) -> String {
    let mut line = String::with_capacity(text.len().min(2 * most));
    let (mut count, mut gap) = (0, false);
    for c in text.chars() {
        if c.is_whitespace() || c.is_control() {
            gap = count > 0;
        } else if !is_invisible(c) {
            if count + usize::from(gap) + 1 > most {
                // Make room for the mark that something is missing.
                line.pop();
                line.truncate(line.trim_end().len());
                line.push('…');
                break;
            }
            if gap {
                line.push(' ');
                count += 1;
            }
            gap = false;
            line.push(c);
            count += 1;
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{prop_assert, proptest};

    use super::{Line, Tally, answer, clean, first_sentence};

    #[test]
    fn the_first_sentence_is_short_and_on_one_line() {
        for (text, expected) in [
            ("Create an issue. More.", "Create an issue."),
            ("Create an\n  issue\tnow", "Create an issue now"),
            ("Reads files, e.g. text. Then more.", "Reads files, e.g. text."),
            ("Uses version 1.2 of it. Yes.", "Uses version 1.2 of it."),
            ("\n\nTitle\n\nBody", "Title"),
            ("获取网页。更多", "获取网页。"),
            ("a\u{0}b\u{202e}c\u{e0041}d", "a bcd"),
            ("", ""),
            ("...", "..."),
        ] {
            assert_eq!(first_sentence(text), expected, "{text:?}");
        }
        let long = first_sentence(&"word ".repeat(1_000));
        assert!(long.chars().count() <= 160 && long.ends_with('…'), "{long}");
    }

    #[test]
    fn an_answer_has_a_line_for_each_hit_and_a_last_one() {
        let hits = [
            Line { server: "github", signature: "create_issue(repo:str)", description: "Create an issue. Ever." },
            Line { server: "toolgate", signature: "policy.simulate()", description: "" },
        ];
        assert_eq!(
            answer(hits, Tally { matches: 41, searched: 527 }),
            "github/create_issue(repo:str) — Create an issue.\n\
             toolgate/policy.simulate()\n\
             2 of 41 matches in 527 tools. Call gateway_invoke; detail: full gives the schema."
        );
        assert!(answer(hits, Tally { matches: 100, searched: 527 }).contains("2 of 100+ matches"));
        assert!(answer([], Tally { matches: 0, searched: 527 }).starts_with("No match in 527 tools."));
        assert_eq!(answer([], Tally { matches: 0, searched: 0 }), "There are no tools to search.");
    }

    proptest! {
        #[test]
        fn cleaned_text_is_one_line_of_bounded_length(text in "\\PC*|.*|(\\s|.){0,40}", most in 1_usize..50) {
            let line = clean(&text, most);
            prop_assert!(line.chars().count() <= most && !line.contains(char::is_control) && line.trim() == line);
        }
    }
}
