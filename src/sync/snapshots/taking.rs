//! Taking in a node: when a state is looked for, and what becomes of it.
//!
//! A node looks for a snapshot when a peer says that it is far ahead: it asks all peers what they have ([`Message::Seek`]), and each tells it,
//! with the final header of the snapshot's height and what proves that. Blocks go on meanwhile, so that who promises a snapshot and does not send it holds
//! up nothing; they wait ([`Event::Holds`]) only while the chain restores the state, once all of it is here. The next search is [`REST`] away.
//!
//! A state takes the place of the blocks that are here. So by itself only a node takes one whose chain is new: it began with nothing but genesis, and
//! has not been synced since ([`SyncPhase::Synced`]). So does one that was ended with chunks of a snapshot: that one is gone on with before all
//! others, and blocks wait until it is found, or was looked for as long as any. What was taken of a snapshot goes at once
//! when that is rejected or given up, or the chain is synced by its blocks; and at the start, where it is not gone on with. If it can't go then, that is tried again.
//!
//! The chain is given one thing at a time; chunks that have come meanwhile are one thing, so that a sink's disk is not waited for after each. Bounds: [`AT_ONCE`]; those of [`super::DownloadConfig`]; proofs of as many peers as offers, [`MAX_OFFERS`] each.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use bytes::Bytes;
use libp2p::PeerId;

use super::{
    Download, HashedPiece, Memory, Message, NoSnapshot, Outcome, Progress, SnapshotsConfig,
    download::Action as Wanted,
    job::{Done, Job},
    node::{Event, Heard, Out},
    wire::MAX_OFFERS,
};
use crate::{
    chain::{Snapshot, SnapshotChunk, SnapshotId, SnapshotProof, SyncVerdict, rules::Synced},
    peers::Misdeed,
    platform::Instant,
    sync::blocks::SyncPhase,
};

/// After a search, however it ended, so long none begins,
const REST: Duration = Duration::from_secs(600);
/// but the first ones that found nothing: those are followed by as much, and by twice as much each time.
const FIRST_REST: Duration = Duration::from_secs(15);

/// Bytes of chunks that the sink is given together, about: while it writes some, the next ones come.
const AT_ONCE: usize = 16 << 20;

/// After it could not be forgotten what was taken, so long until that is tried again.
const ABANDON_AGAIN: Duration = Duration::from_secs(60);

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Taking {
    config: SnapshotsConfig,
    /// Whether this node takes any.
    takes: bool,
    seed: u32,
    download: Option<Box<Download>>,
    /// What peers have sent to prove which snapshot.
    proofs: BTreeMap<PeerId, VecDeque<(SnapshotId, SnapshotProof)>>,
    /// The final header of the snapshot that was found to be right.
    header: Option<(SnapshotId, Bytes)>,
    /// The one that the sink is offered, and the one of which it has chunks, or may have some.
    offering: Option<Snapshot>,
    begun: Option<Snapshot>,
    /// Blocks wait; for a state that was begun, until then.
    holds: bool,
    chance_until: Option<Instant>,
    rests_until: Option<Instant>,
    /// How many searches in a row have found nothing; what the last one has found out.
    fruitless: u32,
    memory: Memory,
    /// The chain's height; the highest that a peer has said since the last search.
    tip: Option<u64>,
    highest: u64,
    /// A state may take the chain's place: it began with nothing, and was not synced since.
    is_new: bool,
    /// What is to be asked of the sink, or of who says what is final; one thing of that is under way.
    asks: VecDeque<Job>,
    is_asking: bool,
    abandon_at: Option<Instant>,
}

impl Taking {
    pub(super) fn new(config: SnapshotsConfig, chain: &Synced, seed: u32, out: &mut Out) -> Self {
        let is_trusting = chain.trust.is_some() || config.download.checkpoint.is_some();
        let is_on = chain.store.is_some();
        let takes = is_on && config.take && chain.sink.is_some() && is_trusting;
        // What an earlier run has taken is gone on with, or it is of no use.
        let first = if takes { Job::Resume } else { Job::Abandon };
        if chain.sink.is_some() {
            out.tell(Event::Work(first));
        }
        Self {
            config,
            takes,
            seed,
            download: None,
            proofs: BTreeMap::new(),
            header: None,
            offering: None,
            begun: None,
            holds: false,
            chance_until: None,
            rests_until: None,
            fruitless: 0,
            memory: Memory::default(),
            tip: None,
            highest: 0,
            is_new: true,
            asks: VecDeque::new(),
            is_asking: chain.sink.is_some(),
            abandon_at: None,
        }
    }

