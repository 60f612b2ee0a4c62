//! Items between the door and their way on: routes what the intake decides, and decides nothing itself.

use super::*;
use crate::{
    chain::{ItemId, rules},
    intake::{
        self, Asked, Batch, Judged, Load, NoRoom, Offer, Offered, Outcomes, Own, Source, Ticket,
        Way, Work, refusal,
    },
    lanes::Whose,
    propagation::blocks::AcceptedBlock,
    traffic::Lane,
};

/// Batches that were checked together, and what the chain says to each; `None`: the host is ending.
pub(super) type Checks = Vec<(Ticket, Option<Judged>)>;

/// What gossip made of items, in order; none where they are not gossiped.
type Gossiped = Vec<Result<(), NetworkError>>;

impl Task {
    /// A peer's item is at the door.
    ///
    /// # Errors
    /// Why it was not let in, for a person; a known one is let in and goes no further.
    pub(super) fn offer(&mut self, item: Item, source: Source) -> Result<(), String> {
        let (kind, data) = (item.kind(), item.data().clone());
        let propagation = &mut self.swarm.behaviour_mut().lanes.core.propagation;
        match self.intake.offer(kind, source, data, propagation) {
            Offered::Admitted => self.start_checks(),
            Offered::Held | Offered::Copied => {}
            Offered::Known(source) => self.settle(source, Err(ProtocolError::Duplicate)),
            Offered::Unfit(source, error) => {
                let reason = error.to_string();
                self.turned_away(kind, &source, 1, &reason);
                self.settle(source, Err(error));
                return Err(reason);
            }
            Offered::NoRoom(source, reason) => {
                self.turned_away(kind, &source, 1, &reason);
                // gossipsub takes no second copy of what came by gossip. So it keeps this one, and where it comes by the lanes
                // and is accepted, it is passed on all the same.
                if !matches!(source, Source::Gossip(..)) {
                    self.settle(source, Err(refusal(kind, Verdict::Ignore, &reason)));
                }
                return Err(reason);
            }
        }
        Ok(())
    }

    /// A batch from a peer's lane is at the door. Where there is no room it waits all the same and the lane is read no further; where
    /// peers together have brought far too much, that is told, and the batch is fetched again from who sent it.
    pub(super) fn check_batch(&mut self, from: PeerId, lane: Lane, batch: Batch) {
        let kind = batch.kind;
        match self.intake.queue.take(from, batch) {
            Ok(no_room) => {
                if let Some(no_room) = no_room {
                    let whose = match no_room {
                        NoRoom::Peer => Whose::Peers,
                        NoRoom::All => Whose::Ours,
                    };
                    self.swarm.behaviour_mut().lanes.pause(from, lane, whose);
                }
                self.start_checks();
            }
            Err((batch, reason)) => {
                self.turned_away(kind, &batch.source, batch.items.len(), &reason);
                let lanes = &mut self.swarm.behaviour_mut().lanes;
                let now = platform::now();
                lanes
                    .core
                    .propagation
                    .turned_away(kind, from, &batch.items, now);
                self.settle(batch.source, Err(refusal(kind, Verdict::Ignore, &reason)));
            }
        }
    }

    /// Lanes that had to wait for room are read on.
    fn read_on(&mut self) {
        for (kind, lane) in [
            (ItemKind::Vote, Lane::Urgent),
            (ItemKind::Transaction, Lane::Bulk),
        ] {
            while let Some(peer) = self.intake.queue.relieved(kind) {
                self.swarm.behaviour_mut().lanes.resume(peer, lane);
            }
        }
    }

    /// Our own items are at the door.
    pub(super) fn on_submission(&mut self, submission: Submission) {
        let Submission { kind, items, reply } = submission;
        if self.stalls(kind) {
            // Who has dropped the call hears nothing.
            return drop(reply.send(Err(NetworkError::Busy)));
        }
        let reaches = self.reaches(kind);
        let offer = Offer {
            kind,
            items,
            reaches,
        };
        let propagation = &mut self.swarm.behaviour_mut().lanes.core.propagation;
        self.intake.offer_own(offer, propagation, reply);
        self.start_checks();
    }

