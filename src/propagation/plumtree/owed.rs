//! What a peer was asked for and has not sent: what of it comes is an answer and no push, whether it is needed by then or not.
//!
//! Asked for is what a fetch names, and what was wanted of the peer at the end of a comparison of pools. Both are known by their names, so an answer excuses
//! nothing else that comes; and what is not answered is forgotten after [`LASTS`] to twice that.
//!
//! Bounds: of what was fetched, the last [`MOST_ASKED`] ids at least, and twice as many at most; of one comparison what it found, and of all peers together
//! [`MOST_AWAITED`] (`Plumtree::awaits`).

use std::{collections::HashMap, mem, time::Duration};

use super::MOST_ASKED;
use crate::{
    chain::{ShortId, TransactionKey},
    keyed::Keyed,
    platform::Instant,
    propagation::pool::reconcile::Awaited,
};

/// How long an answer is known as one, at least.
const LASTS: Duration = Duration::from_secs(30);
/// What is awaited of all peers together after comparisons of pools: what ten of them may find.
pub(super) const MOST_AWAITED: usize = 1 << 18;

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Owed {
    /// How often each was asked for.
    younger: HashMap<ShortId, u32, Keyed>,
    elder: HashMap<ShortId, u32, Keyed>,
    ages_at: Option<Instant>,
    awaited: Option<(Instant, Awaited)>,
}

/// What something answers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Answers {
    Fetch,
    /// It was wanted after a comparison of pools.
    Want,
}

impl Owed {
    pub(super) fn new(keyed: &Keyed) -> Self {
        let table = || HashMap::with_hasher(keyed.clone());
        Self {
            younger: table(),
            elder: table(),
            ages_at: None,
            awaited: None,
        }
    }

    /// The peer is asked for these.
    pub(super) fn asked(&mut self, ids: &[ShortId], now: Instant) {
        self.turn(now);
        self.ages_at.get_or_insert(now + LASTS);
        for id in ids {
            if self.younger.len() >= MOST_ASKED {
                self.age();
            }
            *self.younger.entry(*id).or_default() += 1;
        }
    }

    /// These were wanted of the peer, instead of what was before.
    pub(super) fn awaits(&mut self, awaited: Awaited, now: Instant) {
        self.awaited = (!awaited.is_empty()).then(|| (now + 2 * LASTS, awaited));
    }

    /// How many were wanted of it, where some of them are to come yet.
    pub(super) fn awaited(&self) -> usize {
        self.awaited
            .as_ref()
            .map_or(0, |(_, awaited)| awaited.len())
    }

    /// What was wanted of it is pushed by all that is known here.
    pub(super) fn forget_awaited(&mut self) {
        self.awaited = None;
    }

    /// Something came of the peer: what it answers, if anything.
    pub(super) fn came(&mut self, key: &TransactionKey, now: Instant) -> Option<Answers> {
        if self.missing(key.short(), now) {
            return Some(Answers::Fetch);
        }
        let (_, awaited) = self.awaited.as_mut()?;
        let came = awaited.came(key);
        if awaited.is_empty() {
            self.awaited = None;
        }
        came.then_some(Answers::Want)
    }

    /// The peer does not have something. Whether it was asked for it.
    pub(super) fn missing(&mut self, id: ShortId, now: Instant) -> bool {
        self.turn(now);
        for asked in [&mut self.elder, &mut self.younger] {
            let Some(times) = asked.get_mut(&id) else {
                continue;
            };
            *times -= 1;
            if *times == 0 {
                asked.remove(&id);
            }
            return true;
        }
        false
    }

    /// Forgets what was asked for long ago.
    fn turn(&mut self, now: Instant) {
        self.awaited.take_if(|(until, _)| *until <= now);
        while self.ages_at.is_some_and(|at| at <= now) {
            self.age();
            let next = self.ages_at.map(|at| at + LASTS);
            self.ages_at = next.filter(|_| !self.elder.is_empty());
        }
    }

    fn age(&mut self) {
        mem::swap(&mut self.younger, &mut self.elder);
        self.younger.clear();
    }
}

#[cfg(test)]
impl Owed {
    /// Whether nothing is owed.
    pub(super) fn is_empty(&self) -> bool {
        self.younger.is_empty() && self.elder.is_empty() && self.awaited.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::test;

    fn keys(count: u64) -> Vec<TransactionKey> {
        let keys = (0..count).map(|number| TransactionKey::of(&number.to_le_bytes()));
        keys.collect()
    }

    fn ids(keys: &[TransactionKey]) -> Vec<ShortId> {
        keys.iter().map(TransactionKey::short).collect()
    }

    #[test]
    fn each_question_has_one_answer_and_a_minute_at_most() {
        let (mut owed, now) = (Owed::new(&Keyed::new(&[7; 16])), crate::platform::now());
        let keys = keys(4);
        owed.asked(&ids(&keys[..3]), now);
        owed.asked(&ids(&keys[..1]), now + LASTS);
        let mut came = |place: usize, at| owed.came(&keys[place], at);
        let later = now + LASTS;
        assert_eq!(
            [0, 0, 0].map(|place| came(place, later).is_some()),
            [true, true, false]
        );
        assert_eq!(
            [1, 3].map(|place| came(place, later)),
            [Some(Answers::Fetch), None]
        );
        assert_eq!(came(2, now + 2 * LASTS), None);
        assert!(owed.is_empty() && owed.ages_at.is_none());
    }

    #[test]
    fn what_is_asked_for_without_end_is_bounded() {
        let (mut owed, now) = (Owed::new(&Keyed::new(&[7; 16])), crate::platform::now());
        let keys = keys(3 * MOST_ASKED as u64);
        for some in ids(&keys).chunks(4096) {
            owed.asked(some, now);
            assert!(owed.younger.len() <= MOST_ASKED && owed.elder.len() <= MOST_ASKED);
        }
        let known = keys.iter().filter(|key| owed.came(key, now).is_some());
        assert!(known.count() >= MOST_ASKED);
    }
}
