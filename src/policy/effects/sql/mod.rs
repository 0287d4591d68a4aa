//! SQL: what every statement of a text would do.
//!
//! Databases disagree on where a string or a comment ends, so a text whose end of quoting depends on the dialect is
//! read in each of them and every reading counts. A reading that breaks off still counts up to there: databases run
//! the statements before the fault.

mod functions;
mod head;
mod statement;

#[cfg(test)]
mod tests;

use std::ops::ControlFlow;

use sqlparser::ast::{Expr, Select, Statement, TableFactor, Visit, Visitor};
use sqlparser::dialect::{Dialect, GenericDialect, MsSqlDialect, MySqlDialect, PostgreSqlDialect, SQLiteDialect};
use sqlparser::keywords::Keyword;
use sqlparser::parser::Parser;
use sqlparser::tokenizer::{Token, TokenWithSpan, Tokenizer};

use super::effort::Effort;
use super::vocabulary::{Effect, Effects};

/// Longer texts are not read.
const MAX_BYTES: usize = 64 * 1024;
/// Operators, keywords and names in one text, which bound how deep its tree can be.
const MAX_TOKENS: usize = 4096;
/// Those, and all values, commas and spaces between them.
const MAX_LENGTH: usize = 32 * 1024;
/// What a keyword costs that may mean several things.
const MANY_WAYS: usize = 16;
/// Bytes that are cut into tokens in the time in which one is parsed.
const BYTES_A_TOKEN: usize = 8;
/// Open brackets at one place: the parser tries each in several ways.
const MAX_BRACKETS: usize = 24;
/// Up to here a thread's own stack does.
const PLAIN_TOKENS: usize = 400;
const PLAIN_BLOCKS: usize = 4;
/// Beyond it, this many bytes do for the deepest tree within the limits, several times over.
const STACK: usize = 16 * 1024 * 1024;
/// Joins in one text: where no condition follows them the parser nests them, without a limit of its own.
const MAX_JOINS: usize = 128;
const RECURSION_LIMIT: usize = 40;

/// What a text that is certainly SQL would do.
pub(super) fn certain(text: &str, effort: &mut Effort) -> Effects {
    if text.trim().is_empty() {
        return Effects::NONE;
    }
    let reading = read(text, effort);
    if reading.whole { reading.effects } else { reading.effects | Effect::SqlUnparsed }
}

/// What a text would do if it is SQL beyond doubt: `select`, `show me everything` and the like are free text.
/// One statement that is beyond doubt is enough, whatever follows it.
pub(super) fn possible(text: &str, effort: &mut Effort) -> Effects {
    if !head::may_begin_statement(without_mark(text)) {
        return Effects::NONE;
    }
    let reading = read(text, effort);
    match reading {
        Reading { too_large: true, .. } => Effect::SqlUnparsed.into(),
        Reading { unmistakable: false, .. } => Effects::NONE,
        Reading { whole: true, effects, .. } => effects,
        Reading { effects, .. } => effects | Effect::SqlUnparsed,
    }
}

/// Databases and their drivers skip a byte order mark.
fn without_mark(text: &str) -> &str {
    text.trim_start_matches('\u{feff}')
}

#[derive(Debug, Default, Clone, Copy)]
struct Reading {
    effects: Effects,
    /// Some dialect reads the text to its end.
    whole: bool,
    /// With a statement, read or only begun, that nobody would write as a phrase.
    unmistakable: bool,
    too_large: bool,
}

