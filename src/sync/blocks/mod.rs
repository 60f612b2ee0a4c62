//! Blocks that were missed: a state machine without I/O that brings a node's chain to its peers' tip and keeps it there, and
//! serves them.
//!
//! Headers first, as in Bitcoin Core since 0.10: of the peers that say they have more, one (the leader, by lot) is asked for the headers
//! after the last block that both have, which a locator finds. The chain judges them, in its own order, before any block is fetched; of a
//! fork it is asked whether it is better. Blocks come from all who say that they have them, in requests of many
//! small ones, each peer as much at once as its line holds (`peers.rs`), and are appended in order. Who is slow holds nobody up: what
//! is late is asked of others too. A block that propagation brings is appended where it is the next; where it is not,
//! who sent it has more than we.
//!
//! A chain that keeps headers alone ([`crate::chain::ChainStore::keeps_blocks`]) has taken them once it has judged them, and no block is asked for; of a branch that is not better
//! yet more headers are asked for until it is, or has no more.
//!
//! Who sent what is known until the verdict. Blocks that are not the asked ones, and headers that do not follow each other, cost who sent
//! them at once. A header or block that the chain rejects costs those who have it in their chains once a better
//! chain has gone past it: where all peers have it, it is told as our own trouble, and nobody pays. Who promises and
//! does not deliver pays for that, and is not asked for some time. Headers of a branch that never became better are charged to who sent them
//! as so many items more, however it ends, to who is at fault alone where somebody is.
//!
//! All that touches the chain's store is a [`Job`] for the core's owner to run elsewhere; one that changes the store at a time.
//!
//! Bounds (`protocol.sync`): headers ahead of the tip; bytes of blocks that wait or are asked for; bytes made for peers; requests of a
//! peer; [`MAX_OFFERS`] blocks that propagation brought; [`MAX_REFUSED`] rejected ones that are remembered; [`MAX_SOURCES`] peers that
//! are asked for blocks at once.

mod blame;
mod bodies;
mod branch;
mod config;
mod headers;
mod job;
mod peers;
mod phase;
mod progress;
mod serving;
#[cfg(test)]
mod tests;
pub(crate) mod wire;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque},
    time::Duration,
};

use bytes::Bytes;
use libp2p::PeerId;

pub use config::SyncConfig;
pub use phase::SyncPhase;
pub use progress::SyncStatus;
pub use wire::check_sync;

pub(crate) use self::job::{Done, Job};
use self::{
    blame::Blame,
    branch::Branch,
    headers::Payers,
    job::{Chain, Failed},
    peers::Peer,
    phase::Standing,
    progress::Progress,
    serving::Serving,
    wire::{Kind, Status},
};
use crate::{
    chain::{Block, BlockPlace, SyncVerdict},
    keyed::Keyed,
    lanes::{Action, Outgoing, Taken},
    peers::Misdeed,
    platform::Instant,
    traffic::{Class, Cost},
};

