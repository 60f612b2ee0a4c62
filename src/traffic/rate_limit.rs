//! GCRA, the generic cell rate algorithm (ATM Forum, 1996): one timestamp per peer.
//!
//! A peer may send `rate` messages a second on average and `burst` at once above that. Bounds: one entry per
//! peer; the network task forgets a peer when its last connection ends.

use std::{collections::HashMap, time::Duration};

use libp2p::PeerId;
use web_time::Instant;

/// A limit on messages, the same for every peer.
#[derive(Debug)]
pub struct RateLimiter {
    interval: Duration,
    tolerance: Duration,
    /// When each peer's bucket would be empty again: GCRA's theoretical arrival time.
    arrival: HashMap<PeerId, Instant>,
}

impl RateLimiter {
    /// `rate` messages a second on average (0 counts as 1), `burst` at once above that.
    pub fn new(rate: u32, burst: u32) -> Self {
        let interval = Duration::from_secs(1) / rate.max(1);
        Self {
            interval,
            tolerance: interval * burst,
            arrival: HashMap::new(),
        }
    }

    /// Whether a message from this peer conforms now; one that does not is not counted.
    pub fn admits(&mut self, peer: PeerId, now: Instant) -> bool {
        let arrival = self.arrival.get(&peer).copied().unwrap_or(now).max(now);
        if arrival.duration_since(now) > self.tolerance {
            return false;
        }
        self.arrival.insert(peer, arrival + self.interval);
        true
    }

    /// Forgets a peer that is gone.
    pub fn forget(&mut self, peer: &PeerId) {
        self.arrival.remove(peer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::test;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn never_more_than_rate_and_burst(gaps in proptest::collection::vec(0u64..50, 1..500)) {
            let (peer, start) = (PeerId::random(), Instant::now());
            let mut limiter = RateLimiter::new(100, 20);
            let (mut now, mut admitted) = (start, 0u64);
            for gap in gaps {
                now += Duration::from_millis(gap);
                admitted += u64::from(limiter.admits(peer, now));
                let elapsed = now.duration_since(start).as_millis() as u64;
                prop_assert!(admitted <= elapsed / 10 + 21);
            }
        }
    }

    #[test]
    fn a_polite_peer_is_never_refused() {
        let (peer, mut now) = (PeerId::random(), Instant::now());
        let mut limiter = RateLimiter::new(100, 1);
        for _ in 0..1000 {
            assert!(limiter.admits(peer, now));
            now += Duration::from_millis(10);
        }
        limiter.forget(&peer);
        assert!(limiter.arrival.is_empty());
    }
}
