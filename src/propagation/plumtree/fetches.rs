//! Announced items that are not here yet, and whom each is asked of.
//!
//! An announcement waits a moment, since the item is probably being pushed by another peer; how long, the node learns from how long
//! pushes take (`fetches/patience.rs`). Then it is asked of one announcer at a time, of each peer the best paying first; who says no, or nothing by the deadline, is followed by
//! another announcer. How much a peer is asked for at once grows with what it answers, from little on, and shrinks where pushes come before its answers, as TCP's window does with what is
//! acknowledged and lost (RFC 5681): so where everything comes late under overload, little is fetched beside it, and where pushes are withheld, soon everything. Who is slow but goes on answering has more time ([`MOST_TIMES`]): its link may be thin, or held to a budget. So has whose answers
//! this node does not read: it pays for nothing before it was heard for the whole of its time. After Bitcoin Core's `txrequest`.
//!
//! Bounds: `max_announced` claims of one peer and [`MAX_CLAIMS`] in all, [`MAX_ANNOUNCERS`] of one id, and of one peer
//! [`LEAST_WINDOW`] to `max_requested_bytes` asked for at once; and the times of all ids that were announced within the longest patience, and of all that were asked for
//! within [`MOST_TIMES`] timeouts, whether they came meanwhile or not: the limits of reading hold these. Further announcements are not noted; reconciliation finds what transactions they were about. Where all
//! there is room for is taken, a peer that has less than its share of it takes from the one that has most, so that few cannot
//! keep the others' announcements out. Nothing here but that walks over all peers, and nothing over all that is wanted.

mod patience;

use std::{
    collections::{BinaryHeap, HashMap, HashSet, VecDeque},
    time::Duration,
};

use libp2p::PeerId;

use self::patience::Patience;
use crate::{
    chain::ShortId, debts::Debts, keyed::Keyed, order, platform::Instant,
    propagation::wire::MAX_IDS,
};

/// Announcements that are noted at once, of all peers.
pub(super) const MAX_CLAIMS: usize = 1 << 18;
/// What a peer that has too many of them loses at once.
const TAKEN: usize = 64;
/// How many times the configured timeout a peer has to answer while other answers of it arrive, or none is read.
const MOST_TIMES: u32 = 5;
/// Peers that are remembered as having one id.
const MAX_ANNOUNCERS: usize = 128;
/// Bytes of a frame beside the one item in there, at most.
const MOST_HEAD: usize = 32;
/// Bytes that a peer may be asked for at once that has not shown yet that it is needed; an item counts as so many at least, whatever is said
/// of its size.
const LEAST_WINDOW: usize = 16 << 10;
/// How many times the configured patience longer it is waited where this node is late itself; and what is no lateness, since timers are no finer.
const MOST_GRACE: u32 = 8;
const GRAIN: Duration = Duration::from_millis(16);
const LEAST_SIZE: usize = 256;

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Fetches {
    limits: Limits,
    wanted: HashMap<ShortId, Wanted, Keyed>,
    /// All that they hold.
    claims: usize,
    keyed: Keyed,
    patience: Patience,
    /// Since when this node comes late to its own deadlines, and until when it asks for nothing, since it has not read yet what came meanwhile.
    late: Option<(Instant, Instant)>,
    /// When ids were announced, in this order.
    waiting: VecDeque<(Instant, ShortId)>,
    /// Whether the next that is announced over a link that does not push is asked for after the least patience; and what is, by when.
    probes: bool,
    probed: VecDeque<(Instant, ShortId)>,
    /// In the order of their deadlines.
    requested: VecDeque<(Instant, Request)>,
    peers: HashMap<PeerId, Announcer, Keyed>,
    /// When those who are gone were last blamed.
    gone: Debts<Instant>,
    /// Peers that may be asked for something, for whoever drives this.
    touched: HashSet<PeerId, Keyed>,
}

