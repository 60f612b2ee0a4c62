//! Whether a connection over QUIC stands: what came by it was not read here, and has used up its window.
//!
//! quinn says of no connection how much of its window is used. But a peer that has more to send than the window lets it says so
//! (DATA_BLOCKED; RFC 9000, 19.12; quinn does since quinn-proto 0.11.15, and so do browsers), once for each window, and quinn counts that; as it counts how often
//! it has granted a new one (MAX_DATA), which it does when an eighth of one was read, or given up. So a connection stands where its peer has said it, and nothing was
//! granted since, for a [`TICK`] and longer. Where word and grant crossed, or both came between two looks, the grant was the answer, and nothing tells; then it counts as
//! standing all the same, until the next one, or until data has come in more than [`STRAYS`] ticks: who is blocked sends again what was lost, and nothing new. It is the peer's word,
//! with which it can lie; what that brings it has a budget (`lanes/excuses.rs`).
//!
//! Where streams are kept that may have more (`transport/links.rs`), the window becomes wider as soon as the peer has said it, once as much has come as
//! it was made wider by last: so by lies nobody has more of the room than it has sent. For that it is looked more often.
//!
//! Bounds: a timer of each connection, and only while something moves on it, nothing can, or streams are kept that want more.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use futures::FutureExt;
use quinn::{Connection, VarInt};

use super::windows::Window;
use crate::{
    platform::{self, Delay, Instant},
    transport::links::{self, Link},
};

/// How often it is looked, and how soon where that makes a window wider: the longer nothing moves, the later.
const TICK: Duration = Duration::from_millis(500);
const SOON: Duration = Duration::from_millis(50);
/// How often, at least, after something has moved.
const CALM: u32 = 4;
/// In how many ticks data may come of a peer that says it can send none: what was lost comes again.
const STRAYS: u32 = 3;

/// How often anything has moved on a connection: a stream was opened, read, written or dropped. All clones are one.
#[derive(Clone, Debug, Default)]
pub struct Gauge(Arc<AtomicU64>);

impl Gauge {
    /// Something has.
    pub fn stir(&self) {
        self.0.fetch_add(1, Relaxed);
    }

