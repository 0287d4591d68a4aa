//! `toolgate policy`.

use clap::Subcommand;
use serde_json::{Value, json};

use super::ask::Need;
use super::{Common, Ended, ask, print, tools};
use crate::gateway::{PoliciesCommand, control};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Check every policy against the schema of the live tools
    Check,
    /// Ask what would be decided; nothing is called. Exits 0 allow, 2 deny, 3 approval needed
    Simulate {
        /// server:tool; the server alone where a prompt or a resource is meant
        #[arg(required_unless_present = "entity")]
        id: Option<String>,
        /// Judge what the company brain shows instead: a type of entities, or a field of one
        #[arg(long, value_name = "TYPE[.FIELD]", conflicts_with_all = ["id", "prompt", "resource", "args"])]
        entity: Option<String>,
        /// Judge getting this prompt of the server
        #[arg(long, value_name = "NAME", conflicts_with = "resource")]
        prompt: Option<String>,
        /// Judge reading this resource of the server
        #[arg(long, value_name = "URI")]
        resource: Option<String>,
        /// The arguments of the tool or the prompt
        #[arg(long, default_value = "{}", value_name = "JSON")]
        args: String,
        /// Judge this agent
        #[arg(long, conflicts_with = "key")]
        agent: Option<String>,
        /// Judge this key
        #[arg(long, value_name = "KEYID")]
        key: Option<String>,
    },
    /// List the active policies
    List,
    /// Print the text of a policy, or of all that stand in files: those that ship, where there is no folder of them
    Show { name: Option<String> },
    /// Take out a policy that was made over the API
    Remove { name: String },
}

pub(super) async fn run(common: &Common, command: Command) -> anyhow::Result<Ended> {
    match command {
        Command::Check => check(common).await,
        Command::List => {
            let answer = told(common, PoliciesCommand::List).await?;
            if common.json {
                print::json(&answer);
            } else {
                let row = |policy: &Value| {
                    let place = format!("{}:{}", print::text(policy, "file"), print::text(policy, "line"));
                    let [id, effect, mode, reason] =
                        ["id", "effect", "mode", "reason"].map(|name| print::text(policy, name));
                    vec![id, effect, mode, place, reason]
                };
                let header = ["policy", "effect", "mode", "place", "reason"];
                print::table(&header, print::list(&answer, "policies").iter().map(row));
            }
            Ok(Ended::Well)
        }
        Command::Show { name } => {
            let answer = told(common, PoliciesCommand::Show { name }).await?;
            if common.json {
                print::json(&answer);
            } else {
                let texts = print::list(&answer, "policies")
                    .iter()
                    .map(|policy| print::text(policy, "text").replace('\t', "    "));
                print::line(&print::clean(&texts.map(|text| text.trim().to_owned()).collect::<Vec<_>>().join("\n\n")));
            }
            Ok(Ended::Well)
        }
        Command::Remove { name } => {
            let answer = ask::ask(common, Need::Records, control::Command::PolicyRemove { name }).await?;
            if common.json {
                print::json(&answer);
            } else {
                print::line(&format!("removed {}", print::text(&answer, "id")));
            }
            Ok(Ended::Well)
        }
        Command::Simulate { id, entity, prompt, resource, args, agent, key } => {
            let params = tools::parse(&args)?;
            let mut arguments = match (entity, prompt, resource) {
                (Some(entity), ..) => json!({"entity": entity}),
                (None, Some(prompt), _) => json!({"server": id, "prompt": prompt, "arguments": params}),
                (None, None, Some(uri)) => json!({"server": id, "resource": uri}),
                (None, None, None) => json!({"action": id, "params": params}),
            };
            if let Some(members) = arguments.as_object_mut() {
                members.extend(agent.map(|agent| ("agent_id".to_owned(), json!(agent))));
            }
            let command = control::Command::Simulate { arguments, key };
            let answer = ask::ask(common, Need::Backends, command).await?;
            simulated(common, &answer)
        }
    }
}

async fn told(common: &Common, command: PoliciesCommand) -> anyhow::Result<Value> {
    ask::ask(common, Need::Configuration, control::Command::Policies(command)).await
}

fn simulated(common: &Common, answer: &Value) -> anyhow::Result<Ended> {
    let (report, text) = tools::answered(answer)?;
    if common.json {
        print::json(&report);
    } else {
        print::line(&print::clean(&text));
        let rows = print::list(&report, "policies").iter().map(|rule| {
            let place = format!("{}:{}", print::text(rule, "file"), print::text(rule, "line"));
            vec![
                print::text(rule, "id"),
                print::text(rule, "effect"),
                print::text(rule, "mode"),
                place.trim_matches(':').to_owned(),
                print::text(rule, "reason"),
            ]
        });
        let rows: Vec<_> = rows.collect();
        if !rows.is_empty() {
            print::table(&["policy", "effect", "mode", "place", "reason"], rows);
        }
    }
    Ok(match print::text(&report, "decision").as_str() {
        "allow" => Ended::Well,
        "deny" => Ended::Denied,
        "approval" => Ended::ApprovalNeeded,
        _ => Ended::Wrong,
    })
}

async fn check(common: &Common) -> anyhow::Result<Ended> {
    let policies = common.sources().policy_texts()?;
    let answer = ask::ask(common, Need::Backends, control::Command::PolicyCheck { policies }).await?;
    let report = answer.get("report").cloned().unwrap_or_default();
    let faults = print::list(&report, "faults");
    if common.json {
        print::json(&answer);
    } else {
        for (kind, list) in [("error", faults), ("warning", print::list(&report, "warnings"))] {
            for fault in list {
                let place = format!(
                    "{}:{}:{}",
                    print::text(fault, "file"),
                    print::text(fault, "line"),
                    print::text(fault, "column")
                );
                print::line(&print::clean(&format!("{place}: {kind}: {}", print::text(fault, "message"))));
                if let Some(hint) = fault.get("hint").and_then(Value::as_str) {
                    print::line(&format!("  hint: {}", print::clean(hint)));
                }
            }
        }
        for left_out in print::list(&report, "left_out") {
            let line = format!(
                "{}: `{}` is not in `context.input`: {}",
                print::text(left_out, "tool"),
                print::text(left_out, "path"),
                print::text(left_out, "why")
            );
            print::line(&print::clean(&line));
        }
        print::line(&format!(
            "{} policies checked against {} tools: {} faults, {} warnings",
            print::text(&answer, "policies"),
            print::text(&answer, "tools"),
            faults.len(),
            print::list(&report, "warnings").len()
        ));
    }
    Ok(if faults.is_empty() { Ended::Well } else { Ended::Wrong })
}
