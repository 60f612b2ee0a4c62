//! Room for long frames, which peers share: each has its turn, and the slowest gives way.
//!
//! A length is soon said, and its bytes may never come. So room goes to the peer that has the least of it, and among equals to who
//! has waited longest: who brings much waits behind itself. And while somebody waits, frames that come slowly give way
//! ([`Room::hurry`]): those of peers that have more room than who waits, that have had theirs for the grace at least, and that bring
//! less than [`PACE`], the slowest first; as many as make room for those whose turn it is, and none where they would not.
//! A frame at that pace or above is soon over, and is left to come.
//!
//! Who had a frame that gave way, or left it unfinished, stands behind all others for [`LATELY`], whoever has how much: so a crowd of
//! silent peers that come again as soon as they are ended holds up others once, for a grace for each room full of them.
//! A look that found nothing is remembered as well: there is one in each grace, however many wait.
//!
//! Bounds: the room; an entry of fixed size for each frame that waits or has room, of which the owner has as many as streams; and
//! [`MAX_SLOW`] peers that were slow of late, of which the first is forgotten for one more.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    time::Duration,
};

use libp2p::PeerId;

use crate::platform::Instant;

/// What comes more slowly gives way to others, in KiB a second.
const PACE: u128 = 256;
/// How long who was slow stands behind others.
const LATELY: Duration = Duration::from_secs(60);
/// Peers of which is known that they were slow.
const MAX_SLOW: usize = 1024;

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Room {
    /// In KiB, as all sizes here.
    all: usize,
    taken: usize,
    /// What of it is of frames that gave way.
    goes: usize,
    grace: Duration,
    /// The number of the next frame.
    next: u64,
    frames: HashMap<u64, Frame>,
    /// The frames that come, each since when, and how many bytes have come.
    coming: BTreeMap<u64, (Instant, u64)>,
    peers: HashMap<PeerId, Peer>,
    /// The peers that wait, in the order of their turns: how each stands, and its first frame that waits.
    turns: BTreeSet<(Standing, u64, PeerId)>,
    /// Who was slow, and until when that counts.
    slow: BTreeMap<PeerId, Instant>,
    looked_at: Option<Instant>,
}

/// Whether a peer was slow of late, and what it has: the least goes first.
type Standing = (bool, usize);

#[derive(Debug)]
struct Frame {
    peer: PeerId,
    size: usize,
    state: State,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Waits,
    HasRoom,
    GaveWay,
}

#[derive(Debug, Default)]
struct Peer {
    is_slow: bool,
    has: usize,
    waiting: VecDeque<u64>,
}

impl Peer {
    fn standing(&self) -> Standing {
        (self.is_slow, self.has)
    }
}

