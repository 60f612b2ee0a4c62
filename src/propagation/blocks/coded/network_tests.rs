//! Whole networks in virtual time: how fast, how many bytes, and what a few bad nodes can do.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use libp2p::PeerId;
use libp2p::identity::Keypair;

use super::gossip_model::Gossip;
use super::simulation::{Graph, Line, Machine, Random, Simulation};
use super::*;
use crate::chain::{ItemId, Verdict};
use crate::platform::{Instant, test};

/// What a node is like.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Nature {
    Honest,
    /// Never says a word.
    Silent,
    /// Says that it has everything, and sends no chunk.
    Miser,
    /// Sends false chunks.
    Forger,
}

/// What comes of each reconstruction: the same in all nodes, so it is computed once.
type Decoded = Rc<RefCell<HashMap<BroadcastId, Result<Encoded, InconsistentCoding>>>>;

enum Job {
    Header(BroadcastId),
    Reconstruct(Reconstruction),
    Block(BroadcastId),
}

/// A node of coded broadcast with a chain that finds everything right.
struct Node {
    nature: Nature,
    core: Broadcasts,
    ids: Rc<Vec<PeerId>>,
    decoded: Decoded,
    jobs: Vec<(Instant, Job)>,
    block_check: Duration,
    done: Option<(Instant, Bytes)>,
    misdeeds: Vec<usize>,
    dead: Vec<usize>,
}

impl Node {
    fn act(&mut self, actions: Vec<Action>, now: Instant) {
        for action in actions {
            let millisecond = Duration::from_millis(1);
            match action {
                Action::CheckHeader { broadcast, .. } => {
                    self.jobs.push((now + millisecond, Job::Header(broadcast)));
                }
                Action::Reconstruct(it) => {
                    let size = it.announcement.shape().size() as u32;
                    let time = millisecond * size.div_ceil(1 << 17);
                    self.jobs.push((now + time, Job::Reconstruct(it)));
                }
                Action::CheckBlock {
                    broadcast, bytes, ..
                } => {
                    self.done = Some((now, bytes));
                    let at = now + self.block_check;
                    self.jobs.push((at, Job::Block(broadcast)));
                }
                Action::Misdeed { peer, .. } => {
                    let ids = self.ids.iter();
                    self.misdeeds
                        .extend(ids.enumerate().filter(|it| *it.1 == peer).map(|it| it.0));
                }
                Action::Needless { peer } => panic!("{peer} sends what is of no use"),
                // It never asks, or nobody sends it anything.
                Action::Abandoned { reason, .. } => {
                    assert_ne!(self.nature, Nature::Honest, "{reason}")
                }
            }
        }
    }
}

impl Machine for Node {
    type Frame = Frame;

    fn receive(&mut self, from: usize, frame: Frame, now: Instant) {
        if !self.dead.contains(&from) {
            let actions = self.core.receive(self.ids[from], frame, now);
            self.act(actions, now);
        }
    }

    fn next(&mut self, to: usize, room: usize, now: Instant) -> Option<(Frame, usize)> {
        if self.nature == Nature::Silent {
            return None;
        }
        loop {
            let mut frame = self.core.next(&self.ids[to], room, now)?;
            let length = frame.encoded_len();
            assert!(length <= room);
            match (&mut frame, self.nature) {
                (Frame::Chunk(_), Nature::Miser) => continue,
                (Frame::Announce(it), Nature::Miser) => it.have = ChunkSet::first(256),
                (Frame::Status(it), Nature::Miser) => it.have = ChunkSet::first(256),
                (Frame::Chunk(it), Nature::Forger) => {
                    it.data = it.data.iter().map(|byte| byte ^ 1).collect();
                }
                _ => {}
            }
            return Some((frame, length));
        }
    }

    fn next_time(&self) -> Option<Instant> {
        let jobs = self.jobs.iter().map(|job| job.0);
        jobs.chain(self.core.next_time()).min()
    }

    fn on_time(&mut self, now: Instant) {
        let due = self
            .jobs
            .extract_if(.., |job| job.0 <= now)
            .collect::<Vec<_>>();
        for (_, job) in due {
            let actions = match job {
                Job::Header(id) => self.core.header_checked(id, Verdict::Accept, now),
                Job::Block(id) => self.core.block_checked(id, Verdict::Accept, now),
                Job::Reconstruct(it) => {
                    let mut decoded = self.decoded.borrow_mut();
                    let result = decoded.entry(it.id()).or_insert_with(|| it.run()).clone();
                    drop(decoded);
                    self.core.reconstructed(result, now)
                }
            };
            self.act(actions, now);
        }
        let actions = self.core.on_time(now);
        self.act(actions, now);
    }
}

/// A network and what is sent through it.
#[derive(Clone)]
struct Case {
    size: usize,
    nodes: usize,
    degree: (usize, usize),
    millis: (usize, usize),
    block_check: Duration,
    line: Line,
    /// Of so many nodes this nature; not of node 0, which is the source.
    bad: Vec<Nature>,
    /// One link in so many loses everything.
    dead_links: Option<u64>,
    seed: u64,
}

