//! The connected peers, and what they were asked for.
//!
//! What was asked is remembered until it is answered, longer than the block is wanted: an answer that comes late costs
//! nobody anything, one that nobody asked for does. And it is known by it that the peer has begun with what it was asked for next.
//! Bounds: one entry per connected peer, 16 requests for each.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use libp2p::PeerId;

use crate::chain::ItemId;

/// Requests without an answer that are remembered for a peer. The oldest of what is not wanted any more is forgotten, and its answer, should it ever
/// come, counts as unasked. A peer is asked at most three things about a block, and has few in progress.
const MAX_AWAITED: usize = 16;

/// How often a peer's word is taken that what it told of is gone there, since it has others now: as many times as a node keeps blocks, by
/// default, and once more for each that it brings.
const MAX_WORD: u8 = 16;

/// The connected peers.
#[derive(Debug, Default)]
pub(super) struct Peers(BTreeMap<PeerId, Box<Peer>>);

#[derive(Debug)]
struct Peer {
    outbound: bool,
    /// Of how many blocks it has told.
    told: u64,
    /// How often its word is taken that what it told of is gone there: see [`MAX_WORD`].
    word: u8,
    /// Whether there may be something to ask it for.
    to_be_asked: bool,
    /// How many requests went out to it.
    asked: u64,
    /// Those that it has not answered, each with how many went out before, the oldest first.
    awaited: VecDeque<(u64, ItemId, Awaited)>,
    /// How long a ping took last.
    round_trip: Duration,
    /// Whether it was silent when it was asked last; and whether it read nothing when it was to be, by what is known.
    lets_wait: bool,
    reads_nothing: bool,
}

/// How many blocks a peer had told of at a time, and how many the chain had accepted here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) told: u64,
    pub(super) accepted: u64,
}

/// What a peer was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Awaited {
    Compact,
    Missing,
    Whole,
}

impl Peers {
    pub(super) fn connected(&mut self, peer: PeerId, outbound: bool) {
        self.0.entry(peer).or_insert_with(|| {
            Box::new(Peer {
                outbound,
                told: 0,
                word: MAX_WORD,
                to_be_asked: false,
                asked: 0,
                awaited: VecDeque::new(),
                round_trip: Duration::ZERO,
                lets_wait: false,
                reads_nothing: false,
            })
        });
    }

