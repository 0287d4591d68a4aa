//! Finding: from the index that has the fewest, each entity compared again with what may be seen of it.

use std::ops::ControlFlow;
use std::rc::Rc;

use serde_json::{Map, Value};

use super::QueryError;
use super::cursor::{Cursor, Place};
use super::filter::Condition;
use super::rank::score;
use super::sum::{Adding, Aggregates};
use super::view::{Field, Seen, Types};
use crate::store::brain::{Found, Holds, Indexed, Source, TypeId};

/// Entities that are ranked, and matches that are counted: beyond, they come in the order of their numbers.
const WINDOW: usize = 500;
/// Entities that are looked at for a count alone.
const COUNTED: usize = 10_000;
/// How far sources are counted to find the smallest.
const ESTIMATED: u64 = 2_000;
/// Entities whose field is the query itself, looked for beyond the window.
const EXACT_HITS: u64 = 20;
/// Words that are each looked for so, where any will do.
const EXACT_WORDS: usize = 4;
/// Attributes that are looked through for them.
const EXACT_FIELDS: usize = 32;
/// Conditions that an index is asked about before an entity is read.
const MAX_HOLDS: usize = 8;

/// An entity that matches, as far as it may be seen.
#[derive(Debug)]
pub(super) struct Hit {
    pub(super) seen: Rc<Seen>,
    pub(super) place: Place,
    /// A JSON string; `null` where it may not be seen.
    pub(super) key: Value,
    pub(super) body: Map<String, Value>,
}

/// Some of the hits, in their order.
#[derive(Debug, Default)]
pub(super) struct Page {
    pub(super) hits: Vec<Hit>,
    /// Whether there are more behind.
    pub(super) more: bool,
    pub(super) total: u64,
    /// Whether `total` is all of them, or only all that were counted.
    pub(super) exact: bool,
}

/// One question, and where its answers are.
pub(super) struct Search<'t, 'a> {
    types: &'t mut Types<'a>,
    seen: Option<Rc<Seen>>,
    /// As it was typed.
    text: String,
    words: Vec<String>,
    any: bool,
    conditions: Vec<Condition>,
    source: Origin,
    /// What is asked of the index of what a stream gives.
    holds: Vec<Holds>,
}

/// Where entities are looked for.
#[derive(Debug)]
enum Origin {
    /// One source, in the order of numbers.
    Stream(Source),
    /// These alone.
    These(Vec<i64>),
}

impl<'t, 'a> Search<'t, 'a> {
    pub(super) fn new(
        types: &'t mut Types<'a>,
        seen: Option<Rc<Seen>>,
        (text, words): (&str, Vec<String>),
        conditions: Vec<Condition>,
    ) -> Result<Self, QueryError> {
        let source = Origin::Stream(Source::All);
        let text = text.trim().to_owned();
        let mut search = Self { types, seen, text, words, any: false, conditions, source, holds: Vec::new() };
        search.choose()?;
        Ok(search)
    }

    /// Whether entities with any of the words are found, since none has all.
    pub(super) const fn any(&self) -> bool {
        self.any
    }

    fn range(&self) -> Option<TypeId> {
        self.seen.as_ref().map(|seen| seen.kind.id)
    }

    /// Chooses where to look: where the fewest are.
    fn choose(&mut self) -> Result<(), QueryError> {
        self.source = self.smallest()?;
        let attributes = self.seen.iter().flat_map(|seen| &seen.attributes);
        // Of a long list not every item is in the index.
        let plain: Vec<i64> = attributes.filter(|one| one.kinds.lists == 0).map(|one| one.id).collect();
        let asked = self.conditions.iter().filter_map(Condition::asks).filter(|asked| plain.contains(&asked.attribute));
        self.holds = asked.take(MAX_HOLDS).collect();
        Ok(())
    }

    /// The source with the fewest entities.
    fn smallest(&self) -> Result<Origin, QueryError> {
        let (reading, range) = (self.types.reading, self.range());
        let words = Source::Words { words: self.words.clone(), any: self.any };
        // Common words cost something to count, and nothing is to be chosen.
        let alternatives = range.is_some_and(|id| self.conditions.iter().any(|one| one.sources(id).is_some()));
        if !self.words.is_empty() && !alternatives {
            return Ok(Origin::Stream(words));
        }
        let mut best = if self.words.is_empty() {
            (self.seen.as_ref().map_or(u64::MAX, |seen| seen.kind.entities), Origin::Stream(Source::All))
        } else {
            match reading.count(range, &words, ESTIMATED)? {
                0 => return Ok(Origin::These(Vec::new())),
                count => (count, Origin::Stream(words)),
            }
        };
        let Some(id) = range else { return Ok(best.1) };
        for sources in self.conditions.iter().filter_map(|condition| condition.sources(id)) {
            let mut counted = Vec::with_capacity(sources.len());
            for source in sources {
                let count = reading.count(range, &source, ESTIMATED)?;
                counted.extend((count > 0).then_some((count, source)));
            }
            let sum = counted.iter().map(|(count, _)| count).sum();
            if sum >= best.0 {
                continue;
            }
            best = match counted.as_slice() {
                [(_, source @ (Source::Value { .. } | Source::Key(..)))] => (sum, Origin::Stream(source.clone())),
                // More than are listed come in the order of numbers only from a stream.
                _ if sum >= ESTIMATED => continue,
                several => {
                    let mut ids = Vec::new();
                    for (_, source) in several {
                        ids.extend(reading.ids(range, source, ESTIMATED)?);
                    }
                    ids.sort_unstable();
                    ids.dedup();
                    (sum, Origin::These(ids))
                }
            };
        }
        Ok(best.1)
    }

