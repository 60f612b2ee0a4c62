//! Watches among peers of all kinds, in virtual time: everything follows from the seed. The states are a ledger's, and answers are verified as a node does.

use std::{cmp::Reverse, collections::BinaryHeap, sync::Arc};

use super::*;
use crate::{
    chain::{
        Application, Item, ProvenState, SyncVerdict, Transaction,
        ledger::{self, Address, Genesis, Ledger, Transfer, development_key},
    },
    platform::{self, test},
    storage::MemoryStore,
};

const NETWORK: &str = "watched";
const BLOCKS: u64 = 24;

/// How long a question may be open.
const TIMEOUT: Duration = Duration::from_secs(10);

fn account(number: u64) -> Bytes {
    let address = Address::of(&development_key(NETWORK, &format!("account {number}")));
    Bytes::copy_from_slice(address.as_bytes())
}

/// A seeded stream of numbers (splitmix64).
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ mixed >> 31) % bound
    }

    fn millis(&mut self, least: u64, most: u64) -> Duration {
        Duration::from_millis(least + self.below(most - least))
    }
}

/// What peers are like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Honest,
    /// Has each state a while after others.
    Late,
    /// Serves no state, as a tab.
    Light,
    Silent,
    /// Leaves the last key out.
    LeavesOut,
    /// Answers from an older state, as if it were the one that was named.
    Stale,
    /// The same, and says so.
    Elsewhere,
    Forges,
    /// Gives keys each other's values.
    Swaps,
    Cuts,
    Prolongs,
    /// Sends what it was asked for before.
    Replays,
    /// Sends nothing at all, with the right root.
    Empties,
}

impl Kind {
    const ALL: [Self; 13] = [
        Self::Honest,
        Self::Late,
        Self::Light,
        Self::Silent,
        Self::LeavesOut,
        Self::Stale,
        Self::Elsewhere,
        Self::Forges,
        Self::Swaps,
        Self::Cuts,
        Self::Prolongs,
        Self::Replays,
        Self::Empties,
    ];

    fn lies(self) -> bool {
        !matches!(self, Self::Honest | Self::Late | Self::Light | Self::Silent)
    }
}

/// A ledger that goes on, with what its accounts have had in each state.
struct Truth {
    ledger: Ledger,
    roots: Vec<StateRoot>,
    had: Vec<BTreeMap<Bytes, Bytes>>,
}

impl Truth {
    fn new() -> Self {
        let store = MemoryStore::new(1 << 26, &ledger::SCHEMA).expect("memory");
        let genesis = Genesis::development(NETWORK);
        let ledger = Ledger::open(genesis, Arc::new(store)).expect("one");
        let (roots, had) = (Vec::new(), Vec::new());
        let mut truth = Self { ledger, roots, had };
        truth.note();
        truth
    }

    fn note(&mut self) {
        let tip = self.ledger.tip();
        let root = Bytes::copy_from_slice(&tip.state_root);
        let height = tip.height;
        self.roots.push(StateRoot { height, root });
        let had = (0..14).map(|number| {
            let key = account(number);
            let address = Address::new(key[..].try_into().expect("32 bytes"));
            let account = self.ledger.account(&address).expect("read");
            let value = account.encode();
            let value = value.map_or(Bytes::new(), |value| Bytes::copy_from_slice(&value));
            (key, value)
        });
        self.had.push(had.collect());
    }

    /// One more block, in which some pay others; accounts 10 to 13 have nothing at first.
    fn grow(&mut self, chance: &mut Chance) {
        for _ in 0..chance.below(3) {
            let (from, to) = (chance.below(10), chance.below(14));
            let key = development_key(NETWORK, &format!("account {from}"));
            let sender = self.ledger.account(&Address::of(&key)).expect("read");
            let to = Address::new(account(to)[..].try_into().expect("32 bytes"));
            let genesis = *self.ledger.genesis_hash();
            let transfer = Transfer::new(&genesis, &key, to, 5, 1, sender.nonce);
            let transaction = Transaction::new(transfer.encode());
            self.ledger.deliver(&Item::Transaction(transaction));
        }
        let proposer = development_key(NETWORK, "proposer");
        let time = self.ledger.tip().height + 1;
        let block = self.ledger.propose(&proposer, time).expect("a block");
        self.ledger.deliver(&Item::Block(block));
        assert_eq!(self.ledger.tip().height, time);
        self.note();
    }