/// How often it is looked what is late.
const TICK: Duration = Duration::from_millis(50);
/// How often peers are told of a new tip.
const STATUS_EVERY: Duration = Duration::from_secs(1);
/// Blocks that propagation brought and that wait for the store, and their bytes; beyond them the eldest is left to sync.
const MAX_OFFERS: usize = 64;
const MAX_OFFERED_BYTES: usize = 16 << 20;
/// Peers that are asked for blocks at once.
const MAX_SOURCES: usize = 32;
/// Rejected headers and blocks that are remembered.
const MAX_REFUSED: usize = 16;
/// Requests and refusals that wait for a peer to read them: each side has [`wire::MAX_REQUESTS`] open, and some were given up.
const MAX_OUTBOX: usize = 4 * wire::MAX_REQUESTS;
/// The longest frame with headers: what stands before those has few bytes.
const MAX_FRAME: usize = wire::MAX_MESSAGE + 16;
/// How long a peer is not asked that did not deliver, and one that lied.
const BENCH: Duration = Duration::from_secs(30);
const DISTRUST: Duration = Duration::from_secs(600);
/// How long what the chain could not do is left alone, at first and at most.
const RETRY: Duration = Duration::from_secs(1);
const MAX_RETRY: Duration = Duration::from_secs(30);

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Sync {
    config: SyncConfig,
    max_block: usize,
    /// For choices that no peer foresees.
    lot: Keyed,
    lots: u64,
    /// Whether it takes no blocks for now, and whether it may hold others than those that it was seen with.
    is_held: bool,
    is_stale: bool,
    /// Who said in its hello that it speaks this; answers of it to requests below this number may be of an earlier session.
    speakers: HashMap<PeerId, u64>,
    /// Those of them that take part.
    peers: BTreeMap<PeerId, Peer>,
    /// The store's chain, once it was looked at.
    chain: Option<Chain>,
    branch: Option<Branch>,
    blame: Blame,
    serving: Serving,
    progress: Progress,
    standing: Standing,
    offers: VecDeque<(Block, Option<PeerId>)>,
    offered: usize,
    /// Whose block is being offered.
    offering: Option<PeerId>,
    /// A job that looks at the store or changes it is under way; another one judges headers, of this peer.
    is_busy: bool,
    judging: Option<PeerId>,
    /// Headers were taken while somebody looked, who may not have seen them.
    is_outdated: bool,
    /// What the headers that are judged lead to, as who sent them says, and whether they are as many as an answer holds.
    promised: Option<(BlockPlace, bool)>,
    /// Blocks of the branch are being appended.
    is_appending: bool,
    /// About how many bytes a block has.
    average: usize,
    /// Blocks that have come and are not looked at; how many bytes wait there, are being looked at, or wait in the branch.
    unread: VecDeque<(PeerId, u64, Block)>,
    readers: usize,
    held: usize,
    /// Who says that it has what, to be looked up; and since when who has more than we.
    unknown: HashSet<PeerId>,
    looked: HashSet<PeerId>,
    ahead: BTreeMap<PeerId, Instant>,
    /// Whether there may be a leader to be found among them that there was not before.
    seeks: bool,
    /// Who has requests open, and who is asked for blocks.
    asked: BTreeSet<PeerId>,
    sources: Vec<PeerId>,
    next_number: u64,
    /// Not before does the chain get anything again, and how long it had rest the last time.
    rests_until: Option<Instant>,
    rested: Duration,
    /// Why it does not go on, until the chain is as high as this.
    trouble: Option<(u64, String)>,
    actions: VecDeque<Action<Event>>,
    tick_at: Option<Instant>,
}

/// What the network task hears of.
#[derive(Debug)]
pub(crate) enum Event {
    /// Work on the store; [`Sync::done`] is called with what came of it.
    Work(Job),
    /// How far it is.
    Status(SyncStatus),
    /// A peer brought blocks that the chain has taken.
    Brought(PeerId),
}

impl Sync {
    /// `seed` is random and secret.
    pub(crate) fn new(config: SyncConfig, max_block: usize, seed: &[u8; 16]) -> Self {
        let mut sync = Self {
            serving: Serving::new(config.max_serving_bytes, max_block),
            config,
            max_block,
            lot: Keyed::new(seed),
            lots: 0,
            is_held: false,
            is_stale: false,
            speakers: HashMap::new(),
            peers: BTreeMap::new(),
            chain: None,
            branch: None,
            blame: Blame::default(),
            progress: Progress::default(),
            standing: Standing::default(),
            offers: VecDeque::new(),
            offered: 0,
            offering: None,
            is_busy: false,
            judging: None,
            is_outdated: false,
            promised: None,
            is_appending: false,
            average: USUAL_BLOCK,
            unread: VecDeque::new(),
            readers: 0,
            held: 0,
            unknown: HashSet::new(),
            looked: HashSet::new(),
            ahead: BTreeMap::new(),
            seeks: false,
            asked: BTreeSet::new(),
            sources: Vec::new(),
            next_number: 1,
            rests_until: None,
            rested: Duration::ZERO,
            trouble: None,
            actions: VecDeque::new(),
            tick_at: None,
        };
        sync.work_on_chain(Job::Look(Vec::new()));
        sync
    }

