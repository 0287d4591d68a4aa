//! What people and scripts see: data on stdout, messages on stderr, no raw control characters.

use std::io::{IsTerminal, Write};

use comfy_table::presets::NOTHING;
use comfy_table::{ContentArrangement, Table};
use serde_json::Value;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::writer::BoxMakeWriter;

use super::{Common, Ended};
use crate::domain::plain::is_invisible;

/// Sends the log to stderr. A filter that cannot be read is as good as none.
pub(super) fn logging(format: &str, level: &str, filter: Option<&str>) {
    let filter = filter
        .and_then(|text| EnvFilter::try_new(text).ok())
        .unwrap_or_else(|| EnvFilter::new(format!("{level},rmcp=warn")));
    // It would log codes of logins.
    let filter = match "rmcp::transport::auth=warn".parse() {
        Ok(quiet) => filter.add_directive(quiet),
        Err(_) => filter,
    };
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(BoxMakeWriter::new(std::io::stderr));
    let set = if format == "json" {
        tracing::subscriber::set_global_default(builder.json().finish())
    } else {
        tracing::subscriber::set_global_default(
            builder.with_ansi(std::io::stderr().is_terminal()).with_target(false).finish(),
        )
    };
    // In tests the log may be set already.
    drop(set);
}

/// A line on stdout. A reader that has gone away is no fault of ours.
pub(super) fn line(text: &str) {
    let _gone = writeln!(std::io::stdout(), "{text}");
}

/// A line on stderr.
pub(super) fn note(text: &str) {
    let _gone = writeln!(std::io::stderr(), "{text}");
}

/// An error for the person at the terminal.
pub(super) fn failed(text: &str) -> Ended {
    note(&format!("error: {text}"));
    Ended::Wrong
}

/// clap's own text, on the stream where it belongs.
pub(super) fn usage(error: &clap::Error) {
    let _gone = error.print();
}

/// JSON for scripts.
pub(super) fn json(value: &Value) {
    line(&visible(&serde_json::to_string_pretty(value).unwrap_or_else(|_| value.to_string())));
}

/// The same JSON, with what cannot be seen escaped. It stands in texts alone, so it says what it said.
fn visible(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        if hides(c) {
            out.extend(c.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04x}")));
        } else {
            out.push(c);
        }
    }
    out
}

/// Whether a character steers a terminal, or shows otherwise than it reads.
fn hides(c: char) -> bool {
    (c.is_control() && c != '\n') || is_invisible(c)
}

/// JSON for scripts, or else a line for people.
pub(super) fn answer(common: &Common, answer: &Value, text: &str) {
    if common.json { json(answer) } else { line(&clean(text)) }
}

/// A table: a header, a row for each of `rows`, columns as wide as the terminal allows.
pub(super) fn table(header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) {
    let mut table = Table::new();
    table
        .load_style(NOTHING)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_header(header.iter().map(|name| name.to_uppercase()));
    if !std::io::stdout().is_terminal() {
        table.set_content_arrangement(ContentArrangement::Disabled);
    }
    for row in rows {
        table.add_row(row.iter().map(|cell| clean(cell)));
    }
    line(&table.to_string().lines().map(str::trim_end).collect::<Vec<_>>().join("\n"));
}

/// A member as text: empty where it is absent or null, lists joined.
pub(super) fn text(value: &Value, name: &str) -> String {
    match value.get(name) {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(items)) => items
            .iter()
            .map(|item| item.as_str().map_or_else(|| item.to_string(), str::to_owned))
            .collect::<Vec<_>>()
            .join(", "),
        Some(other) => other.to_string(),
    }
}

/// The items of a list member.
pub(super) fn list<'v>(value: &'v Value, name: &str) -> &'v [Value] {
    value.get(name).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// Text that can neither steer a terminal nor show otherwise than it reads: control characters but the line feed, and
/// characters that are invisible or turn the direction of writing.
pub(super) fn clean(text: &str) -> String {
    text.chars().map(|c| if hides(c) { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::{clean, is_invisible, visible};

    #[test]
    fn nothing_steers_the_terminal() {
        assert_eq!(clean("a\u{1b}[31m\u{202e}b\u{200b}\nc"), "a\u{fffd}[31m\u{fffd}b\u{fffd}\nc");
        assert_eq!(clean("żółć 日本"), "żółć 日本");
        for c in (char::MIN..=char::MAX).filter(|c| is_invisible(*c)) {
            assert_eq!(clean(&format!("k{c}")), "k\u{fffd}");
        }
    }

    #[test]
    fn json_for_scripts_says_the_same_and_hides_nothing() {
        let value = serde_json::json!({"k\u{3164}": "a\u{e0041}\u{9b}31m\u{202e}\nżółć"});
        let text = visible(&serde_json::to_string_pretty(&value).unwrap());
        assert!(text.contains(r"k\u3164") && text.contains(r"a\udb40\udc41\u009b31m\u202e\nżółć"), "{text}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), value);
    }
}
