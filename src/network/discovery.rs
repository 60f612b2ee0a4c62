//! What finds peers, and the one place that dials.
//!
//! It drives [`Dialing`] and the [`AddressBook`](crate::peers::AddressBook): bootstrap peers, those that the user has dialled, neighbours found by mDNS, and then peers of
//! the book are dialled
//! whenever fewer than `kademlia_config.wanted_peers` were dialled with success. What peers name, in the DHT's answers and in exchanges, and what they say of
//! themselves goes into the book, and so does what becomes of each dial. While peers are wanted, they are asked for others: connected
//! ones at pauses of [`LOOK`], and each of the user's whenever it is dialled, since one that is full answers before it turns away. At most
//! half of the places are taken that way, and never the last one: it is kept for who comes. So a network of small nodes stays
//! open, since a node that found everybody full would have been the last to dial, and has a place itself. A
//! lookup of Kademlia's meets only whom this place dials. The user's dials pass here too, each answered when the peer is ready, refused or out of
//! reach. One dial takes all addresses that are known of a peer, so that several of them end in one connection. A peer that is being let go is
//! dialled when it is gone, so that no answer speaks of a connection that ends.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use libp2p::{
    Multiaddr, PeerId, Swarm,
    core::ConnectedPoint,
    multiaddr::Protocol,
    swarm::{
        ConnectionId, DialError,
        dial_opts::{DialOpts, PeerCondition},
    },
};
use tokio::sync::oneshot;

use super::{
    behaviour::Behaviour,
    guarded::Guarded,
    reasons::{OWN_ADDRESS, dial_reason},
    shared::{DialReply, Shared},
};
use crate::{
    config::{Config, modern},
    error::NetworkError,
    peers::{Candidate, Dialing, Direction, Due, NetworkGroup, PeerInfo, Stage, Teller},
    platform::{self, Instant},
    transport::is_refused_here,
};

/// The first and the longest pause between two lookups while peers are wanted.
const LOOK: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// How often a node that has the peers it wants dials one more.
const ACROSS: Duration = Duration::from_secs(300);
/// How many peers more than it wants a node gets from dialling those of the book so, and how often one of them makes room for another.
const MORE: usize = 2;
const CHANGE: Duration = Duration::from_secs(1800);
/// Why it does.
const CHANGED: &str = "its place goes to another, as one does each half hour";
/// How often it dials one only to see whether it is there.
const FEEL: Duration = Duration::from_secs(120);
/// Why such a one is let go.
const FELT: &str = "it was dialled only to see whether it is there";

/// See the module's documentation.
pub(crate) struct Discovery {
    shared: Arc<Shared>,
    dialing: Dialing,
    /// Peers of the book that are dialled.
    chosen: BTreeSet<PeerId>,
    /// Peers that are dialled, or connected, only to see whether they are there.
    felt: BTreeSet<PeerId>,
    /// The one that is dialled for another to make room.
    changed: Option<PeerId>,
    /// Peers that are dialled by itself.
    wanted: usize,
    /// Whether one place is left for who comes.
    keeps_one: bool,
    /// When is the next lookup, the pause after it, and whether it is for our own neighbourhood.
    across_at: Instant,
    feel_at: Instant,
    change_at: Instant,
    look_at: Instant,
    look_pause: Duration,
    looks_near: bool,
    /// The user's dials under way.
    dials: HashMap<ConnectionId, Wish>,
    /// Who waits for a connected peer to be ready.
    waiting: BTreeMap<PeerId, Vec<DialReply>>,
    /// Dials of peers that are being let go.
    parked: BTreeMap<PeerId, Vec<Wish>>,
    /// Who waits for a peer to be gone.
    partings: BTreeMap<PeerId, Vec<oneshot::Sender<()>>>,
}

/// A dial that the user wants.
struct Wish {
    peer: Option<PeerId>,
    addresses: Vec<Multiaddr>,
    reply: DialReply,
}

