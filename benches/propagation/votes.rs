//! How long a vote takes from one process to another, alone and under a flood of transactions on the same connection.
//!
//! A vote carries the time at which it was made; both processes read the same clock. Raw gossipsub sends it as one message more
//! among those of the flood, of which it sends as many as it takes.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use futures::{StreamExt, stream::FuturesUnordered};
use selkie::{Application, Item, Vote};

use crate::{
    child::{self, Child},
    gossip, node,
    support::{Figure, Measured, full_or, quantile},
    two_nodes::{batch, noise},
};

const ROUNDS: usize = 5;
const LISTEN: &str = "/ip4/127.0.0.1/tcp/0";
const TIME: Duration = Duration::from_secs(4);
/// How long the flood has run before the first vote: as long as the memory of both nodes grows, so long the system gives pages.
const SETTLING: Duration = Duration::from_secs(2);
/// Time between two votes.
const PAUSE: Duration = Duration::from_millis(5);
/// Bytes of a vote, and of what floods gossipsub.
const VOTE: usize = 100;
const MESSAGE: usize = 256;

pub fn measure() -> Vec<Figure> {
    let rounds = full_or(ROUNDS, 1);
    eprintln!("votes under a flood: {rounds} rounds");
    let [mut alone, mut flooded, mut gossip_alone, mut gossip_flooded] = [const { Vec::new() }; 4];
    for _ in 0..rounds {
        crate::one_thread().block_on(async {
            alone.push(selkie(false).await);
            flooded.push(selkie(true).await);
            gossip_alone.push(gossip(false).await);
            gossip_flooded.push(gossip(true).await);
        });
        let last = [&alone, &flooded, &gossip_alone, &gossip_flooded];
        eprintln!(
            "   p99 in ms: {:.2?}",
            last.map(|p99s| p99s[p99s.len() - 1])
        );
    }
    let [alone, flooded, gossip_alone, gossip_flooded] =
        [alone, flooded, gossip_alone, gossip_flooded].map(Measured::of);
    let figure = |name: &str, value, baseline, baseline_name, target| Figure {
        name: format!("a vote, {name}, p99"),
        value,
        unit: "ms",
        baseline: Some(baseline),
        baseline_name,
        target,
    };
    vec![
        figure("alone", alone, gossip_alone, "gossipsub", None),
        figure("under a flood", flooded, gossip_flooded, "gossipsub", None),
        figure(
            "under a flood beside alone",
            flooded,
            alone,
            "alone",
            Some(0.0..=2.0),
        ),
    ]
}

/// How long the flood settles, and how long votes follow.
fn times() -> (Duration, Duration) {
    full_or((SETTLING, TIME), (SETTLING / 10, TIME / 10))
}

async fn selkie(flood: bool) -> f64 {
    let (mut receiver, address) = Child::start(&["votes", "selkie"]);
    let node = node(None, selkie::chain::Opaque).await;
    node.dial(address).await.expect("connected");
    let (begin, mut number) = (Instant::now(), 0);
    let (settling, time) = times();
    let mut sends = FuturesUnordered::new();
    let mut next = tokio::time::interval_at((begin + settling).into(), PAUSE);
    while begin.elapsed() < settling + time {
        while flood && sends.len() < 4 {
            sends.push(node.broadcast_transactions(batch(&mut number)));
        }
        tokio::select! {
            biased;
            _ = next.tick() => {
                let vote = Item::Vote(Vote::new(stamped()));
                node.submit(vote).await.expect("a peer");
            }
            Some(sent) = sends.next() => drop(sent.expect("a peer")),
        }
    }
    let [p99] = receiver.ask();
    drop(sends);
    node.shutdown().await;
    receiver.end();
    p99
}

async fn gossip(flood: bool) -> f64 {
    let (mut receiver, address) = Child::start(&["votes", "gossip"]);
    let mut node = gossip::Node::new();
    node.join(address).await;
    let (begin, mut number) = (Instant::now(), 0);
    let (settling, time) = times();
    let mut next = begin + settling;
    while begin.elapsed() < settling + time {
        if next <= Instant::now() {
            next += PAUSE;
            while !node.publish(stamped()) {
                node.work().await;
            }
        }
        number += 1;
        if !flood {
            tokio::time::sleep(PAUSE / 10).await;
        } else if !node.publish(noise(number, MESSAGE)) {
            node.work().await;
        }
        if !flood || number.is_multiple_of(16) {
            node.work().await;
        }
    }
    let [p99] = receiver.ask();
    receiver.end();
    p99
}

/// The child: its figure is the p99 so far, in milliseconds.
pub async fn receive(side: &str) {
    let latencies = Latencies::default();
    let mine = latencies.clone();
    child::answer(move || vec![mine.p99()]);
    if side == "selkie" {
        let node = node(Some(LISTEN), latencies.clone()).await;
        println!("{}", node.listeners()[0]);
        std::future::pending::<()>().await;
    }
    let mut node = gossip::Node::new();
    println!("{}", node.listen(LISTEN).await);
    loop {
        let message = gossip::message(node.swarm.select_next_some().await);
        if let Some(message) = message.filter(|message| message.len() == VOTE) {
            latencies.note(&message);
        }
    }
}

#[derive(Clone, Default)]
struct Latencies(Arc<Mutex<Vec<f64>>>);

impl Latencies {
    fn note(&self, vote: &[u8]) {
        let made = u64::from_le_bytes(vote[..8].try_into().expect("8 bytes"));
        let took = now().saturating_sub(made) as f64 / 1e6;
        self.0.lock().expect("no panic").push(took);
    }

    fn p99(&self) -> f64 {
        quantile(&mut self.0.lock().expect("no panic"), 0.99)
    }
}

impl Application for Latencies {
    fn deliver(&self, item: &Item) {
        if let Item::Vote(vote) = item {
            self.note(&vote.data);
        }
    }
}

fn stamped() -> Vec<u8> {
    let mut vote = now().to_le_bytes().to_vec();
    vote.resize(VOTE, 0);
    vote
}

/// Nanoseconds since 1970.
fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("later");
    u64::try_from(since.as_nanos()).expect("before 2554")
}
