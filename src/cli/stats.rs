//! `toolgate stats`.

use clap::Args;
use serde_json::{Value, json};

use super::ask::Need;
use super::{Common, Ended, print, tools};

/// What is summed up; the parameters of `observability.summary`.
#[derive(Debug, Args)]
pub(super) struct Options {
    /// How far back: 15m, 1h, 7d; at most 30d
    #[arg(long, default_value = "1h")]
    window: String,
    /// Only this server
    #[arg(long)]
    server: Option<String>,
    /// Only this tool: its name, or server:tool
    #[arg(long)]
    tool: Option<String>,
    /// Only the key with this id
    #[arg(long)]
    key: Option<String>,
    /// Rows of each table
    #[arg(short = 'n', long, default_value_t = 10)]
    limit: usize,
}

const FIGURES: [&str; 9] =
    ["calls", "errors", "refused", "limited", "cancelled", "cached", "p50_ms", "p95_ms", "p99_ms"];
/// The lists of the answer, and what names their rows.
const LISTS: [(&str, &str); 5] =
    [("servers", "server"), ("tools", "tool"), ("keys", "key"), ("decisions", "decision"), ("refusals", "rule")];

pub(super) async fn run(common: &Common, options: Options) -> anyhow::Result<Ended> {
    let Options { window, server, tool, key, limit } = options;
    let mut arguments = json!({"window": window, "limit": limit});
    if let Some(members) = arguments.as_object_mut() {
        let given = [("server", server), ("tool", tool), ("key", key)];
        members.extend(given.into_iter().filter_map(|(name, text)| Some((name.to_owned(), json!(text?)))));
    }
    let (answer, _) = tools::own(common, Need::Configuration, "observability.summary", arguments).await?;
    if common.json {
        print::json(&answer);
    } else {
        tables(&answer);
    }
    Ok(Ended::Well)
}

/// Says how much of a list is not there.
fn more(answer: &Value, list: &str) {
    let left_out = answer.pointer(&format!("/left_out/{list}")).and_then(Value::as_u64).unwrap_or(0);
    if left_out > 0 {
        print::line(&format!("and {left_out} more"));
    }
}

fn tables(answer: &Value) {
    let total = answer.get("total").cloned().unwrap_or_default();
    print::line(&format!("from {} to {}", print::text(answer, "since"), print::text(answer, "until")));
    print::table(&[&["total"], &FIGURES[..]].concat(), [row(&total, String::new())]);
    for (list, name) in LISTS {
        let rows = print::list(answer, list);
        if rows.is_empty() {
            continue;
        }
        print::line("");
        print::table(&[&[name], &FIGURES[..]].concat(), rows.iter().map(|one| row(one, print::text(one, name))));
        more(answer, list);
    }
    let breakers = answer.get("breakers").cloned().unwrap_or_default();
    let history = print::list(&breakers, "history");
    if !history.is_empty() {
        let columns = ["time", "server", "state", "why"];
        print::line("");
        let change = |change: &Value| columns.map(|column| print::text(change, column)).to_vec();
        print::table(&["breaker changed", "server", "state", "why"], history.iter().map(change));
        more(answer, "breakers");
    }
    let behind = answer.get("not_counted_yet").and_then(Value::as_u64).unwrap_or(0);
    if behind > 0 {
        print::note(&format!("{behind} entries of the log are not counted yet: ask again"));
    }
    if answer.get("truncated") == Some(&Value::Bool(true)) {
        print::note("there is more than one summary looks at: name a server, a tool or a shorter window");
    }
}

fn row(figures: &Value, name: String) -> Vec<String> {
    std::iter::once(name).chain(FIGURES.map(|figure| print::text(figures, figure))).collect()
}
