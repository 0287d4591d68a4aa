//! Reads TOML with its places kept, so that every fault in a file is reported at once, with line and column.

use std::cell::RefCell;
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

pub use crate::domain::duration::parse_duration;
use crate::domain::tool::Rate;

/// One thing wrong in one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    pub file: String,
    pub line: usize,
    pub column: usize,
    pub message: String,
    pub hint: Option<String>,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: {}", self.file, self.line, self.column, self.message)?;
        self.hint.as_ref().map_or(Ok(()), |hint| write!(f, "\n  hint: {hint}"))
    }
}

/// Everything that is wrong; never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Faults(pub Vec<Fault>);

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, fault) in self.0.iter().enumerate() {
            if at > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{fault}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Faults {}

/// Looks a variable of the environment up.
pub type Lookup<'e> = &'e dyn Fn(&str) -> Option<String>;

/// A file that is being read. Faults gather here.
pub struct Document<'t> {
    file: &'t str,
    text: &'t str,
    lookup: Lookup<'t>,
    faults: RefCell<Vec<Fault>>,
}

impl fmt::Debug for Document<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Document").field("file", &self.file).finish_non_exhaustive()
    }
}

impl<'t> Document<'t> {
    #[must_use]
    pub fn new(file: &'t str, text: &'t str, lookup: Lookup<'t>) -> Self {
        Self { file, text, lookup, faults: RefCell::default() }
    }

    /// Reads the file with `read`, which takes what it knows out of the top table.
    ///
    /// # Errors
    /// All faults: of syntax, of types, of values, and every key that nobody took.
    pub fn read<T>(self, read: impl FnOnce(&Section<'_>) -> T) -> Result<T, Faults> {
        let (table, errors) = DeTable::parse_recoverable(self.text);
        for error in errors {
            self.fault(error.span().unwrap_or(0..0), error.message().to_owned(), None);
        }
        let value = {
            let span = table.span();
            let top = Section {
                document: &self,
                path: String::new(),
                table: table.get_ref(),
                span,
                taken: RefCell::default(),
            };
            let value = read(&top);
            top.refuse_the_rest();
            value
        };
        let mut faults = self.faults.into_inner();
        faults.sort_by_key(|fault| (fault.line, fault.column));
        if faults.is_empty() { Ok(value) } else { Err(Faults(faults)) }
    }

    fn fault(&self, at: Range<usize>, message: String, hint: Option<String>) {
        let before = self.text.get(..at.start).unwrap_or(self.text);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().map_or(0, |rest| rest.chars().count()) + 1;
        self.faults.borrow_mut().push(Fault { file: self.file.to_owned(), line, column, message, hint });
    }

    /// Puts the environment's values in for `${NAME}` and `${NAME:-default}`.
    fn expanded(&self, text: &str, at: &Range<usize>) -> String {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("${") {
            out.push_str(before);
            let Some((inside, tail)) = after.split_once('}') else {
                self.fault(at.clone(), "`${` without `}`".into(), None);
                return out;
            };
            let (name, default) =
                inside.split_once(":-").map_or((inside, None), |(name, default)| (name, Some(default)));
            match ((self.lookup)(name), default) {
                (Some(value), _) => out.push_str(&value),
                (None, Some(default)) => out.push_str(default),
                (None, None) => self.fault(
                    at.clone(),
                    format!("the environment has no `{name}`"),
                    Some(format!("set it, or write `${{{name}:-default}}`")),
                ),
            }
            rest = tail;
        }
        out.push_str(rest);
        out
    }
}

/// A table of the file. What is taken out of it is known; the rest is refused.
#[derive(Debug)]
pub struct Section<'d> {
    document: &'d Document<'d>,
    path: String,
    table: &'d DeTable<'d>,
    span: Range<usize>,
    taken: RefCell<Vec<&'static str>>,
}

impl<'d> Section<'d> {
    fn take(&self, key: &'static str) -> Option<&'d Spanned<DeValue<'d>>> {
        self.taken.borrow_mut().push(key);
        self.table.get(key)
    }

