//! The node's configuration: one shape for Rust, TOML and JavaScript objects.
//!
//! [`NetworkConfig`] alone makes a node; [`Config`] adds the chain, the protocols and security, each with a
//! default. [`Config::check`] finds what is wrong before anything starts.

use std::time::Duration;

use libp2p::{Multiaddr, multiaddr::Protocol};
use serde::{Deserialize, Serialize};

use super::{ConfigError, PeerInfo};

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

/// Addresses, peers and times: SPEC's "Basic Network Config".
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
    /// Peers to connect to first. **Default:** none.
    pub bootstrap_peers: Vec<PeerInfo>,
    /// The most distinct peers at once; a further one is refused. **Default:** 50.
    pub max_peers: usize,
    /// How long a dial, an upgrade, a hello or the answer to a ping may take. **Default:** 10 s.
    #[serde(with = "humantime_serde")]
    pub connection_timeout: Duration,
    /// How often an idle connection is pinged; one that does not answer is closed. **Default:** 60 s.
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

/// How the protocols behave: SPEC's "Protocol Configuration".
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ProtocolConfig {
    /// Gossip of blocks, transactions and votes.
    pub gossipsub_config: GossipsubConfig,
    /// The distributed hash table that finds peers.
    pub kademlia_config: KademliaConfig,
    /// What peers tell each other about themselves.
    pub identify_config: IdentifyConfig,
    /// Messages to one peer.
    pub request_response_config: RequestResponseConfig,
    /// Checking of received items.
    pub validation: ValidationConfig,
}

/// Gossipsub v1.1/v1.2 (libp2p/specs): the mesh and its limits.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GossipsubConfig {
    /// Peers in a topic's mesh (D). **Default:** 6.
    pub mesh_n: usize,
    /// Fewer, and more are sought (D_lo). **Default:** 5.
    pub mesh_n_low: usize,
    /// More, and some are let go (D_hi). **Default:** 12.
    pub mesh_n_high: usize,
    /// Time between two heartbeats. **Default:** 700 ms.
    #[serde(with = "humantime_serde")]
    pub heartbeat_interval: Duration,
    /// The largest item, in bytes. **Default:** 4 MiB, so that every Bitcoin block fits.
    pub max_transmit_size: usize,
    /// How long an item's id is remembered, against duplicates. **Default:** 120 s.
    #[serde(with = "humantime_serde")]
    pub duplicate_cache_time: Duration,
    /// Messages queued per peer; further ones are dropped. **Default:** 5,000.
    pub queue_length: usize,
}

impl Default for GossipsubConfig {
    fn default() -> Self {
        Self {
            mesh_n: 6,
            mesh_n_low: 5,
            mesh_n_high: 12,
            heartbeat_interval: Duration::from_millis(700),
            max_transmit_size: 4 << 20,
            duplicate_cache_time: Duration::from_secs(120),
            queue_length: 5_000,
        }
    }
}

/// Kademlia (Maymounkov and Mazieres, 2002; libp2p/specs kad-dht).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct KademliaConfig {
    /// Answer other nodes' lookups. `None`: yes if this node listens. **Default:** `None`.
    pub server: Option<bool>,
    /// How long one lookup may take. **Default:** 30 s.
    #[serde(with = "humantime_serde")]
    pub query_timeout: Duration,
    /// Records kept for others. **Default:** 1,024.
    pub max_records: usize,
    /// Local discovery by mDNS, where a listen address is not loopback. **Default:** true.
    pub mdns: bool,
}

impl Default for KademliaConfig {
    fn default() -> Self {
        Self {
            server: None,
            query_timeout: Duration::from_secs(30),
            max_records: 1024,
            mdns: true,
        }
    }
}

/// Identify (libp2p/specs): what peers tell each other about themselves.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct IdentifyConfig {
    /// Name and version of this software as peers see it, at most 64 characters. **Default:** `selkie/VERSION`.
    pub agent_version: String,
    /// How often it is repeated. **Default:** 5 min.
    #[serde(with = "humantime_serde")]
    pub interval: Duration,
}

