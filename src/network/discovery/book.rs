//! Whom of the address book to dial, also where all the wanted ones are there.
//!
//! A node that has the peers it wants dials one more now and then ([`ACROSS`]), lets another take one's place ([`CHANGE`]), and dials one only to see whether it is there ([`FEEL`]).
//! Why it should is the book's own business (`peers/book.rs`). Each node begins at moments of its own: of a network whose nodes all started at once, as after an outage, some look across at any time, and
//! so its halves are one again soon after a cut is mended. Bounds: so many peers as are dialled at once, and one feeler each two minutes.

use std::{collections::BTreeSet, hash::BuildHasher, time::Duration};

use libp2p::{PeerId, Swarm, swarm::dial_opts::DialOpts};

use super::Discovery;
use crate::{
    keyed::Keyed,
    network::{behaviour::Behaviour, guarded::Guarded},
    peers::{Candidate, Direction},
    platform::Instant,
};

/// How often a node that has the peers it wants dials one more.
pub(super) const ACROSS: Duration = Duration::from_secs(300);
/// How many peers more than it wants a node gets from dialling those of the book so, and how often one of them makes room for another.
const MORE: usize = 2;
const CHANGE: Duration = Duration::from_secs(1800);
/// Why it does.
const CHANGED: &str = "its place goes to another, as one does each half hour";
/// How often it dials one only to see whether it is there.
pub(super) const FEEL: Duration = Duration::from_secs(120);
/// Why such a one is let go.
const FELT: &str = "it was dialled only to see whether it is there";

/// See the module's documentation.
pub(super) struct FromBook {
    /// Peers of the book that are dialled.
    pub(super) chosen: BTreeSet<PeerId>,
    /// Peers that are dialled, or connected, only to see whether they are there.
    pub(super) felt: BTreeSet<PeerId>,
    /// The one that is dialled for another to make room.
    changed: Option<PeerId>,
    pub(super) across_at: Instant,
    pub(super) feel_at: Instant,
    change_at: Instant,
}

impl FromBook {
    /// Nobody is dialled yet. `seed` is random.
    pub(super) fn new(seed: &[u8; 16], now: Instant) -> Self {
        let own = Keyed::new(seed);
        // The first time comes after some part of the pause.
        let within = |pause: Duration| {
            let part = own.hash_one(pause) as u32;
            now + pause.mul_f64(f64::from(part) / f64::from(u32::MAX))
        };
        Self {
            chosen: BTreeSet::new(),
            felt: BTreeSet::new(),
            changed: None,
            across_at: within(ACROSS),
            feel_at: within(FEEL),
            change_at: within(CHANGE),
        }
    }

    pub(super) fn is_dialling(&self, peer: &PeerId) -> bool {
        self.chosen.contains(peer)
    }

    /// How many are being dialled.
    pub(super) fn dialling(&self) -> usize {
        self.chosen.len()
    }

    /// A dial is over, however.
    pub(super) fn dialled(&mut self, peer: &PeerId) {
        self.chosen.remove(peer);
    }

    /// A peer is not there, or not any more.
    pub(super) fn gone(&mut self, peer: &PeerId) {
        self.felt.remove(peer);
    }
}

impl Discovery {
    /// Dials those beyond the wanted ones whose time it is.
    pub(super) fn dial_beyond(&mut self, swarm: &mut Swarm<Guarded<Behaviour>>, now: Instant) {
        if now >= self.from_book.across_at {
            self.dial_across(swarm, now);
        }
        if now >= self.from_book.feel_at {
            self.feel(swarm, now);
        }
    }

