//! Items on their way in and out: the queue of checks, verdicts, submissions.

use super::*;
use crate::chain::Application;

impl Task {
    /// Takes an item from a peer into the queue; false where there is no room.
    pub(super) fn check(&mut self, item: Item, source: PeerId, origin: Source) -> bool {
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
        self.queue.push(Work::Item(Pending {
            item,
            source,
            received_at: platform::date(),
            origin,
        }));
        self.start_checks();
        true
    }

    /// Takes a batch from the lanes into the queue. Where there is no room it is dropped: its sender has acknowledgements
    /// to go by, and reconciliation brings it again.
    pub(super) fn check_batch(&mut self, batch: Batch) {
        let work = Work::Batch(batch);
        if self.queue.has_room(work.size()) {
            self.queue.push(work);
            self.start_checks();
        } else if let Work::Batch(batch) = work {
            let Judged {
                origin,
                accepted,
                refused,
                ..
            } = Judged::ignored((batch.origin(), batch.keys()));
            let lanes = &mut self.swarm.behaviour_mut().lanes;
            lanes.concluded(origin, accepted, &refused, platform::now());
        }
    }

    pub(super) fn start_checks(&mut self) {
        while let Some(work) = self.queue.start() {
            let application = Arc::clone(&self.shared.application);
            let pending = match work {
                Work::Item(pending) => pending,
                Work::Batch(batch) => {
                    let mut batches = vec![batch];
                    batches.extend(self.queue.more());
                    self.start_batches(batches, application);
                    continue;
                }
                Work::Question(question) => {
                    self.start_question(question, application);
                    continue;
                }
            };
            let item = pending.item.clone();
            let check = platform::offload(move || {
                let (checked, block) = checked(&item, &*application);
                if checked.verdict == Verdict::Accept {
                    application.deliver(&item);
                }
                (checked, block)
            });
            self.work
                .push(check.map(|checked| Done::Checked(pending, checked)).boxed());
        }
    }

    fn start_batches(&mut self, batches: Vec<Batch>, application: Arc<dyn Application>) {
        let size = batches.iter().map(Batch::size).sum();
        let keys = |batch: &Batch| (batch.origin(), batch.keys());
        let failed: Vec<_> = batches.iter().map(keys).collect();
        let told = self.shared.has_subscribers();
        let check = platform::offload(move || {
            let judge = |batch| Judged::of(batch, &*application, told);
            batches.into_iter().map(judge).collect()
        });
        let judged = move |judged: Option<Vec<Judged>>| {
            let failed = || failed.into_iter().map(Judged::ignored).collect();
            Done::BatchesChecked(size, judged.unwrap_or_else(failed))
        };
        self.work.push(check.map(judged).boxed());
    }

    /// Takes a question about a block into the queue. How many there are is bounded by the cores.
    pub(super) fn ask(&mut self, question: Question) {
        self.queue.push(Work::Question(question));
        self.start_checks();
    }

    fn start_question(&mut self, question: Question, application: Arc<dyn Application>) {
        let (size, spare) = (question.size(), question.clone());
        let answer = platform::offload(move || question.ask(&*application));
        let answered = move |answer: Option<BlockAnswer>| {
            Done::BlockAnswered(size, answer.or_else(|| spare.unanswered()))
        };
        self.work.push(answer.map(answered).boxed());
    }

    pub(super) fn on_block_answered(&mut self, size: usize, answer: Option<BlockAnswer>) {
        self.queue.done(size);
        self.start_checks();
        let Some(answer) = answer else {
            return;
        };
        if let Some((accepted, source)) = answer.accepted()
            && !self.swarm.behaviour().lanes.knows_block(&accepted.id)
        {
            let data = accepted.block.data.clone();
            self.shared.state().recorder.received();
            if self.gossips(ItemKind::Block) {
                let topic = protocol::topic(&self.config.chain.network_id, ItemKind::Block);
                // Whoever has it by gossip already needs it no more.
                let _ = self.publish(&topic, data);
            }
            let item = Item::Block(accepted.block.clone());
            self.deliver(item, accepted.id.clone(), source, platform::date());
        }
        let lanes = &mut self.swarm.behaviour_mut().lanes;
        lanes.answered(answer, platform::now());
    }

    pub(super) fn on_batches_checked(&mut self, size: usize, batches: Vec<Judged>) {
        self.queue.done(size);
        self.start_checks();
        batches.into_iter().for_each(|batch| self.on_judged(batch));
    }

    fn on_judged(&mut self, batch: Judged) {
        let Judged {
            origin,
            accepted,
            refused,
            events,
            misdeed,
        } = batch;
        let (kind, source, _) = origin;
        let count = accepted.len() + refused.len();
        self.shared.state().recorder.received_many(count);
        if self.gossips(kind) {
            let topic = protocol::topic(&self.config.chain.network_id, kind);
            for item in &accepted {
                // Whoever has it by gossip already needs it no more.
                let _ = self.publish(&topic, item.data.clone());
            }
        }
        self.shared.emit_all(events);
        if let Some(misdeed) = misdeed {
            self.note(source, misdeed);
        }
        let lanes = &mut self.swarm.behaviour_mut().lanes;
        lanes.concluded(origin, accepted, &refused, platform::now());
    }

