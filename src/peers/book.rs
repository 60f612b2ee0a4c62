//! The address book: whom a node knows of beyond those that it is connected to, kept over restarts, and hard to fill with an attacker's peers.
//!
//! After Bitcoin Core's addrman and Heilman, Kendler, Zohar and Goldberg, "Eclipse Attacks on Bitcoin's Peer-to-Peer Network" (USENIX Security
//! 2015). There are two tables, of peers that others told of (new) and of those that this node has dialled with success (tried). For each peer a secret
//! key chooses a bucket by network group and a place in it (`places.rs`), so that a flood fights for few places and pushes nobody out who
//! is not terrible (`entry.rs`). Who dialled *us* proves nothing. What else is held against an attacker with many identities in few networks:
//!
//! - **Diversity**: [`AddressBook::choose`] never gives a peer of a network in which one is dialled or connected already ([`NetworkGroup`]), while there is one of another. What
//!   strangers say of a peer's network may be a lie: it is dialled only at those of its addresses whose networks are free, and while it is dialled all of these are held.
//! - **Tried first**: places are given to tried peers, each network as likely as another, so that an attacker has no more chances for having more peers in its own. In
//!   the new table, where live attackers gather while honest peers move on, it looks only where no tried network is left.
//! - **Feelers** ([`AddressBook::feeler`]): a peer gets from new to tried by a dial for that alone. Of new ones a bucket is drawn first, of which one group of
//!   tellers reaches few.
//! - **Test before evict**: whose place in the tried table another wants is dialled first, and keeps it if it answers, or did within [`FRESH`].
//! - **Change** ([`AddressBook::gives_way`]): now and then one of those that were dialled, by chance, makes room for another. An attacker's peers never leave by themselves, so
//!   without it they would gather, one lucky draw after the other.
//! - **Anchors**: two of the peers that it had dialled, by chance, are dialled first after a restart; a node that was offline before it keeps those of the last time. Those that stayed longest would be those of an attacker, which has time.
//!
//! Failures count against a peer only where the caller says that they may be its fault: an offline node must not burn its book.
//! Only addresses that [`AddressPolicy`] let through belong here, which is the caller's business; so is
//! to connect. Times go on over restarts by a clock of the book's own (`clock.rs`), which no step of the date disturbs. How it is kept: `saved.rs`.
//!
//! Bounds: 5,000 peers (4,000 new, 1,000 tried) of 8 addresses and a signed record of 1 KiB (`records.rs`), an entry for each connection and dial, [`CONTESTS`] contests. Each
//! step costs O(log n), and as many looks as there are networks in use.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use libp2p::{Multiaddr, PeerId};

mod clock;
mod entry;
mod group;
mod places;
mod random;
mod records;
mod saved;
mod shelf;

use self::{
    clock::Clock,
    entry::{ADDRESSES, Entry},
    places::{Place, Places},
    random::Random,
    shelf::{RandomSet, Shelf},
};
pub use self::{
    entry::Candidate,
    group::{Grouping, NetworkGroup},
    saved::{BookError, MAX_BOOK_BYTES},
};
use super::{AddressPolicy, Outlook, without_id};
use crate::{order, platform::Instant};

/// Peers that are dialled first after a restart.
pub const ANCHORS: usize = 2;
/// Contests for a tried peer's place that wait for a feeler.
pub const CONTESTS: usize = 32;
/// Who was reached within so many seconds keeps its place without a test.
pub const FRESH: u64 = 4 * 3600;
/// Buckets of the new table that are looked at for a network of which there is no peer yet, before all networks are.
const LOOKS: usize = 16;

/// How many are dialled sooner when a network is held no more.
const RETRIES: usize = 4;

