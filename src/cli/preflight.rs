//! `toolgate preflight` and `toolgate readiness`: questions whose exit codes a pipeline can wait for.

use clap::Args;
use serde_json::{Value, json};

use super::ask::Need;
use super::{Common, Ended, print, tools};

#[derive(Debug, Args)]
pub(super) struct Options {
    /// JSON: a list of calls (`server`, `tool`, `arguments`), or an object with `calls`; `-` is standard input
    #[arg(value_name = "FILE", required_unless_present = "tool")]
    file: Option<String>,
    /// Ask about one call of this tool instead
    #[arg(long, value_name = "ID", conflicts_with = "file")]
    tool: Option<String>,
    /// The arguments of that tool
    #[arg(long, default_value = "{}", value_name = "JSON", requires = "tool")]
    args: String,
    /// Judge this agent, or the key of this id
    #[arg(long)]
    agent: Option<String>,
}

pub(super) async fn run(common: &Common, options: Options) -> anyhow::Result<Ended> {
    let Options { file, tool, args, agent } = options;
    let mut asked = match (tool, file) {
        (Some(tool), _) => json!({"calls": [{"tool": tool, "arguments": tools::parse(&args)?}]}),
        (None, file) => calls(file.as_deref().unwrap_or("-"))?,
    };
    if let (Some(members), Some(agent)) = (asked.as_object_mut(), agent) {
        members.insert("agent_id".into(), json!(agent));
    }
    let (report, _) = tools::own(common, Need::Backends, "preflight.check", asked).await?;
    if common.json {
        print::json(&report);
    } else {
        let row = |call: &Value| {
            let blockers = print::text(call, "blockers");
            let latency = call.pointer("/expected_latency/p50_ms").and_then(Value::as_f64);
            vec![
                print::text(call, "asked"),
                if blockers.is_empty() { "would pass".to_owned() } else { blockers },
                print::text(call, "decision"),
                print::text(call, "policy"),
                print::text(call, "limit_left"),
                latency.map(|millis| format!("{millis:.1} ms")).unwrap_or_default(),
                print::text(call, "reason"),
            ]
        };
        let header = ["call", "verdict", "decision", "policy", "limit left", "expected", "reason"];
        let calls = print::list(&report, "calls");
        print::table(&header, calls.iter().map(row));
        for call in calls {
            let needed = call.get("credentials").map_or(&[][..], |credentials| print::list(credentials, "needed"));
            for fault in needed.iter().map(|one| print::text(one, "fault")).filter(|fault| !fault.is_empty()) {
                print::line(&print::clean(&format!("{}: {fault}", print::text(call, "asked"))));
            }
        }
    }
    Ok(ended(&report))
}

/// The calls of a file.
fn calls(file: &str) -> anyhow::Result<Value> {
    let read = if file == "-" { std::io::read_to_string(std::io::stdin()) } else { std::fs::read_to_string(file) };
    let text = read.map_err(|error| anyhow::anyhow!("`{file}` cannot be read: {error}"))?;
    let value: Value = serde_json::from_str(&text).map_err(|error| anyhow::anyhow!("`{file}` is not JSON: {error}"))?;
    match value {
        Value::Array(calls) => Ok(json!({"calls": calls})),
        Value::Object(_) => Ok(value),
        _ => anyhow::bail!("`{file}` holds no calls: write a list of objects with `server`, `tool` and `arguments`"),
    }
}

/// A denial is final, what is wrong can be mended, and an approval can be waited for.
fn ended(report: &Value) -> Ended {
    let calls = print::list(report, "calls");
    let blocks =
        |name: &str| calls.iter().flat_map(|call| print::list(call, "blockers")).any(|blocker| blocker == name);
    if report.get("would_pass") == Some(&Value::Bool(true)) {
        Ended::Well
    } else if blocks("denied") {
        Ended::Denied
    } else if ["schema", "credentials", "backend", "limit"].into_iter().any(blocks) {
        Ended::Wrong
    } else {
        Ended::ApprovalNeeded
    }
}

pub(super) async fn readiness(common: &Common) -> anyhow::Result<Ended> {
    let (report, _) = tools::own(common, Need::Backends, "governance.readiness", json!({})).await?;
    let checks = print::list(&report, "checks");
    if common.json {
        print::json(&report);
    } else {
        let row = |check: &Value| ["status", "id", "title"].map(|name| print::text(check, name)).to_vec();
        print::table(&["status", "check", "what"], checks.iter().map(row));
        for check in checks.iter().filter(|check| print::text(check, "status") != "pass") {
            let [id, evidence, remedy] = ["id", "evidence", "remedy"].map(|name| print::text(check, name));
            print::line(&print::clean(&format!("\n{id}: {evidence}\n  {remedy}")));
        }
    }
    Ok(if print::text(&report, "status") == "fail" { Ended::Denied } else { Ended::Well })
}
