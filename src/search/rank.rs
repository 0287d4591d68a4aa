//! Scoring, the floor, and the order of hits.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use super::index::Index;
use super::query::Query;
use super::{Found, Hit, MOST_MATCHES, SearchOptions};

/// A term covers its word in full from an impact of one over this.
const PASSING: f32 = 2.5;

/// A tool that has a term of the query.
#[derive(Debug, Clone, Copy)]
struct Candidate {
    /// Row of the tool.
    row: u32,
    /// The query is this tool's name.
    named: bool,
    score: f32,
    /// How much of the query the tool speaks of, 0 to 1 by idf.
    covered: f32,
}

/// What one index has to say to a query.
#[derive(Debug, Default)]
struct Pool {
    /// Best first.
    candidates: Vec<Candidate>,
    /// The best score.
    top: f32,
}

impl Ord for Candidate {
    /// The better one is greater; equals stand in the order of server and name.
    fn cmp(&self, other: &Self) -> Ordering {
        let by_score = self.named.cmp(&other.named).then(self.score.total_cmp(&other.score));
        by_score.then(other.row.cmp(&self.row))
    }
}

impl PartialOrd for Candidate {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Candidate {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Candidate {}

impl Index {
    /// Finds the tools that serve `query`, best first; nothing where none does.
    ///
    /// A query that is a tool's name (`server:tool`, `server.tool`, `server__tool`, or the tool's alone) gives that
    /// tool first; a query without words gives the tools of `options.server` by name.
    ///
    /// `visible` says whether the caller may see a tool of those given to [`Index::build`]. A tool that it hides
    /// takes no place and sets no floor; it only counts in how rare words are and how well its server fits. It is asked about candidates from the best downwards and
    /// only until [`MOST_MATCHES`] are visible or the rest is below the floor, so it may cost something.
    pub fn search(&self, query: &str, options: &SearchOptions<'_>, visible: impl Fn(u32) -> bool) -> Found {
        let pool = self.pool(query, self, options, &visible);
        let beside = self.beside.as_ref().map(|beside| beside.pool(query, self, options, &visible));
        let (mut beside, top) = match beside {
            Some(beside) => (beside.candidates, pool.top.max(beside.top)),
            None => (Vec::new(), pool.top),
        };
        beside.retain(|candidate| candidate.named || candidate.score >= self.weights.relative_floor * top);
        let matches = (pool.candidates.len() + beside.len()).min(MOST_MATCHES);
        let beside = beside.into_iter().map(|candidate| (candidate, self.beside.as_deref()));
        let mut all: Vec<(Candidate, Option<&Self>)> =
            pool.candidates.into_iter().map(|candidate| (candidate, Some(self))).chain(beside).collect();
        // What stands beside comes behind its equals.
        all.sort_by(|(one, _), (other, _)| other.named.cmp(&one.named).then(other.score.total_cmp(&one.score)));
        let hits = all.iter().take(options.limit).filter_map(|(candidate, index)| {
            let lead = if candidate.named { top } else { 0.0 };
            Some(Hit { tool: index.and_then(|index| index.ordinal(candidate.row))?, score: candidate.score + lead })
        });
        Found { hits: hits.collect(), matches }
    }

    /// The tools of this index alone that serve `query`, best first.
    fn pool(&self, query: &str, measure: &Self, options: &SearchOptions<'_>, visible: impl Fn(u32) -> bool) -> Pool {
        let server = match options.server.map(|name| self.server(name)) {
            Some(None) => return Pool::default(),
            Some(Some(place)) => Some(place),
            None => None,
        };
        let words = self.analyze(query, measure);
        let mut candidates = match server {
            Some(server) if words.needs.is_empty() => self.all_of(server),
            _ => self.score(&words, server),
        };
        self.mark_named(query, server, &mut candidates);
        self.best(candidates, &words, visible)
    }

    fn server(&self, name: &str) -> Option<u32> {
        let place = self.servers.binary_search_by(|known| (**known).cmp(name)).ok()?;
        u32::try_from(place).ok()
    }

    fn all_of(&self, server: u32) -> Vec<Candidate> {
        let rows = (0..).zip(&self.tools).filter(|(_, tool)| tool.server == server);
        rows.map(|(row, _)| Candidate { row, named: false, score: 0.0, covered: 1.0 }).collect()
    }