/// See the module's documentation.
#[derive(Debug)]
pub struct AddressBook {
    own: PeerId,
    /// Which addresses this node can dial.
    dials: fn(&Multiaddr) -> bool,
    grouping: Grouping,
    random: Random,
    clock: Clock,
    /// The book's time when it was last asked.
    time: u64,
    entries: BTreeMap<PeerId, Box<Entry>>,
    places: Places,
    /// Those that may be dialled now: the tried ones by network, the new ones by bucket and by network.
    tried: Shelf<NetworkGroup, PeerId>,
    new: Shelf<u64, PeerId>,
    new_networks: Shelf<NetworkGroup, PeerId>,
    /// Tried ones whose signed records may be passed on.
    signed: RandomSet<PeerId>,
    /// Those that may be later.
    waiting: BTreeSet<(u64, PeerId)>,
    /// Of them those that were dialled at some of their addresses only, by the networks that were held then.
    in_part: Shelf<NetworkGroup, PeerId>,
    /// Who is dialled or connected, known or not.
    links: BTreeMap<PeerId, Box<Link>>,
    /// How many of them are, or may be reached, in each network, those that came by themselves aside.
    held: BTreeMap<NetworkGroup, usize>,
    /// Those to be dialled first that have neither answered nor failed yet, and how many have failed.
    anchors: Vec<PeerId>,
    anchors_lost: usize,
    /// Those that were saved last, and when they were drawn.
    drawn: (Vec<PeerId>, u64),
    /// Whose place in the tried table another wants.
    contests: BTreeMap<PeerId, PeerId>,
}

/// How a peer is linked.
#[derive(Clone, Debug, PartialEq)]
enum Link {
    /// At addresses in these networks.
    Dialled(Vec<NetworkGroup>),
    Outbound(NetworkGroup),
    Inbound,
}

impl Link {
    fn networks(&self) -> &[NetworkGroup] {
        match self {
            Self::Dialled(networks) => networks,
            Self::Outbound(network) => std::slice::from_ref(network),
            Self::Inbound => &[],
        }
    }
}

/// A peer in the book, for showing.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct KnownPeer {
    /// Who.
    pub peer_id: PeerId,
    /// Where it is said to be; first where it was reached.
    pub addresses: Vec<Multiaddr>,
    /// Whether it was dialled with success.
    pub reached: bool,
    /// How long ago somebody told of it, to a day, or it was reached.
    pub heard: Duration,
    /// Dials in vain since.
    pub failures: u32,
    /// The network by which it is counted.
    pub network: NetworkGroup,
    /// Whether this node has a record of where it is that it signed itself.
    pub signed: bool,
}

impl AddressBook {
    /// An empty one, which never names `own`. `dials` says which addresses this node can dial, `grouping` which of them count as one network; `seed` is random
    /// and secret.
    pub fn new(
        own: PeerId,
        dials: fn(&Multiaddr) -> bool,
        grouping: Grouping,
        seed: [u8; 32],
        now: Instant,
    ) -> Self {
        Self::with(own, dials, grouping, halves(seed), Clock::new(now), now)
    }

    fn with(
        own: PeerId,
        dials: fn(&Multiaddr) -> bool,
        grouping: Grouping,
        (key, random): ([u8; 16], [u8; 16]),
        clock: Clock,
        now: Instant,
    ) -> Self {
        Self {
            own,
            dials,
            grouping,
            random: Random::new(random),
            time: clock.at(now),
            clock,
            entries: BTreeMap::new(),
            places: Places::new(key),
            tried: Shelf::new(),
            new: Shelf::new(),
            new_networks: Shelf::new(),
            signed: RandomSet::new(),
            waiting: BTreeSet::new(),
            in_part: Shelf::new(),
            links: BTreeMap::new(),
            held: BTreeMap::new(),
            anchors: Vec::new(),
            anchors_lost: 0,
            drawn: (Vec::new(), 0),
            contests: BTreeMap::new(),
        }
    }

    /// How it tells networks apart.
    pub(crate) fn grouping(&self) -> &Grouping {
        &self.grouping
    }

    /// How many new and how many tried peers it knows.
    pub fn counts(&self) -> (usize, usize) {
        self.places.counts()
    }

    /// All of them, in the order of their ids.
    pub fn peers(&self) -> impl Iterator<Item = KnownPeer> {
        self.entries.iter().map(|(peer, entry)| KnownPeer {
            peer_id: *peer,
            addresses: entry
                .addresses
                .iter()
                .map(|known| known.address.clone())
                .collect(),
            reached: entry.place.is_tried,
            heard: Duration::from_secs(self.time.saturating_sub(entry.heard)),
            failures: entry.failures,
            network: entry.group,
            signed: entry.record.is_some(),
        })
    }

    /// Somebody of the network `source` says that a peer is at these addresses. Whether it has a place in the book.
    pub fn told(
        &mut self,
        source: NetworkGroup,
        peer: PeerId,
        addresses: &[Multiaddr],
        now: Instant,
    ) -> bool {
        self.wake(now);
        let addresses: Vec<_> = addresses.iter().filter_map(tidy).take(ADDRESSES).collect();
        if peer == self.own || addresses.is_empty() {
            return false;
        }
        if !self.entries.contains_key(&peer) {
            let group = self.grouping.of_peer(&addresses);
            let place = self.places.new_place(&peer, group, source);
            if !self.makes_room(place) {
                return false;
            }
            self.insert(peer, group, source, place);
        }
        self.change(&peer, |entry, random, time| {
            entry.heard_of(time);
            for address in addresses {
                entry.may_be_at(address, random);
            }
        });
        true
    }

