//! How far an address reaches: this host, this link, a private network, or the whole internet; and with which others it
//! counts as one.
//!
//! The ranges are those of IANA's special-purpose registries for IPv4 and IPv6 (RFC 6890 and its updates, as of 2025).
//! IPv6 addresses that carry an IPv4 address are judged by it. Bounds: none needed, nothing is kept.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use libp2p::{Multiaddr, multiaddr::Protocol};

/// How far an address reaches, the nearest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// This host: loopback, and libp2p's memory transport.
    Host,
    /// This link: 169.254.0.0/16 and fe80::/10, where clouds keep their secrets.
    Link,
    /// A private network: RFC 1918, the shared addresses of carriers (100.64.0.0/10), unique local IPv6.
    Private,
    /// The internet. Public names and circuits through relays count as such: where they lead is not known here.
    Public,
}

impl Scope {
    /// The scope of an IP address; `None` for one at which no peer can be: unspecified, multicast, broadcast,
    /// documentation, benchmarks, reserved, Teredo, and translated addresses (6to4, NAT64) that hide one that is not public.
    pub fn of_ip(ip: IpAddr) -> Option<Self> {
        match ip {
            IpAddr::V4(ip) => of_ip4(ip),
            IpAddr::V6(ip) => of_ip6(ip),
        }
    }

    /// The scope of a domain name: public if a public certificate can be for it, that is, one with a dot that is neither
    /// an IP address nor under one of the top levels for private networks (RFC 6761, RFC 8375, ICANN's `internal`).
    pub fn of_name(name: &str) -> Self {
        let label = |label: &str| {
            let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
            (1..=63).contains(&label.len()) && label.bytes().all(allowed)
        };
        let lower = name.to_ascii_lowercase();
        match lower.rsplit_once('.') {
            None if lower == "localhost" => Self::Host,
            Some((_, "localhost")) => Self::Host,
            Some((rest, top))
                if lower.len() <= MAX_NAME
                    && rest.split('.').all(label)
                    && label(top)
                    && !top.starts_with(|first: char| first.is_ascii_digit())
                    && !PRIVATE_NAMES.contains(&top) =>
            {
                Self::Public
            }
            _ => Self::Private,
        }
    }

    /// The scope of a connection's remote address: one that says nothing counts as far away.
    pub fn of_remote(remote: &Multiaddr) -> Self {
        Self::of(remote).unwrap_or(Self::Public)
    }

    /// The scope of an address by its first part and by whether it leads through a relay; `None` as in [`Scope::of_ip`],
    /// and for what is neither an IP address, a name nor a place in memory.
    pub fn of(address: &Multiaddr) -> Option<Self> {
        if address.iter().any(|part| part == Protocol::P2pCircuit) {
            return Some(Self::Public);
        }
        match address.iter().next()? {
            Protocol::Ip4(ip) => of_ip4(ip),
            Protocol::Ip6(ip) => of_ip6(ip),
            Protocol::Memory(_) => Some(Self::Host),
            Protocol::Dns(name)
            | Protocol::Dns4(name)
            | Protocol::Dns6(name)
            | Protocol::Dnsaddr(name) => Some(Self::of_name(&name)),
            _ => None,
        }
    }
}

/// Addresses that one host, or one household, can have as many of as it likes: they share limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AddressGroup {
    /// One IPv4 address, also inside IPv6: mapped, or translated on the way (6to4, NAT64), behind whose prefix others have all of theirs.
    Ip4(Ipv4Addr),
    /// The first 64 bits of an IPv6 address: what a provider gives one customer.
    Ip6([u16; 4]),
    /// All that have no IP address: names, memory, circuits through relays.
    Elsewhere,
}

impl AddressGroup {
    /// The group of a public address; `None` for near ones, behind which may stand a whole test network, a reverse proxy or an
    /// office, and for what has no address.
    pub fn of_public(remote: &Multiaddr) -> Option<Self> {
        match Self::of(remote) {
            Self::Elsewhere => None,
            group => (Scope::of_remote(remote) == Scope::Public).then_some(group),
        }
    }

