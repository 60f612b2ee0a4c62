//! The hello: who is there, and who is turned away.

use super::{reasons::hello_misdeed, *};
use crate::network::protocol::Quoted;
use crate::platform;

impl Task {
    pub(super) fn greet(&mut self, id: PeerId) {
        let hello = self.hello.encode_to_vec();
        let request = self
            .swarm
            .behaviour_mut()
            .hello
            .send_request(&id, Ok(hello.into()));
        self.greetings.insert(request, id);
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
                    .and_then(|frame| Hello::decode(&*frame).map_err(|error| error.to_string()));
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

    /// The hello is over: the peer is one of ours, and ready when it has told its subscriptions.
    pub(super) fn greeted(&mut self, id: PeerId) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        if peer.stage == Stage::Greeting {
            peer.stage = Stage::Greeted;
            peer.deadline = Some(platform::now() + SUBSCRIPTIONS);
            self.swarm.behaviour_mut().lanes.greeted(id);
        }
    }

    /// A stranger: told why by the hello's answer, and gone when it has read it or a moment later.
    pub(super) fn turn_away(&mut self, id: PeerId, reason: String) {
        self.refuse(id, reason);
        self.leaving(id);
    }
}
