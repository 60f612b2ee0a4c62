//! Whom to dial, and when again.
//!
//! A state machine without I/O. It knows the user's peers (bootstrap peers, each with all its addresses however the list writes
//! them, and added ones), and those found on the local network; whom strangers named is in the address book (`book.rs`). Of them so many are due as
//! are wanted: who has been due longest comes first, neighbours later by [`Teller::handicap`] and no more of them at once than its driver says, so that many which
//! do not answer keep no others out; alike ones in an order of this node's own, so that not everybody dials the same.
//! Each step finds its peers by an index, however many there are.
//! Who dialled *us* proves nothing, an attacker does that too: only success in dialling ends the search. A failure doubles the pause, up to
//! [`PAUSE`]; an end of a connection starts anew. Who turns us away is left alone for a minute, or as long as it says. Who only has no place for us, and may be
//! the one that we know, is asked again after a second or two, and each time after twice as long, up to that minute: it may have had no time to name others. Each of many that were turned away at once
//! comes at a moment of its own. Whom the user lets go, known before or not, stays away until somebody asks for it.
//!
//! Bounds: [`USERS`] peers of the user, of which one that waits gives way to a new one, [`FOUND`] of the local network, of [`ADDRESSES`] addresses each and as many of the
//! user's, of which the eldest of the least trusted give way; a neighbour that was not told of again for [`FORGET`] is forgotten. [`DISMISSED`]
//! peers that were let go.

use std::{collections::BTreeMap, hash::BuildHasher, time::Duration};

use libp2p::{Multiaddr, PeerId};

mod index;
mod target;

use self::{
    index::Index,
    target::{State, Target},
};
use super::Neighbours;
use crate::{keyed::Keyed, platform::Instant, remembered::Remembered};

/// The first and the longest pause between two dials of one peer.
const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(20));
/// How long a peer that turned us away is left alone.
const REFUSED: Duration = Duration::from_secs(60);
/// The first of these pauses where it is full, at most.
const FULL: Duration = Duration::from_secs(2);
/// Peers of the user that are kept in mind.
const USERS: usize = 2048;
/// Peers of the local network that are kept in mind.
const FOUND: usize = Neighbours::MAX;
/// All of them.
pub(super) const MOST: usize = USERS + FOUND;
/// Addresses of one of them.
const ADDRESSES: usize = 16;
/// When one of them is forgotten.
const FORGET: Duration = Neighbours::LIFETIME;
/// Peers that the user let go that are kept in mind.
const DISMISSED: usize = 1024;

/// See the module's documentation.
#[derive(Debug)]
pub struct Dialing {
    own: PeerId,
    targets: BTreeMap<PeerId, Box<Target>>,
    index: Index,
    dismissed: Remembered<PeerId>,
}

/// A peer to be dialled now.
#[derive(Clone, Debug, PartialEq)]
pub struct Due {
    /// Who.
    pub peer: PeerId,
    /// All that the user and the local network told of where it is.
    pub addresses: Vec<Multiaddr>,
}

/// Who told of a peer, the most trusted first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Teller {
    /// The user.
    User,
    /// mDNS.
    LocalNetwork,
}

impl Teller {
    /// How much longer than the user's peers one waits for its turn.
    fn handicap(self) -> Duration {
        match self {
            Self::User => Duration::ZERO,
            Self::LocalNetwork => Duration::from_secs(10),
        }
    }
}

impl Dialing {
    /// Knows nobody; never dials `own`. `seed` is random and secret.
    pub fn new(own: PeerId, seed: &[u8; 16]) -> Self {
        let index = Index::new(Keyed::new(seed));
        Self {
            own,
            targets: BTreeMap::new(),
            dismissed: Remembered::new(DISMISSED, index.order.clone()),
            index,
        }
    }

