//! Addresses as limits count them.

use std::net::{IpAddr, Ipv6Addr};

/// One household, one source: an IPv6 address counts as its /64, an IPv4 address in IPv6 clothes as itself.
#[must_use]
pub fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
        v4 @ IpAddr::V4(_) => v4,
    }
}
