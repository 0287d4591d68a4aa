//! A query, and its way through a reading.

use std::rc::Rc;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::answer::{self, Answered, Left, Shown};
use super::cursor::Cursor;
use super::filter::conditions;
use super::find::Search;
use super::join::Link;
use super::view::{Field, Seen, Sight, Types};
use super::{QueryError, view};
use crate::domain::json::{canonical, sha256_hex};
use crate::store::brain::{Reading, words_of};

/// Most entities, and most joined entities of one, in an answer.
pub const MAX_LIMIT: usize = 100;
pub const MAX_JOINED: usize = 100;
const LIMIT: usize = 10;
const JOINED: usize = 5;
/// Characters of a query.
pub const MAX_QUERY: usize = 1000;
/// Different words of a query that count.
const MAX_WORDS: usize = 16;
/// Conditions of a filter.
pub const MAX_CONDITIONS: usize = 32;
/// Fields that are named.
const MAX_FIELDS: usize = 200;

/// What is asked.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Query {
    /// Words to look for; every one of them, or any where no entity has them all.
    pub query: Option<String>,
    pub entity_type: Option<String>,
    pub join_to: Option<JoinTo>,
    pub filter: Map<String, Value>,
    pub limit: Option<usize>,
    pub cursor: Option<String>,
    pub fields: Option<Vec<String>>,
    pub aggregate: Option<Aggregate>,
}

/// What belongs to each entity.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JoinTo {
    pub entity_type: String,
    #[serde(default)]
    pub on: Option<String>,
    #[serde(default)]
    pub fields: Option<Vec<String>>,
    #[serde(default)]
    pub filter: Map<String, Value>,
    #[serde(default)]
    pub limit: Option<usize>,
    #[serde(default)]
    pub aggregate: Option<Aggregate>,
}

/// What is worked out of all that match.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Aggregate {
    pub count: bool,
    pub sum: Vec<String>,
}

impl Aggregate {
    /// The fields that are summed up.
    pub(super) fn fields(&self, seen: &Seen) -> Result<Vec<(String, Field)>, QueryError> {
        within("sum", self.sum.len(), MAX_FIELDS)?;
        self.sum.iter().map(|name| Ok((name.clone(), seen.require(name)?))).collect()
    }
}

fn within(what: &str, count: usize, most: usize) -> Result<(), QueryError> {
    if count <= most { Ok(()) } else { Err(QueryError::invalid(format!("`{what}` names at most {most} fields"))) }
}

impl Query {
    /// What a cursor belongs to: everything that decides which entities come in which order.
    fn digest(&self) -> String {
        let what = json!([self.query, self.entity_type, self.filter]);
        sha256_hex(canonical(&what).as_bytes()).get(..16).unwrap_or_default().to_owned()
    }

    /// The different words to look for.
    fn words(&self) -> Result<Vec<String>, QueryError> {
        let text = self.query.as_deref().unwrap_or_default();
        if text.chars().count() > MAX_QUERY {
            return Err(QueryError::invalid(format!("`query` has at most {MAX_QUERY} characters")));
        }
        let mut words: Vec<String> = Vec::new();
        for word in words_of(text) {
            if words.len() < MAX_WORDS && !words.contains(&word) {
                words.push(word);
            }
        }
        if words.is_empty() && !text.trim().is_empty() {
            return Err(QueryError::invalid("`query` has no word in it: give a name, or leave it out and filter"));
        }
        Ok(words)
    }

    /// Whether something is asked that only one type can answer.
    fn needs_type(&self) -> Option<&'static str> {
        let asked = [
            (!self.filter.is_empty(), "filter"),
            (self.join_to.is_some(), "join_to"),
            (self.fields.is_some(), "fields"),
            (self.aggregate.is_some(), "aggregate"),
            (self.cursor.is_some() && self.query.is_none(), "cursor"),
        ];
        asked.into_iter().find_map(|(is, name)| is.then_some(name))
    }
}

