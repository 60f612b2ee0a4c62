//! Blocks: of whom they are asked, what becomes of those that come, and their way into the store.

use bytes::Bytes;
use libp2p::PeerId;

use super::{
    BENCH, Event, Job, MAX_SOURCES, Sync,
    headers::Payers,
    job::Chain,
    peers::{Bodies, Peer, Request, What},
    wire::{self, GetBlocks, Kind, MAX_ANSWER_BYTES, MAX_BLOCKS, Reason},
};
use crate::{
    chain::{Block, BlockPlace, ItemId, SyncVerdict},
    lanes::Action,
    peers::Misdeed,
    platform::Instant,
};
use std::{cmp::Reverse, hash::BuildHasher, time::Duration};

/// Blocks are looked at by two at once, so many bytes each.
const MAX_READERS: usize = 2;
const READ_AT_ONCE: usize = 1 << 20;
/// What is appended at once.
const APPEND_AT_ONCE: usize = 64;
const APPEND_BYTES: usize = 4 << 20;
/// The least bytes that an answer may have.
const LEAST_ANSWER: usize = 32 << 10;
/// Who sends more than there is room for is asked again after so long.
const CROWDED: Duration = Duration::from_secs(1);
/// How many of the [`MAX_SOURCES`] are chosen by lot, however fast others are: who is known to be fast may not have what is wanted.
const BY_LOT: usize = MAX_SOURCES / 4;
/// A branch whose next block nobody has is left after so long.
const ORPHANED: Duration = Duration::from_secs(1);
/// So many times one after the other the chain may fail at a branch: about a minute, where nothing else goes on.
const MAX_FAILURES: u32 = 6;
/// So many times the patience with one answer a branch may stand still.
const STILL: u32 = 3;

impl Sync {
    /// Asks for blocks as far as there is room for them.
    pub(super) fn fetch(&mut self, now: Instant) {
        let Some(branch) = &self.branch else {
            return;
        };
        if branch.best.is_none() || branch.missing.is_empty() || self.rests(now) {
            return;
        }
        let asked = self.asked.iter().filter_map(|id| self.peers.get(id));
        let mut taken = self.held + asked.map(Peer::expects).sum::<usize>();
        for id in self.sources.clone() {
            while let Some(bytes) = self.ask_for_blocks(id, taken, now) {
                taken += bytes;
            }
        }
    }

    /// Asks a peer for the first blocks that are missing and that it has, where so many bytes are taken of the room: how many more are now.
    fn ask_for_blocks(&mut self, id: PeerId, taken: usize, now: Instant) -> Option<usize> {
        let (branch, peer) = (self.branch.as_mut()?, self.peers.get_mut(&id)?);
        if !peer.is_free(now) || peer.room() == 0 {
            return None;
        }
        let average = self.average.max(1);
        let most = (peer.link.share() / average).clamp(1, MAX_BLOCKS);
        let mut wanted: Vec<(ItemId, u64)> = Vec::new();
        for height in branch.missing.range(peer.heights()) {
            if wanted.len() >= most {
                break;
            }
            if let Some(block) = branch.get(*height)
                && !peer.is_asked(&block.id)
            {
                wanted.push((block.id.clone(), *height));
            }
        }
        let (_, first) = wanted.first()?;
        let estimate = (wanted.len() * average).min(MAX_ANSWER_BYTES);
        let max_bytes = (2 * estimate).clamp(LEAST_ANSWER, MAX_ANSWER_BYTES);
        // The last block of an answer may go over it.
        let reserve = max_bytes.max(average);
        // What is next has room always: nothing goes on without it.
        if taken + reserve > self.config.max_buffer_bytes && *first != branch.next() {
            return None;
        }
        for (_, height) in &wanted {
            branch.missing.remove(height);
        }
        let ids: Vec<_> = wanted.iter().map(|(id, _)| id.clone()).collect();
        let bodies = Bodies::new(&wanted, max_bytes, (estimate, reserve));
        let number = self.next_number;
        self.next_number += 1;
        let frame = Kind::GetBlocks(GetBlocks::new(number, &ids, max_bytes)).into_frame();
        peer.ask(number, What::Blocks(bodies), frame, now);
        self.asked.insert(id);
        self.feed(id);
        Some(reserve)
    }

