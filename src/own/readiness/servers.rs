//! The backends: whether they are who they were, and whether what goes to them is kept from others.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use serde_json::{Value, json};

use super::{Check, Status, View, bounded};
use crate::config::{ServerSettings, Transport};
use crate::domain::dlp::{DlpMode, DlpModes};

/// Digits of a digest that are told.
const DIGITS: usize = 12;

impl View<'_> {
    pub(super) fn tools_changed(&self) -> Check {
        let known = &self.surroundings.known;
        let short = |digest: &str| digest.get(..DIGITS).unwrap_or(digest).to_owned();
        let (mut changed, mut added, mut here) = (Vec::new(), Vec::new(), BTreeSet::new());
        let servers: BTreeSet<&str> = known.keys().filter_map(|label| Some(label.split_once(':')?.0)).collect();
        for tool in self.tools() {
            here.insert(Arc::clone(&tool.label));
            match known.get(&tool.label) {
                Some(was) if *was != tool.digest => {
                    changed.push(json!({"tool": tool.label, "was": short(was), "is": short(&tool.digest)}));
                }
                None if servers.contains(tool.id.server.as_str()) => added.push(tool.label.to_string()),
                _ => {}
            }
        }
        let mut gone: Vec<String> =
            known.keys().filter(|label| !here.contains(&***label)).map(ToString::to_string).collect();
        gone.sort_unstable();
        Check {
            id: "tools-changed",
            title: "tools are what they were before this start",
            status: Status::unless(!changed.is_empty(), Status::Warn),
            evidence: json!({
                "known": known.len(), "changed": bounded(&changed), "added": bounded(&added), "gone": bounded(&gone),
            }),
            remedy: "read the new definitions with `toolgate tools list --json`; ask the server's owner what changed",
        }
    }

    pub(super) fn backend_tls(&self) -> Check {
        let found: Vec<Value> = self
            .remote()
            .filter(|(_, url, _)| !matches!(url.scheme_str(), Some("https" | "wss")))
            .map(|(server, url, _)| json!({"server": server.name, "scheme": url.scheme_str(), "host": url.host()}))
            .collect();
        Check {
            id: "backend-tls",
            title: "what leaves the machine for a server is encrypted",
            status: Status::unless(!found.is_empty(), Status::Fail),
            evidence: json!({"servers": self.state.settings.servers.len(), "in_the_clear": bounded(&found)}),
            remedy: "give these servers a URL with https:// or wss://",
        }
    }

    pub(super) fn backend_auth(&self) -> Check {
        let open = |(server, _, headers): &(&Arc<ServerSettings>, &http::Uri, usize)| {
            server.oauth.is_none() && server.provider.is_none() && *headers == 0
        };
        let found: Vec<Value> = self
            .remote()
            .filter(open)
            .map(|(server, url, _)| json!({"server": server.name, "host": url.host()}))
            .collect();
        Check {
            id: "backend-auth",
            title: "servers on other machines know that it is the gateway that calls",
            status: Status::unless(!found.is_empty(), Status::Warn),
            evidence: json!({"servers": self.state.settings.servers.len(), "without_credentials": bounded(&found)}),
            remedy: "give these servers `headers` with a token, or `oauth`; else everybody may go round the gateway",
        }
    }

    /// The servers on other machines, with where they are and how many headers of the operator's they get.
    fn remote(&self) -> impl Iterator<Item = (&Arc<ServerSettings>, &http::Uri, usize)> {
        self.state.settings.servers.values().filter_map(|server| {
            let (url, headers) = match &server.transport {
                Transport::Http { url, headers } | Transport::Sse { url, headers } | Transport::Ws { url, headers } => {
                    (url, headers.len())
                }
                Transport::Stdio { .. } => return None,
            };
            (!is_here(url.host().unwrap_or_default())).then_some((server, url, headers))
        })
    }

    pub(super) fn dlp(&self) -> Check {
        let off = |modes: DlpModes| {
            let ways = [("arguments", modes.arguments), ("results", modes.results)];
            ways.into_iter().filter(|(_, mode)| *mode == DlpMode::Off).map(|(way, _)| way).collect::<Vec<_>>()
        };
        let mut unseen: BTreeMap<String, Vec<&str>> = BTreeMap::new();
        for server in self.state.settings.servers.values() {
            unseen.insert(server.name.to_string(), off(server.dlp));
            for (tool, row) in server.tools.iter().filter(|(_, row)| row.dlp != server.dlp) {
                unseen.insert(format!("{}:{tool}", server.name), off(row.dlp));
            }
        }
        let found: Vec<Value> = unseen
            .into_iter()
            .filter(|(_, ways)| !ways.is_empty())
            .map(|(of, ways)| json!({"of": of, "not_scanned": ways}))
            .collect();
        Check {
            id: "dlp-off",
            title: "arguments and results are scanned for secrets and personal data",
            status: Status::unless(!found.is_empty(), Status::Warn),
            evidence: json!({"servers": self.state.settings.servers.len(), "off": bounded(&found)}),
            remedy: "set `dlp` of these servers or tools to `observe`, `redact` or `block`",
        }
    }
}

/// Whether a host is this machine.
fn is_here(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::is_here;

    #[test]
    fn here_is_the_loopback_and_nothing_else() {
        for (host, here) in [
            ("localhost", true),
            ("LOCALHOST", true),
            ("127.0.0.1", true),
            ("127.9.9.9", true),
            ("[::1]", true),
            ("0.0.0.0", false),
            ("10.0.0.1", false),
            ("localhost.example", false),
            ("example.com", false),
            ("", false),
        ] {
            assert_eq!(is_here(host), here, "{host}");
        }
    }
}
