//! Into how many chunks a block is cut.
//!
//! The size alone says it, so that every honest encoder of a block makes the same chunks and the same root, nothing
//! about it has to be negotiated or checked, and a node that came by the block in another way can serve chunks too.
//!
//! A chunk is passed on only once it is here whole, so long chunks make a hop slow; each chunk costs a proof and a
//! mention in every status, so short ones make it dear. The least sum of both is near the square root of the size; the
//! steps below were the best in simulation (50 Mbit/s, 20 to 100 ms, 20 nodes). There is as much parity as data: it is
//! only sent where data went astray, but then any half of the chunks will do.

/// The largest block that can be broadcast, in bytes.
pub const MAX_BLOCK: usize = 16 << 20;
/// The most chunks of a block, data and parity: an index has 8 bits.
pub const MAX_CHUNKS: usize = 256;
/// The longest chunk, in bytes.
pub(super) const MAX_CHUNK: usize = MAX_BLOCK / (MAX_CHUNKS / 2);

/// How a block of a certain size is cut: k data chunks and k parity chunks of the same even length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    size: usize,
    data_chunks: usize,
}

impl Shape {
    /// The shape of a block of `size` bytes. `None`: there is none for 0 bytes, or above [`MAX_BLOCK`].
    pub fn of(size: usize) -> Option<Self> {
        let data_chunks = match size {
            1..=0x8_0000 => 32,
            0x8_0001..=0x20_0000 => 64,
            0x20_0001..=MAX_BLOCK => MAX_CHUNKS / 2,
            _ => return None,
        };
        Some(Self { size, data_chunks })
    }

    /// The block's length, in bytes.
    pub fn size(&self) -> usize {
        self.size
    }

    /// k: how many chunks hold the block, and how many are enough to decode it. 32, 64 or 128.
    pub fn data_chunks(&self) -> usize {
        self.data_chunks
    }

    /// k + m: all chunks; the first k are data, the others parity. A power of two.
    pub fn chunks(&self) -> usize {
        self.data_chunks * 2
    }

    /// A chunk's length, in bytes: even, as the code wants it. The end of the block is padded with zeros.
    pub fn chunk_length(&self) -> usize {
        self.size.div_ceil(self.data_chunks).next_multiple_of(2)
    }

    /// What all chunks weigh, in bytes.
    pub fn weight(&self) -> usize {
        self.chunks() * self.chunk_length()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::test;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_shape_holds_its_block(size in 1..=MAX_BLOCK) {
            let shape = Shape::of(size).expect("in range");
            prop_assert!(shape.data_chunks() * shape.chunk_length() >= size);
            prop_assert!(shape.data_chunks() * shape.chunk_length() < size + 2 * shape.chunks());
            prop_assert!(shape.chunks().is_power_of_two() && shape.chunks() <= MAX_CHUNKS);
            prop_assert!(shape.chunk_length().is_multiple_of(2) && shape.chunk_length() <= MAX_CHUNK);
        }
    }

    #[test]
    fn absurd_sizes_have_none() {
        assert_eq!(Shape::of(0), None);
        assert_eq!(Shape::of(MAX_BLOCK + 1), None);
        assert_eq!(Shape::of(usize::MAX), None);
    }
}
