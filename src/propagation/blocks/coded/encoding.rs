//! A block made into chunks, and chunks made a block again.
//!
//! The code is the Reed-Solomon code of `reed-solomon-simd` (Leopard's, over GF(2^16)): chunks 0 to k-1 are the block
//! itself, k to 2k-1 parity, and any k of them give all.
//!
//! A proof says that a chunk is the announced one, not that the announced ones belong together: an encoder may build
//! its tree over anything. So what was decoded is encoded again, and the roots must be the same. If they are not, then
//! no k of these chunks can be relied on, whoever holds them; the encoder is to blame, and nobody who passed on what
//! proved true.
//!
//! Both ways cost some milliseconds per megabyte, most of it for SHA-256: run them off the network task.

use bytes::{Bytes, BytesMut};
use reed_solomon_simd::{ReedSolomonDecoder, ReedSolomonEncoder};

use super::announcement::{Announcement, BroadcastId, MAX_HEADER};
use super::chunk::Chunk;
use super::merkle::Tree;
use super::shape::{MAX_BLOCK, Shape};
use crate::chain::ItemId;

/// Why a block cannot be broadcast in chunks.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum EncodeError {
    /// The block's size.
    #[error("a block of {0} bytes cannot be coded; it may have 1 to {MAX_BLOCK}")]
    Size(usize),
    /// Its header or identity.
    #[error(
        "the header has {header} bytes and the identity {identity}; at most {MAX_HEADER} and at least 1 can be announced"
    )]
    Announcement {
        /// The header's length, in bytes.
        header: usize,
        /// The identity's length, in bytes.
        identity: usize,
    },
    /// The code refuses; no shape should make it.
    #[error("the Reed-Solomon code refuses: {0}")]
    Code(#[from] reed_solomon_simd::Error),
}

/// The chunks do not belong together: whoever encoded them lied. Peers that passed them on could not know; peers that
/// said that they had decoded them did.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the chunks of block {block} are no encoding of anything: the root {broadcast} is a lie of its encoder"
)]
pub struct InconsistentCoding {
    /// The broadcast that led nowhere.
    pub broadcast: BroadcastId,
    /// The block that it was said to be of.
    pub block: ItemId,
}

/// A block and all its chunks.
#[derive(Clone, Debug)]
pub struct Encoded {
    announcement: Announcement,
    /// Most chunks are slices of it: whoever has the block anyway holds them for nothing.
    block: Bytes,
    /// The others, one behind the other: the block's end, padded, and parity.
    rest: Bytes,
    tree: Tree,
}

impl Encoded {
    /// Encodes a block. The same block, header and identity give the same announcement everywhere.
    ///
    /// # Errors
    /// [`EncodeError`] where the block or the header is too long, or there is no block.
    pub fn of(block: ItemId, header: Bytes, bytes: Bytes) -> Result<Self, EncodeError> {
        let shape = Shape::of(bytes.len()).ok_or(EncodeError::Size(bytes.len()))?;
        let (rest, tree) = encode(shape, &bytes)?;
        let wrong = EncodeError::Announcement {
            header: header.len(),
            identity: block.as_bytes().len(),
        };
        let announcement = Announcement::new(block, header, bytes.len(), tree.root());
        Ok(Self {
            announcement: announcement.ok_or(wrong)?,
            block: bytes,
            rest,
            tree,
        })
    }

    /// What is announced of it.
    pub fn announcement(&self) -> &Announcement {
        &self.announcement
    }

    /// The broadcast's name.
    pub fn id(&self) -> BroadcastId {
        self.announcement.id()
    }

    /// The block.
    pub fn block(&self) -> Bytes {
        self.block.clone()
    }

    /// A chunk with its proof. `None`: there is none of this index.
    pub(in crate::propagation::blocks) fn chunk(&self, number: u8) -> Option<Chunk> {
        let length = self.announcement.shape().chunk_length();
        let (index, whole) = (usize::from(number), self.block.len() / length);
        let (bytes, place) = match index.checked_sub(whole) {
            None => (&self.block, index),
            Some(place) => (&self.rest, place),
        };
        let start = place * length;
        if start >= bytes.len() {
            return None;
        }
        Some(Chunk {
            broadcast: self.id(),
            index: number,
            spread: false,
            proof: self.tree.proof(number),
            data: bytes.slice(start..start + length),
        })
    }
}

