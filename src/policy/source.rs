//! Policy text: cut into single policies, with the place of every fault.

use std::fmt;
use std::sync::Arc;

use serde::Serialize;

/// One policy file, or one text that came over the API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicySource {
    /// As people know it, e.g. `policies/writers.cedar`; policies are ordered by it.
    pub file: Arc<str>,
    pub text: Arc<str>,
}

/// Something wrong with a policy, or worth a warning: where, what, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PolicyFault {
    pub file: Arc<str>,
    /// From 1.
    pub line: u32,
    /// From 1, in characters.
    pub column: u32,
    pub message: String,
    pub hint: Option<String>,
    /// The policy's id, where it is known.
    pub policy: Option<Arc<str>>,
    /// The tool that the policy was checked against, where the fault depends on one.
    pub tool: Option<Arc<str>>,
}

impl fmt::Display for PolicyFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: {}", self.file, self.line, self.column, self.message)?;
        match &self.hint {
            Some(hint) => write!(f, " ({hint})"),
            None => Ok(()),
        }
    }
}

/// As a reader of the files meets them.
pub(super) fn in_order(faults: &mut [PolicyFault]) {
    faults.sort_by(|one, other| (&one.file, one.line, one.column).cmp(&(&other.file, other.line, other.column)));
}

/// The text of one policy and where it starts in its file.
#[derive(Debug, Clone)]
pub(super) struct Piece {
    pub(super) file: Arc<str>,
    pub(super) text: Arc<str>,
    /// The offset of its first byte in the file.
    pub(super) start: usize,
    line: u32,
    column: u32,
    /// Its number in the file, from 1.
    pub(super) number: usize,
    /// The deepest nesting of brackets.
    pub(super) depth: usize,
    /// How many operators it holds, or a few more.
    pub(super) operators: usize,
}

impl Piece {
    /// The line of the policy's first token.
    pub(super) const fn line(&self) -> u32 {
        self.line
    }

    /// A fault at a byte offset into the policy's text.
    pub(super) fn fault(&self, offset: usize, message: impl Into<String>, hint: Option<String>) -> PolicyFault {
        let before = self.text.get(..offset).unwrap_or(&self.text);
        let (line, column) = match before.rsplit_once('\n') {
            Some((above, left)) => (self.line + newlines(above) + 1, 1 + characters(left)),
            None => (self.line, self.column + characters(before)),
        };
        PolicyFault {
            file: Arc::clone(&self.file),
            line,
            column,
            message: message.into(),
            hint,
            policy: None,
            tool: None,
        }
    }

    /// The offset of `@name`, for faults about an annotation.
    pub(super) fn annotation_offset(&self, name: &str) -> usize {
        self.text.find(&format!("@{name}")).unwrap_or(0)
    }
}

fn newlines(text: &str) -> u32 {
    u32::try_from(text.matches('\n').count()).unwrap_or(u32::MAX)
}

fn characters(text: &str) -> u32 {
    u32::try_from(text.chars().count()).unwrap_or(u32::MAX)
}

/// Where the scanner stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Code,
    Comment,
    Text,
    Escape,
}

/// How deep a text can make a parser go.
#[derive(Clone, Copy, Default)]
struct Shape {
    depth: usize,
    operators: usize,
}

/// Cuts a file at the `;` that ends each policy, so that a fault in one policy does not hide those of the next.
/// In Cedar's grammar `;` stands nowhere else but in strings and comments.
pub(super) fn pieces(source: &PolicySource) -> Vec<Piece> {
    let mut found = Vec::new();
    let mut state = State::Code;
    let (mut start, mut shape, mut depth) = (None, Shape::default(), 0_usize);
    let mut letters = source.text.char_indices().peekable();
    while let Some((at, letter)) = letters.next() {
        match (state, letter) {
            (State::Comment, '\n') => state = State::Code,
            (State::Text, '\\') => state = State::Escape,
            (State::Text, '"') => state = State::Code,
            (State::Escape, _) => state = State::Text,
            (State::Comment | State::Text, _) => {}
            (State::Code, '/') if letters.peek().is_some_and(|(_, next)| *next == '/') => state = State::Comment,
            (State::Code, letter) if letter.is_whitespace() => {}
            (State::Code, letter) => {
                let from = *start.get_or_insert(at);
                match letter {
                    '"' => state = State::Text,
                    '(' | '[' | '{' => depth += 1,
                    ')' | ']' | '}' => depth = depth.saturating_sub(1),
                    ';' => {
                        found.push(piece(source, from, at + 1, found.len() + 1, shape));
                        (start, shape, depth) = (None, Shape::default(), 0);
                    }
                    '.' | '&' | '|' | '+' | '-' | '*' | '!' | '<' | '>' | '=' => shape.operators += 1,
                    // `if … then … else` nests without any sign; that "notify" counts too does no harm.
                    'i' if letters.peek().is_some_and(|(_, next)| *next == 'f') => shape.operators += 1,
                    _ => {}
                }
                shape.depth = shape.depth.max(depth);
            }
        }
    }
    if let Some(from) = start {
        found.push(piece(source, from, source.text.len(), found.len() + 1, shape));
    }
    found
}

fn piece(source: &PolicySource, from: usize, to: usize, number: usize, shape: Shape) -> Piece {
    let before = source.text.get(..from).unwrap_or_default();
    let left = before.rsplit_once('\n').map_or(before, |(_, left)| left);
    Piece {
        file: Arc::clone(&source.file),
        text: source.text.get(from..to).unwrap_or_default().into(),
        start: from,
        line: 1 + newlines(before),
        column: 1 + characters(left),
        number,
        depth: shape.depth,
        operators: shape.operators,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(text: &str) -> Vec<Piece> {
        pieces(&PolicySource { file: "a.cedar".into(), text: text.into() })
    }

    #[test]
    fn a_policy_ends_at_its_semicolon() {
        let found = cut("// one; two\n@id(\"a;b\\\";\") permit(x);\n\n  forbid([{}]); // ;\n left");
        let texts: Vec<&str> = found.iter().map(|piece| &*piece.text).collect();
        assert_eq!(texts, ["@id(\"a;b\\\";\") permit(x);", "forbid([{}]);", "left"]);
        assert_eq!(found.iter().map(|piece| (piece.line, piece.column)).collect::<Vec<_>>(), [(2, 1), (4, 3), (5, 2)]);
        assert_eq!(found.iter().map(|piece| piece.depth).collect::<Vec<_>>(), [1, 3, 0]);
    }

    #[test]
    fn a_fault_is_placed_in_the_file() {
        let found = cut("\n  permit(\n    é principal);");
        let fault = found[0].fault(found[0].text.find("principal").unwrap(), "no", None);
        assert_eq!((fault.line, fault.column), (3, 7));
        let fault = found[0].fault(6, "no", Some("try".into()));
        assert_eq!(fault.to_string(), "a.cedar:2:9: no (try)");
    }
}
