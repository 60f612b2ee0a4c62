//! A node that takes a snapshot from several sources, in virtual time.
//!
//! Each source runs the serving state machine behind an uplink of a fixed rate and latency, and may have bad manners: what it sends is
//! changed on its way. The sink is a few lines. Everything follows from what the test says.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use libp2p::PeerId;

use super::{
    Action, Bitmap, Download, DownloadConfig, HashedPiece, LoadError, Loaded, Message, Offer,
    Outcome, Part, Piece, Reason, Refusal, Serving, ServingAction, ServingConfig, Trust,
};
use crate::{
    chain::{ChunkOrder, SNAPSHOT_GROUP, Snapshot, SnapshotHasher, SnapshotId, SyncVerdict},
    peers::Misdeed,
    platform::Instant,
};

pub(super) const MIB: usize = 1 << 20;

/// A snapshot with its bytes.
pub(super) struct Content {
    pub(super) snapshot: Snapshot,
    pub(super) hashes: Bytes,
    pub(super) chunks: Vec<Bytes>,
}

impl Content {
    /// `salt`: others have other bytes.
    pub(super) fn new(height: u64, chunk_size: usize, size: usize, salt: u8) -> Arc<Self> {
        let mut hasher = SnapshotHasher::new(chunk_size as u32).unwrap();
        let mut chunks = Vec::new();
        for (index, begin) in (0..size).step_by(chunk_size).enumerate() {
            let mut chunk = vec![salt; chunk_size.min(size - begin)];
            for (group, bytes) in chunk.chunks_mut(SNAPSHOT_GROUP).enumerate() {
                let place = (index as u64 * 1000 + group as u64).to_be_bytes();
                let length = place.len().min(bytes.len());
                bytes[..length].copy_from_slice(&place[8 - length..]);
            }
            hasher.update(&chunk);
            chunks.push(chunk.into());
        }
        let (snapshot, hashes) = hasher.finish(height, 1, root_at(height)).unwrap();
        Arc::new(Self {
            snapshot,
            hashes,
            chunks,
        })
    }

    /// The same bytes, with another state root.
    pub(super) fn untrue(&self) -> Arc<Self> {
        Arc::new(Self {
            snapshot: Snapshot {
                state_root: Bytes::from_static(b"false"),
                ..self.snapshot.clone()
            },
            hashes: self.hashes.clone(),
            chunks: self.chunks.clone(),
        })
    }

    fn load(&self, part: Part) -> Option<Bytes> {
        match part {
            Part::Hashes => Some(self.hashes.clone()),
            Part::Chunk(index) => self.chunks.get(index as usize).cloned(),
        }
    }
}

/// What the chain has for a state root.
pub(super) fn root_at(height: u64) -> Bytes {
    Bytes::copy_from_slice(&height.to_be_bytes())
}

/// What a source does with what it ought to send.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Manners {
    Honest,
    /// Sends nothing more from then on.
    Stalls(Duration),
    /// From its fourth piece on a byte is wrong.
    FalseGroup,
    FalseValues,
    /// A piece lacks its last byte.
    Short,
    /// A piece says that it is one group further.
    Misplaced,
    /// A piece under a number that nobody gave.
    Unasked,
    /// It leaves then.
    Vanishes(Duration),
    /// It offers nothing from then on.
    Withdraws(Duration),
    /// It offers this height from then on, with other bytes.
    ChangesItsMind(Duration),
    Refuses(Reason),
}

pub(super) struct SourceSpec {
    pub(super) content: Arc<Content>,
    pub(super) have: Option<Bitmap>,
    pub(super) manners: Manners,
    /// Bytes a second.
    pub(super) rate: f64,
    pub(super) latency: Duration,
    /// When it comes.
    pub(super) at: Duration,
}

impl SourceSpec {
    /// Sends 5 MB a second over a link of 20 ms.
    pub(super) fn honest(content: &Arc<Content>) -> Self {
        Self {
            content: content.clone(),
            have: None,
            manners: Manners::Honest,
            rate: 5e6,
            latency: Duration::from_millis(10),
            at: Duration::ZERO,
        }
    }

    pub(super) fn bad(content: &Arc<Content>, manners: Manners) -> Self {
        Self {
            manners,
            ..Self::honest(content)
        }
    }
}

struct Source {
    id: PeerId,
    spec: SourceSpec,
    serving: Serving,
    is_sending: bool,
    pieces: usize,
}

