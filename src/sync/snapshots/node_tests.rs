//! Whole cores with ledgers behind them: who seeks, who proves, who pays.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    job::{Done, Job},
    node::Event,
    *,
};
use crate::{
    Application, Item, Vote,
    chain::{
        Snapshot, SnapshotProof, SnapshotSource as _,
        ledger::{self, DEVELOPMENT_VOTERS, Genesis, Ledger, development_key},
        rules::{Synced, Synchronous},
    },
    lanes::{Action, Taken},
    peers::Misdeed,
    platform::{Instant, test},
    storage::MemoryStore,
    sync::SyncPhase,
};
use libp2p::PeerId;
use std::time::Duration;

const NETWORK: &str = "cores";

/// A ledger of so many blocks, the last of which is final.
fn ledger(blocks: u64) -> Ledger {
    let store = MemoryStore::new(1 << 24, &ledger::SCHEMA).expect("memory");
    let ledger = Ledger::open(Genesis::development(NETWORK), Arc::new(store)).expect("a genesis");
    grow(&ledger, blocks);
    ledger
}

fn grow(ledger: &Ledger, blocks: u64) {
    propose(ledger, blocks);
    finalize(ledger);
}

fn propose(ledger: &Ledger, blocks: u64) {
    let key = development_key(NETWORK, "proposer");
    for _ in 0..blocks {
        let block = ledger.propose(&key, ledger.tip().height + 1).expect("one");
        ledger.deliver(&Item::Block(block));
    }
}

fn finalize(ledger: &Ledger) {
    for number in 0..DEVELOPMENT_VOTERS {
        let key = development_key(NETWORK, &format!("voter {number}"));
        let vote: Option<Vote> = ledger.vote(&key).expect("written");
        vote.into_iter()
            .for_each(|vote| ledger.deliver(&Item::Vote(vote)));
    }
}

struct Node {
    id: PeerId,
    core: Snapshots,
    chain: Synced,
    misdeeds: Vec<(PeerId, Misdeed)>,
    takes: bool,
    /// Blocks wait, and did so before anything of a snapshot was asked for.
    holds: bool,
    held_at_once: bool,
    outcome: Option<Outcome>,
    failures: usize,
}

/// All of them know each other, and what they send is there at once.
struct Network {
    nodes: Vec<Node>,
    now: Instant,
    /// How each message of a kind that was sent.
    sent: BTreeMap<&'static str, usize>,
    /// What becomes of what a node sends.
    tampers: fn(usize, Message) -> Message,
}

fn config() -> SnapshotsConfig {
    SnapshotsConfig {
        make_every: 10,
        download: DownloadConfig {
            min_gain: 20,
            ..DownloadConfig::default()
        },
        ..SnapshotsConfig::default()
    }
}

impl Network {
    fn of(ledgers: &[Ledger]) -> Self {
        let node = |ledger: &Ledger| {
            let chain = Synchronous::new(Arc::new(ledger.clone())).synced();
            Node {
                id: PeerId::random(),
                core: Snapshots::new(config(), &chain, 7),
                chain,
                misdeeds: Vec::new(),
                takes: false,
                holds: false,
                held_at_once: false,
                outcome: None,
                failures: 0,
            }
        };
        let mut network = Self {
            nodes: ledgers.iter().map(node).collect(),
            now: crate::platform::now(),
            sent: BTreeMap::new(),
            tampers: |_, message| message,
        };
        let ids: Vec<_> = network.nodes.iter().map(|node| node.id).collect();
        for node in &mut network.nodes {
            for id in ids.iter().filter(|id| **id != node.id) {
                node.core.greeted(*id, VERSION);
                node.core.joined(*id);
            }
        }
        network
    }