    /// Another state is on its way into the chain's store: blocks wait. When that is over, the store is looked at anew.
    pub(crate) fn hold(&mut self, holds: bool, now: Instant) {
        (self.is_held, self.is_stale) = (holds, !holds);
        (self.rests_until, self.trouble) = (None, None);
        self.drop_branch(Payers::Nobody);
        self.progress.rest();
        self.drive(now);
    }

    /// A peer has said hello, with this version.
    pub(crate) fn greeted(&mut self, peer: PeerId, version: u32) {
        if version >= wire::VERSION {
            self.speakers.entry(peer).or_default();
        } else {
            self.speakers.remove(&peer);
        }
    }

    /// A peer's last connection is gone.
    pub(crate) fn forget(&mut self, peer: &PeerId) {
        self.speakers.remove(peer);
    }

    /// A block that the application has accepted and that did not come from here.
    pub(crate) fn offer(&mut self, block: &Block, from: Option<PeerId>, now: Instant) {
        // In the middle of a long way it can't be the next; its sender says how far it is.
        let is_far = |branch: &Branch| branch.len() > MAX_OFFERS;
        if self.branch.as_ref().is_some_and(is_far) {
            return;
        }
        self.offered += block.data.len();
        self.offers.push_back((block.clone(), from));
        while self.offers.len() > MAX_OFFERS || self.offered > MAX_OFFERED_BYTES {
            let Some((eldest, _)) = self.offers.pop_front() else {
                break;
            };
            self.offered -= eldest.data.len();
        }
        self.drive(now);
    }

    pub(crate) fn joined(&mut self, peer: PeerId, now: Instant) {
        if let Some(former) = self.speakers.get(&peer) {
            self.peers.insert(peer, Peer::new(*former));
            self.feed(peer);
            self.peers_changed(now);
            self.drive(now);
        }
    }

    pub(crate) fn moved(&mut self, peer: PeerId, now: Instant) {
        if !self.peers.contains_key(&peer) {
            return;
        }
        let numbers = self.serving.moved(&peer);
        self.give_up(peer, |_| true);
        if let Some(known) = self.peers.get_mut(&peer) {
            known.moved(self.next_number);
            let refused = numbers.into_iter();
            let refused = refused.map(|number| serving::refusal(number, wire::Reason::Busy));
            known.outbox.extend(refused);
        }
        self.feed(peer);
        self.drive(now);
    }

    /// A long frame of a peer, of so many bytes on the stream, is lost. The one long answer is with headers: if it was asked for some they are asked for
    /// anew, and nobody pays.
    pub(crate) fn skipped(&mut self, peer: PeerId, length: usize, now: Instant) {
        if length > MAX_FRAME {
            return;
        }
        let known = self.peers.get_mut(&peer);
        if known.is_some_and(Peer::loses_headers) {
            self.seeks = true;
            self.drive(now);
        }
    }

    /// What a peer sends was not read here for so long: its answers have as much more time.
    pub(crate) fn unheard(&mut self, peer: &PeerId, time: Duration) {
        if let Some(known) = self.peers.get_mut(peer) {
            known.unheard(time);
        }
    }

    pub(crate) fn gone(&mut self, peer: PeerId, now: Instant) {
        self.give_up(peer, |_| true);
        self.serving.forget(&peer);
        self.unknown.remove(&peer);
        self.ahead.remove(&peer);
        self.asked.remove(&peer);
        self.sources.retain(|other| *other != peer);
        if let Some(former) = self.speakers.get_mut(&peer) {
            *former = self.next_number;
        }
        if self.peers.remove(&peer).is_some() {
            self.peers_changed(now);
            self.drive(now);
        }
    }

    /// A frame of a peer. What has come is bounded by what was asked for, so its lane is read on at once.
    pub(crate) fn frame(&mut self, from: PeerId, message: Kind, took: Taken, now: Instant) {
        self.message(from, message, now);
        self.actions.push_back(Action::Done(from, took));
    }