    /// Transactions of our own that the chain has accepted: they go on their way, and are delivered here too.
    pub(super) fn on_submission(
        &mut self,
        Submission {
            transactions,
            reply,
        }: Submission,
    ) {
        let kind = ItemKind::Transaction;
        let gossips = self.gossips(kind);
        let topic = protocol::topic(&self.config.chain.network_id, kind);
        if !gossips && self.swarm.behaviour().lanes.open_peers() == 0 {
            return drop(reply.send(Err(NetworkError::NoPeers { topic })));
        }
        let (now, received_at) = (platform::now(), platform::date());
        let (mut news, mut events, mut sent) = (Vec::new(), Vec::new(), 0);
        let told = self.shared.has_subscribers();
        for (item, accepted, id) in transactions {
            let is_new = self
                .swarm
                .behaviour_mut()
                .lanes
                .publish(kind, accepted, now);
            news.push(is_new);
            if !is_new {
                continue;
            }
            if gossips {
                // Plain peers may be gone the next moment; propagation has it.
                let _ = self.publish(&topic, item.data().clone());
            }
            sent += 1;
            events.extend(told.then_some(NetworkEvent::ItemAccepted {
                item,
                id,
                source: None,
                received_at,
            }));
        }
        self.shared.state().recorder.sent_many(sent);
        self.shared.emit_all(events);
        let _ = reply.send(Ok(news));
    }

    /// An item of our own that the chain has accepted: it goes on its way.
    pub(super) fn submit(
        &mut self,
        item: Item,
        fee: u64,
        block: Option<AcceptedBlock>,
    ) -> Result<(), NetworkError> {
        let (kind, data) = (item.kind(), item.data().clone());
        let topic = protocol::topic(&self.config.chain.network_id, kind);
        let gossips = self.gossips(kind);
        if !gossips && self.swarm.behaviour().lanes.open_peers() == 0 {
            return Err(NetworkError::NoPeers { topic });
        }
        if !self.propagate(kind, data.clone(), fee, block) {
            return Err(ProtocolError::Duplicate.into());
        }
        if gossips {
            // Plain peers may be gone the next moment; propagation has it.
            let _ = self.publish(&topic, data);
        }
        Ok(())
    }

    /// Hands an accepted item to propagation; false where it is there already.
    fn propagate(
        &mut self,
        kind: ItemKind,
        data: Bytes,
        fee: u64,
        block: Option<AcceptedBlock>,
    ) -> bool {
        let lanes = &mut self.swarm.behaviour_mut().lanes;
        if let Some(block) = block {
            return lanes.publish_block(block);
        }
        let key = TransactionKey::of(&data);
        let item = Accepted { key, data, fee };
        lanes.publish(kind, item, platform::now())
    }

    pub(super) fn on_checked(
        &mut self,
        pending: Pending,
        checked: Option<(Checked, Option<AcceptedBlock>)>,
    ) {
        let Pending {
            item,
            source,
            received_at,
            origin,
        } = pending;
        self.queue.done(item.data().len());
        self.start_checks();
        let kind = item.kind();
        let Some((
            Checked {
                id,
                fee,
                verdict,
                reason,
            },
            block,
        )) = checked
        else {
            let reason = "the application failed while checking it; see its log".to_owned();
            return self.conclude(origin, kind, source, Verdict::Ignore, reason);
        };
        // It goes on its way by what it did not come by, unless it is known there already.
        if verdict == Verdict::Accept {
            let data = item.data().clone();
            let known = if matches!(origin, Source::Gossip(_)) {
                !self.propagate(kind, data, fee, block)
            } else {
                matches!(
                    self.submit(item.clone(), fee, block),
                    Err(NetworkError::Protocol(ProtocolError::Duplicate))
                )
            };
            if known {
                match origin {
                    Source::Handed(reply) => drop(reply.send(Err(ProtocolError::Duplicate))),
                    Source::Gossip(id) => self.report(&id, &source, MessageAcceptance::Accept),
                    Source::Direct => {}
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
        origin: Source,
        kind: ItemKind,
        source: PeerId,
        verdict: Verdict,
        reason: String,
    ) {
        if verdict == Verdict::Reject {
            self.note(source, Misdeed::InvalidItem);
        }
        if verdict != Verdict::Accept {
            self.shared.emit(NetworkEvent::ItemRefused {
                kind,
                source,
                reason: reason.clone(),
            });
        }
        match origin {
            Source::Gossip(id) => self.report(&id, &source, acceptance(verdict)),
            Source::Direct => {}
            Source::Handed(reply) => {
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
        self.shared.emit(NetworkEvent::ItemAccepted {
            item,
            id,
            source,
            received_at,
        });
    }
}
