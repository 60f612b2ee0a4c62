//! Gossip: plain topics, and the bridge to peers that speak only gossipsub.

use super::*;

/// Messages, and their bytes, that may wait for a subscription or for peers that read, at once.
const MAX_HELD: (usize, usize) = (64, 8 << 20);
/// How long one waits at most. Nobody is waited for so long: a subscription or a reader has a second.
const HOLD: Duration = Duration::from_secs(3);
/// What befalls who reads too slowly.
const DROPPED: &str = "messages to it were dropped";

/// A message on a plain topic, and who waits to hear what became of it.
pub(super) struct Unpublished {
    topic: String,
    data: Bytes,
    reply: oneshot::Sender<Result<(), NetworkError>>,
    /// How long it may wait.
    until: Instant,
}

impl Unpublished {
    pub(super) fn new(
        topic: String,
        data: Bytes,
        reply: oneshot::Sender<Result<(), NetworkError>>,
        now: Instant,
    ) -> Self {
        Self {
            topic,
            data,
            reply,
            until: now + HOLD,
        }
    }
}

impl Task {
    pub(super) fn on_gossip_event(&mut self, event: GossipEvent) {
        match event {
            GossipEvent::Plain(gossipsub::Event::Message {
                propagation_source,
                message_id,
                message,
            }) => self.on_gossip(propagation_source, message_id, message),
            GossipEvent::Plain(gossipsub::Event::Subscribed { peer_id, topic }) => {
                self.subscribed(peer_id, &topic, true);
            }
            GossipEvent::Plain(gossipsub::Event::Unsubscribed { peer_id, topic }) => {
                self.subscribed(peer_id, &topic, false);
            }
            GossipEvent::Plain(gossipsub::Event::GossipsubNotSupported { .. }) => self.bridge(),
            GossipEvent::Plain(gossipsub::Event::SlowPeer {
                peer_id,
                failed_messages,
            }) => {
                let lost = failed_messages.non_priority + failed_messages.priority;
                self.lost(peer_id, lost as u64, DROPPED);
            }
            GossipEvent::Lost(peer, count) => {
                self.lost(peer, count as u64, DROPPED);
            }
            GossipEvent::Room => self.publish_held(|_| true),
            GossipEvent::Slow(peer) => {
                let reason = "it sends a large message so slowly that it was given up";
                self.impaired(peer, reason.to_owned());
            }
            GossipEvent::Signs(peer) => {
                let reason = "it signs its messages (StrictSign), which are dropped here; \
                              they carry no signature in this network, see docs/wire.md";
                self.impaired(peer, reason.to_owned());
            }
            GossipEvent::Useless(peer) => self.note(peer, Misdeed::TooManyMessages),
            GossipEvent::Broken(peer) => self.note(peer, Misdeed::InvalidMessage),
        }
    }

    /// Something for a peer was dropped, since it reads too slowly: it is told, and counted.
    pub(super) fn lost(&mut self, peer: PeerId, count: u64, what: &str) {
        self.shared.state().recorder.unsent(count);
        let reason = format!("it reads too slowly: {count} {what}");
        self.impaired(peer, reason);
    }

    fn impaired(&mut self, peer_id: PeerId, reason: String) {
        self.shared
            .emit(NetworkEvent::GossipImpaired { peer_id, reason });
    }

    /// Reputations fade, and may be forgiven: so do the scores that follow them.
    pub(super) fn score_again(&mut self, now: Instant) {
        for peer in self.swarm.behaviour().gossip.scored() {
            let score = self.shared.peers().reputation().score(&peer, now);
            self.swarm.behaviour_mut().gossip.set_score(&peer, score);
        }
    }

    /// A peer is ready: one of ours, or a plain one, which needs a place.
    pub(super) fn admit_to_gossip(&mut self, id: PeerId, info: &PeerInfo) {
        let gossip = &mut self.swarm.behaviour_mut().gossip;
        gossip.set_score(&id, info.reputation);
        if !gossip.admit(id, info.selkie) {
            for kind in ItemKind::ALL {
                self.shared.peers().gossips(&id, kind, false);
            }
            let reason = "all places for plain peers are taken \
                          (protocol.gossipsub_config.max_plain_peers)";
            self.impaired(id, reason.to_owned());
        }
        self.publish_held(|_| true);
        self.bridge();
    }

