//! Room for long frames, which all share: each has its turn, and the slowest gives way.
//!
//! A length is soon said, and its bytes may never move. So room goes to the account that has the least of it, in it to the peer that has
//! the least, and among equals to who has waited longest: who brings much waits behind itself, and who comes from where somebody brings
//! much waits behind that one for no longer than others do. And while somebody waits, frames that move slowly give way ([`Room::hurry`]):
//! those of who stands behind who waits, that have moved for the grace at least, and that are not on
//! the way to be over within [`TERM`], the slowest first; as many as make room for those whose turn it is, and none where they would not.
//! So a frame that others wait for is over soon, or gives way; and to keep all room takes a pace that fills it anew in each term.
//!
//! Whose frame gave way, or was left unfinished, stands behind all others for [`LATELY`], whoever has how much, its account among accounts
//! and the peer within it: so a crowd of silent ones that come again as soon as they are ended holds up others once, for a
//! grace for each room full of them.
//! An account is whom the owner holds to be one ([`Payer`]): new names don't make many of it where it goes by addresses. Of a crowd, whose
//! members have nothing to do with each other, only the peer is marked: none pays for another's slowness, and all together still wait
//! behind who has less than they.
//! A look that found nothing is remembered as well: there is one in each grace, however many wait.
//!
//! Bounds: the room, and what one peer may have of it; an entry of fixed size for each frame that waits or has room, of which the
//! owner has as many as streams; and of each kind [`MAX_SLOW`] that were slow of late, of which the first is forgotten for one more.
//! Whose turn it is takes a look at each peer that has such frames.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    hash::Hash,
    time::Duration,
};

use libp2p::PeerId;

use crate::{order, platform::Instant};

/// Within so much time a frame is over, or gives way to others.
const TERM: Duration = Duration::from_secs(5);
/// How long who was slow stands behind others.
const LATELY: Duration = Duration::from_secs(60);
/// Accounts, and peers, of which is known that they were slow.
const MAX_SLOW: usize = 1024;

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Room<A> {
    /// In KiB, as all sizes here.
    all: usize,
    /// Of one peer.
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
    holders: HashMap<Who<A>, Holder>,
    /// What each account has.
    accounts: HashMap<A, usize>,
    slow_accounts: Slow<A>,
    slow_peers: Slow<PeerId>,
    looked_at: Option<Instant>,
}

/// Whom the owner holds to be one.
pub(crate) trait Payer: Copy + Eq + Hash + Ord {
    /// Whether these are strangers to each other, of whom none answers for another.
    fn is_crowd(&self) -> bool;
}

/// A peer, and the account to which it belongs.
type Who<A> = (PeerId, A);

/// How an account stands, and then a peer: whether it was slow of late, and what it has. The least goes first.
type Standing = [(bool, usize); 2];

#[derive(Debug)]
struct Frame<A> {
    who: Who<A>,
    size: usize,
    state: State,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Waits,
    HasRoom,
    GaveWay,
}

/// What a peer has, and its frames that wait.
#[derive(Debug, Default)]
struct Holder {
    has: usize,
    waiting: VecDeque<u64>,
}

/// Who was slow, and until when that counts.
#[derive(Debug)]
struct Slow<K>(BTreeMap<K, Instant>);

impl<K: Copy + Ord> Slow<K> {
    fn mark(&mut self, who: K, now: Instant) {
        if self.0.len() >= MAX_SLOW
            && !self.0.contains_key(&who)
            && let Some((first, _)) = self.0.iter().min_by_key(|(_, until)| **until)
        {
            let first = *first;
            self.0.remove(&first);
        }
        self.0.insert(who, now + LATELY);
    }

    /// Those that were slow once stand as others again.
    fn forgive(&mut self, now: Instant) {
        self.0.retain(|_, until| now < *until);
    }
}