    /// Somebody tells of a peer, at an address. The more trusted word counts; a bootstrap peer stays one, also where it is a
    /// neighbour. Returns who gave way for it.
    pub fn told(
        &mut self,
        teller: Teller,
        peer: PeerId,
        address: Multiaddr,
        now: Instant,
    ) -> Option<PeerId> {
        if peer == self.own {
            return None;
        }
        self.forget(now);
        let mut gave_way = None;
        if !self.targets.contains_key(&peer) {
            if !self.has_room(teller) {
                gave_way = Some(self.makes_room(teller)?);
            }
            let target = Target {
                addresses: Vec::new(),
                state: State::Due(now),
                pause: PAUSE.0,
                teller,
                told: now,
                tried: false,
                waits: None,
                was_refused: false,
                fulls: 0,
            };
            self.index.add(peer, &target);
            self.targets.insert(peer, Box::new(target));
        }
        self.change(&peer, |target| {
            target.teller = teller.min(target.teller);
            target.told = now;
            target.is_at(teller, address);
        });
        gave_way
    }

    /// The user asks for it, also where it was let go before.
    pub fn wanted(&mut self, peer: &PeerId, now: Instant) {
        if self.dismissed.contains(peer) {
            self.dismissed.remove(peer);
            self.change(peer, |target| target.state = State::Due(now));
        }
    }

    /// The host slept, or the network is another: all that wait are due, but for those that turned us away when they were last dialled.
    pub fn woke(&mut self, now: Instant) {
        let waits = |target: &Target| {
            matches!(target.state, State::Due(at) if at > now) && !target.was_refused
        };
        let targets = self.targets.iter().filter(|(_, target)| waits(target));
        let waiting: Vec<_> = targets.map(|(peer, _)| *peer).collect();
        for peer in waiting {
            self.change(&peer, |target| {
                (target.state, target.pause) = (State::Due(now), PAUSE.0);
            });
        }
    }

    /// Somebody else has begun to dial it: one of [`Self::connected`] and [`Self::failed`] follows.
    pub fn dials(&mut self, peer: &PeerId) {
        self.change(peer, |target| {
            if matches!(target.state, State::Due(_)) {
                target.state = State::Dialling;
            }
        });
    }

    /// It is connected, whoever dialled. Whom the user let go may come by itself, and is not dialled when it goes again.
    pub fn connected(&mut self, peer: &PeerId) {
        self.change(peer, |target| {
            target.state = State::Connected;
            (target.pause, target.waits, target.was_refused) = (PAUSE.0, None, false);
        });
    }

    /// It has let us in.
    pub fn ready(&mut self, peer: &PeerId) {
        if let Some(target) = self.targets.get_mut(peer) {
            target.fulls = 0;
        }
    }

    /// Its last connection ended.
    pub fn gone(&mut self, peer: &PeerId, now: Instant) {
        self.change(peer, |target| {
            if target.state == State::Connected {
                (target.state, target.tried) = (State::Due(now + target.pause), true);
            }
        });
    }

    /// A dial of it failed.
    pub fn failed(&mut self, peer: &PeerId, now: Instant) {
        self.change(peer, |target| {
            if target.state == State::Dialling {
                target.failed(now);
            }
        });
    }

    /// It turned us away, or we it: asking again at once is of no use.
    pub fn refused(&mut self, peer: &PeerId) {
        if let Some(target) = self.targets.get_mut(peer) {
            let waits = target.waits.take().unwrap_or(REFUSED);
            target.pause = target.pause.max(waits);
            target.was_refused = true;
        }
    }

    /// It is about to turn us away, and before that time asking it again is of no use.
    pub fn waits(&mut self, peer: &PeerId, time: Duration) {
        if let Some(target) = self.targets.get_mut(peer) {
            target.waits = Some(time.max(REFUSED));
        }
    }

    /// It is about to turn us away, and says neither for how long nor anything against us that would last: it is full, as far as can be told.
    pub fn is_full(&mut self, peer: &PeerId) {
        if let Some(target) = self.targets.get_mut(peer) {
            let whole = (FULL * 2_u32.pow(target.fulls.min(5))).min(REFUSED);
            let part = self.index.order.hash_one((peer, target.fulls)) as u32;
            let part = f64::from(part) / f64::from(u32::MAX);
            target.fulls = target.fulls.saturating_add(1);
            target.waits = Some(whole.mul_f64(0.5 + part / 2.0));
        }
    }

    /// It is no neighbour any more.
    pub fn left(&mut self, peer: &PeerId) {
        let target = self.targets.get(peer);
        if target.is_some_and(|target| target.may_be_forgotten()) {
            self.remove(peer);
        }
    }

