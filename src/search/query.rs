//! From a query's words to weighted terms of the index.

use super::index::Index;
use super::parameters::truncate;
use super::text::{Cut, is_stop_word, words};
use super::vocabulary::TermId;

/// Bytes of a query that are read.
const QUERY_BYTES: usize = 4_096;
/// Distinct words of a query that are used.
const WORDS: usize = 64;
/// Unknown words for which something like them is looked for.
const GUESSES: usize = 8;
/// Terms that a beginning may stand for.
const COMPLETIONS: usize = 6;

/// A term to score.
#[derive(Debug, Clone, Copy)]
pub(super) struct Term {
    pub(super) id: TermId,
    /// What an impact of 1 adds to a tool's score.
    pub(super) weight: f32,
    /// Which word of the query it stands for.
    pub(super) need: u8,
    /// How surely it does, 0 to 1.
    pub(super) likeness: f32,
    /// How much of that word a tool with the term speaks of, 0 to 1.
    pub(super) covers: f32,
}

/// A query in terms of one index.
#[derive(Debug, Default)]
pub(super) struct Query {
    pub(super) terms: Vec<Term>,
    /// For each word of the query how much it says about whether a tool serves: its idf, as a rule.
    pub(super) needs: Vec<f32>,
    /// Each term once and how surely it is meant, by term.
    pub(super) meant: Vec<(TermId, f32)>,
}

impl Query {
    /// Brings the terms of a word together, the surest first.
    fn finish(&mut self) {
        self.meant = self.terms.iter().map(|term| (term.id, term.likeness)).collect();
        self.meant.sort_unstable_by(|a, b| a.0.cmp(&b.0).then(b.1.total_cmp(&a.1)));
        self.meant.dedup_by_key(|(id, _)| *id);
        self.terms
            .sort_unstable_by(|a, b| a.need.cmp(&b.need).then(b.likeness.total_cmp(&a.likeness)).then(a.id.cmp(&b.id)));
    }

    /// How surely the query means `term`, 0 to 1.
    pub(super) fn likeness(&self, term: TermId) -> f32 {
        let place = self.meant.binary_search_by_key(&term, |&(id, _)| id);
        place.ok().and_then(|place| self.meant.get(place)).map_or(0.0, |&(_, likeness)| likeness)
    }
}

/// A word of the query.
struct Word {
    written: String,
    stem: String,
    cut: Cut,
}

impl Index {
    /// Reads a query. `measure` says how much words say that are unknown here: to this index itself, as a rule.
    pub(super) fn analyze(&self, text: &str, measure: &Self) -> Query {
        let all = self.read_words(text);
        let mut query = Query::default();
        let mut guesses = GUESSES;
        let mut seen: Vec<&str> = Vec::new();
        for word in &all {
            if seen.len() < WORDS && !seen.contains(&word.stem.as_str()) {
                seen.push(&word.stem);
                self.add_word(word, measure, &mut query, &mut guesses);
            }
        }
        self.add_joins(&all, &seen, &mut query);
        query.finish();
        query
    }

    /// The words but for stop words; those too where there is nothing else.
    fn read_words(&self, text: &str) -> Vec<Word> {
        let mut all = Vec::new();
        words(truncate(text, QUERY_BYTES), |word, cut| {
            all.push(Word { written: word.to_owned(), stem: self.stems.stem(word).into_owned(), cut });
        });
        if all.iter().any(|word| !is_stop_word(&word.written)) {
            all.retain(|word| !is_stop_word(&word.written));
        }
        all
    }

