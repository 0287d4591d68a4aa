//! From what a backend lists to tools: read tolerantly, one bad definition never spoils the others.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};

use serde_json::{Value, json};

use super::validator::Checker;
use crate::config::{Permissions, ServerSettings, Transport};
use crate::domain::id::ToolId;
use crate::domain::json::{Json, canonical, sha256_hex};
use crate::domain::plain::{is_invisible, plain};
use crate::domain::tool::{Hints, Kind, Risk, Tool};
use crate::wire::mirror::{self, Mirror};

/// Longest name of a tool, in characters (tools.mdx, "Tool Names").
const MAX_NAME: usize = 128;
/// Largest definition, in bytes, and the most values in its input schema.
const MAX_DEFINITION: usize = 256 << 10;
const MAX_SCHEMA_NODES: usize = 10_000;
/// Warnings kept for one server.
const MAX_WARNINGS: usize = 50;

/// A tool and what is derived from its definition.
#[derive(Debug)]
pub(crate) struct Indexed {
    pub tool: Arc<Tool>,
    pub mirrors: Vec<Mirror>,
    checker: OnceLock<Checker>,
}

impl Indexed {
    /// The compiled input schema; compiled when first asked for.
    pub(crate) fn checker(&self) -> &Checker {
        self.checker.get_or_init(|| Checker::compile(&self.tool.input_schema))
    }
}

/// The tools of one server, and what was wrong with the list.
#[derive(Debug, Default)]
pub(crate) struct Index {
    pub tools: Vec<Arc<Indexed>>,
    pub warnings: Vec<String>,
}

/// Reads a list of definitions as the settings want it. Tools that are as they were keep their identity.
pub(crate) fn index(settings: &ServerSettings, definitions: &[Json], before: &[Arc<Indexed>]) -> Index {
    let known: BTreeMap<&str, &Arc<Indexed>> = before.iter().map(|indexed| (&*indexed.tool.id.tool, indexed)).collect();
    let mut names = BTreeSet::new();
    let mut index = Index::default();
    for definition in definitions {
        match read(settings, definition, &known) {
            Ok(indexed) if !names.insert(Arc::clone(&indexed.tool.id.tool)) => {
                index.warn(format!("the tool `{}` is listed twice; the first one counts", indexed.tool.id.tool));
            }
            Ok(indexed) => {
                let explicit = settings.permissions == Permissions::Explicit;
                if !explicit || settings.tools.contains_key(&*indexed.tool.id.tool) {
                    index.tools.push(indexed);
                }
            }
            Err(warning) => index.warn(warning),
        }
    }
    index.tools.sort_by(|a, b| a.tool.id.tool.cmp(&b.tool.id.tool));
    index
}

impl Index {
    fn warn(&mut self, warning: String) {
        if self.warnings.len() < MAX_WARNINGS {
            // It quotes what the server sent.
            self.warnings.push(plain(warning));
        }
    }
}

fn read(
    settings: &ServerSettings,
    definition: &Json,
    known: &BTreeMap<&str, &Arc<Indexed>>,
) -> Result<Arc<Indexed>, String> {
    if definition.bytes().len() > MAX_DEFINITION {
        return Err(format!("a tool whose definition is larger than {MAX_DEFINITION} bytes is left out"));
    }
    let value = definition.tree().map_err(|error| format!("a tool is left out: {error}"))?;
    let name = name(&value)?;
    let out = |why: &str| format!("the tool `{name}` is left out: {why}");
    if let Some(same) = known.get(name)
        && same.tool.definition == *definition
        && same.tool.settings == *settings.tool(name)
    {
        return Ok(Arc::clone(same));
    }
    let schema = input_schema(&value).map_err(|why| out(&why))?;
    let mirrors = match mirror::mirrors(&schema) {
        Ok(mirrors) => mirrors,
        Err(_) if !matches!(settings.transport, Transport::Http { .. }) => Vec::new(),
        Err(why) => return Err(out(&why)),
    };
    let hints = hints(value.get("annotations"));
    let tool_settings = Arc::clone(settings.tool(name));
    let id = ToolId::new(settings.name.clone(), name);
    let text = |member: Option<&Value>| member.and_then(Value::as_str).map(str::to_owned);
    let tool = Tool {
        kind: Kind::Tool,
        label: id.to_string().into(),
        id,
        title: text(value.get("title")).or_else(|| text(value.get("annotations").and_then(|a| a.get("title")))),
        description: text(value.get("description")).unwrap_or_default(),
        definition: definition.clone(),
        input_schema: Arc::new(schema),
        hints,
        risk: tool_settings.risk.unwrap_or_else(|| Risk::from_hints(hints)),
        digest: sha256_hex(canonical(&value).as_bytes()).into(),
        settings: tool_settings,
    };
    Ok(Arc::new(Indexed { tool: Arc::new(tool), mirrors, checker: OnceLock::new() }))
}

