//! Pools of transactions, compared with peers on connecting and now and then: what gossip and fetches missed.
//!
//! [`crate::propagation::pool::reconcile`] has the algorithm; here is when, with whom and what follows. The side that dialled begins a
//! session when the streams are open; after that both begin one every [`ReconcileConfig::interval`]. What only we hold is
//! announced, what only the peer holds is served to us as if we had fetched it. Where the pools differ by too much, as
//! with a node that has just started, each side announces its best paying transactions instead.
//!
//! A session walks over the whole pool, so each of its steps runs off the network task as a [`Step`]; messages that come
//! meanwhile wait. Bounds: [`MAX_SESSIONS`] at once, one a peer and direction; [`MAX_WAITING`] messages of each;
//! [`LEAST_PAUSE`] between two that a peer begins; above these a peer's request is declined. One [`Snapshot`] serves all sessions
//! that begin within [`FRESH`], unless the pool has changed much.

use std::{
    collections::{HashMap, VecDeque},
    hash::Hasher,
    time::Duration,
};

use libp2p::PeerId;
use siphasher::sip::SipHasher13;

use crate::{
    chain::TransactionKey,
    peers::Misdeed,
    platform::Instant,
    propagation::{
        ReconcileConfig,
        pool::{
            Mempool, Pooled,
            reconcile::{
                Action, Initiator, MAX_POOL, Message, Outcome, Request, Responder, Snapshot,
            },
        },
    },
};

/// Sessions at once, of both directions: each takes up to 10 MB.
const MAX_SESSIONS: usize = 8;
/// Messages of a session that may wait while it is at work: as many as may be under way after one request for symbols.
const MAX_WAITING: usize = 32;
/// Least time between two sessions that one peer begins.
const LEAST_PAUSE: Duration = Duration::from_secs(5);
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
    /// One that was made lately: when, and what the pool had [`Mempool::inserted`] by then.
    snapshot: Option<(Instant, u64, Snapshot)>,
    /// The same of the keys that were listed last, to make one.
    listed: Option<(Instant, u64)>,
}

struct Peer {
    /// When we begin the next session.
    next_at: Instant,
    /// When it began its last one.
    begun_at: Option<Instant>,
    ours: Option<Session>,
    theirs: Option<Session>,
}

/// A session, or its place while it is at work.
struct Session {
    /// `None` while it is at work.
    machine: Option<Machine>,
    waiting: VecDeque<Message>,
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

/// Work on a session: slow, done off the network task.
#[derive(Debug)]
pub(crate) struct Step {
    peer: PeerId,
    side: Side,
    input: Input,
}

#[derive(Debug)]
enum Input {
    Begin(Pool, u64, Option<Request>, Instant),
    Message(Machine, Message),
}

/// The keys that are compared.
#[derive(Debug)]
enum Pool {
    Taken(Snapshot),
    Listed(Vec<TransactionKey>, Vec<TransactionKey>),
}

/// What came of a [`Step`].
#[derive(Debug)]
pub(crate) struct Stepped {
    peer: PeerId,
    side: Side,
    machine: Option<Machine>,
    actions: Vec<Action>,
    /// One that was made for it.
    snapshot: Option<Snapshot>,
}

/// What is to be done.
#[derive(Debug)]
pub(crate) enum Output {
    Send(PeerId, Message),
    /// Tell a peer of these transactions.
    Announce(PeerId, Vec<TransactionKey>),
    /// Send these to a peer as if it had asked.
    Serve(PeerId, Vec<TransactionKey>),
    Work(Step),
    Misdeed(PeerId, Misdeed),
}

impl Step {
    /// Takes the session on. May take long.
    pub(crate) fn run(self) -> Stepped {
        let Self { peer, side, input } = self;
        let (machine, actions, snapshot) = match input {
            Input::Begin(pool, salt, request, now) => begin(pool, salt, request, now),
            Input::Message(mut machine, message) => {
                let actions = match &mut machine {
                    Machine::Initiator(session) => session.on_message(message),
                    Machine::Responder(session) => session.on_message(message),
                };
                (Some(machine), actions, None)
            }
        };
        Stepped {
            peer,
            side,
            machine,
            actions,
            snapshot,
        }
    }
}

fn begin(
    pool: Pool,
    salt: u64,
    request: Option<Request>,
    now: Instant,
) -> (Option<Machine>, Vec<Action>, Option<Snapshot>) {
    let (snapshot, made) = match pool {
        Pool::Taken(snapshot) => (snapshot, false),
        // Both lists are within the limit.
        Pool::Listed(settled, young) => match Snapshot::new(settled, young) {
            Ok(snapshot) => (snapshot, true),
            Err(_) => return (None, vec![Action::End(Outcome::TooDifferent)], None),
        },
    };
    let kept = made.then(|| snapshot.clone());
    match request {
        None => {
            let (session, request) = Initiator::new(snapshot, salt, now);
            let machine = Machine::Initiator(Box::new(session));
            (Some(machine), vec![Action::Send(request)], kept)
        }
        Some(request) => {
            let (session, actions) = Responder::new(snapshot, salt, request, now);
            (Some(Machine::Responder(Box::new(session))), actions, kept)
        }
    }
}

impl Pools {
    pub(crate) fn new(config: ReconcileConfig, seed: [u8; 16]) -> Self {
        Self {
            config,
            salts: SipHasher13::new_with_key(&seed),
            sessions_begun: 0,
            peers: HashMap::new(),
            snapshot: None,
            listed: None,
        }
    }

