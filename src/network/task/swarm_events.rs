//! What the swarm tells the task, and what the task does about it.

use libp2p::{
    TransportError,
    core::ConnectedPoint,
    identify, ping,
    swarm::{ConnectionError, DialError, SwarmEvent},
};

use super::*;
use crate::network::{behaviour::BehaviourEvent, discovery::Direction, gate::TurnedAway, protocol::Quoted};

impl Task {
    pub(super) fn on_swarm_event(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::Behaviour(event) => self.on_behaviour_event(event),
            SwarmEvent::NewListenAddr { listener_id, address } => {
                self.shared.state().listeners.push(address.clone());
                self.shared.emit(&NetworkEvent::Listening(address));
                self.listener_started(Some(listener_id));
            }
            SwarmEvent::ExpiredListenAddr { address, .. } => {
                self.shared.state().listeners.retain(|a| *a != address);
            }
            SwarmEvent::ListenerClosed { listener_id, addresses, reason } => {
                tracing::warn!(?addresses, ?reason, "a listener closed");
                self.shared.state().listeners.retain(|a| !addresses.contains(a));
                self.listener_started(Some(listener_id));
            }
            SwarmEvent::ConnectionEstablished { peer_id, connection_id, endpoint, established_in, num_established, .. } => {
                let mut state = self.shared.state();
                state.connections += 1;
                state.recorder.connected(established_in);
                drop(state);
                self.on_connected(peer_id, connection_id, &endpoint, num_established.get());
            }
            SwarmEvent::ConnectionClosed { peer_id, num_established, cause, .. } => {
                self.shared.state().connections -= 1;
                self.on_disconnected(peer_id, num_established, cause.as_ref());
            }
            SwarmEvent::OutgoingConnectionError { connection_id, peer_id, error } => {
                self.shared.state().recorder.connection_failed();
                let reason = dial_reason(&error);
                if let Some(reply) = self.dials.remove(&connection_id) {
                    let target = peer_id.map_or_else(|| "that address".to_owned(), |peer| peer.to_string());
                    let _ = reply.send(Err(NetworkError::Dial { target, reason: reason.clone() }));
                }
                if let Some(peer) = peer_id {
                    self.dial_failed(peer, &reason);
                }
                self.shared.emit(&NetworkEvent::DialFailed { peer_id, reason });
            }
            SwarmEvent::IncomingConnectionError { error, .. } => {
                self.shared.state().recorder.connection_failed();
                tracing::debug!(%error, "an incoming connection failed");
            }
            _ => {}
        }
    }

    fn on_connected(&mut self, id: PeerId, connection: ConnectionId, endpoint: &ConnectedPoint, count: u32) {
        let peer = self.peers.entry(id).or_default();
        peer.connections = count as usize;
        peer.waiters.extend(self.dials.remove(&connection));
        if peer.stage == Stage::Ready {
            for waiter in std::mem::take(&mut peer.waiters) {
                let _ = waiter.send(Ok(id));
            }
            return;
        }
        if peer.stage != Stage::Dialling {
            return;
        }
        peer.stage = Stage::Greeting(Instant::now() + self.config.network.connection_timeout);
        let direction = if endpoint.is_dialer() { Direction::Outbound } else { Direction::Inbound };
        peer.info = Some(PeerInfo {
            addresses: vec![endpoint.get_remote_address().clone()],
            direction: Some(direction),
            connected_at: Some(SystemTime::now()),
            reputation: self.reputation.score(&id, Instant::now()),
            ..PeerInfo::new(id)
        });
        if endpoint.is_dialer() {
            let hello = self.hello.encode_to_vec();
            let request = self.swarm.behaviour_mut().hello.send_request(&id, hello);
            self.greetings.insert(request, id);
        }
    }

    fn on_disconnected(&mut self, id: PeerId, left: u32, cause: Option<&ConnectionError>) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        peer.connections = left as usize;
        if left > 0 {
            return;
        }
        let Some(gone) = self.peers.remove(&id) else { return };
        self.limiter.forget(&id);
        let reason = gone.farewell.unwrap_or_else(|| close_reason(cause));
        for waiter in gone.waiters {
            let (target, reason) = (id.to_string(), reason.clone());
            let _ = waiter.send(Err(NetworkError::Dial { target, reason }));
        }
        if gone.stage == Stage::Ready {
            self.shared.state().peers.remove(&id);
            self.shared.emit(&NetworkEvent::PeerDisconnected { peer_id: id, reason });
        }
    }

    /// The hello is over: the peer is one of ours, or (not `selkie`) a plain libp2p peer.
    fn ready(&mut self, id: PeerId, selkie: bool) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        if !matches!(peer.stage, Stage::Greeting(_)) {
            return;
        }
        peer.stage = Stage::Ready;
        for waiter in std::mem::take(&mut peer.waiters) {
            let _ = waiter.send(Ok(id));
        }
        if let Some(mut info) = peer.info.take() {
            info.selkie = selkie;
            self.shared.state().peers.insert(id, info.clone());
            self.shared.emit(&NetworkEvent::PeerConnected(info));
        }
    }

    /// A stranger: told why by the hello's answer, and gone when it has read it or a moment later.
    fn turn_away(&mut self, id: PeerId, reason: String) {
        self.refuse(id, reason);
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.stage = Stage::Leaving(Instant::now() + FAREWELL);
        }
    }

    fn on_behaviour_event(&mut self, event: BehaviourEvent) {
        match event {
            BehaviourEvent::Hello(event) => self.on_hello(event),
            BehaviourEvent::Message(event) => self.on_message(event),
            BehaviourEvent::Gossip(gossipsub::Event::Message { propagation_source, message_id, message }) => {
                self.on_gossip(propagation_source, message_id, message);
            }
            BehaviourEvent::Identify(identify::Event::Received { peer_id, info, .. }) => self.on_identify(peer_id, info),
            BehaviourEvent::Ping(ping::Event { peer, connection, result }) => match result {
                Ok(took) => {
                    let mut state = self.shared.state();
                    state.recorder.round_trip(took);
                    if let Some(info) = state.peers.get_mut(&peer) {
                        info.round_trip = Some(took);
                    }
                }
                Err(ping::Failure::Unsupported) => {}
                Err(failure) => {
                    tracing::debug!(%peer, %failure, "no answer to a ping");
                    if self.peers.get(&peer).is_some_and(|peer| peer.connections == 1) {
                        self.let_go(peer, "it does not answer pings".to_owned());
                    }
                    self.swarm.close_connection(connection);
                }
            },
            BehaviourEvent::Local(event) => self.on_found(transport::found(event)),
            _ => {}
        }
    }

    fn on_found(&mut self, found: Vec<(PeerId, Multiaddr)>) {
        let mut peers: HashMap<PeerId, PeerInfo> = HashMap::new();
        for (id, address) in found.into_iter().take(protocol::MAX_EXCHANGED_PEERS) {
            self.swarm.behaviour_mut().kad.add_address(&id, address.clone());
            peers.entry(id).or_insert_with(|| PeerInfo::new(id)).addresses.push(address);
        }
        if peers.is_empty() {
            return;
        }
        for (id, peer) in &peers {
            if self.peers.len() < self.config.network.max_peers && !self.peers.contains_key(id) {
                let options = DialOpts::peer_id(*id).addresses(peer.addresses.clone()).build();
                let _ = self.swarm.dial(options);
            }
        }
        self.shared.emit(&NetworkEvent::PeersDiscovered(peers.into_values().collect()));
    }

    fn on_hello(&mut self, event: rr::Event<Vec<u8>, Vec<u8>>) {
        match event {
            rr::Event::Message { peer, message: rr::Message::Request { request_id, request, channel }, .. } => {
                let mut answer = self.hello.clone();
                match Hello::decode(request.as_slice()).map(|theirs| self.hello.objection(&theirs)) {
                    Ok(None) => self.ready(peer, true),
                    Ok(Some(objection)) => {
                        self.turn_away(peer, objection.clone());
                        self.farewells.insert(request_id, peer);
                        answer.refusal = objection;
                    }
                    Err(_) => {
                        self.note(peer, Misdeed::InvalidMessage);
                        self.turn_away(peer, "its hello is no protobuf message".to_owned());
                        self.farewells.insert(request_id, peer);
                        answer.refusal = "your hello is no protobuf message; see docs/wire.md".to_owned();
                    }
                }
                let answer = answer.encode_to_vec();
                let _ = self.swarm.behaviour_mut().hello.send_response(channel, answer);
            }
            rr::Event::Message { peer, message: rr::Message::Response { request_id, response }, .. } => {
                self.greetings.remove(&request_id);
                match Hello::decode(response.as_slice()) {
                    Ok(theirs) => {
                        let told = (!theirs.refusal.is_empty()).then(|| Quoted(&theirs.refusal).to_string());
                        match told.or_else(|| self.hello.objection(&theirs)) {
                            None => self.ready(peer, true),
                            Some(reason) => {
                                self.refuse(peer, reason.clone());
                                self.let_go(peer, reason);
                            }
                        }
                    }
                    Err(_) => {
                        self.note(peer, Misdeed::InvalidMessage);
                        let reason = "its hello is no protobuf message".to_owned();
                        self.refuse(peer, reason.clone());
                        self.let_go(peer, reason);
                    }
                }
            }
            rr::Event::OutboundFailure { request_id, error, .. } => {
                let Some(peer) = self.greetings.remove(&request_id) else { return };
                if matches!(error, rr::OutboundFailure::UnsupportedProtocols) {
                    self.ready(peer, false);
                } else if self.peers.get(&peer).is_some_and(|p| matches!(p.stage, Stage::Greeting(_))) {
                    let reason = format!("it did not answer the hello: {error}");
                    self.note(peer, Misdeed::NoAnswer);
                    self.refuse(peer, reason.clone());
                    self.let_go(peer, reason);
                }
            }
            rr::Event::ResponseSent { request_id, .. } | rr::Event::InboundFailure { request_id, .. } => {
                if let Some(peer) = self.farewells.remove(&request_id) {
                    // The other side has the answer in its buffers; give it the moment to read it.
                    if let Some(entry) = self.peers.get_mut(&peer) {
                        entry.stage = Stage::Leaving(Instant::now() + FAREWELL);
                    }
                }
            }
        }
    }

    fn on_message(&mut self, event: rr::Event<Vec<u8>, Vec<u8>>) {
        match event {
            rr::Event::Message { peer, message: rr::Message::Request { request, channel, .. }, .. } => {
                self.on_request(peer, &request, channel);
            }
            rr::Event::Message { peer, message: rr::Message::Response { request_id, response }, .. } => {
                if let Some((took, valid)) = self.requests.answered(request_id, &response) {
                    let mut state = self.shared.state();
                    state.recorder.round_trip(took);
                    state.recorder.sent(true);
                    drop(state);
                    if !valid {
                        self.note(peer, Misdeed::InvalidMessage);
                    }
                }
            }
            rr::Event::OutboundFailure { peer, request_id, error, .. } => {
                let name = format!("/selkie/{}/message/1", self.config.chain.network_id);
                self.requests.failed(request_id, &error, &name);
                self.shared.state().recorder.sent(false);
                match error {
                    rr::OutboundFailure::Timeout => self.note(peer, Misdeed::NoAnswer),
                    rr::OutboundFailure::Io(error) if error.kind() == std::io::ErrorKind::InvalidData => {
                        self.note(peer, Misdeed::InvalidMessage);
                    }
                    _ => {}
                }
            }
            rr::Event::InboundFailure { peer, error: rr::InboundFailure::Io(error), .. } => {
                use std::io::ErrorKind::{InvalidData, UnexpectedEof};
                if matches!(error.kind(), InvalidData | UnexpectedEof) {
                    self.note(peer, Misdeed::InvalidMessage);
                }
            }
            rr::Event::InboundFailure { .. } | rr::Event::ResponseSent { .. } => {}
        }
    }

    fn on_request(&mut self, peer: PeerId, frame: &[u8], channel: ResponseChannel) {
        let answer = if self.peers.get(&peer).is_none_or(|p| p.stage != Stage::Ready) {
            Answer::Refused("say hello first; see docs/wire.md".to_owned())
        } else if !self.limiter.admits(peer, Instant::now()) {
            self.note(peer, Misdeed::TooManyMessages);
            Answer::Refused("you send more often than you may; slow down".to_owned())
        } else {
            match NetworkMessage::decode(frame) {
                Err(error) => {
                    self.note(peer, Misdeed::InvalidMessage);
                    Answer::Refused(error.to_string())
                }
                Ok(NetworkMessage::StateRequest(request)) => {
                    let application = Arc::clone(&self.shared.application);
                    let query = platform::offload(move || application.query(&request));
                    let answered = query.map(|response| {
                        let refused = || Answer::Refused("this node serves no such state".to_owned());
                        Done::Answered(channel, response.flatten().map_or_else(refused, Answer::State))
                    });
                    return self.work.push(answered.boxed());
                }
                Ok(message) => match message.into_item() {
                    Ok(item) => {
                        if self.check(item, peer, Origin::Direct) {
                            Answer::Received
                        } else {
                            Answer::Refused("too many items wait for a check; try again later".to_owned())
                        }
                    }
                    Err(NetworkMessage::PeerExchange(peers)) => {
                        self.shared.state().recorder.received();
                        self.shared.emit(&NetworkEvent::PeersDiscovered(peers));
                        Answer::Received
                    }
                    Err(message) => {
                        self.shared.emit(&NetworkEvent::MessageReceived { peer_id: peer, message });
                        Answer::Received
                    }
                },
            }
        };
        // An error says that the peer is gone.
        let _ = self.swarm.behaviour_mut().message.send_response(channel, answer.encode());
    }

    fn on_gossip(&mut self, source: PeerId, id: MessageId, message: gossipsub::Message) {
        let data = Bytes::from(message.data);
        if let Some(kind) = self.items.get(&message.topic) {
            self.check(Item::new(*kind, data), source, Origin::Gossip(id));
            return;
        }
        let Some(validate) = self.topics.get(&message.topic).copied() else {
            return self.report(&id, &source, MessageAcceptance::Ignore);
        };
        if !validate {
            self.report(&id, &source, MessageAcceptance::Accept);
        }
        self.shared.state().recorder.received();
        let topic = message.topic.into_string();
        self.shared.emit(&NetworkEvent::TopicMessage(TopicItem { topic, data, source, message_id: id.0 }));
    }

    fn on_identify(&mut self, id: PeerId, info: identify::Info) {
        let speaks = |name: &str| info.protocols.iter().any(|protocol| protocol.as_ref() == name);
        // Who dialled us and does not speak the hello is a plain libp2p peer; nothing more is to come.
        if !speaks(behaviour::HELLO.as_ref()) {
            self.ready(id, false);
        }
        if behaviour::protocol_name(&self.config, "kad/1").is_ok_and(|name| speaks(name.as_ref())) {
            for address in info.listen_addrs.iter().take(protocol::MAX_ADDRESSES_PER_PEER) {
                self.swarm.behaviour_mut().kad.add_address(&id, address.clone());
            }
        }
        let agent = Quoted(&info.agent_version).to_string();
        if let Some(peer) = self.shared.state().peers.get_mut(&id) {
            peer.agent.clone_from(&agent);
        } else if let Some(peer) = self.peers.get_mut(&id).and_then(|peer| peer.info.as_mut()) {
            peer.agent.clone_from(&agent);
        }
        let protocols = info.protocols.iter().take(64).map(|p| Quoted(p.as_ref()).to_string()).collect();
        self.shared.emit(&NetworkEvent::PeerIdentified { peer_id: id, agent, protocols });
    }
}

