//! `observability.summary`: what a window of the audit log comes to, by server, tool, key and decision.

use serde::Deserialize;
use serde_json::{Value, json};

use super::executions::unread;
use super::{Description, arguments};
use crate::backend::BreakerState;
use crate::config::reader::parse_duration;
use crate::domain::clock::Moment;
use crate::domain::outcome::{Answer, Refusal};
use crate::domain::principal::Scope;
use crate::domain::tool::Hints;
use crate::pipeline::{OwnTool, Pipeline, State, own_answer};
use crate::policy::PermittedCall;
use crate::store::{BreakerChange, Counts, Group, Narrow, Resolution, Summary};

pub(super) const NAME: &str = "observability.summary";

const DEFAULT_LIMIT: usize = 10;
const MAX_LIMIT: usize = 100;
/// Entries of the log that one question rolls up before it is answered, at most.
const CATCH_UP: usize = 100_000;

pub(super) fn tool() -> OwnTool {
    Description {
        name: NAME,
        title: NAME,
        description: "Summarize calls through the gateway over a window: counts, errors, denials, limits and latency \
                      percentiles by server, tool, key and decision, and the history of breakers.",
        scope: Scope::ObservabilityRead,
        hints: Hints { read_only: Some(true), open_world: Some(false), ..Hints::default() },
        input_schema: json!({
            "type": "object",
            "properties": {
                "window": {"type": "string", "maxLength": 16, "default": "1h", "description": "How far back, as 15m, 1h, 7d; at most 30d"},
                "server": {"type": "string", "maxLength": 64, "description": "Only this server"},
                "tool": {"type": "string", "maxLength": 512, "description": "Only this tool: its name, or server:tool"},
                "key": {"type": "string", "maxLength": 128, "description": "Only this key id"},
                "limit": {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": DEFAULT_LIMIT, "description": "Rows of each list"},
            },
            "additionalProperties": false,
        }),
    }
    .into_tool()
}

#[derive(Deserialize)]
struct Wanted {
    window: Option<String>,
    server: Option<String>,
    tool: Option<String>,
    key: Option<String>,
    limit: Option<usize>,
}

/// How long a window is, in milliseconds.
fn window(text: &str) -> Option<i64> {
    let millis = i64::try_from(parse_duration(text)?.as_millis()).ok()?;
    (Resolution::Minute.millis()..=Resolution::LONGEST).contains(&millis).then_some(millis)
}

pub(super) async fn run(pipeline: &Pipeline, state: &State, call: &PermittedCall) -> Result<Answer, Refusal> {
    let Wanted { window: asked, mut server, mut tool, key, limit } = arguments(call)?;
    let asked = asked.unwrap_or_else(|| "1h".into());
    let length = window(&asked).ok_or_else(|| Refusal::InvalidRequest {
        message: "`window` must be a duration from `1m` to `30d`, as `15m`, `1h` or `7d`".into(),
    })?;
    if let (None, Some(text)) = (&server, &tool) {
        let (of, name) = state.named(&*pipeline.own, text);
        (server, tool) = (of, Some(name));
    }
    let limit = limit.unwrap_or(DEFAULT_LIMIT).clamp(1, MAX_LIMIT);
    let (now, resolution) = (pipeline.clock.now(), Resolution::of(length));
    let since = resolution.floor(Moment(now.0.saturating_sub(length)));
    let until = Moment(now.0.saturating_add(1));
    let journal = &pipeline.journal;
    let rolled = journal.roll_up(CATCH_UP).await.map_err(|error| unread(&error))?;
    let holder = call.principal();
    let own = (!holder.profile.has(Scope::AuditRead)).then(|| holder.key.to_string());
    // Another's calls are as if there were none.
    let summary = if own.is_some() && key.is_some() && own != key {
        Summary::default()
    } else {
        let narrow = Narrow { server: server.clone(), tool, key: own.clone().or(key) };
        journal.summary(resolution, since, until, narrow).await.map_err(|error| unread(&error))?
    };
    // Who may not read the log hears of servers that its own calls went to.
    let servers = match own {
        Some(_) => Some(summary.servers.iter().map(|group| group.name.clone()).collect()),
        None => server.map(|server| vec![server]),
    };
    let open = pipeline.backends.status().into_iter().filter(|status| {
        let wanted = |servers: &Vec<String>| servers.iter().any(|server| status.name.as_str() == server);
        status.breaker.state != BreakerState::Closed && servers.as_ref().is_none_or(wanted)
    });
    let open: Vec<String> = open.map(|status| status.name.to_string()).collect();
    let changes = journal.breaker_changes(since, servers, limit).await.map_err(|error| unread(&error))?;
    let report = Report { summary: &summary, changes: &changes.0, unshown: changes.1, open: &open, limit };
    let mut structured = report.json();
    if let Some(members) = structured.as_object_mut() {
        members.insert("window".into(), json!(asked));
        members.insert("since".into(), json!(since.rfc3339()));
        members.insert("until".into(), json!(now.rfc3339()));
        members.insert("not_counted_yet".into(), json!(rolled.behind));
        members.insert("scanned".into(), json!({"entries": rolled.visited, "rows": summary.visited}));
    }
    Ok(own_answer(&report.text(&asked, rolled.behind), &structured))
}

/// What is told of a window.
struct Report<'a> {
    summary: &'a Summary,
    changes: &'a [BreakerChange],
    /// Changes besides.
    unshown: usize,
    /// Servers whose breaker is not closed now.
    open: &'a [String],
    /// Rows of a list.
    limit: usize,
}