impl Case {
    fn new(size: usize, seed: u64) -> Self {
        Self {
            size,
            nodes: 20,
            degree: (6, 8),
            millis: (20, 100),
            block_check: Duration::ZERO,
            line: Line::default(),
            bad: Vec::new(),
            dead_links: None,
            seed,
        }
    }

    fn graph(&self) -> (Graph, Random) {
        let mut random = Random(self.seed);
        let graph = Graph::random(self.nodes, self.degree, self.millis, &mut random);
        (graph, random)
    }

    fn nature(&self, node: usize) -> Nature {
        let bad = self.bad.get(node.wrapping_sub(1));
        bad.copied().unwrap_or(Nature::Honest)
    }

    /// Seconds until the last honest node has the block, bytes sent by all, and the nodes.
    fn coded(&self) -> (f64, usize, Vec<Node>) {
        let (graph, mut random) = self.graph();
        let now = crate::platform::now();
        let ids = (0..self.nodes).map(|node| {
            let mut secret = [7; 32];
            secret[..8].copy_from_slice(&(node as u64).to_le_bytes());
            let key = Keypair::ed25519_from_bytes(secret).expect("a key");
            key.public().to_peer_id()
        });
        let ids: Rc<Vec<_>> = Rc::new(ids.collect());
        let decoded = Decoded::default();
        let config = CodedConfig {
            max_block_bytes: MAX_BLOCK,
            ..CodedConfig::default()
        };
        let mut dead = vec![Vec::new(); self.nodes];
        for (node, neighbours) in graph.neighbours.iter().enumerate() {
            for &(peer, _) in neighbours.iter().filter(|it| it.0 < node) {
                if self
                    .dead_links
                    .is_some_and(|part| random.next().is_multiple_of(part))
                {
                    dead[node].push(peer);
                    dead[peer].push(node);
                }
            }
        }
        let nodes = dead.into_iter().enumerate().map(|(node, dead)| {
            let mut seed = [0; 16];
            seed[..8].copy_from_slice(&random.next().to_le_bytes());
            let mut core = Broadcasts::new(config.clone(), seed);
            for (peer, _) in &graph.neighbours[node] {
                core.peer_joined(ids[*peer], now);
            }
            Node {
                nature: self.nature(node),
                core,
                ids: Rc::clone(&ids),
                decoded: Rc::clone(&decoded),
                jobs: Vec::new(),
                block_check: self.block_check,
                done: None,
                misdeeds: Vec::new(),
                dead,
            }
        });
        let mut nodes: Vec<_> = nodes.collect();
        let block: Bytes = (0..self.size).map(|_| random.next() as u8).collect();
        let encoded = Encoded::of(
            ItemId::sha256(&block),
            Bytes::from_static(&[7; 80]),
            block.clone(),
        );
        let encoded = encoded.expect("a block");
        nodes[0].core.start(encoded, now).expect("room");
        nodes[0].done = Some((now, block.clone()));
        let mut simulation = Simulation::new(nodes, &graph, self.line, now);
        simulation.run(now + Duration::from_secs(20));
        let mut last = now;
        for (number, node) in simulation.nodes.iter().enumerate() {
            if node.nature == Nature::Honest {
                let (at, bytes) = node
                    .done
                    .as_ref()
                    .unwrap_or_else(|| panic!("node {number}"));
                assert_eq!(*bytes, block);
                last = last.max(*at);
                let just = |peer: &usize| self.nature(*peer) == Nature::Forger;
                assert!(node.misdeeds.iter().all(just), "an honest node pays");
            }
        }
        let seconds = last.duration_since(now).as_secs_f64();
        (seconds, simulation.bytes, simulation.nodes)
    }

    fn gossip(&self, dont_want: bool) -> (f64, usize) {
        let (graph, mut random) = self.graph();
        let now = crate::platform::now();
        let nodes = Gossip::nodes(&graph, self.size, dont_want, now, &mut random);
        let mut simulation = Simulation::new(nodes, &graph, self.line, now);
        simulation.run(now + Duration::from_secs(1000));
        let done = simulation
            .nodes
            .iter()
            .map(|node| node.done.expect("everyone"));
        let seconds = done.max().expect("nodes").duration_since(now).as_secs_f64();
        (seconds, simulation.bytes)
    }
}

fn median<T: PartialOrd + Copy>(values: impl Iterator<Item = T>) -> T {
    let mut values: Vec<_> = values.collect();
    values.sort_by(|a, b| a.partial_cmp(b).expect("numbers"));
    values[values.len() / 2]
}

fn beats_gossip(size: usize) {
    let case = Case::new(size, 1);
    let (seconds, bytes, _) = case.coded();
    let gossip = case.gossip(false);
    assert!(seconds < 0.5 * gossip.0, "{seconds} s, {} s", gossip.0);
    assert!(bytes * 10 < 4 * gossip.1, "{bytes} B, {} B", gossip.1);
}

