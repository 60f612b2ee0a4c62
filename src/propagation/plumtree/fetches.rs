//! Announced items that are not here yet, and whom each is asked of.
//!
//! An announcement waits a moment, since the item is probably being pushed by another peer. How long, the node learns: where
//! what was asked for is pushed by another peer before the answer comes, the patience was too short, and grows; under load
//! everything takes longer, and asking for it all would make it worse. Then it is asked of one
//! announcer at a time, of each peer the best paying first; who says no, or nothing by the deadline, is followed by the
//! next announcer. Who is slow but goes on answering has more time ([`MOST_TIMES`]): its link may be thin, or held to a budget. After Bitcoin Core's `txrequest`. Bounds: `max_announced` ids of one peer and [`MAX_WANTED`] in all
//! (further announcements are not noted: reconciliation finds what they were about), [`MAX_ANNOUNCERS`] of one id, and of
//! one peer `max_requested_bytes` asked for at once.

use std::{
    collections::{BinaryHeap, HashMap, HashSet, VecDeque},
    time::Duration,
};

use libp2p::PeerId;

use crate::{
    chain::ShortId,
    platform::Instant,
    propagation::{keyed::Keyed, wire::MAX_IDS},
};

/// Ids that are wanted at once.
const MAX_WANTED: usize = 1 << 18;
/// How many times the configured patience it may become.
const MOST_PATIENCE: u32 = 8;
/// How many times the configured timeout a peer has to answer while other answers of it arrive.
const MOST_TIMES: u32 = 5;
/// How many announced items more than it delivers a peer may turn out not to have.
const MOST_MISSING: u32 = 256;
/// Peers that are remembered as having one id.
const MAX_ANNOUNCERS: usize = 4;

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Fetches {
    limits: Limits,
    wanted: HashMap<ShortId, Wanted, Keyed>,
    /// How long an announced item may still come by itself, now.
    patience: Duration,
    /// When ids were announced, in this order.
    waiting: VecDeque<(Instant, ShortId)>,
    /// In the order of their deadlines, with the time at which they were asked for.
    requested: VecDeque<(Instant, (ShortId, PeerId, Instant))>,
    peers: HashMap<PeerId, Announcer>,
    /// Peers that may be asked for something, for whoever drives this.
    touched: HashSet<PeerId>,
}

/// Set by the configuration.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// How long an announced item may still come by itself.
    pub(super) patience: Duration,
    /// How long a peer has to answer.
    pub(super) timeout: Duration,
    pub(super) max_announced: usize,
    pub(super) max_requested_bytes: usize,
}

/// What an announcer says of an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Claim {
    pub(super) size: u32,
    pub(super) fee_rate: u64,
}

#[derive(Debug)]
struct Wanted {
    /// Who has it, in the order of the announcements; those asked in vain are left out.
    claims: Vec<(PeerId, Claim)>,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Waiting,
    /// In the heap of this peer.
    Ready(PeerId),
    /// Asked of this peer.
    Requested(PeerId),
}

#[derive(Debug, Default)]
struct Announcer {
    /// Its claims.
    announced: usize,
    /// What it is to be asked for, the best paying on top; some may have come another way meanwhile.
    ready: BinaryHeap<(u64, ShortId)>,
    requested_bytes: usize,
    /// When it last sent what it was asked for.
    answered: Option<Instant>,
    /// How much more often it did not have what it had announced than it had it, and since when it has paid for that.
    missing: u32,
    paid: Option<Instant>,
    /// When it was last blamed for an answer that did not come.
    blamed: Option<Instant>,
    /// What it was asked for until then may be lost.
    excused: Option<Instant>,
}

impl Fetches {
    pub(super) fn new(limits: Limits, keyed: Keyed) -> Self {
        Self {
            limits,
            wanted: HashMap::with_hasher(keyed),
            patience: limits.patience,
            waiting: VecDeque::new(),
            requested: VecDeque::new(),
            peers: HashMap::new(),
            touched: HashSet::new(),
        }
    }

    /// Peers that may be asked for something, since this was last called.
    pub(super) fn touched(&mut self) -> impl Iterator<Item = PeerId> {
        self.touched.drain()
    }

