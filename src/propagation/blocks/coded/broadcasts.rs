//! Coded broadcast in one node: a state machine without I/O.
//!
//! Blocks come in by [`Broadcasts::start`] (made here, or received in another way) or from peers. For one of those:
//!
//! 1. a peer announces it: [`Action::CheckHeader`]. Chunks that come meanwhile are checked and kept;
//! 2. the header is good: the broadcast is announced to all peers, chunks are asked for and passed on;
//! 3. there are enough chunks: [`Action::Reconstruct`], and no peer sends more;
//! 4. the block is decoded: [`Action::CheckBlock`];
//! 5. it is accepted: this node has every chunk, says so, and serves whoever still wants some.
//!
//! After every input a driver asks [`Broadcasts::next`] for each peer whose stream has room, and
//! [`Broadcasts::next_time`] when to call [`Broadcasts::on_time`] if nothing happens before.
//!
//! Who pays: a peer that sends a chunk that is not the announced one, one twice, one of a broadcast that it has not
//! announced, or more than a block's worth of chunks that were not asked of it; a peer that announces too often, or
//! more broadcasts of one block than an honest one takes part in, or one whose header is wrong: it should have checked
//! that before. And who owes a chunk that it says it holds when a broadcast is abandoned for want of chunks.
//!
//! A block's root stands in no header, so anyone can announce a wrong one, and a node in between cannot know. If chunks under it
//! do not belong together, or make another block, then those pay that said they hold all chunks, for this says that
//! their chain has accepted the block. Whoever told of it first is doubted for a while, but pays nothing: it may
//! have passed on what it was told itself.
//!
//! A node that is told of more broadcasts than it has places for, or too often, or by a peer that is doubted or has no place itself, takes no
//! part in them and says so. Nobody pays for that: an honest node passes on what others make; who tells of broadcasts too often is read more slowly. Who is told so, or ends a broadcast before a peer had
//! the block, tells that peer of it in another way ([`Broadcasts::take_fates`]), so no block is lost.
//!
//! Bounds: [`CodedConfig`] and the constants beside the structures.

use std::{collections::VecDeque, time::Duration};

use libp2p::PeerId;
use siphasher::sip::SipHasher24;

use super::actions::{Abandonment, Action, Fate};
use super::announcement::{Announcement, BroadcastId};
use super::broadcast::{Broadcast, Phase};
use super::chunk::Chunk;
use super::chunk_set::ChunkSet;
use super::config::CodedConfig;
use super::encoding::{Encoded, InconsistentCoding};
use super::peers::{MAX_BROADCASTS_OF_BLOCK, Peers};
use super::wire::{Announce, Frame, Status};
use crate::chain::{ItemId, Verdict};
use crate::peers::Misdeed;
use crate::platform::Instant;

/// Broadcasts that are over and must not begin again; the oldest is forgotten first.
const MAX_OVER: usize = 256;

/// There is no room for another broadcast of this node, as long as others are under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many broadcasts are under way; raise max_broadcasts or max_bytes")]
pub struct NoRoom;

/// Coded broadcast in one node.
pub struct Broadcasts {
    config: CodedConfig,
    /// Makes this node's order of chunks.
    seed: SipHasher24,
    peers: Peers,
    /// The oldest first.
    live: Vec<Broadcast>,
    over: VecDeque<(BroadcastId, ItemId)>,
    /// See [`Self::take_news`].
    news: bool,
    /// See [`Self::take_fates`].
    fates: Vec<(PeerId, ItemId, Fate)>,
}

impl Broadcasts {
    /// No peers and no broadcasts. `seed` is random and secret: whoever knows it knows which chunks this node would
    /// pass on first.
    pub fn new(config: CodedConfig, seed: [u8; 16]) -> Self {
        Self {
            seed: SipHasher24::new_with_key(&seed),
            peers: Peers::new(config.max_peers),
            live: Vec::new(),
            over: VecDeque::new(),
            news: false,
            fates: Vec::new(),
            config,
        }
    }

    /// Whether there may be something for others than the peer that the last inputs came from, since this was last called.
    pub fn take_news(&mut self) -> bool {
        std::mem::take(&mut self.news)
    }