/// The application that takes the snapshot.
pub(super) struct Sink {
    /// The roots of the snapshots that it rejects, when all is there.
    pub(super) rejects: Vec<[u8; 32]>,
    /// What it had stored before.
    pub(super) stored: Vec<u32>,
    /// How long a chunk takes.
    pub(super) delay: Duration,
    /// It cannot take so many of the first chunks that it is given.
    pub(super) retries: usize,
    pub(super) order: ChunkOrder,
}

impl Default for Sink {
    fn default() -> Self {
        Self {
            rejects: Vec::new(),
            stored: Vec::new(),
            delay: Duration::from_millis(1),
            retries: 0,
            order: ChunkOrder::Any,
        }
    }
}

enum Event {
    Comes(usize),
    ToSource(usize, Message),
    ToNode(usize, Message),
    Line(usize),
    Loaded(usize, SnapshotId, Part),
    Trust(SnapshotId, Trust),
    Offered(SnapshotId),
    Applied(SnapshotId, u32),
    Finished(SnapshotId),
    Timer,
    Turns(usize),
}

pub(super) struct Simulation {
    pub(super) download: Download,
    sources: Vec<Source>,
    sink: Sink,
    trust: fn(&Snapshot) -> Trust,
    node: PeerId,
    now: Instant,
    began: Instant,
    order: BinaryHeap<Reverse<(Instant, u64)>>,
    events: BTreeMap<u64, Event>,
    count: u64,
    pub(super) report: Report,
}

/// What came of it.
#[derive(Debug, Default)]
pub(super) struct Report {
    pub(super) outcome: Option<Outcome>,
    /// When it ended, from the beginning.
    pub(super) time: Duration,
    /// When each snapshot was offered to the sink.
    pub(super) offered: Vec<(SnapshotId, Duration)>,
    /// When each chunk was applied.
    pub(super) applied: Vec<(u32, Duration)>,
    /// How often the sink was to forget what it has taken.
    pub(super) abandoned: usize,
    /// By the source's place.
    pub(super) misdeeds: Vec<(usize, Misdeed)>,
    /// Bytes of snapshots that came.
    pub(super) bytes: usize,
    pub(super) most_in_flight: usize,
    /// What was asked for, of whom.
    pub(super) asked: Vec<(usize, Part)>,
}

impl Report {
    /// The time from the first offer to the end, and that from 99% of the chunks on.
    pub(super) fn fetch(&self) -> (f64, f64) {
        let from = self.offered.last().unwrap().1;
        let most = self.applied.len() * 99 / 100;
        let all = (self.time - from).as_secs_f64();
        (all, (self.time - self.applied[most].1).as_secs_f64())
    }

    pub(super) fn blamed(&self) -> BTreeSet<usize> {
        self.misdeeds.iter().map(|(source, _)| *source).collect()
    }

    pub(super) fn synced(&self) -> Option<u64> {
        match &self.outcome {
            Some(Outcome::Synced(snapshot)) => Some(snapshot.height),
            _ => None,
        }
    }
}

impl Simulation {
    pub(super) fn new(config: DownloadConfig, sources: Vec<SourceSpec>, sink: Sink) -> Self {
        let now = crate::platform::now();
        let source = |(place, spec): (usize, SourceSpec)| Source {
            id: peer(place),
            serving: serving(&spec.content, spec.have.clone()),
            spec,
            is_sending: false,
            pieces: 0,
        };
        let mut simulation = Self {
            download: Download::new(config, 0, 7, now),
            sources: sources.into_iter().enumerate().map(source).collect(),
            sink,
            trust: |snapshot| {
                if snapshot.state_root == root_at(snapshot.height) {
                    Trust::Final
                } else {
                    Trust::False
                }
            },
            node: PeerId::random(),
            now,
            began: now,
            order: BinaryHeap::new(),
            events: BTreeMap::new(),
            count: 0,
            report: Report::default(),
        };
        for place in 0..simulation.sources.len() {
            let spec = &simulation.sources[place].spec;
            let (at, manners) = (spec.at, spec.manners);
            simulation.after(at, Event::Comes(place));
            if let Manners::Vanishes(at) | Manners::Withdraws(at) | Manners::ChangesItsMind(at) =
                manners
            {
                simulation.after(at, Event::Turns(place));
            }
        }
        simulation.after(Duration::ZERO, Event::Timer);
        simulation
    }

    pub(super) fn trusting(mut self, trust: fn(&Snapshot) -> Trust) -> Self {
        self.trust = trust;
        self
    }

