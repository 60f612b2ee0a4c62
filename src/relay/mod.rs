//! Transactions, blocks and votes on their way: state machines without I/O.
//!
//! A peer's input and `now` go in, actions come out; the thin `NetworkBehaviour` that moves the bytes is
//! `network/relay.rs`. How the relay names a transaction is its own affair, [`TransactionKey`]: two chains' ideas of an
//! identity may leave bytes out (Bitcoin's txid leaves out signatures), and a block that is put together again needs all.

pub mod coded;
pub mod compact;
mod config;
mod key;
mod keyed;
mod mempool;
pub(crate) mod plumtree;
pub mod reconcile;
mod seen;
pub(crate) mod wire;

pub use config::{ReconcileConfig, RelayConfig, TreeConfig};
pub use key::{ShortId, TransactionKey};
pub use mempool::{Insertion, MAX_EXPIRED, Mempool, MempoolConfig, OVERHEAD, Pooled};
pub use seen::{GENERATION, Seen};
pub use wire::{FrameError, check_frame};