/// Enough chunks to decode a block, each of them proved. Run it, and hand back what comes of it.
#[derive(Clone, Debug)]
pub struct Reconstruction {
    pub(super) announcement: Announcement,
    /// At least k, with distinct indexes.
    pub(super) chunks: Vec<(u8, Bytes)>,
}

impl Reconstruction {
    /// The broadcast's name.
    pub fn id(&self) -> BroadcastId {
        self.announcement.id()
    }

    /// Decodes the block, encodes it again and compares the roots.
    ///
    /// # Errors
    /// [`InconsistentCoding`] where the roots differ.
    pub fn run(self) -> Result<Encoded, InconsistentCoding> {
        let shape = self.announcement.shape();
        let encoded = decode(shape, &self.chunks).and_then(|block| {
            let (rest, tree) = encode(shape, &block)?;
            Ok((block, rest, tree))
        });
        match encoded {
            Ok((block, rest, tree)) if tree.root() == *self.announcement.root() => Ok(Encoded {
                announcement: self.announcement,
                block,
                rest,
                tree,
            }),
            _ => Err(InconsistentCoding {
                broadcast: self.announcement.id(),
                block: self.announcement.block().clone(),
            }),
        }
    }
}

/// The chunks that are no slices of the block, and the tree over all.
fn encode(shape: Shape, block: &[u8]) -> Result<(Bytes, Tree), reed_solomon_simd::Error> {
    let (count, length) = (shape.data_chunks(), shape.chunk_length());
    let whole = block.chunks_exact(length);
    let padded = count - whole.len();
    let mut rest = BytesMut::with_capacity((padded + shape.chunks() - count) * length);
    rest.extend_from_slice(whole.remainder());
    rest.resize(padded * length, 0);
    let mut code = ReedSolomonEncoder::new(count, shape.chunks() - count, length)?;
    for chunk in whole.clone().chain(rest.chunks_exact(length)) {
        code.add_original_shard(chunk)?;
    }
    for parity in code.encode()?.recovery_iter() {
        rest.extend_from_slice(parity);
    }
    let tree = Tree::of(whole.chain(rest.chunks_exact(length)));
    Ok((rest.freeze(), tree))
}

fn decode(shape: Shape, chunks: &[(u8, Bytes)]) -> Result<Bytes, reed_solomon_simd::Error> {
    let (count, length) = (shape.data_chunks(), shape.chunk_length());
    let mut code = ReedSolomonDecoder::new(count, shape.chunks() - count, length)?;
    let mut data: Vec<Option<&[u8]>> = vec![None; count];
    for (index, chunk) in chunks {
        let index = usize::from(*index);
        match data.get_mut(index) {
            Some(place) => {
                code.add_original_shard(index, chunk)?;
                *place = Some(chunk);
            }
            None => code.add_recovery_shard(index - count, chunk)?,
        }
    }
    let restored = code.decode()?;
    let mut block = BytesMut::with_capacity(count * length);
    for (index, chunk) in data.into_iter().enumerate() {
        let chunk = chunk.or_else(|| restored.restored_original(index));
        block.extend_from_slice(chunk.unwrap_or_default());
    }
    block.truncate(shape.size());
    Ok(block.freeze())
}

