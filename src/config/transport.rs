//! How a server is reached, as its table says it.

use std::path::PathBuf;

use super::reader::Section;
use super::settings::Transport;
use crate::domain::secret::Secret;

/// The protocol that a URL or the key `transport` names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Protocol {
    Http,
    Sse,
    Ws,
}

impl Protocol {
    fn parse(text: &str) -> Option<Self> {
        match text {
            "http" => Some(Self::Http),
            "sse" => Some(Self::Sse),
            "ws" => Some(Self::Ws),
            _ => None,
        }
    }
}

/// Reads the keys that say how a server is reached; `None` where they do not, which is a fault by then.
pub(super) fn read(section: &Section<'_>) -> Option<Transport> {
    let command = section.text("command");
    let url = section.text("url");
    let named = section.parsed("transport", "`http`, `sse` or `ws`", Protocol::parse);
    let args = section.texts("args");
    let env = section.text_map("env");
    let cwd = section.text("cwd");
    let headers = headers(section);
    let there = |key: &&str| section.keys().iter().any(|other| other == key);
    match (command, url) {
        (Some(command), None) => {
            for key in ["headers", "transport"].into_iter().filter(there) {
                section.fault(Some(key), format!("`{key}` goes with `url`, not with `command`"), None);
            }
            let env = env.into_iter().map(|(name, value)| (name, Secret::new(value))).collect();
            Some(Transport::Stdio { command, args: args.unwrap_or_default(), env, cwd: cwd.map(PathBuf::from) })
        }
        (None, Some(url)) => {
            for key in ["args", "env", "cwd"].into_iter().filter(there) {
                section.fault(Some(key), format!("`{key}` goes with `command`, not with `url`"), None);
            }
            match remote(&url, named, headers) {
                Ok(transport) => Some(transport),
                Err(why) => {
                    section.fault(Some("url"), why, None);
                    None
                }
            }
        }
        (Some(_), Some(_)) => {
            section.fault(Some("url"), "a server has `command` or `url`, not both", None);
            None
        }
        (None, None) => {
            section.fault(None, "a server needs `command` (stdio) or `url` (Streamable HTTP, WebSocket)", None);
            None
        }
    }
}

fn remote(text: &str, named: Option<Protocol>, headers: Vec<(http::HeaderName, Secret)>) -> Result<Transport, String> {
    let url = text.parse::<http::Uri>().ok().filter(|url| url.host().is_some());
    match (url.as_ref().and_then(http::Uri::scheme_str), named, &url) {
        (Some("http" | "https"), None | Some(Protocol::Http), Some(url)) => {
            Ok(Transport::Http { url: url.clone(), headers })
        }
        (Some("http" | "https"), Some(Protocol::Sse), Some(url)) => Ok(Transport::Sse { url: url.clone(), headers }),
        (Some("ws" | "wss"), None | Some(Protocol::Ws), Some(url)) => Ok(Transport::Ws { url: url.clone(), headers }),
        (Some("http" | "https"), Some(Protocol::Ws), _) => {
            Err(format!("`{text}` is not a ws or wss URL, as `transport = \"ws\"` wants it"))
        }
        (Some("ws" | "wss"), Some(_), _) => Err(format!("`{text}` goes with `transport = \"ws\"` alone")),
        _ => Err(format!("`{text}` is not an http, https, ws or wss URL")),
    }
}

fn headers(section: &Section<'_>) -> Vec<(http::HeaderName, Secret)> {
    let mut headers = Vec::new();
    for (name, value) in section.text_map("headers") {
        match (name.parse::<http::HeaderName>(), http::HeaderValue::from_str(&value)) {
            (Ok(name), Ok(_)) => headers.push((name, Secret::new(value))),
            (Err(_), _) => section.fault(Some("headers"), format!("`{name}` is not a header name"), None),
            (_, Err(_)) => {
                section.fault(Some("headers"), format!("the value of `{name}` cannot stand in a header"), None)
            }
        }
    }
    headers
}

#[cfg(test)]
mod tests {
    use crate::config::file::read;
    use crate::config::settings::Transport;

    fn load(table: &str) -> Result<Transport, String> {
        let settings =
            read("t.toml", &format!("[servers.a]\n{table}\n"), &|_| None).map_err(|faults| faults.to_string())?;
        Ok(settings.servers[&"a".parse().unwrap()].transport.clone())
    }

    #[test]
    fn a_url_and_the_key_name_a_protocol() {
        for (table, kind) in [
            ("url = \"http://h/mcp\"", "http"),
            ("url = \"http://h/mcp\"\ntransport = \"http\"", "http"),
            ("url = \"https://h/sse\"\ntransport = \"sse\"", "sse"),
            ("url = \"wss://h/mcp\"", "ws"),
            ("url = \"ws://h:1\"\ntransport = \"ws\"", "ws"),
            ("command = \"x\"", "stdio"),
        ] {
            assert_eq!(load(table).map(|transport| transport.kind()), Ok(kind), "{table}");
        }
    }

    #[test]
    fn what_does_not_go_together_is_refused() {
        for (table, says) in [
            ("url = \"ftp://h\"", "is not an http, https, ws or wss URL"),
            ("url = \"ws:h\"", "is not an http, https, ws or wss URL"),
            ("url = \"http://h\"\ntransport = \"ws\"", "is not a ws or wss URL"),
            ("url = \"ws://h\"\ntransport = \"sse\"", "goes with `transport = \"ws\"` alone"),
            ("url = \"http://h\"\ntransport = \"tcp\"", "must be `http`, `sse` or `ws`"),
            ("command = \"x\"\ntransport = \"sse\"", "`transport` goes with `url`"),
            ("command = \"x\"\nheaders = { a = \"b\" }", "`headers` goes with `url`"),
        ] {
            let faults = load(table).unwrap_err();
            assert!(faults.contains(says), "{table}: {faults}");
        }
    }
}
