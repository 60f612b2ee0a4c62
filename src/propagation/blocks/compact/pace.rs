//! How the answer of a peer comes that was asked for a block.
//!
//! Who has sent no byte for its patience, or hardly any, is silent, and holds up nobody. Whose bytes come, and will all be here in time as they do, is
//! left alone for some time ([`super::download::ALONE`]): a slow line is no lie, and a second copy would only make it slower. The pace is measured anew each patience, so that
//! who begins fast and then lets drip is found out; and frames that are no answer count for a few only.

use std::time::Duration;

use crate::platform::Instant;

/// Bytes in a second that are as good as none.
const LEAST_PACE: u128 = 32 << 10;
/// Frames that may come before the answer and count as if they were it.
const MOST_FRAMES: u8 = 4;

/// How a peer lets us wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Manner {
    /// Nothing has come, and need not have.
    Waiting,
    /// It comes, and will be here in time.
    Coming,
    /// It comes, and will not be here in time.
    Slow,
    /// Nothing comes, or hardly anything.
    Silent,
}

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Pace {
    pub(super) manner: Manner,
    /// When something came last, or the peer was asked.
    moved: Instant,
    /// Of the frame that comes: how much is here, and how long it is.
    bytes: usize,
    length: usize,
    /// How much was here when the pace was measured last.
    measured: (Instant, usize),
    /// How many frames have begun to come.
    frames: u8,
    /// When it last came at a pace that counts, by what was measured.
    pub(super) counted: Option<Instant>,
    /// What came was lost here, and nobody pays for what is missing.
    pub(super) is_excused: bool,
}

impl Pace {
    /// The peer is asked.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            manner: Manner::Waiting,
            moved: now,
            bytes: 0,
            length: 0,
            measured: (now, 0),
            frames: 0,
            counted: None,
            is_excused: false,
        }
    }

    /// What came is lost, since others needed its room: it is as if nothing came, and nobody pays for that.
    pub(super) fn loses(&mut self) {
        (self.manner, self.is_excused) = (Manner::Silent, true);
    }

    /// So many bytes of a frame are here, which is in time by then.
    pub(super) fn comes(
        &mut self,
        (bytes, length): (usize, usize),
        in_time: Instant,
        patience: Duration,
        now: Instant,
    ) {
        if length != self.length || bytes < self.bytes {
            self.frames = self.frames.saturating_add(1);
            (self.length, self.measured) = (length, (now, bytes));
        }
        self.bytes = bytes;
        if self.frames > MOST_FRAMES {
            return;
        }
        self.moved = now;
        let (since, before) = self.measured;
        let took = now.saturating_duration_since(since);
        if took >= patience {
            let pace = (bytes - before) as u128 * 1000 / took.as_millis().max(1);
            let rest = length.saturating_sub(bytes) as u128 * 1000 / pace.max(1);
            let rest = Duration::from_millis(u64::try_from(rest).unwrap_or(u64::MAX));
            let is_in_time = in_time.saturating_duration_since(now) >= rest;
            self.measured = (now, bytes);
            self.manner = match is_in_time {
                _ if pace < LEAST_PACE => Manner::Silent,
                true => Manner::Coming,
                false => Manner::Slow,
            };
            if self.is_moving() {
                self.counted = Some(now);
            }
        } else if self.manner == Manner::Waiting {
            self.manner = Manner::Coming;
        }
    }

    /// When the peer will be silent if nothing comes; `None`: it is.
    pub(super) fn ends_at(&self, patience: Duration) -> Option<Instant> {
        (self.manner != Manner::Silent).then(|| self.moved + patience)
    }

    /// Whether something of an answer has come lately.
    pub(super) fn is_moving(&self) -> bool {
        matches!(self.manner, Manner::Coming | Manner::Slow)
    }

    /// Whether anything of an answer has come at a pace that counts.
    pub(super) fn has_come(&self) -> bool {
        self.is_moving() || self.counted.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::test;

    const PATIENCE: Duration = Duration::from_millis(500);
    const LENGTH: usize = 4 << 20;

    /// How it comes after so many times 100 ms in each of which so many bytes came.
    fn after(pace: &mut Pace, steps: usize, bytes: usize, now: &mut Instant) -> Manner {
        let in_time = *now + Duration::from_secs(20);
        for _ in 0..steps {
            *now += Duration::from_millis(100);
            let here = pace.bytes + bytes;
            pace.comes((here, LENGTH), in_time, PATIENCE, *now);
        }
        pace.manner
    }

    #[test]
    fn a_line_that_is_slow_and_in_time_is_left_alone_and_a_trickle_is_nothing() {
        let mut now = crate::platform::now();
        let mut pace = Pace::new(now);
        assert_eq!(pace.ends_at(PATIENCE), Some(now + PATIENCE));
        assert_eq!(after(&mut pace, 20, 50_000, &mut now), Manner::Coming);
        assert_eq!(after(&mut pace, 12, 1, &mut now), Manner::Silent);
        assert_eq!(pace.ends_at(PATIENCE), None);
        assert_eq!(after(&mut pace, 12, 50_000, &mut now), Manner::Coming);
        // In 20 s at this pace it would be too late.
        assert_eq!(after(&mut pace, 12, 5_000, &mut now), Manner::Slow);
        assert_eq!(pace.ends_at(PATIENCE), Some(now + PATIENCE));
    }

    #[test]
    fn frames_without_end_are_no_answer() {
        let mut now = crate::platform::now();
        let mut pace = Pace::new(now);
        let in_time = now + Duration::from_secs(20);
        for frame in 1..=10_u8 {
            now += Duration::from_millis(100);
            pace.comes(
                (20_000, 40_000 + usize::from(frame)),
                in_time,
                PATIENCE,
                now,
            );
            let is_heard = pace.moved == now;
            assert_eq!(is_heard, frame <= MOST_FRAMES, "{frame}");
        }
    }
}