    /// The user let it go.
    pub fn dismissed(&mut self, peer: &PeerId) {
        self.dismissed.insert(*peer);
    }

    /// Whether it is one of these at all.
    pub fn knows(&self, peer: &PeerId) -> bool {
        self.targets.contains_key(peer)
    }

    /// Whether the user let it go, and nobody asked for it since.
    pub fn is_dismissed(&self, peer: &PeerId) -> bool {
        self.dismissed.contains(peer)
    }

    /// All that the user and the local network told of where it is.
    pub fn addresses(&self, peer: &PeerId) -> Vec<Multiaddr> {
        let target = self.targets.get(peer);
        target.map_or_else(Vec::new, |target| target.due(*peer).addresses)
    }

    /// What the user told of where it is.
    pub fn users_addresses(&self, peer: &PeerId) -> Vec<Multiaddr> {
        let target = self.targets.get(peer);
        let addresses = target.into_iter().flat_map(|target| &target.addresses);
        let users = addresses.filter(|(teller, _)| *teller == Teller::User);
        users.map(|(_, address)| address.clone()).collect()
    }

    /// Whether it is being dialled.
    pub fn is_dialling(&self, peer: &PeerId) -> bool {
        let target = self.targets.get(peer);
        target.is_some_and(|target| target.state == State::Dialling)
    }

    /// How many are being dialled.
    pub fn dialling(&self) -> usize {
        self.index.dialling.values().sum()
    }

    /// Whom to dial now, each with all its addresses; at most so many, and so many of them that `neighbours` are dialled at once.
    pub fn due(&mut self, most: usize, neighbours: usize, now: Instant) -> Vec<Due> {
        let mut due = Vec::new();
        while due.len() < most
            && let Some(peer) = self.index.next(self.least(neighbours), now)
        {
            if self.dismissed.contains(&peer) {
                self.change(&peer, |target| target.state = State::Away);
                continue;
            }
            due.extend(self.change(&peer, |target| {
                target.state = State::Dialling;
                target.due(peer)
            }));
        }
        due
    }

    /// Who must have told of the next one, where so many neighbours are dialled at once.
    fn least(&self, neighbours: usize) -> Teller {
        let dialling = self.index.dialling.get(&Teller::LocalNetwork);
        if dialling.copied().unwrap_or_default() < neighbours {
            Teller::LocalNetwork
        } else {
            Teller::User
        }
    }

    /// Changes a target, and its places in the index.
    fn change<T>(&mut self, peer: &PeerId, change: impl FnOnce(&mut Target) -> T) -> Option<T> {
        let target = self.targets.get_mut(peer)?;
        self.index.remove(*peer, target);
        let changed = change(target);
        self.index.add(*peer, target);
        Some(changed)
    }

    fn remove(&mut self, peer: &PeerId) {
        if let Some(target) = self.targets.remove(peer) {
            self.index.remove(*peer, &target);
        }
    }

    /// Forgets who was not told of for long.
    fn forget(&mut self, now: Instant) {
        while let Some((told, peer)) = self.index.told.first().copied()
            && told + FORGET <= now
        {
            self.remove(&peer);
        }
    }

    /// Whether there is room for one more peer of such a teller.
    fn has_room(&self, teller: Teller) -> bool {
        let most = match teller {
            Teller::User => USERS,
            Teller::LocalNetwork => FOUND,
        };
        let count = self.index.counts.get(&teller).copied();
        count.unwrap_or_default() < most
    }

    /// Who gives way to one more, if anybody does: of the user's the one whose turn is next, of those that were tried first.
    fn makes_room(&mut self, teller: Teller) -> Option<PeerId> {
        let next = |was_tried| {
            self.index
                .queues
                .get(&(teller, was_tried))?
                .first()
                .copied()
        };
        let gives_way = match teller {
            Teller::User => next(true).or_else(|| next(false)),
            Teller::LocalNetwork => None,
        };
        let (.., peer) = gives_way?;
        self.remove(&peer);
        Some(peer)
    }
}

#[cfg(test)]
mod tests;