impl Wish {
    fn fails(self, reason: String) {
        let target = match (self.addresses.as_slice(), self.peer) {
            ([address], _) => address.to_string(),
            (_, Some(peer)) => peer.to_string(),
            (_, None) => "a peer".to_owned(),
        };
        let _ = self.reply.send(Err(NetworkError::Dial { target, reason }));
    }
}

impl Discovery {
    /// Knows nobody yet. `seed` is random and secret.
    pub(crate) fn new(own: PeerId, config: &Config, shared: Arc<Shared>, seed: &[u8; 16]) -> Self {
        let most = config.network.max_peers;
        let wanted = config.protocol.kademlia_config.wanted_peers;
        Self {
            shared,
            dialing: Dialing::new(own, seed),
            chosen: BTreeSet::new(),
            felt: BTreeSet::new(),
            changed: None,
            wanted: wanted.min(most.div_ceil(2)),
            keeps_one: most > 2,
            across_at: platform::now() + ACROSS,
            feel_at: platform::now() + FEEL,
            change_at: platform::now() + CHANGE,
            look_at: platform::now(),
            look_pause: LOOK.0,
            looks_near: true,
            dials: HashMap::new(),
            waiting: BTreeMap::new(),
            parked: BTreeMap::new(),
            partings: BTreeMap::new(),
        }
    }

    /// The user's dial of an address, with or without the peer's identity at its end.
    pub(crate) fn dial(
        &mut self,
        swarm: &mut Swarm<Guarded<Behaviour>>,
        address: Multiaddr,
        reply: DialReply,
        now: Instant,
    ) {
        let peer = match address.iter().last() {
            Some(Protocol::P2p(peer)) => Some(peer),
            _ => None,
        };
        let wish = Wish {
            peer,
            addresses: vec![address],
            reply,
        };
        self.dial_wish(swarm, wish, now);
    }

    /// A bootstrap peer, with all addresses that the configuration has of it.
    pub(crate) fn dial_seed(
        &mut self,
        swarm: &mut Swarm<Guarded<Behaviour>>,
        seed: &PeerInfo,
        reply: DialReply,
        now: Instant,
    ) {
        let addresses: Vec<_> = seed
            .dial_addresses()
            .map(|address| modern(&address))
            .collect();
        for address in &addresses {
            let address = address.clone();
            self.dialing.told(Teller::User, seed.peer_id, address, now);
        }
        let wish = Wish {
            peer: Some(seed.peer_id),
            addresses,
            reply,
        };
        self.dial_wish(swarm, wish, now);
        // As in `dial_due`.
        self.look(swarm, now);
    }

    /// The user knows of a peer, to be dialled when more are wanted.
    pub(crate) fn added(&mut self, peer: PeerId, address: Multiaddr, now: Instant) {
        self.dialing.told(Teller::User, peer, address, now);
        self.dialing.wanted(&peer, now);
        if self.shared.peers().stage(&peer).is_some() {
            self.dialing.connected(&peer);
        }
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
        if !self.dialing.is_dialling(&peer) && !self.chosen.contains(&peer) {
            swarm.behaviour_mut().routing.not_met(peer);
        }
    }

