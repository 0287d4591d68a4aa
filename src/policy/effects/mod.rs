//! What the arguments of a call would do, told by real parsers and never by searching free text.
//!
//! Pure and total: any JSON gives an answer, in bounded time and memory. Where nobody can tell what an argument that is
//! certainly SQL, a command or a URL would do, that is an effect of its own (`sql.unparsed`), so a policy can refuse it.

mod effort;
mod names;
mod path;
mod shell;
mod sql;
mod url;
mod vocabulary;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::domain::id::OWN_SERVER;
use crate::domain::tool::{ArgumentKind, Kind, Tool};

use effort::Effort;
use names::Reading;
use vocabulary::{Effect, Effects};

pub use vocabulary::VOCABULARY;

/// Text read in one call, in bytes; past it, what is certainly SQL or shell counts as unparsed.
const BUDGET: usize = 512 * 1024;
/// As deep as the JSON parser goes.
const MAX_DEPTH: usize = 128;

/// What was recognised in the arguments of a call.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recognised {
    /// Names from [`VOCABULARY`], sorted, each once.
    pub effects: Vec<&'static str>,
}

/// What a call of this tool or prompt with these arguments would do, or the reading of this resource.
#[must_use]
pub fn of_call(tool: &Tool, arguments: &Value) -> Recognised {
    told(tool, arguments, &mut Effort::full())
}

/// The same, unless it takes more than a few milliseconds.
#[must_use]
pub fn of_call_briefly(tool: &Tool, arguments: &Value) -> Option<Recognised> {
    let mut effort = Effort::brief();
    let recognised = told(tool, arguments, &mut effort);
    (!effort.is_spent()).then_some(recognised)
}

fn told(tool: &Tool, arguments: &Value, effort: &mut Effort) -> Recognised {
    match tool.kind {
        // The gateway's own tools do nothing of what they are told about; what they call is judged by itself.
        Kind::Tool if tool.id.server.as_str() == OWN_SERVER => Recognised::default(),
        Kind::Tool | Kind::Prompt => recognise_within(arguments, &tool.settings.effects, effort),
        Kind::Resource => of_resource(&tool.id.tool),
        Kind::Entity => Recognised::default(),
    }
}

/// What reading the resource of this URI would touch.
#[must_use]
pub fn of_resource(uri: &str) -> Recognised {
    // As it is written: a parser of URLs takes the `..` out that a server may follow.
    let path = match uri.trim_start().split_once(':') {
        Some((scheme, rest)) if is_scheme(scheme) => {
            let found = path::recognise(rest);
            if scheme.eq_ignore_ascii_case("file") {
                found
            } else {
                // The root of another scheme is not the root of a disk.
                found & Effect::PathSecret.into()
            }
        }
        _ => path::recognise(uri),
    };
    let climb = if climbs(uri) { Effect::PathTraversal.into() } else { Effects::NONE };
    Recognised { effects: (url::recognise(uri) | path | climb).names() }
}

/// Whether a URI has a `..` in it, in any encoding.
#[must_use]
pub fn climbs(uri: &str) -> bool {
    // A query or a fragment ends a segment too.
    path::recognise(&uri.replace(['?', '#', ':'], "/")).meets(Effect::PathTraversal.into())
}

/// A single letter is a drive.
fn is_scheme(text: &str) -> bool {
    text.len() > 1
        && text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'))
}

/// What a call with these arguments would do.
///
/// A string counts by the name of the nearest member around it, or where that says nothing and a member further out is
/// certainly SQL (`{"sql": {"text": …}}`), as that; `mapping` is the operator's word (`effects = { body =
/// "sql" }`) and goes before what the name says.
#[must_use]
pub fn recognise(arguments: &Value, mapping: &BTreeMap<String, ArgumentKind>) -> Recognised {
    recognise_within(arguments, mapping, &mut Effort::full())
}