impl Default for IdentifyConfig {
    fn default() -> Self {
        Self {
            agent_version: concat!("selkie/", env!("CARGO_PKG_VERSION")).to_owned(),
            interval: Duration::from_secs(300),
        }
    }
}

/// Messages to one peer, and their answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RequestResponseConfig {
    /// How long an answer may take. **Default:** 10 s.
    #[serde(with = "humantime_serde")]
    pub request_timeout: Duration,
    /// The largest message, in bytes. **Default:** 4 MiB + 1 KiB.
    pub max_message_size: usize,
    /// Messages being answered at once on one connection. **Default:** 32.
    pub max_concurrent_streams: usize,
}

impl Default for RequestResponseConfig {
    fn default() -> Self {
        Self {
            request_timeout: Duration::from_secs(10),
            max_message_size: (4 << 20) + 1024,
            max_concurrent_streams: 32,
        }
    }
}

/// Checking of received items, off the network task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ValidationConfig {
    /// Checks that run at once. **Default:** 4.
    pub max_in_flight: usize,
    /// Bytes of items that wait for a check; a further item is ignored. **Default:** 32 MiB.
    pub max_queued_bytes: usize,
    /// Bytes of items that one event subscriber may leave unread; the oldest are dropped
    /// and counted. **Default:** 32 MiB.
    pub max_unread_bytes: usize,
}

impl Default for ValidationConfig {
    fn default() -> Self {
        Self {
            max_in_flight: 4,
            max_queued_bytes: 32 << 20,
            max_unread_bytes: 32 << 20,
        }
    }
}

/// What peers may do: SPEC's "Security Configuration".
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SecurityConfig {
    /// The encryption of TCP and WebSocket connections.
    pub noise_config: NoiseConfig,
    /// The price of misbehaviour.
    pub peer_scoring: PeerScoringConfig,
    /// How much a peer may ask.
    pub rate_limits: RateLimitConfig,
    /// Who is kept out, and for how long.
    pub blacklist_config: BlacklistConfig,
}

/// Noise XX (libp2p/specs noise).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NoiseConfig {
    /// A secret that both sides must know for the handshake to succeed: a closed network. It binds TCP and
    /// WebSocket only, so no other transport can be listened on beside it. **Default:** none.
    pub prologue: Option<String>,
}

/// A peer's score: typed events, halved over time (after Lighthouse's peer manager).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PeerScoringConfig {
    /// The time in which a score moves half way back to zero. **Default:** 600 s.
    #[serde(with = "humantime_serde")]
    pub half_life: Duration,
    /// At or below it a peer is disconnected. **Default:** -20.
    pub disconnect_at: f64,
    /// At or below it a peer is banned. **Default:** -50.
    pub ban_at: f64,
    /// Peers whose score is remembered; the one nearest to zero is forgotten first. **Default:** 10,000.
    pub max_peers: usize,
}

impl Default for PeerScoringConfig {
    fn default() -> Self {
        Self {
            half_life: Duration::from_secs(600),
            disconnect_at: -20.0,
            ban_at: -50.0,
            max_peers: 10_000,
        }
    }
}

/// How much one peer may ask of this node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RateLimitConfig {
    /// Direct messages per second and peer, on average. **Default:** 100.
    pub messages_per_second: u32,
    /// Direct messages at once above the average. **Default:** 200.
    pub burst: u32,
    /// The link's capacity in bytes per second, to which `bandwidth_utilization` relates. **Default:** 125,000,000 (1 Gbit/s).
    pub link_bytes_per_second: u64,
}

impl Default for RateLimitConfig {
    fn default() -> Self {
        Self {
            messages_per_second: 100,
            burst: 200,
            link_bytes_per_second: 125_000_000,
        }
    }
}

/// Who is kept out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BlacklistConfig {
    /// Peers that are never let in. **Default:** none.
    pub peers: Vec<String>,
    /// How long a ban lasts. **Default:** 1 h.
    #[serde(with = "humantime_serde")]
    pub ban_duration: Duration,
    /// Bans kept at once; the one that ends first is dropped first. **Default:** 10,000.
    pub max_bans: usize,
}

impl Default for BlacklistConfig {
    fn default() -> Self {
        Self {
            peers: Vec::new(),
            ban_duration: Duration::from_secs(3600),
            max_bans: 10_000,
        }
    }
}

