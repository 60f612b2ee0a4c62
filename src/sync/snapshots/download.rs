//! Taking a snapshot: whom to believe, what to ask of whom, and who pays.
//!
//! Offers come from peers. One is chosen (three sources count as many; then the highest), its state root is compared with a final
//! header's or with the checkpoint, the sink is asked, and its chunks are fetched from all who have them: the rarest first, from each as much
//! at a time as it sends in the time of a round trip and a quarter of a second. What nobody is asked for any more is asked of idle sources a
//! second time where they would bring it sooner, so that the slowest does not set the end; what comes twice is little.
//!
//! A chunk is right or it is not, so who sends a wrong one pays at once, and no more is taken from it. Whether the snapshot is right, only the sink
//! knows. When it rejects one, nobody pays: the next one is tried, of others than those who offered it. If that is of the same height and form
//! and the sink takes it, the sink is sound and the first ones lied: then they pay. If all offered the same, it is our error, which is told.
//!
//! Root, size and chunks of a snapshot are the word of who offers it. One of which too little comes is given up, and who offered it is believed
//! after others.
//!
//! Bounds: [`DownloadConfig`]. Where a limit leaves no room, less is asked for; nothing that comes is thrown away but what was not asked for.
//! Whatever goes wrong, it ends with an [`Outcome`]; there are blocks beside snapshots.

mod asking;
mod choosing;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use bytes::Bytes;
use libp2p::PeerId;

use super::{
    config::DownloadConfig,
    fetch::{Applying, Fault, Fetch},
    loaded::Loaded,
    source::Source,
    wire::{HashedPiece, MAX_OFFERS, Message, Offer, Part, Reason, Refusal},
};
use crate::{
    chain::{ChunkOrder, Snapshot, SnapshotId, SyncVerdict},
    peers::Misdeed,
    platform::Instant,
};

/// It looks at its watch so often while it runs.
const TICK: Duration = Duration::from_millis(100);
/// What the sink or the chain cannot say now, it is asked again after so long.
const AGAIN: Duration = Duration::from_secs(1);
/// A snapshot of which less than [`LEAST_RATE`] has come for so long is given up,
const LEAST_RATE_FOR: Duration = Duration::from_secs(30);
/// in bytes a second, from all of its sources together.
const LEAST_RATE: u64 = 16 << 10;
/// Peers that are remembered as liars; of more, the latest.
const MAX_LIARS: usize = 256;

/// Something to do. A driver does all of it, in order.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Compare a snapshot's state root with that of the final header of its height; the answer goes to [`Download::trust_checked`].
    CheckTrust(Snapshot),
    /// Offer a snapshot to the sink, with the final header of its height; the answer goes to [`Download::offered`].
    Offer(Snapshot),
    /// Send this.
    Send(PeerId, Message),
    /// Give a chunk to the sink; the answer goes to [`Download::applied`].
    Apply {
        /// Of which snapshot.
        snapshot: SnapshotId,
        /// Which.
        index: u32,
        /// Its bytes: those that the snapshot says.
        bytes: Bytes,
        /// Who sent the most of it.
        sender: PeerId,
    },
    /// The sink has all chunks; its answer goes to [`Download::finished`].
    Finish(Snapshot),
    /// The snapshot that the sink has accepted is rejected or given up: have it forget what it has taken.
    Abandon,
    /// A peer did wrong.
    Misdeed {
        /// Who.
        peer: PeerId,
        /// What, for its reputation.
        misdeed: Misdeed,
        /// What, for a person.
        why: &'static str,
    },
    /// It is over.
    End(Outcome),
}

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The sink has the state of this snapshot: go on with the blocks after its height.
    Synced(Snapshot),
    /// Go on with blocks from where the chain is.
    Blocks(NoSnapshot),
}

/// Why there is no snapshot to begin with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NoSnapshot {
    /// No peer offers one that is far enough above what is here and not too large.
    #[error("no peer has a snapshot of use; blocks are fetched instead")]
    Nobody,
    /// Some are offered, but none has the state root of a final header or of the checkpoint.
    #[error(
        "no offered snapshot has the state root of a final header or of the checkpoint; blocks are fetched instead"
    )]
    Untrusted,
    /// Some are offered, and who offers them does not send them.
    #[error("no peer sends the snapshot that it offers; blocks are fetched instead")]
    Unsent,
    /// The application takes none of those that are offered. Where all peers offered the same, the error may well be this node's.
    #[error(
        "the application rejects {rejected} snapshots that peers agree on: {reason}; look at its log, blocks are fetched instead"
    )]
    Rejected {
        /// How many.
        rejected: usize,
        /// What it said of the last one.
        reason: String,
    },
    /// The application could not take what it was given: an error of this node.
    #[error(
        "the application cannot take the snapshot: {reason}; mend that and start again, blocks are fetched meanwhile"
    )]
    Sink {
        /// What it said.
        reason: String,
    },
}

