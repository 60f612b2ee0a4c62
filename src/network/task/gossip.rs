//! Gossip: plain topics, and the bridge to peers that speak only gossipsub.

use super::*;

impl Task {
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

    pub(super) fn join(&mut self, topic: &str, validate: bool) -> Result<(), NetworkError> {
        let wrong = |problem: &str| Err(ConfigError::new("topic", topic, problem).into());
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

    pub(super) fn publish(&mut self, topic: &str, data: Bytes) -> Result<(), NetworkError> {
        let limit = self.config.protocol.gossipsub_config.max_transmit_size;
        let (name, size) = (IdentTopic::new(topic), data.len());
        match self.swarm.behaviour_mut().gossip.publish(name, data) {
            Ok(_) => Ok(()),
            Err(gossipsub::PublishError::Duplicate) => Err(ProtocolError::Duplicate.into()),
            Err(gossipsub::PublishError::MessageTooLarge) => {
                Err(ProtocolError::TooLarge { size, limit }.into())
            }
            Err(gossipsub::PublishError::AllQueuesFull(_)) => Err(NetworkError::Busy),
            Err(gossipsub::PublishError::NoPeersSubscribedToTopic) => Err(NetworkError::NoPeers {
                topic: topic.to_owned(),
            }),
            Err(other) => Err(ProtocolError::Network(other.to_string()).into()),
        }
    }

    /// False from gossipsub says that the message has left its cache meanwhile, which is no fault.
    pub(super) fn report(
        &mut self,
        id: &MessageId,
        source: &PeerId,
        acceptance: MessageAcceptance,
    ) {
        let _ = self
            .swarm
            .behaviour_mut()
            .gossip
            .report_message_validation_result(id, source, acceptance);
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