    /// A frame of an answer has come.
    pub(super) fn on_blocks(&mut self, from: PeerId, answer: wire::Blocks, now: Instant) {
        let Some(peer) = self.peers.get_mut(&from) else {
            return;
        };
        let number = answer.number;
        let blocks = answer.blocks.iter().map(Bytes::len);
        let bytes = answer.piece.len() + blocks.sum::<usize>();
        peer.heard(number, bytes, now);
        let Some(request) = peer.requests.get_mut(&number) else {
            return;
        };
        let is_over = answer.ended > 0;
        let received = request.received;
        let What::Blocks(bodies) = &mut request.what else {
            return self.lies(from, Misdeed::InvalidMessage, now);
        };
        if request.given_up {
            if is_over {
                self.ended(from, number, now);
            }
            return;
        }
        let is_too_much = received > bodies.max_bytes.saturating_add(self.max_block);
        let is_next = self.branch.as_ref().is_some_and(|branch| {
            let next = branch.front();
            next.is_some_and(|next| bodies.open.contains_key(&next.id))
        });
        // Each answer may go over what it was asked for by a block: where many do, those that can wait are asked for again.
        if self.held + bytes > 2 * self.config.max_buffer_bytes && !is_next {
            self.give_up(from, |_| true);
            if is_over {
                self.ended(from, number, now);
            }
            return self.bench(from, CROWDED, now);
        }
        let before = bodies.partial_bytes();
        self.held += bytes;
        let taken = bodies.take(answer, self.max_block);
        let blocks = match taken {
            Ok(blocks) if !is_too_much => blocks,
            Ok(blocks) => {
                let dropped = blocks.iter().map(Bytes::len).sum();
                self.held = self.held.saturating_sub(dropped);
                return self.lies(from, Misdeed::InvalidMessage, now);
            }
            Err(reason) => {
                bodies.drop_partial();
                self.held = self.held.saturating_sub(before + bytes);
                tracing::debug!(%from, reason, "an answer breaks the rules");
                return self.lies(from, Misdeed::InvalidMessage, now);
            }
        };
        let is_done = bodies.is_done();
        for block in blocks {
            self.unread.push_back((from, number, Block::new(block)));
        }
        if let Some(branch) = self.branch.as_mut().filter(|_| bytes > 0) {
            branch.moved_at = now;
        }
        if is_done {
            self.finish(from, number, now);
        }
    }

    /// Has blocks that have come looked at.
    pub(super) fn read(&mut self) {
        while self.readers < MAX_READERS && !self.unread.is_empty() {
            let mut blocks = Vec::new();
            let mut bytes = 0;
            while bytes < READ_AT_ONCE
                && let Some(next) = self.unread.pop_front()
            {
                bytes += next.2.data.len();
                blocks.push(next);
            }
            self.readers += 1;
            let job = Job::Bodies(blocks);
            self.actions.push_back(Action::Tell(Event::Work(job)));
        }
    }

    /// A block was looked at: it is the one of this identity.
    pub(super) fn on_body(
        &mut self,
        from: PeerId,
        number: u64,
        block: Block,
        id: Option<ItemId>,
        now: Instant,
    ) {
        let bytes = block.data.len();
        self.held = self.held.saturating_sub(bytes);
        let Some((bodies, given_up)) = self.bodies(from, number) else {
            return;
        };
        bodies.unread = bodies.unread.saturating_sub(1);
        let place = id.and_then(|id| bodies.open.remove_entry(&id));
        let is_done = bodies.is_done();
        if given_up {
            if is_done {
                self.ended(from, number, now);
            }
            return;
        }
        let Some((id, (_, height))) = place else {
            tracing::debug!(%from, "a block that was not asked for");
            return self.lies(from, Misdeed::InvalidItem, now);
        };
        self.average = (self.average * 7 + bytes) / 8;
        if let Some(branch) = &mut self.branch
            && branch.put(height, &id, block, from)
        {
            self.held += bytes;
        }
        if is_done {
            self.finish(from, number, now);
        }
    }

    /// The chain has panicked over a block: it is asked for again.
    pub(super) fn unreadable(&mut self, from: PeerId, number: u64, bytes: usize, now: Instant) {
        self.held = self.held.saturating_sub(bytes);
        let Some((bodies, given_up)) = self.bodies(from, number) else {
            return;
        };
        bodies.unread = bodies.unread.saturating_sub(1);
        bodies.has_failed = true;
        match (bodies.is_done(), given_up) {
            (true, false) => self.finish(from, number, now),
            (true, true) => drop(self.ended(from, number, now)),
            (false, _) => {}
        }
    }