    fn newest(&self) -> StateRoot {
        self.roots.last().expect("the genesis").clone()
    }

    /// What a peer of a kind says; `None`: it refuses.
    fn answer(
        &self,
        kind: Kind,
        batch: &StateBatch,
        before: &mut Option<ProvenState>,
    ) -> Option<(StateRoot, ProvenState)> {
        let at = batch.at.clone();
        let right = self.ledger.prove_state(batch)?;
        let older = || {
            let at = self.roots[usize::try_from(at.height.saturating_sub(1)).expect("few")].clone();
            let keys = batch.keys.clone();
            let older = StateBatch { at, keys };
            self.ledger
                .prove_state(&older)
                .map(|answer| (older.at, answer))
        };
        let mut false_one = right.clone();
        match kind {
            Kind::Light => return None,
            Kind::Honest | Kind::Late | Kind::Silent => {}
            Kind::LeavesOut => drop(false_one.values.pop()),
            Kind::Stale => false_one = older()?.1,
            Kind::Elsewhere => return older(),
            Kind::Forges => {
                let mut value = vec![0; 16];
                value[7] = 99;
                *false_one.values.first_mut()? = value.into();
            }
            Kind::Swaps => false_one.values.reverse(),
            Kind::Cuts => false_one.proof.truncate(false_one.proof.len() - 1),
            Kind::Prolongs => false_one.proof = [&false_one.proof[..], &[0]].concat().into(),
            Kind::Replays => {
                let replayed = before.replace(right.clone());
                false_one = replayed.unwrap_or(right.clone());
            }
            Kind::Empties => false_one = ProvenState::default(),
        }
        Some((at, false_one))
    }
}

/// What happens at a moment; the first of two of one moment is the one that was planned first.
#[derive(Debug)]
enum Event {
    Block,
    Open(Vec<Bytes>),
    Close,
    Answer(u64, Source, Option<(StateRoot, ProvenState)>, StateBatch),
    Silence(u64, Source),
    Leaves(PeerId),
    Comes(PeerId),
}

/// What a run has come to.
#[derive(Debug, Default, PartialEq)]
struct Report {
    changes: Vec<(WatchId, StateChange)>,
    blamed: BTreeSet<PeerId>,
    questions: usize,
    troubles: usize,
}

struct World {
    chance: Chance,
    truth: Truth,
    core: Watches,
    /// Whose kind is what, and the last answer of each.
    peers: BTreeMap<PeerId, (Kind, Option<ProvenState>)>,
    present: BTreeSet<PeerId>,
    /// Whether this node has the state itself.
    is_full: bool,
    start: Instant,
    planned: BinaryHeap<Reverse<(Duration, u64)>>,
    events: BTreeMap<u64, Event>,
    report: Report,
    /// What readers have, put together.
    views: BTreeMap<WatchId, BTreeMap<Bytes, Bytes>>,
}

impl World {
    fn new(seed: u64, kinds: &[Kind]) -> Self {
        let mut chance = Chance(seed);
        let mut peers = BTreeMap::new();
        for kind in kinds {
            let mut secret = [0; 32];
            secret
                .iter_mut()
                .for_each(|byte| *byte = chance.below(256) as u8);
            let key = crate::Keypair::ed25519_from_bytes(secret).expect("a key");
            peers.insert(key.public().to_peer_id(), (*kind, None));
        }
        let mut world = Self {
            chance,
            truth: Truth::new(),
            core: Watches::new(&[7; 16]),
            present: peers.keys().copied().collect(),
            peers,
            is_full: false,
            start: platform::now(),
            planned: BinaryHeap::new(),
            events: BTreeMap::new(),
            report: Report::default(),
            views: BTreeMap::new(),
        };
        world.core.peers(world.present.clone(), world.start);
        world
    }

    fn plan(&mut self, at: Duration, event: Event) {
        let number = self.events.last_key_value().map_or(0, |(last, _)| last + 1);
        self.events.insert(number, event);
        self.planned.push(Reverse((at, number)));
    }

