//! GCRA, the generic cell rate algorithm (ATM Forum, 1996), for each peer and protocol.
//!
//! A message costs items and bytes. For each of the two GCRA keeps one timestamp, the "theoretical arrival time" at which
//! a sender at exactly the rate would be even: a message that moves it further ahead of now than the burst is worth does
//! not conform. So a peer may send a burst at once and the rate on average, and a check is a look-up and a few sums.
//!
//! Both ends of a connection may hold the same limits: the receiver refuses what does not conform, and the sender
//! ([`RateLimiter::mirror`]) holds back what would be refused.
//!
//! Bounds: one entry of fixed size for each protocol of each peer. The owner tells when a peer's last connection ends: what is ahead of
//! now then is kept until it is not (`debts.rs`), or a new connection would renew every burst.

use std::{collections::HashMap, time::Duration};

use libp2p::PeerId;

use super::{
    budget::Admission,
    limits::{Limits, Protocol},
};

use crate::{debts::Debts, platform::Instant};

/// So many a second on average, and so many at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Units a second on average; 0 counts as 1.
    pub per_second: u64,
    /// Units at once, and so the most that one message may cost. More than 18e9 count as 18e9.
    pub burst: u64,
}

/// What a message costs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Items in it.
    pub items: u64,
    /// Its bytes.
    pub bytes: u64,
}

/// Why a message does not conform.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It costs more than the burst, so it will never conform; nobody who keeps to the limits sends it.
    #[error("the message is over the limit of its protocol")]
    TooLarge,
    /// It came too soon.
    #[error("it came sooner than the limit of its protocol allows")]
    TooSoon {
        /// When it conforms, if nothing else of its protocol is admitted until then.
        retry_at: Instant,
    },
}

/// Who has sent how much of late. See the module's documentation.
#[derive(Debug)]
pub struct RateLimiter {
    limits: Limits,
    /// Quarters of the burst that are in use.
    quarters: u32,
    accounts: HashMap<PeerId, Account>,
    gone: Debts<Account>,
}

/// What a peer has done of late.
type Account = HashMap<Protocol, Arrival>;

/// Theoretical arrival times.
#[derive(Clone, Copy, Debug)]
struct Arrival {
    items: Instant,
    bytes: Instant,
}

impl Arrival {
    /// When all of both bursts is there again.
    fn rests_at(&self) -> Instant {
        self.items.max(self.bytes)
    }
}

