//! What a string argument holds, by the name of the member that it is in.

use std::collections::BTreeMap;

use crate::domain::tool::ArgumentKind;

/// What to read a string as, and how sure the name makes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reading {
    /// SQL, or it is a fault.
    Sql,
    /// SQL if it parses as a statement; else free text.
    PerhapsSql,
    /// A shell command, or it is a fault.
    Shell,
    /// A shell command or SQL if it parses as one with commands that are known; else another language or free text.
    PerhapsScript,
    Url,
    Path,
}

impl Reading {
    /// What the member `name` holds: by the operator's word, else by the name itself.
    pub(super) fn of(name: &str, mapping: &BTreeMap<String, ArgumentKind>) -> Option<Self> {
        match mapping.get(name) {
            Some(ArgumentKind::Sql) => Some(Self::Sql),
            Some(ArgumentKind::Shell) => Some(Self::Shell),
            Some(ArgumentKind::Url) => Some(Self::Url),
            Some(ArgumentKind::Path) => Some(Self::Path),
            None => Self::by_name(name),
        }
    }

    /// What the member `name`, by itself `own`, holds in an object that is read as `around`: inside what is certainly SQL
    /// every text is, but for the values of its parameters.
    pub(super) fn inside(around: Option<Self>, name: &str, own: Option<Self>) -> Option<Self> {
        match own {
            None | Some(Self::PerhapsSql | Self::PerhapsScript) if around == Some(Self::Sql) => {
                let is_value = PARAMETERS.iter().any(|parameters| parameters.eq_ignore_ascii_case(name));
                Some(if is_value { Self::PerhapsSql } else { Self::Sql })
            }
            _ => own,
        }
    }

    /// The last word of a name says what it is (`webhook_url`, `filePath`); an earlier `sql` or `shell` makes it certain.
    fn by_name(name: &str) -> Option<Self> {
        let (rest, last) = split_last_word(name);
        let before = |word: &str| split_words(rest).any(|part| part.eq_ignore_ascii_case(word));
        let is = |words: &[&str]| words.iter().any(|word| last.eq_ignore_ascii_case(word));
        if is(&["sql", "sqls"]) {
            return Some(Self::Sql);
        }
        if before("sql") && is(SQL_TEXT) {
            return Some(Self::Sql);
        }
        if is(&["query", "queries", "statement", "statements", "stmt", "stmts"]) {
            return Some(Self::PerhapsSql);
        }
        let shell_before = ["shell", "bash", "sh"].into_iter().any(before);
        if is(&["command", "commands", "cmd", "cmds", "cmdline", "commandline", "shell", "bash"])
            || (shell_before && is(&["script", "scripts", "line", "code"]))
            || (before("command") && is(&["line", "lines"]))
        {
            return Some(Self::Shell);
        }
        if is(&["script", "scripts"]) {
            return Some(Self::PerhapsScript);
        }
        if is(&["url", "urls", "uri", "uris", "endpoint", "endpoints", "href", "hrefs"]) {
            return Some(Self::Url);
        }
        is(PATHS).then_some(Self::Path)
    }
}

const SQL_TEXT: &[&str] =
    &["query", "queries", "statement", "statements", "stmt", "stmts", "text", "string", "script", "command", "code"];

const PARAMETERS: &[&str] = &["values", "params", "parameters", "bind", "binds", "bindings", "args", "arguments"];

const PATHS: &[&str] = &[
    "path",
    "paths",
    "file",
    "files",
    "filename",
    "filenames",
    "filepath",
    "filepaths",
    "pathname",
    "directory",
    "directories",
    "dir",
    "dirs",
    "folder",
    "cwd",
];

/// `file_path`, `filePath`, `file-path`, `file.path` → (`file`, `path`).
fn split_last_word(name: &str) -> (&str, &str) {
    let bytes = name.as_bytes();
    let starts_word = |at: usize| -> Option<usize> {
        let here = *bytes.get(at)?;
        let before = *bytes.get(at.checked_sub(1)?)?;
        match () {
            () if matches!(here, b'_' | b'-' | b'.' | b' ') => Some(at + 1),
            () if here.is_ascii_uppercase() && before.is_ascii_lowercase() => Some(at),
            () => None,
        }
    };
    let trimmed = name.trim_end_matches(|c: char| c.is_ascii_digit() || matches!(c, '_' | '-' | '.' | ' ' | '[' | ']'));
    let start = (0..trimmed.len()).rev().find_map(starts_word).unwrap_or(0);
    (trimmed.get(..start).unwrap_or(""), trimmed.get(start..).unwrap_or(trimmed))
}

fn split_words(name: &str) -> impl Iterator<Item = &str> {
    let mut rest = name;
    std::iter::from_fn(move || {
        rest = rest.trim_end_matches(['_', '-', '.', ' ']);
        if rest.is_empty() {
            return None;
        }
        let (before, word) = split_last_word(rest);
        rest = before;
        Some(word)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_what_they_hold() {
        let cases: &[(&str, Option<Reading>)] = &[
            ("sql", Some(Reading::Sql)),
            ("SQL", Some(Reading::Sql)),
            ("raw_sql", Some(Reading::Sql)),
            ("sql_query", Some(Reading::Sql)),
            ("sqlQuery", Some(Reading::Sql)),
            ("sql_command", Some(Reading::Sql)),
            ("query", Some(Reading::PerhapsSql)),
            ("searchQuery", Some(Reading::PerhapsSql)),
            ("statements", Some(Reading::PerhapsSql)),
            ("command", Some(Reading::Shell)),
            ("command_line", Some(Reading::Shell)),
            ("shell_script", Some(Reading::Shell)),
            ("bash", Some(Reading::Shell)),
            ("script", Some(Reading::PerhapsScript)),
            ("url", Some(Reading::Url)),
            ("webhook_url", Some(Reading::Url)),
            ("baseUrl", Some(Reading::Url)),
            ("imageURL", Some(Reading::Url)),
            ("url2", Some(Reading::Url)),
            ("path", Some(Reading::Path)),
            ("file_path", Some(Reading::Path)),
            ("outputDir", Some(Reading::Path)),
            ("body", None),
            ("title", None),
            ("profile", None),
            ("curl", None),
            ("", None),
            ("_", None),
            ("é", None),
        ];
        for (name, reading) in cases {
            assert_eq!(Reading::of(name, &BTreeMap::new()), *reading, "{name}");
        }
    }

    #[test]
    fn the_operator_has_the_last_word() {
        let mapping = BTreeMap::from([("body".to_owned(), ArgumentKind::Sql), ("url".to_owned(), ArgumentKind::Path)]);
        assert_eq!(Reading::of("body", &mapping), Some(Reading::Sql));
        assert_eq!(Reading::of("url", &mapping), Some(Reading::Path));
    }
}