    /// Goes on for so long.
    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            for place in 0..self.nodes.len() {
                self.nodes[place].core.on_time(self.now);
            }
            while (0..self.nodes.len()).fold(false, |moves, place| moves | self.moves(place)) {}
            self.now += Duration::from_millis(50);
        }
    }

    /// Does what a node wants, and brings what it sends. Whether there was anything.
    fn moves(&mut self, place: usize) -> bool {
        let now = self.now;
        let node = &mut self.nodes[place];
        let mut moves = false;
        while let Some(action) = node.core.action() {
            moves = true;
            match action {
                Action::Misdeed(peer, misdeed) => node.misdeeds.push((peer, misdeed)),
                Action::Tell(Event::Work(job)) => node.core.done(job.run(&node.chain), now),
                Action::Tell(Event::Holds(holds)) => {
                    node.takes |= holds;
                    node.holds = holds;
                    node.held_at_once |= holds && !self.sent.contains_key("request");
                }
                Action::Tell(Event::Ended(outcome)) => node.outcome = Some(outcome),
                Action::Tell(Event::Failed(..)) => node.failures += 1,
                _ => {}
            }
        }
        let from = node.id;
        for to in 0..self.nodes.len() {
            let peer = self.nodes[to].id;
            while to != place
                && let Some(outgoing) = self.nodes[place].core.next(peer, 64 << 10, now)
            {
                moves = true;
                let mut frame = outgoing.bytes;
                prost::decode_length_delimiter(&mut frame).expect("its length");
                let message = (self.tampers)(place, Message::read(frame).expect("right"));
                let kind = match &message {
                    Message::Seek => "seek",
                    Message::Offers(_) => "offers",
                    Message::Proof(..) => "proof",
                    Message::Request(_) => "request",
                    _ => "other",
                };
                *self.sent.entry(kind).or_default() += 1;
                let heard = match message {
                    Message::Piece(piece) => Heard::Piece(HashedPiece::of(piece)),
                    other => Heard::Message(other),
                };
                self.nodes[to]
                    .core
                    .frame(from, heard, Taken::nothing(), now);
            }
        }
        moves
    }

    fn synced(&self, place: usize) -> Option<u64> {
        match &self.nodes[place].outcome {
            Some(Outcome::Synced(snapshot)) => Some(snapshot.height),
            _ => None,
        }
    }
}

#[test]
fn who_is_far_behind_seeks_and_is_shown_a_state_that_it_takes() {
    let (maker, mine) = (ledger(30), ledger(0));
    maker.make_snapshot(None, 16 << 10).expect("written");
    let mut network = Network::of(&[maker.clone(), mine.clone()]);
    let now = network.now;
    network.nodes[1]
        .core
        .chain_is_at(0, SyncPhase::Waiting, now);
    network.nodes[1].core.heard_of(19, now);
    network.run(Duration::from_secs(3));
    assert_eq!(network.sent.get("seek"), None, "that is near");
    network.nodes[1].core.heard_of(30, now);
    network.run(Duration::from_secs(3));
    assert_eq!(network.synced(1), Some(30));
    assert!(network.nodes[1].takes, "blocks have waited");
    assert_eq!(mine.tip(), maker.tip());
    let told = ["seek", "offers", "proof"].map(|kind| network.sent[kind]);
    assert_eq!(told, [1, 1, 1]);
    // Now it rests.
    network.nodes[1].core.heard_of(1_000_000, network.now);
    network.run(Duration::from_secs(3));
    assert_eq!(network.sent["seek"], 1);
    network.now += Duration::from_secs(600);
    network.nodes[1].core.heard_of(1_000_001, network.now);
    network.run(Duration::from_secs(1));
    assert_eq!(network.sent["seek"], 2);
    for node in &network.nodes {
        assert!(node.misdeeds.is_empty(), "{:?}", node.misdeeds);
    }
}

#[test]
fn streams_that_move_midway_cost_time_and_nobody_pays() {
    let maker = ledger(30);
    maker.make_snapshot(None, 16 << 10).expect("written");
    for (place, other) in [(0, 1), (1, 0)] {
        let mut network = Network::of(&[maker.clone(), ledger(0)]);
        let now = network.now;
        network.nodes[1]
            .core
            .chain_is_at(0, SyncPhase::Waiting, now);
        network.nodes[1].core.heard_of(30, now);
        network.run(Duration::from_millis(500));
        let (peer, now) = (network.nodes[other].id, network.now);
        network.nodes[place].core.moved(peer, now);
        network.run(Duration::from_secs(3));
        assert!(network.nodes[1].takes, "it has been told anew");
        for node in &network.nodes {
            assert!(node.misdeeds.is_empty(), "{:?}", node.misdeeds);
        }
    }
}

