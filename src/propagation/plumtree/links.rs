//! Which links push: what makes the tree of them, and mends it.
//!
//! A link over which too much comes that is here already announces from then on, and one over which too much had to be fetched
//! pushes. One link is changed at a time: its effect on the others has to show before they are judged. So that nobody holds up
//! their judgement for ever, what one peer makes of its own link counts as a change to wait for only now and then.

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
/// After a link was changed, so long at least nothing is counted and no other one is changed: the effect has to show first. As much
/// again at most is added at random, so that neighbours do not mend the same cut, or cut the same cycle, all at once.
const SETTLING: Duration = Duration::from_millis(500);
/// How often the effect of a change of one peer's link is waited for: twice at once and every half minute, each counting its seconds.
/// Beyond that its link alone is changed: nobody keeps those of others from being judged.
pub(super) const EFFECTS: Rate = Rate {
    per_second: 1,
    burst: 2 * EFFECT,
};
const EFFECT: u64 = 30;
/// How often a peer may change its link: twice as often as an honest one does, and what it may have saved.
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
            (peer.pushes, peer.link_told_at) = (link.push, None);
            peer.count_anew();
        }
        None
    }

    /// Whoever pushes too often what is here already shall announce instead.
    pub(super) fn judge(&mut self, id: PeerId, now: Instant) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        let many = peer.duplicates * DUPLICATE_PART > peer.fresh + peer.duplicates;
        if peer.duplicates >= JUDGED && many {
            if peer.pushes {
                return self.change(id, false, now);
            }
            // Once more, if it does so although it was told: both may have changed the link at once. That is between the two.
            let was_told = |at: Instant| now < at + 2 * SETTLING;
            if !peer.link_told_at.is_some_and(was_told) {
                peer.tell_link(now);
                peer.count_anew();
            }
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
        peer.pushes = push;
        peer.tell_link(now);
        peer.count_anew();
        if !peer.paces.effects.admits(EFFECT, now) {
            return;
        }
        self.peers.values_mut().for_each(Peer::count_anew);
        let share = random(&mut self.random);
        self.settles_at = Some(now + SETTLING + SETTLING.mul_f64(share));
    }

    pub(super) fn is_settled(&self, now: Instant) -> bool {
        self.settles_at.is_none_or(|settles_at| settles_at <= now)
    }
}

/// The next number from 0 to 1 by Marsaglia's xorshift64: all that is asked of it is that neighbours differ.
pub(super) fn random(state: &mut u64) -> f64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    (*state >> 40) as f64 / f64::from(1 << 24)
}
