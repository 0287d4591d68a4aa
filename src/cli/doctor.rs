//! `toolgate doctor`: what would keep the gateway from working, each fault with a hint.

use serde_json::{Value, json};

use super::ask::{Desk, Need};
use super::audit::{Verified, verified};
use super::{Common, Ended, print};
use crate::gateway::control::Command;

/// One thing that was looked at.
struct Finding {
    what: String,
    well: bool,
    detail: String,
    hint: Option<String>,
}

impl Finding {
    fn new(what: &str, result: Result<String, (String, String)>) -> Self {
        let what = what.to_owned();
        match result {
            Ok(detail) => Self { what, well: true, detail, hint: None },
            Err((detail, hint)) => Self { what, well: false, detail, hint: Some(hint) },
        }
    }
}

pub(super) async fn run(common: &Common) -> anyhow::Result<Ended> {
    let findings = examine(common).await;
    let well = findings.iter().all(|finding| finding.well);
    if common.json {
        let list: Vec<Value> = findings
            .iter()
            .map(|f| json!({"check": f.what, "ok": f.well, "detail": f.detail, "hint": f.hint}))
            .collect();
        print::json(&json!({"ok": well, "checks": list}));
    } else {
        for finding in &findings {
            let mark = if finding.well { "ok  " } else { "FAIL" };
            print::line(&print::clean(&format!("{mark} {}: {}", finding.what, finding.detail)));
            if let Some(hint) = &finding.hint {
                print::line(&format!("     hint: {}", print::clean(hint)));
            }
        }
    }
    Ok(if well { Ended::Well } else { Ended::Wrong })
}

async fn examine(common: &Common) -> Vec<Finding> {
    let mut findings = Vec::new();
    let sources = common.sources();
    match sources.read() {
        Ok(inputs) => {
            let from = if inputs.demo { "no configuration file, so the demo servers" } else { "read" };
            findings.push(Finding::new(
                "configuration",
                Ok(format!(
                    "{from}; {} servers, {} profiles, {} policies",
                    inputs.settings.servers.len(),
                    inputs.profiles.len(),
                    inputs.bundle.policies().len()
                )),
            ));
        }
        Err(faults) => {
            findings.push(Finding::new(
                "configuration",
                Err((faults.to_string(), "mend the places that are named".into())),
            ));
            return findings;
        }
    }
    let desk = match Desk::open(common, Need::Backends).await {
        Ok(desk) => desk,
        Err(error) => {
            findings.push(Finding::new(
                "store",
                Err((format!("{error:#}"), "is the folder yours, and has it room?".into())),
            ));
            return findings;
        }
    };
    let running = matches!(desk, Desk::Running(_));
    findings.push(Finding::new(
        "store",
        Ok(format!(
            "`{}` {}",
            common.data_dir.display(),
            if running { "is held by the running server" } else { "can be used" }
        )),
    ));
    findings.push(audit(&desk).await);
    findings.push(policies(&desk, sources.policy_texts().unwrap_or_default()).await);
    findings.extend(servers(&desk).await);
    desk.close().await;
    findings
}

/// The whole chain.
async fn audit(desk: &Desk) -> Finding {
    let told = match verified(desk, |_, _| {}).await {
        Err(error) => Err((error.to_string(), "no call runs while the log cannot be written")),
        Ok(Verified { fault: Some(fault), .. }) => {
            Err((print::text(&fault, "what"), "run `toolgate audit verify`, and keep the file as evidence"))
        }
        Ok(Verified { damage: Some(damage), .. }) => Err((
            format!("the file is damaged: {damage}"),
            "the entries are whole: `toolgate audit export` has them; keep a copy of the file before you mend it",
        )),
        Ok(Verified { entries, .. }) => Ok(format!("{entries} entries, the chain holds")),
    };
    Finding::new("audit log", told.map_err(|(detail, hint)| (detail, hint.to_owned())))
}

async fn policies(desk: &Desk, texts: Vec<(String, String)>) -> Finding {
    match desk.ask(Command::PolicyCheck { policies: texts }).await {
        Ok(answer) => {
            let faults = answer.pointer("/report/faults").and_then(Value::as_array).map_or(0, Vec::len);
            let [policies, tools] = ["policies", "tools"].map(|name| print::text(&answer, name));
            let mut detail = format!("{policies} policies fit {tools} tools");
            if let Some(closed) = answer.get("closed").and_then(Value::as_u64).filter(|closed| *closed > 0) {
                detail.push_str(&format!(", {closed} of which nobody may call: see `toolgate readiness`"));
            }
            let check = || (format!("{faults} faults"), "run `toolgate policy check`".to_owned());
            Finding::new("policies", if faults == 0 { Ok(detail) } else { Err(check()) })
        }
        Err(error) => Finding::new("policies", Err((error.to_string(), "run `toolgate policy check`".into()))),
    }
}

async fn servers(desk: &Desk) -> Vec<Finding> {
    let answer = match desk.ask(Command::ServersTest { name: None }).await {
        Ok(answer) => answer,
        Err(error) => {
            return vec![Finding::new("servers", Err((error.to_string(), "see `toolgate servers list`".into())))];
        }
    };
    let finding = |server: &Value| {
        let name = format!("server {}", print::text(server, "name"));
        if print::text(server, "state") == "ready" {
            return Finding::new(
                &name,
                Ok(format!(
                    "{} tools over {}, {}",
                    print::text(server, "tools"),
                    print::text(server, "transport"),
                    print::text(server, "era")
                )),
            );
        }
        let stderr = print::text(server, "stderr");
        let hint = hint(&print::text(server, "transport"), &print::text(server, "last_error"));
        let tail = if stderr.is_empty() { String::new() } else { format!("; it said: {stderr}") };
        Finding::new(&name, Err((format!("{}{tail}", print::text(server, "last_error")), hint)))
    };
    print::list(&answer, "servers").iter().map(finding).collect()
}

/// What most often helps.
fn hint(transport: &str, error: &str) -> String {
    let error = error.to_lowercase();
    let text = if error.contains("no such file") || error.contains("not found") {
        "the command is not there: is it installed, and in the PATH of this shell?"
    } else if error.contains("401") || error.contains("403") {
        "the server wants other credentials: check `headers` or `env`"
    } else if error.contains("refused") {
        "nothing listens there: is the server running, and the port right?"
    } else if error.contains("timeout") || error.contains("in time") {
        "it did not answer in time: run its command by hand and see what it says"
    } else if error.contains("websocket") {
        "does it speak WebSocket with the subprotocol `mcp` at this URL?"
    } else if transport == "stdio" {
        "run its command by hand: it must speak MCP on standard output and nothing else"
    } else {
        "open its URL with curl and see what it says"
    };
    text.to_owned()
}