    /// Calls `each` with every match behind `after`, in the order of numbers, until it breaks.
    fn matches(
        &mut self,
        after: i64,
        mut each: impl FnMut(i64, u32, Hit) -> Result<ControlFlow<()>, QueryError>,
    ) -> Result<(), QueryError> {
        let reading = self.types.reading;
        let range = self.range();
        let Self { types, seen, words, any, conditions, source, holds, .. } = self;
        let mut judge = |found: Found| -> Result<ControlFlow<()>, QueryError> {
            let id = found.id;
            match matching(types, seen.as_ref(), words, *any, conditions, found)? {
                Some((score, hit)) => each(id, score, hit),
                None => Ok(ControlFlow::Continue(())),
            }
        };
        match source {
            Origin::Stream(source) => reading.stream(range, (source, holds), after, judge),
            Origin::These(ids) => {
                for id in ids.iter().filter(|id| **id > after) {
                    if let Some(found) = reading.entity(*id)?
                        && judge(found)?.is_break()
                    {
                        break;
                    }
                }
                Ok(())
            }
        }
    }

    /// A page of the matches: of what has words in it the best first, else in the order of numbers.
    pub(super) fn page(&mut self, limit: usize, cursor: Option<&Cursor>) -> Result<Page, QueryError> {
        if self.words.is_empty() {
            return self.numbered(limit, cursor);
        }
        if let Some(cursor) = cursor.filter(|cursor| cursor.any != self.any) {
            self.widen(cursor.any)?;
        }
        let page = self.ranked(limit, cursor)?;
        if page.total == 0 && self.words.len() > 1 && !self.any {
            self.widen(true)?;
            return self.ranked(limit, cursor);
        }
        Ok(page)
    }

    fn widen(&mut self, any: bool) -> Result<(), QueryError> {
        self.any = any;
        self.choose()
    }

    fn numbered(&mut self, limit: usize, cursor: Option<&Cursor>) -> Result<Page, QueryError> {
        let after = match cursor {
            Some(Cursor { place: Place::Numbered(id) | Place::Ranked(_, id), .. }) => *id,
            None => i64::MIN,
        };
        let all = self.seen.as_ref().filter(|_| self.conditions.is_empty()).map(|seen| seen.kind.entities);
        let known = cursor.map(|cursor| (cursor.total, cursor.exact)).or_else(|| all.map(|count| (count, true)));
        let (mut page, mut counted) = (Page { exact: true, ..Page::default() }, 0_usize);
        self.matches(after, |_, _, hit| {
            counted += 1;
            page.total += 1;
            if page.hits.len() < limit {
                page.hits.push(hit);
            } else {
                page.more = true;
                if known.is_some() {
                    return Ok(ControlFlow::Break(()));
                }
            }
            if counted >= COUNTED.max(limit) {
                page.exact = false;
                return Ok(ControlFlow::Break(()));
            }
            Ok(ControlFlow::Continue(()))
        })?;
        if let Some((total, exact)) = known {
            (page.total, page.exact) = (total, exact);
        }
        Ok(page)
    }

