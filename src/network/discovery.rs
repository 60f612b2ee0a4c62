//! What finds peers, and the one place that dials.
//!
//! It drives [`Dialing`]: bootstrap peers and neighbours found by mDNS, dialled again whenever fewer peers than [`WANTED`] were
//! dialled with success. The user's dials pass here too, each answered when the peer is ready, refused or out of reach. One dial
//! takes all addresses that are known of a peer, so that several of them end in one connection. A peer that is being let go is
//! dialled when it is gone, so that no answer speaks of a connection that ends.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use libp2p::{
    Multiaddr, PeerId, Swarm,
    multiaddr::Protocol,
    swarm::{
        ConnectionId, DialError,
        dial_opts::{DialOpts, PeerCondition},
    },
};
use tokio::sync::oneshot;

use super::{
    behaviour::Behaviour,
    reasons::{OWN_ADDRESS, dial_reason},
    shared::{DialReply, Shared},
};
use crate::{
    config::modern,
    error::NetworkError,
    peers::{Dialing, PeerInfo, Stage},
    platform::Instant,
};

/// Peers that were dialled with success, from which on no more are looked for. gossipsub's and Bitcoin's choice.
const WANTED: usize = 8;

/// See the module's documentation.
pub(crate) struct Discovery {
    shared: Arc<Shared>,
    dialing: Dialing,
    max_peers: usize,
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
    /// Knows nobody yet.
    pub(crate) fn new(own: PeerId, max_peers: usize, shared: Arc<Shared>) -> Self {
        Self {
            shared,
            dialing: Dialing::new(own),
            max_peers,
            dials: HashMap::new(),
            waiting: BTreeMap::new(),
            parked: BTreeMap::new(),
            partings: BTreeMap::new(),
        }
    }

    /// The user's dial of an address, with or without the peer's identity at its end.
    pub(crate) fn dial(
        &mut self,
        swarm: &mut Swarm<Behaviour>,
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
        swarm: &mut Swarm<Behaviour>,
        seed: &PeerInfo,
        reply: DialReply,
        now: Instant,
    ) {
        let addresses: Vec<_> = seed
            .dial_addresses()
            .map(|address| modern(&address))
            .collect();
        for address in &addresses {
            self.dialing.seed(seed.peer_id, address.clone(), now);
        }
        let wish = Wish {
            peer: Some(seed.peer_id),
            addresses,
            reply,
        };
        self.dial_wish(swarm, wish, now);
    }

    /// Peers of the local network.
    pub(crate) fn found(&mut self, swarm: &mut Swarm<Behaviour>, peers: &[PeerInfo], now: Instant) {
        for peer in peers {
            for address in &peer.addresses {
                self.dialing.found(peer.peer_id, address.clone(), now);
            }
            let stage = self.shared.peers().stage(&peer.peer_id);
            // Whom the user lets go stays away, also where it is found before it is gone.
            if stage.is_some_and(|stage| stage != Stage::Ending) {
                self.dialing.connected(&peer.peer_id);
            }
        }
        self.dial_due(swarm, now);
    }

    /// Dials whom it is time to dial again, where peers are wanted.
    pub(crate) fn dial_due(&mut self, swarm: &mut Swarm<Behaviour>, now: Instant) {
        let peers = self.shared.peers();
        let wanted = peers.has_place() && peers.outbound() < WANTED.min(self.max_peers);
        drop(peers);
        if !wanted {
            return;
        }
        for (peer, addresses) in self.dialing.due(now) {
            let gate = &swarm.behaviour().gate;
            addresses.iter().for_each(|address| gate.vouch(address));
            // Later failures arrive as events; at once it fails where the peer is connected or being dialled.
            if swarm
                .dial(DialOpts::peer_id(peer).addresses(addresses).build())
                .is_err()
            {
                self.dialing.failed(&peer, now);
            }
        }
    }

    /// The user wants a peer gone; to be let go by the table.
    pub(crate) fn parts(&mut self, peer: PeerId, reply: oneshot::Sender<()>) {
        self.dialing.dismissed(&peer);
        self.partings.entry(peer).or_default().push(reply);
    }

    /// A connection is there, whoever dialled.
    pub(crate) fn connected(&mut self, peer: PeerId, connection: ConnectionId) {
        self.dialing.connected(&peer);
        if let Some(wish) = self.dials.remove(&connection) {
            self.await_ready(peer, wish.reply);
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
    pub(crate) fn ready(&mut self, peer: &PeerId) {
        for waiter in self.waiting.remove(peer).unwrap_or_default() {
            let _ = waiter.send(Ok(*peer));
        }
    }

    /// A peer was refused, or refused us.
    pub(crate) fn refused(&mut self, peer: &PeerId, reason: &str) {
        self.dialing.refused(peer);
        self.fail_waiting(peer, reason);
    }

    /// A peer's last connection ended.
    pub(crate) fn gone(
        &mut self,
        swarm: &mut Swarm<Behaviour>,
        peer: &PeerId,
        reason: &str,
        now: Instant,
    ) {
        self.dialing.gone(peer, now);
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
    fn dial_wish(&mut self, swarm: &mut Swarm<Behaviour>, wish: Wish, now: Instant) {
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
                    // Where it came by itself: once it goes, it is dialled again.
                    self.dialing.connected(&peer);
                }
                match stage {
                    Some(Stage::Ending) => return self.parked.entry(peer).or_default().push(wish),
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
                if let Some(peer) = &wish.peer {
                    self.dialing.dials(peer);
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

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use libp2p::{core::transport::dummy::DummyTransport, identity::Keypair, relay, swarm};

    use super::*;
    use crate::{
        Config,
        network::behaviour::MAX_DIALS,
        peers::AddressPolicy,
        platform::{self, test},
        transport::{self, Boxed},
    };

    /// A node that dials and never hears what becomes of it.
    fn deaf() -> (Swarm<Behaviour>, Discovery) {
        let (config, keypair) = (Config::default(), Keypair::generate_ed25519());
        let own = keypair.public().to_peer_id();
        let shared = Arc::new(Shared::new(crate::chain::Opaque, &config));
        let policy = Arc::new(Mutex::new(AddressPolicy::new(own, true)));
        let (_, circuits) = relay::client::new(own);
        let local = transport::local_discovery(&config, own).expect("off");
        let known = (policy, Arc::clone(&shared.table));
        let behaviour = Behaviour::new(&config, &keypair, circuits, local, known).expect("right");
        let nowhere: Boxed = libp2p::Transport::boxed(DummyTransport::new());
        let config = swarm::Config::with_executor(|_| {});
        let swarm = Swarm::new(nowhere, behaviour, own, config);
        (swarm, Discovery::new(own, 50, shared))
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
        let due = discovery.dialing.due(now);
        assert_eq!(
            due.len(),
            1,
            "it is not taken for one that is being dialled"
        );
    }
}