#[test]
fn blocks_do_not_wait_for_who_only_says_that_he_is_ahead() {
    let mut network = Network::of(&[ledger(0), ledger(0)]);
    let now = network.now;
    network.nodes[1]
        .core
        .chain_is_at(0, SyncPhase::Waiting, now);
    network.nodes[1].core.heard_of(u64::MAX, now);
    network.run(Duration::from_secs(11));
    assert!(!network.nodes[1].takes);
    let outcome = &network.nodes[1].outcome;
    assert_eq!(*outcome, Some(Outcome::Blocks(NoSnapshot::Nobody)));
    // It looks again soon: others may have come.
    network.now += Duration::from_secs(15);
    network.nodes[1].core.heard_of(u64::MAX, network.now);
    network.run(Duration::from_secs(1));
    assert_eq!(network.sent["seek"], 2);
}

#[test]
fn who_is_forgotten_when_streams_break_is_served_on() {
    let maker = ledger(30);
    maker.make_snapshot(None, 16 << 10).expect("written");
    let mut network = Network::of(&[maker, ledger(0)]);
    let now = network.now;
    network.nodes[1]
        .core
        .chain_is_at(0, SyncPhase::Waiting, now);
    network.nodes[1].core.heard_of(30, now);
    network.run(Duration::from_millis(500));
    // It has been told what there is, and asks for nothing yet.
    let (peer, now) = (network.nodes[1].id, network.now);
    network.nodes[0].core.gone(peer, now);
    network.nodes[0].core.joined(peer);
    network.run(Duration::from_secs(3));
    assert_eq!(network.synced(1), Some(30));
    assert!(network.nodes[1].misdeeds.is_empty());
}

#[test]
fn blocks_that_are_here_are_not_replaced_unless_that_is_asked_for() {
    let maker = ledger(30);
    maker.make_snapshot(None, 16 << 10).expect("written");
    for (begins, replace_blocks, taken) in
        [(0, false, Some(30)), (5, false, None), (5, true, Some(30))]
    {
        let mine = ledger(5);
        let mut network = Network::of(&[maker.clone(), mine.clone()]);
        let now = network.now;
        let node = &mut network.nodes[1];
        let config = SnapshotsConfig {
            replace_blocks,
            ..config()
        };
        node.core = Snapshots::new(config, &node.chain, 7);
        let peer = network.nodes[0].id;
        let core = &mut network.nodes[1].core;
        core.greeted(peer, VERSION);
        core.joined(peer);
        core.chain_is_at(begins, SyncPhase::Waiting, now);
        core.chain_is_at(5, SyncPhase::Syncing, now);
        core.heard_of(30, now);
        network.run(Duration::from_secs(3));
        assert_eq!(network.synced(1), taken, "{begins} {replace_blocks}");
        assert_eq!(mine.tip().height, taken.unwrap_or(5));
    }
    // Nor where they have once been all there were.
    let mut network = Network::of(&[maker, ledger(0)]);
    let now = network.now;
    let core = &mut network.nodes[1].core;
    core.chain_is_at(0, SyncPhase::Waiting, now);
    core.chain_is_at(5, SyncPhase::Synced, now);
    core.heard_of(30, now);
    network.run(Duration::from_secs(3));
    assert_eq!(network.sent.get("seek"), None);
}

#[test]
fn who_forges_a_proof_pays_and_another_ones_counts() {
    let (maker, mine) = (ledger(30), ledger(0));
    maker.make_snapshot(None, 16 << 10).expect("written");
    let mut network = Network::of(&[maker.clone(), maker.clone(), mine.clone()]);
    network.tampers = |from, message| match message {
        Message::Proof(id, proof) if from == 0 => {
            let mut forged = proof.proof.to_vec();
            *forged.last_mut().expect("it has votes") ^= 1;
            let proof = SnapshotProof {
                proof: forged.into(),
                ..proof
            };
            Message::Proof(id, proof)
        }
        other => other,
    };
    let now = network.now;
    network.nodes[2]
        .core
        .chain_is_at(0, SyncPhase::Waiting, now);
    network.nodes[2].core.heard_of(30, now);
    network.run(Duration::from_secs(3));
    assert_eq!(network.synced(2), Some(30));
    let liar = network.nodes[0].id;
    // Whose proof is looked at first is by their ids.
    let misdeeds = &network.nodes[2].misdeeds;
    let price = [(liar, Misdeed::FalseSnapshot)];
    assert!(misdeeds.is_empty() || *misdeeds == price, "{misdeeds:?}");

    // Alone it shows nothing.
    let mine = ledger(0);
    let mut network = Network {
        tampers: network.tampers,
        ..Network::of(&[maker, mine.clone()])
    };
    network.nodes[1]
        .core
        .chain_is_at(0, SyncPhase::Waiting, now);
    network.nodes[1].core.heard_of(30, now);
    network.run(Duration::from_secs(70));
    let outcome = &network.nodes[1].outcome;
    assert_eq!(*outcome, Some(Outcome::Blocks(NoSnapshot::Untrusted)));
    let liar = network.nodes[0].id;
    let misdeeds = &network.nodes[1].misdeeds;
    assert_eq!(*misdeeds, [(liar, Misdeed::FalseSnapshot)]);
    assert_eq!(mine.tip().height, 0);
}

