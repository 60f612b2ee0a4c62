//! The names of what was here lately, so that a copy costs a lookup and never a check.
//!
//! A transaction leaves the pool when a block takes it up or a better payer needs its room, and one that the chain has rejected
//! never enters it; peers go on offering both for a while. Two memories keep their short ids: a flood of
//! rejected transactions pushes out only what was rejected before.
//!
//! Each memory is two generations: ids go into the younger one, and when that is full it becomes the elder and the elder is
//! forgotten. So the last [`MempoolConfig::max_seen`](super::MempoolConfig) ids at least are known, and at most twice as many. A false hit needs two
//! transactions with one [`ShortId`], by chance one in 2^64 / 2^18 = 2^46 new ones; [`ShortId`] says what it costs to craft one.
//!
//! Bounds: four sets of so many ids, about 18 MiB when all are full with the default of 2^18: tables of 2^19 places with 9 bytes each.

use std::{collections::HashSet, mem};

use crate::{chain::ShortId, propagation::keyed::Keyed};

/// See the module's documentation.
#[derive(Debug)]
pub struct Seen {
    accepted: Memory,
    rejected: Memory,
}

#[derive(Debug)]
struct Memory {
    younger: HashSet<ShortId, Keyed>,
    elder: HashSet<ShortId, Keyed>,
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

    /// Whether this was accepted or rejected lately.
    pub fn contains(&self, id: ShortId) -> bool {
        self.accepted.contains(id) || self.rejected.contains(id)
    }

    /// The chain has accepted it.
    pub fn accept(&mut self, id: ShortId) {
        self.accepted.insert(id);
    }

    /// The chain has rejected it, for good.
    pub fn reject(&mut self, id: ShortId) {
        self.rejected.insert(id);
    }
}

impl Memory {
    fn new(seed: &[u8; 16], generation: usize) -> Self {
        let set = || HashSet::with_hasher(Keyed::new(seed));
        Self {
            younger: set(),
            elder: set(),
            generation,
        }
    }

    fn contains(&self, id: ShortId) -> bool {
        self.younger.contains(&id) || self.elder.contains(&id)
    }

    fn insert(&mut self, id: ShortId) {
        if self.younger.len() >= self.generation {
            mem::swap(&mut self.younger, &mut self.elder);
            self.younger.clear();
        }
        self.younger.insert(id);
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
                memory.insert(id(*number));
                for known in &numbers[(place + 1).saturating_sub(20)..=place] {
                    prop_assert!(memory.contains(id(*known)));
                }
                prop_assert!(memory.younger.len() <= 20 && memory.elder.len() <= 20);
            }
        }
    }
}
