//! How long an announced item may still come by itself: a little more than pushes took of late.
//!
//! Measured, as TCP's time for an answer is (RFC 6298), and not guessed from what was fetched in vain: under overload everything comes late,
//! and fetching it all beside the pushes keeps up the overload that made them late, also long after what began it has ended. So each
//! push of what had been announced tells how long that took. The longest counts, and counts for half as much every [`HALF_LIFE`], so
//! that a while after a storm what is withheld is fetched as soon as before it.
//!
//! Bounds: the configured patience at least, [`MOST_PATIENCE`] times that at most: no peer that pushes late on purpose makes us wait for longer.

use std::time::Duration;

use crate::platform::Instant;

/// How many times the configured patience it may become.
pub(in super::super) const MOST_PATIENCE: u32 = 32;
/// In so long a patience that nothing asks for any more becomes half of what it was.
const HALF_LIFE: Duration = Duration::from_secs(2);

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Patience {
    least: Duration,
    /// What it was then.
    was: Duration,
    at: Option<Instant>,
}

impl Patience {
    pub(super) fn new(least: Duration) -> Self {
        Self {
            least,
            was: least,
            at: None,
        }
    }

    pub(super) fn at(&self, now: Instant) -> Duration {
        let since = self
            .at
            .map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        let half_lives = since.as_secs_f64() / HALF_LIFE.as_secs_f64();
        self.was.mul_f64(0.5_f64.powf(half_lives)).max(self.least)
    }

    /// An item was pushed so long after it had been announced first.
    pub(super) fn saw(&mut self, push_after: Duration, now: Instant) {
        let most = self.least.saturating_mul(MOST_PATIENCE);
        let long_enough = push_after.saturating_add(push_after / 4);
        (self.was, self.at) = (self.at(now).max(long_enough).min(most), Some(now));
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
        patience.saw(Duration::from_millis(400), start);
        patience.saw(Duration::from_millis(10), start);
        assert_eq!(
            patience.at(start),
            Duration::from_millis(500),
            "the longest"
        );
        assert_eq!(patience.at(start + HALF_LIFE), Duration::from_millis(250));
        patience.saw(Duration::from_millis(10), start + HALF_LIFE);
        assert_eq!(
            patience.at(start + 2 * HALF_LIFE),
            Duration::from_millis(125)
        );
        assert_eq!(patience.at(start + 10 * HALF_LIFE), LEAST);
        patience.saw(Duration::MAX, start);
        assert_eq!(patience.at(start), LEAST * MOST_PATIENCE);
    }
}
