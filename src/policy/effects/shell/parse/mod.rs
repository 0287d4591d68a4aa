//! The words and operators of a POSIX shell, with the common parts of bash: enough to tell which commands run.

mod documents;
mod word;

use super::tree::{Parsed, Redirect, Script, Stage, Word};

/// The text is not a script that this parser can tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unparsed;

/// Subshells, groups, loops and substitutions inside each other.
const MAX_DEPTH: usize = 32;

/// Reads a whole text.
pub(super) fn parse(text: &str) -> Result<Parsed, Unparsed> {
    let mut parser = Parser { rest: text, depth: 0, documents: Vec::new(), pending: Vec::new() };
    let script = parser.list(&[])?;
    if parser.peek().is_some() || !parser.pending.is_empty() {
        return Err(Unparsed);
    }
    Ok(Parsed { script, documents: parser.documents })
}

struct Parser<'a> {
    rest: &'a str,
    depth: usize,
    documents: Vec<Word>,
    /// Here-documents whose bodies begin after this line.
    pending: Vec<Document>,
}

struct Document {
    number: usize,
    delimiter: String,
    strips_tabs: bool,
    expands: bool,
}

/// Words that only steer, where a command could stand.
const STEERING: &[&str] = &["then", "else", "elif", "do", "!", "time", "coproc"];

impl<'a> Parser<'a> {
    fn peek(&self) -> Option<char> {
        self.rest.chars().next()
    }

    fn bump(&mut self) -> Option<char> {
        let mut chars = self.rest.chars();
        let next = chars.next();
        self.rest = chars.as_str();
        next
    }

    fn eat(&mut self, text: &str) -> bool {
        let after = self.rest.strip_prefix(text);
        self.rest = after.unwrap_or(self.rest);
        after.is_some()
    }

    fn nested<T>(&mut self, read: impl FnOnce(&mut Self) -> Result<T, Unparsed>) -> Result<T, Unparsed> {
        if self.depth == MAX_DEPTH {
            return Err(Unparsed);
        }
        self.depth += 1;
        let result = read(self);
        self.depth -= 1;
        result
    }

    fn skip_blanks(&mut self) {
        loop {
            self.rest = self.rest.trim_start_matches([' ', '\t', '\r']);
            if self.eat("\\\n") || self.eat("\\\r\n") {
                continue;
            }
            if self.rest.starts_with('#') {
                self.rest = self.rest.get(self.rest.find('\n').unwrap_or(self.rest.len())..).unwrap_or("");
            }
            return;
        }
    }

    /// Commands up to one of `closers` (which is left unread) or the end; the caller knows which it needs.
    fn list(&mut self, closers: &[&str]) -> Result<Script, Unparsed> {
        let mut script = Script::default();
        loop {
            self.skip_blanks();
            if self.peek().is_none() || self.at_closer(closers) {
                return Ok(script);
            }
            if self.eat("\n") {
                self.read_documents()?;
            } else if self.rest.starts_with(";;") {
                return Err(Unparsed);
            } else if !(self.eat("&&") || self.eat("||") || self.eat(";") || self.eat("&")) {
                script.pipelines.push(self.pipeline(closers)?);
            } else if script.pipelines.is_empty() {
                // An operator with nothing before it.
                return Err(Unparsed);
            }
        }
    }

    fn at_closer(&self, closers: &[&str]) -> bool {
        closers.iter().any(|closer| {
            self.rest.strip_prefix(closer).is_some_and(|after| {
                matches!(*closer, ")" | ";;")
                    || after.starts_with(|c: char| c.is_whitespace() || ";&|)<>".contains(c))
                    || after.is_empty()
            })
        })
    }

    fn close(&mut self, closer: &str) -> Result<(), Unparsed> {
        self.skip_blanks();
        if self.eat(closer) { Ok(()) } else { Err(Unparsed) }
    }

    fn pipeline(&mut self, closers: &[&str]) -> Result<Vec<Stage>, Unparsed> {
        let mut stages = vec![self.stage(closers)?];
        loop {
            self.skip_blanks();
            if self.rest.starts_with("||") || !(self.eat("|&") || self.eat("|")) {
                return Ok(stages);
            }
            self.skip_blanks();
            while self.eat("\n") {
                self.read_documents()?;
                self.skip_blanks();
            }
            stages.push(self.stage(closers)?);
        }
    }

    fn stage(&mut self, closers: &[&str]) -> Result<Stage, Unparsed> {
        let mut stage = Stage { words: Vec::new(), data: Vec::new(), redirects: Vec::new(), group: None };
        loop {
            self.skip_blanks();
            if self.peek().is_none_or(|c| matches!(c, '\n' | ';' | '&' | '|' | ')')) && !self.rest.starts_with("&>") {
                break;
            }
            if self.redirect(&mut stage)? {
                continue;
            }
            let first = stage.words.is_empty() && stage.group.is_none();
            if first && self.at_closer(closers) {
                break;
            }
            if self.rest.starts_with('(') {
                self.bracket(&mut stage)?;
                continue;
            }
            let word = self.word()?;
            if first && self.compound(&word, &mut stage)? {
                continue;
            }
            if stage.group.is_some() {
                return Err(Unparsed);
            }
            stage.words.push(word);
        }
        let empty = stage.words.is_empty() && stage.data.is_empty() && stage.redirects.is_empty();
        if empty && stage.group.is_none() && self.peek().is_none_or(|c| "|)".contains(c)) && !self.at_closer(closers) {
            return Err(Unparsed);
        }
        Ok(stage)
    }