    /// Blocks at random times, with watches of random keys, and peers that come and go.
    fn plan_life(&mut self) {
        let mut at = Duration::ZERO;
        for _ in 0..BLOCKS {
            at += self.chance.millis(50, 3000);
            self.plan(at, Event::Block);
        }
        for _ in 0..4 {
            let mut keys: Vec<_> = (0..14)
                .filter(|_| self.chance.below(3) == 0)
                .map(account)
                .collect();
            keys.push(account(self.chance.below(14)));
            keys.sort();
            keys.dedup();
            let at = self.chance.millis(0, 20_000);
            self.plan(at, Event::Open(keys));
        }
        let at = self.chance.millis(10_000, 30_000);
        self.plan(at, Event::Close);
        for peer in self.present.clone() {
            if self.chance.below(3) == 0 {
                let at = self.chance.millis(0, 30_000);
                self.plan(at, Event::Leaves(peer));
                let back = at + self.chance.millis(100, 5000);
                self.plan(back, Event::Comes(peer));
            }
        }
    }

    /// Goes on until nothing is planned and the core wants nothing.
    fn run(&mut self) {
        let mut now = Duration::ZERO;
        self.act(now);
        for _ in 0..100_000 {
            let event = self.planned.peek().map(|Reverse((at, _))| *at);
            let deadline = self.core.next_deadline();
            let deadline = deadline.map(|at| at.saturating_duration_since(self.start));
            let is_event = match (event, deadline) {
                (None, None) => return,
                (Some(event), Some(deadline)) => event <= deadline,
                (event, _) => event.is_some(),
            };
            now = now.max(if is_event { event } else { deadline }.expect("one of them"));
            if is_event {
                let Reverse((_, number)) = self.planned.pop().expect("it was there");
                let event = self.events.remove(&number).expect("planned");
                self.happens(event, now);
            } else {
                self.core.on_time(self.start + now);
            }
            self.act(now);
        }
        panic!("it does not come to rest: {:?}", self.core);
    }

    fn happens(&mut self, event: Event, at: Duration) {
        let now = self.start + at;
        match event {
            Event::Block => {
                self.truth.grow(&mut self.chance);
                self.core.trusted(self.truth.newest(), now);
            }
            Event::Open(keys) => {
                let id = self.core.open(keys, now).expect("few");
                self.views.insert(id, BTreeMap::new());
            }
            Event::Close => {
                if let Some((id, _)) = self.views.pop_first() {
                    self.core.close(id);
                }
            }
            Event::Answer(number, source, answer, batch) => {
                let outcome = self.judge(source, answer, &batch, now);
                self.core.answered(number, source, outcome, now);
            }
            Event::Silence(number, source) => {
                let outcome = Outcome::Failed("silent".to_owned());
                self.core.answered(number, source, outcome, now);
            }
            Event::Leaves(peer) => {
                self.present.remove(&peer);
                self.core.peers(self.present.clone(), now);
            }
            Event::Comes(peer) => {
                if !self.report.blamed.contains(&peer) {
                    self.present.insert(peer);
                    self.core.peers(self.present.clone(), now);
                }
            }
        }
    }

    /// As a node does: a liar is banned.
    fn judge(
        &mut self,
        source: Source,
        answer: Option<(StateRoot, ProvenState)>,
        batch: &StateBatch,
        now: Instant,
    ) -> Outcome {
        let Some((at, answer)) = answer else {
            return Outcome::Failed("no such state".to_owned());
        };
        let verdict = match batch.is_answered_by(&at, &answer) {
            Ok(()) => self.truth.ledger.verify_state(batch, &answer),
            Err(wrong) => SyncVerdict::Reject(wrong.to_owned()),
        };
        match (verdict, source) {
            (SyncVerdict::Accept, _) => Outcome::Proven(answer.values),
            (SyncVerdict::Reject(reason), Source::Peer(peer)) => {
                self.report.blamed.insert(peer);
                self.present.remove(&peer);
                self.core.peers(self.present.clone(), now);
                Outcome::Failed(reason)
            }
            (verdict, _) => panic!("{verdict:?}"),
        }
    }

