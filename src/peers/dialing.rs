//! Whom to dial, and when again.
//!
//! A state machine without I/O. It knows the user's peers (bootstrap peers, each with all its addresses however the list writes
//! them, and added ones), those found on the local network, and those that strangers named. Of them so many are due as
//! are wanted: who has been due longest comes first, the user's sooner and strangers' later by [`Teller::handicap`], so that many which
//! do not answer keep no others out; alike ones in an order of this node's own, so that not everybody dials the same.
//! Each step finds its peers by an index, however many there are.
//! Who dialled *us* proves nothing, an attacker does that too: only success in dialling ends the search. A failure doubles the pause, up to
//! [`PAUSE`]; an end of a connection starts anew. Whom the user lets go, known before or not, stays away until somebody asks for it.
//!
//! Bounds: [`USERS`] peers of the user, of which one that waits gives way to a new one, [`FOUND`] of the local network and as many that strangers named, of [`ADDRESSES`] addresses each and as many of the
//! user's, of which the eldest of the least trusted give way; who was not told of again for [`FORGET`] is forgotten, of those named one that failed gives way to a new one. [`DISMISSED`]
//! peers that were let go.

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::BuildHasher,
    time::Duration,
};

use libp2p::{Multiaddr, PeerId};

use crate::{keyed::Keyed, platform::Instant, remembered::Remembered};

/// The first and the longest pause between two dials of one peer.
const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(20));
/// How long a peer that turned us away is left alone, and one that a stranger named and that did not answer.
const REFUSED: Duration = Duration::from_secs(60);
/// Peers of the user that are kept in mind.
const USERS: usize = 2048;
/// Peers of the local network that are kept in mind, and those that strangers named.
const FOUND: usize = 256;
/// Addresses of one of them.
const ADDRESSES: usize = 16;
/// When one of them is forgotten: mDNS asks every five minutes.
const FORGET: Duration = Duration::from_secs(360);
/// Peers that the user let go that are kept in mind.
const DISMISSED: usize = 1024;

/// See the module's documentation.
#[derive(Debug)]
pub struct Dialing {
    own: PeerId,
    targets: BTreeMap<PeerId, Target>,
    index: Index,
    dismissed: Remembered<PeerId, Keyed>,
}

/// Peers, the longest due first; alike ones in this node's own order.
type Queue = BTreeSet<(Instant, u64, PeerId)>;

/// The targets by what is asked of them.
#[derive(Debug)]
struct Index {
    /// Those that wait for their turn, by who told of them and whether they were tried.
    queues: BTreeMap<(Teller, bool), Queue>,
    /// Those that may be forgotten, by when they were last told of.
    told: BTreeSet<(Instant, PeerId)>,
    /// How many such a teller told of.
    counts: BTreeMap<Teller, usize>,
    dialling: usize,
    /// This node's own order.
    order: Keyed,
}

/// A peer to be dialled now.
#[derive(Clone, Debug, PartialEq)]
pub struct Due {
    /// Who.
    pub peer: PeerId,
    /// All that is known of where it is.
    pub addresses: Vec<Multiaddr>,
    /// Those of them that no stranger told of.
    pub vouched: Vec<Multiaddr>,
}

/// Who told of a peer, the most trusted first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Teller {
    /// The user.
    User,
    /// mDNS.
    LocalNetwork,
    /// Another peer.
    Stranger,
}

impl Teller {
    /// How much longer than the user's peers one waits for its turn.
    fn handicap(self) -> Duration {
        match self {
            Self::User => Duration::ZERO,
            Self::LocalNetwork => Duration::from_secs(10),
            Self::Stranger => Duration::from_secs(30),
        }
    }
}

#[derive(Debug)]
struct Target {
    /// In the order in which they were told of, each with its most trusted teller.
    addresses: Vec<(Teller, Multiaddr)>,
    state: State,
    pause: Duration,
    teller: Teller,
    /// When it was last told of.
    told: Instant,
    /// Whether it was dialled, or connected, before.
    tried: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Due(Instant),
    Dialling,
    Connected,
    /// The user let it go.
    Away,
}

impl Target {
    /// What a stranger named is no order to dial it again and again.
    fn failed(&mut self, now: Instant) {
        (self.state, self.tried) = (State::Due(now + self.pause), true);
        self.pause = match self.teller {
            Teller::Stranger => REFUSED,
            _ => (self.pause * 2).min(PAUSE.1),
        };
    }