/// Set by the configuration.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// How long an announced item may still come by itself.
    pub(super) patience: Duration,
    /// How long a peer has to answer.
    pub(super) timeout: Duration,
    pub(super) max_announced: usize,
    pub(super) max_claims: usize,
    pub(super) max_requested_bytes: usize,
}

/// What an announcer says of an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Claim {
    pub(super) size: u32,
    pub(super) fee_rate: u64,
}

/// What was known of an item that is here now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Arrived {
    /// What the sender had said of it, and whether it was asked for it.
    pub(super) claim: Option<Claim>,
    pub(super) asked: bool,
    /// When it was announced first.
    pub(super) since: Instant,
    /// The places of those who announced it.
    pub(super) known: u128,
    /// Whether it was here before, and there was no room to check it.
    pub(super) returned: bool,
}

#[derive(Debug)]
struct Wanted {
    since: Instant,
    /// The places of those who announced it, asked in vain or not: they have it.
    known: u128,
    /// Whether it was here before, and there was no room to check it.
    returned: bool,
    /// Who has it; those asked in vain are left out.
    claims: Vec<(PeerId, Claim)>,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Waiting,
    /// In the heaps of all who have it: whoever may be asked first is.
    Ready,
    /// Asked of this peer, then.
    Requested(PeerId, Instant),
}

/// What is asked of a peer.
#[derive(Clone, Copy, Debug)]
struct Request {
    id: ShortId,
    peer: PeerId,
    asked: Instant,
    /// How long what the peer sends had not been read before.
    unheard: Duration,
}

#[derive(Debug)]
struct Announcer {
    /// What it claims to have, of what is wanted.
    claims: HashSet<ShortId, Keyed>,
    /// What it is to be asked for, the best paying on top; some may have come another way meanwhile.
    ready: BinaryHeap<(u64, ShortId)>,
    requested_bytes: usize,
    /// Below so many it is asked for more.
    window: usize,
    /// When it last sent what it was asked for.
    answered: Option<Instant>,
    /// How long what it sends was not read here.
    unheard: Duration,
    /// When it was last blamed for an answer that did not come, which it does not shed by leaving.
    blamed: Option<Instant>,
    /// What it was asked for until then may be lost.
    excused: Option<Instant>,
}

impl Fetches {
    pub(super) fn new(limits: Limits, keyed: Keyed) -> Self {
        Self {
            limits,
            wanted: HashMap::with_hasher(keyed.clone()),
            claims: 0,
            patience: Patience::new(limits.patience),
            late: None,
            waiting: VecDeque::new(),
            probes: false,
            probed: VecDeque::new(),
            requested: VecDeque::new(),
            peers: HashMap::with_hasher(keyed.clone()),
            gone: Debts::default(),
            touched: HashSet::with_hasher(keyed.clone()),
            keyed,
        }
    }

    /// There is something for this peer that no input of its own brings.
    pub(super) fn touch(&mut self, peer: PeerId) {
        self.touched.insert(peer);
    }

    /// Peers that may be asked for something, since this was last called: who owes least first, so that who is slow to answer keeps waiting as little
    /// as may be.
    pub(super) fn touched(&mut self) -> impl Iterator<Item = PeerId> {
        let owes = |peer: &PeerId| self.peers.get(peer).map_or(0, |a| a.requested_bytes);
        let touched = self.touched.drain();
        let mut touched: Vec<_> = touched.map(|peer| (owes(&peer), peer)).collect();
        order::sort_by_key(&mut touched, |(owes, _)| *owes);
        touched.into_iter().map(|(_, peer)| peer)
    }