    /// Of which kinds our own are taken: there is room for more, because the network has taken most of what there is; or there
    /// has been none for so long that their makers are told.
    pub(super) fn rooms(&mut self) -> [bool; ItemKind::ALL.len()] {
        // Votes and blocks wait for no plain peer.
        let (now, gossips) = (platform::now(), self.gossips(ItemKind::Transaction));
        let behaviour = self.swarm.behaviour_mut();
        let is_read = !gossips || behaviour.gossip.has_room();
        let rooms = ItemKind::ALL.map(|kind| {
            let own = self.intake.queue.own(kind);
            match kind {
                // As much as a peer may bring, and as peers come for.
                ItemKind::Block => {
                    let coming = (self.intake.queue.own_blocks(), own);
                    own < self.config.protocol.validation.blocks.per_peer
                        && behaviour.lanes.core.propagation.has_block_room(coming, now)
                }
                ItemKind::Transaction if !is_read => false,
                _ => behaviour.lanes.core.propagation.has_room(kind, own),
            }
        });
        for (since, has_room) in self.stalled.iter_mut().zip(rooms) {
            if has_room {
                *since = None;
            } else {
                since.get_or_insert_with(platform::now);
            }
        }
        let mut taken = rooms;
        for (taken, kind) in taken.iter_mut().zip(ItemKind::ALL) {
            *taken |= self.stalls(kind);
        }
        taken
    }

    /// Whether there has been no room for our own items of a kind for too long.
    fn stalls(&self, kind: ItemKind) -> bool {
        let patience = self.config.protocol.request_response_config.request_timeout;
        let mut kinds = ItemKind::ALL.into_iter().zip(self.stalled);
        let since = kinds.find_map(|(of, since)| (of == kind).then_some(since));
        let waited = |since| platform::now().saturating_duration_since(since);
        since
            .flatten()
            .is_some_and(|since| waited(since) >= patience)
    }

    /// Takes a question about a block into the queue. How many there are is bounded by the cores.
    pub(super) fn ask(&mut self, asked: Asked) {
        self.intake.queue.ask(asked);
        self.start_checks();
    }

    pub(super) fn start_checks(&mut self) {
        while let Some(work) = self.intake.queue.start() {
            match work {
                Work::Batch(batch) => {
                    let more = self.intake.queue.more(batch.kind);
                    self.start_batches(std::iter::once(batch).chain(more));
                }
                Work::Question(asked) => self.start_question(*asked),
            }
        }
    }

    fn start_batches(&mut self, batches: impl Iterator<Item = Batch>) {
        let (tickets, loads): (Vec<Ticket>, Vec<Load>) = batches.map(Batch::apart).unzip();
        let chain = Arc::clone(&self.shared.rules);
        let blocks = Arc::clone(&self.delivered);
        let check = intake::judge(loads, chain, blocks);
        let judged = move |judged: Option<Vec<Judged>>| {
            let mut judged = judged.into_iter().flatten();
            let checks = tickets.into_iter().map(|ticket| (ticket, judged.next()));
            Done::Judged(checks.collect())
        };
        self.work.push(check.map(judged).boxed());
    }

    fn start_question(&mut self, (question, took): Asked) {
        let chain = Arc::clone(&self.shared.rules);
        let blocks = Arc::clone(&self.delivered);
        let pool = self
            .swarm
            .behaviour()
            .lanes
            .core
            .propagation
            .pieces(&question);
        let spare = question.clone();
        let answer = async move { question.ask(&*chain, &blocks, &pool).await };
        let answer = rules::run(&*self.shared.rules, answer);
        let answered = move |answer: Option<BlockAnswer>| {
            let answer = answer.or_else(|| spare.unanswered());
            Done::BlockAnswered(Box::new(answer), took)
        };
        self.work.push(answer.map(answered).boxed());
    }

    /// Where the chain's rules failed, the user is told.
    pub(super) fn tell_failures(&self) {
        if let Some(failure) = self.shared.rules.failures().take() {
            self.shared.emit(NetworkEvent::ApplicationFailed {
                call: failure.call,
                reason: failure.reason,
                count: failure.count,
            });
        }
    }

    pub(super) fn on_block_answered(
        &mut self,
        answer: Option<BlockAnswer>,
        took: Option<(PeerId, Taken)>,
    ) {
        self.intake.queue.ended(false);
        self.tell_failures();
        self.start_checks();
        if let Some((peer, took)) = took {
            self.swarm.behaviour_mut().lanes.done(peer, took);
        }
        let Some(answer) = answer else {
            return;
        };
        if let Some((block, source)) = answer.accepted() {
            self.intake.note_block(&block.key);
            self.shared.state().recorder.received();
            let gossiped = self.block_accepted(block, source, Way::Other);
            self.count_unsent(&gossiped);
        }
        if let Some((source, reason)) = answer.refused() {
            self.shared.emit(NetworkEvent::ItemRefused {
                kind: ItemKind::Block,
                source,
                reason,
            });
        }
        let propagation = &mut self.swarm.behaviour_mut().lanes.core.propagation;
        propagation.answered(answer, platform::now());
    }

