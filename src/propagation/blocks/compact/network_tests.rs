//! Virtual networks: nodes in one process, links with latency, messages in their encoded form, checks that take time.
//! A queue of events by virtual time drives them; a run is the same each time.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use libp2p::PeerId;

use super::actions::Action;
use super::choice::choose;
use super::compact_block::CompactBlock;
use super::compact_blocks::CompactBlocks;
use super::config::CompactConfig;
use super::message::{Announcement, BlockMessage, Transactions, WholeBlock};
use super::test_chain::{Pool, TestChain, answer, block, pool, read, transactions};
use crate::chain::Block;
use crate::chain::TransactionKey;
use crate::chain::bitcoin::Bitcoin;
use crate::chain::{Application, ItemId};
use crate::platform::{Instant, test};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Manner {
    Honest,
    /// Announces and never answers.
    Silent,
    /// Announces, then says that it has nothing.
    Empty,
    /// Sends short ids of nothing, other transactions than those asked for, and other blocks.
    Liar,
    /// Announces blocks under headers of others.
    Forger,
}

struct Node {
    core: CompactBlocks,
    pool: Pool,
    manner: Manner,
    /// When each block was here.
    blocks: BTreeMap<ItemId, Instant>,
}

enum Event {
    Message {
        from: usize,
        to: usize,
        bytes: Bytes,
    },
    Check {
        node: usize,
        action: Box<Action>,
    },
    Time {
        node: usize,
    },
}

struct Network {
    chain: Box<dyn Application>,
    start: Instant,
    now: Instant,
    /// Places of nodes by peer id.
    places: BTreeMap<PeerId, usize>,
    peers: Vec<PeerId>,
    nodes: Vec<Node>,
    queue: BTreeMap<(Instant, usize), Event>,
    sequence: usize,
    /// Bytes of all messages.
    bytes: usize,
    messages: Vec<&'static str>,
}

impl Network {
    fn new(chain: impl Application, manners: &[Manner], links: &[(usize, usize)]) -> Self {
        // A peer id from a number, so that each run is the same.
        let peer = |number: usize| {
            let mut digest = [0; 34];
            (digest[0], digest[1], digest[2]) = (0x12, 32, u8::try_from(number).unwrap());
            PeerId::from_bytes(&digest).unwrap()
        };
        let peers: Vec<_> = (0..manners.len()).map(peer).collect();
        let node = |(number, manner): (usize, &Manner)| Node {
            core: CompactBlocks::new(
                CompactConfig::default(),
                [u8::try_from(number).unwrap(); 16],
                choose,
            ),
            pool: Pool::new(),
            manner: *manner,
            blocks: BTreeMap::new(),
        };
        let mut nodes: Vec<_> = manners.iter().enumerate().map(node).collect();
        for &(dialler, listener) in links {
            nodes[dialler].core.peer_connected(peers[listener], true);
            nodes[listener].core.peer_connected(peers[dialler], false);
        }
        let start = crate::platform::now();
        Self {
            chain: Box::new(chain),
            start,
            now: start,
            places: peers
                .iter()
                .enumerate()
                .map(|(place, peer)| (*peer, place))
                .collect(),
            peers,
            nodes,
            queue: BTreeMap::new(),
            sequence: 0,
            bytes: 0,
            messages: Vec::new(),
        }
    }

    fn push(&mut self, after: Duration, event: Event) {
        self.sequence += 1;
        self.queue.insert((self.now + after, self.sequence), event);
    }

    /// 10 to 50 ms one way.
    fn latency(one: usize, other: usize) -> Duration {
        let (low, high) = (one.min(other) as u64, one.max(other) as u64);
        Duration::from_millis(10 + (7 * low + 13 * high) % 40)
    }

    fn make(&mut self, node: usize, block: &Block) -> ItemId {
        let id = self.chain.check_block(block).id;
        let parts = self.chain.split_block(block);
        self.nodes[node].blocks.insert(id.clone(), self.now);
        let actions =
            self.nodes[node]
                .core
                .accepted(id.clone(), block.clone(), parts, 0, None, self.now);
        self.act(node, actions);
        id
    }