    /// The group of a remote address.
    pub fn of(remote: &Multiaddr) -> Self {
        match ip_of(remote) {
            Some(IpAddr::V4(ip)) => Self::Ip4(ip),
            Some(IpAddr::V6(ip)) => {
                let [a, b, c, d, ..] = ip.segments();
                Self::Ip6([a, b, c, d])
            }
            None => Self::Elsewhere,
        }
    }
}

/// The IP address of a remote address, of IPv4 also where one of IPv6 carries it; `None` behind a relay.
pub(crate) fn ip_of(remote: &Multiaddr) -> Option<IpAddr> {
    match remote.iter().next()? {
        _ if remote.iter().any(|part| part == Protocol::P2pCircuit) => None,
        Protocol::Ip4(ip) => Some(ip.into()),
        Protocol::Ip6(ip) => Some(carried(ip).map_or(ip.into(), IpAddr::from)),
        _ => None,
    }
}

/// Whether it leads to a peer by a name of its host, which somebody has to look up.
pub(crate) fn begins_with_a_name(address: &Multiaddr) -> bool {
    matches!(
        address.iter().next(),
        Some(Protocol::Dns(_) | Protocol::Dns4(_) | Protocol::Dns6(_) | Protocol::Dnsaddr(_))
    ) && !address.iter().any(|part| part == Protocol::P2pCircuit)
}

/// The longest domain name (RFC 1035).
const MAX_NAME: usize = 253;
/// Top levels of names that are for private networks.
const PRIVATE_NAMES: [&str; 9] = [
    "local",
    "localdomain",
    "internal",
    "intranet",
    "lan",
    "home",
    "corp",
    "test",
    "arpa",
];

fn of_ip4(ip: Ipv4Addr) -> Option<Scope> {
    let shared = |[a, b, ..]: [u8; 4]| a == 100 && (64..128).contains(&b);
    match ip.octets() {
        // "This network", multicast, reserved, broadcast.
        [0 | 224..=255, ..] => None,
        [127, ..] => Some(Scope::Host),
        [169, 254, ..] => Some(Scope::Link),
        _ if ip.is_private() => Some(Scope::Private),
        octets if shared(octets) => Some(Scope::Private),
        // Documentation, protocol assignments, the relays of 6to4, AS112, benchmarks.
        [192, 0, 0 | 2, _]
        | [192, 88, 99, _]
        | [192, 31, 196, _]
        | [192, 52, 193, _]
        | [192, 175, 48, _]
        | [198, 18 | 19, ..]
        | [198, 51, 100, _]
        | [203, 0, 113, _] => None,
        _ => Some(Scope::Public),
    }
}

/// The IPv4 address that one of IPv6 carries, if it stands for it.
fn carried(ip: Ipv6Addr) -> Option<Ipv4Addr> {
    let ip4 = |a: u16, b: u16| {
        let ([a, b], [c, d]) = (a.to_be_bytes(), b.to_be_bytes());
        Ipv4Addr::new(a, b, c, d)
    };
    match ip.segments() {
        // IPv4-mapped: the system dials the IPv4 address.
        [0, 0, 0, 0, 0, 0xffff, a, b] => Some(ip4(a, b)),
        // A translator on the way would reach another's private network.
        [0x64, 0xff9b, 0, 0, 0, 0, a, b] | [0x2002, a, b, ..] => {
            Some(ip4(a, b)).filter(|ip| of_ip4(*ip) == Some(Scope::Public))
        }
        _ => None,
    }
}

