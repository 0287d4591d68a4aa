//! All tools of all backends at one moment.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::Value;

use super::definition::Indexed;
use super::names::{digested_name, flat_name, is_exact};
use super::resolve::Resolved;
use super::validator::Checker;
use crate::config::ServerSettings;
use crate::domain::call::ToolRef;
use crate::domain::id::ServerName;
use crate::domain::json::Json;
use crate::domain::outcome::SchemaFault;
use crate::domain::tool::Tool;
use crate::wire::mirror::{self, Mirror, Said};

/// A tool in its place in the catalogue.
#[derive(Debug)]
pub struct Entry {
    indexed: Arc<Indexed>,
    /// The name for hosts: `[A-Za-z0-9_-]{1,64}`, unique in the catalogue.
    pub flat: Arc<str>,
    /// The backend is not there now; this is what it last listed.
    pub stale: bool,
}

impl Entry {
    #[must_use]
    pub fn tool(&self) -> &Arc<Tool> {
        &self.indexed.tool
    }
}

/// What is known of a server beside its tools.
#[derive(Debug, Clone)]
pub struct ServerCard {
    pub name: ServerName,
    /// What the backend calls itself.
    pub title: Option<String>,
    pub instructions: Option<String>,
    /// From the configuration.
    pub description: Option<String>,
    pub namespace: String,
    /// How many tools it has.
    pub tools: usize,
    pub stale: bool,
}

/// What one server contributes.
#[derive(Debug, Clone)]
pub(crate) struct Part {
    pub settings: Arc<ServerSettings>,
    pub title: Option<String>,
    pub instructions: Option<String>,
    pub tools: Vec<Arc<Indexed>>,
    pub stale: bool,
}

/// An immutable snapshot; a change makes another.
#[derive(Debug, Default)]
pub struct Catalog {
    epoch: u64,
    entries: Vec<Arc<Entry>>,
    by_id: HashMap<Arc<str>, HashMap<Arc<str>, Arc<Entry>>>,
    by_flat: HashMap<Arc<str>, Arc<Entry>>,
    servers: Vec<ServerCard>,
    warnings: Vec<String>,
}

impl Catalog {
    /// Puts the parts together: servers by name, then tools by name.
    pub(crate) fn build(mut parts: Vec<Part>, epoch: u64) -> Self {
        parts.sort_by(|a, b| a.settings.name.cmp(&b.settings.name));
        let mut catalog = Self { epoch, ..Self::default() };
        let flats = flat_names(&parts);
        let mut flats = flats.into_iter();
        for part in parts {
            let mut tools = HashMap::with_capacity(part.tools.len());
            let count = part.tools.len();
            for indexed in part.tools {
                let Some(flat) = flats.next() else { break };
                let name = Arc::clone(&indexed.tool.id.tool);
                let entry = Arc::new(Entry { indexed, flat: flat.into(), stale: part.stale });
                if let Some(other) = catalog.by_flat.insert(Arc::clone(&entry.flat), Arc::clone(&entry)) {
                    let (one, two) = (&other.tool().label, &entry.tool().label);
                    catalog.warnings.push(format!("`{one}` and `{two}` have one flat name; `{one}` goes without"));
                }
                tools.insert(name, Arc::clone(&entry));
                catalog.entries.push(entry);
            }
            catalog.by_id.insert(part.settings.name.as_str().into(), tools);
            catalog.servers.push(ServerCard {
                name: part.settings.name.clone(),
                title: part.title,
                instructions: part.instructions,
                description: part.settings.description.clone(),
                namespace: part.settings.namespace.clone(),
                tools: count,
                stale: part.stale,
            });
        }
        catalog
    }

    /// Grows with every change; 0 is the empty catalogue before the first one.
    #[must_use]
    pub const fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Every tool, by server, then by name.
    #[must_use]
    pub fn entries(&self) -> &[Arc<Entry>] {
        &self.entries
    }

    /// The servers, by name.
    #[must_use]
    pub fn servers(&self) -> &[ServerCard] {
        &self.servers
    }

    /// What an operator should know of the catalogue as a whole.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The tool of exactly this server and name.
    #[must_use]
    pub fn get(&self, server: &str, tool: &str) -> Option<&Arc<Entry>> {
        self.by_id.get(server)?.get(tool)
    }

    /// The tool of exactly this flat name.
    #[must_use]
    pub fn by_flat(&self, name: &str) -> Option<&Arc<Entry>> {
        self.by_flat.get(name)
    }

    pub(crate) fn has_server(&self, server: &str) -> bool {
        self.by_id.contains_key(server)
    }

