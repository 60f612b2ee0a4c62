//! Fast sync in a node: what the two state machines want goes over the lanes, and to the chain as a [`Job`] for the owner to run elsewhere.
//!
//! A node looks for a snapshot when a peer says that it is far ahead: it asks all peers what they have ([`Message::Seek`]), and each tells it,
//! with the final header of the snapshot's height and what proves that. Blocks go on meanwhile, so that who promises a snapshot and does not send it holds
//! up nothing; they wait ([`Event::Holds`]) only while the chain restores the state, once all of it is here. The next search is [`REST`] away.
//!
//! A state takes the place of the blocks that are here. So by itself only a node takes one whose chain is new: it began with nothing but genesis, and
//! has not been as far as its peers since.
//!
//! The chain is given one thing at a time. Bounds: those of [`super::DownloadConfig`] and [`super::ServingConfig`]; proofs of as many peers as offers,
//! [`MAX_OFFERS`] each; [`MAX_LOADING`] parts that are read at once; [`MAX_OUTBOX`] messages of our own for a peer.

use std::{
    collections::{BTreeMap, HashSet, VecDeque},
    time::Duration,
};

use bytes::Bytes;
use libp2p::PeerId;

use super::{
    Download, HashedPiece, Memory, Message, NoSnapshot, Offer, Outcome, Progress, Reason, Refusal,
    Serving, ServingAction, SnapshotsConfig,
    download::Action as Wanted,
    job::{Done, Job},
    wire::{self, MAX_OFFERS},
};
use crate::{
    chain::{Snapshot, SnapshotId, SnapshotProof, SyncVerdict, rules::Synced},
    lanes::{Action, Outgoing, Taken},
    peers::Misdeed,
    platform::Instant,
    traffic::{Class, Cost, Pace, Rate},
};

/// After a search, however it ended, so long none begins,
const REST: Duration = Duration::from_secs(600);
/// but the first ones that found nothing: those are followed by as much, and by twice as much each time.
const FIRST_REST: Duration = Duration::from_secs(15);
/// How often the chain is asked which snapshots it has.
const LIST_EVERY: Duration = Duration::from_secs(30);
/// How often it is told how far it is.
const TELL_EVERY: Duration = Duration::from_millis(250);
/// Parts that are read for peers at once.
const MAX_LOADING: usize = 2;
/// Messages of our own that a peer has not read: twice what it may be asked and told not to send. Who brings about more answers what it never read.
const MAX_OUTBOX: usize = 256;
/// How often a peer may say that it looks for a snapshot, and what it has.
const SEEKS: Rate = Rate {
    per_second: 1,
    burst: 8,
};

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Snapshots {
    config: SnapshotsConfig,
    /// Whether this node syncs, takes snapshots, and has some to serve.
    is_on: bool,
    takes: bool,
    serves: bool,
    seed: u32,
    /// Who said in its hello that it speaks this.
    speakers: HashSet<PeerId>,
    /// Those of them that take part.
    peers: BTreeMap<PeerId, Peer>,
    serving: Serving,
    download: Option<Box<Download>>,
    /// What peers have sent to prove which snapshot.
    proofs: BTreeMap<PeerId, VecDeque<(SnapshotId, SnapshotProof)>>,
    /// The final header of the snapshot that was found to be right.
    header: Option<(SnapshotId, Bytes)>,
    /// Blocks wait.
    holds: bool,
    rests_until: Option<Instant>,
    /// How many searches in a row have found nothing; what the last one has found out.
    fruitless: u32,
    memory: Memory,
    /// The chain's height, and whether it is as far as its peers'; the highest that a peer has said since the last search.
    tip: Option<(u64, bool)>,
    /// It has been so since it began, so that a state may take its place.
    is_new: bool,
    highest: u64,
    /// What is to be asked of the sink, or of who says what is final; one thing of that is under way.
    asks: VecDeque<Job>,
    is_asking: bool,
    loads: VecDeque<Job>,
    loading: usize,
    /// A list, or a snapshot that is made, is under way; from when on another one is due.
    is_listing: bool,
    list_at: Option<Instant>,
    /// At which height the chain was last asked to make one. `None`: it is not known yet which it has.
    made_at: Option<u64>,
    told_at: Option<Instant>,
    actions: VecDeque<Action<Event>>,
}

