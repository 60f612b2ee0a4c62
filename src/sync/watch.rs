//! Watching the state: what some keys have, in each state that comes to be trusted here.
//!
//! Who follows headers, and not the state, hears of a new state by its root. Then all keys that are watched are asked for in that state, in one question to
//! one peer, and what does not change is told to nobody. So nobody polls, and a peer keeps no list of who wants what. A peer that pushed changes could leave
//! one out, and silence would look like peace; here it is known when there is something to hear, and an answer has a proof for each key, changed or not.
//!
//! A question names the state by its root, so an answer holds for that state, or its sender has lied: an older state's, another key's, a forged or cut one, or one
//! with a key left out. Whoever drives this verifies answers ([`Outcome`]) and sees that liars pay. Who has the state itself ([`Source::Here`]) asks nobody else.
//! Before any state is trusted, peers are asked for the newest one with what shows it to be final, as far as the chain knows such answers. So it is where a state is trusted that
//! may be long over, after the beginning, a sleep, or a time without peers or watches: a chain that rests says nothing of its own accord. [`ENOUGH`] that show the same one are believed.
//! And so it is where nobody has the trusted one any more.
//!
//! Whom to ask: who answered last; then who was never asked; then who was of no use least often, those first that have waited longest, and of equals one by chance. One is asked at a
//! time, and after [`PATIENCE`] another one too. Every second one is who has waited longest of all, since it came or since it was asked: who comes anew has no past,
//! and a few that come and go could else be all that is ever asked. So who stays has its turn within a fourth as many rounds as there are peers, however many come after it.
//! Where nobody answers it is tried again, after [`PAUSE`] and each time twice as long, or as soon as there is a new state, or a new peer and
//! [`PAUSE`] is over. States that come meanwhile are passed over: the next question is about the newest.
//!
//! Watches share a question as far as their keys go in. One that was in vain [`APART`] times is asked for alone, in turns with others of the kind, those first that were
//! in vain least often; and those without trouble do not wait for it.
//!
//! Bounds: [`MAX_WATCHES`] of [`MAX_STATE_KEYS`] keys each, and the values of these; [`MAX_STATE_KEYS`] keys a question; [`MOST_ASKED`] peers before a
//! pause.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use bytes::Bytes;
use libp2p::PeerId;
use siphasher::sip::SipHasher24;

use crate::{
    chain::{MAX_STATE_KEYS, StateBatch, StateRoot},
    platform::Instant,
};

/// Watches at once, of one node.
pub const MAX_WATCHES: usize = 64;
/// A peer has so long before another one is asked too.
const PATIENCE: Duration = Duration::from_secs(2);
/// So many have the same question at once.
const MOST_AT_ONCE: usize = 3;
/// So many are asked a question one after the other.
const MOST_ASKED: usize = 8;
/// So many that show the trusted state to be the newest are believed, where it is asked for.
const ENOUGH: usize = 3;
/// A watch that nobody has answered so many times in a row has a question of its own.
const APART: u32 = 2;
/// How long nobody is asked after nobody has answered; twice as long each time.
const PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// After so many times it is told.
const TROUBLE: u32 = 3;
/// Who has answered once, and fails less often than so many times in a row, is asked first.
const FORGIVEN: u32 = 3;

/// What has changed of the keys of a watch ([`crate::P2PNetworkManager::watch_state`]).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct StateChange {
    /// The state in which all keys of the watch were verified: those that are not named here have what they had.
    pub at: StateRoot,
    /// What has changed since the change before, and at first all keys; where several came as one, also what has changed and changed back. A value is empty
    /// where a key has none.
    pub values: BTreeMap<Bytes, Bytes>,
}

/// A watch's number.
pub(crate) type WatchId = u64;

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Watches {
    open: BTreeMap<WatchId, Watch>,
    newest: Option<StateRoot>,
    peers: BTreeMap<PeerId, Standing>,
    round: Option<Round>,
    /// Numbers of watches, rounds and askings.
    last: u64,
    /// Whether this node had the state itself when it was asked last.
    has_state: Option<bool>,
    /// Whether a state was learnt, or shown to be the newest, since this node began, slept or was alone.
    is_sure: bool,
    /// From when on peers are asked for the newest state, though one is trusted, and when they were asked last.
    seeks: Option<Instant>,
    sought: Option<Instant>,
    /// Watches that nobody has answered wait until the latter, and where a new peer comes until the former.
    rest: Option<(Instant, Instant)>,
    /// Chance of which no peer knows.
    secret: SipHasher24,
    actions: VecDeque<Action>,
}

