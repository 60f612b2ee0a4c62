//! Connections: what the swarm tells of them goes to the table of peers, and what the table wants done is done here.

use libp2p::{core::ConnectedPoint, swarm::ConnectionError};

use super::*;
use crate::{
    network::reasons::close_reason,
    peers::{Action, ConnectionInfo, Direction},
};

impl Task {
    pub(super) fn on_connected(
        &mut self,
        id: PeerId,
        connection: ConnectionId,
        endpoint: &ConnectedPoint,
        took: Duration,
    ) {
        let direction = if endpoint.is_dialer() {
            Direction::Outbound
        } else {
            Direction::Inbound
        };
        let link = ConnectionInfo {
            peer_id: id,
            address: endpoint.get_remote_address().clone(),
            direction,
            connected_at: platform::date(),
            connected_in: took,
        };
        let info = PeerInfo {
            addresses: vec![link.address.clone()],
            direction: Some(direction),
            connected_at: Some(link.connected_at),
            connected_in: Some(took),
            ..PeerInfo::new(id)
        };
        let mut state = self.shared.state();
        state.connections.insert(connection, Box::new(link));
        state.recorder.connected(took);
        drop(state);
        let now = platform::now();
        let gate = &self.swarm.behaviour().gate;
        let place = gate.place_of(&id, endpoint.get_remote_address());
        let mut peers = self.shared.peers();
        peers.connected(connection, info, now);
        place.into_iter().for_each(|ip| peers.located(&id, ip));
        drop(peers);
        self.discovery.connected(id, connection, endpoint, now);
    }

    pub(super) fn on_disconnected(
        &mut self,
        id: PeerId,
        connection: ConnectionId,
        cause: Option<&ConnectionError>,
    ) {
        self.shared.state().connections.remove(&connection);
        let reason = close_reason(cause);
        self.shared.peers().closed(&id, connection, reason);
    }

    /// Does what the table wants done.
    pub(super) fn act(&mut self) {
        loop {
            // The lock must not be held while it is done.
            let Some(action) = self.shared.peers().next_action() else {
                return;
            };
            match action {
                Action::Greet(peer) => self.greet(peer),
                Action::Open(peer) => {
                    if !self.discovery.lets_go(peer) {
                        self.swarm.behaviour_mut().lanes.greeted(peer);
                    }
                }
                Action::Ready(info) => {
                    let peer = info.peer_id;
                    self.weigh(peer);
                    self.admit_to_gossip(peer, &info);
                    self.swarm.behaviour_mut().streams.ready(peer);
                    self.shared.emit(NetworkEvent::PeerConnected(info.clone()));
                    // Last, so that whoever waited for the peer finds it among the connected ones.
                    self.discovery.ready(&info, platform::now());
                    if info.selkie {
                        self.tell(peer, platform::now());
                    }
                }
                Action::Refused {
                    peer: peer_id,
                    address,
                    reason,
                } => {
                    self.discovery.refused(&peer_id, &reason, platform::now());
                    self.shared.emit(NetworkEvent::PeerRefused {
                        peer_id,
                        address,
                        reason,
                    });
                }
                Action::Scored(peer_id, reason, score) => {
                    let gossip = &mut self.swarm.behaviour_mut().gossip;
                    gossip.set_score(&peer_id, score);
                    self.shared.emit(NetworkEvent::PeerScored {
                        peer_id,
                        reason,
                        score,
                    });
                }
                Action::Part(peer) => self.part(peer),
                // An error says that it is gone already.
                Action::Close(peer) => drop(self.swarm.disconnect_peer_id(peer)),
                Action::CloseConnection(connection) => {
                    self.swarm.close_connection(connection);
                }
                Action::Gone {
                    peer: peer_id,
                    reason,
                    shown,
                } => {
                    self.limiter.forget(&peer_id, platform::now());
                    self.requests.gone(&peer_id, platform::now());
                    self.stakes.gone(&peer_id);
                    let behaviour = self.swarm.behaviour_mut();
                    behaviour.lanes.core.forget(&peer_id);
                    behaviour.streams.gone(&peer_id);
                    self.bridge();
                    let told = reason.clone();
                    if shown {
                        self.shared
                            .emit(NetworkEvent::PeerDisconnected { peer_id, reason });
                    }
                    self.discovery
                        .gone(&mut self.swarm, &peer_id, &told, platform::now());
                }
            }
        }
    }

    /// A misdeed: the score, and what follows from it.
    pub(super) fn note(&mut self, peer: PeerId, misdeed: Misdeed) {
        self.shared.peers().misdeed(peer, misdeed, platform::now());
    }
}
