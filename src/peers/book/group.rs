//! Which peers one attacker can have many of as cheaply as one: they share a network.
//!
//! Identities are free, and so are the addresses of a host; what costs is to have hosts in many networks. So the address book counts by IPv4 /16 and IPv6
//! /32, as Bitcoin Core does: about what a provider gets at once. Two kinds have a group of their own, since nobody can
//! tell whose they are: those that are reached through relays, and those that offer nothing but addresses with a certificate's
//! hash, as what runs for an hour in somebody's browser or behind a router. Names, which only a tab takes, count by their last two labels, which is
//! what is paid for. Near addresses each count for themselves: behind a private one may stand a whole test network.

use std::fmt;

use libp2p::{Multiaddr, multiaddr::Protocol};
use sha2::{Digest as _, Sha256};

use crate::peers::{AddressGroup, Scope};

/// See the module's documentation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NetworkGroup {
    /// A /16 of IPv4, also inside IPv6.
    Ip4([u8; 2]),
    /// A /32 of IPv6.
    Ip6([u16; 2]),
    /// A domain, by the hash of its last two labels.
    Named([u8; 4]),
    /// One place on this host or in its network, by its hash.
    Near([u8; 4]),
    /// Through relays, or by nothing but certificates' hashes.
    Fleeting,
}

impl NetworkGroup {
    /// The group of an address.
    pub fn of(address: &Multiaddr) -> Self {
        Self::with(address, 2)
    }

    /// The group of who is connected from an address and tells of others: a near host is one, whatever its ports.
    pub fn of_teller(remote: &Multiaddr) -> Self {
        Self::with(remote, 1)
    }

    /// The group by which a peer that is said to be at these addresses is placed in the book. No more than a word: where it is
    /// reached may be elsewhere.
    pub fn of_peer<'a>(addresses: impl IntoIterator<Item = &'a Multiaddr>) -> Self {
        let hashed = |part| matches!(part, Protocol::Certhash(_));
        let mut stable = addresses
            .into_iter()
            .filter(|address| !address.iter().any(hashed))
            .map(Self::of);
        stable
            .find(|group| *group != Self::Fleeting)
            .unwrap_or(Self::Fleeting)
    }

    /// Whether it is one of the internet's, which is more than a near host or a peer behind a relay shows.
    pub fn is_far(self) -> bool {
        !matches!(self, Self::Near(_) | Self::Fleeting)
    }

    /// `parts`: how many of a near address's parts tell one from another.
    fn with(address: &Multiaddr, parts: usize) -> Self {
        if address.iter().any(|part| part == Protocol::P2pCircuit) {
            return Self::Fleeting;
        }
        let public = Scope::of(address) == Some(Scope::Public);
        match (AddressGroup::of(address), address.iter().next()) {
            (AddressGroup::Ip4(ip), _) if public => {
                let [a, b, ..] = ip.octets();
                Self::Ip4([a, b])
            }
            (AddressGroup::Ip6([a, b, ..]), _) if public => Self::Ip6([a, b]),
            (_, Some(Protocol::Dns(name) | Protocol::Dns4(name) | Protocol::Dns6(name)))
                if public =>
            {
                let name = name.to_ascii_lowercase();
                let from = name.rmatch_indices('.').nth(1).map_or(0, |(at, _)| at + 1);
                Self::Named(short(name.get(from..).unwrap_or_default().as_bytes()))
            }
            // What comes by a circuit shows no more than its name.
            (_, Some(Protocol::P2p(_)) | None) => Self::Fleeting,
            _ => {
                let place: Multiaddr = address.iter().take(parts).collect();
                Self::Near(short(place.as_ref()))
            }
        }
    }

    /// As bytes, for a hash.
    pub(super) fn bytes(self) -> [u8; 5] {
        let of = |kind, [a, b, c, d]: [u8; 4]| [kind, a, b, c, d];
        match self {
            Self::Ip4([a, b]) => of(0, [a, b, 0, 0]),
            Self::Ip6([a, b]) => {
                let ([a, b], [c, d]) = (a.to_be_bytes(), b.to_be_bytes());
                of(1, [a, b, c, d])
            }
            Self::Named(hash) => of(2, hash),
            Self::Near(hash) => of(3, hash),
            Self::Fleeting => of(4, [0; 4]),
        }
    }

    /// What [`Self::bytes`] made.
    pub(super) fn from_bytes([kind, a, b, c, d]: [u8; 5]) -> Option<Self> {
        match kind {
            0 => Some(Self::Ip4([a, b])),
            1 => Some(Self::Ip6([
                u16::from_be_bytes([a, b]),
                u16::from_be_bytes([c, d]),
            ])),
            2 => Some(Self::Named([a, b, c, d])),
            3 => Some(Self::Near([a, b, c, d])),
            4 => Some(Self::Fleeting),
            _ => None,
        }
    }
}

