//! What a node keeps over a restart: so far its identity key.
//!
//! Natively it is a file that only its owner may read. In JavaScript the npm package keeps it (IndexedDB in a
//! page or worker, a file in Node), because one wasm serves hosts with different stores.

#[cfg(not(target_arch = "wasm32"))]
mod identity;

#[cfg(not(target_arch = "wasm32"))]
pub use identity::{load_or_create_identity, load_shared_identity};
