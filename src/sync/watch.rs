//! Watching the state: what some keys have, in each state that comes to be trusted here.
//!
//! Who follows headers, and not the state, hears of a new state by its root. Then all keys that are watched are asked for in that state, in one question to
//! one peer, and what does not change is told to nobody. So nobody polls, and a peer keeps no list of who wants what. A peer that pushed changes could leave
//! one out, and silence would look like peace; here it is known when there is something to hear, and an answer has a proof for each key, changed or not.
//!
//! A question names the state by its root, so an answer holds for that state, or its sender has lied: an older state's, another key's, a forged or cut one, or one
//! with a key left out. Whoever drives this verifies answers ([`Outcome`]) and sees that liars pay. Who has the state itself ([`Source::Here`]) asks nobody else.
//! Before any state is trusted, a peer is asked for the newest one with what shows it to be final, as far as the chain knows such answers; so it is where nobody has
//! the one that is trusted any more.
//!
//! Whom to ask: who answered last; then who was never asked; then who refused least often. One is asked at a time, and after [`PATIENCE`] another one too. Where
//! nobody answers it is tried again, after [`PAUSE`] and each time twice as long, or as soon as there is a new state or a new peer. States that come meanwhile are
//! passed over: the next question is about the newest.
//!
//! Bounds: [`MAX_WATCHES`] of [`MAX_STATE_KEYS`] keys each, and the values of these; [`MAX_STATE_KEYS`] keys a question; [`MOST_ASKED`] peers before a
//! pause. Watches share a question as far as their keys go in.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use bytes::Bytes;
use libp2p::PeerId;

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
    /// What has changed since the change before, and at first all keys. A value is empty where a key has none.
    pub values: BTreeMap<Bytes, Bytes>,
}

/// A watch's number.
pub(crate) type WatchId = u64;

/// See the module's documentation.
#[derive(Debug, Default)]
pub(crate) struct Watches {
    open: BTreeMap<WatchId, Watch>,
    newest: Option<StateRoot>,
    peers: BTreeMap<PeerId, Standing>,
    round: Option<Round>,
    /// Numbers of watches, rounds and askings.
    last: u64,
    /// How often in a row nobody has answered, and until when nobody is asked.
    vain: u32,
    /// The next question is for the newest state, though one is trusted.
    seeks: bool,
    rests_until: Option<Instant>,
    actions: VecDeque<Action>,
}

#[derive(Debug)]
struct Watch {
    values: BTreeMap<Bytes, Option<Bytes>>,
    /// The height of the state that they are of.
    at: Option<u64>,
}

/// How a peer has answered.
#[derive(Clone, Copy, Debug, Default)]
struct Standing {
    /// When it was asked last, and when it answered well, by the numbers of askings.
    asked: u64,
    answered: u64,
    /// Since then.
    failures: u32,
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
    /// What a key has now, with what shows that state to be final.
    Newest(Bytes),
    /// What keys have in a state that is trusted.
    Batch(StateBatch),
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The values of a batch, verified, in the keys' order.
    Proven(Vec<Bytes>),
    /// An answer about the newest state that holds: that state may be trusted now.
    Learnt,
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
    /// For a while nobody has answered; the height of the state that is asked for, and why, for a person. Told once until somebody does.
    Unverified(Option<u64>, String),
}

impl Watches {
    /// Watches keys, [`MAX_STATE_KEYS`] at most; `None`: as many watches are open as may be.
    pub(crate) fn open(&mut self, keys: Vec<Bytes>, now: Instant) -> Option<WatchId> {
        if self.open.len() >= MAX_WATCHES {
            return None;
        }
        let id = self.number();
        let values = keys.into_iter().map(|key| (key, None)).collect();
        self.open.insert(id, Watch { values, at: None });
        self.drive(now);
        Some(id)
    }

