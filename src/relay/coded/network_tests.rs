//! Whole networks in virtual time: how fast, how many bytes, and what a few bad nodes can do.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use libp2p::PeerId;
use libp2p::identity::Keypair;
use web_time::Instant;

use super::gossip_model::Gossip;
use super::simulation::{Graph, Line, Machine, Random, Simulation};
use super::*;
use crate::chain::{ItemId, Verdict};
use crate::platform::test;

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
                // Nobody sends anything to a miser.
                Action::Abandoned { reason, .. } => {
                    assert_eq!(self.nature, Nature::Miser, "{reason}")
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

    fn next(&mut self, to: usize, room: usize) -> Option<(Frame, usize)> {
        if self.nature == Nature::Silent {
            return None;
        }
        loop {
            let mut frame = self.core.next(&self.ids[to], room)?;
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
        let now = Instant::now();
        let ids = (0..self.nodes).map(|node| {
            let mut secret = [7; 32];
            secret[..8].copy_from_slice(&node.to_le_bytes());
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
        let encoded = Encoded::of(ItemId::sha256(&block), Bytes::from_static(&[7; 80]), &block);
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
        let now = Instant::now();
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

#[test]
fn everyone_has_a_block_in_half_of_gossips_time_and_two_fifths_of_its_bytes() {
    for size in [256 << 10, 1_000_000] {
        let case = Case::new(size, 1);
        let (seconds, bytes, _) = case.coded();
        let gossip = case.gossip(false);
        assert!(seconds < 0.5 * gossip.0, "{seconds} s, {} s", gossip.0);
        assert!(bytes * 10 < 4 * gossip.1, "{bytes} B, {} B", gossip.1);
    }
}

#[test]
#[ignore = "prints the figures of docs/coded.md"]
fn figures() {
    let seeds = 1..=9u64;
    let row = |what: &str, case: &dyn Fn(u64) -> Case, baseline: bool| {
        let coded: Vec<_> = seeds.clone().map(|seed| case(seed).coded()).collect();
        let seconds = median(coded.iter().map(|it| it.0));
        let bytes = median(coded.iter().map(|it| it.1));
        let case = case(1);
        let ideal = (case.nodes - 1) * case.size;
        print!(
            "{what:40} {:4.0} ms {:.2}x",
            seconds * 1e3,
            bytes as f64 / ideal as f64
        );
        if baseline {
            for dont_want in [false, true] {
                let case = |seed| Case {
                    seed,
                    ..case.clone()
                };
                let gossip: Vec<_> = seeds
                    .clone()
                    .map(|seed| case(seed).gossip(dont_want))
                    .collect();
                let (time, all) = (
                    median(gossip.iter().map(|it| it.0)),
                    median(gossip.iter().map(|it| it.1)),
                );
                print!(
                    " | {:5.0} ms {:.2}x: {:.2} {:.2}",
                    time * 1e3,
                    all as f64 / ideal as f64,
                    seconds / time,
                    bytes as f64 / all as f64,
                );
            }
        }
        println!();
    };
    for size in std::env::var("CODED_S").map_or(vec![256 << 10, 1_000_000, 4_000_000], |s| {
        vec![s.parse().unwrap()]
    }) {
        if std::env::var("CODED_Q").is_ok() {
            row("20 to 100 ms", &|seed| Case::new(size, seed), false);
            row(
                "degree 4 to 8",
                &|seed| Case {
                    degree: (4, 8),
                    ..Case::new(size, seed)
                },
                false,
            );
            row(
                "100 nodes",
                &|seed| Case {
                    nodes: 100,
                    ..Case::new(size, seed)
                },
                false,
            );
            row(
                "1 ms",
                &|seed| Case {
                    millis: (1, 1),
                    ..Case::new(size, seed)
                },
                false,
            );
            row(
                "10 Mbit/s",
                &|seed| Case {
                    line: Line {
                        rate: 1_250_000,
                        ..Line::default()
                    },
                    ..Case::new(size, seed)
                },
                false,
            );
            continue;
        }
        println!("{size} bytes: coded | gossip, ratios | with IDONTWANT, ratios");
        row("20 to 100 ms", &|seed| Case::new(size, seed), true);
        row(
            "1 ms",
            &|seed| Case {
                millis: (1, 1),
                ..Case::new(size, seed)
            },
            true,
        );
        row(
            "degree 4 to 8",
            &|seed| Case {
                degree: (4, 8),
                ..Case::new(size, seed)
            },
            true,
        );
        row(
            "100 nodes",
            &|seed| Case {
                nodes: 100,
                ..Case::new(size, seed)
            },
            true,
        );
        row(
            "blocks checked in 50 ms",
            &|seed| Case {
                block_check: Duration::from_millis(50),
                ..Case::new(size, seed)
            },
            false,
        );
        row(
            "buffers of 256 KiB",
            &|seed| Case {
                line: Line {
                    buffer: 256 << 10,
                    ..Line::default()
                },
                ..Case::new(size, seed)
            },
            false,
        );
        row(
            "10 Mbit/s",
            &|seed| Case {
                line: Line {
                    rate: 1_250_000,
                    ..Line::default()
                },
                ..Case::new(size, seed)
            },
            false,
        );
        for nature in [Nature::Silent, Nature::Miser, Nature::Forger] {
            row(
                &format!("4 of 20 {nature:?}"),
                &|seed| Case {
                    bad: vec![nature; 4],
                    ..Case::new(size, seed)
                },
                false,
            );
        }
        row(
            "a quarter of links dead",
            &|seed| Case {
                dead_links: Some(4),
                ..Case::new(size, seed)
            },
            false,
        );
    }
}
