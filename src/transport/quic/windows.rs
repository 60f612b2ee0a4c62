//! How much a connection over QUIC may have unread, so that all of them together have a bound.
//!
//! What is unread is bounded by windows, and quinn says of no connection how much of its own is used. So a connection's window counts as a whole,
//! from its handshake to its end. It has a quarter of what is free ([`SHARE`]; A. Choudhury, E. Hahne, 1998), up to [`MOST`], and [`LEAST`] where nothing is.
//! A stream has a quarter of its connection's: where gossip or a lane is read no further, votes, answers and pings still come. That can't be
//! changed while a connection lives (quinn-proto 0.11 has a setter for the window of a connection, and none for those of its streams), and a
//! connection whose window grows alone brings a single stream nothing; so neither changes.
//!
//! A connection whose window is used up stands as a whole (`standing.rs`): four streams that are not read do that. Those of the user's own protocols do not:
//! they have one stream's part of it, and what they have beyond that makes it wider (`transport/links.rs`).
//!
//! Bounds: whose window is over [`LEAST`] leaves three times as much free, so all together have [`ROOM`] less that, and [`LEAST`] each: 50 connections
//! that nobody reads have 76 MiB. Those that find the room free, five to ten, get 10 to 2.5 MB a second on a stream at a round trip of 100 ms, the rest 2.5, and four
//! times that on all streams of a connection.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering::Relaxed},
};

use quinn::VarInt;

/// For the windows of all connections, in bytes.
const ROOM: u32 = 32 << 20;
/// The part of what is free that one may have.
const SHARE: u32 = 4;
/// The largest window of a connection, and the one that it has all the same.
pub(super) const MOST: u32 = 4 << 20;
pub(super) const LEAST: u32 = 1 << 20;
/// The part of it that a stream has.
const STREAMS: u32 = 4;
/// The largest window of a stream.
pub(super) const MOST_OF_STREAM: u32 = MOST / STREAMS;

/// The room for them. All clones are one.
#[derive(Clone, Debug, Default)]
pub struct Windows(Arc<AtomicU32>);

/// A connection's window; its room is others' again when this is dropped.
#[derive(Debug)]
pub struct Window {
    windows: Windows,
    bytes: u32,
}

impl Windows {
    /// The window of a connection that begins.
    pub fn grant(&self) -> Window {
        let window = |taken: u32| (ROOM.saturating_sub(taken) / SHARE).clamp(LEAST, MOST);
        let taken = self.0.fetch_update(Relaxed, Relaxed, |taken| {
            Some(taken.saturating_add(window(taken)))
        });
        let (Ok(taken) | Err(taken)) = taken;
        Window {
            windows: self.clone(),
            bytes: window(taken),
        }
    }
}

impl Window {
    /// Bytes of the connection that may be unread.
    pub fn of_connection(&self) -> VarInt {
        self.bytes.into()
    }

    /// Bytes of each of its streams.
    pub fn of_stream(&self) -> VarInt {
        (self.bytes / STREAMS).into()
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        self.windows.0.fetch_sub(self.bytes, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_together_have_one_room_and_who_comes_late_the_least() {
        let windows = Windows::default();
        let first: Vec<_> = (0..4).map(|_| windows.grant()).collect();
        assert!(first.iter().all(|window| window.bytes == MOST));
        let rest: Vec<_> = (0..46).map(|_| windows.grant()).collect();
        assert_eq!(rest.last().map(|window| window.bytes), Some(LEAST));
        let all: Vec<_> = first.into_iter().chain(rest).collect();
        let bytes: u32 = all.iter().map(|window| window.bytes).sum();
        assert!((60 << 20..=76 << 20).contains(&bytes), "{bytes}");
        for window in &all {
            let [connection, stream] = [window.of_connection(), window.of_stream()];
            assert!(stream.into_inner() * 4 <= connection.into_inner());
        }
        drop(all);
        assert_eq!(windows.grant().bytes, MOST, "it is free again");
    }
}
