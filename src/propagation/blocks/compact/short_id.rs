//! Short ids: six bytes that stand for a transaction within one compact block.
//!
//! Source: BIP-152, "Short transaction IDs". The key comes from the header and a nonce of the sender, so nobody can
//! make two transactions collide before the block exists, nor for all senders at once. By chance one of a block's n
//! transactions collides with another of a pool of m with a probability of about n * m / 2^48: 2,000 against 100,000,
//! once in 1.4 million blocks.

use std::fmt;

use sha2::{Digest, Sha256};
use siphasher::sip::SipHasher24;

use crate::chain::TransactionKey;

/// Six bytes that stand for a transaction: a number below 2^48, so that comparing is cheap.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ShortId(u64);

impl ShortId {
    /// Bytes in a short id.
    pub const LENGTH: usize = 6;

    /// The lower six bytes of a hash.
    fn of_hash(hash: u64) -> Self {
        Self(hash & 0xffff_ffff_ffff)
    }

    /// A short id from its bytes on the wire: little-endian.
    pub fn from_bytes([a, b, c, d, e, f]: [u8; Self::LENGTH]) -> Self {
        Self(u64::from_le_bytes([a, b, c, d, e, f, 0, 0]))
    }

    /// The short id's bytes on the wire.
    pub fn to_bytes(self) -> [u8; Self::LENGTH] {
        let [a, b, c, d, e, f, _, _] = self.0.to_le_bytes();
        [a, b, c, d, e, f]
    }
}

impl fmt::Debug for ShortId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ShortId({})", hex::encode(self.to_bytes()))
    }
}

/// The key under which one compact block's short ids are made.
#[derive(Clone, Debug)]
pub struct ShortIdKey(SipHasher24);

impl ShortIdKey {
    /// The first 16 bytes of SHA-256 over the header and the nonce in little-endian order.
    pub fn new(header: &[u8], nonce: u64) -> Self {
        let digest = Sha256::new()
            .chain_update(header)
            .chain_update(nonce.to_le_bytes())
            .finalize();
        // A digest has 32 bytes, so there is a first half.
        let half = digest.first_chunk().copied().unwrap_or_default();
        Self(SipHasher24::new_with_key(&half))
    }

    /// SipHash-2-4 of the transaction's key, without its two most significant bytes, in little-endian order.
    pub fn short_id(&self, transaction: &TransactionKey) -> ShortId {
        ShortId::of_hash(self.0.hash(transaction.as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::test;

    #[test]
    fn the_hash_is_the_one_of_the_siphash_paper() {
        // Appendix A of Aumasson and Bernstein, "SipHash: a fast short-input PRF".
        let hasher = SipHasher24::new_with_keys(0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908);
        let input: Vec<u8> = (0..15).collect();
        assert_eq!(hasher.hash(&input), 0xa129_ca61_49be_45e5);
    }

    #[test]
    fn ids_depend_on_header_nonce_and_transaction() {
        let (one, two) = (TransactionKey::of(b"1"), TransactionKey::of(b"2"));
        let key = ShortIdKey::new(b"header", 7);
        assert_eq!(
            key.short_id(&one),
            ShortIdKey::new(b"header", 7).short_id(&one)
        );
        assert_ne!(key.short_id(&one), key.short_id(&two));
        assert_ne!(
            key.short_id(&one),
            ShortIdKey::new(b"header", 8).short_id(&one)
        );
        assert_ne!(
            key.short_id(&one),
            ShortIdKey::new(b"Header", 7).short_id(&one)
        );
    }
}