    /// What has become of accepted blocks at peers, since this was last called.
    pub fn take_fates(&mut self) -> Vec<(PeerId, ItemId, Fate)> {
        std::mem::take(&mut self.fates)
    }

    /// What has become of a block at a peer: it has said so, or takes no part in chunks at all. `None`: it gets them.
    pub fn fate(&self, peer: &PeerId, block: &ItemId) -> Option<Fate> {
        if !self.peers.contains(peer) {
            return Some(Fate::Left);
        }
        let of_block = |it: &&Broadcast| it.announcement.block() == block;
        let mut fates = self.live.iter().filter(of_block);
        fates.find_map(|it| it.fate(peer))
    }

    /// The peers that take part.
    pub fn peers(&self) -> impl Iterator<Item = PeerId> {
        self.peers.iter()
    }

    /// A peer that speaks the protocol is connected. It is told of the broadcasts under way; above
    /// [`CodedConfig::max_peers`] it is told of none, and that this node takes no part in those that it tells of.
    pub fn peer_joined(&mut self, peer: PeerId, now: Instant) {
        if self.peers.join(peer) {
            for broadcast in &mut self.live {
                let unasked = !broadcast.is_done();
                broadcast.join(peer, false, unasked, now);
            }
        }
    }

    /// The streams of a peer that has just joined anew are others now: what was on the former ones may come twice.
    pub fn peer_moved(&mut self, peer: &PeerId) {
        for broadcast in &mut self.live {
            if let Some(link) = broadcast.links.get_mut(peer) {
                link.has_moved = true;
            }
        }
    }

    /// A peer's last connection ended.
    pub fn peer_gone(&mut self, peer: &PeerId, now: Instant) {
        self.news |= !self.live.is_empty();
        self.peers.leave(peer, now);
        for broadcast in &mut self.live {
            broadcast.leave(peer, &self.peers, now);
        }
    }

    /// A block that the chain has accepted is here: made by this node, or received in another way. If it is on its way
    /// to this node in chunks already, it is complete now.
    ///
    /// # Errors
    /// [`NoRoom`] while too many broadcasts are under way; also where peers have not got so many of this node's own that they
    /// take no further one of it.
    pub fn start(&mut self, encoded: Encoded, now: Instant) -> Result<(), NoRoom> {
        let announcement = encoded.announcement().clone();
        let id = encoded.id();
        if !self.live.iter().any(|broadcast| broadcast.id() == id) {
            let config = self.config.clone();
            let was_served = |it: &Broadcast| it.was_served(&config, now);
            let own = self.live.iter().filter(|it| it.introducer.is_none());
            let unserved = own.filter(|it| !was_served(it)).count();
            if unserved >= config.max_introduced
                || !self.make_room(announcement.shape().weight(), was_served)
            {
                return Err(NoRoom);
            }
            // What went out before it ended here must not go out again.
            let again = self.over.iter().any(|(over, _)| *over == id);
            let mut broadcast = Broadcast::new(announcement, None, &self.seed, now);
            broadcast.source = !again;
            self.add(broadcast, !again, now);
        }
        self.accepted(id, Some(encoded), now);
        Ok(())
    }

    /// A frame from a peer. One from a peer that has not joined is ignored.
    pub fn receive(&mut self, peer: PeerId, frame: Frame, now: Instant) -> Vec<Action> {
        if !self.peers.contains(&peer) {
            self.turn_away(&peer, &frame);
            return Vec::new();
        }
        match frame {
            Frame::Announce(announce) => self.announced(peer, announce, now),
            Frame::Status(status) => {
                self.status(&peer, &status, now);
                Vec::new()
            }
            Frame::Chunk(chunk) => self.chunk(peer, chunk, now),
        }
    }

    /// Bytes of a long frame of a peer come: it is on a chunk.
    pub fn comes(&mut self, peer: &PeerId, now: Instant) {
        for broadcast in &mut self.live {
            if let Some(link) = broadcast.links.get_mut(peer) {
                link.comes(self.config.patience, now);
            }
        }
    }