    /// Notes what a peer has; false where it has announced too much that it has not delivered.
    pub(super) fn announced(
        &mut self,
        id: ShortId,
        peer: PeerId,
        claim: Claim,
        now: Instant,
    ) -> bool {
        let announcer = self.peers.entry(peer).or_default();
        if announcer.announced >= self.limits.max_announced {
            return false;
        }
        let full = self.wanted.len() >= MAX_WANTED;
        match self.wanted.get_mut(&id) {
            Some(wanted) => {
                let known = wanted.claims.iter().any(|(other, _)| *other == peer);
                if known || wanted.claims.len() >= MAX_ANNOUNCERS {
                    return true;
                }
                wanted.claims.push((peer, claim));
            }
            None if full => return true,
            None => {
                let wanted = Wanted {
                    claims: vec![(peer, claim)],
                    state: State::Waiting,
                };
                self.wanted.insert(id, wanted);
                self.waiting.push_back((now, id));
            }
        }
        announcer.announced += 1;
        true
    }

    /// An item is here, whoever sent it: what the sender had said of it, and whether it was asked for it.
    pub(super) fn arrived(
        &mut self,
        id: ShortId,
        from: &PeerId,
        now: Instant,
    ) -> Option<(Claim, bool)> {
        let wanted = self.wanted.remove(&id)?;
        let mut claimed = None;
        if let State::Requested(peer) = wanted.state {
            self.learn(peer == *from);
        }
        for (peer, claim) in wanted.claims {
            let asked = wanted.state == State::Requested(peer);
            self.release(&peer, claim, asked);
            if peer == *from {
                claimed = Some((claim, asked));
                if let Some(announcer) = self.peers.get_mut(&peer).filter(|_| asked) {
                    announcer.answered = Some(now);
                    announcer.missing = announcer.missing.saturating_sub(1);
                }
            }
        }
        claimed
    }

    /// What was asked for is here: by the answer, or by itself, and then it was asked for too soon.
    fn learn(&mut self, answered: bool) {
        let (least, most) = (self.limits.patience, self.limits.patience * MOST_PATIENCE);
        // So that one needless fetch in eight leaves it as it is.
        let patience = if answered {
            self.patience * 127 / 128
        } else {
            self.patience * 17 / 16
        };
        self.patience = patience.clamp(least, most);
    }

    /// A peer does not have what it was asked for. True: it has announced too much that it does not have, and pays for it once in
    /// the time that it has for an answer; what it had may leave its pool all at once.
    pub(super) fn missing(&mut self, id: ShortId, peer: PeerId, now: Instant) -> bool {
        let wanted = self.wanted.get(&id);
        if wanted.is_none_or(|wanted| wanted.state != State::Requested(peer)) {
            return false;
        }
        self.ask_another(id, peer);
        let Some(announcer) = self.peers.get_mut(&peer) else {
            return false;
        };
        announcer.missing = announcer.missing.saturating_add(1);
        let has_paid = announcer
            .paid
            .is_some_and(|at| now < at + self.limits.timeout);
        if announcer.missing < MOST_MISSING || has_paid {
            return false;
        }
        (announcer.missing, announcer.paid) = (0, Some(now));
        true
    }

    /// What to ask this peer for now, the best paying first.
    pub(super) fn take(&mut self, peer: PeerId, now: Instant) -> Vec<ShortId> {
        let mut ids = Vec::new();
        let Some(announcer) = self.peers.get_mut(&peer) else {
            return ids;
        };
        while ids.len() < MAX_IDS && announcer.requested_bytes < self.limits.max_requested_bytes {
            let Some((_, id)) = announcer.ready.pop() else {
                break;
            };
            let Some(wanted) = self.wanted.get_mut(&id) else {
                continue;
            };
            let claim = wanted.claims.iter().find(|(other, _)| *other == peer);
            if let (State::Ready(at), Some((_, claim))) = (wanted.state, claim)
                && at == peer
            {
                announcer.requested_bytes += size(*claim);
                wanted.state = State::Requested(peer);
                self.requested
                    .push_back((now + self.limits.timeout, (id, peer, now)));
                ids.push(id);
            }
        }
        ids
    }

    /// Whether there is something to ask this peer for.
    pub(super) fn is_ready(&self, peer: &PeerId) -> bool {
        self.peers.get(peer).is_some_and(|announcer| {
            !announcer.ready.is_empty()
                && announcer.requested_bytes < self.limits.max_requested_bytes
        })
    }

