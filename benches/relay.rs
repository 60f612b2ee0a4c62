//! How many transactions a second go from one process to another: Selkie beside raw gossipsub, in the same run.
//!
//! Selkie computes each transaction's key and identity, deduplicates, has it checked by an `Application`, delivers it there and
//! hands it to a subscriber; none may be lost. The sender is this process, the receiver a child of it.

use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use futures::{StreamExt, stream::FuturesUnordered};
use selkie::{Application, Checked, Config, Item, ItemId, Keypair, P2PNetworkManager, Transaction};

mod support;
use support::cpu_seconds;

/// Bytes of a transaction.
const SIZE: usize = 250;
/// Transactions handed over at once.
const BATCH: usize = 512;
/// How long transactions are sent.
const TIME: Duration = Duration::from_secs(3);

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let arguments: Vec<_> = std::env::args().collect();
    if let Some(place) = arguments
        .iter()
        .position(|argument| argument == "--receive")
    {
        return runtime.block_on(receive(&arguments[place + 1]));
    }
    for listen in ["/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/udp/0/quic-v1"] {
        runtime.block_on(send(listen));
    }
}

/// Counts what it is handed.
#[derive(Clone, Default)]
struct Counter(Arc<AtomicU64>);

impl Application for Counter {
    fn check_transaction(&self, transaction: &Transaction) -> Checked {
        let mut checked = Checked::accept(ItemId::sha256(&transaction.data));
        checked.fee = transaction.data.first().copied().unwrap_or(0).into();
        checked
    }

    fn deliver(&self, _: &Item) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// The child: prints its address, then at each line on its input what it has received and its CPU time.
async fn receive(listen: &str) {
    let counter = Counter::default();
    let node = node(Some(listen), counter.clone()).await;
    println!("{}", node.listeners()[0]);
    let mut events =
        node.subscribe(|event| matches!(event, selkie::NetworkEvent::ItemAccepted { .. }));
    let seen = Arc::new(AtomicU64::new(0));
    let (sum, missed) = (Arc::clone(&seen), Arc::new(AtomicU64::new(0)));
    let lost = Arc::clone(&missed);
    tokio::spawn(async move {
        while events.recv().await.is_some() {
            sum.fetch_add(1, Ordering::Relaxed);
            lost.store(events.missed(), Ordering::Relaxed);
        }
    });
    let asked = tokio::task::spawn_blocking(move || {
        for line in std::io::stdin().lines() {
            if line.is_err() {
                break;
            }
            let (count, seen) = (
                counter.0.load(Ordering::Relaxed),
                seen.load(Ordering::Relaxed),
            );
            println!(
                "{count} {seen} {} {}",
                missed.load(Ordering::Relaxed),
                cpu_seconds()
            );
            let _ = std::io::stdout().flush();
        }
    });
    let _ = asked.await;
}

async fn node(listen: Option<&str>, application: impl Application) -> P2PNetworkManager {
    let mut config = Config::default();
    config.network.listen_addresses = listen
        .map(|listen| listen.parse().expect("an address"))
        .into_iter()
        .collect();
    let node = P2PNetworkManager::with(config, Keypair::generate_ed25519(), application)
        .await
        .expect("a node");
    node.start().await.expect("it starts");
    node
}

struct Receiver {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Receiver {
    fn start(listen: &str) -> (Self, String) {
        let mut child = Command::new(std::env::current_exe().expect("it runs"))
            .args(["--receive", listen])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a child");
        let stdout = child.stdout.take().expect("piped");
        let mut lines = BufReader::new(stdout).lines();
        let address = lines.next().expect("a line").expect("text");
        (Self { child, lines }, address)
    }

    fn figures(&mut self) -> Vec<f64> {
        self.child
            .stdin
            .as_mut()
            .expect("piped")
            .write_all(b"\n")
            .expect("it listens");
        let line = self.lines.next().expect("a line").expect("text");
        line.split(' ')
            .map(|figure| figure.parse().expect("a number"))
            .collect()
    }
}

async fn send(listen: &str) {
    let (mut receiver, address) = Receiver::start(listen);
    let node = node(None, Counter::default()).await;
    node.dial(address.parse().expect("an address"))
        .await
        .expect("connected");
    let before = receiver.figures();
    let (begin, cpu) = (Instant::now(), cpu_seconds());
    let mut number = 0_u64;
    let mut batch = || -> Vec<Transaction> {
        (0..BATCH)
            .map(|_| {
                number += 1;
                let mut data = vec![0; SIZE];
                let mut state = number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
                for chunk in data.chunks_mut(8) {
                    state = (state ^ (state >> 29))
                        .wrapping_mul(0xBF58_476D_1CE4_E5B9)
                        .wrapping_add(number);
                    chunk.copy_from_slice(&state.to_le_bytes()[..chunk.len()]);
                }
                Transaction::new(data)
            })
            .collect()
    };
    let mut sends: FuturesUnordered<_> = (0..4)
        .map(|_| node.broadcast_transactions(batch()))
        .collect();
    let mut sent = 0;
    while let Some(outcome) = sends.next().await {
        sent += outcome
            .expect("there is a peer")
            .into_iter()
            .filter(Result::is_ok)
            .count();
        if begin.elapsed() < TIME {
            sends.push(node.broadcast_transactions(batch()));
        }
    }
    let submitted = begin.elapsed();
    let mut figures = receiver.figures();
    let patience = Instant::now();
    while figures[0] < sent as f64 && patience.elapsed() < Duration::from_secs(5) {
        tokio::time::sleep(Duration::from_millis(5)).await;
        figures = receiver.figures();
    }
    let took = begin.elapsed().as_secs_f64();
    println!(
        "{listen}: {sent} sent in {:.2} s, {} delivered, {} seen ({} missed) in {took:.2} s: {:.0}/s; CPU us each: sender {:.2}, receiver {:.2}",
        submitted.as_secs_f64(),
        figures[0],
        figures[1],
        figures[2],
        figures[0] / took,
        (cpu_seconds() - cpu) / sent as f64 * 1e6,
        (figures[3] - before[3]) / sent as f64 * 1e6,
    );
    node.shutdown().await;
    let _ = receiver.child.kill();
    let _ = receiver.child.wait();
}
