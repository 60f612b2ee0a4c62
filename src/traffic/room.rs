//! Room for long frames, which peers share: each has its turn, and the slowest gives way.
//!
//! A length is soon said, and its bytes may never come. So room goes to the peer that has the least of it, and among equals to who
//! has waited longest: who brings much waits behind itself. And while somebody waits, a frame that comes slowly gives way
//! ([`Room::hurry`]): of the peers that have more room than who waits, the one that brings the fewest bytes a second, and that
//! has had its room for the grace at least. One gives way in each grace, however many wait.
//!
//! Bounds: the room; an entry of fixed size for each frame that waits or has room, of which the owner has as many as streams.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    time::Duration,
};

use libp2p::PeerId;

use crate::platform::Instant;

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Room {
    /// In KiB, as all sizes here.
    all: usize,
    taken: usize,
    grace: Duration,
    /// The number of the next frame.
    next: u64,
    frames: HashMap<u64, Frame>,
    peers: HashMap<PeerId, Peer>,
    /// The peers that wait, in the order of their turns: what each has, and its first frame that waits.
    turns: BTreeSet<(usize, u64, PeerId)>,
    gave_way_at: Option<Instant>,
}

#[derive(Debug)]
struct Frame {
    peer: PeerId,
    size: usize,
    state: State,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Waits,
    Comes { since: Instant, bytes: u64 },
    Came,
}

#[derive(Debug, Default)]
struct Peer {
    has: usize,
    waiting: VecDeque<u64>,
}

impl Room {
    /// So many KiB, all free; a frame has its room for the grace at least.
    pub(crate) fn new(all: usize, grace: Duration) -> Self {
        Self {
            all,
            taken: 0,
            grace,
            next: 0,
            frames: HashMap::new(),
            peers: HashMap::new(),
            turns: BTreeSet::new(),
            gave_way_at: None,
        }
    }

    /// How long a frame has its room at least, whoever waits.
    pub(crate) fn grace(&self) -> Duration {
        self.grace
    }

    /// A peer's frame waits for so many KiB; one that is larger than the room takes all of it. Its number.
    pub(crate) fn wait(&mut self, peer: PeerId, size: usize) -> u64 {
        let (number, size) = (self.next, size.min(self.all));
        self.next += 1;
        let state = State::Waits;
        self.frames.insert(number, Frame { peer, size, state });
        self.change(peer, |peer| peer.waiting.push_back(number));
        number
    }

    /// The next frame that has its room now, and begins to come.
    pub(crate) fn begin(&mut self, now: Instant) -> Option<u64> {
        let (_, number, peer) = *self.turns.first()?;
        let frame = self.frames.get_mut(&number)?;
        let size = frame.size;
        if self.taken + size > self.all {
            return None;
        }
        frame.state = State::Comes {
            since: now,
            bytes: 0,
        };
        self.taken += size;
        self.change(peer, |peer| {
            peer.waiting.pop_front();
            peer.has += size;
        });
        Some(number)
    }

    /// So many bytes of a frame have come.
    pub(crate) fn brought(&mut self, number: u64, more: usize) {
        if let Some(Frame { state, .. }) = self.frames.get_mut(&number)
            && let State::Comes { bytes, .. } = state
        {
            *bytes = bytes.saturating_add(more as u64);
        }
    }

    /// All of a frame has come, or it is to come no further: it keeps its room, and gives way no more.
    pub(crate) fn came(&mut self, number: u64) {
        if let Some(frame) = self.frames.get_mut(&number) {
            frame.state = State::Came;
        }
    }

    /// A frame is done with, or nobody waits for its room any more.
    pub(crate) fn end(&mut self, number: u64) {
        let Some(Frame { peer, size, state }) = self.frames.remove(&number) else {
            return;
        };
        if matches!(state, State::Waits) {
            self.change(peer, |peer| peer.waiting.retain(|other| *other != number));
        } else {
            self.taken = self.taken.saturating_sub(size);
            self.change(peer, |peer| peer.has = peer.has.saturating_sub(size));
        }
    }

    /// Somebody has waited for the grace: which frame gives way, if one is to. It keeps its room until its [`Room::end`].
    pub(crate) fn hurry(&mut self, now: Instant) -> Option<u64> {
        let (waiting_has, ..) = *self.turns.first()?;
        let grace = self.grace;
        if self.gave_way_at.is_some_and(|at| now < at + grace) {
            return None;
        }
        let pace = |(number, frame): (&u64, &Frame)| {
            let State::Comes { since, bytes } = frame.state else {
                return None;
            };
            let age = now.saturating_duration_since(since);
            let has = self.peers.get(&frame.peer).map_or(0, |peer| peer.has);
            let pace = u128::from(bytes) * 1_000_000_000 / age.as_nanos().max(1);
            (age >= grace && has > waiting_has).then_some((pace, *number))
        };
        let (_, slowest) = self.frames.iter().filter_map(pace).min()?;
        self.gave_way_at = Some(now);
        self.came(slowest);
        Some(slowest)
    }