fn read(text: &str, effort: &mut Effort) -> Reading {
    if text.len() > MAX_BYTES {
        return Reading { too_large: true, ..Reading::default() };
    }
    let dialects: [&dyn Dialect; 5] =
        [&GenericDialect {}, &PostgreSqlDialect {}, &MySqlDialect {}, &SQLiteDialect {}, &MsSqlDialect {}];
    let text = without_mark(text);
    // MariaDB runs what stands in `/*M! … */`; the parser knows MySQL's `/*! … */`.
    let text = if text.contains("/*M!") { &text.replace("/*M!", "/*!") } else { text };
    let ambiguous = ["\\", "#", "$", "--", "/*", "\"", "`", "["].iter().any(|mark| text.contains(mark));
    let mut all = Reading::default();
    for (index, dialect) in dialects.into_iter().enumerate() {
        // What is read in every dialect is paid for before any of it is parsed.
        let times = match index {
            0 if ambiguous => dialects.len(),
            0 => 1,
            _ if ambiguous => 0,
            _ => 1,
        };
        let one = read_as(dialect, text, times, effort);
        all.effects |= one.effects;
        all.whole |= one.whole;
        all.unmistakable |= one.unmistakable;
        all.too_large |= one.too_large;
        if all.too_large || (one.whole && !ambiguous) {
            break;
        }
    }
    all.whole &= !all.too_large;
    all
}

/// Reads a text in a dialect, for which its cost is taken so many times.
fn read_as(dialect: &dyn Dialect, text: &str, times: usize, effort: &mut Effort) -> Reading {
    let too_large = Reading { too_large: true, ..Reading::default() };
    if !effort.affords(times * text.len() / BYTES_A_TOKEN) {
        return too_large;
    }
    let (tokens, end) = tokens(dialect, text);
    let (cost, work) = cost(&tokens);
    if !effort.affords(times * work) {
        return too_large;
    }
    let read = move || read_tokens(dialect, tokens, end);
    match cost {
        Cost::TooLarge => too_large,
        Cost::Deep => stacker::grow(STACK, read),
        Cost::Plain => read(),
    }
}

/// How the tokens of a text end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Closed,
    /// In a comment that is never closed: MySQL and SQLite run what is before it.
    InComment,
    /// In a string or a name: what is before it is not a statement yet.
    Broken,
}

fn tokens(dialect: &dyn Dialect, text: &str) -> (Vec<TokenWithSpan>, End) {
    let mut tokens = Vec::new();
    if Tokenizer::new(dialect, text).tokenize_with_location_into_buf(&mut tokens).is_ok() {
        return (tokens, End::Closed);
    }
    if text.contains("/*")
        && let Ok(tokens) = Tokenizer::new(dialect, &format!("{text}*/")).tokenize_with_location()
    {
        return (tokens, End::InComment);
    }
    (tokens, End::Broken)
}

/// Every statement, up to the first that does not parse.
fn read_tokens(dialect: &dyn Dialect, tokens: Vec<TokenWithSpan>, end: End) -> Reading {
    let mut parser = Parser::new(dialect).with_recursion_limit(RECURSION_LIMIT).with_tokens_with_locations(tokens);
    let mut reading = Reading::default();
    let mut statements = 0_usize;
    let ended = loop {
        while parser.consume_token(&Token::SemiColon) {}
        if parser.peek_token_ref().token == Token::EOF {
            break true;
        }
        statements += 1;
        let head = head::effects(&parser);
        let statement = next_statement(&mut parser);
        reading.effects |= statement.map_or(Effects::NONE, |(effects, _)| effects);
        let is_terminated = match parser.peek_token_ref().token {
            Token::SemiColon => true,
            Token::EOF => end != End::Broken,
            _ => false,
        };
        match statement {
            Some((_, unmistakable)) if is_terminated => reading.unmistakable |= unmistakable,
            _ => {
                reading.effects |= head;
                reading.unmistakable |= !head.is_empty();
                break false;
            }
        }
    };
    reading.whole = end == End::Closed && ended && statements > 0;
    reading
}

/// The effects of the next statement, and whether it is unmistakable; nothing where it does not parse.
fn next_statement(parser: &mut Parser<'_>) -> Option<(Effects, bool)> {
    if parser.parse_keyword(Keyword::PRAGMA) {
        return pragma(parser).map(|effects| (effects, true));
    }
    let statement = parser.parse_statement().ok()?;
    Some((effects_of(&statement), statement::is_unmistakable(&statement)))
}