#[derive(Debug)]
struct Watch {
    values: BTreeMap<Bytes, Option<Bytes>>,
    /// The height of the state that they are of.
    at: Option<u64>,
    /// When it was asked for last, by the numbers of rounds.
    asked: u64,
    /// How often in a row nobody has answered.
    vain: u32,
}

/// How a peer has answered.
#[derive(Clone, Copy, Debug, Default)]
struct Standing {
    /// Since when it waits: when it was asked last, or came, by the numbers of askings.
    waits: u64,
    was_asked: bool,
    /// When it answered well, by the same; 0: never.
    answered: u64,
    /// How often it was of no use since then.
    failures: u32,
    /// Decides between equals.
    chance: u64,
}

/// A question, until it is answered.
#[derive(Debug)]
struct Round {
    number: u64,
    question: Question,
    /// Whose keys are in it.
    of: Vec<WatchId>,
    tried: BTreeSet<PeerId>,
    /// Who has it, and since when.
    under_way: Vec<(Source, Instant)>,
    /// When another one was asked last, or nobody besides can be.
    hedged: Instant,
    /// How many have shown that the trusted state is the newest.
    confirmed: usize,
    /// What the last one said who did not answer it.
    refusal: Option<String>,
}

/// Who is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// This node's own chain.
    Here,
    Peer(PeerId),
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Question {
    /// What a key has now, with what shows that state to be final. The height of the newest that is known.
    Newest(Bytes, Option<u64>),
    /// What keys have in a state that is trusted.
    Batch(StateBatch),
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The values of a batch, verified, in the keys' order.
    Proven(Vec<Bytes>),
    /// A newer state is trusted by an answer about the newest one: [`Watches::trusted`] came first.
    Learnt,
    /// An answer about the newest state that holds, and names the one that is known.
    Known,
    /// The question was never sent, for no fault of the peer's; why, for a person.
    Held(String),
    /// None, or one that does not hold; why, for a person.
    Failed(String),
}

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// [`Watches::answered`] is called with the number and what came of it.
    Ask(u64, Source, Question),
    /// All keys of a watch are verified in this state, and these have changed.
    Verified(WatchId, StateChange),
    /// For a while nobody has answered; the height of the state that is asked for, and why, for a person. Told once for each watch, and for those that begin to wait together once for all, until somebody does.
    Unverified(Option<u64>, String),
}

impl Watches {
    /// None yet. `secret` is random.
    pub(crate) fn new(secret: &[u8; 16]) -> Self {
        Self {
            open: BTreeMap::new(),
            newest: None,
            peers: BTreeMap::new(),
            round: None,
            last: 0,
            has_state: None,
            is_sure: false,
            seeks: None,
            sought: None,
            rest: None,
            secret: SipHasher24::new_with_key(secret),
            actions: VecDeque::new(),
        }
    }

    /// Watches keys, [`MAX_STATE_KEYS`] at most; `None`: as many watches are open as may be.
    pub(crate) fn open(&mut self, keys: Vec<Bytes>, now: Instant) -> Option<WatchId> {
        if self.open.len() >= MAX_WATCHES {
            return None;
        }
        let id = self.number();
        let watch = Watch {
            values: keys.into_iter().map(|key| (key, None)).collect(),
            at: None,
            asked: 0,
            vain: 0,
        };
        self.open.insert(id, watch);
        if !self.is_sure {
            self.seek(now);
        }
        self.drive(now);
        Some(id)
    }

    /// Nobody reads it any more.
    pub(crate) fn close(&mut self, id: WatchId) {
        self.open.remove(&id);
        if self.open.is_empty() {
            // Who comes and goes from now on is not told of.
            (self.round, self.rest, self.is_sure) = (None, None, false);
        }
    }

