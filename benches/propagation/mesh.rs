//! Ten nodes in one process, each linked to six: the highest rate at which every node gets everything, the bytes, the latency.
//!
//! Transactions of 250 bytes come from all nodes in turn, ten of them a hundredth of a second each. A rate is sustained when
//! all have everything a second after the last was sent. The rate is doubled until that fails, and then halved in between.
//! Bytes and latency are those of half that rate, some seconds after it began. The sides take turns, each round with ten new
//! nodes; figures are medians of the rounds.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use futures::{Stream, StreamExt};
use selkie::{Application, Item, NetworkEvent, P2PNetworkManager, Transaction};
use tokio::{runtime::Builder, sync::mpsc, task::JoinSet};

use crate::{
    gossip, node,
    support::{Figure, Measured, full_or, quantile, smoke},
    two_nodes::noise,
};

const ROUNDS: usize = 3;
const NODES: usize = 10;
/// Node n dials the next three, and nobody dials by itself; so each has six links, before and after.
const DIALS: usize = 3;
const SIZE: usize = 250;
/// Where a transaction names the node that made it; before that it has the time.
const MAKER: usize = 8;
const TIME: Duration = Duration::from_secs(2);
const TICK: Duration = Duration::from_millis(10);
const PATIENCE: Duration = Duration::from_secs(1);
const LISTEN: &str = "/ip4/127.0.0.1/tcp/0";
/// Steps between the highest rate that was sustained and the lowest that was not.
const HALVINGS: usize = 3;
/// Steps at half the highest rate before the one that is measured.
const SETTLING: usize = 6;
/// How many times the highest rate is too much for sure.
const OVERLOAD: u32 = 2;
/// The one rate of the smoke form: any machine carries it, whatever else it does.
const SMOKE_RATE: u32 = 100;
/// How long the links of gossipsub's nodes may take to come up.
const JOINING: Duration = Duration::from_secs(30);

pub fn measure() -> Vec<Figure> {
    let runtime = Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let [mut selkie, mut gossip] = [const { Vec::new() }; 2];
        for _ in 0..full_or(ROUNDS, 1) {
            let network = Selkie::start().await;
            selkie.push(search(&network, 2000).await);
            network.assert_links();
            drop(network);
            gossip.push(search(&Gossip::start().await, 250).await);
        }
        let median = |rounds: &[Found], of: fn(&Found) -> f64| Measured::of(rounds.iter().map(of));
        let rate = median(&selkie, |found| found.rate);
        let p99 = median(&selkie, |found| found.p99);
        let figure = |name: &str, unit, value, baseline, target| Figure {
            name: format!("ten nodes, {name}"),
            value,
            unit,
            baseline,
            baseline_name: "gossipsub",
            target,
        };
        let infinity = f64::INFINITY;
        vec![
            figure("rate", "/s", rate, None, Some(10_000.0..=infinity)),
            figure(
                "beside gossipsub",
                "/s",
                rate,
                Some(median(&gossip, |found| found.rate)),
                Some(8.0..=infinity),
            ),
            figure(
                "wire bytes per byte",
                "",
                median(&selkie, |found| found.overhead),
                None,
                Some(0.0..=1.25),
            ),
            figure(
                "wire bytes per byte under overload",
                "",
                median(&selkie, |found| found.overloaded),
                None,
                Some(0.0..=1.25),
            ),
            figure("p99 at half the rate", "ms", p99, None, Some(0.0..=100.0)),
            figure(
                "p99 beside gossipsub's",
                "ms",
                p99,
                Some(median(&gossip, |found| found.p99)),
                None,
            ),
        ]
    })
}

/// What a network can do.
struct Found {
    rate: f64,
    /// Wire bytes for each byte of new payload, and the latency in ms, both at half the rate.
    overhead: f64,
    p99: f64,
    /// Wire bytes for each byte of new payload that came, at [`OVERLOAD`] times the rate.
    overloaded: f64,
}

/// How a network took a rate.
struct Run {
    in_time: bool,
    /// Wire bytes for each byte of new payload that came, and the latency in ms.
    overhead: f64,
    p99: f64,
}

/// Ten nodes.
trait Network {
    /// Sends from one of the nodes.
    async fn send(&self, from: usize, transactions: Vec<Vec<u8>>);
    fn arrivals(&self) -> &Arrivals;
    /// Bytes that all nodes have read; 0 where nobody counts.
    fn bytes(&self) -> u64;
}

