//! The Merkle tree over a block's chunks: a chunk and a proof are enough to know that it belongs.
//!
//! Its hashes are RFC 9162's ([`crate::merkle`]), of the chunks as leaves. The number of leaves is a power of two, so every proof has the same length.

use bytes::{Bytes, BytesMut};

use crate::merkle::{leaf, node};

/// A SHA-256.
pub(super) type Digest = [u8; DIGEST];
/// Bytes in a digest.
pub(super) const DIGEST: usize = 32;

/// The tree over some chunks, kept to make proofs: two digests for each chunk.
#[derive(Clone, Debug)]
pub(super) struct Tree {
    /// From the leaves, which are in the order of the chunks, up to the root.
    levels: Vec<Vec<Digest>>,
}

impl Tree {
    /// The tree over chunks of which there are 2^x.
    pub(super) fn of<'a>(chunks: impl Iterator<Item = &'a [u8]>) -> Self {
        let mut level: Vec<_> = chunks.map(leaf).collect();
        let mut levels = Vec::new();
        while level.len() > 1 {
            let pairs = level.chunks(2).map(|pair| match pair {
                [left, right] => node(left, right),
                odd => odd.first().copied().unwrap_or_default(),
            });
            let above = pairs.collect();
            levels.push(std::mem::replace(&mut level, above));
        }
        levels.push(level);
        Self { levels }
    }

    pub(super) fn root(&self) -> Digest {
        let top = self.levels.last().and_then(|level| level.first());
        top.copied().unwrap_or_default()
    }

    /// The proof of a chunk: its sibling, then its parent's, up to below the root.
    pub(super) fn proof(&self, index: u8) -> Bytes {
        let mut place = usize::from(index);
        let mut proof = BytesMut::with_capacity(self.levels.len() * DIGEST);
        for level in &self.levels {
            if let Some(sibling) = level.get(place ^ 1) {
                proof.extend_from_slice(sibling);
            }
            place /= 2;
        }
        proof.freeze()
    }
}

/// How long a proof is in a tree over `chunks`, in bytes.
pub(super) fn proof_length(chunks: usize) -> usize {
    usize::try_from(chunks.ilog2()).map_or(0, |depth| depth * DIGEST)
}

/// Whether a chunk stands at its index under this root, in a tree over `chunks`.
pub(super) fn proves(root: &Digest, chunks: usize, index: u8, chunk: &[u8], proof: &[u8]) -> bool {
    if usize::from(index) >= chunks || proof.len() != proof_length(chunks) {
        return false;
    }
    let mut place = index;
    let (siblings, _) = proof.as_chunks::<DIGEST>();
    let top = siblings.iter().fold(leaf(chunk), |digest, sibling| {
        let right = place % 2 == 1;
        place /= 2;
        if right {
            node(sibling, &digest)
        } else {
            node(&digest, sibling)
        }
    });
    top == *root
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::test;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_proof_proves_its_chunk_and_nothing_else(
            power in 0u32..=8, index: u8, other: u8, byte: usize, bit in 0u8..8, length in 0usize..400,
        ) {
            let count = 1 << power;
            let index = u8::try_from(usize::from(index) % count).expect("below 256");
            let chunks: Vec<_> = (0..count as u64).map(|i| [i.to_le_bytes(), [7; 8]].concat()).collect();
            let tree = Tree::of(chunks.iter().map(Vec::as_slice));
            let (chunk, proof) = (&chunks[usize::from(index)], tree.proof(index));
            prop_assert!(proves(&tree.root(), count, index, chunk, &proof));
            prop_assert_eq!(proves(&tree.root(), count, other, chunk, &proof), other == index);
            prop_assert_eq!(proof.len(), proof_length(count));

            let mut wrong = [&chunk[..], &proof[..]].concat();
            let byte = byte % wrong.len();
            wrong[byte] ^= 1 << bit;
            let (chunk, proof) = wrong.split_at(chunk.len());
            prop_assert!(!proves(&tree.root(), count, index, chunk, proof));
            if length != proof.len() {
                prop_assert!(!proves(&tree.root(), count, index, &chunks[usize::from(index)], &vec![0; length]));
            }
        }
    }

    #[test]
    fn an_inner_node_is_no_leaf() {
        let tree = Tree::of([b"a", b"b", b"c", b"d"].map(|chunk| &chunk[..]).into_iter());
        let above = [leaf(b"a"), leaf(b"b")].concat();
        let proof = node(&leaf(b"c"), &leaf(b"d"));
        assert!(!proves(&tree.root(), 2, 0, &above, &proof));
        assert_eq!(node(&node(&leaf(b"a"), &leaf(b"b")), &proof), tree.root());
    }
}
