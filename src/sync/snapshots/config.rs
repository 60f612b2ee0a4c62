//! The limits of fast sync.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How a node takes a snapshot of the chain's state in place of the blocks before it, makes them, and serves them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SnapshotsConfig {
    /// Whether one is taken where peers are far ahead (`download.min_gain`). It needs a chain that takes them
    /// ([`crate::Application::snapshot_sink`]), and something to trust: the chain's [`crate::chain::TrustVerifier`] or a checkpoint. Otherwise, and where
    /// nobody has one, it is blocks. **Default:** true.
    pub take: bool,
    /// Whether one may take the place of blocks that are here: they are gone then, with their certificates. Otherwise one is taken by a node that
    /// began with nothing but its genesis, until it is first as far as its peers. **Default:** false.
    pub replace_blocks: bool,
    /// A chain that makes snapshots ([`crate::Application::snapshot_source`]) is asked for one of each height that is a multiple of this, once that
    /// block is final. Nodes that have the same here, and in `chunk_bytes`, make the same snapshots, and are sources of one another's. 0: never.
    /// **Default:** 10,000.
    pub make_every: u64,
    /// So many of the newest are kept, and those beyond that somebody is fetching (`serving.in_use`), of the newest four. **Default:** 2.
    pub keep: usize,
    /// Bytes of a chunk of those. **Default:** 1,008 KiB: with its key it fits in 1 MiB of a store whose pages are powers of two, as redb's are, and a chunk
    /// of 1 MiB takes two there.
    pub chunk_bytes: u32,
    /// Taking one.
    pub download: DownloadConfig,
    /// Serving them.
    pub serving: ServingConfig,
}

impl Default for SnapshotsConfig {
    fn default() -> Self {
        Self {
            take: true,
            replace_blocks: false,
            make_every: 10_000,
            keep: 2,
            chunk_bytes: 1008 << 10,
            download: DownloadConfig::default(),
            serving: ServingConfig::default(),
        }
    }
}

/// The limits of taking a snapshot, and what is known of the right one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DownloadConfig {
    /// Peers whose offers are kept; further ones are not listened to. Their offers take at most 80 KiB each. **Default:** 128.
    pub max_peers: usize,
    /// The largest snapshot that is taken, in bytes; larger ones are not offered to the sink. **Default:** 64 GiB.
    pub max_snapshot_bytes: u64,
    /// Bytes of chunks that are asked for, or here and not applied: each counts whole from its first request until the sink has taken it. One
    /// chunk is taken whatever this says. **Default:** 64 MiB.
    pub max_bytes_in_flight: usize,
    /// Bytes that one source is asked for at a time. **Default:** 32 MiB.
    pub max_window: usize,
    /// A snapshot has to be so many blocks above what is here; fewer are quicker by blocks. **Default:** 1,000.
    pub min_gain: u64,
    /// How long offers are collected before the first snapshot is chosen. **Default:** 1 s.
    #[serde(with = "humantime_serde")]
    pub settle: Duration,
    /// How long to wait for somebody who has a snapshot of use, at the beginning and where nobody has the chosen one any more.
    /// Then it is blocks. **Default:** 10 s.
    #[serde(with = "humantime_serde")]
    pub search: Duration,
    /// How long to wait for the header that says whether an offered snapshot is right. **Default:** 60 s.
    #[serde(with = "humantime_serde")]
    pub trust: Duration,
    /// How long a source that was asked may send nothing before others are asked; it pays for no answer. **Default:** 2 s.
    #[serde(with = "humantime_serde")]
    pub patience: Duration,
    /// How often the sink may say [`crate::chain::SyncVerdict::Retry`] in a row, once a second, before it is our error. **Default:** 10.
    pub max_retries: u32,
    /// How many snapshots the sink may reject before it is blocks. **Default:** 4.
    pub max_rejected: usize,
    /// The state that is known to be the chain's: who offers another one for this height lies. **Default:** none.
    pub checkpoint: Option<Checkpoint>,
}

/// A state that somebody vouches for: whoever wrote the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Checkpoint {
    /// The height.
    pub height: u64,
    /// The state root after its block; in hex.
    #[serde(with = "hex::serde")]
    pub state_root: Vec<u8>,
}

impl Default for DownloadConfig {
    fn default() -> Self {
        Self {
            max_peers: 128,
            max_snapshot_bytes: 64 << 30,
            max_bytes_in_flight: 64 << 20,
            max_window: 32 << 20,
            min_gain: 1000,
            settle: Duration::from_secs(1),
            search: Duration::from_secs(10),
            trust: Duration::from_secs(60),
            patience: Duration::from_secs(2),
            max_retries: 10,
            max_rejected: 4,
            checkpoint: None,
        }
    }
}

/// The limits of serving snapshots.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServingConfig {
    /// Peers that are served; further ones are told of no snapshot and refused. **Default:** 128.
    pub max_peers: usize,
    /// Requests of one peer that wait; further ones are refused. **Default:** 64.
    pub max_requests: usize,
    /// Chunks that are here, or being loaded, for one peer. **Default:** 2.
    pub max_loads_per_peer: usize,
    /// Bytes of chunks that are here, or being loaded, for all. One chunk is loaded whatever this says. **Default:** 32 MiB.
    pub max_bytes: usize,
    /// Groups of 16 KiB in a piece; at most [`super::wire::MAX_PIECE_GROUPS`] count. **Default:** 4.
    pub piece_groups: usize,
    /// How long a peer may read nothing of what is loaded for it before its requests are refused. **Default:** 20 s.
    #[serde(with = "humantime_serde")]
    pub patience: Duration,
    /// How long after the last request for a snapshot it is kept for who fetches it, though newer ones are enough. **Default:** 60 s.
    #[serde(with = "humantime_serde")]
    pub in_use: Duration,
}

impl Default for ServingConfig {
    fn default() -> Self {
        Self {
            max_peers: 128,
            max_requests: 64,
            max_loads_per_peer: 2,
            max_bytes: 32 << 20,
            piece_groups: 4,
            patience: Duration::from_secs(20),
            in_use: Duration::from_secs(60),
        }
    }
}
