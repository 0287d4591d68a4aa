//! The synonym groups, in terms of one index.

use super::synonyms::GROUPS;
use super::text::Stems;
use super::vocabulary::{TermId, Vocabulary};

/// Looks up what else a word may be called in an index.
#[derive(Debug)]
pub(super) struct Thesaurus {
    /// Stem and the group it is in, sorted; a stem may be in several.
    stems: Vec<(Box<str>, usize)>,
    /// The terms of each group that the index has.
    groups: Vec<Vec<TermId>>,
}

impl Thesaurus {
    pub(super) fn new(stems: &Stems, vocabulary: &Vocabulary) -> Self {
        let mut pairs: Vec<(Box<str>, usize)> = Vec::new();
        let mut groups = Vec::with_capacity(GROUPS.len());
        for (group, line) in GROUPS.iter().enumerate() {
            let members: Vec<Box<str>> = line.split(' ').map(|word| stems.stem(word).as_ref().into()).collect();
            groups.push(members.iter().filter_map(|stem| vocabulary.find(stem)).collect());
            pairs.extend(members.into_iter().map(|stem| (stem, group)));
        }
        pairs.sort_unstable();
        pairs.dedup();
        Self { stems: pairs, groups }
    }

    /// The terms that share a group with `stem`, itself perhaps included and none promised to come once.
    pub(super) fn of<'a>(&'a self, stem: &'a str) -> impl Iterator<Item = TermId> + 'a {
        let start = self.stems.partition_point(|(known, _)| **known < *stem);
        let same = self.stems.iter().skip(start).take_while(move |(known, _)| **known == *stem);
        same.filter_map(|&(_, group)| self.groups.get(group)).flatten().copied()
    }
}
