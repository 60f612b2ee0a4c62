//! The swarm's own events, and the way of each behaviour's to its file.

use libp2p::{
    identify,
    swarm::{DialError, ListenError, SwarmEvent},
};

use super::*;
use crate::network::{
    behaviour::BehaviourEvent,
    reasons::{accept_reason, certificate_reason, closed_reason, denied_reason, dial_reason},
    routing::RoutingEvent,
};

impl Task {
    pub(super) fn on_swarm_event(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::Behaviour(event) => self.on_behaviour_event(event),
            SwarmEvent::NewListenAddr {
                listener_id,
                address,
            } => {
                self.shared.state().listeners.push(address.clone());
                self.shared.emit(NetworkEvent::Listening(address));
                self.starting.came_up(listener_id);
                self.circuits.is_up(listener_id);
            }
            SwarmEvent::ExpiredListenAddr { address, .. } => {
                self.shared.state().listeners.retain(|a| *a != address);
                self.expired.push(address);
            }
            SwarmEvent::ListenerClosed {
                listener_id,
                addresses,
                reason,
            } => {
                let reason = closed_reason(&reason);
                self.configured.remove(&listener_id);
                let expected = self.starting.ended(listener_id, &reason);
                // By its name in the configuration, also where the relay has never given it.
                let circuit = self.circuits.ended(listener_id, platform::now());
                let mut state = self.shared.state();
                state.listeners.retain(|a| !addresses.contains(a));
                drop(state);
                let told = if circuit.is_some() {
                    Vec::new()
                } else {
                    addresses
                };
                for address in told.into_iter().chain(expected).chain(circuit) {
                    self.not_listening(address, &reason);
                }
            }
            SwarmEvent::ListenerError { listener_id, error } => {
                let now = platform::now();
                tracing::debug!(%error, "a listener goes on after an error");
                if let Some(reason) = certificate_reason(&error) {
                    self.shared
                        .emit(NetworkEvent::CertificateRefused { reason });
                } else if self.troubled.is_none_or(|told| told + TROUBLE <= now)
                    && let Some(address) = self.configured.get(&listener_id).cloned()
                {
                    self.troubled = Some(now);
                    self.not_listening(address, &accept_reason(&error));
                }
            }
            SwarmEvent::ConnectionEstablished {
                peer_id,
                connection_id,
                endpoint,
                established_in,
                ..
            } => {
                self.on_connected(peer_id, connection_id, &endpoint, established_in);
            }
            SwarmEvent::ConnectionClosed {
                peer_id,
                connection_id,
                cause,
                ..
            } => {
                self.on_disconnected(peer_id, connection_id, cause.as_ref());
            }
            SwarmEvent::OutgoingConnectionError {
                connection_id,
                peer_id,
                error,
            } => {
                let now = platform::now();
                // A surplus connection of a peer that is here already is none of the user's concern, and no failure.
                if !self.discovery.failed(connection_id, peer_id, &error, now) {
                    return;
                }
                self.shared.state().recorder.connection_failed();
                let address = match &error {
                    DialError::Transport(attempts) => {
                        attempts.last().map(|(address, _)| address.clone())
                    }
                    _ => None,
                };
                self.shared.emit(NetworkEvent::DialFailed {
                    peer_id,
                    address,
                    reason: dial_reason(&error),
                });
            }
            SwarmEvent::IncomingConnectionError {
                peer_id,
                send_back_addr,
                error,
                ..
            } => {
                tracing::debug!(%error, "an incoming connection failed");
                if peer_id.is_some_and(|peer| self.shared.peers().stage(&peer).is_some()) {
                    return;
                }
                self.shared.state().recorder.connection_failed();
                if let (Some(peer_id), ListenError::Denied { cause }) = (peer_id, error) {
                    let reason = denied_reason(&cause);
                    self.shared.emit(NetworkEvent::PeerRefused {
                        peer_id,
                        address: Some(send_back_addr),
                        reason,
                    });
                }
            }
            _ => {}
        }
    }

    pub(super) fn on_behaviour_event(&mut self, event: BehaviourEvent) {
        match event {
            BehaviourEvent::Hello(event) => self.on_hello(event),
            BehaviourEvent::Message(event) => self.on_message(event),
            BehaviourEvent::Gossip(event) => self.on_gossip_event(event),
            BehaviourEvent::Identify(identify::Event::Received { peer_id, info, .. }) => {
                self.on_identify(peer_id, info)
            }
            BehaviourEvent::Routing(RoutingEvent::TooManyQuestions(peer)) => {
                self.note(peer, Misdeed::TooManyMessages)
            }
            BehaviourEvent::Routing(RoutingEvent::Named { teller, mut peers }) => {
                let gate = &self.swarm.behaviour().gate;
                for peer in &mut peers {
                    peer.addresses = gate.learnt(&teller, &peer.peer_id, &peer.addresses);
                }
                let source = gate.network(&teller);
                self.discovery
                    .named(&mut self.swarm, source, &peers, platform::now());
            }
            BehaviourEvent::Routing(RoutingEvent::Meets(peer)) => {
                self.discovery.meets(&mut self.swarm, peer, platform::now());
            }
            BehaviourEvent::Routing(RoutingEvent::Kad(event)) => {
                tracing::trace!(?event, "the routing table")
            }
            BehaviourEvent::Identify(identify::Event::Error { peer_id, error, .. }) => {
                tracing::debug!(%peer_id, %error, "it says nothing of itself that can be understood");
                self.shared.peers().unidentified(&peer_id, platform::now());
            }
            BehaviourEvent::Lanes(event) => self.on_lanes(event),
            BehaviourEvent::Ping(event) => self.on_ping(event),
            BehaviourEvent::Streams(inbound) => self.on_stream(inbound),
            BehaviourEvent::Local(event) => self.on_neighbour(transport::found(event)),
            BehaviourEvent::Circuits(event) => tracing::trace!(?event, "a circuit"),
            _ => {}
        }
    }
}
