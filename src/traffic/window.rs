//! How much may be on its way to a peer.
//!
//! Two limits. What the peer has not *read* fills buffers between the nodes, and a vote that is sent now arrives behind
//! it: that is kept as short as the link allows. What it has read and is not *done* with waits for its checks, where votes
//! overtake; there may be much of that ([`MAX_UNDONE`]), and a sender slows down to the pace of the checks.
//!
//! How much may be unread is found by the delay, as LEDBAT does (RFC 6817): the least delay ever seen is the link's own, what
//! is above it is our queue. While that is below [`TARGET`] (less while there are votes to be sent) the window grows, above it shrinks; it grows only while it
//! is what holds the sender up, and doubles each round trip until the queue is first seen. So a fast link with long round trips gets
//! megabytes, and a slow one a few milliseconds' worth.
//!
//! What the peer says is believed only as far as bytes were *written* to its stream, and what is not written yet is bounded by
//! itself ([`MAX_UNWRITTEN`]): so a peer that acknowledges what it was not sent, or that stops reading, gets us to hold nothing more.
//!
//! Bounds: [`MIN_UNREAD`] to [`MAX_UNREAD`]; one sample for each [`SAMPLE`] bytes under way; acknowledgements: two for
//! each frame sent, one as read and one as done with, those of former streams included ([`Window::move_on`]).

use std::{collections::VecDeque, time::Duration};

use crate::platform::Instant;

/// The least and the most that the peer may not have read, and the least to begin with, in bytes.
const MIN_UNREAD: usize = 64 << 10;
const MAX_UNREAD: usize = 8 << 20;
/// Bytes of a lane that the peer may not be done with: a sender keeps to it, and a receiver holds no more.
pub(crate) const MAX_UNDONE: usize = 8 << 20;
/// Bytes that may wait in the connection to be written.
const MAX_UNWRITTEN: usize = 1 << 20;
/// The same of a frame that goes on: nobody can read, and acknowledge, half of one.
const MAX_REST_UNWRITTEN: usize = 160 << 10;
/// Acknowledgements that may come before anything was sent.
const SPARE_ACKNOWLEDGEMENTS: usize = 16;
/// How long a queue of our own may be: so much later comes a vote.
const TARGET: Duration = Duration::from_millis(3);
/// The same while votes go to the peer: bulk is a quarter slower then, on a fast link.
const TARGET_WITH_VOTES: Duration = Duration::from_micros(500);
/// How long after a vote others are expected.
const VOTING: Duration = Duration::from_secs(10);
/// Bytes between two measurements of the delay.
const SAMPLE: usize = 16 << 10;
/// What the window grows by in a round trip, once a queue was seen.
const STEP: usize = 64 << 10;
/// How long the least delay is remembered, at least; routes change.
const MEMORY: Duration = Duration::from_secs(30);

/// See the module's documentation.
#[derive(Debug)]
pub struct Window {
    limit: usize,
    /// No queue was seen yet.
    starts: bool,
    /// The limit has held the sender up since it was last changed.
    is_tight: bool,
    /// Bytes sent ever, and of those written; and as far as that goes, read and done with.
    sent: u64,
    written: u64,
    read: u64,
    done: u64,
    /// Bytes that the peer says it has read and is done with, of those sent. What it says may overtake our news of what was written.
    said_read: u64,
    said_done: u64,
    /// Acknowledgements that may still come.
    due: usize,
    /// When the byte with this number was sent.
    samples: VecDeque<(u64, Instant)>,
    /// The least delay of this period and of the one before, and when this one began.
    least: [Option<Duration>; 2],
    period: Option<Instant>,
    /// Until when votes are expected.
    voting: Option<Instant>,
}

impl Default for Window {
    fn default() -> Self {
        Self {
            limit: MIN_UNREAD,
            starts: true,
            is_tight: false,
            sent: 0,
            written: 0,
            read: 0,
            done: 0,
            said_read: 0,
            said_done: 0,
            due: SPARE_ACKNOWLEDGEMENTS,
            samples: VecDeque::new(),
            least: [None; 2],
            period: None,
            voting: None,
        }
    }
}

