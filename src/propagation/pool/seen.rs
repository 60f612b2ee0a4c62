//! The names of what was here lately, so that a copy costs a lookup and never a check.
//!
//! A transaction leaves the pool when a block takes it up, and one that the chain has rejected never enters it; peers go on
//! offering both for a while. Two memories keep their short ids: a flood of rejected transactions pushes out only what was
//! rejected before.
//!
//! Each memory is two generations: ids go into the younger one, and when that is full it becomes the elder and the elder is
//! forgotten. So the last [`MempoolConfig::max_seen`](super::MempoolConfig) ids at least are known, and at most twice as many. A false hit needs two
//! transactions with one [`ShortId`], by chance one in 2^64 / 2^18 = 2^46 new ones; [`ShortId`] says what it costs to craft one.
//!
//! What the pool does not take for a while only is another matter (`unwanted.rs`).
//!
//! Bounds: four sets of so many ids, about 9 MiB when all are full with the default, which is what a table of 2^18 places takes; each has
//! 9 bytes.

use std::{collections::HashMap, mem};

use crate::{chain::ShortId, keyed::Keyed};

/// See the module's documentation.
#[derive(Debug)]
pub struct Seen {
    accepted: Memory<()>,
    rejected: Memory<()>,
}

/// The names that were noted last, with something about each.
#[derive(Debug)]
pub(super) struct Memory<V> {
    younger: HashMap<ShortId, V, Keyed>,
    elder: HashMap<ShortId, V, Keyed>,
    generation: usize,
}

impl Seen {
    /// Nothing was here; `generation` ids of either kind are remembered at least. `seed` keys the tables: 16 random
    /// bytes that no peer knows.
    pub fn new(generation: usize, seed: &[u8; 16]) -> Self {
        Self {
            accepted: Memory::new(seed, generation),
            rejected: Memory::new(seed, generation),
        }
    }

    /// Whether this was accepted, and is here no more, or rejected lately.
    pub fn contains(&self, id: ShortId) -> bool {
        self.accepted.contains(id) || self.rejected.contains(id)
    }

    /// The chain has accepted it.
    pub fn accept(&mut self, id: ShortId) {
        self.accepted.insert(id, ());
    }

    /// The chain has rejected it, for good.
    pub fn reject(&mut self, id: ShortId) {
        self.rejected.insert(id, ());
    }
}

impl<V> Memory<V> {
    /// The last `generation` names at least, and at most twice as many.
    pub(super) fn new(seed: &[u8; 16], generation: usize) -> Self {
        let table = || HashMap::with_hasher(Keyed::new(seed));
        Self {
            younger: table(),
            elder: table(),
            generation,
        }
    }

    pub(super) fn contains(&self, id: ShortId) -> bool {
        self.younger.contains_key(&id) || self.elder.contains_key(&id)
    }

    /// What was noted last.
    pub(super) fn get(&self, id: ShortId) -> Option<&V> {
        self.younger.get(&id).or_else(|| self.elder.get(&id))
    }

    /// All that is noted, in no order; what was noted twice may stand there twice.
    pub(super) fn values(&self) -> impl Iterator<Item = &V> {
        self.younger.values().chain(self.elder.values())
    }

    pub(super) fn insert(&mut self, id: ShortId, value: V) {
        if self.younger.len() >= self.generation {
            self.age();
        }
        self.younger.insert(id, value);
    }

    /// The elder generation is forgotten, and the younger one takes its place.
    pub(super) fn age(&mut self) {
        mem::swap(&mut self.younger, &mut self.elder);
        self.younger.clear();
    }

    pub(super) fn is_empty(&self) -> bool {
        self.younger.is_empty() && self.elder.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::test;
    use proptest::prelude::*;

    fn id(number: u64) -> ShortId {
        ShortId::new(number.to_le_bytes())
    }

    #[test]
    fn a_flood_of_rejected_ones_pushes_out_no_accepted_one() {
        let mut seen = Seen::new(100, &[7; 16]);
        seen.accept(id(1));
        for number in 2..300 {
            seen.reject(id(number));
        }
        assert!(seen.contains(id(1)) && !seen.contains(id(2)));
        assert!(!seen.contains(id(0)));
    }

    proptest! {
        #[test]
        fn the_last_ones_are_known_and_no_more_than_twice_as_many(numbers in proptest::collection::vec(0u64..200, 0..400)) {
            let mut memory = Memory::new(&[1; 16], 20);
            for (place, number) in numbers.iter().enumerate() {
                memory.insert(id(*number), ());
                for known in &numbers[(place + 1).saturating_sub(20)..=place] {
                    prop_assert!(memory.contains(id(*known)));
                }
                prop_assert!(memory.younger.len() <= 20 && memory.elder.len() <= 20);
            }
        }
    }
}
