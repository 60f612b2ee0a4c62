//! Which chunks are asked of whom.
//!
//! Pushing chunks to whoever may lack them is how gossip wastes its bytes: neighbours get the same chunk at the same
//! time and pass it on to the same third. So past the first hop a chunk goes only where it was asked for, and each is
//! asked of one peer. The rarest are asked for first, of the peer that has the least to send us, and no more than will
//! do to decode. Who does not deliver what it was told of is asked for less; what it was asked for is asked of others. Who could not be told, or whose
//! chunk was lost here, is asked for no less.

use std::time::Duration;

use libp2p::PeerId;

use super::broadcast::{Broadcast, Phase};
use super::chunk_set::ChunkSet;
use super::link::Link;
use super::peers::Peers;

use crate::{order, platform::Instant};

impl Broadcast {
    /// Asks for what is not here, of those that hold it.
    pub(super) fn plan(&mut self, peers: &Peers, now: Instant) {
        if self.phase() != Phase::Gathering {
            return;
        }
        let links = self.links.values();
        let asked = links.fold(ChunkSet::EMPTY, |all, link| all | link.asked);
        let enough = self.announcement.shape().data_chunks();
        let mut room = enough.saturating_sub((self.held | asked).len());
        if room == 0 {
            return;
        }
        let mut wanted: Vec<_> = (self.all() - self.held - asked)
            .iter()
            .map(|index| (self.holders(index).count(), self.order(index), index))
            .filter(|&(holders, ..)| holders > 0)
            .collect();
        order::sort(&mut wanted);
        for (_, order, index) in wanted {
            if room == 0 {
                break;
            }
            if let Some(peer) = self.choose(index, order, peers)
                && let Some(link) = self.links.get_mut(&peer)
            {
                link.ask(index, now);
                room -= 1;
            }
        }
    }

    /// Takes back what was asked of peers that let us wait, and asks others. False: there was nothing to do.
    pub(super) fn hurry(&mut self, patience: Duration, peers: &mut Peers, now: Instant) -> bool {
        let mut any = false;
        for (peer, link) in &mut self.links {
            if link.stalls_at(patience).is_some_and(|at| at <= now) {
                if link.stalls() {
                    peers.stalled(peer);
                }
                any = true;
            }
        }
        if any {
            self.plan(peers, now);
        }
        any
    }

    /// A chunk of a peer is lost here: what it was asked for is asked of others, and that counts against nobody. False: it was asked for none.
    pub(super) fn loses(&mut self, peer: &PeerId, peers: &Peers, now: Instant) -> bool {
        let link = self.links.get_mut(peer);
        let Some(link) = link.filter(|link| !link.asked.is_empty()) else {
            return false;
        };
        link.loses();
        self.plan(peers, now);
        true
    }

    /// When [`Broadcast::hurry`] has something to do.
    pub(super) fn hurries_at(&self, patience: Duration) -> Option<Instant> {
        let links = self.links.values();
        links.filter_map(|link| link.stalls_at(patience)).min()
    }

    /// The peer to ask for a chunk. `None`: all that hold it have enough to do.
    fn choose(&self, index: u8, order: u64, peers: &Peers) -> Option<PeerId> {
        let is_slow = |peer: &PeerId, link: &Link| link.passed_over || peers.is_slow(peer);
        let only_slow = self.holders(index).all(|(peer, link)| is_slow(peer, link));
        self.holders(index)
            .filter(|(peer, link)| {
                link.asked.len() < peers.window(peer) && only_slow == is_slow(peer, link)
            })
            .zip(1u64..)
            // Equals take turns: the order of chunks is as good as random.
            .min_by_key(|((_, link), place)| (link.asked.len(), order.wrapping_mul(*place)))
            .map(|((peer, _), _)| *peer)
    }

    fn holders(&self, index: u8) -> impl Iterator<Item = (&PeerId, &Link)> {
        let links = self.links.iter().map(|(peer, link)| (peer, &**link));
        links.filter(move |(_, link)| link.offers().contains(index))
    }
}
