//! Pools of transactions, compared with peers on connecting and now and then: what gossip and fetches missed.
//!
//! [`crate::propagation::pool::reconcile`] has the algorithm; here is when, with whom and what follows. The side that dialled begins a
//! session when the streams are open; after that both begin one every [`ReconcileConfig::interval`]. What only we hold is
//! announced, what only the peer holds is served to us as if we had fetched it. Where the pools differ by too much, as
//! with a node that has just started, each side announces its best paying transactions instead.
//!
//! A session walks over the whole pool, so each of its steps runs off the network task as a [`Step`]; messages that come
//! meanwhile wait. A step carries its session's number: what comes of one whose session is over is dropped. Bounds:
//! [`MAX_STEPS`] at once, so that there are threads left for the chain's checks; [`MAX_OURS`] and [`MAX_THEIRS`] at once, one a peer and direction,
//! those counted whose last step is still at work though the peer is gone; [`MAX_WAITING`] messages of each, of [`MAX_WAITING_BYTES`];
//! [`LEAST_PAUSE`] from the end of one that a peer began to its next, on whatever connection; of a large pool fewer, so that they take [`MAX_BYTES`]. Above these a peer's request is declined, and one of ours is
//! begun soon after, unless another peer has kept us waiting for [`PATIENCE`] in all: then that one's session gives way. One listing of the pool serves all sessions
//! that begin within [`FRESH`], unless the pool has changed much; and who begins while it is made waits for it. A new one is made when the one before
//! the last is used by none, so there are two at most.

mod step;

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    hash::Hasher,
    sync::Arc,
    time::Duration,
};

use libp2p::PeerId;
use siphasher::sip::SipHasher13;

use crate::{
    chain::TransactionKey,
    debts::Debts,
    peers::Misdeed,
    platform::Instant,
    propagation::{
        ReconcileConfig,
        announce::{Announce, Columns},
        output::{Output, Part},
        pool::{
            Mempool,
            reconcile::{
                Action, Initiator, KEY_BYTES, MAX_MESSAGE, MAX_POOL, Message, Outcome, Request,
                Responder, Snapshot, Want,
            },
        },
        wire::MAX_IDS,
    },
    traffic::{Class, Cost},
};

use self::step::{Input, Pool};
pub(crate) use self::step::{Step, Stepped};

/// Sessions at once that we began, and that peers did.
const MAX_OURS: usize = 3;
const MAX_THEIRS: usize = 5;
/// Bytes that either of these take, but for what they share: one of the largest pool takes up to 12 MB.
const MAX_BYTES: usize = 16 << 20;
/// What differs takes of these in a session that we began, at most.
const DIFFERENCES: usize = 2 << 20;
/// How long a session may keep us waiting for its messages, all turns together, while others want its place.
const PATIENCE: Duration = Duration::from_secs(2);
/// Steps at work at once.
const MAX_STEPS: usize = 2;
/// Messages of a session that may wait while it is at work: as many as may be under way after one request for symbols.
const MAX_WAITING: usize = 32;
/// Their bytes, in memory: an honest peer's are the longest message at most, and short ones.
const MAX_WAITING_BYTES: usize = 512 << 10;
/// The longest frame with a message of a session: what stands before it has few bytes.
const MAX_FRAME: usize = MAX_MESSAGE + 16;
/// Least time between two sessions that one peer begins, from the end of the first.
const LEAST_PAUSE: Duration = Duration::from_secs(5);
/// Least time between two sessions that we begin with one peer, whatever the configuration says.
const LEAST_INTERVAL: Duration = Duration::from_millis(10);
/// How long a snapshot is as good as new, and the part of the pool, one in so many, that may have come since.
const FRESH: Duration = Duration::from_secs(2);
const CHANGED_PART: u64 = 64;
/// Transactions that are announced to a peer whose pool is very different.
const MOST_ANNOUNCED: usize = 16_384;

/// See the module's documentation.
pub(crate) struct Pools {
    config: ReconcileConfig,
    salts: SipHasher13,
    sessions_begun: u64,
    peers: HashMap<PeerId, Peer>,
    /// When we begin the next session with each.
    begins: BTreeSet<(Instant, PeerId)>,
    /// Who has a session.
    busy: Vec<(PeerId, Side)>,
    /// When the last sessions were over, or begun, of peers that are gone.
    left: Debts<Instant>,
    /// Sessions under way, ours and theirs, those at work included whose peers are gone.
    sessions: [usize; 2],
    /// Steps at work, and the sessions whose steps wait for it, by their numbers.
    at_work: usize,
    ready: VecDeque<(PeerId, Side, u64)>,
    /// The last listing of the pool, and what pays best by the last that was made.
    listing: Option<Listing>,
    best: Arc<[Announce]>,
}