    fn bodies(&mut self, from: PeerId, number: u64) -> Option<(&mut Bodies, bool)> {
        let request = self.peers.get_mut(&from)?.requests.get_mut(&number)?;
        match &mut request.what {
            What::Blocks(bodies) => Some((bodies, request.given_up)),
            What::Headers(_) => None,
        }
    }

    /// An answer with blocks is over, and looked at: what did not come is asked for elsewhere.
    fn finish(&mut self, from: PeerId, number: u64, now: Instant) {
        let Some(request) = self.ended(from, number, now) else {
            return;
        };
        let What::Blocks(bodies) = request.what else {
            return;
        };
        // Of which of them the chain has panicked nobody knows: what is not here counts as not dealt with.
        let ended = bodies.ended.filter(|_| !bodies.has_failed);
        let ended = ended.unwrap_or_default();
        let mut lacks = None;
        for (id, (place, height)) in bodies.open {
            if place < ended {
                lacks = Some(lacks.map_or(height, |least: u64| least.min(height)));
            }
            if let Some(branch) = &mut self.branch {
                branch.miss(height, &id);
            }
        }
        if let Some(lacks) = lacks {
            self.lacks(from, lacks, now);
        }
    }

    /// A peer does not have a block, nor those after it. One that has sent its header has changed its mind.
    fn lacks(&mut self, from: PeerId, height: u64, now: Instant) {
        let wanted = self.branch.as_ref().and_then(|branch| branch.get(height));
        let is_promised = wanted.is_some_and(|wanted| wanted.from == from);
        if let Some(peer) = self.peers.get_mut(&from) {
            let least = peer.lacks_from.map_or(height, |other| other.min(height));
            peer.lacks_from = Some(least);
        }
        if is_promised {
            self.misdeed(from, Misdeed::FalseAnnouncement);
            self.bench(from, BENCH, now);
        }
    }

    /// A request has no answer.
    pub(super) fn on_refusal(&mut self, from: PeerId, refusal: &wire::Refusal, now: Instant) {
        let is_here = refusal.reason != Reason::NotHere as i32;
        let Some(request) = self.ended(from, refusal.number, now) else {
            return;
        };
        if request.given_up {
            return;
        }
        if let Some(peer) = self.peers.get_mut(&from).filter(|_| is_here) {
            peer.is_too_busy(now);
        }
        match request.what {
            What::Headers(anchors) => {
                if is_here {
                    return;
                }
                match &mut self.branch {
                    // Its chain has changed, or is another: what is known of the branch is taken, and then it is looked anew.
                    Some(branch) if anchors.first() == Some(&branch.head) => {
                        branch.is_complete = true;
                    }
                    _ => drop(self.ahead.remove(&from)),
                }
            }
            What::Blocks(mut bodies) => {
                self.held = self.held.saturating_sub(bodies.drop_partial());
                let least = bodies.open.values().map(|(_, height)| *height).min();
                self.missed(&bodies);
                if let (false, Some(height)) = (is_here, least) {
                    self.lacks(from, height, now);
                }
            }
        }
    }

    /// What was asked for is missing again.
    fn missed(&mut self, bodies: &Bodies) {
        if let Some(branch) = &mut self.branch {
            for (id, (_, height)) in &bodies.open {
                branch.miss(*height, id);
            }
        }
    }

    /// An answer is over.
    pub(super) fn ended(&mut self, from: PeerId, number: u64, now: Instant) -> Option<Request> {
        let peer = self.peers.get_mut(&from)?;
        let request = peer.ended(number, now);
        if peer.requests.is_empty() {
            self.asked.remove(&from);
        }
        request
    }

    /// Answers of a peer are of no use any more; what they were to bring is missing again.
    pub(super) fn give_up(&mut self, from: PeerId, which: impl Fn(u64) -> bool) {
        let Some(peer) = self.peers.get_mut(&from) else {
            return;
        };
        for (number, request) in &mut peer.requests {
            if request.given_up || !which(*number) {
                continue;
            }
            request.given_up = true;
            if let (What::Blocks(bodies), Some(branch)) = (&mut request.what, &mut self.branch) {
                for (id, (_, height)) in bodies.open.drain() {
                    branch.miss(height, &id);
                }
            }
            if let What::Blocks(bodies) = &mut request.what {
                self.held = self.held.saturating_sub(bodies.drop_partial());
            }
        }
    }

