//! What the company knows, from outside: importing rows, and which types there are.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Gateway;
use super::control::{Actor, Failed, close_act};
pub use crate::brain::{Entity, Format, Relation, Row, Rows, RowsOptions, entity_of, relation};
use crate::brain::{Everything, QUERY_TIME, demo, types};

/// What the command line asks about entities.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "brain", rename_all = "snake_case")]
pub enum BrainCommand {
    /// Writes a batch of rows, each with its line.
    Import {
        rows: Vec<(u64, Entity)>,
        relations: Vec<Relation>,
    },
    Types,
}

/// What became of a batch.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Imported {
    pub created: u64,
    pub updated: u64,
    pub unchanged: u64,
    /// Line, or place in the batch, and reason.
    pub faults: Vec<(u64, String)>,
    /// Relations that were not kept, and why.
    pub undeclared: Vec<String>,
}

impl Gateway {
    pub(super) async fn brain_command(&self, command: BrainCommand) -> Result<Value, Failed> {
        match command {
            BrainCommand::Import { rows, relations } => Ok(json!(self.import(&Actor::owner(), rows, relations).await?)),
            BrainCommand::Types => {
                let read = self.brain.read(QUERY_TIME, |reading| types(reading, &mut Everything)).await;
                Ok(json!({"types": read.map_err(|error| Failed::of(&error))?}))
            }
        }
    }

    /// Writes entities for `actor`, and records that.
    ///
    /// # Errors
    /// Where it cannot be written, or not be recorded beforehand: then nothing was. Where it is its end that cannot be
    /// recorded, it was written, and the log says so later.
    pub async fn import(
        &self,
        actor: &Actor,
        rows: Vec<(u64, Entity)>,
        relations: Vec<Relation>,
    ) -> Result<Imported, Failed> {
        let kinds: BTreeSet<&str> = rows.iter().map(|(_, entity)| entity.entity_type.as_str()).take(1000).collect();
        let kinds: String = kinds.into_iter().collect::<Vec<_>>().join(", ").chars().take(500).collect();
        let mut notes = vec![format!("entity types: {kinds}")];
        notes.extend(relations.iter().take(20).map(|relation| {
            let Relation { source, attribute, target, target_attribute } = relation;
            format!("relation {source}.{attribute}={target}.{target_attribute}")
        }));
        let mut entry = self.begin_act(actor, "brain.import", &notes).await?;
        let (lines, entities): (Vec<u64>, Vec<Entity>) = rows.into_iter().unzip();
        let written = self.brain.write(entities, relations).await;
        if let Ok(written) = &written {
            let (created, updated, same) = (written.created, written.updated, written.unchanged);
            let faults = written.faults.len();
            entry.note(&format!("{created} created, {updated} updated, {same} unchanged, {faults} refused"));
        }
        close_act(entry, written.is_ok()).await?;
        let written = written.map_err(|error| Failed::of(&error))?;
        let faults =
            written.faults.into_iter().map(|fault| (lines.get(fault.at).copied().unwrap_or_default(), fault.reason));
        Ok(Imported {
            created: written.created,
            updated: written.updated,
            unchanged: written.unchanged,
            faults: faults.collect(),
            undeclared: written.undeclared,
        })
    }

    /// Gives the demo something to know, once: whoever has imported anything keeps what he has.
    pub(super) async fn know_the_demo(self: &Arc<Self>) {
        if self.brain.exists() {
            return;
        }
        if let Err(error) = self.brain.write(demo(), Vec::new()).await {
            tracing::warn!(%error, "the demo's entities could not be written");
        }
    }
}
