//! URLs: what they would reach, however the address is spelled.
//!
//! Clients disagree on where the host of a hostile URL is, so every reading of it counts: the WHATWG one (the `url`
//! crate) and the plain one of RFC 3986, with each part between `@` and `\` taken for a host.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use url::{Host, Url};

use super::path;
use super::vocabulary::{Effect, Effects};

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
    let (private, metadata) = match address {
        IpAddr::V4(v4) => (is_private_v4(v4), is_metadata_v4(v4)),
        IpAddr::V6(v6) => {
            let inner = embedded(v6);
            let metadata = METADATA_V6.contains(&v6) || inner.into_iter().flatten().any(is_metadata_v4);
            (is_private_v6(v6) || inner.into_iter().flatten().any(is_private_v4), metadata)
        }
    };
    let mut effects = Effects::NONE;
    if private || metadata {
        effects |= Effect::UrlPrivateNetwork;
    }
    if metadata {
        effects |= Effect::UrlMetadata;
    }
    effects
}

/// EC2 and GCE.
const METADATA_V6: [Ipv6Addr; 2] =
    [Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254), Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)];

/// Link-local metadata of most clouds, of ECS tasks and of EKS pods; Alibaba, Oracle, Azure's wire server.
fn is_metadata_v4(address: Ipv4Addr) -> bool {
    matches!(
        address.octets(),
        [169, 254, 169, 254] | [169, 254, 170, 2 | 23] | [100, 100, 100, 200] | [192, 0, 0, 192] | [168, 63, 129, 16]
    )
}

/// Whatever the IANA special-purpose registry does not call globally reachable.
fn is_private_v4(address: Ipv4Addr) -> bool {
    match address.octets() {
        [0 | 10 | 127, ..] | [169, 254, ..] | [192, 168, ..] => true,
        [100, second, ..] => (64..128).contains(&second),
        [172, second, ..] => (16..32).contains(&second),
        [192, 0, 0 | 2, _] | [192, 88, 99, _] | [198, 18 | 19, ..] | [198, 51, 100, _] | [203, 0, 113, _] => true,
        [first, ..] => first >= 224,
    }
}

fn is_private_v6(address: Ipv6Addr) -> bool {
    match address.segments() {
        // Unspecified, loopback.
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => true,
        // Discard-only, Teredo, ORCHID, documentation.
        [0x100, 0, 0, 0, ..] | [0x2001, 0, ..] | [0x2001, 0xdb8, ..] | [0x3fff, ..] => true,
        // NAT64 of a local network (RFC 8215): its prefix length is not known, so neither is the address inside.
        [0x64, 0xff9b, 1, ..] => true,
        [0x2001, second, ..] if (0x10..0x30).contains(&second) => true,
        // Unique local, link-local, site-local, multicast.
        [first, ..] => matches!(first & 0xfe00, 0xfc00) || matches!(first & 0xff00, 0xff00) || first & 0xff80 == 0xfe80,
    }
}

/// The IPv4 addresses inside: mapped, compatible, translated, NAT64, 6to4, ISATAP.
fn embedded(address: Ipv6Addr) -> [Option<Ipv4Addr>; 2] {
    let pair = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        Some(Ipv4Addr::new(a, b, c, d))
    };
    match address.segments() {
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low] | [0, 0, 0, 0, 0xffff, 0, high, low] => [pair(high, low), None],
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => [pair(high, low), None],
        [0x2002, high, low, _, isatap, 0x5efe, inner_high, inner_low] if isatap & !0x200 == 0 => {
            [pair(high, low), pair(inner_high, inner_low)]
        }
        [0x2002, high, low, ..] => [pair(high, low), None],
        [_, _, _, _, isatap, 0x5efe, high, low] if isatap & !0x200 == 0 => [pair(high, low), None],
        _ => [None, None],
    }
}

#[cfg(test)]
mod tests;
