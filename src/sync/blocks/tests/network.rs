//! Nodes in virtual time: frames take the line's latency and its rate, and the store a millisecond. Everything follows from the seed.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap},
    time::Duration,
};

use super::*;
use crate::platform;

/// What a node does with its blocks takes so long, unless said otherwise of appending.
const STORE: Duration = Duration::from_millis(1);
/// Bytes that a line takes in advance.
const ADVANCE: Duration = Duration::from_millis(20);

/// What a peer that is none of ours says to a message, after so long.
pub(super) type Answers = Box<dyn FnMut(usize, Kind) -> Vec<(Duration, Kind)>>;

pub(super) enum Actor {
    Node { sync: Box<Sync>, chain: SmallChain },
    Other(Answers),
}

pub(super) struct Node {
    pub(super) id: PeerId,
    pub(super) actor: Actor,
    pub(super) misdeeds: Vec<(PeerId, Misdeed)>,
    /// What it charges peers beside what frames cost, in items.
    pub(super) surcharges: Vec<(PeerId, u64)>,
    pub(super) statuses: Vec<SyncStatus>,
    /// Who brought blocks.
    pub(super) brought: BTreeSet<PeerId>,
    /// The most that its core says to hold.
    pub(super) held: usize,
}

/// One direction of a link.
#[derive(Clone, Copy)]
struct Line {
    latency: Duration,
    /// Bytes a second.
    rate: f64,
    free_at: Instant,
    /// Bytes that went over it.
    bytes: usize,
    is_cut: bool,
}

enum Happening {
    Frame(usize, usize, Bytes),
    Done(usize, Box<Done>),
    Pump(usize, usize),
    Wake(usize),
    Say(usize, usize, Box<Kind>),
}

struct Entry(Instant, u64, Happening);

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        (self.0, self.1) == (other.0, other.1)
    }
}
impl Eq for Entry {}
impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Entry {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.0, self.1).cmp(&(other.0, other.1))
    }
}

pub(super) struct Network {
    pub(super) nodes: Vec<Node>,
    lines: BTreeMap<(usize, usize), Line>,
    queue: BinaryHeap<Reverse<Entry>>,
    entries: u64,
    pub(super) start: Instant,
    pub(super) now: Instant,
    /// How long blocks take to be appended.
    pub(super) append: Duration,
    seed: u8,
}

impl Network {
    pub(super) fn new(seed: u8) -> Self {
        let now = platform::now();
        Self {
            nodes: Vec::new(),
            lines: BTreeMap::new(),
            queue: BinaryHeap::new(),
            entries: 0,
            start: now,
            now,
            append: STORE,
            seed,
        }
    }

    fn add(&mut self, actor: Actor) -> usize {
        let place = self.nodes.len();
        let mut seed = [self.seed; 32];
        seed[0] = u8::try_from(place).expect("few");
        let key = crate::Keypair::ed25519_from_bytes(seed).expect("a key");
        self.nodes.push(Node {
            id: key.public().to_peer_id(),
            actor,
            misdeeds: Vec::new(),
            surcharges: Vec::new(),
            statuses: Vec::new(),
            brought: BTreeSet::new(),
            held: 0,
        });
        place
    }

    pub(super) fn node(&mut self, chain: SmallChain) -> usize {
        self.node_with(chain, SyncConfig::default())
    }

    pub(super) fn node_with(&mut self, chain: SmallChain, config: SyncConfig) -> usize {
        let seed = [self.seed.wrapping_add(1); 16];
        let sync = Box::new(Sync::new(config, MAX_BLOCK, &seed));
        let place = self.add(Actor::Node { sync, chain });
        self.act(place);
        place
    }

    pub(super) fn other(&mut self, answers: Answers) -> usize {
        self.add(Actor::Other(answers))
    }

    /// Connects two nodes; each sends at so many bytes a second.
    pub(super) fn link(&mut self, a: usize, b: usize, latency: Duration, rate: f64) {
        for pair in [(a, b), (b, a)] {
            let line = Line {
                latency,
                rate,
                free_at: self.now,
                bytes: 0,
                is_cut: false,
            };
            self.lines.insert(pair, line);
        }
        for (one, other) in [(a, b), (b, a)] {
            let id = self.nodes[other].id;
            let now = self.now;
            if let Actor::Node { sync, .. } = &mut self.nodes[one].actor {
                sync.greeted(id, wire::VERSION);
                sync.joined(id, now);
            }
            self.act(one);
        }
    }