    /// What is free, in KiB.
    #[cfg(test)]
    pub(crate) fn free(&self) -> usize {
        self.all - self.taken
    }

    /// Changes what a peer has, and with it its turn.
    fn change(&mut self, id: PeerId, change: impl FnOnce(&mut Peer)) {
        let peer = self.peers.entry(id).or_default();
        if let Some(first) = peer.waiting.front() {
            self.turns.remove(&(peer.has, *first, id));
        }
        change(peer);
        match peer.waiting.front() {
            Some(first) => drop(self.turns.insert((peer.has, *first, id))),
            None if peer.has == 0 => drop(self.peers.remove(&id)),
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::platform::test;

    const GRACE: Duration = Duration::from_millis(250);

    fn begun(room: &mut Room, now: Instant) -> Vec<u64> {
        std::iter::from_fn(|| room.begin(now)).collect()
    }

    #[test]
    fn the_slowest_of_those_whose_time_is_up_gives_way_to_who_has_less() {
        let (mut room, start) = (Room::new(3, GRACE), crate::platform::now());
        let [fast, slow, new, waits] = [(); 4].map(|()| PeerId::random());
        let (fast, slow) = (room.wait(fast, 1), room.wait(slow, 1));
        assert_eq!(begun(&mut room, start), [fast, slow]);
        let late = start + GRACE;
        let new = room.wait(new, 1);
        assert_eq!(begun(&mut room, late), [new]);
        room.brought(fast, 2000);
        room.brought(slow, 1000);
        assert_eq!(room.hurry(late), None, "nobody waits");
        let waits = room.wait(waits, 1);
        assert_eq!(room.hurry(start + GRACE / 2), None, "they have their time");
        assert_eq!(room.hurry(late), Some(slow));
        assert_eq!(room.hurry(late + GRACE / 2), None);
        assert!(begun(&mut room, late).is_empty(), "it has its room yet");
        room.end(slow);
        assert_eq!(begun(&mut room, late), [waits]);
        assert_eq!(room.hurry(late + GRACE), None, "nobody waits");
        room.wait(PeerId::random(), 1);
        assert_eq!(room.hurry(late + GRACE), Some(new.min(waits)));
        assert_eq!(room.hurry(late + GRACE), None, "one has just given way");
    }

    #[test]
    fn a_flood_of_one_peers_frames_holds_up_itself() {
        let (mut room, now) = (Room::new(8, GRACE), crate::platform::now());
        let (flood, honest) = (PeerId::random(), PeerId::random());
        let floods: Vec<u64> = (0..100).map(|_| room.wait(flood, 1)).collect();
        assert_eq!(begun(&mut room, now), floods[..8]);
        let honest_first = room.wait(honest, 1);
        let late = now + GRACE;
        assert_eq!(room.hurry(late), Some(floods[0]));
        room.end(floods[0]);
        assert_eq!(begun(&mut room, late), [honest_first]);
        // The flood waits on, and has far more: the honest one pays for nothing.
        for round in 2..10 {
            let now = now + GRACE * round;
            assert_eq!(room.hurry(now), None);
        }
        room.end(honest_first);
        assert_eq!(begun(&mut room, late), floods[8..9]);
    }

    proptest! {
        #[test]
        fn room_is_never_overdrawn_nor_lost(
            steps in proptest::collection::vec((0..4_usize, 1..12_usize, 0..4_u8, 0..300_u64), 1..200),
        ) {
            let peers = [(); 4].map(|()| PeerId::random());
            let (mut room, mut now) = (Room::new(10, GRACE), crate::platform::now());
            let mut all: Vec<u64> = Vec::new();
            for (peer, size, step, millis) in steps {
                now += Duration::from_millis(millis);
                match step {
                    0 | 1 => all.push(room.wait(peers[peer], size)),
                    2 if !all.is_empty() => room.end(all.swap_remove(size % all.len())),
                    _ => drop(room.hurry(now)),
                }
                begun(&mut room, now);
                let taken: usize = room.peers.values().map(|peer| peer.has).sum();
                prop_assert!(taken == room.taken && taken <= 10);
                let waiting = room.peers.values().filter(|peer| !peer.waiting.is_empty());
                prop_assert_eq!(waiting.count(), room.turns.len());
                prop_assert!(taken > 0 || room.turns.is_empty(), "somebody waits for nothing");
            }
            all.into_iter().for_each(|number| room.end(number));
            prop_assert!(room.frames.is_empty() && room.peers.is_empty() && room.turns.is_empty());
            prop_assert_eq!(room.free(), 10);
        }
    }
}
