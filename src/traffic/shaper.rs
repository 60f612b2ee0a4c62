//! What holds one direction of a node's streams to its limits: GCRA for each peer and kind of traffic, and the byte budgets.
//!
//! A stream is shaped by waiting, not by refusing: nothing on it may be lost. So a driver asks [`Shaper::ready`] before it reads or
//! writes a frame and calls [`Shaper::charge`] when it knows what the frame costs. Whoever sends more than it may finds its stream
//! read more slowly, keeps what does not fit, and loses nothing. The same limits at both ends never wait for each other, since what
//! the sender's lets out conforms at the receiver's ([`RateLimiter::mirror`]).
//!
//! What is read is charged to the class that it is of, and known only then: a lane of which one class has used up its limit is
//! read no further. An honest sender holds back that class alone, so that none of its others waits.
//!
//! GCRA counts frames, items and unpacked bytes, which are what a message costs its receiver; budgets count bytes on the stream.
//! Votes wait for GCRA alone, never for a budget ([`super::Budget`]). Bounds: those of the two parts.

use std::ops::AddAssign;

use libp2p::PeerId;

use super::{Admission, Budgets, Class, Cost, Lane, Protocol, RateLimiter};

use crate::platform::Instant;

/// See the module's documentation.
#[derive(Debug)]
pub struct Shaper {
    limiter: RateLimiter,
    budgets: Budgets,
}

/// What frames are worth.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// How many there are.
    pub frames: u64,
    /// What they cost.
    pub cost: Cost,
    /// Their bytes on the stream.
    pub wire: usize,
}

impl Load {
    /// One frame's.
    pub fn of_one(cost: Cost, wire: usize) -> Self {
        Self {
            frames: 1,
            cost,
            wire,
        }
    }
}

impl AddAssign for Load {
    fn add_assign(&mut self, other: Self) {
        self.frames += other.frames;
        self.cost.items = self.cost.items.saturating_add(other.cost.items);
        self.cost.bytes = self.cost.bytes.saturating_add(other.cost.bytes);
        self.wire = self.wire.saturating_add(other.wire);
    }
}

impl Shaper {
    /// Both parts at rest.
    pub fn new(limiter: RateLimiter, budgets: Budgets) -> Self {
        Self { limiter, budgets }
    }

    /// When the next frame of this class may be read from the peer, or written to it.
    pub fn ready(&mut self, peer: &PeerId, class: Class, now: Instant) -> Admission {
        let limit = self.limiter.ready(peer, Protocol::Lane(class), now);
        let frame = self.limiter.ready(peer, Protocol::Frame, now);
        limit
            .later(frame)
            .later(self.budgets.ready(peer, class, now))
    }

    /// When the next frame of a lane may be read from the peer, of whichever class it turns out to be.
    pub fn lane_ready(&mut self, peer: &PeerId, lane: Lane, now: Instant) -> Admission {
        let ready = |class: &Class| self.ready(peer, *class, now);
        let classes = lane.classes().iter().map(ready);
        classes.fold(Admission::Now, Admission::later)
    }

    /// Whether a lane may wait for what all peers have together, which others may have used up: no limit of what this peer may send.
    pub fn is_throttled(&mut self, lane: Lane, now: Instant) -> bool {
        let mut classes = lane.classes().iter();
        classes.any(|class| self.budgets.is_used_up(*class, now))
    }

    /// Frames of a class were read, or written.
    pub fn charge(&mut self, peer: PeerId, class: Class, load: Load, now: Instant) {
        let frames = Cost {
            items: load.frames,
            bytes: 0,
        };
        self.budgets.charge(peer, class, load.wire, now);
        self.limiter.charge(peer, Protocol::Frame, frames, now);
        self.surcharge(peer, class, load.cost, now);
    }

    /// A frame that was read costs more than it seemed to.
    pub fn surcharge(&mut self, peer: PeerId, class: Class, cost: Cost, now: Instant) {
        self.limiter.charge(peer, Protocol::Lane(class), cost, now);
    }

    /// A peer is gone, as [`RateLimiter::forget`] has it.
    pub fn forget(&mut self, peer: &PeerId, now: Instant) {
        self.limiter.forget(peer, now);
    }
}

#[cfg(test)]
mod tests {
    use std::{num::NonZeroU64, time::Duration};

    use super::*;
    use crate::{
        platform::test,
        traffic::{BudgetConfig, Limit, Limits, Rate},
    };