    /// A connected peer says where it is itself.
    pub fn says(
        &mut self,
        remote: NetworkGroup,
        peer: PeerId,
        addresses: &[Multiaddr],
        now: Instant,
    ) {
        if self.told(remote, peer, addresses, now) {
            self.change(&peer, |entry, _, _| {
                entry.says_it_is_at(addresses.iter().filter_map(tidy));
            });
        }
    }

    /// Whom to dial for a place of ours; one of [`Self::connected`] and [`Self::failed`] follows. `None`: nobody is left, for now.
    pub fn choose(&mut self, now: Instant) -> Option<Candidate> {
        self.wake(now);
        let chosen = self.next_anchor().or_else(|| self.one_of_another_network());
        let peer = chosen.or_else(|| {
            let tried = self.tried.draw(&mut self.random);
            tried.or_else(|| self.new.draw(&mut self.random))
        });
        let mut candidate = self.candidate(&peer?)?;
        let is_free = |address: &Multiaddr| !self.held.contains_key(&self.grouping.of(address));
        // A peer is in whatever networks strangers say: in one of which there is a peer it is not to take a second place.
        if candidate.addresses.iter().any(is_free) {
            candidate.addresses.retain(is_free);
            candidate.proven.retain(is_free);
        }
        Some(self.dial(candidate))
    }

    fn next_anchor(&self) -> Option<PeerId> {
        let mut anchors = self.anchors.iter();
        anchors.find(|anchor| self.is_ready(anchor)).copied()
    }

    fn one_of_another_network(&mut self) -> Option<PeerId> {
        let held = &self.held;
        let free = |network: &NetworkGroup| !held.contains_key(network);
        if let Some(peer) = self.tried.draw_free(free, &mut self.random) {
            return Some(peer);
        }
        for _ in 0..LOOKS {
            let peer = self.new.draw(&mut self.random)?;
            let entry = self.entries.get(&peer);
            if entry.is_some_and(|entry| entry.networks.iter().any(free)) {
                return Some(peer);
            }
        }
        self.new_networks.draw_free(free, &mut self.random)
    }

    /// Whom to dial to see whether it is there, and for nothing else; as [`Self::choose`] otherwise.
    pub fn feeler(&mut self, now: Instant) -> Option<Candidate> {
        self.wake(now);
        let tested = self.contests.keys().copied();
        let tested = tested.into_iter().find(|peer| self.is_ready(peer));
        let peer = tested.or_else(|| self.new.draw(&mut self.random));
        let candidate = self.candidate(&peer?)?;
        Some(self.dial(candidate))
    }

    /// Who is to make room for another, of those that were dialled and may go.
    pub fn gives_way(&mut self, may_go: impl Fn(&PeerId) -> bool) -> Option<PeerId> {
        let outbound = self
            .links
            .iter()
            .filter(|(peer, link)| matches!(***link, Link::Outbound(_)) && may_go(peer));
        let outbound: Vec<_> = outbound.map(|(peer, _)| *peer).collect();
        self.random.one_of(&outbound).copied()
    }

    /// What this node sees of the internet: of near networks and of peers behind relays nothing. `is_users`: whom the user chose, and not this book.
    pub fn outlook(&self, is_users: impl Fn(&PeerId) -> bool) -> Outlook {
        let dialled = || {
            self.links.iter().filter_map(|(peer, link)| match **link {
                Link::Outbound(network) if network.is_far() => Some((peer, network)),
                _ => None,
            })
        };
        let chosen: Vec<_> = dialled().filter(|(peer, _)| !is_users(peer)).collect();
        let networks = distinct(chosen.iter().map(|(_, network)| *network));
        let missed = self.entries.iter().filter(|(peer, entry)| {
            !self.links.contains_key(peer) && entry.may_be_there(self.time)
        });
        // As far as it can dial them: to a tab all may be of one domain.
        let missed = missed.filter_map(|(_, entry)| entry.home);
        Outlook {
            dialled: dialled().count(),
            chosen: chosen.len(),
            networks: networks.len(),
            missed: distinct(missed.filter(|network| network.is_far())).len(),
            anchors_lost: self.anchors_lost >= ANCHORS,
        }
    }

