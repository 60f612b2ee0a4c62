//! Work that waits its turn: each peer has a share, and takes turns with the others.
//!
//! Whoever brings much waits behind itself only: the next piece is taken from each in turn. What is taken out and not done
//! with yet counts on. Bounds: what all may take up together, and each peer of it ([`Share`]). What is our own has
//! its turn too and no limit here: whoever makes it waits for room before.

use std::collections::{HashMap, VecDeque};

use libp2p::PeerId;

use crate::config::Share;

/// Who brought it; `None`: it is our own.
pub(crate) type Bringer = Option<PeerId>;

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct FairQueue<T> {
    limits: Share,
    shares: HashMap<Bringer, Waiting<T>>,
    /// Those with something that waits; the next one in front.
    turns: VecDeque<Bringer>,
    /// What peers take up.
    taken: usize,
}

#[derive(Debug)]
struct Waiting<T> {
    work: VecDeque<T>,
    taken: usize,
}

/// Whose limit leaves no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoRoom {
    /// The peer's own: it has brought too much at once.
    Peer,
    /// That of all peers.
    All,
}

impl<T> FairQueue<T> {
    pub(crate) fn new(limits: Share) -> Self {
        Self {
            limits,
            shares: HashMap::new(),
            turns: VecDeque::new(),
            taken: 0,
        }
    }

    /// Takes work in that costs so much.
    ///
    /// # Errors
    /// The work, and whose limit leaves no room for it.
    pub(crate) fn push(&mut self, from: Bringer, cost: usize, work: T) -> Result<(), (T, NoRoom)> {
        if from.is_some() {
            if self.taken_by(&from).saturating_add(cost) > self.limits.per_peer {
                return Err((work, NoRoom::Peer));
            }
            if self.taken.saturating_add(cost) > self.limits.all {
                return Err((work, NoRoom::All));
            }
            self.taken += cost;
        }
        let share = self.shares.entry(from).or_default();
        share.taken += cost;
        if share.work.is_empty() {
            self.turns.push_back(from);
        }
        share.work.push_back(work);
        Ok(())
    }

    /// Whether work of somebody's that costs so much would be taken in.
    pub(crate) fn fits(&self, from: &Bringer, cost: usize) -> bool {
        let peer = self.taken_by(from).saturating_add(cost) <= self.limits.per_peer;
        from.is_none() || peer && self.taken.saturating_add(cost) <= self.limits.all
    }

    /// The next work, if `wanted` says so of it.
    pub(crate) fn pop_if(&mut self, wanted: impl FnOnce(&T) -> bool) -> Option<T> {
        let from = self.turns.front().copied()?;
        let share = self.shares.get_mut(&from)?;
        if !share.work.front().is_some_and(wanted) {
            return None;
        }
        let work = share.work.pop_front();
        self.turns.pop_front();
        if !share.work.is_empty() {
            self.turns.push_back(from);
        }
        work
    }

    /// The next work.
    pub(crate) fn pop(&mut self) -> Option<T> {
        self.pop_if(|_| true)
    }

    /// Work that was taken out is done with: its room is free.
    pub(crate) fn done(&mut self, from: Bringer, cost: usize) {
        let Some(share) = self.shares.get_mut(&from) else {
            return;
        };
        share.taken = share.taken.saturating_sub(cost);
        if share.taken == 0 && share.work.is_empty() {
            self.shares.remove(&from);
        }
        if from.is_some() {
            self.taken = self.taken.saturating_sub(cost);
        }
    }

    /// What somebody takes up.
    pub(crate) fn taken_by(&self, from: &Bringer) -> usize {
        self.shares.get(from).map_or(0, |share| share.taken)
    }
}

impl<T> Default for Waiting<T> {
    fn default() -> Self {
        Self {
            work: VecDeque::new(),
            taken: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::test;
    use proptest::prelude::*;

    const LIMITS: Share = Share {
        all: 100,
        per_peer: 40,
    };

    #[test]
    fn one_peer_takes_its_share_and_waits_behind_itself_only() {
        let (many, few) = (Some(PeerId::random()), Some(PeerId::random()));
        let mut queue = FairQueue::new(LIMITS);
        for number in 0..4 {
            assert_eq!(queue.push(many, 10, number), Ok(()));
        }
        assert_eq!(queue.push(many, 10, 4), Err((4, NoRoom::Peer)));
        assert_eq!(queue.push(few, 10, 10), Ok(()));
        assert_eq!(queue.push(None, 1000, 20), Ok(()), "our own");
        let order: Vec<_> = std::iter::from_fn(|| queue.pop()).collect();
        assert_eq!(order, [0, 10, 20, 1, 2, 3]);
        assert_eq!(queue.push(many, 10, 4), Err((4, NoRoom::Peer)), "not done");
        queue.done(many, 10);
        assert_eq!(queue.push(many, 10, 4), Ok(()));
        let third = Some(PeerId::random());
        assert_eq!(queue.push(third, 40, 30), Ok(()));
        let fourth = Some(PeerId::random());
        assert_eq!(queue.push(fourth, 20, 40), Err((40, NoRoom::All)));
    }

    proptest! {
        #[test]
        fn nobody_takes_more_than_the_limits_and_nothing_stays(steps in proptest::collection::vec((0usize..5, 0usize..30, any::<bool>()), 1..300)) {
            let peers: Vec<_> = (0..5).map(|_| PeerId::random()).collect();
            let mut queue = FairQueue::new(LIMITS);
            let mut running = Vec::new();
            for (peer, cost, add) in steps {
                if add {
                    let from = Some(peers[peer]);
                    let _ = queue.push(from, cost, (from, cost));
                } else if let Some(work) = queue.pop() {
                    running.push(work);
                } else if let Some((from, cost)) = running.pop() {
                    queue.done(from, cost);
                }
                prop_assert!(queue.taken <= LIMITS.all);
                prop_assert!(peers.iter().all(|peer| queue.taken_by(&Some(*peer)) <= LIMITS.per_peer));
            }
            running.extend(std::iter::from_fn(|| queue.pop()));
            running.into_iter().for_each(|(from, cost)| queue.done(from, cost));
            prop_assert!(queue.taken == 0 && queue.turns.is_empty() && queue.shares.is_empty());
        }
    }
}
