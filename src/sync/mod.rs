//! A new node, from nothing to the verified tip. State machines without I/O.

pub(crate) mod blocks;
pub(crate) mod core;
pub mod snapshots;

pub use blocks::{SyncConfig, SyncPhase, SyncStatus, check_sync};
