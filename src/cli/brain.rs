//! `toolgate brain`.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Subcommand;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Map, Value, json};

use super::ask::{Desk, Need};
use super::{Common, Ended, ask, print, tools};
use crate::gateway::brain::{BrainCommand, Entity, Format, Imported, Relation, Rows, RowsOptions, relation};
use crate::gateway::control;

/// Rows of one batch, and bytes of attributes: whichever is reached first.
const BATCH: usize = 5_000;
const BATCH_BYTES: usize = 4 << 20;
/// Faults that are told one by one.
const TOLD: usize = 1_000;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Import entities from a file, beside a running gateway or without one; what is there already is replaced
    Import {
        /// JSON lines, or CSV with a header (by its ending, `.csv` or `.tsv`); `-` is standard input
        file: PathBuf,
        /// Type of every row; else each row says its own in `type` or `entity_type`
        #[arg(long = "type", value_name = "TYPE")]
        entity_type: Option<String>,
        /// What the key is called [default: id]
        #[arg(long, value_name = "FIELD")]
        key: Option<String>,
        /// How types belong together, where names do not say it: invoice.customer_id=customer.id
        #[arg(long, value_name = "A.X=B.Y")]
        relation: Vec<String>,
        /// jsonl or csv, whatever the file is called
        #[arg(long, value_parser = ["jsonl", "csv"])]
        format: Option<String>,
    },
    /// Find entities, and what belongs to them, as the machine's owner
    Query {
        /// Words to find
        text: Option<String>,
        /// Type of the entities
        #[arg(long = "type", value_name = "TYPE")]
        entity_type: Option<String>,
        /// Type of the entities that belong to them
        #[arg(long, value_name = "TYPE")]
        join: Option<String>,
        /// How they belong: a field, or invoice.customer_id=customer.id
        #[arg(long, requires = "join")]
        on: Option<String>,
        /// A condition: field=value, !=, >=, >, <=, <, or ~ for contains
        #[arg(long, value_name = "CONDITION")]
        filter: Vec<String>,
        #[arg(long, default_value_t = 10)]
        limit: usize,
        /// Only these fields
        #[arg(long, value_delimiter = ',')]
        fields: Vec<String>,
        /// Fields to add up over all that match
        #[arg(long, value_delimiter = ',')]
        sum: Vec<String>,
        /// Where the answer before ended
        #[arg(long)]
        cursor: Option<String>,
    },
    /// List the types, with their fields and relations
    Types,
}

pub(super) async fn run(common: &Common, command: Command) -> anyhow::Result<Ended> {
    match command {
        Command::Import { file, entity_type, key, relation: relations, format } => {
            let relations = relations.iter().map(|text| relation(text)).collect::<Result<Vec<_>, _>>()?;
            let format = format.as_deref().map_or_else(
                || format_of(&file),
                |name| {
                    if name == "csv" { Format::Csv } else { Format::Jsonl }
                },
            );
            import(common, &file, format, RowsOptions { entity_type, key }, relations).await
        }
        Command::Query { text, entity_type, join, on, filter, limit, fields, sum, cursor } => {
            let mut asked = Map::from_iter([("limit".to_owned(), json!(limit))]);
            let mut add = |name: &str, value: Option<Value>| {
                asked.extend(value.map(|value| (name.to_owned(), value)));
            };
            add("query", text.map(Value::from));
            add("entity_type", entity_type.map(Value::from));
            add("cursor", cursor.map(Value::from));
            add("fields", (!fields.is_empty()).then(|| json!(fields)));
            add("aggregate", (!sum.is_empty()).then(|| json!({"sum": sum})));
            add("filter", (!filter.is_empty()).then(|| conditions(&filter)).transpose()?);
            let join = join.map(|name| match on {
                Some(on) => json!({"entity_type": name, "on": on}),
                None => json!({"entity_type": name}),
            });
            add("join_to", join);
            let (tool, arguments) = ("toolgate:company_brain.query".to_owned(), Value::Object(asked));
            let answer = ask::ask(common, Need::Configuration, control::Command::Call { tool, arguments }).await?;
            tools::show(common, &answer);
            Ok(tools::ended(&answer))
        }
        Command::Types => {
            let answer = ask::ask(common, Need::Configuration, control::Command::Brain(BrainCommand::Types)).await?;
            if common.json {
                print::json(&answer);
            } else {
                show_types(print::list(&answer, "types"));
            }
            Ok(Ended::Well)
        }
    }
}