fn heights(ledger: &Ledger) -> Vec<u64> {
    let source = ledger.snapshot_source().expect("it has some");
    let made = source.list_snapshots();
    made.iter().map(|made| made.height).collect()
}

#[test]
fn a_chain_is_asked_for_snapshots_of_heights_that_all_know_once_they_are_final() {
    use SyncPhase::{Synced, Syncing, Waiting};
    let maker = ledger(8);
    let mut network = Network::of(std::slice::from_ref(&maker));
    for (blocks, phase, made) in [
        (0, Waiting, vec![]),
        (3, Syncing, vec![]),
        (0, Waiting, vec![10]),
        (8, Synced, vec![10]),
        (3, Synced, vec![10, 20]),
        (15, Synced, vec![20, 30]),
    ] {
        grow(&maker, blocks);
        let (height, now) = (maker.tip().height, network.now);
        network.nodes[0].core.chain_is_at(height, phase, now);
        network.run(Duration::from_secs(1));
        assert_eq!(heights(&maker), made);
    }
    // The votes come later.
    propose(&maker, 4);
    for made in [[20, 30], [30, 40]] {
        let (height, now) = (maker.tip().height, network.now);
        network.nodes[0].core.chain_is_at(height, Synced, now);
        network.run(Duration::from_secs(1));
        assert_eq!(heights(&maker), made);
        grow(&maker, 1);
    }
    // No block comes after the one that is final.
    propose(&maker, 50 - maker.tip().height);
    network.nodes[0].core.chain_is_at(50, Synced, network.now);
    network.run(Duration::from_secs(1));
    finalize(&maker);
    network.run(Duration::from_secs(31));
    assert_eq!(heights(&maker), [40, 50]);
    assert_eq!(network.nodes[0].failures, 0);
}

#[test]
fn nodes_whose_chains_are_at_other_heights_make_the_same_snapshots() {
    let ledgers = [23, 27, 29].map(ledger);
    let mut network = Network::of(&ledgers);
    for (node, ledger) in network.nodes.iter_mut().zip(&ledgers) {
        let height = ledger.tip().height;
        node.core
            .chain_is_at(height, SyncPhase::Synced, network.now);
    }
    network.run(Duration::from_secs(1));
    let made = ledgers.each_ref().map(|ledger| {
        let made = ledger.list_snapshots();
        made.iter().map(Snapshot::id).collect::<Vec<_>>()
    });
    assert_eq!(made[0].len(), 1);
    assert!(made.iter().all(|ids| *ids == made[0]), "{made:?}");
}

#[test]
fn a_snapshot_that_somebody_fetches_is_kept_as_long() {
    let maker = ledger(10);
    maker.make_snapshot(None, 16 << 10).expect("written");
    let mut network = Network::of(std::slice::from_ref(&maker));
    let (peer, first) = (PeerId::random(), maker.list_snapshots()[0].id());
    let config = SnapshotsConfig {
        keep: 1,
        ..config()
    };
    let node = &mut network.nodes[0];
    node.core = Snapshots::new(config, &node.chain, 7);
    node.core.greeted(peer, VERSION);
    node.core.joined(peer);
    network.run(Duration::from_secs(1));
    let request = Request {
        number: 1,
        snapshot: first,
        part: Part::Hashes,
        first: 0,
        end: 1,
        values: true,
    };
    let message = Heard::Message(Message::Request(request));
    let (core, now) = (&mut network.nodes[0].core, network.now);
    core.frame(peer, message, Taken::nothing(), now);
    grow(&maker, 10);
    core.chain_is_at(20, SyncPhase::Synced, now);
    for (seconds, kept) in [(1, vec![10, 20]), (50, vec![10, 20]), (40, vec![20])] {
        network.run(Duration::from_secs(seconds));
        assert_eq!(heights(&maker), kept);
    }
}