    /// A long frame of a peer is lost, most likely a chunk, if it was asked for any: then others are asked, and nobody pays. Whether it was.
    pub fn skipped(&mut self, peer: &PeerId, now: Instant) -> bool {
        let mut lost = false;
        for broadcast in &mut self.live {
            lost |= broadcast.loses(peer, &self.peers, now);
        }
        self.news |= lost;
        lost
    }

    /// What a peer sends was not read here for so long: it was not silent, and has as much more time.
    pub fn unheard(&mut self, peer: &PeerId, time: Duration, now: Instant) {
        for broadcast in &mut self.live {
            broadcast.is_unheard(peer, time, now);
        }
    }

    /// The chain's answer to [`Action::CheckHeader`].
    pub fn header_checked(
        &mut self,
        id: BroadcastId,
        verdict: Verdict,
        now: Instant,
    ) -> Vec<Action> {
        let Some(broadcast) = self.find(&id, Phase::Header) else {
            return Vec::new();
        };
        match verdict {
            Verdict::Accept => {
                self.news = true;
                let peers = &self.peers;
                let broadcast = self.live.iter_mut().find(|it| it.id() == id);
                broadcast.map_or_else(Vec::new, |broadcast| {
                    broadcast.header_accepted(peers, now);
                    reconstruct(broadcast)
                })
            }
            Verdict::Ignore => {
                self.close(&id);
                Vec::new()
            }
            Verdict::Reject => {
                let why = "it announced a block whose header is wrong";
                let peers = broadcast.links.keys().copied();
                let announcers = peers.filter(|peer| self.peers.has_announced(peer, &id));
                let actions = announcers.map(|peer| misdeed(peer, Misdeed::InvalidItem, why));
                let actions = actions.collect();
                self.close(&id);
                actions
            }
        }
    }

    /// What came of [`Action::Reconstruct`].
    pub fn reconstructed(
        &mut self,
        result: Result<Encoded, InconsistentCoding>,
        now: Instant,
    ) -> Vec<Action> {
        let id = match &result {
            Ok(encoded) => encoded.id(),
            Err(lie) => lie.broadcast,
        };
        let broadcast = self.live.iter_mut().find(|it| it.id() == id);
        let Some(broadcast) = broadcast.filter(|it| it.phase() == Phase::Decoding) else {
            return Vec::new();
        };
        match result {
            Ok(encoded) => {
                self.news = true;
                let bytes = encoded.block();
                broadcast.decoded(encoded);
                vec![Action::CheckBlock {
                    broadcast: id,
                    block: broadcast.announcement.block().clone(),
                    peer: broadcast.introducer,
                    bytes,
                }]
            }
            Err(_) => self.fail(&id, Abandonment::Inconsistent, now),
        }
    }

    /// The chain's answer to [`Action::CheckBlock`]. The sooner it comes the better: until then, peers get from this
    /// node only what it had from others.
    pub fn block_checked(
        &mut self,
        id: BroadcastId,
        verdict: Verdict,
        now: Instant,
    ) -> Vec<Action> {
        if self.find(&id, Phase::Block).is_none() {
            return Vec::new();
        }
        match verdict {
            Verdict::Accept => self.accepted(id, None, now),
            Verdict::Ignore => self.close(&id),
            Verdict::Reject => return self.fail(&id, Abandonment::Rejected, now),
        }
        Vec::new()
    }

    /// The next frame for a peer whose stream has room for `room` bytes, not counting a length in front. `None`:
    /// there is nothing, or it is longer. A driver should keep little waiting in its own buffers, but room for
    /// one chunk at least: what was handed out cannot be cancelled.
    pub fn next(&mut self, peer: &PeerId, room: usize, now: Instant) -> Option<Frame> {
        let word = self.next_word(peer, room, now);
        word.or_else(|| self.next_chunk(peer, room))
    }