    fn act(&mut self, node: usize, actions: Vec<Action>) {
        for action in actions {
            let Some(action) = read(&mut self.nodes[node].core, action, self.now) else {
                continue;
            };
            match action {
                Action::Send { peer, message, .. } => {
                    let to = self.places[&peer];
                    for message in disguise(self.nodes[node].manner, message) {
                        let bytes = Bytes::from(message.encode());
                        self.bytes += bytes.len();
                        self.messages.push(message.name());
                        self.push(
                            Self::latency(node, to),
                            Event::Message {
                                from: node,
                                to,
                                bytes,
                            },
                        );
                    }
                }
                Action::Misdeed { peer, why, .. } => {
                    let (judge, judged) = (
                        self.nodes[node].manner,
                        self.nodes[self.places[&peer]].manner,
                    );
                    let fair = judge != Manner::Honest || judged != Manner::Honest;
                    assert!(fair, "an honest node blames an honest one: {why}");
                }
                Action::SendCoded { .. } => panic!("nobody chose it"),
                action => {
                    let cost = if matches!(action, Action::CheckBlock(_)) {
                        30
                    } else {
                        1
                    };
                    self.push(
                        Duration::from_millis(cost),
                        Event::Check {
                            node,
                            action: Box::new(action),
                        },
                    );
                }
            }
        }
        if let Some(deadline) = self.nodes[node].core.next_deadline() {
            self.push(
                deadline.saturating_duration_since(self.now),
                Event::Time { node },
            );
        }
    }

    /// Runs until nothing is left to do.
    fn run(&mut self) {
        while let Some(((now, _), event)) = self.queue.pop_first() {
            self.now = now;
            let elapsed = now.duration_since(self.start);
            assert!(elapsed < Duration::from_secs(600), "it never ends");
            let (node, actions) = match event {
                Event::Message { from, to, bytes } => {
                    let message = BlockMessage::decode(bytes, 4 << 20).unwrap();
                    let (peer, node) = (self.peers[from], &mut self.nodes[to]);
                    (to, node.core.receive(peer, message, now))
                }
                Event::Check { node, action } => {
                    let here = &mut self.nodes[node];
                    if let Action::CheckBlock(check) = &*action
                        && self.chain.check_block(&check.block).id == check.id
                    {
                        here.blocks.entry(check.id.clone()).or_insert(now);
                    }
                    (
                        node,
                        answer(&*self.chain, &mut here.core, *action, &here.pool, now),
                    )
                }
                Event::Time { node } => (node, self.nodes[node].core.on_time(now)),
            };
            self.act(node, actions);
        }
    }

    /// How long the slowest honest node took to have this block.
    fn slowest(&self, id: &ItemId, made: Instant) -> Duration {
        let honest = self
            .nodes
            .iter()
            .filter(|node| node.manner == Manner::Honest);
        let times = honest.map(|node| {
            node.blocks
                .get(id)
                .expect("every honest node has every block")
        });
        times.map(|time| time.duration_since(made)).max().unwrap()
    }
}

/// What a node of this manner sends instead.
fn disguise(manner: Manner, message: BlockMessage) -> Vec<BlockMessage> {
    let told = matches!(message, BlockMessage::Announcement(_));
    let asks = matches!(
        message,
        BlockMessage::GetBlock(_)
            | BlockMessage::GetTransactions(_)
            | BlockMessage::HighBandwidth(_)
    );
    match (manner, message) {
        (Manner::Honest, message) => vec![message],
        (_, message) if asks => vec![message],
        (Manner::Silent, message) => Some(message).filter(|_| told).into_iter().collect(),
        (Manner::Empty, BlockMessage::Transactions(Transactions { id, .. }))
        | (Manner::Empty, BlockMessage::Whole(WholeBlock { id, .. })) => {
            vec![BlockMessage::NotFound(id)]
        }
        (Manner::Empty, BlockMessage::Compact(compact)) => {
            vec![BlockMessage::NotFound(compact.id().clone())]
        }
        (Manner::Liar, BlockMessage::Compact(compact)) => {
            let header = compact.header().clone();
            let (short_ids, prefilled) = (compact.short_ids_row().clone(), compact.prefilled_row());
            let id = compact.id().clone();
            let lie = CompactBlock::from_rows(id, header, !compact.nonce(), short_ids, prefilled);
            vec![BlockMessage::Compact(lie.unwrap())]
        }
        (Manner::Liar, BlockMessage::Transactions(mut it)) => {
            it.transactions.reverse();
            it.transactions[0] = Bytes::from_static(b"a lie");
            vec![BlockMessage::Transactions(it)]
        }
        (Manner::Liar, BlockMessage::Whole(it)) => {
            let data = it.data.slice(..it.data.len() - 1);
            vec![BlockMessage::Whole(WholeBlock { data, ..it })]
        }
        (Manner::Forger, BlockMessage::Announcement(it)) => {
            let id = ItemId::sha256(it.id.as_bytes());
            let forged = Announcement { id, ..it.clone() };
            vec![
                BlockMessage::Announcement(forged),
                BlockMessage::Announcement(it),
            ]
        }
        (_, message) => vec![message],
    }
}

