//! From the texts of tools to postings.

use std::collections::HashMap;

use super::ToolText;
use super::exact::spelling;
use super::index::{Index, Posting, Rows, ToolRow, idf};
use super::parameters::{self, Part, truncate};
use super::text::{Cut, Stems, is_stop_word, words};
use super::thesaurus::Thesaurus;
use super::vocabulary::{TermId, Vocabulary};
use super::weights::{FIELDS, Field, Weights};

/// Bytes of one description, or of a server's text, that are read.
const TEXT_BYTES: usize = 8 * 1_024;
/// Bytes of a name or title that are read.
const NAME_BYTES: usize = 256;

/// Collects the words of tools, one tool after the other.
#[derive(Debug)]
pub(super) struct Builder {
    stems: Stems,
    /// A word as it is written to its term; `None` for a stop word.
    written: HashMap<Box<str>, (TermId, bool)>,
    terms: HashMap<Box<str>, TermId>,
    /// Every occurrence of the tool at hand.
    occurrences: Vec<(TermId, Field)>,
    counted: Rows<Counted>,
    lengths: Vec<[u32; FIELDS]>,
    names: Rows<TermId>,
    tools: Vec<ToolRow>,
    server_texts: HashMap<(Box<str>, Box<str>), Vec<TermId>>,
    spellings: Vec<(Box<str>, u32)>,
}

/// How often a term is in each field of one tool.
#[derive(Debug, Clone, Copy)]
struct Counted {
    term: TermId,
    counts: [u16; FIELDS],
}

impl Builder {
    pub(super) fn new() -> Self {
        Self {
            stems: Stems::new(),
            written: HashMap::new(),
            terms: HashMap::new(),
            occurrences: Vec::new(),
            counted: Rows::default(),
            lengths: Vec::new(),
            names: Rows::default(),
            tools: Vec::new(),
            server_texts: HashMap::new(),
            spellings: Vec::new(),
        }
    }

    pub(super) fn add(&mut self, ordinal: u32, server: u32, tool: &ToolText<'_>) {
        self.occurrences.clear();
        self.read(tool.name, NAME_BYTES, Field::Name);
        let name = self.terms_since(0);
        self.read(tool.title.unwrap_or_default(), NAME_BYTES, Field::Name);
        let before_server = self.occurrences.len();
        self.read(tool.server, NAME_BYTES, Field::Server);
        let server_name = self.terms_since(before_server);
        self.read(tool.description, TEXT_BYTES, Field::Description);
        parameters::read(tool.input_schema, |part| match part {
            Part::Name(text) => self.read(text, NAME_BYTES, Field::Parameter),
            Part::Description(text) => self.read(text, TEXT_BYTES, Field::ParameterText),
        });
        self.read_server_text(tool);
        self.count();
        self.add_name(name, &server_name);
        let row = u32::try_from(self.tools.len()).unwrap_or(u32::MAX);
        let full = spelling(&format!("{}:{}", tool.server, tool.name));
        self.spellings.extend([(full.into(), row), (spelling(tool.name).into(), row)]);
        self.tools.push(ToolRow { ordinal, server });
    }

    fn terms_since(&self, start: usize) -> Vec<TermId> {
        self.occurrences.iter().skip(start).map(|&(term, _)| term).collect()
    }

    /// Keeps the distinct terms of a tool's name, without the server's that many names begin with.
    fn add_name(&mut self, mut name: Vec<TermId>, server: &[TermId]) {
        name.sort_unstable();
        name.dedup();
        if name.iter().any(|term| !server.contains(term)) {
            name.retain(|term| !server.contains(term));
        }
        self.names.push_row(name);
    }

    fn read(&mut self, text: &str, bytes: usize, field: Field) {
        let Self { stems, written, terms, occurrences, .. } = self;
        words(truncate(text, bytes), |word, cut| {
            let (term, stop) = match written.get(word) {
                Some(&known) => known,
                None => {
                    let stem = if cut == Cut::Bigram { word.into() } else { stems.stem(word) };
                    let next = TermId::try_from(terms.len()).unwrap_or(TermId::MAX);
                    let term = *terms.entry(stem.as_ref().into()).or_insert(next);
                    let new = (term, is_stop_word(word));
                    written.insert(word.into(), new);
                    new
                }
            };
            // A stop word counts in a name: some tools are called `do` or `who`.
            if !stop || field == Field::Name {
                occurrences.push((term, field));
            }
        });
    }

