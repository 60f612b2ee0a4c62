//! How a node syncs.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::sync::snapshots::SnapshotsConfig;

/// How blocks that a node has missed are fetched, and served to others. Where the chain has no
/// [`crate::chain::ChainStore`] none of it is of use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SyncConfig {
    /// Headers that are known ahead of the last block; a fork that begins further below its end is not followed. **Default:** 32,768.
    pub max_headers: usize,
    /// Bytes of blocks that are here or asked for, and wait for those before them. **Default:** 64 MiB.
    pub max_buffer_bytes: usize,
    /// Bytes of blocks that are made ready for peers and not sent. **Default:** 32 MiB.
    pub max_serving_bytes: usize,
    /// How long a peer may send nothing of what it was asked for. **Default:** 10 s.
    #[serde(with = "humantime_serde")]
    pub request_timeout: Duration,
    /// How long a block or two that a peer has more may come by themselves before they are fetched. **Default:** 1 s.
    #[serde(with = "humantime_serde")]
    pub patience: Duration,
    /// A state in place of the blocks before it.
    pub snapshots: SnapshotsConfig,
}

impl Default for SyncConfig {
    fn default() -> Self {
        Self {
            max_headers: 32_768,
            max_buffer_bytes: 64 << 20,
            max_serving_bytes: 32 << 20,
            request_timeout: Duration::from_secs(10),
            patience: Duration::from_secs(1),
            snapshots: SnapshotsConfig::default(),
        }
    }
}
