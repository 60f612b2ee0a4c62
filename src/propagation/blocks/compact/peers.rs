//! The connected peers, and what they were asked for.
//!
//! What was asked is remembered until it is answered, longer than the block is wanted: an answer that comes late costs
//! nobody anything, one that nobody asked for does. Bounds: one entry per connected peer, 16 requests for each.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use libp2p::PeerId;

use crate::chain::ItemId;

/// Requests without an answer that are remembered for a peer. The oldest is forgotten, and its answer, should it ever
/// come, counts as unasked. A peer is asked at most three things about a block.
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
    awaited: VecDeque<(ItemId, Awaited)>,
    /// How long a ping took last.
    round_trip: Duration,
    /// Whether it was silent when it was asked last.
    lets_wait: bool,
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
                awaited: VecDeque::new(),
                round_trip: Duration::ZERO,
                lets_wait: false,
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
        }
    }

    /// Whether a peer was silent when it was asked last.
    pub(super) fn lets_wait(&self, peer: &PeerId) -> bool {
        self.0.get(peer).is_some_and(|peer| peer.lets_wait)
    }

    /// A peer was asked for something.
    pub(super) fn await_answer(&mut self, peer: &PeerId, id: &ItemId, awaited: Awaited) {
        if let Some(peer) = self.0.get_mut(peer) {
            if peer.awaited.len() >= MAX_AWAITED {
                peer.awaited.pop_front();
            }
            peer.awaited.push_back((id.clone(), awaited));
        }
    }

    /// Whether a peer was asked for this, and has not answered.
    pub(super) fn awaits(&self, peer: &PeerId, id: &ItemId, awaited: Awaited) -> bool {
        let all = self.0.get(peer).into_iter().flat_map(|peer| &peer.awaited);
        let mut of_block = all.filter(|(block, _)| block == id);
        of_block.any(|(_, kind)| *kind == awaited)
    }

    /// Whether a message from this peer answers a request for one of these; it does so once.
    pub(super) fn take_awaited(&mut self, peer: &PeerId, id: &ItemId, kinds: &[Awaited]) -> bool {
        let Some(peer) = self.0.get_mut(peer) else {
            return false;
        };
        let mut awaited = peer.awaited.iter();
        let place = awaited.position(|(block, kind)| block == id && kinds.contains(kind));
        place.and_then(|place| peer.awaited.remove(place)).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::test;

    #[test]
    fn an_answer_is_awaited_once_and_the_oldest_is_forgotten() {
        let (mut peers, peer) = (Peers::default(), PeerId::random());
        let id = |number: usize| ItemId::sha256(&[u8::try_from(number).unwrap()]);
        peers.await_answer(&peer, &id(0), Awaited::Whole);
        assert!(
            !peers.take_awaited(&peer, &id(0), &[Awaited::Whole]),
            "not connected"
        );
        peers.connected(peer, true);
        for number in 0..=MAX_AWAITED {
            peers.await_answer(&peer, &id(number), Awaited::Compact);
        }
        assert!(
            !peers.take_awaited(&peer, &id(0), &[Awaited::Compact]),
            "forgotten"
        );
        assert!(
            !peers.take_awaited(&peer, &id(1), &[Awaited::Whole]),
            "something else"
        );
        assert!(peers.take_awaited(&peer, &id(1), &[Awaited::Whole, Awaited::Compact]));
        assert!(
            !peers.take_awaited(&peer, &id(1), &[Awaited::Compact]),
            "once"
        );
        peers.gone(&peer);
        assert!(!peers.take_awaited(&peer, &id(2), &[Awaited::Compact]));
    }
}
