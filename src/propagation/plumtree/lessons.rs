//! What the way shows on which an item came: how long pushes take, which link brings things late, and whose announcement was needed.
//!
//! It counts once the chain has accepted the item, so that nobody teaches anything by what it makes up. A push that comes after the item was fetched counts
//! for whoever pushed it, and so does its word that it would have ([`Items::spared`](crate::propagation::wire::Items::spared)), as far as it has pushed what was new: else
//! who has nothing could say so of all, and nothing would ever have had to be fetched.
//!
//! One lesson goes this way: [`Plumtree::on_items`] notes in the item's entry (`Checking::shows`) what its way would show; [`Plumtree::conclude`] takes it from there once the item is
//! accepted. How long a push took goes on to the patience (`fetches/patience.rs`) and to what is held against its link (`lateness.rs`); what was fetched goes to `rescues.rs`, until a push,
//! or word of one, makes it a late push after all, or nobody's does: then [`Plumtree::count_rescues`] counts it for who had it, who is grafted for enough of them.
//!
//! Bounds: an entry for each item that is being checked; [`MOST_BELIEVED`] of what a peer says, and [`BELIEVED_ANYHOW`] of what one says that pushes nothing.

use std::time::Duration;

use libp2p::PeerId;

use super::{Plumtree, late_after, lateness::Verdict, peer::Peer};
use crate::{
    chain::ShortId,
    platform::Instant,
    traffic::{Admission, Rate},
};

/// How often a peer is believed that it would have pushed something, for each accepted item that it did push; and at most.
const BELIEVED: u32 = 16;
const MOST_BELIEVED: u32 = 4096;
/// How often one is that has pushed nothing: as often at once, and then once a minute, each counting its seconds.
pub(super) const BELIEVED_ANYHOW: Rate = Rate {
    per_second: 1,
    burst: BELIEVED as u64 * A_WORD,
};
const A_WORD: u64 = 60;

/// What counts once the chain has accepted an item.
#[derive(Debug)]
pub(super) enum Shows {
    Push(Push),
    /// It had to be fetched of this peer, unless somebody pushes it yet; when it was announced first.
    Fetch(Box<(PeerId, Instant)>),
}

/// An item was pushed.
#[derive(Debug)]
pub(super) struct Push {
    /// How long after it had been announced first; 0: before that.
    pub(super) took: Duration,
    /// Whether that shows how long the pushes of others take too.
    pub(super) of_others: bool,
    /// Whose push it was, and who had sent the item before, for the asking; `None`: of who brought it.
    pub(super) after: Option<Box<(PeerId, PeerId)>>,
}

impl Plumtree {
    /// A peer would have pushed these now, had it not been told that they are here: how late that is, and that they need not have been fetched.
    pub(crate) fn on_spared(
        &mut self,
        from: PeerId,
        spared: impl Iterator<Item = ShortId>,
        now: Instant,
    ) {
        for id in spared {
            let is_believed = |peer: &Peer| peer.pushes && peer.is_believed(now);
            if !self.peers.get(&from).is_some_and(is_believed) {
                return;
            }
            if self.pushed_late(from, id, now)
                && let Some(peer) = self.peers.get_mut(&from)
            {
                peer.is_believed_once(now);
            }
        }
    }

    /// A link pushes what is here, or would have. True: it had been fetched of another one meanwhile, and need not have been. What its own peer had sent for the
    /// asking is no push when it comes once more.
    pub(super) fn pushed_late(&mut self, by: PeerId, id: ShortId, now: Instant) -> bool {
        let push = |(of, since)| Push {
            took: now.saturating_duration_since(since),
            of_others: true,
            after: Some(Box::new((by, of))),
        };
        if let Some(checking) = self.checking.get_mut(&id) {
            let Some(Shows::Fetch(fetched)) = &checking.shows else {
                return false;
            };
            if fetched.0 == by {
                return false;
            }
            checking.shows = Some(Shows::Push(push(**fetched)));
            return true;
        }
        let Some(fetched) = self.rescues.pushed(&id, by, now) else {
            return false;
        };
        self.learn(by, &push(fetched), now);
        true
    }

    /// The chain has accepted an item that this peer brought. True: it had to be fetched, by all that is known.
    pub(super) fn conclude(
        &mut self,
        id: ShortId,
        brought: Option<PeerId>,
        shows: Option<Shows>,
        now: Instant,
    ) -> bool {
        match shows {
            Some(Shows::Fetch(fetched)) => {
                let (of, since) = *fetched;
                self.rescues.fetched(id, of, since, now);
                true
            }
            Some(Shows::Push(push)) => {
                let after = push.after.as_deref();
                let by = after.map(|(by, _)| *by).or(brought);
                if let Some(by) = by {
                    self.learn(by, &push, now);
                    if push.after.is_none()
                        && let Some(peer) = self.peers.get_mut(&by)
                    {
                        peer.believed = (peer.believed + BELIEVED).min(MOST_BELIEVED);
                    }
                }
                false
            }
            None => false,
        }
    }

    /// How long a push took, of an accepted item.
    fn learn(&mut self, by: PeerId, push: &Push, now: Instant) {
        if push.of_others {
            self.fetches.pushed(push.took, now);
        }
        // Else what this node is late itself with would be held against its links.
        if self.fetches.is_late(now) {
            return;
        }
        let Some(peer) = self.peers.get_mut(&by).filter(|peer| peer.pushes) else {
            return;
        };
        let mut lateness = std::mem::take(&mut peer.record.lateness);
        if let Some((_, of)) = push.after.as_deref() {
            lateness.is_behind(*of);
        }
        let is_here = |peer: &PeerId| self.peers.contains_key(peer);
        let verdict = lateness.pushed(push.took, late_after(&self.config), is_here, now);
        if let Some(peer) = self.peers.get_mut(&by) {
            peer.record.lateness = lateness;
        }
        match verdict {
            Verdict::Outrun(next) => {
                self.replace(by, next, now);
            }
            Verdict::Doubted if self.probes.admits(1, now) => self.fetches.probe(),
            Verdict::Doubted | Verdict::Good => {}
        }
    }
}

impl Peer {
    /// Whether it is believed that it would have pushed something.
    fn is_believed(&self, now: Instant) -> bool {
        self.believed > 0 || self.record.believed.ready(now) == Admission::Now
    }

    /// It was believed once more.
    fn is_believed_once(&mut self, now: Instant) {
        if self.believed > 0 {
            self.believed -= 1;
        } else {
            self.record.believed.charge(A_WORD, now);
        }
    }
}