    /// Runs until it is over.
    pub(super) fn run(mut self) -> Report {
        while let Some(Reverse((at, count))) = self.order.pop() {
            assert!(
                at < self.began + Duration::from_secs(3600),
                "it does not end"
            );
            self.now = at;
            let event = self.events.remove(&count).unwrap();
            self.happens(event);
            let in_flight = self.download.bytes_in_flight();
            self.report.most_in_flight = self.report.most_in_flight.max(in_flight);
            self.act();
            if self.report.outcome.is_some() {
                self.report.time = self.now - self.began;
                break;
            }
        }
        self.report
    }

    fn after(&mut self, time: Duration, event: Event) {
        self.count += 1;
        self.events.insert(self.count, event);
        self.order.push(Reverse((self.now + time, self.count)));
    }

    fn happens(&mut self, event: Event) {
        let now = self.now;
        match event {
            Event::Comes(place) => {
                let node = self.node;
                self.sources[place].serving.joined(node);
                self.serve(place);
            }
            Event::ToSource(place, message) => {
                let node = self.node;
                let source = &mut self.sources[place];
                match message {
                    Message::Request(request) => match source.spec.manners {
                        Manners::Refuses(reason) => {
                            let number = request.number;
                            let refusal = Message::Refusal(Refusal { number, reason });
                            let latency = source.spec.latency;
                            self.after(latency, Event::ToNode(place, refusal));
                        }
                        _ => source.serving.request(node, request, now),
                    },
                    Message::Cancel(number) => source.serving.cancel(node, number),
                    other => panic!("{other:?}"),
                }
                self.serve(place);
            }
            Event::ToNode(place, message) => {
                let from = self.sources[place].id;
                match message {
                    Message::Offers(offers) => self.download.offers(from, offers, now),
                    Message::Piece(piece) => {
                        self.report.bytes += piece.data.len();
                        self.download.piece(from, &HashedPiece::of(piece), now);
                    }
                    Message::Refusal(refusal) => self.download.refused(from, refusal, now),
                    other => panic!("{other:?}"),
                }
            }
            Event::Line(place) => {
                self.sources[place].is_sending = false;
                self.serve(place);
            }
            Event::Loaded(place, id, part) => {
                let source = &mut self.sources[place];
                let content = source.spec.content.clone();
                let hash = match part {
                    Part::Hashes => content.snapshot.root,
                    Part::Chunk(index) => *blake3::hash(&content.chunks[index as usize]).as_bytes(),
                };
                let loaded = if id == content.snapshot.id() {
                    Loaded::of(content.load(part), &hash)
                } else {
                    Err(LoadError::Missing)
                };
                source.serving.loaded(id, part, loaded, now);
                self.serve(place);
            }
            Event::Trust(id, trust) => self.download.trust_checked(&id, trust, now),
            Event::Offered(id) => {
                let stored = self.sink.stored.clone();
                let taken = (&stored[..], self.sink.order);
                self.download.offered(&id, SyncVerdict::Accept, taken, now);
            }
            Event::Applied(id, index) => {
                let verdict = if self.sink.retries > 0 {
                    self.sink.retries -= 1;
                    SyncVerdict::Retry("the disk is full".into())
                } else {
                    let time = now - self.began;
                    self.report.applied.push((index, time));
                    SyncVerdict::Accept
                };
                self.download.applied(&id, index, verdict, now);
            }
            Event::Finished(id) => {
                let of_id = |source: &&Source| source.spec.content.snapshot.id() == id;
                let source = self.sources.iter().find(of_id).unwrap();
                let verdict = if self
                    .sink
                    .rejects
                    .contains(&source.spec.content.snapshot.root)
                {
                    SyncVerdict::Reject("not that state".into())
                } else {
                    SyncVerdict::Accept
                };
                self.download.finished(&id, verdict, now);
            }
            Event::Timer => {
                self.download.on_time(now);
                if let Some(at) = self.download.next_deadline() {
                    self.after(at.max(now) - now, Event::Timer);
                }
            }
            Event::Turns(place) => self.turns(place),
        }
    }

    fn turns(&mut self, place: usize) {
        let (node, now) = (self.node, self.now);
        let source = &mut self.sources[place];
        match source.spec.manners {
            Manners::Vanishes(_) => {
                source.serving.gone(&node);
                let id = source.id;
                self.download.gone(&id, now);
            }
            Manners::Withdraws(_) => source.serving.offer([]),
            _ => {
                let old = &source.spec.content.snapshot;
                let other =
                    Content::new(old.height, old.chunk_size as usize, old.size as usize, 99);
                source.serving.offer([offer(&other, None)]);
                source.spec.content = other;
            }
        }
        self.serve(place);
    }

