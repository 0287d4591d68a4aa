//! The index: postings by term, and what ranking needs of each tool.

use super::exact::spelling;
use super::text::Stems;
use super::thesaurus::Thesaurus;
use super::vocabulary::{TermId, Vocabulary};
use super::weights::{FIELDS, Weights};

/// An immutable index over a catalogue of tools. Searching takes `&self` and no lock.
#[derive(Debug)]
pub struct Index {
    pub(super) stems: Stems,
    pub(super) vocabulary: Vocabulary,
    pub(super) thesaurus: Thesaurus,
    /// Row `t` holds the tools with term `t`.
    pub(super) postings: Rows<Posting>,
    /// Row `n` holds the distinct terms of tool `n`'s name.
    pub(super) name_terms: Rows<TermId>,
    /// In the order of server and name, which is the order of equals.
    pub(super) tools: Vec<ToolRow>,
    /// Sorted.
    pub(super) servers: Vec<Box<str>>,
    /// Spellings that name a tool outright (see `exact`) and its row, sorted.
    pub(super) names: Vec<(Box<str>, u32)>,
    /// How much each term says.
    pub(super) idfs: Vec<f32>,
    /// How much a word says that no tool has.
    pub(super) unknown: f32,
    /// The mean length of each field.
    pub(super) averages: [f32; FIELDS],
    pub(super) weights: Weights,
    /// Tools that are searched too, without counting in anything above.
    pub(super) beside: Option<Box<Self>>,
}

/// How much a term says that so many of all tools have: BM25's idf, never negative.
pub(super) fn idf(all: usize, with: usize) -> f32 {
    let (all, with) = (all as f32, with as f32);
    (1.0 + (all - with + 0.5) / (with + 0.5)).ln()
}

/// A term in one tool.
#[derive(Debug, Clone, Copy)]
pub(super) struct Posting {
    /// Row of the tool.
    pub(super) tool: u32,
    /// The saturated frequency, 0 to 1: all of BM25F but the idf.
    pub(super) impact: f32,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct ToolRow {
    /// Which tool it was of those given to `build`.
    pub(super) ordinal: u32,
    /// Place in `servers`.
    pub(super) server: u32,
}

impl Index {
    /// How much a term says.
    pub(super) fn term_idf(&self, term: TermId) -> f32 {
        self.idfs.get(term as usize).copied().unwrap_or(self.unknown)
    }

    /// How much a word says, known or not.
    pub(super) fn stem_idf(&self, stem: &str) -> f32 {
        self.vocabulary.find(stem).map_or(self.unknown, |term| self.term_idf(term))
    }

    /// The rows of the tools that `text` is the name of.
    pub(super) fn named(&self, text: &str) -> Vec<u32> {
        let key = spelling(text);
        if key.is_empty() {
            return Vec::new();
        }
        let start = self.names.partition_point(|(known, _)| **known < *key);
        let rest = self.names.get(start..).unwrap_or_default();
        rest.iter().take_while(|(known, _)| **known == *key).map(|&(_, row)| row).collect()
    }

    /// How many tools it holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.tools.len()
    }

    /// True where it holds no tool.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tools.is_empty()
    }
}

/// Rows of different lengths in one allocation.
#[derive(Debug)]
pub(super) struct Rows<T> {
    ends: Vec<u32>,
    items: Vec<T>,
}

impl<T> Default for Rows<T> {
    fn default() -> Self {
        Self { ends: Vec::new(), items: Vec::new() }
    }
}

impl<T> Rows<T> {
    pub(super) fn push_row(&mut self, row: impl IntoIterator<Item = T>) {
        self.items.extend(row);
        self.ends.push(u32::try_from(self.items.len()).unwrap_or(u32::MAX));
    }

    /// Row `index`; empty where there is none.
    pub(super) fn row(&self, index: u32) -> &[T] {
        let index = index as usize;
        let start = index.checked_sub(1).map_or(Some(0), |before| self.ends.get(before).copied());
        let range = start.zip(self.ends.get(index).copied()).map(|(start, end)| start as usize..end as usize);
        range.and_then(|range| self.items.get(range)).unwrap_or_default()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &[T]> {
        (0..self.ends.len()).map(|index| self.row(u32::try_from(index).unwrap_or(u32::MAX)))
    }
}