fn format_of(file: &Path) -> Format {
    let ending = file.extension().and_then(|ending| ending.to_str()).unwrap_or_default().to_ascii_lowercase();
    if ["csv", "tsv"].contains(&ending.as_str()) { Format::Csv } else { Format::Jsonl }
}

/// `field=value` and its kin as a filter.
fn conditions(texts: &[String]) -> anyhow::Result<Value> {
    let mut filter = Map::new();
    for text in texts {
        let signs =
            [("!=", "ne"), (">=", "gte"), ("<=", "lte"), (">", "gt"), ("<", "lt"), ("~", "contains"), ("=", "eq")];
        let first =
            text.find(['=', '!', '<', '>', '~']).context(format!("`{text}` is no condition: write field=value"))?;
        let (field, rest) = text.split_at(first);
        let (sign, operator) = signs
            .into_iter()
            .find(|(sign, _)| rest.starts_with(sign))
            .context(format!("`{text}` is no condition: write field=value"))?;
        let value = rest.get(sign.len()..).unwrap_or_default();
        let value = match serde_json::from_str(value) {
            Ok(scalar @ (Value::Number(_) | Value::Bool(_) | Value::Null)) => scalar,
            _ => Value::from(value),
        };
        let of_field = filter.entry(field.trim()).or_insert_with(|| json!({}));
        if let Some(operators) = of_field.as_object_mut() {
            operators.insert(operator.to_owned(), value);
        }
    }
    Ok(Value::Object(filter))
}

/// What has been imported so far.
#[derive(Default)]
struct Progress {
    rows: u64,
    imported: Imported,
    faults: u64,
    types: std::collections::BTreeSet<String>,
}

async fn import(
    common: &Common,
    file: &Path,
    format: Format,
    options: RowsOptions,
    relations: Vec<Relation>,
) -> anyhow::Result<Ended> {
    let name = file.display().to_string();
    let bar = ProgressBar::no_length();
    let reader: Box<dyn BufRead + Send> = if name == "-" {
        Box::new(BufReader::new(bar.wrap_read(std::io::stdin())))
    } else {
        let opened = File::open(file).with_context(|| format!("`{name}` cannot be read"))?;
        bar.set_length(opened.metadata().map_or(0, |about| about.len()));
        Box::new(BufReader::new(bar.wrap_read(opened)))
    };
    let style = "{elapsed} {bar:40} {bytes}/{total_bytes} {msg}, {eta} left";
    bar.set_style(ProgressStyle::with_template(style)?);
    let desk = Desk::open(common, Need::Configuration).await?;
    let done =
        Importing { desk: &desk, name: &name, bar: &bar }.run(Rows::new(reader, format, options), relations).await;
    let types = desk.ask(control::Command::Brain(BrainCommand::Types)).await;
    bar.finish_and_clear();
    desk.close().await;
    let (progress, types) = (done?, types?);
    let mine = |row: &&Value| progress.types.contains(&print::text(row, "type"));
    let types: Vec<Value> = print::list(&types, "types").iter().filter(mine).cloned().collect();
    tell(common, &progress, &types);
    Ok(if progress.faults == 0 && progress.imported.undeclared.is_empty() { Ended::Well } else { Ended::Wrong })
}

struct Importing<'a> {
    desk: &'a Desk,
    name: &'a str,
    bar: &'a ProgressBar,
}