#[derive(Debug)]
struct Peer {
    outbox: VecDeque<Bytes>,
    seeks: Pace,
    offers: Pace,
}

/// What the network task hears of.
#[derive(Debug)]
pub(crate) enum Event {
    /// Work for the chain; [`Snapshots::done`] is called with what came of it.
    Work(Job),
    /// Whether the chain restores a state from now on: it can't take blocks.
    Holds(bool),
    /// How far it is.
    Progress(Progress),
    /// It is over.
    Ended(Outcome),
    /// The application has failed at this call.
    Failed(&'static str, String),
}

/// A message of a peer, with a piece's hashes, which are made where the connection is read.
#[derive(Debug)]
pub(crate) enum Heard {
    Piece(HashedPiece),
    Message(Message),
}

impl Heard {
    /// Reads a frame, its length already taken off.
    ///
    /// # Errors
    /// It is none; the sender pays.
    pub(crate) fn read(frame: Bytes) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        Ok(match Message::read(frame)? {
            Message::Piece(piece) => Self::Piece(HashedPiece::of(piece)),
            other => Self::Message(other),
        })
    }
}

impl Snapshots {
    /// `seed`: random, and this node's own.
    pub(crate) fn new(config: SnapshotsConfig, chain: &Synced, seed: u32) -> Self {
        let is_on = chain.store.is_some();
        let is_trusting = chain.trust.is_some() || config.download.checkpoint.is_some();
        let mut snapshots = Self {
            is_on,
            takes: is_on && config.take && chain.sink.is_some() && is_trusting,
            serves: is_on && chain.source.is_some(),
            seed,
            speakers: HashSet::new(),
            peers: BTreeMap::new(),
            serving: Serving::new(config.serving.clone()),
            config,
            download: None,
            proofs: BTreeMap::new(),
            header: None,
            holds: false,
            rests_until: None,
            fruitless: 0,
            memory: Memory::default(),
            tip: None,
            is_new: true,
            highest: 0,
            asks: VecDeque::new(),
            is_asking: false,
            loads: VecDeque::new(),
            loading: 0,
            is_listing: false,
            list_at: None,
            made_at: None,
            told_at: None,
            actions: VecDeque::new(),
        };
        if snapshots.serves {
            snapshots.list(Job::List);
        }
        snapshots
    }

    /// A peer has said hello, with this version.
    pub(crate) fn greeted(&mut self, peer: PeerId, version: u32) {
        if self.is_on && version >= wire::VERSION {
            self.speakers.insert(peer);
        } else {
            self.speakers.remove(&peer);
        }
    }

    /// A peer's last connection is gone.
    pub(crate) fn forget(&mut self, peer: &PeerId) {
        self.speakers.remove(peer);
    }

    /// The chain is at this height; whether that is as far as its peers are.
    pub(crate) fn chain_is_at(&mut self, height: u64, is_synced: bool, now: Instant) {
        self.is_new &= height == 0 || self.tip.is_some() && !is_synced;
        self.tip = Some((height, is_synced));
        self.make();
        self.seek(now);
    }

    /// A peer says that it is at this height.
    pub(crate) fn heard_of(&mut self, height: u64, now: Instant) {
        if height > self.highest {
            self.highest = height;
            self.seek(now);
        }
    }

    pub(crate) fn joined(&mut self, peer: PeerId) {
        if !self.speakers.contains(&peer) {
            return;
        }
        let known = Peer {
            outbox: VecDeque::new(),
            seeks: Pace::new(SEEKS),
            offers: Pace::new(SEEKS),
        };
        self.peers.insert(peer, known);
        if self.download.is_some() {
            self.send(peer, Message::Seek);
        }
    }

    /// What was under way may be lost: it is all said and asked anew.
    pub(crate) fn moved(&mut self, peer: PeerId, now: Instant) {
        let Some(known) = self.peers.get_mut(&peer) else {
            return;
        };
        known.outbox.clear();
        self.serving.moved(&peer);
        if let Some(download) = &mut self.download {
            download.gone(&peer, now);
            self.send(peer, Message::Seek);
        }
        self.drive(now);
    }

    /// What a peer sends was not read here for so long: it was not silent.
    pub(crate) fn unheard(&mut self, peer: &PeerId, time: Duration, now: Instant) {
        if let Some(download) = &mut self.download {
            download.unheard(peer, time, now);
        }
    }

