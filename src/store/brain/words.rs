//! Text to words: runs of letters and digits in lower case, each character by itself in scripts without spaces. What is
//! indexed and what is looked for are cut alike, so nothing that somebody types is ever syntax of the index.

use std::collections::HashSet;

use serde_json::{Map, Value};

/// Bytes of a word; what is longer counts by its beginning.
const WORD_BYTES: usize = 64;
/// Different words of an entity that are indexed.
const MOST_WORDS: usize = 4096;

/// Calls `each` with every word of a text, in order.
pub fn words(text: &str, mut each: impl FnMut(&str)) {
    let mut word = String::new();
    for c in text.chars().chain(std::iter::once(' ')) {
        let alone = is_dense(c);
        if (alone || !c.is_alphanumeric()) && !word.is_empty() {
            each(&word);
            word.clear();
        }
        if c.is_alphanumeric() && word.len() < WORD_BYTES {
            // A capital may be a letter and a mark.
            word.extend(c.to_lowercase().filter(|lower| lower.is_alphanumeric()));
        }
        if alone && !word.is_empty() {
            each(&word);
            word.clear();
        }
    }
}

/// The words of a text, in order.
#[must_use]
pub fn words_of(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    words(text, |word| found.push(word.to_owned()));
    found
}

/// Calls `each` with the text of every string and number inside a value.
pub fn texts(value: &Value, each: &mut dyn FnMut(&str)) {
    match value {
        Value::String(text) => each(text),
        Value::Number(number) => each(&number.to_string()),
        Value::Array(items) => items.iter().for_each(|item| texts(item, each)),
        Value::Object(members) => members.values().for_each(|member| texts(member, each)),
        Value::Null | Value::Bool(_) => {}
    }
}

/// The different words of an entity, as they are indexed.
pub(super) fn indexed(key: &str, body: &Map<String, Value>) -> String {
    let (mut seen, mut line) = (HashSet::new(), String::new());
    let mut add = |text: &str| {
        words(text, |word| {
            if seen.len() < MOST_WORDS && !seen.contains(word) {
                seen.insert(word.to_owned());
                if !line.is_empty() {
                    line.push(' ');
                }
                line.push_str(word);
            }
        });
    };
    add(key);
    body.values().for_each(|value| texts(value, &mut add));
    line
}

/// Whether a script is written without spaces between its words.
const fn is_dense(c: char) -> bool {
    matches!(c, '\u{0e00}'..='\u{0eff}' | '\u{1000}'..='\u{109f}' | '\u{1780}'..='\u{17ff}' | '\u{3040}'..='\u{30ff}'
        | '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}' | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{3ffff}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn words_are_letters_and_digits_in_lower_case() {
        assert_eq!(
            words_of("ACME-Corp (EU): \"x\" AND NOT y* ^z"),
            ["acme", "corp", "eu", "x", "and", "not", "y", "z"]
        );
        assert_eq!(words_of("Müller, 12.50 €"), ["müller", "12", "50"]);
        assert_eq!(words_of("日本語abc"), ["日", "本", "語", "abc"]);
        assert_eq!(words_of("\0 \"'* "), [""; 0]);
        assert_eq!(words_of(&"x".repeat(100)), ["x".repeat(64)]);
    }

    #[test]
    fn an_entity_is_indexed_by_each_word_once() {
        let body = json!({"name": "Acme acme", "tags": ["a", {"b": "ACME two"}], "n": 7, "no": true, "null": null});
        assert_eq!(indexed("c-1", body.as_object().unwrap()), "c 1 acme a two 7");
    }

    proptest! {
        #[test]
        fn a_word_is_cut_no_further(text in "\\PC{0,40}") {
            for word in words_of(&text) {
                prop_assert!(word.chars().all(char::is_alphanumeric), "{word}");
                prop_assert_eq!(words_of(&word), [word.clone()]);
            }
        }
    }
}