    fn act(&mut self, at: Duration) {
        while let Some(action) = self.core.action() {
            match action {
                Action::Ask(number, source, Question::Batch(batch)) => {
                    self.ask(number, source, batch, at)
                }
                Action::Ask(number, source, Question::Newest(..)) => {
                    self.plan(at, Event::Silence(number, source));
                }
                Action::Verified(id, change) => {
                    let height = usize::try_from(change.at.height).expect("few");
                    assert_eq!(change.at, self.truth.roots[height]);
                    for (key, value) in &change.values {
                        assert_eq!(value, &self.truth.had[height][key], "it is proven");
                    }
                    let view = self.views.get_mut(&id).expect("it is open");
                    view.extend(change.values.clone());
                    // Those that are not named are as they were.
                    for (key, value) in view {
                        assert_eq!(value, &self.truth.had[height][key], "nothing is left out");
                    }
                    self.report.changes.push((id, change));
                }
                Action::Unverified(..) => self.report.troubles += 1,
            }
        }
    }

    fn ask(&mut self, number: u64, source: Source, batch: StateBatch, at: Duration) {
        let Source::Peer(peer) = source else {
            let answer = self
                .truth
                .ledger
                .prove_state(&batch)
                .filter(|_| self.is_full);
            let answer = answer.map(|answer| (batch.at.clone(), answer));
            return self.plan(at, Event::Answer(number, source, answer, batch));
        };
        self.report.questions += 1;
        let (kind, before) = self.peers.get_mut(&peer).expect("known");
        let kind = *kind;
        let age = self.truth.newest().height - batch.at.height;
        let answer = match kind {
            Kind::Late if age == 0 && self.chance.below(2) == 0 => None,
            kind => self.truth.answer(kind, &batch, before),
        };
        let answers_at = at + self.chance.millis(5, 400);
        let event = match kind {
            Kind::Silent => (at + TIMEOUT, Event::Silence(number, source)),
            _ => (answers_at, Event::Answer(number, source, answer, batch)),
        };
        self.plan(event.0, event.1);
    }

    fn is_up_to_date(&self) {
        let newest = self.truth.had.last().expect("the genesis");
        for (id, view) in &self.views {
            assert!(!view.is_empty(), "watch {id} was never told");
            for (key, value) in view {
                assert_eq!(value, &newest[key], "watch {id}");
            }
        }
    }
}

#[test]
fn whoever_lies_is_found_out_and_nothing_is_missed_whatever_the_seed() {
    for seed in 0..60 {
        let mut chance = Chance(seed);
        let mut kinds = vec![Kind::Honest];
        for _ in 0..chance.below(9) {
            kinds.push(Kind::ALL[usize::try_from(chance.below(13)).expect("few")]);
        }
        let mut world = World::new(seed, &kinds);
        world.plan_life();
        world.run();
        world.is_up_to_date();
        for peer in &world.report.blamed {
            assert!(
                world.peers[peer].0.lies(),
                "seed {seed}: an honest peer is blamed"
            );
        }
        // In no run more than a few questions are put for each state and each peer that is no good.
        let most = 6 * usize::try_from(BLOCKS).expect("few") + 20 * kinds.len();
        assert!(
            world.report.questions <= most,
            "seed {seed}: {}",
            world.report.questions
        );
    }
}

#[test]
fn one_seed_is_one_run() {
    let run = |seed| {
        let mut world = World::new(seed, &Kind::ALL);
        world.plan_life();
        world.run();
        world.report
    };
    assert_eq!(run(3), run(3));
    assert_ne!(run(3), run(4));
}

/// A watch of some accounts, and blocks of which each changes something.
fn world_of(kinds: &[Kind]) -> World {
    let mut world = World::new(5, kinds);
    world.plan(Duration::ZERO, Event::Block);
    let keys = (0..14).map(account).collect();
    world.plan(Duration::from_millis(1), Event::Open(keys));
    for second in 1..=10 {
        world.plan(Duration::from_secs(second), Event::Block);
    }
    world
}

#[test]
fn each_kind_of_liar_is_blamed_at_once_and_the_honest_answers() {
    for kind in Kind::ALL.into_iter().filter(|kind| kind.lies()) {
        let mut world = world_of(&[kind, Kind::Honest]);
        // The liar has answered well before, so it is asked first.
        let (liar, honest): (Vec<_>, Vec<_>) = world
            .peers
            .iter()
            .map(|(id, (kind, _))| (*id, *kind))
            .partition(|(_, kind)| kind.lies());
        let (liar, honest) = (liar[0].0, honest[0].0);
        world.core.peers.get_mut(&liar).expect("there").answered = 1;
        world.run();
        world.is_up_to_date();
        assert_eq!(world.report.blamed, BTreeSet::from([liar]), "{kind:?}");
        assert!(world.present.contains(&honest));
        assert_eq!(world.report.troubles, 0);
    }
}

