//! Trees of many nodes in virtual time: what travels, how often, and what holds when peers misbehave.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashSet, VecDeque},
};

use super::*;
use crate::{platform::test, propagation::wire::Frame};

/// How long a frame is under way.
const DELAY: Duration = Duration::from_millis(2);
/// A node hands over no more than goes out within this: the rest waits in its log.
const AHEAD: Duration = Duration::from_millis(20);
/// What happens within so long happens at once, which spares steps.
const STEP: Duration = Duration::from_micros(250);
/// Nor more bytes over a link than this that are not read yet.
const WINDOW: usize = 64 << 10;

/// What becomes of frames that a node sends.
#[derive(Clone, Copy, PartialEq)]
enum Habit {
    Honest,
    /// It announces and never sends anything whole.
    Withholds,
    /// It pushes so much later than it could, and announces in time.
    PushesLate(Duration),
}

struct Node {
    id: PeerId,
    tree: Plumtree,
    links: Vec<usize>,
    has: HashSet<TransactionKey>,
    /// The same, as announcements name them.
    named: HashSet<ShortId>,
    habit: Habit,
    /// Until when it is busy sending what it has handed over, and the link that is first to be asked for more.
    busy_until: Instant,
    turn: usize,
    /// What has come over each link and is not read yet, and the link that is read next; and the bytes over each link that are not read yet
    /// at its other end.
    inbox: Vec<VecDeque<Vec<u8>>>,
    reads: usize,
    unread: Vec<usize>,
    /// How much of what it asked for had left the log there.
    missing: usize,
    misdeeds: Vec<(PeerId, Misdeed)>,
}

/// What frames cost to read.
#[derive(Clone, Copy, Default)]
struct Work {
    frame: Duration,
    item: Duration,
    id: Duration,
}

impl Work {
    fn of(&self, kind: &Kind) -> Duration {
        let count = |count| u32::try_from(count).expect("small");
        let ids = |column: &Bytes| count(wire::ids(column).expect("ids").count());
        self.frame
            + match kind {
                Kind::Items(batch) => self.item * count(batch.items.len()),
                Kind::Announce(announce) => self.id * ids(&announce.ids),
                Kind::Fetch(fetch) => self.item * ids(&fetch.ids),
                _ => Duration::ZERO,
            }
    }
}

/// Frames under way, in the order of their arrival: time, a number that breaks ties, from, to, bytes.
type Arrival = Reverse<(Instant, u64, usize, usize, Vec<u8>)>;

struct Network {
    nodes: Vec<Node>,
    arrivals: BinaryHeap<Arrival>,
    sent: u64,
    changes: u64,
    wire_bytes: usize,
    /// What each node sends in a second over all its links.
    uplink: f64,
    delay: Duration,
    /// What it takes the one processor that all nodes share to read a frame, and each whole item and each id in there; until when it is
    /// busy, and whose turn it is then.
    work: Work,
    works_until: Instant,
    works: usize,
    /// How long each item took to each node, and when those were published that count.
    latencies: Vec<Duration>,
    published: HashMap<TransactionKey, Instant>,
    now: Instant,
    pool: Mempool,
}

impl Node {
    /// Its link to this node.
    fn link(&self, to: usize) -> Option<usize> {
        self.links.iter().position(|link| *link == to)
    }

    fn has_unread(&self) -> bool {
        self.inbox.iter().any(|frames| !frames.is_empty())
    }

    /// The next frame of the next link that has one.
    fn read(&mut self) -> Option<(usize, Vec<u8>)> {
        let links = self.links.len();
        let next = (1..=links).map(|by| (self.reads + by) % links);
        let mut next = next.filter(|link| !self.inbox[*link].is_empty());
        self.reads = next.next()?;
        let frame = self.inbox[self.reads].pop_front()?;
        Some((self.reads, frame))
    }
}

/// The same in every run, so that a run is.
fn named(place: usize) -> PeerId {
    let seed = [u8::try_from(place).expect("few"); 32];
    let key = libp2p::identity::Keypair::ed25519_from_bytes(seed).expect("32 bytes");
    key.public().to_peer_id()
}

