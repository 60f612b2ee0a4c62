//! Who peers are and where they are found.
//!
//! Peers become known in four ways: bootstrap addresses from the config, mDNS on the local network, the DHT, and
//! peer exchange (a peer names others it is connected to). What others claim is only a hint: an
//! address is believed once a connection to it has proved the peer's identity.

use std::{fmt, str::FromStr, time::Duration};

use libp2p::{Multiaddr, PeerId, multiaddr::Protocol};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::platform::SystemTime;

/// A peer: its identity, where it is, and what is known of it.
///
/// Reads from a multiaddr that ends in `/p2p/ID`, and shows as its first one.
#[derive(Clone, Debug, PartialEq)]
pub struct PeerInfo {
    /// The peer's identity.
    pub peer_id: PeerId,
    /// Where it can be reached.
    pub addresses: Vec<Multiaddr>,
    /// Its software, in its own words; empty until identified.
    pub agent: String,
    /// Whether it speaks Selkie's own protocols; false for a plain libp2p peer.
    pub selkie: bool,
    /// Who dialled; `None` while not connected.
    pub direction: Option<Direction>,
    /// The last measured round trip; `None` before the first ping.
    pub round_trip: Option<Duration>,
    /// How long it took to authenticate its connection, from the dial or the knock.
    pub connected_in: Option<Duration>,
    /// Since when it is connected.
    pub connected_at: Option<SystemTime>,
    /// Its reputation; 0 is neutral.
    pub reputation: f64,
}

/// Who dialled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// The peer dialled us.
    Inbound,
    /// We dialled the peer.
    Outbound,
}

/// A connection to a peer. A peer may have two for a while.
#[derive(Clone, Debug, PartialEq)]
pub struct ConnectionInfo {
    /// Whose it is.
    pub peer_id: PeerId,
    /// Its other end: what was dialled, or where it came from.
    pub address: Multiaddr,
    /// Who dialled.
    pub direction: Direction,
    /// Since when it is there.
    pub connected_at: SystemTime,
    /// How long it took to authenticate, from the dial or the knock.
    pub connected_in: Duration,
}

impl ConnectionInfo {
    /// The name of its transport, as that of [`PeerInfo::transport`].
    pub fn transport(&self) -> &'static str {
        transport_name(&self.address)
    }
}

impl PeerInfo {
    /// A peer of which nothing but its identity is known.
    pub fn new(peer_id: PeerId) -> Self {
        Self {
            peer_id,
            addresses: Vec::new(),
            agent: String::new(),
            selkie: false,
            direction: None,
            round_trip: None,
            connected_in: None,
            connected_at: None,
            reputation: 0.0,
        }
    }

    /// Its addresses, each with its identity at the end.
    pub(crate) fn dial_addresses(&self) -> impl Iterator<Item = Multiaddr> + '_ {
        self.addresses
            .iter()
            .map(|address| match address.iter().last() {
                Some(Protocol::P2p(_)) => address.clone(),
                _ => address.clone().with(Protocol::P2p(self.peer_id)),
            })
    }

    /// The transport of the first address: `tcp`, `quic`, `ws`, `webrtc-direct`, `webtransport`, `memory`, or `circuit`.
    pub fn transport(&self) -> &'static str {
        self.addresses.first().map_or("unknown", transport_name)
    }
}

/// The name of the transport that an address uses.
pub(crate) fn transport_name(address: &Multiaddr) -> &'static str {
    let mut name = "unknown";
    for protocol in address {
        name = match protocol {
            Protocol::P2pCircuit => return "circuit",
            Protocol::Tcp(_) => "tcp",
            Protocol::QuicV1 | Protocol::Quic => "quic",
            Protocol::Ws(_) => "ws",
            Protocol::Wss(_) => "wss",
            Protocol::WebRTCDirect => "webrtc-direct",
            Protocol::WebTransport => "webtransport",
            Protocol::Memory(_) => "memory",
            _ => name,
        };
    }
    name
}

/// A string is no peer's address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "\"{text}\" is no peer address: {problem}; write it as /ip4/203.0.113.1/tcp/30303/p2p/12D3KooW…"
)]
pub struct PeerInfoError {
    /// What was given.
    pub text: String,
    /// What is wrong with it.
    pub problem: String,
}

impl FromStr for PeerInfo {
    type Err = PeerInfoError;

    fn from_str(text: &str) -> Result<Self, PeerInfoError> {
        let wrong = |problem: String| PeerInfoError {
            text: text.to_owned(),
            problem,
        };
        let address: Multiaddr = text
            .parse()
            .map_err(|e: libp2p::multiaddr::Error| wrong(e.to_string()))?;
        match address.iter().last() {
            Some(Protocol::P2p(peer_id)) => Ok(Self {
                addresses: vec![address],
                ..Self::new(peer_id)
            }),
            _ => Err(wrong(
                "the peer id at its end (/p2p/…) is missing".to_owned(),
            )),
        }
    }
}

impl fmt::Display for PeerInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.dial_addresses().next() {
            None => write!(f, "/p2p/{}", self.peer_id),
            Some(address) => address.fmt(f),
        }
    }
}

impl Serialize for PeerInfo {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for PeerInfo {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::test;

    #[test]
    fn a_peer_reads_as_it_shows() {
        let text = format!("/ip4/127.0.0.1/tcp/1/ws/p2p/{}", PeerId::random());
        let peer: PeerInfo = text.parse().expect("a peer");
        assert_eq!((peer.to_string(), peer.transport()), (text, "ws"));
        let relayed = format!("/ip4/127.0.0.1/tcp/1/p2p/{}/p2p-circuit", PeerId::random());
        let peer = PeerInfo {
            addresses: vec![relayed.parse().expect("an address")],
            ..peer
        };
        assert_eq!(peer.to_string(), format!("{relayed}/p2p/{}", peer.peer_id));
    }

    #[test]
    fn an_error_says_what_is_missing() {
        let error = "/ip4/127.0.0.1/tcp/1"
            .parse::<PeerInfo>()
            .expect_err("no id");
        assert!(error.to_string().contains("/p2p/…) is missing"), "{error}");
        assert!("nonsense".parse::<PeerInfo>().is_err());
    }
}
