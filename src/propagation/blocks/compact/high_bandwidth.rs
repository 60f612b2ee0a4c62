//! High-bandwidth mode: three peers send new blocks in compact form at once, without announcing them first.
//!
//! It saves a round trip and costs a compact block from each that is not the first, so BIP-152 allows at most three.
//! They are those who delivered a new block first, the latest of them: who did so just now comes to the front and the
//! eldest falls out. Somebody who opens many connections to us and is quick could fill all three places, and then be
//! slow; so the last one that we dialled ourselves is kept against those that dialled us, as Bitcoin Core does.

use std::collections::VecDeque;

use libp2p::PeerId;

/// The peers that send new blocks in compact form unasked.
#[derive(Debug, Default)]
pub struct HighBandwidth {
    /// Who delivered a block last is at the front. With each: whether we dialled it.
    peers: VecDeque<(PeerId, bool)>,
}

/// What to tell a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Ask it to send new blocks in compact form, unasked.
    Ask(PeerId),
    /// Ask it to announce new blocks by their header again.
    Release(PeerId),
}

impl HighBandwidth {
    /// The most peers in this mode.
    pub const MAX: usize = 3;

    /// This peer was the first to deliver a new block, which turned out valid. Whether it is `outbound` (dialled by
    /// us) counts as of now.
    pub fn delivered(&mut self, peer: PeerId, outbound: bool) -> Vec<Change> {
        let known = self.peers.iter().position(|(other, _)| *other == peer);
        let mut changes = Vec::new();
        if let Some(place) = known {
            self.peers.remove(place);
        } else {
            if self.peers.len() >= Self::MAX {
                changes.extend(self.evict(outbound).map(Change::Release));
            }
            changes.push(Change::Ask(peer));
        }
        self.peers.push_front((peer, outbound));
        changes
    }

    /// The eldest falls out; the one before it, if the eldest is the last outbound peer and an inbound one comes.
    fn evict(&mut self, outbound_comes: bool) -> Option<PeerId> {
        let last = self.peers.len().checked_sub(1)?;
        let outbound = self.peers.iter().filter(|(_, outbound)| *outbound).count();
        let eldest_is_outbound = self.peers.back().is_some_and(|(_, outbound)| *outbound);
        let spare = eldest_is_outbound && outbound == 1 && !outbound_comes;
        let place = if spare { last.saturating_sub(1) } else { last };
        self.peers.remove(place).map(|(peer, _)| peer)
    }

    /// A peer's last connection ended.
    pub fn gone(&mut self, peer: &PeerId) {
        self.peers.retain(|(other, _)| other != peer);
    }

    /// The peers in this mode, who delivered last first.
    pub fn peers(&self) -> impl Iterator<Item = &PeerId> {
        self.peers.iter().map(|(peer, _)| peer)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;
    use crate::platform::test;

    #[test]
    fn the_last_to_deliver_comes_to_the_front_and_the_eldest_falls_out() {
        let mut mode = HighBandwidth::default();
        let peers: Vec<_> = (0..4).map(|_| PeerId::random()).collect();
        for peer in &peers[..3] {
            assert_eq!(mode.delivered(*peer, true), [Change::Ask(*peer)]);
        }
        assert_eq!(mode.delivered(peers[0], true), []);
        let changes = mode.delivered(peers[3], true);
        assert_eq!(changes, [Change::Release(peers[1]), Change::Ask(peers[3])]);
        let order: Vec<_> = mode.peers().copied().collect();
        assert_eq!(order, [peers[3], peers[0], peers[2]]);
        mode.gone(&peers[0]);
        assert_eq!(mode.delivered(peers[1], true), [Change::Ask(peers[1])]);
    }

    #[test]
    fn inbound_peers_do_not_push_out_the_last_outbound_one() {
        let mut mode = HighBandwidth::default();
        let peers: Vec<_> = (0..6).map(|_| PeerId::random()).collect();
        mode.delivered(peers[0], true);
        for peer in &peers[1..] {
            mode.delivered(*peer, false);
            assert!(mode.peers().any(|peer| *peer == peers[0]));
        }
        let outbound = PeerId::random();
        assert_eq!(
            mode.delivered(outbound, true),
            [Change::Release(peers[0]), Change::Ask(outbound)]
        );
    }

    proptest! {
        #[test]
        fn peers_are_told_what_the_machine_believes(events in prop::collection::vec((0usize..8, 0u8..4), 0..200)) {
            let peers: Vec<_> = (0..8).map(|_| PeerId::random()).collect();
            let outbound = |peer: usize| peer.is_multiple_of(3);
            let (mut mode, mut told) = (HighBandwidth::default(), HashMap::new());
            let mut outbound_before = false;
            for (peer, event) in events {
                if event == 0 {
                    mode.gone(&peers[peer]);
                    told.remove(&peers[peer]);
                    outbound_before = false;
                } else {
                    for change in mode.delivered(peers[peer], outbound(peer)) {
                        match change {
                            Change::Ask(peer) => prop_assert_eq!(told.insert(peer, ()), None),
                            Change::Release(peer) => prop_assert!(told.remove(&peer).is_some()),
                        }
                    }
                    prop_assert_eq!(mode.peers().next(), Some(&peers[peer]));
                }
                prop_assert!(told.len() <= HighBandwidth::MAX);
                prop_assert_eq!(mode.peers().count(), told.len());
                prop_assert!(mode.peers().all(|peer| told.contains_key(peer)));
                let has_outbound = mode.peers.iter().any(|(_, outbound)| *outbound);
                prop_assert!(has_outbound || !outbound_before);
                outbound_before = has_outbound;
            }
        }
    }
}
