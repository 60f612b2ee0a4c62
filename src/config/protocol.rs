//! How the protocols behave, and within which limits.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{propagation::PropagationConfig, sync::SyncConfig};

/// How the protocols behave.
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
    /// How items travel between Selkie's nodes.
    pub propagation: PropagationConfig,
    /// How blocks that were missed are fetched, and served.
    pub sync: SyncConfig,
}

/// Gossipsub v1.0 to v1.3 (libp2p/specs): the mesh and its limits.
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
    /// The largest gossip message, in bytes; items have limits of their own ([`PropagationConfig`]). **Default:** 4 MiB, so that every
    /// Bitcoin block fits.
    pub max_transmit_size: usize,
    /// How long an item's id is remembered, against duplicates. **Default:** 120 s.
    #[serde(with = "humantime_serde")]
    pub duplicate_cache_time: Duration,
    /// Messages queued per peer; further ones are dropped, and told. **Default:** 1,024.
    pub queue_length: usize,
    /// Plain libp2p peers with which gossip is spoken; further ones stay connected without. **Default:** 12.
    pub max_plain_peers: usize,
    /// Messages a second that are read from all peers together, on average, and 20 times as many at once; half of both from one
    /// peer. Who sends more is read more slowly. **Default:** 1,000.
    pub max_messages_per_second: u32,
    /// The same for bytes, twice as many at once. gossipsub keeps what it has read for some seconds, so that this is what it holds in
    /// memory too. **Default:** 4 MiB.
    pub max_bytes_per_second: u64,
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
            queue_length: 1_024,
            max_plain_peers: 12,
            max_messages_per_second: 1_000,
            max_bytes_per_second: 4 << 20,
        }
    }
}

/// How peers are found: Kademlia (Maymounkov and Mazieres, 2002; libp2p/specs kad-dht), and mDNS.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct KademliaConfig {
    /// Answer other nodes' lookups. `None`: yes if this node listens. **Default:** `None`.
    pub server: Option<bool>,
    /// How long one lookup may take. **Default:** 30 s.
    #[serde(with = "humantime_serde")]
    pub query_timeout: Duration,
    /// Peers that this node looks for and dials by itself: bootstrap peers once more, those of the local network, those that the DHT
    /// names; at most half of `network.max_peers`. 0: only whom the user dials. **Default:** 8, as in Bitcoin.
    pub wanted_peers: usize,
    /// Local discovery by mDNS, where a listen address is not loopback. **Default:** true.
    pub mdns: bool,
}

impl Default for KademliaConfig {
    fn default() -> Self {
        Self {
            server: None,
            query_timeout: Duration::from_secs(30),
            wanted_peers: 8,
            mdns: true,
        }
    }
}

/// Identify (libp2p/specs): what peers tell each other about themselves.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct IdentifyConfig {
    /// Name and version of this software as peers see it, at most 64 bytes. **Default:** `selkie/VERSION`.
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
    /// How long an answer may take; and how long our own items wait for peers that take nothing, before
    /// [`NetworkError::Busy`](crate::NetworkError::Busy) says so. **Default:** 10 s.
    #[serde(with = "humantime_serde")]
    pub request_timeout: Duration,
    /// The largest message, in bytes; the same in all nodes of a network, since the hello compares it. **Default:** 4 MiB + 1 KiB.
    pub max_message_size: usize,
    /// Messages under way at once on one connection, those of both sides together; of one's own half as many, and further ones wait. Nodes do not
    /// tell each other of this: one that has more here than twice the other's `validation.queries.per_peer` asks it more questions about state at once
    /// than it takes, and what is over that is refused.
    /// Over TCP and WebSocket each lets a peer have 256 KiB more here that is not read yet. **Default:** 32.
    pub max_concurrent_streams: usize,
    /// Bytes of messages that are being read or wait for this node on one connection; further ones are read when there is
    /// room. At least `max_message_size`. As many, of answers about state, one peer may have that it has not read yet; one that is looked for counts as the largest message. **Default:** two of the largest messages, 8 MiB + 2 KiB.
    pub max_connection_bytes: usize,
    /// The same for all connections together, of messages over 64 KiB, in which peers, or public addresses, take turns; the slowest
    /// gives way to who waits. As many, of answers about state, all together. **Default:** eight of the largest messages, 32 MiB + 8 KiB.
    pub max_bytes: usize,
}

impl Default for RequestResponseConfig {
    fn default() -> Self {
        let max_message_size = (4 << 20) + 1024;
        Self {
            request_timeout: Duration::from_secs(10),
            max_message_size,
            max_concurrent_streams: 32,
            max_connection_bytes: 2 * max_message_size,
            max_bytes: 8 * max_message_size,
        }
    }
}

/// Checking of items, off the network task, and answering of questions about state.
///
/// Each kind of item has its own room, so that a flood of one leaves the others theirs, and each peer a share of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ValidationConfig {
    /// Checks that run at once. **Default:** 4.
    pub max_in_flight: usize,
    /// Of these, how many are kept for votes; less than all. **Default:** 1.
    pub reserved_for_votes: usize,
    /// Bytes of votes that wait for a check or are in one, 128 more counted for each; a further one is refused, and
    /// that is told. What comes over a peer's lanes waits instead, and they are read no further; all together so may
    /// twice as much wait. One peer may have as many as its lane is read ahead, at least. **Default:** 32 MiB, of one peer 16 MiB.
    pub votes: Share,
    /// The same of whole blocks that came by gossip or directly. **Default:** 32 MiB, of one peer 8 MiB.
    pub blocks: Share,
    /// The same of transactions. **Default:** 64 MiB, of one peer 16 MiB.
    pub transactions: Share,
    /// Questions about state that wait for an answer of the application; a further one is refused, with a
    /// sentence. Eight keys count as one; each has 9 KiB at most. **Default:** 128, of one peer 16.
    pub queries: Share,
    /// Questions about state that the application answers at once, beside the checks, those included whose askers gave up meanwhile.
    /// **Default:** 2.
    pub max_queries_in_flight: usize,
    /// How long an application that is written in JavaScript may take for an answer; a later one is not heard. One in Rust runs to its
    /// end. Gossip keeps a message for 3.5 s by default: what is accepted later is not passed on to plain peers. **Default:** 10 s.
    #[serde(with = "humantime_serde")]
    pub application_timeout: Duration,
    /// Bytes of items that one event subscriber may leave unread; the oldest are dropped
    /// and counted. **Default:** 32 MiB.
    pub max_unread_bytes: usize,
}

impl Default for ValidationConfig {
    fn default() -> Self {
        let share = |all, per_peer| Share { all, per_peer };
        Self {
            max_in_flight: 4,
            reserved_for_votes: 1,
            votes: share(32 << 20, 16 << 20),
            blocks: share(32 << 20, 8 << 20),
            transactions: share(64 << 20, 16 << 20),
            queries: share(128, 16),
            max_queries_in_flight: 2,
            application_timeout: Duration::from_secs(10),
            max_unread_bytes: 32 << 20,
        }
    }
}

/// How much there may be, and how much of it from one peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Share {
    /// Of all peers together.
    pub all: usize,
    /// Of each peer.
    pub per_peer: usize,
}