    /// Peers of the local network.
    pub(crate) fn found(
        &mut self,
        swarm: &mut Swarm<Guarded<Behaviour>>,
        peers: &[PeerInfo],
        now: Instant,
    ) {
        for peer in peers {
            for address in &peer.addresses {
                let (teller, address) = (Teller::LocalNetwork, address.clone());
                self.dialing.told(teller, peer.peer_id, address, now);
            }
            let source = peer.addresses.first().map(NetworkGroup::of_teller);
            let source = source.unwrap_or(NetworkGroup::Fleeting);
            let mut book = self.shared.book();
            book.told(source, peer.peer_id, &peer.addresses, now);
            drop(book);
            let stage = self.shared.peers().stage(&peer.peer_id);
            // Whom the user lets go stays away, also where it is found before it is gone.
            if stage.is_some_and(|stage| stage != Stage::Ending) {
                self.dialing.connected(&peer.peer_id);
            }
        }
        self.dial_due(swarm, now);
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

    /// How many are being dialled.
    fn dialling(&self) -> usize {
        self.dialing.dialling() + self.chosen.len()
    }

    /// Dials whom it is time to dial, where peers are wanted, and asks for others.
    pub(crate) fn on_time(&mut self, swarm: &mut Swarm<Guarded<Behaviour>>, now: Instant) {
        self.dial_due(swarm, now);
        if now >= self.across_at {
            self.dial_across(swarm, now);
        }
        if now >= self.feel_at {
            self.feel(swarm, now);
        }
        if now >= self.look_at {
            self.look(swarm, now);
        }
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

    /// Dials whom it is time to dial, where peers are wanted: the user's and neighbours, and then those of the book.
    fn dial_due(&mut self, swarm: &mut Swarm<Guarded<Behaviour>>, now: Instant) {
        let lacks = self.lacks();
        if lacks == 0 {
            return;
        }
        let due = self.dialing.due(lacks, Teller::LocalNetwork, now);
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

    /// A node that has all the peers it wants still dials one more now and then: of the user's, and else, up to [`MORE`], of
    /// the book, and then, seldomer, one in the place of another. Where a network was cut in two, its halves find each other again by those that both know.
    fn dial_across(&mut self, swarm: &mut Swarm<Guarded<Behaviour>>, now: Instant) {
        self.across_at = now + ACROSS;
        if !self.has_room_beyond() {
            return;
        }
        let due = self.dialing.due(1, Teller::User, now);
        let dials_users = !due.is_empty();
        self.dial_them(swarm, due, now);
        let has_all = self.shared.peers().outbound() >= self.wanted + MORE;
        if dials_users || has_all && now < self.change_at {
            return;
        }
        let chosen = self.shared.book().choose(now);
        if let Some(candidate) = chosen {
            if has_all {
                self.change_at = now + CHANGE;
                self.changed = Some(candidate.peer);
            }
            self.dial_candidate(swarm, candidate, now);
        }
    }

    /// And one only to see whether it is there, so that the book knows good ones when they are wanted.
    fn feel(&mut self, swarm: &mut Swarm<Guarded<Behaviour>>, now: Instant) {
        self.feel_at = now + FEEL;
        let feeler = if self.has_room_beyond() {
            self.shared.book().feeler(now)
        } else {
            None
        };
        if let Some(candidate) = feeler {
            let peer = candidate.peer;
            self.felt.insert(peer);
            self.dial_candidate(swarm, candidate, now);
        }
    }

    /// Whether it has all that it wants, and places still.
    fn has_room_beyond(&self) -> bool {
        let free = self.shared.peers().free();
        self.wanted > 0 && self.lacks() == 0 && free > usize::from(self.keeps_one)
    }

    fn dial_them(&mut self, swarm: &mut Swarm<Guarded<Behaviour>>, due: Vec<Due>, now: Instant) {
        for due in due {
            let gate = &swarm.behaviour().gate;
            due.addresses.iter().for_each(|address| gate.vouch(address));
            let mut book = self.shared.book();
            book.dials(due.peer, now);
            let known = book.candidate(&due.peer);
            drop(book);
            // What others told of it is dialled too, as far as the policy lets it.
            let known = known.into_iter().flat_map(|known| known.addresses);
            let mut addresses = due.addresses;
            let new = known.filter(|known| !addresses.contains(known));
            addresses.extend(new.collect::<Vec<_>>());
            let options = DialOpts::peer_id(due.peer).addresses(addresses);
            // Later failures arrive as events; at once it fails where the peer is connected or being dialled.
            if swarm.dial(options.build()).is_err() {
                self.dialing.failed(&due.peer, now);
                self.shared.book().failed(due.peer, false, now);
            }
        }
    }

    /// Dials a peer of the book, which takes it for being dialled.
    fn dial_candidate(
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
            self.felt.remove(&peer);
            let mut book = self.shared.book();
            book.failed(peer, false, now);
            if is_let_go {
                book.forget(&peer);
            }
        } else if self.dialing.knows(&peer) {
            self.dialing.dials(&peer);
        } else {
            self.chosen.insert(peer);
        }
    }

    /// The user wants a peer gone; to be let go by the table.
    pub(crate) fn parts(&mut self, peer: PeerId, reply: oneshot::Sender<()>) {
        self.dialing.dismissed(&peer);
        self.partings.entry(peer).or_default().push(reply);
    }

    /// A connection is there, whoever dialled.
    pub(crate) fn connected(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        endpoint: &ConnectedPoint,
        now: Instant,
    ) {
        self.chosen.remove(&peer);
        let (remote, outbound) = (endpoint.get_remote_address(), endpoint.is_dialer());
        self.shared.book().connected(peer, remote, outbound, now);
        let wish = self.dials.remove(&connection);
        if let Some(wish) = &wish {
            self.reached(peer, &wish.addresses, now);
        }
        self.dialing.connected(&peer);
        if let Some(wish) = wish {
            self.await_ready(peer, wish.reply);
        }
    }

    /// Whom the user has dialled is one of the user's peers from now on, and dialled again when it is lost.
    fn reached(&mut self, peer: PeerId, addresses: &[Multiaddr], now: Instant) {
        for address in addresses {
            self.dialing.told(Teller::User, peer, address.clone(), now);
        }
    }

    /// A dial failed; whether that is news: it is none where the peer is connected by another way.
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
            self.chosen.remove(peer);
            if stage.is_none() {
                self.felt.remove(peer);
                // Where none is reached it may well be this node that is offline.
                let is_online = self.shared.peers().outbound() > 0;
                let mut book = self.shared.book();
                let counts = is_online && is_theirs(error, |address| book.knows(peer, address));
                book.failed(*peer, counts, now);
            }
        }
        if let Some(wish) = self.dials.remove(&connection) {
            match (peer, stage) {
                (Some(peer), Some(Stage::Ending)) => {
                    self.parked.entry(peer).or_default().push(wish)
                }
                (Some(peer), Some(_)) => self.await_ready(peer, wish.reply),
                _ => wish.fails(dial_reason(error)),
            }
        }
        stage.is_none()
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
        let waiters = self.waiting.remove(peer).unwrap_or_default();
        let is_felt = self.felt.remove(peer) && waiters.is_empty() && !self.dialing.knows(peer);
        for waiter in waiters {
            let _ = waiter.send(Ok(*peer));
        }
        if is_felt && self.shared.peers().outbound() > self.wanted {
            self.shared.peers().let_go(*peer, FELT.to_owned());
        } else if self.changed == Some(*peer) {
            self.changed = None;
            let may_go = |other: &PeerId| other != peer && !self.dialing.knows(other);
            let leaves = self.shared.book().gives_way(may_go);
            if let Some(leaves) = leaves
                && self.shared.peers().outbound() > self.wanted + MORE
            {
                self.shared.peers().let_go(leaves, CHANGED.to_owned());
            }
        }
    }