/// Where a node that was ended with chunks of a snapshot, and with blocks, begins again.
fn begun(maker: &Ledger, blocks: u64) -> Ledger {
    let mine = ledger(blocks);
    let snapshot = maker.list_snapshots().pop().expect("it has one");
    let sink = mine.snapshot_sink().expect("it takes some");
    let offered = sink.offer_snapshot(&snapshot, None);
    assert_eq!(offered, crate::chain::SyncVerdict::Accept);
    mine
}

#[test]
fn a_snapshot_that_was_begun_is_gone_on_with_though_blocks_are_here_and_near() {
    let maker = ledger(30);
    maker.make_snapshot(None, 16 << 10).expect("written");
    for begins in [5, 29] {
        let mine = begun(&maker, begins);
        let mut network = Network::of(&[maker.clone(), mine.clone()]);
        let now = network.now;
        let core = &mut network.nodes[1].core;
        core.chain_is_at(begins, SyncPhase::Waiting, now);
        core.heard_of(30, now);
        network.run(Duration::from_secs(3));
        assert_eq!(network.synced(1), Some(30), "{begins}");
        assert!(network.nodes[1].held_at_once, "blocks give it a chance");
        assert_eq!(mine.tip(), maker.tip());
    }
}

#[test]
fn blocks_wait_for_a_snapshot_that_was_begun_only_as_long_as_one_is_looked_for() {
    let maker = ledger(30);
    maker.make_snapshot(None, 16 << 10).expect("written");
    let mine = begun(&maker, 5);
    let mut network = Network::of(&[ledger(0), mine]);
    let now = network.now;
    let core = &mut network.nodes[1].core;
    core.chain_is_at(5, SyncPhase::Waiting, now);
    core.heard_of(u64::MAX, now);
    network.run(Duration::from_secs(9));
    assert!(network.nodes[1].holds);
    network.run(Duration::from_secs(2));
    assert!(!network.nodes[1].holds);
    // A later search holds up nothing.
    network.now += Duration::from_secs(60);
    network.nodes[1].core.heard_of(u64::MAX, network.now);
    network.run(Duration::from_secs(1));
    assert_eq!(network.sent["seek"], 2);
    assert!(!network.nodes[1].holds);
}

#[test]
fn what_came_of_a_snapshot_goes_when_the_chain_is_synced_or_past_it() {
    let maker = ledger(30);
    maker.make_snapshot(None, 16 << 10).expect("written");
    for (height, phase, goes) in [
        (5, SyncPhase::Syncing, false),
        (30, SyncPhase::Syncing, true),
        (6, SyncPhase::Synced, true),
    ] {
        let mine = begun(&maker, 5);
        let mut network = Network::of(std::slice::from_ref(&mine));
        network.run(Duration::from_secs(1));
        let now = network.now;
        let core = &mut network.nodes[0].core;
        core.chain_is_at(5, SyncPhase::Waiting, now);
        core.chain_is_at(height, phase, now);
        network.run(Duration::from_secs(1));
        let sink = mine.snapshot_sink().expect("it takes some");
        assert_eq!(sink.unfinished_snapshot().is_none(), goes, "{height}");
    }
}

#[test]
fn what_an_earlier_run_took_goes_at_the_start_where_it_is_not_gone_on_with() {
    let maker = ledger(30);
    let snapshot = maker.make_snapshot(None, 16 << 10).expect("written");
    let snapshot = snapshot.expect("it is final");
    for (take, blocks, goes) in [(true, 5, false), (false, 5, true), (true, 30, true)] {
        let mine = begun(&maker, 5);
        let sink = mine.snapshot_sink().expect("it takes some");
        let chunk = maker
            .load_snapshot_chunk(&snapshot, 0)
            .expect("it is there");
        sink.apply_snapshot_chunk(0, &chunk, &PeerId::random());
        assert_eq!(sink.stored_snapshot_chunks(&snapshot), [0]);
        grow(&mine, blocks - 5);
        let mut network = Network::of(std::slice::from_ref(&mine));
        let node = &mut network.nodes[0];
        let config = SnapshotsConfig { take, ..config() };
        node.core = Snapshots::new(config, &node.chain, 7);
        network.run(Duration::from_secs(1));
        let left = sink.stored_snapshot_chunks(&snapshot);
        assert_eq!(left.is_empty(), goes, "take {take}, {blocks} blocks");
    }
}

