//! `toolgate dlp`.

use clap::Subcommand;
use serde_json::Value;

use super::{Common, Ended, print};
use crate::gateway::dlp;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Look for secrets and personal data in a text. Exits 2 where there are any
    Scan {
        /// A file; `-` is standard input
        #[arg(value_name = "FILE")]
        file: String,
        /// Print the text with `[redacted:RULE]` in place of what was found
        #[arg(long)]
        redact: bool,
    },
    /// Precision and recall of every rule on a labelled set
    Eval {
        /// JSON lines with `text` or `json`, and `secrets` [default: the set that ships]
        #[arg(value_name = "FILE")]
        file: Option<String>,
    },
    /// List the rules
    Rules,
}

pub(super) fn run(common: &Common, command: Command) -> anyhow::Result<Ended> {
    match command {
        Command::Scan { file, redact } => scan(common, &read(&file)?, redact),
        Command::Eval { file } => {
            let lines = file.as_deref().map(read).transpose()?;
            let scores = dlp::judge(lines.as_deref()).map_err(anyhow::Error::msg)?;
            evaluated(common, &scores);
            Ok(Ended::Well)
        }
        Command::Rules => {
            let rules = dlp::rules();
            if common.json {
                print::json(&rules);
            } else {
                let row = |rule: &Value| ["rule", "kind", "about"].map(|name| print::text(rule, name)).to_vec();
                print::table(&["rule", "kind", "finds"], print::list(&rules, "rules").iter().map(row));
            }
            Ok(Ended::Well)
        }
    }
}

fn read(file: &str) -> anyhow::Result<String> {
    let read = if file == "-" { std::io::read_to_string(std::io::stdin()) } else { std::fs::read_to_string(file) };
    read.map_err(|error| anyhow::anyhow!("`{file}` cannot be read: {error}"))
}

fn scan(common: &Common, text: &str, redact: bool) -> anyhow::Result<Ended> {
    let report = dlp::scan(&common.sources(), text)?;
    let findings = print::list(&report, "findings");
    let incomplete = report.get("incomplete") == Some(&Value::Bool(true));
    let found = !findings.is_empty() || incomplete;
    if common.json {
        print::json(&report);
    } else if redact {
        match report.get("redacted").and_then(Value::as_str) {
            Some(text) => print::line(text.strip_suffix('\n').unwrap_or(text)),
            None => anyhow::bail!("{}", print::text(&report, "unredactable")),
        }
    } else {
        let row = |finding: &Value| {
            let place = format!("{}:{}", print::text(finding, "line"), print::text(finding, "column"));
            let [rule, kind, confidence] = ["rule", "kind", "confidence"].map(|name| print::text(finding, name));
            vec![place, rule, kind, confidence]
        };
        if !findings.is_empty() {
            print::table(&["place", "rule", "kind", "confidence"], findings.iter().map(row));
        }
        print::line(&format!("{} findings{}", findings.len(), if incomplete { ", not scanned whole" } else { "" }));
    }
    Ok(if found { Ended::Denied } else { Ended::Well })
}

fn evaluated(common: &Common, scores: &Value) {
    if common.json {
        return print::json(scores);
    }
    let row = |name: &str, score: &Value| {
        let share = |name: &str| format!("{:.3}", score.get(name).and_then(Value::as_f64).unwrap_or_default());
        let [right, wrong, missed] = ["right", "wrong", "missed"].map(|name| print::text(score, name));
        vec![name.to_owned(), right, wrong, missed, share("precision"), share("recall")]
    };
    let empty = serde_json::Map::new();
    let rules = scores.get("rules").and_then(Value::as_object).unwrap_or(&empty);
    let mut rows: Vec<_> = rules.iter().map(|(rule, score)| row(rule, score)).collect();
    rows.extend(scores.get("all").map(|all| row("all", all)));
    print::table(&["rule", "right", "wrong", "missed", "precision", "recall"], rows);
    for fault in print::list(scores, "faults").iter().filter_map(Value::as_str) {
        print::line(&print::clean(fault));
    }
    print::line(&format!(
        "{} texts, {} of them with nothing in them; {} secrets survived redaction",
        print::text(scores, "lines"),
        print::text(scores, "clean_lines"),
        print::text(scores, "leaks")
    ));
}
