//! Sums the roll-ups of a window up, by server, tool, key, decision and rule.

use std::collections::HashMap;

use rusqlite::{Connection, Row, params};

use super::cell::Counts;
use crate::domain::clock::Moment;
use crate::domain::sketch::Sketch;

/// Rows that one summary looks at, at most.
const MAX_ROWS: usize = 250_000;
/// Names of one list that are held, at most: what comes after is left out and counted.
const MAX_NAMES: usize = 20_000;

/// How long a bucket is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Resolution {
    Minute,
    Hour,
}

impl Resolution {
    pub(super) const ALL: [Self; 2] = [Self::Minute, Self::Hour];
    /// The longest window that is summed up from minutes.
    pub const MINUTES_UP_TO: i64 = 6 * 3_600_000;
    /// The longest window of all.
    pub const LONGEST: i64 = 30 * 24 * 3_600_000;

    /// The finest that a window of so many milliseconds has.
    #[must_use]
    pub const fn of(window: i64) -> Self {
        if window <= Self::MINUTES_UP_TO { Self::Minute } else { Self::Hour }
    }

    /// Its length in milliseconds.
    #[must_use]
    pub const fn millis(self) -> i64 {
        match self {
            Self::Minute => 60_000,
            Self::Hour => 3_600_000,
        }
    }

    /// The bucket that a moment lies in: its first moment.
    #[must_use]
    pub const fn floor(self, moment: Moment) -> Moment {
        Moment(moment.0.div_euclid(self.millis()).saturating_mul(self.millis()))
    }

    /// How long its buckets are kept, in milliseconds.
    pub(super) const fn kept(self) -> i64 {
        match self {
            Self::Minute => Self::MINUTES_UP_TO + 3_600_000,
            Self::Hour => Self::LONGEST + 24 * 3_600_000,
        }
    }
}

/// What a summary is of; what is absent is everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Narrow {
    pub server: Option<String>,
    pub tool: Option<String>,
    pub key: Option<String>,
}

/// One line of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// `server:tool` of a tool; empty where a call named nothing that exists.
    pub name: String,
    pub counts: Counts,
}

/// What a window comes to. The lists are complete but for [`Summary::truncated`], the largest groups first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    pub total: Counts,
    pub servers: Vec<Group>,
    pub tools: Vec<Group>,
    pub keys: Vec<Group>,
    pub decisions: Vec<Group>,
    /// What refused calls.
    pub rules: Vec<Group>,
    /// Rows that were looked at.
    pub visited: usize,
    /// There was more than a summary looks at.
    pub truncated: bool,
}

type Groups = HashMap<String, Counts>;

pub(super) fn read(
    connection: &Connection,
    resolution: Resolution,
    since: Moment,
    until: Moment,
    narrow: &Narrow,
) -> rusqlite::Result<Summary> {
    let mut statement = connection.prepare_cached(
        "SELECT server, tool, key, decision, rule, calls, errors, refused, limited, cancelled, cached, latencies
         FROM rollups WHERE span = ?1 AND start >= ?2 AND start < ?3 ORDER BY start DESC",
    )?;
    let mut rows = statement.query(params![resolution.millis(), since.0, until.0])?;
    let mut summary = Summary::default();
    let mut lists: [Groups; 5] = Default::default();
    while let Some(row) = rows.next()? {
        if summary.visited >= MAX_ROWS {
            summary.truncated = true;
            break;
        }
        summary.visited += 1;
        let text = |column: usize| Ok::<_, rusqlite::Error>(row.get_ref(column)?.as_str()?);
        let (server, tool, key) = (text(0)?, text(1)?, text(2)?);
        let wanted = |wanted: &Option<String>, is: &str| wanted.as_deref().is_none_or(|wanted| wanted == is);
        if !(wanted(&narrow.server, server) && wanted(&narrow.tool, tool) && wanted(&narrow.key, key)) {
            continue;
        }
        let counts = counts(row, 5)?;
        summary.total.add(&counts);
        let (decision, rule) = (text(3)?, text(4)?);
        let id = if server.is_empty() { String::new() } else { format!("{server}:{tool}") };
        let names = [Some(server), Some(&id), Some(key), Some(decision), Some(rule).filter(|rule| !rule.is_empty())];
        for (list, name) in lists.iter_mut().zip(names) {
            let Some(name) = name else { continue };
            if let Some(sum) = list.get_mut(name) {
                sum.add(&counts);
            } else if list.len() < MAX_NAMES {
                list.insert(name.to_owned(), counts.clone());
            } else {
                summary.truncated = true;
            }
        }
    }
    let [servers, tools, keys, decisions, rules] = lists.map(sorted);
    Ok(Summary { servers, tools, keys, decisions, rules, ..summary })
}

fn sorted(groups: Groups) -> Vec<Group> {
    let mut groups: Vec<Group> = groups.into_iter().map(|(name, counts)| Group { name, counts }).collect();
    groups.sort_by(|a, b| b.counts.calls.cmp(&a.counts.calls).then_with(|| a.name.cmp(&b.name)));
    groups
}

/// The counts that begin at a column.
pub(super) fn counts(row: &Row<'_>, at: usize) -> rusqlite::Result<Counts> {
    let number = |offset: usize| Ok::<_, rusqlite::Error>(u64::try_from(row.get::<_, i64>(at + offset)?).unwrap_or(0));
    let latencies = row.get_ref(at + 6)?.as_blob()?;
    Ok(Counts {
        calls: number(0)?,
        errors: number(1)?,
        refused: number(2)?,
        limited: number(3)?,
        cancelled: number(4)?,
        cached: number(5)?,
        latencies: Sketch::decode(latencies).unwrap_or_default(),
    })
}
