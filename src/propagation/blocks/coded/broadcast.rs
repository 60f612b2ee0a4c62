//! One block on its way through this node: what is here of it, and how far it is.

use std::{collections::BTreeMap, time::Duration};

use libp2p::PeerId;
use siphasher::sip::SipHasher24;

use super::actions::Fate;
use super::announcement::{Announcement, BroadcastId};
use super::chunk::Chunk;
use super::chunk_set::ChunkSet;
use super::config::CodedConfig;
use super::encoding::{Encoded, Reconstruction};
use super::link::Link;
use super::peers::Peers;
use super::wire::Status;
use crate::peers::Misdeed;
use crate::platform::Instant;

/// How far a broadcast is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// The chain checks the header. Some chunks are kept, nothing is said.
    Header,
    /// Chunks come and go.
    Gathering,
    /// Enough chunks are here, and are being decoded. They are passed on, but no more are needed.
    Decoding,
    /// The chain checks the block. What was gathered is still passed on.
    Block,
    /// The chain has accepted the block: every chunk is here.
    Accepted,
}

/// One block on its way through this node.
#[derive(Debug)]
pub(super) struct Broadcast {
    pub(super) announcement: Announcement,
    phase: Phase,
    /// Who told of it first. `None`: this node began it.
    pub(super) introducer: Option<PeerId>,
    /// This node was the first of all that we know of to have the block.
    pub(super) source: bool,
    began: Instant,
    /// When a chunk last came that was not here, a peer that owed none was told of some, or the header was accepted; when the block was accepted.
    pub(super) progress: Instant,
    /// What was gathered, by index.
    gathered: Vec<Option<Chunk>>,
    encoded: Option<Encoded>,
    /// The chunks that we say we hold.
    pub(super) held: ChunkSet,
    /// The chunks of which we were the first to get a copy.
    pub(super) spread: ChunkSet,
    /// In which order chunks go where all else is equal. Each node has its own.
    order: Vec<u64>,
    pub(super) links: BTreeMap<PeerId, Box<Link>>,
}

impl Broadcast {
    /// A broadcast of which the introducer told; without one, this node's own. `seed` is this node's secret.
    pub(super) fn new(
        announcement: Announcement,
        introducer: Option<PeerId>,
        seed: &SipHasher24,
        now: Instant,
    ) -> Self {
        let shape = announcement.shape();
        let id = announcement.id();
        let order = (0..=u8::MAX).map(|index| seed.hash(&[id.as_bytes(), &[index][..]].concat()));
        Self {
            phase: Phase::Header,
            introducer,
            source: false,
            began: now,
            progress: now,
            gathered: vec![None; shape.chunks()],
            encoded: None,
            held: ChunkSet::EMPTY,
            spread: ChunkSet::EMPTY,
            order: order.take(shape.chunks()).collect(),
            links: BTreeMap::new(),
            announcement,
        }
    }

    pub(super) fn id(&self) -> BroadcastId {
        self.announcement.id()
    }

    pub(super) fn phase(&self) -> Phase {
        self.phase
    }

    /// All chunks of the block.
    pub(super) fn all(&self) -> ChunkSet {
        ChunkSet::first(self.announcement.shape().chunks())
    }

    /// Where a chunk stands in this node's own order.
    pub(super) fn order(&self, index: u8) -> u64 {
        let order = self.order.get(usize::from(index));
        order.copied().unwrap_or(u64::MAX)
    }

    /// Whether the chain has accepted the block.
    pub(super) fn is_accepted(&self) -> bool {
        self.phase == Phase::Accepted
    }

    /// Whether no chunk is needed any more.
    pub(super) fn is_done(&self) -> bool {
        !matches!(self.phase, Phase::Header | Phase::Gathering)
    }

    /// A peer takes part from now on: `heard` if it has announced the broadcast, `unasked` if it may be sent chunks
    /// that it has not asked for.
    pub(super) fn join(&mut self, peer: PeerId, heard: bool, unasked: bool, now: Instant) {
        let link = Link::new(heard, unasked, now);
        self.links.insert(peer, Box::new(link));
    }

    /// A peer is gone, and what it was asked for is asked of others.
    pub(super) fn leave(&mut self, peer: &PeerId, peers: &Peers, now: Instant) {
        self.links.remove(peer);
        self.plan(peers, now);
    }

    /// What has become of the block at a peer, if it has said so.
    pub(super) fn fate(&self, peer: &PeerId) -> Option<Fate> {
        self.links.get(peer).and_then(|link| link.fate())
    }

    /// Whether every peer has the block, or takes no part.
    fn is_settled(&self) -> bool {
        self.links.values().all(|link| link.fate().is_some())
    }

    /// A peer says what it holds.
    pub(super) fn says(&mut self, peer: &PeerId, have: ChunkSet, peers: &Peers, now: Instant) {
        let all = self.all();
        if let Some(link) = self.links.get_mut(peer)
            && link.says(have, all)
        {
            self.plan(peers, now);
        }
    }

    /// A peer says how things stand with it.
    pub(super) fn status(&mut self, peer: &PeerId, status: &Status, peers: &Peers, now: Instant) {
        if let Some(link) = self.links.get_mut(peer) {
            link.wants = status.want;
            link.done |= status.done;
            if status.done && status.have.is_empty() {
                if link.leaves() {
                    self.plan(peers, now);
                }
                return;
            }
        }
        self.says(peer, status.have, peers, now);
    }