fn of_ip6(ip: Ipv6Addr) -> Option<Scope> {
    if let Some(ip) = carried(ip) {
        return of_ip4(ip);
    }
    match ip.segments() {
        [0, 0, 0, 0, 0, 0, 0, 1] => Some(Scope::Host),
        [0x64, 0xff9b, 1, ..] => Some(Scope::Private),
        // What carries an address that is not public.
        [0x2002, ..] => None,
        // Link-local and unique local.
        [0xfe80..=0xfebf, ..] => Some(Scope::Link),
        [0xfc00..=0xfdff, ..] => Some(Scope::Private),
        // Documentation (twice), then protocol assignments: Teredo, benchmarks, ORCHID and the like.
        [0x2001, 0xdb8, ..] | [0x3fff, 0..=0x0fff, ..] | [0x2001, 0..=0x1ff, ..] => None,
        [0x2000..=0x3fff, ..] => Some(Scope::Public),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::test;
    use proptest::prelude::*;

    fn scope(ip: &str) -> Option<Scope> {
        Scope::of_ip(ip.parse().expect("an IP address"))
    }

    #[test]
    fn every_special_range_is_known() {
        let nowhere = [
            "0.0.0.0",
            "0.1.2.3",
            "192.0.0.8",
            "192.0.2.1",
            "192.88.99.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.7",
            "203.0.113.9",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::2",
            "::7f00:1",
            "ff02::1",
            "fec0::1",
            "100::1",
            "2001::1",
            "2001:2::1",
            "2001:db8::1",
            "3fff:fff::1",
            "2002:c0a8:101::1",
            "2002:7f00:1::",
            "64:ff9b::10.0.0.1",
            "64:ff9b::169.254.169.254",
            "::ffff:0.0.0.0",
            "4000::1",
        ];
        for ip in nowhere {
            assert_eq!(scope(ip), None, "{ip}");
        }
        let host = ["127.0.0.1", "127.255.1.2", "::1", "::ffff:127.0.0.1"];
        let link = ["169.254.169.254", "fe80::1", "febf::1"];
        let private = [
            "10.1.2.3",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.0.1",
            "100.64.0.1",
            "100.127.255.255",
            "fc00::1",
            "fd12::1",
            "64:ff9b:1::1",
            "::ffff:192.168.1.1",
        ];
        let public = [
            "1.1.1.1",
            "100.63.255.255",
            "100.128.0.1",
            "172.15.0.1",
            "172.32.0.1",
            "192.0.1.1",
            "198.20.0.1",
            "223.255.255.255",
            "2606:4700::1111",
            "2001:200::1",
            "2002:101:101::1",
            "64:ff9b::1.1.1.1",
            "3fff:1000::1",
        ];
        let rows = [
            (Scope::Host, host.as_slice()),
            (Scope::Link, &link),
            (Scope::Private, &private),
            (Scope::Public, &public),
        ];
        for (expected, ips) in rows {
            for ip in ips {
                assert_eq!(scope(ip), Some(expected), "{ip}");
            }
        }
    }

    #[test]
    fn what_one_host_can_multiply_counts_as_one() {
        let group = |text: &str| AddressGroup::of(&text.parse().expect("an address"));
        let four = AddressGroup::Ip4(Ipv4Addr::new(1, 2, 3, 4));
        assert_eq!(group("/ip4/1.2.3.4/tcp/1"), four);
        assert_eq!(group("/ip4/1.2.3.4/udp/9/quic-v1"), four);
        assert_eq!(group("/ip6/::ffff:1.2.3.4/tcp/1"), four);
        assert_eq!(group("/ip6/64:ff9b::1.2.3.4/tcp/1"), four);
        assert_eq!(group("/ip6/2002:102:304:5::6/tcp/1"), four);
        let near = AddressGroup::Ip4(Ipv4Addr::new(10, 0, 0, 1));
        assert_ne!(group("/ip6/2002:a00:1::/udp/1/quic-v1"), near);
        assert_ne!(group("/ip4/1.2.3.5/tcp/1"), four);
        assert_eq!(
            group("/ip6/2001:db8:1:2::3/tcp/1"),
            group("/ip6/2001:db8:1:2:9::/tcp/2")
        );
        assert_ne!(
            group("/ip6/2001:db8:1:2::3/tcp/1"),
            group("/ip6/2001:db8:1:3::3/tcp/1")
        );
        assert_eq!(group("/memory/1"), AddressGroup::Elsewhere);
    }

    proptest! {
        /// However an IPv4 address is wrapped, it reaches no nearer than the address itself says.
        #[test]
        fn a_wrapped_address_is_judged_by_what_it_carries(bits: u32) {
            let ip = Ipv4Addr::from(bits);
            let [a, b, c, d] = ip.octets();
            let (high, low) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
            let plain = of_ip4(ip);
            prop_assert_eq!(of_ip6(ip.to_ipv6_mapped()), plain);
            let public = plain.filter(|scope| *scope == Scope::Public);
            prop_assert_eq!(of_ip6(Ipv6Addr::new(0x2002, high, low, 0, 0, 0, 0, 1)), public);
            prop_assert_eq!(of_ip6(Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, high, low)), public);
        }
    }
}