    /// Notes what a peer has, as far as there is room: its place's bit, and whether its link pushes, so that claims of others do not keep out its own: of an id
    /// that too many have it takes the place of the last one that nothing is asked of, whose link may push too.
    /// How many of these are noted now.
    pub(super) fn announced(
        &mut self,
        (peer, place, pushes): (PeerId, u128, bool),
        claims: impl Iterator<Item = (ShortId, Claim)>,
        now: Instant,
    ) -> u64 {
        let mut noted = 0;
        let mut claims = claims.peekable();
        if claims.peek().is_none() {
            return noted;
        }
        // It is looked up once for all of them.
        let mut announcer = self.take_out(&peer);
        for (id, claim) in claims {
            if announcer.claims.len() >= self.limits.max_announced || announcer.claims.contains(&id)
            {
                continue;
            }
            if self.claims >= self.limits.max_claims {
                if announcer.claims.len() >= self.limits.max_claims / (self.peers.len() + 1) {
                    continue;
                }
                self.peers.insert(peer, announcer);
                self.take_from_most();
                announcer = self.take_out(&peer);
                if self.claims >= self.limits.max_claims {
                    continue;
                }
            }
            let wanted = self.wanted.entry(id).or_insert_with(|| {
                self.waiting.push_back((now, id));
                if !pushes && std::mem::take(&mut self.probes) {
                    self.probed.push_back((now + self.limits.patience, id));
                }
                Wanted {
                    since: now,
                    known: 0,
                    returned: false,
                    claims: Vec::new(),
                    state: State::Waiting,
                }
            });
            wanted.known |= place;
            if wanted.claims.len() >= MAX_ANNOUNCERS
                && pushes
                && let Some(last) = wanted.last_unasked()
            {
                let (other, _) = wanted.claims.swap_remove(last);
                self.claims -= 1;
                if let Some(other) = self.peers.get_mut(&other) {
                    other.claims.remove(&id);
                }
            }
            if wanted.claims.len() < MAX_ANNOUNCERS {
                wanted.claims.push((peer, claim));
                announcer.claims.insert(id);
                if wanted.state == State::Ready {
                    announcer.ready.push((claim.fee_rate, id));
                    self.touched.insert(peer);
                }
                self.claims += 1;
                noted += 1;
            }
        }
        let is_crowded = announcer.ready.len() > 2 * self.limits.max_announced;
        self.peers.insert(peer, announcer);
        if is_crowded {
            self.clear(&peer);
        }
        noted
    }

    /// There was no room to check what this peer has sent: as if it had announced it, it is to be fetched again.
    pub(super) fn returned(
        &mut self,
        by: (PeerId, u128, bool),
        (id, claim): (ShortId, Claim),
        now: Instant,
    ) {
        self.announced(by, std::iter::once((id, claim)), now);
        if let Some(wanted) = self.wanted.get_mut(&id) {
            wanted.returned = true;
        }
    }

    /// A peer's entry, to be put back.
    fn take_out(&mut self, peer: &PeerId) -> Announcer {
        self.peers
            .remove(peer)
            .unwrap_or_else(|| Announcer::new(self.gone.take(peer), self.keyed.clone()))
    }

    /// Who has most claims loses some.
    fn take_from_most(&mut self) {
        let most = self.peers.iter().max_by_key(|(_, peer)| peer.claims.len());
        let Some((id, most)) = most.map(|(id, peer)| (*id, peer)) else {
            return;
        };
        let taken: Vec<_> = most.claims.iter().take(TAKEN).copied().collect();
        for claim in taken {
            self.ask_another(claim, id);
        }
    }

    /// An item is here, whoever sent it; `None` where nobody had announced it.
    pub(super) fn arrived(&mut self, id: ShortId, from: &PeerId, now: Instant) -> Option<Arrived> {
        let Wanted {
            since,
            known,
            returned,
            claims,
            state,
        } = self.wanted.remove(&id)?;
        let mut arrived = Arrived {
            claim: None,
            asked: false,
            since,
            known,
            returned,
        };
        for (peer, claim) in claims {
            let asked = state.asks(&peer);
            self.release(&peer, id, claim, asked);
            let is_sender = peer == *from;
            if is_sender {
                (arrived.claim, arrived.asked) = (Some(claim), asked);
            }
            let Some(announcer) = self.peers.get_mut(&peer).filter(|_| asked) else {
                continue;
            };
            if is_sender {
                announcer.answered = Some(now);
                // Twice as much for all that it was asked for.
                let most = self.limits.max_requested_bytes;
                announcer.window = announcer.window.saturating_add(size(claim)).min(most);
            } else {
                // It need not have been asked.
                announcer.window = (announcer.window / 2).max(LEAST_WINDOW);
            }
        }
        Some(arrived)
    }