    /// What a peer sends was not read here for so long: if it was asked for chunks, they may be among that.
    pub(super) fn is_unheard(&mut self, peer: &PeerId, time: Duration, now: Instant) {
        let Some(link) = self.links.get_mut(peer) else {
            return;
        };
        if !link.asked.is_empty() {
            self.progress = now.min(self.progress + time);
        }
        link.is_unheard(time, now);
    }

    /// A peer sent a chunk. `Ok` says whether it is kept.
    ///
    /// # Errors
    /// What the peer did wrong, for its reputation and for a person.
    pub(super) fn receive(
        &mut self,
        from: &PeerId,
        mut chunk: Chunk,
        config: &CodedConfig,
        peers: &mut Peers,
        now: Instant,
    ) -> Result<bool, (Misdeed, &'static str)> {
        let Some(link) = self.links.get_mut(from) else {
            return Ok(false);
        };
        let index = chunk.index;
        let shape = self.announcement.shape();
        if usize::from(index) >= shape.chunks() {
            let why = "it sent a chunk of an index that the block does not have";
            return Err((Misdeed::InvalidMessage, why));
        }
        if !link.got.insert(index) {
            let why = "it sent the same chunk twice";
            return Err((Misdeed::InvalidMessage, why));
        }
        if link.thrust() > shape.data_chunks() {
            let why = "it sends more chunks unasked than a block needs";
            return Err((Misdeed::TooManyMessages, why));
        }
        let asked = link.delivers(index, now);
        let early = (self.held.len() + 1) * shape.chunk_length();
        let kept = match self.phase {
            // No more than are enough: who says that it holds all vouches for the block.
            Phase::Header => {
                self.held.len() < shape.data_chunks() && early <= config.max_early_bytes
            }
            phase => phase == Phase::Gathering,
        };
        if !kept || link.barred || self.held.contains(index) {
            return Ok(false);
        }
        if !chunk.is_of(&self.announcement) {
            link.barred = true;
            link.unask();
            self.plan(peers, now);
            let why = "it sent a chunk that is not the announced one";
            return Err((Misdeed::InvalidMessage, why));
        }
        if asked {
            peers.delivered(from);
        }
        self.held.insert(index);
        if std::mem::take(&mut chunk.spread) {
            self.spread.insert(index);
        }
        if let Some(place) = self.gathered.get_mut(usize::from(index)) {
            *place = Some(chunk);
        }
        self.progress = now;
        for link in self.links.values_mut() {
            let cancelled = link.asked.remove(index);
            link.stale |= cancelled || !link.done && !link.known().contains(index);
        }
        self.plan(peers, now);
        Ok(true)
    }

    /// The chain has accepted the header: the broadcast is passed on.
    pub(super) fn header_accepted(&mut self, peers: &Peers, now: Instant) {
        self.phase = Phase::Gathering;
        self.progress = now;
        self.plan(peers, now);
    }

    /// What is to be decoded, once there is enough: once only.
    pub(super) fn reconstruction(&mut self) -> Option<Reconstruction> {
        let enough = self.held.len() >= self.announcement.shape().data_chunks();
        if self.phase != Phase::Gathering || !enough {
            return None;
        }
        self.phase = Phase::Decoding;
        for link in self.links.values_mut() {
            link.unask();
            link.stale = true;
        }
        let chunks = self.gathered.iter().flatten();
        Some(Reconstruction {
            announcement: self.announcement.clone(),
            chunks: chunks.map(|it| (it.index, it.data.clone())).collect(),
        })
    }

    /// The block was decoded.
    pub(super) fn decoded(&mut self, encoded: Encoded) {
        self.phase = Phase::Block;
        self.encoded = Some(encoded);
        self.gathered = Vec::new();
    }

    /// The chain has accepted the block; `encoded` if it came here in another way.
    pub(super) fn accepted(&mut self, encoded: Option<Encoded>, now: Instant) {
        if let Some(encoded) = encoded {
            self.decoded(encoded);
        }
        self.phase = Phase::Accepted;
        self.progress = now;
        self.held = self.all();
        for link in self.links.values_mut() {
            link.unask();
            // Who needs nothing wants to know that the block has arrived.
            link.stale = true;
        }
    }

    /// A chunk that is here.
    pub(super) fn chunk(&self, index: u8) -> Option<Chunk> {
        match &self.encoded {
            Some(encoded) => encoded.chunk(index),
            None => self.gathered.get(usize::from(index))?.clone(),
        }
    }

    /// When it is abandoned if nothing happens, or forgotten once it is finished.
    pub(super) fn ends_at(&self, config: &CodedConfig) -> Instant {
        match self.phase {
            Phase::Accepted => self.progress + config.lifetime,
            // Nobody is late with what it could not be told of yet.
            Phase::Gathering if !self.links.values().any(|it| it.is_yet_to_be_told()) => {
                (self.began + config.lifetime).min(self.progress + config.give_up_after)
            }
            _ => self.began + config.lifetime,
        }
    }

    /// Whether every peer has the block, or it was accepted so long ago that whoever began to fetch it has had its time.
    pub(super) fn was_served(&self, config: &CodedConfig, now: Instant) -> bool {
        let is_over = || self.progress + config.give_up_after <= now;
        self.is_accepted() && (self.is_settled() || is_over())
    }
}
