//! What the module promises, and the makings of small worlds to show it in.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::domain::clock::Moment;
use crate::domain::decision::Judgement;
use crate::domain::glob::Glob;
use crate::domain::id::{KeyId, ToolId};
use crate::domain::json::{Json, canonical, sha256_hex};
use crate::domain::principal::{Principal, Profile, Scope, Surface};
use crate::domain::tool::{Hints, Kind, Risk, Tool, ToolSettings};

use super::*;

mod build;
mod bundle;
mod entities;
mod judge;
mod oracle;
mod readable;
mod schema;
mod visible;

/// The policies that come with the product.
const SHIPPED: [(&str, &str); 4] = [
    ("policies/allow-write-to-writers.cedar", include_str!("../../../policies/allow-write-to-writers.cedar")),
    ("policies/block-sql-drop.cedar", include_str!("../../../policies/block-sql-drop.cedar")),
    ("policies/default-allow-read.cedar", include_str!("../../../policies/default-allow-read.cedar")),
    ("policies/destructive-needs-approval.cedar", include_str!("../../../policies/destructive-needs-approval.cedar")),
];

fn sources(texts: &[(&str, &str)]) -> Vec<PolicySource> {
    texts.iter().map(|(file, text)| PolicySource { file: (*file).into(), text: (*text).into() }).collect()
}

fn bundle(text: &str) -> Arc<Bundle> {
    let faults = |faults: Vec<PolicyFault>| faults.iter().map(ToString::to_string).collect::<Vec<_>>();
    Arc::new(Bundle::compile(&sources(&[("p.cedar", text)])).map_err(faults).unwrap())
}

/// The faults of a text that does not compile, one a line.
fn faults(text: &str) -> String {
    lines(&Bundle::compile(&sources(&[("p.cedar", text)])).unwrap_err())
}

fn lines(faults: &[PolicyFault]) -> String {
    faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// A tool by `server:tool`; the risk comes as hints.
fn tool_with(label: &str, risk: Risk, input_schema: Value, settings: ToolSettings) -> Arc<Tool> {
    let (server, name) = label.split_once(':').unwrap();
    let hints =
        Hints { read_only: Some(risk == Risk::Read), destructive: Some(risk == Risk::Destructive), ..Hints::default() };
    let definition = json!({ "name": name, "inputSchema": input_schema });
    Arc::new(Tool {
        kind: Kind::Tool,
        id: ToolId::new(server.parse().unwrap(), name),
        label: label.into(),
        title: None,
        description: String::new(),
        definition: Json::of(&definition),
        input_schema: Arc::new(input_schema),
        hints,
        risk,
        digest: sha256_hex(canonical(&definition).as_bytes()).into(),
        settings: Arc::new(settings),
    })
}

fn tool(label: &str, risk: Risk) -> Arc<Tool> {
    tool_with(label, risk, json!({ "type": "object" }), ToolSettings::default())
}

fn prompt(label: &str) -> Arc<Tool> {
    readable(Kind::Prompt, label)
}

fn resource(label: &str) -> Arc<Tool> {
    readable(Kind::Resource, label)
}

fn readable(kind: Kind, label: &str) -> Arc<Tool> {
    let (server, name) = label.split_once(':').unwrap();
    Arc::new(Tool::readable(kind, ToolId::new(server.parse().unwrap(), name)))
}

/// A tool with one property.
fn tool_taking(label: &str, name: &str, property: &Value) -> Arc<Tool> {
    let schema = json!({ "type": "object", "properties": { name: property } });
    tool_with(label, Risk::Write, schema, ToolSettings::default())
}

fn agent(name: &str, roles: &[&str]) -> Principal {
    Principal {
        key: KeyId::from("key_1"),
        name: "test".into(),
        agent: name.into(),
        user: "ann".into(),
        profile: Arc::new(Profile {
            name: "agent".into(),
            scopes: vec![Scope::ToolsRead, Scope::ToolsInvoke],
            allowed_tools: vec![Glob::new("*")],
            read_only: false,
            surface: Surface::Search,
        }),
        roles: roles.iter().map(|role| Arc::from(*role)).collect::<BTreeSet<_>>(),
        grant: None,
        plan: None,
        until: None,
    }
}

const FACTS: Facts<'static> =
    Facts { effects: &[], surface: Surface::Search, now: Moment(1_700_000_000_000), source: None };

/// A world of one bundle and some tools, which must fit each other.
fn world(text: &str, tools: &[Arc<Tool>]) -> Policies {
    let (policies, report) = Policies::build(&bundle(text), tools, None);
    assert_eq!(lines(&report.faults), "");
    policies
}

fn shipped(tools: &[Arc<Tool>]) -> Policies {
    let bundle = Bundle::compile(&sources(&SHIPPED)).unwrap();
    let (policies, report) = Policies::build(&Arc::new(bundle), tools, None);
    assert!(report.acceptable && report.faults.is_empty() && report.warnings.is_empty(), "{report:?}");
    policies
}

/// `verdict: id id; reason`, with shadow ids in brackets.
fn told(judgement: &Judgement) -> String {
    let ids = judgement.rules.iter().map(|rule| match rule.mode {
        crate::domain::decision::Mode::Enforce => rule.id.to_string(),
        crate::domain::decision::Mode::Shadow => format!("[{}]", rule.id),
    });
    let code = judgement.code.map(|code| format!(" ({code})")).unwrap_or_default();
    format!("{}{code}: {}; {}", judgement.verdict.as_str(), ids.collect::<Vec<_>>().join(" "), judgement.reason)
}
