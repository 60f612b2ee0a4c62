//! Connections: from a dial or a knock at the door to a peer that is ready, and to its end.

use libp2p::{
    core::ConnectedPoint,
    ping,
    swarm::{ConnectionError, DialError, ListenError, SwarmEvent},
};

use super::{
    reasons::{OWN_ADDRESS, close_reason, denied_reason, dial_reason},
    *,
};
use crate::{network::behaviour::BehaviourEvent, peers::Direction};

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
                self.listener_started(Some(listener_id));
            }
            SwarmEvent::ExpiredListenAddr { address, .. } => {
                self.shared.state().listeners.retain(|a| *a != address);
            }
            SwarmEvent::ListenerClosed {
                listener_id,
                addresses,
                reason,
            } => {
                tracing::warn!(?addresses, ?reason, "a listener closed");
                self.shared
                    .state()
                    .listeners
                    .retain(|a| !addresses.contains(a));
                self.listener_started(Some(listener_id));
            }
            SwarmEvent::ConnectionEstablished {
                peer_id,
                connection_id,
                endpoint,
                established_in,
                num_established,
                ..
            } => {
                let mut state = self.shared.state();
                state.connections += 1;
                state.recorder.connected(established_in);
                drop(state);
                let count = num_established.get();
                self.on_connected(peer_id, connection_id, &endpoint, count, established_in);
            }
            SwarmEvent::ConnectionClosed {
                peer_id,
                num_established,
                cause,
                ..
            } => {
                self.shared.state().connections -= 1;
                self.on_disconnected(peer_id, num_established, cause.as_ref());
            }
            SwarmEvent::OutgoingConnectionError {
                connection_id,
                peer_id,
                error,
            } => {
                self.shared.state().recorder.connection_failed();
                let reason = dial_reason(&error);
                let tried = match &error {
                    DialError::Transport(attempts) => {
                        attempts.last().map(|(address, _)| address.clone())
                    }
                    _ => None,
                };
                if let Some((address, reply)) = self.dials.remove(&connection_id) {
                    match peer_id.filter(|peer| self.peers.contains_key(peer)) {
                        // It is connected by another way meanwhile.
                        Some(peer) => self.await_ready(peer, reply),
                        None => {
                            let (target, reason) = (address.to_string(), reason.clone());
                            let _ = reply.send(Err(NetworkError::Dial { target, reason }));
                        }
                    }
                }
                self.shared.emit(NetworkEvent::DialFailed {
                    peer_id,
                    address: tried,
                    reason,
                });
            }
            SwarmEvent::IncomingConnectionError { peer_id, error, .. } => {
                self.shared.state().recorder.connection_failed();
                tracing::debug!(%error, "an incoming connection failed");
                // A surplus connection of a peer that is here already is none of the user's concern.
                if let (Some(peer_id), ListenError::Denied { cause }) = (peer_id, error)
                    && !self.peers.contains_key(&peer_id)
                {
                    let reason = denied_reason(&cause);
                    self.shared
                        .emit(NetworkEvent::PeerRefused { peer_id, reason });
                }
            }
            _ => {}
        }
    }

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
            connected_at: Some(SystemTime::now()),
            connected_in: Some(took),
            reputation: self.reputation.score(&id, Instant::now()),
            ..PeerInfo::new(id)
        };
        self.peers.insert(
            id,
            Peer {
                connections: count as usize,
                stage: Stage::Greeting,
                deadline: Some(Instant::now() + self.config.network.connection_timeout),
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

    pub(super) fn greet(&mut self, id: PeerId) {
        let hello = self.hello.encode_to_vec();
        let request = self
            .swarm
            .behaviour_mut()
            .hello
            .send_request(&id, Ok(hello));
        self.greetings.insert(request, id);
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

    /// The hello is over: the peer is one of ours, and ready when it has told its subscriptions.
    pub(super) fn greeted(&mut self, id: PeerId) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        if peer.stage == Stage::Greeting {
            peer.stage = Stage::Greeted;
            peer.deadline = Some(Instant::now() + SUBSCRIPTIONS);
            self.swarm.behaviour_mut().lanes.greeted(id);
        }
    }

    /// What is published next reaches the peer by its lanes, and its subscription has arrived.
    pub(super) fn perhaps_ready(&mut self, id: PeerId) {
        let complete = |peer: &Peer| peer.stage == Stage::Greeted && peer.propagates;
        if self.peers.get(&id).is_some_and(complete) {
            self.ready(id, true);
        }
    }

    pub(super) fn on_lanes(&mut self, event: LanesEvent) {
        match event {
            LanesEvent::Ready(id) => {
                if let Some(peer) = self.peers.get_mut(&id) {
                    peer.propagates = true;
                }
                self.perhaps_ready(id);
            }
            LanesEvent::Unsupported(id) => {
                if self
                    .peers
                    .get(&id)
                    .is_some_and(|peer| peer.stage == Stage::Greeted)
                {
                    self.ready(id, true);
                }
            }
            LanesEvent::Check(batch) => self.check_batch(batch),
            LanesEvent::Ask(question) => self.ask(question),
            LanesEvent::Work(step) => {
                let stepped = platform::offload(move || step.run());
                self.work.push(stepped.map(Done::Stepped).boxed());
            }
            LanesEvent::Refused(source, reason) => self.shared.emit(NetworkEvent::ItemRefused {
                kind: ItemKind::Block,
                source,
                reason,
            }),
            // The loop looks for submissions next.
            LanesEvent::Room => {}
            LanesEvent::Misdeed(peer, misdeed) => self.note(peer, misdeed),
        }
    }

    /// Takes part in the gossip of our items as long as a peer is here that has them from nowhere else. Nodes that
    /// propagate to each other gossip nothing twice.
    pub(super) fn bridge(&mut self) {
        for kind in ItemKind::ALL {
            let topic = IdentTopic::new(protocol::topic(&self.config.chain.network_id, kind));
            let hash = topic.hash();
            let needs = |peer: &Peer| {
                peer.stage == Stage::Ready && !peer.propagates && peer.topics.contains(&hash)
            };
            let gossip = &mut self.swarm.behaviour_mut().gossip;
            if self.peers.values().any(needs) {
                // Only a subscription filter could refuse it, and there is none for our own.
                let _ = gossip.subscribe(&topic);
            } else {
                gossip.unsubscribe(&topic);
            }
        }
    }

    /// Whether items of a kind are gossiped here.
    pub(super) fn gossips(&self, kind: ItemKind) -> bool {
        let topic = protocol::topic(&self.config.chain.network_id, kind);
        let hash = IdentTopic::new(topic).hash();
        self.swarm
            .behaviour()
            .gossip
            .topics()
            .any(|joined| *joined == hash)
    }

    /// A peer told that it takes part in a topic; ours all take part in those of our items.
    pub(super) fn subscribed(&mut self, id: PeerId, topic: &gossipsub::TopicHash) {
        if !self.items.contains_key(topic) {
            return;
        }
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        peer.topics.insert(topic.clone());
        self.perhaps_ready(id);
        self.bridge();
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
        self.bridge();
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

    /// By when a peer that is alive has answered the next ping.
    pub(super) fn next_sign_of_life(&self) -> Instant {
        Instant::now()
            + self.config.network.keepalive_interval
            + self.config.network.connection_timeout
    }

    pub(super) fn on_ping(
        &mut self,
        ping::Event {
            peer,
            connection,
            result,
        }: ping::Event,
    ) {
        match result {
            Ok(took) => {
                let deadline = self.next_sign_of_life();
                if let Some(peer) = self.peers.get_mut(&peer)
                    && peer.stage == Stage::Ready
                {
                    peer.deadline = Some(deadline);
                }
                let mut state = self.shared.state();
                state.recorder.round_trip(took);
                if let Some(info) = state.peers.get_mut(&peer) {
                    info.round_trip = Some(took);
                }
            }
            // It can't answer, so its silence says nothing.
            Err(ping::Failure::Unsupported) => {
                if let Some(peer) = self.peers.get_mut(&peer) {
                    peer.pings = false;
                    if peer.stage == Stage::Ready {
                        peer.deadline = None;
                    }
                }
            }
            Err(failure) => {
                tracing::debug!(%peer, %failure, "no answer to a ping");
                if self
                    .peers
                    .get(&peer)
                    .is_some_and(|peer| peer.connections == 1)
                {
                    self.let_go(peer, SILENT.to_owned());
                }
                self.swarm.close_connection(connection);
            }
        }
    }

    /// A stranger: told why by the hello's answer, and gone when it has read it or a moment later.
    pub(super) fn turn_away(&mut self, id: PeerId, reason: String) {
        self.refuse(id, reason);
        self.leaving(id);
    }

    pub(super) fn leaving(&mut self, id: PeerId) {
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.stage = Stage::Leaving;
            peer.deadline = Some(Instant::now() + FAREWELL);
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

    /// A misdeed: the score, and what follows from it.
    pub(super) fn note(&mut self, peer: PeerId, misdeed: Misdeed) {
        let now = Instant::now();
        let (score, judgement) = self.reputation.note(peer, misdeed, now);
        let reason = misdeed.reason();
        if let Some(info) = self.shared.state().peers.get_mut(&peer) {
            info.reputation = score;
        }
        self.shared.emit(NetworkEvent::PeerScored {
            peer_id: peer,
            reason,
            score,
        });
        match judgement {
            Judgement::Stay => {}
            Judgement::Disconnect => {
                self.let_go(peer, format!("its reputation is used up: {reason}"))
            }
            Judgement::Ban => {
                self.swarm.behaviour_mut().gate.bans.ban(peer, now);
                self.let_go(peer, format!("it is banned: {reason}"));
            }
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
