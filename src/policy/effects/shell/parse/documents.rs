//! Here-documents: noted where their operator stands, read after the line that it stands in.

use super::{Document, Parser, Unparsed};
use crate::policy::effects::shell::tree::{Redirect, Word};

impl Parser<'_> {
    /// `<<` was read: notes the document, whose body comes after the line.
    pub(super) fn here_document(&mut self) -> Result<Redirect, Unparsed> {
        let strips_tabs = self.eat("-");
        self.skip_blanks();
        let delimiter = self.word()?;
        let number = self.documents.len();
        self.documents.push(Word::default());
        let expands = delimiter.bare.is_none();
        self.pending.push(Document { number, delimiter: delimiter.text, strips_tabs, expands });
        Ok(Redirect::Document(number))
    }

    /// After the end of a line: the bodies of the here-documents that it opened.
    pub(super) fn read_documents(&mut self) -> Result<(), Unparsed> {
        for document in std::mem::take(&mut self.pending) {
            let mut body = String::new();
            loop {
                if self.rest.is_empty() {
                    return Err(Unparsed);
                }
                let (line, rest) = self.rest.split_once('\n').unwrap_or((self.rest, ""));
                self.rest = rest;
                let line = if document.strips_tabs { line.trim_start_matches('\t') } else { line };
                if line.trim_end_matches('\r') == document.delimiter {
                    break;
                }
                body.push_str(line);
                body.push('\n');
            }
            let word = if document.expands { self.expanded(&body)? } else { Word { text: body, ..Word::default() } };
            if let Some(slot) = self.documents.get_mut(document.number) {
                *slot = word;
            }
        }
        Ok(())
    }

    /// A text in which only `$` and backticks mean anything.
    fn expanded(&mut self, text: &str) -> Result<Word, Unparsed> {
        let mut word = Word::default();
        let mut inner = self.inside(text);
        let result = inner.nested(|parser| parser.double_quoted(&mut word, None));
        self.documents = inner.documents;
        result.map(|()| word)
    }

    /// A parser of another text that numbers its here-documents after ours.
    pub(super) fn inside<'b>(&mut self, text: &'b str) -> Parser<'b> {
        Parser { rest: text, depth: self.depth, documents: std::mem::take(&mut self.documents), pending: Vec::new() }
    }
}
