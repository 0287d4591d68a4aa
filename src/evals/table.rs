//! Reads a tree of JSON part by part, and gathers all that is wrong with it, each with its place.

use std::cell::RefCell;
use std::ops::RangeInclusive;

use serde_json::{Map, Value};

/// Flaws that are told of at most.
const MAX_FLAWS: usize = 50;

/// One thing wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flaw {
    /// A JSON Pointer to the member; empty for the whole.
    pub at: String,
    pub message: String,
    pub hint: Option<String>,
}

/// Where flaws gather.
#[derive(Debug, Default)]
pub(super) struct Flaws {
    found: RefCell<Vec<Flaw>>,
    /// The source was read before: nothing is compiled only to see whether it can be.
    known: bool,
}

impl Flaws {
    /// For a source that was read before.
    pub(super) fn of_known() -> Self {
        Self { known: true, ..Self::default() }
    }

    pub(super) fn add(&self, at: String, message: impl Into<String>, hint: Option<String>) {
        let mut flaws = self.found.borrow_mut();
        if flaws.len() < MAX_FLAWS {
            flaws.push(Flaw { at, message: message.into(), hint });
        }
    }

    pub(super) fn into_inner(self) -> Vec<Flaw> {
        self.found.into_inner()
    }
}

/// An object. What is taken out of it is known; the rest is refused.
#[derive(Debug)]
pub(super) struct Table<'v> {
    pub(super) at: String,
    members: &'v Map<String, Value>,
    taken: RefCell<Vec<&'static str>>,
    flaws: &'v Flaws,
}

impl<'v> Table<'v> {
    /// An object at a place; anything else is a flaw.
    pub(super) fn of(value: &'v Value, at: String, flaws: &'v Flaws) -> Option<Self> {
        match value {
            Value::Object(members) => Some(Self { at, members, taken: RefCell::default(), flaws }),
            _ => {
                flaws.add(at, "this must be a table", None);
                None
            }
        }
    }

    /// Whether the source was read before.
    pub(super) const fn is_known(&self) -> bool {
        self.flaws.known
    }

    pub(super) fn place(&self, key: &str) -> String {
        format!("{}/{}", self.at, key.replace('~', "~0").replace('/', "~1"))
    }

    pub(super) fn flaw(&self, key: &str, message: impl Into<String>) {
        self.flaws.add(self.place(key), message, None);
    }

    /// A member that is missing.
    pub(super) fn missing(&self, key: &str) {
        self.flaws.add(self.at.clone(), format!("`{key}` is required"), None);
    }

    pub(super) fn take(&self, key: &'static str) -> Option<&'v Value> {
        self.taken.borrow_mut().push(key);
        self.members.get(key)
    }

    /// A string of 1 to `most` characters, none of them a control character.
    pub(super) fn text(&self, key: &'static str, most: usize) -> Option<String> {
        let value = self.take(key)?;
        let fits = |text: &&str| {
            (1..=most).contains(&text.chars().count()) && !text.trim().is_empty() && !text.chars().any(char::is_control)
        };
        let text = value.as_str().filter(fits);
        if text.is_none() {
            self.flaw(key, format!("`{key}` must be a string of 1 to {most} characters in one line"));
        }
        text.map(str::to_owned)
    }

    /// A string that `parse` understands.
    pub(super) fn parsed<T>(&self, key: &'static str, what: &str, parse: impl Fn(&str) -> Option<T>) -> Option<T> {
        let parsed = self.take(key)?.as_str().and_then(parse);
        if parsed.is_none() {
            self.flaw(key, format!("`{key}` must be {what}"));
        }
        parsed
    }

    pub(super) fn flag(&self, key: &'static str) -> Option<bool> {
        let flag = self.take(key)?.as_bool();
        if flag.is_none() {
            self.flaw(key, format!("`{key}` must be true or false"));
        }
        flag
    }

    /// A whole number, however it is written.
    pub(super) fn whole(&self, key: &'static str, range: &RangeInclusive<u64>) -> Option<u64> {
        let whole = whole(self.take(key)?).filter(|number| range.contains(number));
        if whole.is_none() {
            self.flaw(key, format!("`{key}` must be a whole number from {} to {}", range.start(), range.end()));
        }
        whole
    }

    pub(super) fn number(&self, key: &'static str, range: &RangeInclusive<f64>) -> Option<f64> {
        let number = self.take(key)?.as_f64().filter(|number| range.contains(number));
        if number.is_none() {
            self.flaw(key, format!("`{key}` must be a number from {} to {}", range.start(), range.end()));
        }
        number
    }

    pub(super) fn table(&self, key: &'static str) -> Option<Self> {
        Self::of(self.take(key)?, self.place(key), self.flaws)
    }

    /// The items of a list, at most `most`, each with its place.
    pub(super) fn list(&self, key: &'static str, most: usize) -> Vec<(String, &'v Value)> {
        let Some(value) = self.take(key) else { return Vec::new() };
        let Some(items) = value.as_array() else {
            self.flaw(key, format!("`{key}` must be a list"));
            return Vec::new();
        };
        if items.len() > most {
            self.flaw(key, format!("`{key}` holds {} items: at most {most} are taken", items.len()));
        }
        items.iter().take(most).enumerate().map(|(at, item)| (format!("{}/{at}", self.place(key)), item)).collect()
    }

    /// Every member, for tables with free names; leaves nothing to refuse.
    pub(super) fn all(&self) -> impl Iterator<Item = (&'v String, &'v Value)> {
        self.members.iter()
    }

    /// Reports every member that nobody took, with the nearest known one.
    pub(super) fn refuse_the_rest(&self) {
        let taken = self.taken.borrow();
        for key in self.members.keys().filter(|key| !taken.contains(&key.as_str())) {
            let near = taken.iter().map(|known| (strsim::damerau_levenshtein(known, key), known)).min();
            let hint = match near {
                Some((distance, known)) if distance <= 2.max(key.len() / 3) => format!("did you mean `{known}`?"),
                _ => format!("known here: {}", taken.iter().map(|k| format!("`{k}`")).collect::<Vec<_>>().join(", ")),
            };
            let key_shown: String = key.chars().take(80).collect();
            self.flaws.add(self.place(key), format!("unknown key `{key_shown}`"), Some(hint));
        }
    }
}

/// A whole number that is not negative: `42`, and `42.0` too, since JSON has one kind of number.
#[must_use]
pub fn whole(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| {
        let number = value.as_f64().filter(|number| number.fract() == 0.0 && (0.0..=9e15).contains(number))?;
        format!("{number:.0}").parse().ok()
    })
}