    /// Reports a fault at a key of this table, or at the table itself.
    pub fn fault(&self, key: Option<&str>, message: impl Into<String>, hint: Option<String>) {
        let at = key.and_then(|key| self.table.get(key)).map_or_else(|| self.span.clone(), Spanned::span);
        self.document.fault(at, message.into(), hint);
    }

    fn wrong_type(&self, key: &str, expected: &str, found: &Spanned<DeValue<'_>>) {
        self.fault(
            Some(key),
            format!("`{}` must be {expected}, not a {}", self.name(key), found.get_ref().type_str()),
            None,
        );
    }

    fn name(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// A path as the file means it: one that is not absolute lies beside the file.
    #[must_use]
    pub fn beside(&self, path: &str) -> PathBuf {
        Path::new(self.document.file).parent().unwrap_or_else(|| Path::new("")).join(path)
    }

    /// A string, variables expanded.
    pub fn text(&self, key: &'static str) -> Option<String> {
        let value = self.take(key)?;
        let Some(text) = value.get_ref().as_str() else {
            self.wrong_type(key, "a string", value);
            return None;
        };
        Some(self.document.expanded(text, &value.span()))
    }

    /// A string that `parse` understands; `expected` says what it should be.
    pub fn parsed<T>(&self, key: &'static str, expected: &str, parse: impl FnOnce(&str) -> Option<T>) -> Option<T> {
        let text = self.text(key)?;
        let parsed = parse(&text);
        if parsed.is_none() {
            self.fault(Some(key), format!("`{}` must be {expected}, not `{text}`", self.name(key)), None);
        }
        parsed
    }

    pub fn flag(&self, key: &'static str) -> Option<bool> {
        let value = self.take(key)?;
        let flag = value.get_ref().as_bool();
        if flag.is_none() {
            self.wrong_type(key, "true or false", value);
        }
        flag
    }

    /// A whole number within `range`.
    pub fn number(&self, key: &'static str, range: Range<u64>) -> Option<u64> {
        let value = self.take(key)?;
        let number = value.get_ref().as_integer().and_then(|n| u64::from_str_radix(n.as_str(), n.radix()).ok());
        let fits = number.filter(|number| range.contains(number));
        if fits.is_none() {
            let what = format!("`{}` must be a whole number from {} to {}", self.name(key), range.start, range.end - 1);
            self.fault(Some(key), what, None);
        }
        fits
    }

    /// A number from 0 to 1.
    pub fn ratio(&self, key: &'static str) -> Option<f64> {
        let value = self.take(key)?;
        let found = value.get_ref();
        let text = found.as_float().map(|n| n.as_str()).or_else(|| found.as_integer().map(|n| n.as_str()));
        let ratio = text.and_then(|text| text.parse().ok()).filter(|ratio| (0.0..=1.0).contains(ratio));
        if ratio.is_none() {
            self.fault(Some(key), format!("`{}` must be a number from 0 to 1", self.name(key)), None);
        }
        ratio
    }

    /// A list of strings, variables expanded.
    pub fn texts(&self, key: &'static str) -> Option<Vec<String>> {
        let value = self.take(key)?;
        let Some(items) = value.get_ref().as_array() else {
            self.wrong_type(key, "a list of strings", value);
            return None;
        };
        let mut texts = Vec::new();
        for item in items.iter() {
            match item.get_ref().as_str() {
                Some(text) => texts.push(self.document.expanded(text, &item.span())),
                None => {
                    self.document.fault(item.span(), format!("`{}` must be a list of strings", self.name(key)), None)
                }
            }
        }
        Some(texts)
    }

    /// Every list of strings in this table, under its free name; leaves nothing to refuse.
    pub fn text_lists(&self) -> Vec<(String, Vec<String>)> {
        let mut lists = Vec::new();
        for (name, value) in self.table {
            let items = value.get_ref().as_array().map(|items| items.iter().map(|item| item.get_ref().as_str()));
            match items.and_then(|items| items.collect::<Option<Vec<&str>>>()) {
                Some(texts) => lists.push((
                    name.get_ref().to_string(),
                    texts.into_iter().map(|text| self.document.expanded(text, &value.span())).collect(),
                )),
                None => self.wrong_type(name.get_ref(), "a list of strings", value),
            }
        }
        lists
    }

    /// A table of strings under free names, variables expanded.
    pub fn text_map(&self, key: &'static str) -> Vec<(String, String)> {
        let Some(table) = self.section(key) else { return Vec::new() };
        let mut pairs = Vec::new();
        for (name, value) in table.table.iter() {
            match value.get_ref().as_str() {
                Some(text) => pairs.push((name.get_ref().to_string(), self.document.expanded(text, &value.span()))),
                None => table.wrong_type(name.get_ref(), "a string", value),
            }
        }
        pairs
    }

    /// A duration such as `500ms`, `20s`, `5m`, `1h`, `30d`.
    pub fn duration(&self, key: &'static str) -> Option<Duration> {
        self.parsed(key, "a duration such as `20s`", parse_duration)
    }

    /// A limit such as `600/min`.
    pub fn rate(&self, key: &'static str) -> Option<Rate> {
        self.parsed(key, "a limit such as `600/min`", parse_rate)
    }

    /// The table under `key`.
    pub fn section(&self, key: &'static str) -> Option<Self> {
        let value = self.take(key)?;
        self.below(key, value)
    }

    /// The tables under `key`, by their names.
    pub fn sections(&self, key: &'static str) -> Vec<(String, Self)> {
        self.section(key).map(|section| section.all_sections()).unwrap_or_default()
    }

    /// Every table in this one, by its name; other values are faults. Leaves nothing to refuse.
    pub fn all_sections(&self) -> Vec<(String, Self)> {
        let below = |(name, value): (&'d Spanned<_>, &'d Spanned<DeValue<'d>>)| {
            let name: &std::borrow::Cow<'d, str> = name.get_ref();
            self.below(name, value).map(|section| (name.to_string(), section))
        };
        self.table.iter().filter_map(below).collect()
    }

    /// Names of the keys in this table.
    pub fn keys(&self) -> Vec<String> {
        self.table.keys().map(|key| key.get_ref().to_string()).collect()
    }

    fn below(&self, key: &str, value: &'d Spanned<DeValue<'d>>) -> Option<Self> {
        let Some(table) = value.get_ref().as_table() else {
            self.wrong_type(key, "a table", value);
            return None;
        };
        Some(Section {
            document: self.document,
            path: self.name(key),
            table,
            span: value.span(),
            taken: RefCell::default(),
        })
    }

    /// Reports every key that nobody took, with the nearest known one.
    pub fn refuse_the_rest(&self) {
        let taken = self.taken.borrow();
        for key in self.table.keys() {
            let name = key.get_ref().as_ref();
            if taken.contains(&name) {
                continue;
            }
            let near = taken.iter().map(|known| (strsim::damerau_levenshtein(known, name), known)).min();
            let hint = match near {
                Some((distance, known)) if distance <= 2.max(name.len() / 3) => format!("did you mean `{known}`?"),
                _ => format!("known here: {}", taken.iter().map(|k| format!("`{k}`")).collect::<Vec<_>>().join(", ")),
            };
            self.document.fault(key.span(), format!("unknown key `{}`", self.name(name)), Some(hint));
        }
    }
}

/// `600/min`, `10/s`, `1000/h`, `5/30s`.
#[must_use]
pub fn parse_rate(text: &str) -> Option<Rate> {
    let (count, window) = text.split_once('/')?;
    let count = count.trim().parse().ok().filter(|count| (1..=1_000_000).contains(count))?;
    let window = window.trim();
    let window = if window.starts_with(|c: char| c.is_ascii_digit()) {
        parse_duration(window)?
    } else {
        parse_duration(&format!("1{window}"))?
    };
    Some(Rate { count, window })
}