    /// What is known of where a peer is; nothing of a stranger.
    pub fn candidate(&self, peer: &PeerId) -> Option<Candidate> {
        let entry = self.entries.get(peer)?;
        Some(entry.candidate(*peer, self.dials))
    }

    /// Somebody else dials a peer.
    pub fn dials(&mut self, peer: PeerId, now: Instant) {
        self.wake(now);
        if !self.links.contains_key(&peer)
            && let Some(candidate) = self.candidate(&peer)
        {
            self.dial(candidate);
        }
    }

    /// Whether this is one of the addresses at which a peer is known to be, or said to be.
    pub fn knows(&self, peer: &PeerId, address: &Multiaddr) -> bool {
        let (entry, address) = (self.entries.get(peer), tidy(address));
        let mut known = entry.iter().flat_map(|entry| &entry.addresses);
        known.any(|known| Some(&known.address) == address.as_ref())
    }

    /// Whether a peer is being dialled.
    pub fn is_dialling(&self, peer: &PeerId) -> bool {
        matches!(self.linked(peer), Some(Link::Dialled(_)))
    }

    /// A connection is there; `outbound`: by a dial of ours.
    pub fn connected(&mut self, peer: PeerId, remote: &Multiaddr, outbound: bool, now: Instant) {
        self.wake(now);
        if outbound {
            self.anchors.retain(|anchor| *anchor != peer);
            self.link(peer, Some(Link::Outbound(self.grouping.of(remote))));
        } else if !matches!(self.linked(&peer), Some(Link::Outbound(_))) {
            self.link(peer, Some(Link::Inbound));
        }
    }

    /// A peer that was dialled at an address is one of ours: it belongs to the tried ones.
    pub fn reached(&mut self, peer: PeerId, address: &Multiaddr, now: Instant) {
        self.wake(now);
        let Some(address) = tidy(address).filter(|_| peer != self.own) else {
            return;
        };
        let group = self.grouping.of(&address);
        if !self.entries.contains_key(&peer) {
            let place = self.places.new_place(&peer, group, group);
            // Nobody else's word is worth more than a connection.
            self.clear(place);
            self.insert(peer, group, group, place);
        }
        self.change(&peer, |entry, _, time| {
            entry.is_at(address);
            (entry.heard, entry.reached, entry.tried) = (time, Some(time), Some(time));
            (entry.failures, entry.in_part) = (0, 0);
            entry.left_out.clear();
        });
        self.contests.remove(&peer);
        self.promote(peer, group);
    }

    /// A dial of a peer failed. Whether it `counts`: whether it may be the peer's fault, and not this node's, or its network's. Where some of
    /// its addresses were left out it says nothing of the peer, and only lengthens the pause.
    pub fn failed(&mut self, peer: PeerId, counts: bool, now: Instant) {
        self.wake(now);
        let mut left_out = Vec::new();
        if let Some(Link::Dialled(networks)) = self.linked(&peer) {
            let entry = self.entries.get(&peer);
            let all = entry.iter().flat_map(|entry| &entry.networks);
            left_out.extend(all.filter(|network| !networks.contains(network)));
            self.link(peer, None);
        }
        let is_whole = left_out.is_empty();
        self.change(&peer, |entry, _, time| {
            if counts && !is_whole {
                entry.failed_in_part(left_out, time);
            } else {
                entry.failed(counts, time);
            }
        });
        let counts = counts && is_whole;
        if counts && self.anchors.contains(&peer) {
            self.anchors.retain(|anchor| *anchor != peer);
            let entry = self.entries.get(&peer);
            let home = entry.and_then(|entry| entry.home);
            // Neighbours stay behind where a laptop moves, and relays go.
            self.anchors_lost += usize::from(home.is_some_and(NetworkGroup::is_far));
        }
        if counts && let Some(newcomer) = self.contests.remove(&peer) {
            self.evict(peer);
            if let Some(entry) = self.entries.get(&newcomer)
                && let Some(known) = entry.addresses.first()
            {
                self.promote(newcomer, self.grouping.of(&known.address));
            }
        }
    }

    /// Before that time asking a peer again is of no use, it says.
    pub fn waits(&mut self, peer: &PeerId, time: Duration, now: Instant) {
        self.wake(now);
        self.change(peer, |entry, _, at| {
            entry.due = entry.due.max(at.saturating_add(time.as_secs()));
        });
    }