/// Gives every node most of these transactions, a different part to each.
fn spread(network: &mut Network, transactions: &[Bytes]) {
    for (place, node) in network.nodes.iter_mut().enumerate() {
        let mut lacking = 0;
        for transaction in transactions {
            let key = TransactionKey::of(transaction);
            let lacks = usize::from(key.as_bytes()[place]) % 20 == 0;
            lacking += usize::from(lacks);
            if !lacks {
                node.pool.insert(key, transaction.clone());
            }
        }
        assert!(lacking < transactions.len() / 2);
    }
}

/// Six blocks in a network of ten, each node linked to six others. How long the slowest block took.
fn ten(manners: &[Manner; 10]) -> (Duration, usize) {
    let links: Vec<_> = (0..10)
        .flat_map(|node| (1..4).map(move |step| (node, (node + step) % 10)))
        .collect();
    let mut network = Network::new(TestChain, manners, &links);
    let makers = (0..10)
        .filter(|node| manners[*node] == Manner::Honest)
        .cycle();
    let mut slowest = Duration::ZERO;
    for (seed, maker) in makers.take(6).enumerate() {
        let all = transactions(seed as u64, 60);
        spread(&mut network, &all);
        let made = network.now;
        let id = network.make(maker, &block(&all).1);
        network.run();
        slowest = slowest.max(network.slowest(&id, made));
    }
    (slowest, network.bytes)
}

#[test]
fn ten_honest_nodes_have_every_block_at_once() {
    let (slowest, bytes) = ten(&[Manner::Honest; 10]);
    println!("ten honest nodes: slowest block {slowest:?}, {bytes} bytes in all");
    assert!(slowest < Duration::from_millis(600), "{slowest:?}");
}

#[test]
fn every_honest_node_has_every_block_whatever_three_of_ten_do() {
    let bad = [Manner::Silent, Manner::Empty, Manner::Liar, Manner::Forger];
    for seed in 0..24usize {
        let mut manners = [Manner::Honest; 10];
        for bad_one in 0..3 {
            manners[(seed + bad_one * (1 + seed % 3)) % 10] =
                bad[(seed / 2 + bad_one * (seed % 2)) % 4];
        }
        let (slowest, bytes) = ten(&manners);
        println!("{manners:?}: slowest block {slowest:?}, {bytes} bytes in all");
        assert!(
            slowest < Duration::from_secs(10),
            "{manners:?}: {slowest:?}"
        );
    }
}

#[test]
fn the_second_block_between_two_nodes_comes_without_being_asked_for() {
    let mut network = Network::new(TestChain, &[Manner::Honest; 2], &[(1, 0)]);
    for (seed, expected) in [
        (
            1,
            &[
                "announcement",
                "request for a block",
                "compact block",
                "settled",
                "high-bandwidth mode",
            ][..],
        ),
        (2, &["compact block", "settled"]),
    ] {
        let all = transactions(seed, 50);
        network.nodes[1].pool = pool(&all);
        let made = network.now;
        let id = network.make(0, &block(&all).1);
        network.run();
        network.slowest(&id, made);
        assert_eq!(std::mem::take(&mut network.messages), expected);
    }
}

#[test]
fn a_real_block_of_one_megabyte_travels_in_three_percent_of_its_bytes_and_one_round_trip() {
    let block = Block::new(&include_bytes!("../../../../testdata/block-413567.raw")[..]);
    let parts = Bitcoin.split_block(&block).unwrap();
    let mut network = Network::new(Bitcoin, &[Manner::Honest; 2], &[(1, 0)]);
    let (a, b) = (network.peers[0], network.peers[1]);
    network.nodes[0]
        .core
        .receive(b, BlockMessage::HighBandwidth(true), network.now);
    // All but the coinbase, and of the others all but each hundredth.
    for (index, transaction) in parts.transactions.iter().enumerate().skip(1) {
        if index % 100 != 50 {
            let key = TransactionKey::of(transaction);
            network.nodes[1].pool.insert(key, transaction.clone());
        }
    }
    assert_eq!(network.nodes[1].pool.len(), 1540);
    let id = network.make(0, &block);
    let made = network.now;
    network.run();
    let took = network.slowest(&id, made);
    let messages = [
        "compact block",
        "request for missing transactions",
        "missing transactions",
        "settled",
        "high-bandwidth mode",
    ];
    assert_eq!(network.messages, messages);
    let percent = network.bytes as f64 * 100.0 / block.data.len() as f64;
    println!(
        "a block of {} bytes in {} ({percent:.2}%), {took:?}",
        block.data.len(),
        network.bytes
    );
    assert!(percent <= 3.0, "{percent}%");
    assert_eq!(
        network.nodes[1]
            .core
            .high_bandwidth_peers()
            .collect::<Vec<_>>(),
        [&a]
    );
}
