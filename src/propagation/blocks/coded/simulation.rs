//! A network in virtual time: nodes whose uplinks are the bottleneck.
//!
//! A node's uplink sends at a fixed rate and serves its streams in turns, a packet each, as TCP connections share a
//! line. What it takes from a node for a stream waits in a buffer of fixed size, as in a socket. A frame arrives,
//! whole, one link's latency after its last packet was sent; downlinks never are the bottleneck. Everything follows
//! from the seed.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::Duration;

use crate::platform::Instant;

/// Bytes of a packet.
const PACKET: usize = 1460;
/// Bytes around a frame: its length, Yamux, Noise, TCP and IP.
const AROUND: usize = 80;

/// A node. Other nodes are numbers.
pub(super) trait Machine {
    type Frame;
    fn receive(&mut self, from: usize, frame: Self::Frame, now: Instant);
    /// The next frame to a node, of at most `room` bytes, and its length.
    fn next(&mut self, to: usize, room: usize, now: Instant) -> Option<(Self::Frame, usize)>;
    fn next_time(&self) -> Option<Instant>;
    fn on_time(&mut self, now: Instant);
}

/// What the network is like.
#[derive(Clone, Copy)]
pub(super) struct Line {
    /// Bytes a second of each uplink.
    pub(super) rate: usize,
    /// Bytes that a stream takes in advance.
    pub(super) buffer: usize,
}

impl Default for Line {
    /// 50 Mbit/s and 64 KiB.
    fn default() -> Self {
        Self {
            rate: 50_000_000 / 8,
            buffer: 64 << 10,
        }
    }
}

/// Who is connected to whom.
pub(super) struct Graph {
    /// For each node its neighbours and how far they are.
    pub(super) neighbours: Vec<Vec<(usize, Duration)>>,
}

impl Graph {
    /// A random connected graph with about so many neighbours for each node, and latencies of so many milliseconds.
    pub(super) fn random(
        nodes: usize,
        degree: (usize, usize),
        millis: (usize, usize),
        random: &mut Random,
    ) -> Self {
        loop {
            let mut neighbours = vec![Vec::new(); nodes];
            let wish: Vec<_> = (0..nodes).map(|_| random.between(degree)).collect();
            let mut pairs: Vec<_> = (0..nodes)
                .flat_map(|a| (0..a).map(move |b| (a, b)))
                .collect();
            random.shuffle(&mut pairs);
            for (a, b) in pairs {
                if neighbours[a].len() < wish[a] && neighbours[b].len() < wish[b] {
                    let micros = random.between((millis.0 * 1000, millis.1 * 1000));
                    let latency = Duration::from_micros(micros as u64);
                    neighbours[a].push((b, latency));
                    neighbours[b].push((a, latency));
                }
            }
            let graph = Self { neighbours };
            if graph.reach(|_| true).len() == nodes {
                return graph;
            }
        }
    }

    /// The nodes that node 0 reaches by way of nodes that pass on.
    pub(super) fn reach(&self, passes_on: impl Fn(usize) -> bool) -> Vec<usize> {
        let mut reached = vec![0];
        let mut next = 0;
        while let Some(&node) = reached.get(next) {
            next += 1;
            for (neighbour, _) in &self.neighbours[node] {
                if passes_on(node) && !reached.contains(neighbour) {
                    reached.push(*neighbour);
                }
            }
        }
        reached
    }
}

/// The network.
pub(super) struct Simulation<M: Machine> {
    pub(super) nodes: Vec<M>,
    pub(super) now: Instant,
    /// Bytes sent by all nodes.
    pub(super) bytes: usize,
    line: Line,
    uplinks: Vec<Uplink<M::Frame>>,
    events: BinaryHeap<Reverse<(Instant, u64)>>,
    what: std::collections::BTreeMap<u64, Event<M::Frame>>,
    count: u64,
}

struct Uplink<F> {
    streams: Vec<Stream<F>>,
    turn: usize,
    busy: bool,
    timer: Option<Instant>,
}

struct Stream<F> {
    to: usize,
    latency: Duration,
    /// Frames and how much of them is still to be sent.
    frames: VecDeque<(F, usize)>,
}

enum Event<F> {
    Arrival { from: usize, to: usize, frame: F },
    Packet { from: usize },
    Timer { node: usize },
}