    /// When [`Self::on_time`] has something to do.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let waiting = self.waiting.front().map(|(at, _)| *at + self.patience);
        let requested = self.requested.front().map(|(at, ..)| *at);
        waiting.into_iter().chain(requested).min()
    }

    /// Moves on what has waited long enough; returns the peers that did not answer in time.
    pub(super) fn on_time(&mut self, now: Instant) -> Vec<PeerId> {
        while let Some(id) = pop_due(&mut self.waiting, now, self.patience) {
            if self
                .wanted
                .get(&id)
                .is_some_and(|wanted| wanted.state == State::Waiting)
            {
                self.ask_next(id);
            }
        }
        let mut silent = Vec::new();
        while let Some((id, peer, asked)) = pop_due(&mut self.requested, now, Duration::ZERO) {
            if self
                .wanted
                .get(&id)
                .is_some_and(|wanted| wanted.state == State::Requested(peer))
            {
                let timeout = self.limits.timeout;
                let deadline = now + timeout;
                if self.answers(&peer, now) && deadline <= asked + timeout * MOST_TIMES {
                    self.requested.push_back((deadline, (id, peer, asked)));
                    continue;
                }
                self.ask_another(id, peer);
                if self.is_to_blame(&peer, asked, now) {
                    silent.push(peer);
                }
            }
        }
        silent
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

    /// What a peer was asked for may be lost, and the answers too.
    pub(super) fn excuse(&mut self, peer: &PeerId, now: Instant) {
        if let Some(announcer) = self.peers.get_mut(peer) {
            announcer.excused = Some(now);
        }
    }

    /// What a peer was asked for and has not answered is asked of it again, since the question or the answer may be lost.
    pub(super) fn ask_again(&mut self, peer: &PeerId) {
        let Self {
            wanted,
            requested,
            peers,
            touched,
            ..
        } = self;
        let Some(announcer) = peers.get_mut(peer) else {
            return;
        };
        requested.retain(|(_, (id, asked, _))| {
            let Some(item) = wanted.get_mut(id).filter(|_| asked == peer) else {
                return asked != peer;
            };
            let claim = item.claims.iter().find(|(other, _)| other == peer);
            if let (State::Requested(of), Some((_, claim))) = (item.state, claim)
                && of == *peer
            {
                announcer.requested_bytes -= size(*claim);
                announcer.ready.push((claim.fee_rate, *id));
                item.state = State::Ready(*peer);
            }
            false
        });
        touched.insert(*peer);
    }

    /// Whether a peer has sent something that it was asked for, lately.
    fn answers(&self, peer: &PeerId, now: Instant) -> bool {
        let answered = self.peers.get(peer).and_then(|peer| peer.answered);
        answered.is_some_and(|answered| now < answered + self.limits.timeout)
    }

    /// A peer is gone.
    pub(super) fn gone(&mut self, peer: PeerId) {
        if self
            .peers
            .get(&peer)
            .is_none_or(|announcer| announcer.announced == 0)
        {
            self.peers.remove(&peer);
            return;
        }
        let claimed = |(id, wanted): (&ShortId, &Wanted)| {
            wanted
                .claims
                .iter()
                .any(|(other, _)| *other == peer)
                .then_some(*id)
        };
        let ids: Vec<_> = self.wanted.iter().filter_map(claimed).collect();
        for id in ids {
            self.ask_another(id, peer);
        }
        self.peers.remove(&peer);
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
        let asked = wanted.state == State::Requested(peer);
        let turn = asked || wanted.state == State::Ready(peer);
        let nobody = wanted.claims.is_empty();
        self.release(&peer, claim, asked);
        if nobody {
            self.wanted.remove(&id);
        } else if turn {
            self.ask_next(id);
        }
    }

    /// The announcer that is asked for least now is the next to be asked.
    fn ask_next(&mut self, id: ShortId) {
        let Some(wanted) = self.wanted.get_mut(&id) else {
            return;
        };
        let load = |peer: &PeerId| self.peers.get(peer).map_or(0, |a| a.ready.len());
        let next = wanted.claims.iter().min_by_key(|(peer, _)| load(peer));
        let Some((peer, claim)) = next.copied() else {
            return;
        };
        wanted.state = State::Ready(peer);
        let announcer = self.peers.entry(peer).or_default();
        announcer.ready.push((claim.fee_rate, id));
        self.touched.insert(peer);
        // While a peer may be asked for no more, what came another way piles up in its heap.
        if announcer.ready.len() > 2 * self.limits.max_announced {
            let wanted = &self.wanted;
            announcer.ready.retain(|(_, id)| {
                wanted
                    .get(id)
                    .is_some_and(|wanted| wanted.state == State::Ready(peer))
            });
        }
    }

    fn release(&mut self, peer: &PeerId, claim: Claim, asked: bool) {
        if let Some(announcer) = self.peers.get_mut(peer) {
            announcer.announced -= 1;
            if asked {
                announcer.requested_bytes -= size(claim);
                if !announcer.ready.is_empty() {
                    self.touched.insert(*peer);
                }
            }
        }
    }
}

