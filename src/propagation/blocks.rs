//! Blocks on their way: in compact form, or as coded chunks, and which of the two.
//!
//! Two cores share the work. [`CompactBlocks`] moves blocks whose transactions are mostly known already;
//! [`Broadcasts`] moves large ones whose transactions are not. `choice.rs` says which, and both hand what only the chain can
//! answer to the network task as `Question`s. A peer that takes no part in a broadcast is told of the block as of a compact one. Each step is traced with its reason (target `selkie::propagation::blocks`).
//!
//! Bounds: the cores', `MAX_CHUNKED`, and what of blocks is on its way (`serving.rs`).

mod choice;
pub mod coded;
pub mod compact;
mod question;
mod serving;

use std::{
    collections::{HashSet, VecDeque},
    time::Duration,
};

use bytes::Bytes;
use libp2p::PeerId;

pub(crate) use self::question::{AcceptedBlock, Answer, Question};
use crate::{
    chain::ItemId,
    lanes::{BLOCK_ROOM, Coming, Outgoing},
    platform::Instant,
    propagation::{
        PropagationConfig,
        blocks::{
            choice::choose,
            coded::{Broadcasts, Encoded, Fate},
            compact::{BlockMessage, CompactBlocks},
            serving::{Next, Serving},
        },
        output::{Output, Part},
        pool::Mempool,
        wire::Kind,
    },
    traffic::{Class, Cost},
};

/// Blocks that are remembered as being broadcast in chunks by us, and to whom.
const MAX_CHUNKED: usize = 64;
/// Of so many of the newest blocks a peer is told again whose streams are others now; who joins is told of all that are kept.
const TOLD_AGAIN: usize = 4;
/// An announcement of coded chunks that comes sooner than it may, a chunk that comes twice on other streams, and a header or block that the chain was asked about in vain, cost a
/// peer so many frames more in its limits.
const IN_VAIN: u64 = 50;
// The lanes have room for the largest chunk.
const _: () = assert!(coded::MAX_FRAME < BLOCK_ROOM);

/// See the module's documentation.
pub(crate) struct Blocks {
    compact: CompactBlocks,
    coded: Broadcasts,
    /// Blocks that were handed to `coded`, the eldest first, and the peers that are to have them from there.
    chunked: VecDeque<(ItemId, Vec<PeerId>)>,
    serving: Serving,
    /// Peers that are to be told of blocks again, when they read.
    behind: HashSet<PeerId>,
    /// When there is something to do; `None` until it is looked up again, since that walks over all peers of all broadcasts.
    next: Option<Option<Instant>>,
}

impl Blocks {
    pub(crate) fn new(config: &PropagationConfig, seeds: [[u8; 16]; 2]) -> Self {
        let [compact, coded] = seeds;
        let mut limits = config.coded.clone();
        // The limit of blocks is one, whichever way they come.
        limits.max_block_bytes = limits.max_block_bytes.min(config.blocks.max_block_bytes);
        Self {
            compact: CompactBlocks::new(config.blocks.clone(), compact, choose),
            coded: Broadcasts::new(limits, coded),
            chunked: VecDeque::new(),
            serving: Serving::default(),
            behind: HashSet::new(),
            next: None,
        }
    }

    /// Whether the chain has accepted this block here, lately.
    pub(crate) fn knows(&self, id: &ItemId) -> bool {
        self.compact.is_accepted(id)
    }

    /// A block that did not come by the lanes: made here, or gossiped.
    pub(crate) fn accepted(
        &mut self,
        block: AcceptedBlock,
        pool: &Mempool,
        now: Instant,
    ) -> Vec<Output> {
        self.next = None;
        let novel = block.novel_bytes(pool);
        let AcceptedBlock {
            id, block, parts, ..
        } = block;
        let actions = self.compact.accepted(id, block, parts, novel, None, now);
        self.accepted_outputs(actions, now)
    }

    /// See [`CompactBlocks::has_room`].
    pub(crate) fn has_room(&self, coming: (usize, usize), now: Instant) -> bool {
        self.compact.has_room(coming, now)
    }

    /// See [`CompactBlocks::is_settled`].
    pub(crate) fn is_settled(&self, peer: Option<&PeerId>) -> bool {
        self.compact.is_settled(peer)
    }

