//! What a parsed script is.
//!
//! The tree keeps commands and words; what only steers (`if`, `while`, `&&`) is a group or nothing. Expansions are not
//! evaluated: a word with one is *computed*, and the commands inside a substitution are kept with the word.

use std::rc::Rc;

/// Commands that run one after another; each entry is a pipeline.
#[derive(Debug, Default)]
pub(super) struct Script {
    pub(super) pipelines: Vec<Vec<Stage>>,
}

/// One part of a pipeline.
#[derive(Debug)]
pub(super) struct Stage {
    /// The command and its arguments, with assignments before them.
    pub(super) words: Vec<Word>,
    /// Words that are looked at and not run: lists of `for`, subjects of `case`, tests.
    pub(super) data: Vec<Word>,
    pub(super) redirects: Vec<Redirect>,
    /// What a subshell, a group, a condition or a loop holds.
    pub(super) group: Option<Script>,
}

#[derive(Debug)]
pub(super) enum Redirect {
    Read(Word),
    Write(Word),
    /// `>&2`, `2>&-`: between what is open already.
    Duplicate(Word),
    /// `<<< word`.
    Text(Word),
    /// `<<END`: the number of its body.
    Document(usize),
}

/// One word after quoting is removed.
#[derive(Debug, Default, Clone)]
pub(super) struct Word {
    pub(super) text: String,
    /// Its value is known only when it runs: a variable, a substitution, a pattern, a brace list.
    pub(super) computed: bool,
    /// How much of `text` comes before the first quote or expansion.
    pub(super) bare: Option<usize>,
    /// The commands of its substitutions.
    pub(super) scripts: Vec<Rc<Script>>,
}

impl Word {
    pub(super) fn mark(&mut self) {
        self.bare.get_or_insert(self.text.len());
    }

    /// Whether quoting or expansion plays no part in it.
    pub(super) fn is(&self, text: &str) -> bool {
        self.bare.is_none() && self.text == text
    }

    /// `NAME=value`, `NAME+=value`, `NAME[i]=value`.
    pub(super) fn is_assignment(&self) -> bool {
        let Some((name, _)) = self.text.split_once('=') else { return false };
        let (bare, name) = (self.bare.is_none_or(|bare| name.len() < bare), name.trim_end_matches('+'));
        let name = name.split('[').next().unwrap_or(name);
        bare && name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    }
}

/// A parsed text with the bodies of its here-documents.
#[derive(Debug)]
pub(super) struct Parsed {
    pub(super) script: Script,
    pub(super) documents: Vec<Word>,
}