    /// A block that the chain has accepted goes on, and is told of, the first time that it comes. Returns what gossip made of it.
    fn block_accepted(
        &mut self,
        block: &AcceptedBlock,
        source: Option<PeerId>,
        way: Way,
    ) -> Gossiped {
        if !block.is_first {
            return Vec::new();
        }
        self.has_brought(source, ItemKind::Block);
        self.alarm.block(platform::now());
        let data = &block.block.data;
        // Gossip passes on what came by it.
        let gossiped = if way == Way::Gossip {
            Vec::new()
        } else {
            self.gossip_on(ItemKind::Block, [data.clone()])
        };
        self.shared.emit(NetworkEvent::ItemAccepted {
            item: Item::Block(block.block.clone()),
            id: block.id.clone(),
            source,
            received_at: platform::date(),
        });
        if let Some(sync) = &mut self.swarm.behaviour_mut().lanes.core.sync {
            sync.offer(&block.block, source, platform::now());
        }
        gossiped
    }

    pub(super) fn on_judged(&mut self, checks: Checks) {
        // Those of one check are of one kind.
        let mut kinds = checks.iter().map(|(ticket, _)| ticket.kind);
        self.intake
            .queue
            .ended(kinds.next() == Some(ItemKind::Vote));
        self.tell_failures();
        for (ticket, _) in &checks {
            self.intake.queue.done(ticket);
        }
        self.read_on();
        while let Some((kind, source, data)) = self.intake.next_held() {
            // The report to gossip says what became of it.
            let _ = self.offer(Item::new(kind, data), source);
        }
        self.start_checks();
        for (Ticket { kind, source, .. }, judged) in checks {
            let Some(mut judged) = judged else {
                continue;
            };
            if let Source::Own(own) = source {
                self.conclude_own(kind, own, judged);
            } else {
                let count = judged.count();
                self.shared.state().recorder.received_many(count);
                let outcome = match source {
                    Source::Handed(..) if judged.is_again() => Err(ProtocolError::Duplicate),
                    _ => judged.outcome(kind),
                };
                if let (Some(misdeed), Some(peer)) = (judged.misdeed.take(), source.peer()) {
                    self.note(peer, misdeed);
                }
                let gossiped = self.conclude(kind, (source.peer(), source.way()), judged);
                self.count_unsent(&gossiped);
                self.settle(source, outcome);
            }
        }
    }

    /// Our own items go on their way, if there is anybody to send them to, and their maker hears what became of them.
    fn conclude_own(&mut self, kind: ItemKind, own: Own, mut judged: Judged) {
        let Own {
            reaches,
            refused,
            reply,
        } = own;
        let mut outcomes = std::mem::take(&mut judged.outcomes).into_iter();
        if reaches && judged.is_again() {
            outcomes = vec![Err(ProtocolError::Duplicate)].into_iter();
        }
        if !reaches {
            judged.withdraw();
        }
        let by_lanes = reaches && self.swarm.behaviour().lanes.open_peers() > 0;
        let topic = protocol::topic(&self.config.chain.network_id, kind);
        let mut gossiped = self.conclude(kind, (None, Way::Other), judged).into_iter();
        // What is accepted is delivered here all the same, and in the pool.
        let mut is_sent = |id: ItemId| {
            let by_gossip = gossiped.next().is_some_and(|gossiped| gossiped.is_ok());
            let topic = || topic.clone();
            (by_lanes || by_gossip)
                .then_some(id)
                .ok_or_else(|| ProtocolError::NotSent { topic: topic() })
        };
        let outcomes: Outcomes = outcomes
            .map(|outcome| outcome.and_then(&mut is_sent))
            .collect();
        let is_lost = |fate: &&Result<_, _>| matches!(fate, Err(ProtocolError::NotSent { .. }));
        let sent = outcomes.iter().filter(|fate| fate.is_ok()).count();
        let lost = outcomes.iter().filter(is_lost).count();
        let mut state = self.shared.state();
        state.recorder.sent(sent as u64);
        state.recorder.unsent(lost as u64);
        drop(state);
        let answer = if lost > 0 && !reaches {
            Err(NetworkError::NoPeers { topic })
        } else {
            let mut outcomes = outcomes.into_iter();
            let refused = refused.into_iter();
            let fate = |refused: Option<ProtocolError>| match refused {
                Some(refused) => Some(Err(refused)),
                None => outcomes.next(),
            };
            let fates: Outcomes = refused.filter_map(fate).collect();
            if lost > 0 && fates.iter().all(|fate| is_lost(&fate)) {
                Err(NetworkError::NotSent { topic })
            } else {
                Ok(fates)
            }
        };
        // Who has dropped the call hears nothing; what it sent is sent.
        let _ = reply.send(answer);
    }