    /// See [`CompactBlocks::measured`].
    pub(crate) fn measured(&mut self, peer: &PeerId, round_trip: Duration) {
        self.next = None;
        self.compact.measured(peer, round_trip);
    }

    /// Some of a long frame of a peer is here: who is on it is not silent.
    pub(crate) fn comes(&mut self, from: PeerId, coming: Coming, now: Instant) -> Vec<Output> {
        self.next = None;
        let coming = (coming.bytes, coming.length);
        self.coded.comes(&from, now);
        let actions = self.compact.comes(&from, coming, now);
        self.compact_outputs(actions, now)
    }

    /// A long frame of a peer, of so many bytes on the stream, is lost: an answer, or a chunk.
    pub(crate) fn skipped(&mut self, from: PeerId, length: usize, now: Instant) -> Vec<Output> {
        self.next = None;
        if length <= coded::MAX_FRAME && self.coded.skipped(&from, now) {
            return Vec::new();
        }
        let actions = self.compact.skipped(&from, now);
        self.compact_outputs(actions, now)
    }

    pub(crate) fn on_block(
        &mut self,
        from: PeerId,
        message: BlockMessage,
        now: Instant,
    ) -> Vec<Output> {
        self.next = None;
        if let BlockMessage::Settled(id)
        | BlockMessage::Announcement(compact::Announcement { id, .. }) = &message
        {
            self.serving.settled(&from, id);
        }
        let actions = self.compact.receive(from, message, now);
        self.compact_outputs(actions, now)
    }

    pub(crate) fn on_coded(
        &mut self,
        from: PeerId,
        frame: coded::Frame,
        now: Instant,
    ) -> Vec<Output> {
        self.next = None;
        let actions = self.coded.receive(from, frame, now);
        self.coded_outputs(actions, now)
    }

    /// What the chain says to a [`Question`].
    pub(crate) fn answered(&mut self, answer: Answer, pool: &Mempool, now: Instant) -> Vec<Output> {
        self.next = None;
        let needless = answer.ignored().map(surcharge);
        let mut outputs = self.act_on(answer, pool, now);
        outputs.extend(needless);
        outputs
    }

    fn act_on(&mut self, answer: Answer, pool: &Mempool, now: Instant) -> Vec<Output> {
        match answer {
            Answer::Header(check, checked) => {
                let actions = self.compact.header_checked(check, &checked, now);
                self.compact_outputs(actions, now)
            }
            Answer::Matched(matched) => {
                let actions = self.compact.matched(matched, now);
                self.compact_outputs(actions, now)
            }
            Answer::Joined(join, block) => {
                let actions = self.compact.joined(join, block, now);
                self.compact_outputs(actions, now)
            }
            Answer::Checked(check, checked, accepted) => {
                let novel = accepted.as_ref().map_or(0, |block| block.novel_bytes(pool));
                let parts = accepted.and_then(|block| block.parts);
                let actions = self
                    .compact
                    .block_checked(check, &checked, parts, novel, now);
                self.accepted_outputs(actions, now)
            }
            Answer::CodedHeader {
                broadcast, checked, ..
            } => {
                let actions = self.coded.header_checked(broadcast, checked.verdict, now);
                self.coded_outputs(actions, now)
            }
            Answer::Reconstructed(result) => {
                let actions = self.coded.reconstructed(result, now);
                self.coded_outputs(actions, now)
            }
            Answer::CodedBlock {
                broadcast,
                checked,
                accepted,
                ..
            } => {
                let actions = self.coded.block_checked(broadcast, checked.verdict, now);
                let mut outputs = self.coded_outputs(actions, now);
                outputs.extend(accepted.into_iter().flat_map(|block| {
                    // Where the check has outlasted its chunks, others are to have new ones.
                    if self.coded.serves(&block.id) {
                        self.chunk(&block.id, None);
                    }
                    self.accepted(*block, pool, now)
                }));
                outputs
            }
            Answer::Encoded(id, encoded) => self.encoded(id, encoded, now),
        }
    }

    /// A message found no room in a peer's queue: where it told the peer of a block, that is made good when there is room.
    pub(crate) fn dropped(&mut self, peer: PeerId, message: &BlockMessage) {
        if let BlockMessage::Announcement(announcement) = message
            && self.compact.missed(peer, &announcement.id)
        {
            self.behind.insert(peer);
        }
    }