/// 250 bytes that nobody packs smaller.
fn noise(number: u64) -> Vec<u8> {
    let mut state = number.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let bytes = std::iter::repeat_with(|| ((random(&mut state) * 65536.0) as u16).to_le_bytes());
    bytes.flatten().take(250).collect()
}

fn misdeed(output: Output) -> Option<(PeerId, Misdeed)> {
    match output {
        Output::Misdeed(peer, misdeed) => Some((peer, misdeed)),
        _ => None,
    }
}

impl Network {
    fn new(links: &[(usize, usize)], count: usize) -> Self {
        Self::of(TreeConfig::default(), links, count)
    }

    fn of(config: TreeConfig, links: &[(usize, usize)], count: usize) -> Self {
        let now = crate::platform::now();
        let node = |place: usize| Node {
            id: named(place),
            tree: Plumtree::new(config.clone(), &(place as u128 + 1).to_le_bytes()),
            links: Vec::new(),
            has: HashSet::new(),
            named: HashSet::new(),
            habit: Habit::Honest,
            busy_until: now,
            turn: 0,
            inbox: Vec::new(),
            reads: 0,
            unread: Vec::new(),
            missing: 0,
            misdeeds: Vec::new(),
        };
        let mut network = Self {
            nodes: (0..count).map(node).collect(),
            arrivals: BinaryHeap::new(),
            sent: 0,
            changes: 0,
            wire_bytes: 0,
            uplink: f64::INFINITY,
            delay: DELAY,
            work: Work::default(),
            works_until: now,
            works: 0,
            latencies: Vec::new(),
            published: HashMap::new(),
            now,
            pool: Mempool::new(Default::default(), &[1; 16]),
        };
        for (a, b) in links {
            network.link(*a, *b);
            network.link(*b, *a);
        }
        network
    }

    /// Ten nodes in a ring, each with chords: six links a node.
    fn of_degree_6() -> Self {
        Self::with(TreeConfig::default())
    }

    /// The same of trees like this.
    fn with(config: TreeConfig) -> Self {
        let links: Vec<_> = (0..10)
            .flat_map(|a| [1, 2, 4].map(|by| (a, (a + by) % 10)))
            .collect();
        Self::of(config, &links, 10)
    }

    fn link(&mut self, from: usize, to: usize) {
        let id = self.nodes[to].id;
        let node = &mut self.nodes[from];
        node.links.push(to);
        node.inbox.push(VecDeque::new());
        node.unread.push(0);
        self.nodes[from].tree.connected(id, self.now);
    }