    /// `(` after nothing is a subshell; after one word, `name()` defines a function.
    fn bracket(&mut self, stage: &mut Stage) -> Result<(), Unparsed> {
        self.bump();
        if stage.words.is_empty() && stage.group.is_none() {
            let script = self.nested(|parser| parser.list(&[")"]))?;
            stage.group = Some(script);
            return self.close(")");
        }
        self.close(")")?;
        match stage.words.as_slice() {
            // What a function holds counts where it is defined.
            [_] => stage.words.clear(),
            _ => return Err(Unparsed),
        }
        self.skip_blanks();
        while self.eat("\n") {
            self.skip_blanks();
        }
        Ok(())
    }

    /// Reads on where `word` begins a compound command or only steers.
    fn compound(&mut self, word: &Word, stage: &mut Stage) -> Result<bool, Unparsed> {
        if word.bare.is_some() {
            return Ok(false);
        }
        let closer = match word.text.as_str() {
            "{" => "}",
            "if" => "fi",
            "while" | "until" => "done",
            "for" | "select" => {
                self.for_words(stage)?;
                "done"
            }
            "case" => return self.nested(|parser| parser.case(stage)).map(|()| true),
            "[[" => return self.test(stage).map(|()| true),
            "function" => {
                self.skip_blanks();
                self.word()?;
                self.skip_blanks();
                if self.eat("(") {
                    self.close(")")?;
                }
                self.skip_lines()?;
                return Ok(true);
            }
            "time" if !self.time_options() => return Ok(false),
            steering if STEERING.contains(&steering) => {
                self.skip_lines()?;
                return Ok(true);
            }
            "}" | "fi" | "done" | "esac" => return Err(Unparsed),
            _ => return Ok(false),
        };
        let script = self.nested(|parser| parser.list(&[closer]))?;
        stage.group = Some(script);
        self.close(closer).map(|()| true)
    }

    /// Reads the options of the shell's own `time`; not so where they are those of the program of that name.
    fn time_options(&mut self) -> bool {
        loop {
            self.skip_blanks();
            let option = ["-p", "--"].into_iter().find_map(|option| self.rest.strip_prefix(option));
            match option.filter(|rest| rest.starts_with([' ', '\t'])) {
                Some(rest) => self.rest = rest,
                None => return !self.rest.starts_with('-'),
            }
        }
    }

    fn skip_lines(&mut self) -> Result<(), Unparsed> {
        self.skip_blanks();
        while self.eat("\n") {
            self.read_documents()?;
            self.skip_blanks();
        }
        Ok(())
    }

    /// `x in a b c`, or `((i = 0; i < 3; i++))`, up to `do`.
    fn for_words(&mut self, stage: &mut Stage) -> Result<(), Unparsed> {
        self.skip_blanks();
        if self.eat("((") {
            let mut word = Word::default();
            self.nested(|parser| parser.arithmetic(&mut word))?;
            stage.data.push(word);
        }
        loop {
            self.skip_blanks();
            match self.peek() {
                None | Some('&' | '|' | '(' | ')' | '<' | '>') => return Err(Unparsed),
                Some(';' | '\n') => {
                    self.bump();
                    return self.skip_lines();
                }
                Some(_) if self.at_closer(&["do"]) => return Ok(()),
                Some(_) => {
                    let word = self.word()?;
                    stage.data.push(word);
                }
            }
        }
    }

    /// `word in pattern | pattern) commands ;; … esac`.
    fn case(&mut self, stage: &mut Stage) -> Result<(), Unparsed> {
        self.skip_blanks();
        let subject = self.word()?;
        stage.data.push(subject);
        self.skip_lines()?;
        if !self.word()?.is("in") {
            return Err(Unparsed);
        }
        let mut all = Script::default();
        loop {
            self.skip_lines()?;
            if self.at_closer(&["esac"]) {
                stage.group = Some(all);
                return self.close("esac");
            }
            self.eat("(");
            while !self.eat(")") {
                self.skip_blanks();
                if !self.eat("|") && self.peek() != Some(')') {
                    let pattern = self.word()?;
                    stage.data.push(pattern);
                }
            }
            let mut branch = self.list(&[";;", ";&", "esac"])?;
            all.pipelines.append(&mut branch.pipelines);
            let _ended = self.eat(";;&") || self.eat(";;") || self.eat(";&");
        }
    }

    /// `[[ … ]]`, whose operators are not the shell's.
    fn test(&mut self, stage: &mut Stage) -> Result<(), Unparsed> {
        loop {
            self.skip_blanks();
            match self.peek() {
                None => return Err(Unparsed),
                Some('<' | '>' | '&' | '|' | '(' | ')' | '\n') => {
                    self.bump();
                }
                Some(_) => {
                    let word = self.word()?;
                    if word.is("]]") {
                        return Ok(());
                    }
                    stage.data.push(word);
                }
            }
        }
    }

    /// One redirection, if one is next.
    fn redirect(&mut self, stage: &mut Stage) -> Result<bool, Unparsed> {
        let before = self.rest;
        self.rest = self.rest.trim_start_matches(|c: char| c.is_ascii_digit());
        if self.rest.starts_with("<(") || self.rest.starts_with(">(") {
            self.rest = before;
            return Ok(false);
        }
        let kind: fn(Word) -> Redirect = if self.eat("<<<") {
            Redirect::Text
        } else if self.eat("<<") {
            let document = self.here_document()?;
            stage.redirects.push(document);
            return Ok(true);
        } else if self.eat("<&") || self.eat(">&") {
            Redirect::Duplicate
        } else if ["&>>", "&>", "<>", ">>", ">|", ">"].into_iter().any(|operator| self.eat(operator)) {
            Redirect::Write
        } else if self.eat("<") {
            Redirect::Read
        } else {
            self.rest = before;
            return Ok(false);
        };
        self.skip_blanks();
        let target = self.word()?;
        stage.redirects.push(kind(target));
        Ok(true)
    }
}