impl Room {
    /// So many KiB, all free; a frame has its room for the grace at least.
    pub(crate) fn new(all: usize, grace: Duration) -> Self {
        Self {
            all,
            taken: 0,
            goes: 0,
            grace,
            next: 0,
            frames: HashMap::new(),
            coming: BTreeMap::new(),
            peers: HashMap::new(),
            turns: BTreeSet::new(),
            slow: BTreeMap::new(),
            looked_at: None,
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
        frame.state = State::HasRoom;
        self.coming.insert(number, (now, 0));
        self.taken += size;
        self.change(peer, |peer| {
            peer.waiting.pop_front();
            peer.has += size;
        });
        Some(number)
    }

    /// So many bytes of a frame have come.
    pub(crate) fn brought(&mut self, number: u64, more: usize) {
        if let Some((_, bytes)) = self.coming.get_mut(&number) {
            *bytes = bytes.saturating_add(more as u64);
        }
    }

    /// All of a frame has come, or it is to come no further: it keeps its room, and gives way no more.
    pub(crate) fn came(&mut self, number: u64) {
        self.coming.remove(&number);
    }

    /// A frame is done with, or nobody waits for its room any more.
    pub(crate) fn end(&mut self, number: u64, now: Instant) {
        let Some(Frame { peer, size, state }) = self.frames.remove(&number) else {
            return;
        };
        if matches!(state, State::Waits) {
            self.change(peer, |peer| peer.waiting.retain(|other| *other != number));
            return;
        }
        self.taken = self.taken.saturating_sub(size);
        self.change(peer, |peer| peer.has = peer.has.saturating_sub(size));
        if matches!(state, State::GaveWay) {
            self.goes = self.goes.saturating_sub(size);
        }
        if self.coming.remove(&number).is_some() {
            self.slow_down(peer, now);
        }
    }

    /// Somebody has waited for the grace: which frames give way, if some are to. They keep their room until their [`Room::end`].
    pub(crate) fn hurry(&mut self, now: Instant) -> Vec<u64> {
        let grace = self.grace;
        if self.turns.is_empty() || self.looked_at.is_some_and(|at| now < at + grace) {
            return Vec::new();
        }
        self.looked_at = Some(now);
        self.forgive(now);
        let gives_way = self.too_slow(now);
        for number in &gives_way {
            self.came(*number);
            let Some(frame) = self.frames.get_mut(number) else {
                continue;
            };
            frame.state = State::GaveWay;
            self.goes += frame.size;
            let peer = frame.peer;
            self.slow_down(peer, now);
        }
        gives_way
    }

    /// The frames that are to give way, so that those begin whose turn it is.
    fn too_slow(&self, now: Instant) -> Vec<u64> {
        let slow = |(number, (since, bytes)): (&u64, &(Instant, u64))| {
            let age = now.saturating_duration_since(*since);
            let pace = u128::from(*bytes) * 1_000_000 / age.as_micros().max(1);
            let frame = self.frames.get(number)?;
            let standing = self.peers.get(&frame.peer)?.standing();
            let is_slow = age >= self.grace && pace < PACE << 10;
            is_slow.then_some((pace, *number, frame.size, standing))
        };
        let mut slow: Vec<_> = self.coming.iter().filter_map(slow).collect();
        slow.sort_unstable();
        let mut gives_way = Vec::new();
        let mut free = self.all - self.taken + self.goes;
        for (standing, first, _) in &self.turns {
            let Some(needs) = self.frames.get(first).map(|frame| frame.size) else {
                break;
            };
            let mut makes = Vec::new();
            for (_, number, size, theirs) in &slow {
                if free < needs && theirs > standing {
                    free += size;
                    makes.push(*number);
                }
            }
            if free < needs {
                break;
            }
            free -= needs;
            slow.retain(|(_, number, ..)| !makes.contains(number));
            gives_way.extend(makes);
        }
        gives_way
    }

    /// A peer was slow, and stands behind others for a while.
    fn slow_down(&mut self, peer: PeerId, now: Instant) {
        if self.slow.len() >= MAX_SLOW
            && !self.slow.contains_key(&peer)
            && let Some((first, _)) = self.slow.iter().min_by_key(|(_, until)| **until)
        {
            let first = *first;
            self.slow.remove(&first);
            self.change(first, |_| {});
        }
        self.slow.insert(peer, now + LATELY);
        self.change(peer, |_| {});
    }

    /// Those that were slow once stand as others again.
    fn forgive(&mut self, now: Instant) {
        let over = self.slow.iter().filter(|(_, until)| **until <= now);
        let over: Vec<_> = over.map(|(peer, _)| *peer).collect();
        for peer in over {
            self.slow.remove(&peer);
            self.change(peer, |_| {});
        }
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
            self.turns.remove(&(peer.standing(), *first, id));
        }
        change(peer);
        peer.is_slow = self.slow.contains_key(&id);
        match peer.waiting.front() {
            Some(first) => drop(self.turns.insert((peer.standing(), *first, id))),
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
        assert!(room.hurry(late).is_empty(), "nobody waits");
        let waits = room.wait(waits, 1);
        assert_eq!(room.hurry(late), [slow]);
        assert!(begun(&mut room, late).is_empty(), "it has its room yet");
        assert!(
            room.hurry(late + GRACE).is_empty(),
            "there is enough to come"
        );
        room.end(slow, late);
        assert_eq!(begun(&mut room, late), [waits]);
        room.wait(PeerId::random(), 1);
        assert!(room.hurry(late + GRACE).is_empty(), "one has just looked");
        assert_eq!(room.hurry(late + GRACE * 2), [new.min(waits)]);
    }

    #[test]
    fn who_has_its_time_or_moves_well_does_not_give_way() {
        let (mut room, start) = (Room::new(2048, GRACE), crate::platform::now());
        let [fast, slow] = [(); 2].map(|()| room.wait(PeerId::random(), 1024));
        assert_eq!(begun(&mut room, start), [fast, slow]);
        let first = room.wait(PeerId::random(), 2048);
        assert!(
            room.hurry(start + GRACE / 2).is_empty(),
            "they have their time"
        );
        let late = start + GRACE * 2;
        room.brought(fast, 256 << 9);
        room.brought(slow, (256 << 9) - 1);
        assert!(room.hurry(late).is_empty(), "what goes would make no room");
        room.end(first, late);
        let second = room.wait(PeerId::random(), 100);
        assert!(room.hurry(late).is_empty(), "that was looked at");
        room.brought(fast, 256 << 10);
        assert_eq!(room.hurry(late + GRACE), [slow]);
        room.end(slow, late);
        assert_eq!(begun(&mut room, late), [second]);
    }

    #[test]
    fn a_crowd_of_silent_peers_holds_up_others_once() {
        const SLOTS: usize = 4;
        let (mut room, mut now) = (Room::new(SLOTS << 10, GRACE), crate::platform::now());
        let mut silent = std::collections::HashMap::new();
        for peer in [(); 20].map(|()| PeerId::random()) {
            silent.insert(room.wait(peer, 1024), peer);
        }
        let mut graces_until = |room: &mut Room, peer: PeerId| {
            begun(room, now);
            let honest = room.wait(peer, 1024);
            for graces in 0.. {
                if begun(room, now).contains(&honest) {
                    room.came(honest);
                    room.end(honest, now);
                    return graces;
                }
                now += GRACE;
                for ended in room.hurry(now) {
                    room.end(ended, now);
                    let peer = silent.remove(&ended).expect("a silent one");
                    silent.insert(room.wait(peer, 1024), peer);
                }
            }
            unreachable!("it begins or the test goes on");
        };
        let honest = PeerId::random();
        for most in [20 / SLOTS, 1, 1] {
            let graces = graces_until(&mut room, honest);
            assert!(graces <= most, "{graces} graces, not {most}");
        }
    }

    #[test]
    fn one_that_is_large_gets_its_room_from_several_at_once() {
        let (mut room, start) = (Room::new(8, GRACE), crate::platform::now());
        let silent = [(); 8].map(|()| room.wait(PeerId::random(), 1));
        assert_eq!(begun(&mut room, start), silent);
        let large = room.wait(PeerId::random(), 6);
        let late = start + GRACE;
        let ended = room.hurry(late);
        assert_eq!(ended, silent[..6]);
        ended.into_iter().for_each(|number| room.end(number, late));
        assert_eq!(begun(&mut room, late), [large]);
    }

    #[test]
    fn who_was_slow_stands_behind_others_for_a_while() {
        let (mut room, start) = (Room::new(1, GRACE), crate::platform::now());
        let (slow, other) = (PeerId::random(), PeerId::random());
        let broken_off = room.wait(slow, 1);
        begun(&mut room, start);
        room.end(broken_off, start);
        let holds = room.wait(other, 1);
        begun(&mut room, start);
        let waits = room.wait(slow, 1);
        assert!(
            room.hurry(start + GRACE).is_empty(),
            "others don't make room for it"
        );
        let next = room.wait(PeerId::random(), 1);
        room.end(holds, start);
        assert_eq!(begun(&mut room, start), [next]);
        room.came(next);
        room.wait(PeerId::random(), 1);
        room.hurry(start + LATELY);
        room.end(next, start + LATELY);
        assert_eq!(begun(&mut room, start + LATELY), [waits]);
    }

    #[test]
    fn so_many_are_remembered_as_slow() {
        let (mut room, now) = (Room::new(1, GRACE), crate::platform::now());
        for _ in 0..MAX_SLOW * 2 {
            let number = room.wait(PeerId::random(), 1);
            begun(&mut room, now);
            room.end(number, now);
            assert!(room.slow.len() <= MAX_SLOW && room.peers.is_empty());
        }
    }

    #[test]
    fn a_flood_of_one_peers_frames_holds_up_itself() {
        let (mut room, now) = (Room::new(8, GRACE), crate::platform::now());
        let (flood, honest) = (PeerId::random(), PeerId::random());
        let floods: Vec<u64> = (0..100).map(|_| room.wait(flood, 1)).collect();
        assert_eq!(begun(&mut room, now), floods[..8]);
        let honest_first = room.wait(honest, 1);
        let late = now + GRACE;
        assert_eq!(room.hurry(late), floods[..1]);
        room.end(floods[0], late);
        assert_eq!(begun(&mut room, late), [honest_first]);
        // The flood waits on, and has far more: the honest one pays for nothing.
        for round in 2..10 {
            assert!(room.hurry(now + GRACE * round).is_empty());
        }
        room.end(honest_first, late);
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
                    2 if !all.is_empty() => room.end(all.swap_remove(size % all.len()), now),
                    _ => drop(room.hurry(now)),
                }
                begun(&mut room, now);
                let taken: usize = room.peers.values().map(|peer| peer.has).sum();
                prop_assert!(taken == room.taken && taken <= 10);
                let waiting = room.peers.values().filter(|peer| !peer.waiting.is_empty());
                prop_assert_eq!(waiting.count(), room.turns.len());
                prop_assert!(taken > 0 || room.turns.is_empty(), "somebody waits for nothing");
            }
            all.into_iter().for_each(|number| room.end(number, now));
            prop_assert!(room.coming.is_empty() && room.goes == 0);
            prop_assert!(room.frames.is_empty() && room.peers.is_empty() && room.turns.is_empty());
            prop_assert_eq!(room.free(), 10);
        }
    }
}