impl RateLimiter {
    /// Limits what peers send to this node.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            quarters: 4,
            accounts: HashMap::new(),
            gone: Debts::default(),
        }
    }

    /// Limits what this node sends to peers that hold it to these limits. It leaves a quarter of the burst unused, so that
    /// messages which the way there pushes together still conform.
    pub fn mirror(limits: Limits) -> Self {
        Self {
            quarters: 3,
            ..Self::new(limits)
        }
    }

    /// Whether a message conforms now; one that does not is not counted.
    ///
    /// # Errors
    /// [`Refusal`]: it is too large for ever, or came too soon.
    pub fn admits(
        &mut self,
        peer: PeerId,
        protocol: Protocol,
        cost: Cost,
        now: Instant,
    ) -> Result<(), Refusal> {
        let (limit, quarters) = (self.limits.of(protocol), self.quarters);
        let arrival = self.arrival(peer, protocol, now);
        let items = limit.items.map_or(Ok(now), |rate| {
            rate.check(cost.items, quarters, arrival.items, now)
        });
        let bytes = limit.bytes.map_or(Ok(now), |rate| {
            rate.check(cost.bytes, quarters, arrival.bytes, now)
        });
        *arrival = match (items, bytes) {
            (Ok(items), Ok(bytes)) => Arrival { items, bytes },
            (Err(Refusal::TooSoon { retry_at: a }), Err(Refusal::TooSoon { retry_at: b })) => {
                return Err(Refusal::TooSoon { retry_at: a.max(b) });
            }
            (Err(Refusal::TooLarge), _) | (_, Err(Refusal::TooLarge)) => {
                return Err(Refusal::TooLarge);
            }
            (Err(too_soon), Ok(_)) | (Ok(_), Err(too_soon)) => return Err(too_soon),
        };
        Ok(())
    }

    /// Whether another message may come or go, if those before it are counted by [`RateLimiter::charge`] when they have: so
    /// the one that exceeds the burst is the last for as long as it is worth. Nothing is counted.
    pub fn ready(&self, peer: &PeerId, protocol: Protocol, now: Instant) -> Admission {
        let account = self.accounts.get(peer).or_else(|| self.gone.get(peer));
        let Some(arrival) = account.and_then(|account| account.get(&protocol)) else {
            return Admission::Now;
        };
        let limit = self.limits.of(protocol);
        let ready = |rate: Option<Rate>, arrival| {
            rate.map_or(Admission::Now, |rate| {
                rate.ready(self.quarters, arrival, now)
            })
        };
        ready(limit.items, arrival.items).later(ready(limit.bytes, arrival.bytes))
    }

    /// When a message may go, if those before it are counted by [`RateLimiter::charge`] once the peer has answered them, and so
    /// much is under way without an answer. A line that stands still delivers that all at once; as what is under way does not count as
    /// worn off, it conforms all the same. Nothing is counted. `None`: not before there is less under way.
    pub fn goes_at(
        &self,
        peer: &PeerId,
        protocol: Protocol,
        (cost, under_way): (Cost, Cost),
        now: Instant,
    ) -> Option<Instant> {
        let account = self.accounts.get(peer).or_else(|| self.gone.get(peer));
        let arrival = account.and_then(|account| account.get(&protocol));
        let limit = self.limits.of(protocol);
        let goes_at = |rate: Option<Rate>, arrival: Option<Instant>, cost, under_way| {
            rate.map_or(Some(now), |rate| {
                let room = rate
                    .tolerance(self.quarters, cost)
                    .checked_sub(rate.worth(cost.saturating_add(under_way)))?;
                let ahead = arrival.unwrap_or(now).saturating_duration_since(now);
                Some(now + ahead.saturating_sub(room))
            })
        };
        let items = arrival.map(|arrival| arrival.items);
        let items = goes_at(limit.items, items, cost.items, under_way.items)?;
        let bytes = arrival.map(|arrival| arrival.bytes);
        let bytes = goes_at(limit.bytes, bytes, cost.bytes, under_way.bytes)?;
        Some(items.max(bytes))
    }

    /// Counts a message, whether or not it conforms.
    pub fn charge(&mut self, peer: PeerId, protocol: Protocol, cost: Cost, now: Instant) {
        let limit = self.limits.of(protocol);
        let arrival = self.arrival(peer, protocol, now);
        let after = |rate: Option<Rate>, cost, arrival: Instant| {
            rate.map_or(now, |rate| arrival.max(now) + rate.worth(cost))
        };
        *arrival = Arrival {
            items: after(limit.items, cost.items, arrival.items),
            bytes: after(limit.bytes, cost.bytes, arrival.bytes),
        };
    }

    /// A peer is gone. What it has done too much for its rates counts on until it would count no more, for when it comes again.
    pub fn forget(&mut self, peer: &PeerId, now: Instant) {
        let Some(mut account) = self.accounts.remove(peer) else {
            return;
        };
        account.retain(|_, arrival| arrival.rests_at() > now);
        if let Some(rests_at) = account.values().map(Arrival::rests_at).max() {
            self.gone.keep(*peer, account, rests_at, now);
        }
    }

    fn arrival(&mut self, peer: PeerId, protocol: Protocol, now: Instant) -> &mut Arrival {
        let account = self.accounts.entry(peer);
        let account = account.or_insert_with(|| self.gone.take(&peer).unwrap_or_default());
        account.entry(protocol).or_insert(Arrival {
            items: now,
            bytes: now,
        })
    }
}