/// What has arrived, at all nodes together but the one that made it.
#[derive(Clone)]
struct Arrivals {
    begin: Instant,
    /// The node that these arrive at.
    at: usize,
    count: Arc<AtomicU64>,
    latencies: Arc<Mutex<Vec<f64>>>,
}

impl Arrivals {
    fn new() -> Self {
        Self {
            begin: Instant::now(),
            at: 0,
            count: Arc::default(),
            latencies: Arc::default(),
        }
    }

    /// The same of another node.
    fn at(&self, node: usize) -> Self {
        Self {
            at: node,
            ..self.clone()
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.begin.elapsed().as_nanos()).expect("a short run")
    }

    fn note(&self, data: &[u8]) {
        // A node of Selkie's is handed its own ones too.
        if usize::from(data[MAKER]) == self.at {
            return;
        }
        let made = u64::from_le_bytes(data[..MAKER].try_into().expect("8 bytes"));
        let count = self.count.fetch_add(1, Ordering::Relaxed);
        // A part of them says enough.
        if count.is_multiple_of(16) {
            let took = (self.now() - made) as f64 / 1e6;
            self.latencies.lock().expect("no panic").push(took);
        }
    }
}

async fn search(network: &impl Network, first: u32) -> Found {
    let (mut good, mut bad) = (0, first);
    if smoke() {
        good = SMOKE_RATE;
    } else {
        while run(network, bad).await.in_time {
            good = bad;
            bad *= 2;
        }
        for _ in 0..HALVINGS {
            let rate = good.midpoint(bad);
            if run(network, rate).await.in_time {
                good = rate;
            } else {
                bad = rate;
            }
        }
        // The links settle again after the overload before.
        for _ in 0..SETTLING {
            run(network, good / 2).await;
        }
    }
    let half = run(network, good / 2).await;
    let over = run(network, good * OVERLOAD).await;
    let in_time = |figure| if half.in_time { figure } else { f64::INFINITY };
    Found {
        rate: good.into(),
        overhead: in_time(half.overhead),
        p99: in_time(half.p99),
        overloaded: over.overhead,
    }
}

/// Sends at a rate, and waits for what comes.
async fn run(network: &impl Network, rate: u32) -> Run {
    let arrivals = network.arrivals();
    arrivals.latencies.lock().expect("no panic").clear();
    let (bytes, count) = (network.bytes(), arrivals.count.load(Ordering::Relaxed));
    let mut ticks = tokio::time::interval(TICK);
    let (begin, mut sent) = (Instant::now(), 0);
    let mut turn = 0;
    while begin.elapsed() < TIME {
        ticks.tick().await;
        let due = (begin.elapsed().as_secs_f64() * f64::from(rate)) as u64 - sent;
        let maker = turn % NODES;
        let transactions = (0..due).map(|number| {
            let mut data = noise(arrivals.now() ^ (sent + number) << 40, SIZE);
            data[..MAKER].copy_from_slice(&arrivals.now().to_le_bytes());
            data[MAKER] = u8::try_from(maker).expect("ten nodes");
            data
        });
        network.send(maker, transactions.collect()).await;
        sent += due;
        turn += 1;
    }
    let expected = sent * (NODES as u64 - 1);
    let late = Instant::now();
    let arrived = || arrivals.count.load(Ordering::Relaxed) - count;
    while arrived() < expected && late.elapsed() < PATIENCE {
        tokio::time::sleep(TICK).await;
    }
    let came = arrived();
    let overhead = (network.bytes() - bytes) as f64 / (came * SIZE as u64) as f64;
    let p99 = quantile(&mut arrivals.latencies.lock().expect("no panic"), 0.99);
    eprintln!(
        "   {rate}/s: {came} of {expected} in time, {overhead:.2} bytes per byte, p99 {p99:.1} ms"
    );
    // What is still under way must not count for the next rate.
    let rest = Instant::now();
    while arrived() < expected && rest.elapsed() < 10 * PATIENCE {
        tokio::time::sleep(TICK).await;
    }
    Run {
        in_time: came >= expected,
        overhead,
        p99,
    }
}

struct Selkie {
    nodes: Vec<P2PNetworkManager>,
    arrivals: Arrivals,
}

impl Application for Arrivals {
    fn deliver(&self, item: &Item) {
        self.note(item.data());
    }
}

/// Whether it is something that no node should see here: honest peers lose each other, or blame each other.
fn is_amiss(event: &NetworkEvent) -> bool {
    matches!(
        event,
        NetworkEvent::PeerDisconnected { .. }
            | NetworkEvent::PeerRefused { .. }
            | NetworkEvent::PeerScored { .. }
            | NetworkEvent::DialFailed { .. }
    )
}

