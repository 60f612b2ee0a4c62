//! Room for long frames, which all share: each has its turn, and the slowest gives way.
//!
//! A length is soon said, and its bytes may never move. So room goes to the account that has the least of it, and among equals to who
//! has waited longest: who brings much waits behind itself. And while somebody waits, frames that move slowly give way
//! ([`Room::hurry`]): those of accounts that have more room than who waits, that have moved for the grace at least, and that are not on
//! the way to be over within [`TERM`], the slowest first; as many as make room for those whose turn it is, and none where they would not.
//! So a frame that others wait for is over soon, or gives way; and to keep all room takes a pace that fills it anew in each term.
//!
//! Whose frame gave way, or was left unfinished, stands behind all others for [`LATELY`], whoever has how much: so a crowd of
//! silent accounts that come again as soon as they are ended holds up others once, for a grace for each room full of them.
//! An account is whom the owner holds to be one: new names don't make many of it where it goes by addresses.
//! A look that found nothing is remembered as well: there is one in each grace, however many wait.
//!
//! Bounds: the room, and what one account may have of it; an entry of fixed size for each frame that waits or has room, of which the
//! owner has as many as streams; and [`MAX_SLOW`] accounts that were slow of late, of which the first is forgotten for one more.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    hash::Hash,
    time::Duration,
};

use crate::platform::Instant;

/// Within so much time a frame is over, or gives way to others.
const TERM: Duration = Duration::from_secs(5);
/// How long who was slow stands behind others.
const LATELY: Duration = Duration::from_secs(60);
/// Accounts of which is known that they were slow.
const MAX_SLOW: usize = 1024;

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Room<A> {
    /// In KiB, as all sizes here.
    all: usize,
    /// Of one account.
    most: usize,
    taken: usize,
    /// What of it is of frames that gave way.
    goes: usize,
    grace: Duration,
    /// The number of the next frame.
    next: u64,
    frames: HashMap<u64, Frame<A>>,
    /// The frames that move, each since when, and how many bytes have moved.
    moving: BTreeMap<u64, (Instant, u64)>,
    holders: HashMap<A, Holder>,
    /// Who waits, in the order of turns: how each stands, and its first frame that waits.
    turns: BTreeSet<(Standing, u64, A)>,
    /// Who was slow, and until when that counts.
    slow: BTreeMap<A, Instant>,
    looked_at: Option<Instant>,
}

/// Whether somebody was slow of late, and what it has: the least goes first.
type Standing = (bool, usize);

#[derive(Debug)]
struct Frame<A> {
    account: A,
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
struct Holder {
    is_slow: bool,
    has: usize,
    waiting: VecDeque<u64>,
}

impl Holder {
    fn standing(&self) -> Standing {
        (self.is_slow, self.has)
    }
}

impl<A: Copy + Eq + Hash + Ord> Room<A> {
    /// So many KiB, all free, of which one account may have so many; a frame has its room for the grace at least.
    pub(crate) fn new(all: usize, most: usize, grace: Duration) -> Self {
        Self {
            all,
            most: most.min(all),
            taken: 0,
            goes: 0,
            grace,
            next: 0,
            frames: HashMap::new(),
            moving: BTreeMap::new(),
            holders: HashMap::new(),
            turns: BTreeSet::new(),
            slow: BTreeMap::new(),
            looked_at: None,
        }
    }

    /// How long a frame has its room at least, whoever waits.
    pub(crate) fn grace(&self) -> Duration {
        self.grace
    }

    /// A frame waits for so many KiB; one that is larger than what one may have takes all of that. Its number.
    pub(crate) fn wait(&mut self, account: A, size: usize) -> u64 {
        let (number, size) = (self.next, size.min(self.most));
        self.next += 1;
        let state = State::Waits;
        let frame = Frame {
            account,
            size,
            state,
        };
        self.frames.insert(number, frame);
        self.change(account, |holder| holder.waiting.push_back(number));
        number
    }

    /// The next frame that has its room now. It gives way to nobody while it does not move.
    pub(crate) fn begin(&mut self) -> Option<u64> {
        let (_, number, account) = *self.turns.first()?;
        let frame = self.frames.get_mut(&number)?;
        let size = frame.size;
        if self.taken + size > self.all {
            return None;
        }
        frame.state = State::HasRoom;
        self.taken += size;
        self.change(account, |holder| {
            holder.waiting.pop_front();
            holder.has += size;
        });
        Some(number)
    }