    fn is_at(&mut self, teller: Teller, address: Multiaddr) {
        let known = self
            .addresses
            .iter_mut()
            .find(|(_, known)| *known == address);
        if let Some((before, _)) = known {
            *before = teller.min(*before);
            return;
        }
        let (users, others): (Vec<_>, Vec<_>) = self
            .addresses
            .iter()
            .partition(|(of, _)| *of == Teller::User);
        if teller == Teller::User && users.len() >= ADDRESSES {
            let eldest = self
                .addresses
                .iter()
                .position(|(of, _)| *of == Teller::User);
            eldest.map(|place| self.addresses.remove(place));
        } else if teller != Teller::User && others.len() >= ADDRESSES {
            let least = self.addresses.iter().map(|(of, _)| *of).max();
            let eldest = self.addresses.iter().position(|(of, _)| Some(*of) == least);
            match eldest {
                Some(place) if least >= Some(teller) => drop(self.addresses.remove(place)),
                _ => return,
            }
        }
        self.addresses.push((teller, address));
    }

    fn first_pause(teller: Teller) -> Duration {
        match teller {
            Teller::Stranger => REFUSED,
            _ => PAUSE.0,
        }
    }

    fn may_be_forgotten(&self) -> bool {
        self.teller != Teller::User && self.state != State::Connected
    }

    fn due(&self, peer: PeerId) -> Due {
        let addresses = self.addresses.iter();
        let vouched = addresses.clone().filter(|(of, _)| *of != Teller::Stranger);
        Due {
            peer,
            vouched: vouched.map(|(_, address)| address.clone()).collect(),
            addresses: addresses.map(|(_, address)| address.clone()).collect(),
        }
    }
}

impl Index {
    fn new(order: Keyed) -> Self {
        Self {
            queues: BTreeMap::new(),
            told: BTreeSet::new(),
            counts: BTreeMap::new(),
            dialling: 0,
            order,
        }
    }

    fn add(&mut self, peer: PeerId, target: &Target) {
        *self.counts.entry(target.teller).or_default() += 1;
        match target.state {
            State::Due(at) => {
                let queue = self.queues.entry((target.teller, target.tried));
                let place = (at, self.order.hash_one(peer), peer);
                queue.or_default().insert(place);
            }
            State::Dialling => self.dialling += 1,
            State::Connected | State::Away => {}
        }
        if target.may_be_forgotten() {
            self.told.insert((target.told, peer));
        }
    }

    /// What [`Self::add`] did.
    fn remove(&mut self, peer: PeerId, target: &Target) {
        if let Some(count) = self.counts.get_mut(&target.teller) {
            *count -= 1;
        }
        match target.state {
            State::Due(at) => {
                let queue = self.queues.get_mut(&(target.teller, target.tried));
                let place = (at, self.order.hash_one(peer), peer);
                queue.map(|queue| queue.remove(&place));
            }
            State::Dialling => self.dialling -= 1,
            State::Connected | State::Away => {}
        }
        self.told.remove(&(target.told, peer));
    }

    /// Who has its turn next.
    fn next(&self, least: Teller, now: Instant) -> Option<PeerId> {
        let queues = self.queues.iter();
        let first = queues
            .filter(|((teller, _), _)| *teller <= least)
            .filter_map(|((teller, _), queue)| {
                let (at, order, peer) = queue.first()?;
                (*at <= now).then(|| (*at + teller.handicap(), *order, *peer))
            });
        first.min().map(|(_, _, peer)| peer)
    }
}

impl Dialing {
    /// Knows nobody; never dials `own`. `seed` is random and secret.
    pub fn new(own: PeerId, seed: &[u8; 16]) -> Self {
        let index = Index::new(Keyed::new(seed));
        Self {
            own,
            targets: BTreeMap::new(),
            dismissed: Remembered::new(DISMISSED, index.order.clone()),
            index,
        }
    }

    /// Somebody tells of a peer, at an address. The more trusted word counts; a bootstrap peer stays one, also where it is a
    /// neighbour.
    pub fn told(&mut self, teller: Teller, peer: PeerId, address: Multiaddr, now: Instant) {
        if peer == self.own {
            return;
        }
        self.forget(now);
        if !self.targets.contains_key(&peer) {
            if !self.makes_room(teller, now) {
                return;
            }
            let target = Target {
                addresses: Vec::new(),
                state: State::Due(now),
                pause: Target::first_pause(teller),
                teller,
                told: now,
                tried: false,
            };
            self.index.add(peer, &target);
            self.targets.insert(peer, target);
        }
        self.change(&peer, |target| {
            if teller < target.teller {
                (target.teller, target.pause) = (teller, Target::first_pause(teller));
            }
            target.told = now;
            target.is_at(teller, address);
        });
    }

