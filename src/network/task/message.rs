//! Direct messages and questions about state.

use super::*;
use crate::{
    chain::rules,
    frames::Place,
    intake::NoRoom,
    network::{
        answers::End,
        codec::{Request, Unread, is_garbage},
        protocol::Told,
        requests::Turn,
    },
    platform,
    traffic::{Cost, Protocol as Limited},
};

impl Task {
    pub(super) fn on_message(&mut self, event: rr::Event<Request, codec::Frame>) {
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
                self.on_request(peer, request_id, request, channel);
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
                if let Some((peer, wanted)) = self.tellings.remove(&request_id) {
                    return self.on_told(peer, wanted, &response);
                }
                let answered = self
                    .requests
                    .answered(request_id, &response, platform::now());
                if let Some((took, valid)) = answered {
                    let mut state = self.shared.state();
                    state.recorder.round_trip(took);
                    state.recorder.sent(1);
                    drop(state);
                    if !valid {
                        self.note(peer, Misdeed::InvalidMessage);
                    }
                }
                self.send_requests(peer);
            }
            rr::Event::OutboundFailure {
                peer,
                request_id,
                error,
                ..
            } => {
                let mut is_silent = false;
                // Nobody has to listen to what a node tells of itself.
                if self.tellings.remove(&request_id).is_none() {
                    let name = format!("/selkie/{}/message/1", self.config.chain.network_id);
                    let now = platform::now();
                    // Its answer may stand here.
                    let is_heard = !self.swarm.behaviour().lanes.is_unheard(&peer, now);
                    is_silent = self.requests.failed(request_id, &error, &name, now) && is_heard;
                    self.shared.state().recorder.unsent(1);
                }
                if is_silent {
                    self.note(peer, Misdeed::NoAnswer);
                } else if let rr::OutboundFailure::Io(error) = error
                    && is_garbage(&error)
                {
                    self.note(peer, Misdeed::InvalidMessage);
                }
                self.send_requests(peer);
            }
            rr::Event::InboundFailure { request_id, .. } => self.answers.gave_up(&request_id),
            rr::Event::ResponseSent { .. } => {}
        }
    }

    /// Sends a peer what waits for its turn, as far as that has come.
    pub(super) fn send_requests(&mut self, peer: PeerId) {
        let now = platform::now();
        if !self.swarm.is_connected(&peer) {
            return self.requests.gone(&peer, now);
        }
        loop {
            match self.requests.next(&peer, now) {
                Turn::Now(frame, counts, reply) => {
                    let sent = self
                        .swarm
                        .behaviour_mut()
                        .message
                        .send_request(&peer, frame);
                    self.requests.sent(sent, (peer, counts), reply, now);
                }
                Turn::At(at) => {
                    let turn = Delay::new(at.saturating_duration_since(now)).map(move |()| peer);
                    return self.turns.push(turn.boxed());
                }
                Turn::None => return,
            }
        }
    }

    pub(super) fn on_request(
        &mut self,
        peer: PeerId,
        id: rr::InboundRequestId,
        request: Request,
        channel: ResponseChannel,
    ) {
        // What was read for nothing counts as well.
        let bytes = match &request {
            Ok(frame) => frame.len(),
            Err(unread) => unread.bytes,
        } as u64;
        let cost = Cost { items: 1, bytes };
        let now = platform::now();
        let stage = self.shared.peers().stage(&peer);
        let admission = self.limiter.admits(peer, Limited::Message, cost, now);
        let answer = if admission.is_err() {
            self.note(peer, Misdeed::TooManyMessages);
            Answer::Refused("you send more often than you may; slow down".to_owned())
        } else if let Err(Unread { error, .. }) = &request
            && !is_garbage(error)
        {
            Answer::Refused(error.to_string())
        } else if stage == Some(Stage::Leaving) {
            Answer::Refused("you are let go; ask another node".to_owned())
        } else if !matches!(stage, Some(Stage::Greeted | Stage::Ready)) {
            Answer::Refused("say hello first; see docs/wire.md".to_owned())
        } else {
            let frame = request.map_err(|unread| unread.error.to_string());
            let message = frame
                .and_then(|frame| NetworkMessage::read(&frame).map_err(|error| error.to_string()));
            match message {
                Err(error) => {
                    self.note(peer, Misdeed::InvalidMessage);
                    Answer::Refused(error)
                }
                Ok((NetworkMessage::StateRequest(request), _)) => {
                    let chain = Arc::clone(&self.shared.rules);
                    let work = async move { chain.query(&request).await.map(Told::One) };
                    return self.on_question(peer, work, (id, 1), channel);
                }
                Ok((NetworkMessage::StateBatch(batch), _)) => {
                    let costs = batch.costs();
                    let items = costs.saturating_sub(cost.items);
                    let cost = Cost { items, bytes: 0 };
                    self.limiter.charge(peer, Limited::Message, cost, now);
                    let chain = Arc::clone(&self.shared.rules);
                    let work = async move {
                        let proven = chain.prove_state(&batch).await?;
                        Some(Told::Many(batch.at, proven))
                    };
                    let counts = usize::try_from(costs).unwrap_or(usize::MAX);
                    return self.on_question(peer, work, (id, counts), channel);
                }
                Ok((NetworkMessage::PeerExchange(peers), telling)) => {
                    self.on_exchange(peer, peers, &telling, bytes)
                }
                Ok((message, _)) => match message.into_item() {
                    Ok(item) => match self.offer(item, Source::Direct(peer)) {
                        Ok(()) => Answer::Received,
                        Err(reason) => Answer::Refused(reason),
                    },
                    Err(_) => Answer::Refused("this message is no item".to_owned()),
                },
            }
        };
        self.answer(channel, &answer, None);
    }

    /// A peer asks about state, which counts as so many questions: it waits its turn, if there is room for it.
    fn on_question(
        &mut self,
        peer: PeerId,
        work: impl Future<Output = Option<Told>> + Send + 'static,
        id: (rr::InboundRequestId, usize),
        channel: ResponseChannel,
    ) {
        let asker = (peer, self.swarm.behaviour().gate.account(&peer));
        let work = rules::run(&*self.shared.rules, work).map(Option::flatten);
        match self.answers.ask(asker, id, channel, work) {
            Ok(answered) => self.work.push(answered.map(Done::Answered).boxed()),
            Err((channel, no_room)) => {
                let reason = match no_room {
                    NoRoom::Peer => {
                        "you ask too many questions about state at once; wait for the answers"
                    }
                    NoRoom::All => "too many questions about state wait here; try again later",
                };
                self.answer(channel, &Answer::Refused(reason.to_owned()), None);
            }
        }
    }

    pub(super) fn on_answered(&mut self, answered: Answered) {
        self.tell_failures();
        let (channel, end) = self.answers.done(answered);
        let refused = |why: &str| Answer::Refused(why.to_owned());
        match end {
            End::Found(place, Some(state)) => {
                self.answer(channel, &Answer::State(state), Some(place));
            }
            End::Found(place, None) => {
                let answer = refused("this node serves no such state");
                self.answer(channel, &answer, Some(place));
            }
            End::Late => {
                let answer = refused("this node is busy with other questions; ask again later");
                self.answer(channel, &answer, None);
            }
            // They hear nothing.
            End::GaveUp => {}
        }
    }

    /// Sends an answer, whose place is its own until the peer has it.
    fn answer(&mut self, channel: ResponseChannel, answer: &Answer, place: Option<Place>) {
        let limit = self
            .config
            .protocol
            .request_response_config
            .max_message_size;
        let mut bytes = answer.encode();
        if bytes.len() > limit {
            let size = bytes.len();
            tracing::warn!(size, limit, "an answer about state is too large to be sent");
            let refusal = format!("the answer has {size} bytes, over the limit of {limit}");
            bytes = Answer::Refused(refusal).encode();
        }
        let frame = match place {
            Some(place) => codec::Frame::placed(bytes, place),
            None => bytes.into(),
        };
        // A peer that is gone asks for nothing.
        let _ = self
            .swarm
            .behaviour_mut()
            .message
            .send_response(channel, frame);
    }
}