impl Rate {
    /// The theoretical arrival time after this cost.
    fn check(
        self,
        cost: u64,
        quarters: u32,
        arrival: Instant,
        now: Instant,
    ) -> Result<Instant, Refusal> {
        if cost > self.burst {
            return Err(Refusal::TooLarge);
        }
        let next = arrival.max(now) + self.worth(cost);
        let ahead = next
            .duration_since(now)
            .saturating_sub(self.tolerance(quarters, cost));
        if ahead > Duration::ZERO {
            let retry_at = now + ahead;
            return Err(Refusal::TooSoon { retry_at });
        }
        Ok(next)
    }

    /// How far ahead of now a message of this cost may move the theoretical arrival time. Without its last quarter the burst may be worth
    /// less than a large message, which then goes by itself.
    fn tolerance(self, quarters: u32, cost: u64) -> Duration {
        (self.worth(self.burst) / 4 * quarters).max(self.worth(cost))
    }

    /// Whether less than the burst is used up.
    fn ready(self, quarters: u32, arrival: Instant, now: Instant) -> Admission {
        let tolerance = self.worth(self.burst) / 4 * quarters;
        let ahead = arrival.saturating_duration_since(now);
        if ahead < tolerance || ahead.is_zero() {
            return Admission::Now;
        }
        Admission::At(now + (ahead - tolerance) + Duration::from_nanos(1))
    }

    /// The time in which so many units come at this rate, rounded up to nanoseconds.
    pub(crate) fn worth(self, units: u64) -> Duration {
        let nanos = units.saturating_mul(1_000_000_000);
        Duration::from_nanos(nanos.div_ceil(self.per_second.max(1)))
    }
}

/// GCRA for one thing that one peer does.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    rate: Rate,
    arrival: Option<Instant>,
}

impl Pace {
    /// At rest.
    pub fn new(rate: Rate) -> Self {
        let arrival = None;
        Self { rate, arrival }
    }

    /// Whether so many units conform now; those that do not are not counted.
    pub fn admits(&mut self, units: u64, now: Instant) -> bool {
        let next = self
            .rate
            .check(units, 4, self.arrival.unwrap_or(now), now)
            .ok();
        self.arrival = next.or(self.arrival);
        next.is_some()
    }

    /// Whether less than the burst is used up.
    pub fn ready(&self, now: Instant) -> Admission {
        self.rate.ready(4, self.arrival.unwrap_or(now), now)
    }

    /// When all of the burst is there again, if nothing more is counted.
    pub(crate) fn rests_at(&self) -> Option<Instant> {
        self.arrival
    }

    /// Counts units, whether or not they conform.
    pub fn charge(&mut self, units: u64, now: Instant) {
        let arrival = self.arrival.map_or(now, |arrival| arrival.max(now));
        self.arrival = Some(arrival + self.rate.worth(units));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        platform::test,
        traffic::{Class, Limit},
    };
    use proptest::prelude::*;

    const TRANSACTIONS: Protocol = Protocol::Lane(Class::Transaction);

    fn limits(items: (u64, u64), bytes: (u64, u64)) -> Limits {
        let rate = |(per_second, burst)| Some(Rate { per_second, burst });
        let limit = Limit {
            items: rate(items),
            bytes: rate(bytes),
        };
        Limits {
            message: limit,
            transaction: limit,
            ..Limits::default()
        }
    }

    fn cost(items: u64, bytes: u64) -> Cost {
        Cost { items, bytes }
    }

    fn too_soon(result: Result<(), Refusal>) -> Option<Instant> {
        match result {
            Err(Refusal::TooSoon { retry_at }) => Some(retry_at),
            Ok(()) | Err(Refusal::TooLarge) => None,
        }
    }

