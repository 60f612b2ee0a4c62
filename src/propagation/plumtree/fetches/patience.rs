//! How long an announced item may still come by itself: a little more than pushes took of late.
//!
//! Measured, as TCP's time for an answer is (RFC 6298), and not guessed from what was fetched in vain: under overload everything comes late,
//! and fetching it all beside the pushes keeps up the overload that made them late, also long after what began it has ended. So each
//! push of what had been announced tells how long that took. Where more than one in [`FEW`] takes longer than the patience, it grows to what
//! the next of them took: a few that somebody holds back on purpose change nothing. Half of it is gone every [`HALF_LIFE`], so that a while after a storm
//! what is withheld is fetched as soon as before it. What has waited as long as it is now is fetched, whatever it was when that was announced ([`Patience::over`]).
//!
//! Bounds: the configured patience at least, [`MOST_PATIENCE`] times that at most.

use std::time::Duration;

use crate::platform::Instant;

/// How many times the configured patience it may become: where it ends an overload goes on, since all that is later is fetched beside the pushes.
const MOST_PATIENCE: u32 = 64;
/// One push in so many may take longer than the patience, and so many may at once.
const FEW: u32 = 16;
const ALLOWED: u32 = 4;
/// In so long a patience that nothing asks for any more becomes half of what it was, and what was counted counts for half.
const HALF_LIFE: Duration = Duration::from_secs(2);
/// So exactly is it known when something has waited long enough.
const EXACT: Duration = Duration::from_millis(1);

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Patience {
    least: Duration,
    /// What it was then.
    was: Duration,
    at: Option<Instant>,
    /// Pushes that were seen, and those of them that took longer.
    seen: u32,
    longer: u32,
    /// When both were halved last.
    halved_at: Option<Instant>,
}

impl Patience {
    pub(super) fn new(least: Duration) -> Self {
        Self {
            least,
            was: least,
            at: None,
            seen: 0,
            longer: 0,
            halved_at: None,
        }
    }

    pub(super) fn at(&self, now: Instant) -> Duration {
        let since = self
            .at
            .map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        let half_lives = since.as_secs_f64() / HALF_LIFE.as_secs_f64();
        self.was.mul_f64(0.5_f64.powf(half_lives)).max(self.least)
    }

    /// When what was announced at this time has waited for as long as the patience is by then, unless that grows yet. So nothing is over the sooner for what was
    /// announced later, nor for the patience's growing.
    pub(super) fn over(&self, announced: Instant) -> Instant {
        let (mut least, mut most) = (self.least, self.at(announced));
        while most > least + EXACT {
            let middle = (least + most) / 2;
            if self.at(announced + middle) > middle {
                least = middle;
            } else {
                most = middle;
            }
        }
        announced + most
    }

    /// An item was pushed so long after it had been announced first, or before that.
    pub(super) fn saw(&mut self, push_after: Duration, now: Instant) {
        if now >= *self.halved_at.get_or_insert(now) + HALF_LIFE {
            (self.seen, self.longer) = (self.seen / 2, self.longer / 2);
            self.halved_at = Some(now);
        }
        self.seen = self.seen.saturating_add(1);
        let long_enough = push_after.saturating_add(push_after / 4);
        // Nearly all are soon there, and need no more arithmetic.
        if long_enough <= self.least || long_enough <= self.at(now) {
            return;
        }
        self.longer += 1;
        if self.longer > ALLOWED && self.longer > self.seen / FEW {
            let most = self.least.saturating_mul(MOST_PATIENCE);
            (self.was, self.at) = (long_enough.min(most), Some(now));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::test;

    const LEAST: Duration = Duration::from_millis(40);

    #[test]
    fn it_is_as_long_as_pushes_take_and_becomes_short_again() {
        let (start, mut patience) = (crate::platform::now(), Patience::new(LEAST));
        assert_eq!(patience.at(start), LEAST);
        let saw = |patience: &mut Patience, millis, times, at| {
            (0..times).for_each(|_| patience.saw(Duration::from_millis(millis), at));
        };
        saw(&mut patience, 400, ALLOWED, start);
        assert_eq!(patience.at(start), LEAST, "a few say nothing");
        saw(&mut patience, 400, 1, start);
        saw(&mut patience, 10, 10, start);
        assert_eq!(
            patience.at(start),
            Duration::from_millis(500),
            "the longest"
        );
        assert_eq!(patience.at(start + HALF_LIFE), Duration::from_millis(250));
        saw(&mut patience, 10, 10, start + HALF_LIFE);
        assert_eq!(
            patience.at(start + 2 * HALF_LIFE),
            Duration::from_millis(125)
        );
        assert_eq!(patience.at(start + 10 * HALF_LIFE), LEAST);
        for _ in 0..=ALLOWED {
            patience.saw(Duration::MAX, start);
        }
        assert_eq!(patience.at(start), LEAST * MOST_PATIENCE);
    }

    #[test]
    fn one_push_in_many_that_is_held_back_changes_nothing() {
        let (mut now, mut patience) = (crate::platform::now(), Patience::new(LEAST));
        for number in 0..100_000 {
            let late = if number % 20 == 0 { 1000 } else { 10 };
            patience.saw(Duration::from_millis(late), now);
            now += Duration::from_millis(1);
            assert!(patience.at(now) == LEAST || number < 100, "{number}");
        }
    }
}