    fn times(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Makes a connection's window wider. Not narrower again: quinn grants the whole difference at once each time that it is made wider, and has what it is
/// narrower paid by reads alone, so that who is made wider and narrower in turns could send more each time.
struct Widening {
    quic: Connection,
    gauge: Gauge,
    /// What it is at first, and by how much it is wider.
    window: u64,
    wider: AtomicU64,
    /// How many bytes had come when it was last made wider.
    came: AtomicU64,
    /// What a stream may have unread.
    of_stream: u64,
}

impl Widening {
    /// How many bytes have come, packets and all.
    fn came(&self) -> u64 {
        self.quic.stats().udp_rx.bytes
    }
}

impl links::Window for Widening {
    fn of_stream(&self) -> usize {
        usize::try_from(self.of_stream).unwrap_or(usize::MAX)
    }

    fn may_be_used_up(&self) -> bool {
        self.came().saturating_sub(self.came.load(Relaxed)) >= self.of_stream
    }

    fn update(&self, wider: usize) {
        let wider = wider as u64;
        if self.wider.swap(wider, Relaxed) != wider {
            self.came.store(self.came(), Relaxed);
            let window = VarInt::from_u64(self.window.saturating_add(wider));
            self.quic.set_receive_window(window.unwrap_or(VarInt::MAX));
        }
        // It may be used up already.
        self.gauge.stir();
    }

    fn narrows(&self) -> bool {
        false
    }
}

/// Looks whether a connection stands, and tells its link.
pub struct Watch {
    quic: Connection,
    gauge: Gauge,
    link: Arc<Link>,
    standing: Standing,
    /// Until it is looked again, and when that is.
    delay: Option<(Instant, Delay)>,
    /// How often anything had moved, and for how many looks nothing has.
    times: u64,
    calm: u32,
}

impl Watch {
    /// Of a connection with this window. What its peer has said before was of another one.
    pub fn new(quic: Connection, window: &Window) -> Self {
        let gauge = Gauge::default();
        let widening = Widening {
            quic: quic.clone(),
            gauge: gauge.clone(),
            window: window.of_connection().into_inner(),
            wider: AtomicU64::new(0),
            came: AtomicU64::new(0),
            of_stream: window.of_stream().into_inner(),
        };
        Self {
            standing: Standing::new(quic.stats().frame_rx.data_blocked),
            quic,
            gauge,
            link: Arc::new(Link::new(widening)),
            delay: None,
            times: 0,
            calm: 0,
        }
    }

    /// What a stream tells that is opened.
    pub fn gauge(&self) -> Gauge {
        self.gauge.stir();
        self.gauge.clone()
    }

    /// Where it says whether it stands.
    pub fn link(&self) -> Arc<Link> {
        Arc::clone(&self.link)
    }

    /// To be called whenever the connection is.
    pub fn poll(&mut self, cx: &mut Context<'_>) {
        let times = self.gauge.times();
        if self.times != times {
            (self.times, self.calm) = (times, 0);
            if self.delay.is_none() || self.link.wants_more() {
                self.look_within(self.pause());
            }
        }
        while let Some((_, delay)) = &mut self.delay
            && let Poll::Ready(()) = delay.poll_unpin(cx)
        {
            self.delay = None;
            self.look();
            self.calm += 1;
            let is_wanted = self.standing.is_open() || self.link.wants_more();
            if is_wanted || self.calm < CALM {
                self.look_within(self.pause());
            }
        }
    }

    fn look(&mut self) {
        let stats = self.quic.stats();
        let counts = Counts {
            said: stats.frame_rx.data_blocked,
            granted: stats.frame_tx.max_data,
            data: stats.frame_rx.stream,
        };
        let stands = self.standing.look(counts, platform::now());
        let is_wider = self.standing.is_open() && self.link.widen();
        if is_wider {
            self.calm = 0;
        }
        self.link.set_stands(stands && !is_wider);
    }

    /// How long until it is looked again.
    fn pause(&self) -> Duration {
        if self.link.wants_more() {
            TICK.min(SOON * (1 << self.calm.min(CALM)))
        } else {
            TICK
        }
    }

    fn look_within(&mut self, pause: Duration) {
        let at = platform::now() + pause;
        if self.delay.as_ref().is_none_or(|(before, _)| at < *before) {
            self.delay = Some((at, Delay::new(pause)));
        }
    }
}

/// What is counted on a connection.
#[derive(Clone, Copy, Debug)]
struct Counts {
    /// How often the peer has said that it can't send more.
    said: u64,
    /// How often a window was granted.
    granted: u64,
    /// How many frames with data of streams have come.
    data: u64,
}

/// Whether it stands, from that.
#[derive(Debug)]
struct Standing {
    /// As counted last.
    said: u64,
    blocked: Option<Blocked>,
}

/// A peer has said that it can't send more, and nothing was granted since.
#[derive(Clone, Copy, Debug)]
struct Blocked {
    since: Instant,
    granted: u64,
    /// As counted when a tick began last, and when that was.
    data: u64,
    ticked: Instant,
    /// In how many ticks data has come.
    ticks: u32,
}

impl Blocked {
    fn new(counts: Counts, now: Instant) -> Self {
        Self {
            since: now,
            granted: counts.granted,
            data: counts.data,
            ticked: now,
            ticks: 0,
        }
    }

    /// Whether that can't be true by now.
    fn is_over(&mut self, counts: Counts, now: Instant) -> bool {
        if now.saturating_duration_since(self.ticked) >= TICK {
            self.ticks += u32::from(self.data != counts.data);
            (self.data, self.ticked) = (counts.data, now);
        }
        self.granted != counts.granted || self.ticks > STRAYS
    }
}

impl Standing {
    /// So often its peer has said it before.
    fn new(said: u64) -> Self {
        Self {
            said,
            blocked: None,
        }
    }

    /// Whether the peer may not be able to send.
    fn is_open(&self) -> bool {
        self.blocked.is_some()
    }

    /// So much is counted: whether it stands.
    fn look(&mut self, counts: Counts, now: Instant) -> bool {
        let is_news = std::mem::replace(&mut self.said, counts.said) != counts.said;
        let blocked = self.blocked.as_mut();
        if blocked.is_none_or(|blocked| blocked.is_over(counts, now)) {
            self.blocked = is_news.then(|| Blocked::new(counts, now));
        }
        let is_long = |since| now.saturating_duration_since(since) >= TICK;
        self.blocked.is_some_and(|blocked| is_long(blocked.since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_stands_where_its_peer_can_send_no_more_and_nothing_was_granted_for_a_while() {
        let (mut standing, start) = (Standing::new(3), platform::now());
        let mut look = |said, granted, ticks| {
            let counts = Counts {
                said,
                granted,
                data: 7,
            };
            let stands = standing.look(counts, start + TICK * ticks);
            (standing.is_open(), stands)
        };
        assert_eq!(look(3, 1, 0), (false, false), "nothing of this window");
        assert_eq!(look(4, 1, 1), (true, false), "it says so only now");
        assert_eq!(look(4, 1, 2), (true, true));
        assert_eq!(look(5, 1, 3), (true, true), "though it says so again");
        // However much is read or given up meanwhile.
        assert_eq!(look(5, 1, 100), (true, true));
        assert_eq!(look(5, 2, 101), (false, false));
        assert_eq!(look(5, 2, 102), (false, false), "it can send since");
        // Over a long way all is read, and it says so all the time.
        for (round, ticks) in (1..10).zip(104..) {
            assert_eq!(look(5 + round, 2 + round, ticks), (true, false));
        }
        assert_eq!(look(14, 11, 200), (true, true));
        assert_eq!(look(14, 12, 201), (false, false));
    }

    #[test]
    fn it_stands_no_more_where_its_peer_goes_on_sending_though_it_was_granted_what_it_had_said_by_then()
     {
        let (mut standing, start) = (Standing::new(0), platform::now());
        // Looked at ten times in a tick, as where streams are kept.
        let mut look = |said, data, tenths| {
            let counts = Counts {
                said,
                granted: 1,
                data,
            };
            standing.look(counts, start + TICK / 10 * tenths)
        };
        assert!(!look(1, 100, 0), "both came since the look before");
        // What was lost comes again at once, however much it is.
        let stands: Vec<_> = (1..100)
            .map(|tenths| look(1, 100 + 1000 * u64::from(tenths.min(15)), tenths))
            .collect();
        assert!(stands.iter().skip(9).all(|stands| *stands), "{stands:?}");
        // A vote now and then.
        let stands: Vec<_> = (100..150)
            .map(|tenths| look(1, u64::from(30_000 + tenths), tenths))
            .collect();
        assert!(stands[0] && stands.iter().skip(20).all(|stands| !stands));
        assert!(!look(2, 40_000, 160), "it says so anew");
        assert!(look(2, 40_001, 170));
    }
}