/// After `PRAGMA`: the parser knows only numbers and strings as values, and `table_info(users)` is what is asked most.
fn pragma(parser: &mut Parser<'_>) -> Option<Effects> {
    let name = parser.parse_object_name(false).ok()?;
    let (has_value, is_assignment) = (parser.peek_token_ref().token == Token::LParen, parser.consume_token(&Token::Eq));
    if is_assignment {
        let _negative = parser.consume_token(&Token::Minus);
        parser.next_token();
    } else if parser.consume_token(&Token::LParen) {
        parser.next_token();
        parser.expect_token(&Token::RParen).ok()?;
    }
    Some(statement::of_pragma(&name, has_value || is_assignment, is_assignment))
}

/// What reading these tokens costs.
enum Cost {
    /// The tree may be deep in statements: they nest by the parser's largest frames.
    Deep,
    Plain,
    TooLarge,
}

/// That, and how much work it is in tokens.
fn cost(tokens: &[TokenWithSpan]) -> (Cost, usize) {
    let (mut count, mut open, mut blocks, mut joins) = (0_usize, 0_usize, 0_usize, 0_usize);
    let mut work = tokens.len();
    if work > MAX_LENGTH {
        return (Cost::TooLarge, work);
    }
    for token in tokens {
        match &token.token {
            Token::LParen | Token::LBracket | Token::LBrace => {
                open += 1;
                // What is in brackets may be read once for each way in which those around it may be.
                work += open * open;
            }
            Token::RParen | Token::RBracket | Token::RBrace => open = open.saturating_sub(1),
            Token::Whitespace(_) | Token::Comma | Token::Number(..) | Token::SingleQuotedString(_) => {}
            Token::Word(word) => {
                use Keyword as K;
                count += usize::from(word.keyword != K::NULL);
                joins += usize::from(word.keyword == K::JOIN);
                // Of these several readings are tried.
                work += if matches!(word.keyword, K::NOT | K::CASE) { MANY_WAYS } else { 0 };
                blocks += usize::from(matches!(
                    word.keyword,
                    K::EXPLAIN
                        | K::DESCRIBE
                        | K::DESC
                        | K::PREPARE
                        | K::IF
                        | K::WHILE
                        | K::CASE
                        | K::BEGIN
                        | K::CREATE
                        | K::JOIN
                ));
            }
            _ => count += 1,
        }
        if open > MAX_BRACKETS || count > MAX_TOKENS || joins > MAX_JOINS {
            return (Cost::TooLarge, work);
        }
    }
    (if count > PLAIN_TOKENS || blocks > PLAIN_BLOCKS || open > 0 { Cost::Deep } else { Cost::Plain }, work)
}

/// The effects of a statement and of all that is inside it.
fn effects_of(statement: &Statement) -> Effects {
    let mut walk = Walk::default();
    // The walk never breaks off.
    let ControlFlow::Continue(()) = statement.visit(&mut walk);
    // What is read and has no name here is not thereby harmless.
    if walk.found.is_empty() { Effect::SqlOther.into() } else { walk.found }
}

#[derive(Debug, Default)]
struct Walk {
    found: Effects,
    /// How many `EXPLAIN`s, which do not run what they explain, we are in.
    explained: usize,
}

impl Visitor for Walk {
    type Break = std::convert::Infallible;

    fn pre_visit_statement(&mut self, statement: &Statement) -> ControlFlow<Self::Break> {
        if self.explained == 0 {
            self.found |= statement::effects(statement);
        }
        self.explained += usize::from(statement::only_explains(statement));
        ControlFlow::Continue(())
    }

    fn post_visit_statement(&mut self, statement: &Statement) -> ControlFlow<Self::Break> {
        self.explained -= usize::from(statement::only_explains(statement));
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<Self::Break> {
        self.found |= Effect::SqlRead;
        if select.into.is_some() && self.explained == 0 {
            self.found |= Effect::SqlCreate | Effect::SqlWrite;
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<Self::Break> {
        match factor {
            TableFactor::Function { name, .. } | TableFactor::Table { name, args: Some(_), .. }
                if self.explained == 0 =>
            {
                self.found |= functions::effects(name);
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expression: &Expr) -> ControlFlow<Self::Break> {
        if let Expr::Function(function) = expression
            && self.explained == 0
        {
            self.found |= functions::effects(&function.name);
        }
        ControlFlow::Continue(())
    }
}