    /// The same of what is said of broadcasts, which is short and says what is wanted: a peer's time to send that runs from then on.
    pub fn next_word(&mut self, peer: &PeerId, room: usize, now: Instant) -> Option<Frame> {
        let refusals = self.peers.refusals(peer)?;
        if let Some(&broadcast) = refusals.front() {
            let frame = Frame::Status(Status {
                broadcast,
                have: ChunkSet::EMPTY,
                want: ChunkSet::EMPTY,
                done: true,
            });
            if frame.encoded_len() > room {
                return None;
            }
            refusals.pop_front();
            return Some(frame);
        }
        for broadcast in &mut self.live {
            if let Some(frame) = broadcast.next_word(peer, room, now) {
                self.peers.share(peer, &broadcast.announcement, false);
                return Some(frame);
            }
        }
        None
    }

    /// The same of chunks, which no word waits behind.
    pub fn next_chunk(&mut self, peer: &PeerId, room: usize) -> Option<Frame> {
        let mut live = self.live.iter_mut();
        live.find_map(|broadcast| broadcast.next_chunk(peer, room))
    }

    /// When [`Broadcasts::on_time`] has something to do. `None`: not as long as nothing happens.
    pub fn next_time(&self) -> Option<Instant> {
        let ends = self.live.iter().map(|it| it.ends_at(&self.config));
        let hurries = self.live.iter();
        let hurries = hurries.filter_map(|it| it.hurries_at(self.config.patience));
        ends.chain(hurries).min()
    }

    /// Time has passed: asks others for what peers do not send, abandons what takes too long, forgets what was served.
    pub fn on_time(&mut self, now: Instant) -> Vec<Action> {
        for broadcast in &mut self.live {
            self.news |= broadcast.hurry(self.config.patience, &mut self.peers, now);
        }
        let over = self.live.iter();
        let over = over.filter(|it| it.ends_at(&self.config) <= now);
        let over: Vec<_> = over.map(|it| (it.id(), it.phase())).collect();
        let mut actions = Vec::new();
        for (id, phase) in over {
            match phase {
                Phase::Gathering => actions.extend(self.fail(&id, Abandonment::Stuck, now)),
                _ => self.close(&id),
            }
        }
        actions
    }

    /// Whether a block that the chain has accepted is served in chunks.
    pub fn serves(&self, block: &ItemId) -> bool {
        let mut live = self.live.iter();
        live.any(|it| it.is_accepted() && it.announcement.block() == block)
    }

    /// How many broadcasts are under way or served, and the bytes of chunks that they count for.
    pub fn load(&self) -> (usize, usize) {
        let weights = self.live.iter().map(|it| it.announcement.shape().weight());
        (self.live.len(), weights.sum())
    }

    /// A peer without a place that takes part in a broadcast is to tell of the block in another way. That costs the chain no check, and the
    /// peer gets no more than a few bytes for each frame.
    fn turn_away(&mut self, peer: &PeerId, frame: &Frame) {
        match frame {
            Frame::Announce(it) => self.peers.refuse(peer, it.announcement.id()),
            Frame::Status(it) if !it.done => self.peers.refuse(peer, it.broadcast),
            Frame::Status(_) | Frame::Chunk(_) => {}
        }
    }

    fn announced(&mut self, peer: PeerId, it: Announce, now: Instant) -> Vec<Action> {
        let announcement = it.announcement;
        let id = announcement.id();
        if !self.peers.share(&peer, &announcement, true) {
            let why = "it announced one block with too many different roots";
            return vec![misdeed(peer, Misdeed::InvalidMessage, why)];
        }
        if let Some(broadcast) = self.live.iter_mut().find(|live| live.id() == id) {
            self.news |= !broadcast.is_accepted();
            let before = broadcast.fate(&peer);
            broadcast.says(&peer, it.have, &self.peers, now);
            self.fates.extend(news(broadcast, &peer, before));
            return Vec::new();
        }
        let block = announcement.block().clone();
        if self.over.iter().any(|(over, _)| *over == id)
            || self.broadcasts_of(&block) >= MAX_BROADCASTS_OF_BLOCK
            || self.serves(&block)
        {
            self.peers.refuse(&peer, id);
            return Vec::new();
        }
        if !self.peers.introduces(&peer, &self.config, now) {
            self.peers.refuse(&peer, id);
            return vec![Action::Needless { peer }];
        }
        // This looks at what all peers have told, so not more often than that.
        let is_doubted =
            self.peers.is_doubted(&peer, now) && !self.peers.have_others_announced(&peer, &id);
        let config = self.config.clone();
        let served = move |it: &Broadcast| it.was_served(&config, now);
        if is_doubted
            || announcement.shape().size() > self.config.max_block_bytes
            || !self.may_introduce(&peer, &announcement)
            || !self.make_room(announcement.shape().weight(), served)
        {
            self.peers.refuse(&peer, id);
            return Vec::new();
        }
        let header = announcement.header().clone();
        self.add(
            Broadcast::new(announcement, Some(peer), &self.seed, now),
            true,
            now,
        );
        if let Some(broadcast) = self.live.last_mut() {
            broadcast.says(&peer, it.have, &self.peers, now);
        }
        vec![Action::CheckHeader {
            broadcast: id,
            block,
            header,
            peer,
        }]
    }

