//! How fast a source sends.

use std::time::Duration;

use crate::platform::Instant;

/// Pieces are counted for so long before they are a measure.
const SAMPLE: Duration = Duration::from_millis(100);
/// A source that is silent for longer than this sends more slowly the longer it is.
const SILENCE: Duration = Duration::from_millis(250);
/// About a piece.
const PIECE: f64 = 65_536.0;
/// Bytes a second, as long as nothing is known.
const UNKNOWN: f64 = 1_000_000.0;
/// What a newer measure counts in the mean.
const NEWER: f64 = 0.4;

/// Bytes a second that came while something was owed: a weighted mean that follows changes within half a second.
#[derive(Clone, Debug)]
pub(super) struct Pace {
    rate: Option<f64>,
    since: Instant,
    bytes: usize,
    heard: Instant,
    latency: Option<Duration>,
    /// Nothing has come since something was owed.
    begins: bool,
}

impl Pace {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            rate: None,
            since: now,
            bytes: 0,
            heard: now,
            latency: None,
            begins: true,
        }
    }

    /// From now on something is owed.
    pub(super) fn begin(&mut self, now: Instant) {
        (self.since, self.heard, self.bytes, self.begins) = (now, now, 0, true);
    }

    /// Some of it came.
    pub(super) fn arrived(&mut self, bytes: usize, now: Instant) {
        if self.begins {
            self.begins = false;
            let latency = now.saturating_duration_since(self.since);
            self.latency = Some(self.latency.map_or(latency, |least| least.min(latency)));
            // The wait for the first piece says nothing of the rate.
            (self.since, self.heard) = (now, now);
            return;
        }
        self.bytes += bytes;
        self.heard = now;
        let time = now.saturating_duration_since(self.since);
        if time >= SAMPLE {
            let sample = self.bytes as f64 / time.as_secs_f64();
            let mean = |rate: f64| rate * (1.0 - NEWER) + sample * NEWER;
            self.rate = Some(self.rate.map_or(sample, mean));
            (self.since, self.bytes) = (now, 0);
        }
    }

    /// When something came, or was first owed.
    pub(super) fn heard(&self) -> Instant {
        self.heard
    }

    /// What comes was not read for so long.
    pub(super) fn unheard(&mut self, time: Duration, now: Instant) {
        self.heard = now.min(self.heard + time);
    }

    /// How long the first piece took at least.
    pub(super) fn latency(&self) -> Duration {
        self.latency.unwrap_or(SAMPLE)
    }

    /// Bytes a second, as far as it was measured.
    pub(super) fn measured(&self) -> Option<f64> {
        self.rate
    }

    /// Bytes a second that may be hoped for now.
    pub(super) fn hoped(&self, is_owed: bool, now: Instant) -> f64 {
        let rate = self.rate.unwrap_or(UNKNOWN).max(1.0);
        let silence = now.saturating_duration_since(self.heard);
        if is_owed && silence > SILENCE + self.latency() {
            rate.min(PIECE / silence.as_secs_f64())
        } else {
            rate
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::test;

    #[test]
    fn it_follows_changes_and_silence_slows_it_down() {
        let mut now = crate::platform::now();
        let mut pace = Pace::new(now);
        pace.begin(now);
        now += Duration::from_millis(40);
        pace.arrived(1000, now);
        assert_eq!(pace.latency(), Duration::from_millis(40));
        for (bytes, right) in [(10_000, 1e6), (2_000, 2e5)] {
            for _ in 0..100 {
                now += Duration::from_millis(10);
                pace.arrived(bytes, now);
            }
            let rate = pace.hoped(true, now);
            assert!((rate / right - 1.0).abs() < 0.05, "{rate}");
        }
        now += Duration::from_secs(60);
        assert!(pace.hoped(true, now) < 1200.0);
        assert!(
            pace.hoped(false, now) > 1e5,
            "who owes nothing may be silent"
        );
    }

    #[test]
    fn what_was_not_read_was_no_silence() {
        let start = crate::platform::now();
        let (second, mut pace) = (Duration::from_secs(1), Pace::new(start));
        pace.begin(start);
        pace.unheard(second, start + 3 * second);
        assert_eq!(pace.heard(), start + second);
        pace.unheard(9 * second, start + 3 * second);
        assert_eq!(pace.heard(), start + 3 * second);
    }
}