    #[test]
    fn a_pace_allows_the_burst_and_then_the_rate() {
        let rate = Rate {
            per_second: 2,
            burst: 5,
        };
        let (mut pace, mut now) = (Pace::new(rate), crate::platform::now());
        assert_eq!((0..9).filter(|_| pace.admits(1, now)).count(), 5);
        now += Duration::from_secs(1);
        assert_eq!((0..9).filter(|_| pace.admits(1, now)).count(), 2);
        let Admission::At(at) = pace.ready(now) else {
            panic!("it is used up");
        };
        assert_eq!(pace.ready(at), Admission::Now);
        pace.charge(1000, at);
        assert!(!pace.admits(1, at + Duration::from_secs(490)));
        assert!(pace.admits(1, at + Duration::from_secs(510)));
    }

    proptest! {
        #[test]
        fn never_more_than_rate_and_burst(
            steps in proptest::collection::vec((0u64..50, 0u64..30, 0u64..3000), 1..500),
        ) {
            let (peer, start) = (PeerId::random(), crate::platform::now());
            let mut limiter = RateLimiter::new(limits((100, 20), (10_000, 2000)));
            let (mut now, mut items, mut bytes) = (start, 0, 0);
            for (gap, more_items, more_bytes) in steps {
                now += Duration::from_millis(gap);
                match limiter.admits(peer, TRANSACTIONS, cost(more_items, more_bytes), now) {
                    Ok(()) => (items, bytes) = (items + more_items, bytes + more_bytes),
                    Err(Refusal::TooLarge) => prop_assert!(more_items > 20 || more_bytes > 2000),
                    Err(Refusal::TooSoon { retry_at }) => {
                        prop_assert!(retry_at > now && more_items <= 20 && more_bytes <= 2000);
                    }
                }
                let elapsed = now.duration_since(start).as_millis() as u64;
                prop_assert!(items <= elapsed / 10 + 20 && bytes <= elapsed * 10 + 2000);
            }
        }

        #[test]
        fn who_comes_back_when_told_is_admitted_and_no_sooner(
            costs in proptest::collection::vec((1u64..=20, 1u64..=2000), 1..100),
            quarters in 3u32..=4,
        ) {
            let (peer, mut now) = (PeerId::random(), crate::platform::now());
            let mut limiter = RateLimiter { quarters, ..RateLimiter::new(limits((77, 20), (9999, 2000))) };
            for (items, bytes) in costs {
                if let Some(retry_at) = too_soon(limiter.admits(peer, TRANSACTIONS, cost(items, bytes), now)) {
                    let early = retry_at - Duration::from_nanos(1);
                    prop_assert!(too_soon(limiter.admits(peer, TRANSACTIONS, cost(items, bytes), early)).is_some());
                    now = retry_at;
                    prop_assert_eq!(limiter.admits(peer, TRANSACTIONS, cost(items, bytes), now), Ok(()));
                }
            }
        }

        #[test]
        fn what_the_mirror_lets_out_conforms_at_the_other_end(
            steps in proptest::collection::vec((1u64..=15, 0u64..30, 0u64..=50), 1..300),
        ) {
            let (peer, mut now) = (PeerId::random(), crate::platform::now());
            let limits = limits((100, 20), (10_000, 2000));
            let (mut ours, mut theirs) = (RateLimiter::mirror(limits), RateLimiter::new(limits));
            let mut arrived = now;
            for (items, gap, delay) in steps {
                now += Duration::from_millis(gap);
                while let Some(retry_at) = too_soon(ours.admits(peer, TRANSACTIONS, cost(items, 100 * items), now)) {
                    now = retry_at;
                }
                // Order is kept; up to 50 ms of jitter are a quarter of the burst's 200 ms.
                arrived = arrived.max(now + Duration::from_millis(delay));
                prop_assert_eq!(theirs.admits(peer, TRANSACTIONS, cost(items, 100 * items), arrived), Ok(()));
            }
        }
    }

