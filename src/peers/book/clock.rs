//! The book's own time: seconds that go on from one run to the next, so that no step of the host's date does harm.
//!
//! While a node runs its time is that of the monotonic clock. The date is asked once a run, for how long the node was away: a date
//! before the last one, 1970's included, says that it was no time at all, and one far ahead that it was [`AWAY`].

use std::time::Duration;

use crate::platform::{Instant, SystemTime};

/// The longest that a node is taken to have been away: a date that is wrong by years ages no peer to death.
const AWAY: u64 = 7 * 86_400;

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Clock {
    began: Instant,
    /// What it was then.
    base: u64,
}

impl Clock {
    /// A new book's.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            began: now,
            base: 0,
        }
    }

    /// It stood at `time` when the date was `saved`.
    pub(super) fn resumed(time: u64, saved: u64, now: Instant, date: SystemTime) -> Self {
        let away = seconds(date).saturating_sub(saved).min(AWAY);
        Self {
            began: now,
            base: time.saturating_add(away),
        }
    }

    pub(super) fn at(&self, now: Instant) -> u64 {
        let runs = now.saturating_duration_since(self.began).as_secs();
        self.base.saturating_add(runs)
    }
}

/// A date in seconds since 1970, and none before.
pub(super) fn seconds(date: SystemTime) -> u64 {
    let since = date.duration_since(SystemTime::UNIX_EPOCH);
    since.unwrap_or(Duration::ZERO).as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::{self, test};

    #[test]
    fn no_date_turns_the_time_back_or_makes_it_jump() {
        let (now, hour) = (platform::now(), Duration::from_secs(3600));
        let date = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        for (today, time) in [
            (1_000_060, 160),
            (1_000_000, 100),
            (5, 100),
            (0, 100),
            (9_000_000_000, 100 + AWAY),
        ] {
            let clock = Clock::resumed(100, 1_000_000, now, date(today));
            assert_eq!((clock.at(now), clock.at(now + hour)), (time, time + 3600));
        }
        let clock = Clock::resumed(u64::MAX, 0, now, date(0));
        assert_eq!(clock.at(now + hour), u64::MAX);
    }
}