    fn publish(&mut self, at: usize, number: u64) {
        let data = noise(number);
        let key = TransactionKey::of(&data);
        self.published.insert(key, self.now);
        let node = &mut self.nodes[at];
        node.has.insert(key);
        node.named.insert(key.short());
        let item = Accepted {
            key,
            data: data.into(),
            fee: number,
        };
        node.tree.accepted(None, [item], self.now);
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            self.send();
            let arrival = self.arrivals.peek().map(|Reverse((at, ..))| *at);
            let nodes = self.nodes.iter().flat_map(|node| {
                let links = node.links.iter().zip(&node.unread);
                let ids = links.filter(|(_, unread)| **unread < WINDOW);
                let ids = ids.map(|(link, _)| &self.nodes[*link].id);
                let free_at = node.busy_until.checked_sub(AHEAD).unwrap_or(self.now);
                let sends = ids.filter_map(|id| node.tree.sends_at(id, self.now));
                let sends = sends.map(move |at| at.max(free_at));
                let due = node.tree.fetches.next_deadline();
                let reads = node.has_unread().then_some(self.now);
                let works = due.into_iter().chain(reads);
                sends.chain(works.map(|at| at.max(self.works_until)))
            });
            let Some(next) = nodes.chain(arrival).min().filter(|next| *next <= end) else {
                self.now = end;
                return;
            };
            self.now = next.max((self.now + STEP).min(end));
            while let Some(Reverse((at, ..))) = self.arrivals.peek()
                && *at <= self.now
                && let Some(Reverse((_, _, from, to, bytes))) = self.arrivals.pop()
            {
                // It may have left meanwhile.
                if let Some(link) = self.nodes[to].link(from) {
                    self.nodes[to].inbox[link].push_back(bytes);
                }
            }
            self.work();
        }
    }

    /// Each node in turn looks at its clock, and then reads a frame, of each link in turn, as long as the processor is free.
    fn work(&mut self) {
        let mut idle = 0;
        while idle < self.nodes.len() && self.works_until <= self.now {
            idle += 1;
            self.works = (self.works + 1) % self.nodes.len();
            let node = &mut self.nodes[self.works];
            let misdeeds = node.tree.on_time(&self.pool, self.now);
            node.misdeeds
                .extend(misdeeds.into_iter().filter_map(misdeed));
            let Some((link, bytes)) = node.read() else {
                continue;
            };
            idle = 0;
            let from = node.links[link];
            if let Some(back) = self.nodes[from].link(self.works) {
                self.nodes[from].unread[back] -= bytes.len();
            }
            self.arrive(from, self.works, &bytes);
        }
    }

    fn send(&mut self) {
        for from in 0..self.nodes.len() {
            // Each link in turn, one frame a time, as long as there is room.
            let mut idle = 0;
            while idle < self.nodes[from].links.len() {
                let node = &mut self.nodes[from];
                if node.busy_until > self.now + AHEAD {
                    break;
                }
                node.turn = (node.turn + 1) % node.links.len();
                let (link, to) = (node.turn, node.links[node.turn]);
                let id = self.nodes[to].id;
                let node = &mut self.nodes[from];
                let has_room = node.unread[link] < WINDOW;
                let out = has_room.then(|| node.tree.next(id, None, self.now));
                let Some(out) = out.flatten() else {
                    idle += 1;
                    continue;
                };
                idle = 0;
                node.unread[link] += out.bytes.len();
                let takes = Duration::from_secs_f64(out.bytes.len() as f64 / self.uplink);
                node.busy_until = node.busy_until.max(self.now) + takes;
                self.wire_bytes += out.bytes.len();
                self.sent += 1;
                let mut at = node.busy_until + self.delay;
                if let Habit::PushesLate(by) = node.habit
                    && out.payload > 0
                {
                    at += by;
                }
                let arrival = (at, self.sent, from, to, out.bytes.to_vec());
                self.arrivals.push(Reverse(arrival));
            }
        }
    }

    fn arrive(&mut self, from: usize, to: usize, mut bytes: &[u8]) {
        let (sender, habit) = (self.nodes[from].id, self.nodes[from].habit);
        while !bytes.is_empty() {
            let length = prost::decode_length_delimiter(&mut bytes).expect("a length");
            let (frame, rest) = bytes.split_at(length);
            bytes = rest;
            let kind = Frame::read(Bytes::copy_from_slice(frame)).expect("a frame");
            let free_since = self
                .works_until
                .max(self.now.checked_sub(STEP).unwrap_or(self.now));
            self.works_until = free_since + self.work.of(&kind);
            let node = &mut self.nodes[to];
            let misdeed = match kind {
                Kind::Items(_) if habit == Habit::Withholds => None,
                Kind::Items(batch) => {
                    let keyed = |data: Bytes| (TransactionKey::of(&data), data);
                    let items = batch.items.into_iter().map(keyed).collect();
                    let spared = wire::ids(&batch.spared).expect("ids");
                    node.tree.on_spared(sender, spared, self.now);
                    let missing = wire::ids(&batch.missing).expect("ids");
                    node.missing += missing.len();
                    // What has left the log is known all the same.
                    let has = &node.has;
                    let is_known = |key: &TransactionKey, held| held || has.contains(key);
                    let received = node
                        .tree
                        .on_items(sender, items, missing, is_known, self.now);
                    let accept = |fresh: Fresh| Accepted {
                        key: fresh.key,
                        fee: 0,
                        data: fresh.data,
                    };
                    let accepted: Vec<_> = received.fresh.into_iter().map(accept).collect();
                    for item in &accepted {
                        assert!(node.has.insert(item.key), "nothing is checked twice");
                        node.named.insert(item.key.short());
                        if let Some(at) = self.published.get(&item.key) {
                            self.latencies.push(self.now - *at);
                        }
                    }
                    node.tree.accepted(Some(sender), accepted, self.now);
                    received.misdeed
                }
                Kind::Announce(announce) => {
                    let named = &node.named;
                    let is_known = |id, held| held || named.contains(&id);
                    node.tree.on_announce(sender, &announce, is_known, self.now);
                    None
                }
                Kind::Fetch(fetch) => node.tree.on_fetch(sender, &fetch, self.now),
                Kind::Link(link) => {
                    self.changes += 1;
                    assert_eq!(node.tree.on_link(sender, &link, self.now), None);
                    None
                }
                _ => None,
            };
            node.misdeeds
                .extend(misdeed.map(|misdeed| (sender, misdeed)));
        }
    }

    fn publish_and_run(&mut self, numbers: std::ops::Range<u64>) {
        for number in numbers {
            let at = usize::try_from(number).expect("small") % self.nodes.len();
            self.publish(at, number);
            self.run(Duration::from_micros(500));
        }
        self.run(Duration::from_secs(8));
    }
}

