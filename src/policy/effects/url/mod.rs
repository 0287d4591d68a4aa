//! URLs: what they would reach, however the address is spelled.
//!
//! Clients disagree on where the host of a hostile URL is, so every reading of it counts: the WHATWG one (the `url`
//! crate) and the plain one of RFC 3986, with each part between `@` and `\` taken for a host.

use std::net::{IpAddr, Ipv6Addr};

use url::{Host, Url};

use super::path;
use super::vocabulary::{Effect, Effects};
use crate::domain::net;

const MAX_BYTES: usize = 16 * 1024;

/// Names that stand for this machine or this network, and all names below them.
const PRIVATE_DOMAINS: &[&str] = &[
    "localhost",
    "localdomain",
    "local",
    "internal",
    "intranet",
    "private",
    "lan",
    "home",
    "corp",
    "home.arpa",
    // Public names that resolve to private addresses, or to whatever address stands in them.
    "localtest.me",
    "lvh.me",
    "vcap.me",
    "nip.io",
    "sslip.io",
    "xip.io",
];

const METADATA_NAMES: &[&str] = &["metadata.google.internal", "metadata.goog", "metadata", "instance-data"];

/// What fetching `text` would reach.
pub(super) fn recognise(text: &str) -> Effects {
    let text = text.trim();
    if text.is_empty() {
        return Effects::NONE;
    }
    if text.len() > MAX_BYTES {
        return Effect::UrlUnparsed.into();
    }
    let naive = of_authority(text);
    match Url::parse(text) {
        Ok(url) if is_scheme_of_url(text, &url) => of_url(&url) | naive,
        Ok(_) | Err(url::ParseError::RelativeUrlWithoutBase) => of_bare(text) | naive,
        Err(_) => naive | Effect::UrlUnparsed,
    }
}

/// Schemes of clients that look a name without a dot up in the local domain. (`memo://insights` names no host.)
const NETWORK_SCHEMES: &[&str] = &[
    "http",
    "https",
    "ws",
    "wss",
    "ftp",
    "ftps",
    "sftp",
    "ssh",
    "scp",
    "git",
    "svn",
    "rsync",
    "gopher",
    "dict",
    "telnet",
    "tcp",
    "udp",
    "tftp",
    "smb",
    "nfs",
    "ldap",
    "ldaps",
    "imap",
    "imaps",
    "smtp",
    "smtps",
    "redis",
    "rediss",
    "postgres",
    "postgresql",
    "mysql",
    "mariadb",
    "mongodb",
    "amqp",
    "amqps",
    "nats",
    "kafka",
    "memcached",
    "mssql",
    "clickhouse",
];

/// `localhost:8080` parses as a URL of the scheme `localhost`: a scheme counts if `/` or no port follows it.
fn is_scheme_of_url(text: &str, url: &Url) -> bool {
    if NETWORK_SCHEMES.contains(&url.scheme()) {
        return true;
    }
    let rest = text.get(url.scheme().len() + 1..).unwrap_or("");
    !url.scheme().contains('.') && (rest.starts_with(['/', '\\']) || !rest.starts_with(|c: char| c.is_ascii_digit()))
}

/// Without a scheme most clients assume `http:`: only the host can be told.
fn of_bare(text: &str) -> Effects {
    let rest = text.trim_start_matches(['/', '\\']);
    let relative = text.len() - rest.len() == 1 || text.starts_with(['.', '?', '#']);
    if relative {
        return Effects::NONE;
    }
    match Url::parse(&format!("http://{rest}")).as_ref().map(Url::host) {
        // A single word is a word, not a host.
        Ok(Some(Host::Domain(name))) if !is_dotted(name) && !rest.contains(':') => Effects::NONE,
        Ok(Some(host)) => of_host(&host),
        Ok(None) | Err(_) => Effects::NONE,
    }
}

fn of_url(url: &Url) -> Effects {
    let mut effects = match url.scheme() {
        "http" => Effect::UrlHttp | Effect::UrlPlainHttp,
        "https" => Effect::UrlHttp.into(),
        "file" => path::recognise(url.path()) | Effect::UrlFile,
        _ => Effect::UrlOtherScheme.into(),
    };
    if !url.username().is_empty() || url.password().is_some() {
        effects |= Effect::UrlCredentials;
    }
    match url.host() {
        // Only the special schemes have their hosts read as addresses by the parser.
        Some(Host::Domain(name)) if is_dotted(name) || NETWORK_SCHEMES.contains(&url.scheme()) => {
            effects |= of_name(name);
        }
        Some(Host::Domain(_)) => {}
        Some(host) => effects |= of_host(&host),
        None => {}
    }
    effects
}

/// Every part of the authority that some client would take for the host.
fn of_authority(text: &str) -> Effects {
    let Some((_, rest)) = text.split_once("//").or_else(|| text.split_once("\\\\")) else { return Effects::NONE };
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let authority = rest.get(..end).unwrap_or(rest);
    let hosts = authority.split(['@', '\\', '#']).map(without_port).filter(|part| is_dotted(part));
    hosts.fold(Effects::NONE, |effects, part| effects | of_name(part))
}

/// Whether a text says by itself that it is a host: an address, a name with a dot, this machine.
fn is_dotted(text: &str) -> bool {
    text.contains(['.', ':', '%'])
        || !text.is_ascii()
        || text.eq_ignore_ascii_case("localhost")
        || text.starts_with(|c: char| c.is_ascii_digit())
}

fn without_port(part: &str) -> &str {
    if let Some((address, _)) = part.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return address;
    }
    match part.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => part,
    }
}

/// A host as text: an address in any spelling, or a name.
fn of_name(text: &str) -> Effects {
    if text.is_empty() {
        return Effects::NONE;
    }
    // A zone (`fe80::1%eth0`) is only ever part of a local address.
    let address = text.split('%').next().unwrap_or(text);
    if let Ok(address) = address.parse::<Ipv6Addr>() {
        return of_address(IpAddr::V6(address));
    }
    Host::parse(text).map_or(Effects::NONE, |host| of_host(&host))
}

fn of_host<S: AsRef<str>>(host: &Host<S>) -> Effects {
    match host {
        Host::Ipv4(address) => of_address(IpAddr::V4(*address)),
        Host::Ipv6(address) => of_address(IpAddr::V6(*address)),
        Host::Domain(name) => of_domain(name.as_ref()),
    }
}

fn of_domain(name: &str) -> Effects {
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    let within =
        |domain: &str| name.strip_suffix(domain).is_some_and(|before| before.is_empty() || before.ends_with('.'));
    let mut effects = Effects::NONE;
    if METADATA_NAMES.contains(&name.as_str()) {
        effects |= Effect::UrlMetadata | Effect::UrlPrivateNetwork;
    }
    // A name without a dot is looked up in the local domain.
    if PRIVATE_DOMAINS.iter().any(|domain| within(domain)) || !name.contains('.') {
        effects |= Effect::UrlPrivateNetwork;
    }
    effects
}

fn of_address(address: IpAddr) -> Effects {
    let (private, metadata) = (net::is_private(address), net::is_metadata(address));
    let mut effects = Effects::NONE;
    if private || metadata {
        effects |= Effect::UrlPrivateNetwork;
    }
    if metadata {
        effects |= Effect::UrlMetadata;
    }
    effects
}

#[cfg(test)]
mod tests;
