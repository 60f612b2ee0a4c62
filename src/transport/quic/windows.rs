//! How much a connection over QUIC may have unread, so that all of them together have a bound.
//!
//! What is unread is bounded by windows, and quinn says of no connection how much of its own is used. So a connection's window counts as a whole,
//! from its handshake to its end: how much a stream has of it is said in the handshake, before its peer has proved who it is. So that nobody takes the room by handshakes that
//! it leaves unfinished, of those from one public address one at a time takes more than nothing; the others have [`LEAST`], which counts when they are done. A connection has a quarter of what is free ([`SHARE`]; A. Choudhury, E. Hahne, 1998), up to [`MOST`], and [`LEAST`] where nothing is.
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

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
};

use quinn::VarInt;

use crate::{peers::AddressGroup, platform::lock::lock};

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
pub struct Windows(Arc<All>);

#[derive(Debug, Default)]
struct All {
    taken: AtomicU32,
    /// Those of whose handshakes one has its room: at most as many as there are handshakes.
    callers: Mutex<HashSet<AddressGroup>>,
}

/// A connection's window; its room is others' again when this is dropped.
#[derive(Debug)]
pub struct Window {
    windows: Windows,
    bytes: u32,
    /// What of them counts.
    taken: u32,
    caller: Option<Early>,
}

/// The handshake that has its room, of all from there.
#[derive(Debug)]
struct Early(Windows, AddressGroup);

impl Windows {
    /// The window of a connection that begins.
    pub fn grant(&self) -> Window {
        let window = |taken: u32| (ROOM.saturating_sub(taken) / SHARE).clamp(LEAST, MOST);
        let taken = self.0.taken.fetch_update(Relaxed, Relaxed, |taken| {
            Some(taken.saturating_add(window(taken)))
        });
        let (Ok(taken) | Err(taken)) = taken;
        Window {
            windows: self.clone(),
            bytes: window(taken),
            taken: window(taken),
            caller: None,
        }
    }

    /// The same of one whose handshake somebody has begun from there.
    pub fn grant_to(&self, from: Option<AddressGroup>) -> Window {
        let Some(from) = from else {
            return self.grant();
        };
        if lock(&self.0.callers).insert(from) {
            let mut window = self.grant();
            window.caller = Some(Early(self.clone(), from));
            return window;
        }
        Window {
            windows: self.clone(),
            bytes: LEAST,
            taken: 0,
            caller: None,
        }
    }
}

impl Window {
    /// The handshake is done.
    pub fn settle(&mut self) {
        self.caller = None;
        let rest = self.bytes - std::mem::replace(&mut self.taken, self.bytes);
        self.windows.0.taken.fetch_add(rest, Relaxed);
    }

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
        self.windows.0.taken.fetch_sub(self.taken, Relaxed);
    }
}

impl Drop for Early {
    fn drop(&mut self) {
        lock(&self.0.0.callers).remove(&self.1);
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

    #[test]
    fn handshakes_that_are_left_unfinished_take_one_share_of_each_address() {
        let windows = Windows::default();
        let from = |last| Some(AddressGroup::Ip4([8, 8, 8, last].into()));
        let mut early: Vec<_> = (0..256).map(|_| windows.grant_to(from(1))).collect();
        assert_eq!([early[0].bytes, early[1].bytes], [MOST, LEAST]);
        let others = [
            windows.grant_to(from(2)),
            windows.grant(),
            windows.grant_to(None),
        ];
        assert!(others.iter().all(|window| window.bytes == MOST));
        let taken = || windows.0.taken.load(Relaxed);
        assert_eq!(taken(), 4 * MOST);
        // They count as what they have become.
        early[1].settle();
        early[1].settle();
        assert_eq!(taken(), 4 * MOST + LEAST);
        assert_eq!(windows.grant_to(from(1)).bytes, LEAST, "one is under way");
        early[0].settle();
        let next = windows.grant_to(from(1));
        assert!(next.bytes > LEAST, "it is the next one's turn");
        drop(next);
        assert!(
            windows.grant_to(from(1)).bytes > LEAST,
            "and when it is given up"
        );
        drop((early, others));
        assert_eq!(taken(), 0);
        assert!(lock(&windows.0.callers).is_empty());
    }
}
