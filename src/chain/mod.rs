//! What a chain plugs in: the meaning of blocks, transactions and votes.
//!
//! The network moves bytes; the chain decides. [`Application`] is the border between them, in the terms of
//! CometBFT's ABCI where it has one. [`Opaque`] is the default, which takes any bytes;
//! [`bitcoin::Bitcoin`] shows that a chain whose identities are its own fits without a wrapper; [`ledger::Ledger`] is a small
//! chain of our own, with accounts, transfers and a state that can be proven.
//! Items and their names are in `item.rs` and `key.rs`; how the network asks, in `rules.rs`; what a chain offers to be synced is in
//! `store.rs`, and snapshots of its state in `snapshot.rs`; `unkept.rs` holds back what a node has said itself and not kept yet.
//! [`block_file`] reads blocks that other software wrote, to replay them.

mod application;
pub mod bitcoin;
pub mod block_file;
mod item;
mod key;
pub mod ledger;
mod opaque;
mod query;
pub(crate) mod rules;
mod snapshot;
mod store;
mod unkept;

pub use application::{Application, BlockParts, Checked, Verdict};
pub use item::{Block, Item, ItemId, ItemKind, Transaction, Vote};
pub use key::{ShortId, TransactionKey};
pub use opaque::Opaque;
pub use query::{
    MAX_STATE_KEY, MAX_STATE_KEYS, ProvenState, StateBatch, StateRequest, StateResponse, StateRoot,
};
pub use snapshot::{
    ChunkOrder, MAX_SNAPSHOT_CHUNK, MAX_SNAPSHOT_CHUNKS, MAX_SNAPSHOT_PROOF, MAX_STATE_ROOT,
    SNAPSHOT_GROUP, Snapshot, SnapshotChunk, SnapshotError, SnapshotHash, SnapshotHasher,
    SnapshotId, SnapshotProof, SnapshotSink, SnapshotSource,
};
pub use store::{BlockPlace, ChainStore, SyncHeader, SyncVerdict, TrustVerifier};
pub(crate) use unkept::Unkept;