    /// Whether nobody watches.
    pub(crate) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// The newest state that is trusted here.
    pub(crate) fn trusted(&mut self, state: StateRoot, now: Instant) {
        let is_new = |known: &StateRoot| state.height > known.height;
        if !self.newest.as_ref().is_none_or(is_new) {
            return;
        }
        self.newest = Some(state);
        self.rest = None;
        // What is trusted before anybody watches may be of an earlier run.
        if !self.open.is_empty() {
            (self.is_sure, self.seeks) = (true, None);
        }
        if let Some(Round {
            question: Question::Newest(..),
            ..
        }) = self.round
        {
            self.round = None;
        }
        self.drive(now);
    }

    /// The peers that can be asked.
    pub(crate) fn peers(&mut self, peers: impl IntoIterator<Item = PeerId>, now: Instant) {
        let mut before = std::mem::take(&mut self.peers);
        let (was_alone, mut has_new) = (before.is_empty(), false);
        let waits = self.number();
        for peer in peers {
            let standing = before.remove(&peer).unwrap_or_else(|| {
                has_new = true;
                let chance = self.secret.hash(&peer.to_bytes());
                Standing {
                    waits,
                    chance,
                    ..Standing::default()
                }
            });
            self.peers.insert(peer, standing);
        }
        if has_new {
            self.is_sure &= !was_alone;
            if !self.is_sure {
                self.seek(now);
            }
            if let Some((least, until)) = &mut self.rest {
                *until = (*until).min(*least);
            }
        }
        self.drive(now);
    }

    /// The host slept: much may have happened.
    pub(crate) fn woke(&mut self, now: Instant) {
        self.is_sure = false;
        self.seek(now);
        self.drive(now);
    }

    /// What came of asking somebody.
    pub(crate) fn answered(&mut self, number: u64, source: Source, outcome: Outcome, now: Instant) {
        let asking = self.number();
        if let Source::Peer(peer) = source
            && let Some(standing) = self.peers.get_mut(&peer)
        {
            match outcome {
                Outcome::Proven(_) | Outcome::Learnt => {
                    (standing.answered, standing.failures) = (asking, 0);
                }
                Outcome::Failed(_) => {
                    standing.failures = standing.failures.saturating_add(1);
                }
                // That there is nothing newer shows neither who has the state, nor who has not.
                Outcome::Known | Outcome::Held(_) => {}
            }
        }
        let Some(round) = self.round.as_mut().filter(|round| round.number == number) else {
            return;
        };
        round.under_way.retain(|(asked, _)| *asked != source);
        match outcome {
            Outcome::Proven(values) => {
                if source == Source::Here {
                    self.has_state = Some(true);
                }
                if let Some(round) = self.round.take() {
                    self.verified(round, values);
                }
            }
            Outcome::Failed(_) if source == Source::Here => {
                self.has_state = Some(false);
                // What may be long over is not asked for first.
                if self.seeks.is_some_and(|from| from <= now) {
                    self.round = None;
                }
            }
            Outcome::Failed(reason) | Outcome::Held(reason) => round.refusal = Some(reason),
            Outcome::Known => round.confirmed += 1,
            Outcome::Learnt => {}
        }
        self.drive(now);
    }

    /// What is to be done.
    pub(crate) fn action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// Looks at deadlines.
    pub(crate) fn on_time(&mut self, now: Instant) {
        self.drive(now);
    }

