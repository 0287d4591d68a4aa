//! Globs over tool ids: `*` stands for any run of characters, everything else for itself.

use serde::{Serialize, Serializer};

/// A pattern such as `github:*`. Matching takes time linear in pattern times text, with no backtracking blow-up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Glob(String);

impl Glob {
    #[must_use]
    pub fn new(pattern: &str) -> Self {
        Self(pattern.to_owned())
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// True where the pattern has no wildcard, so it names one thing.
    #[must_use]
    pub fn is_literal(&self) -> bool {
        !self.0.contains('*')
    }

    /// True where the pattern says how a text begins, and nothing of how it goes on.
    #[must_use]
    pub fn is_prefix(&self) -> bool {
        self.0.split_once('*').is_some_and(|(_, rest)| rest.is_empty())
    }

    /// Whether it matches any text that begins with `head`.
    #[must_use]
    pub fn may_begin(&self, head: &str) -> bool {
        match self.0.split_once('*') {
            None => self.0.starts_with(head),
            Some((fixed, _)) => fixed.starts_with(head) || head.starts_with(fixed),
        }
    }

    /// Whether it surely matches everything that begins with `prefix`.
    #[must_use]
    pub fn opens(&self, prefix: &str) -> bool {
        self.0.split_once('*').is_some_and(|(head, rest)| rest.is_empty() && prefix.starts_with(head))
    }

    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        let Some((head, rest)) = self.0.split_once('*') else { return self.0 == text };
        let Some(mut left) = text.strip_prefix(head) else { return false };
        let Some((middle, tail)) = rest.rsplit_once('*') else { return left.ends_with(rest) };
        let Some(end) = left.len().checked_sub(tail.len()) else { return false };
        if !left.ends_with(tail) {
            return false;
        }
        left = left.get(..end).unwrap_or_default();
        for piece in middle.split('*') {
            let Some(at) = left.find(piece) else { return false };
            left = left.get(at + piece.len()..).unwrap_or_default();
        }
        true
    }
}

impl Serialize for Glob {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::Glob;

    #[test]
    fn a_pattern_opens_what_it_may_match() {
        for (pattern, head, opens) in [
            ("*", "up:", true),
            ("up:*", "up:", true),
            ("u*", "up:", true),
            ("up:tool", "up:", true),
            ("up", "up:", false),
            ("upper:*", "up:", false),
            ("down:*", "up:", false),
        ] {
            assert_eq!(Glob::new(pattern).may_begin(head), opens, "{pattern} at {head}");
        }
    }

    #[test]
    fn a_glob_opens_what_it_says_nothing_of() {
        for (pattern, opens) in
            [("*", true), ("git*", true), ("github:*", true), ("github:x*", false), ("*:*", false), ("github:", false)]
        {
            assert_eq!(Glob::new(pattern).opens("github:"), opens, "{pattern}");
        }
    }

    #[test]
    fn a_star_is_any_run() {
        for (pattern, text, fits) in [
            ("*", "github:list_repos", true),
            ("github:*", "github:list_repos", true),
            ("github:*", "gitlab:list_repos", false),
            ("*:list_*", "github:list_repos", true),
            ("a*b*c", "abc", true),
            ("a*b*c", "acb", false),
            ("ab*ba", "aba", false),
            ("github:list_repos", "github:list_repos", true),
            ("github:list", "github:list_repos", false),
        ] {
            assert_eq!(Glob::new(pattern).matches(text), fits, "{pattern} on {text}");
        }
    }
}