    fn score(&self, query: &Query, server: Option<u32>) -> Vec<Candidate> {
        let mut cells = vec![Cell::default(); self.tools.len()];
        for term in &query.terms {
            let need = u32::from(term.need) + 1;
            let covers = term.covers * query.needs.get(usize::from(term.need)).copied().unwrap_or(0.0);
            for posting in self.postings.row(term.id) {
                let Some(cell) = cells.get_mut(posting.tool as usize) else { continue };
                let first = cell.need != need;
                if first {
                    (cell.need, cell.speaks) = (need, 0.0);
                }
                cell.score += term.weight * posting.impact * if first { 1.0 } else { self.weights.again };
                // A word in passing, deep in the parameters, covers less than one in the description.
                let speaks = covers * (PASSING * posting.impact).min(1.0);
                if speaks > cell.speaks {
                    cell.covered += speaks - cell.speaks;
                    cell.speaks = speaks;
                }
            }
        }
        let means = self.server_means(&cells);
        let all: f32 = query.needs.iter().sum();
        let rows = (0..).zip(cells).zip(&self.tools);
        let wanted = rows.filter(|((_, cell), tool)| cell.score > 0.0 && server.is_none_or(|only| only == tool.server));
        let candidates = wanted.map(|((row, cell), tool)| {
            let mean = means.get(tool.server as usize).copied().unwrap_or(0.0);
            let covered = cell.covered / all;
            let score = (cell.score + self.weights.siblings * mean) * (1.0 + self.weights.query_coverage * covered);
            Candidate { row, named: false, score, covered }
        });
        candidates.collect()
    }

    /// The mean score of each server's tools: that its other tools fit speaks for a tool.
    fn server_means(&self, cells: &[Cell]) -> Vec<f32> {
        let mut sums = vec![(0.0_f32, 0.0_f32); self.servers.len()];
        for (cell, tool) in cells.iter().zip(&self.tools) {
            if let Some((sum, count)) = sums.get_mut(tool.server as usize) {
                *sum += cell.score;
                *count += 1.0;
            }
        }
        sums.into_iter().map(|(sum, count)| sum / count.max(1.0)).collect()
    }

    fn mark_named(&self, query: &str, server: Option<u32>, candidates: &mut Vec<Candidate>) {
        for row in self.named(query) {
            match candidates.binary_search_by_key(&row, |candidate| candidate.row) {
                Ok(place) => candidates.get_mut(place).into_iter().for_each(|candidate| candidate.named = true),
                Err(place)
                    if server.is_none_or(|only| self.tools.get(row as usize).is_some_and(|t| t.server == only)) =>
                {
                    candidates.insert(place, Candidate { row, named: true, score: 0.0, covered: 1.0 });
                }
                Err(_) => {}
            }
        }
    }

    fn best(&self, candidates: Vec<Candidate>, query: &Query, visible: impl Fn(u32) -> bool) -> Pool {
        let weights = &self.weights;
        let mut heap = BinaryHeap::from(candidates);
        let mut pool: Vec<Candidate> = Vec::new();
        let (mut top, mut serves) = (0.0_f32, false);
        while let Some(mut candidate) = heap.pop() {
            // Covering the name lifts a score by at most so much, so the rest is below the floor too.
            let hopeless = candidate.score * (1.0 + weights.name_coverage) < weights.relative_floor * top;
            if pool.len() >= MOST_MATCHES || hopeless && !candidate.named {
                break;
            }
            if self.ordinal(candidate.row).is_some_and(&visible) {
                serves |= candidate.named || candidate.covered >= self.floor(query.needs.len());
                candidate.score *= 1.0 + weights.name_coverage * self.name_coverage(candidate.row, query);
                top = top.max(candidate.score);
                pool.push(candidate);
            }
        }
        if !serves {
            return Pool::default();
        }
        pool.retain(|candidate| candidate.named || candidate.score >= weights.relative_floor * top);
        pool.sort_unstable_by(|a, b| b.cmp(a));
        Pool { candidates: pool, top }
    }

    /// The share of a query of so many words that the best candidate has to cover, else no tool serves it.
    ///
    /// A long query is full of circumstances that no tool mentions, so the share falls with its length.
    fn floor(&self, needs: usize) -> f32 {
        let weights = &self.weights;
        (weights.floor / (needs as f32).powf(weights.floor_power)).min(weights.most_floor)
    }

    fn ordinal(&self, row: u32) -> Option<u32> {
        self.tools.get(row as usize).map(|tool| tool.ordinal)
    }

    /// How much of a tool's name the query says, 0 to 1 by idf.
    fn name_coverage(&self, row: u32, query: &Query) -> f32 {
        let (mut said, mut all) = (0.0, 0.0);
        for &term in self.name_terms.row(row) {
            let idf = self.term_idf(term);
            all += idf;
            said += idf * query.likeness(term);
        }
        if all > 0.0 { said / all } else { 0.0 }
    }
}

/// What a tool has gathered so far.
#[derive(Debug, Clone, Copy, Default)]
struct Cell {
    score: f32,
    /// The idf of the query's words that the tool has.
    covered: f32,
    /// One more than the word that was counted last, and how much of it the tool has.
    need: u32,
    speaks: f32,
}
