//! Transactions from one process to another, as many as go through in some seconds.
//!
//! Selkie computes each one's key and identity, deduplicates, has it checked by an `Application`, delivers it there and hands
//! it to a subscriber; none may be lost. Raw gossipsub publishes one message a time, or packs 64 items of 200 bytes into a
//! message that nobody looks into. The sender is this process, the receiver a child of it. The sides take turns; figures are medians of the rounds,
//! with the least and the most of them.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use futures::{StreamExt, stream::FuturesUnordered};
use selkie::{
    Application, Checked, Item, ItemId, Multiaddr, NetworkEvent, P2PNetworkManager, Transaction,
    chain::TransactionKey,
};

use crate::{
    child::{self, Child},
    gossip, node,
    support::{Figure, Measured, cpu_seconds, full_or},
};

const ROUNDS: usize = 5;
/// How long items are sent in each.
const TIME: Duration = Duration::from_secs(4);
/// How long the last of them may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Bytes of a transaction.
const SIZE: usize = 250;
/// Transactions handed over at once, and how many such batches are on their way to the node.
const BATCH: usize = 512;
const BATCHES: usize = 4;
/// What gossipsub publishes one by one: bytes.
const MESSAGE: usize = 256;
/// What it packs blindly: items in a message, and their bytes.
const PACKED: (usize, usize) = (64, 200);

/// One round of one side.
#[derive(Clone, Copy)]
struct Round {
    per_second: f64,
    /// Microseconds of CPU for each item.
    sender: f64,
    receiver: f64,
}

pub fn measure() -> Vec<Figure> {
    crate::one_thread().block_on(all())
}

async fn all() -> Vec<Figure> {
    let (rounds_each, time) = (full_or(ROUNDS, 1), full_or(TIME, TIME / 20));
    let mut figures = Vec::new();
    for (name, listen) in [
        ("TCP", "/ip4/127.0.0.1/tcp/0"),
        ("QUIC", "/ip4/127.0.0.1/udp/0/quic-v1"),
    ] {
        eprintln!("two processes over {name}: {rounds_each} rounds");
        let mut rounds = [const { Vec::new() }; 3];
        for _ in 0..rounds_each {
            for (side, rounds) in Side::ALL.into_iter().zip(&mut rounds) {
                rounds.push(round(side, listen, time).await);
            }
        }
        figures.extend(compare(name, &rounds));
    }
    figures
}

fn compare(name: &str, rounds: &[Vec<Round>; 3]) -> Vec<Figure> {
    let median = |side: usize, of: fn(&Round) -> f64| Measured::of(rounds[side].iter().map(of));
    let rate = |round: &Round| round.per_second;
    let figure = |what: &str, unit, value, baseline, target| {
        let (baseline_name, baseline) = match baseline {
            Some((name, baseline)) => (name, Some(baseline)),
            None => ("", None),
        };
        Figure {
            name: format!("{name}, {what}"),
            value,
            unit,
            baseline,
            baseline_name,
            target,
        }
    };
    let (single, packed) = ("gossipsub, one by one", "gossipsub, packed blindly");
    let selkie = median(0, rate);
    let cpu = |what, of| {
        figure(
            what,
            "us",
            median(0, of),
            Some((single, median(1, of))),
            None,
        )
    };
    vec![
        figure(
            "transactions",
            "/s",
            selkie,
            None,
            Some(500_000.0..=f64::INFINITY),
        ),
        figure(
            "beside gossipsub",
            "/s",
            selkie,
            Some((single, median(1, rate))),
            Some(5.0..=f64::INFINITY),
        ),
        figure(
            "beside blind packing",
            "/s",
            selkie,
            Some((packed, median(2, rate))),
            Some(0.4..=f64::INFINITY),
        ),
        cpu("CPU of the sender", |round| round.sender),
        cpu("CPU of the receiver", |round| round.receiver),
    ]
}

/// What is measured: the children are told by its name.
#[derive(Clone, Copy, PartialEq)]
enum Side {
    Selkie,
    Single,
    Packed,
}

impl Side {
    const ALL: [Self; 3] = [Self::Selkie, Self::Single, Self::Packed];

    fn name(self) -> &'static str {
        match self {
            Self::Selkie => "selkie",
            Self::Single => "single",
            Self::Packed => "packed",
        }
    }

    /// Items in a message of gossipsub's, and the message's bytes.
    fn message(self) -> (usize, usize) {
        match self {
            Self::Packed => (PACKED.0, PACKED.0 * PACKED.1),
            _ => (1, MESSAGE),
        }
    }
}