impl Window {
    /// The streams are others now, and nothing is known of how fast these are. What the peer has to say of the former ones may still
    /// come.
    pub fn move_on(&mut self) {
        *self = Self {
            due: self.due.saturating_add(SPARE_ACKNOWLEDGEMENTS),
            voting: self.voting,
            ..Self::default()
        };
    }

    /// Bytes that may be sent now; the last message may go over it.
    pub fn room(&self) -> usize {
        let unread = self.limit.saturating_sub(self.unread());
        let undone = MAX_UNDONE.saturating_sub(difference(self.sent, self.done));
        unread.min(undone).min(self.unheard_room())
    }

    /// Bytes that may be sent now of a frame that has begun.
    pub fn rest_room(&self) -> usize {
        MAX_REST_UNWRITTEN.saturating_sub(difference(self.sent, self.written))
    }

    /// Bytes that may be sent now to a peer whose acknowledgements are not read here: as far as its stream takes them.
    pub fn unheard_room(&self) -> usize {
        MAX_UNWRITTEN.saturating_sub(difference(self.sent, self.written))
    }

    /// Acknowledgements are read again: how long those took says nothing of the link.
    pub fn hears_again(&mut self) {
        self.samples.clear();
    }

    /// Whether the peer has read all that was sent.
    pub fn is_idle(&self) -> bool {
        self.unread() == 0
    }

    fn unread(&self) -> usize {
        difference(self.sent, self.read)
    }

    /// A vote was sent: others will come, and shall not wait long.
    pub fn on_vote(&mut self, now: Instant) {
        self.voting = Some(now + VOTING);
    }

    /// Bytes of so many frames that were sent.
    pub fn on_sent(&mut self, bytes: usize, frames: usize, now: Instant) {
        self.sent += bytes as u64;
        self.due = self.due.saturating_add(2 * frames);
        let last = self.samples.back().map_or(0, |(number, _)| *number);
        if self.samples.is_empty() || self.sent - last >= SAMPLE as u64 {
            self.samples.push_back((self.sent, now));
        }
        self.is_tight |= self.unread() >= self.limit;
    }

    /// Bytes that the connection has written.
    pub fn on_written(&mut self, bytes: usize, now: Instant) {
        self.written = self.written.saturating_add(bytes as u64).min(self.sent);
        self.believe(now);
    }

    /// The peer says that it has read so many bytes more, and is done with so many. False: it says so too often. One that says it of
    /// more than it was sent only gets more than it can take.
    pub fn on_acknowledged(&mut self, read: u64, done: u64, now: Instant) -> bool {
        if self.due == 0 {
            return false;
        }
        self.due -= 1;
        self.said_read = self.said_read.saturating_add(read).min(self.sent);
        self.said_done = self.said_done.saturating_add(done).min(self.said_read);
        self.believe(now);
        true
    }

    /// Takes what the peer says as true, as far as it can be.
    fn believe(&mut self, now: Instant) {
        let before = self.read;
        self.read = self.said_read.min(self.written);
        self.done = self.said_done.min(self.read);
        let mut delay = None;
        while let Some((number, at)) = self.samples.front().copied()
            && number <= self.read
        {
            self.samples.pop_front();
            delay = Some(now.saturating_duration_since(at));
        }
        if let Some(delay) = delay {
            let queue = delay.saturating_sub(self.least_delay(delay, now));
            let voting = self.voting.is_some_and(|until| now < until);
            let target = if voting { TARGET_WITH_VOTES } else { TARGET };
            self.adapt(difference(self.read, before), queue, target);
        }
    }

    /// The link's own delay, as far as it is known.
    fn least_delay(&mut self, delay: Duration, now: Instant) -> Duration {
        let begun = *self.period.get_or_insert(now);
        if now.saturating_duration_since(begun) >= MEMORY {
            self.least = [None, self.least[0]];
            self.period = Some(now);
        }
        self.least[0] = Some(self.least[0].map_or(delay, |least| least.min(delay)));
        self.least.into_iter().flatten().min().unwrap_or(delay)
    }