#[test]
fn one_question_is_put_for_each_state_and_none_without_news() {
    let mut world = world_of(&[Kind::Honest, Kind::Honest, Kind::Honest]);
    world.run();
    world.is_up_to_date();
    assert_eq!(world.report.questions, 11);
    assert_eq!(world.core.next_deadline(), None, "it waits for news alone");
    // The same state again is none.
    world.core.trusted(world.truth.newest(), world.start);
    let older = world.truth.roots[3].clone();
    world.core.trusted(older, world.start);
    assert_eq!(world.core.action(), None);
}

#[test]
fn who_has_the_state_asks_nobody() {
    let mut world = world_of(&[Kind::Honest]);
    world.is_full = true;
    world.run();
    world.is_up_to_date();
    assert_eq!(world.report.questions, 0);
    assert_eq!(world.report.changes.len(), 11);
}

#[test]
fn a_silent_peer_delays_once_and_then_others_come_first() {
    let mut world = world_of(&[Kind::Silent, Kind::Honest]);
    let (silent, _) = world
        .peers
        .iter()
        .find(|(_, (kind, _))| *kind == Kind::Silent)
        .expect("one");
    world.core.peers.get_mut(silent).expect("there").answered = 1;
    world.run();
    world.is_up_to_date();
    assert!(
        world.report.blamed.is_empty(),
        "silence is the network's to price"
    );
    assert_eq!(
        world.report.questions, 11,
        "one to each at first, and nine to who answers"
    );
}

#[test]
fn where_nobody_answers_it_is_told_once_and_ends_when_somebody_comes() {
    let mut world = world_of(&[Kind::Light, Kind::Light]);
    let helper = PeerId::random();
    world.peers.insert(helper, (Kind::Honest, None));
    world.plan(Duration::from_secs(60), Event::Comes(helper));
    world.run();
    world.is_up_to_date();
    assert_eq!(world.report.troubles, 1);
    assert_eq!(
        world.report.changes.len(),
        1,
        "what was missed comes as one"
    );
    assert!(
        world.report.questions < 60,
        "pauses grow: {}",
        world.report.questions
    );
}

#[test]
fn watches_and_their_keys_are_bounded_and_share_questions() {
    let (mut core, now) = (Watches::new(&[7; 16]), platform::now());
    core.peers([PeerId::random()], now);
    core.trusted(
        StateRoot {
            height: 1,
            root: Bytes::from_static(b"root"),
        },
        now,
    );
    let key = |number: usize| Bytes::from(number.to_be_bytes().to_vec());
    for watch in 0..MAX_WATCHES {
        // Two of three have keys in common.
        let first = watch % 3 * 40;
        core.open((first..first + 40).map(key).collect(), now)
            .expect("room");
    }
    assert_eq!(core.open(vec![key(0)], now), None);
    let mut batches = Vec::new();
    while let Some(action) = core.action() {
        match action {
            Action::Ask(number, source, Question::Batch(batch)) => {
                assert!(batch.keys.len() <= MAX_STATE_KEYS);
                let values = vec![Bytes::new(); batch.keys.len()];
                batches.push(batch.keys.len());
                core.answered(number, source, Outcome::Proven(values), now);
            }
            Action::Verified(_, change) => assert_eq!(change.values.len(), 40),
            other => panic!("{other:?}"),
        }
    }
    // The first watch is alone at first; then those of each sort go together.
    assert_eq!(batches, [40, 40, 40, 40]);
    assert!(core.open.values().all(|watch| watch.at == Some(1)));
    let ids: Vec<_> = core.open.keys().copied().collect();
    ids.into_iter().for_each(|id| core.close(id));
    assert!(core.is_empty() && core.next_deadline().is_none());
}