// Only natively: seconds there, many in a browser, which adds nothing.
#[core::prelude::v1::test]
fn everybody_gets_everything_about_once() {
    let mut network = Network::of_degree_6();
    network.publish_and_run(0..6000);
    let before = network.wire_bytes;
    network.publish_and_run(6000..8000);
    assert!(network.nodes.iter().all(|node| node.has.len() == 8000));
    assert!(network.nodes.iter().all(|node| node.misdeeds.is_empty()));
    let unique = 2000 * 250 * 9;
    let ratio = (network.wire_bytes - before) as f64 / f64::from(unique);
    println!("bytes on the wire per useful byte: {ratio:.3}");
    assert!(ratio < 1.25, "{ratio}");
}

/// What nine others read of each item is some 1 to 2 ms of it, and so 800 a second are too much.
const WORK: Work = Work {
    frame: Duration::from_micros(20),
    item: Duration::from_micros(100),
    id: Duration::from_micros(10),
};

/// What a load was like.
#[derive(Debug)]
struct Load {
    /// Wire bytes for each useful one.
    ratio: f64,
    /// Of the latencies of what came.
    p99: Duration,
    /// How often a node told another how their link is.
    changes: u64,
}

/// So many a second for so long, from all nodes in turn.
fn load(network: &mut Network, numbers: &mut u64, rate: u64, time: Duration) -> Load {
    let (bytes, changes, end) = (network.wire_bytes, network.changes, network.now + time);
    network.latencies.clear();
    let first = *numbers;
    while network.now < end {
        let at = usize::try_from(*numbers).expect("small") % network.nodes.len();
        network.publish(at, *numbers);
        *numbers += 1;
        network.run(Duration::from_secs(1) / u32::try_from(rate).expect("small"));
    }
    let useful = (*numbers - first) as f64 * 250.0 * (network.nodes.len() - 1) as f64;
    network.latencies.sort_unstable();
    let p99 = network.latencies.get(network.latencies.len() * 99 / 100);
    let load = Load {
        ratio: (network.wire_bytes - bytes) as f64 / useful,
        p99: p99.copied().unwrap_or(Duration::MAX),
        changes: network.changes - changes,
    };
    println!("{rate}/s: {load:?}");
    load
}

