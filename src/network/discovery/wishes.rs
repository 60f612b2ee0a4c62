//! The user's dials, each answered when the peer is ready, refused or out of reach, and the user's partings.
//!
//! A dial whose caller has gone away is given up, and where it was under way already its peer let go.
//! A peer that is being let go is dialled when it is gone, so that no answer speaks of a connection that ends. Whom the user has dialled is one of
//! the user's peers from then on ([`Dialing`](crate::peers::Dialing)). Bounds: the commands under way, each of which somebody waits for, and the dials that the swarm
//! lets go on at once.

use std::collections::{BTreeMap, HashMap};

use libp2p::{
    Multiaddr, PeerId, Swarm,
    multiaddr::Protocol,
    swarm::{
        ConnectionId, DialError,
        dial_opts::{DialOpts, PeerCondition},
    },
};
use tokio::sync::oneshot;

use super::Discovery;
use crate::{
    config::modern,
    error::NetworkError,
    network::{
        behaviour::Behaviour,
        guarded::Guarded,
        reasons::{OWN_ADDRESS, dial_reason},
        shared::DialReply,
    },
    peers::{PeerInfo, Stage},
    platform::Instant,
};

/// Why a peer is let go whose dial was given up before it was ready.
pub(super) const GIVEN_UP: &str = "its dial was given up";
/// Why one that the user wants gone.
const PARTED: &str = "disconnected by this node's user";

/// See the module's documentation.
#[derive(Default)]
pub(super) struct Wishes {
    /// Those under way.
    pub(super) dials: HashMap<ConnectionId, Wish>,
    /// Who waits for a connected peer to be ready.
    waiting: BTreeMap<PeerId, Vec<Wish>>,
    /// Dials of peers that are being let go.
    parked: BTreeMap<PeerId, Vec<Wish>>,
    /// Who waits for a peer to be gone.
    partings: BTreeMap<PeerId, Vec<oneshot::Sender<()>>>,
}

/// A dial that the user wants.
pub(super) struct Wish {
    peer: Option<PeerId>,
    addresses: Vec<Multiaddr>,
    reply: DialReply,
    /// Whether the peer is one of the user's by this dial alone.
    is_new: bool,
}

impl Wish {
    /// Whether nobody waits for it any more.
    fn is_given_up(&self) -> bool {
        self.reply.is_closed()
    }

    fn fails(self, reason: String) {
        let target = match (self.addresses.as_slice(), self.peer) {
            ([address], _) => address.to_string(),
            (_, Some(peer)) => peer.to_string(),
            (_, None) => "a peer".to_owned(),
        };
        let _ = self.reply.send(Err(NetworkError::Dial { target, reason }));
    }
}

impl Wishes {
    /// A peer is ready; whether anybody waited for that.
    pub(super) fn ready(&mut self, peer: PeerId) -> bool {
        let waiters = self.waiting.remove(&peer).unwrap_or_default();
        let is_awaited = !waiters.is_empty();
        for waiter in waiters {
            let _ = waiter.reply.send(Ok(peer));
        }
        is_awaited
    }

    /// A peer was refused, or refused us, or is gone.
    pub(super) fn refused(&mut self, peer: &PeerId, reason: &str) {
        for waiter in self.waiting.remove(peer).unwrap_or_default() {
            let (target, reason) = (peer.to_string(), reason.to_owned());
            let failed = Err(NetworkError::Dial { target, reason });
            let _ = waiter.reply.send(failed);
        }
    }
}