    /// The same for all tools of a server, so it is read once.
    fn read_server_text(&mut self, tool: &ToolText<'_>) {
        let key = (Box::from(tool.server), Box::from(tool.server_text));
        if let Some(terms) = self.server_texts.get(&key) {
            self.occurrences.extend(terms.iter().map(|&term| (term, Field::ServerText)));
            return;
        }
        let start = self.occurrences.len();
        self.read(tool.server_text, TEXT_BYTES, Field::ServerText);
        let new = self.terms_since(start);
        self.server_texts.insert(key, new);
    }

    fn count(&mut self) {
        self.occurrences.sort_unstable();
        let mut lengths = [0_u32; FIELDS];
        let rows = self.occurrences.chunk_by(|a, b| a.0 == b.0).filter_map(|same| {
            let mut counts = [0_u16; FIELDS];
            for &(_, field) in same {
                if let (Some(count), Some(length)) = (counts.get_mut(field as usize), lengths.get_mut(field as usize)) {
                    *count = count.saturating_add(1);
                    *length += 1;
                }
            }
            same.first().map(|&(term, _)| Counted { term, counts })
        });
        self.counted.push_row(rows);
        self.lengths.push(lengths);
    }

    pub(super) fn finish(mut self, servers: Vec<Box<str>>, measure: Option<&Index>, weights: Weights) -> Index {
        self.spellings.sort_unstable();
        self.spellings.dedup();
        let averages = measure.map_or_else(|| averages(&self.lengths), |measure| measure.averages);
        let (vocabulary, places) = sort_terms(self.terms);
        let place = |term: TermId| places.get(term as usize).copied().unwrap_or(TermId::MAX);

        let mut by_term: Vec<Vec<Posting>> = vec![Vec::new(); places.len()];
        for (tool, (counted, lengths)) in self.counted.iter().zip(&self.lengths).enumerate() {
            for entry in counted {
                let frequency = frequency(&entry.counts, lengths, &averages, &weights);
                let posting = Posting {
                    tool: u32::try_from(tool).unwrap_or(u32::MAX),
                    impact: frequency / (weights.saturation + frequency),
                };
                if let Some(postings) = by_term.get_mut(place(entry.term) as usize) {
                    postings.push(posting);
                }
            }
        }
        let mut postings = Rows::default();
        by_term.into_iter().for_each(|row| postings.push_row(row));
        let mut name_terms = Rows::default();
        self.names.iter().for_each(|row| name_terms.push_row(row.iter().map(|&term| place(term))));
        let thesaurus = Thesaurus::new(&self.stems, &vocabulary);
        let all = self.tools.len();
        let idfs = match measure {
            Some(measure) => vocabulary.terms().map(|term| measure.stem_idf(term)).collect(),
            None => postings.iter().map(|with| idf(all, with.len())).collect(),
        };
        Index {
            stems: self.stems,
            vocabulary,
            thesaurus,
            postings,
            name_terms,
            tools: self.tools,
            servers,
            names: self.spellings,
            idfs,
            unknown: measure.map_or_else(|| idf(all, 0), |measure| measure.unknown),
            averages,
            weights,
            beside: None,
        }
    }
}

/// BM25F's frequency: the weighted counts of all fields, each held against its length.
fn frequency(counts: &[u16; FIELDS], lengths: &[u32; FIELDS], averages: &[f32; FIELDS], weights: &Weights) -> f32 {
    let fields = counts.iter().zip(lengths).zip(averages).zip(&weights.fields);
    fields
        .filter(|(((count, _), _), _)| **count > 0)
        .map(|(((&count, &length), &average), field)| {
            field.weight * f32::from(count) / (1.0 - field.length + field.length * length as f32 / average)
        })
        .sum()
}

fn averages(lengths: &[[u32; FIELDS]]) -> [f32; FIELDS] {
    let mut sums = [0.0_f32; FIELDS];
    for row in lengths {
        for (sum, &length) in sums.iter_mut().zip(row) {
            *sum += length as f32;
        }
    }
    sums.map(|sum| (sum / lengths.len().max(1) as f32).max(f32::MIN_POSITIVE))
}

/// The terms in order, and for each number given while reading its place in that order.
fn sort_terms(terms: HashMap<Box<str>, TermId>) -> (Vocabulary, Vec<TermId>) {
    let mut sorted: Vec<(Box<str>, TermId)> = terms.into_iter().collect();
    sorted.sort_unstable();
    let mut places = vec![0; sorted.len()];
    for (place, &(_, given)) in sorted.iter().enumerate() {
        if let Some(slot) = places.get_mut(given as usize) {
            *slot = TermId::try_from(place).unwrap_or(TermId::MAX);
        }
    }
    (Vocabulary::from_sorted(sorted.into_iter().map(|(term, _)| term).collect()), places)
}