// Only natively: seconds there, many in a browser, which adds nothing.
#[core::prelude::v1::test]
fn after_more_than_all_can_carry_half_of_what_they_can_is_as_light_as_before() {
    let mut network = Network::of_degree_6();
    // Of 250 bytes to three others, as who has most of the tree sends them, that is some 600 a second.
    network.uplink = 5e5;
    let mut numbers = 0;
    let second = Duration::from_secs(1);
    load(&mut network, &mut numbers, 250, 3 * second);
    let rest = load(&mut network, &mut numbers, 500, second);
    load(&mut network, &mut numbers, 2000, 3 * second);
    load(&mut network, &mut numbers, 500, 7 * second);
    let after = load(&mut network, &mut numbers, 500, second);
    assert!(after.ratio < 1.25, "{after:?}");
    let least = Duration::from_millis(50);
    assert!(after.p99 < 2 * rest.p99.max(least), "{rest:?} {after:?}");
    network.run(Duration::from_secs(20));
    assert!(network.nodes.iter().all(|node| node.misdeeds.is_empty()));
}

// Only natively: seconds there, many in a browser, which adds nothing.
#[core::prelude::v1::test]
fn after_more_work_than_all_can_do_a_quarter_of_it_is_as_light_as_before() {
    let mut network = Network::of_degree_6();
    network.work = WORK;
    let (mut numbers, second) = (0, Duration::from_secs(1));
    load(&mut network, &mut numbers, 200, 3 * second);
    let rest = load(&mut network, &mut numbers, 200, second);
    let (bytes, first) = (network.wire_bytes, numbers);
    load(&mut network, &mut numbers, 800, 3 * second);
    // What is left of it.
    load(&mut network, &mut numbers, 200, 2 * second);
    let useful = (numbers - first) as f64 * 250.0 * (network.nodes.len() - 1) as f64;
    let ratio = (network.wire_bytes - bytes) as f64 / useful;
    assert!(ratio < 1.25, "{ratio}");
    let after = load(&mut network, &mut numbers, 200, second);
    assert!(after.ratio < rest.ratio * 1.05, "{rest:?} {after:?}");
    assert!(after.p99 < 2 * rest.p99, "{rest:?} {after:?}");
    assert!(network.nodes.iter().all(|node| node.misdeeds.is_empty()));
}

// Only natively: seconds there, many in a browser, which adds nothing.
#[core::prelude::v1::test]
fn nobody_pays_where_what_was_announced_leaves_a_log_before_it_is_fetched() {
    // A quarter of a second of what comes.
    let mut network = Network::with(TreeConfig {
        max_log_bytes: 64 << 10,
        ..TreeConfig::default()
    });
    network.work = WORK;
    let (mut numbers, second) = (0, Duration::from_secs(1));
    load(&mut network, &mut numbers, 200, 3 * second);
    load(&mut network, &mut numbers, 1600, 4 * second);
    let missing = network.nodes.iter().map(|node| node.missing);
    assert!(missing.sum::<usize>() > 2560, "little: this shows nothing");
    let mut misdeeds = network.nodes.iter().flat_map(|node| &node.misdeeds);
    assert!(!misdeeds.any(|(_, misdeed)| *misdeed == Misdeed::FalseAnnouncement));
}

// Only natively: seconds there, many in a browser, which adds nothing.
#[core::prelude::v1::test]
fn a_tree_of_slow_links_is_left_as_it_is() {
    let mut network = Network::of_degree_6();
    // Longer than the patience.
    network.delay = Duration::from_millis(100);
    let (mut numbers, second) = (0, Duration::from_secs(1));
    load(&mut network, &mut numbers, 100, 5 * second);
    let settled = load(&mut network, &mut numbers, 100, 5 * second);
    assert_eq!(settled.changes, 0, "{settled:?}");
    assert!(settled.ratio < 1.35, "{settled:?}");
    assert!(settled.p99 < Duration::from_millis(800), "{settled:?}");
    // Some have others push that are ahead of theirs most often, and that ends.
    load(&mut network, &mut numbers, 100, 30 * second);
    let later = load(&mut network, &mut numbers, 100, 20 * second);
    assert_eq!(later.changes, 0, "{later:?}");
    assert!(later.p99 <= settled.p99 && later.ratio < 1.35, "{later:?}");
}