    /// The user asks for it, also where it was let go before.
    pub fn wanted(&mut self, peer: &PeerId, now: Instant) {
        if self.dismissed.contains(peer) {
            self.dismissed.remove(peer);
            self.change(peer, |target| target.state = State::Due(now));
        }
    }

    /// Somebody else has begun to dial it: one of [`Self::connected`] and [`Self::failed`] follows.
    pub fn dials(&mut self, peer: &PeerId) {
        self.change(peer, |target| {
            if matches!(target.state, State::Due(_)) {
                target.state = State::Dialling;
            }
        });
    }

    /// It is connected, whoever dialled. Whom the user let go may come by itself, and is not dialled when it goes again.
    pub fn connected(&mut self, peer: &PeerId) {
        self.change(peer, |target| {
            target.state = State::Connected;
            target.pause = Target::first_pause(target.teller);
        });
    }

    /// Its last connection ended.
    pub fn gone(&mut self, peer: &PeerId, now: Instant) {
        self.change(peer, |target| {
            if target.state == State::Connected {
                (target.state, target.tried) = (State::Due(now + target.pause), true);
            }
        });
    }

    /// A dial of it failed.
    pub fn failed(&mut self, peer: &PeerId, now: Instant) {
        self.change(peer, |target| {
            if target.state == State::Dialling {
                target.failed(now);
            }
        });
    }

    /// It turned us away, or we it: asking again at once is of no use.
    pub fn refused(&mut self, peer: &PeerId) {
        if let Some(target) = self.targets.get_mut(peer) {
            target.pause = REFUSED;
        }
    }

    /// The user let it go.
    pub fn dismissed(&mut self, peer: &PeerId) {
        self.dismissed.insert(*peer);
    }

    /// Whether it is being dialled.
    pub fn is_dialling(&self, peer: &PeerId) -> bool {
        let target = self.targets.get(peer);
        target.is_some_and(|target| target.state == State::Dialling)
    }

    /// How many are being dialled.
    pub fn dialling(&self) -> usize {
        self.index.dialling
    }

    /// Whom to dial now, each with all its addresses; at most so many, of those that one so trusted told of.
    pub fn due(&mut self, most: usize, least: Teller, now: Instant) -> Vec<Due> {
        let mut due = Vec::new();
        while due.len() < most
            && let Some(peer) = self.index.next(least, now)
        {
            if self.dismissed.contains(&peer) {
                self.change(&peer, |target| target.state = State::Away);
                continue;
            }
            due.extend(self.change(&peer, |target| {
                target.state = State::Dialling;
                target.due(peer)
            }));
        }
        due
    }

    /// Changes a target, and its places in the index.
    fn change<T>(&mut self, peer: &PeerId, change: impl FnOnce(&mut Target) -> T) -> Option<T> {
        let target = self.targets.get_mut(peer)?;
        self.index.remove(*peer, target);
        let changed = change(target);
        self.index.add(*peer, target);
        Some(changed)
    }

    fn remove(&mut self, peer: &PeerId) {
        if let Some(target) = self.targets.remove(peer) {
            self.index.remove(*peer, &target);
        }
    }

    /// Forgets who was not told of for long.
    fn forget(&mut self, now: Instant) {
        while let Some((told, peer)) = self.index.told.first().copied()
            && told + FORGET <= now
        {
            self.remove(&peer);
        }
    }