    /// A frame that has room turns out to be smaller than was thought.
    pub(crate) fn shrink(&mut self, number: u64, size: usize) {
        let Some(frame) = self.frames.get_mut(&number) else {
            return;
        };
        let less = frame.size.saturating_sub(size);
        if !matches!(frame.state, State::HasRoom) || less == 0 {
            return;
        }
        frame.size = size;
        let account = frame.account;
        self.taken = self.taken.saturating_sub(less);
        self.change(account, |holder| {
            holder.has = holder.has.saturating_sub(less)
        });
    }

    /// A frame that has room moves from now on.
    pub(crate) fn moves(&mut self, number: u64, now: Instant) {
        let frame = self.frames.get(&number);
        if frame.is_some_and(|frame| matches!(frame.state, State::HasRoom)) {
            self.moving.insert(number, (now, 0));
        }
    }

    /// So many bytes of a frame have moved.
    pub(crate) fn moved(&mut self, number: u64, more: usize) {
        if let Some((_, bytes)) = self.moving.get_mut(&number) {
            *bytes = bytes.saturating_add(more as u64);
        }
    }

    /// All of a frame has moved, or it is to move no further: it keeps its room, and gives way no more.
    pub(crate) fn rests(&mut self, number: u64) {
        self.moving.remove(&number);
    }

    /// A frame is done with, or nobody waits for its room any more.
    pub(crate) fn end(&mut self, number: u64, now: Instant) {
        let Some(Frame {
            account,
            size,
            state,
        }) = self.frames.remove(&number)
        else {
            return;
        };
        if matches!(state, State::Waits) {
            self.change(account, |holder| {
                holder.waiting.retain(|other| *other != number)
            });
            return;
        }
        self.taken = self.taken.saturating_sub(size);
        self.change(account, |holder| {
            holder.has = holder.has.saturating_sub(size)
        });
        if matches!(state, State::GaveWay) {
            self.goes = self.goes.saturating_sub(size);
        }
        if self.moving.remove(&number).is_some() {
            self.slow_down(account, now);
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
            self.rests(*number);
            let Some(frame) = self.frames.get_mut(number) else {
                continue;
            };
            frame.state = State::GaveWay;
            self.goes += frame.size;
            let account = frame.account;
            self.slow_down(account, now);
        }
        gives_way
    }

