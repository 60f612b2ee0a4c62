//! What compact blocks may take up, and how long it waits.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The limits of compact blocks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CompactConfig {
    /// The largest block, in bytes; the same in all nodes of a network, since the hello compares it. **Default:** 4 MiB.
    pub max_block_bytes: usize,
    /// Blocks that are fetched at a time; another one waits. A quarter of the places is for blocks of which a
    /// peer tells that we dialled; a peer that dialled us leaves as many of the others as it holds. **Default:** 8.
    pub max_in_progress: usize,
    /// Blocks in progress of which one peer has told; what else it tells of waits, 16 of one peer and 256 in all. **Default:** 4.
    pub max_in_progress_per_peer: usize,
    /// Peers noted as having a block in progress; further ones are not, but an outbound peer takes the place of an inbound
    /// one. **Default:** 16.
    pub max_sources: usize,
    /// Peers that are asked for the same block at a time, where the first one is silent or slow; who is silent does not count. **Default:** 3.
    pub max_parallel: usize,
    /// Bytes of compact blocks, and of what they were matched with, that are held for blocks in progress. Without room a
    /// compact block is dropped, and the whole block asked for. **Default:** 32 MiB.
    pub max_held_bytes: usize,
    /// How long a peer that was asked for a block may send nothing before others are asked as well, beside two round trips to it.
    /// **Default:** 500 ms.
    #[serde(with = "humantime_serde")]
    pub patience: Duration,
    /// How long a peer has to answer, before it pays; three times as long while its answer comes. Who will be done in so long a time is
    /// asked alone. **Default:** 20 s.
    #[serde(with = "humantime_serde")]
    pub give_up_after: Duration,
    /// Blocks that are kept to be served; the oldest goes first. While half as many, or half the bytes, are our own and nobody
    /// has fetched them, no further ones of our own are taken. **Default:** 16.
    pub max_recent_blocks: usize,
    /// Bytes of blocks that are kept to be served; a block over half of it may not be. **Default:** 32 MiB.
    pub max_recent_bytes: usize,
    /// Identities of accepted blocks that are remembered, so as not to fetch them again; the oldest goes first.
    /// **Default:** 4,096.
    pub max_seen: usize,
    /// Bytes of transactions that a compact block brings along, apart from the first one. **Default:** 10,000.
    pub max_prefill_bytes: usize,
}

impl CompactConfig {
    /// So many of the newest blocks a node like this one keeps at least: of the largest half as many as there is room for, since a block
    /// weighs twice its bytes until it is accepted, and what leads to its transactions weighs something too.
    pub(super) fn surely_kept(&self) -> u64 {
        let largest = self.max_recent_bytes / self.max_block_bytes.max(1) / 2;
        self.max_recent_blocks.min(largest).max(1) as u64
    }
}

impl Default for CompactConfig {
    fn default() -> Self {
        Self {
            max_block_bytes: 4 << 20,
            max_in_progress: 8,
            max_in_progress_per_peer: 4,
            max_sources: 16,
            max_parallel: 3,
            max_held_bytes: 32 << 20,
            patience: Duration::from_millis(500),
            give_up_after: Duration::from_secs(20),
            max_recent_blocks: 16,
            max_recent_bytes: 32 << 20,
            max_seen: 4096,
            max_prefill_bytes: 10_000,
        }
    }
}
