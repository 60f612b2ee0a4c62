//! How the relay names a transaction.

use std::fmt;

use sha2::{Digest, Sha256};

/// The SHA-256 of a transaction's exact bytes: what BIP-339's wtxid is for Bitcoin, for any chain.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TransactionKey([u8; Self::LENGTH]);

impl TransactionKey {
    /// Bytes in a key.
    pub const LENGTH: usize = 32;

    /// The key of these bytes.
    pub fn of(transaction: &[u8]) -> Self {
        Self(Sha256::digest(transaction).into())
    }

    /// A key that somebody wrote; nothing says that a transaction with it exists.
    pub fn new(bytes: [u8; Self::LENGTH]) -> Self {
        Self(bytes)
    }

    /// The key's bytes.
    pub fn as_bytes(&self) -> &[u8; Self::LENGTH] {
        &self.0
    }
}

impl fmt::Display for TransactionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for TransactionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TransactionKey({self})")
    }
}