    /// A node that has all the peers it wants still dials one more now and then: of the user's, and else, up to [`MORE`], of
    /// the book, and then, seldomer, one in the place of another. Where a network was cut in two, its halves find each other again by those that both know.
    fn dial_across(&mut self, swarm: &mut Swarm<Guarded<Behaviour>>, now: Instant) {
        self.from_book.across_at = now + ACROSS;
        if !self.has_room_beyond() {
            return;
        }
        let due = self.dialing.due(1, 0, now);
        let dials_users = !due.is_empty();
        self.dial_them(swarm, due, now);
        let has_all = self.shared.peers().outbound() >= self.wanted + MORE;
        if dials_users || has_all && now < self.from_book.change_at {
            return;
        }
        let chosen = self.shared.book().choose(now);
        if let Some(candidate) = chosen {
            if has_all {
                self.from_book.change_at = now + CHANGE;
                self.from_book.changed = Some(candidate.peer);
            }
            self.dial_candidate(swarm, candidate, now);
        }
    }

    /// And one only to see whether it is there, so that the book knows good ones when they are wanted.
    fn feel(&mut self, swarm: &mut Swarm<Guarded<Behaviour>>, now: Instant) {
        self.from_book.feel_at = now + FEEL;
        let feeler = if self.has_room_beyond() {
            self.shared.book().feeler(now)
        } else {
            None
        };
        if let Some(candidate) = feeler {
            let peer = candidate.peer;
            self.from_book.felt.insert(peer);
            self.dial_candidate(swarm, candidate, now);
        }
    }

    /// Whether it has all that it wants, and places still.
    fn has_room_beyond(&self) -> bool {
        let free = self.shared.peers().free();
        self.wanted > 0 && self.lacks() == 0 && free > usize::from(self.keeps_one)
    }

    /// Dials a peer of the book, which takes it for being dialled.
    pub(super) fn dial_candidate(
        &mut self,
        swarm: &mut Swarm<Guarded<Behaviour>>,
        known: Candidate,
        now: Instant,
    ) {
        let peer = known.peer;
        let admitted = self
            .shared
            .peers()
            .admits(&peer, Direction::Outbound, now)
            .is_ok();
        let is_let_go = self.dialing.is_dismissed(&peer);
        // Where it was reached before no stranger sent us.
        let gate = &swarm.behaviour().gate;
        known.proven.iter().for_each(|address| gate.vouch(address));
        let options = DialOpts::peer_id(peer).addresses(known.addresses).build();
        if !admitted || is_let_go || swarm.dial(options).is_err() {
            self.from_book.felt.remove(&peer);
            let mut book = self.shared.book();
            book.failed(peer, false, now);
            if is_let_go {
                book.forget(&peer);
            }
        } else if self.dialing.knows(&peer) {
            self.dialing.dials(&peer);
        } else {
            self.from_book.chosen.insert(peer);
        }
    }

    /// A peer is ready; was it dialled for that alone, or for another to make room? `is_awaited`: the user waits for it.
    pub(super) fn ready_from_book(&mut self, peer: &PeerId, is_awaited: bool) {
        let is_felt = self.from_book.felt.remove(peer)
            && !is_awaited
            && !self.dialing.knows(peer)
            && !self.shared.peers().keeps_place(peer);
        if is_felt && self.shared.peers().outbound() > self.wanted {
            self.shared.peers().let_go(*peer, FELT.to_owned());
        } else if self.from_book.changed == Some(*peer) {
            self.from_book.changed = None;
            let may_leave = self.may_leave(peer);
            let leaves = self
                .shared
                .book()
                .gives_way(|other| may_leave.contains(other));
            if let Some(leaves) = leaves
                && self.shared.peers().outbound() > self.wanted + MORE
            {
                self.shared.peers().let_go(leaves, CHANGED.to_owned());
            }
        }
    }

    /// Who is here that may leave for another: neither that one, nor whom the user, the local network or the application has named.
    pub(super) fn may_leave(&self, newest: &PeerId) -> BTreeSet<PeerId> {
        let peers = self.shared.peers();
        let others = peers.shown().map(|info| info.peer_id);
        let others = others.filter(|other| other != newest && !self.dialing.knows(other));
        let mut may = BTreeSet::new();
        may.extend(others.filter(|other| !peers.keeps_place(other)));
        may
    }
}
