//! `toolgate servers import`: the servers of other programs' configuration, as tables of `toolgate.toml`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{OpenOptions, Permissions};
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use anyhow::{Context, bail};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Common, Ended, print};
use crate::config::file;
use crate::domain::id::OWN_SERVER;

/// A server as Claude Desktop, Claude Code, Cursor and VS Code write it.
#[derive(Debug, Deserialize)]
struct Foreign {
    command: Option<String>,
    #[serde(default)]
    args: Vec<String>,
    #[serde(default)]
    env: BTreeMap<String, Value>,
    cwd: Option<String>,
    #[serde(alias = "serverUrl", alias = "httpUrl")]
    url: Option<String>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    #[serde(default)]
    disabled: bool,
    /// `stdio`, `http`, `sse`, `ws`, where the program says so.
    #[serde(rename = "type")]
    kind: Option<String>,
}

impl Foreign {
    /// Whether this is how a host reaches a gateway: behind a gateway it would be a loop.
    fn leads_here(&self) -> bool {
        let mut texts = self.args.iter().chain(&self.url);
        let local = |text: &str| ["localhost", "127.0.0.1", "[::1]"].iter().any(|host| text.contains(host));
        let program = self.command.as_deref().map(Path::new).and_then(Path::file_name);
        let relay =
            program.is_some_and(|name| name == "toolgate") && self.args.first().is_some_and(|arg| arg == "stdio");
        relay || texts.any(|text| text.trim_end_matches('/').ends_with("/v1/mcp") && local(text))
    }
}

pub(super) fn run(common: &Common, from: &Path, dry_run: bool) -> anyhow::Result<Ended> {
    let text = std::fs::read_to_string(from).with_context(|| format!("`{}`", from.display()))?;
    let foreign = read(&text).with_context(|| format!("`{}`", from.display()))?;
    let target = common.config.clone().unwrap_or_else(|| "toolgate.toml".into());
    let present = if target.exists() { std::fs::read_to_string(&target)? } else { String::new() };
    let known = file::read(&target.display().to_string(), &present, &|_| Some(String::from("x")))?.servers;
    let (mut added, mut skipped, mut tables) = (Vec::new(), Vec::new(), String::new());
    for (name, server) in foreign {
        let name = safe(&name);
        if known.keys().any(|known| known.as_str() == name) {
            skipped.push(format!("{name}: already there"));
        } else if name == OWN_SERVER || server.leads_here() {
            skipped.push(format!("{name}: it is a toolgate itself"));
        } else if server.disabled {
            skipped.push(format!("{name}: disabled"));
        } else {
            match table(&name, &server) {
                Ok(table) => {
                    tables.push_str(&table);
                    added.push(name);
                }
                Err(why) => skipped.push(format!("{name}: {why}")),
            }
        }
    }
    let whole = format!("{present}{tables}");
    file::read(&target.display().to_string(), &whole, &|_| Some(String::from("x")))?;
    if !dry_run && !added.is_empty() {
        write(&target, &whole).with_context(|| format!("`{}`", target.display()))?;
    }
    if common.json {
        print::json(
            &json!({"file": target, "added": added, "skipped": skipped, "written": !dry_run && !added.is_empty(), "toml": tables}),
        );
    } else {
        if dry_run {
            print::line(tables.trim());
        }
        let verb = if dry_run { "would be added to" } else { "added to" };
        let names = if added.is_empty() { String::new() } else { format!(": {}", added.join(", ")) };
        print::note(&format!("{} servers {verb} `{}`{names}", added.len(), target.display()));
        for line in skipped {
            print::note(&format!("left out {line}"));
        }
    }
    Ok(Ended::Well)
}

