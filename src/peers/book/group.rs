//! Which peers one attacker can have many of as cheaply as one: they share a network.
//!
//! Identities are free, and so are the addresses of a host; what costs is to have hosts in many networks. So all that counts networks (the book, the diversity
//! of those that are dialled, the alarm, who makes room on a full node) counts by IPv4 /16 and IPv6
//! /32, as Bitcoin Core does: about what a provider gets at once. Where the operator gives an [`AsMap`], it counts by whose a network is, since a large provider
//! has hundreds; what the map does not know counts by its prefix still. Two kinds have a group of their own, since nobody can
//! tell whose they are: those that are reached through relays, and those that offer nothing but addresses with a certificate's
//! hash, as what runs for an hour in somebody's browser or behind a router. Names, which only a tab takes, count by their last two labels, which is
//! what is paid for. Near addresses each count for themselves: behind a private one may stand a whole test network.

use std::{
    fmt,
    net::IpAddr,
    sync::{Arc, OnceLock},
};

use libp2p::{Multiaddr, multiaddr::Protocol};
use sha2::{Digest as _, Sha256};

use crate::peers::{AsMap, Scope, ip_of};

/// See the module's documentation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NetworkGroup {
    /// A /16 of IPv4, also inside IPv6.
    Ip4([u8; 2]),
    /// A /32 of IPv6.
    Ip6([u16; 2]),
    /// All of one autonomous system, by its number.
    System(u32),
    /// A domain, by the hash of its last two labels.
    Named([u8; 4]),
    /// One place on this host or in its network, by its hash.
    Near([u8; 4]),
    /// Through relays, or by nothing but certificates' hashes.
    Fleeting,
}

/// How a node tells networks apart: by the map that it was given, if any. Clones are one: all that counts networks in a node holds the same.
#[derive(Clone, Debug, Default)]
pub struct Grouping(Arc<OnceLock<AsMap>>);

impl Grouping {
    /// Counts by a map from now on.
    ///
    /// # Errors
    /// The map, where there is one already.
    pub fn give(&self, map: AsMap) -> Result<(), AsMap> {
        self.0.set(map)
    }

    /// The group of an address.
    pub fn of(&self, address: &Multiaddr) -> NetworkGroup {
        self.with(address, 2)
    }

    /// The group of who is connected from an address and tells of others: a near host is one, whatever its ports.
    pub fn of_teller(&self, remote: &Multiaddr) -> NetworkGroup {
        self.with(remote, 1)
    }

    /// The group by which a peer that is said to be at these addresses is placed in the book. No more than a word: where it is
    /// reached may be elsewhere.
    pub fn of_peer<'a>(&self, addresses: impl IntoIterator<Item = &'a Multiaddr>) -> NetworkGroup {
        let hashed = |part| matches!(part, Protocol::Certhash(_));
        let mut stable = addresses
            .into_iter()
            .filter(|address| !address.iter().any(hashed))
            .map(|address| self.of(address));
        stable
            .find(|group| *group != NetworkGroup::Fleeting)
            .unwrap_or(NetworkGroup::Fleeting)
    }

    /// What tells this way of counting from others; empty without a map.
    pub(super) fn mark(&self) -> Vec<u8> {
        let map = self.0.get();
        map.map_or_else(Vec::new, |map| map.mark().to_vec())
    }

    /// `parts`: how many of a near address's parts tell one from another.
    fn with(&self, address: &Multiaddr, parts: usize) -> NetworkGroup {
        if address.iter().any(|part| part == Protocol::P2pCircuit) {
            return NetworkGroup::Fleeting;
        }
        let public = Scope::of(address) == Some(Scope::Public);
        match (ip_of(address), address.iter().next()) {
            (Some(ip), _) if public => self.of_ip(ip),
            (_, Some(Protocol::Dns(name) | Protocol::Dns4(name) | Protocol::Dns6(name)))
                if public =>
            {
                let name = name.to_ascii_lowercase();
                let from = name.rmatch_indices('.').nth(1).map_or(0, |(at, _)| at + 1);
                NetworkGroup::Named(short(name.get(from..).unwrap_or_default().as_bytes()))
            }
            // What comes by a circuit shows no more than its name.
            (_, Some(Protocol::P2p(_)) | None) => NetworkGroup::Fleeting,
            _ => {
                let place: Multiaddr = address.iter().take(parts).collect();
                NetworkGroup::Near(short(place.as_ref()))
            }
        }
    }

    fn of_ip(&self, ip: IpAddr) -> NetworkGroup {
        if let Some(number) = self.0.get().and_then(|map| map.system_of(ip)) {
            return NetworkGroup::System(number);
        }
        match ip {
            IpAddr::V4(ip) => {
                let [a, b, ..] = ip.octets();
                NetworkGroup::Ip4([a, b])
            }
            IpAddr::V6(ip) => {
                let [a, b, ..] = ip.segments();
                NetworkGroup::Ip6([a, b])
            }
        }
    }
}

