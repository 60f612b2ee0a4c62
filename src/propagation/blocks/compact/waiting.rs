//! Blocks that peers told of while there was no place for them; each is taken up when there is one.
//!
//! Nobody tells of a block twice, so what is forgotten here may never come. Bounds: [`MAX_PER_PEER`] of one peer, of which the
//! eldest is forgotten first, as it is by who serves it; [`MAX`] of all, beyond which a new one is not noted.

use std::collections::VecDeque;

use bytes::Bytes;
use libp2p::PeerId;

use crate::chain::ItemId;
use crate::platform::Instant;

/// Blocks of one peer that wait: as many as a node keeps to be served, by default.
const MAX_PER_PEER: usize = 16;
/// Blocks that wait in all.
const MAX: usize = 256;

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Waiting(VecDeque<Told>);

/// A peer has told of a block.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) peer: PeerId,
    pub(super) id: ItemId,
    /// `None`: it sent the whole block.
    pub(super) header: Option<Bytes>,
    pub(super) since: Instant,
}

impl Waiting {
    pub(super) fn insert(&mut self, told: Told) {
        let of_peer = |it: &Told| it.peer == told.peer;
        if self.0.iter().any(|it| of_peer(it) && it.id == told.id) {
            return;
        }
        if self.0.iter().filter(|it| of_peer(it)).count() >= MAX_PER_PEER
            && let Some(eldest) = self.0.iter().position(of_peer)
        {
            self.0.remove(eldest);
        }
        if self.0.len() < MAX {
            self.0.push_back(told);
        }
    }

    /// The first for which there is a place.
    pub(super) fn first(&self, has_place: impl Fn(&Told) -> bool) -> Option<&Told> {
        self.0.iter().find(|told| has_place(told))
    }

    pub(super) fn remove(&mut self, peer: &PeerId, id: &ItemId) -> Option<Told> {
        let is_it = |told: &Told| told.peer == *peer && told.id == *id;
        let place = self.0.iter().position(is_it)?;
        self.0.remove(place)
    }

    pub(super) fn gone(&mut self, peer: &PeerId) {
        self.0.retain(|told| told.peer != *peer);
    }

    /// A block is here, or of no use. The peers that told of it.
    pub(super) fn finish(&mut self, id: &ItemId) -> Vec<PeerId> {
        let told = self.0.iter().filter(|told| told.id == *id);
        let peers = told.map(|told| told.peer).collect();
        self.0.retain(|told| told.id != *id);
        peers
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::test;

    #[test]
    fn the_last_ones_of_a_peer_wait_in_order_and_a_flood_ends() {
        let (mut waiting, peer) = (Waiting::default(), PeerId::random());
        let told = |peer, number: usize| Told {
            peer,
            id: ItemId::sha256(&number.to_le_bytes()),
            header: None,
            since: crate::platform::now(),
        };
        for number in 0..=MAX_PER_PEER {
            waiting.insert(told(peer, number));
            waiting.insert(told(peer, number));
        }
        assert_eq!(waiting.0.len(), MAX_PER_PEER);
        let first = waiting.first(|_| true).map(|told| told.id.clone());
        assert_eq!(first, Some(told(peer, 1).id), "the eldest is forgotten");
        for number in 0..2 * MAX {
            waiting.insert(told(PeerId::random(), number));
        }
        assert_eq!(waiting.0.len(), MAX);
        assert_eq!(waiting.finish(&told(peer, 5).id)[0], peer);
        assert!(waiting.remove(&peer, &told(peer, 5).id).is_none());
        waiting.gone(&peer);
        assert!(waiting.first(|told| told.peer == peer).is_none());
    }
}