/// The pool as it was at one moment.
struct Listing {
    /// The session for which it was made.
    number: u64,
    /// When, and what the pool had [`Mempool::inserted`] by then.
    at: Instant,
    inserted: u64,
    /// `None` while it is being made.
    snapshot: Option<Snapshot>,
}

struct Peer {
    /// When we begin the next session.
    next_at: Instant,
    /// When it began its last one, or that was over.
    last_at: Option<Instant>,
    ours: Option<Session>,
    theirs: Option<Session>,
}

/// A session, or its place while it is at work.
struct Session {
    number: u64,
    /// Whether a step of it is at work, or waits for that; its machine is there.
    at_work: bool,
    machine: Option<Machine>,
    waiting: VecDeque<Message>,
    /// What the peer began it with, if it did.
    request: Option<Request>,
    /// The number of the listing that it compares; `None`: it has not begun.
    listing: Option<u64>,
    /// Since when it is the peer's turn, where nothing is at work; and how long its turns before that have taken.
    since: Instant,
    waited: Duration,
    /// How long what the peer sends was not read here meanwhile.
    unheard: Duration,
}

#[derive(Debug)]
enum Machine {
    Initiator(Box<Initiator>),
    Responder(Box<Responder>),
}

/// Whose session it is.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Side {
    Ours,
    Theirs,
}

impl Pools {
    pub(crate) fn new(config: ReconcileConfig, seed: [u8; 16]) -> Self {
        Self {
            config,
            salts: SipHasher13::new_with_key(&seed),
            sessions_begun: 0,
            peers: HashMap::new(),
            begins: BTreeSet::new(),
            busy: Vec::new(),
            left: Debts::default(),
            sessions: [0; 2],
            at_work: 0,
            ready: VecDeque::new(),
            listing: None,
            best: Arc::default(),
        }
    }

    pub(crate) fn on_message(
        &mut self,
        from: PeerId,
        message: Message,
        pool: &Mempool,
        now: Instant,
    ) -> Vec<Output> {
        let side = match &message {
            Message::Request(request) => return self.on_request(from, *request, pool, now),
            Message::More(_) | Message::Want(_) | Message::GiveUp(_) => Side::Theirs,
            Message::Answer(_) | Message::Symbols(_) => Side::Ours,
        };
        let session = self.peers.get_mut(&from).map(|peer| peer.session(side));
        // What belongs to no session is of one that is over.
        let Some(Some(session)) = session else {
            return Vec::new();
        };
        let bytes: usize = session.waiting.iter().map(Message::weight).sum();
        if session.waiting.len() >= MAX_WAITING || bytes + message.weight() > MAX_WAITING_BYTES {
            return self.end(from, side, Some(Misdeed::TooManyMessages), now);
        }
        session.waiting.push_back(message);
        self.go_on(from, side, now);
        self.start(pool, now)
    }

    /// What came of work.
    pub(crate) fn stepped(
        &mut self,
        stepped: Stepped,
        pool: &Mempool,
        now: Instant,
    ) -> Vec<Output> {
        let Stepped {
            peer: id,
            side,
            session: number,
            machine,
            actions,
            snapshot,
        } = stepped;
        self.at_work = self.at_work.saturating_sub(1);
        let is_of_it =
            |listing: &mut Listing| listing.number == number && listing.snapshot.is_none();
        // If it came to nothing, another one is made.
        if let (Some(listing), Some(listed)) = (self.listing.take_if(is_of_it), snapshot) {
            self.best = listed.best;
            self.listing = Some(Listing {
                snapshot: Some(listed.snapshot),
                ..listing
            });
        }
        let session = self.peers.get_mut(&id);
        let session = session.and_then(|peer| peer.session(side).as_mut());
        let Some(session) = session.filter(|session| session.number == number) else {
            // It was over before; now it is gone.
            self.leave(side);
            return self.start(pool, now);
        };
        (session.at_work, session.machine, session.since) = (false, machine, now);
        let mut outputs = Vec::new();
        for action in actions {
            match action {
                Action::Send(message) => outputs.push(Output::Compare(id, message)),
                Action::Await(awaited) => outputs.push(Output::Await(id, awaited, now)),
                Action::Lacking(keys) => {
                    let told = announcements(&keys, pool);
                    outputs.extend(told.map(|told| Output::Announce(id, told)));
                }
                Action::Serve(keys) => outputs.push(Output::Serve(id, keys)),
                Action::End(outcome) => {
                    tracing::debug!(peer = %id, ?side, ?outcome, "pools were compared");
                    let misdeed = match &outcome {
                        Outcome::Failed(fault) => Some(fault.misdeed()),
                        _ => None,
                    };
                    if outcome == Outcome::TooDifferent {
                        outputs.extend(self.announce_best(id, side));
                    }
                    outputs.extend(self.end(id, side, misdeed, now));
                }
            }
        }
        self.go_on(id, side, now);
        outputs.extend(self.start(pool, now));
        outputs
    }