    fn act(&mut self) {
        let soon = Duration::from_millis(1);
        while let Some(action) = self.download.action() {
            match action {
                Action::CheckTrust(snapshot) => {
                    let trust = (self.trust)(&snapshot);
                    self.after(soon, Event::Trust(snapshot.id(), trust));
                }
                Action::Offer(snapshot) => {
                    self.report
                        .offered
                        .push((snapshot.id(), self.now - self.began));
                    self.after(soon, Event::Offered(snapshot.id()));
                }
                Action::Send(peer, message) => {
                    let place = self.place(&peer);
                    if let Message::Request(request) = &message {
                        self.report.asked.push((place, request.part));
                    }
                    let latency = self.sources[place].spec.latency;
                    self.after(latency, Event::ToSource(place, message));
                }
                Action::Apply {
                    snapshot,
                    index,
                    bytes,
                    sender,
                } => {
                    let content = &self.sources[self.place(&sender)].spec.content;
                    let others = self.sources.iter().map(|it| &it.spec.content);
                    let content = others
                        .into_iter()
                        .find(|it| it.snapshot.id() == snapshot)
                        .unwrap_or(content);
                    assert_eq!(
                        bytes, content.chunks[index as usize],
                        "only what is right is applied"
                    );
                    let delay = self.sink.delay;
                    self.after(delay, Event::Applied(snapshot, index));
                }
                Action::Finish(snapshot) => self.after(soon, Event::Finished(snapshot.id())),
                Action::Abandon => self.report.abandoned += 1,
                Action::Misdeed { peer, misdeed, .. } => {
                    self.report.misdeeds.push((self.place(&peer), misdeed));
                }
                Action::End(outcome) => self.report.outcome = Some(outcome),
            }
        }
    }

    fn place(&self, peer: &PeerId) -> usize {
        self.sources.iter().position(|it| it.id == *peer).unwrap()
    }

    /// Does what a source's state machine wants, and sends what its line takes.
    fn serve(&mut self, place: usize) {
        let (now, node) = (self.now, self.node);
        while let Some(action) = self.sources[place].serving.action() {
            if let ServingAction::Load { snapshot, part, .. } = action {
                self.after(
                    Duration::from_millis(1),
                    Event::Loaded(place, snapshot.id(), part),
                );
            }
        }
        let source = &mut self.sources[place];
        let is_stalled =
            matches!(source.spec.manners, Manners::Stalls(at) if now >= self.began + at);
        if source.is_sending || is_stalled {
            return;
        }
        let Some(message) = source.serving.next(&node, 64 << 10, now) else {
            return;
        };
        let message = source.changed(message);
        source.is_sending = true;
        let bytes = match &message {
            Message::Piece(piece) => piece.data.len() + 32 * piece.values.len() + 100,
            _ => 300,
        };
        let time = Duration::from_secs_f64(bytes as f64 / source.spec.rate);
        let latency = source.spec.latency;
        self.after(time, Event::Line(place));
        self.after(time + latency, Event::ToNode(place, message));
    }
}

impl Source {
    /// What it sends in place of what it ought to send.
    fn changed(&mut self, message: Message) -> Message {
        let Message::Piece(mut piece) = message else {
            return message;
        };
        self.pieces += 1;
        let is_late = self.pieces > 3;
        match self.spec.manners {
            Manners::FalseGroup if is_late => piece.data = flipped(&piece),
            Manners::FalseValues if !piece.values.is_empty() => piece.values[0][0] ^= 1,
            Manners::Short if is_late => piece.data.truncate(piece.data.len() - 1),
            Manners::Misplaced if is_late => piece.first += 1,
            Manners::Unasked if is_late => piece.number += 1_000_000,
            _ => {}
        }
        Message::Piece(piece)
    }
}

fn flipped(piece: &Piece) -> Bytes {
    let mut data = piece.data.to_vec();
    *data.last_mut().unwrap() ^= 1;
    data.into()
}

pub(super) fn offer(content: &Content, have: Option<Bitmap>) -> (Offer, Option<Loaded>) {
    let snapshot = content.snapshot.clone();
    (Offer { snapshot, have }, None)
}

fn serving(content: &Content, have: Option<Bitmap>) -> Serving {
    let mut serving = Serving::new(ServingConfig::default());
    serving.offer([offer(content, have)]);
    serving
}

/// The same for the same place.
fn peer(place: usize) -> PeerId {
    let mut digest = [place as u8; 34];
    (digest[0], digest[1]) = (0x12, 32);
    PeerId::from_bytes(&digest).unwrap()
}