    /// When to call [`Watches::on_time`] at the latest.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        match &self.round {
            Some(round) => round.may_hedge().then(|| round.hedged + PATIENCE),
            None => {
                let rest = self.rest.map(|(_, until)| until);
                let newest = self.height();
                let rest = rest.filter(|_| self.open.values().any(|watch| watch.is_behind(newest)));
                rest.into_iter().chain(self.seeking()).min()
            }
        }
    }

    fn number(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    /// The height of the newest state that is trusted.
    fn height(&self) -> Option<u64> {
        self.newest.as_ref().map(|newest| newest.height)
    }

    /// Peers are to be asked for the newest state, though not without a pause.
    fn seek(&mut self, now: Instant) {
        let from = self.sought.map_or(now, |sought| now.max(sought + PAUSE));
        self.seeks.get_or_insert(from);
    }

    /// From when on they are; who has the state itself learns of a newer one with it.
    fn seeking(&self) -> Option<Instant> {
        let asks = !self.open.is_empty() && self.newest.is_some() && self.has_state != Some(true);
        self.seeks.filter(|_| asks)
    }

    /// The values of a batch hold.
    fn verified(&mut self, round: Round, values: Vec<Bytes>) {
        let Question::Batch(batch) = round.question else {
            return;
        };
        self.rest = None;
        // A slice of an answer would keep all of it.
        let values = values.iter().map(|value| Bytes::copy_from_slice(value));
        let values: BTreeMap<_, _> = batch.keys.into_iter().zip(values).collect();
        for id in round.of {
            let Some(watch) = self.open.get_mut(&id) else {
                continue;
            };
            (watch.at, watch.vain) = (Some(batch.at.height), 0);
            let mut changed = BTreeMap::new();
            for (key, known) in &mut watch.values {
                let value = values
                    .get(key)
                    .filter(|value| known.as_ref() != Some(value));
                if let Some(value) = value {
                    *known = Some(value.clone());
                    changed.insert(key.clone(), value.clone());
                }
            }
            let (at, values) = (batch.at.clone(), changed);
            self.actions
                .push_back(Action::Verified(id, StateChange { at, values }));
        }
    }

    fn drive(&mut self, now: Instant) {
        if self.rest.is_some_and(|(_, until)| until <= now) {
            self.rest = None;
        }
        if self.round.is_none() {
            self.begin(now);
        }
        let Some(round) = &self.round else {
            return;
        };
        // Where nobody has the trusted state, who says that it is the newest is no help.
        let is_calm = self.open.values().all(|watch| watch.vain == 0);
        if is_calm && round.confirmed >= ENOUGH {
            self.over(now);
        } else if round.under_way.is_empty() {
            if !self.ask_another(now) {
                self.over(now);
            }
        } else if round.may_hedge() && now >= round.hedged + PATIENCE {
            self.ask_another(now);
            if let Some(round) = &mut self.round {
                round.hedged = now;
            }
        }
    }

    /// Begins the next question, if there is one.
    fn begin(&mut self, now: Instant) {
        let of = self.next(now);
        let newest = self.height();
        let seeks = self.seeking().is_some_and(|from| from <= now);
        let seeks = seeks && (of.is_empty() || self.has_state == Some(false));
        let (question, of) = match &self.newest {
            Some(_) if !seeks && of.is_empty() => return,
            Some(at) if !seeks => self.batch(at, of),
            None if of.is_empty() => return,
            _ => {
                let longest = self.open.values_mut().min_by_key(|watch| watch.asked);
                let Some(watch) = longest else { return };
                watch.asked = self.last + 1;
                let Some(key) = watch.values.keys().next() else {
                    return;
                };
                (Question::Newest(key.clone(), newest), of)
            }
        };
        let number = self.number();
        let mut round = Round {
            number,
            question: question.clone(),
            of,
            tried: BTreeSet::new(),
            under_way: Vec::new(),
            hedged: now,
            confirmed: 0,
            refusal: None,
        };
        if matches!(question, Question::Batch(_)) {
            for id in &round.of {
                if let Some(watch) = self.open.get_mut(id) {
                    watch.asked = number;
                }
            }
            round.under_way.push((Source::Here, now));
            self.actions
                .push_back(Action::Ask(number, Source::Here, question));
        }
        self.round = Some(round);
    }

    /// Which watches are to be asked for now: those together that are furthest behind, or else one that is in trouble.
    fn next(&self, now: Instant) -> Vec<WatchId> {
        let rests = self.rest.is_some_and(|(_, until)| now < until);
        let newest = self.height();
        let behind = self
            .open
            .iter()
            .filter(|(_, watch)| watch.is_behind(newest));
        let (apart, mut together): (Vec<_>, Vec<_>) = behind
            .filter(|(_, watch)| watch.vain == 0 || !rests)
            .partition(|(_, watch)| watch.vain >= APART && newest.is_some());
        together.sort_by_key(|(_, watch)| watch.at);
        if together.is_empty() {
            together.extend(
                apart
                    .into_iter()
                    .min_by_key(|(_, watch)| (watch.vain, watch.asked)),
            );
        }
        together.into_iter().map(|(id, _)| *id).collect()
    }

    /// A question for the first of some watches, and as many of the others as go in.
    fn batch(&self, at: &StateRoot, of: Vec<WatchId>) -> (Question, Vec<WatchId>) {
        let mut keys = BTreeSet::new();
        let fits = |id: &WatchId| {
            let Some(watch) = self.open.get(id) else {
                return false;
            };
            let more = watch.values.keys().filter(|key| !keys.contains(*key));
            let fits = keys.len() + more.count() <= MAX_STATE_KEYS;
            if fits {
                keys.extend(watch.values.keys().cloned());
            }
            fits
        };
        let of = of.into_iter().filter(fits).collect();
        let batch = StateBatch {
            at: at.clone(),
            keys: keys.into_iter().collect(),
        };
        (Question::Batch(batch), of)
    }

    /// Asks the best peer that was not asked this yet; false: there is none.
    fn ask_another(&mut self, now: Instant) -> bool {
        let asking = self.number();
        let Some(round) = &mut self.round else {
            return false;
        };
        if round.tried.len() >= MOST_ASKED {
            return false;
        }
        let peers = self.peers.iter_mut();
        let untried = peers.filter(|(peer, _)| !round.tried.contains(*peer));
        let has_turn = round.tried.len() % 2 == 1;
        let next = untried.min_by_key(|(_, standing)| match has_turn {
            true => standing.turn(),
            false => standing.order(),
        });
        let Some((peer, standing)) = next else {
            return false;
        };
        (standing.waits, standing.was_asked) = (asking, true);
        let source = Source::Peer(*peer);
        round.tried.insert(*peer);
        round.under_way.push((source, now));
        round.hedged = now;
        let ask = Action::Ask(round.number, source, round.question.clone());
        self.actions.push_back(ask);
        true
    }

    /// Nobody is left to ask, or nobody has to be asked any more.
    fn over(&mut self, now: Instant) {
        let Some(round) = self.round.take() else {
            return;
        };
        match round.question {
            Question::Newest(..) if self.newest.is_some() => {
                self.seeks = None;
                if !round.tried.is_empty() {
                    self.sought = Some(now);
                }
                self.is_sure |= round.confirmed > 0;
            }
            _ => self.rest(round, now),
        }
        self.drive(now);
    }

    /// Nobody has answered for some watches.
    fn rest(&mut self, round: Round, now: Instant) {
        let (mut most, mut is_trouble) = (0, false);
        for id in &round.of {
            if let Some(watch) = self.open.get_mut(id) {
                most = most.max(watch.vain);
                watch.vain = watch.vain.saturating_add(1);
                is_trouble |= watch.vain == TROUBLE;
            }
        }
        let doubled = PAUSE.saturating_mul(1 << most.min(5));
        // Where nobody was there to ask, who comes is asked at once.
        let least = match round.tried.is_empty() {
            true => now,
            false => now + PAUSE,
        };
        self.rest = Some((least, now + doubled.min(LONGEST_PAUSE)));
        // Peers may be behind for a moment; if they still are, they may be far ahead.
        if most > 0 {
            self.seek(now);
        }
        if is_trouble {
            let reason = round.refusal.unwrap_or_else(|| {
                match self.peers.is_empty() {
                    true => "no peer of this network is connected",
                    false => "nothing that peers answered shows which state is final",
                }
                .to_owned()
            });
            let height = self.height();
            self.actions.push_back(Action::Unverified(height, reason));
        }
    }
}

impl Watch {
    fn is_behind(&self, newest: Option<u64>) -> bool {
        self.at.is_none() || self.at < newest
    }
}

impl Round {
    /// Whether another one may be asked too. This node's own chain is waited for.
    fn may_hedge(&self) -> bool {
        let has_here = self
            .under_way
            .iter()
            .any(|(source, _)| *source == Source::Here);
        !has_here && !self.under_way.is_empty() && self.under_way.len() < MOST_AT_ONCE
    }
}

impl Standing {
    /// Who is asked first, by what it has done, has the least.
    fn order(&self) -> (u32, Reverse<u64>, u64, u64) {
        let class = match self.answered {
            1.. if self.failures < FORGIVEN => 0,
            _ if !self.was_asked => 1,
            _ => 2_u32.saturating_add(self.failures),
        };
        (class, Reverse(self.answered), self.waits, self.chance)
    }

    /// Who has waited longest has the least.
    fn turn(&self) -> (u32, Reverse<u64>, u64, u64) {
        (0, Reverse(0), self.waits, self.chance)
    }
}

#[cfg(test)]
mod tests;