    fn status(&mut self, peer: &PeerId, status: &Status, now: Instant) {
        let id = status.broadcast;
        if let Some(broadcast) = self.live.iter_mut().find(|it| it.id() == id) {
            self.news |= !broadcast.is_accepted();
            let before = broadcast.fate(peer);
            broadcast.status(peer, status, &self.peers, now);
            self.fates.extend(news(broadcast, peer, before));
            self.peers.share(peer, &broadcast.announcement, false);
        } else if !status.done && self.over.iter().any(|(over, _)| *over == id) {
            self.peers.refuse(peer, id);
        }
    }

    fn chunk(&mut self, peer: PeerId, chunk: Chunk, now: Instant) -> Vec<Action> {
        let id = chunk.broadcast;
        let Some(broadcast) = self.live.iter_mut().find(|it| it.id() == id) else {
            let stray = self.peers.stray(&peer, &id);
            let action = stray.map(|(what, why)| misdeed(peer, what, why));
            return action.into_iter().collect();
        };
        let link = broadcast.links.get(&peer);
        if link.is_some_and(|link| link.has_moved && link.got.contains(chunk.index)) {
            return vec![Action::Needless { peer }];
        }
        self.news = true;
        match broadcast.receive(&peer, chunk, &self.config, &mut self.peers, now) {
            Ok(true) => reconstruct(broadcast),
            Ok(false) => Vec::new(),
            Err((what, why)) => vec![misdeed(peer, what, why)],
        }
    }

    fn find(&self, id: &BroadcastId, phase: Phase) -> Option<&Broadcast> {
        let mut live = self.live.iter();
        live.find(|it| it.id() == *id && it.phase() == phase)
    }

    /// Broadcasts of a block, under way or over.
    fn broadcasts_of(&self, block: &ItemId) -> usize {
        let live = self.live.iter().map(|it| it.announcement.block());
        let all = live.chain(self.over.iter().map(|(_, block)| block));
        all.filter(|it| *it == block).count()
    }

    /// Whether the peer may have one more broadcast under way that it was the first to tell of. It takes two peers
    /// to fill a block's places, or the room for all, so that a single one cannot keep the true broadcast out.
    fn may_introduce(&self, peer: &PeerId, it: &Announcement) -> bool {
        let live = self.live.iter();
        let mine = live.filter(|live| live.introducer == Some(*peer) && !live.is_accepted());
        let mine = mine.map(|live| &live.announcement);
        let of_block = mine.clone().filter(|mine| mine.block() == it.block());
        let bytes: usize = mine.clone().map(|mine| mine.shape().weight()).sum();
        let has_room = bytes == 0 || bytes + it.shape().weight() <= self.config.max_bytes / 2;
        has_room
            && mine.count() < self.config.max_introduced
            && of_block.count() < MAX_BROADCASTS_OF_BLOCK - 1
    }

    fn add(&mut self, mut broadcast: Broadcast, unasked: bool, now: Instant) {
        self.news = true;
        let id = broadcast.id();
        for peer in self.peers.iter() {
            let heard = self.peers.has_announced(&peer, &id);
            broadcast.join(peer, heard, unasked, now);
        }
        self.over.retain(|(over, _)| *over != id);
        self.live.push(broadcast);
    }

