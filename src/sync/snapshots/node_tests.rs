//! Whole cores with ledgers behind them: who seeks, who proves, who pays.

use std::{collections::BTreeMap, sync::Arc};

use super::{node::Event, *};
use crate::{
    Application, Item, Vote,
    chain::{
        SnapshotProof,
        ledger::{self, DEVELOPMENT_VOTERS, Genesis, Ledger, development_key},
        rules::{Rules as _, Synced, Synchronous},
    },
    lanes::{Action, Taken},
    peers::Misdeed,
    platform::{Instant, test},
    storage::MemoryStore,
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
    let key = development_key(NETWORK, "proposer");
    for _ in 0..blocks {
        let block = ledger.propose(&key, ledger.tip().height + 1).expect("one");
        ledger.deliver(&Item::Block(block));
    }
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
                Action::Tell(Event::Holds(holds)) => node.takes |= holds,
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
    maker.make_snapshot(16 << 10).expect("written");
    let mut network = Network::of(&[maker.clone(), mine.clone()]);
    let now = network.now;
    network.nodes[1].core.chain_is_at(0, true, now);
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
    maker.make_snapshot(16 << 10).expect("written");
    for (place, other) in [(0, 1), (1, 0)] {
        let mut network = Network::of(&[maker.clone(), ledger(0)]);
        let now = network.now;
        network.nodes[1].core.chain_is_at(0, true, now);
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
    network.nodes[1].core.chain_is_at(0, true, now);
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
    maker.make_snapshot(16 << 10).expect("written");
    let mut network = Network::of(&[maker, ledger(0)]);
    let now = network.now;
    network.nodes[1].core.chain_is_at(0, true, now);
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
    maker.make_snapshot(16 << 10).expect("written");
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
        core.chain_is_at(begins, true, now);
        core.chain_is_at(5, false, now);
        core.heard_of(30, now);
        network.run(Duration::from_secs(3));
        assert_eq!(network.synced(1), taken, "{begins} {replace_blocks}");
        assert_eq!(mine.tip().height, taken.unwrap_or(5));
    }
    // Nor where they have once been all there were.
    let mut network = Network::of(&[maker, ledger(0)]);
    let now = network.now;
    let core = &mut network.nodes[1].core;
    core.chain_is_at(0, true, now);
    core.chain_is_at(5, true, now);
    core.heard_of(30, now);
    network.run(Duration::from_secs(3));
    assert_eq!(network.sent.get("seek"), None);
}

#[test]
fn who_forges_a_proof_pays_and_another_ones_counts() {
    let (maker, mine) = (ledger(30), ledger(0));
    maker.make_snapshot(16 << 10).expect("written");
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
    network.nodes[2].core.chain_is_at(0, true, now);
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
    network.nodes[1].core.chain_is_at(0, true, now);
    network.nodes[1].core.heard_of(30, now);
    network.run(Duration::from_secs(70));
    let outcome = &network.nodes[1].outcome;
    assert_eq!(*outcome, Some(Outcome::Blocks(NoSnapshot::Untrusted)));
    let liar = network.nodes[0].id;
    let misdeeds = &network.nodes[1].misdeeds;
    assert_eq!(*misdeeds, [(liar, Misdeed::FalseSnapshot)]);
    assert_eq!(mine.tip().height, 0);
}

#[test]
fn a_chain_is_asked_for_a_snapshot_every_so_many_blocks() {
    let maker = ledger(8);
    let mut network = Network::of(std::slice::from_ref(&maker));
    let source = maker.snapshot_source().expect("it has some");
    let heights = || -> Vec<_> {
        let made = source.list_snapshots();
        made.iter().map(|made| made.height).collect()
    };
    let second = Duration::from_secs(1);
    for (blocks, is_synced, made) in [
        (0, true, vec![]),
        (2, false, vec![]),
        (0, true, vec![10]),
        (9, true, vec![10]),
        (1, true, vec![10, 20]),
        (10, true, vec![20, 30]),
    ] {
        grow(&maker, blocks);
        let (height, now) = (maker.tip().height, network.now);
        network.nodes[0].core.chain_is_at(height, is_synced, now);
        network.run(second);
        assert_eq!(heights(), made);
    }
    assert_eq!(network.nodes[0].failures, 0);
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