    /// It turned us away, or we it. Where it was never one of ours that counts like a failure, but not where it came by itself: that says nothing of
    /// where it is said to be.
    pub fn refused(&mut self, peer: &PeerId, now: Instant) {
        self.wake(now);
        if !matches!(
            self.linked(peer),
            Some(Link::Dialled(_) | Link::Outbound(_))
        ) {
            return;
        }
        self.change(peer, |entry, _, time| {
            let counts = entry.reached.is_none();
            entry.failed(counts, time);
        });
    }

    /// Its last connection ended.
    pub fn gone(&mut self, peer: PeerId, now: Instant) {
        self.wake(now);
        self.link(peer, None);
        self.change(&peer, |entry, _, time| entry.gone(time));
    }

    /// It is to be known no more, until somebody tells of it again.
    pub fn forget(&mut self, peer: &PeerId) {
        self.unshelve(peer);
        if let Some(entry) = self.entries.remove(peer) {
            self.places.leave(entry.place);
        }
        self.contests.remove(peer);
    }

    fn dial(&mut self, candidate: Candidate) -> Candidate {
        let networks = networks(&self.grouping, &candidate.addresses);
        self.link(candidate.peer, Some(Link::Dialled(networks)));
        candidate
    }

    /// Puts a tried peer where it belongs, if nobody is in its way who may be there.
    fn promote(&mut self, peer: PeerId, group: NetworkGroup) {
        let place = self.places.tried_place(&peer, group);
        match self.places.at(place) {
            None => self.shift(&peer, group, place),
            Some(other) if other == peer => {}
            Some(other) => {
                let time = self.time;
                let reached = self.entries.get(&other).and_then(|entry| entry.reached);
                let is_fresh = reached.is_some_and(|at| time.saturating_sub(at) < FRESH);
                let is_safe = is_fresh || self.links.contains_key(&other);
                if !is_safe && self.contests.len() < CONTESTS {
                    self.contests.insert(other, peer);
                }
            }
        }
    }

    /// Puts a tried peer back among the new ones, as if it had told of itself.
    fn evict(&mut self, peer: PeerId) {
        if let Some(entry) = self.entries.get(&peer) {
            let group = entry.group;
            let place = self.places.new_place(&peer, group, group);
            self.clear(place);
            self.shift(&peer, group, place);
        }
    }

    /// Whether a place is free, or is made so.
    fn makes_room(&mut self, place: Place) -> bool {
        let Some(other) = self.places.at(place) else {
            return true;
        };
        let other = self.entries.get(&other);
        let gives_way = other.is_none_or(|entry| entry.is_terrible(self.time));
        if gives_way {
            self.clear(place);
        }
        gives_way
    }

    fn clear(&mut self, place: Place) {
        if let Some(other) = self.places.at(place) {
            self.forget(&other);
        }
    }

    fn insert(&mut self, peer: PeerId, group: NetworkGroup, source: NetworkGroup, place: Place) {
        self.places.take(place, peer);
        let entry = Entry {
            addresses: Vec::new(),
            group,
            source,
            place,
            heard: self.time,
            reached: None,
            tried: None,
            failures: 0,
            in_part: 0,
            left_out: Vec::new(),
            due: 0,
            networks: Vec::new(),
            home: None,
            sequence: 0,
            record: None,
        };
        self.entries.insert(peer, Box::new(entry));
    }

    fn shift(&mut self, peer: &PeerId, group: NetworkGroup, place: Place) {
        if let Some(entry) = self.entries.get(peer) {
            self.places.leave(entry.place);
            self.places.take(place, *peer);
        }
        self.change(peer, |entry, _, _| {
            (entry.group, entry.place) = (group, place)
        });
    }

    /// Changes an entry, and where it is found. Its networks are looked up where its addresses are others, since a map is a long walk.
    fn change(&mut self, peer: &PeerId, change: impl FnOnce(&mut Entry, &mut Random, u64)) {
        self.unshelve(peer);
        if let Some(entry) = self.entries.get_mut(peer) {
            let before: Vec<_> = entry.addresses().cloned().collect();
            change(entry, &mut self.random, self.time);
            if !entry.addresses().eq(&before) {
                let dialled = entry.addresses().filter(|address| (self.dials)(address));
                let groups: Vec<_> = dialled.map(|address| self.grouping.of(address)).collect();
                entry.home = groups.first().copied();
                entry.networks = distinct(groups.into_iter());
            }
        }
        self.shelve(peer);
    }