    /// Ends a connection.
    pub(super) fn unlink(&mut self, a: usize, b: usize) {
        for (one, other) in [(a, b), (b, a)] {
            if let Some(line) = self.lines.get_mut(&(one, other)) {
                line.is_cut = true;
            }
            let id = self.nodes[other].id;
            let now = self.now;
            if let Actor::Node { sync, .. } = &mut self.nodes[one].actor {
                sync.gone(id, now);
            }
            self.act(one);
        }
    }

    /// A long frame on its way from one to a node is lost.
    pub(super) fn lose(&mut self, from: usize, to: usize) {
        let (id, now) = (self.nodes[from].id, self.now);
        if let Actor::Node { sync, .. } = &mut self.nodes[to].actor {
            sync.skipped(id, 200 << 10, now);
        }
        self.act(to);
    }

    /// From now on a line has another rate.
    pub(super) fn rate(&mut self, from: usize, to: usize, rate: f64) {
        self.lines.get_mut(&(from, to)).expect("a line").rate = rate;
    }

    pub(super) fn sent(&self, from: usize, to: usize) -> usize {
        self.lines[&(from, to)].bytes
    }

    /// One of ours.
    pub(super) fn core(&self, place: usize) -> &Sync {
        match &self.nodes[place].actor {
            Actor::Node { sync, .. } => sync,
            Actor::Other(_) => panic!("none of ours"),
        }
    }

    pub(super) fn chain(&self, place: usize) -> SmallChain {
        match &self.nodes[place].actor {
            Actor::Node { chain, .. } => chain.clone(),
            Actor::Other(_) => panic!("none of ours"),
        }
    }

    /// A node's application has accepted a block.
    pub(super) fn offer(&mut self, place: usize, block: &Block, from: Option<usize>) {
        let from = from.map(|from| self.nodes[from].id);
        let now = self.now;
        if let Actor::Node { sync, .. } = &mut self.nodes[place].actor {
            sync.offer(block, from, now);
        }
        self.act(place);
    }

    fn push(&mut self, at: Instant, happening: Happening) {
        self.entries += 1;
        self.queue.push(Reverse(Entry(at, self.entries, happening)));
    }

    fn place(&self, id: &PeerId) -> usize {
        let mut nodes = self.nodes.iter();
        nodes.position(|node| node.id == *id).expect("a node")
    }

    /// Does what a node's core wants.
    fn act(&mut self, place: usize) {
        loop {
            let Actor::Node { sync, chain } = &mut self.nodes[place].actor else {
                return;
            };
            let Some(action) = sync.action() else {
                break;
            };
            match action {
                Action::Tell(Event::Work(job)) => {
                    let took = match &job {
                        Job::Append { .. } => self.append,
                        _ => STORE,
                    };
                    let done = job.run(chain);
                    self.push(self.now + took, Happening::Done(place, Box::new(done)));
                }
                Action::Tell(Event::Status(status)) => self.nodes[place].statuses.push(status),
                Action::Tell(Event::Brought(id)) => drop(self.nodes[place].brought.insert(id)),
                Action::Feed(id) => {
                    let to = self.place(&id);
                    self.pump(place, to);
                }
                Action::News(_) => {
                    let all: Vec<_> = self
                        .lines
                        .keys()
                        .filter(|(from, _)| *from == place)
                        .collect();
                    let all: Vec<_> = all.into_iter().map(|(_, to)| *to).collect();
                    all.into_iter().for_each(|to| self.pump(place, to));
                }
                Action::Misdeed(id, misdeed) => self.nodes[place].misdeeds.push((id, misdeed)),
                Action::Surcharge(id, _, cost) => {
                    self.nodes[place].surcharges.push((id, cost.items));
                }
                Action::Done(..) => {}
                other => panic!("{other:?}"),
            }
        }
        let Actor::Node { sync, .. } = &mut self.nodes[place].actor else {
            return;
        };
        let (at, held) = (sync.next_deadline(), sync.held);
        let node = &mut self.nodes[place];
        node.held = node.held.max(held);
        if let Some(at) = at {
            self.push(at.max(self.now), Happening::Wake(place));
        }
    }

