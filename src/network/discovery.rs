//! What finds peers, and the one place that dials.
//!
//! It drives [`Dialing`] and the [`AddressBook`](crate::peers::AddressBook): bootstrap peers, those that the user has dialled, neighbours found by mDNS, and then peers of
//! the book are dialled (`book.rs`)
//! whenever fewer than `kademlia_config.wanted_peers` were dialled with success. What peers name, in the DHT's answers and in exchanges, and what they say of
//! themselves goes into the book, and so does what becomes of each dial. While peers are wanted, they are asked for others: connected
//! ones at pauses of [`LOOK`], each for signed records when it is ready (`task/exchange.rs`), and each of the user's whenever it is dialled, since one that is full answers before it turns away. At most
//! half of the places are taken that way, and never the last one: it is kept for who comes. Where those that came have them all, the least useful of these make room. So a network of small nodes stays
//! open, since a node that found everybody full would have been the last to dial, and has a place itself. A
//! lookup of Kademlia's meets only whom this place dials. The user's dials pass here too (`wishes.rs`), and those of whom the application needs at a time, wanted or not (`duty.rs`). One dial takes all addresses that are known of a peer, so that several
//! of them end in one connection.

use std::{sync::Arc, time::Duration};

use libp2p::{
    Multiaddr, PeerId, Swarm,
    core::ConnectedPoint,
    swarm::{ConnectionId, DialError, dial_opts::DialOpts},
};

mod book;
mod duty;
mod wishes;

use self::{book::FromBook, wishes::Wishes};
use super::{behaviour::Behaviour, guarded::Guarded, reasons::dial_reason, shared::Shared};
use crate::{
    config::Config,
    peers::{Dialing, Direction, Due, Duties, NetworkGroup, Outlook, PeerInfo, Stage, Teller},
    platform::{self, Instant},
    transport::is_refused_here,
};

/// The first and the longest pause between two lookups while peers are wanted.
const LOOK: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// The longest time that a peer which refuses us may keep us away.
const MOST_WAITED: Duration = Duration::from_secs(3600);

/// See the module's documentation.
pub(crate) struct Discovery {
    shared: Arc<Shared>,
    dialing: Dialing,
    duties: Duties,
    wishes: Wishes,
    from_book: FromBook,
    /// Peers that are dialled by itself.
    wanted: usize,
    /// Places in all, and whether one of them is left for who comes.
    places: usize,
    keeps_one: bool,
    /// When is the next lookup, the pause after it, and whether it is for our own neighbourhood.
    look_at: Instant,
    look_pause: Duration,
    looks_near: bool,
}

impl Discovery {
    /// Knows nobody yet. `seed` is random and secret.
    pub(crate) fn new(own: PeerId, config: &Config, shared: Arc<Shared>, seed: &[u8; 16]) -> Self {
        let most = config.network.max_peers;
        let wanted = config.protocol.kademlia_config.wanted_peers;
        Self {
            shared,
            dialing: Dialing::new(own, seed),
            duties: Duties::new(own, most / 2),
            wishes: Wishes::default(),
            from_book: FromBook::new(seed, platform::now()),
            wanted: wanted.min(most.div_ceil(2)),
            places: most,
            keeps_one: most > 2,
            look_at: platform::now(),
            look_pause: LOOK.0,
            looks_near: true,
        }
    }

    /// The user knows of a peer, to be dialled when more are wanted.
    pub(crate) fn added(&mut self, peer: PeerId, address: Multiaddr, now: Instant) {
        self.users(peer, address, now);
        self.dialing.wanted(&peer, now);
        if self.shared.peers().stage(&peer).is_some() {
            self.dialing.connected(&peer);
        }
    }

    /// Notes where the user's peer is.
    fn users(&mut self, peer: PeerId, address: Multiaddr, now: Instant) {
        let gave_way = self.dialing.told(Teller::User, peer, address, now);
        let mut peers = self.shared.peers();
        gave_way
            .into_iter()
            .for_each(|peer| peers.is_users(peer, false));
        peers.is_users(peer, self.dialing.knows(&peer));
    }