#[test]
fn what_could_not_be_forgotten_is_tried_again() {
    let config = SnapshotsConfig {
        take: false,
        ..config()
    };
    let chain = Synchronous::new(Arc::new(ledger(0))).synced();
    let mut core = Snapshots::new(config, &chain, 7);
    let abandons = |core: &mut Snapshots| {
        let actions: Vec<_> = std::iter::from_fn(|| core.action()).collect();
        let is_abandon =
            |action: &&Action<Event>| matches!(action, Action::Tell(Event::Work(Job::Abandon)));
        actions.iter().filter(is_abandon).count()
    };
    let mut now = crate::platform::now();
    assert_eq!(abandons(&mut core), 1);
    core.done(Done::Abandoned(Err("the disk is full".to_owned())), now);
    for (seconds, tried) in [(59, 0), (2, 1), (100, 0)] {
        now += Duration::from_secs(seconds);
        core.on_time(now);
        assert_eq!(abandons(&mut core), tried);
    }
    core.done(Done::Abandoned(Ok(())), now);
    core.on_time(now + Duration::from_secs(100));
    assert_eq!(abandons(&mut core), 0);
}

#[test]
fn a_snapshot_made_by_hand_takes_no_place_of_the_nodes_own() {
    let maker = ledger(13);
    maker.make_snapshot(None, 16 << 10).expect("written");
    let mut network = Network::of(std::slice::from_ref(&maker));
    let core = &mut network.nodes[0].core;
    core.chain_is_at(13, SyncPhase::Synced, network.now);
    network.run(Duration::from_secs(1));
    assert_eq!(heights(&maker), [10, 13]);
}

#[test]
fn a_snapshot_that_could_not_be_made_is_made_later() {
    let maker = ledger(10);
    let mut network = Network::of(std::slice::from_ref(&maker));
    network.run(Duration::from_secs(1));
    let (core, mut now) = (&mut network.nodes[0].core, network.now);
    let makes = |core: &mut Snapshots| {
        let actions: Vec<_> = std::iter::from_fn(|| core.action()).collect();
        let is_make =
            |action: &&Action<Event>| matches!(action, Action::Tell(Event::Work(Job::Make(10, _))));
        actions.iter().filter(is_make).count()
    };
    core.chain_is_at(10, SyncPhase::Synced, now);
    assert_eq!(makes(core), 1);
    core.done(Done::Made(10, Err("the disk is full".to_owned())), now);
    for (height, seconds, tried) in [(11, 1, 0), (12, 60, 1)] {
        now += Duration::from_secs(seconds);
        core.chain_is_at(height, SyncPhase::Synced, now);
        assert_eq!(makes(core), tried);
    }
}

#[test]
fn who_was_not_greeted_or_asks_without_an_end_pays() {
    let mut network = Network::of(&[ledger(0)]);
    let (peer, now) = (PeerId::random(), network.now);
    let core = &mut network.nodes[0].core;
    let seek = || Heard::Message(Message::Seek);
    core.greeted(peer, VERSION - 1);
    core.joined(peer);
    core.frame(peer, seek(), Taken::nothing(), now);
    core.greeted(peer, VERSION);
    core.joined(peer);
    for _ in 0..10 {
        core.frame(peer, seek(), Taken::nothing(), now);
    }
    network.run(Duration::from_millis(50));
    let misdeeds: Vec<_> = network.nodes[0].misdeeds.iter().map(|it| it.1).collect();
    let (first, rest) = misdeeds.split_first().expect("it paid");
    assert_eq!(*first, Misdeed::InvalidMessage);
    assert!(!rest.is_empty() && rest.iter().all(|it| *it == Misdeed::TooManyMessages));
}
