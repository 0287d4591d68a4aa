//! What is allowed to travel though a rule finds it.

use std::fmt;

use regex::bytes::{Regex, RegexBuilder};

/// The largest program that a pattern may become.
const MAX_PROGRAM: usize = 256 << 10;

/// A text, or a pattern between slashes: a finding in which it stands is none.
#[derive(Clone)]
pub struct Allowed {
    source: String,
    pattern: Option<Regex>,
}

impl Allowed {
    /// Reads `/a pattern/`, or any other text as itself.
    ///
    /// # Errors
    /// Why it is neither.
    pub fn parse(source: &str) -> Result<Self, String> {
        let inside =
            source.strip_prefix('/').and_then(|rest| rest.strip_suffix('/')).filter(|inside| !inside.is_empty());
        let pattern = match inside {
            Some(inside) => {
                let built = RegexBuilder::new(inside).size_limit(MAX_PROGRAM).build();
                Some(built.map_err(|error| {
                    let text = error.to_string();
                    let last = text.lines().last().unwrap_or_default();
                    format!("`{source}` is not a regular expression: {}", last.trim_start_matches("error: "))
                })?)
            }
            None if source.trim().is_empty() => return Err("an empty text would allow everything".into()),
            None => None,
        };
        if pattern.as_ref().is_some_and(|pattern| pattern.is_match(b"")) {
            return Err(format!("`{source}` matches everything: say what is allowed"));
        }
        Ok(Self { source: source.to_owned(), pattern })
    }

    pub(super) fn knows(&self, content: &[u8]) -> bool {
        match &self.pattern {
            Some(pattern) => pattern.is_match(content),
            None => content.windows(self.source.len()).any(|window| window == self.source.as_bytes()),
        }
    }
}

impl PartialEq for Allowed {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

impl Eq for Allowed {}

impl fmt::Debug for Allowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // It may well be a key that is known.
        write!(f, "Allowed({} characters)", self.source.chars().count())
    }
}
