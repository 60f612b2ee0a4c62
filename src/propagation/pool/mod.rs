//! The transactions that are here, those that were here lately, and how two nodes find out what one of them misses.

mod mempool;
pub mod reconcile;
mod seen;
pub(crate) mod sessions;
mod unwanted;

pub use mempool::{Insertion, MAX_EXPIRED, Mempool, MempoolConfig, OVERHEAD, Pieces, Pooled};
pub use seen::Seen;