    /// Whether one more peer of such a teller finds room. Of the user's the one gives way whose turn is next, of those that were tried
    /// first; of those that strangers named, one that was tried and may be tried again.
    fn makes_room(&mut self, teller: Teller, now: Instant) -> bool {
        let most = match teller {
            Teller::User => USERS,
            Teller::LocalNetwork | Teller::Stranger => FOUND,
        };
        let count = self.index.counts.get(&teller).copied();
        if count.unwrap_or_default() < most {
            return true;
        }
        let next = |was_tried| {
            self.index
                .queues
                .get(&(teller, was_tried))?
                .first()
                .copied()
        };
        let gives_way = match teller {
            Teller::User => next(true).or_else(|| next(false)),
            Teller::LocalNetwork => None,
            Teller::Stranger => next(true).filter(|(at, ..)| *at <= now),
        };
        match gives_way {
            Some((.., peer)) => {
                self.remove(&peer);
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;
    use crate::platform::{self, test};

    fn address(port: u16) -> Multiaddr {
        format!("/ip4/192.0.2.1/tcp/{port}")
            .parse()
            .expect("an address")
    }

    const ALL: usize = usize::MAX;
    const ANY: Teller = Teller::Stranger;

    fn second(now: Instant, seconds: u64) -> Instant {
        now + Duration::from_secs(seconds)
    }

    #[test]
    fn each_node_has_an_order_of_its_own() {
        let (peers, now) = ([(); 20].map(|()| PeerId::random()), platform::now());
        let order = |seed| {
            let mut dialing = Dialing::new(PeerId::random(), &[seed; 16]);
            for peer in peers {
                dialing.told(Teller::Stranger, peer, address(1), now);
            }
            let due = dialing.due(ALL, ANY, second(now, 60));
            due.into_iter().map(|due| due.peer).collect::<Vec<_>>()
        };
        assert_eq!(order(1).len(), 20);
        assert_eq!(order(1), order(1));
        assert_ne!(order(1), order(2));
    }

    #[test]
    fn the_users_newest_peers_and_addresses_are_kept() {
        let (mut dialing, now) = (Dialing::new(PeerId::random(), &[7; 16]), platform::now());
        let [connected, newest] = [(); 2].map(|()| PeerId::random());
        dialing.told(Teller::User, connected, address(1), now);
        dialing.connected(&connected);
        for _ in 0..2 * USERS {
            dialing.told(Teller::User, PeerId::random(), address(1), now);
        }
        for port in 0..100 {
            dialing.told(Teller::User, newest, address(port), now);
        }
        assert_eq!(dialing.targets.len(), USERS);
        assert!(dialing.targets.contains_key(&connected));
        let addresses = &dialing.targets[&newest].addresses;
        let newest: Vec<_> = (84..100).map(address).collect();
        assert!(addresses.iter().map(|(_, address)| address).eq(&newest));
    }

    #[test]
    fn several_entries_of_one_peer_are_one_dial_of_all_addresses() {
        let (own, seed, now) = (PeerId::random(), PeerId::random(), platform::now());
        let mut dialing = Dialing::new(own, &[7; 16]);
        for port in [1, 2, 1] {
            dialing.told(Teller::User, seed, address(port), now);
            dialing.told(Teller::User, own, address(port), now);
        }
        let due = Due {
            peer: seed,
            addresses: vec![address(1), address(2)],
            vouched: vec![address(1), address(2)],
        };
        assert_eq!(dialing.due(ALL, ANY, now), [due]);
        assert!(
            dialing.due(ALL, ANY, second(now, 100)).is_empty(),
            "it is being dialled"
        );
    }

    #[test]
    fn failures_make_pauses_that_have_an_end() {
        let (seed, mut now) = (PeerId::random(), platform::now());
        let mut dialing = Dialing::new(PeerId::random(), &[7; 16]);
        dialing.told(Teller::User, seed, address(1), now);
        for pause in [1, 2, 4, 8, 16, 20, 20] {
            assert_eq!(dialing.due(ALL, ANY, now).len(), 1);
            dialing.failed(&seed, now);
            now = second(now, pause);
            assert!(
                dialing
                    .due(ALL, ANY, now - Duration::from_millis(1))
                    .is_empty()
            );
        }
        dialing.connected(&seed);
        assert!(dialing.due(ALL, ANY, second(now, 100)).is_empty());
        dialing.gone(&seed, now);
        assert_eq!(
            dialing.due(ALL, ANY, second(now, 1)).len(),
            1,
            "it starts anew"
        );
        dialing.connected(&seed);
        dialing.refused(&seed);
        dialing.gone(&seed, now);
        assert!(dialing.due(ALL, ANY, second(now, 59)).is_empty());
        assert_eq!(dialing.due(ALL, ANY, second(now, 60)).len(), 1);
        dialing.connected(&seed);
        dialing.dismissed(&seed);
        dialing.gone(&seed, now);
        assert!(dialing.due(ALL, ANY, second(now, 10_000)).is_empty());
    }

    #[test]
    fn who_was_let_go_stays_away_until_the_user_asks_for_it() {
        let (seed, now) = (PeerId::random(), platform::now());
        let mut dialing = Dialing::new(PeerId::random(), &[7; 16]);
        dialing.told(Teller::User, seed, address(1), now);
        dialing.connected(&seed);
        dialing.dismissed(&seed);
        dialing.gone(&seed, now);
        // It comes by itself, and goes again.
        dialing.connected(&seed);
        dialing.gone(&seed, now);
        dialing.dials(&seed);
        dialing.failed(&seed, now);
        assert!(dialing.due(ALL, ANY, second(now, 10_000)).is_empty());
        dialing.wanted(&seed, now);
        assert_eq!(dialing.due(ALL, ANY, now).len(), 1);
    }

    #[test]
    fn neighbours_are_dialled_again_until_they_are_not_found_any_more() {
        let (peer, now) = (PeerId::random(), platform::now());
        let mut dialing = Dialing::new(PeerId::random(), &[7; 16]);
        dialing.told(Teller::LocalNetwork, peer, address(1), now);
        assert_eq!(dialing.due(ALL, ANY, now).len(), 1);
        dialing.connected(&peer);
        dialing.gone(&peer, second(now, 95));
        assert_eq!(
            dialing.due(ALL, ANY, second(now, 96)).len(),
            1,
            "its record has not expired"
        );
        dialing.failed(&peer, second(now, 96));
        dialing.told(
            Teller::LocalNetwork,
            PeerId::random(),
            address(2),
            second(now, 361),
        );
        let due = dialing.due(ALL, ANY, second(now, 361));
        assert!(due.iter().all(|due| due.peer != peer), "forgotten: {due:?}");
    }

    #[test]
    fn neighbours_are_bounded() {
        let (mut dialing, now) = (Dialing::new(PeerId::random(), &[7; 16]), platform::now());
        let peer = PeerId::random();
        for port in 0..100 {
            dialing.told(Teller::LocalNetwork, peer, address(port), now);
        }
        assert_eq!(
            dialing
                .due(ALL, ANY, now)
                .first()
                .map(|due| due.addresses.len()),
            Some(ADDRESSES)
        );
        for _ in 0..1000 {
            dialing.told(Teller::LocalNetwork, PeerId::random(), address(1), now);
        }
        assert_eq!(dialing.targets.len(), FOUND);
    }

    #[test]
    fn so_many_are_dialled_as_are_wanted_the_users_first() {
        let (mut dialing, now) = (Dialing::new(PeerId::random(), &[7; 16]), platform::now());
        let (named, seed) = (PeerId::random(), PeerId::random());
        for _ in 0..20 {
            dialing.told(Teller::Stranger, PeerId::random(), address(1), now);
        }
        dialing.told(Teller::Stranger, named, address(1), now);
        dialing.told(Teller::User, seed, address(1), now);
        let due = dialing.due(3, ANY, now);
        assert_eq!((due.len(), dialing.dialling()), (3, 3));
        assert_eq!(due.first().map(|due| due.peer), Some(seed));
        assert!(dialing.due(0, ANY, now).is_empty());
        assert_eq!(dialing.due(ALL, ANY, now).len(), 19);
        // In vain: what a stranger named is left alone, however often it is named.
        dialing.failed(&named, now);
        dialing.told(Teller::Stranger, named, address(1), second(now, 59));
        assert!(dialing.due(ALL, ANY, second(now, 59)).is_empty());
        assert_eq!(dialing.due(ALL, ANY, second(now, 60)).len(), 1);
    }

    #[test]
    fn of_those_that_strangers_named_the_tried_ones_give_way() {
        let (mut dialing, now) = (Dialing::new(PeerId::random(), &[7; 16]), platform::now());
        for _ in 0..FOUND * 2 {
            dialing.told(Teller::Stranger, PeerId::random(), address(1), now);
        }
        assert_eq!(dialing.targets.len(), FOUND);
        for due in dialing.due(1, ANY, now) {
            dialing.connected(&due.peer);
            dialing.refused(&due.peer);
            dialing.gone(&due.peer, now);
        }
        let new = PeerId::random();
        dialing.told(Teller::Stranger, new, address(1), second(now, 59));
        assert!(
            !dialing.targets.contains_key(&new),
            "its refusal is kept in mind"
        );
        dialing.told(Teller::Stranger, new, address(1), second(now, 60));
        assert!(dialing.targets.contains_key(&new));
        assert_eq!(dialing.targets.len(), FOUND);
    }

    #[test]
    fn who_was_let_go_is_not_dialled_because_others_name_it() {
        let (mut dialing, now) = (Dialing::new(PeerId::random(), &[7; 16]), platform::now());
        let peer = PeerId::random();
        dialing.dismissed(&peer);
        for teller in [Teller::Stranger, Teller::LocalNetwork] {
            dialing.told(teller, peer, address(1), now);
        }
        assert!(dialing.due(ALL, ANY, now).is_empty());
        dialing.wanted(&peer, now);
        assert_eq!(dialing.due(ALL, ANY, now).len(), 1);
    }

    #[test]
    fn many_that_do_not_answer_keep_nobody_out() {
        let (mut dialing, begin) = (Dialing::new(PeerId::random(), &[7; 16]), platform::now());
        let [neighbour, named] = [(); 2].map(|()| PeerId::random());
        for _ in 0..100 {
            dialing.told(Teller::User, PeerId::random(), address(1), begin);
        }
        dialing.told(Teller::LocalNetwork, neighbour, address(1), begin);
        dialing.told(Teller::Stranger, named, address(1), begin);
        // Each dial hangs for ten seconds.
        let (mut hanging, mut dialled) = (Vec::new(), Vec::new());
        for seconds in 0..300 {
            let now = second(begin, seconds);
            hanging.retain(|(at, peer)| {
                let hangs = *at + Duration::from_secs(10) > now;
                if !hangs {
                    dialing.failed(peer, now);
                }
                hangs
            });
            for due in dialing.due(8 - hanging.len(), ANY, now) {
                hanging.push((now, due.peer));
                dialled.push(due.peer);
            }
        }
        assert!(dialled.contains(&neighbour) && dialled.contains(&named));
    }

    #[test]
    fn who_names_a_peer_first_does_not_say_where_it_is() {
        let (mut dialing, now) = (Dialing::new(PeerId::random(), &[7; 16]), platform::now());
        let [named, seed] = [(); 2].map(|()| PeerId::random());
        dialing.told(Teller::User, seed, address(1), now);
        for port in 100..120 {
            dialing.told(Teller::Stranger, named, address(port), now);
            dialing.told(Teller::Stranger, seed, address(port), now);
        }
        dialing.told(Teller::Stranger, named, address(2), now);
        dialing.told(Teller::LocalNetwork, named, address(3), now);
        let due = dialing.due(ALL, ANY, now);
        let of = |peer| due.iter().find(|due| due.peer == peer).expect("it is due");
        assert_eq!(of(named).addresses.len(), ADDRESSES);
        assert!(of(named).addresses.ends_with(&[address(2), address(3)]));
        assert_eq!(of(named).vouched, [address(3)]);
        assert_eq!(
            (of(seed).addresses.len(), &of(seed).vouched),
            (17, &vec![address(1)])
        );
        // A stranger takes no place of a neighbour's.
        for port in 200..220 {
            dialing.told(Teller::LocalNetwork, named, address(port), now);
        }
        dialing.told(Teller::Stranger, named, address(300), now);
        dialing.failed(&named, now);
        let due = dialing.due(ALL, ANY, second(now, 100));
        assert!(
            due.iter()
                .all(|due| due.addresses.last() == Some(&address(219)) || due.peer != named)
        );
    }

    #[test]
    fn the_index_says_what_the_targets_are() {
        let now = platform::now();
        let peers: Vec<_> = (0..6).map(|_| PeerId::random()).collect();
        let step = (0_usize..9, 0..peers.len(), 0_u64..400);
        proptest!(|(steps in vec(step, 0..200))| {
            let (mut dialing, mut at) = (Dialing::new(PeerId::random(), &[7; 16]), now);
            for (what, who, later) in steps {
                at = second(at, later % 100);
                let peer = &peers[who];
                let tellers = [Teller::User, Teller::LocalNetwork, Teller::Stranger];
                match what {
                    0..3 => dialing.told(tellers[what], *peer, address(1), at),
                    3 => drop(dialing.due(2, ANY, at)),
                    4 => dialing.connected(peer),
                    5 => dialing.gone(peer, at),
                    6 => dialing.failed(peer, at),
                    7 => dialing.dismissed(peer),
                    _ => dialing.wanted(peer, at),
                }
                let mut index = Index::new(dialing.index.order.clone());
                for (peer, target) in &dialing.targets {
                    index.add(*peer, target);
                }
                dialing.index.queues.retain(|_, queue| !queue.is_empty());
                dialing.index.counts.retain(|_, count| *count > 0);
                prop_assert_eq!(&dialing.index.queues, &index.queues);
                prop_assert_eq!(&dialing.index.told, &index.told);
                prop_assert_eq!(&dialing.index.counts, &index.counts);
                prop_assert_eq!(dialing.index.dialling, index.dialling);
            }
        });
    }
}