    /// The branch is followed no further. Where it never was better its headers are charged.
    pub(super) fn drop_branch(&mut self, payers: Payers) {
        self.charge_in_vain(payers);
        let Some(branch) = self.branch.take() else {
            return;
        };
        self.held = self.held.saturating_sub(branch.held());
        // What is being appended is of none that is followed.
        self.is_appending = false;
        self.seeks = true;
        for id in self.asked.clone() {
            self.give_up(id, |_| true);
        }
        for peer in self.peers.values_mut() {
            peer.lacks_from = None;
        }
    }

    pub(super) fn bench(&mut self, peer: PeerId, time: Duration, now: Instant) {
        if let Some(peer) = self.peers.get_mut(&peer) {
            peer.bench(now + time);
        }
    }

    /// What is to be appended next. Blocks of another branch than the chain's own wait until they take its place, so that no node leaves its chain for
    /// one that nobody shows; unless there is no room to wait in.
    pub(super) fn next_append(&mut self) -> Option<Job> {
        let (branch, chain) = (self.branch.as_ref()?, self.chain.as_ref()?);
        let best = branch.best.clone()?;
        let next = MAX_ANSWER_BYTES.max(self.average);
        let is_full = self.held.saturating_add(next) > self.config.max_buffer_bytes;
        if !is_full && !branch.takes_over_from(&chain.tip) {
            return None;
        }
        let blocks = branch.ready(APPEND_AT_ONCE, APPEND_BYTES);
        if blocks.is_empty() {
            return None;
        }
        self.is_appending = true;
        Some(Job::Append { blocks, best })
    }

    /// Blocks were appended, all or the first of them.
    pub(super) fn on_appended(
        &mut self,
        count: usize,
        verdict: SyncVerdict,
        chain: Chain,
        now: Instant,
    ) {
        let was_appending = std::mem::take(&mut self.is_appending);
        let mut front = None;
        if let Some(branch) = self.branch.as_mut().filter(|_| was_appending) {
            let (freed, brought) = branch.appended(count);
            self.held = self.held.saturating_sub(freed);
            let brought = brought
                .into_iter()
                .map(|peer| Action::Tell(Event::Brought(peer)));
            self.actions.extend(brought);
            let height = branch.next();
            front = branch.front().map(|wanted| {
                let id = wanted.id.clone();
                (BlockPlace { height, id }, wanted.from)
            });
            if count > 0 {
                branch.moved_at = now;
                branch.failures = 0;
                self.rested = Duration::ZERO;
                self.trouble = None;
            }
        }
        self.on_chain(chain);
        match (verdict, front) {
            (SyncVerdict::Reject(reason), Some((place, from))) => {
                self.refuse(place, from, &reason, now);
            }
            (SyncVerdict::Ignore(reason), Some((_, from))) => self.abandon(from, &reason, now),
            (SyncVerdict::Retry(reason), _) => self.fails(reason, was_appending, now),
            _ => {}
        }
        let height = self.branch.as_ref().map(|branch| branch.fork.height);
        if height.is_some_and(|height| self.progress.at(height, now)) {
            self.tell_status();
        }
    }

    /// While the blocks of the branch came the chain has become as good as it. They are kept, and whether the branch goes on and is
    /// better then is seen by its next headers; if it has none it is at its end.
    pub(super) fn on_outgrown(&mut self, chain: Chain) {
        let was_appending = std::mem::take(&mut self.is_appending);
        if let Some(branch) = self.branch.as_mut().filter(|_| was_appending) {
            branch.best = None;
            branch.is_outgrown = true;
            branch.is_complete = branch.len() >= self.config.max_headers;
        }
        self.on_chain(chain);
    }

    /// The chain could not take what it was given.
    pub(super) fn fails(&mut self, reason: String, was_appending: bool, now: Instant) {
        if let Some(branch) = self.branch.as_mut().filter(|_| was_appending) {
            branch.failures += 1;
            if branch.failures > MAX_FAILURES {
                // It may be this branch that it can't take, though it goes on otherwise.
                self.leave(now);
            }
        }
        self.rest(reason, now);
    }

    /// Blocks of the branch have come into the store by another way.
    pub(super) fn skip(&mut self) {
        let Some(tip) = self.chain.as_ref().map(|chain| chain.tip.clone()) else {
            return;
        };
        let Some(branch) = &mut self.branch else {
            return;
        };
        let is_tip = branch
            .get(tip.height)
            .is_some_and(|wanted| wanted.id == tip.id);
        if is_tip {
            let count = tip.height.saturating_sub(branch.fork.height);
            let (freed, _) = branch.appended(usize::try_from(count).unwrap_or(usize::MAX));
            self.held = self.held.saturating_sub(freed);
        }
    }

