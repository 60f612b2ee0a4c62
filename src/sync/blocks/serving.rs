//! Peers' requests, and the answers on their way.
//!
//! Each peer's requests are answered one after the other, in their order. An answer is made off the network task once the one before it is
//! gone, and goes out as the peer's lane has room: who does not read has one answer here at most. Bounds: [`MAX_REQUESTS`] of a
//! peer that wait; [`MAX_MAKING`] answers that are made at once; `protocol.sync.max_serving_bytes` of all that are made. Where that is used up
//! and others wait, the answers of which nothing has gone for [`IDLE`] are dropped, and refused when the peer reads on.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use bytes::Bytes;
use libp2p::PeerId;

use super::{
    job::{Job, Served},
    wire::{self, Blocks, GetBlocks, GetHeaders, Kind, MAX_PIECE, MAX_REQUESTS, Reason},
};
use crate::platform::Instant;

/// Answers that are made at once.
const MAX_MAKING: usize = 2;
/// An answer of which nothing has gone for so long gives way to others.
const IDLE: Duration = Duration::from_secs(2);

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Serving {
    peers: BTreeMap<PeerId, Asker>,
    /// Who has a request that can be begun, the one that waits longest first.
    turns: VecDeque<PeerId>,
    waiting: BTreeSet<PeerId>,
    making: usize,
    /// The number of the answer that was begun last.
    ticket: u64,
    /// Bytes that are made, and that what is being made may come to.
    held: usize,
    most: usize,
    max_block: usize,
}

#[derive(Debug, Default)]
struct Asker {
    requests: VecDeque<Asked>,
    /// The request that is being answered, the ticket while the answer is being made, its frames to come, and their bytes.
    now: Option<u64>,
    making: Option<u64>,
    frames: VecDeque<Bytes>,
    bytes: usize,
    moved_at: Option<Instant>,
}

#[derive(Debug)]
enum Asked {
    Headers(GetHeaders),
    Blocks(GetBlocks),
}

impl Asked {
    fn number(&self) -> u64 {
        match self {
            Self::Headers(request) => request.number,
            Self::Blocks(request) => request.number,
        }
    }
}

impl Serving {
    pub(super) fn new(most: usize, max_block: usize) -> Self {
        Self {
            peers: BTreeMap::new(),
            turns: VecDeque::new(),
            waiting: BTreeSet::new(),
            making: 0,
            ticket: 0,
            held: 0,
            most,
            max_block,
        }
    }

    /// What an answer may come to.
    fn reserve(&self) -> usize {
        wire::MAX_ANSWER_BYTES + self.max_block
    }

    pub(super) fn ask_headers(&mut self, peer: PeerId, request: GetHeaders) -> bool {
        self.ask(peer, Asked::Headers(request))
    }

    /// False: the peer has too many requests open.
    pub(super) fn ask_blocks(&mut self, peer: PeerId, request: GetBlocks) -> bool {
        self.ask(peer, Asked::Blocks(request))
    }

    fn ask(&mut self, peer: PeerId, asked: Asked) -> bool {
        let asker = self.peers.entry(peer).or_default();
        let open = asker.requests.len() + usize::from(asker.now.is_some());
        if open >= MAX_REQUESTS {
            return false;
        }
        asker.requests.push_back(asked);
        self.line_up(peer);
        true
    }

    /// The peer's next request may be begun, if it has one.
    fn line_up(&mut self, peer: PeerId) {
        let is_next = |asker: &Asker| asker.now.is_none() && !asker.requests.is_empty();
        if self.peers.get(&peer).is_some_and(is_next) && self.waiting.insert(peer) {
            self.turns.push_back(peer);
        }
    }

    /// Work that may begin now.
    pub(super) fn start(&mut self) -> Option<Job> {
        while self.making < MAX_MAKING
            && self.held + self.reserve() <= self.most.max(self.reserve())
        {
            let peer = self.turns.pop_front()?;
            self.waiting.remove(&peer);
            let Some(asker) = self.peers.get_mut(&peer) else {
                continue;
            };
            let Some(asked) = asker.requests.pop_front() else {
                continue;
            };
            asker.now = Some(asked.number());
            self.ticket += 1;
            let ticket = self.ticket;
            asker.making = Some(ticket);
            self.making += 1;
            self.held += self.reserve();
            return Some(match asked {
                Asked::Headers(request) => Job::ServeHeaders(peer, ticket, request),
                Asked::Blocks(request) => Job::ServeBlocks(peer, ticket, request),
            });
        }
        None
    }

