//! Connections: from a dial or a knock at the door to a peer that is ready, and to its end.

use libp2p::{core::ConnectedPoint, swarm::ConnectionError};

use super::{
    reasons::{OWN_ADDRESS, close_reason, dial_reason},
    *,
};
use crate::peers::Direction;

impl Task {
    pub(super) fn on_connected(
        &mut self,
        id: PeerId,
        connection: ConnectionId,
        endpoint: &ConnectedPoint,
        count: u32,
        took: Duration,
    ) {
        let dialled = self.dials.remove(&connection).map(|(_, reply)| reply);
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.connections = count as usize;
            if let Some(reply) = dialled {
                self.await_ready(id, reply);
            }
            return;
        }
        let direction = if endpoint.is_dialer() {
            Direction::Outbound
        } else {
            Direction::Inbound
        };
        let info = PeerInfo {
            addresses: vec![endpoint.get_remote_address().clone()],
            direction: Some(direction),
            connected_at: Some(platform::date()),
            connected_in: Some(took),
            reputation: self.reputation.score(&id, platform::now()),
            ..PeerInfo::new(id)
        };
        self.peers.insert(
            id,
            Peer {
                connections: count as usize,
                stage: Stage::Greeting,
                deadline: Some(platform::now() + self.config.network.connection_timeout),
                topics: HashSet::new(),
                propagates: false,
                pings: true,
                waiters: dialled.into_iter().collect(),
                info: Some(info),
                farewell: None,
            },
        );
        if endpoint.is_dialer() {
            self.greet(id);
        }
    }

    pub(super) fn on_disconnected(
        &mut self,
        id: PeerId,
        left: u32,
        cause: Option<&ConnectionError>,
    ) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        peer.connections = left as usize;
        if left > 0 {
            return;
        }
        let Some(gone) = self.peers.remove(&id) else {
            return;
        };
        self.limiter.forget(&id);
        self.bridge();
        let reason = gone.farewell.unwrap_or_else(|| close_reason(cause));
        for waiter in gone.waiters {
            let (target, reason) = (id.to_string(), reason.clone());
            let _ = waiter.send(Err(NetworkError::Dial { target, reason }));
        }
        // Whatever stage it is at by now: who was shown is taken back.
        let shown = self.shared.state().peers.remove(&id).is_some();
        if shown {
            self.shared.emit(NetworkEvent::PeerDisconnected {
                peer_id: id,
                reason,
            });
        }
    }

    /// The peer is one of ours, or (not `selkie`) a plain libp2p peer.
    pub(super) fn ready(&mut self, id: PeerId, selkie: bool) {
        let deadline = self.next_sign_of_life();
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        peer.stage = Stage::Ready;
        peer.deadline = peer.pings.then_some(deadline);
        let waiters = std::mem::take(&mut peer.waiters);
        let info = peer.info.take();
        self.admit_to_gossip(id, selkie);
        if let Some(mut info) = info {
            info.selkie = selkie;
            self.shared.state().peers.insert(id, info.clone());
            self.shared.emit(NetworkEvent::PeerConnected(info));
        }
        // Last, so that whoever waited for the peer finds it among the connected ones.
        for waiter in waiters {
            let _ = waiter.send(Ok(id));
        }
    }

    /// A peer that does not speak the hello.
    pub(super) fn plain(&mut self, id: PeerId) {
        if self
            .peers
            .get(&id)
            .is_some_and(|peer| peer.stage == Stage::Greeting)
        {
            self.ready(id, false);
        }
    }

    /// What is published next reaches the peer by its lanes, and its subscription has arrived.
    pub(super) fn perhaps_ready(&mut self, id: PeerId) {
        let complete = |peer: &Peer| peer.stage == Stage::Greeted && peer.propagates;
        if self.peers.get(&id).is_some_and(complete) {
            self.ready(id, true);
        }
    }

    pub(super) fn dial(&mut self, address: Multiaddr, reply: DialReply) {
        // TCP would connect the listening socket to itself, and both ends would wait for a listener's words.
        let own = Protocol::P2p(*self.swarm.local_peer_id());
        if address.iter().last() == Some(own) || self.shared.state().listeners.contains(&address) {
            let (target, reason) = (address.to_string(), OWN_ADDRESS.to_owned());
            let _ = reply.send(Err(NetworkError::Dial { target, reason }));
            return;
        }
        let options = match address.iter().last() {
            Some(Protocol::P2p(peer)) => {
                if self.peers.contains_key(&peer) {
                    return self.await_ready(peer, reply);
                }
                DialOpts::peer_id(peer)
                    .addresses(vec![address.clone()])
                    .condition(PeerCondition::Always)
                    .build()
            }
            _ => DialOpts::unknown_peer_id().address(address.clone()).build(),
        };
        self.swarm.behaviour().gate.vouch(&address);
        let connection = options.connection_id();
        match self.swarm.dial(options) {
            Ok(()) => drop(self.dials.insert(connection, (address, reply))),
            Err(error) => {
                let (target, reason) = (address.to_string(), dial_reason(&error));
                let _ = reply.send(Err(NetworkError::Dial { target, reason }));
            }
        }
    }

    /// Answers a dial when the connected peer is ready, or refused.
    pub(super) fn await_ready(&mut self, id: PeerId, reply: DialReply) {
        match self.peers.get_mut(&id) {
            Some(peer) if peer.stage != Stage::Ready => peer.waiters.push(reply),
            _ => drop(reply.send(Ok(id))),
        }
    }

    pub(super) fn leaving(&mut self, id: PeerId) {
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.stage = Stage::Leaving;
            peer.deadline = Some(platform::now() + FAREWELL);
        }
    }

    /// Says that a peer is not let in, and fails whoever waits for it.
    pub(super) fn refuse(&mut self, peer: PeerId, reason: String) {
        let Some(entry) = self.peers.get_mut(&peer) else {
            return;
        };
        entry.farewell = Some(reason.clone());
        for waiter in std::mem::take(&mut entry.waiters) {
            let _ = waiter.send(Err(NetworkError::Dial {
                target: peer.to_string(),
                reason: reason.clone(),
            }));
        }
        self.shared.emit(NetworkEvent::PeerRefused {
            peer_id: peer,
            reason,
        });
    }

    /// Refuses a peer and closes its connections at once.
    pub(super) fn reject(&mut self, peer: PeerId, reason: &str) {
        self.refuse(peer, reason.to_owned());
        self.let_go(peer, reason.to_owned());
    }

    /// Closes all connections to a peer for a reason.
    pub(super) fn let_go(&mut self, peer: PeerId, reason: String) {
        if let Some(entry) = self.peers.get_mut(&peer) {
            entry.farewell.get_or_insert(reason);
            // An error says that it is gone already.
            let _ = self.swarm.disconnect_peer_id(peer);
        }
    }
}
