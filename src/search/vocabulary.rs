//! The distinct terms of an index, sorted, so that a term is a number and a prefix is a range.

use std::ops::Range;

/// A term's place in the sorted vocabulary.
pub(super) type TermId = u32;

/// Terms that a misspelt word is taken for, at most.
const NEAREST: usize = 3;

#[derive(Debug, Default)]
pub(super) struct Vocabulary {
    terms: Vec<Box<str>>,
    /// For each term the set of its bytes, folded into 32 bits: a cheap lower bound of the edit distance.
    letters: Vec<u32>,
}

impl Vocabulary {
    /// `terms` must be sorted and distinct.
    pub(super) fn from_sorted(terms: Vec<Box<str>>) -> Self {
        debug_assert!(terms.is_sorted(), "a vocabulary is searched by halving");
        let letters = terms.iter().map(|term| letters(term)).collect();
        Self { terms, letters }
    }

    /// All of them, in order.
    pub(super) fn terms(&self) -> impl Iterator<Item = &str> {
        self.terms.iter().map(|term| &**term)
    }

    pub(super) fn find(&self, term: &str) -> Option<TermId> {
        self.terms.binary_search_by(|known| (**known).cmp(term)).ok().map(id)
    }

    /// The terms that begin with `prefix`, itself included.
    pub(super) fn starting_with(&self, prefix: &str) -> Range<TermId> {
        let start = self.terms.partition_point(|term| **term < *prefix);
        let rest = self.terms.get(start..).unwrap_or_default();
        let count = rest.partition_point(|term| term.starts_with(prefix));
        id(start)..id(start + count)
    }

    /// The longest term that `word` begins with, of at least `bytes` bytes.
    pub(super) fn longest_prefix_of(&self, word: &str, bytes: usize) -> Option<TermId> {
        (bytes..word.len()).rev().find_map(|end| self.find(word.get(..end)?))
    }

    /// Terms within `distance` edits (a swap of neighbours is one) that share the first letter: the nearest only.
    pub(super) fn nearest(&self, word: &str, distance: usize) -> Vec<TermId> {
        let Some(first) = word.chars().next() else { return Vec::new() };
        let range = self.starting_with(first.encode_utf8(&mut [0; 4]));
        let wanted = letters(word);
        let mut best = distance;
        let mut found = Vec::new();
        for term in range {
            let (Some(text), Some(&set)) = (self.terms.get(term as usize), self.letters.get(term as usize)) else {
                break;
            };
            let differing = (set ^ wanted).count_ones() as usize;
            if differing > 2 * best || text.len().abs_diff(word.len()) > best {
                continue;
            }
            let edits = strsim::osa_distance(text, word);
            if edits < best {
                best = edits;
                found.clear();
            }
            if edits <= best && found.len() < NEAREST {
                found.push(term);
            }
        }
        found
    }
}

fn id(index: usize) -> TermId {
    TermId::try_from(index).unwrap_or(TermId::MAX)
}

fn letters(term: &str) -> u32 {
    term.bytes().fold(0, |set, byte| set | 1 << (byte & 31))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{prop_assert, prop_assert_eq, proptest};

    use super::Vocabulary;

    fn vocabulary(words: &[&str]) -> Vocabulary {
        let mut words: Vec<Box<str>> = words.iter().map(|&word| word.into()).collect();
        words.sort_unstable();
        words.dedup();
        Vocabulary::from_sorted(words)
    }

    #[test]
    fn prefixes_are_ranges() {
        let words = vocabulary(&["issu", "configur", "config", "confirm", "zip"]);
        assert_eq!(words.starting_with("conf"), 0..3);
        assert_eq!(words.starting_with("zz"), 5..5);
        assert_eq!(words.longest_prefix_of("configmap", 4), words.find("config"));
        assert_eq!(words.longest_prefix_of("zips", 4), None);
    }

    #[test]
    fn the_nearest_spelling_wins() {
        let words = vocabulary(&["kubernet", "kuber", "weather", "whether", "leather"]);
        assert_eq!(words.nearest("kubrenet", 2), [words.find("kubernet").unwrap()]);
        assert_eq!(words.nearest("weahter", 1), [words.find("weather").unwrap()]);
        assert!(words.nearest("xeather", 1).is_empty(), "the first letter is seldom wrong");
        assert!(words.nearest("", 2).is_empty());
    }

    proptest! {
        #[test]
        fn near_terms_are_near(words in proptest::collection::vec("[a-d]{1,6}", 1..20), word in "[a-d]{1,6}") {
            let all = vocabulary(&words.iter().map(String::as_str).collect::<Vec<_>>());
            for term in all.nearest(&word, 2) {
                prop_assert!(strsim::osa_distance(&all.terms[term as usize], &word) <= 2);
            }
            for known in &words {
                prop_assert_eq!(&*all.terms[all.find(known).unwrap() as usize], known.as_str());
                prop_assert!(all.starting_with(known).contains(&all.find(known).unwrap()));
            }
        }
    }
}