    /// Who is late is helped out by others, and who does not answer pays.
    pub(super) fn look_for_the_late(&mut self, now: Instant) {
        let timeout = self.config.request_timeout;
        for id in self.asked.clone() {
            let Some(peer) = self.peers.get_mut(&id) else {
                continue;
            };
            if let Some(number) = peer.overdue(timeout, now) {
                let has_paid = peer
                    .requests
                    .get(&number)
                    .is_some_and(|asked| asked.has_paid);
                if has_paid {
                    peer.forgo(number);
                } else {
                    peer.bench(now + BENCH);
                    peer.waits_anew(now);
                    self.misdeed(id, Misdeed::NoAnswer);
                    self.give_up(id, |_| true);
                }
            } else {
                self.hedge(id, now);
            }
            if self
                .peers
                .get(&id)
                .is_some_and(|peer| peer.requests.is_empty())
            {
                self.asked.remove(&id);
            }
        }
        self.leave_what_stands_still(now);
    }

    /// What a peer is late with may be asked of others.
    fn hedge(&mut self, id: PeerId, now: Instant) {
        let (Some(peer), Some(branch)) = (self.peers.get_mut(&id), &mut self.branch) else {
            return;
        };
        for number in peer.late(now) {
            if let Some(request) = peer.requests.get_mut(&number)
                && let What::Blocks(bodies) = &request.what
            {
                request.hedged = true;
                for (id, (_, height)) in &bodies.open {
                    branch.miss(*height, id);
                }
            }
        }
    }

    /// A branch that does not go on makes room for another.
    fn leave_what_stands_still(&mut self, now: Instant) {
        let still = self.config.request_timeout * STILL;
        let Some(branch) = &mut self.branch else {
            return;
        };
        if self.is_busy || self.rests_until.is_some() {
            // It is the chain that takes its time.
            branch.moved_at = now;
            return;
        }
        let is_orphan = branch.first_missing().is_some_and(|(height, wanted)| {
            let has = |peer: &Peer| {
                !peer.is_benched(now) && peer.has(height) || peer.is_asked(&wanted.id)
            };
            !self.peers.values().any(has)
        });
        if is_orphan {
            branch.orphaned.get_or_insert(now);
        } else {
            branch.orphaned = None;
        }
        let is_left = branch.orphaned.is_some_and(|since| now >= since + ORPHANED)
            || now >= branch.moved_at + still;
        if is_left {
            self.leave(now);
        }
    }

    /// The branch makes room for another; its leader is not asked for some time.
    fn leave(&mut self, now: Instant) {
        let Some(leader) = self.branch.as_ref().map(|branch| branch.leader) else {
            return;
        };
        tracing::debug!(%leader, "the branch does not go on: it is left");
        self.drop_branch(Payers::All);
        self.bench(leader, BENCH, now);
        self.tell_status();
    }

    /// Who may be asked for blocks: the leader and those that have the first one that is missing come first, the fastest of them before others;
    /// and some are chosen by lot.
    pub(super) fn choose_sources(&mut self, now: Instant) {
        self.sources.clear();
        let Some(branch) = &self.branch else {
            return;
        };
        let Some((missing, _)) = branch.first_missing() else {
            return;
        };
        self.lots += 1;
        let lot = |id: &PeerId| self.lot.hash_one((self.lots, *id));
        let has_some = |(_, peer): &(&PeerId, &Peer)| {
            let heights = peer.heights();
            heights.end > missing && heights.start <= branch.head.height && !peer.is_benched(now)
        };
        let mut sources: Vec<_> = self.peers.iter().filter(has_some).collect();
        sources.sort_by_cached_key(|(id, peer)| {
            let (is_leader, has_next) = (**id == branch.leader, peer.has(missing));
            (Reverse((is_leader, has_next, peer.link.speed())), lot(id))
        });
        let fast = sources.len().min(MAX_SOURCES - BY_LOT);
        if let Some(others) = sources.get_mut(fast..) {
            others.sort_by_cached_key(|(id, peer)| (!peer.has(missing), lot(id)));
        }
        let ids = sources.into_iter().map(|(id, _)| *id);
        self.sources = ids.take(MAX_SOURCES).collect();
    }
}