    fn shaper(votes: u64, bytes: u64, now: Instant) -> Shaper {
        let items = Some(Rate {
            per_second: votes,
            burst: votes,
        });
        let limits = Limits {
            vote: Limit { items, bytes: None },
            ..Limits::default()
        };
        let budget = BudgetConfig {
            global: NonZeroU64::new(bytes),
            ..BudgetConfig::default()
        };
        Shaper::new(RateLimiter::new(limits), Budgets::new(budget, now))
    }

    /// A stream of frames that always has another one: how many items pass in so many seconds.
    fn flow(shaper: &mut Shaper, class: Class, cost: Cost, seconds: u64, start: Instant) -> u64 {
        let (peer, mut now, mut items) = (PeerId::random(), start, 0);
        while now < start + Duration::from_secs(seconds) {
            match shaper.ready(&peer, class, now) {
                Admission::At(at) => {
                    assert!(at > now, "it would be asked again at once");
                    now = at;
                }
                Admission::Now => {
                    let wire = usize::try_from(cost.bytes).expect("small");
                    shaper.charge(peer, class, Load::of_one(cost, wire), now);
                    items += cost.items;
                }
            }
        }
        shaper.forget(&peer, now);
        items
    }

    #[test]
    fn votes_wait_for_their_limit_and_for_no_budget() {
        let now = crate::platform::now();
        let vote = Cost {
            items: 1,
            bytes: 1000,
        };
        let votes = flow(&mut shaper(100, 1, now), Class::Vote, vote, 10, now);
        assert!((1099..=1101).contains(&votes), "{votes}");
    }

    #[test]
    fn each_class_has_its_own_limit_and_a_lane_waits_for_all_of_its() {
        let (now, peer) = (crate::platform::now(), PeerId::random());
        let mut shaper = shaper(u64::MAX, u64::MAX, now);
        let request = Cost {
            items: 1,
            bytes: 100,
        };
        let mut requests = 0;
        while shaper.lane_ready(&peer, Lane::Block, now) == Admission::Now {
            shaper.charge(peer, Class::BlockRequest, Load::of_one(request, 100), now);
            requests += 1;
        }
        let most = Limits::default().block_request.items.expect("a limit");
        assert_eq!(requests, most.burst);
        let blocks = shaper.ready(&peer, Class::Block, now);
        assert_eq!(blocks, Admission::Now, "they have a limit of their own");
        assert_eq!(shaper.lane_ready(&peer, Lane::Bulk, now), Admission::Now);
    }

    #[test]
    fn a_lane_that_waits_for_a_budget_is_told_from_one_that_waits_for_its_limit() {
        let (now, peer) = (crate::platform::now(), PeerId::random());
        let mut shaper = shaper(u64::MAX, 1000, now);
        let load = |wire| Load::of_one(Cost { items: 1, bytes: 1 }, wire);
        assert!(!shaper.is_throttled(Lane::Bulk, now));
        shaper.charge(PeerId::random(), Class::Transaction, load(1 << 20), now);
        assert!(shaper.is_throttled(Lane::Bulk, now), "by another");
        assert!(!shaper.is_throttled(Lane::Urgent, now));
        let mut shaper = self::shaper(1, u64::MAX, now);
        while shaper.lane_ready(&peer, Lane::Block, now) == Admission::Now {
            shaper.charge(peer, Class::BlockRequest, load(1), now);
        }
        assert!(!shaper.is_throttled(Lane::Block, now));
    }

    #[test]
    fn frames_without_items_are_not_free() {
        let now = crate::platform::now();
        let mut shaper = shaper(u64::MAX, u64::MAX, now);
        let (peer, nothing) = (PeerId::random(), Cost { items: 0, bytes: 0 });
        let mut frames = 0_u64;
        while shaper.ready(&peer, Class::Vote, now) == Admission::Now {
            shaper.charge(peer, Class::Vote, Load::of_one(nothing, 2), now);
            frames += 1;
        }
        assert_eq!(frames, 5000);
    }

    #[test]
    fn bulk_waits_for_its_budget_whatever_the_size() {
        let now = crate::platform::now();
        for items in [1, 7, 400] {
            let cost = Cost {
                items,
                bytes: 250 * items,
            };
            let mut shaper = shaper(100, 1_000_000, now);
            let bytes = 250 * flow(&mut shaper, Class::Transaction, cost, 10, now);
            assert!((9_900_000..10_400_000).contains(&bytes), "{bytes}");
        }
    }
}
