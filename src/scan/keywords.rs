//! The first pass: a few bytes that every secret of some kind has, all looked for at once.
//!
//! A packed searcher is fast while it has few patterns, so the patterns are sorted into groups and each group takes a
//! pass of its own: together they are several times faster than one automaton over all.

use std::ops::Range;
use std::sync::LazyLock;

use aho_corasick::packed::{self, Searcher};
use aho_corasick::{AhoCorasick, AhoCorasickKind, Input, Span};
use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;

use super::tokens::TOKENS;

/// Patterns that one packed searcher takes before it slows down.
const GROUP: usize = 48;

/// What to look for around a keyword.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Probe {
    /// A form of key, by its place in the list.
    Token(usize),
    OpenAi,
    Telegram,
    Azure,
    Atlas,
    Assignment,
    /// Behind a word of so many bytes.
    Bearer(usize),
    Basic(usize),
    Jwt,
    PrivateKey,
    NationalInsurance,
    /// The escape of a character that needs none: somebody may have written a whole key so.
    Escape,
    /// A keyword in base64, so many characters behind the beginning of a group of four.
    Encoded(u8),
    /// An `@`.
    Address,
    /// The code of a character that a URL would not need to encode.
    Percent,
    /// A keyword behind which a space, or what assigns, is percent-encoded.
    Spaced,
    /// A keyword or a group of digits behind which a `+` stands, as forms write a space.
    Formed,
    Number,
    Iban,
}

pub(super) const OPENAI_MARK: &str = "T3BlbkFJ";
pub(super) const ATLAS_MARK: &str = ".atlasv1.";

/// Parts of names, in the spellings that are met.
const NAMES: [&str; 40] = [
    "assw",
    "ASSW",
    "ecret",
    "ECRET",
    "oken",
    "OKEN",
    "pi_key",
    "pi-key",
    "piKey",
    "PiKey",
    "pikey",
    "PI_KEY",
    "PI-KEY",
    "PIKEY",
    "redential",
    "REDENTIAL",
    "ssphrase",
    "SSPHRASE",
    "ivate_key",
    "IVATE_KEY",
    "ivateKey",
    "ccess_key",
    "CCESS_KEY",
    "ccessKey",
    "uth_key",
    "UTH_KEY",
    "uthKey",
    "tion_key",
    "TION_KEY",
    "ning_key",
    "NING_KEY",
    "ster_key",
    "STER_KEY",
    "app_key",
    "pwd",
    "PWD",
    "ennwort",
    "pass\"",
    "pass=",
    "_PASS",
];

/// The first four characters of the headers that JSON Web Tokens have.
const JWT: [&str; 11] = ["eyJh", "eyJ0", "eyJr", "eyJj", "eyJl", "eyJ4", "eyJq", "eyJ6", "eyJp", "eyJi", "eyJw"];

/// Beginnings of keys that are looked for in base64 too.
const ENCODED: [&str; 9] =
    ["ghp_", "github_pat_", "sk-ant-", "sk-proj-", "_live_", "AKIA", "xoxb-", "xoxp-", "-----BEGIN"];

#[derive(Debug)]
enum Group {
    Packed(Searcher, Vec<Probe>),
    /// Where the processor has no vectors.
    Automaton(AhoCorasick, Vec<Probe>),
}

static GROUPS: LazyLock<Vec<Group>> = LazyLock::new(|| groups(keywords()));
/// Of those in base64 alone.
static CODED: LazyLock<Vec<Group>> = LazyLock::new(|| {
    let coded = |(_, probe): &(String, Probe)| matches!(probe, Probe::Encoded(_));
    groups(keywords().into_iter().filter(coded).collect())
});

fn groups(mut keywords: Vec<(String, Probe)>) -> Vec<Group> {
    // One short pattern makes its whole group slow, so they keep to themselves.
    keywords.sort_by(|one, other| (one.0.len() < 4, &one.0).cmp(&(other.0.len() < 4, &other.0)));
    keywords.dedup_by(|one, other| one.0 == other.0);
    let long = keywords.partition_point(|(word, _)| word.len() >= 4);
    let (long, short) = keywords.split_at_mut(long);
    [long, short].into_iter().flat_map(|part| part.chunks_mut(GROUP)).filter_map(group).collect()
}

fn group(keywords: &mut [(String, Probe)]) -> Option<Group> {
    // Where one begins as another does, the longer is meant.
    keywords.sort_by_key(|(word, _)| std::cmp::Reverse(word.len()));
    let words = || keywords.iter().map(|(word, _)| word);
    let probes = keywords.iter().map(|(_, probe)| *probe).collect();
    let packed = packed::Config::new()
        .match_kind(packed::MatchKind::LeftmostFirst)
        .heuristic_pattern_limits(false)
        .builder()
        .extend(words())
        .build();
    match packed {
        Some(searcher) => Some(Group::Packed(searcher, probes)),
        None => {
            let automaton = AhoCorasick::builder()
                .match_kind(aho_corasick::MatchKind::LeftmostFirst)
                .kind(Some(AhoCorasickKind::DFA))
                .build(words());
            // A few hundred bytes of patterns are within every limit that the builder has.
            automaton.ok().map(|automaton| Group::Automaton(automaton, probes))
        }
    }
}