    /// Peers that a peer of the network `source` named, with what of their addresses may be dialled.
    pub(crate) fn named(
        &mut self,
        swarm: &mut Swarm<Guarded<Behaviour>>,
        source: NetworkGroup,
        peers: &[PeerInfo],
        now: Instant,
    ) {
        let mut book = self.shared.book();
        for peer in peers {
            book.told(source, peer.peer_id, &peer.addresses, now);
        }
        drop(book);
        self.dial_due(swarm, now);
    }

    /// What a connected peer of the network `source` says of where it is, as far as it may be dialled.
    pub(crate) fn says(
        &mut self,
        source: NetworkGroup,
        peer: PeerId,
        addresses: &[Multiaddr],
        now: Instant,
    ) {
        self.shared.book().says(source, peer, addresses, now);
    }

    /// A lookup would meet a peer. It is dialled if that is wanted, and else the lookup goes on without.
    pub(crate) fn meets(
        &mut self,
        swarm: &mut Swarm<Guarded<Behaviour>>,
        peer: PeerId,
        now: Instant,
    ) {
        self.dial_due(swarm, now);
        if !self.dialing.is_dialling(&peer) && !self.from_book.is_dialling(&peer) {
            swarm.behaviour_mut().routing.not_met(peer);
        }
    }

    /// A peer of the local network is there, as somebody says.
    pub(crate) fn found(
        &mut self,
        swarm: &mut Swarm<Guarded<Behaviour>>,
        found: &PeerInfo,
        now: Instant,
    ) {
        let PeerInfo {
            peer_id, addresses, ..
        } = found;
        for address in addresses {
            let (teller, address) = (Teller::LocalNetwork, address.clone());
            self.dialing.told(teller, *peer_id, address, now);
        }
        let home = addresses.first();
        let source = home.map_or(NetworkGroup::Fleeting, |address| {
            self.shared.grouping.of_teller(address)
        });
        self.shared.book().told(source, *peer_id, addresses, now);
        let stage = self.shared.peers().stage(peer_id);
        // Whom the user lets go stays away, also where it is found before it is gone.
        if stage.is_some_and(|stage| stage != Stage::Ending) {
            self.dialing.connected(peer_id);
        }
        self.dial_due(swarm, now);
    }

    /// A peer of the local network gave way to others.
    pub(crate) fn left(&mut self, peer: &PeerId) {
        self.dialing.left(peer);
    }

    /// How many peers are to be dialled now.
    fn lacks(&self) -> usize {
        let peers = self.shared.peers();
        let free = peers.free().saturating_sub(usize::from(self.keeps_one));
        let outbound = peers.outbound();
        drop(peers);
        let dialling = self.dialling();
        self.wanted
            .saturating_sub(outbound)
            .min(free)
            .saturating_sub(dialling)
    }

    /// Who came by itself takes no place that this node wants for whom it chooses, where it knows of more than are here.
    fn make_room(&self, now: Instant) {
        let (new, tried) = self.shared.book().counts();
        let mut peers = self.shared.peers();
        if peers.outbound() + self.dialling() < self.wanted && new + tried > peers.taken() {
            peers.makes_place_for_ours(1 + usize::from(self.keeps_one), now);
        }
    }

    /// Whether peers are wanted, or fewer than `few` are known where some are wanted at times.
    pub(crate) fn wants_others(&self, few: usize) -> bool {
        let (new, tried) = self.shared.book().counts();
        self.wanted > 0 && (self.lacks() > 0 || new + tried < few)
    }

    /// How many are being dialled.
    fn dialling(&self) -> usize {
        self.dialing.dialling() + self.from_book.dialling()
    }