    pub(super) fn chain_is_at(
        &mut self,
        height: u64,
        phase: SyncPhase,
        out: &mut Out,
        now: Instant,
    ) {
        let is_synced = phase == SyncPhase::Synced;
        self.is_new &= height == 0 || self.tip.is_some() && !is_synced;
        self.tip = Some(height);
        if let Some(download) = &mut self.download {
            download.chain_is_at(height, now);
        }
        let is_passed = |begun: &Snapshot| begun.height <= height || height > 0 && is_synced;
        if self.download.is_none() && self.begun.take_if(|begun| is_passed(begun)).is_some() {
            self.asks.push_back(Job::Abandon);
        }
        self.seek(out, now);
    }

    pub(super) fn heard_of(&mut self, height: u64, out: &mut Out, now: Instant) {
        if height > self.highest {
            self.highest = height;
            self.seek(out, now);
        }
    }

    /// Looks for a snapshot, if there is reason to.
    fn seek(&mut self, out: &mut Out, now: Instant) {
        let Some(tip) = self.tip.filter(|_| self.takes && self.download.is_none()) else {
            return;
        };
        let begun = self.begun.as_ref().filter(|begun| begun.height > tip);
        let is_far = self.highest >= tip.saturating_add(self.config.download.min_gain)
            || begun.is_some_and(|begun| self.highest >= begun.height);
        let may_take = self.is_new || self.config.replace_blocks || begun.is_some();
        if !is_far || !may_take || self.rests_until.is_some_and(|until| now < until) {
            return;
        }
        tracing::info!(
            tip,
            peers = self.highest,
            "looking for a snapshot of the chain's state"
        );
        let download = Download::new(self.config.download.clone(), tip, self.seed, now)
            .remembering(std::mem::take(&mut self.memory))
            .going_on_with(begun.map(Snapshot::id));
        // One that an earlier run has begun, and no later search for it: that is a peer's to bring about.
        if begun.is_some() && self.rests_until.is_none() {
            self.chance_until = Some(now + self.config.download.search);
            self.hold(true, out);
        }
        self.download = Some(Box::new(download));
        out.send_all(&Message::Seek);
    }

    fn hold(&mut self, holds: bool, out: &mut Out) {
        if !holds {
            self.chance_until = None;
        }
        if std::mem::replace(&mut self.holds, holds) != holds {
            out.tell(Event::Holds(holds));
        }
    }

    /// A peer takes part, or does so anew.
    pub(super) fn joined(&mut self, peer: PeerId, out: &mut Out) {
        if self.download.is_some() {
            out.send(peer, Message::Seek);
        }
    }

    /// What a peer sends was not read here for so long.
    pub(super) fn unheard(&mut self, peer: &PeerId, time: Duration, now: Instant) {
        if let Some(download) = &mut self.download {
            download.unheard(peer, time, now);
        }
    }

    pub(super) fn gone(&mut self, peer: &PeerId, now: Instant) {
        self.proofs.remove(peer);
        if let Some(download) = &mut self.download {
            download.gone(peer, now);
        }
    }

    /// What comes for a search that is over is late.
    pub(super) fn hear(&mut self, from: PeerId, heard: Heard, now: Instant) {
        let Some(download) = &mut self.download else {
            return;
        };
        match heard {
            Heard::Piece(piece) => download.piece(from, &piece, now),
            Heard::Message(Message::Piece(piece)) => {
                download.piece(from, &HashedPiece::of(piece), now);
            }
            Heard::Message(Message::Offers(offers)) => download.offers(from, offers, now),
            Heard::Message(Message::Refusal(refusal)) => download.refused(from, refusal, now),
            Heard::Message(Message::Proof(id, proof)) => self.take_proof(from, id, proof),
            Heard::Message(_) => {}
        }
    }

    fn take_proof(&mut self, from: PeerId, id: SnapshotId, proof: SnapshotProof) {
        let is_known = self.proofs.contains_key(&from);
        if !is_known && self.proofs.len() >= self.config.download.max_peers {
            return;
        }
        let proofs = self.proofs.entry(from).or_default();
        proofs.retain(|(other, _)| *other != id);
        proofs.push_back((id, proof));
        if proofs.len() > MAX_OFFERS {
            proofs.pop_front();
        }
    }

