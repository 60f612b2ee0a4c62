//! Which links push: what makes the tree of them, and mends it.
//!
//! A link over which too much comes that is here already announces from then on, and one over which too much had to be fetched
//! pushes. What calls for that is seen twice before, with a random time in between: all nodes on a cycle see duplicates, and all that are cut
//! off fetch, so what one of them has mended meanwhile the others need not; all together would cut the cycle into pieces, or make new
//! ones. A node that nobody pushes to, and that pushes to nobody, takes another link as soon as somebody brings something new, which
//! makes no cycle. Where a link is late for longer than an overload is likely to last, one that is ahead of it pushes instead (`lateness.rs`); and another one does
//! where a link that should push only announces, although it was told again. One link is changed at a time: its effect has to show, on
//! it and on the others, before they are judged. So that changes without end, of whoever's links, do not hold up all judgement for ever,
//! that of the others waits only so often ([`EFFECTS`]); and what a peer says of its own link
//! takes back nothing that was held against it, but that what was counted is forgotten so often ([`ANEW`]).

use std::time::Duration;

use libp2p::PeerId;

use super::{Plumtree, lateness::Lateness, peer::Peer};
use crate::{peers::Misdeed, platform::Instant, propagation::wire::Link, traffic::Rate};

/// Duplicates on one link after which it is judged.
const JUDGED: u32 = 16;
/// A link is pruned where one item in so many is a duplicate. Where all nodes are sources, a cycle of links brings duplicates
/// to each of them only now and then, the seldomer the longer it is.
const DUPLICATE_PART: u32 = 16;
/// Fetched items of one announcer after which it is asked to push; where its link should push already, if they are more than one item in so many.
const RESCUED: u32 = 16;
const RESCUED_PART: u32 = 16;
/// So long at least after a link was changed nothing is counted on it, and it is not changed: the effect has to show first. As
/// much again at most is added at random, so that neighbours do not mend the same cut, or cut the same cycle, all at once.
const SETTLING: Duration = Duration::from_millis(500);
/// Duplicates after which a link is pruned that was judged so once before.
const STILL: u32 = JUDGED / 4;
/// So long at most, at random, a node with two links that push waits between the two looks; with more of them less, since what one too
/// many of those takes away is no cut. The longer it is, the seldomer two prune the same cycle at once, and the longer a cycle stays.
const CYCLE: Duration = Duration::from_secs(2);
/// As many times the patience of the node is the longest wait before it grafts: what makes it wait costs all that is behind it as much.
const CUT_OFF: u32 = 4;
const LONGEST_CUT: Duration = Duration::from_secs(1);
/// How often a node swaps two links for that: four times at once and once a minute, each counting its seconds.
pub(super) const OUTRUNS: Rate = Rate {
    per_second: 1,
    burst: 4 * OUTRUN_PACE,
};
const OUTRUN_PACE: u64 = 60;
/// How often the other links wait for the effect of a change too: as often as it takes for a tree to form, and then every four seconds,
/// each counting its seconds. All share it, since names are free.
pub(super) const EFFECTS: Rate = Rate {
    per_second: 1,
    burst: 16 * EFFECT,
};
const EFFECT: u64 = 4;
/// How often what was counted on a link is forgotten since its peer has changed it: four times at once, as while a tree forms, and once a minute, each
/// counting its seconds. Else who changes it time and again is never judged.
pub(super) const ANEW: Rate = Rate {
    per_second: 1,
    burst: 4 * ANEW_PACE,
};
const ANEW_PACE: u64 = 60;
/// How often a peer may change its link: twice as often as an honest one does ([`SETTLING`]), and what it may have saved.
pub(super) const CHANGES: Rate = Rate {
    per_second: 4,
    burst: 16,
};

