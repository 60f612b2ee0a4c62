//! Addresses, peers and times.

use std::time::Duration;

use libp2p::Multiaddr;
use serde::{Deserialize, Serialize, Serializer};

use crate::peers::PeerInfo;

/// Addresses, peers and times.
///
/// A node for development:
/// ```
/// # use selkie::NetworkConfig; use std::time::Duration;
/// let config =
/// NetworkConfig {
///     listen_addresses: vec!["/ip4/127.0.0.1/tcp/30303".parse().unwrap()],
///     external_addresses: vec![],
///     bootstrap_peers: vec![],
///     max_peers: 50,
///     connection_timeout: Duration::from_secs(10),
///     keepalive_interval: Duration::from_secs(60),
/// };
/// assert!(selkie::Config::from(config).check().is_ok());
/// ```
///
/// A node in production (`/quic`, the retired draft, is taken as `/quic-v1`):
/// ```
/// # use selkie::{NetworkConfig, PeerInfo}; use std::time::Duration;
/// # fn load_bootstrap_peers() -> Vec<PeerInfo> {
/// #     vec!["/ip4/203.0.113.2/tcp/30303/p2p/12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN".parse().unwrap()]
/// # }
/// let config =
/// NetworkConfig {
///     listen_addresses: vec![
///         "/ip4/0.0.0.0/tcp/30303".parse().unwrap(),
///         "/ip4/0.0.0.0/udp/30303/quic".parse().unwrap(),
///     ],
///     external_addresses: vec!["/ip4/203.0.113.1/tcp/30303".parse().unwrap()],
///     bootstrap_peers: load_bootstrap_peers(),
///     max_peers: 1000,
///     connection_timeout: Duration::from_secs(30),
///     keepalive_interval: Duration::from_secs(300),
/// };
/// assert!(selkie::Config::from(config).check().is_ok());
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NetworkConfig {
    /// Where to listen. **Default:** nowhere (a browser can't; a native node then only dials).
    pub listen_addresses: Vec<Multiaddr>,
    /// Addresses at which others reach this node, told to peers. **Default:** none.
    pub external_addresses: Vec<Multiaddr>,
    /// Peers to connect to first; written out with an entry for each address. **Default:** none.
    #[serde(serialize_with = "each_address")]
    pub bootstrap_peers: Vec<PeerInfo>,
    /// The most distinct peers at once, at most half of them plain libp2p peers; a further one takes the place of the least useful of those that came by themselves
    /// (`security.connection_limits.low_watermark`), or is told that the node is full.
    /// **Default:** 50.
    pub max_peers: usize,
    /// How long a dial, an upgrade, a hello or the answer to a ping may take. **Default:** 10 s.
    #[serde(with = "humantime_serde")]
    pub connection_timeout: Duration,
    /// How long a peer may be silent, on top of `connection_timeout`: it is pinged four times as often, and let go where none
    /// is answered. **Default:** 60 s.
    #[serde(with = "humantime_serde")]
    pub keepalive_interval: Duration,
}

impl Default for NetworkConfig {
    fn default() -> Self {
        Self {
            listen_addresses: Vec::new(),
            external_addresses: Vec::new(),
            bootstrap_peers: Vec::new(),
            max_peers: 50,
            connection_timeout: Duration::from_secs(10),
            keepalive_interval: Duration::from_secs(60),
        }
    }
}

/// A peer reads from one address, and those with one identity are dialled as one.
fn each_address<S: Serializer>(peers: &[PeerInfo], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(peers.iter().flat_map(PeerInfo::dial_addresses))
}

#[cfg(test)]
mod tests {
    use libp2p::PeerId;

    use super::*;
    use crate::platform::test;

    #[test]
    fn every_address_of_a_bootstrap_peer_is_written_out() {
        let addresses = ["/ip4/203.0.113.2/tcp/1", "/ip4/203.0.113.2/udp/1/quic-v1"];
        let peer = PeerInfo {
            addresses: addresses
                .iter()
                .map(|text| text.parse().expect("an address"))
                .collect(),
            ..PeerInfo::new(PeerId::random())
        };
        let config = NetworkConfig {
            bootstrap_peers: vec![peer.clone()],
            ..NetworkConfig::default()
        };
        let text = serde_json::to_string(&config).expect("it is data");
        let read: NetworkConfig = serde_json::from_str(&text).expect("it reads");
        let all = |peers: &[PeerInfo]| -> Vec<_> {
            peers.iter().flat_map(PeerInfo::dial_addresses).collect()
        };
        assert_eq!(all(&read.bootstrap_peers), all(&[peer]));
    }
}
