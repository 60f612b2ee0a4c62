//! The node's configuration: one shape for Rust, TOML and JavaScript objects.
//!
//! [`NetworkConfig`] alone makes a node; [`Config`] adds the chain, the protocols and security, each with a
//! default, and each in a file of its own. [`Config::check`] finds what is wrong before anything starts.

mod addresses;
mod check;
pub(crate) mod fit;
mod network;
mod protocol;
mod ranges;
mod security;

use libp2p::{Multiaddr, StreamProtocol, multiaddr::Protocol};
use serde::{Deserialize, Serialize};

use crate::{error::NetworkError, traffic::Limits};

pub use self::{
    network::NetworkConfig,
    protocol::{
        GossipsubConfig, IdentifyConfig, KademliaConfig, ProtocolConfig, RequestResponseConfig,
        Share, ValidationConfig,
    },
    ranges::{ConfigField, Quantity},
    security::{
        BlacklistConfig, ConnectionLimitsConfig, NoiseConfig, PeerScoringConfig, RateLimitConfig,
        SecurityConfig, TlsConfig,
    },
};

/// Everything a node is told. Each part has defaults; `Config::from(NetworkConfig)` fills the rest.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Addresses, peers and times.
    pub network: NetworkConfig,
    /// Which chain this is.
    pub chain: ChainConfig,
    /// How the protocols behave.
    pub protocol: ProtocolConfig,
    /// What peers may do.
    pub security: SecurityConfig,
}

impl From<NetworkConfig> for Config {
    fn from(network: NetworkConfig) -> Self {
        Self {
            network,
            ..Self::default()
        }
    }
}

/// Which chain this is: compared with each peer at first contact.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ChainConfig {
    /// The network's name: 1 to 64 of `a-z 0-9 . _ -`. **Default:** `selkie-dev`.
    pub network_id: String,
    /// Hash of the chain's first block, in hex, at most 64 bytes. **Default:** empty.
    #[serde(with = "hex::serde")]
    pub genesis: Vec<u8>,
}

impl Default for ChainConfig {
    fn default() -> Self {
        Self {
            network_id: "selkie-dev".to_owned(),
            genesis: Vec::new(),
        }
    }
}

impl Config {
    /// A protocol's name on this network: `/selkie/<network-id>/<rest>`.
    pub(crate) fn protocol_name(&self, rest: &str) -> Result<StreamProtocol, NetworkError> {
        let name = format!("/selkie/{}/{rest}", self.chain.network_id);
        StreamProtocol::try_from_owned(name).map_err(|error| NetworkError::Transport {
            transport: "protocols",
            reason: error.to_string(),
        })
    }

    /// What each peer may send, and is sent. Of the largest message two may come at once at least.
    pub(crate) fn limits(&self) -> Limits {
        let mut limits = self.security.rate_limits.limits();
        let largest = self.protocol.request_response_config.max_message_size;
        if let Some(bytes) = &mut limits.message.bytes {
            bytes.burst = bytes.burst.max(2 * largest as u64);
        }
        limits
    }

    /// Whether this node answers other nodes' lookups in the DHT.
    pub(crate) fn serves_dht(&self) -> bool {
        self.protocol
            .kademlia_config
            .server
            .unwrap_or(!self.network.listen_addresses.is_empty())
    }

    /// Whether this node looks for peers on the local network: never from loopback only, where
    /// nobody could answer.
    pub(crate) fn uses_mdns(&self) -> bool {
        let loopback = |p: Protocol<'_>| match p {
            Protocol::Ip4(ip) => ip.is_loopback(),
            Protocol::Ip6(ip) => ip.is_loopback(),
            Protocol::Memory(_) => true,
            _ => false,
        };
        self.protocol.kademlia_config.mdns
            && self
                .network
                .listen_addresses
                .iter()
                .any(|address| !address.iter().any(loopback))
    }
}

/// The address in today's spelling: `/quic` (draft 29, which nothing speaks any more) is `/quic-v1`.
pub(crate) fn modern(address: &Multiaddr) -> Multiaddr {
    address
        .iter()
        .map(|p| {
            if p == Protocol::Quic {
                Protocol::QuicV1
            } else {
                p
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::test;

    #[test]
    fn the_retired_quic_is_taken_as_v1() {
        let old: Multiaddr = "/ip4/1.2.3.4/udp/5/quic".parse().expect("an address");
        assert_eq!(modern(&old).to_string(), "/ip4/1.2.3.4/udp/5/quic-v1");
    }

    #[test]
    fn loopback_alone_needs_no_mdns() {
        let mut config = Config::default();
        config.network.listen_addresses = vec!["/ip4/127.0.0.1/tcp/0".parse().expect("an address")];
        assert!(!config.uses_mdns());
        config
            .network
            .listen_addresses
            .push("/ip4/0.0.0.0/tcp/0".parse().expect("an address"));
        assert!(config.uses_mdns());
    }
}