/// Answers a query.
///
/// # Errors
/// Where it asks for what is not there, takes too long, or the store cannot be read.
pub fn run(reading: &Reading<'_>, query: &Query, sight: &mut dyn Sight) -> Result<Answered, QueryError> {
    let mut types = Types::new(reading, sight)?;
    let words = query.words()?;
    let Some(name) = &query.entity_type else {
        if let Some(what) = query.needs_type() {
            return Err(QueryError::invalid(format!("`{what}` needs an `entity_type`")));
        }
        if words.is_empty() {
            let list = view::list(&mut types)?;
            return Ok(answer::types(&list, types.looked_at()));
        }
        return Asked { query, words, seen: None }.answer(&mut types);
    };
    let seen = types.named(name)?;
    Asked { query, words, seen: Some(seen) }.answer(&mut types)
}

/// A query whose type is known.
struct Asked<'q> {
    query: &'q Query,
    words: Vec<String>,
    seen: Option<Rc<Seen>>,
}

impl Asked<'_> {
    fn answer(self, types: &mut Types<'_>) -> Result<Answered, QueryError> {
        let Self { query, words, seen } = self;
        let digest = query.digest();
        let cursor = query.cursor.as_deref().map(|text| Cursor::read(text, &digest)).transpose()?;
        let conditions = match &seen {
            Some(seen) => conditions(&query.filter, seen)?,
            None => Vec::new(),
        };
        let fields = chosen(query.fields.as_deref(), seen.as_deref())?;
        let sums = match (&query.aggregate, &seen) {
            (Some(aggregate), Some(seen)) => aggregate.fields(seen)?,
            _ => Vec::new(),
        };
        let link = match (&query.join_to, &seen) {
            (Some(join), Some(seen)) => Some(Link::of(join, seen, types)?),
            _ => None,
        };
        let limit = query.limit.unwrap_or(LIMIT).clamp(1, MAX_LIMIT);
        let mut search =
            Search::new(types, seen.clone(), (query.query.as_deref().unwrap_or_default(), words), conditions)?;
        let page = search.page(limit, cursor.as_ref())?;
        let any = search.any();
        let aggregates = match &query.aggregate {
            Some(_) => Some(search.aggregate(&sums)?),
            None => None,
        };
        let (mut shown, mut left) = (Shown::new(fields), Left::new(any));
        let (mut last, on_page) = (None, page.hits.len() as u64);
        for hit in page.hits {
            let joined = match &link {
                Some(link) => Some(link.follow(&hit, types.reading, JOINED, on_page)?),
                None => None,
            };
            last = Some(hit.place);
            shown.add(&hit, joined, link.as_ref().map(|link| (&*link.seen, &link.fields)));
            if shown.is_full() {
                left.full = true;
                break;
            }
        }
        left.more = page.more || left.full;
        let next = last.filter(|_| left.more).map(|place| Cursor {
            query: digest,
            place,
            total: page.total,
            exact: page.exact,
            any,
        });
        left.count(page.total, page.exact);
        let counted = query.aggregate.as_ref().map(|asked| (asked.count, aggregates.unwrap_or_default()));
        let read = match &seen {
            Some(seen) => [Some(seen), link.as_ref().map(|link| &link.seen)]
                .into_iter()
                .flatten()
                .map(|seen| seen.name().to_owned())
                .collect(),
            None => types.looked_at(),
        };
        Ok(answer::entities(shown, &left, counted.as_ref(), next.map(|cursor| cursor.text()), read))
    }
}

/// The names of the fields to show: all of them where none is named.
pub(super) fn chosen(named: Option<&[String]>, seen: Option<&Seen>) -> Result<Option<Vec<String>>, QueryError> {
    let (Some(named), Some(seen)) = (named, seen) else { return Ok(None) };
    within("fields", named.len(), MAX_FIELDS)?;
    for name in named {
        seen.require(name)?;
    }
    Ok(Some(named.to_vec()))
}
