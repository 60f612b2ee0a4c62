//! Blocks that peers told of while there was no place for them; each is taken up when there is one.
//!
//! Nobody tells of a block twice, so what is forgotten here may never come. Peers take turns, those that we dialled before those
//! that dialled us, so that who tells of many holds nobody else up. Bounds: [`MAX_PER_PEER`] of one peer, of which the eldest
//! is forgotten first, as it is by who serves it; [`MAX`] of all. Beyond these one of an outbound peer takes the place of one of
//! an inbound peer, and one of a peer that has few the place of one of the peer on its side that has most.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use libp2p::PeerId;

use super::peers::Counts;
use crate::chain::ItemId;

/// Blocks of one peer that wait: as many as a node keeps to be served, by default.
const MAX_PER_PEER: usize = 16;
/// Blocks that wait in all.
const MAX: usize = 256;

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    outbound: Side,
    inbound: Side,
}

/// What peers told of that we dialled, or that dialled us.
#[derive(Debug, Default)]
struct Side {
    peers: BTreeMap<PeerId, VecDeque<Told>>,
    /// Each of these peers once, whose turn is next in front.
    turns: VecDeque<PeerId>,
    count: usize,
}

/// A peer has told of a block.
#[derive(Clone, Debug)]
pub(super) struct Told {
    pub(super) peer: PeerId,
    pub(super) id: ItemId,
    /// `None`: it sent the whole block.
    pub(super) header: Option<Bytes>,
    /// Where it announced the block: how many there were by then.
    pub(super) announced: Option<Counts>,
}

impl Waiting {
    pub(super) fn insert(&mut self, told: Told, outbound: bool) {
        let peer = told.peer;
        let side = self.side(outbound);
        let queue = side.peers.get(&peer);
        if queue.is_some_and(|queue| queue.iter().any(|it| it.id == told.id)) {
            return;
        }
        let own = queue.map_or(0, VecDeque::len);
        if own >= MAX_PER_PEER {
            side.pop(&peer);
        } else if self.len() >= MAX {
            let from_inbound = outbound && self.inbound.count > 0;
            let fewest = if from_inbound { 0 } else { own + 1 };
            let side = self.side(outbound && !from_inbound);
            if !side.displace(fewest) {
                return;
            }
        }
        self.side(outbound).push(told);
    }

    /// What the next peer in turn told of first, where one of this side `may` have one of so many places. Without any, nobody is
    /// looked at.
    pub(super) fn next(
        &self,
        outbound: bool,
        places: usize,
        may: impl FnMut(&PeerId) -> bool,
    ) -> Option<(PeerId, ItemId)> {
        if places == 0 {
            return None;
        }
        let side = if outbound {
            &self.outbound
        } else {
            &self.inbound
        };
        let mut may = may;
        let peer = side.turns.iter().find(|peer| may(peer))?;
        let first = side.peers.get(peer)?.front()?;
        Some((*peer, first.id.clone()))
    }

    /// Takes out what a peer told of, since it is its turn; the next one comes after those of the others.
    pub(super) fn take(&mut self, peer: &PeerId, id: &ItemId) -> Option<Told> {
        let taken = self.remove(peer, id);
        self.outbound.had_its_turn(peer);
        self.inbound.had_its_turn(peer);
        taken
    }

    /// Takes out what a peer told of and what needs no place any more: that costs it no turn.
    pub(super) fn remove(&mut self, peer: &PeerId, id: &ItemId) -> Option<Told> {
        let taken = self.outbound.remove(peer, id);
        taken.or_else(|| self.inbound.remove(peer, id))
    }

    pub(super) fn gone(&mut self, peer: &PeerId) {
        self.outbound.gone(peer);
        self.inbound.gone(peer);
    }

    /// The peers that told of a block.
    pub(super) fn tellers(&self, id: &ItemId) -> Vec<PeerId> {
        let peers = self.outbound.peers.iter().chain(&self.inbound.peers);
        let told = peers.filter(|(_, queue)| queue.iter().any(|told| told.id == *id));
        told.map(|(peer, _)| *peer).collect()
    }

    /// A block is here, or of no use. The peers that told of it.
    pub(super) fn finish(&mut self, id: &ItemId) -> Vec<PeerId> {
        let peers = self.tellers(id);
        for peer in &peers {
            self.remove(peer, id);
        }
        peers
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn len(&self) -> usize {
        self.outbound.count + self.inbound.count
    }

    fn side(&mut self, outbound: bool) -> &mut Side {
        if outbound {
            &mut self.outbound
        } else {
            &mut self.inbound
        }
    }
}

impl Side {
    fn push(&mut self, told: Told) {
        let peer = told.peer;
        let queue = self.peers.entry(peer).or_default();
        if queue.is_empty() {
            self.turns.push_back(peer);
        }
        queue.push_back(told);
        self.count += 1;
    }

    /// Forgets the eldest of a peer.
    fn pop(&mut self, peer: &PeerId) {
        let eldest = self.peers.get_mut(peer).and_then(VecDeque::pop_front);
        self.count -= usize::from(eldest.is_some());
    }