    fn message(&mut self, from: PeerId, message: Kind, now: Instant) {
        if !self.peers.contains_key(&from) {
            // It speaks before it was greeted; or what it says is of a session that is over.
            if !self.speakers.contains_key(&from) {
                self.misdeed(from, Misdeed::InvalidMessage);
            }
            return;
        }
        let number = match &message {
            Kind::Headers(answer) => Some(answer.number),
            Kind::Blocks(answer) => Some(answer.number),
            Kind::Refusal(refusal) => Some(refusal.number),
            _ => None,
        };
        if let Some(number) = number
            && let Some(peer) = self.peers.get(&from)
            && !peer.requests.contains_key(&number)
        {
            if !peer.is_former(number) {
                self.misdeed(from, Misdeed::InvalidMessage);
            }
            return;
        }
        // Who has refusals to read asks for nothing more.
        let peer = self.peers.get(&from);
        let reads = peer.is_some_and(|peer| peer.outbox.len() < MAX_OUTBOX);
        match message {
            Kind::Status(status) => self.on_status(from, &status, now),
            Kind::GetHeaders(request) => {
                if !reads || !self.serving.ask_headers(from, request, now) {
                    return self.misdeed(from, Misdeed::TooManyMessages);
                }
            }
            Kind::GetBlocks(request) => {
                if !reads || !self.serving.ask_blocks(from, request, now) {
                    return self.misdeed(from, Misdeed::TooManyMessages);
                }
            }
            Kind::Headers(answer) => self.on_headers(from, answer, now),
            Kind::Blocks(answer) => self.on_blocks(from, answer, now),
            Kind::Refusal(refusal) => self.on_refusal(from, &refusal, now),
        }
        self.drive(now);
    }

    /// What came of a job.
    pub(crate) fn done(&mut self, done: Done, now: Instant) {
        match done {
            Done::Looked { chain, held } => {
                self.is_busy = false;
                if !std::mem::take(&mut self.is_outdated) {
                    self.on_chain(chain);
                }
                self.on_looked(&held, now);
            }
            Done::Appended {
                count,
                verdict,
                chain,
            } => {
                self.is_busy = false;
                self.on_appended(count, verdict, chain, now);
            }
            Done::Outgrown { chain } => {
                self.is_busy = false;
                self.on_outgrown(chain);
            }
            Done::Offered {
                chain,
                orphan,
                verdict,
            } => {
                self.is_busy = false;
                self.on_chain(chain);
                let source = self.offering.take();
                if let (Some(header), Some(source)) = (orphan, source) {
                    self.on_orphan(source, header.place(), now);
                }
                if let SyncVerdict::Retry(reason) = verdict {
                    self.fails(reason, false, now);
                }
            }
            Done::Headers(judged) => {
                if let Some(from) = self.judging.take() {
                    self.on_judged(from, judged, now);
                }
            }
            Done::Bodies(blocks) => {
                self.readers = self.readers.saturating_sub(1);
                for (peer, number, block, id) in blocks {
                    self.on_body(peer, number, block, id, now);
                }
            }
            Done::Served {
                peer,
                ticket,
                frames,
                missing,
            } => {
                // To look for what is not here is work that nothing else limits.
                if missing > 0 {
                    let cost = Cost {
                        items: missing as u64,
                        bytes: 0,
                    };
                    let action = Action::Surcharge(peer, Class::Sync, cost);
                    self.actions.push_back(action);
                }
                self.serving.made(peer, ticket, Some(frames), now);
                self.feed(peer);
            }
            Done::Failed(failed) => self.on_failed(failed, now),
        }
        self.drive(now);
    }

