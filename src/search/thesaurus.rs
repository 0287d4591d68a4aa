//! The synonym groups, in terms of one index.

use super::synonyms::{GROUPS, SHORT_FORMS};
use super::text::Stems;
use super::vocabulary::{TermId, Vocabulary};

/// Looks up what else a word may be called in an index.
#[derive(Debug)]
pub(super) struct Thesaurus {
    /// Stem and the group it is in, sorted; a stem may be in several.
    stems: Vec<(Box<str>, usize)>,
    /// The terms of each group that the index has, and whether they are one word written in several ways.
    groups: Vec<(Vec<TermId>, bool)>,
}

impl Thesaurus {
    pub(super) fn new(stems: &Stems, vocabulary: &Vocabulary) -> Self {
        let mut pairs: Vec<(Box<str>, usize)> = Vec::new();
        let mut groups = Vec::with_capacity(SHORT_FORMS.len() + GROUPS.len());
        let lines = SHORT_FORMS.iter().map(|line| (line, true)).chain(GROUPS.iter().map(|line| (line, false)));
        for (group, (line, same)) in lines.enumerate() {
            let members: Vec<Box<str>> = line.split(' ').map(|word| stems.stem(word).as_ref().into()).collect();
            groups.push((members.iter().filter_map(|stem| vocabulary.find(stem)).collect(), same));
            pairs.extend(members.into_iter().map(|stem| (stem, group)));
        }
        pairs.sort_unstable();
        pairs.dedup();
        Self { stems: pairs, groups }
    }

    /// The terms but for `itself` that share a group with `stem`, and whether they are the same word.
    pub(super) fn of(&self, stem: &str, itself: Option<TermId>) -> Vec<(TermId, bool)> {
        let start = self.stems.partition_point(|(known, _)| **known < *stem);
        let same = self.stems.iter().skip(start).take_while(|(known, _)| **known == *stem);
        let groups = same.filter_map(|&(_, group)| self.groups.get(group));
        let terms = groups.flat_map(|(terms, same)| terms.iter().map(|&term| (term, *same)));
        let mut terms: Vec<(TermId, bool)> = terms.filter(|&(term, _)| Some(term) != itself).collect();
        terms.sort_unstable_by_key(|&(term, same)| (term, !same));
        terms.dedup_by_key(|(term, _)| *term);
        terms
    }
}
