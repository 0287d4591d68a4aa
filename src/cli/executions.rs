//! `toolgate executions`.

use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use super::ask::Need;
use super::{Common, Ended, print, tools};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List calls that were made, newest first
    List(Box<Filters>),
    /// Show one call whole: what it did at its backend, and the calls that it made
    Show { id: String },
}

/// Which calls; the parameters of `executions.list`.
#[derive(Debug, Args)]
pub(super) struct Filters {
    /// Not before this time, day, or so long ago (15m, 2h, 7d)
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Before this time, day, or so long ago
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    #[arg(long)]
    server: Option<String>,
    /// Its name, or server:tool
    #[arg(long)]
    tool: Option<String>,
    /// allow, deny, approval or error
    #[arg(long)]
    decision: Option<String>,
    /// answered, refused, failed, cancelled or interrupted
    #[arg(long)]
    outcome: Option<String>,
    /// The id of a key
    #[arg(long)]
    key: Option<String>,
    #[arg(long)]
    agent: Option<String>,
    /// Only calls that took at least so many milliseconds
    #[arg(long, value_name = "MS")]
    min_latency: Option<u64>,
    /// A W3C trace id
    #[arg(long, value_name = "TRACE")]
    trace_id: Option<String>,
    /// Where the page begins: the cursor that the page before ends with
    #[arg(long)]
    cursor: Option<String>,
    #[arg(short = 'n', long, default_value_t = 20)]
    limit: usize,
}

impl Filters {
    fn arguments(self) -> Value {
        let Self { since, until, server, tool, decision, outcome, key, agent, trace_id, cursor, .. } = self;
        let texts = [
            ("since", since),
            ("until", until),
            ("server", server),
            ("tool", tool),
            ("decision", decision),
            ("outcome", outcome),
            ("key", key),
            ("agent", agent),
            ("trace_id", trace_id),
            ("cursor", cursor),
        ];
        let mut members: Map<String, Value> =
            texts.into_iter().filter_map(|(name, text)| Some((name.to_owned(), json!(text?)))).collect();
        members.extend(self.min_latency.map(|millis| ("min_latency_ms".to_owned(), json!(millis))));
        members.insert("limit".into(), json!(self.limit));
        Value::Object(members)
    }
}

pub(super) async fn run(common: &Common, command: Command) -> anyhow::Result<Ended> {
    match command {
        Command::List(filters) => {
            let (answer, _) = tools::own(common, Need::Configuration, "executions.list", filters.arguments()).await?;
            if common.json {
                print::json(&answer);
                return Ok(Ended::Well);
            }
            let rows = print::list(&answer, "executions").iter().map(row);
            print::table(&["time", "id", "tool", "decision", "outcome", "latency_ms", "why", "agent"], rows);
            if let Some(cursor) = answer.get("next_cursor").and_then(Value::as_str) {
                print::note(&format!("more with --cursor {cursor}"));
            }
            Ok(Ended::Well)
        }
        Command::Show { id } => {
            let (answer, text) = tools::own(common, Need::Configuration, "executions.get", json!({"id": id})).await?;
            print::answer(common, &answer, &text);
            Ok(Ended::Well)
        }
    }
}

fn row(call: &Value) -> Vec<String> {
    let text = |name: &str| print::text(call, name);
    let tool = match text("server") {
        server if server.is_empty() => text("tool"),
        server => format!("{server}:{}", text("tool")),
    };
    let why = Some(text("rule")).filter(|rule| !rule.is_empty()).unwrap_or_else(|| text("code"));
    vec![text("time"), text("id"), tool, text("decision"), text("outcome"), text("latency_ms"), why, text("agent")]
}