impl<A: Payer> Room<A> {
    /// So many KiB, all free, of which one peer may have so many; a frame has its room for the grace at least.
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
            accounts: HashMap::new(),
            slow_accounts: Slow(BTreeMap::new()),
            slow_peers: Slow(BTreeMap::new()),
            looked_at: None,
        }
    }

    /// How long a frame has its room at least, whoever waits.
    pub(crate) fn grace(&self) -> Duration {
        self.grace
    }

    /// A frame waits for so many KiB; one that is larger than what one may have takes all of that. Its number.
    pub(crate) fn wait(&mut self, who: (PeerId, A), size: usize) -> u64 {
        let (number, size) = (self.next, size.min(self.most));
        self.next += 1;
        let state = State::Waits;
        self.frames.insert(number, Frame { who, size, state });
        self.holders
            .entry(who)
            .or_default()
            .waiting
            .push_back(number);
        number
    }

    /// The next frame that has its room now. It gives way to nobody while it does not move.
    pub(crate) fn begin(&mut self) -> Option<u64> {
        let (_, number, size) = self.turns().min()?;
        if self.taken + size > self.all {
            return None;
        }
        let frame = self.frames.get_mut(&number)?;
        frame.state = State::HasRoom;
        let who = frame.who;
        if let Some(holder) = self.holders.get_mut(&who) {
            holder.waiting.pop_front();
            holder.has += size;
        }
        *self.accounts.entry(who.1).or_default() += size;
        self.taken += size;
        Some(number)
    }

    /// A frame that has room turns out to be smaller than was thought.
    pub(crate) fn shrink(&mut self, number: u64, size: usize) {
        let Some(frame) = self.frames.get_mut(&number) else {
            return;
        };
        let less = frame.size.saturating_sub(size);
        if matches!(frame.state, State::HasRoom) && less > 0 {
            frame.size = size;
            let who = frame.who;
            self.give_back(who, less);
        }
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
        let Some(Frame { who, size, state }) = self.frames.remove(&number) else {
            return;
        };
        if matches!(state, State::Waits) {
            if let Some(holder) = self.holders.get_mut(&who) {
                holder.waiting.retain(|other| *other != number);
            }
            return self.give_back(who, 0);
        }
        if matches!(state, State::GaveWay) {
            self.goes = self.goes.saturating_sub(size);
        }
        self.give_back(who, size);
        if self.moving.remove(&number).is_some() {
            self.slow_down(who, now);
        }
    }

    /// Somebody has waited for the grace: which frames give way, if some are to. They keep their room until their [`Room::end`].
    pub(crate) fn hurry(&mut self, now: Instant) -> Vec<u64> {
        let grace = self.grace;
        if self.looked_at.is_some_and(|at| now < at + grace) || self.turns().next().is_none() {
            return Vec::new();
        }
        self.looked_at = Some(now);
        self.slow_accounts.forgive(now);
        self.slow_peers.forgive(now);
        let gives_way = self.too_slow(now);
        for number in &gives_way {
            self.rests(*number);
            let Some(frame) = self.frames.get_mut(number) else {
                continue;
            };
            frame.state = State::GaveWay;
            self.goes += frame.size;
            let who = frame.who;
            self.slow_down(who, now);
        }
        gives_way
    }

    /// The frames that are to give way, so that those begin whose turn it is.
    fn too_slow(&self, now: Instant) -> Vec<u64> {
        let slow = |(number, (since, bytes)): (&u64, &(Instant, u64))| {
            let age = now.saturating_duration_since(*since);
            let frame = self.frames.get(number)?;
            // Bytes that would have moved by the end of the term, in thousandths of all.
            let by_then = u128::from(*bytes) * TERM.as_micros() * 1000 / age.as_micros().max(1);
            let part = by_then / (frame.size as u128 * 1024).max(1);
            let is_slow = age >= self.grace && part < 1000;
            is_slow.then(|| (part, *number, frame.size, self.standing(&frame.who)))
        };
        let mut slow: Vec<_> = self.moving.iter().filter_map(slow).collect();
        order::sort(&mut slow);
        let mut turns: Vec<_> = self.turns().collect();
        order::sort(&mut turns);
        let mut gives_way = Vec::new();
        let mut free = self.all - self.taken + self.goes;
        for (standing, _, needs) in turns {
            let mut makes = Vec::new();
            for (_, number, size, theirs) in &slow {
                if free < needs && *theirs > standing {
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

    /// Who waits, but for itself: how it stands, its first frame, and that one's size. The least is next.
    fn turns(&self) -> impl Iterator<Item = (Standing, u64, usize)> {
        self.holders.iter().filter_map(|(who, holder)| {
            let number = *holder.waiting.front()?;
            let size = self.frames.get(&number)?.size;
            (!self.is_of_one(who, size)).then(|| (self.standing(who), number, size))
        })
    }

    /// Whether a frame of so many KiB has no room beside what its peer has already: others would not make it wait.
    pub(crate) fn is_of_one(&self, who: &Who<A>, size: usize) -> bool {
        let has = self.holders.get(who).map_or(0, |holder| holder.has);
        has + size.min(self.most) > self.most
    }

    fn standing(&self, who: &Who<A>) -> Standing {
        let (peer, account) = who;
        let has = self.holders.get(who).map_or(0, |holder| holder.has);
        let all = self.accounts.get(account).copied().unwrap_or_default();
        [
            (self.slow_accounts.0.contains_key(account), all),
            (self.slow_peers.0.contains_key(peer), has),
        ]
    }

    /// Somebody has so much less.
    fn give_back(&mut self, who: Who<A>, less: usize) {
        self.taken = self.taken.saturating_sub(less);
        if let Some(has) = self.accounts.get_mut(&who.1) {
            *has = has.saturating_sub(less);
            if *has == 0 {
                self.accounts.remove(&who.1);
            }
        }
        if let Some(holder) = self.holders.get_mut(&who) {
            holder.has = holder.has.saturating_sub(less);
            if holder.has == 0 && holder.waiting.is_empty() {
                self.holders.remove(&who);
            }
        }
    }

    /// Somebody was slow, and stands behind others for a while.
    fn slow_down(&mut self, (peer, account): Who<A>, now: Instant) {
        if !account.is_crowd() {
            self.slow_accounts.mark(account, now);
        }
        self.slow_peers.mark(peer, now);
    }

    /// What is free, in KiB.
    #[cfg(test)]
    pub(crate) fn free(&self) -> usize {
        self.all - self.taken
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::platform::test;

    impl Payer for PeerId {
        fn is_crowd(&self) -> bool {
            false
        }
    }

    /// The account of peers that share nothing but their way here.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
    enum Way {
        Crowded,
        Own(PeerId),
    }

    impl Payer for Way {
        fn is_crowd(&self) -> bool {
            *self == Self::Crowded
        }
    }

    const GRACE: Duration = Duration::from_millis(250);

    /// What begins, and moves from now on.
    fn begun<A: Payer>(room: &mut Room<A>, now: Instant) -> Vec<u64> {
        let begun: Vec<u64> = std::iter::from_fn(|| room.begin()).collect();
        begun.iter().for_each(|number| room.moves(*number, now));
        begun
    }

    /// A peer that is an account.
    fn alone(peer: PeerId) -> (PeerId, PeerId) {
        (peer, peer)
    }

    fn room(all: usize) -> Room<PeerId> {
        Room::new(all, all, GRACE)
    }

    #[test]
    fn the_slowest_of_those_whose_time_is_up_gives_way_to_who_has_less() {
        let (mut room, start) = (room(3), crate::platform::now());
        let [fast, slow, new, waits] = [(); 4].map(|()| PeerId::random());
        let (fast, slow) = (room.wait(alone(fast), 1), room.wait(alone(slow), 1));
        assert_eq!(begun(&mut room, start), [fast, slow]);
        let late = start + GRACE;
        let new = room.wait(alone(new), 1);
        assert_eq!(begun(&mut room, late), [new]);
        room.moved(fast, 2000);
        room.moved(slow, 50);
        assert!(room.hurry(late).is_empty(), "nobody waits");
        let waits = room.wait(alone(waits), 1);
        assert_eq!(room.hurry(late), [slow]);
        assert!(begun(&mut room, late).is_empty(), "it has its room yet");
        assert!(
            room.hurry(late + GRACE).is_empty(),
            "there is enough to come"
        );
        room.end(slow, late);
        assert_eq!(begun(&mut room, late), [waits]);
        room.wait(alone(PeerId::random()), 1);
        assert!(room.hurry(late + GRACE).is_empty(), "one has just looked");
        assert_eq!(room.hurry(late + GRACE * 2), [new.min(waits)]);
    }

    #[test]
    fn who_has_its_time_or_moves_well_does_not_give_way() {
        let (mut room, start) = (room(2048), crate::platform::now());
        let [fast, slow] = [(); 2].map(|()| room.wait(alone(PeerId::random()), 1024));
        assert_eq!(begun(&mut room, start), [fast, slow]);
        let first = room.wait(alone(PeerId::random()), 2048);
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
        let second = room.wait(alone(PeerId::random()), 100);
        assert!(room.hurry(late).is_empty(), "that was looked at");
        room.moved(fast, 103 << 10);
        assert_eq!(room.hurry(late + GRACE), [slow]);
        room.end(slow, late);
        assert_eq!(begun(&mut room, late), [second]);
    }

    #[test]
    fn who_is_just_fast_enough_gives_way_when_its_term_is_over() {
        let (mut room, start) = (room(1024), crate::platform::now());
        let crawls = room.wait(alone(PeerId::random()), 1024);
        assert_eq!(begun(&mut room, start), [crawls]);
        let waits = room.wait(alone(PeerId::random()), 1);
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
    fn one_peer_has_its_part_and_what_turns_out_small_takes_no_more() {
        let (mut room, now) = (Room::new(8, 4, GRACE), crate::platform::now());
        let (greedy, other) = (PeerId::random(), PeerId::random());
        let [first, second, third] = [(); 3].map(|()| room.wait(alone(greedy), 2));
        assert_eq!(begun(&mut room, now), [first, second]);
        assert!(room.hurry(now + GRACE).is_empty(), "it waits for itself");
        room.shrink(first, 1);
        assert!(begun(&mut room, now).is_empty(), "a part is not enough");
        let large = room.wait(alone(other), 10);
        assert_eq!(begun(&mut room, now), [large], "all that one may have");
        room.shrink(second, 1);
        room.shrink(large, 5);
        assert_eq!(room.free(), 2, "nothing grows");
        assert_eq!(begun(&mut room, now), [third]);
    }

    #[test]
    fn what_has_not_begun_to_move_gives_way_to_nobody_and_is_no_fault() {
        let (mut room, start) = (room(1), crate::platform::now());
        let idle = room.wait(alone(PeerId::random()), 1);
        assert_eq!(room.begin(), Some(idle));
        room.wait(alone(PeerId::random()), 1);
        assert!(room.hurry(start + TERM * 2).is_empty());
        room.end(idle, start);
        assert!(room.slow_accounts.0.is_empty() && room.slow_peers.0.is_empty());
    }

    #[test]
    fn a_crowd_of_silent_peers_holds_up_others_once() {
        const SLOTS: usize = 4;
        let (mut room, mut now) = (room(SLOTS << 10), crate::platform::now());
        let mut silent = std::collections::HashMap::new();
        for peer in [(); 20].map(|()| PeerId::random()) {
            silent.insert(room.wait(alone(peer), 1024), peer);
        }
        let mut graces_until = |room: &mut Room<PeerId>, peer: PeerId| {
            begun(room, now);
            let honest = room.wait(alone(peer), 1024);
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
                    silent.insert(room.wait(alone(peer), 1024), peer);
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
        let silent = [(); 8].map(|()| room.wait(alone(PeerId::random()), 1));
        assert_eq!(begun(&mut room, start), silent);
        let large = room.wait(alone(PeerId::random()), 6);
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
        let broken_off = room.wait(alone(slow), 1);
        begun(&mut room, start);
        room.end(broken_off, start);
        let holds = room.wait(alone(other), 1);
        begun(&mut room, start);
        let waits = room.wait(alone(slow), 1);
        assert!(
            room.hurry(start + GRACE).is_empty(),
            "others don't make room for it"
        );
        let next = room.wait(alone(PeerId::random()), 1);
        room.end(holds, start);
        assert_eq!(begun(&mut room, start), [next]);
        room.rests(next);
        room.wait(alone(PeerId::random()), 1);
        room.hurry(start + LATELY);
        room.end(next, start + LATELY);
        assert_eq!(begun(&mut room, start + LATELY), [waits]);
    }

    #[test]
    fn so_many_are_remembered_as_slow() {
        let (mut room, now) = (room(1), crate::platform::now());
        for _ in 0..MAX_SLOW * 2 {
            let number = room.wait(alone(PeerId::random()), 1);
            begun(&mut room, now);
            room.end(number, now);
            let slow = [room.slow_accounts.0.len(), room.slow_peers.0.len()];
            assert!(slow.iter().all(|slow| *slow <= MAX_SLOW) && room.holders.is_empty());
        }
    }

    #[test]
    fn a_flood_of_one_peers_frames_holds_up_itself() {
        let (mut room, now) = (room(8), crate::platform::now());
        let (flood, honest) = (PeerId::random(), PeerId::random());
        let floods: Vec<u64> = (0..100).map(|_| room.wait(alone(flood), 1)).collect();
        assert_eq!(begun(&mut room, now), floods[..8]);
        let honest_first = room.wait(alone(honest), 1);
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

    #[test]
    fn who_is_silent_gives_way_to_the_other_peer_of_its_account() {
        let (mut room, start) = (room(8), crate::platform::now());
        let [account, silent, honest, elsewhere] = [(); 4].map(|()| PeerId::random());
        let held = [(); 2].map(|()| room.wait((silent, account), 4));
        assert_eq!(begun(&mut room, start), held);
        let more = room.wait((silent, account), 4);
        let waits = room.wait((honest, account), 4);
        let late = start + GRACE;
        assert_eq!(room.hurry(late), held[..1]);
        room.end(held[0], late);
        assert_eq!(begun(&mut room, late), [waits]);
        // It was slow, and another account goes before it; but within its own the honest one does.
        let other = room.wait(alone(elsewhere), 4);
        let next = room.wait((honest, account), 4);
        assert_eq!(room.hurry(late + GRACE), held[1..]);
        room.end(held[1], late);
        assert_eq!(begun(&mut room, late), [other]);
        room.end(other, late);
        room.rests(waits);
        room.end(waits, late);
        assert_eq!(begun(&mut room, late), [next, more]);
    }

    #[test]
    fn new_names_make_no_new_account() {
        let (mut room, now) = (room(8), crate::platform::now());
        let (account, honest) = (PeerId::random(), PeerId::random());
        let crowd = [(); 16].map(|()| room.wait((PeerId::random(), account), 1));
        assert_eq!(begun(&mut room, now), crowd[..8]);
        let waits = room.wait(alone(honest), 1);
        let late = now + GRACE;
        assert_eq!(room.hurry(late), crowd[..8], "to each other too");
        room.end(crowd[0], late);
        assert_eq!(begun(&mut room, late), [waits], "its turn is first");
    }

    #[test]
    fn of_a_crowd_who_was_slow_pays_alone_and_all_have_one_share() {
        let (mut room, start) = (Room::new(8, 4, GRACE), crate::platform::now());
        let [silent, honest, direct, other] = [(); 4].map(|()| PeerId::random());
        // It breaks off, as does one that has an account of its own.
        for who in [(silent, Way::Crowded), (direct, Way::Own(direct))] {
            let broken_off = room.wait(who, 4);
            begun(&mut room, start);
            room.end(broken_off, start);
        }
        // The other one of the crowd comes before the slow peer that does not share its way, and before the slow one that does.
        let [later, own, first] = [
            (silent, Way::Crowded),
            (direct, Way::Own(direct)),
            (honest, Way::Crowded),
        ]
        .map(|who| room.wait(who, 4));
        let holds = room.begin();
        assert_eq!(holds, Some(first));
        // As many as the crowd has members, they have less than who has nothing.
        let crowd = [(); 8].map(|()| room.wait((PeerId::random(), Way::Crowded), 4));
        let waits = room.wait((other, Way::Own(other)), 4);
        assert_eq!(room.begin(), Some(waits));
        room.end(first, start);
        assert_eq!(room.begin(), Some(crowd[0]));
        room.end(waits, start);
        assert_eq!(room.begin(), Some(crowd[1]));
        crowd.into_iter().for_each(|number| room.end(number, start));
        assert_eq!(begun(&mut room, start), [later, own]);
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
                    0 | 1 => all.push(room.wait((peers[peer], peers[peer / 2]), size)),
                    2 if !all.is_empty() => room.end(all.swap_remove(size % all.len()), now),
                    3 if !all.is_empty() => room.shrink(all[size % all.len()], size / 2),
                    _ => drop(room.hurry(now)),
                }
                begun(&mut room, now);
                let taken: usize = room.holders.values().map(|holder| holder.has).sum();
                prop_assert!(taken == room.taken && taken <= 10);
                prop_assert_eq!(room.accounts.values().sum::<usize>(), taken);
                prop_assert!(room.holders.values().all(|holder| holder.has <= 8));
                prop_assert!(taken > 0 || room.turns().next().is_none(), "somebody waits for nothing");
            }
            all.into_iter().for_each(|number| room.end(number, now));
            prop_assert!(room.moving.is_empty() && room.goes == 0);
            prop_assert!(room.frames.is_empty() && room.holders.is_empty() && room.accounts.is_empty());
            prop_assert_eq!(room.free(), 10);
        }
    }
}