    /// The frames that are to give way, so that those begin whose turn it is.
    fn too_slow(&self, now: Instant) -> Vec<u64> {
        let slow = |(number, (since, bytes)): (&u64, &(Instant, u64))| {
            let age = now.saturating_duration_since(*since);
            let frame = self.frames.get(number)?;
            let standing = self.holders.get(&frame.account)?.standing();
            // Bytes that would have moved by the end of the term, in thousandths of all.
            let by_then = u128::from(*bytes) * TERM.as_micros() * 1000 / age.as_micros().max(1);
            let part = by_then / (frame.size as u128 * 1024).max(1);
            let is_slow = age >= self.grace && part < 1000;
            is_slow.then_some((part, *number, frame.size, standing))
        };
        let mut slow: Vec<_> = self.moving.iter().filter_map(slow).collect();
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

    /// Somebody was slow, and stands behind others for a while.
    fn slow_down(&mut self, account: A, now: Instant) {
        if self.slow.len() >= MAX_SLOW
            && !self.slow.contains_key(&account)
            && let Some((first, _)) = self.slow.iter().min_by_key(|(_, until)| **until)
        {
            let first = *first;
            self.slow.remove(&first);
            self.change(first, |_| {});
        }
        self.slow.insert(account, now + LATELY);
        self.change(account, |_| {});
    }

    /// Those that were slow once stand as others again.
    fn forgive(&mut self, now: Instant) {
        let over = self.slow.iter().filter(|(_, until)| **until <= now);
        let over: Vec<_> = over.map(|(account, _)| *account).collect();
        for account in over {
            self.slow.remove(&account);
            self.change(account, |_| {});
        }
    }

    /// What is free, in KiB.
    #[cfg(test)]
    pub(crate) fn free(&self) -> usize {
        self.all - self.taken
    }

    /// Changes what somebody has, and with it its turn.
    fn change(&mut self, account: A, change: impl FnOnce(&mut Holder)) {
        let holder = self.holders.entry(account).or_default();
        if let Some(first) = holder.waiting.front() {
            self.turns.remove(&(holder.standing(), *first, account));
        }
        change(holder);
        holder.is_slow = self.slow.contains_key(&account);
        match holder.waiting.front() {
            Some(first) => {
                let size = self.frames.get(first).map_or(0, |frame| frame.size);
                // Who has no room left of its own waits for itself.
                if holder.has + size <= self.most {
                    self.turns.insert((holder.standing(), *first, account));
                }
            }
            None if holder.has == 0 => drop(self.holders.remove(&account)),
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use libp2p::PeerId;
    use proptest::prelude::*;

    use super::*;
    use crate::platform::test;

    const GRACE: Duration = Duration::from_millis(250);

    /// What begins, and moves from now on.
    fn begun(room: &mut Room<PeerId>, now: Instant) -> Vec<u64> {
        let begun: Vec<u64> = std::iter::from_fn(|| room.begin()).collect();
        begun.iter().for_each(|number| room.moves(*number, now));
        begun
    }

    fn room(all: usize) -> Room<PeerId> {
        Room::new(all, all, GRACE)
    }

    #[test]
    fn the_slowest_of_those_whose_time_is_up_gives_way_to_who_has_less() {
        let (mut room, start) = (room(3), crate::platform::now());
        let [fast, slow, new, waits] = [(); 4].map(|()| PeerId::random());
        let (fast, slow) = (room.wait(fast, 1), room.wait(slow, 1));
        assert_eq!(begun(&mut room, start), [fast, slow]);
        let late = start + GRACE;
        let new = room.wait(new, 1);
        assert_eq!(begun(&mut room, late), [new]);
        room.moved(fast, 2000);
        room.moved(slow, 50);
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
        let (mut room, start) = (room(2048), crate::platform::now());
        let [fast, slow] = [(); 2].map(|()| room.wait(PeerId::random(), 1024));
        assert_eq!(begun(&mut room, start), [fast, slow]);
        let first = room.wait(PeerId::random(), 2048);
        assert!(
            room.hurry(start + GRACE / 2).is_empty(),
            "they have their time"
        );
        let late = start + GRACE * 2;
        // A tenth of the term is over.
        room.moved(fast, 103 << 10);
        room.moved(slow, 102 << 10);
        assert!(room.hurry(late).is_empty(), "what goes would make no room");
        room.end(first, late);
        let second = room.wait(PeerId::random(), 100);
        assert!(room.hurry(late).is_empty(), "that was looked at");
        room.moved(fast, 103 << 10);
        assert_eq!(room.hurry(late + GRACE), [slow]);
        room.end(slow, late);
        assert_eq!(begun(&mut room, late), [second]);
    }

    #[test]
    fn who_is_just_fast_enough_gives_way_when_its_term_is_over() {
        let (mut room, start) = (room(1024), crate::platform::now());
        let crawls = room.wait(PeerId::random(), 1024);
        assert_eq!(begun(&mut room, start), [crawls]);
        let waits = room.wait(PeerId::random(), 1);
        let quarters = u32::try_from(TERM.as_millis() / GRACE.as_millis()).expect("few");
        for quarter in 1..=quarters {
            let moved = (1 << 20) / quarters as usize + usize::from(quarter < quarters);
            room.moved(crawls, moved - usize::from(quarter == quarters) * 32);
            let gives_way = room.hurry(start + GRACE * quarter);
            assert_eq!(gives_way.len(), usize::from(quarter == quarters));
        }
        room.end(crawls, start + TERM);
        assert_eq!(begun(&mut room, start + TERM), [waits]);
    }

    #[test]
    fn one_account_has_its_part_and_what_turns_out_small_takes_no_more() {
        let (mut room, now) = (Room::new(8, 4, GRACE), crate::platform::now());
        let (greedy, other) = (PeerId::random(), PeerId::random());
        let [first, second, third] = [(); 3].map(|()| room.wait(greedy, 2));
        assert_eq!(begun(&mut room, now), [first, second]);
        assert!(room.hurry(now + GRACE).is_empty(), "it waits for itself");
        room.shrink(first, 1);
        assert!(begun(&mut room, now).is_empty(), "a part is not enough");
        let large = room.wait(other, 10);
        assert_eq!(begun(&mut room, now), [large], "all that one may have");
        room.shrink(second, 1);
        room.shrink(large, 5);
        assert_eq!(room.free(), 2, "nothing grows");
        assert_eq!(begun(&mut room, now), [third]);
    }

    #[test]
    fn what_has_not_begun_to_move_gives_way_to_nobody_and_is_no_fault() {
        let (mut room, start) = (room(1), crate::platform::now());
        let idle = room.wait(PeerId::random(), 1);
        assert_eq!(room.begin(), Some(idle));
        room.wait(PeerId::random(), 1);
        assert!(room.hurry(start + TERM * 2).is_empty());
        room.end(idle, start);
        assert!(room.slow.is_empty());
    }

    #[test]
    fn a_crowd_of_silent_peers_holds_up_others_once() {
        const SLOTS: usize = 4;
        let (mut room, mut now) = (room(SLOTS << 10), crate::platform::now());
        let mut silent = std::collections::HashMap::new();
        for peer in [(); 20].map(|()| PeerId::random()) {
            silent.insert(room.wait(peer, 1024), peer);
        }
        let mut graces_until = |room: &mut Room<PeerId>, peer: PeerId| {
            begun(room, now);
            let honest = room.wait(peer, 1024);
            for graces in 0.. {
                if begun(room, now).contains(&honest) {
                    room.rests(honest);
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
        let (mut room, start) = (room(8), crate::platform::now());
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
        let (mut room, start) = (room(1), crate::platform::now());
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
        room.rests(next);
        room.wait(PeerId::random(), 1);
        room.hurry(start + LATELY);
        room.end(next, start + LATELY);
        assert_eq!(begun(&mut room, start + LATELY), [waits]);
    }

    #[test]
    fn so_many_are_remembered_as_slow() {
        let (mut room, now) = (room(1), crate::platform::now());
        for _ in 0..MAX_SLOW * 2 {
            let number = room.wait(PeerId::random(), 1);
            begun(&mut room, now);
            room.end(number, now);
            assert!(room.slow.len() <= MAX_SLOW && room.holders.is_empty());
        }
    }

    #[test]
    fn a_flood_of_one_peers_frames_holds_up_itself() {
        let (mut room, now) = (room(8), crate::platform::now());
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
            steps in proptest::collection::vec((0..4_usize, 1..12_usize, 0..5_u8, 0..300_u64), 1..200),
        ) {
            let peers = [(); 4].map(|()| PeerId::random());
            let (mut room, mut now) = (Room::new(10, 8, GRACE), crate::platform::now());
            let mut all: Vec<u64> = Vec::new();
            for (peer, size, step, millis) in steps {
                now += Duration::from_millis(millis);
                match step {
                    0 | 1 => all.push(room.wait(peers[peer], size)),
                    2 if !all.is_empty() => room.end(all.swap_remove(size % all.len()), now),
                    3 if !all.is_empty() => room.shrink(all[size % all.len()], size / 2),
                    _ => drop(room.hurry(now)),
                }
                begun(&mut room, now);
                let taken: usize = room.holders.values().map(|holder| holder.has).sum();
                prop_assert!(taken == room.taken && taken <= 10);
                let fits = |holder: &&Holder| {
                    let first = holder.waiting.front().map(|first| room.frames[first].size);
                    first.is_some_and(|size| holder.has + size <= 8)
                };
                prop_assert_eq!(room.holders.values().filter(fits).count(), room.turns.len());
                prop_assert!(room.holders.values().all(|holder| holder.has <= 8));
                prop_assert!(taken > 0 || room.turns.is_empty(), "somebody waits for nothing");
            }
            all.into_iter().for_each(|number| room.end(number, now));
            prop_assert!(room.moving.is_empty() && room.goes == 0);
            prop_assert!(room.frames.is_empty() && room.holders.is_empty() && room.turns.is_empty());
            prop_assert_eq!(room.free(), 10);
        }
    }
}
