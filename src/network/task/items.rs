//! Items and topic messages on their way in and out: publishing, the queue of checks, verdicts.

use super::*;

impl Task {
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

    /// Takes an item from a peer into the queue; false where there is no room.
    pub(super) fn check(&mut self, item: Item, source: PeerId, origin: Origin) -> bool {
        self.shared.state().recorder.received();
        if !self.queue.has_room(item.data().len()) {
            let reason = "too many items wait for a check (protocol.validation.max_queued_bytes)";
            self.conclude(
                origin,
                item.kind(),
                source,
                Verdict::Ignore,
                reason.to_owned(),
            );
            return false;
        }
        self.queue.push(Pending {
            item,
            source,
            received_at: SystemTime::now(),
            origin,
        });
        self.start_checks();
        true
    }

    pub(super) fn start_checks(&mut self) {
        while let Some(pending) = self.queue.start() {
            let application = Arc::clone(&self.shared.application);
            let item = pending.item.clone();
            let check = platform::offload(move || {
                let checked = item.check(&*application);
                if checked.verdict == Verdict::Accept {
                    application.deliver(&item);
                }
                checked
            });
            self.work
                .push(check.map(|checked| Done::Checked(pending, checked)).boxed());
        }
    }

    pub(super) fn on_checked(&mut self, pending: Pending, checked: Option<Checked>) {
        let Pending {
            item,
            source,
            received_at,
            origin,
        } = pending;
        self.queue.done(item.data().len());
        self.start_checks();
        let kind = item.kind();
        let Some(Checked {
            id,
            verdict,
            reason,
            ..
        }) = checked
        else {
            let reason = "the application failed while checking it; see its log".to_owned();
            return self.conclude(origin, kind, source, Verdict::Ignore, reason);
        };
        // What did not come by gossip goes on by gossip, unless it is known there already.
        if verdict == Verdict::Accept && !matches!(origin, Origin::Gossip(_)) {
            let topic = protocol::topic(&self.config.chain.network_id, kind);
            if let Err(NetworkError::Protocol(ProtocolError::Duplicate)) =
                self.publish(&topic, item.data().clone())
            {
                if let Origin::Handed(reply) = origin {
                    let _ = reply.send(Err(ProtocolError::Duplicate));
                }
                return;
            }
        }
        self.conclude(origin, kind, source, verdict, reason);
        if verdict == Verdict::Accept {
            self.deliver(item, id, Some(source), received_at);
        }
    }

    /// Tells everyone whom a verdict concerns.
    pub(super) fn conclude(
        &mut self,
        origin: Origin,
        kind: ItemKind,
        source: PeerId,
        verdict: Verdict,
        reason: String,
    ) {
        if verdict == Verdict::Reject {
            self.note(source, Misdeed::InvalidItem);
        }
        if verdict != Verdict::Accept {
            self.shared.emit(&NetworkEvent::ItemRefused {
                kind,
                source,
                reason: reason.clone(),
            });
        }
        match origin {
            Origin::Gossip(id) => self.report(&id, &source, acceptance(verdict)),
            Origin::Direct => {}
            Origin::Handed(reply) => {
                let _ = reply.send(match verdict {
                    Verdict::Accept => Ok(()),
                    Verdict::Ignore => Err(ProtocolError::Ignored { kind, reason }),
                    Verdict::Reject => Err(ProtocolError::Rejected { kind, reason }),
                });
            }
        }
    }

    pub(super) fn deliver(
        &self,
        item: Item,
        id: ItemId,
        source: Option<PeerId>,
        received_at: SystemTime,
    ) {
        self.shared.emit(&NetworkEvent::ItemAccepted {
            item,
            id,
            source,
            received_at,
        });
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
