//! How much the QUIC connections of a node may have unread, together.
//!
//! quinn does not say how much of a connection is unread; what can be set is how much may be. So the windows of all connections, WebTransport's
//! among them, come out of one room of [`ROOM`] bytes: each has an equal part of it, [`MOST`] at most and [`LEAST`] at least. A part grows when others have gone, and never shrinks:
//! quinn takes a window back only as the peer is read, and one that shrank and grew again would give it more each time.
//!
//! A connection has [`LEAST`] and [`EARLY_STREAMS`] streams until its peer has proved who it is: quinn sets up as much of a stream before it is opened as after.
//!
//! Bounds: of `n` connections that come one after the other and are never read, the last has the `n`th part, so all of them have
//! 24 MiB · (1 + ln(n / 4)): 57 MiB for 16, 85 for 50. That is so as long as their part is more than [`LEAST`], up to 96 of them.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering::Relaxed},
};

use super::{MAX_STREAM_BYTES, MAX_STREAMS};

/// What the windows of all connections are together, in bytes.
pub(super) const ROOM: u32 = 24 << 20;
/// The window of one at most, in bytes: a lane that is read no further has that of its stream, and leaves as much for two others.
pub(super) const MOST: u32 = 3 * MAX_STREAM_BYTES;
/// The window of one at least, and before its peer has proved who it is, in bytes.
pub(super) const LEAST: u32 = 256 << 10;
/// Streams that a peer may have open until then.
pub(super) const EARLY_STREAMS: u32 = 16;

/// The room of a node. All clones share it.
#[derive(Clone, Debug, Default)]
pub struct Windows(Arc<AtomicU32>);

impl Windows {
    /// The peer of a connection has proved who it is: from now on it may have what peers have.
    pub(in crate::transport) fn trust(&self, quic: &quinn::Connection) -> Window {
        self.0.fetch_add(1, Relaxed);
        let mut window = Window {
            all: self.clone(),
            bytes: 0,
        };
        quic.set_max_concurrent_bi_streams(MAX_STREAMS.into());
        window.widen(quic);
        window
    }

    fn part(&self) -> u32 {
        (ROOM / self.0.load(Relaxed).max(1)).clamp(LEAST, MOST)
    }
}

/// A connection's part of the room, until it is dropped.
pub(in crate::transport) struct Window {
    all: Windows,
    pub(super) bytes: u32,
}

impl Window {
    /// Gives a connection what others have left.
    pub(in crate::transport) fn widen(&mut self, quic: &quinn::Connection) {
        let part = self.all.part();
        if part > self.bytes {
            self.bytes = part;
            quic.set_receive_window(part.into());
        }
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        self.all.0.fetch_sub(1, Relaxed);
    }
}
