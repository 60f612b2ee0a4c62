//! Whether a connection over QUIC stands: what came by it was not read here, and has used up its window.
//!
//! quinn says of no connection how much of its window is used. But a peer that has more to send than the window lets it says so
//! (DATA_BLOCKED; RFC 9000, 19.12; quinn does since quinn-proto 0.11.15, and so do browsers), once for each window, and quinn counts that. Who is read quickly may say it all the time,
//! over a long way. So a connection stands where its peer has said it, and so little was read since, for a [`TICK`] and longer, that no new window
//! was granted. It is the peer's word, with which it can lie; what that brings it has a budget (`lanes/excuses.rs`).
//!
//! Bounds: a timer of each connection, and only while something moves on it, or nothing can.

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
    platform::Delay,
    transport::links::{self, Link},
};

/// How often it is looked.
const TICK: Duration = Duration::from_millis(500);
/// How often, at least, after something has moved.
const CALM: u32 = 4;
/// Of a window so much is read before a new one is granted, as quinn has it.
const GRANTED: u64 = 8;

/// What has moved on a connection. All clones are one.
#[derive(Clone, Debug)]
pub struct Gauge {
    moved: Arc<Moved>,
    /// What a stream may have unread.
    of_stream: u64,
}

#[derive(Debug, Default)]
struct Moved {
    /// Bytes that may come again, since as many were read.
    free: AtomicU64,
    /// How often anything was read or written, or a stream opened.
    times: AtomicU64,
}

impl Gauge {
    fn new(window: &Window) -> Self {
        Self {
            moved: Arc::default(),
            of_stream: window.of_stream().into_inner(),
        }
    }

    /// So many bytes of a stream were read.
    pub fn read(&self, bytes: usize) {
        self.moved.free.fetch_add(bytes as u64, Relaxed);
        self.stir();
    }

    /// A stream was opened, or something was written on one.
    pub fn stir(&self) {
        self.moved.times.fetch_add(1, Relaxed);
    }

    /// A stream is read no more: what it had unread may be as much as it may.
    pub fn dropped(&self) {
        self.moved.free.fetch_add(self.of_stream, Relaxed);
        self.stir();
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
}

impl links::Window for Widening {
    fn of_stream(&self) -> usize {
        usize::try_from(self.gauge.of_stream).unwrap_or(usize::MAX)
    }

    fn widen(&self, bytes: usize) {
        let bytes = bytes as u64;
        let before = self.wider.swap(bytes, Relaxed);
        // The peer can send so many more, as if they had been read.
        let more = bytes.saturating_sub(before);
        self.gauge.moved.free.fetch_add(more, Relaxed);
        let window = VarInt::from_u64(self.window.saturating_add(bytes));
        self.quic.set_receive_window(window.unwrap_or(VarInt::MAX));
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
    /// Until it is looked again.
    delay: Option<Delay>,
    /// How often anything had moved, and for how many ticks nothing has.
    times: u64,
    calm: u32,
}

impl Watch {
    /// Of a connection with this window.
    pub fn new(quic: Connection, window: &Window) -> Self {
        let gauge = Gauge::new(window);
        let widening = Widening {
            quic: quic.clone(),
            gauge: gauge.clone(),
            window: window.of_connection().into_inner(),
            wider: AtomicU64::new(0),
        };
        Self {
            quic,
            gauge,
            link: Arc::new(Link::new(widening)),
            standing: Standing::new(window.of_connection().into_inner() / GRANTED),
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
        let times = self.gauge.moved.times.load(Relaxed);
        if self.times != times {
            (self.times, self.calm) = (times, 0);
            self.delay.get_or_insert_with(|| Delay::new(TICK));
        }
        while let Some(delay) = &mut self.delay
            && let Poll::Ready(()) = delay.poll_unpin(cx)
        {
            let says = self.quic.stats().frame_rx.data_blocked;
            let stands = self
                .standing
                .tick(says, self.gauge.moved.free.load(Relaxed));
            self.link.set_stands(stands);
            self.calm += 1;
            self.delay = (self.standing.is_open() || self.calm < CALM).then(|| Delay::new(TICK));
        }
    }
}

/// Whether it stands, from what is counted.
#[derive(Debug)]
struct Standing {
    /// Bytes of which each brings the peer a new window.
    enough: u64,
    /// How often the peer has said that it can't send more.
    said: u64,
    /// What was read when that was heard last, unless it can since.
    since: Option<u64>,
}

impl Standing {
    fn new(enough: u64) -> Self {
        Self {
            enough,
            said: 0,
            since: None,
        }
    }

    /// Whether the peer may not be able to send.
    fn is_open(&self) -> bool {
        self.since.is_some()
    }

    /// So often the peer has said it, and so many bytes were read: whether it stands.
    fn tick(&mut self, said: u64, read: u64) -> bool {
        if let Some(since) = self.since
            && read.saturating_sub(since) < self.enough
        {
            self.said = said;
            return true;
        }
        self.since = (said > self.said).then_some(read);
        self.said = said;
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_stands_where_its_peer_can_send_no_more_and_little_was_read_for_a_while() {
        let mut standing = Standing::new(100);
        assert!(!standing.tick(0, 50), "it says nothing");
        assert!(!standing.tick(1, 60), "it says so only now");
        assert!(standing.is_open() && standing.tick(1, 60));
        assert!(standing.tick(1, 159), "no window was granted for that");
        assert!(!standing.tick(1, 160) && !standing.is_open());
        assert!(!standing.tick(1, 160), "it can send since");
        // Over a long way all is read, and it says so all the time.
        for round in 1..10 {
            assert!(!standing.tick(1 + round * 3, 160 + round * 100));
        }
        assert!(standing.tick(40, 1060));
    }
}