/// What is first in a queue that is in the order of time, if its time came so long ago.
fn pop_due<T>(queue: &mut VecDeque<(Instant, T)>, now: Instant, patience: Duration) -> Option<T> {
    queue.front().filter(|(at, _)| *at + patience <= now)?;
    queue.pop_front().map(|(_, due)| due)
}

fn size(claim: Claim) -> usize {
    usize::try_from(claim.size).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::test;
    use proptest::prelude::*;

    const LIMITS: Limits = Limits {
        patience: Duration::from_millis(50),
        timeout: Duration::from_secs(2),
        max_announced: 100,
        max_requested_bytes: 1000,
    };

    fn id(number: u64) -> ShortId {
        ShortId::new(number.to_le_bytes())
    }

    fn claim(size: u32, fee_rate: u64) -> Claim {
        Claim { size, fee_rate }
    }

    #[test]
    fn what_does_not_come_by_itself_is_asked_for_once_the_best_paying_first() {
        let (mut fetches, now) = (
            Fetches::new(LIMITS, Keyed::new(&[1; 16])),
            crate::platform::now(),
        );
        let (ann, bob) = (PeerId::random(), PeerId::random());
        for number in 0..10 {
            assert!(fetches.announced(id(number), ann, claim(300, number), now));
            assert!(fetches.announced(id(number), bob, claim(300, number), now));
        }
        assert_eq!(
            fetches.arrived(id(9), &ann, now),
            Some((claim(300, 9), false))
        );
        assert!(fetches.take(ann, now).is_empty(), "not yet");
        assert_eq!(fetches.next_deadline(), Some(now + LIMITS.patience));
        let later = now + LIMITS.patience;
        assert!(fetches.on_time(later).is_empty());
        let (of_ann, of_bob) = (fetches.take(ann, later), fetches.take(bob, later));
        assert_eq!(
            (of_ann.len(), of_bob.len()),
            (4, 4),
            "as many bytes as may be asked for at once"
        );
        assert!(
            of_ann
                .windows(2)
                .all(|pair| pair[0].to_bytes() > pair[1].to_bytes()),
            "{of_ann:?}"
        );
        assert!(of_ann.iter().all(|id| !of_bob.contains(id)));
        assert_eq!(
            fetches
                .arrived(of_ann[0], &ann, now)
                .map(|(_, asked)| asked),
            Some(true)
        );
        assert_eq!(
            fetches.arrived(of_ann[0], &ann, now),
            None,
            "it is here already"
        );
        assert!(fetches.is_ready(&ann) || fetches.peers[&ann].ready.is_empty());
    }

    #[test]
    fn who_asks_too_soon_learns_patience_and_loses_it_again() {
        let (mut fetches, mut now) = (
            Fetches::new(LIMITS, Keyed::new(&[1; 16])),
            crate::platform::now(),
        );
        let (ann, bob) = (PeerId::random(), PeerId::random());
        let mut fetch = |fetches: &mut Fetches, number, from| {
            fetches.announced(id(number), ann, claim(1, 1), now);
            now += fetches.patience;
            fetches.on_time(now);
            assert_eq!(fetches.take(ann, now), [id(number)]);
            fetches.arrived(id(number), &from, now);
        };
        (0..100).for_each(|number| fetch(&mut fetches, number, bob));
        assert_eq!(fetches.patience, LIMITS.patience * MOST_PATIENCE);
        (100..1000).for_each(|number| fetch(&mut fetches, number, ann));
        assert_eq!(fetches.patience, LIMITS.patience);
    }

    #[test]
    fn who_is_slow_but_answers_has_more_time_and_not_for_ever() {
        let (mut fetches, begin) = (
            Fetches::new(LIMITS, Keyed::new(&[1; 16])),
            crate::platform::now(),
        );
        let ann = PeerId::random();
        let mut now = begin;
        for number in 0..100 {
            assert!(fetches.announced(id(number), ann, claim(10, number), now));
        }
        now += LIMITS.patience;
        fetches.on_time(now);
        let mut asked = fetches.take(ann, now);
        assert_eq!(asked.len(), 100);
        let first = now;
        // One a second.
        let blamed = loop {
            now += Duration::from_secs(1);
            let arrived = asked.pop().expect("it is blamed before that");
            assert!(
                fetches
                    .arrived(arrived, &ann, now)
                    .is_some_and(|(_, asked)| asked)
            );
            if fetches.on_time(now) == [ann] {
                break now - first;
            }
        };
        assert_eq!(blamed, LIMITS.timeout * MOST_TIMES);
        assert!(fetches.wanted.is_empty(), "nobody else has them");
    }

    #[test]
    fn who_says_no_or_nothing_is_followed_by_the_next() {
        let (mut fetches, now) = (
            Fetches::new(LIMITS, Keyed::new(&[1; 16])),
            crate::platform::now(),
        );
        let peers: Vec<_> = (0..6).map(|_| PeerId::random()).collect();
        for peer in &peers {
            fetches.announced(id(1), *peer, claim(10, 1), now);
        }
        let mut at = now + LIMITS.patience;
        fetches.on_time(at);
        let asked = |fetches: &mut Fetches, at| {
            let mut asked = peers
                .iter()
                .filter(|peer| !fetches.take(**peer, at).is_empty());
            let one = asked.next().copied();
            assert_eq!(asked.next(), None, "one at a time");
            one
        };
        let first = asked(&mut fetches, at).expect("somebody");
        assert!(!fetches.missing(id(1), first, at));
        let second = asked(&mut fetches, at).expect("somebody else");
        at += LIMITS.timeout;
        assert_eq!(fetches.on_time(at), [second]);
        let third = asked(&mut fetches, at).expect("somebody else");
        fetches.gone(third);
        let fourth = asked(&mut fetches, at).expect("the last that is remembered");
        assert!(
            [first, second, third, fourth]
                .windows(2)
                .all(|pair| pair[0] != pair[1])
        );
        assert!(!fetches.missing(id(1), fourth, at));
        assert_eq!(asked(&mut fetches, at), None);
        assert!(fetches.wanted.is_empty());
    }

    #[test]
    fn silence_is_paid_for_once_a_round_and_not_where_questions_are_lost() {
        let (mut fetches, start) = (
            Fetches::new(LIMITS, Keyed::new(&[1; 16])),
            crate::platform::now(),
        );
        let peer = PeerId::random();
        let mut blamed = 0;
        // One question each 10 ms, none of which is answered.
        let mut ask = |fetches: &mut Fetches, number, now| {
            fetches.announced(id(number), peer, claim(1, 1), now);
            blamed += fetches.on_time(now).len();
            fetches.take(peer, now);
            blamed
        };
        let at =
            |number: u64| start + Duration::from_millis(10) * u32::try_from(number).expect("small");
        for number in 0..1000 {
            ask(&mut fetches, number, at(number));
        }
        let before = ask(&mut fetches, 1000, at(1000));
        let rounds = usize::try_from((at(1000) - start).as_millis() / LIMITS.timeout.as_millis())
            .expect("small");
        assert!(before > 0 && before <= rounds, "{before} of {rounds}");
        fetches.excuse(&peer, at(1000));
        let later = at(1000) + LIMITS.timeout * 2;
        assert_eq!(ask(&mut fetches, 1001, later), before);
    }

    #[test]
    fn who_announces_without_end_is_stopped() {
        let (mut fetches, now, peer) = (
            Fetches::new(LIMITS, Keyed::new(&[1; 16])),
            crate::platform::now(),
            PeerId::random(),
        );
        let noted =
            (0..200).filter(|number| fetches.announced(id(*number), peer, claim(1, 1), now));
        assert_eq!(noted.count(), LIMITS.max_announced);
        fetches.gone(peer);
        assert!(fetches.wanted.is_empty() && fetches.peers.is_empty());
    }

    proptest! {
        #[test]
        fn counts_are_right_whatever_happens(steps in proptest::collection::vec((0u8..6, 0u64..20, 0usize..4), 0..400)) {
            let (mut fetches, mut now) = (Fetches::new(LIMITS, Keyed::new(&[1; 16])), crate::platform::now());
            let peers: Vec<_> = (0..4).map(|_| PeerId::random()).collect();
            for (step, number, peer) in steps {
                let peer = peers[peer];
                match step {
                    0 | 1 => { fetches.announced(id(number), peer, claim(100, number), now); }
                    2 => { fetches.arrived(id(number), &peer, now); }
                    3 => { fetches.missing(id(number), peer, now); }
                    4 => { now += Duration::from_millis(number * 20); fetches.on_time(now); fetches.take(peer, now); }
                    _ => fetches.gone(peer),
                }
                for (peer, announcer) in &fetches.peers {
                    let claims = fetches.wanted.values().filter(|w| w.claims.iter().any(|(p, _)| p == peer));
                    prop_assert_eq!(announcer.announced, claims.count());
                    let requested = fetches.wanted.values().filter(|w| w.state == State::Requested(*peer));
                    prop_assert_eq!(announcer.requested_bytes, requested.count() * 100);
                }
            }
        }
    }
}