impl Discovery {
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
            is_new: false,
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
            self.users(seed.peer_id, address, now);
        }
        let wish = Wish {
            peer: Some(seed.peer_id),
            addresses,
            reply,
            is_new: false,
        };
        self.dial_wish(swarm, wish, now);
        // As in `dial_due`.
        self.look(swarm, now);
    }

    /// The user wants a peer gone that is here.
    pub(crate) fn parts(&mut self, peer: PeerId, reply: oneshot::Sender<()>) {
        self.dismiss(peer, PARTED);
        self.wishes.partings.entry(peer).or_default().push(reply);
    }

    /// Lets a peer go, which is none of the user's until somebody asks for it again.
    fn dismiss(&mut self, peer: PeerId, reason: &str) {
        self.dialing.dismissed(&peer);
        let mut peers = self.shared.peers();
        peers.is_users(peer, false);
        peers.let_go(peer, reason.to_owned());
    }

    /// Whom the user has dialled is one of the user's peers from now on, and dialled again when it is lost.
    fn reached(&mut self, peer: PeerId, addresses: &[Multiaddr], now: Instant) {
        for address in addresses {
            self.users(peer, address.clone(), now);
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
                    return self.await_ready(peer, wish);
                }
                DialOpts::peer_id(peer)
                    .addresses(wish.addresses.clone())
                    .condition(PeerCondition::Always)
                    .build()
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
                self.wishes.dials.insert(connection, wish);
            }
            Err(error) => wish.fails(dial_reason(&error)),
        }
    }

    /// Answers a dial when the connected peer is ready, or refused. Where it is being let go, whatever connections it has end with that, a new
    /// one too: it is dialled when they are gone.
    fn await_ready(&mut self, peer: PeerId, wish: Wish) {
        let peers = self.shared.peers();
        let (stage, is_shown) = (peers.stage(&peer), peers.is_shown(&peer));
        drop(peers);
        match stage {
            Some(Stage::Leaving | Stage::Ending) => {
                self.wishes.parked.entry(peer).or_default().push(wish);
            }
            _ if is_shown => drop(wish.reply.send(Ok(peer))),
            _ => self.wishes.waiting.entry(peer).or_default().push(wish),
        }
    }

    /// A connection is there, whoever dialled.
    pub(super) fn wish_connected(&mut self, peer: PeerId, connection: ConnectionId, now: Instant) {
        let wish = self.wishes.dials.remove(&connection);
        let wish = wish.map(|wish| Wish {
            is_new: !self.dialing.knows(&peer),
            ..wish
        });
        match wish {
            Some(wish) if wish.is_given_up() => {
                self.dialing.connected(&peer);
                let mut peers = self.shared.peers();
                // It may be here by another way.
                let is_first = peers.stage(&peer) == Some(Stage::Greeting);
                let is_chosen = self.from_book.is_dialling(&peer) || self.duties.is_on_duty(&peer);
                if wish.is_new && is_first && !is_chosen && !self.is_awaited(&peer) {
                    peers.let_go(peer, GIVEN_UP.to_owned());
                }
            }
            Some(wish) => {
                self.reached(peer, &wish.addresses, now);
                self.dialing.connected(&peer);
                self.await_ready(peer, wish);
            }
            None => self.dialing.connected(&peer),
        }
    }

    /// Whether somebody still waits for a connected peer to be ready, or gone.
    fn is_awaited(&self, peer: &PeerId) -> bool {
        let waiting = self.wishes.waiting.get(peer).into_iter().flatten();
        let parked = self.wishes.parked.get(peer).into_iter().flatten();
        waiting.chain(parked).any(|wish| !wish.is_given_up())
    }

    /// Lets a peer go that is not ready yet, and is here by dials alone that were given up since. Whether it was so.
    pub(crate) fn lets_go(&mut self, peer: PeerId) -> bool {
        let is_given_up = self.wishes.waiting.get(&peer).is_some_and(|wishes| {
            wishes.iter().all(Wish::is_given_up) && wishes.iter().any(|wish| wish.is_new)
        });
        let is_let_go = is_given_up && !self.duties.is_on_duty(&peer);
        if is_let_go {
            self.dismiss(peer, GIVEN_UP);
        }
        is_let_go
    }

    /// Ends dials that were given up, as far as they are of a peer that nobody else wants.
    pub(super) fn abort_given_up(&mut self, swarm: &mut Swarm<Guarded<Behaviour>>) {
        let dials = self.wishes.dials.values();
        let given_up = dials.filter(|wish| wish.is_given_up());
        for peer in given_up.filter_map(|wish| wish.peer) {
            self.abort_unwanted(swarm, peer);
        }
        let greeting: Vec<_> = self.wishes.waiting.keys().copied().collect();
        for peer in greeting {
            self.lets_go(peer);
        }
    }

    /// Ends the dials of a peer that is not here, where nobody wants it.
    pub(super) fn abort_unwanted(&self, swarm: &mut Swarm<Guarded<Behaviour>>, peer: PeerId) {
        let of_it = |wish: &Wish| wish.peer == Some(peer) && !wish.is_given_up();
        let is_wanted = self.wishes.dials.values().any(of_it)
            || self.dialing.knows(&peer)
            || self.from_book.is_dialling(&peer)
            || self.duties.is_on_duty(&peer)
            || self.shared.peers().stage(&peer).is_some();
        if !is_wanted {
            // Its error says that it is not connected, which is so.
            let _ = swarm.disconnect_peer_id(peer);
        }
    }

    /// A dial failed: of whom, where that one is here by another way. Whether that concerns anybody: it was not given up, or
    /// the peer is one of the user's.
    pub(super) fn wish_failed(
        &mut self,
        connection: ConnectionId,
        known: Option<PeerId>,
        reason: &str,
    ) -> bool {
        let Some(wish) = self.wishes.dials.remove(&connection) else {
            return true;
        };
        let is_users = wish.peer.is_some_and(|peer| self.dialing.knows(&peer));
        let concerns = is_users || !wish.is_given_up();
        match known {
            Some(peer) => self.await_ready(peer, wish),
            None => wish.fails(reason.to_owned()),
        }
        concerns
    }

    /// A peer's last connection ended.
    pub(super) fn wish_gone(
        &mut self,
        swarm: &mut Swarm<Guarded<Behaviour>>,
        peer: &PeerId,
        now: Instant,
    ) {
        for parting in self.wishes.partings.remove(peer).unwrap_or_default() {
            let _ = parting.send(());
        }
        for wish in self.wishes.parked.remove(peer).unwrap_or_default() {
            if !wish.is_given_up() {
                self.dial_wish(swarm, wish, now);
            }
        }
    }
}