    pub(super) fn done(&mut self, done: Done, out: &mut Out, now: Instant) {
        self.is_asking = false;
        match done {
            Done::Resumable(begun) => {
                if begun.is_none() {
                    self.asks.push_back(Job::Abandon);
                }
                self.begun = begun;
                self.seek(out, now);
            }
            Done::Trusted(id, judged) => {
                for liar in judged.liars {
                    self.proofs.remove(&liar);
                    out.misdeed(liar, Misdeed::FalseSnapshot);
                }
                self.header = judged.header.map(|header| (id, header));
                self.answered(|download| download.trust_checked(&id, judged.trust, now));
            }
            Done::Offered {
                id,
                verdict,
                stored,
                order,
            } => {
                let offered = self.offering.take_if(|offered| offered.id() == id);
                if verdict == SyncVerdict::Accept && offered.is_some() {
                    self.begun = offered;
                }
                if !matches!(verdict, SyncVerdict::Retry(_)) {
                    self.hold(false, out);
                }
                self.answered(|download| download.offered(&id, verdict, (&stored, order), now));
            }
            Done::Applied(id, chunks, (count, verdict)) => {
                self.applied(&id, chunks, count, verdict, now);
            }
            Done::Finished(id, verdict) => {
                if verdict == SyncVerdict::Accept {
                    self.begun = None;
                }
                self.hold(matches!(verdict, SyncVerdict::Retry(_)), out);
                self.answered(|download| download.finished(&id, verdict, now));
            }
            Done::Abandoned(Err(reason)) => {
                self.abandon_at = Some(now + ABANDON_AGAIN);
                out.tell(Event::Failed("abandon_snapshot", reason));
            }
            _ => {}
        }
    }

    /// The sink has taken so many of these chunks, and said this of the next one; of the rest it has said nothing.
    fn applied(
        &mut self,
        id: &SnapshotId,
        chunks: Vec<SnapshotChunk>,
        count: usize,
        verdict: SyncVerdict,
        now: Instant,
    ) {
        let mut chunks = chunks.into_iter();
        for chunk in chunks.by_ref().take(count) {
            self.answered(|it| it.applied(id, chunk.index, SyncVerdict::Accept, now));
        }
        if let Some(next) = chunks.next() {
            self.answered(|it| it.applied(id, next.index, verdict, now));
        }
        let rest: Vec<_> = chunks.collect();
        let is_taken = self.begun.as_ref().is_some_and(|begun| begun.id() == *id);
        if !rest.is_empty() && is_taken && self.download.is_some() {
            self.asks.push_front(Job::Apply(*id, rest));
        }
    }

    /// Has the sink given a chunk, together with those that wait for it already.
    fn apply(&mut self, id: SnapshotId, chunk: SnapshotChunk) {
        match self.asks.back_mut() {
            Some(Job::Apply(of, chunks))
                if *of == id && (chunks.len() + 1) * chunk.bytes.len() <= AT_ONCE =>
            {
                chunks.push(chunk);
            }
            _ => self.asks.push_back(Job::Apply(id, vec![chunk])),
        }
    }

    fn answered(&mut self, hear: impl FnOnce(&mut Download)) {
        if let Some(download) = &mut self.download {
            hear(download);
        }
    }

    fn end(&mut self, outcome: Outcome, out: &mut Out, now: Instant) {
        self.memory = self
            .download
            .take()
            .map_or_else(Memory::default, |it| it.memory());
        let is_fruitless = matches!(
            outcome,
            Outcome::Blocks(NoSnapshot::Nobody | NoSnapshot::Untrusted)
        );
        let rest = match self.fruitless {
            fruitless @ ..6 if is_fruitless => FIRST_REST * (1 << fruitless),
            _ => REST,
        };
        self.fruitless = if is_fruitless {
            self.fruitless.saturating_add(1)
        } else {
            0
        };
        self.rests_until = Some(now + rest.min(REST));
        self.highest = 0;
        self.hold(false, out);
        self.header = None;
        self.proofs.clear();
        self.asks.retain(|job| matches!(job, Job::Abandon));
        out.tell(Event::Ended(outcome));
    }

    /// Does what the state machine wants.
    pub(super) fn drive(&mut self, out: &mut Out, now: Instant) {
        while let Some(wanted) = self.download.as_mut().and_then(|it| it.action()) {
            self.take(wanted, out, now);
        }
        if !self.is_asking
            && let Some(job) = self.asks.pop_front()
        {
            self.is_asking = true;
            out.tell(Event::Work(job));
        }
    }