#[test]
fn a_block_of_256_kib_takes_half_of_gossips_time_and_two_fifths_of_its_bytes() {
    beats_gossip(256 << 10);
}

#[test]
fn a_block_of_1_mb_takes_half_of_gossips_time_and_two_fifths_of_its_bytes() {
    beats_gossip(1_000_000);
}

/// A fifth of the nodes is bad, and cannot keep a block from the others. Returns who paid.
fn a_fifth_of_the_nodes_is(nature: Nature) -> Vec<usize> {
    let case = Case {
        bad: vec![nature; 4],
        ..Case::new(130 << 10, 2)
    };
    let (seconds, bytes, nodes) = case.coded();
    assert!(seconds < 2.0, "{seconds} s");
    assert!(bytes < 3 * 19 * case.size, "{bytes} B");
    let honest = nodes.iter().filter(|node| node.nature == Nature::Honest);
    honest.flat_map(|node| node.misdeeds.clone()).collect()
}

#[test]
fn a_fifth_of_the_nodes_may_take_chunks_and_say_nothing() {
    assert!(a_fifth_of_the_nodes_is(Nature::Silent).is_empty());
}

#[test]
fn a_fifth_of_the_nodes_may_claim_all_and_send_nothing() {
    assert!(a_fifth_of_the_nodes_is(Nature::Miser).is_empty());
}

#[test]
fn a_fifth_of_the_nodes_may_send_false_chunks_and_pay() {
    assert!(!a_fifth_of_the_nodes_is(Nature::Forger).is_empty());
}

#[test]
fn a_quarter_of_the_links_may_be_dead() {
    let case = Case {
        dead_links: Some(4),
        ..Case::new(130 << 10, 3)
    };
    let (seconds, ..) = case.coded();
    assert!(seconds < 2.0, "{seconds} s");
}

#[test]
#[ignore = "prints the figures of docs/coded.md"]
fn figures() {
    println!("coded | gossip, ratios | gossip with IDONTWANT, ratios");
    let base = |size| Case::new(size, 1);
    for size in [128 << 10, 256 << 10, 1_000_000, 1_500_000, 4_000_000] {
        row("", &base(size), true);
    }
    let size = 1_000_000;
    let line = |rate, buffer| Line { rate, buffer };
    row(
        "1 ms",
        &Case {
            millis: (1, 1),
            ..base(size)
        },
        true,
    );
    row(
        "degree 4 to 8",
        &Case {
            degree: (4, 8),
            ..base(size)
        },
        true,
    );
    row(
        "100 nodes",
        &Case {
            nodes: 100,
            ..base(size)
        },
        true,
    );
    row(
        "10 Mbit/s",
        &Case {
            line: line(1_250_000, 64 << 10),
            ..base(size)
        },
        true,
    );
    row(
        "buffers of 256 KiB",
        &Case {
            line: line(6_250_000, 256 << 10),
            ..base(size)
        },
        false,
    );
    let block_check = Duration::from_millis(50);
    row(
        "blocks checked in 50 ms",
        &Case {
            block_check,
            ..base(size)
        },
        false,
    );
    for nature in [Nature::Silent, Nature::Miser, Nature::Forger] {
        let bad = vec![nature; 4];
        row(
            &format!("4 of 20 {nature:?}"),
            &Case { bad, ..base(size) },
            false,
        );
    }
    row(
        "a quarter of links dead",
        &Case {
            dead_links: Some(4),
            ..base(size)
        },
        false,
    );
}

/// Prints medians over nine networks: time, bytes over those of one copy for each node, and both over gossip's.
fn row(what: &str, case: &Case, baseline: bool) {
    let cases = || {
        (1..=9).map(|seed| Case {
            seed,
            ..case.clone()
        })
    };
    let medians = |all: Vec<(f64, usize)>| {
        let bytes = median(all.iter().map(|it| it.1)) as f64;
        (median(all.iter().map(|it| it.0)), bytes)
    };
    let ideal = ((case.nodes - 1) * case.size) as f64;
    let (seconds, bytes) = medians(
        cases()
            .map(|it| it.coded())
            .map(|it| (it.0, it.1))
            .collect(),
    );
    let millis = seconds * 1e3;
    print!(
        "{:8} B {what:24} {millis:5.0} ms {:.2}x",
        case.size,
        bytes / ideal
    );
    for dont_want in [false, true].into_iter().filter(|_| baseline) {
        let (time, all) = medians(cases().map(|it| it.gossip(dont_want)).collect());
        let ratios = (seconds / time, bytes / all);
        let large = case.size >= 1_000_000;
        assert!(!large || ratios.0 <= 0.5 && ratios.1 <= 0.4, "{ratios:?}");
        print!(
            " | {:5.0} ms {:.2}x: {:.2} {:.2}",
            time * 1e3,
            all / ideal,
            ratios.0,
            ratios.1
        );
    }
    println!();
}
