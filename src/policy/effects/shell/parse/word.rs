//! Words: quoting removed, expansions noted.

use std::rc::Rc;

use super::{Parser, Unparsed};
use crate::policy::effects::shell::tree::{Script, Word};

impl Parser<'_> {
    /// One word; there must be one.
    pub(super) fn word(&mut self) -> Result<Word, Unparsed> {
        let mut word = Word::default();
        let before = self.rest.len();
        let mut brace = Brace::None;
        while let Some(next) = self.peek() {
            match next {
                ' ' | '\t' | '\r' | '\n' | ';' | '&' | '|' | ')' => break,
                '<' | '>' if self.rest.get(1..2) == Some("(") => {
                    self.bump();
                    self.bump();
                    self.substitution(&mut word)?;
                }
                '<' | '>' => break,
                '(' if !self.bracket_in_word(&mut word)? => break,
                '(' => {}
                '\\' => {
                    self.bump();
                    word.mark();
                    match self.bump() {
                        Some('\n') => {}
                        Some(escaped) => word.text.push(escaped),
                        None => return Err(Unparsed),
                    }
                }
                '\'' => {
                    self.bump();
                    word.mark();
                    let (quoted, rest) = self.rest.split_once('\'').ok_or(Unparsed)?;
                    word.text.push_str(quoted);
                    self.rest = rest;
                }
                '"' => {
                    self.bump();
                    word.mark();
                    self.nested(|parser| parser.double_quoted(&mut word, Some('"')))?;
                }
                '`' => self.backticks(&mut word)?,
                '$' => self.dollar(&mut word, false)?,
                other => {
                    self.bump();
                    brace = brace.then(other, &word.text);
                    word.computed |= matches!(other, '*' | '?') || brace == Brace::Closed;
                    word.computed |= other == ']' && word.text.contains('[');
                    word.text.push(other);
                }
            }
        }
        if self.rest.len() == before { Err(Unparsed) } else { Ok(word) }
    }

    /// `name=(a b)` and `!(pattern)`; any other `(` is not part of a word.
    fn bracket_in_word(&mut self, word: &mut Word) -> Result<bool, Unparsed> {
        if word.text.ends_with('=') && word.is_assignment() {
            self.bump();
            loop {
                self.skip_blanks();
                if self.eat("\n") {
                    continue;
                }
                if self.eat(")") {
                    return Ok(true);
                }
                let mut item = self.nested(Self::word)?;
                word.scripts.append(&mut item.scripts);
            }
        }
        if !word.text.ends_with(['?', '*', '+', '@', '!']) {
            return Ok(false);
        }
        self.bump();
        word.mark();
        word.computed = true;
        while !self.eat(")") {
            if self.eat("|") {
                continue;
            }
            let mut item = self.nested(Self::word)?;
            word.scripts.append(&mut item.scripts);
        }
        Ok(true)
    }

    /// Up to `end`, or to the end of the text: `$`, backticks and `\` mean something, nothing else does.
    pub(super) fn double_quoted(&mut self, word: &mut Word, end: Option<char>) -> Result<(), Unparsed> {
        loop {
            match self.peek() {
                None if end.is_none() => return Ok(()),
                None => return Err(Unparsed),
                found if found == end => {
                    self.bump();
                    return Ok(());
                }
                Some('\\') => {
                    self.bump();
                    match self.bump() {
                        Some('\n') => {}
                        Some(escaped @ ('$' | '`' | '"' | '\\')) => word.text.push(escaped),
                        Some(other) => word.text.extend(['\\', other]),
                        None => word.text.push('\\'),
                    }
                }
                Some('$') => self.dollar(word, true)?,
                Some('`') => self.backticks(word)?,
                Some(other) => {
                    self.bump();
                    word.text.push(other);
                }
            }
        }
    }

    fn dollar(&mut self, word: &mut Word, in_quotes: bool) -> Result<(), Unparsed> {
        self.bump();
        word.mark();
        if self.eat("((") {
            word.computed = true;
            return self.nested(|parser| parser.arithmetic(word));
        }
        if self.eat("(") {
            return self.substitution(word);
        }
        if self.eat("{") {
            word.computed = true;
            return self.nested(|parser| parser.bracketed(word, '}', in_quotes));
        }
        if self.eat("[") {
            word.computed = true;
            return self.nested(|parser| parser.bracketed(word, ']', in_quotes));
        }
        if !in_quotes && self.eat("'") {
            return self.ansi_c(word);
        }
        if !in_quotes && self.eat("\"") {
            return self.nested(|parser| parser.double_quoted(word, Some('"')));
        }
        match self.peek() {
            Some(name) if name.is_ascii_alphabetic() || name == '_' => {
                word.computed = true;
                self.rest = self.rest.trim_start_matches(|c: char| c.is_ascii_alphanumeric() || c == '_');
            }
            Some(special) if special.is_ascii_digit() || "@*#?-$!".contains(special) => {
                word.computed = true;
                self.bump();
            }
            _ => word.text.push('$'),
        }
        Ok(())
    }

    /// After `$(`, `<(` or `>(`.
    fn substitution(&mut self, word: &mut Word) -> Result<(), Unparsed> {
        word.mark();
        word.computed = true;
        let script: Script = self.nested(|parser| parser.list(&[")"]))?;
        word.scripts.push(Rc::new(script));
        self.close(")")
    }

    fn backticks(&mut self, word: &mut Word) -> Result<(), Unparsed> {
        self.bump();
        word.mark();
        word.computed = true;
        let mut inner = String::new();
        loop {
            match self.bump() {
                None => return Err(Unparsed),
                Some('`') => break,
                Some('\\') => match self.bump() {
                    Some(escaped @ ('$' | '`' | '\\')) => inner.push(escaped),
                    Some(other) => inner.extend(['\\', other]),
                    None => return Err(Unparsed),
                },
                Some(other) => inner.push(other),
            }
        }
        let mut parser = self.inside(&inner);
        let script = parser.nested(|parser| parser.list(&[]));
        let ended = parser.peek().is_none() && parser.pending.is_empty();
        self.documents = parser.documents;
        word.scripts.push(Rc::new(script?));
        if ended { Ok(()) } else { Err(Unparsed) }
    }

    /// After `${` or `$[`, up to the bracket that closes it.
    fn bracketed(&mut self, word: &mut Word, end: char, in_quotes: bool) -> Result<(), Unparsed> {
        loop {
            match self.peek() {
                None => return Err(Unparsed),
                Some(close) if close == end => {
                    self.bump();
                    return Ok(());
                }
                Some('\\') => {
                    self.bump();
                    self.bump();
                }
                Some('"') => {
                    self.bump();
                    self.nested(|parser| parser.double_quoted(word, Some('"')))?;
                }
                // Within double quotes it depends on the operator whether this quotes.
                Some('\'') if in_quotes => return Err(Unparsed),
                Some('\'') => {
                    self.bump();
                    self.rest = self.rest.split_once('\'').ok_or(Unparsed)?.1;
                }
                Some('`') => self.backticks(word)?,
                Some('$') => self.dollar(word, in_quotes)?,
                Some(_) => {
                    self.bump();
                }
            }
        }
    }

    /// After `((`. A text that is not arithmetic may be a subshell in a substitution: then nobody can tell.
    pub(super) fn arithmetic(&mut self, word: &mut Word) -> Result<(), Unparsed> {
        let (mut open, mut after_operand, mut gap) = (0_usize, false, false);
        loop {
            match self.peek() {
                Some(')') if open == 0 => {
                    self.bump();
                    return if self.eat(")") { Ok(()) } else { Err(Unparsed) };
                }
                Some('$') => {
                    self.dollar(word, true)?;
                    (after_operand, gap) = (true, false);
                }
                Some(c) if c.is_ascii_alphanumeric() || c == '_' => {
                    // `rm x`: two names side by side are a command.
                    if after_operand && gap {
                        return Err(Unparsed);
                    }
                    self.bump();
                    (after_operand, gap) = (true, false);
                }
                Some(c) if c.is_whitespace() => {
                    self.bump();
                    gap = true;
                }
                Some(c) if "+-*/%<>=!&|^~?:,()[]#;".contains(c) => {
                    self.bump();
                    match c {
                        '(' => open += 1,
                        ')' => open -= 1,
                        _ => {}
                    }
                    (after_operand, gap) = (false, false);
                }
                _ => return Err(Unparsed),
            }
        }
    }

    /// After `$'`: the escapes of C.
    fn ansi_c(&mut self, word: &mut Word) -> Result<(), Unparsed> {
        loop {
            match self.bump() {
                None => return Err(Unparsed),
                Some('\'') => return Ok(()),
                Some('\\') => match self.bump() {
                    None => return Err(Unparsed),
                    Some('n') => word.text.push('\n'),
                    Some('t') => word.text.push('\t'),
                    Some('r') => word.text.push('\r'),
                    Some('x') => self.code(word, 16, 2),
                    Some('u') => self.code(word, 16, 4),
                    Some('U') => self.code(word, 16, 8),
                    Some(digit @ '0'..='7') => {
                        // The first digit is read already.
                        let mut value = digit.to_digit(8).unwrap_or(0);
                        for _ in 0..2 {
                            let Some(next) = self.peek().and_then(|c| c.to_digit(8)) else { break };
                            value = value * 8 + next;
                            self.bump();
                        }
                        word.text.extend(char::from_u32(value));
                    }
                    Some('a' | 'b' | 'e' | 'E' | 'f' | 'v' | 'c') => word.computed = true,
                    Some(other) => word.text.push(other),
                },
                Some(other) => word.text.push(other),
            }
        }
    }

    fn code(&mut self, word: &mut Word, radix: u32, digits: usize) {
        let mut value = 0_u32;
        for _ in 0..digits {
            let Some(next) = self.peek().and_then(|c| c.to_digit(radix)) else { break };
            value = value.wrapping_mul(radix).wrapping_add(next);
            self.bump();
        }
        word.text.extend(char::from_u32(value));
    }
}

/// How far an unquoted brace list (`{a,b}`, `{1..3}`) has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Brace {
    None,
    Open,
    Listed,
    Closed,
}

impl Brace {
    fn then(self, next: char, before: &str) -> Self {
        match (self, next) {
            (Self::None, '{') => Self::Open,
            (Self::Open, ',') => Self::Listed,
            (Self::Open, '.') if before.ends_with('.') => Self::Listed,
            (Self::Listed, '}') => Self::Closed,
            (state, _) => state,
        }
    }
}