    fn take(&mut self, wanted: Wanted, out: &mut Out, now: Instant) {
        match wanted {
            Wanted::CheckTrust(snapshot) => {
                let id = snapshot.id();
                let of_peer = |(peer, proofs): (&PeerId, &VecDeque<(SnapshotId, _)>)| {
                    let found = proofs.iter().find(|(other, _)| *other == id);
                    found.map(|(_, proof): &(_, SnapshotProof)| (*peer, proof.clone()))
                };
                let proofs = self.proofs.iter().filter_map(of_peer).collect();
                self.asks.push_back(Job::Trust(snapshot, proofs));
            }
            Wanted::Offer(snapshot) => {
                let id = snapshot.id();
                let header = self.header.as_ref().filter(|(of, _)| *of == id);
                let header = header.map(|(_, header)| header.clone());
                self.offering = Some(snapshot.clone());
                self.asks.push_back(Job::Offer(snapshot, header));
            }
            Wanted::Send(peer, message) => out.send(peer, message),
            Wanted::Apply {
                snapshot,
                index,
                bytes,
                sender,
            } => {
                let chunk = SnapshotChunk {
                    index,
                    bytes,
                    sender,
                };
                self.apply(snapshot, chunk);
            }
            Wanted::Finish(snapshot) => {
                self.hold(true, out);
                self.asks.push_back(Job::Finish(snapshot));
            }
            Wanted::Abandon => {
                // What is not given to it yet is of the one that it forgets.
                self.asks.retain(|job| !matches!(job, Job::Apply(..)));
                (self.offering, self.begun) = (None, None);
                self.asks.push_back(Job::Abandon);
            }
            Wanted::Misdeed { peer, misdeed, why } => {
                tracing::debug!(%peer, why, "a peer that is asked for a snapshot");
                out.misdeed(peer, misdeed);
            }
            Wanted::End(outcome) => self.end(outcome, out, now),
        }
    }

    pub(super) fn on_time(&mut self, out: &mut Out, now: Instant) {
        if let Some(download) = &mut self.download {
            download.on_time(now);
        }
        if self.chance_until.is_some_and(|until| now >= until) {
            self.hold(false, out);
        }
        // What was begun since has taken its place.
        let is_free = self.begun.is_none() && self.offering.is_none();
        if self.abandon_at.take_if(|at| now >= *at).is_some() && is_free {
            self.asks.push_back(Job::Abandon);
        }
    }

    pub(super) fn progress(&self, now: Instant) -> Option<Progress> {
        self.download.as_ref()?.progress(now)
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        // It ticks as long as there is a chance to wait for.
        let download = self.download.as_ref().and_then(|it| it.next_deadline());
        [download, self.abandon_at].into_iter().flatten().min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::test;

    const ID: SnapshotId = SnapshotId([1; 32]);

    fn taking() -> Taking {
        let config = SnapshotsConfig::default();
        Taking::new(config, &Synced::default(), 1, &mut Out::default())
    }

    fn chunk(index: u32) -> SnapshotChunk {
        SnapshotChunk {
            index,
            bytes: vec![0; 4 << 20].into(),
            sender: PeerId::random(),
        }
    }

    /// Which chunks the sink is going to be given together.
    fn given(taking: &Taking) -> Vec<Vec<u32>> {
        let chunks = |job: &Job| match job {
            Job::Apply(_, chunks) => chunks.iter().map(|chunk| chunk.index).collect(),
            _ => Vec::new(),
        };
        taking.asks.iter().map(chunks).collect()
    }

    #[test]
    fn chunks_that_wait_are_given_together_up_to_a_bound() {
        let mut taking = taking();
        (0..6).for_each(|index| taking.apply(ID, chunk(index)));
        taking.apply(SnapshotId([2; 32]), chunk(0));
        assert_eq!(given(&taking), [vec![0, 1, 2, 3], vec![4, 5], vec![0]]);
    }

    #[test]
    fn what_comes_after_a_chunk_that_could_not_be_taken_is_given_again_while_it_is_of_use() {
        let now = crate::platform::now();
        let snapshot = Snapshot {
            height: 5,
            format: 1,
            state_root: Bytes::from_static(b"root"),
            chunk_size: 4 << 20,
            size: 16 << 20,
            root: [0; 32],
        };
        for (is_begun, again) in [(true, vec![vec![2, 3]]), (false, Vec::new())] {
            let mut taking = taking();
            let download = Download::new(taking.config.download.clone(), 0, 1, now);
            taking.download = Some(Box::new(download));
            taking.begun = is_begun.then(|| snapshot.clone());
            let chunks = (0..4).map(chunk).collect();
            let full = SyncVerdict::Retry("no room".to_owned());
            taking.applied(&snapshot.id(), chunks, 1, full, now);
            assert_eq!(given(&taking), again);
        }
    }
}