    fn on_failed(&mut self, failed: Failed, now: Instant) {
        match failed {
            Failed::Chain => {
                self.is_busy = false;
                self.offering = None;
                let was_appending = std::mem::take(&mut self.is_appending);
                self.fails(PANICKED.to_owned(), was_appending, now);
            }
            Failed::Headers => {
                // Others' may be of another kind.
                if let Some(from) = self.judging.take() {
                    self.bench(from, BENCH, now);
                    self.drop_branch(Payers::One(from));
                }
                self.rest(PANICKED.to_owned(), now);
            }
            Failed::Bodies(blocks) => {
                self.readers = self.readers.saturating_sub(1);
                for (peer, number, bytes) in blocks {
                    self.unreadable(peer, number, bytes, now);
                }
                self.rest(PANICKED.to_owned(), now);
            }
            Failed::Serving(peer, ticket) => {
                self.serving.made(peer, ticket, None, now);
                self.feed(peer);
            }
        }
    }

    /// The chain can't go on; it is tried again after a while.
    fn rest(&mut self, reason: String, now: Instant) {
        tracing::warn!(reason, "sync waits for the chain");
        self.rested = (self.rested * 2).clamp(RETRY, MAX_RETRY);
        self.rests_until = Some(now + self.rested);
        let next = self.tip().map_or(0, |tip| tip.height.saturating_add(1));
        self.trouble = Some((next, reason));
        self.tell_status();
    }

    fn rests(&self, now: Instant) -> bool {
        self.rests_until.is_some_and(|until| now < until)
    }

    /// The store's chain is this now.
    fn on_chain(&mut self, chain: Chain) {
        let is_new = self.chain.as_ref().is_none_or(|old| old.tip != chain.tip);
        let height = chain.tip.height;
        let is_higher = self.tip().is_some_and(|old| height > old.height);
        let is_lower = self.tip().is_some_and(|old| height < old.height);
        self.chain = Some(chain);
        if !is_new {
            return;
        }
        if is_lower {
            // It went back: whoever was no further than it may be now.
            self.unknown.extend(self.peers.keys());
        }
        if is_higher {
            // Whoever has brought it.
            self.rested = Duration::ZERO;
            self.trouble.take_if(|(until, _)| height >= *until);
        }
        self.actions.push_back(Action::News(Class::Sync));
        self.settle_blame();
        self.skip();
        self.reweigh();
        if self.branch.is_none() {
            self.tell_status();
        }
    }

    fn tip(&self) -> Option<&BlockPlace> {
        self.chain.as_ref().map(|chain| &chain.tip)
    }

    /// Whether there is more to the chain than headers.
    fn keeps_blocks(&self) -> bool {
        self.chain.as_ref().is_none_or(|chain| chain.keeps_blocks)
    }

    /// Does whatever can be done now.
    fn drive(&mut self, now: Instant) {
        if !self.is_held {
            self.follow(now);
            self.fetch(now);
            self.read();
            self.use_chain(now);
        }
        while let Some(job) = self.serving.start() {
            self.actions.push_back(Action::Tell(Event::Work(job)));
        }
        if self.tick_at.is_none() && self.is_active() {
            self.tick_at = Some(now + TICK);
        }
    }

    fn is_active(&self) -> bool {
        self.branch.is_some()
            || self.rests_until.is_some()
            || !self.serving.is_idle()
            || !self.ahead.is_empty()
            || !self.asked.is_empty()
    }

    /// Gives the store what is next for it, one thing at a time.
    fn use_chain(&mut self, now: Instant) {
        if self.is_busy || self.rests(now) {
            return;
        }
        if let Some(job) = self.next_append() {
            return self.work_on_chain(job);
        }
        if let Some((block, from)) = self.offers.pop_front() {
            self.offered -= block.data.len();
            self.offering = from;
            return self.work_on_chain(Job::Offer(block));
        }
        if !self.unknown.is_empty() || self.is_stale {
            self.is_stale = false;
            self.looked = std::mem::take(&mut self.unknown);
            let status = |peer: &PeerId| Some(self.peers.get(peer)?.status.as_ref()?.0.clone());
            let places = self.looked.iter().filter_map(status).collect();
            self.work_on_chain(Job::Look(places));
        }
    }

    fn work_on_chain(&mut self, job: Job) {
        (self.is_busy, self.is_outdated) = (true, false);
        self.actions.push_back(Action::Tell(Event::Work(job)));
    }