    /// A long frame of a peer, of so many bytes on the stream, is lost. The one long message is what a peer wants at the end of a session
    /// that it began: that session is over, and nobody pays.
    pub(crate) fn skipped(&mut self, from: PeerId, length: usize, now: Instant) -> Vec<Output> {
        let peer = self.peers.get(&from);
        let session = peer.and_then(|peer| peer.theirs.as_ref());
        let Some(session) = session.filter(|_| length <= MAX_FRAME) else {
            return Vec::new();
        };
        let farewell = session.farewell();
        let mut outputs = self.end(from, Side::Theirs, None, now);
        outputs.push(Output::Compare(from, farewell));
        outputs
    }

    fn on_request(
        &mut self,
        from: PeerId,
        request: Request,
        pool: &Mempool,
        now: Instant,
    ) -> Vec<Output> {
        let Some(peer) = self.peers.get_mut(&from) else {
            return Vec::new();
        };
        let is_soon = |last: Instant| now.duration_since(last) < LEAST_PAUSE;
        let mut outputs = Vec::new();
        if peer.theirs.is_some()
            || peer.last_at.is_some_and(is_soon)
            || !self.make_room(Side::Theirs, pool, &mut outputs, now)
        {
            outputs.push(Output::Compare(from, Responder::decline(request)));
            return outputs;
        }
        if let Some(peer) = self.peers.get_mut(&from) {
            peer.last_at = Some(now);
        }
        self.begin(from, Side::Theirs, Some(request), now);
        outputs.extend(self.start(pool, now));
        outputs
    }

    /// Tells a peer of what pays best here. If it was the peer that began, it has caused that much with a few bytes.
    fn announce_best(&self, id: PeerId, side: Side) -> Vec<Output> {
        let best = self.best.iter().cloned();
        let mut outputs: Vec<_> = best.map(|told| Output::Announce(id, told)).collect();
        if side == Side::Theirs {
            let cost = Cost {
                items: (outputs.len() * MAX_IDS) as u64,
                bytes: 0,
            };
            outputs.push(Output::Surcharge(id, Class::Transaction, cost));
        }
        outputs
    }

    /// Whether there is room for one more session. The peer that keeps us waiting longest makes some; that is no misdeed, since its
    /// way may be slow.
    fn make_room(
        &mut self,
        side: Side,
        pool: &Mempool,
        outputs: &mut Vec<Output>,
        now: Instant,
    ) -> bool {
        // Two listings are kept at most. Nobody compares an old one because somebody is silent who compares an older one.
        while self.is_stale(now)
            && let Some(late) = self.late(|_, session| !self.uses_latest(session), now)
        {
            self.let_go(late, outputs, now);
        }
        if self.is_stale(now) {
            return false;
        }
        let most = side.most(pool.len());
        let has_room = |sessions: [usize; 2]| sessions[side.place()] < most;
        if has_room(self.sessions) {
            return true;
        }
        // The pool has grown: one that ends makes none.
        if self.sessions[side.place()] > most {
            return false;
        }
        if let Some(late) = self.late(|of, _| of == side, now) {
            self.let_go(late, outputs, now);
        }
        has_room(self.sessions)
    }