    pub(super) fn gone(&mut self, peer: &PeerId) {
        self.0.remove(peer);
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &PeerId> {
        self.0.keys()
    }

    /// Whether a peer is connected, and if so, whether we dialled it.
    pub(super) fn is_outbound(&self, peer: &PeerId) -> Option<bool> {
        self.0.get(peer).map(|peer| peer.outbound)
    }

    /// A peer tells of one more block.
    pub(super) fn tells(&mut self, peer: &PeerId) {
        if let Some(peer) = self.0.get_mut(peer) {
            peer.told += 1;
        }
    }

    /// Of how many blocks a peer has told.
    pub(super) fn told(&self, peer: &PeerId) -> u64 {
        self.0.get(peer).map_or(0, |peer| peer.told)
    }

    /// A peer says that a block is gone there for others that it told of since, which may be none: whether its word is taken.
    pub(super) fn take_word(&mut self, peer: &PeerId) -> bool {
        let word = self.0.get_mut(peer).map(|peer| &mut peer.word);
        let left = word.and_then(|word| {
            *word = word.checked_sub(1)?;
            Some(())
        });
        left.is_some()
    }

    /// A peer has brought a block that the chain has accepted.
    pub(super) fn delivered(&mut self, peer: &PeerId) {
        if let Some(peer) = self.0.get_mut(peer) {
            peer.word = peer.word.saturating_add(1).min(MAX_WORD);
        }
    }

    /// A ping of a peer took so long.
    pub(super) fn measured(&mut self, peer: &PeerId, round_trip: Duration) {
        if let Some(peer) = self.0.get_mut(peer) {
            peer.round_trip = round_trip;
        }
    }

    /// How long a peer's ping took last, as far as that is known.
    pub(super) fn round_trip(&self, peer: &PeerId) -> Duration {
        let peer = self.0.get(peer);
        peer.map_or(Duration::ZERO, |peer| peer.round_trip)
    }

    /// A peer that was asked is silent, or answers.
    pub(super) fn let_wait(&mut self, peer: &PeerId, lets_wait: bool) {
        if let Some(peer) = self.0.get_mut(peer) {
            peer.lets_wait = lets_wait;
            peer.reads_nothing &= lets_wait;
        }
    }

    /// A peer that is to be asked reads nothing; or it does, or this node keeps back what it would.
    pub(super) fn reads(&mut self, peer: &PeerId, reads: bool) {
        if let Some(peer) = self.0.get_mut(peer) {
            peer.reads_nothing = !reads;
        }
    }

    /// Whether a peer was silent when it was asked last, or could not be asked.
    pub(super) fn lets_wait(&self, peer: &PeerId) -> bool {
        let peer = self.0.get(peer);
        peer.is_some_and(|peer| peer.lets_wait || peer.reads_nothing)
    }

    /// There is something to ask a peer for, or nothing more.
    pub(super) fn set_to_be_asked(&mut self, peer: &PeerId, to_be_asked: bool) {
        if let Some(peer) = self.0.get_mut(peer) {
            peer.to_be_asked = to_be_asked;
        }
    }

    /// Whether there may be something to ask a peer for, so that nobody looks for it in vain.
    pub(super) fn is_to_be_asked(&self, peer: &PeerId) -> bool {
        self.0.get(peer).is_some_and(|peer| peer.to_be_asked)
    }

    /// A peer is asked for something. Its turn: how many requests went out to it before. `None`: it is not connected.
    pub(super) fn await_answer(
        &mut self,
        peer: &PeerId,
        id: &ItemId,
        awaited: Awaited,
        is_wanted: impl Fn(&ItemId) -> bool,
    ) -> Option<u64> {
        let peer = self.0.get_mut(peer)?;
        if peer.awaited.len() >= MAX_AWAITED {
            let mut all = peer.awaited.iter();
            let spare = all.position(|(_, id, _)| !is_wanted(id));
            peer.awaited.remove(spare.unwrap_or_default());
        }
        let turn = peer.asked;
        peer.asked += 1;
        peer.awaited.push_back((turn, id.clone(), awaited));
        Some(turn)
    }

    /// Whether a peer was asked for this, and has not answered.
    pub(super) fn awaits(&self, peer: &PeerId, id: &ItemId, awaited: Awaited) -> bool {
        let all = self.0.get(peer).into_iter().flat_map(|peer| &peer.awaited);
        let mut of_block = all.filter(|(_, block, _)| block == id);
        of_block.any(|(_, _, kind)| *kind == awaited)
    }

    /// Where a message from this peer answers a request for one of these, in which turn that was; it does so once.
    pub(super) fn take_awaited(
        &mut self,
        peer: &PeerId,
        id: &ItemId,
        kinds: &[Awaited],
    ) -> Option<u64> {
        let peer = self.0.get_mut(peer)?;
        let mut awaited = peer.awaited.iter();
        let place = awaited.position(|(_, block, kind)| block == id && kinds.contains(kind))?;
        peer.awaited.remove(place).map(|(turn, ..)| turn)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::test;

    #[test]
    fn an_answer_is_awaited_once_and_the_oldest_that_nobody_wants_is_forgotten() {
        let (mut peers, peer) = (Peers::default(), PeerId::random());
        let id = |number: usize| ItemId::sha256(&[u8::try_from(number).unwrap()]);
        let is_wanted = |wanted: &ItemId| *wanted == id(0);
        let turn = peers.await_answer(&peer, &id(0), Awaited::Whole, is_wanted);
        assert_eq!(turn, None, "not connected");
        peers.connected(peer, true);
        for number in 0..=MAX_AWAITED {
            let turn = peers.await_answer(&peer, &id(number), Awaited::Compact, is_wanted);
            assert_eq!(turn, u64::try_from(number).ok());
        }
        let mut take = |number, kinds: &[_]| peers.take_awaited(&peer, &id(number), kinds);
        assert_eq!(take(0, &[Awaited::Whole]), None, "something else");
        assert_eq!(take(0, &[Awaited::Whole, Awaited::Compact]), Some(0));
        assert_eq!(take(0, &[Awaited::Compact]), None, "once");
        assert_eq!(take(1, &[Awaited::Compact]), None, "forgotten");
        peers.gone(&peer);
        assert_eq!(peers.take_awaited(&peer, &id(2), &[Awaited::Compact]), None);
    }
}