impl Report<'_> {
    fn lists(&self) -> [(&'static str, &'static str, &[Group]); 5] {
        let Summary { servers, tools, keys, decisions, rules, .. } = self.summary;
        [
            ("servers", "server", servers),
            ("tools", "tool", tools),
            ("keys", "key", keys),
            ("decisions", "decision", decisions),
            ("refusals", "rule", rules),
        ]
    }

    fn json(&self) -> Value {
        let mut out = serde_json::Map::new();
        let mut left_out = serde_json::Map::new();
        out.insert("total".into(), figures(&self.summary.total));
        for (list, what, groups) in self.lists() {
            let rows = groups.iter().take(self.limit).map(|group| row(what, group));
            out.insert(list.into(), rows.collect());
            if groups.len() > self.limit {
                left_out.insert(list.into(), json!(groups.len() - self.limit));
            }
        }
        let change = |change: &BreakerChange| {
            json!({"time": change.time.rfc3339(), "server": change.server, "state": change.state,
                   "why": Some(&change.why).filter(|why| !why.is_empty())})
        };
        let history: Vec<Value> = self.changes.iter().map(change).collect();
        out.insert("breakers".into(), json!({"open": self.open, "history": history}));
        if self.unshown > 0 {
            left_out.insert("breakers".into(), json!(self.unshown));
        }
        out.insert("left_out".into(), Value::Object(left_out));
        out.insert("truncated".into(), json!(self.summary.truncated));
        Value::Object(out)
    }

    /// A few lines for people and models.
    fn text(&self, window: &str, behind: u64) -> String {
        let mut text = format!("{window}: {}\n", sentence(&self.summary.total));
        for (list, _, groups) in self.lists() {
            for group in groups.iter().take(self.limit.min(5)) {
                text.push_str(&format!("{list} {}: {}\n", named(&group.name), sentence(&group.counts)));
            }
        }
        for change in self.changes.iter().take(self.limit.min(5)) {
            text.push_str(&format!("breaker {} {} {}\n", change.server, change.state, change.time.rfc3339()));
        }
        if behind > 0 {
            text.push_str(&format!("{behind} entries of the log are not counted yet: ask again\n"));
        }
        text.truncate(text.trim_end().len());
        text
    }
}

/// A name as it is shown; calls that named nothing that exists have none.
fn named(name: &str) -> &str {
    if name.is_empty() { "(unknown)" } else { name }
}

fn row(what: &str, group: &Group) -> Value {
    let mut row = figures(&group.counts);
    if let Some(members) = row.as_object_mut() {
        members.insert(what.into(), json!(named(&group.name)));
    }
    row
}

fn figures(counts: &Counts) -> Value {
    let Counts { calls, errors, refused, limited, cancelled, cached, latencies } = counts;
    let at = |per_mille: u64| latencies.quantile(per_mille).map(millis);
    json!({
        "calls": calls, "errors": errors, "refused": refused, "limited": limited, "cancelled": cancelled,
        "cached": cached, "p50_ms": at(500), "p95_ms": at(950), "p99_ms": at(990),
    })
}

fn sentence(counts: &Counts) -> String {
    let Counts { calls, errors, refused, limited, latencies, .. } = counts;
    let mut text = format!("{calls} calls, {errors} errors, {refused} refused ({limited} by limits)");
    let at = |per_mille: u64| latencies.quantile(per_mille).map(millis);
    if let (Some(p50), Some(p95), Some(p99)) = (at(500), at(950), at(990)) {
        text.push_str(&format!(", p50 {p50} ms, p95 {p95} ms, p99 {p99} ms"));
    }
    text
}

/// Milliseconds with the precision that a histogram has: three digits.
fn millis(micros: u64) -> f64 {
    let digits = micros.checked_ilog10().map_or(0, |digits| digits.saturating_sub(2));
    let unit = 10_u64.pow(digits);
    let rounded = micros.saturating_add(unit / 2) / unit * unit;
    #[expect(clippy::cast_precision_loss, reason = "a latency of 2^53 µs is 285 years")]
    let rounded = rounded as f64;
    rounded / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_have_bounds() {
        assert_eq!(window("1h"), Some(3_600_000));
        assert_eq!(window("30d"), Some(Resolution::LONGEST));
        for bad in ["", "1s", "59s", "31d", "0m", "-1h", "1", "99999999999999999999d"] {
            assert_eq!(window(bad), None, "{bad}");
        }
    }

    #[test]
    fn latencies_have_three_digits() {
        let shown: Vec<String> = [0, 7, 123, 1234, 123_456, 9_999_999].map(|micros| millis(micros).to_string()).into();
        assert_eq!(shown, ["0", "0.007", "0.123", "1.23", "123", "10000"]);
    }
}
