//! Rows of a file as entities: JSON lines and CSV. A row that cannot be one says why, and the next is read.

use std::io::{self, BufRead, Read};

use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::QueryError;
use crate::domain::strict;
use crate::store::brain::{Entity, MAX_ENTITY_BYTES, Relation, key_text};

/// What a key is called where nothing else is said.
pub const DEFAULT_KEY: &str = "id";
/// Bytes of a line; what is longer is skipped.
const MAX_LINE: usize = 4 * MAX_ENTITY_BYTES;
/// Members that name the type of a row.
const TYPE_MEMBERS: [&str; 2] = ["entity_type", "type"];

/// How a file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// One JSON object a line.
    Jsonl,
    /// A header and rows; separated by commas, semicolons or tabs.
    Csv,
}

/// What is said of all rows of a file.
#[derive(Debug, Clone, Default)]
pub struct RowsOptions {
    /// Their type; else each says its own in `type` or `entity_type`.
    pub entity_type: Option<String>,
    /// What their key is called; else `id`.
    pub key: Option<String>,
}

/// A row, and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    pub line: u64,
    /// The entity, or why it is none.
    pub entity: Result<Entity, String>,
}

/// The rows of a file.
pub struct Rows<R> {
    reader: Reader<R>,
    options: RowsOptions,
    line: u64,
}

enum Reader<R> {
    Lines(R),
    /// With the header, once it has been read.
    Csv {
        rows: Option<Box<csv::Reader<R>>>,
        raw: Option<R>,
        header: Vec<String>,
    },
}

impl<R> std::fmt::Debug for Rows<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Rows(line {})", self.line)
    }
}

impl<R: BufRead> Rows<R> {
    pub fn new(reader: R, format: Format, options: RowsOptions) -> Self {
        let reader = match format {
            Format::Jsonl => Reader::Lines(reader),
            Format::Csv => Reader::Csv { rows: None, raw: Some(reader), header: Vec::new() },
        };
        Self { reader, options, line: 0 }
    }

    /// The next line that is not blank; a line that is too long is read to its end and not kept.
    fn next_line(reader: &mut R, line: &mut u64) -> io::Result<Option<Result<Vec<u8>, String>>> {
        loop {
            let mut bytes = Vec::new();
            let most = u64::try_from(MAX_LINE + 1).unwrap_or(u64::MAX);
            if reader.by_ref().take(most).read_until(b'\n', &mut bytes)? == 0 {
                return Ok(None);
            }
            *line += 1;
            if bytes.len() > MAX_LINE && !bytes.ends_with(b"\n") {
                skip_line(reader)?;
                return Ok(Some(Err(format!("the line is longer than {MAX_LINE} bytes"))));
            }
            if !bytes.iter().all(u8::is_ascii_whitespace) {
                return Ok(Some(Ok(bytes)));
            }
        }
    }

    fn next_row(&mut self) -> io::Result<Option<Row>> {
        let Self { reader, options, line } = self;
        match reader {
            Reader::Lines(reader) => {
                let Some(bytes) = Self::next_line(reader, line)? else { return Ok(None) };
                let entity = bytes.and_then(|bytes| of_json(&bytes, options));
                Ok(Some(Row { line: *line, entity }))
            }
            Reader::Csv { rows, raw, header } => {
                if let Some(raw) = raw.take() {
                    let (mut opened, names) = open_csv(raw)?;
                    *line = opened.position().line();
                    *header = names;
                    opened.set_headers(csv::StringRecord::new());
                    *rows = Some(Box::new(opened));
                }
                let Some(rows) = rows else { return Ok(None) };
                let mut record = csv::ByteRecord::new();
                match rows.read_byte_record(&mut record) {
                    Ok(false) => Ok(None),
                    Ok(true) => {
                        let line = record.position().map_or(0, csv::Position::line);
                        Ok(Some(Row { line, entity: of_csv(&record, header, options) }))
                    }
                    Err(error) if error.is_io_error() => Err(io::Error::other(error)),
                    Err(error) => {
                        let line = error.position().map_or(0, csv::Position::line);
                        Ok(Some(Row { line, entity: Err(error.to_string()) }))
                    }
                }
            }
        }
    }
}

impl<R: BufRead> Iterator for Rows<R> {
    type Item = io::Result<Row>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_row().transpose()
    }
}

fn skip_line(reader: &mut impl BufRead) -> io::Result<()> {
    loop {
        let piece = reader.fill_buf()?;
        if piece.is_empty() {
            return Ok(());
        }
        let end = memchr::memchr(b'\n', piece);
        let used = end.map_or(piece.len(), |at| at + 1);
        reader.consume(used);
        if end.is_some() {
            return Ok(());
        }
    }
}