/// Why a dial failed, for a person.
pub(super) fn dial_reason(error: &DialError) -> String {
    match error {
        DialError::LocalPeerId { .. } => "this is the node's own address".to_owned(),
        DialError::NoAddresses => "no address of it is known; give one, or wait for discovery".to_owned(),
        DialError::DialPeerConditionFalse(_) => "it is being dialled already".to_owned(),
        DialError::Aborted => "the dial was cancelled".to_owned(),
        DialError::WrongPeerId { obtained, .. } => {
            format!("another peer answers there: {obtained}; the address may be old, or somebody poses as that peer")
        }
        DialError::Denied { cause } => cause
            .downcast_ref::<TurnedAway>()
            .map_or_else(|| "this node has enough connections".to_owned(), ToString::to_string),
        DialError::Transport(attempts) => {
            let mut reasons: Vec<_> = attempts.iter().map(|(address, error)| transport_reason(address, error)).collect();
            reasons.dedup();
            reasons.join("; ")
        }
    }
}

fn transport_reason(address: &Multiaddr, error: &TransportError<std::io::Error>) -> String {
    match error {
        TransportError::MultiaddrNotSupported(_) => {
            format!("no transport here can dial {address}")
        }
        TransportError::Other(error) => {
            let text = innermost(error);
            if text.contains("refused") {
                format!("nobody listens at {address} (connection refused)")
            } else if text.to_lowercase().contains("timeout") || text.contains("timed out") {
                format!("{address} did not answer in time")
            } else {
                format!("{address}: {text}")
            }
        }
    }
}

/// The error at the bottom of the chain: the ones above only repeat it.
fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut at = error;
    while let Some(source) = at.source() {
        at = source;
    }
    at.to_string()
}

fn close_reason(cause: Option<&ConnectionError>) -> String {
    match cause {
        None => "the connection was closed here".to_owned(),
        Some(ConnectionError::KeepAliveTimeout) => "nobody needed the connection".to_owned(),
        Some(ConnectionError::IO(error)) => format!("the connection ended: {}", innermost(error)),
    }
}