    /// Sends what a node has for another, as far as the line takes it.
    fn pump(&mut self, from: usize, to: usize) {
        let Some(line) = self.lines.get(&(from, to)).copied() else {
            return;
        };
        if line.is_cut {
            return;
        }
        let mut line = line;
        let id = self.nodes[to].id;
        let now = self.now;
        let mut arrivals = Vec::new();
        let Actor::Node { sync, .. } = &mut self.nodes[from].actor else {
            return;
        };
        while line.free_at <= now + ADVANCE {
            let Some(outgoing) = sync.next(id, now) else {
                break;
            };
            line.send(&outgoing.bytes, now, &mut arrivals);
        }
        let next = if line.free_at > now + ADVANCE {
            Some(line.free_at - ADVANCE)
        } else {
            sync.next_at(&id, now)
        };
        self.lines.insert((from, to), line);
        for (at, frame) in arrivals {
            self.push(at, Happening::Frame(from, to, frame));
        }
        if let Some(at) = next {
            self.push(
                at.max(now + Duration::from_micros(10)),
                Happening::Pump(from, to),
            );
        }
    }

    fn say(&mut self, from: usize, to: usize, kind: Kind) {
        let mut line = self.lines[&(from, to)];
        if line.is_cut {
            return;
        }
        let mut arrivals = Vec::new();
        line.send(&kind.into_frame(), self.now, &mut arrivals);
        self.lines.insert((from, to), line);
        for (at, frame) in arrivals {
            self.push(at, Happening::Frame(from, to, frame));
        }
    }

    /// A peer that is none of ours speaks.
    pub(super) fn tell(&mut self, from: usize, to: usize, kind: Kind) {
        self.say(from, to, kind);
    }

    /// Goes on until it is so, or so much time has passed: when it was.
    pub(super) fn run_until(
        &mut self,
        most: Duration,
        mut is_so: impl FnMut(&Self) -> bool,
    ) -> Option<Duration> {
        let end = self.now + most;
        while !is_so(self) {
            let Reverse(Entry(at, _, happening)) = self.queue.pop()?;
            if at > end {
                self.push(at, happening);
                self.now = end;
                return None;
            }
            self.now = self.now.max(at);
            self.happen(happening);
        }
        Some(self.now - self.start)
    }

    /// Lets time pass.
    pub(super) fn run_for(&mut self, time: Duration) {
        self.run_until(time, |_| false);
    }

    fn happen(&mut self, happening: Happening) {
        let now = self.now;
        match happening {
            Happening::Frame(from, to, mut frame) => {
                if self.lines[&(from, to)].is_cut {
                    return;
                }
                let id = self.nodes[from].id;
                prost::decode_length_delimiter(&mut frame).expect("a length");
                let kind = Kind::read(frame).expect("they keep to the form");
                match &mut self.nodes[to].actor {
                    Actor::Node { sync, .. } => {
                        sync.message(id, kind, now);
                        self.act(to);
                    }
                    Actor::Other(answers) => {
                        for (delay, kind) in answers(from, kind) {
                            self.push(now + delay, Happening::Say(to, from, Box::new(kind)));
                        }
                    }
                }
            }
            Happening::Done(place, done) => {
                if let Actor::Node { sync, .. } = &mut self.nodes[place].actor {
                    sync.done(*done, now);
                }
                self.act(place);
            }
            Happening::Pump(from, to) => {
                self.pump(from, to);
                self.act(from);
            }
            Happening::Wake(place) => {
                if let Actor::Node { sync, .. } = &mut self.nodes[place].actor
                    && sync.next_deadline().is_some_and(|at| at <= now)
                {
                    sync.on_time(now);
                    self.act(place);
                }
            }
            Happening::Say(from, to, kind) => self.say(from, to, *kind),
        }
    }
}

impl Line {
    fn send(&mut self, frame: &Bytes, now: Instant, arrivals: &mut Vec<(Instant, Bytes)>) {
        let takes = (frame.len() as f64 / self.rate).min(86_400.0);
        self.free_at = self.free_at.max(now) + Duration::from_secs_f64(takes);
        self.bytes += frame.len();
        arrivals.push((self.free_at + self.latency, frame.clone()));
    }
}
