//! How many bytes a second may go up or come down: two token buckets.
//!
//! A budget is a stream of tokens, one for each byte, into two buckets: one for what is urgent (votes and blocks) and one for
//! bulk. Seven of eight tokens go to the urgent bucket and one to the other; what a full bucket cannot take goes to its
//! neighbour. So either kind has the whole budget when it is alone, and when both want more than there is, urgent traffic
//! gets 7/8 and bulk is never starved. Whoever finds its bucket above empty may send, whatever the size, and the bucket
//! goes into debt: large messages need no special case, and what came down is charged when its size is known.
//!
//! Votes never wait. They are charged all the same, and others wait until their debt is paid, but it stops growing at
//! [`Budget::VOTE_DEBT`]: a flood of votes above the budget slows the rest down to the share of bulk, and is forgotten soon after
//! its end. That is the one way to exceed a budget; limits on votes are GCRA's affair ([`super::RateLimiter`]).
//!
//! Bounds: in any stretch of time no more than the rate's bytes, two bursts, the votes' debt and the last message of each
//! bucket, votes above the budget aside: 4% of ten seconds and two messages.

use std::{num::NonZeroU64, time::Duration};

use super::class::{Class, Lane};

use crate::platform::Instant;

/// Tokens count billionths of a byte, so that a nanosecond at any rate is a whole number of them.
const BYTE: i128 = 1_000_000_000;

/// When a message may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// At once.
    Now,
    /// Not yet; ask again then. Urgent traffic that comes meanwhile may delay it further.
    At(Instant),
}

impl Admission {
    /// When both have admitted it.
    pub(crate) fn later(self, other: Self) -> Self {
        match (self, other) {
            (Self::At(one), Self::At(another)) => Self::At(one.max(another)),
            (Self::Now, other) | (other, Self::Now) => other,
        }
    }
}

/// The bytes a second of one direction. See the module's documentation.
#[derive(Clone, Debug)]
pub struct Budget {
    /// Bytes a second, and so tokens a nanosecond.
    rate: i128,
    urgent: i128,
    bulk: i128,
    filled: Instant,
}

impl Budget {
    /// What a full bucket holds, as a time at the budget's rate: so late may a driver come without losing anything.
    pub const BURST: Duration = Duration::from_millis(100);
    /// The most that votes owe, as a time at the budget's rate.
    pub const VOTE_DEBT: Duration = Duration::from_millis(200);

    /// Full buckets at so many bytes a second.
    pub fn new(rate: NonZeroU64, now: Instant) -> Self {
        let rate = i128::from(rate.get());
        let full = tokens(rate, Self::BURST);
        Self {
            rate,
            urgent: full,
            bulk: full,
            filled: now,
        }
    }

    /// Whether a message of this class may go now. Nothing is charged.
    pub fn ready(&mut self, class: Class, now: Instant) -> Admission {
        self.ready_above(Duration::ZERO, class, now)
    }

    /// The same for who leaves so much (as a time at the budget's rate, less than the burst) in the bucket to others.
    pub(super) fn ready_above(
        &mut self,
        reserve: Duration,
        class: Class,
        now: Instant,
    ) -> Admission {
        if class == Class::Vote {
            return Admission::Now;
        }
        self.fill(now);
        let full = tokens(self.rate, Self::BURST);
        // The bucket's share of eight, and what its neighbour can take before the rest overflows.
        let share = if class.lane() == Lane::Bulk { 1 } else { 7 };
        let (bucket, neighbour) = self.buckets(class);
        let (level, neighbour) = (*bucket, full.saturating_sub(*neighbour));
        let missing = (tokens(self.rate, reserve) + 1).saturating_sub(level);
        if missing <= 0 {
            return Admission::Now;
        }
        let inflow = missing.saturating_mul(8) / share;
        let inflow = inflow.min(missing.saturating_add(neighbour));
        let nanos = u64::try_from(inflow / self.rate + 1).unwrap_or(u64::MAX);
        Admission::At(now + Duration::from_nanos(nanos))
    }

    /// Takes the bytes of a message out of its bucket.
    pub fn charge(&mut self, class: Class, bytes: usize, now: Instant) {
        self.fill(now);
        let cost = i128::try_from(bytes)
            .unwrap_or(i128::MAX)
            .saturating_mul(BYTE);
        match class {
            Class::Vote => {
                let least = self.urgent.min(-tokens(self.rate, Self::VOTE_DEBT));
                self.urgent = self.urgent.saturating_sub(cost).max(least);
            }
            _ => {
                let (bucket, _) = self.buckets(class);
                *bucket = bucket.saturating_sub(cost);
            }
        }
    }

    /// The bucket that a class is paid from, and its neighbour. In one place, so that nothing waits for one and empties another.
    fn buckets(&mut self, class: Class) -> (&mut i128, &mut i128) {
        match class.lane() {
            Lane::Urgent | Lane::Block => (&mut self.urgent, &mut self.bulk),
            Lane::Bulk => (&mut self.bulk, &mut self.urgent),
        }
    }

    fn fill(&mut self, now: Instant) {
        let new = tokens(self.rate, now.saturating_duration_since(self.filled));
        self.filled = self.filled.max(now);
        let full = tokens(self.rate, Self::BURST);
        let urgent = (new - new / 8).min(full.saturating_sub(self.urgent));
        self.urgent += urgent;
        let bulk = (new - urgent).min(full.saturating_sub(self.bulk));
        self.bulk += bulk;
        let rest = new - urgent - bulk;
        self.urgent += rest.min(full - self.urgent);
    }
}

/// The tokens of a stretch of time.
fn tokens(rate: i128, time: Duration) -> i128 {
    let nanos = i128::try_from(time.as_nanos()).unwrap_or(i128::MAX);
    rate.saturating_mul(nanos)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::test;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn who_comes_when_told_is_admitted(
            rate in 1u64..10_000_000_000,
            charges in proptest::collection::vec((proptest::sample::select(Class::ALL.as_slice()), 0usize..1 << 24, 0u64..100_000_000), 1..50),
            class in proptest::sample::select(Class::ALL.as_slice()),
        ) {
            let mut now = crate::platform::now();
            let mut budget = Budget::new(NonZeroU64::new(rate).expect("positive"), now);
            for (class, bytes, pause) in charges {
                now += Duration::from_nanos(pause);
                budget.charge(class, bytes, now);
            }
            if let Admission::At(at) = budget.ready(class, now) {
                prop_assert!(class != Class::Vote);
                prop_assert_eq!(budget.clone().ready(class, at), Admission::Now);
                prop_assert!(budget.ready(class, at - Duration::from_micros(1).min((at - now) / 2)) != Admission::Now);
            }
        }
    }
}