    pub(crate) fn gone(&mut self, peer: PeerId, now: Instant) {
        self.peers.remove(&peer);
        self.proofs.remove(&peer);
        self.serving.gone(&peer);
        if let Some(download) = &mut self.download {
            download.gone(&peer, now);
        }
        self.drive(now);
    }

    /// A frame of a peer. What has come is bounded by what was asked for, so its lane is read on at once.
    pub(crate) fn frame(&mut self, from: PeerId, heard: Heard, took: Taken, now: Instant) {
        self.hear(from, heard, now);
        self.actions.push_back(Action::Done(from, took));
        self.drive(now);
    }

    fn hear(&mut self, from: PeerId, heard: Heard, now: Instant) {
        let Some(peer) = self.peers.get_mut(&from) else {
            // It speaks before it was greeted, or to a node that said it would not listen.
            return self.misdeed(from, Misdeed::InvalidMessage);
        };
        match heard {
            Heard::Message(Message::Seek) if peer.seeks.admits(1, now) => {
                self.serving.joined(from);
            }
            Heard::Message(Message::Seek) => self.misdeed(from, Misdeed::TooManyMessages),
            Heard::Message(Message::Offers(_)) if !peer.offers.admits(1, now) => {
                self.misdeed(from, Misdeed::TooManyMessages);
            }
            Heard::Message(Message::Request(request)) => {
                // That it looks for one was forgotten with streams of ours that broke, of which it knows nothing.
                if !self.serving.knows(&from) {
                    self.serving.joined(from);
                }
                if self.serving.knows(&from) {
                    self.serving.request(from, request, now);
                } else {
                    let refusal = Refusal {
                        number: request.number,
                        reason: Reason::Gone,
                    };
                    self.take(Wanted::Send(from, Message::Refusal(refusal)), now);
                }
            }
            Heard::Message(Message::Cancel(number)) => self.serving.cancel(from, number),
            Heard::Message(Message::Proof(id, proof)) => self.take_proof(from, id, proof),
            other => self.hear_source(from, other, now),
        }
    }

