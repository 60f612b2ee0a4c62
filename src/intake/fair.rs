//! Work that waits its turn: each peer has a share, and takes turns with the others.
//!
//! Whoever brings much waits behind itself only: the next piece is taken from each in turn. What is taken out and not done
//! with yet counts on. What is our own has its turn too and no limit here: whoever makes it waits for room before.
//!
//! Bounds: what all may take up together, and each peer of it ([`Share`]). Who can be held up brings a little more, what was on its way
//! when it was told to wait ([`FairQueue::take`]); all together at most twice what all may.

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
    /// Those that wait for the room of all, in order.
    held: VecDeque<PeerId>,
}

#[derive(Debug)]
struct Waiting<T> {
    work: VecDeque<T>,
    taken: usize,
    hold: Hold,
}

/// Whether somebody is to bring no more for now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Hold {
    #[default]
    No,
    /// Its own share is used up.
    Own,
    /// That of all is: it is among those that are `held`.
    All,
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
            held: VecDeque::new(),
        }
    }

    /// Takes work in that costs so much.
    ///
    /// # Errors
    /// The work, and whose limit leaves no room for it.
    pub(crate) fn push(&mut self, from: Bringer, cost: usize, work: T) -> Result<(), (T, NoRoom)> {
        match self.lacks(&from, cost) {
            Some(no_room) => Err((work, no_room)),
            None => {
                self.enter(from, cost, work);
                Ok(())
            }
        }
    }

    /// Takes work in from a peer that can be held up, though its share or that of all is used up: says which is, and then the peer is to
    /// bring no more until [`FairQueue::relieved`] names it.
    ///
    /// # Errors
    /// The work, where it is twice what all may take up already.
    pub(crate) fn take(&mut self, from: PeerId, cost: usize, work: T) -> Result<Option<NoRoom>, T> {
        let lacks = self.lacks(&Some(from), cost);
        if lacks.is_some() && self.taken.saturating_add(cost) > self.limits.all.saturating_mul(2) {
            return Err(work);
        }
        self.enter(Some(from), cost, work);
        let share = self.shares.entry(Some(from)).or_default();
        if share.hold == Hold::No {
            share.hold = match lacks {
                None => Hold::No,
                Some(NoRoom::Peer) => Hold::Own,
                Some(NoRoom::All) => Hold::All,
            };
            if share.hold == Hold::All {
                self.held.push_back(from);
            }
        }
        Ok(lacks)
    }

    /// The next peer that may bring more again.
    pub(crate) fn relieved(&mut self) -> Option<PeerId> {
        while self.taken < self.limits.all
            && let Some(from) = self.held.pop_front()
        {
            let Some(share) = self.shares.get_mut(&Some(from)) else {
                continue;
            };
            if share.taken < self.limits.per_peer {
                share.hold = Hold::No;
                self.forget(Some(from));
                return Some(from);
            }
            share.hold = Hold::Own;
        }
        None
    }

    /// Whose limit leaves no room for work that costs so much.
    fn lacks(&self, from: &Bringer, cost: usize) -> Option<NoRoom> {
        if from.is_none() {
            None
        } else if self.taken_by(from).saturating_add(cost) > self.limits.per_peer {
            Some(NoRoom::Peer)
        } else if self.taken.saturating_add(cost) > self.limits.all {
            Some(NoRoom::All)
        } else {
            None
        }
    }

    /// Takes work in whatever the limits say.
    pub(crate) fn enter(&mut self, from: Bringer, cost: usize, work: T) {
        if from.is_some() {
            self.taken += cost;
        }
        let share = self.shares.entry(from).or_default();
        share.taken += cost;
        if share.work.is_empty() {
            self.turns.push_back(from);
        }
        share.work.push_back(work);
    }

    /// Nothing is kept of who has nothing here and waits for nothing.
    fn forget(&mut self, from: Bringer) {
        let is_over = |share: &Waiting<T>| {
            share.taken == 0 && share.work.is_empty() && share.hold == Hold::No
        };
        if self.shares.get(&from).is_some_and(is_over) {
            self.shares.remove(&from);
        }
    }

    /// Whether work of somebody's that costs so much would be taken in.
    pub(crate) fn fits(&self, from: &Bringer, cost: usize) -> bool {
        self.lacks(from, cost).is_none()
    }

    /// The next work that is `wanted`, of what each has in front.
    pub(crate) fn pop_if(&mut self, mut wanted: impl FnMut(&T) -> bool) -> Option<T> {
        let front = |from| self.shares.get(from)?.work.front();
        let is_wanted = |from| front(from).is_some_and(&mut wanted);
        let turn = self.turns.iter().position(is_wanted)?;
        let from = self.turns.remove(turn)?;
        let share = self.shares.get_mut(&from)?;
        let work = share.work.pop_front();
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
        if let Some(from) = from {
            self.taken = self.taken.saturating_sub(cost);
            if share.hold == Hold::Own && share.taken < self.limits.per_peer {
                share.hold = Hold::All;
                self.held.push_back(from);
            }
        }
        self.forget(from);
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
            hold: Hold::No,
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

    #[test]
    fn who_can_be_held_up_is_until_there_is_room() {
        let [one, two] = [PeerId::random(), PeerId::random()];
        let mut queue = FairQueue::new(LIMITS);
        assert_eq!(queue.take(one, 30, 1), Ok(None));
        assert_eq!(
            queue.take(one, 30, 2),
            Ok(Some(NoRoom::Peer)),
            "above its share"
        );
        assert_eq!(queue.take(two, 30, 3), Ok(None));
        assert_eq!(queue.take(two, 30, 4), Ok(Some(NoRoom::Peer)));
        assert_eq!(queue.take(two, 90, 5), Err(5), "twice what all may");
        assert_eq!(queue.relieved(), None);
        let order: Vec<_> = std::iter::from_fn(|| queue.pop()).collect();
        assert_eq!(order, [1, 3, 2, 4]);
        queue.done(Some(one), 30);
        assert_eq!((queue.relieved(), queue.relieved()), (Some(one), None));
        queue.done(Some(two), 30);
        assert_eq!((queue.relieved(), queue.relieved()), (Some(two), None));
        queue.done(Some(two), 30);
        queue.done(Some(one), 30);
        assert!(queue.shares.is_empty() && queue.held.is_empty());
    }

    #[test]
    fn who_brings_more_than_all_have_room_for_is_told_that_it_is_not_its_own_limit() {
        let mut queue = FairQueue::new(LIMITS);
        for number in 0..3 {
            let told = queue.take(PeerId::random(), 40, number);
            assert_eq!(told, Ok((number == 2).then_some(NoRoom::All)));
        }
    }

    proptest! {
        #[test]
        fn who_is_held_up_is_relieved(steps in proptest::collection::vec((0usize..5, 0usize..30, any::<bool>()), 1..300)) {
            let peers: Vec<_> = (0..5).map(|_| PeerId::random()).collect();
            let (mut queue, mut held) = (FairQueue::new(LIMITS), std::collections::HashSet::new());
            for (peer, cost, add) in steps {
                let from = peers[peer];
                if add {
                    match queue.take(from, cost, (from, cost)) {
                        Ok(None) => {}
                        Ok(Some(_)) => drop(held.insert(from)),
                        Err(_) => prop_assert!(queue.taken + cost > LIMITS.all),
                    }
                } else if let Some((from, cost)) = queue.pop() {
                    queue.done(Some(from), cost);
                }
                held = held.difference(&std::iter::from_fn(|| queue.relieved()).collect()).copied().collect();
                prop_assert!(queue.taken <= 2 * LIMITS.all);
            }
            while let Some((from, cost)) = queue.pop() {
                queue.done(Some(from), cost);
            }
            held = held.difference(&std::iter::from_fn(|| queue.relieved()).collect()).copied().collect();
            prop_assert!(held.is_empty() && queue.held.is_empty() && queue.shares.is_empty() && queue.taken == 0);
        }

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