/// What a chain says of an offered snapshot's state root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// The final header of this height has it.
    Final,
    /// Nobody can say yet: there is no final header of this height here.
    NotYet,
    /// The final header of this height has another one.
    False,
}

/// How far it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// What is being fetched.
    pub snapshot: Snapshot,
    /// Chunks that the sink has.
    pub chunks: u32,
    /// Their bytes.
    pub bytes: u64,
    /// Bytes a second that the sources send now.
    pub rate: u64,
    /// Peers that are asked for some of it now.
    pub sources: usize,
}

impl Progress {
    /// When the rest will be here, if it goes on like that. `None`: nobody can say.
    pub fn eta(&self) -> Option<Duration> {
        let left = self.snapshot.size.saturating_sub(self.bytes);
        let left = left.checked_mul(1000)?.checked_div(self.rate)?;
        Some(Duration::from_millis(left))
    }
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Download {
    config: DownloadConfig,
    /// The chain's height here.
    height: u64,
    seed: u32,
    peers: BTreeMap<PeerId, Source>,
    candidates: BTreeMap<SnapshotId, Candidate>,
    /// Snapshots that are not tried again.
    settled: VecDeque<Settled>,
    liars: VecDeque<PeerId>,
    /// The one of which the sink has chunks already.
    begun: Option<SnapshotId>,
    stage: Stage,
    /// How many snapshots the sink has rejected, and why the last one.
    rejected: (usize, String),
    /// When the search began.
    since: Instant,
    tick: Instant,
    /// What partial sources have has changed; when the order was made last.
    unranked: bool,
    ranked: Instant,
    actions: VecDeque<Action>,
}

#[derive(Debug)]
struct Candidate {
    snapshot: Snapshot,
    offerers: BTreeSet<PeerId>,
    is_final: bool,
    /// Not looked at before.
    again_at: Option<Instant>,
}

/// What a search has found out, for the next one: which snapshots were rejected, who offered them, and who lied.
#[derive(Debug, Default)]
pub struct Memory {
    settled: VecDeque<Settled>,
    liars: VecDeque<PeerId>,
}

/// A snapshot that came to nothing.
#[derive(Debug)]
struct Settled {
    id: SnapshotId,
    height: u64,
    format: u32,
    fault: Guess,
    /// Who pays if it turns out that it was a lie.
    offerers: BTreeSet<PeerId>,
}

/// What would prove that a snapshot was a lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Guess {
    /// Nothing.
    OfNoUse,
    /// Another one of its height has the final header's state root.
    Untrue,
    /// The sink takes another one of its height and format.
    Rejected,
    /// Nothing, but those who offered it did not send it.
    Unsent,
}

#[derive(Debug)]
enum Stage {
    Searching,
    Trusting(SnapshotId),
    Offering(Pending),
    Fetching {
        fetch: Box<Fetch>,
        /// Since when nobody has it.
        lost: Option<Instant>,
        /// Since when its pace is measured, and what had come by then.
        measured: (Instant, u64),
    },
    Finishing(Pending),
    Over,
}

/// What the sink is asked about a whole snapshot.
#[derive(Debug)]
struct Pending {
    snapshot: Snapshot,
    tries: u32,
    again_at: Option<Instant>,
}

impl Download {
    /// Begins to look for a snapshot above this height. `seed`: random, and this node's own.
    pub fn new(config: DownloadConfig, height: u64, seed: u32, now: Instant) -> Self {
        Self {
            config,
            height,
            seed,
            peers: BTreeMap::new(),
            candidates: BTreeMap::new(),
            settled: VecDeque::new(),
            liars: VecDeque::new(),
            begun: None,
            stage: Stage::Searching,
            rejected: (0, String::new()),
            since: now,
            tick: now + TICK,
            unranked: false,
            ranked: now,
            actions: VecDeque::new(),
        }
    }

    /// With what an earlier search has found out.
    pub fn remembering(self, memory: Memory) -> Self {
        let Memory { settled, liars } = memory;
        Self {
            settled,
            liars,
            ..self
        }
    }

