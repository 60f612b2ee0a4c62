//! What the connections of a node have received and nobody has read, for all together.
//!
//! Windows bound it for a stream, and so for a connection; of many connections each would have all that one may have. So they share a
//! room of [`ROOM`] bytes as the ports of a switch share its memory (A. Choudhury, E. Hahne, "Dynamic queue length thresholds for
//! shared-memory packet switches", 1998): a connection may have a quarter of what is free ([`SHARE`]). One alone gets 6.4 MiB, of ten that leave
//! as much as they can each gets 2.3 MiB. Who has its share is read no further until some of
//! it was read; its peer feels that as a slow way.
//!
//! What is behind the bytes that nobody reads waits too, the peer's votes, pings and answers among it; nobody pays for these being late (`transport/links.rs`). Nobody is stopped who has less
//! than [`LEAST`], whatever others leave unread: gossip whose window has grown as far as it may, and two lanes, can be read no further, and
//! the rest still comes. A connection that stands still all
//! the same can be closed, and is let go where no ping comes back while it stands (`network/task/ping.rs`).
//!
//! Streams of the user's own protocols have the window of one of them in that; once the share is used up, it becomes larger by what they may have beyond (`transport/links.rs`).
//!
//! Bounds, but for that: who passes [`LEAST`] leaves four times as much free, so all together have [`ROOM`] less that, and [`LEAST`] for each connection that
//! finds it full: 24 MiB and 2 MiB each. And of each a piece that was on its way (`frames.rs`). 16 that leave all they can have 44 MiB, 50 have 112.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use ::yamux::DEFAULT_CREDIT;

use super::GROWTH;

/// For all connections together, in bytes: half of what an attack may cost.
pub(super) const ROOM: usize = 32 << 20;
/// The part of what is free that one may have.
const SHARE: usize = 4;
/// What each may have all the same, in bytes: four streams' windows, of which one has grown.
pub(super) const LEAST: usize = 4 * (DEFAULT_CREDIT as usize) + GROWTH;

/// How much of the room is taken.
#[derive(Clone, Debug, Default)]
pub(super) struct Room(Arc<AtomicUsize>);

/// What a connection has taken of it; given back when this is dropped.
pub(super) struct Unread {
    room: Room,
    pub(super) own: usize,
    /// What streams of the user's own protocols may have of that beside (`transport/links.rs`).
    pub(super) wider: usize,
}

impl Unread {
    /// Nothing yet.
    pub(super) fn new(room: Room) -> Self {
        Self {
            room,
            own: 0,
            wider: 0,
        }
    }

    /// Whether more may come.
    pub(super) fn has_room(&self) -> bool {
        let free = ROOM.saturating_sub(self.room.0.load(Relaxed));
        self.own < (free / SHARE).max(LEAST) + self.wider
    }

    /// So many bytes have come.
    pub(super) fn add(&mut self, bytes: usize) {
        self.own += bytes;
        self.room.0.fetch_add(bytes, Relaxed);
    }

    /// So many were read, or thrown away.
    pub(super) fn remove(&mut self, bytes: usize) {
        let bytes = bytes.min(self.own);
        self.own -= bytes;
        self.room.0.fetch_sub(bytes, Relaxed);
    }
}

impl Drop for Unread {
    fn drop(&mut self) {
        self.remove(self.own);
    }
}

#[cfg(all(test, not(target_arch = "wasm32")))]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    const PIECE: usize = 16 << 10;

    fn fill(connection: &mut Unread) {
        while connection.has_room() {
            connection.add(PIECE);
        }
    }

    #[test]
    fn one_alone_gets_much_and_of_many_each_as_much_as_the_others() {
        let room = Room::default();
        let mut connections: Vec<_> = (0..10).map(|_| Unread::new(room.clone())).collect();
        fill(&mut connections[0]);
        assert!(connections[0].own.abs_diff(ROOM / 5) <= PIECE);
        // What they have is read now and then, and comes again.
        for _ in 0..1000 {
            for connection in &mut connections {
                connection.remove(PIECE);
                fill(connection);
            }
        }
        for connection in &connections {
            let fair = ROOM / (SHARE + 10);
            assert!(
                connection.own.abs_diff(fair) <= 4 * PIECE,
                "{}",
                connection.own
            );
        }
        connections.truncate(1);
        fill(&mut connections[0]);
        assert_eq!(room.0.load(Relaxed), connections[0].own);
        connections.clear();
        assert_eq!(room.0.load(Relaxed), 0);
    }

    #[test]
    fn what_streams_of_ones_own_protocols_may_have_beside_leaves_the_rest_what_it_had() {
        let room = Room::default();
        let mut full = Unread::new(room.clone());
        full.add(ROOM);
        let mut connection = Unread::new(room);
        connection.wider = 8 * PIECE;
        fill(&mut connection);
        assert_eq!(connection.own, LEAST + 8 * PIECE);
        connection.wider = 0;
        connection.remove(8 * PIECE);
        assert!(!connection.has_room());
        connection.remove(1);
        assert!(connection.has_room());
    }

    #[test]
    fn what_others_leave_unread_stops_nobody_of_whom_gossip_and_two_lanes_are_held() {
        let room = Room::default();
        let mut others: Vec<_> = (0..16).map(|_| Unread::new(room.clone())).collect();
        others.iter_mut().for_each(fill);
        let taken = room.0.load(Relaxed);
        assert!((43 << 20..46 << 20).contains(&taken), "{taken}");
        let mut honest = Unread::new(room);
        let window = DEFAULT_CREDIT as usize;
        honest.add(window + GROWTH);
        for _ in 0..2 {
            assert!(honest.has_room());
            honest.add(window);
        }
        assert!(honest.has_room(), "its votes come");
    }

    proptest! {
        #[test]
        fn together_they_have_the_room_and_the_least_of_each(
            steps in vec((0_usize..40, any::<bool>(), 1..=PIECE, 1_usize..2000), 1..400),
        ) {
            let room = Room::default();
            let mut connections: Vec<_> = (0..40).map(|_| Unread::new(room.clone())).collect();
            for (number, comes, bytes, times) in steps {
                let connection = &mut connections[number];
                for _ in 0..times {
                    if !comes {
                        connection.remove(bytes);
                    } else if connection.has_room() {
                        connection.add(bytes);
                    }
                }
                let own: usize = connections.iter().map(|connection| connection.own).sum();
                prop_assert_eq!(room.0.load(Relaxed), own);
                let beyond = connections.len() * (LEAST + PIECE);
                prop_assert!(own <= ROOM - SHARE * LEAST + beyond);
            }
        }
    }
}
