//! The user's dials, each answered when the peer is ready, refused or out of reach, and the user's partings.
//!
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
    peers::{PeerInfo, Stage, Teller},
    platform::Instant,
};

/// See the module's documentation.
#[derive(Default)]
pub(super) struct Wishes {
    /// Those under way.
    pub(super) dials: HashMap<ConnectionId, Wish>,
    /// Who waits for a connected peer to be ready.
    waiting: BTreeMap<PeerId, Vec<DialReply>>,
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

impl Wishes {
    /// A peer is ready; whether anybody waited for that.
    pub(super) fn ready(&mut self, peer: PeerId) -> bool {
        let waiters = self.waiting.remove(&peer).unwrap_or_default();
        let is_awaited = !waiters.is_empty();
        for waiter in waiters {
            let _ = waiter.send(Ok(peer));
        }
        is_awaited
    }

    /// A peer was refused, or refused us, or is gone.
    pub(super) fn refused(&mut self, peer: &PeerId, reason: &str) {
        for waiter in self.waiting.remove(peer).unwrap_or_default() {
            let (target, reason) = (peer.to_string(), reason.to_owned());
            let _ = waiter.send(Err(NetworkError::Dial { target, reason }));
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

    /// The user wants a peer gone; to be let go by the table.
    pub(crate) fn parts(&mut self, peer: PeerId, reply: oneshot::Sender<()>) {
        self.dialing.dismissed(&peer);
        self.wishes.partings.entry(peer).or_default().push(reply);
    }

    /// Whom the user has dialled is one of the user's peers from now on, and dialled again when it is lost.
    fn reached(&mut self, peer: PeerId, addresses: &[Multiaddr], now: Instant) {
        for address in addresses {
            self.dialing.told(Teller::User, peer, address.clone(), now);
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
                        return self.wishes.parked.entry(peer).or_default().push(wish);
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
                self.wishes.dials.insert(connection, wish);
            }
            Err(error) => wish.fails(dial_reason(&error)),
        }
    }

    /// Answers a dial when the connected peer is ready, or refused.
    fn await_ready(&mut self, peer: PeerId, reply: DialReply) {
        if self.shared.peers().is_shown(&peer) {
            let _ = reply.send(Ok(peer));
        } else {
            self.wishes.waiting.entry(peer).or_default().push(reply);
        }
    }

    /// A connection is there, whoever dialled.
    pub(super) fn wish_connected(&mut self, peer: PeerId, connection: ConnectionId, now: Instant) {
        let wish = self.wishes.dials.remove(&connection);
        if let Some(wish) = &wish {
            self.reached(peer, &wish.addresses, now);
        }
        self.dialing.connected(&peer);
        if let Some(wish) = wish {
            self.await_ready(peer, wish.reply);
        }
    }

    /// A dial failed: of whom, and how far it is, where it is here by another way.
    pub(super) fn wish_failed(
        &mut self,
        connection: ConnectionId,
        known: Option<(PeerId, Stage)>,
        reason: &str,
    ) {
        let Some(wish) = self.wishes.dials.remove(&connection) else {
            return;
        };
        match known {
            Some((peer, Stage::Ending)) => self.wishes.parked.entry(peer).or_default().push(wish),
            Some((peer, _)) => self.await_ready(peer, wish.reply),
            None => wish.fails(reason.to_owned()),
        }
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
            self.dial_wish(swarm, wish, now);
        }
    }
}
