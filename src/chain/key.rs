//! How the network names a transaction.

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

    /// The key's first 8 bytes, under which it is announced and fetched.
    pub fn short(&self) -> ShortId {
        let [a, b, c, d, e, f, g, h, ..] = self.0;
        ShortId::new([a, b, c, d, e, f, g, h])
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

/// The first 8 bytes of a [`TransactionKey`], for announcements: four ids in the room of one key.
///
/// Not keyed, so that a node finds it in one table whoever announced it. Who wants two transactions with one short id
/// finds a pair of his own with 2^32 hashes, and only those two then get in each other's way. To get in the way of
/// somebody else's takes 2^64 hashes in the moment between its announcement and its fetch; even then reconciliation, whose
/// short ids are keyed, and the block bring it later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ShortId(u64);

impl ShortId {
    /// Bytes in a short id.
    pub const LENGTH: usize = 8;

    /// From the key's first bytes.
    pub fn new(bytes: [u8; Self::LENGTH]) -> Self {
        Self(u64::from_le_bytes(bytes))
    }

    /// The key's first bytes.
    pub fn to_bytes(self) -> [u8; Self::LENGTH] {
        self.0.to_le_bytes()
    }
}