/// The name of a definition, where it is one that can be shown, typed and logged.
fn name(definition: &Value) -> Result<&str, String> {
    let Some(name) = definition.get("name").and_then(Value::as_str) else {
        return Err(String::from("a tool without a name is left out"));
    };
    let shown = || name.chars().take(40).flat_map(char::escape_debug).collect::<String>();
    if name.trim().is_empty() || name.trim() != name {
        return Err(format!("a tool with an empty or padded name (`{}`) is left out", shown()));
    }
    if name.chars().count() > MAX_NAME {
        return Err(format!("a tool whose name is longer than {MAX_NAME} characters (`{}…`) is left out", shown()));
    }
    if name.chars().any(|c| c.is_control() || is_invisible(c)) {
        return Err(format!("a tool whose name holds invisible characters (`{}`) is left out", shown()));
    }
    Ok(name)
}

fn input_schema(definition: &Value) -> Result<Value, String> {
    let schema = match definition.get("inputSchema") {
        None | Some(Value::Null) => return Ok(json!({"type": "object"})),
        Some(schema @ Value::Object(_)) => schema,
        Some(_) => return Err(String::from("its input schema is no object")),
    };
    if nodes(schema) > MAX_SCHEMA_NODES {
        return Err(format!("its input schema has more than {MAX_SCHEMA_NODES} parts"));
    }
    Ok(schema.clone())
}

fn nodes(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(nodes).sum::<usize>(),
        Value::Object(members) => 1 + members.values().map(nodes).sum::<usize>(),
        _ => 1,
    }
}

/// The annotations; a hint that is no truth value is no hint.
fn hints(annotations: Option<&Value>) -> Hints {
    let flag = |name: &str| annotations.and_then(|a| a.get(name)).and_then(Value::as_bool);
    Hints {
        read_only: flag("readOnlyHint"),
        destructive: flag("destructiveHint"),
        idempotent: flag("idempotentHint"),
        open_world: flag("openWorldHint"),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::domain::tool::ToolSettings;

    pub(crate) fn server(name: &str) -> ServerSettings {
        let transport = Transport::Http { url: "http://127.0.0.1:1/mcp".parse().unwrap(), headers: Vec::new() };
        ServerSettings::new(name.parse().unwrap(), transport)
    }

    pub(crate) fn definitions(list: &Value) -> Vec<Json> {
        list.as_array().unwrap().iter().map(Json::of).collect()
    }

    fn names(index: &Index) -> Vec<&str> {
        index.tools.iter().map(|indexed| &*indexed.tool.id.tool).collect()
    }

    #[test]
    fn bad_definitions_are_left_out_and_the_others_stay() {
        let mut list = definitions(&json!([
            {"name":"z","inputSchema":{"type":"object"}},
            {"name":""}, {"name":" x"}, {"name":"a\u{0}b"}, {"name":"a\u{200b}b"}, {"name":"x".repeat(129)}, {"name":"a\u{3164}b"}, {"name":7}, 7, {},
            {"name":"no_schema"},
            {"name":"bad_schema","inputSchema":[]},
            {"name":"odd","title":3,"description":[],"annotations":{"readOnlyHint":"yes","destructiveHint":true}},
            {"name":"bad_header","inputSchema":{"properties":{"a":{"type":"array","x-mcp-header":"A"}}}},
            {"name":"z","description":"again"},
        ]));
        list.push(Json::from_parts(r#"{"name":"twice","description":"a","description":"b"}"#.into()));
        let index = index(&server("s"), &list, &[]);
        assert_eq!(names(&index), ["no_schema", "odd", "z"]);
        list.push(Json::from_parts(r#"{"name":"lines","\nERROR\u202e":1,"\nERROR\u202e":2}"#.into()));
        let index = super::index(&server("s"), &list, &[]);
        assert_eq!(index.warnings.len(), 14, "{:#?}", index.warnings);
        assert!(index.warnings.last().unwrap().contains(r"`\nERROR\u{202e}` stands twice"), "{:?}", index.warnings);
        let odd = &index.tools[1].tool;
        assert_eq!((odd.risk, odd.hints.read_only, odd.description.as_str()), (Risk::Destructive, None, ""));
    }

    #[test]
    fn the_digest_forgets_order_and_space_alone() {
        let digest = |text: &str| {
            let list = [Json::from_parts(text.into())];
            index(&server("s"), &list, &[]).tools[0].tool.digest.clone()
        };
        let one = digest(r#"{"name":"a","description":"b"}"#);
        assert_eq!(one, digest(r#"{ "description":"b", "name":"a" }"#));
        assert_ne!(one, digest(r#"{"name":"a","description":"c"}"#));
    }

    #[test]
    fn settings_are_merged_and_explicit_permissions_hide() {
        let list = definitions(&json!([{"name":"a"},{"name":"b","annotations":{"readOnlyHint":true}}]));
        let mut settings = server("s");
        let row = ToolSettings { risk: Some(Risk::Destructive), ..ToolSettings::default() };
        settings.tools.insert("b".into(), Arc::new(row));
        let open = index(&settings, &list, &[]);
        assert_eq!(open.tools[1].tool.risk, Risk::Destructive);
        settings.permissions = Permissions::Explicit;
        let explicit = index(&settings, &list, &open.tools);
        assert_eq!(names(&explicit), ["b"]);
        assert!(Arc::ptr_eq(&explicit.tools[0], &open.tools[1]), "an unchanged tool keeps its identity");
    }
}