#[test]
fn what_is_final_is_asked_for_first_where_nothing_is_known() {
    let (mut core, now) = (Watches::new(&[7; 16]), platform::now());
    let peer = PeerId::random();
    core.peers([peer], now);
    core.open(vec![account(1), account(2)], now).expect("room");
    let Some(Action::Ask(number, source, Question::Newest(..))) = core.action() else {
        panic!("it asks for the newest state");
    };
    assert_eq!(source, Source::Peer(peer));
    let at = StateRoot {
        height: 9,
        root: Bytes::from_static(b"root"),
    };
    core.trusted(at.clone(), now);
    core.answered(number, source, Outcome::Learnt, now);
    let Some(Action::Ask(_, Source::Here, Question::Batch(batch))) = core.action() else {
        panic!("then for that one");
    };
    assert_eq!((batch.at, batch.keys.len()), (at, 2));
    assert_eq!(core.action(), None);
    // Nobody else is there.
    let mut core = Watches::new(&[7; 16]);
    core.peers([peer], now);
    core.open(vec![account(1)], now).expect("room");
    let Some(Action::Ask(number, source, _)) = core.action() else {
        panic!("it asks");
    };
    let useless = Outcome::Failed("nothing newer".to_owned());
    core.answered(number, source, useless, now);
    assert_eq!(
        (core.action(), core.next_deadline()),
        (None, Some(now + PAUSE))
    );
}

fn root(height: u64) -> StateRoot {
    StateRoot {
        height,
        root: Bytes::from_static(b"root"),
    }
}

/// Answers all that is asked until nothing is; what peers were asked.
fn answer_all(
    core: &mut Watches,
    now: Instant,
    answer: impl Fn(Source, &Question) -> Outcome,
) -> Vec<(PeerId, Question)> {
    let mut asked = Vec::new();
    while let Some(action) = core.action() {
        if let Action::Ask(number, source, question) = action {
            let outcome = answer(source, &question);
            core.answered(number, source, outcome, now);
            if let Source::Peer(peer) = source {
                asked.push((peer, question));
            }
        }
    }
    asked
}

fn no() -> Outcome {
    Outcome::Failed("no".to_owned())
}

/// A peer that has each state, and says that it is the newest.
fn rests(source: Source, question: &Question) -> Outcome {
    match (source, question) {
        (Source::Here, _) => no(),
        (_, Question::Newest(..)) => Outcome::Known,
        (_, Question::Batch(batch)) => Outcome::Proven(vec![Bytes::new(); batch.keys.len()]),
    }
}

fn newest(asked: &[(PeerId, Question)]) -> Vec<bool> {
    let is_newest = |(_, question): &_| matches!(question, Question::Newest(..));
    asked.iter().map(is_newest).collect()
}

#[test]
fn a_state_of_an_earlier_run_is_not_told_before_peers_were_asked_for_a_newer_one() {
    let (mut core, mut now) = (Watches::new(&[7; 16]), platform::now());
    let peers: Vec<_> = (0..5).map(|_| PeerId::random()).collect();
    core.trusted(root(1000), now);
    core.peers(peers.clone(), now);
    core.open(vec![account(1)], now).expect("room");
    let Some(Action::Ask(number, Source::Here, _)) = core.action() else {
        panic!("this node may have it");
    };
    core.answered(number, Source::Here, no(), now);
    let Some(Action::Ask(number, source, Question::Newest(_, Some(1000)))) = core.action() else {
        panic!("it may be long over");
    };
    // One that says so is not believed, and has not answered well by that.
    core.answered(number, source, Outcome::Known, now);
    let Some(Action::Ask(number, other, Question::Newest(..))) = core.action() else {
        panic!("another one is asked");
    };
    assert_ne!(source, other);
    core.trusted(root(1100), now);
    core.answered(number, other, Outcome::Learnt, now);
    let asked = answer_all(&mut core, now, rests);
    assert_eq!(asked.len(), 1, "it is sure now");
    assert_eq!(
        Source::Peer(asked[0].0),
        other,
        "who was of use comes first"
    );
    assert!(matches!(&asked[0].1, Question::Batch(batch) if batch.at == root(1100)));
    // After a sleep, and after a time alone: some are believed, and then it is at peace.
    core.woke(now);
    assert_eq!(newest(&answer_all(&mut core, now, rests)), [true; ENOUGH]);
    core.peers([], now);
    core.peers(peers, now);
    assert_eq!(core.action(), None, "not at once again");
    now = core.next_deadline().expect("in a moment");
    core.on_time(now);
    assert_eq!(newest(&answer_all(&mut core, now, rests)), [true; ENOUGH]);
    assert_eq!(core.next_deadline(), None);
    // Who has the state itself asks nobody.
    let mut core = Watches::new(&[7; 16]);
    core.trusted(root(1000), now);
    core.peers([PeerId::random()], now);
    core.open(vec![account(1)], now).expect("room");
    let here = |_: Source, _: &Question| Outcome::Proven(vec![Bytes::new()]);
    assert_eq!(answer_all(&mut core, now, here), []);
    core.woke(now);
    assert_eq!((core.action(), core.next_deadline()), (None, None));
}