    fn add_word(&self, word: &Word, measure: &Self, query: &mut Query, guesses: &mut usize) {
        let weights = &self.weights;
        let need = number(query.needs.len());
        let known = self.vocabulary.find(&word.stem);
        let idf = known.map_or_else(|| measure.stem_idf(&word.stem), |id| self.term_idf(id));
        let mut says = if word.is_number() { weights.number * idf } else { idf };
        let mut push = |id, share: f32, idf: f32, covers: f32| {
            query.terms.push(Term { id, weight: share * idf, need, likeness: share, covers });
        };
        if let Some(id) = known {
            push(id, 1.0, idf, 1.0);
        }
        let others = self.thesaurus.of(&word.stem, known);
        for &(id, same) in &others {
            let (share, covers) =
                if same { (weights.short_form, 1.0) } else { (weights.synonym, weights.synonym_covers) };
            push(id, share, idf.min(self.term_idf(id)), covers);
        }
        if known.is_none() && !others.is_empty() {
            // A word that only the thesaurus knows says what its synonyms say.
            says = others.iter().map(|&(id, _)| self.term_idf(id)).fold(0.0, f32::max);
        } else if known.or_else(|| measure.vocabulary.find(&word.stem)).is_none()
            && word.cut == Cut::Whole
            && *guesses > 0
        {
            *guesses -= 1;
            for id in self.resembling(word) {
                push(id, weights.resemblance, self.term_idf(id), weights.resemblance);
            }
        }
        query.needs.push(says);
    }

    /// What an unknown word may mean: two known words in one, the start of a longer one, or a slip of the pen.
    fn resembling(&self, word: &Word) -> Vec<TermId> {
        if let Some(pair) = self.split(&word.written) {
            return pair.to_vec();
        }
        let letters = word.stem.len();
        if letters >= 4 {
            let longer = self.vocabulary.starting_with(&word.stem);
            if !longer.is_empty() {
                return longer.take(COMPLETIONS).collect();
            }
        }
        let distance = match letters {
            0..=4 => 0,
            5..=8 => 1,
            _ => 2,
        };
        let near = if distance > 0 { self.vocabulary.nearest(&word.stem, distance) } else { Vec::new() };
        if near.is_empty() {
            // `postgresql` where the tools say `postgres`.
            return self.vocabulary.longest_prefix_of(&word.stem, (letters * 2 / 3).max(5)).into_iter().collect();
        }
        near
    }

    /// Two known terms that `word` is made of, the pair that says most.
    fn split(&self, word: &str) -> Option<[TermId; 2]> {
        let cuts = word.char_indices().map(|(at, _)| at).filter(|&at| at >= 3 && word.len() - at >= 3);
        let pairs = cuts.filter_map(|at| {
            let (left, right) = word.split_at(at);
            let left = self.vocabulary.find(&self.stems.stem(left))?;
            let right = self.vocabulary.find(&self.stems.stem(right))?;
            Some(([left, right], self.term_idf(left).min(self.term_idf(right))))
        });
        pairs.max_by(|a, b| a.1.total_cmp(&b.1)).map(|(pair, _)| pair)
    }

    /// `deep writer` also means `deepwriter`, where there is such a term; it covers both words.
    fn add_joins(&self, all: &[Word], seen: &[&str], query: &mut Query) {
        let whole: Vec<&Word> = all.iter().filter(|word| word.cut == Cut::Whole).take(WORDS).collect();
        let need = |word: &Word| seen.iter().position(|stem| *stem == word.stem).map(number);
        for pair in whole.windows(2) {
            let &[left, right] = pair else { continue };
            let joined = format!("{}{}", left.written, right.written);
            let Some(id) = self.vocabulary.find(&self.stems.stem(&joined)) else { continue };
            let term = |weight, need| Term { id, weight, need, likeness: 1.0, covers: 1.0 };
            query.terms.extend(need(left).map(|need| term(self.term_idf(id), need)));
            query.terms.extend(need(right).map(|need| term(0.0, need)));
        }
    }
}

impl Word {
    fn is_number(&self) -> bool {
        self.written.bytes().all(|byte| byte.is_ascii_digit())
    }
}

fn number(index: usize) -> u8 {
    u8::try_from(index).unwrap_or(u8::MAX)
}