    pub(super) fn on_gossip(&mut self, source: PeerId, id: MessageId, message: gossipsub::Message) {
        let data = Bytes::from(message.data);
        if let Some(kind) = self.items.get(&message.topic) {
            // The report to gossip, and an event where there is no room, say what became of it.
            let _ = self.offer(Item::new(*kind, data), Source::Gossip(source, id));
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

    /// A peer told whether it takes part in a topic.
    fn subscribed(&mut self, id: PeerId, topic: &gossipsub::TopicHash, takes_part: bool) {
        let Some(kind) = self.items.get(topic).copied() else {
            return self.publish_held(|held| held.topic == topic.as_str());
        };
        self.shared.peers().gossips(&id, kind, takes_part);
        self.bridge();
    }

    /// Takes part in the gossip of our items as long as a plain peer is here: it has them from nowhere else, and may
    /// publish them without taking part, and for a while longer. Nodes that propagate to each other gossip nothing twice.
    pub(super) fn bridge(&mut self) {
        let now = platform::now();
        self.bridged.clear();
        for kind in ItemKind::ALL {
            let topic = IdentTopic::new(protocol::topic(&self.config.chain.network_id, kind));
            let needed = self.shared.peers().needs_gossip(kind);
            let gossip = &mut self.swarm.behaviour_mut().gossip;
            let takes_part = needed || gossip.hosts_plain();
            if self.lingering.takes_part(kind, takes_part, now) {
                // Only a subscription filter could refuse it, and there is none for our own.
                let _ = gossip.subscribe(&topic);
            } else {
                gossip.unsubscribe(&topic);
            }
            if needed {
                self.bridged.push(kind);
            }
        }
    }

    /// Whether items of a kind are gossiped here.
    pub(super) fn gossips(&self, kind: ItemKind) -> bool {
        self.bridged.contains(&kind)
    }

    pub(super) fn join(&mut self, topic: &str, validate: bool) -> Result<(), NetworkError> {
        let wrong = |problem: &str| Err(NetworkError::argument("topic", topic, problem));
        let name = IdentTopic::new(topic);
        if topic.is_empty() || topic.len() > MAX_TOPIC_NAME {
            return wrong("give a name of 1 to 256 bytes");
        }
        if self.items.contains_key(&name.hash()) {
            return wrong("this topic carries the chain's items; subscribe to those");
        }
        if self.topics.len() >= MAX_TOPICS && !self.topics.contains_key(&name.hash()) {
            return wrong("256 topics are joined already; leave one first");
        }
        if let Err(error) = self.swarm.behaviour_mut().gossip.subscribe(&name) {
            return wrong(&error.to_string());
        }
        self.topics.insert(name.hash(), validate);
        Ok(())
    }

    /// The plain topics that are joined, by name, and who takes part.
    pub(super) fn topics(&self) -> Vec<TopicInfo> {
        let gossip = &self.swarm.behaviour().gossip;
        let mut topics: Vec<_> = self
            .topics
            .iter()
            .map(|(topic, validate)| {
                let (peers, mesh) = gossip.who_takes(topic);
                TopicInfo {
                    topic: topic.to_string(),
                    validate: *validate,
                    peers,
                    mesh,
                }
            })
            .collect();
        order::sort_by(&mut topics, |one, other| one.topic.cmp(&other.topic));
        topics
    }

    /// Publishes on a plain topic. Where nobody takes part, or nobody who is known, but a peer is here whose subscriptions, or who it is,
    /// are on their way, the message waits for them; and it waits for peers that have much to read. What comes behind it on its topic waits too.
    pub(super) fn publish_or_hold(&mut self, held: Unpublished) {
        let name = IdentTopic::new(&held.topic);
        if self.items.contains_key(&name.hash()) {
            let problem = "this topic carries the chain's items; \
                           send them by submit, broadcast_message or broadcast_transactions";
            let wrong = NetworkError::argument("topic", &held.topic, problem);
            return drop(held.reply.send(Err(wrong)));
        }
        let now = platform::now();
        let may_wait = now < held.until;
        let gossip = &mut self.swarm.behaviour_mut().gossip;
        let is_behind = may_wait && self.held.iter().any(|other| other.topic == held.topic);
        let has_room = !is_behind && gossip.has_room();
        let published = if has_room {
            self.publish(&held.topic, held.data.clone())
        } else {
            Err(NetworkError::Busy)
        };
        let gossip = &self.swarm.behaviour().gossip;
        let waits = match &published {
            Err(NetworkError::NoPeers { .. }) => gossip.awaits_newcomers(now),
            Err(NetworkError::Busy) => !has_room || gossip.awaits_newcomers(now),
            _ => false,
        };
        let bytes: usize = self.held.iter().map(|held| held.data.len()).sum();
        let fits = self.held.len() < MAX_HELD.0 && bytes + held.data.len() <= MAX_HELD.1;
        if waits && may_wait && fits {
            return self.held.push(held);
        }
        let mut state = self.shared.state();
        match &published {
            Ok(()) => state.recorder.sent(1),
            Err(_) => state.recorder.unsent(1),
        }
        drop(state);
        let _ = held.reply.send(published);
    }

    /// Tries again to publish what waits.
    pub(super) fn publish_held(&mut self, which: impl Fn(&Unpublished) -> bool) {
        let held = std::mem::take(&mut self.held);
        let (now, later) = held.into_iter().partition(which);
        self.held = later;
        let now: Vec<Unpublished> = now;
        now.into_iter().for_each(|held| self.publish_or_hold(held));
    }

    pub(super) fn publish(&mut self, topic: &str, data: Bytes) -> Result<(), NetworkError> {
        let limit = self.config.protocol.gossipsub_config.max_transmit_size;
        let (name, size) = (IdentTopic::new(topic), data.len());
        if size > limit {
            let field = "protocol.gossipsub_config.max_transmit_size";
            return Err(ProtocolError::TooLarge { size, limit, field }.into());
        }
        match self.swarm.behaviour_mut().gossip.publish(name, data) {
            Ok(_) => Ok(()),
            Err(gossipsub::PublishError::Duplicate) => Err(ProtocolError::Duplicate.into()),
            Err(gossipsub::PublishError::MessageTooLarge) => {
                let field = "protocol.gossipsub_config.max_transmit_size";
                Err(ProtocolError::TooLarge { size, limit, field }.into())
            }
            Err(gossipsub::PublishError::AllQueuesFull(_)) => Err(NetworkError::Busy),
            Err(gossipsub::PublishError::NoPeersSubscribedToTopic) => Err(NetworkError::NoPeers {
                topic: topic.to_owned(),
            }),
            Err(other) => Err(ProtocolError::Network(other.to_string()).into()),
        }
    }

    /// Tells gossipsub the verdict on a message.
    pub(super) fn report(
        &mut self,
        id: &MessageId,
        source: &PeerId,
        acceptance: MessageAcceptance,
    ) {
        let accepts = matches!(acceptance, MessageAcceptance::Accept);
        let known = self
            .swarm
            .behaviour_mut()
            .gossip
            .report_message_validation_result(id, source, acceptance);
        if accepts && !known {
            let kept_for = self.swarm.behaviour().gossip.kept_for();
            let reason = format!(
                "a message from it was accepted later than {kept_for:?} after it came, \
                 and is not passed on by gossip"
            );
            self.impaired(*source, reason);
            tracing::warn!("a message is not gossiped: its verdict came too late");
            self.shared.state().recorder.unsent(1);
        }
    }
}

/// Our word for it in libp2p's.
pub(super) fn acceptance(verdict: Verdict) -> MessageAcceptance {
    match verdict {
        Verdict::Accept => MessageAcceptance::Accept,
        Verdict::Ignore => MessageAcceptance::Ignore,
        Verdict::Reject => MessageAcceptance::Reject,
    }
}
