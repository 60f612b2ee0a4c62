//! For how long a peer's silence is excused since its connection stands ([`crate::transport::links`]): it is this node that does not read, but
//! a peer can bring that about, by sending what is not read here, or by saying that it can't send.
//!
//! Bounds: [`MOST`] at once, and as much in [`EVERY`]. Beyond that a peer pays for its silence, and is let go for it.

use std::time::Duration;

use crate::platform::Instant;

/// For how long a peer is excused at once.
const MOST: Duration = Duration::from_secs(20);
/// In how much time that comes again.
pub(super) const EVERY: Duration = Duration::from_secs(60);

/// See the module's documentation.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stand {
    /// Since when the connection stands, if it does.
    since: Option<Instant>,
    /// How much is left, and when it was.
    left: Duration,
    at: Option<Instant>,
}

impl Default for Stand {
    fn default() -> Self {
        Self {
            since: None,
            left: MOST,
            at: None,
        }
    }
}

impl Stand {
    /// Whether the connection stands from now on. Returns for how long it did, as far as that is excused, when that is over.
    pub(super) fn set(&mut self, stands: bool, now: Instant) -> Option<Duration> {
        match (self.since, stands) {
            (None, true) => {
                let rested = self.at.map(|at| now.saturating_duration_since(at));
                let come = rested
                    .unwrap_or_default()
                    .mul_f64(MOST.div_duration_f64(EVERY));
                self.left = MOST.min(self.left + come);
                (self.since, self.at) = (Some(now), Some(now));
                None
            }
            (Some(since), false) => {
                let time = now.saturating_duration_since(since).min(self.left);
                self.left -= time;
                (self.since, self.at) = (None, Some(now));
                Some(time)
            }
            (Some(_), true) | (None, false) => None,
        }
    }

    /// Whether the peer's silence is excused.
    pub(super) fn is_excused(&self, now: Instant) -> bool {
        self.since.is_some_and(|since| now < since + self.left)
    }

    /// When it was used last, if ever.
    pub(super) fn used_at(&self) -> Option<Instant> {
        self.at
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::{self, test};

    #[test]
    fn who_stands_is_excused_for_a_while_and_for_as_long_as_that_in_a_minute() {
        let (mut stand, start) = (Stand::default(), platform::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        assert!(!stand.is_excused(at(0)));
        assert_eq!(stand.set(true, at(0)), None);
        assert_eq!(stand.set(true, at(3)), None);
        assert_eq!(stand.set(false, at(5)), seconds(5));
        assert!(!stand.is_excused(at(5)));
        // As often as it likes, and as long.
        stand.set(true, at(5));
        assert!(stand.is_excused(at(19)) && !stand.is_excused(at(20)));
        assert_eq!(stand.set(false, at(100)), seconds(15));
        stand.set(true, at(100));
        assert!(!stand.is_excused(at(100)), "nothing is left");
        assert_eq!(stand.set(false, at(100)), seconds(0));
        stand.set(true, at(130));
        assert!(stand.is_excused(at(139)) && !stand.is_excused(at(140)));
        assert_eq!(stand.set(false, at(140)), seconds(10));
        stand.set(true, at(1000));
        assert!(stand.is_excused(at(1019)) && !stand.is_excused(at(1020)));
    }
}
