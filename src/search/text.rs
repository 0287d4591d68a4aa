//! Text to words: runs of letters and digits, cut where the writing changes, in lower case.

use rust_stemmers::{Algorithm, Stemmer};

/// Bytes of a word that is kept; longer runs are data (hashes, encoded blobs), not words.
const WORD_BYTES: usize = 48;

/// Words that say nothing about which tool is meant, sorted.
const STOP_WORDS: &[&str] = &[
    "a", "about", "all", "also", "an", "and", "any", "are", "as", "at", "be", "been", "but", "by", "can", "could",
    "did", "do", "does", "doing", "don", "each", "either", "etc", "for", "from", "had", "has", "have", "he", "help",
    "her", "here", "hers", "him", "his", "how", "i", "if", "in", "into", "is", "it", "its", "just", "ll", "m", "may",
    "me", "might", "mine", "must", "my", "need", "needs", "no", "not", "of", "on", "or", "other", "our", "out", "over",
    "please", "re", "s", "shall", "she", "should", "so", "some", "such", "t", "than", "that", "the", "their", "them",
    "then", "there", "these", "they", "this", "those", "to", "too", "tool", "tools", "us", "using", "ve", "very",
    "via", "want", "was", "we", "were", "what", "when", "where", "which", "who", "whose", "will", "with", "would",
    "you", "your",
];

/// True for a word that is left out unless nothing else is there.
pub(super) fn is_stop_word(word: &str) -> bool {
    STOP_WORDS.binary_search(&word).is_ok()
}

/// How a word was cut from its text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cut {
    /// It stands alone, or is the whole of `camelCase` joined.
    Whole,
    /// A part of a longer word: `camel`, `case`.
    Part,
    /// Two characters of a script that is written without spaces.
    Bigram,
}

/// Brings words to their stems.
pub(super) struct Stems(Stemmer);

impl std::fmt::Debug for Stems {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Stems(English)")
    }
}

impl Stems {
    pub(super) fn new() -> Self {
        Self(Stemmer::create(Algorithm::English))
    }

    /// The Snowball English stem of a word in lower case; anything but plain letters stays as it is.
    pub(super) fn stem<'a>(&self, word: &'a str) -> std::borrow::Cow<'a, str> {
        if word.len() > 2 && word.bytes().all(|byte| byte.is_ascii_lowercase()) {
            self.0.stem(word)
        } else {
            word.into()
        }
    }
}

/// Calls `each` with every word of `text`, in order; a word of several parts comes after its parts.
pub(super) fn words(text: &str, mut each: impl FnMut(&str, Cut)) {
    let mut lower = String::with_capacity(WORD_BYTES);
    for run in text.split(|c: char| !c.is_alphanumeric()) {
        let mut rest = run;
        while let Some(first) = rest.chars().next() {
            let dense = is_dense(first);
            let end = rest.find(|c| is_dense(c) != dense).unwrap_or(rest.len());
            let (piece, after) = rest.split_at(end);
            rest = after;
            if dense {
                bigrams(piece, &mut lower, &mut each);
            } else if piece.len() <= WORD_BYTES {
                parts(piece, &mut lower, &mut each);
            }
        }
    }
}

/// `camelCase`, `HTTPServer` and `base64` give their parts and then the whole.
fn parts(run: &str, lower: &mut String, each: &mut impl FnMut(&str, Cut)) {
    let mut start = 0;
    for end in boundaries(run) {
        emit_part(run.get(start..end), lower, each);
        start = end;
    }
    if start > 0 {
        emit_part(run.get(start..), lower, each);
    }
    lower_case(run, lower);
    each(lower, Cut::Whole);
}

fn emit_part(part: Option<&str>, lower: &mut String, each: &mut impl FnMut(&str, Cut)) {
    // One letter beside others is a remainder (`s` of `s3`), not a word.
    if let Some(part) = part.filter(|part| part.len() > 1) {
        lower_case(part, lower);
        each(lower, Cut::Part);
    }
}

/// Where the parts of a run begin, but for the first.
fn boundaries(run: &str) -> impl Iterator<Item = usize> + '_ {
    let mut before = None;
    run.char_indices().filter_map(move |(at, c)| {
        let after = run.get(at + c.len_utf8()..).unwrap_or_default();
        let cuts = before.is_some_and(|last: char| {
            last.is_numeric() != c.is_numeric()
                || (last.is_lowercase() && c.is_uppercase())
                // `HTTPServer` is cut before `Server`, but `URLs` is one word.
                || (last.is_uppercase() && c.is_uppercase() && after.starts_with(char::is_lowercase) && after != "s")
        });
        before = Some(c);
        cuts.then_some(at)
    })
}

fn lower_case(word: &str, lower: &mut String) {
    lower.clear();
    lower.extend(word.chars().flat_map(char::to_lowercase));
}

fn bigrams(run: &str, pair: &mut String, each: &mut impl FnMut(&str, Cut)) {
    let seconds = run.chars().skip(1).map(Some).chain(run.chars().nth(1).is_none().then_some(None));
    for (first, second) in run.chars().zip(seconds) {
        pair.clear();
        pair.push(first);
        pair.extend(second);
        each(pair, Cut::Bigram);
    }
}

/// Han, kana and Hangul: written without spaces, or with long words of many endings.
fn is_dense(c: char) -> bool {
    matches!(u32::from(c),
        0x1100..=0x11FF | 0x2E80..=0x2FDF | 0x3040..=0x30FF | 0x3130..=0x318F | 0x31F0..=0x31FF | 0x3400..=0x4DBF
        | 0x4E00..=0x9FFF | 0xAC00..=0xD7AF | 0xF900..=0xFAFF | 0xFF66..=0xFF9D | 0x2_0000..=0x3_FFFF)
}

#[cfg(test)]
mod tests {
    use super::{STOP_WORDS, Stems, words};

    fn list(text: &str) -> Vec<String> {
        let mut list = Vec::new();
        words(text, |word, _| list.push(word.to_owned()));
        list
    }

    #[test]
    fn words_are_cut_where_the_writing_changes() {
        for (text, expected) in [
            ("create_issue", "create issue"),
            ("get-file.contents", "get file contents"),
            ("DeepWriter", "deep writer deepwriter"),
            ("parseHTTPRequest", "parse http request parsehttprequest"),
            ("fetch URLs", "fetch urls"),
            ("base64 s3 web3", "base 64 base64 s3 web web3"),
            ("what's up", "what s up"),
            ("必应搜索", "必应 应搜 搜索"),
            ("用", "用"),
            ("AI搜索tool", "ai 搜索 tool"),
            ("  \u{0}\n", ""),
        ] {
            assert_eq!(list(text).join(" "), expected, "{text}");
        }
        assert!(list(&"x".repeat(500)).is_empty());
    }

    #[test]
    fn stems_join_the_forms_of_a_word() {
        let stems = Stems::new();
        assert_eq!(stems.stem("repositories"), stems.stem("repository"));
        assert_eq!(stems.stem("base64"), "base64");
        assert_eq!(stems.stem("搜索"), "搜索");
    }

    #[test]
    fn stop_words_are_sorted() {
        assert!(STOP_WORDS.is_sorted());
    }
}