    /// The places of those who announced an item that is not here.
    pub(super) fn known(&self, id: &ShortId) -> u128 {
        self.wanted.get(id).map_or(0, |wanted| wanted.known)
    }

    /// These places are free for other peers.
    pub(super) fn forget(&mut self, places: u128) {
        let wanted = self.wanted.values_mut();
        wanted.for_each(|wanted| wanted.known &= !places);
    }

    /// How long an announced item may still come by itself.
    pub(super) fn patience(&self, now: Instant) -> Duration {
        self.patience.at(now)
    }

    /// The next item that is announced over a link that does not push is asked for before its push has had its time, to see who is ahead of it.
    pub(super) fn probe(&mut self) {
        self.probes = true;
    }

    /// An accepted item was pushed so long after it had been announced first, or before that.
    pub(super) fn pushed(&mut self, after: Duration, now: Instant) {
        self.patience.saw(after, now);
    }

    /// A peer does not have what it has announced. Whether it is still asked for it. An honest one may have had it: under overload
    /// things leave a log sooner than they are fetched.
    pub(super) fn missing(&mut self, id: ShortId, peer: PeerId) -> bool {
        let wanted = self.wanted.get(&id);
        if wanted.is_none_or(|wanted| !wanted.state.asks(&peer)) {
            return false;
        }
        self.ask_another(id, peer);
        true
    }

    /// What to ask this peer for now, the best paying first.
    pub(super) fn take(&mut self, peer: PeerId, now: Instant) -> Vec<ShortId> {
        let (mut ids, most) = (Vec::new(), self.limits.max_requested_bytes);
        let Some(announcer) = self.peers.get_mut(&peer) else {
            return ids;
        };
        while ids.len() < MAX_IDS && announcer.requested_bytes < announcer.window.min(most) {
            let Some((_, id)) = announcer.ready.pop() else {
                break;
            };
            let Some(wanted) = self.wanted.get_mut(&id) else {
                continue;
            };
            let claim = wanted.claims.iter().find(|(other, _)| *other == peer);
            if let (State::Ready, Some((_, claim))) = (wanted.state, claim) {
                announcer.requested_bytes += size(*claim);
                wanted.state = State::Requested(peer, now);
                let request = Request {
                    id,
                    peer,
                    asked: now,
                    unheard: announcer.unheard,
                };
                self.requested
                    .push_back((now + self.limits.timeout, request));
                ids.push(id);
            }
        }
        ids
    }

    /// Whether there is something to ask this peer for.
    pub(super) fn is_ready(&self, peer: &PeerId) -> bool {
        self.peers.get(peer).is_some_and(|announcer| {
            let most = announcer.window.min(self.limits.max_requested_bytes);
            !announcer.ready.is_empty() && announcer.requested_bytes < most
        })
    }

