//! SQL: what every statement of a text would do.
//!
//! Databases disagree on where a string or a comment ends, so a text whose end of quoting depends on the dialect is
//! read in each of them and every reading counts. A reading that breaks off still counts up to there: databases run
//! the statements before the fault.

mod functions;
mod statement;

#[cfg(test)]
mod tests;

use std::ops::ControlFlow;

use sqlparser::ast::{Expr, Select, Statement, TableFactor, Visit, Visitor};
use sqlparser::dialect::{Dialect, GenericDialect, MsSqlDialect, MySqlDialect, PostgreSqlDialect, SQLiteDialect};
use sqlparser::keywords::Keyword;
use sqlparser::parser::Parser;
use sqlparser::tokenizer::{Token, TokenWithSpan, Tokenizer};

use super::vocabulary::{Effect, Effects};

/// Longer texts are not read.
const MAX_BYTES: usize = 64 * 1024;
/// Operators, keywords and names in one text, which bound how deep its tree can be; lists of values are free.
const MAX_TOKENS: usize = 4096;
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
pub(super) fn certain(text: &str) -> Effects {
    if text.trim().is_empty() {
        return Effects::NONE;
    }
    let reading = read(text);
    if reading.whole { reading.effects } else { reading.effects | Effect::SqlUnparsed }
}

/// What a text would do if it is SQL beyond doubt: `select`, `show me everything` and the like are free text.
pub(super) fn possible(text: &str) -> Effects {
    if !may_begin_statement(text) {
        return Effects::NONE;
    }
    let reading = read(text);
    match reading {
        Reading { too_large: true, .. } => Effect::SqlUnparsed.into(),
        Reading { whole: true, unmistakable: true, effects, .. } => effects,
        _ => Effects::NONE,
    }
}

#[derive(Debug, Default, Clone, Copy)]
struct Reading {
    effects: Effects,
    /// Some dialect reads the text to its end.
    whole: bool,
    /// With a statement that nobody would write as a phrase.
    unmistakable: bool,
    too_large: bool,
}

fn read(text: &str) -> Reading {
    if text.len() > MAX_BYTES {
        return Reading { too_large: true, ..Reading::default() };
    }
    let dialects: [&dyn Dialect; 5] =
        [&GenericDialect {}, &PostgreSqlDialect {}, &MySqlDialect {}, &SQLiteDialect {}, &MsSqlDialect {}];
    // MariaDB runs what stands in `/*M! … */`; the parser knows MySQL's `/*! … */`.
    let text = if text.contains("/*M!") { &text.replace("/*M!", "/*!") } else { text };
    let ambiguous = ["\\", "#", "$", "--", "/*", "\"", "`", "["].iter().any(|mark| text.contains(mark));
    let mut all = Reading::default();
    for dialect in dialects {
        let one = read_as(dialect, text);
        all.effects |= one.effects;
        all.whole |= one.whole;
        all.unmistakable |= one.whole && one.unmistakable;
        all.too_large |= one.too_large;
        if all.too_large || (one.whole && !ambiguous) {
            break;
        }
    }
    all.whole &= !all.too_large;
    all
}

fn read_as(dialect: &dyn Dialect, text: &str) -> Reading {
    let mut tokens = Vec::new();
    let closed = Tokenizer::new(dialect, text).tokenize_with_location_into_buf(&mut tokens).is_ok();
    let cost = cost(&tokens);
    let read = move || read_tokens(dialect, tokens, closed);
    match cost {
        Cost::TooLarge => Reading { too_large: true, ..Reading::default() },
        Cost::Deep => stacker::grow(STACK, read),
        Cost::Plain => read(),
    }
}

/// Every statement, up to the first that does not parse. `closed`: the tokens are those of the whole text.
fn read_tokens(dialect: &dyn Dialect, tokens: Vec<TokenWithSpan>, closed: bool) -> Reading {
    let mut parser = Parser::new(dialect).with_recursion_limit(RECURSION_LIMIT).with_tokens_with_locations(tokens);
    let mut reading = Reading::default();
    let mut statements = 0_usize;
    let ended = loop {
        while parser.consume_token(&Token::SemiColon) {}
        if parser.peek_token_ref().token == Token::EOF {
            break true;
        }
        statements += 1;
        if parser.parse_keyword(Keyword::PRAGMA) {
            let Some(effects) = pragma(&mut parser) else { break false };
            reading.effects |= effects;
            reading.unmistakable = true;
        } else {
            let Ok(statement) = parser.parse_statement() else { break false };
            reading.effects |= effects_of(&statement);
            reading.unmistakable |= statement::is_unmistakable(&statement);
        }
        if !matches!(parser.peek_token_ref().token, Token::SemiColon | Token::EOF) {
            break false;
        }
    };
    reading.whole = closed && ended && statements > 0;
    reading
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

fn cost(tokens: &[TokenWithSpan]) -> Cost {
    let (mut count, mut open, mut blocks, mut joins) = (0_usize, 0_usize, 0_usize, 0_usize);
    for token in tokens {
        match &token.token {
            Token::LParen | Token::LBracket | Token::LBrace => open += 1,
            Token::RParen | Token::RBracket | Token::RBrace => open = open.saturating_sub(1),
            Token::Whitespace(_) | Token::Comma | Token::Number(..) | Token::SingleQuotedString(_) => {}
            Token::Word(word) => {
                use Keyword as K;
                count += usize::from(word.keyword != K::NULL);
                joins += usize::from(word.keyword == K::JOIN);
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
            return Cost::TooLarge;
        }
    }
    if count > PLAIN_TOKENS || blocks > PLAIN_BLOCKS || open > 0 { Cost::Deep } else { Cost::Plain }
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

/// A quick look at the first word: most free text ends here. Whatever is before it decides nothing.
fn may_begin_statement(text: &str) -> bool {
    let text = text.trim_start_matches(|c: char| c.is_whitespace() || matches!(c, ';' | '('));
    if text.starts_with(['/', '-', '#']) {
        return true;
    }
    let end = text.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(text.len());
    let word = text.get(..end).unwrap_or("");
    // A phrase of one word is not a statement that does anything.
    end < text.len() && FIRST_WORDS.iter().any(|first| first.eq_ignore_ascii_case(word))
}

const FIRST_WORDS: &[&str] = &[
    "abort",
    "alter",
    "analyse",
    "analyze",
    "assert",
    "attach",
    "begin",
    "cache",
    "call",
    "case",
    "checkpoint",
    "close",
    "comment",
    "commit",
    "copy",
    "create",
    "deallocate",
    "declare",
    "delete",
    "deny",
    "desc",
    "describe",
    "detach",
    "discard",
    "do",
    "drop",
    "end",
    "exec",
    "execute",
    "explain",
    "export",
    "fetch",
    "flush",
    "from",
    "grant",
    "if",
    "insert",
    "install",
    "kill",
    "list",
    "listen",
    "load",
    "lock",
    "merge",
    "move",
    "msck",
    "notify",
    "open",
    "optimize",
    "pragma",
    "prepare",
    "print",
    "put",
    "raise",
    "raiserror",
    "refresh",
    "reindex",
    "release",
    "remove",
    "rename",
    "repair",
    "replace",
    "reset",
    "return",
    "revoke",
    "rollback",
    "savepoint",
    "select",
    "set",
    "show",
    "start",
    "table",
    "throw",
    "truncate",
    "uncache",
    "unload",
    "unlisten",
    "unlock",
    "update",
    "upsert",
    "use",
    "vacuum",
    "values",
    "waitfor",
    "while",
    "with",
];