#[test]
fn who_shows_an_old_state_as_the_newest_does_not_keep_others_from_being_asked() {
    let (mut core, now) = (Watches::new(&[7; 16]), platform::now());
    let peers: Vec<_> = (0..6).map(|_| PeerId::random()).collect();
    core.trusted(root(7), now);
    core.open(vec![account(1)], now).expect("room");
    core.peers(peers.clone(), now);
    let refuses = |source: Source, question: &Question| match rests(source, question) {
        Outcome::Known => Outcome::Known,
        _ => no(),
    };
    let mut now = now;
    let mut told = BTreeSet::new();
    // Peace at first, and then all are asked for what is newer.
    for _ in 0..3 {
        let asked = answer_all(&mut core, now, refuses);
        told = asked
            .into_iter()
            .filter(|(_, question)| matches!(question, Question::Newest(..)))
            .map(|(peer, _)| peer)
            .collect();
        now = core.next_deadline().expect("it tries again");
        core.on_time(now);
    }
    assert_eq!(told, peers.into_iter().collect());
}

#[test]
fn where_nobody_has_the_trusted_state_any_more_a_newer_one_is_sought() {
    let (mut core, mut now) = (Watches::new(&[7; 16]), platform::now());
    core.peers([PeerId::random()], now);
    core.trusted(root(7), now);
    core.open(vec![account(1)], now).expect("room");
    let mut asked = Vec::new();
    for _ in 0..4 {
        asked.extend(newest(&answer_all(&mut core, now, |_, _| no())));
        now = core.next_deadline().expect("it tries again");
        core.on_time(now);
    }
    // At first to be sure; then, since it may be behind for a moment, not before the second time.
    assert_eq!(asked, [true, false, false, true, false, true, false, true]);
    core.trusted(root(900), now);
    let asked = answer_all(&mut core, now, rests);
    assert!(matches!(asked.last(), Some((_, Question::Batch(batch))) if batch.at == root(900)));
}

#[test]
fn a_watch_that_nobody_can_answer_keeps_no_other_waiting() {
    let (mut core, mut now) = (Watches::new(&[7; 16]), platform::now());
    core.peers([PeerId::random()], now);
    core.trusted(root(1), now);
    let poison = account(1);
    let answer = |source: Source, question: &Question| match question {
        Question::Batch(batch) if batch.keys.contains(&poison) => no(),
        question => rests(source, question),
    };
    let bad: Vec<_> = (0..2)
        .map(|_| core.open(vec![account(1)], now).expect("room"))
        .collect();
    let good: Vec<_> = (2..5)
        .map(|key| core.open(vec![account(key)], now).expect("room"))
        .collect();
    let at = |core: &Watches, id| core.open[id].at;
    // Twice together, and then the two alone.
    for _ in 0..4 {
        answer_all(&mut core, now, answer);
        now = core.next_deadline().expect("it tries again");
        core.on_time(now);
    }
    answer_all(&mut core, now, answer);
    assert!(good.iter().all(|id| at(&core, id) == Some(1)));
    // From then on those without trouble are asked for together, and at once, though others wait.
    core.trusted(root(2), now);
    let asked = answer_all(&mut core, now, answer);
    assert!(matches!(&asked[0].1, Question::Batch(batch) if batch.keys.len() == 3));
    assert!(good.iter().all(|id| at(&core, id) == Some(2)));
    let late = core.open(vec![account(7)], now).expect("room");
    answer_all(&mut core, now, answer);
    assert_eq!(at(&core, &late), Some(2));
    assert!(bad.iter().all(|id| at(&core, id).is_none()));
}