/// Says what a node sees of these.
async fn tell_ends(place: usize, mut events: impl Stream<Item = NetworkEvent> + Unpin) {
    while let Some(event) = events.next().await {
        eprintln!("   node {place}: {event}");
    }
}

impl Selkie {
    /// That they are linked as is said, and no closer.
    fn assert_links(&self) {
        for node in &self.nodes {
            assert_eq!(node.get_connected_peers().len(), 2 * DIALS);
        }
    }

    async fn start() -> Self {
        eprintln!("ten nodes: Selkie");
        let arrivals = Arrivals::new();
        let mut nodes = Vec::new();
        for place in 0..NODES {
            let node = node(Some(LISTEN), arrivals.at(place)).await;
            tokio::spawn(tell_ends(place, node.subscribe(is_amiss)));
            nodes.push(node);
        }
        for (place, node) in nodes.iter().enumerate() {
            for next in 1..=DIALS {
                let to = nodes[(place + next) % NODES].listeners().remove(0);
                node.dial(to).await.expect("connected");
            }
        }
        let network = Self { nodes, arrivals };
        // Both ends of a link know of it a moment after the dial.
        tokio::time::sleep(PATIENCE).await;
        network.assert_links();
        network
    }
}

impl Network for Selkie {
    async fn send(&self, from: usize, transactions: Vec<Vec<u8>>) {
        let transactions = transactions.into_iter().map(Transaction::new).collect();
        let sent = self.nodes[from].broadcast_transactions(transactions).await;
        assert!(sent.expect("peers").iter().all(Result::is_ok));
    }

    fn arrivals(&self) -> &Arrivals {
        &self.arrivals
    }

    fn bytes(&self) -> u64 {
        let metrics = self.nodes.iter().map(P2PNetworkManager::message_metrics);
        metrics.map(|metrics| metrics.bytes_received).sum()
    }
}

struct Gossip {
    nodes: Vec<mpsc::Sender<Vec<Vec<u8>>>>,
    /// What drives them, until they are dropped.
    _tasks: JoinSet<()>,
    arrivals: Arrivals,
}

impl Gossip {
    async fn start() -> Self {
        eprintln!("ten nodes: gossipsub");
        let arrivals = Arrivals::new();
        let mut swarms = Vec::new();
        let mut addresses = Vec::new();
        for _ in 0..NODES {
            let mut node = gossip::Node::new();
            addresses.push(node.listen(LISTEN).await);
            swarms.push(node);
        }
        let (joined, mut links) = mpsc::unbounded_channel();
        let (mut nodes, mut tasks) = (Vec::new(), JoinSet::new());
        for (place, mut swarm) in swarms.into_iter().enumerate() {
            let others = (1..=DIALS).map(|next| addresses[(place + next) % NODES].clone());
            others.for_each(|other| swarm.swarm.dial(other).expect("dialling"));
            let (sender, mut inbox) = mpsc::channel::<Vec<Vec<u8>>>(16);
            let (arrivals, joined) = (arrivals.at(place), joined.clone());
            tasks.spawn(async move {
                loop {
                    tokio::select! {
                        event = swarm.swarm.select_next_some() => {
                            if gossip::subscribed(&event) {
                                let _ = joined.send(());
                            }
                            if let Some(message) = gossip::message(event) {
                                arrivals.note(&message);
                            }
                        }
                        Some(transactions) = inbox.recv() => {
                            for transaction in transactions {
                                swarm.publish(transaction);
                            }
                        }
                    }
                }
            });
            nodes.push(sender);
        }
        // Each link is heard of at both its ends: who publishes before that has nobody to publish to.
        let all = async {
            for _ in 0..2 * DIALS * NODES {
                links.recv().await.expect("they run");
            }
        };
        let in_time = tokio::time::timeout(JOINING, all).await;
        in_time.expect("the links of gossipsub's nodes come up");
        // The heartbeats build the mesh.
        tokio::time::sleep(Duration::from_secs(4)).await;
        Self {
            nodes,
            _tasks: tasks,
            arrivals,
        }
    }
}

impl Network for Gossip {
    async fn send(&self, from: usize, transactions: Vec<Vec<u8>>) {
        self.nodes[from].send(transactions).await.expect("it runs");
    }

    fn arrivals(&self) -> &Arrivals {
        &self.arrivals
    }

    fn bytes(&self) -> u64 {
        0
    }
}