fn keywords() -> Vec<(String, Probe)> {
    let mut all: Vec<(String, Probe)> = Vec::new();
    let mut add = |word: &str, probe| all.push((word.to_owned(), probe));
    TOKENS.iter().enumerate().for_each(|(index, token)| add(token.prefix, Probe::Token(index)));
    NAMES.iter().for_each(|word| add(word, Probe::Assignment));
    JWT.iter().for_each(|word| add(word, Probe::Jwt));
    add(OPENAI_MARK, Probe::OpenAi);
    add(ATLAS_MARK, Probe::Atlas);
    add(":AA", Probe::Telegram);
    ["7Q~", "8Q~", "9Q~"].iter().for_each(|word| add(word, Probe::Azure));
    ["earer ", "EARER "].iter().for_each(|word| add(word, Probe::Bearer(word.len())));
    ["asic ", "ASIC "].iter().for_each(|word| add(word, Probe::Basic(word.len())));
    add("-----BEGIN ", Probe::PrivateKey);
    ["-----BEGIN%20", "earer%20", "asic%20"].iter().for_each(|word| add(word, Probe::Spaced));
    ["-----BEGIN+", "earer+", "EARER+", "asic+", "ASIC+"].iter().for_each(|word| add(word, Probe::Formed));
    ["l insurance", "l Insurance", "NINO", "nino"].iter().for_each(|word| add(word, Probe::NationalInsurance));
    add("\\u00", Probe::Escape);
    let coded = ENCODED.iter().flat_map(|word| in_base64(word));
    coded.for_each(|(skipped, word)| add(&word, Probe::Encoded(skipped)));
    all
}

/// What base64 makes of a word wherever it may begin: the characters that do not depend on what stands around it, and how
/// many of the group of four stand before them.
fn in_base64(word: &str) -> impl Iterator<Item = (u8, String)> + '_ {
    [(0, 0), (1, 2), (2, 3)].into_iter().map(|(before, skipped)| {
        let text = [vec![0; before], word.as_bytes().to_vec()].concat();
        let coded = STANDARD_NO_PAD.encode(&text);
        let whole = coded.get(usize::from(skipped)..text.len() * 8 / 6);
        (skipped, whole.unwrap_or_default().to_owned())
    })
}

/// Gives every keyword of a text, a group at a time, until `each` has enough. One that begins within another is given
/// too: else whoever writes the first would hide the second.
pub(super) fn find(text: &[u8], mut each: impl FnMut(usize, Probe) -> bool) -> bool {
    find_of(&GROUPS, text, |found, probe| each(found.start, probe))
}

/// Gives every keyword that stands in base64, and how many characters of its group of four stand before it.
pub(super) fn find_coded(text: &[u8], mut each: impl FnMut(Range<usize>, u8)) {
    find_of(&CODED, text, |found, probe| {
        if let Probe::Encoded(skipped) = probe {
            each(found, skipped);
        }
        true
    });
}

fn find_of(groups: &[Group], text: &[u8], mut each: impl FnMut(Range<usize>, Probe) -> bool) -> bool {
    groups.iter().all(|group| {
        let mut from = 0;
        loop {
            let rest = Span::from(from..text.len());
            let (found, probes) = match group {
                Group::Packed(searcher, probes) => (searcher.find_in(text, rest), probes),
                Group::Automaton(automaton, probes) => (automaton.find(Input::new(text).span(rest)), probes),
            };
            let Some(found) = found else { return true };
            if probes.get(found.pattern().as_usize()).is_some_and(|probe| !each(found.range(), *probe)) {
                return false;
            }
            from = found.start() + 1;
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_keyword_is_found_and_base64_in_every_place() {
        for (word, probe) in keywords() {
            assert!(word.len() >= 3, "{word}: too short to be looked for fast");
            let mut found = Vec::new();
            find(format!("  {word}  ").as_bytes(), |at, probe| {
                found.push((at, probe));
                true
            });
            assert!(found.iter().any(|(at, other)| *at == 2 && *other == probe), "{word}: {found:?}");
        }
        for before in 0..3 {
            let text = STANDARD_NO_PAD.encode(format!("{}{} and more", "x".repeat(before), ENCODED[1]));
            let mut found = false;
            find(text.as_bytes(), |at, probe| {
                found |= matches!(probe, Probe::Encoded(skipped) if at % 4 == usize::from(skipped));
                true
            });
            assert!(found, "{text}");
        }
    }

    #[test]
    fn no_keyword_hides_another() {
        let words = keywords();
        for (one, _) in &words {
            for (other, probe) in &words {
                for shared in (1..one.len().min(other.len())).filter(|shared| one.ends_with(&other[..*shared])) {
                    let text = format!("{one}{}", &other[shared..]);
                    let mut found = false;
                    find(text.as_bytes(), |at, seen| {
                        found |= at == one.len() - shared && seen == *probe;
                        true
                    });
                    // Unless a longer one begins at the same place.
                    let longer = |word: &str| word.len() > other.len() && text[one.len() - shared..].starts_with(word);
                    assert!(found || words.iter().any(|(word, _)| longer(word)), "{text}: {other}");
                }
            }
        }
    }
}