    /// What comes for a search that is over is late.
    fn hear_source(&mut self, from: PeerId, heard: Heard, now: Instant) {
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
            Heard::Message(_) => {}
        }
    }

    fn take_proof(&mut self, from: PeerId, id: SnapshotId, proof: SnapshotProof) {
        let is_known = self.proofs.contains_key(&from);
        let has_room = is_known || self.proofs.len() < self.config.download.max_peers;
        if self.download.is_none() || !has_room {
            return;
        }
        let proofs = self.proofs.entry(from).or_default();
        proofs.retain(|(other, _)| *other != id);
        proofs.push_back((id, proof));
        if proofs.len() > MAX_OFFERS {
            proofs.pop_front();
        }
    }

    /// What came of a job.
    pub(crate) fn done(&mut self, done: Done, now: Instant) {
        match done {
            Done::Listed(listed) => self.on_listed(listed, now),
            Done::Made(made) => {
                self.is_listing = false;
                match made {
                    Ok(Some(_)) => self.list(Job::List),
                    Ok(None) => {}
                    Err(reason) => self.tell(Event::Failed("make_snapshot", reason)),
                }
            }
            Done::Loaded(id, part, loaded) => {
                self.loading = self.loading.saturating_sub(1);
                self.serving.loaded(id, part, loaded, now);
            }
            Done::Trusted(id, judged) => {
                for liar in judged.liars {
                    self.proofs.remove(&liar);
                    self.misdeed(liar, Misdeed::FalseSnapshot);
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
                self.answered(|download| download.offered(&id, verdict, (&stored, order), now));
            }
            Done::Applied(id, index, verdict) => {
                self.answered(|download| download.applied(&id, index, verdict, now));
            }
            Done::Finished(id, verdict) => {
                self.hold(matches!(verdict, SyncVerdict::Retry(_)));
                self.answered(|download| download.finished(&id, verdict, now));
            }
        }
        self.drive(now);
    }

    /// One of the things that are asked one at a time is answered.
    fn answered(&mut self, hear: impl FnOnce(&mut Download)) {
        self.is_asking = false;
        if let Some(download) = &mut self.download {
            hear(download);
        }
    }

    fn on_listed(&mut self, listed: Vec<(Snapshot, Option<SnapshotProof>)>, now: Instant) {
        self.is_listing = false;
        self.list_at = Some(now + LIST_EVERY);
        let mut listed = listed;
        listed.sort_by_key(|(snapshot, _)| std::cmp::Reverse(snapshot.height));
        let newest = listed.first().map_or(0, |(snapshot, _)| snapshot.height);
        self.made_at = Some(self.made_at.map_or(newest, |at| at.max(newest)));
        let offers = listed.iter().map(|(snapshot, _)| {
            let snapshot = snapshot.clone();
            (
                Offer {
                    snapshot,
                    have: None,
                },
                None,
            )
        });
        self.serving.offer(offers);
        for (snapshot, proof) in listed {
            if let Some(proof) = proof {
                self.serving.prove(&snapshot.id(), proof);
            }
        }
        self.make();
    }

    /// Asks the chain for a snapshot, if it is time for one.
    fn make(&mut self) {
        let (Some((height, true)), Some(made_at)) = (self.tip, self.made_at) else {
            return;
        };
        let every = self.config.make_every;
        if every > 0 && height >= made_at.saturating_add(every) && !self.is_listing {
            self.made_at = Some(height);
            self.list(Job::Make(self.config.chunk_bytes));
        }
    }

    fn list(&mut self, job: Job) {
        self.is_listing = true;
        self.tell(Event::Work(job));
    }

    /// Looks for a snapshot, if there is reason to.
    fn seek(&mut self, now: Instant) {
        let Some((tip, _)) = self.tip.filter(|_| self.takes && self.download.is_none()) else {
            return;
        };
        let is_far = self.highest >= tip.saturating_add(self.config.download.min_gain);
        let may_take = self.is_new || self.config.replace_blocks;
        if !is_far || !may_take || self.rests_until.is_some_and(|until| now < until) {
            return;
        }
        tracing::info!(
            tip,
            peers = self.highest,
            "looking for a snapshot of the chain's state"
        );
        let download = Download::new(self.config.download.clone(), tip, self.seed, now)
            .remembering(std::mem::take(&mut self.memory));
        self.download = Some(Box::new(download));
        let peers: Vec<_> = self.peers.keys().copied().collect();
        for peer in peers {
            self.send(peer, Message::Seek);
        }
    }

    fn hold(&mut self, holds: bool) {
        if std::mem::replace(&mut self.holds, holds) != holds {
            self.tell(Event::Holds(holds));
        }
    }

    fn end(&mut self, outcome: Outcome, now: Instant) {
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
        self.hold(false);
        self.header = None;
        self.proofs.clear();
        self.asks.clear();
        self.tell(Event::Ended(outcome));
    }

    /// Does what the two state machines want.
    fn drive(&mut self, now: Instant) {
        while let Some(wanted) = self.download.as_mut().and_then(|it| it.action()) {
            self.take(wanted, now);
        }
        while let Some(wanted) = self.serving.action() {
            self.serve(wanted);
        }
        if !self.is_asking
            && let Some(job) = self.asks.pop_front()
        {
            self.is_asking = true;
            self.tell(Event::Work(job));
        }
        while self.loading < MAX_LOADING
            && let Some(job) = self.loads.pop_front()
        {
            self.loading += 1;
            self.tell(Event::Work(job));
        }
    }

    fn take(&mut self, wanted: Wanted, now: Instant) {
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
                self.asks.push_back(Job::Offer(snapshot, header));
            }
            Wanted::Send(peer, message) => {
                self.send(peer, message);
                let outbox = self.peers.get(&peer).map_or(0, |it| it.outbox.len());
                if outbox > MAX_OUTBOX {
                    self.misdeed(peer, Misdeed::InvalidMessage);
                    self.gone(peer, now);
                }
            }
            Wanted::Apply {
                snapshot,
                index,
                bytes,
                sender,
            } => self.asks.push_back(Job::Apply {
                snapshot,
                index,
                bytes,
                sender,
            }),
            Wanted::Finish(snapshot) => {
                self.hold(true);
                self.asks.push_back(Job::Finish(snapshot));
            }
            Wanted::Misdeed { peer, misdeed, why } => {
                tracing::debug!(%peer, why, "a peer that is asked for a snapshot");
                self.misdeed(peer, misdeed);
            }
            Wanted::End(outcome) => self.end(outcome, now),
        }
    }

    fn serve(&mut self, wanted: ServingAction) {
        match wanted {
            ServingAction::Load {
                snapshot,
                part,
                hash,
            } => self.loads.push_back(Job::Load {
                snapshot,
                part,
                hash,
            }),
            ServingAction::Feed(peer) => self.actions.push_back(Action::Feed(peer)),
            ServingAction::Surcharge(peer, bytes) => {
                let cost = Cost {
                    items: 0,
                    bytes: bytes as u64,
                };
                self.actions
                    .push_back(Action::Surcharge(peer, Class::Sync, cost));
            }
            ServingAction::Misdeed { peer, misdeed, why } => {
                tracing::debug!(%peer, why, "a peer that is served a snapshot");
                self.misdeed(peer, misdeed);
            }
            ServingAction::Damaged(snapshot) => {
                let reason = format!(
                    "the snapshot of height {} is damaged and not served any more; make it anew",
                    snapshot.height
                );
                self.tell(Event::Failed("load_snapshot_chunk", reason));
            }
        }
    }

    fn send(&mut self, to: PeerId, message: Message) {
        if let Some(peer) = self.peers.get_mut(&to) {
            peer.outbox.push_back(message.into_frame());
            self.actions.push_back(Action::Feed(to));
        }
    }

    fn misdeed(&mut self, peer: PeerId, misdeed: Misdeed) {
        self.actions.push_back(Action::Misdeed(peer, misdeed));
    }

    fn tell(&mut self, event: Event) {
        self.actions.push_back(Action::Tell(event));
    }

    /// The next frame for a peer whose lane has so much room.
    pub(crate) fn next(&mut self, to: PeerId, room: usize, now: Instant) -> Option<Outgoing> {
        let peer = self.peers.get_mut(&to)?;
        if let Some(frame) = peer.outbox.pop_front() {
            return Some(Outgoing::one(frame));
        }
        let message = self.serving.next(&to, room, now)?;
        self.drive(now);
        Some(Outgoing::one(message.into_frame()))
    }

    /// When there is something for a peer.
    pub(crate) fn next_at(&self, to: &PeerId, now: Instant) -> Option<Instant> {
        let has_own = self.peers.get(to).is_some_and(|it| !it.outbox.is_empty());
        (has_own || self.serving.has_next(to)).then_some(now)
    }

    pub(crate) fn action(&mut self) -> Option<Action<Event>> {
        self.actions.pop_front()
    }

    pub(crate) fn is_settled(&self) -> bool {
        self.actions.is_empty()
    }

    pub(crate) fn on_time(&mut self, now: Instant) {
        if let Some(download) = &mut self.download {
            download.on_time(now);
        }
        self.serving.on_time(now);
        if !self.is_listing && self.list_at.take_if(|at| now >= *at).is_some() {
            self.list(Job::List);
        }
        self.drive(now);
        self.tell_progress(now);
    }

    fn tell_progress(&mut self, now: Instant) {
        let is_early = self.told_at.is_some_and(|at| now < at + TELL_EVERY);
        let progress = self.download.as_ref().and_then(|it| it.progress(now));
        if let Some(progress) = progress.filter(|_| !is_early) {
            self.told_at = Some(now);
            self.tell(Event::Progress(progress));
        }
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let download = self.download.as_ref().and_then(|it| it.next_deadline());
        // What is being listed sets the next time itself.
        let list = self.list_at.filter(|_| !self.is_listing);
        let deadlines = [download, self.serving.next_deadline(), list];
        deadlines.into_iter().flatten().min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::test;

    #[test]
    fn who_answers_what_it_has_not_read_is_asked_no_more() {
        let mut core = Snapshots::new(SnapshotsConfig::default(), &Synced::default(), 1);
        core.is_on = true;
        let (peer, now) = (PeerId::random(), crate::platform::now());
        core.greeted(peer, wire::VERSION);
        core.joined(peer);
        for number in 0..1000 {
            core.take(Wanted::Send(peer, Message::Cancel(number)), now);
        }
        let misdeeds = core.actions.iter();
        let misdeeds = misdeeds.filter(|it| matches!(it, Action::Misdeed(..)));
        assert_eq!(misdeeds.count(), 1);
        assert!(!core.peers.contains_key(&peer), "nothing waits for it");
    }
}