    pub(crate) fn joined(&mut self, peer: PeerId, outbound: bool, now: Instant) {
        let pause = if outbound {
            Duration::ZERO
        } else {
            self.config.interval
        };
        self.peers.insert(
            peer,
            Peer {
                next_at: now + pause,
                begun_at: None,
                ours: None,
                theirs: None,
            },
        );
    }

    pub(crate) fn gone(&mut self, peer: &PeerId) {
        self.peers.remove(peer);
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
        if session.waiting.len() >= MAX_WAITING {
            return self.end(from, side, Some(Misdeed::TooManyMessages));
        }
        session.waiting.push_back(message);
        self.go_on(from, side).into_iter().collect()
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
            machine,
            actions,
            snapshot,
        } = stepped;
        if let Some(snapshot) = snapshot {
            let (at, inserted) = self.listed.unwrap_or((now, pool.inserted()));
            self.snapshot = Some((at, inserted, snapshot));
        }
        let Some(Some(session)) = self.peers.get_mut(&id).map(|peer| peer.session(side)) else {
            return Vec::new();
        };
        session.machine = machine;
        let mut outputs = Vec::new();
        for action in actions {
            match action {
                Action::Send(message) => outputs.push(Output::Send(id, message)),
                Action::Lacking(keys) => outputs.push(Output::Announce(id, keys)),
                Action::Serve(keys) => outputs.push(Output::Serve(id, keys)),
                Action::End(outcome) => {
                    tracing::debug!(peer = %id, ?side, ?outcome, "pools were compared");
                    let misdeed = match &outcome {
                        Outcome::Failed(fault) => Some(fault.misdeed()),
                        _ => None,
                    };
                    if outcome == Outcome::TooDifferent {
                        let best = pool.older_than(Duration::ZERO, now).take(MOST_ANNOUNCED);
                        outputs.push(Output::Announce(id, best.map(|one| one.key).collect()));
                    }
                    outputs.extend(self.end(id, side, misdeed));
                }
            }
        }
        outputs.extend(self.go_on(id, side));
        outputs
    }

    pub(crate) fn on_time(&mut self, pool: &Mempool, now: Instant) -> Vec<Output> {
        let mut outputs = Vec::new();
        for id in self.peers.keys().copied().collect::<Vec<_>>() {
            for side in [Side::Ours, Side::Theirs] {
                if self.deadline(&id, side).is_some_and(|at| at <= now) {
                    outputs.extend(self.end(id, side, Some(Misdeed::NoAnswer)));
                }
            }
            let full = self.sessions() >= MAX_SESSIONS;
            let Some(peer) = self.peers.get_mut(&id).filter(|peer| peer.next_at <= now) else {
                continue;
            };
            peer.next_at = now + self.config.interval;
            if !full && peer.ours.is_none() {
                outputs.push(self.begin(id, Side::Ours, None, pool, now));
            }
        }
        outputs
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let begins = self.peers.values().map(|peer| peer.next_at);
        let both = [Side::Ours, Side::Theirs];
        let ends = self.peers.keys();
        let ends = ends.flat_map(|id| both.map(|side| self.deadline(id, side)));
        begins.chain(ends.flatten()).min()
    }