    proptest::proptest! {
        #[test]
        fn what_is_under_way_conforms_whenever_the_other_end_counts_it(
            steps in proptest::collection::vec((1u64..=2000, 0u64..100, 0usize..12), 1..300),
        ) {
            let (peer, mut now) = (PeerId::random(), crate::platform::now());
            let limits = limits((100, 20), (10_000, 2000));
            let (mut ours, mut theirs) = (RateLimiter::mirror(limits), RateLimiter::new(limits));
            let mut under_way = std::collections::VecDeque::new();
            for (bytes, gap, arrived) in steps {
                now += Duration::from_millis(gap);
                let costs = (cost(1, bytes), cost(under_way.len() as u64, under_way.iter().sum()));
                if ours.goes_at(&peer, TRANSACTIONS, costs, now) == Some(now) {
                    under_way.push_back(bytes);
                }
                // Mostly the line stands still.
                for bytes in under_way.drain(..arrived.saturating_sub(8).min(under_way.len())) {
                    prop_assert_eq!(theirs.admits(peer, TRANSACTIONS, cost(1, bytes), now), Ok(()));
                    ours.charge(peer, TRANSACTIONS, cost(1, bytes), now);
                }
            }
        }
    }

    #[test]
    fn what_is_under_way_leaves_room_only_when_it_is_answered() {
        let (peer, now) = (PeerId::random(), crate::platform::now());
        let mut mirror = RateLimiter::mirror(limits((100, 100), (1000, 1000)));
        let second = Duration::from_secs(1);
        let goes_at = |mirror: &RateLimiter, bytes, under_way, now| {
            let costs = (cost(1, bytes), cost(1, under_way));
            mirror.goes_at(&peer, TRANSACTIONS, costs, now)
        };
        assert_eq!(goes_at(&mirror, 250, 500, now), Some(now));
        assert_eq!(goes_at(&mirror, 250, 501, now), None);
        assert_eq!(goes_at(&mirror, 1000, 0, now), Some(now), "by itself");
        mirror.charge(peer, TRANSACTIONS, cost(1, 750), now);
        assert_eq!(goes_at(&mirror, 100, 150, now), Some(now + second / 4));
        assert_eq!(
            goes_at(&mirror, 100, 150, now + second / 4),
            Some(now + second / 4)
        );
    }

    #[test]
    fn a_polite_peer_is_never_refused() {
        let (peer, mut now) = (PeerId::random(), crate::platform::now());
        let mut limiter = RateLimiter::new(limits((100, 1), (1 << 20, 1 << 20)));
        for _ in 0..1000 {
            assert_eq!(
                limiter.admits(peer, Protocol::Message, cost(1, 1), now),
                Ok(())
            );
            now += Duration::from_millis(10);
        }
        limiter.forget(&peer, now);
        assert!(limiter.accounts.is_empty() && limiter.gone.get(&peer).is_none());
    }

    #[test]
    fn who_comes_again_has_no_new_burst() {
        let (peer, now) = (PeerId::random(), crate::platform::now());
        let mut limiter = RateLimiter::new(limits((1, 10), (1, 10)));
        let ten = cost(10, 10);
        for protocol in [Protocol::Message, TRANSACTIONS] {
            assert_eq!(limiter.admits(peer, protocol, ten, now), Ok(()));
        }
        limiter.forget(&peer, now);
        assert_ne!(limiter.ready(&peer, TRANSACTIONS, now), Admission::Now);
        assert!(too_soon(limiter.admits(peer, TRANSACTIONS, ten, now)).is_some());
        let later = now + Duration::from_secs(10);
        assert_eq!(limiter.admits(peer, TRANSACTIONS, ten, later), Ok(()));
        // What counts no more is not kept.
        limiter.forget(&peer, later);
        let kept = limiter.gone.get(&peer).map(HashMap::len);
        assert_eq!((limiter.accounts.len(), kept), (0, Some(1)));
    }

    #[test]
    fn who_leaves_without_end_makes_nobody_elses_debts_forgotten() {
        let (peer, restless) = (PeerId::random(), PeerId::random());
        let now = crate::platform::now();
        let mut limiter = RateLimiter::new(limits((1, 10), (1, 10)));
        let ten = cost(10, 10);
        limiter.charge(peer, TRANSACTIONS, ten, now);
        limiter.forget(&peer, now);
        for round in 0..5000 {
            let now = now + Duration::from_micros(round);
            limiter.charge(restless, TRANSACTIONS, ten, now);
            limiter.forget(&restless, now);
        }
        let later = now + Duration::from_millis(5);
        for peer in [peer, restless] {
            assert!(too_soon(limiter.admits(peer, TRANSACTIONS, ten, later)).is_some());
        }
    }