    fn linked(&self, peer: &PeerId) -> Option<&Link> {
        self.links.get(peer).map(Box::as_ref)
    }

    fn link(&mut self, peer: PeerId, link: Option<Link>) {
        self.unshelve(&peer);
        for network in link.iter().flat_map(Link::networks) {
            *self.held.entry(*network).or_default() += 1;
        }
        let before = match link {
            Some(link) => self.links.insert(peer, Box::new(link)),
            None => self.links.remove(&peer),
        };
        for network in before.iter().flat_map(|link| link.networks()) {
            if let Some(count) = self.held.get_mut(network) {
                *count -= 1;
                if *count == 0 {
                    self.held.remove(network);
                    self.retry_in(*network);
                }
            }
        }
        self.shelve(&peer);
    }

    /// A network is held no more: of those that were not dialled there some, by chance, need not wait out the pause that failures elsewhere brought.
    fn retry_in(&mut self, network: NetworkGroup) {
        for _ in 0..RETRIES {
            if let Some(peer) = self.in_part.draw_of(network, &mut self.random) {
                self.change(&peer, |entry, _, _| entry.retries());
            }
        }
    }

    /// Whether a peer may be dialled now.
    fn is_ready(&self, peer: &PeerId) -> bool {
        let is_due = self
            .entries
            .get(peer)
            .is_some_and(|entry| !entry.networks.is_empty() && entry.due <= self.time);
        is_due && !self.links.contains_key(peer)
    }

    fn shelve(&mut self, peer: &PeerId) {
        if let Some(entry) = self.entries.get(peer) {
            if entry.place.is_tried && entry.record.is_some() {
                self.signed.insert(*peer);
            }
            if self.is_ready(peer) {
                if entry.place.is_tried {
                    self.tried.insert(entry.group, *peer);
                } else {
                    self.new.insert(entry.place.bucket, *peer);
                    for network in &entry.networks {
                        self.new_networks.insert(*network, *peer);
                    }
                }
            } else if !entry.networks.is_empty() && !self.links.contains_key(peer) {
                self.waiting.insert((entry.due, *peer));
                for network in &entry.left_out {
                    self.in_part.insert(*network, *peer);
                }
            }
        }
    }

    fn unshelve(&mut self, peer: &PeerId) {
        self.signed.remove(peer);
        if let Some(entry) = self.entries.get(peer) {
            self.waiting.remove(&(entry.due, *peer));
            for network in &entry.left_out {
                self.in_part.remove(*network, peer);
            }
            if entry.place.is_tried {
                self.tried.remove(entry.group, peer);
            } else {
                self.new.remove(entry.place.bucket, peer);
                for network in &entry.networks {
                    self.new_networks.remove(*network, peer);
                }
            }
        }
    }

    /// It is so late now: who has waited long enough may be dialled.
    fn wake(&mut self, now: Instant) {
        self.time = self.time.max(self.clock.at(now));
        while let Some((due, peer)) = self.waiting.first().copied()
            && due <= self.time
        {
            self.waiting.pop_first();
            self.unshelve(&peer);
            self.shelve(&peer);
        }
    }
}

/// An address as it is kept: without the peer's id, and no longer than one may be.
fn tidy(address: &Multiaddr) -> Option<Multiaddr> {
    let address = without_id(address);
    (address.len() <= AddressPolicy::MAX_BYTES && !address.is_empty()).then_some(address)
}

/// The networks of addresses, each once.
fn networks<'a>(
    grouping: &Grouping,
    addresses: impl IntoIterator<Item = &'a Multiaddr>,
) -> Vec<NetworkGroup> {
    distinct(addresses.into_iter().map(|address| grouping.of(address)))
}

/// In their order, each once.
fn distinct(networks: impl Iterator<Item = NetworkGroup>) -> Vec<NetworkGroup> {
    let mut networks: Vec<_> = networks.collect();
    order::sort(&mut networks);
    networks.dedup();
    networks
}

fn halves(seed: [u8; 32]) -> ([u8; 16], [u8; 16]) {
    let half = |from: usize| {
        let mut half = [0; 16];
        let bytes = seed.iter().skip(from);
        half.iter_mut()
            .zip(bytes)
            .for_each(|(to, byte)| *to = *byte);
        half
    };
    (half(0), half(16))
}

#[cfg(test)]
mod eclipse;
#[cfg(test)]
mod tests;