    /// What a peer is to be asked for next: see [`CompactBlocks::next_request`].
    pub(crate) fn next_request(&mut self, peer: &PeerId, now: Instant) -> Option<Outgoing> {
        let message = self.compact.next_request(peer, now)?;
        self.next = None;
        Some(Outgoing::one(encode(&message)))
    }

    /// See [`CompactBlocks::kept_back`].
    pub(crate) fn kept_back(&mut self, peer: &PeerId, until: Instant) {
        self.compact.kept_back(peer, until);
    }

    /// Whether there is something to ask a peer for.
    pub(crate) fn has_request(&self, peer: &PeerId) -> bool {
        self.compact.has_request(peer)
    }

    /// What a peer with room for `room` bytes in its stream is to be sent next: of a part of a block, of a block that it missed, a chunk, or
    /// what goes with chunks. That says what is wanted, in a few bytes: it goes between two frames, whatever the room, so that nothing long begins before it.
    pub(crate) fn next(&mut self, peer: &PeerId, room: usize, now: Instant) -> Option<Outgoing> {
        let Self {
            serving,
            compact,
            coded,
            ..
        } = self;
        if !serving.is_half_way(peer)
            && let Some(word) = coded.next_word(peer, usize::MAX, now)
        {
            return Some(coded_frame(&word));
        }
        match serving.next(peer, room, |id, part| compact.serve(id, part), now) {
            Next::Piece(outgoing) => {
                // It reads, and what it is to be asked for goes between two frames only.
                compact.kept_back(peer, now);
                return Some(outgoing);
            }
            Next::Half => return None,
            Next::Gone(id) => return Some(Outgoing::one(encode(&BlockMessage::NotFound(id)))),
            Next::Nothing => {}
        }
        if self.behind.contains(peer) {
            let actions = self.compact.tell_missed(*peer);
            let told = self.compact_outputs(actions, now).into_iter().next();
            if let Some(Output::Send(_, _, frame)) = told {
                return Some(Outgoing::one(frame));
            }
            self.behind.remove(peer);
        }
        let chunk = self.coded.next_chunk(peer, room)?;
        Some(coded_frame(&chunk))
    }

    /// Whether a peer is being sent a part of a block.
    pub(crate) fn serves(&self, peer: &PeerId) -> bool {
        self.serving.serves(peer)
    }

    /// For whom there may be chunks, since this was last called: none but those that take part in them.
    pub(crate) fn take_news(&mut self) -> Vec<PeerId> {
        if self.coded.take_news() {
            self.coded.peers().collect()
        } else {
            Vec::new()
        }
    }

    /// A peer is here, and is told of so many of the newest blocks that are kept. Those that it gets in chunks it is told of there.
    fn meet(&mut self, peer: PeerId, outbound: bool, told: usize, now: Instant) -> Vec<Output> {
        self.next = None;
        self.compact.peer_connected(peer, outbound);
        self.coded.peer_joined(peer, now);
        let coded = &self.coded;
        let gets = |id: &ItemId| coded.serves(id) && coded.fate(&peer, id).is_none();
        let actions = self.compact.tell_newest(peer, told, |id| !gets(id));
        self.compact_outputs(actions, now)
    }