    fn number(&mut self) -> u64 {
        let number = self.next_number;
        self.next_number += 1;
        number
    }

    fn misdeed(&mut self, peer: PeerId, misdeed: Misdeed) {
        self.actions.push_back(Action::Misdeed(peer, misdeed));
    }

    fn feed(&mut self, peer: PeerId) {
        self.actions.push_back(Action::Feed(peer));
    }

    fn tell_status(&mut self) {
        if let Some(status) = self.status() {
            self.actions.push_back(Action::Tell(Event::Status(status)));
        }
    }

    /// How far it is; `None`: nobody has looked yet.
    fn status(&self) -> Option<SyncStatus> {
        let chain = self.chain.as_ref()?;
        let target = self.branch.as_ref().map(|branch| {
            let leader = self.peers.get(&branch.leader);
            leader.map_or(0, Peer::height).max(branch.head.height)
        });
        let target = target.or_else(|| self.headers_to());
        Some(SyncStatus {
            phase: self.standing.phase,
            tip: chain.tip.clone(),
            base: chain.base,
            target,
            rate: self.progress.rate(),
            peers: self
                .peers
                .values()
                .filter(|peer| peer.status.is_some())
                .count(),
            sources: self.sources.len(),
            snapshot: None,
            trouble: self.trouble.as_ref().map(|(_, reason)| reason.clone()),
        })
    }

    /// The height that headers are fetched up to, where they are the chain.
    fn headers_to(&self) -> Option<u64> {
        let chain = self.chain.as_ref().filter(|chain| !chain.keeps_blocks)?;
        let heights = self.ahead.keys().filter_map(|id| self.peers.get(id));
        let heights = heights.map(Peer::height);
        heights.filter(|height| *height > chain.tip.height).max()
    }

    /// The next frame for a peer.
    pub(crate) fn next(&mut self, to: PeerId, now: Instant) -> Option<Outgoing> {
        let peer = self.peers.get_mut(&to)?;
        if let Some(frame) = peer.outbox.pop_front() {
            return Some(Outgoing::one(frame));
        }
        if let Some(chain) = &self.chain
            && peer.is_told_at(&chain.tip, now).is_some_and(|at| at <= now)
        {
            peer.told = Some((chain.tip.clone(), now));
            let status = Status::new(&chain.tip, chain.base);
            return Some(Outgoing::one(Kind::Status(status).into_frame()));
        }
        let frame = self.serving.next(to, now)?;
        if !self.serving.serves(&to) {
            self.drive(now);
        }
        Some(Outgoing::one(frame))
    }

    /// When there is something for a peer.
    pub(crate) fn next_at(&self, to: &PeerId, now: Instant) -> Option<Instant> {
        let peer = self.peers.get(to)?;
        if !peer.outbox.is_empty() || self.serving.serves(to) {
            return Some(now);
        }
        peer.is_told_at(self.tip()?, now)
    }

    pub(crate) fn action(&mut self) -> Option<Action<Event>> {
        self.actions.pop_front()
    }

    pub(crate) fn on_time(&mut self, now: Instant) {
        self.look_around(now);
        if self.tick_at.is_none_or(|at| now < at) {
            return;
        }
        self.tick_at = None;
        self.seeks = true;
        if !self.rests(now) {
            self.rests_until = None;
        }
        self.look_for_the_late(now);
        self.choose_sources(now);
        for (peer, number) in self.serving.on_time(now) {
            self.reply(peer, serving::refusal(number, wire::Reason::Busy));
        }
        self.drive(now);
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.tick_at.into_iter().chain(self.standing.look_at).min()
    }

    fn reply(&mut self, peer: PeerId, frame: Bytes) {
        if let Some(known) = self.peers.get_mut(&peer) {
            known.outbox.push_back(frame);
            self.feed(peer);
        }
    }
}

/// What a block is thought to have in bytes before one has come.
const USUAL_BLOCK: usize = 4 << 10;
const PANICKED: &str = "the application panicked; see its own log";