    /// When [`Self::on_time`] has something to do.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let waiting = self.waiting.front();
        let waiting = waiting.map(|(at, _)| self.asked_from(*at));
        let requested = self.requested.front().map(|(at, ..)| *at);
        let probed = self.probed.front().map(|(at, _)| *at);
        waiting.into_iter().chain(probed).chain(requested).min()
    }

    /// Moves on what has waited long enough; returns the peers that did not answer in time.
    pub(super) fn on_time(&mut self, now: Instant) -> Vec<PeerId> {
        self.look_how_late(now);
        // As `asked_from`, of many at once.
        let (patience, is_late) = (self.patience.at(now), self.is_late(now));
        while let Some((at, id)) = self.waiting.front().copied()
            && !is_late
            && at + patience <= now
        {
            self.waiting.pop_front();
            self.no_longer_waits(id);
        }
        while let Some(id) = pop_due(&mut self.probed, now) {
            self.no_longer_waits(id);
        }
        let mut silent = Vec::new();
        while let Some(request) = pop_due(&mut self.requested, now) {
            let Request {
                id, peer, asked, ..
            } = request;
            if self
                .wanted
                .get(&id)
                .is_some_and(|wanted| wanted.state == State::Requested(peer, asked))
            {
                let timeout = self.limits.timeout;
                let deadline = now + timeout;
                let had_its_time = self.heard(&request, now) >= timeout;
                let has_more = !had_its_time || self.answers(&peer, now);
                let announcer = self.peers.get_mut(&peer).filter(|_| had_its_time);
                if let Some(announcer) = announcer {
                    announcer.window = LEAST_WINDOW;
                }
                if has_more && deadline <= asked + timeout * MOST_TIMES {
                    self.requested.push_back((deadline, request));
                    continue;
                }
                self.ask_another(id, peer);
                if had_its_time && self.is_to_blame(&peer, asked, now) {
                    silent.push(peer);
                }
            }
        }
        silent
    }

    /// From when on it is asked for what was announced first at that time.
    fn asked_from(&self, announced: Instant) -> Instant {
        let due = self.patience.over(announced);
        self.late.map_or(due, |(_, until)| due.max(until))
    }

    /// A node that comes late to its own deadlines has not read yet what came meanwhile, and asks for nothing for as long a time.
    fn look_how_late(&mut self, now: Instant) {
        let due = self.waiting.front().map(|(at, _)| self.asked_from(*at));
        let late = due.map_or(Duration::ZERO, |due| now.saturating_duration_since(due));
        if late <= GRAIN.max(self.limits.patience / 4) {
            self.late = self.late.filter(|(_, until)| now < *until);
            return;
        }
        let (since, until) = self.late.unwrap_or((now, now));
        let most = since + self.limits.patience * MOST_GRACE;
        self.late = Some((since, until.max(most.min(now + late))));
    }

    /// Whether this node has come late to its own deadlines just now.
    pub(super) fn is_late(&self, now: Instant) -> bool {
        self.late.is_some_and(|(_, until)| now < until)
    }

    /// A peer has not answered what it was asked then. Whether it pays for that: once in the time that it has for an answer, however
    /// much it was asked.
    fn is_to_blame(&mut self, peer: &PeerId, asked: Instant, now: Instant) -> bool {
        let timeout = self.limits.timeout;
        let Some(announcer) = self.peers.get_mut(peer) else {
            return false;
        };
        let has_paid = announcer.blamed.is_some_and(|at| now < at + timeout);
        if has_paid || announcer.excused.is_some_and(|at| asked <= at) {
            return false;
        }
        announcer.blamed = Some(now);
        true
    }

    /// How long an answer could be heard.
    fn heard(&self, request: &Request, now: Instant) -> Duration {
        let unheard = self.peers.get(&request.peer).map(|peer| peer.unheard);
        let unheard = unheard.unwrap_or_default().saturating_sub(request.unheard);
        let waited = now.saturating_duration_since(request.asked);
        waited.saturating_sub(unheard)
    }

    /// What a peer sends was not read here for so long.
    pub(super) fn unheard(&mut self, peer: &PeerId, time: Duration) {
        if let Some(announcer) = self.peers.get_mut(peer) {
            announcer.unheard = announcer.unheard.saturating_add(time);
        }
    }

    /// What a peer was asked for may be lost, and the answers too.
    pub(super) fn excuse(&mut self, peer: &PeerId, now: Instant) {
        if let Some(announcer) = self.peers.get_mut(peer) {
            announcer.excused = Some(now);
        }
    }

    /// What a peer was asked for and has not answered is asked of it again, since the question or the answer may be lost.
    pub(super) fn ask_again(&mut self, peer: &PeerId) {
        for id in self.asked_of(peer, 0) {
            self.ask_once_more(id, peer);
        }
        self.touched.insert(*peer);
    }

    /// An answer of a peer with one item, in a frame of so many bytes, is lost, and nobody pays: what it was asked for first, of all that is so long, and
    /// of that the shortest, is asked of another announcer, or of it again where there is none.
    pub(super) fn lost(&mut self, peer: &PeerId, length: usize) {
        let asked = self.asked_of(peer, length.saturating_sub(MOST_HEAD));
        let first = asked.into_iter().min_by_key(|id| self.asked_at(id, peer));
        if let Some(id) = first {
            let claims = self.wanted.get(&id).map_or(0, |wanted| wanted.claims.len());
            if claims > 1 {
                self.ask_another(id, *peer);
            } else {
                self.ask_once_more(id, peer);
            }
        }
        self.touched.insert(*peer);
    }

    /// What a peer is asked for that has so many bytes at least, by what it says.
    fn asked_of(&self, peer: &PeerId, least: usize) -> Vec<ShortId> {
        let is_asked = |id: &&ShortId| {
            let wanted = self.wanted.get(*id);
            wanted.is_some_and(|wanted| {
                let claim = wanted.claims.iter().find(|(other, _)| other == peer);
                let is_so_long = claim.is_some_and(|(_, claim)| size(*claim) >= least);
                is_so_long && wanted.state.asks(peer)
            })
        };
        let announcer = self.peers.get(peer).into_iter();
        let claims = announcer.flat_map(|announcer| &announcer.claims);
        claims.filter(is_asked).copied().collect()
    }

    /// When a peer was asked for an item, and how long that is by what it says.
    fn asked_at(&self, id: &ShortId, peer: &PeerId) -> Option<(Instant, u32)> {
        let wanted = self.wanted.get(id)?;
        let (_, claim) = wanted.claims.iter().find(|(other, _)| other == peer)?;
        match wanted.state {
            State::Requested(_, at) => Some((at, claim.size)),
            State::Waiting | State::Ready => None,
        }
    }

    /// What a peer was asked for is asked of it again.
    fn ask_once_more(&mut self, id: ShortId, peer: &PeerId) {
        let (wanted, announcer) = (self.wanted.get_mut(&id), self.peers.get_mut(peer));
        if let (Some(wanted), Some(announcer)) = (wanted, announcer)
            && let Some((_, claim)) = wanted.claims.iter().find(|(other, _)| other == peer)
        {
            announcer.requested_bytes -= size(*claim);
            self.is_due(id);
        }
    }

    /// A peer has sent something that it was asked for, though it is not needed any more, or was not fetched.
    pub(super) fn answers_on(&mut self, peer: &PeerId, now: Instant) {
        if let Some(announcer) = self.peers.get_mut(peer) {
            announcer.answered = Some(now);
        }
    }

    /// Whether a peer has sent something that it was asked for, lately.
    fn answers(&self, peer: &PeerId, now: Instant) -> bool {
        let answered = self.peers.get(peer).and_then(|peer| peer.answered);
        answered.is_some_and(|answered| now < answered + self.limits.timeout)
    }

    /// A peer is gone.
    pub(super) fn gone(&mut self, peer: PeerId, now: Instant) {
        let claims = self.peers.get_mut(&peer);
        let claims = claims.map(|peer| {
            std::mem::replace(&mut peer.claims, HashSet::with_hasher(self.keyed.clone()))
        });
        for id in claims.into_iter().flatten() {
            self.ask_another(id, peer);
        }
        if let Some(Announcer { blamed, .. }) = self.peers.remove(&peer)
            && let Some(blamed) = blamed
        {
            let rests_at = blamed + self.limits.timeout;
            self.gone.keep(peer, blamed, rests_at, now);
        }
    }

    /// A peer's claim is worth nothing: the next announcer's turn, if it was this one's.
    fn ask_another(&mut self, id: ShortId, peer: PeerId) {
        let Some(wanted) = self.wanted.get_mut(&id) else {
            return;
        };
        let place = wanted.claims.iter().position(|(other, _)| *other == peer);
        let Some((_, claim)) = place.map(|place| wanted.claims.remove(place)) else {
            return;
        };
        let asked = wanted.state.asks(&peer);
        let nobody = wanted.claims.is_empty();
        self.release(&peer, id, claim, asked);
        if nobody {
            self.wanted.remove(&id);
        } else if asked {
            self.is_due(id);
        }
    }

    /// An item has had its time to come by itself.
    fn no_longer_waits(&mut self, id: ShortId) {
        let wanted = self.wanted.get(&id);
        if wanted.is_some_and(|wanted| wanted.state == State::Waiting) {
            self.is_due(id);
        }
    }

    /// Whoever has an item may be asked for it.
    fn is_due(&mut self, id: ShortId) {
        let Some(wanted) = self.wanted.get_mut(&id) else {
            return;
        };
        wanted.state = State::Ready;
        for (peer, claim) in &wanted.claims {
            if let Some(announcer) = self.peers.get_mut(peer) {
                announcer.ready.push((claim.fee_rate, id));
                self.touched.insert(*peer);
            }
        }
        let crowded = |peer: &&PeerId| {
            let announcer = self.peers.get(*peer);
            announcer.is_some_and(|a| a.ready.len() > 2 * self.limits.max_announced)
        };
        let claims = wanted.claims.iter().map(|(peer, _)| peer);
        let crowded: Vec<_> = claims.filter(crowded).copied().collect();
        crowded.iter().for_each(|peer| self.clear(peer));
    }

    /// Of what a peer may be asked for, what came another way piles up in its heap, and so does what it lost and announced again. What is left is no
    /// more than its claims.
    fn clear(&mut self, peer: &PeerId) {
        let Some(announcer) = self.peers.get_mut(peer) else {
            return;
        };
        let (mut kept, wanted) = (HashSet::with_hasher(self.keyed.clone()), &self.wanted);
        let claims = &announcer.claims;
        announcer.ready.retain(|(_, id)| {
            let is_ready = wanted
                .get(id)
                .is_some_and(|wanted| wanted.state == State::Ready);
            is_ready && claims.contains(id) && kept.insert(*id)
        });
    }

    fn release(&mut self, peer: &PeerId, id: ShortId, claim: Claim, asked: bool) {
        self.claims -= 1;
        if let Some(announcer) = self.peers.get_mut(peer) {
            announcer.claims.remove(&id);
            if asked {
                announcer.requested_bytes -= size(claim);
                if !announcer.ready.is_empty() {
                    self.touched.insert(*peer);
                }
            }
        }
    }
}