    /// The sink has chunks of this snapshot: it goes before others, however little it is above the chain.
    pub fn going_on_with(self, begun: Option<SnapshotId>) -> Self {
        Self { begun, ..self }
    }

    /// What the next search had better know.
    pub fn memory(self) -> Memory {
        let mut settled = self.settled;
        settled.retain(|it| it.fault == Guess::Rejected);
        Memory {
            settled,
            liars: self.liars,
        }
    }

    /// A peer tells what it has: all of it.
    pub fn offers(&mut self, from: PeerId, offers: Vec<Offer>, now: Instant) {
        let is_known = self.peers.contains_key(&from);
        if self.liars.contains(&from) || !is_known && self.peers.len() >= self.config.max_peers {
            return;
        }
        let kinds = offers
            .iter()
            .map(|it| (it.snapshot.height, it.snapshot.format));
        if kinds.collect::<BTreeSet<_>>().len() < offers.len() || offers.len() > MAX_OFFERS {
            let why = "it offers two snapshots of one height and format";
            self.misdeed(from, Misdeed::InvalidMessage, why);
            return;
        }
        let source = self.peers.entry(from).or_insert_with(|| Source::new(now));
        let is_partial = |offers: &BTreeMap<_, Option<_>>| offers.values().any(Option::is_some);
        self.unranked |= is_partial(&source.offers);
        let before = std::mem::take(&mut source.offers);
        for offer in offers {
            let id = offer.snapshot.id();
            source.offers.insert(id, offer.have);
            let candidate = self.candidates.entry(id).or_insert_with(|| Candidate {
                snapshot: offer.snapshot,
                offerers: BTreeSet::new(),
                is_final: false,
                again_at: None,
            });
            candidate.offerers.insert(from);
        }
        self.unranked |= is_partial(&source.offers);
        let gone = before
            .into_keys()
            .filter(|id| !source.offers.contains_key(id));
        for id in gone.collect::<Vec<_>>() {
            self.withdrawn(&from, &id);
        }
        self.fill(from, now);
    }

    /// What a peer sends was not read here for so long.
    pub fn unheard(&mut self, peer: &PeerId, time: Duration, now: Instant) {
        if let Some(source) = self.peers.get_mut(peer) {
            source.unheard(time, now);
        }
    }

    /// A peer is gone, or is met anew: what it was asked for does not come.
    pub fn gone(&mut self, peer: &PeerId, now: Instant) {
        self.release(peer, |_| true);
        if let Some(source) = self.peers.remove(peer) {
            for id in source.offers.into_keys() {
                self.unlist(peer, &id);
            }
        }
        self.fill_all(now);
    }

    /// The chain is at this height by its blocks: a snapshot that is no higher is of no use any more.
    pub fn chain_is_at(&mut self, height: u64, now: Instant) {
        self.height = self.height.max(height);
        let passed = match &self.stage {
            Stage::Fetching { fetch, .. } => Some(&fetch.snapshot),
            Stage::Offering(pending) => Some(&pending.snapshot),
            _ => None,
        };
        if passed.is_some_and(|snapshot| snapshot.height <= height) {
            let why = "the chain is as far by its blocks".to_owned();
            self.turned_down(SyncVerdict::Ignore(why), now);
        }
    }

    /// The answer to [`Action::CheckTrust`].
    pub fn trust_checked(&mut self, id: &SnapshotId, trust: Trust, now: Instant) {
        if !matches!(&self.stage, Stage::Trusting(asked) if asked == id) {
            return;
        }
        self.stage = Stage::Searching;
        match trust {
            Trust::Final => self.trusted(id),
            Trust::NotYet => {
                if let Some(candidate) = self.candidates.get_mut(id) {
                    candidate.again_at = Some(now + AGAIN);
                }
            }
            Trust::False => self.untrue(id),
        }
        self.search(now);
    }

    /// The sink's answer to [`Action::Offer`]: which chunks it has stored before, and in which order it takes the others.
    pub fn offered(
        &mut self,
        id: &SnapshotId,
        verdict: SyncVerdict,
        (stored, order): (&[u32], ChunkOrder),
        now: Instant,
    ) {
        let Stage::Offering(pending) = &mut self.stage else {
            return;
        };
        if pending.snapshot.id() != *id {
            return;
        }
        match verdict {
            SyncVerdict::Accept => {
                let fetch = Fetch::new(pending.snapshot.clone(), stored, order, self.seed);
                self.stage = Stage::Fetching {
                    fetch: Box::new(fetch),
                    lost: None,
                    measured: (now, 0),
                };
                self.unranked = true;
                self.rank(now);
                self.complete();
                self.fill_all(now);
            }
            SyncVerdict::Retry(reason) => {
                let is_over = pending.again(self.config.max_retries, now);
                self.unable(is_over, reason);
            }
            other => self.turned_down(other, now),
        }
    }