    /// A peer was refused, or refused us.
    pub(crate) fn refused(&mut self, peer: &PeerId, reason: &str, now: Instant) {
        self.dialing.refused(peer);
        self.shared.book().refused(peer, now);
        self.fail_waiting(peer, reason);
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
        self.shared.book().gone(*peer, now);
        self.felt.remove(peer);
        self.look_pause = LOOK.0;
        self.fail_waiting(peer, reason);
        for parting in self.partings.remove(peer).unwrap_or_default() {
            let _ = parting.send(());
        }
        for wish in self.parked.remove(peer).unwrap_or_default() {
            self.dial_wish(swarm, wish, now);
        }
    }

    fn fail_waiting(&mut self, peer: &PeerId, reason: &str) {
        for waiter in self.waiting.remove(peer).unwrap_or_default() {
            let (target, reason) = (peer.to_string(), reason.to_owned());
            let _ = waiter.send(Err(NetworkError::Dial { target, reason }));
        }
    }

    /// Whatever becomes of it, a target is left connected, being dialled, or due.
    fn dial_wish(&mut self, swarm: &mut Swarm<Guarded<Behaviour>>, wish: Wish, now: Instant) {
        // TCP would connect the listening socket to itself, and both ends would wait for a listener's words.
        let own = wish.peer == Some(*swarm.local_peer_id()) || {
            let state = self.shared.state();
            wish.addresses
                .iter()
                .any(|address| state.listeners.contains(address))
        };
        if own {
            return wish.fails(OWN_ADDRESS.to_owned());
        }
        let options = match wish.peer {
            Some(peer) => {
                self.dialing.wanted(&peer, now);
                let stage = self.shared.peers().stage(&peer);
                if stage.is_some() {
                    // Where it came by itself.
                    self.reached(peer, &wish.addresses, now);
                    self.dialing.connected(&peer);
                }
                match stage {
                    Some(Stage::Leaving | Stage::Ending) => {
                        return self.parked.entry(peer).or_default().push(wish);
                    }
                    Some(_) => return self.await_ready(peer, wish.reply),
                    None => DialOpts::peer_id(peer)
                        .addresses(wish.addresses.clone())
                        .condition(PeerCondition::Always)
                        .build(),
                }
            }
            None => match wish.addresses.first() {
                Some(address) => DialOpts::unknown_peer_id().address(address.clone()).build(),
                None => return wish.fails(dial_reason(&DialError::NoAddresses)),
            },
        };
        let gate = &swarm.behaviour().gate;
        wish.addresses
            .iter()
            .for_each(|address| gate.vouch(address));
        let connection = options.connection_id();
        match swarm.dial(options) {
            Ok(()) => {
                if let Some(peer) = wish.peer {
                    self.dialing.dials(&peer);
                    self.shared.book().dials(peer, now);
                }
                self.dials.insert(connection, wish);
            }
            Err(error) => wish.fails(dial_reason(&error)),
        }
    }

