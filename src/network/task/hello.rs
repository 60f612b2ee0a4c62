//! The hello: who is there, and who is turned away.

use super::*;
use crate::platform;
use crate::{
    network::{protocol::Quoted, reasons::hello_misdeed},
    peers::{BANNED, Neighbours},
    traffic::{Cost, Protocol as Limited},
};

/// Why a peer is let go that is not there any more when the host wakes.
const SLEPT_AWAY: &str = "it does not answer since this host woke, or has another network";
/// Why it has to go, for a peer.
const MAKE_ROOM: &str = "all places are taken (network.max_peers), and you make room for others as the least useful; try another node, or this one later";

impl Task {
    pub(super) fn greet(&mut self, id: PeerId) {
        let greeting = self.hello.encode_to_vec();
        let hello = &mut self.swarm.behaviour_mut().hello;
        hello.send_request(&id, Ok(greeting.into()));
    }

    /// Tells a peer of ours that it makes room for others. Its answer says that it has read that.
    pub(super) fn part(&mut self, id: PeerId) {
        let farewell = Hello {
            refusal: MAKE_ROOM.to_owned(),
            ..self.hello.clone()
        };
        let hello = &mut self.swarm.behaviour_mut().hello;
        let request = hello.send_request(&id, Ok(farewell.encode_to_vec().into()));
        self.goodbyes.insert(request);
    }

    /// A peer lets us go, or never let us in; asking it again is of use after so many seconds.
    fn refused_by(&mut self, peer: PeerId, reason: &str, wait: u32) {
        let (now, wait) = (platform::now(), Duration::from_secs(wait.into()));
        self.discovery.waits(&peer, wait, now);
        self.shared.peers().turn_away(peer, reason, now);
    }

    /// The host slept, or the network is another: whose connection lives says hello once more, and who does not is let go within
    /// `connection_timeout`; all that wait to be dialled are due, and the local network is asked who is there now. Asked again sooner than that, nothing is done.
    pub(super) fn wake(&mut self, now: Instant) {
        if self
            .woke
            .is_some_and(|woke| now < woke + self.config.network.connection_timeout)
        {
            return;
        }
        self.woke = Some(now);
        let peers = self.shared.peers();
        let ours = peers.shown().filter(|peer| peer.selkie);
        let ours: Vec<_> = ours.map(|peer| peer.peer_id).collect();
        drop(peers);
        for peer in ours {
            self.greet(peer);
        }
        self.discovery.woke(&mut self.swarm, now);
        // How long it slept no clock says: those that are here still say so again.
        self.shared.state().local = Neighbours::default();
        self.ask_neighbours();
    }

    pub(super) fn on_hello(&mut self, event: rr::Event<codec::Request, codec::Frame>) {
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
                let cost = Cost { items: 1, bytes: 0 };
                let admission = self
                    .limiter
                    .admits(peer, Limited::Message, cost, platform::now());
                if admission.is_err() {
                    return self.note(peer, Misdeed::TooManyMessages);
                }
                let mut answer = self.hello.clone();
                let mut sync = 0;
                let theirs = request
                    .map_err(|unread| unread.error.to_string())
                    .and_then(|frame| Hello::decode(&*frame).map_err(|error| error.to_string()));
                let (told, refusal) = match theirs {
                    Ok(theirs) if !theirs.refusal.is_empty() => {
                        let reason = Quoted(&theirs.refusal).to_string();
                        self.refused_by(peer, &reason, theirs.wait);
                        let hello = &mut self.swarm.behaviour_mut().hello;
                        let _ = hello.send_response(channel, answer.encode_to_vec().into());
                        return;
                    }
                    Ok(theirs) => {
                        sync = theirs.sync;
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
                let (now, mut peers) = (platform::now(), self.shared.peers());
                let greeted = if told.is_empty() {
                    peers.greeted(&peer, now)
                } else {
                    Ok(())
                };
                let (told, refusal) = match greeted {
                    Ok(()) => (told, refusal),
                    Err(BANNED) => {
                        let left = peers.bans().left(&peer, now).unwrap_or_default();
                        answer.wait = u32::try_from(left.as_secs()).unwrap_or(u32::MAX);
                        let refusal = format!("you are banned here for {} s more", left.as_secs());
                        (BANNED.to_owned(), refusal)
                    }
                    Err(full) => {
                        let refusal = format!("{full}; try another node, or this one later");
                        (full.to_owned(), refusal)
                    }
                };
                if !told.is_empty() {
                    peers.turn_away(peer, &told, now);
                    self.farewells.insert(request_id, peer);
                    answer.refusal = refusal;
                }
                drop(peers);
                let core = &mut self.swarm.behaviour_mut().lanes.core;
                core.greeted(peer, sync);
                let answer = answer.encode_to_vec();
                let _ = self
                    .swarm
                    .behaviour_mut()
                    .hello
                    .send_response(channel, answer.into());
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
                if self.goodbyes.remove(&request_id) {
                    return self.shared.peers().told(&peer, platform::now());
                }
                match Hello::decode(&*response) {
                    Ok(theirs) => {
                        let told = (!theirs.refusal.is_empty())
                            .then(|| Quoted(&theirs.refusal).to_string());
                        match told.or_else(|| self.hello.objection(&theirs)) {
                            None => {
                                let core = &mut self.swarm.behaviour_mut().lanes.core;
                                core.greeted(peer, theirs.sync);
                                let mut peers = self.shared.peers();
                                if let Err(reason) = peers.greeted(&peer, platform::now()) {
                                    peers.reject(peer, reason);
                                }
                            }
                            // It may still answer who else is there.
                            Some(reason) => {
                                self.refused_by(peer, &reason, theirs.wait);
                                // One of our own network that does not say for how long, and may have had no time to answer that.
                                if theirs.wait == 0 && self.hello.objection(&theirs).is_none() {
                                    self.discovery.is_full(&peer);
                                }
                            }
                        }
                    }
                    Err(_) => {
                        self.note(peer, Misdeed::InvalidMessage);
                        self.shared
                            .peers()
                            .reject(peer, "its hello is no protobuf message");
                    }
                }
            }
            rr::Event::OutboundFailure {
                peer,
                request_id,
                error,
                ..
            } => {
                if self.goodbyes.remove(&request_id) {
                    return self.shared.peers().told(&peer, platform::now());
                }
                let stage = self.shared.peers().stage(&peer);
                match error {
                    rr::OutboundFailure::UnsupportedProtocols => {
                        self.shared.peers().never_greets(peer, platform::now());
                    }
                    // Asked whether it is still there, it did not answer.
                    rr::OutboundFailure::Timeout if matches!(stage, Some(Stage::Ready)) => {
                        self.shared.peers().let_go(peer, SLEPT_AWAY.to_owned());
                    }
                    // It is gone, or past the hello by another way.
                    _ if stage != Some(Stage::Greeting) => {}
                    // Peers that dial each other at the same moment have connections too many; this was one.
                    rr::OutboundFailure::ConnectionClosed => self.greet(peer),
                    error => {
                        self.note(peer, hello_misdeed(&error));
                        let reason = format!("it did not answer the hello: {error}");
                        self.shared.peers().reject(peer, &reason);
                    }
                }
            }
            // One that was not read to its end is answered too.
            rr::Event::ResponseSent { request_id, .. }
            | rr::Event::InboundFailure { request_id, .. } => {
                if let Some(peer) = self.farewells.remove(&request_id) {
                    // The other side has the answer in its buffers; give it the moment to read it.
                    self.shared.peers().told(&peer, platform::now());
                }
            }
        }
    }
}