async fn round(side: Side, listen: &str, time: Duration) -> Round {
    let (mut receiver, address) = Child::start(&[side.name(), listen]);
    let mut sender = Sender::join(side, address).await;
    let [_, before] = receiver.ask();
    let (begin, cpu) = (Instant::now(), cpu_seconds());
    let sent = sender.send_for(time).await;
    let [mut received, mut receivers_cpu] = receiver.ask();
    let patience = Instant::now();
    while received < sent as f64 && patience.elapsed() < PATIENCE {
        sender.idle(Duration::from_millis(2)).await;
        [received, receivers_cpu] = receiver.ask();
    }
    let took = begin.elapsed().as_secs_f64();
    assert_eq!(received, sent as f64, "{}: some were lost", side.name());
    let each = |seconds: f64| seconds / sent as f64 * 1e6;
    let round = Round {
        per_second: sent as f64 / took,
        sender: each(cpu_seconds() - cpu),
        receiver: each(receivers_cpu - before),
    };
    eprintln!(
        "   {}: {:.0}/s, CPU us each: sender {:.2}, receiver {:.2}",
        side.name(),
        round.per_second,
        round.sender,
        round.receiver
    );
    sender.end().await;
    receiver.end();
    round
}

/// This process's node.
enum Sender {
    Selkie(P2PNetworkManager),
    Gossip(Box<gossip::Node>, Side),
}

impl Sender {
    async fn join(side: Side, address: Multiaddr) -> Self {
        if side == Side::Selkie {
            let node = node(None, Counter::default()).await;
            node.dial(address).await.expect("connected");
            return Self::Selkie(node);
        }
        let mut node = gossip::Node::new();
        node.join(address).await;
        Self::Gossip(Box::new(node), side)
    }

    /// How many items were sent.
    async fn send_for(&mut self, time: Duration) -> u64 {
        let (begin, mut number) = (Instant::now(), 0);
        match self {
            Self::Selkie(node) => {
                let mut sent = 0;
                let mut sends: FuturesUnordered<_> = (0..BATCHES)
                    .map(|_| node.broadcast_transactions(batch(&mut number)))
                    .collect();
                while let Some(outcome) = sends.next().await {
                    let outcome = outcome.expect("there is a peer");
                    sent += outcome.iter().filter(|one| one.is_ok()).count() as u64;
                    if begin.elapsed() < time {
                        sends.push(node.broadcast_transactions(batch(&mut number)));
                    }
                }
                sent
            }
            Self::Gossip(node, side) => {
                let (items, bytes) = side.message();
                let mut sent = 0;
                while begin.elapsed() < time {
                    number += 1;
                    // What was refused is in gossipsub's memory of duplicates: another one next time.
                    if node.publish(noise(number, bytes)) {
                        sent += items as u64;
                    } else {
                        node.work().await;
                    }
                    if number.is_multiple_of(16) {
                        node.work().await;
                    }
                }
                sent
            }
        }
    }

    async fn idle(&mut self, time: Duration) {
        let pause = tokio::time::sleep(time);
        match self {
            Self::Selkie(_) => pause.await,
            Self::Gossip(node, _) => {
                let _ =
                    tokio::time::timeout(time, node.swarm.by_ref().for_each(|_| async {})).await;
            }
        }
    }

    async fn end(self) {
        if let Self::Selkie(node) = self {
            node.shutdown().await;
        }
    }
}

/// Transactions that no compression makes smaller.
pub fn batch(number: &mut u64) -> Vec<Transaction> {
    let transaction = |_| {
        *number += 1;
        Transaction::new(noise(*number, SIZE))
    };
    (0..BATCH).map(transaction).collect()
}

/// Bytes that no compression makes smaller, different for each seed.
pub fn noise(seed: u64, bytes: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mut data = Vec::with_capacity(bytes.next_multiple_of(8));
    while data.len() < bytes {
        state = (state ^ (state >> 29))
            .wrapping_mul(0xBF58_476D_1CE4_E5B9)
            .wrapping_add(seed);
        data.extend_from_slice(&state.to_le_bytes());
    }
    data.truncate(bytes);
    data
}

/// The chain: cheap to check.
#[derive(Clone, Default)]
struct Counter(Arc<AtomicU64>);

impl Application for Counter {
    fn check_transaction_by_key(&self, transaction: &Transaction, key: &TransactionKey) -> Checked {
        let mut checked = Checked::accept(ItemId::of_key(key));
        checked.fee = transaction.data.first().copied().map(u64::from);
        checked
    }

    fn deliver(&self, _: &Item) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// The child: prints its address, then at each line on its input how many items it has and its CPU time.
pub async fn receive(side: &str, listen: &str) {
    let side = Side::ALL.into_iter().find(|known| known.name() == side);
    let items = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&items);
    child::answer(move || vec![counted.load(Ordering::Relaxed) as f64, cpu_seconds()]);
    match side.expect("a side") {
        Side::Selkie => {
            let delivered = Counter::default();
            let node = node(Some(listen), delivered.clone()).await;
            println!("{}", node.listeners()[0]);
            let mut events =
                node.subscribe(|event| matches!(event, NetworkEvent::ItemAccepted { .. }));
            while events.recv().await.is_some() {
                assert_eq!(events.missed(), 0, "the subscriber is too slow");
                items.fetch_add(1, Ordering::Relaxed);
            }
        }
        side => {
            let mut node = gossip::Node::new();
            println!("{}", node.listen(listen).await);
            loop {
                if let Some(message) = gossip::message(node.swarm.select_next_some().await) {
                    let (items_in, bytes) = side.message();
                    assert_eq!(message.len(), bytes);
                    items.fetch_add(items_in as u64, Ordering::Relaxed);
                }
            }
        }
    }
}