impl<M: Machine> Simulation<M> {
    pub(super) fn new(nodes: Vec<M>, graph: &Graph, line: Line, now: Instant) -> Self {
        let uplink = |neighbours: &Vec<(usize, Duration)>| Uplink {
            streams: neighbours
                .iter()
                .map(|&(to, latency)| Stream {
                    to,
                    latency,
                    frames: VecDeque::new(),
                })
                .collect(),
            turn: 0,
            busy: false,
            timer: None,
        };
        Self {
            nodes,
            now,
            bytes: 0,
            line,
            uplinks: graph.neighbours.iter().map(uplink).collect(),
            events: BinaryHeap::new(),
            what: std::collections::BTreeMap::new(),
            count: 0,
        }
    }

    /// Runs until nothing happens any more, or until `end`.
    pub(super) fn run(&mut self, end: Instant) {
        for node in 0..self.nodes.len() {
            self.touched(node);
        }
        while let Some(Reverse((at, count))) = self.events.pop() {
            if at > end {
                break;
            }
            self.now = at;
            match self.what.remove(&count).expect("every event is something") {
                Event::Arrival { from, to, frame } => {
                    self.nodes[to].receive(from, frame, at);
                    self.touched(to);
                }
                Event::Packet { from } => {
                    self.uplinks[from].busy = false;
                    self.send(from);
                }
                Event::Timer { node } => {
                    self.uplinks[node].timer = None;
                    self.nodes[node].on_time(at);
                    self.touched(node);
                }
            }
        }
    }

    fn at(&mut self, at: Instant, event: Event<M::Frame>) {
        self.count += 1;
        self.what.insert(self.count, event);
        self.events.push(Reverse((at, self.count)));
    }

    /// Something has happened at a node: takes what it has to send, and looks at its watch.
    fn touched(&mut self, node: usize) {
        for stream in 0..self.uplinks[node].streams.len() {
            self.fill(node, stream);
        }
        if !self.uplinks[node].busy {
            self.send(node);
        }
        let timer = self.uplinks[node].timer;
        if let Some(at) = self.nodes[node].next_time()
            && timer.is_none_or(|timer| at < timer)
        {
            self.uplinks[node].timer = Some(at);
            self.at(at.max(self.now), Event::Timer { node });
        }
    }

    fn fill(&mut self, node: usize, stream: usize) {
        let stream = &mut self.uplinks[node].streams[stream];
        loop {
            let waiting: usize = stream.frames.iter().map(|(_, left)| left).sum();
            let room = self.line.buffer.saturating_sub(waiting);
            let Some((frame, length)) = self.nodes[node].next(stream.to, room, self.now) else {
                break;
            };
            stream.frames.push_back((frame, length + AROUND));
        }
    }

    /// Sends the next packet.
    fn send(&mut self, from: usize) {
        let uplink = &mut self.uplinks[from];
        let turns = uplink.streams.len();
        let turn = (0..turns).map(|turn| (uplink.turn + turn) % turns);
        let mut turn = turn.filter(|&turn| !uplink.streams[turn].frames.is_empty());
        let Some(turn) = turn.next() else { return };
        uplink.turn = turn + 1;
        uplink.busy = true;
        let stream = &mut uplink.streams[turn];
        let (to, latency) = (stream.to, stream.latency);
        let left = &mut stream.frames.front_mut().expect("not empty").1;
        let packet = PACKET.min(*left);
        *left -= packet;
        let whole = *left == 0;
        let frame = if whole {
            stream.frames.pop_front()
        } else {
            None
        };
        self.bytes += packet;
        let sent = self.now + Duration::from_secs_f64(packet as f64 / self.line.rate as f64);
        if let Some((frame, _)) = frame {
            self.at(sent + latency, Event::Arrival { from, to, frame });
            self.fill(from, turn);
        }
        self.at(sent, Event::Packet { from });
    }
}

/// Random numbers that are always the same: SplitMix64.
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Both ends included.
    pub(super) fn between(&mut self, (from, to): (usize, usize)) -> usize {
        from + (self.next() % (to - from + 1) as u64) as usize
    }

    pub(super) fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.between((0, last)));
        }
    }
}
