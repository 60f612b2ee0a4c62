//! Whether the chain is as far as others': when a node says that it is synced, and when not.
//!
//! How long the chain is, nobody can know; peers say how far they are. A node is **synced** once nobody has more than it has, and that is worth
//! something: [`ENOUGH`] peers are as far as it is, or some are and for [`SETTLE`] nobody has come with more. Who is further behind than [`FEW`]
//! blocks says nothing of the tip, however many say it (than the chain was [`LAG`] ago: peers tell of their tips once a second at most, and blocks may
//! come faster). A claim alone holds that up only as long as its peer is believed; and once it is synced a node stays so until headers that its chain
//! has judged lead further than a few blocks, or until nobody is left.
//!
//! What hangs on it: a new chain is taken over whole by a snapshot until it is synced first, and [`crate::NetworkEvent::Synced`] tells it.

use std::{collections::VecDeque, time::Duration};

use super::{Sync, branch::Branch, headers::FEW, peers::Peer};
use crate::platform::Instant;

/// So many peers that are as far are believed at once.
const ENOUGH: usize = 3;
/// Fewer are believed when for so long nobody has come with more.
const SETTLE: Duration = Duration::from_secs(5);
/// How often it is looked who is how far, until it is synced.
const EVERY: Duration = Duration::from_millis(500);
/// So many times before that: what is said of a tip is so old, and no older.
const LAG: usize = 4;

/// Where a node's chain stands, as far as its peers show.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum SyncPhase {
    /// Nobody has more, and too little is known to say that this is the tip: there is no peer, or none that is as far, or that was not so for long enough.
    #[default]
    Waiting,
    /// Peers have more, and it is being fetched.
    Syncing,
    /// The chain is as far as its peers'.
    Synced,
}

impl SyncPhase {
    /// A stable, short name for programs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Syncing => "syncing",
            Self::Synced => "synced",
        }
    }
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Standing {
    pub(super) phase: SyncPhase,
    /// Since when nobody has more, and somebody is as far.
    since: Option<Instant>,
    /// The chain's height when it was looked since then, the latest last.
    heights: VecDeque<u64>,
    /// When it is looked next.
    pub(super) look_at: Option<Instant>,
}

/// Who is how far.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    /// Somebody has more than a few blocks more; somebody has something that is not here.
    is_far: bool,
    is_near: bool,
    /// Peers that are as far as we are.
    abreast: usize,
}

impl Standing {
    /// The chain is at this height: what who is as far says at least.
    fn abreast_of(&mut self, height: u64) -> u64 {
        self.heights.push_back(height);
        if self.heights.len() <= LAG {
            return height;
        }
        // The chain may have gone back since.
        self.heights
            .pop_front()
            .map_or(height, |then| then.min(height))
    }

    /// Whether the phase is another one now.
    fn see(&mut self, seen: Seen, now: Instant) -> bool {
        let since = match seen {
            Seen { is_far: true, .. } | Seen { abreast: 0, .. } => None,
            _ => Some(self.since.unwrap_or(now)),
        };
        self.since = since;
        if seen.is_far {
            self.heights.clear();
        }
        let is_settled = since.is_some_and(|since| seen.abreast >= ENOUGH || now >= since + SETTLE);
        self.turn(if seen.is_far {
            SyncPhase::Syncing
        } else if is_settled && !seen.is_near {
            SyncPhase::Synced
        } else if seen.is_near {
            // A block or two are on their way.
            self.phase
        } else {
            SyncPhase::Waiting
        })
    }

    /// What was seen before says nothing any more.
    fn restart(&mut self, phase: SyncPhase) -> bool {
        self.since = None;
        self.heights.clear();
        self.turn(phase)
    }

    fn turn(&mut self, phase: SyncPhase) -> bool {
        std::mem::replace(&mut self.phase, phase) != phase
    }
}

impl Sync {
    /// A peer has come or gone.
    pub(super) fn peers_changed(&mut self, now: Instant) {
        if self.peers.is_empty() {
            if self.standing.restart(SyncPhase::Waiting) {
                self.tell_status();
            }
        } else if self.standing.phase != SyncPhase::Synced {
            self.standing.look_at.get_or_insert(now + EVERY);
        }
    }

