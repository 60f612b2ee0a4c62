//! Peers' requests, and the answers on their way.
//!
//! Each peer's requests are answered one after the other, in their order. An answer is made off the network task once the one before it is
//! gone, and goes out as the peer's lane has room: who does not read has one answer here at most. Bounds: [`MAX_REQUESTS`] of a
//! peer that wait; [`MAX_MAKING`] answers that are made at once; `protocol.sync.max_serving_bytes` of all that are made. Where that is used up
//! and others wait, the answers that do not begin to go within [`IDLE`], or go at less than [`MIN_RATE`], are dropped, and refused when the peer
//! reads on. What has waited for [`PATIENCE`] is refused: who asks is told before it counts us as one that does not answer.

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
/// How long an answer may stand before it gives way to others, and how many bytes of it have to go in each second beyond that.
const IDLE: Duration = Duration::from_secs(2);
const MIN_RATE: usize = 64 << 10;
/// How long a peer waits for its turn: less than half of what it gives us by default.
const PATIENCE: Duration = Duration::from_secs(4);

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Serving {
    peers: BTreeMap<PeerId, Asker>,
    /// Who has a request that can be begun, and since when: the one that waits longest first.
    turns: VecDeque<(PeerId, Instant)>,
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
    /// When the answer was made, and how many bytes of it have gone.
    made_at: Option<Instant>,
    gone: usize,
}

#[derive(Debug)]
enum Asked {
    Headers(GetHeaders),
    Blocks(GetBlocks),
}

impl Asker {
    /// Whether it takes its answer more slowly than it may while others wait.
    fn is_slow(&self, now: Instant) -> bool {
        let grace = Duration::from_secs_f64(self.gone as f64 / MIN_RATE as f64);
        let is_late = |at: Instant| now.saturating_duration_since(at) >= IDLE + grace;
        !self.frames.is_empty() && self.made_at.is_some_and(is_late)
    }
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

    /// False: the peer has too many requests open.
    pub(super) fn ask_headers(&mut self, peer: PeerId, request: GetHeaders, now: Instant) -> bool {
        self.ask(peer, Asked::Headers(request), now)
    }

    /// The same.
    pub(super) fn ask_blocks(&mut self, peer: PeerId, request: GetBlocks, now: Instant) -> bool {
        self.ask(peer, Asked::Blocks(request), now)
    }

    fn ask(&mut self, peer: PeerId, asked: Asked, now: Instant) -> bool {
        let asker = self.peers.entry(peer).or_default();
        let open = asker.requests.len() + usize::from(asker.now.is_some());
        if open >= MAX_REQUESTS {
            return false;
        }
        asker.requests.push_back(asked);
        self.line_up(peer, now);
        true
    }

    /// The peer's next request may be begun, if it has one.
    fn line_up(&mut self, peer: PeerId, now: Instant) {
        let is_next = |asker: &Asker| asker.now.is_none() && !asker.requests.is_empty();
        if self.peers.get(&peer).is_some_and(is_next) && self.waiting.insert(peer) {
            self.turns.push_back((peer, now));
        }
    }

