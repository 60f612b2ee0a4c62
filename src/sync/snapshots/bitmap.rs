//! Which chunks of a snapshot: one bit for each.

use bytes::Bytes;

use crate::chain::MAX_SNAPSHOT_CHUNKS;

/// A set of places below a length that is fixed when it is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bitmap {
    words: Vec<u64>,
    length: u32,
    count: u32,
}

impl Bitmap {
    /// No place of so many; of more than [`MAX_SNAPSHOT_CHUNKS`], those.
    pub fn new(length: u32) -> Self {
        let length = length.min(MAX_SNAPSHOT_CHUNKS);
        Self {
            words: vec![0; length.div_ceil(64) as usize],
            length,
            count: 0,
        }
    }

    /// Every place of so many.
    pub fn all(length: u32) -> Self {
        let mut all = Self::new(length);
        for place in 0..all.length {
            all.insert(place);
        }
        all
    }

    /// How many places there are, in the set or not.
    pub fn length(&self) -> u32 {
        self.length
    }

    /// How many are in the set.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Whether all are in the set.
    pub fn is_full(&self) -> bool {
        self.count == self.length
    }

    /// Whether a place is in the set.
    pub fn contains(&self, place: u32) -> bool {
        let word = self.words.get((place / 64) as usize);
        word.is_some_and(|word| word >> (place % 64) & 1 == 1)
    }

    /// Adds a place. False: it was in the set, or there is no such place.
    pub fn insert(&mut self, place: u32) -> bool {
        let new = place < self.length && !self.contains(place);
        if new && let Some(word) = self.words.get_mut((place / 64) as usize) {
            *word |= 1 << (place % 64);
            self.count += 1;
        }
        new
    }

    /// Takes a place out. False: it was not in the set.
    pub fn remove(&mut self, place: u32) -> bool {
        let known = self.contains(place);
        if known && let Some(word) = self.words.get_mut((place / 64) as usize) {
            *word &= !(1 << (place % 64));
            self.count -= 1;
        }
        known
    }

    /// The places in the set, rising.
    pub fn iter(&self) -> impl Iterator<Item = u32> {
        (0..)
            .step_by(64)
            .zip(&self.words)
            .flat_map(|(start, word)| {
                let mut word = *word;
                std::iter::from_fn(move || {
                    let bit = word.trailing_zeros();
                    word &= word.checked_sub(1)?;
                    Some(start + bit)
                })
            })
    }

    /// The places that are in this set and not in the other, rising: a word at a time where there are none.
    pub fn without<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = u32> + 'a {
        let words = self.words.iter().enumerate();
        let left =
            words.filter(|(at, word)| *word & !other.words.get(*at).copied().unwrap_or(0) != 0);
        left.flat_map(move |(at, _)| {
            let start = u32::try_from(at * 64).unwrap_or(u32::MAX);
            (start..start.saturating_add(64))
                .filter(|place| self.contains(*place) && !other.contains(*place))
        })
    }

    /// The set on the wire: place i is bit i % 8, counted from the lowest, of byte i / 8; zeros at the end are left out.
    pub fn to_bytes(&self) -> Bytes {
        let words = self.words.iter();
        let mut bytes: Vec<u8> = words.flat_map(|word| word.to_le_bytes()).collect();
        let end = bytes.iter().rposition(|&byte| byte != 0);
        bytes.truncate(end.map_or(0, |last| last + 1));
        bytes.into()
    }

    /// Reads what [`Bitmap::to_bytes`] wrote, for so many places. `None`: a bit beyond them, or longer than it may be.
    pub fn from_bytes(bytes: &[u8], length: u32) -> Option<Self> {
        let mut map = Self::new(length);
        if bytes.len() > map.length.div_ceil(8) as usize {
            return None;
        }
        for (word, bytes) in map.words.iter_mut().zip(bytes.chunks(8)) {
            let mut all = [0; 8];
            all.get_mut(..bytes.len())?.copy_from_slice(bytes);
            *word = u64::from_le_bytes(all);
            map.count += word.count_ones();
        }
        let over = map.words.last().is_some_and(|last| match length % 64 {
            0 => false,
            bits => last >> bits != 0,
        });
        (!over).then_some(map)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::platform::test;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn it_is_a_set(length in 0u32..300, steps in prop::collection::vec((any::<bool>(), 0u32..320), 0..200)) {
            let (mut map, mut set) = (Bitmap::new(length), BTreeSet::new());
            for (insert, place) in steps {
                if insert {
                    prop_assert_eq!(map.insert(place), place < length && set.insert(place));
                } else {
                    prop_assert_eq!(map.remove(place), set.remove(&place));
                }
            }
            prop_assert!(map.iter().eq(set.iter().copied()));
            prop_assert_eq!(map.count() as usize, set.len());
            let all = Bitmap::all(length);
            prop_assert!(all.is_full());
            let missing: Vec<_> = (0..length).filter(|place| !set.contains(place)).collect();
            prop_assert_eq!(all.without(&map).collect::<Vec<_>>(), missing);
            prop_assert_eq!(Bitmap::from_bytes(&map.to_bytes(), length), Some(map));
        }

        #[test]
        fn bytes_are_a_set_or_none(bytes in prop::collection::vec(any::<u8>(), 0..40), length in 0u32..300) {
            if let Some(map) = Bitmap::from_bytes(&bytes, length) {
                prop_assert!(map.iter().all(|place| place < length));
                prop_assert_eq!(map.iter().count(), map.count() as usize);
            }
        }
    }
}