    fn ranked(&mut self, limit: usize, cursor: Option<&Cursor>) -> Result<Page, QueryError> {
        let (mut window, mut full) = (Vec::new(), false);
        self.matches(i64::MIN, |id, score, _| {
            window.push((score, id));
            full = window.len() >= WINDOW;
            Ok(if full { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        })?;
        let last = window.last().map_or(i64::MIN, |(_, id)| *id);
        let beyond = if full { self.exact_hits(last)? } else { Vec::new() };
        let mut page = Page { total: window.len() as u64, exact: !full, ..Page::default() };
        window.extend(&beyond);
        window.sort_unstable_by_key(|(score, id)| (std::cmp::Reverse(*score), *id));
        let (start, mut tail) = match cursor.map(|cursor| cursor.place) {
            None => (0, last),
            Some(Place::Ranked(score, id)) => {
                let passed =
                    |other: &(u32, i64)| (std::cmp::Reverse(other.0), other.1) <= (std::cmp::Reverse(score), id);
                (window.iter().take_while(|other| passed(other)).count(), last)
            }
            Some(Place::Numbered(id)) => (window.len(), id.max(last)),
        };
        for (score, id) in window.iter().skip(start) {
            if page.hits.len() == limit {
                page.more = true;
                return Ok(page);
            }
            let found = self.types.reading.entity(*id)?;
            let Some(found) = found else { continue };
            let matched = matching(self.types, self.seen.as_ref(), &self.words, self.any, &self.conditions, found)?;
            page.hits.extend(matched.map(|(_, hit)| Hit { place: Place::Ranked(*score, *id), ..hit }));
        }
        if full {
            tail = tail.max(last);
            self.matches(tail, |id, _, hit| {
                if beyond.iter().any(|(_, exact)| *exact == id) {
                    return Ok(ControlFlow::Continue(()));
                }
                if page.hits.len() == limit {
                    page.more = true;
                    return Ok(ControlFlow::Break(()));
                }
                page.hits.push(hit);
                Ok(ControlFlow::Continue(()))
            })?;
        }
        Ok(page)
    }

    /// Entities behind `last` whose field is what is looked for and nothing besides: they are meant, however many others
    /// have the words too.
    fn exact_hits(&mut self, last: i64) -> Result<Vec<(u32, i64)>, QueryError> {
        let Some(seen) = self.seen.clone() else { return Ok(Vec::new()) };
        let mut wanted = vec![self.text.as_str()];
        if self.any {
            wanted.extend(self.words.iter().take(EXACT_WORDS).map(String::as_str));
        }
        let reading = self.types.reading;
        let mut ids = Vec::new();
        let texts = seen.attributes.iter().filter(|attribute| attribute.kinds.strings > 0);
        for attribute in texts.take(EXACT_FIELDS) {
            for value in wanted.iter().filter_map(|text| Indexed::all(&Value::from(*text)).into_iter().next()) {
                let source = Source::Value { attribute: attribute.id, value };
                ids.extend(reading.ids(self.range(), &source, EXACT_HITS)?);
            }
        }
        ids.sort_unstable();
        ids.dedup();
        let mut hits = Vec::new();
        for id in ids.into_iter().filter(|id| *id > last) {
            let Some(found) = reading.entity(id)? else { continue };
            let matched = matching(self.types, self.seen.as_ref(), &self.words, self.any, &self.conditions, found)?;
            hits.extend(matched.map(|(score, _)| (score, id)));
        }
        Ok(hits)
    }

    /// Counts all that match, and sums their fields up.
    pub(super) fn aggregate(&mut self, sums: &[(String, Field)]) -> Result<Aggregates, QueryError> {
        if sums.is_empty() && self.conditions.is_empty() {
            let hides = self.seen.as_ref().is_none_or(|seen| seen.hides);
            match (&self.source, self.words.is_empty()) {
                (_, true) => {
                    let count = self.seen.as_ref().map_or(0, |seen| seen.kind.entities);
                    return Ok(Aggregates { count, sums: Vec::new() });
                }
                (Origin::Stream(source), false) if !hides => {
                    let count = self.types.reading.count(self.range(), source, u64::MAX)?;
                    return Ok(Aggregates { count, sums: Vec::new() });
                }
                _ => {}
            }
        }
        let mut adding = Adding::new(sums);
        self.matches(i64::MIN, |_, _, hit| {
            adding.add(&hit.key, &hit.body);
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(adding.done())
    }
}

/// The entity with its rank, where it matches with what may be seen of it.
fn matching(
    types: &mut Types<'_>,
    seen: Option<&Rc<Seen>>,
    words: &[String],
    any: bool,
    conditions: &[Condition],
    found: Found,
) -> Result<Option<(u32, Hit)>, QueryError> {
    let seen = match seen {
        Some(seen) => Rc::clone(seen),
        None => match types.of(TypeId::of(found.id))? {
            Some(seen) => seen,
            None => return Ok(None),
        },
    };
    let Found { id, key, body } = found;
    let (key, body) = visible(&seen, key, &body);
    if !conditions.iter().all(|condition| condition.holds(&key, &body)) {
        return Ok(None);
    }
    let place = Place::Numbered(id);
    if words.is_empty() {
        return Ok(Some((0, Hit { seen, place, key, body })));
    }
    Ok(score(words, any, key.as_str(), &body).map(|score| (score, Hit { seen, place, key, body })))
}

/// What of an entity may be seen.
pub(super) fn visible(seen: &Seen, key: String, body: &str) -> (Value, Map<String, Value>) {
    let key = if seen.key { Value::String(key) } else { Value::Null };
    (key, seen.seen(serde_json::from_str(body).unwrap_or_default()))
}