/// Writes the file whole or not at all; a new one is its owner's alone, since what was imported may hold secrets.
fn write(target: &Path, text: &str) -> std::io::Result<()> {
    let permissions = match std::fs::metadata(target) {
        Ok(present) => present.permissions(),
        Err(_) => Permissions::from_mode(0o600),
    };
    let beside = target.with_extension("toml.new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
    file.write_all(text.as_bytes())?;
    file.set_permissions(permissions)?;
    file.sync_all()?;
    std::fs::rename(beside, target)
}

/// The servers of a file: under `mcpServers` (Claude, Cursor) or `servers` (VS Code).
fn read(text: &str) -> anyhow::Result<BTreeMap<String, Foreign>> {
    let value: Value = serde_json::from_str(&without_comments(text)).context("not JSON")?;
    let servers = ["mcpServers", "servers"].into_iter().find_map(|name| value.get(name)).cloned();
    let Some(servers) = servers else { bail!("neither `mcpServers` nor `servers` is in it") };
    serde_json::from_value(servers).context("a server is not of the form `command`, `args`, `env` or `url`, `headers`")
}

/// VS Code allows `//` comments: lines that are nothing else are left out.
fn without_comments(text: &str) -> String {
    text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

/// A name that may be registered.
fn safe(name: &str) -> String {
    name.chars()
        .map(|c| if c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.') { c } else { '-' })
        .take(64)
        .collect()
}

fn table(name: &str, server: &Foreign) -> Result<String, String> {
    let mut out = String::new();
    let key = Value::from(name).to_string();
    let mut put = |line: String| {
        // Writing to a text cannot fail.
        let _done = writeln!(out, "{line}");
    };
    put(format!("\n[servers.{key}]"));
    match (&server.command, &server.url) {
        (Some(command), None) => {
            put(format!("command = {}", quoted(command)));
            if !server.args.is_empty() {
                put(format!("args = [{}]", server.args.iter().map(|arg| quoted(arg)).collect::<Vec<_>>().join(", ")));
            }
            let env = server
                .env
                .iter()
                .map(|(name, value)| (name, value.as_str().map_or_else(|| value.to_string(), str::to_owned)));
            let env: Vec<String> = env.map(|(name, value)| format!("{} = {}", quoted(name), quoted(&value))).collect();
            if !env.is_empty() {
                put(format!("env = {{ {} }}", env.join(", ")));
            }
            if let Some(cwd) = &server.cwd {
                put(format!("cwd = {}", quoted(cwd)));
            }
        }
        (None, Some(url)) => {
            put(format!("url = {}", quoted(url)));
            if server.kind.as_deref() == Some("sse") {
                put("transport = \"sse\"".to_owned());
            }
            let headers: Vec<String> =
                server.headers.iter().map(|(name, value)| format!("{} = {}", quoted(name), quoted(value))).collect();
            if !headers.is_empty() {
                put(format!("headers = {{ {} }}", headers.join(", ")));
            }
        }
        _ => return Err("it has neither `command` nor `url`, or both".into()),
    }
    Ok(out)
}

/// A TOML string. Editors' `${env:NAME}` becomes `${NAME}`; `${input:…}` has to be set by hand.
fn quoted(text: &str) -> String {
    Value::from(text.replace("${env:", "${")).to_string().replace('\u{7f}', "\\u007F")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_forms_of_four_programs_are_read() {
        let claude = r#"{"mcpServers":{"git hub":{"command":"npx","args":["-y","x"],"env":{"TOKEN":"t","N":1}},"off":{"command":"x","disabled":true}}}"#;
        let code = "{\n // mine\n \"servers\": {\"web\": {\"type\":\"http\",\"url\":\"https://e.example/mcp\",\"headers\":{\"X\":\"${env:KEY}\"}}}}";
        let servers = read(claude).unwrap();
        insta::assert_snapshot!(table(&safe("git hub"), &servers["git hub"]).unwrap(), @r#"

        [servers."git-hub"]
        command = "npx"
        args = ["-y", "x"]
        env = { "N" = "1", "TOKEN" = "t" }
        "#);
        assert!(servers["off"].disabled);
        let relay = |command: &str| {
            let text = json!({"servers": {"a": {"command": command, "args": ["stdio", "--server", "x"]}}}).to_string();
            read(&text).unwrap()["a"].leads_here()
        };
        assert!(relay("/usr/bin/toolgate") && !relay("other"));
        insta::assert_snapshot!(table("web", &read(code).unwrap()["web"]).unwrap(), @r#"

        [servers."web"]
        url = "https://e.example/mcp"
        headers = { "X" = "${KEY}" }
        "#);
        let old = r#"{"mcpServers":{"old":{"type":"sse","url":"https://e.example/sse"},"socket":{"type":"ws","url":"wss://e.example/mcp"}}}"#;
        insta::assert_snapshot!(table("old", &read(old).unwrap()["old"]).unwrap(), @r#"

        [servers."old"]
        url = "https://e.example/sse"
        transport = "sse"
        "#);
        insta::assert_snapshot!(table("socket", &read(old).unwrap()["socket"]).unwrap(), @r#"

        [servers."socket"]
        url = "wss://e.example/mcp"
        "#);
        assert!(read("{}").is_err());
    }
}