// Only natively: seconds there, many in a browser, which adds nothing.
#[core::prelude::v1::test]
fn who_pushes_late_is_soon_pushed_aside() {
    let (second, millis) = (Duration::from_secs(1), Duration::from_millis(300));
    for (by, takes) in [(second, 40), (millis, 20)] {
        let mut network = Network::of_degree_6();
        let mut numbers = 0;
        load(&mut network, &mut numbers, 100, 4 * second);
        let slow = busiest(&network);
        network.nodes[slow].habit = Habit::PushesLate(by);
        let meanwhile = load(&mut network, &mut numbers, 100, takes * second);
        assert!(meanwhile.p99 < 3 * second, "{meanwhile:?}");
        let pushing = |node: &Node| node.tree.peers.values().filter(|peer| peer.pushes).count();
        assert!(pushing(&network.nodes[slow]) <= 1, "nobody has much by it");
        let honest = load(&mut network, &mut numbers, 100, 5 * second);
        // But its own, which come late to all.
        let late = network.latencies.iter().filter(|took| **took > by / 2);
        let late = late.count() as f64 / network.latencies.len() as f64;
        assert!(late < 0.25, "{late} {honest:?}");
    }
}

// Only natively: seconds there, many in a browser, which adds nothing.
#[core::prelude::v1::test]
fn votes_are_soon_as_light_again_after_more_of_them_than_all_can_check() {
    let mut network = Network::with(TreeConfig::votes());
    network.work = WORK;
    let (mut numbers, second) = (0, Duration::from_secs(1));
    load(&mut network, &mut numbers, 200, 3 * second);
    let rest = load(&mut network, &mut numbers, 200, second);
    load(&mut network, &mut numbers, 800, 3 * second);
    // Everything takes over a second then.
    load(&mut network, &mut numbers, 200, 5 * second);
    let after = load(&mut network, &mut numbers, 200, second);
    assert!(after.ratio < rest.ratio * 1.1, "{rest:?} {after:?}");
    assert!(after.p99 < 2 * rest.p99, "{rest:?} {after:?}");
}

/// The node with the most links that push.
fn busiest(network: &Network) -> usize {
    let pushing = |node: &Node| node.tree.peers.values().filter(|peer| peer.pushes).count();
    let nodes = network.nodes.iter().enumerate();
    let busiest = nodes.max_by_key(|(_, node)| pushing(node));
    busiest.expect("some").0
}

/// The busiest node leaves.
fn cut(network: &mut Network) -> usize {
    let gone = busiest(network);
    let (id, now) = (network.nodes[gone].id, network.now);
    let node = &mut network.nodes[gone];
    (node.inbox, node.unread) = Default::default();
    for place in std::mem::take(&mut node.links) {
        let node = &mut network.nodes[place];
        let link = node.link(gone).expect("both ways");
        node.links.remove(link);
        node.inbox.remove(link);
        node.unread.remove(link);
        node.tree.gone(id, now);
    }
    gone
}

// Only natively: seconds there, many in a browser, which adds nothing.
#[core::prelude::v1::test]
fn a_tree_that_is_cut_is_mended_by_few_changes() {
    for (rate, takes) in [(200, 6), (5, 60)] {
        let mut network = Network::of_degree_6();
        network.delay = Duration::from_millis(10);
        let (mut numbers, second) = (0, Duration::from_secs(1));
        load(&mut network, &mut numbers, 200, 4 * second);
        let rest = load(&mut network, &mut numbers, 200, second);
        let gone = cut(&mut network);
        let mending = load(&mut network, &mut numbers, rate, takes * second);
        assert!((1..=16).contains(&mending.changes), "{mending:?}");
        let after = load(&mut network, &mut numbers, 200, second);
        assert!(after.p99 < 2 * rest.p99, "{rest:?} {after:?}");
        network.run(5 * second);
        let others = network.nodes.iter().enumerate();
        let mut others = others.filter(|(place, _)| *place != gone);
        let has = |node: &Node| node.has.len();
        let (_, first) = others.next().expect("nine");
        assert!(others.all(|(_, node)| has(node) == has(first)));
    }
}

