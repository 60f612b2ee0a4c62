//! The hashes in a Merkle tree of RFC 9162: SHA-256, of a leaf behind 0x00 and of two children behind 0x01, so that no inner node can be
//! shown as a leaf. Which leaves stand under which node is the tree's own.

use sha2::{Digest, Sha256};

/// A leaf's hash.
pub(crate) fn leaf(data: &[u8]) -> [u8; 32] {
    Sha256::new()
        .chain_update([0])
        .chain_update(data)
        .finalize()
        .into()
}

/// The hash of an inner node.
pub(crate) fn node(left: &[u8; 32], right: &[u8; 32]) -> [u8; 32] {
    Sha256::new()
        .chain_update([1])
        .chain_update(left)
        .chain_update(right)
        .finalize()
        .into()
}