    /// Answers a dial when the connected peer is ready, or refused.
    fn await_ready(&mut self, peer: PeerId, reply: DialReply) {
        if self.shared.peers().is_shown(&peer) {
            let _ = reply.send(Ok(peer));
        } else {
            self.waiting.entry(peer).or_default().push(reply);
        }
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
mod tests {
    use std::{io, sync::Mutex};

    use libp2p::{
        TransportError,
        core::{
            Endpoint,
            transport::{PortUse, dummy::DummyTransport},
        },
        identity::Keypair,
        relay, swarm,
    };

    use super::*;
    use crate::{
        chain::{Opaque, rules::Synchronous},
        network::behaviour::MAX_DIALS,
        peers::{AddressBook, AddressPolicy, RefusedAddress},
        platform::test,
        transport::{self, Boxed},
    };

    /// A node that dials and never hears what becomes of it.
    fn deaf() -> (Swarm<Guarded<Behaviour>>, Discovery) {
        let (config, keypair) = (Config::default(), Keypair::generate_ed25519());
        let own = keypair.public().to_peer_id();
        let book = AddressBook::new(own, |_| true, [7; 32], platform::now());
        let rules = Arc::new(Synchronous::new(Arc::new(Opaque)));
        let shared = Arc::new(Shared::new(rules, &config, book));
        let policy = Arc::new(Mutex::new(AddressPolicy::new(own, true)));
        let (_, circuits) = relay::client::new(own);
        let local = transport::local_discovery(&config, own).expect("off");
        let known = (policy, Arc::clone(&shared.table));
        let behaviour =
            Behaviour::new(&config, &keypair, circuits, local, known, false).expect("right");
        let nowhere: Boxed = libp2p::Transport::boxed(DummyTransport::new());
        let discovery = Discovery::new(own, &config, shared, &[7; 16]);
        let config = swarm::Config::with_executor(|_| {});
        (
            Swarm::new(nowhere, Guarded::new(behaviour), own, config),
            discovery,
        )
    }

    #[test]
    fn a_seed_whose_dial_fails_at_once_is_dialled_again() {
        let ((mut swarm, mut discovery), now) = (deaf(), platform::now());
        let address = |port: u32| -> Multiaddr {
            let text = format!("/ip4/192.0.2.1/tcp/{port}");
            text.parse().expect("an address")
        };
        for port in 1..=MAX_DIALS {
            let (reply, _) = oneshot::channel();
            discovery.dial(&mut swarm, address(port), reply, now);
        }
        assert_eq!(discovery.dials.len(), MAX_DIALS as usize);
        let seed = PeerInfo {
            addresses: vec![address(1000)],
            ..PeerInfo::new(PeerId::random())
        };
        let (reply, mut answer) = oneshot::channel();
        discovery.dial_seed(&mut swarm, &seed, reply, now);
        let answered = answer.try_recv().expect("it is said at once");
        assert!(matches!(answered, Err(NetworkError::Dial { .. })));
        let due = discovery.dialing.due(1, Teller::User, now);
        assert_eq!(
            due.len(),
            1,
            "it is not taken for one that is being dialled"
        );
    }

    fn seed() -> PeerInfo {
        PeerInfo {
            addresses: vec!["/ip4/1.2.3.4/tcp/1000".parse().expect("an address")],
            ..PeerInfo::new(PeerId::random())
        }
    }

    #[test]
    fn a_seed_that_was_full_is_asked_for_others_when_it_is_dialled_again() {
        let ((mut swarm, mut discovery), now) = (deaf(), platform::now());
        let seed = seed();
        discovery.added(seed.peer_id, seed.addresses[0].clone(), now);
        discovery.dialing.connected(&seed.peer_id);
        discovery.refused(&seed.peer_id, "it is full", now);
        discovery.gone(&mut swarm, &seed.peer_id, "it is full", now);
        // No lookup is due by itself.
        discovery.look_at = now + Duration::from_secs(3600);
        for (seconds, looks) in [(59, 0), (60, 1)] {
            discovery.on_time(&mut swarm, now + Duration::from_secs(seconds));
            assert_eq!(swarm.behaviour_mut().routing.lookups(), looks, "{seconds}");
        }
    }

    #[test]
    fn whom_the_user_has_dialled_is_dialled_again_when_it_is_lost() {
        let ((mut swarm, mut discovery), now) = (deaf(), platform::now());
        let (peer, address) = (PeerId::random(), seed().addresses[0].clone());
        let (reply, _) = oneshot::channel();
        discovery.dial(&mut swarm, address.clone(), reply, now);
        let connection = *discovery.dials.keys().next().expect("it is dialled");
        let endpoint = ConnectedPoint::Dialer {
            address: address.clone(),
            role_override: Endpoint::Dialer,
            port_use: PortUse::Reuse,
        };
        discovery.connected(peer, connection, &endpoint, now);
        discovery.gone(&mut swarm, &peer, "it is gone", now);
        let due = discovery.dialing.due(1, Teller::User, now + LOOK.0);
        let due: Vec<_> = due
            .into_iter()
            .map(|due| (due.peer, due.addresses))
            .collect();
        assert_eq!(due, [(peer, vec![address])]);
    }

    /// Tells of a peer at this port, and says who it is.
    fn told(discovery: &Discovery, port: u16, now: Instant) -> PeerId {
        let address = format!("/ip4/1.{port}.3.4/tcp/1000");
        let address = address.parse().expect("an address");
        let mut book = discovery.shared.book();
        loop {
            let peer = PeerId::random();
            // Another may have its place.
            if book.told(
                NetworkGroup::Fleeting,
                peer,
                std::slice::from_ref(&address),
                now,
            ) {
                return peer;
            }
        }
    }

    #[test]
    fn a_node_that_has_all_its_peers_dials_some_of_the_book_now_and_then() {
        let ((mut swarm, mut discovery), now) = (deaf(), platform::now());
        // None but this one: nobody lacks.
        discovery.wanted = 1;
        told(&discovery, 1, now);
        discovery.on_time(&mut swarm, now);
        assert_eq!(discovery.chosen.len(), 1);
        for port in 2..20 {
            told(&discovery, port, now);
        }
        discovery.on_time(&mut swarm, now + FEEL / 2);
        assert_eq!(discovery.chosen.len(), 1);
        let second = Duration::from_secs(1);
        discovery.on_time(&mut swarm, now + FEEL + second);
        assert_eq!((discovery.chosen.len(), discovery.felt.len()), (2, 1));
        discovery.on_time(&mut swarm, now + ACROSS + second);
        assert_eq!((discovery.chosen.len(), discovery.felt.len()), (4, 2));
    }

    #[test]
    fn a_dial_that_says_nothing_of_where_a_peer_is_does_not_count_against_it() {
        let ((_, mut discovery), now) = (deaf(), platform::now());
        let peer = told(&discovery, 1, now);
        let known = discovery.shared.book().candidate(&peer);
        let known = known.expect("it was told of").addresses[0].clone();
        let elsewhere = seed().addresses[0].clone();
        // This node is online.
        let other = PeerInfo {
            direction: Some(Direction::Outbound),
            ..PeerInfo::new(PeerId::random())
        };
        let [first, second] = [1, 2].map(ConnectionId::new_unchecked);
        discovery.shared.peers().connected(first, other, now);
        let silent = io::Error::from(io::ErrorKind::TimedOut);
        let ours = io::Error::other(RefusedAddress::Recently);
        let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
        let rows = [
            (&elsewhere, silent, 0),
            (&known, ours, 0),
            (&known, refused, 1),
        ];
        for (address, error, counted) in rows {
            let attempt = (address.clone(), TransportError::Other(error));
            let error = DialError::Transport(vec![attempt]);
            discovery.failed(second, Some(peer), &error, now);
            let book = discovery.shared.book();
            let failures: u32 = book.peers().map(|known| known.failures).sum();
            assert_eq!(failures, counted, "{error}");
        }
    }

    #[test]
    fn whom_the_user_let_go_is_not_dialled_from_the_book() {
        let ((mut swarm, mut discovery), now) = (deaf(), platform::now());
        let peer = told(&discovery, 1, now);
        discovery.dialing.dismissed(&peer);
        discovery.on_time(&mut swarm, now);
        assert!(discovery.chosen.is_empty());
        assert_eq!(discovery.shared.book().counts(), (0, 0));
    }

    #[test]
    fn the_book_is_asked_as_soon_as_fewer_were_dialled_than_are_wanted() {
        let ((mut swarm, mut discovery), now) = (deaf(), platform::now());
        discovery.wanted = 3;
        for port in 1..10 {
            told(&discovery, port, now);
        }
        discovery.on_time(&mut swarm, now);
        assert_eq!(discovery.chosen.len(), 3, "as many as are wanted");
        let first = *discovery.chosen.first().expect("three");
        let error = DialError::Aborted;
        let connection = ConnectionId::new_unchecked(1);
        discovery.failed(connection, Some(first), &error, now);
        assert_eq!(discovery.chosen.len(), 2);
        discovery.on_time(&mut swarm, now);
        assert!(discovery.chosen.len() == 3 && !discovery.chosen.contains(&first));
    }
}