#[test]
fn a_new_watch_begins_anew_after_the_last_was_closed() {
    let (mut core, mut now) = (Watches::new(&[7; 16]), platform::now());
    core.peers([PeerId::random()], now);
    let mut told = 0;
    for _ in 0..2 {
        let id = core.open(vec![account(1)], now).expect("room");
        assert_ne!(
            core.round.as_ref().map(|round| round.number),
            None,
            "at once"
        );
        for _ in 0..6 {
            while let Some(action) = core.action() {
                match action {
                    Action::Ask(number, source, _) => core.answered(number, source, no(), now),
                    action => told += usize::from(matches!(action, Action::Unverified(..))),
                }
            }
            now = core.next_deadline().expect("it tries again");
            core.on_time(now);
        }
        core.close(id);
    }
    assert_eq!(told, 2);
}

#[test]
fn new_peers_end_no_pause_before_its_time_and_what_was_never_sent_is_nobodys_fault() {
    let (mut core, now) = (Watches::new(&[7; 16]), platform::now());
    let first = PeerId::random();
    core.peers([first], now);
    core.open(vec![account(1)], now).expect("room");
    answer_all(&mut core, now, |_, _| Outcome::Held("busy".to_owned()));
    assert_eq!(core.peers[&first].failures, 0);
    core.peers([first, PeerId::random()], now);
    assert_eq!(
        (core.action(), core.next_deadline()),
        (None, Some(now + PAUSE))
    );
    core.on_time(now + PAUSE);
    assert!(core.action().is_some());
    // Whom of equals it asks first is another one with another secret.
    let peers: Vec<_> = (0..8).map(|_| PeerId::random()).collect();
    let firsts = (0..32).map(|secret| {
        let mut core = Watches::new(&[secret; 16]);
        core.peers(peers.clone(), now);
        core.open(vec![account(1)], now).expect("room");
        answer_all(&mut core, now, |_, _| no())[0].0
    });
    assert!(firsts.collect::<BTreeSet<_>>().len() > 1);
}

/// A random peer that is before this one where chance decides.
fn before(core: &Watches, other: &PeerId) -> PeerId {
    let chance = |peer: &PeerId| core.secret.hash(&peer.to_bytes());
    loop {
        let peer = PeerId::random();
        if chance(&peer) < chance(other) {
            return peer;
        }
    }
}

#[test]
fn who_stays_is_asked_though_others_come_and_go() {
    // One that was of no use once, and one that of equals is always the last.
    for was_behind in [true, false] {
        let (mut core, mut now) = (Watches::new(&[7; 16]), platform::now());
        let honest = PeerId::random();
        let crowd: Vec<_> = (0..=MOST_ASKED).map(|_| before(&core, &honest)).collect();
        let all = || crowd.iter().copied().chain([honest]);
        core.peers(all().filter(|peer| !was_behind || *peer == honest), now);
        core.open(vec![account(1)], now).expect("room");
        core.trusted(root(7), now);
        let mut was_asked = false;
        for round in 0..20 {
            let is_behind = was_behind && round == 0;
            let asked = answer_all(&mut core, now, |source, question| {
                if source == Source::Peer(honest) && !is_behind {
                    rests(source, question)
                } else {
                    no()
                }
            });
            was_asked |= !is_behind && asked.iter().any(|(peer, _)| *peer == honest);
            if was_asked {
                break;
            }
            now = core.next_deadline().expect("it tries again");
            // They leave, and are as new.
            core.peers([honest], now);
            core.peers(all(), now);
            core.on_time(now);
        }
        assert!(was_asked, "{was_behind}");
    }
}

#[test]
fn who_says_that_there_is_nothing_newer_is_asked_before_who_refused() {
    let (mut core, now) = (Watches::new(&[7; 16]), platform::now());
    let honest = PeerId::random();
    let refusing = before(&core, &honest);
    core.trusted(root(7), now);
    core.peers([honest, refusing], now);
    core.open(vec![account(1)], now).expect("room");
    let asked = answer_all(&mut core, now, |source, question| {
        if source == Source::Peer(honest) {
            rests(source, question)
        } else {
            no()
        }
    });
    let peers: Vec<_> = asked.iter().map(|(peer, _)| *peer).collect();
    assert_eq!(peers, [refusing, honest, honest]);
    assert_eq!(newest(&asked), [true, true, false]);
}