    /// Of the sessions like this the one that has kept us waiting longest, and too long.
    fn late(
        &self,
        is_like_this: impl Fn(Side, &Session) -> bool,
        now: Instant,
    ) -> Option<(PeerId, Side)> {
        let waits = self.busy.iter().filter_map(|(id, side)| {
            let peer = self.peers.get(id)?;
            let session = match side {
                Side::Ours => peer.ours.as_ref()?,
                Side::Theirs => peer.theirs.as_ref()?,
            };
            let waited = session.waited(now);
            let is_late = !session.at_work && waited >= PATIENCE;
            (is_late && is_like_this(*side, session)).then_some((waited, *id, *side))
        });
        let (_, id, side) = waits.max_by_key(|(waited, ..)| *waited)?;
        Some((id, side))
    }

    /// Ends a session whose peer has kept us waiting, and tells it.
    fn let_go(&mut self, (id, side): (PeerId, Side), outputs: &mut Vec<Output>, now: Instant) {
        let session = self.peers.get_mut(&id);
        let session = session.and_then(|peer| peer.session(side).as_ref());
        let farewell = session.map(Session::farewell);
        outputs.extend(self.end(id, side, None, now));
        outputs.extend(farewell.map(|farewell| Output::Compare(id, farewell)));
    }

    fn begin(&mut self, id: PeerId, side: Side, request: Option<Request>, now: Instant) {
        self.sessions_begun += 1;
        self.sessions[side.place()] += 1;
        self.busy.push((id, side));
        if let Some(peer) = self.peers.get_mut(&id) {
            *peer.session(side) = Some(Session {
                number: self.sessions_begun,
                at_work: true,
                machine: None,
                waiting: VecDeque::new(),
                request,
                listing: None,
                since: now,
                waited: Duration::ZERO,
                unheard: Duration::ZERO,
            });
        }
        self.ready.push_back((id, side, self.sessions_begun));
    }

    /// The pool for a session that begins now, and the number of its listing. `None`: it is being listed.
    fn pool_for(&mut self, number: u64, pool: &Mempool, now: Instant) -> Option<(Pool, u64)> {
        if let Some(listing) = &self.listing {
            let snapshot = listing.snapshot.as_ref()?;
            if listing.is_fresh(pool, now) || self.uses_another_than(listing.number) {
                return Some((Pool::Taken(snapshot.clone()), listing.number));
            }
        }
        self.listing = Some(Listing {
            number,
            at: now,
            inserted: pool.inserted(),
            snapshot: None,
        });
        let unwanted = pool.unwanted().keys(now);
        let pool = Pool::Listed(pool.pieces(), unwanted, self.config.min_age, now);
        Some((pool, number))
    }

    /// Whether no other listing can be made, and the latest is older than what is young enough to be left out of one.
    fn is_stale(&self, now: Instant) -> bool {
        let most = self.config.min_age.max(FRESH);
        let is_old = |at: Instant| now.saturating_duration_since(at) > most;
        let listing = self.listing.as_ref();
        listing.is_some_and(|latest| is_old(latest.at) && self.uses_another_than(latest.number))
    }

    /// Whether a session compares the latest listing, or none yet.
    fn uses_latest(&self, session: &Session) -> bool {
        let latest = self.listing.as_ref().map(|listing| listing.number);
        session.listing.is_none() || session.listing == latest
    }

    /// Whether a session compares another listing than this.
    fn uses_another_than(&self, number: u64) -> bool {
        let peers = self.busy.iter().filter_map(|(id, _)| self.peers.get(id));
        let mut sessions = peers.flat_map(|peer| [&peer.ours, &peer.theirs]).flatten();
        sessions.any(|session| session.listing.is_some_and(|other| other != number))
    }

    /// Has a session look at what waits for it.
    fn go_on(&mut self, id: PeerId, side: Side, now: Instant) {
        let session = self.peers.get_mut(&id);
        if let Some(session) = session.and_then(|peer| peer.session(side).as_mut())
            && !session.at_work
            && !session.waiting.is_empty()
        {
            session.waited = session.waited(now);
            session.at_work = true;
            self.ready.push_back((id, side, session.number));
        }
    }