impl Importing<'_> {
    /// Reads rows and hands them over by the batch; the relations go with the last.
    async fn run(&self, rows: Rows<Box<dyn BufRead + Send>>, relations: Vec<Relation>) -> anyhow::Result<Progress> {
        let (mut progress, mut batch, mut bytes) = (Progress::default(), Vec::new(), 0);
        for row in rows {
            let row = row.with_context(|| format!("`{}` cannot be read", self.name))?;
            progress.rows += 1;
            match row.entity {
                Ok(entity) => {
                    bytes += 64 + entity.key.len() + size(&entity);
                    batch.push((row.line, entity));
                }
                Err(reason) => self.fault(&mut progress, row.line, reason),
            }
            if batch.len() >= BATCH || bytes >= BATCH_BYTES {
                self.send(&mut progress, std::mem::take(&mut batch), Vec::new()).await?;
                bytes = 0;
            }
        }
        if !batch.is_empty() || !relations.is_empty() {
            self.send(&mut progress, batch, relations).await?;
        }
        Ok(progress)
    }

    async fn send(
        &self,
        progress: &mut Progress,
        rows: Vec<(u64, Entity)>,
        relations: Vec<Relation>,
    ) -> anyhow::Result<()> {
        progress.types.extend(rows.iter().map(|(_, entity)| entity.entity_type.clone()));
        let command = control::Command::Brain(BrainCommand::Import { rows, relations });
        let answer: Imported = serde_json::from_value(self.desk.ask(command).await?)?;
        progress.imported.created += answer.created;
        progress.imported.updated += answer.updated;
        progress.imported.unchanged += answer.unchanged;
        for (line, reason) in answer.faults {
            self.fault(progress, line, reason);
        }
        for reason in answer.undeclared {
            self.bar.suspend(|| print::note(&print::clean(&reason)));
            progress.imported.undeclared.push(reason);
        }
        self.bar.set_message(format!("{} rows", progress.rows));
        Ok(())
    }

    /// Tells of a row that was not taken.
    fn fault(&self, progress: &mut Progress, line: u64, reason: String) {
        progress.faults += 1;
        if progress.imported.faults.len() < TOLD {
            self.bar.suspend(|| print::note(&print::clean(&format!("{}:{line}: {reason}", self.name))));
            progress.imported.faults.push((line, reason));
        }
    }
}

fn size(entity: &Entity) -> usize {
    entity.attributes.iter().map(|(name, value)| name.len() + 8 + value.as_str().map_or(16, str::len)).sum()
}

fn tell(common: &Common, progress: &Progress, types: &[Value]) {
    let Progress { rows, imported, faults, .. } = progress;
    if common.json {
        let list: Vec<Value> =
            imported.faults.iter().map(|(line, reason)| json!({"line": line, "reason": reason})).collect();
        print::json(&json!({
            "rows": rows, "created": imported.created, "updated": imported.updated, "unchanged": imported.unchanged,
            "faulty": faults, "faults": list, "undeclared": imported.undeclared, "types": types,
        }));
        return;
    }
    print::line(&format!(
        "{rows} rows: {} created, {} updated, {} unchanged, {faults} faulty",
        imported.created, imported.updated, imported.unchanged
    ));
    show_types(types);
}

/// A table of fields, and the relations below it.
fn show_types(types: &[Value]) {
    let rows = types.iter().flat_map(|row| {
        let name = print::text(row, "type");
        let count = print::text(row, "entities");
        let key = vec![name.clone(), print::text(row, "key"), "key".into(), count];
        let fields = print::list(row, "fields").iter().map(move |field| {
            vec![name.clone(), print::text(field, "name"), print::text(field, "kinds"), print::text(field, "filled")]
        });
        std::iter::once(key).chain(fields)
    });
    print::table(&["type", "field", "kind", "filled"], rows);
    let mut told = std::collections::BTreeSet::new();
    for relation in types.iter().flat_map(|row| print::list(row, "relations")) {
        let on = print::text(relation, "on");
        if told.insert(on.clone()) {
            let how = if relation.get("declared") == Some(&Value::Bool(true)) { "declared" } else { "inferred" };
            print::line(&print::clean(&format!("{on} ({how})")));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_are_read_as_they_are_written() {
        let texts = ["status=open", "amount>=10.5", "amount<99", "name~ac=me", "x!=null", "y="].map(str::to_owned);
        assert_eq!(
            conditions(&texts).unwrap(),
            json!({
                "status": {"eq": "open"}, "amount": {"gte": 10.5, "lt": 99}, "name": {"contains": "ac=me"},
                "x": {"ne": null}, "y": {"eq": ""},
            })
        );
        assert_eq!(
            conditions(&["status".into()]).unwrap_err().to_string(),
            "`status` is no condition: write field=value"
        );
    }
}