    /// Nobody reads it any more.
    pub(crate) fn close(&mut self, id: WatchId) {
        self.open.remove(&id);
        if self.open.is_empty() {
            (self.round, self.rests_until) = (None, None);
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
        (self.seeks, self.rests_until) = (false, None);
        if let Some(Round {
            question: Question::Newest(_),
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
        for peer in peers {
            let known = before.remove(&peer);
            if known.is_none() {
                self.rests_until = None;
            }
            self.peers.insert(peer, known.unwrap_or_default());
        }
        self.drive(now);
    }

    /// What came of asking somebody.
    pub(crate) fn answered(&mut self, number: u64, source: Source, outcome: Outcome, now: Instant) {
        let failed = matches!(outcome, Outcome::Failed(_));
        let asking = self.number();
        if let Source::Peer(peer) = source
            && let Some(standing) = self.peers.get_mut(&peer)
        {
            match failed {
                true => standing.failures = standing.failures.saturating_add(1),
                false => (standing.answered, standing.failures) = (asking, 0),
            }
        }
        let Some(round) = self.round.as_mut().filter(|round| round.number == number) else {
            return;
        };
        round.under_way.retain(|(asked, _)| *asked != source);
        match outcome {
            Outcome::Failed(reason) if source != Source::Here => round.refusal = Some(reason),
            Outcome::Failed(_) => {}
            // What is trusted by it came by `trusted`, and ended this; where that is nothing new, it was in vain.
            Outcome::Learnt => {
                round.refusal = None;
                if self.newest.is_some() {
                    return self.rest(now);
                }
            }
            Outcome::Proven(values) => {
                if let Some(round) = self.round.take() {
                    self.verified(round, values);
                }
            }
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
            None => self.rests_until.filter(|_| !self.open.is_empty()),
        }
    }

    fn number(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    /// The values of a batch hold.
    fn verified(&mut self, round: Round, values: Vec<Bytes>) {
        let Question::Batch(batch) = round.question else {
            return;
        };
        (self.vain, self.seeks, self.rests_until) = (0, false, None);
        // A slice of an answer would keep all of it.
        let values = values.iter().map(|value| Bytes::copy_from_slice(value));
        let values: BTreeMap<_, _> = batch.keys.into_iter().zip(values).collect();
        for id in round.of {
            let Some(watch) = self.open.get_mut(&id) else {
                continue;
            };
            watch.at = Some(batch.at.height);
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
        if self.rests_until.is_some_and(|until| now < until) {
            return;
        }
        self.rests_until = None;
        if self.round.is_none() {
            self.begin(now);
        }
        let Some(round) = &self.round else {
            return;
        };
        if round.under_way.is_empty() {
            if !self.ask_another(now) {
                self.rest(now);
            }
        } else if round.may_hedge() && now >= round.hedged + PATIENCE {
            for (source, _) in round.under_way.clone() {
                if let Source::Peer(peer) = source
                    && let Some(standing) = self.peers.get_mut(&peer)
                {
                    standing.failures = standing.failures.saturating_add(1);
                }
            }
            self.ask_another(now);
            if let Some(round) = &mut self.round {
                round.hedged = now;
            }
        }
    }

    /// Begins the next question, if there is one: about those watches that are furthest behind.
    fn begin(&mut self, now: Instant) {
        let newest = self.newest.as_ref();
        let is_behind = |watch: &Watch| watch.at.is_none() || watch.at < newest.map(|at| at.height);
        let mut behind: Vec<_> = self
            .open
            .iter()
            .filter(|(_, watch)| is_behind(watch))
            .collect();
        behind.sort_by_key(|(_, watch)| watch.at);
        let (mut keys, mut of) = (BTreeSet::new(), Vec::new());
        for (id, watch) in behind {
            let more = watch.values.keys().filter(|key| !keys.contains(*key));
            if keys.len() + more.count() <= MAX_STATE_KEYS {
                keys.extend(watch.values.keys().cloned());
                of.push(*id);
            }
        }
        let question = match (newest, keys.first()) {
            (_, None) => return,
            (None, Some(key)) => Question::Newest(key.clone()),
            (Some(_), Some(key)) if self.seeks => Question::Newest(key.clone()),
            (Some(at), Some(_)) => Question::Batch(StateBatch {
                at: at.clone(),
                keys: keys.into_iter().collect(),
            }),
        };
        let number = self.number();
        let mut round = Round {
            number,
            question: question.clone(),
            of,
            tried: BTreeSet::new(),
            under_way: Vec::new(),
            hedged: now,
            refusal: None,
        };
        if matches!(question, Question::Batch(_)) {
            round.under_way.push((Source::Here, now));
            self.actions
                .push_back(Action::Ask(number, Source::Here, question));
        }
        self.round = Some(round);
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
        let Some((peer, standing)) = untried.min_by_key(|(_, standing)| standing.order()) else {
            return false;
        };
        standing.asked = asking;
        let source = Source::Peer(*peer);
        round.tried.insert(*peer);
        round.under_way.push((source, now));
        round.hedged = now;
        let ask = Action::Ask(round.number, source, round.question.clone());
        self.actions.push_back(ask);
        true
    }

    /// Nobody is left to ask.
    fn rest(&mut self, now: Instant) {
        let Some(Round {
            question, refusal, ..
        }) = self.round.take()
        else {
            return;
        };
        // Peers may be behind for a moment; if they still are, they may be far ahead.
        self.seeks = self.vain > 0 && matches!(question, Question::Batch(_));
        let doubled = PAUSE.saturating_mul(1 << self.vain.min(5));
        self.rests_until = Some(now + doubled.min(LONGEST_PAUSE));
        self.vain = self.vain.saturating_add(1);
        if self.vain == TROUBLE {
            let reason = refusal.unwrap_or_else(|| {
                match self.peers.is_empty() {
                    true => "no peer of this network is connected",
                    false => "nothing that peers answered shows which state is final",
                }
                .to_owned()
            });
            let height = self.newest.as_ref().map(|state| state.height);
            self.actions.push_back(Action::Unverified(height, reason));
        }
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
    /// Who is asked first has the least.
    fn order(&self) -> (u32, Reverse<u64>, u64) {
        let class = match (self.answered, self.asked) {
            (1.., _) if self.failures < FORGIVEN => 0,
            (0, 0) => 1,
            _ => 2 + self.failures,
        };
        (class, Reverse(self.answered), self.asked)
    }
}

#[cfg(test)]
mod tests;
