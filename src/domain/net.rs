//! Addresses: as limits count them, and what lies behind them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use url::{Host, Url};

/// One household, one source: an IPv6 address counts as its /64, an IPv4 address in IPv6 clothes as itself.
#[must_use]
pub fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
        v4 @ IpAddr::V4(_) => v4,
    }
}

/// Whether an address, or one that stands inside it, lies in a network that is not everybody's: this machine, a local
/// network, whatever is not globally reachable.
#[must_use]
pub fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => is_private_v4(v4),
        IpAddr::V6(v6) => is_private_v6(v6) || embedded(v6).into_iter().flatten().any(is_private_v4),
    }
}

/// Whether a cloud hands out its machines' credentials at this address.
#[must_use]
pub fn is_metadata(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => is_metadata_v4(v4),
        IpAddr::V6(v6) => METADATA_V6.contains(&v6) || embedded(v6).into_iter().flatten().any(is_metadata_v4),
    }
}

/// Whether a URL names this machine.
#[must_use]
pub fn is_here(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
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