    /// The steps that may be at work now.
    fn start(&mut self, pool: &Mempool, now: Instant) -> Vec<Output> {
        let mut outputs = Vec::new();
        for (id, side, number) in std::mem::take(&mut self.ready) {
            if self.at_work >= MAX_STEPS {
                self.ready.push_back((id, side, number));
                continue;
            }
            let session = self.peers.get_mut(&id);
            let session = session.and_then(|peer| peer.session(side).as_mut());
            let Some(session) = session.filter(|session| session.number == number) else {
                // It was over before it was at work.
                self.leave(side);
                continue;
            };
            let request = session.request;
            let input = match session.machine.take() {
                Some(machine) => {
                    let message = session.waiting.pop_front();
                    message.map(|message| Input::Message(machine, message))
                }
                None => self.pool_for(number, pool, now).map(|(pool, listing)| {
                    self.uses(id, side, listing);
                    Input::Begin(pool, self.salt(number), request, now)
                }),
            };
            let Some(input) = input else {
                self.ready.push_back((id, side, number));
                continue;
            };
            self.at_work += 1;
            outputs.push(Output::Work(Step {
                peer: id,
                side,
                session: number,
                input,
            }));
        }
        outputs
    }

    /// A session compares this listing.
    fn uses(&mut self, id: PeerId, side: Side, listing: u64) {
        let session = self.peers.get_mut(&id);
        if let Some(session) = session.and_then(|peer| peer.session(side).as_mut()) {
            session.listing = Some(listing);
        }
    }

    /// Nobody else knows it beforehand.
    fn salt(&self, number: u64) -> u64 {
        let mut salt = self.salts;
        salt.write_u64(number);
        salt.finish()
    }

    fn end(
        &mut self,
        id: PeerId,
        side: Side,
        misdeed: Option<Misdeed>,
        now: Instant,
    ) -> Vec<Output> {
        let was_there = self.close(id, side);
        if let Some(peer) = self.peers.get_mut(&id)
            && was_there
            && side == Side::Theirs
        {
            peer.last_at = Some(now);
        }
        let misdeed = misdeed.map(|misdeed| Output::Misdeed(id, misdeed));
        misdeed.into_iter().collect()
    }

    /// A session is over, if there is one.
    fn close(&mut self, id: PeerId, side: Side) -> bool {
        self.busy.retain(|busy| *busy != (id, side));
        let session = self.peers.get_mut(&id);
        let session = session.and_then(|peer| peer.session(side).take());
        // One at work is counted until that has ended.
        if session.as_ref().is_some_and(|session| !session.at_work) {
            self.leave(side);
        }
        session.is_some()
    }

    /// A session is over, and nothing of it is at work.
    fn leave(&mut self, side: Side) {
        let sessions = &mut self.sessions[side.place()];
        *sessions = sessions.saturating_sub(1);
    }

    /// By when a session has to be over; one at work, or that waits for it, is not ended.
    fn deadline(&self, id: &PeerId, side: Side) -> Option<Instant> {
        let peer = self.peers.get(id)?;
        let session = match side {
            Side::Ours => peer.ours.as_ref(),
            Side::Theirs => peer.theirs.as_ref(),
        };
        let session = session.filter(|session| !session.at_work)?;
        let deadline = match session.machine.as_ref()? {
            Machine::Initiator(machine) => machine.next_deadline(),
            Machine::Responder(machine) => machine.next_deadline(),
        };
        Some(deadline? + session.unheard)
    }
}

impl Part for Pools {
    fn joined(&mut self, peer: PeerId, outbound: bool, now: Instant) -> Vec<Output> {
        let pause = if outbound {
            Duration::ZERO
        } else {
            self.config.interval
        };
        self.gone(peer, now);
        self.begins.insert((now + pause, peer));
        self.peers.insert(
            peer,
            Peer {
                next_at: now + pause,
                last_at: self.left.take(&peer),
                ours: None,
                theirs: None,
            },
        );
        Vec::new()
    }

    /// Sessions that were under way are over, and nobody is blamed; ours begins anew when the peer takes it.
    fn moved(&mut self, id: PeerId, _: bool, now: Instant) -> Vec<Output> {
        let was_busy = self.close(id, Side::Ours);
        self.close(id, Side::Theirs);
        if let Some(peer) = self.peers.get_mut(&id).filter(|_| was_busy) {
            self.begins.remove(&(peer.next_at, id));
            peer.next_at = now + LEAST_PAUSE;
            self.begins.insert((peer.next_at, id));
        }
        Vec::new()
    }