    /// The sink's answer to [`Action::Apply`].
    pub fn applied(&mut self, id: &SnapshotId, index: u32, verdict: SyncVerdict, now: Instant) {
        let Stage::Fetching { fetch, .. } = &mut self.stage else {
            return;
        };
        let Some(applying) = fetch.applying.get_mut(&index).filter(|_| fetch.id == *id) else {
            return;
        };
        match verdict {
            SyncVerdict::Accept => {
                fetch.applied(index);
                if let Some(next) = fetch.next_waiting()
                    && let Some(applying) = fetch.applying.get(&next)
                {
                    self.actions.push_back(applying.apply(fetch.id, next));
                }
                self.complete();
                self.fill_all(now);
            }
            SyncVerdict::Retry(reason) => {
                applying.tries += 1;
                applying.again_at = Some(now + AGAIN);
                let is_over = applying.tries > self.config.max_retries;
                self.unable(is_over, reason);
            }
            other => self.turned_down(other, now),
        }
    }

    /// The sink's answer to [`Action::Finish`].
    pub fn finished(&mut self, id: &SnapshotId, verdict: SyncVerdict, now: Instant) {
        let Stage::Finishing(pending) = &mut self.stage else {
            return;
        };
        if pending.snapshot.id() != *id {
            return;
        }
        match verdict {
            SyncVerdict::Accept => {
                let snapshot = pending.snapshot.clone();
                self.convict(&snapshot, Guess::Rejected);
                self.end(Outcome::Synced(snapshot));
            }
            SyncVerdict::Retry(reason) => {
                let is_over = pending.again(self.config.max_retries, now);
                self.unable(is_over, reason);
            }
            other => self.turned_down(other, now),
        }
    }

    /// A piece from a peer.
    pub fn piece(&mut self, from: PeerId, piece: &HashedPiece, now: Instant) {
        let Some(source) = self.peers.get_mut(&from).filter(|source| !source.is_liar) else {
            return;
        };
        let number = piece.piece.number;
        let Some(asked) = source.requests.get(&number).cloned() else {
            let why = "it sends a piece that nobody asked for";
            return self.misdeed(from, Misdeed::InvalidMessage, why);
        };
        let length = piece.piece.data.len();
        let groups = u16::try_from(super::tree::groups(length)).unwrap_or(u16::MAX);
        let fits = piece.piece.first == asked.next
            && groups <= asked.end - asked.next
            && piece.piece.values.is_empty() != asked.values;
        if !fits {
            return self.lied(
                from,
                Fault::Broken("a piece that is not what was asked for"),
                now,
            );
        }
        let is_over = source.came(number, groups, length, now);
        let Stage::Fetching { fetch, .. } = &mut self.stage else {
            return;
        };
        if asked.snapshot != fetch.id {
            return;
        }
        match fetch.take(from, asked.part, piece) {
            Err(fault) => {
                fetch.release(asked.part, &from);
                return self.lied(from, fault, now);
            }
            Ok(true) => {
                if let Part::Chunk(index) = asked.part
                    && fetch.is_next(index)
                    && let Some(applying) = fetch.applying.get(&index)
                {
                    self.actions.push_back(applying.apply(fetch.id, index));
                }
                self.needless(asked.part);
                if asked.part == Part::Hashes {
                    return self.fill_all(now);
                }
            }
            Ok(false) if is_over && !asked.is_cancelled => fetch.release(asked.part, &from),
            Ok(false) => {}
        }
        self.fill(from, now);
    }