    /// What the core of compact blocks wants done.
    fn compact_outputs(&mut self, actions: Vec<compact::Action>, now: Instant) -> Vec<Output> {
        let (mut outputs, mut fates) = (Vec::new(), Vec::new());
        for action in actions {
            match action {
                compact::Action::Send { peer, message, why } => {
                    tracing::debug!(%peer, message = message.name(), why, "sending");
                    outputs.push(send(peer, &message));
                }
                compact::Action::Ask { peer, block, why } => {
                    tracing::debug!(%peer, %block, why, "asking");
                    outputs.push(Output::Feed(peer));
                }
                compact::Action::Serve {
                    peer,
                    block,
                    part,
                    why,
                } => {
                    tracing::debug!(%peer, %block, part = part.name(), why, "sending");
                    self.serving.push(peer, block, part);
                    outputs.push(Output::Feed(peer));
                }
                compact::Action::Gone(block) => {
                    let disappointed = self.serving.gone(&block).into_iter();
                    let message = BlockMessage::NotFound(block);
                    outputs.extend(disappointed.map(|peer| send(peer, &message)));
                    outputs.extend(self.let_go(now));
                }
                compact::Action::SendCoded { peer, block, why } => {
                    if let Some(fate) = self.coded.fate(&peer, &block) {
                        fates.push((peer, block, fate));
                        continue;
                    }
                    tracing::debug!(%peer, %block, why, "sending coded chunks");
                    outputs.extend(self.chunk(&block, Some(peer)));
                }
                compact::Action::CheckHeader(check) => {
                    outputs.push(Output::Ask(Question::Header(check)));
                }
                compact::Action::Match(matching) => {
                    outputs.push(Output::Ask(Question::Match(matching)));
                }
                compact::Action::Join(join) => outputs.push(Output::Ask(Question::Join(join))),
                compact::Action::CheckBlock(check) => {
                    outputs.push(Output::Ask(Question::Block(check)));
                }
                compact::Action::Misdeed { peer, misdeed, why } => {
                    tracing::debug!(%peer, why, "a misdeed");
                    outputs.push(Output::Misdeed(peer, misdeed));
                }
            }
        }
        if !fates.is_empty() {
            outputs.extend(self.settle(fates, now));
        }
        outputs
    }

    /// The same where a block may have been accepted: then it is kept anew, as its chain has split it, and who has begun to read what
    /// there was before has hold of that alone.
    fn accepted_outputs(&mut self, actions: Vec<compact::Action>, now: Instant) -> Vec<Output> {
        let mut outputs = self.compact_outputs(actions, now);
        outputs.extend(self.let_go(now));
        outputs
    }

    /// Who reads slowest is sent no more of what is kept no more.
    fn let_go(&mut self, now: Instant) -> impl Iterator<Item = Output> {
        let lost = self.serving.let_go(now).into_iter();
        lost.map(|peer| Output::Dropped(peer, Class::Block))
    }

    /// What has become of blocks that were to go in chunks.
    fn settle(&mut self, fates: Vec<(PeerId, ItemId, Fate)>, now: Instant) -> Vec<Output> {
        let mut actions = Vec::new();
        for (peer, block, fate) in fates {
            match fate {
                Fate::Has => self.compact.settled(peer, &block),
                Fate::Left => actions.extend(self.compact.announce(peer, &block)),
            }
        }
        self.compact_outputs(actions, now)
    }

    /// What coded broadcast wants done.
    fn coded_outputs(&mut self, actions: Vec<coded::Action>, now: Instant) -> Vec<Output> {
        let mut outputs = Vec::new();
        for action in actions {
            match action {
                coded::Action::CheckHeader {
                    broadcast,
                    block,
                    header,
                    peer,
                } => {
                    tracing::debug!(%peer, %block, "told of coded chunks");
                    outputs.push(Output::Ask(Question::CodedHeader {
                        broadcast,
                        block,
                        header,
                        peer,
                    }));
                }
                coded::Action::Reconstruct(reconstruction) => {
                    outputs.push(Output::Ask(Question::Reconstruct(reconstruction)));
                }
                coded::Action::CheckBlock {
                    broadcast,
                    block,
                    peer,
                    bytes,
                } => {
                    let here = self.compact.block(&block);
                    let is_here = here.is_some_and(|(block, _)| block.data == bytes);
                    outputs.push(Output::Ask(Question::CodedBlock {
                        broadcast,
                        block,
                        peer,
                        bytes,
                        is_here,
                    }));
                }
                coded::Action::Abandoned { block, reason } => {
                    tracing::debug!(%block, %reason, "coded chunks came to nothing");
                }
                coded::Action::Needless { peer } => outputs.push(surcharge(peer)),
                coded::Action::Misdeed { peer, misdeed, why } => {
                    tracing::debug!(%peer, why, "a misdeed");
                    outputs.push(Output::Misdeed(peer, misdeed));
                }
            }
        }
        let fates = self.coded.take_fates();
        outputs.extend(self.settle(fates, now));
        outputs
    }

