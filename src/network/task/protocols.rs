//! What peers say in each protocol, and what the task answers.

use libp2p::identify;

use super::{reasons::hello_misdeed, *};
use crate::{
    network::{behaviour::BehaviourEvent, codec::is_garbage, protocol::Quoted},
    traffic::{Cost, Protocol},
};

impl Task {
    pub(super) fn on_behaviour_event(&mut self, event: BehaviourEvent) {
        match event {
            BehaviourEvent::Hello(event) => self.on_hello(event),
            BehaviourEvent::Message(event) => self.on_message(event),
            BehaviourEvent::Gossip(gossipsub::Event::Message {
                propagation_source,
                message_id,
                message,
            }) => {
                self.on_gossip(propagation_source, message_id, message);
            }
            BehaviourEvent::Identify(identify::Event::Received { peer_id, info, .. }) => {
                self.on_identify(peer_id, info)
            }
            BehaviourEvent::Gossip(gossipsub::Event::Subscribed { peer_id, topic }) => {
                self.subscribed(peer_id, &topic)
            }
            BehaviourEvent::Lanes(event) => self.on_lanes(event),
            BehaviourEvent::Ping(event) => self.on_ping(event),
            BehaviourEvent::Local(event) => self.on_found(transport::found(event)),
            _ => {}
        }
    }

    pub(super) fn on_found(&mut self, found: Vec<(PeerId, Multiaddr)>) {
        let mut peers: HashMap<PeerId, PeerInfo> = HashMap::new();
        for (id, address) in found.into_iter().take(protocol::MAX_EXCHANGED_PEERS) {
            self.swarm
                .behaviour_mut()
                .kad
                .add_address(&id, address.clone());
            peers
                .entry(id)
                .or_insert_with(|| PeerInfo::new(id))
                .addresses
                .push(address);
        }
        if peers.is_empty() {
            return;
        }
        for (id, peer) in &peers {
            if self.peers.len() < self.config.network.max_peers && !self.peers.contains_key(id) {
                let options = DialOpts::peer_id(*id)
                    .addresses(peer.addresses.clone())
                    .build();
                let _ = self.swarm.dial(options);
            }
        }
        self.shared
            .emit(NetworkEvent::PeersDiscovered(peers.into_values().collect()));
    }

    pub(super) fn on_hello(&mut self, event: rr::Event<Frame, Vec<u8>>) {
        match event {
            rr::Event::Message {
                peer,
                message:
                    rr::Message::Request {
                        request_id,
                        request,
                        channel,
                    },
                ..
            } => {
                let mut answer = self.hello.clone();
                let theirs = request
                    .map_err(|error| error.to_string())
                    .and_then(|frame| {
                        Hello::decode(frame.as_slice()).map_err(|error| error.to_string())
                    });
                let (told, refusal) = match theirs {
                    Ok(theirs) => {
                        let objection = self.hello.objection(&theirs).unwrap_or_default();
                        (objection.clone(), objection)
                    }
                    Err(error) => {
                        self.note(peer, Misdeed::InvalidMessage);
                        let told = format!("its hello breaks the rules: {error}");
                        (
                            told,
                            format!("your hello breaks the rules: {error}; see docs/wire.md"),
                        )
                    }
                };
                if told.is_empty() {
                    self.greeted(peer);
                } else {
                    self.turn_away(peer, told);
                    self.farewells.insert(request_id, peer);
                    answer.refusal = refusal;
                }
                let answer = answer.encode_to_vec();
                let _ = self
                    .swarm
                    .behaviour_mut()
                    .hello
                    .send_response(channel, answer);
            }
            rr::Event::Message {
                peer,
                message:
                    rr::Message::Response {
                        request_id,
                        response,
                    },
                ..
            } => {
                self.greetings.remove(&request_id);
                match Hello::decode(response.as_slice()) {
                    Ok(theirs) => {
                        let told = (!theirs.refusal.is_empty())
                            .then(|| Quoted(&theirs.refusal).to_string());
                        match told.or_else(|| self.hello.objection(&theirs)) {
                            None => self.greeted(peer),
                            Some(reason) => self.reject(peer, &reason),
                        }
                    }
                    Err(_) => {
                        self.note(peer, Misdeed::InvalidMessage);
                        self.reject(peer, "its hello is no protobuf message");
                    }
                }
            }
            rr::Event::OutboundFailure {
                request_id, error, ..
            } => {
                let Some(peer) = self.greetings.remove(&request_id) else {
                    return;
                };
                let stage = self.peers.get(&peer).map(|peer| peer.stage);
                match error {
                    rr::OutboundFailure::UnsupportedProtocols => self.plain(peer),
                    // It is gone, or past the hello by another way.
                    _ if stage != Some(Stage::Greeting) => {}
                    // Peers that dial each other at the same moment have connections too many; this was one.
                    rr::OutboundFailure::ConnectionClosed => self.greet(peer),
                    error => {
                        self.note(peer, hello_misdeed(&error));
                        self.reject(peer, &format!("it did not answer the hello: {error}"));
                    }
                }
            }
            rr::Event::ResponseSent { request_id, .. } => {
                if let Some(peer) = self.farewells.remove(&request_id) {
                    // The other side has the answer in its buffers; give it the moment to read it.
                    self.leaving(peer);
                }
            }
            rr::Event::InboundFailure { request_id, .. } => {
                self.farewells.remove(&request_id);
            }
        }
    }