/// Reads the header, and finds out by it what separates the fields.
fn open_csv<R: BufRead>(mut raw: R) -> io::Result<(csv::Reader<R>, Vec<String>)> {
    let start = raw.fill_buf()?;
    let first = start.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let count = |mark: u8| first.iter().filter(|byte| **byte == mark).count();
    let separator = [b',', b';', b'\t'].into_iter().rev().max_by_key(|mark| count(*mark)).unwrap_or(b',');
    let mut reader = csv::ReaderBuilder::new().delimiter(separator).flexible(true).has_headers(true).from_reader(raw);
    let header = reader.headers().map_err(io::Error::other)?;
    let names: Vec<String> = header.iter().map(|name| name.trim().trim_start_matches('\u{feff}').to_owned()).collect();
    let twice = names.iter().enumerate().find(|(at, name)| names.iter().take(*at).any(|other| other == *name));
    match twice {
        Some((_, name)) => Err(io::Error::other(format!("the header has `{name}` twice"))),
        None if names.iter().all(String::is_empty) => Err(io::Error::other("there is no header")),
        None => Ok((reader, names)),
    }
}

fn of_json(bytes: &[u8], options: &RowsOptions) -> Result<Entity, String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "the line is not UTF-8".to_owned())?;
    let not_json = |error: serde_json::Error| {
        let text = error.to_string();
        // The line is ours to say.
        format!("not JSON: {}", text.split(" at line ").next().unwrap_or(&text))
    };
    let text: &RawValue = serde_json::from_str(text.trim_start_matches('\u{feff}')).map_err(not_json)?;
    strict::check(text.get()).map_err(|error| error.to_string())?;
    match serde_json::from_str(text.get()).map_err(not_json)? {
        Value::Object(members) => entity_of(members, options),
        _ => Err("a row is a JSON object".into()),
    }
}

fn of_csv(record: &csv::ByteRecord, header: &[String], options: &RowsOptions) -> Result<Entity, String> {
    if record.len() != header.len() {
        return Err(format!("the row has {} fields, the header {}", record.len(), header.len()));
    }
    let mut members = Map::new();
    for (name, cell) in header.iter().zip(record) {
        let text = std::str::from_utf8(cell).map_err(|_| format!("`{name}` is not UTF-8"))?;
        // A name or a key is a text, whatever it looks like.
        let as_text = TYPE_MEMBERS.contains(&name.as_str()) || name == options.key.as_deref().unwrap_or(DEFAULT_KEY);
        if !name.is_empty() && !text.is_empty() {
            members.insert(name.clone(), if as_text { Value::from(text) } else { cell_value(text) });
        }
    }
    entity_of(members, options)
}

/// A cell as a number or a boolean where it is written as JSON would write it, else as a text.
fn cell_value(text: &str) -> Value {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let plain = digits.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') && digits.len() <= 18;
    match text {
        "true" | "false" => Value::Bool(text == "true"),
        _ if plain => serde_json::from_str(text).unwrap_or_else(|_| Value::from(text)),
        _ => Value::from(text),
    }
}

/// The entity that an object stands for: flat, or with its attributes apart as answers have them.
///
/// # Errors
/// What is missing.
pub fn entity_of(mut members: Map<String, Value>, options: &RowsOptions) -> Result<Entity, String> {
    let key_name = options.key.as_deref().unwrap_or(DEFAULT_KEY);
    let apart = members.get("attributes").is_some_and(Value::is_object)
        && members.keys().all(|name| ["type", "entity_type", "key", "attributes", key_name].contains(&name.as_str()));
    let named = match &options.entity_type {
        Some(name) => Some(name.clone()),
        None => TYPE_MEMBERS.iter().find_map(|name| members.shift_remove(*name)).and_then(|name| match name {
            Value::String(name) => Some(name),
            _ => None,
        }),
    };
    let entity_type =
        named.ok_or_else(|| "no type: name it in a member `type`, or with `--type` at the command line".to_owned())?;
    let mut given = None;
    if apart {
        given = members.shift_remove("key").or_else(|| members.shift_remove(key_name));
        if let Some(Value::Object(attributes)) = members.shift_remove("attributes") {
            members = attributes;
        }
    }
    let inside = members.shift_remove(key_name);
    let text = |value: Option<Value>| value.as_ref().and_then(key_text);
    let (given, inside) = (text(given), text(inside));
    let key = match (given, inside) {
        (Some(given), Some(inside)) if given != inside => {
            return Err(format!("`key` is `{given}` and `{key_name}` is `{inside}`: they are the same thing"));
        }
        (Some(key), _) | (None, Some(key)) => key,
        (None, None) => return Err(format!("no key: `{key_name}` is missing, or neither a text nor a number")),
    };
    Ok(Entity { entity_type, key, key_name: key_name.to_owned(), attributes: members })
}

/// A relation as it is written: `invoice.customer_id=customer.id`.
///
/// # Errors
/// Where it is written in another way.
pub fn relation(text: &str) -> Result<Relation, QueryError> {
    let ends =
        text.split_once('=').and_then(|(one, other)| one.trim().split_once('.').zip(other.trim().split_once('.')));
    match ends {
        Some(((source, attribute), (target, other)))
            if [source, attribute, target, other].iter().all(|part| !part.is_empty()) =>
        {
            Ok(Relation {
                source: source.into(),
                attribute: attribute.into(),
                target: target.into(),
                target_attribute: other.into(),
            })
        }
        _ => Err(QueryError::invalid(format!("`{text}` is no relation: write `invoice.customer_id=customer.id`"))),
    }
}
