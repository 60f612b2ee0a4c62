//! Transactions, blocks and votes on their way: state machines without I/O.
//!
//! A peer's input and `now` go in, actions come out; the thin `NetworkBehaviour` that moves the bytes is
//! `crate::lanes`. A transaction is named by its [`TransactionKey`](crate::chain::TransactionKey) here: two chains' ideas of an
//! identity may leave bytes out (Bitcoin's txid leaves out signatures), and a block that is put together again needs all.

pub mod blocks;
mod config;
pub(crate) mod keyed;
pub(crate) mod plumtree;
pub mod pool;
pub(crate) mod wire;

pub use config::{PropagationConfig, ReconcileConfig, TreeConfig};
pub use wire::{FrameError, check_frame};