fn recognise_within(arguments: &Value, mapping: &BTreeMap<String, ArgumentKind>, effort: &mut Effort) -> Recognised {
    let mut walk = Walk { mapping, effort, budget: BUDGET, found: Effects::NONE };
    walk.value(arguments, None, 0);
    Recognised { effects: walk.found.names() }
}

struct Walk<'a> {
    mapping: &'a BTreeMap<String, ArgumentKind>,
    effort: &'a mut Effort,
    budget: usize,
    found: Effects,
}

impl Walk<'_> {
    fn value(&mut self, value: &Value, reading: Option<Reading>, depth: usize) {
        if depth > MAX_DEPTH {
            self.found |= Effect::SqlUnparsed | Effect::ShellUnparsed;
            return;
        }
        match value {
            Value::String(text) => {
                if let Some(reading) = reading {
                    self.text(text, reading);
                }
            }
            Value::Array(items) => self.array(items, reading, depth),
            Value::Object(members) => self.object(members, reading, depth),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    /// `around`: what the member that holds the object is read as.
    fn object(&mut self, members: &Map<String, Value>, around: Option<Reading>, depth: usize) {
        for (name, value) in members {
            let reading = Reading::of(name, self.mapping);
            match (reading, value) {
                (Some(Reading::Shell), Value::String(command)) => match following_arguments(members) {
                    Some(arguments) => self.argv(Some(command), arguments),
                    None => self.text(command, Reading::Shell),
                },
                (None, Value::Array(items)) if name.eq_ignore_ascii_case("argv") => self.argv(None, items),
                _ => self.value(value, Reading::inside(around, name, reading), depth + 1),
            }
        }
    }

    fn array(&mut self, items: &[Value], reading: Option<Reading>, depth: usize) {
        // `["rm", "-rf", "/"]` is one command; `["cd /tmp", "make"]` is several.
        let is_argv = reading == Some(Reading::Shell)
            && matches!(items, [Value::String(program), _, ..] if !program.trim().contains(char::is_whitespace));
        if is_argv {
            self.argv(None, items);
            return;
        }
        for item in items {
            self.value(item, reading, depth + 1);
        }
    }

    /// A command given word by word: nothing in `arguments` is quoting.
    fn argv(&mut self, command: Option<&str>, arguments: &[Value]) {
        let mut line = command.map(str::to_owned).unwrap_or_default();
        for word in arguments.iter().filter_map(Value::as_str) {
            line.push_str(" '");
            line.push_str(&word.replace('\'', "'\\''"));
            line.push('\'');
        }
        self.text(&line, Reading::Shell);
    }

    fn text(&mut self, text: &str, reading: Reading) {
        let Some(left) = self.budget.checked_sub(text.len()) else {
            self.found |= match reading {
                Reading::Sql | Reading::PerhapsSql => Effects::from(Effect::SqlUnparsed),
                Reading::Shell => Effect::ShellUnparsed.into(),
                Reading::PerhapsScript => Effect::SqlUnparsed | Effect::ShellUnparsed,
                Reading::Url => Effect::UrlUnparsed.into(),
                Reading::Path => Effects::NONE,
            };
            return;
        };
        self.budget = left;
        self.found |= match reading {
            Reading::Sql => sql::certain(text, self.effort),
            Reading::PerhapsSql => sql::possible(text, self.effort),
            Reading::Shell => shell::certain(text, self.effort),
            Reading::PerhapsScript => shell::possible(text, self.effort) | sql::possible(text, self.effort),
            Reading::Url => url::recognise(text),
            // `file:` URLs are given for paths too.
            Reading::Path if has_scheme(text) => url::recognise(text),
            Reading::Path => path::recognise(text),
        };
    }
}

/// `{"command": "rm", "args": ["-rf", "/"]}`: the words that follow the command.
fn following_arguments(members: &Map<String, Value>) -> Option<&Vec<Value>> {
    ["args", "arguments", "argv"].into_iter().find_map(|name| members.get(name)?.as_array())
}

fn has_scheme(text: &str) -> bool {
    text.trim_start().get(..5).is_some_and(|start| start.eq_ignore_ascii_case("file:")) || text.contains("://")
}