    /// Dials whom it is time to dial, where peers are wanted, and asks for others.
    pub(crate) fn on_time(&mut self, swarm: &mut Swarm<Guarded<Behaviour>>, now: Instant) {
        self.abort_given_up(swarm);
        self.see_to_duties(swarm, now);
        self.make_room(now);
        self.dial_due(swarm, now);
        self.dial_beyond(swarm, now);
        if now >= self.look_at {
            self.look(swarm, now);
        }
    }

    /// The host slept, or the network is another: who could not be reached before may be there now.
    pub(crate) fn woke(&mut self, swarm: &mut Swarm<Guarded<Behaviour>>, now: Instant) {
        self.dialing.woke(now);
        (self.look_at, self.look_pause) = (now, LOOK.0);
        self.on_time(swarm, now);
    }

    /// Asks for peers, where more are wanted.
    fn look(&mut self, swarm: &mut Swarm<Guarded<Behaviour>>, now: Instant) {
        if self.lacks() == 0 && self.dialling() == 0 {
            return;
        }
        let mut place = swarm.local_peer_id().to_bytes();
        // Those that are near to us, and then some that are anywhere.
        if !self.looks_near && platform::random(&mut place).is_err() {
            return;
        }
        swarm.behaviour_mut().routing.look(place);
        self.looks_near = !self.looks_near;
        self.look_at = now + self.look_pause;
        self.look_pause = (self.look_pause * 2).min(LOOK.1);
    }

    /// Dials whom it is time to dial, where peers are wanted: the user's and neighbours, these up to half of all that are wanted at once, and then
    /// those of the book.
    fn dial_due(&mut self, swarm: &mut Swarm<Guarded<Behaviour>>, now: Instant) {
        let lacks = self.lacks();
        if lacks == 0 {
            return;
        }
        let due = self.dialing.due(lacks, self.wanted.div_ceil(2), now);
        let is_users = !due.is_empty();
        self.dial_them(swarm, due, now);
        for _ in 0..self.lacks() {
            let chosen = self.shared.book().choose(now);
            let Some(candidate) = chosen else {
                break;
            };
            self.dial_candidate(swarm, candidate, now);
        }
        if is_users {
            // It may be full: the first words to it are a question for others, which it answers all the same.
            self.look(swarm, now);
        }
    }

    /// Dials peers at all that is known of where they are. Of that the word of the user goes, and what was proven; all else, which strangers may have told, passes the
    /// address policy.
    fn dial_them(&mut self, swarm: &mut Swarm<Guarded<Behaviour>>, due: Vec<Due>, now: Instant) {
        for due in due {
            let mut book = self.shared.book();
            book.dials(due.peer, now);
            let known = book.candidate(&due.peer);
            drop(book);
            let (known, proven) =
                known.map_or_else(Default::default, |known| (known.addresses, known.proven));
            let mut addresses = self.dialing.addresses(&due.peer);
            let gate = &swarm.behaviour().gate;
            let users = self.dialing.users_addresses(&due.peer);
            let vouched = users.iter().chain(&proven);
            vouched.for_each(|address| gate.vouch(address));
            for address in due.addresses.into_iter().chain(known) {
                if !addresses.contains(&address) {
                    addresses.push(address);
                }
            }
            let options = DialOpts::peer_id(due.peer).addresses(addresses);
            // Later failures arrive as events; at once it fails where the peer is connected or being dialled.
            if swarm.dial(options.build()).is_err() {
                self.dialing.failed(&due.peer, now);
                self.duties.failed(&due.peer, now);
                self.shared.book().failed(due.peer, false, now);
            }
        }
    }

    /// A connection is there, whoever dialled.
    pub(crate) fn connected(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        endpoint: &ConnectedPoint,
        now: Instant,
    ) {
        let (remote, outbound) = (endpoint.get_remote_address(), endpoint.is_dialer());
        self.shared.book().connected(peer, remote, outbound, now);
        self.wish_connected(peer, connection, now);
        self.from_book.dialled(&peer);
        self.duties.connected(&peer, outbound, now);
    }