    fn on_request(
        &mut self,
        from: PeerId,
        request: Request,
        pool: &Mempool,
        now: Instant,
    ) -> Vec<Output> {
        let full = self.sessions() >= MAX_SESSIONS;
        let Some(peer) = self.peers.get_mut(&from) else {
            return Vec::new();
        };
        let is_soon = |begun: Instant| now.duration_since(begun) < LEAST_PAUSE;
        if full || peer.theirs.is_some() || peer.begun_at.is_some_and(is_soon) {
            return vec![Output::Send(from, Responder::decline(request))];
        }
        peer.begun_at = Some(now);
        vec![self.begin(from, Side::Theirs, Some(request), pool, now)]
    }

    fn begin(
        &mut self,
        id: PeerId,
        side: Side,
        request: Option<Request>,
        pool: &Mempool,
        now: Instant,
    ) -> Output {
        self.sessions_begun += 1;
        let mut salt = self.salts;
        salt.write_u64(self.sessions_begun);
        if let Some(peer) = self.peers.get_mut(&id) {
            *peer.session(side) = Some(Session {
                machine: None,
                waiting: VecDeque::new(),
            });
        }
        let is_fresh = |at: Instant, inserted: u64| {
            let news = pool.inserted() - inserted;
            now.duration_since(at) < FRESH && news * CHANGED_PART <= pool.len() as u64
        };
        let pool = match &self.snapshot {
            Some((at, inserted, snapshot)) if is_fresh(*at, *inserted) => {
                Pool::Taken(snapshot.clone())
            }
            _ => {
                self.listed = Some((now, pool.inserted()));
                self.list(pool, now)
            }
        };
        Output::Work(Step {
            peer: id,
            side,
            input: Input::Begin(pool, salt.finish(), request, now),
        })
    }

    /// The keys in the pool, those that are too young to be compared apart.
    fn list(&self, pool: &Mempool, now: Instant) -> Pool {
        let (most, age) = (MAX_POOL as usize, self.config.min_age);
        let key = |pooled: &Pooled| pooled.key;
        let settled = pool.older_than(age, now).take(most).map(key);
        let is_young = |pooled: &&Pooled| now.saturating_duration_since(pooled.at) < age;
        let young = pool.iter().filter(is_young).take(most).map(key);
        Pool::Listed(settled.collect(), young.collect())
    }

    /// Has a session look at what waits for it.
    fn go_on(&mut self, id: PeerId, side: Side) -> Option<Output> {
        let session = self.peers.get_mut(&id)?.session(side).as_mut()?;
        session.machine.as_ref()?;
        let message = session.waiting.pop_front()?;
        let machine = session.machine.take()?;
        Some(Output::Work(Step {
            peer: id,
            side,
            input: Input::Message(machine, message),
        }))
    }

    fn end(&mut self, id: PeerId, side: Side, misdeed: Option<Misdeed>) -> Vec<Output> {
        if let Some(peer) = self.peers.get_mut(&id) {
            *peer.session(side) = None;
        }
        let misdeed = misdeed.map(|misdeed| Output::Misdeed(id, misdeed));
        misdeed.into_iter().collect()
    }

    /// By when a session has to be over; one at work is not ended.
    fn deadline(&self, id: &PeerId, side: Side) -> Option<Instant> {
        let peer = self.peers.get(id)?;
        let session = match side {
            Side::Ours => peer.ours.as_ref(),
            Side::Theirs => peer.theirs.as_ref(),
        };
        match session?.machine.as_ref()? {
            Machine::Initiator(session) => session.next_deadline(),
            Machine::Responder(session) => session.next_deadline(),
        }
    }

    fn sessions(&self) -> usize {
        let of =
            |peer: &Peer| usize::from(peer.ours.is_some()) + usize::from(peer.theirs.is_some());
        self.peers.values().map(of).sum()
    }
}

impl Peer {
    fn session(&mut self, side: Side) -> &mut Option<Session> {
        match side {
            Side::Ours => &mut self.ours,
            Side::Theirs => &mut self.theirs,
        }
    }
}