    /// A peer sends no more of what it was asked for.
    pub fn refused(&mut self, from: PeerId, refusal: Refusal, now: Instant) {
        let Some(source) = self.peers.get_mut(&from) else {
            return;
        };
        let Some(asked) = source.end(refusal.number) else {
            let why = "it refuses what nobody asked for";
            return self.misdeed(from, Misdeed::InvalidMessage, why);
        };
        if let Stage::Fetching { fetch, .. } = &mut self.stage
            && fetch.id == asked.snapshot
            && !asked.is_cancelled
        {
            fetch.release(asked.part, &from);
        }
        match refusal.reason {
            Reason::Cancelled if asked.is_cancelled => {}
            Reason::Cancelled | Reason::Busy => source.rest(now),
            Reason::Gone => {
                source.offers.remove(&asked.snapshot);
                self.withdrawn(&from, &asked.snapshot);
            }
            Reason::Missing => {
                source.rest(now);
                let chunks = self.candidates.get(&asked.snapshot);
                let chunks = chunks.map_or(0, |it| it.snapshot.chunks());
                source.lacks(&asked.snapshot, asked.part, chunks);
                if !source.offers.contains_key(&asked.snapshot) {
                    self.withdrawn(&from, &asked.snapshot);
                }
            }
        }
        self.fill_all(now);
    }

    /// Moves on what has waited.
    pub fn on_time(&mut self, now: Instant) {
        if now < self.tick {
            return;
        }
        self.tick = now + TICK;
        self.rank(now);
        self.take_back(now);
        self.ask_sink_again(now);
        self.look_for_sources(now);
        self.give_up_unsent(now);
        self.search(now);
        self.fill_all(now);
    }

    /// When [`Download::on_time`] has something to do. `None`: it is over.
    pub fn next_deadline(&self) -> Option<Instant> {
        (!matches!(self.stage, Stage::Over)).then_some(self.tick)
    }

    /// What is to be done next.
    pub fn action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// How far it is, once there is something to fetch.
    pub fn progress(&self, now: Instant) -> Option<Progress> {
        let Stage::Fetching { fetch, .. } = &self.stage else {
            return None;
        };
        let active = self.peers.values().filter(|it| !it.owes().is_empty());
        let mut sources = 0;
        let rate = |source: &Source| source.pace.hoped(true, now);
        let rate: f64 = active.inspect(|_| sources += 1).map(rate).sum();
        Some(Progress {
            snapshot: fetch.snapshot.clone(),
            chunks: fetch.done.count(),
            bytes: fetch.bytes_done(),
            rate: rate as u64,
            sources,
        })
    }

    /// What can be served of it already, with the hashes of its chunks.
    pub fn served(&self) -> Option<(Offer, Loaded)> {
        let Stage::Fetching { fetch, .. } = &self.stage else {
            return None;
        };
        let offer = Offer {
            snapshot: fetch.snapshot.clone(),
            have: Some(fetch.done.clone()),
        };
        Some((offer, fetch.hashes()?))
    }

    /// Bytes of chunks that are under way or wait for the sink.
    pub fn bytes_in_flight(&self) -> usize {
        match &self.stage {
            Stage::Fetching { fetch, .. } => fetch.held(),
            _ => 0,
        }
    }
}

impl Download {
    fn misdeed(&mut self, peer: PeerId, misdeed: Misdeed, why: &'static str) {
        self.actions
            .push_back(Action::Misdeed { peer, misdeed, why });
    }

    /// A peer has sent what is provably wrong.
    fn lied(&mut self, peer: PeerId, fault: Fault, now: Instant) {
        match fault {
            Fault::Broken(why) => self.misdeed(peer, Misdeed::InvalidMessage, why),
            Fault::False(why) => self.misdeed(peer, Misdeed::FalseSnapshot, why),
        }
        self.exclude(peer);
        self.fill_all(now);
    }

    /// Nothing more is taken from a peer.
    fn exclude(&mut self, peer: PeerId) {
        if self.liars.contains(&peer) {
            return;
        }
        self.liars.push_back(peer);
        if self.liars.len() > MAX_LIARS {
            self.liars.pop_front();
        }
        self.release(&peer, |_| true);
        if let Some(source) = self.peers.get_mut(&peer) {
            source.is_liar = true;
            for id in std::mem::take(&mut source.offers).into_keys() {
                self.unlist(&peer, &id);
            }
        }
    }
}

impl Applying {
    /// Gives it to the sink.
    fn apply(&self, snapshot: SnapshotId, index: u32) -> Action {
        Action::Apply {
            snapshot,
            index,
            bytes: self.bytes.clone(),
            sender: self.sender,
        }
    }
}

impl Pending {
    fn new(snapshot: Snapshot) -> Self {
        Self {
            snapshot,
            tries: 0,
            again_at: None,
        }
    }

    /// The sink can't say now. True: it was asked often enough.
    fn again(&mut self, max_retries: u32, now: Instant) -> bool {
        self.tries += 1;
        self.again_at = Some(now + AGAIN);
        self.tries > max_retries
    }
}
