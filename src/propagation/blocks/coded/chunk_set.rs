//! Which chunks of a broadcast: one bit for each.

use std::ops::{BitAnd, BitOr, Sub};

use bytes::Bytes;

use super::MAX_CHUNKS;

/// A set of chunk indexes: ethp2p's havelist. 32 bytes, whatever is in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChunkSet([u64; MAX_CHUNKS / 64]);

impl ChunkSet {
    /// No chunk.
    pub const EMPTY: Self = Self([0; MAX_CHUNKS / 64]);

    /// The chunks below `count`; all where it is [`MAX_CHUNKS`] or more.
    pub fn first(count: usize) -> Self {
        let mut set = Self::EMPTY;
        for (word, start) in set.0.iter_mut().zip((0..).step_by(64)) {
            *word = match count.saturating_sub(start) {
                0 => 0,
                bits @ 1..64 => (1 << bits) - 1,
                _ => u64::MAX,
            };
        }
        set
    }

    /// Whether this chunk is in the set.
    pub fn contains(&self, index: u8) -> bool {
        let word = self.0.get(usize::from(index / 64));
        word.is_some_and(|word| word >> (index % 64) & 1 == 1)
    }

    /// Adds a chunk. False: it was in the set.
    pub fn insert(&mut self, index: u8) -> bool {
        let new = !self.contains(index);
        if let Some(word) = self.0.get_mut(usize::from(index / 64)) {
            *word |= 1 << (index % 64);
        }
        new
    }

    /// Takes a chunk out. False: it was not in the set.
    pub fn remove(&mut self, index: u8) -> bool {
        let known = self.contains(index);
        if let Some(word) = self.0.get_mut(usize::from(index / 64)) {
            *word &= !(1 << (index % 64));
        }
        known
    }

    /// How many chunks are in the set.
    pub fn len(&self) -> usize {
        let count: u32 = self.0.iter().map(|word| word.count_ones()).sum();
        usize::try_from(count).unwrap_or(MAX_CHUNKS)
    }

    /// Whether no chunk is in the set.
    pub fn is_empty(&self) -> bool {
        *self == Self::EMPTY
    }

    /// The chunks, rising.
    pub fn iter(self) -> impl Iterator<Item = u8> {
        let words = self.0.into_iter().zip((0..=u8::MAX).step_by(64));
        words.flat_map(|(mut word, start)| {
            std::iter::from_fn(move || {
                let lowest = u8::try_from(word.trailing_zeros()).ok();
                let bit = lowest.filter(|bit| *bit < 64)?;
                word &= word - 1;
                Some(start + bit)
            })
        })
    }

    /// The set on the wire: chunk i is bit i % 8, counted from the lowest, of byte i / 8; zeros at the end are left
    /// out.
    pub(super) fn to_bytes(self) -> Bytes {
        let mut bytes: Vec<u8> = self.0.into_iter().flat_map(u64::to_le_bytes).collect();
        let end = bytes.iter().rposition(|&byte| byte != 0);
        bytes.truncate(end.map_or(0, |last| last + 1));
        bytes.into()
    }

    /// Reads what [`ChunkSet::to_bytes`] wrote. `None`: more bytes than there are chunks for.
    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut all = [0; MAX_CHUNKS / 8];
        all.get_mut(..bytes.len())?.copy_from_slice(bytes);
        let (words, _) = all.as_chunks();
        let mut set = Self::EMPTY;
        for (word, bytes) in set.0.iter_mut().zip(words) {
            *word = u64::from_le_bytes(*bytes);
        }
        Some(set)
    }
}

impl BitOr for ChunkSet {
    type Output = Self;

    fn bitor(mut self, other: Self) -> Self {
        for (word, other) in self.0.iter_mut().zip(other.0) {
            *word |= other;
        }
        self
    }
}

impl BitAnd for ChunkSet {
    type Output = Self;

    fn bitand(mut self, other: Self) -> Self {
        for (word, other) in self.0.iter_mut().zip(other.0) {
            *word &= other;
        }
        self
    }
}

impl Sub for ChunkSet {
    type Output = Self;

    fn sub(mut self, other: Self) -> Self {
        for (word, other) in self.0.iter_mut().zip(other.0) {
            *word &= !other;
        }
        self
    }
}

impl FromIterator<u8> for ChunkSet {
    fn from_iter<T: IntoIterator<Item = u8>>(indexes: T) -> Self {
        let mut set = Self::EMPTY;
        for index in indexes {
            set.insert(index);
        }
        set
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::platform::test;
    use proptest::prelude::*;

    fn both(indexes: &BTreeSet<u8>) -> ChunkSet {
        indexes.iter().copied().collect()
    }

    proptest! {
        #[test]
        fn a_set_is_a_set(a: BTreeSet<u8>, b: BTreeSet<u8>, index: u8) {
            let (x, y) = (both(&a), both(&b));
            prop_assert_eq!(x.len(), a.len());
            prop_assert!(x.iter().eq(a.iter().copied()));
            prop_assert_eq!(x | y, both(&(&a | &b)));
            prop_assert_eq!(x & y, both(&(&a & &b)));
            prop_assert_eq!(x - y, both(&(&a - &b)));
            let mut with = x;
            prop_assert_eq!(with.insert(index), !a.contains(&index));
            prop_assert!(with.contains(index) && with.remove(index) && !with.contains(index));
            prop_assert!(!with.remove(index));
        }

        #[test]
        fn its_bytes_are_read_again(indexes: BTreeSet<u8>, bytes: Vec<u8>) {
            prop_assert_eq!(ChunkSet::from_bytes(&both(&indexes).to_bytes()), Some(both(&indexes)));
            prop_assert_eq!(ChunkSet::from_bytes(&bytes).is_some(), bytes.len() <= 32);
        }
    }

    #[test]
    fn the_first_so_many() {
        for count in [0, 1, 63, 64, 65, 255, 256, 300] {
            assert_eq!(
                ChunkSet::first(count).iter().map(usize::from).max(),
                count.min(256).checked_sub(1),
            );
            assert_eq!(ChunkSet::first(count).len(), count.min(256));
        }
    }
}