impl NetworkGroup {
    /// Whether it is one of the internet's, which is more than a near host or a peer behind a relay shows.
    pub fn is_far(self) -> bool {
        !matches!(self, Self::Near(_) | Self::Fleeting)
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
            Self::System(number) => of(5, number.to_be_bytes()),
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
            5 => Some(Self::System(u32::from_be_bytes([a, b, c, d]))),
            _ => None,
        }
    }
}

impl fmt::Display for NetworkGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip4([a, b]) => write!(f, "{a}.{b}.0.0/16"),
            Self::Ip6([a, b]) => write!(f, "{a:x}:{b:x}::/32"),
            Self::System(number) => write!(f, "AS{number}"),
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
    use crate::{peers::as_map::tests::map, platform::test};
    use libp2p::PeerId;

    fn group(text: &str) -> NetworkGroup {
        Grouping::default().of(&text.parse().expect("an address"))
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
        assert_eq!(Grouping::default().of_peer([&tab]), NetworkGroup::Fleeting);
        let tcp = "/ip4/5.6.7.8/tcp/1".parse().expect("an address");
        assert_eq!(
            Grouping::default().of_peer([&tab, &tcp]),
            NetworkGroup::Ip4([5, 6])
        );
        assert_ne!(group("/ip4/10.0.0.1/tcp/1"), group("/ip4/10.0.0.1/tcp/2"));
        assert_eq!(
            group("/ip4/10.0.0.1/tcp/1"),
            group("/ip4/10.0.0.1/tcp/1/ws")
        );
        let plain = Grouping::default();
        let teller = |text: &str| plain.of_teller(&text.parse().expect("an address"));
        assert_eq!(teller("/ip4/10.0.0.1/tcp/1"), teller("/ip4/10.0.0.1/tcp/2"));
    }

    #[test]
    fn with_a_map_a_network_is_who_has_it() {
        let (grouping, held) = (Grouping::default(), Grouping::default());
        let (clone, map) = (
            grouping.clone(),
            map(&[("1.2.0.0/15", 7), ("2606:4700::/33", 7)]),
        );
        assert_eq!(
            (grouping.mark().len(), grouping.give(map.clone())),
            (0, Ok(()))
        );
        assert_eq!(grouping.give(map.clone()), Err(map.clone()), "there is one");
        held.give(map).expect("the first");
        assert_eq!(held.mark(), grouping.mark());
        assert_eq!(clone.mark(), grouping.mark());
        let of = |text: &str| clone.of(&text.parse().expect("an address"));
        let seven = NetworkGroup::System(7);
        for text in [
            "/ip4/1.2.3.4/tcp/1",
            "/ip4/1.3.3.4/udp/1/quic-v1",
            "/ip6/::ffff:1.2.3.4/tcp/1",
            "/ip6/2002:102:304::1/tcp/1",
            "/ip6/2606:4700:1::1/tcp/1",
        ] {
            assert_eq!(of(text), seven, "{text}");
        }
        assert_eq!(seven.to_string(), "AS7");
        assert!(seven.is_far());
        // What it does not know, and what is nowhere on the internet, counts as without it.
        for text in [
            "/ip4/1.4.3.4/tcp/1",
            "/ip6/2606:4700:8000::1/tcp/1",
            "/ip4/10.0.0.1/tcp/1",
            "/dns4/a.example/tcp/1/wss",
            "/memory/7",
            "/p2p-circuit",
        ] {
            assert_eq!(of(text), group(text), "{text}");
        }
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
        let system = NetworkGroup::System(70_000);
        assert_eq!(NetworkGroup::from_bytes(system.bytes()), Some(system));
        assert_eq!(NetworkGroup::from_bytes([6; 5]), None);
    }
}