    #[test]
    fn a_stream_waits_for_as_long_as_its_last_message_is_worth() {
        let (peer, now) = (PeerId::random(), crate::platform::now());
        let mut limiter = RateLimiter::new(limits((100, 10), (10_000, 1000)));
        assert_eq!(limiter.ready(&peer, TRANSACTIONS, now), Admission::Now);
        limiter.charge(peer, TRANSACTIONS, cost(9, 5000), now);
        let Admission::At(at) = limiter.ready(&peer, TRANSACTIONS, now) else {
            panic!("five bursts at once");
        };
        assert_eq!((at - now).as_millis(), 400, "all bytes but the burst");
        assert_eq!(limiter.ready(&peer, TRANSACTIONS, at), Admission::Now);
        assert_eq!(limiter.ready(&peer, Protocol::Message, now), Admission::Now);
        limiter.charge(peer, TRANSACTIONS, cost(1, 1), at);
        assert_ne!(limiter.ready(&peer, TRANSACTIONS, at), Admission::Now);
    }

    #[test]
    fn protocols_and_peers_do_not_pay_for_each_other() {
        let (peer, other, now) = (PeerId::random(), PeerId::random(), crate::platform::now());
        let mut limiter = RateLimiter::new(limits((1, 1), (1, 1)));
        let one = cost(1, 1);
        assert_eq!(limiter.admits(peer, Protocol::Message, one, now), Ok(()));
        let retry_at = now + Duration::from_secs(1);
        assert_eq!(
            limiter.admits(peer, Protocol::Message, one, now),
            Err(Refusal::TooSoon { retry_at })
        );
        assert_eq!(limiter.admits(peer, TRANSACTIONS, one, now), Ok(()));
        assert_eq!(limiter.admits(other, Protocol::Message, one, now), Ok(()));
        assert_eq!(
            limiter.admits(other, TRANSACTIONS, cost(2, 1), now),
            Err(Refusal::TooLarge)
        );
        assert_eq!(
            limiter.admits(other, TRANSACTIONS, cost(1, 2), now),
            Err(Refusal::TooLarge)
        );
    }

    #[test]
    fn a_large_message_leaves_a_mirror_by_itself() {
        let (peer, now) = (PeerId::random(), crate::platform::now());
        let mut mirror = RateLimiter::mirror(limits((1, 1), (1000, 1000)));
        assert_eq!(
            mirror.admits(peer, TRANSACTIONS, cost(1, 1000), now),
            Ok(())
        );
        let retry_at = now + Duration::from_secs(1);
        assert_eq!(
            mirror.admits(peer, TRANSACTIONS, cost(1, 1000), now),
            Err(Refusal::TooSoon { retry_at })
        );
    }

    #[test]
    fn figures_without_sense_do_no_harm() {
        let (peer, now) = (PeerId::random(), crate::platform::now());
        let nothing = (0, 0);
        let mut limiter = RateLimiter::new(limits(nothing, nothing));
        let free = cost(0, 0);
        assert_eq!(limiter.admits(peer, TRANSACTIONS, free, now), Ok(()));
        assert_eq!(
            limiter.admits(peer, TRANSACTIONS, cost(1, 0), now),
            Err(Refusal::TooLarge)
        );
        let everything = (u64::MAX, u64::MAX);
        let mut limiter = RateLimiter::new(limits(everything, (1, u64::MAX)));
        let all = cost(u64::MAX, u64::MAX);
        assert_eq!(limiter.admits(peer, TRANSACTIONS, all, now), Ok(()));
        assert!(too_soon(limiter.admits(peer, TRANSACTIONS, all, now)).is_some());
    }
}