impl Config {
    /// Finds the first thing that is wrong, with its field, its value and what would be right.
    ///
    /// # Errors
    /// [`ConfigError`]; nothing else has happened then.
    pub fn check(&self) -> Result<(), ConfigError> {
        let wrong = |field: &str, value: &dyn ToString, problem: &str| {
            Err(ConfigError::new(field, value.to_string(), problem))
        };
        let network = &self.network;
        if network.max_peers == 0 || network.max_peers > 100_000 {
            return wrong(
                "network.max_peers",
                &network.max_peers,
                "give a number from 1 to 100000",
            );
        }
        let positive = [
            ("network.connection_timeout", network.connection_timeout),
            ("network.keepalive_interval", network.keepalive_interval),
            (
                "protocol.gossipsub_config.heartbeat_interval",
                self.protocol.gossipsub_config.heartbeat_interval,
            ),
            (
                "protocol.gossipsub_config.duplicate_cache_time",
                self.protocol.gossipsub_config.duplicate_cache_time,
            ),
            (
                "protocol.kademlia_config.query_timeout",
                self.protocol.kademlia_config.query_timeout,
            ),
            (
                "protocol.identify_config.interval",
                self.protocol.identify_config.interval,
            ),
            (
                "protocol.request_response_config.request_timeout",
                self.protocol.request_response_config.request_timeout,
            ),
            (
                "security.peer_scoring.half_life",
                self.security.peer_scoring.half_life,
            ),
            (
                "security.blacklist_config.ban_duration",
                self.security.blacklist_config.ban_duration,
            ),
        ];
        for (field, duration) in positive {
            if duration < Duration::from_millis(10) || duration > Duration::from_secs(7 * 86_400) {
                let value = format!("{duration:?}");
                return wrong(
                    field,
                    &value,
                    "give a time from 10ms to 7days, such as \"10s\" or \"5m\"",
                );
            }
        }
        for (index, peer) in network.bootstrap_peers.iter().enumerate() {
            if peer.addresses.is_empty() {
                let field = format!("network.bootstrap_peers[{index}]");
                return wrong(
                    &field,
                    &peer.peer_id,
                    "give at least one address: /ip4/…/tcp/…/p2p/ID",
                );
            }
        }
        let id = &self.chain.network_id;
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c);
        if id.is_empty() || id.len() > 64 || !id.chars().all(allowed) {
            return wrong(
                "chain.network_id",
                id,
                "give 1 to 64 of the characters a-z 0-9 . _ -",
            );
        }
        if self.chain.genesis.len() > 64 {
            return wrong(
                "chain.genesis",
                &hex::encode(&self.chain.genesis),
                "give at most 64 bytes in hex",
            );
        }
        self.check_protocol()?;
        self.check_security()
    }

    fn check_protocol(&self) -> Result<(), ConfigError> {
        let gossip = &self.protocol.gossipsub_config;
        if !(1 <= gossip.mesh_n_low
            && gossip.mesh_n_low <= gossip.mesh_n
            && gossip.mesh_n <= gossip.mesh_n_high)
        {
            let value = format!(
                "{}, {}, {}",
                gossip.mesh_n_low, gossip.mesh_n, gossip.mesh_n_high
            );
            return Err(ConfigError::new(
                "protocol.gossipsub_config.mesh_n_low, mesh_n, mesh_n_high",
                value,
                "give 1 <= mesh_n_low <= mesh_n <= mesh_n_high",
            ));
        }
        let sizes = [
            (
                "protocol.gossipsub_config.max_transmit_size",
                gossip.max_transmit_size,
                1024,
            ),
            (
                "protocol.request_response_config.max_message_size",
                self.protocol.request_response_config.max_message_size,
                1024,
            ),
            (
                "protocol.gossipsub_config.queue_length",
                gossip.queue_length,
                16,
            ),
            (
                "protocol.request_response_config.max_concurrent_streams",
                self.protocol.request_response_config.max_concurrent_streams,
                1,
            ),
            (
                "protocol.kademlia_config.max_records",
                self.protocol.kademlia_config.max_records,
                1,
            ),
            (
                "protocol.validation.max_in_flight",
                self.protocol.validation.max_in_flight,
                1,
            ),
            (
                "protocol.validation.max_queued_bytes",
                self.protocol.validation.max_queued_bytes,
                gossip.max_transmit_size,
            ),
            (
                "protocol.validation.max_unread_bytes",
                self.protocol.validation.max_unread_bytes,
                gossip.max_transmit_size,
            ),
        ];
        for (field, value, least) in sizes {
            if value < least || value > 1 << 30 {
                return Err(ConfigError::new(
                    field,
                    value,
                    format!("give a number from {least} to {}", 1 << 30),
                ));
            }
        }
        let agent = &self.protocol.identify_config.agent_version;
        if agent.is_empty() || agent.len() > 64 || agent.chars().any(char::is_control) {
            return Err(ConfigError::new(
                "protocol.identify_config.agent_version",
                agent,
                "give 1 to 64 printable characters",
            ));
        }
        Ok(())
    }

    fn check_security(&self) -> Result<(), ConfigError> {
        let scoring = &self.security.peer_scoring;
        // NaN fails these comparisons too, as it should.
        if !(scoring.ban_at <= scoring.disconnect_at && scoring.disconnect_at < 0.0) {
            let value = format!("{}, {}", scoring.ban_at, scoring.disconnect_at);
            return Err(ConfigError::new(
                "security.peer_scoring.ban_at, disconnect_at",
                value,
                "give ban_at <= disconnect_at < 0",
            ));
        }
        let positive = [
            ("security.peer_scoring.max_peers", scoring.max_peers as u64),
            (
                "security.rate_limits.messages_per_second",
                self.security.rate_limits.messages_per_second.into(),
            ),
            (
                "security.rate_limits.burst",
                self.security.rate_limits.burst.into(),
            ),
            (
                "security.rate_limits.link_bytes_per_second",
                self.security.rate_limits.link_bytes_per_second,
            ),
            (
                "security.blacklist_config.max_bans",
                self.security.blacklist_config.max_bans as u64,
            ),
        ];
        for (field, value) in positive {
            if value == 0 {
                return Err(ConfigError::new(field, value, "give a number above 0"));
            }
        }
        for peer in &self.security.blacklist_config.peers {
            if peer.parse::<libp2p::PeerId>().is_err() {
                return Err(ConfigError::new(
                    "security.blacklist_config.peers",
                    peer,
                    "give peer ids such as 12D3KooW…",
                ));
            }
        }
        if self.security.noise_config.prologue.is_some() {
            let unbound = |p: Protocol| {
                matches!(
                    p,
                    Protocol::Quic
                        | Protocol::QuicV1
                        | Protocol::WebRTCDirect
                        | Protocol::WebTransport
                )
            };
            if let Some(address) = self
                .network
                .listen_addresses
                .iter()
                .find(|a| a.iter().any(unbound))
            {
                return Err(ConfigError::new(
                    "network.listen_addresses",
                    address,
                    "security.noise_config.prologue binds TCP and WebSocket only; remove this address or the prologue",
                ));
            }
        }
        Ok(())
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
        let loopback = |p: Protocol| match p {
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

    #[test]
    fn defaults_are_right() {
        assert_eq!(Config::default().check(), Ok(()));
    }

    #[test]
    fn an_error_names_field_value_and_remedy() {
        let mut config = Config::default();
        config.network.max_peers = 0;
        let error = config.check().expect_err("no peers at all");
        assert_eq!(
            error.to_string(),
            "config: network.max_peers = 0: give a number from 1 to 100000"
        );
        let mut config = Config::default();
        config.chain.network_id = "My Net".into();
        assert_eq!(
            config.check().expect_err("capitals").field,
            "chain.network_id"
        );
        let mut config = Config::default();
        config.security.peer_scoring.ban_at = f64::NAN;
        assert!(config.check().is_err());
        let mut config = Config::default();
        config.security.noise_config.prologue = Some("secret".into());
        config.network.listen_addresses =
            vec!["/ip4/127.0.0.1/udp/1/quic-v1".parse().expect("an address")];
        assert_eq!(
            config.check().expect_err("unbound").field,
            "network.listen_addresses"
        );
    }

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
