//! The first words of a statement: whether a text may be one at all, and what one does that the parser cannot read.

use sqlparser::keywords::Keyword;
use sqlparser::parser::Parser;
use sqlparser::tokenizer::{Token, Word};

use crate::policy::effects::vocabulary::{Effect, Effects};

/// Of an `ALTER …`, this many words are looked at for what it drops.
const ALTERATION: usize = 64;

/// What the statement that is next does by its first words alone: `DROP`, `TRUNCATE` or `ALTER`, then a kind of object,
/// then something. The parser knows few of the forms that databases do.
pub(super) fn effects(parser: &Parser<'_>) -> Effects {
    let (Some(verb), Some(kind)) = (word(parser, 0), word(parser, 1)) else { return Effects::NONE };
    let named = !matches!(
        &parser.peek_nth_token_ref(2).token,
        Token::EOF
            | Token::SemiColon
            | Token::Period
            | Token::Comma
            | Token::Colon
            | Token::ExclamationMark
            | Token::Question
            | Token::Minus
            | Token::RParen
    ) && !matches!(&parser.peek_nth_token_ref(2).token, Token::Placeholder(mark) if mark == "?");
    if !named || !OBJECTS.iter().any(|object| object.eq_ignore_ascii_case(&kind.value)) {
        return Effects::NONE;
    }
    let own = match verb.keyword {
        Keyword::DROP => Effect::SqlDrop | Effect::SqlWrite,
        Keyword::TRUNCATE => Effect::SqlTruncate | Effect::SqlWrite,
        Keyword::ALTER => of_alteration(parser),
        _ => return Effects::NONE,
    };
    let grants =
        ["role", "user", "login", "policy", "privileges"].iter().any(|it| it.eq_ignore_ascii_case(&kind.value));
    if grants { own | Effect::SqlGrant } else { own }
}

/// `ALTER TABLE t DROP PARTITION p`.
fn of_alteration(parser: &Parser<'_>) -> Effects {
    let mut effects = Effect::SqlAlter | Effect::SqlWrite;
    for at in 2..ALTERATION {
        match &parser.peek_nth_token_ref(at).token {
            Token::EOF | Token::SemiColon => break,
            Token::Word(word) if word.keyword == Keyword::DROP => effects |= Effect::SqlDrop,
            Token::Word(word) if word.keyword == Keyword::TRUNCATE => effects |= Effect::SqlTruncate,
            _ => {}
        }
    }
    effects
}

/// A word that is not quoted.
fn word<'a>(parser: &'a Parser<'_>, at: usize) -> Option<&'a Word> {
    match &parser.peek_nth_token_ref(at).token {
        Token::Word(word) if word.quote_style.is_none() => Some(word),
        _ => None,
    }
}

/// What databases drop and alter, or the first word of it. Left out is what a phrase names as easily (`drop package`).
const OBJECTS: &[&str] = &[
    "access",
    "aggregate",
    "assembly",
    "collation",
    "columnfamily",
    "constraint",
    "conversion",
    "database",
    "default",
    "domain",
    "event",
    "extension",
    "external",
    "foreign",
    "function",
    "index",
    "keyspace",
    "language",
    "login",
    "materialized",
    "operator",
    "owned",
    "policy",
    "procedure",
    "publication",
    "role",
    "routine",
    "rule",
    "schema",
    "sequence",
    "server",
    "statistics",
    "subscription",
    "synonym",
    "system",
    "table",
    "tablespace",
    "temporary",
    "trigger",
    "type",
    "undo",
    "user",
    "view",
];

/// A quick look at the first word: most free text ends here. Whatever is before it decides nothing.
pub(super) fn may_begin_statement(text: &str) -> bool {
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