impl fmt::Display for NetworkGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip4([a, b]) => write!(f, "{a}.{b}.0.0/16"),
            Self::Ip6([a, b]) => write!(f, "{a:x}:{b:x}::/32"),
            Self::Named(hash) => write!(f, "name {}", hex::encode(hash)),
            Self::Near(hash) => write!(f, "near {}", hex::encode(hash)),
            Self::Fleeting => f.write_str("fleeting"),
        }
    }
}

/// The first bytes of a hash that is the same everywhere.
fn short(bytes: &[u8]) -> [u8; 4] {
    let digest = Sha256::digest(bytes);
    let mut first = [0; 4];
    first
        .iter_mut()
        .zip(digest)
        .for_each(|(to, from)| *to = from);
    first
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::test;
    use libp2p::PeerId;

    fn group(text: &str) -> NetworkGroup {
        NetworkGroup::of(&text.parse().expect("an address"))
    }

    #[test]
    fn what_one_provider_can_multiply_is_one_group() {
        let four = NetworkGroup::Ip4([1, 2]);
        for text in [
            "/ip4/1.2.3.4/tcp/1",
            "/ip4/1.2.200.4/udp/1/quic-v1",
            "/ip6/::ffff:1.2.3.4/tcp/1",
            "/ip6/2002:102:304::1/tcp/1",
        ] {
            assert_eq!(group(text), four, "{text}");
        }
        assert_ne!(group("/ip4/1.3.3.4/tcp/1"), four);
        assert_eq!(
            group("/ip6/2606:4700:1::1/tcp/1"),
            group("/ip6/2606:4700:ffff::/tcp/2")
        );
        assert_ne!(
            group("/ip6/2606:4700::1/tcp/1"),
            group("/ip6/2606:4701::1/tcp/1")
        );
        assert_eq!(
            group("/dns4/a.example.org/tcp/443/wss"),
            group("/dns/B.c.Example.ORG/tcp/1/wss")
        );
        assert_ne!(
            group("/dns4/example.org/tcp/443/wss"),
            group("/dns4/example.com/tcp/443/wss")
        );
    }

    #[test]
    fn who_cannot_be_told_apart_is_one_group_and_the_near_are_many() {
        let relay = PeerId::random();
        let circuit = format!("/ip4/1.2.3.4/tcp/1/p2p/{relay}/p2p-circuit");
        for text in [circuit, format!("/p2p/{relay}")] {
            assert_eq!(group(&text), NetworkGroup::Fleeting, "{text}");
        }
        let hash = "uEiDDq4_xNyDorZBH3TlGazyJdOWSwvo4PUo5YHFMrvDE8g";
        let tab: Multiaddr = format!("/ip4/1.2.3.4/udp/1/webrtc-direct/certhash/{hash}")
            .parse()
            .expect("an address");
        assert_eq!(NetworkGroup::of_peer([&tab]), NetworkGroup::Fleeting);
        let tcp = "/ip4/5.6.7.8/tcp/1".parse().expect("an address");
        assert_eq!(
            NetworkGroup::of_peer([&tab, &tcp]),
            NetworkGroup::Ip4([5, 6])
        );
        assert_ne!(group("/ip4/10.0.0.1/tcp/1"), group("/ip4/10.0.0.1/tcp/2"));
        assert_eq!(
            group("/ip4/10.0.0.1/tcp/1"),
            group("/ip4/10.0.0.1/tcp/1/ws")
        );
        let teller = |text: &str| NetworkGroup::of_teller(&text.parse().expect("an address"));
        assert_eq!(teller("/ip4/10.0.0.1/tcp/1"), teller("/ip4/10.0.0.1/tcp/2"));
    }

    #[test]
    fn a_group_shows_as_networks_are_written() {
        assert_eq!(group("/ip4/1.2.3.4/tcp/1").to_string(), "1.2.0.0/16");
        let six = group("/ip6/2606:4700::1/tcp/1");
        assert_eq!(six.to_string(), "2606:4700::/32");
    }

    #[test]
    fn a_group_is_what_its_bytes_say() {
        for text in [
            "/ip4/1.2.3.4/tcp/1",
            "/ip6/2606:4700::1/tcp/1",
            "/dns4/a.example/tcp/1/wss",
            "/memory/7",
            "/p2p-circuit",
        ] {
            let group = group(text);
            assert_eq!(NetworkGroup::from_bytes(group.bytes()), Some(group));
        }
        assert_eq!(NetworkGroup::from_bytes([5; 5]), None);
    }
}