    /// Forgets the newest of the peer that has most; false where none has more than so many.
    fn displace(&mut self, than: usize) -> bool {
        let longest = self.peers.iter().max_by_key(|(_, queue)| queue.len());
        let longest = longest.filter(|(_, queue)| queue.len() > than);
        let Some(peer) = longest.map(|(peer, _)| *peer) else {
            return false;
        };
        let newest = self.peers.get(&peer).and_then(|queue| queue.back());
        let newest = newest.map(|told| told.id.clone());
        newest.is_some_and(|id| self.remove(&peer, &id).is_some())
    }

    fn remove(&mut self, peer: &PeerId, id: &ItemId) -> Option<Told> {
        let queue = self.peers.get_mut(peer)?;
        let place = queue.iter().position(|told| told.id == *id)?;
        let told = queue.remove(place)?;
        self.count -= 1;
        if queue.is_empty() {
            self.gone(peer);
        }
        Some(told)
    }

    fn had_its_turn(&mut self, peer: &PeerId) {
        if self.peers.contains_key(peer) {
            self.turns.retain(|it| it != peer);
            self.turns.push_back(*peer);
        }
    }

    fn gone(&mut self, peer: &PeerId) {
        if let Some(queue) = self.peers.remove(peer) {
            self.count -= queue.len();
            self.turns.retain(|it| it != peer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::test;

    fn told(peer: PeerId, number: usize) -> Told {
        Told {
            peer,
            id: ItemId::sha256(&number.to_le_bytes()),
            header: None,
            announced: None,
        }
    }

    fn take(waiting: &mut Waiting) -> Option<Told> {
        let next = waiting.next(true, 1, |_| true);
        let (peer, id) = next.or_else(|| waiting.next(false, 1, |_| true))?;
        waiting.take(&peer, &id)
    }

    #[test]
    fn the_last_ones_of_a_peer_wait_in_order() {
        let (mut waiting, peer) = (Waiting::default(), PeerId::random());
        for number in 0..=MAX_PER_PEER {
            waiting.insert(told(peer, number), false);
            waiting.insert(told(peer, number), false);
        }
        assert_eq!(waiting.len(), MAX_PER_PEER);
        assert_eq!(waiting.finish(&told(peer, 5).id), [peer]);
        assert!(waiting.remove(&peer, &told(peer, 5).id).is_none());
        let first = take(&mut waiting).map(|told| told.id);
        assert_eq!(first, Some(told(peer, 1).id), "the eldest is forgotten");
        waiting.gone(&peer);
        assert!(waiting.is_empty() && take(&mut waiting).is_none());
    }

    #[test]
    fn peers_take_turns_and_those_that_we_dialled_are_first() {
        let (mut waiting, peers) = (Waiting::default(), [(); 3].map(|()| PeerId::random()));
        for number in 0..3 {
            peers[..2]
                .iter()
                .for_each(|peer| waiting.insert(told(*peer, number), false));
        }
        waiting.insert(told(peers[2], 9), true);
        let order: Vec<_> = std::iter::from_fn(|| take(&mut waiting)).collect();
        let place = |told: &Told| peers.iter().position(|peer| *peer == told.peer);
        let order: Vec<_> = order.iter().filter_map(place).collect();
        assert_eq!(order, [2, 0, 1, 0, 1, 0, 1]);
    }

    #[test]
    fn a_block_that_arrives_costs_nobody_its_turn() {
        let (mut waiting, [first, second]) =
            (Waiting::default(), [(); 2].map(|()| PeerId::random()));
        for (peer, number) in [(first, 0), (first, 1), (second, 2)] {
            waiting.insert(told(peer, number), false);
        }
        assert_eq!(waiting.finish(&told(first, 0).id), [first]);
        let next = take(&mut waiting).map(|told| told.peer);
        assert_eq!(next, Some(first));
    }

    #[test]
    fn while_there_is_no_place_nobody_is_looked_at() {
        let (mut waiting, peer) = (Waiting::default(), PeerId::random());
        waiting.insert(told(peer, 0), true);
        let next = waiting.next(true, 0, |_| panic!("this may be costly"));
        assert!(next.is_none());
        assert!(waiting.next(true, 1, |_| true).is_some());
    }

    #[test]
    fn who_fills_the_list_gives_way_to_who_has_little_there() {
        let mut waiting = Waiting::default();
        let flooders = [(); MAX / MAX_PER_PEER].map(|()| PeerId::random());
        for peer in flooders {
            (0..MAX_PER_PEER).for_each(|number| waiting.insert(told(peer, number), false));
        }
        let honest = PeerId::random();
        waiting.insert(told(honest, 100), false);
        assert_eq!(waiting.tellers(&told(honest, 100).id), [honest]);
        assert_eq!(waiting.len(), MAX);
        // However many there are, who was dialled is heard.
        for number in 0..2 * MAX {
            waiting.insert(told(PeerId::random(), number), false);
        }
        assert_eq!(waiting.len(), MAX);
        let dialled = PeerId::random();
        (0..MAX_PER_PEER).for_each(|number| waiting.insert(told(dialled, number), true));
        assert_eq!((waiting.len(), waiting.outbound.count), (MAX, MAX_PER_PEER));
        let first = take(&mut waiting).map(|told| (told.peer, told.id));
        assert_eq!(first, Some((dialled, told(dialled, 0).id)));
    }
}