    /// Work that may begin now.
    pub(super) fn start(&mut self) -> Option<Job> {
        while self.making < MAX_MAKING
            && self.held + self.reserve() <= self.most.max(self.reserve())
        {
            let (peer, _) = self.turns.pop_front()?;
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
        asker.made_at = Some(now);
        asker.gone = 0;
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
        asker.gone += frame.len();
        if asker.frames.is_empty() {
            asker.now = None;
            self.line_up(peer, now);
        }
        Some(frame)
    }

    /// A peer is gone, or is met anew.
    pub(super) fn forget(&mut self, peer: &PeerId) {
        if let Some(asker) = self.peers.remove(peer) {
            self.held = self.held.saturating_sub(asker.bytes);
        }
        if self.waiting.remove(peer) {
            self.turns.retain(|(other, _)| other != peer);
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

    /// Who is to ask later, or somebody else, and for what: those that read too slowly where others wait for their room, and those that have
    /// waited too long for it.
    pub(super) fn on_time(&mut self, now: Instant) -> Vec<(PeerId, u64)> {
        let mut refused = Vec::new();
        while let Some((peer, since)) = self.turns.front().copied()
            && now >= since + PATIENCE
        {
            self.turns.pop_front();
            self.waiting.remove(&peer);
            let requests = self.peers.get_mut(&peer).map(|asker| &mut asker.requests);
            let requests = requests.into_iter().flat_map(|requests| requests.drain(..));
            refused.extend(requests.map(|asked| (peer, asked.number())));
        }
        if self.turns.is_empty() || self.held + self.reserve() <= self.most {
            return refused;
        }
        let mut dropped = Vec::new();
        for (peer, asker) in &mut self.peers {
            if asker.is_slow(now) {
                self.held = self.held.saturating_sub(asker.bytes);
                asker.frames.clear();
                asker.bytes = 0;
                dropped.extend(asker.now.take().map(|number| (*peer, number)));
            }
        }
        for (peer, _) in &dropped {
            self.line_up(*peer, now);
        }
        refused.extend(dropped);
        refused
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::{self, test};

    const MAX_BLOCK: usize = 64 << 10;

    /// Who asks for something; whether it is begun.
    fn ask(serving: &mut Serving, now: Instant) -> (PeerId, Option<u64>) {
        let peer = PeerId::random();
        assert!(serving.ask_blocks(peer, GetBlocks::new(1, &[], 0), now));
        let ticket = match serving.start() {
            Some(Job::ServeBlocks(begun, ticket, _)) if begun == peer => Some(ticket),
            None => None,
            other => panic!("{other:?}"),
        };
        (peer, ticket)
    }

    /// With answers for two that fill its room, made at this moment.
    fn full(now: Instant) -> (Serving, [PeerId; 2]) {
        let reserve = wire::MAX_ANSWER_BYTES + MAX_BLOCK;
        let mut serving = Serving::new(2 * reserve, MAX_BLOCK);
        let peers = [(); 2].map(|()| {
            let (peer, ticket) = ask(&mut serving, now);
            let frames = vec![Bytes::from(vec![0; MAX_PIECE]); 17];
            serving.made(
                peer,
                ticket.expect("there is room"),
                Some(frames.into()),
                now,
            );
            peer
        });
        (serving, peers)
    }

    #[test]
    fn who_reads_a_little_now_and_then_keeps_nobody_waiting() {
        let begin = platform::now();
        let (mut serving, slow) = full(begin);
        let (waiting, begun) = ask(&mut serving, begin);
        assert_eq!(begun, None, "there is no room");
        let mut refused = Vec::new();
        for step in 1..=4 {
            let now = begin + Duration::from_millis(1900) * step;
            for peer in slow {
                serving.next(peer, now);
            }
            refused.extend(serving.on_time(now));
        }
        assert!(refused.contains(&(waiting, 1)), "it is told: {refused:?}");
        // The next one has the room of those that read too slowly.
        let now = begin + Duration::from_secs(8);
        let (next, _) = ask(&mut serving, now);
        refused.extend(serving.on_time(now));
        assert!(
            slow.iter().all(|peer| refused.contains(&(*peer, 1))),
            "{refused:?}"
        );
        let begun = serving.start();
        assert!(matches!(begun, Some(Job::ServeBlocks(peer, ..)) if peer == next));
    }

    #[test]
    fn who_reads_steadily_is_left_alone() {
        let begin = platform::now();
        let (mut serving, steady) = full(begin);
        ask(&mut serving, begin);
        for step in 1..=16 {
            let now = begin + Duration::from_millis(900) * step;
            for peer in steady {
                assert!(serving.next(peer, now).is_some());
            }
            let refused = serving.on_time(now);
            assert!(refused.iter().all(|(peer, _)| !steady.contains(peer)));
        }
    }

    #[test]
    fn where_nobody_waits_an_answer_may_stand() {
        let begin = platform::now();
        let (mut serving, idle) = full(begin);
        assert_eq!(serving.on_time(begin + Duration::from_secs(60)), []);
        assert!(idle.iter().all(|peer| serving.serves(peer)));
    }
}