impl Announcer {
    fn new(blamed: Option<Instant>, keyed: Keyed) -> Self {
        Self {
            claims: HashSet::with_hasher(keyed),
            ready: BinaryHeap::new(),
            requested_bytes: 0,
            window: LEAST_WINDOW,
            answered: None,
            unheard: Duration::ZERO,
            blamed,
            excused: None,
        }
    }
}

impl Wanted {
    /// The place of the last claim that nothing is asked for.
    fn last_unasked(&self) -> Option<usize> {
        let mut claims = self.claims.iter();
        claims.rposition(|(peer, _)| !self.state.asks(peer))
    }
}

impl State {
    /// Whether this peer is asked.
    fn asks(&self, peer: &PeerId) -> bool {
        matches!(self, Self::Requested(asked, _) if asked == peer)
    }
}

/// What is first in a queue that is in the order of time, if its time has come.
fn pop_due<T>(queue: &mut VecDeque<(Instant, T)>, now: Instant) -> Option<T> {
    queue.front().filter(|(at, _)| *at <= now)?;
    queue.pop_front().map(|(_, due)| due)
}

fn size(claim: Claim) -> usize {
    usize::try_from(claim.size).map_or(usize::MAX, |size| size.max(LEAST_SIZE))
}

#[cfg(test)]
mod tests;