    /// Checks arguments against the tool's input schema. Give `{}` for absent ones.
    ///
    /// # Errors
    /// At most ten faults, each with its place and what was expected there; one fault where the schema itself is of no
    /// use, because nothing may be sent unchecked.
    pub fn validate(&self, tool: &Tool, arguments: &Value) -> Result<(), Vec<SchemaFault>> {
        self.with_checker(tool, |checker| checker.check(&tool.input_schema, arguments))?;
        match mirror::too_long(self.mirrors(tool), arguments) {
            None => Ok(()),
            Some(path) => {
                let expected = format!("a text of at most {} bytes: it goes into a header", mirror::MAX_VALUE);
                Err(vec![SchemaFault { path, expected }])
            }
        }
    }

    /// A corrected example of faulty arguments, where one can be made that fits the schema.
    #[must_use]
    pub fn example(&self, tool: &Tool, arguments: &Value) -> Option<Value> {
        self.with_checker(tool, |checker| checker.example(&tool.input_schema, arguments))
    }

    fn with_checker<T>(&self, tool: &Tool, ask: impl FnOnce(&Checker) -> T) -> T {
        match self.get(tool.id.server.as_str(), &tool.id.tool) {
            Some(entry) if Arc::ptr_eq(&entry.tool().input_schema, &tool.input_schema) => ask(entry.indexed.checker()),
            // The catalogue has changed since the tool was resolved.
            _ => ask(&Checker::compile(&tool.input_schema)),
        }
    }

    /// What the `Mcp-Param-…` headers of a call must say (MCP 2026-07-28, SEP-2243): nothing, of a tool that is not inside.
    #[must_use]
    pub fn parameter_headers(
        &self,
        asked: &ToolRef,
        arguments: Option<&Json>,
        inside: impl Fn(&Tool) -> bool,
    ) -> Vec<Said> {
        match self.resolve(asked, inside) {
            Resolved::One(tool) => mirror::said(self.mirrors(&tool), arguments),
            Resolved::None | Resolved::Several(_) => Vec::new(),
        }
    }

    /// Which arguments the tool wants in headers.
    pub(crate) fn mirrors(&self, tool: &Tool) -> &[Mirror] {
        self.get(tool.id.server.as_str(), &tool.id.tool).map_or(&[], |entry| &entry.indexed.mirrors)
    }
}

/// One name per tool, in order. Where several have the same, one that says exactly its id keeps it and the others end
/// with a digest, so a name never depends on which tool was seen first.
fn flat_names(parts: &[Part]) -> Vec<String> {
    let ids = || parts.iter().flat_map(|part| part.tools.iter()).map(|indexed| &indexed.tool.id);
    let mut counts: HashMap<String, usize> = HashMap::new();
    let names: Vec<String> = ids().map(|id| flat_name(id.server.as_str(), &id.tool)).collect();
    for name in &names {
        *counts.entry(name.clone()).or_default() += 1;
    }
    ids()
        .zip(names)
        .map(|(id, name)| {
            let shared = counts.get(&name).is_some_and(|count| *count > 1);
            if shared && !is_exact(id.server.as_str(), &id.tool) {
                digested_name(id.server.as_str(), &id.tool)
            } else {
                name
            }
        })
        .collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::json;

    use super::super::definition::index;
    use super::super::definition::tests::{definitions, server};
    use super::*;

    pub(crate) fn catalog(servers: &[(&str, &[&str])]) -> Catalog {
        let parts = servers
            .iter()
            .map(|(name, tools)| {
                let settings = server(name);
                let list: Vec<Value> = tools.iter().map(|tool| json!({"name": tool})).collect();
                let tools = index(&settings, &definitions(&json!(list)), &[]).tools;
                Part { settings: Arc::new(settings), title: None, instructions: None, tools, stale: false }
            })
            .collect();
        Catalog::build(parts, 1)
    }

    #[test]
    fn the_order_is_server_then_name_and_flat_names_are_unique() {
        let catalog = catalog(&[("b", &["z", "a b", "a_b", "a&b"]), ("a", &["y"])]);
        let labels: Vec<&str> = catalog.entries().iter().map(|e| &*e.tool().label).collect();
        assert_eq!(labels, ["a:y", "b:a b", "b:a&b", "b:a_b", "b:z"]);
        assert_eq!(&*catalog.get("b", "a_b").unwrap().flat, "b__a_b");
        let other = &catalog.get("b", "a b").unwrap().flat;
        assert!(other.starts_with("b__a_b_") && catalog.by_flat(other).is_some());
        assert!(catalog.warnings().is_empty());
        assert_eq!(catalog.servers()[1].tools, 4);
    }
}