/// A tree over any chunks, as a lying encoder makes it: its announcement and its chunks.
#[cfg(test)]
pub(super) fn lie(block: ItemId, size: usize, chunks: &[Vec<u8>]) -> (Announcement, Vec<Chunk>) {
    let tree = Tree::of(chunks.iter().map(Vec::as_slice));
    let announcement =
        Announcement::new(block, Bytes::new(), size, tree.root()).expect("a possible lie");
    let chunks = chunks.iter().zip(0..).map(|(data, index)| Chunk {
        broadcast: announcement.id(),
        index,
        spread: true,
        proof: tree.proof(index),
        data: data.clone().into(),
    });
    (announcement.clone(), chunks.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::test;
    use proptest::prelude::*;

    fn block(size: usize) -> Vec<u8> {
        (0..size as u64).map(|i| (i * i / 7 % 251) as u8).collect()
    }

    fn encoded(size: usize) -> Encoded {
        let (name, header) = (ItemId::sha256(b"b"), Bytes::from_static(b"h"));
        Encoded::of(name, header, block(size).into()).expect("a block")
    }

    fn reconstruction(encoded: &Encoded, indexes: &[u8]) -> Reconstruction {
        let chunks = indexes.iter().map(|&index| {
            let chunk = encoded.chunk(index).expect("a chunk");
            assert!(chunk.is_of(encoded.announcement()));
            (index, chunk.data)
        });
        Reconstruction {
            announcement: encoded.announcement().clone(),
            chunks: chunks.collect(),
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn any_k_chunks_are_enough(
            size in prop_oneof![1usize..200, 1000usize..5000, Just(600_000)],
            order in Just((0..=255u8).collect::<Vec<_>>()).prop_shuffle(),
        ) {
            let encoded = encoded(size);
            let shape = encoded.announcement().shape();
            let indexes: Vec<_> =
                order.into_iter().filter(|&i| usize::from(i) < shape.chunks()).take(shape.data_chunks()).collect();
            let again = reconstruction(&encoded, &indexes).run().expect("the same root");
            prop_assert_eq!(again.block(), block(size));
            prop_assert_eq!(again.id(), encoded.id());
            prop_assert!(again.chunk(0).expect("a chunk").is_of(encoded.announcement()));
            prop_assert!(reconstruction(&encoded, &indexes[1..]).run().is_err(), "one too few");
        }
    }

    #[test]
    fn what_is_whole_of_a_block_is_not_held_twice() {
        // Of 32 chunks of 312 bytes the last is padded.
        let bytes = Bytes::from(block(9_969));
        let (name, header) = (ItemId::sha256(b"b"), Bytes::from_static(b"h"));
        let encoded = Encoded::of(name, header, bytes.clone()).expect("a block");
        let all: Vec<u8> = (0..64).collect();
        let decoded = reconstruction(&encoded, &all[32..]).run().expect("a block");
        for (encoded, bytes) in [(&encoded, bytes), (&decoded, decoded.block())] {
            let within = bytes.as_ptr_range();
            for index in &all {
                let chunk = encoded.chunk(*index).expect("a chunk");
                assert_eq!(
                    within.contains(&chunk.data.as_ptr()),
                    *index < 31,
                    "{index}"
                );
            }
            assert_eq!(encoded.rest.len(), 33 * 312);
        }
    }

    #[test]
    fn sizes_at_the_edges() {
        for size in [1, 2, 63, 64, 65, 0x8_0000, 0x8_0001, 0x20_0000, 0x20_0001] {
            let encoded = encoded(size);
            let parity: Vec<u8> = (0..=255)
                .filter(|&index| encoded.chunk(index).is_some())
                .skip(encoded.announcement().shape().data_chunks())
                .collect();
            let again = reconstruction(&encoded, &parity).run().expect("a block");
            assert_eq!(again.block(), block(size));
        }
        let empty = Encoded::of(ItemId::sha256(b"b"), Bytes::new(), Bytes::new());
        assert_eq!(empty.unwrap_err(), EncodeError::Size(0));
        let headless = Encoded::of(
            ItemId::new(b"").expect("short"),
            vec![0; MAX_HEADER + 1].into(),
            Bytes::from_static(b"b"),
        );
        assert!(matches!(
            headless.unwrap_err(),
            EncodeError::Announcement {
                header: 16_385,
                identity: 0
            }
        ));
    }

    #[test]
    fn a_lying_encoder_is_found_out_from_any_chunks() {
        let mut chunks: Vec<_> = (0..64).map(|i| vec![i; 20]).collect();
        let (announcement, lies) = lie(ItemId::sha256(b"b"), 640, &chunks);
        for take in [0..32usize, 32..64, 16..48] {
            let lies = &lies[take];
            assert!(lies.iter().all(|chunk| chunk.is_of(&announcement)));
            let reconstruction = Reconstruction {
                announcement: announcement.clone(),
                chunks: lies.iter().map(|c| (c.index, c.data.clone())).collect(),
            };
            let error = reconstruction.run().expect_err("no encoding");
            assert_eq!(error.broadcast, announcement.id());
        }

        // Padding that is not zero: decoding alone would not notice.
        let honest = encoded(639);
        for (index, chunk) in chunks.iter_mut().zip(0..) {
            *index = honest.chunk(chunk).expect("a chunk").data.to_vec();
        }
        *chunks[31].last_mut().expect("a byte") = 1;
        let (announcement, lies) = lie(ItemId::sha256(b"b"), 639, &chunks);
        let reconstruction = Reconstruction {
            announcement,
            chunks: lies[..32]
                .iter()
                .map(|c| (c.index, c.data.clone()))
                .collect(),
        };
        assert!(reconstruction.run().is_err());
    }
}