    /// Forgets broadcasts that may go, those first that were begun first, until another one fits. False: it does not.
    fn make_room(&mut self, weight: usize, may_go: impl Fn(&Broadcast) -> bool) -> bool {
        loop {
            let (count, bytes) = self.load();
            if count < self.config.max_broadcasts && bytes + weight <= self.config.max_bytes {
                return true;
            }
            let Some(id) = self.live.iter().find(|it| may_go(it)).map(Broadcast::id) else {
                return false;
            };
            self.close(&id);
        }
    }

    /// The block is here, so other broadcasts of it are lies, or of no use.
    fn accepted(&mut self, id: BroadcastId, encoded: Option<Encoded>, now: Instant) {
        self.news = true;
        let Some(broadcast) = self.live.iter_mut().find(|it| it.id() == id) else {
            return;
        };
        broadcast.accepted(encoded, now);
        let block = broadcast.announcement.block().clone();
        let others = self
            .live
            .iter()
            .filter(|it| *it.announcement.block() == block);
        let others: Vec<_> = others.map(Broadcast::id).filter(|it| *it != id).collect();
        for other in others {
            self.close(&other);
        }
    }

    /// A broadcast came to nothing.
    fn fail(&mut self, id: &BroadcastId, reason: Abandonment, now: Instant) -> Vec<Action> {
        let mut actions = Vec::new();
        if let Some(broadcast) = self.live.iter().find(|it| it.id() == *id) {
            let (what, why) = match reason {
                Abandonment::Stuck => (
                    Misdeed::NoAnswer,
                    "it does not send the chunks that it says it holds",
                ),
                _ => (
                    Misdeed::InvalidItem,
                    "it said that it holds a block that is none",
                ),
            };
            let guilty = broadcast.links.iter().filter(|(_, link)| match reason {
                Abandonment::Stuck => link.pays_for_silence(),
                _ => link.vouches,
            });
            actions.extend(guilty.map(|(peer, _)| misdeed(*peer, what, why)));
            if let Some(introducer) = broadcast.introducer {
                let until = now + self.config.doubt;
                self.peers.doubt(introducer, until, now);
            }
            let block = broadcast.announcement.block().clone();
            actions.push(Action::Abandoned { block, reason });
        }
        self.close(id);
        actions
    }

    /// Ends a broadcast; whoever takes part and is not told yet that nothing is needed is told so. Who has not got the block from here is to
    /// have it in another way.
    fn close(&mut self, id: &BroadcastId) {
        let Some(place) = self.live.iter().position(|it| it.id() == *id) else {
            return;
        };
        self.news = true;
        let broadcast = self.live.remove(place);
        for (peer, link) in &broadcast.links {
            if broadcast.is_accepted() && link.fate().is_none() {
                let block = broadcast.announcement.block().clone();
                self.fates.push((*peer, block, Fate::Left));
            }
            if link.heard && !(broadcast.is_done() && link.told && !link.stale) {
                self.peers.refuse(peer, *id);
            }
        }
        let block = broadcast.announcement.block().clone();
        self.over.push_back((*id, block));
        if self.over.len() > MAX_OVER {
            self.over.pop_front();
        }
    }
}

/// Has a broadcast decoded once there is enough of it.
fn reconstruct(broadcast: &mut Broadcast) -> Vec<Action> {
    let reconstruction = broadcast.reconstruction();
    reconstruction
        .map(Action::Reconstruct)
        .into_iter()
        .collect()
}

/// What has become of an accepted block at a peer, if that is another thing than before.
fn news(
    broadcast: &Broadcast,
    peer: &PeerId,
    before: Option<Fate>,
) -> Option<(PeerId, ItemId, Fate)> {
    let fate = broadcast.fate(peer).filter(|fate| before != Some(*fate))?;
    let block = broadcast.announcement.block().clone();
    broadcast.is_accepted().then_some((*peer, block, fate))
}

fn misdeed(peer: PeerId, misdeed: Misdeed, why: &'static str) -> Action {
    Action::Misdeed { peer, misdeed, why }
}
