//! Which links push: what makes the tree of them, and mends it.
//!
//! A link over which too much comes that is here already announces from then on, and one over which too much had to be fetched
//! pushes. One link is changed at a time: its effect has to show, on it and on the others, before they are judged. So that changes
//! without end, of whoever's links, do not hold up all judgement for ever, that of the others waits only so often ([`EFFECTS`]).

use std::time::Duration;

use libp2p::PeerId;

use super::{Plumtree, peer::Peer};
use crate::{peers::Misdeed, platform::Instant, propagation::wire::Link, traffic::Rate};

/// Duplicates on one link after which it is judged.
pub(super) const JUDGED: u32 = 16;
/// A link is pruned where one item in so many is a duplicate. Where all nodes are sources, a cycle of links brings duplicates
/// to each of them only now and then, the seldomer the longer it is.
const DUPLICATE_PART: u32 = 16;
/// Fetched items of one announcer after which it is asked to push.
const RESCUED: u32 = 16;
/// So long at least after a link was changed nothing is counted on it, and it is not changed: the effect has to show first. As
/// much again at most is added at random, so that neighbours do not mend the same cut, or cut the same cycle, all at once.
const SETTLING: Duration = Duration::from_millis(500);
/// How often the other links wait for the effect of a change too: as often as it takes for a tree to form, and then every four seconds,
/// each counting its seconds. All share it, since names are free.
pub(super) const EFFECTS: Rate = Rate {
    per_second: 1,
    burst: 16 * EFFECT,
};
const EFFECT: u64 = 4;
/// How often a peer may change its link: twice as often as an honest one does ([`SETTLING`]), and what it may have saved.
pub(super) const CHANGES: Rate = Rate {
    per_second: 4,
    burst: 16,
};

impl Plumtree {
    /// A peer wants its link to push, or to announce.
    pub(crate) fn on_link(&mut self, from: PeerId, link: &Link, now: Instant) -> Option<Misdeed> {
        let peer = self.peers.get_mut(&from)?;
        if !peer.paces.changes.admits(1, now) {
            return Some(Misdeed::TooManyMessages);
        }
        if peer.pushes != link.push {
            peer.pushes = link.push;
            peer.count_anew();
        }
        None
    }

    /// Whoever pushes too often what is here already shall announce instead; and is told so again if it was told: both may have
    /// changed the link at once.
    pub(super) fn judge(&mut self, id: PeerId, now: Instant) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        let many = peer.duplicates * DUPLICATE_PART > peer.fresh + peer.duplicates;
        if peer.duplicates >= JUDGED && many {
            self.change(id, false, now);
        } else if peer.fresh > 1024 {
            peer.fresh /= 2;
            peer.duplicates /= 2;
        }
    }

    /// Whoever had to send what others did not push in time shall push.
    pub(super) fn graft(&mut self, id: PeerId, now: Instant) {
        let grafts = |peer: &Peer| peer.rescued >= RESCUED && !peer.pushes;
        if self.peers.get(&id).is_some_and(grafts) {
            self.change(id, true, now);
        }
    }

    /// Makes a link push or announce, both ways. What was counted before, of all of them, says nothing of what is then.
    fn change(&mut self, id: PeerId, push: bool, now: Instant) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        let share = random(&mut self.random);
        let settles_at = now + SETTLING + SETTLING.mul_f64(share);
        (peer.pushes, peer.tells_link) = (push, true);
        peer.settle(settles_at);
        if self.effects.admits(EFFECT, now) {
            let others = self.peers.values_mut();
            others.for_each(|peer| peer.settle(settles_at));
        }
    }
}

/// The next number from 0 to 1 by Marsaglia's xorshift64: all that is asked of it is that neighbours differ.
pub(super) fn random(state: &mut u64) -> f64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    (*state >> 40) as f64 / f64::from(1 << 24)
}