    /// An answer is made; `None`: the chain could not, and it is refused.
    pub(super) fn made(
        &mut self,
        peer: PeerId,
        ticket: u64,
        frames: Option<VecDeque<Bytes>>,
        now: Instant,
    ) {
        self.making = self.making.saturating_sub(1);
        self.held = self.held.saturating_sub(self.reserve());
        let Some(asker) = self.peers.get_mut(&peer) else {
            return;
        };
        // It may have been met anew since.
        if asker.making != Some(ticket) {
            return;
        }
        asker.making = None;
        let number = asker.now.unwrap_or_default();
        let frames = frames.unwrap_or_else(|| [refusal(number, Reason::Busy)].into());
        asker.bytes = frames.iter().map(Bytes::len).sum();
        asker.frames = frames;
        asker.moved_at = Some(now);
        self.held += asker.bytes;
    }

    pub(super) fn serves(&self, peer: &PeerId) -> bool {
        let asker = self.peers.get(peer);
        asker.is_some_and(|asker| !asker.frames.is_empty())
    }

    /// Whether answers wait to be made or sent.
    pub(super) fn is_idle(&self) -> bool {
        self.held == 0 && self.turns.is_empty()
    }

    /// The next frame for a peer.
    pub(super) fn next(&mut self, peer: PeerId, now: Instant) -> Option<Bytes> {
        let asker = self.peers.get_mut(&peer)?;
        let frame = asker.frames.pop_front()?;
        asker.bytes = asker.bytes.saturating_sub(frame.len());
        self.held = self.held.saturating_sub(frame.len());
        asker.moved_at = Some(now);
        if asker.frames.is_empty() {
            asker.now = None;
            self.line_up(peer);
        }
        Some(frame)
    }

    /// A peer is gone, or is met anew.
    pub(super) fn forget(&mut self, peer: &PeerId) {
        if let Some(asker) = self.peers.remove(peer) {
            self.held = self.held.saturating_sub(asker.bytes);
        }
        if self.waiting.remove(peer) {
            self.turns.retain(|other| other != peer);
        }
    }

    /// What was on its way to a peer may be lost: what it has asked for it is to ask again.
    pub(super) fn moved(&mut self, peer: &PeerId) -> Vec<u64> {
        let numbers = self.peers.get(peer).map(|asker| {
            let waiting = asker.requests.iter().map(Asked::number);
            asker.now.into_iter().chain(waiting).collect()
        });
        self.forget(peer);
        numbers.unwrap_or_default()
    }

    /// Drops the answers that nobody reads, where others wait for their room.
    pub(super) fn on_time(&mut self, now: Instant) -> Vec<(PeerId, u64)> {
        if self.turns.is_empty() || self.held + self.reserve() <= self.most {
            return Vec::new();
        }
        let mut dropped = Vec::new();
        for (peer, asker) in &mut self.peers {
            let rests = asker.moved_at.is_some_and(|at| now >= at + IDLE);
            if rests && !asker.frames.is_empty() {
                self.held = self.held.saturating_sub(asker.bytes);
                asker.frames.clear();
                asker.bytes = 0;
                dropped.extend(asker.now.take().map(|number| (*peer, number)));
            }
        }
        for (peer, _) in &dropped {
            self.line_up(*peer);
        }
        dropped
    }
}

/// The frames of an answer with blocks.
pub(super) fn frames(served: Served) -> VecDeque<Bytes> {
    let number = served.number;
    let empty = Blocks {
        number,
        ..Blocks::default()
    };
    let mut frames = VecDeque::new();
    let mut batch = empty.clone();
    let mut bytes = 0;
    for mut block in served.blocks {
        if bytes + block.len() > MAX_PIECE && !batch.blocks.is_empty() {
            let full = std::mem::replace(&mut batch, empty.clone());
            frames.push_back(Kind::Blocks(full).into_frame());
            bytes = 0;
        }
        let size = block.len();
        if size <= MAX_PIECE {
            bytes += size;
            batch.blocks.push(block);
            continue;
        }
        while !block.is_empty() {
            let piece = Blocks {
                piece: block.split_to(block.len().min(MAX_PIECE)),
                size: size as u64,
                ..empty.clone()
            };
            frames.push_back(Kind::Blocks(piece).into_frame());
        }
    }
    batch.ended = served.handled as u64 + 1;
    frames.push_back(Kind::Blocks(batch).into_frame());
    frames
}

/// The frame that says that there is no answer.
pub(super) fn refusal(number: u64, reason: Reason) -> Bytes {
    let reason = reason.into();
    Kind::Refusal(wire::Refusal { number, reason }).into_frame()
}
