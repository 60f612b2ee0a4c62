//! A new node, from nothing to the verified tip; and what changes of the state, for who does not keep it. State machines without I/O.

pub(crate) mod blocks;
pub(crate) mod core;
pub mod snapshots;
pub(crate) mod watch;

pub use blocks::{SyncConfig, SyncPhase, SyncStatus, check_sync};
pub use watch::{MAX_WATCHES, StateChange};