    pub(super) fn on_message(&mut self, event: rr::Event<Frame, Vec<u8>>) {
        match event {
            rr::Event::Message {
                peer,
                message:
                    rr::Message::Request {
                        request, channel, ..
                    },
                ..
            } => {
                self.on_request(peer, request, channel);
            }
            rr::Event::Message {
                peer,
                message:
                    rr::Message::Response {
                        request_id,
                        response,
                    },
                ..
            } => {
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
            rr::Event::OutboundFailure {
                peer,
                request_id,
                error,
                ..
            } => {
                let name = format!("/selkie/{}/message/1", self.config.chain.network_id);
                self.requests.failed(request_id, &error, &name);
                self.shared.state().recorder.sent(false);
                match error {
                    rr::OutboundFailure::Timeout => self.note(peer, Misdeed::NoAnswer),
                    rr::OutboundFailure::Io(error) if is_garbage(&error) => {
                        self.note(peer, Misdeed::InvalidMessage);
                    }
                    _ => {}
                }
            }
            rr::Event::InboundFailure { .. } | rr::Event::ResponseSent { .. } => {}
        }
    }

    pub(super) fn on_request(&mut self, peer: PeerId, frame: Frame, channel: ResponseChannel) {
        // Its bytes have a limit in the codec.
        let cost = Cost { items: 1, bytes: 0 };
        let now = Instant::now();
        let answer = if !self
            .peers
            .get(&peer)
            .is_some_and(|peer| matches!(peer.stage, Stage::Greeted | Stage::Ready))
        {
            Answer::Refused("say hello first; see docs/wire.md".to_owned())
        } else if self
            .limiter
            .admits(peer, Protocol::Message, cost, now)
            .is_err()
        {
            self.note(peer, Misdeed::TooManyMessages);
            Answer::Refused("you send more often than you may; slow down".to_owned())
        } else {
            let message = frame.map_err(|error| error.to_string()).and_then(|frame| {
                NetworkMessage::decode(&frame).map_err(|error| error.to_string())
            });
            match message {
                Err(error) => {
                    self.note(peer, Misdeed::InvalidMessage);
                    Answer::Refused(error)
                }
                Ok(NetworkMessage::StateRequest(request)) => {
                    let application = Arc::clone(&self.shared.application);
                    let query = platform::offload(move || application.query(&request));
                    let answered = query.map(|response| {
                        let refused =
                            || Answer::Refused("this node serves no such state".to_owned());
                        Done::Answered(
                            channel,
                            response.flatten().map_or_else(refused, Answer::State),
                        )
                    });
                    return self.work.push(answered.boxed());
                }
                Ok(message) => match message.into_item() {
                    Ok(item) => {
                        if self.check(item, peer, Source::Direct) {
                            Answer::Received
                        } else {
                            Answer::Refused(
                                "too many items wait for a check; try again later".to_owned(),
                            )
                        }
                    }
                    Err(NetworkMessage::PeerExchange(peers)) => {
                        self.shared.state().recorder.received();
                        self.shared.emit(NetworkEvent::PeersDiscovered(peers));
                        Answer::Received
                    }
                    Err(message) => {
                        self.shared.emit(NetworkEvent::MessageReceived {
                            peer_id: peer,
                            message,
                        });
                        Answer::Received
                    }
                },
            }
        };
        // An error says that the peer is gone.
        let _ = self
            .swarm
            .behaviour_mut()
            .message
            .send_response(channel, answer.encode());
    }

    pub(super) fn on_gossip(&mut self, source: PeerId, id: MessageId, message: gossipsub::Message) {
        let data = Bytes::from(message.data);
        if let Some(kind) = self.items.get(&message.topic) {
            if self
                .swarm
                .behaviour()
                .lanes
                .knows(*kind, &TransactionKey::of(&data))
            {
                return self.report(&id, &source, MessageAcceptance::Ignore);
            }
            self.check(Item::new(*kind, data), source, Source::Gossip(id));
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
        self.shared.emit(NetworkEvent::TopicMessage(TopicItem {
            topic,
            data,
            source,
            message_id: id.0,
        }));
    }

    pub(super) fn on_identify(&mut self, id: PeerId, info: identify::Info) {
        let speaks = |name: &str| {
            info.protocols
                .iter()
                .any(|protocol| protocol.as_ref() == name)
        };
        // Who dialled us and does not speak the hello is a plain libp2p peer; nothing more is to come.
        if !speaks(behaviour::HELLO.as_ref()) {
            self.plain(id);
        }
        if self
            .config
            .protocol_name("kad/1")
            .is_ok_and(|name| speaks(name.as_ref()))
        {
            for address in info
                .listen_addrs
                .iter()
                .take(protocol::MAX_ADDRESSES_PER_PEER)
            {
                self.swarm
                    .behaviour_mut()
                    .kad
                    .add_address(&id, address.clone());
            }
        }
        let agent = Quoted(&info.agent_version).to_string();
        if let Some(peer) = self.shared.state().peers.get_mut(&id) {
            peer.agent.clone_from(&agent);
        } else if let Some(peer) = self.peers.get_mut(&id).and_then(|peer| peer.info.as_mut()) {
            peer.agent.clone_from(&agent);
        }
        let protocols = info
            .protocols
            .iter()
            .take(64)
            .map(|p| Quoted(p.as_ref()).to_string())
            .collect();
        self.shared.emit(NetworkEvent::PeerIdentified {
            peer_id: id,
            agent,
            protocols,
        });
    }
}