    /// A block is to reach a peer (`None`: it comes from there already) in chunks. What is to be encoded for it, once.
    fn chunk(&mut self, id: &ItemId, peer: Option<PeerId>) -> Option<Output> {
        if let Some((_, peers)) = self.chunked.iter_mut().find(|(chunked, _)| chunked == id) {
            peers.extend(peer);
            return None;
        }
        if self.chunked.len() >= MAX_CHUNKED {
            self.chunked.pop_front();
        }
        self.chunked
            .push_back((id.clone(), peer.into_iter().collect()));
        peer?;
        let (block, parts) = self.compact.block(id)?;
        let (data, header) = (block.data.clone(), parts?.header.clone());
        Some(Output::Ask(Question::Encode(id.clone(), header, data)))
    }

    /// The chunks are there; where they can't be broadcast, the block is announced instead.
    fn encoded(&mut self, id: ItemId, encoded: Option<Encoded>, now: Instant) -> Vec<Output> {
        let has_begun = encoded.is_some_and(|encoded| self.coded.start(encoded, now).is_ok());
        // Others may have made room for it.
        let mut fates = self.coded.take_fates();
        if !has_begun {
            tracing::debug!(block = %id, "no room for another coded broadcast: announcing");
            let chunked = self.chunked.iter().filter(|(chunked, _)| *chunked == id);
            let peers = chunked.flat_map(|(_, peers)| peers.iter().copied());
            fates.extend(peers.map(|peer| (peer, id.clone(), Fate::Left)));
        }
        self.settle(fates, now)
    }
}

impl Part for Blocks {
    /// It is told of the newest blocks, since it may have been away while they were made.
    fn joined(&mut self, peer: PeerId, outbound: bool, now: Instant) -> Vec<Output> {
        self.meet(peer, outbound, usize::MAX, now)
    }

    /// It is met anew, and told of the newest blocks again.
    fn moved(&mut self, peer: PeerId, outbound: bool, now: Instant) -> Vec<Output> {
        let mut outputs = self.gone(peer, now);
        outputs.extend(self.meet(peer, outbound, TOLD_AGAIN, now));
        self.coded.peer_moved(&peer);
        outputs
    }

    fn gone(&mut self, peer: PeerId, now: Instant) -> Vec<Output> {
        self.next = None;
        self.behind.remove(&peer);
        self.serving.forget(&peer);
        self.coded.peer_gone(&peer, now);
        let actions = self.compact.peer_gone(&peer, now);
        self.compact_outputs(actions, now)
    }

    fn unheard(&mut self, peer: &PeerId, time: Duration, now: Instant) {
        self.next = None;
        self.compact.unheard(peer, time, now);
        self.coded.unheard(peer, time, now);
    }

    fn on_time(&mut self, _: &Mempool, now: Instant) -> Vec<Output> {
        if self.next_deadline().is_none_or(|at| at > now) {
            return Vec::new();
        }
        self.next = None;
        let actions = self.compact.on_time(now);
        let mut outputs = self.compact_outputs(actions, now);
        let actions = self.coded.on_time(now);
        outputs.extend(self.coded_outputs(actions, now));
        outputs
    }

    fn next_deadline(&mut self) -> Option<Instant> {
        let deadlines = || [self.compact.next_deadline(), self.coded.next_time()];
        *self
            .next
            .get_or_insert_with(|| deadlines().into_iter().flatten().min())
    }
}

/// What a peer pays by its limits for something that was of no use.
fn surcharge(peer: PeerId) -> Output {
    let cost = Cost {
        items: IN_VAIN,
        bytes: 0,
    };
    Output::Surcharge(peer, Class::Block, cost)
}

fn coded_frame(frame: &coded::Frame) -> Outgoing {
    Outgoing::one(Kind::Coded(frame.encode().into()).into_frame())
}

fn encode(message: &BlockMessage) -> Bytes {
    Kind::Block(message.encode().into()).into_frame()
}

fn send(peer: PeerId, message: &BlockMessage) -> Output {
    Output::Send(peer, class(message), encode(message))
}

/// Under which class a message is sent and limited.
pub(super) fn class(message: &BlockMessage) -> Class {
    match message {
        BlockMessage::GetBlock(_)
        | BlockMessage::GetTransactions(_)
        | BlockMessage::HighBandwidth(_)
        | BlockMessage::Settled(_) => Class::BlockRequest,
        _ => Class::Block,
    }
}

#[cfg(test)]
mod tests;
