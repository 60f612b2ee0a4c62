//! How items propagate.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::propagation::{
    blocks::{coded::CodedConfig, compact::CompactConfig},
    pool::MempoolConfig,
};
use crate::traffic::BudgetConfig;

/// How transactions, blocks and votes travel between nodes that speak Selkie's lanes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PropagationConfig {
    /// Transactions: in batches, over few links.
    pub transactions: TreeConfig,
    /// Votes: at once, over more links. Its defaults are [`TreeConfig::votes`].
    pub votes: TreeConfig,
    /// Blocks whose transactions are mostly known: in compact form.
    pub blocks: CompactConfig,
    /// Large blocks whose transactions are not: in coded chunks.
    pub coded: CodedConfig,
    /// The pool of accepted transactions.
    pub mempool: MempoolConfig,
    /// Comparing pools with peers.
    pub reconcile: ReconcileConfig,
    /// What may be sent on the lanes. Votes do not wait for it.
    pub upload: BudgetConfig,
    /// What may be read on the lanes. Votes do not wait for it.
    pub download: BudgetConfig,
}

impl Default for PropagationConfig {
    fn default() -> Self {
        Self {
            transactions: TreeConfig::default(),
            votes: TreeConfig::votes(),
            blocks: CompactConfig::default(),
            coded: CodedConfig::default(),
            mempool: MempoolConfig::default(),
            reconcile: ReconcileConfig::default(),
            upload: BudgetConfig::default(),
            download: BudgetConfig::default(),
        }
    }
}

/// When pools are compared, and what of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ReconcileConfig {
    /// Time between two comparisons with one peer that we begin. **Default:** 60 s.
    #[serde(with = "humantime_serde")]
    pub interval: Duration,
    /// Transactions that came later are still on their way by themselves, and left out. **Default:** 5 s.
    #[serde(with = "humantime_serde")]
    pub min_age: Duration,
}

impl Default for ReconcileConfig {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(60),
            min_age: Duration::from_secs(5),
        }
    }
}

/// How the items of one kind are pushed, announced and fetched.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TreeConfig {
    /// Links on which whole items are pushed at first; the nodes prune them to a tree. **Default:** 4; votes: 8.
    pub push_peers: usize,
    /// Time between two batches to one peer, within which single items wait for company. **Default:** 5 ms; votes: none.
    #[serde(with = "humantime_serde")]
    pub push_interval: Duration,
    /// Time between two announcements to one peer. Who has fetched nothing for two seconds is told less often where there are many
    /// peers, up to once a second. **Default:** 20 ms; votes: 5 ms.
    #[serde(with = "humantime_serde")]
    pub announce_interval: Duration,
    /// How long an announced item may come by itself before it is fetched, at least: as long as pushes turn out to take, up to 64 times this.
    /// **Default:** 40 ms; votes: 20 ms.
    #[serde(with = "humantime_serde")]
    pub fetch_patience: Duration,
    /// How long a peer has to send what is fetched from it. **Default:** 2 s.
    #[serde(with = "humantime_serde")]
    pub fetch_timeout: Duration,
    /// Announced items of one peer that have not arrived. **Default:** 32,768.
    pub max_announced: usize,
    /// Bytes asked of one peer at once, 8 MiB at most: an item counts as 256 at least, and a peer takes 32,768 ids at once. **Default:** 1 MiB.
    pub max_requested_bytes: usize,
    /// The largest item, in bytes; the same in all nodes of a network, since the hello compares it. **Default:** 4 MiB; votes: 64 KiB.
    pub max_item: usize,
    /// Bytes of accepted items that are kept for peers to read on; what all had time for leaves first, then the eldest of whoever brought
    /// most. **Default:** 8 MiB; votes: 4 MiB.
    pub max_log_bytes: usize,
}

impl Default for TreeConfig {
    fn default() -> Self {
        Self {
            push_peers: 4,
            push_interval: Duration::from_millis(5),
            announce_interval: Duration::from_millis(20),
            fetch_patience: Duration::from_millis(40),
            fetch_timeout: Duration::from_secs(2),
            max_announced: 32_768,
            max_requested_bytes: 1 << 20,
            max_item: 4 << 20,
            max_log_bytes: 8 << 20,
        }
    }
}

impl TreeConfig {
    /// The defaults for votes.
    pub fn votes() -> Self {
        Self {
            push_peers: 8,
            push_interval: Duration::ZERO,
            announce_interval: Duration::from_millis(5),
            fetch_patience: Duration::from_millis(20),
            max_item: 64 << 10,
            max_log_bytes: 4 << 20,
            ..Self::default()
        }
    }
}