    /// Looks who is how far. What is linear in peers is done [`EVERY`] so often, and while it is not synced.
    pub(super) fn look_around(&mut self, now: Instant) {
        if self.standing.phase == SyncPhase::Synced {
            // Only what the chain has judged counts now.
            let follows = |branch: &Branch| branch.best.is_some() && branch.len() as u64 > FEW;
            if self.branch.as_ref().is_some_and(follows) {
                self.standing.restart(SyncPhase::Syncing);
                self.standing.look_at = Some(now + EVERY);
                self.tell_status();
            }
            return;
        }
        if self.standing.look_at.take_if(|at| now >= *at).is_none() {
            return;
        }
        let seen = self.seen(now);
        if self.standing.see(seen, now) {
            self.tell_status();
        }
        if self.standing.phase != SyncPhase::Synced && !self.peers.is_empty() {
            self.standing.look_at = Some(now + EVERY);
        }
    }

    fn seen(&mut self, now: Instant) -> Seen {
        let Some(tip) = self.tip().map(|tip| tip.height) else {
            return Seen::default();
        };
        let least = self.standing.abreast_of(tip);
        // Who does not show what it says to have is not asked for a while, nor believed.
        let claims = |id| self.peers.get(id).filter(|peer| !peer.is_doubted(now));
        let ahead = self.ahead.keys().filter_map(claims).map(Peer::height);
        let ahead = ahead.max();
        let follows = |branch: &&Branch| branch.best.is_some() && branch.len() > 0;
        let branch = self.branch.as_ref().filter(follows);
        let head = branch.map(|branch| branch.head.height);
        let far = tip.saturating_add(FEW);
        let said = |peer: &&Peer| peer.status.is_some() && !peer.is_doubted(now);
        let said = self.peers.values().filter(said);
        let is_unsure = !self.unknown.is_empty() || !self.looked.is_empty();
        Seen {
            is_far: ahead.max(head) > Some(far),
            is_near: ahead.max(head).is_some() || is_unsure,
            abreast: said
                .filter(|peer| peer.height().saturating_add(FEW) >= least)
                .count(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::{self, test};

    const NOBODY: Seen = Seen {
        is_far: false,
        is_near: false,
        abreast: 0,
    };

    fn phase(seen: &[(u64, Seen)]) -> SyncPhase {
        let (mut standing, begin) = (Standing::default(), platform::now());
        for (seconds, seen) in seen {
            standing.see(*seen, begin + Duration::from_secs(*seconds));
        }
        standing.phase
    }

    #[test]
    fn who_is_abreast_is_believed_at_once_where_they_are_enough_and_else_after_a_while() {
        let abreast = |abreast| Seen { abreast, ..NOBODY };
        assert_eq!(phase(&[(0, NOBODY), (60, NOBODY)]), SyncPhase::Waiting);
        assert_eq!(phase(&[(0, abreast(3))]), SyncPhase::Synced);
        assert_eq!(
            phase(&[(0, abreast(1)), (4, abreast(2))]),
            SyncPhase::Waiting
        );
        assert_eq!(
            phase(&[(0, abreast(1)), (5, abreast(1))]),
            SyncPhase::Synced
        );
        let gone = [(0, abreast(1)), (3, NOBODY), (6, abreast(1))];
        assert_eq!(phase(&gone), SyncPhase::Waiting);
    }

    #[test]
    fn who_has_more_holds_it_up() {
        let abreast = |is_far, is_near| Seen {
            is_far,
            is_near,
            abreast: 5,
        };
        let far = abreast(true, true);
        assert_eq!(phase(&[(0, far)]), SyncPhase::Syncing);
        let near = abreast(false, true);
        assert_eq!(phase(&[(0, far), (1, near), (9, near)]), SyncPhase::Syncing);
        assert_eq!(phase(&[(0, near), (9, near)]), SyncPhase::Waiting);
        let none = abreast(false, false);
        assert_eq!(phase(&[(0, near), (9, none)]), SyncPhase::Synced);
    }
}