    /// A dial failed; whether that is news: it is none where the peer is connected by another way, or the user has given it up.
    pub(crate) fn failed(
        &mut self,
        connection: ConnectionId,
        peer: Option<PeerId>,
        error: &DialError,
        now: Instant,
    ) -> bool {
        let stage = peer.and_then(|peer| self.shared.peers().stage(&peer));
        if let Some(peer) = &peer {
            self.dialing.failed(peer, now);
            self.duties.failed(peer, now);
            self.from_book.dialled(peer);
            if stage.is_none() {
                self.from_book.gone(peer);
                // Where none is reached it may well be this node that is offline.
                let is_online = self.shared.peers().outbound() > 0;
                let mut book = self.shared.book();
                let counts = is_online && is_theirs(error, |address| book.knows(peer, address));
                book.failed(*peer, counts, now);
            }
        }
        let known = peer.filter(|_| stage.is_some());
        self.wish_failed(connection, known, &dial_reason(error)) && stage.is_none()
    }

    /// What this node sees of the internet.
    pub(crate) fn outlook(&self) -> Outlook {
        let is_users = |peer: &PeerId| self.dialing.knows(peer) || self.duties.is_on_duty(peer);
        self.shared.book().outlook(is_users)
    }

    /// A peer is ready.
    pub(crate) fn ready(&mut self, info: &PeerInfo, now: Instant) {
        let peer = &info.peer_id;
        if info.selkie
            && info.direction == Some(Direction::Outbound)
            && let Some(address) = info.addresses.first()
        {
            self.shared.book().reached(*peer, address, now);
        }
        // It may know others.
        (self.look_at, self.look_pause) = (now, LOOK.0);
        self.dialing.ready(peer);
        self.duties.ready(peer);
        self.lets_go(*peer);
        let is_awaited = self.wishes.ready(*peer);
        self.ready_from_book(peer, is_awaited);
    }

    /// A peer that refuses us says after what time it is of use to come again: an hour at most is believed.
    pub(crate) fn waits(&mut self, peer: &PeerId, time: Duration, now: Instant) {
        let time = time.min(MOST_WAITED);
        self.dialing.waits(peer, time);
        self.duties.waits(peer, time, now);
        self.shared.book().waits(peer, time, now);
    }

    /// A peer is about to refuse us since it has no place for us, as far as can be told.
    pub(crate) fn is_full(&mut self, peer: &PeerId) {
        self.dialing.is_full(peer);
    }

    /// A peer was refused, or refused us.
    pub(crate) fn refused(&mut self, peer: &PeerId, reason: &str, now: Instant) {
        self.dialing.refused(peer);
        self.shared.book().refused(peer, now);
        self.wishes.refused(peer, reason);
    }

    /// A peer's last connection ended.
    pub(crate) fn gone(
        &mut self,
        swarm: &mut Swarm<Guarded<Behaviour>>,
        peer: &PeerId,
        reason: &str,
        now: Instant,
    ) {
        self.dialing.gone(peer, now);
        self.duties.gone(peer, now);
        self.shared.book().gone(*peer, now);
        self.from_book.gone(peer);
        self.look_pause = LOOK.0;
        self.wishes.refused(peer, reason);
        self.wish_gone(swarm, peer, now);
    }
}

/// Whether a dial failed for a reason that lies with the peer, or with who told of it: it was tried in earnest at an address that is `known` for it.
fn is_theirs(error: &DialError, known: impl Fn(&Multiaddr) -> bool) -> bool {
    match error {
        DialError::Transport(attempts) => attempts
            .iter()
            .any(|(address, error)| known(address) && !is_refused_here(error)),
        DialError::WrongPeerId { address, .. } => known(address),
        _ => false,
    }
}

#[cfg(test)]
mod tests;