// Only natively: seconds there, many in a browser, which adds nothing.
#[core::prelude::v1::test]
fn who_could_send_nothing_for_half_a_second_pushes_again_as_before() {
    let mut network = Network::of_degree_6();
    let (mut numbers, second) = (0, Duration::from_secs(1));
    load(&mut network, &mut numbers, 1000, 3 * second);
    let rest = load(&mut network, &mut numbers, 3000, second);
    for node in &mut network.nodes[..3] {
        node.busy_until = network.now + second / 2;
    }
    load(&mut network, &mut numbers, 3000, second);
    let after = load(&mut network, &mut numbers, 3000, second);
    assert!(after.ratio < 1.25, "{after:?}");
    assert!(after.p99 < 2 * rest.p99, "{rest:?} {after:?}");
}

#[test]
fn who_comes_is_told_of_what_was_just_before_and_nobody_pays_for_what_it_knows() {
    let mut network = Network::new(&[(0, 1)], 3);
    for number in 0..30 {
        network.publish(0, number);
        network.run(Duration::from_millis(10));
    }
    network.run(RECENT);
    for number in 30..60 {
        network.publish(0, number);
        network.run(Duration::from_millis(10));
    }
    // Both tell the same, and of what neither made.
    for place in [0, 1] {
        network.link(place, 2);
        network.link(2, place);
    }
    network.run(Duration::from_secs(1));
    assert_eq!(network.nodes[1].has.len(), 60);
    assert_eq!(network.nodes[2].has.len(), 30, "the latest");
    let newcomer = network.nodes[2].id;
    let node = &network.nodes[0];
    assert!(node.tree.peers[&newcomer].again.is_none(), "told once");
    // It goes and comes again.
    for place in [0, 1] {
        let (id, now) = (network.nodes[place].id, network.now);
        network.nodes[place].tree.disconnected(newcomer, now);
        network.nodes[2].tree.disconnected(id, now);
        network.nodes[place].tree.connected(newcomer, now);
        network.nodes[2].tree.connected(id, now);
    }
    network.run(Duration::from_secs(1));
    assert_eq!(network.nodes[2].has.len(), 30);
    assert!(network.nodes.iter().all(|node| node.misdeeds.is_empty()));
}

#[test]
fn who_withholds_delays_and_pays() {
    let mut network = Network::of_degree_6();
    for liar in [3, 7] {
        network.nodes[liar].habit = Habit::Withholds;
    }
    network.publish_and_run(0..1000);
    for (place, node) in network.nodes.iter().enumerate() {
        let missing = (0..1000_u64).filter(|number| {
            let key = TransactionKey::of(&noise(*number));
            let lost = [3, 7].contains(&(number % 10));
            !lost && !node.has.contains(&key)
        });
        assert_eq!(missing.count(), 0, "node {place} has all of the honest");
    }
    let liars = [network.nodes[3].id, network.nodes[7].id];
    let blamed: Vec<_> = network
        .nodes
        .iter()
        .flat_map(|node| &node.misdeeds)
        .collect();
    assert!(
        blamed
            .iter()
            .all(|(peer, misdeed)| liars.contains(peer) && *misdeed == Misdeed::NoAnswer)
    );
    assert!(!blamed.is_empty());
}

#[test]
fn a_tree_that_is_cut_grows_together() {
    let mut network = Network::of_degree_6();
    network.publish_and_run(0..1000);
    let gone = cut(&mut network);
    for number in 1000..2000 {
        let at = (gone + 1) % 10;
        network.publish(at, number);
        network.run(Duration::from_millis(1));
    }
    network.run(Duration::from_secs(8));
    let others = network
        .nodes
        .iter()
        .enumerate()
        .filter(|(place, _)| *place != gone);
    for (place, node) in others {
        assert_eq!(node.has.len(), 2000, "node {place}");
    }
}
