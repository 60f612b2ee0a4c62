//! The limits of coded broadcast.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The limits of coded broadcast in one node. What a broadcast costs beside its chunks is below 8 KiB, and 256 bytes
/// for each peer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CodedConfig {
    /// Peers that take part; further ones tell of blocks, and are told of them, in another way. **Default:** 128.
    pub max_peers: usize,
    /// The largest block, in bytes; an announcement of a larger one is refused. At most [`super::MAX_BLOCK`] counts.
    /// **Default:** 4 MiB.
    pub max_block_bytes: usize,
    /// Broadcasts under way or still served. Without a place the one that was begun first makes room of those that all peers have,
    /// or that were served for `give_up_after`; if there is none, a new one is refused. **Default:** 16.
    pub max_broadcasts: usize,
    /// Bytes of chunks of all broadcasts: each counts with all its chunks, twice its block, from the start. Without
    /// room, as for `max_broadcasts`. Unfinished ones of which the same peer was the first to tell have half of it, or one of them all. **Default:** 32 MiB, four of the
    /// largest blocks.
    pub max_bytes: usize,
    /// Bytes of chunks of a broadcast that are kept before the chain has checked the header; further ones are dropped.
    /// **Default:** 512 KiB.
    pub max_early_bytes: usize,
    /// Unfinished broadcasts of which the same peer was the first to tell; a further one is refused. As many of its own a node begins
    /// before peers have them. **Default:** 4.
    pub max_introduced: usize,
    /// How often a peer may be the first to tell of a broadcast, on average; each has the chain check a header. What
    /// comes sooner is refused: the peer tells of the block in another way. **Default:** every 250 ms.
    #[serde(with = "humantime_serde")]
    pub introduce_every: Duration,
    /// How many broadcasts a peer may be the first to tell of at once. **Default:** 16.
    pub introduce_burst: u32,
    /// How long a peer that was asked for chunks may send none before they are asked of others. **Default:** 500 ms.
    #[serde(with = "humantime_serde")]
    pub patience: Duration,
    /// How long a broadcast may bring no new chunk before it is abandoned. **Default:** 4 s.
    #[serde(with = "humantime_serde")]
    pub give_up_after: Duration,
    /// How long a broadcast may take in all before it is abandoned, and how long one is served once it is finished.
    /// **Default:** 30 s.
    #[serde(with = "humantime_serde")]
    pub lifetime: Duration,
    /// How long a peer is doubted that was the first to tell of a broadcast that came to nothing: what it tells of is
    /// taken up only when another peer tells of it too. **Default:** 60 s.
    #[serde(with = "humantime_serde")]
    pub doubt: Duration,
}

impl Default for CodedConfig {
    fn default() -> Self {
        Self {
            max_peers: 128,
            max_block_bytes: 4 << 20,
            max_broadcasts: 16,
            max_bytes: 32 << 20,
            max_early_bytes: 512 << 10,
            max_introduced: 4,
            introduce_every: Duration::from_millis(250),
            introduce_burst: 16,
            patience: Duration::from_millis(500),
            give_up_after: Duration::from_secs(4),
            lifetime: Duration::from_secs(30),
            doubt: Duration::from_secs(60),
        }
    }
}