    /// What a batch came to goes where it belongs, whoever brought it. Returns what gossip made of each accepted one, in order.
    fn conclude(
        &mut self,
        kind: ItemKind,
        (source, way): (Option<PeerId>, Way),
        judged: Judged,
    ) -> Gossiped {
        if !judged.accepted.is_empty() {
            self.has_brought(source, kind);
        }
        let copies = self.intake.conclude(kind, &judged);
        for ((peer, id), verdict) in copies {
            if verdict == Verdict::Reject {
                self.note(peer, Misdeed::InvalidItem);
            }
            self.report(&id, &peer, acceptance(verdict));
        }
        let Judged {
            accepted,
            block,
            refused,
            events,
            ..
        } = judged;
        // Gossip passes on what came by it.
        let mut gossiped = if way == Way::Gossip {
            Vec::new()
        } else {
            self.gossip_on(kind, accepted.iter().map(|item| item.data.clone()))
        };
        self.shared.emit_all(events);
        if let Some(block) = block {
            gossiped.extend(self.block_accepted(&block, source, way));
            self.swarm
                .behaviour_mut()
                .lanes
                .core
                .propagation
                .publish_block(*block, platform::now());
        }
        let lanes = &mut self.swarm.behaviour_mut().lanes;
        if kind != ItemKind::Block {
            let refused = refused.iter().map(|refused| (refused.key, refused.verdict));
            let now = platform::now();
            lanes
                .core
                .propagation
                .concluded(kind, source, accepted, refused, now);
        }
        gossiped
    }

    /// What a peer has brought was new here, and right; a full node keeps those that do.
    fn has_brought(&self, source: Option<PeerId>, kind: ItemKind) {
        if let Some(peer) = source {
            self.shared.peers().brought(&peer, kind, platform::now());
        }
    }

    /// Gossips items to peers that have them from nowhere else; what became of each, or nothing where there is no such peer.
    fn gossip_on(&mut self, kind: ItemKind, items: impl IntoIterator<Item = Bytes>) -> Gossiped {
        if !self.gossips(kind) {
            return Vec::new();
        }
        let topic = protocol::topic(&self.config.chain.network_id, kind);
        let items = items.into_iter();
        items.map(|data| self.gossip_one(&topic, data)).collect()
    }

    fn gossip_one(&mut self, topic: &str, data: Bytes) -> Result<(), NetworkError> {
        let published = self.publish(topic, data.clone());
        match &published {
            Err(NetworkError::Protocol(ProtocolError::Duplicate)) => {
                let gossip = &mut self.swarm.behaviour_mut().gossip;
                if gossip.pass_on(&IdentTopic::new(topic), &data) {
                    return Ok(());
                }
                tracing::warn!(%topic, "an item that came by gossip before it was accepted is not gossiped");
            }
            Ok(()) | Err(NetworkError::NoPeers { .. }) => {}
            Err(error) => tracing::warn!(%topic, %error, "an item is not gossiped"),
        }
        published
    }

    /// Counts others' items that were not gossiped. Where nobody is there any more, nobody lacks them.
    fn count_unsent(&self, gossiped: &[Result<(), NetworkError>]) {
        let is_lost =
            |fate: &&Result<_, _>| !matches!(fate, Ok(()) | Err(NetworkError::NoPeers { .. }));
        let lost = gossiped.iter().filter(is_lost).count();
        self.shared.state().recorder.unsent(lost as u64);
    }

    /// Whether there is a peer that gets what is published now.
    fn reaches(&self, kind: ItemKind) -> bool {
        self.gossips(kind) || self.swarm.behaviour().lanes.open_peers() > 0
    }

    /// Tells who waits for the verdict on one item; what a batch took of a lane is given back.
    fn settle(&mut self, source: Source, outcome: Result<(), ProtocolError>) {
        match source {
            Source::Gossip(peer, id) => {
                let verdict = match outcome {
                    Ok(()) => Verdict::Accept,
                    Err(ProtocolError::Rejected { .. }) => Verdict::Reject,
                    Err(_) => Verdict::Ignore,
                };
                self.report(&id, &peer, acceptance(verdict));
            }
            Source::Handed(_, reply) => drop(reply.send(outcome)),
            Source::Lanes(peer, took) => self.swarm.behaviour_mut().lanes.done(peer, took),
            Source::Direct(_) | Source::Own(_) => {}
        }
    }

    /// Items were refused at the door, without a check: the user is told, and they are counted.
    fn turned_away(&mut self, kind: ItemKind, source: &Source, count: usize, reason: &str) {
        let Some(source) = source.peer() else {
            return;
        };
        self.shared.state().recorder.turned_away(count);
        let reason = if count == 1 {
            reason.to_owned()
        } else {
            format!("{count} of them: {reason}")
        };
        self.shared.emit(NetworkEvent::ItemRefused {
            kind,
            source,
            reason,
        });
    }
}