impl Plumtree {
    /// A peer wants its link to push, or to announce.
    pub(crate) fn on_link(&mut self, from: PeerId, link: &Link, now: Instant) -> Option<Misdeed> {
        let peer = self.peers.get_mut(&from)?;
        if !peer.record.changes.admits(1, now) {
            return Some(Misdeed::TooManyMessages);
        }
        // What either end said last may be lost, or cross the other's word: the link pushes if both say so. Where it should and does not, grafting mends that.
        let agrees_anew = std::mem::take(&mut peer.agrees_anew);
        let push = link.push && (peer.pushes || !agrees_anew);
        peer.tells_link |= push != link.push;
        if peer.pushes != push {
            peer.pushes = push;
            // How late it was, and what we have said ourselves, holds all the same.
            if peer.record.anew.admits(ANEW_PACE, now) {
                peer.settle(now);
                peer.doubted = [false; 2];
            }
            if !push {
                self.attach(from, now);
            }
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
        let [doubted, _] = peer.doubted;
        let enough = if doubted { STILL } else { JUDGED };
        if peer.duplicates >= enough && many {
            if self.is_still(id, false, now) {
                self.change(id, false, now);
                self.attach(id, now);
            }
        } else if peer.fresh > 1024 {
            peer.fresh /= 2;
            peer.duplicates /= 2;
            peer.rescued /= 2;
            peer.doubted = [false; 2];
            // Whatever we have said, it is of use.
            peer.record.said = None;
        }
    }

    /// Whoever had to send what nobody else pushed shall push; and is told so again where it should do so already, since our word may have crossed its own. Who does not
    /// all the same gives way to another one, at random of those that tell of something new.
    pub(super) fn graft(&mut self, id: PeerId, now: Instant) {
        let Some(peer) = self.peers.get(&id) else {
            return;
        };
        let many = peer.rescued * RESCUED_PART > peer.fresh + peer.rescued;
        if peer.rescued < RESCUED || peer.pushes && !many {
            return;
        }
        let in_vain = peer.pushes && peer.record.said == Some(true);
        if !self.is_still(id, true, now) {
            return;
        }
        let next = in_vain.then(|| self.with_news(id, now)).flatten();
        if !next.is_some_and(|next| self.replace(id, next, now)) {
            self.change(id, true, now);
        }
    }

    /// What had to be fetched counts for whoever sent it.
    pub(super) fn count_rescues(&mut self, now: Instant) {
        if self.fetches.is_late(now) {
            return;
        }
        let wait = self.fetches.patience(now) * 2;
        while let Some((at, from)) = self.rescues.next_needed(wait, now) {
            if let Some(peer) = self.peers.get_mut(&from) {
                let counts = u32::from(peer.rescues_from <= at);
                peer.rescued = peer.rescued.saturating_add(counts);
            }
        }
    }

    /// Something calls for a link to be changed: the second time it is to be.
    fn is_still(&mut self, id: PeerId, push: bool, now: Instant) -> bool {
        let others = self.peers.iter().filter(|(other, _)| **other != id);
        let others = others.filter(|(_, peer)| peer.pushes).count();
        let wait = if push {
            (self.fetches.patience(now) * CUT_OFF).min(LONGEST_CUT)
        } else {
            CYCLE / u32::try_from(others).unwrap_or(u32::MAX).max(1)
        };
        let share = random(&mut self.random);
        let Some(peer) = self.peers.get_mut(&id) else {
            return false;
        };
        let [announces, pushes] = &mut peer.doubted;
        let doubted = if push { pushes } else { announces };
        let is_still = std::mem::replace(doubted, true);
        if !is_still {
            peer.settle(now + wait.mul_f64(share));
        }
        is_still
    }

    /// Where no link pushes any more, another one shall: of one that tells of what is not here, or else of the first that does.
    pub(super) fn attach(&mut self, pruned: PeerId, now: Instant) {
        if self.peers.values().any(|peer| peer.pushes) {
            return;
        }
        let next = self.with_news(pruned, now);
        self.detached = next.is_none();
        if let Some(next) = next {
            self.change(next, true, now);
        }
    }

    /// A peer brought something new, where no link pushes any more.
    pub(super) fn attach_to(&mut self, from: PeerId, now: Instant) {
        self.detached = false;
        if !self.peers.values().any(|peer| peer.pushes) {
            self.change(from, true, now);
        }
    }

    /// What a link pushes has come too late for too long: that of this peer, which has sent the same before, shall push instead, if it does not so already. It would have
    /// sooner yet, by the time that the questions took, and so the two do not swap again where all links are slow. False: that was done too often.
    pub(super) fn replace(&mut self, late: PeerId, next: PeerId, now: Instant) -> bool {
        if !self.outruns.admits(OUTRUN_PACE, now) {
            return false;
        }
        // In this order: nobody is left that no link pushes to.
        if self.peers.get(&next).is_some_and(|peer| !peer.pushes) {
            self.change(next, true, now);
        }
        self.change(late, false, now);
        true
    }

    /// At random, one of those but this whose links do not push and that told of something new lately; or else of those of whom that is not noted, since they
    /// have no place.
    fn with_news(&mut self, but: PeerId, now: Instant) -> Option<PeerId> {
        let tell = self.news.places(now);
        self.any_in(tell, but).or_else(|| {
            let may =
                |(id, peer): &(&PeerId, &Peer)| peer.place.is_none() && !peer.pushes && **id != but;
            let others = self.peers.iter().filter(may).map(|(id, _)| *id);
            self.any_of(others.collect())
        })
    }

    /// At random, one of those in these places but this whose links do not push.
    fn any_in(&mut self, places: u128, but: PeerId) -> Option<PeerId> {
        let pushes = |id: &PeerId| self.peers.get(id).is_none_or(|peer| peer.pushes);
        let others = self.holders(places).filter(|id| *id != but && !pushes(id));
        self.any_of(others.collect())
    }

    fn any_of(&mut self, peers: Vec<PeerId>) -> Option<PeerId> {
        let at = random(&mut self.random) * peers.len() as f64;
        peers.get(at as usize).copied()
    }

    /// Makes a link push or announce, both ways. The others wait for the effect.
    pub(super) fn change(&mut self, id: PeerId, push: bool, now: Instant) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        let share = random(&mut self.random);
        let settles_at = now + SETTLING + SETTLING.mul_f64(share);
        if peer.pushes != push {
            peer.record.lateness = Lateness::default();
        }
        (peer.pushes, peer.tells_link) = (push, true);
        (peer.record.said, peer.doubted) = (Some(push), [false; 2]);
        peer.settle(settles_at);
        self.fetches.touch(id);
        if self.effects.admits(EFFECT, now) {
            let others = self.peers.values_mut();
            others.for_each(|peer| peer.wait_for(push, settles_at));
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