    fn gone(&mut self, peer: PeerId, now: Instant) -> Vec<Output> {
        for side in [Side::Ours, Side::Theirs] {
            self.end(peer, side, None, now);
        }
        let Some(gone) = self.peers.remove(&peer) else {
            return Vec::new();
        };
        self.begins.remove(&(gone.next_at, peer));
        if let Some(last) = gone.last_at {
            self.left.keep(peer, last, last + LEAST_PAUSE, now);
        }
        Vec::new()
    }

    fn unheard(&mut self, peer: &PeerId, time: Duration, _: Instant) {
        let peer = self.peers.get_mut(peer).into_iter();
        for session in peer.flat_map(|peer| peer.ours.iter_mut().chain(&mut peer.theirs)) {
            session.unheard = session.unheard.saturating_add(time);
        }
    }

    fn on_time(&mut self, pool: &Mempool, now: Instant) -> Vec<Output> {
        let mut outputs = Vec::new();
        for (id, side) in self.busy.clone() {
            if self.deadline(&id, side).is_some_and(|at| at <= now) {
                outputs.extend(self.end(id, side, Some(Misdeed::NoAnswer), now));
            }
        }
        while let Some((at, id)) = self.begins.first().copied()
            && at <= now
        {
            self.begins.pop_first();
            // Nobody gives way to a peer that has a session of ours yet.
            let is_free = |peer: &Peer| peer.ours.is_none();
            let is_free = self.peers.get(&id).is_some_and(is_free);
            let full = is_free && !self.make_room(Side::Ours, pool, &mut outputs, now);
            let interval = self.config.interval.max(LEAST_INTERVAL);
            let pause = if full {
                interval.min(LEAST_PAUSE)
            } else {
                interval
            };
            let next_at = now + pause;
            self.begins.insert((next_at, id));
            if let Some(peer) = self.peers.get_mut(&id) {
                peer.next_at = next_at;
                if is_free && !full {
                    self.begin(id, Side::Ours, None, now);
                }
            }
        }
        outputs.extend(self.start(pool, now));
        outputs
    }

    fn next_deadline(&mut self) -> Option<Instant> {
        let begins = self.begins.first().map(|(at, _)| *at);
        let ends = self.busy.iter();
        let ends = ends.filter_map(|(id, side)| self.deadline(id, *side));
        ends.chain(begins).min()
    }
}

impl Side {
    fn place(self) -> usize {
        match self {
            Self::Ours => 0,
            Self::Theirs => 1,
        }
    }

    /// How many sessions there may be at once where the pool has so many transactions.
    fn most(self, pool: usize) -> usize {
        let (most, differences) = match self {
            Self::Ours => (MAX_OURS, DIFFERENCES),
            Self::Theirs => (MAX_THEIRS, 0),
        };
        let each = pool.min(MAX_POOL as usize) * KEY_BYTES + differences;
        (MAX_BYTES / each.max(1)).clamp(1, most)
    }
}

impl Listing {
    /// Whether it is as good as new.
    fn is_fresh(&self, pool: &Mempool, now: Instant) -> bool {
        let news = pool.inserted() - self.inserted;
        now.saturating_duration_since(self.at) < FRESH && news * CHANGED_PART <= pool.len() as u64
    }
}

impl Session {
    /// How long the peer has kept us waiting, all turns together.
    fn waited(&self, now: Instant) -> Duration {
        let turn = now.saturating_duration_since(self.since);
        self.waited + if self.at_work { Duration::ZERO } else { turn }
    }

    /// What ends it early, at the peer too: one of theirs is declined, and in one of ours nothing is wanted.
    fn farewell(&self) -> Message {
        match self.request {
            Some(request) => Responder::decline(request),
            None => Message::Want(Want::default()),
        }
    }
}

/// Transactions as a peer is told of them; they may have left the pool meanwhile.
fn announcements(keys: &[TransactionKey], pool: &Mempool) -> impl Iterator<Item = Announce> {
    let announcements = keys.chunks(MAX_IDS).map(|keys| {
        let pooled = keys.iter().filter_map(|key| pool.get(key));
        Announce::from(pooled.collect::<Columns>())
    });
    announcements.filter(|told| !told.ids.is_empty())
}

impl Peer {
    fn session(&mut self, side: Side) -> &mut Option<Session> {
        match side {
            Side::Ours => &mut self.ours,
            Side::Theirs => &mut self.theirs,
        }
    }
}

#[cfg(test)]
mod tests;