    /// So many bytes were read, and our queue took so long.
    fn adapt(&mut self, bytes: usize, queue: Duration, target: Duration) {
        if queue > target {
            self.starts = false;
            // At most half of it within one round trip, however long the queue is.
            let over = (queue - target).min(target).as_secs_f64() / target.as_secs_f64();
            let less = (bytes as f64 * over / 2.0) as usize;
            self.limit = self.limit.saturating_sub(less);
        } else if self.is_tight && self.starts {
            self.limit += bytes;
        } else if self.is_tight {
            let under = (target - queue).as_secs_f64() / target.as_secs_f64();
            // One step for each window that was read, as LEDBAT's one segment; it is large, since our frames are.
            self.limit += (STEP as f64 * under * bytes as f64 / self.limit as f64) as usize;
        }
        self.limit = self.limit.clamp(MIN_UNREAD, MAX_UNREAD);
        self.is_tight = self.unread() >= self.limit;
    }
}

fn difference(more: u64, less: u64) -> usize {
    usize::try_from(more.saturating_sub(less)).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::test;
    use proptest::prelude::*;

    /// Sends as much as the window allows over a link, for so many seconds; the share of the link that was used in the last
    /// one, and the longest queue in it.
    fn over_a_link(bytes_per_second: f64, round_trip: Duration, seconds: u32) -> (f64, Duration) {
        let (begin, step) = (crate::platform::now(), Duration::from_micros(100));
        let mut window = Window::default();
        let mut free_at = begin;
        let mut under_way = VecDeque::new();
        let (mut carried, mut longest) = (0, Duration::ZERO);
        let end = begin + Duration::from_secs(seconds.into());
        let mut now = begin;
        while now < end {
            let is_last = end - now <= Duration::from_secs(1);
            while window.room() > 0 {
                let frame = 32 << 10;
                window.on_sent(frame, 1, now);
                window.on_written(frame, now);
                free_at =
                    free_at.max(now) + Duration::from_secs_f64(frame as f64 / bytes_per_second);
                under_way.push_back((free_at + round_trip, frame));
                if is_last {
                    longest = longest.max(free_at - now);
                }
            }
            while let Some((at, frame)) = under_way.front().copied()
                && at <= now
            {
                under_way.pop_front();
                assert!(window.on_acknowledged(frame as u64, frame as u64, now));
                carried += if is_last { frame } else { 0 };
            }
            now += step;
        }
        (carried as f64 / bytes_per_second, longest)
    }

    #[test]
    fn links_of_all_kinds_are_used_and_their_queues_stay_short() {
        let megabit = 1e6 / 8.0;
        for (rate, round_trip) in [
            (10_000.0 * megabit, Duration::from_micros(200)),
            (1000.0 * megabit, Duration::from_millis(1)),
            (100.0 * megabit, Duration::from_millis(40)),
            (300.0 * megabit, Duration::from_millis(150)),
        ] {
            let (share, queue) = over_a_link(rate, round_trip, 20);
            assert!(share > 0.85, "{rate} {round_trip:?}: {share}");
            assert!(queue < 4 * TARGET, "{rate} {round_trip:?}: {queue:?}");
        }
        // The least window is more than this link wants.
        let (share, queue) = over_a_link(10.0 * megabit, Duration::from_millis(50), 20);
        assert!(
            share > 0.85 && queue < Duration::from_millis(120),
            "{share} {queue:?}"
        );
    }

    #[test]
    fn who_is_not_done_is_sent_no_more() {
        let (mut window, now) = (Window::default(), crate::platform::now());
        let mut sent = 0;
        while window.room() > 0 {
            window.on_sent(1000, 1, now);
            window.on_written(1000, now);
            window.on_acknowledged(1000, 0, now);
            sent += 1000;
        }
        assert!((MAX_UNDONE..=MAX_UNDONE + 1000).contains(&sent));
        window.on_acknowledged(0, u64::MAX, now);
        assert!(window.room() >= MIN_UNREAD);
    }

    #[test]
    fn what_was_not_written_cannot_be_acknowledged() {
        let (mut window, now) = (Window::default(), crate::platform::now());
        let mut sent = 0;
        while window.room() > 0 && sent < 1 << 30 {
            window.on_sent(1000, 1, now);
            window.on_acknowledged(u64::MAX, u64::MAX, now);
            sent += 1000;
        }
        assert!(sent <= MIN_UNREAD + 1000, "{sent}");
        // What was said too early counts once it is true.
        window.on_written(sent, now);
        assert!(window.room() >= MIN_UNREAD);
    }

    #[test]
    fn a_frame_is_acknowledged_twice_at_most() {
        let (mut window, now) = (Window::default(), crate::platform::now());
        let mut answers = 0;
        for _ in 0..10 {
            window.on_sent(1000, 1, now);
        }
        while window.on_acknowledged(0, 0, now) {
            answers += 1;
        }
        assert_eq!(answers, 20 + SPARE_ACKNOWLEDGEMENTS);
    }

    #[test]
    fn acknowledgements_of_former_streams_are_no_lies() {
        let (mut window, now) = (Window::default(), crate::platform::now());
        for _ in 0..100 {
            window.on_sent(100, 1, now);
            window.on_written(100, now);
        }
        window.move_on();
        for _ in 0..200 {
            assert!(window.on_acknowledged(100, 100, now), "still on its way");
        }
        assert!(window.room() > 0 && window.room() <= MIN_UNREAD);
        let mut more = 0;
        while window.on_acknowledged(0, 0, now) {
            more += 1;
        }
        assert_eq!(more, 2 * SPARE_ACKNOWLEDGEMENTS);
    }

    #[test]
    fn a_frame_that_nobody_reads_goes_on_as_far_as_it_is_written() {
        let (mut window, now) = (Window::default(), crate::platform::now());
        window.on_sent(MIN_UNREAD, 0, now);
        assert_eq!(window.room(), 0);
        assert_eq!(window.rest_room(), MAX_REST_UNWRITTEN - MIN_UNREAD);
        window.on_sent(window.rest_room(), 0, now);
        assert_eq!(window.rest_room(), 0);
        window.on_written(MAX_REST_UNWRITTEN, now);
        assert_eq!((window.room(), window.rest_room()), (0, MAX_REST_UNWRITTEN));
        window.on_sent(10, 1, now);
        window.on_written(10, now);
        let all = (MAX_REST_UNWRITTEN + 10) as u64;
        assert!(window.on_acknowledged(all, all, now));
        assert!(window.room() > 0 && window.is_idle());
    }

    proptest! {
        #[test]
        fn no_acknowledgement_breaks_the_bounds(steps in proptest::collection::vec((0u8..4, 0usize..3_000_000, 0u64..50), 0..200)) {
            let (mut window, mut now) = (Window::default(), crate::platform::now());
            for (step, bytes, millis) in steps {
                now += Duration::from_millis(millis);
                match step {
                    0 if window.room() > 0 => window.on_sent(bytes, 1, now),
                    0 => {}
                    1 => assert!(window.on_acknowledged(bytes as u64, 0, now) || window.due == 0),
                    2 => assert!(window.on_acknowledged(0, bytes as u64, now) || window.due == 0),
                    _ => window.on_written(bytes, now),
                }
                prop_assert!((MIN_UNREAD..=MAX_UNREAD).contains(&window.limit));
                prop_assert!(window.room() <= MAX_UNWRITTEN);
                prop_assert!(window.done <= window.read && window.read <= window.written && window.written <= window.sent);
                prop_assert!(window.sent - window.written <= (MAX_UNWRITTEN + 3_000_000) as u64);
                prop_assert!(window.samples.len() <= (MAX_UNREAD + 3_000_000) / SAMPLE + 2);
            }
        }
    }
}
