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
//! **What the pool had no room for.** It was good, and paid less than the rest. If it were remembered as long as the others, a flood of
//! better payers would keep it out long after the flood is in a block; if it were not, peers would offer and fetch it without end.
//! So it has a memory of its own, which is short: it is forgotten when the pool has room again ([`Seen::forget_crowded_out`]), and
//! after [`CROWDED`] to twice that in any case. And its maker may hand it in again at any time. Taken up again, it is
//! checked and handed to the application once more.
//!
//! Bounds: six sets of so many ids, about 14 MiB when all are full with the default, which is what a table of 2^18 places takes; each has
//! 9 bytes.

use std::{collections::HashSet, mem, time::Duration};

use crate::{chain::ShortId, keyed::Keyed, platform::Instant};

/// How long at least a transaction is remembered for which the pool had no room.
pub const CROWDED: Duration = Duration::from_secs(60);

/// See the module's documentation.
#[derive(Debug)]
pub struct Seen {
    accepted: Memory,
    rejected: Memory,
    crowded: Memory,
    /// When the younger generation of those becomes the elder; `None`: there are none.
    ages_at: Option<Instant>,
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
            crowded: Memory::new(seed, generation),
            ages_at: None,
        }
    }

    /// Whether this was accepted, and is here no more, or rejected lately.
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

    /// The chain has accepted it, and the pool has no room for it.
    pub fn crowd_out(&mut self, id: ShortId, now: Instant) {
        self.crowded.insert(id);
        self.ages_at.get_or_insert(now + CROWDED);
    }

    /// Whether the pool had no room for this lately.
    pub fn is_crowded_out(&self, id: ShortId) -> bool {
        self.crowded.contains(id)
    }

    /// The pool has room again: what had none may come.
    pub fn forget_crowded_out(&mut self) {
        if self.ages_at.take().is_some() {
            self.crowded.age();
            self.crowded.age();
        }
    }

    /// Forgets what had no room long ago.
    pub fn on_time(&mut self, now: Instant) {
        while self.ages_at.is_some_and(|at| at <= now) {
            self.crowded.age();
            let next = self.ages_at.map(|at| at + CROWDED);
            self.ages_at = next.filter(|_| !self.crowded.is_empty());
        }
    }

    /// When [`Self::on_time`] has something to do.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.ages_at
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
            self.age();
        }
        self.younger.insert(id);
    }

    /// The elder generation is forgotten, and the younger one takes its place.
    fn age(&mut self) {
        mem::swap(&mut self.younger, &mut self.elder);
        self.younger.clear();
    }

    fn is_empty(&self) -> bool {
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

    #[test]
    fn what_had_no_room_is_known_for_a_while_or_until_there_is_some() {
        let (mut seen, now) = (Seen::new(100, &[7; 16]), crate::platform::now());
        seen.crowd_out(id(1), now);
        seen.on_time(now + CROWDED * 3 / 2);
        seen.crowd_out(id(2), now + CROWDED * 3 / 2);
        assert!(seen.is_crowded_out(id(1)) && !seen.contains(id(1)));
        seen.on_time(now + CROWDED * 2);
        assert!(!seen.is_crowded_out(id(1)) && seen.is_crowded_out(id(2)));
        seen.forget_crowded_out();
        assert!(!seen.is_crowded_out(id(2)) && seen.next_deadline().is_none());
        // Long asleep.
        seen.crowd_out(id(3), now + CROWDED * 4);
        seen.on_time(now + CROWDED * 400);
        assert!(!seen.is_crowded_out(id(3)) && seen.next_deadline().is_none());
    }

    #[test]
    fn a_flood_of_what_has_no_room_is_bounded() {
        let (mut seen, now) = (Seen::new(10, &[7; 16]), crate::platform::now());
        (0..1000).for_each(|number| seen.crowd_out(id(number), now));
        let known = (0..1000).filter(|number| seen.is_crowded_out(id(*number)));
        assert!((10..=20).contains(&known.count()));
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
